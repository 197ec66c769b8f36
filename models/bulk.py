"""What a client asked for and fetches later: exports, and notes sent to be answered at once."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import CheckConstraint, ForeignKey, Index, false, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.metadata import Base, one_of


class ExportState(StrEnum):
    """`deleted`: by its client, or it ended; its rows go with the next sweep."""

    ACCEPTED = "accepted"
    DONE = "done"
    FAILED = "failed"
    DELETED = "deleted"


class Export(Base):
    """A bulk export (FHIR Bulk Data Access 2.0.0). Only `app.bulk_export` writes these rows.

    Who prepares it holds an advisory lock, which falls with his connection: there is no lease to run out.
    """

    __tablename__ = "exports"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    requested_by: Mapped[str]
    """`Principal.id`; nobody else is shown it."""
    principal: Mapped[dict[str, Any]]
    """`schemas.access.Principal` at the time of the request: what he may see."""
    url: Mapped[str]
    """The request as received; the manifest repeats it."""
    selection: Mapped[dict[str, Any]]
    """`app.bulk_export.Selection`."""
    state: Mapped[str] = mapped_column(server_default=ExportState.ACCEPTED)
    reason: Mapped[str | None]
    """Why it failed; free of patient text."""
    transaction_at: Mapped[datetime | None]
    """`transactionTime`: everything that was committed before it is in the export."""
    files: Mapped[list[dict[str, Any]]] = mapped_column(server_default=text("'[]'::jsonb"))
    """`app.bulk_export.ExportFile`, in the manifest's order."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]
    expires_at: Mapped[datetime]

    __table_args__ = (
        one_of("state", ExportState),
        CheckConstraint("state <> 'done' OR (transaction_at IS NOT NULL AND finished_at IS NOT NULL)", name="done"),
        Index(None, "requested_by"),
        Index(None, "expires_at"),
    )


class ExportEntry(Base):
    """One line of an export: which version of which resource. The version itself stays in `resources`."""

    __tablename__ = "export_entries"

    export_id: Mapped[UUID] = mapped_column(ForeignKey("exports.id", ondelete="CASCADE"), primary_key=True)
    deleted: Mapped[bool] = mapped_column(primary_key=True, server_default=false())
    """True: the version is a deletion."""
    type: Mapped[str] = mapped_column(primary_key=True)
    ordinal: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """From 0, within `deleted` and `type`."""
    id: Mapped[str]
    version: Mapped[int]
    draft: Mapped[bool] = mapped_column(server_default=false())
    """No person had released it then."""


class StandardizeRequest(Base):
    """A note that a client sent to DocumentReference/$standardize: who may ask for the job's result, and until when."""

    __tablename__ = "standardize_requests"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    requested_by: Mapped[str]
    queued: Mapped[bool] = mapped_column(server_default=false())
    """This request queued the job; of another's job it cannot cancel the work."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime] = mapped_column(index=True)
