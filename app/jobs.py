"""A job's life. Postgres holds the truth; a broker message is a hint that carries an id, and may be lost or doubled.

    from       to          by                      when
    -          queued      submit, resubmit        a note came in; a note is to be converted again
    -          queued      app.reprocess           another model is to be tried on a stored note, beside its result
    -          queued      app.receipt_store       a claim of a file is to be checked
    queued     running     claim, claim_due        a worker takes it
    running    running     claim, claim_lost       the lease ran out: another worker takes it, the first is fenced off
    running    done        complete, finish        the holder of the newest fence hands in its work
    running    queued      fail(retryable)         attempts are left
    running    failed      fail, app.dispatch      not retryable, or no attempts left
    queued     failed      app.dispatch            no attempts left
    queued     cancelled   cancel
    running    cancelled   cancel                  the worker's result will be refused
    failed     queued      requeue                 a person wants it tried again
    cancelled  queued      requeue

Everything here works in the caller's transaction. How a worker goes about its claims: `app.running`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Select, and_, case, func, insert, literal, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session

from app import conversions, outbox, reviews, trials
from app.conversions import Conversion
from app.errors import Conflict, NotFound
from app.note_rows import chart_note, note_values
from app.store import index
from models import Base, Batch, Job, JobIssue, Note, NoteStatement, ReleaseState, Resource, Run, Ssmix2Message
from schemas.job import JobState, Progress
from schemas.note import ChartNote

QUEUED, RUNNING, DONE = JobState.QUEUED, JobState.RUNNING, JobState.DONE
FAILED, CANCELLED = JobState.FAILED, JobState.CANCELLED
TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    QUEUED: frozenset({RUNNING, FAILED, CANCELLED}),
    RUNNING: frozenset({RUNNING, DONE, QUEUED, FAILED, CANCELLED}),
    DONE: frozenset(),
    FAILED: frozenset({QUEUED}),
    CANCELLED: frozenset({QUEUED}),
}

INTERACTIVE, BATCH = 0, 10
"""Priorities: somebody waits for the note; it is one of many that may wait."""

RETRY_SECONDS = 5.0
"""Pause before the second attempt; doubles with each further one."""
MAX_RETRY_SECONDS = 300.0


class Convert(Protocol):
    """Converts one note of the sending system `source`; runs with no transaction open."""

    def __call__(self, note: ChartNote, *, source: str) -> Conversion: ...


@dataclass(frozen=True)
class Submission:
    """`created` is False if the same note from the same source was there before; then the ids are its newest job's."""

    note_id: UUID
    job_id: UUID
    created: bool


@dataclass(frozen=True)
class Claim:
    """The right to work on a job until the lease ends; void as soon as somebody holds a higher `fence`. `lost`: the
    worker before was lost, or stuck, over this job or over one beside it."""

    job_id: UUID
    note_id: UUID
    fence: int
    attempts: int
    note: ChartNote
    source: str
    lost: bool = False
    trial: bool = False
    """Is the work kept beside the note's result (`app.reprocess`), and not made its result?"""


@dataclass(frozen=True)
class ClaimedReceipt:
    """As `Claim`, to the job of a claim in a claim file (`models.ReceiptClaim`)."""

    job_id: UUID
    receipt_claim_id: UUID
    fence: int
    attempts: int
    lost: bool = False


Claimed = Claim | ClaimedReceipt


@dataclass(frozen=True)
class Policy:
    """The numbers of the queue; see the settings of the same names."""

    lease_seconds: float = 60.0
    max_attempts: int = 3
    redispatch_seconds: float = 60.0
    window: int = 200
    interval_seconds: float = 0.2
    batch_seconds: float = 300.0
    release: bool = False
    """Are resources without an error released when they are stored, rather than by a person?"""
    second_reader_share: float = 0.0
    """Share of the results, 0..1, that a second person reviews too."""


# --- submit ---------------------------------------------------------------------------------------------------------


