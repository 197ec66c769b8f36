"""The checks that need no model: for every rule claims with the finding, and claims like them without it."""

import io
import os
from collections import Counter
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.receipts.check import check, coded
from app.receipts.describe import age_on, comments_of, head, line_texts
from app.receipts.tables import Tables
from app.receipts.uke import Claim, read_uke
from schemas.receipt import Finding, Rule

STARTER = Tables.starter()
_STANDARDS = Path(os.environ.get("HYOJUN_STANDARDS") or Path(__file__).parents[2].parent / "shared" / "standards")


def head_of(sex: str = "1", birth: str = "19700115", kind: str = "1112") -> str:
    return f"RE,1,{kind},202406,見本　太郎,{sex},{birth},,,,,,,000123,,,,,,,,,,,,,,,,,,,,,,,,"


MAN, WOMAN = head_of(), head_of(sex="2")


def sy(code: str, started: str = "20240601", modifiers: str = "", name: str = "", outcome: str = "1") -> str:
    return f"SY,{code},{started},{outcome},{modifiers},{name},,"


def item(kind: str, section: str, code: str, days: dict[int, int], times: int | None = None, comment: str = "") -> str:
    counted = sum(days.values()) if times is None else times
    written = ",".join(str(days.get(day, "")) for day in range(1, 32))
    return f"{kind},{section},1,{code},{'3' if kind == 'IY' else ''},10,{counted},{comment},,,,,,{written}"


def si(code: str, *days: int, section: str = "60", **more: object) -> str:
    return item("SI", section, code, dict(Counter(days)), **more)  # type: ignore[arg-type]


def iy(code: str, day: int = 3, supply: int = 7, section: str = "21", **more: object) -> str:
    return item("IY", section, code, {day: supply}, **more)  # type: ignore[arg-type]


def co(text: str, section: str = "", code: str = "810000001") -> str:
    return f"CO,{section},1,{code},{text}"


def jd(*days: int) -> str:
    return "JD,1," + ",".join("1" if day in days else "" for day in range(1, 32))


def claim_of(*lines: str) -> Claim:
    """Its RE stands in line 1."""
    [claim] = read_uke(io.BytesIO("".join(f"{line}\r\n" for line in lines).encode("cp932")))
    assert isinstance(claim, Claim) and not claim.faults, claim.faults
    return claim


def told(finding: Finding) -> str:
    return f"{finding.line} {finding.rule} {finding.severity} {finding.row}"


DIABETES, PRESSURE, ULCER, KNEE, THROAT, PROSTATE = "2500015", "8833421", "5319009", "7153018", "4659007", "8836591"
LOXONIN, METFORMIN, AMLODIPINE, AMLODIPINE_LESS, HARNAL, CRAVIT, RINGER = (
    "620098801", "622412701", "612170710", "612170709", "620002536", "621925801", "620007532",
)  # fmt: skip
HBA1C, ECHO, FIRST, AGAIN, PHARMACIST, PSA, DIGITAL = (
    "160010010", "160072510", "111000110", "112007410", "120001610", "160037510", "170027910",
)  # fmt: skip
SUSPECTED = "8002"

