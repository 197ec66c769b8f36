"""The compiled form of StructureDefinitions: what of a snapshot the validator needs, and the tree that it walks.

A definition is stored as a flat list of elements (`Element`), in the order of the snapshot, and becomes a tree (`Node`)
when a resource first asks for it. Source of every rule: http://hl7.org/fhir/R4/elementdefinition.html and
http://hl7.org/fhir/R4/profiling.html.
"""

import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec

HL7 = "http://hl7.org/fhir/StructureDefinition/"
"""A type `X` of FHIR has the canonical `HL7 + X`."""

UNBOUNDED = -1

_SYSTEM_TYPE = "http://hl7.org/fhirpath/System."
_FHIR_TYPE = f"{HL7}structuredefinition-fhir-type"
_BEST_PRACTICE = f"{HL7}elementdefinition-bestpractice"

# A rule of JP-CLINS starts its sentence with its number: "R9011:Bundleに…", "R6031 Observation …".
_RULE_NUMBER = re.compile(r"\W*(R\d{3,5}[A-Z]?)\b")

_encoder = msgspec.json.Encoder(decimal_format="number")
_decoder = msgspec.json.Decoder(float_hook=Decimal)

# Checked by the walk itself, for every element of every resource.
EVERYWHERE = frozenset({"ele-1", "ext-1"})


class TypeRef(msgspec.Struct, frozen=True, array_like=True):
    """A type that an element may have; canonicals are without version."""

    code: str
    profiles: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()


class Slicing(msgspec.Struct, frozen=True, array_like=True):
    discriminators: tuple[tuple[str, str], ...]
    """(type, path) each: value, pattern, type, exists or profile."""
    closed: bool
    ordered: bool


class Element(msgspec.Struct, frozen=True, array_like=True):
    """One element of a snapshot. `max` is UNBOUNDED for `*`; `constraints` index the file's table of constraints."""

    path: str
    slice_name: str | None
    min: int
    max: int
    types: tuple[TypeRef, ...]
    constraints: tuple[int, ...]
    repeats: bool = False
    """Is it an array in JSON? That follows the base definition's maximum, not the profile's."""
    fixed: bytes | None = None
    """JSON text, as are `pattern`, `min_value` and `max_value`: a number keeps its digits."""
    pattern: bytes | None = None
    value_set: str | None = None
    """Canonical of a binding of strength `required`; weaker ones are not kept."""
    slicing: Slicing | None = None
    content_reference: str | None = None
    max_length: int | None = None
    min_value: bytes | None = None
    max_value: bytes | None = None


class Constraint(msgspec.Struct, frozen=True, array_like=True):
    """An invariant. `rule` is the number that JP-CLINS gives it, or empty."""

    key: str
    severity: str
    expression: str
    rule: str
    best_practice: bool


class Definition(msgspec.Struct, frozen=True, array_like=True):
    url: str
    type: str
    kind: str
    base: str | None
    profile: bool
    """False for a resource or data type of FHIR itself, true for a profile or an extension."""
    elements: tuple[Element, ...]
    version: str | None = None


def canonical(value: str) -> str:
    """A canonical without its `|version` and `#fragment`."""
    return value.partition("|")[0].partition("#")[0]


class ConstraintTable:
    """Numbers the constraints of all definitions, each once."""

    def __init__(self) -> None:
        self._numbers: dict[Constraint, int] = {}

    def number(self, raw: dict[str, Any]) -> int | None:
        key, expression = raw.get("key"), raw.get("expression")
        if not isinstance(key, str) or not isinstance(expression, str) or key in EVERYWHERE:
            return None
        found = _RULE_NUMBER.match(str(raw.get("human", "")))
        best = any(e.get("url") == _BEST_PRACTICE and e.get("valueBoolean") is True for e in raw.get("extension", ()))
        severity = "warning" if raw.get("severity") == "warning" else "error"
        constraint = Constraint(key, severity, expression, found[1] if found else "", best)
        return self._numbers.setdefault(constraint, len(self._numbers))

    @property
    def constraints(self) -> list[Constraint]:
        return list(self._numbers)


def compile_definition(raw: dict[str, Any], constraints: ConstraintTable) -> Definition:
    """A StructureDefinition with a snapshot. Raises KeyError, TypeError, ValueError or AttributeError when it is none."""
    root: str = raw["snapshot"]["element"][0]["path"]
    return Definition(
        url=raw["url"],
        type=raw["type"],
        kind=raw["kind"],
        base=canonical(raw["baseDefinition"]) if raw.get("baseDefinition") else None,
        profile=raw.get("derivation") == "constraint",
        elements=tuple(
            _compile_element(e, constraints, root, raw["kind"]) for e in raw["snapshot"]["element"]
        ),
        version=raw.get("version"),
    )  # fmt: skip


