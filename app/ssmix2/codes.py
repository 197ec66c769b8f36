"""The code of a record in the systems of SS-MIX2: what stands in the components of a CWE field.

What FHIR calls a code keeps its characters here: a coding that has no SS-MIX2 system of its own stands under the local
system `99HYJ` with the same code, so that both outputs can be joined. A standard code stands in components 1 to 3 with
the hospital's own in 4 to 6, and the hospital's own stands in 1 to 3 where there is no standard one.
"""

import hashlib
import re

from app.ssmix2.units import LOCAL
from schemas import systems
from schemas.coding import Coding
from schemas.record import ModifierPosition, Record
from schemas.spelling import fold
from schemas.statement import AllergyCategory, Assertion, Field, Kind

Code = tuple[str, ...]
"""Components of a CWE: code, text, system, and the same again for another code."""

JLAC10 = (
    systems.JLAC10,
    systems.CORE_LAB,
    systems.INFECTION_LAB,
)

UNCODED_DISEASE = "20084317"
"""病名管理番号 of a 未コード化傷病名; the name beside it is then free. Source: NHO `unspecified_icd10.md`."""
SUSPECTED = "の疑い"

# JLAC10: analyte 5, identification 4, material 3, method 3, result 2. Source: JSLM 臨床検査項目分類コード 第10回改訂.
_JLAC10 = re.compile(r"([0-9][A-Z])[0-9]{3}[0-9A-Z]{4}([0-9]{3})([0-9]{3})([0-9]{2})")
_UNKNOWN_METHOD = "999"
_QUALITATIVE, _QUANTITATIVE = "11", ("01", "05")  # 結果識別 (NHO `split_value.md`)
# First digit of a JLAC10 analyte code (大分類).
_DISCIPLINES = {
    "1": "一般検査",
    "2": "血液学的検査",
    "3": "生化学的検査",
    "4": "内分泌学的検査",
    "5": "免疫学的検査",
    "6": "微生物学的検査",
    "7": "病理学的検査",
    "8": "その他の検体検査",
}
# JLAC10 材料コード, the materials of laboratory and infection tests.
_MATERIALS = {
    "001": "尿(含むその他)",
    "004": "蓄尿",
    "015": "便",
    "017": "血液(含むその他)",
    "018": "全血",
    "019": "全血(添加物入り)",
    "020": "動脈血",
    "022": "血漿",
    "023": "血清",
    "040": "穿刺液(含むその他)",
    "041": "髄液",
    "042": "胸水",
    "043": "腹水",
    "044": "関節液",
    "046": "骨髄液",
    "061": "喀痰",
    "063": "鼻汁,鼻腔・鼻咽頭擦過物",
    "064": "咽喉からの分泌液",
    "099": "その他の材料",
}


def find_coding(record: Record, *systems: str) -> Coding | None:
    """The first of the record's codings in one of `systems`."""
    return _first(record.codings, *systems)


def _first(codings: tuple[Coding, ...], *systems: str) -> Coding | None:
    return next((coding for coding in codings if coding.system in systems), None)


def _own(record: Record) -> Code:
    """The hospital's own code of the name."""
    return (record.local.code, record.local.display, LOCAL) if record.local else ()


# --- tests -----------------------------------------------------------------------------------------------------------


class Jlac10:
    """The parts of a 17-character JLAC10 code; empty where it is none."""

    def __init__(self, code: str) -> None:
        match = _JLAC10.fullmatch(code)
        self.valid = match is not None
        first, self.material, self.method, self.result = match.groups() if match else ("", "", "", "")
        self.discipline = first[:1]


def jlac10_of(record: Record) -> Jlac10:
    coding = find_coding(record, *JLAC10)
    return Jlac10(coding.code if coding else "")


def discipline(digit: str) -> Code:
    """OBR-4: the coarse group of tests (大分類)."""
    name = _DISCIPLINES.get(digit)
    return (digit, name, "JC10") if name else ("", "検体検査", LOCAL)


def material(code: str) -> Code:
    """SPM-4; a required field, so that an unknown material is said to be unknown."""
    name = _MATERIALS.get(code)
    return (code, name, "JC10") if name else ("", "不明", LOCAL)


def test_code(record: Record, *, qualitative: bool | None = None, any_method: bool = False) -> Code:
    """OBX-3. JLAC10 only when its method is a laboratory's own: method 999 says nothing of the method, and then the same
    characters are a local code; `any_method` lifts that for the items of a patient's profile, whose codes are fixed.

    `qualitative`: of a mixed result, which of the two values it is; JLAC10 tells them apart by its last two digits
    (結果識別), so the value that the code is not of has the local code alone. None: the only value.
    """
    coding = find_coding(record, *JLAC10)
    code = Jlac10(coding.code if coding else "")
    if coding is None or not code.valid or (code.method == _UNKNOWN_METHOD and not any_method):
        return _own(record) or _local(record, coding)
    fits = code.result == _QUALITATIVE if qualitative else code.result in _QUANTITATIVE
    if qualitative is not None and not fits:
        return _own(record) or (_named_code(record.statement.name.quote), record.display, LOCAL)
    return coding.code, coding.display, "JC10", *_own(record)


