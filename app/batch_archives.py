"""Notes in archives and folders: text files with a manifest beside them, or an SS-MIX2 storage.

An archive is refused as a whole where it would fill memory or disk, or leads out of its folder; an entry that cannot be read
does not end the others.
"""

import errno
import io
import json
import lzma
import os
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from app.batch_csv import Table, note_keys, with_defaults
from app.errors import HyojunError, InvalidInput, TooLong
from app.intake import MAX_BYTES, decode_text, note_from, parse_json
from app.log import describe
from app.ssmix2.reading import MAX_FILE_BYTES, Unreadable, read_documents
from app.ssmix2.storage import extended_root
from app.ssmix2_import import chart_note
from app.terminology.entries import Part, starter_entries
from schemas.note import ChartNote

MAX_ENTRIES = 100_000
"""Entries of one archive. Its table of contents lies in memory as a whole; NDJSON has no such limit."""
MAX_DIRECTORY_BYTES = 20_000_000
"""Of an archive's table of contents, and of a manifest."""
MANIFEST = "notes.csv"
"""In a folder or archive of text files: the other keys of each, by its column `file`."""

# What reading a packed entry raises: RuntimeError for encryption, OSError without a number for bzip2.
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, EOFError, RuntimeError, ValueError, OSError,
)  # fmt: skip

Told = tuple[str, ChartNote | None, str | None]
"""Where an entry stands, its note, or why there is none. Neither: the entry is no note and need not be one."""


# --- archives -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Member:
    name: str
    read: Callable[[int], bytes]
    """The first so many bytes."""
    fault: str | None = None


def opened(file: IO[bytes], max_bytes: int) -> zipfile.ZipFile:
    """Refused as a whole: what is no ZIP, what would fill memory or disk, and names that lead out of a folder."""
    if (directory := _directory_bytes(file)) > MAX_DIRECTORY_BYTES:
        raise TooLong(f"the archive's table of contents has {directory:,} bytes, the most is {MAX_DIRECTORY_BYTES:,}")
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error):
        raise InvalidInput("the input is no ZIP archive, or a damaged one") from None
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        raise TooLong(f"the archive has {len(entries):,} entries, the most is {MAX_ENTRIES:,}; split it, or send NDJSON")
    # What an entry gives is never more than its header says, so the sum of those is a limit.
    if (size := sum(entry.file_size for entry in entries)) > max_bytes:
        raise TooLong(f"the archive unpacks to {size:,} bytes, the most is {max_bytes:,}")
    for number, entry in enumerate(entries, 1):
        parts = PurePosixPath(_name(entry)).parts
        if not parts or ".." in parts or parts[0] == "/" or "\\" in _name(entry) or re.match("[A-Za-z]:", parts[0]):
            raise InvalidInput(f"entry {number} of the archive has a name that leads out of its folder")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise InvalidInput(f"entry {number} of the archive is a link")
    return archive


def _directory_bytes(file: IO[bytes]) -> int:
    """Size of the central directory by its end record (APPNOTE 6.3.10, 4.3.14 to 4.3.16), before anything reads it."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 66_000))
    tail = file.read(66_000)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        raise InvalidInput("the input is no ZIP archive, or a damaged one")
    stated = int(struct.unpack_from("<I", tail, at + 12)[0])
    locator = at - 20
    if stated == 0xFFFFFFFF and locator >= 0 and tail[locator : locator + 4] == b"PK\x06\x07":
        file.seek(struct.unpack_from("<Q", tail, locator + 8)[0])
        record = file.read(56)
        if record[:4] != b"PK\x06\x06" or len(record) < 56:
            raise InvalidInput("the input is no ZIP archive, or a damaged one")
        stated = int(struct.unpack_from("<Q", record, 40)[0])
    file.seek(0)
    return stated


def _name(entry: zipfile.ZipInfo) -> str:
    """Names without the UTF-8 flag are cp437 by the standard, and cp932 by the Windows of Japan."""
    if entry.flag_bits & 0x800:
        return entry.filename
    try:
        return entry.orig_filename.encode("cp437").decode("cp932")
    except UnicodeError:
        return entry.filename


def members_of(archive: zipfile.ZipFile) -> list[Member]:
    def reader(entry: zipfile.ZipInfo) -> Callable[[int], bytes]:
        def read(limit: int) -> bytes:
            try:
                with archive.open(entry) as packed:
                    return packed.read(limit)
            except _DAMAGE as error:
                if isinstance(error, OSError) and error.errno:
                    raise
                raise InvalidInput("the entry is damaged, or packed in a way that is not known") from None

        return read

    found = []
    for entry in archive.infolist():
        name = _name(entry)
        if not entry.is_dir() and not _hidden(name):
            fault = "the entry is encrypted; pack it without a password" if entry.flag_bits & 1 else None
            found.append(Member(name, reader(entry), fault))
    return found


def _hidden(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def texts(members: Callable[[], Iterable[Member]], defaults: Mapping[str, Any]) -> Iterator[Told]:
    """`members` gives them twice: first the manifests are looked for. Raises: InvalidInput for one that cannot be read."""
    manifest = _manifest(members())
    for number, member in enumerate(members(), 1):
        if PurePosixPath(member.name).name == MANIFEST:
            yield f"entry {number}", None, None
            continue
        place = f"entry {number} ({shown(member.name)})"
        try:
            yield place, _note_of(member, manifest, defaults), None
        except HyojunError as error:
            yield place, None, str(error)


def _note_of(member: Member, manifest: Mapping[str, dict[str, str]], defaults: Mapping[str, Any]) -> ChartNote:
    if member.fault is not None:
        raise InvalidInput(member.fault)
    path = PurePosixPath(member.name)
    suffix = path.suffix.lower()
    if suffix not in (".txt", ".json"):
        raise InvalidInput("the file is none of .txt and .json")
    raw = member.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise TooLong(f"the file is longer than {MAX_BYTES:,} bytes")
    stated = note_keys(manifest.get(member.name, {}))
    if suffix == ".json":
        value = parse_json(raw)
        return note_from(with_defaults(value | stated if isinstance(value, dict) else value, defaults))
    if name := re.sub(r"[^0-9A-Za-z.-]+", "-", path.stem).strip("-.")[:64]:
        stated.setdefault("id", name)
    return note_from(with_defaults(stated | {"text": decode_text(raw)}, defaults))


def _manifest(members: Iterable[Member]) -> dict[str, dict[str, str]]:
    """The other keys of the files, by their names in the archive; a manifest speaks of the files beside and below it."""
    found: dict[str, dict[str, str]] = {}
    for member in members:
        path = PurePosixPath(member.name)
        if path.name != MANIFEST:
            continue
        content = member.read(MAX_DIRECTORY_BYTES + 1)
        if len(content) > MAX_DIRECTORY_BYTES:
            raise TooLong(f"{MANIFEST} is longer than {MAX_DIRECTORY_BYTES:,} bytes; send NDJSON or CSV instead")
        for row in Table(io.BytesIO(content)).rows():
            if row.cells is None or "file" not in row.cells:
                raise InvalidInput(f"{MANIFEST}, line {row.first}: {row.error or 'no cell in the column file'}")
            found[str(path.parent / row.cells.pop("file"))] = row.cells
    return found


def shown(name: str) -> str:
    """A file's name that may be shown: what is not ASCII could be a patient's name."""
    return re.sub(r"[^0-9A-Za-z._^/-]", "?", name)[:200]


# --- SS-MIX2 --------------------------------------------------------------------------------------------------------


def unpack(archive: zipfile.ZipFile, work: Path) -> None:
    """Into an empty folder that nobody else reads. Names were looked through when it was opened."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True, mode=0o700)
    for number, entry in enumerate(archive.infolist(), 1):
        path = work / _name(entry)
        try:
            if entry.is_dir():
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as packed, path.open("xb") as file:
                # Longer ones are refused when they are read; nothing of them is needed.
                shutil.copyfileobj(_Limited(packed, MAX_FILE_BYTES + 1), file)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise InvalidInput(f"entry {number} of the archive has the name of another") from None
        except _DAMAGE as error:
            if isinstance(error, OSError) and error.errno not in (None, errno.ENAMETOOLONG):
                raise
            raise InvalidInput(f"entry {number} of the archive is damaged, encrypted, or its name is too long") from None


