"""What the SS-MIX2 storage says of a patient, made from everything that is stored of him.

Source of the rule: SS-MIX2 1.2 keeps one file of diagnoses (PPR-01), of allergies (ADT-61) and of basic data (ADT-00) for a
patient, each replacing the one before, so each is made of all his notes. It is made here, when it is asked for, and not when
a note is converted: two notes that are converted at once know nothing of each other. Prescriptions and results are files of
their note and stay as its conversion wrote them.

Taken is the newest finished job of each note, of a corrected note the newest one. What was released of it (`app.releases`)
stands instead of what the machine read; of a release that was withdrawn nothing does, until the next one. Before a release a
statement whose resource is held back because a check found an error in it goes nowhere, nor does one that is held for review
or told more completely elsewhere (`Record.written`). One system is one source: two of them that use one patient id may mean two persons, so they are never
joined.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app import ssmix2
from app.errors import Conflict, InvalidInput, NotFound
from app.fhir.origin import made_of
from app.note_rows import chart_note
from app.results import stored_message
from app.ssmix2 import DataKind, Facility, Message
from models import Job, Note, NoteStatement, Release, ReleasedRecord, Resource, Run, Ssmix2Message
from schemas.issue import Issue, Severity
from schemas.job import JobState
from schemas.note import ChartNote
from schemas.record import Record

PATIENT_WIDE = (DataKind.PATIENT, DataKind.ALLERGY, DataKind.DIAGNOSIS)
"""Kinds of which a patient has one file for all his notes."""

MessageKey = tuple[str, date | None, str]
"""Kind, day and order number: of one patient, what a file of the storage is of."""


@dataclass(frozen=True)
class PatientNote:
    """A note and what its newest finished job read in it, without what is held back, or what was released of that.
    `messages`: of the note alone. `finished_at`: when the job ended, or it was released or withdrawn."""

    note: ChartNote
    finished_at: datetime
    records: list[Record]
    messages: list[Message]
    order: int
    """The number of the note, from 1: always the same."""
    issues: list[Issue] = field(default_factory=list)
    """What kept a message from being made again."""

    @property
    def department(self) -> str:
        """The code of the note's department, `-` where its conversion found none."""
        return next((message.department for message in self.messages if message.department != "-"), "-")


@dataclass(frozen=True)
class PatientFiles:
    """Everything of a patient, patient-wide messages first. `superseded`: keys that earlier conversions of his notes used and
    that nothing of `messages` has any more. `orders`: numbers of his notes, corrected ones too."""

    notes: list[PatientNote]
    messages: list[tuple[Message, datetime]]
    """Each with the instant of what it says, at which it counts as sent."""
    superseded: frozenset[MessageKey] = frozenset()
    orders: frozenset[int] = frozenset()
    issues: list[Issue] = field(default_factory=list)


def key_of(message: Message) -> MessageKey:
    return message.kind.value, message.care_date, message.order_no


def patients(
    session: Session, *, source: str | None = None, patient_ids: Sequence[str] = (), since: datetime | None = None
) -> list[tuple[str, str]]:
    """(patient id, source) of everyone with a finished job, in this order; `since`: with one that finished then or later."""
    query = select(Note.patient_id, Note.source).join(Job, Job.note_id == Note.id).where(Job.state == JobState.DONE)
    if source is not None:
        query = query.where(Note.source == source)
    if patient_ids:
        query = query.where(Note.patient_id.in_(patient_ids))
    if since is not None:
        query = query.where(Job.finished_at >= since)
    rows = session.execute(query.distinct().order_by(Note.patient_id, Note.source))
    return [(patient, of) for patient, of in rows]


def source_of(session: Session, patient_id: str, source: str | None) -> str:
    """The system that a patient id is of. Raises: NotFound; InvalidInput where several use it and `source` says none."""
    known = [of for _, of in patients(session, source=source, patient_ids=[patient_id])]
    if not known:
        raise NotFound("no note of such a patient has a result")
    if len(known) > 1:
        raise InvalidInput(f"several systems sent notes of this patient; choose one with source=: {', '.join(known)}")
    return known[0]


