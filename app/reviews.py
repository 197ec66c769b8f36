"""A review's life: what a model read in a note, judged statement by statement by a person, and released.

    begin       a conversion was stored: its statements wait, and the review of the note's former result is superseded
    decide      a statement is right, or wrong
    amend, add  a statement is right after a correction; the model missed one
    release     everything is decided: what was accepted is no draft any more

A review judges one result of a note, the newest. Once the note is converted again the former judgements stay as they are and
count for nothing: the new result is judged anew. A judgement may be changed until the release, by another one.
What releasing makes of the resources that were amended, added or rejected is not done here: they stay drafts, or unwritten.

Everything works in the caller's transaction and leaves an audit event in it. Writers of one note wait for each other.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, cast
from uuid import UUID, uuid4

from sqlalchemy import func, or_, select, tuple_, update
from sqlalchemy.orm import Session

from app import outbox
from app.audit import SYSTEM, person, record
from app.errors import Conflict, InvalidInput, NotFound
from app.fhir.origin import RESOURCE_TYPES, made_of
from app.generation.form import ASSERTIONS
from app.store import index
from models import AuditEvent, Decision, Job, Note, NoteReview, NoteStatement, ReleaseState, Resource, Review, Run
from schemas.job import JobState
from schemas.record import Record
from schemas.review import AuditAction, Verdict
from schemas.statement import FIELDS, AllergyCategory, Assertion, Field, Kind, Statement

MAX_REASON = 2000
"""Longest reason of a decision, in characters."""
_HARMLESS = (AllergyCategory.FOOD, AllergyCategory.ENVIRONMENT)
_REFERENCED = (Kind.LAB, Kind.INFECTION)


@dataclass(frozen=True)
class Item:
    """One thing to be judged. `statement`: as it stands now, with the last correction; `read`: as the model's reading gave it,
    with what was computed from it, None where a person added the statement (or a former version kept too little).

    `version`: how many decisions there are; the next one has to name it. `verdict`: the newest; None: undecided.
    `explicit`: needs a person's own decision. `added`: by a person. `resource`: type, id and version of what was made of it; None: nothing was.
    """

    id: UUID
    version: int
    statement: Statement
    read: Record | None
    verdict: Verdict | None
    automatic: bool
    explicit: bool
    added: bool
    resource: tuple[str, str, int] | None


@dataclass(frozen=True)
class CurrentReview:
    """The review of a note's current result (`run_id`), items in the order of the note."""

    note_id: UUID
    run_id: UUID
    items: list[Item]
    released_at: datetime | None
    released_by: str | None

    @property
    def undecided(self) -> list[Item]:
        return [item for item in self.items if item.verdict is None]

    @property
    def statements(self) -> list[Statement]:
        """What the note says by the decisions so far, without what is undecided."""
        return [item.statement for item in self.items if item.verdict not in (None, Verdict.REJECT)]


@dataclass(frozen=True)
class Event:
    """An audit event of a note, with the decision that it tells of, if it is one."""

    recorded_at: datetime
    action: AuditAction
    by: str
    review_id: UUID | None = None
    version: int | None = None
    statement: Statement | None = None
    automatic: bool = False
    reason: str | None = None


# --- the review of a result -----------------------------------------------------------------------------------------


def begin(session: Session, note_id: UUID) -> None:
    """Makes the review of the note's newest result, if it has none, and supersedes that of the result before.

    Raises: NotFound; Conflict while no job of the note has finished.
    """
    _lock(session, note_id)
    results = select(Run.id).join(Job, Job.id == Run.job_id).where(Run.note_id == note_id, Job.state == JobState.DONE)
    run_id = session.scalars(results.order_by(Job.finished_at.desc(), Run.created_at.desc()).limit(1)).one_or_none()
    if run_id is None:
        raise Conflict(f"note {note_id} has no result yet")
    if session.get(NoteReview, run_id) is not None:
        return
    superseded = session.scalars(
        update(NoteReview)
        .where(NoteReview.note_id == note_id, NoteReview.superseded_at.is_(None))
        .values(superseded_at=func.now())
        .returning(NoteReview.run_id)
    ).all()
    for former in superseded:
        record(session, AuditAction.SUPERSEDE, by=SYSTEM, subject=former, note_id=note_id, after={"run": str(run_id)})
    session.add(NoteReview(run_id=run_id, note_id=note_id))
    session.flush()
    session.add_all(_items(session, run_id))
    session.flush()


