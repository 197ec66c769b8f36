"""What people do with receipt checks: send a file, check again, accept, reject, correct and undo; every form of their pages.

Asked by a script (`is_fragment`) the answer holds the parts of the page that have changed; else the browser is sent back to
the page. Whoever decides on an old version of an item is shown what is there now beside what he wanted, and chooses.
"""

import io
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.orm import Session

from app import receipt_decisions, receipt_queue, receipt_store
from app.db import Database
from app.errors import Conflict, HyojunError, InvalidInput, TooMany
from app.receipt_decisions import Item
from app.web.access import Form, Who
from app.web.admin_frame import back_to
from app.web.outcome import Refused
from app.web.receipt_desk import desk, edited_of, shown_of
from app.web.receipt_pages import files_page, one_item, told
from app.web.receipt_view import page_of
from app.web.rendered import is_fragment
from app.web.review_actions import answered
from app.web.review_forms import Sent, choice, identifier, version
from app.web.uploads import read_upload
from schemas.access import Principal
from schemas.receipt import ItemState
from schemas.review import AuditAction

MAX_UPLOADS = 2
"""At the same time in this process; each holds its file."""
_ITEM = "/{file_id}/{claim_id}/items/{item_id}"
_DECISIONS = (ItemState.ACCEPTED, ItemState.REJECTED)

Judged = Callable[[Session], Item]


@dataclass(frozen=True)
class ReceiptActions:
    """`max_bytes`: longest file, where it is less than `receipt_store.MAX_BYTES`."""

    database: Database
    max_bytes: int

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/review/receipts", include_in_schema=False)
        uploads = threading.BoundedSemaphore(MAX_UPLOADS)

        @router.post("/files")
        def send(request: Request, who: Who) -> Response:
            try:
                if not uploads.acquire(blocking=False):
                    raise TooMany(f"{MAX_UPLOADS} files are coming in already", 30)
                try:
                    upload = read_upload(request)
                    if not upload.name:
                        raise InvalidInput("the file: none was chosen")
                    content = upload.content(min(self.max_bytes, receipt_store.MAX_BYTES))
                    with self.database.session_scope() as session:
                        taken = receipt_store.take_in(session, io.BytesIO(content), upload.name, who.id)
                finally:
                    uploads.release()
            except (HyojunError, Refused) as error:
                return files_page(self.database, request, who, error)
            return back_to(page_of(taken.file_id), "")

        router.post("/{file_id}/recheck")(self.recheck)
        router.post("/{file_id}/cancel")(self.cancel)
        router.post("/{file_id}/next")(self.next)
        router.post(f"{_ITEM}/decide")(self.decide)
        router.post(f"{_ITEM}/edit")(self.edit)
        router.post(f"{_ITEM}/undo")(self.undo)
        return router

    # --- a file -------------------------------------------------------------------------------------------------------

    def recheck(self, request: Request, who: Who, file_id: UUID) -> Response:
        def work(session: Session) -> Response:
            receipt_store.recheck(session, file_id=file_id)
            return RedirectResponse(page_of(file_id), 303)

        return answered(self.database, request, who, work, page_of(file_id))

    def cancel(self, request: Request, who: Who, file_id: UUID) -> Response:
        def work(session: Session) -> Response:
            receipt_store.cancel(session, file_id)
            return RedirectResponse(page_of(file_id), 303)

        return answered(self.database, request, who, work, page_of(file_id))

    def next(self, request: Request, who: Who, file_id: UUID, form: Form) -> Response:
        """The claim that needs work behind the one that the reader is at."""
        request.state.audit = {"action": AuditAction.READ}

        def work(session: Session) -> Response:
            after = identifier(form, "after") if form.get("after") else None
            receipt_store.get_file(session, file_id)
            found = receipt_queue.next_claim(session, file_id, after=after)
            return RedirectResponse(page_of(file_id, found) if found else f"{page_of(file_id)}?told=nothing_next", 303)

        return answered(self.database, request, who, work, page_of(file_id))

    # --- one item -----------------------------------------------------------------------------------------------------

    def decide(self, request: Request, who: Who, file_id: UUID, claim_id: UUID, item_id: UUID, form: Form) -> Response:
        def judged(session: Session) -> Item:
            return receipt_decisions.decide(session, item_id, version(form), _decision(form), None, who.id)

        return self._judged(request, who, (file_id, claim_id, item_id), form, judged)

    def edit(self, request: Request, who: Who, file_id: UUID, claim_id: UUID, item_id: UUID, form: Form) -> Response:
        def judged(session: Session) -> Item:
            return receipt_decisions.decide(session, item_id, version(form), ItemState.EDITED, edited_of(form), who.id)

        return self._judged(request, who, (file_id, claim_id, item_id), form, judged)

    def undo(self, request: Request, who: Who, file_id: UUID, claim_id: UUID, item_id: UUID, form: Form) -> Response:
        def judged(session: Session) -> Item:
            return receipt_decisions.undo(session, item_id, version(form), who.id)

        return self._judged(request, who, (file_id, claim_id, item_id), form, judged)

    def _judged(
        self, request: Request, who: Principal, place: tuple[UUID, UUID, UUID], form: Sent, judged: Judged
    ) -> Response:
        file_id, claim_id, item_id = place
        request.state.audit = {"action": AuditAction.UPDATE}

        def work(session: Session) -> Response:
            desk(session, file_id, claim_id).item(item_id)  # of this claim
            item = judged(session)
            at = desk(session, file_id, claim_id)
            told(request, at, AuditAction.UPDATE)
            if not is_fragment(request):
                return RedirectResponse(f"{page_of(file_id, claim_id)}#item-{item_id}", 303)
            return one_item(request, who, at, item_id, word="undo" if item.state is ItemState.OPEN else item.state)

        def stale(session: Session, error: HyojunError) -> Response | None:
            """What is there now and what was wanted, where the item is another one than the person saw."""
            if not isinstance(error, Conflict):
                return None
            at = desk(session, file_id, claim_id)
            found = next((item for item in at.items if item.id == item_id), None)
            if found is None or str(found.version) == form.get("version"):
                return None
            told(request, at, AuditAction.UPDATE)
            resent = dict(form) | {"version": str(found.version)}
            return one_item(
                request, who, at, item_id, mine=shown_of(at, _wanted(found, request, form)), status=409,
                resent=[(name, value) for name, value in resent.items() if name != "csrf_token"],
            )  # fmt: skip

        return answered(self.database, request, who, work, page_of(file_id, claim_id), stale)


def _decision(form: Sent) -> ItemState:
    decision = choice(form, "decision", ItemState)
    if decision not in _DECISIONS:
        raise InvalidInput("decision: must be accepted or rejected")
    return decision


def _wanted(item: Item, request: Request, form: Sent) -> Item:
    """The item as it would be."""
    deed = request.url.path.rpartition("/")[2]
    changes: dict[str, Any] = {"state": ItemState.OPEN, "edited": None, "decided_by": None}
    if deed == "decide":
        changes["state"] = _decision(form)
    elif deed == "edit":
        changes |= {"state": ItemState.EDITED, "edited": edited_of(form)}
    return replace(item, **changes)
