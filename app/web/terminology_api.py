"""The loaded tables and the hospital's own codes as FHIR operations: `$lookup`, `$expand`, `$translate`.

Sources: https://hl7.org/fhir/R4/codesystem-operation-lookup.html, valueset-operation-expand.html,
conceptmap-operation-translate.html. Its routes must come before those that read a resource by type and id.

Code systems of the hospital's own codes: for tests and infections the one that JP-CLINS names, for drugs
http://jpfhir.jp/fhir/eCS/CodeSystem/DrugCode/1 with the ten digits of the institution (where they are set), for the
others `urn:hyojun:local:<kind>`. Value sets: `urn:hyojun:valueset:<kind>`, and `<code system>?fhir_vs`.
Concept maps: `urn:hyojun:conceptmap:<kind>`.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from app.db import Database
from app.errors import NotFound
from app.terminology import browse, local
from app.terminology.entries import LocalEntry
from app.web.fhir_wire import answers
from app.web.outcome import malformed
from app.web.wire import FHIR_TYPES, Body, check_fhir_format, fhir_response, json_body
from models import CodeSystemRelease
from schemas.coding import Coding
from schemas.statement import Kind

DEFAULT_COUNT, MAX_COUNT, MAX_OFFSET = 100, 1000, 1_000_000
"""Codes of one page of an expansion: without `count`, and at most."""
MAX_INPUT = 1000
"""Longest value of a parameter, in characters."""
CONCEPT_MAP = "urn:hyojun:conceptmap:"

Inputs = Mapping[str, Any]


def terminology_router(database: Database, institution_number: str | None = None) -> APIRouter:
    """`institution_number`: ten digits, which the system of the hospital's drug codes ends in."""
    responses = answers(200, 404, 413, 415)
    router = APIRouter(prefix="/fhir", tags=["terminology"], responses=responses, default_response_class=Response)
    systems = {kind: local.local_system(kind, institution_number) for kind in Kind}

    def answer(request: Request, inputs: Inputs, operation: Any) -> Response:
        check_fhir_format(request)
        with database.session_scope() as session:
            return fhir_response(operation(session, inputs))

    def lookup(session: Session, inputs: Inputs) -> dict[str, Any]:
        return _lookup(session, inputs, systems)

    def translate(session: Session, inputs: Inputs) -> dict[str, Any]:
        return _translate(session, inputs, systems)

    @router.get("/CodeSystem/$lookup")
    def get_lookup(request: Request) -> Response:
        """Display, other names and properties of a code: `system`, `code`, and `version` for an older table."""
        return answer(request, _query(request), lookup)

    @router.post("/CodeSystem/$lookup")
    def post_lookup(request: Request, body: Body) -> Response:
        """The same with a Parameters resource, which can hold a `coding` instead."""
        return answer(request, _parameters(request, body), lookup)

    @router.get("/ValueSet/$expand")
    def get_expand(request: Request) -> Response:
        """Codes of a loaded table, or of a kind of statement, that match `filter`: best first, `count` from `offset`."""
        return answer(request, _query(request), _expand)

    @router.post("/ValueSet/$expand")
    def post_expand(request: Request, body: Body) -> Response:
        """The same with a Parameters resource."""
        return answer(request, _parameters(request, body), _expand)

    @router.get("/ConceptMap/$translate")
    def get_translate(request: Request) -> Response:
        """What a local code means, or which local codes mean a standard one: `system`, `code`, `target`."""
        return answer(request, _query(request), translate)

    @router.post("/ConceptMap/$translate")
    def post_translate(request: Request, body: Body) -> Response:
        """The same with a Parameters resource, which can hold a `coding` or a `codeableConcept` instead."""
        return answer(request, _parameters(request, body), translate)

    @router.get("/CodeSystem")
    def search_code_systems(request: Request) -> Response:
        """The loaded tables, old versions too: `url`, `version`. Their codes are asked for with `$lookup`, `$expand`."""
        check_fhir_format(request)
        inputs = _query(request)
        with database.session_scope() as session:
            found = browse.releases(session, _text(inputs, "url"), _text(inputs, "version"))
        return fhir_response(_searchset(request, [_code_system(release) for release in found]))

    @router.get("/CodeSystem/{release_id}")
    def read_code_system(request: Request, release_id: UUID) -> Response:
        """One version of a loaded table, without its codes."""
        check_fhir_format(request)
        with database.session_scope() as session:
            found = [release for release in browse.releases(session) if release.id == release_id]
        if not found:
            raise NotFound("no code system of that id is loaded")
        return fhir_response(_code_system(found[0]))

    return router


# --- parameters in ----------------------------------------------------------------------------------------------------


def _query(request: Request) -> Inputs:
    return dict(request.query_params)


