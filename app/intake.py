"""Notes from outside: bytes in, `ChartNote` out, or a reason that names the field and never quotes it.

Used by the API and by the files of `hyojun convert`, so that both refuse the same things with the same words.
"""

import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from app.errors import HyojunError, InvalidInput, TooLong
from schemas.note import MAX_TEXT, AdmitSource, ChartNote, DischargeDisposition, DocumentType, EncounterClass, Sex

MAX_BYTES = 2_000_000
"""Longest request body, file line or text file: a note of `MAX_TEXT` characters fits, each escaped as \\uXXXX."""

_NOTE_FIELDS = ("id", "document_type", "department", "date", "patient", "text", "encounter", "physician", "recipient")
_INNER: dict[str, tuple[str, ...]] = {
    "patient": ("id", "family", "given", "sex", "birth_date", "address", "insurance_id"),
    "encounter": ("id", "encounter_class", "start", "end", "discharge_disposition", "admit_source", "reason"),
    "physician": ("id", "family", "given"),
    "recipient": ("name", "number", "department", "address", "phone", "physician"),
}
_DATES = ("date", "patient.birth_date", "encounter.start", "encounter.end")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_REASONS = {
    "missing": "is missing",
    "string_type": "must be a string",
    "string_too_short": "is empty",
    "model_type": "must be a JSON object",
}
_CHOICES: dict[str, type[StrEnum]] = {
    "document_type": DocumentType,
    "patient.sex": Sex,
    "encounter.encounter_class": EncounterClass,
    "encounter.discharge_disposition": DischargeDisposition,
    "encounter.admit_source": AdmitSource,
}


@dataclass(frozen=True)
class Line:
    """One note of a file, or why it was refused. `number` counts lines from 1."""

    number: int
    note: ChartNote | None
    error: HyojunError | None


def parse_json(raw: bytes) -> Any:
    """Raises: InvalidInput, with the position of the fault, for what is not UTF-8 or not JSON."""
    try:
        return json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InvalidInput(f"is not UTF-8: byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise InvalidInput(f"is not JSON: {error.msg} at character {error.pos}") from None
    except (ValueError, RecursionError):  # a number of thousands of digits; brackets nested by the thousand
        raise InvalidInput("is not JSON that can be read: a number is too long, or the nesting too deep") from None


def note_from(value: Any) -> ChartNote:
    """A note from its JSON object; keys that a note does not have are ignored.

    Raises: InvalidInput, TooLong; the message holds every fault, each with its field.
    """
    fields = _known(value, _NOTE_FIELDS, "the note")
    for name, inner in _INNER.items():
        if isinstance(fields.get(name), dict):
            fields[name] = _known(fields[name], inner, name)
    recipient = fields.get("recipient")
    if isinstance(recipient, dict) and isinstance(recipient.get("physician"), dict):
        recipient["physician"] = _known(recipient["physician"], _INNER["physician"], "recipient.physician")
    text = fields.get("text")
    if isinstance(text, str):
        _check_text(text)
    faults = _faults(fields)
    try:
        note = ChartNote.model_validate(fields)
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_context=False, include_input=False):
            path = ".".join(str(part) for part in detail["loc"])
            faults.setdefault(path, _reason(path, detail["type"], detail["msg"]))
        note = None
    if note is None or faults:
        raise InvalidInput("; ".join(f"{path}: {reason}" for path, reason in faults.items()))
    return note


def read_notes(path: Path) -> Iterator[Line]:
    """The notes of a JSON Lines file, one a line, blank lines skipped; of a `.json` file, the one note that it is.

    A faulty line does not end the reading. An id that an earlier line had is refused.
    Raises: OSError.
    """
    first_line: dict[str, int] = {}
    with path.open("rb") as file:
        for number, raw in _whole(file) if path.suffix == ".json" else _lines(file):
            try:
                if len(raw) > MAX_BYTES:
                    raise TooLong(f"is longer than {MAX_BYTES:,} bytes")
                note = note_from(parse_json(raw))
                if note.id in first_line:
                    raise InvalidInput(f"id: line {first_line[note.id]} has the same one")
                first_line[note.id] = number
                yield Line(number, note, None)
            except HyojunError as error:
                yield Line(number, None, error)


def count_notes(path: Path) -> int | None:
    """How many lines `read_notes` will yield at most; None for a pipe, which can be read only once."""
    if not path.is_file():
        return None
    if path.suffix == ".json":
        return 1
    with path.open("rb") as file:
        return sum(1 for _ in _lines(file))


