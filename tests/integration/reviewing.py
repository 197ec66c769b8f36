"""Notes to be reviewed, read as the pipeline does without its model, and what corrections of them are written with."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from uuid import UUID

from sample_conversion import SampleConversion, convert, make_note
from sqlalchemy.orm import Session

from app import fhir, jobs, reviews, running, ssmix2, standardize
from app.corrections import Standard
from app.db import Database
from app.jobs import Policy
from app.outputs import Chosen
from app.review_items import Item
from app.terminology.entries import starter_entries, starter_version
from app.terminology.matching import Lexicon
from schemas.job import JobState
from schemas.note import ChartNote
from schemas.review import Verdict
from schemas.statement import EvidenceSpan, Statement


@dataclass(frozen=True)
class Facility:
    facility_name: str | None = "架空総合病院"
    institution_number: str | None = None
    facility_address: str | None = None
    facility_phone: str | None = None
    patient_id_oid: str | None = None
    coding_min_score: float = 0.85
    hold_uncertain: bool = True


@cache
def starter() -> Lexicon:
    return Lexicon(starter_entries(), starter_version())


def _tables(session: Session) -> Lexicon:
    return starter()


STANDARD = Standard(Facility(), tables=_tables)


def converted(
    database: Database,
    text: str,
    statements: Sequence[Statement],
    *,
    probabilities: Sequence[float | None] = (),
    held: Collection[int] = (),
    **note: object,
) -> UUID:
    """The id of a note of which a job made records, resources and messages as the pipeline does. `probabilities`: of the
    statements, in their order; `held`: which of them wait in no resource. `note`: fields of the note."""
    base = make_note(text=text, department=str(note.pop("department", "内科")))
    patient = base.patient.model_copy(update={"id": str(note.pop("patient_id", "1000001"))})
    sent = base.model_copy(update={"patient": patient, "text": text, **note})
    with database.session_scope() as session:
        submission = jobs.submit(session, sent, "emr")
    run_job(database, submission.job_id, statements, probabilities=probabilities, held=held)
    return submission.note_id


def run_job(
    database: Database,
    job_id: UUID,
    statements: Sequence[Statement],
    *,
    probabilities: Sequence[float | None] = (),
    held: Collection[int] = (),
    policy: Policy = Policy(),  # noqa: B008
) -> None:
    def conversion(note: ChartNote, source: str) -> SampleConversion:
        made = convert(note, source)
        chosen = Chosen.of(Facility())
        found, issues = standardize.records(statements, note.date, starter())
        known = [*probabilities, *[None] * len(statements)]
        records = [
            record.model_copy(update={"probability": known[n], "held": n in held}) for n, record in enumerate(found)
        ]
        written = [record for record in records if not record.held]
        run = fhir.ProvenanceSource(
            run_id=made.run["id"], software_version="0", model="m", prompt="p", grammar="g", terminology="t"
        )
        at, department = datetime.now(UTC), starter().department(note.department)
        resources, _ = fhir.build_resources(
            note, written, facility=chosen.facility, department=department, run=run, recorded=at, source=source
        )
        messages, _ = ssmix2.messages(
            note, written, facility=chosen.sender(note, department), sent_at=at, source=source
        )
        return replace(
            made, statements=[r.statement for r in records], records=records, resources=resources, messages=messages,
            issues=issues, candidates={n: list(r.candidates) for n, r in enumerate(records) if r.candidates},
        )  # fmt: skip

    assert running.run(database, job_id, conversion, worker="w", policy=policy) is JobState.DONE


def at(text: str, quote: str) -> EvidenceSpan:
    start = text.index(quote)
    return EvidenceSpan(start=start, end=start + len(quote), quote=quote)


def items_by_name(session: Session, note_id: UUID) -> dict[str, Item]:
    return {item.statement.name.quote: item for item in reviews.get_review(session, note_id).items}


def accept_rest(session: Session, note_id: UUID, by: str = "user:1") -> UUID:
    """Accepts what is undecided; the id of the run."""
    review = reviews.get_review(session, note_id)
    for item in review.undecided:
        reviews.decide(session, item.id, Verdict.ACCEPT, by=by, version=item.version)
    return review.run_id