def _parameters(request: Request, body: bytes) -> Inputs:
    """Name -> value of a Parameters resource, the URL's own beside them."""
    resource = json_body(request, body, FHIR_TYPES)
    if not isinstance(resource, dict) or resource.get("resourceType") != "Parameters":
        raise malformed("the body must be a Parameters resource")
    parts = resource.get("parameter", [])
    inputs = dict(request.query_params)
    for part in parts if isinstance(parts, list) else [None]:
        if not isinstance(part, dict) or not isinstance(part.get("name"), str):
            raise malformed("parameter: must be a list of objects with a name")
        values = [value for key, value in part.items() if key.startswith("value")]
        if len(values) == 1:
            inputs[part["name"]] = values[0]
    return inputs


def _text(inputs: Inputs, name: str) -> str | None:
    value = inputs.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise malformed(f"{name}: must be a string")
    if len(value) > MAX_INPUT or any(char < " " or "\ud800" <= char <= "\udfff" for char in value):
        raise malformed(f"{name}: is longer than {MAX_INPUT} characters, or holds a control character")
    return value


def _required(inputs: Inputs, name: str) -> str:
    if (value := _text(inputs, name)) is None:
        raise malformed(f"{name}: is missing")
    return value


def _number(inputs: Inputs, name: str, default: int, most: int) -> int:
    value = inputs.get(name, default)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise malformed(f"{name}: must be a whole number from 0 to {most}")
    return value


def _flag(inputs: Inputs, name: str) -> bool:
    value = inputs.get(name, False)
    if value not in (True, False, "true", "false"):
        raise malformed(f"{name}: must be true or false")
    return value in (True, "true")


def _coding(inputs: Inputs) -> tuple[str, str, str | None]:
    """System, code and version of the parameters `system` and `code`, of `coding`, or of one in `codeableConcept`."""
    stated = inputs.get("coding")
    concept = inputs.get("codeableConcept")
    if stated is None and isinstance(concept, dict) and isinstance(concept.get("coding"), list):
        if len(concept["coding"]) != 1:
            raise malformed("codeableConcept: must hold one coding")
        stated = concept["coding"][0]
    if stated is not None and not isinstance(stated, dict):
        raise malformed("coding: must be a Coding")
    inputs = stated if stated is not None else inputs
    return _required(inputs, "system"), _required(inputs, "code"), _text(inputs, "version")


# --- $lookup ----------------------------------------------------------------------------------------------------------


def _lookup(session: Session, inputs: Inputs, systems: Mapping[Kind, str]) -> dict[str, Any]:
    system, code, version = _coding(inputs)
    if kinds := [kind for kind in Kind if systems[kind] == system]:
        return _lookup_local(session, kinds, code)
    found = browse.find(session, system, code, version)
    if found is None:
        raise NotFound("no loaded table has that code" + (" in that version" if version else ""))
    names = [name for name in found.names if name != found.coding.display]
    parameters: list[dict[str, Any]] = [
        {"name": "name", "valueString": _name(system)},
        *([{"name": "version", "valueString": found.coding.version}] if found.coding.version else []),
        {"name": "display", "valueString": found.coding.display},
        *({"name": "designation", "part": [{"name": "value", "valueString": name}]} for name in names),
        _property("inactive", "valueBoolean", found.inactive),
    ]
    if found.kana:
        parameters.append(_property("kana", "valueString", found.kana))
    parameters += [_property("coding", "valueCoding", _json(coding)) for coding in found.codings]
    parameters += [
        _property(name, "valueString", value)
        for name, value in found.facts.items() if value and name not in ("kana", "retired")
    ]  # fmt: skip
    wanted = _text(inputs, "property")
    return _answer(
        parameter
        for parameter in parameters
        if wanted is None or parameter["name"] != "property" or parameter["part"][0]["valueCode"] == wanted
    )


def _lookup_local(session: Session, kinds: list[Kind], code: str) -> dict[str, Any]:
    found = local.find_current(session, kinds, code)
    if not found:
        raise NotFound("the hospital has no such code")
    entry = found[0]
    targets = [_property("coding", "valueCoding", _json(entry.target))] if entry.target else []
    return _answer([
        {"name": "name", "valueString": f"Local{entry.kind.capitalize()}Codes"},
        {"name": "display", "valueString": entry.display},
        _property("inactive", "valueBoolean", False),
        *targets,
    ])  # fmt: skip


def _property(code: str, type_: str, value: Any) -> dict[str, Any]:
    return {"name": "property", "part": [{"name": "code", "valueCode": code}, {"name": "value", type_: value}]}


# --- $expand ----------------------------------------------------------------------------------------------------------


