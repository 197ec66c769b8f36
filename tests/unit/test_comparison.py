"""Which statements of two results are the same one, and what they say differently."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from app import comparison
from app.comparison import Change
from app.conversions import fingerprint
from app.db import json_dumps, json_loads
from schemas.coding import Coding
from schemas.record import Quantity, Record
from schemas.statement import AllergyCategory, Assertion, EvidenceSpan, Field, Kind, Statement


def record(kind: Kind, start: int, name: str, code: str | None = None, **said: object) -> Record:
    computed = {key: said.pop(key) for key in ("quantity", "held") if key in said}
    span = EvidenceSpan(start=start, end=start + len(name), quote=name)
    statement = Statement.model_validate({"kind": kind, "fields": {Field.NAME: span}, **said})
    codings = (Coding(system="urn:x", code=code, display=name),) if code else ()
    return Record.model_validate({"statement": statement, "display": name, "codings": codings, **computed})


def changes(before: list[Record], after: list[Record]) -> list[tuple[str, Change, set[str]]]:
    found = comparison.differences(before, after)
    return [(d.name, d.change, {part.part for part in d.parts}) for d in found.differences]


def test_confidences_are_no_difference() -> None:
    one = record(Kind.LAB, 0, "HbA1c", confidence=0.9)
    other = record(Kind.LAB, 0, "HbA1c", confidence=0.3)
    assert changes([one], [other]) == []
    assert comparison.differences([one], [other]).counts == {"lab": {"same": 1, "changed": 0, "new": 0, "gone": 0}}


def test_codes_values_and_assertions_are() -> None:
    before = [
        record(Kind.CONDITION, 0, "肺炎", "J18"),
        record(Kind.LAB, 5, "CRP", quantity=Quantity(value=Decimal("1.1"))),
    ]
    after = [
        record(Kind.CONDITION, 0, "肺炎", "J15", assertion=Assertion.SUSPECTED),
        record(Kind.LAB, 5, "CRP", quantity=Quantity(value=Decimal("1.10"))),
    ]
    assert changes(before, after) == [
        ("肺炎", Change.CHANGED, {"assertion", "codes"}),
        ("CRP", Change.CHANGED, {"computed value"}),
    ]


def test_a_longer_name_is_the_same_statement_and_another_kind_is_not() -> None:
    before, after = record(Kind.CONDITION, 2, "糖尿病"), record(Kind.CONDITION, 0, "2型糖尿病")
    assert changes([before], [after]) == [("2型糖尿病", Change.CHANGED, {"name"})]
    infection = record(Kind.INFECTION, 2, "糖尿病")
    found = changes([before], [infection])
    assert {(name, change) for name, change, _ in found} == {("糖尿病", Change.NEW), ("糖尿病", Change.GONE)}


def test_of_two_over_the_same_characters_each_finds_its_own() -> None:
    stop, start = (record(Kind.PRESCRIPTION, 0, "薬", action=action) for action in ("stop", "prescribe"))
    assert changes([stop, start], [start, stop]) == []
    assert changes([stop, start], [start]) == [("薬", Change.GONE, {"name", "action", "assertion"})]


def test_drug_allergies_come_first_also_where_they_were_one_before() -> None:
    drug = record(Kind.ALLERGY, 9, "ペニシリン", category=AllergyCategory.MEDICATION)
    food = record(Kind.ALLERGY, 9, "ペニシリン", category=AllergyCategory.FOOD)
    found = comparison.differences([drug], [record(Kind.CONDITION, 0, "肺炎"), food]).differences
    assert [(d.kind, d.grave) for d in found] == [(Kind.ALLERGY, True), (Kind.CONDITION, False)]


def test_paths() -> None:
    before = {"a": [{"value": Decimal("1.1")}, 1], "b": None, "c": 5, "d": True}
    after = {"a": [{"value": Decimal("1.10")}], "b": "", "c": Decimal(5), "d": 1}
    found = {path.path: (path.before, path.after) for path in comparison.paths(before, after)}
    assert found == {
        "a[0].value": (Decimal("1.1"), Decimal("1.10")), "a[1]": (1, comparison.MISSING), "b": (None, ""), "d": (True, 1),
    }  # fmt: skip


NUMBERS = st.integers(-(10**17), 10**17) | st.decimals(-(10**9), 10**9, places=4) | st.floats(0, 1, width=64)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(st.characters(exclude_categories=("Cs",)), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_a_fingerprint_is_that_of_what_the_database_gives_back(value: object) -> None:
    back = json_loads(json_dumps({"a": value}))
    assert fingerprint(back) == fingerprint({"a": value})
    assert list(comparison.paths({"a": value}, back)) == []
