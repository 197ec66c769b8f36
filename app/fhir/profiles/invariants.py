"""Invariants: FHIRPath by fhirpathpy, and natively those that every resource has or that fhirpathpy gets wrong.

fhirpathpy 2.2.4 keeps state in its modules, so one evaluation runs at a time, and takes 0.1 to 1 ms. It has no
`hasValue`, `memberOf` and `htmlChecks`, and fails on dom-3 (`as` with several items). Source of the natively checked rules:
http://hl7.org/fhir/R4/domainresource.html, narrative.html, references.html, datatypes.html.
"""

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from xml.etree import ElementTree

import fhirpathpy
import msgspec
from fhirpathpy.engine import do_eval
from fhirpathpy.engine.invocations.constants import constants as moments
from fhirpathpy.engine.nodes import ResourceNode
from fhirpathpy.engine.util import get_data, process_user_invocation_table
from fhirpathpy.models import models
from fhirpathpy.parser import parse

from app.fhir.elements import objects
from app.fhir.profiles.definitions import Constraint

PARSER = f"fhirpathpy {fhirpathpy.__version__}"

_Json = dict[str, Any]
_lock = threading.Lock()
_R4: Any = models["r4"]


@dataclass(slots=True)
class Scope:
    """Where an element stands: `%resource` is `resource`, `%rootResource` is `root`."""

    resource: _Json
    root: _Json


class _Undecidable(Exception):
    """A value set that is not loaded."""


def parse_all(expressions: Iterable[str]) -> tuple[dict[str, bytes], set[str]]:
    """The parsed trees as msgpack, and the expressions that cannot be parsed. About 10 ms each."""
    trees: dict[str, bytes] = {}
    unread: set[str] = set()
    for expression in sorted(set(expressions)):
        try:
            trees[expression] = msgspec.msgpack.encode(parse(expression))
        except Exception:  # noqa: BLE001  # the generated parser raises any of antlr's classes, and bare Exception
            unread.add(expression)
    return trees, unread


class Invariants:
    """Evaluates constraints. `stored` maps an expression to its parsed tree; others are parsed when needed.

    `member_of(value set, system, code)` answers True, False, or None where it cannot say.
    """

    def __init__(self, stored: dict[str, bytes], member_of: Callable[[str, str | None, str], bool | None]) -> None:
        self._stored = stored
        self._trees: dict[str, Any] = {}
        self._member_of = member_of
        self._functions = process_user_invocation_table(
            {
                "hasValue": {"fn": _has_value, "arity": {0: []}},
                "htmlChecks": {"fn": lambda inputs: [all(_narrative(i) for i in inputs)], "arity": {0: []}},
                # Of nothing these are false in the reference validator (a Reference without `reference` obeys ref-1),
                # and empty in the library, which would break every invariant that negates them.
                "startsWith": _text_test(str.startswith),
                "endsWith": _text_test(str.endswith),
                "contains": _text_test(str.__contains__),
                "matches": _text_test(lambda text, pattern: re.search(pattern, text, re.DOTALL) is not None),
                "memberOf": {"fn": self._is_member, "arity": {1: ["String"]}},
                # The library's own prints to standard output: http://hl7.org/fhirpath/#tracename-string-...
                "trace": {"fn": lambda inputs, *_: inputs, "arity": {1: ["String"], 2: ["String", "Any"]}},
            }
        )

    def holds(self, constraint: Constraint, value: Any, type_path: str, scope: Scope) -> bool | None:
        """Does the element obey? None when that cannot be decided here.

        `type_path`: the element's type, or its path in the base resource where it is a BackboneElement. An empty
        result counts as not obeyed, as in the reference validator.
        """
        native = NATIVE.get(constraint.key) or _FREQUENT.get(constraint.expression)
        if native is not None:
            return native(value, scope)
        tree = self._tree(constraint.expression)
        if tree is None:
            return None
        with _lock:
            moments.reset()
            root = [ResourceNode.create_node(value, type_path)]
            variables = {
                "context": root[0],
                "resource": ResourceNode.create_node(scope.resource),
                "rootResource": ResourceNode.create_node(scope.root),
                "ucum": "http://unitsofmeasure.org",
                "sct": "http://snomed.info/sct",
                "loinc": "http://loinc.org",
            }
            state = {"dataRoot": root, "vars": variables, "model": _R4, "userInvocationTable": self._functions}
            try:
                result = do_eval(state, root, tree)
            except Exception:  # noqa: BLE001  # the library raises bare Exception; content never decides which
                return None
        return len(result) == 1 and get_data(result[0]) is True

    def _tree(self, expression: str) -> Any:
        if expression not in self._trees:
            stored = self._stored.get(expression)
            try:
                whole = parse(expression) if stored is None else msgspec.msgpack.decode(stored)
                self._trees[expression] = whole["children"][0]
            except Exception:  # noqa: BLE001  # as in parse_all
                self._trees[expression] = None
        return self._trees[expression]

    def _is_member(self, inputs: list[Any], value_set: str) -> list[bool]:
        answers: list[bool | None] = []
        for item in inputs:
            codings = item.get("coding", [item]) if isinstance(item, dict) else [{"code": item}]
            answers += [self._member_of(value_set, c.get("system"), str(c.get("code"))) for c in codings]
        if not any(answers) and None in answers:
            raise _Undecidable
        return [any(answers)] if inputs else []


