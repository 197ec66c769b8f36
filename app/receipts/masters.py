"""Files that an operator imports: the masters of 社会保険診療報酬支払基金, and tables in the starter's own layout.

Masters: CSV in Shift_JIS without a header, one file for each of s_ 診療行為, y_ 医薬品, b_ 傷病名, z_ 修飾語, c_ コメント, as they are
or in the ZIP in which they are published. Source of the positions: レセプト電算処理システム マスターファイル仕様説明書; they are the
same in the files of 2022 and of 2025 and 2026. A file with a damaged row is refused as a whole.
"""

import csv
import io
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import PurePath

from app.errors import InvalidInput, TooLong
from app.receipts.tsv import COLUMNS, NO_END, day_of, icd10_code, read_rows

MAX_BYTES = 64 * 2**20
"""Of a file, unpacked. The largest master, 診療行為, has about 10 MiB."""
_ENCODING = "cp932"
_DATED = re.compile(r"(20[0-9]{2})(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])")
# Ages that are no number of years: 生後28日, 生後90日; up to the end of the month of the 3rd, 6th, 15th, 20th birthday; 未就学.
# As the last full year that is still meant.
_LAST_YEAR = {"AA": 0, "AE": 0, "B3": 3, "B6": 6, "BF": 15, "BK": 20, "MG": 6}


@dataclass(frozen=True)
class Master:
    """A file read. `kind`, `tsv`: of `app.receipts.tsv.COLUMNS`, in the starter's layout. `edition`: the date in the name
    of the file (2026-02-02), blank without one. `whole`: an official file so large that it holds every code."""

    kind: str
    tsv: str
    edition: str
    whole: bool
    rows: int


@dataclass(frozen=True)
class _Column:
    """Where a column of ours stands in the official file, from 1."""

    name: str
    position: int
    parse: Callable[[str], str]


def read_master(data: bytes, name: str) -> Master:
    """`name`: of the file; only its date is used.

    Raises: InvalidInput for what is no table, with line and column for a damaged row; TooLong.
    """
    if data.startswith(b"PK"):
        return _read_zip(data)
    if len(data) > MAX_BYTES:
        raise TooLong(f"the file has {len(data):,} bytes; at most {MAX_BYTES:,} are allowed")
    dated = _DATED.search(PurePath(name).stem)
    edition = "-".join(dated.groups()) if dated else ""
    first = data.split(b"\n", 1)[0].removeprefix(b"\xef\xbb\xbf").rstrip(b"\r").decode("ascii", "replace")
    kinds = [kind for kind, columns in COLUMNS.items() if first.split("\t") == list(columns)]
    if kinds == ["modifiers", "comments"]:
        # One header for both; the length of the codes tells.
        cell = data.split(b"\n", 2)[1].split(b"\t", 1)[0] if b"\n" in data else b""
        kinds = ["comments" if len(cell) > 6 else "modifiers"]
    if kinds:
        return _own(kinds[0], data, edition)
    return _official(data, edition)


def _read_zip(data: bytes) -> Master:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [info for info in archive.infolist() if info.filename.lower().endswith((".csv", ".txt", ".tsv"))]
            if len(members) != 1:
                raise InvalidInput(f"the ZIP holds {len(members)} files .csv, .txt or .tsv; there must be one")
            if members[0].file_size > MAX_BYTES:
                raise TooLong(f"unpacked {members[0].file_size:,} bytes; at most {MAX_BYTES:,} are allowed")
            content = archive.read(members[0])
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError) as error:
        raise InvalidInput("the ZIP cannot be unpacked: it is damaged or encrypted") from error
    if content.startswith(b"PK"):
        raise InvalidInput("the ZIP holds another ZIP")
    return read_master(content, members[0].filename)


def _own(kind: str, data: bytes, edition: str) -> Master:
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidInput(f"{kind}: line {line}: is not UTF-8") from None
    return Master(kind, text, edition, whole=False, rows=sum(1 for _ in read_rows(kind, text)))


def _official(data: bytes, edition: str) -> Master:
    rows: dict[str, str] = {}
    letter = ""
    for number, fields in _records(data):
        if not letter:
            letter = fields[1] if len(fields) > 1 else ""
            if letter not in _MASTERS:
                raise InvalidInput(
                    "line 1: is neither a master s_, y_, b_, z_ or c_ nor the header of a table in the starter's layout"
                )
        layout = _MASTERS[letter]
        if len(fields) < layout.least or fields[1] != letter:
            raise InvalidInput(f"line {number}: has {len(fields)} columns or another kind than {letter} in column 2")
        row: dict[str, str] = {}
        for column in layout.columns:
            try:
                row[column.name] = column.parse(fields[column.position - 1])
            except ValueError as error:
                raise InvalidInput(f"line {number}, column {column.position} ({column.name}): {error}") from None
        row = layout.finished(row)
        # A code that was given again has its rows one behind the other; the last is in force.
        rows[row["code"]] = "\t".join(row.get(name, "") for name in COLUMNS[layout.kind])
    if not rows:
        raise InvalidInput("the file is empty")
    layout = _MASTERS[letter]
    tsv = "\n".join(["\t".join(COLUMNS[layout.kind]), *(rows[code] for code in sorted(rows)), ""])
    return Master(layout.kind, tsv, edition, whole=len(rows) > layout.part, rows=len(rows))


