"""Figures for Prometheus, the log line of a request, and how workers and the API live and end."""

import http.client
import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from reviewed_notes import TEXT, stored
from sample_conversion import make_note
from sign_in import headers, principal
from sqlalchemy import text

from app import __version__, jobs
from app.db import Database, libpq_url, migrate
from app.errors import Unavailable
from app.heartbeat import Counted, Load, WorkerHeartbeat, beat, live_workers
from app.log import configure
from app.main import create_app
from app.settings import Settings
from schemas.access import Right, Role

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-for-the-scraper"


@pytest.fixture
def client(fresh_database: Database) -> Iterator[TestClient]:
    settings = Settings(metrics_token=TOKEN, _env_file=None)
    with TestClient(create_app(settings, fresh_database), raise_server_exceptions=False) as made:
        yield made


def figures(client: TestClient) -> dict[tuple[str, ...], float]:
    """By name and values of the labels."""
    answer = client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, *(value for name, value in sorted(sample.labels.items()) if name != "le")): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if not sample.name.endswith("_bucket")
    }


# --- figures ----------------------------------------------------------------------------------------------------------


def test_the_figures_of_the_queue_the_workers_and_the_results(fresh_database: Database, client: TestClient) -> None:
    stored(fresh_database)
    with fresh_database.session_scope() as session:
        jobs.submit(session, make_note(), "emr")
        session.execute(text("UPDATE jobs SET queued_at = now() - interval '90 seconds' WHERE state = 'queued'"))
        beat(session, "host:1", Load(slots=4, busy=3, slot_steps=30, step_slots=40))
        beat(session, "host:2", Load())
        beat(session, "host:3", Load(slots=8))
        session.execute(text("UPDATE workers SET seen_at = now() - interval '1 minute' WHERE id = 'host:3'"))
        session.execute(text("ANALYZE"))
    found = figures(client)
    assert found["hyojun_database_up",] == 1
    assert found["hyojun_jobs", "queued"] == 1 and ("hyojun_jobs", "running") not in found
    assert 89 < found["hyojun_queue_age_seconds", "interactive"] < 120
    assert ("hyojun_queue_age_seconds", "batch") not in found
    assert found["hyojun_jobs_ended_5m", "done"] == 1 and found["hyojun_notes_received_5m",] == 2
    assert found["hyojun_tokens_5m", "prompt"] == 10 and found["hyojun_tokens_5m", "output"] == 5
    assert found["hyojun_workers", "ready"] == 1 and found["hyojun_workers", "loading"] == 1
    assert found["hyojun_worker_slots", "all"] == 4 and found["hyojun_worker_slots", "busy"] == 3
    assert found["hyojun_worker_occupancy",] == 0.75
    assert found["hyojun_drift_runs",] == 1
    assert found["hyojun_drift_held_ratio", "lab"] == 1 and found["hyojun_drift_held_ratio", "condition"] == 0
    assert found["hyojun_drift_uncoded_ratio", "condition"] == 1
    assert found["hyojun_drift_issues_per_run", "warning"] == 1
    assert found["hyojun_table_rows", "notes"] == 2 and found["hyojun_database_bytes",] > 1_000_000
    assert found["hyojun_outbox", "waiting"] == found["hyojun_outbox", "dead"] == 0
    assert ("hyojun_backup_age_seconds",) not in found


def test_figures_need_the_right_or_the_token_and_name_nobody(fresh_database: Database, client: TestClient) -> None:
    note_id = stored(fresh_database)
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"Authorization": "Bearer wrong-token-for-it"}).status_code == 401
    reviewer = headers(fresh_database, principal(Role.REVIEWER))
    assert client.get("/metrics", headers=reviewer).status_code == 403
    machine = headers(fresh_database, principal(rights=[Right.METRICS]))
    assert client.get("/metrics", headers=machine).status_code == 200
    client.get(f"/api/notes/{note_id}", headers=headers(fresh_database))
    client.get("/fhir/Patient/kensa-hanako?name=kensa")
    client.get("/kensa-hanako")
    shown = client.get("/metrics", headers=machine).text
    assert 'route="/api/notes/{note_id}",status="200"' in shown
    for secret in ("hanako", "kensa", str(note_id), TEXT[:4], TOKEN):
        assert secret not in shown


def test_requests_are_measured_by_route_and_status(client: TestClient) -> None:
    before = figures(client).get(("hyojun_request_seconds_count", "GET", "/healthz", "200"), 0)
    for _ in range(3):
        client.get("/healthz")
    assert figures(client)["hyojun_request_seconds_count", "GET", "/healthz", "200"] == before + 3


def test_without_the_database_the_figures_of_the_process_stay() -> None:
    settings = Settings(database_url="postgresql://nobody@127.0.0.1:9/none", metrics_token=TOKEN, _env_file=None)
    with TestClient(create_app(settings)) as client:
        found = figures(client)
    assert found["hyojun_database_up",] == 0 and found["hyojun_info", "0.1.0"] == 1
    assert not any(name[0].startswith("hyojun_jobs") for name in found)


