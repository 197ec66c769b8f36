"""What the tests of the FHIR builders share: a note, its sender, and the resources of its records."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

from app.fhir import Facility, ProvenanceSource, assert_known_codes, build_resources, check, collection
from app.fhir.codes import given
from schemas.coding import Coding
from schemas.issue import Issue
from schemas.note import (
    AdmitSource,
    ChartNote,
    DischargeDisposition,
    DocumentType,
    Encounter,
    EncounterClass,
    Patient,
    Practitioner,
    Recipient,
    Sex,
)
from schemas.record import Record
from schemas.statement import EvidenceSpan, Field, Kind, Statement

RECORDED = datetime(2024, 5, 2, 9, 30, tzinfo=UTC)
RUN = ProvenanceSource(
    run_id="run-7", software_version="0.1.0", model="m1", prompt="p1", grammar="g1", terminology="t1"
)
FACILITY = Facility(number="1311234567")
HOSPITAL = Facility(number="1311234567", name="見本病院", address="東京都港区1-2-3", phone="03-1234-5678")
DEPARTMENT = Coding(system="http://jami.jp/SS-MIX2/CodeSystem/ClinicalDepartment", code="01", display="内科")

ECS = "http://jpfhir.jp/fhir/eCS/StructureDefinition/JP_"
CORE = "http://jpfhir.jp/fhir/core/StructureDefinition/JP_"
MEDIS = "http://medis.or.jp/CodeSystem/master-disease-keyNumber"
ICD10 = "http://jpfhir.jp/fhir/core/mhlw/CodeSystem/ICD10-2013-full"
RECEIPT = "http://jpfhir.jp/fhir/core/mhlw/CodeSystem/masterB-disease"
CORE_LAB = "http://jpfhir.jp/fhir/clins/CodeSystem/JLAC10/JP_CLINS_ObsLabResult_CoreLabo_CS"
INFECTION_LAB = "http://jpfhir.jp/fhir/clins/CodeSystem/JLAC10/JP_CLINS_ObsLabResult_InfectionLabo_CS"
LOCAL_LAB = "http://jpfhir.jp/fhir/clins/CodeSystem/JP_CLINS_ObsLabResult_LocalCode_CS"
EVIDENCE = "http://hl7.org/fhir/StructureDefinition/derivation-reference"
DEPARTMENT_EXTENSION = "http://jpfhir.jp/fhir/eCS/Extension/StructureDefinition/JP_eCS_Department"
INSTITUTION_EXTENSION = "http://jpfhir.jp/fhir/clins/Extension/StructureDefinition/JP_eCS_InstitutionNumber"
RESOURCE_ID = "http://jpfhir.jp/fhir/core/IdSystem/resourceInstance-identifier"
HYPERTENSION = (
    Coding(system=RECEIPT, code="8833421", display="高血圧症"),
    Coding(system=ICD10, code="I10", display="高血圧症", version="2013"),
)

VISIT = Encounter(id="V-77", encounter_class=EncounterClass.AMBULATORY, start=date(2024, 5, 1))
STAY = Encounter(
    id="S.1",
    encounter_class=EncounterClass.INPATIENT,
    start=date(2024, 4, 20),
    end=date(2024, 5, 1),
    discharge_disposition=DischargeDisposition.CURED,
    admit_source=AdmitSource.HOME,
    reason="発熱　精査",
)
PHYSICIAN = Practitioner(id="D001", family="佐藤", given="一郎")
RECIPIENT = Recipient(
    name="港診療所",
    number="1319876543",
    department="眼科",
    address="東京都港区新橋1",
    phone="03-9876-5432",
    physician=Practitioner(family="鈴木", given="次郎"),
)
KNOWN_PATIENT = Patient(
    id="0012",
    family="山田",
    given="花子",
    sex=Sex.FEMALE,
    birth_date=date(1960, 1, 2),
    address="高知県高知市五台山4200-6",
    insurance_id="00012345:あいう:１８７:05",
)


def note_of(text: str, document_type: DocumentType = DocumentType.PROGRESS, **change: Any) -> ChartNote:
    patient = Patient(id="0012", family="山田", given="花子", sex=Sex.FEMALE, birth_date=date(1960, 1, 2))
    note = ChartNote(
        id="n-1", document_type=document_type, department="内科", date=date(2024, 5, 1), patient=patient, text=text
    )
    return note.model_copy(update=change)


def known_note(text: str, **change: Any) -> ChartNote:
    """A note whose sender states the visit, the physician and all that JP_Patient_eCS demands."""
    return note_of(text, **{"patient": KNOWN_PATIENT, "encounter": VISIT, "physician": PHYSICIAN} | change)


def statement(text: str, kind: Kind, quotes: dict[Field, str], **rest: Any) -> Statement:
    fields = {}
    for name, quote in quotes.items():
        start = text.index(quote)
        fields[name] = EvidenceSpan(start=start, end=start + len(quote), quote=quote)
    return Statement(kind=kind, fields=fields, **rest)


def built(
    note: ChartNote, records: Sequence[Record], facility: Facility | None = None, department: Coding | None = None
) -> tuple[list[dict[str, Any]], list[Issue]]:
    """All resources and issues of a note; everything that was built must pass its checks."""
    resources, issues = build_resources(
        note, records, facility=facility, department=department, run=RUN, recorded=RECORDED
    )
    bundle = collection(note, resources, RECORDED)
    assert check(bundle) == []
    for resource in resources:
        assert check(resource, text=note.text) == []
        # Local laboratory codes come from the hospital's table, like all others.
        assert_known_codes(resource, given(records, department))
    return resources, issues


def of_records(resources: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    kinds = ("Condition", "FamilyMemberHistory", "AllergyIntolerance", "Observation", "MedicationRequest")
    return [r for r in resources if r["resourceType"] in kinds]


def converted(
    text: str, *records: Record, facility: Facility | None = None, note: ChartNote | None = None
) -> list[dict[str, Any]]:
    """The resources of the records alone."""
    return of_records(built(note or (known_note(text) if facility else note_of(text)), records, facility)[0])


def gaps(issues: Sequence[Issue]) -> list[str]:
    """What the issues say is missing."""
    return [issue.text for issue in issues if issue.code == "incomplete"]


def quoted(node: dict[str, Any], text: str) -> list[str]:
    """What the evidence of this very element points to."""
    found = []
    for extension in node.get("extension", []):
        if extension["url"] == EVIDENCE:
            part = {e["url"]: e.get("valueInteger") for e in extension["extension"]}
            found.append(text[part["offset"] : part["offset"] + part["length"]])
    return found


def bare(node: dict[str, Any]) -> dict[str, Any]:
    """The element without its extensions."""
    return {key: value for key, value in node.items() if key != "extension"}


def code_of(concept: dict[str, Any]) -> str:
    return str(concept["coding"][0]["code"])


def profile_of(resource: dict[str, Any]) -> str:
    return str(resource["meta"]["profile"][0]).rpartition("/")[2]


def extension_of(node: dict[str, Any], url: str) -> dict[str, Any]:
    [found] = [e for e in node.get("extension", []) if e["url"] == url]
    return dict(found)
