"""The path of one note: text in, records, FHIR and SS-MIX2 out. The steps in reading order; no database, no network.

    model (generation) -> spans (extraction, scopes) -> values and codes (standardize) -> probabilities (confidence)
        -> FHIR (build, check) -> SS-MIX2
"""

import copy
import logging
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from app import __version__, confidence, extraction, fhir, outputs, restated, scopes, ssmix2, standardize
from app.confidence import Calibration
from app.generation.endpoint import ServerOptions
from app.generation.endpoint import configured as model_server
from app.generation.reader import NoteReader, Reading
from app.generation.registry import READING, ModelOptions, Models, configured
from app.generation.remote import RemoteModel
from app.generation.segments import fold
from app.outputs import Choices, Chosen
from app.terminology.matching import Lexicon
from schemas.coding import Candidate, Coding
from schemas.issue import Issue, IssueType, Severity
from schemas.note import ChartNote
from schemas.record import Record
from schemas.statement import Kind, Statement

log = logging.getLogger(__name__)


class Options(Choices, ModelOptions, ServerOptions, Protocol):
    """What a converter needs to know of an installation; `app.settings.Settings` has it."""

    @property
    def profiles_file(self) -> Path: ...


@dataclass(frozen=True)
class Conversion:
    """Everything that came out of one note. `run` describes the generation: model, adapter, prompt, grammar, terminology
    and calibration fingerprints, seed, tokens, duration in milliseconds, instants. `statements`, `records`: of one order;
    a record that is held is there, and in nothing else. `resources`: raw FHIR R4 JSON (numbers Decimal), Patient and
    DocumentReference first, Provenance last."""

    run: dict[str, Any]
    statements: list[Statement]
    records: list[Record]
    resources: list[dict[str, Any]]
    bundle: dict[str, Any]
    messages: list[ssmix2.Message]
    issues: list[Issue] = field(default_factory=list)
    held: frozenset[tuple[str, str]] = frozenset()
    """(type, id) of the resources that a check found an error in: drafts for a person, never released."""
    candidates: dict[int, tuple[Candidate, ...]] = field(default_factory=dict)
    """By the statement's position: what came near a name that no table has."""

    @property
    def counts(self) -> dict[Kind, int]:
        """Statements by kind."""
        return {kind: sum(s.kind is kind for s in self.statements) for kind in Kind}


