"""`app.normalize` reads what charts write, keeps its precision, and says None instead of guessing."""

import datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.normalize import (
    expand_name,
    fold_unit,
    parse_blood_group,
    parse_date,
    parse_dosage,
    parse_graded,
    parse_qualitative,
    parse_quantity,
)
from schemas.record import Comparator, Quantity

NOTE_DAY = datetime.date(2026, 3, 10)

WRITTEN_DATES = [
    # western, every layout
    ("2026/3/4", "2026-03-04"),
    ("2026-03-04", "2026-03-04"),
    ("2026.3.4", "2026-03-04"),
    ("20260304", "2026-03-04"),
    ("２０２６／３／４", "2026-03-04"),
    ("2026 年 3 月 4 日", "2026-03-04"),
    ("2026/3/4(水) 10:30", "2026-03-04"),
    ("'25/4/1", "2025-04-01"),
    ("25/4/1", "2025-04-01"),
    ("24.03.25", "2024-03-25"),
    ("’24年", "2024"),
    ("'98.4", "1998-04"),
    ("2026年3月", "2026-03"),
    ("2026年", "2026"),
    ("2019", "2019"),
    ("4/2024", "2024-04"),
    ("二〇一五年", "2015"),
    # eras
    ("令和8年3月4日", "2026-03-04"),
    ("㋿8年3月4日", "2026-03-04"),
    ("R8.3.4", "2026-03-04"),
    ("R8/3/4", "2026-03-04"),
    ("Ｒ８．３．４", "2026-03-04"),
    ("R080304", "2026-03-04"),
    ("R8年", "2026"),
    ("平成30年", "2018"),
    ("平成三十年十二月", "2018-12"),
    ("H30.5", "2018-05"),
    ("H22.3月", "2010-03"),
    ("昭和63年", "1988"),
    ("S63", "1988"),
    ("大正15年12月25日", "1926-12-25"),
    ("昭和元年12月25日", "1926-12-25"),
    ("明治45年7月30日", "1912-07-30"),
    ("令和元年5月1日", "2019-05-01"),
    ("R元.5.1", "2019-05-01"),
    ("平成31年4月30日", "2019-04-30"),
    ("平成31年", "2019"),
    # without a year
    ("9/1", "2025-09-01"),
    ("9-14", "2025-09-14"),
    ("3月4日", "2026-03-04"),
    ("3/10", "2026-03-10"),
    ("3/11", "2025-03-11"),
    ("3月", "2026-03"),
    ("4月頃", "2025-04"),
    ("7/28", "2025-07-28"),
    ("2/29", "2024-02-29"),
    ("31日", "2026-01-31"),
    # relative
    ("本日", "2026-03-10"),
    ("今朝", "2026-03-10"),
    ("昨日", "2026-03-09"),
    ("前日", "2026-03-09"),
    ("一昨日", "2026-03-08"),
    ("3日前", "2026-03-07"),
    ("三日前から", "2026-03-07"),
    ("約2週間前", "2026-02-24"),
    ("1か月前", "2026-02"),
    ("3ヶ月前", "2025-12"),
    ("半年前", "2025-09"),
    ("10年前", "2016"),
    ("先月", "2026-02"),
    ("先月10日", "2026-02-10"),
    ("今月", "2026-03"),
    ("昨年", "2025"),
    ("昨年3月", "2025-03"),
    ("昨年の12月頃", "2025-12"),
    ("昨年3/4", "2025-03-04"),
    ("一昨年", "2024"),
    ("今年", "2026"),
    # words around it, ranges
    ("2015年頃", "2015"),
    ("2015年発症", "2015"),
    ("発症日：2024/3/1", "2024-03-01"),
    ("（2024年3月診断）", "2024-03"),
    ("2015年〜2020年", "2015"),
    ("2015-2020", "2015"),
    ("2015〜2020年", "2015"),
    ("2015年から2020年まで", "2015"),
    ("3/4～3/6", "2026-03-04"),
    ("2024年5月上旬", "2024-05"),
]


