"""A worker sends by itself what it converted, and the commands that an operator has for it."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from push_receiver import Receiver, Reply, receiver
from released_notes import POLICY, add, deliveries, released
from sample_conversion import make_note
from sqlalchemy import select
from typer.testing import CliRunner

from app import jobs, outbox
from app.cli import app
from app.db import Database
from app.outgoing import Secrets
from app.pusher import Sender
from models import Delivery, Note
from schemas.push import DestinationKind

HERE = Path(__file__).parent


@pytest.fixture
def system() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


def wait(what: str, done: object, seconds: float = 40) -> None:
    assert callable(done)
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until, what
        time.sleep(0.1)


def test_a_worker_sends_what_it_released(fresh_database: Database, system: Receiver, tmp_path: Path) -> None:
    add(fresh_database, DestinationKind.FHIR, system.url)
    add(fresh_database, DestinationKind.WEBHOOK, f"{system.url}/hook")
    note = make_note()
    with fresh_database.session_scope() as session:
        jobs.submit(session, note, "emr")
    env = os.environ | {
        "DATABASE_URL": fresh_database.url, "STARTED_DIR": str(tmp_path), "PYTHONPATH": str(HERE.parent.parent),
        "RELEASE_WITHOUT_REVIEW": "true", "PUSH_INTERVAL_SECONDS": "0.1", "MODEL_SLOTS": "1",
    }  # fmt: skip
    log = tmp_path / "log"
    with log.open("wb") as written:
        worker = subprocess.Popen([sys.executable, str(HERE / "worker_process.py")], env=env, stderr=written)
    try:
        wait("nothing was sent", lambda: len(system.got) == 2)
        wait("it is not put down", lambda: {one.state for one in deliveries(fresh_database)} == {"sent"})
    finally:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=30) == 0
    assert {got.path for got in system.got} == {"/", "/hook"}
    assert "HbA1c" not in log.read_text() and "whsec" not in log.read_text()


def test_senders_beside_each_other_send_each_delivery_once_and_in_order(
    fresh_database: Database, system: Receiver, tmp_path: Path
) -> None:
    """Two senders, and three releases of each of ten notes; the queue is filled by hand, since a release takes its time."""
    add(fresh_database, DestinationKind.WEBHOOK, system.url)
    note_id = released(fresh_database)
    with fresh_database.session_scope() as session:
        first = session.scalars(select(Delivery)).one()
        session.delete(first)
        notes = [note_id]
        original = session.get_one(Note, note_id)
        kept = {
            c.name: getattr(original, c.name) for c in Note.__table__.columns if c.name not in ("id", "content_sha256")
        }
        for n in range(9):
            copy = Note(**kept, content_sha256=f"{n:064x}")
            session.add(copy)
            session.flush()
            notes.append(copy.id)
        destination = outbox.named(session, "webhook").id
        for _ in range(3):
            for one in notes:
                session.add(Delivery(destination_id=destination, event="note.converted", subject=uuid4(), note_id=one))
                session.flush()
    quick = POLICY.model_copy(update={"interval_seconds": 0.02, "timeout_seconds": 20.0})
    system.usual = Reply(seconds=0.01)
    senders = [Sender(fresh_database, Secrets(tmp_path), quick) for _ in range(2)]
    for sender in senders:
        sender.start()
    wait("not all were sent", lambda: all(one.state == "sent" for one in deliveries(fresh_database)))
    for sender in senders:
        sender.stop()
    assert not [thread for thread in threading.enumerate() if thread.name in ("sender", "lane")]
    with fresh_database.session_scope() as session:
        queued = {str(row.id): (str(row.note_id), row.position) for row in session.scalars(select(Delivery))}
    arrived = [queued[got.json["id"]] for got in system.got]
    assert len(arrived) == len(set(arrived)) == 30
    for one in notes:
        positions = [position for note, position in arrived if note == str(one)]
        assert positions == sorted(positions)


def test_the_commands(
    fresh_database: Database, system: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", fresh_database.url)
    monkeypatch.setenv("PUSH_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str, fails: str | None = None) -> str:
        done = CliRunner().invoke(app, ["push", *arguments])
        if fails is not None:
            assert done.exception is not None and fails in str(done.exception), done
        else:
            assert done.exception is None, (done.output, done.exception)
        return done.output

    run("add", "fhir", "http://hospital.example/fhir", "--name", "h", fails="url: must be https")
    run("add", "fhir", "http://hospital.example/fhir", "--name", "h", "--insecure-http")
    run("add", "fhir", "https://hospital.example/fhir", "--name", "h", fails="there already")
    run("add", "fhir", "https://h.example", "--name", "x", "--login", "bearer", fails="secret_file")
    run(
        "add",
        "fhir",
        "https://h.example",
        "--name",
        "x",
        "--secret-file",
        "/etc/passwd",
        fails="not taken: secret_file",
    )
    run("remove", "h")
    key = re.search(r"whsec_\S+", run("add", "webhook", system.url, "--name", "w", "--event", "resource.released"))
    assert key is not None
    assert run("test", "w") == "w: HTTP 200\n" and system.take()[0].json == {"event": "ping"}
    system.script = [Reply(400)]
    released(fresh_database)
    assert "1 delivery tried" in run("send")
    assert "HTTP 400" in run("dead") and "1 is dead" in run("dead", "w")
    run("replay", fails="name a destination")
    assert run("replay", "--all") == "1 wait again\n"
    run("pause", "w")
    assert "0 deliveries" in run("send")
    shown = run("status")
    assert "paused" in shown and "1 destination" in shown and key[0] not in shown
    run("remove", "w", fails="they would be lost")
    run("resume", "w")
    run("send")
    assert run("dead").startswith("0 are dead")
    run("remove", "w")
    run("test", "w", fails="no destination of that name")
