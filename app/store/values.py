"""What a resource has under its search parameters, and how a search's values are compared with it.

Source of what is compared: https://hl7.org/fhir/R4/search.html (date, number, quantity, reference, string, token, uri).
Two choices that R4 leaves to a server: strings are compared without case, accents, width, white space and kana
(`folded`), and a date without a zone is Japan's.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from app.errors import InvalidInput
from app.store.parameters import PARAMETERS, ParameterType, Path, SearchParameter
from schemas.spelling import fold

JAPAN = timezone(timedelta(hours=9))
MAX_KEY = 200
"""Characters of a text in an index; a B-tree of Postgres takes 2,704 bytes, and one entry holds a code and its system."""

Moment = datetime | None
"""A bound of a range; None: open."""

# https://hl7.org/fhir/R4/datatypes.html#dateTime; a search may leave the seconds out (search.html#date).
_DATE = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?(Z|[+-]\d\d:\d\d)?)?)?)?", re.ASCII
)
# https://hl7.org/fhir/R4/references.html#literal
_REFERENCE = re.compile(r"(?:(.+)/)?([A-Z][A-Za-z]+)/([A-Za-z0-9.-]{1,64})(?:/_history/[A-Za-z0-9.-]{1,64})?", re.ASCII)
# Combining marks, without the voicing marks of kana: か and が are not one letter.
_ACCENT = re.compile("[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff]")
_HIRAGANA = {code: code - 0x60 for code in range(0x30A1, 0x30F7)}
_NAME = ("family", "given", "prefix", "suffix", "text")
_ADDRESS = ("text", "line", "city", "district", "state", "country", "postalCode")


@dataclass
class Values:
    """Rows of one resource without its entry; the first column of each is the parameter's number."""

    patient: str | None = None
    dated: tuple[Moment, Moment] | None = None
    tokens: set[tuple[int, str | None, str | None]] = field(default_factory=set)
    dates: set[tuple[int, Moment, Moment]] = field(default_factory=set)
    references: set[tuple[int, str | None, str | None, str | None]] = field(default_factory=set)
    strings: set[tuple[int, str, str]] = field(default_factory=set)
    quantities: set[tuple[int, Decimal, Decimal, str | None, str | None, str | None]] = field(default_factory=set)


Items = list[tuple[Any, Path]]
_BEGINNING_WITH = {
    type_: {
        first: [(p, path) for p in found.values() for path in p.paths if path.steps[0] == first]
        for first in {path.steps[0] for p in found.values() for path in p.paths}
    }
    for type_, found in PARAMETERS.items()
}
"""By type and first property: the parameters that it counts for."""
_ALWAYS_READ = {
    type_: [p.name for p in found.values() if any(path.exists for path in p.paths)] for type_, found in PARAMETERS.items()
}
"""That nothing is there says something, too."""


# --- one resource -----------------------------------------------------------------------------------------------------


def values_of(content: dict[str, Any]) -> Values:
    """Of a resource of a stored type. What has not the shape that R4 gives it is passed over: a search finds nothing in it."""
    type_ = content["resourceType"]
    found = Values(patient=content["id"] if type_ == "Patient" else None)
    items: dict[str, Items] = {name: [] for name in _ALWAYS_READ[type_]}
    # By what is there, which is little: a type has thirty parameters, and a resource states a third of them.
    for name in content:
        for parameter, path in _BEGINNING_WITH[type_].get(name, ()):
            items.setdefault(parameter.name, []).extend((item, path) for item in _items(content, path))
    for name, own in items.items():
        parameter = PARAMETERS[type_][name]
        _READ[parameter.type](found, parameter, own)
    return found


def _items(content: dict[str, Any], path: Path) -> Iterator[Any]:
    level: list[Any] = [content]
    for step in path.steps:
        level = [item[step] for item in level if isinstance(item, dict) and item.get(step) is not None]
        level = [part for item in level for part in (item if isinstance(item, list) else [item])]
    if path.system is not None:
        return (item for item in level if isinstance(item, dict) and item.get("system") == path.system)
    return iter(level)


def _tokens(found: Values, parameter: SearchParameter, items: Items) -> None:
    asked = any(path.exists for path in parameter.paths)
    if asked and not items:
        found.tokens.add((parameter.number, None, "false"))
    for item, path in items:
        if path.exists:
            found.tokens.add((parameter.number, None, "true"))
            continue
        for system, code in _codes(item, parameter.system):
            found.tokens.add((parameter.number, cut(system), cut(code)))


