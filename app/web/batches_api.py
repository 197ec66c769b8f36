"""`/api/batches`: many notes as one file, how far they are, and what came out."""

import base64
import hashlib
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect

from app import batch_output, batch_report, batch_runs, results
from app.batch_input import Order, receive
from app.db import Database
from app.errors import InvalidInput, TooLong, TooMany
from app.ssmix2 import Facility
from app.web.access import Who, needs
from app.web.api import SOURCE_HEADER, drafts_shown, source_of
from app.web.outcome import malformed, unsupported_media
from app.web.uploads import body_parts
from app.web.wire import json_response
from models import Note
from schemas.access import Right
from schemas.batch import BatchFormat, BatchState

NDJSON, CSV, ZIP = "application/x-ndjson", "text/csv", "application/zip"
MAX_UPLOADS = 4
"""At the same time in this process; each keeps a thread."""
MAX_COUNT = 1000
_FORMATS = {
    NDJSON: BatchFormat.NDJSON, "application/ndjson": BatchFormat.NDJSON, CSV: BatchFormat.CSV,
    ZIP: BatchFormat.ZIP, "application/x-zip-compressed": BatchFormat.ZIP,
}  # fmt: skip
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:/+-]{0,99}")
_STYLE_HASH = base64.b64encode(hashlib.sha256(batch_report.STYLE.encode()).digest()).decode()
_REPORT_POLICY = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; frame-ancestors 'none'"
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {media: {"schema": {"type": "string", "format": "binary"}} for media in (NDJSON, CSV, ZIP)},
    }
}


def _streams(*media: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {one: {"schema": {"type": "string", "format": "binary"}} for one in media}}}


