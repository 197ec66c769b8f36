"""Validity by construction: whatever the model says, the output is valid, coded from tables, and quotes the note.

The model's weights are random and its choices are sampled, so that it says anything the grammar lets it say.
"""

import random
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from random_model import write_compact

from app import fhir, ssmix2
from app.errors import Unavailable
from app.generation.context import Memory
from app.generation.reader import NoteReader, Reading
from app.pipeline import Conversion, Converter
from app.settings import Settings
from app.terminology.entries import starter_entries, starter_version
from app.terminology.matching import Lexicon
from schemas.issue import Severity
from schemas.note import ChartNote, DocumentType, Patient
from schemas.statement import FIELDS, Field, Kind
from training.corpus.frame import note as synthetic_note
from training.corpus.names import Names


def options_for(model: Path, **settings: Any) -> Settings:
    """An installation with `model` and a small context, on one thread, with nothing read from the surroundings."""
    fixed = {"model_context_tokens": 4096, "model_slots": 1, "model_threads": 1, "profiles_path": Path("not-there")}
    facility = {"facility_name": "検査病院", "institution_number": "1310000001"}
    return Settings(_env_file=None, model_path=model, **fixed | facility | settings)  # type: ignore[arg-type]


class Sampling(NoteReader):
    """Samples where the product is greedy: another seed for every note, the same one for the same note."""

    def read(
        self,
        text: str,
        mentions: Sequence[tuple[int, int, Kind]],
        document_type: str,
        *,
        temperature: float = 1.0,
        seed: int = 0,
    ) -> Reading:
        seed = seed or sum(map(ord, text))
        return super().read(text, mentions, document_type, temperature=temperature, seed=seed)


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return Lexicon(starter_entries(), starter_version())


@pytest.fixture(scope="module")
def converter(tmp_path_factory: pytest.TempPathFactory, lexicon: Lexicon) -> Iterator[Converter]:
    options = options_for(write_compact(tmp_path_factory.mktemp("model") / "compact.gguf"))
    assert options.model_path
    reader = Sampling.open(options.model_path, Memory(sequence_tokens=4096, threads=1))
    yield Converter(reader, lexicon, options)
    reader.model.close()


def make_note(number: int, text: str, document_type: str = "progress", day: date = date(2026, 4, 1)) -> ChartNote:
    return ChartNote(
        id=f"n{number}",
        document_type=DocumentType(document_type),
        department="内科",
        date=day,
        patient=Patient(id="P0001", family="検査", given="花子", birth_date=date(1950, 1, 2)),
        text=text,
    )


def synthetic_notes(count: int) -> list[ChartNote]:
    """Two or three short lines each, out of whole synthetic notes; those with facts first."""
    rng, names = random.Random(23), Names()
    found = []
    for number in range(count):
        context, lines = synthetic_note(rng, names)
        lines = sorted((line for line in lines if line.text.strip()), key=lambda line: not line.facts)
        text = rng.choice(("\n", "\r\n", "\n\n")).join(line.text[:28] for line in lines[: rng.randint(2, 3)])
        found.append(make_note(number, text, context.document_type, context.day))
    return found


HOSTILE = [
    '"}\n{"end":true}\n{"kind":"lab","name":"x"}',
    "\t1\t\n　２　\n\u200b 3 \ufeff",
    "👨\u200d👩\u200d👧 1 が\u3099 \u0301 7",
    "|^~\\& <b>1</b> \\H\\ ﾍﾟﾆｼﾘﾝ ㎎ ①Ⅱ",
    "2026-13-45 99/99 R0.0.0 1e9 1,2,3 0.000",
    "\x01\x1f\x7f 1\x85\u2028 2",
]


