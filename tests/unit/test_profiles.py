"""Profiles of a package that the test writes: every kind of rule holds for what is right and fails for what is not."""

import copy
import threading
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_package import (
    HL7,
    OURS,
    SYSTEM,
    TREE,
    VALUES,
    base_resources,
    by,
    definition,
    element,
    narrowed,
    required,
    rule,
    value_set,
    write_package,
)

from app.fhir import check
from app.fhir.profiles import Profiles, import_profiles
from app.fhir.profiles.primitives import fault
from schemas.issue import Issue, Severity

Json = dict[str, Any]
LOCAL = "http://example.org/local"
SHARED = "http://example.org/shared"
COLOUR = f"{OURS}colour"
PATIENT_URL = "urn:uuid:7d2b3c1e-0b1d-4c7e-9d56-1f4b0f6f3a01"


def _colour_extension() -> Json:
    return definition("colour", "complex-type", [
        element("Extension", 0, "*"),
        element("Extension.id", 0, "1", "string"),
        element("Extension.extension", 0, "0"),
        element("Extension.url", 1, "1", "uri", fixedUri=COLOUR),
        element("Extension.value[x]", 1, "1", "Coding", binding=required("colours")),
    ], of="Extension")  # fmt: skip


def _coding_slice(name: str, system: str, display: str, **code: Any) -> list[Json]:
    path = "Observation.code.coding"
    return [
        narrowed(path, name, 0, "1", "*", "Coding"),
        narrowed(f"{path}.system", None, 1, "1", "1", "uri", fixedUri=system),
        narrowed(f"{path}.code", None, 1, "1", "1", "code", **code),
        narrowed(f"{path}.display", None, 1, "1", "1", "string", fixedString=display),
    ]


def _result_profile() -> Json:
    """Slices by value (two discriminators, names with "/"), by pattern, type, exists; fixed, pattern, extension, invariants."""
    slicing = by("value", "system")
    slicing["discriminator"].append({"type": "value", "path": "display"})
    return definition("result", "resource", [
        element("Observation", 0, "*", constraint=[
            rule("obs-6", "note.empty() or value.exists()"),
            rule("needs-text", "code.text.exists()", human="R1234:codeには…"),
            rule("should-have-note", "note.exists()", "warning"),
            rule("member", f"code.coding.where(memberOf('{VALUES}colours')).exists().not()"),
        ]),
        element("Observation.id", 0, "1", "http://hl7.org/fhirpath/System.String"),
        element("Observation.meta", 0, "1", "Meta"),
        narrowed("Observation.contained", None, 0, "*", "*", "Resource", slicing=by("profile", "$this")),
        narrowed("Observation.contained", "device", 0, "1", "*", {"code": "Device", "profile": [f"{OURS}named-device"]}),
        narrowed("Observation.extension", None, 1, "*", "*", "Extension", slicing=by("value", "url")),
        narrowed("Observation.extension", "colour", 1, "1", "*", {"code": "Extension", "profile": [COLOUR]}),
        element("Observation.modifierExtension", 0, "*", "Extension"),
        narrowed("Observation.identifier", None, 1, "*", "*", "Identifier", slicing=by("exists", "value", ordered=True)),
        narrowed("Observation.identifier", "full", 1, "1", "*", "Identifier"),
        narrowed("Observation.identifier.system", None, 1, "1", "1", "uri"),
        narrowed("Observation.identifier.value", None, 1, "1", "1", "string"),
        narrowed("Observation.identifier", "bare", 0, "1", "*", "Identifier"),
        narrowed("Observation.identifier.system", None, 0, "1", "1", "uri"),
        narrowed("Observation.identifier.value", None, 0, "0", "1", "string"),
        element("Observation.status", 1, "1", "code", fixedCode="final"),
        narrowed("Observation.category", None, 1, "*", "*", "CodeableConcept", slicing=by("pattern", "$this", "closed")),
        narrowed("Observation.category", "lab", 1, "1", "*", "CodeableConcept",
                 patternCodeableConcept={"coding": [{"system": SHARED, "code": "lab"}]}),
        narrowed("Observation.category", "free", 0, "2", "*", "CodeableConcept", patternCodeableConcept={"text": "free"}),
        element("Observation.code", 1, "1", "CodeableConcept"),
        narrowed("Observation.code.coding", None, 1, "*", "*", "Coding", slicing=slicing),
        narrowed("Observation.code.coding.system", None, 1, "1", "1", "uri"),
        *_coding_slice("shared/leaf", SHARED, "Leaf", patternCode="leaf"),
        *_coding_slice("local", LOCAL, "Here"),
        element("Observation.code.text", 0, "1", "string", maxLength=10),
        element("Observation.subject", 1, "1", {"code": "Reference", "targetProfile": [f"{OURS}known-patient"]}),
        narrowed("Observation.value[x]", None, 0, "1", "1", "Quantity", "string", slicing=by("type", "$this")),
        narrowed("Observation.value[x]", "valueQuantity", 0, "1", "1", "Quantity"),
        narrowed("Observation.value[x].value", None, 1, "1", "1", "decimal",
                 minValueDecimal=0, maxValueDecimal=100),
        narrowed("Observation.value[x].unit", None, 1, "1", "1", "string"),
        narrowed("Observation.value[x].system", None, 0, "1", "1", "uri"),
        narrowed("Observation.value[x].code", None, 0, "1", "1", "code"),
        element("Observation.note", 0, "*", "string"),
        element("Observation.component", 0, "*", "BackboneElement", constraint=[rule("cmp-9", "low.exists() or high.exists()")]),
        element("Observation.component.low", 0, "1", "Quantity"),
        element("Observation.component.high", 0, "1", "Quantity"),
        element("Observation.component.inner", 0, "*", contentReference="#Observation.component"),
    ], of="Observation")  # fmt: skip