def _expand(session: Session, inputs: Inputs) -> dict[str, Any]:
    url = _required(inputs, "url")
    filter_ = _text(inputs, "filter") or ""
    count = _number(inputs, "count", DEFAULT_COUNT, MAX_COUNT)
    offset = _number(inputs, "offset", 0, MAX_OFFSET)
    active_only = _flag(inputs, "activeOnly")
    if len(filter_) > browse.MAX_FILTER:
        raise malformed(f"filter: has more than {browse.MAX_FILTER} characters")
    version = _text(inputs, "valueSetVersion")
    page = browse.expand(session, url, filter_, count=count, offset=offset, active_only=active_only, version=version)
    used: dict[str, Any] = {"filter": ("valueString", filter_), "activeOnly": ("valueBoolean", active_only)}
    parameters = [{"name": name, type_: value} for name, (type_, value) in used.items() if value]
    versions = sorted({f"{hit.coding.system}|{hit.coding.version}" for hit in page.hits if hit.coding.version})
    parameters += [{"name": "version", "valueUri": canonical} for canonical in versions]
    paging = [{"name": "count", "valueInteger": count}, {"name": "offset", "valueInteger": offset}]
    return {
        "resourceType": "ValueSet",
        "url": url,
        "status": "active",
        "expansion": {
            "identifier": f"urn:uuid:{uuid4()}",
            "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
            "total": page.total,
            "offset": offset,
            "parameter": [*parameters, *paging],
            **({"contains": [_contained(hit) for hit in page.hits]} if page.hits else {}),
        },
    }


def _contained(hit: browse.Hit) -> dict[str, Any]:
    inactive = {"inactive": True} if hit.inactive else {}
    return {**_json(hit.coding), **inactive}


# --- $translate -------------------------------------------------------------------------------------------------------


def _translate(session: Session, inputs: Inputs, systems: Mapping[Kind, str]) -> dict[str, Any]:
    system, code, _ = _coding(inputs)
    target = (_text(inputs, "targetsystem") or _text(inputs, "target") or "").removesuffix("?fhir_vs")
    url = _text(inputs, "url")
    kinds = set(Kind)
    if url is not None:
        kinds = {kind for kind in Kind if url == CONCEPT_MAP + kind}
        if not kinds:
            raise NotFound("no concept map of that url; there are " + ", ".join(CONCEPT_MAP + kind for kind in Kind))
    own = [kind for kind in kinds if systems[kind] == system]
    matches: list[tuple[Coding, LocalEntry]] = []
    if system in systems.values():
        entries = local.find_current(session, own, code)
        matches = [(entry.target, entry) for entry in entries if entry.target is not None]
    else:
        entries = [entry for entry in local.find_by_target(session, system, code) if entry.kind in kinds]
        matches = [
            (Coding(system=systems[entry.kind], code=entry.code, display=entry.display), entry) for entry in entries
        ]
    matches = [(coding, entry) for coding, entry in matches if target in ("", coding.system)]
    message = "the hospital has no such code" if not entries else "no mapping to the target"
    return _answer([
        {"name": "result", "valueBoolean": bool(matches)},
        *([] if matches else [{"name": "message", "valueString": message}]),
        *(
            {
                "name": "match",
                "part": [
                    {"name": "equivalence", "valueCode": "equivalent"},
                    {"name": "concept", "valueCoding": _json(coding)},
                    {"name": "source", "valueUri": CONCEPT_MAP + entry.kind},
                ],
            }
            for coding, entry in matches
        ),
    ])  # fmt: skip


# --- resources out ----------------------------------------------------------------------------------------------------


def _answer(parameters: Any) -> dict[str, Any]:
    return {"resourceType": "Parameters", "parameter": list(parameters)}


def _json(coding: Coding) -> dict[str, Any]:
    return coding.model_dump(exclude_none=True)


def _name(system: str) -> str:
    """The last part of the canonical: the tables' titles are their publishers' and are not stored."""
    return system.rstrip("/").rpartition("/")[2] or system


def _code_system(release: CodeSystemRelease) -> dict[str, Any]:
    return {
        "resourceType": "CodeSystem",
        "id": str(release.id),
        "url": release.system,
        "version": release.version,
        "name": _name(release.system),
        "status": "active" if release.active else "retired",
        # The codes are not in the resource; `count` is how many there are.
        "content": "not-present",
        "count": release.concepts,
    }


def _searchset(request: Request, resources: list[dict[str, Any]]) -> dict[str, Any]:
    base = str(request.base_url).rstrip("/") + "/fhir"
    used = {name: request.query_params[name] for name in ("url", "version") if request.query_params.get(name)}
    self_url = str(request.url.replace(query="")).rstrip("?")
    entries = [
        {
            "fullUrl": f"{base}/{resource['resourceType']}/{resource['id']}",
            "resource": resource,
            "search": {"mode": "match"},
        }
        for resource in resources
    ]
    return {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": len(resources),
        "link": [{"relation": "self", "url": f"{self_url}?{urlencode(used)}" if used else self_url}],
        **({"entry": entries} if entries else {}),
    }
