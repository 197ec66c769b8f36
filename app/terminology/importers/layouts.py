"""What a layout is: columns with their checks, and how a row becomes a concept. Every row of a file is checked.

Messages never show a cell: somebody may import the wrong file, and that file may hold patients.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from app.errors import InvalidInput
from app.terminology.entries import Part
from app.terminology.importers.files import Table
from schemas.statement import Kind

Check = Callable[[str], str | None]
"""What is wrong with a cell, or None."""

MAX_FAULTS = 10
"""Named in a message, `MAX_ALIKE` of them for one reason; the others are counted."""
MAX_ALIKE = 2
HEADER_ROWS = 30
"""Titles and notes stand above the header in workbooks of the ministry; no deeper than this."""


@dataclass(frozen=True, slots=True)
class Item:
    """One concept of a file. `codings`: (system, code, display), the own one first. `facts`: see each layout.

    `kind` None: stored, and never found by a name. `where`: where it stands in the file, for messages.
    """

    where: str
    system: str
    code: str
    display: str
    kind: Kind | Part | None
    names: tuple[str, ...]
    codings: tuple[tuple[str, str, str], ...]
    facts: dict[str, str]
    kana: str = ""

    @property
    def retired(self) -> bool:
        return "retired" in self.facts


class Faults:
    """What is wrong with a file, collected so that an operator sees more than the first fault at once."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.found: list[str] = []
        self.count = 0
        self._alike: Counter[str] = Counter()

    def add(self, where: str, reason: str) -> None:
        self.count += 1
        self._alike[reason] += 1
        if len(self.found) < MAX_FAULTS and self._alike[reason] <= MAX_ALIKE:
            self.found.append(f"{where}: {reason}")

    def refuse(self) -> InvalidInput:
        more = f" (and {self.count - len(self.found)} more)" if self.count > len(self.found) else ""
        return InvalidInput(f"{self.kind}: {'; '.join(self.found)}{more}. Nothing was stored.")


@dataclass(frozen=True)
class Column:
    """A column. `at`: its place, from 1, in a file without header names; else `header` finds it.

    `header` is matched against the whole header cell after NFKC and without any space.
    """

    key: str
    title: str
    at: int = 0
    header: str = ""
    check: Check | None = None
    required: bool = True

    def finds(self, head: str) -> bool:
        return re.fullmatch(self.header or re.escape(flat(self.title)), head) is not None


class Row:
    """Cells by the keys of their columns, without surrounding spaces; "" for a column that the file does not have."""

    __slots__ = ("cells", "where")

    def __init__(self, where: str, cells: dict[str, str]) -> None:
        self.where = where
        self.cells = cells

    def __getitem__(self, key: str) -> str:
        return self.cells.get(key, "")


@dataclass(frozen=True)
class Layout:
    """How a master is laid out. `convert` gives the concept, or the reason why the row is none, or None for a blank row.

    `widths`: allowed numbers of columns of a file whose columns go by place. `first`: what a header of such a file
    begins with. `minimum`: fewer concepts than the publisher ever had mean a file cut off. `several`: one code may
    stand for several concepts. `gather`: rows of one code are names of one concept. `without`: a header name that
    another table of the same workbook has. `version`: of a file's name, where it is no date.
    """

    kind: str
    title: str
    columns: tuple[Column, ...]
    convert: Callable[[Row, date], Item | str | None]
    minimum: int
    widths: range | None = None
    first: str = ""
    several: bool = False
    gather: bool = False
    without: str = ""
    version: Callable[[str], str | None] | None = None


def flat(text: str) -> str:
    return re.sub(r"\s+", "", unicodedata.normalize("NFKC", text))


def version_by_name(name: str) -> str | None:
    """20250101 of b_20250101.txt, 20250401_R01 of JFAGY_J9FN_20250401_R01.csv, 2022-09 of a_2022-09.tsv, or None."""
    if found := re.search(r"(?<!\d)(20\d{2}(?:0[1-9]|1[0-2])(?:[0-2]\d|3[01]))(?:_?([RV]\d{1,2}))?(?!\d)", name):
        return "_".join(part for part in found.groups() if part)
    found = re.search(r"(?<!\d)20\d{2}-(?:0[1-9]|1[0-2])(?:-(?:[0-2]\d|3[01]))?(?!\d)", name)
    return found.group() if found else None


def version_by_title(layout: Layout, tables: Sequence[Table]) -> str | None:
    """The day that a note above the header of a workbook names (令和8年4月1日適用): 20260401; or None."""
    for table in tables:
        header = _header(layout, table) if table.sheet and layout.widths is None else None
        for _, cells in table.rows[: header[1]] if header else ():
            for cell in cells:
                if found := re.search(r"令和(元|\d{1,2})年(\d{1,2})月(\d{1,2})日", flat(cell)):
                    year = 2018 + (1 if found[1] == "元" else int(found[1]))
                    return f"{year}{int(found[2]):02}{int(found[3]):02}"
    return None


