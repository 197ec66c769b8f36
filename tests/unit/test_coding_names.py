"""What names of charts are coded with: a table read line by line by a person (`coding_names.tsv`).

Each row: kind, name, the codings' codes with the starter alone, those with the publishers' tables loaded where they differ,
and the display of the first. `-`: no code. Behind `+`: receipt codes of modifiers with the words that they stand for; in
brackets: what a remark inside the name says of it. A change of a line is a change of what a patient's record says.
"""

import csv
import os
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from app import coding
from app.normalize import expand_name
from app.terminology.drugs import parse_drug
from app.terminology.entries import Entry, starter_entries
from app.terminology.importers.codesystem import read_code_system
from app.terminology.importers.files import read_source, read_tables
from app.terminology.importers.layouts import Item, read_items
from app.terminology.importers.releases import LAYOUTS
from app.terminology.matching import Lexicon
from app.terminology.merge import merge
from schemas import systems
from schemas.coding import Coding
from schemas.statement import Kind

with (Path(__file__).parent / "coding_names.tsv").open(encoding="utf-8", newline="") as _file:
    ROWS = list(csv.DictReader(_file, delimiter="\t", quoting=csv.QUOTE_NONE))


def said(kind: Kind, name: str, lexicon: Lexicon) -> str:
    written = expand_name(name)
    match kind:
        case Kind.CONDITION:
            coded = coding.disease(written, lexicon)
        case Kind.PRESCRIPTION:
            coded = coding.drug(written, lexicon)
        case Kind.ALLERGY:
            coded = coding.allergen(written, lexicon)
        case _:
            coded = coding.test(kind, written, lexicon)
    for one in (*coded.codings, *(given for modifier in coded.modifiers for given in modifier.codings)):
        assert lexicon.holds(one.system, one.code), one
    text = " ".join(one.code for one in coded.codings) or "-"
    receipt = [
        f"{next(one.code for one in modifier.codings if one.system == systems.RECEIPT_MODIFIER)}:{modifier.text}"
        for modifier in coded.modifiers
    ]
    text += f" + {' '.join(receipt)}" if receipt else ""
    return text + (f" ({coded.assertion})" if coded.assertion else "")


def wrong(lexicon: Lexicon, column: str) -> list[tuple[str, str, str]]:
    found = []
    for row in ROWS:
        expected = row[column] or row["starter"]
        if (now := said(Kind(row["kind"]), row["name"], lexicon)) != expected:
            found.append((row["name"], expected, now))
    return found


def test_the_table_is_there() -> None:
    assert len(ROWS) > 1400
    assert len({(row["kind"], row["name"]) for row in ROWS}) == len(ROWS)
    assert sum(row["starter"] == "-" for row in ROWS) > 500
    assert {row["kind"] for row in ROWS} == set(Kind)


def test_names_with_the_tables_of_the_first_run() -> None:
    assert wrong(Lexicon(starter_entries(), "starter"), "starter") == []


# -- the publishers' own tables -------------------------------------------------------------------------------------------

_STANDARDS = Path(os.environ.get("HYOJUN_STANDARDS") or Path(__file__).parents[2].parent / "shared" / "standards")
_TABLES = _STANDARDS / "fhir/packages/terminology"
_CLAIMS = _STANDARDS / "claims/masters"
_FILES = {
    "ssk-modifier": _CLAIMS / "z_20250101.txt",
    "price": _CLAIMS / "mhlw_price_20250716.csv",
    "jlac10": _TABLES / "jlac10_medis_matome_2022-09.tsv",
    "jfagy": _TABLES / "JFAGY/csv/sj_JFAGY_J9FN_20250401_R01.csv",
}
_DISEASES = _TABLES / "receipt_disease_masterB_20241230.tsv"
_USAGES = _TABLES / "jp-core-external-2023-05/CodeSystem-jp-medication-usage-jami-cs.json"
_PACKAGE = _STANDARDS / "fhir/packages/jp-eCSCLINS.r4#1.10.0-snap/package"

official = pytest.mark.skipif(
    not all(path.is_file() for path in (*_FILES.values(), _DISEASES, _USAGES)), reason="the publishers' tables are not here"
)


def _items() -> Iterator[Item]:
    for kind, path in _FILES.items():
        yield from read_items(LAYOUTS[kind], list(read_tables(read_source(path))), date(2025, 11, 22), Counter())
    for path in (_USAGES, *sorted(_PACKAGE.glob("CodeSystem-jp-clins-codesystem-JLAC1*"))):
        yield from read_code_system(read_source(path), Counter()).items


def _entries() -> Iterator[Entry]:
    with _DISEASES.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if row["code"] != "0000999":
                name = row["display"]
                yield Entry(Kind.CONDITION, name, (name,), (Coding(system=systems.RECEIPT_DISEASE, code=row["code"], display=name),))
    seen: set[tuple[str, str]] = set()
    for item in _items():
        if item.kind is not None and (item.system, item.code) not in seen:
            seen.add((item.system, item.code))
            codings = [Coding(system=system, code=code, display=shown) for system, code, shown in item.codings]
            yield Entry(item.kind, item.display, item.names, codings, item.facts)


@pytest.fixture(scope="module")
def published() -> Lexicon:
    return Lexicon(merge([*_entries(), *starter_entries()]), "published")


@pytest.mark.official
@official
def test_names_with_the_publishers_tables(published: Lexicon) -> None:
    assert wrong(published, "official") == []


@pytest.mark.official
@official
def test_no_product_is_taken_for_another(published: Lexicon) -> None:
    """The printed name of every product of the price list is that product's, or of several that print the same."""
    table = published.drugs
    printed: Counter[str] = Counter()
    for entry in published.entries(Kind.PRESCRIPTION):
        own = entry.code(systems.YJ)
        if own is None:
            continue
        read = table.read(entry.display)
        printed["coded" if read.codings else "not"] += 1
        assert [one.code for one in read.codings] in ([], [own]), entry.display
        # Another strength, form or maker is another product.
        name = parse_drug(entry.display)
        if name.maker and read.codings:
            assert not table.read(entry.display.replace("「", "「架空")).codings, entry.display
    assert printed["coded"] > 9_500
