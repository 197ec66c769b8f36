"""Records to FHIR resources: each kind and assertion, through the public face, with the literal JSON expected."""

import base64
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import InvalidInput
from app.fhir import (
    Facility,
    ProvenanceSource,
    assert_known_codes,
    build_resources,
    check,
    collection,
    dumps,
    loads,
)
from schemas.coding import Coding
from schemas.issue import Issue, IssueType, Severity
from schemas.note import ChartNote, DocumentType, Patient, Sex
from schemas.record import Comparator, Dosage, Quantity, Record
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

RECORDED = datetime(2024, 5, 2, 9, 30, tzinfo=UTC)
RUN = ProvenanceSource(
    run_id="run-7", software_version="0.1.0", model="m1", prompt="p1", grammar="g1", terminology="t1"
)
FACILITY = Facility(number="1311234567")
ICD10 = "http://jpfhir.jp/fhir/core/mhlw/CodeSystem/ICD10-2013-full"
RECEIPT = "http://jpfhir.jp/fhir/core/mhlw/CodeSystem/masterB-disease"
CORE_LAB = "http://jpfhir.jp/fhir/clins/CodeSystem/JLAC10/JP_CLINS_ObsLabResult_CoreLabo_CS"
INFECTION_LAB = "http://jpfhir.jp/fhir/clins/CodeSystem/JLAC10/JP_CLINS_ObsLabResult_InfectionLabo_CS"
EVIDENCE = "http://hl7.org/fhir/StructureDefinition/derivation-reference"
HYPERTENSION = (
    Coding(system=RECEIPT, code="8833421", display="高血圧症"),
    Coding(system=ICD10, code="I10", display="高血圧症", version="2013"),
)


def note_of(text: str, document_type: DocumentType = DocumentType.PROGRESS) -> ChartNote:
    patient = Patient(id="0012", family="山田", given="花子", sex=Sex.FEMALE, birth_date=date(1960, 1, 2))
    return ChartNote(
        id="n-1", document_type=document_type, department="内科", date=date(2024, 5, 1), patient=patient, text=text
    )


def statement(text: str, kind: Kind, quotes: dict[Field, str], **rest: Any) -> Statement:
    fields = {}
    for name, quote in quotes.items():
        start = text.index(quote)
        fields[name] = EvidenceSpan(start=start, end=start + len(quote), quote=quote)
    return Statement(kind=kind, fields=fields, **rest)


def converted(text: str, *records: Record, facility: Facility | None = None) -> list[dict[str, Any]]:
    """The resources of the records alone; everything that was built must pass its checks."""
    note = note_of(text)
    resources, _ = build_resources(note, records, facility=facility, run=RUN, recorded=RECORDED)
    bundle = collection(note, resources, RECORDED)
    assert check(bundle) == []
    for resource in resources:
        assert check(resource, text=text) == []
    assert_known_codes(bundle, {(c.system, c.code) for record in records for c in record.codings})
    return [r for r in resources if r["resourceType"] not in ("Patient", "DocumentReference", "Provenance")]


def quoted(node: dict[str, Any], text: str) -> list[str]:
    """What the evidence of this very element points to."""
    found = []
    for extension in node.get("extension", []):
        if extension["url"] == EVIDENCE:
            part = {e["url"]: e.get("valueInteger") for e in extension["extension"]}
            found.append(text[part["offset"] : part["offset"] + part["length"]])
    return found


def code_of(concept: dict[str, Any]) -> str:
    return str(concept["coding"][0]["code"])


def profile_of(resource: dict[str, Any]) -> str:
    return str(resource["meta"]["profile"][0]).rpartition("/")[2]


# --- conditions ---


@pytest.mark.parametrize(
    ("assertion", "clinical", "verification", "category"),
    [
        (Assertion.PRESENT, "active", "confirmed", "encounter-diagnosis"),
        (Assertion.SUSPECTED, "active", "unconfirmed", "encounter-diagnosis"),
        (Assertion.ABSENT, "inactive", "refuted", "encounter-diagnosis"),
        (Assertion.PAST, "resolved", "confirmed", "problem-list-item"),
    ],
)
def test_condition_status(assertion: Assertion, clinical: str, verification: str, category: str) -> None:
    text = "2019年4月 脳梗塞"
    made = statement(text, Kind.CONDITION, {Field.NAME: "脳梗塞", Field.ONSET: "2019年4月"}, assertion=assertion)
    [condition] = converted(text, Record(statement=made, display="脳梗塞", date="2019-04"))
    assert condition["resourceType"] == "Condition"
    assert code_of(condition["clinicalStatus"]) == clinical
    assert code_of(condition["verificationStatus"]) == verification
    assert code_of(condition["category"][0]) == category
    assert condition["onsetDateTime"] == "2019-04"
    assert quoted(condition["_onsetDateTime"], text) == ["2019年4月"]
    assert condition["recordedDate"] == "2024-05-01"


