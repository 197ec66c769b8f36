"""The path of one note: text in, records, FHIR and SS-MIX2 out. The steps in reading order; no database, no network.

    model (generation) -> spans (extraction) -> values and codes (standardize) -> FHIR (build, check) -> SS-MIX2
"""

import logging
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app import __version__, extraction, fhir, ssmix2, standardize
from app.generation.reader import NoteReader, Reading
from app.generation.segments import fold
from app.settings import Settings
from app.terminology.matching import Lexicon
from schemas.issue import Issue
from schemas.note import ChartNote
from schemas.record import Record
from schemas.statement import Kind, Statement

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Conversion:
    """Everything that came out of one note. `run` describes the generation: model, prompt, grammar and terminology
    fingerprints, seed, tokens, duration in milliseconds, instants. `resources`: raw FHIR R4 JSON (numbers Decimal),
    Patient and DocumentReference first, Provenance last."""

    run: dict[str, Any]
    statements: list[Statement]
    records: list[Record]
    resources: list[dict[str, Any]]
    bundle: dict[str, Any]
    messages: list[ssmix2.Message]
    issues: list[Issue] = field(default_factory=list)

    @property
    def counts(self) -> dict[Kind, int]:
        """Statements by kind."""
        return {kind: sum(s.kind is kind for s in self.statements) for kind in Kind}


class Converter:
    """A loaded model, the loaded tables and the facility: converts notes one at a time."""

    def __init__(self, reader: NoteReader, lexicon: Lexicon, settings: Settings) -> None:
        self.reader = reader
        self.lexicon = lexicon
        self.settings = settings

    @classmethod
    def load(cls, settings: Settings, lexicon: Lexicon) -> "Converter":
        """Opens the model; slow, so once a process. Raises Unavailable, InvalidInput."""
        reader = NoteReader.open(
            Path(settings.model_path),
            context_tokens=settings.model_context_tokens,
            threads=settings.model_threads or 2,
            gpu_layers=settings.model_gpu_layers,
        )
        return cls(reader, lexicon, settings)

    def convert(self, note: ChartNote, *, source: str) -> Conversion:
        """One note. `source`: the sending system; with the note's id it makes every id of the output repeatable.

        Raises TooLong, ModelOutputError, Unavailable; the note itself is never changed.
        """
        started = datetime.now(UTC)
        mentions = [(m.start, m.end, m.kind) for m in self.lexicon.find_mentions(note.text)]
        reading = self.reader.read(note.text, mentions, note.document_type.value)
        statements, located = extraction.locate(reading.lines, reading.written, fold)
        records, coded = standardize.records(statements, note.date, self.lexicon)
        run = self._run(reading, started)
        resources, built = fhir.build_resources(
            note, records, source=source, facility=self._facility(), run=run, recorded=started
        )
        checked = [issue for resource in resources for issue in fhir.check(resource)]
        messages, written = ssmix2.messages(note, records, facility=self._sender(note), sent_at=started)
        return Conversion(
            run=run,
            statements=statements,
            records=records,
            resources=resources,
            bundle=fhir.collection(note, resources, timestamp=started),
            messages=messages,
            issues=[*reading.issues, *located, *coded, *built, *checked, *written],
        )

    def _run(self, reading: Reading, started: datetime) -> dict[str, Any]:
        return {
            "id": str(uuid.uuid4()),
            **self.reader.fingerprints.as_dict(),
            "terminology": self.lexicon.version,
            "version": __version__,
            "seed": 0,
            "prompt_tokens": reading.prompt_tokens + reading.forced_tokens,
            "output_tokens": reading.sampled_tokens,
            "duration_ms": round(reading.seconds * 1000),
            "started_at": started,
        }

    def _facility(self) -> fhir.Facility:
        return fhir.Facility(name=self.settings.facility_name, institution_number=self.settings.institution_number)

    def _sender(self, note: ChartNote) -> ssmix2.Facility:
        return ssmix2.Facility(
            name=self.settings.facility_name or "", institution_number=self.settings.institution_number
        )