def _text_test(holds: Callable[[str, str], bool]) -> dict[str, Any]:
    def test(inputs: list[Any], argument: Any) -> list[bool]:
        given = len(inputs) == 1 and isinstance(inputs[0], str) and isinstance(argument, str)
        return [given and holds(inputs[0], argument)]

    return {"fn": test, "arity": {1: ["String"]}}


def _has_value(inputs: list[Any]) -> list[bool]:
    return [len(inputs) == 1 and inputs[0] is not None and not isinstance(inputs[0], dict | list)]


# --- native rules ----------------------------------------------------------------------------------------------------


def _meta(resource: _Json) -> _Json:
    meta = resource.get("meta")
    return meta if isinstance(meta, dict) else {}


def strings(node: Any) -> Iterator[str]:
    """Every string value below a node."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for value in node.values():
            yield from strings(value)
    elif isinstance(node, list):
        for value in node:
            yield from strings(value)


def _all_contained_are_used(resource: _Json, scope: Scope) -> bool:
    contained = objects(resource.get("contained"))
    if not contained:
        return True
    used = {text for text in strings(resource) if text.startswith("#")}
    return all(f"#{part.get('id')}" in used or "#" in strings(part) for part in contained)


def _local_reference_resolves(reference: _Json, scope: Scope) -> bool:
    target = reference.get("reference")
    if not isinstance(target, str) or not target.startswith("#") or target == "#":
        return True
    return any(part.get("id") == target[1:] for part in objects(scope.root.get("contained")))


_MOMENT = re.compile(r"(\d{4}(?:-\d\d(?:-\d\d)?)?)(T.*)?")


def _period_runs_forward(period: _Json, scope: Scope) -> bool:
    start, end = period.get("start"), period.get("end")
    if not isinstance(start, str) or not isinstance(end, str):
        return True
    if "T" in start and "T" in end:
        try:
            return datetime.fromisoformat(start) <= datetime.fromisoformat(end)
        except (ValueError, TypeError):
            return True  # a malformed moment is reported where it stands
    one, other = _MOMENT.match(start), _MOMENT.match(end)
    if not one or not other:
        return True
    length = min(len(one[1]), len(other[1]))
    return one[1][:length] <= other[1][:length]


# http://hl7.org/fhir/R4/narrative.html#xhtml: the elements of HTML 4.0 chapters 7 to 11 (except 4 of 9) and 15, <a>, <img>.
_XHTML = frozenset(
    "a abbr acronym address b big blockquote br caption cite code col colgroup dd del dfn div dl dt em h1 h2 h3 h4 h5 h6 "
    "hr i img ins kbd li ol p pre q s samp small span strike strong sub sup table tbody td tfoot th thead tr tt u ul var".split()
)
_TAG = re.compile(r"<[^>]*>")
_XHTML_NAMESPACE = "{http://www.w3.org/1999/xhtml}"


def _div(value: Any) -> Any:
    text = value.get("div") if isinstance(value, dict) else value
    # A document type would bring entities of its own; XHTML's own named entities are known to no XML parser.
    if not isinstance(text, str) or "<!" in text.replace("<!--", ""):
        return None
    try:
        return ElementTree.fromstring(re.sub(r"&(?!(?:amp|lt|gt|quot|apos|#\d+|#x[0-9a-fA-F]+);)\w+;", "x", text))  # noqa: S314
    except ElementTree.ParseError:
        return None


def _narrative(value: Any) -> bool:
    root = _div(value)
    if root is None or root.tag != f"{_XHTML_NAMESPACE}div":
        return False
    for element in root.iter():
        name = str(element.tag).removeprefix(_XHTML_NAMESPACE)
        if name not in _XHTML or any(k.lower().startswith("on") for k in element.keys()):  # noqa: SIM118
            return False
        if any("javascript:" in v.replace(" ", "").lower() for v in element.attrib.values()):
            return False
    return True


def _narrative_says_something(value: Any, scope: Scope) -> bool:
    text = value.get("div") if isinstance(value, dict) else value
    return not isinstance(text, str) or "<img" in text or bool(_TAG.sub("", text).strip())


def _clean(resource: _Json, *keys: str) -> bool:
    return not any(key in _meta(part) for part in objects(resource.get("contained")) for key in keys)


NATIVE: dict[str, Callable[[Any, Scope], bool]] = {
    "dom-2": lambda v, s: not any("contained" in part for part in objects(v.get("contained"))),
    "dom-3": _all_contained_are_used,
    "dom-4": lambda v, s: _clean(v, "versionId", "lastUpdated"),
    "dom-5": lambda v, s: _clean(v, "security"),
    "dom-6": lambda v, s: isinstance(v.get("text"), dict) and bool(v["text"].get("div")),
    "txt-1": lambda v, s: _narrative(v),
    "txt-2": _narrative_says_something,
    "ref-1": _local_reference_resolves,
    "per-1": _period_runs_forward,
    "qty-3": lambda v, s: not v.get("code") or bool(v.get("system")),
}
"""Keys of HL7's own invariants; their meaning does not change between packages."""