def test_condition_keeps_the_codings_of_the_tables_and_its_evidence() -> None:
    text = "#1 HT コントロール良好"
    made = statement(text, Kind.CONDITION, {Field.NAME: "HT"}, confidence=0.987654)
    [condition] = converted(text, Record(statement=made, display="高血圧症", codings=HYPERTENSION))
    assert condition["code"]["text"] == "高血圧症"
    assert condition["code"]["coding"] == [
        {"system": RECEIPT, "code": "8833421", "display": "高血圧症"},
        {"system": ICD10, "version": "2013", "code": "I10", "display": "高血圧症"},
    ]
    assert quoted(condition, text) == quoted(condition["code"], text) == ["HT"]
    assert condition["extension"][-1] == {
        "url": "http://hyojun.local/fhir/StructureDefinition/confidence",
        "valueDecimal": Decimal("0.9877"),
    }
    assert profile_of(condition) == "JP_Condition"
    assert "onsetDateTime" not in condition


def test_condition_without_coding_gets_the_dummy_code() -> None:
    text = "原因不明の浮動感"
    [condition] = converted(
        text, Record(statement=statement(text, Kind.CONDITION, {Field.NAME: "浮動感"}), display="浮動感")
    )
    assert condition["code"] == {
        "extension": condition["code"]["extension"],
        "coding": [
            {
                "system": "http://medis.or.jp/CodeSystem/master-disease-keyNumber",
                "code": "99999999",
                "display": "未コード化傷病名",
            }
        ],
        "text": "浮動感",
    }


def test_condition_of_a_known_facility_is_ecs() -> None:
    text = "高血圧"
    made = statement(text, Kind.CONDITION, {Field.NAME: "高血圧"})
    [condition] = converted(text, Record(statement=made, display="高血圧症", codings=HYPERTENSION), facility=FACILITY)
    assert condition["meta"] == {
        "lastUpdated": "2024-05-02T09:30:00.000+00:00",
        "profile": ["http://jpfhir.jp/fhir/eCS/StructureDefinition/JP_Condition_eCS"],
    }
    # JP_Condition_eCS: the 管理番号 slice is mandatory beside other codings.
    assert [c["code"] for c in condition["code"]["coding"]] == ["8833421", "I10", "99999999"]
    assert condition["identifier"] == [
        {
            "system": "http://jpfhir.jp/fhir/core/IdSystem/resourceInstance-identifier",
            "value": f"1311234567^2024^{condition['id']}",
        }
    ]
    assert condition["extension"][1:] == [
        {
            "url": "http://jpfhir.jp/fhir/clins/Extension/StructureDefinition/JP_eCS_InstitutionNumber",
            "valueIdentifier": {
                "system": "http://jpfhir.jp/fhir/core/IdSystem/insurance-medical-institution-no",
                "value": "1311234567",
            },
        },
        {
            "url": "http://jpfhir.jp/fhir/eCS/Extension/StructureDefinition/JP_eCS_Department",
            "valueCodeableConcept": {"text": "内科"},
        },
    ]


@pytest.mark.parametrize(
    ("written", "role"),
    [
        ("父", "FTH"),
        ("母親", "MTH"),
        ("母方祖母", "MGRMTH"),
        ("父方の祖父", "PGRFTH"),
        ("母方叔父", "MUNCLE"),
        ("弟", "BRO"),
        ("長女", "DAUC"),
        ("母方いとこ", "MCOUSN"),
        ("はとこ", "FAMMEMB"),
    ],
)
def test_family_history(written: str, role: str) -> None:
    text = f"家族歴：{written}が胃癌"
    made = statement(text, Kind.CONDITION, {Field.NAME: "胃癌", Field.RELATIVE: written}, assertion=Assertion.FAMILY)
    codings = (
        Coding(system=RECEIPT, code="1519014", display="胃癌"),
        Coding(system=ICD10, code="C16.9", display="胃癌"),
    )
    [history] = converted(text, Record(statement=made, display="胃癌", codings=codings, relative=written))
    assert history["resourceType"] == "FamilyMemberHistory"
    assert history["status"] == "partial"
    assert history["relationship"]["coding"][0]["code"] == role
    assert history["relationship"]["coding"][0]["system"] == "http://terminology.hl7.org/CodeSystem/v3-RoleCode"
    assert history["relationship"]["text"] == written
    assert quoted(history["relationship"], text) == [written]
    assert [c["code"] for c in history["condition"][0]["code"]["coding"]] == ["C16.9"]
    assert quoted(history["condition"][0]["code"], text) == ["胃癌"]
    assert profile_of(history) == "JP_FamilyMemberHistory_eCS"


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


