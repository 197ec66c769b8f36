"""What jobs made of notes, read back as plain JSON values; decimals with the digits as written.

A note's result is that of its newest finished job.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, exists, func, select
from sqlalchemy.orm import Session, aliased

from app import ssmix2
from app.errors import Conflict, NotFound
from app.jobs import get_job
from app.note_rows import chart_note
from models import Job, JobIssue, Note, NoteReview, NoteStatement, Release, ReleaseState, Resource, Run, Ssmix2Message
from schemas.job import JobState
from schemas.note import ChartNote
from schemas.statement import Kind


@dataclass(frozen=True)
class NoteResult:
    """Of the newest finished job, as it wrote them and nobody has judged them: raw FHIR resources without those that a check
    found an error in, and SS-MIX2 messages, in the order of the conversion."""

    note: ChartNote
    finished_at: datetime
    resources: list[dict[str, Any]]
    messages: list[ssmix2.Message]


def job_status(session: Session, job_id: UUID) -> dict[str, Any]:
    """A job as the API shows it: state, times, issues, and how much came out. `seconds`: from start to end. `held`: how many
    of the statements wait for review instead of being in the resources.

    Raises: NotFound.
    """
    job = get_job(session, job_id)
    columns = (JobIssue.severity, JobIssue.code, JobIssue.text, JobIssue.start, JobIssue.end)
    issues = session.execute(select(*columns).where(JobIssue.job_id == job_id).order_by(JobIssue.ordinal)).mappings()
    kinds = (
        select(NoteStatement.kind, func.count())
        .join(Run, Run.id == NoteStatement.run_id)
        .where(Run.job_id == job_id)
        .group_by(NoteStatement.kind)
    )
    counts = {str(kind): int(count) for kind, count in session.execute(kinds)}
    uncertain = select(func.count()).select_from(NoteStatement).join(Run, Run.id == NoteStatement.run_id)
    held = session.scalar(uncertain.where(Run.job_id == job_id, NoteStatement.record["held"].as_boolean()))
    made = (Resource.job_id == job_id, Resource.written_by.is_(None))
    resources = session.scalar(select(func.count()).select_from(Resource).where(*made))
    model_ms = session.scalar(select(Run.duration_ms).where(Run.job_id == job_id).limit(1))
    took = (job.finished_at - job.started_at).total_seconds() if job.finished_at and job.started_at else None
    return {
        "id": job.id,
        "note_id": job.note_id,
        "state": job.state,
        "reason": job.reason,
        "attempts": job.attempts,
        "timings": {
            "queued_at": job.queued_at,
            "started_at": job.started_at,
            "finished_at": job.finished_at,
            "seconds": took,
            "model_seconds": None if model_ms is None else model_ms / 1000,
        },
        "statements": {kind.value: counts.get(kind, 0) for kind in Kind},
        "held": held,
        "resources": resources,
        "issues": [{key: value for key, value in issue.items() if value is not None} for issue in issues],
    }


def note_record(session: Session, note_id: UUID) -> dict[str, Any]:
    """The note as received, its source, and its jobs, newest first. Raises: NotFound."""
    note = _note(session, note_id)
    newest = select(Job.id, Job.state, Job.queued_at).where(Job.note_id == note_id).order_by(Job.queued_at.desc())
    return {
        "id": note.id,
        "source": note.source,
        "received_at": note.received_at,
        "note": chart_note(note).model_dump(mode="json", exclude_none=True),
        "jobs": [dict(row) for row in session.execute(newest).mappings()],
    }


def note_result(session: Session, note_id: UUID) -> NoteResult:
    """Raises: NotFound; Conflict while no job of the note has finished."""
    note = _note(session, note_id)
    jobs = select(Job).where(Job.note_id == note_id)
    done = jobs.where(Job.state == JobState.DONE).order_by(Job.finished_at.desc()).limit(1)
    job = session.scalars(done).one_or_none()
    if job is None:
        newest = session.scalars(jobs.order_by(Job.queued_at.desc()).limit(1)).one()
        raise Conflict(f"note {note_id} has no result yet: its job {newest.id} is {newest.state}")
    assert job.finished_at is not None
    valid = select(Resource.content).where(Resource.job_id == job.id, Resource.written_by.is_(None), Resource.valid)
    own = (Ssmix2Message.job_id == job.id, Ssmix2Message.release_id.is_(None))
    messages = select(Ssmix2Message).where(*own).order_by(Ssmix2Message.ordinal)
    return NoteResult(
        chart_note(note),
        job.finished_at,
        list(session.scalars(valid.order_by(Resource.ordinal))),
        [stored_message(row, note.patient_id) for row in session.scalars(messages)],
    )


def has_drafts(session: Session, *notes: ColumnElement[bool]) -> bool:
    """Is there a resource of a note that fits all of `notes` (conditions on `Note`) in a version that no person has released,
    nor a later one of it?"""
    later = aliased(Resource)
    released = exists().where(
        later.type == Resource.type, later.id == Resource.id, later.version >= Resource.version,
        later.state == ReleaseState.FINAL,
    )  # fmt: skip
    of_note = exists().where(Note.id == Resource.note_id, *notes)
    drafts = exists().where(of_note, Resource.valid, Resource.state == ReleaseState.DRAFT, ~released)
    return bool(session.scalar(select(drafts)))


def unreleased(session: Session, *notes: ColumnElement[bool]) -> bool:
    """Is there a note that fits all of `notes` (conditions on `Note`) whose current result nobody has released? Its SS-MIX2 files
    then tell what the machine has read."""
    current = (NoteReview.note_id == Note.id, NoteReview.superseded_at.is_(None))
    released = exists().where(Release.run_id == NoteReview.run_id)
    drafts = exists().where(
        Resource.run_id == NoteReview.run_id, Resource.valid, Resource.state == ReleaseState.DRAFT
    )
    waiting = select(Note.id).join(NoteReview, and_(*current)).where(*notes, ~released, drafts)
    return bool(session.scalar(select(waiting.exists())))


def job_resources(session: Session, job_id: UUID) -> list[tuple[str, str]]:
    """Type and id of each resource that the job wrote, in order."""
    made = (Resource.job_id == job_id, Resource.written_by.is_(None))
    query = select(Resource.type, Resource.id).where(*made).order_by(Resource.ordinal)
    return [(type_, id_) for type_, id_ in session.execute(query)]


def stored_message(row: Ssmix2Message, patient_id: str) -> ssmix2.Message:
    """The message as its conversion wrote it."""
    return ssmix2.Message(
        kind=ssmix2.DataKind(row.kind),
        patient_id=patient_id,
        care_date=row.care_date,
        order_no=row.order_no,
        department=row.department,
        text=row.payload,
    )


def _note(session: Session, note_id: UUID) -> Note:
    note = session.get(Note, note_id)
    if note is None:
        raise NotFound(f"note {note_id} does not exist")
    return note
