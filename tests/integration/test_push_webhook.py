"""Webhooks: signed, without a word about a patient, and known again when they come twice; and the face that manages them."""

import hashlib
import hmac
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from push_receiver import Got, Receiver, Reply, receiver
from released_notes import add, deliveries, hurry, released, send
from reviewed_notes import stored
from sign_in import headers, principal
from sqlalchemy import delete, select

from app import outbox
from app.db import Database
from app.main import create_app
from app.settings import Settings
from models import PushDestination, Resource
from schemas.access import Right, Role
from schemas.push import DestinationKind, PushEvent

WEBHOOK = DestinationKind.WEBHOOK
BOTH = frozenset({PushEvent.CONVERTED, PushEvent.RELEASED})


@pytest.fixture
def clean(database: Database) -> Database:
    """The module's database, without destinations."""
    with database.session_scope() as session:
        session.execute(delete(PushDestination))
    return database


@pytest.fixture
def system() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


@pytest.fixture(scope="module")
def client(database: Database) -> Iterator[TestClient]:
    settings = Settings(database_url=database.url, push_allowed_hosts="hospital.example, 127.0.0.1", _env_file=None)
    with TestClient(create_app(settings, database)) as made:
        made.headers.update(headers(database, principal(Role.INTEGRATOR)))
        yield made


def is_signed(got: Got, key: str) -> bool:
    """As `app.parcels` tells receivers to check it."""
    expected = hmac.new(
        key.encode(), got.headers["hyojun-timestamp"].encode() + b"." + got.body, hashlib.sha256
    ).hexdigest()
    return hmac.compare_digest("v1=" + expected, got.headers["hyojun-signature"])