def _coded(resource: _Json, element: str, system: str, *wanted: str) -> bool:
    concept = resource.get(element)
    codings = objects(concept.get("coding")) if isinstance(concept, dict) else []
    return any(coding.get("system") == system and coding.get("code") in wanted for coding in codings)


def _only_in(part: str, *types: str) -> Callable[[Any, Scope], bool]:
    """Every entry has `part` where the Bundle is of one of the types, and none has elsewhere."""
    return lambda v, s: all((part in entry) == (s.resource.get("type") in types) for entry in objects(v.get("entry")))


def _distinct_entries(bundle: _Json, scope: Scope) -> bool:
    named = []
    for entry in objects(bundle.get("entry")):
        if isinstance(url := entry.get("fullUrl"), str):
            resource = entry.get("resource")
            version = _meta(resource).get("versionId", "") if isinstance(resource, dict) else ""
            named.append(f"{url}{version}")
    return bundle.get("type") == "history" or len(named) == len(set(named))


def _has_length_without_offset(extension: _Json) -> bool:
    urls = {part.get("url") for part in objects(extension.get("extension"))}
    return "length" in urls and "offset" not in urls


_CONDITION = "http://terminology.hl7.org/CodeSystem/condition-"
_ALLERGY = "http://terminology.hl7.org/CodeSystem/allergyintolerance-"
_ERROR = "entered-in-error"

_FREQUENT: dict[str, Callable[[Any, Scope], bool]] = {
    # derivation-reference der-1: every field of every resource that was read out of a note has one
    "extension.where(url='length').exists() implies extension.where(url='offset').exists()": (
        lambda v, s: not _has_length_without_offset(v)
    ),
    # bdl-3, bdl-4, bdl-5, bdl-7, bdl-8
    "entry.all(request.exists() = (%resource.type = 'batch' or %resource.type = 'transaction' or %resource.type = 'history'))": (
        _only_in("request", "batch", "transaction", "history")
    ),
    "entry.all(response.exists() = (%resource.type = 'batch-response' or %resource.type = 'transaction-response' or "
    "%resource.type = 'history'))": _only_in("response", "batch-response", "transaction-response", "history"),
    "resource.exists() or request.exists() or response.exists()": (
        lambda v, s: any(v.get(part) for part in ("resource", "request", "response"))
    ),
    "(type = 'history') or entry.where(fullUrl.exists()).select(fullUrl&resource.meta.versionId).isDistinct()": (
        _distinct_entries
    ),
    "fullUrl.contains('/_history/').not()": lambda v, s: "/_history/" not in str(v.get("fullUrl", "")),
    # con-3 (a category of any code counts, as in the reference validator), con-4, con-5
    f"clinicalStatus.exists() or verificationStatus.coding.where(system='{_CONDITION}ver-status' and code = '{_ERROR}')"
    ".exists() or category.select($this='problem-list-item').empty()": lambda v, s: (
        bool(v.get("clinicalStatus"))
        or _coded(v, "verificationStatus", f"{_CONDITION}ver-status", _ERROR)
        or not v.get("category")
    ),
    f"abatement.empty() or clinicalStatus.coding.where(system='{_CONDITION}clinical' and (code='resolved' or "
    "code='remission' or code='inactive')).exists()": lambda v, s: (
        not any(key.startswith("abatement") for key in v)
        or _coded(v, "clinicalStatus", f"{_CONDITION}clinical", "resolved", "remission", "inactive")
    ),
    f"verificationStatus.coding.where(system='{_CONDITION}ver-status' and code='{_ERROR}').empty() or clinicalStatus.empty()": (
        lambda v, s: (
            not _coded(v, "verificationStatus", f"{_CONDITION}ver-status", _ERROR) or not v.get("clinicalStatus")
        )
    ),
    # ait-1, ait-2
    f"verificationStatus.coding.where(system = '{_ALLERGY}verification' and code = '{_ERROR}').exists() or "
    "clinicalStatus.exists()": lambda v, s: (
        bool(v.get("clinicalStatus")) or _coded(v, "verificationStatus", f"{_ALLERGY}verification", _ERROR)
    ),
    f"verificationStatus.coding.where(system = '{_ALLERGY}verification' and code = '{_ERROR}').empty() or "
    "clinicalStatus.empty()": lambda v, s: (
        not v.get("clinicalStatus") or not _coded(v, "verificationStatus", f"{_ALLERGY}verification", _ERROR)
    ),
}
"""What every Bundle of a note asks many times over, by the very expression that its package states: another one under
the same key goes to fhirpathpy."""
