"""`$lookup`, `$expand`, `$translate` and the list of tables over HTTP, on a real Postgres with small tables."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from fastapi import FastAPI
from loaded_tables import AMLODIPINE, HBS, TP, concept, load, load_all
from sqlalchemy import event, insert, text
from starlette.testclient import TestClient

from app.db import Database
from app.terminology import browse
from app.terminology.local import import_local
from app.web import outcome
from app.web.terminology_api import CONCEPT_MAP, MAX_COUNT, terminology_router
from models import CodeSystemRelease, Concept, ImportState
from models.terminology import NAME_FUNCTIONS
from schemas import systems
from schemas.statement import Kind

INSTITUTION = "1318814790"
DRUGS = f"http://jpfhir.jp/fhir/eCS/CodeSystem/DrugCode/1{INSTITUTION}"
CONDITIONS = "urn:hyojun:valueset:condition"
LOCAL = f"""kind,code,display,system,standard_code
condition,D1,肺炎（当院）,{systems.DISEASE_KEY},20050001
condition,D2,肺炎（外来）,{systems.DISEASE_KEY},20050001
lab,1001,総蛋白_血清,{systems.CORE_LAB},{TP}
infection,2001,HBs抗原,{systems.INFECTION_LAB},{HBS}
prescription,M1,アムロジピン,{systems.YJ},{AMLODIPINE}
lab,9999,院内検査,,
""".encode()


def client_of(database: Database) -> TestClient:
    app = FastAPI(redirect_slashes=False)
    app.include_router(terminology_router(database, INSTITUTION))
    outcome.install(app)
    return TestClient(app, raise_server_exceptions=False)


@pytest.fixture(scope="module")
def client(database: Database) -> Iterator[TestClient]:
    load_all(database)
    old = [concept(Kind.CONDITION, "20050001", "肺臓炎", (systems.DISEASE_KEY, "20050001", "肺臓炎"))]
    load(database, systems.DISEASE_KEY, "5.10", old, active=False)
    with database.session_scope() as session:
        assert import_local(session, LOCAL, by="tester").stored
        cut_short = CodeSystemRelease(system=systems.DISEASE_KEY, version="6", fingerprint="x", state=ImportState.IMPORTING)
        session.add(cut_short)
        session.flush()
        half = concept(Kind.CONDITION, "20057777", "半分", (systems.DISEASE_KEY, "20057777", "半分"))
        session.execute(insert(Concept), [half | {"release_id": cut_short.id}])
    with client_of(database) as client:
        yield client


def ok(response: Any) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/fhir+json"
    body: dict[str, Any] = response.json()
    return body


def refused(response: Any, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/fhir+json"
    body = response.json()
    assert body["resourceType"] == "OperationOutcome"
    [issue] = body["issue"]
    assert issue["severity"] == "error" and issue["diagnostics"]
    return dict(issue)


def parameters(**values: Any) -> dict[str, Any]:
    parts = [{"name": name, **value} for name, value in values.items()]
    return {"resourceType": "Parameters", "parameter": parts}


def value_of(part: dict[str, Any]) -> Any:
    return next(value for key, value in part.items() if key.startswith("value"))


def named(body: dict[str, Any], name: str) -> list[Any]:
    return [value_of(part) for part in body["parameter"] if part["name"] == name]


def properties(body: dict[str, Any]) -> list[tuple[str, Any]]:
    found = [part["part"] for part in body["parameter"] if part["name"] == "property"]
    for parts in found:
        assert [part["name"] for part in parts] == ["code", "value"]
    return [(value_of(parts[0]), value_of(parts[1])) for parts in found]


# --- $lookup ----------------------------------------------------------------------------------------------------------


def lookup(client: TestClient, **query: str) -> Any:
    return client.get("/fhir/CodeSystem/$lookup", params=query)


def test_lookup_tells_what_the_table_knows(client: TestClient) -> None:
    body = ok(lookup(client, system=systems.DISEASE_KEY, code="20050004"))
    assert body["resourceType"] == "Parameters"
    assert (named(body, "name"), named(body, "version")) == (["master-disease-keyNumber"], ["5.17"])
    assert named(body, "display") == ["２型糖尿病"]
    [designation] = [part["part"] for part in body["parameter"] if part["name"] == "designation"]
    assert designation == [{"name": "value", "valueString": "NIDDM"}]
    assert ("inactive", False) in properties(body) and ("kana", "ニガタトウニョウビョウ") in properties(body)
    assert ("coding", {"system": systems.ICD10, "code": "E119", "display": "２型糖尿病"}) in properties(body)
    retired = ok(lookup(client, system=systems.DISEASE_KEY, code="20050006", property="inactive"))
    assert properties(retired) == [("inactive", True)]
    assert ("successor", "20050004") in properties(ok(lookup(client, system=systems.DISEASE_KEY, code="20050006")))


def test_lookup_finds_codes_inside_other_tables(client: TestClient) -> None:
    assert named(ok(lookup(client, system=systems.YJ, code=AMLODIPINE)), "display") == ["アムロジピン錠5mg「検査」"]
    # The version of the table around it is not its own.
    assert named(ok(lookup(client, system=systems.YJ, code=AMLODIPINE)), "version") == []
    # E119 stands for two names; that of the retired row comes last.
    assert named(ok(lookup(client, system=systems.ICD10, code="E119")), "display") == ["２型糖尿病"]
    assert named(ok(lookup(client, system=systems.JFAGY_PRODUCT, code=f"YCM{AMLODIPINE}")), "display")
    ingredient = ok(lookup(client, system=systems.JFAGY_INGREDIENT, code=f"GCM{AMLODIPINE[:9]}ZZZ"))
    assert named(ingredient, "display") == ["【成分名】アムロジピンベシル酸塩"]


def test_lookup_in_an_old_version(client: TestClient) -> None:
    old = ok(lookup(client, system=systems.DISEASE_KEY, code="20050001", version="5.10"))
    assert (named(old, "display"), named(old, "version")) == (["肺臓炎"], ["5.10"])
    assert named(ok(lookup(client, system=systems.DISEASE_KEY, code="20050001")), "display") == ["肺炎"]
    refused(lookup(client, system=systems.DISEASE_KEY, code="20050002", version="5.10"), 404)
    refused(lookup(client, system=systems.DISEASE_KEY, code="20050001", version="4"), 404)
    # An import that was cut short is no version.
    refused(lookup(client, system=systems.DISEASE_KEY, code="20057777", version="6"), 404)


def test_lookup_of_the_hospitals_own_codes(client: TestClient) -> None:
    body = ok(lookup(client, system=systems.LOCAL_LAB, code="1001"))
    assert named(body, "display") == ["総蛋白_血清"]
    assert ("coding", {"system": systems.CORE_LAB, "code": TP, "display": "TP"}) in properties(body)
    assert named(ok(lookup(client, system=systems.LOCAL_LAB, code="2001")), "display") == ["HBs抗原"]
    assert named(ok(lookup(client, system=DRUGS, code="M1")), "display") == ["アムロジピン"]
    assert properties(ok(lookup(client, system=systems.LOCAL_LAB, code="9999"))) == [("inactive", False)]
    refused(lookup(client, system="urn:hyojun:local:condition", code="1001"), 404)


def test_lookup_by_post(client: TestClient) -> None:
    coding = {"valueCoding": {"system": systems.DISEASE_KEY, "code": "20050001", "version": "5.10"}}
    plain = {"system": {"valueUri": systems.DISEASE_KEY}, "code": {"valueCode": "20050001"}}
    url = "/fhir/CodeSystem/$lookup"
    assert named(ok(client.post(url, json=parameters(coding=coding))), "display") == ["肺臓炎"]
    assert named(ok(client.post(url, json=parameters(**plain))), "display") == ["肺炎"]
    refused(client.post(url, json={"resourceType": "Patient"}), 400)
    refused(client.post(url, json=parameters(coding={"valueString": "x"})), 400)
    refused(client.post(url, json={"resourceType": "Parameters", "parameter": [1]}), 400)
    refused(client.post(url, json={"resourceType": "Parameters", "parameter": 1}), 400)
    refused(client.post(url, content=b"{", headers={"content-type": "application/json"}), 400)
    refused(client.post(url, content=b"<x/>", headers={"content-type": "application/fhir+xml"}), 415)


@pytest.mark.parametrize("query", [{}, {"system": systems.DISEASE_KEY}, {"code": "1"}, {"system": "", "code": "1"}])
def test_lookup_needs_system_and_code(client: TestClient, query: dict[str, str]) -> None:
    assert "missing" in refused(lookup(client, **query), 400)["diagnostics"]


def test_what_is_not_there_or_cannot_be_is_said(client: TestClient) -> None:
    for code in ("nope", "肺炎", "20050001 ", "%", "'; DROP TABLE concepts; --"):
        refused(lookup(client, system=systems.DISEASE_KEY, code=code), 404)
    refused(lookup(client, system="http://example.org/x", code="20050001"), 404)
    for code in ("\x00", "a\x00", "\n", "x" * 2000):
        refused(lookup(client, system=systems.DISEASE_KEY, code=code), 400)
    for surrogate in ("\\ud800", "\\u0000"):
        raw = '{"resourceType":"Parameters","parameter":[{"name":"code","valueCode":"' + surrogate + '"}]}'
        response = client.post(
            f"/fhir/CodeSystem/$lookup?system={systems.DISEASE_KEY}", content=raw, headers={"content-type": "application/json"}
        )
        refused(response, 400)
    assert client.get("/fhir/CodeSystem/$lookup", headers={"accept": "application/fhir+xml"}).status_code == 406


# --- $expand ----------------------------------------------------------------------------------------------------------


def expand(client: TestClient, url: str, **query: Any) -> Any:
    return client.get("/fhir/ValueSet/$expand", params={"url": url, **query})


def codes(response: Any) -> list[str]:
    expansion = ok(response)["expansion"]
    return [hit["code"] for hit in expansion.get("contains", [])]


def test_expansion_of_a_whole_table(client: TestClient) -> None:
    body = ok(expand(client, f"{systems.DISEASE_KEY}?fhir_vs"))
    assert (body["resourceType"], body["status"], body["url"]) == ("ValueSet", "active", f"{systems.DISEASE_KEY}?fhir_vs")
    expansion = body["expansion"]
    assert (expansion["total"], expansion["offset"]) == (6, 0)
    assert expansion["identifier"].startswith("urn:uuid:") and "T" in expansion["timestamp"]
    assert [hit["code"] for hit in expansion["contains"]] == [f"2005000{n}" for n in range(1, 7)]
    first, last = expansion["contains"][0], expansion["contains"][-1]
    assert first == {"system": systems.DISEASE_KEY, "code": "20050001", "display": "肺炎", "version": "5.17"}
    assert last["inactive"] is True
    assert {"name": "version", "valueUri": f"{systems.DISEASE_KEY}|5.17"} in expansion["parameter"]
    assert "20050006" not in codes(expand(client, systems.DISEASE_KEY, activeOnly="true"))


def test_pages_hold_every_code_once(client: TestClient) -> None:
    pages = [codes(expand(client, systems.DISEASE_KEY, count=4, offset=offset)) for offset in (0, 4, 8)]
    assert [len(page) for page in pages] == [4, 2, 0]
    assert sorted(pages[0] + pages[1]) == [f"2005000{n}" for n in range(1, 7)]
    beyond = ok(expand(client, systems.DISEASE_KEY, count=4, offset=8))["expansion"]
    assert beyond["total"] == 6 and "contains" not in beyond
    none = ok(expand(client, systems.DISEASE_KEY, count=0))["expansion"]
    assert none["total"] == 6 and "contains" not in none


@pytest.mark.parametrize(
    ("filter_", "found"),
    [
        ("肺炎", ["20050001", "20050003", "20050002"]),  # the name itself, then its beginning, then its middle
        ("誤嚥", ["20050002"]),
        ("はいえん", ["20050001", "20050003", "20050002"]),
        ("ハイエン", ["20050001", "20050003", "20050002"]),
        ("ごえん", ["20050002"]),  # half-width katakana in the table
        ("2型糖尿病", ["20050004", "20050005"]),  # width folded
        ("糖尿病", ["20050004", "20050005", "20050006"]),  # what its table retired comes last
        ("糖尿病 腎症", ["20050005"]),
        ("腎症　糖尿病", ["20050005"]),
        ("糖尿病 肺炎", []),
        ("nidDM", ["20050004"]),
        ("20050002", ["20050002"]),
        ("200500", [f"2005000{n}" for n in (1, 2, 4, 3, 5, 6)]),
        ("050002", []),  # a code is found by its beginning
        ("肺", ["20050001", "20050003"]),  # one character: beginnings of names
        ("球菌肺", ["20050003"]),
        ("%", []),
        ("_", []),
        ("2005____", []),
        ("・", []),
        ("\\", []),
        ("' OR 1=1 --", []),
    ],
)
def test_filters(client: TestClient, filter_: str, found: list[str]) -> None:
    assert codes(expand(client, systems.DISEASE_KEY, filter=filter_)) == found
    assert codes(expand(client, CONDITIONS, filter=filter_)) == found


def test_codes_of_other_tables_are_searched_too(client: TestClient) -> None:
    assert codes(expand(client, systems.ICD10)) == ["E112", "E119", "J13", "J189", "J690"]
    hits = ok(expand(client, systems.ICD10, filter="e11"))["expansion"]["contains"]
    assert [(hit["code"], hit["display"]) for hit in hits] == [("E119", "２型糖尿病"), ("E112", "２型糖尿病性腎症")]
    assert not any("version" in hit for hit in hits)
    assert codes(expand(client, systems.ICD10, filter="E112")) == ["E112"]
    assert codes(expand(client, systems.ICD10, filter="誤嚥")) == ["J690"]
    assert codes(expand(client, systems.YJ, filter="アムロジピン")) == [AMLODIPINE]


def test_expansion_by_kind(client: TestClient) -> None:
    drugs = ok(expand(client, "urn:hyojun:valueset:prescription"))["expansion"]["contains"]
    # A price without a code that a resource could hold is not offered.
    assert [(hit["system"], hit["code"]) for hit in drugs] == [(systems.YJ, AMLODIPINE)]
    assert len(codes(expand(client, "urn:hyojun:valueset:lab"))) == 4
    refused(expand(client, "urn:hyojun:valueset:family"), 404)


def test_expansion_of_a_version(client: TestClient) -> None:
    for response in (
        expand(client, f"{systems.DISEASE_KEY}|5.10"), expand(client, systems.DISEASE_KEY, valueSetVersion="5.10"),
    ):  # fmt: skip
        hits = ok(response)["expansion"]["contains"]
        assert [(hit["display"], hit["version"]) for hit in hits] == [("肺臓炎", "5.10")]
    refused(expand(client, f"{systems.DISEASE_KEY}|6"), 404)
    refused(expand(client, "http://example.org/none"), 404)


def test_expansion_by_post(client: TestClient) -> None:
    body = parameters(
        url={"valueUri": systems.DISEASE_KEY},
        filter={"valueString": "肺炎"},
        count={"valueInteger": 1},
        offset={"valueInteger": 1},
    )
    response = client.post("/fhir/ValueSet/$expand", json=body)
    assert codes(response) == ["20050003"] and response.json()["expansion"]["total"] == 3


@pytest.mark.parametrize(
    "query",
    [
        {"count": "-1"}, {"count": "x"}, {"count": str(MAX_COUNT + 1)}, {"offset": "9" * 12}, {"count": "1.0"},
        {"activeOnly": "perhaps"}, {"filter": "x" * 201}, {"filter": "a\x00"}, {"url": ""},
    ],
)  # fmt: skip
def test_wrong_parameters_are_refused(client: TestClient, query: dict[str, str]) -> None:
    refused(client.get("/fhir/ValueSet/$expand", params={"url": systems.DISEASE_KEY, **query}), 400)


# --- $translate -------------------------------------------------------------------------------------------------------


def translate(client: TestClient, **query: str) -> dict[str, Any]:
    return ok(client.get("/fhir/ConceptMap/$translate", params=query))


def matches(body: dict[str, Any]) -> list[tuple[str, str]]:
    found = [{part["name"]: value_of(part) for part in m["part"]} for m in body["parameter"] if m["name"] == "match"]
    assert all(match["equivalence"] == "equivalent" and match["source"].startswith(CONCEPT_MAP) for match in found)
    assert named(body, "result") == [bool(found)] and bool(named(body, "message")) != bool(found)
    return [(match["concept"]["system"], match["concept"]["code"]) for match in found]


def test_local_codes_are_translated_both_ways(client: TestClient) -> None:
    assert matches(translate(client, system=systems.LOCAL_LAB, code="1001")) == [(systems.CORE_LAB, TP)]
    assert matches(translate(client, system=systems.LOCAL_LAB, code="2001")) == [(systems.INFECTION_LAB, HBS)]
    assert matches(translate(client, system=DRUGS, code="M1")) == [(systems.YJ, AMLODIPINE)]
    assert matches(translate(client, system=systems.CORE_LAB, code=TP)) == [(systems.LOCAL_LAB, "1001")]
    assert matches(translate(client, system=systems.YJ, code=AMLODIPINE)) == [(DRUGS, "M1")]
    own = "urn:hyojun:local:condition"
    assert matches(translate(client, system=systems.DISEASE_KEY, code="20050001")) == [(own, "D1"), (own, "D2")]


def test_a_translation_that_there_is_not_is_a_result(client: TestClient) -> None:
    assert matches(translate(client, system=systems.LOCAL_LAB, code="9999")) == []
    assert matches(translate(client, system=systems.LOCAL_LAB, code="nope")) == []
    assert matches(translate(client, system=systems.CORE_LAB, code="nope")) == []
    assert matches(translate(client, system="http://example.org/x", code="1")) == []
    assert matches(translate(client, system=systems.LOCAL_LAB, code="1001", target=systems.ICD10)) == []


def test_a_translation_can_be_narrowed(client: TestClient) -> None:
    for name in ("target", "targetsystem"):
        assert matches(translate(client, system=systems.LOCAL_LAB, code="1001", **{name: systems.CORE_LAB})) == [(systems.CORE_LAB, TP)]
    assert matches(translate(client, system=systems.LOCAL_LAB, code="1001", url=CONCEPT_MAP + "lab")) == [(systems.CORE_LAB, TP)]
    assert matches(translate(client, system=systems.LOCAL_LAB, code="1001", url=CONCEPT_MAP + "infection")) == []
    assert matches(translate(client, system=systems.CORE_LAB, code=TP, url=CONCEPT_MAP + "infection")) == []
    path = "/fhir/ConceptMap/$translate"
    refused(client.get(path, params={"system": systems.LOCAL_LAB, "code": "1001", "url": "http://x"}), 404)
    refused(client.get(path, params={"system": systems.LOCAL_LAB}), 400)


def test_translation_by_post(client: TestClient) -> None:
    coding = {"system": systems.LOCAL_LAB, "code": "1001"}
    path = "/fhir/ConceptMap/$translate"
    assert matches(ok(client.post(path, json=parameters(coding={"valueCoding": coding})))) == [(systems.CORE_LAB, TP)]
    concept_of = {"valueCodeableConcept": {"coding": [coding]}}
    assert matches(ok(client.post(path, json=parameters(codeableConcept=concept_of)))) == [(systems.CORE_LAB, TP)]
    two = {"valueCodeableConcept": {"coding": [coding, coding]}}
    refused(client.post(path, json=parameters(codeableConcept=two)), 400)


# --- tables -----------------------------------------------------------------------------------------------------------


def test_the_loaded_tables_are_listed_and_read(client: TestClient) -> None:
    bundle = ok(client.get("/fhir/CodeSystem", params={"url": systems.DISEASE_KEY, "unknown": "x"}))
    assert (bundle["type"], bundle["total"]) == ("searchset", 2)
    [link] = bundle["link"]
    assert link["relation"] == "self" and "url=" in link["url"] and "unknown" not in link["url"]
    found = [entry["resource"] for entry in bundle["entry"]]
    assert [(r["version"], r["status"], r["content"], r["count"]) for r in found] == [
        ("5.17", "active", "not-present", 6), ("5.10", "retired", "not-present", 1),
    ]  # fmt: skip
    entry = bundle["entry"][0]
    assert entry["search"] == {"mode": "match"} and entry["fullUrl"].endswith(f"/fhir/CodeSystem/{found[0]['id']}")
    assert ok(client.get(f"/fhir/CodeSystem/{found[0]['id']}")) == found[0]
    assert ok(client.get("/fhir/CodeSystem"))["total"] == 7
    assert "entry" not in ok(client.get("/fhir/CodeSystem?url=http://example.org/x"))
    refused(client.get(f"/fhir/CodeSystem/{uuid4()}"), 404)
    refused(client.get("/fhir/CodeSystem/nope"), 404)


def test_nothing_is_loaded(fresh_database: Database) -> None:
    with client_of(fresh_database) as empty:
        refused(lookup(empty, system=systems.DISEASE_KEY, code="1"), 404)
        refused(expand(empty, systems.DISEASE_KEY), 404)
        assert ok(expand(empty, CONDITIONS))["expansion"]["total"] == 0
        assert matches(translate(empty, system=systems.LOCAL_LAB, code="1")) == []


# --- the database -----------------------------------------------------------------------------------------------------


def test_the_functions_of_the_migrations_are_those_of_the_models(database: Database, empty_database_url: str) -> None:
    bodies = text("SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname IN ('name_fold', 'name_grams') ORDER BY 1")
    by_models = Database(empty_database_url)
    with by_models.session_scope() as session, database.session_scope() as migrated:
        session.execute(text(NAME_FUNCTIONS))
        assert session.scalars(bodies).all() == migrated.scalars(bodies).all() != []
    by_models.dispose()


def test_searches_use_the_indexes(fresh_database: Database) -> None:
    names = [a + b for a in "肺胃腸脳心腎肝" for b in ("炎", "癌", "潰瘍")]
    rows = [
        concept(
            Kind.CONDITION, f"{n:08}", f"{names[n % 21]}第{n}", (systems.DISEASE_KEY, f"{n:08}", "x"), (systems.ICD10, f"A{n}", "x")
        )
        for n in range(20_000)
    ]
    load(fresh_database, systems.DISEASE_KEY, "1", rows)
    with fresh_database.session_scope() as session:
        session.execute(text("ANALYZE concepts"))
    plans: list[str] = []

    def explain(connection: Any, cursor: Any, statement: str, values: Any, *_: Any) -> None:
        if ("FROM concepts" in statement or "JOIN concepts" in statement) and "EXISTS" not in statement:
            cursor.execute("EXPLAIN " + statement, values)
            plans.append("\n".join(row[0] for row in cursor.fetchall()))

    event.listen(fresh_database.engine, "before_cursor_execute", explain)
    for url in (systems.DISEASE_KEY, systems.ICD10, CONDITIONS):
        with fresh_database.session_scope() as session:
            assert browse.expand(session, url, "潰瘍第12", count=10).total > 0
    assert len(plans) == 3 and all("ix_concepts_name_grams" in plan for plan in plans)
    plans.clear()
    with fresh_database.session_scope() as session:
        assert browse.expand(session, systems.DISEASE_KEY, "0000012", count=10).total == 10
        assert browse.find(session, systems.DISEASE_KEY, "00000012")
        assert browse.find(session, systems.ICD10, "A77")
        assert len(browse.find_all(session, [(systems.ICD10, f"A{n}") for n in range(50)])) == 50
    assert len(plans) == 6
    assert all("ix_concepts_release_id_code" in plan for plan in plans[:3])
    assert all("ix_concepts_codings" in plan for plan in (plans[3], plans[5]))
    assert not any("Seq Scan on concepts" in plan for plan in plans)
