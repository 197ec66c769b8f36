"""`/fhir/metadata`: what this server does under /fhir, read off its routes and the search parameters of its store.

Source: https://hl7.org/fhir/R4/capabilitystatement.html and http.html#capabilities; the security part as in
https://hl7.org/fhir/smart-app-launch/STU2/conformance.html.
"""

import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import iter_route_contexts

from app import fhir
from app.fhir.codes import LOCAL
from app.store.parameters import COMMON, DEFINITIONS, PARAMETERS, STORED_TYPES, ParameterType, SearchParameter
from app.web.fhir_interactions import OWN_FACES, PATCH_TYPES
from app.web.fhir_wire import Json, answers, base_of, readable, text_answer
from app.web.wire import check_fhir_format

DATE = "2026-11-23"
"""When what the statement says last changed."""
MAX_ADDRESSES = 16
"""Statements kept; each holds the address in its links."""
_OPERATIONS = {
    "validate": "http://hl7.org/fhir/OperationDefinition/Resource-validate",
    "everything": "http://hl7.org/fhir/OperationDefinition/Patient-everything",
    "lookup": "http://hl7.org/fhir/OperationDefinition/CodeSystem-lookup",
    "expand": "http://hl7.org/fhir/OperationDefinition/ValueSet-expand",
    "translate": "http://hl7.org/fhir/OperationDefinition/ConceptMap-translate",
}
_EXPORTS = {
    "": "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/export",
    "Patient": "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/patient-export",
    "Group": "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/group-export",
}
_DOCUMENTATION = {
    "DocumentReference": (
        "A create takes a note: it is queued for conversion and answered with a Task (202); the DocumentReference is written "
        "by the conversion. An update stores the DocumentReference as it is, and converts nothing."
    ),
    "ValueSet": "Value sets: <code system>?fhir_vs, urn:hyojun:valueset:<kind>.",
    "ConceptMap": (
        "Maps of the hospital's own codes: urn:hyojun:conceptmap:<kind>. Own codes of tests and infections stand "
        "in JP_CLINS_ObsLabResult_LocalCode_CS, of drugs in http://jpfhir.jp/fhir/eCS/CodeSystem/DrugCode/1<ten "
        "digits> (urn:hyojun:local:prescription without an institution number), others in "
        "urn:hyojun:local:<kind>."
    ),
    "Subscription": (
        "rest-hook alone: a POST without a body, or with the payload application/fhir+json a PUT of each resource; criteria: "
        "a type, with any of its search parameters; an endpoint must be on a host that the operator allows. What is told: "
        "releases. Each client sees its own."
    ),
    "Task": "The conversion of a note.",
}
_STORED = (
    "read", "vread", "update", "patch", "delete", "history-instance", "history-type", "create", "search-type",
)  # fmt: skip
# A route of one named type -> the interaction that it is.
_INTERACTIONS = {
    ("GET", False): "search-type", ("POST", False): "create",
    ("GET", True): "read", ("PUT", True): "update", ("DELETE", True): "delete",
}  # fmt: skip
_TOKEN_PATH = "/auth/token"  # noqa: S105


def capabilities_router(version: str) -> APIRouter:
    router = APIRouter(prefix="/fhir", tags=["fhir"], default_response_class=Response)

    kept: dict[str, tuple[str, str]] = {}
    """Text and ETag, by the address that this server was asked under."""

    @readable(router, "/metadata", responses=answers(200, 304))
    def metadata(request: Request) -> Response:
        """The CapabilityStatement; needs no login. Its ETag changes with its content."""
        check_fhir_format(request)
        base = base_of(request)
        if base not in kept:
            if len(kept) >= MAX_ADDRESSES:
                kept.clear()
            made = fhir.dumps(capabilities(request, version))
            kept[base] = (made, f'W/"{hashlib.sha256(made.encode()).hexdigest()[:16]}"')
        text, etag = kept[base]
        if etag in (part.strip() for part in request.headers.get("if-none-match", "").split(",")):
            return Response(status_code=304, headers={"ETag": etag})
        return text_answer(request, text, 200, {"ETag": etag})

    return router


def capabilities(request: Request, version: str) -> Json:
    routes = list(_routes(request))
    operations = sorted({(path[0] if len(path) > 1 else "", path[-1][1:]) for _, path in routes if path[-1][:1] == "$"})
    resources = [_stored(type_, tuple(operations)) for type_ in STORED_TYPES]
    resources += [found for type_ in sorted(OWN_FACES) if (found := _own_face(type_, routes, operations))]
    paths = {context.path for context in iter_route_contexts(request.app.routes)}
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": DATE,
        "kind": "instance",
        "software": {"name": "Hyojun", "version": version},
        "implementation": {"description": "Hyojun: chart notes to FHIR and SS-MIX2", "url": base_of(request)},
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "json"],
        "patchFormat": sorted(PATCH_TYPES),
        **_instantiates(operations),
        "rest": [
            {
                "mode": "server",
                "security": _security(str(request.base_url).rstrip("/") if _TOKEN_PATH in paths else None),
                "resource": resources,
                "interaction": [{"code": code} for code in ("transaction", "batch", "history-system")],
                "operation": _operations("", operations),
            }
        ],
    }


