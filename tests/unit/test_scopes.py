"""Dates, units and days of supply that a note writes once for several statements, and reference ranges beside results,
given to those that they cover."""

import re
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.generation.reader import source_lines as lines_of
from app.generation.segments import fold
from app.normalize import parse_reference_range
from app.scopes import distribute
from schemas.note import SourceLine
from schemas.statement import FIELDS, EvidenceSpan, Field, Kind, Statement


def span(text: str, line: int, quote: str, after: int = 0) -> EvidenceSpan:
    """`quote` on a line, at or behind the offset `after` of the note."""
    start = text.index(quote, max(after, lines_of(text)[line].start))
    return EvidenceSpan(start=start, end=start + len(quote), quote=quote)


def row(
    text: str, line: int, name: str, *values: str, date: tuple[int, str] | None = None, kind: Kind = Kind.LAB
) -> list[Statement]:
    """A result for each of `values`, which stand behind the name in this order. `date`: as read, with its line."""
    head = span(text, line, name)
    at, found = head.end, []
    for value in values:
        cell = span(text, line, value, at)
        at = cell.end
        read = {Field.DATE: span(text, *date)} if date else {}
        found.append(Statement(kind=kind, fields={Field.NAME: head, Field.VALUE: cell} | read))
    return found


def drug(text: str, line: int, name: str, days: str | None = None) -> Statement:
    fields = {Field.NAME: span(text, line, name)}
    if days:
        fields[Field.DAYS] = span(text, line, days)
    return Statement(kind=Kind.PRESCRIPTION, fields=fields)


def given_to(text: str, statements: Sequence[Statement], field: Field = Field.DATE) -> list[str | None]:
    """What each statement has in `field` afterwards; every span must quote the note."""
    found = distribute(lines_of(text), statements, fold)
    assert [s.name for s in found] == [s.name for s in statements], "the order is kept"
    for statement in found:
        for piece in statement.fields.values():
            assert text[piece.start : piece.end] == piece.quote
    return [s.fields[field].quote if field in s.fields else None for s in found]


# --- tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("head", "dates"), [
    ("　　　2025/11/04　　2026/02/10", ["2025/11/04", "2026/02/10"]),
    ("検査項目 4/1 4/8 4/15", ["4/1", "4/8", "4/15"]),
    ("　　　４／１　　４／８", ["４／１", "４／８"]),
    ("項目　12/22　1/5　2/2　3/2", ["12/22", "1/5", "2/2", "3/2"]),
    ("項目 R7.12.1 R8.1.5 R8.2.2", ["R7.12.1", "R8.1.5", "R8.2.2"]),
    ("【検査】Ｒ７．１２．１　Ｒ８．１．５", ["Ｒ７．１２．１", "Ｒ８．１．５"]),
    ("令和元年12月1日 令和2年1月5日", ["令和元年12月1日", "令和2年1月5日"]),
    ("平成31年4月 令和元年5月 令和2年6月", ["平成31年4月", "令和元年5月", "令和2年6月"]),
    ("'25.11.4 | '26.2.10", ["'25.11.4", "'26.2.10"]),
    ("検査値（4月1日） （4月8日）", ["4月1日", "4月8日"]),
    ("2025年12月1日　2026年1月5日　単位", ["2025年12月1日", "2026年1月5日"]),
])  # fmt: skip
def test_each_result_of_a_row_has_the_date_of_its_column(head: str, dates: list[str]) -> None:
    values = ["0.31", "1.20", "2.45", "3.07"][: len(dates)]
    text = f"{head}\nCRP {' '.join(values)}\nHb {' '.join(values)}"
    statements = [*row(text, 1, "CRP", *values), *row(text, 2, "Hb", *values)]
    assert given_to(text, statements) == dates * 2
    # Read in another order, and with a date that belongs elsewhere: the layout decides.
    wrong = [s.model_copy(update={"fields": s.fields | {Field.DATE: span(text, 0, dates[0])}}) for s in statements]
    assert given_to(text, wrong[::-1]) == (dates * 2)[::-1]


