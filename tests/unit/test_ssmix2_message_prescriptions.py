"""OMP-01, segment by segment, as literal text."""

from datetime import date
from decimal import Decimal

import pytest
from ssmix2_cases import (
    DOCTOR_XCN,
    FACILITY,
    HOT9,
    ORC_END,
    PID,
    SENT_AT,
    YJ,
    a_note,
    a_visit,
    drug,
    header,
    lines,
    prescribed,
    prescription,
    record,
    statement,
)

from app.errors import InvalidInput
from app.ssmix2 import Drug, prescription_message
from schemas.coding import Coding
from schemas.note import DocumentType, EncounterClass
from schemas.record import Dosage
from schemas.statement import Action, EvidenceSpan, Field, Kind

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
    message = prescribed(records)
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


@pytest.mark.parametrize(("name", "route"), [("芍薬甘草湯", "PO^口^HL70162"), ("名称のみ", '""')])
def test_route_by_name(name: str, route: str) -> None:
    assert prescription([drug(name, None)])[-1] == f"RXR|{route}"


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
    assert prescribed(stopped) is None


@pytest.mark.parametrize("order", [0, -1, 999_999_999_999_999])
def test_order_number_has_15_digits_and_is_not_all_nines(order: int) -> None:
    with pytest.raises(InvalidInput, match="order"):
        drugs = [Drug(drug("A錠", None))]
        prescription_message(a_note(), drugs, FACILITY, order=order, control_id="P", sent_at=SENT_AT)


def test_a_hundred_rps_do_not_fit() -> None:
    drugs = [drug(f"薬{number}錠", None, start=10 * number) for number in range(100)]
    assert len(prescription(drugs[:99])) == 2 + 1 + 99 * 4
    with pytest.raises(InvalidInput, match="99 RP"):
        prescribed(drugs)


JAMI = Coding(system="http://jami.jp/CodeSystem/MedicationUsage", code="1013044400000000", display="１日３回毎食後")
EPRESCRIPTION = Coding(
    system="http://jpfhir.jp/fhir/core/mhlw/CodeSystem/MedicationUsage_ePrescription",
    code="1013044400000000",
    display="毎食後",
)


@pytest.mark.parametrize(
    ("codings", "written"),
    [
        ((EPRESCRIPTION, JAMI), "1013044400000000&１日３回毎食後&JAMISDP01"),
        ((EPRESCRIPTION,), "1013044400000000&毎食後&99HYJ"),
        ((), "&分3 毎食後&99HYJ"),
    ],
)
def test_usage(codings: tuple[Coding, ...], written: str) -> None:
    rows = prescription([drug("薬", Dosage(usage=codings), usage="分3 毎食後")])
    assert rows[5] == f"TQ1|1||{written}"


@pytest.mark.parametrize(("digit", "use", "route"), [("1", "21^内服", "PO^口"), ("2", "23^外用", "AP^外用")])
def test_a_usage_code_tells_the_use(digit: str, use: str, route: str) -> None:
    usage = JAMI.model_copy(update={"code": f"{digit}013044400000000"})
    rows = prescription([drug("名称のみ", Dosage(usage=(usage,)), usage="1日3回")])
    assert rows[4].split("|")[27] == f"{use}^JHSP0003"
    assert rows[6] == f"RXR|{route}^HL70162"


@pytest.mark.parametrize(
    ("dosage", "said", "fields"),
    [
        # a tube of an ointment is the whole, 外用全量
        (Dosage(dose=Decimal(2), dose_unit="本"), {"dose": "2本", "usage": "塗布"}, ('""', '""', "2", "HON^本^MR9P")),
        (
            Dosage(dose=Decimal(10), dose_unit="g"),
            {"dose": "10g", "usage": "1日2回塗布"},
            ('""', '""', "10", "G^g^MR9P"),
        ),
        (
            Dosage(dose=Decimal(1), dose_unit="本"),
            {"dose": "1回1本", "usage": "塗布"},
            ("1", "HON^本^MR9P", '""', '""'),
        ),
        (Dosage(dose=Decimal(1), dose_unit="枚"), {"dose": "1枚", "usage": "貼付"}, ("1", "SHT^枚^MR9P", '""', '""')),
        # an amount per day, week or kilogram
        (Dosage(dose=Decimal(6), dose_unit="mg/週"), {"dose": "6mg/週"}, ("6", "^mg/週^99HYJ", '""', '""')),
        (
            Dosage(dose=Decimal(5), dose_unit="mg/kg/日", days=7),
            {"dose": "5mg/kg/日"},
            ("5", "^mg/kg/日^99HYJ", '""', '""'),
        ),
        (Dosage(dose=Decimal(1), dose_unit="錠/回", days=7), {"dose": "1錠/回"}, ("1", "TAB^錠^MR9P", '""', '""')),
        # NHO's checker: a number and its unit are null together
        (Dosage(dose=Decimal(1), days=7, per_day=1), {"dose": "1"}, ('""', '""', '""', '""')),
    ],
)
def test_whole_amounts_and_rates(dosage: Dosage, said: dict[str, str], fields: tuple[str, ...]) -> None:
    rxe = prescription([drug("薬", dosage, **said)])[4].split("|")
    assert tuple(rxe[number] if number < len(rxe) else "" for number in (3, 5, 10, 11)) == fields


def test_what_is_known_of_a_drug() -> None:
    own = Coding(system="urn:x", code="L1", display="アムロジピン院内名")
    hot9 = Coding(system=HOT9, code="103835401", display="アムロジピン")
    said = drug("アムロジピン錠5mg", None, hot9, AMLODIPINE).model_copy(update={"local": own})
    stated = Drug(said, form=("TAB", "錠剤"), route=("SL", "舌下"), site=("77L", "左手"), start=SENT_AT, outside=True)
    message = prescription_message(
        a_visit(),
        [stated],
        FACILITY,
        order=301,
        control_id="P1",
        sent_at=SENT_AT,
        ordered_at=SENT_AT,
        prescription_no="R1",
    )
    orc, rxe, tq1, rxr = lines(message)[3:]
    assert orc.split("|")[9:13] == ["20260401101530", DOCTOR_XCN, "", DOCTOR_XCN]
    assert rxe.split("|")[2] == "103835401^アムロジピン^HOT9^L1^アムロジピン院内名^99HYJ"
    assert [rxe.split("|")[number] for number in (6, 15, 21, 31)] == [
        "TAB^錠剤^MR9P",
        "R1",
        "OHP^外来処方^MR9P~OHO^院外処方^MR9P",
        "2171022F2024^アムロジピン錠5mg^YJ",
    ]
    assert (tq1, rxr) == ("TQ1|1||||||2026040110", "RXR|SL^舌下^HL70162|77L^左手^JAMISDP01")


def test_the_visit_decides_over_the_document() -> None:
    rows = prescription([drug("A錠", None)], a_visit(EncounterClass.INPATIENT))
    assert (rows[2][:7], rows[4].split("|")[21]) == ("PV1||I|", "IHP^入院処方^MR9P")
