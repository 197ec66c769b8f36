"""Claim files (レセプト) that came in, what was found in each claim, what people made of it, and imported tables.

Lines of a claim file count from 1; `byte_start` and `byte_end` are half-open offsets into the stored file.
"""

from datetime import date, datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, UniqueConstraint, false, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.metadata import Base, one_of
from schemas.receipt import ItemState


class ReceiptTable(Base):
    """A table that an operator imported. The active one of a kind stands in place of the starter's. Only
    `app.receipt_tables` writes these rows."""

    __tablename__ = "receipt_tables"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    kind: Mapped[str]
    edition: Mapped[str | None]
    name: Mapped[str]
    """Of the file that was imported."""
    sha256: Mapped[str]
    """Of `content`."""
    rows: Mapped[int]
    whole: Mapped[bool]
    """Is it a whole master, so that what it lacks does not exist?"""
    content: Mapped[str] = mapped_column(deferred=True)
    """TSV in the layout of the starter's table of the kind."""
    active: Mapped[bool] = mapped_column(server_default=false())
    imported_at: Mapped[datetime] = mapped_column(server_default=func.now())
    imported_by: Mapped[str]

    __table_args__ = (
        UniqueConstraint("kind", "sha256"),
        CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name="sha256"),
        CheckConstraint("rows >= 0 AND kind <> '' AND imported_by <> ''", name="not_empty"),
        Index("uq_receipt_tables_active", "kind", unique=True, postgresql_where=text("active")),
    )


class ReceiptFile(Base):
    """A claim file (UKE) as it came. The same bytes are one file."""

    __tablename__ = "receipt_files"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    name: Mapped[str]
    sha256: Mapped[str]
    content: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    """Stored uncompressed (STORAGE EXTERNAL), so that one claim's bytes are read without the others'."""
    institution: Mapped[str | None]
    """医療機関コード of the record IR."""
    claims: Mapped[int] = mapped_column(server_default=text("0"))
    faults: Mapped[list[dict[str, Any]]] = mapped_column(server_default=text("'[]'::jsonb"))
    """`app.receipts.uke.Fault` of lines that belong to no claim."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)
    created_by: Mapped[str]

    __table_args__ = (
        UniqueConstraint("sha256"),
        CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name="sha256"),
        CheckConstraint("claims >= 0 AND created_by <> ''", name="not_empty"),
    )


class ReceiptClaim(Base):
    """One claim of a file. `ordinal` counts from 0; `month`: its first day. `tables`: `Tables.version` that `findings` come
    from. `checked_at`: when a worker last ended with it; None: only the tables have looked at it."""

    __tablename__ = "receipt_claims"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    file_id: Mapped[UUID] = mapped_column(ForeignKey("receipt_files.id", ondelete="CASCADE"))
    ordinal: Mapped[int]
    line: Mapped[int]
    last_line: Mapped[int]
    byte_start: Mapped[int]
    byte_end: Mapped[int]
    number: Mapped[int | None]
    chart_number: Mapped[str | None]
    month: Mapped[date | None]
    inpatient: Mapped[bool]
    faults: Mapped[list[dict[str, Any]]]
    """`app.receipts.uke.Fault`."""
    tables: Mapped[str]
    findings: Mapped[list[dict[str, Any]]]
    """`schemas.receipt.Finding`, in the order of the lines."""
    note_ids: Mapped[list[str]] = mapped_column(JSONB)
    """Notes of the same patient and month, the oldest first."""
    run: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """What the checker tells of the model's part; None: it had none."""
    issues: Mapped[list[dict[str, Any]]] = mapped_column(server_default=text("'[]'::jsonb"))
    """`schemas.issue.Issue`."""
    checked_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("file_id", "ordinal"),
        CheckConstraint(
            "ordinal >= 0 AND line >= 1 AND last_line >= line AND byte_start >= 0 AND byte_end > byte_start", name="place"
        ),
        Index("ix_receipt_claims_note_ids", "note_ids", postgresql_using="gin"),
    )


class ReceiptItem(Base):
    """One thing to be judged: what the tables found, what the model advises, or both where the advice cites the finding.

    `version` counts decisions and undone ones; the next has to name it. `edited`: `schemas.receipt.Edited`.
    """

    __tablename__ = "receipt_items"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    claim_id: Mapped[UUID] = mapped_column(ForeignKey("receipt_claims.id", ondelete="CASCADE"))
    ordinal: Mapped[int]
    line: Mapped[int]
    finding: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """`schemas.receipt.Finding`."""
    advice: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """`schemas.receipt.Advice`."""
    state: Mapped[str] = mapped_column(server_default=ItemState.OPEN)
    edited: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    decided_by: Mapped[str | None]
    decided_at: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(server_default=text("0"))

    __table_args__ = (
        one_of("state", ItemState),
        CheckConstraint("num_nonnulls(finding, advice) >= 1", name="said"),
        CheckConstraint("(state = 'edited') = (edited IS NOT NULL)", name="edited"),
        CheckConstraint(
            "(state <> 'open') = (decided_by IS NOT NULL) AND (decided_by IS NULL) = (decided_at IS NULL) AND decided_by <> ''",
            name="decided",
        ),
        CheckConstraint("ordinal >= 0 AND version >= 0 AND line >= 1", name="not_negative"),
        Index(None, "claim_id", "line", "ordinal"),
        Index("ix_receipt_items_open", "claim_id", postgresql_where=text("state = 'open'")),
    )
