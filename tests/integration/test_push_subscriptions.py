"""FHIR Subscriptions: asked for, answered, told of releases, and ended."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from push_receiver import Receiver, Reply, receiver
from released_notes import deliveries, hurry, released, send
from reviewed_notes import TEXT
from sample_conversion import make_note
from sign_in import headers, principal
from sqlalchemy import delete, func, insert, select, update

from app.db import Database
from app.main import create_app
from app.settings import Settings
from models import Client, PushDestination, Resource, Subscription
from schemas.access import Principal, Role

JSON = {"Content-Type": "application/fhir+json"}


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
    settings = Settings(database_url=database.url, push_allowed_hosts="127.0.0.1,hospital.example", _env_file=None)
    with TestClient(create_app(settings, database)) as made:
        made.headers.update(headers(database, machine()) | JSON)
        yield made


def machine(name: str = "machine", scopes: tuple[str, ...] = ("system/*.cruds",)) -> Principal:
    return principal(scopes=scopes, name=name)


def wanted(url: str, criteria: str = "Condition", *, payload: bool = False, **more: Any) -> dict[str, Any]:
    channel = {"type": "rest-hook", "endpoint": url, "header": ["Authorization: Bearer geheim"]}
    if payload:
        channel["payload"] = "application/fhir+json"
    return {
        "resourceType": "Subscription", "status": "requested", "reason": "test", "criteria": criteria, "channel": channel,
    } | more  # fmt: skip


def subscribe(client: TestClient, system: Receiver, database: Database, folder: Path, **more: Any) -> str:
    """An active one's id."""
    made = client.post("/fhir/Subscription", json=wanted(f"{system.url}/hook", **more))
    assert made.status_code == 201, made.text
    assert send(database, folder) == 1
    system.take()
    return str(made.json()["id"])


def status(client: TestClient, id_: str) -> str:
    return str(client.get(f"/fhir/Subscription/{id_}").json()["status"])


def test_a_subscription_is_active_once_its_endpoint_answered(
    clean: Database, client: TestClient, system: Receiver, tmp_path: Path
) -> None:
    made = client.post("/fhir/Subscription", json=wanted(f"{system.url}/hook"))
    assert made.status_code == 201 and "geheim" not in made.text
    body = made.json()
    assert (body["status"], body["meta"]["versionId"]) == ("requested", "1")
    assert made.headers["location"].endswith(f"/fhir/Subscription/{body['id']}/_history/1")
    released(clean)
    assert deliveries(clean)[0].event == "handshake" and len(deliveries(clean)) == 1  # what came before is not told
    system.script = [Reply(503), Reply(204)]
    send(clean, tmp_path)
    assert status(client, body["id"]) == "requested"
    hurry(clean)
    send(clean, tmp_path)
    assert status(client, body["id"]) == "active"
    assert [(got.method, got.path, got.body) for got in system.got] == [("POST", "/hook", b"")] * 2
    assert system.got[1].headers["authorization"] == "Bearer geheim"


def test_a_release_is_told_without_a_body_or_by_an_update_of_each_resource(
    clean: Database, client: TestClient, system: Receiver, tmp_path: Path
) -> None:
    subscribe(client, system, clean, tmp_path)
    released(clean)
    assert send(clean, tmp_path) == 1
    (ping,) = system.take()
    assert (ping.method, ping.path, ping.body) == ("POST", "/hook", b"")
    with clean.session_scope() as session:
        session.execute(delete(PushDestination))
    subscribe(client, system, clean, tmp_path, payload=True)
    note_id = released(clean)
    assert send(clean, tmp_path) == 1
    (got,) = system.take()
    with clean.session_scope() as session:
        id_ = session.scalars(
            select(Resource.id).where(Resource.note_id == note_id, Resource.type == "Condition")
        ).one()
    assert (got.method, got.path) == ("PUT", f"/hook/Condition/{id_}")
    assert got.headers["content-type"] == "application/fhir+json" and got.headers["authorization"] == "Bearer geheim"
    assert got.json["id"] == id_ and got.json["meta"]["versionId"] == "1"
    assert got.json == client.get(f"/fhir/Condition/{id_}").json()