# --- the line of a request --------------------------------------------------------------------------------------------


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    made = io.StringIO()
    configure("INFO", made)
    yield made
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_one_line_a_request_under_the_id_of_its_answer(
    fresh_database: Database, client: TestClient, stream: io.StringIO
) -> None:
    client.headers.update(headers(fresh_database, principal(name="emr")))
    given = "0123abcd-0000-4000-8000-000000000001"
    answer = client.get("/fhir/Patient/kensa-hanako?name=kensa", headers={"X-Request-Id": given})
    assert answer.headers["x-request-id"] == given
    found = [line for line in lines(stream) if line["message"] == "request"]
    assert len(found) == 1
    line = found[0]
    assert (line["method"], line["status"], line["principal"]) == ("GET", 404, "client:emr")
    assert line["route"].startswith("/fhir/{") and line["request_id"] == given and line["duration_ms"] > 0
    assert "kensa" not in stream.getvalue() and "dropped" not in line
    with fresh_database.session_scope() as session:
        told = session.scalar(text("SELECT request_id FROM audit_events ORDER BY id DESC LIMIT 1"))
    assert told == given


@pytest.mark.parametrize("hostile", ["kensa-hanako", "a" * 65, "検査花子".encode(), 'x"\r', "ace-cafe"])
def test_an_id_that_could_be_a_name_is_replaced(client: TestClient, hostile: str | bytes) -> None:
    made = client.get("/healthz", headers={"X-Request-Id": hostile}).headers["x-request-id"]
    assert len(made) == 32 and made != hostile


# --- workers and processes --------------------------------------------------------------------------------------------


def test_a_worker_tells_that_it_lives_until_it_ends(fresh_database: Database) -> None:
    counted = Counted()
    heartbeat = WorkerHeartbeat(fresh_database, "host:7", lambda: Load(slots=2, busy=counted.running))

    def alive() -> tuple[int, int]:
        with fresh_database.session_scope() as session:
            return live_workers(session)

    def work() -> None:
        assert counted.running == 1
        heartbeat.start()
        deadline = time.monotonic() + 10
        while alive() != (1, 0) and time.monotonic() < deadline:
            time.sleep(0.02)

    assert alive() == (0, 0)
    counted.of(work)()
    with fresh_database.session_scope() as session:
        assert session.execute(text("SELECT slots, busy FROM workers")).one() == (2, 1)
    heartbeat.stop()
    assert alive() == (0, 0) and counted.running == 0


def test_a_real_worker_is_listed_while_it_runs(fresh_database: Database, tmp_path: Path) -> None:
    (tmp_path / "started").mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "BROKER_URL"} | {
        "DATABASE_URL": fresh_database.url, "STARTED_DIR": str(tmp_path / "started"), "PYTHONPATH": str(ROOT),
        "MODEL_SLOTS": "3",
    }  # fmt: skip

    def listed() -> list[tuple[Any, ...]]:
        with fresh_database.session_scope() as session:
            return [tuple(row) for row in session.execute(text("SELECT slots, busy, version FROM workers"))]

    def wait_for(expected: list[tuple[Any, ...]]) -> bool:
        deadline = time.monotonic() + 60
        while listed() != expected and time.monotonic() < deadline:
            time.sleep(0.1)
        return listed() == expected

    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "worker_process.py")],
            env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        # At once if the converter is there by the first beat, else with the next one.
        assert wait_for([(3, 0, __version__)]), (tmp_path / "log").read_text()
        process.send_signal(signal.SIGTERM)
        assert wait_for([])
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_the_api_ends_a_request_that_runs_before_it_ends(fresh_database: Database, tmp_path: Path) -> None:
    """SIGTERM in the middle of a note that is being sent: it is taken, and answered."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    environment = {key: value for key, value in os.environ.items() if key != "BROKER_URL"}
    environment |= {"DATABASE_URL": fresh_database.url, "API_PORT": str(port), "PYTHONPATH": str(ROOT)}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "serve"], env=environment, cwd=tmp_path, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.05)
        body = json.dumps(make_note().model_dump(mode="json")).encode()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.putrequest("POST", "/api/notes")
        for name, value in {**headers(fresh_database), "Content-Type": "application/json"}.items():
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:20])
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        with pytest.raises(OSError):  # nobody new is let in
            socket.create_connection(("127.0.0.1", port), 1)
        connection.send(body[20:])
        assert connection.getresponse().status == 202
        assert process.wait(20) in (0, -signal.SIGTERM)  # uvicorn ends by the signal that it was sent
    finally:
        process.kill()
        process.wait()
    with fresh_database.session_scope() as session:
        assert session.scalar(text("SELECT count(*) FROM jobs")) == 1


# --- migrations on a live database ------------------------------------------------------------------------------------


def test_a_migration_does_not_hold_up_others_and_comes_through_later(empty_database_url: str) -> None:
    migrate(empty_database_url, "0009")
    database = Database(empty_database_url)

    def revision() -> str:
        with database.session_scope() as session:
            return str(session.scalar(text("SELECT version_num FROM alembic_version")))

    with psycopg.connect(libpq_url(empty_database_url)) as reader, psycopg.connect(libpq_url(empty_database_url)) as other:
        reader.execute("SELECT count(*) FROM audit_events")  # an open transaction of somebody who reads
        began = datetime.now(UTC)
        with pytest.raises(Unavailable, match="nothing is half done"):
            migrate(empty_database_url, "0010", lock_seconds=0.3, max_seconds=1.5)
        assert (datetime.now(UTC) - began).total_seconds() < 15
        other.execute("SELECT count(*) FROM audit_events")  # nobody waits behind it any more
        assert revision() == "0009"
        with database.session_scope() as session:
            assert session.scalar(text("SELECT to_regclass('workers')")) is None
        other.rollback()
        reader.rollback()
    migrate(empty_database_url, "0010", lock_seconds=0.3)
    assert revision() == "0010"
    database.dispose()