def submit(
    session: Session, note: ChartNote, source: str, batch_id: UUID | None = None, priority: int = INTERACTIVE
) -> Submission:
    """Stores the note and queues its job, in one statement of the caller's transaction.

    Idempotent: the same source and the same content again, also at the same time, gives the first note and no new job.
    Raises: InvalidInput for characters that a database text cannot hold.
    """
    row = note_values(note, source)
    new_note = pg_insert(Note).values(row).on_conflict_do_nothing(index_elements=["content_sha256"]).returning(Note.id)
    cte = new_note.cte("new_note")
    job_id = uuid4()
    new_job = insert(Job).from_select(
        ["id", "note_id", "batch_id", "priority"],
        select(literal(job_id), cte.c.id, literal(batch_id, type_=Job.batch_id.type), literal(priority)),
    )
    note_id = session.scalar(new_job.returning(Job.note_id))
    if note_id is not None:
        return Submission(note_id, job_id, True)
    found = session.execute(
        select(Job.note_id, Job.id)
        .join(Note, Note.id == Job.note_id)
        .where(Note.content_sha256 == row["content_sha256"])
        .order_by(Job.queued_at.desc(), Job.id)
        .limit(1)
    ).one()
    return Submission(found.note_id, found.id, False)


def resubmit(
    session: Session, note_id: UUID, batch_id: UUID | None = None, priority: int = INTERACTIVE
) -> Submission:
    """Queues a stored note once more (another model, a new terminology); if a job of it is open, gives that one.

    Raises: NotFound.
    """
    if session.get(Note, note_id) is None:
        raise NotFound(f"note {note_id} does not exist")
    row = {"note_id": note_id, "batch_id": batch_id, "priority": priority}
    statement = pg_insert(Job).values(row).on_conflict_do_nothing()
    created = session.scalar(statement.returning(Job.id))
    if created is not None:
        return Submission(note_id, created, True)
    newest = select(Job.id).where(Job.note_id == note_id).order_by(Job.queued_at.desc()).limit(1)
    return Submission(note_id, session.scalars(newest).one(), False)


def submit_many(session: Session, rows: Sequence[dict[str, Any]], batch_id: UUID) -> list[Submission]:
    """As `submit` for each of `rows` (of `note_values`), in their order, at the price of a few statements for all.

    `created`: was the note new? One that was there has the job of its result, else its open one, else a new one of this batch.
    """
    # In one order everywhere: two transactions with the same notes cannot wait for each other.
    unique = sorted({row["content_sha256"]: row for row in rows}.items())
    added = pg_insert(Note).on_conflict_do_nothing(index_elements=["content_sha256"])
    returned = session.execute(added.returning(Note.content_sha256, Note.id), [row for _, row in unique])
    found = {sha256: Submission(note_id, uuid4(), True) for sha256, note_id in returned}
    if found:
        made = [{"id": one.job_id, "note_id": one.note_id, "batch_id": batch_id, "priority": BATCH} for one in found.values()]
        session.execute(insert(Job), made)
    best = case({DONE: 0, QUEUED: 1, RUNNING: 1}, value=Job.state, else_=2)
    known = (
        select(Note.content_sha256, Note.id, Job.id, best)
        .outerjoin(Job, Job.note_id == Note.id)
        .where(Note.content_sha256.in_([sha256 for sha256, _ in unique if sha256 not in found]))
        .order_by(best, Job.queued_at.desc(), Job.id)
    )
    for sha256, note_id, job_id, rank in session.execute(known).all() if len(found) < len(unique) else ():
        if sha256 not in found:
            again = resubmit(session, note_id, batch_id, BATCH).job_id if rank == 2 else job_id
            found[sha256] = Submission(note_id, again, False)
    return [found[row["content_sha256"]] for row in rows]


# --- work -----------------------------------------------------------------------------------------------------------


def claim(session: Session, job_id: UUID, worker: str, policy: Policy) -> Claimed | None:
    """Takes a queued job, or a running one whose lease ended. None: somebody has it, or it needs nobody any more."""
    free = or_(Job.state == QUEUED, _lease_ended())
    return _take(session, _free_jobs(policy).where(Job.id == job_id, free).with_for_update(), worker, policy)


