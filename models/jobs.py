"""Jobs, and the issues they met."""

from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import CheckConstraint, ForeignKey, Index, SmallInteger, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.metadata import Base, one_of
from schemas.issue import IssueType, Severity
from schemas.job import JobState


class Job(Base):
    """One conversion of one note, or one check of one claim. Only `app.jobs` writes these rows; all times are the database's clock.

    `attempts` counts starts. `fence` grows with every claim: work is accepted only from the holder of the newest one.
    `dispatches` counts messages sent since the last claim; `dispatched_at` is the newest of them.
    """

    __tablename__ = "jobs"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    note_id: Mapped[UUID | None] = mapped_column(ForeignKey("notes.id", ondelete="CASCADE"))
    """None: the job of a trial, whose work is no result of the note; `trial_note_id` names the note then."""
    trial_id: Mapped[UUID | None]
    """The trial that it was made for; it stays when its work becomes the note's result."""
    trial_note_id: Mapped[UUID | None] = mapped_column(ForeignKey("notes.id", ondelete="CASCADE"))
    receipt_claim_id: Mapped[UUID | None] = mapped_column(ForeignKey("receipt_claims.id", ondelete="CASCADE"))
    """The claim of a file that it checks; there is no note then. A claim has one job at a time, and no former ones."""
    batch_id: Mapped[UUID | None] = mapped_column(index=True)
    priority: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    """The lower goes first: `app.jobs.INTERACTIVE`, `app.jobs.BATCH`."""
    state: Mapped[str] = mapped_column(server_default=JobState.QUEUED)
    reason: Mapped[str | None]
    """Why it failed, was queued again or was cancelled; free of patient text."""
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    fence: Mapped[int] = mapped_column(server_default=text("0"))
    dispatches: Mapped[int] = mapped_column(server_default=text("0"))
    worker: Mapped[str | None]
    queued_at: Mapped[datetime] = mapped_column(server_default=func.now())
    run_after: Mapped[datetime] = mapped_column(server_default=func.now())
    """Not dispatched before this instant (pause before another attempt)."""
    dispatched_at: Mapped[datetime | None]
    lease_until: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        one_of("state", JobState),
        CheckConstraint("attempts >= 0 AND fence >= 0 AND dispatches >= 0", name="not_negative"),
        CheckConstraint(
            "state <> 'running' OR (lease_until IS NOT NULL AND worker IS NOT NULL)", name="running_has_lease"
        ),
        CheckConstraint("(state IN ('done', 'failed', 'cancelled')) = (finished_at IS NOT NULL)", name="finished"),
        # A note is converted by one job at a time; a new job needs the old one to have ended.
        Index("uq_jobs_open_note", "note_id", unique=True, postgresql_where=text("state IN ('queued', 'running')")),
        Index("ix_jobs_note_id", "note_id", "queued_at"),
        Index("ix_jobs_queued", "priority", "queued_at", postgresql_where=text("state = 'queued'")),
        CheckConstraint("num_nonnulls(note_id, trial_note_id, receipt_claim_id) = 1", name="one_subject"),
        CheckConstraint("trial_note_id IS NULL OR trial_id IS NOT NULL", name="trial"),
        Index("ix_jobs_trial_note_id", "trial_note_id", postgresql_where=text("trial_note_id IS NOT NULL")),
        Index("ix_jobs_trial_id", "trial_id", "state", postgresql_where=text("trial_id IS NOT NULL")),
        Index(
            "uq_jobs_receipt_claim_id",
            "receipt_claim_id",
            unique=True,
            postgresql_where=text("receipt_claim_id IS NOT NULL"),
        ),
        Index("ix_jobs_lease", "lease_until", postgresql_where=text("state = 'running'")),
        Index("ix_jobs_finished_at", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
    )


class JobIssue(Base):
    """A stored `schemas.issue.Issue`. `start`, `end`: half-open code-point offsets into the note, or both null."""

    __tablename__ = "issues"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    ordinal: Mapped[int]
    severity: Mapped[str]
    code: Mapped[str]
    text: Mapped[str]
    start: Mapped[int | None]
    end: Mapped[int | None]

    __table_args__ = (one_of("severity", Severity), one_of("code", IssueType))