@pytest.mark.parametrize(("line", "values", "dates"), [
    ("ＣＲＰ　　　　　　0.3", ["0.3"], ["4/8"]),
    ("CRP        1.2          0.3", ["1.2", "0.3"], ["4/1", "4/15"]),
    ("総ｺﾚｽﾃﾛｰﾙ           180   175", ["180", "175"], ["4/8", "4/15"]),
    ("血糖（随時） 98", ["98"], ["4/1"]),
    ("CRP      1.2 0.3", ["1.2", "0.3"], [None, None]),  # both stand nearest to the first column
    ("CRP 1 2 3 4", ["1", "2", "3", "4"], [None] * 4),
])  # fmt: skip
def test_missing_cells_are_found_by_their_place(line: str, values: list[str], dates: list[str | None]) -> None:
    # Columns 12, 18 and 24 of the screen, where a wide character takes two.
    text = f"項目　　　　4/1   4/8   4/15\n{line}"
    name = line.replace("　", " ").split()[0]
    assert given_to(text, row(text, 1, name, *values)) == dates


@pytest.mark.parametrize("sign", ["\t", "|", "｜"])
def test_missing_cells_between_signs_are_counted(sign: str) -> None:
    text = sign.join(["項目", "4/1", "4/8", "4/15"]) + "\n" + sign.join(["CRP", "", "0.3", ""]) + "\n"
    text += sign.join(["LDLコレステロール", "98", "", "101"])
    statements = [*row(text, 1, "CRP", "0.3"), *row(text, 2, "LDLコレステロール", "98", "101")]
    assert given_to(text, statements) == ["4/8", "4/1", "4/15"]


@pytest.mark.parametrize("head", ["採血 5/2→5/20：", "【検査】入院時(5/2) → 退院前(5/20) ※抜粋\n", "検査(5/2⇒5/20)\n"])
def test_dates_that_an_arrow_joins_are_those_of_the_values_that_it_joins(head: str) -> None:
    text = head + "UA 8.2→5.9、BNP 280→95 pg/mL、LDL 131\n"
    line = text.count("\n") - 1
    read = [*row(text, line, "UA", "8.2", "5.9"), *row(text, line, "BNP", "280", "95"), *row(text, line, "LDL", "131")]
    assert given_to(text, read) == ["5/2", "5/20", "5/2", "5/20", "5/2"]


def test_a_test_with_more_values_than_dates_gets_none_of_them() -> None:
    text = "採血 5/2→5/20：UA 8.2→7.0→5.9\n"
    assert given_to(text, row(text, 0, "UA", "8.2", "7.0", "5.9")) == [None] * 3


def test_two_days_of_a_course_are_no_heading() -> None:
    text = "5/2入院→5/20退院。採血でUA 8.2\n"
    assert given_to(text, row(text, 0, "UA", "8.2")) == [None]


def test_a_cell_beside_the_dated_columns_has_no_date() -> None:
    text = "項目|4/1|4/8|基準\nCRP|||0.14"
    assert given_to(text, row(text, 1, "CRP", "0.14")) == [None]


def test_several_tests_on_one_line_are_no_row() -> None:
    text = "経過 4/1 4/8\nWBC 5200 Hb 12.1 CRP 0.3"
    statements = [*row(text, 1, "WBC", "5200"), *row(text, 1, "Hb", "12.1"), *row(text, 1, "CRP", "0.3")]
    assert given_to(text, statements) == [None] * 3


def test_two_tests_that_share_a_row() -> None:
    text = "　　　　4/1　　4/8\nAST/ALT 24/31 28/30"
    statements = [*row(text, 1, "AST", "24", "28"), *row(text, 1, "ALT", "31", "30")]
    assert given_to(text, statements) == ["4/1", "4/8", "4/1", "4/8"]


def test_infections_have_columns_too() -> None:
    text = "感染症 2024/5/1 2026/2/1\nHBs抗原 (-) (-)"
    assert given_to(text, row(text, 1, "HBs抗原", "(-)", "(-)", kind=Kind.INFECTION)) == ["2024/5/1", "2026/2/1"]


def test_a_table_goes_on_through_rows_and_rules_but_not_for_ever() -> None:
    text = "項目 4/1 4/8\n-----------\n生化学\n" + "".join(f"項{n:02} 1 2\n" for n in range(40))
    statements = [s for n in range(40) for s in row(text, n + 3, f"項{n:02}", "1", "2")]
    dates = given_to(text, statements)
    assert dates[:46] == ["4/1", "4/8"] * 23, "25 lines below the head"
    assert dates[46:] == [None] * 34


