"""One check: a resource walked along the snapshots of its base definition and of the profiles that it claims.

Source of the rules: http://hl7.org/fhir/R4/validation.html, json.html, elementdefinition.html, references.html. Every
finding names the path of the place with the names of the JSON properties and never a value of the resource.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.fhir.elements import objects
from app.fhir.profiles import primitives
from app.fhir.profiles.codings import coding_faults, members
from app.fhir.profiles.definitions import HL7, UNBOUNDED, Constraint, Node, Tree, TypeRef, canonical
from app.fhir.profiles.form import PRIMITIVE, items_of, type_of
from app.fhir.profiles.invariants import Scope
from app.fhir.profiles.references import Links, reference_fault
from app.fhir.profiles.slicing import Item, equal_fixed, matches_pattern, slice_of
from schemas.issue import Issue, IssueType, Severity

if TYPE_CHECKING:
    from app.fhir.profiles.store import Profiles

_JP = re.compile(r"https?://([\w.-]+\.)?jpfhir\.jp/")
_ABSTRACT = ("Resource", "DomainResource")
_MAX_DEPTH = 60
_MAX_SEARCHED = 200
"""Entries of a Bundle up to which a broken invariant of the whole is traced to single ones: about 1 ms for each."""

Json = dict[str, Any]


@dataclass(slots=True)
class _Here:
    """Where the walk stands: the definition that it follows, the scope of invariants, the sink of findings."""

    tree: Tree
    scope: Scope
    out: list[Issue]
    depth: int = 0

    def add(self, code: IssueType, path: str, what: str, severity: Severity = Severity.ERROR) -> None:
        self.out.append(Issue(severity=severity, code=code, text=f"{path}: {what}"))


class Walk:
    """The state of one check; implements what slicing must ask (`slicing.Resolver`)."""

    def __init__(self, profiles: "Profiles", own: tuple[str, ...]) -> None:
        self._profiles = profiles
        self._own = own
        self._links = Links({})
        self._found: dict[tuple[int, str], list[Issue]] = {}
        self._places: dict[int, tuple[str, Json]] = {}
        """id of a resource -> its path and its container (itself where it has none)."""
        self._held: dict[tuple[str, int], bool | None] = {}
        self._scope_root: Json = {}
        """The resource whose contained ones `#id` means, while slices are chosen."""

    def check(self, resource: Json, profile: str | None) -> list[Issue]:
        out: list[Issue] = []
        kind = resource.get("resourceType")
        known = isinstance(kind, str) and self._profiles.type_tree(kind) is not None
        path = kind if known and isinstance(kind, str) else "Resource"
        try:
            # Places are kept by identity, and fhirpathpy may write into what it is given.
            resource = _unshared(resource)
            self._links = Links(resource)
            self._note_places(resource, path, resource)
            if profile is not None and not self._profiles.knows(profile):
                what = "the profile that was asked for is not loaded"
                out.append(Issue(severity=Severity.ERROR, code=IssueType.NOT_FOUND, text=f"{path}: {what}"))
            self._resource(resource, path, resource, out, (canonical(profile),) if profile else (), 0)
        except RecursionError:
            out.append(Issue(severity=Severity.ERROR, code=IssueType.STRUCTURE, text=f"{path}: nested too deep"))
        return _distinct(out)

    def _note_places(self, resource: Json, path: str, container: Json) -> None:
        self._places[id(resource)] = (path, container)
        for name, inner in (("contained", resource), ("entry", None)):
            for position, part in enumerate(objects(resource.get(name))):
                where = f"{path}.{name}[{position}]"
                if inner is not None:
                    self._places[id(part)] = (where, resource)
                elif isinstance(below := part.get("resource"), dict):
                    self._note_places(below, f"{where}.resource", below)

    # --- slicing.Resolver ---

    def tree(self, url: str) -> Tree | None:
        return self._profiles.tree(url)

    def member_of(self, value_set: str, system: str | None, code: str) -> bool | None:
        return self._profiles.vocabulary.contains(value_set, system, code)

    def resolve(self, reference: Any) -> Json | None:
        target = reference.get("reference") if isinstance(reference, dict) else None
        return self._links.find(target, self._scope_root) if isinstance(target, str) else None

    def conforms(self, resource: Json, profile: str) -> bool:
        """Has the resource no error by this profile? False for another type or a profile that is not loaded."""
        tree = self._profiles.tree(profile)
        if tree is None or tree.definition.type not in (resource.get("resourceType"), *_ABSTRACT):
            return False
        if profile.startswith(HL7) and not tree.definition.profile:
            return True  # a type, not a profile: its faults are reported where the resource stands
        path, container = self._places.get(id(resource), (str(tree.definition.type), resource))
        return not any(i.severity == Severity.ERROR for i in self._against(resource, path, container, tree))

    def suits(self, resource: Json, profile: str) -> bool:
        """As `conforms`, but faults that are reported where the resource stands anyway do not count."""
        if self.conforms(resource, profile):
            return True
        tree = self._profiles.tree(profile)
        kind = resource.get("resourceType")
        base = self._profiles.type_tree(kind) if isinstance(kind, str) else None
        if tree is None or base is None or tree.definition.type != kind or id(resource) not in self._places:
            return False
        path, container = self._places[id(resource)]
        told = {i.text for t in [base, *self._claimed(resource, path, str(kind), [])]
                for i in self._against(resource, path, container, t)}  # fmt: skip
        return not any(
            i.severity == Severity.ERROR and i.text not in told for i in self._against(resource, path, container, tree)
        )

    # --- resources ---

    def _resource(
        self, resource: Json, path: str, container: Json, out: list[Issue], wanted: tuple[str, ...], depth: int
    ) -> None:
        """`wanted`: profiles that the element asks for, one of which has to fit."""
        kind = resource.get("resourceType")
        base = self._profiles.type_tree(kind) if isinstance(kind, str) else None
        if base is None or base.definition.kind != "resource" or not isinstance(kind, str) or kind in _ABSTRACT:
            what = "not a resource type of FHIR R4"
            out.append(Issue(severity=Severity.ERROR, code=IssueType.STRUCTURE, text=f"{path}: {what}"))
            return
        if depth > _MAX_DEPTH:
            raise RecursionError
        self._places.setdefault(id(resource), (path, container))
        names = [part.get("id") for part in objects(resource.get("contained"))]
        for n, name in enumerate(names):
            if name in names[:n]:
                what = "stands twice among the contained resources"
                out.append(Issue(severity=Severity.ERROR, code=IssueType.BUSINESS_RULE, text=f"{path}.contained[{n}].id: {what}"))
        trees = [base, *self._claimed(resource, path, kind, out)]
        fitting = [p for p in wanted if self._fits(p, kind)]
        if wanted and not fitting:
            what = "another type of resource is required here"
            out.append(Issue(severity=Severity.ERROR, code=IssueType.STRUCTURE, text=f"{path}: {what}"))
        asked = [t for p in fitting if (t := self._profiles.tree(p)) is not None]
        for url in set(fitting) - {t.definition.url for t in asked}:
            self._profiles.count_undecided(url)
        if len(asked) == 1 or not any(self.conforms(resource, t.definition.url) for t in asked):
            trees += asked
        for tree in dict.fromkeys(trees):
            out += self._against(resource, path, container, tree)

    def _fits(self, profile: str, kind: str) -> bool:
        tree = self._profiles.tree(profile)
        return tree is None or tree.definition.type in (kind, *_ABSTRACT)

    def _claimed(self, resource: Json, path: str, kind: str, out: list[Issue]) -> Iterator[Tree]:
        meta = resource.get("meta")
        claims = meta.get("profile") if isinstance(meta, dict) else None
        for position, claim in enumerate(claims if isinstance(claims, list) else []):
            if not isinstance(claim, str):
                continue
            where = f"{path}.meta.profile[{position}]"
            tree = self._profiles.tree(canonical(claim))
            if tree is None:
                what, severity = "this profile is not loaded and was not checked", Severity.WARNING
                out.append(Issue(severity=severity, code=IssueType.NOT_FOUND, text=f"{where}: {what}"))
            elif tree.definition.type not in (kind, *_ABSTRACT):
                what = "a profile of another type of resource"
                out.append(Issue(severity=Severity.ERROR, code=IssueType.VALUE, text=f"{where}: {what}"))
            else:
                asked, loaded = claim.partition("|")[2], tree.definition.version
                if asked and loaded is not None and not f"{loaded}.".startswith(f"{asked}."):
                    what = "checked against another version of this profile, the one that is loaded"
                    out.append(Issue(severity=Severity.WARNING, code=IssueType.NOT_SUPPORTED, text=f"{where}: {what}"))
                yield tree

    def _against(self, resource: Json, path: str, container: Json, tree: Tree) -> list[Issue]:
        key = (id(resource), tree.definition.url)
        if key not in self._found:
            self._found[key] = []  # a reference back to a resource that is being checked counts as fitting
            here = _Here(tree, Scope(resource, container), [])
            outer, self._scope_root = self._scope_root, container
            self._complex(resource, tree.root, path, here, type_path=str(resource.get("resourceType")))
            self._scope_root = outer
            self._found[key] = here.out
        return self._found[key]

    # --- elements ---

    def _complex(self, value: Json, node: Node, path: str, here: _Here, *, type_path: str) -> None:
        """The invariants of an object by a node and its children, both of the definition that `here` follows."""
        self._invariants(value, node, path, here, type_path)
        self._children(value, node, path, here)

    def _children(self, value: Json, node: Node, path: str, here: _Here) -> None:
        found = items_of(value, node, path, here.add, node is here.tree.root)
        for child in node.children.values():
            items = found.get(id(child))
            if items or not child.optional:
                self._repeated(child, items or [], f"{path}.{child.name.removesuffix('[x]')}", here)

    def _repeated(self, child: Node, items: list[Item], path: str, here: _Here) -> None:
        """Cardinality, slices, then each value."""
        element = child.element
        _count(len(items), element.min, element.max, path, "", here)
        if element.slicing is not None and child.slices:
            if items or element.min == 0:  # else that the whole is missing has been said
                self._slices(child, items, path, here, inner=False)
        else:
            for item in items:
                self._value(item, child, here)

    def _slices(self, owner: Node, items: list[Item], path: str, here: _Here, *, inner: bool) -> None:
        """Each item by its slice, and each slice's cardinality. `inner`: `owner` is a slice that is sliced again."""
        slicing = owner.element.slicing
        taken: dict[int, list[Item]] = {id(s): [] for s in owner.slices}
        order = {id(s): n for n, s in enumerate(owner.slices)}
        last = 0
        for item in items:
            chosen = slice_of(owner, here.tree, item, self)
            if chosen is None:
                if slicing is not None and slicing.closed:
                    here.add(IssueType.STRUCTURE, item.path, "fits no slice of a closed slicing")
                if not inner:
                    self._value(item, owner, here)
                continue
            taken[id(chosen)].append(item)
            if slicing is not None and slicing.ordered and order[id(chosen)] < last:
                here.add(IssueType.STRUCTURE, item.path, "out of the order of the slices")
            last = max(last, order[id(chosen)])
            self._value(item, chosen, here)
            if owner.children and not chosen.children and not inner:
                self._value(item, owner, here)  # what a snapshot leaves out of a slice holds by the sliced element
        for candidate in owner.slices:
            held = taken[id(candidate)]
            what = f"slice {candidate.element.slice_name}: "
            _count(len(held), candidate.element.min, candidate.element.max, path, what, here)
            if candidate.slices and held:
                self._slices(candidate, held, path, here, inner=True)

    def _value(self, item: Item, node: Node, here: _Here) -> None:
        element, kind = node.element, item.type
        if element.types:
            kind = type_of(item, element.types)
            if kind is None:
                here.add(IssueType.STRUCTURE, item.path, "a type that is not allowed here")
                return
        if here.depth > _MAX_DEPTH:
            raise RecursionError
        code = kind.code if kind is not None else ""
        primitive = PRIMITIVE.match(code) is not None
        if primitive and not self._primitive(item, node, code, here):
            return
        if not primitive and not isinstance(item.value, dict):
            here.add(IssueType.STRUCTURE, item.path, "not an object")
            return
        if not primitive and not item.value:
            here.add(IssueType.STRUCTURE, item.path, "empty")
            return
        if element.fixed is not None and not equal_fixed(node.fixed, item.value):
            here.add(IssueType.VALUE, item.path, "not the fixed value")
        if element.pattern is not None and not matches_pattern(node.pattern, item.value):
            here.add(IssueType.VALUE, item.path, "does not have the required pattern")
        if element.value_set is not None and item.value is not None:
            self._binding(item.value, element.value_set, item.path, here)
        if primitive:
            self._invariants(item.value, node, item.path, here, code)
            return
        here.depth += 1
        self._object(item, node, kind, here)
        here.depth -= 1

    def _primitive(self, item: Item, node: Node, code: str, here: _Here) -> bool:
        """Value and extension of a primitive; False when the value cannot be looked at further."""
        if item.shadow is not None:
            base = self._profiles.type_tree("Element")
            if not isinstance(item.shadow, dict) or not item.shadow:
                here.add(IssueType.STRUCTURE, item.path, "the extension of a primitive is not an object")
            elif base is not None:
                inner = _Here(base, here.scope, here.out, here.depth + 1)
                self._complex(item.shadow, base.root, item.path, inner, type_path="Element")
        if item.value is None:
            return False
        if code == "xhtml":
            return True
        if isinstance(item.value, dict | list):
            here.add(IssueType.STRUCTURE, item.path, "an object or array where a primitive is expected")
            return False
        fault = primitives.fault(code, item.value)
        if fault is not None:
            here.add(IssueType.VALUE, item.path, fault)
            return False
        element = node.element
        if element.max_length is not None and len(str(item.value)) > element.max_length:
            here.add(IssueType.TOO_LONG, item.path, f"longer than {element.max_length} characters")
        if element.min_value is not None or element.max_value is not None:
            lowest, highest = node.bounds
            if primitives.out_of_range(code, item.value, lowest, highest):
                here.add(IssueType.VALUE, item.path, "outside the allowed range")
        return True

    def _object(self, item: Item, node: Node, kind: TypeRef | None, here: _Here) -> None:
        value, code = item.value, kind.code if kind is not None else ""
        if "resourceType" in value or code in _ABSTRACT:
            inside = node.element.path.endswith(".contained")
            wanted = kind.profiles if kind is not None else ()
            if not wanted and code not in (*_ABSTRACT, ""):
                wanted = (f"{HL7}{code}",)
            self._resource(value, item.path, here.scope.resource if inside else value, here.out, wanted, here.depth)
            return
        base = self._profiles.type_tree(code) if code else None
        backbone = code in ("BackboneElement", "Element") or base is None
        type_path = node.element.path if backbone else code
        if node.children:
            self._complex(value, node, item.path, here, type_path=type_path)
        elif (target := here.tree.by_path.get(node.element.content_reference or "")) is not None:
            self._invariants(value, node, item.path, here, target.element.path)
            self._complex(value, target, item.path, here, type_path=target.element.path)
        else:
            self._invariants(value, node, item.path, here, type_path)
        if base is not None:
            inner = _Here(base, here.scope, here.out, here.depth)
            if not node.children:
                self._complex(value, base.root, item.path, inner, type_path=code)
            elif not backbone:
                self._invariants(value, base.root, item.path, inner, code)
        self._typed(value, code, kind, item.path, here)

    def _typed(self, value: Json, code: str, kind: TypeRef | None, path: str, here: _Here) -> None:
        """What some data types ask beyond their elements: extensions, codings, references, type profiles."""
        if code == "Extension":
            self._extension(value, kind, path, here)
            return
        if code == "Coding":
            for issue, where, what, severity in coding_faults(value, self._profiles.vocabulary):
                here.add(issue, path + where, what, severity)
        if code == "Reference" and kind is not None:
            fault = reference_fault(value, kind.targets, self, self._links, here.scope.root)
            if fault is not None:
                here.add(IssueType.INVALID, f"{path}.reference" if "reference" in value else path, fault)
        profiles = [t for p in (kind.profiles if kind else ()) if (t := self._profiles.tree(p)) is not None]
        sinks: list[list[Issue]] = []
        for tree in profiles:
            inner = _Here(tree, here.scope, [], here.depth)
            self._complex(value, tree.root, path, inner, type_path=tree.definition.type)
            if not any(i.severity == Severity.ERROR for i in inner.out):
                return
            sinks.append(inner.out)
        if sinks:
            here.out += sinks[0]

    def _extension(self, value: Json, kind: TypeRef | None, path: str, here: _Here) -> None:
        # ext-1 of http://hl7.org/fhir/R4/extensibility.html, for every extension.
        if ("extension" in value) == any(k.removeprefix("_").startswith("value") for k in value):
            here.add(IssueType.BUSINESS_RULE, path, "ext-1 either extensions or a value")
        url = value.get("url")
        if not isinstance(url, str):
            return
        stated = kind.profiles[0] if kind is not None and kind.profiles else None
        if stated is None and ":" not in url:
            return  # a part of a complex extension, described by the definition that it stands in
        tree = self._profiles.tree(stated or canonical(url))
        if tree is not None:
            inner = _Here(tree, here.scope, here.out, here.depth)
            self._complex(value, tree.root, path, inner, type_path="Extension")
        elif _JP.match(url):
            here.add(IssueType.STRUCTURE, f"{path}.url", "an extension that no loaded package of jpfhir.jp defines")
        elif ".modifierExtension" in path.rpartition("]")[0].rpartition(".")[1] + path.rpartition(".")[2]:
            here.add(IssueType.STRUCTURE, f"{path}.url", "an unknown extension that changes the meaning")
        elif not url.startswith(self._own):
            here.add(IssueType.STRUCTURE, f"{path}.url", "an extension that is not loaded", Severity.INFORMATION)

    def _binding(self, value: Any, value_set: str, path: str, here: _Here) -> None:
        answers = [self.member_of(value_set, system, code) for system, code in members(value)]
        if True in answers or (not answers and isinstance(value, dict) and "value" in value):
            return  # a Quantity may have no code
        if None in answers or not self._profiles.value_set_is_loaded(value_set):
            self._profiles.count_undecided(value_set)
        elif isinstance(value, str | dict):
            here.add(IssueType.CODE_INVALID, path, f"not in the required value set {value_set}")

    # --- invariants ---

    def _invariants(self, value: Any, node: Node, path: str, here: _Here, type_path: str) -> None:
        for number in node.element.constraints:
            constraint = self._profiles.constraint(number)
            # A place is reached by the base definition, by each profile and by the slices that try it.
            key = (path, number)
            if key not in self._held:
                self._held[key] = self._profiles.invariants.holds(constraint, value, type_path, here.scope)
            held = self._held[key]
            if held is None:
                self._profiles.count_undecided(constraint.key)
            elif not held:
                self._broken(constraint, value, path, here, type_path)

    def _broken(self, constraint: Constraint, value: Any, path: str, here: _Here, type_path: str) -> None:
        if constraint.key == "dom-6" and path.rpartition(".")[2].startswith("contained["):
            return  # http://hl7.org/fhir/R4/references.html#contained: a contained resource should have no narrative
        severity = Severity.WARNING if constraint.severity == "warning" else Severity.ERROR
        if constraint.best_practice:
            severity = Severity.INFORMATION
        what = f"{constraint.key} {constraint.rule}".strip()
        places = self._guilty(constraint, value) if type_path == "Bundle" and "entry" in constraint.expression else []
        for where in [f"{path}.entry[{n}].resource" for n in places] or [path]:
            here.add(IssueType.BUSINESS_RULE, where, what, severity)

    def _guilty(self, constraint: Constraint, bundle: Json) -> list[int]:
        """Entries that break an invariant of the whole Bundle: those with which, beside the first entry alone, it does
        not hold. Empty when that says nothing (the first entry itself breaks it, or none does)."""
        entries = bundle.get("entry")
        if not isinstance(entries, list) or not 2 <= len(entries) <= _MAX_SEARCHED:
            return []

        def holds(chosen: list[Any]) -> bool:
            part = {**bundle, "entry": chosen}
            return self._profiles.invariants.holds(constraint, part, "Bundle", Scope(part, part)) is True

        if not holds(entries[:1]):
            return [0] if "entry.first()" in constraint.expression else []
        return [n for n, entry in enumerate(entries[1:], 1) if not holds([entries[0], entry])]


def _count(number: int, least: int, most: int, path: str, what: str, here: _Here) -> None:
    if number < least:
        here.add(IssueType.REQUIRED, path, f"{what}{'missing' if number == 0 else f'at least {least} required'}")
    elif most != UNBOUNDED and number > most:
        here.add(IssueType.STRUCTURE, path, f"{what}{'not allowed' if most == 0 else f'at most {most} allowed'}")


def _distinct(issues: list[Issue]) -> list[Issue]:
    """Each finding once; of several about the code of one place, the most severe."""
    codes: dict[str, Issue] = {}
    for issue in issues:
        place = issue.text.partition(": ")[0]
        known = codes.get(place)
        if issue.code == IssueType.CODE_INVALID and (known is None or known.severity == Severity.WARNING):
            codes[place] = issue
    chosen = {id(issue) for issue in codes.values()}
    kept = [i for i in issues if i.code != IssueType.CODE_INVALID or id(i) in chosen]
    return list({(i.severity, i.text): i for i in kept}.values())


def _unshared(node: Any) -> Any:
    """A copy in which no object stands in two places."""
    if isinstance(node, dict):
        return {key: _unshared(value) for key, value in node.items()}
    return [_unshared(value) for value in node] if isinstance(node, list) else node
