"""A second reader: he judges a result without seeing what the first one says, and what differs is settled before a release.

    choose      a person chooses a note; others are of the sample (setting REVIEW_SECOND_READER_SHARE)
    begin       somebody who has decided nothing of it becomes its second reader
    decide …    his own judgements, beside those of the review
    finish      he is done; once the first one is too, both are laid side by side (`app.second_comparison`)
    adjudicate  a third person settles a difference, or one of the two for both of them; it becomes a decision of the review

Everything works in the caller's transaction and leaves an audit event in it.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID, uuid4

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app import review_work, reviews
from app import second_comparison as comparison
from app.audit import person, record
from app.errors import Conflict, InvalidInput, NotFound
from app.review_items import CurrentReview, Item, restored
from app.reviews import Accepted
from app.second_comparison import find_reading, second_items
from models import Decision, Review, SecondComparison, SecondDecision, SecondReading
from schemas.coding import Coding
from schemas.review import AuditAction, Verdict
from schemas.statement import Kind, Statement

JUDGED = (Verdict.ACCEPT, Verdict.AMEND, Verdict.REJECT)
"""The categories of `kappa`."""


@dataclass(frozen=True)
class Difference:
    """`first`, `second`: the item as each of the two has it; None: he says nothing of it, the other one added it. `settled_as`:
    first, second or other; None: nobody has settled it."""

    id: UUID
    kind: Kind
    review_id: UUID | None
    first: Item | None
    second: Item | None
    settled_as: str | None
    settled_by: str | None


@dataclass(frozen=True)
class Kappa:
    """Agreement of two readers over the statements of a kind that both judged. `items`: how many; `observed`: the share with
    equal verdicts; `same`: the share of which both said the very same, corrections too; `kappa`: None where chance alone would
    always agree, or there are none. `added`: statements that one of the two added, or both did; `added_by_both`."""

    items: int
    observed: float | None
    same: float | None
    kappa: float | None
    added: int
    added_by_both: int


# --- who ------------------------------------------------------------------------------------------------------------


def choose(session: Session, note_id: UUID, *, by: str) -> bool:
    """The note's result is to be read by a second person. False: it was chosen before. Raises: NotFound; Conflict where it is
    released, or has no result."""
    reviews.lock(session, note_id)
    current = reviews.get_review(session, note_id)
    if current.released_at is not None:
        raise Conflict(f"the review of note {note_id} is ended: it is released")
    chosen = comparison.choose(session, note_id, current.run_id, by=person(by))
    review_work.renew(session, current)
    return chosen


def begin(session: Session, note_id: UUID, *, by: str) -> None:
    """`by` is the second reader from now on; nothing happens if he is. Raises: NotFound; Conflict where the note was not chosen,
    somebody else reads it, or he has decided in it."""
    named = person(by)
    current, reading = _chosen(session, note_id)
    if reading.reader == named:
        return
    if reading.reader is not None:
        raise Conflict(f"somebody else is the second reader of note {note_id}")
    his = select(Decision.id).join(Review, Review.id == Decision.review_id)
    if session.scalar(his.where(Review.run_id == current.run_id, Decision.decided_by == named).limit(1)) is not None:
        raise Conflict(f"you have decided in the review of note {note_id}: another person reads it second")
    reading.reader, reading.begun_at = named, func.now()
    session.flush()
    _tell(session, reading, named, {"begun": True})


def blinded(session: Session, note_id: UUID, who_id: str) -> bool:
    """Must the first reader's judgements, and their history, be kept from him? Raises: NotFound, Conflict without a result."""
    reading = find_reading(session, reviews.get_review(session, note_id).run_id)
    return reading is not None and reading.reader == who_id.strip() and reading.compared_at is None


def own_review(session: Session, note_id: UUID, *, by: str) -> CurrentReview:
    """The result as its second reader judges it. Raises: as `decide`."""
    current, reading = _chosen(session, note_id, locked=False)
    if reading.reader != person(by):
        raise Conflict(f"you are not the second reader of note {note_id}")
    return CurrentReview(note_id, current.run_id, second_items(session, current.run_id), None, None)


# --- his judgements -------------------------------------------------------------------------------------------------


def decide(
    session: Session, item_id: UUID, verdict: Verdict, *, by: str, version: int, seconds: float | None = None
) -> Item:
    """As `app.reviews.decide`. Raises: NotFound; Conflict where he is not the second reader, or is done; InvalidInput."""
    if verdict not in (Verdict.ACCEPT, Verdict.REJECT):
        raise InvalidInput("a correction is amended, and what was missed is added, with its values")
    reading, item = _open(session, item_id, version, by)
    if verdict is Verdict.ACCEPT and item.added:
        raise InvalidInput("a person added this statement: there is no reading of it to accept")
    return _kept(session, reading, item, SecondDecision(verdict=verdict), by, seconds)


