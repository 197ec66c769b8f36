"""Reference ranges as charts write them -> limits."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.normalize import parse_reference_range


@pytest.mark.parametrize(("quote", "low", "high"), [
    ("3.5-5.0", "3.5", "5.0"),
    ("(3.5-5.0)", "3.5", "5.0"),
    ("[13〜30]", "13", "30"),
    ("１３～３０", "13", "30"),
    ("0.46–0.79", "0.46", "0.79"),
    ("0.0ー0.3", "0.0", "0.3"),
    ("13 - 30 U/L", "13", "30"),
    ("基準値 3.5～5.0", "3.5", "5.0"),
    ("基準範囲：3.5〜5.0", "3.5", "5.0"),
    ("基準値(3.5-5.0 mEq/L)", "3.5", "5.0"),
    ("(基準 3.5-5.0)", "3.5", "5.0"),
    ("158,000-348,000/μL", "158000", "348000"),
    ("15.8-34.8万/μL", "15.8", "34.8"),
    ("3.3-8.6×10^3/μL", "3.3", "8.6"),
    ("3.5以上5.0未満", "3.5", "5.0"),
    ("-2.0~2.0", "-2.0", "2.0"),
    ("<0.3", None, "0.3"),
    ("＜０．３", None, "0.3"),
    ("(0.3以下)", None, "0.3"),
    ("0.30mg/dL未満", None, "0.30"),
    ("≦0.14", None, "0.14"),
    ("～40", None, "40"),
    ("60以上", "60", None),
    (">=60", "60", None),
    ("40〜", "40", None),
])  # fmt: skip
def test_limits(quote: str, low: str | None, high: str | None) -> None:
    found = parse_reference_range(quote)
    assert found is not None
    # As text: 5.0 must not become 5.
    assert [None if limit is None else str(limit) for limit in found] == [low, high]


@pytest.mark.parametrize("quote", [
    "", "7.6", "前回 7.6", "前回 3.5-5.0", "3/14", "132/76", "1:8", "4-4-6", "03-1234", "090-1234-5678", "8:30-9:00", "8-10時",
    "5.0-3.5", "3-3", "-0.3", "2+", "(-)", "陰性", "3 14-5", "2026-03-14", "3月1日-5日", "<0.3>", "<3-5", "3.5-", "男 13-17",
])  # fmt: skip
def test_what_is_no_range(quote: str) -> None:
    assert parse_reference_range(quote) is None


_NUMBERS = st.decimals(0, 99999, places=2) | st.integers(0, 999999).map(Decimal)


@given(_NUMBERS, _NUMBERS, st.sampled_from(["-", "~", "〜", "～", " - ", "−", "–"]), st.sampled_from(["{}", "({})", "[{}]", "基準値 {}", "{}U/L"]))
def test_low_is_below_high_and_the_digits_stay(low: Decimal, high: Decimal, sign: str, frame: str) -> None:
    found = parse_reference_range(frame.format(f"{low}{sign}{high}"))
    if low < high:
        assert found is not None
        assert (str(found[0]), str(found[1])) == (str(low), str(high))
    else:
        assert found is None


@given(st.text(st.sampled_from("0123456789.,-~〜<>≦≧=以上下未満()[] /:mgdLU%基準値年月"), max_size=16) | st.text(max_size=12))
def test_any_text(text: str) -> None:
    found = parse_reference_range(text)
    if found is not None:
        low, high = found
        assert low is not None or high is not None
        assert low is None or high is None or low < high
