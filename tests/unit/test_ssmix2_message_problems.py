"""PPR-01, segment by segment, as literal text."""

from datetime import date

import pytest
from ssmix2_cases import (
    DOCTOR_XCN,
    FACILITY,
    ICD10,
    KEY_NUMBER,
    ORC_END,
    PID,
    RECEIPT,
    SENT_AT,
    a_note,
    a_visit,
    condition,
    diagnoses,
    header,
    lines,
    record,
    statement,
)

from app.ssmix2 import Problem, diagnosis_message
from schemas.coding import Coding
from schemas.note import ChartNote, DocumentType, EncounterClass
from schemas.record import Modifier, ModifierPosition
from schemas.statement import Assertion, Kind

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
        "PRB|AD|20260401101530|20054174^胃炎^MDCDX2|K0001||||||K297^^I10^O^外来時^JHSD0004^2013||||||202603|３月下旬",
        "ZPR||20054174^胃炎^MDCDX2",
        "PRB|AD|20260401101530|20084317^高血圧症^MDCDX2^8833421^高血圧症^99HYJ|K0002||||||I10^^I10^O^外来時^JHSD0004^2013",
        "ZPR||20084317^高血圧症^MDCDX2",
        "PRB|AD|20260401101530|20084317^機能性腹痛の疑い^MDCDX2|K0003|||||||||1^疑いあり^JHSD0005",
        "ZPR||20084317^機能性腹痛^MDCDX2|||||の疑い",
        # the date of a past disease is its onset: nothing says when it ended
        "PRB|AD|20260401101530|20084317^虫垂炎^MDCDX2|K0004||||||K37^^I10^^^^2013||||O^その他^JHSD0006||1998|H10年",
        "ZPR||20084317^虫垂炎^MDCDX2",
        "PRB|AD|20260401101530|20084317^喘息^MDCDX2|K0005||||||||||O^その他^JHSD0006",
        "ZPR||20084317^喘息^MDCDX2",
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


def test_delimiters_and_line_breaks_in_a_name() -> None:
    prb = diagnoses([condition("A|B^C&D~E\\F\nG", onset="前日\n夜")])[2]
    assert prb.split("|")[3] == "20084317^A\\F\\B\\S\\C\\T\\D\\R\\E\\E\\F G^MDCDX2"
    assert prb.split("|")[17] == "前日 夜"


def test_a_day_that_no_calendar_has_is_not_written() -> None:
    prb = diagnoses([condition("胃炎", date="2026-02-30")])[2]
    assert prb.split("|")[5:] == []


def test_no_diagnosis_is_no_message() -> None:
    said = [condition("糖尿病", Assertion.ABSENT), record(statement(Kind.LAB, name="CRP"))]
    problems = [Problem(record, "K1") for record in said]
    assert diagnosis_message(a_note(), problems, FACILITY, control_id="D", sent_at=SENT_AT) is None


@pytest.mark.parametrize(
    ("note", "moment"),
    [
        (a_visit(), "O^外来時^JHSD0004"),
        (a_visit(EncounterClass.HOME), "O^外来時^JHSD0004"),
        (a_visit(EncounterClass.INPATIENT), "^^"),
    ],
)
def test_moment_of_diagnosis_by_the_visit(note: ChartNote, moment: str) -> None:
    said = condition("胃炎", Assertion.PRESENT, Coding(system=ICD10, code="K297", display="胃炎"))
    assert diagnoses([said], note)[2].split("|")[10] == f"K297^^I10^{moment}^2013"


def test_modifiers_stand_in_zpr() -> None:
    def code(table: str, value: str, display: str) -> Coding:
        return Coding(system=f"http://medis.or.jp/CodeSystem/master-disease-{table}", code=value, display=display)

    acute = Modifier(
        position=ModifierPosition.PREFIX,
        text="急性",
        codings=(code("modKeyNumber", "20090412", "急性"), code("modExCode", "1234", "急性")),
    )
    recurring = Modifier(position=ModifierPosition.PREFIX, text="再発性")
    after = Modifier(
        position=ModifierPosition.POSTFIX, text="術後", codings=(code("modKeyNumber", "20090500", "術後"),)
    )
    said = condition(
        "再発性急性虫垂炎術後",
        Assertion.SUSPECTED,
        Coding(system=KEY_NUMBER, code="20053900", display="虫垂炎"),
        code("exCode", "JAPP", "虫垂炎"),
        modifiers=(recurring, acute, after),
    )
    prb, zpr = diagnoses([said])[2:4]
    assert prb.split("|")[3] == "20053900^再発性急性虫垂炎術後の疑い^MDCDX2"
    assert zpr == (
        "ZPR|^再発性^99HYJ~20090412^急性^MDCDX2|20053900^虫垂炎^MDCDX2|20090500^術後^MDCDX2|1234^急性^MDCDX2|JAPP^虫垂炎^MDCDX2||の疑い"
    )


