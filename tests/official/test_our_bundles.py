"""What we make for the national service, by the publishers' own definitions."""

from collections.abc import Callable
from typing import Any

import pytest
from clins_cases import FACILITY, NOW, RECIPIENT, REFERRAL_TEXT, STAY, built, note, referral_records

from app.fhir import check
from app.fhir.clins import CLINS_TYPES, ClinsType, clins_bundle
from app.fhir.documents import document
from app.fhir.profiles import Profiles
from schemas.issue import Severity
from schemas.note import ChartNote, DocumentType

Json = dict[str, Any]
Lab = dict[tuple[str, str], str]

REFERRAL = note(REFERRAL_TEXT, document_type=DocumentType.REFERRAL, recipient=RECIPIENT)
DISCHARGE = note(REFERRAL_TEXT, document_type=DocumentType.DISCHARGE, encounter=STAY)


def faults(bundle: Json, profiles: Profiles, lab: Lab) -> list[str]:
    serious = (Severity.ERROR, Severity.WARNING)
    return [issue.text for issue in check(bundle, profiles=profiles, lab=lab) if issue.severity in serious]


def made(of: ChartNote, *records: Any) -> Json:
    bundle, _ = document(of, built(of, *records, facility=FACILITY), timestamp=NOW)
    assert bundle is not None
    return bundle


@pytest.mark.parametrize("type_", CLINS_TYPES)
def test_the_bundles_have_no_fault(type_: ClinsType, profiles: Profiles, lab: Lab) -> None:
    resources = built(note(REFERRAL_TEXT), *referral_records())
    bundle, _ = clins_bundle(type_, resources[0], resources, identifier_value="1311234567^2026^a-1", timestamp=NOW)
    assert bundle is not None and len(bundle["entry"]) > 1
    assert profiles.knows(bundle["meta"]["profile"][0])
    assert faults(bundle, profiles, lab) == []


@pytest.mark.parametrize("of", [REFERRAL, DISCHARGE], ids=["referral", "discharge"])
def test_the_documents_have_no_fault(of: ChartNote, profiles: Profiles, lab: Lab) -> None:
    bundle = made(of, *referral_records())
    assert profiles.knows(bundle["meta"]["profile"][0])
    assert profiles.knows(bundle["entry"][0]["resource"]["meta"]["profile"][0])
    assert faults(bundle, profiles, lab) == []


def test_a_referral_that_holds_its_text_alone_has_no_fault(profiles: Profiles, lab: Lab) -> None:
    assert faults(made(REFERRAL), profiles, lab) == []


def _section(bundle: Json, code: str) -> tuple[list[Json], Json]:
    """The list that holds the section, and the section."""
    top: list[Json] = bundle["entry"][0]["resource"]["section"]
    for listed in (top, *(section.get("section", []) for section in top)):
        for section in listed:
            if section["code"]["coding"][0]["code"] == code:
                return listed, section
    raise AssertionError(code)


def _drop(code: str) -> Callable[[Json], None]:
    def edit(bundle: Json) -> None:
        listed, section = _section(bundle, code)
        listed.remove(section)

    return edit


def _empty(code: str) -> Callable[[Json], None]:
    return lambda bundle: _section(bundle, code)[1].pop("entry")


@pytest.mark.parametrize(
    ("of", "edit"),
    [
        *((REFERRAL, _drop(code)) for code in ("920", "910", "300", "950", "340", "360")),
        *((DISCHARGE, _drop(code)) for code in ("322", "342", "352", "312", "360", "333", "324", "344", "444", "424")),
        *((REFERRAL, _empty(code)) for code in ("920", "910")),
        *((DISCHARGE, _empty(code)) for code in ("322", "333", "324", "344")),
        (REFERRAL, lambda b: _section(b, "340")[1].update(title="傷病名")),
        (DISCHARGE, lambda b: _section(b, "344")[1]["text"].update(status="generated")),
    ],
)  # fmt: skip
def test_the_same_checks_find_what_is_taken_away(
    of: ChartNote, edit: Callable[[Json], None], profiles: Profiles, lab: Lab
) -> None:
    bundle = made(of, *referral_records())
    edit(bundle)
    assert faults(bundle, profiles, lab) != []
