"""One search parameter of a request: its name and values read, and the condition on entries that it makes.

Source: https://hl7.org/fhir/R4/search.html (modifiers, prefix, escaping, missing, chaining, has, and each parameter type).
Which values match is decided here and in the index alone; nothing is compared in Python.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Table,
    and_,
    exists,
    false,
    literal_column,
    or_,
    select,
    tuple_,
)
from sqlalchemy.orm import aliased

from app.errors import Forbidden, InvalidInput
from app.store import values
from app.store.comparisons import amount, dated, in_range
from app.store.parameters import PARAMETERS, ParameterType, SearchParameter
from models import SearchEntry, search_dates, search_quantities, search_references, search_strings, search_tokens
from schemas.access import Principal

MODIFIERS: Mapping[ParameterType, tuple[str, ...]] = {
    ParameterType.TOKEN: ("missing", "not"),
    ParameterType.STRING: ("missing", "exact", "contains"),
    ParameterType.DATE: ("missing",),
    ParameterType.REFERENCE: ("missing", "identifier"),
    ParameterType.QUANTITY: ("missing",),
    ParameterType.URI: ("missing",),
}
"""What may stand behind a parameter's name; a reference takes a type, too."""
MAX_DEPTH = 3
"""Chains and `_has` within each other."""
MAX_VALUES = 500
"""Values of one parameter, separated by commas."""
TABLES: Mapping[ParameterType, Table] = {
    ParameterType.TOKEN: search_tokens,
    ParameterType.URI: search_tokens,
    ParameterType.STRING: search_strings,
    ParameterType.DATE: search_dates,
    ParameterType.REFERENCE: search_references,
    ParameterType.QUANTITY: search_quantities,
}

Entry = Any
"""`models.SearchEntry` or an alias of it."""


class Unknown(Exception):
    """No parameter of that name; whether that is an error is the caller's to say."""


@dataclass(frozen=True)
class Criterion:
    """A condition on entries of one type: `make(entry, who)`. `types`: types that `who` must be allowed to search for it.

    `dated`: of a criterion on the main date, the same condition on any columns `dated_from` and `dated_until`; `narrowed`:
    of one on tokens, the condition with more conditions on its rows, which have these columns. Together they find what
    happened in some days without a look at what else has the code.
    """

    make: Callable[[Entry, Principal], ColumnElement[bool]]
    types: frozenset[str] = frozenset()
    dated: Callable[[Any], ColumnElement[bool]] | None = None
    narrowed: Callable[[Entry, Sequence[ColumnElement[bool]]], ColumnElement[bool]] | None = None

    def condition(self, entry: Entry, who: Principal) -> ColumnElement[bool]:
        """Raises: Forbidden for a chain through resources that `who` may not search."""
        for type_ in sorted(self.types):
            if not who.may(type_, "s"):
                raise Forbidden(f"this search looks into {type_}, which you may not search")
        return self.make(entry, who)


def conditions(criteria: Sequence[Criterion], entry: Entry, who: Principal) -> list[ColumnElement[bool]]:
    """All of them on one entry. Raises: Forbidden."""
    days = [one.dated(search_tokens.c) for one in criteria if one.dated is not None]
    return [
        one.narrowed(entry, days) if days and one.narrowed is not None else one.condition(entry, who) for one in criteria
    ]


def shown(entry: Entry, who: Principal) -> ColumnElement[bool]:
    """The entries that `who` may see."""
    found: ColumnElement[bool] = entry.newest if who.drafts else entry.released
    return found


