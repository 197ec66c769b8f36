"""Bulk exports at /fhir: kick-off, status, files, deletion.

Source: FHIR Bulk Data Access 2.0.0, https://hl7.org/fhir/uv/bulkdata/STU2/export.html; what a server need not support of it
is refused (400) or, on `Prefer: handling=lenient`, ignored and named in a file of the manifest's `error`.
"""

import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import StreamingResponse

from app import bulk_export
from app.bulk_export import Preparer
from app.db import Database
from app.errors import Forbidden, InvalidInput
from app.store.parameters import STORED_TYPES
from app.web.access import Who
from app.web.fhir_wire import answers, base_of, fhir_body, http_date, prefer
from app.web.outcome import Refused, malformed, not_acceptable
from app.web.wire import Body, check_fhir_format, json_response
from models import ExportState
from schemas.access import Principal
from schemas.bulk import ExportFile, ExportLevel, FileKind, Selection, TypeFilter
from schemas.review import AuditAction

NDJSON = "application/fhir+ndjson"
_FORMATS = frozenset({NDJSON, "application/ndjson", "ndjson"})
RETRY_SECONDS = 1
"""Before the next look at the status: an export is a list of versions, and soon made."""
_JAPAN = timezone(timedelta(hours=9))
_FILE_NAME = re.compile(r"[A-Za-z]{1,64}(-deleted)?-[1-9][0-9]{0,5}")
# A part of _typeFilter begins with a type; a comma within a search's value, not quoted again, begins none.
_NEXT_FILTER = re.compile(r",(?=[A-Z][A-Za-z]*\?)")
_GROUP_ID = r"^[A-Za-z0-9.-]{1,64}$"
_KNOWN = frozenset({"_type", "_since", "_typeFilter", "_outputFormat", "patient"})
_QUERY = [
    {"name": name, "in": "query", "required": False, "schema": {"type": "string"}}
    for name in ("_type", "_since", "_typeFilter", "_outputFormat")
]
_HEADER = {"name": "Prefer", "in": "header", "required": False, "schema": {"type": "string", "example": "respond-async"}}


