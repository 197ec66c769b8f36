"""A job's life on a real Postgres."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sample_conversion import SampleConversion, convert, make_note
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from app import jobs, running
from app.db import Database, json_dumps, json_loads, migrate
from app.dispatch import DISPATCH_LOCK, Dispatcher, dispatch_tick
from app.errors import Conflict, InvalidInput, NotFound, Unavailable
from app.jobs import Claim, Convert, Policy
from models import Base, Job, JobIssue, Note, NoteStatement, Resource, Run, Ssmix2Message
from schemas.job import JobState
from schemas.note import ChartNote

POLICY = Policy(lease_seconds=30, max_attempts=3, redispatch_seconds=30, window=5)
W = "test-worker"


def submit(database: Database, note: ChartNote | None = None, batch_id: UUID | None = None) -> UUID:
    with database.session_scope() as session:
        return jobs.submit(session, note or make_note(), "emr", batch_id).job_id


def claim(database: Database, job_id: UUID, policy: Policy = POLICY) -> Claim | None:
    with database.session_scope() as session:
        return jobs.claim(session, job_id, W, policy)


def must_claim(database: Database, job_id: UUID) -> Claim:
    claimed = claim(database, job_id)
    assert claimed is not None
    return claimed


def job(database: Database, job_id: UUID) -> Job:
    with database.session_scope() as session:
        return jobs.get_job(session, job_id)


def set_job(database: Database, job_id: UUID, **values: Any) -> None:
    with database.session_scope() as session:
        session.execute(update(Job).where(Job.id == job_id).values(**values))


def expire_lease(database: Database, job_id: UUID) -> None:
    set_job(database, job_id, lease_until=func.now() - text("interval '1 second'"))


def count(database: Database, model: type[Base], **where: Any) -> int:
    with database.session_scope() as session:
        return session.scalar(select(func.count()).select_from(model).filter_by(**where)) or 0


# --- schema ---------------------------------------------------------------------------------------------------------


def test_migrations_build_exactly_the_models(database: Database, empty_database_url: str) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []
    by_models = Database(empty_database_url)
    with by_models.session_scope() as session:
        Base.metadata.create_all(session.connection())
    assert _definitions(database) == _definitions(by_models)
    by_models.dispose()


def _definitions(database: Database) -> set[tuple[str, str]]:
    """Constraints and indexes as Postgres understood them."""
    # A migration of a live database leaves out the second look at rows that obeyed a narrower rule before.
    constraints = """SELECT conrelid::regclass || '.' || conname,
        regexp_replace(pg_get_constraintdef(oid), ' NOT VALID$', '') FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace AND conrelid <> 0 AND conname !~ 'alembic'"""
    indexes = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND indexname !~ 'alembic'"
    with database.session_scope() as session:
        rows = [*session.execute(text(constraints)), *session.execute(text(indexes))]
    assert len(rows) > 60
    return {(row[0], row[1]) for row in rows}


def test_two_migrations_at_once_both_succeed(empty_database_url: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        for result in [pool.submit(_migrate_in_process, empty_database_url) for _ in range(2)]:
            assert result.result() == ""
    migrate(empty_database_url)  # and once more: nothing to do
    database = Database(empty_database_url)
    assert count(database, Job) == 0
    database.dispose()


def _migrate_in_process(url: str) -> str:
    code = "import sys; from app.db import migrate; migrate(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, url], capture_output=True, text=True, check=False, timeout=100)
    return "" if done.returncode == 0 else done.stderr


# --- submit ---------------------------------------------------------------------------------------------------------


def test_a_note_comes_back_as_it_was_sent(database: Database) -> None:
    note = make_note(text="  ＨｂＡ１ｃ　7.2％\r\n①𠮷田\t")
    assert must_claim(database, submit(database, note)).note == note


def test_submitting_twice_gives_the_first_job(database: Database) -> None:
    note = make_note()
    with database.session_scope() as session:
        first = jobs.submit(session, note, "emr")
    with database.session_scope() as session:
        again = jobs.submit(session, note, "emr")
        other = jobs.submit(session, note, "another-emr")
    assert first.created and not again.created
    assert (again.note_id, again.job_id) == (first.note_id, first.job_id)
    assert other.created and other.note_id != first.note_id


def test_submitting_at_the_same_time_gives_one_job(database: Database) -> None:
    note, ready = make_note(), threading.Barrier(6)

    def send(_: int) -> UUID:
        ready.wait()
        return submit(database, note)

    with ThreadPoolExecutor(6) as pool:
        ids = set(pool.map(send, range(6)))
    assert len(ids) == 1
    assert count(database, Note, external_id=note.id) == 1


def test_submit_belongs_to_the_callers_transaction(database: Database) -> None:
    note = make_note()
    with pytest.raises(RuntimeError), database.session_scope() as session:
        jobs.submit(session, note, "emr")
        raise RuntimeError
    assert count(database, Note, external_id=note.id) == 0


def test_text_that_postgres_cannot_hold_is_refused_without_quoting_it(database: Database) -> None:
    with pytest.raises(InvalidInput) as refused:
        submit(database, make_note(text="血圧\x00高い"))
    assert "text" in str(refused.value) and "血圧" not in str(refused.value)


def test_a_note_has_one_open_job(database: Database) -> None:
    job_id = submit(database)
    note_id = job(database, job_id).note_id
    with database.session_scope() as session:
        assert jobs.resubmit(session, note_id).job_id == job_id
    with pytest.raises(IntegrityError) as refused, database.session_scope() as session:
        session.add(Job(note_id=note_id))
    assert "uq_jobs_open_note" in str(refused.value)
    with database.session_scope() as session:
        jobs.cancel(session, job_id)
    with database.session_scope() as session:
        fresh = jobs.resubmit(session, note_id)
    assert fresh.created and fresh.job_id != job_id
    with pytest.raises(Conflict), database.session_scope() as session:
        jobs.requeue(session, job_id)


# --- claim, complete, fence -----------------------------------------------------------------------------------------


def test_complete_stores_everything_once(database: Database) -> None:
    job_id = submit(database)
    assert running.run(database, job_id, convert, worker=W, policy=POLICY) == JobState.DONE
    assert running.run(database, job_id, convert, worker=W, policy=POLICY) is None
    done = job(database, job_id)
    assert (done.state, done.attempts, done.fence, done.reason) == ("done", 1, 1, None)
    assert done.finished_at is not None and done.lease_until is None
    assert count(database, Run, job_id=job_id) == 1
    assert count(database, NoteStatement, note_id=done.note_id) == 1
    assert count(database, Resource, job_id=job_id) == 2
    assert count(database, Ssmix2Message, job_id=job_id) == 1
    assert count(database, JobIssue, job_id=job_id) == 1


def test_decimals_keep_their_digits(database: Database) -> None:
    job_id = submit(database)
    running.run(database, job_id, convert, worker=W, policy=POLICY)
    with database.session_scope() as session:
        content = session.scalars(select(Resource.content).filter_by(job_id=job_id, type="Observation")).one()
    value = content["valueQuantity"]["value"]
    assert isinstance(value, Decimal) and str(value) == "1.10"
    assert json_dumps(content).endswith('"valueQuantity":{"unit":"%","value":1.10}}')
    assert json_dumps(json_loads("[1.0,0.50,-0.0012300,12345678901234567890.10]")) == (
        "[1.0,0.50,-0.0012300,12345678901234567890.10]"
    )
    with pytest.raises(TypeError):
        json_dumps({"value": Decimal("NaN")})


def test_only_one_of_many_claims_wins(database: Database) -> None:
    job_id, ready = submit(database), threading.Barrier(6)

    def take(_: int) -> Claim | None:
        ready.wait()
        return claim(database, job_id)

    with ThreadPoolExecutor(6) as pool:
        won = [c for c in pool.map(take, range(6)) if c is not None]
    assert [c.fence for c in won] == [1]


def test_a_worker_that_was_overtaken_is_fenced_off(database: Database) -> None:
    job_id = submit(database)
    slow = must_claim(database, job_id)
    assert claim(database, job_id) is None
    expire_lease(database, job_id)
    fast = must_claim(database, job_id)
    assert (fast.fence, fast.attempts) == (2, 2)
    with database.session_scope() as session:
        assert not jobs.extend(session, slow, 30)
        assert jobs.extend(session, fast, 30)
        assert jobs.fail(session, slow, "late", retryable=True, policy=POLICY) is None
    with pytest.raises(Conflict), database.session_scope() as session:
        jobs.complete(session, slow, convert(slow.note, source=slow.source))
    assert count(database, Run, job_id=job_id) == 0
    with database.session_scope() as session:
        jobs.complete(session, fast, convert(fast.note, source=fast.source))
    assert job(database, job_id).state == "done"
    assert count(database, Run, job_id=job_id) == 1


def test_completion_is_all_or_nothing(database: Database) -> None:
    def broken(note: ChartNote, source: str) -> SampleConversion:
        good = convert(note, source=source)
        return SampleConversion(good.run, good.statements, [*good.resources, {"resourceType": "Patient", "id": "名前"}])

    job_id = submit(database)
    assert running.run(database, job_id, broken, worker=W, policy=POLICY) == JobState.QUEUED
    assert count(database, Run, job_id=job_id) == 0 and count(database, Resource, job_id=job_id) == 0
    assert job(database, job_id).reason == "IntegrityError"


class _Restarting(Database):
    """A database whose second and third transaction find the server away."""

    calls = 0

    @contextmanager
    def session_scope(self) -> Iterator[Session]:
        self.calls += 1
        if self.calls in (2, 3):
            raise OperationalError("COMMIT", None, ConnectionError())
        with super().session_scope() as session:
            yield session


def test_work_is_kept_while_the_database_restarts(database_url: str, database: Database) -> None:
    job_id = submit(database)
    restarting = _Restarting(database_url)
    assert running.run(restarting, job_id, convert, worker=W, policy=POLICY) == JobState.DONE
    assert restarting.calls == 4
    assert job(database, job_id).attempts == 1 and count(database, Run, job_id=job_id) == 1
    restarting.dispose()


def test_a_resource_written_again_becomes_its_next_version(fresh_database: Database) -> None:
    ids = [submit(fresh_database) for _ in range(6)]

    def work(job_id: UUID) -> JobState | None:
        return running.run(fresh_database, job_id, convert, worker=W, policy=POLICY)

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(work, ids)) == {JobState.DONE}
    with fresh_database.session_scope() as session:
        versions = session.scalars(select(Resource.version).filter_by(type="Patient").order_by(Resource.version)).all()
    assert versions == [1, 2, 3, 4, 5, 6]


def test_the_heartbeat_keeps_a_job_longer_than_its_lease(database: Database) -> None:
    short = Policy(lease_seconds=0.6, max_attempts=3)
    job_id = submit(database)
    stolen: list[Claim | None] = []

    def slow(note: ChartNote, source: str) -> SampleConversion:
        time.sleep(1.5)
        stolen.append(claim(database, job_id, short))
        return convert(note, source=source)

    assert running.run(database, job_id, slow, worker=W, policy=short) == JobState.DONE
    assert stolen == [None]


def test_cancelling_a_running_job_refuses_its_result(database: Database) -> None:
    job_id = submit(database)

    def cancelled_meanwhile(note: ChartNote, source: str) -> SampleConversion:
        with database.session_scope() as session:
            jobs.cancel(session, job_id)
        return convert(note, source=source)

    assert running.run(database, job_id, cancelled_meanwhile, worker=W, policy=POLICY) is None
    assert job(database, job_id).state == "cancelled"
    assert count(database, Resource, job_id=job_id) == 0
    with pytest.raises(Conflict), database.session_scope() as session:
        jobs.cancel(session, job_id)
    with database.session_scope() as session:
        jobs.requeue(session, job_id)
    assert running.run(database, job_id, convert, worker=W, policy=POLICY) == JobState.DONE
    with pytest.raises(Conflict), database.session_scope() as session:
        jobs.requeue(session, job_id)
    with pytest.raises(NotFound), database.session_scope() as session:
        jobs.requeue(session, uuid4())


def raising(error: Exception) -> Convert:
    def converter(note: ChartNote, source: str) -> SampleConversion:
        raise error

    return converter


def test_failures_are_tried_again_only_while_it_may_help(database: Database) -> None:
    passing = submit(database)
    for attempt in (1, 2):
        state = running.run(database, passing, raising(Unavailable("model server is away")), worker=W, policy=POLICY)
        assert state == JobState.QUEUED
        row = job(database, passing)
        assert row.attempts == attempt and row.run_after > row.queued_at
    assert (
        running.run(database, passing, raising(Unavailable("model server is away")), worker=W, policy=POLICY)
        == JobState.FAILED
    )
    assert job(database, passing).reason == "Unavailable: model server is away"
    assert claim(database, passing) is None

    final = submit(database)
    assert running.run(database, final, raising(InvalidInput("too odd")), worker=W, policy=POLICY) == JobState.FAILED
    with database.session_scope() as session:
        jobs.requeue(session, final)
    assert must_claim(database, final).attempts == 1


def test_no_patient_text_of_a_strange_error_is_kept(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    job_id = submit(database)
    running.run(database, job_id, raising(ValueError("検査花子 was bad")), worker=W, policy=POLICY)
    assert job(database, job_id).reason == "ValueError"


def test_progress_counts_a_batch(database: Database) -> None:
    batch = uuid4()
    ids = [submit(database, batch_id=batch) for _ in range(3)]
    running.run(database, ids[0], convert, worker=W, policy=POLICY)
    must_claim(database, ids[1])
    with database.session_scope() as session:
        counts = jobs.progress(session, batch)
    assert (counts.done, counts.running, counts.queued, counts.total, counts.open) == (1, 1, 1, 3, 2)


# --- dispatch -------------------------------------------------------------------------------------------------------


def test_the_window_limits_messages_that_nobody_claimed(fresh_database: Database) -> None:
    ids = [submit(fresh_database) for _ in range(8)]
    sent: list[UUID] = []
    assert dispatch_tick(fresh_database, sent.append, POLICY) == 5
    assert sent == ids[:5], "oldest first"
    assert dispatch_tick(fresh_database, sent.append, POLICY) == 0
    must_claim(fresh_database, ids[0])
    assert dispatch_tick(fresh_database, sent.append, POLICY) == 1
    assert sent[5:] == [ids[5]]


def test_a_lost_message_is_sent_again_ever_later(fresh_database: Database) -> None:
    job_id = submit(fresh_database)
    sent: list[UUID] = []
    pauses = [31, 59, 61, 119, 121]
    assert dispatch_tick(fresh_database, sent.append, POLICY) == 1
    due = []
    for pause in pauses:
        set_job(fresh_database, job_id, dispatched_at=func.now() - func.make_interval(0, 0, 0, 0, 0, 0, pause))
        due.append(dispatch_tick(fresh_database, sent.append, POLICY))
    assert due == [1, 0, 1, 0, 1]


def test_an_ended_lease_is_sent_once_and_failed_after_the_last_attempt(fresh_database: Database) -> None:
    job_id = submit(fresh_database)
    sent: list[UUID] = []
    dispatch_tick(fresh_database, sent.append, POLICY)
    for _ in range(POLICY.max_attempts - 1):
        must_claim(fresh_database, job_id)
        assert dispatch_tick(fresh_database, sent.append, POLICY) == 0
        expire_lease(fresh_database, job_id)
        set_job(fresh_database, job_id, dispatched_at=func.now() - text("interval '2 seconds'"))
        assert dispatch_tick(fresh_database, sent.append, POLICY) == 1
        assert dispatch_tick(fresh_database, sent.append, POLICY) == 0
    must_claim(fresh_database, job_id)
    expire_lease(fresh_database, job_id)
    assert dispatch_tick(fresh_database, sent.append, POLICY) == 0
    dead = job(fresh_database, job_id)
    assert dead.state == "failed" and dead.reason == "worker lost, or stuck, in attempt 3 of 3"


def test_two_dispatchers_at_once_send_each_job_once(fresh_database: Database) -> None:
    ids = {submit(fresh_database) for _ in range(40)}
    sent: list[UUID] = []
    policy = Policy(window=100, interval_seconds=0.01)
    dispatchers = [Dispatcher(fresh_database, sent.append, policy) for _ in range(2)]
    for dispatcher in dispatchers:
        dispatcher.start()
    deadline = time.monotonic() + 20
    while len(sent) < 40 and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.1)
    for dispatcher in dispatchers:
        dispatcher.stop()
    assert len(sent) == 40 and set(sent) == ids


def test_a_tick_yields_to_a_dispatcher_that_is_at_it(fresh_database: Database) -> None:
    submit(fresh_database)
    sent: list[UUID] = []
    with fresh_database.session_scope() as session:
        session.execute(select(func.pg_advisory_xact_lock(DISPATCH_LOCK)))
        assert dispatch_tick(fresh_database, sent.append, POLICY) == 0
    assert dispatch_tick(fresh_database, sent.append, POLICY) == 1


def test_what_could_not_be_published_is_due_again(fresh_database: Database) -> None:
    ids = [submit(fresh_database) for _ in range(3)]
    sent: list[UUID] = []

    def broken(job_id: UUID) -> None:
        if sent:
            raise ConnectionError
        sent.append(job_id)

    with pytest.raises(ConnectionError):
        dispatch_tick(fresh_database, broken, POLICY)
    again: list[UUID] = []
    assert dispatch_tick(fresh_database, again.append, POLICY) == 2
    assert sent + again == ids


def test_the_dispatcher_survives_a_broker_that_is_away(fresh_database: Database) -> None:
    job_id = submit(fresh_database)
    calls: list[UUID] = []

    def comes_back(job_id: UUID) -> None:
        calls.append(job_id)
        if len(calls) < 3:
            raise ConnectionError

    dispatcher = Dispatcher(fresh_database, comes_back, Policy(interval_seconds=0.01))
    dispatcher.start()
    deadline = time.monotonic() + 20
    while len(calls) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    dispatcher.stop()
    assert calls == [job_id] * 3
