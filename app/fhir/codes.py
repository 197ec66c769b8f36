"""Codes that the builders may write of themselves: closed FHIR and JP lists, the standards' dummy codes, units.

Every code that is in neither a record nor one of these tables is a fault (`app.fhir.validate.assert_known_codes`).
Canonicals: JP-CLINS 1.10.0 and JP Core 1.1.2 (packages of jpfhir.jp), HL7 FHIR R4 4.0.1 and HL7 v3.
"""

import re
import unicodedata

from schemas.coding import Coding
from schemas.note import DocumentType
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

# http://hl7.org/fhir/R4/extension-derivation-reference.html: offset and length count from 0 in the source text.
EVIDENCE = "http://hl7.org/fhir/StructureDefinition/derivation-reference"

CORE_PROFILE = "http://jpfhir.jp/fhir/core/StructureDefinition/JP_"
ECS_PROFILE = "http://jpfhir.jp/fhir/eCS/StructureDefinition/JP_"
INSTITUTION_EXTENSION = "http://jpfhir.jp/fhir/clins/Extension/StructureDefinition/JP_eCS_InstitutionNumber"
DEPARTMENT_EXTENSION = "http://jpfhir.jp/fhir/eCS/Extension/StructureDefinition/JP_eCS_Department"
INSTITUTION_NUMBER = "http://jpfhir.jp/fhir/core/IdSystem/insurance-medical-institution-no"
RESOURCE_ID = "http://jpfhir.jp/fhir/core/IdSystem/resourceInstance-identifier"
FACILITY_PATIENT_OID = "urn:oid:1.2.392.100495.20.3.51.1"
"""The facility's ten digits are appended to the arc (JP_Patient_eCS, R1010)."""
RP_NUMBER = "http://jpfhir.jp/fhir/core/mhlw/IdSystem/Medication-RPGroupNumber"
ORDER_IN_RP = "http://jpfhir.jp/fhir/core/mhlw/IdSystem/MedicationAdministrationIndex"

UCUM = "http://unitsofmeasure.org"
MERIT9_UNIT = "http://jpfhir.jp/fhir/core/mhlw/CodeSystem/MedicationUnitMERIT9Code"
LOINC = "http://loinc.org"
ICD10 = "http://jpfhir.jp/fhir/core/mhlw/CodeSystem/ICD10-2013-full"
MEDIS_DISEASE = "http://medis.or.jp/CodeSystem/master-disease-keyNumber"
LOCAL_LAB = "http://jpfhir.jp/fhir/clins/CodeSystem/JP_CLINS_ObsLabResult_LocalCode_CS"
LOCAL_LAB_CODE = re.compile(r"HYJ-[0-9a-f]{16}")
_JLAC10 = (
    "http://medis.or.jp/CodeSystem/master-JLAC10-17digits",
    "http://jpfhir.jp/fhir/clins/CodeSystem/JLAC10/JP_CLINS_ObsLabResult_CoreLabo_CS",
    "http://jpfhir.jp/fhir/clins/CodeSystem/JLAC10/JP_CLINS_ObsLabResult_InfectionLabo_CS",
)
_JFAGY_FOOD = "http://jpfhir.jp/fhir/core/CodeSystem/JP_JfagyFoodAllergen_CS"
_JFAGY_OTHER = "http://jpfhir.jp/fhir/core/CodeSystem/JP_JfagyNonFoodNonMedicationAllergen_CS"
_JFAGY_DRUG = "http://jpfhir.jp/fhir/core/CodeSystem/YCM/JP_JfagyMedicationAllergen_CS"
_JFAGY_INGREDIENT = "http://jpfhir.jp/fhir/core/CodeSystem/GCM/JP_JfagyMedicationAllergen_CS"
JFAGY = frozenset({_JFAGY_FOOD, _JFAGY_OTHER, _JFAGY_DRUG, _JFAGY_INGREDIENT})


def _coding(system: str, code: str, display: str) -> Coding:
    return Coding(system=system, code=code, display=display)


