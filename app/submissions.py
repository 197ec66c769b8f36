"""What leaves for the national service, made from what is stored: Bundles of diseases, allergies and laboratory reports,
and documents. Nothing is sent from here: Bundles are made, recorded, and handed out.

Units (JP-CLINS 1.10.0, guide on JP_Bundle_CLINS): diseases and allergies are one Bundle for a patient at a facility; a
laboratory Bundle is one result report, which here is one note: a note is what reached us as one report, and a code points
at all that stands in it. The service keeps one Bundle for each key (insurance id, identifier system, identifier value),
and another under the same key replaces it; so the value depends on source, patient, type and note, and its year is that
of the first version, for ever.

Only resources that passed every check are looked at, of the newest finished job of each note (of a corrected note, the
newest one), and of those only what a person has released, unless drafts are asked for. The Patient is the sender's own
statement, not the model's, and needs no release.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from app import fhir
from app.errors import InvalidInput, NotFound
from app.fhir import clins, documents
from app.fhir.clins import ClinsType
from app.fhir.elements import identifier_of
from app.fhir.origin import is_taken_back
from app.note_rows import chart_note
from models import ClinsBundle, Job, Note, Resource
from models.resources import ReleaseState
from schemas.issue import Issue, IssueType, Severity
from schemas.job import JobState

JAPAN = timezone(timedelta(hours=9))
_NO_NUMBER = (
    "the institution number of the facility; it goes into resources when notes are converted: set INSTITUTION_NUMBER for "
    "the workers, then convert the notes again (POST /api/notes/{id}/jobs)"
)


@dataclass(frozen=True)
class Made:
    """A Bundle as it is handed out, or why there is none.

    `bundle`: None when nothing can be sent. `new`: False where the stored version was handed out again, byte for byte.
    `drafts`: does it hold a resource that no person has accepted? `document`, `day`: of a laboratory report, the id of
    its DocumentReference and the date of its note. `issues`: each resource left out and why, or what is missing.
    `left_out` resources are not in the Bundle; of those, `waiting` are drafts that nobody has released.
    """

    type: ClinsType
    identifier: str | None = None
    bundle: dict[str, Any] | None = None
    version: int | None = None
    new: bool = False
    drafts: bool = False
    document: str | None = None
    day: date | None = None
    issues: list[Issue] = field(default_factory=list)
    left_out: int = 0
    waiting: int = 0


@dataclass(frozen=True)
class Recorded:
    """A version of a Bundle that was handed out."""

    type: str
    insurance_id: str
    identifier: str
    version: int
    drafts: bool
    created_at: datetime
    content: dict[str, Any]


@dataclass(frozen=True)
class Report:
    """A note with laboratory results: its DocumentReference, and the day it is of."""

    document: str
    day: date


@dataclass(frozen=True)
class DocumentMade:
    """The document of one note, or why there is none. `waiting`: drafts of the note that nobody has released; `drafts`:
    does it hold such a one?"""

    note_id: str
    bundle: dict[str, Any] | None
    issues: list[Issue]
    waiting: int = 0
    drafts: bool = False


@dataclass(frozen=True)
class _NoteResources:
    """One note's resources of its newest finished job, each in its newest version."""

    external_id: str
    day: date
    document: str
    rows: Sequence[Resource]

    def of(self, type_: str) -> list[Resource]:
        return [row for row in self.rows if row.type == type_]


# --- who and what is there -------------------------------------------------------------------------------------------


def find_patient(session: Session, resource_id: str, source: str | None = None) -> tuple[str, str]:
    """(source, the sender's patient id) of a Patient resource. Raises: NotFound; InvalidInput where several sources know
    the patient and `source` does not say which."""
    rows = session.execute(
        select(Note.source, Resource.patient_id)
        .join(Note, Note.id == Resource.note_id)
        .where(Resource.type == "Patient", Resource.id == resource_id)
        .distinct()
    ).all()
    known = sorted((str(of), str(patient)) for of, patient in rows if source is None or of == source)
    if not known:
        raise NotFound("no such patient")
    if len(known) > 1:
        raise InvalidInput(
            f"several systems sent notes of this patient; choose one with source=: {', '.join(s for s, _ in known)}"
        )
    return known[0]


