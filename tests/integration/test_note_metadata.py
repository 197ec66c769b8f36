"""What a sender knows beside the text (visit, physician, insurance, recipient) comes in by both faces and is kept."""

import copy
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from sign_in import headers

from app.db import Database
from app.main import create_app
from app.settings import Settings
from models import Note

INSURANCE = "http://jpfhir.jp/fhir/clins/Idsystem/JP_Insurance_memberID"
PATIENT = {
    "id": "1234567", "family": "検査", "given": "花子", "sex": "female", "birth_date": "1950-01-02",
    "address": "架空県見本市1-1", "insurance_id": "06131001:見本1:2001:01",
}  # fmt: skip
ENCOUNTER = {
    "id": "E1", "encounter_class": "IMP", "start": "2026-03-20", "end": "2026-04-01", "discharge_disposition": "3",
    "admit_source": "1", "reason": "肺炎の治療",
}  # fmt: skip
PHYSICIAN = {"id": "D1001", "family": "医師", "given": "一郎"}
RECIPIENT = {
    "name": "架空診療所", "number": "1319999999", "department": "内科", "address": "架空県見本市2-2",
    "phone": "03-0000-0000", "physician": {"family": "宛先", "given": "二郎"},
}  # fmt: skip
DOCUMENT: dict[str, Any] = {
    "resourceType": "DocumentReference",
    "status": "current",
    "type": {"coding": [{"system": "http://loinc.org", "code": "18842-5"}]},
    "contained": [
        {
            "resourceType": "Patient",
            "id": "p",
            "identifier": [
                {"system": INSURANCE, "value": PATIENT["insurance_id"]},
                {"system": "urn:oid:1.2.3", "value": "1234567"},
            ],
            "name": [{"family": "検査", "given": ["花子"]}],
            "gender": "female",
            "birthDate": "1950-01-02",
            "address": [{"text": PATIENT["address"]}],
        },
        {
            "resourceType": "Encounter",
            "id": "e",
            "identifier": [{"value": "E1"}],
            "status": "finished",
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
            "period": {"start": "2026-03-20T10:00:00+09:00", "end": "2026-04-01"},
            "reasonCode": [{"text": "肺炎の治療"}],
            "hospitalization": {
                "dischargeDisposition": {"coding": [{"code": "3"}]},
                "admitSource": {"coding": [{"code": "1"}]},
            },
        },
        {
            "resourceType": "Practitioner",
            "id": "d",
            "identifier": [{"value": "D1001"}],
            "name": [{"family": "医師", "given": ["一郎"]}],
        },
    ],
    "subject": {"reference": "#p"},
    "author": [{"reference": "Organization/1"}, {"reference": "#d"}],
    "date": "2026-04-01T23:50:00+09:00",
    "context": {"practiceSetting": {"text": "内科"}, "encounter": [{"reference": "#e"}]},
    "content": [{"attachment": {"contentType": "text/plain", "data": "6IK654KO44CC"}}],
}


@pytest.fixture
def client(fresh_database: Database) -> Any:
    app = create_app(Settings(database_url=fresh_database.url))
    with TestClient(app, headers=headers(fresh_database)) as made:
        yield made


def kept(client: TestClient, note_id: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/api/notes/{note_id}").json()["note"]
    return found


def test_a_json_note_keeps_what_came_with_it(client: TestClient) -> None:
    note = {
        "id": "n1", "document_type": "referral", "department": "内科", "date": "2026-04-01", "patient": PATIENT,
        "text": "肺炎。", "encounter": ENCOUNTER, "physician": PHYSICIAN, "recipient": RECIPIENT,
    }  # fmt: skip
    answer = client.post("/api/notes", json=note)
    assert answer.status_code == 202, answer.text
    assert kept(client, answer.json()["note_id"]) == note
    assert client.post("/api/notes", json=note).status_code == 200
    assert client.post("/api/notes", json={**note, "recipient": None}).status_code == 202


def test_a_note_without_it_is_still_the_same_note(client: TestClient, fresh_database_url: str) -> None:
    bare = {key: PATIENT[key] for key in ("id", "family", "given", "sex", "birth_date")}
    note = {"id": "n2", "document_type": "progress", "department": "内科", "date": "2026-04-01", "text": "肺炎。"}
    first = client.post("/api/notes", json={**note, "patient": bare})
    again = client.post("/api/notes", json={**note, "patient": {**bare, "address": None}, "encounter": None})
    assert (first.status_code, again.status_code) == (202, 200)
    database = Database(fresh_database_url)
    with database.session_scope() as session:
        row = session.get(Note, UUID(first.json()["note_id"]))
        # The fingerprint that this note had before the fields were known; stored notes must go on being recognised.
        assert row is not None
        assert row.content_sha256 == "5682b7d3afc7152caac42925a0f409e9a5583e1fb71e9eaef7bf58fe7e5ece36"
    database.dispose()


def test_a_document_reference_brings_it_too(client: TestClient) -> None:
    answer = client.post("/fhir/DocumentReference", json=DOCUMENT)
    assert answer.status_code == 202, answer.text
    note_id = client.get(f"/api/jobs/{answer.json()['id']}").json()["note_id"]
    found = kept(client, note_id)
    assert found["patient"] == PATIENT
    assert found["encounter"] == ENCOUNTER and found["physician"] == PHYSICIAN and "recipient" not in found


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("contained", 1, "class"), {}, "context.encounter: the Encounter's class is missing"),
        (("contained", 1, "id"), "other", "contained: has no Encounter of the id that is referred to"),
        (("contained", 0, "identifier", 0, "value"), "秘密", "patient.insurance_id: must be insurer (8 digits)"),
        (("contained", 2, "name"), [], "physician.family"),
    ],
)
def test_a_fault_in_it_is_named(client: TestClient, path: tuple[Any, ...], value: Any, reason: str) -> None:
    document = copy.deepcopy(DOCUMENT) | {"identifier": [{"value": uuid4().hex}]}
    place: Any = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    answer = client.post("/fhir/DocumentReference", json=document)
    assert answer.status_code == 422, answer.text
    assert reason in answer.text and "秘密" not in answer.text
