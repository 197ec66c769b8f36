"""$export: what is in it, for whom, as of when; and that it survives the process that prepared it."""

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest
from fhir_server import Json, converted, observation, patient, server
from sign_in import headers, principal
from sqlalchemy import func, select, text
from starlette.testclient import TestClient

from app import bulk_export
from app.bulk_export import CHUNK_LINES, OPEN_EXPORTS
from app.db import Database
from app.errors import NotFound, TooMany
from app.store import index, versions
from models import Export, ExportEntry, ExportState, ReleaseState, Resource
from schemas.bulk import ExportLevel, Selection

ASYNC = {"Prefer": "respond-async"}
LENIENT = {"Prefer": "respond-async, handling=lenient"}
ALL = principal(scopes=["system/*.cruds"], name="exporter")
REVIEWER = principal(scopes=["system/*.cruds"], drafts=True, name="reviewer")


@pytest.fixture(scope="module")
def client(database: Database) -> Iterator[TestClient]:
    with server(database, ALL) as client:
        yield client


def stored(database: Database, *resources: Json) -> list[str]:
    """Their ids."""
    with database.session_scope() as session:
        return [versions.create(session, resource, ALL).id for resource in resources]


def exported(client: TestClient, path: str = "/fhir/$export", said: dict[str, str] = ASYNC, **sent: Any) -> Json:
    """The manifest."""
    response = client.request("POST" if sent else "GET", path, headers=said, **sent)
    assert (response.status_code, response.content) == (202, b""), response.text
    return manifest(client, response.headers["Content-Location"])


def manifest(client: TestClient, url: str) -> Json:
    until = time.monotonic() + 30
    while (response := client.get(url)).status_code == 202:
        assert response.headers["X-Progress"] and int(response.headers["Retry-After"]) > 0
        assert time.monotonic() < until
        time.sleep(0.02)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.headers["Expires"].endswith("GMT")
    return dict(response.json())


def fetched(client: TestClient, listed: Json, kind: str = "output") -> list[Json]:
    """All lines of all files of one array."""
    found = []
    for file in listed[kind]:
        response = client.get(file["url"], headers={"Accept": "application/fhir+ndjson"})
        assert (response.status_code, response.headers["content-type"]) == (200, "application/fhir+ndjson")
        lines = [json.loads(line, parse_float=Decimal) for line in response.content.splitlines()]
        assert len(lines) == file["count"] and {line["resourceType"] for line in lines} == {file["type"]}
        found += lines
    return found


def ids(lines: list[Json]) -> set[str]:
    return {line["id"] for line in lines}


# --- what is in it ------------------------------------------------------------------------------------------------------


def test_everything_is_exported_with_its_digits_and_its_version(client: TestClient, database: Database) -> None:
    (about,) = stored(database, patient())
    (seen,) = stored(database, observation(f"Patient/{about}", "1.10"))
    listed = exported(client)
    assert listed["requiresAccessToken"] is True and listed["request"].endswith("/fhir/$export")
    assert (listed["deleted"], listed["error"]) == ([], [])
    lines = {line["id"]: line for line in fetched(client, listed)}
    assert lines[seen]["meta"]["versionId"] == "1" and lines[seen]["valueQuantity"]["value"] == Decimal("1.10")
    (file,) = [file for file in listed["output"] if file["type"] == "Observation"]
    text_ = client.get(file["url"]).content
    assert b'"value":1.10' in text_ and text_.endswith(b"\n")
    # The text of a file is that of a read.
    assert client.get(f"/fhir/Observation/{seen}").content in text_.splitlines()
    assert text_ == client.get(file["url"]).content


def test_drafts_are_for_those_who_may_see_them(client: TestClient, database: Database) -> None:
    draft, final = converted(database, release=False), converted(database, release=True)
    path = "/fhir/$export?_type=Observation"
    seen = ids(fetched(client, exported(client, path)))
    assert final in seen and draft not in seen
    with server(database, REVIEWER) as reviewer:
        listed = exported(reviewer, path)
        lines = {line["id"]: line for line in fetched(reviewer, listed)}
        assert [tag["code"] for tag in lines[draft]["meta"]["tag"]] == ["draft"] and "tag" not in lines[final]["meta"]
        # A token of the same client that is not shown drafts is not given a file of them.
        narrow = headers(database, principal(scopes=["system/*.rs"], name="reviewer"))
        assert reviewer.get(listed["output"][0]["url"], headers=narrow).status_code == 403