def _items(session: Session, run_id: UUID) -> Iterable[Review]:
    stored = select(NoteStatement.id, NoteStatement.payload).where(NoteStatement.run_id == run_id)
    types = {type_ for of_kind in RESOURCE_TYPES.values() for type_ in of_kind}
    made = select(Resource.type, Resource.id, Resource.version, Resource.content)
    made = made.where(Resource.run_id == run_id, Resource.type.in_(types)).order_by(Resource.ordinal)
    waiting = list(session.execute(made))
    for statement_id, payload in session.execute(stored.order_by(NoteStatement.ordinal)):
        statement = Statement.model_validate(payload)
        own = next((row for row in waiting if made_of(row.content, statement)), None)
        if own is not None:
            waiting.remove(own)
        yield Review(
            run_id=run_id, statement_id=statement_id, explicit=needs_person(statement),
            resource_type=own and own.type, resource_id=own and own.id, resource_version=own and own.version,
        )  # fmt: skip


def needs_person(statement: Statement) -> bool:
    """May no rule accept it? So it is with allergies to drugs, and with those of which it is not sure that they are none
    (contrast media, "no allergies"): a mistake in them can kill."""
    return statement.kind is Kind.ALLERGY and statement.category not in _HARMLESS


def get_review(session: Session, note_id: UUID) -> CurrentReview:
    """Raises: NotFound; Conflict while no job of the note has finished."""
    row = session.scalars(_current(note_id)).one_or_none()
    if row is None:  # converted before reviews were kept, or never
        begin(session, note_id)
        row = session.scalars(_current(note_id)).one()
    return CurrentReview(note_id, row.run_id, _read_items(session, row.run_id), row.released_at, row.released_by)


def open_items(session: Session, note_id: UUID) -> list[Item]:
    """What still waits for a decision; raises as `get_review`."""
    return get_review(session, note_id).undecided


def _current(note_id: UUID) -> Any:
    current = select(NoteReview).where(NoteReview.note_id == note_id, NoteReview.superseded_at.is_(None))
    return current.execution_options(populate_existing=True)


def _read_items(session: Session, run_id: UUID) -> list[Item]:
    decisions: dict[UUID, list[Decision]] = defaultdict(list)
    for decision in session.scalars(
        select(Decision)
        .join(Review, Review.id == Decision.review_id)
        .where(Review.run_id == run_id)
        .order_by(Decision.version)
    ):
        decisions[decision.review_id].append(decision)
    rows = session.execute(
        select(Review, NoteStatement)
        .outerjoin(NoteStatement, NoteStatement.id == Review.statement_id)
        .where(Review.run_id == run_id)
    )
    items = [_item(review, stored, decisions[review.id]) for review, stored in rows]
    # As the note is read; the id tells two statements over the same characters apart, always in the same way.
    return sorted(items, key=lambda item: (item.statement.name.start, item.statement.name.end, item.id))


def _item(review: Review, stored: NoteStatement | None, decisions: Sequence[Decision]) -> Item:
    last = decisions[-1] if decisions else None
    read = None
    if stored is not None and stored.record is not None:
        read = Record.model_validate({**stored.record, "statement": stored.payload, "candidates": stored.candidates})
    corrected = [decision.statement for decision in decisions if decision.statement is not None]
    # Accepted after a correction: as it was read after all.
    payload = stored.payload if stored and (not corrected or decisions[-1].verdict == Verdict.ACCEPT) else corrected[-1]
    resource = (review.resource_type, review.resource_id, review.resource_version)
    return Item(
        id=review.id,
        version=last.version if last else 0,
        statement=Statement.model_validate(payload),
        read=read,
        verdict=Verdict(last.verdict) if last else None,
        automatic=bool(last and last.automatic),
        explicit=review.explicit,
        added=stored is None,
        resource=None if None in resource else cast(tuple[str, str, int], resource),
    )


# --- people ---------------------------------------------------------------------------------------------------------


def decide(
    session: Session,
    review_id: UUID,
    verdict: Verdict,
    *,
    by: str,
    version: int,
    reason: str | None = None,
    automatic: bool = False,
) -> Item:
    """Accepts the statement as it was read, or rejects it. `version`: of the item as the person saw it. `automatic`: a rule
    accepted it in the person's name; it may not where a person is needed, nor after a person decided.

    Raises: NotFound; Conflict where somebody else decided meanwhile, the note was converted again, or it is released;
    InvalidInput.
    """
    if verdict not in (Verdict.ACCEPT, Verdict.REJECT):
        raise InvalidInput("a correction is amended, and what was missed is added, with its values")
    current, item = _open(session, review_id, version)
    if verdict is Verdict.ACCEPT and item.added:
        raise InvalidInput("a person added this statement: there is no reading of it to accept")
    if automatic and item.explicit:
        raise InvalidInput("this item needs a person's own decision")
    if automatic and (verdict is not Verdict.ACCEPT or item.version):
        raise InvalidInput("a rule can only accept, and only what nobody has decided")
    return _decided(session, current, item, verdict, None, by=by, reason=reason, automatic=automatic)


