"""Search as clients meet it: https://hl7.org/fhir/R4/search.html. What matches is tested in test_store_search.py too; here
are the requests, the Bundles and the refusals. docs/fhir-rest.md names each rule."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from fhir_server import SYSTEM, Json, created, number, observation, patient, refused, server
from sign_in import principal
from starlette.testclient import TestClient

from app.db import Database

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def client(database: Database) -> Iterator[TestClient]:
    with server(database) as client:
        yield client


@pytest.fixture(scope="module")
def ward(client: TestClient) -> dict[str, str]:
    """A patient and what is known of him; ids by name."""
    value = number()
    made = created(client, patient(value, name=[{"family": "ケンサ", "given": ["Émile"]}]))
    subject = f"Patient/{made['id']}"

    def lab(code: str, value: str, day: str, **more: Any) -> str:
        coding = {"coding": [{"system": "http://loinc.org", "code": code}]}
        return str(created(client, observation(subject, value, code=coding, effectiveDateTime=day, **more))["id"])

    ids = {"value": value, "patient": made["id"], "subject": subject}
    ids["january"] = lab("1-1", "5.40", "2026-01-15")
    ids["february"] = lab("1-2", "5.4", "2026-02", status="preliminary")
    ids["march"] = lab("1-1", "9", "2026-03-01T08:00:00+09:00", category=[{"coding": [{"code": "laboratory"}]}])
    practitioner = created(client, {"resourceType": "Practitioner", "name": [{"family": "医師"}]})
    ids["practitioner"] = practitioner["id"]
    encounter = {
        "resourceType": "Encounter", "status": "finished", "subject": {"reference": subject},
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "period": {"start": "2026-02-10", "end": "2026-02-20"},
        "participant": [{"individual": {"reference": f"Practitioner/{practitioner['id']}"}}],
    }  # fmt: skip
    ids["encounter"] = created(client, encounter)["id"]
    return ids


def search(client: TestClient, path: str, **stated: str) -> Json:
    response = client.get(f"/fhir/{path}", headers={k.replace("_", "-"): v for k, v in stated.items()})
    assert response.status_code == 200, response.text
    found: Json = response.json()
    assert (found["resourceType"], found["type"]) == ("Bundle", "searchset")
    return found


def ids(found: Json, mode: str = "match") -> list[str]:
    return [e["resource"]["id"] for e in found.get("entry", ()) if e["search"]["mode"] == mode]


def links(found: Json) -> dict[str, str]:
    return {link["relation"]: link["url"] for link in found["link"]}


def names(found: Json, client: TestClient, ward: dict[str, str]) -> set[str]:
    return {name for name, id_ in ward.items() if id_ in ids(found)}


# --- requests and Bundles ---------------------------------------------------------------------------------------------


def test_get_and_post_search_are_the_same_and_merge(client: TestClient, ward: dict[str, str]) -> None:
    got = search(client, f"Observation?subject={ward['subject']}&status=final")
    form = f"subject={ward['subject']}&status=final"
    posted = client.post("/fhir/Observation/_search", content=form, headers=FORM)
    merged = client.post(f"/fhir/Observation/_search?subject={ward['subject']}", content="status=final", headers=FORM)
    assert posted.status_code == merged.status_code == 200
    assert ids(got) == ids(posted.json()) == ids(merged.json()) and len(ids(got)) == 2
    refused(client.post("/fhir/Observation/_search", content=b"{}", headers={"Content-Type": "application/json"}), 415)
    refused(client.post("/fhir/Observation/_search", content=b"subject=\xff", headers=FORM), 400)


def test_self_names_what_was_used_and_pages_stay_while_others_write(client: TestClient) -> None:
    value = number()
    subject = f"Patient/{created(client, patient(value))['id']}"
    made = [created(client, observation(subject))["id"] for _ in range(5)]
    first = search(client, f"Observation?subject={subject}&_count=2&nonsense=1&_format=json")
    asked = dict(parse_qsl(urlsplit(links(first)["self"]).query))
    assert asked == {"subject": subject, "_count": "2"} and links(first)["self"].startswith("http://testserver/fhir/Observation?")
    assert set(links(first)) == {"self", "first", "next"} and first["total"] == 5
    created(client, observation(subject))
    seen, page = ids(first), first
    while "next" in links(page):
        page = client.get(links(page)["next"]).json()
        seen += ids(page)
    assert len(seen) == len(set(seen)) and set(made) <= set(seen)
    back = client.get(links(page)["previous"]).json()
    assert len(ids(back)) == 2 and set(ids(back)) < set(seen)
    assert links(page)["first"] == links(first)["first"] == links(first)["self"]
    refused(client.get(f"/fhir/Observation?subject={subject}&_cursor=x"), 400)


def test_total_counts_matches_only_and_count_0_is_summary_count(client: TestClient, ward: dict[str, str]) -> None:
    query = f"Observation?subject={ward['subject']}"
    whole = search(client, f"{query}&_include=Observation:subject")
    assert whole["total"] == 3 and len(whole["entry"]) == 4
    for counted in ("&_count=0", "&_summary=count", "&_count=0&_totalMethod=count"):
        found = search(client, query + counted)
        assert found["total"] == 3 and "entry" not in found
    assert "total" not in search(client, f"{query}&_count=1&_total=none")
    assert search(client, f"{query}&_count=1&_total=accurate")["total"] == 3
    refused(client.get(f"/fhir/{query}&_total=maybe"), 400)


def test_entries_have_a_mode_and_a_full_url_and_stand_once(client: TestClient, ward: dict[str, str]) -> None:
    found = search(client, f"Observation?subject={ward['subject']}&_include=Observation:subject&_include=Observation:patient")
    urls = [e["fullUrl"] for e in found["entry"]]
    assert len(urls) == len(set(urls))
    assert sorted(e["search"]["mode"] for e in found["entry"]) == ["include", "match", "match", "match"]
    for each in found["entry"]:
        resource = each["resource"]
        assert each["fullUrl"] == f"http://testserver/fhir/{resource['resourceType']}/{resource['id']}"
        assert resource["meta"]["versionId"] == "1"


def test_an_unknown_parameter_is_ignored_or_refused_as_wished(client: TestClient, ward: dict[str, str]) -> None:
    query = f"Observation?subject={ward['subject']}&colour=red"
    found = search(client, query)
    assert found["total"] == 3 and "colour" not in links(found)["self"]
    refused(client.get(f"/fhir/{query}", headers={"Prefer": "handling=strict"}), 400)
    told = search(client, query, Prefer="handling=lenient")
    [outcome] = [e for e in told["entry"] if e["search"]["mode"] == "outcome"]
    assert outcome["resource"]["resourceType"] == "OperationOutcome" and "colour" not in str(outcome)


@pytest.mark.parametrize("query", ["code:nothing=1", "code:text=1", "subject:above=1", "date:not=2026", "code:in=http://x"])
def test_a_modifier_that_is_not_supported_is_always_refused(client: TestClient, query: str) -> None:
    refused(client.get(f"/fhir/Observation?{query}"), 400)
    refused(client.get(f"/fhir/Observation?{query}", headers={"Prefer": "handling=lenient"}), 400)


def test_a_malformed_value_is_400_and_an_unknown_code_finds_nothing(client: TestClient) -> None:
    for bad in (
        "date=yesterday", "date=2026-13", "date=xx2026", "value-quantity=much", "_lastUpdated=1", "_count=-1",
        "_count=x", "_summary=maybe",
    ):  # fmt: skip
        refused(client.get(f"/fhir/Observation?{bad}"), 400)
    assert search(client, "Observation?code=no-such-code")["total"] == 0


# --- kinds of parameters ----------------------------------------------------------------------------------------------

ONE = frozenset
QUERIES: dict[str, set[str]] = {
    # token: https://hl7.org/fhir/R4/search.html#token
    "code=1-1": {"january", "march"},
    "code=http://loinc.org|1-1": {"january", "march"},
    "code=http://loinc.org|": {"january", "february", "march"},
    "code=|1-1": set(),
    "category=|laboratory": {"march"},
    "status=preliminary": {"february"},
    # several values, repeated parameters, escapes
    "code=1-1,1-2": {"january", "february", "march"},
    "code=1-1&status=final": {"january", "march"},
    "code=1-1\\,1-2": set(),
    # date: prefixes, precision on both sides
    "date=2026-01-15": {"january"},
    "date=2026": {"january", "february", "march"},
    "date=2026-02-10": set(),
    "date=ge2026-02": {"february", "march"},
    "date=gt2026-02-10": {"february", "march"},
    "date=lt2026-02-01": {"january"},
    "date=le2026-02-28": {"january", "february"},
    "date=ne2026-01-15": {"february", "march"},
    "date=sa2026-02-28": {"march"},
    "date=eb2026-02-01": {"january"},
    "date=ge2026-01&date=lt2026-02": {"january"},
    # `+` of a time zone is a space in a URL
    "date=2026-03-01T08:00:00+09:00": {"march"},
    "date=2026-02-28T23:00:00Z": {"march"},
    # quantity: implicit precision
    "value-quantity=5.40": {"january", "february"},
    "value-quantity=5.4|http://unitsofmeasure.org|%": {"january", "february"},
    "value-quantity=5.4||%": {"january", "february"},
    "value-quantity=gt8": {"march"},
    "value-quantity=5|http://unitsofmeasure.org|mg": set(),
    # modifiers
    "category:missing=true": {"january", "february"},
    "category:missing=false": {"march"},
    "status:not=final": {"february"},
    "category:not=laboratory": {"january", "february"},
}


@pytest.mark.parametrize("query", QUERIES)
def test_values_match_as_r4_says(client: TestClient, ward: dict[str, str], query: str) -> None:
    found = search(client, f"Observation?subject={ward['subject']}&{query}")
    assert names(found, client, ward) == QUERIES[query] and found["total"] == len(QUERIES[query])


def test_about_a_date_is_around_it(client: TestClient, ward: dict[str, str]) -> None:
    """How far depends on the day on which one asks."""
    found = search(client, f"Observation?subject={ward['subject']}&date=ap2026-01-15")
    assert "january" in names(found, client, ward)
    assert search(client, f"Observation?subject={ward['subject']}&date=ap1950-01-15")["total"] == 0


def test_a_token_of_an_identifier_a_boolean_and_a_contact_point(client: TestClient) -> None:
    value, phone = number(), number()
    made = created(client, patient(value, active=True, telecom=[{"system": "phone", "value": phone}]))
    for query in (f"identifier={SYSTEM}|{value}", f"identifier={value}", f"phone={phone}&active=true", f"identifier={SYSTEM}|{value}&active=true"):
        assert ids(search(client, f"Patient?{query}")) == [made["id"]], query
    assert search(client, f"Patient?identifier=|{value}")["total"] == 0
    assert search(client, f"Patient?identifier={value}&active=false")["total"] == 0


def test_a_string_begins_folds_or_is_exact(client: TestClient, ward: dict[str, str]) -> None:
    for query, hit in (
        ("name=けん", True), ("name=ｹﾝｻ", True), ("name=emi", True), ("name=ÉMILE", True), ("name=mile", False),
        ("name:contains=mil", True), ("name:exact=ケンサ", True), ("name:exact=ケン", False), ("family=ケンサ", True),
        ("family=emile", False),
    ):  # fmt: skip
        found = search(client, f"Patient?identifier={ward['value']}&{query}")
        assert bool(ids(found)) is hit, query


def test_a_reference_by_id_type_and_url(client: TestClient, ward: dict[str, str]) -> None:
    id_ = ward["patient"]
    for query in (
        f"subject={id_}", f"subject=Patient/{id_}", f"subject:Patient={id_}", f"patient={id_}",
        f"subject=http://testserver/fhir/Patient/{id_}", f"subject=Patient/nobody,http://testserver/fhir/Patient/{id_}",
    ):  # fmt: skip
        assert search(client, f"Observation?{query}")["total"] == 3, query
    assert search(client, f"Observation?subject=Group/{id_}")["total"] == 0
    logical = {"identifier": {"system": SYSTEM, "value": "L-1"}}
    made = created(client, observation("Patient/x") | {"subject": logical})
    assert ids(search(client, f"Observation?subject:identifier={SYSTEM}|L-1")) == [made["id"]]


def test_chains_and_has(client: TestClient, ward: dict[str, str]) -> None:
    for query in (f"patient.identifier={ward['value']}", f"subject:Patient.identifier={SYSTEM}|{ward['value']}"):
        assert search(client, f"Observation?{query}")["total"] == 3, query
    both = search(client, f"Observation?patient.identifier={ward['value']}&subject:Patient.name=ケンサ")
    assert both["total"] == 3
    has = search(client, f"Patient?_has:Observation:patient:code=1-2&identifier={ward['value']}")
    assert ids(has) == [ward["patient"]]
    assert search(client, f"Patient?_has:Observation:patient:code=9-9&identifier={ward['value']}")["total"] == 0


def test_include_and_revinclude(client: TestClient, ward: dict[str, str]) -> None:
    found = search(client, f"Observation?_id={ward['january']}&_include=Observation:subject")
    assert ids(found, "include") == [ward["patient"]] and found["total"] == 1
    every = search(client, f"Encounter?_id={ward['encounter']}&_include=*")
    assert set(ids(every, "include")) == {ward["patient"], ward["practitioner"]}
    back = search(client, f"Patient?_id={ward['patient']}&_revinclude=Observation:subject&_revinclude=Encounter:patient")
    assert len(ids(back, "include")) == 4 and ids(back) == [ward["patient"]]
    further = search(
        client,
        f"Patient?_id={ward['patient']}&_revinclude=Encounter:patient&_include:iterate=Encounter:participant",
    )
    assert set(ids(further, "include")) == {ward["encounter"], ward["practitioner"]}
    missing = created(client, observation("Patient/nobody"))
    assert ids(search(client, f"Observation?_id={missing['id']}&_include=Observation:subject"), "include") == []


def test_sort_and_the_parameters_of_all_types(client: TestClient, ward: dict[str, str]) -> None:
    query = f"Observation?subject={ward['subject']}"
    by_date = [ward["january"], ward["february"], ward["march"]]
    assert ids(search(client, f"{query}&_sort=date")) == by_date
    assert ids(search(client, f"{query}&_sort=-date")) == by_date[::-1]
    assert ids(search(client, f"{query}&_sort=code,-date")) == [ward["march"], ward["january"], ward["february"]]
    assert ids(search(client, f"{query}&_sort=-_id")) == sorted(by_date, reverse=True)
    assert ids(search(client, f"Observation?_id={ward['january']},{ward['march']}&_sort=date")) == [by_date[0], by_date[2]]
    profile, tag = f"http://example.org/{number()}", number()
    tags = {"tag": [{"system": "urn:t", "code": tag}], "security": [{"system": "urn:s", "code": tag}]}
    made = created(client, patient(meta={"profile": [profile], **tags}))
    at = made["meta"]["lastUpdated"]
    for name, value in (
        ("_profile", profile), ("_tag", f"urn:t|{tag}"), ("_security", tag), ("_lastUpdated", f"eq{at}"),
    ):  # fmt: skip
        found = client.get("/fhir/Patient", params={name: value, "_id": made["id"]}).json()
        assert ids(found) == [made["id"]], name
        none = client.get("/fhir/Patient", params={name: "2001-01-01" if name == "_lastUpdated" else "x", "_id": made["id"]})
        assert none.json()["total"] == 0


def test_summary_and_elements_keep_what_is_mandatory_and_say_so(client: TestClient, ward: dict[str, str]) -> None:
    query = f"Observation?_id={ward['january']}"
    for cut, kept, gone in (
        ("_elements=effective", {"status", "code", "effectiveDateTime"}, {"valueQuantity", "subject"}),
        ("_summary=true", {"status", "code", "valueQuantity"}, set()),
        ("_summary=text", {"status", "code"}, {"valueQuantity"}),
        ("_summary=data", {"status", "code", "valueQuantity"}, {"text"}),
    ):
        [each] = search(client, f"{query}&{cut}")["entry"]
        resource = each["resource"]
        assert kept <= set(resource) and not gone & set(resource), cut
        assert "SUBSETTED" in [tag["code"] for tag in resource["meta"]["tag"]], cut
        read = client.get(f"/fhir/Observation/{ward['january']}?{cut}").json()
        assert set(read) == set(resource), cut
    whole = search(client, f"{query}&_summary=false")["entry"][0]["resource"]
    assert "tag" not in whole["meta"]
    part = client.get(f"/fhir/Observation/{ward['january']}?_summary=text").content
    refused(client.put(f"/fhir/Observation/{ward['january']}", content=part, headers={"Content-Type": "application/json"}), 422)


# --- $everything ------------------------------------------------------------------------------------------------------


def test_everything_of_a_patient_and_no_other(client: TestClient, ward: dict[str, str]) -> None:
    url = f"Patient/{ward['patient']}/$everything"
    found = search(client, url)
    everything = set(ids(found)) | set(ids(found, "include"))
    kept = {ward[name] for name in ("patient", "january", "february", "march", "encounter", "practitioner")}
    assert everything == kept and ids(found, "include") == [ward["practitioner"]]
    assert {ward["patient"], ward["march"]} == set(ids(search(client, f"{url}?_type=Patient,Observation&start=2026-03-01")))
    assert set(ids(search(client, f"{url}?_type=Observation&end=2026-01-31"))) == {ward["january"]}
    assert ids(search(client, f"{url}?_type=Observation&_since=2999-01-01T00:00:00Z")) == []
    pages, page = [], search(client, f"{url}?_count=2")
    while True:
        assert len(ids(page)) <= 2
        pages += ids(page) + ids(page, "include")
        if "next" not in links(page):
            break
        page = client.get(links(page)["next"]).json()
    assert set(pages) == kept
    for bad in ("_count=0", "_count=x", "_type=Nothing", "start=soon", "_since=x", "_cursor=x", "_cursor=WzFd"):
        refused(client.get(f"/fhir/{url}?{bad}"), 400)
    refused(client.get("/fhir/Patient/nobody/$everything"), 404)


def test_everything_holds_the_types_that_one_may_read(ward: dict[str, str], database: Database) -> None:
    with server(database, principal(scopes=["system/Patient.rs", "system/Encounter.rs"])) as machine:
        found = search(machine, f"Patient/{ward['patient']}/$everything")
        assert set(ids(found)) == {ward["patient"], ward["encounter"]} and ids(found, "include") == []
