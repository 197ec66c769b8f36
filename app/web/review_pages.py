"""The pages of reviewers: the queue, a note with what was read in it, and what lies before a release.

What is sent from them is taken in by `app.web.review_actions`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app import review_queue, second_readings
from app.corrections import Standard
from app.db import Database
from app.review_items import Item
from app.review_queue import QueueFilter, QueueRow
from app.web.access import Who
from app.web.rendered import is_fragment, language_of, rendered
from app.web.review_actions import answered, notice_of
from app.web.review_desk import Desk, desk, is_reader, names_of, page_values
from app.web.review_forms import SECOND, choice, editor_of, new_editor, queue_filter
from app.web.review_view import ItemShown, checked, shown
from app.web.words import said
from models import Batch, Resource
from schemas.access import Principal
from schemas.note import DocumentType
from schemas.review import AuditAction, ReviewState, Verdict
from schemas.statement import Kind

ROWS = 50
"""Notes of one page of the queue."""
_STATES = (*(state.value for state in ReviewState), SECOND)
_FILTERS = ("kind", "department", "type", "probability", "age", "batch", "state", "mine")
_DOES = {
    Verdict.ACCEPT: "release_accepted", Verdict.AMEND: "release_amended", Verdict.ADD: "release_added",
    Verdict.REJECT: "release_rejected",
}  # fmt: skip


@dataclass(frozen=True)
class ReviewPages:
    """`standard`: what corrections are computed with."""

    database: Database
    standard: Standard

    def router(self) -> APIRouter:
        router = APIRouter(include_in_schema=False)
        router.get("/review")(self.queue)
        router.get("/review/{note_id}")(self.note)
        router.get("/review/{note_id}/new")(self.new)
        router.get("/review/{note_id}/release")(self.release)
        router.get("/review/{note_id}/withdraw")(self.withdraw)
        router.get("/review/{note_id}/differences")(self.differences)
        router.get("/review/{note_id}/items/{item_id}")(self.item)
        router.get("/review/{note_id}/items/{item_id}/edit")(self.edit)
        return router

    def queue(self, request: Request, who: Who) -> Response:
        def work(session: Session) -> Response:
            asked = {name: request.query_params.get(name, "") for name in _FILTERS}
            asked["state"] = asked["state"] or ReviewState.OPEN
            chosen = queue_filter(asked)
            cursor = request.query_params.get("cursor") or None
            rows, following = review_queue.queue(session, who.id, chosen, limit=ROWS, cursor=cursor)
            figures = review_queue.counts(session, chosen, who_id=who.id)
            others = review_queue.counts(session, QueueFilter(state=None), who_id=who.id)
            request.state.audit = {"action": AuditAction.SEARCH, "patients": _patients(session, rows)}
            language = language_of(request)
            return rendered(request, who, "review_queue.html", {
                "rows": rows,
                "names": names_of(session, (row.assigned_to for row in rows)),
                "ages": _ages(session, rows, language),
                "counts": [(key, figures[key]) for key in ("notes", "items", "drug_allergies")],
                "chosen": asked,
                "kinds": review_queue.KINDS,
                "types": [type_.value for type_ in DocumentType],
                "departments": sorted(others["departments"]),
                "batches": [(str(id_), name) for id_, name in session.execute(_NEWEST_BATCHES)],
                "states": _STATES,
                "more": f"/review?{urlencode(asked | {'cursor': following})}" if following else None,
                "notice": notice_of(request, language),
            })  # fmt: skip

        return self._answered(request, who, work, back="/")

    def note(self, request: Request, who: Who, note_id: UUID) -> Response:
        def work(session: Session) -> Response:
            language = language_of(request)
            values = page_values(session, desk(session, self.standard, note_id, who.id), who.id, language)
            return rendered(request, who, "review_note.html", values | {"notice": notice_of(request, language)})

        return self._answered(request, who, work)

    def item(self, request: Request, who: Who, note_id: UUID, item_id: UUID) -> Response:
        """One card, as it is stored."""
        if not is_fragment(request):
            return RedirectResponse(f"/review/{note_id}#item-{item_id}", 303)

        def work(session: Session) -> Response:
            at = desk(session, self.standard, note_id, who.id)
            at.item(item_id)
            values = page_values(session, at, who.id, language_of(request))
            one = next(item for _, items in values["groups"] for item in items if item.id == str(item_id))
            parts = {"one": one, "whole": False, "emptied": False, "notice": ""}
            return rendered(request, who, "review_parts.html", values | parts)

        return self._answered(request, who, work, back=f"/review/{note_id}")

    def edit(self, request: Request, who: Who, note_id: UUID, item_id: UUID) -> Response:
        def work(session: Session) -> Response:
            at = desk(session, self.standard, note_id, who.id)
            item = at.item(item_id)
            record, language = at.records.get(item_id), language_of(request)
            values = page_values(session, at, who.id, language)
            form = editor_of(item, record, note=f"/review/{note_id}")
            check = checked(record, (), language)
            name = "review_edit.html" if is_fragment(request) else "review_edit_page.html"
            return rendered(request, who, name, values | {"form": form, "check": check, "kinds": list(Kind)})

        return self._answered(request, who, work, back=f"/review/{note_id}")

    def new(self, request: Request, who: Who, note_id: UUID) -> Response:
        def work(session: Session) -> Response:
            at, language = desk(session, self.standard, note_id, who.id), language_of(request)
            kind = choice(request.query_params, "kind", Kind) or Kind.ALLERGY
            ends = [request.query_params.get(name, "") for name in ("start", "end")]
            span = (int(ends[0]), int(ends[1])) if all(end.isascii() and end.isdigit() and len(end) < 9 for end in ends) else None
            form = new_editor(at.note.text, kind, span, note=f"/review/{note_id}")
            values = page_values(session, at, who.id, language)
            check = checked(None, (), language)
            name = "review_edit.html" if is_fragment(request) else "review_edit_page.html"
            return rendered(request, who, name, values | {"form": form, "check": check, "kinds": list(Kind)})

        return self._answered(request, who, work, back=f"/review/{note_id}")

    def release(self, request: Request, who: Who, note_id: UUID) -> Response:
        def work(session: Session) -> Response:
            at = desk(session, self.standard, note_id, who.id)
            values = page_values(session, at, who.id, language_of(request))
            does = [(word, sum(item.verdict is verdict for item in at.items)) for verdict, word in _DOES.items()]
            told = {"heading": "release_heading", "withdrawing": False, "does": [one for one in does if one[1]]}
            return rendered(request, who, "review_release.html", values | told)

        return self._answered(request, who, work, back=f"/review/{note_id}")

    def withdraw(self, request: Request, who: Who, note_id: UUID) -> Response:
        def work(session: Session) -> Response:
            values = page_values(session, desk(session, self.standard, note_id, who.id), who.id, language_of(request))
            told = {"heading": "withdraw_heading", "withdrawing": True, "does": []}
            return rendered(request, who, "review_release.html", values | told)

        return self._answered(request, who, work, back=f"/review/{note_id}")

    def differences(self, request: Request, who: Who, note_id: UUID) -> Response:
        def work(session: Session) -> Response:
            language = language_of(request)
            at = desk(session, self.standard, note_id, who.id)
            values = page_values(session, at, who.id, language)
            found = second_readings.differences(session, note_id)
            of = {one.id: [_side(item, at, language) for item in (one.first, one.second)] for one in found}
            told = {"differences": found, "sides": of, "agreeing": is_reader(session, at, who.id)}
            return rendered(request, who, "review_differences.html", values | told)

        return self._answered(request, who, work, back=f"/review/{note_id}")

    def _answered(
        self, request: Request, who: Principal, work: Callable[[Session], Response], back: str = "/review"
    ) -> Response:
        return answered(self.database, request, who, work, back)


def _side(item: Item | None, at: Desk, language: str) -> ItemShown | None:
    """What one of two readers says. The record is that of the review where he says what it says."""
    if item is None:
        return None
    own = at.records.get(item.id)
    same = own is not None and own.statement == item.statement
    return shown(item, own if same else None, (), language)


_NEWEST_BATCHES = select(Batch.id, Batch.name).order_by(Batch.created_at.desc()).limit(100)


def _patients(session: Session, rows: Sequence[QueueRow]) -> list[str]:
    """Whose notes are shown, by their ids in FHIR."""
    notes = [row.note_id for row in rows]
    return list(session.scalars(select(Resource.id).where(Resource.type == "Patient", Resource.note_id.in_(notes)).distinct()))


def _ages(session: Session, rows: Sequence[QueueRow], language: str) -> dict[UUID, str]:
    """How long each note has waited, by the database's clock."""
    now: datetime = session.execute(select(func.now())).scalar_one()
    return {row.note_id: _age(now - row.received_at, language) for row in rows}


def _age(waited: timedelta, language: str) -> str:
    if waited >= timedelta(days=1):
        return said(language, "days", number=waited.days)
    minutes = max(0, int(waited.total_seconds() // 60))
    return said(language, "hours", number=minutes // 60) if minutes >= 60 else said(language, "minutes", number=minutes)