def amend(
    session: Session, item_id: UUID, statement: Statement, *, by: str, version: int, coding: Coding | None = None,
    seconds: float | None = None,
) -> Item:  # fmt: skip
    """As `app.reviews.amend`; raises as `decide`."""
    reading, item = _open(session, item_id, version, by)
    made = SecondDecision(verdict=Verdict.AMEND, **_corrected(session, reading, item.id, statement, coding))
    return _kept(session, reading, item, made, by, seconds)


def add(
    session: Session, note_id: UUID, run_id: UUID, statement: Statement, *, by: str, coding: Coding | None = None,
    seconds: float | None = None,
) -> Item:  # fmt: skip
    """As `app.reviews.add`; raises as `decide`."""
    reading = _his(session, note_id, run_id, by)
    made = SecondDecision(verdict=Verdict.ADD, **_corrected(session, reading, None, statement, coding))
    item = Item(uuid4(), 0, statement, None, None, False, reviews.needs_person(statement), True, None)
    return _kept(session, reading, item, made, by, seconds)


def undo(session: Session, item_id: UUID, *, by: str, version: int, seconds: float | None = None) -> Item | None:
    """As `app.reviews.undo`; raises as `decide`."""
    reading, item = _open(session, item_id, version, by)
    rows = session.scalars(select(SecondDecision).where(SecondDecision.item == item_id).order_by(SecondDecision.version))
    back_to = restored(rows.all())
    if back_to is None:
        raise Conflict(f"item {item_id} is undecided: there is nothing to undo")
    return _stored(session, reading, item, SecondDecision(verdict=Verdict.UNDO, restores=back_to), by, seconds)


def accept_visible(
    session: Session, note_id: UUID, run_id: UUID, ids: Collection[UUID], *, by: str, threshold: float
) -> Accepted:
    """As `app.reviews.accept_visible`; raises as `decide`."""
    if not 0 < threshold <= 1:
        raise InvalidInput("threshold: must be above 0 and at most 1")
    reading = _his(session, note_id, run_id, by)
    items = second_items(session, run_id)
    left = {id_: "is no item of this result" for id_ in ids if id_ not in {item.id for item in items}}
    done = []
    for item in (item for item in items if item.id in ids):
        if (why := reviews.not_by_rule(item, threshold)) is not None:
            left[item.id] = why
        else:
            done.append(_kept(session, reading, item, SecondDecision(verdict=Verdict.ACCEPT), by, None))
    return Accepted(done, left)


def finish(session: Session, note_id: UUID, *, by: str) -> None:
    """He is done; his judgements stay as they are. Raises: as `decide`; Conflict while he has left something undecided."""
    current, _ = _chosen(session, note_id)
    reading = _his(session, note_id, current.run_id, by)
    if waiting := sum(item.verdict is None for item in second_items(session, current.run_id)):
        raise Conflict(f"{waiting} statements are undecided")
    reading.finished_at = func.now()
    session.flush()
    _tell(session, reading, person(by), {"finished": True})
    comparison.compare(session, current)
    review_work.renew(session, current)


# --- differences ----------------------------------------------------------------------------------------------------


def differences(session: Session, note_id: UUID) -> list[Difference]:
    """What the two say otherwise, in the order of the note. Raises: NotFound; Conflict before both are done."""
    current, reading = _chosen(session, note_id, locked=False)
    if reading.compared_at is None:
        raise Conflict(f"the two readers of note {note_id} are not both done")
    first = {item.id: item for item in current.items}
    second = {item.id: item for item in second_items(session, current.run_id)}
    rows = session.scalars(
        select(SecondComparison).where(SecondComparison.run_id == current.run_id, ~SecondComparison.same)
    )
    found = [_difference(row, first, second) for row in rows]
    return sorted(found, key=lambda one: (_place(one), one.id))


def _difference(row: SecondComparison, first: dict[UUID, Item], second: dict[UUID, Item]) -> Difference:
    theirs = row.second_item or row.review_id
    if row.second == Verdict.ADD and row.review_id is not None:
        theirs = None  # what both added is in the review
    return Difference(
        id=row.id,
        kind=Kind(row.kind),
        review_id=row.review_id,
        first=first.get(row.review_id) if row.review_id else None,
        second=second.get(theirs) if row.second and theirs else None,
        settled_as=row.settled_as,
        settled_by=row.settled_by,
    )  # fmt: skip


