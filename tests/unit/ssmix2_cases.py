"""A made-up note, records of it, and what the tests of SS-MIX2 messages look at."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal

from app.ssmix2 import (
    Allergy,
    Drug,
    Facility,
    Message,
    Problem,
    Result,
    allergy_message,
    decode,
    diagnosis_message,
    encode,
    parse,
    prescription_message,
    result_messages,
)
from app.ssmix2.hl7 import render
from schemas.coding import Coding
from schemas.issue import Issue
from schemas.note import ChartNote, DocumentType, Encounter, EncounterClass, Patient, Practitioner, Sex
from schemas.record import Comparator, Dosage, Quantity, Record
from schemas.statement import AllergyCategory, Assertion, EvidenceSpan, Field, Kind, Statement

SENT_AT = datetime(2026, 4, 1, 1, 15, 30, 123_000, tzinfo=UTC)  # 10:15:30.123 in Japan
FACILITY = Facility("見本病院", institution_number="1310000001", department_code="01", department_name="内科")
ICD10 = "http://jpfhir.jp/fhir/core/mhlw/CodeSystem/ICD10-2013-full"
KEY_NUMBER = "http://medis.or.jp/CodeSystem/master-disease-keyNumber"
RECEIPT = "http://jpfhir.jp/fhir/core/mhlw/CodeSystem/masterB-disease"
HOT9 = "http://medis.or.jp/CodeSystem/master-HOT9"
YJ = "http://capstandard.jp/iyaku.info/CodeSystem/YJ-code"
JLAC10 = "http://medis.or.jp/CodeSystem/master-JLAC10-17digits"
CORE = "http://jpfhir.jp/fhir/clins/CodeSystem/JLAC10/JP_CLINS_ObsLabResult_CoreLabo_CS"
INFECTION = "http://jpfhir.jp/fhir/clins/CodeSystem/JLAC10/JP_CLINS_ObsLabResult_InfectionLabo_CS"
JFAGY = "http://jpfhir.jp/fhir/core/CodeSystem/JP_JfagyFoodAllergen_CS"


def header(event: str, control_id: str) -> str:
    return (
        f"MSH|^~\\&|HYOJUN|1310000001|GW|RCV|20260401101530.123||{event}|{control_id}|P|2.5||||||~ISO IR87||"
        "ISO 2022-1994|SS-MIX2_1.20^SS-MIX2^1.2.392.200250.2.1.100.1.2.120^ISO"
    )


PID = "PID|0001||0000012345^^^^PI||見本^花子^^^^^L^I||19580314|F"
ORC_END = "01^内科^HL70069||||見本病院||||||||O^外来患者オーダ^HL70482"


DOCTOR = Practitioner(id="D0001", family="見本", given="医師")
DOCTOR_XCN = "D0001^見本^医師^^^^^^^L^^^^^I"


def a_visit(kind: EncounterClass = EncounterClass.AMBULATORY, **values: object) -> ChartNote:
    """A note of which the sender states the visit and the physician."""
    visit = Encounter.model_validate({"encounter_class": kind, "start": date(2026, 4, 1)} | values)
    return a_note().model_copy(update={"encounter": visit, "physician": DOCTOR})


def a_note(document_type: DocumentType = DocumentType.PROGRESS, family: str = "見本", given: str = "花子") -> ChartNote:
    patient = Patient(id="0000012345", family=family, given=given, sex=Sex.FEMALE, birth_date=date(1958, 3, 14))
    day = date(2026, 4, 1)
    return ChartNote(id="n1", document_type=document_type, department="内科", date=day, patient=patient, text="本文")


def statement(kind: Kind, start: int = 0, /, **fields: object) -> Statement:
    """A statement whose fields stand one after the other from `start`."""
    spans: dict[Field, EvidenceSpan] = {}
    rest = dict(fields)
    for name in list(rest):
        if name in set(Field):
            quote = str(rest.pop(name))
            spans[Field(name)] = EvidenceSpan(start=start, end=start + len(quote), quote=quote)
            start += len(quote)
    return Statement.model_validate({"kind": kind, "fields": spans} | rest)


def record(said: Statement, *codings: Coding, display: str | None = None, **values: object) -> Record:
    return Record.model_validate(
        {"statement": said, "display": display or said.name.quote, "codings": codings} | values
    )


def condition(name: str, assertion: Assertion = Assertion.PRESENT, *codings: Coding, **values: object) -> Record:
    onset = {"onset": str(values.pop("onset"))} if "onset" in values else {}
    return record(statement(Kind.CONDITION, name=name, assertion=assertion, **onset), *codings, **values)


def lab(name: str, *codings: Coding, **values: object) -> Record:
    return record(statement(Kind.LAB, name=name), *codings, **values)


def drug(name: str, dosage: Dosage | None, *codings: Coding, start: int = 0, **said: object) -> Record:
    return record(statement(Kind.PRESCRIPTION, start, name=name, **said), *codings, dosage=dosage)


def lines(message: Message | None) -> list[str]:
    assert message is not None
    assert message.text.endswith("\r")
    assert decode(encode(message.text)) == message.text
    assert render(parse(message.text)) == message.text
    return message.text.removesuffix("\r").split("\r")


def key(number: int) -> str:
    return f"K{number:04}"


def diagnoses(records: Sequence[Record], note: ChartNote | None = None) -> list[str]:
    note = note or a_note()
    problems = [Problem(record, key(number), note) for number, record in enumerate(records, 1)]
    return lines(diagnosis_message(note, problems, FACILITY, control_id="D1", sent_at=SENT_AT))


def allergies(records: Sequence[Record]) -> list[str]:
    note = a_note()
    stated = [Allergy(record, key(number), note) for number, record in enumerate(records, 1)]
    return lines(allergy_message(note, stated, FACILITY, control_id="A1", sent_at=SENT_AT))


def allergy(name: str, category: AllergyCategory, *codings: Coding, **values: object) -> Record:
    assertion = values.pop("assertion", Assertion.PRESENT)
    return record(statement(Kind.ALLERGY, name=name, category=category, assertion=assertion), *codings, **values)


def prescribed(records: Sequence[Record], note: ChartNote | None = None) -> Message | None:
    drugs = [Drug(record) for record in records]
    return prescription_message(note or a_note(), drugs, FACILITY, order=301, control_id="P1", sent_at=SENT_AT)


def prescription(records: Sequence[Record], note: ChartNote | None = None) -> list[str]:
    return lines(prescribed(records, note))


def results(records: Sequence[Record]) -> tuple[list[Message], list[Issue]]:
    found = [Result(record) for record in records]
    ids = (f"R{n}" for n in range(1, 9))
    return result_messages(a_note(), found, FACILITY, order=501, control_ids=ids, sent_at=SENT_AT)


def observations(*records: Record) -> list[str]:
    ((message,), _) = results(records)
    return [line for line in lines(message) if line.startswith("OBX")]


def amount(value: str, unit: str | None = None, comparator: Comparator | None = None) -> Quantity:
    return Quantity(value=Decimal(value), unit=unit, comparator=comparator)
