"""The queue of reviews: which notes wait, in the order of their risk, and who has which.

First come notes with an undecided drug allergy, then those with the lowest probability of what is undecided (one that is not
known counts as the lowest), then those that came in first. Whoever takes a note has it for some minutes: nobody else decides
in it meanwhile. A page that is left open loses it by itself.

Everything works in the caller's transaction; the database's clock says when a note is free again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Text, and_, cast, func, literal, or_, select, true, tuple_, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from app.audit import person
from app.errors import Conflict, InvalidInput, NotFound
from app.review_items import find_review
from app.review_work import DRUG_ALLERGY
from app.reviews import get_review
from app.store import cursors
from models import Note, ReviewWork, SecondReading
from schemas.review import ReviewState
from schemas.statement import Kind

MAX_ROWS = 200
MAX_MINUTES = 240
"""The longest that somebody has a note without asking again."""
KINDS = (*(kind.value for kind in Kind), DRUG_ALLERGY)
"""What `QueueFilter.kinds` may name: `allergy` is all of them, `drug-allergy` those that need a person's own decision."""


@dataclass(frozen=True)
class QueueFilter:
    """Which notes; what is empty or None: any. `kinds`: something undecided is of one of them. `max_probability`: the lowest
    probability of what is undecided is at most this, or not known. `min_age_days`: since the note came in. `mine`: those that
    who asks has now. `state`: None: of every one. `second`: those that wait for a second reader, who is not the first one."""

    kinds: tuple[str, ...] = ()
    departments: tuple[str, ...] = ()
    document_types: tuple[str, ...] = ()
    max_probability: float | None = None
    min_age_days: float | None = None
    batch_id: UUID | None = None
    mine: bool = False
    state: str | None = ReviewState.OPEN
    second: bool = False


@dataclass(frozen=True)
class QueueRow:
    """`open`: how many items are undecided; `received_at`: its age. `assigned_to`: who has it now; None: it is free."""

    note_id: UUID
    run_id: UUID
    state: ReviewState
    source: str
    external_id: str
    patient_id: str
    department: str
    document_type: str
    note_date: date
    received_at: datetime
    open: int
    drug_allergies_open: int
    lowest_probability: float | None
    kinds: tuple[str, ...]
    assigned_to: str | None
    assigned_until: datetime | None
    second_reader: bool
    batch_id: UUID | None


@dataclass(frozen=True)
class Assignment:
    note_id: UUID
    assigned_to: str
    assigned_until: datetime


# --- looking --------------------------------------------------------------------------------------------------------


def queue(
    session: Session, who_id: str, chosen: QueueFilter, *, limit: int = 50, cursor: str | None = None
) -> tuple[list[QueueRow], str | None]:
    """At most `limit` notes, and the cursor of the next ones; None: there are no more. Raises: InvalidInput for a filter or
    a cursor that is none."""
    limit = min(max(limit, 1), MAX_ROWS)
    query = select(ReviewWork).where(*_conditions(who_id, chosen))
    if cursor is not None:
        state, calm, likelihood, received, note_id = cursors.read(cursor, "reviews", (str, int, float, str, str))
        try:
            place = (state, bool(calm), likelihood, datetime.fromisoformat(received), UUID(note_id))
        except ValueError:
            raise InvalidInput("cursor: is not one that this queue gave") from None
        query = query.where(tuple_(*_ORDER) > tuple_(*(literal(value) for value in place)))
    lines = query.order_by(*_ORDER).limit(limit + 1).subquery()
    rows = session.execute(
        select(
            lines, Note.source, Note.external_id, Note.patient_id, Note.note_date,
            (lines.c.assigned_until > func.now()).label("taken"),
        )
        .join(Note, Note.id == lines.c.note_id)
        .order_by(*(lines.c[column.name] for column in _ORDER))
    ).all()  # fmt: skip
    found = [_row(row) for row in rows[:limit]]
    following = None
    if len(rows) > limit:
        last = rows[limit - 1]
        told = [last.state, int(last.calm), float(last.likelihood), last.received_at.isoformat(), str(last.note_id)]
        following = cursors.written("reviews", told)
    return found, following


_ORDER = (ReviewWork.state, ReviewWork.calm, ReviewWork.likelihood, ReviewWork.received_at, ReviewWork.note_id)


