"""Entries of the loaded tables, and the starter tables that make the first run work.

Sources and columns of the starter tables: `starter/README.md`.
"""

import csv
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from app.errors import InvalidInput
from schemas import systems
from schemas.coding import Coding
from schemas.statement import Kind

STARTER = Path(__file__).parent / "starter"

# The starter's rows carry this property, so that `merge` knows them among the rows of official masters.
STARTER_TABLE = ("table", "starter")


class Part(StrEnum):
    """What else a table can hold: pieces that statements are coded with, not statements of their own."""

    MODIFIER = "modifier"
    """修飾語 of a disease name; property `position`: prefix or postfix"""
    USAGE = "usage"
    """用法 of a prescription"""
    DEPARTMENT = "department"
    """診療科"""


@dataclass(frozen=True)
class LocalEntry:
    """A row of the hospital's mapping table: its own code and name, and the standard coding that they mean."""

    kind: Kind
    code: str
    display: str
    target: Coding | None = None


@dataclass(frozen=True, slots=True, init=False)
class Entry:
    """One concept of a table with every name it goes by.

    `kind`: which statements it can code. `names`: display first. `codings`: what a matched name is coded with.
    `properties`: facts that normalization uses (units, category, strength, group …), all strings. `marks`: the names
    that are marked in a note; None: all, unless the property `unmarked` says that there are none. Codings and properties
    are kept compact and made when asked for: masters have a hundred thousand concepts.
    """

    kind: Kind | Part
    display: str
    names: tuple[str, ...]
    marks: tuple[str, ...] | None = field(compare=False)
    packed_codings: tuple[tuple[str, str, str, str | None], ...]
    packed_properties: tuple[str, ...] = field(compare=False)

    def __init__(
        self,
        kind: Kind | Part,
        display: str,
        names: tuple[str, ...],
        codings: Iterable[Coding],
        properties: Mapping[str, str] | None = None,
        marks: tuple[str, ...] | None = None,
    ) -> None:
        put = object.__setattr__
        put(self, "kind", kind)
        put(self, "display", display)
        # Names and displays of codings are most often the display itself: one string for all of them.
        put(self, "names", tuple(display if name == display else name for name in names))
        put(self, "marks", marks)
        put(self, "packed_codings", tuple(_pack(coding, display) for coding in codings))
        facts = (properties or {}).items()
        put(self, "packed_properties", tuple(sys.intern(part) for fact in facts for part in fact))

    def marked(self, names: tuple[str, ...], marks: tuple[str, ...] | None) -> "Entry":
        """The same concept going by `names`, of which `marks` are marked in notes (see the attribute)."""
        copied = object.__new__(Entry)
        put = object.__setattr__
        for part in ("kind", "display", "packed_codings", "packed_properties"):
            put(copied, part, getattr(self, part))
        put(copied, "names", names)
        put(copied, "marks", marks)
        return copied

    @property
    def codings(self) -> tuple[Coding, ...]:
        return tuple(
            Coding(system=system, code=code, display=display, version=version)
            for system, code, display, version in self.packed_codings
        )

    @property
    def properties(self) -> dict[str, str]:
        return dict(zip(self.packed_properties[::2], self.packed_properties[1::2], strict=True))

    @property
    def marked_names(self) -> tuple[str, ...]:
        """Which of its names are marked in a note."""
        if self.marks is not None:
            return self.marks
        return () if self.fact("unmarked") else self.names

    def fact(self, name: str) -> str:
        """One of the properties; empty where the table does not say."""
        found = self.packed_properties
        return next((found[at + 1] for at in range(0, len(found), 2) if found[at] == name), "")

    def code(self, system: str) -> str | None:
        """Its code in `system`."""
        return next((packed[1] for packed in self.packed_codings if packed[0] == system), None)


def _pack(coding: Coding, display: str) -> tuple[str, str, str, str | None]:
    shown = display if coding.display == display else coding.display
    version = coding.version
    return sys.intern(coding.system), coding.code, shown, version if version is None else sys.intern(version)


def _rows(name: str, *columns: str) -> Iterator[dict[str, str]]:
    path = STARTER / name
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        if missing := set(columns) - set(reader.fieldnames or ()):
            raise InvalidInput(f"starter table {name}: missing columns {', '.join(sorted(missing))}")
        yield from reader


def _split(*cells: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part for cell in cells for part in cell.split("|") if part))


