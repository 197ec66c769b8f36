"""`$validate` over HTTP, on a real Postgres with small tables and a small package of profiles."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from loaded_tables import TP, load_all
from starlette.testclient import TestClient

from app.db import Database
from app.fhir.profiles import Profiles, import_profiles
from app.intake import MAX_BYTES
from app.web import outcome
from app.web.validate_api import profiles_of, validate_router
from schemas import systems

ROOT = Path(__file__).resolve().parents[2]
URL = "http://example.org/StructureDefinition/BornPatient"
LOCAL_LAB = "http://jpfhir.jp/fhir/clins/CodeSystem/JP_CLINS_ObsLabResult_LocalCode_CS"
# Values that occur in the resources of these tests and nowhere else: no answer may hold one.
MARKS = ("鱗鷲坂", "咲羅々", "XQZ")


def client_of(database: Database, profiles: Callable[[], Profiles | None]) -> TestClient:
    app = FastAPI(redirect_slashes=False)
    app.include_router(validate_router(database, profiles))
    outcome.install(app)
    return TestClient(app, raise_server_exceptions=False)


@pytest.fixture(scope="module")
def client(database: Database) -> Iterator[TestClient]:
    load_all(database)
    with client_of(database, lambda: None) as client:
        yield client


def package(folder: Path) -> Path:
    """A FHIR package with the type Patient, cut down, and one profile of it: there is a birth date."""
    base = "http://hl7.org/fhir/StructureDefinition/Patient"
    folder.mkdir()
    (folder / "package.json").write_text(json.dumps({"name": "example.born", "version": "1.0.0"}), "utf-8")
    for url, least, derivation in ((base, 0, "specialization"), (URL, 1, "constraint")):
        types = {"meta": "Meta", "birthDate": "date", "gender": "code", "name": "HumanName"}
        elements = [{"id": "Patient", "path": "Patient", "min": 0, "max": "*"}] + [
            {"id": f"Patient.{name}", "path": f"Patient.{name}", "min": least if name == "birthDate" else 0,
             "max": "*" if name == "name" else "1", "type": [{"code": type_}]}
            for name, type_ in types.items()
        ]  # fmt: skip
        definition = {
            "resourceType": "StructureDefinition", "url": url, "version": "1", "name": "P", "status": "active",
            "kind": "resource", "abstract": False, "type": "Patient", "derivation": derivation,
            "baseDefinition": base, "snapshot": {"element": elements},
        }  # fmt: skip
        (folder / f"StructureDefinition-{least}.json").write_text(json.dumps(definition), "utf-8")
    return folder


def patient(**changes: Any) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "name": [{"family": "鱗鷲坂", "given": ["咲羅々"]}],
        "gender": "female",
    } | changes


def condition(*codings: dict[str, Any], **changes: Any) -> dict[str, Any]:
    status = "http://terminology.hl7.org/CodeSystem/condition-clinical"
    return {
        "resourceType": "Condition",
        "clinicalStatus": {"coding": [{"system": status, "code": "active", "display": "Active"}]},
        "code": {"coding": list(codings), "text": "鱗鷲坂"},
        "subject": {"display": "鱗鷲坂"},
    } | changes


def disease(code: str = "20050001", display: str = "肺炎", **more: str) -> dict[str, Any]:
    return {"system": systems.DISEASE_KEY, "code": code, "display": display, **more}


def validated(client: TestClient, resource: Any, path: str = "/fhir/$validate") -> list[dict[str, Any]]:
    """The issues, without those that only say how was checked. No issue holds a value of the resource."""
    raw = resource if isinstance(resource, bytes | str) else json.dumps(resource, ensure_ascii=False).encode()
    response = client.post(path, content=raw, headers={"content-type": "application/fhir+json"})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/fhir+json"
    body = response.json()
    assert body["resourceType"] == "OperationOutcome" and body["issue"]
    for mark in MARKS:
        assert mark not in response.text
    for issue in body["issue"]:
        assert issue["severity"] in ("error", "warning", "information") and issue["code"] and issue["diagnostics"]
    return [issue for issue in body["issue"] if issue["severity"] != "information"]


def told(client: TestClient, resource: Any, path: str = "/fhir/$validate") -> list[tuple[str, str, list[str]]]:
    return [(i["severity"], i["code"], i.get("expression", [])) for i in validated(client, resource, path)]


def refused(response: Any, status: int) -> str:
    assert response.status_code == status, response.text
    [issue] = response.json()["issue"]
    assert issue["severity"] == "error"
    for mark in MARKS:
        assert mark not in response.text
    return str(issue["diagnostics"])


# --- the answer -------------------------------------------------------------------------------------------------------


def test_a_right_resource_is_all_ok(client: TestClient) -> None:
    response = client.post("/fhir/Patient/$validate", json=patient())
    assert response.status_code == 200
    issues = response.json()["issue"]
    assert [(i["severity"], i["diagnostics"][:6]) for i in issues] == [
        ("information", "All OK"),
        ("information", "the of"),
    ]
    assert "official profiles are not loaded" in issues[1]["diagnostics"]


def test_faults_name_their_place(client: TestClient) -> None:
    wrong = patient(gender="XQZ", birthDate="2026-02-30", XQZfield=1)
    found = told(client, wrong)
    places = [place for _, _, expression in found for place in expression]
    assert ("error", "code-invalid", ["Patient.gender"]) in found and "Patient.birthDate" in places
    assert {severity for severity, _, _ in found} == {"error"}


def test_decimals_keep_their_digits(client: TestClient) -> None:
    raw = json.dumps(condition(disease()))[:-1] + ', "extension": [{"url": "http://x", "valueDecimal": 1.10}]}'
    assert told(client, raw) == []


def test_the_type_of_the_url_is_that_of_the_body(client: TestClient) -> None:
    [issue] = validated(client, patient(), "/fhir/Condition/$validate")
    assert (issue["severity"], issue["code"]) == ("error", "invalid") and "type" in issue["diagnostics"]


@pytest.mark.parametrize(
    "resource",
    [
        {}, {"resourceType": 1}, {"resourceType": "XQZ 鱗鷲坂"}, {"resourceType": "Xqzzz"}, {"resourceType": ["Patient"]},
        {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": {"resourceType": "Xqzzz"}}]},
        {"resourceType": "Patient", "meta": "XQZ"}, {"resourceType": "Patient", "meta": {"profile": "XQZ"}},
        {"resourceType": "Patient", "name": {"XQZ key": [{"system": systems.DISEASE_KEY, "code": "XQZ"}]}},
    ],
)  # fmt: skip
def test_what_can_be_read_gets_an_answer(client: TestClient, resource: dict[str, Any]) -> None:
    assert "error" in {issue["severity"] for issue in validated(client, resource)}
    assert "error" in {issue["severity"] for issue in validated(client, resource, f"/fhir/$validate?profile={URL}")}


def test_every_expression_is_a_path(client: TestClient) -> None:
    odd = patient(**{"XQZ key": [{"system": systems.DISEASE_KEY, "code": "XQZ"}], "鱗鷲坂": {"a": {"b": None}}})
    for issue in validated(client, odd):
        for place in issue.get("expression", []):
            assert place.startswith("Patient") and place.replace(".", "").replace("[", "").replace("]", "").isalnum()


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b'"x"', b"null", b"\xff\xfe", b'{"resourceType": NaN}', b"[" * 100_000, b'{"a":' * 90_000]
)
def test_what_cannot_be_read_is_refused(client: TestClient, raw: bytes) -> None:
    response = client.post("/fhir/$validate", content=raw, headers={"content-type": "application/fhir+json"})
    assert "request body" in refused(response, 400)


def test_limits_and_media_types(client: TestClient) -> None:
    headers = {"content-type": "application/fhir+json"}
    assert client.post("/fhir/$validate", content=b" " * (MAX_BYTES + 1), headers=headers).status_code == 413
    xml = {"content-type": "application/fhir+xml"}
    assert client.post("/fhir/$validate", content=b"<Patient/>", headers=xml).status_code == 415
    assert client.post("/fhir/$validate", json=patient(), headers={"accept": "application/fhir+xml"}).status_code == 406
    deep: dict[str, Any] = {"resourceType": "Patient", "extension": []}
    inner = deep
    for _ in range(400):
        inner["extension"] = [{"url": "http://x"}]
        inner = inner["extension"][0]
    assert validated(client, deep)


def test_a_byte_order_mark_is_no_fault(client: TestClient) -> None:
    assert told(client, b"\xef\xbb\xbf" + json.dumps(patient()).encode()) == []


# --- Parameters, mode and profile -------------------------------------------------------------------------------------


def wrapped(*parts: dict[str, Any], resource: Any = None) -> dict[str, Any]:
    own = [{"name": "resource", "resource": patient() if resource is None else resource}]
    return {"resourceType": "Parameters", "parameter": [*own, *parts]}


def test_parameters_hold_the_resource(client: TestClient) -> None:
    assert told(client, wrapped()) == []
    assert told(client, wrapped(), "/fhir/Patient/$validate") == []
    assert told(client, wrapped(resource=patient(gender="XQZ"))) == [("error", "code-invalid", ["Patient.gender"])]
    two = wrapped({"name": "resource", "resource": patient()})
    for body in (two, {"resourceType": "Parameters"}, wrapped(resource="XQZ")):
        assert "resource" in refused(client.post("/fhir/$validate", json=body), 400)
    # A Parameters can itself be what is checked.
    assert told(client, {"resourceType": "Parameters"}, "/fhir/Parameters/$validate") == []


def test_modes(client: TestClient) -> None:
    assert told(client, patient(), "/fhir/$validate?mode=create") == []
    assert told(client, patient(), "/fhir/$validate?mode=update") == [("error", "required", [])]
    assert told(client, patient(id="p"), "/fhir/$validate?mode=update") == []
    assert told(client, wrapped({"name": "mode", "valueCode": "delete"})) == []
    assert told(client, {"resourceType": "Parameters"}, "/fhir/Parameters/$validate?mode=delete") == [("error", "not-supported", [])]
    for query in ("mode=XQZ", "mode=profile"):
        refused(client.post(f"/fhir/$validate?{query}", json=patient()), 400)
    refused(client.post("/fhir/$validate", json=wrapped({"name": "mode", "valueCode": ["XQZ"]})), 400)
    refused(client.post("/fhir/$validate", json=wrapped({"name": "profile", "valueUri": 1})), 400)


def test_a_profile_that_is_not_loaded_is_said(client: TestClient) -> None:
    assert told(client, patient(), f"/fhir/Patient/$validate?profile={URL}") == [("error", "not-supported", [])]


def test_a_loaded_profile_is_checked(database: Database, tmp_path: Path) -> None:
    target = tmp_path / "profiles.hyojun"
    opener = profiles_of(target)
    assert opener() is None  # and the file is looked for again
    import_profiles([package(tmp_path / "package")], target)
    loaded = opener()
    assert loaded is not None and opener() is loaded and loaded.knows(URL)
    with client_of(database, opener) as client:
        for body, query in (
            (patient(), f"?profile={URL}"), (patient(), f"?profile={URL}%7C1"), (patient(meta={"profile": [URL]}), ""),
            (wrapped({"name": "profile", "valueUri": URL}), ""), (wrapped({"name": "profile", "valueCanonical": URL}), ""),
        ):  # fmt: skip
            issues = validated(client, body, f"/fhir/Patient/$validate{query}")
            assert any("birthDate" in str(i.get("expression")) + i["diagnostics"] for i in issues), issues
        born = patient(birthDate="1950-01-02")
        issues = validated(client, born, f"/fhir/Patient/$validate?profile={URL}")
        assert not any("birthDate" in json.dumps(issue) for issue in issues)
        assert ("error", "not-found", []) in told(client, born, "/fhir/$validate?profile=http://example.org/other")
        answer = client.post("/fhir/$validate", json=born).json()
        assert "not loaded" not in json.dumps(answer)


def test_a_file_of_profiles_that_cannot_be_used_is_a_fault_of_ours(database: Database, tmp_path: Path) -> None:
    broken = tmp_path / "profiles.hyojun"
    broken.write_bytes(b"not profiles")
    with client_of(database, profiles_of(broken)) as client:
        response = client.post("/fhir/$validate", json=patient())
    assert refused(response, 503).endswith("`hyojun import-profiles`")


# --- codes ------------------------------------------------------------------------------------------------------------


def test_codes_of_loaded_tables(client: TestClient) -> None:
    place = "Condition.code.coding[0]"
    assert told(client, condition(disease())) == []
    assert told(client, condition(disease("XQZ"))) == [("error", "code-invalid", [f"{place}.code"])]
    assert told(client, condition(disease("20059999"))) == [("error", "code-invalid", [f"{place}.code"])]
    assert told(client, condition(disease(display="XQZ"))) == [("warning", "code-invalid", [f"{place}.display"])]
    # What another version has is not ours to deny.
    assert told(client, condition(disease("20059999", version="9.99"))) == [
        ("warning", "code-invalid", [f"{place}.code"])
    ]
    assert told(client, condition(disease("20059999", version="5.17"))) == [
        ("error", "code-invalid", [f"{place}.code"])
    ]
    # The standard's code for "no code" is in no table.
    assert told(client, condition(disease("99999999", "未コード化傷病名"))) == []


def test_tables_of_which_only_parts_are_known_deny_nothing(client: TestClient) -> None:
    icd = {"system": "http://jpfhir.jp/fhir/core/mhlw/CodeSystem/ICD10-2013-full", "code": "Z99.9", "display": "x"}
    assert told(client, condition(icd, {"system": "http://example.org/x", "code": "1", "display": "x"})) == []


def test_codes_are_found_wherever_they_stand(client: TestClient) -> None:
    extension = [{"url": "http://x", "valueCoding": disease("XQZ", "x")}]
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"fullUrl": "urn:uuid:1", "resource": condition(disease("XQZ"), extension=extension)}],
    }
    place = "Bundle.entry[0].resource"
    found = [expression for _, code, expression in told(client, bundle) if code == "code-invalid"]
    assert sorted(found) == [[f"{place}.code.coding[0].code"], [f"{place}.extension[0].valueCoding.code"]]


def test_codes_that_no_database_can_hold(client: TestClient) -> None:
    for code in ("\\u0000", "\\ud800x", "XQZ\\u0000"):
        raw = json.dumps(condition(disease("CODE"))).replace("CODE", code)
        response = client.post("/fhir/$validate", content=raw, headers={"content-type": "application/json"})
        assert response.status_code in (200, 400), response.text
        assert "code-invalid" in response.text or response.status_code == 400


def test_the_display_of_a_shared_item_is_checked_once(client: TestClient) -> None:
    def observation(code: str, display: str) -> dict[str, Any]:
        local = {"system": LOCAL_LAB, "code": "1", "display": "総蛋白_血清"}
        shared = {"system": systems.CORE_LAB, "code": code, "display": display}
        category = {"system": "http://jpfhir.jp/fhir/core/CodeSystem/JP_SimpleObservationCategory_CS", "code": "laboratory",
                    "display": "Laboratory"}  # fmt: skip
        return {
            "resourceType": "Observation", "status": "final", "category": [{"coding": [category]}],
            "code": {"coding": [local, shared], "text": "総蛋白_血清"}, "subject": {"display": "鱗鷲坂"},
            "valueString": "XQZ",
        }  # fmt: skip

    place = "Observation.code.coding[1]"
    assert told(client, observation(TP, "TP")) == []
    assert told(client, observation(TP, "総蛋白")) == [("error", "code-invalid", [f"{place}.display"])]
    assert told(client, observation("3A010000002327101", "TP")) == [("error", "code-invalid", [f"{place}.code"])]


def test_a_long_list_of_faults_is_cut(client: TestClient) -> None:
    many = condition(*(disease("XQZ") for _ in range(1500)))
    response = client.post("/fhir/Condition/$validate", json=many)
    issues = response.json()["issue"]
    assert len(issues) <= 1003 and any("further issues" in issue["diagnostics"] for issue in issues)


# --- the commands -----------------------------------------------------------------------------------------------------


def run(cwd: Path, command: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    code = (
        "import typer; from app.commands import profiles as p; t = typer.Typer();"
        " t.command('import-profiles')(p.import_profiles); t.command('profiles')(p.profiles); t()"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), "DATA_DIR": str(cwd / "data"), "PROFILES_PATH": ""}
    argv = [sys.executable, "-c", code, command, *(str(word) for word in words)]
    return subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=100)


def test_profiles_are_imported_and_shown_by_commands(tmp_path: Path) -> None:
    assert run(tmp_path, "profiles").returncode == 1
    done = run(tmp_path, "import-profiles", package(tmp_path / "package"))
    assert done.returncode == 0, done.stderr
    assert "example.born" in done.stdout and "1.0.0" in done.stdout and "types: 2" in done.stdout
    target = tmp_path / "data" / "profiles.hyojun"
    loaded = Profiles.open(target)
    shown = run(tmp_path, "profiles")
    assert shown.returncode == 0 and "example.born" in shown.stdout and loaded.fingerprint in shown.stdout
    before = target.read_bytes()
    failed = run(tmp_path, "import-profiles", tmp_path / "nothing")
    assert failed.returncode == 1 and target.read_bytes() == before
    target.write_bytes(b"damaged")
    assert run(tmp_path, "profiles").returncode == 1
