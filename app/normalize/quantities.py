"""Results as charts write them -> quantities with folded units, and canonical qualitative and graded results.

Sources: comparators are FHIR R4 `Quantity.comparator`; units stay as written apart from their character width (the
mapping to UCUM belongs to the code tables); the graded steps are those of urine test strips (JCCLS 尿試験紙検査法).
"""

import re
from decimal import Decimal

from app.normalize.characters import fold_width
from schemas.record import Comparator, Quantity

_PREFIXES = {
    **dict.fromkeys(("<=", "=<", "≦", "≤", "⩽"), Comparator.LE),
    **dict.fromkeys((">=", "=>", "≧", "≥", "⩾"), Comparator.GE),
    "<": Comparator.LT,
    ">": Comparator.GT,
}
_SUFFIXES = {
    "以下": Comparator.LE,
    "以上": Comparator.GE,
    "未満": Comparator.LT,
    "を超える": Comparator.GT,
    "超過": Comparator.GT,
    "超": Comparator.GT,
}
_FLAG_AT_END = re.compile(r"(?:[↑↓]+|\((?:HH?|LL?)\)|(?<=[0-9])(?:HH?|LL?)|[高低]値)$")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,15})(?:\.[0-9]{1,15})?")
# 1万2千, 12万3000: a numeral spoken in steps, exact only as a whole.
_STEPPED = re.compile(r"(?P<man>[0-9]{1,4})万(?:(?P<sen>[0-9])千|(?P<ones>[0-9]{4}))")
_POWER = re.compile(r"×(?P<power>10\^[0-9]{1,2})(?P<unit>.*)")
_LATIN_UNIT = re.compile(r"[A-Za-z%‰°][A-Za-z0-9%^/.*°]*|/[A-Za-z][A-Za-z0-9^]*")
_WORD_UNIT = re.compile(r"(?:秒|分|倍|単位|個|万|千)(?:/[A-Za-z][A-Za-z0-9^]*)?")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_SUPERSCRIPT_RUN = re.compile("10[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")

_POSITIVE = ("+", "陽性", "positive", "pos", "プラス", "検出", "検出する", "検出あり", "反応", "反応あり")
_NEGATIVE = (
    *("-", "陰性", "negative", "neg", "マイナス", "nd", "notdetected", "検出せず", "検出しない", "検出されず"),
    *("未検出", "不検出", "検出なし", "非検出", "非反応", "反応なし"),
)
_INDETERMINATE = ("±", "+-", "+/-", "判定保留", "保留", "擬陽性", "疑陽性", "indeterminate", "equivocal")
_QUALITATIVE = {
    **dict.fromkeys(_POSITIVE, "陽性"),
    **dict.fromkeys(_NEGATIVE, "陰性"),
    **dict.fromkeys(_INDETERMINATE, "判定保留"),
}
_GRADE = re.compile(r"(?P<before>[1-5])\+|(?P<signs>\+{1,5})|(?P<none>-)|(?P<trace>±|\+-|\+/-)")
_RH = r"(?:Rh(?:\(?D\)?)?(?:因子)?|\(Rh)"
_BLOOD_GROUP = re.compile(rf"(?P<group>AB|A|B|O|0(?=型))型?,?(?:\(?{_RH}?(?:\([+-]\)|[+-]|陽性|陰性)\)?)?")


def parse_quantity(value: str, unit: str | None) -> Quantity | None:
    """The number of a result; None when `value` is not exactly one number.

    The digits stay as written (1.10), without thousands commas. A comparator may stand before (<, ≦, >=) or after
    (以下, 以上, 未満, 超). A power after the digits goes to the unit, so that the digits stay: 21.3万 with /μL is
    21.3 万/uL, 5.1×10^4 with /μL is 5.1 10^4/uL; 1万2千 is 12000. A unit written in `value` counts when `unit` is
    None. Flags at the end (H, ↓, 高値) are left to the flag. Ranges, ratios, titres (1:8) and grades (+1) are None.
    """
    if re.search(r"[0-9.,]\s+[0-9.,]", fold_width(value)):
        return None
    text, comparator = split_comparator(fold_characters(value))
    if text is None:
        return None
    text = _FLAG_AT_END.sub("", text)
    written_unit = fold_unit(unit) if unit else ""
    stepped = _STEPPED.fullmatch(text)
    if stepped:
        number = int(stepped["man"]) * 10000 + int(stepped["sen"] or 0) * 1000 + int(stepped["ones"] or 0)
        return Quantity(value=Decimal(number), comparator=comparator, unit=written_unit or None)
    found = _NUMBER.match(text)
    # +1 … +5 may be a grade as well as a base excess.
    if not found or re.fullmatch(r"\+[1-5]", found[0]):
        return None
    in_value = text[found.end() :]
    power = _POWER.fullmatch(in_value)
    if power:
        multiplier, in_value = power["power"], power["unit"]
    else:
        multiplier = in_value[:1] if in_value[:1] in ("万", "千", "億") else ""
        in_value = in_value[len(multiplier) :]
    if in_value and (written_unit not in ("", in_value) or not is_unit(in_value)):
        return None
    whole = written_unit or in_value
    whole = whole if multiplier and whole.startswith(multiplier) else multiplier + whole
    return Quantity(value=Decimal(found[0].replace(",", "")), comparator=comparator, unit=whole or None)


