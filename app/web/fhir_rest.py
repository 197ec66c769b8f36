"""`/fhir`: read, vread, history, search, create, update, patch and delete of every stored type; transactions and batches.

Source: https://hl7.org/fhir/R4/http.html. The rules of single interactions: `app.web.fhir_interactions`; of search and its
pages: `app.web.fhir_results`; of Bundles: `app.web.fhir_bundles`. docs/fhir-rest.md lists each rule with its test.
"""

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from app.db import Database
from app.errors import Forbidden, NotFound
from app.fhir import Profiles
from app.store import versions
from app.store.versions import Version
from app.web import fhir_interactions as interactions
from app.web import fhir_results as results
from app.web.access import Who
from app.web.fhir_bundles import answer_bundle
from app.web.fhir_everything import everything
from app.web.fhir_interactions import PATCH_TYPES, Asker, Done, allow
from app.web.fhir_wire import (
    Return,
    answers,
    base_of,
    fhir_answer,
    fhir_body,
    fhir_value,
    not_modified,
    prefer,
    readable,
    takes,
    version_headers,
    version_of,
    version_path,
)
from app.web.outcome import malformed, method_not_allowed, outcome_json
from app.web.wire import Body, BundleBody, check_fhir_format, check_media
from schemas.access import Principal
from schemas.issue import Issue, IssueType, Severity

FORM = frozenset({"application/x-www-form-urlencoded"})
_ON_INSTANCE = ("GET", "HEAD", "PUT", "PATCH", "DELETE")
_WRITTEN = (403, 404, 405, 409, 410, 412, 413, 415, 422)


