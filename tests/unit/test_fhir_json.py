"""Bundles, JSON text and the checks: what is written keeps its digits, what is wrong is found."""

import base64
import copy
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from fhir_cases import note_of, statement
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import InvalidInput
from app.fhir import ProvenanceSource, assert_known_codes, build_resources, check, collection, dumps, loads
from schemas.coding import Coding
from schemas.issue import IssueType, Severity
from schemas.note import ChartNote, DocumentType, Patient
from schemas.record import Quantity, Record
from schemas.statement import Action, AllergyCategory, Assertion, EvidenceSpan, Field, Kind, Statement

RECORDED = datetime(2024, 5, 2, 9, 30, tzinfo=UTC)
RUN = ProvenanceSource(run_id="r", software_version="0.1.0", model="m", prompt="p", grammar="g", terminology="t")
ICD10 = "http://jpfhir.jp/fhir/core/mhlw/CodeSystem/ICD10-2013-full"
TEXT = "糖尿病 卵 Cr 1.10 薬"
NOTE = ChartNote(
    id="n-1",
    document_type=DocumentType.PROGRESS,
    department="内科",
    date=date(2024, 5, 1),
    patient=Patient(id="1", family="山田", given="花子", birth_date=date(1960, 1, 2)),
    text=TEXT,
)


def _statement(kind: Kind, name: str, **rest: Any) -> Statement:
    start = TEXT.index(name)
    span = EvidenceSpan(start=start, end=start + len(name), quote=name)
    return Statement(kind=kind, fields={Field.NAME: span}, **rest)


def _bundle() -> dict[str, Any]:
    records = [
        Record(
            statement=_statement(Kind.CONDITION, "糖尿病"),
            display="糖尿病",
            codings=(Coding(system=ICD10, code="E14", display="糖尿病"),),
        ),
        Record(
            statement=_statement(Kind.ALLERGY, "卵", assertion=Assertion.ABSENT, category=AllergyCategory.FOOD),
            display="卵",
        ),
        Record(
            statement=_statement(Kind.LAB, "Cr"), display="Cr", quantity=Quantity(value=Decimal("1.10"), unit="mg/dL")
        ),
        Record(statement=_statement(Kind.PRESCRIPTION, "薬", action=Action.STOP), display="薬"),
    ]
    resources, _ = build_resources(NOTE, records, run=RUN, recorded=RECORDED)
    return collection(NOTE, list(reversed(resources)), RECORDED)


BUNDLE = _bundle()


def _resource(bundle: dict[str, Any], resource_type: str) -> dict[str, Any]:
    found: dict[str, Any] = next(
        e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == resource_type
    )
    return found


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        here = [node["reference"]] if isinstance(node.get("reference"), str) else []
        return here + [r for value in node.values() for r in _references(value)]
    return [r for value in node for r in _references(value)] if isinstance(node, list) else []


# --- Bundle ---


def test_collection_order_and_urls() -> None:
    types = [e["resource"]["resourceType"] for e in BUNDLE["entry"]]
    assert types == [
        "Patient",
        "DocumentReference",
        "Provenance",
        "MedicationRequest",
        "Observation",
        "AllergyIntolerance",
        "Condition",
    ]
    assert BUNDLE["type"] == "collection"
    assert BUNDLE["timestamp"] == "2024-05-02T09:30:00.000+00:00"
    assert all(e["fullUrl"] == f"urn:uuid:{e['resource']['id']}" for e in BUNDLE["entry"])
    urls = {e["fullUrl"] for e in BUNDLE["entry"]}
    assert set(_references(BUNDLE)) - urls == {"#hyojun"}


def test_collection_leaves_its_arguments_alone() -> None:
    resources, _ = build_resources(NOTE, [], run=RUN, recorded=RECORDED)
    before = copy.deepcopy(resources)
    collection(NOTE, resources, RECORDED)
    assert resources == before
    assert resources[1]["subject"]["reference"].startswith("Patient/")
    with pytest.raises(InvalidInput):
        collection(NOTE, resources, datetime(2024, 5, 2))  # noqa: DTZ001


# --- JSON ---


