"""The rules of single interactions: https://hl7.org/fhir/R4/http.html. docs/fhir-rest.md names each."""

import json
from collections.abc import Iterator
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from uuid import uuid4

import pytest
from fhir_server import JSON, SYSTEM, Json, converted, created, number, observation, patient, refused, send, server
from sign_in import principal
from starlette.testclient import TestClient

from app.db import Database
from schemas.access import Role

NOWHERE = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def client(database: Database) -> Iterator[TestClient]:
    with server(database) as client:
        yield client


def path_of(resource: Json) -> str:
    return f"/fhir/{resource['resourceType']}/{resource['id']}"


# --- create, read, vread ----------------------------------------------------------------------------------------------


def test_create_answers_201_with_location_etag_and_last_modified(client: TestClient) -> None:
    sent = patient(id="mine", meta={"versionId": "77", "lastUpdated": "2001-01-01T00:00:00Z"})
    response = send(client, "POST", "/fhir/Patient", sent)
    assert response.status_code == 201
    made = response.json()
    assert made["id"] != "mine" and made["meta"]["versionId"] == "1"
    assert not made["meta"]["lastUpdated"].startswith("2001")
    assert response.headers["location"] == f"http://testserver/fhir/Patient/{made['id']}/_history/1"
    assert response.headers["etag"] == 'W/"1"'
    stored_at = datetime.fromisoformat(made["meta"]["lastUpdated"]).replace(microsecond=0)
    assert parsedate_to_datetime(response.headers["last-modified"]) == stored_at


def test_read_vread_and_update_give_the_etag_of_the_version(client: TestClient) -> None:
    made = created(client, patient())
    changed = send(client, "PUT", path_of(made), made | {"gender": "male"})
    assert (changed.status_code, changed.headers["etag"]) == (200, 'W/"2"')
    for path, version in ((path_of(made), "2"), (f"{path_of(made)}/_history/1", "1"), (f"{path_of(made)}/_history/2", "2")):
        answer = client.get(path)
        assert answer.status_code == 200 and answer.headers["etag"] == f'W/"{version}"'
        meta = answer.json()["meta"]
        assert meta["versionId"] == version
        at = datetime.fromisoformat(meta["lastUpdated"]).replace(microsecond=0)
        assert parsedate_to_datetime(answer.headers["last-modified"]) == at


def test_if_match_refuses_a_stale_version_and_what_names_none(client: TestClient) -> None:
    made = created(client, patient())
    assert send(client, "PUT", path_of(made), made, if_match='W/"1"').status_code == 200
    refused(send(client, "PUT", path_of(made), made, if_match='W/"1"'), 412, "conflict")
    refused(send(client, "PUT", path_of(made), made, if_match="one"), 400)
    refused(client.delete(path_of(made), headers={"If-Match": 'W/"1"'}), 412)
    assert client.get(path_of(made)).headers["etag"] == 'W/"2"'
    refused(send(client, "PUT", f"/fhir/Patient/{uuid4()}", made, if_match='W/"1"'), 400)


def test_conditional_read_answers_304(client: TestClient) -> None:
    path = path_of(created(client, patient()))
    read = client.get(path)
    for stated in (
        {"If-None-Match": 'W/"1"'}, {"If-None-Match": '"9", "1"'}, {"If-None-Match": "*"},
        {"If-Modified-Since": read.headers["last-modified"]},
    ):  # fmt: skip
        same = client.get(path, headers=stated)
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", 'W/"1"'), stated
    for stated in (
        {"If-None-Match": 'W/"2"'}, {"If-Modified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"}, {"If-Modified-Since": "soon"},
        {"If-None-Match": 'W/"2"', "If-Modified-Since": read.headers["last-modified"]},
    ):  # fmt: skip
        assert client.get(path, headers=stated).status_code == 200, stated