def test_only_what_fits_the_criteria_is_told(
    clean: Database, client: TestClient, system: Receiver, tmp_path: Path
) -> None:
    note = make_note(text=TEXT)
    mine = note.model_copy(update={"patient": note.patient.model_copy(update={"id": "mine"})})
    released(clean, mine)
    with clean.session_scope() as session:
        newest = select(Resource.id).where(Resource.type == "Patient").order_by(Resource.created_at.desc()).limit(1)
        patient = session.scalars(newest).one()
    subscribe(client, system, clean, tmp_path, criteria=f"Condition?patient={patient}&clinical-status:not=resolved")
    released(clean)
    assert send(clean, tmp_path) == 1
    assert deliveries(clean)[-1].state == "skipped" and system.got == []
    released(clean, mine.model_copy(update={"id": "second"}))
    assert send(clean, tmp_path) == 1 and len(system.take()) == 1
    # Nothing of the type was accepted: there is nothing to be told.
    queued = len(deliveries(clean))
    released(clean, reject=("condition",))
    assert len(deliveries(clean)) == queued


def test_an_owner_who_was_disabled_is_told_nothing(
    clean: Database, client: TestClient, system: Receiver, tmp_path: Path
) -> None:
    with clean.session_scope() as session:
        session.execute(
            insert(Client).values(id="gone", name="x", jwks={"keys": []}, scopes=["system/*.rs"], created_by="test")
        )
    client.headers.update(headers(clean, machine("gone")))
    try:
        subscribe(client, system, clean, tmp_path)
    finally:
        client.headers.update(headers(clean, machine()))
    with clean.session_scope() as session:
        session.execute(update(Client).values(disabled_at=func.now()))
    released(clean)
    send(clean, tmp_path)
    assert system.got == [] and deliveries(clean)[-1].state == "skipped"


def test_an_endpoint_that_fails_too_often_is_in_error_until_it_is_requested_again(
    clean: Database, client: TestClient, system: Receiver, tmp_path: Path
) -> None:
    id_ = subscribe(client, system, clean, tmp_path)
    released(clean)
    system.usual = Reply(400)
    for _ in range(3):
        hurry(clean)
        send(clean, tmp_path)
    body = client.get(f"/fhir/Subscription/{id_}").json()
    assert (body["status"], body["error"]) == ("error", "HTTP 400")
    hurry(clean)
    assert send(clean, tmp_path) == 0
    found = client.get("/fhir/Subscription", params={"status": "error"}).json()
    assert [entry["resource"]["id"] for entry in found["entry"]] == [id_]
    system.usual = Reply()
    again = client.put(
        f"/fhir/Subscription/{id_}", json=wanted(f"{system.url}/new", id=id_), headers={"If-Match": 'W/"1"'}
    )
    assert again.status_code == 200 and again.json()["status"] == "requested"
    assert again.headers["etag"] == 'W/"2"'
    system.take()
    assert send(clean, tmp_path) == 1 and [got.path for got in system.take()] == ["/new"]
    assert status(client, id_) == "active"


