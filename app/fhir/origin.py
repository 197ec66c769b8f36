"""Which statement a stored resource was made of: a resource tells it by its type and by the places of its evidence."""

from typing import Any

from app.fhir.codes import EVIDENCE
from schemas.statement import Kind, Statement

RESOURCE_TYPES: dict[Kind, tuple[str, ...]] = {
    Kind.CONDITION: ("Condition", "FamilyMemberHistory"),
    Kind.ALLERGY: ("AllergyIntolerance",),
    Kind.INFECTION: ("Observation",),
    Kind.LAB: ("Observation",),
    Kind.PRESCRIPTION: ("MedicationRequest",),
}
"""What a statement of a kind may become."""


def made_of(content: dict[str, Any], statement: Statement) -> bool:
    """Was the resource `content` made of `statement`? Two statements over the same characters are told apart by nothing."""
    places = frozenset((span.start, span.end) for span in statement.fields.values())
    return content["resourceType"] in RESOURCE_TYPES[statement.kind] and _evidence(content) == places


def _evidence(content: dict[str, Any]) -> frozenset[tuple[int, int]]:
    """Half-open code-point offsets into the note."""
    found = set()
    for extension in content.get("extension", ()):
        if extension.get("url") == EVIDENCE:
            place = {part["url"]: part.get("valueInteger") for part in extension["extension"]}
            found.add((place["offset"], place["offset"] + place["length"]))
    return frozenset(found)
