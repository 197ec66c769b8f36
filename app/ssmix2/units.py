"""Units: MERIT-9 for amounts of drugs, ISO+ for results."""

import re

from schemas.units import fold_unit, merit9_code

LOCAL = "99HYJ"
"""Our local code system (SS-MIX2: `99` and letters or digits)."""

# MERIT-9 単位 (MR9P) that JP Core does not list, as MIT-licensed ssmixtwins `other_tables.py` has them; keys folded.
_MORE_DOSE_UNITS = {"吸入": "INHL", "噴霧": "SPRY"}

# ISO+ units as NHO SSMIX2_support_documents `master/ascii_unit.tsv` writes them; keys folded. U stays U as in U/L.
_UNITS = {
    "%": "%",
    "倍": ".",
    "秒": "sec",
    "sec": "sec",
    "s": "sec",
    "分": "min",
    "時間": "hr",
    "℃": "cel",
    "°c": "cel",
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
    "百/ul": ".10*2/uL",
    "百万/ul": ".10*6/uL",
    "万/mm3": ".10*4/uL",
}
# The same list, units outside ISO+: an ASCII code under the local system.
_LOCAL_UNITS = {
    "coi": "COI",
    "c.o.i.": "COI",
    "c.o.i": "COI",
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


def dose_unit(unit: str) -> tuple[str, str, str]:
    """RXE-5, -11, -19: MERIT-9, else local without a code."""
    code = merit9_code(unit) or _MORE_DOSE_UNITS.get(fold_unit(unit))
    return (code, unit, "MR9P") if code else ("", unit, LOCAL)


def result_unit(unit: str) -> tuple[str, str, str]:
    """OBX-6: ASCII code, the unit as written, system. ISO+ where it has the unit."""
    folded = fold_unit(unit)
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