@pytest.mark.parametrize(
    "digits", ["1.10", "1.0", "0.100", "-0.0", "1E+3", "0E-7", "12345678901234567890.123456789", "100"]
)
def test_digits_survive(digits: str) -> None:
    text = dumps({"resourceType": "Observation", "valueQuantity": {"value": Decimal(digits)}})
    assert text == f'{{"resourceType":"Observation","valueQuantity":{{"value":{digits}}}}}'
    assert dumps(loads(text)) == text


def test_digits_of_a_built_result_survive() -> None:
    text = dumps(BUNDLE)
    assert '"value":1.10}' in text
    assert loads(text) == BUNDLE
    assert dumps(loads(text)) == text


def test_key_order_does_not_depend_on_the_source() -> None:
    one = {
        "resourceType": "Condition",
        "meta": {},
        "id": "a",
        "_onsetDateTime": {},
        "subject": {},
        "onsetDateTime": "2",
    }
    other = dict(reversed(one.items()))
    assert dumps(one) == dumps(other)
    assert list(loads(dumps(other))) == ["resourceType", "id", "meta", "onsetDateTime", "_onsetDateTime", "subject"]


def test_a_float_is_refused() -> None:
    with pytest.raises(InvalidInput):
        dumps({"resourceType": "Observation", "valueQuantity": {"value": 1.1}})


@pytest.mark.parametrize("text", ['{"display":"秘密"', "[1]", '"秘密"', b"\xff\xfe", "NaN", "[" * 100_000])
def test_what_is_not_a_json_object_is_refused_without_quoting_it(text: str | bytes) -> None:
    with pytest.raises(InvalidInput) as caught:
        loads(text)
    assert "秘密" not in str(caught.value)


# --- checks ---


def test_what_was_built_is_right() -> None:
    assert check(BUNDLE) == []


_FAULTS: list[tuple[str, list[Any], Any, IssueType]] = [
    ("Condition", ["clinicalStatus", "coding", 0, "code"], "ill", IssueType.CODE_INVALID),
    ("Condition", ["verificationStatus", "coding", 0, "code"], "entered-in-error", IssueType.BUSINESS_RULE),
    ("Condition", ["abatementDateTime"], "2024-01-01", IssueType.BUSINESS_RULE),
    ("Condition", ["code", "coding", 0, "system"], " ", IssueType.REQUIRED),
    ("Condition", ["code", "coding", 0, "code"], None, IssueType.REQUIRED),
    ("Condition", ["code", "coding", 0, "display"], "", IssueType.REQUIRED),
    ("Condition", ["subject", "reference"], "urn:uuid:00000000-0000-0000-0000-000000000000", IssueType.NOT_FOUND),
    ("Condition", ["subject"], {}, IssueType.STRUCTURE),
    ("Condition", ["recordedDate"], "2024-02-30", IssueType.STRUCTURE),
    ("Condition", ["nonsense"], 1, IssueType.STRUCTURE),
    ("Condition", ["id"], "a" * 65, IssueType.VALUE),
    ("Condition", ["extension", 0, "extension", 1, "valueInteger"], 13, IssueType.VALUE),
    ("Condition", ["extension", 0, "extension", 1, "valueInteger"], -1, IssueType.VALUE),
    ("Condition", ["extension", 0, "extension", 2, "url"], "width", IssueType.INCOMPLETE),
    ("Condition", ["note"], [], IssueType.STRUCTURE),
    ("AllergyIntolerance", ["category"], ["other"], IssueType.CODE_INVALID),
    ("AllergyIntolerance", ["verificationStatus", "coding", 0, "code"], "entered-in-error", IssueType.BUSINESS_RULE),
    ("Observation", ["status"], "done", IssueType.CODE_INVALID),
    ("Observation", ["dataAbsentReason"], {"text": "x"}, IssueType.BUSINESS_RULE),
    ("Observation", ["valueQuantity", "comparator"], "~", IssueType.CODE_INVALID),
    ("Observation", ["valueQuantity", "value"], 1.1, IssueType.VALUE),
    ("Observation", ["valueQuantity", "system"], ..., IssueType.BUSINESS_RULE),
    ("Observation", ["valueQuantity"], ..., IssueType.BUSINESS_RULE),
    ("Observation", ["code"], ..., IssueType.REQUIRED),
    ("MedicationRequest", ["status"], "paused", IssueType.CODE_INVALID),
    ("MedicationRequest", ["intent"], "wish", IssueType.CODE_INVALID),
    ("DocumentReference", ["status"], "old", IssueType.CODE_INVALID),
    ("DocumentReference", ["content", 0, "attachment", "contentType"], ..., IssueType.BUSINESS_RULE),
    ("DocumentReference", ["content", 0, "attachment", "data"], "@@@", IssueType.VALUE),
    ("Patient", ["gender"], "M", IssueType.CODE_INVALID),
    ("Provenance", ["contained", 0, "id"], "other", IssueType.NOT_FOUND),
    ("Provenance", ["contained", 0, "resourceType"], "FooType", IssueType.STRUCTURE),
    ("Provenance", ["resourceType"], "FooType", IssueType.STRUCTURE),
]


