"""Opaque places in a list: what a link to the next page carries. They are checked, not secret, and hold no patient text."""

import base64
import binascii
import json
from typing import Any

from app.errors import InvalidInput

_STALE = "_cursor: is not one that this server gave for this request"


def written(kind: str, values: list[Any]) -> str:
    """`kind`: what the cursor is for; the same is needed to read it."""
    text = json.dumps([kind, *values], separators=(",", ":"), ensure_ascii=True)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read(cursor: str, kind: str, types: tuple[type | tuple[type, ...], ...]) -> list[Any]:
    """The values, of these types. Raises: InvalidInput for anything that `written` did not give for the same kind."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        values = json.loads(base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        raise InvalidInput(_STALE) from None
    if not isinstance(values, list) or values[:1] != [kind] or len(values) != len(types) + 1:
        raise InvalidInput(_STALE)
    if any(isinstance(value, bool) or not isinstance(value, type_) for value, type_ in zip(values[1:], types, strict=True)):
        raise InvalidInput(_STALE)
    if any(isinstance(value, str) and ("\0" in value or not _plain(value)) for value in values):
        raise InvalidInput(_STALE)
    return values[1:]


def _plain(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
