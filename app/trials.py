"""The work of a trial's job, kept beside the result that it is compared with. Works in the caller's transaction."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app import comparison, conversions
from app.conversions import Conversion
from app.errors import Conflict
from models import NoteStatement, TrialNote
from schemas.record import Record


def keep(session: Session, job_id: UUID, note_id: UUID, conversion: Conversion) -> None:
    """Raises: Conflict where the trial was discarded meanwhile; the caller's claim is void then."""
    former_run = session.scalar(select(TrialNote.former_run_id).where(TrialNote.job_id == job_id))
    if former_run is None:
        raise Conflict(f"job {job_id} is of no trial any more")
    kept = conversions.kept(conversion)
    found = comparison.differences(records_of(session, former_run), conversion.records)
    session.execute(
        update(TrialNote)
        .where(TrialNote.job_id == job_id)
        .values(
            kept=kept,
            output_sha256=conversions.fingerprint(kept["output"]),
            differences=[difference.model_dump(mode="json") for difference in found.differences],
            counts=found.counts,
            kept_at=func.now(),
        )
    )


def records_of(session: Session, run_id: UUID) -> Sequence[Record]:
    """The stored records of a run, in their order; without what a former version kept too little of."""
    columns = select(NoteStatement.payload, NoteStatement.record, NoteStatement.candidates)
    rows = session.execute(columns.where(NoteStatement.run_id == run_id).order_by(NoteStatement.ordinal))
    return [conversions.record_of(*row) for row in rows if row.record is not None]