def test_levels(client: TestClient, database: Database) -> None:
    one, other, third = stored(database, patient(), patient(), patient())
    seen, unseen = stored(database, observation(f"Patient/{one}"), observation(f"Patient/{other}"))
    (ours,) = stored(database, {"resourceType": "Organization", "name": "見本病院"})
    (nobodys,) = stored(database, observation("Group/none") | {"subject": {"display": "だれか"}})
    members = [
        {"entity": {"reference": f"Patient/{one}"}},
        {"entity": {"reference": f"Patient/{third}"}},
        {"entity": {"reference": f"Patient/{other}"}, "inactive": True},
    ]
    (group,) = stored(
        database, {"resourceType": "Group", "type": "person", "actual": True, "member": members}
    )
    everything = ids(fetched(client, exported(client)))
    assert {one, other, seen, unseen, ours, nobodys, group} <= everything
    patients = ids(fetched(client, exported(client, "/fhir/Patient/$export")))
    assert {one, other, seen, unseen} <= patients and not patients & {ours, nobodys, group}
    assert ids(fetched(client, exported(client, f"/fhir/Group/{group}/$export"))) == {one, third, seen}
    chosen = {"resourceType": "Parameters", "parameter": [
        {"name": "patient", "valueReference": {"reference": f"Patient/{one}"}},
        {"name": "patient", "valueReference": {"reference": f"Patient/{other}"}},
    ]}  # fmt: skip
    assert ids(fetched(client, exported(client, f"/fhir/Group/{group}/$export", json=chosen))) == {one, seen}
    assert ids(fetched(client, exported(client, "/fhir/Patient/$export", json=chosen))) == {one, other, seen, unseen}
    assert client.get("/fhir/Group/none/$export", headers=ASYNC).status_code == 404


def test_types_and_filters(client: TestClient, database: Database) -> None:
    (about,) = stored(database, patient())
    codes = ["4548-4", "2345-7", "718-7"]
    made = {
        code: stored(database, observation(f"Patient/{about}", code={"coding": [{"system": "http://loinc.org", "code": code}]}))[0]
        for code in codes
    }
    listed = exported(client, "/fhir/$export?_type=Observation,Patient")
    assert {file["type"] for file in listed["output"]} == {"Observation", "Patient"}

    def found(*filters: str) -> set[str]:
        query = "&".join(f"_typeFilter={quote(one)}" for one in filters)
        return ids(fetched(client, exported(client, f"/fhir/$export?_type=Observation&{query}"))) & set(made.values())

    mine = f"patient={about}"
    assert found(f"Observation?{mine}&code=718-7") == {made["718-7"]}
    assert found(f"Observation?{mine}&code=718-7,Observation?{mine}&code=4548-4") == {made["718-7"], made["4548-4"]}
    assert found(f"Observation?{mine}&code=718-7", f"Observation?{mine}&code=2345-7") == {made["718-7"], made["2345-7"]}
    # A comma within a value, as smart-fetch quotes it, and as it stands.
    assert found(f"Observation?{mine}&code=718-7%2C2345-7") == {made["718-7"], made["2345-7"]}
    assert found(f"Observation?{mine}&code=718-7,2345-7") == {made["718-7"], made["2345-7"]}
    for wrong in ("Observation", "Observation?", "Observation?wrong=1", "Observation?date=x", "Observation?_count=1"):
        assert client.get(f"/fhir/$export?_typeFilter={quote(wrong)}", headers=ASYNC).status_code == 400, wrong


