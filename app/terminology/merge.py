"""Entries of several tables -> one entry a concept.

Official masters know codes and full names; the starter knows how charts write them. `merge` joins the two so that an
official master never changes what an abbreviation of the starter means.
"""

import logging
import re
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from app.terminology.entries import STARTER_TABLE, Entry, Part
from app.terminology.spelling import key, variant_key
from schemas import systems
from schemas.coding import Coding
from schemas.statement import Kind

log = logging.getLogger(__name__)

# Systems in which one code is one concept. ICD-10 classes, general names and price list codes hold several each.
IDENTITY = frozenset({
    systems.DISEASE_KEY, systems.DISEASE_EXCHANGE, systems.RECEIPT_DISEASE, systems.MODIFIER_KEY,
    systems.MODIFIER_EXCHANGE, systems.RECEIPT_MODIFIER, systems.YJ, systems.JLAC10, systems.CORE_LAB,
    systems.CORE_LAB_11, systems.INFECTION_LAB, systems.INFECTION_LAB_11, systems.JFAGY_FOOD, systems.JFAGY_OTHER,
    systems.DEPARTMENT, systems.USAGE, systems.USAGE_JAMI,
})  # fmt: skip
# Kinds whose full names are terms: there an equal display is the same concept, and an official term keeps its meaning
# against a synonym of the starter. A test or a drug goes by names that several codes share.
_TERMS = (Kind.CONDITION, Kind.ALLERGY, Part.MODIFIER, Part.DEPARTMENT)
_TABLE, _STARTER = STARTER_TABLE
_ABBREVIATION = re.compile(r"[\x00-\x7f]+")


@dataclass(eq=False)
class _Concept:
    """An entry in the making; `entries` in the order in which their displays, codings and names count."""

    entries: list[Entry] = field(default_factory=list)
    codes: dict[str, str] = field(default_factory=dict)

    def fits(self, entry: Entry) -> bool:
        """Does no identity system have another code for it?"""
        return all(self.codes.get(system, code) == code for system, code, _, _ in entry.packed_codings if system in IDENTITY)

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)
        for system, code, _, _ in entry.packed_codings:
            if system in IDENTITY:
                self.codes.setdefault(system, code)


def merge(entries: Iterable[Entry]) -> list[Entry]:
    """One entry a concept, official ones in their order, then what only the starter has.

    Entries of one kind are one concept when they share a code of an identity system (see IDENTITY), or, for terms, their
    display; never when another identity system gives them different codes. The official display and codings come first,
    a starter's coding only where the official ones have none of its system; names of all are kept. Then:
    - A retired concept (property `retired`) is left out, and its codes are taken from every other entry.
    - A name of the starter that an official entry has for another concept keeps the starter's meaning, except the
      display of an official term: that full name means its own code, and the starter's synonym is dropped (logged).
    - A laboratory code that only an official table has says which method was used, and a note does not. It is kept for
      `Lexicon.find`, without names, unless its method is 999 (JLAC10) or 000 (JLAC11), その他.
    - Only names of the starter are marked in notes (`Entry.marks`): the model was trained with those marks. With the names
      of the receipt disease master as well it did worse (name F1 on tests/notes/gold.jsonl 0.871 for 0.874).
    """
    official: list[Entry] = []
    starter: list[Entry] = []
    withdrawn: list[Entry] = []
    for entry in entries:
        facts = entry.properties
        (withdrawn if facts.get("retired") else starter if facts.get(_TABLE) == _STARTER else official).append(entry)
    retired = {packed[:2] for entry in withdrawn for packed in entry.packed_codings[:1]}
    if retired:
        retired -= {packed[:2] for entry in official for packed in entry.packed_codings}
    if not official and not retired:
        return starter
    concepts: list[_Concept] = []
    by_code: dict[tuple[object, str, str], _Concept] = {}
    by_display: dict[tuple[object, str], list[_Concept]] = {}
    for entry in (*official, *starter):
        concept = _concept_of(entry, by_code, by_display)
        if concept is None:
            concept = _Concept()
            concepts.append(concept)
        concept.add(entry)
        for system, code, _, _ in entry.packed_codings:
            if system in IDENTITY:
                by_code.setdefault((entry.kind, system, code), concept)
        if entry.kind in _TERMS:
            known = by_display.setdefault((entry.kind, variant_key(entry.display)), [])
            if concept not in known:
                known.append(concept)
    return _with_names(concepts, {id(entry) for entry in starter}, retired)