@pytest.mark.parametrize(("between", "covered"), [
    ("", False),  # a blank line
    ("食事は半量程度、夜間の咳は減ってきている。明日から食事形態を上げる。", False),
    ("(血算)", True),
])  # fmt: skip
def test_what_ends_a_table(between: str, covered: bool) -> None:
    text = f"項目 4/1 4/8\nCRP 1 2\n{between}\nHb 12 11"
    assert given_to(text, row(text, 3, "Hb", "12", "11")) == (["4/1", "4/8"] if covered else [None, None])


def test_below_a_further_title_only_whole_rows_are_rows() -> None:
    text = "検査 4/1 4/8\nCRP 1 2\n【感染症】\nHCV抗体 陰性\n【血算】\nHb 12 11"
    statements = [*row(text, 3, "HCV抗体", "陰性", kind=Kind.INFECTION), *row(text, 5, "Hb", "12", "11")]
    assert given_to(text, statements) == [None, "4/1", "4/8"]


def test_a_sentence_about_two_days_is_no_head() -> None:
    text = "4/1に発熱あり近医を受診、4/8に当院へ紹介\nCRP 1 2"
    assert given_to(text, row(text, 1, "CRP", "1", "2")) == [None, None]


# --- headings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("heading", "date"), [
    ("【採血 4/1】", "4/1"),
    ("■血液検査（2026年3月12日）", "2026年3月12日"),
    ("検査所見　Ｒ８．３．１２", "Ｒ８．３．１２"),
    ("入院時検査(令和8年3月12日):", "令和8年3月12日"),
    ("感染症 2024年", "2024年"),
    ("<Labo data> 3/12", "3/12"),
])  # fmt: skip
def test_results_under_a_dated_heading_have_its_date(heading: str, date: str) -> None:
    text = f"{heading}\nCRP 0.3 WBC 5200\nHBs抗原 (-)"
    statements = [*row(text, 1, "CRP", "0.3"), *row(text, 1, "WBC", "5200"),
                  *row(text, 2, "HBs抗原", "(-)", kind=Kind.INFECTION)]  # fmt: skip
    assert given_to(text, statements) == [date] * 3


@pytest.mark.parametrize("heading", ["【現病歴 4/1】", "【処方】4/1", "検査"])
def test_other_headings_give_no_date(heading: str) -> None:
    text = f"{heading}\nCRP 0.3"
    assert given_to(text, row(text, 1, "CRP", "0.3")) == [None]


def test_a_dated_prefix_covers_its_line_and_those_below() -> None:
    text = "採血(4/1): CRP 0.3 WBC 5200\nHb 12.1\n"
    statements = [*row(text, 0, "CRP", "0.3"), *row(text, 0, "WBC", "5200"), *row(text, 1, "Hb", "12.1")]
    assert given_to(text, statements) == ["4/1"] * 3
    # One of them has the date already: it covers the others all the same.
    dated = [*row(text, 0, "CRP", "0.3", date=(0, "4/1")), *statements[1:]]
    assert given_to(text, dated) == ["4/1"] * 3


def test_a_prefix_goes_before_a_date_that_was_read_far_above() -> None:
    text = "3/3 紹介状を持って受診。\n経過は良好。\n採血(4/1): CRP 0.3"
    assert given_to(text, row(text, 2, "CRP", "0.3", date=(0, "3/3"))) == ["4/1"]


@pytest.mark.parametrize("between", ["", "　", "【身体所見】", "経過", "診察上は特記すべき所見を認めず、食事もとれている。"])
def test_what_ends_a_heading(between: str) -> None:
    text = f"【採血 4/1】\nWBC 5200\n{between}\nCRP 0.3"
    statements = [*row(text, 1, "WBC", "5200"), *row(text, 3, "CRP", "0.3")]
    assert given_to(text, statements) == ["4/1", None]


def test_the_next_heading_has_its_own_date() -> None:
    text = "【採血 4/1】\nCRP 0.3\n【採血 4/8】\nCRP 0.5"
    assert given_to(text, [*row(text, 1, "CRP", "0.3"), *row(text, 3, "CRP", "0.5")]) == ["4/1", "4/8"]


