"""Transactions and batches: https://hl7.org/fhir/R4/http.html#transaction. docs/fhir-rest.md names each rule."""

import base64
import json
import threading
from collections.abc import Iterator
from itertools import permutations
from typing import Any
from uuid import uuid4

import pytest
from fhir_server import SYSTEM, Json, bundle, created, entry, number, observation, patient, refused, send, server
from sign_in import principal
from sqlalchemy import func, select
from starlette.testclient import TestClient

from app.db import Database
from models import Resource


@pytest.fixture(scope="module")
def client(database: Database) -> Iterator[TestClient]:
    with server(database) as client:
        yield client


def urn() -> str:
    return f"urn:uuid:{uuid4()}"


def done(client: TestClient, *entries: Json, type_: str = "transaction", **stated: str) -> list[Json]:
    response = send(client, "POST", "/fhir", bundle(*entries, type_=type_), **stated)
    assert response.status_code == 200, response.text
    body = response.json()
    assert (body["resourceType"], body["type"]) == ("Bundle", f"{type_}-response")
    answered: list[Json] = body["entry"]
    assert len(answered) == len(entries)
    return answered


def failed(client: TestClient, *entries: Json, status: int) -> str:
    return refused(send(client, "POST", "/fhir", bundle(*entries)), status)


def statuses(answered: list[Json]) -> list[str]:
    return [one["response"]["status"][:3] for one in answered]


def rows(database: Database) -> int:
    with database.session_scope() as session:
        return session.scalar(select(func.count()).select_from(Resource)) or 0


def total(client: TestClient, query: str) -> int:
    return int(client.get(f"/fhir/{query}").json()["total"])


def test_a_transaction_happens_as_a_whole(client: TestClient) -> None:
    value, full = number(), urn()
    answered = done(
        client,
        entry("POST", "Observation", observation(full), urn()),
        entry("POST", "Patient", patient(value), full),
        entry("GET", f"Patient?identifier={value}"),
    )
    assert statuses(answered) == ["201", "201", "200"]
    made = answered[1]["resource"]
    assert answered[0]["resource"]["subject"] == {"reference": f"Patient/{made['id']}"}
    assert answered[2]["resource"]["total"] == 1
    assert client.get(f"/fhir/Observation?patient.identifier={value}").json()["total"] == 1


@pytest.mark.parametrize(("bad", "status"), [
    (entry("POST", "Patient", {"resourceType": "Patient", "birthDate": "x"}), 400),
    (entry("POST", "Patient", patient(gender="unheard")), 422),
    (entry("POST", "FooType", {"resourceType": "FooType"}), 404),
    (entry("POST", "Patient", {"resourceType": "Patient", "contained": [{"resourceType": "FooType"}]}), 400),
    (entry("GET", "Patient/nobody"), 404),
    (entry("PUT", "Patient/x", patient(id="y")), 400),
    (entry("PUT", "Patient/x", patient(id="x"), ifMatch='W/"4"'), 412),
    (entry("DELETE", "Patient?nothing=1"), 400),
    (entry("POST", "DocumentReference", {"resourceType": "DocumentReference", "status": "current"}), 422),
])  # fmt: skip
def test_a_transaction_that_fails_leaves_nothing_and_one_outcome(
    client: TestClient, database: Database, bad: Json, status: int
) -> None:
    before = rows(database)
    told = failed(client, entry("POST", "Patient", patient()), bad, status=status)
    assert "Bundle.entry[1]" in told
    assert rows(database) == before


def test_the_order_of_entries_does_not_matter(client: TestClient) -> None:
    """DELETE, POST, PUT, GET, whatever their own order is: https://hl7.org/fhir/R4/http.html#trules."""
    results = []
    for order in permutations(range(4)):
        value = number()
        old = created(client, patient(value))
        kept, new = f"kept-{number()}", urn()
        entries = [
            entry("GET", f"Patient?identifier={value}"),
            entry("PUT", f"Observation/{kept}", observation(new, id=kept)),
            entry("POST", "Patient", patient(value), new, ifNoneExist=f"identifier={value}"),
            entry("DELETE", f"Patient/{old['id']}"),
        ]
        answered = done(client, *(entries[n] for n in order))
        by_entry = dict(zip(order, answered, strict=True))
        made = by_entry[2]["resource"]["id"]
        assert made != old["id"] and by_entry[1]["resource"]["subject"] == {"reference": f"Patient/{made}"}
        assert [e["resource"]["id"] for e in by_entry[0]["resource"]["entry"]] == [made]
        results.append([by_entry[n]["response"]["status"][:3] for n in range(4)])
    assert results == [["200", "201", "201", "204"]] * 24


