"""Files of the publishers into rows of text: encoding and delimiter found by content, workbooks read without formulas.

Nothing here knows a layout. Lines and columns count from 1, as editors and spreadsheets show them.
"""

import csv
import hashlib
import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree  # expat refuses expanding entities; the file is the operator's own (S405)

from app.errors import InvalidInput, TooLong

MAX_BYTES = 256 * 1024 * 1024
"""Of one file, and of one sheet of a workbook unpacked; the largest master (HOT13) has about 15 MB."""
_SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
# Python's cp932 gives these for bytes that Shift_JIS does not have (80, A0, FD to FF).
_NO_SHIFT_JIS = re.compile("[\x80\xa0\uf8f0-\uf8f3]")


@dataclass(frozen=True)
class Source:
    """A file as read: `fingerprint` is the SHA-256 of its bytes, hex."""

    name: str
    path: Path
    data: bytes
    fingerprint: str


@dataclass(frozen=True)
class Table:
    """Rows of cells, each with the line it starts on. `sheet` is empty for a text file."""

    file: str
    sheet: str
    rows: Sequence[tuple[int, list[str]]]

    @property
    def label(self) -> str:
        return f"{self.file}, sheet {self.sheet}" if self.sheet else self.file


def read_source(path: Path) -> Source:
    """Raises: InvalidInput (no file, empty), TooLong."""
    if not path.is_file():
        raise InvalidInput(f"{path} is not a file")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise TooLong(f"{path}: {size} bytes; a master has at most {MAX_BYTES}")
    data = path.read_bytes()
    if not data.strip():
        raise InvalidInput(f"{path} is empty")
    return Source(path.name, path, data, hashlib.sha256(data).hexdigest())


def fingerprint_of(sources: Sequence[Source]) -> str:
    """Of one file its SHA-256; of several that of their fingerprints in the order of their names."""
    if len(sources) == 1:
        return sources[0].fingerprint
    together = "\n".join(sorted(source.fingerprint for source in sources))
    return hashlib.sha256(together.encode()).hexdigest()


def decode(source: Source) -> str:
    """Text of UTF-8 (with or without a byte order mark) or Shift_JIS (cp932, which the publishers' systems write).

    Raises: InvalidInput with the line when the bytes are neither, or are damaged.
    """
    data = source.data.rstrip(b"\x1a")  # Ctrl-Z, the end mark of old programs
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        utf8 = error
    try:
        text = data.decode("cp932")
    except UnicodeDecodeError as error:
        # Shift_JIS read as UTF-8 breaks at once and nearly everywhere; a damaged UTF-8 file has few bad places.
        first = utf8 if _mostly_utf8(data) else error
        line = data.count(b"\n", 0, first.start) + 1
        if first.end >= len(data):
            raise InvalidInput(f"{source.name}: ends in the middle of a character (line {line}); cut off?") from None
        name = "UTF-8" if first is utf8 else "Shift_JIS"
        raise InvalidInput(
            f"{source.name}: line {line}, byte {first.start + 1} of the file is no {name}; damaged, or no text file"
        ) from None
    if _mostly_utf8(data):
        line = data.count(b"\n", 0, utf8.start) + 1
        raise InvalidInput(f"{source.name}: line {line}: damaged UTF-8 (byte {utf8.start + 1} of the file); cut off?")
    if odd := _NO_SHIFT_JIS.search(text):
        line = text.count("\n", 0, odd.start()) + 1
        raise InvalidInput(f"{source.name}: line {line} has a byte that is no Shift_JIS; damaged, or no text file")
    return text


def _mostly_utf8(data: bytes) -> bool:
    high = sum(byte >= 0x80 for byte in data[:1_000_000])
    bad = data[:1_000_000].decode("utf-8", errors="replace").count("\ufffd")
    return bad * 20 < high


