"""Our own checks of JP-CLINS 1.10.0: what its profiles let pass silently, and without packages what matters most.

Laboratory codings (`laboratory`): the display is a slice's discriminator in JP_Observation_LabResult_eCS, so a coding
with a wrong display fits no slice and nothing checks its code. Source: the profile's notes page in the implementation
guide (coding rules), and the invariants of its StructureDefinition. `bundle` and `patient` are rules that the loaded
packages state as invariants (JP_Bundle_CLINS, JP_Patient_eCS); each is named by the publisher's key and number.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from app.fhir import codes
from app.fhir.elements import Json, objects
from schemas.issue import IssueType, Severity

LabTable = Mapping[tuple[str, str], str]
"""(system, code) of a laboratory item -> its FHIR識別名, the only display allowed."""


class Fault(NamedTuple):
    code: IssueType
    path: str
    what: str
    severity: Severity = Severity.ERROR


_PATIENT_ARC = "urn:oid:1.2.392.100495.20.3.51."
_LAB_PROFILE = f"{codes.ECS_PROFILE}Observation_LabResult_eCS"

_MEMBER = re.compile(r"[0-9]{8}:[^:^\s　]*:[^:^\s　]*:([0-9][0-9])?")
_NAME = re.compile(r"_?[A-Za-z]{1,64}")
# Half-width katakana and its signs, the full-width space, control characters.
_FORBIDDEN = re.compile(r"[\uff61-\uff9f\u3000\x00-\x1f\x7f]")

# Dummy codes with the displays that JP-CLINS gives them.
_DUMMIES = {
    (c.system, c.code): c.display
    for c in (
        codes.UNCODED_DISEASE, codes.UNCODED_LAB, codes.UNCODED_DRUG, codes.UNCODED_USAGE, *codes.UNCODED_ALLERGEN.values(),
    )
}  # fmt: skip

# The sets of codings that one item may have: local always, then shared (core or infection), general JLAC10, or the dummy.
_SETS = ({"local", "shared"}, {"local", "shared", "general"}, {"local", "general"}, {"local", "uncoded"})


def dummy_displays(coded: Iterable[tuple[str, Json]]) -> Iterator[Fault]:
    """A dummy code stands with its own display; `coded` as `codings` gives them."""
    for where, coding in coded:
        display = _DUMMIES.get((_text(coding, "system"), _text(coding, "code")))
        if display is not None and coding.get("display") != display:
            yield Fault(IssueType.CODE_INVALID, f"{where}.display", "not the display of this dummy code")


# --- laboratory ------------------------------------------------------------------------------------------------------


def laboratory(observation: Json, path: str, lab: LabTable | None, known: frozenset[str]) -> Iterator[Fault]:
    """The coding rules of an Observation that claims JP_Observation_LabResult_eCS or uses a code system of JP-CLINS.

    `lab`: the table of shared items; without one their codes are not looked up. `known`: paths of codings that a
    loaded code system of the publisher has; those are right though the table does not hold them.
    """
    coded = _member(observation, "code")
    items = [(f"{path}.code.coding[{n}]", c) for n, c in enumerate(objects(coded.get("coding")))]
    kinds = {_kind(coding) for _, coding in items}
    if _LAB_PROFILE not in claims(observation) and not kinds & {"local", "shared", "uncoded"}:
        return
    for where, coding in items:
        yield from _item(where, coding, lab, known)
    place = f"{path}.code.coding"
    if "local" not in kinds:
        yield Fault(IssueType.REQUIRED, place, "R6021 the facility's own code is missing")
    elif (kinds - {"other"}) not in _SETS:
        what = "not one of the sets local+shared, local+shared+general, local+general, local+uncoded"
        yield Fault(IssueType.BUSINESS_RULE, place, f"clins-codings {what}")
    local = next((c.get("display") for _, c in items if _kind(c) == "local"), None)
    # NFKC: an official example has a Kangxi radical in the one and the common character in the other.
    if "text" not in coded:
        yield Fault(IssueType.REQUIRED, f"{path}.code.text", "missing")
    elif isinstance(local, str) and _nfkc(local) != _nfkc(_text(coded, "text")):
        yield Fault(IssueType.VALUE, f"{path}.code.text", "clins-text not the display of the facility's own code")
    yield from _characters(coded, f"{path}.code")
    yield from _characters(_member(observation, "valueCodeableConcept"), f"{path}.valueCodeableConcept")
    yield from _units(observation, path)
    yield from long_storage(observation, path)


def _item(where: str, coding: Json, lab: LabTable | None, known: frozenset[str]) -> Iterator[Fault]:
    kind, code, display = _kind(coding), coding.get("code"), coding.get("display")
    if kind == "local":
        if not isinstance(code, str) or not codes.HOSPITAL_LAB_CODE.fullmatch(code):
            yield Fault(IssueType.VALUE, f"{where}.code", "clins-local-code letters, digits, _ and - only")
        if isinstance(display, str) and " " in display:
            yield Fault(IssueType.VALUE, f"{where}.display", "clins-local-display has a space", Severity.WARNING)
    elif kind == "uncoded" and code != codes.UNCODED_LAB.code:
        yield Fault(IssueType.CODE_INVALID, f"{where}.code", "not the dummy code of its code system")
    elif kind == "shared" and lab is not None:
        expected = lab.get((_text(coding, "system"), str(code)))
        if expected is None and where not in known:
            yield Fault(IssueType.CODE_INVALID, f"{where}.code", "not a code of the loaded laboratory table")
        elif expected is not None and display != expected:
            yield Fault(IssueType.CODE_INVALID, f"{where}.display", "not the FHIR識別名 of this code")


def _kind(coding: Json) -> str:
    system = _text(coding, "system")
    if system in codes.CORE_LAB or system in codes.INFECTION_LAB:
        return "shared"
    return {codes.LOCAL_LAB: "local", codes.UNCODED_LAB.system: "uncoded", codes.GENERAL_LAB: "general"}.get(system, "other")


def _characters(concept: Json, path: str) -> Iterator[Fault]:
    """No half-width katakana, full-width space or control character in what is shown."""
    shown = [(f"{path}.text", concept.get("text"))]
    shown += [(f"{path}.coding[{n}].display", c.get("display")) for n, c in enumerate(objects(concept.get("coding")))]
    for where, text in shown:
        if isinstance(text, str) and _FORBIDDEN.search(text):
            what = "clins-characters half-width katakana, full-width space or control character"
            yield Fault(IssueType.VALUE, where, what)


def _units(observation: Json, path: str) -> Iterator[Fault]:
    """A quantity has its value (the profile does not say so); unit and code of each limit are those of the value."""
    quantity = _member(observation, "valueQuantity")
    if quantity and "value" not in quantity:
        yield Fault(IssueType.REQUIRED, f"{path}.valueQuantity.value", "missing")
    for n, limits in enumerate(objects(observation.get("referenceRange"))):
        for side, key in (("low", "referenceRangeLowUnits"), ("high", "referenceRangeHighUnits")):
            limit = _member(limits, side)
            if any(part in limit and limit[part] != quantity.get(part) for part in ("unit", "code")):
                what = f"{key}-isSameAs-resultValueUnits the unit is not that of the value"
                yield Fault(IssueType.BUSINESS_RULE, f"{path}.referenceRange[{n}].{side}", what)


def long_storage(observation: Json, path: str) -> Iterator[Fault]:
    """The tag LTS, only on the infections of the list."""
    infection = any(_text(c, "system") in codes.INFECTION_LAB for c in objects(_member(observation, "code").get("coding")))
    for n, tag in enumerate(objects(_member(observation, "meta").get("tag"))):
        if _text(tag, "system") == codes.CLINS_FLAG and tag.get("code") == "LTS" and not infection:
            what = "check-LTS-MemberOf-infectionLabo R6031 LTS on what is no listed infection"
            yield Fault(IssueType.BUSINESS_RULE, f"{path}.meta.tag[{n}]", what)


# --- allergies -------------------------------------------------------------------------------------------------------


def allergen(allergy: Json, path: str) -> Iterator[Fault]:
    """JP_AllergyIntolerance_eCS binds each coding of the code to the JFAGY codes; its value set is in no package of the
    publisher, so that the codes cannot be looked up, but their systems are known."""
    if f"{codes.ECS_PROFILE}AllergyIntolerance_eCS" not in claims(allergy):
        return
    for n, coding in enumerate(objects(_member(allergy, "code").get("coding"))):
        if "system" in coding and coding["system"] not in codes.JFAGY:
            what = "clins-allergen not a code system of JFAGY, and no other is allowed here"
            yield Fault(IssueType.CODE_INVALID, f"{path}.code.coding[{n}].system", what)


# --- prescriptions ---------------------------------------------------------------------------------------------------


def prescription(order: Json, path: str) -> Iterator[Fault]:
    """Doses and amounts of JP_MedicationRequest_eCS are counted in units of MERIT-9: its profile asks for a system, and
    its description (the table of MedicationRequest in the guide) says which."""
    if f"{codes.ECS_PROFILE}MedicationRequest_eCS" not in claims(order):
        return
    places = [(f"{path}.dispenseRequest.quantity", _member(_member(order, "dispenseRequest"), "quantity"))]
    for n, instruction in enumerate(objects(order.get("dosageInstruction"))):
        for m, dose in enumerate(objects(instruction.get("doseAndRate"))):
            where = f"{path}.dosageInstruction[{n}].doseAndRate[{m}]"
            places.append((f"{where}.doseQuantity", _member(dose, "doseQuantity")))
            places.append((f"{where}.rateRatio.numerator", _member(_member(dose, "rateRatio"), "numerator")))
    for where, quantity in places:
        if "system" in quantity and quantity["system"] != codes.MERIT9_UNIT:
            yield Fault(IssueType.VALUE, f"{where}.system", "clins-dose-unit not the code system of MERIT-9 units")


# --- institution numbers ---------------------------------------------------------------------------------------------


def institution_number(resource: Json, path: str) -> Iterator[Fault]:
    """Ten digits and no more: the invariant of the extension's definition has no anchors, so that a longer text with
    such digits in it obeys it."""
    for n, extension in enumerate(objects(resource.get("extension"))):
        value = _text(_member(extension, "valueIdentifier"), "value")
        has_more = codes.INSTITUTION_VALUE.search(value) and not codes.INSTITUTION_VALUE.fullmatch(value)
        if extension.get("url") == codes.INSTITUTION_EXTENSION and has_more:
            what = "R9012 more than the ten digits of an institution number"
            yield Fault(IssueType.BUSINESS_RULE, f"{path}.extension[{n}].valueIdentifier.value", what)


# --- Bundle ----------------------------------------------------------------------------------------------------------


def one_type(bundle: Json) -> Iterator[Fault]:
    """Beside the Patient, only resources of the type that the Bundle's tag names: its closed slices take several types,
    and no invariant says so."""
    wanted = _tagged(bundle)
    for path, resource in _members(bundle)[1:]:
        if wanted and _text(resource, "resourceType") not in wanted:
            yield Fault(IssueType.BUSINESS_RULE, path, "clins-one-type not the type of resource that Bundle.meta.tag names")


def bundle(resource: Json) -> Iterator[Fault]:
    """The rules of JP_Bundle_CLINS, for a Bundle that claims it."""
    tags = [t for t in objects(_member(resource, "meta").get("tag")) if _text(t, "system") == codes.CLINS_TYPE_TAG]
    members, wanted = _members(resource), _tagged(resource)
    if not tags:
        yield _broken("Bundle.meta.tag", "bundle-meta-tag-resourceType-exists R02141 the tag with the type is missing")
    elif not wanted:
        yield _broken("Bundle.meta.tag", "bundle-meta-tag-resourceType-valid R02142 not one of the three types")
    elif len(tags) > 1:
        yield Fault(IssueType.STRUCTURE, "Bundle.meta.tag", "slice resourceType: at most 1 allowed")
    elif not any(_text(r, "resourceType") in wanted for _, r in members):
        key = "mustHaveOneMoreResources-with-designatedResourceType R02143"
        yield _broken("Bundle.entry", f"{key} no resource of the type that the tag names")
    identifier = _member(resource, "identifier")
    if identifier.get("system") != codes.CLINS_BUNDLE_ID:
        yield _broken("Bundle.identifier.system", "valid-system-bundleIdenfifier R02151")
    elif not codes.CLINS_BUNDLE_VALUE.fullmatch(_text(identifier, "value")):
        yield _broken("Bundle.identifier.value", "valid-value-bundleIdenfifier R2152 facility^year^id")
    if resource.get("type") != "collection":
        yield Fault(IssueType.VALUE, "Bundle.type", "not the fixed value")
    for position, (path, member) in enumerate(members):
        if position == 0:
            if member.get("resourceType") != "Patient":
                yield _broken(path, "first-bundle-entry-is-Patient R0211")
            elif f"{codes.ECS_PROFILE}Patient_eCS" not in claims(member):
                yield _broken(f"{path}.meta.profile", "patients-profile-is-JP-Patient-eCS R0212")
            continue
        yield from _entry(path, member)


def _entry(path: str, resource: Json) -> Iterator[Fault]:
    numbers = [e for e in objects(resource.get("extension")) if e.get("url") == codes.INSTITUTION_EXTENSION]
    if not numbers:
        yield _broken(path, "all-entries-needs-extension-of-institutionNumber R9011")
    elif not all(codes.INSTITUTION_VALUE.fullmatch(_text(_member(e, "valueIdentifier"), "value")) for e in numbers):
        yield _broken(path, "all-entries-needs-valid-institutionNumber R9012")
    kind = resource.get("resourceType")
    if kind not in ("Condition", "Observation"):
        return
    name, letter = ("condition", "C") if kind == "Condition" else ("observation", "O")
    if all(e.get("url") != codes.DEPARTMENT_EXTENSION for e in objects(resource.get("extension"))):
        yield _broken(path, f"{name}-needs-extension-of-Department R9014{letter}")
    if not _contains(resource, "Encounter"):
        yield _broken(path, f"{name}-needs-contained-of-Encounter R9013{letter} with one profile without version")
    if kind == "Condition":
        if "onsetDateTime" not in resource:
            yield _broken(path, "condition-needs-onsetDateTime R9013C")
        return
    if not _contains(resource, "Practitioner"):
        yield _broken(path, "observation-needs-contained-of-Practitioner R9019O with one profile without version")
    if "encounter" not in resource:
        yield _broken(path, "observation-needs-encounter R9016O")
    if not resource.get("performer"):
        yield _broken(path, "observation-needs-performer R9017O")
    if "hasMember" in resource:
        yield _broken(path, "observation-has-no-hasMember R6081")


def _contains(resource: Json, kind: str) -> bool:
    """A contained resource of this type whose meta.profile is exactly one canonical, unversioned."""
    allowed = [[f"{codes.CORE_PROFILE}{kind}"], [f"{codes.ECS_PROFILE}{kind}_eCS"]]
    return any(_member(part, "meta").get("profile") in allowed for part in objects(resource.get("contained")))


def patient(resource: Json, path: str) -> Iterator[Fault]:
    """The invariants of JP_Patient_eCS, for a Patient that claims it."""
    if f"{codes.ECS_PROFILE}Patient_eCS" not in claims(resource):
        return
    identifiers = [(n, i) for n, i in enumerate(objects(resource.get("identifier")))]
    insured = [i for _, i in identifiers if i.get("system") == codes.INSURANCE_MEMBER]
    if len(insured) != 1:
        yield _broken(path, "valid-system-insurance-patientIdentifier R1012 exactly one identifier of the insured")
    elif not _MEMBER.fullmatch(_text(insured[0], "value")):
        yield _broken(path, "valid-value-insurance-patientIdentifier R1013 insurer:symbol:number:branch")
    local = [_text(i, "system") for _, i in identifiers if _text(i, "system").startswith(_PATIENT_ARC)]
    facility = local[0].removeprefix(f"{_PATIENT_ARC}1") if len(local) == 1 else ""
    if local and not codes.INSTITUTION_VALUE.fullmatch(facility):
        yield _broken(path, "valid-system-local-patientID R1010 one local identifier, of the facility's own arc")
    for name in objects(resource.get("name")):
        printed = any(e.get("url") == codes.NAME_REPRESENTATION for e in objects(name.get("extension")))
        if printed and "\u3000" in _text(name, "text"):
            yield _broken(path, "kanjiName-kanaName-donot-contain-ZenkakuKuuhaku R1113")


def _broken(path: str, what: str) -> Fault:
    return Fault(IssueType.BUSINESS_RULE, path, what)


def _tagged(resource: Json) -> set[str]:
    tags = objects(_member(resource, "meta").get("tag"))
    named = {_text(t, "code") for t in tags if _text(t, "system") == codes.CLINS_TYPE_TAG}
    return named & {"AllergyIntolerance", "Condition", "Observation"}


def _members(resource: Json) -> list[tuple[str, Json]]:
    entries = resource.get("entry")
    return [
        (f"Bundle.entry[{n}].resource", _member(entry, "resource"))
        for n, entry in enumerate(entries if isinstance(entries, list) else [])
        if isinstance(entry, dict)
    ]


# --- reading ---------------------------------------------------------------------------------------------------------


def claims(resource: Json) -> set[str]:
    """The profiles in meta.profile, without versions."""
    stated = _member(resource, "meta").get("profile")
    return {c.partition("|")[0] for c in stated if isinstance(c, str)} if isinstance(stated, list) else set()


def codings(node: Any, path: str) -> Iterator[tuple[str, Json]]:
    """Every item of a `coding` below a node, with its path."""
    if isinstance(node, dict):
        for key, value in node.items():
            # Keys of the caller are shown only when they look like an element name.
            key = key if _NAME.fullmatch(str(key)) else "?"
            if key == "coding":
                yield from ((f"{path}.coding[{n}]", c) for n, c in enumerate(objects(value)))
            elif isinstance(value, dict | list):
                yield from codings(value, f"{path}.{key}")
    elif isinstance(node, list):
        for position, value in enumerate(node):
            yield from codings(value, f"{path}[{position}]")


def _member(node: Json, name: str) -> Json:
    value = node.get(name)
    return value if isinstance(value, dict) else {}


def _text(node: Json, name: str) -> str:
    value = node.get(name)
    return value if isinstance(value, str) else ""


def _nfkc(text: str) -> str:
    return unicodedata.normalize("NFKC", text)