def fhir_router(database: Database, profiles: Callable[[], Profiles | None]) -> APIRouter:
    """Goes in after every other router under /fhir: its paths take any name for a type. `profiles`: what resources are
    checked against, None while none are loaded."""
    router = APIRouter(prefix="/fhir", tags=["fhir"], default_response_class=Response)

    def asker(session: Session, who: Principal) -> Asker:
        return Asker(session, who, profiles)

    # --- the whole server ---

    @router.post("", responses=answers(200, *_WRITTEN), openapi_extra=takes())
    @router.post("/", include_in_schema=False)
    def transaction(request: Request, body: BundleBody, who: Who) -> Response:
        """A transaction Bundle, all or nothing, or a batch Bundle, whose entries stand alone."""
        check_fhir_format(request)
        bundle = fhir_body(request, body)
        answer = answer_bundle(database, asker, who, bundle, base_of(request), prefer(request).returned)
        _noted(request, "Bundle", results.touched(answer))
        return fhir_answer(request, answer)

    @readable(router, "/_history", responses=answers(200, 403))
    def history_system(request: Request, who: Who) -> Response:
        """Every version that you may read, newest first: `_since`, `_count`."""
        return _history(request, who, None, None)

    # --- one type ---

    @readable(router, "/{resource_type}/_history", responses=answers(200, 403, 404, 405))
    def history_type(request: Request, resource_type: str, who: Who) -> Response:
        """Every version of every resource of the type, newest first: `_since`, `_count`."""
        allow(who, resource_type, "r")
        return _history(request, who, resource_type, None)

    @router.post("/{resource_type}/_search", responses=answers(200, 403, 404, 405, 413, 415), openapi_extra=takes(*FORM))
    def search_by_post(request: Request, resource_type: str, body: Body, who: Who) -> Response:
        """The same as GET, the parameters in a form, and in the URL beside it."""
        check_media(request, FORM)
        return _search(request, who, resource_type, [*request.query_params.multi_items(), *_form(body)])

    @readable(router, "/{resource_type}", also=("/{resource_type}/",), responses=answers(200, 403, 404, 405))
    def search(request: Request, resource_type: str, who: Who) -> Response:
        """Resources of the type by the search parameters that /fhir/metadata lists."""
        return _search(request, who, resource_type, request.query_params.multi_items())

    @router.post(
        "/{resource_type}", status_code=201, responses=answers(200, 201, *_WRITTEN), openapi_extra=takes()
    )
    @router.post("/{resource_type}/", include_in_schema=False)
    def create(request: Request, resource_type: str, body: Body, who: Who) -> Response:
        """Stores a resource under a new id; `If-None-Exist` makes it conditional."""
        check_fhir_format(request)
        allow(who, resource_type, "c")
        if _criteria(request):
            raise malformed("a create takes no search parameters; a condition stands in the header If-None-Exist")
        resource = fhir_body(request, body)
        condition = request.headers.get("if-none-exist")
        with database.session_scope() as session:
            done = interactions.create(asker(session, who), resource_type, resource, if_none_exist=condition)
        return _changed(request, done)

    @router.put("/{resource_type}", responses=answers(200, 201, *_WRITTEN), openapi_extra=takes())
    def update_by_condition(request: Request, resource_type: str, body: Body, who: Who) -> Response:
        """Updates the one resource that the search parameters find, or creates it."""
        check_fhir_format(request)
        allow(who, resource_type, "u")
        criteria, match = _needed(request), version_of(request.headers.get("if-match"))
        resource = fhir_body(request, body)
        with database.session_scope() as session:
            done = interactions.update_by(asker(session, who), resource_type, criteria, resource, if_match=match)
        return _changed(request, done)

    @router.patch("/{resource_type}", responses=answers(200, *_WRITTEN), openapi_extra=takes(*sorted(PATCH_TYPES)))
    def patch_by_condition(request: Request, resource_type: str, body: Body, who: Who) -> Response:
        """Patches the one resource that the search parameters find."""
        check_fhir_format(request)
        allow(who, resource_type, "u")
        criteria, match = _needed(request), version_of(request.headers.get("if-match"))
        media, change = _patch(request, body)
        with database.session_scope() as session:
            asking = asker(session, who)
            found = interactions.the_one(asking, resource_type, criteria)
            if found is None:
                raise NotFound("the condition finds no resource")
            done = interactions.patch(asking, resource_type, found, media, change, if_match=match)
        return _changed(request, done)

    @router.delete("/{resource_type}", status_code=204, responses=answers(200, 204, 403, 404, 405, 409, 412))
    def delete_by_condition(request: Request, resource_type: str, who: Who) -> Response:
        """Deletes the one resource that the search parameters find; 412 where they find several."""
        check_fhir_format(request)
        allow(who, resource_type, "d")
        criteria = _needed(request)
        with database.session_scope() as session:
            done = interactions.remove_by(asker(session, who), resource_type, criteria)
        return _deleted(request, done)

    # --- one resource ---

    @readable(router, "/Patient/{resource_id}/$everything", responses=answers(200, 403, 404, 410))
    def patient_everything(request: Request, resource_id: str, who: Who) -> Response:
        """The patient and all that is his: `start`, `end`, `_since`, `_type`, `_count`."""
        check_fhir_format(request)
        allow(who, "Patient", "rs")
        _named(request, "Patient", resource_id)
        with database.session_scope() as session:
            found = everything(session, who, resource_id, request.query_params.multi_items(), base_of(request))
        return fhir_answer(request, found)

    @readable(router, "/{resource_type}/{resource_id}", responses=answers(200, 304, 403, 404, 405, 410))
    def read(request: Request, resource_type: str, resource_id: str, who: Who) -> Response:
        """The newest version that you may see; with its weak ETag."""
        check_fhir_format(request)
        if resource_id.startswith("$"):
            raise NotFound("this server has no operation of that name")
        allow(who, resource_type, "r")
        _named(request, resource_type, resource_id)
        with database.session_scope() as session:
            version = versions.read(session, resource_type, resource_id, who)
        headers = version_headers(version)
        stated = request.headers
        if not_modified(version, stated.get("if-none-match"), stated.get("if-modified-since")):
            return Response(status_code=304, headers=headers)
        return fhir_answer(request, results.shown(version, request.query_params.multi_items()), 200, headers)

    @readable(router, "/{resource_type}/{resource_id}/_history", responses=answers(200, 403, 404, 405))
    def history(request: Request, resource_type: str, resource_id: str, who: Who) -> Response:
        """The versions of a resource, newest first: `_since`, `_count`."""
        allow(who, resource_type, "r")
        _named(request, resource_type, resource_id)
        return _history(request, who, resource_type, resource_id)

    @readable(
        router, "/{resource_type}/{resource_id}/_history/{version_id}", responses=answers(200, 403, 404, 405, 410)
    )
    def vread(request: Request, resource_type: str, resource_id: str, version_id: str, who: Who) -> Response:
        """One version of a resource."""
        check_fhir_format(request)
        allow(who, resource_type, "r")
        _named(request, resource_type, resource_id)
        if not (version_id.isascii() and version_id.isdigit() and 1 <= len(version_id) <= 9):
            raise NotFound("no such version")
        with database.session_scope() as session:
            version = versions.read_version(session, resource_type, resource_id, int(version_id), who)
        return fhir_answer(request, version.served(), 200, version_headers(version))

    @router.put("/{resource_type}/{resource_id}", responses=answers(200, 201, *_WRITTEN), openapi_extra=takes())
    def update(request: Request, resource_type: str, resource_id: str, body: Body, who: Who) -> Response:
        """A new version of the resource; creates it where there is none. `If-Match`: of this version only."""
        check_fhir_format(request)
        allow(who, resource_type, "u")
        _named(request, resource_type, resource_id)
        match = version_of(request.headers.get("if-match"))
        resource = fhir_body(request, body)
        with database.session_scope() as session:
            done = interactions.update(asker(session, who), resource_type, resource_id, resource, if_match=match)
        return _changed(request, done)

    @router.patch(
        "/{resource_type}/{resource_id}",
        responses=answers(200, *_WRITTEN),
        openapi_extra=takes(*sorted(PATCH_TYPES)),
    )
    def patch(request: Request, resource_type: str, resource_id: str, body: Body, who: Who) -> Response:
        """JSON Patch (application/json-patch+json), or a merge patch (application/merge-patch+json, application/json)."""
        check_fhir_format(request)
        allow(who, resource_type, "u")
        _named(request, resource_type, resource_id)
        match = version_of(request.headers.get("if-match"))
        media, change = _patch(request, body)
        with database.session_scope() as session:
            done = interactions.patch(asker(session, who), resource_type, resource_id, media, change, if_match=match)
        return _changed(request, done)

    @router.delete(
        "/{resource_type}/{resource_id}", status_code=204, responses=answers(200, 204, 403, 404, 405, 409, 412)
    )
    def delete(request: Request, resource_type: str, resource_id: str, who: Who) -> Response:
        """Deletes the resource; its versions stay in its history. 204 also where there was none."""
        check_fhir_format(request)
        allow(who, resource_type, "d")
        _named(request, resource_type, resource_id)
        match = version_of(request.headers.get("if-match"))
        with database.session_scope() as session:
            done = interactions.remove(asker(session, who), resource_type, resource_id, if_match=match)
        return _deleted(request, done)

    @router.post("/{resource_type}/{resource_id}", include_in_schema=False)
    def no_operation(resource_type: str, resource_id: str, who: Who) -> Response:
        """POST on one resource is no interaction; a name with $ is that of an operation that is not there."""
        if resource_id.startswith("$"):
            raise NotFound("this server has no operation of that name")
        interactions.check_type(resource_type)
        raise method_not_allowed(*_ON_INSTANCE)

    # --- shared ---

    def _search(
        request: Request, who: Principal, type_: str, parameters: Sequence[tuple[str, str]]
    ) -> Response:
        check_fhir_format(request)
        allow(who, type_, "s")
        wish = prefer(request)
        with database.session_scope() as session:
            found = results.searchset(
                session, who, type_, parameters, base_of(request), strict=wish.strict, told=wish.lenient
            )
        _noted(request, type_, results.ids_of(found))
        return fhir_answer(request, found)

    def _history(request: Request, who: Principal, type_: str | None, id_: str | None) -> Response:
        check_fhir_format(request)
        if type_ is None and not who.scopes:
            raise Forbidden("this needs a scope that lets you read resources")
        with database.session_scope() as session:
            parameters = request.query_params.multi_items()
            found = results.history(session, who, type_, id_, parameters, base_of(request))
        _noted(request, type_, [id_] if id_ else results.ids_of(found))
        return fhir_answer(request, found)

    return router


