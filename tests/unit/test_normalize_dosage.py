"""`parse_dosage` computes the amount of one intake from what charts write, or leaves it out."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.normalize import parse_dosage

WRITTEN_DOSAGES = [
    # dose, usage, days -> dose per intake, unit, per day, days of supply
    ("3錠", "分3 毎食後", "28日分", "1", "錠", 3, 28),
    ("2T", "2x朝夕", "14TD", "1", "錠", 2, 14),
    ("1回1錠", "1日3回毎食後", None, "1", "錠", 3, None),
    ("1錠", "1日1回朝食後", "×14日", "1", "錠", 1, 14),
    ("2錠", "1日2回", "7日間", "2", "錠", 2, 7),
    ("1日6錠", "分3", "14日", "2", "錠", 3, 14),
    ("1日6錠", "3回に分けて", None, "2", "錠", 3, None),
    ("1日6錠", None, None, "6", "錠/日", None, None),
    ("1日1錠", "朝食後", None, "1", "錠", 1, None),
    ("2錠", "朝夕食後", "28", "2", "錠", 2, 28),
    ("15mg/日", None, None, "15", "mg/日", None, None),
    ("15mg/日", "朝食後", None, "15", "mg/日", 1, None),
    ("15mg/日", "分3", None, "5", "mg", 3, None),
    ("6mg/週", "週1回", None, "6", "mg/週", None, None),
    ("4-4-4単位", "毎食直前", None, "4", "単位", 3, None),
    ("4-4-6単位", "毎食直前", None, None, None, 3, None),
    ("6-0-6単位", "", None, "6", "単位", 2, None),
    ("朝2錠夕1錠", None, None, None, None, 2, None),
    ("3錠", "分2 朝2錠夕1錠", None, None, None, 2, None),
    ("朝1錠夕1錠", None, None, "1", "錠", 2, None),
    ("2T2x", None, None, "1", "錠", 2, None),
    ("3T3x", "毎食後", "7TD", "1", "錠", 3, 7),
    ("3Ｃ", "3×N", "×7日", "1", "カプセル", 3, 7),
    ("1T×3", None, None, "1", "錠", 3, None),
    ("3T/分3", None, None, "1", "錠", 3, None),
    ("1V", "q8h", None, "1", "バイアル", 3, None),
    ("1A", "q12h", None, "1", "アンプル", 2, None),
    ("1g", "q24h", None, "1", "g", 1, None),
    ("0.5g", "8時間毎", None, "0.5", "g", 3, None),
    ("1P", "毎食間", None, "1", "包", 3, None),
    ("10mL", "分2", None, "5", "mL", 2, None),
    ("25μg", "1x朝", None, "25", "ug", 1, None),
    ("2噴霧", "1日1回", None, "2", "噴霧", 1, None),
    ("2吸入", "朝・夕", None, "2", "吸入", 2, None),
    ("1滴", "4回/日 両眼", None, "1", "滴", 4, None),
    ("1枚", "1日1回貼付", "7日分", "1", "枚", 1, 7),
    ("半錠", "朝", None, "0.5", "錠", 1, None),
    ("１／２錠", "1x", None, "0.5", "錠", 1, None),
    ("1/3包", "朝", None, None, None, 1, None),
    ("1錠半", "夕食後", None, "1.5", "錠", 1, None),
    ("0.5錠", "分1 朝食後", "2週間分", "0.5", "錠", 1, 14),
    ("10mg", "分3", None, None, None, 3, None),
    ("7.5g", "分3 毎食前", "14日分", "2.5", "g", 3, 14),
    ("1,000mg", "分2", None, "500", "mg", 2, None),
    ("2000万単位", None, None, "2000", "万単位", None, None),
    ("5mg 1錠", "朝食後", None, "1", "錠", 1, None),
    ("3錠", "分3", "21T.D.", "1", "錠", 3, 21),
    ("1錠", "分1", "/70日", "1", "錠", 1, 70),
    ("12E", "就寝前", None, "12", "単位", 1, None),
    ("4・4・4単位", "毎食直前", None, "4", "単位", 3, None),
    ("4・2・6単位", None, None, None, None, 3, None),
    ("100mg", "2T2x朝夕", None, "1", "錠", 2, None),
    ("5mg→10mg", "1日1回", None, "10", "mg", 1, None),
    ("5mg", "1日1回、1回2錠", None, "2", "錠", 1, None),
    ("1〜2錠", "1日1回", None, None, None, 1, None),
    ("二錠", "一日三回", None, "2", "錠", 3, None),
    ("1錠", "毎食後と眠前", None, "1", "錠", 4, None),
    ("1錠", "朝夕眠前", None, "1", "錠", 3, None),
    ("1錠", "朝昼夕食後", None, "1", "錠", 3, None),
    ("1錠", "就寝前", None, "1", "錠", 1, None),
    ("1錠", "夜寝る前", None, "1", "錠", 1, None),
    ("1錠", "起床時", None, "1", "錠", 1, None),
    ("1錠", "食前30分 1日3回", None, "1", "錠", 3, None),
    ("1錠", "週1回", "4週間分", "1", "錠", None, 28),
    ("1錠", "隔日 朝食後", None, "1", "錠", None, None),
    ("1キット", "月1回", None, "1", "キット", None, None),
    ("1錠", "月・水・金", None, "1", "錠", None, None),
    ("1錠", "1日2〜3回", None, "1", "錠", None, None),
    ("1錠", "1日1回", "1か月分", "1", "錠", 1, None),
    (None, "分2 朝夕食後 14日分", None, None, None, 2, 14),
    ("適量", "1日2回塗布", None, None, None, 2, None),
]


@pytest.mark.parametrize(("dose", "usage", "days", "number", "unit", "per_day", "supply"), WRITTEN_DOSAGES)
def test_a_dosage_is_per_intake(
    dose: str | None,
    usage: str | None,
    days: str | None,
    number: str | None,
    unit: str | None,
    per_day: int | None,
    supply: int | None,
) -> None:
    found = parse_dosage("アムロジピン錠5mg", dose, usage, days)
    assert (found.dose, found.dose_unit) == (Decimal(number) if number else None, unit)
    assert (found.per_day, found.days, found.as_needed) == (per_day, supply, False)


@pytest.mark.parametrize(
    "usage",
    [
        *("頓用", "頓服", "屯用", "疼痛時", "発熱時", "不眠時", "便秘時", "頭痛時", "発作時", "prn", "必要時", "適宜"),
        *("38.5℃以上の時", "痛いとき", "不眠時 就寝前", "疼痛時 1日3回まで"),
    ],
)
def test_as_needed_has_neither_days_nor_times_that_are_not_written(usage: str) -> None:
    found = parse_dosage("ロキソプロフェン錠60mg", "1錠", usage, "5回分")
    assert found.as_needed
    assert (found.dose, found.dose_unit, found.per_day, found.days) == (Decimal(1), "錠", None, None)


def test_as_needed_keeps_a_written_number_of_times() -> None:
    assert parse_dosage("ロキソプロフェン錠60mg", "1錠", "疼痛時 1日3回", None).per_day == 3


def test_the_written_form_is_joined() -> None:
    assert parse_dosage("x", "10mg ", "分3", "７日分").text == "10mg 分3 ７日分"
    assert parse_dosage("x", None, None, None).text is None


def test_the_t_of_a_patch_is_no_tablet() -> None:
    assert parse_dosage("ロキソプロフェンテープ100mg", "1T", "1日1回", None).dose is None


@given(per_intake=st.decimals("0.25", "50", places=2), times=st.integers(1, 6))
def test_a_split_total_divides_back(per_intake: Decimal, times: int) -> None:
    found = parse_dosage("散", f"{per_intake * times}g", f"分{times}", None)
    assert (found.dose, found.per_day) == (per_intake, times)


@pytest.mark.parametrize(("dose", "usage"), [("8/11", None), ("8/11", "1日3回"), ("1/2", "1日1回"), ("3/4", "分3")])
def test_a_fraction_without_a_unit_may_be_a_date_and_is_no_amount(dose: str, usage: str | None) -> None:
    assert parse_dosage("セフメタゾール", dose, usage, None).dose is None


@pytest.mark.parametrize(
    ("dose", "usage", "amount"),
    [("8/11錠", None, None), ("1/3錠", None, None), ("1/2錠", None, "0.5"), ("10mg", "分3", None), ("7mg", "分7", "1")],
)
def test_a_dose_is_never_rounded(dose: str, usage: str | None, amount: str | None) -> None:
    """8/11 has no end, and its first 28 digits times 11 are 8 again."""
    found = parse_dosage("薬", dose, usage, None).dose
    assert found == (None if amount is None else Decimal(amount))
