"""A review's life: what a model read in a note, judged statement by statement by a person.

    begin       a conversion was stored: its statements wait, and the review of the note's former result is superseded
    decide      a statement is right, or wrong
    amend, add  a statement is right after a correction; the model missed one
    undo        the judgement before counts again
    release     everything is decided: what was accepted is no draft any more (`app.releases`)

A review judges one result of a note, the newest. Once the note is converted again the former judgements stay as they are and
count for nothing: the new result is judged anew. A judgement may be changed until the release, by another one. While one
person has the note (`app.review_queue.take`) nobody else decides; a second reader decides elsewhere (`app.second_readings`).

Everything works in the caller's transaction and leaves an audit event in it. Writers of one note wait for each other.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app import review_work, second_comparison
from app.audit import SYSTEM, person, record
from app.errors import Conflict, InvalidInput, NotFound
from app.fhir.origin import RESOURCE_TYPES, made_of
from app.generation.form import ASSERTIONS
from app.review_items import CurrentReview as CurrentReview
from app.review_items import Item as Item
from app.review_items import find_review, read_items, restored
from app.terminology import browse, local
from models import AuditEvent, Decision, Job, Note, NoteReview, NoteStatement, Resource, Review, ReviewWork, Run
from schemas.coding import Coding
from schemas.job import JobState
from schemas.review import AuditAction, Verdict
from schemas.statement import FIELDS, AllergyCategory, Assertion, EvidenceSpan, Field, Kind, Statement

MAX_REASON = 2000
"""Longest reason of a decision, in characters."""
MAX_SECONDS = 3600.0
"""The longest that a person is counted to have looked at one item: what is longer is somebody who went away."""
_HARMLESS = (AllergyCategory.FOOD, AllergyCategory.ENVIRONMENT)
_REFERENCED = (Kind.LAB, Kind.INFECTION)


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
    coding: Coding | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Accepted:
    """What `accept_visible` did. `left`: item -> why it was not accepted."""

    items: list[Item]
    left: dict[UUID, str]


# --- the review of a result -----------------------------------------------------------------------------------------


def begin(session: Session, note_id: UUID, *, second_reader_share: float = 0.0) -> None:
    """Makes the review of the note's newest result, if it has none, and supersedes that of the result before.
    `second_reader_share`: 0..1 of the results, by their runs' ids, that a second person reads too.

    Raises: NotFound; Conflict while no job of the note has finished.
    """
    lock(session, note_id)
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
    if second_comparison.sampled(run_id, second_reader_share):
        second_comparison.choose(session, note_id, run_id)
    review_work.renew(session, CurrentReview(note_id, run_id, read_items(session, run_id), None, None))


def _items(session: Session, run_id: UUID) -> Iterable[Review]:
    stored = select(NoteStatement.id, NoteStatement.payload, NoteStatement.record).where(NoteStatement.run_id == run_id)
    types = {type_ for of_kind in RESOURCE_TYPES.values() for type_ in of_kind}
    made = select(Resource.type, Resource.id, Resource.version, Resource.content)
    made = made.where(Resource.run_id == run_id, Resource.type.in_(types)).order_by(Resource.ordinal)
    waiting = list(session.execute(made))
    for statement_id, payload, computed in session.execute(stored.order_by(NoteStatement.ordinal)):
        statement = Statement.model_validate(payload)
        also = [EvidenceSpan.model_validate(span) for span in (computed or {}).get("also", ())]
        own = next((row for row in waiting if made_of(row.content, statement, also)), None)
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
    found = find_review(session, note_id)
    if found is None:  # converted before reviews were kept, or never
        begin(session, note_id)
        found = find_review(session, note_id)
        assert found is not None
    return found


def open_items(session: Session, note_id: UUID) -> list[Item]:
    """What still waits for a decision; raises as `get_review`."""
    return get_review(session, note_id).undecided


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
    seconds: float | None = None,
    settling: bool = False,
) -> Item:
    """Accepts the statement as it was read, or rejects it. `version`: of the item as the person saw it. `automatic`: a rule
    accepted it in the person's name; it may not where a person is needed, nor after a person decided. `seconds`: for so long
    the person looked at it; at most `MAX_SECONDS` are counted. `settling`: a difference between two readers is settled by it.

    Raises: NotFound; Conflict where somebody else decided meanwhile or has the note, the note was converted again, or it is
    released; InvalidInput.
    """
    if verdict not in (Verdict.ACCEPT, Verdict.REJECT):
        raise InvalidInput("a correction is amended, and what was missed is added, with its values")
    current, item = _open(session, review_id, version, by, settling)
    if verdict is Verdict.ACCEPT and item.added:
        raise InvalidInput("a person added this statement: there is no reading of it to accept")
    if automatic and item.explicit:
        raise InvalidInput("this item needs a person's own decision")
    if automatic and (verdict is not Verdict.ACCEPT or item.version):
        raise InvalidInput("a rule can only accept, and only what nobody has decided")
    return _decided(
        session, current, item, Decision(verdict=verdict, automatic=automatic), by=by, reason=reason, seconds=seconds
    )


def amend(
    session: Session,
    review_id: UUID,
    statement: Statement,
    *,
    by: str,
    version: int,
    reason: str | None = None,
    coding: Coding | None = None,
    seconds: float | None = None,
    settling: bool = False,
) -> Item:
    """The statement is right as `statement` has it. `coding`: the code that the person chose for its name (`chosen_coding`);
    None: the one that the tables give the name. Raises: as `decide`; InvalidInput where the stored note does not say it
    (`check_statement`), or no table has the code; Conflict where another item says it already."""
    current, item = _open(session, review_id, version, by, settling)
    value = _checked(session, current, statement, item)
    made = Decision(verdict=Verdict.AMEND, **correction(session, value, coding))
    return _decided(session, current, item, made, by=by, reason=reason, seconds=seconds)


def add(
    session: Session,
    note_id: UUID,
    run_id: UUID,
    statement: Statement,
    *,
    by: str,
    reason: str | None = None,
    coding: Coding | None = None,
    seconds: float | None = None,
    settling: bool = False,
) -> Item:
    """A statement that the model missed. `run_id`: the result that the person saw. Raises: as `amend`."""
    current = still_open(session, note_id, run_id, by, settling=settling)
    value = _checked(session, current, statement, None)
    made = Decision(verdict=Verdict.ADD, **correction(session, value, coding))
    review = Review(run_id=run_id, explicit=needs_person(value))
    session.add(review)
    session.flush()
    item = Item(review.id, 0, value, None, None, False, review.explicit, True, None)
    return _decided(session, current, item, made, by=by, reason=reason, seconds=seconds)


def undo(session: Session, review_id: UUID, *, by: str, version: int, seconds: float | None = None) -> Item | None:
    """The judgement before the one that counts counts again; None: there was none, and a person had added the item, so that it
    is gone. It is one more decision: nothing is forgotten. Raises: as `decide`; Conflict where there is nothing to undo."""
    current, item = _open(session, review_id, version, by)
    rows = session.scalars(select(Decision).where(Decision.review_id == review_id).order_by(Decision.version)).all()
    back_to = restored(rows)
    if back_to is None:
        raise Conflict(f"item {review_id} is undecided: there is nothing to undo")
    made = Decision(verdict=Verdict.UNDO, restores=back_to)
    now = _take_down(session, current, [(item, made)], by=by, seconds=seconds)
    return next((one for one in now if one.id == review_id), None)


def accept_visible(
    session: Session, note_id: UUID, run_id: UUID, ids: Collection[UUID], *, by: str, threshold: float
) -> Accepted:
    """Accepts in the person's name those of the items `ids` that nobody has decided and that are right with a probability of
    `threshold` (0..1) or more, each with its own decision and event. Never one that needs a person's own decision, nor one
    whose probability is not known. Raises: as `add`; InvalidInput for a threshold that is no probability."""
    if not 0 < threshold <= 1:
        raise InvalidInput("threshold: must be above 0 and at most 1")
    current = still_open(session, note_id, run_id, by)
    chosen: list[Item] = []
    left = {id_: "is no item of this result" for id_ in ids if id_ not in {item.id for item in current.items}}
    for item in (item for item in current.items if item.id in ids):
        if (why := not_by_rule(item, threshold)) is not None:
            left[item.id] = why
        else:
            chosen.append(item)
    made = [(item, Decision(verdict=Verdict.ACCEPT, automatic=True)) for item in chosen]
    now = _take_down(session, current, made, by=by)
    return Accepted([item for item in now if item.id in {one.id for one in chosen}], left)


def not_by_rule(item: Item, threshold: float) -> str | None:
    """Why a threshold may not accept the item in a person's name; None: it may."""
    probability = item.read.probability if item.read else None
    if item.explicit:
        return "needs a person's own decision"
    if item.version:
        return "a person decided"
    if probability is None:
        return "its probability is not known"
    return "below the threshold" if probability < threshold else None


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
        coding=Coding.model_validate(decision.coding) if decision.coding else None,
        seconds=None if decision.spent_ms is None else decision.spent_ms / 1000,
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


