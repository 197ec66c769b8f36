"""The form in which a statement is corrected or added: what it shows, and what it sends, as a statement.

A form sends places in the note and picks of closed lists, never text of its own: `name.start`, `name.end` … , `assertion`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar
from uuid import UUID

from app.errors import InvalidInput
from app.generation.form import ASSERTIONS
from app.review_items import Item
from app.review_queue import QueueFilter
from schemas.coding import Coding
from schemas.record import Record
from schemas.review import ReviewState
from schemas.statement import (
    FIELDS,
    Action,
    AllergyCategory,
    Assertion,
    EvidenceSpan,
    Field,
    InfectionResult,
    Kind,
    Statement,
)

SECOND = "second"
"""Beside the states of reviews: what waits for a second reader."""
_MAX_CANDIDATES = 6

Sent = Mapping[str, str]
Choice = TypeVar("Choice", bound=StrEnum)


@dataclass(frozen=True)
class Row:
    """A field; without a place the note does not state it."""

    part: str
    start: int | None = None
    end: int | None = None
    written: str | None = None


@dataclass(frozen=True)
class Editor:
    """`target`: the id of what it stands in place of; `item`: whose statement it is, None for a new one."""

    id: str
    target: str
    heading: str
    action: str
    back: str
    kind: Kind
    rows: Sequence[Row]
    assertion: Assertion = Assertion.PRESENT
    category: AllergyCategory | None = None
    result: InfectionResult | None = None
    action_chosen: Action | None = None
    item: str | None = None
    state: str = "open"
    version: int = 0
    coding: Coding | None = None
    candidates: Sequence[Coding] = ()
    assertions: Sequence[Assertion] = field(init=False)
    categories: Sequence[AllergyCategory] = tuple(AllergyCategory)
    results: Sequence[InfectionResult] = tuple(InfectionResult)
    actions: Sequence[Action] = tuple(Action)

    def __post_init__(self) -> None:
        object.__setattr__(self, "assertions", ASSERTIONS.get(self.kind, (Assertion.PRESENT,)))


def editor_of(item: Item, record: Record | None, *, note: str) -> Editor:
    """`note`: the path of the note's page."""
    statement = item.statement
    near = [one.coding for one in record.candidates] if record else []
    return Editor(
        id=f"edit-{item.id}",
        target=f"item-{item.id}",
        heading="edit_heading",
        action=f"{note}/items/{item.id}/amend",
        back=f"{note}#item-{item.id}",
        kind=statement.kind,
        rows=[_row(part, statement.fields.get(part)) for part in parts_of(statement.kind)],
        assertion=statement.assertion,
        category=statement.category,
        result=statement.result,
        action_chosen=statement.action,
        item=str(item.id),
        state=item.verdict.value if item.verdict else "open",
        version=item.version,
        coding=item.coding,
        candidates=near[:_MAX_CANDIDATES],
    )


def new_editor(text: str, kind: Kind, span: tuple[int, int] | None, *, note: str) -> Editor:
    """`span`: what was selected in the note; it becomes the name."""
    rows = [Row(part.value) for part in parts_of(kind)]
    if span is not None and 0 <= span[0] < span[1] <= len(text):
        rows[0] = Row(Field.NAME.value, *span, text[slice(*span)])
    return Editor(
        id="new-form", target="new", heading="add_heading", action=f"{note}/add", back=note, kind=kind, rows=rows,
        category=AllergyCategory.MEDICATION, action_chosen=Action.PRESCRIBE,
    )  # fmt: skip


def parts_of(kind: Kind) -> tuple[Field, ...]:
    return (*FIELDS[kind], Field.REFERENCE) if kind in (Kind.LAB, Kind.INFECTION) else FIELDS[kind]


