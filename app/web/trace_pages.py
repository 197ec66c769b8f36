"""Where a resource comes from and what leaves of it, for those who review: `/trace/{type}/{id}`, `/trace/notes/{note_id}`."""

from collections.abc import Iterable
from typing import Annotated, Any
from uuid import UUID

import msgspec
from fastapi import APIRouter, Path, Request, Response
from sqlalchemy.orm import Session

from app import fhir
from app.db import Database
from app.ssmix2 import Facility
from app.traces import Step, trace, trace_note
from app.web.access import Who
from app.web.admin_frame import framed
from app.web.rendered import language_of
from app.web.review_desk import names_of
from app.web.words import WORDS, said


def trace_router(database: Database, facility: Facility) -> APIRouter:
    """`facility`: who sends the SS-MIX2 messages."""
    router = APIRouter(prefix="/trace", include_in_schema=False)

    @router.get("/notes/{note_id}")
    def of_note(request: Request, note_id: UUID, who: Who) -> Response:
        with database.session_scope() as session:
            found = trace_note(session, note_id, who, facility)
            people = [event.acted_by for event in found.events]
            values = {"found": found, "names": _names(session, people, found.releases)}
            return framed(request, who, "trace_note.html", values)

    @router.get("/{resource_type}/{resource_id}")
    def of_resource(
        request: Request,
        who: Who,
        resource_type: Annotated[str, Path(pattern="^[A-Z][A-Za-z]{1,39}$")],
        resource_id: Annotated[str, Path(pattern="^[A-Za-z0-9.-]{1,64}$")],
    ) -> Response:
        with database.session_scope() as session:
            found = trace(session, resource_type, resource_id, who, facility)
            request.state.audit = {"type": resource_type, "ids": [resource_id], "note_id": found.note_id}
            people = [*(step.by for step in found.steps), *(one.written_by for one in found.versions)]
            language = language_of(request)
            values: dict[str, Any] = {
                "found": found,
                "names": _names(session, people, found.releases),
                "changes": {step.version: _changes(step, language) for step in found.steps},
                "json": None if found.leaves is None else msgspec.json.format(fhir.dumps(found.leaves), indent=2),
            }
            return framed(request, who, "trace.html", values)

    return router


def _names(session: Session, people: Iterable[str | None], releases: Iterable[Any]) -> dict[str, str]:
    everybody = {*people, *(one for release in releases for one in (release.released_by, release.withdrawn_by))}
    return names_of(session, everybody)


def _changes(step: Step, language: str) -> list[tuple[str, str | None, str | None]]:
    """The names of the parts, and labels of closed lists, in the reader's language."""

    def word(part: str, value: str | None) -> str | None:
        key = f"{part}_{value}"
        return value if value is None or key not in WORDS else said(language, key)

    return [(said(language, f"field_{part}"), word(part, old), word(part, new)) for part, old, new in step.changes]
