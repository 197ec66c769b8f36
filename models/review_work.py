"""The work of reviewing: what waits and who has it, what was released of it and withdrawn, and what a second reader says."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import CheckConstraint, Double, ForeignKey, Index, Text, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.metadata import Base, one_of
from models.reviews import append_only
from schemas.review import ReviewState, Verdict
from schemas.statement import Kind


class ReviewWork(Base):
    """The line of a note in the queue, made anew with every decision (`app.review_work`): all that filters and order need.

    `calm` and `likelihood` are the order of risk: no drug allergy waits; the lowest probability of what waits, 0 where one is
    not known. `kinds`: of what waits, `drug-allergy` beside `allergy`. Department, type, instant and batch never change.
    """

    __tablename__ = "review_work"

    note_id: Mapped[UUID] = mapped_column(ForeignKey("notes.id", ondelete="CASCADE"), primary_key=True)
    run_id: Mapped[UUID] = mapped_column(ForeignKey("note_reviews.run_id", ondelete="CASCADE"), unique=True)
    state: Mapped[str]
    open: Mapped[int]
    drug_allergies_open: Mapped[int]
    lowest_probability: Mapped[float | None] = mapped_column(Double)
    calm: Mapped[bool]
    likelihood: Mapped[float] = mapped_column(Double)
    kinds: Mapped[list[str]] = mapped_column(ARRAY(Text))
    second_reader: Mapped[bool]
    """Has it been chosen for a second reader?"""
    department: Mapped[str]
    document_type: Mapped[str]
    received_at: Mapped[datetime]
    batch_id: Mapped[UUID | None] = mapped_column(index=True)
    assigned_to: Mapped[str | None]
    assigned_until: Mapped[datetime | None]
    """Nobody else may decide before; then whoever takes it."""

    __table_args__ = (
        one_of("state", ReviewState),
        CheckConstraint("open >= drug_allergies_open AND drug_allergies_open >= 0", name="open"),
        CheckConstraint("(assigned_to IS NULL) = (assigned_until IS NULL) AND assigned_to <> ''", name="assigned"),
        Index("ix_review_work_risk", "state", "calm", "likelihood", "received_at", "note_id"),
        Index("ix_review_work_assigned_to", "assigned_to", postgresql_where=text("assigned_to IS NOT NULL")),
    )


class Release(Base):
    """A release of a result, in force until it is withdrawn. Its messages are those of `models.Ssmix2Message` that name it."""

    __tablename__ = "releases"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    run_id: Mapped[UUID] = mapped_column(ForeignKey("note_reviews.run_id", ondelete="CASCADE"), index=True)
    note_id: Mapped[UUID] = mapped_column(ForeignKey("notes.id", ondelete="CASCADE"), index=True)
    released_at: Mapped[datetime] = mapped_column(server_default=func.now())
    released_by: Mapped[str]
    withdrawn_at: Mapped[datetime | None]
    withdrawn_by: Mapped[str | None]
    reason: Mapped[str | None]
    """Why it was withdrawn, in the person's words."""

    __table_args__ = (
        CheckConstraint("released_by <> ''", name="released_by"),
        CheckConstraint("num_nulls(withdrawn_at, withdrawn_by, reason) IN (0, 3) AND withdrawn_by <> ''", name="withdrawn"),
        Index("uq_releases_in_force", "run_id", unique=True, postgresql_where=text("withdrawn_at IS NULL")),
    )


class ReleasedRecord(Base):
    """One record of a release (`schemas.record.Record`, whole), in the order of the note, and the version that tells it."""

    __tablename__ = "released_records"

    release_id: Mapped[UUID] = mapped_column(ForeignKey("releases.id", ondelete="CASCADE"), primary_key=True)
    ordinal: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    review_id: Mapped[UUID] = mapped_column(ForeignKey("reviews.id", ondelete="CASCADE"), index=True)
    record: Mapped[dict[str, Any]]
    resource_type: Mapped[str]
    resource_id: Mapped[str]
    resource_version: Mapped[int]