def test_groups_under_a_dated_heading_have_its_date_and_the_next_sampling_has_not() -> None:
    text = "【採血 4/1】\n血算 WBC 5200\n生化学 CRP 0.3\n感染症 HBs抗原 (-)"
    statements = [*row(text, 1, "WBC", "5200"), *row(text, 2, "CRP", "0.3"),
                  *row(text, 3, "HBs抗原", "(-)", kind=Kind.INFECTION)]  # fmt: skip
    assert given_to(text, statements) == ["4/1"] * 3
    text = "採血(4/1) CRP 0.3\n退院時採血 CRP 0.1\nWBC 5200"
    statements = [*row(text, 0, "CRP", "0.3"), *row(text, 1, "CRP", "0.1"), *row(text, 2, "WBC", "5200")]
    dates = given_to(text, statements)
    assert (dates[0], dates[2]) == ("4/1", None)


def test_a_date_behind_a_result_of_another_line_is_not_mine() -> None:
    text = "CRP 0.3 (4/1)\nWBC 5200"
    statements = [*row(text, 0, "CRP", "0.3", date=(0, "4/1")), *row(text, 1, "WBC", "5200", date=(0, "4/1"))]
    assert given_to(text, statements) == ["4/1", None]


def test_a_date_before_the_results_of_a_line_above_may_be_mine() -> None:
    text = "入院時の値\n4/1 CRP 0.3\nWBC 5200"
    statements = [*row(text, 1, "CRP", "0.3", date=(1, "4/1")), *row(text, 2, "WBC", "5200", date=(1, "4/1"))]
    assert given_to(text, statements) == ["4/1", "4/1"]


def test_a_date_on_the_own_line_is_kept() -> None:
    text = "【採血 4/1】\nCRP 0.3\nHbA1c 7.2 (3/1)"
    assert given_to(text, row(text, 2, "HbA1c", "7.2", date=(2, "3/1"))) == ["3/1"]
    text = "項目 4/1 4/8\nCRP 0.3 1.2\nHbA1c 7.2 (3/1)"
    assert given_to(text, row(text, 2, "HbA1c", "7.2", date=(2, "3/1"))) == ["3/1"]


def test_other_kinds_have_no_date_from_a_heading() -> None:
    text = "【血液検査 4/1】\n貧血"
    condition = Statement(kind=Kind.CONDITION, fields={Field.NAME: span(text, 1, "貧血")})
    assert given_to(text, [condition]) == [None]


# --- units ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("line", "unit"), [
    ("CRP 0.31 1.20 mg/dL", "mg/dL"),
    ("CRP 0.31 1.20 H mg/dL", "mg/dL"),
    ("CRP　0.31　1.20　％", "％"),
    ("|CRP|0.31|1.20|×10^4/μL|", "×10^4/μL"),
    ("CRP 0.31 1.20 改善傾向", None),
    ("CRP 0.31 1.20 mg/dL と低下", None),
    ("CRP 0.31 1.20 H", None),
    ("CRP 0.31 1.20", None),
])  # fmt: skip
def test_a_row_ends_with_the_unit_of_all_its_results(line: str, unit: str | None) -> None:
    assert given_to(line, row(line, 0, "CRP", "0.31", "1.20"), Field.UNIT) == [unit] * 2


def test_results_of_one_test_share_the_unit_that_one_of_them_has() -> None:
    text = "HbA1c 8.1→7.4%→7.2、LDL 131→98"
    first, second, third = row(text, 0, "HbA1c", "8.1", "7.4", "7.2")
    second = second.model_copy(update={"fields": second.fields | {Field.UNIT: span(text, 0, "%")}})
    others = row(text, 0, "LDL", "131", "98")
    assert given_to(text, [first, second, third, *others], Field.UNIT) == ["%"] * 3 + [None] * 2


def test_the_unit_at_the_end_of_a_line_of_several_tests_is_not_everybodys() -> None:
    text = "Na 140 138 K 4.0 4.2 mEq/L"
    statements = [*row(text, 0, "Na", "140", "138"), *row(text, 0, "K", "4.0", "4.2")]
    assert given_to(text, statements, Field.UNIT) == [None] * 4
    assert given_to("CRP 0.3 mg/dL", row("CRP 0.3 mg/dL", 0, "CRP", "0.3"), Field.UNIT) == [None]


