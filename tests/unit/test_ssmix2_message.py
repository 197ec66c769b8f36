"""SS-MIX2 messages, segment by segment, as literal text; and the parser over stored example messages."""

import zlib
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from app.errors import InvalidInput
from app.ssmix2 import (
    Facility,
    Message,
    allergy_message,
    cancelled,
    decode,
    diagnosis_message,
    encode,
    messages,
    parse,
    patient_message,
    prescription_message,
    result_messages,
)
from app.ssmix2.codes import abnormal_flag, result_unit
from app.ssmix2.hl7 import render
from schemas.coding import Coding
from schemas.note import ChartNote, DocumentType, Patient, Sex
from schemas.record import Comparator, Dosage, Quantity, Record
from schemas.statement import (
    Action,
    AllergyCategory,
    Assertion,
    EvidenceSpan,
    Field,
    InfectionResult,
    Kind,
    Statement,
)

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


def key_of(made: Record) -> str:
    return f"K{zlib.crc32(made.display.encode()):010}"


def lines(message: Message | None) -> list[str]:
    assert message is not None
    assert message.text.endswith("\r")
    assert decode(encode(message.text)) == message.text
    assert render(parse(message.text)) == message.text
    return message.text.removesuffix("\r").split("\r")


def diagnoses(records: Sequence[Record], note: ChartNote | None = None) -> list[str]:
    sent = {"control_id": "D1", "sent_at": SENT_AT, "key_of": key_of}
    return lines(diagnosis_message(note or a_note(), records, FACILITY, **sent))


def allergies(records: Sequence[Record]) -> list[str]:
    return lines(allergy_message(a_note(), records, FACILITY, control_id="A1", sent_at=SENT_AT, key_of=key_of))


def prescription(records: Sequence[Record], note: ChartNote | None = None) -> list[str]:
    return lines(prescription_message(note or a_note(), records, FACILITY, order=301, control_id="P1", sent_at=SENT_AT))


def results(records: Sequence[Record]) -> tuple[Message, ...]:
    return result_messages(
        a_note(), records, FACILITY, order=501, control_ids=(f"R{n}" for n in range(1, 9)), sent_at=SENT_AT
    )


def observations(*records: Record) -> list[str]:
    (message,) = results(records)
    return [line for line in lines(message) if line.startswith("OBX")]


# --- ADT-00 ---


def test_patient() -> None:
    message = patient_message(a_note(), FACILITY, control_id="20260401000000000001", sent_at=SENT_AT)
    assert lines(message) == [
        header("ADT^A08^ADT_A01", "20260401000000000001"),
        "EVN||20260401101530|||||1310000001",
        PID + "|||||||||||||||||||||||||20260401101530",
        "PV1|0001|O|01^^^^^C",
    ]
    assert (message.kind, message.care_date, message.order_no, message.department) == ("ADT-00", None, "9" * 15, "-")
    assert parse(message.text)[2].get(33) == "20260401101530"


def test_patient_in_a_bed_without_codes() -> None:
    note = a_note(DocumentType.ADMISSION, family="ミホン", given="ハナコ")
    message = patient_message(note, Facility("SAMPLE|HP"), control_id="1", sent_at=SENT_AT)
    msh, evn, pid, pv1 = lines(message)
    assert msh.startswith("MSH|^~\\&|HYOJUN|SAMPLE\\F\\HP|GW")
    assert evn == "EVN||20260401101530|||||SAMPLE\\F\\HP"
    assert pid.split("|")[5] == "ミホン^ハナコ^^^^^L^P"
    assert pv1 == "PV1|0001|I"


def test_name_outside_jis_x_0208() -> None:
    message = patient_message(a_note(family="髙﨑", given="彅子"), FACILITY, control_id="1", sent_at=SENT_AT)
    assert "高崎^■子^^^^^L^I" in message.text
    assert [issue.text for issue in message.issues] == [
        "ADT-00 PID-5: character 0 has no form in JIS X 0208; written as ■"
    ]


@pytest.mark.parametrize("control_id", ["", "x" * 21, "a|b"])
def test_control_id_fits_msh_10(control_id: str) -> None:
    with pytest.raises(InvalidInput, match="control_id"):
        patient_message(a_note(), FACILITY, control_id=control_id, sent_at=SENT_AT)


def test_an_instant_needs_its_zone() -> None:
    with pytest.raises(InvalidInput, match="sent_at"):
        patient_message(a_note(), FACILITY, control_id="1", sent_at=SENT_AT.replace(tzinfo=None))


# --- ADT-61 ---