def shape(pattern: str, wanted: str) -> Check:
    compiled = re.compile(pattern)

    def check(cell: str) -> str | None:
        return None if compiled.fullmatch(cell) else f"must be {wanted}, has {len(cell)} characters of another shape"

    return check


def day(cell: str) -> str | None:
    """YYYYMMDD; 00000000 and 99999999 stand for no day and no end."""
    if cell in ("00000000", "99999999"):
        return None
    try:
        if re.fullmatch(r"\d{8}", cell):
            date(int(cell[:4]), int(cell[4:6]), int(cell[6:]))
            return None
    except ValueError:
        pass
    return "must be a date YYYYMMDD"


def ended(cell: str, today: date) -> bool:
    """The last day of validity is past."""
    return bool(cell) and cell != "00000000" and cell < today.strftime("%Y%m%d")


def read_items(
    layout: Layout, tables: Sequence[Table], today: date, skipped: Counter[str], *, limit: int | None = None
) -> list[Item]:
    """The concepts of the tables in their order; `skipped` counts rows that are none, by reason.

    Raises: InvalidInput with line, column and reason of the first faults; nothing of a faulty file is used.
    """
    faults = Faults(layout.kind)
    items: list[Item] = []
    for row in _rows(layout, tables, faults, limit):
        if faults.count > 1000:
            break
        made = layout.convert(row, today)
        if isinstance(made, Item):
            items.append(made)
        elif made:
            skipped[made] += 1
    if faults.count:
        raise faults.refuse()
    return items


def _rows(layout: Layout, tables: Sequence[Table], faults: Faults, limit: int | None) -> Iterator[Row]:
    found = False
    for table in tables:
        if layout.widths is not None:
            places, rows, found = {c.key: c.at - 1 for c in layout.columns}, _body(layout, table), True
        else:
            header = _header(layout, table)
            if header is None:
                continue
            places, start = header
            rows, found = table.rows[start:], True
        several = len({t.file for t in tables}) > 1 or bool(table.sheet)
        prefix = f"{table.label}, " if several else ""
        for line, cells in rows[:limit]:
            where = f"{prefix}line {line}"
            if layout.widths is not None and len(cells) not in layout.widths:
                faults.add(where, f"{len(cells)} columns where {layout.title} has {_widths(layout.widths)}")
                continue
            row = {key: cells[at].strip() if at < len(cells) else "" for key, at in places.items()}
            if layout.widths is None and not row[layout.columns[0].key] and table.sheet:
                continue  # notes below or between the rows of a workbook
            before = faults.count
            for column in layout.columns:
                if column.key not in row:
                    continue
                cell = row[column.key]
                at = f"{where}, column {places[column.key] + 1} ({column.title})"
                if not cell:
                    if column.required:
                        faults.add(at, "is empty")
                elif column.check and (reason := column.check(cell)):
                    faults.add(at, reason)
            if faults.count == before:
                yield Row(where, row)
    if not found:
        wanted = ", ".join(column.title for column in layout.columns if column.required)
        raise InvalidInput(
            f"{layout.kind}: no row of the first {HEADER_ROWS} names the columns {wanted}; this is not {layout.title}, "
            "or its layout has changed. Nothing was stored."
        )


def _widths(widths: range) -> str:
    return str(widths.start) if len(widths) == 1 else f"{widths.start} to {widths.stop - 1}"


def _body(layout: Layout, table: Table) -> Sequence[tuple[int, list[str]]]:
    if table.rows and layout.first and flat(table.rows[0][1][0]).startswith(layout.first):
        return table.rows[1:]
    return table.rows


def _header(layout: Layout, table: Table) -> tuple[dict[str, int], int] | None:
    """Places of the columns by key, and where the rows begin. A header may run over two rows of a workbook; of several
    rows that could be it, the one that names most columns."""
    top = [[flat(cell) for cell in cells] for _, cells in table.rows[: HEADER_ROWS + 1]]
    found: list[tuple[int, int, int, dict[str, int]]] = []
    for at in range(min(len(top), HEADER_ROWS)):
        for deep in (1, 2) if table.sheet else (1,):
            merged = _merged(top[at : at + deep])
            if layout.without and any(re.fullmatch(layout.without, head) for head in merged):
                continue
            places = {}
            for column in layout.columns:
                place = next((i for i, head in enumerate(merged) if column.finds(head)), None)
                if place is not None:
                    places[column.key] = place
            if all(column.key in places for column in layout.columns if column.required):
                found.append((len(places), deep, at, places))
    if not found:
        return None
    _, deep, at, places = max(found, key=lambda one: one[:3])
    return places, at + deep


def _merged(rows: Sequence[list[str]]) -> list[str]:
    """Heads of the columns. An upper cell that spans several columns goes before each lower one (区分: コード, 名称)."""
    width = max((len(row) for row in rows), default=0)
    upper, *lower = ([*row, *[""] * (width - len(row))] for row in rows)
    heads, spanning = [], ""
    for at in range(width):
        below = "".join(row[at] for row in lower)
        spanning = upper[at] or (spanning if below else "")
        heads.append(spanning + below)
    return heads
