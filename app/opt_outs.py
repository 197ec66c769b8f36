"""Whose notes no model may be trained on: patients and single notes, by the sender's own ids.

An opt-out holds for notes that are yet to come and for corrections of a note. It can be ended; that it was in force stays
written. It keeps notes out of `hyojun export sft`; files that were written before, and models trained on them, are beyond it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session

from app.audit import person, record
from app.errors import InvalidInput, NotFound
from models import Note, TrainingOptOut
from schemas.review import AuditAction


@dataclass(frozen=True)
class Subject:
    """A patient or a note of the sending system `source`; exactly one of `patient_id` and `note` (the sender's note id)."""

    source: str
    patient_id: str | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        if (self.patient_id is None) == (self.note is None):
            raise InvalidInput("an opt-out is of a patient or of a note")
        if any(
            value is not None and (not value or "\x00" in value) for value in (self.source, self.patient_id, self.note)
        ):
            raise InvalidInput("an opt-out names a sending system and an id")


@dataclass(frozen=True)
class OptOut:
    """One in force."""

    subject: Subject
    created_at: datetime
    created_by: str


def opt_out(session: Session, subject: Subject, *, by: str) -> bool:
    """From now on nothing of `subject` is exported for training. False: it was so before. Raises: InvalidInput."""
    named = person(by)
    values = {"id": uuid4(), "source": subject.source, "patient_id": subject.patient_id, "external_id": subject.note}
    made = session.scalar(
        pg_insert(TrainingOptOut)
        .values(**values, created_by=named)
        .on_conflict_do_nothing()
        .returning(TrainingOptOut.id)
    )
    if made is not None:
        record(session, AuditAction.OPT_OUT, by=named, subject=made, after=_state(made, subject))
    return made is not None


def opt_in(session: Session, subject: Subject, *, by: str) -> None:
    """Ends the opt-out of `subject`. Raises: NotFound where none is in force; InvalidInput."""
    named = person(by)
    ended = session.scalar(
        update(TrainingOptOut)
        .where(_is(subject), TrainingOptOut.ended_at.is_(None))
        .values(ended_at=func.now(), ended_by=named)
        .returning(TrainingOptOut.id)
    )
    if ended is None:
        raise NotFound("no such opt-out is in force")
    record(session, AuditAction.OPT_IN, by=named, subject=ended, before=_state(ended, subject))


def opt_outs(session: Session) -> list[OptOut]:
    """All in force, oldest first."""
    rows = session.scalars(
        select(TrainingOptOut)
        .where(TrainingOptOut.ended_at.is_(None))
        .order_by(TrainingOptOut.created_at, TrainingOptOut.id)
    )
    return [OptOut(Subject(r.source, r.patient_id, r.external_id), r.created_at, r.created_by) for r in rows]


def covers_note() -> ColumnElement[bool]:
    """The condition on a query of `Note`: an opt-out in force covers it."""
    return (
        select(TrainingOptOut.id)
        .where(
            TrainingOptOut.ended_at.is_(None),
            TrainingOptOut.source == Note.source,
            or_(TrainingOptOut.patient_id == Note.patient_id, TrainingOptOut.external_id == Note.external_id),
        )
        .correlate(Note)
        .exists()
    )


def sources_of(session: Session, *, patient_id: str | None = None, note: str | None = None) -> Sequence[str]:
    """The systems that sent notes of this patient, or this note."""
    known = Note.patient_id == patient_id if patient_id is not None else Note.external_id == note
    return session.scalars(select(Note.source).where(known).distinct().order_by(Note.source)).all()


def _is(subject: Subject) -> ColumnElement[bool]:
    own = (
        TrainingOptOut.patient_id == subject.patient_id
        if subject.patient_id is not None
        else TrainingOptOut.external_id == subject.note
    )
    return (TrainingOptOut.source == subject.source) & own


def _state(id_: UUID, subject: Subject) -> dict[str, Any]:
    return {"id": str(id_), "source": subject.source, "patient": subject.patient_id, "note": subject.note}
