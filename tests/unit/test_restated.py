"""What a note tells twice: which record stands, and what is never taken for a repetition."""

from datetime import date

import pytest

from app.restated import restated
from app.standardize import records
from app.terminology.entries import starter_entries, starter_version
from app.terminology.matching import Lexicon
from schemas.issue import IssueType
from schemas.record import Record
from schemas.statement import (
    Action,
    AllergyCategory,
    Assertion,
    EvidenceSpan,
    Field,
    Kind,
    Statement,
)

_DAY = date(2025, 4, 1)


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return Lexicon(starter_entries(), starter_version())


class Note:
    """Builds statements one behind another, as if the note were their fields joined."""

    def __init__(self) -> None:
        self.at = 0
        self.statements: list[Statement] = []

    def tells(self, kind: Kind, name: str, assertion: Assertion = Assertion.PRESENT, **fields: str) -> "Note":
        spans = {}
        for field, quote in {"name": name, **fields}.items():
            spans[Field(field)] = EvidenceSpan(start=self.at, end=self.at + len(quote), quote=quote)
            self.at += len(quote) + 1
        self.statements.append(
            Statement(
                kind=kind,
                fields=spans,
                assertion=assertion,
                category=AllergyCategory.MEDICATION if kind is Kind.ALLERGY else None,
                action=Action.CONTINUE if kind is Kind.PRESCRIPTION else None,
            )
        )
        return self

    def read(self, lexicon: Lexicon) -> list[Record]:
        return records(self.statements, _DAY, lexicon)[0]


def standing(note: Note, lexicon: Lexicon) -> list[str]:
    found, issues = restated(note.read(lexicon), lexicon)
    gone = [record for record in found if record.restates is not None]
    assert len(gone) == len(issues)
    assert all(issue.code is IssueType.DUPLICATE and issue.start is not None for issue in issues)
    assert [record.statement for record in found] == [r.statement for r in note.read(lexicon)]
    # Each restatement is evidence of a record that stands.
    for record in gone:
        assert record.restates is not None
        fuller = found[record.restates]
        assert fuller.restates is None
        assert record.statement.name in fuller.also
    return [record.statement.name.quote for record in found if record.restates is None]


def test_a_disease_named_again_is_one_record(lexicon: Lexicon) -> None:
    note = Note().tells(Kind.CONDITION, "慢性心不全").tells(Kind.CONDITION, "心不全").tells(Kind.CONDITION, "慢性心不全")
    assert standing(note, lexicon) == ["慢性心不全"]


def test_the_more_complete_mention_stands_wherever_it_is(lexicon: Lexicon) -> None:
    note = Note().tells(Kind.CONDITION, "糖尿病").tells(Kind.CONDITION, "2型糖尿病", onset="2015年")
    assert standing(note, lexicon) == ["2型糖尿病"]
    note = Note().tells(Kind.CONDITION, "高血圧症").tells(Kind.CONDITION, "高血圧", onset="2015年")
    assert standing(note, lexicon) == ["高血圧"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("高血圧症", Assertion.PRESENT), ("肺高血圧症", Assertion.PRESENT)),
        (("2型糖尿病", Assertion.PRESENT), ("2型糖尿病", Assertion.FAMILY)),
        (("肺炎", Assertion.PAST), ("肺炎", Assertion.PRESENT)),
        (("左変形性膝関節症", Assertion.PRESENT), ("右変形性膝関節症", Assertion.PRESENT)),
        (("胃癌", Assertion.PRESENT), ("大腸癌", Assertion.PRESENT)),
    ],
)
def test_other_diseases_and_other_assertions_both_stand(
    lexicon: Lexicon, one: tuple[str, Assertion], other: tuple[str, Assertion]
) -> None:
    note = Note().tells(Kind.CONDITION, *one).tells(Kind.CONDITION, *other)
    assert standing(note, lexicon) == [one[0], other[0]]


def test_diseases_of_two_dates_both_stand(lexicon: Lexicon) -> None:
    note = Note().tells(Kind.CONDITION, "脳梗塞", onset="2015年").tells(Kind.CONDITION, "脳梗塞", onset="2020年")
    assert len(standing(note, lexicon)) == 2


def test_a_drug_named_in_prose_is_that_of_the_list(lexicon: Lexicon) -> None:
    note = Note().tells(Kind.PRESCRIPTION, "アムロジピン").tells(Kind.PRESCRIPTION, "ノルバスク錠5mg", dose="1錠", usage="分1 朝食後")
    assert standing(note, lexicon) == ["ノルバスク錠5mg"]


def test_drugs_with_an_amount_of_their_own_all_stand(lexicon: Lexicon) -> None:
    note = Note().tells(Kind.PRESCRIPTION, "アムロジピン錠5mg", dose="1錠").tells(Kind.PRESCRIPTION, "アムロジピン錠2.5mg", dose="1錠")
    assert len(standing(note, lexicon)) == 2
    note = Note().tells(Kind.PRESCRIPTION, "アムロジピン錠2.5mg").tells(Kind.PRESCRIPTION, "アムロジピン錠5mg", dose="1錠")
    assert len(standing(note, lexicon)) == 2


@pytest.mark.parametrize("action", [Action.STOP, Action.PLAN, Action.HISTORY])
def test_a_drug_that_is_stopped_planned_or_past_is_told_for_its_own_sake(lexicon: Lexicon, action: Action) -> None:
    note = Note().tells(Kind.PRESCRIPTION, "アムロジピン").tells(Kind.PRESCRIPTION, "アムロジピン錠5mg", dose="1錠")
    note.statements[0] = note.statements[0].model_copy(update={"action": action})
    assert len(standing(note, lexicon)) == 2


def test_a_result_stands_once_for_each_day_and_value(lexicon: Lexicon) -> None:
    note = Note().tells(Kind.LAB, "HbA1c", value="7.2", unit="%").tells(Kind.LAB, "HbA1c", value="7.2", unit="%")
    assert standing(note, lexicon) == ["HbA1c"]
    note = Note().tells(Kind.LAB, "HbA1c", value="7.2", unit="%").tells(Kind.LAB, "HbA1c", value="7.4", unit="%")
    assert len(standing(note, lexicon)) == 2
    note = Note().tells(Kind.LAB, "HbA1c", value="7.2").tells(Kind.LAB, "HbA1c", value="7.2", date="3/1")
    assert len(standing(note, lexicon)) == 2


def test_an_allergy_with_a_reaction_stands_for_its_bare_mention(lexicon: Lexicon) -> None:
    note = Note().tells(Kind.ALLERGY, "ペニシリン").tells(Kind.ALLERGY, "ペニシリン", reaction="発疹")
    found, _ = restated(note.read(lexicon), lexicon)
    assert [record.reactions for record in found if record.restates is None] == [("発疹",)]
    note = Note().tells(Kind.ALLERGY, "ペニシリン", reaction="呼吸苦").tells(Kind.ALLERGY, "ペニシリン", reaction="発疹")
    assert len(standing(note, lexicon)) == 2


def test_a_held_record_stands_for_nothing(lexicon: Lexicon) -> None:
    found = Note().tells(Kind.CONDITION, "慢性心不全").tells(Kind.CONDITION, "心不全").read(lexicon)
    held = [found[0].model_copy(update={"held": True}), found[1]]
    again, issues = restated(held, lexicon)
    assert not issues
    assert [record.restates for record in again] == [None, None]