# --- allergies ---


@pytest.mark.parametrize(
    ("category", "code"),
    [
        (AllergyCategory.MEDICATION, "D9M000000000"),
        (AllergyCategory.FOOD, "D9F000000000"),
        (AllergyCategory.ENVIRONMENT, "D9N000000000"),
        (AllergyCategory.OTHER, "D9N000000000"),
    ],
)
def test_allergy_category_and_dummy_code(category: AllergyCategory, code: str) -> None:
    text = "アレルギー：何か"
    made = statement(text, Kind.ALLERGY, {Field.NAME: "何か"}, category=category)
    [allergy] = converted(text, Record(statement=made, display="何か"))
    assert allergy.get("category") == (None if category is AllergyCategory.OTHER else [category.value])
    assert code_of(allergy["code"]) == code
    assert allergy["code"]["text"] == "何か"


@pytest.mark.parametrize(
    ("assertion", "clinical", "verification"),
    [
        (Assertion.PRESENT, "active", "confirmed"),
        (Assertion.SUSPECTED, "active", "unconfirmed"),
        (Assertion.ABSENT, "inactive", "refuted"),
        (Assertion.PAST, "resolved", "confirmed"),
    ],
)
def test_allergy_status(assertion: Assertion, clinical: str, verification: str) -> None:
    text = "アレルギーなし"
    made = statement(
        text, Kind.ALLERGY, {Field.NAME: "アレルギー"}, assertion=assertion, category=AllergyCategory.OTHER
    )
    [allergy] = converted(text, Record(statement=made, display="アレルギー"))
    assert code_of(allergy["clinicalStatus"]) == clinical
    assert code_of(allergy["verificationStatus"]) == verification


def test_allergy_reactions_and_profile() -> None:
    text = "そばで発疹、呼吸苦"
    made = statement(
        text, Kind.ALLERGY, {Field.NAME: "そば", Field.REACTION: "発疹、呼吸苦"}, category=AllergyCategory.FOOD
    )
    food = "http://jpfhir.jp/fhir/core/CodeSystem/JP_JfagyFoodAllergen_CS"
    record = Record(
        statement=made,
        display="そば",
        codings=(Coding(system=food, code="J9FA21000000", display="そば"),),
        reactions=("発疹", "呼吸苦"),
    )
    [allergy] = converted(text, record, facility=FACILITY)
    assert allergy["reaction"][0]["manifestation"] == [{"text": "発疹"}, {"text": "呼吸苦"}]
    assert quoted(allergy["reaction"][0], text) == ["発疹、呼吸苦"]
    assert profile_of(allergy) == "JP_AllergyIntolerance_eCS"
    # The eCS binding is required on every Coding: a code of another system forbids the claim.
    yj = Coding(system="http://capstandard.jp/iyaku.info/CodeSystem/YJ-code", code="6131001F1010", display="薬")
    [other] = converted(text, record.model_copy(update={"codings": (yj,)}), facility=FACILITY)
    assert profile_of(other) == "JP_AllergyIntolerance"


# --- results ---


def lab(text: str, quotes: dict[Field, str], **rest: Any) -> dict[str, Any]:
    made = statement(text, Kind.LAB, quotes)
    [observation] = converted(text, Record(statement=made, display=rest.pop("display", quotes[Field.NAME]), **rest))
    assert observation["resourceType"] == "Observation"
    assert profile_of(observation) == "JP_Observation_LabResult"
    assert observation["category"] == [
        {
            "coding": [
                {
                    "system": "http://jpfhir.jp/fhir/core/CodeSystem/JP_SimpleObservationCategory_CS",
                    "code": "laboratory",
                    "display": "Laboratory",
                }
            ]
        }
    ]
    return observation


