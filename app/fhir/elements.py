"""FHIR data types as raw JSON values, with the characters of the note that each was taken from.

Numbers are Decimal, never float: 1.10 must stay 1.10.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

from app.errors import InvalidInput
from app.fhir import codes
from app.fhir.units import ucum_code
from schemas.coding import Coding
from schemas.record import Quantity
from schemas.statement import EvidenceSpan, Field, Statement

Json = dict[str, Any]

# Fixed for ever: every id of every stored resource is derived from it.
_NAMESPACE = UUID("4f8f2f0e-7c39-5b5e-9a57-1d2d0b6f7a11")
_SEPARATOR = "\x1f"
# By Unicode category: what separates lines or controls a device becomes a space, what is never seen nothing.
_SHOWN = {"Cc": " ", "Zl": " ", "Zp": " ", "Cf": ""}
_NONCHARACTERS = "\ufffe\uffff"
"""XML 1.0 forbids them in a narrative."""
_WIDE = re.compile("[！-～｡-ﾟ]+")


def objects(value: Any) -> list[Json]:
    """The objects of a list; none where it is no list, since what others send may be anything."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def identifier_of(*parts: str) -> str:
    """A UUID (version 5) that the same parts always give."""
    return str(uuid5(_NAMESPACE, _SEPARATOR.join(parts)))


def line(text: str) -> str:
    """Text fit for `display` and `text`: one line, half-width spaces, no control characters; may be empty.

    Source: JP-CLINS 1.10.0, character rules of Observation (no control character, no full-width space). Format characters
    (zero width, direction) go too: a name of them alone would be blank, and an override would turn a text round.
    """
    if text.isascii() and text.isprintable() and "  " not in text:
        return text.strip()
    shown = "".join(_SHOWN.get(unicodedata.category(c), c) for c in text if c not in _NONCHARACTERS)
    return " ".join(shown.split())


def plain(text: str) -> str:
    """`line` with full-width ASCII and half-width katakana in their usual widths (same rules, display of Observation).

    Nothing else is folded: NFKC of the whole would turn ① into 1 and ㎎ into mg.
    """
    return _WIDE.sub(lambda found: unicodedata.normalize("NFKC", found[0]), line(text))


def instant(moment: datetime) -> str:
    """FHIR instant with milliseconds. Raises InvalidInput for a time without zone."""
    if moment.tzinfo is None:
        raise InvalidInput("the recorded instant needs a time zone")
    return moment.isoformat(timespec="milliseconds")


def meta(recorded: str, profile: str | None = None) -> Json:
    return {"lastUpdated": recorded, **({"profile": [profile]} if profile else {})}


def is_partial_date(text: str) -> bool:
    """Is it YYYY, YYYY-MM or YYYY-MM-DD and in the calendar?"""
    if not re.fullmatch(r"\d{4}(-\d{2}(-\d{2})?)?", text, re.ASCII):
        return False
    try:
        date.fromisoformat(text + "-01-01"[len(text) - 4 :] if len(text) < 10 else text)
    except ValueError:
        return False
    return True


def spans(statement: Statement, *fields: Field) -> list[EvidenceSpan]:
    """The distinct spans of those of the fields that the statement has, in order of the text."""
    found = (statement.fields[f] for f in fields if f in statement.fields)
    return sorted({(s.start, s.end): s for s in found}.values(), key=lambda s: (s.start, s.end))


def evidence(document: str, found: Iterable[EvidenceSpan]) -> list[Json]:
    """One derivation-reference for each span; a hull of distant spans would cover what was not read.

    `offset` and `length` are code points of the decoded attachment of the DocumentReference `document`.
    """
    return [
        {
            "url": codes.EVIDENCE,
            "extension": [
                {"url": "reference", "valueReference": {"reference": document}},
                {"url": "offset", "valueInteger": span.start},
                {"url": "length", "valueInteger": span.end - span.start},
            ],
        }
        for span in found
    ]


def with_extension(element: Json, extension: list[Json]) -> Json:
    return {"extension": extension, **element} if extension else element


def primitive(name: str, value: str, extension: list[Json]) -> Json:
    """A primitive element and, when it has extensions, its `_` sibling."""
    return {name: value, **({f"_{name}": {"extension": extension}} if extension else {})}


def coding(value: Coding) -> Json:
    version = {"version": value.version} if value.version else {}
    return {"system": value.system, **version, "code": value.code, "display": value.display}


def concept(found: Sequence[Coding], text: str | None = None, extension: list[Json] | None = None) -> Json:
    """CodeableConcept; a coding that stands twice is written once."""
    element: Json = {}
    if distinct := list({(c.system, c.code): c for c in reversed(found)}.values())[::-1]:
        element["coding"] = [coding(c) for c in distinct]
    if text:
        element["text"] = text
    return with_extension(element, extension or [])


def lab_quantity(value: Quantity, extension: list[Json]) -> Json:
    """Quantity with a UCUM code where the unit has one; the written unit always stays."""
    element: Json = {"value": value.value}
    if value.comparator is not None:
        element["comparator"] = value.comparator.value
    if value.unit and (unit := line(value.unit)):
        element["unit"] = unit
        if code := ucum_code(unit):
            element |= {"system": codes.UCUM, "code": code}
    return with_extension(element, extension)


def drug_quantity(value: Decimal, unit: str, code: str) -> Json:
    """Amount of a drug; `code` is MERIT-9: JP Core 1.1.2 demands one in JP_MedicationSimpleQuantity."""
    return {"value": value, "unit": unit, "system": codes.MERIT9_UNIT, "code": code}


def duration(value: int, unit: str, code: str) -> Json:
    return {"value": Decimal(value), "unit": unit, "system": codes.UCUM, "code": code}


def reference(to: str, display: str | None = None, resource_type: str | None = None) -> Json:
    named = {"type": resource_type} if resource_type else {}
    return {"reference": to, **named, **({"display": display} if display else {})}
