"""Where a resource comes from and what became of it: its versions, what made them, who judged, and what leaves of it.

Everything is read from what is kept anyway; nothing here writes. While a second person reads a note without knowing the first
one's judgements, these are shown to nobody but those who made them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import and_, or_, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from app import patients, ssmix2
from app.errors import Conflict, Gone, InvalidInput, NotFound
from app.review_items import Item, judged, undecided_items
from app.second_comparison import find_reading
from app.ssmix2 import DataKind, Facility, Message
from app.store import versions
from models import (
    AuditEvent,
    Decision,
    Job,
    Note,
    NoteReview,
    Release,
    ReleasedRecord,
    ReleaseState,
    Resource,
    Review,
    Run,
)
from schemas.access import Principal
from schemas.coding import Coding
from schemas.review import Verdict
from schemas.statement import Field, Statement

MESSAGE_KINDS = {
    "Condition": DataKind.DIAGNOSIS,
    "AllergyIntolerance": DataKind.ALLERGY,
    "Observation": DataKind.RESULT,
    "MedicationRequest": DataKind.PRESCRIPTION,
    "Patient": DataKind.PATIENT,
    "Encounter": DataKind.VISIT,
}
"""In which SS-MIX2 message a resource's statement is told."""
MAX_EVENTS = 500
"""The newest events of a note that are told."""


@dataclass(frozen=True)
class VersionTold:
    """`state`: draft, final, invalid (a check found an error) or deleted. `run`: what made it; None: a client wrote it."""

    version: int
    state: str
    created_at: datetime
    released_at: datetime | None
    written_by: str | None
    run: Run | None


@dataclass(frozen=True)
class Step:
    """One judgement of the item that the resource was made of, and what it changed: (field, before, after), None where there
    was, or is, nothing."""

    version: int
    verdict: Verdict
    by: str
    at: datetime
    automatic: bool
    reason: str | None
    seconds: float | None
    changes: list[tuple[str, str | None, str | None]]


@dataclass(frozen=True)
class MessageTold:
    """`place`: below the storage's root; None where SS-MIX2 cannot file it. `about`: is the resource's statement told in it?"""

    kind: DataKind
    place: str | None
    segments: list[str]
    about: bool


@dataclass(frozen=True)
class Trace:
    """`leaves`: the newest version that may leave, as it is served; None: nothing of it may, or it was deleted. `blind`: its
    judgements are kept from the reader for now. `seconds`: spent on it by people, in all."""

    type: str
    id: str
    note_id: UUID | None
    versions: list[VersionTold]
    statement: Statement | None
    steps: list[Step]
    blind: bool
    releases: Sequence[Release]
    leaves: dict[str, Any] | None
    final: bool
    messages: list[MessageTold]

    @property
    def seconds(self) -> float | None:
        known = [step.seconds for step in self.steps if step.seconds is not None]
        return sum(known) if known else None


def trace(session: Session, type_: str, id_: str, who: Principal, facility: Facility) -> Trace:
    """`facility`: who sends the SS-MIX2 messages. Raises: NotFound."""
    rows = session.execute(
        select(Resource, Run)
        .outerjoin(Run, Run.id == Resource.run_id)
        .where(Resource.type == type_, Resource.id == id_)
        .order_by(Resource.version.desc())
    ).all()
    if not rows:
        raise NotFound("no such resource")
    note_id = next((row.note_id for row, _ in rows if row.note_id is not None), None)
    review = _review(session, type_, id_)
    blind = review is not None and _is_blind(session, review.run_id, who)
    leaves, final = None, False
    try:
        newest = versions.read(session, type_, id_, who)
        leaves, final = newest.served(), newest.released
    except (NotFound, Gone):
        pass
    releases: Sequence[Release] = []
    if note_id is not None:
        releases = session.scalars(select(Release).where(Release.note_id == note_id).order_by(Release.released_at)).all()
    statement, steps = (None, []) if review is None or blind else _steps(session, review)
    return Trace(
        type_, id_, note_id, [_version(row, run) for row, run in rows], statement, steps, blind, releases, leaves, final,
        _messages(session, note_id, facility, MESSAGE_KINDS.get(type_)),
    )  # fmt: skip


@dataclass(frozen=True)
class NoteTrace:
    """`runs`: the newest first, each with whether its review is the current one. `resources`: type, id and newest state of what
    was made of the note. `events`: the newest first."""

    note: Note
    runs: list[tuple[Run, bool]]
    resources: list[tuple[str, str, str]]
    events: Sequence[AuditEvent]
    releases: Sequence[Release]
    messages: list[MessageTold]


