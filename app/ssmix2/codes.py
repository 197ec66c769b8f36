"""Code tables of SS-MIX2 fields and the choice of a code for a record.

What FHIR calls a code keeps its characters here: a coding that has no SS-MIX2 system of its own stands under the
local system `99HYJ` with the same code, so that both outputs can be joined.
"""

import hashlib
import re
import unicodedata
from decimal import Decimal

from schemas.coding import Coding
from schemas.record import Quantity, Record
from schemas.statement import Field, InfectionResult, Kind

LOCAL = "99HYJ"
"""Our local code system (SS-MIX2: `99` and letters or digits)."""

# FHIR systems that have a counterpart in SS-MIX2. URIs: JP-CLINS 1.10.0 and JP Core 1.1.2.
KEY_NUMBER = "http://medis.or.jp/CodeSystem/master-disease-keyNumber"
RECEIPT_DISEASE = "http://jpfhir.jp/fhir/core/mhlw/CodeSystem/masterB-disease"
ICD10_2013 = "http://jpfhir.jp/fhir/core/mhlw/CodeSystem/ICD10-2013-full"
HOT9 = "http://medis.or.jp/CodeSystem/master-HOT9"
YJ = "http://capstandard.jp/iyaku.info/CodeSystem/YJ-code"
JLAC10 = (
    "http://medis.or.jp/CodeSystem/master-JLAC10-17digits",
    "http://jpfhir.jp/fhir/clins/CodeSystem/JLAC10/JP_CLINS_ObsLabResult_CoreLabo_CS",
    "http://jpfhir.jp/fhir/clins/CodeSystem/JLAC10/JP_CLINS_ObsLabResult_InfectionLabo_CS",
)

# JLAC10: analyte 5, identification 4, material 3, method 3, result 2. Source: JSLM 臨床検査項目分類コード 第10回改訂.
_JLAC10 = re.compile(r"([0-9][A-Z])[0-9]{3}[0-9A-Z]{4}([0-9]{3})([0-9]{3})[0-9]{2}")
UNKNOWN_METHOD = "999"
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

# MERIT-9 単位 (MR9P), as listed by MIT-licensed ssmixtwins `other_tables.py`; names as charts write them.
_DOSE_UNITS = {
    "錠": "TAB",
    "カプセル": "CAP",
    "包": "PCK",
    "枚": "SHT",
    "個": "KO",
    "本": "HON",
    "袋": "BAG",
    "瓶": "BTL",
    "管": "TUBE",
    "筒": "PIPE",
    "キット": "KIT",
    "シート": "SHET",
    "セット": "SET",
    "滴": "DROP",
    "丸": "PILL",
    "吸入": "INHL",
    "噴霧": "SPRY",
    "単位": "UNT",
    "国際単位": "IUNT",
    "バイアル": "VIL",
    "アンプル": "AMP",
    "g": "G",
    "mg": "MG",
    "kg": "KG",
    "μg": "MCG",
    "ug": "MCG",
    "IU": "IUNT",
    "万単位": "TTUN",
    "シリンジ": "SYRG",
    "ブリスター": "BLST",
    "mL": "ML",
    "mEq": "MEQ",
}

# ISO+ units as NHO SSMIX2_support_documents `master/ascii_unit.tsv` writes them; keys lower case. U stays U as in U/L.
_UNITS = {
    "%": "%",
    "倍": ".",
    "秒": "sec",
    "sec": "sec",
    "s": "sec",
    "分": "min",
    "時間": "hr",
    "℃": "cel",
    "mmhg": "mm(hg)",
    "torr": "mm(hg)",
    "mm/h": "mm/hr",
    "mm/hr": "mm/hr",
    "mm/1h": "mm/hr",
    "mm/時": "mm/hr",
    "mm/時間": "mm/hr",
    "ml/min/1.73m2": "mL/min(bsa)",
    "ml/分/1.73m2": "mL/min(bsa)",
    "mosm/kg": "mosm/kg_h2o",
    "mosm/kgh2o": "mosm/kg_h2o",
    "/hpf": "/(hpf)",
    "個/hpf": "/(hpf)",
    "個/ul": "/uL",
    "/mm3": "/uL",
    "個/mm3": "/uL",
    "万/ul": ".10*4/uL",
    "千/ul": ".10*3/uL",
    "百万/ul": ".10*6/uL",
    "万/mm3": ".10*4/uL",
}
# The same list, units outside ISO+: an ASCII code under the local system.
_LOCAL_UNITS = {
    "coi": "COI",
    "c.o.i.": "COI",
    "index": "index",
    "s/co": "S/CO",
    "‰": "permil",
    "/lpf": "/(lpf)",
    "/wf": "/(wf)",
    "logiu/ml": "logiu/mL",
    "logu/ml": "logu/mL",
    "logcopies/ml": "logcopies/mL",
    "copies/ml": "copies/mL",
}
_ATOM = re.compile(r"([kmunpfdc]?)(g|mol|l|eq|u|iu|osm|m|d|day|日|h|hr|時間?|min|分|sec|秒)")
_ATOM_CODES = {
    "l": "L",
    "u": "U",
    "day": "d",
    "日": "d",
    "h": "hr",
    "時": "hr",
    "時間": "hr",
    "分": "min",
    "秒": "sec",
}
_POWER = re.compile(r"[x×]?10[\^*]([0-9]+)/(ul|ml|l|mm3)")
_PER_CREATININE = re.compile(r"([munpf]?(?:g|mol|u))/(m?g|m?mol)[・.]?cre?")


