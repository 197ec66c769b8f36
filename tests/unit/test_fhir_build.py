"""A note as a whole: its text, what read it, the ids of its resources, and that no record can break them."""

import base64
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest
from fhir_cases import (
    DEPARTMENT,
    FACILITY,
    HOSPITAL,
    HYPERTENSION,
    KNOWN_PATIENT,
    PHYSICIAN,
    RECIPIENT,
    RECORDED,
    RUN,
    STAY,
    VISIT,
    bare,
    code_of,
    note_of,
    of_records,
    profile_of,
    statement,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import InvalidInput
from app.fhir import Facility, assert_known_codes, build_resources, check, collection, dumps, loads
from app.fhir.codes import given as given_codes
from schemas.coding import Coding
from schemas.issue import Issue, IssueType, Severity
from schemas.note import DocumentType
from schemas.record import Dosage, Modifier, ModifierPosition, Quantity, Record, ReferenceRange
from schemas.statement import (
    FIELDS,
    Action,
    AllergyCategory,
    Assertion,
    EvidenceSpan,
    Field,
    InfectionResult,
    Kind,
    Statement,
)


def test_a_family_statement_of_another_kind_is_reported_not_asserted() -> None:
    text = "母：ペニシリンアレルギー"
    made = statement(text, Kind.ALLERGY, {Field.NAME: "ペニシリン"}, assertion=Assertion.FAMILY)
    record = Record(statement=made, display="ペニシリン")
    resources, issues = build_resources(note_of(text), [record], run=RUN, recorded=RECORDED)
    assert [r["resourceType"] for r in resources] == ["Patient", "DocumentReference"]
    assert issues[0] == Issue(
        severity=Severity.ERROR,
        code=IssueType.NOT_SUPPORTED,
        text="no resource: allergy of a family member",
        start=2,
        end=7,
    )


def test_evidence_that_does_not_quote_the_note_makes_no_resource() -> None:
    wrong = Statement(kind=Kind.CONDITION, fields={Field.NAME: EvidenceSpan(start=0, end=2, quote="肺炎")})
    record = Record(statement=wrong, display="肺炎")
    resources, issues = build_resources(note_of("胃炎の疑い"), [record], run=RUN, recorded=RECORDED)
    assert [r["resourceType"] for r in resources] == ["Patient", "DocumentReference"]
    assert (issues[0].code, issues[0].start, issues[0].end) == (IssueType.INVALID, 0, 2)
    assert all("肺炎" not in issue.text for issue in issues)


def test_a_date_outside_the_calendar_is_reported_and_left_out() -> None:
    text = "2月30日発症 肺炎"
    made = statement(text, Kind.CONDITION, {Field.NAME: "肺炎", Field.ONSET: "2月30日"})
    record = Record(statement=made, display="肺炎", date="2024-02-30")
    resources, issues = build_resources(note_of(text), [record], run=RUN, recorded=RECORDED)
    assert "onsetDateTime" not in resources[2]
    assert (IssueType.VALUE, 8, 10) in {(i.code, i.start, i.end) for i in issues}


def test_patient_document_and_provenance() -> None:
    text = "高血圧𠮷\n"
    made = statement(text, Kind.CONDITION, {Field.NAME: "高血圧"})
    resources, issues = build_resources(
        note_of(text, DocumentType.DISCHARGE), [Record(statement=made, display="高血圧症")], run=RUN, recorded=RECORDED
    )
    patient, document, condition, provenance = resources
    assert [bare(name) for name in patient["name"]] == [
        {"use": "official", "text": "山田 花子", "family": "山田", "given": ["花子"]}
    ]
    assert (patient["gender"], patient["birthDate"], profile_of(patient)) == ("female", "1960-01-02", "JP_Patient")
    attachment = document["content"][0]["attachment"]
    assert base64.b64decode(attachment["data"]).decode() == text
    assert (attachment["contentType"], attachment["size"]) == ("text/plain; charset=utf-8", 14)
    assert attachment["hash"] == "EDlUr8sSfqFiR/Iv0yY15YLjmVc="
    assert (document["status"], document["docStatus"], code_of(document["type"])) == ("current", "final", "18842-5")
    assert condition["subject"] == document["subject"] == {"reference": f"Patient/{patient['id']}"}
    assert provenance["target"] == [{"reference": f"Condition/{condition['id']}"}]
    assert provenance["entity"] == [{"role": "source", "what": {"reference": f"DocumentReference/{document['id']}"}}]
    assert provenance["recorded"] == "2024-05-02T09:30:00.000+00:00"
    assert {v["type"]["text"]: v["value"] for v in provenance["contained"][0]["version"]} == {
        "software": "0.1.0",
        "model": "m1",
        "prompt": "p1",
        "grammar": "g1",
        "terminology": "t1",
    }
    assert [i.text for i in issues] == [
        "Patient.identifier: institution number of the facility is missing; JP Core profile claimed",
        "Patient.identifier:JP_Insurance_memberID: the sender states no insurance id; JP Core profile claimed",
        "Patient.address: the sender states no address; JP Core profile claimed",
        "Condition.identifier: institution number of the facility is missing; JP Core profile claimed",
    ]


def test_missing_elements_are_named_once_for_a_note() -> None:
    text = "肺炎 胃炎 腸炎"
    records = [
        Record(statement=statement(text, Kind.CONDITION, {Field.NAME: name}), display=name) for name in text.split()
    ]
    _, issues = build_resources(note_of(text), records, run=RUN, recorded=RECORDED)
    assert len([i for i in issues if i.text.startswith("Condition.identifier")]) == 1


def test_the_same_note_gives_the_same_ids() -> None:
    text = "肺炎。また肺炎"
    second = EvidenceSpan(start=5, end=7, quote="肺炎")
    records = [
        Record(statement=statement(text, Kind.CONDITION, {Field.NAME: "肺炎"}), display="肺炎"),
        Record(statement=Statement(kind=Kind.CONDITION, fields={Field.NAME: second}), display="肺炎"),
        Record(statement=statement(text, Kind.CONDITION, {Field.NAME: "肺炎"}), display="肺炎"),
    ]

    def ids(found: Sequence[Record], **change: Any) -> list[str]:
        note = note_of(text).model_copy(update=change)
        return [r["id"] for r in build_resources(note, found, run=RUN, recorded=RECORDED)[0]]

    first = ids(records)
    assert first == ids(records)
    assert len(set(first)) == len(first) == 6
    assert first[2] == ids(records[:1])[2]  # an id does not depend on what else the note says
    other = ids(records, id="n-2")
    assert other[0] == first[0]
    assert not set(other[1:]) & set(first[1:])


def test_two_systems_that_number_their_notes_alike_share_no_id_but_the_patients() -> None:
    text = "肺炎"
    records = [Record(statement=statement(text, Kind.CONDITION, {Field.NAME: "肺炎"}), display="肺炎")]

    def ids(source: str, facility: Facility | None = FACILITY) -> list[str]:
        return [
            r["id"]
            for r in build_resources(
                note_of(text), records, facility=facility, run=RUN, recorded=RECORDED, source=source
            )[0]
        ]

    ward, clinic = ids("ward"), ids("clinic")
    assert ward[0] == clinic[0] and not set(ward[1:]) & set(clinic[1:]) and ward == ids("ward")
    # Without an institution number nothing tells that two systems mean the same patients.
    assert not set(ids("ward", None)) & set(ids("clinic", None))


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(InvalidInput):
        build_resources(note_of("x"), [], run=RUN, recorded=datetime(2024, 5, 2))  # noqa: DTZ001


# --- any record ---

_UNITS = st.sampled_from(["mL", "本", "mg/dL", "％", "万/uL", "錠", "mg/日", "μg/kg/分", "回", "", "　"]) | st.text(
    max_size=8
)
_DATES = st.sampled_from([None, "2024", "2024-02", "2024-02-29", "2023-02-29", "令和6年", ""])
_CODES = st.sampled_from(["K-1", "K 1", ""]) | st.text(max_size=5)
_USAGE = (
    Coding(
        system="http://jpfhir.jp/fhir/core/mhlw/CodeSystem/MedicationUsage_ePrescription",
        code="2B7N000000000000",
        display="１日数回　塗布",
    ),
    Coding(system="http://jami.jp/CodeSystem/MedicationUsage", code="1011000100000000", display="１日１回朝食前"),
)
_SERUM = (
    Coding(
        system="http://jpfhir.jp/fhir/clins/CodeSystem/JLAC10/JP_CLINS_ObsLabResult_CoreLabo_CS",
        code="3H015000002399901",
        display="K",
    ),
)
_MODIFIERS = st.builds(
    Modifier,
    position=st.sampled_from(list(ModifierPosition)),
    text=st.text(max_size=3),
    codings=st.sampled_from(
        [
            (),
            (
                Coding(
                    system="http://medis.or.jp/CodeSystem/master-disease-modKeyNumber", code="27000358", display="左"
                ),
            ),
        ]
    ),
)
_NUMBERS = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12)