def split_comparator(text: str) -> tuple[str | None, Comparator | None]:
    """The text without its comparator; (None, None) when two are written."""
    before = next((sign for sign in _PREFIXES if text.startswith(sign)), None)
    after = next((word for word in _SUFFIXES if text.endswith(word)), None)
    if before and after:
        return None, None
    if before:
        return text.removeprefix(before), _PREFIXES[before]
    return (text.removesuffix(after), _SUFFIXES[after]) if after else (text, None)


def is_unit(text: str) -> bool:
    # 1.2e5 is a number in another writing, not a unit "e5".
    latin = _LATIN_UNIT.fullmatch(text) and not re.fullmatch("[eE][0-9]+", text)
    return bool(latin or _WORD_UNIT.fullmatch(text))


def fold_unit(unit: str) -> str:
    """The unit as written with full width, squared letters (㎎) and superscripts in ASCII, μ and µ as `u`, without
    spaces and a leading ×. `10³` becomes `10^3`, `m²` becomes `m2` (as UCUM writes it); letter case is kept."""
    return re.sub(r"^(?:×|[xX*](?=10))+", "", fold_characters(unit))


def fold_characters(text: str) -> str:
    """ASCII where a sign has an ASCII form, no spaces, × for every multiplication sign before a power of ten."""
    marked = _SUPERSCRIPT_RUN.sub(lambda found: "10^" + found[0][2:].translate(_SUPERSCRIPTS), text)
    folded = "".join(fold_width(marked).split()).replace("μ", "u")
    return re.sub(r"(?<=[0-9])[xX*](?=10\^)", "×", re.sub(r"10の([0-9]{1,2})乗", r"10^\1", folded))


def _sign_text(value: str) -> str:
    """One spelling of a result in words or signs: no spaces; a long vowel mark alone or in brackets is a minus sign."""
    folded = "".join(fold_width(value).split())
    return re.sub(r"^(\(?)ー(\)?)$", r"\1-\2", folded)


def without_brackets(text: str) -> str:
    bracketed = re.fullmatch(r"[(\[]([^()\[\]]*)[)\]]", text)
    return bracketed[1] if bracketed else text


def parse_qualitative(value: str) -> str | None:
    """`陽性`, `陰性` or `判定保留` of a yes/no test, also written (+), －, ND, Rh(+), 陰性(－); None for anything
    else, as for grades (2+) and for a word and a sign that contradict each other."""
    text = re.sub(r"^Rh(?:\(D\)|D)?(?:因子)?", "", _sign_text(value), flags=re.IGNORECASE).lower()
    plain = _QUALITATIVE.get(without_brackets(text))
    if plain:
        return plain
    doubled = re.fullmatch(r"([^()]+)\(([^()]+)\)|\(([^()]+)\)([^()]+)", text)
    parts = {_QUALITATIVE.get(part) for part in doubled.groups() if part} if doubled else set()
    return parts.pop() if len(parts) == 1 else None


def parse_graded(value: str) -> str | None:
    """`-`, `±`, `1+` … `5+` of a graded test: (2+), ２＋, ++, (+1), +/-; None for anything else. A plain + is `1+`.
    +1 without brackets is not understood: it may be a base excess."""
    text = _sign_text(value)
    bare = without_brackets(text)
    turned = re.fullmatch(r"\+([1-5])", bare)
    if turned and bare != text:
        return f"{turned[1]}+"
    found = _GRADE.fullmatch(bare)
    if not found:
        return None
    if found["none"]:
        return "-"
    return "±" if found["trace"] else f"{found['before'] or len(found['signs'])}+"


def parse_blood_group(value: str) -> str | None:
    """`A`, `B`, `O` or `AB` of an ABO result, with or without 型 and Rh (A型Rh(+)); the Rh result alone is
    qualitative (`parse_qualitative`)."""
    found = _BLOOD_GROUP.fullmatch("".join(fold_width(value).split()))
    return found["group"].replace("0", "O") if found else None