@pytest.mark.parametrize(("resource_type", "path", "value", "code"), _FAULTS)
def test_a_planted_fault_is_found(resource_type: str, path: list[Any], value: Any, code: IssueType) -> None:
    bundle = copy.deepcopy(BUNDLE)
    target: Any = _resource(bundle, resource_type)
    for step in path[:-1]:
        target = target[step]
    if value is ...:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    assert code in {issue.code for issue in check(bundle)}


def test_faults_of_the_bundle_itself_are_found() -> None:
    twice = copy.deepcopy(BUNDLE)
    twice["entry"].append(copy.deepcopy(twice["entry"][0]))
    assert any("bdl-7" in issue.text for issue in check(twice))
    empty = copy.deepcopy(BUNDLE)
    del empty["entry"][3]["resource"]
    assert any(issue.text.startswith("Bundle.entry[3].resource") for issue in check(empty))
    assert IssueType.CODE_INVALID in {i.code for i in check(BUNDLE | {"type": "heap"})}
    assert check({"resourceType": "Bundle"}) != []
    again = copy.deepcopy(BUNDLE)
    again["entry"].append(copy.deepcopy(again["entry"][0]) | {"fullUrl": "urn:uuid:00000000-0000-4000-8000-000000000000"})
    assert any(i.text.startswith("Bundle.entry[7].resource.id: bdl-ids") for i in check(again))


@pytest.mark.parametrize(
    ("bundle_type", "reference", "severity"),
    [
        ("collection", "urn:uuid:00000000-0000-4000-8000-000000000000", Severity.ERROR),
        ("collection", "Patient/elsewhere", Severity.ERROR),
        ("collection", "http://example.org/Patient/1", Severity.WARNING),
        ("searchset", "Patient/elsewhere", Severity.WARNING),
        ("searchset", "urn:uuid:00000000-0000-4000-8000-000000000000", Severity.ERROR),
    ],
)
def test_a_reference_out_of_the_bundle(bundle_type: str, reference: str, severity: Severity) -> None:
    bundle = copy.deepcopy(BUNDLE) | {"type": bundle_type}
    _resource(bundle, "Condition")["subject"]["reference"] = reference
    position = [e["resource"]["resourceType"] for e in bundle["entry"]].index("Condition")
    expected = f"Bundle.entry[{position}].resource.subject.reference: reference does not resolve in the Bundle"
    assert (severity, expected) in {(i.severity, i.text) for i in check(bundle)}


def test_an_id_of_a_bundled_resource_is_that_of_its_url() -> None:
    bundle = copy.deepcopy(BUNDLE)
    bundle["entry"][2]["resource"]["id"] = "00000000-0000-4000-8000-000000000000"
    assert any(i.text == "Bundle.entry[2].fullUrl: not the id of its resource" for i in check(bundle))


def test_paths_of_bound_codes_are_those_of_the_resource() -> None:
    allergy = copy.deepcopy(_resource(BUNDLE, "AllergyIntolerance"))
    allergy["category"] = ["food", "pollen"]
    assert [i.text for i in check(allergy)] == ["AllergyIntolerance.category[1]: not in the required value set"]


