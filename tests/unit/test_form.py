"""The statement form: written and read back, cut off, with confidences."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.generation import form
from schemas.statement import FIELDS, Action, AllergyCategory, Assertion, Field, InfectionResult, Kind

# Everything that a note may hold but a line feed: quotes, braces, tabs, emoji, combining marks that combine with nothing.
_CHARACTERS = st.one_of(
    st.sampled_from("\"\\{}[]:,\t\r/ ア糖が7.\u3099\u0301\u200d\U0001f469\u2028\x00\x7f\ufeff"),
    st.characters(exclude_categories=("Cs",), exclude_characters="\n"),
)
pieces = st.text(_CHARACTERS, min_size=1, max_size=12)


@st.composite
def statements(draw: st.DrawFn, line: int = 0) -> form.Written:
    kind = draw(st.sampled_from(Kind))
    fields = {Field.NAME: draw(pieces)}
    for field in FIELDS[kind][1:]:
        if draw(st.booleans()):
            fields[field] = draw(pieces)
    return form.Written(
        line,
        kind,
        fields,
        assertion=draw(st.sampled_from(form.ASSERTIONS[kind])) if kind in form.ASSERTIONS else Assertion.PRESENT,
        category=draw(st.sampled_from(AllergyCategory)) if kind is Kind.ALLERGY else None,
        result=draw(st.sampled_from([None, *InfectionResult])) if kind is Kind.INFECTION else None,
        action=draw(st.sampled_from(Action)) if kind is Kind.PRESCRIPTION else None,
    )


def written(statement: form.Written) -> str:
    return "".join(text for text, _ in form.parts(statement))


def replayed(line: str) -> str:
    return form.LINE_OPEN + form.escape(line) + form.CLOSE


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(pieces, st.lists(statements(), max_size=3)), max_size=4), st.integers(0, 50))
def test_what_is_written_is_read_back(note: list[tuple[str, list[form.Written]]], first: int) -> None:
    numbers = [first + 2 * index for index in range(len(note))]
    text = "".join(replayed(line) + "".join(map(written, found)) for line, found in note) + form.END
    read, complete = form.read(text, numbers)
    assert complete
    expected = [
        form.Written(number, s.kind, s.fields, s.assertion, s.category, s.result, s.action)
        for number, (_, found) in zip(numbers, note, strict=True)
        for s in found
    ]
    assert read == expected


@settings(deadline=None, max_examples=40)
@given(statements())
def test_each_statement_is_one_json_line_made_of_known_fragments(statement: form.Written) -> None:
    parts = form.parts(statement)
    text = "".join(part for part, _ in parts)
    assert text.endswith("}\n") and text.count("\n") == 1
    item = json.loads(text)
    assert item["kind"] == statement.kind.value
    assert {Field(key): item[key] for key in item if key in set(Field)} == statement.fields
    assert {part for part, is_fragment in parts if is_fragment} <= set(form.all_fragments())


def test_fragments_are_different_and_the_order_is_fixed() -> None:
    fragments = form.all_fragments()
    assert len(fragments) == len(set(fragments))
    assert fragments == form.all_fragments()


_TEXT = (
    replayed("HbA1c 7.2%")
    + '{"kind":"lab","name":"HbA1c","value":"7.2"}\n'
    + '{"kind":"lab","name":"HbA1c","unit":"%"}\n'
    + form.END
)


def test_output_that_was_cut_off_is_reported_wherever_the_cut_is() -> None:
    for cut in range(len(_TEXT) - 1):  # the line feed behind the end mark is not missed
        read, complete = form.read(_TEXT[:cut], [0])
        assert not complete
        assert len(read) <= 2
    assert form.read(_TEXT, [0])[1] and form.read(_TEXT[:-1], [0])[1]


def test_confidence_is_the_product_of_the_choices_of_a_statement() -> None:
    rows = _TEXT.splitlines(keepends=True)
    first, second, end = len(rows[0]), len(rows[0] + rows[1]), len(_TEXT) - len(form.END)
    choices = [(first, math.log(0.5)), (first + 9, math.log(0.5)), (end, math.log(0.1))]
    read, complete = form.read(_TEXT, [4], choices)
    assert complete and [w.line for w in read] == [4, 4]
    assert read[0].confidence == pytest.approx(0.25)
    assert read[1].confidence is None  # every token of it was forced
    read, _ = form.read(_TEXT, [4], [(0, -9.0), (second, math.log(0.75))])
    assert read[0].confidence is None
    assert read[1].confidence == pytest.approx(0.75)


@pytest.mark.parametrize(
    "text",
    [
        "5\n",
        '{"kind":"lab","name":"x"}\n',
        replayed("x") + replayed("y"),
        replayed("x") + '{"name":"x"}\n',
        replayed("x") + '{"kind":"lab","name":"x","code":"1"}\n',
        replayed("x") + '{"kind":"condition","name":"x","assertion":"maybe"}\n',
    ],
)
def test_what_is_not_the_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        form.read(text, [0])
