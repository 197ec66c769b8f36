"""The synthetic notes and their token sequences: what the small model is taught is what it will have to write."""

import random
from collections.abc import Iterator

import pytest

from app.generation import form
from app.generation.segments import fold
from app.terminology.entries import starter_entries, starter_version
from app.terminology.matching import Lexicon
from schemas.statement import AllergyCategory, Assertion, Field, Kind
from training.corpus.core import REMOTE, Fact, Line, problems
from training.corpus.frame import note
from training.corpus.names import Names
from training.encode import BOS, EOS, PAD, RESERVED, Codec, Unsound, encode_note, train_tokenizer

Note = tuple[str, list[Line]]


@pytest.fixture(scope="module")
def notes() -> list[Note]:
    """200 notes without official tables."""
    rng, names = random.Random(11), Names()
    made = [note(rng, names) for _ in range(200)]
    return [(context.document_type, lines) for context, lines in made]


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return Lexicon(starter_entries(), starter_version())


@pytest.fixture(scope="module")
def codec(notes: list[Note]) -> Codec:
    return Codec(train_tokenizer(("\n".join(line.text for line in lines) for _, lines in notes[:60]), 700))


def sound(codec: Codec, lexicon: Lexicon, notes: list[Note]) -> Iterator[tuple[Note, list[int], list[bool]]]:
    for number, (document_type, lines) in enumerate(notes):
        try:
            example = encode_note(codec, lexicon, lines, document_type, random.Random(number))
        except Unsound:
            continue
        yield (document_type, lines), example.ids, example.learn


def decoded(codec: Codec, ids: list[int]) -> str:
    """The text of `ids`, reserved tokens as their own text."""
    text, run = "", []
    for number in [*ids, codec.reserved[PAD]]:
        if number in codec.reserved.values():
            text += codec.tokenizer.decode(run, skip_special_tokens=False) if run else ""
            text, run = text + str(codec.tokenizer.id_to_token(number)), []
        else:
            run.append(number)
    return text.removesuffix(PAD)


def test_the_corpus_keeps_its_contract(notes: list[Note]) -> None:
    assert not [problem for _, lines in notes for problem in problems(lines)]
    facts = [fact for _, lines in notes for line in lines for fact in line.facts]
    assert {fact.kind for fact in facts} == set(Kind)
    assert {kind for kind, _ in notes} <= set(form.DOCUMENT_TYPES)
    assert len({"\n".join(line.text for line in lines) for _, lines in notes}) == len(notes)
    sizes = [sum(len(line.text) + 1 for line in lines) for _, lines in notes]
    assert min(sizes) >= 100 and max(sizes) <= 1401


def test_a_seed_gives_the_same_note_again() -> None:
    first, again = (note(random.Random(5), Names())[1] for _ in range(2))
    assert first == again


def test_breaches_of_the_contract_are_named() -> None:
    broken = [
        Line("咳", [Fact(Kind.CONDITION, {Field.NAME: "熱"})]),
        Line("咳", [Fact(Kind.CONDITION, {})]),
        Line("咳 1", [Fact(Kind.CONDITION, {Field.NAME: "咳", Field.VALUE: "1"})]),
        Line("咳 ", [Fact(Kind.CONDITION, {Field.NAME: "咳 "})]),
        Line("a\nb"),
        Line("卵", [Fact(Kind.ALLERGY, {Field.NAME: "卵"})]),
        Line("薬", [Fact(Kind.PRESCRIPTION, {Field.NAME: "薬"})]),
        Line("咳、熱", [Fact(Kind.CONDITION, {Field.NAME: "熱"}), Fact(Kind.CONDITION, {Field.NAME: "咳"})]),
        Line("卵", [Fact(Kind.ALLERGY, {Field.NAME: "卵"}, Assertion.FAMILY, AllergyCategory.FOOD)]),
    ]
    for line in broken:
        assert problems([line]), line


def test_most_notes_can_be_written_in_the_form(codec: Codec, lexicon: Lexicon, notes: list[Note]) -> None:
    assert len(list(sound(codec, lexicon, notes))) >= 0.85 * len(notes)


def test_the_tokens_are_the_form_of_the_notes_facts(codec: Codec, lexicon: Lexicon, notes: list[Note]) -> None:
    for (_, lines), ids, learn in sound(codec, lexicon, notes[:80]):
        assert len(ids) == len(learn)
        text = decoded(codec, ids)
        assert text.startswith(BOS + '{"document":"') and text.endswith(form.END)
        written = [number for number, line in enumerate(lines) if line.text.strip(" \u3000\t")]
        statements, complete = form.read(text.removeprefix(BOS), written)
        assert complete
        expected = [
            (number, f.kind, {k: fold(v) for k, v in f.fields.items()}, f.assertion, f.category, f.result, f.action)
            for number, line in enumerate(lines)
            for f in line.facts
        ]
        found = [(s.line, s.kind, s.fields, s.assertion, s.category, s.result, s.action) for s in statements]
        assert found == expected


def test_what_is_replayed_is_not_learnt_and_what_is_chosen_is(
    codec: Codec, lexicon: Lexicon, notes: list[Note]
) -> None:
    marks = {codec.reserved[mark] for mark in form.MARKS.values()}
    for _, ids, learn in sound(codec, lexicon, notes[:30]):
        rows = decoded(codec, [i for i, learnt in zip(ids, learn, strict=True) if learnt])
        # Only the openings of lines, whole statements and the end.
        assert rows.replace(form.LINE_OPEN, "").count("\n") == rows.count('{"kind"') + 1
        assert not marks & {i for i, learnt in zip(ids, learn, strict=True) if learnt}


def test_a_copied_field_has_the_tokens_of_its_line(codec: Codec, lexicon: Lexicon, notes: list[Note]) -> None:
    checked = 0
    for (_, lines), _, _ in sound(codec, lexicon, notes[:60]):
        for line in lines:
            tokens = codec.text(form.escape(fold(line.text)))
            for fact in line.facts:
                for key, piece in fact.fields.items():
                    if piece not in line.text and key in REMOTE:
                        continue
                    copied = codec.text(form.escape(fold(piece)))
                    assert any(tokens[i : i + len(copied)] == copied for i in range(len(tokens))), key
                    checked += 1
    assert checked > 100


def test_a_field_that_divides_a_chunk_is_unsound(codec: Codec) -> None:
    lexicon = Lexicon([], "empty")
    fact = Fact(Kind.LAB, {Field.NAME: "BNP", Field.VALUE: "24"})
    with pytest.raises(Unsound):
        encode_note(codec, lexicon, [Line("BNP 248.6", [fact])], "progress", random.Random(1))
    whole = Fact(Kind.LAB, {Field.NAME: "BNP", Field.VALUE: "248.6"})
    assert encode_note(codec, lexicon, [Line("BNP 248.6", [whole])], "progress", random.Random(1)).ids


def test_reserved_tokens_come_first_and_tokens_stay_inside_pieces(codec: Codec) -> None:
    assert [codec.reserved[text] for text in RESERVED] == list(range(len(RESERVED)))
    assert {PAD, BOS, EOS} <= set(RESERVED)
    ids = codec.text("2型糖尿病 ア\\\"👨\t")
    assert codec.tokenizer.decode(ids, skip_special_tokens=False) == "2型糖尿病 ア\\\"👨\t"
    assert codec.text("糖尿病") == [*codec.text("糖"), *codec.text("尿"), *codec.text("病")]
    # The text of a reserved token in a note is text: its pieces are tokenized one by one.
    assert not set(codec.text(form.END)) & set(codec.reserved.values())