@st.composite
def _notes(draw: st.DrawFn) -> tuple[str, list[Record]]:
    text = draw(st.text(min_size=1, max_size=60))
    records = []
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(list(Kind)))
        fields = {}
        for name in (*FIELDS[kind], *((Field.REFERENCE,) if kind is Kind.LAB else ())):
            if name is Field.NAME or draw(st.booleans()):
                start = draw(st.integers(0, len(text) - 1))
                end = draw(st.integers(start + 1, len(text)))
                fields[name] = EvidenceSpan(start=start, end=end, quote=text[start:end])
        made = Statement(
            kind=kind,
            fields=fields,
            assertion=draw(st.sampled_from(list(Assertion))),
            category=draw(st.sampled_from([None, *AllergyCategory])) if kind is Kind.ALLERGY else None,
            result=draw(st.sampled_from([None, *InfectionResult])) if kind is Kind.INFECTION else None,
            action=draw(st.sampled_from([None, *Action])) if kind is Kind.PRESCRIPTION else None,
            confidence=draw(st.none() | st.floats(0, 1)),
        )
        quantity = draw(st.none() | st.builds(Quantity, value=_NUMBERS, comparator=st.none(), unit=st.none() | _UNITS))
        dosage = draw(
            st.none()
            | st.builds(
                Dosage,
                dose=st.none() | _NUMBERS,
                dose_unit=st.none() | _UNITS,
                per_day=st.none() | st.integers(-1, 24),
                days=st.none() | st.integers(-1, 999),
                as_needed=st.booleans(),
                text=st.none() | st.text(max_size=10),
                usage=st.sampled_from([(), _USAGE, _USAGE[:1], _USAGE[1:]]),
            )
        )
        records.append(
            Record(
                statement=made,
                display=draw(st.text(max_size=10)),
                codings=tuple(draw(st.sampled_from([(), HYPERTENSION, _SERUM]))),
                local=draw(
                    st.none() | st.builds(Coding, system=st.just("x"), code=_CODES, display=st.text(max_size=5))
                ),
                modifiers=tuple(draw(st.lists(_MODIFIERS, max_size=2))),
                reference_range=draw(
                    st.none() | st.builds(ReferenceRange, low=st.none() | _NUMBERS, high=st.none() | _NUMBERS)
                ),
                date=draw(_DATES),
                quantity=quantity,
                text_value=draw(st.none() | st.sampled_from(["陽性", "-", "2+", "AB"]) | st.text(max_size=5)),
                flag=draw(st.none() | st.text(max_size=3)),
                dosage=dosage,
                reactions=tuple(draw(st.lists(st.text(max_size=5), max_size=2))),
                relative=draw(st.none() | st.text(max_size=4)),
            )
        )
    return text, records