def chosen_coding(session: Session, kind: Kind, coding: Coding) -> Coding:
    """The code as the tables have it: of an active release, for a kind that may have it, or one of the hospital's own.
    Raises: InvalidInput for any other."""
    if coding.system == local.local_system(kind) or (
        kind is Kind.PRESCRIPTION and coding.system.startswith(local.FACILITY_DRUGS)
    ):
        rows = local.find_current(session, [kind], coding.code)
        if rows:
            return Coding(system=coding.system, code=rows[0].code, display=rows[0].display)
    elif coding.system in local.TARGET_SYSTEMS[kind]:
        key = (coding.system, coding.code)
        if found := browse.find_all(session, [key]).get(key):
            return next((one for one in found if one.display == coding.display), found[0])
    raise InvalidInput(f"coding: no table that is loaded has this code for a {kind.value}")


def correction(session: Session, value: Statement, coding: Coding | None) -> dict[str, Any]:
    """The columns of a decision that hold it. Raises: InvalidInput for a code that no table has."""
    chosen = chosen_coding(session, value.kind, coding).model_dump(mode="json", exclude_none=True) if coding else None
    return {"statement": value.model_dump(mode="json"), "coding": chosen}


def said_statement(session: Session, note_id: UUID, statement: Statement) -> Statement:
    """The statement as a person's word, without a probability of the model. Raises: as `check_statement`."""
    check_statement(session.get_one(Note, note_id).text, statement)
    return statement.model_copy(update={"confidence": None})