@pytest.mark.parametrize(("text", "expected"), WRITTEN_DATES)
def test_a_written_date_is_read_at_its_precision(text: str, expected: str) -> None:
    assert parse_date(text, NOTE_DAY) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("2/30", "2026/13/1", "2023年2月29日", "2026-3-40", "2015-16", "0/5"),
        *(
            "平成31年5月1日",
            "平成31年5月",
            "昭和64年1月8日",
            "昭和65年",
            "明治45年7月31日",
            "令和元年4月30日",
            "H0.1.1",
        ),
        *("明治5年11月9日", "10/4/1", "25/13/1", "24年", "202604", "同日", "来院時", "入院時", "数年前", "2〜3日前", "2-3日前"),
        *(
            "3日間",
            "3日目",
            "2024年度",
            "1990年代",
            "2015年以前",
            "〜2020年",
            "40歳",
            "S5 3.4",
            "先週",
            "3日後",
            "",
            "ー",
        ),
    ],
)
def test_an_impossible_or_unclear_date_is_none(text: str) -> None:
    assert parse_date(text, NOTE_DAY) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("9/1", "2026-09-01"), ("3月4日", "2027-03-04"), ("3/10", "2026-03-10"), ("2月", "2027-02")),
        *(("2/29", "2028-02-29"), ("来月", "2026-04"), ("1週間後", "2026-03-17"), ("明日", "2026-03-11")),
    ],
)
def test_a_planned_date_is_the_next_one(text: str, expected: str) -> None:
    assert parse_date(text, NOTE_DAY, past=False) == expected


DAYS = st.dates(datetime.date(1900, 1, 1), datetime.date(2099, 12, 31))


@pytest.mark.parametrize(
    "layout",
    [
        *("{0.year}/{0.month}/{0.day}", "{0.year}-{0.month:02}-{0.day:02}", "{0.year}.{0.month}.{0.day}"),
        *("{0.year}{0.month:02}{0.day:02}", "{0.year}年{0.month}月{0.day}日", "{0.year}年{0.month}/{0.day}"),
        *("{0.year}/{0.month:02}/{0.day:02} 08:30", "{0.year}年{0.month}月{0.day}日頃発症"),
    ],
)
@given(day=DAYS, reference=DAYS)
def test_every_day_is_read_back_from_each_layout(layout: str, day: datetime.date, reference: datetime.date) -> None:
    assert parse_date(layout.format(day), reference) == day.isoformat()


@given(day=DAYS, reference=DAYS, past=st.booleans())
def test_a_day_without_a_year_is_the_nearest_on_the_asked_side(
    day: datetime.date, reference: datetime.date, past: bool
) -> None:
    found = datetime.date.fromisoformat(parse_date(f"{day.month}/{day.day}", reference, past=past) or "")
    assert (found.month, found.day) == (day.month, day.day)
    assert found <= reference if past else found >= reference
    if (day.month, day.day) != (2, 29):
        assert abs((found - reference).days) < 366


def test_every_day_since_taisho_round_trips_through_its_era() -> None:
    eras = [
        ("令和", "R", datetime.date(2019, 5, 1)),
        ("平成", "H", datetime.date(1989, 1, 8)),
        ("昭和", "S", datetime.date(1926, 12, 25)),
        ("大正", "T", datetime.date(1912, 7, 30)),
    ]
    day = datetime.date(1912, 7, 30)
    while day.year <= 2030:
        name, letter, start = next(era for era in eras if day >= era[2])
        year = day.year - start.year + 1
        assert parse_date(f"{name}{'元' if year == 1 else year}年{day.month}月{day.day}日", NOTE_DAY) == day.isoformat()
        assert parse_date(f"{letter}{year}.{day.month}.{day.day}", NOTE_DAY) == day.isoformat()
        day += datetime.timedelta(days=1)


LT, LE, GE, GT = Comparator.LT, Comparator.LE, Comparator.GE, Comparator.GT