def test_update_needs_the_id_of_the_url_and_creates_what_is_not_there(client: TestClient) -> None:
    id_ = f"own-{number()}"
    refused(send(client, "PUT", f"/fhir/Patient/{id_}", patient()), 400)
    refused(send(client, "PUT", f"/fhir/Patient/{id_}", patient(id="other")), 400)
    refused(send(client, "PUT", f"/fhir/Patient/{id_}", {"resourceType": "Group", "id": id_}), 400)
    refused(client.get(f"/fhir/Patient/{id_}"), 404)
    new = send(client, "PUT", f"/fhir/Patient/{id_}", patient(id=id_))
    assert new.status_code == 201 and new.headers["location"].endswith(f"/fhir/Patient/{id_}/_history/1")
    statement = client.get("/fhir/metadata").json()
    assert all(r["updateCreate"] for r in statement["rest"][0]["resource"] if "updateCreate" in r)


# --- conditions -------------------------------------------------------------------------------------------------------


def test_conditional_create_makes_one_finds_one_or_fails(client: TestClient) -> None:
    value = number()
    condition = f"identifier={SYSTEM}|{value}"
    first = send(client, "POST", "/fhir/Patient", patient(value), if_none_exist=condition)
    again = send(client, "POST", "/fhir/Patient", patient(value, gender="male"), if_none_exist=f"Patient?{condition}")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json() and again.headers["location"] == first.headers["location"]
    created(client, patient(value))
    refused(send(client, "POST", "/fhir/Patient", patient(value), if_none_exist=condition), 412)
    assert client.get(f"/fhir/Patient?identifier={value}&_summary=count").json()["total"] == 2


def test_conditional_update_creates_updates_or_fails(client: TestClient) -> None:
    value = number()
    url = f"/fhir/Patient?identifier={SYSTEM}|{value}"
    new = send(client, "PUT", url, patient(value))
    assert new.status_code == 201
    id_ = new.json()["id"]
    changed = send(client, "PUT", url, patient(value, gender="male"))
    assert (changed.status_code, changed.json()["id"], changed.headers["etag"]) == (200, id_, 'W/"2"')
    assert send(client, "PUT", url, patient(value, id=id_)).status_code == 200
    refused(send(client, "PUT", url, patient(value, id="another")), 400)
    refused(send(client, "PUT", url, patient(value), if_match='W/"1"'), 412)
    created(client, patient(value))
    refused(send(client, "PUT", url, patient(value)), 412)
    own, other = f"own-{number()}", number()
    chosen = send(client, "PUT", f"/fhir/Patient?identifier={other}", patient(other, id=own))
    assert (chosen.status_code, chosen.json()["id"]) == (201, own)


def test_conditional_delete_removes_one_and_never_some(client: TestClient) -> None:
    value = number()
    kept = [created(client, patient(value)) for _ in range(2)]
    refused(client.delete(f"/fhir/Patient?identifier={value}"), 412)
    assert all(client.get(path_of(one)).status_code == 200 for one in kept)
    client.delete(path_of(kept[0]))
    assert client.delete(f"/fhir/Patient?identifier={value}").status_code == 204
    refused(client.get(path_of(kept[1])), 410)
    assert client.delete(f"/fhir/Patient?identifier={value}").status_code == 204


@pytest.mark.parametrize("condition", ["", "nothing=1", "identifier=", "identifier:nothing=1", "_sort=name", "_count=1"])
def test_a_condition_that_cannot_be_searched_by_fails(client: TestClient, condition: str) -> None:
    before = client.get("/fhir/Patient?_summary=count").json()["total"]
    refused(send(client, "POST", "/fhir/Patient", patient(), if_none_exist=condition), 400)
    refused(send(client, "PUT", f"/fhir/Patient?{condition}", patient()), 400)
    refused(client.delete(f"/fhir/Patient?{condition}"), 400)
    assert client.get("/fhir/Patient?_summary=count").json()["total"] == before


def test_a_create_with_search_parameters_is_refused(client: TestClient) -> None:
    value = number()
    told = refused(send(client, "POST", f"/fhir/Patient?identifier={value}", patient(value)), 400)
    assert "If-None-Exist" in told
    assert client.get(f"/fhir/Patient?identifier={value}").json()["total"] == 0


# --- delete and history -----------------------------------------------------------------------------------------------


