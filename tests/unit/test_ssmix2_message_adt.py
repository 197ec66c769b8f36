"""ADT-00, ADT-12 and ADT-61, segment by segment, as literal text."""

from datetime import date

import pytest
from ssmix2_cases import (
    DOCTOR_XCN,
    FACILITY,
    HOT9,
    JFAGY,
    JLAC10,
    PID,
    SENT_AT,
    a_note,
    a_visit,
    allergies,
    allergy,
    header,
    lines,
)

from app.errors import InvalidInput
from app.ssmix2 import (
    Allergy,
    Facility,
    Message,
    Registration,
    Relative,
    allergy_message,
    parse,
    patient_message,
    visit_message,
)
from schemas.coding import Coding
from schemas.note import ChartNote, DocumentType, EncounterClass, Patient, Practitioner
from schemas.statement import AllergyCategory, Assertion

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
        "EVN||20260401101530",
        PID,
        "IAM|1|DA^薬物アレルギー^HL70127|106824501^アリナミン^HOT9||発疹~呼吸苦|A^追加^HL70323|"
        "K0001||||20250710||20260401||||C^確認済^HL70438",
        "IAM|2|FA^食物アレルギー^HL70127|J9FC11190000^そば^99HYJ|||A^追加^HL70323|"
        "K0002|||||2019年5月|20260401||||C^確認済^HL70438",
        "IAM|3|DA^薬物アレルギー^HL70127|^ペニシリン系^99HYJ|||A^追加^HL70323|"
        "K0003|||||2003年|20260401||||S^疑い^HL70438",
        "IAM|4|MA^その他のアレルギー^HL70127|^ラテックス^99HYJ|||A^追加^HL70323|"
        "K0004||||||20260401||||I^確認済、現在なし^HL70438",
        "IAM|5|EA^環境アレルギー^HL70127|^スギ^99HYJ|||A^追加^HL70323|K0005||||||20260401||||C^確認済^HL70438",
    ]


def test_long_reaction_is_split_not_cut() -> None:
    reaction = "全身の膨疹と喉頭浮腫による呼吸困難"
    said = allergy("エビ", AllergyCategory.FOOD, reactions=(reaction, "嘔吐"))
    stated = [Allergy(said, "K1")]
    message = allergy_message(a_note(), stated, FACILITY, control_id="A1", sent_at=SENT_AT)
    assert message is not None
    field = parse(message.text)[3].field(5)
    parts = [repetition[0][0] for repetition in field]
    assert parts == ["全身の膨疹と喉頭浮腫による呼吸", "困難", "嘔吐"]
    assert [issue.text for issue in message.issues] == ["ADT-61 IAM-5: 17 characters written as 2 repetitions"]


def test_nothing_but_denied_allergies_is_no_message() -> None:
    denied = [Allergy(allergy("薬剤", AllergyCategory.MEDICATION, assertion=Assertion.ABSENT), "K1")]
    assert allergy_message(a_note(), denied, FACILITY, control_id="A", sent_at=SENT_AT) is None


def test_key_fits_iam_7() -> None:
    said = [Allergy(allergy("エビ", AllergyCategory.FOOD), "x" * 21)]
    with pytest.raises(InvalidInput, match="key"):
        allergy_message(a_note(), said, FACILITY, control_id="A", sent_at=SENT_AT)


# --- what the sender states beside a note ---


def with_patient(**values: object) -> ChartNote:
    note = a_note()
    return note.model_copy(update={"patient": Patient.model_validate(note.patient.model_dump() | values)})


@pytest.mark.parametrize(
    ("address", "written"),
    [
        ("架空県見本市1-1", "^^^^^^H^架空県見本市1-1"),
        ("〒100-0000　架空県見本市1-1", "^^^^100-0000^JPN^H^架空県見本市1-1"),
        ("1000000 架空県見本市1-1", "^^^^100-0000^JPN^H^架空県見本市1-1"),
        ("１００－００００ 架空県", "^^^^100-0000^JPN^H^架空県"),
        ("100-00001 番地", "^^^^^^H^100-00001 番地"),
        ("〒100-0000", "^^^^^^H^〒100-0000"),
        ("架空県\n見本市 1", "^^^^^^H^架空県 見本市 1"),
    ],
)
def test_address(address: str, written: str) -> None:
    message = patient_message(with_patient(address=address), FACILITY, control_id="1", sent_at=SENT_AT)
    assert parse(message.text)[2].fields[10] == parse(f"MSH|^~\\&|\rPID|{written}\r")[1].fields[0]


def test_insurance() -> None:
    note = with_patient(insurance_id="06050116:９２０４５:１０:05")
    rows = lines(patient_message(note, FACILITY, control_id="1", sent_at=SENT_AT))
    assert rows[-1] == 'IN1|1|""|06050116|||||||９２０４５|１０'


