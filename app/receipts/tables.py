"""The tables by which receipts are checked: codes with names and dates, and the rules about them.

The starter's tables (`app/receipts/starter/README.md` has their columns and sources) lie in the package; an operator's
imports take the place of single kinds (`app.receipts.masters`). Everything is indexed once, when the tables are made.
"""

import hashlib
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Any, TypeVar

from app.errors import InvalidInput
from app.receipts.tsv import COLUMNS, read_rows
from app.receipts.uke import Disease, Item

UNCODED = "0000999"
"""未コード化傷病名: the name stands in the claim, no code does."""

Row = TypeVar("Row")


def fold(text: str) -> str:
    """NFKC: full-width letters, digits and signs of the masters as ASCII, half-width kana as full-width."""
    return unicodedata.normalize("NFKC", text)


@dataclass(frozen=True, slots=True)
class Act:
    """診療行為. `points`: of the current fee, fractions dropped; for additions in percent the percentage. Ages in whole
    years, both included. `sex`: male, female or blank. `valid_to`: None where no end is set."""

    code: str
    name: str
    points: int
    unit: str
    min_age: int | None
    max_age: int | None
    sex: str
    valid_from: date | None
    valid_to: date | None


@dataclass(frozen=True, slots=True)
class Drug:
    """医薬品. `price`: yen for one `unit`. `yj`: 薬価基準収載医薬品コード, 12 characters, blank for what is on no price list."""

    code: str
    name: str
    unit: str
    price: Decimal
    yj: str
    valid_from: date | None
    valid_to: date | None

    @property
    def ingredient(self) -> str:
        """Ingredient and form: the first seven digits of `yj`, or blank."""
        return self.yj[:7]


@dataclass(frozen=True, slots=True)
class DiseaseRow:
    """傷病名. `icd10`: without a dot, blank where the master gives none. `further`: the second code of 二重分類, or blank.
    `successor`: 移行先コード of an ended code, or blank."""

    code: str
    name: str
    icd10: str
    valid_to: date | None
    successor: str
    further: str = ""


@dataclass(frozen=True, slots=True)
class Prefixes:
    """Of `indications` and `contraindications`: ICD-10 codes and what begins with them. `kind`: act or drug."""

    kind: str
    icd10: frozenset[str]
    reference: str


@dataclass(frozen=True, slots=True)
class Limit:
    """`per`: day, week, month or claim. A week begins on Sunday."""

    per: str
    most: int
    reference: str