def patients(session: Session) -> list[tuple[str, str]]:
    """(source, the sender's patient id) of everyone with a finished job."""
    query = select(Note.source, Note.patient_id).join(Job, Job.note_id == Note.id).where(Job.state == JobState.DONE)
    return [
        (source, patient)
        for source, patient in session.execute(query.distinct().order_by(Note.source, Note.patient_id))
    ]


def reports(session: Session, source: str, patient_id: str, *, drafts: bool) -> list[Report]:
    """The patient's notes with laboratory results that may be looked at, the newest first."""
    found = _patient_notes(session, source, patient_id)
    return [Report(n.document, n.day) for n in reversed(found) if any(_usable(r, drafts) for r in n.of("Observation"))]


def clins_history(session: Session, source: str, patient_id: str, type_: ClinsType | None = None) -> list[Recorded]:
    """Every version of every Bundle that was handed out for the patient, the newest first."""
    query = select(ClinsBundle).where(ClinsBundle.source == source, ClinsBundle.patient_id == patient_id)
    if type_ is not None:
        query = query.where(ClinsBundle.type == type_)
    rows = session.scalars(query.order_by(ClinsBundle.created_at.desc(), ClinsBundle.version.desc()))
    return [
        Recorded(r.type, r.insurance_id, r.identifier_value, r.version, r.drafts, r.created_at, r.content) for r in rows
    ]


# --- Bundles ---------------------------------------------------------------------------------------------------------


def clins_bundles(
    session: Session,
    source: str,
    patient_id: str,
    type_: ClinsType,
    *,
    drafts: bool,
    document: str | None = None,
    now: datetime,
) -> list[Made]:
    """The patient's Bundles of a type, each recorded: one for Condition and AllergyIntolerance, one for each report (the
    newest first) for Observation, or the report of the DocumentReference `document` alone. Empty where the notes say
    nothing of the type and nothing was handed out before.

    The same content (its instants aside) gives the stored Bundle again; other content the next version under the same
    key. Two calls at once wait for each other.
    Raises: NotFound where `document` is none of the patient's; InvalidInput for `document` beside another type, and for
    a `now` without zone.
    """
    if document is not None and type_ != "Observation":
        raise InvalidInput("document: only Observation is made by report")
    if now.tzinfo is None:
        raise InvalidInput("now: needs a time zone")
    # Before anything is read: who comes second must see what the first has written.
    key = f"clins/{source}/{patient_id}/{type_}"
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(key, 0))))
    notes = _patient_notes(session, source, patient_id)
    if document is not None and document not in {note.document for note in notes}:
        raise NotFound("the patient has no such document")
    maker = _Maker(session, source, patient_id, type_, drafts, now, _patient(notes))
    if type_ == "Observation":
        wanted = [note for note in reversed(notes) if document in (None, note.document)]
        made = [maker.make([note], note) for note in wanted]
    else:
        made = [maker.make(notes)]
    return [one for one in made if one is not None]