def test_issues_never_quote_the_resource() -> None:
    secret = {"resourceType": "Patient", "秘密": 1, "gender": "秘密", "name": [{"秘密": "秘密", "family": 5}]}
    issues = check(secret)
    assert len(issues) >= 3
    assert all("秘密" not in issue.text for issue in issues)
    assert all("秘密" not in issue.text for issue in check({"resourceType": "秘密"}))


def test_evidence_needs_the_text_of_the_note_to_be_bounded() -> None:
    condition = _resource(BUNDLE, "Condition")
    assert check(condition) == []
    assert check(condition, text=TEXT) == []
    assert {i.code for i in check(condition, text=TEXT[:2])} == {IssueType.VALUE}


def test_codes_come_from_tables_only() -> None:
    assert_known_codes(BUNDLE, {(ICD10, "E14")})
    with pytest.raises(InvalidInput, match=r"Bundle\.entry\[6\]\.resource\.code\.coding\[0\]"):
        assert_known_codes(BUNDLE, set())
    forged = copy.deepcopy(_resource(BUNDLE, "Observation"))
    forged["code"]["coding"][0]["code"] = "HYJ-written-by-a-model"
    with pytest.raises(InvalidInput):
        assert_known_codes(forged, {(ICD10, "E14")})


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), value=_JSON)
def test_check_answers_for_any_content(data: st.DataObject, value: Any) -> None:
    """One place of a good Bundle replaced by anything: an answer, never an exception."""
    bundle = copy.deepcopy(BUNDLE)
    holder: Any = {"root": bundle}
    key: Any = "root"
    while isinstance(holder[key], dict | list) and holder[key] and data.draw(st.integers(0, 9)):
        holder = holder[key]
        key = (
            data.draw(st.sampled_from(sorted(holder)))
            if isinstance(holder, dict)
            else data.draw(st.integers(0, len(holder) - 1))
        )
    if holder is not bundle and key != "root":
        holder[key] = value
        assert isinstance(check(bundle), list)
        for entry in bundle["entry"] if isinstance(bundle["entry"], list) else []:
            if isinstance(entry, dict) and isinstance(entry.get("resource"), dict):
                assert isinstance(check(entry["resource"]), list)
    if isinstance(value, dict):
        assert check(value) != []


def test_evidence_is_bounded_by_the_text_that_it_refers_to() -> None:
    """A Bundle of two notes: the short one must not bound the evidence of the long one."""
    short, long = "肺炎", "高血圧症。糖尿病。脳梗塞"
    entries = []
    for n, text in enumerate((short, long)):
        note = note_of(text, id=f"n-{n}")
        name = text[-3:] if n else text
        record = Record(statement=statement(text, Kind.CONDITION, {Field.NAME: name}), display=name)
        resources, _ = build_resources(note, [record], run=RUN, recorded=RECORDED)
        entries.append(collection(note, resources, RECORDED)["entry"])
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [*entries[0], *entries[1][1:]]}
    assert check(bundle) == []
    shortened = copy.deepcopy(bundle)
    documents = [e["resource"] for e in shortened["entry"] if e["resource"]["resourceType"] == "DocumentReference"]
    documents[1]["content"][0]["attachment"]["data"] = base64.b64encode(short.encode()).decode()
    assert "evidence outside the text" in " ".join(issue.text for issue in check(shortened))


def test_a_bundle_in_a_bundle_holds_its_own_references() -> None:
    note = note_of("肺炎")
    record = Record(statement=statement("肺炎", Kind.CONDITION, {Field.NAME: "肺炎"}), display="肺炎")
    inner = collection(note, build_resources(note, [record], run=RUN, recorded=RECORDED)[0], RECORDED)
    outer: dict[str, Any] = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": inner}]}
    assert check(outer) == []
    inner["entry"][2]["resource"]["subject"]["reference"] = "Patient/somebody"
    where = "Bundle.entry[0].resource.entry[2].resource.subject.reference"
    assert [issue.text for issue in check(outer)] == [f"{where}: reference does not resolve in the Bundle"]
