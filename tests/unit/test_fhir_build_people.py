"""What the sender states: Patient, Encounter, Practitioner, Organization, and the note that refers to them."""

from datetime import date
from typing import Any

import pytest
from fhir_cases import (
    CORE,
    DEPARTMENT,
    DEPARTMENT_EXTENSION,
    ECS,
    FACILITY,
    HOSPITAL,
    INSTITUTION_EXTENSION,
    KNOWN_PATIENT,
    PHYSICIAN,
    RECIPIENT,
    RESOURCE_ID,
    STAY,
    VISIT,
    bare,
    built,
    extension_of,
    gaps,
    known_note,
    note_of,
    of_records,
    profile_of,
    statement,
)

from app.fhir import Facility
from app.fhir.context import note_ids
from schemas.coding import Coding
from schemas.issue import Issue
from schemas.note import ChartNote, EncounterClass, Patient, Practitioner
from schemas.record import Record
from schemas.statement import Field, Kind

REPRESENTATION = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"
INSURANCE = "http://jpfhir.jp/fhir/clins/Idsystem/JP_Insurance_memberID"


def parts(
    note: ChartNote, facility: Facility | None = HOSPITAL, department: Coding | None = None
) -> tuple[dict[str, list[dict[str, Any]]], list[Issue]]:
    """Resources by type."""
    resources, issues = built(note, [], facility, department)
    found: dict[str, list[dict[str, Any]]] = {}
    for resource in resources:
        found.setdefault(resource["resourceType"], []).append(resource)
    return found, issues


# --- Patient ---


def test_a_patient_with_all_that_the_profile_demands() -> None:
    made, issues = parts(known_note("x"))
    [patient] = made["Patient"]
    assert patient["meta"]["profile"] == [f"{ECS}Patient_eCS"]
    assert patient["identifier"] == [
        {"system": "urn:oid:1.2.392.100495.20.3.51.11311234567", "value": "0012"},
        {"system": INSURANCE, "value": "00012345:あいう:１８７:05"},
    ]
    [name] = patient["name"]
    assert extension_of(name, REPRESENTATION)["valueCode"] == "IDE"
    assert bare(name) == {"use": "official", "text": "山田 花子", "family": "山田", "given": ["花子"]}
    assert (patient["gender"], patient["birthDate"]) == ("female", "1960-01-02")
    assert patient["address"] == [{"text": "高知県高知市五台山4200-6"}]
    assert extension_of(patient, INSTITUTION_EXTENSION)["valueIdentifier"]["value"] == "1311234567"
    assert gaps(issues) == []


@pytest.mark.parametrize(
    ("change", "element"),
    [
        ({"address": None}, "Patient.address"),
        ({"address": "　"}, "Patient.address"),
        ({"insurance_id": None}, "Patient.identifier:JP_Insurance_memberID"),
        ({"insurance_id": "00012345:あ^う:187:"}, "Patient.identifier:JP_Insurance_memberID"),
        ({"birth_date": None}, "Patient.birthDate"),
        ({"given": "　"}, "Patient.name"),
    ],
)
def test_each_missing_element_of_a_patient_is_named(change: dict[str, Any], element: str) -> None:
    made, issues = parts(known_note("x", patient=KNOWN_PATIENT.model_copy(update=change)))
    assert profile_of(made["Patient"][0]) == "JP_Patient"
    [gap] = gaps(issues)
    assert gap.startswith(f"{element}: ")
    assert gap.endswith("; JP Core profile claimed")


def test_a_patient_number_under_another_oid_forbids_the_profile() -> None:
    made, issues = parts(known_note("x"), HOSPITAL.model_copy(update={"patient_id_oid": "1.2.392.99.5"}))
    [patient] = made["Patient"]
    assert patient["identifier"][0] == {"system": "urn:oid:1.2.392.99.5", "value": "0012"}
    assert profile_of(patient) == "JP_Patient"
    assert [g.partition(":")[0] for g in gaps(issues)] == ["Patient.identifier"]
    same = HOSPITAL.model_copy(update={"patient_id_oid": "1.2.392.100495.20.3.51.11311234567"})
    assert profile_of(parts(known_note("x"), same)[0]["Patient"][0]) == "JP_Patient_eCS"


def test_nothing_about_the_facility_is_needed() -> None:
    made, _ = parts(known_note("x"), None)
    [patient] = made["Patient"]
    assert patient["identifier"][0] == {"system": "http://hyojun.local/fhir/NamingSystem/patient", "value": "0012"}
    assert profile_of(patient) == "JP_Patient"
    assert "Organization" not in made
    nameless, _ = parts(known_note("x", patient=KNOWN_PATIENT.model_copy(update={"family": " ", "given": "　"})))
    assert "name" not in nameless["Patient"][0]


