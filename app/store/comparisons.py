"""Prefixes and precision: how a searched date or number is compared with a stored range.

Source: https://hl7.org/fhir/R4/search.html#prefix, #date, #number, #quantity.
"""

import re
from datetime import datetime
from decimal import Context, Decimal
from typing import Any

from sqlalchemy import ColumnElement, and_, cast, func, literal_column, or_, true
from sqlalchemy.types import DateTime

from app.errors import InvalidInput
from app.store import values
from models import search_quantities

PREFIXES = ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")
"""Without one, eq."""
_PREFIXED = re.compile(rf"({'|'.join(PREFIXES)})?(.*)", re.DOTALL)
# A number that nobody can hold must not come of an exponent; no measurement has forty digits.
_NUMBER = re.compile(r"[+-]?\d{1,60}(?:\.\d{1,60})?(?:[eE][+-]?\d{1,2})?", re.ASCII)
# What is in a URL as + arrives as a space.
_LOST_PLUS = re.compile(r"(T[\d:.]+) (\d\d:\d\d)", re.ASCII)
_TIMESTAMP = DateTime(timezone=True)
# More than `_NUMBER` lets through: no digit is lost.
_DIGITS = Context(prec=400)


def dated(name: str, part: str) -> tuple[str, tuple[datetime, values.Moment]]:
    """The prefix and the half-open range of a searched date. Raises: InvalidInput, with the parameter's name."""
    match = _PREFIXED.fullmatch(values.plain(part).strip())
    assert match is not None
    try:
        return match[1] or "eq", values.date_range(_LOST_PLUS.sub(r"\1+\2", match[2]))
    except InvalidInput as error:
        raise InvalidInput(f"{name}: {error}") from None


def in_range(
    prefix: str, starts: ColumnElement[Any], ends: ColumnElement[Any], low: datetime, high: values.Moment
) -> ColumnElement[bool]:
    """Does the stored half-open range fit the searched one? Source: search.html#prefix."""
    begin, end = timestamp(low), timestamp(high)
    within = and_(starts >= begin, starts < end, ends <= end)
    match prefix:
        case "eq":
            return within
        case "ne":
            return ~within
        case "lt":
            return starts < begin
        case "gt":
            return ends > end
        case "le":
            return or_(starts < begin, within)
        case "ge":
            return or_(ends > end, within)
        case "sa":
            return starts >= end
        case "eb":
            return ends <= begin
    # ap: within a tenth of the time between the date and now, as search.html#prefix recommends.
    apart = func.greatest(func.now() - begin, begin - func.now()) * literal_column("0.1")
    return and_(starts < end + apart, ends > begin - apart)


def timestamp(moment: values.Moment) -> ColumnElement[Any]:
    return cast("infinity" if moment is None else moment.isoformat(), _TIMESTAMP)


def amount(name: str, part: str) -> ColumnElement[bool]:
    """The condition on a row of `search_quantities`. Raises: InvalidInput, with the parameter's name."""
    pieces = [values.plain(piece).strip() for piece in values.parted(part, "|")]
    match = _PREFIXED.fullmatch(pieces[0])
    assert match is not None
    prefix, number = match[1] or "eq", _NUMBER.fullmatch(match[2])
    if number is None or len(pieces) > 3:
        raise InvalidInput(f"{name}: must be a number, or number|system|code")
    value, begin, end = precision(number[0])
    table = search_quantities.c
    low, high = table.low, table.high
    within = and_(low >= begin, low < end, high < end)
    near = _DIGITS.divide(_DIGITS.abs(value), Decimal(10))
    found: ColumnElement[bool] = {
        "eq": within, "ne": ~within, "lt": low < value, "gt": high > value, "le": low <= value, "ge": high >= value,
        "sa": low > value, "eb": high < value,
        "ap": and_(low <= _DIGITS.add(value, near), high >= _DIGITS.subtract(value, near)),
    }[prefix]  # fmt: skip
    system, code = ([*pieces[1:], "", ""])[:2]
    if system:
        return and_(found, table.system == values.cut(system), table.code == values.cut(code) if code else true())
    # Without a system the unit as people write it counts, too (search.html#quantity).
    return and_(found, or_(table.code == values.cut(code), table.unit == values.cut(code))) if code else found


def precision(written: str) -> tuple[Decimal, Decimal, Decimal]:
    """The number, and the half-open range of half a unit of its last digit: 5.40 stands for 5.395 to 5.405."""
    value = Decimal(written)
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    half = Decimal(5).scaleb(exponent - 1)
    return value, _DIGITS.subtract(value, half), _DIGITS.add(value, half)