def test_lab_quantity_keeps_digits_unit_flag_and_date() -> None:
    text = "4/30 ＨｂＡ１ｃ　<1.10 ％ ↓"
    shared = Coding(system=CORE_LAB, code="3D046000001999901", display="HbA1c-NGSP")
    observation = lab(
        text,
        {Field.NAME: "ＨｂＡ１ｃ", Field.VALUE: "<1.10", Field.UNIT: "％", Field.FLAG: "↓", Field.DATE: "4/30"},
        display="HbA1c",
        codings=(shared,),
        quantity=Quantity(value=Decimal("1.10"), comparator=Comparator.LT, unit="%"),
        flag="↓",
        date="2024-04-30",
    )
    quantity = observation["valueQuantity"]
    assert quantity == {
        "extension": quantity["extension"],
        "value": Decimal("1.10"),
        "comparator": "<",
        "unit": "%",
        "system": "http://unitsofmeasure.org",
        "code": "%",
    }
    assert quoted(quantity, text) == ["<1.10", "％"]
    assert '"value":1.10}' in dumps(observation)
    assert observation["status"] == "final"
    assert observation["effectiveDateTime"] == "2024-04-30"
    assert quoted(observation["_effectiveDateTime"], text) == ["4/30"]
    assert code_of(observation["interpretation"][0]) == "L"
    assert observation["specimen"] == {"type": "Specimen", "display": "全血"}
    local, core = observation["code"]["coding"]
    assert (local["display"], observation["code"]["text"]) == ("ＨｂＡ１ｃ", "ＨｂＡ１ｃ")
    assert core == {"system": CORE_LAB, "code": "3D046000001999901", "display": "HbA1c-NGSP"}


def test_lab_local_code_folds_width_case_and_spaces() -> None:
    wide = lab("ＡＳＴ 20", {Field.NAME: "ＡＳＴ", Field.VALUE: "20"}, quantity=Quantity(value=Decimal(20)))
    spaced = lab("a s t 20", {Field.NAME: "a s t", Field.VALUE: "20"}, quantity=Quantity(value=Decimal(20)))
    other = lab("ALT 20", {Field.NAME: "ALT", Field.VALUE: "20"}, quantity=Quantity(value=Decimal(20)))
    assert code_of(wide["code"]) == code_of(spaced["code"]) == "HYJ-bdab28c8c51a75db"
    assert spaced["code"]["coding"][0]["display"] == "ast"
    assert code_of(other["code"]) != code_of(wide["code"])


def test_lab_without_table_entry_is_marked_uncoded() -> None:
    text = "謎検査 3.0 フニ"
    observation = lab(
        text,
        {Field.NAME: "謎検査", Field.VALUE: "3.0", Field.UNIT: "フニ"},
        quantity=Quantity(value=Decimal("3.0"), unit="フニ"),
    )
    assert observation["code"]["coding"][1] == {
        "system": "http://jpfhir.jp/fhir/clins/CodeSystem/JP_CLINS_ObsLabResult_Uncoded_CS",
        "code": "99999999999999999",
        "display": "未標準化コード項目(JLAC)",
    }
    assert observation["valueQuantity"]["unit"] == "フニ"
    assert "code" not in observation["valueQuantity"]
    assert observation["effectiveDateTime"] == "2024-05-01"
    assert "_effectiveDateTime" not in observation
    assert observation["specimen"]["display"] == "不明"


@pytest.mark.parametrize(
    ("unit", "code"),
    [
        ("mg/dL", "mg/dL"),
        ("mg/dl", "mg/dL"),
        ("IU/L", "[IU]/L"),
        ("mEq/L", "meq/L"),
        ("万/uL", "10*4/uL"),
        ("10^3/uL", "10*3/uL"),
        ("mL/分/1.73m2", "mL/min/{1.73_m2}"),
        ("g/gCr", "g/g{creat}"),
        ("秒", "s"),
        ("ug/mL", "ug/mL"),
        ("uIU/mL", "u[IU]/mL"),
        ("吸光度", None),
    ],
)
def test_lab_units_in_ucum(unit: str, code: str | None) -> None:
    quantity = Quantity(value=Decimal("5"), unit=unit)
    observation = lab("X 5", {Field.NAME: "X", Field.VALUE: "5"}, quantity=quantity)
    assert observation["valueQuantity"]["unit"] == unit
    assert observation["valueQuantity"].get("code") == code
    assert observation["valueQuantity"].get("system") == ("http://unitsofmeasure.org" if code else None)


