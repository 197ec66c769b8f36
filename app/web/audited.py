"""Every request for patient data leaves an audit event, committed before the answer leaves; without it there is no answer.

All routes are watched but those that show no patient data (`_OPEN`), so that a new one is watched from its first day. What was
shown is told by the route in `request.state.audit`, a dict with any of `type`, `ids`, `patients`, `note_id`, `action`; what
it leaves out is read off the path. Names of parameters are kept where they are names of ours, their values never.
"""

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from fastapi import FastAPI, Request
from fastapi.routing import APIRoute, iter_route_contexts
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import audit
from app.db import Database
from app.errors import HyojunError, Unavailable
from app.log import request_id
from app.store.parameters import PARAMETERS
from app.web.outcome import answer_error
from schemas.access import Principal
from schemas.review import AuditAction, AuditOutcome

log = logging.getLogger(__name__)

_OPEN = re.compile(
    r"/|/healthz|/readyz|/metrics|/openapi\.json|/static/.*|/favicon\.ico|(/fhir)?/\.well-known/.*|/fhir/metadata"
    r"|/fhir/(CodeSystem|ValueSet|ConceptMap)(/.*)?|/admin/(terminology/imports|audit/checks)/\{[a-z_]+\}"
)
"""Routes without patient data: pages of ours, what this server can do, tables of codes."""
_ACTIONS: tuple[tuple[str, str, AuditAction], ...] = (
    ("POST", r"/auth/token", AuditAction.TOKEN),
    ("GET|POST", r"/login|/login/oidc/callback", AuditAction.LOGIN),
    ("GET|POST", r"/logout", AuditAction.LOGOUT),
    ("POST|PUT|PATCH|DELETE",
     r"(/setup|/account|/admin|/api/users|/api/clients|/api/push|/api/subscriptions|/api/receipt-tables)(/.*)?",
     AuditAction.ADMIN),
    ("GET|POST", r".*(\$export|\$export/\{[a-z_]+\}/\{name\}|\$clins-bundle|\$document)", AuditAction.EXPORT),
    ("GET", r".*(/output\.ndjson|/ssmix2(\.zip)?|/report\.(html|csv)|/dashboard/\{name\}\.csv|/uke)", AuditAction.EXPORT),
    ("GET|POST", r".*\$everything", AuditAction.SEARCH),
    ("POST", r".*\$[a-z-]+|/fhir/?|/v1/.*|.*/(pause|resume|cancel|retry-failed|replay|recheck)", AuditAction.EXECUTE),
    ("GET", r"/fhir/?|/fhir/\{resource_type\}|/fhir/[A-Z][A-Za-z]+", AuditAction.SEARCH),
    ("GET|POST", r".*/_search|/api/audit|/admin/audit", AuditAction.SEARCH),
    ("POST", r"/api/receipt-items/.*", AuditAction.UPDATE),
    ("POST", r".*", AuditAction.CREATE),
    ("PUT|PATCH", r".*", AuditAction.UPDATE),
    ("DELETE", r".*", AuditAction.DELETE),
    (".*", r".*", AuditAction.READ),
)
"""The first that fits method and path, as it is declared, says what was done."""
_FORMS = re.compile(r"/login|/login/oidc|/setup|/account")
"""Only what is sent with them is kept."""

# `Patient`, as far as its form tells: a name that a client makes up may be anything.
_TYPE = re.compile(r"[A-Z][A-Za-z]{1,39}")
_FHIR_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# https://hl7.org/fhir/R4/search.html, https://hl7.org/fhir/R4/http.html#general: parameters of no element.
_CONTROLS = frozenset(
    "_id _lastUpdated _profile _tag _security _source _text _content _list _type _has _sort _count _include _revinclude"
    " _summary _elements _total _contained _containedType _format _pretty _cursor _since _at _typeFilter _outputFormat"
    " start end missing exact contains not iterate above below in text of-type".split()
)


