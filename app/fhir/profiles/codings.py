"""Codings against loaded code systems: bindings read their members here, and displays have to be the code's."""

import re
from collections.abc import Iterator
from typing import Any

from app.fhir.profiles.valuesets import Vocabulary
from schemas.issue import IssueType, Severity

# Code and display of a laboratory item are checked strictly: in JP-CLINS the display decides which slice, and so which
# value set, a coding is checked against.
_STRICT = re.compile(r"http://jpfhir\.jp/fhir/clins/CodeSystem/(JLAC1[01]/)?JP_CLINS_ObsLabResult_")


def members(value: Any) -> Iterator[tuple[str | None, str]]:
    """(system, code) of a code, Coding, Quantity or CodeableConcept; the system is None for a bare code."""
    if isinstance(value, str):
        yield None, value
    elif isinstance(value, dict):
        codings = value["coding"] if isinstance(value.get("coding"), list) else [value]
        for coding in codings:
            if isinstance(coding, dict) and isinstance(code := coding.get("code"), str):
                yield str(coding.get("system", "")), code


def coding_faults(coding: dict[str, Any], vocabulary: Vocabulary) -> Iterator[tuple[IssueType, str, str, Severity]]:
    """(type, path below the coding, rule, severity)."""
    system, code, display = coding.get("system"), coding.get("code"), coding.get("display")
    if not isinstance(system, str) or not isinstance(code, str):
        return
    strict = _STRICT.match(system) is not None
    severity = Severity.ERROR if strict else Severity.WARNING
    if vocabulary.has_code(system, code) is False:
        yield IssueType.CODE_INVALID, ".code", "not a code of its code system", severity
        return
    displays = vocabulary.displays(system, code)
    if not isinstance(display, str) or not displays:
        return
    if display == displays[0] or (not strict and _fold(display) in map(_fold, displays)):
        return
    if display in displays:
        # The official examples do this; the coding then fits no slice, so nothing else of it was checked.
        yield IssueType.CODE_INVALID, ".display", "another name of this code, not its display", Severity.WARNING
    else:
        yield IssueType.CODE_INVALID, ".display", "not a display of this code", severity


def _fold(text: str) -> str:
    return " ".join(text.casefold().split())
