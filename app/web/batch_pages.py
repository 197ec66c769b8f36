"""Batches in a browser: begin one with a file, see how far each is, pause, resume, cancel, and try again what failed."""

import threading
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from app import batch_runs
from app.batch_input import receive
from app.db import Database
from app.errors import HyojunError, InvalidInput, TooMany
from app.web.access import Who
from app.web.admin_frame import Failure, back_to, framed
from app.web.api import source_of
from app.web.batches_api import order_of
from app.web.outcome import Refused
from app.web.uploads import read_upload
from schemas.access import Principal
from schemas.batch import BatchFormat, BatchState
from schemas.note import DocumentType

SHOWN = 50
"""Batches of the list, and errors of a batch."""
MAX_UPLOADS = 2
"""At the same time in this process; each keeps a thread."""
POLL_SECONDS = 15
_FORMATS = (BatchFormat.NDJSON, BatchFormat.CSV, BatchFormat.ZIP, BatchFormat.SSMIX2)
_FIELDS = ("name", "source", "rate", "document_type", "department", "date")


def batch_pages_router(database: Database, *, max_bytes: int) -> APIRouter:
    """`max_bytes`: longest input, as sent and unpacked."""
    router = APIRouter(prefix="/batches", include_in_schema=False)
    uploads = threading.BoundedSemaphore(MAX_UPLOADS)

    @router.get("")
    def batches(request: Request, who: Who) -> Response:
        return _list_page(request, who)

    @router.post("")
    def start(request: Request, who: Who) -> Response:
        """The file goes from the form straight into the database; nothing of it lies on this machine."""
        form: Mapping[str, str] = {}
        try:
            if not uploads.acquire(blocking=False):
                raise TooMany(f"{MAX_UPLOADS} files are coming in already", 30)
            try:
                upload = read_upload(request)
                form = upload.fields
                if form.get("format") not in _FORMATS:
                    raise InvalidInput("format: must be one of " + ", ".join(_FORMATS))
                if not upload.name:
                    raise InvalidInput("the file: none was chosen")
                said = {key: form.get(key, "").strip() or None for key in _FIELDS}
                stated = {key: said[key] for key in ("document_type", "department", "date")}
                source = source_of(said["source"])
                order = order_of(said["name"], source, BatchFormat(form["format"]), stated, said["rate"])
                batch_id = receive(database, upload.parts, order, created_by=who.id, max_bytes=max_bytes)
            finally:
                uploads.release()
        except (HyojunError, Refused) as error:
            return _list_page(request, who, error, form)
        return back_to(f"/batches/{batch_id}", "")

    @router.get("/{batch_id}")
    def batch(request: Request, batch_id: UUID, who: Who) -> Response:
        return _batch_page(request, who, batch_id)

    @router.post("/{batch_id}/pause")
    def pause(request: Request, batch_id: UUID, who: Who) -> Response:
        return _steer(request, who, batch_id, batch_runs.pause)

    @router.post("/{batch_id}/resume")
    def resume(request: Request, batch_id: UUID, who: Who) -> Response:
        return _steer(request, who, batch_id, batch_runs.resume)

    @router.post("/{batch_id}/cancel")
    def cancel(request: Request, batch_id: UUID, who: Who) -> Response:
        return _steer(request, who, batch_id, batch_runs.cancel)

    @router.post("/{batch_id}/retry-failed")
    def retry_failed(request: Request, batch_id: UUID, who: Who) -> Response:
        return _steer(request, who, batch_id, batch_runs.retry_failed)

    def _steer(
        request: Request, who: Principal, batch_id: UUID, deed: Callable[[Session, UUID], object]
    ) -> Response:
        try:
            with database.session_scope() as session:
                deed(session, batch_id)
        except HyojunError as error:
            return _batch_page(request, who, batch_id, error)
        return back_to(f"/batches/{batch_id}", "")

    def _list_page(
        request: Request, who: Principal, error: Failure | None = None, form: Mapping[str, str] | None = None
    ) -> Response:
        with database.session_scope() as session:
            found = batch_runs.list_batches(session, count=SHOWN)
        values: dict[str, Any] = {
            "batches": found, "formats": _FORMATS, "types": list(DocumentType),
            "form": {key: (form or {}).get(key, "") for key in ("format", *_FIELDS)},
        }  # fmt: skip
        return framed(request, who, "admin_batches.html", values, error=error)

    def _batch_page(request: Request, who: Principal, batch_id: UUID, error: Failure | None = None) -> Response:
        """Raises: NotFound."""
        with database.session_scope() as session:
            found = batch_runs.status(session, batch_id)
            faults = batch_runs.items(session, batch_id, errors=True, count=SHOWN)
        moving = found["state"] in (BatchState.RECEIVING, BatchState.RUNNING)
        values = {"batch": found, "faults": faults, "refresh": POLL_SECONDS if moving and error is None else None}
        return framed(request, who, "admin_batch.html", values, error=error)

    return router
