"""The medical claim file (レセプト電算処理, UKE): bytes to claims with line numbers, and back to the same bytes.

Shift_JIS with CR LF, one record a line, fields parted by commas (記録条件仕様（医科用）; `app.receipts.layout` has the fields).
A claim is an RE record and what follows it up to the next one. A record that does not fit is told with its line and field;
its claim and all others are read on, and whatever was not changed is written as it came.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from functools import cached_property
from typing import IO, Any

from app.errors import InvalidInput
from app.receipts.layout import LAYOUT

ENCODING = "cp932"
"""Shift_JIS as the claims use it: with the NEC and IBM characters of names (髙, ①)."""
LINE_END = b"\r\n"
MAX_LINE_BYTES = 20_000
ITEMS = {"SI": "act", "IY": "drug", "TO": "material"}
"""Records of what was done, given and used, with the name of the field that holds the code."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with a record. `line` counts from 1, `position` of the field from 1; None: the line as a whole. The text
    quotes nothing of it."""

    line: int
    position: int | None
    name: str | None
    text: str


@dataclass(frozen=True)
class Record:
    """One line. `line`: its number in the file, from 1; 0: not from a file. `fields`: as written, the kind first. `raw`: its
    bytes with the line end, None where it was made or changed here. `unread`: why it is no record at all; its kind is then
    empty, as that of a blank line."""

    line: int
    fields: tuple[str, ...]
    raw: bytes | None = None
    unread: str | None = None

    @property
    def kind(self) -> str:
        return self.fields[0]

    @cached_property
    def _read(self) -> tuple[Mapping[str, Any], tuple[Fault, ...]]:
        values: dict[str, Any] = {}
        faults = [Fault(self.line, None, None, self.unread)] if self.unread else []
        for place in LAYOUT.get(self.kind, ()):
            written = self.fields[place.position - 1] if len(self.fields) >= place.position else ""
            try:
                values[place.name] = place.parse(written) if written else None
                if not written and place.required:
                    raise ValueError("is missing")
            except ValueError as error:
                values[place.name] = None
                faults.append(Fault(self.line, place.position, place.name, str(error)))
        return values, tuple(faults)

    @property
    def values(self) -> Mapping[str, Any]:
        """By the names of the layout; None for what is blank or does not fit."""
        return self._read[0]

    @property
    def faults(self) -> tuple[Fault, ...]:
        return self._read[1]

    def changed(self, **written: str) -> "Record":
        """The record with fields of the layout replaced, each as it is to be written.

        Raises: InvalidInput for a name that the kind does not have, and for a value that does not fit.
        """
        places = {place.name: place for place in LAYOUT.get(self.kind, ())}
        fields = list(self.fields)
        for name, value in written.items():
            if name not in places:
                raise InvalidInput(f"a record {self.kind} has no field {name}")
            place = places[name]
            try:
                if not value and place.required:
                    raise ValueError("is missing")
                if value:
                    place.parse(value)
            except ValueError as error:
                raise InvalidInput(f"{name}: {error}") from None
            fields += [""] * (place.position - len(fields))
            fields[place.position - 1] = value
        return Record(self.line, tuple(fields))

    def encoded(self) -> bytes:
        """Raises: InvalidInput for characters that the file cannot hold."""
        return self.raw if self.raw is not None else encode(self.fields) + LINE_END


def encode(fields: Sequence[str]) -> bytes:
    """One record without its line end. Raises: InvalidInput."""
    for position, value in enumerate(fields, 1):
        if any(character in value for character in ',"\r\n'):
            raise InvalidInput(f"field {position}: a comma, a quotation mark or a line end has no place in a field")
        try:
            value.encode(ENCODING)
        except UnicodeEncodeError as error:
            raise InvalidInput(f"field {position}: character {error.start} cannot be written in Shift_JIS") from None
    return ",".join(fields).encode(ENCODING)


@dataclass(frozen=True)
class Disease:
    """SY. `modifiers`: codes of four digits, 疑い (8002) among them. `name`: written for 0000999 alone (未コード化傷病名)."""

    line: int
    code: str
    started: date | None
    outcome: str | None
    modifiers: tuple[str, ...]
    name: str | None
    main: bool

    @property
    def suspected(self) -> bool:
        return "8002" in self.modifiers

    @property
    def ended(self) -> bool:
        """治ゆ, 死亡 or 中止."""
        return self.outcome in ("2", "3", "4")


@dataclass(frozen=True)
class Item:
    """SI, IY or TO. `section`: 診療識別, taken from the record above where it is blank: those records are one 剤. `days`: how
    often on which day of the month. `group`: number of that 剤 within the claim, from 0."""

    line: int
    kind: str
    code: str
    section: str | None
    group: int
    amount: Decimal | None
    points: int | None
    times: int | None
    days: Mapping[int, int]
    comments: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Comment:
    """CO, with the 剤 that it stands in."""

    line: int
    code: str
    text: str
    section: str | None
    group: int


@dataclass(frozen=True)
class Claim:
    """One receipt. `records`: RE and all that follows it."""

    records: tuple[Record, ...]

    @property
    def line(self) -> int:
        return self.records[0].line

    @property
    def number(self) -> int | None:
        found: int | None = self.records[0].values["number"]
        return found

    @property
    def month(self) -> date | None:
        found: date | None = self.records[0].values["month"]
        return found

    @property
    def birth_date(self) -> date | None:
        found: date | None = self.records[0].values["birth_date"]
        return found

    @property
    def female(self) -> bool | None:
        sex = self.records[0].values["sex"]
        return None if sex is None else sex == "2"

    @property
    def chart_number(self) -> str | None:
        """カルテ番号等: by which the hospital knows the patient."""
        found: str | None = self.records[0].values["chart_number"]
        return found

    @property
    def inpatient(self) -> bool:
        # 別表5 レセプト種別コード: the fourth digit is odd for 入院, even for 入院外.
        kind = self.records[0].values["type"]
        return kind is not None and int(kind[3]) % 2 == 1

    @property
    def faults(self) -> list[Fault]:
        return [fault for record in self.records for fault in record.faults]

    @cached_property
    def diseases(self) -> list[Disease]:
        return [_disease(record) for record in self.records if record.kind == "SY" and record.values["disease"]]

    @cached_property
    def _lines(self) -> tuple[list[Item], list[Comment]]:
        items: list[Item] = []
        comments: list[Comment] = []
        section: str | None = None
        group = -1
        for record in self.records:
            if record.kind not in ITEMS and record.kind != "CO":
                continue
            if record.values["section"]:
                section, group = record.values["section"], group + 1
            if record.kind == "CO":
                if code := record.values["comment"]:
                    comments.append(Comment(record.line, code, record.values["text"] or "", section, max(group, 0)))
            elif record.values[ITEMS[record.kind]]:
                items.append(_item(record, section, max(group, 0)))
        return items, comments

    @property
    def items(self) -> list[Item]:
        return self._lines[0]

    @property
    def comments(self) -> list[Comment]:
        return self._lines[1]

    def record(self, line: int) -> Record:
        """Raises: InvalidInput for a line that is none of the claim."""
        for record in self.records:
            if record.line == line:
                return record
        raise InvalidInput(f"line {line} is not of this claim")

    def replaced(self, record: Record) -> "Claim":
        """With the record in the place of the one of its line. Raises: InvalidInput."""
        self.record(record.line)
        return replace(self, records=tuple(record if r.line == record.line else r for r in self.records))

    def without(self, line: int) -> "Claim":
        """Raises: InvalidInput; the RE record cannot be taken away."""
        if line == self.line:
            raise InvalidInput("the record RE is the claim itself")
        self.record(line)
        return replace(self, records=tuple(r for r in self.records if r.line != line))

    def inserted(self, after: int, fields: Sequence[str]) -> "Claim":
        """With a new record behind the line `after`. Raises: InvalidInput."""
        at = self.records.index(self.record(after)) + 1
        added = Record(0, tuple(fields))
        encode(added.fields)
        if added.faults:
            raise InvalidInput("; ".join(f"{fault.name}: {fault.text}" for fault in added.faults))
        return replace(self, records=(*self.records[:at], added, *self.records[at:]))


@dataclass(frozen=True)
class Other:
    """A record that belongs to no claim: IR before, GO behind, or what stands before the first RE."""

    record: Record

    @property
    def records(self) -> tuple[Record, ...]:
        return (self.record,)

    @property
    def faults(self) -> list[Fault]:
        return list(self.record.faults)


def _disease(record: Record) -> Disease:
    values = record.values
    written = values["modifiers"] or ""
    return Disease(
        record.line,
        values["disease"],
        values["started"],
        values["outcome"],
        tuple(written[n : n + 4] for n in range(0, len(written), 4)),
        values["name"],
        values["main"] is not None,
    )


def _item(record: Record, section: str | None, group: int) -> Item:
    values = record.values
    comments = [(values[f"comment_{n}"], values[f"text_{n}"] or "") for n in (1, 2, 3)]
    return Item(
        line=record.line,
        kind=record.kind,
        code=values[ITEMS[record.kind]],
        section=section,
        group=group,
        amount=values["amount"],
        points=values["points"],
        times=values["times"],
        days={day: values[f"day_{day}"] for day in range(1, 32) if values[f"day_{day}"]},
        comments=tuple((code, text) for code, text in comments if code),
    )


def read_uke(file: IO[bytes]) -> Iterator[Claim | Other]:
    """The parts of a file, in their order; written one after the other they give its bytes again. One claim is held at a time.

    A line that is no record (not Shift_JIS, too long, without a kind) is a fault of the claim that it stands in.
    Raises: OSError.
    """
    claim: list[Record] = []
    for number, raw in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES), b""), 1):
        record = _record(number, raw)
        if claim and record.kind in ("IR", "RE", "GO"):
            yield Claim(tuple(claim))
            claim = []
        if claim or record.kind == "RE":
            claim.append(record)
        else:
            yield Other(record)
    if claim:
        yield Claim(tuple(claim))


def _record(number: int, raw: bytes) -> Record:
    content = raw.rstrip(b"\r\n")
    # Some programs end a file with CTRL-Z, as MS-DOS did.
    if content in (b"", b"\x1a"):
        return Record(number, ("",), raw)
    if len(raw) >= MAX_LINE_BYTES and not raw.endswith(b"\n"):
        return Record(number, ("",), raw, f"the line is longer than {MAX_LINE_BYTES:,} bytes")
    try:
        fields = tuple(content.decode(ENCODING).split(","))
    except UnicodeDecodeError as error:
        return Record(number, ("",), raw, f"is not Shift_JIS at byte {error.start}")
    # No text of a database can hold it, and no claim has a use for it.
    if b"\0" in content:
        return Record(number, ("",), raw, f"holds the character NUL at byte {content.index(0)}")
    if not (len(fields[0]) == 2 and fields[0].isascii() and fields[0].isupper()):
        return Record(number, ("",), raw, "does not begin with a kind of record (two capital letters)")
    return Record(number, fields, raw)


def write_uke(parts: Iterable[Claim | Other]) -> Iterator[bytes]:
    """The bytes of each part. Raises: InvalidInput for a changed record that Shift_JIS cannot hold."""
    for part in parts:
        yield b"".join(record.encoded() for record in part.records)
