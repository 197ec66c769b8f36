"""Official examples with one deliberate fault each: the fault is found, at its place, by its rule.

Bases: `labs` is the publisher's Bundle of laboratory results (JP_Bundle_CLINS), `conditions` and `allergies` are Bundles
of the same form around the publisher's single examples, `referral` is the 診療情報提供書, `order` a MedicationRequest.
"""

import copy
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from published import PACKAGES, example

from app.fhir import check
from app.fhir.profiles import Profiles
from app.fhir.validate import held_back
from schemas.issue import IssueType, Severity

Json = dict[str, Any]
Edit = Callable[[Json], None]

SAMPLES = "clins-hapisample-2025-02"
OLDER = "clins-1.5.3-official"
CORE = "http://jpfhir.jp/fhir/core"
ECS = "http://jpfhir.jp/fhir/eCS"
CLINS = "http://jpfhir.jp/fhir/clins"
JLAC10_CORE = f"{CLINS}/CodeSystem/JLAC10/JP_CLINS_ObsLabResult_CoreLabo_CS"
UNCODED = f"{CLINS}/CodeSystem/JP_CLINS_ObsLabResult_Uncoded_CS"


def _around(kind: str, name: str) -> Json:
    """A Bundle of JP_Bundle_CLINS with the Patient of the laboratory sample and one resource."""
    bundle = example(SAMPLES, "Bundle-Bundle-CLINS-Observations-Example-01")
    resource = example(OLDER, name)
    resource["meta"]["profile"] = [f"{ECS}/StructureDefinition/JP_{kind}_eCS"]
    who = "patient" if kind == "AllergyIntolerance" else "subject"
    resource[who] = {"reference": bundle["entry"][0]["fullUrl"]}
    bundle["meta"]["tag"][0]["code"] = kind
    bundle["entry"][1:] = [{"fullUrl": "urn:uuid:11111111-2222-4333-8444-555555555555", "resource": resource}]
    return bundle


def _bases() -> dict[str, Json]:
    order = example(OLDER, "MedicationRequest-Example-JP-MedReq-PO-TID-2days")
    order["meta"]["profile"] = [f"{ECS}/StructureDefinition/JP_MedicationRequest_eCS"]
    return {
        "labs": example(SAMPLES, "Bundle-Bundle-CLINS-Observations-Example-01"),
        "conditions": _around("Condition", "Condition-Example-JP-Condition-eCS-01"),
        "allergies": _around("AllergyIntolerance", "AllergyIntolerance-Example-JP-AllergyIntolerance-eCS-01"),
        "referral": example(SAMPLES, "Bundle-Bundle-CLINS-Referral-Example-01"),
        "plan": example(SAMPLES, "Bundle-Bundle-CLINS-PCS-Example-01"),
        "order": order,
    }


BASES = _bases() if PACKAGES.is_dir() else {}


# --- edits -----------------------------------------------------------------------------------------------------------


def _steps(path: str) -> list[str | int]:
    return [int(n) if n else name for name, n in re.findall(r"(\w+)|\[(\d+)\]", path) for n in [n]]


def _holder(resource: Json, path: str) -> tuple[Any, str | int]:
    *before, last = _steps(path)
    here: Any = resource
    for step in before:
        here = here[step]
    return here, last


def put(path: str, value: Any) -> Edit:
    def edit(resource: Json) -> None:
        holder, last = _holder(resource, path)
        holder[last] = copy.deepcopy(value)

    return edit


def drop(path: str) -> Edit:
    def edit(resource: Json) -> None:
        holder, last = _holder(resource, path)
        del holder[last]

    return edit


def append(path: str, value: Any) -> Edit:
    def edit(resource: Json) -> None:
        holder, last = _holder(resource, path)
        holder.setdefault(last, []).append(copy.deepcopy(value))

    return edit


def again(path: str, position: int) -> Edit:
    """Appends a copy of one item of a list to it."""

    def edit(resource: Json) -> None:
        holder, last = _holder(resource, path)
        holder[last].append(copy.deepcopy(holder[last][position]))

    return edit


def swap(path: str, one: int, other: int) -> Edit:
    def edit(resource: Json) -> None:
        holder, last = _holder(resource, path)
        items = holder[last]
        items[one], items[other] = items[other], items[one]

    return edit


