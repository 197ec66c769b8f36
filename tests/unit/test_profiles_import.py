"""Importing packages: what is taken, what wins, what is refused, and that a failed import changes nothing."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from tiny_package import (
    HL7,
    OURS,
    SYSTEM,
    VALUES,
    base_resources,
    definition,
    element,
    rule,
    value_set,
    write_archive,
    write_package,
)

from app.errors import InvalidInput, Unavailable
from app.fhir.profiles import Profiles, import_profiles

Json = dict[str, Any]
DOUBLE = f"{OURS}double"


def _patient_profile(most: str, *, snapshot: bool = True, version: str = "1.0.0") -> Json:
    made = definition("double", "resource", [
        element("Patient", 0, "*"),
        element("Patient.meta", 0, "1", "Meta"),
        element("Patient.active", 0, most, "boolean"),
    ], of="Patient")  # fmt: skip
    made["version"] = version
    if not snapshot:
        made["differential"] = made.pop("snapshot")
    return made


def _most(target: Path) -> int:
    tree = Profiles.open(target).tree(DOUBLE)
    assert tree is not None
    return tree.root.children["active"].element.max


def test_packages_are_found_in_folders_and_archives(tmp_path: Path) -> None:
    write_package(tmp_path / "deep" / "er", "tiny.base", base_resources())
    manifest = json.dumps({"name": "tiny.archive", "version": "2.0.0"}).encode()
    write_archive(
        tmp_path / "deep" / "some.tgz",
        {
            "package/package.json": manifest,
            "package/StructureDefinition-x.json": json.dumps(_patient_profile("1")).encode(),
            "package/.index.json": b"{}",
            "package/example/Patient-x.json": b"not json",
            "package/notes.txt": b"not json",
            "../outside.json": b"{}",
        },
    )
    (tmp_path / "deep" / "readme.json").write_text("not json")
    target = tmp_path / "out" / "profiles.bin"
    report = import_profiles([tmp_path / "deep"], target)
    assert report.packages == ("tiny.archive#2.0.0", "tiny.base#1.0.0")
    assert report.value_sets == 1
    assert report.code_systems == 2
    assert report.warnings == ()
    opened = Profiles.open(target)
    assert opened.knows(DOUBLE)
    assert opened.packages == report.packages
    assert opened.fingerprint == report.fingerprint
    assert sorted(p.name for p in target.parent.iterdir()) == ["profiles.bin"]
    assert not (tmp_path / "outside.json").exists()
    single = import_profiles([tmp_path / "deep" / "some.tgz"], tmp_path / "single.bin")
    assert single.packages == ("tiny.archive#2.0.0",)
    assert [w for w in single.warnings if "hl7.fhir.r4.core" in w]


def test_the_same_packages_give_the_same_file(tmp_path: Path) -> None:
    write_package(tmp_path / "in", "tiny.base", base_resources())
    first = import_profiles([tmp_path / "in"], tmp_path / "a.bin")
    second = import_profiles([tmp_path / "in", tmp_path / "in"], tmp_path / "b.bin")
    assert first == second
    assert (tmp_path / "a.bin").read_bytes() == (tmp_path / "b.bin").read_bytes()
    write_package(tmp_path / "in", "more", [value_set("more", {"system": SYSTEM})])
    assert import_profiles([tmp_path / "in"], tmp_path / "a.bin").fingerprint != first.fingerprint


def test_a_definition_with_snapshot_beats_one_without(tmp_path: Path) -> None:
    base = write_package(tmp_path, "tiny.base", base_resources())
    differential = write_package(tmp_path, "z", [_patient_profile("1", snapshot=False)], needs={"a": "1.0.0"})
    whole = write_package(tmp_path, "a", [_patient_profile("0")])
    report = import_profiles([base, differential, whole], tmp_path / "p.bin")
    assert _most(tmp_path / "p.bin") == 0
    assert report.warnings == ()
    report = import_profiles([base, differential], tmp_path / "p.bin")
    assert not Profiles.open(tmp_path / "p.bin").knows(DOUBLE)
    assert [w for w in report.warnings if DOUBLE in w]


@pytest.mark.parametrize("stated", ["package.json", "ImplementationGuide"])
def test_a_package_beats_what_it_depends_on(stated: str, tmp_path: Path) -> None:
    guide = {"resourceType": "ImplementationGuide", "dependsOn": [{"packageId": "z", "version": "1.0.0"}]}
    if stated == "package.json":
        write_package(tmp_path, "b", [_patient_profile("0")], needs={"z": "1.0.0"})
    else:
        write_package(tmp_path, "b", [_patient_profile("0"), guide])
    write_package(tmp_path, "z", [_patient_profile("1")])
    # Depends on both through `b`, but does not have the definition.
    write_package(tmp_path, "a", base_resources(), needs={"b": "1.0.0"})
    import_profiles([tmp_path], tmp_path / "p.bin")
    assert _most(tmp_path / "p.bin") == 0


def test_of_one_package_the_version_that_is_asked_for_wins(tmp_path: Path) -> None:
    write_package(tmp_path, "a", [_patient_profile("1")], version="1.9.0")
    write_package(tmp_path, "a", [_patient_profile("0")], version="1.10.0")
    import_profiles([tmp_path], tmp_path / "p.bin")
    assert _most(tmp_path / "p.bin") == 0
    write_package(tmp_path, "b", base_resources(), needs={"a": "1.9.0"})
    import_profiles([tmp_path], tmp_path / "p.bin")
    assert _most(tmp_path / "p.bin") == 1


def test_code_systems_of_unrelated_packages_are_united(tmp_path: Path) -> None:
    other = {
        "resourceType": "CodeSystem", "url": SYSTEM, "content": "complete",
        "concept": [{"code": "red", "display": "Rot"}, {"code": "green", "display": "Green"}],
    }  # fmt: skip
    supplement = {
        "resourceType": "CodeSystem", "url": f"{SYSTEM}-ja", "content": "supplement", "supplements": f"{SYSTEM}|1",
        "concept": [{"code": "blue", "display": "青"}, {"code": "pink", "display": "桃"}],
    }  # fmt: skip
    write_package(tmp_path, "one", [*base_resources(), supplement])
    write_package(tmp_path, "two", [other])
    report = import_profiles([tmp_path], tmp_path / "p.bin")
    assert [w for w in report.warnings if SYSTEM in w and "one" in w and "two" in w]
    vocabulary = Profiles.open(tmp_path / "p.bin").vocabulary
    assert vocabulary.displays(SYSTEM, "red") == ("Red", "赤", "Rot")
    assert vocabulary.displays(SYSTEM, "blue") == ("Blue", "青")
    assert vocabulary.has_code(SYSTEM, "green") is True
    assert vocabulary.has_code(SYSTEM, "pink") is False


def test_a_code_system_of_a_package_replaces_that_of_its_dependency(tmp_path: Path) -> None:
    newer = {"resourceType": "CodeSystem", "url": SYSTEM, "content": "complete", "concept": [{"code": "green"}]}
    write_package(tmp_path, "one", base_resources())
    write_package(tmp_path, "two", [newer], needs={"one": "1.0.0"})
    report = import_profiles([tmp_path], tmp_path / "p.bin")
    assert report.warnings == ()
    vocabulary = Profiles.open(tmp_path / "p.bin").vocabulary
    assert vocabulary.has_code(SYSTEM, "green") is True
    assert vocabulary.has_code(SYSTEM, "red") is False


def test_a_fragment_cannot_deny(tmp_path: Path) -> None:
    fragment = {"resourceType": "CodeSystem", "url": "http://example.org/part", "content": "fragment", "concept": [{"code": "a"}]}
    whole = value_set("part", {"system": "http://example.org/part"})
    write_package(tmp_path, "one", [*base_resources(), fragment, whole])
    import_profiles([tmp_path], tmp_path / "p.bin")
    vocabulary = Profiles.open(tmp_path / "p.bin").vocabulary
    assert vocabulary.contains(f"{VALUES}part", "http://example.org/part", "a") is True
    assert vocabulary.contains(f"{VALUES}part", "http://example.org/part", "b") is None


def test_an_invariant_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    odd = definition("odd", "resource", [element("Patient", 0, "*", constraint=[rule("pat-x", "`unfinished")])], of="Patient")
    write_package(tmp_path, "one", [*base_resources(), odd])
    report = import_profiles([tmp_path], tmp_path / "p.bin")
    assert [w for w in report.warnings if "pat-x" in w]


def _folder_without_package(tmp_path: Path) -> Path:
    (tmp_path / "empty" / "x").mkdir(parents=True)
    (tmp_path / "empty" / "x" / "Patient.json").write_text("{}")
    return tmp_path / "empty"


def _missing(tmp_path: Path) -> Path:
    return tmp_path / "missing"


def _no_archive(tmp_path: Path) -> Path:
    (tmp_path / "file.json").write_text("{}")
    return tmp_path / "file.json"


def _damaged_archive(tmp_path: Path) -> Path:
    whole = write_archive(tmp_path / "whole.tgz", {"package/package.json": os.urandom(20_000)})
    (tmp_path / "cut.tgz").write_bytes(whole.read_bytes()[:9_000])
    return tmp_path / "cut.tgz"


def _not_gzip(tmp_path: Path) -> Path:
    (tmp_path / "text.tgz").write_text("text")
    return tmp_path / "text.tgz"


def _archive_without_manifest(tmp_path: Path) -> Path:
    return write_archive(tmp_path / "bare.tgz", {"package/StructureDefinition-x.json": b"{}"})


def _damaged_json(tmp_path: Path) -> Path:
    package = write_package(tmp_path / "damaged", "a", base_resources())
    (package / "package" / "StructureDefinition-999.json").write_text('{"resourceType": "Struc')
    return package


def _no_object(tmp_path: Path) -> Path:
    package = write_package(tmp_path / "list", "a", base_resources())
    (package / "package" / "StructureDefinition-999.json").write_text("[1]")
    return package


def _no_definition(tmp_path: Path) -> Path:
    bad = {"resourceType": "StructureDefinition", "url": f"{OURS}bad", "kind": "resource", "snapshot": {"element": [{"min": "x"}]}}
    return write_package(tmp_path / "bad", "a", [*base_resources(), bad])


def _no_code_system(tmp_path: Path) -> Path:
    bad = {"resourceType": "CodeSystem", "url": SYSTEM, "content": "complete", "concept": [{"display": "no code"}]}
    return write_package(tmp_path / "badcs", "a", [bad])


@pytest.mark.parametrize(
    ("source", "named"),
    [
        (_missing, "missing: no such file"),
        (_folder_without_package, "empty: no FHIR package"),
        (_no_archive, "file.json: neither"),
        (_damaged_archive, "cut.tgz: damaged"),
        (_not_gzip, "text.tgz: damaged"),
        (_archive_without_manifest, "bare.tgz: package.json"),
        (_damaged_json, "StructureDefinition-999.json: not JSON"),
        (_no_object, "StructureDefinition-999.json: not FHIR JSON"),
        (_no_definition, "StructureDefinition-"),
        (_no_code_system, "CodeSystem-000.json: cannot be read"),
    ],
)
def test_what_cannot_be_imported_is_named_and_changes_nothing(source: Any, named: str, tmp_path: Path) -> None:
    target = tmp_path / "p.bin"
    write_package(tmp_path / "good", "tiny.base", base_resources())
    import_profiles([tmp_path / "good"], target)
    before = target.read_bytes()
    with pytest.raises(InvalidInput) as caught:
        import_profiles([tmp_path / "good", source(tmp_path)], target)
    assert named in str(caught.value)
    assert target.read_bytes() == before
    assert not list(tmp_path.glob("p.bin*.part"))


def test_no_source_and_a_target_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        import_profiles([], tmp_path / "p.bin")
    write_package(tmp_path / "good", "tiny.base", base_resources())
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="cannot be written"):
        import_profiles([tmp_path / "good"], tmp_path / "file" / "p.bin")


def test_opening_what_is_not_there_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        Profiles.open(tmp_path / "none.bin")
    with pytest.raises(Unavailable):
        Profiles.open(tmp_path)
    write_package(tmp_path / "good", "tiny.base", base_resources())
    target = tmp_path / "p.bin"
    import_profiles([tmp_path / "good"], target)
    data = target.read_bytes()
    for damaged in (b"", b"text", data[:-1], data[:100] + bytes([data[100] ^ 1]) + data[101:]):
        target.write_bytes(damaged)
        with pytest.raises(InvalidInput, match=r"p\.bin"):
            Profiles.open(target)


def test_the_target_may_be_replaced_while_it_is_open(tmp_path: Path) -> None:
    write_package(tmp_path / "good", "tiny.base", base_resources())
    import_profiles([tmp_path / "good"], tmp_path / "p.bin")
    opened = Profiles.open(tmp_path / "p.bin")
    write_package(tmp_path / "good", "more", [_patient_profile("0")])
    import_profiles([tmp_path / "good"], tmp_path / "p.bin")
    assert opened.knows(f"{HL7}Patient")
    assert not opened.knows(DOUBLE)
    assert Profiles.open(tmp_path / "p.bin").knows(DOUBLE)
