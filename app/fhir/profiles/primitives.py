"""Primitive values of FHIR JSON: type, pattern, calendar, range.

Source: http://hl7.org/fhir/R4/datatypes.html (patterns and ranges) and http://hl7.org/fhir/R4/json.html.
"""

import base64
import binascii
import re
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

_MONTH = r"(0[1-9]|1[0-2])"
_DAY = r"(0[1-9]|[12]\d|3[01])"
_YEAR = r"(\d(\d(\d[1-9]|[1-9]0)|[1-9]00)|[1-9]000)"
_TIME = r"([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?"
_ZONE = r"(Z|(\+|-)((0\d|1[0-3]):[0-5]\d|14:00))"

# Control characters other than tab, line feed and carriage return (datatypes.html#string).
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_MAX_STRING_BYTES = 1024 * 1024
_INT32 = 2**31

_PATTERNS = {
    "code": r"\S+(\s\S+)*",
    "id": r"[A-Za-z0-9\-.]{1,64}",
    "uri": r"\S+",
    "url": r"\S+",
    "canonical": r"\S+",
    "oid": r"urn:oid:[0-2](\.(0|[1-9]\d*))+",
    "uuid": r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    "date": f"{_YEAR}(-{_MONTH}(-{_DAY})?)?",
    "dateTime": f"{_YEAR}(-{_MONTH}(-{_DAY}(T{_TIME}{_ZONE})?)?)?",
    "instant": f"{_YEAR}-{_MONTH}-{_DAY}T{_TIME}{_ZONE}",
    "time": _TIME,
}
_URNS = {"urn:uuid:": "uuid", "urn:oid:": "oid"}
"""datatypes.html#uri: a UUID or OID in a uri has the form of those types."""
_COMPILED = {name: re.compile(pattern, re.ASCII) for name, pattern in _PATTERNS.items()}
_WHOLE_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)")
_LOWEST = {"integer": -_INT32, "unsignedInt": 0, "positiveInt": 1}


def fault(code: str, value: Any) -> str | None:
    """What is wrong with a primitive of type `code`, without the value; None when nothing is."""
    if code == "boolean":
        return None if isinstance(value, bool) else "not a boolean"
    if code in _LOWEST:
        if isinstance(value, bool) or not isinstance(value, int):
            return f"not an {code}" if code[0] in "iu" else f"not a {code}"
        return None if _LOWEST[code] <= value < _INT32 else f"outside the range of {code}"
    if code == "decimal":
        # A float would pass here; that its digits are lost is said elsewhere.
        number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
        return None if number else "not a decimal"
    if not isinstance(value, str):
        return f"not a string (type {code})"
    return _text_fault(code, value)


def _text_fault(code: str, value: str) -> str | None:
    if not value.strip():
        return "blank"
    if _CONTROL.search(value):
        return "has a control character"
    if len(value) > _MAX_STRING_BYTES // 4 and len(value.encode()) > _MAX_STRING_BYTES and code != "base64Binary":
        return "longer than 1 MB"
    if code == "base64Binary":
        try:
            base64.b64decode("".join(value.split()), validate=True)
        except (binascii.Error, ValueError):
            return "not base64"
        return None
    if code in ("uri", "url", "canonical"):
        code = next((name for prefix, name in _URNS.items() if value.startswith(prefix)), code)
    pattern = _COMPILED.get(code)
    if pattern is not None and not pattern.fullmatch(value):
        return f"not a valid {code}"
    if code in ("date", "dateTime", "instant") and (whole := _WHOLE_DATE.match(value)):
        try:
            date(int(whole[1]), int(whole[2]), int(whole[3]))
        except ValueError:
            return "no such day"
    return None


_ORDERED: dict[str, Callable[[Any], Any]] = {
    "integer": int, "unsignedInt": int, "positiveInt": int, "decimal": lambda v: Decimal(str(v)), "date": str, "time": str,
}  # fmt: skip


def out_of_range(code: str, value: Any, lowest: Any, highest: Any) -> bool:
    """Is the value below `lowest` or above `highest`? Only for types whose order is plain."""
    convert = _ORDERED.get(code)
    if convert is None or isinstance(value, bool):
        return False
    try:
        here = convert(value)
        below = lowest is not None and here < convert(lowest)
        above = highest is not None and here > convert(highest)
    except (ValueError, TypeError, ArithmeticError):
        return False  # malformed: reported as such
    return below or above
