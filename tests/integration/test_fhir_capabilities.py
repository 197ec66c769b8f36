"""The CapabilityStatement is true: what it declares is there, and what is there is declared."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from fhir_server import created, observation, refused, send, server
from starlette.testclient import TestClient

from app.db import Database
from app.fhir import check
from app.store.parameters import STORED_TYPES

VALUES = {"token": "x", "reference": "Patient/1", "string": "x", "date": "2026", "quantity": "1", "uri": "http://x"}


@pytest.fixture(scope="module")
def client(database: Database) -> Iterator[TestClient]:
    with server(database) as client:
        yield client


@pytest.fixture(scope="module")
def statement(client: TestClient) -> dict[str, Any]:
    response = client.get("/fhir/metadata", headers={"Authorization": ""})
    assert response.status_code == 200
    found: dict[str, Any] = response.json()
    return found


def resources(statement: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {entry["type"]: entry for entry in statement["rest"][0]["resource"]}


def test_it_is_a_valid_statement_of_r4_without_login(statement: dict[str, Any]) -> None:
    assert (statement["resourceType"], statement["fhirVersion"], statement["kind"]) == ("CapabilityStatement", "4.0.1", "instance")
    assert [issue for issue in check(statement, foreign=True) if issue.severity in ("error", "fatal")] == []
    assert set(statement["format"]) == {"application/fhir+json", "json"}
    security = statement["rest"][0]["security"]
    assert security["service"][0]["coding"][0]["code"] == "SMART-on-FHIR"
    assert security["extension"][0]["extension"][0] == {"url": "token", "valueUri": "http://testserver/auth/token"}


def test_its_etag_changes_with_its_content(client: TestClient) -> None:
    first = client.get("/fhir/metadata")
    again = client.get("/fhir/metadata", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = client.get("/fhir/metadata", headers={"Host": "elsewhere.example"})
    assert other.headers["etag"] != first.headers["etag"] and other.json() != first.json()


def test_every_declared_interaction_answers(client: TestClient, statement: dict[str, Any]) -> None:
    declared = resources(statement)
    assert set(STORED_TYPES) <= set(declared)
    for type_ in STORED_TYPES:
        codes = {interaction["code"] for interaction in declared[type_]["interaction"]}
        assert codes == {
            "read", "vread", "update", "patch", "delete", "history-instance", "history-type", "create", "search-type",
        }  # fmt: skip
        unknown = f"/fhir/{type_}/{uuid4()}"
        refused(client.get(unknown), 404, "not-found")
        assert client.get(f"/fhir/{type_}?_count=0").json()["total"] >= 0
    # The routes are the same for all of them.
    for type_ in ("Group", "QuestionnaireResponse", "DocumentReference"):
        unknown = f"/fhir/{type_}/{uuid4()}"
        refused(client.get(f"{unknown}/_history/1"), 404, "not-found")
        refused(client.get(f"{unknown}/_history"), 404, "not-found")
        assert client.get(f"/fhir/{type_}/_history?_count=0").json()["type"] == "history"
        assert client.delete(unknown).status_code == 204
        wrong = {"resourceType": type_, "nothing": 1}
        assert send(client, "PUT", unknown, wrong | {"id": unknown.split("/")[-1]}).status_code == 400
        assert send(client, "POST", f"/fhir/{type_}", wrong).status_code == (422 if type_ == "DocumentReference" else 400)
    for type_ in ("Task", "CodeSystem"):
        codes = {interaction["code"] for interaction in declared[type_]["interaction"]}
        assert codes == ({"read"} if type_ == "Task" else {"read", "search-type"})
        refused(client.get(f"/fhir/{type_}/{uuid4()}"), 404)
        refused(client.delete(f"/fhir/{type_}/{uuid4()}"), 405)


def test_every_declared_parameter_is_searched_by(client: TestClient, statement: dict[str, Any]) -> None:
    """All of one type at once: none is unknown to the server, which under `handling=strict` refuses those."""
    for type_, entry in resources(statement).items():
        if type_ not in STORED_TYPES:
            continue
        for parameter in entry["searchParam"]:
            assert parameter["definition"].startswith("http://hl7.org/fhir/SearchParameter/")
        query = [(p["name"], VALUES[p["type"]]) for p in entry["searchParam"]][:95]
        found = client.get(f"/fhir/{type_}", params=query, headers={"Prefer": "handling=strict"})
        assert found.status_code == 200, (type_, found.text)
        beside = [("_include", name) for name in entry.get("searchInclude", ())]
        beside += [("_revinclude", name) for name in entry["searchRevInclude"]]
        for asked in (beside[:95], beside[95:190]):
            answer = client.get(f"/fhir/{type_}", params=asked, headers={"Prefer": "handling=strict"})
            assert answer.status_code == 200, (type_, answer.text)


def test_every_declared_operation_answers_and_every_route_is_declared(
    client: TestClient, statement: dict[str, Any]
) -> None:
    [rest] = statement["rest"]
    declared = {(entry["type"], o["name"]) for entry in rest["resource"] for o in entry.get("operation", ())}
    declared |= {("", o["name"]) for o in rest["operation"]}
    validates = {(type_, "validate") for type_ in ("", *STORED_TYPES)}
    assert declared == validates | {
        ("Patient", "everything"), ("Patient", "clins-bundle"), ("DocumentReference", "document"),
        ("DocumentReference", "standardize"), ("CodeSystem", "lookup"), ("ValueSet", "expand"), ("ConceptMap", "translate"),
        ("", "export"), ("Patient", "export"), ("Group", "export"),
    }  # fmt: skip
    for type_, name in sorted(validates)[::8]:
        place = "/".join(part for part in ("/fhir", type_, f"${name}") if part)
        assert send(client, "POST", place, {"resourceType": type_ or "Basic"}).status_code == 200
    for method, path, status in (
        ("GET", "/fhir/CodeSystem/$lookup", 400), ("GET", "/fhir/ValueSet/$expand", 400),
        ("GET", "/fhir/ConceptMap/$translate", 400), ("GET", f"/fhir/Patient/{uuid4()}/$everything", 404),
        ("GET", f"/fhir/Patient/{uuid4()}/$clins-bundle?type=Condition", 404),
        ("GET", f"/fhir/DocumentReference/{uuid4()}/$document", 404), ("GET", "/fhir/$export", 400),
        ("GET", "/fhir/Patient/$export", 400), ("POST", "/fhir/DocumentReference/$standardize", 400),
    ):  # fmt: skip
        refused(client.request(method, path), status)


def test_validate_answers_200_also_for_what_is_invalid(client: TestClient) -> None:
    for body in ({"resourceType": "Patient", "nothing": 1}, observation("Patient/1")):
        answer = send(client, "POST", f"/fhir/{body['resourceType']}/$validate", body)
        assert answer.status_code == 200 and answer.json()["resourceType"] == "OperationOutcome"


def test_the_statement_says_how_writing_works(statement: dict[str, Any], client: TestClient) -> None:
    for type_, entry in resources(statement).items():
        if type_ not in STORED_TYPES:
            continue
        assert entry["versioning"] == "versioned" and entry["readHistory"] is entry["updateCreate"] is True
        assert entry["conditionalCreate"] is (type_ != "DocumentReference") and entry["conditionalDelete"] == "single"
    [rest] = statement["rest"]
    assert {interaction["code"] for interaction in rest["interaction"]} == {"transaction", "batch", "history-system"}
    made = created(client, observation("Patient/1"))
    for media in statement["patchFormat"]:
        body = '[{"op":"test","path":"/status","value":"final"}]' if "json-patch" in media else "{}"
        answer = client.patch(f"/fhir/Observation/{made['id']}", content=body, headers={"Content-Type": media})
        assert answer.status_code == 200, media
    refused(client.get("/fhir?_type=Patient"), 405)  # search-system is not declared
