"""Errors on the wire: OperationOutcome under /fhir, problem+json (RFC 9457) elsewhere. HTTP statuses live here.

A body says which field and why, never what was in it; a fault of ours says only that there was one.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from psycopg.errors import DeadlockDetected, SerializationFailure
from sqlalchemy.exc import InterfaceError, OperationalError
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from app.db import json_dumps
from app.errors import HyojunError, NotSignedIn, Stale, TooMany
from schemas.issue import Issue, IssueType, Severity

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


# What a place may look like to stand in `expression`, a FHIRPath: others come from keys that are no element names.
_PATH = re.compile(r"[A-Z][A-Za-z]*(\.[A-Za-z_][A-Za-z0-9_]*|\[[0-9]+\])*")


class Refused(Exception):
    """A request that HTTP itself refuses: cannot be parsed (400), wrong method (405) or media type (406, 415).

    `issues`: all that is wrong, where it is more than `detail`; `code`: what the one issue of `detail` is.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        code: IssueType | None = None,
        issues: Sequence[Issue] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers or {}
        self.issues = tuple(issues) or (Issue(severity=Severity.ERROR, code=code or _code(status), text=detail),)


def malformed(detail: str) -> Refused:
    return Refused(400, detail)


def not_acceptable(detail: str) -> Refused:
    return Refused(406, detail)


def unsupported_media(detail: str) -> Refused:
    return Refused(415, detail)


def method_not_allowed(*allowed: str) -> Refused:
    return Refused(405, "Method Not Allowed", headers={"Allow": ", ".join(allowed)})


def issue_json(issue: Issue) -> dict[str, Any]:
    """An item of OperationOutcome.issue; the path that the text begins with becomes its `expression`."""
    place, _, what = issue.text.partition(": ")
    stated = {"severity": issue.severity, "code": issue.code}
    if what and _PATH.fullmatch(place):
        return {**stated, "diagnostics": what, "expression": [place]}
    return {**stated, "diagnostics": issue.text}


def outcome_json(issues: Sequence[Issue]) -> dict[str, Any]:
    return {"resourceType": "OperationOutcome", "issue": [issue_json(issue) for issue in issues]}


def status_of(error: HyojunError) -> int:
    return 412 if isinstance(error, Stale) else _STATUS.get(error.issue_type, 500)


def install(app: FastAPI) -> None:
    """Every error of `app`, the framework's own too, leaves in one of the two forms."""

    def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        return _answer(request, error.status, error.issues, error.detail, error.headers)

    def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, HyojunError)
        status = status_of(error)
        if status >= 500:
            log.error("request failed", exc_info=error, extra={"path": _route(request)})
        headers = {"Retry-After": "5"} if error.retryable and status == 503 else {}
        if isinstance(error, TooMany):
            headers = {"Retry-After": str(error.seconds)}
        elif isinstance(error, NotSignedIn):
            headers = {"WWW-Authenticate": 'Bearer realm="hyojun"'}
        return _plain(request, status, error.issue_type, str(error), headers)

    def framework(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = dict(error.headers or {})
        if error.status_code == 405:  # the framework names the methods of one route only
            headers["Allow"] = ", ".join(_allowed(request)) or headers.get("Allow", "")
        phrase = HTTPStatus(error.status_code).phrase
        return _plain(request, error.status_code, _code(error.status_code), phrase, headers)

    def parameters(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        places = sorted({".".join(str(part) for part in detail["loc"]) for detail in error.errors()})
        if all(place.startswith("path.") for place in places):  # an id that no row can have
            return _plain(request, 404, IssueType.NOT_FOUND, "Not Found")
        return _plain(request, 422, IssueType.INVALID, "cannot be read: " + ", ".join(places))

    def database(request: Request, error: Exception) -> Response:
        if isinstance(getattr(error, "orig", None), DeadlockDetected | SerializationFailure):
            # Two requests changed the same things in another order; one of them was chosen to go back.
            what = "another request changes the same resources; try again"
            return _plain(request, 409, IssueType.CONFLICT, what, {"Retry-After": "1"})
        log.error("database unavailable", exc_info=error, extra={"path": _route(request)})
        return _plain(request, 503, IssueType.TRANSIENT, "the database does not answer", {"Retry-After": "5"})

    def unforeseen(request: Request, error: Exception) -> Response:
        return _plain(request, 500, IssueType.EXCEPTION, "an error of this server; its log says more")

    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(HyojunError, ours)
    app.add_exception_handler(HTTPException, framework)
    app.add_exception_handler(RequestValidationError, parameters)
    app.add_exception_handler(OperationalError, database)
    app.add_exception_handler(InterfaceError, database)
    app.add_exception_handler(Exception, unforeseen)


def answer_error(request: Request, error: HyojunError) -> Response:
    """The answer that `install` gives, for a middleware, which stands outside of it."""
    headers = {"Retry-After": "5"} if error.retryable else {}
    return _plain(request, status_of(error), error.issue_type, str(error), headers)


def _code(status: int) -> IssueType:
    return _ISSUE.get(status, IssueType.INVALID if status < 500 else IssueType.EXCEPTION)


def _plain(
    request: Request, status: int, code: IssueType, detail: str, headers: Mapping[str, str] | None = None
) -> Response:
    severity = Severity.FATAL if code is IssueType.EXCEPTION else Severity.ERROR
    # A plain text, of which no part is a place.
    return _answer(request, status, (Issue(severity=severity, code=code, text=detail),), detail, headers)


def _answer(
    request: Request, status: int, issues: Sequence[Issue], detail: str, headers: Mapping[str, str] | None = None
) -> Response:
    if request.url.path == "/fhir" or request.url.path.startswith("/fhir/"):
        body: dict[str, Any] = outcome_json(issues)
        media = FHIR_JSON
    else:
        title = HTTPStatus(status).phrase
        body = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": issues[0].code}
        media = PROBLEM_JSON
    return Response(json_dumps(body), status, dict(headers or {}), media)


def _allowed(request: Request) -> list[str]:
    """The methods of every route of the path as received, in alphabetical order."""
    methods: set[str] = set()
    for context in iter_route_contexts(request.app.routes):
        if context.path is not None and _pattern(context.path).match(request.url.path):
            methods |= set(context.methods or ())
    return sorted(methods)


@lru_cache(maxsize=512)
def _pattern(path: str) -> re.Pattern[str]:
    return compile_path(path)[0]


def _route(request: Request) -> str:
    """The path with its parameters' names, since a path as received may hold anything."""
    return str(getattr(request.scope.get("route"), "path", "-"))
