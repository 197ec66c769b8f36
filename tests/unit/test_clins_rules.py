"""JP-CLINS rules of our own, which hold without the publishers' packages: laboratory codings and JP_Bundle_CLINS."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from app.fhir import check
from app.fhir.validate import held_back
from app.terminology.entries import starter_entries, starter_version
from app.terminology.matching import Lexicon
from schemas.issue import Issue, IssueType, Severity

Json = dict[str, Any]
CORE = "http://jpfhir.jp/fhir/core"
ECS = "http://jpfhir.jp/fhir/eCS"
CLINS = "http://jpfhir.jp/fhir/clins"
LAB10 = f"{CLINS}/CodeSystem/JLAC10/JP_CLINS_ObsLabResult_"
LAB11 = f"{CLINS}/CodeSystem/JLAC11/JP_CLINS_ObsLabResult_"
LOCAL = f"{CLINS}/CodeSystem/JP_CLINS_ObsLabResult_LocalCode_CS"
UNCODED = f"{CLINS}/CodeSystem/JP_CLINS_ObsLabResult_Uncoded_CS"
GENERAL = "http://medis.or.jp/CodeSystem/master-JLAC10-17digits"
UCUM = "http://unitsofmeasure.org"
PATIENT_URL = "urn:uuid:0a48a4bf-0d87-4efb-aafd-d45e0842a4dd"
INSTITUTION = {
    "url": f"{CLINS}/Extension/StructureDefinition/JP_eCS_InstitutionNumber",
    "valueIdentifier": {"system": f"{CORE}/IdSystem/insurance-medical-institution-no", "value": "1310000001"},
}
DEPARTMENT = {
    "url": f"{ECS}/Extension/StructureDefinition/JP_eCS_Department",
    "valueCodeableConcept": {"text": "内科"},
}

LAB = Lexicon(starter_entries(), starter_version()).lab_displays
ALBUMIN = next(code for (system, code), display in LAB.items() if display == "ALB" and system.endswith("CoreLabo_CS"))
INFECTION, INFECTION_NAME = next((c, d) for (s, c), d in LAB.items() if s.endswith("InfectionLabo_CS"))


def _contained(kind: str, name: str) -> Json:
    made: Json = {"resourceType": kind, "id": name, "meta": {"profile": [f"{CORE}/StructureDefinition/JP_{kind}"]}}
    if kind == "Encounter":
        made["status"] = "finished"
        made["class"] = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB", "display": "外来"}
    return made


def _result() -> Json:
    return {
        "resourceType": "Observation",
        "id": "alb",
        "meta": {
            "lastUpdated": "2024-05-01T10:00:00+09:00",
            "profile": [f"{ECS}/StructureDefinition/JP_Observation_LabResult_eCS"],
        },
        "contained": [_contained("Encounter", "visit"), _contained("Practitioner", "doctor")],
        "extension": [copy.deepcopy(INSTITUTION), copy.deepcopy(DEPARTMENT)],
        "identifier": [{"system": f"{CORE}/IdSystem/resourceInstance-identifier", "value": "1310000001^2024^1"}],
        "status": "final",
        "category": [
            {"coding": [{"system": f"{CORE}/CodeSystem/JP_SimpleObservationCategory_CS", "code": "laboratory", "display": "L"}]}
        ],
        "code": {
            "coding": [
                {"system": LOCAL, "code": "A_1", "display": "アルブミン"},
                {"system": f"{LAB10}CoreLabo_CS", "code": ALBUMIN, "display": "ALB"},
            ],
            "text": "アルブミン",
        },
        "subject": {"reference": PATIENT_URL},
        "encounter": {"reference": "#visit"},
        "performer": [{"reference": "#doctor"}],
        "effectiveDateTime": "2024-05-01",
        "specimen": {"type": "Specimen", "display": "血清"},
        "valueQuantity": {"value": 4, "unit": "g/dL", "system": UCUM, "code": "g/dL"},
        "referenceRange": [{"low": {"value": 3, "unit": "g/dL", "system": UCUM, "code": "g/dL"}}],
    }


def _condition() -> Json:
    hl7 = "http://terminology.hl7.org/CodeSystem/"
    made = _result()
    for key in ("performer", "effectiveDateTime", "specimen", "valueQuantity", "referenceRange", "status"):
        del made[key]
    made["contained"].pop()
    return made | {
        "resourceType": "Condition",
        "meta": {"lastUpdated": "2024-05-01T10:00:00+09:00", "profile": [f"{ECS}/StructureDefinition/JP_Condition_eCS|1.10.0"]},
        "category": [{"coding": [{"system": f"{hl7}condition-category", "code": "encounter-diagnosis", "display": "E"}]}],
        "clinicalStatus": {"coding": [{"system": f"{hl7}condition-clinical", "code": "active", "display": "Active"}]},
        "verificationStatus": {"coding": [{"system": f"{hl7}condition-ver-status", "code": "confirmed", "display": "C"}]},
        "code": {
            "coding": [
                {"system": "http://medis.or.jp/CodeSystem/master-disease-keyNumber", "code": "99999999", "display": "未コード化傷病名"}
            ],
            "text": "病",
        },
        "onsetDateTime": "2020",
    }


def _bundle(resource: Json) -> Json:
    patient = {
        "resourceType": "Patient",
        "id": "patient",
        "meta": {"lastUpdated": "2024-05-01T10:00:00+09:00", "profile": [f"{ECS}/StructureDefinition/JP_Patient_eCS"]},
        "identifier": [
            {"system": "urn:oid:1.2.392.100495.20.3.51.11310000001", "value": "12"},
            {"system": f"{CLINS}/Idsystem/JP_Insurance_memberID", "value": "00012345:あいう:１８７:05"},
        ],
        "name": [
            {
                "extension": [{"url": "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation", "valueCode": "IDE"}],
                "text": "山田 花子",
            }
        ],
        "gender": "female",
        "birthDate": "1960-01-02",
        "address": [{"text": "東京都"}],
    }
    return {
        "resourceType": "Bundle",
        "id": "b",
        "meta": {
            "lastUpdated": "2024-05-01T10:00:00+09:00",
            "profile": [f"{CLINS}/StructureDefinition/JP_Bundle_CLINS|1.10.0"],
            "tag": [
                {"system": f"{CLINS}/CodeSystem/BundleResourceType_CS", "code": resource["resourceType"], "display": "x"}
            ],
        },
        "identifier": {"system": f"{CLINS}/bundle-identifier", "value": "1310000001^2024^lab-1"},
        "type": "collection",
        "timestamp": "2024-05-01T10:00:00+09:00",
        "entry": [
            {"fullUrl": PATIENT_URL, "resource": patient},
            {"fullUrl": "urn:uuid:9b9a7a3c-9b5c-4c50-9a21-0a6f7f2f4f10", "resource": resource},
        ],
    }


def _errors(issues: list[Issue]) -> list[str]:
    return [i.text for i in issues if i.severity == Severity.ERROR]


def _set(*steps: Any) -> Callable[[Json], None]:
    """The last step is the value; `...` deletes."""

    def edit(resource: Json) -> None:
        holder: Any = resource
        *before, last, value = steps
        for step in before:
            holder = holder[step]
        if value is ...:
            del holder[last]
        else:
            holder[last] = copy.deepcopy(value)

    return edit


def _all(*edits: Callable[[Json], None]) -> Callable[[Json], None]:
    def edit(resource: Json) -> None:
        for one in edits:
            one(resource)

    return edit


def test_what_is_right_has_no_finding() -> None:
    assert check(_result(), lab=LAB) == []
    assert check(_bundle(_result()), lab=LAB) == []
    assert check(_bundle(_condition()), lab=LAB) == []
    assert not held_back(check(_bundle(_result()), lab=LAB))


_LOCAL = {"system": LOCAL, "code": "A_1", "display": "アルブミン"}
_GENERAL = {"system": GENERAL, "code": ALBUMIN, "display": "アルブミン_血清"}
_DUMMY = {"system": UNCODED, "code": "99999999999999999", "display": "未標準化コード項目(JLAC)"}
_SHARED = {"system": f"{LAB10}CoreLabo_CS", "code": ALBUMIN, "display": "ALB"}
LTS = {"system": f"{CLINS}/CodeSystem/JP_ehrshrs_indication", "code": "LTS", "display": "長期保存"}


@pytest.mark.parametrize("codings", [[_LOCAL, _SHARED], [_LOCAL, _SHARED, _GENERAL], [_LOCAL, _GENERAL], [_LOCAL, _DUMMY]])
def test_the_legal_sets_of_codings(codings: list[Json]) -> None:
    result = _result()
    result["code"]["coding"] = codings
    assert check(result, lab=LAB) == []


@pytest.mark.parametrize(
    "codings", [[_LOCAL], [_LOCAL, _SHARED, _DUMMY], [_LOCAL, _GENERAL, _DUMMY], [_LOCAL, _SHARED, _GENERAL, _DUMMY]]
)
def test_other_sets_of_codings(codings: list[Json]) -> None:
    result = _result()
    result["code"]["coding"] = codings
    assert [t.split()[:2] for t in _errors(check(result, lab=LAB))] == [["Observation.code.coding:", "clins-codings"]]


LAB_FAULTS: dict[str, tuple[Callable[[Json], None], str]] = {
    "display": (_set("code", "coding", 1, "display", "アルブミン"), "Observation.code.coding[1].display: not the FHIR識別名 of this code"),
    "code": (_set("code", "coding", 1, "code", "3A015000002399999"), "Observation.code.coding[1].code: not a code of the loaded laboratory table"),
    "jlac11": (_set("code", "coding", 1, "system", f"{LAB11}CoreLabo_CS"), "Observation.code.coding[1].code: not a code of the loaded laboratory table"),
    "other-list": (_set("code", "coding", 1, "system", f"{LAB10}InfectionLabo_CS"),
                   "Observation.code.coding[1].code: not a code of the loaded laboratory table"),
    "no-local": (_set("code", "coding", 0, _GENERAL), "Observation.code.coding: R6021 the facility's own code is missing"),
    "local-code": (_set("code", "coding", 0, "code", "Ａ１"), "Observation.code.coding[0].code: clins-local-code letters, digits, _ and - only"),
    "text": (_set("code", "text", "Alb"), "Observation.code.text: clins-text not the display of the facility's own code"),
    "kana": (_all(_set("code", "text", "ｱﾙﾌﾞﾐﾝ"), _set("code", "coding", 0, "display", "ｱﾙﾌﾞﾐﾝ")),
             "Observation.code.coding[0].display: clins-characters half-width katakana, full-width space or control character"),
    "space": (_all(_set("code", "text", "血清　ALB"), _set("code", "coding", 0, "display", "血清　ALB")),
              "Observation.code.text: clins-characters half-width katakana, full-width space or control character"),
    "control": (_all(_set("code", "text", "A\tB"), _set("code", "coding", 0, "display", "A\tB")),
                "Observation.code.text: clins-characters half-width katakana, full-width space or control character"),
    "uncoded-code": (_set("code", "coding", 1, _DUMMY | {"code": "9"}), "Observation.code.coding[1].code: not the dummy code of its code system"),
    "uncoded-display": (_set("code", "coding", 1, _DUMMY | {"display": "x"}), "Observation.code.coding[1].display: not the display of this dummy code"),
    "unit": (_set("referenceRange", 0, "low", "unit", "g/L"),
             "Observation.referenceRange[0].low: referenceRangeLowUnits-isSameAs-resultValueUnits the unit is not that of the value"),
    "unit-code": (_set("referenceRange", 0, "high", {"value": 9, "unit": "g/dL", "system": UCUM, "code": "g/L"}),
                  "Observation.referenceRange[0].high: referenceRangeHighUnits-isSameAs-resultValueUnits the unit is not that of the value"),
    "lts": (_set("meta", "tag", [LTS]), "Observation.meta.tag[0]: check-LTS-MemberOf-infectionLabo R6031 LTS on what is no listed infection"),
    "no-value": (_all(_set("valueQuantity", ...), _set("referenceRange", ...)), "Observation: clins-value a value or a dataAbsentReason"),
}  # fmt: skip


@pytest.mark.parametrize("name", LAB_FAULTS)
def test_a_laboratory_fault_is_told_once(name: str) -> None:
    edit, expected = LAB_FAULTS[name]
    result = _result()
    edit(result)
    errors = _errors(check(result, lab=LAB))
    assert errors.count(expected) == 1
    assert held_back(check(result, lab=LAB))


def test_an_infection_may_be_kept_longer() -> None:
    result = _result()
    result["code"]["coding"][1] = {"system": f"{LAB10}InfectionLabo_CS", "code": INFECTION, "display": INFECTION_NAME}
    result["meta"]["tag"] = [LTS]
    assert check(result, lab=LAB) == []


def test_without_a_table_codes_are_not_looked_up_and_a_general_code_never_is() -> None:
    result = _result()
    result["code"]["coding"][1]["code"] = "3A015000002399999"
    assert _errors(check(result)) == []
    result["code"]["coding"][1] = _GENERAL | {"code": "00000000000000000"}
    assert _errors(check(result, lab=LAB)) == []


def test_a_result_outside_jp_clins_is_left_alone() -> None:
    result = _result()
    result["meta"]["profile"] = [f"{CORE}/StructureDefinition/JP_Observation_LabResult"]
    result["code"] = {"coding": [{"system": "http://loinc.org", "code": "1751-7", "display": "Albumin"}], "text": "Alb"}
    assert _errors(check(result, lab=LAB)) == []


BUNDLE_FAULTS: dict[str, tuple[Callable[[Json], None], str]] = {
    "no-tag": (_set("meta", "tag", ...), "Bundle.meta.tag: bundle-meta-tag-resourceType-exists R02141"),
    "odd-tag": (_set("meta", "tag", 0, "code", "MedicationRequest"), "Bundle.meta.tag: bundle-meta-tag-resourceType-valid R02142"),
    "other-tag": (_set("meta", "tag", 0, "code", "Condition"), "Bundle.entry: mustHaveOneMoreResources-with-designatedResourceType R02143"),
    "identifier-system": (_set("identifier", "system", "http://example.org"), "Bundle.identifier.system: valid-system-bundleIdenfifier R02151"),
    "identifier": (_set("identifier", "value", "1310000001^1999^x"), "Bundle.identifier.value: valid-value-bundleIdenfifier R2152"),
    "type": (_set("type", "batch"), "Bundle.type: not the fixed value"),
    "order": (lambda b: b["entry"].reverse(), "Bundle.entry[0].resource: first-bundle-entry-is-Patient R0211"),
    "patient-profile": (_set("entry", 0, "resource", "meta", "profile", 0, f"{CORE}/StructureDefinition/JP_Patient"),
                        "Bundle.entry[0].resource.meta.profile: patients-profile-is-JP-Patient-eCS R0212"),
    "insurance": (_set("entry", 0, "resource", "identifier", 1, ...), "Bundle.entry[0].resource: valid-system-insurance-patientIdentifier R1012"),
    "insurance-form": (_set("entry", 0, "resource", "identifier", 1, "value", "1:2:3:4"),
                       "Bundle.entry[0].resource: valid-value-insurance-patientIdentifier R1013"),
    "local-id": (_set("entry", 0, "resource", "identifier", 0, "system", "urn:oid:1.2.392.100495.20.3.51.1"),
                 "Bundle.entry[0].resource: valid-system-local-patientID R1010"),
    "name": (_set("entry", 0, "resource", "name", 0, "text", "山田　花子"),
             "Bundle.entry[0].resource: kanjiName-kanaName-donot-contain-ZenkakuKuuhaku R1113"),
    "institution": (_set("entry", 1, "resource", "extension", 0, ...), "Bundle.entry[1].resource: all-entries-needs-extension-of-institutionNumber R9011"),
    "institution-value": (_set("entry", 1, "resource", "extension", 0, "valueIdentifier", "value", "131"),
                          "Bundle.entry[1].resource: all-entries-needs-valid-institutionNumber R9012"),
    "department": (_set("entry", 1, "resource", "extension", 1, ...), "Bundle.entry[1].resource: observation-needs-extension-of-Department R9014O"),
    "encounter": (_set("entry", 1, "resource", "encounter", ...), "Bundle.entry[1].resource: observation-needs-encounter R9016O"),
    "performer": (_set("entry", 1, "resource", "performer", ...), "Bundle.entry[1].resource: observation-needs-performer R9017O"),
    "contained-version": (_set("entry", 1, "resource", "contained", 0, "meta", "profile", 0, f"{CORE}/StructureDefinition/JP_Encounter|1"),
                          "Bundle.entry[1].resource: observation-needs-contained-of-Encounter R9013O"),
    "contained-two": (lambda b: b["entry"][1]["resource"]["contained"][1]["meta"]["profile"].append(f"{ECS}/StructureDefinition/JP_Practitioner_eCS"),
                      "Bundle.entry[1].resource: observation-needs-contained-of-Practitioner R9019O"),
    "member": (_set("entry", 1, "resource", "hasMember", [{"display": "x"}]), "Bundle.entry[1].resource: observation-has-no-hasMember R6081"),
    "local-code": (_set("entry", 1, "resource", "code", "coding", 0, _GENERAL), "Bundle.entry[1].resource.code.coding: R6021"),
    "second-type": (lambda b: b["entry"].append({"fullUrl": "urn:uuid:1", "resource": _condition()}),
                    "Bundle.entry[2].resource: clins-one-type"),
    "twice": (lambda b: b["entry"].append(copy.deepcopy(b["entry"][1])), "Bundle.entry[2].fullUrl: bdl-7"),
}  # fmt: skip


@pytest.mark.parametrize("name", BUNDLE_FAULTS)
def test_a_fault_of_a_submission_is_found_without_packages(name: str) -> None:
    edit, expected = BUNDLE_FAULTS[name]
    bundle = _bundle(_result())
    edit(bundle)
    assert any(text.startswith(expected) for text in _errors(check(bundle, lab=LAB)))


def test_faults_of_a_condition_in_a_submission() -> None:
    bundle = _bundle(_condition())
    condition = bundle["entry"][1]["resource"]
    del condition["onsetDateTime"]
    condition["extension"].pop()
    condition["contained"][0]["meta"]["profile"].append("http://example.org/other")
    condition["code"]["coding"][0]["display"] = "x"
    texts = _errors(check(bundle, lab=LAB))
    for expected in ("R9013C", "R9014C", "condition-needs-contained-of-Encounter", "condition-needs-onsetDateTime", "dummy code"):
        assert any(t.startswith("Bundle.entry[1].resource") and expected in t for t in texts), expected


def test_a_bundle_that_is_no_submission_is_left_alone() -> None:
    bundle = _bundle(_result())
    bundle["meta"]["profile"] = ["http://example.org/other"]
    del bundle["meta"]["tag"], bundle["entry"][1]["resource"]["performer"]
    assert not any("R9017O" in i.text or "R02141" in i.text for i in check(bundle, lab=LAB))


def test_doses_are_counted_in_units_of_merit_9() -> None:
    system = f"{CORE}/mhlw/CodeSystem/MedicationUnitMERIT9Code"
    order = {
        "resourceType": "MedicationRequest",
        "meta": {"profile": [f"{ECS}/StructureDefinition/JP_MedicationRequest_eCS"]},
        "status": "completed",
        "intent": "order",
        "medicationCodeableConcept": {"text": "薬"},
        "subject": {"display": "x"},
        "dosageInstruction": [{"doseAndRate": [{"doseQuantity": {"value": 1, "unit": "錠", "code": "TAB", "system": system}}]}],
    }
    assert _errors(check(order)) == []
    order["dosageInstruction"][0]["doseAndRate"][0]["doseQuantity"]["system"] = UCUM  # type: ignore[index]
    expected = "MedicationRequest.dosageInstruction[0].doseAndRate[0].doseQuantity.system: clins-dose-unit"
    assert any(t.startswith(expected) for t in _errors(check(order)))


def test_issues_of_these_rules_never_quote_the_resource() -> None:
    result = _result()
    result["code"]["coding"][1] |= {"display": "秘密", "code": "秘密"}
    result["code"]["text"] = "秘密"
    result["code"]["秘密"] = {"coding": [{"display": "秘密"}]}
    issues = check(_bundle(result), lab=LAB)
    assert len(issues) > 3
    assert all("秘密" not in i.text for i in issues)


def test_only_errors_hold_back() -> None:
    def issue(severity: Severity) -> Issue:
        return Issue(severity=severity, code=IssueType.VALUE, text="x")

    assert not held_back([])
    assert not held_back([issue(Severity.WARNING), issue(Severity.INFORMATION)])
    assert held_back([issue(Severity.WARNING), issue(Severity.ERROR)])
    assert held_back([issue(Severity.FATAL)])


# --- allergens -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "profile", "wrong"),
    [
        (f"{CORE}/CodeSystem/JP_JfagyFoodAllergen_CS", f"{ECS}/StructureDefinition/JP_AllergyIntolerance_eCS", False),
        ("http://capstandard.jp/iyaku.info/CodeSystem/YJ-code", f"{ECS}/StructureDefinition/JP_AllergyIntolerance_eCS", True),
        ("http://capstandard.jp/iyaku.info/CodeSystem/YJ-code", f"{CORE}/StructureDefinition/JP_AllergyIntolerance", False),
    ],
)  # fmt: skip
def test_an_allergen_has_codes_of_jfagy_alone(system: str, profile: str, wrong: bool) -> None:
    allergy = {
        "resourceType": "AllergyIntolerance",
        "meta": {"profile": [profile]},
        "verificationStatus": {
            "coding": [
                {
                    "system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification",
                    "code": "entered-in-error",
                    "display": "Entered in Error",
                }
            ]
        },
        "code": {"coding": [{"system": system, "code": "J9FA21110000", "display": "鶏卵"}], "text": "鶏卵"},
        "patient": {"reference": PATIENT_URL},
    }
    expected = ["AllergyIntolerance.code.coding[0].system: clins-allergen not a code system of JFAGY, and no other is allowed here"]
    assert [issue.text for issue in check(allergy)] == (expected if wrong else [])