class _Limited:
    def __init__(self, file: IO[bytes], limit: int) -> None:
        self._file, self._left = file, limit

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(min(size, self._left) if size >= 0 else self._left)
        self._left -= len(data)
        return data


def storage_roots(folder: Path) -> tuple[Path, Path]:
    """The roots of the standardized and the extended storage in `folder`, or in the only folder there.

    Raises: InvalidInput where there is no storage.
    """
    for candidate in (folder, *sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())):
        root = candidate / "ssmix2" if (candidate / "ssmix2").is_dir() else candidate
        beside = extended_root(root)
        if is_storage(root) or is_storage(beside):
            return root, beside if beside.is_dir() else root
    raise InvalidInput("there is no SS-MIX2 storage: no folders <id 1-3>/<id 4-6>/<id> at the top, below ssmix2, or one lower")


def is_storage(root: Path) -> bool:
    """Are the first folders those of patients?"""
    for first in _folders(root):
        for second in _folders(first):
            for patient in _folders(second):
                if (first.name, second.name) == (patient.name[:3], patient.name[3:6]):
                    return True
        return False
    return False


def _folders(above: Path) -> list[Path]:
    if not above.is_dir():
        return []
    return [path for path in sorted(above.iterdir()) if path.is_dir() and not path.name.startswith(".")]


def documents(standardized: Path, extended: Path) -> Iterator[Told]:
    departments = {e.codings[0].code: e.names for e in starter_entries() if e.kind is Part.DEPARTMENT}
    for found in read_documents(extended, standardized):
        if isinstance(found, Unreadable):
            yield found.path, None, found.reason
            continue
        place = f"{found.patient_id}/{found.day:%Y%m%d}/{found.code}/{found.sent_at:%Y%m%d%H%M%S}"
        try:
            yield place, chart_note(found, departments), None
        except HyojunError as error:
            yield place, None, describe(error)


# --- folders, for the command line -----------------------------------------------------------------------------------


def prepare_folder(folder: Path, defaults: Mapping[str, Any]) -> Iterator[bytes]:
    """The lines of a `prepared` input: of an SS-MIX2 storage its documents, of any other folder its text files.

    Raises: OSError; InvalidInput for a manifest that cannot be read.
    """
    top = folder / "ssmix2" if (folder / "ssmix2").is_dir() else folder
    if is_storage(top) or is_storage(extended_root(top)):
        found = documents(*storage_roots(folder))
    else:
        found = texts(lambda: _files(folder), defaults)
    for place, note, error in found:
        if note is not None or error is not None:
            told = {"error": error} if note is None else {"note": note.model_dump(mode="json", exclude_none=True)}
            yield json.dumps({"place": place} | told, ensure_ascii=False).encode() + b"\n"


def _files(folder: Path) -> Iterator[Member]:
    def reader(path: Path) -> Callable[[int], bytes]:
        def read(limit: int) -> bytes:
            with path.open("rb") as file:
                return file.read(limit)

        return read

    for above, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(above, name)
            if not name.startswith("."):
                yield Member(path.relative_to(folder).as_posix(), reader(path), None if path.is_file() else "is no file")
