"""What we write into a standardized storage, judged by rules that share no code with the writer (`nho_rules`)."""

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from nho_rules import check_storage
from random_model import write_compact
from test_pipeline import HOSTILE, Sampling, make_note, options_for, synthetic_notes

from app import ssmix2
from app.batches import convert_notes
from app.generation.context import Memory
from app.generation.reader import NoteReader
from app.intake import Line, read_notes
from app.pipeline import Conversion, Converter
from app.terminology.entries import starter_entries, starter_version
from app.terminology.matching import Lexicon
from schemas.note import ChartNote
from schemas.record import Record

ROOT = Path(__file__).parents[2]
MODEL = Path(os.environ.get("MODEL_PATH", ROOT / "weights" / "hyojun-uc1.gguf"))
NOW = datetime(2026, 4, 1, 1, 15, 30, 123_000, tzinfo=UTC)


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return Lexicon(starter_entries(), starter_version())


@pytest.fixture(scope="module")
def random_converter(tmp_path_factory: pytest.TempPathFactory, lexicon: Lexicon) -> Iterator[Converter]:
    options = options_for(write_compact(tmp_path_factory.mktemp("model") / "compact.gguf"))
    reader = Sampling.open(options.model_path, Memory(sequence_tokens=4096, threads=1))
    yield Converter(reader, lexicon, options)
    reader.model.close()


def test_whatever_a_model_says_the_storage_obeys_the_rules(tmp_path: Path, random_converter: Converter) -> None:
    notes = [*synthetic_notes(12), *(make_note(100 + number, text) for number, text in enumerate(HOSTILE))]
    kinds = set()
    for number, note in enumerate(notes):
        patient = note.patient.model_copy(update={"id": f"{7000000 + number}"})
        conversion = random_converter.convert(note.model_copy(update={"patient": patient}), source="test")
        for message in conversion.messages:
            kinds.add(message.kind.value)
            ssmix2.write(tmp_path, message, NOW)
    assert check_storage(tmp_path) == []
    assert {"ADT-00", "OML-11", "PPR-01"} <= kinds


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("facility", [True, False], ids=["facility", "no facility"])
def test_the_samples_storage_obeys_the_rules(tmp_path: Path, lexicon: Lexicon, facility: bool) -> None:
    """As `hyojun convert` does it, with the shipped model; the notes of one patient after the other."""
    options = options_for(MODEL) if facility else options_for(MODEL, facility_name=None, institution_number=None)
    reader = NoteReader.open(MODEL, Memory(sequence_tokens=4096, threads=1))
    converter = Converter(reader, lexicon, options)
    files = sorted((ROOT / "samples").glob("*.json"))
    # Without a facility a few of them show what changes: whose numbers and names there are.
    lines = [line for path in (files if facility else files[:3]) for line in read_notes(path)]
    first = lines[0].note
    assert first is not None
    # A second note of the same patient: the wide messages hold what both say.
    again = first.model_copy(update={"id": "again", "text": first.text[: len(first.text) // 2]})
    lines.append(Line(len(lines) + 1, again, None))

    def convert(note: ChartNote, earlier: Sequence[Record]) -> Conversion:
        return converter.convert(note, source="test", earlier=earlier)

    try:
        outcomes = list(convert_notes(lines, tmp_path, convert))
    finally:
        reader.model.close()
    assert [outcome.error for outcome in outcomes if outcome.error] == []
    assert check_storage(tmp_path / "ssmix2") == []
    flags = {path.name[-1] for path in (tmp_path / "ssmix2").rglob("*_ADT-00_*")}
    assert flags == {"1", "2"}
