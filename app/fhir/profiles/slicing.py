"""Which slice does an item belong to? Discriminators of type value, pattern, type, exists and profile.

Source: http://hl7.org/fhir/R4/profiling.html#slicing and #discriminator. A discriminator that a slice leaves without
constant asks that its element exists where the slice requires it, and nothing otherwise.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from app.fhir.profiles.codings import members
from app.fhir.profiles.definitions import HL7, Node, Tree, TypeRef, canonical


@dataclass(slots=True)
class Item:
    """One value of an element as it stands in the resource."""

    value: Any
    shadow: Any
    """What stands in `_name` beside a primitive."""
    path: str
    type: TypeRef | None


class Resolver(Protocol):
    """What the slicer must ask of the walk."""

    def tree(self, url: str) -> Tree | None: ...

    def member_of(self, value_set: str, system: str | None, code: str) -> bool | None: ...

    def resolve(self, reference: Any) -> dict[str, Any] | None: ...

    def conforms(self, resource: dict[str, Any], profile: str) -> bool: ...

    def suits(self, resource: dict[str, Any], profile: str) -> bool: ...


def claims(resource: dict[str, Any]) -> set[str]:
    """The profiles in meta.profile, without versions."""
    meta = resource.get("meta")
    stated = meta.get("profile") if isinstance(meta, dict) else None
    return {canonical(c) for c in stated if isinstance(c, str)} if isinstance(stated, list) else set()


Test = Callable[[Item, Resolver], bool]


def equal_fixed(fixed: Any, value: Any) -> bool:
    """A `fixed[x]`: exactly the same (numbers by value, true is not 1)."""
    if isinstance(fixed, bool) or isinstance(value, bool):
        return fixed is value
    if isinstance(fixed, dict) and isinstance(value, dict):
        return fixed.keys() == value.keys() and all(equal_fixed(v, value[k]) for k, v in fixed.items())
    if isinstance(fixed, list) and isinstance(value, list):
        return len(fixed) == len(value) and all(equal_fixed(f, v) for f, v in zip(fixed, value, strict=True))
    return bool(fixed == value)


def matches_pattern(pattern: Any, value: Any) -> bool:
    """A `pattern[x]`: everything that the pattern states is there; lists may hold more."""
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(matches_pattern(v, value.get(k)) for k, v in pattern.items())
    if isinstance(pattern, list):
        return isinstance(value, list) and all(any(matches_pattern(p, v) for v in value) for p in pattern)
    return equal_fixed(pattern, value)


def slice_of(owner: Node, tree: Tree, item: Item, resolver: Resolver) -> Node | None:
    """The slice of `owner` that takes the item; None when no slice does."""
    slicing = owner.element.slicing
    if slicing is None or not owner.slices:
        return None
    if owner.slice_table is None:
        owner.slice_table = [
            (s, [_test(kind, path, s, tree, resolver) for kind, path in slicing.discriminators]) for s in owner.slices
        ]
    table: Sequence[tuple[Node, list[Test]]] = owner.slice_table
    for candidate, tests in table:
        if tests and all(test(item, resolver) for test in tests):
            return candidate
    return _only_one(slicing.discriminators, table, item, resolver) if slicing.closed else None


def _only_one(
    discriminators: Sequence[tuple[str, str]], table: Sequence[tuple[Node, list[Test]]], item: Item, resolver: Resolver
) -> Node | None:
    """In a closed slicing by profile, the only slice of a faulty resource's type: the faults inside it say more than
    that no slice takes it."""
    if len(discriminators) != 1 or discriminators[0][0] != "profile":
        return None
    path = discriminators[0][1]
    found = _values(item.value, path, resolver)
    kind = found[0].get("resourceType") if len(found) == 1 and isinstance(found[0], dict) else None
    same_type = []
    for candidate, _ in table:
        trees = [resolver.tree(p) for p in _wanted(_target(candidate, path, resolver))]
        if any(tree is not None and tree.definition.type == kind for tree in trees):
            same_type.append(candidate)
    return same_type[0] if len(same_type) == 1 else None


# --- one discriminator of one slice ----------------------------------------------------------------------------------


def _test(kind: str, path: str, candidate: Node, tree: Tree, resolver: Resolver) -> Test:
    if path == "url" and candidate.element.types and candidate.element.types[0].profiles:
        url = candidate.element.types[0].profiles[0]
        return lambda item, _: isinstance(item.value, dict) and item.value.get("url") == url
    target = _target(candidate, path, resolver)
    if kind == "type":
        return _type_test(path, target)
    if kind == "profile":
        return _profile_test(path, target)
    if kind == "exists":
        absent = target is None or target.element.max == 0
        return lambda item, r: bool(list(_values(item.value, path, r))) is not absent
    if target is None:
        return lambda item, r: True
    holds = _constants(target)
    if holds is not None:
        return _value_test(path, holds)
    if target.element.min > 0 and path != "$this":
        return lambda item, r: any(True for _ in _values(item.value, path, r))
    return lambda item, r: True


def _value_test(path: str, holds: Callable[[Any, Resolver], bool]) -> Test:
    return lambda item, r: any(holds(v, r) for v in _values(item.value, path, r))


def _type_test(path: str, target: Node | None) -> Test:
    codes = {t.code for t in target.element.types} if target else set()

    def test(item: Item, resolver: Resolver) -> bool:
        if path == "$this" and item.type is not None and item.type.code not in ("Reference", "Resource"):
            return item.type.code in codes
        return any(isinstance(v, dict) and str(v.get("resourceType")) in codes for v in _values(item.value, path, resolver)) or (
            path == "$this" and item.type is not None and item.type.code in codes
        )

    return test


def _profile_test(path: str, target: Node | None) -> Test:
    """Obeys one of the profiles of the target's types, or claims to: then its faults are reported where it stands, and
    it is not missed here as well."""
    wanted = _wanted(target)

    def test(item: Item, resolver: Resolver) -> bool:
        for value in _values(item.value, path, resolver):
            if isinstance(value, dict) and (claims(value) & set(wanted) or any(resolver.conforms(value, p) for p in wanted)):
                return True
        return False

    return test


def _wanted(target: Node | None) -> list[str]:
    """Canonicals that a target's types ask for; `resolve()` leads from a Reference to its target profiles."""
    types = target.element.types if target else ()
    return [p for t in types for p in (t.profiles or t.targets or (f"{HL7}{t.code}",))]


