"""Canonical URIs of the code systems that masters fill, and which statements each can code.

Source of the URIs and of their old OIDs: the map OID to URL of HL7 FHIR JP Core 1.2.0 (guide, page urlmap), and the code
system tables of JP-CLINS 1.10.0. Where no URI was ever given, ours begins with `urn:hyojun:`.
"""

from app.terminology.entries import Part
from schemas import systems
from schemas.statement import Kind

# Names of ours for tables whose codes were given no URI; such a coding never goes into a resource.
PRICE_LIST = "urn:hyojun:mhlw-price-list"
RECEIPT_DRUG = "urn:hyojun:ssk-drug"
DISEASE_INDEX = "urn:hyojun:medis-index-disease"
MODIFIER_INDEX = "urn:hyojun:medis-index-modifier"

# Two OIDs are in use for some: 20.1.x in the CodeSystems of 2023, 20.2.x in the maps.
_MHLW = "http://jpfhir.jp/fhir/core/mhlw"
_OIDS = {
    "1.2.392.200119.4.101.2": systems.DISEASE_KEY,
    "1.2.392.200119.4.101.6": systems.DISEASE_EXCHANGE,
    "1.2.392.200119.4.201.2": systems.MODIFIER_KEY,
    "1.2.392.200119.4.201.5": systems.MODIFIER_EXCHANGE,
    "1.2.392.200119.4.402.1": "http://medis.or.jp/CodeSystem/master-HOT13",
    "1.2.392.200119.4.403.1": systems.HOT9,
    "1.2.392.100495.20.2.74": systems.HOT9,
    "1.2.392.200119.4.403.2": systems.HOT7,
    "1.2.392.200119.4.504": systems.JLAC10,
    "1.2.392.100495.20.1.73": systems.YJ,
    "1.2.392.100495.20.2.73": systems.YJ,
    "1.2.392.100495.20.1.81": systems.GENERAL_NAME,
    "1.2.392.100495.20.2.81": systems.GENERAL_NAME,
    "1.2.392.200250.2.2.2": systems.DEPARTMENT,
    "1.2.392.200250.2.2.20": systems.USAGE_JAMI,
    "1.2.392.200250.2.2.20.20": systems.USAGE_JAMI,
    "1.2.392.200250.2.2.20.22": "http://jami.jp/CodeSystem/MedicationUsageAdditional",
    "1.2.392.200250.2.2.20.30": "http://jami.jp/CodeSystem/MedicationMethodBasicUsage",
    "1.2.392.200250.2.2.20.31": "http://jami.jp/CodeSystem/MedicationEventTriggered",
    "1.2.392.200250.2.2.20.32": "http://jami.jp/CodeSystem/MedicationBodySiteExternal",
    "1.2.392.200250.2.2.20.40": "http://jami.jp/CodeSystem/MedicationMethodDetailUsage",
    "1.2.392.200250.2.2.20.41": "http://jami.jp/CodeSystem/MedicationMethodDetailOral",
    "1.2.392.200250.2.2.20.42": "http://jami.jp/CodeSystem/MedicationMethodDetailExternal",
    "1.2.392.200250.2.2.20.43": "http://jami.jp/CodeSystem/MedicationMethodDetailInjection",
    "1.2.392.200250.2.2.20.44": "http://jami.jp/CodeSystem/MedicationMethodDetailPouring",
    "1.2.392.200250.2.2.20.45": "http://jami.jp/CodeSystem/MedicationMethodDetailDeviceInjection",
    "1.2.392.200250.2.2.21": "http://jami.jp/CodeSystem/MedicationUsage-12digits",
    "1.2.392.200250.2.2.30.10": "http://jami.jp/CodeSystem/DrugDispensePreparationMethod",
    "1.2.392.100495.20.2.21": f"{_MHLW}/CodeSystem/MedicationForm",
    "1.2.392.100495.20.2.22": f"{_MHLW}/CodeSystem/MedicationIngredientStrengthStrengthType",
    "1.2.392.100495.20.2.34": "http://jpfhir.jp/fhir/core/CodeSystem/route-codes",
    "1.2.392.100495.20.2.41": f"{_MHLW}/CodeSystem/MedicationSubstitutionProhibittedCategory",
    "1.2.392.100495.20.2.42": f"{_MHLW}/CodeSystem/RequestCheckRemainingMedicine",
    "1.2.392.100495.20.2.51": f"{_MHLW}/CodeSystem/MedicationRequestDepartment",
    "1.2.392.100495.20.2.61": f"{_MHLW}/CodeSystem/InsuranceMajorCategory",
    "1.2.392.100495.20.2.62": f"{_MHLW}/CodeSystem/InsuredPersonCategory",
    "1.2.392.100495.20.2.63": f"{_MHLW}/CodeSystem/MedicationInsuredPersonClass",
    "1.2.392.100495.20.2.101": f"{_MHLW}/CodeSystem/MedicationUnitMERIT9Code",
    "1.2.392.100495.20.3.21": f"{_MHLW}/CodeSystem/PrefectureNo-2digits",
    "1.2.392.100495.20.3.22": f"{_MHLW}/CodeSystem/MedicationFeeScoreType",
}

KINDS: dict[str, Kind | Part] = {
    systems.DISEASE_KEY: Kind.CONDITION,
    systems.DISEASE_EXCHANGE: Kind.CONDITION,
    systems.RECEIPT_DISEASE: Kind.CONDITION,
    systems.ICD10: Kind.CONDITION,
    systems.MODIFIER_KEY: Part.MODIFIER,
    systems.MODIFIER_EXCHANGE: Part.MODIFIER,
    systems.RECEIPT_MODIFIER: Part.MODIFIER,
    systems.JFAGY_FOOD: Kind.ALLERGY,
    systems.JFAGY_OTHER: Kind.ALLERGY,
    systems.CORE_LAB: Kind.LAB,
    systems.CORE_LAB_11: Kind.LAB,
    systems.JLAC10: Kind.LAB,
    systems.INFECTION_LAB: Kind.INFECTION,
    systems.INFECTION_LAB_11: Kind.INFECTION,
    systems.YJ: Kind.PRESCRIPTION,
    systems.HOT7: Kind.PRESCRIPTION,
    systems.HOT9: Kind.PRESCRIPTION,
    systems.GENERAL_NAME: Kind.PRESCRIPTION,
    systems.USAGE: Part.USAGE,
    systems.USAGE_JAMI: Part.USAGE,
    systems.DEPARTMENT: Part.DEPARTMENT,
}
"""A system that is not here is stored and never coded with (units, routes, document types …)."""


def canonical(uri: str) -> str:
    """The URI in use today for one that an older file gives as `urn:oid:…`; any other as it is."""
    return _OIDS.get(uri.removeprefix("urn:oid:"), uri)