def _profiles() -> list[Json]:
    patient = [
        element("Patient", 0, "*"),
        element("Patient.id", 0, "1", "http://hl7.org/fhirpath/System.String"),
        element("Patient.meta", 0, "1", "Meta"),
        narrowed("Patient.identifier", None, 1, "*", "*", "Identifier"),
        element("Patient.active", 0, "1", "boolean"),
        element("Patient.birthDate", 0, "1", "date"),
    ]
    device = [
        element("Device", 0, "*"),
        element("Device.id", 0, "1", "http://hl7.org/fhirpath/System.String"),
        element("Device.meta", 0, "1", "Meta"),
        narrowed("Device.identifier", None, 1, "*", "*", "Identifier"),
    ]
    bundle = [
        element("Bundle", 0, "*", constraint=[
            rule("patient-first", "entry.first().resource.is(Patient)", human="R0211:最初"),
            rule("coded", "entry.resource.ofType(Observation).all(code.text.exists())", human="R0999 all"),
        ]),
        element("Bundle.id", 0, "1", "http://hl7.org/fhirpath/System.String"),
        element("Bundle.meta", 0, "1", "Meta"),
        element("Bundle.type", 1, "1", "code", fixedCode="collection"),
        narrowed("Bundle.entry", None, 1, "*", "*", "BackboneElement", slicing=by("profile", "resource", "closed", True)),
        narrowed("Bundle.entry", "patient", 1, "1", "*", "BackboneElement"),
        narrowed("Bundle.entry.fullUrl", None, 1, "1", "1", "uri"),
        narrowed("Bundle.entry.resource", None, 1, "1", "1", {"code": "Patient", "profile": [f"{OURS}known-patient"]}),
        narrowed("Bundle.entry", "result", 0, "*", "*", "BackboneElement"),
        narrowed("Bundle.entry.fullUrl", None, 1, "1", "1", "uri"),
        narrowed("Bundle.entry.resource", None, 1, "1", "1", {"code": "Observation", "profile": [f"{OURS}result"]}),
    ]  # fmt: skip
    return [
        _colour_extension(),
        _result_profile(),
        definition("known-patient", "resource", patient, of="Patient"),
        definition("named-device", "resource", device, of="Device"),
        definition("report", "resource", bundle, of="Bundle"),
        value_set("colours", {"system": SYSTEM}),
        value_set("listed", {"system": SYSTEM, "concept": [{"code": "red"}]}),
        value_set("below", {"system": TREE, "filter": [{"property": "concept", "op": "descendent-of", "value": "top"}]}),
        value_set("is-a", {"system": TREE, "filter": [{"property": "concept", "op": "is-a", "value": "mid"}]}),
        value_set("nested", {"valueSet": [f"{VALUES}below", f"{VALUES}is-a"]}),
        value_set("all-but", {"system": SYSTEM}, exclude=[{"system": SYSTEM, "concept": [{"code": "blue"}]}]),
        value_set("elsewhere", {"system": "http://example.org/not-loaded"}),
        value_set("odd-filter", {"system": TREE, "filter": [{"property": "weight", "op": "=", "value": "1"}]}),
        value_set("loop", {"valueSet": [f"{VALUES}loop"]}),
        {"resourceType": "ValueSet", "url": f"{VALUES}expanded", "expansion": {"contains": [
            {"system": SYSTEM, "abstract": True, "code": "hue", "contains": [{"system": SYSTEM, "code": "red"}]}]}},
    ]  # fmt: skip


