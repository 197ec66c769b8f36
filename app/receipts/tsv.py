"""The text form of the tables: tabs, one header line, the columns of `app/receipts/starter/README.md`; text to typed values."""

from collections.abc import Callable, Iterator, Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any

from app.errors import InvalidInput

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "acts": ("code", "name", "points", "unit", "min_age", "max_age", "sex", "reason", "valid_from", "valid_to"),
    "drugs": ("code", "name", "unit", "price", "yj", "valid_from", "valid_to"),
    "diseases": ("code", "name", "icd10", "valid_to", "successor"),
    "modifiers": ("code", "name", "valid_to"),
    "comments": ("code", "name", "valid_to"),
    "indications": ("subject", "kind", "icd10", "reference"),
    "contraindications": ("subject", "icd10", "reference"),
    "limits": ("code", "per", "most", "reference"),
    "people": ("subject", "kind", "sex", "min_age", "max_age", "reference"),
    "duplicates": ("a", "b", "per", "reference"),
    "words": ("subject", "word"),
}
"""Kinds of tables and the header of each."""
NO_END = "99999999"
PERIODS = ("day", "week", "month", "claim")


def read_rows(kind: str, text: str) -> Iterator[dict[str, Any]]:
    """Column to value, row by row. Raises: InvalidInput with kind, line and column."""
    columns = COLUMNS[kind]
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    if tuple(lines[0].split("\t")) != columns:
        raise InvalidInput(f"{kind}: line 1: the header must be {' '.join(columns)}, with tabs between")
    parse = [(name, _PARSE.get((kind, name)) or _PARSE.get(name, str)) for name in columns]
    for number, line in enumerate(lines[1:], 2):
        if not line:
            continue
        cells = line.split("\t")
        if len(cells) != len(columns):
            raise InvalidInput(f"{kind}: line {number}: has {len(cells)} columns instead of {len(columns)}")
        row = {}
        for (name, read), cell in zip(parse, cells, strict=True):
            try:
                row[name] = read(cell)
            except ValueError as error:
                raise InvalidInput(f"{kind}: line {number}, column {name}: {error}") from None
        yield row


def _code(*lengths: int) -> Callable[[str], str]:
    def parse(cell: str) -> str:
        if len(cell) not in lengths or not (cell.isascii() and cell.isdigit()):
            raise ValueError(f"must be {' or '.join(map(str, lengths))} digits")
        return cell

    return parse


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(cell: str) -> str:
        if cell not in choices:
            raise ValueError(f"must be {', '.join(choice or 'blank' for choice in choices)}")
        return cell

    return parse


def _filled(cell: str) -> str:
    if not cell.strip():
        raise ValueError("is blank")
    return cell


def _whole(cell: str) -> int:
    if not (cell.isascii() and cell.isdigit() and len(cell) < 10):
        raise ValueError("must be a whole number")
    return int(cell)


def _age(cell: str) -> int | None:
    return _whole(cell) if cell else None


def _price(cell: str) -> Decimal:
    try:
        price = Decimal(cell)
    except InvalidOperation:
        price = Decimal(-1)
    if not (price.is_finite() and price >= 0):
        raise ValueError("must be a number")
    return price


@cache
def day_of(cell: str) -> date | None:
    """YYYYMMDD; None for blank and for no end. Raises: ValueError."""
    if cell in ("", NO_END):
        return None
    if not (len(cell) == 8 and cell.isascii() and cell.isdigit()):
        raise ValueError("must be written YYYYMMDD")
    try:
        return date(int(cell[:4]), int(cell[4:6]), int(cell[6:]))
    except ValueError:
        raise ValueError("is not a day of the calendar") from None


def icd10_code(cell: str) -> str:
    """A code without a dot, or what codes begin with. Raises: ValueError."""
    if not (cell[:1].isupper() and cell.isascii() and cell[1:].isalnum() or len(cell) == 1 and "A" <= cell <= "Z"):
        raise ValueError("must be codes of ICD-10 without a dot")
    return cell


def _icd10_of_disease(cell: str) -> str:
    codes = cell.split(" ") if cell else []
    if len(codes) > 2:
        raise ValueError("holds more than two codes")
    return " ".join(map(icd10_code, codes))


def _icd10_prefixes(cell: str) -> frozenset[str]:
    return frozenset(map(icd10_code, cell.split(" ")))


_PARSE: dict[str | tuple[str, str], Callable[[str], Any]] = {
    ("acts", "code"): _code(9),
    ("drugs", "code"): _code(9),
    ("diseases", "code"): _code(7),
    ("modifiers", "code"): _code(4),
    ("comments", "code"): _code(9),
    ("limits", "code"): _code(9),
    ("diseases", "icd10"): _icd10_of_disease,
    ("people", "kind"): _one_of("act", "drug", "icd10"),
    ("duplicates", "per"): _one_of(*PERIODS[:3]),
    "a": _code(9),
    "b": _code(9),
    "subject": _filled,
    "word": _filled,
    "reference": _filled,
    "kind": _one_of("act", "drug"),
    "per": _one_of(*PERIODS),
    "most": _whole,
    "points": _whole,
    "price": _price,
    "sex": _one_of("male", "female", ""),
    "min_age": _age,
    "max_age": _age,
    "valid_from": day_of,
    "valid_to": day_of,
    "icd10": _icd10_prefixes,
}
"""By column, or by kind and column where the kinds differ; the others are texts as they stand."""