@pytest.mark.parametrize(
    ("family", "given", "text", "representation"),
    [
        ("山田", "太郎　二世", "山田 太郎 二世", "IDE"),
        ("佐々木", "さくら", "佐々木 さくら", "IDE"),
        ("𠮷野", "Tom", "𠮷野 Tom", "IDE"),
        ("ヤマダ", "タロウ", "ヤマダ タロウ", "SYL"),
        ("やまだ", "たろう", "やまだ たろう", "SYL"),
        ("O'Brien-Müller", "Ann", "O'Brien-Müller Ann", "ABC"),
        ("ヤマダ", "Ann", "ヤマダ Ann", None),
    ],
)
def test_names(family: str, given: str, text: str, representation: str | None) -> None:
    patient = Patient(id="1", family=family, given=given)
    [name] = parts(note_of("x", patient=patient))[0]["Patient"][0]["name"]
    assert name["text"] == text  # R1113: never a full-width space
    assert [e["valueCode"] for e in name.get("extension", [])] == ([representation] if representation else [])


# --- Encounter ---


def test_a_stay() -> None:
    made, issues = parts(known_note("x", encounter=STAY))
    [encounter] = made["Encounter"]
    assert bare(encounter) == {
        "resourceType": "Encounter",
        "id": encounter["id"],
        "meta": {"lastUpdated": "2024-05-02T09:30:00.000+00:00", "profile": [f"{ECS}Encounter_eCS"]},
        # The facility's own number has a point: it is no part of a リソース一意識別ID.
        "identifier": [{"system": "http://hyojun.local/fhir/NamingSystem/encounter", "value": "S.1"}],
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP", "display": "入院"},
        "period": {"start": "2024-04-20", "end": "2024-05-01"},
        "subject": {"reference": f"Patient/{made['Patient'][0]['id']}"},
        "reasonCode": [{"text": "発熱 精査"}],
        "hospitalization": {
            "admitSource": {
                "coding": [
                    {
                        "system": "http://jpfhir.jp/fhir/Common/CodeSystem/admit-Source",
                        "code": "1",
                        "display": "家庭からの入院",
                    }
                ]
            },
            "dischargeDisposition": {
                "coding": [
                    {
                        "system": "http://jpfhir.jp/fhir/Common/CodeSystem/discharge-disposition",
                        "code": "1",
                        "display": "傷病が治癒・軽快",
                    }
                ]
            },
        },
        "serviceProvider": {"reference": f"Organization/{made['Organization'][0]['id']}", "display": "見本病院"},
    }
    assert gaps(issues) == []


def test_a_source_without_a_disposition_is_left_out_and_said() -> None:
    made, issues = parts(known_note("x", encounter=STAY.model_copy(update={"discharge_disposition": None})))
    assert "hospitalization" not in made["Encounter"][0]
    assert profile_of(made["Encounter"][0]) == "JP_Encounter_eCS"
    assert [g.partition(":")[0] for g in gaps(issues)] == ["Encounter.hospitalization.admitSource"]


def test_an_end_without_a_start_claims_jp_core() -> None:
    made, issues = parts(known_note("x", encounter=STAY.model_copy(update={"start": None})))
    [encounter] = made["Encounter"]
    assert encounter["period"] == {"end": "2024-05-01"}
    assert encounter["meta"]["profile"] == [f"{CORE}Encounter"]
    assert gaps(issues) == ["Encounter.period.start: the sender states the end alone; JP Core profile claimed"]


@pytest.mark.parametrize(
    ("kind", "display"),
    [
        (EncounterClass.AMBULATORY, "外来"),
        (EncounterClass.INPATIENT, "入院"),
        (EncounterClass.EMERGENCY, "救急"),
        (EncounterClass.HOME, "在宅"),
        (EncounterClass.VIRTUAL, "遠隔受診"),
    ],
)
def test_classes(kind: EncounterClass, display: str) -> None:
    visit = VISIT.model_copy(update={"encounter_class": kind, "start": None, "id": None})
    [encounter] = parts(known_note("x", encounter=visit))[0]["Encounter"]
    assert (encounter["class"]["code"], encounter["class"]["display"]) == (kind.value, display)
    assert "period" not in encounter
    assert "identifier" not in encounter


# --- Practitioner, Organization ---


def test_the_physician() -> None:
    made, _ = parts(known_note("x"))
    [practitioner] = made["Practitioner"]
    assert practitioner["meta"]["profile"] == [f"{ECS}Practitioner_eCS"]
    assert practitioner["identifier"] == [{"system": "urn:oid:1.2.392.100495.20.3.41.11311234567", "value": "D001"}]
    assert bare(practitioner["name"][0]) == {"text": "佐藤 一郎", "family": "佐藤", "given": ["一郎"]}
    [elsewhere] = parts(known_note("x"), None)[0]["Practitioner"]
    assert elsewhere["identifier"][0]["system"] == "http://hyojun.local/fhir/NamingSystem/practitioner"


def test_the_sending_organization() -> None:
    made, _ = parts(known_note("x"), HOSPITAL, DEPARTMENT)
    [organization] = made["Organization"]
    assert organization["meta"]["profile"] == [f"{ECS}Organization_eCS"]
    assert organization["identifier"] == [
        {"system": "http://jpfhir.jp/fhir/core/IdSystem/insurance-medical-institution-no", "value": "1311234567"}
    ]
    assert organization["name"] == "見本病院"
    assert organization["type"][0]["coding"][0]["code"] == "prov"
    assert organization["telecom"] == [{"system": "phone", "value": "03-1234-5678"}]
    assert organization["address"] == [{"text": "東京都港区1-2-3"}]
    department = extension_of(organization, DEPARTMENT_EXTENSION)["valueCodeableConcept"]
    assert (department["coding"][0]["code"], department["text"]) == ("01", "内科")
    assert "Organization" not in parts(known_note("x"), FACILITY)[0]  # its name is not known


