"""Imported profiles, opened for checks: definitions are decoded when a resource first needs them."""

import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.fhir.profiles import archive
from app.fhir.profiles.definitions import HL7, Constraint, Definition, Tree, canonical, grow
from app.fhir.profiles.invariants import PARSER, Invariants
from app.fhir.profiles.valuesets import CodeSystem, ValueSet, Vocabulary
from app.fhir.profiles.walk import Walk
from schemas.issue import Issue


class Profiles:
    """What `import_profiles` wrote. May be shared by threads; opening reads one file and decodes no definition."""

    def __init__(self, content: archive.Content, fingerprint: str) -> None:
        self._content = content
        self._trees: dict[str, Tree] = {}
        self._rules: dict[str, tuple[Constraint, ...]] = {}
        self._lock = threading.Lock()
        self._undecided: Counter[str] = Counter()
        self.fingerprint = fingerprint
        """First 12 hexadecimal digits of the SHA-256 of the file."""
        self.packages: tuple[str, ...] = content.packages
        """`name#version` of what was imported."""
        self.warnings: tuple[str, ...] = content.warnings
        """What the import reported as missing or doubtful."""
        self.vocabulary = Vocabulary(self)
        trees = content.trees if content.parser == PARSER else {}
        self.invariants = Invariants(trees, self.vocabulary.contains)

    @staticmethod
    def open(path: Path) -> "Profiles":
        """Raises Unavailable when there is no such file, InvalidInput when it is damaged or of another version."""
        content, fingerprint = archive.read(path)
        return Profiles(content, fingerprint)

    def knows(self, url: str) -> bool:
        """Is there a definition (profile, extension, resource, data type) of this canonical, `|version` aside?"""
        return canonical(url) in self._content.definitions

    def check(self, resource: dict[str, Any], *, profile: str | None = None, own: tuple[str, ...] = ()) -> list[Issue]:
        """Everything wrong with a resource or Bundle, by the base definition of its type, the profiles that it claims
        in meta.profile and `profile`. Never raises for bad content.

        `own`: beginnings of URLs of the caller's own extensions, which no package defines and which are no fault.
        Texts are `path: rule`, the path with the names of the JSON properties, and hold no value of the resource.
        """
        return Walk(self, own).check(resource, profile)

    @property
    def undecided(self) -> Mapping[str, int]:
        """What passed unchecked, by canonical of the value set or key of the invariant: how often."""
        with self._lock:
            return dict(self._undecided)

    # --- for the walk ---

    def count_undecided(self, what: str) -> None:
        with self._lock:
            self._undecided[what] += 1

    def tree(self, url: str) -> Tree | None:
        """The definition of a canonical without version."""
        if url not in self._trees:
            blob = self._content.definitions.get(url)
            if blob is None:
                return None  # not kept: who sends resources could fill the memory with made-up canonicals
            self._trees[url] = grow(archive.unpack(blob, Definition))
        return self._trees[url]

    def type_tree(self, code: str) -> Tree | None:
        """The base definition of a resource or data type."""
        return self.tree(HL7 + code)

    def constraint(self, number: int) -> Constraint:
        return self._content.constraints[number]

    def code_system(self, url: str) -> CodeSystem | None:
        blob = self._content.code_systems.get(canonical(url))
        return None if blob is None else archive.unpack(blob, CodeSystem)

    def value_set_is_loaded(self, url: str) -> bool:
        return canonical(url) in self._content.value_sets

    def value_set(self, url: str) -> ValueSet | None:
        blob = self._content.value_sets.get(canonical(url))
        return None if blob is None else archive.unpack(blob, ValueSet)