def read_tables(source: Source) -> list[Table]:
    """One table of a CSV or TSV file, one a sheet of an .xlsx workbook.

    Raises: InvalidInput for an archive, an old .xls, broken quotes, an unreadable workbook.
    """
    if source.data[:4] == b"PK\x03\x04":
        return _workbook(source)
    if source.data[:4] == b"\xd0\xcf\x11\xe0":
        raise InvalidInput(f"{source.name} is an old .xls workbook; save it as .xlsx or CSV and import that")
    text = decode(source)
    head = text[: text.find("\n") + 1] or text
    delimiter = "\t" if head.count("\t") > head.count(",") else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[tuple[int, list[str]]] = []
    line = 1
    try:
        for cells in reader:
            if any(cells):
                rows.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        raise InvalidInput(f"{source.name}: line {line}: {error}; cut off or damaged?") from None
    return [Table(source.name, "", rows)]


def _workbook(source: Source) -> list[Table]:
    try:
        with zipfile.ZipFile(io.BytesIO(source.data)) as archive:
            names = set(archive.namelist())
            if "xl/workbook.xml" not in names:
                raise InvalidInput(f"{source.name} is a zip archive; unpack it and import the file inside")
            for entry in archive.infolist():
                if entry.file_size > MAX_BYTES:
                    raise TooLong(f"{source.name}: {entry.filename} unpacks to {entry.file_size} bytes")
            shared = _shared_strings(archive) if "xl/sharedStrings.xml" in names else []
            return [
                Table(source.name, title, list(_sheet_rows(archive, part, shared)))
                for title, part in _sheets(archive)
                if part in names
            ]
    except (zipfile.BadZipFile, ElementTree.ParseError, KeyError, IndexError, ValueError, EOFError) as error:
        raise InvalidInput(f"{source.name}: the workbook cannot be read ({type(error).__name__}); damaged?") from None


def _sheets(archive: zipfile.ZipFile) -> Iterator[tuple[str, str]]:
    relations = ElementTree.fromstring(archive.read("xl/_rels/workbook.xml.rels"))  # noqa: S314
    targets = {relation.get("Id"): relation.get("Target", "") for relation in relations}
    for sheet in ElementTree.fromstring(archive.read("xl/workbook.xml")).iter(f"{_SHEET}sheet"):  # noqa: S314
        target = targets.get(sheet.get(_RELATION), "")
        yield sheet.get("name", ""), target.lstrip("/") if target.startswith("/") else f"xl/{target}"


def _shared_strings(archive: zipfile.ZipFile) -> list[str]:
    root = ElementTree.fromstring(archive.read("xl/sharedStrings.xml"))  # noqa: S314
    return [_text(item) for item in root.iter(f"{_SHEET}si")]


def _text(item: ElementTree.Element) -> str:
    """The text of a cell without the readings (rPh) that Excel keeps beside Japanese words."""
    pieces = [child.text or "" for child in item.findall(f"{_SHEET}t")]
    pieces += [part.text or "" for run in item.findall(f"{_SHEET}r") for part in run.findall(f"{_SHEET}t")]
    return "".join(pieces)


def _sheet_rows(archive: zipfile.ZipFile, part: str, shared: list[str]) -> Iterator[tuple[int, list[str]]]:
    with archive.open(part) as stream:
        line = 0
        for _, row in ElementTree.iterparse(stream, events=("end",)):  # noqa: S314
            if row.tag != f"{_SHEET}row":
                continue
            line = int(row.get("r") or line + 1)
            cells: list[str] = []
            for cell in row.iter(f"{_SHEET}c"):
                at = _column(cell.get("r")) if cell.get("r") else len(cells)
                cells += [""] * (at - len(cells))
                cells.append(_value(cell, shared))
            if any(cells):
                yield line, cells
            row.clear()


def _column(reference: str | None) -> int:
    """0 for A1, 27 for AB3."""
    letters = re.match(r"[A-Z]+", reference or "A")
    at = 0
    for letter in letters.group() if letters else "A":
        at = at * 26 + ord(letter) - 64
    if at > 16_384:  # the last column of a sheet is XFD
        raise ValueError("column")
    return at - 1


def _value(cell: ElementTree.Element, shared: list[str]) -> str:
    inline = cell.find(f"{_SHEET}is")
    if inline is not None:
        return _text(inline)
    value = (cell.findtext(f"{_SHEET}v") or "").strip() if cell.get("t") != "str" else cell.findtext(f"{_SHEET}v") or ""
    if cell.get("t") == "s":
        return shared[int(value)] if value else ""
    if cell.get("t") == "e":
        return ""
    return value.removesuffix(".0")