def test_an_organization_without_a_number_claims_jp_core() -> None:
    made, issues = parts(known_note("x"), Facility(name="見本病院"))
    [organization] = made["Organization"]
    assert (profile_of(organization), "identifier" in organization) == ("JP_Organization", False)
    assert any(gap.startswith("Organization.identifier:medicalInstitutionCode: ") for gap in gaps(issues))


def test_a_referral_names_whom_it_is_addressed_to() -> None:
    note = known_note("x", recipient=RECIPIENT)
    made, _ = parts(note, HOSPITAL, DEPARTMENT)
    sender, recipient = made["Organization"]
    writer, addressee = made["Practitioner"]
    assert (sender["name"], recipient["name"]) == ("見本病院", "港診療所")
    assert recipient["identifier"][0]["value"] == "1319876543"
    assert recipient["address"] == [{"text": "東京都港区新橋1"}]
    assert extension_of(recipient, DEPARTMENT_EXTENSION)["valueCodeableConcept"] == {"text": "眼科"}
    assert [p["name"][0]["text"] for p in (writer, addressee)] == ["佐藤 一郎", "鈴木 次郎"]
    assert "identifier" not in addressee
    ids = note_ids(note, HOSPITAL)
    assert (ids.organization, ids.recipient) == (sender["id"], recipient["id"])
    assert (ids.physician, ids.recipient_physician) == (writer["id"], addressee["id"])


def test_a_referral_inside_the_house_names_it_once() -> None:
    inside = RECIPIENT.model_copy(update={"number": "1311234567", "department": "内科", "physician": PHYSICIAN})
    made, _ = parts(known_note("x", recipient=inside))
    assert [o["name"] for o in made["Organization"]] == ["見本病院"]
    assert len(made["Practitioner"]) == 1


# --- the note ---


def test_the_note_refers_to_writer_visit_and_institution() -> None:
    made, _ = parts(known_note("x"), HOSPITAL, DEPARTMENT)
    [document] = made["DocumentReference"]
    assert document["author"] == [
        {"reference": f"Practitioner/{made['Practitioner'][0]['id']}", "display": "佐藤 一郎"}
    ]
    assert document["custodian"] == {
        "reference": f"Organization/{made['Organization'][0]['id']}",
        "display": "見本病院",
    }
    assert document["context"]["encounter"] == [
        {"reference": f"Encounter/{made['Encounter'][0]['id']}", "display": "外来"}
    ]
    assert document["context"]["practiceSetting"]["coding"][0]["code"] == "01"
    assert profile_of(document) == "JP_DocumentReference_eCS"


def test_ids_follow_the_senders_own_ids() -> None:
    def ids(facility: Facility | None = HOSPITAL, **change: Any) -> dict[str, str]:
        made, _ = parts(known_note("x", **change), facility)
        return {kind: found[0]["id"] for kind, found in made.items()}

    first = ids()
    later = ids(id="n-2", date=date(2025, 1, 1))
    same = {kind for kind in first if first[kind] == later[kind]}
    assert same == {"Patient", "Encounter", "Practitioner", "Organization"}
    # Without an id of the facility, two notes are two visits, and one name may be two persons.
    anonymous: dict[str, Any] = {
        "encounter": VISIT.model_copy(update={"id": None}),
        "physician": Practitioner(family="佐藤", given="一郎"),
    }
    one, two = ids(**anonymous), ids(id="n-2", **anonymous)
    assert {kind for kind in one if one[kind] == two[kind]} == {"Patient", "Organization"}
    assert one == ids(**anonymous)
    elsewhere = ids(Facility(number="1319876543", name="見本病院"))
    assert not set(first.values()) & set(elsewhere.values())


def test_the_visit_number_becomes_part_of_a_resource_id() -> None:
    [encounter] = parts(known_note("x", date=date(2025, 1, 1)))[0]["Encounter"]
    # The year of the visit, not of the note: the visit stays one.
    assert encounter["identifier"] == [{"system": RESOURCE_ID, "value": "1311234567^2024^V-77"}]


def test_without_an_ecs_patient_nothing_of_the_patient_claims_ecs() -> None:
    """Condition.subject and its like are references to a JP_Patient_eCS."""
    made = statement("高血圧", Kind.CONDITION, {Field.NAME: "高血圧"})
    record = Record(statement=made, display="高血圧症")
    note = known_note("高血圧", patient=KNOWN_PATIENT.model_copy(update={"address": None}))
    resources, issues = built(note, [record], HOSPITAL)
    assert profile_of(of_records(resources)[0]) == "JP_Condition"
    assert "Patient.address: the sender states no address; JP Core profile claimed" in gaps(issues)
    assert any(gap.startswith("Condition.subject: the Patient lacks") for gap in gaps(issues))
