"""The pages of receipt checks: files with their progress, the claims of one, and a claim beside the chart.

What is sent from them is taken in by `app.web.receipt_actions`.
"""

from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.orm import Session

from app import receipt_queue, receipt_store
from app.db import Database
from app.receipt_queue import ClaimFilter
from app.web.access import Who
from app.web.admin_frame import Failure, framed
from app.web.receipt_desk import ReceiptDesk, claim_values, desk, editor_of, name_of_item
from app.web.receipt_view import ReceiptShown, mark_class, page_of
from app.web.rendered import is_fragment, language_of, rendered
from app.web.review_actions import answered
from app.web.review_forms import choice
from app.web.words import said
from schemas.access import Principal, Right
from schemas.receipt import ItemState, Rule
from schemas.review import AuditAction

FILES = 50
"""Files of the list."""
ROWS = 50
"""Claims of one page."""
MAX_ROWS = 1_000_000
"""The furthest claim that a page may begin at."""
POLL_SECONDS = 15


class ReceiptPages:
    def __init__(self, database: Database) -> None:
        self.database = database

    def router(self) -> APIRouter:
        """To be included before the pages of notes, whose `/review/{note_id}` takes any name."""
        router = APIRouter(prefix="/review/receipts", include_in_schema=False)
        router.get("")(self.files)
        router.get("/{file_id}")(self.file)
        router.get("/{file_id}/{claim_id}")(self.claim)
        router.get("/{file_id}/{claim_id}/items/{item_id}")(self.item)
        router.get("/{file_id}/{claim_id}/items/{item_id}/edit")(self.edit)
        return router

    def files(self, request: Request, who: Who) -> Response:
        return files_page(self.database, request, who)

    def file(self, request: Request, who: Who, file_id: UUID) -> Response:
        def work(session: Session) -> Response:
            return _file_page(session, request, who, file_id)

        return answered(self.database, request, who, work, back="/review/receipts")

    def claim(self, request: Request, who: Who, file_id: UUID, claim_id: UUID) -> Response:
        def work(session: Session) -> Response:
            at = desk(session, file_id, claim_id)
            told(request, at)
            values = claim_values(at, language_of(request))
            values |= {"mark_class": lambda piece: mark_class(piece, values["by_id"])}
            return rendered(request, who, "receipt_claim.html", values)

        return answered(self.database, request, who, work, page_of(file_id))

    def item(self, request: Request, who: Who, file_id: UUID, claim_id: UUID, item_id: UUID) -> Response:
        """One card, as it is stored."""
        if not is_fragment(request):
            return RedirectResponse(f"{page_of(file_id, claim_id)}#item-{item_id}", 303)

        def work(session: Session) -> Response:
            at = desk(session, file_id, claim_id)
            told(request, at)
            return one_item(request, who, at, item_id)

        return answered(self.database, request, who, work, page_of(file_id, claim_id))

    def edit(self, request: Request, who: Who, file_id: UUID, claim_id: UUID, item_id: UUID) -> Response:
        def work(session: Session) -> Response:
            at = desk(session, file_id, claim_id)
            told(request, at)
            return one_item(request, who, at, item_id, editing=True)

        return answered(self.database, request, who, work, page_of(file_id, claim_id))


def files_page(database: Database, request: Request, who: Principal, error: Failure | None = None) -> Response:
    with database.session_scope() as session:
        files = receipt_store.list_files(session, limit=FILES)
    moving = error is None and any(_moving(file) for file in files)
    values = {"files": files, "refresh": POLL_SECONDS if moving else None}
    return framed(request, who, "receipts.html", values, error=error)


def one_item(
    request: Request, who: Principal, at: ReceiptDesk, item_id: UUID, *, editing: bool = False, word: str = "",
    mine: ReceiptShown | None = None, resent: list[tuple[str, str]] | None = None, status: int = 200,
) -> Response:  # fmt: skip
    """An item as a card, as the form that corrects it, or beside what somebody wanted who was late; for a script as it stands
    in the page of its claim, else as a page."""
    language = language_of(request)
    values = claim_values(at, language)
    item = values["by_id"][str(at.item(item_id).id)]
    notice = said(language, "receipt_stale") if mine else ""
    parts = {
        "item": item,
        "form": editor_of(item) if editing else None,
        "mine": mine,
        "resent": resent or [],
        "fragment": is_fragment(request),
        "notice": said(language, f"receipt_did_{word}", name=name_of_item(item, language)) if word else notice,
        "heading": said(language, "receipt_stale" if mine else "receipt_edit_heading"),
    }
    name = "receipt_parts.html" if is_fragment(request) else "receipt_one.html"
    return rendered(request, who, name, values | parts, status=status)


def told(request: Request, at: ReceiptDesk, action: AuditAction = AuditAction.READ) -> None:
    """For the audit log: whose chart was shown."""
    request.state.audit = {"action": action, "patients": at.patients, "ids": [str(at.claim.row.id)]}


def _file_page(session: Session, request: Request, who: Principal, file_id: UUID) -> Response:
    asked = {name: request.query_params.get(name, "") for name in ("rule", "state", "needing")}
    chosen = ClaimFilter(choice(asked, "rule", Rule), choice(asked, "state", ItemState), asked["needing"] == "1")
    from_ = request.query_params.get("from", "")
    offset = min(int(from_), MAX_ROWS) if from_.isascii() and from_.isdigit() and len(from_) < 9 else 0
    file = receipt_store.get_file(session, file_id)
    rows, total = receipt_queue.claims(session, file_id, chosen, limit=ROWS, offset=offset)
    request.state.audit = {"action": AuditAction.SEARCH}
    kept = {name: value for name, value in asked.items() if value}

    def at(place: int) -> str:
        return f"{page_of(file_id)}?{urlencode(kept | {'from': str(place)})}"

    language = language_of(request)
    return framed(request, who, "receipt_file.html", {
        "file": file,
        "figures": [
            ("receipt_claims", file.claims), ("receipt_needing", file.needing), ("receipt_findings", file.items),
            ("receipt_open", file.open), ("receipt_faults", len(file.faults) + file.claim_faults),
        ],
        "rows": rows,
        "first": offset + 1,
        "total": total,
        "former": at(max(offset - ROWS, 0)) if offset else None,
        "more": at(offset + ROWS) if offset + len(rows) < total else None,
        "rules": [rule.value for rule in Rule],
        "states": [state.value for state in ItemState],
        "chosen": asked,
        "deciding": who.has(Right.REVIEW),
        "refresh": POLL_SECONDS if _moving(file) else None,
        "told": said(language, "receipt_nothing_next") if request.query_params.get("told") == "nothing_next" else "",
    })  # fmt: skip


def _moving(file: receipt_store.File) -> bool:
    return bool(file.progress.queued or file.progress.running)
