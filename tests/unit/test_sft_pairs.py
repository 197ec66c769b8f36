"""Reviewed notes as chats: what the reader asks, what should be answered, and on which side a patient is."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.generation import form
from app.generation.endpoint import Endpoint
from app.generation.grammar import LOOK_BACK
from app.generation.reader import NoteReader
from app.generation.remote import RemoteModel
from app.generation.segments import chunks, fold
from app.generation.structured import byte_tokenizer, lark_grammar, matcher
from app.sft_export import is_test, split_key
from app.sft_pairs import Pair, pairs_of
from schemas.statement import (
    Action,
    AllergyCategory,
    Assertion,
    EvidenceSpan,
    Field,
    InfectionResult,
    Kind,
    Statement,
)

Mentions = Sequence[tuple[int, int, Kind]]


def reader(tokens: int = 8192) -> NoteReader:
    return NoteReader(RemoteModel(Endpoint("hyojun", "http://127.0.0.1", "base", tokens)))


def span(text: str, quote: str, occurrence: int = 0) -> EvidenceSpan:
    at = -1
    for _ in range(occurrence + 1):
        at = text.index(quote, at + 1)
    return EvidenceSpan(start=at, end=at + len(quote), quote=quote)


def pairs(
    text: str, statements: Sequence[Statement], *, tokens: int = 8192, mentions: Mentions = ()
) -> tuple[list[Pair], int]:
    return pairs_of(text, reader(tokens).windows(text, mentions, "progress"), statements)


def as_written(pair: Pair) -> list[form.Written]:
    """What a model that gave this answer would be understood to say; lines are those of the user's message."""
    lines = [n for n, line in enumerate(pair.messages[1]["content"].split("\n")) if line.strip()]
    found, complete = form.read(pair.messages[2]["content"], lines)
    assert complete
    return found


NOTE = '2026/3/30 採血\r\n\r\n2型糖尿病（2015年〜）、HbA1c 7.2%\nペニシリンで発疹。父：胃癌\nHBs抗原 陰性\n「"引用\\」アムロジピンOD錠5mg 1錠 分1朝 28日分'
STATEMENTS = [
    Statement(kind=Kind.LAB, fields={
        Field.NAME: span(NOTE, "HbA1c"), Field.VALUE: span(NOTE, "7.2"), Field.UNIT: span(NOTE, "%"),
        Field.DATE: span(NOTE, "2026/3/30"),
    }),
    Statement(kind=Kind.CONDITION, fields={Field.NAME: span(NOTE, "2型糖尿病"), Field.ONSET: span(NOTE, "2015年")}, confidence=0.3),
    Statement(kind=Kind.ALLERGY, fields={Field.NAME: span(NOTE, "ペニシリン"), Field.REACTION: span(NOTE, "発疹")},
              category=AllergyCategory.MEDICATION),
    Statement(kind=Kind.CONDITION, fields={Field.NAME: span(NOTE, "胃癌"), Field.RELATIVE: span(NOTE, "父")},
              assertion=Assertion.FAMILY),
    Statement(kind=Kind.INFECTION, fields={Field.NAME: span(NOTE, "HBs抗原"), Field.VALUE: span(NOTE, "陰性")},
              result=InfectionResult.NEGATIVE),
    Statement(kind=Kind.PRESCRIPTION, fields={
        Field.NAME: span(NOTE, "アムロジピンOD錠5mg"), Field.DOSE: span(NOTE, "1錠"), Field.USAGE: span(NOTE, "分1朝"),
        Field.DAYS: span(NOTE, "28日分"),
    }, action=Action.CONTINUE),
]  # fmt: skip


def test_the_answer_says_what_the_review_says_and_the_prompt_is_the_readers() -> None:
    found, refused = pairs(NOTE, STATEMENTS)
    assert refused == 0 and len(found) == 1
    (pair,) = found
    (window,) = reader().windows(NOTE, [], "progress")
    assert [(m["role"], m["content"]) for m in pair.messages[:2]] == [tuple(m) for m in window.messages]
    assert pair.messages[2]["role"] == "assistant" and pair.lost == 0
    state = matcher(byte_tokenizer(), lark_grammar(window.grammar))
    answer = list(pair.messages[2]["content"].encode())
    assert state.try_consume_tokens(answer) == len(answer) and state.is_accepting()
    expected = sorted(STATEMENTS, key=lambda s: s.name.start)
    read, complete = form.read(pair.messages[2]["content"], window.numbers)
    assert complete
    told = [(w.kind, w.fields, w.assertion, w.category, w.result, w.action) for w in read]
    assert told == [
        (s.kind, {k: v.quote for k, v in s.fields.items()}, s.assertion, s.category, s.result, s.action)
        for s in expected
    ]
    for spans, statement in zip(pair.spans, expected, strict=True):
        assert spans["kind"] == statement.kind and set(spans["fields"]) == {k.value for k in statement.fields}
        for place in spans["fields"].values():
            assert pair.messages[1]["content"][place["start"] : place["end"]] == place["quote"]


def test_a_note_that_says_nothing_is_a_pair_too() -> None:
    found, refused = pairs("特記事項なし。\n", [])
    assert refused == 0 and [as_written(pair) for pair in found] == [[]]