def claim_due(session: Session, worker: str, policy: Policy, *, first: UUID | None = None) -> Claimed | None:
    """Takes the job `first` where it waits and its pause is over, else the one that waits longest of the first in
    priority. A job of a batch is no job to take first. None: none is due."""
    # By what an index holds alone: a tie-break would sort a whole backlog for every claim.
    due = (
        _free_jobs(policy)
        .where(Job.state == QUEUED, Job.run_after <= func.now())
        .order_by(Job.priority, Job.queued_at)
        .limit(1)
    )
    choices = [due] if first is None else [due.where(Job.id == first, Job.priority == INTERACTIVE), due]
    found = (_take(session, choice.with_for_update(skip_locked=True), worker, policy) for choice in choices)
    return next((claimed for claimed in found if claimed), None)


def claim_lost(session: Session, worker: str, policy: Policy) -> Claimed | None:
    """Takes the running job whose lease ended first. None: every running job shows life."""
    lost = _free_jobs(policy).where(_lease_ended()).order_by(Job.lease_until).limit(1)
    return _take(session, lost.with_for_update(skip_locked=True), worker, policy)


def _lease_ended() -> ColumnElement[bool]:
    return and_(Job.state == RUNNING, Job.lease_until < func.now())


def _free_jobs(policy: Policy) -> Select[UUID, str]:
    return select(Job.id, Job.state).where(may_become(RUNNING), Job.attempts < policy.max_attempts, not_closed())


def not_closed() -> ColumnElement[bool]:
    """The condition that a job may be claimed as far as its batch goes: no batch, or none that is closed."""
    return or_(Job.batch_id.is_(None), Job.batch_id.not_in(select(Batch.id).where(Batch.closed)))


def _take(session: Session, chosen: Select[UUID, str], worker: str, policy: Policy) -> Claimed | None:
    found = session.execute(chosen).one_or_none()
    if found is None:
        return None
    won = session.execute(
        update(Job)
        .where(Job.id == found.id)
        .values(
            state=RUNNING,
            worker=worker,
            attempts=Job.attempts + 1,
            fence=Job.fence + 1,
            dispatches=0,
            started_at=func.now(),
            lease_until=now_plus(policy.lease_seconds),
        )
        .returning(
            func.coalesce(Job.note_id, Job.trial_note_id).label("note_id"), Job.trial_id, Job.receipt_claim_id, Job.fence,
            Job.attempts,
        )
        .execution_options(synchronize_session=False)
    ).one()  # fmt: skip
    lost, trial = found.state == RUNNING, won.trial_id is not None
    if won.receipt_claim_id is not None:
        return ClaimedReceipt(found.id, won.receipt_claim_id, won.fence, won.attempts, lost)
    note = session.get_one(Note, won.note_id)
    return Claim(found.id, won.note_id, won.fence, won.attempts, chart_note(note), note.source, lost, trial)


def extend(session: Session, claim: Claimed, lease_seconds: float) -> bool:
    """False: the claim is void (taken over, cancelled or finished)."""
    return _settle(session, claim, RUNNING, lease_until=now_plus(lease_seconds))


def complete(
    session: Session, claim: Claim, conversion: Conversion, *, release: bool = False, second_reader_share: float = 0.0
) -> None:
    """Marks the job done and stores its work: all of it in the caller's transaction, or nothing.

    That of a trial is kept beside the note's result, and nothing else happens. Raises: Conflict if the claim is void; the
    caller discards the work.
    """
    finish(session, claim)
    if claim.trial:
        trials.keep(session, claim.job_id, claim.note_id, conversion)
        return
    store(session, claim, conversion, release=release, second_reader_share=second_reader_share)


def finish(session: Session, claim: Claimed) -> None:
    """Marks the job done; its work is stored in the same transaction. Raises: Conflict if the claim is void."""
    if not _settle(session, claim, DONE, finished_at=func.now(), lease_until=None, reason=None):
        raise Conflict(f"job {claim.job_id} was taken over, cancelled or finished; fence {claim.fence} is void")