def statement_of(sent: Sent, text: str) -> Statement:
    """What the form says. Raises: InvalidInput, with the field, for what no form of ours sends; whether the note can say it
    is not asked here (`reviews.check_statement`)."""
    kind = choice(sent, "kind", Kind)
    if kind is None:
        raise InvalidInput("kind: is missing")
    spans = {part: span for part in parts_of(kind) if (span := _span(sent, part, text)) is not None}
    return Statement(
        kind=kind,
        fields=spans,
        assertion=choice(sent, "assertion", Assertion) or Assertion.PRESENT,
        category=choice(sent, "category", AllergyCategory),
        result=choice(sent, "result", InfectionResult),
        action=choice(sent, "action", Action),
    )


def choice(sent: Sent, name: str, of: type[Choice]) -> Choice | None:
    """Raises: InvalidInput."""
    written = sent.get(name, "")
    if not written:
        return None
    try:
        return of(written)
    except ValueError:
        raise InvalidInput(f"{name}: is none of " + ", ".join(of)) from None


def number(sent: Sent, name: str, most: int, default: int | None = None) -> int:
    """Raises: InvalidInput."""
    written = sent.get(name, "")
    if not written and default is not None:
        return default
    if not written.isascii() or not written.isdigit() or len(written) > 9 or int(written) > most:
        raise InvalidInput(f"{name}: must be a whole number from 0 to {most}")
    return int(written)


def identifier(sent: Sent, name: str) -> UUID:
    """Raises: InvalidInput."""
    try:
        return UUID(sent.get(name, ""))
    except ValueError:
        raise InvalidInput(f"{name}: must be a UUID") from None


def version(sent: Sent) -> int:
    """Of the item as the person saw it. Raises: InvalidInput."""
    return number(sent, "version", 999_999)


def seconds(sent: Sent) -> float | None:
    """For how long the item was looked at; None where no script measured it."""
    return number(sent, "spent_ms", 999_999_999) / 1000 if sent.get("spent_ms") else None


def probability(sent: Sent, name: str) -> float | None:
    """0..1. Raises: InvalidInput."""
    written = sent.get(name, "")
    if not written:
        return None
    if not re.fullmatch(r"0(\.[0-9]{1,4})?|1(\.0{1,4})?", written):
        raise InvalidInput(f"{name}: must be from 0 to 1")
    return float(written)


def chosen_code(sent: Sent) -> Coding | None:
    """That was picked, as the form names it; None: the name's own. Whether a table has it is asked when it is stored."""
    system, code, display = (sent.get(f"coding.{part}", "") for part in ("system", "code", "display"))
    return Coding(system=system, code=code, display=display) if system and code else None


def queue_filter(asked: Sent) -> QueueFilter:
    """Raises: InvalidInput."""
    state = asked.get("state") or ReviewState.OPEN
    second = state == SECOND
    try:
        return QueueFilter(
            kinds=_one(asked, "kind"),
            departments=_one(asked, "department"),
            document_types=_one(asked, "type"),
            max_probability=probability(asked, "probability"),
            min_age_days=number(asked, "age", 36_500) if asked.get("age") else None,
            batch_id=UUID(asked["batch"]) if asked.get("batch") else None,
            mine=bool(asked.get("mine")),
            state=None if second else state,
            second=second,
        )
    except ValueError:
        raise InvalidInput("batch: must be a UUID") from None


def _one(asked: Sent, name: str) -> tuple[str, ...]:
    return (asked[name],) if asked.get(name) else ()


def _span(sent: Sent, part: Field, text: str) -> EvidenceSpan | None:
    if not sent.get(f"{part}.start") and not sent.get(f"{part}.end"):
        return None
    start, end = (number(sent, f"{part}.{side}", len(text)) for side in ("start", "end"))
    if start >= end:
        raise InvalidInput(f"{part}: ends before it begins")
    return EvidenceSpan(start=start, end=end, quote=text[start:end])


def _row(part: Field, span: EvidenceSpan | None) -> Row:
    return Row(part.value, span.start, span.end, span.quote) if span else Row(part.value)