class _Maker:
    def __init__(
        self,
        session: Session,
        source: str,
        patient_id: str,
        type_: ClinsType,
        drafts: bool,
        now: datetime,
        patient: dict[str, Any] | None,
    ) -> None:
        self.session, self.source, self.patient_id, self.type = session, source, patient_id, type_
        self.drafts, self.now, self.patient = drafts, now, patient
        self.today = now.astimezone(JAPAN).date()

    def make(self, notes: Sequence[_NoteResources], report: _NoteResources | None = None) -> Made | None:
        """One Bundle of what `notes`, oldest first, say; None where they say nothing and never did."""
        rows = [row for note in notes for row in note.of(self.type)]
        usable = [[row.content for row in note.of(self.type) if _usable(row, self.drafts)] for note in notes]
        waiting = 0 if self.drafts else sum(row.valid and row.state == ReleaseState.DRAFT for row in rows)
        issues = [_held(row) for row in rows if not row.valid]
        if waiting:
            issues.append(_draft_issue(waiting))
        local = identifier_of(
            "clins", self.source, self.patient_id, self.type, *([report.external_id] if report else [])
        )
        candidates = [content for contents in usable for content in contents]
        if report is None:
            candidates, left = clins.merged(self.type, usable, today=self.today)
            issues += left
        left_out = len(issues) + max(waiting - 1, 0)
        stored, bundle, more = self._bundle(local, candidates)
        issues += more
        about: dict[str, Any] = {
            "type": self.type, "issues": issues, "waiting": waiting,
            "left_out": left_out + (len(candidates) if bundle is None else len(more)),
            "document": report.document if report else None, "day": report.day if report else None,
        }  # fmt: skip
        if bundle is None:
            if stored is None and not rows:
                return None
            # A version with drafts is not for the service: only another one may be there.
            if (sent := self._stored(self._insurance(), local, released=True)) is not None:
                issues.append(_stale(sent))
            return Made(**about)
        ids = {entry["resource"]["id"] for entry in bundle["entry"]}
        unaccepted = any(row.id in ids and row.state == ReleaseState.DRAFT for row in rows)
        row, new = self._record(stored, bundle, unaccepted)
        return Made(
            **about,
            identifier=row.identifier_value,
            bundle=row.content,
            version=row.version,
            new=new,
            drafts=unaccepted,
        )

    def _bundle(
        self, local: str, candidates: Sequence[dict[str, Any]]
    ) -> tuple[ClinsBundle | None, dict[str, Any] | None, list[Issue]]:
        """The newest stored version under the key, the Bundle, and why something is not in it."""
        number = next((n for n in map(clins.institution, reversed(candidates)) if n), None)
        if self.patient is None:
            return None, None, [_missing("no Patient of a finished job")]
        insurance = self._insurance()
        stored = self._stored(insurance, local)
        if not candidates:
            return stored, None, []
        if insurance is None:
            return (
                stored,
                None,
                [_missing(f"{clins.reference_of(self.patient)} has no insurance id (被保険者個人識別子)")],
            )
        if number is None:
            return stored, None, [_missing(f"{clins.reference_of(self.patient)}: {_NO_NUMBER}")]
        year = stored.identifier_value.split("^")[1] if stored else f"{self.today.year:04}"
        value = f"{number}^{year}^{local}"
        bundle, issues = clins.clins_bundle(
            self.type, self.patient, candidates, identifier_value=value, timestamp=self.now
        )
        return stored, bundle, issues

    def _insurance(self) -> str | None:
        return clins.insurance_id(self.patient) if self.patient else None

    def _stored(self, insurance: str | None, local: str, *, released: bool = False) -> ClinsBundle | None:
        """The newest version under the key; `released`: the newest without a draft."""
        query = (
            select(ClinsBundle)
            .where(
                ClinsBundle.source == self.source,
                ClinsBundle.patient_id == self.patient_id,
                ClinsBundle.type == self.type,
                ClinsBundle.identifier_system == clins.BUNDLE_IDENTIFIER,
                ClinsBundle.identifier_value.endswith(f"^{local}", autoescape=True),
            )
            .order_by(ClinsBundle.created_at.desc(), ClinsBundle.version.desc())
        )
        if insurance is not None:
            query = query.where(ClinsBundle.insurance_id == insurance)
        if released:
            query = query.where(~ClinsBundle.drafts)
        return self.session.scalars(query.limit(1)).one_or_none()

    def _record(self, stored: ClinsBundle | None, bundle: dict[str, Any], drafts: bool) -> tuple[ClinsBundle, bool]:
        value = bundle["identifier"]["value"]
        digest = hashlib.sha256(fhir.dumps(_timeless(bundle)).encode()).hexdigest()
        if stored is not None and stored.identifier_value != value:
            stored = None  # the facility has another number now, and so the Bundle another key
        if stored is not None and stored.content_sha256 == digest:
            # What was a draft may have been accepted as it was; what was handed out without one may have been sent.
            stored.drafts = stored.drafts and drafts
            return stored, False
        insurance = clins.insurance_id(bundle["entry"][0]["resource"])
        assert insurance is not None
        row = ClinsBundle(
            source=self.source,
            patient_id=self.patient_id,
            type=self.type,
            insurance_id=insurance,
            identifier_system=clins.BUNDLE_IDENTIFIER,
            identifier_value=value,
            version=stored.version + 1 if stored else 1,
            drafts=drafts,
            content=bundle,
            content_sha256=digest,
        )
        self.session.add(row)
        self.session.flush()
        # Handed out as the database gives it back: the first time and every other time the same bytes.
        self.session.refresh(row)
        return row, True