# --- requests ---------------------------------------------------------------------------------------------------------


def _criteria(request: Request) -> str:
    """The query as written, without what only says how to answer."""
    parts = request.url.query.split("&")
    return "&".join(part for part in parts if part and part.partition("=")[0] not in results.ABOUT_ANSWER)


def _needed(request: Request) -> str:
    """Raises: Refused for a change of a whole type without a condition."""
    if criteria := _criteria(request):
        return criteria
    raise malformed("without an id this needs search parameters that find one resource")


def _form(body: bytes) -> list[tuple[str, str]]:
    """Raises: Refused."""
    try:
        return parse_qsl(body.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=200)
    except ValueError:
        raise malformed("the form is not UTF-8, or has more than 200 fields") from None


def _patch(request: Request, body: bytes) -> tuple[str, Any]:
    media = check_media(request, PATCH_TYPES)
    return media or "application/json", fhir_value(body)


def _noted(request: Request, type_: str | None, ids: Sequence[str]) -> None:
    """For the record of who looked at what."""
    request.state.audit = {"type": type_, "ids": list(ids)}


def _named(request: Request, type_: str, id_: str) -> None:
    """The same for one resource that the URL names. Raises: NotFound."""
    interactions.check_id(id_)
    _noted(request, type_, [id_])


# --- answers ----------------------------------------------------------------------------------------------------------


def _changed(request: Request, done: Done) -> Response:
    version = done.version
    assert version is not None
    _noted(request, version.type, [version.id])
    headers = version_headers(version) | {"Location": f"{base_of(request)}/{version_path(version)}"}
    wanted = prefer(request).returned
    if wanted is Return.MINIMAL:
        return Response(status_code=done.status, headers=headers)
    body = version.served() if wanted is Return.REPRESENTATION else _done(version)
    return fhir_answer(request, body, done.status, headers)


def _deleted(request: Request, done: Done) -> Response:
    headers = {"ETag": f'W/"{done.version.version}"'} if done.version else {}
    if done.version is not None and prefer(request).returned is Return.OUTCOME:
        return fhir_answer(request, _done(done.version), 200, headers)
    return Response(status_code=204, headers=headers)


def _done(version: Version) -> dict[str, Any]:
    text = f"{version_path(version)}: stored" if version.content is not None else f"{version_path(version)}: deleted"
    return outcome_json([Issue(severity=Severity.INFORMATION, code=IssueType.INFORMATIONAL, text=text)])
