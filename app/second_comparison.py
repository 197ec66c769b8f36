"""Two readers of one result: who was chosen for it, and what they said, laid side by side once both are done.

A result is of the sample by the hash of its run's id alone, so whoever asks finds the same ones.
"""

import hashlib
from collections import defaultdict
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.audit import SYSTEM, record
from app.review_items import CurrentReview, Item, Judged, in_order, judged, undecided_items
from models import SecondComparison, SecondDecision, SecondReading
from schemas.review import AuditAction, Verdict
from schemas.statement import Statement


def sampled(run_id: UUID, share: float) -> bool:
    """Is the result of the sample? `share`: 0..1 of all results."""
    return int(hashlib.sha256(f"hyojun second reader {run_id}".encode()).hexdigest()[:13], 16) < share * 16**13


def choose(session: Session, note_id: UUID, run_id: UUID, *, by: str = SYSTEM) -> bool:
    """The result is to be read by a second person. False: it was chosen before."""
    if session.get(SecondReading, run_id) is not None:
        return False
    session.add(SecondReading(run_id=run_id, note_id=note_id, chosen_by=by))
    session.flush()
    record(session, AuditAction.SECOND_READING, by=by, subject=run_id, note_id=note_id, after={"chosen": True})
    return True


def find_reading(session: Session, run_id: UUID) -> SecondReading | None:
    return session.get(SecondReading, run_id, populate_existing=True)


def second_items(session: Session, run_id: UUID) -> list[Item]:
    """The result as the second reader judged it; of what he added, `id` is the item of its own. What he took back is left out."""
    decisions: dict[UUID, list[Judged]] = defaultdict(list)
    own = select(SecondDecision).where(SecondDecision.run_id == run_id).order_by(SecondDecision.version)
    for row in session.scalars(own):
        decisions[row.item].append(row)
    read = {item.id: item for item in undecided_items(session, run_id)}
    items = [judged(item, decisions[item.id]) for item in read.values()]
    for item, made in decisions.items():
        if item not in read and made:
            untouched = Item(item, 0, Statement.model_validate(made[0].statement), None, None, False, False, True, None)
            items.append(judged(untouched, made))
    return in_order(item for item in items if not (item.added and item.verdict is None))


def compare(session: Session, current: CurrentReview) -> None:
    """Once both readers are done, what they said is laid side by side, for good. Before, nothing happens."""
    reading = find_reading(session, current.run_id)
    if reading is None or reading.finished_at is None or reading.compared_at is not None or current.undecided:
        return
    theirs = {item.id: item for item in second_items(session, current.run_id)}
    for item in current.items:
        other = theirs.pop(item.id, None)
        if item.added:  # the same addition of the other one, if there is one
            twin = next((one for one in theirs.values() if one.added and one.said == item.said), None)
            other = theirs.pop(twin.id) if twin else None
            if other is None and not item.stands:
                continue  # added and rejected: he says nothing
        session.add(
            SecondComparison(
                run_id=current.run_id, kind=item.statement.kind, review_id=item.id, first=item.verdict,
                second=other.verdict if other else None, same=other is not None and _same(item, other),
            )
        )  # fmt: skip
    for other in theirs.values():
        if other.added and other.stands:
            session.add(
                SecondComparison(
                    run_id=current.run_id, kind=other.statement.kind, second_item=other.id, second=other.verdict, same=False
                )
            )
    # The clock, as decisions have it: what was decided before is the readers' own, what comes after settles it.
    done = update(SecondReading).where(SecondReading.run_id == current.run_id).values(compared_at=func.clock_timestamp())
    session.execute(done)
    session.flush()


def _same(first: Item, second: Item) -> bool:
    """Both rejected it, or both say the same of the note."""
    if Verdict.REJECT in (first.verdict, second.verdict):
        return first.verdict == second.verdict
    return first.said == second.said