def store(
    session: Session, claim: Claim, conversion: Conversion, *, release: bool = False, second_reader_share: float = 0.0
) -> None:
    """Makes `conversion` the result of the note; the job is done already.

    A resource whose (type, id) is there already becomes its next version. `release`: resources without an error are
    released at once; the others are drafts whatever it says. The review of an earlier result of the note is superseded.
    """
    described = conversion.run | {"id": UUID(str(conversion.run["id"]))}
    output = conversions.fingerprint(conversions.output_of(conversion))
    run = Run(note_id=claim.note_id, job_id=claim.job_id, output_sha256=output, **described)
    session.add(run)
    session.flush()
    written = {(content["resourceType"], content["id"]) for content in conversion.resources}
    former = session.execute(select(Resource.type, Resource.id).where(Resource.note_id == claim.note_id).distinct())
    # Two notes of one patient may write the same Patient at once: who comes second waits for the first one's versions.
    # What the note's former result wrote is no draft to be found any more, and so changes too.
    changed = written.union((type_, id_) for type_, id_ in former)
    index.lock(session, changed)
    versions = _next_versions(session, sorted(written))
    session.add_all(_rows(claim, run.id, conversion, versions, release))
    session.flush()
    reviews.begin(session, claim.note_id, second_reader_share=second_reader_share)
    index.renew(session, changed)
    outbox.converted(session, claim.note_id, claim.job_id)
    if release:
        outbox.released(session, claim.note_id, run.id)


def _rows(
    claim: Claim, run_id: UUID, conversion: Conversion, versions: dict[tuple[str, str], int], release: bool
) -> Iterable[Base]:
    kept = [record.model_dump(mode="json", exclude={"statement", "candidates"}) for record in conversion.records]
    for n, statement in enumerate(conversion.statements):
        payload = statement.model_dump(mode="json")
        near = [candidate.model_dump(mode="json") for candidate in conversion.candidates.get(n, ())]
        yield NoteStatement(
            note_id=claim.note_id, run_id=run_id, ordinal=n, kind=statement.kind, payload=payload, candidates=near,
            record=kept[n] if n < len(kept) else None,
        )  # fmt: skip
    for n, content in enumerate(conversion.resources):
        key = (content["resourceType"], content["id"])
        yield Resource(
            type=key[0],
            id=key[1],
            version=versions[key],
            note_id=claim.note_id,
            job_id=claim.job_id,
            run_id=run_id,
            ordinal=n,
            patient_id=claim.note.patient.id,
            content=content,
            valid=key not in conversion.held,
            state=ReleaseState.FINAL if release and key not in conversion.held else ReleaseState.DRAFT,
            indexed=True,
        )
    for n, message in enumerate(conversion.messages):
        yield Ssmix2Message(
            note_id=claim.note_id,
            job_id=claim.job_id,
            ordinal=n,
            kind=message.kind,
            order_no=message.order_no,
            care_date=message.care_date,
            department=message.department,
            payload=message.text,
        )
    for n, issue in enumerate(conversion.issues):
        yield JobIssue(job_id=claim.job_id, ordinal=n, **issue.model_dump())


def _next_versions(session: Session, keys: Sequence[index.Key]) -> dict[index.Key, int]:
    newest = select(Resource.type, Resource.id, func.max(Resource.version)).group_by(Resource.type, Resource.id)
    there = session.execute(newest.where(tuple_(Resource.type, Resource.id).in_(keys)))
    return dict.fromkeys(keys, 1) | {(type_, id_): version + 1 for type_, id_, version in there}


