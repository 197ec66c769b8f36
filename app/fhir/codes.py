"""Codes that the builders may write of themselves: closed FHIR and JP lists, the standards' dummy codes.

Every code that is in neither a record nor one of these tables is a fault (`app.fhir.validate.assert_known_codes`).
Canonicals: JP-CLINS 1.10.0 and JP Core 1.1.2 (packages of jpfhir.jp), HL7 FHIR R4 4.0.1 and HL7 v3.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from app.fhir import relatives
from schemas import systems
from schemas.coding import Coding
from schemas.note import AdmitSource, DischargeDisposition, DocumentType, EncounterClass
from schemas.record import ModifierPosition, Record
from schemas.spelling import fold
from schemas.statement import Action, AllergyCategory, Assertion, InfectionResult

# Ours: there is no registered base, so the host is one that can never be resolved by mistake.
LOCAL = "http://hyojun.local/fhir"
CONFIDENCE = f"{LOCAL}/StructureDefinition/confidence"
"""Extension, valueDecimal 0..1: mean probability of the model's choices for the statement."""
RUN = f"{LOCAL}/StructureDefinition/run"
"""Extension on Provenance, valueString: the id of the generation run."""
NOTE_ID = f"{LOCAL}/NamingSystem/note"
BUNDLE_ID = f"{LOCAL}/NamingSystem/bundle"
PATIENT_ID = f"{LOCAL}/NamingSystem/patient"
PRINCIPAL_ID = f"{LOCAL}/NamingSystem/principal"
PRACTITIONER_ID = f"{LOCAL}/NamingSystem/practitioner"
ENCOUNTER_ID = f"{LOCAL}/NamingSystem/encounter"

# http://hl7.org/fhir/R4/extension-derivation-reference.html: offset and length count from 0 in the source text.
EVIDENCE = "http://hl7.org/fhir/StructureDefinition/derivation-reference"

DATA_ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
CORE_PROFILE = "http://jpfhir.jp/fhir/core/StructureDefinition/JP_"
ECS_PROFILE = "http://jpfhir.jp/fhir/eCS/StructureDefinition/JP_"
INSTITUTION_EXTENSION = "http://jpfhir.jp/fhir/clins/Extension/StructureDefinition/JP_eCS_InstitutionNumber"
DEPARTMENT_EXTENSION = "http://jpfhir.jp/fhir/eCS/Extension/StructureDefinition/JP_eCS_Department"
MODIFIER_EXTENSION = {
    position: f"http://jpfhir.jp/fhir/core/Extension/StructureDefinition/JP_Condition_Disease{name}Modifier"
    for position, name in ((ModifierPosition.PREFIX, "Prefix"), (ModifierPosition.POSTFIX, "Postfix"))
}
PERIOD_OF_USE = "http://jpfhir.jp/fhir/core/Extension/StructureDefinition/JP_MedicationDosage_PeriodOfUse"
NAME_REPRESENTATION = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"

INSTITUTION_NUMBER = "http://jpfhir.jp/fhir/core/IdSystem/insurance-medical-institution-no"
RESOURCE_ID = "http://jpfhir.jp/fhir/core/IdSystem/resourceInstance-identifier"
FACILITY_PATIENT_OID = "urn:oid:1.2.392.100495.20.3.51.1"
"""The facility's ten digits are appended to the arc (JP_Patient_eCS, R1010)."""
INSURANCE_MEMBER = "http://jpfhir.jp/fhir/clins/Idsystem/JP_Insurance_memberID"
FACILITY_PRACTITIONER_OID = "urn:oid:1.2.392.100495.20.3.41.1"
"""The facility's ten digits are appended (JP_Practitioner_eCS, identifier.system: physicians)."""
RP_NUMBER = "http://jpfhir.jp/fhir/core/mhlw/IdSystem/Medication-RPGroupNumber"
ORDER_IN_RP = "http://jpfhir.jp/fhir/core/mhlw/IdSystem/MedicationAdministrationIndex"