def criterion(type_: str, name: str, value: str, depth: int = 0) -> Criterion:
    """Raises: Unknown for the name; InvalidInput for a modifier that is not supported, and for a malformed value."""
    if depth > MAX_DEPTH:
        raise InvalidInput(f"at most {MAX_DEPTH} chains within each other")
    if name.startswith("_has:"):
        return _has(type_, name, value, depth)
    head, dot, rest = name.partition(".")
    base, colon, modifier = head.partition(":")
    if dot:
        return _chain(type_, base, modifier, rest, value, depth)
    if colon and base in ("_id", "_lastUpdated"):
        raise _unsupported(base, modifier)
    if base == "_id":
        return _ids(_split(value, base))
    if base == "_lastUpdated":
        return _last_updated(_split(value, base))
    parameter = PARAMETERS[type_].get(base)
    if parameter is None:
        raise Unknown(base)
    if modifier == "missing":
        return _missing(type_, parameter, value)
    parts = _split(value, base)
    if modifier not in ("", *MODIFIERS[parameter.type]) and not (
        parameter.type is ParameterType.REFERENCE and modifier in PARAMETERS
    ):
        raise _unsupported(base, modifier)
    return _READ[parameter.type](type_, parameter, modifier, parts)


def _unsupported(name: str, modifier: str) -> InvalidInput:
    shown_as = modifier if re.fullmatch(r"[A-Za-z-]{1,40}", modifier) else "…"
    return InvalidInput(f"{name}:{shown_as}: this modifier is not supported")


def _malformed(name: str, why: object) -> InvalidInput:
    return InvalidInput(f"{name}: {why}")


def _split(value: str, name: str) -> list[str]:
    """The alternatives of a value, escapes still in. Raises: InvalidInput for an empty one, and for too many."""
    parts = values.parted(value, ",")
    if not all(part.strip() for part in parts):
        raise _malformed(name, "a value is empty")
    if len(parts) > MAX_VALUES:
        raise _malformed(name, f"has more than {MAX_VALUES} values")
    return parts


# --- columns of the entry itself --------------------------------------------------------------------------------------


def _ids(parts: Sequence[str]) -> Criterion:
    ids = [values.plain(part) for part in parts]
    return Criterion(lambda entry, who: entry.id.in_(ids))


def _last_updated(parts: Sequence[str]) -> Criterion:
    wanted = [dated("_lastUpdated", part) for part in parts]

    def make(entry: Entry, who: Principal) -> ColumnElement[bool]:
        # An instant is a range of one microsecond, the last digit that the database keeps.
        until = entry.last_updated + literal_column("interval '1 microsecond'")
        return or_(*(in_range(prefix, entry.last_updated, until, *range_) for prefix, range_ in wanted))

    return Criterion(make)


# --- values -----------------------------------------------------------------------------------------------------------


def _row(entry: Entry, parameter: SearchParameter, *matching: ColumnElement[bool]) -> ColumnElement[bool]:
    """Has the entry a row of this parameter that matches?"""
    table = TABLES[parameter.type]
    return exists().where(table.c.entry == entry.key, table.c.param == parameter.number, *matching)


def _missing(type_: str, parameter: SearchParameter, value: str) -> Criterion:
    if value not in ("true", "false"):
        raise InvalidInput(f"{parameter.name}:missing: must be true or false")

    def make(entry: Entry, who: Principal) -> ColumnElement[bool]:
        if parameter.main:
            there: ColumnElement[bool] = entry.dated_until.is_not(None)
        else:
            there = _row(entry, parameter)
        return ~there if value == "true" else there

    return Criterion(make)


def _token(type_: str, parameter: SearchParameter, modifier: str, parts: Sequence[str]) -> Criterion:
    wanted = [_system_and_code(parameter.name, part) for part in parts]

    def narrowed(entry: Entry, days: Sequence[ColumnElement[bool]]) -> ColumnElement[bool]:
        return _row(entry, parameter, any_token(wanted), *days)

    if modifier == "not":
        return Criterion(lambda entry, who: ~narrowed(entry, ()))
    return Criterion(lambda entry, who: narrowed(entry, ()), narrowed=narrowed)


def _system_and_code(name: str, part: str) -> tuple[str | None, str | None]:
    """(system, code): system "" for none stated, None for any; code None for any."""
    pieces = [values.plain(piece).strip() for piece in values.parted(part, "|")]
    if len(pieces) == 1:
        return None, values.cut(pieces[0])
    if len(pieces) > 2 or not any(pieces):
        raise _malformed(name, "must be code, system|code, |code or system|")
    return values.cut(pieces[0]) or "", values.cut(pieces[1]) or None


