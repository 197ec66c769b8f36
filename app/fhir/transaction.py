"""The entries of a transaction or batch Bundle as values, and the links between them. Nothing is stored here.

Source: https://hl7.org/fhir/R4/http.html#transaction (request, trules).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.errors import InvalidInput
from app.fhir.elements import Json

ORDER = {"DELETE": 0, "POST": 1, "PUT": 2, "PATCH": 2, "GET": 3, "HEAD": 3}
"""In which order the entries of a transaction are carried out, whatever their own is."""
MAX_ENTRIES = 2000

_TYPE = r"[A-Z][A-Za-z]{1,63}"
_ID = r"[A-Za-z0-9.-]{1,64}"
_URL = re.compile(rf"(?P<type>{_TYPE})(/(?P<id>{_ID})(/(?P<history>_history)(/(?P<version>[1-9][0-9]{{0,8}}))?)?)?/?")
_RESTFUL = re.compile(rf"(?P<base>https?://.+?)/(?P<local>{_TYPE}/{_ID})")
_CONDITIONAL = re.compile(rf"({_TYPE})\?(.+)")
_PLACEHOLDER = ("urn:uuid:", "urn:oid:")
_LINK = re.compile(r"""(\b(?:href|src)\s*=\s*)(["'])(.*?)\2""")
# Elements of type uri, url, oid and uuid of R4's resources and data types, by the names that they have there:
# https://hl7.org/fhir/R4/datatypes.html#uri. `canonical` is a type of its own: profile, instantiatesCanonical, questionnaire.
_URI_ELEMENTS = frozenset({
    "url", "uri", "system", "source", "policy", "instantiatesUri", "implicitRules", "namespace", "valueUri", "valueUrl",
    "valueOid", "valueUuid", "sourceUri", "targetUri",
})  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One request. `position`: in the Bundle, from 0. `criteria`: the query of its url; `version`: of a vread."""

    position: int
    method: str
    type: str
    id: str | None = None
    criteria: str | None = None
    history: bool = False
    version: int | None = None
    resource: Json | None = None
    full_url: str | None = None
    if_none_exist: str | None = None
    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: str | None = None

    @property
    def path(self) -> str:
        return f"Bundle.entry[{self.position}]"


def entry_of(position: int, written: Any) -> Entry:
    """Raises: InvalidInput."""
    request = written.get("request") if isinstance(written, dict) else None
    if not isinstance(request, dict):
        raise InvalidInput("request: is missing")
    method, url = request.get("method"), request.get("url")
    if method not in ORDER:
        raise InvalidInput("request.method: must be one of " + ", ".join(ORDER))
    if not isinstance(url, str):
        raise InvalidInput("request.url: is missing")
    path, asked, criteria = url.partition("?")
    match = _URL.fullmatch(path.removeprefix("/"))
    if match is None:
        raise InvalidInput("request.url: is no <type>, <type>/<id> or <type>?<criteria>, relative to the server's base")
    resource = written.get("resource")
    if resource is not None and not isinstance(resource, dict):
        raise InvalidInput("resource: must be an object")
    conditions = {}
    for name, key in _CONDITIONS.items():
        value = request.get(name)
        if value is not None and not isinstance(value, str):
            raise InvalidInput(f"request.{name}: must be a string")
        conditions[key] = value
    full_url = written.get("fullUrl")
    if full_url is not None and not isinstance(full_url, str):
        raise InvalidInput("fullUrl: must be a string")
    made = Entry(
        position=position,
        method=method,
        type=match["type"],
        id=match["id"],
        criteria=criteria if asked else None,
        history=match["history"] is not None,
        version=int(match["version"]) if match["version"] else None,
        resource=resource,
        full_url=full_url,
        **conditions,
    )
    _check_form(made)
    return made


_CONDITIONS = {
    "ifNoneExist": "if_none_exist",
    "ifMatch": "if_match",
    "ifNoneMatch": "if_none_match",
    "ifModifiedSince": "if_modified_since",
}


def _check_form(entry: Entry) -> None:
    if entry.method in ("POST", "PUT", "PATCH"):
        if entry.resource is None:
            raise InvalidInput(f"resource: is missing, and {entry.method} needs one")
        given = entry.resource.get("resourceType")
        if given != ("Binary" if entry.method == "PATCH" else entry.type):
            raise InvalidInput("resource.resourceType: is not the type that request.url names")
    if entry.method == "POST" and (entry.id is not None or entry.criteria is not None):
        raise InvalidInput("request.url: of a POST is the type alone; a condition stands in ifNoneExist")
    one = (entry.id is None) != (not entry.criteria) and not entry.history
    if entry.method in ("PUT", "PATCH", "DELETE") and not one:
        raise InvalidInput(f"request.url: of a {entry.method} is <type>/<id> or <type>?<criteria>")


# --- links ------------------------------------------------------------------------------------------------------------


def placeholders(entries: Sequence[Entry], identities: Mapping[int, str]) -> dict[str, str]:
    """What the references of the Bundle say -> `Type/id` as it is stored. `identities`: by the entry's position."""
    found: dict[str, str] = {}
    for entry in entries:
        stored = identities.get(entry.position)
        if entry.full_url is None or stored is None:
            continue
        found[entry.full_url] = stored
        restful = _RESTFUL.fullmatch(entry.full_url)
        if restful is not None and entry.method == "POST":
            # A relative reference is read against the fullUrl of its own entry; in practice a Bundle has one base.
            found.setdefault(restful["local"], stored)
    return found


def linked(resource: Json, urls: Mapping[str, str]) -> Json:
    """A copy whose references, elements of type uri, url, oid and uuid, and links of narratives are those of `urls`
    where that has them. Canonicals stay, and so do strings, such as the value of an identifier."""
    changed = _linked(resource, None, urls)
    assert isinstance(changed, dict)
    return changed


def _linked(node: Any, name: str | None, urls: Mapping[str, str]) -> Any:
    if isinstance(node, dict):
        return {key: _linked(value, key, urls) for key, value in node.items()}
    if isinstance(node, list):
        return [_linked(value, name, urls) for value in node]
    if not isinstance(node, str):
        return node
    if name == "reference":
        base, mark, fragment = node.partition("#")
        return urls.get(node) or (urls[base] + mark + fragment if base in urls else node)
    if name in _URI_ELEMENTS:
        return urls.get(node, node)
    if name == "div":
        return _LINK.sub(lambda m: f"{m[1]}{m[2]}{urls.get(m[3], m[3])}{m[2]}", node)
    return node


def references(node: Any) -> Iterator[str]:
    """Every `reference` below."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "reference" and isinstance(value, str):
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def unresolved(resource: Json) -> bool:
    """Does it still refer to something that only the Bundle could have held?"""
    return any(reference.startswith(_PLACEHOLDER) for reference in references(resource))


def conditional(reference: str) -> tuple[str, str] | None:
    """Type and criteria of a reference such as `Patient?identifier=…`."""
    match = _CONDITIONAL.fullmatch(reference)
    return (match[1], match[2]) if match else None
