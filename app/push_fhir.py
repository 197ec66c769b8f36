"""What was released of a note, as a transaction Bundle for another FHIR server.

Sent twice it changes nothing: every entry finds its resource by an identifier (conditional mode) or by our own type and id
(update mode). Source: https://hl7.org/fhir/R4/http.html#transaction (transaction, cond-update, ccreate).

Beside what was released go the resources that it refers to, as the sender of the note stated them: Patient, document, visit,
physician, institution. In conditional mode a server's own Patient, Practitioner, Organization and Encounter are found and left
as they are (If-None-Exist); what a conversion made is updated. A number that only one sending system gives out identifies
nobody elsewhere: such a resource gets the `urn:uuid:` of its id as an identifier (system urn:ietf:rfc:3986), and is found by it.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from uuid import UUID

from sqlalchemy import Select, select, tuple_
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from app.errors import Conflict
from app.fhir.clins import outward, reference_of, url_of
from app.fhir.codes import RESOURCE_ID
from models import ReleaseState, Resource
from schemas.push import PushMode

Json = dict[str, Any]
Key = tuple[str, str]

STATED = ("Patient", "Organization", "Practitioner", "Encounter", "DocumentReference")
"""Types that a note's sender states, in the order of the entries."""
_KEPT = frozenset({"Patient", "Organization", "Practitioner", "Encounter"})
"""Of these the receiver's own is left as it is."""
URI = "urn:ietf:rfc:3986"
_REFERENCE = re.compile(r"[A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64}")
# Separators within the value of a search parameter (https://hl7.org/fhir/R4/search.html#escaping).
_SEPARATOR = re.compile(r"([\\,$|])")


@dataclass(frozen=True)
class Release:
    """`members`: type and id of each entry's resource, as we keep it."""

    bundle: Json
    members: list[Key]


def transaction(
    session: Session, note_id: UUID, run_id: UUID, *, base: str, mode: PushMode, provenance: bool = True
) -> Release | None:
    """The newest released version of each resource of the run; None where none is released.

    The same stored resources give the same Bundle, byte for byte. Raises: Conflict where one refers to a resource that is
    held back.
    """
    own = select(Resource.type, Resource.id).where(Resource.note_id == note_id, Resource.run_id == run_id)
    released = own.where(Resource.state == ReleaseState.FINAL, Resource.type != "Provenance")
    keys = [(type_, id_) for type_, id_ in session.execute(released.order_by(Resource.ordinal))]
    found = _newest(session, keys, final=True)
    if not found:
        return None
    _complete(session, found)
    if provenance:
        told = own.where(Resource.type == "Provenance").order_by(Resource.ordinal)
        traces = [(type_, id_) for type_, id_ in session.execute(told)]
        for key, content in _newest(session, traces, final=False).items():
            targets = [t for t in content.get("target", ()) if _key(t.get("reference")) in found]
            if targets:
                found[key] = {**content, "target": targets}
        _complete(session, found)
    members = sorted(found.values(), key=lambda content: _rank(content["resourceType"]))
    if mode is PushMode.UPDATE:
        entries = [_by_id(content, base) for content in members]
    else:
        urls = {reference_of(content): url_of(content) for content in members}
        entries = [_by_identifier(content, urls) for content in members]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    return Release(bundle, [(content["resourceType"], content["id"]) for content in members])


def _newest(session: Session, keys: Iterable[Key], *, final: bool) -> dict[Key, Json]:
    """The newest valid version of each, released or (`final` false) not; in the order of `keys`."""
    wanted = list(dict.fromkeys(keys))
    if not wanted:
        return {}
    query: Select[str, str, Any] = (
        select(Resource.type, Resource.id, Resource.content)
        .where(tuple_(Resource.type, Resource.id).in_(wanted), Resource.valid, Resource.content.is_not(None))
        .ext(distinct_on(Resource.type, Resource.id))
        .order_by(Resource.type, Resource.id, Resource.version.desc())
    )
    if final:
        query = query.where(Resource.state == ReleaseState.FINAL)
    rows = {(type_, id_): content for type_, id_, content in session.execute(query)}
    return {key: rows[key] for key in wanted if key in rows}


def _complete(session: Session, found: dict[Key, Json]) -> None:
    """Adds what the resources refer to, and what that refers to. Raises: Conflict."""
    while missing := {key for content in found.values() for key in _references(content)} - set(found):
        stated = _newest(session, sorted(key for key in missing if key[0] in STATED), final=False)
        for type_, id_ in sorted(missing - set(stated)):
            raise Conflict(f"a released resource refers to {type_}/{id_}, which is held back")
        found.update(stated)


def _references(node: Any) -> Iterator[Key]:
    if isinstance(node, dict):
        if key := _key(node.get("reference")):
            yield key
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _key(reference: Any) -> Key | None:
    if not isinstance(reference, str) or not _REFERENCE.fullmatch(reference):
        return None
    type_, _, id_ = reference.partition("/")
    return type_, id_


def _rank(type_: str) -> int:
    if type_ in STATED:
        return STATED.index(type_)
    return len(STATED) + (type_ == "Provenance")


def _by_id(content: Json, base: str) -> Json:
    reference = reference_of(content)
    request = {"method": "PUT", "url": reference}
    return {"fullUrl": f"{base}/{reference}", "resource": _sent(content), "request": request}


def _by_identifier(content: Json, urls: dict[str, str]) -> Json:
    type_, url = content["resourceType"], url_of(content)
    if type_ == "Provenance":  # it has no identifier
        request = {"method": "PUT", "url": reference_of(content)}
        return {"fullUrl": url, "resource": _linked(_sent(content), urls), "request": request}
    system, value = _identity(content) or (URI, url)
    resource = {key: part for key, part in _sent(content).items() if key != "id"}
    if (system, value) == (URI, url):
        resource["identifier"] = [*resource.get("identifier", ()), {"system": URI, "value": url}]
    token = "|".join(_SEPARATOR.sub(r"\\\1", part) for part in (system, value))
    criteria = f"identifier={quote(token, safe='')}"
    if type_ in _KEPT:
        request = {"method": "POST", "url": type_, "ifNoneExist": criteria}
    else:
        request = {"method": "PUT", "url": f"{type_}?{criteria}"}
    return {"fullUrl": url, "resource": _linked(resource, urls), "request": request}


def _identity(content: Json) -> tuple[str, str] | None:
    """System and value of an identifier that no other resource in the world has; None: it has none.

    An institution's number stands in an Organization of each of its departments, and an insurance number is not the
    hospital's own: neither is taken.
    """
    type_ = content["resourceType"]
    for identifier in content.get("identifier", ()):
        system, value = identifier.get("system"), identifier.get("value")
        if not isinstance(system, str) or not isinstance(value, str):
            continue
        own = type_ in ("Patient", "Practitioner") and system.startswith("urn:oid:")
        if own or (system == RESOURCE_ID and type_ not in ("Organization", "Practitioner", "Patient")):
            return system, value
    return None


def _sent(content: Json) -> Json:
    """Without the version and instant of our own store, which are the receiver's to write."""
    meta = {key: part for key, part in content.get("meta", {}).items() if key not in ("versionId", "lastUpdated")}
    rest = {key: part for key, part in content.items() if key != "meta"}
    return rest | ({"meta": meta} if meta else {})


def _linked(content: Json, urls: dict[str, str]) -> Json:
    linked: Json = outward(content, urls, lambda _: True)
    return linked