def _concept_of(
    entry: Entry,
    by_code: dict[tuple[object, str, str], _Concept],
    by_display: dict[tuple[object, str], list[_Concept]],
) -> _Concept | None:
    for system, code, _, _ in entry.packed_codings:
        concept = by_code.get((entry.kind, system, code)) if system in IDENTITY else None
        if concept is not None and concept.fits(entry):
            return concept
    if entry.kind in _TERMS:
        known = by_display.get((entry.kind, variant_key(entry.display)), ())
        fitting = [concept for concept in known if concept.fits(entry)]
        exact = [concept for concept in fitting if key(concept.entries[0].display) == key(entry.display)]
        # Two official concepts of one display are two: which of them is meant is not said.
        for same in (exact, fitting):
            if len(same) == 1:
                return same[0]
    return None


def _with_names(
    concepts: Sequence[_Concept], starters: AbstractSet[int], retired: AbstractSet[tuple[str, str]]
) -> list[Entry]:
    """The entries, each name with the concept that has the better right to it. `starters`: ids of the starter's entries."""
    # None: a display of several official concepts, which all keep it; looked up, it then means none of them.
    rights: dict[tuple[object, str], _Concept | None] = {}
    for concept in concepts:
        for entry in concept.entries:
            if id(entry) not in starters and entry.kind in _TERMS and not _ABBREVIATION.fullmatch(entry.display):
                name = (entry.kind, key(entry.display))
                rights[name] = concept if rights.get(name, concept) is concept else None
    for concept in concepts:
        for entry in concept.entries:
            for written in entry.names if id(entry) in starters else ():
                rights.setdefault((entry.kind, key(written)), concept)
    moved = 0
    made: list[Entry] = []
    for concept in concepts:
        names: dict[str, None] = {}
        marks: dict[str, None] = {}
        for entry in concept.entries:
            starter = id(entry) in starters
            for written in entry.names if starter else dict.fromkeys((entry.display, *entry.names)):
                if rights.get((entry.kind, key(written)), concept) in (concept, None):
                    names.setdefault(written)
                else:
                    moved += starter
            if starter:
                marks.update(dict.fromkeys(entry.marked_names))
        joined = _joined(concept.entries, retired)
        if not any(id(entry) in starters for entry in concept.entries) and _says_method(joined):
            names = {}
        made.append(joined.marked(tuple(names), tuple(marks)))
    if moved:
        log.info("names of the starter that an official table has for another concept", extra={"names": moved})
    return made


def _joined(entries: Sequence[Entry], retired: AbstractSet[tuple[str, str]]) -> Entry:
    """Codings of every system from the first entry that has some of it; properties of later entries over earlier ones."""
    first = entries[0]
    if len(entries) == 1 and not (retired and any(packed[:2] in retired for packed in first.packed_codings)):
        return first
    codings: dict[str, list[Coding]] = {}
    facts: dict[str, str] = {}
    for entry in entries:
        mine: dict[str, list[Coding]] = {}
        for coding in entry.codings:
            if (coding.system, coding.code) not in retired:
                mine.setdefault(coding.system, []).append(coding)
        codings = codings | {system: found for system, found in mine.items() if system not in codings}
        facts |= entry.properties
    flat = [coding for of_system in codings.values() for coding in of_system]
    return Entry(first.kind, first.display, first.names, flat, facts)


def _says_method(entry: Entry) -> bool:
    """Does a laboratory code say how the test was done? Characters 13 to 15 of JLAC10 and JLAC11; 999 and 000 are others."""
    if entry.kind not in (Kind.LAB, Kind.INFECTION):
        return False
    other = {systems.CORE_LAB_11: "000", systems.INFECTION_LAB_11: "000"}
    return any(code[12:15] != other.get(system, "999") for system, code, _, _ in entry.packed_codings)