def allergy(name: str, category: AllergyCategory, *codings: Coding, **values: object) -> Record:
    assertion = values.pop("assertion", Assertion.PRESENT)
    return record(statement(Kind.ALLERGY, name=name, category=category, assertion=assertion), *codings, **values)


def test_allergies() -> None:
    records = [
        allergy(
            "アリナミン",
            AllergyCategory.MEDICATION,
            Coding(system=HOT9, code="106824501", display="アリナミン"),
            reactions=("発疹", "呼吸苦"),
            date="2025-07-10",
        ),
        allergy(
            "そば", AllergyCategory.FOOD, Coding(system=JFAGY, code="J9FC11190000", display="ソバ"), date="2019-05"
        ),
        allergy("ペニシリン系", AllergyCategory.MEDICATION, assertion=Assertion.SUSPECTED, date="2003"),
        allergy("ラテックス", AllergyCategory.OTHER, assertion=Assertion.PAST),
        allergy("スギ", AllergyCategory.ENVIRONMENT),
        allergy("造影剤", AllergyCategory.MEDICATION, assertion=Assertion.ABSENT),
        allergy("卵", AllergyCategory.FOOD, assertion=Assertion.FAMILY),
    ]
    assert allergies(records) == [
        header("ADT^A60^ADT_A60", "A1"),
        "EVN||20260401101530|||||1310000001",
        PID,
        "IAM|1|DA^薬物アレルギー^HL70127|106824501^アリナミン^HOT9||発疹~呼吸苦|A^追加^HL70323|"
        + key_of(records[0])
        + "||||20250710||20260401||||C^確認済^HL70438",
        "IAM|2|FA^食物アレルギー^HL70127|J9FC11190000^そば^99HYJ|||A^追加^HL70323|"
        + key_of(records[1])
        + "|||||2019年5月|20260401||||C^確認済^HL70438",
        "IAM|3|DA^薬物アレルギー^HL70127|^ペニシリン系^99HYJ|||A^追加^HL70323|"
        + key_of(records[2])
        + "|||||2003年|20260401||||S^疑い^HL70438",
        "IAM|4|MA^その他のアレルギー^HL70127|^ラテックス^99HYJ|||A^追加^HL70323|"
        + key_of(records[3])
        + "||||||20260401||||I^確認済、現在なし^HL70438",
        "IAM|5|EA^環境アレルギー^HL70127|^スギ^99HYJ|||A^追加^HL70323|"
        + key_of(records[4])
        + "||||||20260401||||C^確認済^HL70438",
    ]


def test_long_reaction_is_split_not_cut() -> None:
    reaction = "全身の膨疹と喉頭浮腫による呼吸困難"
    said = allergy("エビ", AllergyCategory.FOOD, reactions=(reaction, "嘔吐"))
    message = allergy_message(a_note(), [said], FACILITY, control_id="A1", sent_at=SENT_AT, key_of=key_of)
    assert message is not None
    field = parse(message.text)[3].field(5)
    parts = [repetition[0][0] for repetition in field]
    assert parts == ["全身の膨疹と喉頭浮腫による呼吸", "困難", "嘔吐"]
    assert [issue.text for issue in message.issues] == ["ADT-61 IAM-5: 17 characters written as 2 repetitions"]


def test_nothing_but_denied_allergies_is_no_message() -> None:
    denied = [allergy("薬剤", AllergyCategory.MEDICATION, assertion=Assertion.ABSENT)]
    assert allergy_message(a_note(), denied, FACILITY, control_id="A", sent_at=SENT_AT, key_of=key_of) is None


def test_key_fits_iam_7() -> None:
    said = [allergy("エビ", AllergyCategory.FOOD)]
    with pytest.raises(InvalidInput, match="key_of"):
        allergy_message(a_note(), said, FACILITY, control_id="A", sent_at=SENT_AT, key_of=lambda _: "x" * 21)


# --- PPR-01 ---