_FACILITIES = st.sampled_from([None, FACILITY, HOSPITAL, Facility(name="見本病院")])
_SENDERS = st.fixed_dictionaries(
    {
        "department": st.sampled_from(["内科", "　"]),
        "encounter": st.sampled_from([None, VISIT, STAY, STAY.model_copy(update={"start": None, "id": None})]),
        "physician": st.sampled_from([None, PHYSICIAN, PHYSICIAN.model_copy(update={"id": None})]),
        "recipient": st.sampled_from([None, RECIPIENT, RECIPIENT.model_copy(update={"number": None, "name": " "})]),
        "patient": st.sampled_from([KNOWN_PATIENT, KNOWN_PATIENT.model_copy(update={"family": "　", "address": " "})]),
    }
)


@settings(max_examples=80, deadline=None)
@given(made=_notes(), facility=_FACILITIES, sender=_SENDERS, department=st.sampled_from([None, DEPARTMENT]))
def test_any_records_give_valid_resources(
    made: tuple[str, list[Record]], facility: Facility | None, sender: dict[str, Any], department: Coding | None
) -> None:
    text, records = made
    note = note_of(text, **sender)
    resources, issues = build_resources(
        note, records, facility=facility, department=department, run=RUN, recorded=RECORDED
    )
    bundle = collection(note, resources, RECORDED)
    assert check(bundle) == []
    assert_known_codes(bundle, given_codes(records, department))
    assert loads(dumps(bundle)) == bundle
    derived = of_records(resources)
    refused = [issue for issue in issues if issue.severity is Severity.ERROR]
    assert len(derived) + len(refused) <= len(records)
    assert len(derived) == len(records) or refused  # nothing is left out in silence
    assert all(text not in issue.text for issue in issues if len(text) > 20)
    again, _ = build_resources(note, records, facility=facility, department=department, run=RUN, recorded=RECORDED)
    assert dumps(collection(note, again, RECORDED)) == dumps(bundle)
    for resource in derived:
        assert_a_profile_is_claimed_only_when_it_is_fulfilled(resource)
        assert_evidence_is_of_the_record(resource, records)


