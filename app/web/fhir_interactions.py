"""The interactions that change or read one resource: their rules, for single requests and for entries of Bundles alike.

Source: https://hl7.org/fhir/R4/http.html (create, ccreate, update, cond-update, patch, delete, read, rejecting-updates).
"""

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy.orm import Session

from app import fhir
from app.errors import Conflict, Forbidden, InvalidInput, NotFound, Stale
from app.fhir import Profiles
from app.fhir.patch import NotAPatch, json_patch, merge_patch
from app.store import index, versions
from app.store.parameters import STORED_TYPES
from app.store.search import matching
from app.store.versions import Version
from app.web.fhir_wire import Json, check_storable, fhir_value
from app.web.outcome import Refused, malformed, method_not_allowed, unsupported_media
from schemas.access import Principal
from schemas.issue import IssueType, Severity

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = frozenset({"application/merge-patch+json", "application/json"})
"""`application/json`: what fhirpy writes."""
PATCH_TYPES = MERGE_PATCH | {JSON_PATCH}

OWN_FACES = {
    "AuditEvent": ("GET", "HEAD"),
    "CodeSystem": ("GET", "HEAD"),
    "ConceptMap": ("GET", "POST"),
    "Subscription": ("GET", "HEAD", "POST", "PUT", "DELETE"),
    "Task": ("GET", "HEAD"),
    "ValueSet": ("GET", "POST"),
}
"""Types that are not stored as resources; routes of their own answer for them, and what those do not have is refused."""
# FHIR R4 `id`: https://hl7.org/fhir/R4/datatypes.html#id
_ID = re.compile(r"[A-Za-z0-9.-]{1,64}", re.ASCII)
_NO_TYPES = ("metadata", "_history")
_STRUCTURAL = {IssueType.STRUCTURE, IssueType.INVALID, IssueType.REQUIRED, IssueType.VALUE}
_ACTIONS = {"c": "create", "r": "read", "u": "update", "d": "delete", "s": "search"}


@dataclass(frozen=True)
class Done:
    """What a change left. `status`: HTTP's; `version`: the resource as it is now, None: there was nothing to delete."""

    status: int
    version: Version | None


@dataclass(frozen=True)
class Asker:
    """Who asks, in which transaction, and what his resources are checked against."""

    session: Session
    who: Principal
    profiles: Callable[[], Profiles | None]


def check_type(type_: str) -> None:
    """Raises: NotFound for a type that is not stored here; Refused for one that another face answers for."""
    if type_ in STORED_TYPES:
        return
    if type_ in OWN_FACES or type_ in _NO_TYPES:
        raise method_not_allowed(*OWN_FACES.get(type_, ("GET", "HEAD")))
    raise NotFound("this server has no resources of that type")


def allow(who: Principal, type_: str, actions: str) -> None:
    """Raises: NotFound, Refused, as `check_type`; Forbidden."""
    check_type(type_)
    for action in actions:
        if not who.may(type_, action):
            raise Forbidden(f"this needs a scope that lets you {_ACTIONS[action]} {type_}")


def check_id(id_: str) -> None:
    """Raises: NotFound for what can be no id, and may be nothing that a database can be asked for."""
    if not _ID.fullmatch(id_):
        raise NotFound("no such resource")


def check_resource(resource: Json, profiles: Profiles | None) -> None:
    """Is it a resource that may be stored? Raises: Refused: 400 where it is no resource of R4, 422 where it breaks a rule."""
    errors = [
        issue
        for issue in fhir.check(resource, profiles=profiles, foreign=True)
        if issue.severity in (Severity.ERROR, Severity.FATAL)
    ]
    if errors:
        status = 400 if any(issue.code in _STRUCTURAL for issue in errors) else 422
        raise Refused(status, "the resource is not valid", issues=errors[:100])


# --- one resource -----------------------------------------------------------------------------------------------------


def create(asker: Asker, type_: str, resource: Json, *, if_none_exist: str | None = None, id_: str | None = None) -> Done:
    """`id_`: one that was given out before; a client's own does not count. 200: the condition found one, nothing is done.

    Raises: Refused, Forbidden, NotFound, InvalidInput; Stale where the condition finds several.
    """
    allow(asker.who, type_, "c")
    _check_type_of(resource, type_)
    if if_none_exist is not None:
        index.lock(asker.session, [condition_key(type_, if_none_exist)])
        if (found := the_one(asker, type_, if_none_exist)) is not None:
            return Done(200, versions.read(asker.session, type_, found, asker.who))
    content = {key: value for key, value in resource.items() if key != "id"}
    check_resource(content, asker.profiles())
    return Done(201, versions.create(asker.session, content, asker.who, id_=id_))


