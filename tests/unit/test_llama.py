"""The engine with models whose weights are random: whatever they want to say, the grammar decides."""

from pathlib import Path

import llguidance
import pytest
from outlines.generator import BlackBoxGenerator
from outlines.types import CFG

from app.errors import InvalidInput, TooLong, Unavailable
from app.generation import form, grammar
from app.generation.context import Memory
from app.generation.llama import LlamaCpp
from app.generation.segments import chunks
from schemas.statement import Kind

LARK = 'start: "<" /[a-c]{2,4}/ ">" ("yes" | "no")'
SERIALIZED = llguidance.grammar_from("lark", LARK)
LINES = [grammar.Line(0, "HbA1c 7.2%", ((0, 5, Kind.LAB),)), grammar.Line(1, "咳\t\"熱\"")]


def test_greedy_is_deterministic(compact_model: LlamaCpp, plain_model: LlamaCpp) -> None:
    for model in (compact_model, plain_model):
        first = model.write("問い", SERIALIZED)
        again = model.write("問い", SERIALIZED)
        assert (first.text, first.choices) == (again.text, again.choices)
        assert first.sampled_tokens == len(first.choices)
        # Each choice was the likeliest: with two to choose from, at least an even chance.
        assert all(logarithm <= 0 for _, logarithm in first.choices)


def test_sampling_repeats_with_its_seed_and_varies_without(plain_model: LlamaCpp) -> None:
    texts = [plain_model.write("問い", SERIALIZED, temperature=1.0, seed=seed).text for seed in range(8)]
    assert texts[:3] == [plain_model.write("問い", SERIALIZED, temperature=1.0, seed=seed).text for seed in range(3)]
    assert len(set(texts)) > 1


def test_forced_tokens_are_not_sampled(plain_model: LlamaCpp) -> None:
    source = llguidance.grammar_from("lark", 'start: "abc" ("x" | "y") "日"')
    generated = plain_model.write("x", source)
    assert generated.text in ("abcx日", "abcy日")
    assert (generated.prompt_tokens, generated.sampled_tokens) == (1, 1)
    assert generated.forced_tokens >= 6  # three letters and three bytes; an end mark may follow
    assert [place for place, _ in generated.choices] == [3]
    only = plain_model.write("x", llguidance.grammar_from("lark", 'start: "abc"'))
    assert (only.text, only.choices) == ("abc", ())


def test_places_of_choices_count_characters(plain_model: LlamaCpp) -> None:
    source = llguidance.grammar_from("lark", 'start: "日本👨" ("x" | "y")')
    assert [place for place, _ in plain_model.write("x", source).choices] == [3]


def test_a_plain_model_obeys_the_note_grammar(plain_model: LlamaCpp) -> None:
    source = llguidance.grammar_from("lark", grammar.build(LINES, grammar.PLAIN))
    for seed in range(6):
        generated = plain_model.write("x", source, temperature=1.0, seed=seed)
        matcher = llguidance.LLMatcher(llguidance.LLTokenizer("byte"), source)
        tokens = list(generated.text.encode())
        assert matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()
        _check_fields(generated.text, generated.choices)


def test_a_compact_model_obeys_the_note_grammar(compact_model: LlamaCpp) -> None:
    writing = grammar.compact(
        lambda text: compact_model.tokenize(text, special=True)[0],
        lambda text: [token for chunk in chunks(text) for token in compact_model.tokenize(text[slice(*chunk)])],
    )
    source = llguidance.grammar_from("lark", grammar.build(LINES, writing))
    for seed in range(12):
        generated = compact_model.write([compact_model.begin_token], source, temperature=1.0, seed=seed)
        marked = form.LINE_OPEN + form.MARKS["lab"] + form.escape(LINES[0].text) + form.CLOSE
        assert generated.text.startswith(marked) and generated.text.endswith(form.END)
        _check_fields(generated.text, generated.choices)


def _check_fields(text: str, choices: tuple[tuple[int, float], ...]) -> None:
    statements, complete = form.read(text, [0, 1], choices)
    assert complete
    for statement in statements:
        line = LINES[statement.line]
        cuts = chunks(line.text, [(start, end) for start, end, _ in line.mentions])
        runs = {line.text[a:d] for i, (a, _) in enumerate(cuts) for _, d in cuts[i:]}
        assert set(statement.fields.values()) <= runs
        assert statement.confidence is None or 0 <= statement.confidence <= 1


def test_every_fragment_is_one_token(compact_model: LlamaCpp) -> None:
    fragments = form.all_fragments()
    tokens = [compact_model.tokenize(fragment, special=True) for fragment in fragments]
    assert all(len(found) == 1 for found in tokens)
    assert [compact_model.piece(found[0]).decode() for found in tokens] == fragments
    # Written in a note, a fragment is text.
    assert len(compact_model.tokenize(form.END)) > 1


def test_tokens_are_bytes_of_the_text(plain_model: LlamaCpp) -> None:
    text = "糖尿病 7.2\t👨"
    tokens = plain_model.tokenize(text)
    assert b"".join(map(plain_model.piece, tokens)) == text.encode()


def test_what_does_not_fit_the_context_is_refused(plain_path: Path) -> None:
    model = LlamaCpp(plain_path, Memory(sequence_tokens=256, threads=1))
    try:
        with pytest.raises(TooLong):
            model.write("x" * 300, SERIALIZED)
        with pytest.raises(TooLong):
            model.write("x", llguidance.grammar_from("lark", "start: /[ab]{400}/"))
        # The model is as good as before.
        assert model.write("x", SERIALIZED).text == model.write("x", SERIALIZED).text
    finally:
        model.close()


def test_a_deadline_ends_a_generation(plain_model: LlamaCpp) -> None:
    with pytest.raises(Unavailable):
        plain_model.write("x", SERIALIZED, max_seconds=0.0)


def test_a_bad_grammar_and_an_empty_prompt_are_refused(plain_model: LlamaCpp) -> None:
    with pytest.raises(InvalidInput):
        plain_model.write("x", llguidance.grammar_from("lark", "start: nowhere"))
    with pytest.raises(InvalidInput):
        plain_model.write("", SERIALIZED)


def test_a_file_that_is_not_there_or_not_a_model_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        LlamaCpp(tmp_path / "none.gguf")
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\0" * 64)
    with pytest.raises(Unavailable):
        LlamaCpp(broken)


def test_outlines_drives_it(plain_model: LlamaCpp) -> None:
    generator = BlackBoxGenerator(plain_model, CFG(LARK))
    text = generator("問い")
    assert text == plain_model.write("問い", SERIALIZED).text
    assert generator.batch(["問い", "x"])[0] == text
    streamed = list(generator.stream("問い"))
    assert "".join(streamed) == text and len(streamed) > 1
    with pytest.raises(TypeError):
        BlackBoxGenerator(plain_model, int)("問い")
