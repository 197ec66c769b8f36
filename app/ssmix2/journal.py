"""The transaction storage: everything that was written or taken back, in the order in which it happened.

`<root>-transaction/<year>/TR_YYYYMMDDHHMMSSFFF_nnnnn.DAT`, a new file on a change of day or beyond `MAX_BYTES`. A record is
a line `#SSMIX,2.00,<facility>,<patient>,<date|->,<kind>,<order no>,<INS|DEL>,<department|->,<17-digit time>`, ended by CR,
and the message. Source: SS-MIX2 標準化ストレージ 構成の説明と構築ガイドライン 1.2 through NHO SSMIX2_support_documents
`transaction_strage.md`; the line as in jami-fhir-jp-wg/ssmix2-to-fhir `040_usecases.md`.

Records are whole and are there once, also after a kill -9 at any moment. Before a record is appended, a note of where, how
long and of which entry goes to the disk; who appends next finishes from it: a record that is whole counts, a torn one is
cut off (its entry is still to be recorded), and nothing else ever changes what was appended.
"""

import json
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from app.ssmix2.disk import locked, make_folder, sync

MAX_BYTES = 10_000_000
READY, LOGGED = ".ready", ".logged"
"""Endings of an entry that waits in the working folder: complete, and complete and in the journal."""

_FILE = re.compile(r"TR_(?P<time>[0-9]{17})_(?P<number>[0-9]{5})\.DAT")
_HEADER = re.compile(rb"(?:^|\r|\n)(#SSMIX,2\.00(?:,[^,\r\n]*){8})(?=\r)")
_NOTE_BYTES = 1024


@dataclass(frozen=True)
class Header:
    """The first line of a record. `kind`: the folder of the data kind; `processing`: INS or DEL; `time`: 17 digits, Japan."""

    facility: str
    patient: str
    date: str
    kind: str
    order_no: str
    processing: str
    department: str
    time: str

    def line(self) -> str:
        return ",".join(("#SSMIX", "2.00", *asdict(self).values()))


@dataclass(frozen=True)
class _Intent:
    """What is about to be appended: to `file` from `offset` on, `length` bytes of `crc`, for the entry `ready`."""

    file: str
    offset: int
    length: int
    crc: int
    ready: str

    def is_whole(self, folder: Path) -> bool:
        try:
            with (folder / self.file).open("rb") as file:
                file.seek(self.offset)
                found = file.read(self.length)
        except FileNotFoundError:
            return False
        return len(found) == self.length and zlib.crc32(found) == self.crc


class Journal:
    """The transaction files below `folder`; `work` is where the note of the newest record lies."""

    def __init__(self, folder: Path, work: Path, max_bytes: int = MAX_BYTES) -> None:
        self.folder, self.work, self.max_bytes = folder, work, max_bytes

    def append(self, header: Header, content: bytes, ready: Path) -> Path:
        """Records the entry that lies at `ready` (a path below `work` that ends in `.ready`), unless that was done
        before; on the disk when this returns. Returns its path, which ends in `.logged` now."""
        logged = ready.with_name(ready.name.removesuffix(READY) + LOGGED)
        with locked(self.work / "journal.lock"):
            newest = self._settle()
            if not ready.exists():
                return logged
            record = header.line().encode("utf-8") + b"\r" + content
            file, offset = self._place(newest, header.time, len(record))
            intent = _Intent(
                str(file.relative_to(self.folder)),
                offset,
                len(record),
                zlib.crc32(record),
                str(ready.relative_to(self.work)),
            )
            self._note(intent)
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
            with os.fdopen(handle, "wb") as out:
                out.seek(offset)
                out.write(record)
                out.flush()
                os.fsync(out.fileno())
            if offset == 0:
                sync(file.parent)
            ready.rename(logged)
        return logged

    def settle(self) -> None:
        """Finishes what a killed process left of the newest record; idempotent."""
        if self.work.is_dir():
            with locked(self.work / "journal.lock"):
                self._settle()

    def headers(self) -> Iterator[Header]:
        """The first lines of all records, oldest file first."""
        for path in sorted(self.folder.glob("[0-9][0-9][0-9][0-9]/TR_*.DAT"), key=lambda path: path.name):
            for found in _HEADER.finditer(path.read_bytes()):
                yield Header(*found[1].decode("utf-8").split(",")[2:])

    def _settle(self) -> _Intent | None:
        """The newest record, whole; None where there is none."""
        newest = self._read_note()
        if newest is None:
            return None
        ready = self.work / newest.ready
        if newest.is_whole(self.folder):
            if ready.exists():
                ready.rename(ready.with_name(ready.name.removesuffix(READY) + LOGGED))
            return newest
        file = self.folder / newest.file
        if file.exists() and file.stat().st_size > newest.offset:
            os.truncate(file, newest.offset)
            sync(file)
        return None

    def _place(self, newest: _Intent | None, time: str, length: int) -> tuple[Path, int]:
        """The file for a record of `time`, and where its end is."""
        if newest is not None and newest.file[8:16] == time[:8]:  # <year>/TR_<day>…
            end = newest.offset + newest.length
            if end + length <= self.max_bytes and (self.folder / newest.file).stat().st_size == end:
                return self.folder / newest.file, end
        year = self.folder / time[:4]
        make_folder(self.folder.parent, year)
        of_day = sorted(
            (m["number"], name)
            for name in os.listdir(year)
            if (m := _FILE.fullmatch(name)) and m["time"][:8] == time[:8]
        )
        if of_day:
            end = (year / of_day[-1][1]).stat().st_size
            if end == 0 or end + length <= self.max_bytes:
                return year / of_day[-1][1], end
        number = int(of_day[-1][0]) + 1 if of_day else 1
        return year / f"TR_{time}_{number:05}.DAT", 0

    def _note(self, intent: _Intent) -> None:
        text = json.dumps(asdict(intent)).encode()
        data = b"%08x %s" % (zlib.crc32(text), text)
        handle = os.open(self.work / "journal.note", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            os.pwrite(handle, data.ljust(_NOTE_BYTES), 0)
            os.fdatasync(handle)
        finally:
            os.close(handle)

    def _read_note(self) -> _Intent | None:
        """None also for a torn note: nothing of its record was appended yet."""
        try:
            crc, _, text = (self.work / "journal.note").read_bytes().rstrip().partition(b" ")
        except FileNotFoundError:
            return None
        if crc != b"%08x" % zlib.crc32(text):
            return None
        return _Intent(**json.loads(text))
