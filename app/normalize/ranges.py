"""The reference range beside a result -> its limits.

Source: FHIR R4 Observation.referenceRange has a low and a high limit and no comparator; 0.3以下, 0.3未満 and <0.3
all give the high limit 0.3.
"""

import re
from decimal import Decimal

from app.normalize.characters import fold_width
from app.normalize.quantities import fold_characters, is_unit, split_comparator, without_brackets
from schemas.record import Comparator

RANGE_LABEL = re.compile(
    r"(?:基準(?:値|範囲|区間|域)?|正常(?:値|範囲|域)|参考(?:基準)?(?:値|範囲)|[Rr]eference(?: ?range)?|[Rr]ef\.?|[Nn]ormal)"
)
"""The words that name a reference range: of a heading, or in front of the range."""

# No number of a result begins with a zero that is not its only digit; a telephone number does.
_NUMBER = r"[+-]?(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+|0|[1-9][0-9]{0,14})(?:\.[0-9]{1,15})?"
_BOTH = re.compile(rf"(?P<low>{_NUMBER})(?:[-~]|以上[、,~]?)(?P<high>{_NUMBER})(?P<unit>(?:[^0-9,.].*)?)")
_ONE = re.compile(rf"(?P<before>~)?(?P<limit>{_NUMBER})(?P<after>~)?(?P<unit>.*)")
_UNIT = re.compile(r"(?:×?10\^[0-9]{1,2})?(?P<unit>.*)")
# A long vowel mark between two numbers is a dash.
_LONG_VOWEL = re.compile(r"(?<=[0-9]) ?ー ?(?=[0-9])")


def parse_reference_range(quote: str) -> tuple[Decimal | None, Decimal | None] | None:
    """(low, high) of a range as written, with or without brackets, label (基準値) and unit; None when it is none.

    One limit is None where only the other is written (<0.3, 0.3以下, 60以上, 〜40). The digits stay as written, without
    thousands commas. Low is below high: 5.0-3.5 is not understood, nor are 4-4-6, 132/76, 1:8 and 03-1234.
    """
    plain = _LONG_VOWEL.sub("-", fold_width(quote))
    if re.search(r"[0-9.,]\s+[0-9.,]", plain):
        return None
    text = without_brackets(fold_characters(plain))
    label = RANGE_LABEL.match(text)
    if label:
        text = without_brackets(text[label.end() :].removeprefix(":"))
    both = _BOTH.fullmatch(re.sub("(?:以下|未満)$", "", text))
    if both and _is_unit(both["unit"]):
        low, high = _decimal(both["low"]), _decimal(both["high"])
        return (low, high) if low < high else None
    rest, comparator = split_comparator(text)
    one = _ONE.fullmatch(rest or "")
    if not one or not _is_unit(one["unit"]) or sum(map(bool, (comparator, one["before"], one["after"]))) != 1:
        return None
    limit = _decimal(one["limit"])
    is_high = comparator in (Comparator.LT, Comparator.LE) or bool(one["before"])
    return (None, limit) if is_high else (limit, None)


def _decimal(number: str) -> Decimal:
    return Decimal(number.replace(",", ""))


def _is_unit(text: str) -> bool:
    found = _UNIT.fullmatch(text)
    return not text or (found is not None and (not found["unit"] or is_unit(found["unit"])))
