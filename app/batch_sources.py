"""The inputs of batches: NDJSON, CSV, ZIP of text files, an SS-MIX2 storage; read piece by piece, from any place on.

An entry that cannot be read is told with its reason and does not end the others. Every entry says where the reading of
the next one begins, so that a reading that was cut off goes on there; the same input gives the same entries.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from app import batch_archives
from app.batch_archives import Told
from app.batch_csv import Table, note_keys, with_defaults
from app.errors import HyojunError, InvalidInput, TooLong
from app.intake import MAX_BYTES, note_from, parse_json
from schemas.batch import BatchFormat
from schemas.note import ChartNote

_REQUIRED = ("id", "document_type", "department", "date", "patient.id", "patient.family", "patient.given", "text")


@dataclass(frozen=True)
class Entry:
    """One entry of an input: a note, or why there is none (`error`, free of patient text). `place`: where it stands, safe to
    show. `position`, `line`: where the next one begins."""

    place: str
    note: ChartNote | None
    error: str | None
    position: int
    line: int


class Input:
    """An opened input: entries in their order. `total`: how many, where that is known without reading it."""

    def __init__(
        self, entries: Iterator[Entry], total: int | None = None, close: Callable[[], None] = lambda: None
    ) -> None:
        self._entries, self.total, self.close = entries, total, close

    def __iter__(self) -> Iterator[Entry]:
        return self._entries


def check_input(format_: BatchFormat, file: IO[bytes], defaults: Mapping[str, Any], max_bytes: int) -> None:
    """What can be said of an input without reading it to the end. Raises: InvalidInput, TooLong."""
    if format_ is BatchFormat.CSV:
        _table(file, defaults)
    elif format_ in (BatchFormat.ZIP, BatchFormat.SSMIX2):
        batch_archives.opened(file, max_bytes).close()


def open_input(
    format_: BatchFormat,
    file: IO[bytes],
    *,
    defaults: Mapping[str, Any],
    work: Path,
    max_bytes: int,
    position: int = 0,
    line: int = 0,
) -> Input:
    """`file` can be sought. `defaults`: keys of a note, dotted, for entries that do not state them. `work`: where a storage is
    unpacked, until the input is closed; `max_bytes`: unpacked size of an archive.

    Raises: InvalidInput, TooLong, also while it is read; OSError.
    """
    if format_ is BatchFormat.CSV:
        return Input(_rows(_table(file, defaults), defaults, position, line))
    if format_ in (BatchFormat.NDJSON, BatchFormat.PREPARED):
        prepared = format_ is BatchFormat.PREPARED
        return Input(_prepared(file, position, line) if prepared else _lines(file, defaults, position, line))
    archive = batch_archives.opened(file, max_bytes)
    if format_ is BatchFormat.ZIP:
        members = batch_archives.members_of(archive)
        return Input(_numbered(batch_archives.texts(lambda: members, defaults), position), len(members), archive.close)
    batch_archives.unpack(archive, work)
    roots = batch_archives.storage_roots(work)
    return Input(_numbered(batch_archives.documents(*roots), position), None, lambda: shutil.rmtree(work, True))


def _lines(file: IO[bytes], defaults: Mapping[str, Any], position: int, line: int) -> Iterator[Entry]:
    file.seek(position)
    while raw := file.readline(MAX_BYTES + 1):
        line, position, rest = line + 1, position + len(raw), raw
        while len(rest) > MAX_BYTES and not rest.endswith(b"\n"):  # the rest of a line that is too long is not kept
            rest = file.readline(MAX_BYTES + 1)
            position += len(rest)
        if not raw.strip():
            continue
        note, error = None, None
        try:
            if len(raw) > MAX_BYTES:
                raise TooLong(f"is longer than {MAX_BYTES:,} bytes")
            note = note_from(with_defaults(parse_json(raw), defaults))
        except HyojunError as fault:
            error = str(fault)
        yield Entry(f"line {line}", note, error, position, line)


def _prepared(file: IO[bytes], position: int, line: int) -> Iterator[Entry]:
    file.seek(position)
    while raw := file.readline():
        line, position = line + 1, position + len(raw)
        value = json.loads(raw)
        note, error = None, value.get("error")
        try:
            note = note_from(value["note"]) if error is None else None
        except HyojunError as fault:
            error = str(fault)
        yield Entry(value["place"], note, error, position, line)


def _table(file: IO[bytes], defaults: Mapping[str, Any]) -> Table:
    table = Table(file)
    known = {*table.columns, *defaults}
    if missing := [name for name in _REQUIRED if name not in known]:
        raise InvalidInput(f"the header of the CSV lacks the columns {', '.join(missing)}")
    return table


def _rows(table: Table, defaults: Mapping[str, Any], position: int, line: int) -> Iterator[Entry]:
    for row in table.rows(position, line):
        note, error = None, row.error
        try:
            note = note_from(with_defaults(note_keys(row.cells), defaults)) if row.cells is not None else None
        except HyojunError as fault:
            error = str(fault)
        yield Entry(f"line {row.first}", note, error, row.end, row.last)


def _numbered(found: Iterable[Told], position: int) -> Iterator[Entry]:
    """Without those up to `position`."""
    for number, (place, note, error) in enumerate(found, 1):
        if number > position and (note is not None or error is not None):
            yield Entry(place, note, error, number, number)