def test_what_is_new_and_what_is_gone(client: TestClient, database: Database) -> None:
    gone, stays = stored(database, patient(), patient())
    seen, lost = stored(database, observation(f"Patient/{stays}"), observation(f"Patient/{stays}"))
    first = exported(client)
    # The export is dated a second before it was made, so what is a second old may come twice, and nothing is missed.
    time.sleep(1.1)
    since = first["transactionTime"]
    assert {stays, gone, seen, lost} <= ids(fetched(client, first))
    since = exported(client)["transactionTime"]
    with database.session_scope() as session:
        changed = observation(f"Patient/{stays}", "7.0")
        versions.update(session, "Observation", seen, changed, ALL)
        versions.remove(session, "Patient", gone, ALL)
        versions.remove(session, "Observation", lost, ALL)
    second = exported(client, f"/fhir/$export?_since={quote(since)}")
    new = fetched(client, second)
    assert seen in ids(new) and not ids(new) & {gone, lost, stays}
    bundles = fetched(client, second, "deleted")
    assert all(bundle["type"] == "transaction" for bundle in bundles)
    requests = [entry["request"] for bundle in bundles for entry in bundle["entry"]]
    assert sorted(request["url"] for request in requests) == sorted([f"Observation/{lost}", f"Patient/{gone}"])
    assert {request["method"] for request in requests} == {"DELETE"}
    of_one = {"resourceType": "Parameters", "parameter": [
        {"name": "_since", "valueInstant": since}, {"name": "patient", "valueReference": {"reference": f"Patient/{stays}"}},
    ]}  # fmt: skip
    about = fetched(client, exported(client, "/fhir/Patient/$export", json=of_one), "deleted")
    assert [bundle["entry"][0]["request"]["url"] for bundle in about] == [f"Observation/{lost}"]
    # A plus sign that a client did not quote, and none at all without _since.
    assert exported(client, f"/fhir/$export?_since={since}")["deleted"]
    assert exported(client)["deleted"] == []


# --- how it is asked for --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [{}, {"Prefer": "return=minimal"}])
def test_an_export_is_answered_later_or_not_at_all(client: TestClient, said: dict[str, str]) -> None:
    assert client.get("/fhir/$export", headers=said).status_code == 400


@pytest.mark.parametrize(
    "query",
    ["_outputFormat=text/csv", "_since=yesterday", "includeAssociatedData=LatestProvenanceResources", "_type=Nothing",
     "_type=Binary,Patient", "_elements=id", "patient=Patient/1"],
)  # fmt: skip
def test_what_is_not_supported_is_refused(client: TestClient, query: str) -> None:
    response = client.get(f"/fhir/$export?{query}", headers=ASYNC)
    assert (response.status_code, response.json()["resourceType"]) == (400, "OperationOutcome")


def test_lenient_ignores_and_says_so(client: TestClient, database: Database) -> None:
    stored(database, patient())
    path = "/fhir/Patient/$export?_elements=id&_type=Patient,Nothing,Organization&_outputFormat=application/fhir%2Bndjson"
    listed = exported(client, path, LENIENT)
    assert {file["type"] for file in listed["output"]} == {"Patient"}
    outcomes = fetched(client, listed, "error")
    said = [issue["diagnostics"] for outcome in outcomes for issue in outcome["issue"]]
    assert len(said) == 3 and any("_elements" in one for one in said) and not any("Nothing" in one for one in said)


def test_post_takes_parameters(client: TestClient, database: Database) -> None:
    (one,) = stored(database, patient())
    sent = {"resourceType": "Parameters", "parameter": [
        {"name": "_type", "valueString": "Patient"}, {"name": "_outputFormat", "valueString": "ndjson"},
        {"name": "_typeFilter", "valueString": f"Patient?_id={one}"},
    ]}  # fmt: skip
    assert ids(fetched(client, exported(client, json=sent))) == {one}
    for wrong in ({"resourceType": "Patient"}, {"resourceType": "Parameters", "parameter": [{"name": "_type"}]}):
        assert client.post("/fhir/$export", json=wrong, headers=ASYNC).status_code == 400