def bulk_router(database: Database, *, keep_hours: float) -> APIRouter:
    """`keep_hours`: for so long an export can be fetched. Goes in before the routers of more general paths."""
    router = APIRouter(prefix="/fhir", tags=["bulk"], default_response_class=Response)
    preparer = Preparer(database)

    def kick_off(request: Request, who: Principal, level: ExportLevel, group: str | None, body: bytes | None) -> Response:
        check_fhir_format(request)
        if "respond-async" not in request.headers.get("prefer", "").lower():
            raise malformed("$export is answered later: send Prefer: respond-async")
        written = list(request.query_params.multi_items())
        if body:
            written += _parameters(fhir_body(request, body))
        try:
            selection = _selection(written, who, level, group, lenient=prefer(request).lenient)
            with database.session_scope() as session:
                export_id = bulk_export.request(session, selection, str(request.url), who, keep_hours=keep_hours)
        except InvalidInput as error:
            raise malformed(str(error)) from None
        preparer.start(export_id)
        return Response(status_code=202, headers={"Content-Location": _status_url(request, export_id)})

    def offer(path: str, level: ExportLevel) -> None:
        said = without_body(202, answers(202, 404, 410, 413, 415))
        extra: dict[str, Any] = {"parameters": [*_QUERY, _HEADER]}
        if level is ExportLevel.GROUP:

            def get(request: Request, who: Who, group: Annotated[str, Path(pattern=_GROUP_ID)]) -> Response:
                return kick_off(request, who, level, group, None)

            def post(request: Request, who: Who, group: Annotated[str, Path(pattern=_GROUP_ID)], body: Body) -> Response:
                return kick_off(request, who, level, group, body)

        else:

            def get(request: Request, who: Who) -> Response:  # type: ignore[misc]
                return kick_off(request, who, level, None, None)

            def post(request: Request, who: Who, body: Body) -> Response:  # type: ignore[misc]
                return kick_off(request, who, level, None, body)

        options: dict[str, Any] = {"status_code": 202, "responses": said, "openapi_extra": extra}
        router.add_api_route(path, get, methods=["GET"], name=f"export_{level}", **options)
        router.add_api_route(path, post, methods=["POST"], name=f"export_{level}_post", **options)

    offer("/$export", ExportLevel.SYSTEM)
    offer("/Patient/$export", ExportLevel.PATIENT)
    offer("/Group/{group}/$export", ExportLevel.GROUP)

    @router.get("/$export/{export_id}", responses=without_body(202, _gives("application/json", answers(200, 202, 404))))
    def status(request: Request, export_id: UUID, who: Who) -> Response:
        """202 with X-Progress and Retry-After until the export is there; then its manifest."""
        _check_accept(request, "application/json", "application/fhir+json")
        with database.session_scope() as session:
            export = bulk_export.status(session, export_id, who)
        if export.state == ExportState.ACCEPTED:
            # If the process that prepared it was killed, this one does it.
            preparer.start(export_id)
            headers = {"X-Progress": preparer.progress(export_id), "Retry-After": str(RETRY_SECONDS)}
            return Response(status_code=202, headers=headers)
        if export.state == ExportState.FAILED:
            raise Refused(500, export.reason or "the export failed")
        assert export.transaction_at is not None
        manifest = {
            "transactionTime": export.transaction_at.isoformat(timespec="milliseconds"),
            "request": export.url,
            "requiresAccessToken": True,
            **{kind.value: _listed(request, export_id, export.files, kind) for kind in FileKind},
        }
        return json_response(manifest, 200, {"Expires": http_date(export.expires_at)})

    @router.delete("/$export/{export_id}", status_code=202, responses=without_body(202, answers(202, 404)))
    def drop(export_id: UUID, who: Who) -> Response:
        """Cancels the export, or says that it is fetched. 404 from then on."""
        with database.session_scope() as session:
            bulk_export.drop(session, export_id, who)
        preparer.sweep()
        return Response(status_code=202)

    @router.get("/$export/{export_id}/{name}", responses=_gives(NDJSON, answers(200, 403, 404)))
    def fetch(
        request: Request, export_id: UUID, name: Annotated[str, Path(pattern=_FILE_NAME.pattern)], who: Who
    ) -> Response:
        """A file of the manifest: one resource a line."""
        _check_accept(request, *_FORMATS)
        with database.session_scope() as session:
            found = bulk_export.find_file(session, export_id, name, who)
        request.state.audit = {"action": AuditAction.EXPORT, "type": found.file.type, "ids": (export_id,)}
        return StreamingResponse(bulk_export.lines(database, found), media_type=NDJSON)

    return router


def _listed(request: Request, export_id: UUID, files: list[dict[str, Any]], kind: FileKind) -> list[dict[str, Any]]:
    base = _status_url(request, export_id)
    found = [file for file in map(ExportFile.model_validate, files) if file.kind is kind]
    types = {FileKind.DELETED: "Bundle", FileKind.ERROR: "OperationOutcome"}
    return [{"type": types.get(kind, file.type), "url": f"{base}/{file.name}", "count": file.count} for file in found]


def _status_url(request: Request, export_id: UUID) -> str:
    return f"{base_of(request)}/$export/{export_id}"


def _check_accept(request: Request, *offered: str) -> None:
    """Raises: Refused (406)."""
    wanted = {part.partition(";")[0].strip().lower() for part in request.headers.get("accept", "*/*").split(",")}
    if not wanted & {"*/*", "application/*", "", *offered}:
        raise not_acceptable(f"this is answered in {offered[0]}")


def without_body(status: int, said: dict[int | str, dict[str, Any]]) -> dict[int | str, dict[str, Any]]:
    """The answers of a route that says what it has to say in headers."""
    return {**said, status: {"description": "taken; see the headers"}}


def _gives(media: str, said: dict[int | str, dict[str, Any]]) -> dict[int | str, dict[str, Any]]:
    """The answers of a route whose 200 is no FHIR."""
    return {**said, 200: {"description": "what was asked for", "content": {media: {"schema": {}}}}}


# --- what was asked for -------------------------------------------------------------------------------------------------


