"""A batch on real workers, each with its feeder, killed at random moments: every note has one result."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from batch_files import ndjson, note, send, status
from sqlalchemy import func, select, text

from app.db import Database
from models import BatchItem, Job, Note, Resource, Run

HERE = Path(__file__).parent
NOTES, KILLS = 40, 3


@pytest.fixture
def workers(fresh_database: Database, tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    running: list[subprocess.Popen[bytes]] = []
    yield running
    for process in running:
        kill(process)


def start(database: Database, folder: Path) -> subprocess.Popen[bytes]:
    env = os.environ | {
        "DATABASE_URL": database.url, "STARTED_DIR": str(folder), "DATA_DIR": str(folder), "BATCH_WINDOW_NOTES": "8",
        "JOB_LEASE_SECONDS": "1", "JOB_REDISPATCH_SECONDS": "1", "JOB_MAX_ATTEMPTS": "20", "MODEL_SLOTS": "2",
        "PYTHONPATH": str(HERE.parent.parent),
    }  # fmt: skip
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, str(HERE / "worker_process.py")], env=env, stderr=log, stdout=log, start_new_session=True
        )


def kill(process: subprocess.Popen[bytes]) -> None:
    """Worker, feeder and pool processes, with no chance to tidy up."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def read(database: Database, batch_id: UUID) -> int:
    return int(status(database, batch_id)["read"])


@pytest.mark.slow
def test_every_note_has_one_result_whatever_is_killed(
    fresh_database: Database, workers: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    chance = random.Random(7)
    lines = [note(number, department="brief" if number % 6 == 0 else "内科") for number in range(NOTES)]
    lines[31] |= {"text": ""}
    batch_id = send(fresh_database, ndjson(lines))
    workers.append(start(fresh_database, tmp_path))
    deadline = time.monotonic() + 120
    for kills in range(1, KILLS + 1):
        # Killed while it reads and while it converts, some way further each time.
        before = read(fresh_database, batch_id)
        while read(fresh_database, batch_id) <= before and before < NOTES:
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()[-3000:]
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.4))
        kill(workers.pop())
        if kills == 2:
            with fresh_database.session_scope() as session:
                session.execute(text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                                     " AND pid <> pg_backend_pid()"))  # fmt: skip
        workers.append(start(fresh_database, tmp_path))
    while status(fresh_database, batch_id)["state"] != "done":
        assert time.monotonic() < deadline, (tmp_path / "log").read_text()[-3000:]
        time.sleep(0.1)
    found = status(fresh_database, batch_id)
    assert {name: found[name] for name in ("read", "new", "refused", "done", "failed", "open")} == {
        "read": NOTES, "new": NOTES - 1, "refused": 1, "done": NOTES - 1, "failed": 0, "open": 0,
    }  # fmt: skip
    with fresh_database.session_scope() as session:
        assert session.scalars(select(BatchItem.position).order_by(BatchItem.position)).all() == [*range(1, NOTES + 1)]
        for model in (Note, Job, Run):
            assert session.scalar(select(func.count()).select_from(model)) == NOTES - 1
        observations = select(func.count()).select_from(Resource).where(Resource.type == "Observation")
        assert session.scalar(observations) == NOTES - 1
        runs = select(func.count()).select_from(Run).group_by(Run.note_id)
        assert set(session.scalars(runs)) == {1}
    log = (tmp_path / "log").read_text()
    assert "検査" not in log and "HbA1c" not in log