def amend(
    session: Session, review_id: UUID, statement: Statement, *, by: str, version: int, reason: str | None = None
) -> Item:
    """The statement is right as `statement` has it. Raises: as `decide`; InvalidInput where the stored note does not say it
    (`check_statement`), Conflict where another item says it already."""
    current, item = _open(session, review_id, version)
    value = _checked(session, current, statement, item)
    return _decided(session, current, item, Verdict.AMEND, value, by=by, reason=reason)


def add(
    session: Session, note_id: UUID, run_id: UUID, statement: Statement, *, by: str, reason: str | None = None
) -> Item:
    """A statement that the model missed. `run_id`: the result that the person saw. Raises: as `amend`."""
    current = _still_open(session, note_id, run_id)
    value = _checked(session, current, statement, None)
    review = Review(run_id=run_id, explicit=needs_person(value))
    session.add(review)
    session.flush()
    item = Item(review.id, 0, value, None, None, False, review.explicit, True, None)
    return _decided(session, current, item, Verdict.ADD, value, by=by, reason=reason)


def release(session: Session, note_id: UUID, run_id: UUID, *, by: str) -> CurrentReview:
    """Ends the review of the result `run_id`: what was accepted as it was read is released, unless a check found an error
    in it; and with it the sender's own statements of whom and what the note is about, which nobody has to judge (Patient,
    Encounter, DocumentReference …). A note without statements can be released too: a person says that there are none.

    Raises: NotFound; Conflict while something is undecided, where the note was converted again, or if it is released.
    """
    current = _still_open(session, note_id, run_id)
    if waiting := current.undecided:
        grave = sum(item.explicit for item in waiting)
        raise Conflict(f"{len(waiting)} statements are undecided, {grave} of them on drug allergies")
    named = person(by)
    session.execute(
        update(NoteReview).where(NoteReview.run_id == run_id).values(released_at=func.now(), released_by=named)
    )
    accepted = [item.resource for item in current.items if item.verdict is Verdict.ACCEPT and item.resource]
    read = {type_ for of_kind in RESOURCE_TYPES.values() for type_ in of_kind}
    # Before a row is changed, as conversions do: two that lock in one order cannot wait for each other.
    written = session.execute(select(Resource.type, Resource.id).where(Resource.run_id == run_id))
    index.lock(session, [(type_, id_) for type_, id_ in written])
    released = session.execute(
        update(Resource)
        .where(
            Resource.run_id == run_id, Resource.valid, Resource.state == ReleaseState.DRAFT,
            or_(tuple_(Resource.type, Resource.id, Resource.version).in_(accepted), Resource.type.not_in(read)),
        )
        .values(state=ReleaseState.FINAL, released_at=func.now())
        .returning(Resource.type, Resource.id)
        .execution_options(synchronize_session=False)
    )  # fmt: skip
    index.renew(session, [(type_, id_) for type_, id_ in released])
    said = [statement.model_dump(mode="json") for statement in current.statements]
    record(session, AuditAction.RELEASE, by=named, subject=run_id, note_id=note_id, after=said)
    outbox.released(session, note_id, run_id)
    return get_review(session, note_id)


def history(session: Session, note_id: UUID) -> list[Event]:
    """What happened to the reviews of the note, of all its results, oldest first. Raises: NotFound."""
    if session.get(Note, note_id) is None:
        raise NotFound(f"note {note_id} does not exist")
    rows = session.execute(
        select(AuditEvent, Decision)
        .outerjoin(Decision, Decision.id == AuditEvent.subject)
        .where(AuditEvent.note_id == note_id)
        .order_by(AuditEvent.id)
    )
    return [_event(event, decision) for event, decision in rows]


def _event(event: AuditEvent, decision: Decision | None) -> Event:
    told = Event(event.recorded_at, AuditAction(event.action), event.acted_by)
    if decision is None:
        return told
    return replace(
        told,
        review_id=decision.review_id,
        version=decision.version,
        statement=Statement.model_validate(decision.statement) if decision.statement else None,
        automatic=decision.automatic,
        reason=decision.reason,
    )


# --- one decision ---------------------------------------------------------------------------------------------------


