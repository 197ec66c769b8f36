"""A note as a conversion leaves it, read by hand instead of by a model: everything behind the reading is the product's own.

`reading` is one line a statement: kind, then `field=quote` pieces and labels, in the words of `schemas.statement`. Names are
found in the note in their order, other fields behind the name, or else where they come first.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import UUID, uuid4

from app import jobs, restated, running, ssmix2, standardize
from app.db import Database
from app.fhir import ProvenanceSource, build_resources
from app.jobs import Policy
from app.outputs import Chosen
from app.terminology.entries import starter_entries, starter_version
from app.terminology.matching import Lexicon
from schemas.issue import Issue
from schemas.job import JobState
from schemas.note import ChartNote
from schemas.record import Record
from schemas.statement import EvidenceSpan, Field, Statement

CHOSEN = Chosen("見本病院", "1310000001", None, None, None, coding_min_score=0.85, hold_uncertain=True)


@dataclass(frozen=True)
class Read:
    run: dict[str, Any]
    statements: list[Statement]
    records: list[Record]
    resources: list[dict[str, Any]]
    messages: list[ssmix2.Message]
    issues: list[Issue]
    held: frozenset[tuple[str, str]] = frozenset()
    candidates: Mapping[int, Any] = field(default_factory=dict)


@cache
def starter() -> Lexicon:
    return Lexicon(starter_entries(), starter_version())


def statements(text: str, reading: str) -> list[Statement]:
    found, place = [], 0
    for line in filter(None, map(str.strip, reading.splitlines())):
        kind, *pieces = line.split(" ")
        said: dict[str, Any] = {"kind": kind, "fields": {}, "confidence": 0.9}
        for number, piece in enumerate(pieces):
            name, _, value = piece.partition("=")
            value = value.replace("_", " ")
            if name not in set(Field):
                said[name] = value
                continue
            start = text.find(value, place)
            start = start if start >= 0 else text.index(value)  # the day at the head of a column
            place = start if number == 0 else place
            said["fields"][name] = EvidenceSpan(start=start, end=start + len(value), quote=value)
        found.append(Statement.model_validate(said))
    return found


def stored(database: Database, note: ChartNote, reading: str, probabilities: Mapping[str, float] | None = None) -> UUID:
    """The id of the stored note. `probabilities`: by name; 0.97 for others. The tables must be loaded (`load_starter`)."""
    lexicon = starter()

    def conversion(note: ChartNote, source: str) -> Read:
        started = datetime.now(UTC)
        read = statements(note.text, reading)
        records, issues = standardize.records(read, note.date, lexicon)
        told = probabilities or {}
        records = [r.model_copy(update={"probability": told.get(r.statement.name.quote, 0.97)}) for r in records]
        records, repeated = restated.restated(records, lexicon)
        unread = standardize.unread_allergies(note.text, lexicon.find_mentions(note.text), read)
        run = {
            "id": str(uuid4()), **dict.fromkeys(("model", "prompt", "grammar"), "0123456789abcdef"), "terminology": lexicon.version,
            "version": "0", "seed": 0, "prompt_tokens": 1, "output_tokens": 1, "duration_ms": 1, "started_at": started,
        }  # fmt: skip
        likely = [record for record in records if record.written]
        made_by = ProvenanceSource(
            run_id=run["id"], software_version="0", model="m", prompt="p", grammar="g", terminology=lexicon.version
        )
        department = lexicon.department(note.department)
        resources, built = build_resources(
            note, likely, facility=CHOSEN.facility, department=department, run=made_by, recorded=started, source=source
        )
        sender = CHOSEN.sender(note, department)
        messages, sent = ssmix2.messages(note, likely, facility=sender, sent_at=started, source=source)
        issues = [*issues, *repeated, *unread, *built, *sent]
        near = {n: record.candidates for n, record in enumerate(records) if record.candidates}
        return Read(run, [r.statement for r in records], records, resources, messages, issues, candidates=near)

    with database.session_scope() as session:
        submission = jobs.submit(session, note, "emr")
    assert running.run(database, submission.job_id, conversion, worker="w", policy=Policy()) is JobState.DONE
    return submission.note_id
