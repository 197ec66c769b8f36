"""Several jobs at the same time in one worker, on a real Postgres."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import UUID

import pytest
from sample_conversion import SampleConversion, convert, make_note
from sqlalchemy import func, select, text, update

from app import jobs, running
from app.db import Database
from app.errors import InvalidInput, Unavailable
from app.jobs import Convert, Policy
from models import Job, Note, Run
from schemas.note import ChartNote

POLICY = Policy(lease_seconds=30, max_attempts=3, interval_seconds=0.05, batch_seconds=60)
W = "test-worker"
SLOTS = 4


def submit(database: Database, count: int = 1, department: str = "内科") -> list[UUID]:
    ids = []
    for _ in range(count):
        with database.session_scope() as session:
            ids.append(jobs.submit(session, make_note(department=department), "emr").job_id)
    return ids


def work(database: Database, job_id: UUID, convert: Convert, policy: Policy = POLICY, slots: int = SLOTS) -> int:
    return running.work(database, job_id, convert, worker=W, policy=policy, slots=slots)


def job(database: Database, job_id: UUID) -> Job:
    with database.session_scope() as session:
        return jobs.get_job(session, job_id)


def states(database: Database, ids: list[UUID]) -> list[str]:
    return [job(database, job_id).state for job_id in ids]


def runs(database: Database) -> dict[UUID, int]:
    """How many results each job has."""
    with database.session_scope() as session:
        found = session.execute(select(Run.job_id, func.count()).group_by(Run.job_id)).all()
    return {row[0]: row[1] for row in found}


def lose(database: Database, *ids: UUID) -> None:
    """As a worker that was killed in the middle of them leaves them, a lease later."""
    for job_id in ids:
        with database.session_scope() as session:
            assert jobs.claim(session, job_id, "killed", POLICY)
            ended = func.now() - text("interval '1 second'")
            session.execute(update(Job).where(Job.id == job_id).values(lease_until=ended))


def steal(database: Database, job_id: UUID) -> None:
    """Another worker takes the running job, as after the end of its lease."""
    with database.session_scope() as session:
        session.execute(update(Job).where(Job.id == job_id).values(lease_until=func.now() - text("interval '1 second'")))
    with database.session_scope() as session:
        assert jobs.claim(session, job_id, "other", POLICY)


def until_done(database: Database, ids: list[UUID]) -> list[str]:
    """The states of the jobs once all are done, or after 20 s."""
    deadline = time.monotonic() + 20
    while (found := states(database, ids)) != ["done"] * len(ids) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def external_id(database: Database, job_id: UUID) -> str:
    with database.session_scope() as session:
        return session.scalars(select(Note.external_id).join(Job, Job.note_id == Note.id).where(Job.id == job_id)).one()


class Watched:
    """A conversion that notes how many were under way at its start, itself included."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.together: dict[str, int] = {}
        self._lock, self._now = threading.Lock(), 0

    def __call__(self, note: ChartNote, *, source: str) -> SampleConversion:
        with self._lock:
            self._now += 1
            self.together[note.id] = self._now
        time.sleep(self.seconds)
        with self._lock:
            self._now -= 1
        return convert(note, source=source)


def test_one_message_brings_as_many_jobs_to_the_model_as_it_has_slots(fresh_database: Database) -> None:
    ids = submit(fresh_database, 2 * SLOTS)
    meeting = threading.Barrier(SLOTS)

    def together(note: ChartNote, source: str) -> SampleConversion:
        meeting.wait(20)  # breaks, and fails the job, unless as many as there are slots are here at once
        return convert(note, source=source)

    assert work(fresh_database, ids[0], together) == 2 * SLOTS
    assert states(fresh_database, ids) == ["done"] * len(ids)
    assert runs(fresh_database) == dict.fromkeys(ids, 1)
    assert {job(fresh_database, job_id).attempts for job_id in ids} == {1}


def test_never_more_jobs_than_slots(fresh_database: Database) -> None:
    ids, watched = submit(fresh_database, 9), Watched(0.05)
    assert work(fresh_database, ids[0], watched, slots=3) == 9
    assert max(watched.together.values()) <= 3


