"""Entries of the loaded tables, and the starter tables that make the first run work.

Sources and columns of the starter tables: `starter/README.md`.
"""

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from app.errors import InvalidInput
from schemas.coding import Coding
from schemas.statement import Kind

STARTER = Path(__file__).parent / "starter"

# Canonical URIs: JP-CLINS 1.10.0 and JP Core 1.1.2-clins (code system tables of the implementation guides).
ICD10 = "http://jpfhir.jp/fhir/core/mhlw/CodeSystem/ICD10-2013-full"
RECEIPT_DISEASE = "http://jpfhir.jp/fhir/core/mhlw/CodeSystem/masterB-disease"
YJ = "http://capstandard.jp/iyaku.info/CodeSystem/YJ-code"
JLAC10 = "http://medis.or.jp/CodeSystem/master-JLAC10-17digits"
CORE_LAB = "http://jpfhir.jp/fhir/clins/CodeSystem/JLAC10/JP_CLINS_ObsLabResult_CoreLabo_CS"
INFECTION_LAB = "http://jpfhir.jp/fhir/clins/CodeSystem/JLAC10/JP_CLINS_ObsLabResult_InfectionLabo_CS"
JFAGY_FOOD = "http://jpfhir.jp/fhir/core/CodeSystem/JP_JfagyFoodAllergen_CS"
JFAGY_OTHER = "http://jpfhir.jp/fhir/core/CodeSystem/JP_JfagyNonFoodNonMedicationAllergen_CS"


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


@dataclass(frozen=True)
class Entry:
    """One concept of a table with every name it goes by.

    `kind`: which statements it can code. `names`: display first. `codings`: what a matched name is coded with.
    `properties`: facts that normalization uses (units, category, strength, group …), all strings.
    """

    kind: Kind | Part
    display: str
    names: tuple[str, ...]
    codings: tuple[Coding, ...]
    properties: dict[str, str] = field(default_factory=dict, hash=False, compare=False)


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
    """All entries of the starter tables. Raises InvalidInput when a table lacks a column."""
    return [*_diseases(), *_drugs(), *_lab_items(), *_infections(), *_allergens()]


def _diseases() -> Iterator[Entry]:
    for row in _rows("diseases.tsv", "name", "icd10", "receipt_code", "synonyms"):
        codings = []
        if row["receipt_code"]:
            codings.append(Coding(system=RECEIPT_DISEASE, code=row["receipt_code"], display=row["name"]))
        codings.append(Coding(system=ICD10, code=row["icd10"], display=row["name"]))
        names = _split(row["name"], row["synonyms"])
        yield Entry(Kind.CONDITION, row["name"], names, tuple(codings), {"kana": row["kana"]})


def _drugs() -> Iterator[Entry]:
    for row in _rows("drugs.tsv", "ingredient", "salts", "brands", "abbreviations", "class"):
        names = _split(row["ingredient"], row["salts"], row["brands"], row["abbreviations"])
        properties = {"ingredient": row["ingredient"], "class": row["class"]}
        yield Entry(Kind.PRESCRIPTION, row["ingredient"], names, (), properties)
    for row in _rows("drug_products.tsv", "name", "code", "ingredient", "strength", "form", "unit"):
        coding = Coding(system=YJ, code=row["code"], display=row["name"])
        properties = {key: row[key] for key in ("ingredient", "strength", "form", "unit")}
        yield Entry(Kind.PRESCRIPTION, row["name"], (row["name"],), (coding,), properties)


def _lab_items() -> Iterator[Entry]:
    for row in _rows("lab_items.tsv", "name", "core", "code", "display", "specimen", "units", "kind", "synonyms"):
        codings: tuple[Coding, ...] = ()
        if row["code"]:
            system = CORE_LAB if row["core"] else JLAC10
            codings = (Coding(system=system, code=row["code"], display=row["core"] or row["display"]),)
        properties = {key: row[key] for key in ("core", "specimen", "units", "kind", "name_ja")}
        yield Entry(Kind.LAB, row["name"], _split(row["name"], row["synonyms"]), codings, properties)


def _infections() -> Iterator[Entry]:
    for row in _rows("infections.tsv", "display", "code", "group", "kind", "specimen", "units", "names"):
        coding = Coding(system=INFECTION_LAB, code=row["code"], display=row["display"])
        properties = {key: row[key] for key in ("group", "kind", "specimen", "units")}
        yield Entry(Kind.INFECTION, row["display"], _split(row["names"], row["display"]), (coding,), properties)


def _allergens() -> Iterator[Entry]:
    for row in _rows("allergens.tsv", "name", "category", "code", "display", "synonyms"):
        codings: tuple[Coding, ...] = ()
        if row["code"]:
            system = JFAGY_FOOD if row["code"].startswith("J9F") else JFAGY_OTHER
            codings = (Coding(system=system, code=row["code"], display=row["display"]),)
        names = _split(row["name"], row["synonyms"])
        yield Entry(Kind.ALLERGY, row["name"], names, codings, {"category": row["category"]})
