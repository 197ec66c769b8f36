"""References: what they mean inside a Bundle or a container, and whether a target of that kind is allowed.

Source: http://hl7.org/fhir/R4/references.html and http://hl7.org/fhir/R4/bundle.html#references.
"""

import re
from typing import Any

from app.fhir.profiles.definitions import HL7
from app.fhir.profiles.slicing import Resolver, claims

_LITERAL = re.compile(r"(?:.*/)?([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?")


class Links:
    """The resources that references inside one checked resource can mean."""

    def __init__(self, resource: dict[str, Any]) -> None:
        self._urls: dict[str, dict[str, Any]] = {}
        entries = resource.get("entry")
        for entry in entries if isinstance(entries, list) else []:
            inner = entry.get("resource") if isinstance(entry, dict) else None
            if isinstance(inner, dict):
                self._urls.setdefault(str(entry.get("fullUrl")), inner)
                self._urls.setdefault(f"{inner.get('resourceType')}/{inner.get('id')}", inner)

    def find(self, reference: str, container: dict[str, Any]) -> dict[str, Any] | None:
        if not reference.startswith("#"):
            return self._urls.get(reference)
        if reference == "#":
            return container
        contained = container.get("contained")
        for part in contained if isinstance(contained, list) else []:
            if isinstance(part, dict) and part.get("id") == reference[1:]:
                return part
        return None


def reference_fault(
    value: dict[str, Any], targets: tuple[str, ...], resolver: Resolver, links: Links, container: dict[str, Any]
) -> str | None:
    """What is wrong with a Reference whose element allows `targets` (canonicals); None when nothing is.

    A reference that leads nowhere here is checked by the type that its text or its `type` states.
    """
    reference = value.get("reference")
    target = links.find(reference, container) if isinstance(reference, str) else None
    stated = value.get("type")
    if target is not None:
        kind = target.get("resourceType")
        if isinstance(stated, str) and stated not in (kind, f"{HL7}{kind}"):
            return "its type is not that of the resource it refers to"
    elif isinstance(reference, str) and (literal := _LITERAL.fullmatch(reference)) is not None:
        kind = literal[1]
    else:
        # Only a type of FHIR says something: the binding of Reference.type is extensible.
        named = stated.removeprefix(HL7) if isinstance(stated, str) else None
        kind = named if named is not None and resolver.tree(HL7 + named) is not None else None
    if not targets or not isinstance(kind, str):
        return None
    trees = {url: resolver.tree(url) for url in targets}
    if any(tree is None for tree in trees.values()):
        return None  # a target profile that is not loaded: nothing can be said
    fitting = [u for u, t in trees.items() if t is not None and t.definition.type in (kind, "Resource", "DomainResource")]
    if not fitting:
        return "refers to a type of resource that is not allowed here"
    if target is None or claims(target) & set(fitting):
        return None  # what claims a profile has its faults reported where it stands
    if not any(resolver.suits(target, url) for url in fitting):
        return "refers to a resource that does not obey the profile required here"
    return None