def _usable(row: Resource, drafts: bool) -> bool:
    return row.valid and (drafts or row.state == ReleaseState.FINAL) and not is_taken_back(row.content)


def _timeless(node: Any) -> Any:
    """A Bundle without the instants at which it and its resources were made."""
    if isinstance(node, dict):
        return {k: _timeless(v) for k, v in node.items() if k not in ("lastUpdated", "timestamp")}
    return [_timeless(item) for item in node] if isinstance(node, list) else node


def _held(row: Resource) -> Issue:
    text = f"{row.type}/{row.id} is not sent: a check found an error in it"
    return Issue(severity=Severity.WARNING, code=IssueType.INVALID, text=text)


def _draft_issue(waiting: int) -> Issue:
    what = "1 draft waits for review" if waiting == 1 else f"{waiting} drafts wait for review"
    return Issue(severity=Severity.WARNING, code=IssueType.INCOMPLETE, text=f"{what}; drafts=true includes them")


def _missing(what: str) -> Issue:
    return Issue(severity=Severity.ERROR, code=IssueType.REQUIRED, text=f"missing: {what}")


def _stale(stored: ClinsBundle) -> Issue:
    """JP_Bundle_CLINS cannot be empty (R02143), so an earlier one cannot be replaced by nothing."""
    text = (
        f"version {stored.version} of {stored.identifier_value} was handed out before; where it was sent, the service keeps "
        "it until it is deleted there by its key"
    )
    return Issue(severity=Severity.WARNING, code=IssueType.CONFLICT, text=text)


# --- documents -------------------------------------------------------------------------------------------------------


def note_document(session: Session, document_id: str, *, drafts: bool) -> DocumentMade:
    """The document of the note of a DocumentReference. The same stored resources give the same document, instants too.

    Raises: NotFound; InvalidInput for a note that no document is made of.
    """
    note_id = session.scalars(
        select(Resource.note_id)
        .where(Resource.type == "DocumentReference", Resource.id == document_id)
        .order_by(Resource.version.desc())
        .limit(1)
    ).one_or_none()
    note = session.get(Note, note_id) if note_id else None
    if note is None:
        raise NotFound("no such document")
    chart = chart_note(note)
    if chart.document_type not in documents.FORMS:
        raise InvalidInput(
            f"no document is made of a note of type {chart.document_type}; only of {' and '.join(documents.FORMS)}"
        )
    done = select(Job.id).where(Job.note_id == note.id, Job.state == JobState.DONE)
    job_id = session.scalars(done.order_by(Job.finished_at.desc()).limit(1)).one()
    rows = _newest_rows(session, Resource.job_id == job_id)
    # The others are the sender's own statements of whom and what the note is about, which no person has to release.
    read = [row for row in rows if row.type in documents.KINDS]
    kept = [row for row in rows if _usable(row, drafts or row.type not in documents.KINDS)]
    waiting = 0 if drafts else sum(row.valid and row.state == ReleaseState.DRAFT for row in read)
    version = next(row.version for row in rows if row.type == "DocumentReference")
    moment = max(row.created_at for row in rows).astimezone(UTC)
    bundle, issues = documents.document(
        chart,
        [row.content for row in kept],
        timestamp=moment,
        version=version,
        withheld=[row.content for row in rows if row not in kept],
    )
    held = [_held(row) for row in rows if not row.valid]
    drafted = [_draft_issue(waiting)] if waiting else []
    unaccepted = bundle is not None and any(row in kept and row.state == ReleaseState.DRAFT for row in read)
    return DocumentMade(chart.id, bundle, [*issues, *held, *drafted], waiting, unaccepted)


