"""Every access to patient data leaves an audit event, and what is done to the events shows."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from reviewed_notes import TEXT, stored
from sample_conversion import make_note
from sign_in import headers, principal
from sqlalchemy import text
from sqlalchemy.orm import Session

from app import accounts, audit, fhir
from app.db import Database
from app.errors import InvalidInput, Unavailable
from app.fhir.audit_event import audit_event
from app.main import create_app
from app.settings import Settings
from schemas.access import Role
from schemas.review import AuditAction, AuditOutcome

WHO = principal(name="integrator-1")


def tell(database: Database, *actions: AuditAction, **details: Any) -> None:
    for action in actions:
        with database.session_scope() as session:
            audit.record_access(session, WHO, action, **details)


def checked(database: Database, **options: Any) -> audit.Verified:
    with database.session_scope() as session:
        return audit.verify(session, **options)


def tamper(database: Database, statement: str) -> None:
    """As somebody who owns the server would: without triggers and foreign keys."""
    with database.session_scope() as session:
        session.execute(text("SET LOCAL session_replication_role = replica"))
        session.execute(text(statement))


def events(database: Database, after: int = 0) -> list[dict[str, Any]]:
    with database.session_scope() as session:
        return [dict(row) for row in audit.stream(session, audit.Wanted()) if row["id"] > after]


def last(database: Database) -> int:
    with database.session_scope() as session:
        found = audit.head(session)
    assert found is not None
    return found.id


# --- the chain --------------------------------------------------------------------------------------------------------


def test_a_chain_that_nobody_touched_is_whole(fresh_database: Database) -> None:
    tell(fresh_database, AuditAction.READ, AuditAction.SEARCH, type_="Observation", ids=["a", "b"], query_names=["code"])
    found = checked(fresh_database)
    assert (found.checked, found.former, found.broken) == (3, 0, None)  # the first row begins the chain
    with fresh_database.session_scope() as session:
        assert audit.head(session) == found.head
    assert checked(fresh_database, noted=found.head).broken is None
    assert audit.Head.of(str(found.head)) == found.head


TAMPERED = [
    ("UPDATE audit_events SET acted_by = 'client:other' WHERE id = 3", 3),
    ("UPDATE audit_events SET recorded_at = recorded_at - interval '1 hour' WHERE id = 3", 3),
    ("UPDATE audit_events SET ids = array['b'] WHERE id = 3", 3),
    ("DELETE FROM audit_events WHERE id = 3", 4),
    ("DELETE FROM audit_events WHERE id = 1", 2),
    (
        "INSERT INTO audit_events (id, action, acted_by, previous, hash) OVERRIDING SYSTEM VALUE"
        " SELECT 9, action, acted_by, repeat('b', 64), hash FROM audit_events WHERE id = 3",
        9,
    ),
    ("INSERT INTO audit_events (id, action, acted_by) OVERRIDING SYSTEM VALUE VALUES (90, 'read', 'x')", 1),
    (
        "INSERT INTO audit_events (id, action, acted_by, previous, hash) OVERRIDING SYSTEM VALUE"
        " SELECT 90, 'read', 'x', hash, repeat('a', 64) FROM audit_events WHERE id = 5",
        90,
    ),
    ("DELETE FROM audit_events", 0),
]


def test_a_row_that_was_changed_deleted_or_put_in_is_found(fresh_database: Database) -> None:
    tell(fresh_database, *[AuditAction.READ] * 4, ids=["a"])
    assert checked(fresh_database).broken is None
    for statement, broken in TAMPERED:
        with Session(fresh_database.engine) as session:  # ends without a commit
            session.execute(text("SET LOCAL session_replication_role = replica"))
            session.execute(text(statement))
            found = audit.verify(session)
        assert found.broken == broken and found.reason, statement
    assert checked(fresh_database).broken is None


def test_rows_deleted_at_the_end_show_against_a_noted_head(fresh_database: Database) -> None:
    tell(fresh_database, *[AuditAction.READ] * 3)
    noted = checked(fresh_database).head
    assert noted is not None
    tamper(fresh_database, f"DELETE FROM audit_events WHERE id = {noted.id}")
    assert checked(fresh_database).broken is None
    found = checked(fresh_database, noted=noted)
    assert found.broken == noted.id and "noted head" in found.reason
    with pytest.raises(InvalidInput):
        audit.Head.of("12")


def test_a_part_of_the_chain_is_checked_from_an_instant_on(fresh_database: Database) -> None:
    tell(fresh_database, AuditAction.READ)
    between = datetime.now(UTC)
    tell(fresh_database, AuditAction.READ, AuditAction.READ)
    tamper(fresh_database, "UPDATE audit_events SET acted_by = 'x' WHERE id = 2")
    assert checked(fresh_database).broken == 2
    found = checked(fresh_database, since=between)
    assert (found.checked, found.broken) == (2, None)
    tamper(fresh_database, "UPDATE audit_events SET acted_by = 'x' WHERE id = 4")
    assert checked(fresh_database, since=between).broken == 4


def test_a_log_that_lost_all_its_rows_takes_no_more(fresh_database: Database) -> None:
    tamper(fresh_database, "DELETE FROM audit_events")
    with pytest.raises(Unavailable, match="audit verify"):
        tell(fresh_database, AuditAction.READ)


def test_what_is_undone_is_not_told(fresh_database: Database) -> None:
    with fresh_database.session_scope() as session:
        audit.record_access(session, WHO, AuditAction.READ, ids=["kept"])
        with pytest.raises(ZeroDivisionError), session.begin_nested():
            audit.record_access(session, WHO, AuditAction.UPDATE, ids=["undone"])
            raise ZeroDivisionError
        with session.begin_nested():
            audit.record_access(session, WHO, AuditAction.UPDATE, ids=["done"])
    with pytest.raises(ZeroDivisionError), fresh_database.session_scope() as session:
        audit.record_access(session, WHO, AuditAction.UPDATE, ids=["undone"])
        raise ZeroDivisionError
    assert [row["ids"] for row in events(fresh_database)[1:]] == [["kept"], ["done"]]
    assert checked(fresh_database).broken is None


def test_writers_at_the_same_time_make_one_chain(fresh_database: Database) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: tell(fresh_database, *[AuditAction.READ] * 5), range(8)))
    found = checked(fresh_database)
    assert (found.checked, found.broken) == (41, None)


def test_rows_from_before_the_chain_are_frozen_by_its_first_row(empty_database_url: str) -> None:
    from app.db import migrate

    migrate(empty_database_url, "0009")
    database = Database(empty_database_url)
    with database.session_scope() as session:
        for _ in range(3):
            session.execute(text(
                "INSERT INTO audit_events (action, acted_by, subject) VALUES ('export', 'x', gen_random_uuid())"
            ))  # fmt: skip
    migrate(empty_database_url)
    tell(database, AuditAction.READ)
    found = checked(database)
    assert (found.checked, found.former, found.broken) == (2, 3, None)
    for statement in (
        "UPDATE audit_events SET acted_by = 'y' WHERE id = 2",
        "DELETE FROM audit_events WHERE id = 2",
    ):
        tamper(database, statement)
        assert "before the chain" in checked(database).reason
    database.dispose()


# --- the FHIR form ----------------------------------------------------------------------------------------------------


def test_every_kind_of_event_is_a_valid_fhir_audit_event(fresh_database: Database) -> None:
    for action in AuditAction:
        tell(
            fresh_database, action, type_="Patient", ids=["p-1", "Observation/o-1"], patients=["p-1"],
            query_names=["code", "date"], outcome=AuditOutcome.REFUSED, address="192.0.2.7", route="GET /fhir/{type}",
            status=404, request_id="0123456789abcdef",
        )  # fmt: skip
    for row in events(fresh_database):
        made = audit_event(row)
        assert fhir.check(made) == [], row["action"]
        assert row["hash"] in json.dumps(made)
    assert made["outcome"] == "4" and made["agent"][0]["network"]["address"] == "192.0.2.7"
    assert [entity["what"]["reference"] for entity in made["entity"][:2]] == ["Patient/p-1", "Observation/o-1"]
    assert made["recorded"].endswith("Z")


# --- requests ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def client(database: Database) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(), database), raise_server_exceptions=False) as made:
        made.headers.update(headers(database, WHO))
        yield made


def asked(database: Database, client: TestClient, method: str, path: str, **options: Any) -> tuple[int, dict[str, Any]]:
    """The answer's status, and the one event that the request left."""
    before = last(database)
    status = client.request(method, path, **options).status_code
    told = events(database, before)
    assert len(told) == 1, (method, path, [row["route"] for row in told])
    return status, told[0]