def test_deleted_is_410_unknown_is_404_and_put_brings_back(client: TestClient) -> None:
    value = number()
    made = created(client, patient(value))
    path = path_of(made)
    assert client.delete(path).status_code == 204
    assert client.delete(path).status_code == 204
    assert client.delete(f"/fhir/Patient/{uuid4()}").status_code == 204
    refused(client.get(path), 410, "deleted")
    refused(client.get(f"/fhir/Patient/{uuid4()}"), 404, "not-found")
    assert client.get(f"/fhir/Patient?identifier={value}").json()["total"] == 0
    back = send(client, "PUT", path, made)
    assert (back.status_code, back.headers["etag"]) == (201, 'W/"3"')
    assert client.get(f"/fhir/Patient?identifier={value}").json()["total"] == 1
    outcome = client.delete(path, headers={"Prefer": "return=OperationOutcome"})
    assert outcome.status_code == 200 and outcome.json()["resourceType"] == "OperationOutcome"


def test_vread_of_a_deletion_is_410_and_of_no_version_404(client: TestClient) -> None:
    path = path_of(created(client, patient()))
    client.delete(path)
    assert client.get(f"{path}/_history/1").status_code == 200
    refused(client.get(f"{path}/_history/2"), 410, "deleted")
    for unknown in ("3", "0", "x", "1.0", "99999999999999999999"):
        refused(client.get(f"{path}/_history/{unknown}"), 404, "not-found")


def test_history_of_instance_type_and_system(client: TestClient) -> None:
    made = created(client, patient())
    path = path_of(made)
    send(client, "PUT", path, made | {"gender": "male"})
    client.delete(path)
    found = client.get(f"{path}/_history").json()
    assert (found["type"], found["total"]) == ("history", 3)
    methods = [one["request"]["method"] for one in found["entry"]]
    assert methods == ["DELETE", "PUT", "POST"]  # newest first
    assert "resource" not in found["entry"][0] and found["entry"][1]["resource"]["meta"]["versionId"] == "2"
    assert [one["response"]["etag"] for one in found["entry"]] == ['W/"3"', 'W/"2"', 'W/"1"']
    assert all(one["fullUrl"] == f"http://testserver{path}" for one in found["entry"])
    refused(client.get(f"/fhir/Patient/{uuid4()}/_history"), 404)

    created(client, observation(f"Patient/{made['id']}"))
    for place in ("/fhir/Patient/_history", "/fhir/_history"):
        seen = client.get(f"{place}?_count=2").json()
        assert len(seen["entry"]) == 2 and seen["total"] >= 3
        links = {link["relation"]: link["url"] for link in seen["link"]}
        after = client.get(links["next"]).json()
        ids = {(e["fullUrl"], e["response"]["etag"]) for e in seen["entry"]}
        assert not ids & {(e["fullUrl"], e["response"]["etag"]) for e in after["entry"]}
    types = {e["fullUrl"].split("/")[-2] for e in client.get("/fhir/_history?_count=5").json()["entry"]}
    assert types >= {"Patient", "Observation"}