def _place(one: Difference) -> int:
    item = one.first or one.second
    return item.statement.name.start if item else 0


def adjudicate(
    session: Session,
    difference_id: UUID,
    *,
    by: str,
    choose: Literal["first", "second", "other"],
    agreed: bool = False,
    statement: Statement | None = None,
    coding: Coding | None = None,
) -> Difference:
    """Settles a difference: `first` or `second` is right, or `other`: the statement is, or, without one, nothing is said.
    `agreed`: both readers are of one mind now, and one of the two says so; else it is a third person.

    Raises: NotFound; Conflict where it is settled, for one of the two readers alone, or for a third who says `agreed`; as
    `app.reviews.amend`.
    """
    named = person(by)
    row = session.get(SecondComparison, difference_id)
    if row is None or row.same:
        raise NotFound(f"difference {difference_id} does not exist")
    reading = session.get_one(SecondReading, row.run_id)
    reviews.lock(session, reading.note_id)
    session.refresh(row)
    if row.settled_at is not None:
        raise Conflict(f"difference {difference_id} is settled")
    decided = select(Decision.decided_by).join(Review, Review.id == Decision.review_id)
    decided = decided.where(Review.run_id == row.run_id, Decision.decided_at <= reading.compared_at)
    readers = {reading.reader, *session.scalars(decided.distinct())}
    if agreed is not (named in readers):
        who = "a third person settles it" if named in readers else "only one of the two readers can say that they agree"
        raise Conflict(f"difference {difference_id}: {who}")
    current = reviews.still_open(session, reading.note_id, row.run_id, named, settling=True)
    second = {item.id: item for item in second_items(session, row.run_id)}
    found = _difference(row, {item.id: item for item in current.items}, second)
    made = None
    if choose == "second":
        made = _as_second(session, found, row.run_id, reading.note_id, named)
    elif choose == "other":
        made = _as_other(session, found, row.run_id, reading.note_id, named, statement, coding)
    row.settled_at, row.settled_by, row.settled_as, row.agreed = func.now(), named, choose, agreed
    session.flush()
    record(
        session, AuditAction.ADJUDICATE, by=named, subject=row.id, note_id=reading.note_id,
        before={"first": row.first, "second": row.second}, after={"as": choose, "item": str(made.id) if made else None},
    )  # fmt: skip
    now = reviews.get_review(session, reading.note_id)
    review_work.renew(session, now)
    session.refresh(row)
    return _difference(row, {item.id: item for item in now.items}, second)


def _as_second(session: Session, found: Difference, run_id: UUID, note_id: UUID, by: str) -> Item | None:
    """Makes the review say what the second reader says."""
    first, second = found.first, found.second
    if first is None:
        assert second is not None
        return reviews.add(session, note_id, run_id, second.statement, by=by, coding=second.coding, settling=True)
    if second is None or second.verdict is Verdict.REJECT:
        return reviews.decide(session, first.id, Verdict.REJECT, by=by, version=first.version, settling=True)
    if second.verdict is Verdict.ACCEPT:
        return reviews.decide(session, first.id, Verdict.ACCEPT, by=by, version=first.version, settling=True)
    return reviews.amend(
        session, first.id, second.statement, by=by, version=first.version, coding=second.coding, settling=True
    )


def _as_other(
    session: Session, found: Difference, run_id: UUID, note_id: UUID, by: str, statement: Statement | None,
    coding: Coding | None,
) -> Item | None:  # fmt: skip
    first = found.first
    if statement is None:
        return first and reviews.decide(session, first.id, Verdict.REJECT, by=by, version=first.version, settling=True)
    if first is None:
        return reviews.add(session, note_id, run_id, statement, by=by, coding=coding, settling=True)
    return reviews.amend(session, first.id, statement, by=by, version=first.version, coding=coding, settling=True)


def kappa(session: Session) -> dict[Kind, Kappa]:
    """Cohen's kappa of the verdicts (accept, amend, reject) of all results that two people read, by kind of statement.

    (po - pe) / (1 - pe): po is the observed share of equal verdicts, pe the share that chance gives, the sum over the verdicts
    of the product of both readers' shares of it. What was added has no counterpart to be judged, and is only counted.
    Source: J. Cohen, A coefficient of agreement for nominal scales, Educational and Psychological Measurement 20 (1960) 37-46.
    """
    columns = (SecondComparison.kind, SecondComparison.first, SecondComparison.second, SecondComparison.same)
    rows = session.execute(select(*columns, func.count()).group_by(*columns)).all()
    found = {}
    for kind in Kind:
        pairs: Counter[tuple[str, str]] = Counter()
        same = added = both = 0
        for of, first, second, equal, count in rows:
            if of != kind:
                continue
            if first in JUDGED and second in JUDGED:
                pairs[first, second] += count
                same += count if equal else 0
            else:
                added += count
                both += count if first and second else 0
        total = sum(pairs.values())
        observed = sum(count for (one, other), count in pairs.items() if one == other) / total if total else None
        found[kind] = Kappa(
            total, observed, same / total if total else None, _kappa(pairs, total, observed), added, both
        )
    return found


