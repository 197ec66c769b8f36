"""The JSON form: the properties of an object become the values of its elements, and what is misshapen is told.

Source: http://hl7.org/fhir/R4/json.html (arrays, choices, `_name` beside primitives, nothing empty).
"""

import re
from collections.abc import Callable
from typing import Any

from app.fhir.profiles.definitions import Node, TypeRef
from app.fhir.profiles.slicing import Item
from schemas.issue import IssueType

_NAME = re.compile(r"_?[A-Za-z]{1,64}")
PRIMITIVE = re.compile(r"[a-z]")
"""Codes of primitive types begin with a small letter."""

Add = Callable[[IssueType, str, str], None]
"""Takes a finding: its type, path and rule."""


def items_of(value: dict[str, Any], node: Node, path: str, add: Add, is_root: bool) -> dict[int, list[Item]]:
    """The values of each child of `node`, by the child's id; `is_root`: `resourceType` stands beside them."""
    names = node.names if node.names is not None else _name(node)
    found: dict[int, list[Item]] = {}
    for key, content in value.items():
        plain = key.removeprefix("_")
        if plain not in names:
            if key != "resourceType" or not is_root:
                _unknown(key, node, path, add)
            continue
        if key != plain and plain in value:
            continue  # read together with its value
        child, kind = names[plain]
        items = _items(content if key == plain else None, value.get(f"_{plain}"), child, kind, f"{path}.{plain}", add)
        found.setdefault(id(child), []).extend(items)
    return found


def type_of(item: Item, types: tuple[TypeRef, ...]) -> TypeRef | None:
    """Which of the allowed types a value has; None for none of them."""
    stated = item.value.get("resourceType") if isinstance(item.value, dict) else None
    plain = item.type.code if item.type else types[0].code
    codes = {plain, "*"} if stated is None else {str(stated), "Resource", "DomainResource"}
    return next((t for t in types if t.code in codes), None)


def _name(node: Node) -> dict[str, tuple[Node, TypeRef | None]]:
    """JSON property -> child and type, kept on the node."""
    names: dict[str, tuple[Node, TypeRef | None]] = {}
    for child in node.children.values():
        if child.choice:
            stem = child.name.removesuffix("[x]")
            for kind in child.element.types:
                names.setdefault(stem + kind.code[:1].upper() + kind.code[1:], (child, kind))
    for child in node.children.values():
        if not child.choice:
            names[child.name] = (child, child.element.types[0] if child.element.types else None)
    node.names = names
    return names


def _unknown(key: str, node: Node, path: str, add: Add) -> None:
    if not _NAME.fullmatch(key):  # may be anything: not shown
        add(IssueType.STRUCTURE, path, "unknown element with an impossible name")
        return
    stems = [c.name.removesuffix("[x]") for c in node.children.values() if c.choice]
    choice = any(key.startswith(stem) and key[len(stem) :][:1].isupper() for stem in stems)
    add(IssueType.STRUCTURE, f"{path}.{key}", "a type that is not allowed here" if choice else "unknown element")


def _items(content: Any, shadow: Any, child: Node, kind: TypeRef | None, path: str, add: Add) -> list[Item]:
    """The values of one property, arrays taken apart; `shadow` is what stands in `_name`."""
    primitive = kind is not None and PRIMITIVE.match(kind.code) is not None and kind.code != "xhtml"
    if shadow is not None and not primitive:
        add(IssueType.STRUCTURE, path, "an extension of a primitive beside what is none")
        shadow = None
    if child.element.repeats:
        return _many(content, shadow, kind, path, add)
    if isinstance(content, list) or isinstance(shadow, list):
        add(IssueType.STRUCTURE, path, "an array where one value is expected")
        content = content[0] if isinstance(content, list) and content else content
        shadow = None
        if isinstance(content, list):
            return []
    if content is None and shadow is None:
        add(IssueType.STRUCTURE, path, "empty")
        return []
    return [Item(content, shadow, path, kind)]


def _many(content: Any, shadow: Any, kind: TypeRef | None, path: str, add: Add) -> list[Item]:
    if not isinstance(content, list | None) or not isinstance(shadow, list | None):
        add(IssueType.STRUCTURE, path, "one value where an array is expected")
        content = content if isinstance(content, list | None) else [content]
        shadow = shadow if isinstance(shadow, list | None) else None
    values, shadows = list(content or ()), list(shadow or ())
    length = max(len(values), len(shadows))
    if length == 0 or (content is not None and shadow is not None and len(values) != len(shadows)):
        add(IssueType.STRUCTURE, path, "empty" if length == 0 else "arrays of different length")
    items = []
    for n in range(length):
        one = values[n] if n < len(values) else None
        beside = shadows[n] if n < len(shadows) else None
        if one is None and beside is None:
            add(IssueType.STRUCTURE, f"{path}[{n}]", "empty")
            continue
        items.append(Item(one, beside, f"{path}[{n}]", kind))
    return items