def test_history_since_count_and_bad_parameters(client: TestClient) -> None:
    made = created(client, patient())
    path = path_of(made)
    send(client, "PUT", path, made)
    second = client.get(path).json()["meta"]["lastUpdated"]
    since = client.get(f"{path}/_history", params={"_since": second}).json()
    assert [e["response"]["etag"] for e in since["entry"]] == ['W/"2"'] and since["total"] == 1
    counted = client.get(f"{path}/_history?_count=0").json()
    assert counted["total"] == 2 and "entry" not in counted
    for bad in ("_since=yesterday", "_since=2026-01-01", "_count=-1", "_count=x", "_cursor=x"):
        refused(client.get(f"{path}/_history?{bad}"), 400)


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path", "headers", "status"), [
    ("GET", "/fhir/Patient?birthdate=never", {}, 400),
    ("GET", "/fhir/Patient/1", {"Authorization": "Bearer wrong"}, 401),
    ("GET", "/fhir/Patient/unknown", {}, 404),
    ("GET", "/fhir/Nothing", {}, 404),
    ("GET", "/fhir/Patient/a/b/c/d", {}, 404),
    ("GET", "/fhir/Patient/$nothing", {}, 404),
    ("POST", "/fhir/Patient/1/$nothing", {}, 404),
    ("POST", "/fhir/Patient/$nothing", {}, 404),
    ("POST", "/fhir/Patient/1", {}, 405),
    ("PATCH", "/fhir/metadata", {}, 405),
    ("GET", "/fhir", {}, 405),
    ("DELETE", "/fhir/Task/1", {}, 405),
    ("GET", "/fhir/Patient", {"Accept": "application/fhir+xml"}, 406),
    ("POST", "/fhir/Patient", {"Content-Type": "application/fhir+xml"}, 415),
])  # fmt: skip
def test_every_error_is_an_operation_outcome(
    client: TestClient, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    response = client.request(method, path, headers=headers, content=b"{}" if method in ("POST", "PATCH") else None)
    refused(response, status)
    if status == 405:
        assert method not in response.headers["allow"].split(", ") and response.headers["allow"]


def test_400_for_what_is_no_resource_and_422_for_a_broken_rule(client: TestClient) -> None:
    for body in (b"", b"{", b"[]", b'"x"', b"\xff", b'{"resourceType":"Patient","active":tru}', b"[" * 5000):
        refused(send(client, "POST", "/fhir/Patient", body), 400)
    for broken in (
        {"resourceType": "Patient", "unknown": 1}, {"resourceType": "Patient", "birthDate": "1950-02-30"},
        {"resourceType": "Patient", "name": {"family": "x"}}, {"resourceType": "Observation", "status": "final"},
        {"resourceType": "Patient", "name": []}, {"resourceType": 1}, {}, {"resourceType": "Patient", "contained": [{}]},
        {"resourceType": "Patient", "contained": [{"resourceType": "FooType"}]},
    ):  # fmt: skip
        type_ = "Observation" if broken.get("resourceType") == "Observation" else "Patient"
        refused(send(client, "POST", f"/fhir/{type_}", json.dumps(broken)), 400)
    told = refused(send(client, "POST", "/fhir/Patient", patient(gender="unheard")), 422, "code-invalid")
    assert "Patient.gender" in told and "unheard" not in told
    refused(send(client, "POST", "/fhir/Nothing", {"resourceType": "Nothing"}), 404)


def test_an_id_that_can_be_none_is_404(client: TestClient) -> None:
    refused(client.get("/fhir/Patient/a%00b"), 400)
    for id_ in ("a_b", "x" * 65, "%E3%81%82", "%FF"):
        for path in (f"/fhir/Patient/{id_}", f"/fhir/Patient/{id_}/_history", f"/fhir/Patient/{id_}/_history/1", f"/fhir/Patient/{id_}/$everything"):
            refused(client.get(path), 404)
        refused(client.delete(f"/fhir/Patient/{id_}"), 404)
        refused(client.patch(f"/fhir/Patient/{id_}", json={}), 404)
        refused(send(client, "PUT", f"/fhir/Patient/{id_}", patient(id=id_)), 404)


@pytest.mark.parametrize("digits", ["1e999999999", "1e-999999999", "1" * 70, "0." + "1" * 70, "NaN", "-Infinity"])
def test_numbers_that_cannot_be_stored_are_400(client: TestClient, digits: str) -> None:
    body = json.dumps(observation("Patient/1", "1"), default=int).replace('"value": 1', f'"value": {digits}')
    assert digits in body
    refused(send(client, "POST", "/fhir/Observation", body), 400)


@pytest.mark.parametrize("text", ["a\u0000b", "\ud800"])
def test_characters_that_cannot_be_stored_are_400(client: TestClient, text: str) -> None:
    for body in (patient(name=[{"family": text}]), patient() | {text: 1}):
        refused(send(client, "POST", "/fhir/Patient", json.dumps(body)), 400)


def test_a_nesting_that_is_too_deep_is_400(client: TestClient) -> None:
    deep = '{"extension":[' * 200 + "{}" + "]}" * 200
    refused(send(client, "POST", "/fhir/Patient", '{"resourceType":"Patient","extension":[' + deep + "]}"), 400)


def test_a_resource_that_a_conversion_wrote_is_changed_in_its_review_only(client: TestClient, database: Database) -> None:
    path = f"/fhir/Observation/{converted(database, release=True)}"
    read = client.get(path).json()
    told = refused(send(client, "PUT", path, observation("Patient/1", id=read["id"])), 409, "conflict")
    assert "review" in told
    refused(client.delete(path), 409)
    assert client.get(path).json() == read


def test_no_operation_outcome_quotes_what_was_sent(client: TestClient) -> None:
    secret = "秘密の病名"
    for body in (patient(gender=secret), patient() | {secret: 1}, patient(birthDate=secret), {"resourceType": secret}):
        assert secret not in send(client, "POST", "/fhir/Patient", body).text
    assert secret not in client.get("/fhir/Patient", params={"birthdate": secret}).text


# --- negotiation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accept", [
    "application/fhir+json", "application/json", "text/json", "*/*", "application/fhir+json;q=0.9, text/html",
])  # fmt: skip
def test_json_in_all_its_names_is_answered(client: TestClient, accept: str) -> None:
    answer = client.get("/fhir/Patient?_count=1", headers={"Accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/fhir+json")


@pytest.mark.parametrize("written", ["application/json", "application/fhir+json; charset=utf-8", "text/json"])
def test_json_in_all_its_names_is_taken(client: TestClient, written: str) -> None:
    body = json.dumps(patient())
    assert client.post("/fhir/Patient", content=body, headers={"Content-Type": written}).status_code == 201
    for other in ("application/fhir+xml", "text/plain", "application/fhir+json; charset=shift_jis"):
        refused(client.post("/fhir/Patient", content=body, headers={"Content-Type": other}), 415)


def test_format_goes_before_accept_and_not_before_content_type(client: TestClient) -> None:
    for wanted in ("json", "application/json", "application/fhir+json", "application/fhir%2Bjson"):
        answer = client.get(f"/fhir/Patient?_count=0&_format={wanted}", headers={"Accept": "application/fhir+xml"})
        assert answer.status_code == 200
    refused(client.get("/fhir/Patient?_format=xml"), 406)
    refused(client.post("/fhir/Patient?_format=json", content=b"<x/>", headers={"Content-Type": "text/xml"}), 415)


def test_pretty_is_on_many_lines_with_the_same_digits(client: TestClient) -> None:
    path = path_of(created(client, observation("Patient/1")))
    plain, pretty = client.get(path), client.get(f"{path}?_pretty=true")
    assert plain.text.count("\n") == 0 and pretty.text.count("\n") > 10
    assert pretty.json() == plain.json() and '"value": 1.10' in pretty.text


def test_the_version_of_fhir_is_4_0(client: TestClient) -> None:
    assert client.get("/fhir/Patient", headers={"Accept": "application/fhir+json; fhirVersion=4.0"}).status_code == 200
    refused(client.get("/fhir/Patient", headers={"Accept": "application/fhir+json; fhirVersion=3.0"}), 406)
    for version, status in (("4.0", 201), ("5.0", 415)):
        stated = {"Content-Type": f"application/fhir+json; fhirVersion={version}"}
        assert client.post("/fhir/Patient", content=json.dumps(patient()), headers=stated).status_code == status


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_prefer_says_what_comes_back(client: TestClient, method: str) -> None:
    made = created(client, patient())

    def change(preferred: str) -> Any:
        if method == "POST":
            return send(client, "POST", "/fhir/Patient", patient(), prefer=preferred)
        if method == "PUT":
            return send(client, "PUT", path_of(made), made, prefer=preferred)
        return client.patch(path_of(made), json={"gender": "male"}, headers={"Prefer": preferred})

    nothing = change("return=minimal")
    assert nothing.content == b"" and nothing.headers["etag"] and nothing.headers["location"]
    assert change("return=representation").json()["resourceType"] == "Patient"
    assert change("respond-async;x=1, return=OperationOutcome").json()["resourceType"] == "OperationOutcome"
    assert change("nothing=known").json()["resourceType"] == "Patient"


def test_a_slash_after_the_type_is_the_same_and_no_redirect(client: TestClient) -> None:
    value = number()
    assert send(client, "POST", "/fhir/Patient/", patient(value)).status_code == 201
    assert client.get(f"/fhir/Patient/?identifier={value}").json()["total"] == 1
    empty = {"resourceType": "Bundle", "type": "batch"}
    assert send(client, "POST", "/fhir/", empty).json()["type"] == "batch-response"


def test_head_is_get_without_the_body(client: TestClient) -> None:
    made = created(client, patient())
    path = path_of(made)
    for each in (path, f"{path}/_history/1", f"{path}/_history", f"/fhir/Patient?_id={made['id']}", "/fhir/metadata"):
        whole, head = client.get(each), client.head(each)
        assert (head.status_code, head.content) == (200, b"")
        for name in ("content-length", "content-type", "etag"):
            assert head.headers.get(name) == whole.headers.get(name), each
    assert client.head(f"/fhir/Patient/{uuid4()}").status_code == 404


# --- patch ------------------------------------------------------------------------------------------------------------

JSON_PATCH = {"Content-Type": "application/json-patch+json"}


def test_json_patch_changes_or_changes_nothing(client: TestClient) -> None:
    path = path_of(created(client, observation("Patient/1")))
    done = client.patch(path, headers=JSON_PATCH, content=json.dumps([
        {"op": "test", "path": "/status", "value": "final"}, {"op": "replace", "path": "/status", "value": "amended"},
    ]))  # fmt: skip
    assert (done.status_code, done.headers["etag"], done.json()["status"]) == (200, 'W/"2"', "amended")
    assert '"value":1.10' in done.text
    before = client.get(path).json()
    for operations, status in (
        ([{"op": "replace", "path": "/status", "value": "final"}, {"op": "test", "path": "/status", "value": "x"}], 422),
        ([{"op": "remove", "path": "/nothing"}], 422), ([{"op": "replace", "path": "/id", "value": "x"}], 422),
        ([{"op": "replace", "path": "/status", "value": "unheard"}], 422), ([{"op": "remove", "path": "/status"}], 400),
        ({"op": "remove"}, 400), ([{"op": "jump", "path": "/status"}], 400), ("x", 400),
    ):  # fmt: skip
        refused(client.patch(path, headers=JSON_PATCH, content=json.dumps(operations)), status)
    assert client.get(path).json() == before


def test_merge_patch_as_fhirpy_sends_it(client: TestClient) -> None:
    path = path_of(created(client, patient()))
    for media in ("application/json", "application/merge-patch+json"):
        done = client.patch(path, headers={"Content-Type": media}, content=json.dumps({"gender": None, "active": True}))
        assert done.status_code == 200 and done.json()["active"] is True and "gender" not in done.json()


def test_patch_of_other_types_is_415_and_honours_if_match(client: TestClient) -> None:
    path = path_of(created(client, patient()))
    for media in ("application/fhir+json", "text/plain", "application/xml-patch+xml"):
        refused(client.patch(path, headers={"Content-Type": media}, content=b"{}"), 415)
    body = json.dumps({"active": True})
    refused(client.patch(path, content=body, headers={"Content-Type": "application/json", "If-Match": 'W/"7"'}), 412)
    kept = client.patch(path, content=body, headers={"Content-Type": "application/json", "If-Match": 'W/"1"'})
    assert kept.status_code == 200
    refused(client.patch(f"/fhir/Patient/{uuid4()}", content=body, headers={"Content-Type": "application/json"}), 404)
    client.delete(path)
    refused(client.patch(path, content=body, headers={"Content-Type": "application/json"}), 410)


def test_conditional_patch_of_the_one_that_is_found(client: TestClient) -> None:
    value = number()
    url, body, stated = f"/fhir/Patient?identifier={value}", json.dumps({"active": True}), {"Content-Type": "application/json"}
    refused(client.patch(url, content=body, headers=stated), 404)
    created(client, patient(value))
    assert client.patch(url, content=body, headers=stated).json()["active"] is True
    created(client, patient(value))
    refused(client.patch(url, content=body, headers=stated), 412)
    refused(client.patch("/fhir/Patient", content=body, headers=stated), 400)


# --- decimals, drafts, rights -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("digits", ["1.10", "100.0", "0.000001", "123456789012345678901234567890"])
def test_decimals_keep_their_digits_on_every_way(client: TestClient, digits: str) -> None:
    value = number()
    made = created(client, patient(value))
    response = send(client, "POST", "/fhir/Observation", observation(f"Patient/{made['id']}", digits))
    path = path_of(response.json())
    ways = [
        response.text,
        client.get(path).text,
        client.get(f"{path}/_history").text,
        client.get(f"/fhir/Observation?subject=Patient/{made['id']}").text,
        client.get(f"/fhir/Patient/{made['id']}/$everything").text,
        send(client, "PUT", path, client.get(path).content).text,
        client.patch(path, json={"status": "amended"}).text,
    ]
    assert all(f'"value":{digits}' in way for way in ways)


def test_a_draft_is_shown_marked_and_only_to_those_who_may(client: TestClient, database: Database) -> None:
    id_ = converted(database, release=False)
    tag = {"system": "http://hyojun.local/fhir/CodeSystem/release", "code": "draft"}
    seen = client.get(f"/fhir/Observation/{id_}").json()
    assert tag.items() <= seen["meta"]["tag"][0].items()
    with server(database, principal(Role.INTEGRATOR)) as integrator:
        refused(integrator.get(f"/fhir/Observation/{id_}"), 404)
        assert integrator.get(f"/fhir/Observation?_id={id_}").json()["total"] == 0
        refused(integrator.get(f"/fhir/Observation/{id_}/_history"), 404)
        released = converted(database, release=True)
        shown = integrator.get(f"/fhir/Observation/{released}").json()
        assert "tag" not in shown["meta"]


def test_scopes_are_seen_in_every_answer(client: TestClient, database: Database) -> None:
    value = number()
    made = created(client, patient(value))
    seen = created(client, observation(f"Patient/{made['id']}"))
    with server(database, principal(scopes=["system/Observation.rs"])) as reader:
        assert reader.get(f"/fhir/Observation/{seen['id']}").status_code == 200
        for method, path in (
            ("GET", f"/fhir/Patient/{made['id']}"), ("GET", "/fhir/Patient"), ("GET", "/fhir/Patient/_history"),
            ("GET", f"/fhir/Patient/{made['id']}/_history/1"), ("POST", "/fhir/Patient/_search"),
            ("GET", f"/fhir/Patient/{made['id']}/$everything"), ("DELETE", f"/fhir/Observation/{seen['id']}"),
            ("GET", f"/fhir/Observation?patient.identifier={value}"), ("GET", f"/fhir/Observation?_has:DiagnosticReport:result:_id={NOWHERE}"),
        ):  # fmt: skip
            stated = {"Content-Type": "application/x-www-form-urlencoded"} if method == "POST" else {}
            refused(reader.request(method, path, headers=stated), 403, "forbidden")
        refused(send(reader, "POST", "/fhir/Observation", observation("Patient/1")), 403)
        refused(send(reader, "PUT", f"/fhir/Observation/{seen['id']}", seen), 403)
        refused(reader.patch(f"/fhir/Observation/{seen['id']}", json={"status": "final"}), 403)
        found = reader.get(f"/fhir/Observation?_id={seen['id']}&_include=Observation:subject").json()
        assert [e["search"]["mode"] for e in found["entry"]] == ["match"] and found["total"] == 1
        assert {e["fullUrl"].split("/")[-2] for e in reader.get("/fhir/_history").json()["entry"]} == {"Observation"}
    with server(database, principal(Role.ADMIN)) as admin:
        refused(admin.get(f"/fhir/Observation/{seen['id']}"), 403)
        refused(admin.get("/fhir/_history"), 403)


def test_without_a_token_only_the_capabilities_are_shown(client: TestClient) -> None:
    nobody = {"Authorization": ""}
    for method, path in (("GET", "/fhir/Patient"), ("GET", "/fhir/Patient/1"), ("POST", "/fhir"), ("DELETE", "/fhir/Patient/1")):
        answer = client.request(method, path, headers=nobody | JSON)
        refused(answer, 401, "login")
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert client.get("/fhir/metadata", headers=nobody).status_code == 200