def test_the_same_identity_twice_fails(client: TestClient, database: Database) -> None:
    value = number()
    made = created(client, patient(value))
    put = entry("PUT", f"Patient/{made['id']}", made)
    full = urn()
    before = rows(database)
    for pair in (
        (put, put),
        (put, entry("DELETE", f"Patient/{made['id']}")),
        (put, entry("PUT", f"Patient?identifier={value}", patient(value))),
        (put, entry("POST", "Patient", patient(value), ifNoneExist=f"identifier={value}")),
        (entry("POST", "Patient", patient(), full), entry("POST", "Patient", patient(), full)),
        tuple(entry("POST", "Patient", patient("x-1"), ifNoneExist="identifier=x-1") for _ in range(2)),
    ):
        failed(client, *pair, status=400)
    assert rows(database) == before


def test_placeholders_are_rewritten_forward_circular_and_in_narratives(client: TestClient) -> None:
    first, second = urn(), urn()
    link = [{"other": {"reference": second}, "type": "seealso"}]
    div = f'<div xmlns="http://www.w3.org/1999/xhtml"><a href="{second}">x</a></div>'
    answered = done(
        client,
        entry("POST", "Patient", patient(link=link, text={"status": "generated", "div": div}), first),
        entry("POST", "Patient", patient(link=[{"other": {"reference": first}, "type": "seealso"}],
              extension=[{"url": "http://x", "valueUri": first}, {"url": "http://y", "valueCanonical": first}],
              identifier=[{"system": "urn:ietf:rfc:3986", "value": first}]), second),
    )  # fmt: skip
    one, two = (client.get(f"/fhir/Patient/{e['resource']['id']}").json() for e in answered)
    assert one["link"][0]["other"]["reference"] == f"Patient/{two['id']}"
    assert f'href="Patient/{two["id"]}"' in one["text"]["div"]
    assert two["link"][0]["other"]["reference"] == f"Patient/{one['id']}"
    assert [list(e.values())[1] for e in two["extension"]] == [f"Patient/{one['id']}", first]
    assert two["identifier"][0]["value"] == first  # a string is no link
    failed(client, entry("POST", "Observation", observation(urn())), status=400)


def test_a_conditional_reference_finds_one_or_the_transaction_fails(client: TestClient, database: Database) -> None:
    value = number()
    reference = f"Patient?identifier={SYSTEM}|{value}"
    before = rows(database)
    failed(client, entry("POST", "Observation", observation(reference)), status=412)
    assert rows(database) == before
    # The patient may come with the same Bundle, before or after.
    answered = done(
        client, entry("POST", "Observation", observation(reference)), entry("POST", "Patient", patient(value))
    )
    assert answered[0]["resource"]["subject"] == {"reference": f"Patient/{answered[1]['resource']['id']}"}
    # A second one in the Bundle makes it unclear who is meant.
    failed(client, entry("POST", "Observation", observation(reference)), entry("POST", "Patient", patient(value)), status=412)
    created(client, patient(value))
    failed(client, entry("POST", "Observation", observation(reference)), status=412)
    failed(client, entry("POST", "Observation", observation("Patient?nothing=1")), status=400)


def test_answers_stand_in_the_order_of_the_requests(client: TestClient) -> None:
    old = created(client, patient())
    answered = done(
        client,
        entry("GET", f"Patient/{old['id']}/_history"),
        entry("PUT", f"Patient/{old['id']}", old),
        entry("POST", "Patient", patient()),
        entry("DELETE", f"Patient/{number()}"),
        entry("GET", f"Patient/{old['id']}/_history/1"),
    )
    assert statuses(answered) == ["200", "200", "201", "204", "200"]
    put, post = answered[1], answered[2]
    assert put["response"]["etag"] == 'W/"2"' and put["response"]["lastModified"]
    assert post["response"]["location"] == f"{post['fullUrl']}/_history/1"
    assert answered[0]["resource"]["total"] == 2 and answered[4]["resource"]["meta"]["versionId"] == "1"
    [first] = client.get(post["response"]["location"].partition("testserver")[2].rpartition("/")[0]).json()["entry"]
    assert (first["request"], first["response"]["status"]) == ({"method": "POST", "url": "Patient"}, "201 Created")
    bare = done(client, entry("POST", "Patient", patient()), prefer="return=minimal")
    assert "resource" not in bare[0] and bare[0]["response"]["location"]
    told = done(client, entry("POST", "Patient", patient()), prefer="return=OperationOutcome")
    assert told[0]["response"]["outcome"]["resourceType"] == "OperationOutcome"


def test_entries_have_conditions_of_their_own(client: TestClient) -> None:
    value = number()
    condition = f"identifier={SYSTEM}|{value}"
    one = done(client, entry("POST", "Patient", patient(value), ifNoneExist=condition))
    full = urn()
    again = done(
        client,
        entry("POST", "Patient", patient(value), full, ifNoneExist=condition),
        entry("POST", "Observation", observation(full)),
    )
    id_ = one[0]["resource"]["id"]
    assert statuses(one + again) == ["201", "200", "201"] and again[0]["resource"]["id"] == id_
    assert again[1]["resource"]["subject"] == {"reference": f"Patient/{id_}"}
    url = f"Patient/{id_}"
    assert statuses(done(client, entry("PUT", url, patient(value, id=id_), ifMatch='W/"1"'))) == ["200"]
    failed(client, entry("PUT", url, patient(value, id=id_), ifMatch='W/"1"'), status=412)
    failed(client, entry("DELETE", url, ifMatch='W/"1"'), status=412)
    assert statuses(done(client, entry("GET", url, ifNoneMatch='W/"2"'))) == ["304"]
    by_condition = done(client, entry("PUT", f"Patient?{condition}", patient(value, gender="male")))
    assert by_condition[0]["resource"]["id"] == id_ and by_condition[0]["response"]["etag"] == 'W/"3"'
    assert statuses(done(client, entry("DELETE", f"Patient?{condition}"))) == ["204"]
    assert total(client, f"Patient?identifier={value}") == 0