def test_who_may_ask_and_who_may_fetch(client: TestClient, database: Database) -> None:
    (one,) = stored(database, patient())
    stored(database, observation(f"Patient/{one}"))
    narrow = principal(scopes=["system/Patient.rs"], name="narrow")
    with server(database, narrow) as few:
        assert {file["type"] for file in exported(few)["output"]} == {"Patient"}
        assert few.get("/fhir/$export?_type=Observation", headers=ASYNC).status_code == 403
        chained = quote("Patient?_has:Observation:patient:code=718-7")
        assert few.get(f"/fhir/$export?_typeFilter={chained}", headers=ASYNC).status_code == 403
    with server(database, principal(scopes=["system/Patient.cud"], name="writer")) as writer:
        assert writer.get("/fhir/$export", headers=ASYNC).status_code == 403
    response = client.get("/fhir/$export", headers=ASYNC)
    url = response.headers["Content-Location"]
    listed = manifest(client, url)
    (file,) = [file["url"] for file in listed["output"] if file["type"] == "Observation"]
    with server(database, principal(scopes=["system/*.rs"], name="stranger")) as stranger:
        for address in (url, file):
            assert stranger.get(address).status_code == 404
        assert stranger.delete(url).status_code == 404
    fewer = headers(database, principal(scopes=["system/Patient.rs"], name="exporter"))
    assert client.get(file, headers=fewer).status_code == 403
    for address in (url, file, "/fhir/$export"):
        assert client.get(address, headers={"Authorization": ""} | ASYNC).status_code == 401
    assert client.get(f"{url}/Observation-99").status_code == 404
    assert client.get(file, headers={"Accept": "text/csv"}).status_code == 406


def test_a_client_has_so_many_exports_in_preparation(fresh_database: Database) -> None:
    wanted = Selection(level=ExportLevel.SYSTEM, types=("Patient",))
    with fresh_database.session_scope() as session:
        for _ in range(OPEN_EXPORTS):
            bulk_export.request(session, wanted, "x", ALL, keep_hours=1)
        with pytest.raises(TooMany):
            bulk_export.request(session, wanted, "x", ALL, keep_hours=1)
        bulk_export.request(session, wanted, "x", REVIEWER, keep_hours=1)


# --- as of when -----------------------------------------------------------------------------------------------------------


def asked(database: Database, *types: str, who: Any = ALL) -> UUID:
    with database.session_scope() as session:
        wanted = Selection(level=ExportLevel.SYSTEM, types=types)
        return bulk_export.request(session, wanted, "x", who, keep_hours=1)


def silent(done: int, of: int) -> None:
    pass


def state(database: Database, export_id: UUID) -> tuple[str | None, int]:
    """And how many lines it has."""
    with database.session_scope() as session:
        lines = session.scalar(select(func.count()).select_from(ExportEntry).where(ExportEntry.export_id == export_id))
        return session.scalar(select(Export.state).where(Export.id == export_id)), lines or 0


def test_a_file_stays_as_it_was(database: Database) -> None:
    """What is changed, deleted or released after the export is not in it."""
    changed, deleted = stored(database, patient(), patient())
    draft = converted(database, release=False)
    with server(database, REVIEWER) as reviewer:
        listed = exported(reviewer, "/fhir/$export?_type=Patient,Observation")
        before = [reviewer.get(file["url"]).content for file in listed["output"]]
        with database.session_scope() as session:
            versions.update(session, "Patient", changed, patient(), ALL)
            versions.remove(session, "Patient", deleted, ALL)
            row = session.scalars(select(Resource).where(Resource.type == "Observation", Resource.id == draft)).one()
            row.state, row.released_at = ReleaseState.FINAL, func.now()
            index.renew(session, [("Observation", draft)])
        assert [reviewer.get(file["url"]).content for file in listed["output"]] == before
        assert draft in ids(fetched(reviewer, listed))


def test_what_was_being_written_is_in_the_next_export(client: TestClient, database: Database) -> None:
    """Its date is before that of the first export, and it was not seen by it."""
    with database.session_scope() as session:
        version = versions.create(session, patient(), ALL)
        time.sleep(0.01)
        first = exported(client)
    assert version.id not in ids(fetched(client, first))
    second = fetched(client, exported(client, f"/fhir/$export?_since={quote(first['transactionTime'])}"))
    assert version.id in ids(second)


def test_a_killed_preparation_leaves_nothing_and_is_begun_again(client: TestClient, database: Database) -> None:
    stored(database, patient())
    export_id = asked(database, "Patient", "Observation")

    def killed(done: int, of: int) -> None:
        if done == 1:
            with database.session_scope() as session:
                session.execute(text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE state = 'idle in transaction' AND datname = current_database()"
                ))  # fmt: skip

    with pytest.raises(Exception, match=r"terminating connection|server closed"):
        bulk_export.prepare(database, export_id, killed)
    assert state(database, export_id) == (ExportState.ACCEPTED, 0)
    # Whoever is asked how far it is prepares it.
    assert fetched(client, manifest(client, f"/fhir/$export/{export_id}"))