def _checked(session: Session, current: CurrentReview, statement: Statement, item: Item | None) -> Statement:
    value = said_statement(session, current.note_id, statement)
    for other in current.items:
        if item is not None and other.id == item.id:
            continue
        if other.verdict is not Verdict.REJECT and other.statement.model_copy(update={"confidence": None}) == value:
            raise Conflict(f"item {other.id} says the same")
    return value


def lock(session: Session, note_id: UUID) -> None:
    """Until the end of the transaction nobody else writes to the note's reviews. Raises: NotFound."""
    locked = select(Note.id).where(Note.id == note_id).with_for_update(key_share=True)
    if session.scalar(locked) is None:
        raise NotFound(f"note {note_id} does not exist")


def still_open(
    session: Session, note_id: UUID, run_id: UUID, by: str, *, settling: bool = False
) -> CurrentReview:
    """The review, locked, if `by` may decide in it now. Raises: NotFound, Conflict."""
    lock(session, note_id)
    current = get_review(session, note_id)
    if current.run_id != run_id:
        raise Conflict(f"note {note_id} was converted again; its result is {current.run_id} now")
    if current.released_at is not None:
        raise Conflict(f"the review of note {note_id} is ended: it is released")
    held = (ReviewWork.note_id == note_id, ReviewWork.assigned_to != by.strip(), ReviewWork.assigned_until > func.now())
    if not settling and session.scalar(select(ReviewWork.assigned_until).where(*held)) is not None:
        raise Conflict(f"somebody else has note {note_id} now")
    reading = second_comparison.find_reading(session, run_id)
    if reading is not None and reading.compared_at is None and reading.reader == by.strip():
        raise Conflict(f"you are the second reader of note {note_id}")
    if reading is not None and not settling and review_work.differences_open(session, run_id):
        raise Conflict(f"two readers differ over note {note_id}: settle what differs")
    return current


def _open(session: Session, review_id: UUID, version: int, by: str, settling: bool = False) -> tuple[CurrentReview, Item]:
    places = select(NoteReview.note_id, NoteReview.run_id).join(Review, Review.run_id == NoteReview.run_id)
    place = session.execute(places.where(Review.id == review_id)).one_or_none()
    if place is None:
        raise NotFound(f"item {review_id} does not exist")
    current = still_open(session, place.note_id, place.run_id, by, settling=settling)
    item = next((item for item in current.items if item.id == review_id), None)
    if item is None:
        raise NotFound(f"item {review_id} was taken back by who added it")
    if item.version != version:
        raise Conflict(f"item {review_id} was decided meanwhile: its version is {item.version}, not {version}")
    return current, item


def spent_ms(seconds: float | None) -> int | None:
    """As it is stored; None for what is no time."""
    return round(min(seconds, MAX_SECONDS) * 1000) if seconds is not None and seconds >= 0 else None


def _decided(
    session: Session, current: CurrentReview, item: Item, made: Decision, *, by: str, reason: str | None,
    seconds: float | None,
) -> Item:  # fmt: skip
    now = _take_down(session, current, [(item, made)], by=by, reason=reason, seconds=seconds)
    return next(one for one in now if one.id == item.id)


def _take_down(
    session: Session, current: CurrentReview, made: Sequence[tuple[Item, Decision]], *, by: str,
    reason: str | None = None, seconds: float | None = None,
) -> list[Item]:  # fmt: skip
    """Stores one decision for each of the items; all items as they are then."""
    reason = (reason or "").strip() or None
    if reason and (len(reason) > MAX_REASON or "\x00" in reason):
        raise InvalidInput(f"a reason has at most {MAX_REASON} characters, and no U+0000")
    named = person(by)
    for item, decision in made:
        decision.id, decision.review_id, decision.explicit = uuid4(), item.id, item.explicit
        decision.version, decision.reason, decision.decided_by = item.version + 1, reason, named
        decision.spent_ms = spent_ms(seconds)
        session.add(decision)
    session.flush()
    now = replace(current, items=read_items(session, current.run_id))
    after = {item.id: item for item in now.items}
    for item, decision in made:
        record(
            session, AuditAction(decision.verdict), by=named, subject=decision.id, note_id=current.note_id,
            before=state_of(item) if item.version else None, after=state_of(after[item.id]) if item.id in after else None,
        )  # fmt: skip
    second_comparison.compare(session, now)
    review_work.renew(session, now)
    return now.items


def state_of(item: Item) -> dict[str, Any]:
    """As audit events fingerprint it."""
    said = {"version": item.version, "verdict": item.verdict, "statement": item.statement.model_dump(mode="json")}
    return said | ({"coding": item.coding.model_dump(mode="json")} if item.coding else {})