def _kappa(pairs: Counter[tuple[str, str]], total: int, observed: float | None) -> float | None:
    if observed is None:
        return None
    shares = [
        sum(count for pair, count in pairs.items() if pair[reader] == verdict)
        for verdict in JUDGED
        for reader in (0, 1)
    ]
    by_chance = sum(one * other for one, other in zip(shares[::2], shares[1::2], strict=True)) / total**2
    return None if by_chance == 1 else (observed - by_chance) / (1 - by_chance)


# --- one judgement --------------------------------------------------------------------------------------------------


def _chosen(session: Session, note_id: UUID, *, locked: bool = True) -> tuple[CurrentReview, SecondReading]:
    if locked:
        reviews.lock(session, note_id)
    current = reviews.get_review(session, note_id)
    reading = find_reading(session, current.run_id)
    if reading is None:
        raise Conflict(f"note {note_id} was not chosen for a second reader")
    return current, reading


def _his(session: Session, note_id: UUID, run_id: UUID, by: str) -> SecondReading:
    current, reading = _chosen(session, note_id)
    if current.run_id != run_id:
        raise Conflict(f"note {note_id} was converted again; its result is {current.run_id} now")
    if reading.reader != person(by):
        raise Conflict(f"you are not the second reader of note {note_id}")
    if reading.finished_at is not None:
        raise Conflict(f"your reading of note {note_id} is finished")
    return reading


def _open(session: Session, item_id: UUID, version: int, by: str) -> tuple[SecondReading, Item]:
    place = select(SecondReading.note_id, SecondReading.run_id)
    found = session.execute(
        place.join(Review, Review.run_id == SecondReading.run_id).where(Review.id == item_id)
    ).first() or session.execute(
        place.join(SecondDecision, SecondDecision.run_id == SecondReading.run_id).where(SecondDecision.item == item_id)
    ).first()  # fmt: skip
    if found is None:
        raise NotFound(f"item {item_id} does not exist")
    reading = _his(session, found.note_id, found.run_id, by)
    item = next((one for one in second_items(session, found.run_id) if one.id == item_id), None)
    if item is None:
        raise NotFound(f"item {item_id} is none of this reading")
    if item.version != version:
        raise Conflict(f"item {item_id} was decided meanwhile: its version is {item.version}, not {version}")
    return reading, item


def _corrected(
    session: Session, reading: SecondReading, item_id: UUID | None, statement: Statement, coding: Coding | None
) -> dict[str, Any]:
    value = reviews.said_statement(session, reading.note_id, statement)
    for other in second_items(session, reading.run_id):
        if other.id != item_id and other.verdict is not Verdict.REJECT and other.said[1] == value:
            raise Conflict(f"item {other.id} says the same")
    return reviews.correction(session, value, coding)


def _kept(
    session: Session, reading: SecondReading, item: Item, made: SecondDecision, by: str, seconds: float | None
) -> Item:
    after = _stored(session, reading, item, made, by, seconds)
    assert after is not None, "only an undo takes an item away"
    return after


def _stored(
    session: Session, reading: SecondReading, item: Item, made: SecondDecision, by: str, seconds: float | None
) -> Item | None:
    made.id, made.run_id, made.item, made.version = uuid4(), reading.run_id, item.id, item.version + 1
    made.review_id = None if item.added else item.id
    made.decided_by, made.spent_ms = person(by), reviews.spent_ms(seconds)
    session.add(made)
    session.flush()
    after = next((one for one in second_items(session, reading.run_id) if one.id == item.id), None)
    record(
        session, AuditAction.SECOND_READING, by=made.decided_by, subject=made.id, note_id=reading.note_id,
        before=reviews.state_of(item) if item.version else None, after=reviews.state_of(after) if after else None,
    )  # fmt: skip
    return after


def _tell(session: Session, reading: SecondReading, by: str, what: dict[str, Any]) -> None:
    record(session, AuditAction.SECOND_READING, by=by, subject=reading.run_id, note_id=reading.note_id, after=what)
