"""The declared search parameters are those of R4, and lead where R4's expressions lead."""

import json
import re
import tarfile
from typing import Any

import pytest
from published import EXAMPLES, PACKAGES, example_files

from app.fhir import loads
from app.store.parameters import CHOICES, COMMON, MANDATORY, PARAMETERS, SUMMARY, ParameterType
from app.store.values import values_of

CORE = PACKAGES / "deps" / "hl7.fhir.r4.core-4.0.1.tgz"
# The package holds an example of the standard under the same URL as the real one.
MISNAMED = {"http://hl7.org/fhir/SearchParameter/Condition-subject": "http://hl7.org/fhir/SearchParameter/example-reference"}


@pytest.fixture(scope="module")
def core() -> dict[str, dict[str, Any]]:
    """SearchParameters by URL, StructureDefinitions by type."""
    found = {}
    with tarfile.open(CORE) as package:
        for member in package:
            name = member.name.removeprefix("package/")
            wanted = name.startswith("SearchParameter-") or name.removeprefix("StructureDefinition-")[:-5] in PARAMETERS
            if wanted and name.endswith(".json") and (opened := package.extractfile(member)) is not None:
                content = json.load(opened)
                found[content["url"] if name.startswith("Search") else content["type"]] = content
    return found


def properties(expression: str, type_: str) -> set[str]:
    """First JSON properties, without the types of choices, that an expression reads of the type."""
    return set(re.findall(rf"\b{type_}\.([a-z]\w*)", expression))


@pytest.mark.parametrize("type_", [*PARAMETERS, "*"])
def test_every_parameter_is_declared_as_r4_declares_it(core: dict[str, dict[str, Any]], type_: str) -> None:
    for name, parameter in (COMMON if type_ == "*" else PARAMETERS[type_]).items():
        published = core[MISNAMED.get(parameter.definition, parameter.definition)]
        base = "Resource" if name.startswith("_") else type_
        assert (published["code"], published["type"]) == (name, parameter.type), name
        assert base in published["base"], name
        firsts = {path.steps[0] for path in parameter.paths}
        for wanted in properties(published["expression"], base):
            assert any(first == wanted or first.startswith(wanted) for first in firsts), (name, wanted, firsts)
        for first in firsts:
            assert any(first == wanted or first.startswith(wanted) for wanted in properties(published["expression"], base)), (name, first)
        if parameter.type is ParameterType.REFERENCE and type_ != "*" and "target" in published and parameter.targets != ("*",):
            official = set(published["target"])
            assert name == "subject" or not parameter.targets or set(parameter.targets) & official, name


@pytest.mark.parametrize("type_", PARAMETERS)
def test_summaries_keep_what_r4_marks(core: dict[str, dict[str, Any]], type_: str) -> None:
    elements = [e for e in core[type_]["snapshot"]["element"] if e["path"].count(".") == 1]
    named = {e["path"].split(".")[1].removesuffix("[x]"): e for e in elements}
    assert {n for n, e in named.items() if e.get("isSummary")} - {"id", "meta"} == SUMMARY[type_]
    assert {n for n, e in named.items() if e["min"]} <= MANDATORY[type_]
    assert {e["path"].split(".")[1][:-3] for e in elements if e["path"].endswith("[x]")} == CHOICES[type_]


def test_published_examples_have_what_searches_need() -> None:
    """Each of the publishers' examples has a patient where it states one, and a code where it states one."""
    read = 0
    for folder in sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir()):
        for file in example_files(folder):
            content = loads(file.read_bytes())
            if content.get("resourceType") not in PARAMETERS:
                continue
            found = values_of(content | {"id": content.get("id", "x")})
            subject = (content.get("subject") or content.get("patient") or {}).get("reference", "")
            if re.fullmatch(r"Patient/[\w.-]+", subject, re.ASCII) and content["resourceType"] != "PractitionerRole":
                assert found.patient == subject.removeprefix("Patient/"), file.name
            number = PARAMETERS[content["resourceType"]].get("code")
            if number is not None and isinstance(content.get("code"), dict):
                assert any(row[0] == number.number for row in found.tokens), file.name
            read += 1
    assert read > 50
