"""Real workers on real brokers, killed without warning."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import pytest
from rabbitmq import PROGRAM, RabbitMQ
from sample_conversion import make_note
from sqlalchemy import func, select

from app import jobs
from app.db import Database
from app.errors import InvalidInput
from app.settings import Settings
from app.worker import QUEUE, create_worker
from models import Job, Resource, Run
from schemas.note import ChartNote

HERE = Path(__file__).parent

StartWorker = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def started_dir(tmp_path: Path) -> Path:
    path = tmp_path / "started"
    path.mkdir()
    return path


@pytest.fixture
def worker_log(tmp_path: Path) -> Path:
    return tmp_path / "worker.log"


@pytest.fixture
def start_worker(fresh_database: Database, started_dir: Path, worker_log: Path) -> Iterator[StartWorker]:
    """Starts a worker process in a process group of its own; keyword arguments become settings."""
    running: list[subprocess.Popen[bytes]] = []

    def start(**settings: object) -> subprocess.Popen[bytes]:
        chosen = {"job_lease_seconds": 2, "job_redispatch_seconds": 5, "worker_processes": 1, "model_slots": 1} | settings
        env = os.environ | {name.upper(): str(value) for name, value in chosen.items()}
        env |= {
            "DATABASE_URL": fresh_database.url,
            "STARTED_DIR": str(started_dir),
            "PYTHONPATH": str(HERE.parent.parent),
        }
        with worker_log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, str(HERE / "worker_process.py")],
                env=env,
                stderr=log,
                stdout=log,
                start_new_session=True,
            )
        running.append(process)
        return process

    yield start
    for process in running:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """The whole worker, pool processes included, with no chance to tidy up."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def heeds_sigterm(process: subprocess.Popen[bytes]) -> bool:
    """Has the worker come as far as to end politely when it is asked to? Before, the signal just ends it."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def submit(database: Database, note: ChartNote) -> UUID:
    with database.session_scope() as session:
        return jobs.submit(session, note, "emr").job_id


def job(database: Database, job_id: UUID) -> Job:
    with database.session_scope() as session:
        return jobs.get_job(session, job_id)


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def done(database: Database, *ids: UUID) -> Callable[[], bool]:
    def check() -> bool:
        with database.session_scope() as session:
            states = session.scalars(select(Job.state).where(Job.id.in_(ids))).all()
        return states == ["done"] * len(ids)

    return check


class Start(NamedTuple):
    """A conversion's start: in which process, and beside how many others."""

    process: int
    nanoseconds: int
    beside: int


def starts(started_dir: Path, note: ChartNote) -> list[Start]:
    """The starts of the note's conversion, the first first."""
    found = [Start(*map(int, path.name.split(".")[-3:])) for path in started_dir.glob(f"{note.id}.*")]
    return sorted(found, key=lambda start: start.nanoseconds)


def results(database: Database, job_id: UUID) -> tuple[int, int]:
    with database.session_scope() as session:
        runs = session.scalar(select(func.count()).select_from(Run).filter_by(job_id=job_id))
        resources = session.scalar(select(func.count()).select_from(Resource).filter_by(job_id=job_id))
    return runs or 0, resources or 0


def crash_story(
    database: Database, start_worker: StartWorker, started_dir: Path, worker_log: Path, **settings: object
) -> None:
    """Jobs are done; a worker killed in the middle of one loses nothing, and the next worker does it once."""
    quick = [submit(database, make_note()) for _ in range(5)]
    first = start_worker(**settings)
    assert wait_until(done(database, *quick)), worker_log.read_text()

    slow = make_note(department="slow")
    slow_id = submit(database, slow)
    assert wait_until(lambda: len(list(started_dir.glob(f"{slow.id}.*"))) == 1), worker_log.read_text()
    kill(first)
    assert job(database, slow_id).state == "running"

    start_worker(**settings)
    assert wait_until(done(database, slow_id)), worker_log.read_text()
    row = job(database, slow_id)
    assert (row.attempts, row.fence) == (2, 2)
    assert len(list(started_dir.glob(f"{slow.id}.*"))) == 2
    assert results(database, slow_id) == (1, 2)
    for job_id in quick:
        assert job(database, job_id).attempts == 1
        assert results(database, job_id) == (1, 2)


def test_a_killed_worker_loses_no_job(
    fresh_database: Database, start_worker: StartWorker, started_dir: Path, worker_log: Path
) -> None:
    crash_story(fresh_database, start_worker, started_dir, worker_log)
    with fresh_database.session_scope() as session:
        queues = session.scalars(select(func.pgmq.list_queues()).select_from(func.pgmq.list_queues())).all()
    assert len(queues) == 1 and QUEUE in str(queues[0]), "workers leave no queues of their own"
    text = worker_log.read_text()
    for line in text.splitlines():
        if line.startswith("{"):
            json.loads(line)
    assert "検査" not in text and "HbA1c" not in text and "P0001" not in text


def test_a_killed_pool_process_loses_no_job(
    fresh_database: Database, start_worker: StartWorker, started_dir: Path, worker_log: Path
) -> None:
    worker = start_worker()
    slow = make_note(department="slow")
    slow_id = submit(fresh_database, slow)
    assert wait_until(lambda: len(list(started_dir.glob(f"{slow.id}.*"))) == 1), worker_log.read_text()
    pool_process = starts(started_dir, slow)[0].process
    os.kill(pool_process, signal.SIGKILL)
    assert wait_until(done(fresh_database, slow_id)), worker_log.read_text()
    assert worker.poll() is None
    assert job(fresh_database, slow_id).attempts == 2
    assert results(fresh_database, slow_id) == (1, 2)