def patient_files(session: Session, source: str, patient_id: str, facility: Facility) -> PatientFiles:
    """All messages of the patient. The same stored data give the same bytes.

    Raises: NotFound without a finished job; Conflict where a job of an earlier version kept too little.
    """
    notes = _notes(session, source, patient_id, facility)
    if not notes:
        raise NotFound("no note of such a patient has a result")
    wide, issues = _patient_wide(source, notes, facility)
    issues += [issue for one in notes for issue in one.issues]
    # Two notes of one day may tell of the same visit: there is one place for it, and the newer note's words stand there.
    dated = {key_of(message): (message, one.finished_at) for one in notes for message in one.messages}
    messages = [*wide, *dated.values()]
    used, orders = _ever_used(session, source, patient_id)
    # A message that could not be made is no word that its content is void: what stands there stays.
    faulty = any(issue.severity in (Severity.ERROR, Severity.FATAL) for issue in issues)
    superseded = frozenset() if faulty else used - {key_of(message) for message, _ in messages}
    return PatientFiles(notes, messages, superseded, orders, issues)


def note_messages(session: Session, note_id: UUID, facility: Facility) -> list[tuple[Message, datetime]]:
    """The note's own messages and the patient-wide ones of its patient. Raises: NotFound, Conflict while there is no result."""
    row = session.get(Note, note_id)
    if row is None:
        raise NotFound(f"note {note_id} does not exist")
    done = (
        select(Job).where(Job.note_id == note_id, Job.state == JobState.DONE).order_by(Job.finished_at.desc()).limit(1)
    )
    job = session.scalars(done).one_or_none()
    if job is None:
        raise Conflict(f"note {note_id} has no result yet")
    (own,) = _read(session, [(row, job)], facility)
    wide, _ = _patient_wide(row.source, _notes(session, row.source, row.patient_id, facility), facility)
    return [*wide, *((message, own.finished_at) for message in own.messages)]


# --- making ----------------------------------------------------------------------------------------------------------


def _patient_wide(
    source: str, notes: Sequence[PatientNote], facility: Facility
) -> tuple[list[tuple[Message, datetime]], list[Issue]]:
    # When the newest part of it came to be: another run over the same data then gives the same bytes.
    moment = max(one.finished_at for one in notes)
    newest = notes[-1]
    ids = _control_ids(source, newest.note.patient.id, moment)
    code = None if newest.department == "-" else newest.department
    sender = replace(facility, department_code=code, department_name=newest.note.department)
    basic = ssmix2.patient_message(newest.note, sender, control_id=next(ids), sent_at=moment)
    found, issues = ssmix2.patient_snapshot(
        [(one.note, one.records) for one in notes], sender, sent_at=moment, control_ids=ids
    )
    made = [basic, *(message for message in found if message.kind is not DataKind.PATIENT)]
    return [(message, moment) for message in made], issues


def _control_ids(source: str, patient_id: str, moment: datetime) -> Iterator[str]:
    """MSH-10, at most 20 characters: another one for each message of each state of the patient's data."""
    start = hashlib.sha256(f"{source}\0{patient_id}\0{moment.isoformat()}".encode()).hexdigest()[:17]
    return (f"{start}{number:03}" for number in range(1000))


def _order(source: str, note_id: str) -> int:
    """A number of at most 14 digits for a note (SS-MIX2 keys have 15)."""
    return int(hashlib.sha256(f"{source}\0{note_id}".encode()).hexdigest()[:12], 16) % 10**14 + 1


# --- reading ---------------------------------------------------------------------------------------------------------


def _notes(session: Session, source: str, patient_id: str, facility: Facility) -> list[PatientNote]:
    """The patient's notes with a finished job, the oldest first; of a corrected note the newest."""
    rows = session.execute(
        select(Note, Job)
        .join(Job, Job.note_id == Note.id)
        .where(Note.source == source, Note.patient_id == patient_id, Job.state == JobState.DONE)
        .order_by(Note.received_at, Note.id, Job.finished_at)
    )
    newest: dict[str, tuple[Note, Job]] = {}
    for note, job in rows:
        newest.pop(note.external_id, None)
        newest[note.external_id] = (note, job)
    # Stable: notes of one day in the order in which they came.
    return sorted(_read(session, list(newest.values()), facility), key=lambda one: one.note.date)


