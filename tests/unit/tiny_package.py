"""FHIR packages small enough to read: a handful of data types, three resource types, profiles with every kind of rule.

The definitions are ours and only have the form of FHIR's (snapshots as the publisher writes them); what they ask is made
up for the tests.
"""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

Json = dict[str, Any]

HL7 = "http://hl7.org/fhir/StructureDefinition/"
OURS = "http://example.org/fhir/StructureDefinition/"
SYSTEM = "http://example.org/fhir/CodeSystem/colours"
TREE = "http://example.org/fhir/CodeSystem/tree"
VALUES = "http://example.org/fhir/ValueSet/"


def element(path: str, least: int = 0, most: str = "1", *types: str | Json, **rest: Any) -> Json:
    """An element of a snapshot; a type is a code or the whole type."""
    made: Json = {"id": path, "path": path, "min": least, "max": most, "base": {"path": path, "min": 0, "max": most}}
    if types:
        made["type"] = [{"code": t} if isinstance(t, str) else t for t in types]
    return made | rest


def narrowed(path: str, name: str | None, least: int, most: str, base_most: str, *types: str | Json, **rest: Any) -> Json:
    """An element of a profile: a slice with `name`, else the element itself; `base_most` decides the JSON form."""
    made = element(path, least, most, *types, **rest)
    made["base"]["max"] = base_most
    return made | ({"sliceName": name, "id": f"{path}:{name}"} if name else {})


def rule(key: str, expression: str, severity: str = "error", human: str = "", **rest: Any) -> Json:
    return {"key": key, "severity": severity, "human": human or key, "expression": expression} | rest


def by(kind: str, path: str, rules: str = "open", ordered: bool = False) -> Json:
    return {"discriminator": [{"type": kind, "path": path}], "rules": rules, "ordered": ordered}


def required(name: str) -> Json:
    return {"strength": "required", "valueSet": f"{VALUES}{name}|1.0"}


def definition(name: str, kind: str, elements: list[Json], *, of: str | None = None, url: str | None = None) -> Json:
    """A StructureDefinition: of a type, or with `of` a profile on that type."""
    return {
        "resourceType": "StructureDefinition",
        "url": url or (f"{OURS}{name}" if of else f"{HL7}{name}"),
        "version": "1.0.0",
        "name": name,
        "kind": kind,
        "abstract": False,
        "type": of or name,
        "baseDefinition": f"{HL7}{of}" if of else f"{HL7}Element",
        "derivation": "constraint" if of else "specialization",
        "snapshot": {"element": elements},
    }


def _datatype(name: str, *fields: Json, rules: list[Json] | None = None) -> Json:
    root = element(name, 0, "*", constraint=rules or [])
    common = [element(f"{name}.id", 0, "1", "string"), element(f"{name}.extension", 0, "*", "Extension")]
    return definition(name, "complex-type", [root, *common, *fields])


def _resource(name: str, *fields: Json, rules: list[Json] | None = None) -> Json:
    common = [
        element(f"{name}.id", 0, "1", "http://hl7.org/fhirpath/System.String"),
        element(f"{name}.meta", 0, "1", "Meta"),
        element(f"{name}.contained", 0, "*", "Resource"),
        element(f"{name}.extension", 0, "*", "Extension"),
        element(f"{name}.modifierExtension", 0, "*", "Extension"),
    ]
    own = [
        rule("dom-2", "contained.contained.empty()"),
        rule("dom-3", "contained.where(false).empty()"),
        rule("dom-6", "text.`div`.exists()", "warning", extension=[
            {"url": f"{HL7}elementdefinition-bestpractice", "valueBoolean": True}]),
    ]  # fmt: skip
    return definition(name, "resource", [element(name, 0, "*", constraint=own + (rules or [])), *common, *fields])


