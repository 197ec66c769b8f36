"""What it takes to run a note again: the tables of a time, and trials of another model beside the results that
count."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.metadata import Base


class TerminologyVersion(Base):
    """Which releases a `runs.terminology` stands for, written down by a worker that loaded them.

    `releases`: id, system and version of each. `local_at`: the local codes of this moment belong to it too.
    """

    __tablename__ = "terminology_versions"

    version: Mapped[str] = mapped_column(primary_key=True)
    releases: Mapped[list[dict[str, Any]]]
    local_at: Mapped[datetime]


class Trial(Base):
    """Stored notes converted anew beside their results (`hyojun reprocess`). `chosen`: the condition that chose them,
    as it was written; it names no patient."""

    __tablename__ = "trials"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    chosen: Mapped[str]
    notes: Mapped[int] = mapped_column(server_default=text("0"))
    created_by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    discarded_at: Mapped[datetime | None]

    __table_args__ = (CheckConstraint("chosen <> '' AND created_by <> ''", name="not_empty"),)


class TrialNote(Base):
    """One note of a trial: its job, and what that made of it. `former_run_id`: the note's result when the trial's was
    made.

    `kept`: the conversion as `app.conversions.kept` gives it; None before the job is done, and once it was applied.
    `differences`: what it says otherwise than the former result (`app.comparison`); `counts`: of the statements, by
    kind.
    """

    __tablename__ = "trial_notes"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    trial_id: Mapped[UUID] = mapped_column(ForeignKey("trials.id", ondelete="CASCADE"))
    note_id: Mapped[UUID] = mapped_column(ForeignKey("notes.id", ondelete="CASCADE"), index=True)
    former_run_id: Mapped[UUID]
    kept: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True), deferred=True)
    output_sha256: Mapped[str | None]
    differences: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB(none_as_null=True))
    counts: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    kept_at: Mapped[datetime | None]
    applied_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("output_sha256 ~ '^[0-9a-f]{64}$'", name="output_sha256"),
        CheckConstraint("num_nulls(output_sha256, differences, counts, kept_at) IN (0, 4)", name="whole"),
        CheckConstraint("kept IS NULL OR kept_at IS NOT NULL", name="kept"),
        Index(None, "trial_id", "note_id", unique=True),
    )
