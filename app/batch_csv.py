"""CSV as hospitals write it (RFC 4180; UTF-8 or cp932): rows by the names of their columns, from any byte on."""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

from app.errors import HyojunError, InvalidInput, TooLong
from app.intake import MAX_BYTES


@dataclass(frozen=True)
class Row:
    """`cells` that are not empty, by their column; None: `error` says why. `first`, `last`: its lines, from 1; `end`: the byte
    after it."""

    cells: dict[str, str] | None
    error: str | None
    first: int
    last: int
    end: int


class Table:
    """An opened CSV file with a header. The encoding is told by the record: in neither of the two a byte of a Japanese
    character is a quote, a comma or a line end."""

    def __init__(self, file: IO[bytes]) -> None:
        """Raises: InvalidInput for a header that cannot be read."""
        self._file = file
        file.seek(0)
        raw, self._start, self._lines = self._record()
        try:
            self.columns = [name.strip() for name in _cells(raw)]
        except HyojunError as error:
            raise InvalidInput(f"the header of the CSV {error}") from None
        if len(set(self.columns)) < len(self.columns):
            raise InvalidInput("the header of the CSV names a column twice")

    def rows(self, position: int = 0, line: int = 0) -> Iterator[Row]:
        """Those from the byte `position` on, before which `line` lines are; from 0: those below the header."""
        end, last = (position, line) if position else (self._start, self._lines)
        self._file.seek(end)
        while True:
            raw, size, lines = self._record()
            if not size:
                return
            first, last, end = last + 1, last + lines, end + size
            if not raw.strip():
                continue
            try:
                cells = _cells(raw)
                if len(cells) != len(self.columns):
                    raise InvalidInput(f"has {len(cells)} cells, the header {len(self.columns)}")
            except HyojunError as error:
                yield Row(None, str(error), first, last, end)
                continue
            stated = {name: cell for name, cell in zip(self.columns, cells, strict=True) if cell}
            yield Row(stated, None, first, last, end)

    def _record(self) -> tuple[bytes, int, int]:
        """The next record, the bytes that it takes in the file, and its lines. Of a line that is too long the beginning; of
        a quote that is not closed within `MAX_BYTES` its own line, so that it does not swallow the file."""
        begin = self._file.tell()
        first = self._file.readline(MAX_BYTES + 1)
        if len(first) > MAX_BYTES:
            size, rest = len(first), first
            while rest and not rest.endswith(b"\n"):
                rest = self._file.readline(MAX_BYTES + 1)
                size += len(rest)
            return first, size, 1
        parts, size, quotes = [first], len(first), first.count(b'"')
        while quotes % 2:
            more = self._file.readline(MAX_BYTES + 1)
            size += len(more)
            if not more or size > MAX_BYTES:
                self._file.seek(begin + len(first))
                return first, len(first), 1
            parts.append(more)
            quotes += more.count(b'"')
        return b"".join(parts), size, len(parts)


def _cells(raw: bytes) -> list[str]:
    if len(raw) > MAX_BYTES:
        raise TooLong(f"is longer than {MAX_BYTES:,} bytes")
    for encoding in ("utf-8-sig", "cp932"):
        try:
            text = raw.decode(encoding)
            break
        except UnicodeDecodeError:
            continue
    else:
        raise InvalidInput("is neither UTF-8 nor cp932")
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error:
        raise InvalidInput("is not CSV: a quote is not closed or not doubled, or a cell is too long") from None
    if len(rows) > 1:
        raise InvalidInput("holds a carriage return outside of quotes; lines end with LF or CRLF")
    return rows[0] if rows else []


# --- from cells to the JSON object of a note ---------------------------------------------------------------------------


def note_keys(cells: Mapping[str, str]) -> dict[str, Any]:
    """`patient.id` becomes the key `id` inside `patient`. Raises: InvalidInput."""
    made: dict[str, Any] = {}
    for name, cell in cells.items():
        *path, last = name.split(".")
        part = made
        for step in path:
            inner = part.setdefault(step, {})
            if not isinstance(inner, dict):
                raise InvalidInput(f"the columns {step} and {step}.… exclude each other")
            part = inner
        part[last] = cell
    return made


def with_defaults(value: Any, defaults: Mapping[str, Any]) -> Any:
    """The JSON object `value` with what it leaves out of `defaults`, whose keys are dotted."""
    if not isinstance(value, dict):
        return value
    made = dict(value)
    for name, default in defaults.items():
        outer, _, inner = name.rpartition(".")
        part = made
        if outer:
            part = made.setdefault(outer, {})
            if not isinstance(part, dict):
                continue
            part = made[outer] = dict(part)
        if part.get(inner) is None:
            part[inner] = default
    return made