UCUM = "http://unitsofmeasure.org"
MERIT9_UNIT = "http://jpfhir.jp/fhir/core/mhlw/CodeSystem/MedicationUnitMERIT9Code"
LOINC = "http://loinc.org"
ICD10 = systems.ICD10
MEDIS_DISEASE = systems.DISEASE_KEY
# 管理番号, 病名交換用コード, レセプト電算 傷病名, ICD-10: the order of JP_Condition_eCS, code.coding.
DISEASE_ORDER = (
    MEDIS_DISEASE,
    systems.DISEASE_EXCHANGE,
    systems.RECEIPT_DISEASE,
    ICD10,
)
# 修飾語管理番号 (1..1), 修飾語交換用コード, レセプト電算 修飾語 (0..1 each) of the modifier extensions.
MODIFIER_SYSTEMS = (
    systems.MODIFIER_KEY,
    systems.MODIFIER_EXCHANGE,
    systems.RECEIPT_MODIFIER,
)
# JP_MedicationRequest_eCS allows one coding of each of these (slices codingYJ, codingGeneralName, codingKYS).
SINGLE_DRUG_SYSTEMS = frozenset(
    {
        systems.YJ,
        systems.GENERAL_NAME,
        "http://capstandard.jp/CodeSystem/KikakubetsuYakuzaiSeibun",
    }
)
# JP_Bundle_CLINS
CLINS_BUNDLE_PROFILE = "http://jpfhir.jp/fhir/clins/StructureDefinition/JP_Bundle_CLINS"
CLINS_BUNDLE_ID = "http://jpfhir.jp/fhir/clins/bundle-identifier"
CLINS_BUNDLE_VALUE = re.compile(r"[0-4][0-9][1-3][0-9]{7}\^20[23][0-9]\^[A-Za-z0-9-]{1,36}")
"""Of Bundle.identifier (R2152)."""
CLINS_TYPE_TAG = "http://jpfhir.jp/fhir/clins/CodeSystem/BundleResourceType_CS"
CLINS_FLAG = "http://jpfhir.jp/fhir/clins/CodeSystem/JP_ehrshrs_indication"
"""LTS, UNINFORMED, UNDELIVERED in meta.tag."""
INSTITUTION_VALUE = re.compile(r"[0-4][0-9][1-3][0-9]{7}")
"""医療機関番号 (R9012)."""
USAGE_EPRESCRIPTION = systems.USAGE
USAGE_JAMI = systems.USAGE_JAMI
_CLINS_SYSTEM = "http://jpfhir.jp/fhir/clins/CodeSystem/"
LOCAL_LAB = f"{_CLINS_SYSTEM}JP_CLINS_ObsLabResult_LocalCode_CS"
LOCAL_LAB_CODE = re.compile(r"HYJ-[0-9a-f]{16}")
"""Ours, for an item that the hospital's table does not have."""
HOSPITAL_LAB_CODE = re.compile(r"[A-Za-z0-9_-]+")
"""What JP-CLINS 1.10.0 allows as a facility's own item code (ObsLabResult notes, local code)."""
GENERAL_LAB = systems.JLAC10
_SHARED_LAB = f"{_CLINS_SYSTEM}%s/JP_CLINS_ObsLabResult_%sLabo_CS"
CORE_LAB = frozenset(_SHARED_LAB % (table, "Core") for table in ("JLAC10", "JLAC11"))
INFECTION_LAB = frozenset(_SHARED_LAB % (table, "Infection") for table in ("JLAC10", "JLAC11"))
_JLAC10 = frozenset({GENERAL_LAB} | {system for system in CORE_LAB | INFECTION_LAB if "/JLAC10/" in system})
STANDARD_LAB = frozenset({GENERAL_LAB} | CORE_LAB | INFECTION_LAB)
"""Systems of the standard codes of laboratory items; an item with none of them is 未標準化."""
JFAGY = frozenset({systems.JFAGY_FOOD, systems.JFAGY_OTHER, systems.JFAGY_PRODUCT, systems.JFAGY_INGREDIENT})


