"""Rule 37: each prefix against https://hl7.org/fhir/R4/search.html#prefix, as sets of days; Postgres compares."""

from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from app.db import Database
from app.store.comparisons import PREFIXES, in_range, timestamp
from app.store.values import JAPAN

FIRST = datetime(2024, 1, 1, tzinfo=JAPAN)
END = 12
ranges = st.tuples(st.integers(1, END - 2), st.integers(1, 4)).map(lambda pair: (pair[0], min(pair[0] + pair[1], END - 1)))
"""Days from, until; days 0 and 11 are in none."""


def matches(prefix: str, stored: set[int], searched: set[int]) -> bool:
    """As the standard words it: the ranges below and above the searched one, overlaps, contains."""
    below, above = set(range(min(searched))), set(range(max(searched) + 1, END))
    contained = stored <= searched
    return {
        "eq": contained,
        "ne": not contained,
        "lt": bool(stored & below),
        "gt": bool(stored & above),
        "le": bool(stored & below) or contained,
        "ge": bool(stored & above) or contained,
        "sa": stored <= above,
        "eb": stored <= below,
    }[prefix]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stored=ranges, searched=ranges, opened=st.booleans())
def test_rule_37_every_prefix_compares_ranges(
    database: Database, stored: tuple[int, int], searched: tuple[int, int], opened: bool
) -> None:
    low, high = (FIRST + timedelta(days=day) for day in searched)
    starts = timestamp(FIRST + timedelta(days=stored[0]))
    ends = timestamp(None if opened else FIRST + timedelta(days=stored[1]))
    days = set(range(stored[0], END if opened else stored[1]))
    chosen = [prefix for prefix in PREFIXES if prefix != "ap"]
    with database.engine.connect() as connection:
        found = connection.execute(select(*(in_range(prefix, starts, ends, low, high) for prefix in chosen))).one()
    wanted = [matches(prefix, days, set(range(*searched))) for prefix in chosen]
    assert dict(zip(chosen, found, strict=True)) == dict(zip(chosen, wanted, strict=True))


@pytest.mark.parametrize(("years_off", "found"), [(0, True), (20, False)])
def test_rule_37_about_is_within_a_tenth_of_the_time_since(database: Database, years_off: int, found: bool) -> None:
    """Of a day in 2024 a tenth is some months; twenty years beside it are too far."""
    day = FIRST + timedelta(days=366 * years_off)
    with database.engine.connect() as connection:
        args = (timestamp(day), timestamp(day + timedelta(days=1)), FIRST, FIRST + timedelta(days=1))
        assert connection.scalar(select(in_range("ap", *args))) is found
