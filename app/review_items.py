"""What is judged in a review, and what stands of each of it: read from the stored decisions, which are only ever added to.

The newest decision of an item counts. An undo names the version that counts again: that of before the one which counted
(`restored`), so that undoing goes back step by step, and ends where nobody had decided.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, cast
from uuid import UUID

from sqlalchemy import ColumnElement, exists, or_, select
from sqlalchemy.orm import Session, aliased

from models import Decision, NoteReview, NoteStatement, Review
from schemas.coding import Coding
from schemas.record import Record
from schemas.review import Verdict
from schemas.statement import Statement


class Judged(Protocol):
    """A decision, of whichever reader (`models.Decision`, `models.SecondDecision`)."""

    @property
    def version(self) -> int: ...
    @property
    def verdict(self) -> str: ...
    @property
    def statement(self) -> dict[str, Any] | None: ...
    @property
    def coding(self) -> dict[str, Any] | None: ...
    @property
    def restores(self) -> int | None: ...
    @property
    def decided_by(self) -> str: ...
    @property
    def decided_at(self) -> datetime: ...


@dataclass(frozen=True)
class Item:
    """One thing to be judged. `statement`: as it stands now, with the last correction; `read`: as the model's reading gave it,
    with what was computed from it, None where a person added the statement (or a former version kept too little).

    `version`: how many decisions there are; the next one has to name it. `verdict`: the one that counts; None: undecided.
    `explicit`: needs a person's own decision. `added`: by a person. `resource`: type, id and version of what was made of it; None: nothing was.
    `ordinal`: the position among the run's statements, from 0; None for what was added. `coding`: the code that a person chose.
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
    ordinal: int | None = None
    coding: Coding | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None

    @property
    def stands(self) -> bool:
        """Is it what the note says, by a decision?"""
        return self.verdict not in (None, Verdict.REJECT)

    @property
    def said(self) -> tuple[bool, Statement, Coding | None]:
        """What two readers are compared by; a model's confidence is none of it."""
        return self.stands, self.statement.model_copy(update={"confidence": None}), self.coding


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
        return [item.statement for item in self.items if item.stands]


def find_review(session: Session, note_id: UUID) -> CurrentReview | None:
    """The current one of the note."""
    current = select(NoteReview).where(NoteReview.note_id == note_id, NoteReview.superseded_at.is_(None))
    row = session.scalars(current.execution_options(populate_existing=True)).one_or_none()
    if row is None:
        return None
    return CurrentReview(note_id, row.run_id, read_items(session, row.run_id), row.released_at, row.released_by)


def read_items(session: Session, run_id: UUID) -> list[Item]:
    """As the note is read; what a person added and took back is left out."""
    decisions: dict[UUID, list[Judged]] = defaultdict(list)
    for decision in session.scalars(
        select(Decision)
        .join(Review, Review.id == Decision.review_id)
        .where(Review.run_id == run_id)
        .order_by(Decision.version)
    ):
        decisions[decision.review_id].append(decision)
    items = [_item(review, stored, decisions[review.id]) for review, stored in _stored(session, run_id)]
    return in_order(item for item in items if item is not None)


def undecided_items(session: Session, run_id: UUID) -> list[Item]:
    """What the model read, as nobody has judged it."""
    items = (_item(review, stored, ()) for review, stored in _stored(session, run_id) if stored is not None)
    return in_order(item for item in items if item is not None)


def _stored(session: Session, run_id: UUID) -> Sequence[tuple[Review, NoteStatement | None]]:
    rows = session.execute(
        select(Review, NoteStatement)
        .outerjoin(NoteStatement, NoteStatement.id == Review.statement_id)
        .where(Review.run_id == run_id)
    )
    return [(review, stored) for review, stored in rows]


def in_order(items: Any) -> list[Item]:
    # The id tells two statements over the same characters apart, always in the same way.
    return sorted(items, key=lambda item: (item.statement.name.start, item.statement.name.end, item.id))


def _item(review: Review, stored: NoteStatement | None, decisions: Sequence[Judged]) -> Item | None:
    read = None
    if stored is not None and stored.record is not None:
        read = Record.model_validate({**stored.record, "statement": stored.payload, "candidates": stored.candidates})
    resource = (review.resource_type, review.resource_id, review.resource_version)
    untouched = Item(
        id=review.id,
        version=0,
        statement=Statement.model_validate(stored.payload if stored else decisions[0].statement),
        read=read,
        verdict=None,
        automatic=False,
        explicit=review.explicit,
        added=stored is None,
        resource=None if None in resource else cast(tuple[str, str, int], resource),
        ordinal=stored.ordinal if stored else None,
    )
    item = judged(untouched, decisions)
    return None if item.added and item.verdict is None else item


def judged(untouched: Item, decisions: Sequence[Judged]) -> Item:
    """The item as the decisions leave it; they are all of it, by their versions."""
    if not decisions:
        return untouched
    counts = effective(decisions, len(decisions))
    statement, coding = _said(untouched, decisions, len(decisions))
    return Item(
        id=untouched.id,
        version=len(decisions),
        statement=statement,
        read=untouched.read,
        verdict=Verdict(counts.verdict) if counts else None,
        automatic=bool(counts and getattr(counts, "automatic", False)),
        explicit=untouched.explicit,
        added=untouched.added,
        resource=untouched.resource,
        ordinal=untouched.ordinal,
        coding=coding,
        decided_by=counts.decided_by if counts else None,
        decided_at=counts.decided_at if counts else None,
    )


def is_decided() -> ColumnElement[bool]:
    """The condition, within a query of `models.Review`, that some decision of the item counts."""
    later = aliased(Decision)
    newest = ~exists().where(later.review_id == Decision.review_id, later.version > Decision.version)
    return exists().where(
        Decision.review_id == Review.id, newest, or_(Decision.restores.is_(None), Decision.restores > 0)
    )


def effective(decisions: Sequence[Judged], version: int) -> Judged | None:
    """The decision that counted when there were `version` of them; None: nobody had decided, or all was undone."""
    if not version:
        return None
    newest = decisions[version - 1]
    if newest.restores is None:
        return newest
    return decisions[newest.restores - 1] if newest.restores else None


def restored(decisions: Sequence[Judged]) -> int | None:
    """The version that an undo brings back, 0: none; None: there is nothing to undo."""
    counts = effective(decisions, len(decisions))
    if counts is None:
        return None
    before = effective(decisions, counts.version - 1)
    return before.version if before else 0


def _said(untouched: Item, decisions: Sequence[Judged], version: int) -> tuple[Statement, Coding | None]:
    counts = effective(decisions, version)
    if counts is None or counts.verdict == Verdict.ACCEPT:  # accepted after a correction: as it was read after all
        return untouched.statement, None
    if counts.statement is not None:
        return Statement.model_validate(counts.statement), Coding.model_validate(counts.coding) if counts.coding else None
    return _said(untouched, decisions, counts.version - 1)  # what was rejected