def test_diagnoses() -> None:
    records = [
        condition(
            "胃炎",
            Assertion.PRESENT,
            Coding(system=KEY_NUMBER, code="20054174", display="胃炎"),
            Coding(system=ICD10, code="K29.7", display="胃炎"),
            onset="３月下旬",
            date="2026-03",
        ),
        condition(
            "HT",
            Assertion.PRESENT,
            Coding(system=RECEIPT, code="8833421", display="高血圧症"),
            Coding(system=ICD10, code="I10", display="高血圧症"),
            display="高血圧症",
        ),
        condition("機能性腹痛", Assertion.SUSPECTED),
        condition(
            "虫垂炎", Assertion.PAST, Coding(system=ICD10, code="K37", display="虫垂炎"), onset="H10年", date="1998"
        ),
        condition("喘息", Assertion.PAST),
        condition("糖尿病", Assertion.ABSENT),
        condition("脳梗塞", Assertion.FAMILY, relative="父"),
    ]
    assert diagnoses(records, a_note(DocumentType.HOMECARE)) == [
        header("PPR^ZD1^PPR_ZD1", "D1"),
        PID,
        f"PRB|AD|20260401101530|20054174^胃炎^MDCDX2|{key_of(records[0])}||||||K297^^I10^O^外来時^JHSD0004^2013"
        "||||||202603|３月下旬",
        f"PRB|AD|20260401101530|20084317^高血圧症^MDCDX2^8833421^高血圧症^99HYJ|{key_of(records[1])}"
        "||||||I10^^I10^O^外来時^JHSD0004^2013",
        f"PRB|AD|20260401101530|20084317^機能性腹痛^MDCDX2|{key_of(records[2])}|||||||||1^疑いあり^JHSD0005",
        f"PRB|AD|20260401101530|20084317^虫垂炎^MDCDX2|{key_of(records[3])}|||||1998|K37^^I10^^^^2013"
        "||||O^その他^JHSD0006|1998|1998|H10年",
        f"PRB|AD|20260401101530|20084317^喘息^MDCDX2|{key_of(records[4])}||||||||||O^その他^JHSD0006",
    ]


@pytest.mark.parametrize(
    ("document_type", "moment"),
    [
        (DocumentType.ADMISSION, "H^入院時^JHSD0004"),
        (DocumentType.DISCHARGE, "L^退院時^JHSD0004"),
        (DocumentType.PREOP, "B^手術前^JHSD0004"),
        (DocumentType.PROGRESS, "^^"),
    ],
)
def test_moment_of_diagnosis_is_what_the_document_says(document_type: DocumentType, moment: str) -> None:
    said = condition("胃炎", Assertion.PRESENT, Coding(system=ICD10, code="K29.7", display="胃炎"))
    prb = diagnoses([said], a_note(document_type))[2]
    assert prb.split("|")[10] == f"K297^^I10^{moment}^2013"


def test_snapshot_with_the_records_of_earlier_notes() -> None:
    icd10 = Coding(system=ICD10, code="K29.7", display="胃炎")
    sent = {"control_id": "1", "sent_at": SENT_AT, "key_of": key_of}
    note = a_note(DocumentType.DISCHARGE)
    old, new = condition("胃炎", Assertion.PRESENT, icd10), condition("再発胃炎", Assertion.PRESENT, icd10)
    rows = lines(diagnosis_message(note, [new], FACILITY, **sent, earlier=[old]))
    assert [row.split("|")[10] for row in rows[2:]] == ["K297^^I10^^^^2013", "K297^^I10^L^退院時^JHSD0004^2013"]
    shrimp, crab = allergy("エビ", AllergyCategory.FOOD), allergy("カニ", AllergyCategory.FOOD)
    rows = lines(allergy_message(note, [crab], FACILITY, **sent, earlier=[shrimp]))
    assert [(row.split("|")[1], row.split("|")[13]) for row in rows[3:]] == [("1", ""), ("2", "20260401")]


def test_delimiters_and_line_breaks_in_a_name() -> None:
    prb = diagnoses([condition("A|B^C&D~E\\F\nG", onset="前日\n夜")])[2]
    assert prb.split("|")[3] == "20084317^A\\F\\B\\S\\C\\T\\D\\R\\E\\E\\F G^MDCDX2"
    assert prb.split("|")[17] == "前日 夜"


def test_a_day_that_no_calendar_has_is_not_written() -> None:
    prb = diagnoses([condition("胃炎", date="2026-02-30")])[2]
    assert prb.split("|")[5:] == []


def test_no_diagnosis_is_no_message() -> None:
    said = [condition("糖尿病", Assertion.ABSENT), lab("CRP")]
    assert diagnosis_message(a_note(), said, FACILITY, control_id="D", sent_at=SENT_AT, key_of=key_of) is None


# --- OMP-01 ---

AMLODIPINE = Coding(system=YJ, code="2171022F2024", display="アムロジピン錠5mg")


