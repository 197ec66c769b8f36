"""A note through a model, window by window. The models' weights are random; what is tested is what they were shown."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_model import write_plain

from app.errors import InvalidInput, TooLong, Unavailable
from app.generation import form, grammar
from app.generation.chat import Message
from app.generation.context import Memory
from app.generation.llama import LlamaCpp
from app.generation.reader import NoteReader, source_lines
from app.generation.request import Generated
from app.generation.segments import fold
from schemas.issue import IssueType
from schemas.statement import Kind


class Recording:
    """A model that keeps what it was asked and what it wrote."""

    def __init__(self, model: LlamaCpp) -> None:
        self.model = model
        self.prompts: list[str | list[int]] = []
        self.written: list[Generated] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def write_chat(self, messages: Sequence[Message], source: str, **options: Any) -> Generated:
        prompt = self.model.chat_prompt(messages)
        return self.write(prompt.tokens, source, shared=prompt.shared, **options)

    def write(self, prompt: str | list[int], source: str, **options: Any) -> Generated:
        self.prompts.append(prompt)
        self.written.append(self.model.write(prompt, source, **options))
        return self.written[-1]

    def replayed(self) -> list[list[str]]:
        """The lines of each window, without marks."""
        windows = []
        for generated in self.written:
            items = [json.loads(row) for row in generated.text.split("\n") if row.startswith(form.LINE_OPEN)]
            lines = [item["line"] for item in items]
            for mark in form.MARKS.values():
                lines = [line.replace(mark, "") for line in lines]
            windows.append(lines)
        return windows


def reader_of(model: LlamaCpp) -> tuple[NoteReader, Recording]:
    recording = Recording(model)
    return NoteReader(recording), recording  # type: ignore[arg-type]


# -- lines ------------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.text(st.sampled_from("あ。a1 、\r\n\t．"), max_size=60).map(lambda text: text * 12))
def test_source_lines_are_pieces_of_the_text_in_order(text: str) -> None:
    at = 0
    for line in source_lines(text):
        assert text[line.start : line.start + len(line.text)] == line.text
        assert "\n" not in line.text
        assert not text[at : line.start].strip("\r\n")
        at = line.start + len(line.text)
    assert not text[at:].strip("\r\n")


def test_line_ends_blank_lines_and_tabs() -> None:
    lines = source_lines("a\r\n\r\n\tb\n \nc")
    assert [(line.start, line.text) for line in lines] == [(0, "a"), (3, ""), (5, "\tb"), (8, " "), (10, "c")]


def test_a_long_line_is_cut_behind_sentences() -> None:
    sentence = "血糖は123でした。"
    lines = source_lines("前\n" + sentence * 30 + "終わり\n後")
    assert [line.text for line in lines] == ["前", *[sentence] * 30, "終わり", "後"]
    assert [line.start for line in lines[1:4]] == [2, 2 + len(sentence), 2 + 2 * len(sentence)]
    short = sentence * 10
    assert [line.text for line in source_lines(short)] == [short]


@pytest.mark.parametrize("unit", ["発熱、", "HbA1c 7.2 ", "糖", "アムロジピン", "a", "1", "７．２"])
def test_a_line_of_20000_characters_without_a_full_stop_is_cut(unit: str) -> None:
    text = (unit * 20_000)[:20_000]
    lines = source_lines(text)
    assert "".join(line.text for line in lines) == text
    assert max(len(line.text) for line in lines) <= 480
    assert len(lines) < 90
    if unit == "HbA1c 7.2 ":
        assert all(line.text.startswith("HbA1c") or line.text.startswith("7.2") for line in lines)
    if unit == "発熱、":
        assert all(line.text.endswith("、") for line in lines[:-1])


# -- windows ----------------------------------------------------------------------------------------------------------


def test_a_long_note_is_read_in_overlapping_windows_and_nothing_twice(compact_model: LlamaCpp) -> None:
    reader, recording = reader_of(compact_model)
    texts = [chr(0x4E00 + number) for number in range(300)]
    reading = reader.read("\r\n".join(texts), [], "progress")
    windows = recording.replayed()
    assert reading.windows == len(windows) > 2
    assert len(reading.lines) == 300

    # Each window goes on where the one before ended, after a few lines of it.
    done = 0
    for window in windows:
        first = texts.index(window[0])
        assert window == texts[first : first + len(window)]
        assert (first == 0) if done == 0 else (0 <= done - first <= 5)
        done = first + len(window)
    assert done == 300

    # A line's statements come from the first window that shows it.
    expected: list[tuple[int, Kind]] = []
    done = 0
    for window, generated in zip(windows, recording.written, strict=True):
        first = texts.index(window[0])
        statements, complete = form.read(generated.text, range(first, first + len(window)))
        assert complete
        expected += [(s.line, s.kind) for s in statements if s.line >= done]
        done = first + len(window)
    assert [(w.line, w.kind) for w in reading.written] == expected
    most = grammar.most_statements(grammar.Line(0, texts[0]))
    assert all(sum(w.line == n for w in reading.written) <= most for n in range(300))

    assert [issue.code for issue in reading.issues] == [IssueType.INFORMATIONAL]
    assert reading.sampled_tokens == sum(len(g.choices) for g in recording.written)
    assert reading.forced_tokens == sum(g.forced_tokens for g in recording.written)


def test_a_short_note_is_one_window(compact_model: LlamaCpp) -> None:
    reader, recording = reader_of(compact_model)
    text = "\tＣＲＰ　0.1\r\n\r\n  \nﾍﾟﾆｼﾘﾝで\"発疹\""
    reading = reader.read(text, [(1, 4, Kind.LAB), (15, 21, Kind.PRESCRIPTION)], "admission", temperature=1.0, seed=5)
    assert reading.windows == 1 and not reading.issues
    # Blank lines are not shown; the others as the model was taught to see them.
    assert recording.replayed() == [["\tCRP 0.1", fold("ﾍﾟﾆｼﾘﾝで\"発疹\"")]]
    assert {w.line for w in reading.written} <= {0, 3}
    assert [line.start for line in reading.lines] == [0, 10, 12, 15]
    [prompt] = recording.prompts
    expected = compact_model.tokenize(form.document_open("admission"), special=True)
    assert prompt == [compact_model.begin_token, *expected]


def test_marks_stand_before_mentions(compact_model: LlamaCpp) -> None:
    reader, recording = reader_of(compact_model)
    reader.read("前\nA CRP 1", [(4, 7, Kind.LAB)], "unknown type")
    assert f'{{"line":"A {form.MARKS["lab"]}CRP 1"}}' in recording.written[0].text
    assert recording.prompts[0][1:] == compact_model.tokenize(form.document_open("progress"), special=True)


@pytest.mark.parametrize("text", ["", "\n\r\n \t\n", "　"])
def test_a_blank_note_says_nothing(compact_model: LlamaCpp, text: str) -> None:
    reader, _ = reader_of(compact_model)
    reading = reader.read(text, [], "progress")
    assert not reading.written and not reading.issues


def test_reading_repeats(compact_model: LlamaCpp) -> None:
    reader, _ = reader_of(compact_model)
    text = "Na 140 K 4.1\n咳"
    first, again = (reader.read(text, [], "progress", temperature=1.0, seed=9) for _ in range(2))
    assert first.written == again.written


def test_a_line_that_cannot_fit_is_refused(compact_path: Path) -> None:
    model = LlamaCpp(compact_path, Memory(sequence_tokens=256, threads=1))
    try:
        with pytest.raises(TooLong):
            NoteReader(model).read("丂" * 200, [], "progress")
    finally:
        model.close()


def test_the_time_for_a_window_is_bounded(compact_model: LlamaCpp) -> None:
    with pytest.raises(Unavailable):
        NoteReader(compact_model, max_seconds=0.0).read("CRP 0.1", [], "progress")


# -- models with a chat template --------------------------------------------------------------------------------------


def test_a_chat_model_gets_the_prompt_and_the_note_in_its_template(plain_model: LlamaCpp) -> None:
    reader, recording = reader_of(plain_model)
    assert not reader.compact
    text = "ＣＲＰ　0.1\r\n咳"
    reading = reader.read(text, [(0, 3, Kind.LAB)], "progress", temperature=1.0, seed=2)
    assert recording.replayed() == [["CRP 0.1", "咳"]]
    assert {w.line for w in reading.written} <= {0, 1}
    [tokens] = recording.prompts
    assert not isinstance(tokens, str)
    prompt = b"".join(plain_model.piece(token) for token in tokens).decode()
    assert prompt.startswith("<|im_start|>system\n" + reader.prompt[:20])
    assert prompt.endswith("<|im_start|>user\nCRP 0.1\n咳<|im_end|>\n<|im_start|>assistant\n")
    assert reading.prompt_tokens > len(reader.prompt)


def test_a_control_mark_in_a_note_stays_text(plain_model: LlamaCpp) -> None:
    reader, recording = reader_of(plain_model)
    mark = "<|im_end|>"
    [control] = plain_model.tokenize(mark, special=True)
    reader.read(f"咳 {mark}", [], "progress", temperature=1.0, seed=3)
    [with_mark] = recording.prompts
    recording.prompts.clear()
    reader.read("咳", [], "progress", temperature=1.0, seed=3)
    assert list(with_mark).count(control) == list(recording.prompts[0]).count(control) > 0


def test_a_model_without_form_and_template_is_refused(tmp_path: Path) -> None:
    model = LlamaCpp(write_plain(tmp_path / "bare.gguf", template=None), Memory(sequence_tokens=256, threads=1))
    try:
        with pytest.raises(InvalidInput):
            NoteReader(model)
    finally:
        model.close()


def test_fingerprints_tell_models_apart(compact_model: LlamaCpp, plain_model: LlamaCpp) -> None:
    compact, plain = NoteReader(compact_model).fingerprints, NoteReader(plain_model).fingerprints
    assert compact.model != plain.model and compact.prompt != plain.prompt
    assert compact.grammar == plain.grammar
    assert compact == NoteReader(compact_model).fingerprints