class Audited:
    """The middleware. `names`: of parameters, which may be kept."""

    def __init__(self, app: ASGIApp, database: Database, names: Iterable[str] = ()) -> None:
        self._app, self._database, self._names = app, database, _CONTROLS | frozenset(names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})
        told = refused = False

        async def watched(message: Message) -> None:
            nonlocal told, refused
            if not told and message["type"] == "http.response.start":
                told = True
                try:
                    await run_in_threadpool(self._tell, scope, int(message["status"]))
                except Unavailable as error:
                    refused = True
                    await answer_error(Request(scope), error)(scope, receive, send)
            if not refused:
                await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            if not told:
                await run_in_threadpool(self._tell_if_possible, scope)

    def _tell(self, scope: Scope, status: int | None) -> None:
        """Raises: Unavailable."""
        event = self._event(scope, status)
        if event is None:
            return
        try:
            with self._database.session_scope() as session:
                if event["outcome"] is AuditOutcome.SUCCESS:
                    event["patients"] += _patients(session, event, scope)
                audit.record_access(session, **event)
        except (SQLAlchemyError, HyojunError) as error:
            log.error("an access cannot be put down", exc_info=error, extra={"route": _template(scope)})
            raise Unavailable("the audit log cannot be written, so nothing is shown") from None

    def _tell_if_possible(self, scope: Scope) -> None:
        try:
            self._tell(scope, None)
        except Unavailable:
            pass  # nothing was shown, and the log has it

    def _event(self, scope: Scope, status: int | None) -> dict[str, Any] | None:
        template, method = _template(scope), str(scope["method"])
        if template is None or _OPEN.fullmatch(template) or (method in ("GET", "HEAD") and _FORMS.fullmatch(template)):
            return None
        state: Mapping[str, Any] = scope["state"]
        told: Mapping[str, Any] = state.get("audit") or {}
        who, path = state.get("principal"), dict(scope.get("path_params") or {})
        shown = status is not None and status < 400
        action = AuditAction(told.get("action") or _action(method, template))
        if action is AuditAction.LOGIN and not isinstance(who, Principal):
            # Whom he said he was is not kept: people type passwords there.
            action = AuditAction.LOGIN_FAILED
        type_ = told.get("type") or path.get("resource_type") or _literal_type(template)
        ids = told.get("ids")
        if ids is None:
            # Below /api a patient has the sender's id, which is not kept.
            foreign = () if template.startswith("/fhir") else ("patient_id",)
            ids = [value for name, value in path.items() if name.endswith("id") and name not in foreign]
        note = told.get("note_id", path.get("note_id"))
        return {
            "who": who if isinstance(who, Principal) else audit.ANONYMOUS,
            "action": action,
            "type_": type_ if type_ in PARAMETERS or (shown and _TYPE.fullmatch(str(type_))) else None,
            "ids": [i for i in map(str, ids) if _is_id(i, shown)],
            "patients": [i for i in map(str, told.get("patients", ())) if _is_id(i, shown)],
            "query_names": self._query_names(scope),
            "outcome": _outcome(status, action, known=isinstance(who, Principal)),
            "note_id": _uuid(note),
            "route": f"{method} {template}",
            "status": status,
            "address": (scope.get("client") or (None,))[0],
            "request_id": request_id.get(),
        }

    def _query_names(self, scope: Scope) -> set[str]:
        """A chain or a modifier is kept where each part of it is known; what is not known becomes `?`."""
        written = {name for name, _ in Request(scope).query_params.multi_items()}
        parts = {name: re.split(r"[.:]", name) for name in written}
        return {
            name if all(part in self._names or _TYPE.fullmatch(part) for part in parts[name]) else "?"
            for name in written
        }


def install(app: FastAPI, database: Database) -> None:
    """Watches the routes that `app` has by now."""
    searched = {name for of_type in PARAMETERS.values() for name in of_type}
    routes = (context.original_route for context in iter_route_contexts(app.routes))
    own = {field.alias for route in routes if isinstance(route, APIRoute) for field in route.dependant.query_params}
    app.add_middleware(Audited, database=database, names=searched | own)


def _template(scope: Scope) -> str | None:
    """The path as it is declared. None: there is no such route."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else None


def _patients(session: Session, event: Mapping[str, Any], scope: Scope) -> set[str]:
    """Whom what was shown is about."""
    named = [tuple(i.split("/", 1)) if "/" in i else (event["type_"], i) for i in event["ids"]]
    known = [(type_, id_) for type_, id_ in named if type_ in PARAMETERS][: audit.MAX_IDS]
    local = None if event["route"].split(" ", 1)[1].startswith("/fhir") else (scope["path_params"] or {}).get("patient_id")
    return audit.patients_of(session, known, note_id=event["note_id"], local=local)


def _literal_type(template: str) -> str | None:
    """`/fhir/Patient/{patient_id}/$everything`: Patient."""
    found = re.match(r"/fhir/([A-Z][A-Za-z]+)", template)
    return found[1] if found else None


def _action(method: str, template: str) -> AuditAction:
    method = "GET" if method == "HEAD" else method
    return next(
        action
        for methods, paths, action in _ACTIONS
        if re.fullmatch(methods, method) and re.fullmatch(paths, template)
    )


def _outcome(status: int | None, action: AuditAction, *, known: bool) -> AuditOutcome:
    if status is None or status >= 500:
        return AuditOutcome.FAILED
    # Who is not known is sent on to sign in; a form that was refused may come back with any status.
    refused = status >= 400 or (status >= 300 and not known) or action is AuditAction.LOGIN_FAILED
    return AuditOutcome.REFUSED if refused else AuditOutcome.SUCCESS


def _is_id(written: str, shown: bool) -> bool:
    """What was not found may be anything that a client wrote; ids of ours are UUIDs."""
    last = written.rpartition("/")[2]
    return bool((_FHIR_ID if shown else _UUID).fullmatch(last)) and len(written) <= 120


def _uuid(value: Any) -> UUID | None:
    try:
        return value if value is None or isinstance(value, UUID) else UUID(str(value))
    except ValueError:
        return None