@pytest.fixture(scope="module")
def profiles(tmp_path_factory: pytest.TempPathFactory) -> Profiles:
    folder = tmp_path_factory.mktemp("packages")
    write_package(folder, "tiny.base", base_resources())
    write_package(folder, "tiny.ours", _profiles(), needs={"tiny.base": "1.0.0"})
    target = folder / "profiles.bin"
    import_profiles([folder], target)
    return Profiles.open(target)


def _patient() -> Json:
    return {
        "resourceType": "Patient", "id": "p", "meta": {"profile": [f"{OURS}known-patient"]},
        "identifier": [{"system": LOCAL, "value": "1"}], "birthDate": "1960-02-29",
    }  # fmt: skip


def _result() -> Json:
    return {
        "resourceType": "Observation", "id": "o", "meta": {"profile": [f"{OURS}result|1.0.0"]},
        "contained": [{"resourceType": "Device", "id": "d", "identifier": [{"value": "1"}]}],
        "extension": [{"url": COLOUR, "valueCoding": {"system": SYSTEM, "code": "red", "display": "Red"}}],
        "identifier": [{"system": LOCAL, "value": "1"}, {"system": LOCAL}],
        "status": "final",
        "category": [{"coding": [{"system": SHARED, "code": "lab", "display": "L"}]}, {"text": "free"}],
        "code": {
            "coding": [{"system": SHARED, "code": "leaf", "display": "Leaf"}, {"system": LOCAL, "code": "x", "display": "Here"}],
            "text": "leaf",
        },
        "subject": {"reference": PATIENT_URL},
        "valueQuantity": {"value": Decimal("1.10"), "unit": "g", "system": "http://unitsofmeasure.org", "code": "g"},
        "note": ["#d"],
        "component": [{"low": {"value": 1}, "inner": [{"high": {"value": 2}}]}],
    }  # fmt: skip


def _report() -> Json:
    return {
        "resourceType": "Bundle", "id": "b", "meta": {"profile": [f"{OURS}report"]}, "type": "collection",
        "entry": [{"fullUrl": PATIENT_URL, "resource": _patient()}, {"fullUrl": "urn:uuid:7d2b3c1e-0b1d-4c7e-9d56-1f4b0f6f3a02", "resource": _result()}],
    }  # fmt: skip


def _errors(issues: list[Issue]) -> list[str]:
    return [i.text for i in issues if i.severity == Severity.ERROR]


def test_what_is_right_has_no_error(profiles: Profiles) -> None:
    assert _errors(profiles.check(_report())) == []
    assert _errors(profiles.check(_result())) == []


def _set(holder: Any, *steps: Any) -> None:
    *before, last, value = steps
    for step in before:
        holder = holder[step]
    if value is ...:
        del holder[last]
    else:
        holder[last] = value


def _edit(*steps: Any) -> Callable[[Json], None]:
    return lambda resource: _set(resource, *steps)


