"""A stored run once more: the same model, prompt, grammar, tables, settings and instants give the same bytes.

    load       what a job's run said of itself, and what is stored of it
    tables     the lexicon that it was made with, put together again
    repeat     converts the note anew and compares; no transaction is open while the model runs

What cannot be had again (another model, other profiles, another version of this software) is named with both
fingerprints, and the difference that it makes is shown. Nothing is stored but the audit event.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app import audit, comparison, conversions, trials
from app.comparison import Compared, Path
from app.errors import Conflict, InvalidInput, NotFound
from app.jobs import get_job
from app.note_rows import chart_note
from app.outputs import Chosen
from app.pipeline import Converter
from app.terminology.importers import lexicon_of
from app.terminology.matching import Lexicon
from models import Job, JobIssue, Note, NoteStatement, Resource, Run, Ssmix2Message
from schemas.job import JobState
from schemas.note import ChartNote
from schemas.record import Record
from schemas.review import AuditAction

FINGERPRINTS = ("model", "adapter", "prompt", "grammar", "terminology", "profiles", "calibration", "version")
"""Columns of `models.Run` that name what made the output."""


@dataclass(frozen=True)
class StoredRun:
    """`output`: what is stored of it now, as `conversions.output_of` gives it. `recorded`: the fingerprint that was
    stored with it; None: converted before that was kept."""

    job_id: UUID
    note_id: UUID
    run_id: UUID
    note: ChartNote
    source: str
    started_at: datetime
    fingerprints: dict[str, str | None]
    options: dict[str, Any] | None
    recorded: str | None
    output: dict[str, Any]
    records: Sequence[Record]


@dataclass(frozen=True)
class Replayed:
    """`changed`: what made the output, by name, where it is another one now: (then, now). `remarks`: what could not be
    had as it was. `paths`: where the outputs differ; `said`: the same by statement."""

    stored: StoredRun
    stored_sha256: str
    sha256: str
    changed: dict[str, tuple[Any, Any]]
    remarks: list[str] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    said: Compared = field(default_factory=lambda: Compared([], {}))

    @property
    def altered(self) -> bool:
        """Is what is stored no longer what the run wrote?"""
        return self.stored.recorded is not None and self.stored.recorded != self.stored_sha256

    @property
    def identical(self) -> bool:
        return self.sha256 == self.stored_sha256 and not self.altered


def finished_jobs(session: Session, *, limit: int | None = None) -> list[UUID]:
    """Jobs with a stored run, the newest first."""
    query = select(Run.job_id).join(Job, Job.id == Run.job_id).where(Job.state == JobState.DONE)
    return list(session.scalars(query.order_by(Run.created_at.desc(), Run.id).limit(limit)))


def load(session: Session, job_id: UUID, *, by: str) -> StoredRun:
    """The run of a job; who looks at it is recorded. Raises: NotFound; Conflict while the job has no result of a
    note."""
    job = get_job(session, job_id)
    run = session.scalars(select(Run).where(Run.job_id == job_id)).one_or_none()
    if run is None or job.state != JobState.DONE:
        what = "belongs to a trial that was not applied" if job.trial_note_id else f"is {job.state}"
        raise Conflict(f"job {job_id} {what}: it has no stored run")
    note = session.get_one(Note, run.note_id)
    audit.record(session, AuditAction.REPLAY, by=audit.person(by), subject=run.id, note_id=note.id)
    rows = session.execute(
        select(NoteStatement.payload, NoteStatement.record, NoteStatement.candidates)
        .where(NoteStatement.run_id == run.id)
        .order_by(NoteStatement.ordinal)
    ).mappings()
    return StoredRun(
        job_id=job_id,
        note_id=note.id,
        run_id=run.id,
        note=chart_note(note),
        source=note.source,
        started_at=run.started_at,
        fingerprints={name: getattr(run, name) for name in FINGERPRINTS},
        options=run.options,
        recorded=run.output_sha256,
        output={"statements": [dict(row) for row in rows], **_written(session, job_id, run.id)},
        records=trials.records_of(session, run.id),
    )


def _written(session: Session, job_id: UUID, run_id: UUID) -> dict[str, Any]:
    # Not what a person released of it.
    mine = (Resource.job_id == job_id, Resource.run_id == run_id, Resource.written_by.is_(None))
    resources = select(Resource.content, Resource.valid).where(*mine).order_by(Resource.ordinal)
    messages = select(
        Ssmix2Message.kind, Ssmix2Message.order_no, Ssmix2Message.care_date, Ssmix2Message.department,
        Ssmix2Message.payload.label("text"),
    ).where(Ssmix2Message.job_id == job_id, Ssmix2Message.release_id.is_(None)).order_by(Ssmix2Message.ordinal)  # fmt: skip
    columns = (JobIssue.severity, JobIssue.code, JobIssue.text, JobIssue.start, JobIssue.end)
    issues = select(*columns).where(JobIssue.job_id == job_id).order_by(JobIssue.ordinal)
    return {
        "resources": [dict(row) for row in session.execute(resources).mappings()],
        "messages": [
            {**row, "care_date": row["care_date"].isoformat() if row["care_date"] else None}
            for row in session.execute(messages).mappings()
        ],
        "issues": [dict(row) for row in session.execute(issues).mappings()],
    }


def tables(session: Session, stored: StoredRun, converter: Converter) -> tuple[Lexicon, list[str]]:
    """The tables that the run was made with, or else those in use, and then why."""
    version = stored.fingerprints["terminology"]
    if version is None or version == converter.lexicon.version:
        return converter.lexicon, []
    try:
        return lexicon_of(session, version, stored.started_at), []
    except NotFound as gone:
        return converter.lexicon, [f"the tables of then ({version}) cannot be put together again: {gone}"]


def repeat(stored: StoredRun, converter: Converter, lexicon: Lexicon | None = None) -> Replayed:
    """Converts the note anew with the settings of then, and with `lexicon`; None: with the tables and settings of now.

    Raises: as `Converter.convert`.
    """
    remarks: list[str] = []
    used = converter
    if lexicon is not None:
        chosen = converter.chosen
        try:
            chosen = Chosen.kept(stored.options or {})
        except InvalidInput as unknown:
            remarks.append(str(unknown))
        used = converter.beside(lexicon, chosen)
    made = used.convert(stored.note, source=stored.source, run_id=stored.run_id, started=stored.started_at)
    output = conversions.output_of(made)
    now = conversions.fingerprint(output)
    then = conversions.fingerprint(stored.output)
    return Replayed(
        stored=stored,
        stored_sha256=then,
        sha256=now,
        changed=_changed(stored, used),
        remarks=remarks,
        paths=[] if now == then else list(comparison.paths(_by_name(stored.output), _by_name(output))),
        said=comparison.differences(stored.records, made.records),
    )


def _changed(stored: StoredRun, used: Converter) -> dict[str, tuple[Any, Any]]:
    now: dict[str, Any] = dict(used.fingerprints)
    then: dict[str, Any] = dict(stored.fingerprints)
    if stored.options is not None:
        now |= _flat(asdict(used.chosen) | {"engine": used.engine})
        then |= _flat(stored.options)
    return {
        name: (then.get(name), now.get(name))
        for name in dict.fromkeys([*then, *now])
        if next(comparison.paths(then.get(name), now.get(name)), None) is not None
    }


def _flat(options: Mapping[str, Any]) -> dict[str, Any]:
    engine = options.get("engine") or {}
    plain = {name: value for name, value in options.items() if name != "engine"}
    return plain | {f"engine {name}": value for name, value in engine.items()}


def _by_name(output: Mapping[str, Any]) -> dict[str, Any]:
    """The output with resources under their type and id, and messages segment by segment: what moved is not all
    different."""
    resources = {f"{row['content']['resourceType']}/{row['content']['id']}": row for row in output["resources"]}
    messages = [{**row, "text": row["text"].split("\r")} for row in output["messages"]]
    return {**output, "resources": resources, "messages": messages}