# --- days of supply ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("supply", ["28日分", "２８日分", "28 TD", "14日間", "4週間分"])
@pytest.mark.parametrize("below", [True, False])
def test_a_supply_beside_a_list_covers_every_drug(supply: str, below: bool) -> None:
    drugs = "アムロジピン錠5mg 1錠\nメトホルミン錠500mg 2錠"
    text = f"{drugs}\n　以上 {supply}" if below else f"【処方】{supply}\n{drugs}"
    first = 0 if below else 1
    statements = [drug(text, first, "アムロジピン錠5mg"), drug(text, first + 1, "メトホルミン錠500mg")]
    assert given_to(text, statements, Field.DAYS) == [supply] * 2


@pytest.mark.parametrize("text", [
    "アムロジピン錠5mg 1錠 14日分\nメトホルミン錠500mg 2錠\n以上 28日分",  # one has its own
    "アムロジピン錠5mg 1錠\nメトホルミン錠500mg 2錠\n\n28日分",  # not right below
    "アムロジピン錠5mg 1錠\nメトホルミン錠500mg 2錠\n28日分、頓用は5日分",  # which of them?
    "アムロジピン錠5mg 1錠\nメトホルミン錠500mg 2錠\n7日間以上続く発熱があれば受診",
    "アムロジピン錠5mg 1錠\nメトホルミン錠500mg 2錠\n手術の後は7日間の安静とし、その間の入浴は控えるように本人と家族に説明して同意を得た。",
])  # fmt: skip
def test_drugs_that_no_supply_covers(text: str) -> None:
    own = "14日分" if "14日分" in text else None
    statements = [drug(text, 0, "アムロジピン錠5mg", own), drug(text, 1, "メトホルミン錠500mg")]
    assert given_to(text, statements, Field.DAYS) == [own, None]


def test_two_lists_have_their_own_supplies() -> None:
    text = "定期 28日分\nアムロジピン錠5mg 1錠\n\n臨時 5日分\nロキソプロフェン錠60mg 3錠"
    statements = [drug(text, 1, "アムロジピン錠5mg"), drug(text, 4, "ロキソプロフェン錠60mg")]
    assert given_to(text, statements, Field.DAYS) == ["28日分", "5日分"]


# --- reference ranges -------------------------------------------------------------------------------------------------


def lab(text: str, line: int, name: str, value: str, unit: str | None = None, flag: str | None = None) -> Statement:
    """A result with its unit and flag, which stand behind its value."""
    [statement] = row(text, line, name, value)
    at = statement.fields[Field.VALUE].end
    more = {field: span(text, line, piece, at) for field, piece in ((Field.UNIT, unit), (Field.FLAG, flag)) if piece}
    return statement.model_copy(update={"fields": statement.fields | more})


@pytest.mark.parametrize(("text", "value", "unit", "flag", "reference"), [
    ("K 5.2 mEq/L (3.5-5.0)", "5.2", "mEq/L", None, "3.5-5.0"),
    ("AST 45 U/L [13〜30]", "45", "U/L", None, "13〜30"),
    ("Cre 0.92(0.46-0.79)mg/dL", "0.92", "mg/dL", None, "0.46-0.79"),
    ("K 5.2 基準値 3.5～5.0", "5.2", None, None, "3.5～5.0"),
    ("K 5.2 mEq/L、基準範囲：3.5〜5.0、Na 140", "5.2", "mEq/L", None, "3.5〜5.0"),
    ("K 5.2 基準値 3.5-5.0 Na 140", "5.2", None, None, "3.5-5.0"),
    ("K 5.2 mEq/L 基準値 3.5-5.0mEq/L", "5.2", "mEq/L", None, "3.5-5.0"),
    ("CRP 0.31 (<0.3)", "0.31", None, None, "<0.3"),
    ("CRP 0.31 mg/dL（0.3以下）", "0.31", "mg/dL", None, "0.3以下"),
    ("Ｋ　５．２　ｍＥｑ／Ｌ（３．５－５．０）", "５．２", "ｍＥｑ／Ｌ", None, "３．５－５．０"),
    ("AST 45 H (13-30)", "45", None, "H", "13-30"),
    ("AST 45H(13-30)", "45", None, None, "13-30"),  # the flag was not read
    ("AST 45 U/L ↑ (基準値: 13-30 U/L)", "45", "U/L", "↑", "13-30"),
    ("AST 45 (13-30 U/L)", "45", None, None, "13-30"),
    ("AST 45 (13-30 U/L)", "45", "U/L", None, "13-30"),  # the unit was read in the brackets
    ("AST 45 U/L(H)【13-30】", "45", "U/L", None, "13-30"),
    ("AST 45 U/L 基準値(13-30)", "45", "U/L", None, "13-30"),
    ("AST 45 (U/L) [高値] (13-30)", "45", "U/L", "高値", "13-30"),
    ("Plt 21.3万/μL (15.8-34.8万/μL)", "21.3", "万/μL", None, "15.8-34.8"),
    ("Plt 213000 (158,000-348,000)", "213000", None, None, "158,000-348,000"),
    ("eGFR 45.2 (60以上)", "45.2", None, None, "60以上"),
    ("TSH <0.01 μIU/mL (0.500–5.000)", "<0.01", "μIU/mL", None, "0.500–5.000"),
    ("BE -3.1 (-2.0~2.0)", "-3.1", None, None, "-2.0~2.0"),
    ("BUN 25.1 mg/dL (基準 8-20)", "25.1", "mg/dL", None, "8-20"),
    ("BUN 25.1 mg/dL (8-20 mg/dL)", "25.1", "mg/dL", None, "8-20"),
])  # fmt: skip
def test_a_range_beside_a_result(text: str, value: str, unit: str | None, flag: str | None, reference: str) -> None:
    name = text.replace("　", " ").split()[0]
    statement = lab(text, 0, name, value, unit, flag)
    assert given_to(text, [statement], Field.REFERENCE) == [reference]
    assert given_to(text, [statement], Field.UNIT) == [unit]


