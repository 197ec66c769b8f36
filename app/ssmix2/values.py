"""What a result says: value, flag and reference range in the forms of OBX-2, -5, -7 and -8."""

import re
import unicodedata
from decimal import Decimal

from app.ssmix2.codes import JLAC10, find_coding
from schemas.record import Quantity, Record
from schemas.spelling import fold
from schemas.statement import Field, InfectionResult

Typed = tuple[str, tuple[str, ...]]
"""OBX-2 (NM, ST or CWE; SS-MIX2 1.2 has no SN) and the components of OBX-5."""

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


def result_values(record: Record) -> list[Typed]:
    """The values of a result, quantity first. A qualitative result beside a quantity is a value of its own
    (NHO `split_value.md`). Without either, the value as the note writes it; [] when the note gives none."""
    values: list[Typed] = []
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


def _quantity(quantity: Quantity) -> Typed:
    if quantity.comparator:
        return "ST", (f"{quantity.comparator.value} {digits(quantity.value)}",)
    return "NM", (digits(quantity.value),)


def reference_range(record: Record) -> str:
    """OBX-7 in the forms of HL7 2.5: `low-high`, `> low`, `< high`; as the note writes it where the limits are no
    interval, or no number is the value; "" when the note gives none."""
    stated = record.reference_range
    if stated is None:
        return ""
    low, high = stated.low, stated.high
    if record.quantity and not (low is not None and high is not None and low > high):
        if low is not None and high is not None:
            return f"{digits(low)}-{digits(high)}"
        if low is not None or high is not None:
            return f"> {digits(low)}" if low is not None else f"< {digits(high)}" if high is not None else ""
    written = record.statement.fields.get(Field.REFERENCE)
    return " ".join(written.quote.split()) if written else ""


_FLAGS = {
    **dict.fromkeys(("h", "hh", "high", "↑", "↑↑", "高値", "高", "上昇"), "H"),
    **dict.fromkeys(("l", "ll", "low", "↓", "↓↓", "低値", "低", "低下"), "L"),
    **dict.fromkeys(("a", "aa", "異常"), "A"),
    **dict.fromkeys(("n", "正常", "基準内"), "N"),
}


def abnormal_flag(flag: str | None) -> str:
    """OBX-8: H, L, A or N (SS-MIX2 has no HH and LL); "" when the note writes none or one that is not known."""
    return _FLAGS.get(fold(flag or "").strip("()[]"), "")