CASES: dict[str, tuple[list[str], list[str], list[str]]] = {
    # name: lines, what is found, lines that are like them without it
    "no disease for a drug": (
        [MAN, sy(PRESSURE), iy(LOXONIN)],
        ["3 indication warning indications:1149019"],
        [MAN, sy(PRESSURE), sy(KNEE), iy(LOXONIN)],
    ),
    "no disease at all": ([MAN, iy(METFORMIN)], ["2 indication warning indications:3962002"], [MAN]),
    "no disease for a test": (
        [MAN, sy(PRESSURE), si(HBA1C, 3)],
        ["3 indication warning indications:160010010"],
        [MAN, sy(PRESSURE), sy(DIABETES, modifiers=SUSPECTED), si(HBA1C, 3)],
    ),
    "a disease that begins after the month is none": (
        [MAN, sy(KNEE, started="20240701"), iy(LOXONIN)],
        ["3 indication warning indications:1149019"],
        [MAN, sy(KNEE, started="20240630"), iy(LOXONIN)],
    ),
    "a name without a code may be the disease": (
        [MAN, sy("0000999", name="見本の病気"), iy(LOXONIN)],
        ["3 indication information indications:1149019"],
        [MAN, sy("0000999", name="見本の病気"), sy(KNEE), iy(LOXONIN)],
    ),
    "a code of no table may be the disease": (
        [MAN, sy("1234567"), iy(LOXONIN)],
        ["3 indication information indications:1149019"],
        [MAN, sy("1234567"), sy(KNEE, outcome="2"), iy(LOXONIN)],
    ),
    "a drug for a suspicion": (
        [MAN, sy(DIABETES, modifiers=SUSPECTED), iy(METFORMIN)],
        ["3 suspected-indication warning indications:3962002"],
        [MAN, sy(DIABETES), iy(METFORMIN)],
    ),
    "contraindicated": (
        [MAN, sy(KNEE), sy(ULCER), iy(LOXONIN)],
        ["4 contraindication error contraindications:1149019"],
        [MAN, sy(KNEE), sy(ULCER, modifiers=SUSPECTED), iy(LOXONIN)],
    ),
    "acts that exclude each other on one day": (
        [MAN, si(FIRST, 3, section="11"), si(AGAIN, 3, 10, section="12")],
        ["3 duplicate error duplicates:111000110-112007410"],
        [MAN, si(FIRST, 3, section="11"), si(AGAIN, 4, 10, section="12")],
    ),
    "acts that exclude each other within a week": (
        [MAN, sy("4289015"), si("160162350", 10), si("160181250", 14)],
        ["4 duplicate error duplicates:160162350-160181250"],
        [MAN, sy("4289015"), si("160162350", 15), si("160181250", 16)],
    ),
    "a drug twice": (
        [MAN, sy(PRESSURE), iy(AMLODIPINE), iy(AMLODIPINE)],
        ["4 duplicate warning rule:duplicate"],
        [MAN, sy(PRESSURE), iy(AMLODIPINE), iy(AMLODIPINE, day=10)],
    ),
    "an ingredient twice": (
        [MAN, sy(PRESSURE), iy(AMLODIPINE), iy(AMLODIPINE_LESS)],
        ["4 duplicate warning rule:duplicate"],
        # two strengths in one 剤 make one dose
        [MAN, sy(PRESSURE), iy(AMLODIPINE), iy(AMLODIPINE_LESS, section="")],
    ),
    "a test twice in a month": (
        [MAN, sy(DIABETES), si(HBA1C, 3), si(HBA1C, 17)],
        ["4 limit error limits:160010010"],
        [MAN, sy(DIABETES), si(HBA1C, 3)],
    ),
    "twice on one line": (
        [MAN, sy(DIABETES), si(HBA1C, 3, 17)],
        ["3 limit error limits:160010010"],
        [MAN, sy(DIABETES), si(HBA1C, 17)],
    ),
    "twice in a week": (
        # 2024-06-09 is a Sunday
        [MAN, si(PHARMACIST, 9, 15, section="13")],
        ["2 limit error limits:120001610"],
        [MAN, si(PHARMACIST, 8, 9, section="13")],
    ),
    "twice on a day": (
        [MAN, si("160095710", 3, 3)],
        ["2 limit error limits:160095710"],
        [MAN, si("160095710", 3, 4)],
    ),
    "too old for the act": (
        [MAN, si("111000370", 3, section="11")],
        ["2 age error people:111000370"],
        [head_of(birth="20190101"), si("111000370", 3, section="11")],
    ),
    "the age is that of the day": (
        [head_of(birth="20180610"), si("111000370", 10, section="11")],
        ["2 age error people:111000370"],
        [head_of(birth="20180610"), si("111000370", 9, section="11")],
    ),
    "too young for the drug": (
        [head_of(birth="20100101"), sy("4860030"), iy(CRAVIT)],
        ["3 age error people:6241013"],
        [head_of(birth="20090601"), sy("4860030"), iy(CRAVIT)],
    ),
    "a drug for men": (
        [WOMAN, sy(KNEE), iy(HARNAL)],
        ["3 sex error people:2590008", "3 indication warning indications:2590008"],
        [MAN, sy(PROSTATE), iy(HARNAL)],
    ),
    "a disease of men": (
        [WOMAN, sy(PROSTATE)],
        ["2 sex error people:N40"],
        [MAN, sy(PROSTATE)],
    ),
    "a suspicion of three months": (
        [MAN, sy(DIABETES, started="20240331", modifiers=SUSPECTED)],
        ["2 suspected-open information rule:suspected-open"],
        [MAN, sy(DIABETES, started="20240401", modifiers=SUSPECTED)],
    ),
    "a suspicion that ended": (
        [MAN, sy(DIABETES, started="20231101", modifiers=SUSPECTED)],
        ["2 suspected-open information rule:suspected-open"],
        [MAN, sy(DIABETES, started="20231101", modifiers=SUSPECTED, outcome="4")],
    ),
    "a name that has a code": (
        [MAN, sy("0000999", name="２型糖尿病")],
        ["2 uncoded-name information diseases:2500015"],
        [MAN, sy("0000999", name="２型糖尿病様状態")],
    ),
    "a name that has a code between modifiers": (
        [MAN, sy("0000999", name="右変形性膝関節症の疑い")],
        ["2 uncoded-name information diseases:7153018"],
        [MAN, sy("0000999", name="上方変形性膝関節症")],
    ),
    "times against days": (
        [MAN, sy(KNEE), iy(LOXONIN, supply=7, times=14)],
        ["3 count error rule:count"],
        [MAN, sy(KNEE), iy(LOXONIN, supply=14, times=14)],
    ),
    "a day without a visit": (
        [MAN, jd(3, 10), si(AGAIN, 3, 11, section="12")],
        ["3 visit-day information rule:visit-day"],
        [MAN, jd(3, 10), si(AGAIN, 3, 10, section="12")],
    ),
    "no record of visits": (
        [MAN, jd(3), si(DIGITAL, 4, section="70"), sy("4860030")],
        ["3 visit-day information rule:visit-day"],
        [MAN, si(DIGITAL, 4, section="70"), sy("4860030")],
    ),
    "infusions on one day": (
        [MAN, iy(RINGER, supply=1, section="21"), iy(RINGER, supply=1, section="21")],
        ["3 duplicate warning rule:duplicate"],
        [MAN, iy(RINGER, supply=1, section="33"), iy(RINGER, supply=1, section="33")],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_found_and_not_found(name: str) -> None:
    lines, found, without = CASES[name]
    assert [told(finding) for finding in check(claim_of(*lines), STARTER)] == found
    assert [told(finding) for finding in check(claim_of(*without), STARTER)] == []


def ended(kind: str, row: str) -> Tables:
    lines = (Path(__file__).parents[2] / "app" / "receipts" / "starter" / f"{kind}.tsv").read_text("utf-8").split("\n")
    code = row.split("\t")[0]
    return Tables.of({kind: "\n".join([lines[0], row, *(line for line in lines[1:] if not line.startswith(code))])})


@pytest.mark.parametrize(
    ("kind", "row", "lines", "found", "named"),
    [
        ("diseases", f"{KNEE}\t変形性膝関節症\tM179\t20240531\t8840829", [sy(KNEE)], "2 ended-code error diseases:7153018",
         "8840829 腰痛症"),
        ("acts", f"{DIGITAL}\t単純撮影\t68\t\t\t\t\t\t20200401\t20240531", [si(DIGITAL, 3), sy("4860030")],
         f"2 ended-code error acts:{DIGITAL}", "2024年05月31日"),
        ("drugs", f"{RINGER}\tラクテックＧ輸液\t袋\t228.00\t3319535A5080\t\t20240531", [iy(RINGER, section="33")],
         f"2 ended-code error drugs:{RINGER}", "ラクテックG輸液"),
        ("modifiers", "2056\t右\t20240531", [sy(KNEE, modifiers="2056")], "2 ended-code error modifiers:2056", "右変形性"),
        ("comments", "820000001\t別途コメントあり\t20240531", [si(AGAIN, 3), co("", code="820000001")],
         "2 ended-code error comments:820000001", "820000001"),
    ],
)  # fmt: skip
def test_an_ended_code(kind: str, row: str, lines: list[str], found: str, named: str) -> None:
    claim = claim_of(MAN, *lines)
    assert check(claim, STARTER) == []
    [finding] = check(claim, ended(kind, row))
    assert told(finding) == found and named in finding.text
    assert check(claim, ended(kind, row.replace("20240531", "20240630"))) == []


@pytest.mark.parametrize(
    ("kind", "lines", "line"),
    [
        ("diseases", [sy("1234567")], 2),
        ("modifiers", [sy(KNEE, modifiers="2999")], 2),
        ("acts", [si("199999999", 3)], 2),
        ("drugs", [iy("699999999")], 2),
        ("comments", [si(AGAIN, 3), co("", code="829999999")], 2),
        ("comments", [sy(KNEE), si(AGAIN, 3, comment="829999999")], 3),
    ],
)
def test_an_unknown_code_is_told_where_the_master_is_whole(kind: str, lines: list[str], line: int) -> None:
    claim = claim_of(MAN, *lines)
    assert check(claim, STARTER) == []
    text = (Path(__file__).parents[2] / "app" / "receipts" / "starter" / f"{kind}.tsv").read_text("utf-8")
    [finding] = check(claim, Tables.of({kind: text}, whole=[kind]))
    assert told(finding) == f"{line} unknown-code error rule:unknown-code"
    assert check(claim_of(MAN, sy(KNEE), si(AGAIN, 3), iy(LOXONIN)), Tables.of({kind: text}, whole=[kind])) == []


def test_an_act_of_an_imported_master_brings_its_ages() -> None:
    acts = "code\tname\tpoints\tunit\tmin_age\tmax_age\tsex\treason\tvalid_from\tvalid_to\n"
    tables = Tables.of({"acts": acts + "199999999\t乳幼児の行為\t10\t\t1\t5\t\t\t20240601\t99999999\n"})
    assert [told(f) for f in check(claim_of(MAN, si("199999999", 3)), tables)] == ["2 age error acts:199999999"]
    assert check(claim_of(head_of(birth="20200101"), si("199999999", 3)), tables) == []


def test_texts_name_line_and_reason_and_not_the_patient() -> None:
    claim = claim_of(MAN, sy(KNEE), sy(ULCER), iy(LOXONIN), co("疼痛時"), si(HBA1C, 3, 17))
    texts = [finding.text for finding in check(claim, STARTER)]
    assert texts == [
        "ロキソニン錠60mg: 胃潰瘍に禁忌（コメントあり）",
        "HbA1c: 適応の傷病名なし",
        "HbA1c: 2回（1月1回まで）",
    ]
    assert not any("見本" in text or "000123" in text for text in texts)
    [contraindication, *_] = check(claim, STARTER)
    assert contraindication.others == (3,) and contraindication.reference.startswith("添付文書 禁忌")


def test_lines_together_are_over_the_limit() -> None:
    [finding] = check(claim_of(MAN, sy(DIABETES), si(HBA1C, 3), si(AGAIN, 3), si(HBA1C, 17), si(HBA1C, 24)), STARTER)
    assert (finding.line, finding.others) == (5, (3, 6)), "the line that goes beyond, and the others of the code"


def test_nothing_is_said_of_what_is_not_written() -> None:
    """Days, birth date and sex may be missing in a broken record."""
    bare = f"SI,60,1,{HBA1C},,49,,,,,,,,{',' * 30}"
    lines = [MAN.replace(",1,19700115,", ",,,").replace("202406", "2024"), sy(PROSTATE, modifiers=SUSPECTED), bare]
    [claim] = read_uke(io.BytesIO("".join(f"{line}\r\n" for line in [*lines, iy(HARNAL), jd()]).encode("cp932")))
    assert isinstance(claim, Claim) and len(claim.faults) == 3
    assert {finding.rule for finding in check(claim, STARTER)} == {Rule.INDICATION, Rule.SUSPECTED_INDICATION}


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("糖尿病", "2500013"),
        ("両側変形性膝関節症", KNEE),
        ("右変形性膝関節症の術後", KNEE),
        ("糖尿病の疑い", "2500013"),
        ("変形性膝関節症右", None),
        ("の疑い", None),
        ("", None),
        ("急性急性急性急性", None),
    ],
)
def test_names_with_modifiers(name: str, code: str | None) -> None:
    assert coded(name, STARTER) == code


