"""Statements after normalization and coding: the one source that FHIR and SS-MIX2 are both written from."""

from decimal import Decimal
from enum import StrEnum

from schemas.coding import Candidate, Coding
from schemas.statement import EvidenceSpan, Statement
from schemas.value import Value


class Comparator(StrEnum):
    """FHIR Quantity.comparator."""

    LT = "<"
    LE = "<="
    GE = ">="
    GT = ">"


class Quantity(Value):
    """`value` keeps the digits as written (1.10 stays 1.10), without thousands commas.
    `unit` as written after folding width (full width to ASCII, μ/µ to u, a leading × dropped); None if not written."""

    value: Decimal
    comparator: Comparator | None = None
    unit: str | None = None


class ReferenceRange(Value):
    """Of a laboratory result, as written beside it; the unit is that of the value. One limit at least is there."""

    low: Decimal | None = None
    high: Decimal | None = None


class ModifierPosition(StrEnum):
    """Where a disease modifier (修飾語) stands to the base name."""

    PREFIX = "prefix"
    POSTFIX = "postfix"


class Modifier(Value):
    """A modifier that was split off a disease name. 疑い is none: it is `Assertion.SUSPECTED`.

    `text` as written; `codings` from loaded tables only."""

    position: ModifierPosition
    text: str
    codings: tuple[Coding, ...] = ()


class Dosage(Value):
    """A prescription's numbers, computed from the written dose, usage and days.

    `dose` per intake, in `dose_unit` (錠, カプセル, mg …; a total without split keeps its unit, e.g. mg/日);
    `per_day` intakes a day; `days` of supply; `as_needed` 頓用. `text` is the written form joined. None: not stated.
    """

    dose: Decimal | None = None
    dose_unit: str | None = None
    per_day: int | None = None
    days: int | None = None
    as_needed: bool = False
    text: str | None = None
    usage: tuple[Coding, ...] = ()
    """Codes of the written usage (電子処方箋 用法マスタ, JAMI 標準用法), from loaded tables only."""


class Record(Value):
    """A statement, its display text, and what was computed from it.

    `display`: the name to show (abbreviation expanded when a table knows it, else as written).
    `codings`: from loaded tables only, best first; empty when no table knows the name (builders then write the
    standard's dummy code). `candidates`: what came near, for review.
    `local`: the hospital's own code of the name, from its mapping table. `modifiers`: of a disease, in reading order;
    `codings` are then those of the base name.
    `date`: ISO 8601 YYYY, YYYY-MM or YYYY-MM-DD: onset of a condition (None if not stated), collection day of a
    result (the note's date if not stated; None if the stated one cannot be computed).
    `quantity` | `text_value`: a result's value; `text_value` is the graded or qualitative result in canonical form
    (陽性 陰性 判定保留, - ± 1+ 2+ …, blood groups A B O AB).
    `probability`: 0..1, that the note says this (name and assertion), by the model's calibration; None: not known.
    `restates`: the index of the note's record that tells the same more completely and stands for this one; `also`: where
    else the note names what this record tells.
    `held`: too unlikely to be written; it waits for a person, and is in no resource and no message until then.
    """

    statement: Statement
    display: str
    codings: tuple[Coding, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    local: Coding | None = None
    modifiers: tuple[Modifier, ...] = ()
    date: str | None = None
    quantity: Quantity | None = None
    text_value: str | None = None
    flag: str | None = None
    reference_range: ReferenceRange | None = None
    dosage: Dosage | None = None
    reactions: tuple[str, ...] = ()
    relative: str | None = None
    probability: float | None = None
    held: bool = False
    restates: int | None = None
    also: tuple[EvidenceSpan, ...] = ()

    @property
    def written(self) -> bool:
        """Is it in resources and messages, if nothing is wrong with them?"""
        return not self.held and self.restates is None