@dataclass(frozen=True, slots=True)
class People:
    """Whom an act, a drug or a disease is for. `kind`: act, drug or icd10."""

    kind: str
    sex: str
    min_age: int | None
    max_age: int | None
    reference: str


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Two acts of which one alone is paid within `per`."""

    a: str
    b: str
    per: str
    reference: str


@dataclass(frozen=True, eq=False)
class Tables:
    """`version`: fingerprint of all contents. `whole`: kinds of which every code in force is here, so that a code without a
    row is wrong. `people` has prefixes of ICD-10 among its keys; `duplicates` is keyed by the lesser code."""

    acts: Mapping[str, Act]
    drugs: Mapping[str, Drug]
    diseases: Mapping[str, DiseaseRow]
    modifiers: Mapping[str, str]
    comments: Mapping[str, str]
    indications: Mapping[str, Prefixes]
    contraindications: Mapping[str, Prefixes]
    limits: Mapping[str, tuple[Limit, ...]]
    people: Mapping[str, People]
    duplicates: Mapping[str, tuple[Exclusion, ...]]
    words: Mapping[str, tuple[str, ...]]
    whole: frozenset[str]
    version: str
    ended: Mapping[str, Mapping[str, date]] = field(default_factory=dict)
    """廃止年月日 of modifiers and comments that have one, by kind and code."""
    disease_codes: Mapping[str, str] = field(default_factory=dict)
    """Folded 傷病名基本名称 to code, of codes without an end."""
    modifier_codes: Mapping[str, str] = field(default_factory=dict)
    """Folded 修飾語名称 to code."""

    @staticmethod
    @cache
    def starter() -> "Tables":
        """Those of the package."""
        return Tables.of({})

    @classmethod
    def of(cls, contents: Mapping[str, str], whole: Collection[str] = ()) -> "Tables":
        """`contents`: kind to text in the starter's layout; the other kinds come from the starter. `whole`: kinds among them
        that hold every code in force.

        Raises: InvalidInput with kind, line and column.
        """
        if unknown := set(contents) - set(COLUMNS):
            raise InvalidInput(f"no kind of table: {', '.join(sorted(unknown))}; there are {', '.join(COLUMNS)}")
        texts = {kind: contents[kind] if kind in contents else _starter_text(kind) for kind in COLUMNS}
        complete = frozenset(whole) & frozenset(contents)
        rows = {kind: list(read_rows(kind, text)) for kind, text in texts.items()}
        ended = {
            kind: {row["code"]: row["valid_to"] for row in rows[kind] if row["valid_to"]} for kind in ("modifiers", "comments")
        }
        diseases = {row["code"]: _disease_row(row) for row in rows["diseases"]}
        modifiers = {row["code"]: row["name"] for row in rows["modifiers"]}
        return cls(
            acts={row["code"]: Act(**_without(row, "reason")) for row in rows["acts"]},
            drugs={row["code"]: Drug(**row) for row in rows["drugs"]},
            diseases=diseases,
            modifiers=modifiers,
            comments={row["code"]: row["name"] for row in rows["comments"]},
            indications={row["subject"]: Prefixes(**_without(row, "subject")) for row in rows["indications"]},
            contraindications={
                row["subject"]: Prefixes("drug", row["icd10"], row["reference"]) for row in rows["contraindications"]
            },
            limits=_gathered((row["code"], Limit(**_without(row, "code"))) for row in rows["limits"]),
            people={row["subject"]: People(**_without(row, "subject")) for row in rows["people"]},
            duplicates=_gathered((row["a"], Exclusion(**row)) for row in rows["duplicates"]),
            words=_gathered((row["subject"], row["word"]) for row in rows["words"]),
            whole=complete,
            version=_fingerprint(texts, complete),
            ended=ended,
            disease_codes={
                fold(row.name): code
                for code, row in reversed(diseases.items())
                if code != UNCODED and row.name and row.valid_to is None
            },
            modifier_codes={fold(name): code for code, name in reversed(modifiers.items()) if name},
        )

    def disease_name(self, disease: Disease) -> str:
        """As it is printed: modifiers, name, and what stands behind it (8000 and up, の疑い among them). As written in the
        masters, not folded."""
        row = self.diseases.get(disease.code)
        if disease.code == UNCODED and disease.name:
            base = disease.name
        else:
            base = row.name if row else f"コード {disease.code}"
        named = [(code, self.modifiers.get(code, f"修飾語{code}")) for code in disease.modifiers]
        before = "".join(name for code, name in named if not code.startswith("8"))
        return before + base + "".join(name for code, name in named if code.startswith("8"))

    def item_name(self, item: Item) -> str:
        """As written in the masters; an unknown code in words."""
        known = self.acts.get(item.code) or self.drugs.get(item.code)
        return known.name if known else f"コード {item.code}"

    def subject(self, item: Item) -> str:
        """By which the rules know it: the seven digits of a drug, else the code."""
        drug = self.drugs.get(item.code) if item.kind == "IY" else None
        return drug.ingredient or item.code if drug else item.code

    def icd10(self, disease: Disease) -> tuple[str, ...]:
        """Empty: cannot be known."""
        row = self.diseases.get(disease.code)
        return tuple(code for code in (row.icd10, row.further) if code) if row else ()


@cache
def _starter_text(kind: str) -> str:
    return (resources.files(__package__) / "starter" / f"{kind}.tsv").read_text(encoding="utf-8")


def _fingerprint(texts: Mapping[str, str], whole: Collection[str]) -> str:
    digest = hashlib.sha256(" ".join(sorted(whole)).encode())
    for kind in sorted(texts):
        digest.update(f"\0{kind}\0{texts[kind]}".encode())
    return digest.hexdigest()[:16]


def _without(row: Mapping[str, Any], column: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != column}


def _gathered(pairs: Iterator[tuple[str, Row]]) -> dict[str, tuple[Row, ...]]:
    found: dict[str, list[Row]] = {}
    for key, row in pairs:
        found.setdefault(key, []).append(row)
    return {key: tuple(several) for key, several in found.items()}


def _disease_row(row: Mapping[str, Any]) -> DiseaseRow:
    first, _, second = row["icd10"].partition(" ")
    return DiseaseRow(row["code"], row["name"], first, row["valid_to"], row["successor"], second)