def base_resources() -> list[Json]:
    """Types of FHIR, reduced to what the tests need."""
    return [
        definition("Element", "complex-type", [
            element("Element", 0, "*"), element("Element.id", 0, "1", "string"),
            element("Element.extension", 0, "*", "Extension"),
        ]),
        _datatype("Extension", element("Extension.url", 1, "1", "uri"),
                  element("Extension.value[x]", 0, "1", "string", "code", "boolean", "Coding", "Quantity")),
        _datatype("Meta", element("Meta.lastUpdated", 0, "1", "instant"), element("Meta.profile", 0, "*", "canonical"),
                  element("Meta.tag", 0, "*", "Coding")),
        _datatype("Coding", element("Coding.system", 0, "1", "uri"), element("Coding.code", 0, "1", "code"),
                  element("Coding.display", 0, "1", "string")),
        _datatype("CodeableConcept", element("CodeableConcept.coding", 0, "*", "Coding"),
                  element("CodeableConcept.text", 0, "1", "string")),
        _datatype("Identifier", element("Identifier.system", 0, "1", "uri"), element("Identifier.value", 0, "1", "string")),
        _datatype("Quantity", element("Quantity.value", 0, "1", "decimal"), element("Quantity.unit", 0, "1", "string"),
                  element("Quantity.system", 0, "1", "uri"), element("Quantity.code", 0, "1", "code"),
                  rules=[rule("qty-3", "code.empty() or system.exists()")]),
        _datatype("Period", element("Period.start", 0, "1", "dateTime"), element("Period.end", 0, "1", "dateTime"),
                  rules=[rule("per-1", "start.hasValue().not() or end.hasValue().not() or (start <= end)")]),
        _datatype("Reference", element("Reference.reference", 0, "1", "string"), element("Reference.type", 0, "1", "uri"),
                  element("Reference.display", 0, "1", "string"),
                  rules=[rule("ref-1", "reference.startsWith('#').not() or true")]),
        _resource("Patient", element("Patient.identifier", 0, "*", "Identifier"), element("Patient.active", 0, "1", "boolean"),
                  element("Patient.birthDate", 0, "1", "date"), element("Patient.photo", 0, "1", "base64Binary"),
                  element("Patient.period", 0, "1", "Period")),
        _resource("Device", element("Device.identifier", 0, "*", "Identifier")),
        _resource(
            "Observation",
            element("Observation.identifier", 0, "*", "Identifier"),
            element("Observation.status", 1, "1", "code", binding=required("status")),
            element("Observation.category", 0, "*", "CodeableConcept"),
            element("Observation.code", 1, "1", "CodeableConcept"),
            element("Observation.subject", 0, "1", {"code": "Reference", "targetProfile": [f"{HL7}Patient"]}),
            element("Observation.value[x]", 0, "1", "Quantity", "string", "CodeableConcept", "integer"),
            element("Observation.note", 0, "*", "string"),
            element("Observation.component", 0, "*", "BackboneElement",
                    constraint=[rule("cmp-9", "low.exists() or high.exists()")]),
            element("Observation.component.low", 0, "1", "Quantity"),
            element("Observation.component.high", 0, "1", "Quantity"),
            element("Observation.component.inner", 0, "*", contentReference="#Observation.component"),
            rules=[rule("obs-6", "note.empty() or value.exists()")],
        ),
        definition("Bundle", "resource", [
            element("Bundle", 0, "*", constraint=[rule("all-have-codes", "entry.resource.ofType(Observation).all(code.exists())")]),
            element("Bundle.id", 0, "1", "http://hl7.org/fhirpath/System.String"),
            element("Bundle.meta", 0, "1", "Meta"),
            element("Bundle.type", 1, "1", "code"),
            element("Bundle.entry", 0, "*", "BackboneElement"),
            element("Bundle.entry.fullUrl", 0, "1", "uri"),
            element("Bundle.entry.resource", 0, "1", "Resource"),
        ]),
        {"resourceType": "CodeSystem", "url": SYSTEM, "content": "complete", "concept": [
            {"code": "red", "display": "Red", "designation": [{"language": "ja", "value": "赤"}]},
            {"code": "blue", "display": "Blue"}]},
        {"resourceType": "CodeSystem", "url": TREE, "content": "complete", "concept": [
            {"code": "top", "display": "Top", "concept": [
                {"code": "mid", "display": "Mid", "concept": [{"code": "leaf", "display": "Leaf"}]}]}]},
        value_set("status", {"system": "http://example.org/status", "concept": [{"code": "final"}, {"code": "draft"}]}),
    ]  # fmt: skip


def value_set(name: str, *include: Json, exclude: list[Json] | None = None) -> Json:
    compose: Json = {"include": list(include)} | ({"exclude": exclude} if exclude else {})
    return {"resourceType": "ValueSet", "url": f"{VALUES}{name}", "compose": compose}


def write_package(
    folder: Path, name: str, resources: list[Json], *, version: str = "1.0.0", needs: dict[str, str] | None = None
) -> Path:
    """`folder/name#version/package/*.json`; returns the package's folder."""
    target = folder / f"{name}#{version}" / "package"
    target.mkdir(parents=True)
    manifest = {"name": name, "version": version, "dependencies": needs or {}}
    (target / "package.json").write_text(json.dumps(manifest), encoding="utf-8")
    for number, resource in enumerate(resources):
        text = json.dumps(resource, ensure_ascii=False)
        (target / f"{resource['resourceType']}-{number:03}.json").write_text(text, encoding="utf-8")
    return target.parent


def write_archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path