def _compile_element(raw: dict[str, Any], constraints: ConstraintTable, root: str, kind: str) -> Element:
    binding = raw.get("binding") or {}
    value_set = binding.get("valueSet") if binding.get("strength") == "required" else None
    numbers = [constraints.number(c) for c in raw.get("constraint", ())]
    slicing = raw.get("slicing")
    maximum = str(raw.get("max", "*"))
    path: str = raw["path"]
    types = tuple(_type(t, path, root, kind) for t in raw.get("type", ()))
    return Element(
        path=path,
        slice_name=raw.get("sliceName"),
        min=int(raw.get("min", 0)),
        max=UNBOUNDED if maximum == "*" else int(maximum),
        types=types,
        repeats=str((raw.get("base") or {}).get("max", maximum)) not in ("0", "1"),
        constraints=tuple(sorted({n for n in numbers if n is not None})),
        fixed=_json(raw, "fixed"),
        pattern=_json(raw, "pattern"),
        value_set=canonical(value_set) if value_set else None,
        slicing=_slicing(slicing) if slicing else None,
        content_reference=_fragment(raw.get("contentReference")),
        max_length=raw.get("maxLength"),
        min_value=_json(raw, "minValue"),
        max_value=_json(raw, "maxValue"),
    )


def _json(raw: dict[str, Any], name: str) -> bytes | None:
    """The value of `fixedUri`, `patternCoding` …, whatever its type is."""
    return next((_encoder.encode(v) for k, v in raw.items() if k.startswith(name) and k[len(name) :][:1].isupper()), None)


def _fragment(reference: str | None) -> str | None:
    """`#Observation.referenceRange`, or the same behind a canonical: the path of the element that it means."""
    return reference.rpartition("#")[2] if reference else None


def _slicing(raw: dict[str, Any]) -> Slicing:
    discriminators = tuple((d["type"], d["path"]) for d in raw.get("discriminator", ()))
    return Slicing(discriminators, raw.get("rules") == "closed", raw.get("ordered") is True)


def _type(raw: dict[str, Any], path: str, root: str, kind: str) -> TypeRef:
    # structuredefinition-xml-type and its kind give a type without `code`.
    code = str(raw.get("code") or f"{_SYSTEM_TYPE}String")
    if code.startswith(_SYSTEM_TYPE):
        stated = next((e.get("valueUrl") for e in raw.get("extension", ()) if e.get("url") == _FHIR_TYPE), None)
        code = str(stated or code.removeprefix(_SYSTEM_TYPE).lower())
        if kind == "resource" and path == f"{root}.id":
            code = "id"  # R4 states string for Resource.id; http://hl7.org/fhir/R4/resource.html says id
    return TypeRef(
        code, tuple(canonical(p) for p in raw.get("profile", ())), tuple(canonical(p) for p in raw.get("targetProfile", ()))
    )


# --- the tree --------------------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Node:
    """An element with its children. `children` are keyed by name; a choice `value[x]` is keyed `value[x]`."""

    element: Element
    name: str
    choice: bool
    fixed: Any = None
    pattern: Any = None
    bounds: tuple[Any, Any] = (None, None)
    """Lowest and highest value allowed."""
    children: dict[str, "Node"] = field(default_factory=dict)
    slices: list["Node"] = field(default_factory=list)
    names: dict[str, tuple["Node", TypeRef | None]] | None = None
    """JSON property -> the child and, for a choice, its type; filled by the walk at first use."""
    slice_table: Any = None
    """Filled by the slicer at first use."""
    optional: bool = False
    """May it be absent, whatever else there is? Then nothing has to be looked at where it is."""


@dataclass(slots=True, eq=False)
class Tree:
    """A definition ready to walk."""

    definition: Definition
    root: Node
    by_path: dict[str, Node]
    """First (unsliced) node of each path, for contentReference."""


def grow(definition: Definition) -> Tree:
    """The tree of a snapshot's flat list.

    A slice is hung on the element of its path; a slice name with "/" is a reslice only where the part before the last
    "/" is itself a sliced slice (JP-CLINS uses "/" inside plain names).
    """
    nodes = [_node(e) for e in definition.elements]
    root = nodes[0]
    by_path: dict[str, Node] = {root.element.path: root}
    open_at: list[Node] = [root]
    for node in nodes[1:]:
        depth = node.element.path.count(".")
        del open_at[depth:]
        if len(open_at) < depth:
            continue  # an element without its parent: nothing in a resource can reach it
        parent = open_at[depth - 1]
        owner = parent.children.get(node.name)
        if node.element.slice_name is None or owner is None:
            parent.children.setdefault(node.name, node)
            by_path.setdefault(node.element.path, node)
        else:
            outer = node.element.slice_name.rpartition("/")[0]
            sliced = next((s for s in owner.slices if s.element.slice_name == outer and s.element.slicing), owner)
            sliced.slices.append(node)
        open_at.append(node)
    for node in nodes:
        node.optional = node.element.min == 0 and all(s.element.min == 0 for s in node.slices)
    return Tree(definition, root, by_path)


def _node(element: Element) -> Node:
    name = element.path.rpartition(".")[2]
    bounds = (json_value(element.min_value), json_value(element.max_value))
    return Node(element, name, name.endswith("[x]"), json_value(element.fixed), json_value(element.pattern), bounds)


def json_value(text: bytes | None) -> Any:
    """A stored JSON value; None for none."""
    return None if text is None else _decoder.decode(text)