def trace_note(session: Session, note_id: UUID, who: Principal, facility: Facility) -> NoteTrace:
    """Raises: NotFound."""
    note = session.get(Note, note_id)
    if note is None:
        raise NotFound(f"note {note_id} does not exist")
    runs = session.execute(
        select(Run, and_(NoteReview.run_id.is_not(None), NoteReview.superseded_at.is_(None)))
        .outerjoin(NoteReview, NoteReview.run_id == Run.id)
        .where(Run.note_id == note_id)
        .order_by(Run.created_at.desc())
    )
    newest = (
        select(Resource)
        .where(Resource.note_id == note_id)
        .ext(distinct_on(Resource.type, Resource.id))
        .order_by(Resource.type, Resource.id, Resource.version.desc())
    )
    told = [(bool(current), run) for run, current in runs]
    hidden = [run.id for _, run in told if _is_blind(session, run.id, who)]
    events = select(AuditEvent).where(AuditEvent.note_id == note_id)
    if hidden:
        # What a first reader decided: his second one must not see it yet.
        judged_there = select(Decision.id).join(Review, Review.id == Decision.review_id).where(Review.run_id.in_(hidden))
        events = events.where(or_(AuditEvent.subject.is_(None), AuditEvent.subject.not_in(judged_there)))
    return NoteTrace(
        note=note,
        runs=[(run, current) for current, run in told],
        resources=sorted((row.type, row.id, _state(row)) for row in session.scalars(newest)),
        events=session.scalars(events.order_by(AuditEvent.id.desc()).limit(MAX_EVENTS)).all(),
        releases=session.scalars(select(Release).where(Release.note_id == note_id).order_by(Release.released_at)).all(),
        messages=_messages(session, note_id, facility, None),
    )


# --- judgements -------------------------------------------------------------------------------------------------------


def _review(session: Session, type_: str, id_: str) -> Review | None:
    """The newest item that the resource was made of, by a conversion or by a release."""
    released = select(ReleasedRecord.review_id).where(
        ReleasedRecord.resource_type == type_, ReleasedRecord.resource_id == id_
    )
    own = and_(Review.resource_type == type_, Review.resource_id == id_)
    query = (
        select(Review)
        .join(NoteReview, NoteReview.run_id == Review.run_id)
        .where(or_(own, Review.id.in_(released)))
        .order_by(NoteReview.begun_at.desc(), Review.created_at.desc())
    )
    return session.scalars(query.limit(1)).one_or_none()


def _is_blind(session: Session, run_id: UUID, who: Principal) -> bool:
    reading = find_reading(session, run_id)
    if reading is None or reading.compared_at is not None:
        return False
    made = select(Decision.id).join(Review, Review.id == Decision.review_id)
    return session.scalar(made.where(Review.run_id == run_id, Decision.decided_by == who.id).limit(1)) is None


def _steps(session: Session, review: Review) -> tuple[Statement | None, list[Step]]:
    """What is said now, and the judgements, the oldest first."""
    decisions = session.scalars(
        select(Decision).where(Decision.review_id == review.id).order_by(Decision.version)
    ).all()
    untouched = next((item for item in undecided_items(session, review.run_id) if item.id == review.id), None)
    added = untouched is None
    if untouched is None:
        first = Statement.model_validate(decisions[0].statement)
        untouched = Item(review.id, 0, first, None, None, False, review.explicit, True, None)
    said: list[tuple[Statement | None, Coding | None]] = []
    for count in range(len(decisions) + 1):
        item = judged(untouched, decisions[:count])
        # What a person added was not there before, nor is it once that is undone.
        said.append((None, None) if added and item.verdict is None else (item.statement, item.coding))
    steps = [
        Step(
            one.version, Verdict(one.verdict), one.decided_by, one.decided_at, one.automatic, one.reason,
            None if one.spent_ms is None else one.spent_ms / 1000, _changes(*said[place], *said[place + 1]),
        )
        for place, one in enumerate(decisions)
    ]  # fmt: skip
    return said[-1][0], steps


def _changes(
    before: Statement | None, coding: Coding | None, after: Statement | None, chosen: Coding | None
) -> list[tuple[str, str | None, str | None]]:
    old, new = _told(before, coding), _told(after, chosen)
    return [(name, old.get(name), new.get(name)) for name in (old | new) if old.get(name) != new.get(name)]


def _told(statement: Statement | None, coding: Coding | None) -> dict[str, str]:
    """Each part of a statement by its name, as words."""
    if statement is None:
        return {}
    parts = {field.value: statement.fields[field].quote for field in Field if field in statement.fields}
    parts["assertion"] = statement.assertion.value
    labels = (("category", statement.category), ("result", statement.result), ("action", statement.action))
    parts |= {name: value.value for name, value in labels if value is not None}
    if coding is not None:
        parts["code"] = f"{coding.code} {coding.display}"
    return parts


# --- versions and messages --------------------------------------------------------------------------------------------


def _version(row: Resource, run: Run | None) -> VersionTold:
    return VersionTold(row.version, _state(row), row.created_at, row.released_at, row.written_by, run)


def _state(row: Resource) -> str:
    if row.method == "DELETE":
        return "deleted"
    if not row.valid:
        return "invalid"
    return "final" if row.state == ReleaseState.FINAL else "draft"


def _messages(
    session: Session, note_id: UUID | None, facility: Facility, about: DataKind | None
) -> list[MessageTold]:
    """Those of the note, and the patient-wide ones, as an export would write them now."""
    if note_id is None:
        return []
    if session.scalar(select(Job.id).where(Job.note_id == note_id).limit(1)) is None:
        return []
    try:
        found = patients.note_messages(session, note_id, facility)
    except Conflict:  # no result, or one that a former version made
        return []
    return [
        MessageTold(message.kind, _place(message, sent_at), message.text.rstrip("\r").split("\r"), message.kind is about)
        for message, sent_at in found
    ]


def _place(message: Message, sent_at: datetime) -> str | None:
    try:
        return str(ssmix2.path_of(message, sent_at))
    except InvalidInput:
        return None
