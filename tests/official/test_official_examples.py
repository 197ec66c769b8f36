"""What the publishers show as right is right by us, and what they show as wrong is not."""

from pathlib import Path

import pytest
from published import example, example_files

from app.fhir import check, loads
from app.fhir.profiles import ImportReport, Profiles
from app.fhir.validate import held_back
from schemas.issue import Issue, Severity

Lab = dict[tuple[str, str], str]


def _errors(issues: list[Issue]) -> list[str]:
    return [issue.text for issue in issues if issue.severity == Severity.ERROR]


def _ids(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("path", example_files("clins-hapisample-2025-02"), ids=_ids)
def test_the_reference_bundles_have_no_error(path: Path, profiles: Profiles, lab: Lab) -> None:
    bundle = loads(path.read_bytes())
    issues = check(bundle, profiles=profiles, lab=lab)
    assert _errors(issues) == []
    assert not held_back(issues)
    assert _errors(check(bundle)) == []


@pytest.mark.parametrize("path", example_files("jp-core-1.1.2"), ids=_ids)
def test_jp_core_examples_have_no_error(path: Path, profiles: Profiles) -> None:
    assert _errors(profiles.check(loads(path.read_bytes()))) == []


# Examples of 1.5.3 that 1.10.0 no longer takes: clinicalStatus and verificationStatus need a display now, and the urine
# protein's display is another.
_OUTDATED = {
    "AllergyIntolerance-Example-JP-Allergy-eCS-01",
    "AllergyIntolerance-Example-JP-Allergy-eCS-02",
    "Condition-Example-JP-Condition-eCS-ABDPAIN",
    "Condition-Example-JP-Condition-eCS-ANGINA",
    "Condition-Example-JP-Condition-eCS-Fx",
    "Condition-Example-JP-Condition-eCS-cc1-Referral01",
    "Condition-Example-JP-Condition-eCS-cc2-Referral01",
    "Bundle-Bundle-CLINS-PCS-Example-01",
    "Bundle-Bundle-CLINS-Referral-Example-01",
    "Bundle-Bundle-CLINS-Observations-Example-01",
}


@pytest.mark.parametrize("path", example_files("clins-1.5.3-official"), ids=_ids)
def test_older_examples_fail_only_where_the_rules_changed(path: Path, profiles: Profiles) -> None:
    errors = _errors(profiles.check(loads(path.read_bytes())))
    assert bool(errors) == (path.stem in _OUTDATED)
    assert all(e.endswith((".display: missing", "coding[1].display: not a display of this code")) for e in errors)


def test_the_deliberately_wrong_examples_are_found(profiles: Profiles, lab: Lab) -> None:
    """The publisher's three: no local code, no drug code that is asked for, a drug code that does not exist."""
    folder = "clins-1.5.3-official"
    issues = check(example(folder, "Observation-ErrorExample-ObsLabo-eGFR"), profiles=profiles, lab=lab)
    assert "Observation.code.coding: R6021 the facility's own code is missing" in _errors(issues)

    issues = check(example(folder, "MedicationRequest-ErrorExample-JP-MedReq-ExtEye-Total1"), profiles=profiles)
    warning = "MedicationRequest: warning-anyOf-YJ-or-KikakubetsuYakuzaiSeibun-medicationCode R3010"
    assert (Severity.WARNING, warning) in {(i.severity, i.text) for i in issues}

    # The table of general-name codes is in jpfhir-terminology, which is not loaded here: passed, and counted.
    before = sum(n for url, n in profiles.undecided.items() if "MedicationCode" in url)
    check(example(folder, "MedicationRequest-ErrorExample-JP-MedReq-PO-SID-28days"), profiles=profiles)
    assert sum(n for url, n in profiles.undecided.items() if "MedicationCode" in url) > before


def test_a_superseded_referral_is_refused(profiles: Profiles) -> None:
    """The 2024-02 referral speaks of profiles and systems that JP-CLINS replaced."""
    bundle = example("eReferral-2024-02-official", "Bundle-BundleReferralExample01")
    errors = _errors(profiles.check(bundle))
    assert any(".section[0].code.coding[0].system: not the fixed value" in e for e in errors)


def test_the_import_says_what_it_took(imported: tuple[Path, ImportReport], profiles: Profiles) -> None:
    report = imported[1]
    assert set(report.packages) >= {"hl7.fhir.r4.core#4.0.1", "jp-core.r4#1.1.2-url", "jp-eCSCLINS.r4#1.10.0"}
    assert report.fingerprint == profiles.fingerprint
    assert profiles.packages == report.packages
    assert any("doc-typecodes" in w for w in report.warnings)
    assert profiles.knows("http://jpfhir.jp/fhir/clins/StructureDefinition/JP_Bundle_CLINS|1.10.0")
    assert not profiles.knows("http://jpfhir.jp/fhir/core/StructureDefinition/JP_Nothing")
    # Both contents of the doubled code system: 診療情報提供書 of JP-CLINS, 健診結果報告書 of eCheckup.
    contents = profiles.vocabulary
    system = "http://jpfhir.jp/fhir/Common/CodeSystem/doc-typecodes"
    assert contents.has_code(system, "57133-1") is True
    assert contents.has_code(system, "53576-5") is True
    assert contents.has_code(system, "nothing") is False
    # JP_ServiceRequest stands in JP Core and in JP-CLINS, which depends on it.
    double = profiles.tree("http://jpfhir.jp/fhir/core/StructureDefinition/JP_ServiceRequest")
    assert double is not None
    assert double.definition.version == "1.10.0"
