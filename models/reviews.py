"""People's judgement of what a job read in a note, and whose notes are no training data.

Nothing here is changed once it is written but the marks of a `NoteReview` and the end of an opt-out: a judgement that is
changed is another `Decision`. The database refuses anything else (`APPEND_ONLY`).
"""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import (
    DDL,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    UniqueConstraint,
    event,
    false,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.audit import AuditEvent
from models.metadata import Base, one_of
from schemas.review import Verdict


class NoteReview(Base):
    """The review of one result (`run_id`) of a note. The one that is not superseded is the current one."""

    __tablename__ = "note_reviews"

    run_id: Mapped[UUID] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    note_id: Mapped[UUID] = mapped_column(ForeignKey("notes.id", ondelete="CASCADE"), index=True)
    begun_at: Mapped[datetime] = mapped_column(server_default=func.now())
    superseded_at: Mapped[datetime | None]
    """A later conversion of the note has its own review; what was decided here stays and counts no more."""
    released_at: Mapped[datetime | None]
    released_by: Mapped[str | None]

    __table_args__ = (
        CheckConstraint("(released_at IS NULL) = (released_by IS NULL) AND released_by <> ''", name="released"),
        Index("uq_note_reviews_current", "note_id", unique=True, postgresql_where=text("superseded_at IS NULL")),
    )


class Review(Base):
    """One thing to be judged: a stored statement with the resource that was made of it, if one was; or, without a
    `statement_id`, what a person added. It is undecided while it has no `Decision`.

    `explicit`: a wrong word on it can kill (drug allergies), so no rule may accept it in a person's name.
    """

    __tablename__ = "reviews"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    run_id: Mapped[UUID] = mapped_column(ForeignKey("note_reviews.run_id", ondelete="CASCADE"), index=True)
    statement_id: Mapped[UUID | None] = mapped_column(ForeignKey("statements.id", ondelete="CASCADE"), unique=True)
    resource_type: Mapped[str | None]
    resource_id: Mapped[str | None]
    resource_version: Mapped[int | None]
    explicit: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        ForeignKeyConstraint(
            ["resource_type", "resource_id", "resource_version"],
            ["resources.type", "resources.id", "resources.version"],
            ondelete="CASCADE",
        ),
        # A resource has one item; the index also serves the foreign key.
        UniqueConstraint("resource_type", "resource_id", "resource_version"),
        UniqueConstraint("id", "explicit"),
        CheckConstraint(
            "num_nulls(resource_type, resource_id, resource_version) IN (0, 3)"
            " AND (statement_id IS NOT NULL OR resource_id IS NULL)",
            name="resource",
        ),
    )


class Decision(Base):
    """One judgement of one item; the newest (`version`, from 1) counts.

    `statement`: what is true instead, or was missed (`schemas.statement.Statement`, spans in the stored note).
    `automatic`: a rule accepted it in the person's name; only a first decision can be so, and never on an `explicit` item.
    `restores`: of an undo alone, the version that counts again; 0: none does.
    """

    __tablename__ = "decisions"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    review_id: Mapped[UUID]
    explicit: Mapped[bool]
    """Of the item: the foreign key holds both."""
    version: Mapped[int]
    verdict: Mapped[str]
    statement: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    automatic: Mapped[bool] = mapped_column(server_default=false())
    reason: Mapped[str | None]
    decided_by: Mapped[str]
    decided_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    restores: Mapped[int | None]
    coding: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """The code that the person chose for the statement's name (`schemas.coding.Coding`, of a table that was loaded)."""
    spent_ms: Mapped[int | None]
    """For so long the person looked at the item, as the page tells."""

    __table_args__ = (
        ForeignKeyConstraint(["review_id", "explicit"], ["reviews.id", "reviews.explicit"], ondelete="CASCADE"),
        UniqueConstraint("review_id", "version"),
        one_of("verdict", Verdict),
        CheckConstraint("version >= 1 AND (verdict <> 'add' OR version = 1)", name="version"),
        CheckConstraint("(statement IS NOT NULL) = (verdict IN ('amend', 'add'))", name="statement"),
        CheckConstraint("NOT automatic OR (verdict = 'accept' AND version = 1 AND NOT explicit)", name="automatic"),
        CheckConstraint("decided_by <> '' AND reason <> ''", name="not_empty"),
        CheckConstraint(
            "(restores IS NOT NULL) = (verdict = 'undo') AND (restores IS NULL OR restores BETWEEN 0 AND version - 2)",
            name="restores",
        ),
        CheckConstraint("coding IS NULL OR statement IS NOT NULL", name="coding"),
        CheckConstraint("spent_ms BETWEEN 0 AND 3600000", name="spent_ms"),
        Index(None, "decided_at", postgresql_using="brin"),
    )


class TrainingOptOut(Base):
    """A patient, or one note, that nothing may be trained on; by the sender's own ids, so that it holds for notes that are
    yet to come, and for corrections of a note. In force until `ended_at`."""

    __tablename__ = "training_opt_outs"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    source: Mapped[str]
    patient_id: Mapped[str | None]
    external_id: Mapped[str | None]
    """The sender's id of the note."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    created_by: Mapped[str]
    ended_at: Mapped[datetime | None]
    ended_by: Mapped[str | None]

    __table_args__ = (
        CheckConstraint("num_nulls(patient_id, external_id) = 1", name="one_subject"),
        CheckConstraint("created_by <> ''", name="created_by"),
        CheckConstraint("(ended_at IS NULL) = (ended_by IS NULL) AND ended_by <> ''", name="ended"),
        Index(
            "uq_training_opt_outs_patient",
            "source",
            "patient_id",
            unique=True,
            postgresql_where=text("ended_at IS NULL"),
        ),
        Index(
            "uq_training_opt_outs_note", "source", "external_id", unique=True, postgresql_where=text("ended_at IS NULL")
        ),
    )


APPEND_ONLY = """
CREATE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- What a foreign key deletes with the note itself runs inside that key's own trigger.
    IF TG_OP = 'DELETE' AND TG_TABLE_NAME <> 'audit_events' AND pg_trigger_depth() > 1 THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
END $$;
"""
"""The triggers call it: no row of their tables is changed, and none is deleted but with its note."""

_TRIGGERS = """
CREATE TRIGGER append_only BEFORE {changes} ON {table} FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION append_only();
"""

event.listen(Base.metadata, "before_create", DDL(APPEND_ONLY.replace("%", "%%")))  # type: ignore[no-untyped-call]


def append_only(model: type[Base], *, marks: bool = False) -> None:
    """No row of the table is changed or deleted, but with its note. `marks`: some of its columns are written later."""
    changes = "DELETE" if marks else "UPDATE OR DELETE"
    triggers = DDL(_TRIGGERS.format(changes=changes, table=model.__tablename__))  # type: ignore[no-untyped-call]
    event.listen(model.__table__, "after_create", triggers)


append_only(NoteReview, marks=True)  # to delete it would delete the decisions
append_only(Review)
append_only(Decision)
append_only(AuditEvent)