def test_one_event_for_each_request_with_who_what_and_how_it_ended(database: Database, client: TestClient) -> None:
    note_id = str(stored(database))
    with database.session_scope() as session:
        patient = session.scalar(text("SELECT id FROM resources WHERE type = 'Patient' AND note_id = :n"), {"n": note_id})
    status, event = asked(database, client, "GET", f"/api/notes/{note_id}")
    assert status == 200
    assert (event["action"], event["acted_by"], event["outcome"]) == ("read", "client:integrator-1", "success")
    assert (str(event["note_id"]), event["ids"], event["status"]) == (note_id, [note_id], 200)
    assert event["route"] == "GET /api/notes/{note_id}" and event["address"] == "testclient"
    status, event = asked(database, client, "GET", f"/fhir/Patient/{patient}")
    assert (status, event["type"], event["ids"], event["patients"]) == (200, "Patient", [patient], [patient])
    status, event = asked(database, client, "GET", f"/api/notes/{note_id}/bundle")
    assert (status, event["action"], event["patients"]) == (200, "read", [patient])
    note = make_note(text="肺炎。").model_dump(mode="json")
    status, event = asked(database, client, "POST", "/api/notes", json=note)
    assert (status, event["action"], event["outcome"]) == (202, "create", "success")
    assert checked(database).broken is None