def _coding(system: str, code: str, display: str) -> Coding:
    return Coding(system=system, code=code, display=display)


# Dummy codes of JP-CLINS 1.10.0 for what no table knows.
UNCODED_DISEASE = _coding(MEDIS_DISEASE, "99999999", "未コード化傷病名")
UNCODED_LAB = _coding(
    "http://jpfhir.jp/fhir/clins/CodeSystem/JP_CLINS_ObsLabResult_Uncoded_CS",
    "99999999999999999",
    "未標準化コード項目(JLAC)",
)
UNCODED_DRUG = _coding("http://jpfhir.jp/fhir/eCS/CodeSystem/MedicationCodeNocoded_CS", "NOCODED", "標準コードなし")
UNCODED_USAGE = _coding(
    "http://jpfhir.jp/fhir/clins/CodeSystem/JP_CLINS_MedicationUsage_Uncoded_CS", "0X0XXXXXXXXX0000", "ダミー用法コード"
)
_NON_FOOD = _coding(systems.JFAGY_OTHER, "D9N000000000", "非食品・非医薬品ダミーコード")
UNCODED_ALLERGEN = {
    AllergyCategory.MEDICATION: _coding(systems.JFAGY_PRODUCT, "D9M000000000", "医薬品ダミーコード"),
    AllergyCategory.FOOD: _coding(systems.JFAGY_FOOD, "D9F000000000", "食品ダミーコード"),
    AllergyCategory.ENVIRONMENT: _NON_FOOD,
    AllergyCategory.OTHER: _NON_FOOD,
}

# --- status ---------------------------------------------------------------------------------------------------------
_HL7 = "http://terminology.hl7.org/CodeSystem/"
_CONFIRMED, _UNCONFIRMED, _REFUTED = (
    ("confirmed", "Confirmed"),
    ("unconfirmed", "Unconfirmed"),
    ("refuted", "Refuted"),
)
_ACTIVE, _INACTIVE, _RESOLVED = ("active", "Active"), ("inactive", "Inactive"), ("resolved", "Resolved")

# A denied disease or allergy keeps a clinicalStatus: who filters by it alone must not take it for a present one.
# `inactive` is the only R4 code that neither says that the patient has it (active) nor that it healed (resolved,
# remission). JP_AllergyIntolerance_eCS has it, JP_Condition_eCS does not use it.
_STATUS = {
    Assertion.PRESENT: (_ACTIVE, _CONFIRMED),
    Assertion.SUSPECTED: (_ACTIVE, _UNCONFIRMED),
    Assertion.ABSENT: (_INACTIVE, _REFUTED),
    Assertion.PAST: (_RESOLVED, _CONFIRMED),
}
CONDITION_STATUS = {
    assertion: (_coding(f"{_HL7}condition-clinical", *clinical), _coding(f"{_HL7}condition-ver-status", *verification))
    for assertion, (clinical, verification) in _STATUS.items()
}
ALLERGY_STATUS = {
    assertion: (
        _coding(f"{_HL7}allergyintolerance-clinical", *clinical),
        _coding(f"{_HL7}allergyintolerance-verification", *verification),
    )
    for assertion, (clinical, verification) in _STATUS.items()
}
ENCOUNTER_DIAGNOSIS = _coding(f"{_HL7}condition-category", "encounter-diagnosis", "Encounter Diagnosis")
PROBLEM_LIST_ITEM = _coding(f"{_HL7}condition-category", "problem-list-item", "Problem List Item")
_SIMPLE_CATEGORY = "http://jpfhir.jp/fhir/core/CodeSystem/JP_SimpleObservationCategory_CS"
LABORATORY = _coding(_SIMPLE_CATEGORY, "laboratory", "Laboratory")
NO_RESULT = _coding(f"{_HL7}data-absent-reason", "unknown", "Unknown")
ASSEMBLER = _coding(f"{_HL7}provenance-participant-type", "assembler", "Assembler")
CREATE = _coding(f"{_HL7}v3-DataOperation", "CREATE", "create")
VERIFIER = _coding(f"{_HL7}provenance-participant-type", "verifier", "Verifier")
UPDATE = _coding(f"{_HL7}v3-DataOperation", "UPDATE", "revise")
NULLIFY = _coding(f"{_HL7}v3-DataOperation", "NULLIFY", "nullify")
ENTERED_IN_ERROR = {
    "Condition": _coding(f"{_HL7}condition-ver-status", "entered-in-error", "Entered in Error"),
    "AllergyIntolerance": _coding(f"{_HL7}allergyintolerance-verification", "entered-in-error", "Entered in Error"),
}
"""Of the types whose being wrong is a verificationStatus; the others have a status."""

