"""OML-11, segment by segment, as literal text."""

import re
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ssmix2_cases import (
    CORE,
    DOCTOR_XCN,
    FACILITY,
    INFECTION,
    JLAC10,
    ORC_END,
    PID,
    SENT_AT,
    a_note,
    a_visit,
    amount,
    drug,
    header,
    lab,
    lines,
    observations,
    record,
    results,
    statement,
)

from app.errors import InvalidInput
from app.ssmix2 import Drug, Facility, Result, Specimen, prescription_message, result_messages
from app.ssmix2.units import result_unit
from app.ssmix2.values import abnormal_flag
from schemas.coding import Coding
from schemas.record import Comparator, Quantity, Record, ReferenceRange
from schemas.statement import InfectionResult, Kind

# --- OML-11 ---

AST = Coding(system=CORE, code="3B035000002399901", display="AST")
CRP = Coding(system=JLAC10, code="5C070000002306201", display="CRP")
HB = Coding(system=CORE, code="2A030000001999951", display="Hb")
HBS = Coding(system=INFECTION, code="5F016000002399911", display="HBs抗原(定性)")


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
    (march, april), issues = results(records)
    assert not issues
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
        # the year alone is known: SPM-17 is the day of the folder, OBR-7 and OBX-14 are what is known
        "SPM|3|||^不明^99HYJ|||||||||||||20260401",
        "OBR|1|000000000000501||^検体検査^99HYJ|||2025",
        orc,
        "OBX|1|ST|HYJ-cf419e7c6b41366a^フェリチン^99HYJ||< 5.0|ng/mL^ng/mL^ISO+|||||F|||2025",
    ]
    assert [issue.text for issue in april.issues] == [
        "OML-11 SPM-17: results of a day that is not known are filed under the note's day"
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


def test_a_day_that_cannot_be_computed_is_told_nowhere_but_by_the_folder() -> None:
    said = statement(Kind.LAB, name="CRP", value="2.6", date="前医")
    (message,), _ = results([record(said, quantity=amount("2.6", "mg/dL"))])
    spm, obr, _, obx = lines(message)[3:]
    assert spm.split("|")[17] == f"{message.care_date:%Y%m%d}" == "20260401"
    assert (len(obr.split("|")), obx.rpartition("|")[2]) == (5, "F")


def test_a_result_without_a_value_is_an_issue() -> None:
    ((message,), _) = results([lab("AST", AST), lab("CRP", CRP, quantity=amount("1"))])
    assert [line.split("|")[3] for line in lines(message) if line.startswith("OBX")] == ["5C070000002306201^CRP^JC10"]
    assert [issue.text for issue in message.issues] == ["OML-11 OBX-5: a result without a value is not written"]
    made, issues = results([lab("AST", AST)])
    assert made == []
    assert [issue.text for issue in issues] == ["OML-11 OBX-5: a result without a value is not written"]


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
        result_messages(a_note(), [Result(day) for day in days], FACILITY, order=1, control_ids=["R1"], sent_at=SENT_AT)


def test_department_without_a_code() -> None:
    message = prescription_message(
        a_note(), [Drug(drug("A錠", None))], Facility("見本病院"), order=1, control_id="P", sent_at=SENT_AT
    )
    rows = lines(message)
    assert rows[2] == "PV1||O"
    assert rows[3].split("|")[17] == "^内科^99HYJ"
    assert message is not None
    assert message.department == "-"
    with pytest.raises(InvalidInput, match="department_code"):
        Facility("見本病院", department_code="内科")


def test_reference_ranges() -> None:
    def obx(record: Record) -> str:
        return observations(record)[0].split("|")[7]

    def limits(low: str | None, high: str | None) -> ReferenceRange:
        return ReferenceRange(low=Decimal(low) if low else None, high=Decimal(high) if high else None)

    value = {"quantity": amount("1.0", "mg/dL")}
    assert obx(lab("CRP", **value, reference_range=limits("0.00", "0.30"))) == "0.00-0.30"
    assert obx(lab("CRP", **value, reference_range=limits(None, "0.30"))) == "< 0.30"
    assert obx(lab("HDL", **value, reference_range=limits("40", None))) == "> 40"
    assert obx(lab("HDL", **value)) == ""
    # What is no interval, and a range beside a value that is no number, stand as the note has them.
    said = statement(Kind.LAB, name="CRP", reference="(0.30 - 0.00)")
    assert obx(record(said, **value, reference_range=limits("0.30", "0.00"))) == "(0.30 - 0.00)"
    said = statement(Kind.LAB, name="尿蛋白", reference="(-)")
    assert obx(record(said, text_value="-", reference_range=limits("0", "1"))) == "(-)"


OWN = Coding(system="urn:x", code="10221", display="ｼｰｱｰﾙﾋﾟｰ")


@pytest.mark.parametrize(
    ("codings", "local", "written"),
    [
        ((CRP,), OWN, "5C070000002306201^CRP^JC10^10221^シーアールピー^99HYJ"),
        ((AST,), OWN, "10221^シーアールピー^99HYJ"),  # method 999: the laboratory's own code alone
        ((AST,), None, "3B035000002399901^CRP^99HYJ"),
        ((), OWN, "10221^シーアールピー^99HYJ"),
        ((), None, "HYJ-2a96eefc83685400^CRP^99HYJ"),
    ],
)
def test_codes_of_a_test(codings: tuple[Coding, ...], local: Coding | None, written: str) -> None:
    obx = observations(lab("CRP", *codings, local=local, quantity=amount("1")))[0]
    assert obx.split("|")[3] == written


@pytest.mark.parametrize(
    ("code", "names"),
    [
        # The last two digits of JLAC10 tell a quantity (01) from a verdict (11): the other value has the local code.
        ("5F360141002305101", ["5F360141002305101^HCV抗体^JC10", "HYJ-0^HCV抗体^99HYJ"]),
        ("5F360141002305111", ["HYJ-0^HCV抗体^99HYJ", "5F360141002305111^HCV抗体^JC10"]),
        ("5F360141002305151", ["HYJ-0^HCV抗体^99HYJ", "HYJ-0^HCV抗体^99HYJ"]),
    ],
)
def test_a_mixed_result_of_a_coded_test(code: str, names: list[str]) -> None:
    said = statement(Kind.INFECTION, name="HCV抗体", value="9.96(+)", result=InfectionResult.POSITIVE)
    coding = Coding(system=JLAC10, code=code, display="HCV抗体")
    rows = [row.split("|") for row in observations(record(said, coding, quantity=amount("9.96", "COI")))]
    assert [re.sub("HYJ-[0-9a-f]{16}", "HYJ-0", row[3]) for row in rows] == names
    assert [(row[2], row[5], row[6]) for row in rows] == [("NM", "9.96", "COI^COI^99HYJ"), ("ST", "  +", "")]
    assert [row[4] for row in rows] == (["1", "2"] if len(set(names)) == 1 else ["", ""])


def test_what_the_laboratory_states() -> None:
    specimen = Specimen("9001", "023", ("01", "血清"), SENT_AT, "5")
    tests = [
        Result(lab("CRP", CRP, quantity=amount("1")), specimen),
        Result(lab("COVID-19抗原", text_value="陰性"), specimen, value=("NEG", "陰性")),
        Result(lab("HCV抗体", quantity=amount("1", "C.O.I.")), specimen, unit=("(coi)", "C.O.I.")),
    ]
    (message,), _ = result_messages(
        a_visit(), tests, FACILITY, order=5, control_ids=["R1"], sent_at=SENT_AT, reported_at=SENT_AT
    )
    spm, obr, orc, *rows = lines(message)[3:]
    assert spm == "SPM|1|9001||023^血清^JC10^01^血清^99HYJ|||||||||||||202604011015"
    assert obr == (
        "OBR|1|000000000000005|9001|5^免疫学的検査^JC10|||202604011015|202604011015||||||||"
        f"{DOCTOR_XCN}||||||20260401101530"
    )
    assert orc == (f"ORC|SC|000000000000005|9001||CM||||20260401101530|{DOCTOR_XCN}||{DOCTOR_XCN}|||||{ORC_END}")
    assert [row.split("|")[2] + row.split("|")[5] + row.split("|")[6] for row in rows] == [
        "NM1",
        "CWENEG^陰性^99HYJ",
        "NM1(coi)^C.O.I.^99HYJ",
    ]
    assert message.care_date == date(2026, 4, 1)


@given(
    value=st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9),
    comparator=st.sampled_from([None, *Comparator]),
)
def test_a_number_is_digits_alone(value: Decimal, comparator: Comparator | None) -> None:
    quantity = Quantity(value=value, comparator=comparator, unit="mg/dL")
    obx = observations(lab("CRP", quantity=quantity))[0].split("|")
    if comparator is None:
        assert obx[2] == "NM" and re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", obx[5])
    else:
        assert obx[2] == "ST" and obx[5].startswith(f"{comparator.value} ")
    assert Decimal(obx[5].split(" ")[-1]) == value
