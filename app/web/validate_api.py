"""`$validate`: is a resource right? The same checks as before a release, for what other systems send.

Source: https://hl7.org/fhir/R4/resource-operation-validate.html. The answer is 200 with an OperationOutcome whenever the
body could be read; no issue holds a value of the resource.
"""

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from app.db import Database
from app.errors import InvalidInput, Unavailable
from app.fhir import check, codes, loads
from app.fhir.profiles import Profiles
from app.store.parameters import STORED_TYPES
from app.terminology import browse
from app.web.fhir_wire import answers, takes
from app.web.outcome import issue_json, malformed
from app.web.wire import FHIR_TYPES, Body, check_fhir_format, fhir_response, json_body
from schemas import systems
from schemas.issue import Issue, IssueType, Severity

Json = dict[str, Any]

MODES = ("create", "update", "delete", "profile")
MAX_ISSUES = 1000
"""Issues of one answer; those beyond it are counted."""
_SHARED_LAB = (systems.CORE_LAB, systems.CORE_LAB_11, systems.INFECTION_LAB, systems.INFECTION_LAB_11)
"""Systems whose displays are the FHIR識別名 of the items, which JP-CLINS asks for to the letter."""
_TYPE = re.compile(r"[A-Z][A-Za-z]{2,40}")
_KEY = re.compile(r"_?[A-Za-z]{1,64}")


def profiles_of(path: Path) -> Callable[[], Profiles | None]:
    """What opens the imported profiles at the first call, and anew after another import; None while there is no file.

    Calling it raises Unavailable for a file that cannot be used.
    """
    lock = threading.Lock()
    opened: dict[int, Profiles] = {}

    def profiles() -> Profiles | None:
        with lock:
            if not path.exists():
                return None
            changed = path.stat().st_mtime_ns
            if changed not in opened:
                try:
                    found = Profiles.open(path)
                except InvalidInput:
                    raise Unavailable("the file of profiles cannot be used; run `hyojun import-profiles`") from None
                opened.clear()
                opened[changed] = found
            return opened[changed]

    return profiles


def validate_router(database: Database, profiles: Callable[[], Profiles | None]) -> APIRouter:
    router = APIRouter(prefix="/fhir", tags=["validation"], responses=answers(200, 413, 415), default_response_class=Response)
    laboratory = _Laboratory()

    def validate(request: Request, body: bytes, type_: str | None) -> Response:
        check_fhir_format(request)
        resource, asked = _read(request, body, type_)
        loaded = profiles()
        found = list(_about_request(resource, asked, type_, loaded))
        if loaded is not None and asked.profile is not None and loaded.knows(asked.profile):
            resource = _claiming(resource, asked.profile)
        coded = list(_coded(resource))
        with database.session_scope() as session:
            tables = _Tables.of(session, coded, laboratory)
        findings = check(resource, profiles=loaded, lab=tables.lab)
        told = {issue.text.partition(": ")[0] for issue in findings if issue.code is IssueType.CODE_INVALID}
        found += findings
        for place, issue in tables.issues(coded, _root(resource, findings), loaded):
            if not {place, place.rpartition(".")[0]} & told:
                found.append(issue)
        return fhir_response(_outcome(found, bare=loaded is None))

    @router.post("/$validate", openapi_extra=takes())
    def validate_any(request: Request, body: Body) -> Response:
        """Checks a resource of any type, or a Parameters with `resource`, `mode` and `profile`."""
        return validate(request, body, None)

    @router.post("/{resource_type}/$validate", openapi_extra=takes())
    def validate_typed(request: Request, resource_type: str, body: Body) -> Response:
        """The same for one type: a resource of another one is an error."""
        return validate(request, body, resource_type)

    return router


# --- the request ------------------------------------------------------------------------------------------------------


class _Asked:
    def __init__(self, mode: str | None, profile: str | None) -> None:
        self.mode, self.profile = mode, profile