@pytest.mark.parametrize("behind", [
    "（前回 7.6）", "（前回 6.8-7.0）", "(7.6)", "(3/14)", "(3-14)", "(2026-03-14)", "(3月14日)", "(8:30-9:00)", "(8-10時)", "(132/76)", "(1:8)", "(4-4-6)",
    "(03-1234-5678)", "(3456-7890)", "(2019-2024)", "(2015〜)", "(6.5-7.0で推移)", "(目標 <7.0)", "(目標6.5-7.0)", "(7.6→7.4)",
    "(2-3錠)", "(5-10mg)", "(7.4-6.8)", " 6.5-7.0", " 4-6単位", "、次回 3-4週後", "(+)", "(2+)", "()", "（朝夕 2-3回）",
    "(男4.6-6.2)", " 基準値内", " 基準値より高い",
    " 正常範囲 3-14日後", "(<120/80)",
])  # fmt: skip
def test_what_stands_behind_a_result_and_is_no_range(behind: str) -> None:
    text = f"HbA1c 7.2%{behind}"
    assert given_to(text, [lab(text, 0, "HbA1c", "7.2", "%")], Field.REFERENCE) == [None]


@pytest.mark.parametrize(("text", "value", "unit"), [
    ("Plt 213000 /μL (15.8-34.8万/μL)", "213000", "/μL"),  # limits in another unit
    ("Plt 213000 /μL (15.8-34.8)", "213000", "/μL"),
    ("WBC 5200 基準値 3.3-8.6 10^3/μL", "5200", None),
    ("抗核抗体 陽性 (40-80)", "陽性", None),
    ("BUN 25.1 mg/dL (8-20)", "25.1", "mg/dL"),  # the 20th of August?
])  # fmt: skip
def test_doubtful_ranges_are_left_out(text: str, value: str, unit: str | None) -> None:
    assert given_to(text, [lab(text, 0, text.split()[0], value, unit)], Field.REFERENCE) == [None]


def test_small_whole_numbers_are_a_range_where_others_are_written_so() -> None:
    text = "AST 45 (13-30)\nBUN 25 (8-20)"
    assert given_to(text, [lab(text, 0, "AST", "45"), lab(text, 1, "BUN", "25")], Field.REFERENCE) == ["13-30", "8-20"]


def test_each_result_of_a_line_has_its_own_range() -> None:
    text = "AST 45(13-30) ALT 38 CRP 0.31(<0.3)、K 5.2→4.8(3.5-5.0)"
    statements = [lab(text, 0, "AST", "45"), lab(text, 0, "ALT", "38"), lab(text, 0, "CRP", "0.31"), *row(text, 0, "K", "5.2", "4.8")]
    assert given_to(text, statements, Field.REFERENCE) == ["13-30", None, "<0.3", None, "3.5-5.0"]