LINES = [
    sy(KNEE), sy(ULCER), sy(DIABETES, modifiers=SUSPECTED), sy(PROSTATE), sy("0000999", name="右変形性膝関節症"), sy("1234567"),
    iy(LOXONIN), iy(METFORMIN), iy(AMLODIPINE), iy(AMLODIPINE_LESS, section=""), iy(HARNAL, times=2), iy(CRAVIT), co("頓用"),
    si(HBA1C, 3, 17), si(FIRST, 3, section="11"), si(AGAIN, 3, section="12"), si(PSA, 9, 9), si("111000370", 30), jd(3, 17),
    "TO,60,1,710010001,1,,1,,,,,,,,,,,,1" + "," * 28, "XX,unknown", "SJ,01,見本", co("", section="60", code="820000001"),
]  # fmt: skip


@given(st.lists(st.sampled_from(LINES), max_size=25), st.sampled_from([MAN, WOMAN, head_of(birth="20200229", kind="1111")]))
def test_any_claim(lines: list[str], first: str) -> None:
    claim = claim_of(first, *lines)
    findings = check(claim, STARTER)
    texts = line_texts(claim, STARTER)
    assert [finding.line for finding in findings] == sorted(finding.line for finding in findings)
    for finding in findings:
        assert finding.line in texts and {*finding.others} <= {record.line for record in claim.records} - {finding.line}
        assert finding.reference and finding.text and exists(finding)
    assert len({(finding.line, finding.row, finding.rule, finding.text) for finding in findings}) == len(findings)
    for line in texts:
        assert all(comments_of(claim, line, STARTER))