def update(
    asker: Asker, type_: str, id_: str, resource: Json, *, if_match: int | None = None, checked: bool = False
) -> Done:
    """Raises: Refused, Forbidden, NotFound; Stale by `if_match`; Conflict for what was made from a note."""
    allow(asker.who, type_, "u")
    _check_type_of(resource, type_)
    if resource.get("id") != id_:
        raise malformed("id: must be the id that the URL names")
    if not checked:
        check_resource(resource, asker.profiles())
    version, created = versions.update(asker.session, type_, id_, resource, asker.who, if_match=if_match)
    return Done(201 if created else 200, version)


def update_by(asker: Asker, type_: str, criteria: str, resource: Json, *, if_match: int | None = None) -> Done:
    """A conditional update. Raises: as `update`; Stale where several match."""
    allow(asker.who, type_, "us")
    index.lock(asker.session, [condition_key(type_, criteria)])
    id_ = target_of_update(resource, the_one(asker, type_, criteria))
    return update(asker, type_, id_, {**resource, "id": id_}, if_match=if_match)


def target_of_update(resource: Json, found: str | None) -> str:
    """The id that a conditional update writes: of what was found, else the resource's own, else a new one."""
    own = resource.get("id")
    if own is not None and not isinstance(own, str):
        raise malformed("id: must be a string")
    if found is not None and own not in (None, found):
        raise malformed("id: is not that of the resource that the condition finds")
    return found or own or str(uuid4())


def patch(
    asker: Asker, type_: str, id_: str, media: str, change: Any, *, if_match: int | None = None
) -> Done:
    """`media`: one of PATCH_TYPES. Raises: Refused, Forbidden, NotFound, Gone; InvalidInput where the patch does not fit;
    Stale, Conflict."""
    allow(asker.who, type_, "u")
    before = versions.read(asker.session, type_, id_, asker.who)
    if if_match is not None and if_match != before.version:
        raise Stale(f"If-Match: the version is {before.version}")
    try:
        changed = (json_patch if media == JSON_PATCH else merge_patch)(before.served(), change)
    except NotAPatch as error:
        raise malformed(str(error)) from None
    check_storable(changed)
    check_resource(changed, asker.profiles())
    try:
        version, _ = versions.update(asker.session, type_, id_, changed, asker.who, if_match=before.version)
    except Stale:
        raise Conflict("the resource was changed meanwhile; try again") from None
    return Done(200, version)


def patch_of_entry(resource: Json) -> tuple[str, Any]:
    """Media type and patch of the Binary that carries it in a Bundle. Raises: Refused."""
    media, data = resource.get("contentType"), resource.get("data")
    if media not in PATCH_TYPES:
        raise unsupported_media("Binary.contentType: must be " + " or ".join(sorted(PATCH_TYPES)))
    try:
        raw = base64.b64decode(data if isinstance(data, str) else "", validate=True)
    except (binascii.Error, ValueError):
        raise malformed("Binary.data: is not base64") from None
    return str(media), fhir_value(raw, "Binary.data")


def remove(asker: Asker, type_: str, id_: str, *, if_match: int | None = None) -> Done:
    """Raises: Forbidden, NotFound for an unknown type; Stale; Conflict for what was made from a note."""
    allow(asker.who, type_, "d")
    version = versions.remove(asker.session, type_, id_, asker.who, if_match=if_match)
    return Done(204 if version is None else 200, version)


def remove_by(asker: Asker, type_: str, criteria: str) -> Done:
    """A conditional delete: of one, or of none. Raises: as `remove`; Stale where several match: none is deleted then."""
    allow(asker.who, type_, "ds")
    found = the_one(asker, type_, criteria)
    return Done(204, None) if found is None else remove(asker, type_, found)


def condition_key(type_: str, criteria: str) -> tuple[str, str]:
    """What to lock so that two requests under the same condition do not both find nothing and create: no resource has such
    an id."""
    return type_, f"?{_bare(type_, criteria)}"


def _bare(type_: str, criteria: str) -> str:
    return criteria.removeprefix(f"{type_}?").removeprefix("?")


def the_one(asker: Asker, type_: str, criteria: str) -> str | None:
    """The id of the one resource that a condition finds. Raises: Refused for a condition that cannot be searched by;
    Forbidden; Stale where it finds several."""
    allow(asker.who, type_, "s")  # a condition tells whether there is something
    try:
        found = matching(asker.session, type_, _bare(type_, criteria), asker.who)
    except InvalidInput as error:
        raise malformed(str(error)) from None
    if len(found) > 1:
        raise Stale("the condition finds several resources")
    return found[0] if found else None


def _check_type_of(resource: Json, type_: str) -> None:
    if resource.get("resourceType") != type_:
        raise malformed("resourceType: is not the type that the URL names")