@pytest.mark.parametrize(
    ("name", "jlac10", "text_value", "system", "code"),
    [
        ("便潜血", None, "陽性", "JP_PosNegHold_CS", "1"),
        ("便潜血", None, "陰性", "JP_PosNegHold_CS", "2"),
        ("抗体", None, "判定保留", "JP_PosNegHold_CS", "3"),
        ("尿蛋白", "1A990000000100053", "2+", "JP_Urine_Code_CS", "4"),
        ("尿ケトン体", None, "-", "JP_Urine_Code_CS", "1"),
        ("U-Glu", None, "±", "JP_Urine_Code_CS", "2"),
        ("血液型", "5H010000001910114", "AB", "JP_BldABO_CS", "3"),
        ("Rh", "5H020000001910114", "+", "JP_BldRh_CS", "1"),
    ],
)
def test_qualitative_results(name: str, jlac10: str | None, text_value: str, system: str, code: str) -> None:
    codings = (Coding(system=CORE_LAB, code=jlac10, display="x"),) if jlac10 else ()
    text = f"{name} （{text_value}）"
    observation = lab(text, {Field.NAME: name, Field.VALUE: text_value}, codings=codings, text_value=text_value)
    value = observation["valueCodeableConcept"]
    assert (value["coding"][0]["system"], value["coding"][0]["code"], value["text"]) == (
        f"http://jpfhir.jp/fhir/LaboResult/CodeSystem/{system}",
        code,
        text_value,
    )
    assert quoted(value, text) == [text_value]


def test_a_grade_outside_urine_has_no_code() -> None:
    observation = lab("CRP 2+", {Field.NAME: "CRP", Field.VALUE: "2+"}, text_value="2+")
    assert observation["valueString"] == "2+"
    assert quoted(observation["_valueString"], "CRP 2+") == ["2+"]


def test_a_value_that_was_not_understood_stays_as_written() -> None:
    observation = lab("血沈 測定不能", {Field.NAME: "血沈", Field.VALUE: "測定不能"})
    assert observation["valueString"] == "測定不能"
    empty = lab("血沈を提出", {Field.NAME: "血沈"})
    assert empty["status"] == "registered"
    assert empty["dataAbsentReason"]["text"] == "結果の記載なし"


@pytest.mark.parametrize(
    ("flag", "code"), [("H", "H"), ("Ｈ", "H"), ("↑", "H"), ("高値", "H"), ("(L)", "L"), ("↓", "L"), ("低値", "L")]
)
def test_flags(flag: str, code: str) -> None:
    text = f"K 5.9 {flag}"
    quantity = Quantity(value=Decimal("5.9"))
    observation = lab(text, {Field.NAME: "K", Field.VALUE: "5.9", Field.FLAG: flag}, quantity=quantity, flag=flag)
    interpretation = observation["interpretation"][0]
    assert code_of(interpretation) == code
    assert interpretation["text"] == flag.strip()
    assert quoted(interpretation, text) == [flag]


def test_infection_result_alone_and_beside_a_number() -> None:
    text = "HBs抗原 陽性 250 IU/mL"
    shared = Coding(system=INFECTION_LAB, code="5F016141002302311", display="HBs抗原(定性)")
    quotes = {Field.NAME: "HBs抗原", Field.VALUE: "陽性"}
    alone = Record(
        statement=statement(text, Kind.INFECTION, quotes, result=InfectionResult.POSITIVE),
        display="HBs抗原(定性)",
        codings=(shared,),
    )
    [observation] = converted(text, alone, facility=FACILITY)
    assert observation["valueCodeableConcept"]["coding"] == [
        {"system": "http://jpfhir.jp/fhir/LaboResult/CodeSystem/JP_PosNegHold_CS", "code": "1", "display": "陽性"}
    ]
    assert observation["valueCodeableConcept"]["text"] == "陽性"
    assert [c["display"] for c in observation["code"]["coding"]] == ["HBs抗原", "HBs抗原(定性)"]
    assert profile_of(observation) == "JP_Observation_LabResult_eCS"
    both = alone.model_copy(update={"quantity": Quantity(value=Decimal("250"), unit="IU/mL")})
    [observation] = converted(text, both)
    assert observation["valueQuantity"]["value"] == Decimal(250)
    assert "valueCodeableConcept" not in observation
    assert code_of(observation["interpretation"][0]) == "POS"
    assert observation["interpretation"][0]["text"] == "陽性"