def batches_router(database: Database, facility: Facility, *, max_bytes: int) -> APIRouter:
    """`facility`: who sends the SS-MIX2 messages. `max_bytes`: longest input, as sent and unpacked."""
    router = APIRouter(prefix="/api/batches", tags=["batches"], dependencies=[Depends(needs(Right.BATCHES))])
    uploads = threading.BoundedSemaphore(MAX_UPLOADS)

    @router.post("", status_code=202, openapi_extra=_BODY)
    def post_batch(
        request: Request,
        who: Who,
        source: str | None = None,
        name: str | None = None,
        rate: Annotated[str | None, Query(description="600/h or 08:00-18:00=600/h,else=unlimited; Japan's time")] = None,
        ssmix2: Annotated[bool, Query(description="the ZIP is an SS-MIX2 storage, not one of text files")] = False,
        document_type: Annotated[str | None, Query(description="of notes that do not state it; so the next two")] = None,
        department: str | None = None,
        date: str | None = None,
    ) -> Response:
        """Takes in a file of notes: NDJSON (a note a line), CSV (a note a row), or a ZIP of text files or of an SS-MIX2
        storage. 202 once all of it is stored; the workers read it from then on.

        A note that this source sent before is not converted again. 413: longer than BATCH_MAX_BYTES. 422: cannot be read
        at all. 429: too many files are coming in at once.
        """
        format_ = _format(request, ssmix2)
        size = request.headers.get("content-length", "")
        if size.isascii() and size.isdigit() and int(size) > max_bytes:
            raise TooLong(f"the input has more than {max_bytes:,} bytes (BATCH_MAX_BYTES); split it")
        stated = {"document_type": document_type, "department": department, "date": date}
        order = order_of(name, source_of(source, request.headers.get(SOURCE_HEADER)), format_, stated, rate)
        if not uploads.acquire(blocking=False):
            raise TooMany(f"{MAX_UPLOADS} files are coming in already", 30)
        try:
            batch_id = receive(database, body_parts(request), order, created_by=who.id, max_bytes=max_bytes)
        except ClientDisconnect:
            raise malformed("the body ended before it was whole; nothing of it was kept") from None
        finally:
            uploads.release()
        return _status(batch_id, 202)

    @router.get("")
    def list_batches(
        state: BatchState | None = None,
        before: datetime | None = None,
        count: Annotated[int, Query(ge=1, le=MAX_COUNT)] = 50,
    ) -> Response:
        """The newest first; `next` is the address of the older ones."""
        if before is not None and before.tzinfo is None:
            raise InvalidInput("before: a time with its zone, as 2026-04-01T09:00:00+09:00")
        with database.session_scope() as session:
            found = batch_runs.list_batches(session, state=state, before=before, count=count)
        older = f"/api/batches?count={count}" + (f"&state={state}" if state else "")
        last = f"{older}&before={found[-1]['created_at'].isoformat().replace('+', '%2B')}" if len(found) == count else None
        return json_response({"batches": found, "next": last})

    @router.get("/{batch_id}")
    def get_batch(batch_id: UUID) -> Response:
        """State, counts, notes an hour, when it will end, and what to do next."""
        return _status(batch_id)

    @router.post("/{batch_id}/pause")
    def pause(batch_id: UUID) -> Response:
        """No further note of it is begun; those that are being converted end."""
        with database.session_scope() as session:
            batch_runs.pause(session, batch_id)
        return _status(batch_id)

    @router.post("/{batch_id}/resume")
    def resume(batch_id: UUID) -> Response:
        """409: it is not paused."""
        with database.session_scope() as session:
            batch_runs.resume(session, batch_id)
        return _status(batch_id)

    @router.post("/{batch_id}/cancel")
    def cancel(batch_id: UUID) -> Response:
        """What has not ended is cancelled, and the rest of its input is dropped; what is converted stays."""
        with database.session_scope() as session:
            batch_runs.cancel(session, batch_id)
        return _status(batch_id)

    @router.post("/{batch_id}/retry-failed")
    def retry_failed(batch_id: UUID) -> Response:
        """What failed or was cancelled is queued again. 409: nothing did."""
        with database.session_scope() as session:
            batch_runs.retry_failed(session, batch_id)
        return _status(batch_id)

    @router.get("/{batch_id}/errors", responses=_streams("application/json", NDJSON, CSV))
    def errors(
        batch_id: UUID,
        after: Annotated[int, Query(ge=0, le=2**62)] = 0,
        count: Annotated[int, Query(ge=1, le=MAX_COUNT)] = 100,
        format: Literal["json", "ndjson", "csv"] = "json",  # noqa: A002
    ) -> Response:
        """Entries that were refused, failed or were cancelled, with the reason. JSON: a page, of which `next` is the address
        of the next one; ndjson and csv: all of them."""
        if format != "json":
            rows = batch_runs.every_item(database, batch_id, errors=True)
            lines = batch_report.ledger_csv(rows) if format == "csv" else batch_report.ledger_ndjson(rows)
            return _stream(lines, CSV if format == "csv" else NDJSON, f"{batch_id}-errors.{format}")
        with database.session_scope() as session:
            batch_runs.get_batch(session, batch_id)
            found = batch_runs.items(session, batch_id, errors=True, after=after, count=count)
        more = f"/api/batches/{batch_id}/errors?after={found[-1]['position']}&count={count}" if len(found) == count else None
        return json_response({"errors": found, "next": more})

    @router.get("/{batch_id}/report.csv", responses=_streams(CSV))
    def report_csv(batch_id: UUID) -> Response:
        """A row for each entry."""
        rows = batch_runs.every_item(database, batch_id)
        return _stream(batch_report.ledger_csv(rows), CSV, f"{batch_id}.csv")

    @router.get("/{batch_id}/report.html", responses=_streams("text/html"))
    def report_html(batch_id: UUID) -> Response:
        """Counts and charts, without a word of any note."""
        page = batch_report.report_html(database, batch_id)
        return Response(page, media_type="text/html", headers={"Content-Security-Policy": _REPORT_POLICY})

    @router.get(
        "/{batch_id}/output.ndjson", responses=_streams(NDJSON), dependencies=[Depends(needs(Right.NOTES_READ))]
    )
    def output(batch_id: UUID, who: Who) -> Response:
        """A FHIR Bundle a line, of what this client may see: released resources, or drafts too."""
        return _stream(batch_output.bundles(database, batch_id, drafts=who.drafts), NDJSON, f"{batch_id}.ndjson")

    @router.get("/{batch_id}/ssmix2.zip", responses=_streams(ZIP), dependencies=[Depends(needs(Right.NOTES_READ))])
    def ssmix2_zip(batch_id: UUID, who: Who) -> Response:
        """The SS-MIX2 standardized storage of the batch's patients, of everything that their notes say; for those who may see
        drafts, while there are some."""
        source, everyone = batch_output.patients_of(database, batch_id)
        with database.session_scope() as session:
            of_patients = (Note.source == source, Note.patient_id.in_(everyone))
            shown = drafts_shown(who, results.unreleased(session, *of_patients))
        parts = batch_output.storage_zip(database, batch_id, facility)
        headers = {"Content-Disposition": f'attachment; filename="{batch_id}-ssmix2.zip"'} | shown
        return StreamingResponse(parts, media_type=ZIP, headers=headers)

    def _status(batch_id: UUID, code: int = 200) -> Response:
        with database.session_scope() as session:
            found = batch_runs.status(session, batch_id)
        return json_response(found, code, {"Location": f"/api/batches/{batch_id}"} if code == 202 else None)

    return router


def order_of(
    name: str | None, source: str, format_: BatchFormat, stated: Mapping[str, str | None], rate: str | None
) -> Order:
    """What a sender says. `stated`: keys of notes that do not state them. Raises: InvalidInput."""
    if name is not None and not _NAME.fullmatch(name):
        raise InvalidInput("name: must be 1 to 100 ASCII letters, digits, spaces, . _ : / + and -")
    defaults = {key: value for key, value in stated.items() if value is not None}
    return Order(name or format_.value, source, format_, defaults, rate)


def _format(request: Request, ssmix2: bool) -> BatchFormat:
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    format_ = _FORMATS.get(media)
    if format_ is None:
        raise unsupported_media("Content-Type must be " + ", ".join(sorted(_FORMATS)))
    if not ssmix2:
        return format_
    if format_ is not BatchFormat.ZIP:
        raise unsupported_media(f"an SS-MIX2 storage is sent as {ZIP}")
    return BatchFormat.SSMIX2


def _stream(lines: Iterable[str], media: str, name: str) -> Response:
    """Some hundred lines at a time: each piece costs a change of threads."""

    def parts() -> Iterator[bytes]:
        source = iter(lines)
        while part := "".join(islice(source, 200)):
            yield part.encode()

    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(parts(), media_type=media, headers=headers)