def both(*edits: Edit) -> Edit:
    def edit(resource: Json) -> None:
        for one in edits:
            one(resource)

    return edit


_TOLD_ONCE = (IssueType.REQUIRED, IssueType.CODE_INVALID, IssueType.NOT_FOUND)


class Damage(NamedTuple):
    base: str
    edit: Edit
    path: str
    """The place that an error has to name."""
    rule: str
    """A part of its text behind the path."""


O = "entry[2].resource"  # noqa: E741  # potassium: local, shared and general code, quantity with reference range
C = "entry[1].resource"
P = "entry[0].resource"
LTS = {"system": f"{CLINS}/CodeSystem/JP_ehrshrs_indication", "code": "LTS"}
INSTITUTION = f"{CLINS}/Extension/StructureDefinition/JP_eCS_InstitutionNumber"
MISSING = "missing"

DAMAGES: dict[str, Damage] = {
    # --- the Bundle ---
    "patient-not-first": Damage("labs", swap("entry", 0, 1), "Bundle.entry[0].resource", "R0211"),
    "patient-without-ecs-profile": Damage(
        "labs", put(f"{P}.meta.profile", [f"{CORE}/StructureDefinition/JP_Patient"]), "Bundle.entry[0]", "R0212"
    ),
    "second-resource-type": Damage(
        "labs",
        lambda b: b["entry"].append(copy.deepcopy(BASES["conditions"]["entry"][1])),
        "Bundle.entry[5].resource",
        "clins-one-type",
    ),
    "tag-missing": Damage("labs", drop("meta.tag"), "Bundle.meta.tag", MISSING),
    "tag-unknown": Damage("labs", put("meta.tag[0].code", "Procedure"), "Bundle", "R02142"),
    "tag-of-another-type": Damage("labs", put("meta.tag[0].code", "Condition"), "Bundle", "R02143"),
    "two-tags": Damage("labs", again("meta.tag", 0), "Bundle.meta.tag", "at most 1"),
    "bundle-identifier-pattern": Damage("labs", put("identifier.value", "1318814790^1924^a"), "Bundle", "R2152"),
    "bundle-identifier-system": Damage("labs", put("identifier.system", "http://example.org"), "Bundle", "R02151"),
    "bundle-type": Damage("labs", put("type", "batch"), "Bundle.type", "fixed"),
    "bundle-type-unknown": Damage("labs", put("type", "heap"), "Bundle.type", "required value set"),
    "no-timestamp": Damage("labs", drop("timestamp"), "Bundle.timestamp", MISSING),
    "no-bundle-profile": Damage(
        "labs", put("meta.profile", [f"{CLINS}/StructureDefinition/JP_Bundle_eReferral"]), "Bundle.entry", MISSING
    ),
    "duplicate-full-url": Damage(
        "labs", lambda b: b["entry"][3].update(fullUrl=b["entry"][2]["fullUrl"]), "Bundle.entry[3].fullUrl", "bdl-7"
    ),
    "no-full-url": Damage("labs", drop("entry[1].fullUrl"), "Bundle.entry[1].fullUrl", MISSING),
    "entry-with-request": Damage(
        "labs", put("entry[1].request", {"method": "PUT", "url": "Observation/1"}), "Bundle.entry[1].request", "not allowed"
    ),
    "dangling-reference": Damage(
        "labs",
        put(f"{O}.subject.reference", "urn:uuid:00000000-0000-4000-8000-000000000000"),
        "Bundle.entry[2].resource.subject.reference",
        "does not resolve",
    ),
    "unknown-resource-type": Damage(
        "labs", put(f"{O}.resourceType", "Observatory"), "Bundle.entry[2].resource", "not a resource type"
    ),
    # --- Patient ---
    "no-insurance-id": Damage("labs", drop(f"{P}.identifier[1]"), "Bundle.entry[0].resource", "R1012"),
    "two-insurance-ids": Damage("labs", again(f"{P}.identifier", 1), "Bundle.entry[0].resource", "R1012"),
    "insurance-id-form": Damage(
        "labs", put(f"{P}.identifier[1].value", "12345:あ:1:05"), "Bundle.entry[0].resource", "R1013"
    ),
    "local-patient-arc": Damage(
        "labs", put(f"{P}.identifier[0].system", "urn:oid:1.2.392.100495.20.3.51.19999"), "Bundle.entry[0].resource", "R1010"
    ),
    "full-width-space-in-name": Damage("labs", put(f"{P}.name[0].text", "牧野　爛漫"), "Bundle.entry[0].resource", "R1113"),
    "no-address-text": Damage(
        "labs", drop(f"{P}.address[0].text"), "Bundle.entry[0].resource.address[0].text", MISSING
    ),
    "two-addresses": Damage("labs", again(f"{P}.address", 0), "Bundle.entry[0].resource.address", "at most 1"),
    "no-birth-date": Damage("labs", drop(f"{P}.birthDate"), "Bundle.entry[0].resource.birthDate", MISSING),
    "impossible-birth-date": Damage(
        "labs", put(f"{P}.birthDate", "1930-06-31"), "Bundle.entry[0].resource.birthDate", "no such day"
    ),
    "wrong-gender": Damage("labs", put(f"{P}.gender", "F"), "Bundle.entry[0].resource.gender", "required value set"),
    "empty-contact": Damage("labs", put(f"{P}.contact[0]", {"gender": "male"}), "Bundle.entry[0].resource.contact[0]", "pat-1"),
    # --- any entry of JP_Bundle_CLINS ---
    "no-institution-number": Damage("labs", drop(f"{O}.extension[0]"), "Bundle.entry[2].resource", "R9011"),
    "bad-institution-number": Damage(
        "labs", put(f"{O}.extension[0].valueIdentifier.value", "9918814790"), "Bundle.entry[2].resource", "R9012"
    ),
    "no-department": Damage("labs", drop(f"{O}.extension[1]"), "Bundle.entry[2].resource", "R9014O"),
    "department-without-value": Damage(
        "labs", drop(f"{O}.extension[1].valueCodeableConcept"), "Bundle.entry[2].resource.extension[1]", "ext-1"
    ),
    "no-contained-encounter": Damage(
        "labs", both(drop(f"{O}.contained[0]"), drop(f"{O}.encounter")), "Bundle.entry[2].resource", "R9013O"
    ),
    "versioned-contained-profile": Damage(
        "labs",
        put(f"{O}.contained[0].meta.profile[0]", f"{ECS}/StructureDefinition/JP_Encounter_eCS|1.10.0"),
        "Bundle.entry[2].resource",
        "R9013O",
    ),
    "two-contained-profiles": Damage(
        "labs",
        append(f"{O}.contained[1].meta.profile", f"{ECS}/StructureDefinition/JP_Practitioner_eCS"),
        "Bundle.entry[2].resource",
        "R9019O",
    ),
    "no-encounter": Damage("labs", drop(f"{O}.encounter"), "Bundle.entry[2].resource", "R9016O"),
    "no-performer": Damage("labs", drop(f"{O}.performer"), "Bundle.entry[2].resource", "R9017O"),
    "contained-not-referenced": Damage("labs", drop(f"{O}.performer"), "Bundle.entry[2].resource", "dom-3"),
    "contained-reference-dangles": Damage(
        "labs", put(f"{O}.encounter.reference", "#nowhere"), "Bundle.entry[2].resource.encounter", "ref-1"
    ),
    "contained-in-contained": Damage(
        "labs",
        put(f"{O}.contained[0].contained", [{"resourceType": "Basic", "id": "x", "code": {"text": "x"}}]),
        "Bundle.entry[2].resource",
        "dom-2",
    ),
    "contained-ids-twice": Damage(
        "labs", again(f"{O}.contained", 0), "Bundle.entry[2].resource.contained[2].id", "stands twice"
    ),
    "resource-twice": Damage(
        "labs",
        lambda b: b["entry"].append(
            copy.deepcopy(b["entry"][2]) | {"fullUrl": "urn:uuid:11111111-2222-4333-8444-555555555555"}
        ),
        "Bundle.entry[5].resource.id",
        "bdl-ids",
    ),
    "quantity-without-value": Damage(
        "labs", drop(f"{O}.valueQuantity.value"), "Bundle.entry[2].resource.valueQuantity.value", MISSING
    ),
    "document-without-timestamp": Damage("referral", drop("timestamp"), "Bundle", "bdl-10"),
    "two-resource-identifiers": Damage(
        "labs", again(f"{O}.identifier", 0), "Bundle.entry[2].resource.identifier", "slice resourceIdentifier: at most 1"
    ),
    "no-resource-identifier": Damage(
        "labs", put(f"{O}.identifier[0].system", "http://example.org/id"), "Bundle.entry[2].resource.identifier", MISSING
    ),
    "no-last-updated": Damage("labs", drop(f"{O}.meta.lastUpdated"), "Bundle.entry[2].resource.meta.lastUpdated", MISSING),
    "unknown-extension-of-jpfhir": Damage(
        "labs",
        append(f"{O}.extension", {"url": f"{CLINS}/Extension/StructureDefinition/JP_Invented", "valueString": "x"}),
        "Bundle.entry[2].resource.extension[2].url",
        "no loaded package",
    ),
    "unknown-modifier-extension": Damage(
        "labs",
        put(f"{O}.modifierExtension", [{"url": "http://example.org/not", "valueBoolean": True}]),
        "Bundle.entry[2].resource.modifierExtension[0].url",
        "changes the meaning",
    ),
    "extension-with-wrong-type": Damage(
        "labs",
        put(f"{O}.extension[0]", {"url": INSTITUTION, "valueString": "1318814790"}),
        "Bundle.entry[2].resource.extension[0].valueString",
        "a type that is not allowed",
    ),
    "extension-with-value-and-parts": Damage(
        "labs",
        put(f"{O}.extension[0].extension", [{"url": "http://example.org/x", "valueString": "x"}]),
        "Bundle.entry[2].resource.extension[0]",
        "ext-1",
    ),
    "institution-number-too-long": Damage(
        "labs",
        put(
            f"{O}.extension[0]",
            {
                "url": INSTITUTION,
                "valueIdentifier": {
                    "system": f"{CORE}/IdSystem/insurance-medical-institution-no",
                    "value": "131881479099",
                },
            },
        ),
        "Bundle.entry[2].resource.extension[0].valueIdentifier.value",
        "R9012",
    ),
    "allergen-of-another-system": Damage(
        "allergies",
        put(f"{C}.code.coding[0].system", "http://capstandard.jp/iyaku.info/CodeSystem/YJ-code"),
        "Bundle.entry[1].resource.code.coding[0].system",
        "clins-allergen",
    ),
    # --- Observation ---
    "wrong-display-of-shared-code": Damage(
        "labs",
        put(f"{O}.code.coding[1].display", "カリウム値"),
        "Bundle.entry[2].resource.code.coding[1].display",
        "not a display of this code",
    ),
    "wrong-display-by-our-table": Damage(
        "labs",
        both(put(f"{O}.code.coding[1].code", "3H015000002399901"), put(f"{O}.code.coding[1].display", "Na")),
        "Bundle.entry[2].resource.code.coding[1].display",
        "display",
    ),
    "unknown-shared-code": Damage(
        "labs",
        put(f"{O}.code.coding[1].code", "3H015000002326199"),
        "Bundle.entry[2].resource.code.coding[1].code",
        "not a code of",
    ),
    "shared-code-of-another-item": Damage(
        "labs",
        put(f"{O}.code.coding[1].code", "3A015000001827101"),
        "Bundle.entry[2].resource.code.coding[1].code",
        "required value set",
    ),
    "no-local-code": Damage("labs", drop(f"{O}.code.coding[0]"), "Bundle.entry[2].resource.code.coding", "R6021"),
    "local-code-alone": Damage(
        "labs",
        both(drop(f"{O}.code.coding[2]"), drop(f"{O}.code.coding[1]")),
        "Bundle.entry[2].resource.code.coding",
        "clins-codings",
    ),
    "shared-and-uncoded": Damage(
        "labs",
        put(
            f"{O}.code.coding[2]",
            {"system": UNCODED, "code": "99999999999999999", "display": "未標準化コード項目(JLAC)"},
        ),
        "Bundle.entry[2].resource.code.coding",
        "clins-codings",
    ),
    "uncoded-with-another-display": Damage(
        "labs",
        both(
            drop(f"{O}.code.coding[2]"),
            put(f"{O}.code.coding[1]", {"system": UNCODED, "code": "99999999999999999", "display": "未標準化"}),
        ),
        "Bundle.entry[2].resource.code.coding[1].display",
        "display",
    ),
    "local-code-characters": Damage(
        "labs", put(f"{O}.code.coding[0].code", "K/1"), "Bundle.entry[2].resource.code.coding[0].code", "clins-local-code"
    ),
    "text-is-not-the-local-display": Damage(
        "labs", put(f"{O}.code.text", "K"), "Bundle.entry[2].resource.code.text", "clins-text"
    ),
    "half-width-katakana": Damage(
        "labs",
        both(put(f"{O}.code.coding[0].display", "ｶﾘｳﾑ"), put(f"{O}.code.text", "ｶﾘｳﾑ")),
        "Bundle.entry[2].resource.code.text",
        "clins-characters",
    ),
    "full-width-space-in-display": Damage(
        "labs",
        both(put(f"{O}.code.coding[0].display", "血清　カリウム"), put(f"{O}.code.text", "血清　カリウム")),
        "Bundle.entry[2].resource.code.coding[0].display",
        "clins-characters",
    ),
    "no-code-text": Damage("labs", drop(f"{O}.code.text"), "Bundle.entry[2].resource.code.text", MISSING),
    "unit-of-range-differs": Damage(
        "labs",
        put(f"{O}.referenceRange[0].low.unit", "mEq/L"),
        "Bundle.entry[2].resource.referenceRange[0].low",
        "referenceRangeLowUnits",
    ),
    "empty-range": Damage(
        "labs",
        put(f"{O}.referenceRange[0]", {"appliesTo": [{"text": "成人"}]}),
        "Bundle.entry[2].resource.referenceRange[0]",
        "obs-3",
    ),
    "code-without-system": Damage(
        "labs", drop(f"{O}.valueQuantity.system"), "Bundle.entry[2].resource.valueQuantity", "qty-3"
    ),
    "value-as-text": Damage(
        "labs", put(f"{O}.valueQuantity.value", "3.5"), "Bundle.entry[2].resource.valueQuantity.value", "not a decimal"
    ),
    "two-values": Damage("labs", put(f"{O}.valueString", "3.5"), "Bundle.entry[2].resource.value", "at most 1"),
    "value-of-a-type-that-the-profile-refuses": Damage(
        "labs",
        both(drop(f"{O}.valueQuantity"), drop(f"{O}.referenceRange"), put(f"{O}.valueBoolean", True)),
        "Bundle.entry[2].resource.valueBoolean",
        "a type that is not allowed",
    ),
    "absent-reason-beside-value": Damage(
        "labs", put(f"{O}.dataAbsentReason", {"text": "x"}), "Bundle.entry[2].resource", "obs-6"
    ),
    "neither-value-nor-reason": Damage(
        "labs", both(drop(f"{O}.valueQuantity"), drop(f"{O}.referenceRange")), "Bundle.entry[2].resource", "clins-value"
    ),
    "has-member": Damage(
        "labs", put(f"{O}.hasMember", [{"type": "Observation", "display": "x"}]), "Bundle.entry[2].resource", "R6081"
    ),
    "long-storage-of-no-infection": Damage(
        "labs", put(f"{O}.meta.tag", [LTS]), "Bundle.entry[2].resource.meta.tag[0]", "R6031"
    ),
    "wrong-status": Damage("labs", put(f"{O}.status", "done"), "Bundle.entry[2].resource.status", "required value set"),
    "category-missing": Damage("labs", drop(f"{O}.category"), "Bundle.entry[2].resource.category", MISSING),
    "category-of-another-system": Damage(
        "labs",
        put(f"{O}.category[0].coding[0].code", "imaging"),
        "Bundle.entry[2].resource.category",
        "slice laboratory: missing",
    ),
    "no-specimen": Damage("labs", drop(f"{O}.specimen"), "Bundle.entry[2].resource.specimen", MISSING),
    "effective-as-period": Damage(
        "labs",
        both(drop(f"{O}.effectiveDateTime"), put(f"{O}.effectivePeriod", {"start": "2021-07-05"})),
        "Bundle.entry[2].resource.effective",
        MISSING,
    ),
    "moment-without-zone": Damage(
        "labs",
        put(f"{O}.effectiveDateTime", "2021-07-05T11:19:41"),
        "Bundle.entry[2].resource.effectiveDateTime",
        "not a valid dateTime",
    ),
    "subject-of-another-type": Damage(
        "labs",
        put(f"{O}.subject", {"reference": "Device/1"}),
        "Bundle.entry[2].resource.subject.reference",
        "not allowed here",
    ),
    # --- JSON form and primitives ---
    "unknown-element": Damage("labs", put(f"{O}.colour", "red"), "Bundle.entry[2].resource.colour", "unknown element"),
    "unknown-element-inside": Damage(
        "labs", put(f"{O}.code.coding[0].name", "K"), "Bundle.entry[2].resource.code.coding[0].name", "unknown element"
    ),
    "object-for-array": Damage(
        "labs", put(f"{O}.category", {"text": "x"}), "Bundle.entry[2].resource.category", "array is expected"
    ),
    "array-for-object": Damage("labs", put(f"{O}.code", [{"text": "x"}]), "Bundle.entry[2].resource.code", "one value"),
    "text-for-object": Damage("labs", put(f"{O}.code", "K"), "Bundle.entry[2].resource.code", "not an object"),
    "empty-array": Damage("labs", put(f"{O}.note", []), "Bundle.entry[2].resource.note", "empty"),
    "empty-object": Damage("labs", put(f"{O}.method", {}), "Bundle.entry[2].resource.method", "empty"),
    "null": Damage("labs", put(f"{O}.issued", None), "Bundle.entry[2].resource.issued", "empty"),
    "blank-text": Damage("labs", put(f"{O}.note", [{"text": " "}]), "Bundle.entry[2].resource.note[0].text", "blank"),
    "uri-with-space": Damage(
        "labs", put(f"{O}.implicitRules", "http://a b"), "Bundle.entry[2].resource.implicitRules", "not a valid uri"
    ),
    "id-too-long": Damage("labs", put(f"{O}.id", "a" * 65), "Bundle.entry[2].resource.id", "not a"),
    "script-in-narrative": Damage(
        "labs",
        put(
            f"{O}.text",
            {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml"><script>x</script></div>'},
        ),
        "Bundle.entry[2].resource.text.div",
        "txt-1",
    ),
    "primitive-extension-of-other-length": Damage(
        "labs",
        put(f"{P}.name[0]._given", [None, {"id": "x"}]),
        "Bundle.entry[0].resource.name[0].given",
        "different length",
    ),
    "period-backwards": Damage(
        "labs",
        put(f"{P}.name[0].period", {"start": "2021-02", "end": "2020"}),
        "Bundle.entry[0].resource.name[0].period",
        "per-1",
    ),
    # --- Condition ---
    "no-onset": Damage("conditions", drop(f"{C}.onsetDateTime"), "Bundle.entry[1].resource", "condition-needs-onsetDateTime R9013C"),
    "condition-without-department": Damage("conditions", drop(f"{C}.extension[1]"), "Bundle.entry[1].resource", "R9014C"),
    "condition-without-encounter": Damage(
        "conditions", both(drop(f"{C}.contained"), drop(f"{C}.encounter")), "Bundle.entry[1].resource", "R9013C"
    ),
    "abated-but-active": Damage(
        "conditions", put(f"{C}.abatementDateTime", "2021-01-01"), "Bundle.entry[1].resource", "con-4"
    ),
    "unknown-clinical-status": Damage(
        "conditions",
        put(f"{C}.clinicalStatus.coding[0].code", "unknown"),
        "Bundle.entry[1].resource.clinicalStatus",
        "required value set",
    ),
    "no-verification-status": Damage(
        "conditions", drop(f"{C}.verificationStatus"), "Bundle.entry[1].resource.verificationStatus", MISSING
    ),
    "dummy-disease-with-another-display": Damage(
        "conditions",
        put(f"{C}.code.coding[0].code", "99999999"),
        "Bundle.entry[1].resource.code.coding[0].display",
        "dummy code",
    ),
    "no-managed-disease-code": Damage(
        "conditions",
        put(f"{C}.code.coding[0].system", "http://hl7.org/fhir/sid/icd-10"),
        "Bundle.entry[1].resource.code.coding",
        "slice medisRecordNo: missing",
    ),
    "condition-without-text": Damage("conditions", drop(f"{C}.code.text"), "Bundle.entry[1].resource.code.text", MISSING),
    "onset-as-text": Damage(
        "conditions",
        both(drop(f"{C}.onsetDateTime"), put(f"{C}.onsetString", "2020年春")),
        "Bundle.entry[1].resource",
        "onset",
    ),
    # --- AllergyIntolerance ---
    "allergy-without-clinical-status": Damage(
        "allergies", drop(f"{C}.clinicalStatus"), "Bundle.entry[1].resource", "ait-1"
    ),
    "allergy-category": Damage(
        "allergies", put(f"{C}.category", ["pollen"]), "Bundle.entry[1].resource.category[0]", "required value set"
    ),
    "allergy-without-institution": Damage("allergies", drop(f"{C}.extension"), "Bundle.entry[1].resource", "R9011"),
    "reaction-without-manifestation": Damage(
        "allergies",
        put(f"{C}.reaction", [{"severity": "mild"}]),
        "Bundle.entry[1].resource.reaction[0].manifestation",
        MISSING,
    ),
    # --- MedicationRequest ---
    "both-usage-codes": Damage(
        "order",
        append(
            "dosageInstruction[0].timing.code.coding",
            {
                "system": f"{CLINS}/CodeSystem/JP_CLINS_MedicationUsage_Uncoded_CS",
                "code": "0X0XXXXXXXXX0000",
                "display": "ダミー用法コード",
            },
        ),
        "MedicationRequest.dosageInstruction[0]",
        "R502",
    ),
    "no-usage-code": Damage(
        "order",
        drop("dosageInstruction[0].timing.code.coding[1]"),
        "MedicationRequest.dosageInstruction[0]",
        "R502",
    ),
    "no-period-of-use": Damage(
        "order", drop("dosageInstruction[0].extension"), "MedicationRequest.dosageInstruction[0].extension", MISSING
    ),
    "unit-of-another-system": Damage(
        "order",
        put("dosageInstruction[0].doseAndRate[0].doseQuantity.system", "http://unitsofmeasure.org"),
        "MedicationRequest.dosageInstruction[0].doseAndRate[0].doseQuantity.system",
        "clins-dose-unit",
    ),
    "status-of-an-order": Damage("order", put("status", "active"), "MedicationRequest.status", "pattern"),
    "no-rp-number": Damage("order", drop("identifier[0]"), "MedicationRequest.identifier", "slice rpNumber: missing"),
    "medication-as-reference": Damage(
        "order",
        both(drop("medicationCodeableConcept"), put("medicationReference", {"display": "x"})),
        "MedicationRequest.medication",
        MISSING,
    ),
    "count-below-one": Damage(
        "order",
        put("dosageInstruction[0].timing.repeat.frequency", 0),
        "MedicationRequest.dosageInstruction[0].timing.repeat.frequency",
        "outside the range",
    ),
    "period-without-unit": Damage(
        "order",
        drop("dosageInstruction[0].timing.repeat.periodUnit"),
        "MedicationRequest.dosageInstruction[0].timing.repeat",
        "tim-2",
    ),
    "boolean-for-decimal": Damage(
        "order",
        put("dispenseRequest.expectedSupplyDuration.value", True),
        "MedicationRequest.dispenseRequest.expectedSupplyDuration.value",
        "not a decimal",
    ),
    # --- documents ---
    "required-section-missing": Damage(
        "referral",
        drop("entry[0].resource.section[2].section[0]"),
        "Bundle.entry[0].resource.section[2].section",
        "slice referralPurposeSection: missing",
    ),
    "section-code-unknown": Damage(
        "referral",
        put("entry[0].resource.section[0].code.coding[0].code", "921"),
        "Bundle.entry[0].resource.section",
        "slice referralFromSection: missing",
    ),
    "section-title": Damage(
        "referral", put("entry[0].resource.section[0].title", "紹介元"), "Bundle.entry[0].resource.section[0].title", "fixed"
    ),
    "section-without-content": Damage(
        "referral",
        lambda b: b["entry"][0]["resource"]["section"][2]["section"].__setitem__(
            5, {k: v for k, v in b["entry"][0]["resource"]["section"][2]["section"][5].items() if k in ("title", "code")}
        ),
        "Bundle.entry[0].resource.section[2].section[5]",
        "cmp-1",
    ),
    "both-kinds-of-content": Damage(
        "referral",
        lambda b: b["entry"][0]["resource"]["section"].append(
            {
                "title": "CDA参照",
                "code": {"coding": [{"system": f"{CLINS}/CodeSystem/document-section", "code": "200", "display": "x"}]},
                "entry": [{"reference": b["entry"][17]["fullUrl"]}],
            }
        ),
        "Bundle.entry[0].resource",
        "checkExist-CDASection",
    ),
    "entry-of-a-section-dangles": Damage(
        "referral",
        put("entry[0].resource.section[2].section[1].entry[0].reference", "urn:uuid:00000000-0000-4000-8000-000000000000"),
        "Bundle.entry[0].resource.section[2].section[1].entry[0].reference",
        "does not resolve",
    ),
    "composition-not-first": Damage("referral", swap("entry", 0, 1), "Bundle", "bdl-11"),
    "document-type-code": Damage(
        "referral", put("entry[0].resource.type.coding[0].code", "18842-5"), "Bundle.entry[0].resource.type", "fixed"
    ),
    "no-custodian": Damage("referral", drop("entry[0].resource.custodian"), "Bundle.entry[0].resource.custodian", MISSING),
    "invalid-base64": Damage(
        "referral",
        put("entry[17].resource.content[0].attachment", {"contentType": "text/plain", "data": "@@@"}),
        "Bundle.entry[17].resource.content[0].attachment.data",
        "base64",
    ),
    "fault-inside-a-document-entry": Damage(
        "referral",
        drop("entry[8].resource.code.text"),
        "Bundle.entry[8].resource.code.text",
        MISSING,
    ),
    "plan-without-care-plan-reference": Damage(
        "plan",
        lambda b: b["entry"][0]["resource"]["section"][0]["entry"].__delitem__(0),
        "Bundle.entry[0].resource.section[0].entry",
        "missing",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damage_is_found_at_its_place(name: str, profiles: Profiles, lab: dict[tuple[str, str], str]) -> None:
    base, edit, path, rule = DAMAGES[name]
    resource = copy.deepcopy(BASES[base])
    edit(resource)
    issues = check(resource, profiles=profiles, lab=lab)
    errors = [i.text for i in issues if i.severity == Severity.ERROR]
    assert any(text.startswith((f"{path}: ", f"{path}.", f"{path}[")) and rule in text for text in errors), errors
    assert held_back(issues)


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damage_is_told_once(name: str, profiles: Profiles, lab: dict[tuple[str, str], str]) -> None:
    """fhir.resources, the profiles and our own rules see the same fault: one issue of one kind at one place, and one
    of each numbered rule at each place."""
    base, edit, _, _ = DAMAGES[name]
    resource = copy.deepcopy(BASES[base])
    edit(resource)
    errors = [i for i in check(resource, profiles=profiles, lab=lab) if i.severity == Severity.ERROR]
    texts = [i.text for i in errors]
    assert len(set(texts)) == len(texts)
    kinds = [(i.text.partition(": ")[0], i.code) for i in errors if i.code in _TOLD_ONCE and ": slice " not in i.text]
    assert len(set(kinds)) == len(kinds), texts


@pytest.mark.parametrize("base", BASES)
def test_the_bases_themselves_are_right(base: str, profiles: Profiles, lab: dict[tuple[str, str], str]) -> None:
    errors = [i.text for i in check(BASES[base], profiles=profiles, lab=lab) if i.severity == Severity.ERROR]
    assert errors == []


_ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.sampled_from(["#", "urn:uuid:x", "Patient/1", JLAC10_CORE, "Observation", "99999999", "秘密"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["resourceType", "url", "reference", "coding", "system", "code", "profile", "_id", "秘密"]), inner
    ),
    max_leaves=8,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), value=_ANY)
def test_any_content_gets_an_answer(
    data: st.DataObject, value: Any, profiles: Profiles, lab: dict[tuple[str, str], str]
) -> None:
    """One place of an official example replaced by anything: findings, never an exception, never what was written."""
    resource = copy.deepcopy(BASES[data.draw(st.sampled_from(sorted(BASES)))])
    holder: Any = resource
    key: Any = data.draw(st.sampled_from(sorted(resource)))
    while isinstance(holder[key], dict | list) and holder[key] and data.draw(st.integers(0, 9)):
        holder = holder[key]
        key = data.draw(st.sampled_from(sorted(holder) if isinstance(holder, dict) else list(range(len(holder)))))
    holder[key] = value
    assert all("秘密" not in issue.text for issue in check(resource, profiles=profiles, lab=lab))