@pytest.mark.parametrize(
    ("result", "code", "interpretation"),
    [(InfectionResult.NEGATIVE, "2", "NEG"), (InfectionResult.INDETERMINATE, "3", "IND")],
)
def test_infection_other_results(result: InfectionResult, code: str, interpretation: str) -> None:
    made = statement("HCV抗体", Kind.INFECTION, {Field.NAME: "HCV抗体"}, result=result)
    [observation] = converted("HCV抗体", Record(statement=made, display="HCV抗体"))
    assert code_of(observation["valueCodeableConcept"]) == code
    number = Record(statement=made, display="HCV抗体", quantity=Quantity(value=Decimal("0.1")))
    [observation] = converted("HCV抗体", number)
    assert code_of(observation["interpretation"][0]) == interpretation


# --- prescriptions ---


def prescription(
    text: str, quotes: dict[Field, str], dosage: Dosage | None, action: Action = Action.PRESCRIBE
) -> dict[str, Any]:
    made = statement(text, Kind.PRESCRIPTION, quotes, action=action)
    [request] = converted(text, Record(statement=made, display=quotes[Field.NAME], dosage=dosage))
    assert profile_of(request) == "JP_MedicationRequest"
    return request


def test_prescription_numbers() -> None:
    text = "アムロジピンOD錠5mg 2錠 分2 朝夕食後 28日分"
    quotes = {
        Field.NAME: "アムロジピンOD錠5mg",
        Field.DOSE: "2錠",
        Field.USAGE: "分2 朝夕食後",
        Field.DAYS: "28日分",
    }
    dosage = Dosage(dose=Decimal("1"), dose_unit="錠", per_day=2, days=28, text="2錠 分2 朝夕食後")
    request = prescription(text, quotes, dosage)
    assert (request["status"], request["intent"], request["authoredOn"]) == ("active", "order", "2024-05-01")
    medication = request["medicationCodeableConcept"]
    assert medication["text"] == "アムロジピンOD錠5mg"
    assert medication["coding"] == [
        {
            "system": "http://jpfhir.jp/fhir/eCS/CodeSystem/MedicationCodeNocoded_CS",
            "code": "NOCODED",
            "display": "標準コードなし",
        }
    ]
    [instruction] = request["dosageInstruction"]
    assert instruction["text"] == "2錠 分2 朝夕食後"
    assert instruction["timing"]["repeat"] == {"frequency": 2, "period": 1, "periodUnit": "d"}
    assert instruction["timing"]["code"]["text"] == "分2 朝夕食後"
    assert "asNeededBoolean" not in instruction
    dose = instruction["doseAndRate"][0]["doseQuantity"]
    assert (dose["value"], dose["unit"], dose["code"]) == (Decimal(1), "錠", "TAB")
    assert dose["system"] == "http://jpfhir.jp/fhir/core/mhlw/CodeSystem/MedicationUnitMERIT9Code"
    assert quoted(dose, text) == ["2錠"]
    assert quoted(instruction, text) == ["2錠", "分2 朝夕食後"]
    supply = request["dispenseRequest"]["expectedSupplyDuration"]
    assert {k: v for k, v in supply.items() if k != "extension"} == {
        "value": Decimal(28),
        "unit": "日",
        "system": "http://unitsofmeasure.org",
        "code": "d",
    }
    assert quoted(supply, text) == ["28日分"]


@pytest.mark.parametrize(
    ("action", "status", "intent"),
    [
        (Action.PRESCRIBE, "active", "order"),
        (Action.CONTINUE, "active", "order"),
        (Action.CHANGE, "active", "order"),
        (Action.STOP, "stopped", "order"),
        (Action.HISTORY, "completed", "order"),
        (Action.PLAN, "draft", "plan"),
    ],
)
def test_prescription_actions(action: Action, status: str, intent: str) -> None:
    request = prescription("ワーファリン", {Field.NAME: "ワーファリン"}, None, action)
    assert (request["status"], request["intent"]) == (status, intent)
    assert "dosageInstruction" not in request
    assert "dispenseRequest" not in request


