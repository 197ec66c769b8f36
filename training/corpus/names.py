"""Names for the synthetic corpus, drawn from the product's own starter tables and, where an operator has them,
from official masters (27,437 diseases, 12,434 drug products, JFAGY allergens, JLAC10 items).

Half of the draws come from common names, so that a small model meets them often; the rest is spread over everything,
so that it learns to copy names it has never seen.
"""

import csv
import random
import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

STARTER = Path(__file__).resolve().parents[2] / "app" / "terminology" / "starter"


@dataclass(frozen=True)
class Drug:
    """`name` ingredient or brand as written in charts; `form` 錠 …, `strength` 5mg … ('' if none is usual)."""

    name: str
    form: str
    strength: str


@dataclass(frozen=True)
class Analyte:
    """`name` as written in charts; `units` usual ones; `low`..`high` plausible values with `decimals` digits;
    `kind` quantity | urine (-, ±, 1+ …) | posneg."""

    name: str
    units: tuple[str, ...]
    low: float
    high: float
    decimals: int
    kind: str


def _rows(path: Path, encoding: str = "utf-8", delimiter: str = "\t") -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(encoding=encoding, newline="") as file:
        return [row for row in csv.DictReader(file, delimiter=delimiter) if row]


def _clean(text: str) -> str:
    return unicodedata.normalize("NFKC", text).strip()


class Names:
    """Draws names. `official`: a folder laid out as `terminology/` and `claims/` of the standards, or None."""

    def __init__(self, official: Path | None = None, starter: Path = STARTER) -> None:
        self.official = official
        self.starter = starter

    # -- diseases ---------------------------------------------------------------------------------------------

    @cached_property
    def _diseases(self) -> tuple[list[str], list[str]]:
        common = []
        for row in _rows(self.starter / "diseases.tsv"):
            common.append(row["name"])
            common += [s for s in row["synonyms"].split("|") if s]
        wide = []
        if self.official:
            for row in _rows(self.official / "fhir/packages/terminology/receipt_disease_masterB_20241230.tsv"):
                name = _clean(row["display"])
                if 2 <= len(name) <= 14 and "*" not in name:
                    wide.append(name)
        return common, wide or common

    def disease(self, rng: random.Random) -> str:
        """A disease as a doctor writes it: full name, synonym or abbreviation."""
        common, wide = self._diseases
        return rng.choice(common if rng.random() < 0.65 else wide)

    # -- drugs ------------------------------------------------------------------------------------------------

    @cached_property
    def _drugs(self) -> tuple[list[Drug], list[Drug]]:
        common = []
        for row in _rows(self.starter / "drugs.tsv"):
            names = [row["ingredient"], *row["salts"].split("|"), *row["brands"].split("|")]
            forms, strengths = row["forms"].split("|"), row["strengths"].split("|")
            common += [Drug(n, f, s) for n in names if n for f in forms for s in strengths]
        wide = []
        if self.official:
            for row in _rows(self.official / "claims/masters/mhlw_price_20250716.csv", "utf-8-sig", ","):
                name = re.sub(r"「.*?」|\(.*?\)", "", _clean(row["品名"]))
                found = re.match(r"^(.{2,16}?)(OD錠|口腔内崩壊錠|腸溶錠|徐放錠|錠|カプセル|散|細粒|顆粒|シロップ|点眼液|軟膏|クリーム|テープ|吸入液|注射液|注|液)?([0-9.]+(?:mg|μg|g|mL|%|単位).*)?$", name)
                if found and row["区分"] != "歯科用薬剤":
                    wide.append(Drug(found[1], found[2] or "", found[3] or ""))
        return common, wide or common

    def drug(self, rng: random.Random) -> Drug:
        common, wide = self._drugs
        return rng.choice(common if rng.random() < 0.6 else wide)

    # -- laboratory -------------------------------------------------------------------------------------------

    @cached_property
    def _analytes(self) -> tuple[list[Analyte], list[Analyte]]:
        core: list[Analyte] = []
        other: list[Analyte] = []
        for row in _rows(self.starter / "lab_items.tsv"):
            for name in [row["name"], *row["synonyms"].split("|")]:
                if name:
                    units = tuple(u for u in row["units"].split("|") if u)
                    item = Analyte(
                        name, units, float(row["low"] or 0), float(row["high"] or 0), int(row["decimals"] or 0), row["kind"]
                    )
                    (core if row["core"] else other).append(item)
        return core, other

    def analyte(self, rng: random.Random) -> Analyte:
        core, other = self._analytes
        if rng.random() < 0.08 and self.official:
            return Analyte(rng.choice(self._wide_analytes), ("mg/dL", "U/mL", "ng/mL", "%", ""), 0.1, 300, 1, "quantity")
        return rng.choice(core if rng.random() < 0.65 else other or core)

    @cached_property
    def _wide_analytes(self) -> list[str]:
        assert self.official
        rows = _rows(self.official / "fhir/packages/terminology/jlac10_medis_matome_2022-09.tsv")
        found = {re.split(r"[_[]", _clean(row["display"]))[0] for row in rows}
        return sorted(n for n in found if 2 <= len(n) <= 10)

    # -- allergens, infections --------------------------------------------------------------------------------

    @cached_property
    def _allergens(self) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        common: dict[str, list[str]] = {}
        for row in _rows(self.starter / "allergens.tsv"):
            common.setdefault(row["category"], []).extend([row["name"], *[s for s in row["synonyms"].split("|") if s]])
        wide: dict[str, list[str]] = {}
        if self.official:
            for path in sorted((self.official / "fhir/packages/terminology/JFAGY/csv").glob("utf8*.csv")):
                for row in _rows(path, "utf-8-sig", ","):
                    name = re.sub(r"[\[【（(].*", "", _clean(row["JPTERM"]))
                    if row["JFAGYCODE"].startswith("J9F") and 2 <= len(name) <= 9:
                        wide.setdefault("food", []).append(name)
        return common, wide

    def allergen(self, rng: random.Random, category: str) -> str:
        """`category` medication | food | environment | other. A medication may also be any drug's name."""
        common, wide = self._allergens
        if category == "medication" and rng.random() < 0.4:
            return self.drug(rng).name
        if category == "food" and wide.get("food") and rng.random() < 0.15:
            return rng.choice(wide["food"])
        return rng.choice(common[category])

    @cached_property
    def _infections(self) -> list[str]:
        found = []
        for row in _rows(self.starter / "infections.tsv"):
            found += [n for n in row["names"].split("|") if n]
        return sorted(set(found))

    def infection(self, rng: random.Random) -> str:
        """The name of an infection test as written: HBs抗原, HBsAg, HCV-Ab, TPHA …"""
        return rng.choice(self._infections)
