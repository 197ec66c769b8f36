"""`GET /api/audit`: who did what and who looked at what, for those who watch over it."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response

from app import audit
from app.db import Database
from app.errors import InvalidInput
from app.web.access import needs
from app.web.wire import json_response
from schemas.access import Right
from schemas.review import AuditAction

MAX_COUNT = 1_000


def audit_router(database: Database) -> APIRouter:
    router = APIRouter(prefix="/api", tags=["audit"], dependencies=[Depends(needs(Right.AUDIT))])

    @router.get("/audit")
    def list_events(
        request: Request,
        actor: Annotated[str | None, Query(max_length=audit.MAX_PERSON)] = None,
        action: AuditAction | None = None,
        type: Annotated[str | None, Query(pattern="^[A-Z][A-Za-z]{1,39}$")] = None,  # noqa: A002
        patient: Annotated[str | None, Query(pattern="^[A-Za-z0-9.-]{1,64}$")] = None,
        note: UUID | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        count: Annotated[int, Query(ge=1, le=MAX_COUNT)] = 100,
        cursor: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None,
    ) -> Response:
        """Audit events, the newest first. `actor`: as it stands in `acted_by`; `patient`: a FHIR id; `note`: our id of it;
        `since` (included) and `until` (not) with their time zone. `next`: the `cursor` of the following page."""
        request.state.audit = {"type": "AuditEvent", "patients": [patient] if patient else [], "note_id": note}
        if any(at is not None and at.tzinfo is None for at in (since, until)):
            raise InvalidInput("since, until: the time zone is missing, as in 2026-04-01T09:00:00+09:00")
        if actor is not None and "\x00" in actor:
            raise InvalidInput("actor: a NUL is in no name")
        wanted = audit.Wanted(
            by=actor, action=action, type=type, patient=patient, note_id=note, since=since, until=until
        )
        with database.session_scope() as session:
            found = audit.newest(session, wanted, count=count, before=cursor)
        following = {"next": str(found[-1]["id"])} if len(found) == count else {}
        return json_response({"events": [_shown(row) for row in found], **following})

    return router


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}
