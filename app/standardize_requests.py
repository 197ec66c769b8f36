"""A note whose sender waits for the answer: who sent it, how far its job is, and what came out.

The job is one as any other (`app.jobs`); a request only says who may see its result, drafts included: he has just sent the
note himself. Sending the same note again is another request for the same job. Requests end after some hours; what the job
wrote stays.
"""

import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app import fhir, jobs
from app.db import Database
from app.errors import NotFound
from app.note_rows import chart_note
from app.store import versions
from models import Job, JobIssue, Note, Resource, StandardizeRequest
from schemas.access import Principal
from schemas.issue import IssueType, Severity
from schemas.job import JobState
from schemas.note import ChartNote

OPEN = frozenset({JobState.QUEUED, JobState.RUNNING})
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 0.5


@dataclass(frozen=True)
class Standing:
    """How far the job of a request is. `reason`: why it failed or was cancelled, without patient text."""

    job_id: UUID
    note_id: UUID
    state: JobState
    reason: str | None


def ask(session: Session, note: ChartNote, source: str, who: Principal, *, keep_hours: float) -> UUID:
    """Submits the note for `who` and gives the id of his request. A job that failed or was cancelled gets all its attempts
    again: to send a note is to want it converted. Raises: InvalidInput, as `jobs.submit`."""
    # Requests that ended are cleared away by the next one.
    session.execute(delete(StandardizeRequest).where(StandardizeRequest.expires_at < func.now()))
    submission = jobs.submit(session, note, source)
    queued = submission.created
    job = select(Job.state).where(Job.id == submission.job_id).with_for_update()
    if not queued and session.scalars(job).one() in (JobState.FAILED, JobState.CANCELLED):
        jobs.requeue(session, submission.job_id)
        queued = True
    else:
        # Its job may be one of a batch, which waits behind all others.
        jobs.hurry(session, submission.job_id)
    request = StandardizeRequest(
        job_id=submission.job_id,
        requested_by=who.id,
        queued=queued,
        expires_at=jobs.now_plus(keep_hours * 3600),
    )
    session.add(request)
    session.flush()
    return request.id


def standing(session: Session, request_id: UUID, who: Principal) -> Standing:
    """Raises: NotFound for a request that ended, or is another's."""
    row = session.execute(
        select(Job.id, Job.note_id, Job.state, Job.reason)
        .join(StandardizeRequest, StandardizeRequest.job_id == Job.id)
        .where(
            StandardizeRequest.id == request_id,
            StandardizeRequest.requested_by == who.id,
            StandardizeRequest.expires_at >= func.now(),
        )
    ).one_or_none()
    if row is None:
        raise NotFound("no such request: it is unknown, cancelled or over")
    return Standing(row.id, row.note_id, JobState(row.state), row.reason)


def wait(database: Database, request_id: UUID, who: Principal, seconds: float) -> Standing:
    """Looks until the job has ended, or for so long; no transaction is open between two looks. Raises: NotFound."""
    until, pause = time.monotonic() + seconds, _FIRST_PAUSE_SECONDS
    while True:
        with database.session_scope() as session:
            found = standing(session, request_id, who)
        left = until - time.monotonic()
        if found.state not in OPEN or left <= 0:
            return found
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)


def answer(session: Session, job_id: UUID) -> dict[str, Any]:
    """A Bundle (collection) of what the job made of its note, without what a check found an error in; an OperationOutcome
    with the job's issues is its last entry. Resources that nobody has released are tagged as drafts."""
    job = jobs.get_job(session, job_id)
    assert job.finished_at is not None, "only a job that is done has a result"
    note = chart_note(session.get_one(Note, job.note_id))
    written = select(Resource.type, Resource.id, Resource.version).where(
        Resource.job_id == job_id, Resource.written_by.is_(None), Resource.valid
    )
    keys = [(row.type, row.id, row.version) for row in session.execute(written.order_by(Resource.ordinal))]
    found = versions.find_all(session, keys)
    bundle = fhir.collection(note, [version.served() for version in found], job.finished_at)
    entry = {"fullUrl": f"urn:uuid:{job_id}", "resource": _outcome(session, job_id)}
    return {**bundle, "entry": [*bundle["entry"], entry]}


def _outcome(session: Session, job_id: UUID) -> dict[str, Any]:
    found = session.scalars(select(JobIssue).where(JobIssue.job_id == job_id).order_by(JobIssue.ordinal)).all()
    issues: list[dict[str, Any]] = [
        {"severity": issue.severity, "code": issue.code, "diagnostics": _placed(issue)} for issue in found
    ]
    if not issues:
        # An OperationOutcome has one issue at least.
        issues = [{"severity": Severity.INFORMATION, "code": IssueType.INFORMATIONAL, "diagnostics": "no issues"}]
    return {"resourceType": "OperationOutcome", "issue": issues}


def _placed(issue: JobIssue) -> str:
    """The issue's words and its place: half-open code-point offsets into the note."""
    return issue.text if issue.start is None else f"{issue.text} (characters {issue.start} to {issue.end})"


def cancel(session: Session, request_id: UUID, who: Principal) -> None:
    """Ends the request; its job too, where this request queued it, it is open and nobody else waits for it.

    Raises: NotFound.
    """
    job_id = standing(session, request_id, who).job_id
    # The lock keeps another request for the same job, made meanwhile, from losing it unseen.
    state = session.scalars(select(Job.state).where(Job.id == job_id).with_for_update()).one()
    ended = delete(StandardizeRequest).where(StandardizeRequest.id == request_id)
    queued = session.scalar(ended.returning(StandardizeRequest.queued))
    others = select(StandardizeRequest.id).where(StandardizeRequest.job_id == job_id).limit(1)
    if queued and state in OPEN and session.scalar(others) is None:
        jobs.cancel(session, job_id)