def test_failures_are_told_and_nothing_that_a_client_made_up(database: Database, client: TestClient) -> None:
    status, event = asked(database, client, "GET", "/fhir/Patient/kensa-hanako")
    assert (status, event["outcome"], event["ids"], event["type"]) == (404, "refused", None, "Patient")
    status, event = asked(database, client, "GET", "/api/patients/hanako/ssmix2.zip?source=kensa&hanako=1")
    assert (status, event["action"]) == (404, "export")
    assert event["query_names"] == ["?", "source"]
    status, event = asked(database, client, "POST", "/api/notes", content=b"{")
    assert (status, event["outcome"]) == (400, "refused")
    status, event = asked(database, client, "GET", "/fhir/Patient/1", headers={"Authorization": "Bearer wrong"})
    assert (status, event["acted_by"], event["outcome"]) == (401, "anonymous", "refused")
    whole = json.dumps(events(database), default=str)
    for secret in ("hanako", "kensa", "肺炎", TEXT, "wrong"):
        assert secret not in whole and json.dumps(secret)[1:-1] not in whole


def test_what_shows_no_patient_data_leaves_no_event(database: Database, client: TestClient) -> None:
    before = last(database)
    for path in ("/healthz", "/readyz", "/fhir/metadata", "/nowhere"):
        client.get(path)
    assert events(database, before) == []


def test_without_an_audit_log_nothing_is_shown(fresh_database: Database) -> None:
    note_id = stored(fresh_database)
    with TestClient(create_app(Settings(), fresh_database)) as client:
        client.headers.update(headers(fresh_database))
        with fresh_database.session_scope() as session:
            session.execute(text("ALTER TABLE audit_events ADD CONSTRAINT full_disk CHECK (id < 0) NOT VALID"))
        for path in (f"/api/notes/{note_id}", "/fhir/Patient/1"):
            answer = client.get(path)
            assert answer.status_code == 503 and "audit log" in answer.text
            assert TEXT[:3] not in answer.text
        assert client.get("/healthz").status_code == 200