def any_token(wanted: Sequence[tuple[str | None, str | None]]) -> ColumnElement[bool]:
    """The condition on a row of `search_tokens`."""
    table = search_tokens.c
    codes = [code for system, code in wanted if system is None]
    found: list[ColumnElement[bool]] = [table.code.in_(codes)] if codes else []
    for system, code in wanted:
        if system is None:
            continue
        same = table.system.is_(None) if system == "" else table.system == system
        found.append(and_(same, table.code == code) if code is not None else same)
    return or_(*found)


def _uri(type_: str, parameter: SearchParameter, modifier: str, parts: Sequence[str]) -> Criterion:
    wanted = [values.cut(values.plain(part)) for part in parts]
    return Criterion(lambda entry, who: _row(entry, parameter, search_tokens.c.code.in_(wanted)))


def _string(type_: str, parameter: SearchParameter, modifier: str, parts: Sequence[str]) -> Criterion:
    texts = [values.plain(part) for part in parts]
    table = search_strings.c

    def one(text: str) -> ColumnElement[bool]:
        folded = values.folded(text)[: values.MAX_KEY]
        if not folded:
            raise _malformed(parameter.name, "a value is empty")
        if modifier == "exact":
            return and_(table.folded == folded, table.exact == text)
        pattern = re.sub(r"([%_\\])", r"\\\1", folded) + "%"
        return table.folded.like(f"%{pattern}" if modifier == "contains" else pattern)

    matching = or_(*map(one, texts))
    return Criterion(lambda entry, who: _row(entry, parameter, matching))


def _dates(type_: str, parameter: SearchParameter, modifier: str, parts: Sequence[str]) -> Criterion:
    wanted = [dated(parameter.name, part) for part in parts]

    def main(columns: Any) -> ColumnElement[bool]:
        starts, ends = columns.dated_from, columns.dated_until
        return and_(ends.is_not(None), or_(*(in_range(prefix, starts, ends, *range_) for prefix, range_ in wanted)))

    if parameter.main:
        return Criterion(lambda entry, who: main(entry), dated=main)
    table = search_dates.c
    matching = or_(*(in_range(prefix, table.starts, table.ends, *range_) for prefix, range_ in wanted))
    return Criterion(lambda entry, who: _row(entry, parameter, matching))


def _quantity(type_: str, parameter: SearchParameter, modifier: str, parts: Sequence[str]) -> Criterion:
    matching = or_(*(amount(parameter.name, part) for part in parts))
    return Criterion(lambda entry, who: _row(entry, parameter, matching))


# --- references -------------------------------------------------------------------------------------------------------


def _reference(type_: str, parameter: SearchParameter, modifier: str, parts: Sequence[str]) -> Criterion:
    if modifier == "identifier":
        wanted = [_system_and_code(parameter.name, part) for part in parts]
        rows = search_tokens.c

        def identified(entry: Entry, who: Principal) -> ColumnElement[bool]:
            own = exists().where(rows.entry == entry.key, rows.param == parameter.number)
            return own.where(any_token(wanted))

        return Criterion(identified)
    stated = [_target(parameter, modifier, values.plain(part).strip()) for part in parts]
    patients = [id_ for target, id_, _ in stated if target == "Patient" and id_ is not None]
    if holds_patient(type_, parameter) and len(patients) == len(stated):
        return Criterion(lambda entry, who: entry.patient.in_(patients))
    rows = search_references.c
    matching = or_(*(
        rows.url == url if id_ is None
        else and_(rows.target_id == id_, rows.target_type == target if target else ~false())
        for target, id_, url in stated
    ))  # fmt: skip
    return Criterion(lambda entry, who: _row(entry, parameter, matching))