def test_what_another_statement_says_is_no_range() -> None:
    text = "CRP 0.31 (<0.3) Hb 12.1 (4-15)"
    [old] = row(text, 0, "CRP", "<0.3")
    hb = lab(text, 0, "Hb", "12.1")
    hb = hb.model_copy(update={"fields": hb.fields | {Field.DATE: span(text, 0, "4-15")}})
    assert given_to(text, [lab(text, 0, "CRP", "0.31"), old, hb], Field.REFERENCE) == [None] * 3


def test_infections_have_ranges_and_other_kinds_have_none() -> None:
    text = "HBs抗原 0.01 (<0.05)"
    assert given_to(text, row(text, 0, "HBs抗原", "0.01", kind=Kind.INFECTION), Field.REFERENCE) == ["<0.05"]
    text = "アムロジピン 5 (2.5-5.0)"
    drugs = [Statement(kind=Kind.PRESCRIPTION, fields={Field.NAME: span(text, 0, "アムロジピン"), Field.DOSE: span(text, 0, "5")})]
    assert given_to(text, drugs, Field.REFERENCE) == [None]


@pytest.mark.parametrize(("head", "line", "values", "reference"), [
    ("項目　結果　単位　基準値", "AST　45　U/L　13-30", ["45"], "13-30"),
    ("検査項目 結果 基準範囲 単位", "BUN 25.1 8-20 mg/dL", ["25.1"], "8-20"),
    ("項目 基準値 4/1 4/8", "CRP 0.00-0.14 0.31 1.20", ["0.31", "1.20"], "0.00-0.14"),
    ("　　　4/1　4/8　基準値", "CRP 0.31 H 1.20 H 0.14以下", ["0.31", "1.20"], "0.14以下"),
    ("項目|結果|単位|基準値|判定", "AST|45|U/L|13 - 30|H", ["45"], "13 - 30"),
    ("|項目|基準値|結果|", "|AST|(13〜30)|45|", ["45"], "13〜30"),
    ("項目\t結果\t基準", "CRP\t0.31\t<0.3", ["0.31"], "<0.3"),
    ("項目　結果　正常値", "AST　45　13-30U/L", ["45"], "13-30"),
    ("【血液検査】 項目 値 参考値", "AST 45 13-30", ["45"], "13-30"),
    ("項目|結果|単位|基準値", "AST|45|13-30|", ["45"], None),  # another column
    ("項目|結果|基準値", "AST|45|13-30 要再検", ["45"], None),
    ("項目|結果|基準値", "HCV抗体|0.1|陰性", ["0.1"], None),
    ("項目 結果 基準値", "AST 45 13-30 10-42", ["45"], None),  # which?
    ("項目 結果 前回値", "AST 45 13-30", ["45"], None),
    ("検査は基準値を上回るものが多いので再検を勧めた", "AST 45 13-30", ["45"], None),
    ("基準値", "AST 45 13-30", ["45"], None),  # a heading of nothing else
    ("基準値 3.5-5.0", "AST 45 13-30", ["45"], None),
])  # fmt: skip
def test_a_range_in_its_column(head: str, line: str, values: list[str], reference: str | None) -> None:
    text = f"{head}\n{line}"
    name = line.replace("|", " ").replace("　", " ").split()[0]
    assert given_to(text, row(text, 1, name, *values), Field.REFERENCE) == [reference] * len(values)


def test_a_column_of_ranges_goes_on_through_the_rows_and_ends_with_the_table() -> None:
    text = "項目 結果 基準値\n(生化学)\nAST 45 13-30\nCRP 0.31 0.14以下\n\nALT 38 10-42"
    statements = [*row(text, 2, "AST", "45"), *row(text, 3, "CRP", "0.31"), *row(text, 5, "ALT", "38")]
    assert given_to(text, statements, Field.REFERENCE) == ["13-30", "0.14以下", None]


def test_two_tests_on_a_row_have_no_range_of_a_column() -> None:
    text = "項目 結果 基準値\nAST 45 ALT 38 10-42"
    assert given_to(text, [*row(text, 1, "AST", "45"), *row(text, 1, "ALT", "38")], Field.REFERENCE) == [None, None]


# --- any note ---------------------------------------------------------------------------------------------------------

