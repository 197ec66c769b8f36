"""DocumentReference/$standardize: one answer for a short note, a status URL for others; a converter for tests does the work."""

import base64
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
from sample_conversion import convert
from sign_in import headers, principal
from sqlalchemy import func, select
from starlette.testclient import TestClient

from app import jobs, running
from app.db import Database
from app.jobs import Policy
from app.main import create_app
from app.settings import Settings
from app.web.standardize_api import WAITING
from models import Job, StandardizeRequest
from schemas.access import Principal
from schemas.job import JobState

PATH = "/fhir/DocumentReference/$standardize"
ASYNC = {"Prefer": "respond-async"}
LONG = 200


@contextmanager
def client_of(database: Database, who: Principal | None = None, **settings: Any) -> Iterator[TestClient]:
    chosen = {"standardize_max_seconds": 20.0, "standardize_max_characters": LONG} | settings
    app = create_app(Settings(database_url=database.url, _env_file=None, **chosen), database)
    with TestClient(app, raise_server_exceptions=False) as client:
        client.headers.update(headers(database, who or principal(scopes=["system/DocumentReference.c"])))
        yield client


@pytest.fixture(scope="module")
def client(database: Database) -> Iterator[TestClient]:
    with client_of(database) as client:
        yield client


def document(text: str = "HbA1c 1.10 %。") -> dict[str, Any]:
    return {
        "resourceType": "DocumentReference",
        "status": "current",
        "masterIdentifier": {"value": f"n-{uuid4().hex}"},
        "type": {"coding": [{"system": "http://loinc.org", "code": "18842-5"}]},
        "contained": [
            {
                "resourceType": "Patient",
                "id": "p",
                "identifier": [{"system": "urn:oid:1.2.3", "value": f"P{uuid4().hex[:8]}"}],
                "name": [{"family": "検査", "given": ["太郎"]}],
                "birthDate": "1944-12-31",
            }
        ],
        "subject": {"reference": "#p"},
        "date": "2026-04-02T00:30:00+09:00",
        "context": {"practiceSetting": {"text": "循環器内科"}},
        "content": [{"attachment": {"contentType": "text/plain", "data": base64.b64encode(text.encode()).decode()}}],
    }


def open_jobs(database: Database) -> list[UUID]:
    with database.session_scope() as session:
        return list(session.scalars(select(Job.id).where(Job.state == JobState.QUEUED)))


def state_of(database: Database, job_id: UUID) -> str:
    with database.session_scope() as session:
        return session.scalars(select(Job.state).where(Job.id == job_id)).one()


def run_all(database: Database) -> None:
    for job_id in open_jobs(database):
        assert running.run(database, job_id, convert, worker="test", policy=Policy()) == JobState.DONE


