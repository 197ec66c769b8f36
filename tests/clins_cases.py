"""Notes for the tests of what is sent: what their sender states, and what a perfect reader would find in them."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from app.fhir import Facility, ProvenanceSource, build_resources
from schemas.coding import Coding
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
from schemas.record import Dosage, Modifier, ModifierPosition, Quantity, Record
from schemas.statement import Action, AllergyCategory, Assertion, EvidenceSpan, Field, InfectionResult, Kind, Statement

Json = dict[str, Any]

NOW = datetime(2026, 5, 2, 0, 30, tzinfo=UTC)
FACILITY = Facility(number="1311234567", name="見本病院", address="東京都港区1-2-3", phone="03-1234-5678")
INSURANCE = "00012345:あいう:１８７:05"
PATIENT = Patient(
    id="P0012", family="山田", given="花子", sex=Sex.FEMALE, birth_date=date(1960, 1, 2), address="高知県高知市五台山4200-6",
    insurance_id=INSURANCE,
)  # fmt: skip
VISIT = Encounter(id="V-77", encounter_class=EncounterClass.AMBULATORY, start=date(2026, 5, 1), reason="精査のお願い")
STAY = Encounter(
    id="S-1", encounter_class=EncounterClass.INPATIENT, start=date(2026, 4, 20), end=date(2026, 5, 1),
    discharge_disposition=DischargeDisposition.CURED, admit_source=AdmitSource.HOME, reason="発熱",
)  # fmt: skip
PHYSICIAN = Practitioner(id="D001", family="佐藤", given="一郎")
RECIPIENT = Recipient(
    name="港診療所", number="1319876543", department="眼科", address="東京都港区新橋1",
    physician=Practitioner(family="鈴木", given="次郎"),
)  # fmt: skip

MEDIS = "http://medis.or.jp/CodeSystem/master-disease-keyNumber"
MODIFIER = "http://medis.or.jp/CodeSystem/master-disease-modKeyNumber"
FOOD = "http://jpfhir.jp/fhir/core/CodeSystem/JP_JfagyFoodAllergen_CS"
_JLAC10 = "http://jpfhir.jp/fhir/clins/CodeSystem/JLAC10/JP_CLINS_ObsLabResult_"
YJ = "http://capstandard.jp/iyaku.info/CodeSystem/YJ-code"

DIABETES = Coding(system=MEDIS, code="20088408", display="２型糖尿病")
HYPERTENSION = Coding(system=MEDIS, code="20061590", display="高血圧症")
PNEUMONIA = Coding(system=MEDIS, code="20080931", display="肺炎")
EGG = Coding(system=FOOD, code="J9FA21110000", display="鶏卵")
ALBUMIN = Coding(system=f"{_JLAC10}CoreLabo_CS", code="3A015000002399901", display="ALB")
HBS = Coding(system=f"{_JLAC10}InfectionLabo_CS", code="5F016141002399911", display="HBs抗原(定性)")


def note(
    text: str,
    *,
    note_id: str = "n-1",
    day: date = date(2026, 5, 1),
    document_type: DocumentType = DocumentType.PROGRESS,
    **change: Any,
) -> ChartNote:
    stated: Json = {"patient": PATIENT, "encounter": VISIT, "physician": PHYSICIAN} | change
    return ChartNote(id=note_id, document_type=document_type, department="内科", date=day, text=text, **stated)


def _span(text: str, quote: str) -> EvidenceSpan:
    start = text.index(quote)
    return EvidenceSpan(start=start, end=start + len(quote), quote=quote)


def disease(
    text: str,
    name: str,
    coding: Coding | None = None,
    *,
    assertion: Assertion = Assertion.PRESENT,
    onset: str | None = None,
    modifier: str | None = None,
    relative: str | None = None,
) -> Record:
    """`onset` is an ISO date that stands in the note; `modifier` a coded prefix."""
    fields = {Field.NAME: _span(text, name)}
    if onset:
        fields[Field.ONSET] = _span(text, onset)
    if relative:
        fields[Field.RELATIVE] = _span(text, relative)
    coded = (Coding(system=MODIFIER, code=modifier, display="左"),) if modifier else ()
    return Record(
        statement=Statement(kind=Kind.CONDITION, fields=fields, assertion=assertion, confidence=0.9),
        display=name,
        codings=(coding,) if coding else (),
        date=onset,
        relative=relative,
        modifiers=(Modifier(position=ModifierPosition.PREFIX, text="左", codings=coded),) if modifier else (),
    )


def allergy(text: str, name: str, coding: Coding | None = None, assertion: Assertion = Assertion.PRESENT) -> Record:
    fields = {Field.NAME: _span(text, name)}
    made = Statement(kind=Kind.ALLERGY, fields=fields, assertion=assertion, category=AllergyCategory.FOOD)
    return Record(statement=made, display=name, codings=(coding,) if coding else ())


def result(text: str, name: str, coding: Coding | None, value: str, unit: str) -> Record:
    fields = {Field.NAME: _span(text, name), Field.VALUE: _span(text, value)}
    return Record(
        statement=Statement(kind=Kind.LAB, fields=fields),
        display=name,
        codings=(coding,) if coding else (),
        date="2026-05-01",
        quantity=Quantity(value=Decimal(value), unit=unit),
    )


def infection(text: str, name: str, coding: Coding) -> Record:
    fields = {Field.NAME: _span(text, name), Field.VALUE: _span(text, "陰性")}
    made = Statement(kind=Kind.INFECTION, fields=fields, result=InfectionResult.NEGATIVE)
    return Record(statement=made, display=name, codings=(coding,), date="2026-05-01", text_value="陰性")


def drug(text: str, name: str, action: Action = Action.PRESCRIBE, usage: str = "1日1回朝食後") -> Record:
    fields = {Field.NAME: _span(text, name), Field.DOSE: _span(text, "1錠"), Field.USAGE: _span(text, usage)}
    return Record(
        statement=Statement(kind=Kind.PRESCRIPTION, fields=fields, action=action),
        display=name,
        codings=(Coding(system=YJ, code="2171022F1029", display=name),),
        dosage=Dosage(dose=Decimal(1), dose_unit="錠", per_day=1, days=14, text=f"1錠 {usage}"),
    )


def built(
    note: ChartNote, *records: Record, facility: Facility | None = FACILITY, recorded: datetime = NOW
) -> list[Json]:
    run = ProvenanceSource(run_id="r", software_version="0", model="m", prompt="p", grammar="g", terminology="t")
    return build_resources(note, records, facility=facility, run=run, recorded=recorded)[0]


def of_type(resources: Sequence[Json], type_: str) -> list[Json]:
    return [resource for resource in resources if resource["resourceType"] == type_]


REFERRAL_TEXT = (
    "高血圧症(2020-03)、左膝痛。既往に肺炎(2010)。母が糖尿病。鶏卵アレルギー、そば否定。\n"
    "ALB 3.9 g/dL、HBs抗原 陰性。アムロジピン錠5mg 1錠 1日1回朝食後 14日分。<精査>&のお願い。"
)


def referral_records(text: str = REFERRAL_TEXT) -> list[Record]:
    return [
        disease(text, "高血圧症", HYPERTENSION, onset="2020-03"),
        disease(text, "左膝痛"),
        disease(text, "肺炎", PNEUMONIA, assertion=Assertion.PAST, onset="2010"),
        disease(text, "糖尿病", DIABETES, assertion=Assertion.FAMILY, relative="母"),
        allergy(text, "鶏卵", EGG),
        allergy(text, "そば", assertion=Assertion.ABSENT),
        result(text, "ALB", ALBUMIN, "3.9", "g/dL"),
        infection(text, "HBs抗原", HBS),
        drug(text, "アムロジピン錠5mg"),
    ]