def _constants(node: Node) -> Callable[[Any, Resolver], bool] | None:
    """The test that a node's own constants make; those of its children where it has none itself."""
    if node.element.fixed is not None:
        return lambda value, _: equal_fixed(node.fixed, value)
    if node.element.pattern is not None:
        return lambda value, _: matches_pattern(node.pattern, value)
    inner = [(name, test) for name, child in node.children.items() if (test := _child_constants(child)) is not None]
    value_set = node.element.value_set
    if not inner and value_set is None:
        return None

    def constants_hold(value: Any, resolver: Resolver) -> bool:
        if value_set is not None and not _bound(value, value_set, resolver):
            return False
        return all(any(t(v, resolver) for v in _values(value, name, resolver)) for name, t in inner)

    return constants_hold


def _child_constants(child: Node) -> Callable[[Any, Resolver], bool] | None:
    """A child counts when the slice requires it."""
    if child.element.min == 0:
        return None
    return _constants(child)


def _bound(value: Any, value_set: str, resolver: Resolver) -> bool:
    return any(resolver.member_of(value_set, system, code) is True for system, code in members(value))


# --- paths of discriminators: http://hl7.org/fhir/R4/fhirpath.html#simple ----------------------------------------------

_STEP = re.compile(r"(\w+)(?:\((?:'([^']*)'|(\w+))?\))?")


@lru_cache(maxsize=512)
def _steps(path: str) -> tuple[tuple[str, str], ...]:
    """`a.extension('u').resolve()` -> ("a", ""), ("extension(", "u"), ("resolve(", "")."""
    if path == "$this":
        return ()
    steps = []
    for found in _STEP.finditer(path.removeprefix("$this.")):
        call = "(" if "(" in found[0] else ""
        steps.append((found[1] + call, found[2] or found[3] or ""))
    return tuple(steps)


def _target(node: Node, path: str, resolver: Resolver) -> Node | None:
    """The node that a discriminator's path leads to, through data types and profiles where the slice ends."""
    here: Node | None = node
    for name, argument in _steps(path):
        if here is None:
            return None
        if name in ("resolve(", "ofType("):
            continue  # the constraint stands on the reference's target profiles, or on the choice itself
        if name == "extension(":
            slices = _child(here, "extension", resolver)
            here = next(
                (s for s in slices.slices if s.element.types and argument in s.element.types[0].profiles), None
            ) if slices else None  # fmt: skip
            continue
        here = _child(here, name, resolver)
    return here


def _child(node: Node, name: str, resolver: Resolver) -> Node | None:
    for key in (name, f"{name}[x]"):
        if key in node.children:
            return node.children[key]
    for kind in node.element.types:
        for url in (*kind.profiles, f"{HL7}{kind.code}"):
            tree = resolver.tree(url)
            if tree is not None and (found := tree.root.children.get(name) or tree.root.children.get(f"{name}[x]")):
                return found
    return None


def _values(value: Any, path: str, resolver: Resolver) -> list[Any]:
    here = [value]
    for name, argument in _steps(path):
        if name == "resolve(":
            here = [r for v in here if (r := resolver.resolve(v)) is not None]
        elif name == "extension(":
            extensions = [e for v in here for e in _members(v, "extension")]
            here = [e for e in extensions if isinstance(e, dict) and e.get("url") == argument]
        elif name != "ofType(":
            here = [found for v in here for found in _members(v, name)]
    return here


def _members(value: Any, name: str) -> list[Any]:
    if not isinstance(value, dict):
        return []
    found = value.get(name)
    if found is None:  # a choice: `value` means valueQuantity
        length = len(name)
        found = next((v for k, v in value.items() if k.startswith(name) and k[length : length + 1].isupper()), None)
    if found is None:
        return []
    return found if isinstance(found, list) else [found]