class SecondReading(Base):
    """A result that a second person judges without seeing what the first one says. `compared_at`: both are done, and what
    they said lies side by side (`SecondComparison`)."""

    __tablename__ = "second_readings"

    run_id: Mapped[UUID] = mapped_column(ForeignKey("note_reviews.run_id", ondelete="CASCADE"), primary_key=True)
    note_id: Mapped[UUID] = mapped_column(ForeignKey("notes.id", ondelete="CASCADE"), index=True)
    chosen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    chosen_by: Mapped[str]
    """`hyojun`: it is of the sample."""
    reader: Mapped[str | None]
    begun_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    compared_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("chosen_by <> '' AND reader <> ''", name="not_empty"),
        CheckConstraint("(reader IS NULL) = (begun_at IS NULL)", name="begun"),
        CheckConstraint("finished_at IS NULL OR reader IS NOT NULL", name="finished"),
        CheckConstraint("compared_at IS NULL OR finished_at IS NOT NULL", name="compared"),
    )


class SecondDecision(Base):
    """A judgement of the second reader; the newest (`version`) of an `item` counts. `item`: the id of the review's item, or, of
    what he added, one of its own (`review_id` is null then)."""

    __tablename__ = "second_decisions"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    run_id: Mapped[UUID] = mapped_column(ForeignKey("second_readings.run_id", ondelete="CASCADE"), index=True)
    item: Mapped[UUID]
    review_id: Mapped[UUID | None] = mapped_column(ForeignKey("reviews.id", ondelete="CASCADE"), index=True)
    version: Mapped[int]
    verdict: Mapped[str]
    statement: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    coding: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    restores: Mapped[int | None]
    spent_ms: Mapped[int | None]
    decided_by: Mapped[str]
    decided_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())

    __table_args__ = (
        UniqueConstraint("item", "version"),
        one_of("verdict", Verdict),
        CheckConstraint("version >= 1 AND (verdict <> 'add' OR version = 1)", name="version"),
        CheckConstraint("(statement IS NOT NULL) = (verdict IN ('amend', 'add'))", name="statement"),
        CheckConstraint("coding IS NULL OR statement IS NOT NULL", name="coding"),
        CheckConstraint(
            "(restores IS NOT NULL) = (verdict = 'undo') AND (restores IS NULL OR restores BETWEEN 0 AND version - 2)",
            name="restores",
        ),
        CheckConstraint("spent_ms BETWEEN 0 AND 3600000", name="spent_ms"),
        CheckConstraint("decided_by <> ''", name="decided_by"),
    )


class SecondComparison(Base):
    """What two readers said of one item when both were done. `first`, `second`: the verdicts; None: he said nothing of it, since
    the other one added it. What differs is settled once, by a third person or by both together (`agreed`)."""

    __tablename__ = "second_comparisons"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    run_id: Mapped[UUID] = mapped_column(ForeignKey("second_readings.run_id", ondelete="CASCADE"), index=True)
    kind: Mapped[str]
    review_id: Mapped[UUID | None] = mapped_column(ForeignKey("reviews.id", ondelete="CASCADE"), index=True)
    second_item: Mapped[UUID | None]
    """What the second reader added."""
    first: Mapped[str | None]
    second: Mapped[str | None]
    same: Mapped[bool]
    settled_at: Mapped[datetime | None]
    settled_by: Mapped[str | None]
    settled_as: Mapped[str | None]
    """`first`, `second`, or `other`: neither was right."""
    agreed: Mapped[bool | None]

    __table_args__ = (
        one_of("kind", Kind),
        CheckConstraint("num_nonnulls(review_id, second_item) = 1", name="item"),
        CheckConstraint("num_nonnulls(first, second) >= 1", name="verdicts"),
        CheckConstraint(
            "num_nulls(settled_at, settled_by, settled_as, agreed) IN (0, 4) AND NOT (same AND settled_at IS NOT NULL)",
            name="settled",
        ),
        CheckConstraint("settled_as IN ('first', 'second', 'other')", name="settled_as"),
    )


append_only(Release, marks=True)
append_only(ReleasedRecord)
append_only(SecondReading, marks=True)
append_only(SecondDecision)
append_only(SecondComparison, marks=True)