def fail(session: Session, claim: Claimed, reason: str, *, retryable: bool, policy: Policy) -> JobState | None:
    """Ends this attempt; `reason` must be free of patient text. The new state, or None if the claim was void."""
    if not retryable or claim.attempts >= policy.max_attempts:
        ended = _settle(session, claim, FAILED, reason=reason, finished_at=func.now(), lease_until=None)
        return FAILED if ended else None
    pause = min(RETRY_SECONDS * 2 ** (claim.attempts - 1), MAX_RETRY_SECONDS)
    again = _settle(
        session, claim, QUEUED, reason=reason, lease_until=None, dispatched_at=None, run_after=now_plus(pause)
    )
    return QUEUED if again else None


# --- people ---------------------------------------------------------------------------------------------------------


def get_job(session: Session, job_id: UUID) -> Job:
    """Raises: NotFound."""
    job = session.get(Job, job_id)
    if job is None:
        raise NotFound(f"job {job_id} does not exist")
    return job


def cancel(session: Session, job_id: UUID, reason: str = "cancelled on request") -> None:
    """Raises: NotFound; Conflict if it has ended."""
    _move(session, job_id, CANCELLED, reason=reason, finished_at=func.now(), lease_until=None, fence=Job.fence + 1)


def requeue(session: Session, job_id: UUID) -> None:
    """A failed or cancelled job gets all its attempts again. Raises: NotFound; Conflict if it is open or done, or if
    the note has another open job."""
    job = get_job(session, job_id)
    others = select(Job.id).where(Job.note_id == job.note_id, Job.id != job_id, Job.state.in_([QUEUED, RUNNING]))
    if job.note_id is not None and session.scalar(others.limit(1)) is not None:
        raise Conflict(f"the note of job {job_id} has another open job")
    fresh = {"reason": None, "attempts": 0, "dispatches": 0, "dispatched_at": None, "finished_at": None,
             "started_at": None, "worker": None}  # fmt: skip
    _move(session, job_id, QUEUED, from_states=(FAILED, CANCELLED), queued_at=func.now(), run_after=func.now(), **fresh)


def hurry(session: Session, job_id: UUID) -> None:
    """Somebody waits for the job: while it is queued, it goes before those of batches."""
    session.execute(
        update(Job)
        .where(Job.id == job_id, Job.state == QUEUED, Job.priority > INTERACTIVE)
        .values(priority=INTERACTIVE)
        .execution_options(synchronize_session=False)
    )


def progress(session: Session, batch_id: UUID | None = None) -> Progress:
    """Counts of all jobs, or of one batch's."""
    query = select(Job.state, func.count()).group_by(Job.state)
    if batch_id is not None:
        query = query.where(Job.batch_id == batch_id)
    return Progress(**dict(session.execute(query).all()))


def _move(session: Session, job_id: UUID, to: JobState, *, from_states: Sequence[JobState] = (), **values: Any) -> None:
    allowed = Job.state.in_(from_states) if from_states else may_become(to)
    statement = update(Job).where(Job.id == job_id, may_become(to), allowed).values(state=to, **values)
    moved = session.execute(statement.returning(Job.id).execution_options(synchronize_session=False)).one_or_none()
    if moved is None:
        state = session.scalar(select(Job.state).where(Job.id == job_id))
        if state is None:
            raise NotFound(f"job {job_id} does not exist")
        raise Conflict(f"job {job_id} is {state} and cannot become {to}")
    session.expire_all()


def _settle(session: Session, claim: Claimed, to: JobState, **values: Any) -> bool:
    """The move of a claim's holder: nothing happens unless its fence is the newest and the job still runs."""
    statement = (
        update(Job)
        .where(Job.id == claim.job_id, Job.state == RUNNING, Job.fence == claim.fence, may_become(to))
        .values(state=to, **values)
        .returning(Job.id)
        .execution_options(synchronize_session=False)
    )
    return session.execute(statement).one_or_none() is not None


def may_become(to: JobState) -> ColumnElement[bool]:
    """The condition that every move of a job carries: its state may become `to`."""
    return Job.state.in_([state for state, targets in TRANSITIONS.items() if to in targets])


def now_plus(seconds: float) -> ColumnElement[Any]:
    """On the database's clock: the clocks of workers may differ."""
    return func.now() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)