def check_statement(text: str, statement: Statement) -> None:
    """Raises: InvalidInput, with the field and its offsets, where `statement` is none that the note `text` can make."""
    kind = statement.kind
    allowed = {*FIELDS[kind], *((Field.REFERENCE,) if kind in _REFERENCED else ())}
    if unknown := set(statement.fields) - allowed:
        raise InvalidInput(f"a {kind.value} has no {', '.join(sorted(unknown))}")
    if Field.NAME not in statement.fields:
        raise InvalidInput(f"the {kind.value} has no name")
    for field, span in statement.fields.items():
        if text[span.start : span.end] != span.quote:
            raise InvalidInput(f"{field.value}: the note does not have these characters at {span.start} to {span.end}")
        if not span.quote.strip():
            raise InvalidInput(f"{field.value}: only white space at {span.start} to {span.end}")
    if statement.assertion not in ASSERTIONS.get(kind, (Assertion.PRESENT,)):
        raise InvalidInput(f"assertion: a {kind.value} cannot be {statement.assertion.value}")
    if Field.RELATIVE in statement.fields and statement.assertion is not Assertion.FAMILY:
        raise InvalidInput("relative: only a condition of the family has one")
    for label, value, owner, needed in (
        ("category", statement.category, Kind.ALLERGY, True),
        ("result", statement.result, Kind.INFECTION, False),
        ("action", statement.action, Kind.PRESCRIPTION, True),
    ):
        if value is None and kind is owner and needed:
            raise InvalidInput(f"{label}: a {kind.value} needs one")
        if value is not None and kind is not owner:
            raise InvalidInput(f"{label}: a {kind.value} has none")


def _checked(session: Session, current: CurrentReview, statement: Statement, item: Item | None) -> Statement:
    """The statement as a person's word, without a probability of the model."""
    check_statement(session.get_one(Note, current.note_id).text, statement)
    value = statement.model_copy(update={"confidence": None})
    for other in current.items:
        if item is not None and other.id == item.id:
            continue
        if other.verdict is not Verdict.REJECT and other.statement.model_copy(update={"confidence": None}) == value:
            raise Conflict(f"item {other.id} says the same")
    return value


def _lock(session: Session, note_id: UUID) -> None:
    """Until the end of the transaction nobody else writes to the note's reviews. Raises: NotFound."""
    locked = select(Note.id).where(Note.id == note_id).with_for_update(key_share=True)
    if session.scalar(locked) is None:
        raise NotFound(f"note {note_id} does not exist")


def _still_open(session: Session, note_id: UUID, run_id: UUID) -> CurrentReview:
    _lock(session, note_id)
    current = get_review(session, note_id)
    if current.run_id != run_id:
        raise Conflict(f"note {note_id} was converted again; its result is {current.run_id} now")
    if current.released_at is not None:
        raise Conflict(f"the review of note {note_id} is ended: it is released")
    return current


def _open(session: Session, review_id: UUID, version: int) -> tuple[CurrentReview, Item]:
    places = select(NoteReview.note_id, NoteReview.run_id).join(Review, Review.run_id == NoteReview.run_id)
    place = session.execute(places.where(Review.id == review_id)).one_or_none()
    if place is None:
        raise NotFound(f"item {review_id} does not exist")
    current = _still_open(session, place.note_id, place.run_id)
    item = next(item for item in current.items if item.id == review_id)
    if item.version != version:
        raise Conflict(f"item {review_id} was decided meanwhile: its version is {item.version}, not {version}")
    return current, item


def _decided(
    session: Session,
    current: CurrentReview,
    item: Item,
    verdict: Verdict,
    value: Statement | None,
    *,
    by: str,
    reason: str | None,
    automatic: bool = False,
) -> Item:
    reason = (reason or "").strip() or None
    if reason and (len(reason) > MAX_REASON or "\x00" in reason):
        raise InvalidInput(f"a reason has at most {MAX_REASON} characters, and no U+0000")
    made = Decision(
        id=uuid4(),
        review_id=item.id,
        explicit=item.explicit,
        version=item.version + 1,
        verdict=verdict,
        statement=value.model_dump(mode="json") if value else None,
        automatic=automatic,
        reason=reason,
        decided_by=person(by),
    )
    session.add(made)
    session.flush()
    after = next(one for one in _read_items(session, current.run_id) if one.id == item.id)
    record(
        session, AuditAction(verdict), by=made.decided_by, subject=made.id, note_id=current.note_id,
        before=_state(item) if item.version else None, after=_state(after),
    )  # fmt: skip
    return after


def _state(item: Item) -> dict[str, Any]:
    return {"version": item.version, "verdict": item.verdict, "statement": item.statement.model_dump(mode="json")}
