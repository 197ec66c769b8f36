"""Errors on the wire: OperationOutcome under /fhir, problem+json (RFC 9457) elsewhere. HTTP statuses live here.

A body says which field and why, never what was in it; a fault of ours says only that there was one.
"""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import InterfaceError, OperationalError
from starlette.exceptions import HTTPException

from app.db import json_dumps
from app.errors import HyojunError, NotSignedIn, Stale, TooMany
from schemas.issue import IssueType

log = logging.getLogger(__name__)

FHIR_JSON = "application/fhir+json"
PROBLEM_JSON = "application/problem+json"

_STATUS = {
    IssueType.LOGIN: 401,
    IssueType.FORBIDDEN: 403,
    IssueType.NOT_FOUND: 404,
    IssueType.DELETED: 410,
    IssueType.THROTTLED: 429,
    IssueType.CONFLICT: 409,
    IssueType.TOO_LONG: 413,
    IssueType.INVALID: 422,
    IssueType.TRANSIENT: 503,
}
# https://hl7.org/fhir/R4/valueset-issue-type.html: what a bare HTTP status amounts to.
_ISSUE = {
    400: IssueType.STRUCTURE,
    401: IssueType.LOGIN,
    403: IssueType.FORBIDDEN,
    404: IssueType.NOT_FOUND,
    405: IssueType.NOT_SUPPORTED,
    406: IssueType.NOT_SUPPORTED,
    410: IssueType.DELETED,
    412: IssueType.CONFLICT,
    413: IssueType.TOO_LONG,
    415: IssueType.NOT_SUPPORTED,
    429: IssueType.THROTTLED,
}


class Refused(Exception):
    """A request that HTTP itself refuses: cannot be parsed (400), wrong media type (406, 415)."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


def malformed(detail: str) -> Refused:
    return Refused(400, detail)


def not_acceptable(detail: str) -> Refused:
    return Refused(406, detail)


def unsupported_media(detail: str) -> Refused:
    return Refused(415, detail)


def install(app: FastAPI) -> None:
    """Every error of `app`, the framework's own too, leaves in one of the two forms."""

    def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        return _answer(request, error.status, _ISSUE.get(error.status, IssueType.INVALID), error.detail)

    def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, HyojunError)
        status = 412 if isinstance(error, Stale) else _STATUS.get(error.issue_type, 500)
        if status >= 500:
            log.error("request failed", exc_info=error, extra={"path": _route(request)})
        headers = {"Retry-After": "5"} if error.retryable and status == 503 else {}
        if isinstance(error, TooMany):
            headers = {"Retry-After": str(error.seconds)}
        elif isinstance(error, NotSignedIn):
            headers = {"WWW-Authenticate": 'Bearer realm="hyojun"'}
        return _answer(request, status, error.issue_type, str(error), headers)

    def framework(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        issue = _ISSUE.get(error.status_code, IssueType.INVALID if error.status_code < 500 else IssueType.EXCEPTION)
        return _answer(request, error.status_code, issue, HTTPStatus(error.status_code).phrase, error.headers or {})

    def parameters(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        places = sorted({".".join(str(part) for part in detail["loc"]) for detail in error.errors()})
        if all(place.startswith("path.") for place in places):  # an id that no row can have
            return _answer(request, 404, IssueType.NOT_FOUND, "Not Found")
        return _answer(request, 422, IssueType.INVALID, "cannot be read: " + ", ".join(places))

    def database(request: Request, error: Exception) -> Response:
        log.error("database unavailable", exc_info=error, extra={"path": _route(request)})
        return _answer(request, 503, IssueType.TRANSIENT, "the database does not answer", {"Retry-After": "5"})

    def unforeseen(request: Request, error: Exception) -> Response:
        return _answer(request, 500, IssueType.EXCEPTION, "an error of this server; its log says more")

    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(HyojunError, ours)
    app.add_exception_handler(HTTPException, framework)
    app.add_exception_handler(RequestValidationError, parameters)
    app.add_exception_handler(OperationalError, database)
    app.add_exception_handler(InterfaceError, database)
    app.add_exception_handler(Exception, unforeseen)


def _answer(
    request: Request, status: int, issue: IssueType, detail: str, headers: Mapping[str, str] | None = None
) -> Response:
    if request.url.path == "/fhir" or request.url.path.startswith("/fhir/"):
        severity = "fatal" if issue is IssueType.EXCEPTION else "error"
        body: dict[str, Any] = {
            "resourceType": "OperationOutcome",
            "issue": [{"severity": severity, "code": issue, "diagnostics": detail}],
        }
        media = FHIR_JSON
    else:
        title = HTTPStatus(status).phrase
        body = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": issue}
        media = PROBLEM_JSON
    return Response(json_dumps(body), status, dict(headers or {}), media)


def _route(request: Request) -> str:
    """The path with its parameters' names, since a path as received may hold anything."""
    return str(getattr(request.scope.get("route"), "path", "-"))