def test_an_entry_without_a_request_is_400(client: TestClient) -> None:
    for bad in ({"resource": patient()}, {"request": {}}, {"request": {"method": "GET"}}, {}):
        failed(client, bad, status=400)
    for other in (
        {"resourceType": "Bundle", "type": "collection"}, {"resourceType": "Patient"}, {"resourceType": "Bundle"},
        {"resourceType": "Bundle", "type": "transaction", "entry": {}},
    ):  # fmt: skip
        refused(send(client, "POST", "/fhir", other), 400)


def test_a_json_patch_comes_in_a_binary(client: TestClient) -> None:
    made = created(client, patient())
    operations = base64.b64encode(json.dumps([{"op": "replace", "path": "/gender", "value": "male"}]).encode()).decode()
    binary = {"resourceType": "Binary", "contentType": "application/json-patch+json", "data": operations}
    answered = done(client, entry("PATCH", f"Patient/{made['id']}", binary))
    assert answered[0]["resource"]["gender"] == "male"
    failed(client, entry("PATCH", f"Patient/{made['id']}", binary | {"contentType": "text/plain"}), status=415)
    failed(client, entry("PATCH", f"Patient/{made['id']}", binary | {"data": "e30"}), status=400)


def test_a_batch_answers_200_and_each_entry_for_itself(client: TestClient) -> None:
    value = number()
    answered = done(
        client,
        entry("POST", "Patient", patient(value)),
        entry("POST", "Patient", patient(gender="unheard")),
        entry("GET", "Patient/nobody"),
        entry("POST", "FooType", {"resourceType": "FooType"}),
        {"resource": patient()},
        entry("DELETE", f"Patient/{number()}"),
        entry("PUT", f"Patient?identifier={value}", patient(value, active=True)),
        entry("GET", f"Patient?identifier={value}"),
        entry("POST", "DocumentReference", {"resourceType": "DocumentReference", "status": "current"}),
        type_="batch",
    )
    assert statuses(answered) == ["201", "422", "404", "404", "400", "204", "200", "200", "422"]
    for one in (answered[1], answered[2], answered[4]):
        assert one["response"]["outcome"]["resourceType"] == "OperationOutcome" and "resource" not in one
    assert answered[7]["resource"]["entry"][0]["resource"]["active"] is True


def test_entries_of_a_batch_cannot_refer_to_each_other(client: TestClient) -> None:
    full = urn()
    answered = done(
        client,
        entry("POST", "Patient", patient(), full),
        entry("POST", "Observation", observation(full)),
        type_="batch",
    )
    assert statuses(answered) == ["201", "400"]


def test_decimals_of_a_transaction_keep_their_digits(client: TestClient) -> None:
    response = send(client, "POST", "/fhir", bundle(entry("POST", "Observation", observation("Patient/1", "7.0000"))))
    assert '"value":7.0000' in response.text
    id_ = response.json()["entry"][0]["resource"]["id"]
    assert '"value":7.0000' in client.get(f"/fhir/Observation/{id_}").text


def test_scopes_bind_entries_too(client: TestClient, database: Database) -> None:
    before = rows(database)
    with server(database, principal(scopes=["system/Patient.c"])) as machine:
        failed(machine, entry("POST", "Patient", patient()), entry("POST", "Observation", observation("Patient/1")), status=403)
        failed(machine, entry("POST", "Patient", patient(), ifNoneExist="identifier=1"), status=403)
        assert rows(database) == before
        mixed = done(
            machine, entry("POST", "Patient", patient()), entry("GET", "Patient/1"), entry("GET", "Patient"), type_="batch"
        )
        assert statuses(mixed) == ["201", "403", "403"]


def test_two_transactions_at_once_make_one_resource_under_one_condition(client: TestClient, database: Database) -> None:
    value = number()
    found: list[Any] = []

    def post() -> None:
        with server(database) as own:
            condition = f"identifier={SYSTEM}|{value}"
            sent = bundle(entry("POST", "Patient", patient(value), ifNoneExist=condition))
            found.append(send(own, "POST", "/fhir", sent).json()["entry"][0]["response"]["status"][:3])

    threads = [threading.Thread(target=post) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == ["200", "200", "200", "201"] and total(client, f"Patient?identifier={value}") == 1


def test_too_many_entries_are_413(client: TestClient) -> None:
    refused(send(client, "POST", "/fhir", bundle(*[{}] * 2001)), 413)
