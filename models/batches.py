"""Batches: many notes sent as one file, the file while it is read, and what became of each note."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import CheckConstraint, Double, ForeignKey, Index, LargeBinary, false, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.metadata import Base, one_of
from schemas.batch import BatchFormat, BatchState, Intake, ItemState


class Batch(Base):
    """One file of notes. Only `app.batch_runs` and `app.batch_feed` write these rows; all times are the database's clock.

    The counters are moved in the transaction that moves what they count, so that nobody has to count items.
    `added` + `corrected` + `known` + `refused` are the items read; `done` + `failed` + `cancelled` those that ended.
    """

    __tablename__ = "batches"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    name: Mapped[str]
    """What the sender calls it; ids and file names, no patient text."""
    source: Mapped[str]
    """The sending system of all its notes, as `Note.source`."""
    format: Mapped[str]
    defaults: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    """Keys of a note for entries that do not state them."""
    rate: Mapped[str | None]
    """`schemas.batch.Rate` as written; None: as fast as it goes."""
    created_by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    state: Mapped[str] = mapped_column(server_default=BatchState.RECEIVING)
    reason: Mapped[str | None]
    """Why its input could not be read to the end, or was left; free of patient text."""
    closed: Mapped[bool] = mapped_column(server_default=false())
    """Is none of its jobs to be claimed now? Paused, or an hour at which its rate is nothing."""
    bytes: Mapped[int] = mapped_column(server_default=text("0"))
    sha256: Mapped[str | None]
    """Of the input; None until it is whole."""
    total: Mapped[int | None]
    """Items of the input as far as that is known; blank lines may be among them."""
    position: Mapped[int] = mapped_column(server_default=text("0"))
    """How much of the input is read: bytes of `ndjson`, `csv` and `prepared`, else entries. Where the reading goes on."""
    line: Mapped[int] = mapped_column(server_default=text("0"))
    """Lines before `position`."""
    items: Mapped[int] = mapped_column(server_default=text("0"))
    exhausted: Mapped[bool] = mapped_column(server_default=false())
    """Is the input read to its end? Then it is no longer stored."""
    added: Mapped[int] = mapped_column(server_default=text("0"))
    corrected: Mapped[int] = mapped_column(server_default=text("0"))
    known: Mapped[int] = mapped_column(server_default=text("0"))
    refused: Mapped[int] = mapped_column(server_default=text("0"))
    done: Mapped[int] = mapped_column(server_default=text("0"))
    failed: Mapped[int] = mapped_column(server_default=text("0"))
    cancelled: Mapped[int] = mapped_column(server_default=text("0"))
    next_at: Mapped[datetime | None]
    """With a rate: before then no further note is queued."""
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        one_of("format", BatchFormat),
        one_of("state", BatchState),
        CheckConstraint("name <> '' AND source <> '' AND created_by <> ''", name="not_empty"),
        CheckConstraint("sha256 ~ '^[0-9a-f]{64}$' AND (sha256 IS NOT NULL OR state IN ('receiving', 'cancelled'))",
                        name="sha256"),
        CheckConstraint("items = added + corrected + known + refused", name="items"),
        CheckConstraint("done >= 0 AND failed >= 0 AND cancelled >= 0", name="not_negative"),
        CheckConstraint("(state IN ('done', 'failed', 'cancelled')) = (finished_at IS NOT NULL)", name="finished"),
        CheckConstraint("state <> 'paused' OR closed", name="paused_is_closed"),
        Index(None, "created_at"),
        Index("ix_batches_open", "created_at", postgresql_where=text("state IN ('receiving', 'running', 'paused')")),
        Index("ix_batches_closed", "id", postgresql_where=text("closed")),
    )  # fmt: skip


class BatchChunk(Base):
    """A part of a batch's input, of the same length for all but the last; gone once the input is read."""

    __tablename__ = "batch_chunks"

    batch_id: Mapped[UUID] = mapped_column(ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """From 0."""
    content: Mapped[bytes] = mapped_column(LargeBinary)


class BatchItem(Base):
    """One entry of a batch's input, and how it ended. `position` counts from 1 in the order of the input.

    `place`: where it stands there (line 12; the path of an entry with what could be a name masked). The figures are those of
    the job, taken when it ended. `uncoded`: statements without any code. `held`: statements that wait for review instead of
    being in a resource.
    """

    __tablename__ = "batch_items"

    batch_id: Mapped[UUID] = mapped_column(ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    place: Mapped[str]
    external_id: Mapped[str | None]
    note_id: Mapped[UUID | None] = mapped_column(ForeignKey("notes.id", ondelete="CASCADE"), index=True)
    job_id: Mapped[UUID | None]
    intake: Mapped[str]
    state: Mapped[str]
    error: Mapped[str | None]
    """Why it was refused, failed or was cancelled; free of patient text."""
    ended_at: Mapped[datetime | None]
    seconds: Mapped[float | None] = mapped_column(Double)
    """From the start of its last attempt to its end."""
    statements: Mapped[int | None]
    resources: Mapped[int | None]
    issues: Mapped[int | None]
    uncoded: Mapped[int | None]
    held: Mapped[int | None]

    __table_args__ = (
        one_of("intake", Intake),
        one_of("state", ItemState),
        CheckConstraint("position >= 1", name="position"),
        CheckConstraint("(intake = 'refused') = (state = 'refused') AND (job_id IS NULL) = (intake = 'refused')",
                        name="refused"),
        CheckConstraint("(state IN ('open', 'retry')) = (ended_at IS NULL)", name="ended"),
        Index("ix_batch_items_open", "batch_id", "state", "position", postgresql_where=text("state IN ('open', 'retry')")),
        Index("ix_batch_items_errors", "batch_id", "position",
              postgresql_where=text("state IN ('failed', 'cancelled', 'refused')")),
    )  # fmt: skip


class BatchMinute(Base):
    """How many notes of a batch ended in a minute: its speed, without looking at its items."""

    __tablename__ = "batch_minutes"

    batch_id: Mapped[UUID] = mapped_column(ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True)
    minute: Mapped[datetime] = mapped_column(primary_key=True)
    """Its beginning."""
    ended: Mapped[int]
