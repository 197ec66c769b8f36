"""The loaded tables in memory: what a name means (`lookup`), what comes near it (`candidates`), which codes there are.

A name is found by equal keys only; nothing is guessed here. How a disease name is split, a drug name read and a near
name accepted is in `diseases`, `drugs` and `candidates`.
"""

import copy
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from app.terminology.candidates import TrigramIndex
from app.terminology.drugs import DrugTable
from app.terminology.entries import Entry, LocalEntry, Part
from app.terminology.mentions import Marker, Mention
from app.terminology.spelling import key, variant_key
from schemas import systems
from schemas.coding import Candidate, Coding
from schemas.statement import Kind

__all__ = ["Lexicon", "Mention", "Near", "as_candidates", "key"]

_Holder: TypeAlias = Entry | None
"""An entry; None where several entries with different codes have the name."""


_SHORT_KANA = re.compile("[ぁ-ゖァ-ヺー]{1,2}")


@dataclass(frozen=True)
class Near:
    """An entry whose name `name` is like a written one; `score` 0..1 (Dice coefficient of the trigrams)."""

    entry: Entry
    name: str
    score: float


class Lexicon:
    """All names of the loaded tables. Immutable; entries as `merge` gives them, or of one set of tables.

    `local`: the hospital's mapping table. `version`: of all of it; `tables`: of the tables alone, where the caller keeps
    one, so that he sees when `with_local` is enough. Building takes about 1 s for 100,000 names; what only some callers need
    (trigrams, the parsed drug names) is built at its first use and may be built by two threads at once, harmlessly.
    """

    # A name in two tables is marked as the kind that comes first here; looking it up goes by the statement's own kind.
    PRIORITY = (Kind.INFECTION, Kind.LAB, Kind.CONDITION, Kind.PRESCRIPTION, Kind.ALLERGY)

    def __init__(
        self, entries: Iterable[Entry], version: str, local: Iterable[LocalEntry] = (), tables: str = ""
    ) -> None:
        self.version, self.tables = version, tables
        self._by_kind: dict[Kind | Part, list[Entry]] = {}
        self._by_code: dict[str, dict[str, Entry]] = {}
        self._by_group: dict[str, list[Entry]] = {}
        for entry in entries:
            self._by_kind.setdefault(entry.kind, []).append(entry)
            for system, code, _, _ in entry.packed_codings:
                self._by_code.setdefault(system, {}).setdefault(code, entry)
            if group := entry.fact("group"):
                self._by_group.setdefault(group, []).append(entry)
        self._names: dict[Kind | Part, dict[str, _Holder]] = {}
        self._variants: dict[Kind | Part, dict[str, _Holder]] = {}
        for kind, group_of_kind in self._by_kind.items():
            self._names[kind], self._variants[kind] = _index(group_of_kind)
        self._marker = Marker(
            (kind, name)
            for kind in self.PRIORITY
            for entry in self._by_kind.get(kind, ())
            # A product (name with form and strength) is found by the ingredient or brand that it begins with.
            if not entry.fact("strength")
            for name in entry.marked_names
        )
        self._usages = {entry.fact("key"): entry for entry in reversed(self._by_kind.get(Part.USAGE, []))}
        self._local = _by_name(local)
        self._meant: LocalEntry | None = None

    def with_local(self, version: str, local: Iterable[LocalEntry]) -> "Lexicon":
        """The same tables beside another mapping table; both lexicons share what was built, in milliseconds."""
        changed = copy.copy(self)
        changed.version, changed._local = version, _by_name(local)
        return changed

    def meaning(self, row: LocalEntry) -> "Lexicon":
        """The same tables where every name of the row's kind is the row's: for one statement whose code a person chose."""
        changed = copy.copy(self)
        changed._meant = row
        return changed

    # --- names ---------------------------------------------------------------------------------------------------------

    def lookup(self, kind: Kind | Part, name: str) -> Entry | None:
        """The entry of `kind` that goes by `name`, or None: no entry, or several that differ in their codes."""
        exact = key(name)
        names = self._names.get(kind, {})
        if exact in names:
            return names[exact]
        if kind is Kind.ALLERGY and _SHORT_KANA.fullmatch(exact):
            # かき and カキ are a persimmon and an oyster, or the other way round; なし is a pear, or none.
            return None
        folded = variant_key(name)
        variants = self._variants.get(kind, {})
        if folded not in names:
            return variants.get(folded)
        if folded not in variants or variants[folded] is names[folded]:
            return names[folded]
        return None

    def local(self, kind: Kind, name: str) -> LocalEntry | None:
        """The hospital's own row whose name, or else code, is `name`."""
        if self._meant is not None and self._meant.kind is kind:
            return self._meant
        return self._local.get((kind, key(name)))

    def group(self, entry: Entry) -> list[Entry]:
        """The entries that are results of the same infection test as `entry` (HBs抗体: 定性, 定量, 希釈倍率)."""
        return self._by_group.get(entry.fact("group"), [])

    def entries(self, kind: Kind | Part) -> Sequence[Entry]:
        return self._by_kind.get(kind, ())

    def find_mentions(self, text: str) -> list[Mention]:
        """Known names in `text`, longest first at each place, left to right, without overlaps."""
        return self._marker.find(text)

    # --- codes ---------------------------------------------------------------------------------------------------------

    def find(self, system: str, code: str) -> Entry | None:
        """The entry that has this code."""
        return self._by_code.get(system, {}).get(code)

    def holds(self, system: str, code: str) -> bool:
        """Is the code in a loaded table and not retired, or made of one that is (allergen codes of drugs)?"""
        return self.display(system, code) is not None

    def display(self, system: str, code: str) -> str | None:
        """The display that the tables give the code."""
        entry = self.find(system, code)
        if entry is not None:
            return next(shown for held, one, shown, _ in entry.packed_codings if held == system and one == code)
        if system == systems.JFAGY_PRODUCT and code.startswith("YCM"):
            return self.display(systems.YJ, code.removeprefix("YCM"))
        return self.drugs.ingredient_display(code) if system == systems.JFAGY_INGREDIENT else None

    @cached_property
    def lab_displays(self) -> Mapping[tuple[str, str], str]:
        """Every code of the items that JP-CLINS names (43 core items, 5 infections) with its FHIR識別名."""
        shared = (systems.CORE_LAB, systems.CORE_LAB_11, systems.INFECTION_LAB, systems.INFECTION_LAB_11)
        return {
            (system, code): shown
            for of_system in shared
            for entry in self._by_code.get(of_system, {}).values()
            for system, code, shown, _ in entry.packed_codings
            if system == of_system
        }

    def department(self, name: str) -> Coding | None:
        """The SS-MIX2 code (統一診療科コード, two digits) of a department by its name."""
        entry = self.lookup(Part.DEPARTMENT, name)
        return entry.codings[0] if entry else None

    def usage(self, usage_key: str) -> tuple[Coding, ...]:
        """Codes of the usage with this key (`app.normalize.usage_key`)."""
        entry = self._usages.get(usage_key) if usage_key else None
        return entry.codings if entry else ()

    @cached_property
    def drugs(self) -> DrugTable:
        """The drug products by the parts of their names."""
        return DrugTable(self.entries(Kind.PRESCRIPTION), lambda name: self.lookup(Kind.PRESCRIPTION, name))

    # --- likeness ------------------------------------------------------------------------------------------------------

    def near(self, kind: Kind | Part, name: str, limit: int = 5) -> list[Near]:
        """The entries whose names are most like `name`, best first, one an entry; only those above 0.2."""
        found = self._trigrams(kind)
        owners, names, index = found
        best: dict[int, Near] = {}
        # Several names of one entry may come near: look further than `limit`.
        for at, score in index.nearest(variant_key(name), limit * 4 + 8):
            entry = owners[at]
            if id(entry) not in best:
                best[id(entry)] = Near(entry, names[at], score)
        return list(best.values())[:limit]

    def candidates(self, kind: Kind, name: str, limit: int = 5) -> tuple[Candidate, ...]:
        """Codings of the entries whose names are most like `name`, best first: for a person to choose from."""
        return as_candidates(self.near(kind, name, limit * 3), limit)

    def _trigrams(self, kind: Kind | Part) -> tuple[list[Entry], list[str], TrigramIndex]:
        built = self._indexes.get(kind)
        if built is None:
            pairs = [
                (entry, name)
                for entry in self._by_kind.get(kind, ())
                if entry.packed_codings
                for name in (entry.names or (entry.display,))
            ]
            names = [name for _, name in pairs]
            built = ([entry for entry, _ in pairs], names, TrigramIndex([variant_key(name) for name in names]))
            self._indexes[kind] = built
        return built

    @cached_property
    def _indexes(self) -> dict[Kind | Part, tuple[list[Entry], list[str], TrigramIndex]]:
        return {}