class Converter:
    """A loaded model, the loaded tables, the official profiles where they were imported, and the facility.

    Thread-safe, and made for it: what several threads convert at the same time, the model generates together. `lexicon`
    may be replaced at any time; a conversion keeps the one that it began with.
    """

    def __init__(
        self,
        reader: NoteReader,
        lexicon: Lexicon,
        options: Options,
        profiles: fhir.Profiles | None = None,
        models: Models | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        self.reader = reader
        self.models = models
        """Where the reader's model comes from, with those of the other use cases; None: made without a registry."""
        self.lexicon = lexicon
        self.profiles = profiles
        self.calibration = calibration if calibration and calibration.fits(reader.fingerprints.as_dict()) else None
        """None: there is none, or it was fitted for another model (then every conversion says so)."""
        self._of_another_model = calibration is not None and self.calibration is None
        if self._of_another_model:
            log.warning("the calibration was fitted for another model than the one that is open; it is not applied")
        self._choose(Chosen.of(options))

    def _choose(self, chosen: Chosen) -> None:
        self.chosen = chosen
        self._facility = chosen.facility

    def beside(self, lexicon: Lexicon, chosen: Chosen) -> "Converter":
        """The same model, profiles and calibration with other tables and settings: those of a run that is repeated."""
        other = copy.copy(self)
        other.lexicon = lexicon
        other._choose(chosen)
        return other

    @classmethod
    def load(cls, options: Options, lexicon: Lexicon) -> "Converter":
        """Opens the model and, if it is there, the file of profiles; slow, so once a process.

        Raises Unavailable, InvalidInput, NotFound (no use case reads notes); the first two also for the calibration that
        the registry names. A model that is served elsewhere tells no confidences, so it has none.
        """
        profiles = fhir.Profiles.open(options.profiles_file) if options.profiles_file.is_file() else None
        if endpoint := model_server(options):
            return cls(NoteReader(RemoteModel(endpoint), max_seconds=endpoint.max_seconds), lexicon, options, profiles)
        registry = configured(options)
        path = registry.get(READING).calibration
        calibration = Calibration.load(path) if path else None
        models = Models(registry, options)
        try:
            reader = NoteReader.of(models)
        except BaseException:
            models.close()
            raise
        return cls(reader, lexicon, options, profiles, models, calibration)

    @property
    def slots(self) -> int:
        """Notes that the model reads at the same time; more conversions at once wait for it."""
        return self.reader.model.slots

    @property
    def fingerprints(self) -> dict[str, str | None]:
        """Of everything that makes the output what it is, as a run names them; the terminology's is that of now."""
        return {
            **self.reader.fingerprints.as_dict(),
            "terminology": self.lexicon.version,
            "profiles": self.profiles.fingerprint if self.profiles else None,
            "calibration": self.calibration.fingerprint if self.calibration else None,
            "version": __version__,
        }

    @property
    def engine(self) -> dict[str, Any]:
        """How the model is opened, as far as its scores depend on it."""
        model = self.reader.model
        if isinstance(model, RemoteModel):
            return {"server": model.endpoint.kind, "context_tokens": model.sequence_tokens}
        memory = model.memory
        flash = memory.flash_attention
        return {
            "context_tokens": model.sequence_tokens, "kv_type": memory.cache_type, "gpu": memory.gpu_layers != 0,
            "flash_attention": "auto" if flash is None else "on" if flash else "off",
        }  # fmt: skip

    def convert(
        self,
        note: ChartNote,
        *,
        source: str,
        earlier: Sequence[tuple[ChartNote, Sequence[Record]]] = (),
        run_id: uuid.UUID | None = None,
        started: datetime | None = None,
    ) -> Conversion:
        """One note. `source`: the sending system; with the note's id it makes every id of the output repeatable.
        `earlier`: the patient's other notes with their records, oldest first; the patient-wide SS-MIX2 messages
        (diagnoses, allergies) tell of them too, since each such message replaces the one before. `run_id`, `started`: those
        of a run that is repeated; the output names both.

        Raises TooLong, ModelOutputError, Unavailable; the note itself is never changed.
        """
        started = started or datetime.now(UTC)
        lexicon = self.lexicon
        reading, records, read = self._read(note, lexicon)
        records, weighed = self._weighed(records)
        records, repeated = restated.restated(records, lexicon)
        likely = [record for record in records if record.written]
        department = lexicon.department(note.department)
        run = self._run(run_id or uuid.uuid4(), reading, lexicon, started)
        resources, built = self._resources(note, likely, department, run, started, source)
        bundle = fhir.collection(note, resources, started)
        checked = outputs.checked(note, bundle, self.profiles, lexicon)
        if held := outputs.faulty(bundle, checked):
            passed = [r for r in resources if (r["resourceType"], r["id"]) not in held]
            bundle = fhir.collection(note, passed, started)
        messages, sent = self._messages(note, likely, department, earlier, source, started)
        return Conversion(
            run=run,
            # The tables know an allergen's category better than the model: the record's statement has it.
            statements=[record.statement for record in records],
            records=records,
            resources=resources,
            bundle=bundle,
            messages=messages,
            issues=[*read, *weighed, *repeated, *built, *checked, *sent],
            held=held,
            candidates={n: record.candidates for n, record in enumerate(records) if record.candidates},
        )

    def read(self, note: ChartNote) -> list[Record]:
        """What the model says of the note, with values and codes: the first half of `convert`, before it is known what is
        likely. Raises as `convert` does."""
        return self._read(note, self.lexicon)[1]

    def _read(self, note: ChartNote, lexicon: Lexicon) -> tuple[Reading, list[Record], list[Issue]]:
        mentions = lexicon.find_mentions(note.text)
        known = [(m.start, m.end, m.kind) for m in mentions]
        reading = self.reader.read(note.text, known, note.document_type.value)
        statements, located = extraction.locate(reading.lines, reading.written, fold)
        statements = scopes.distribute(reading.lines, statements, fold)
        statements, unlikely = standardize.plausible(statements, lexicon)
        unread = standardize.unread_allergies(note.text, mentions, statements)
        records, coded = standardize.records(statements, note.date, lexicon, self.chosen.coding_min_score)
        return reading, records, [*reading.issues, *located, *unlikely, *unread, *coded]

    def _weighed(self, records: list[Record]) -> tuple[list[Record], list[Issue]]:
        if self.calibration is not None:
            return confidence.weigh(records, self.calibration, hold=self.chosen.hold_uncertain)
        if not self._of_another_model:
            return records, []
        text = "the calibration was fitted for another model: statements have no probability, and none is held"
        return records, [Issue(severity=Severity.INFORMATION, code=IssueType.INFORMATIONAL, text=text)]

    def _run(self, run_id: uuid.UUID, reading: Reading, lexicon: Lexicon, started: datetime) -> dict[str, Any]:
        return {
            "id": str(run_id),
            **self.fingerprints,
            "terminology": lexicon.version,
            "options": asdict(self.chosen) | {"engine": self.engine},
            "seed": 0,
            "prompt_tokens": reading.prompt_tokens + reading.forced_tokens,
            "output_tokens": reading.sampled_tokens,
            "duration_ms": round(reading.seconds * 1000),
            "started_at": started,
        }

    def _resources(
        self,
        note: ChartNote,
        records: Sequence[Record],
        department: Coding | None,
        run: dict[str, Any],
        recorded: datetime,
        source: str,
    ) -> tuple[list[dict[str, Any]], list[Issue]]:
        made_by = fhir.ProvenanceSource(
            run_id=run["id"],
            software_version=__version__,
            **{key: run[key] for key in ("model", "adapter", "prompt", "grammar", "terminology")},
        )
        return fhir.build_resources(
            note, records, facility=self._facility, department=department, run=made_by, recorded=recorded,
            source=source,
        )

    def _messages(
        self,
        note: ChartNote,
        records: Sequence[Record],
        department: Coding | None,
        earlier: Sequence[tuple[ChartNote, Sequence[Record]]],
        source: str,
        sent_at: datetime,
    ) -> tuple[list[ssmix2.Message], list[Issue]]:
        sender = self.chosen.sender(note, department)
        return ssmix2.messages(note, records, facility=sender, sent_at=sent_at, source=source, earlier=earlier)