def test_prescription() -> None:
    usage = {"usage": "分3 毎食後", "days": "3日分"}
    records = [
        drug(
            "ムコダイン錠250mg",
            Dosage(dose=Decimal(1), dose_unit="錠", per_day=3, days=3, text="3錠 分3 毎食後 3日分"),
            Coding(system=HOT9, code="103835401", display="ムコダイン錠２５０ｍｇ"),
            start=100,
            **usage,
        ),
        drug(
            "アムロジピン錠5mg",
            Dosage(dose=Decimal("0.5"), dose_unit="錠", per_day=1, days=28, text="0.5錠 分1 朝食後 28日分"),
            AMLODIPINE,
            start=200,
            action=Action.CONTINUE,
            usage="分1 朝食後",
            days="28日分",
        ),
        drug(
            "ボルタレン錠25mg",
            Dosage(dose=Decimal(1), dose_unit="錠", as_needed=True, text="1回1錠 疼痛時\n10回分"),
            start=300,
            usage="疼痛時",
            days="１０回分",
        ),
        drug("ワーファリン", Dosage(), start=400, action=Action.STOP),
        drug("メトホルミン", Dosage(), start=500, action=Action.PLAN),
        drug("バイアスピリン", Dosage(), start=600, action=Action.HISTORY),
    ]
    message = prescription_message(a_note(), records, FACILITY, order=301, control_id="P1", sent_at=SENT_AT)
    assert lines(message) == [
        header("RDE^O11^RDE_O11", "P1"),
        PID,
        "PV1||O|01^^^^^C",
        f"ORC|NW|000000000000301||000000000000301_01_001|||||20260401||||||||{ORC_END}",
        "RXE||103835401^ムコダイン錠２５０ｍｇ^HOT9|1||TAB^錠^MR9P|||||9|TAB^錠^MR9P||||000000000000301||||"
        "3^TAB&錠&MR9P||OHP^外来処方^MR9P||||||21^内服^JHSP0003",
        "TQ1|1||&分3 毎食後&99HYJ|||3^D&日&ISO+|||||3錠 分3 毎食後 3日分",
        "RXR|PO^口^HL70162",
        f"ORC|NW|000000000000301||000000000000301_02_001|||||20260401||||||||{ORC_END}",
        "RXE||2171022F2024^アムロジピン錠5mg^99HYJ|0.5||TAB^錠^MR9P|||||14|TAB^錠^MR9P||||000000000000301||||"
        "0.5^TAB&錠&MR9P||OHP^外来処方^MR9P||||||21^内服^JHSP0003||||2171022F2024^アムロジピン錠5mg^YJ",
        "TQ1|1||&分1 朝食後&99HYJ|||28^D&日&ISO+|||||0.5錠 分1 朝食後 28日分",
        "RXR|PO^口^HL70162",
        f"ORC|NW|000000000000301||000000000000301_03_001|||||20260401||||||||{ORC_END}",
        "RXE||^ボルタレン錠25mg^99HYJ|1||TAB^錠^MR9P|||||10|TAB^錠^MR9P||||000000000000301||||"
        "||OHP^外来処方^MR9P||||||22^頓用^JHSP0003",
        "TQ1|1||&疼痛時&99HYJ||||||||1回1錠 疼痛時\\.br\\10回分|||10",
        "RXR|PO^口^HL70162",
    ]
    assert message is not None
    assert (message.care_date, message.order_no, message.department) == (date(2026, 4, 1), "000000000000301", "01")


def test_drugs_that_share_one_written_usage_share_the_rp() -> None:
    dosage = Dosage(dose=Decimal(1), dose_unit="錠", per_day=3)
    usage = EvidenceSpan(start=50, end=53, quote="毎食後")
    shared = []
    for start, name in ((0, "A錠"), (20, "B錠")):
        said = statement(Kind.PRESCRIPTION, start, name=name)
        said = said.model_copy(update={"fields": said.fields | {Field.USAGE: usage}})
        shared.append(record(said, dosage=dosage))
    own = drug("C錠", dosage, start=70, usage="毎食後")
    orders = [line.split("|")[4][-6:] for line in prescription([*shared, own]) if line.startswith("ORC")]
    assert orders == ["01_001", "01_002", "02_001"]