def test_the_base_beside_modifiers_has_none_of_them() -> None:
    right = Modifier(
        position=ModifierPosition.PREFIX,
        text="右",
        codings=(
            Coding(
                system="http://medis.or.jp/CodeSystem/master-disease-modKeyNumber", code="27000354", display="右"
            ),
        ),
    )
    receipt = Coding(system=RECEIPT, code="8836802", display="鼠径ヘルニア")
    prb, zpr = diagnoses([condition("右鼠径ヘルニア", Assertion.PRESENT, receipt, modifiers=(right,))])[2:4]
    assert prb.split("|")[3] == "20084317^右鼠径ヘルニア^MDCDX2^8836802^鼠径ヘルニア^99HYJ"
    assert zpr == "ZPR|27000354^右^MDCDX2|20084317^鼠径ヘルニア^MDCDX2"


@pytest.mark.parametrize(
    ("onset", "date", "written"),
    [
        ("小学生の頃", None, "小学生の頃"),
        ("H12", "2000", "H12"),
        ("2014", "2014", "2014"),
        ("50", None, ""),
        ("38℃", None, ""),
        ("Rt", None, ""),
    ],
)
def test_an_onset_tells_a_time(onset: str, date: str | None, written: str) -> None:
    prb = diagnoses([condition("自然気胸", onset=onset, date=date)])[2].split("|")
    assert (prb[17] if len(prb) > 17 else "") == written


@pytest.mark.parametrize("name", ["肺炎", "肺炎の疑い", "肺炎疑い", "肺炎疑"])
def test_doubt_is_written_once(name: str) -> None:
    prb, zpr = diagnoses([condition(name, Assertion.SUSPECTED)])[2:4]
    assert prb.split("|")[3] == "20084317^肺炎の疑い^MDCDX2"
    assert zpr == "ZPR||20084317^肺炎^MDCDX2|||||の疑い"


def test_what_is_known_of_a_disease() -> None:
    note = a_visit()
    said = condition("肺炎", Assertion.PAST, Coding(system=ICD10, code="J18.9", display="肺炎"))
    days = {"diagnosed": date(2026, 3, 1), "ended": date(2026, 3, 20)}
    problem = Problem(said, "K1", note, outcome="F", main=True, order=7, **days)
    prb, _, orc = lines(diagnosis_message(note, [problem], FACILITY, control_id="D", sent_at=SENT_AT))[2:]
    assert prb == (
        "PRB|AD|20260401101530|20084317^肺炎^MDCDX2|K1|||20260301||20260320|J189^^I10^O^外来時^JHSD0004^2013"
        "||||F^完全に回復した^HL70241|20260320|||1^主診断^JHSD0007"
    )
    assert orc == f"ORC|NW|000000000000007|||||||20260401|{DOCTOR_XCN}||{DOCTOR_XCN}|||||{ORC_END}"


def test_order_of_a_disease_is_that_of_its_own_note() -> None:
    older = a_note().model_copy(update={"department": "外科", "date": date(2026, 2, 1)})
    problem = Problem(condition("胃炎"), "K1", older, order=7)
    orc = lines(diagnosis_message(a_visit(), [problem], FACILITY, control_id="D", sent_at=SENT_AT))[-1]
    assert orc == f"ORC|NW|000000000000007|||||||20260201||||||||^外科^99HYJ{ORC_END.removeprefix('01^内科^HL70069')}"


def test_the_hospital_s_own_code_of_a_disease() -> None:
    own = Coding(system="urn:x", code="L1", display="いえん")
    prb = diagnoses([condition("胃炎", Assertion.PRESENT, local=own)])[2]
    assert prb.split("|")[3] == "20084317^胃炎^MDCDX2^L1^いえん^99HYJ"