def test_each_job_is_completed_when_it_is_ready(fresh_database: Database) -> None:
    quick = submit(fresh_database, 3)
    [slow] = submit(fresh_database, department="slow")
    seen: list[list[str]] = []

    def unequal(note: ChartNote, source: str) -> SampleConversion:
        if note.department == "slow":
            seen.append(until_done(fresh_database, quick))
        return convert(note, source=source)

    assert work(fresh_database, slow, unequal) == 4
    assert seen == [["done"] * 3], "they did not wait for the one that came before them"
    assert states(fresh_database, [slow]) == ["done"]


def test_a_free_slot_takes_what_comes_in_meanwhile(fresh_database: Database) -> None:
    [slow] = submit(fresh_database, department="slow")
    seen: list[list[str]] = []

    def unequal(note: ChartNote, source: str) -> SampleConversion:
        if note.department == "slow":
            seen.append(until_done(fresh_database, submit(fresh_database, 2)))
        return convert(note, source=source)

    assert work(fresh_database, slow, unequal) == 3
    assert seen == [["done"] * 2]


def test_a_failure_is_its_own(fresh_database: Database) -> None:
    ids = submit(fresh_database, 3)
    [wrong], [passing] = submit(fresh_database, department="wrong"), submit(fresh_database, department="passing")
    meeting = threading.Barrier(5)

    def fails_beside_others(note: ChartNote, source: str) -> SampleConversion:
        meeting.wait(20)
        if note.department == "wrong":
            raise InvalidInput("too odd")
        if note.department == "passing":
            raise Unavailable("away")
        return convert(note, source=source)

    assert work(fresh_database, ids[0], fails_beside_others, slots=5) == 5
    assert states(fresh_database, [*ids, wrong, passing]) == ["done"] * 3 + ["failed", "queued"]
    assert job(fresh_database, wrong).reason == "InvalidInput: too odd"
    assert runs(fresh_database) == dict.fromkeys(ids, 1)
    assert work(fresh_database, passing, convert) == 0, "a message of its own does not shorten its pause"


def test_a_lease_that_is_lost_is_lost_for_one_job_alone(fresh_database: Database) -> None:
    ids = submit(fresh_database, 3)
    stolen = ids[1]
    meeting = threading.Barrier(3, action=lambda: steal(fresh_database, stolen))

    def overtaken(note: ChartNote, source: str) -> SampleConversion:
        meeting.wait(20)
        return convert(note, source=source)

    assert work(fresh_database, ids[0], overtaken, slots=3) == 3
    assert states(fresh_database, ids) == ["done", "running", "done"]
    assert runs(fresh_database) == {ids[0]: 1, ids[2]: 1}
    assert (job(fresh_database, stolen).worker, job(fresh_database, stolen).fence) == ("other", 2)


def test_cancelling_one_leaves_the_others_alone(fresh_database: Database) -> None:
    ids = submit(fresh_database, 3)

    def cancel() -> None:
        with fresh_database.session_scope() as session:
            jobs.cancel(session, ids[2])

    meeting = threading.Barrier(3, action=cancel)

    def cancelled_meanwhile(note: ChartNote, source: str) -> SampleConversion:
        meeting.wait(20)
        return convert(note, source=source)

    assert work(fresh_database, ids[0], cancelled_meanwhile, slots=3) == 3
    assert states(fresh_database, ids) == ["done", "done", "cancelled"]
    assert runs(fresh_database) == {ids[0]: 1, ids[1]: 1}


def test_every_claim_is_kept_alive(fresh_database: Database) -> None:
    short = replace(POLICY, lease_seconds=0.6)
    ids = submit(fresh_database, 3)
    meeting = threading.Barrier(3)
    stolen: list[object] = []

    def long(note: ChartNote, source: str) -> SampleConversion:
        meeting.wait(20)
        time.sleep(1.5)
        with fresh_database.session_scope() as session:
            stolen.append(jobs.claim_lost(session, "other", short))
        meeting.wait(20)
        return convert(note, source=source)

    assert work(fresh_database, ids[0], long, short, slots=3) == 3
    assert stolen == [None] * 3
    assert states(fresh_database, ids) == ["done"] * 3


def test_a_message_whose_job_is_taken_brings_the_oldest_that_is_due(fresh_database: Database) -> None:
    taken, *others = submit(fresh_database, 3)
    with fresh_database.session_scope() as session:
        jobs.claim(session, taken, "other", POLICY)
        session.execute(update(Job).where(Job.id == others[0]).values(run_after=func.now() + text("interval '1 hour'")))
    order: list[str] = []

    def noted(note: ChartNote, source: str) -> SampleConversion:
        order.append(note.id)
        return convert(note, source=source)

    assert work(fresh_database, taken, noted) == 1
    assert states(fresh_database, [taken, *others]) == ["running", "queued", "done"]
    assert len(order) == 1