def _read(request: Request, body: bytes, type_: str | None) -> tuple[Json, _Asked]:
    """The resource with its digits kept, and what is asked of it. Raises: Refused."""
    json_body(request, body, FHIR_TYPES)  # media type, and the place of what is not JSON
    try:
        resource = loads(body.removeprefix(b"\xef\xbb\xbf"))
    except InvalidInput as error:
        raise malformed(f"the request body is {error}") from None
    inputs: dict[str, Any] = {name: request.query_params.get(name) for name in ("mode", "profile")}
    if resource.get("resourceType") == "Parameters" and (type_ != "Parameters" or _parts(resource, "resource")):
        for name in ("mode", "profile"):
            values = [
                value for part in _parts(resource, name) for key, value in part.items() if key.startswith("value")
            ]
            inputs[name] = inputs[name] or (values[0] if values else None)
        inner = [part.get("resource") for part in _parts(resource, "resource")]
        if len(inner) != 1 or not isinstance(inner[0], dict):
            raise malformed("the Parameters must hold one parameter `resource` with a resource")
        resource = inner[0]
    mode, profile = inputs["mode"], inputs["profile"]
    if mode is not None and mode not in MODES:
        raise malformed("mode: must be one of " + ", ".join(MODES))
    if profile is not None and not isinstance(profile, str):
        raise malformed("profile: must be a canonical")
    if mode == "profile" and not profile:
        raise malformed("profile: is missing, and mode=profile asks for one")
    return resource, _Asked(mode, profile or None)


def _parts(parameters: Json, name: str) -> list[Json]:
    parts = parameters.get("parameter")
    return [p for p in parts if isinstance(p, dict) and p.get("name") == name] if isinstance(parts, list) else []


def _about_request(resource: Json, asked: _Asked, type_: str | None, profiles: Profiles | None) -> Iterator[Issue]:
    if type_ is not None and resource.get("resourceType") != type_:
        yield _error(IssueType.INVALID, "the resource is not of the type that the URL names")
    if asked.mode == "update" and not isinstance(resource.get("id"), str):
        yield _error(IssueType.REQUIRED, "an update needs the resource's id")
    if asked.mode == "delete" and resource.get("resourceType") not in STORED_TYPES:
        yield _error(IssueType.NOT_SUPPORTED, "this server stores no resources of that type")
    if asked.profile is not None and profiles is None:
        yield _error(IssueType.NOT_SUPPORTED, "the profile asked for cannot be checked: no profiles are loaded")
    elif asked.profile is not None and profiles is not None and not profiles.knows(asked.profile):
        yield _error(IssueType.NOT_FOUND, "the profile asked for is not loaded")


def _claiming(resource: Json, profile: str) -> Json:
    """A copy that claims the profile; one whose `meta` is no object stays as it is, which the checks will say."""
    meta = resource.get("meta", {})
    claimed = meta.get("profile", []) if isinstance(meta, dict) else None
    if not isinstance(claimed, list) or profile in claimed:
        return resource
    return {**resource, "meta": {**meta, "profile": [*claimed, profile]}}


# --- codes ------------------------------------------------------------------------------------------------------------


def _coded(resource: Json) -> Iterator[tuple[str, Json]]:
    """Everything with a system and a code, in the order of the text: path below the resource, and the object."""
    stack: list[tuple[str, Any]] = [("", resource)]
    while stack:
        path, node = stack.pop()
        if isinstance(node, dict):
            if isinstance(node.get("system"), str) and isinstance(node.get("code"), str):
                yield path, node
            below = ((f"{path}.{key if _KEY.fullmatch(key) else '?'}", value) for key, value in node.items())
        elif isinstance(node, list):
            below = ((f"{path}[{number}]", value) for number, value in enumerate(node))
        else:
            continue
        stack += [(place, value) for place, value in reversed(list(below)) if isinstance(value, dict | list)]


def _root(resource: Json, findings: list[Issue]) -> str:
    """What paths begin with: the type, unless `check` did not know it, for then it may be anything."""
    name = resource.get("resourceType")
    unknown = any(issue.text.startswith("Resource: ") for issue in findings)
    return name if isinstance(name, str) and _TYPE.fullmatch(name) and not unknown else "Resource"


