"""The audit log in a browser: search, and the check of its chain with the rows that were checked so far."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Request, Response

from app import audit
from app.audit import Head, Verified
from app.db import Database
from app.errors import HyojunError, InvalidInput
from app.web.access import Form, Who
from app.web.admin_frame import Failure, back_to, day, framed
from app.web.background import Background, Progress
from app.web.review_desk import names_of
from schemas.access import Principal
from schemas.review import AuditAction

COUNT = 100
POLL_SECONDS = 1
_CHECK = "check"
_FILTERS = ("actor", "action", "type", "patient", "note", "since", "until")


def audit_pages_router(database: Database, background: Background) -> APIRouter:
    router = APIRouter(prefix="/admin/audit", include_in_schema=False)

    @router.get("")
    def search(
        request: Request,
        who: Who,
        actor: str = "",
        action: str = "",
        type: str = "",  # noqa: A002
        patient: str = "",
        note: str = "",
        since: str = "",
        until: str = "",
        cursor: int | None = None,
    ) -> Response:
        chosen = dict(zip(_FILTERS, (actor, action, type, patient, note, since, until), strict=True))
        try:
            wanted = _wanted(chosen)
        except InvalidInput as error:
            return _page(request, who, chosen, [], None, error)
        request.state.audit = {
            "type": "AuditEvent", "patients": [patient] if patient else [], "note_id": wanted.note_id,
        }  # fmt: skip
        with database.session_scope() as session:
            found = audit.newest(session, wanted, count=COUNT, before=cursor)
        older = None
        if len(found) == COUNT:
            kept = {name: value for name, value in chosen.items() if value}
            older = "/admin/audit?" + urlencode({**kept, "cursor": found[-1]["id"]})
        return _page(request, who, chosen, found, older)

    @router.post("/checks")
    def start_check(request: Request, who: Who, form: Form) -> Response:
        try:
            written = form.get("head", "").strip()
            noted = Head.of(written) if written else None

            def run(progress: Progress) -> Verified:
                with database.session_scope() as session:
                    total = audit.newest(session, audit.Wanted(), count=1)
                    most = total[0]["id"] if total else 0
                    return audit.verify(session, noted=noted, checked=lambda rows: progress("checking", rows, most))

            work = background.start(_CHECK, who.id, run)
        except HyojunError as error:
            return _page(request, who, dict.fromkeys(_FILTERS, ""), [], None, error)
        return back_to(f"/admin/audit/checks/{work.id}", "")

    @router.get("/checks/{check_id}")
    def show_check(request: Request, check_id: UUID, who: Who) -> Response:
        work = background.find(_CHECK, check_id)
        values = {"work": work, "found": work.result, "refresh": None if work.over else POLL_SECONDS}
        return framed(request, who, "admin_check.html", values, error=work.error)

    def _page(
        request: Request,
        who: Principal,
        chosen: Mapping[str, str],
        found: list[dict[str, Any]],
        older: str | None,
        error: Failure | None = None,
    ) -> Response:
        with database.session_scope() as session:
            names = names_of(session, [event["acted_by"] for event in found])
        values = {
            "chosen": chosen, "events": found, "names": names, "older": older, "all_actions": list(AuditAction),
            "work": background.open(_CHECK),
        }  # fmt: skip
        return framed(request, who, "admin_audit.html", values, error=error)

    return router


def _wanted(chosen: Mapping[str, str]) -> audit.Wanted:
    """Days are Japan's. Raises: InvalidInput."""
    for name, value in chosen.items():
        if len(value) > audit.MAX_PERSON or not value.isprintable():
            raise InvalidInput(f"{name}: must be at most {audit.MAX_PERSON} printable characters")
    try:
        action = AuditAction(chosen["action"]) if chosen["action"] else None
        note_id = UUID(chosen["note"]) if chosen["note"] else None
    except ValueError:
        raise InvalidInput("action, note: is none that there can be") from None
    return audit.Wanted(
        by=chosen["actor"] or None, action=action, type=chosen["type"] or None, patient=chosen["patient"] or None,
        note_id=note_id, since=day(chosen["since"], "since"), until=day(chosen["until"], "until"),
    )  # fmt: skip