def _by_name(local: Iterable[LocalEntry]) -> dict[tuple[Kind, str], LocalEntry]:
    """A name before a code: the display of one row is sometimes the code of another."""
    rows = list(local)
    found: dict[tuple[Kind, str], LocalEntry] = {}
    for row in rows:
        found.setdefault((row.kind, key(row.display)), row)
    for row in rows:
        found.setdefault((row.kind, key(row.code)), row)
    return found


def as_candidates(near: Iterable[Near], limit: int = 5) -> tuple[Candidate, ...]:
    """One a display, with the first coding of its entry."""
    found: dict[str, Candidate] = {}
    for one in near:
        if one.entry.packed_codings and one.entry.display not in found:
            found[one.entry.display] = Candidate(coding=one.entry.codings[0], score=one.score, reason="trigram")
    return tuple(found.values())[:limit]


def _index(entries: Sequence[Entry]) -> tuple[dict[str, _Holder], dict[str, _Holder]]:
    """Names by key, and by variant key where that differs. A display counts before any other name; of entries with the
    same codes, and of those without one (the ingredient before its product of the same name), the first counts."""
    names: dict[str, _Holder] = {}
    variants: dict[str, _Holder] = {}
    displays: set[str] = set()
    for is_display in (True, False):
        for entry in entries:
            for name in entry.names:
                if (name == entry.display) is not is_display:
                    continue
                exact = key(name)
                if not is_display and exact in displays:
                    continue
                _claim(names, exact, entry)
                folded = variant_key(name)
                if folded != exact:
                    _claim(variants, sys.intern(folded), entry)
        if is_display:
            displays = set(names)
    return names, variants


def _claim(names: dict[str, _Holder], name: str, entry: Entry) -> None:
    if name not in names:
        names[name] = entry
        return
    holder = names[name]
    if holder is None or not holder.packed_codings or holder is entry:
        return
    if not entry.packed_codings:
        names[name] = entry
    elif holder.packed_codings[0][:2] != entry.packed_codings[0][:2]:
        names[name] = None