def holds_patient(type_: str, parameter: SearchParameter) -> bool:
    """Do the entries of this type hold, in `patient`, every patient that the parameter leads to?"""
    patient = PARAMETERS[type_].get("patient")
    if patient is None or patient.paths != parameter.paths:
        return False
    return type_ != "Provenance"  # it has many targets


def _target(parameter: SearchParameter, modifier: str, part: str) -> tuple[str | None, str | None, str | None]:
    """(type, id, URL) of a searched reference; the id, or the URL."""
    found = values.literal(part)
    if found is not None and not found[0]:
        if modifier and found[1] != modifier:
            raise _malformed(parameter.name, "the type of the value is not the one of the modifier")
        return found[1], found[2], None
    if re.fullmatch(r"[A-Za-z0-9.-]{1,64}", part, re.ASCII):
        only = parameter.targets[0] if len(parameter.targets) == 1 and parameter.targets != ("*",) else None
        return modifier or only, part, None
    return None, None, values.cut(part.partition("|")[0])


def _chain(type_: str, base: str, target: str, rest: str, value: str, depth: int) -> Criterion:
    parameter = _reference_of(type_, base)
    if target and target not in parameter.stored_targets:
        raise InvalidInput(f"{base}: leads to no resource of the type behind the colon")
    inner: dict[str, Criterion] = {}
    for one in (target,) if target else parameter.stored_targets:
        try:
            inner[one] = criterion(one, rest, value, depth + 1)
        except Unknown:
            continue
    if not inner:
        raise Unknown(base)
    needed = frozenset(inner).union(*(one.types for one in inner.values()))

    def make(entry: Entry, who: Principal) -> ColumnElement[bool]:
        found: list[ColumnElement[bool]] = []
        for one, condition in inner.items():
            other = aliased(SearchEntry)
            where = (other.type == one, shown(other, who), condition.make(other, who))
            if one == "Patient" and holds_patient(type_, parameter):
                found.append(entry.patient.in_(select(other.id).where(*where)))
                continue
            rows = search_references.c
            targets = select(other.type, other.id).where(*where)
            found.append(_row(entry, parameter, tuple_(rows.target_type, rows.target_id).in_(targets)))
        return or_(*found)

    return Criterion(make, needed)


def _has(type_: str, name: str, value: str, depth: int) -> Criterion:
    parts = name.split(":", 3)
    if len(parts) != 4 or parts[1] not in PARAMETERS:
        raise Unknown("_has")
    source = parts[1]
    parameter = _reference_of(source, parts[2])
    if type_ not in parameter.stored_targets:
        raise InvalidInput(f"_has: {parameter.name} of {source} does not lead to {type_}")
    inner = criterion(source, parts[3], value, depth + 1)

    def make(entry: Entry, who: Principal) -> ColumnElement[bool]:
        other = aliased(SearchEntry)
        where = (other.type == source, shown(other, who), inner.make(other, who))
        if type_ == "Patient" and holds_patient(source, parameter):
            targets = select(other.patient).where(*where, other.patient.is_not(None))
        else:
            rows = search_references.c
            leading = (rows.entry == other.key, rows.param == parameter.number, rows.target_type == type_)
            targets = select(rows.target_id).where(*leading, *where)
        return and_(entry.id.in_(targets))

    return Criterion(make, inner.types | {source})


def _reference_of(type_: str, name: str) -> SearchParameter:
    parameter = PARAMETERS[type_].get(name)
    if parameter is None:
        raise Unknown(name)
    if parameter.type is not ParameterType.REFERENCE:
        raise InvalidInput(f"{name}: is no reference, and leads nowhere")
    return parameter


_READ: Mapping[ParameterType, Callable[[str, SearchParameter, str, Sequence[str]], Criterion]] = {
    ParameterType.TOKEN: _token,
    ParameterType.URI: _uri,
    ParameterType.STRING: _string,
    ParameterType.DATE: _dates,
    ParameterType.QUANTITY: _quantity,
    ParameterType.REFERENCE: _reference,
}
