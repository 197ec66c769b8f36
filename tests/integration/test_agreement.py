"""FHIR and SS-MIX2 of one conversion say the same: every note of the repository, and of the development notes where there
are any, through the shipped model, and synthetic ones through a model that says anything."""

import json
import random
from collections.abc import Iterator, Sequence
from datetime import date
from functools import cache
from pathlib import Path

import pytest
from agreement import differences
from random_model import write_compact

from app import ssmix2
from app.generation.context import Memory
from app.generation.reader import NoteReader, Reading
from app.intake import note_from
from app.pipeline import Converter
from app.settings import Settings
from app.ssmix2 import DataKind
from app.terminology.entries import starter_entries, starter_version
from app.terminology.matching import Lexicon
from schemas.note import ChartNote, DocumentType, Encounter, EncounterClass, Patient, Practitioner
from schemas.statement import Kind
from training.corpus.frame import note as synthetic_note
from training.corpus.names import Names

CHECKOUT = Path(__file__).parents[2]
WEIGHTS = CHECKOUT / "weights" / "hyojun-uc1.gguf"
OURS = sorted([*CHECKOUT.glob("samples/*.json"), *CHECKOUT.glob("tests/notes/*/note.json")])

pytestmark = pytest.mark.slow
shipped = pytest.mark.skipif(not WEIGHTS.is_file(), reason="the shipped model is not in this checkout")


@cache
def converter() -> Converter:
    lexicon = Lexicon(starter_entries(), starter_version())
    settings = Settings(
        model_path=WEIGHTS,
        model_threads=1,
        profiles_path=CHECKOUT / "not-there",
        institution_number="1310000001",
        facility_name="架空総合病院",
    )
    return Converter.load(settings, lexicon)


def as_sent(note: ChartNote, number: int) -> Iterator[ChartNote]:
    """As it is; and every other one with all that a sender may state."""
    yield note
    if number % 2 == 0:
        stay = note.document_type in (DocumentType.DISCHARGE, DocumentType.ADMISSION)
        kind = EncounterClass.INPATIENT if stay else EncounterClass.AMBULATORY
        patient = {"address": "架空県見本市1-1", "insurance_id": f"0613{number:04}:見本:{number}:01"}
        patient |= {} if note.patient.birth_date else {"birth_date": date(1950, 1, 2)}
        yield note.model_copy(
            update={
                "patient": note.patient.model_copy(update=patient),
                "encounter": Encounter(id=f"E{number}", encounter_class=kind, start=note.date, end=note.date),
                "physician": Practitioner(id="D1", family="医師", given="一郎"),
            }
        )


def check(note: ChartNote) -> None:
    conversion = converter().convert(note, source="agreement")
    assert differences(conversion.resources, conversion.messages) == []
    for message in conversion.messages:
        assert ssmix2.decode(ssmix2.encode(message.text)) == message.text
    snapshot, _ = ssmix2.patient_snapshot(
        [(note, [record for record in conversion.records if record.written])],
        ssmix2.Facility("架空総合病院"),
        sent_at=conversion.run["started_at"],
        control_ids=["S1", "S2"],
    )
    for kind, segment, field in ((DataKind.DIAGNOSIS, "PRB", 4), (DataKind.ALLERGY, "IAM", 7)):
        both = [
            [part.get(field) for m in made if m.kind is kind for part in ssmix2.parse(m.text) if part.name == segment]
            for made in (conversion.messages, snapshot)
        ]
        assert both[0] == both[1]


@shipped
@pytest.mark.parametrize("path", OURS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_both_outputs_agree(path: Path) -> None:
    note = note_from(json.loads(path.read_text(encoding="utf-8")))
    *_, sent = as_sent(note, OURS.index(path))
    check(sent)


class Sampling(NoteReader):
    """Samples where the product is greedy, so that a model with random weights says anything the grammar lets it say."""

    def read(
        self,
        text: str,
        mentions: Sequence[tuple[int, int, Kind]],
        document_type: str,
        *,
        temperature: float = 1.0,
        seed: int = 0,
    ) -> Reading:
        return super().read(text, mentions, document_type, temperature=temperature, seed=seed or sum(map(ord, text)))


def test_both_outputs_agree_whatever_the_model_says(tmp_path: Path) -> None:
    reader = Sampling.open(write_compact(tmp_path / "compact.gguf"), Memory(sequence_tokens=4096, threads=1))
    settings = Settings(profiles_path=tmp_path, institution_number="1310000001", facility_name="架空総合病院")
    said = Converter(reader, Lexicon(starter_entries(), starter_version()), settings)
    rng, names = random.Random(41), Names()
    seen: set[DataKind] = set()
    for number in range(40):
        context, lines = synthetic_note(rng, names)
        facts = [line.text[:28] for line in sorted(lines, key=lambda line: not line.facts) if line.text.strip()]
        note = ChartNote(
            id=f"n{number}",
            document_type=DocumentType(context.document_type),
            department="内科",
            date=context.day,
            patient=Patient(id="P000001", family="検査", given="花子", birth_date=date(1950, 1, 2)),
            text="\n".join(facts[: rng.randint(2, 3)]),
        )
        conversion = said.convert(note, source="agreement")
        assert differences(conversion.resources, conversion.messages) == [], number
        seen |= {message.kind for message in conversion.messages}
    reader.model.close()
    assert seen >= set(DataKind) - {DataKind.VISIT}