def starter_version() -> str:
    """Fingerprint of the starter tables: the first 12 hex digits of the SHA-256 over their bytes."""
    digest = hashlib.sha256()
    for path in sorted(STARTER.glob("*.tsv")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def starter_entries() -> list[Entry]:
    """All entries of the starter tables. Raises InvalidInput when a table lacks a column.

    A name of `ambiguous.tsv` is taken from the concepts that go by it and is an entry of its own, without a code.
    """
    tables = (_diseases, _modifiers, _drugs, _lab_items, _infections, _allergens, _departments, _usages)
    unclear = {(entry.kind, entry.display): entry for entry in _ambiguous()}
    known = [entry for table in tables for entry in table()]
    return [*(_without(entry, unclear) for entry in known), *unclear.values()]


def _without(entry: Entry, unclear: Mapping[tuple[Kind | Part, str], Entry]) -> Entry:
    names = tuple(name for name in entry.names if (entry.kind, name) not in unclear)
    return entry if len(names) == len(entry.names) else entry.marked(names, entry.marks)


def _entry(
    kind: Kind | Part, names: tuple[str, ...], codings: Iterable[Coding], facts: Mapping[str, str], display: str = ""
) -> Entry:
    table, starter = STARTER_TABLE
    return Entry(kind, display or names[0], names, codings, {**facts, table: starter})


def _coded(name: str, **codes: str) -> list[Coding]:
    """Codings of `name` for the codes that are there, by the name of their constant."""
    by_name = {
        "receipt": systems.RECEIPT_DISEASE,
        "icd10": systems.ICD10,
        "key_number": systems.MODIFIER_KEY,
        "exchange": systems.MODIFIER_EXCHANGE,
        "modifier": systems.RECEIPT_MODIFIER,
    }
    return [Coding(system=by_name[which], code=code, display=name) for which, code in codes.items() if code]


def _diseases() -> Iterator[Entry]:
    """A synonym for which the receipt master has a code of its own (虫垂炎 beside 急性虫垂炎) is an entry of its own."""
    own: set[str] = set()
    apart: list[Entry] = []
    for row in _rows("disease_names.tsv", "name", "receipt_code", "icd10", "spellings", "unmarked"):
        codings = _coded(row["name"], receipt=row["receipt_code"], icd10=row["icd10"])
        spellings = _split(row["spellings"])
        own.update(spellings)
        facts = {"unmarked": "true"} if row["unmarked"] else {}
        apart.append(_entry(Kind.CONDITION, spellings, codings, facts, display=row["name"]))
    for row in _rows("diseases.tsv", "name", "icd10", "receipt_code", "synonyms"):
        codings = _coded(row["name"], receipt=row["receipt_code"], icd10=row["icd10"])
        names = tuple(name for name in _split(row["name"], row["synonyms"]) if name == row["name"] or name not in own)
        yield _entry(Kind.CONDITION, names, codings, {"kana": row["kana"]})
    yield from apart


def _modifiers() -> Iterator[Entry]:
    columns = ("name", "position", "scope", "receipt_code", "key_number", "exchange_code", "synonyms")
    for row in _rows("modifiers.tsv", *columns):
        codes = {"key_number": row["key_number"], "exchange": row["exchange_code"], "modifier": row["receipt_code"]}
        facts = {"position": row["position"], "scope": row["scope"]}
        yield _entry(Part.MODIFIER, _split(row["name"], row["synonyms"]), _coded(row["name"], **codes), facts)


def _drugs() -> Iterator[Entry]:
    for row in _rows("drugs.tsv", "ingredient", "salts", "brands", "abbreviations", "class"):
        names = _split(row["ingredient"], row["salts"], row["brands"], row["abbreviations"])
        facts = {"ingredient": row["ingredient"], "class": row["class"], "brands": row["brands"]}
        yield _entry(Kind.PRESCRIPTION, names, (), facts)
    for row in _rows("drug_products.tsv", "name", "code", "ingredient", "strength", "form", "unit"):
        coding = Coding(system=systems.YJ, code=row["code"], display=row["name"])
        facts = {key: row[key] for key in ("ingredient", "strength", "form", "unit")}
        yield _entry(Kind.PRESCRIPTION, (row["name"],), (coding,), facts)
    for row in _rows("brand_products.tsv", "name", "code", "ingredient", "strength"):
        coding = Coding(system=systems.YJ, code=row["code"], display=row["name"])
        facts = {key: row[key] for key in ("ingredient", "strength")} | {"unmarked": "true"}
        yield _entry(Kind.PRESCRIPTION, (row["name"],), (coding,), facts)


def _lab_items() -> Iterator[Entry]:
    for row in _rows("lab_items.tsv", "name", "core", "code", "display", "specimen", "units", "kind", "synonyms"):
        codings: tuple[Coding, ...] = ()
        if row["code"]:
            system = systems.CORE_LAB if row["core"] else systems.JLAC10
            codings = (Coding(system=system, code=row["code"], display=row["core"] or row["display"]),)
        facts = {key: row[key] for key in ("core", "specimen", "units", "kind", "name_ja")}
        yield _entry(Kind.LAB, _split(row["name"], row["synonyms"]), codings, facts)


def _infections() -> Iterator[Entry]:
    for row in _rows("infections.tsv", "display", "code", "group", "kind", "specimen", "units", "names"):
        coding = Coding(system=systems.INFECTION_LAB, code=row["code"], display=row["display"])
        facts = {key: row[key] for key in ("group", "kind", "specimen", "units")}
        yield _entry(Kind.INFECTION, _split(row["names"], row["display"]), (coding,), facts, display=row["display"])


def _allergens() -> Iterator[Entry]:
    for row in _rows("allergens.tsv", "name", "category", "code", "display", "synonyms"):
        codings: tuple[Coding, ...] = ()
        if row["code"]:
            system = systems.JFAGY_FOOD if row["code"].startswith("J9F") else systems.JFAGY_OTHER
            codings = (Coding(system=system, code=row["code"], display=row["display"]),)
        yield _entry(Kind.ALLERGY, _split(row["name"], row["synonyms"]), codings, {"category": row["category"]})


def _ambiguous() -> Iterator[Entry]:
    for row in _rows("ambiguous.tsv", "kind", "name", "meanings"):
        yield _entry(Kind(row["kind"]), (row["name"],), (), {"meanings": row["meanings"]})


def _departments() -> Iterator[Entry]:
    for row in _rows("departments.tsv", "code", "name", "synonyms"):
        coding = Coding(system=systems.DEPARTMENT, code=row["code"], display=row["name"])
        yield _entry(Part.DEPARTMENT, _split(row["name"], row["synonyms"]), (coding,), {})


def _usages() -> Iterator[Entry]:
    for row in _rows("usages.tsv", "code", "display", "key"):
        codings = [Coding(system=system, code=row["code"], display=row["display"]) for system in (systems.USAGE, systems.USAGE_JAMI)]
        yield _entry(Part.USAGE, (row["display"],), codings, {"key": row["key"]})