def fold(text: str) -> str:
    """NFKC, case-folded, without white space: for keys of tables only, never shown."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


# Dummy codes of JP-CLINS 1.10.0 for what no table knows.
UNCODED_DISEASE = _coding(MEDIS_DISEASE, "99999999", "未コード化傷病名")
UNCODED_LAB = _coding(
    "http://jpfhir.jp/fhir/clins/CodeSystem/JP_CLINS_ObsLabResult_Uncoded_CS",
    "99999999999999999",
    "未標準化コード項目(JLAC)",
)
UNCODED_DRUG = _coding("http://jpfhir.jp/fhir/eCS/CodeSystem/MedicationCodeNocoded_CS", "NOCODED", "標準コードなし")
_NON_FOOD = _coding(_JFAGY_OTHER, "D9N000000000", "非食品・非医薬品ダミーコード")
UNCODED_ALLERGEN = {
    AllergyCategory.MEDICATION: _coding(_JFAGY_DRUG, "D9M000000000", "医薬品ダミーコード"),
    AllergyCategory.FOOD: _coding(_JFAGY_FOOD, "D9F000000000", "食品ダミーコード"),
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

# A denied disease keeps a clinicalStatus because JP-CLINS asks for one unless it was entered in error; `inactive` is
# the only R4 code that neither says that the patient has it (active) nor that he once had it (resolved, remission).
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
_MATERIAL = {"001": "尿", "018": "全血", "019": "全血", "022": "血漿", "023": "血清"}
UNKNOWN_SPECIMEN = "不明"


def jlac10(codings: tuple[Coding, ...]) -> str | None:
    """The 17 digits of the first JLAC10 coding."""
    return next((c.code for c in codings if c.system in _JLAC10 and len(c.code) == 17), None)


def specimen(codings: tuple[Coding, ...]) -> str:
    """Material that the item's own code states; the note itself rarely says."""
    return _MATERIAL.get((jlac10(codings) or "")[9:12], UNKNOWN_SPECIMEN)


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
    urine = item[9:12] == "001" if item else fold(name).startswith(("尿", "u-"))
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
_ROLES = {
    "FAMMEMB": "family member", "FTH": "father", "MTH": "mother", "PRN": "parent", "SIB": "sibling",
    "BRO": "brother", "SIS": "sister", "TWIN": "twin", "CHILD": "child", "SONC": "son", "DAUC": "daughter",
    "GRPRN": "grandparent", "GRFTH": "grandfather", "GRMTH": "grandmother",
    "MGRPRN": "maternal grandparent", "MGRFTH": "maternal grandfather", "MGRMTH": "maternal grandmother",
    "PGRPRN": "paternal grandparent", "PGRFTH": "paternal grandfather", "PGRMTH": "paternal grandmother",
    "GGRFTH": "great grandfather", "GGRMTH": "great grandmother",
    "UNCLE": "uncle", "MUNCLE": "maternal uncle", "PUNCLE": "paternal uncle",
    "AUNT": "aunt", "MAUNT": "maternal aunt", "PAUNT": "paternal aunt",
    "COUSN": "cousin", "MCOUSN": "maternal cousin", "PCOUSN": "paternal cousin",
    "NEPHEW": "nephew", "NIECE": "niece", "GRNDCHILD": "grandchild", "GRNDSON": "grandson",
    "GRNDDAU": "granddaughter", "SPS": "spouse", "HUSB": "husband", "WIFE": "wife",
    "FTHINLAW": "father-in-law", "MTHINLAW": "mother-in-law",
}  # fmt: skip
_RELATIVES = {
    word: role
    for role, words in {
        "FTH": "父 父親 実父", "MTH": "母 母親 実母", "PRN": "親 両親 片親",
        "SIB": "同胞 兄弟 兄弟姉妹 きょうだい", "BRO": "兄 弟 実兄 実弟 長兄 次兄 末弟",
        "SIS": "姉 妹 姉妹 実姉 実妹 長姉 次姉 末妹",
        "TWIN": "双子 双生児", "CHILD": "子 子供 子ども 実子", "SONC": "息子 長男 次男 二男 三男 四男",
        "DAUC": "娘 長女 次女 二女 三女 四女", "GRPRN": "祖父母", "GRFTH": "祖父", "GRMTH": "祖母",
        "GGRFTH": "曽祖父 曾祖父", "GGRMTH": "曽祖母 曾祖母", "UNCLE": "叔父 伯父 おじ", "AUNT": "叔母 伯母 おば",
        "COUSN": "いとこ 従兄弟 従姉妹 従兄 従弟 従姉 従妹", "NEPHEW": "甥", "NIECE": "姪", "GRNDCHILD": "孫",
        "GRNDSON": "孫息子", "GRNDDAU": "孫娘", "SPS": "配偶者", "HUSB": "夫", "WIFE": "妻",
        "FTHINLAW": "義父 舅", "MTHINLAW": "義母 姑",
    }.items()
    for word in words.split()
}  # fmt: skip


def relationship_coding(written: str) -> Coding:
    """Role of a relative as written; `family member` for what the list does not have."""
    word = fold(written).replace("の", "").replace("さん", "")
    side = {"父方": "P", "母方": "M"}.get(word[:2], "")
    role = _RELATIVES.get(word[2:] if side else word, "FAMMEMB")
    role = side + role if side + role in _ROLES else role
    return _coding(_ROLE_SYSTEM, role, _ROLES[role])