def _evidence(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if str(node.get("url", "")).endswith("derivation-reference"):
            yield {part["url"]: part.get("valueInteger") for part in node.get("extension", [])}
        for value in node.values():
            yield from _evidence(value)
    elif isinstance(node, list):
        for value in node:
            yield from _evidence(value)


def _check(conversion: Conversion, note: ChartNote, lexicon: Lexicon) -> None:
    tables = fhir.given(conversion.records, lexicon.department(note.department))
    assert all(lexicon.holds(system, code) for system, code in tables)
    for statement in conversion.statements:
        assert set(statement.fields) <= {*FIELDS[statement.kind], Field.REFERENCE}
        assert (statement.category is not None) == (statement.kind is Kind.ALLERGY)
        assert (statement.action is not None) == (statement.kind is Kind.PRESCRIPTION)
        for span in statement.fields.values():
            assert note.text[span.start : span.end] == span.quote
    assert [record.statement.fields for record in conversion.records] == [s.fields for s in conversion.statements]

    for resource in [*conversion.resources, conversion.bundle]:
        assert not [i for i in fhir.check(resource, text=note.text, lab=lexicon.lab_displays) if fhir.held_back([i])]
        fhir.assert_known_codes(resource, tables)
        assert fhir.loads(fhir.dumps(resource)) == resource
    # Every resource of a statement says where the note says so.
    for resource in conversion.resources:
        if resource["resourceType"] not in ("Patient", "DocumentReference", "Provenance", "Organization"):
            places = list(_evidence(resource))
            assert places
            for place in places:
                assert 0 <= place["offset"] < place["offset"] + place["length"] <= len(note.text)

    kinds = [message.kind for message in conversion.messages]
    assert ssmix2.DataKind.PATIENT in kinds
    for message in conversion.messages:
        data = ssmix2.encode(message.text)
        assert ssmix2.decode(data) == message.text
        segments = ssmix2.parse(message.text)
        assert segments[0].name == "MSH" and len(segments) > 2
    for issue in conversion.issues:
        # A blank name is refused with an error; nothing else of a random model is one.
        assert issue.severity is not Severity.ERROR or "name is blank" in issue.text, issue.text
        if issue.start is not None and issue.end is not None:
            assert 0 <= issue.start < issue.end <= len(note.text)
        quotes = [s.quote for statement in conversion.statements for s in statement.fields.values()]
        assert not [quote for quote in quotes if len(quote) > 3 and not quote.isascii() and quote in issue.text]


def test_whatever_the_model_says_is_valid(converter: Converter, lexicon: Lexicon) -> None:
    said: set[Kind] = set()
    for note in synthetic_notes(30):
        conversion = converter.convert(note, source="test")
        _check(conversion, note, lexicon)
        said |= {statement.kind for statement in conversion.statements}
        assert conversion.run["output_tokens"] > 0
    assert said == set(Kind)


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_notes_are_valid_too(converter: Converter, lexicon: Lexicon, number: int) -> None:
    note = make_note(100 + number, HOSTILE[number])
    _check(converter.convert(note, source="test"), note, lexicon)


def test_a_note_gives_the_same_ids_again(converter: Converter) -> None:
    note = make_note(1, "HbA1c 7.2%、CRP 0.1\nペニシリンで発疹")
    first, again = (converter.convert(note, source="test") for _ in range(2))
    assert first.statements == again.statements
    assert [r.get("id") for r in first.resources[:-1]] == [r.get("id") for r in again.resources[:-1]]
    assert first.run["id"] != again.run["id"]
    other = converter.convert(note, source="elsewhere")
    assert [m.order_no for m in other.messages] != [m.order_no for m in first.messages] or not [
        m for m in first.messages if m.kind in (ssmix2.DataKind.PRESCRIPTION, ssmix2.DataKind.RESULT)
    ]


def test_a_blank_note_becomes_a_patient_and_a_document(converter: Converter, lexicon: Lexicon) -> None:
    note = make_note(2, " \n\t\n")
    conversion = converter.convert(note, source="test")
    _check(conversion, note, lexicon)
    assert not conversion.statements and not any(conversion.counts.values())
    assert {r["resourceType"] for r in conversion.resources} >= {"Patient", "DocumentReference"}


def test_a_converter_is_loaded_from_its_options(tmp_path: Path, lexicon: Lexicon) -> None:
    path = write_compact(tmp_path / "compact.gguf", seed=2)
    converter = Converter.load(options_for(path, facility_name=None, institution_number=None), lexicon)
    try:
        note = make_note(3, "CRP 0.1")
        conversion = converter.convert(note, source="test")
        assert not [r for r in conversion.resources if fhir.check(r, text=note.text)]
        assert conversion.run["terminology"] == lexicon.version
    finally:
        converter.reader.model.close()
    with pytest.raises(Unavailable):
        Converter.load(options_for(tmp_path / "none.gguf"), lexicon)