def test_a_reference_range_is_never_taught() -> None:
    text = "K 4.1 (3.5-5.0)"
    fields = {Field.NAME: span(text, "K"), Field.VALUE: span(text, "4.1"), Field.REFERENCE: span(text, "3.5-5.0")}
    ((pair,), refused) = pairs(text, [Statement(kind=Kind.LAB, fields=fields)])
    assert refused == 0 and pair.lost == 0
    assert [w.fields for w in as_written(pair)] == [{Field.NAME: "K", Field.VALUE: "4.1"}]


def test_a_long_note_is_taught_window_by_window_and_what_is_out_of_sight_is_not() -> None:
    """A date far above is in reach of the first rows only; repeated lines are told in both windows."""
    rows = [f"検査{chr(0x4E00 + n)} {n}.5" for n in range(60)]
    text = "\n".join(["2026/3/30", *rows])
    day = span(text, "2026/3/30")
    statements = []
    for n, row in enumerate(rows):
        name, value = row.split(" ")
        statements.append(Statement(kind=Kind.LAB, fields={
            Field.NAME: span(text, name), Field.VALUE: span(text, value, sum(r.endswith(value) for r in rows[:n])),
            Field.DATE: day,
        }))  # fmt: skip
    found, refused = pairs(text, statements, tokens=2400)
    assert refused == 0 and len(found) > 2
    told = {w.fields[Field.NAME] for pair in found for w in as_written(pair)}
    assert told == {s.name.quote for s in statements}
    first = as_written(found[0])
    assert len(first) > LOOK_BACK
    assert [w.fields.get(Field.DATE) for w in first] == [day.quote] * LOOK_BACK + [None] * (len(first) - LOOK_BACK)
    for pair in found[1:]:
        written = as_written(pair)
        assert all(Field.DATE not in w.fields for w in written) and pair.lost == len(written)
        for spans in pair.spans:
            for place in spans["fields"].values():
                assert pair.messages[1]["content"][place["start"] : place["end"]] == place["quote"]


@pytest.mark.parametrize(("text", "name", "mentions"), [
    ("HbA1c 7.25", "7", ()),  # a part of a number, and no name
    ("胃\n癌", "胃\n癌", ()),  # over a line's end
    ("2型糖尿病", "糖尿病", ((0, 5, Kind.CONDITION),)),  # a part of what the tables take for one name
])  # fmt: skip
def test_what_no_model_could_write_is_not_taught(text: str, name: str, mentions: Mentions) -> None:
    statement = Statement(kind=Kind.CONDITION, fields={Field.NAME: span(text, name)})
    found, refused = pairs(text, [statement], mentions=mentions)
    assert (found, refused) == ([], 1)


_WORDS = [
    "2型糖尿病",
    "高血圧症",
    "HbA1c",
    "7.2",
    "％",
    "ペニシリン",
    "ショック",
    "(2+)",
    "、",
    "。",
    " ",
    "\t",
    "父",
    "2015年",
    '"',
    "\\",
    "👨‍👩‍👧",
]
lines = st.lists(st.sampled_from(_WORDS), max_size=10).map("".join)


@settings(deadline=None, max_examples=40)
@given(st.lists(lines, min_size=1, max_size=6), st.sampled_from(["\n", "\r\n"]), st.data())
def test_any_reviewed_note_comes_back_as_it_was_reviewed_or_is_refused(
    rows: list[str], end: str, data: st.DataObject
) -> None:
    text = end.join(rows)
    if not text.strip():
        return
    statements: list[Statement] = []
    at = 0
    for row in rows:
        edges = sorted({edge for chunk in chunks(row) for edge in chunk})
        if len(edges) > 1 and data.draw(st.booleans()):
            start, stop = sorted(data.draw(st.lists(st.sampled_from(edges), min_size=2, max_size=2, unique=True)))
            name = EvidenceSpan(start=at + start, end=at + stop, quote=row[start:stop])
            statements.append(Statement(kind=Kind.CONDITION, fields={Field.NAME: name}))
        at += len(row) + len(end)
    found, refused = pairs(text, statements)
    assert len(found) + refused == 1
    for pair in found:
        assert [w.fields[Field.NAME] for w in as_written(pair)] == [fold(s.name.quote) for s in statements]
        for spans, statement in zip(pair.spans, statements, strict=True):
            place = spans["fields"]["name"]
            assert pair.messages[1]["content"][place["start"] : place["end"]] == place["quote"] == fold(statement.name.quote)


# --- the split ------------------------------------------------------------------------------------------------------

patients = st.text("0123456789ABCxyz", min_size=1, max_size=15)
shares = st.floats(0, 0.9)


@given(patients, st.integers(), shares, shares)
def test_a_patient_who_is_in_the_test_set_stays_there_when_it_grows(
    patient: str, seed: int, a: float, b: float
) -> None:
    key = split_key(seed, patient)
    assert key == split_key(seed, patient)
    assert len(patient) < 8 or patient not in key  # a short one may be in any hash
    low, high = sorted((a, b))
    assert is_test(key, high) or not is_test(key, low)
    assert not is_test(key, 0)


@settings(max_examples=20)
@given(st.integers(), st.floats(0.05, 0.9))
def test_the_share_is_that_of_the_patients_and_the_seed_decides_who(seed: int, share: float) -> None:
    keys = [split_key(seed, f"{n:07}") for n in range(2000)]
    assert len(set(keys)) == 2000
    assert sum(is_test(key, share) for key in keys) / 2000 == pytest.approx(share, abs=0.06)
    assert keys[0] != split_key(seed + 1, "0000000")