def _row(row: Any) -> QueueRow:
    return QueueRow(
        note_id=row.note_id, run_id=row.run_id, state=ReviewState(row.state), source=row.source, external_id=row.external_id,
        patient_id=row.patient_id, department=row.department, document_type=row.document_type, note_date=row.note_date,
        received_at=row.received_at, open=row.open, drug_allergies_open=row.drug_allergies_open,
        lowest_probability=row.lowest_probability, kinds=tuple(row.kinds),
        assigned_to=row.assigned_to if row.taken else None, assigned_until=row.assigned_until if row.taken else None,
        second_reader=row.second_reader, batch_id=row.batch_id,
    )  # fmt: skip


def _conditions(who_id: str, chosen: QueueFilter) -> Iterator[ColumnElement[bool]]:
    """Raises: InvalidInput."""
    if unknown := [kind for kind in chosen.kinds if kind not in KINDS]:
        raise InvalidInput(f"kinds: {len(unknown)} of them are none; they are {', '.join(KINDS)}")
    if chosen.state is not None:
        if chosen.state not in list(ReviewState):
            raise InvalidInput(f"state: must be {', '.join(ReviewState)}")
        yield ReviewWork.state == chosen.state
    if chosen.kinds:
        yield ReviewWork.kinds.overlap(cast(list(chosen.kinds), ARRAY(Text)))
    if chosen.departments:
        yield ReviewWork.department.in_(chosen.departments)
    if chosen.document_types:
        yield ReviewWork.document_type.in_(chosen.document_types)
    if chosen.max_probability is not None:
        yield ReviewWork.likelihood <= chosen.max_probability
    if chosen.min_age_days is not None:
        yield ReviewWork.received_at <= func.now() - timedelta(days=chosen.min_age_days)
    if chosen.batch_id is not None:
        yield ReviewWork.batch_id == chosen.batch_id
    if chosen.mine:
        yield and_(ReviewWork.assigned_to == who_id, ReviewWork.assigned_until > func.now())
    if chosen.second:
        waits = (SecondReading.run_id == ReviewWork.run_id, SecondReading.finished_at.is_(None))
        own = or_(SecondReading.reader.is_(None), SecondReading.reader == who_id)
        yield ReviewWork.second_reader.is_(True)
        yield select(SecondReading.run_id).where(*waits, own).exists()


def counts(session: Session, chosen: QueueFilter, *, who_id: str = "") -> dict[str, Any]:
    """Of the notes that `chosen` finds: `notes`, `drug_allergies` (notes with an undecided one), `items` (undecided),
    `assigned`, `second_readers`, and by name `kinds` (notes with something undecided of it), `departments`,
    `document_types`; `states`: of all notes that the other filters find, by state."""
    anywhere = QueueFilter(**vars(chosen) | {"state": None})
    conditions = list(_conditions(who_id, chosen))
    department, type_ = ReviewWork.department, ReviewWork.document_type
    # One look at the lines for all of it. `by`: 1 a department, 2 a type, 3 the whole.
    rows = session.execute(
        select(
            func.grouping(department, type_).label("by"), department, type_, func.count().label("notes"),
            func.coalesce(func.sum(ReviewWork.open), 0).label("items"), func.count().filter(~ReviewWork.calm).label("grave"),
            func.count().filter(ReviewWork.assigned_until > func.now()).label("assigned"),
            func.count().filter(ReviewWork.second_reader).label("second"),
        )
        .where(*conditions)
        .group_by(func.grouping_sets(department, type_, tuple_()))
        .order_by(func.count().desc(), department, type_)
    ).all()  # fmt: skip
    whole = next(row for row in rows if row.by == 3)
    kind = select(func.unnest(ReviewWork.kinds).label("kind")).where(*conditions).subquery().c.kind
    kinds = select(kind, func.count()).group_by(kind).order_by(func.count().desc(), kind)
    others = list(_conditions(who_id, anywhere)) or [true()]
    states = select(ReviewWork.state, func.count()).where(*others).group_by(ReviewWork.state)
    return {
        "notes": whole.notes,
        "items": int(whole.items),
        "drug_allergies": whole.grave,
        "assigned": whole.assigned,
        "second_readers": whole.second,
        "kinds": {str(name): int(count) for name, count in session.execute(kinds)},
        "departments": {row.department: row.notes for row in rows if row.by == 1},
        "document_types": {row.document_type: row.notes for row in rows if row.by == 2},
        "states": {str(name): int(count) for name, count in session.execute(states)},
    }