def test_the_log_is_read_page_by_page_by_who_may(database: Database, client: TestClient) -> None:
    tell(database, *[AuditAction.READ] * 5, type_="Observation", patients=["p-9"])
    client.headers.update(headers(database, principal(Role.ADMIN)))
    seen: list[int] = []
    cursor: dict[str, str] = {}
    while True:
        page = client.get("/api/audit", params={"patient": "p-9", "action": "read", "count": "2", **cursor}).json()
        seen += [event["id"] for event in page["events"]]
        assert all(event["patients"] == ["p-9"] and event["acted_by"] == WHO.id for event in page["events"])
        if "next" not in page:
            break
        cursor = {"cursor": page["next"]}
    assert len(seen) == 5 and seen == sorted(seen, reverse=True)
    assert client.get("/api/audit?since=2026-01-01T00:00:00").status_code == 422
    assert client.get("/api/audit?until=2020-01-01T00:00:00Z").json()["events"] == []
    newest = client.get("/api/audit?count=1").json()["events"][0]
    assert newest["route"] == "GET /api/audit"  # looking is told too
    client.headers.update(headers(database, principal(Role.REVIEWER)))
    assert client.get("/api/audit").status_code == 403




def test_every_route_that_can_show_patient_data_is_watched(fresh_database: Database) -> None:
    """Each route of the application, asked once by somebody who may do everything: one event, or none where `SILENT` says so."""
    application = create_app(Settings(_env_file=None), fresh_database)
    asked_for = headers(fresh_database)
    silent: set[str] = set()
    wrong: list[str] = []
    with TestClient(application, raise_server_exceptions=False) as client:
        for context in iter_route_contexts(application.routes):
            path = str(context.path)
            for method in sorted(set(context.methods or ()) - {"HEAD", "OPTIONS"}):
                url = re.sub(r"\{resource_type[^}]*\}", "Patient", path)
                url = re.sub(r"\{[^}]*\}", "00000000-0000-4000-8000-000000000000", url)
                before = last(fresh_database)
                client.request(method, url, headers=asked_for, follow_redirects=False)
                with fresh_database.session_scope() as session:
                    newest = audit.newest(session, audit.Wanted(), count=5)
                told = [row for row in newest if row["id"] > before and row["route"] == f"{method} {path}"]
                if not told:
                    silent.add(f"{method} {path}")
                elif len(told) > 1:
                    wrong.append(f"{method} {path}")
    assert wrong == []
    assert silent == SILENT


SILENT = {
    "GET /static/{name}", "GET /admin/audit/checks/{check_id}", "GET /admin/terminology/imports/{import_id}",
    "GET /", "GET /healthz", "GET /readyz", "GET /metrics", "GET /openapi.json", "GET /login", "GET /setup", "GET /account",
    "GET /fhir/metadata", "GET /.well-known/smart-configuration", "GET /fhir/.well-known/smart-configuration",
    "GET /fhir/CodeSystem", "GET /fhir/CodeSystem/{release_id}", "GET /fhir/CodeSystem/$lookup",
    "POST /fhir/CodeSystem/$lookup", "GET /fhir/ValueSet/$expand", "POST /fhir/ValueSet/$expand",
    "GET /fhir/ConceptMap/$translate", "POST /fhir/ConceptMap/$translate",
}  # fmt: skip
"""Forms, what this server is, tables of codes: nothing of a patient."""


def test_signing_in_is_told_and_what_was_typed_is_not(fresh_database: Database) -> None:
    password = "a long pass phrase 7"
    with fresh_database.session_scope() as session:
        made = accounts.add_user(session, "hanako", "検査 花子", [Role.REVIEWER], by="test")
        accounts.use_link(session, accounts.make_link(session, made.id, by="test"), password)
    application = create_app(Settings(_env_file=None), fresh_database)
    with TestClient(application, base_url="http://hyojun.test", follow_redirects=False) as browser:
        before = last(fresh_database)
        for typed in ("a wrong pass phrase 8", password):
            token = re.findall(r'name="form_token" value="([^"]+)"', browser.get("/login").text)[0]
            browser.post("/login", data={"login": "hanako", "password": typed, "form_token": token})
    failed, done = events(fresh_database, before)
    assert (failed["action"], failed["outcome"], failed["acted_by"]) == ("login-failed", "refused", "anonymous")
    assert (done["action"], done["outcome"], done["acted_by"]) == ("login", "success", f"user:{made.id}")
    assert "hanako" not in str((failed, done)) and "phrase" not in str((failed, done))