# A planned drug is an intent without authorization (intent plan) and not yet actionable (status draft): with `active`
# a reader that filters on status alone would count it among the drugs that the patient takes.
MEDICATION_STATUS = {
    Action.PRESCRIBE: ("active", "order"),
    Action.CONTINUE: ("active", "order"),
    Action.CHANGE: ("active", "order"),
    Action.STOP: ("stopped", "order"),
    Action.HISTORY: ("completed", "order"),
    Action.PLAN: ("draft", "plan"),
}

# 力価区分: the amount of the product, not of its ingredient.
PRODUCT_AMOUNT = _coding(
    "http://jpfhir.jp/fhir/core/mhlw/CodeSystem/MedicationIngredientStrengthStrengthType", "1", "製剤量"
)

# --- visits and institutions (displays: JP_Encounter_eCS class.display; code systems of JP-CLINS 1.10.0) --------------
ENCOUNTER_CLASS = {
    kind: _coding(f"{_HL7}v3-ActCode", kind.value, display)
    for kind, display in (
        (EncounterClass.AMBULATORY, "外来"),
        (EncounterClass.INPATIENT, "入院"),
        (EncounterClass.EMERGENCY, "救急"),
        (EncounterClass.HOME, "在宅"),
        (EncounterClass.VIRTUAL, "遠隔受診"),
    )
}
_DISPOSITION = "http://jpfhir.jp/fhir/Common/CodeSystem/discharge-disposition"
DISCHARGE_DISPOSITION = {
    DischargeDisposition(code): _coding(_DISPOSITION, code, display)
    for code, display in (
        ("1", "傷病が治癒・軽快"),
        ("3", "傷病（白血病、潰瘍性大腸炎、クローン病等）が寛解"),
        ("4", "傷病が不変"),
        ("5", "傷病が増悪"),
        ("6", "傷病による死亡"),
        ("7", "傷病以外による死亡"),
        ("9", "その他（検査入院,正常分娩及び人間ドック含む）"),
    )
}
_SOURCE = "http://jpfhir.jp/fhir/Common/CodeSystem/admit-Source"
ADMIT_SOURCE = {
    AdmitSource(code): _coding(_SOURCE, code, display)
    for code, display in (
        ("0", "院内の他病棟からの転棟"),
        ("1", "家庭からの入院"),
        ("4", "他の病院・診療所の病棟からの転院"),
        ("5", "介護施設・福祉施設に入所中"),
        ("8", "院内で出生"),
        ("9", "その他"),
    )
}
PROVIDER = _coding(f"{_HL7}organization-type", "prov", "Healthcare Provider")

# --- documents (LOINC document ontology; R4 value set c80-doc-typecodes) ----------------------------------------------
_PROGRESS_NOTE = _coding(LOINC, "11506-3", "Progress note")
DOCUMENT_TYPE = {
    DocumentType.PROGRESS: _PROGRESS_NOTE,
    DocumentType.ADMISSION: _coding(LOINC, "34117-2", "History and physical note"),
    DocumentType.PREOP: _PROGRESS_NOTE,
    DocumentType.REFERRAL: _coding(LOINC, "57133-1", "Referral note"),
    DocumentType.REPLY: _coding(LOINC, "11488-4", "Consult note"),
    DocumentType.DISCHARGE: _coding(LOINC, "18842-5", "Discharge summary"),
    DocumentType.NURSING: _coding(LOINC, "34746-8", "Nurse Note"),
    DocumentType.EMERGENCY: _coding(LOINC, "34111-5", "Emergency department Note"),
    DocumentType.HOMECARE: _PROGRESS_NOTE,
    DocumentType.CHECKUP: _coding(LOINC, "53576-5", "Personal health monitoring report Document"),
}

