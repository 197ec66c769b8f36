"""Which statement a stored resource was made of: a resource tells it by its type and by the places of its evidence. And what
becomes of it when it is taken back."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from app.fhir.codes import CORE_PROFILE, ECS_PROFILE, ENTERED_IN_ERROR, EVIDENCE
from app.fhir.elements import concept, instant
from schemas.statement import EvidenceSpan, Kind, Statement

RESOURCE_TYPES: dict[Kind, tuple[str, ...]] = {
    Kind.CONDITION: ("Condition", "FamilyMemberHistory"),
    Kind.ALLERGY: ("AllergyIntolerance",),
    Kind.INFECTION: ("Observation",),
    Kind.LAB: ("Observation",),
    Kind.PRESCRIPTION: ("MedicationRequest",),
}
"""What a statement of a kind may become."""


_ERROR = "entered-in-error"


def made_of(content: dict[str, Any], statement: Statement, also: Iterable[EvidenceSpan] = ()) -> bool:
    """Was the resource `content` made of `statement`, which the note tells again at `also`? Two statements over the same
    characters are told apart by nothing."""
    places = frozenset((span.start, span.end) for span in (*statement.fields.values(), *also))
    return content["resourceType"] in RESOURCE_TYPES[statement.kind] and _evidence(content) == places


def taken_back(content: dict[str, Any], at: datetime) -> dict[str, Any]:
    """The resource as one that was entered in error. A finding has no clinicalStatus then (con-5, ait-2); it claims no profile
    of JP-CLINS, whose resources are all in force.

    Source: https://hl7.org/fhir/R4/condition.html, allergyintolerance.html; value sets of `status` of the others.
    """
    made = dict(content)
    if (system := ENTERED_IN_ERROR.get(content["resourceType"])) is not None:
        made.pop("clinicalStatus", None)
        made["verificationStatus"] = concept([system])
    else:
        made["status"] = _ERROR
    meta = content.get("meta", {})
    profiles = [_unclaimed(url) for url in meta.get("profile", ())]
    made["meta"] = meta | {"lastUpdated": instant(at)} | ({"profile": profiles} if profiles else {})
    return made


def _unclaimed(profile: str) -> str:
    """JP Core's profile in place of that of JP-CLINS; it has none of a family history."""
    name = profile.removeprefix(ECS_PROFILE).removesuffix("_eCS")
    ecs = profile.startswith(ECS_PROFILE) and name != "FamilyMemberHistory"
    return f"{CORE_PROFILE}{name}" if ecs else profile


def is_taken_back(content: dict[str, Any]) -> bool:
    codings = content.get("verificationStatus", {}).get("coding", ())
    return content.get("status") == _ERROR or any(coding.get("code") == _ERROR for coding in codings)


def _evidence(content: dict[str, Any]) -> frozenset[tuple[int, int]]:
    """Half-open code-point offsets into the note."""
    found = set()
    for extension in content.get("extension", ()):
        if extension.get("url") == EVIDENCE:
            place = {part["url"]: part.get("valueInteger") for part in extension["extension"]}
            found.add((place["offset"], place["offset"] + place["length"]))
    return frozenset(found)