def test_one_process_prepares_it_and_a_client_may_think_better_of_it(database: Database) -> None:
    stored(database, patient())
    export_id = asked(database, "Patient")
    tries: list[tuple[str | None, int]] = []

    def another(done: int, of: int) -> None:
        bulk_export.prepare(database, export_id, lambda done, of: pytest.fail("two at the same time"))
        tries.append(state(database, export_id))

    bulk_export.prepare(database, export_id, another)
    assert tries == [(ExportState.ACCEPTED, 0)] and state(database, export_id)[0] == ExportState.DONE

    unwanted = asked(database, "Patient")

    def deleted(done: int, of: int) -> None:
        with database.session_scope() as session:
            bulk_export.drop(session, unwanted, ALL)

    with pytest.raises(Exception, match="could not serialize"):
        bulk_export.prepare(database, unwanted, deleted)
    assert state(database, unwanted) == (ExportState.DELETED, 0)


def test_what_is_not_indexed_yet_is_waited_for(fresh_database: Database) -> None:
    stored(fresh_database, patient())
    with fresh_database.session_scope() as session:
        index.forget(session)
    export_id = asked(fresh_database, "Patient")
    bulk_export.prepare(fresh_database, export_id, silent)
    assert state(fresh_database, export_id) == (ExportState.ACCEPTED, 0)
    index.catch_up(fresh_database)
    bulk_export.prepare(fresh_database, export_id, silent)
    assert state(fresh_database, export_id) == (ExportState.DONE, 1)


# --- its end ----------------------------------------------------------------------------------------------------------------


def test_a_deleted_export_is_gone_with_its_rows(client: TestClient, database: Database) -> None:
    stored(database, patient())
    url = client.get("/fhir/$export", headers=ASYNC).headers["Content-Location"]
    file = manifest(client, url)["output"][0]["url"]
    assert client.delete(url).status_code == 202
    assert {client.get(url).status_code, client.get(file).status_code, client.delete(url).status_code} == {404}
    export_id = UUID(url.rpartition("/")[2])
    until = time.monotonic() + 10
    while state(database, export_id) != (None, 0):
        assert time.monotonic() < until
        time.sleep(0.02)


def test_an_export_is_over_after_its_time(database: Database) -> None:
    stored(database, patient())
    export_id = asked(database, "Patient")
    bulk_export.prepare(database, export_id, silent)
    with database.session_scope() as session:
        session.get_one(Export, export_id).expires_at = func.now() - timedelta(seconds=1)
    with database.session_scope() as session, pytest.raises(NotFound):
        bulk_export.status(session, export_id, ALL)
    with database.session_scope() as session:
        bulk_export.sweep(session)
    assert state(database, export_id) == (None, 0)


def test_a_large_type_comes_in_several_files_and_is_read_in_parts(fresh_database: Database) -> None:
    """And a fetch that outlives its export breaks off."""
    count = CHUNK_LINES + 30
    basics = [{"resourceType": "Basic", "code": {"text": str(n)}} for n in range(count)]
    made = stored(fresh_database, *basics)
    gone = made[0]
    export_id = asked(fresh_database, "Basic")
    bulk_export.prepare(fresh_database, export_id, silent, file_lines=CHUNK_LINES + 10)
    with fresh_database.session_scope() as session:
        session.execute(text("DELETE FROM resources WHERE id = :id"), {"id": gone})  # as a purge does
        found = [bulk_export.find_file(session, export_id, name, ALL) for name in ("Basic-1", "Basic-2")]
    assert [file.file.count for file in found] == [CHUNK_LINES + 10, 20]
    lines = [json.loads(line) for file in found for part in bulk_export.lines(fresh_database, file) for line in part.splitlines()]
    assert [line["id"] for line in lines] == sorted(set(made) - {gone})
    reading = bulk_export.lines(fresh_database, found[0])
    next(reading)
    with fresh_database.session_scope() as session:
        bulk_export.drop(session, export_id, ALL)
        bulk_export.sweep(session)
    with pytest.raises(NotFound):
        next(reading)