def document_ids(session: Session, note_ids: Sequence[str] = ()) -> list[tuple[str, str]]:
    """(the sender's note id, the DocumentReference's id) of the notes that a document can be made of; all, or those of
    `note_ids`."""
    query = (
        select(Note.external_id, Resource.id)
        .join(Note, Note.id == Resource.note_id)
        .join(Job, Job.id == Resource.job_id)
        .where(
            Resource.type == "DocumentReference",
            Job.state == JobState.DONE,
            Note.document_type.in_(list(documents.FORMS)),
        )
    )
    if note_ids:
        query = query.where(Note.external_id.in_(note_ids))
    return [(note, id_) for note, id_ in session.execute(query.distinct().order_by(Note.external_id, Resource.id))]


# --- reading ---------------------------------------------------------------------------------------------------------


def _patient_notes(session: Session, source: str, patient_id: str) -> list[_NoteResources]:
    """The patient's notes with a finished job, the oldest first; of a corrected note the newest."""
    rows = session.execute(
        select(Note.external_id, Note.note_date, Job.id)
        .join(Job, Job.note_id == Note.id)
        .where(Note.source == source, Note.patient_id == patient_id, Job.state == JobState.DONE)
        .order_by(Note.received_at, Note.id, Job.finished_at)
    )
    newest: dict[str, tuple[date, UUID]] = {}
    for external_id, day, job_id in rows:
        newest.pop(external_id, None)
        newest[external_id] = (day, job_id)
    jobs_ = [job_id for _, job_id in newest.values()]
    # The ids alone: the content of a DocumentReference is the whole note.
    texts = select(Resource.job_id, Resource.id).where(Resource.type == "DocumentReference", Resource.job_id.in_(jobs_))
    documents_of = {row.job_id: row.id for row in session.execute(texts)}
    rows_of: dict[UUID, list[Resource]] = {job_id: [] for job_id in jobs_}
    for found in _newest_rows(session, Resource.job_id.in_(jobs_) & Resource.type.in_(("Patient", *clins.CLINS_TYPES))):
        if found.job_id is not None:  # never: they were chosen by their jobs
            rows_of[found.job_id].append(found)
    notes = [
        _NoteResources(note, day, documents_of.get(job_id, ""), rows_of[job_id])
        for note, (day, job_id) in newest.items()
    ]
    return sorted(notes, key=lambda note: note.day)  # stable: notes of one day in the order they came


def _newest_rows(session: Session, which: ColumnElement[bool]) -> list[Resource]:
    """Jobs' resources in their order; of one that was amended, the newest version."""
    newest = {
        (row.job_id, row.type, row.id): row
        for row in session.scalars(select(Resource).where(which).order_by(Resource.version))
    }
    return sorted(newest.values(), key=lambda row: row.ordinal)


def _patient(notes: Sequence[_NoteResources]) -> dict[str, Any] | None:
    """The newest Patient that is complete, else the newest: a sender may state an address in one note and not in the next."""
    found = [row.content for note in reversed(notes) for row in note.of("Patient") if row.valid]
    return next((patient for patient in found if not clins.patient_faults(patient)), next(iter(found), None))