def _local(record: Record, coding: Coding | None) -> Code:
    coding = coding or next(iter(record.codings), None)
    if coding is None and record.statement.kind in (Kind.LAB, Kind.INFECTION):
        return _named_code(record.statement.name.quote), record.display, LOCAL
    return (coding.code if coding else "", record.display, LOCAL)


def _named_code(name: str) -> str:
    """A code that one spelling of a test's name always gets, whatever its width, case and blanks."""
    return f"HYJ-{hashlib.sha256(fold(name).encode()).hexdigest()[:16]}"


# --- drugs and allergens ---------------------------------------------------------------------------------------------


def drug_code(record: Record) -> Code:
    """RXE-2: systems.HOT9, else local."""
    if coding := find_coding(record, systems.HOT9):
        return coding.code, coding.display, "HOT9", *_own(record)
    return _own(record) or _local(record, find_coding(record, systems.YJ))


def usage_code(record: Record) -> Code:
    """TQ1-3: the JAMI usage code, else that of the 電子処方箋 master as a local one, else the usage as written."""
    codings = record.dosage.usage if record.dosage else ()
    if coding := _first(codings, systems.USAGE_JAMI):
        return coding.code, coding.display, "JAMISDP01"
    if coding := _first(codings, systems.USAGE):
        return coding.code, coding.display, LOCAL
    written = record.statement.fields.get(Field.USAGE)
    return ("", " ".join(written.quote.split()), LOCAL) if written else ()


def allergen_code(record: Record) -> Code:
    """IAM-3 and AL1-3: a drug by systems.HOT9, a substance by the JLAC10 code of its specific IgE test; J-FAGY and others have
    no settled name in SS-MIX2 and are local."""
    drug = record.statement.category is AllergyCategory.MEDICATION
    if drug and (coding := find_coding(record, systems.HOT9)):
        return coding.code, coding.display, "HOT9", *_own(record)
    if not drug and (coding := find_coding(record, *JLAC10)):
        return coding.code, coding.display, "JC10", *_own(record)
    return _own(record) or _local(record, None)


# --- diseases --------------------------------------------------------------------------------------------------------


def disease_name(record: Record) -> tuple[str, str]:
    """The name of the disease without and with の疑い, which stands behind the name of a suspected one."""
    bare = re.sub("の?疑い?$", "", record.display) or record.display
    if record.statement.assertion is not Assertion.SUSPECTED:
        return record.display, record.display
    return bare, f"{bare}{SUSPECTED}"


def disease_code(record: Record) -> Code:
    """PRB-3: 病名管理番号 of the base name with the whole name beside it, and the hospital's own or the receipt code."""
    number, receipt = find_coding(record, systems.DISEASE_KEY), find_coding(record, systems.RECEIPT_DISEASE)
    suspected = record.statement.assertion is Assertion.SUSPECTED
    whole = disease_name(record)[1]
    own = _own(record) or ((receipt.code, receipt.display, LOCAL) if receipt else ())
    if number is None:
        return UNCODED_DISEASE, whole, "MDCDX2", *own
    shown = whole if suspected or record.modifiers else number.display
    return number.code, shown, "MDCDX2", *own


def disease_parts(record: Record) -> dict[int, list[Code]]:
    """ZPR-1 to -6, each a list of repetitions: prefixes, base, suffixes, and the 交換用コード of each."""
    number, exchange = find_coding(record, systems.DISEASE_KEY), find_coding(record, systems.DISEASE_EXCHANGE)
    # The parts are put together to the name again: without a number, the base is what another table calls it.
    named = find_coding(record, systems.RECEIPT_DISEASE) or exchange
    bare = named.display if record.modifiers and named else disease_name(record)[0]
    base = (number.code, number.display) if number else (UNCODED_DISEASE, bare)
    parts: dict[int, list[Code]] = {1: [], 2: [(*base, "MDCDX2")], 3: [], 4: [], 5: [], 6: []}
    if exchange:
        parts[5].append((exchange.code, exchange.display, "MDCDX2"))
    for modifier in record.modifiers:
        place = 1 if modifier.position is ModifierPosition.PREFIX else 3
        key, other = _first(modifier.codings, systems.MODIFIER_KEY), _first(modifier.codings, systems.MODIFIER_EXCHANGE)
        parts[place].append((key.code, key.display, "MDCDX2") if key else ("", modifier.text, LOCAL))
        if other:
            parts[place + 3].append((other.code, other.display, "MDCDX2"))
    return parts


def icd10(record: Record) -> str:
    """PRB-10.1: without a dot, whether the table has one or not."""
    coding = find_coding(record, systems.ICD10)
    return coding.code.replace(".", "") if coding else ""