# --- results (JP-CLINS 1.10.0 result code systems) -------------------------------------------------------------------
_RESULT = "http://jpfhir.jp/fhir/LaboResult/CodeSystem/"
_POSNEG = {
    text: _coding(f"{_RESULT}JP_PosNegHold_CS", code, text)
    for text, code in (("陽性", "1"), ("陰性", "2"), ("判定保留", "3"))
}
_URINE = {
    text: _coding(f"{_RESULT}JP_Urine_Code_CS", code, display)
    for text, code, display in (
        ("-", "1", "－"),
        ("±", "2", "±"),
        ("+", "3", "＋"),
        ("1+", "3", "＋"),
        ("2+", "4", "２＋"),
        ("3+", "5", "３＋"),
        ("4+", "6", "４＋"),
        ("5+", "7", "５＋"),
    )
}
_ABO = {
    text: _coding(f"{_RESULT}JP_BldABO_CS", code, display)
    for text, code, display in (("A", "1", "Ａ"), ("B", "2", "Ｂ"), ("AB", "3", "ＡＢ"), ("O", "4", "Ｏ"))
}
_RH = {
    text: _coding(f"{_RESULT}JP_BldRh_CS", code, display)
    for text, code, display in (("+", "1", "＋"), ("陽性", "1", "＋"), ("-", "2", "－"), ("陰性", "2", "－"))
}
INFECTION_TEXT = {
    InfectionResult.POSITIVE: "陽性",
    InfectionResult.NEGATIVE: "陰性",
    InfectionResult.INDETERMINATE: "判定保留",
}

# JLAC10: analyte in digits 1-5 (5H010 ABO, 5H020 Rh), material in digits 10-12 (JSLM JLAC10 material table).
_MATERIAL_SYSTEM = "http://jpfhir.jp/fhir/core/CodeSystem/JP_ObservationSampleMaterialCode_CS"
_MATERIAL = {
    code: _coding(_MATERIAL_SYSTEM, code, display)
    for code, display in (
        ("001", "尿(含むその他)"),
        ("004", "蓄尿"),
        ("018", "全血"),
        ("019", "全血(添加物入り)"),
        ("020", "動脈血"),
        ("021", "毛細管血"),
        ("022", "血漿"),
        ("023", "血清"),
    )
}
UNKNOWN_SPECIMEN = "不明"


def jlac10(codings: tuple[Coding, ...]) -> str | None:
    """The 17 digits of the first JLAC10 coding."""
    return next((c.code for c in codings if c.system in _JLAC10 and len(c.code) == 17), None)


def material(codings: tuple[Coding, ...]) -> Coding | None:
    """Material that the item's own code states; the note itself rarely says."""
    return _MATERIAL.get((jlac10(codings) or "")[9:12])


def result_coding(text: str, name: str, codings: tuple[Coding, ...]) -> Coding | None:
    """The code of a qualitative result in the system that suits the item; None where the lists have none.

    A grade such as 2+ has a code for urine alone, so the item has to be one: by its code, or by its name.
    """
    item = jlac10(codings) or ""
    if item.startswith("5H010"):
        return _ABO.get(text)
    if item.startswith("5H020"):
        return _RH.get(text)
    if text in _POSNEG:
        return _POSNEG[text]
    named = fold(name).startswith(("尿", "u-")) and not fold(name).startswith(("尿酸", "尿素"))  # those are of blood
    urine = item[9:12] in ("001", "004") if item else named
    return _URINE.get(text) if urine else None


