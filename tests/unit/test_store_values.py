"""What a resource has under its search parameters, and how written values are read."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidInput
from app.store.parameters import BY_NUMBER, CHOICES, MAIN_DATE, MANDATORY, PARAMETERS, STORED_TYPES, SUMMARY
from app.store.projection import projected
from app.store.values import JAPAN, MAX_KEY, cut, date_range, folded, parted, plain, stored_range, values_of

DAY = timedelta(days=1)
moments = st.datetimes(datetime(1, 1, 2), datetime(9998, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001  # as it wants them


def named(content: dict[str, Any], name: str) -> set[tuple[Any, ...]]:
    """What the resource has under one parameter, without the number."""
    number = PARAMETERS[content["resourceType"]][name].number
    found = values_of(content)
    every = (*found.tokens, *found.dates, *found.references, *found.strings, *found.quantities)
    return {row[1:] for row in every if row[0] == number}


# --- the tables -------------------------------------------------------------------------------------------------------


def test_numbers_are_unique_and_a_type_has_one_main_date_at_most() -> None:
    every = [parameter for found in PARAMETERS.values() for parameter in found.values()]
    assert len({(p.number, p.name, p.definition) for p in every}) == len(BY_NUMBER)
    for type_ in STORED_TYPES:
        assert sum(parameter.main for parameter in PARAMETERS[type_].values()) <= 1
        assert {"_profile", "_tag", "_security", "_source", "identifier"} <= set(PARAMETERS[type_]) | {"identifier"}
        assert MANDATORY[type_] is not None and SUMMARY[type_] and type_ in CHOICES
    assert MAIN_DATE["Observation"].name == "date"


# --- dates ------------------------------------------------------------------------------------------------------------


@given(moments)
def test_a_date_of_any_precision_covers_the_whole_of_what_it_names(moment: datetime) -> None:
    written = {
        f"{moment:%Y}".zfill(4): (moment.year, None),
        f"{moment.year:04}-{moment:%m}": (moment.month, None),
        f"{moment.year:04}-{moment:%m-%d}": (moment.day, DAY),
        f"{moment.year:04}-{moment:%m-%dT%H:%M}": (moment.minute, timedelta(minutes=1)),
        f"{moment.year:04}-{moment:%m-%dT%H:%M:%S}": (moment.second, timedelta(seconds=1)),
        f"{moment.year:04}-{moment:%m-%dT%H:%M:%S}.5": (moment.second, timedelta(milliseconds=100)),
    }
    before: tuple[datetime, datetime] | None = None
    for text, (_, length) in written.items():
        start, end = date_range(text)
        assert end is not None and start.utcoffset() == JAPAN.utcoffset(None)
        if length is not None:
            assert end - start == length
        if before is not None and "." not in text:  # each lies within the one of less precision
            assert before[0] <= start and end <= before[1]
        before = (start, end) if "." not in text else before


@given(moments, st.integers(-14 * 60, 14 * 60))
def test_a_zone_is_counted(moment: datetime, minutes: int) -> None:
    zone = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
    whole = moment.replace(microsecond=0)
    start, _ = date_range(f"{whole.isoformat()[:19]}{zone}")
    assert start == whole - timedelta(minutes=minutes)


@pytest.mark.parametrize(
    ("written", "start", "end"),
    [
        ("2024-02", "2024-02-01T00:00+09:00", "2024-03-01T00:00+09:00"),
        ("2024-12", "2024-12-01T00:00+09:00", "2025-01-01T00:00+09:00"),
        ("2024-02-29", "2024-02-29T00:00+09:00", "2024-03-01T00:00+09:00"),
        ("2024-01-01T00:00:00Z", "2024-01-01T09:00+09:00", "2024-01-01T09:00:01+09:00"),
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59+00:00", "2017-01-01T00:00+00:00"),
        ("2024-01-01T00:00:00.1234567Z", "2024-01-01T00:00:00.123456+00:00", "2024-01-01T00:00:00.123457+00:00"),
    ],
)
def test_dates_as_r4_writes_them(written: str, start: str, end: str) -> None:
    assert date_range(written) == (datetime.fromisoformat(start), datetime.fromisoformat(end))


@pytest.mark.parametrize("written", ["", "24", "2024-1", "2024-13", "2023-02-29", "2024-01-01T25:00", "2024-01-01 ", "x", "２０２４"])
def test_what_is_no_date_is_refused(written: str) -> None:
    with pytest.raises(InvalidInput):
        date_range(written)


def test_periods_and_timings_are_their_outer_limits() -> None:
    assert stored_range({"start": "2024-01", "end": "2024-02-03"}) == (
        datetime(2024, 1, 1, tzinfo=JAPAN), datetime(2024, 2, 4, tzinfo=JAPAN),
    )  # fmt: skip
    assert stored_range({"start": "2024"}) == (datetime(2024, 1, 1, tzinfo=JAPAN), None)
    assert stored_range({"end": "2024"}) == (None, datetime(2025, 1, 1, tzinfo=JAPAN))
    timing = {"event": ["2024-05-01", "2024-03-01"], "repeat": {"boundsPeriod": {"start": "2024-04", "end": "2024-06"}}}
    assert stored_range(timing) == (datetime(2024, 3, 1, tzinfo=JAPAN), datetime(2024, 7, 1, tzinfo=JAPAN))
    assert stored_range({}) is None and stored_range({"start": "soon"}) is None
    assert stored_range("9999-12-31")[1] is None  # type: ignore[index]


# --- tokens and texts -------------------------------------------------------------------------------------------------


@given(st.lists(st.text(alphabet=st.sampled_from("ab,|$\\ あ"), max_size=8), min_size=1, max_size=5))
def test_what_is_escaped_comes_back_as_it_was(values: list[str]) -> None:
    written = ",".join(re.sub(r"([,|$\\])", r"\\\1", value) for value in values)
    assert [plain(part) for part in parted(written, ",")] == values


@given(st.text(max_size=2 * MAX_KEY), st.text(max_size=2 * MAX_KEY))
def test_a_long_text_stays_a_key(one: str, other: str) -> None:
    keys = cut(one), cut(other)
    assert (keys[0] == keys[1]) == (one == other)
    assert keys[0] is not None and len(keys[0]) <= MAX_KEY


@pytest.mark.parametrize(
    ("one", "other"),
    [("ﾔﾏﾀﾞ", "やまだ"), ("Ｓｊöｇｒｅｎ", "sjogren"), ("山田　太郎", "山田太郎"), ("STRASSE", "straße")],
)
def test_spellings_of_one_text_are_equal(one: str, other: str) -> None:
    assert folded(one) == folded(other)


def test_voiced_kana_are_letters_of_their_own() -> None:
    assert folded("かき") != folded("がき") and folded("はは") != folded("ぱぱ")


def test_every_shape_of_a_token() -> None:
    observation = {
        "resourceType": "Observation",
        "id": "1",
        "status": "final",
        "identifier": [{"system": "urn:a", "value": "1"}, {"value": "2"}, {"system": "urn:b"}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "4548-4"}, {"code": "x"}], "text": "HbA1c"},
        "category": [{"text": "検査"}],
    }
    assert named(observation, "identifier") == {("urn:a", "1"), (None, "2"), (None, None)}
    assert named(observation, "code") == {("http://loinc.org", "4548-4"), (None, "x")}
    assert named(observation, "category") == {(None, None)}  # it is there, without a code
    assert named(observation, "status") == {("http://hl7.org/fhir/observation-status", "final")}
    patient = {
        "resourceType": "Patient",
        "id": "1",
        "active": True,
        "telecom": [{"system": "phone", "value": "03", "use": "home"}, {"system": "email", "value": "a@example.org"}],
    }
    assert named(patient, "active") == {(None, "true")} and named(patient, "phone") == {("home", "03")}
    assert named(patient, "email") == {(None, "a@example.org")} and len(named(patient, "telecom")) == 2
    assert named(patient, "deceased") == {(None, "false")}
    assert named(patient | {"deceasedDateTime": "2024"}, "deceased") == {(None, "true")}


def test_references_lead_to_types_that_the_parameter_allows() -> None:
    observation = {"resourceType": "Observation", "id": "1", "subject": {"reference": "Patient/7/_history/2"}}
    assert named(observation, "subject") == named(observation, "patient") == {("Patient", "7", None)}
    assert values_of(observation).patient == "7"
    group = {"resourceType": "Observation", "id": "1", "subject": {"reference": "Group/7"}}
    assert named(group, "patient") == set() and values_of(group).patient is None
    away = {"resourceType": "Observation", "id": "1", "subject": {"reference": "https://example.org/fhir/Patient/7"}}
    assert named(away, "patient") == {(None, None, "https://example.org/fhir/Patient/7")}
    told = {"resourceType": "Observation", "id": "1", "subject": {"identifier": {"system": "urn:p", "value": "9"}}}
    assert named(told, "patient") == {(None, None, None), ("urn:p", "9")}  # a reference without an address; its identifier


def test_quantities_are_ranges() -> None:
    def value(quantity: dict[str, Any]) -> set[tuple[Any, ...]]:
        return named({"resourceType": "Observation", "id": "1", "valueQuantity": quantity}, "value-quantity")

    assert value({"value": Decimal("5.40"), "unit": "mg", "system": "http://unitsofmeasure.org", "code": "mg"}) == {
        (Decimal("5.40"), Decimal("5.40"), "http://unitsofmeasure.org", "mg", "mg")
    }
    assert value({"value": 5, "comparator": "<"}) == {(Decimal("-Infinity"), Decimal(5), None, None, None)}
    assert value({"unit": "mg"}) == set()
    onset = {"resourceType": "Condition", "id": "1", "onsetRange": {"low": {"value": 40, "unit": "a"}, "high": {"value": 50}}}
    assert named(onset, "onset-age") == {(Decimal(40), Decimal(50), None, None, "a")}


@pytest.mark.parametrize("content", [
    {"code": 7, "category": "x", "subject": "Patient", "effectivePeriod": [], "valueQuantity": {"value": True}},
    {"code": [{"coding": [None, 1, {"code": 4}]}], "identifier": {"value": 3}, "subject": [None], "effectiveDateTime": 5},
    {"meta": [], "component": [[{"code": {}}]], "note": {}, "subject": {"reference": 5, "identifier": 4}},
])  # fmt: skip
def test_what_has_not_its_shape_is_passed_over(content: dict[str, Any]) -> None:
    assert values_of({"resourceType": "Observation", "id": "1", **content}).dated is None


_LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.decimals(allow_nan=False), st.text(max_size=8),
    st.sampled_from(["2024-13", "0000", "0001-01-01T00:00:00+99:99", "9999", "Patient/1", "#x", "urn:uuid:1", "http://a/Patient/1|2"]),
)  # fmt: skip
_KEYS = st.sampled_from(["coding", "code", "system", "value", "reference", "identifier", "start", "end", "low", "family", "text", "event"])
_JSON = st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4), max_leaves=12)


@given(st.sampled_from(STORED_TYPES), st.data())
def test_no_content_stops_a_conversion(type_: str, data: st.DataObject) -> None:
    firsts = sorted({path.steps[0] for parameter in PARAMETERS[type_].values() for path in parameter.paths})
    content = data.draw(st.dictionaries(st.sampled_from(firsts), _JSON, max_size=6))
    found = values_of({"resourceType": type_, "id": "1", **content})
    texts = [part for rows in (found.tokens, found.references) for row in rows for part in row[1:] if part is not None]
    assert all(len(part) <= MAX_KEY for part in texts)


# --- parts of resources -----------------------------------------------------------------------------------------------


def test_a_part_of_a_resource_keeps_what_r4_makes_mandatory_and_says_that_it_is_one() -> None:
    whole = {
        "resourceType": "Observation",
        "id": "1",
        "meta": {"versionId": "3"},
        "text": {"status": "generated", "div": "<div/>"},
        "status": "final",
        "_status": {"extension": []},
        "code": {"text": "HbA1c"},
        "valueQuantity": {"value": Decimal("1.10")},
        "note": [{"text": "x"}],
    }
    assert projected(whole) is whole and projected(whole, "false") is whole
    some = projected(whole, None, ["value"])
    assert set(some) == {"resourceType", "id", "meta", "status", "_status", "code", "valueQuantity"}
    assert some["meta"]["tag"][-1]["code"] == "SUBSETTED" and some["meta"]["versionId"] == "3"
    assert set(projected(whole, "text")) == {"resourceType", "id", "meta", "text", "status", "_status", "code"}
    assert set(projected(whole, "data")) == set(whole) - {"text"}
    assert "note" not in projected(whole, "true") and "valueQuantity" in projected(whole, "true")
    document = {
        "resourceType": "DocumentReference", "id": "1", "status": "current",
        "content": [{"attachment": {"contentType": "text/plain", "data": "eA=="}}],
    }  # fmt: skip
    assert projected(document, "true")["content"] == [{"attachment": {"contentType": "text/plain"}}]
    assert "tag" not in whole["meta"]