def read_note_text(path: Path, fields: dict[str, Any]) -> Line:
    """The one note that a plain text file is; `fields` are its other keys. Raises: OSError."""
    try:
        return Line(1, note_from(fields | {"text": read_text(path)}), None)
    except HyojunError as error:
        return Line(1, None, error)


def read_text(path: Path) -> str:
    """A plain text file: UTF-8, UTF-16 with a byte order mark, ISO-2022-JP or cp932, told apart by the bytes.

    Raises: InvalidInput for binary data and for other encodings; TooLong; OSError.
    """
    with path.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise TooLong(f"the file is longer than {MAX_BYTES:,} bytes")
    text = decode_text(raw)
    _check_text(text)
    return text


def decode_text(raw: bytes) -> str:
    """Line ends stay as they are; a byte order mark is no part of the text. Raises: InvalidInput."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ["utf-16"]
    elif b"\x1b$" in raw:  # ISO-2022-JP: ESC $ B or ESC $ @ begins two-byte characters (RFC 1468)
        encodings = ["iso2022_jp_ext"]
    else:
        # UTF-8 first: text in cp932 with any Japanese in it is practically never valid UTF-8.
        encodings = ["utf-8-sig", "cp932"]
    for encoding in encodings:
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        # Text has no control characters but these; a file that has is a picture, an archive or another encoding.
        if all(character >= " " or character in "\t\n\v\f\r" for character in text):
            return text
        break
    raise InvalidInput("the file is binary, or its encoding is none of UTF-8, UTF-16 with BOM, ISO-2022-JP and cp932")


def _whole(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    yield 1, file.read(MAX_BYTES + 1)


def _lines(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    number = 0
    while raw := file.readline(MAX_BYTES + 1):
        number += 1
        rest = raw
        while len(rest) > MAX_BYTES and not rest.endswith(b"\n"):  # the rest of a line that is too long is not kept
            rest = file.readline(MAX_BYTES + 1)
        if raw.strip():
            yield number, raw


def _known(value: Any, names: tuple[str, ...], what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput(f"{what} must be a JSON object")
    return {name: value[name] for name in names if name in value}


def _check_text(text: str) -> None:
    if len(text) > MAX_TEXT:
        raise TooLong(f"text: has {len(text):,} characters; at most {MAX_TEXT:,} are accepted")
    if not text.strip():
        raise InvalidInput("text: is empty")
    for position, character in enumerate(text):
        if character == "\x00":
            raise InvalidInput(f"text: holds U+0000 (NUL) at character {position}")
        if "\ud800" <= character <= "\udfff":
            raise InvalidInput(f"text: is not valid Unicode: half of a surrogate pair at character {position}")


def _faults(fields: dict[str, Any]) -> dict[str, str]:
    """What the contract's types let through: dates in other forms (a number would be read as seconds since 1970), and
    characters in short fields that would break a line, a file name or a database text."""
    faults: dict[str, str] = {}
    for path, value in _flat(fields):
        if path in _DATES:
            if value is None and path != "date":
                continue
            if not isinstance(value, str) or not _DATE.fullmatch(value):
                faults[path] = "must be a date YYYY-MM-DD"
        elif isinstance(value, str):
            if any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
                faults[path] = "holds a control character, or half of a surrogate pair"
            elif value and not value.strip():
                faults[path] = "is empty"
    return faults


def _flat(fields: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        elif above + name != "text":
            yield above + name, value


_PATTERNS = {
    "patient.id": "must be 1 to 15 ASCII letters and digits",
    "patient.insurance_id": "must be insurer (8 digits):symbol:number:branch (2 digits or nothing), without spaces",
    "recipient.number": "must be 10 digits: prefecture 2, fee table 1, institution 7",
    "recipient.phone": "must be 1 to 30 digits, spaces and + ( ) -",
    "id": "must be 1 to 64 ASCII letters, digits, dots and hyphens, and begin with a letter or digit",
}


def _reason(path: str, kind: str, message: str) -> str:
    if kind == "enum":
        return "must be one of " + ", ".join(_CHOICES[path])
    if kind.startswith("date"):
        return "is not a day of the calendar"
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(path, "must be 1 to 64 ASCII letters, digits, dots, hyphens and underscores")
    return _REASONS.get(kind, message.removeprefix("Value error, "))
