"""What two results of one note say differently: statement by statement for people, and path by path in JSON."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

from schemas.coding import Coding
from schemas.record import Record
from schemas.statement import AllergyCategory, Kind
from schemas.value import Value

CODES = "codes"
"""The part whose change means that a name is coded otherwise."""


class Change(StrEnum):
    SAME = "same"
    CHANGED = "changed"
    NEW = "new"
    GONE = "gone"


class Part(Value):
    """One thing that two results say otherwise; None: nothing."""

    part: str
    before: str | None
    after: str | None


class Difference(Value):
    """Of one statement. `start`, `end`: its name in the note, half-open code-point offsets; `name`: the name.

    `grave`: it is about an allergy that is, or was, one to a drug, or may be one: a mistake in it can kill.
    """

    kind: Kind
    change: Change
    start: int
    end: int
    name: str
    grave: bool
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Compared:
    """`differences`: drug allergies first, then in the order of the note. `counts`: of the statements by kind and
    change."""

    differences: list[Difference]
    counts: dict[str, dict[str, int]]


def differences(before: Sequence[Record], after: Sequence[Record]) -> Compared:
    """Statements are the same where kind and name's place are; those left over, where the names overlap. Confidences
    and probabilities are not compared: with another model all of them differ."""
    pairs = list(_pairs(before, after))
    found = [difference for old, new in pairs if (difference := _difference(old, new)) is not None]
    counts: dict[str, dict[str, int]] = {}
    for difference in found:
        of_kind = counts.setdefault(difference.kind.value, dict.fromkeys((change.value for change in Change), 0))
        of_kind[difference.change.value] += 1
    changed = [difference for difference in found if difference.change is not Change.SAME]
    return Compared(sorted(changed, key=lambda d: (not d.grave, d.start, d.end)), counts)


def _pairs(before: Sequence[Record], after: Sequence[Record]) -> Iterator[tuple[Record | None, Record | None]]:
    waiting: dict[tuple[Kind, int, int], list[Record]] = defaultdict(list)
    for record in before:
        waiting[_place(record)].append(record)
    new: list[Record] = []
    for record in after:
        if same := waiting.get(_place(record)):
            # Of several over the same characters, the one that says the same.
            chosen = next((one for one in same if _said(one) == _said(record)), same[0])
            same.remove(chosen)
            yield chosen, record
        else:
            new.append(record)
    left = [record for of_place in waiting.values() for record in of_place]
    for record in new:
        kind, start, end = _place(record)
        near = (old for old in left if _place(old)[0] is kind and _place(old)[1] < end and start < _place(old)[2])
        old = next(near, None)
        if old is not None:
            left.remove(old)
        yield old, record
    yield from ((old, None) for old in left)


def _place(record: Record) -> tuple[Kind, int, int]:
    return record.statement.kind, record.statement.name.start, record.statement.name.end


def _difference(old: Record | None, new: Record | None) -> Difference | None:
    shown = new or old
    if shown is None:
        return None
    before, after = _said(old), _said(new)
    change = Change.NEW if old is None else Change.GONE if new is None else Change.CHANGED
    parts = tuple(
        Part(part=part, before=before.get(part), after=after.get(part))
        for part in dict.fromkeys([*before, *after])
        if before.get(part) != after.get(part)
    )
    if old is not None and new is not None and not parts:
        change = Change.SAME
    name = shown.statement.name
    return Difference(
        kind=shown.statement.kind,
        change=change,
        start=name.start,
        end=name.end,
        name=name.quote,
        grave=any(_grave(record) for record in (old, new) if record is not None),
        parts=parts,
    )


def _grave(record: Record) -> bool:
    harmless = (AllergyCategory.FOOD, AllergyCategory.ENVIRONMENT)
    return record.statement.kind is Kind.ALLERGY and record.statement.category not in harmless


def _said(record: Record | None) -> dict[str, str]:
    """What a person would call another statement, by name."""
    if record is None:
        return {}
    statement = record.statement
    said: dict[str, Any] = {field.value: span.quote for field, span in statement.fields.items()}
    said |= {
        "assertion": statement.assertion,
        "category": statement.category,
        "result": statement.result,
        "action": statement.action,
        CODES: _codes(record.codings),
        "local": _codes((record.local,) if record.local else ()),
        "modifiers": " ".join(modifier.text for modifier in record.modifiers),
        "computed date": record.date,
        "computed value": _quantity(record) or record.text_value,
        "range": _json(record.reference_range),
        "dosage": _json(record.dosage),
        "reactions": "、".join(record.reactions),
        "family member": record.relative,
        "held": "held" if record.held else None,
        "told elsewhere": "yes" if record.restates is not None else None,
    }
    return {name: str(value) for name, value in said.items() if value}


def _codes(codings: Sequence[Coding]) -> str:
    return " ".join(f"{coding.system}|{coding.code}" for coding in codings)


def _quantity(record: Record) -> str | None:
    quantity = record.quantity
    if quantity is None:
        return None
    return f"{quantity.comparator or ''}{quantity.value}{' ' + quantity.unit if quantity.unit else ''}"


def _json(value: Value | None) -> str | None:
    return value.model_dump_json(exclude_defaults=True) if value is not None else None


# --- JSON -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Path:
    """A place in a JSON value where two differ. `before`, `after`: what is there; `MISSING` where nothing is."""

    path: str
    before: Any
    after: Any


MISSING = object()


def paths(before: Any, after: Any, at: str = "") -> Iterator[Path]:
    """Every place where `before` and `after` differ, in the order of `before`. Numbers are compared by their digits,
    since 1.1 and 1.10 are two statements of a laboratory."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys([*before, *after]):
            yield from paths(before.get(key, MISSING), after.get(key, MISSING), f"{at}.{key}" if at else key)
    elif isinstance(before, list) and isinstance(after, list):
        for n in range(max(len(before), len(after))):
            yield from paths(
                before[n] if n < len(before) else MISSING, after[n] if n < len(after) else MISSING, f"{at}[{n}]"
            )
    elif _digits(before) != _digits(after):
        yield Path(at, before, after)


def _digits(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return value
    return "number", format(Decimal(repr(value)) if isinstance(value, float) else Decimal(value), "f")
