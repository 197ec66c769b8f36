"""A part of a resource: `_summary` and `_elements`. Source: https://hl7.org/fhir/R4/search.html#summary and #elements."""

from collections.abc import Sequence
from typing import Any

from app.store.parameters import CHOICES, MANDATORY, SUMMARY
from app.store.versions import SUBSETTED

_ALWAYS = frozenset({"resourceType", "id", "meta", "implicitRules"})


def projected(content: dict[str, Any], summary: str | None = None, elements: Sequence[str] = ()) -> dict[str, Any]:
    """The resource with what was asked for and what R4 makes mandatory, tagged SUBSETTED; whole where nothing was asked for.

    `summary`: true, text, data, false; `elements`: names of top-level elements.
    """
    mandatory = MANDATORY[content["resourceType"]]
    if summary in (None, "false") and not elements:
        return content
    if summary == "data":
        kept = {name: value for name, value in content.items() if name != "text"}
    else:
        names = mandatory
        if summary == "text":
            names = names | {"text"}
        elif summary == "true":
            names = names | SUMMARY[content["resourceType"]]
        names = names | set(elements) | _ALWAYS
        kept = {name: value for name, value in content.items() if _element(content["resourceType"], name) in names}
    if summary == "true":
        kept = {name: _without_data(value) for name, value in kept.items()}
    meta = content.get("meta") or {}
    return kept | {"meta": meta | {"tag": [*meta.get("tag", ()), SUBSETTED]}}


def _element(type_: str, name: str) -> str:
    """The element of a JSON property: `_status` is the extension of `status`, `valueQuantity` is `value`."""
    plain = name.removeprefix("_")
    of = (choice for choice in CHOICES[type_] if plain.startswith(choice) and plain[len(choice) :][:1].isupper())
    return next(of, plain)


def _without_data(value: Any) -> Any:
    """An Attachment's data is no part of a summary (https://hl7.org/fhir/R4/datatypes.html#Attachment)."""
    if isinstance(value, dict):
        return {
            name: _without_data(part) for name, part in value.items() if not (name == "data" and isinstance(part, str))
        }
    return [_without_data(part) for part in value] if isinstance(value, list) else value