@pytest.mark.parametrize(
    ("name", "dosage", "fields"),
    [
        # nothing known: the required amounts are explicit nulls, the kind of use stays unsaid
        ("降圧薬", None, {3: '""', 5: '""', 10: '""', 11: '""', 19: "", 27: ""}),
        # a whole day's amount is the daily dose, not the dose of one intake
        (
            "バルプロ酸徐放錠",
            Dosage(dose=Decimal(600), dose_unit="mg/日", days=14),
            {3: '""', 5: '""', 10: "8400", 11: "MG^mg^MR9P", 19: "600^MG&mg&MR9P", 27: "21^内服^JHSP0003"},
        ),
        # an amount per kg is no number of a supply
        (
            "ガスター散",
            Dosage(dose=Decimal(5), dose_unit="mg/kg", per_day=2, days=7),
            {3: "5", 5: "^mg/kg^99HYJ", 10: '""', 11: '""', 19: "", 27: "21^内服^JHSP0003"},
        ),
        # a unit without a MERIT-9 code is local
        (
            "整腸剤散",
            Dosage(dose=Decimal(1), dose_unit="スティック", per_day=3, days=5),
            {3: "1", 5: "^スティック^99HYJ", 10: "15", 11: "^スティック^99HYJ", 19: "3^&スティック&99HYJ"},
        ),
        (
            "ロキソプロフェンテープ",
            Dosage(dose=Decimal(1), dose_unit="枚", per_day=1),
            {5: "SHT^枚^MR9P", 27: "23^外用^JHSP0003"},
        ),
        ("インスリン皮下注", Dosage(dose=Decimal(4), dose_unit="単位", per_day=3), {5: "UNT^単位^MR9P", 27: ""}),
    ],
)
def test_amounts_and_use(name: str, dosage: Dosage | None, fields: dict[int, str]) -> None:
    rxe = prescription([drug(name, dosage)])[4].split("|")
    assert {number: rxe[number] if number < len(rxe) else "" for number in fields} == fields


@pytest.mark.parametrize(
    ("code", "route"),
    [("2171022F2024", "PO^口^HL70162"), ("2649735S2024", "AP^外用^HL70162"), ("2492414A1023", '""')],
)
def test_route_by_yj_code(code: str, route: str) -> None:
    rows = prescription([drug("名称のみ", None, Coding(system=YJ, code=code, display="名称のみ"))])
    assert rows[-1] == f"RXR|{route}"


def test_inpatient_order() -> None:
    rows = prescription([drug("アムロジピン錠", None)], a_note(DocumentType.DISCHARGE))
    assert rows[2] == "PV1||I"
    assert rows[3].endswith("|I^入院患者オーダ^HL70482")
    assert rows[4].split("|")[21] == "IHP^入院処方^MR9P"


def test_only_stopped_drugs_is_no_message() -> None:
    stopped = [drug("ワーファリン錠", None, action=Action.STOP)]
    assert prescription_message(a_note(), stopped, FACILITY, order=1, control_id="P", sent_at=SENT_AT) is None


@pytest.mark.parametrize("order", [0, -1, 999_999_999_999_999])
def test_order_number_has_15_digits_and_is_not_all_nines(order: int) -> None:
    with pytest.raises(InvalidInput, match="order"):
        prescription_message(a_note(), [drug("A錠", None)], FACILITY, order=order, control_id="P", sent_at=SENT_AT)


# --- OML-11 ---

AST = Coding(system=CORE, code="3B035000002399901", display="AST")
CRP = Coding(system=JLAC10, code="5C070000002306201", display="CRP")
HB = Coding(system=CORE, code="2A030000001999951", display="Hb")
HBS = Coding(system=INFECTION, code="5F016000002399911", display="HBs抗原(定性)")


def amount(value: str, unit: str | None = None, comparator: Comparator | None = None) -> Quantity:
    return Quantity(value=Decimal(value), unit=unit, comparator=comparator)


