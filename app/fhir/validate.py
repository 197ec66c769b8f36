"""Is a resource right? The one face of all checks: structure, profiles where they are loaded, and our own rules.

fhir.resources has no R4; its R4B classes equal R4 for every resource written here. It checks structure and formats but
no binding, no invariant, no reference and no code. Without profiles the few rules below stand in for them.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fhir.resources.R4B import get_fhir_model_class
from pydantic import BaseModel, ValidationError

from app.errors import InvalidInput
from app.fhir import codes, rules
from app.fhir.elements import Json, objects
from app.fhir.findings import Findings, once
from app.fhir.profiles import Profiles
from schemas.issue import Issue, IssueType, Severity

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NAME = re.compile(r"_?[A-Za-z]{1,64}")
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")

# Required bindings of R4 (value sets of the same names); path from the resource, [] for every item of a list.
_CODES: dict[str, dict[str, str]] = {
    "Patient": {
        "gender": "male female other unknown",
        "name[].use": "usual official temp nickname anonymous old maiden",
    },
    "DocumentReference": {
        "status": "current superseded entered-in-error",
        "docStatus": "preliminary final amended entered-in-error",
    },
    "Condition": {
        "clinicalStatus.coding[].code": "active recurrence relapse inactive remission resolved",
        "verificationStatus.coding[].code":
            "unconfirmed provisional differential confirmed refuted entered-in-error",
    },
    "AllergyIntolerance": {
        "clinicalStatus.coding[].code": "active inactive resolved",
        "verificationStatus.coding[].code": "unconfirmed confirmed refuted entered-in-error",
        "category[]": "food medication environment biologic",
        "type": "allergy intolerance",
        "criticality": "low high unable-to-assess",
    },
    "FamilyMemberHistory": {"status": "partial completed entered-in-error health-unknown"},
    "Observation": {
        "status": "registered preliminary final amended corrected cancelled entered-in-error unknown",
        "valueQuantity.comparator": "< <= >= >",
    },
    "MedicationRequest": {
        "status": "active on-hold cancelled completed entered-in-error stopped draft unknown",
        "intent": "proposal plan order original-order reflex-order filler-order instance-order option",
        "dosageInstruction[].timing.repeat.periodUnit": "s min h d wk mo a",
    },
    "Provenance": {"entity[].role": "derivation revision quotation source removal"},
    "Bundle": {
        "type": "document message transaction transaction-response batch batch-response history searchset collection",
    },
}  # fmt: skip


# The definitions of R4 come in one package; one of them tells whether it is loaded.
_BASE_PROBE = "http://hl7.org/fhir/StructureDefinition/Patient"


def check(
    resource: Json,
    *,
    text: str | None = None,
    profiles: Profiles | None = None,
    lab: rules.LabTable | None = None,
    foreign: bool = False,
) -> list[Issue]:
    """Everything wrong with a resource or Bundle, empty when nothing is; never raises for bad content.

    `text`: the note, for the bounds of evidence; a Bundle brings its own in its DocumentReference. `profiles`: the
    publishers' definitions; with them the resource is also checked against its base definition and the profiles that it
    claims. `lab`: (system, code) -> FHIR識別名 of the loaded laboratory table; without one the codes of laboratory items
    are not looked up. `foreign`: another system made it: JP-CLINS' rules bind what claims a profile of JP's, R4's bind all.
    Issues name the path of the place and never a value; one fault is reported once.
    """
    found = Findings()
    kind = _type(resource)
    if profiles is not None and not profiles.knows(_BASE_PROBE):
        profiles = None  # without the definitions of R4 every resource would be of an unknown type
    try:
        known = _known_codings(resource, kind, profiles) if lab is not None and profiles is not None else ()
        context = _Context(lab=lab, known=frozenset(known), profiled=profiles is not None, foreign=foreign)
        if kind == "Bundle":
            _check_bundle(resource, "Bundle", text, context, found)
            if codes.CLINS_BUNDLE_PROFILE in rules.claims(resource):
                found.take(rules.one_type(resource))
                if profiles is None or not profiles.knows(codes.CLINS_BUNDLE_PROFILE):
                    found.take(rules.bundle(resource))
        else:
            places = _Places(resource, kind)
            _check_resource(places, context, found)
            _check_evidence(places, lambda reference: None if text is None else len(text), found)
        by_profile = profiles.check(resource, own=(f"{codes.LOCAL}/",)) if profiles is not None else []
    except RecursionError:
        found.add(IssueType.STRUCTURE, kind, "nested too deep")
        return found.issues
    return once(found, by_profile)


def held_back(issues: Iterable[Issue]) -> bool:
    """Do these findings forbid to release what they are about? Any error does; warnings are for a person to weigh."""
    return any(issue.severity in (Severity.ERROR, Severity.FATAL) for issue in issues)


def assert_known_codes(resource: Json, allowed: set[tuple[str, str]]) -> None:
    """Raises InvalidInput when a Coding is neither in `allowed` (the codings of the records, as system and code) nor in
    the closed lists and dummy codes of the standards: a code may come from a table only."""
    unknown = [
        path
        for path, coding in rules.codings(resource, _type(resource))
        if (key := (str(coding.get("system")), str(coding.get("code")))) not in allowed
        and key not in codes.CLOSED
        and not (key[0] == codes.LOCAL_LAB and codes.LOCAL_LAB_CODE.fullmatch(key[1]))
    ]
    if unknown:
        raise InvalidInput(f"codes that no table holds: {', '.join(unknown)}")


@dataclass(frozen=True, slots=True)
class _Context:
    lab: rules.LabTable | None
    known: frozenset[str]
    """Paths of codings that a loaded code system has."""
    profiled: bool
    """Are the base definitions of R4 loaded? Then they check what the rules for lack of them would."""
    foreign: bool = False


class _Places:
    """Every value of one resource with its path, walked once."""

    def __init__(self, resource: Json, path: str) -> None:
        self.resource, self.path = resource, path
        self.values = list(_walk(resource, path))
        self.nodes: list[tuple[str, Json]] = [(where, node) for where, node in self.values if isinstance(node, dict)]

    def codings(self) -> Iterator[tuple[str, Json]]:
        """Every item of a `coding`."""
        for where, node in self.nodes:
            yield from ((f"{where}.coding[{n}]", coding) for n, coding in enumerate(objects(node.get("coding"))))

    def references(self) -> Iterator[tuple[str, str]]:
        for where, node in self.nodes:
            if isinstance(reference := node.get("reference"), str):
                yield f"{where}.reference", reference


def _known_codings(resource: Json, kind: str, profiles: Profiles) -> Iterator[str]:
    for path, coding in rules.codings(resource, kind):
        system, code = coding.get("system"), coding.get("code")
        if isinstance(system, str) and isinstance(code, str) and profiles.vocabulary.has_code(system, code):
            yield path


def _type(resource: Json) -> str:
    """A name that is safe to show: what is not a known type name may be anything."""
    name = resource.get("resourceType")
    return name if isinstance(name, str) and _model(name) is not None else "Resource"


@lru_cache(maxsize=256)
def _model(resource_type: str) -> type[BaseModel] | None:
    if not re.fullmatch(r"[A-Z][A-Za-z]{2,40}", resource_type):
        return None
    try:
        model: type[BaseModel] = get_fhir_model_class(resource_type)
    except (KeyError, ValueError, LookupError):
        return None
    return model


# --- one resource ----------------------------------------------------------------------------------------------------


def _check_resource(places: _Places, context: _Context, found: Findings) -> None:
    resource, path = places.resource, places.path
    _check_structure(resource, path, context, found)
    _check_empty(places, context, found)
    if not context.foreign or any(claim.startswith("http://jpfhir.jp/") for claim in rules.claims(resource)):
        _check_ours(places, context, found)
    if context.profiled:
        found.take(rules.institution_number(resource, path))
    else:
        _check_without_profiles(places, found)


def _check_ours(places: _Places, context: _Context, found: Findings) -> None:
    """What JP-CLINS asks beyond R4, and what we ask of our own."""
    resource, path = places.resource, places.path
    for where, coding in places.codings():
        for part in ("system", "code") if context.profiled else ("system", "code", "display"):
            if not isinstance(value := coding.get(part), str) or not value.strip():
                # FHIR allows a code without display; the eCS profiles do not.
                severity = Severity.WARNING if part == "display" else Severity.ERROR
                found.add(IssueType.REQUIRED, f"{where}.{part}", "missing or blank", severity)
    if _is_result(resource) and "dataAbsentReason" not in resource and not _has_value(resource):
        found.add(IssueType.BUSINESS_RULE, path, "clins-value a value or a dataAbsentReason")
    found.take(rules.dummy_displays(places.codings()))
    if resource.get("resourceType") == "Observation":
        found.take(rules.laboratory(resource, path, context.lab, context.known))
    elif resource.get("resourceType") == "MedicationRequest":
        found.take(rules.prescription(resource, path))
    elif resource.get("resourceType") == "AllergyIntolerance":
        found.take(rules.allergen(resource, path))


def _check_without_profiles(places: _Places, found: Findings) -> None:
    """The rules of R4 that matter most, for lack of its definitions."""
    resource, path = places.resource, places.path
    _check_codes(resource, path, found)
    for key, (rule, holds) in _INVARIANTS.get(str(resource.get("resourceType")), {}).items():
        if not holds(resource):
            found.add(IssueType.BUSINESS_RULE, path, f"{key} {rule}")
    for where, node in places.nodes:
        if "code" in node and "value" in node and "unit" in node and "system" not in node:
            found.add(IssueType.BUSINESS_RULE, where, "qty-3 a unit code without its system")
    contained = {f"#{r.get('id')}" for r in objects(resource.get("contained"))}
    for where, reference in places.references():
        if reference.startswith("#") and reference not in contained:
            found.add(IssueType.NOT_FOUND, where, "no such contained resource")
    if resource.get("resourceType") == "Patient":
        found.take(rules.patient(resource, path))


def _check_structure(resource: Json, path: str, context: _Context, found: Findings) -> None:
    model = _model(resource["resourceType"]) if isinstance(resource.get("resourceType"), str) else None
    if model is None:
        if not context.profiled:  # R4B lacks 18 resource types of R4 that the walk knows
            found.add(IssueType.STRUCTURE, path, "not a resource type of FHIR R4")
        return
    for inner, part in enumerate(objects(resource.get("contained"))):
        if not isinstance(name := part.get("resourceType"), str) or _model(name) is None:
            found.add(IssueType.STRUCTURE, f"{path}.contained[{inner}]", "not a resource type of FHIR R4")
            return  # fhir.resources raises KeyError for it
    if "id" in resource and not (isinstance(resource["id"], str) and _ID.fullmatch(resource["id"])):
        found.add(IssueType.VALUE, f"{path}.id", "not a FHIR id")
    try:
        model.model_validate(resource)
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_context=False, include_input=False):
            kind = IssueType.REQUIRED if "missing" in fault["type"] else IssueType.STRUCTURE
            # A field name of an `extra_forbidden` fault is content of the caller: only its parent is named.
            place = fault["loc"][:-1] if fault["type"] == "extra_forbidden" else fault["loc"]
            place = tuple(p for p in place if p != "root")  # not a name of FHIR: fhir-core's for the whole object
            where = path + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in place)
            found.structural.add(f"{where}: {fault['type']}")
            found.add(kind, where, fault["type"])
    except (KeyError, LookupError, AttributeError, TypeError):  # its own code stumbles over values of other types
        found.add(IssueType.STRUCTURE, path, "not a resource of FHIR R4")


def _check_empty(places: _Places, context: _Context, found: Findings) -> None:
    for where, value in places.values:
        if isinstance(value, float):
            found.add(IssueType.VALUE, where, "a float has lost its digits")
        elif context.profiled:
            continue
        elif value is None or value == [] or value == {}:
            found.add(IssueType.STRUCTURE, where, "empty")
        elif isinstance(value, str) and not value.strip():
            found.add(IssueType.VALUE, where, "blank")


def _check_codes(resource: Json, path: str, found: Findings) -> None:
    for element, allowed in _CODES.get(str(resource.get("resourceType")), {}).items():
        for where, value in _places(resource, element.split("."), path):
            if value not in allowed.split():
                found.add(IssueType.CODE_INVALID, where, "not in the required value set")


def _status(resource: Json, element: str) -> set[str]:
    return {str(code) for code in _at(resource, [element, "coding[]", "code"])}


def _con_4(resource: Json) -> bool:
    abated = any(key.startswith("abatement") for key in resource)
    return not abated or bool(_status(resource, "clinicalStatus") & {"inactive", "resolved", "remission"})


def _in_error(resource: Json) -> bool:
    return "entered-in-error" in _status(resource, "verificationStatus")


def _is_result(resource: Json) -> bool:
    """One result of a laboratory: not a panel, whose members or components hold the values."""
    if resource.get("resourceType") != "Observation" or "component" in resource or "hasMember" in resource:
        return False
    return (codes.LABORATORY.system, codes.LABORATORY.code) in {
        (str(c.get("system")), str(c.get("code")))
        for c in _at(resource, ["category[]", "coding[]"])
        if isinstance(c, dict)
    }


def _has_value(resource: Json) -> bool:
    return any(key.startswith("value") for key in resource)


_INVARIANTS: dict[str, dict[str, tuple[str, Callable[[Json], bool]]]] = {
    "Condition": {
        "con-4": ("an abated condition is inactive, resolved or in remission", _con_4),
        "con-5": (
            "no clinicalStatus when entered in error",
            lambda r: not _in_error(r) or "clinicalStatus" not in r,
        ),
    },
    "AllergyIntolerance": {
        "ait-1": ("clinicalStatus unless entered in error", lambda r: _in_error(r) or "clinicalStatus" in r),
        "ait-2": ("no clinicalStatus when entered in error", lambda r: not (_in_error(r) and "clinicalStatus" in r)),
    },
    "Observation": {
        "obs-6": ("no dataAbsentReason beside a value", lambda r: not ("dataAbsentReason" in r and _has_value(r))),
    },
    "DocumentReference": {
        "att-1": (
            "contentType beside data",
            lambda r: all("contentType" in a for a in objects(_at(r, ["content[]", "attachment"])) if "data" in a),
        ),
    },
}


# --- Bundle ----------------------------------------------------------------------------------------------------------


def _check_bundle(bundle: Json, root: str, text: str | None, context: _Context, found: Findings) -> None:
    """The Bundle itself, then what stands in it; a Bundle in a Bundle is a whole of its own, whose references it holds."""
    entries = objects(bundle.get("entry"))
    shell = dict(bundle)
    if entries and len(entries) == len(bundle["entry"]):
        shell["entry"] = [{k: v for k, v in entry.items() if k != "resource"} | _STUB for entry in entries]
    _check_structure(shell, root, context, found)
    if not context.profiled:
        _check_codes(bundle, root, found)
    known: set[str] = set()
    members: list[tuple[str, Json]] = []
    urls: dict[str, Any] = {}
    for position, entry in enumerate(entries):
        path = f"{root}.entry[{position}]"
        resource = entry.get("resource")
        if not isinstance(resource, dict):
            found.add(IssueType.REQUIRED, f"{path}.resource", "missing")
            continue
        name = f"{resource.get('resourceType')}/{resource.get('id')}"
        if "id" in resource and name in known and bundle.get("type") in ("document", "collection"):
            found.add(IssueType.BUSINESS_RULE, f"{path}.resource.id", "bdl-ids the same type and id stand twice")
        known.add(name)
        members.append((f"{path}.resource", resource))
        url = urls[f"{path}.resource"] = entry.get("fullUrl")
        if isinstance(url, str) and url in known:
            found.add(IssueType.BUSINESS_RULE, f"{path}.fullUrl", "bdl-7 fullUrl stands twice")
        known.add(str(url))
        # FHIR lets a urn:uuid differ from the id, as in the official examples; where the id is a UUID it is a slip.
        identity = resource.get("id")
        own = f"urn:uuid:{identity}" if isinstance(identity, str) and _UUID.fullmatch(identity) else None
        if own is not None and isinstance(url, str) and url.startswith("urn:uuid:") and url != own:
            found.add(IssueType.VALUE, f"{path}.fullUrl", "not the id of its resource")
    lengths: dict[str, int] = {}
    for path, resource in members:
        attached = _attached_text(resource, path, found) if resource.get("resourceType") == "DocumentReference" else None
        if attached is not None:
            lengths |= dict.fromkeys((f"DocumentReference/{resource.get('id')}", str(urls.get(path))), len(attached))

    def length_of(reference: str) -> int | None:
        return lengths.get(reference, None if text is None else len(text))

    for path, resource in members:
        if resource.get("resourceType") == "Bundle":
            _check_bundle(resource, path, None, context, found)
            continue
        places = _Places(resource, path)
        _check_resource(places, context, found)
        _check_evidence(places, length_of, found)
        for where, reference in places.references():
            if not reference.startswith("#") and reference not in known:
                severity = Severity.ERROR if _must_resolve(bundle, reference) else Severity.WARNING
                found.add(IssueType.NOT_FOUND, where, "reference does not resolve in the Bundle", severity)


def _must_resolve(bundle: Json, reference: str) -> bool:
    """Documents and collections go to others whole; results of a search and requests may lean on a server."""
    whole = bundle.get("type") in ("document", "collection", "message")
    return reference.startswith("urn:") or (whole and not reference.startswith(("http://", "https://")))


_STUB = {"resource": {"resourceType": "Basic", "code": {"text": "checked apart"}}}


def _attached_text(document: Json, path: str, found: Findings) -> str | None:
    for where, data in _places(document, ["content[]", "attachment", "data"], path):
        try:
            return base64.b64decode(data, validate=True).decode()
        except (binascii.Error, ValueError, TypeError):
            found.add(IssueType.VALUE, where, "not base64 of UTF-8 text")
    return None


def _check_evidence(places: _Places, length_of: Callable[[str], int | None], found: Findings) -> None:
    """derivation-reference: whole, and inside the text that it refers to when the length of that is known."""
    for where, node in places.nodes:
        if node.get("url") != codes.EVIDENCE:
            continue
        parts = {str(part.get("url")): part for part in objects(node.get("extension"))}
        target = parts.get("reference", {}).get("valueReference")
        length = length_of(str(target.get("reference"))) if isinstance(target, dict) else None
        offset = parts.get("offset", {}).get("valueInteger")
        count = parts.get("length", {}).get("valueInteger")
        if "reference" not in parts or not isinstance(offset, int) or not isinstance(count, int):
            found.add(IssueType.INCOMPLETE, where, "evidence without reference, offset or length")
        elif offset < 0 or count < 1 or (length is not None and offset + count > length):
            found.add(IssueType.VALUE, where, "evidence outside the text")


# --- walking ---------------------------------------------------------------------------------------------------------


def _walk(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every value below `node` with its path, itself first; the padding null of a primitive's list is left out."""
    yield path, node
    if isinstance(node, dict):
        for key, value in node.items():
            # Keys of the caller are shown only when they look like an element name.
            name = key if isinstance(key, str) and _NAME.fullmatch(key) else "?"
            yield from _walk(value, f"{path}.{name}")
    elif isinstance(node, list):
        for position, value in enumerate(node):
            if value is not None:
                yield from _walk(value, f"{path}[{position}]")


def _at(node: Any, path: list[str]) -> list[Any]:
    """The values at a path of element names; `name[]` goes into each item of a list."""
    return [value for _, value in _places(node, path, "")]


def _places(node: Any, path: list[str], where: str) -> list[tuple[str, Any]]:
    """The values at a path of element names, each with its own path."""
    if not path:
        return [(where, node)]
    name, rest = path[0].removesuffix("[]"), path[1:]
    if not isinstance(node, dict) or name not in node:
        return []
    value, here = node[name], f"{where}.{name}"
    if path[0].endswith("[]") and isinstance(value, list):
        return [found for n, item in enumerate(value) for found in _places(item, rest, f"{here}[{n}]")]
    return _places(value, rest, here)