def find_coding(record: Record, *systems: str) -> Coding | None:
    """The first of the record's codings in one of `systems`."""
    return next((coding for coding in record.codings if coding.system in systems), None)


class Jlac10:
    """The parts of a 17-character JLAC10 code."""

    def __init__(self, code: str) -> None:
        match = _JLAC10.fullmatch(code)
        self.valid = match is not None
        self.method = match[3] if match else ""
        self._material = match[2] if match else ""
        self._discipline = match[1][0] if match else ""

    @property
    def discipline(self) -> tuple[str, str, str]:
        """OBR-4: the coarse group of the test."""
        name = _DISCIPLINES.get(self._discipline)
        return (self._discipline, name, "JC10") if name else ("", "検体検査", LOCAL)

    @property
    def material(self) -> tuple[str, str, str]:
        """SPM-4; a required field, so that an unknown material is said to be unknown."""
        name = _MATERIALS.get(self._material)
        return (self._material, name, "JC10") if name else ("", "不明", LOCAL)


def jlac10_of(record: Record) -> Jlac10:
    coding = find_coding(record, *JLAC10)
    return Jlac10(coding.code if coding else "")


def test_code(record: Record) -> tuple[str, str, str]:
    """OBX-3. JLAC10 only when its method is a laboratory's own; method 999 says nothing about the method, and then
    the same characters are a local code."""
    coding = find_coding(record, *JLAC10)
    if coding and (code := Jlac10(coding.code)).valid and code.method != UNKNOWN_METHOD:
        return coding.code, coding.display, "JC10"
    return _local(record, coding)


def drug_code(record: Record) -> tuple[str, str, str]:
    """RXE-2 and a drug's IAM-3: HOT9, else local."""
    coding = find_coding(record, HOT9)
    return (coding.code, coding.display, "HOT9") if coding else _local(record, find_coding(record, YJ))


def local_code(record: Record) -> tuple[str, str, str]:
    """IAM-3 of what is no drug: J-FAGY and others have no settled name in SS-MIX2."""
    return _local(record, None)


def _local(record: Record, coding: Coding | None) -> tuple[str, str, str]:
    coding = coding or next(iter(record.codings), None)
    if coding is None and record.statement.kind in (Kind.LAB, Kind.INFECTION):
        return _named_code(record.statement.name.quote), record.display, LOCAL
    return (coding.code if coding else "", record.display, LOCAL)


def _named_code(name: str) -> str:
    """A code that one spelling of a test's name always gets, whatever its width, case and blanks."""
    spelling = "".join(unicodedata.normalize("NFKC", name).casefold().split())
    return f"HYJ-{hashlib.sha256(spelling.encode()).hexdigest()[:16]}"


def dose_unit(unit: str) -> tuple[str, str, str]:
    """RXE-5, -11, -19: MERIT-9, else local."""
    code = _DOSE_UNITS.get(unit.replace("µ", "μ"))
    return (code, unit, "MR9P") if code else ("", unit, LOCAL)


def result_unit(unit: str) -> tuple[str, str, str]:
    """OBX-6: ASCII code, the unit as written, system. ISO+ where it has the unit."""
    folded = re.sub(r"[µμ]", "u", unit).replace(" ", "").lower()
    if code := _UNITS.get(folded) or _iso_unit(folded):
        return code, unit, "ISO+"
    return _LOCAL_UNITS.get(folded, ""), unit, LOCAL


def _iso_unit(folded: str) -> str | None:
    if match := _POWER.fullmatch(folded):
        volume = {"ul": "uL", "mm3": "uL", "ml": "mL", "l": "L"}[match[2]]
        return f".10*{match[1]}/{volume}"
    if match := _PER_CREATININE.fullmatch(folded):
        numerator = re.sub("u$", "U", match[1]) if len(match[1]) == 1 else match[1]
        return f"{numerator}/{match[2]}(creat)"
    numerator, *denominators = folded.split("/")
    codes = [_atom(part) for part in (numerator, *denominators)]
    if numerator == "" and denominators:
        codes[0] = ""
    if None in codes or len(codes) > 3:
        return None
    if len(codes) == 3:
        return f"{codes[0]}/({codes[1]}.{codes[2]})"
    return "/".join(code or "" for code in codes)


def _atom(part: str) -> str | None:
    match = _ATOM.fullmatch(part)
    return f"{match[1]}{_ATOM_CODES.get(match[2], match[2])}" if match else None


