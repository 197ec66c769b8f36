"""A note whose conversion said three things, with the resources that the builders make of them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from sample_conversion import SampleConversion, convert, make_note

from app import jobs, reviews, running
from app.db import Database
from app.fhir import ProvenanceSource, build_resources
from app.jobs import Policy
from schemas.job import JobState
from schemas.note import ChartNote
from schemas.record import Record
from schemas.statement import AllergyCategory, EvidenceSpan, Field, Kind, Statement

TEXT = "2型糖尿病（2015年〜）、高血圧。\nペニシリンで発疹。父：胃癌\nHbA1c 7.2%"


def span(quote: str) -> EvidenceSpan:
    start = TEXT.index(quote)
    return EvidenceSpan(start=start, end=start + len(quote), quote=quote)


CONDITION = Statement(
    kind=Kind.CONDITION, fields={Field.NAME: span("2型糖尿病"), Field.ONSET: span("2015年")}, confidence=0.75
)
ALLERGY = Statement(
    kind=Kind.ALLERGY,
    fields={Field.NAME: span("ペニシリン"), Field.REACTION: span("発疹")},
    category=AllergyCategory.MEDICATION,
)
LAB = Statement(kind=Kind.LAB, fields={Field.NAME: span("HbA1c"), Field.VALUE: span("7.2"), Field.UNIT: span("%")})
READ = (CONDITION, ALLERGY, LAB)
"""In the order of the note. The last one is held: there is no resource of it."""


def stored(
    database: Database,
    *,
    statements: Sequence[Statement] = READ,
    faulty: Sequence[str] = (),
    finished: bool = True,
    note: ChartNote | None = None,
) -> UUID:
    """The id of a stored note; `faulty`: types of resources that a check found an error in."""
    with database.session_scope() as session:
        submission = jobs.submit(session, note or make_note(text=TEXT), "emr")
    if finished:
        _run(database, submission.job_id, statements, faulty)
    return submission.note_id


def convert_again(database: Database, note_id: UUID) -> None:
    with database.session_scope() as session:
        submission = jobs.resubmit(session, note_id)
    _run(database, submission.job_id, READ, ())


def items_of(database: Database, note_id: UUID) -> list[reviews.Item]:
    with database.session_scope() as session:
        return reviews.get_review(session, note_id).items


def _run(database: Database, job_id: UUID, statements: Sequence[Statement], faulty: Sequence[str]) -> None:
    def conversion(note: ChartNote, source: str) -> SampleConversion:
        made = convert(note, source)
        records = [Record(statement=s, display=s.name.quote, held=s is LAB) for s in statements]
        run = ProvenanceSource(
            run_id=made.run["id"], software_version="0", model="m", prompt="p", grammar="g", terminology="t"
        )
        resources, _ = build_resources(
            note, [r for r in records if not r.held], run=run, recorded=datetime.now(UTC), source=source
        )
        held = frozenset((r["resourceType"], r["id"]) for r in resources if r["resourceType"] in faulty)
        return replace(made, statements=list(statements), records=records, resources=resources, held=held)

    assert running.run(database, job_id, conversion, worker="w", policy=Policy()) is JobState.DONE