def test_off_and_an_end_and_a_deletion_end_it(
    clean: Database, client: TestClient, system: Receiver, tmp_path: Path
) -> None:
    off = subscribe(client, system, clean, tmp_path)
    body = wanted(f"{system.url}/hook", id=off, status="off")
    assert client.put(f"/fhir/Subscription/{off}", json=body).json()["status"] == "off"
    over = subscribe(client, system, clean, tmp_path, end="2099-01-01T00:00:00+09:00")
    with clean.session_scope() as session:
        session.execute(update(Subscription).values(ends_at=func.now()).where(Subscription.ends_at.is_not(None)))
    gone = subscribe(client, system, clean, tmp_path)
    assert client.delete(f"/fhir/Subscription/{gone}").status_code == 204
    assert client.get(f"/fhir/Subscription/{gone}").status_code == 404
    released(clean)
    assert send(clean, tmp_path) == 0 and system.got == []
    assert status(client, over) == "off"
    stale = client.put(f"/fhir/Subscription/{off}", json=body, headers={"If-Match": 'W/"1"'})
    assert stale.status_code == 412
    other = client.put(f"/fhir/Subscription/{off}", json=body | {"id": over})
    assert other.status_code == 400


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"criteria": "Condition?no-such=1"}, 422),
        ({"criteria": "Condition?patient="}, 422),
        ({"criteria": "Condition?_sort=code"}, 422),
        ({"criteria": "Nothing"}, 422),
        ({"status": "error"}, 422),
        ({"reason": None}, 400),
        ({"channel": {"type": "email", "endpoint": "mailto:a@b"}}, 422),
        ({"channel": {"type": "rest-hook", "endpoint": "https://elsewhere.example/"}}, 422),
        ({"channel": {"type": "rest-hook", "endpoint": "http://hospital.example/"}}, 422),
        (
            {
                "channel": {
                    "type": "rest-hook",
                    "endpoint": "https://hospital.example/",
                    "payload": "application/fhir+xml",
                }
            },
            422,
        ),
        ({"channel": {"type": "rest-hook", "endpoint": "https://hospital.example/", "header": ["Host: a"]}}, 422),
        ({"channel": {"type": "rest-hook", "endpoint": "https://hospital.example/", "header": ["A: b\r\nC: d"]}}, 422),
        ({"channel": "x"}, 400),
        ({"unknown": 1}, 400),
        ({"end": "2026-01-01"}, 400),
        ({"resourceType": "Patient"}, 400),
    ],
)
def test_what_cannot_be_kept_is_refused(
    clean: Database, client: TestClient, changed: dict[str, Any], code: int
) -> None:
    body = {k: v for k, v in (wanted("https://hospital.example/hook") | changed).items() if v is not None}
    answer = client.post("/fhir/Subscription", json=body)
    assert answer.status_code == code, answer.text
    assert answer.json()["resourceType"] == "OperationOutcome"
    with clean.session_scope() as session:
        assert session.scalar(select(func.count()).select_from(PushDestination)) == 0


def test_each_client_sees_its_own_and_needs_the_scopes(clean: Database, client: TestClient) -> None:
    body = wanted("https://hospital.example/hook")
    id_ = client.post("/fhir/Subscription", json=body).json()["id"]
    other = headers(clean, machine("other"))
    for method in ("GET", "PUT", "DELETE"):
        content = body | {"id": id_} if method == "PUT" else None
        assert client.request(method, f"/fhir/Subscription/{id_}", json=content, headers=other).status_code == 404
    assert client.get("/fhir/Subscription", headers=other).json()["total"] == 0
    assert client.get("/fhir/Subscription", headers=headers(clean, principal(Role.INTEGRATOR))).json()["total"] == 1
    page = client.get("/fhir/Subscription", params={"criteria": "cond", "_count": 1}).json()
    assert page["total"] == 1 and page["entry"][0]["resource"]["id"] == id_ and "geheim" not in str(page)
    blind = headers(clean, machine("blind", ("system/Subscription.cruds", "system/Observation.rs")))
    assert client.post("/fhir/Subscription", json=body, headers=blind).status_code == 403
    seeing = headers(clean, machine("seeing", ("system/Subscription.rs", "system/Condition.rs")))
    assert client.post("/fhir/Subscription", json=body, headers=seeing).status_code == 403
    assert client.delete(f"/fhir/Subscription/{id_}", headers=seeing).status_code == 403
    assert client.get("/fhir/Subscription/not-a-uuid").status_code == 404
    assert (
        client.get("/fhir/Subscription", params={"odd": "1"}, headers={"Prefer": "handling=strict"}).status_code == 400
    )
