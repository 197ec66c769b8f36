"""Which claims of a file need work, the gravest first: the list of a file, and what comes after a claim.

The order is that of all that was found, decided or not, so that it stays while people decide: the gravest severity, then how
much was found, then the place in the file. Everything reads in the caller's transaction.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import Select, Subquery, case, exists, func, select, tuple_
from sqlalchemy.orm import Session

from models import Job, ReceiptClaim, ReceiptItem
from schemas.issue import Severity
from schemas.job import JobState
from schemas.receipt import ItemState, Rule

_SEVERITY = ReceiptItem.finding["severity"].astext
# What the model alone found comes behind what a table found.
_RANK = case({severity: rank for rank, severity in enumerate(Severity)}, value=_SEVERITY, else_=len(Severity))
_OPEN = ReceiptItem.state == ItemState.OPEN


@dataclass(frozen=True)
class ClaimFilter:
    """Claims with an item of `rule`, with an item in `state` (both: with one item that has both), with an open item."""

    rule: Rule | None = None
    state: ItemState | None = None
    needing: bool = False


@dataclass(frozen=True)
class ClaimRow:
    """`items`, of which `open` wait; `worst`: None where nothing was found by a table; `rules`: how often each found something;
    `notes`: how many are of the patient and month; `job`: of the model's part, None: it was not asked."""

    id: UUID
    number: int | None
    line: int
    chart_number: str | None
    month: date | None
    inpatient: bool
    faults: int
    notes: int
    items: int
    open: int
    worst: Severity | None
    rules: Sequence[tuple[Rule, int]]
    job: JobState | None


def claims(
    session: Session, file_id: UUID, chosen: ClaimFilter, *, limit: int, offset: int = 0
) -> tuple[list[ClaimRow], int]:
    """Claims of the file from the `offset`th on, and how many fit; what needs work comes first."""
    found = _found(file_id)
    fits = _fitting(file_id, chosen, found)
    total = session.scalar(select(func.count()).select_from(fits.with_only_columns(ReceiptClaim.id).subquery())) or 0
    rows = session.execute(
        fits.outerjoin(Job, Job.receipt_claim_id == ReceiptClaim.id)
        .with_only_columns(
            ReceiptClaim.id, ReceiptClaim.number, ReceiptClaim.line, ReceiptClaim.chart_number, ReceiptClaim.month,
            ReceiptClaim.inpatient, func.jsonb_array_length(ReceiptClaim.faults).label("faults"),
            func.jsonb_array_length(ReceiptClaim.note_ids).label("notes"),
            func.coalesce(found.c.said, 0).label("items"), func.coalesce(found.c.open, 0).label("open"), found.c.rank,
            Job.state.label("job"),
        )
        .order_by(func.coalesce(found.c.open, 0) == 0, *_order(found))
        .limit(limit)
        .offset(offset)
    ).all()  # fmt: skip
    rules = _rules(session, [row.id for row in rows])
    shown = [
        ClaimRow(
            id=row.id, number=row.number, line=row.line, chart_number=row.chart_number, month=row.month,
            inpatient=row.inpatient, faults=row.faults, notes=row.notes, items=row.items, open=row.open,
            worst=None if row.rank is None or row.rank >= len(Severity) else list(Severity)[row.rank],
            rules=rules[row.id], job=JobState(row.job) if row.job else None,
        )
        for row in rows
    ]  # fmt: skip
    return shown, total


def next_claim(session: Session, file_id: UUID, *, after: UUID | None = None) -> UUID | None:
    """The first claim behind `after` that needs work; behind the last one it begins anew. None: no other does."""
    found = _found(file_id)
    waiting = _fitting(file_id, ClaimFilter(needing=True), found).with_only_columns(ReceiptClaim.id)
    if after is not None:
        waiting = waiting.where(ReceiptClaim.id != after)
    waiting = waiting.order_by(*_order(found)).limit(1)
    here = session.execute(
        _fitting(file_id, ClaimFilter(), found).with_only_columns(*_order(found)).where(ReceiptClaim.id == after)
    ).one_or_none() if after is not None else None  # fmt: skip
    if here is not None and (behind := session.scalar(waiting.where(tuple_(*_order(found)) > tuple_(*here)))):
        return behind
    return session.scalar(waiting)


def _found(file_id: UUID) -> Subquery:
    """What was found in each claim that anything was found in."""
    return (
        select(
            ReceiptItem.claim_id,
            func.count().label("said"),
            func.count().filter(_OPEN).label("open"),
            func.min(_RANK).label("rank"),
        )
        .join(ReceiptClaim, ReceiptClaim.id == ReceiptItem.claim_id)
        .where(ReceiptClaim.file_id == file_id)
        .group_by(ReceiptItem.claim_id)
        .subquery()
    )


def _fitting(file_id: UUID, chosen: ClaimFilter, found: Subquery) -> Select[Any]:
    fits = select(ReceiptClaim).outerjoin(found, found.c.claim_id == ReceiptClaim.id).where(ReceiptClaim.file_id == file_id)
    if chosen.needing:
        fits = fits.where(found.c.open > 0)
    if chosen.rule is not None or chosen.state is not None:
        wanted = exists().where(ReceiptItem.claim_id == ReceiptClaim.id)
        if chosen.rule is not None:
            wanted = wanted.where(ReceiptItem.finding["rule"].astext == chosen.rule)
        if chosen.state is not None:
            wanted = wanted.where(ReceiptItem.state == chosen.state)
        fits = fits.where(wanted)
    return fits


def _order(found: Subquery) -> tuple[Any, ...]:
    """Ascending; comparable as a row of values."""
    return func.coalesce(found.c.rank, len(Severity) + 1), -func.coalesce(found.c.said, 0), ReceiptClaim.ordinal


def _rules(session: Session, claim_ids: Sequence[UUID]) -> dict[UUID, list[tuple[Rule, int]]]:
    rule = ReceiptItem.finding["rule"].astext
    counted = (
        select(ReceiptItem.claim_id, rule, func.count())
        .where(ReceiptItem.claim_id.in_(claim_ids), ReceiptItem.finding.is_not(None))
        .group_by(ReceiptItem.claim_id, rule)
        .order_by(func.min(_RANK), func.count().desc(), rule)
    )
    found: dict[UUID, list[tuple[Rule, int]]] = defaultdict(list)
    for claim_id, name, number in session.execute(counted):
        found[claim_id].append((Rule(name), number))
    return found