def _records(data: bytes) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.rstrip(b"\r\x1a"):
            continue
        try:
            text = line.decode(_ENCODING).rstrip("\r")
        except UnicodeDecodeError:
            raise InvalidInput(f"line {number}: is not Shift_JIS") from None
        try:
            yield number, next(csv.reader([text], strict=True))
        except csv.Error:
            raise InvalidInput(f"line {number}: is no row of a CSV file") from None


def _text(written: str) -> str:
    if "\t" in written:
        raise ValueError("holds a tab")
    return written


def _digits(count: int) -> Callable[[str], str]:
    def parse(written: str) -> str:
        if len(written) != count or not (written.isascii() and written.isdigit()):
            raise ValueError(f"must be {count} digits")
        return written

    return parse


def _successor(written: str) -> str:
    return _digits(7)(written) if written.strip("0") else ""


def _number(written: str) -> Decimal:
    try:
        number = Decimal(written)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or number < 0:
        raise ValueError("must be a number")
    return number


def _points(written: str) -> str:
    return str(int(_number(written)))


def _price(written: str) -> str:
    return f"{_number(written):.2f}"


def _day(written: str) -> str:
    """Blank where the master says nothing (blank or zeros)."""
    if not written.strip("0"):
        return ""
    day_of(written)
    return written


def _icd10(written: str) -> str:
    return icd10_code(written) if written else ""


def _least_age(written: str) -> str:
    if written in _LAST_YEAR:
        return str(_LAST_YEAR[written])
    return str(int(_age(written))) if written.strip("0") else ""


def _greatest_age(written: str) -> str:
    """The master's upper age is the first that is too old."""
    if written in _LAST_YEAR:
        return str(_LAST_YEAR[written])
    return str(int(_age(written)) - 1) if written.strip("0") else ""


def _age(written: str) -> str:
    if not re.fullmatch("[0-9]{2,3}", written, re.ASCII):
        raise ValueError("must be a whole number or one of " + ", ".join(_LAST_YEAR))
    return written


def _disease(row: dict[str, str]) -> dict[str, str]:
    return row | {
        "icd10": " ".join(code for code in (row["icd10"], row["further"]) if code),
        "successor": "" if row["successor"] == row["code"] else row["successor"],
    }


def _drug(row: dict[str, str]) -> dict[str, str]:
    # 経過措置年月日: the last day on which a drug that leaves the price list may be claimed.
    ends = [day for day in (row["valid_to"], row["leaves"]) if day]
    return row | {"valid_to": min(ends, default=NO_END)}


@dataclass(frozen=True)
class _Layout:
    """`least`: columns that a row must have. `part`: so many rows may still be an extract."""

    kind: str
    least: int
    part: int
    columns: tuple[_Column, ...]
    finished: Callable[[dict[str, str]], dict[str, str]] = dict


_MASTERS: Mapping[str, _Layout] = {
    "S": _Layout(
        "acts", 88, 1000,
        (
            _Column("code", 3, _digits(9)),
            _Column("name", 5, _text),
            _Column("unit", 10, _text),
            _Column("points", 12, _points),
            _Column("min_age", 41, _least_age),
            _Column("max_age", 42, _greatest_age),
            _Column("valid_from", 87, _day),
            _Column("valid_to", 88, _day),
        ),
    ),
    "Y": _Layout(
        "drugs", 34, 1000,
        (
            _Column("code", 3, _digits(9)),
            _Column("name", 5, _text),
            _Column("unit", 10, _text),
            _Column("price", 12, _price),
            _Column("valid_from", 30, _day),
            _Column("valid_to", 31, _day),
            _Column("yj", 32, _text),
            _Column("leaves", 34, _day),
        ),
        _drug,
    ),
    "B": _Layout(
        "diseases", 24, 1000,
        (
            _Column("code", 3, _digits(7)),
            _Column("successor", 4, _successor),
            _Column("name", 6, _text),
            _Column("icd10", 16, _icd10),
            _Column("further", 17, _icd10),
            _Column("valid_to", 24, _day),
        ),
        _disease,
    ),
    "Z": _Layout(
        "modifiers", 16, 1000,
        (_Column("code", 3, _digits(4)), _Column("name", 7, _text), _Column("valid_to", 16, _day)),
    ),
    "C": _Layout(
        "comments", 23, 500,
        (_Column("name", 7, _text), _Column("valid_to", 22, _day), _Column("code", 23, _digits(9))),
    ),
}  # fmt: skip