def _codes(item: Any, system: str | None) -> Iterator[tuple[str | None, str | None]]:
    """(system, code) of a value; (None, None) where it states no code."""
    if isinstance(item, bool):
        yield None, "true" if item else "false"
    elif isinstance(item, str):
        yield system, item
    elif isinstance(item, dict):
        codings = item.get("coding")
        if isinstance(codings, list):  # CodeableConcept
            stated = [c for c in codings if isinstance(c, dict) and isinstance(c.get("code"), str)]
            for coding in stated:
                yield _text(coding.get("system")), coding["code"]
            if not stated:
                yield None, None
        elif isinstance(value := item.get("value"), str):  # Identifier, ContactPoint
            # search.html#token: the system of a ContactPoint is its use.
            contact = item.get("system") in ("phone", "fax", "email", "pager", "url", "sms", "other")
            yield _text(item.get("use" if contact else "system")), value
        elif isinstance(code := item.get("code"), str):  # Coding
            yield _text(item.get("system")), code
        else:
            yield None, None


def _uris(found: Values, parameter: SearchParameter, items: Items) -> None:
    found.tokens.update((parameter.number, None, cut(item)) for item, _ in items if isinstance(item, str))


def _dates(found: Values, parameter: SearchParameter, items: Items) -> None:
    ranges = [one for item, _ in items if (one := stored_range(item)) is not None]
    if parameter.main:
        if ranges:
            found.dated = _outer(ranges)
    else:
        found.dates.update((parameter.number, *one) for one in ranges)


def _references(found: Values, parameter: SearchParameter, items: Items) -> None:
    for item, _ in items:
        row = _reference(parameter, item)
        if row is None:
            continue
        found.references.add((parameter.number, *row))
        if parameter.name == "patient" and row[0] == "Patient":
            found.patient = row[1]
        identifier = item.get("identifier") if isinstance(item, dict) else None
        if isinstance(identifier, dict):
            found.tokens.update((parameter.number, cut(s), cut(c)) for s, c in _codes(identifier, None) if c is not None)


def _reference(parameter: SearchParameter, item: Any) -> tuple[str | None, str | None, str | None] | None:
    """(type, id, URL); None where it leads to no target of the parameter."""
    stated = item if isinstance(item, str) else item.get("reference") if isinstance(item, dict) else None
    type_ = _text(item.get("type")) if isinstance(item, dict) else None
    row: tuple[str | None, str | None, str | None] = (None, None, None)
    if isinstance(item, str):  # a canonical, without its version
        row = (None, None, cut(item.partition("|")[0]))
    elif isinstance(stated, str) and not stated.startswith("#"):
        match = _REFERENCE.fullmatch(stated)
        type_ = match[2] if match else type_
        row = (match[2], match[3], None) if match and not match[1] else (None, None, cut(stated))
    elif not isinstance(item, dict):
        return None
    wanted = parameter.targets
    return None if type_ and wanted not in ((), ("*",)) and type_ not in wanted else row


def _strings(found: Values, parameter: SearchParameter, items: Items) -> None:
    for item, _ in items:
        for part in _texts(item):
            found.strings.add((parameter.number, folded(part)[:MAX_KEY], part))


def _texts(item: Any) -> Iterator[str]:
    if isinstance(item, str):
        yield item
    elif isinstance(item, dict):  # HumanName, Address
        for name in dict.fromkeys((*_NAME, *_ADDRESS)):
            parts = item.get(name)
            for part in parts if isinstance(parts, list) else [parts]:
                if isinstance(part, str):
                    yield part


def _quantities(found: Values, parameter: SearchParameter, items: Items) -> None:
    for item, _ in items:
        if not isinstance(item, dict):
            continue
        ends = (item.get("low"), item.get("high")) if "low" in item or "high" in item else (item, item)
        low, high = (_number(end) for end in ends)
        if low is None and high is None:
            continue
        comparator = item.get("comparator")
        low = Decimal("-Infinity") if low is None or comparator in ("<", "<=") else low
        high = Decimal("Infinity") if high is None or comparator in (">", ">=") else high
        stated = next(end for end in ends if isinstance(end, dict))
        code = _text(stated.get("code")) or _text(stated.get("currency"))
        unit, system = _text(stated.get("unit")), _text(stated.get("system"))
        found.quantities.add((parameter.number, low, high, cut(system), cut(code), cut(unit)))