def exists(finding: Finding) -> bool:
    table, key = finding.row.split(":")
    if table == "rule":
        return key == finding.rule.value
    if table == "duplicates":
        a, b = key.split("-")
        return any(exclusion.b == b for exclusion in STARTER.duplicates[a])
    return key in getattr(STARTER, table)


def test_a_claim_in_words() -> None:
    claim = claim_of(
        MAN,
        "SY,2500015,20240401,1,8002,,01,主治医意見あり",
        sy(KNEE, modifiers="20568048", outcome="2"),
        si(HBA1C, 3),
        iy(LOXONIN, supply=14),
        co("疼痛時"),
        co("", code="820000001"),
        iy(LOXONIN, supply=2, section="22"),
        "SI,80,1,160072510,,880,3,,,,,,,1,,2" + "," * 28,
        "TO,60,1,710010001,1.50,,1,006,,,酸素　Ａ,,,,,,,,1" + "," * 29,
        iy("699999999", section="23"),
        "IY,,1,620007532,2,,,,,,,,,,,1" + "," * 28,
    )
    assert head(claim, STARTER) == "男 54歳 入院外 2024年6月"
    assert line_texts(claim, STARTER) == {
        2: "傷病名 2型糖尿病の疑い 2024年4月1日 主病",
        3: "傷病名 右変形性膝関節症の術後 2024年6月1日 治ゆ",
        4: "診療行為 HbA1c 1回 3日",
        5: "医薬品 ロキソニン錠60mg 3錠 14日分",
        8: "医薬品 ロキソニン錠60mg 3錠 2回 3日(2回)",
        9: "診療行為 超音波検査(心臓超音波検査)(経胸壁心エコー法) 3回 1日 3日(2回)",
        10: "特定器材 酸素 A 1.5枚 1回 2日",
        11: "医薬品 コード 699999999 3 7回 3日(7回)",
        12: "医薬品 ラクテックG輸液 2袋 3日",
    }
    assert comments_of(claim, 5, STARTER) == ("疼痛時", "別途コメントあり")
    assert comments_of(claim, 5) == ("疼痛時", "コメント 820000001")
    assert comments_of(claim, 2) == ("主治医意見あり",) and comments_of(claim, 4) == comments_of(claim, 99) == ()


@pytest.mark.parametrize(
    ("birth", "day", "age"),
    [
        (date(1970, 1, 15), date(2024, 1, 14), 53),
        (date(1970, 1, 15), date(2024, 1, 15), 54),
        (date(2020, 2, 29), date(2021, 2, 28), 0),
        (date(2020, 2, 29), date(2021, 3, 1), 1),
    ],
)
def test_ages(birth: date, day: date, age: int) -> None:
    assert age_on(birth, day) == age


@pytest.mark.official
def test_the_claims_of_the_sample() -> None:
    path = _STANDARDS / "claims" / "sample_outpatient.uke"
    if not path.is_file():
        pytest.skip("no claims here")
    with path.open("rb") as file:
        claims = [part for part in read_uke(file) if isinstance(part, Claim)]
    found = Counter(finding.rule for claim in claims for finding in check(claim, STARTER))
    assert {Rule.INDICATION, Rule.DUPLICATE, Rule.LIMIT, Rule.AGE} <= found.keys() and found.total() < len(claims)
