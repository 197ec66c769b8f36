"""What a patient's notes say together: one entry for each disease and allergy, with an id that stays."""

from collections.abc import Sequence
from datetime import date

import pytest
from ssmix2_cases import ICD10, KEY_NUMBER, a_note, allergy, condition

from app.ssmix2 import merged
from schemas.coding import Coding
from schemas.record import Modifier, ModifierPosition, Record
from schemas.statement import AllergyCategory, Assertion, Kind

PRESENT, SUSPECTED, PAST, ABSENT = Assertion.PRESENT, Assertion.SUSPECTED, Assertion.PAST, Assertion.ABSENT
GASTRITIS = Coding(system=KEY_NUMBER, code="20054174", display="胃炎")


def together(*notes: Sequence[Record], kind: Kind = Kind.CONDITION) -> list[tuple[str, str, str]]:
    """Name, assertion and date of what is written."""
    findings, _ = merged(kind, [(None, records) for records in notes], "P1")
    assert len({finding.key for finding in findings}) == len(findings)
    return [(f.record.display, f.record.statement.assertion.value, f.record.date or "") for f in findings]


def key_of(*notes: Sequence[Record], patient: str = "P1") -> list[str]:
    return [finding.key for finding in merged(Kind.CONDITION, [(None, records) for records in notes], patient)[0]]


def test_one_disease_of_several_notes_is_one_entry() -> None:
    assert together([condition("胃炎")], [], [condition("胃炎")]) == [("胃炎", "present", "")]
    # by the code, however it is worded
    assert together([condition("Gastritis", PRESENT, GASTRITIS)], [condition("胃炎", PRESENT, GASTRITIS)]) == [
        ("胃炎", "present", "")
    ]
    # by the name, whatever its width and case
    assert together([condition("ＣＯＰＤ")], [condition("copd")]) == [("copd", "present", "")]


def test_newest_state_wins() -> None:
    first = [condition("胃炎", SUSPECTED), condition("骨折")]
    assert together(first, [condition("胃炎")], [condition("胃炎", PAST)]) == [
        ("胃炎", "past", ""),
        ("骨折", "present", ""),
    ]


def test_icd_10_alone_is_no_identity() -> None:
    icd10 = Coding(system=ICD10, code="K29.7", display="胃炎")
    assert len(together([condition("胃炎", PRESENT, icd10), condition("びらん性胃炎", PRESENT, icd10)])) == 2


def test_modifiers_make_another_disease() -> None:
    acute = Modifier(position=ModifierPosition.PREFIX, text="急性")
    said = [condition("急性胃炎", PRESENT, GASTRITIS, modifiers=(acute,)), condition("胃炎", PRESENT, GASTRITIS)]
    assert len(together(said)) == 2


def test_a_denial_overrules_older_notes_alone() -> None:
    assert together([condition("胃炎")], [condition("胃炎", ABSENT)]) == []
    assert together([condition("胃炎", ABSENT)], [condition("胃炎")]) == [("胃炎", "present", "")]
    # An allergy that a note states does not vanish behind a careless なし of the same note.
    assert together([condition("胃炎"), condition("胃炎", ABSENT)]) == [("胃炎", "present", "")]
    issues = merged(Kind.CONDITION, [(None, [condition("胃炎")] * 2), (None, [condition("胃炎", ABSENT)])], "P1")[1]
    assert len(issues) == 2


def test_a_relative_says_nothing_of_the_patient() -> None:
    relative = condition("胃炎", Assertion.FAMILY)
    assert together([relative]) == []
    assert together([condition("胃炎", date="2020")], [relative]) == [("胃炎", "present", "2020")]


@pytest.mark.parametrize(
    ("said", "written"),
    [
        # said twice, once with more
        ([(PRESENT, ""), (PRESENT, "")], [(PRESENT, "")]),
        ([(PRESENT, ""), (PRESENT, "2020")], [(PRESENT, "2020")]),
        ([(PRESENT, "2020-03"), (PRESENT, "2020")], [(PRESENT, "2020-03")]),
        # a doubt that the same note settles
        ([(SUSPECTED, ""), (PRESENT, "")], [(PRESENT, "")]),
        ([(SUSPECTED, ""), (PRESENT, "2020")], [(PRESENT, "2020")]),
        # two of them: once and now again, or on two days
        ([(PAST, "2010"), (PRESENT, "2020")], [(PRESENT, "2020"), (PAST, "2010")]),
        ([(PAST, "2010"), (PAST, "2015"), (PAST, "")], [(PAST, "2010"), (PAST, "2015")]),
        # what is certain and what is dated say neither more than the other
        ([(SUSPECTED, "2020"), (PRESENT, "")], [(SUSPECTED, "2020"), (PRESENT, "")]),
    ],
)
def test_findings_of_one_name_in_one_note(
    said: list[tuple[Assertion, str]], written: list[tuple[Assertion, str]]
) -> None:
    records = [condition("骨折", assertion, date=day or None) for assertion, day in said]
    assert together(records) == [("骨折", assertion.value, day) for assertion, day in written]


def test_a_visit_that_does_not_repeat_an_onset_does_not_unsay_it() -> None:
    dated = condition("胃炎", date="2020-01")
    assert together([dated], [condition("胃炎")], [condition("胃炎")]) == [("胃炎", "present", "2020-01")]
    assert together([dated], [condition("胃炎", PAST)]) == [("胃炎", "past", "")]
    assert together([dated], [condition("胃炎", PAST)], [condition("胃炎")]) == [("胃炎", "present", "")]


def test_keys_are_stable() -> None:
    [key] = key_of([condition("胃炎")])
    assert len(key) == 20
    assert key_of([condition("胃炎", PAST, date="2020")]) == [key]
    assert key_of([condition("骨折")], [condition("胃炎")])[1] == key
    assert key_of([condition("胃炎")], patient="P2") != [key]
    # The one that the patient has now keeps the key, whatever else is told of it.
    assert key_of([condition("胃炎", PAST, date="2010"), condition("胃炎")])[0] == key


def test_reactions_of_an_allergy() -> None:
    def shrimp(*reactions: str) -> Record:
        return allergy("エビ", AllergyCategory.FOOD, reactions=reactions)

    def written(*notes: Sequence[Record]) -> list[tuple[str, ...]]:
        return [f.record.reactions for f in merged(Kind.ALLERGY, [(None, records) for records in notes], "P1")[0]]

    assert written([shrimp("発疹"), shrimp()]) == [("発疹",)]
    assert written([shrimp("発疹"), shrimp("呼吸苦", "発疹")]) == [("発疹", "呼吸苦")]
    assert written([shrimp("発疹")], [shrimp()]) == [("発疹",)]
    assert written([shrimp("発疹")], [shrimp("嘔吐")]) == [("嘔吐",)]


def test_notes_are_kept_with_their_findings() -> None:
    old, new = a_note().model_copy(update={"date": date(2026, 3, 1)}), a_note()
    findings, _ = merged(Kind.CONDITION, [(old, [condition("骨折")]), (new, [condition("胃炎")])], "P1")
    assert [finding.note for finding in findings] == [old, new]