def test_with_an_empty_queue_a_message_costs_nothing(fresh_database: Database) -> None:
    [only] = submit(fresh_database)
    assert work(fresh_database, only, convert) == 1
    threads = threading.active_count()
    started = time.monotonic()
    assert [work(fresh_database, only, convert) for _ in range(50)] == [0] * 50
    assert time.monotonic() - started < 5
    assert threading.active_count() == threads


def test_a_job_whose_worker_was_lost_runs_alone_and_first(fresh_database: Database) -> None:
    ids = submit(fresh_database, 8)
    lose(fresh_database, *ids[4:6])
    watched = Watched(0.05)
    order: list[str] = []

    def noted(note: ChartNote, source: str) -> SampleConversion:
        order.append(note.id)
        return watched(note, source=source)

    assert work(fresh_database, ids[0], noted) == 8
    names = [external_id(fresh_database, job_id) for job_id in ids]
    assert order[:2] == names[4:6]
    assert [watched.together[name] for name in names[4:6]] == [1, 1]
    # The others share the slots; how many of them meet is a matter of the machine's speed.
    assert 1 < max(watched.together.values()) <= SLOTS
    assert [job(fresh_database, job_id).attempts for job_id in ids] == [1, 1, 1, 1, 2, 2, 1, 1]


def test_a_job_that_failed_with_a_reason_runs_beside_others_again(fresh_database: Database) -> None:
    ids = submit(fresh_database, SLOTS)
    with fresh_database.session_scope() as session:
        claimed = jobs.claim(session, ids[0], W, POLICY)
        assert claimed is not None
        jobs.fail(session, claimed, "Unavailable: away", retryable=True, policy=POLICY)
        session.execute(update(Job).where(Job.id == ids[0]).values(run_after=func.now()))
    meeting = threading.Barrier(SLOTS)

    def together(note: ChartNote, source: str) -> SampleConversion:
        meeting.wait(20)
        return convert(note, source=source)

    assert work(fresh_database, ids[1], together) == SLOTS
    assert states(fresh_database, ids) == ["done"] * SLOTS


def test_nothing_new_is_taken_after_the_time_is_over_or_a_stop(fresh_database: Database) -> None:
    ids = submit(fresh_database, 12)
    over = replace(POLICY, batch_seconds=0.0)
    assert work(fresh_database, ids[5], convert, over) == 1
    assert states(fresh_database, ids)[5] == "done"

    stop = threading.Event()
    meeting = threading.Barrier(3, action=stop.set)

    def stopped_meanwhile(note: ChartNote, source: str) -> SampleConversion:
        meeting.wait(20)
        return convert(note, source=source)

    attempts = running.work(
        fresh_database, ids[0], stopped_meanwhile, worker=W, policy=POLICY, slots=3, stopping=stop.is_set
    )
    assert attempts == 3
    assert sorted(states(fresh_database, ids)) == ["done"] * 4 + ["queued"] * 8


def test_many_workers_do_each_job_once(fresh_database: Database) -> None:
    ids = submit(fresh_database, 60)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda job_id: work(fresh_database, job_id, convert), ids[:4]))
    assert sum(made) == 60
    assert runs(fresh_database) == dict.fromkeys(ids, 1)
    assert {(job(fresh_database, job_id).state, job(fresh_database, job_id).fence) for job_id in ids} == {("done", 1)}


def test_a_result_that_cannot_be_told_ends_no_other(fresh_database: Database, caplog: pytest.LogCaptureFixture) -> None:
    """A fault in the book-keeping of one attempt: its lease runs out, the rest goes on."""
    ids = submit(fresh_database, 3)
    meeting = threading.Barrier(3)

    def exits(note: ChartNote, source: str) -> SampleConversion:
        meeting.wait(20)
        if note.id == external_id(fresh_database, ids[1]):
            raise SystemExit(1)
        return convert(note, source=source)

    assert work(fresh_database, ids[0], exits, slots=3) == 3
    assert states(fresh_database, ids) == ["done", "running", "done"]
    assert "attempt left no trace" in caplog.text
