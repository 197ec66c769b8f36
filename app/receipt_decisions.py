"""What is judged of a claim: its items, how a later check renews them, and what people decide.

    new        a check found something, or a model advises something: the item is open
    decide     accepted, edited or rejected; may be changed by another decision
    undo       open again

An item is one finding, one advice, or both, where the advice cites the finding. Everything works in the caller's transaction
and leaves an audit event in it. Writers of one claim wait for each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from app.audit import person, record
from app.errors import Conflict, InvalidInput, NotFound
from models import ReceiptClaim, ReceiptItem
from schemas.receipt import Advice, Advised, Edited, Finding, ItemState
from schemas.review import AuditAction

_ACTIONS = {
    ItemState.ACCEPTED: AuditAction.ACCEPT, ItemState.EDITED: AuditAction.AMEND, ItemState.REJECTED: AuditAction.REJECT,
}  # fmt: skip


@dataclass(frozen=True)
class Item:
    """One thing to be judged, as it stands. `version`: how many decisions and undone ones there were; the next names it."""

    id: UUID
    claim_id: UUID
    line: int
    finding: Finding | None
    advice: Advice | None
    state: ItemState
    edited: Edited | None
    decided_by: str | None
    decided_at: datetime | None
    version: int


@dataclass(frozen=True)
class Said:
    """What an item is made of."""

    line: int
    finding: Finding | None = None
    advice: Advice | None = None


def joined(findings: Sequence[Finding], advice: Sequence[Advice]) -> list[Said]:
    """Items in the order of the lines. An advice that cites a finding of its line goes with it; "no change" on a line where
    nothing was found asks nobody for anything and makes none."""
    made = [Said(finding.line, finding) for finding in findings]
    for one in advice:
        fits = (
            n for n, said in enumerate(made)
            if said.finding and not said.advice and (said.line, said.finding.row) == (one.line, one.reference)
        )  # fmt: skip
        found = next(fits, None)
        if found is not None:
            made[found] = Said(one.line, made[found].finding, one)
        elif one.action is not Advised.NO_CHANGE:
            made.append(Said(one.line, advice=one))
    return sorted(made, key=lambda said: (said.line, said.finding is None))


def rows_of(claim_id: UUID, said: Sequence[Said]) -> list[dict[str, Any]]:
    """Columns of `models.ReceiptItem`."""
    return [
        {
            "id": uuid4(),
            "claim_id": claim_id,
            "ordinal": ordinal,
            "line": one.line,
            "finding": one.finding.model_dump(mode="json") if one.finding else None,
            "advice": one.advice.model_dump(mode="json") if one.advice else None,
        }
        for ordinal, one in enumerate(said)
    ]


def renew(session: Session, claim_id: UUID, findings: Sequence[Finding], advice: Sequence[Advice]) -> None:
    """Puts what a check gave in the place of what nobody has decided; the claim is locked by the caller.

    A decided item stays, and neither its finding nor its advice is asked again. Another advice that cites its finding is an
    item of its own.
    """
    open_items = delete(ReceiptItem).where(ReceiptItem.claim_id == claim_id, ReceiptItem.state == ItemState.OPEN)
    session.execute(open_items.execution_options(synchronize_session=False))
    decided = items_of(session, [claim_id])
    found = {_of_finding(item.finding) for item in decided if item.finding}
    advised = {_of_advice(item.advice) for item in decided if item.advice}
    left = joined(
        [finding for finding in findings if _of_finding(finding) not in found],
        [one for one in advice if _of_advice(one) not in advised],
    )
    if rows := rows_of(claim_id, left):
        session.execute(insert(ReceiptItem), rows)


def _of_finding(finding: Finding) -> tuple[Any, ...]:
    return finding.rule, finding.line, finding.row, finding.others


def _of_advice(advice: Advice) -> tuple[Any, ...]:
    return advice.line, advice.action, advice.reason, advice.reference


def items_of(session: Session, claim_ids: Sequence[UUID]) -> list[Item]:
    """By claim and line."""
    query = select(ReceiptItem).where(ReceiptItem.claim_id.in_(claim_ids))
    ordered = query.order_by(ReceiptItem.claim_id, ReceiptItem.line, ReceiptItem.ordinal, ReceiptItem.id)
    return [item_of(row) for row in session.scalars(ordered.execution_options(populate_existing=True))]


def item_of(row: ReceiptItem) -> Item:
    return Item(
        id=row.id,
        claim_id=row.claim_id,
        line=row.line,
        finding=Finding.model_validate(row.finding) if row.finding else None,
        advice=Advice.model_validate(row.advice) if row.advice else None,
        state=ItemState(row.state),
        edited=Edited.model_validate(row.edited) if row.edited else None,
        decided_by=row.decided_by,
        decided_at=row.decided_at,
        version=row.version,
    )


# --- people -----------------------------------------------------------------------------------------------------------


def get_item(session: Session, item_id: UUID) -> Item:
    """Raises: NotFound."""
    row = session.get(ReceiptItem, item_id, populate_existing=True)
    if row is None:
        raise _gone(item_id)
    return item_of(row)


def decide(session: Session, item_id: UUID, version: int, decision: ItemState, edited: Edited | None, by: str) -> Item:
    """`version`: of the item as the person saw it. `decision`: accepted, edited or rejected; `edited`: what is to be done
    instead, with `edited` alone.

    Raises: NotFound, also where a later check took the item's place; Conflict, naming what is there now, for another version;
    InvalidInput.
    """
    if decision not in _ACTIONS:
        raise InvalidInput("decision: must be accepted, edited or rejected; undo opens an item again")
    if (decision is ItemState.EDITED) != (edited is not None):
        raise InvalidInput("edited: goes with the decision edited, and with no other")
    row = _locked(session, item_id, version)
    before = _told(row)
    row.state, row.edited = decision, edited.model_dump(mode="json") if edited else None
    row.decided_by, row.decided_at = person(by), func.now()
    return _written(session, row, _ACTIONS[decision], by, before)


def undo(session: Session, item_id: UUID, version: int, by: str) -> Item:
    """The item is open again. Raises: as `decide`; Conflict where it is open."""
    row = _locked(session, item_id, version)
    if row.state == ItemState.OPEN:
        raise Conflict(f"item {item_id} is undecided: there is nothing to undo")
    before = _told(row)
    row.state, row.edited, row.decided_by, row.decided_at = ItemState.OPEN, None, None, None
    return _written(session, row, AuditAction.UNDO, by, before)


def _locked(session: Session, item_id: UUID, version: int) -> ReceiptItem:
    # The claim's row, which a check locks too: it cannot take the item's place meanwhile.
    of_item = select(ReceiptItem.claim_id).where(ReceiptItem.id == item_id).scalar_subquery()
    session.execute(select(ReceiptClaim.id).where(ReceiptClaim.id == of_item).with_for_update())
    row = session.get(ReceiptItem, item_id, populate_existing=True)
    if row is None:
        raise _gone(item_id)
    if row.version != version:
        who = f" by {row.decided_by}" if row.decided_by else ""
        raise Conflict(f"item {item_id} is {row.state}{who} at version {row.version}, not {version}: somebody was faster")
    return row


def _written(session: Session, row: ReceiptItem, action: AuditAction, by: str, before: dict[str, Any]) -> Item:
    row.version += 1
    session.flush()
    session.refresh(row)
    record(
        session, action, by=person(by), subject=row.id, ids=[str(row.claim_id)], before=before, after=_told(row)
    )  # fmt: skip
    return item_of(row)


def _told(row: ReceiptItem) -> dict[str, Any]:
    return {
        "version": row.version, "state": row.state, "by": row.decided_by,
        "edited": Edited.model_validate(row.edited).model_dump(mode="json") if row.edited else None,
    }  # fmt: skip


def _gone(item_id: UUID) -> NotFound:
    return NotFound(f"item {item_id} does not exist, or a later check took its place; load the claim again")