# NHO `doc/convert_to_sn.md`: an SN value with blanks for its carets, as ST; the blanks are part of the value.
_GRADES = {"-": "  -", "陰性": "  -", "+": "  +", "陽性": "  +", "±": "  +-", "+-": "  +-"}
_GRADE = re.compile(r"([1-5])\+")
_RESULTS = {
    InfectionResult.POSITIVE: "陽性",
    InfectionResult.NEGATIVE: "陰性",
    InfectionResult.INDETERMINATE: "判定保留",
}


def digits(value: Decimal) -> str:
    """The digits as written; NM and ST forbid exponents."""
    return format(value, "f")


def result_values(record: Record) -> list[tuple[str, tuple[str, ...]]]:
    """OBX-2 and the components of OBX-5, quantity first. A qualitative result beside a quantity is a value of its own
    (NHO `split_value.md`). Without either, the value as the note writes it; [] when the note gives none."""
    values: list[tuple[str, tuple[str, ...]]] = []
    if record.quantity:
        values.append(_quantity(record.quantity))
    text = _RESULTS[record.statement.result] if record.statement.result else record.text_value
    if text is None and not values and (span := record.statement.fields.get(Field.VALUE)):
        text = " ".join(span.quote.split())
    if text and (group := _blood_group(record, text)):
        values.append(("CWE", (*group, "JSHR002")))
    elif text:
        match = _GRADE.fullmatch(text)
        values.append(("ST", (f" {match[1]} +" if match else _GRADES.get(text, text),)))
    return values


def _blood_group(record: Record, text: str) -> tuple[str, str] | None:
    """Code and text of a blood group (JSHR002); None for any other test, whose A is no blood group."""
    coding = find_coding(record, *JLAC10)
    name = unicodedata.normalize("NFKC", record.statement.name.quote + record.display)
    if (coding and coding.code.startswith("5H020")) or re.search("Rh", name):
        sign = {"+": "+", "陽性": "+", "-": "-", "陰性": "-"}.get(text)
        return (sign, f"Rh{sign}") if sign else None
    if (coding and coding.code.startswith("5H010")) or re.search("ABO|血液型", name):
        return (text, text) if text in ("A", "B", "O", "AB") else None
    return None


def _quantity(quantity: Quantity) -> tuple[str, tuple[str, ...]]:
    if quantity.comparator:
        return "ST", (f"{quantity.comparator.value} {digits(quantity.value)}",)
    return "NM", (digits(quantity.value),)


_FLAGS = {
    **dict.fromkeys(("h", "hh", "high", "↑", "↑↑", "高値", "高", "上昇"), "H"),
    **dict.fromkeys(("l", "ll", "low", "↓", "↓↓", "低値", "低", "低下"), "L"),
    **dict.fromkeys(("a", "aa", "異常"), "A"),
    **dict.fromkeys(("n", "正常", "基準内"), "N"),
}


def abnormal_flag(flag: str | None) -> str:
    """OBX-8: H, L, A or N (SS-MIX2 has no HH and LL); "" when the note writes none or one that is not known."""
    folded = unicodedata.normalize("NFKC", flag or "").casefold()
    return _FLAGS.get("".join(folded.split()).strip("()[]"), "")


def occasions(record: Record) -> int | None:
    """TQ1-14, the intakes supplied of a drug taken as needed (5回分), as the note writes them."""
    written = record.statement.fields.get(Field.DAYS)
    found = re.findall("([0-9]{1,3}) ?回", unicodedata.normalize("NFKC", written.quote)) if written else []
    return int(found[0]) if len(found) == 1 and int(found[0]) else None


# The fifth to seventh character of a YJ code: 001-399 oral, 400-699 injection, 700-999 external.
# Source: MHLW 薬価基準収載医薬品コード, 投与経路区分.
_ORAL_FORM = re.compile("錠|カプセル|散|顆粒|細粒|シロップ|内用|内服|エキス|ゼリー|丸$")
_EXTERNAL_FORM = re.compile(
    "軟膏|クリーム|ローション|点眼|点鼻|点耳|眼軟膏|貼付|テープ|パップ|パッチ|湿布|坐剤|坐薬|座薬|坐|膣錠|腟錠|"
    "吸入|エアゾール|含嗽|うがい|外用|塗布|ゲル|スプレー|浣腸|注腸"
)
_ORAL_UNITS = {"錠", "カプセル", "包", "丸"}


def is_external(record: Record) -> bool | None:
    """True for 外用, False for an oral drug, None for an injection or when nothing tells."""
    coding = find_coding(record, YJ)
    if coding and coding.code[4:7].isdigit():
        route = int(coding.code[4:7])
        return True if route >= 700 else False if route < 400 else None
    name = record.statement.name.quote + record.display
    if _EXTERNAL_FORM.search(name):
        return True
    if "注" in name:
        return None
    oral_unit = record.dosage is not None and record.dosage.dose_unit in _ORAL_UNITS
    return False if oral_unit or _ORAL_FORM.search(name) else None