_V3_INTERPRETATION = f"{_HL7}v3-ObservationInterpretation"
_HIGH, _LOW = _coding(_V3_INTERPRETATION, "H", "High"), _coding(_V3_INTERPRETATION, "L", "Low")
_VERY_HIGH = _coding(_V3_INTERPRETATION, "HH", "Critical high")
_VERY_LOW = _coding(_V3_INTERPRETATION, "LL", "Critical low")
_POS = _coding(_V3_INTERPRETATION, "POS", "Positive")
_NEG = _coding(_V3_INTERPRETATION, "NEG", "Negative")
_IND = _coding(_V3_INTERPRETATION, "IND", "Indeterminate")
_INTERPRETATION: dict[str, Coding] = {
    **dict.fromkeys(("h", "↑", "高値", "高", "high", "上昇"), _HIGH),
    **dict.fromkeys(("l", "↓", "低値", "低", "low", "低下"), _LOW),
    **dict.fromkeys(("hh", "↑↑"), _VERY_HIGH),
    **dict.fromkeys(("ll", "↓↓"), _VERY_LOW),
    **dict.fromkeys(("n", "正常", "基準内"), _coding(_V3_INTERPRETATION, "N", "Normal")),
    **dict.fromkeys(("a", "異常"), _coding(_V3_INTERPRETATION, "A", "Abnormal")),
    "陽性": _POS,
    "陰性": _NEG,
    "判定保留": _IND,
}


def interpretation_coding(text: str) -> Coding | None:
    """HL7 v3 ObservationInterpretation of a written flag or of a qualitative result beside a number."""
    return _INTERPRETATION.get(fold(text).strip("()[]"))


# --- family (HL7 v3 RoleCode) ----------------------------------------------------------------------------------------
_ROLE_SYSTEM = f"{_HL7}v3-RoleCode"


def relationship_coding(written: str) -> Coding:
    """Role of a relative as written; `family member` for what the list does not have."""
    role = relatives.role_of(fold(written))
    return _coding(_ROLE_SYSTEM, role, relatives.ROLES[role])


def given(records: Iterable[Record], department: Coding | None = None) -> set[tuple[str, str]]:
    """(system, code) of every code that came in with the records: what the builders may write beside `CLOSED`.

    A hospital's own laboratory code stands under the one system that JP-CLINS has for them all.
    """
    found = {(department.system, department.code)} if department else set()
    for record in records:
        modifiers = (coding for modifier in record.modifiers for coding in modifier.codings)
        usage = record.dosage.usage if record.dosage else ()
        found |= {(c.system, c.code) for c in (*record.codings, *modifiers, *usage)}
        if record.local and HOSPITAL_LAB_CODE.fullmatch(record.local.code):
            found.add((LOCAL_LAB, record.local.code))
    return found


def _closed() -> frozenset[tuple[str, str]]:
    status = [c for pair in (*CONDITION_STATUS.values(), *ALLERGY_STATUS.values()) for c in pair]
    tables: tuple[Mapping[Any, Coding], ...] = (
        UNCODED_ALLERGEN, DOCUMENT_TYPE, ENCOUNTER_CLASS, DISCHARGE_DISPOSITION, ADMIT_SOURCE, _MATERIAL, _POSNEG, _URINE,
        _ABO, _RH, _INTERPRETATION,
    )  # fmt: skip
    single = (
        UNCODED_DISEASE, UNCODED_LAB, UNCODED_DRUG, UNCODED_USAGE, PRODUCT_AMOUNT, PROVIDER, ENCOUNTER_DIAGNOSIS,
        PROBLEM_LIST_ITEM, LABORATORY, NO_RESULT, ASSEMBLER, CREATE, VERIFIER, UPDATE, NULLIFY,
        *ENTERED_IN_ERROR.values(),
    )  # fmt: skip
    listed = [*status, *single, *(coding for table in tables for coding in table.values())]
    return frozenset({(c.system, c.code) for c in listed} | {(_ROLE_SYSTEM, role) for role in relatives.ROLES})


CLOSED = _closed()
"""(system, code) of every Coding that the builders write without a table having found it."""