def test_both_events_are_told_with_ids_alone_and_signed(
    clean: Database, system: Receiver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    _, key = add(clean, WEBHOOK, f"{system.url}/hook", events=BOTH)
    assert key is not None and key.startswith("whsec_")
    note_id = released(clean)
    assert send(clean, tmp_path) == 2
    converted, release = system.take()
    assert [got.json["event"] for got in (converted, release)] == ["note.converted", "resource.released"]
    assert set(converted.json) == {"id", "event", "note_id", "job_id"}
    assert set(release.json) == {"id", "event", "note_id", "run_id", "resources"}
    with clean.session_scope() as session:
        final = select(Resource.type, Resource.id, Resource.version)
        rows = session.execute(
            final.where(Resource.note_id == note_id, Resource.state == "final").order_by(Resource.ordinal)
        )
        assert release.json["resources"] == [{"type": t, "id": i, "version": v} for t, i, v in rows]
        told = outbox.status(session)
    for got in (converted, release):
        assert is_signed(got, key) and not is_signed(got, "whsec_other")
        assert abs(int(got.headers["hyojun-timestamp"]) - time.time()) < 60
        assert got.headers["hyojun-delivery"] == got.json["id"] and got.json["note_id"] == str(note_id)
        for word in ("糖尿病", "ペニシリン", "検査", "花子", "P0001", "\\u"):
            assert word not in got.body.decode()
    assert key not in caplog.text and key not in str(told)


def test_a_delivery_that_comes_again_has_the_same_id(clean: Database, system: Receiver, tmp_path: Path) -> None:
    add(clean, WEBHOOK, system.url, events=frozenset({PushEvent.RELEASED}))
    released(clean)
    system.script = [Reply(500)]
    send(clean, tmp_path)
    hurry(clean)
    send(clean, tmp_path)
    first, second = system.take()
    assert first.body == second.body and first.headers["hyojun-delivery"] == second.headers["hyojun-delivery"]


def test_a_conversion_is_told_although_nothing_is_released(clean: Database, system: Receiver, tmp_path: Path) -> None:
    add(clean, WEBHOOK, system.url, events=BOTH)
    stored(clean)
    assert send(clean, tmp_path) == 1 and system.got[0].json["event"] == "note.converted"


# --- /api/push --------------------------------------------------------------------------------------------------------


def test_the_api_names_allowed_hosts_alone_and_shows_a_key_once(clean: Database, client: TestClient) -> None:
    url = "https://hospital.example/hook"
    made = client.post("/api/push/destinations", json={"name": "h", "kind": "webhook", "url": url})
    assert made.status_code == 201, made.text
    key = made.json()["signing_key"]
    assert key.startswith("whsec_")
    for answer in (client.get("/api/push/destinations"), client.get("/api/push/destinations/h")):
        assert answer.status_code == 200 and key not in answer.text and "secret" not in answer.text
    for body, status in (
        ({"name": "h", "kind": "webhook", "url": url}, 409),
        ({"name": "x", "kind": "webhook", "url": "https://elsewhere.example/hook"}, 422),
        ({"name": "x", "kind": "webhook", "url": "http://hospital.example/hook"}, 422),
        ({"name": "x", "kind": "webhook", "url": "http://hospital.example/hook", "http": True}, 422),
        ({"name": "x", "kind": "fhir", "url": url, "login": "bearer"}, 422),
        ({"name": "x", "kind": "fhir", "url": url, "login": "bearer", "secret_file": "../../etc/shadow"}, 422),
        ({"name": "x", "kind": "fhir", "url": url, "login": "smart", "secret_file": "key"}, 422),
        ({"name": "x", "kind": "fhir", "url": url, "events": ["note.converted"]}, 422),
        ({"name": "x", "kind": "subscription", "url": url}, 422),
        ({"name": "x y", "kind": "fhir", "url": url}, 422),
        ({"name": "x", "kind": "fhir", "url": url, "token_url": "https://elsewhere.example/token"}, 422),
    ):
        answer = client.post("/api/push/destinations", json=body)
        assert answer.status_code == status, (body, answer.text)
        assert "shadow" not in answer.text
    assert client.delete("/api/push/destinations/h").status_code == 204
    assert client.get("/api/push/destinations/h").status_code == 404


def test_what_was_given_up_is_listed_and_replayed(
    clean: Database, client: TestClient, system: Receiver, tmp_path: Path
) -> None:
    add(clean, DestinationKind.FHIR, system.url)
    released(clean)
    system.script = [Reply(400), Reply(400)]
    send(clean, tmp_path)
    (dead,) = client.get("/api/push/deliveries", params={"state": "dead", "destination": "fhir"}).json()
    assert (dead["status"], dead["reason"], dead["attempts"]) == (400, "HTTP 400", 1)
    assert client.delete("/api/push/destinations/fhir").status_code == 409
    assert client.post(f"/api/push/deliveries/{uuid4()}/replay").status_code == 404
    assert client.post(f"/api/push/deliveries/{dead['id']}/replay").json() == {"replayed": 1}
    send(clean, tmp_path)
    assert client.post("/api/push/destinations/fhir/replay").json() == {"replayed": 1}
    paused = client.post("/api/push/destinations/fhir/pause").json()
    assert (paused["state"], paused["waiting"]) == ("paused", 1) and send(clean, tmp_path) == 0
    client.post("/api/push/destinations/fhir/resume")
    assert send(clean, tmp_path) == 1 and deliveries(clean)[0].state == "sent"
    assert client.delete("/api/push/destinations/fhir?force=true").status_code == 204


def test_without_the_right_nobody_sees_where_things_go(clean: Database, client: TestClient) -> None:
    for who in (principal(Role.REVIEWER), principal(scopes=["system/*.cruds"], rights=set(Right) - {Right.PUSH})):
        told = headers(clean, who)
        for method, path in (
            ("GET", "/destinations"), ("POST", "/destinations"), ("GET", "/destinations/x"), ("DELETE", "/destinations/x"),
            ("POST", "/destinations/x/pause"), ("POST", "/destinations/x/resume"), ("POST", "/destinations/x/replay"),
            ("GET", "/deliveries"), ("POST", f"/deliveries/{uuid4()}/replay"),
        ):  # fmt: skip
            answer = client.request(method, f"/api/push{path}", headers=told, content=json.dumps({}))
            assert answer.status_code == 403, (method, path)