def test_a_stay_and_its_physician() -> None:
    note = a_visit(EncounterClass.INPATIENT, end=date(2026, 4, 9))
    pv1 = lines(patient_message(note, FACILITY, control_id="1", sent_at=SENT_AT))[3]
    assert pv1 == f"PV1|0001|I|||||{DOCTOR_XCN}" + "|" * 37 + "20260401|20260409"
    outpatient = lines(patient_message(a_visit(), FACILITY, control_id="1", sent_at=SENT_AT))[3]
    assert outpatient == f"PV1|0001|O|01^^^^^C||||{DOCTOR_XCN}"


def test_a_physician_without_a_number() -> None:
    note = a_note().model_copy(update={"physician": Practitioner(family="Smith", given="Jo")})
    pv1 = lines(patient_message(note, FACILITY, control_id="1", sent_at=SENT_AT))[3]
    assert pv1.split("|")[7] == "^Smith^Jo^^^^^^^L^^^^^A"


def test_register_of_patients() -> None:
    known = Registration(kana=("ミホン", "ハナコ"), relatives=(Relative("見本", "太郎", ("SPO", "配偶者")),))
    message = patient_message(a_note(), FACILITY, control_id="1", sent_at=SENT_AT, registration=known)
    pid, nk1 = lines(message)[2:4]
    assert pid.split("|")[5] == "見本^花子^^^^^L^I~ミホン^ハナコ^^^^^L^P"
    assert nk1 == "NK1|1|見本^太郎^^^^^L^I|SPO^配偶者^HL70063"


@pytest.mark.parametrize("system", ["CHT", "99", "99あ", "99CHT^"])
def test_local_system_is_a_local_one(system: str) -> None:
    with pytest.raises(InvalidInput, match="local_system"):
        Facility("見本病院", local_system=system)


# --- ADT-12 ---


def visited(note: ChartNote) -> Message | None:
    return visit_message(note, FACILITY, control_id="V1", sent_at=SENT_AT)


@pytest.mark.parametrize("kind", [EncounterClass.AMBULATORY, EncounterClass.EMERGENCY, EncounterClass.VIRTUAL])
def test_outpatient_visit(kind: EncounterClass) -> None:
    message = visited(a_visit(kind, start=date(2026, 3, 30)))
    assert message is not None
    assert lines(message) == [
        header("ADT^A04^ADT_A01", "V1"),
        "EVN||20260401101530|||||1310000001",
        PID,
        f"PV1|0001|O|01^^^^^C||||{DOCTOR_XCN}" + "|" * 37 + "20260330",
    ]
    assert (message.kind, message.care_date, message.order_no) == ("ADT-12", date(2026, 3, 30), "9" * 15)
    assert message.department == "01"


@pytest.mark.parametrize(
    "note",
    [
        a_note(),
        a_visit(start=None),
        a_visit(EncounterClass.INPATIENT),
        a_visit(EncounterClass.HOME),
    ],
    ids=["no visit", "no day", "a stay", "at home"],
)
def test_no_visit_is_made_up(note: ChartNote) -> None:
    assert visited(note) is None


# --- what ADT-61 says where the sender knows more ---


def test_what_is_known_of_an_allergy() -> None:
    crab = Coding(system=JLAC10, code="5A1002411023006", display="ソバ")
    own = Coding(system="urn:x", code="L1", display="そば")
    said = allergy("蕎麦", AllergyCategory.FOOD, crab, local=own)
    stated = Allergy(said, "K1", severity="SV", sort="AL", status="U", onset="幼少時", reported=date(2026, 3, 1))
    iam = lines(allergy_message(a_note(), [stated], FACILITY, control_id="A", sent_at=SENT_AT))[-1]
    assert iam == (
        "IAM|1|FA^食物アレルギー^HL70127|5A1002411023006^ソバ^JC10^L1^そば^99HYJ|SV^重度^HL70128||A^追加^HL70323|K1"
        "||AL^アレルギー^HL70436|||幼少時|20260301||||U^未確認^HL70438"
    )


def test_allergies_beside_other_data() -> None:
    known = [
        allergy("ペニシリン系", AllergyCategory.MEDICATION),
        allergy("卵", AllergyCategory.FOOD, assertion=Assertion.ABSENT),
    ]
    message = patient_message(a_note(), FACILITY, control_id="1", sent_at=SENT_AT, allergies=known)
    assert [row for row in lines(message) if row.startswith("AL1")] == [
        "AL1|1|DA^薬物アレルギー^HL70127|^ペニシリン系^99HYJ"
    ]