_READ = {
    ParameterType.TOKEN: _tokens,
    ParameterType.URI: _uris,
    ParameterType.DATE: _dates,
    ParameterType.REFERENCE: _references,
    ParameterType.STRING: _strings,
    ParameterType.QUANTITY: _quantities,
}


def _number(item: Any) -> Decimal | None:
    value = item.get("value") if isinstance(item, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    number = Decimal(str(value))
    return number if number.is_finite() else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


# --- dates ------------------------------------------------------------------------------------------------------------


def stored_range(item: Any) -> tuple[Moment, Moment] | None:
    """The half-open range of a date, dateTime, instant, Period or Timing; None for what is none of these, or says nothing.

    Of a Timing its outer limits alone (search.html#date).
    """
    if isinstance(item, str):
        try:
            return date_range(item)
        except InvalidInput:
            return None
    if not isinstance(item, dict):
        return None
    if "start" in item or "end" in item:
        start, end = stored_range(item.get("start")), stored_range(item.get("end"))
        return (start[0] if start else None, end[1] if end else None) if start or end else None
    repeat = item.get("repeat")
    bounds = stored_range(repeat.get("boundsPeriod")) if isinstance(repeat, dict) else None
    events = item.get("event")
    found = [stored_range(event) for event in (events if isinstance(events, list) else ())]
    ranges = [one for one in (bounds, *found) if one is not None]
    return _outer(ranges) if ranges else None


def _outer(ranges: list[tuple[Moment, Moment]]) -> tuple[Moment, Moment]:
    starts, ends = zip(*ranges, strict=True)
    known = [start for start in starts if start is not None]
    closed = [end for end in ends if end is not None]
    return min(known) if len(known) == len(starts) else None, max(closed) if len(closed) == len(ends) else None


def date_range(written: str) -> tuple[datetime, Moment]:
    """The half-open range that a date of any precision covers: 2024-05 from its first instant to before June's.

    Raises: InvalidInput for what is no date.
    """
    match = _DATE.fullmatch(written)
    if match is None:
        raise InvalidInput("is not a date (YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss+09:00)")
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    try:
        start = datetime(
            int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0),
            min(int(second or 0), 59), int((fraction or "")[:6].ljust(6, "0")), _zone(zone),
        )  # fmt: skip
    except ValueError:
        raise InvalidInput("is not a date of the calendar") from None
    try:
        if month is None:
            return start, start.replace(year=start.year + 1)
        if day is None:
            return start, (start + timedelta(days=31)).replace(day=1)
        if hour is None:
            return start, start + timedelta(days=1)
        step = timedelta(minutes=1) if second is None else timedelta(seconds=1)
        if fraction is not None:
            step = timedelta(microseconds=10 ** (6 - min(len(fraction), 6)))
        return start, start + step
    except (ValueError, OverflowError):  # the end of the year 9999
        return start, None


def _zone(written: str | None) -> timezone:
    if written is None:
        return JAPAN
    if written == "Z":
        return UTC
    hours, minutes = int(written[1:3]), int(written[4:6])
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(-offset if written[0] == "-" else offset)


# --- texts ------------------------------------------------------------------------------------------------------------


def folded(text: str) -> str:
    """By what strings are compared: `schemas.spelling.fold`, without accents, katakana as hiragana."""
    plain = unicodedata.normalize("NFC", _ACCENT.sub("", unicodedata.normalize("NFD", fold(text))))
    return plain.translate(_HIRAGANA)


def parted(text: str, separator: str) -> list[str]:
    r"""Cut at each separator that is not escaped (\, \| \$ \\)."""
    parts, start, at = [], 0, 0
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] == separator:
            parts.append(text[start:at])
            start = at + 1
        at += 1
    return [*parts, text[start:]]


def plain(text: str) -> str:
    """Without escapes."""
    return re.sub(r"\\([,|$\\])", r"\1", text)


def cut(text: str | None) -> str | None:
    """The text, or what stands for a long one in an index: its beginning and its hash."""
    if text is None or len(text) <= MAX_KEY:
        return text
    return f"{text[: MAX_KEY - 33]}#{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def literal(written: str) -> tuple[str | None, str, str] | None:
    """(base, type, id) of `Type/id` or `http://…/Type/id`; None for any other reference."""
    match = _REFERENCE.fullmatch(written)
    return (match[1], match[2], match[3]) if match else None