def _read(session: Session, chosen: Sequence[tuple[Note, Job]], facility: Facility) -> list[PatientNote]:
    jobs = [job.id for _, job in chosen]
    statements: dict[UUID, list[tuple[dict[str, Any], dict[str, Any] | None]]] = defaultdict(list)
    query = select(Run.job_id, NoteStatement.payload, NoteStatement.record).join(Run, Run.id == NoteStatement.run_id)
    for job_id, payload, record in session.execute(query.where(Run.job_id.in_(jobs)).order_by(NoteStatement.ordinal)):
        statements[job_id].append((payload, record))
    held: dict[UUID, list[dict[str, Any]]] = defaultdict(list)
    faulty = select(Resource.job_id, Resource.content).where(Resource.job_id.in_(jobs), ~Resource.valid)
    for job_id, content in session.execute(faulty):
        held[job_id].append(content)
    decided = _decided(session, jobs)
    made_for = {release.id for release, _ in decided.values()}
    messages: dict[UUID, list[Ssmix2Message]] = defaultdict(list)
    dated = Ssmix2Message.kind.not_in([kind.value for kind in PATIENT_WIDE])
    for row in session.scalars(
        select(Ssmix2Message).where(Ssmix2Message.job_id.in_(jobs), dated).order_by(Ssmix2Message.ordinal)
    ):
        if row.release_id in made_for or (row.release_id is None and row.job_id not in decided):
            messages[row.job_id].append(row)
    found = []
    for note, job in chosen:
        chart = chart_note(note)
        assert job.finished_at is not None
        order = _order(note.source, chart.id)
        if job.id in decided:
            release, said = decided[job.id]
            since = release.withdrawn_at or release.released_at
            told = [] if release.withdrawn_at else [stored_message(row, note.patient_id) for row in messages[job.id]]
            found.append(PatientNote(chart, max(since, job.finished_at), said, told, order))
            continue
        records = [_record(chart, payload, record) for payload, record in statements[job.id]]
        # Its conversion wrote no message of a statement that was held for review.
        records = [record for record in records if record.written]
        passed = _without(records, held[job.id])
        own = [stored_message(row, note.patient_id) for row in messages[job.id]]
        issues: list[Issue] = []
        if len(passed) < len(records):
            own, issues = _made_again(note.source, chart, passed, own, facility, job.finished_at)
        found.append(PatientNote(chart, job.finished_at, passed, own, order, issues))
    return found


def _decided(session: Session, jobs: Sequence[UUID]) -> dict[UUID, tuple[Release, list[Record]]]:
    """By job: the newest release of its result and what it tells; nothing where it was withdrawn."""
    rows = session.execute(
        select(Run.job_id, Release)
        .join(Release, Release.run_id == Run.id)
        .where(Run.job_id.in_(jobs))
        .order_by(Release.released_at, Release.withdrawn_at)
    )
    newest: dict[UUID, Release] = {}
    for job_id, release in rows:
        newest[job_id] = release
    said: dict[UUID, list[Record]] = defaultdict(list)
    in_force = [release.id for release in newest.values() if release.withdrawn_at is None]
    columns = select(ReleasedRecord.release_id, ReleasedRecord.record).where(ReleasedRecord.release_id.in_(in_force))
    for release_id, record in session.execute(columns.order_by(ReleasedRecord.release_id, ReleasedRecord.ordinal)):
        said[release_id].append(Record.model_validate(record))
    return {job_id: (release, said[release.id]) for job_id, release in newest.items()}


def _record(note: ChartNote, payload: dict[str, Any], record: dict[str, Any] | None) -> Record:
    if record is None:
        raise Conflict(f"note {note.id} was converted by an earlier version; convert it again")
    return Record.model_validate({**record, "statement": payload})


def _without(records: Sequence[Record], faulty: Sequence[dict[str, Any]]) -> list[Record]:
    """Records that none of the faulty resources was made of."""
    return [record for record in records if not any(made_of(content, record.statement, record.also) for content in faulty)]


def _made_again(
    source: str,
    note: ChartNote,
    records: Sequence[Record],
    stored: Sequence[Message],
    facility: Facility,
    sent_at: datetime,
) -> tuple[list[Message], list[Issue]]:
    """The note's own messages, of these records alone; their numbers depend on source and note, as those of `stored` do."""
    department = next((message.department for message in stored if message.department != "-"), None)
    sender = replace(facility, department_code=department, department_name=note.department)
    made, issues = ssmix2.messages(note, records, facility=sender, sent_at=sent_at, source=source)
    return [message for message in made if message.kind not in PATIENT_WIDE], issues


def _ever_used(session: Session, source: str, patient_id: str) -> tuple[frozenset[MessageKey], frozenset[int]]:
    """Keys of all messages that any job of the patient's notes made, and the numbers of the notes."""
    of_patient = (Note.source == source, Note.patient_id == patient_id)
    columns = (Ssmix2Message.kind, Ssmix2Message.care_date, Ssmix2Message.order_no)
    rows = session.execute(select(*columns).join(Note, Note.id == Ssmix2Message.note_id).where(*of_patient).distinct())
    # Patient-wide files are also made without a message of a job.
    keys = {(kind, day, order) for kind, day, order in rows} | {(kind.value, None, "9" * 15) for kind in PATIENT_WIDE}
    ids = session.scalars(select(func.distinct(Note.external_id)).where(*of_patient))
    return frozenset(keys), frozenset(_order(source, note_id) for note_id in ids)