@pytest.mark.parametrize(
    ("value", "unit", "digits", "comparator", "folded"),
    [
        ("1.10", "mg/dL", "1.10", None, "mg/dL"),
        ("７．２", "％", "7.2", None, "%"),
        ("<0.5", None, "0.5", LT, None),
        ("＜０．５", "㎎／㎗", "0.5", LT, "mg/dl"),
        ("≦3", "μg/mL", "3", LE, "ug/mL"),
        (">=100", "U/L", "100", GE, "U/L"),
        ("≧ 100", "U/L", "100", GE, "U/L"),
        ("0.5以下", None, "0.5", LE, None),
        ("10 未満", "U/L", "10", LT, "U/L"),
        ("100以上", None, "100", GE, None),
        ("100超", None, "100", GT, None),
        ("1,234", "U/L", "1234", None, "U/L"),
        ("1,234,567", None, "1234567", None, None),
        ("21.3", "万/μL", "21.3", None, "万/uL"),
        ("21.3万", "/μL", "21.3", None, "万/uL"),
        ("21.3万", "万/μL", "21.3", None, "万/uL"),
        ("21.3万", None, "21.3", None, "万"),
        ("1万2千", "/μL", "12000", None, "/uL"),
        ("5.1", "×10^4/μL", "5.1", None, "10^4/uL"),
        ("5.1", "×10⁴／µL", "5.1", None, "10^4/uL"),
        ("5.1×10^4", "/μL", "5.1", None, "10^4/uL"),
        ("-2.3", "mmol/L", "-2.3", None, "mmol/L"),
        ("−2.3", "mmol/L", "-2.3", None, "mmol/L"),
        ("7.2%", None, "7.2", None, "%"),
        ("80倍以上", None, "80", GE, "倍"),
        ("7.2↑", "%", "7.2", None, "%"),
        ("5.6H", "mg/dL", "5.6", None, "mg/dL"),
    ],
)
def test_a_quantity_keeps_its_digits(
    value: str, unit: str | None, digits: str, comparator: Comparator | None, folded: str | None
) -> None:
    found = parse_quantity(value, unit)
    assert found == Quantity(value=Decimal(digits), comparator=comparator, unit=folded)
    assert found is not None and str(found.value) == digits


@pytest.mark.parametrize(
    "value",
    [
        "",
        "mL",
        "120/80",
        "1:8",
        "1-4",
        "1〜4",
        "1,23",
        "1 2",
        "+1",
        "2+",
        "陽性",
        "1.2e5",
        "<5以上",
        "1.2.3",
        "2分30秒",
    ],
)
def test_what_is_not_one_number_is_no_quantity(value: str) -> None:
    assert parse_quantity(value, None) is None


def test_a_unit_in_the_value_that_contradicts_the_unit_is_none() -> None:
    assert parse_quantity("5mg/dL", "g/L") is None