def _parameters(resource: dict[str, Any]) -> list[tuple[str, str]]:
    """The parameters of a POST as those of a GET. Raises: InvalidInput, Refused."""
    parts = resource.get("parameter", [])
    if resource.get("resourceType") != "Parameters" or not isinstance(parts, list):
        raise malformed("the body must be Parameters")
    found = []
    for part in parts:
        name = part.get("name") if isinstance(part, dict) else None
        values = [value for key, value in part.items() if key.startswith("value")] if isinstance(name, str) else []
        value = values[0] if len(values) == 1 else None
        if isinstance(value, dict):
            value = value.get("reference")
        if isinstance(value, bool):
            value = str(value).lower()
        if not isinstance(name, str) or not isinstance(value, str):
            raise malformed("parameter: each must have a name and one value, a string, an instant or a reference")
        found.append((name, value))
    return found


def _selection(
    written: list[tuple[str, str]], who: Principal, level: ExportLevel, group: str | None, *, lenient: bool
) -> Selection:
    """Raises: InvalidInput, Forbidden."""
    warnings: list[str] = []

    def ignore(what: str) -> None:
        if not lenient:
            raise InvalidInput(f"{what}; Prefer: handling=lenient ignores it")
        warnings.append(f"ignored: {what}")

    def stated(name: str) -> list[str]:
        return [value for key, value in written if key == name and value]

    for name in sorted({name for name, _ in written} - _KNOWN - {"_format", "_pretty"}):
        ignore(f"a parameter that is not supported: {name}" if _named(name) else "a parameter that is not supported")
    for form in stated("_outputFormat"):
        # `+` in a query is a space.
        if form.partition(";")[0].strip().replace(" ", "+") not in _FORMATS:
            raise InvalidInput(f"_outputFormat: must be {NDJSON}")
    return Selection(
        level=level,
        group=group,
        types=_types(stated("_type"), who, level, ignore),
        since=_since(stated("_since")),
        filters=tuple(_filters(stated("_typeFilter"), ignore)),
        patients=_patients(stated("patient"), level),
        warnings=tuple(warnings),
    )


def _named(name: str) -> bool:
    """Is it a name, that may be repeated in an answer?"""
    return re.fullmatch(r"_?[A-Za-z][A-Za-z-]{0,40}", name) is not None


def _types(written: list[str], who: Principal, level: ExportLevel, ignore: Callable[[str], None]) -> tuple[str, ...]:
    offered = [t for t in STORED_TYPES if level is ExportLevel.SYSTEM or t in bulk_export.PATIENT_TYPES]
    named = {part.strip() for value in written for part in value.split(",") if part.strip()}
    for name in sorted(named.difference(offered)):
        known = name if name in STORED_TYPES else "a type that is not stored here"
        ignore(f"_type: {known} is not in this export")
    chosen = [type_ for type_ in offered if type_ in named] if written else offered
    allowed = [type_ for type_ in chosen if who.may(type_, "r")]
    if named and len(allowed) < len(chosen) or not allowed and not written:
        raise Forbidden("this needs the scope system/<type>.r for each type")
    return tuple(allowed)


def _since(written: list[str]) -> datetime | None:
    if not written:
        return None
    if len(written) > 1:
        raise InvalidInput("_since: must be stated once")
    try:
        # `+` in a query is a space.
        at = datetime.fromisoformat(re.sub(r" (?=[0-9]{2}:[0-9]{2}$)", "+", written[0]))
    except ValueError:
        raise InvalidInput("_since: must be an instant, as 2026-04-01T00:00:00+09:00") from None
    return at if at.tzinfo else at.replace(tzinfo=_JAPAN)


def _filters(written: list[str], ignore: Callable[[str], None]) -> list[TypeFilter]:
    found = []
    for value in written:
        for part in _NEXT_FILTER.split(value):
            type_, mark, query = part.partition("?")
            if not mark or not query:
                raise InvalidInput("_typeFilter: must be <type>?<search>")
            if type_ not in STORED_TYPES:
                ignore("_typeFilter: a type that is not stored here")
                continue
            found.append(TypeFilter(type=type_, query=query))
    return found


def _patients(written: list[str], level: ExportLevel) -> tuple[str, ...] | None:
    if not written:
        return None
    if level is ExportLevel.SYSTEM:
        raise InvalidInput("patient: is for Patient/$export and Group/[id]/$export")
    ids = [part.strip().rpartition("Patient/")[2] for value in written for part in value.split(",")]
    if not all(re.fullmatch(_GROUP_ID, id_) for id_ in ids):
        raise InvalidInput("patient: must be references, Patient/<id>")
    return tuple(dict.fromkeys(ids))