def test_results_by_day_material_and_group() -> None:
    records = [
        lab("AST", AST, date="2026-04-01", quantity=amount("14", "U/L")),
        lab("CRP", CRP, date="2026-04-01", quantity=amount("2.0", "mg/dL"), flag="H"),
        lab("Hb", HB, date="2026-04-01", quantity=amount("12.8", "g/dL"), flag="↓"),
        lab("AST", AST, date="2026-03-01", quantity=amount("20", "U/L")),
        record(
            statement(Kind.INFECTION, name="HBsAg", value="(-)", result=InfectionResult.NEGATIVE),
            HBS,
            date="2026-04-01",
            display="HBs抗原",
        ),
        lab("フェリチン", date="2025", quantity=amount("5.0", "ng/mL", Comparator.LT)),
    ]
    march, april = results(records)
    orc = f"ORC|SC|000000000000501|||CM||||||||||||{ORC_END}"
    assert lines(march) == [
        header("OUL^R22^OUL_R22", "R1"),
        PID,
        "PV1|0001|O|01^^^^^C",
        "SPM|1|||023^血清^JC10|||||||||||||20260301",
        "OBR|1|000000000000501||3^生化学的検査^JC10|||20260301",
        orc,
        "OBX|1|NM|3B035000002399901^AST^99HYJ||20|U/L^U/L^ISO+|||||F|||20260301",
    ]
    rows = lines(april)
    assert rows[0] == header("OUL^R22^OUL_R22", "R2")
    assert rows[3:] == [
        "SPM|1|||023^血清^JC10|||||||||||||20260401",
        "OBR|1|000000000000501||3^生化学的検査^JC10|||20260401",
        orc,
        "OBX|1|NM|3B035000002399901^AST^99HYJ||14|U/L^U/L^ISO+|||||F|||20260401",
        "OBR|2|000000000000501||5^免疫学的検査^JC10|||20260401",
        orc,
        "OBX|1|NM|5C070000002306201^CRP^JC10||2.0|mg/dL^mg/dL^ISO+||H|||F|||20260401",
        "OBX|2|ST|5F016000002399911^HBs抗原^99HYJ||  -||||||F|||20260401",
        "SPM|2|||019^全血(添加物入り)^JC10|||||||||||||20260401",
        "OBR|1|000000000000501||2^血液学的検査^JC10|||20260401",
        orc,
        "OBX|1|NM|2A030000001999951^Hb^99HYJ||12.8|g/dL^g/dL^ISO+||L|||F|||20260401",
        # the year alone is known: filed under the note's day, sampling day unsaid
        "SPM|3|||^不明^99HYJ",
        "OBR|1|000000000000501||^検体検査^99HYJ|||2025",
        orc,
        "OBX|1|ST|HYJ-cf419e7c6b41366a^フェリチン^99HYJ||< 5.0|ng/mL^ng/mL^ISO+|||||F|||2025",
    ]
    assert [(m.care_date, m.order_no) for m in (march, april)] == [
        (date(2026, 3, 1), "000000000000501"),
        (date(2026, 4, 1), "000000000000501"),
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"quantity": amount("1.10", "mg/dL")}, "NM|1.10"),
        ({"quantity": amount("1.2E+4", "/uL")}, "NM|12000"),
        ({"quantity": amount("-2.5", "mEq/L")}, "NM|-2.5"),
        ({"quantity": amount("0.5", None, Comparator.LT)}, "ST|< 0.5"),
        ({"quantity": amount("100", None, Comparator.GT)}, "ST|> 100"),
        ({"quantity": amount("200", None, Comparator.GE)}, "ST|>= 200"),
        ({"quantity": amount("400", None, Comparator.LE)}, "ST|<= 400"),
        ({"text_value": "-"}, "ST|  -"),
        ({"text_value": "±"}, "ST|  +-"),
        ({"text_value": "+"}, "ST|  +"),
        ({"text_value": "2+"}, "ST| 2 +"),
        ({"text_value": "陽性"}, "ST|  +"),
        ({"text_value": "陰性"}, "ST|  -"),
        ({"text_value": "判定保留"}, "ST|判定保留"),
        ({"text_value": "A"}, "ST|A"),
    ],
)
def test_values_as_nho_writes_them(values: dict[str, object], expected: str) -> None:
    obx = observations(lab("検査", **values))[0].split("|")
    assert f"{obx[2]}|{obx[5]}" == expected


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [("血液型", "AB", "AB^AB^JSHR002"), ("ABO", "O", "O^O^JSHR002"), ("Rh", "+", "+^Rh+^JSHR002")],
)
def test_blood_groups(name: str, text: str, expected: str) -> None:
    obx = observations(lab(name, text_value=text))[0].split("|")
    assert (obx[2], obx[5]) == ("CWE", expected)


def test_quantity_and_verdict_are_two_values() -> None:
    said = statement(Kind.INFECTION, name="HCV抗体", value="9.96(+)", result=InfectionResult.POSITIVE)
    rows = observations(record(said, quantity=amount("9.96", "COI")))
    code = rows[0].split("|")[3]
    assert rows == [
        f"OBX|1|NM|{code}|1|9.96|COI^COI^99HYJ|||||F|||20260401",
        f"OBX|2|ST|{code}|2|  +||||||F|||20260401",
    ]


def test_a_value_that_is_no_number_is_written_as_the_note_has_it() -> None:
    said = statement(Kind.LAB, name="抗核抗体", value="160倍\n(H)")
    assert observations(record(said))[0].split("|")[5] == "160倍 (H)"


def test_a_result_without_a_value_is_an_issue() -> None:
    (message,) = results([lab("AST", AST), lab("CRP", CRP, quantity=amount("1"))])
    assert [line.split("|")[3] for line in lines(message) if line.startswith("OBX")] == ["5C070000002306201^CRP^JC10"]
    assert [issue.text for issue in message.issues] == ["OML-11 OBX-5: a result without a value is not written"]
    assert results([lab("AST", AST)]) == ()