@pytest.mark.parametrize(
    ("written", "folded"),
    [
        *(
            ("μg/mL", "ug/mL"),
            ("µIU/mL", "uIU/mL"),
            ("㎎/㎗", "mg/dl"),
            ("ｍｇ／ｄＬ", "mg/dL"),
            ("×10^4/μL", "10^4/uL"),
        ),
        *(
            ("x10^3/uL", "10^3/uL"),
            ("10³/μL", "10^3/uL"),
            ("×10の4乗/μL", "10^4/uL"),
            ("mL/min/1.73㎡", "mL/min/1.73m2"),
        ),
        *(
            ("/㎣", "/mm3"),
            ("mEq / L", "mEq/L"),
            ("万／μＬ", "万/uL"),
            ("％", "%"),
            ("㎍/dL", "ug/dL"),
            ("IU/l", "IU/l"),
        ),
    ],
)
def test_units_fold_and_stay_folded(written: str, folded: str) -> None:
    assert fold_unit(written) == folded
    assert fold_unit(folded) == folded


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *(
            (text, "陽性")
            for text in ("＋", "+", "(+)", "（＋）", "陽性", "pos", "Positive", "検出", "Rh(+)", "RhD陽性", "陽性(+)")
        ),
        *(
            (text, "陰性")
            for text in ("－", "-", "(-)", "（ー）", "陰性", "neg", "ND", "検出せず", "非反応", "陰性（－）")
        ),
        *((text, "判定保留") for text in ("±", "(±)", "判定保留", "擬陽性", "疑陽性")),
        *((text, None) for text in ("2+", "陽性(-)", "7.2", "未検", "", "Rh")),
    ],
)
def test_qualitative_results(value: str, expected: str | None) -> None:
    assert parse_qualitative(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *(
            ("-", "-"),
            ("（－）", "-"),
            ("±", "±"),
            ("+/-", "±"),
            ("＋", "1+"),
            ("(+)", "1+"),
            ("++", "2+"),
            ("(2+)", "2+"),
        ),
        *(("2＋", "2+"), ("２＋", "2+"), ("+++", "3+"), ("4+", "4+"), ("5+", "5+"), ("(+1)", "1+"), ("+1", None)),
        *(("6+", None), ("++++++", None), ("陰性", None), ("1", None), ("", None)),
    ],
)
def test_graded_results(value: str, expected: str | None) -> None:
    assert parse_graded(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *(
            ("A", "A"),
            ("A型", "A"),
            ("ＡＢ", "AB"),
            ("AB型", "AB"),
            ("O型Rh(+)", "O"),
            ("B Rh+", "B"),
            ("A型(Rh+)", "A"),
        ),
        *(("A(+)", "A"), ("0型", "O"), ("AB型 Rh陽性", "AB"), ("C", None), ("Rh(+)", None), ("0", None), ("", None)),
    ],
)
def test_blood_groups(value: str, expected: str | None) -> None:
    assert parse_blood_group(value) == expected


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        *(
            ("ｱﾑﾛｼﾞﾋﾟﾝ", "アムロジピン"),
            ("ＡＢＣ錠５㎎", "ABC錠5mg"),
            (" 糖尿病　２型 ", "糖尿病 2型"),
            ("Ⅱ型糖尿病", "Ⅱ型糖尿病"),
        ),
        *(("カﾞーゼ", "ガーゼ"), ("HbA1c", "HbA1c"), ("", "")),
    ],
)
def test_names_for_display(written: str, shown: str) -> None:
    assert expand_name(written) == shown


@given(
    whole=st.integers(0, 10**9),
    fraction=st.from_regex("[0-9]{0,6}", fullmatch=True),
    comparator=st.sampled_from([None, *Comparator]),
)
def test_any_number_keeps_its_digits(whole: int, fraction: str, comparator: Comparator | None) -> None:
    digits = f"{whole}.{fraction}" if fraction else str(whole)
    found = parse_quantity(f"{comparator or ''}{digits}", "mg/dL")
    assert found == Quantity(value=Decimal(digits), comparator=comparator, unit="mg/dL")
    assert found is not None and found.value.as_tuple() == Decimal(digits).as_tuple()
    grouped = f"{whole:,}.{fraction}" if fraction else f"{whole:,}"
    assert parse_quantity(grouped, None) == Quantity(value=Decimal(digits))


# Characters that the readers look at, so that broken mixtures of them come up often.
CHART_TEXT = st.text(
    "0123456789０９./-〜~年月日週か前後昨先今元令平HRS'錠TCxX×分回朝夕食眠時半毎万千十^+()<≦%μ㎎／ 　,、", max_size=24
)


@given(
    text=st.one_of(st.text(), CHART_TEXT),
    other=st.one_of(st.none(), CHART_TEXT),
    reference=st.dates(),
    past=st.booleans(),
)
def test_no_text_raises(text: str, other: str | None, reference: datetime.date, past: bool) -> None:
    found = parse_date(text, reference, past=past)
    assert found is None or len(found) in (4, 7, 10)
    quantity = parse_quantity(text, other)
    assert quantity is None or quantity.value.is_finite()
    assert isinstance(fold_unit(text), str)
    assert isinstance(expand_name(text), str)
    assert parse_qualitative(text) in {None, "陽性", "陰性", "判定保留"}
    assert parse_graded(text) in {None, "-", "±", "1+", "2+", "3+", "4+", "5+"}
    assert parse_blood_group(text) in {None, "A", "B", "O", "AB"}
    for dosage in (parse_dosage(text, text, other, other), parse_dosage(text, other, text, text)):
        assert dosage.dose is None or dosage.dose.is_finite()
        assert dosage.per_day is None or dosage.per_day > 0


@given(unit=CHART_TEXT)
def test_folding_a_unit_twice_changes_nothing(unit: str) -> None:
    assert fold_unit(fold_unit(unit)) == fold_unit(unit)