def test_two_workers_share_the_work_and_stop_politely(
    fresh_database: Database, start_worker: StartWorker, worker_log: Path
) -> None:
    workers = [start_worker() for _ in range(2)]
    ids = [submit(fresh_database, make_note()) for _ in range(40)]
    assert wait_until(done(fresh_database, *ids)), worker_log.read_text()
    with fresh_database.session_scope() as session:
        assert session.scalar(select(func.max(Job.attempts))) == 1
        assert session.scalar(select(func.count()).select_from(Run)) == 40
    # One of them may have done all the work before the other had begun.
    assert wait_until(lambda: all(map(heeds_sigterm, workers))), worker_log.read_text()
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
    for worker in workers:
        assert worker.wait(30) == 0


def test_a_note_that_kills_its_process_fails_alone(
    fresh_database: Database, start_worker: StartWorker, started_dir: Path, worker_log: Path
) -> None:
    """Its neighbours lose one attempt to it, not all of theirs; after that it dies by itself."""
    notes = [make_note(department="brief") for _ in range(6)]
    poison = make_note(department="poison")
    beside = [submit(fresh_database, note) for note in notes[:3]]
    poison_id = submit(fresh_database, poison)
    beside += [submit(fresh_database, note) for note in notes[3:]]
    start_worker(model_slots=8, job_max_attempts=2)
    assert wait_until(done(fresh_database, *beside)), worker_log.read_text()
    assert wait_until(lambda: job(fresh_database, poison_id).state == "failed"), worker_log.read_text()
    row = job(fresh_database, poison_id)
    assert (row.reason, row.attempts) == ("worker lost, or stuck, in attempt 2 of 2", 2)
    assert results(fresh_database, poison_id) == (0, 0)
    for job_id in beside:
        assert results(fresh_database, job_id) == (1, 2)
    first, second = starts(started_dir, poison)
    together = [note for note in notes if starts(started_dir, note)[0].process == first.process]
    assert len(together) >= 3, "the note was not among others"
    assert second.beside == 0 and second.process != first.process
    # What died with it is tried by itself as well: who knows which of them it was.
    for note in together:
        assert [start.beside for start in starts(started_dir, note)[1:]] in ([0], [])
    gone = {note.id for note in together if len(starts(started_dir, note)) == 2}
    assert gone, "nothing died with it"


def test_sigterm_ends_a_worker_in_the_middle_of_a_queue(
    fresh_database: Database, start_worker: StartWorker, started_dir: Path, worker_log: Path
) -> None:
    ids = [submit(fresh_database, make_note(department="brief")) for _ in range(300)]
    worker = start_worker(model_slots=4, job_lease_seconds=60, job_batch_seconds=600)
    assert wait_until(lambda: len(list(started_dir.glob("n-*"))) >= 8), worker_log.read_text()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0, worker_log.read_text()
    with fresh_database.session_scope() as session:
        states = dict(session.execute(select(Job.state, func.count()).where(Job.id.in_(ids)).group_by(Job.state)).all())
        attempts = session.scalar(select(func.max(Job.attempts)))
    assert states["done"] >= 8 and states["queued"] > 0 and set(states) == {"done", "queued"}, "what ran was let end"
    assert attempts == 1
    assert len(list(started_dir.glob("n-*"))) == states["done"]


def test_the_converter_is_loaded_before_the_first_job_and_again_after_a_failure(
    fresh_database: Database, start_worker: StartWorker, started_dir: Path, worker_log: Path
) -> None:
    start_worker(broken_loads=2, job_max_attempts=3)
    loads = started_dir / "loads"
    assert wait_until(loads.exists), worker_log.read_text()
    others = [submit(fresh_database, make_note()) for _ in range(3)]
    assert wait_until(done(fresh_database, *others)), worker_log.read_text()
    assert len(loads.read_text().split()) == 3 and len(set(loads.read_text().split())) == 1
    with fresh_database.session_scope() as session:
        # One failed load was before all jobs, the other was met by one of them.
        attempts = session.scalars(select(Job.attempts).where(Job.id.in_(others)).order_by(Job.attempts)).all()
    assert attempts in ([1, 1, 2], [1, 2, 2]), "a failed load takes the attempts of one job at a time"
    text = worker_log.read_text()
    assert text.count("the converter cannot be loaded") == 2 and fresh_database.url not in text


def test_a_worker_needs_a_database() -> None:
    with pytest.raises(InvalidInput, match="DATABASE_URL"):
        create_worker(Settings(_env_file=None, database_url=None))


@pytest.fixture(scope="module")
def rabbitmq_url(open_dir: Path) -> Iterator[str]:
    if PROGRAM is None:
        pytest.skip("rabbitmq-server is not installed")
    node = RabbitMQ(open_dir / "rabbitmq")
    try:
        node.start()
        yield node.url
    finally:
        node.stop()


@pytest.mark.rabbitmq
def test_a_killed_worker_loses_no_job_on_rabbitmq(
    fresh_database: Database, start_worker: StartWorker, started_dir: Path, worker_log: Path, rabbitmq_url: str
) -> None:
    crash_story(fresh_database, start_worker, started_dir, worker_log, broker_url=rabbitmq_url)