def assert_a_profile_is_claimed_only_when_it_is_fulfilled(resource: dict[str, Any]) -> None:
    """The mandatory elements of the eCS profiles that a record may lack (element tables of JP-CLINS 1.10.0)."""
    if not profile_of(resource).endswith("_eCS") or resource["resourceType"] == "FamilyMemberHistory":
        return
    [own] = [i for i in resource["identifier"] if i["system"].endswith("resourceInstance-identifier")]
    assert own["value"] == f"1311234567^2024^{resource['id']}"
    if resource["resourceType"] == "Condition":
        assert "99999999" in [c["code"] for c in resource["code"]["coding"]]
    if resource["resourceType"] == "MedicationRequest":
        assert (resource["status"], resource["intent"]) == ("completed", "order")
        [instruction] = resource["dosageInstruction"]
        assert instruction["text"]
        assert instruction["timing"]["code"]["text"]
        systems = [c["system"].rpartition("/")[2] for c in instruction["timing"]["code"]["coding"]]
        assert ("MedicationUsage_ePrescription" in systems) != ("JP_CLINS_MedicationUsage_Uncoded_CS" in systems)
        assert [e["url"] for e in instruction["extension"]].count(PERIOD_OF_USE) == 1
        for amount in instruction.get("doseAndRate", []):
            assert amount["type"]["coding"][0]["display"] == "製剤量"
            assert "doseQuantity" not in amount or {"value", "unit", "system", "code"} <= set(amount["doseQuantity"])


PERIOD_OF_USE = "http://jpfhir.jp/fhir/core/Extension/StructureDefinition/JP_MedicationDosage_PeriodOfUse"


def assert_evidence_is_of_the_record(resource: dict[str, Any], records: Sequence[Record]) -> None:
    """What any element points to is a piece that some record copied, and the resource points to all of its record's."""
    quotes = {(s.start, s.end) for record in records for s in record.statement.fields.values()}

    def found(node: Any) -> set[tuple[int, int]]:
        if isinstance(node, list):
            return {span for item in node for span in found(item)}
        if not isinstance(node, dict):
            return set()
        parts = {e["url"]: e.get("valueInteger", 0) for e in node.get("extension", [])}
        here = {(parts["offset"], parts["offset"] + parts["length"])} if {"offset", "length"} <= set(parts) else set()
        return here | {span for value in node.values() for span in found(value)}

    own = found({"extension": resource["extension"]})
    assert own
    assert found(resource) <= own <= quotes