FAULTS: dict[str, tuple[Callable[[Json], None], str]] = {
    # cardinality and JSON form
    "missing": (_edit("code", ...), "Observation.code: missing"),
    "missing-inside": (_edit("valueQuantity", "unit", ...), "Observation.valueQuantity.unit: missing"),
    "two-values": (_edit("valueString", "x"), "Observation.value: at most 1 allowed"),
    "type-refused": (
        lambda r: (r.pop("valueQuantity"), r.update(valueInteger=1)), "Observation.valueInteger: a type that is not allowed here"
    ),
    "unknown": (_edit("colour", 1), "Observation.colour: unknown element"),
    "impossible-name": (_edit("秘密 ", 1), "Observation: unknown element with an impossible name"),
    "unknown-inside": (_edit("code", "coding", 0, "x", 1), "Observation.code.coding[0].x: unknown element"),
    "no-array": (_edit("note", "x"), "Observation.note: one value where an array is expected"),
    "array": (_edit("code", [{"text": "x"}]), "Observation.code: an array where one value is expected"),
    "not-an-object": (_edit("code", "x"), "Observation.code: not an object"),
    "not-a-primitive": (_edit("status", {"x": 1}), "Observation.status: an object or array where a primitive is expected"),
    "empty-array": (_edit("note", []), "Observation.note: empty"),
    "empty-object": (_edit("subject", {}), "Observation.subject: empty"),
    "null": (_edit("status", None), "Observation.status: empty"),
    "null-in-array": (_edit("note", [None, "x"]), "Observation.note[0]: empty"),
    "shadow-length": (_edit("_note", [{"id": "a"}, {"id": "b"}]), "Observation.note: arrays of different length"),
    "shadow-of-an-object": (_edit("_code", {"id": "a"}), "Observation.code: an extension of a primitive beside what is none"),
    "bad-shadow": (_edit("_status", "x"), "Observation.status: the extension of a primitive is not an object"),
    "unknown-in-shadow": (_edit("_status", {"x": 1}), "Observation.status.x: unknown element"),
    # values
    "fixed": (_edit("status", "draft"), "Observation.status: not the fixed value"),
    "base-binding": (_edit("status", "gone"), f"Observation.status: not in the required value set {VALUES}status"),
    "pattern": (_edit("code", "coding", 0, "code", "mid"), "Observation.code.coding[0].code: does not have the required pattern"),
    "too-long": (_edit("code", "text", "x" * 11), "Observation.code.text: longer than 10 characters"),
    "too-high": (_edit("valueQuantity", "value", Decimal("100.1")), "Observation.valueQuantity.value: outside the allowed range"),
    "too-low": (_edit("valueQuantity", "value", -1), "Observation.valueQuantity.value: outside the allowed range"),
    "not-a-number": (_edit("valueQuantity", "value", "1"), "Observation.valueQuantity.value: not a decimal"),
    "long-id": (_edit("id", "a" * 65), "Observation.id: not a valid id"),
    # slices
    "no-required-slice": (
        _edit("extension", 0, {"url": "http://example.org/x", "valueString": "x"}), "Observation.extension: slice colour: missing"
    ),
    "slice-twice": (
        lambda r: r["code"]["coding"].append(dict(r["code"]["coding"][0])),
        "Observation.code.coding: slice shared/leaf: at most 1 allowed",
    ),
    "closed-slicing": (lambda r: r["category"].append({"text": "other"}), "Observation.category[2]: fits no slice of a closed slicing"),
    "slice-missing-by-pattern": (_edit("category", 0, ...), "Observation.category: slice lab: missing"),
    "order-of-slices": (lambda r: r["identifier"].reverse(), "Observation.identifier[1]: out of the order of the slices"),
    "slice-by-existence": (_edit("identifier", 0, "system", ...), "Observation.identifier[0].system: missing"),
    "unsliced-item": (
        lambda r: r["code"]["coding"].append({"code": "y", "display": "free"}), "Observation.code.coding[2].system: missing"
    ),
    "two-contained-of-a-slice": (
        lambda r: r["contained"].append({"resourceType": "Device", "id": "e", "identifier": [{"value": "2"}]})
        or r["note"].append("#e"),
        "Observation.contained: slice device: at most 1 allowed",
    ),
    # extensions
    "extension-value": (_edit("extension", 0, "valueCoding", "code", "green"),
                        f"Observation.extension[0].valueCoding: not in the required value set {VALUES}colours"),
    "extension-of-another-type": (
        _edit("extension", 0, {"url": COLOUR, "valueString": "x"}), "Observation.extension[0].valueString: a type that is not allowed here"
    ),
    "extension-without-value": (_edit("extension", 0, {"url": COLOUR}), "Observation.extension[0]: ext-1 either extensions or a value"),
    "unknown-jp-extension": (
        lambda r: r["extension"].append({"url": "http://jpfhir.jp/fhir/clins/Extension/StructureDefinition/X", "valueString": "x"}),
        "Observation.extension[1].url: an extension that no loaded package of jpfhir.jp defines",
    ),
    "modifier": (
        _edit("modifierExtension", [{"url": "http://example.org/x", "valueString": "x"}]),
        "Observation.modifierExtension[0].url: an unknown extension that changes the meaning",
    ),
    # invariants
    "invariant": (_edit("valueQuantity", ...), "Observation: obs-6"),
    "numbered-invariant": (_edit("code", "text", ...), "Observation: needs-text R1234"),
    "invariant-with-member-of": (
        lambda r: r["code"]["coding"].append({"system": SYSTEM, "code": "red", "display": "Red"}), "Observation: member"
    ),
    "root-of-a-data-type": (_edit("valueQuantity", "system", ...), "Observation.valueQuantity: qty-3"),
    "backbone": (_edit("component", 0, {"id": "x"}), "Observation.component[0]: cmp-9"),
    "content-reference": (_edit("component", 0, "inner", 0, {"id": "x"}), "Observation.component[0].inner[0]: cmp-9"),
    "contained-unused": (_edit("note", ["x"]), "Observation: dom-3"),
    "contained-in-contained": (_edit("contained", 0, "contained", [{"resourceType": "Device", "id": "x"}]), "Observation: dom-2"),
    # references
    "wrong-target": (_edit("subject", "reference", "Device/1"),
                     "Observation.subject.reference: refers to a type of resource that is not allowed here"),
    "local-reference": (_edit("subject", "reference", "#nothing"), "Observation.subject: ref-1"),
    "contained-of-wrong-type": (_edit("subject", "reference", "#d"),
                                "Observation.subject.reference: refers to a type of resource that is not allowed here"),
    "stated-type": (_edit("subject", {"reference": "#d", "type": "Patient"}),
                    "Observation.subject.reference: its type is not that of the resource it refers to"),
    # resources
    "unknown-contained": (_edit("contained", 0, "resourceType", "Toaster"), "Observation.contained[0]: not a resource type of FHIR R4"),
    "profile-of-another-type": (_edit("meta", "profile", [f"{OURS}known-patient"]),
                                "Observation.meta.profile[0]: a profile of another type of resource"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(name: str, profiles: Profiles) -> None:
    edit, expected = FAULTS[name]
    resource = _result()
    edit(resource)
    assert expected in _errors(profiles.check(resource))


def test_warnings_information_and_what_is_not_loaded(profiles: Profiles) -> None:
    resource = _result()
    del resource["note"], resource["contained"]
    resource["meta"]["profile"] += ["http://example.org/unknown"]
    resource["meta"]["profile"][0] = f"{OURS}result|2"
    resource["extension"].append({"url": "http://elsewhere.example/x", "valueString": "x"})
    resource["extension"][0]["valueCoding"]["display"] = "Rot"
    found = {(i.severity, i.text) for i in profiles.check(resource)}
    assert found >= {
        (Severity.WARNING, "Observation: should-have-note"),
        (Severity.INFORMATION, "Observation: dom-6"),
        (Severity.WARNING, "Observation.meta.profile[1]: this profile is not loaded and was not checked"),
        (Severity.WARNING, "Observation.meta.profile[0]: checked against another version of this profile, the one that is loaded"),
        (Severity.INFORMATION, "Observation.extension[1].url: an extension that is not loaded"),
        (Severity.WARNING, "Observation.extension[0].valueCoding.display: not a display of this code"),
    }
    assert not any(s == Severity.ERROR for s, _ in found)
    own = profiles.check(resource, own=("http://elsewhere.example/",))
    assert not any("elsewhere" in i.text or "extension[1]" in i.text for i in own)


def test_a_bundle_is_checked_inside_with_real_paths(profiles: Profiles) -> None:
    bundle = _report()
    bundle["entry"][1]["resource"]["code"]["coding"][0]["code"] = "mid"
    errors = _errors(profiles.check(bundle))
    assert errors == ["Bundle.entry[1].resource.code.coding[0].code: does not have the required pattern"]

    bundle = _report()
    del bundle["entry"][1]["resource"]["meta"]  # claims nothing: the closed slice of its type asks for the profile
    bundle["entry"][1]["resource"]["status"] = "draft"
    assert "Bundle.entry[1].resource.status: not the fixed value" in _errors(profiles.check(bundle))

    bundle = _report()
    bundle["entry"].append({"fullUrl": "urn:uuid:7d2b3c1e-0b1d-4c7e-9d56-1f4b0f6f3a03", "resource": {"resourceType": "Device", "id": "x"}})
    assert _errors(profiles.check(bundle)) == ["Bundle.entry[2]: fits no slice of a closed slicing"]

    bundle = _report()
    bundle["entry"].reverse()
    assert {"Bundle.entry[0].resource: patient-first R0211", "Bundle.entry[1]: out of the order of the slices"} <= set(
        _errors(profiles.check(bundle))
    )


def test_an_invariant_of_the_bundle_names_the_guilty_entry(profiles: Profiles) -> None:
    bundle = _report()
    for n in range(3):
        bundle["entry"].append({"fullUrl": f"urn:uuid:7d2b3c1e-0b1d-4c7e-9d56-1f4b0f6f3b0{n}", "resource": _result() | {"id": f"o{n}"}})
    del bundle["entry"][3]["resource"]["code"]["text"]
    assert "Bundle.entry[3].resource: coded R0999" in _errors(profiles.check(bundle))
    assert "Bundle: coded R0999" not in _errors(profiles.check(bundle))


def test_a_reference_leads_to_a_resource_that_obeys_the_target_profile(profiles: Profiles) -> None:
    bundle = _report()
    patient = bundle["entry"][0]["resource"]
    del patient["meta"], patient["identifier"]
    errors = _errors(profiles.check(bundle))
    expected = "Bundle.entry[1].resource.subject.reference: refers to a resource that does not obey the profile required here"
    assert expected in errors
    assert "Bundle.entry[0].resource.identifier: missing" in errors


def test_slices_inside_slices_are_counted(tmp_path: Path) -> None:
    sliced = definition("sliced", "resource", [
        element("Patient", 0, "*"),
        element("Patient.meta", 0, "1", "Meta"),
        narrowed("Patient.identifier", None, 0, "*", "*", "Identifier", slicing=by("value", "system")),
        narrowed("Patient.identifier", "local", 0, "*", "*", "Identifier", slicing=by("value", "value", "closed")),
        narrowed("Patient.identifier.system", None, 1, "1", "1", "uri", fixedUri=LOCAL),
        narrowed("Patient.identifier.value", None, 0, "1", "1", "string"),
        narrowed("Patient.identifier", "local/one", 1, "1", "*", "Identifier"),
        narrowed("Patient.identifier.system", None, 1, "1", "1", "uri", fixedUri=LOCAL),
        narrowed("Patient.identifier.value", None, 1, "1", "1", "string", fixedString="1"),
    ], of="Patient")  # fmt: skip
    write_package(tmp_path, "a", [*base_resources(), sliced])
    import_profiles([tmp_path], tmp_path / "p.bin")
    profiles = Profiles.open(tmp_path / "p.bin")

    def errors(*values: str) -> list[str]:
        identifiers = [{"system": LOCAL, "value": v} for v in values]
        return _errors(profiles.check({"resourceType": "Patient", "identifier": identifiers}, profile=f"{OURS}sliced"))

    assert errors("1") == []
    assert errors("1", "1") == ["Patient.identifier: slice local/one: at most 1 allowed"]
    assert errors("2") == [
        "Patient.identifier[0]: fits no slice of a closed slicing",
        "Patient.identifier: slice local/one: missing",
    ]


def test_a_profile_can_be_asked_for(profiles: Profiles) -> None:
    patient = {"resourceType": "Patient"}
    assert _errors(profiles.check(patient)) == []
    assert _errors(profiles.check(patient, profile=f"{OURS}known-patient|1.0.0")) == ["Patient.identifier: missing"]
    assert "Patient: the profile that was asked for is not loaded" in _errors(profiles.check(patient, profile=f"{OURS}none"))
    assert _errors(profiles.check({"resourceType": "DomainResource"})) == ["Resource: not a resource type of FHIR R4"]
    assert "Patient: another type of resource is required here" in _errors(profiles.check(patient, profile=f"{OURS}result"))


@pytest.mark.parametrize(
    ("name", "system", "code", "answer"),
    [
        ("colours", SYSTEM, "red", True),
        ("colours", SYSTEM, "green", False),
        ("colours", LOCAL, "red", False),
        ("colours", None, "blue", True),
        ("listed", SYSTEM, "red", True),
        ("listed", SYSTEM, "blue", False),
        ("below", TREE, "top", False),
        ("below", TREE, "mid", True),
        ("below", TREE, "leaf", True),
        ("is-a", TREE, "mid", True),
        ("is-a", TREE, "top", False),
        ("nested", TREE, "leaf", True),
        ("nested", TREE, "mid", True),
        ("nested", TREE, "top", False),
        ("all-but", SYSTEM, "red", True),
        ("all-but", SYSTEM, "blue", False),
        ("expanded", SYSTEM, "red", True),
        ("expanded", SYSTEM, "hue", False),
        ("elsewhere", "http://example.org/not-loaded", "x", None),
        ("elsewhere", SYSTEM, "red", False),
        ("odd-filter", TREE, "leaf", None),
        ("odd-filter", TREE, "gone", False),
        ("loop", SYSTEM, "red", None),
        ("nowhere", SYSTEM, "red", None),
    ],
)
def test_value_sets(name: str, system: str | None, code: str, answer: bool | None, profiles: Profiles) -> None:
    assert profiles.vocabulary.contains(VALUES + name, system, code) is answer


def test_what_cannot_be_decided_passes_and_is_counted(tmp_path: Path) -> None:
    observation = definition("odd", "resource", [
        element("Observation", 0, "*", constraint=[rule("strange", "code.conformsTo('x')")]),
        element("Observation.meta", 0, "1", "Meta"),
        element("Observation.status", 1, "1", "code", binding=required("elsewhere")),
        element("Observation.code", 1, "1", "CodeableConcept", binding=required("nowhere")),
    ], of="Observation")  # fmt: skip
    extra = value_set("elsewhere", {"system": "http://example.org/not-loaded"})
    write_package(tmp_path, "a", [*base_resources(), observation, extra])
    import_profiles([tmp_path], tmp_path / "p.bin")
    profiles = Profiles.open(tmp_path / "p.bin")
    resource = {"resourceType": "Observation", "meta": {"profile": [f"{OURS}odd"]}, "status": "final", "code": {"text": "x"}}
    assert _errors(profiles.check(resource)) == []
    assert profiles.undecided == {f"{VALUES}elsewhere": 1, f"{VALUES}nowhere": 1, "strange": 1}


_GOOD = [
    ("date", "2024"), ("date", "2024-02-29"), ("dateTime", "2024-02-29T23:59:60+09:00"), ("dateTime", "1900-01"),
    ("instant", "2024-01-01T00:00:00.123456789Z"), ("time", "23:59:59"), ("id", "A-1.b"), ("code", "a b"), ("uri", "urn:oid:1.2"),
    ("uri", "urn:iso:std:iso:4217"), ("uri", "urn:x"), ("oid", "urn:oid:1.2.392.200119"),
    ("uuid", "urn:uuid:c757873d-ec9a-4326-a141-556f43239520"), ("base64Binary", "QUI="),
    ("integer", -(2**31)), ("unsignedInt", 0), ("positiveInt", 1), ("decimal", Decimal("1.10")), ("decimal", 3), ("boolean", False),
    ("string", " a\n"), ("markdown", "# x"),
]  # fmt: skip
_BAD = [
    ("date", "2023-02-29"), ("date", "2024-13"), ("date", "0000"), ("date", "2024-1-1"), ("date", "２０２４"),
    ("dateTime", "2024-01-01T10:00+09:00"), ("dateTime", "2024-01-01T10:00:00"), ("dateTime", "2024-01-01T24:00:00Z"),
    ("dateTime", 1704067200), ("instant", "2024-01-01"), ("time", "24:00:00"), ("id", "a/b"), ("id", "a" * 65), ("id", ""),
    ("code", " a"), ("code", "a  b"), ("uri", "http://a b"), ("uri", "urn:uuid:ABC"), ("uri", "urn:oid:x"), ("oid", "1.2.3"),
    ("uuid", "c757873d-ec9a-4326-a141-556f43239520"),
    ("uuid", "urn:uuid:C757873D-EC9A-4326-A141-556F43239520"), ("base64Binary", "@@@"), ("base64Binary", "QUI"),
    ("integer", 2**31), ("integer", True), ("integer", "1"), ("integer", Decimal("1.0")), ("unsignedInt", -1), ("positiveInt", 0),
    ("decimal", "1.10"), ("decimal", True), ("boolean", "true"), ("boolean", 1), ("string", ""), ("string", "\u3000 "),
    ("string", "a\x00"), ("string", 1), ("string", "x" * (2**20 + 1)),
]  # fmt: skip


@pytest.mark.parametrize(("code", "value"), _GOOD)
def test_primitives_that_are_right(code: str, value: Any) -> None:
    assert fault(code, value) is None


@pytest.mark.parametrize(("code", "value"), _BAD)
def test_primitives_that_are_wrong(code: str, value: Any) -> None:
    assert fault(code, value) is not None


def test_checks_may_run_in_many_threads(profiles: Profiles) -> None:
    """fhirpathpy keeps state in its modules: without the lock, checks of several threads disturb each other."""
    broken = _result()
    del broken["code"]["text"]
    outcomes: list[bool] = []

    def work() -> None:
        for _ in range(15):
            outcomes.append(_errors(profiles.check(_result())) == [] and _errors(profiles.check(broken)) == ["Observation: needs-text R1234"])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [True] * 60


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
    | st.sampled_from(["#d", PATIENT_URL, "Patient/1", COLOUR, f"{OURS}result", "Observation", "final"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["resourceType", "url", "reference", "coding", "id", "profile", "_x", "x"]), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), value=_ANY)
def test_any_content_gets_an_answer_without_its_values(data: st.DataObject, value: Any, profiles: Profiles) -> None:
    """One place of a good Bundle replaced by anything: findings, never an exception, never what was written."""
    bundle = copy.deepcopy(_report())
    holder: Any = bundle
    key: Any = data.draw(st.sampled_from(sorted(bundle)))
    while isinstance(holder[key], dict | list) and holder[key] and data.draw(st.integers(0, 9)):
        holder = holder[key]
        choice = sorted(holder) if isinstance(holder, dict) else range(len(holder))
        key = data.draw(st.sampled_from(list(choice)))
    holder[key] = value if data.draw(st.booleans()) else "秘密" * 30
    for issue in profiles.check(bundle):
        assert "秘密" not in issue.text


def test_made_up_canonicals_and_systems_are_not_kept_in_memory(profiles: Profiles) -> None:
    def kept() -> tuple[int, ...]:
        words = profiles.vocabulary
        return len(profiles._trees), len(words._systems), len(words._sets), len(words._answers)

    def patient(n: int) -> Json:
        tag = {"system": f"http://example.org/s{n}", "code": "x" * 500 + str(n)}
        return {"resourceType": "Patient", "meta": {"profile": [f"http://example.org/p{n}"], "tag": [tag]}}

    check(patient(0), profiles=profiles)
    before = kept()
    for n in range(1, 20):
        check(patient(n), profiles=profiles)
    assert kept() == before


def test_what_is_nested_too_deep_is_a_finding(profiles: Profiles) -> None:
    deep: Json = {"low": {"value": 1}}
    for _ in range(500):
        deep = {"low": {"value": 1}, "inner": [deep]}
    assert "Observation: nested too deep" in _errors(profiles.check(_result() | {"component": [deep]}))


def test_the_one_face_joins_structure_profiles_and_our_rules(profiles: Profiles) -> None:
    """`check` with profiles: one issue for what fhir.resources and the walk both see."""
    result = _result()
    result["meta"] = {"profile": [f"{OURS}result"]}
    del result["component"], result["note"], result["contained"]
    assert _errors(check(result, profiles=profiles)) == []
    del result["code"]["text"], result["status"]
    assert sorted(_errors(check(result, profiles=profiles))) == [
        "Observation.status: missing",
        "Observation: needs-text R1234",
    ]
    deep: Json = {"low": {"value": 1}}
    for _ in range(3000):
        deep = {"inner": [deep]}
    nested = check(_result() | {"component": [deep]}, profiles=profiles, lab={})
    assert any("nested too deep" in text for text in _errors(nested))


def test_profiles_without_the_types_of_fhir_are_not_used(tmp_path: Path) -> None:
    write_package(tmp_path, "a", [_colour_extension()])
    import_profiles([tmp_path], tmp_path / "p.bin")
    patient = {"resourceType": "Patient", "gender": "male"}
    assert check(patient, profiles=Profiles.open(tmp_path / "p.bin")) == check(patient) == []


def test_hl7_types_are_known_by_their_canonical(profiles: Profiles) -> None:
    assert profiles.knows(f"{HL7}Patient")
    assert profiles.knows(f"{OURS}result|9")
    assert not profiles.knows(f"{HL7}Toaster")