@contextmanager
def worker(database: Database) -> Iterator[None]:
    """Converts what is queued, as it comes."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(0.02):
            run_all(database)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def asked(client: TestClient, resource: dict[str, Any]) -> str:
    """The status URL of a note that is sent to be fetched later."""
    response = client.post(PATH, json=resource, headers=ASYNC)
    assert response.status_code == 202
    return str(response.headers["Content-Location"])


def test_a_short_note_is_answered_at_once(client: TestClient, database: Database) -> None:
    sent = document()
    with worker(database):
        response = client.post(PATH, json=sent)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/fhir+json")
    bundle = response.json()
    assert (bundle["resourceType"], bundle["type"]) == ("Bundle", "collection")
    assert b'"value":1.10' in response.content
    *resources, outcome = [entry["resource"] for entry in bundle["entry"]]
    assert {resource["resourceType"] for resource in resources} == {"Patient", "Observation"}
    assert all("draft" in [tag["code"] for tag in resource["meta"]["tag"]] for resource in resources)
    assert outcome["resourceType"] == "OperationOutcome"
    assert [(issue["severity"], issue["code"]) for issue in outcome["issue"]] == [("warning", "not-found")]
    # The same note again: no other job, the same answer.
    with database.session_scope() as session:
        before = session.scalar(select(func.count()).select_from(Job))
    again = client.post(PATH, json=sent)
    assert (again.status_code, again.content) == (200, response.content)
    with database.session_scope() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == before
        assert not session.scalars(select(StandardizeRequest)).all()  # nobody was given a status URL


def test_parameters_carry_a_document(client: TestClient, database: Database) -> None:
    parameters = {"resourceType": "Parameters", "parameter": [{"name": "document", "resource": document()}]}
    with worker(database):
        assert client.post(PATH, json=parameters).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"resourceType": "Patient"},
        {"resourceType": "Parameters"},
        {"resourceType": "Parameters", "parameter": [{"name": "document", "valueString": "x"}]},
        {"resourceType": "Parameters", "parameter": [{"name": "document", "resource": {"resourceType": "Patient"}}]},
    ],
)
def test_another_body_is_refused(client: TestClient, body: dict[str, Any]) -> None:
    response = client.post(PATH, json=body)
    assert (response.status_code, response.json()["resourceType"]) == (400, "OperationOutcome")


def test_what_is_not_waited_for_is_fetched_later(client: TestClient, database: Database) -> None:
    with client_of(database, standardize_max_seconds=0.1) as hurried:
        slow = hurried.post(PATH, json=document())
    long = client.post(PATH, json=document("痛" * (LONG + 1)))
    assert (slow.status_code, long.status_code) == (202, 202)
    url = asked(client, document())
    waiting = client.get(url)
    assert (waiting.status_code, waiting.headers["X-Progress"]) == (202, "queued")
    assert int(waiting.headers["Retry-After"]) > 0
    run_all(database)
    for address in (url, slow.headers["Content-Location"], long.headers["Content-Location"]):
        done = client.get(address)
        assert (done.status_code, done.json()["type"]) == (200, "batch-response")
        entry = done.json()["entry"][0]
        assert (entry["response"]["status"], entry["resource"]["type"]) == ("200 OK", "collection")
    assert b'"value":1.10' in client.get(url).content
    assert client.delete(url).status_code == 202
    assert (client.get(url).status_code, client.delete(url).status_code) == (404, 404)


def test_a_request_that_is_deleted_takes_its_own_job_back_and_no_others(client: TestClient, database: Database) -> None:
    url = asked(client, document())
    (own,) = open_jobs(database)
    client.delete(url)
    assert state_of(database, own) == JobState.CANCELLED
    shared = document()
    first = asked(client, shared)
    (job,) = open_jobs(database)
    second = asked(client, shared)
    client.delete(first)
    assert (state_of(database, job), client.get(second).status_code) == (JobState.QUEUED, 202)
    client.delete(second)  # another request queued the job: it is not this one's to cancel
    assert state_of(database, job) == JobState.QUEUED
    run_all(database)


def test_a_note_that_failed_is_converted_when_it_is_sent_again(client: TestClient, database: Database) -> None:
    sent = document()
    url = asked(client, sent)
    (job,) = open_jobs(database)
    with database.session_scope() as session:
        claim = jobs.claim(session, job, "test", Policy())
        assert claim is not None
        jobs.fail(session, claim, "the model is away", retryable=False, policy=Policy())
    failed = client.get(url)
    assert (failed.status_code, failed.json()["resourceType"]) == (500, "OperationOutcome")
    assert "the model is away" in failed.json()["issue"][0]["diagnostics"]
    with worker(database):
        assert client.post(PATH, json=sent).status_code == 200


def test_a_job_that_a_person_cancelled_says_so(client: TestClient, database: Database) -> None:
    url = asked(client, document())
    (job,) = open_jobs(database)
    with database.session_scope() as session:
        jobs.cancel(session, job)
    assert client.get(url).status_code == 409


def test_who_waits_goes_before_a_batch(client: TestClient, database: Database) -> None:
    sent = document()
    asked(client, sent)
    (job,) = open_jobs(database)
    with database.session_scope() as session:
        session.get_one(Job, job).priority = jobs.BATCH
    asked(client, sent)
    with database.session_scope() as session:
        assert session.get_one(Job, job).priority == jobs.INTERACTIVE
    run_all(database)


def test_only_the_sender_sees_the_answer(client: TestClient, database: Database) -> None:
    url = asked(client, document())
    run_all(database)
    other = principal(scopes=["system/DocumentReference.c"], name="other")
    with client_of(database, other) as stranger:
        assert (stranger.get(url).status_code, stranger.delete(url).status_code) == (404, 404)
    with client_of(database, principal(scopes=["system/*.rs"])) as reader:
        assert {reader.post(PATH, json=document()).status_code, reader.get(url).status_code} == {403}
        assert reader.post(PATH, json=document(), headers={"Authorization": ""}).status_code == 401
    assert client.get(url).status_code == 200


def test_too_many_waiting_are_answered_later(client: TestClient, database: Database) -> None:
    """A process has few threads; those who wait for notes do not take them all."""
    statuses: queue.SimpleQueue[int] = queue.SimpleQueue()
    threads = [
        threading.Thread(target=lambda: statuses.put(client.post(PATH, json=document()).status_code))
        for _ in range(WAITING + 2)
    ]
    for thread in threads:
        thread.start()
    assert [statuses.get(timeout=15) for _ in range(2)] == [202, 202]
    with worker(database):
        for thread in threads:
            thread.join()
    assert [statuses.get(timeout=1) for _ in range(WAITING)] == [200] * WAITING
