"""Code systems and value sets: is a code in one? True, False, or None where what is loaded cannot say.

Source: http://hl7.org/fhir/R4/valueset.html (compose, filters) and http://hl7.org/fhir/R4/codesystem.html (content,
hierarchy, supplements).
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from app.fhir.profiles.definitions import canonical

# --- stored forms ----------------------------------------------------------------------------------------------------


class CodeSystem(msgspec.Struct, frozen=True, array_like=True):
    """`displays` and `parents` run beside `codes`; a parent is a position in `codes`."""

    url: str
    complete: bool
    codes: tuple[str, ...]
    displays: tuple[tuple[str, ...], ...]
    parents: tuple[tuple[int, ...], ...]
    case_sensitive: bool = True

    def united(self, other: "CodeSystem") -> "CodeSystem":
        """The codes of both; the displays of this one come first."""
        concepts = {c: (list(d), {self.codes[p] for p in ps}) for c, d, ps in _rows(self)}
        for code, displays, parents in _rows(other):
            known, above = concepts.setdefault(code, ([], set()))
            known += [d for d in displays if d not in known]
            above |= {other.codes[p] for p in parents}
        return _code_system(self.url, self.complete and other.complete, concepts, self.case_sensitive)

    def supplemented(self, supplement: "CodeSystem") -> "CodeSystem":
        """With the displays that a supplement adds, in other languages mostly; its unknown codes add nothing."""
        concepts = {c: (list(d), {self.codes[p] for p in ps}) for c, d, ps in _rows(self)}
        for code, displays, _ in _rows(supplement):
            if code in concepts:
                concepts[code][0].extend(d for d in displays if d not in concepts[code][0])
        return _code_system(self.url, self.complete, concepts, self.case_sensitive)


def _rows(system: CodeSystem) -> Iterable[tuple[str, tuple[str, ...], tuple[int, ...]]]:
    return zip(system.codes, system.displays, system.parents, strict=True)


def _code_system(
    url: str, complete: bool, concepts: dict[str, tuple[list[str], set[str]]], case_sensitive: bool
) -> CodeSystem:
    position = {code: n for n, code in enumerate(concepts)}
    return CodeSystem(
        url,
        complete,
        tuple(concepts),
        tuple(tuple(displays) for displays, _ in concepts.values()),
        tuple(tuple(sorted(position[p] for p in above if p in position)) for _, above in concepts.values()),
        case_sensitive,
    )


class Include(msgspec.Struct, frozen=True, array_like=True):
    system: str | None
    codes: tuple[str, ...]
    filters: tuple[tuple[str, str, str], ...]
    """(property, operator, value)."""
    value_sets: tuple[str, ...]


class ValueSet(msgspec.Struct, frozen=True, array_like=True):
    url: str
    include: tuple[Include, ...]
    exclude: tuple[Include, ...]
    expansion: tuple[tuple[str, str], ...] | None
    """(system, code), only where there is no compose."""


def compile_code_system(raw: dict[str, Any]) -> CodeSystem:
    """Raises KeyError, TypeError, ValueError or AttributeError when it is not a CodeSystem."""
    concepts: dict[str, tuple[list[str], set[str]]] = {}
    below: list[tuple[str, str]] = []

    def add(nested: list[dict[str, Any]], parent: str | None) -> None:
        for concept in nested:
            code = concept["code"]
            stated = [concept.get("display"), *(d.get("value") for d in concept.get("designation", ()))]
            displays, above = concepts.setdefault(code, ([], set()))
            displays += [d for d in stated if isinstance(d, str) and d not in displays]
            if parent is not None:
                above.add(parent)
            for prop in concept.get("property", ()):
                if prop.get("code") in ("parent", "subsumedBy"):
                    above.add(str(prop.get("valueCode")))
                elif prop.get("code") == "child":
                    below.append((str(prop.get("valueCode")), code))
            add(concept.get("concept", []), code)

    add(raw.get("concept", []), None)
    for child, parent in below:
        if child in concepts:
            concepts[child][1].add(parent)
    complete = raw.get("content") == "complete" and bool(concepts)
    return _code_system(raw["url"], complete, concepts, raw.get("caseSensitive") is not False)


def compile_value_set(raw: dict[str, Any]) -> ValueSet:
    """Raises KeyError, TypeError, ValueError or AttributeError when it is not a ValueSet."""
    compose = raw.get("compose") or {}
    expansion = raw.get("expansion")
    pairs: list[tuple[str, str]] = []

    def add(nested: list[dict[str, Any]]) -> None:
        for concept in nested:
            if "code" in concept and concept.get("abstract") is not True:
                pairs.append((concept.get("system", ""), concept["code"]))
            add(concept.get("contains", []))

    if not compose and expansion:
        add(expansion.get("contains", []))
    return ValueSet(
        raw["url"],
        tuple(_include(i) for i in compose.get("include", ())),
        tuple(_include(i) for i in compose.get("exclude", ())),
        tuple(pairs) if not compose and expansion else None,
    )


def _include(raw: dict[str, Any]) -> Include:
    return Include(
        raw.get("system"),
        tuple(c["code"] for c in raw.get("concept", ())),
        tuple((f["property"], f["op"], f["value"]) for f in raw.get("filter", ())),
        tuple(canonical(v) for v in raw.get("valueSet", ())),
    )


# --- membership ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _System:
    """A code system made ready for questions."""

    stored: CodeSystem
    position: dict[str, int]

    def find(self, code: str) -> int | None:
        return self.position.get(code if self.stored.case_sensitive else code.casefold())

    def below(self, code: str, ancestor: str) -> bool:
        """Is `code` a descendant of `ancestor` (not the same)?"""
        start, end = self.find(code), self.find(ancestor)
        if start is None or end is None:
            return False
        seen: set[int] = set()
        waiting = list(self.stored.parents[start])
        while waiting:
            here = waiting.pop()
            if here == end:
                return True
            if here not in seen:
                seen.add(here)
                waiting += self.stored.parents[here]
        return False


@dataclass(slots=True)
class _Set:
    """A value set with its code lists as sets."""

    stored: ValueSet
    include: list[tuple[Include, frozenset[str]]]
    exclude: list[tuple[Include, frozenset[str]]]
    expansion: frozenset[tuple[str, str]] | None


class _Source(Protocol):
    def code_system(self, url: str) -> CodeSystem | None: ...

    def value_set(self, url: str) -> ValueSet | None: ...


_LONGEST_KEPT = 200
"""Characters of a system and code whose answer is kept: longer ones are none, and must not fill the memory."""


class _NotAsked:
    pass


_NOT_ASKED = _NotAsked()


@dataclass(slots=True)
class Vocabulary:
    """Answers about codes, with what has been asked kept in memory."""

    source: _Source
    _systems: dict[str, _System] = field(default_factory=dict)
    _sets: dict[str, _Set] = field(default_factory=dict)
    _answers: dict[tuple[str, str | None, str], bool | None] = field(default_factory=dict)

    def displays(self, system: str, code: str) -> tuple[str, ...] | None:
        """Every display of a code; None when the system is not loaded whole or does not have the code."""
        found = self._system(system)
        if found is None or not found.stored.complete or (position := found.find(code)) is None:
            return None
        return found.stored.displays[position]

    def has_code(self, system: str, code: str) -> bool | None:
        found = self._system(system)
        if found is None:
            return None
        if found.find(code) is not None:
            return True
        return False if found.stored.complete else None

    def contains(self, value_set: str, system: str | None, code: str) -> bool | None:
        """`system` None: any system (an element of type code, string or uri has none)."""
        key = (value_set, system, code)
        # Another thread may clear the answers at any moment: they are read once.
        answer = self._answers.get(key, _NOT_ASKED)
        if isinstance(answer, _NotAsked):
            answer = self._contains(value_set, system, code, frozenset())
            if len(self._answers) > 50_000:  # a bound on memory, not on correctness
                self._answers.clear()
            if len(system or "") + len(code) <= _LONGEST_KEPT and value_set in self._sets:
                self._answers[key] = answer
        return answer

    def _contains(self, url: str, system: str | None, code: str, asked: frozenset[str]) -> bool | None:
        found = self._set(url)
        if found is None or url in asked:
            return None
        asked |= {url}
        if found.expansion is not None:
            if system is None:
                return any(c == code for _, c in found.expansion)
            return (system, code) in found.expansion
        inside = _any(self._included(i, codes, system, code, asked) for i, codes in found.include)
        if inside is False or not found.exclude:
            return inside
        outside = _any(self._included(i, codes, system, code, asked) for i, codes in found.exclude)
        if outside is True:
            return False
        return None if outside is None else inside

    def _included(
        self, include: Include, codes: frozenset[str], system: str | None, code: str, asked: frozenset[str]
    ) -> bool | None:
        answers: list[bool | None] = [self._contains(v, system, code, asked) for v in include.value_sets]
        if include.system is not None:
            if system is not None and system != include.system:
                return False
            if codes:
                answers.append(code in codes)
            elif include.filters:
                answers += [self._filtered(include.system, code, *f) for f in include.filters]
            else:
                answers.append(self.has_code(include.system, code))
        return _all(answers)

    def _filtered(self, system: str, code: str, prop: str, operator: str, value: str) -> bool | None:
        if prop == "code" and operator == "regex":
            return re.fullmatch(value, code) is not None
        known = self.has_code(system, code)
        found = self._system(system)
        if found is None or known is None:
            return None
        if known is False:
            return False
        if prop != "concept" or operator not in _HIERARCHY:
            return None
        answer = _HIERARCHY[operator](found, code, value)
        return answer if answer or found.stored.complete else None

    def _system(self, url: str) -> _System | None:
        if url not in self._systems:
            stored = self.source.code_system(url)
            if stored is None:
                return None  # not kept: a resource may name any system
            self._systems[url] = _System(
                stored,
                {c if stored.case_sensitive else c.casefold(): n for n, c in enumerate(stored.codes)},
            )
        return self._systems[url]

    def _set(self, url: str) -> _Set | None:
        if url not in self._sets:
            stored = self.source.value_set(url)
            if stored is None:
                return None
            self._sets[url] = _Set(
                stored,
                [(i, frozenset(i.codes)) for i in stored.include],
                [(i, frozenset(i.codes)) for i in stored.exclude],
                None if stored.expansion is None else frozenset(stored.expansion),
            )
        return self._sets[url]


_HIERARCHY: dict[str, Callable[[_System, str, str], bool]] = {
    "is-a": lambda s, code, value: code == value or s.below(code, value),
    "descendent-of": lambda s, code, value: s.below(code, value),
    "is-not-a": lambda s, code, value: not (code == value or s.below(code, value)),
    "=": lambda s, code, value: code == value,
}


def _any(answers: Iterable[bool | None]) -> bool | None:
    result: bool | None = False
    for answer in answers:
        if answer is True:
            return True
        if answer is None:
            result = None
    return result


def _all(answers: Iterable[bool | None]) -> bool | None:
    result: bool | None = True
    for answer in answers:
        if answer is False:
            return False
        if answer is None:
            result = None
    return result