def test_local_code_of_an_unknown_test_is_stable() -> None:
    codes = {
        observations(lab(name, text_value="-"))[0].split("|")[3].split("^")[0] for name in ("抗XY抗体", "抗ＸＹ 抗体")
    }
    assert len(codes) == 1
    assert codes.pop().startswith("HYJ-")


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("mg/dL", ("mg/dL", "mg/dL", "ISO+")),
        ("mg/dl", ("mg/dL", "mg/dl", "ISO+")),
        ("%", ("%", "%", "ISO+")),
        ("10^3/uL", (".10*3/uL", "10^3/uL", "ISO+")),
        ("10*9/L", (".10*9/L", "10*9/L", "ISO+")),
        ("万/uL", (".10*4/uL", "万/uL", "ISO+")),
        ("/mm3", ("/uL", "/mm3", "ISO+")),
        ("/HPF", ("/(hpf)", "/HPF", "ISO+")),
        ("IU/L", ("iu/L", "IU/L", "ISO+")),
        ("uIU/mL", ("uiu/mL", "uIU/mL", "ISO+")),
        ("mEq/L", ("meq/L", "mEq/L", "ISO+")),
        ("mL/min/1.73m2", ("mL/min(bsa)", "mL/min/1.73m2", "ISO+")),
        ("mg/gCr", ("mg/g(creat)", "mg/gCr", "ISO+")),
        ("g/日", ("g/d", "g/日", "ISO+")),
        ("mm/h", ("mm/hr", "mm/h", "ISO+")),
        ("ng/mL/h", ("ng/(mL.hr)", "ng/mL/h", "ISO+")),
        ("秒", ("sec", "秒", "ISO+")),
        ("倍", (".", "倍", "ISO+")),
        ("C.O.I.", ("COI", "C.O.I.", "99HYJ")),
        ("吸光度", ("", "吸光度", "99HYJ")),
    ],
)
def test_units(unit: str, expected: tuple[str, str, str]) -> None:
    assert result_unit(unit) == expected


@pytest.mark.parametrize(
    ("written", "flag"),
    [
        ("H", "H"),
        ("(Ｈ)", "H"),
        ("↑", "H"),
        ("HH", "H"),
        ("低値", "L"),
        ("異常", "A"),
        ("N", "N"),
        ("要再検", ""),
        (None, ""),
    ],
)
def test_abnormal_flags(written: str | None, flag: str) -> None:
    assert abnormal_flag(written) == flag


def test_fewer_control_ids_than_days() -> None:
    days = [lab("AST", date=f"2026-03-0{n}", quantity=amount("1")) for n in (1, 2)]
    with pytest.raises(InvalidInput, match="control_ids"):
        result_messages(a_note(), days, FACILITY, order=1, control_ids=["R1"], sent_at=SENT_AT)


def test_department_without_a_code() -> None:
    message = prescription_message(
        a_note(), [drug("A錠", None)], Facility("見本病院"), order=1, control_id="P", sent_at=SENT_AT
    )
    rows = lines(message)
    assert rows[2] == "PV1||O"
    assert rows[3].split("|")[17] == "^内科^99HYJ"
    assert message is not None
    assert message.department == "-"
    with pytest.raises(InvalidInput, match="department_code"):
        Facility("見本病院", department_code="内科")


# --- all messages of a note ---


def test_messages_of_a_note() -> None:
    records = [
        condition("胃炎"),
        condition("胃炎"),
        allergy("彅", AllergyCategory.OTHER),
        drug("A錠", None),
        lab("AST", date="2026-03-01", quantity=amount("1")),
        lab("AST", date="2026-03-02", quantity=amount("2")),
    ]
    made, issues = messages(a_note(), records, facility=FACILITY, sent_at=SENT_AT)
    assert [message.kind.value for message in made] == ["ADT-00", "ADT-61", "PPR-01", "OMP-01", "OML-11", "OML-11"]
    assert [issue.text.split(":")[0] for issue in issues] == ["ADT-61 IAM-3"]
    control_ids = {parse(message.text)[0].get(10) for message in made}
    assert len(control_ids) == len(made)
    problems = [segment.get(4) for segment in parse(made[2].text) if segment.name == "PRB"]
    assert len(set(problems)) == 2
    # Converting again later: the same names and instances, new messages.
    again, _ = messages(a_note(), records, facility=FACILITY, sent_at=SENT_AT.replace(year=2027))
    assert [(m.kind, m.care_date, m.order_no) for m in again] == [(m.kind, m.care_date, m.order_no) for m in made]
    assert [segment.get(4) for segment in parse(again[2].text) if segment.name == "PRB"] == problems
    assert not control_ids & {parse(message.text)[0].get(10) for message in again}
    other, _ = messages(a_note().model_copy(update={"id": "n2"}), records, facility=FACILITY, sent_at=SENT_AT)
    assert other[3].order_no != made[3].order_no


