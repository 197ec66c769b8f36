"""What a message is written from: records, and what a sender may know of them or of the patient beyond a note.

A field that nobody states is None and stays empty in the message. Codes of HL7 tables are given as their code alone;
`(code, text)` pairs are codes of the sender's own system unless the field says another one.
"""

from dataclasses import dataclass
from datetime import date, datetime

from schemas.note import ChartNote
from schemas.record import Record

Named = tuple[str, str]
"""Code and text."""


@dataclass(frozen=True)
class Relative:
    """A person to turn to (NK1). `kana`: family and given name in katakana; `relationship`: a code of HL7 table 0063."""

    family: str
    given: str
    relationship: Named
    kana: tuple[str, str] | None = None


@dataclass(frozen=True)
class Registration:
    """What the facility's register of patients knows and a note does not carry. `kana`: family and given name."""

    kana: tuple[str, str] | None = None
    phone: str | None = None
    relatives: tuple[Relative, ...] = ()


@dataclass(frozen=True)
class Finding:
    """A disease or an allergy of a patient. `key`: its stable id (PRB-4, IAM-7), 1 to 20 letters, digits, dots, hyphens
    or underscores. `note`: the note that says it; None where it is not at hand."""

    record: Record
    key: str
    note: ChartNote | None = None


@dataclass(frozen=True)
class Allergy(Finding):
    """`severity`: HL7 table 0128 (MI, MO, SV, U); `sort`: 0436 (AD, AL, CT, IN); `status`: 0438 (U, P, S, C, I), None:
    what the record asserts, "": not said. `onset`: when it was first seen, in words, where the record has no day.
    `reported`: day of report, None: the day of `note`."""

    severity: str | None = None
    sort: str | None = None
    status: str | None = None
    onset: str | None = None
    reported: date | None = None


@dataclass(frozen=True)
class Problem(Finding):
    """`diagnosed`, `ended`: days; `outcome`: HL7 table 0241 (D, R, N, W, S, F, U); `main`: 主診断. `order`: the number that
    its ORC carries; None: no ORC. `ordered_at`: of that order; None: the day of `note`."""

    diagnosed: date | None = None
    ended: date | None = None
    outcome: str | None = None
    main: bool = False
    order: int | None = None
    ordered_at: datetime | None = None


@dataclass(frozen=True)
class Drug:
    """A prescribed drug. `form`: dosage form (MERIT-9); `route`: HL7 table 0162, None: as the drug's form tells; `site`:
    外用部位コード of the JAMI usage codes; `start`: day or hour; `outside`: dispensed outside the facility (院外)."""

    record: Record
    form: Named | None = None
    route: Named | None = None
    site: Named | None = None
    start: date | datetime | None = None
    outside: bool = False


@dataclass(frozen=True)
class Specimen:
    """A specimen (SPM). `id`: its number; `material`: JLAC10 材料コード, `local`: the laboratory's own code of it;
    `discipline`: first digit of JLAC10 (大分類) of the order that it was taken for; None: as the code of each test tells."""

    id: str | None = None
    material: str | None = None
    local: Named | None = None
    collected: datetime | None = None
    discipline: str | None = None


@dataclass(frozen=True)
class Result:
    """A laboratory or infection result. `specimen`: None: what code and date of the record tell. `value`, `unit`: the
    laboratory's own codes; None: as the tables of SS-MIX2 write the record's."""

    record: Record
    specimen: Specimen | None = None
    value: Named | None = None
    unit: Named | None = None