_WORDS = ["4/1", "4/8", "Ｒ８．３．１", "2026年3月12日", "採血", "【検査】", "CRP", "AST/ALT", "0.3", "12", "28日分", "７日間", "以上",
          "アムロジピン", "　", " ", "\t", "|", "(", "：", "mg/dL", "％", "👨", "ｺﾚ", "経過は良好であり食事もとれている",
          "(3.5-5.0)", "（<0.3）", "13〜30", "8-20", "基準値", "H", "結果 "]  # fmt: skip


@st.composite
def notes(draw: st.DrawFn) -> tuple[str, list[Statement]]:
    """Lines of words, and statements whose fields are any pieces of their line; dates and days of any line."""
    rows = draw(st.lists(st.lists(st.sampled_from(_WORDS), max_size=6).map("".join), min_size=1, max_size=7))
    text = "\n".join(rows)
    lines = lines_of(text)

    def piece(line: SourceLine) -> EvidenceSpan:
        start = draw(st.integers(0, len(line.text) - 1))
        end = draw(st.integers(start + 1, len(line.text)))
        return EvidenceSpan(start=line.start + start, end=line.start + end, quote=line.text[start:end])

    filled = [line for line in lines if line.text]
    statements = []
    for line in filled:
        for _ in range(draw(st.integers(0, 3))):
            kind = draw(st.sampled_from(Kind))
            fields = {Field.NAME: piece(line)}
            for field in FIELDS[kind][1:]:
                if draw(st.booleans()):
                    anywhere = field in (Field.DATE, Field.DAYS)
                    fields[field] = piece(draw(st.sampled_from(filled)) if anywhere else line)
            statements.append(Statement(kind=kind, fields=fields))
    return text, statements


def without(statement: Statement, fields: Iterable[Field]) -> dict[Field, EvidenceSpan]:
    return {key: piece for key, piece in statement.fields.items() if key not in fields}


@settings(deadline=None, max_examples=150)
@given(notes())
def test_only_dates_units_days_and_ranges_change_and_all_quote_the_note(case: tuple[str, list[Statement]]) -> None:
    text, statements = case
    found = distribute(lines_of(text), statements, fold)
    assert len(found) == len(statements)
    for before, after in zip(statements, found, strict=True):
        free = (Field.DATE, Field.UNIT, Field.DAYS, Field.REFERENCE)
        assert without(after, free) == without(before, free)
        assert after.model_copy(update={"fields": {}}) == before.model_copy(update={"fields": {}})
        assert set(after.fields) <= {*FIELDS[after.kind], Field.REFERENCE}
        if reference := after.fields.get(Field.REFERENCE):
            assert after.kind in (Kind.LAB, Kind.INFECTION)
            low, high = parse_reference_range(reference.quote) or (None, None)
            assert (low is None) != (high is None) or (low is not None and high is not None and low < high)
            digits = re.findall(r"[0-9.]+", fold(reference.quote))
            assert digits == [str(limit) for limit in (low, high) if limit is not None]
        for kept in (Field.UNIT, Field.DAYS):
            assert before.fields.get(kept, after.fields.get(kept)) == after.fields.get(kept)
        for piece in after.fields.values():
            assert text[piece.start : piece.end] == piece.quote


def test_a_date_in_brackets_is_that_of_the_result_in_them() -> None:
    text = "HbA1c 7.2（前回 2/14 7.6）、Cre 0.92"
    [new, old] = row(text, 0, "HbA1c", "7.2", "7.6", date=(0, "2/14"))
    [other] = row(text, 0, "Cre", "0.92", date=(0, "2/14"))
    assert given_to(text, [new, old, other]) == [None, "2/14", None]
    # Brackets that hold nothing but the date belong to the result before them.
    text = "HbA1c 7.2（2/14）、Cre 0.92"
    [result] = row(text, 0, "HbA1c", "7.2", date=(0, "2/14"))
    assert given_to(text, [result]) == ["2/14"]


def test_an_undated_heading_of_its_own_begins_anew() -> None:
    text = "初期検査（2025/3/1）：Hb 11.2\n入院時検査：Hb 10.1"
    [first] = row(text, 0, "Hb", "11.2")
    [second] = row(text, 1, "Hb", "10.1", date=(0, "2025/3/1"))
    assert given_to(text, [first, second]) == ["2025/3/1", None]