def test_as_needed() -> None:
    text = "ロキソニン 1錠 疼痛時"
    quotes = {Field.NAME: "ロキソニン", Field.DOSE: "1錠", Field.USAGE: "疼痛時"}
    request = prescription(text, quotes, Dosage(dose=Decimal(1), dose_unit="錠", as_needed=True))
    [instruction] = request["dosageInstruction"]
    assert instruction["asNeededBoolean"] is True
    assert instruction["text"] == "1錠 疼痛時"
    assert "repeat" not in instruction["timing"]


def test_a_daily_total_is_a_rate_not_a_dose() -> None:
    text = "PSL 15mg/日"
    dosage = Dosage(dose=Decimal("15"), dose_unit="mg/日")
    request = prescription(text, {Field.NAME: "PSL", Field.DOSE: "15mg/日"}, dosage)
    [rate] = request["dosageInstruction"][0]["doseAndRate"]
    assert "doseQuantity" not in rate
    numerator = rate["rateRatio"]["numerator"]
    assert (numerator["value"], numerator["unit"], numerator["code"]) == (Decimal(15), "mg", "MG")
    assert rate["rateRatio"]["denominator"] == {
        "value": Decimal(1),
        "unit": "日",
        "system": "http://unitsofmeasure.org",
        "code": "d",
    }


def test_drugs_that_share_a_usage_are_one_rp() -> None:
    text = "A錠 1錠\nB錠 1錠\n分1 朝食後\nC錠 分3"
    made = [
        statement(text, Kind.PRESCRIPTION, {Field.NAME: name, Field.USAGE: usage}, action=Action.PRESCRIBE)
        for name, usage in (("A錠", "分1 朝食後"), ("B錠", "分1 朝食後"), ("C錠", "分3"))
    ]
    requests = converted(text, *(Record(statement=s, display=s.name.quote) for s in made))
    numbers = [[i["value"] for i in request["identifier"]] for request in requests]
    assert numbers == [["1", "1"], ["1", "2"], ["2", "1"]]


# --- the note itself ---


def test_patient_document_and_provenance() -> None:
    text = "高血圧𠮷\n"
    made = statement(text, Kind.CONDITION, {Field.NAME: "高血圧"})
    resources, issues = build_resources(
        note_of(text, DocumentType.DISCHARGE), [Record(statement=made, display="高血圧症")], run=RUN, recorded=RECORDED
    )
    patient, document, condition, provenance = resources
    assert patient["name"] == [{"use": "official", "text": "山田 花子", "family": "山田", "given": ["花子"]}]
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
        "Condition.identifier: institution number of the facility is missing; JP Core profile claimed",
        "Patient.address: the sender states no address; JP Core profile claimed",
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


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(InvalidInput):
        build_resources(note_of("x"), [], run=RUN, recorded=datetime(2024, 5, 2))  # noqa: DTZ001


# --- any record ---

_UNITS = st.sampled_from(["mg/dL", "％", "万/uL", "錠", "mg/日", "μg/kg/分", "回", "", "　"]) | st.text(max_size=8)
_DATES = st.sampled_from([None, "2024", "2024-02", "2024-02-29", "2023-02-29", "令和6年", ""])
_NUMBERS = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12)


@st.composite
def _notes(draw: st.DrawFn) -> tuple[str, list[Record]]:
    text = draw(st.text(min_size=1, max_size=60))
    records = []
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(list(Kind)))
        fields = {}
        for name in FIELDS[kind]:
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
            )
        )
        records.append(
            Record(
                statement=made,
                display=draw(st.text(max_size=10)),
                codings=tuple(draw(st.sampled_from([(), HYPERTENSION]))),
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


@settings(max_examples=60, deadline=None)
@given(made=_notes(), facility=st.sampled_from([None, FACILITY]))
def test_any_records_give_valid_resources(made: tuple[str, list[Record]], facility: Facility | None) -> None:
    text, records = made
    note = note_of(text)
    resources, issues = build_resources(note, records, facility=facility, run=RUN, recorded=RECORDED)
    bundle = collection(note, resources, RECORDED)
    assert check(bundle) == []
    assert_known_codes(bundle, {(c.system, c.code) for c in HYPERTENSION})
    assert loads(dumps(bundle)) == bundle
    derived = [r for r in resources if r["resourceType"] not in ("Patient", "DocumentReference", "Provenance")]
    refused = [issue for issue in issues if issue.severity is Severity.ERROR]
    assert len(derived) + len(refused) <= len(records)
    assert len(derived) == len(records) or refused  # nothing is left out in silence
    assert all(text not in issue.text for issue in issues if len(text) > 20)
