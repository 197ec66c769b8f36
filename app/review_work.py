"""The line of each note in the queue of reviews, kept in step with the decisions: in the transaction of each of them."""

from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.review_items import CurrentReview
from models import Job, Note, ReviewWork, Run, SecondComparison, SecondReading
from schemas.review import ReviewState

DRUG_ALLERGY = "drug-allergy"
"""Beside the kinds: an allergy that needs a person's own decision."""


def renew(session: Session, current: CurrentReview) -> None:
    """Makes the line say what the review says now. Whoever has the note keeps it."""
    waiting = current.undecided
    grave = sum(item.explicit for item in waiting)
    probabilities = [item.read.probability if item.read else None for item in waiting]
    known = [probability for probability in probabilities if probability is not None]
    kinds = {item.statement.kind.value for item in waiting} | ({DRUG_ALLERGY} if grave else set())
    reading = select(SecondReading.run_id).where(SecondReading.run_id == current.run_id)
    state = {
        "run_id": current.run_id,
        "state": _state(session, current),
        "open": len(waiting),
        "drug_allergies_open": grave,
        "lowest_probability": min(known, default=None),
        "calm": not grave,
        # What is not known is a risk like the lowest.
        "likelihood": 0.0 if None in probabilities else min(known, default=1.0),
        "kinds": sorted(kinds),
        "second_reader": session.scalar(reading) is not None,
    }
    note = (
        select(Note.department, Note.document_type, Note.received_at, Job.batch_id)
        .join(Run, Run.note_id == Note.id)
        .join(Job, Job.id == Run.job_id)
        .where(Run.id == current.run_id)
    )
    fixed = session.execute(note).one()._asdict()
    line = insert(ReviewWork).values(note_id=current.note_id, **fixed, **state)
    session.execute(
        line.on_conflict_do_update(index_elements=["note_id"], set_=state | {"batch_id": fixed["batch_id"]}).execution_options(
            synchronize_session=False
        )
    )


def _state(session: Session, current: CurrentReview) -> ReviewState:
    if current.released_at is not None:
        return ReviewState.RELEASED
    if differences_open(session, current.run_id):
        return ReviewState.DIFFERING
    return ReviewState.OPEN if current.undecided else ReviewState.DECIDED


def differences_open(session: Session, run_id: UUID) -> int:
    """How many differences between two readers nobody has settled."""
    unsettled = (SecondComparison.run_id == run_id, ~SecondComparison.same, SecondComparison.settled_at.is_(None))
    return session.scalar(select(func.count()).select_from(SecondComparison).where(*unsettled)) or 0
