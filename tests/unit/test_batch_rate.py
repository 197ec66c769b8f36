"""Notes an hour by time of day."""

from datetime import UTC, datetime, timedelta

import pytest

from schemas.batch import JAPAN, Rate


def at(hour: int, minute: int = 0, day: int = 1) -> datetime:
    return datetime(2026, 4, day, hour, minute, tzinfo=JAPAN)


def test_a_rate_by_time_of_day() -> None:
    rate = Rate.parse("08:00-18:00=600/h,else=unlimited")
    assert [rate.at(at(7, 59)), rate.at(at(8)), rate.at(at(17, 59)), rate.at(at(18))] == [None, 600, 600, None]
    assert rate.at(at(8).astimezone(UTC)) == 600, "the day is Japan's, whatever the clock's zone"
    assert (rate.until(at(7)), rate.until(at(8)), rate.until(at(18))) == (at(8), at(18), at(8, day=2))


def test_a_span_over_midnight_and_nothing_in_the_day() -> None:
    rate = Rate.parse("22:00-06:00=unlimited, else=0")
    assert [rate.at(at(hour)) for hour in (23, 5, 6, 12, 21)] == [None, None, 0, 0, 0]
    assert Rate.parse("18:00-24:00=0/h").at(at(23, 59)) == 0
    assert (Rate.parse("600/h").at(at(3)), Rate.parse("600/h").until(at(3)), Rate.parse("unlimited").at(at(3))) == (
        600, None, None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("", "a limit is as"),
        ("fast", "a limit is as"),
        ("08:00-18:00", "a limit is as"),
        ("8-18=600/h", "not as 600/h"),
        ("08:00-25:00=1/h", "no time of day"),
        ("24:00-06:00=1/h", "no time of day"),
        ("08:00-08:00=1/h", "is empty"),
        ("08:00-12:00=1/h,11:59-13:00=2/h", "two spans hold 11:59"),
        ("else=1/h,else=2/h", "not as 600/h"),
        ("600/h,700/h", "not as 600/h"),
        ("08:00-18:00=-1/h", "a limit is as"),
    ],
)
def test_what_is_no_rate_is_refused_with_what_to_write(written: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Rate.parse(written)


def test_the_end_waits_for_the_night() -> None:
    rate = Rate.parse("08:00-18:00=600/h,else=unlimited")
    assert rate.end_of(at(7), 1000, 1000.0) == at(8)
    # 1,000 before eight, 6,000 in the day, the last 500 in half an hour of the night.
    assert rate.end_of(at(7), 7500, 1000.0) == at(18, 30)
    assert Rate.parse("06:00-22:00=0").end_of(at(12), 100, 100.0) == at(23)
    assert Rate().end_of(at(12), 50, 100.0) == at(12) + timedelta(minutes=30)
    assert Rate.parse("0/h").end_of(at(12), 1, 100.0) is None
    assert Rate().end_of(at(12), 0, 0.0) == at(12)
