"""Which of the tests of one substance a result is of: its unit, or its being no number, says what the name left open.

A number under the code of a qualitative test, (-) under that of a quantitative one, white cells a field of view (sediment)
under those of blood, an albumin a litre under the ratio to creatinine: each is a wrong code, and the result stays uncoded
unless the tables have the other test of the same substance.
Source of the tests and their units: JP-CLINS 1.10.0, the 43 core items and 5 infections with their FHIR識別名.
"""

import re

from app import normalize
from app.coding import Coded
from app.terminology.entries import Entry
from app.terminology.matching import Lexicon
from schemas.record import Quantity
from schemas.statement import Kind

_QUANTITY, _POSNEG, _URINE = "quantity", "posneg", "urine"
_LABELS = ("陽性", "陰性", "判定保留")
# Those and the grades, as `app.normalize` writes them.
_QUALITATIVE = re.compile(rf"{'|'.join(_LABELS)}|-|±|[1-5]\+")
# FHIR識別名 of one substance in one material, measured in several ways.
_WAYS = (
    ("PT-秒", "PT-活性%", "PT-INR", "PT比"),
    ("U-TP", "U-TP-半定量", "U-P/C"),
    ("U-Glu", "U-Glu-半定量"),
    ("U-Bld", "U-Bld-半定量"),
    ("DD", "DD-定性"),
    ("CRP", "CRP-class"),
)
# Names that do not say which way is meant: PT is given in seconds, per cent or as INR, 尿アルブミン a litre or a gram of
# creatinine. Without a unit they are coded only when the name has one of these words.
_SAYS_WAY = {
    "PT-秒": re.compile("秒|sec|時間", re.IGNORECASE),
    "U-A/C": re.compile("/|比|cr|acr|補正", re.IGNORECASE),
}
# What a unit (folded) measures. g and mol in a volume are one test in two units; cells in a field of view are of sediment.
_DIMENSIONS = {
    "creatinine": re.compile(r"[mun]?(?:g|mol)/(?:g|mmol)[・･·.]?Cr\w{0,10}", re.IGNORECASE),
    "field": re.compile(r"[個cells]{0,5}/(?:[HLW]PF|F|視野|全視野)", re.IGNORECASE),
    "time": re.compile(r"秒|s|sec|分|min", re.IGNORECASE),
    "share": re.compile("%"),
    "ratio": re.compile(r"比|INR|ratio", re.IGNORECASE),
    "concentration": re.compile(r"[munpf]?(?:g|mol|Eq)/[munpfd]?L", re.IGNORECASE),
    "activity": re.compile(r"[mun]?(?:IU|U)/[md]?L|KU", re.IGNORECASE),
    "count": re.compile(r"[万千億個]{0,2}(?:10\^?[0-9]{1,2})?[個]?/(?:[un]?L|c?mm3)|[万千億]|10\^[0-9]{1,2}", re.IGNORECASE),
    "a day": re.compile(r"[mu]?g/(?:日|day|24h|d)", re.IGNORECASE),
}


def fitting(
    kind: Kind, coded: Coded, quantity: Quantity | None, text: str | None, unit: str | None, lexicon: Lexicon
) -> Coded:
    """The name as the test that the result is of; without codes where no table has that test.

    `text`: a result that is no number (陽性, 2+), None beside a bare number or without a result. `unit`: as written.
    """
    entry = coded.entry
    if entry is None or not coded.codings or not entry.fact("kind") or (quantity is None and text is None):
        return coded
    if kind is Kind.INFECTION:
        found = _infection(entry, quantity, text, lexicon)
    elif quantity is None:
        found = _without_number(entry, text, unit, lexicon)
    else:
        found = _with_number(coded.display, entry, quantity.unit, lexicon)
    if found is entry:
        return coded
    return coded.of(found) if found is not None else coded.without_codings()


def _infection(entry: Entry, quantity: Quantity | None, text: str | None, lexicon: Lexicon) -> Entry | None:
    """A label (陽性) goes before a number. Tests of one group but of other substances (HIV-1+2抗体, with p24抗原) stay apart."""
    qualitative = text is not None
    if qualitative is (entry.fact("kind") == _POSNEG):
        return entry
    same = [test for test in lexicon.group(entry) if _substance(test) == _substance(entry)]
    if qualitative:
        return next((test for test in same if test.fact("kind") == _POSNEG), None)
    unit = quantity.unit if quantity else None
    if entry.fact("kind") == _QUANTITY and (unit is None or _international(unit) in _units_of(entry)):
        return entry
    numbers = [test for test in same if test.fact("kind") == _QUANTITY]
    return next((test for test in numbers if unit and _international(unit) in _units_of(test)), None)


def _substance(entry: Entry) -> str:
    return entry.display.partition("(")[0]


def _units_of(entry: Entry) -> set[str]:
    return {_international(unit) for unit in entry.fact("units").split("|") if unit}


def _international(unit: str) -> str:
    """International units are written IU or U, a cut-off index COI or S/CO."""
    return normalize.fold_unit(unit).replace("IU", "U").replace(".", "").replace("S/CO", "COI").upper()


def _without_number(entry: Entry, text: str | None, unit: str | None, lexicon: Lexicon) -> Entry | None:
    if entry.fact("kind") != _QUANTITY or text is None:
        return entry
    if _QUALITATIVE.fullmatch(text):
        return next((way for way in _ways(entry, lexicon) if way.fact("kind") == _POSNEG and text in _LABELS), None)
    # A result that could not be read (溶血のため測定不能) is no other test's, unless its unit says so (5-9 /HPF).
    return entry if not _dimension(unit) or _is_in(unit, entry) else None


def _with_number(written: str, entry: Entry, unit: str | None, lexicon: Lexicon) -> Entry | None:
    kind = entry.fact("kind")
    if kind not in (_QUANTITY, _POSNEG, _URINE):
        return entry
    if kind == _QUANTITY and unit is None:
        said = _SAYS_WAY.get(entry.fact("core"))
        return entry if said is None or said.search(written) else None
    if kind == _QUANTITY and (not _dimension(unit) or _is_in(unit, entry)):
        return entry
    ways = [way for way in _ways(entry, lexicon) if way.fact("kind") == _QUANTITY]
    exact = [way for way in ways if unit and normalize.fold_unit(unit) in map(normalize.fold_unit, way.fact("units").split("|"))]
    alike = exact or [way for way in ways if _is_in(unit, way)]
    return alike[0] if len(alike) == 1 else None


def _ways(entry: Entry, lexicon: Lexicon) -> list[Entry]:
    core = entry.fact("core")
    others = next((way for way in _WAYS if core in way), ()) if core else ()
    return [test for test in lexicon.entries(Kind.LAB) if test is not entry and test.fact("core") in others] if others else []


def _dimension(unit: str | None) -> str:
    """What a unit measures; "" when that is not known."""
    folded = normalize.fold_unit(unit or "")
    return next((what for what, pattern in _DIMENSIONS.items() if pattern.fullmatch(folded)), "")


def _is_in(unit: str | None, entry: Entry) -> bool:
    """Does the unit measure what the units of the test do?"""
    return bool(unit) and _dimension(unit) in {_dimension(own) for own in entry.fact("units").split("|")} - {""}