# --- having ---------------------------------------------------------------------------------------------------------


def take(session: Session, note_id: UUID, *, by: str, minutes: float = 30) -> Assignment:
    """The note is `by`'s for so long, anew if he has it. Raises: NotFound; Conflict where somebody else has it, or while no
    job of it has finished; InvalidInput."""
    if not 0 < minutes <= MAX_MINUTES:
        raise InvalidInput(f"minutes: must be above 0 and at most {MAX_MINUTES}")
    named = person(by)
    if session.get(ReviewWork, note_id) is None:
        get_review(session, note_id)  # converted before there was a queue
    until = session.scalar(
        update(ReviewWork)
        .where(ReviewWork.note_id == note_id, _free(named))
        .values(assigned_to=named, assigned_until=func.now() + timedelta(minutes=minutes))
        .returning(ReviewWork.assigned_until)
        .execution_options(synchronize_session=False)
    )
    if until is None:
        raise Conflict(f"somebody else has note {note_id} now")
    return Assignment(note_id, named, until)


def renew(session: Session, note_id: UUID, *, by: str, minutes: float = 30) -> Assignment:
    """He has it for so long from now. Raises: Conflict where it is not his any more, and somebody else's; as `take`."""
    return take(session, note_id, by=by, minutes=minutes)


def give_back(session: Session, note_id: UUID, *, by: str) -> bool:
    """Anybody may take the note now. False: it was not his."""
    freed = session.scalar(
        update(ReviewWork)
        .where(ReviewWork.note_id == note_id, ReviewWork.assigned_to == person(by))
        .values(assigned_to=None, assigned_until=None)
        .returning(ReviewWork.note_id)
        .execution_options(synchronize_session=False)
    )
    return freed is not None


def next_for(
    session: Session, who_id: str, chosen: QueueFilter, *, after: UUID | None = None, minutes: float = 30
) -> UUID | None:
    """Takes the first note that waits and that nobody else has, and gives back what he had. None: there is none. Two who ask
    at once get two notes. What he is the second reader of, until both are compared, is not for him.

    `after`: the note that he leaves; where it waits still, the one behind it, and at the end of the queue the first again.
    """
    named = person(who_id)
    his = select(SecondReading.run_id).where(SecondReading.reader == named, SecondReading.compared_at.is_(None))
    waits = [*_conditions(named, chosen), _free(named), ReviewWork.run_id.not_in(his)]
    left = session.get(ReviewWork, after, populate_existing=True) if after is not None else None
    behind: list[list[ColumnElement[bool]]] = [[]]
    if left is not None:
        waits.append(ReviewWork.note_id != left.note_id)
        if left.state == chosen.state:
            place = (left.state, left.calm, left.likelihood, left.received_at, left.note_id)
            behind.insert(0, [tuple_(*_ORDER) > tuple_(*(literal(value) for value in place))])
    for more in behind:
        first = select(ReviewWork.note_id).where(*waits, *more).order_by(*_ORDER).limit(1)
        note_id = session.scalar(first.with_for_update(skip_locked=True))
        if note_id is not None:
            break
    session.execute(
        update(ReviewWork)
        .where(ReviewWork.assigned_to == named, ReviewWork.note_id != note_id if note_id else true())
        .values(assigned_to=None, assigned_until=None)
        .execution_options(synchronize_session=False)
    )
    if note_id is not None:
        take(session, note_id, by=named, minutes=minutes)
    return note_id


def assignment(session: Session, note_id: UUID) -> Assignment | None:
    """Who has the note now. Raises: NotFound."""
    row = session.execute(
        select(ReviewWork.assigned_to, ReviewWork.assigned_until, ReviewWork.assigned_until > func.now()).where(
            ReviewWork.note_id == note_id
        )
    ).one_or_none()
    if row is None and find_review(session, note_id) is None:
        raise NotFound(f"note {note_id} has no review")
    if row is None or row[0] is None or row[1] is None or not row[2]:
        return None
    return Assignment(note_id, row[0], row[1])


def _free(named: str) -> ColumnElement[bool]:
    return or_(
        ReviewWork.assigned_to.is_(None), ReviewWork.assigned_to == named, ReviewWork.assigned_until <= func.now()
    )