# --- cancel messages ---


def test_cancelled() -> None:
    later = datetime(2026, 4, 2, 0, 0, tzinfo=UTC)
    said = {"control_id": "1", "sent_at": SENT_AT}
    allergic = [allergy("エビ", AllergyCategory.FOOD)]
    valid = [
        patient_message(a_note(), FACILITY, **said),
        allergy_message(a_note(), allergic, FACILITY, **said, key_of=key_of),
        diagnosis_message(a_note(), [condition("胃炎")], FACILITY, **said, key_of=key_of),
        prescription_message(a_note(), [drug("A錠", None)], FACILITY, order=1, **said),
        results([lab("AST", quantity=amount("1"))])[0],
    ]
    taken_back = []
    for message in valid:
        assert message is not None
        cancel = cancelled(message, control_id="2", sent_at=later)
        assert (cancel.kind, cancel.order_no) == (message.kind, message.order_no)
        segments = {segment.name: segment for segment in parse(cancel.text)}
        assert segments["MSH"].get(7) == "20260402090000.000"
        assert segments["MSH"].get(10) == "2"
        event = "^".join(segments["MSH"].get(9, part) for part in (1, 2, 3))
        sign = [segments[name].get(n) for name, n in (("IAM", 6), ("PRB", 1), ("ORC", 1)) if name in segments]
        taken_back.append((message.kind.value, event, *sign))
    assert taken_back == [
        ("ADT-00", "ADT^A23^ADT_A21"),
        ("ADT-61", "ADT^A60^ADT_A60", "D"),
        ("PPR-01", "PPR^ZD1^PPR_ZD1", "DE"),
        ("OMP-01", "RDE^O11^RDE_O11", "CA"),
        ("OML-11", "OUL^R22^OUL_R22", "CA"),
    ]


# --- the parser ---

WORKED = (
    b"MSH|^~\\&|CHARTX|SAMPLEHP|GW|RCV|20260401113000.000||OUL^R22^OUL_R22|20260401000000000008|P|2.5||||||~ISO IR87||"
    b"ISO 2022-1994|SS-MIX2_1.20^SS-MIX2^1.2.392.200250.2.1.100.1.2.120^ISO\r"
    b"PID|0001||0000012345^^^^PI||\x1b$B8+K\\\x1b(B^\x1b$B2V;R\x1b(B^^^^^L^I~\x1b$B%_%[%s\x1b(B^\x1b$B%O%J%3\x1b(B"
    b"^^^^^L^P||19580314|F\r"
    b"OBX|1|ST|5F360141002305111^HCV\x1b$B93BN\x1b(B^JC10||  +|||A|||F|||202604010915\r"
    b"TQ1|1||1013044400000000&\x1b$BKh?)8e\x1b(B&JAMISDP01|||3^D&\x1b$BF|\x1b(B&ISO+|2026040112\r"
)


def test_worked_message() -> None:
    msh, pid, obx, tq1 = parse(decode(WORKED))
    assert (msh.get(1), msh.get(2), msh.get(9, 3), msh.get(18, repetition=2)) == ("|", "^~\\&", "OUL_R22", "ISO IR87")
    assert (pid.get(5), pid.get(5, 2), pid.get(5, 2, repetition=2)) == ("見本", "花子", "ハナコ")
    assert (obx.get(3, 2), obx.get(5), obx.get(8), obx.get(15)) == ("HCV抗体", "  +", "A", "")
    assert (tq1.get(3, subcomponent=2), tq1.get(6, 2, subcomponent=2)) == ("毎食後", "日")
    assert encode(render([msh, pid, obx, tq1])) == WORKED


# Example messages on a disk beside the repository, where there are any; the one above is always read.
SHARED = Path(__file__).parents[2].parent / "shared" / "standards" / "ssmix2" / "worked_storage"
STORED = {path.name: path.read_bytes() for path in sorted(SHARED.rglob("*_*_*")) if path.is_file()}


@pytest.mark.parametrize("data", [WORKED, *STORED.values()], ids=["literal", *STORED])
def test_messages_survive_the_parser_byte_for_byte(data: bytes) -> None:
    segments = parse(decode(data))
    assert segments[0].get(12) == "2.5"
    assert encode(render(segments)) == data


@pytest.mark.parametrize("text", ["", "PID|1\r", "MSH|^~\\#|A\r", "MSH|^~\\&|A\nPID|1\n"])
def test_parser_refuses_what_is_no_message(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse(text)