# --- units -----------------------------------------------------------------------------------------------------------
# UCUM (https://ucum.org) for units of laboratory reports as `Quantity.unit` writes them; keys folded.
_UCUM = {
    fold(written): code
    for code, units in {
        "g/dL": "g/dL", "g/L": "g/L", "mg/dL": "mg/dL", "mg/L": "mg/L", "ug/dL": "ug/dL", "ug/L": "ug/L",
        "ug/mL": "ug/mL", "ng/mL": "ng/mL", "ng/dL": "ng/dL", "ng/L": "ng/L", "pg/mL": "pg/mL", "mg/mL": "mg/mL",
        "mg/kg": "mg/kg", "ug/g": "ug/g", "pg": "pg", "fL": "fL", "U": "U", "U/L": "U/L", "U/mL": "U/mL",
        "mU/mL": "mU/mL", "mU/dL": "mU/dL", "uU/mL": "uU/mL", "[IU]/L": "IU/L", "[IU]/mL": "IU/mL",
        "m[IU]/L": "mIU/L", "m[IU]/mL": "mIU/mL", "u[IU]/mL": "uIU/mL", "mmol/L": "mmol/L", "umol/L": "umol/L uM",
        "nmol/L": "nmol/L", "pmol/L": "pmol/L", "fmol/L": "fmol/L", "mmol/mol": "mmol/mol", "meq/L": "mEq/L",
        "%": "% パーセント", "[ppth]": "‰", "/uL": "/uL 個/uL", "/mm3": "/mm3", "10*2/uL": "10^2/uL 百/uL",
        "10*3/uL": "10^3/uL 千/uL", "10*4/uL": "10^4/uL 万/uL", "10*6/uL": "10^6/uL", "10*4/mm3": "万/mm3",
        "10*9/L": "10^9/L", "10*12/L": "10^12/L", "s": "秒 sec s", "min": "分 min", "h": "時間 h",
        "g/g{creat}": "g/gCr g/gCre g/g・Cr", "mg/g{creat}": "mg/gCr mg/gCre mg/g・Cr",
        "ug/g{creat}": "ug/gCr ug/gCre ug/g・Cr", "ug/mg{creat}": "ug/mgCr", "U/g{creat}": "U/gCr",
        "mL/min": "mL/min mL/分", "mL/min/{1.73_m2}": "mL/min/1.73m2 mL/分/1.73m2", "mm/h": "mm/h mm/1h mm/時 mm/hr",
        "ng/mL/h": "ng/mL/h ng/mL/hr", "mg/d": "mg/day mg/日", "ug/d": "ug/day ug/日", "g/d": "g/day g/日",
        "mm[Hg]": "mmHg Torr", "mosm/kg": "mOsm/kg", "mosm/L": "mOsm/L", "/[HPF]": "/HPF 個/HPF", "/[LPF]": "/LPF",
        "{titer}": "倍", "{index}": "index", "{COI}": "COI C.O.I.", "{INR}": "INR", "{copies}/mL": "copies/mL",
    }.items()
    for written in units.split()
}  # fmt: skip


def ucum_code(unit: str) -> str | None:
    return _UCUM.get(fold(unit).replace("μ", "u"))


# MERIT-9 drug unit abbreviations (CodeSystem MedicationUnitMERIT9Code, JP Core); keys folded.
_MERIT9 = {
    fold(written): code
    for code, units in {
        "TAB": "錠", "CAP": "カプセル", "PCK": "包", "ML": "mL", "L": "L", "MCL": "uL", "G": "g", "MG": "mg",
        "KG": "kg", "MCG": "ug", "HON": "本", "SHT": "枚", "KO": "個", "BTL": "瓶", "BAG": "袋", "PIPE": "筒",
        "TUBE": "管", "KIT": "キット", "SHET": "シート", "SET": "セット", "PARI": "組", "BLST": "ブリスター",
        "UNT": "単位", "IUNT": "国際単位 IU", "TTUN": "万単位", "DROP": "滴", "AMP": "アンプル", "VIL": "バイアル",
        "SYRG": "シリンジ", "PILL": "丸", "TROC": "トローチ", "MEQ": "mEq", "DOSE": "回分", "TIME": "回", "BOX": "箱",
        "CAN": "缶", "CM": "cm",
    }.items()
    for written in units.split()
}  # fmt: skip


def merit9_code(unit: str) -> str | None:
    return _MERIT9.get(fold(unit).replace("μ", "u"))


def _closed() -> frozenset[tuple[str, str]]:
    status = [c for pair in (*CONDITION_STATUS.values(), *ALLERGY_STATUS.values()) for c in pair]
    tables = (UNCODED_ALLERGEN, DOCUMENT_TYPE, _POSNEG, _URINE, _ABO, _RH, _INTERPRETATION)
    single = (
        UNCODED_DISEASE, UNCODED_LAB, UNCODED_DRUG, ENCOUNTER_DIAGNOSIS, PROBLEM_LIST_ITEM, LABORATORY, NO_RESULT,
        ASSEMBLER, CREATE,
    )  # fmt: skip
    listed = [*status, *single, *(coding for table in tables for coding in table.values())]
    return frozenset({(c.system, c.code) for c in listed} | {(_ROLE_SYSTEM, role) for role in _ROLES})


CLOSED = _closed()
"""(system, code) of every Coding that the builders write without a table having found it."""