class _Laboratory:
    """The displays of the shared laboratory items, read again when another table of them becomes active."""

    def __init__(self) -> None:
        self._read: tuple[tuple[UUID, ...], dict[browse.Key, str]] = ((), {})

    def table(self, session: Session) -> Mapping[browse.Key, str]:
        active = [r.id for system in _SHARED_LAB for r in browse.releases(session, system) if r.active]
        kept = self._read
        if kept[0] != tuple(active):
            kept = (tuple(active), browse.displays(session, _SHARED_LAB))
            self._read = kept
        return kept[1]


class _Tables:
    """What the loaded tables say of the codes of one resource. `held`: systems with a table of their own."""

    def __init__(
        self,
        held: Mapping[str, str],
        known: Mapping[browse.Key, Mapping[str, str]],
        lab: Mapping[browse.Key, str] | None,
    ) -> None:
        self._held, self._known, self.lab = held, known, lab

    @staticmethod
    def of(session: Session, coded: list[tuple[str, Json]], laboratory: _Laboratory) -> "_Tables":
        systems = {node["system"] for _, node in coded}
        held = browse.held(session, systems)
        keys = {(node["system"], node["code"]) for _, node in coded if node["system"] in held}
        found = browse.find_all(session, keys)
        known = {key: {coding.display: coding.version or "" for coding in codings} for key, codings in found.items()}
        shared = systems & set(_SHARED_LAB)
        # Without the table of a shared system its right codes would count as unknown.
        lab = laboratory.table(session) if shared and shared <= held.keys() else None
        return _Tables(held, known, lab)

    def issues(
        self, coded: list[tuple[str, Json]], root: str, profiles: Profiles | None
    ) -> Iterator[tuple[str, Issue]]:
        """What is wrong with codes, with its place, which begins with `root`."""
        for path, node in coded:
            key = (node["system"], node["code"])
            if node["system"] not in self._held or key in codes.CLOSED:
                continue
            place = root + path
            displays = self._known.get(key)
            if displays is None:
                if profiles is not None and profiles.vocabulary.has_code(*key):
                    continue
                # An older or newer table than ours may have it.
                other = node.get("version") not in (None, self._held[node["system"]])
                severity = Severity.WARNING if other else Severity.ERROR
                what = "not a code of the loaded table of its system" + (
                    ", which is of another version" if other else ""
                )
                yield (
                    f"{place}.code",
                    Issue(severity=severity, code=IssueType.CODE_INVALID, text=f"{place}.code: {what}"),
                )
            elif isinstance(node.get("display"), str) and node["display"] not in displays:
                what = "not the display that the loaded table gives the code"
                yield (
                    f"{place}.display",
                    Issue(severity=Severity.WARNING, code=IssueType.CODE_INVALID, text=f"{place}.display: {what}"),
                )


# --- the answer -------------------------------------------------------------------------------------------------------


def _error(code: IssueType, text: str) -> Issue:
    return Issue(severity=Severity.ERROR, code=code, text=text)


def _outcome(found: list[Issue], *, bare: bool) -> Json:
    """`bare`: the official profiles were not there to check against."""
    issues = [issue_json(issue) for issue in found[:MAX_ISSUES]]
    if len(found) > MAX_ISSUES:
        issues.append(_information(IssueType.TOO_LONG, f"{len(found) - MAX_ISSUES} further issues are not listed"))
    if bare:
        what = "the official profiles are not loaded (`hyojun import-profiles`); only Hyojun's own rules were checked"
        issues.append(_information(IssueType.INCOMPLETE, what))
    if not found:
        issues.insert(0, _information(IssueType.INFORMATIONAL, "All OK"))
    return {"resourceType": "OperationOutcome", "issue": issues}


def _information(code: IssueType, text: str) -> Json:
    return {"severity": Severity.INFORMATION, "code": code, "diagnostics": text}