def _routes(request: Request) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Method, and path below /fhir in its segments, of every route there."""
    for context in iter_route_contexts(request.app.routes):
        path = context.path or ""
        if path.startswith("/fhir/"):
            segments = tuple(part for part in path.removeprefix("/fhir/").split("/") if part)
            yield from ((method, segments) for method in context.methods or () if segments)


@cache
def _stored(type_: str, operations: tuple[tuple[str, str], ...]) -> Json:
    parameters = PARAMETERS[type_]
    stated: Json = {
        "type": type_,
        "interaction": [{"code": code} for code in _STORED],
        "versioning": "versioned",
        "readHistory": True,
        "updateCreate": True,
        "conditionalCreate": type_ != "DocumentReference",
        "conditionalRead": "full-support",
        "conditionalUpdate": True,
        "conditionalDelete": "single",
        "referencePolicy": ["literal", "logical", "local"],
        "searchRevInclude": sorted(
            f"{other}:{name}"
            for other, found in PARAMETERS.items()
            for name, p in found.items()
            if type_ in p.stored_targets
        ),
        "searchParam": [
            {"name": "_id", "type": "token", "definition": f"{DEFINITIONS}Resource-id"},
            {"name": "_lastUpdated", "type": "date", "definition": f"{DEFINITIONS}Resource-lastUpdated"},
            *(_parameter(p) for p in sorted(parameters.values(), key=lambda p: p.name)),
        ],
    }
    if includes := sorted(f"{type_}:{name}" for name, p in parameters.items() if p.stored_targets):
        stated["searchInclude"] = includes
    if type_ in _DOCUMENTATION:
        stated["documentation"] = _DOCUMENTATION[type_]
    found = _operations(type_, operations)
    return {**stated, "operation": found} if found else stated


def _parameter(parameter: SearchParameter) -> Json:
    stated: Json = {"name": parameter.name, "type": parameter.type.value, "definition": parameter.definition}
    if parameter.type is ParameterType.REFERENCE and parameter.stored_targets and parameter.name not in COMMON:
        shown = ", ".join(parameter.stored_targets if "*" not in parameter.targets else ("any type",))
        stated["documentation"] = f"Refers to {shown}."
    return stated


def _own_face(type_: str, routes: Iterable[tuple[str, tuple[str, ...]]], operations: Iterable[tuple[str, str]]) -> Json | None:
    """A type with routes of its own; None while it has none."""
    interactions = sorted(
        {
            _INTERACTIONS[method, len(path) == 2]
            for method, path in routes
            if path[0] == type_ and (len(path) == 1 or path[1:2] and path[1].startswith("{") and len(path) == 2)
            and (method, len(path) == 2) in _INTERACTIONS
        }
    )  # fmt: skip
    found = _operations(type_, operations)
    if not interactions and not found:
        return None
    stated: Json = {"type": type_}
    if interactions:
        stated["interaction"] = [{"code": code} for code in interactions]
    if type_ == "CodeSystem":
        stated["searchParam"] = [{"name": "url", "type": "uri"}, {"name": "version", "type": "token"}]
    if type_ == "Subscription":
        stated["searchParam"] = [
            {"name": "_id", "type": "token", "definition": f"{DEFINITIONS}Resource-id"},
            {"name": "criteria", "type": "string", "definition": f"{DEFINITIONS}Subscription-criteria"},
            {"name": "status", "type": "token", "definition": f"{DEFINITIONS}Subscription-status"},
            {"name": "url", "type": "uri", "definition": f"{DEFINITIONS}Subscription-url"},
        ]
    if type_ in _DOCUMENTATION:
        stated["documentation"] = _DOCUMENTATION[type_]
    return {**stated, "operation": found} if found else stated


def _operations(type_: str, operations: Iterable[tuple[str, str]]) -> list[Json]:
    """Of one type, or of the whole server (""); `$validate` is every stored type's."""
    named = [name for of_type, name in operations if of_type == type_]
    if type_ in STORED_TYPES:
        named += [name for of_type, name in operations if of_type.startswith("{")]
    return [{"name": name, "definition": _definition(type_, name)} for name in sorted(set(named))]


def _definition(type_: str, name: str) -> str:
    if name == "export":
        return _EXPORTS.get(type_, f"{LOCAL}/OperationDefinition/export")
    return _OPERATIONS.get(name, f"{LOCAL}/OperationDefinition/{name}")


def _instantiates(operations: Iterable[tuple[str, str]]) -> dict[str, Any]:
    if ("", "export") not in operations:
        return {}
    return {"instantiates": ["http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data"]}


def _security(address: str | None) -> Json:
    """`address`: of this server, where it gives out tokens itself."""
    stated: Json = {
        "cors": False,
        "description": "Every interaction needs a bearer token (SMART Backend Services), or a person's session.",
    }
    if address is None:
        return stated
    service = {"system": "http://terminology.hl7.org/CodeSystem/restful-security-service", "code": "SMART-on-FHIR"}
    oauth = {
        "url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
        "extension": [{"url": "token", "valueUri": f"{address}{_TOKEN_PATH}"}],
    }
    return {**stated, "service": [{"coding": [service]}], "extension": [oauth]}
