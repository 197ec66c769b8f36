"""`/api/receipt-checks`: a claim file (UKE) in, what the tables and the model find, what people decide, files out.

`/api/receipt-tables`: the tables that claims are checked by.
"""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from typing import Annotated, Any, TypeVar
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field, ValidationError
from starlette.requests import ClientDisconnect

from app import receipt_decisions, receipt_store, receipt_tables
from app.db import Database
from app.errors import InvalidInput, NotFound, TooLong, TooMany
from app.receipt_output import report_csv
from app.receipt_report import export_uke, judged_items
from app.receipts.masters import MAX_BYTES as MAX_TABLE_BYTES
from app.receipts.uke import Fault, read_uke
from app.web.access import Who, needs
from app.web.outcome import malformed, unsupported_media
from app.web.receipt_wire import MAX_FAULTS, claim_json, file_json, item_json, row_json, table_json, taken_json
from app.web.uploads import MULTIPART, body_parts, read_upload
from app.web.wire import Body, json_body, json_response
from schemas.access import Right
from schemas.receipt import Edited, ItemState
from schemas.value import Value

BYTES, TEXT, CSV, ZIP, JSON = "application/octet-stream", "text/plain", "text/csv", "application/zip", "application/json"
MAX_UPLOADS = 2
"""At the same time in this process; each holds its file."""
MAX_COUNT = 1000
TOTALS = "Hyojun-Totals"
"""Header of a claim file that goes out: its points, HO and GO totals are those that came in."""
_JSON = frozenset({JSON})
_Model = TypeVar("_Model", bound=Value)


class Decided(Value):
    """`version`: of the item as it was seen. `edited`: goes with the decision `edited`, and with no other."""

    version: int = Field(ge=0, le=2**31 - 1)
    decision: ItemState
    edited: Edited | None = None


class Undone(Value):
    """`version`: of the item as it was seen."""

    version: int = Field(ge=0, le=2**31 - 1)


def _upload(*media: str) -> dict[str, Any]:
    binary: dict[str, Any] = {"type": "string", "format": "binary"}
    form = {"type": "object", "required": ["file"], "properties": {"file": binary}}
    content: dict[str, Any] = {one: {"schema": binary} for one in media}
    return {"requestBody": {"required": True, "content": content | {MULTIPART: {"schema": form}}}}


def _json(model: type[Value]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {JSON: {"schema": model.model_json_schema()}}}}


def _gives(media: str, *statuses: int) -> dict[int | str, dict[str, Any]]:
    schema: dict[str, Any] = {"type": "object"} if media == JSON else {"type": "string", "format": "binary"}
    return {status: {"description": "", "content": {media: {"schema": schema}}} for status in statuses or (200,)}


def receipts_router(database: Database, *, max_bytes: int) -> APIRouter:
    """`max_bytes`: longest claim file, where it is less than `receipt_store.MAX_BYTES`."""
    router = APIRouter(prefix="/api", tags=["receipts"], default_response_class=Response)
    uploads = threading.BoundedSemaphore(MAX_UPLOADS)
    chart = [Depends(needs(Right.NOTES_READ))]
    longest = min(max_bytes, receipt_store.MAX_BYTES)

    @router.post(
        "/receipt-checks", status_code=202, openapi_extra=_upload(BYTES, TEXT), responses=_gives(JSON, 202, 200)
    )
    def post_file(
        request: Request,
        who: Who,
        name: Annotated[str | None, Query(max_length=200, description="default, the form's; else receipts.uke")] = None,
        rules_only: Annotated[bool, Query(description="the tables' checks alone: no model, no chart")] = False,
    ) -> Response:
        """Takes in a claim file (UKE, Shift_JIS) as the body, or as the last control of a form. The tables' findings are there
        with the answer; the model's part is queued, a job a claim, with the notes of the claim's patient and month beside it.

        202 with the file; 200 with the first one if the same bytes came before. A broken record is a fault, told with line and
        field; the other claims are checked. 413: too long. 415: no file. 422: no claim is in it. 429: too many are coming in.
        """
        with _coming(uploads):
            content, sent = _file(request, longest, {BYTES, TEXT})
            with database.session_scope() as session:
                taken = receipt_store.take_in(
                    session, io.BytesIO(content), name or sent or "receipts.uke", who.id, max_bytes=longest,
                    rules_only=rules_only,
                )  # fmt: skip
                file = receipt_store.get_file(session, taken.file_id)
        answer = taken_json(file, taken, _faults(content) if taken.faults else [])
        where = {"Location": f"/api/receipt-checks/{taken.file_id}"}
        return json_response(answer, 202 if taken.created else 200, where)

    @router.get("/receipt-checks", responses=_gives(JSON))
    def list_files(
        before: datetime | None = None, count: Annotated[int, Query(ge=1, le=MAX_COUNT)] = 50
    ) -> Response:
        """The newest first; `next` is the address of the older ones."""
        if before is not None and before.tzinfo is None:
            raise InvalidInput("before: a time with its zone, as 2026-04-01T09:00:00+09:00")
        with database.session_scope() as session:
            found = receipt_store.list_files(session, limit=count, before=before)
        more = f"/api/receipt-checks?count={count}&before={found[-1].created_at.isoformat().replace('+', '%2B')}" if (
            len(found) == count
        ) else None  # fmt: skip
        return json_response({"files": [file_json(file) for file in found], "next": more})

    @router.get("/receipt-checks/{file_id}", responses=_gives(JSON))
    def get_file(file_id: UUID) -> Response:
        """How far the model's part is (`progress`), what was found, and how much of it waits for a person (`open`)."""
        with database.session_scope() as session:
            return json_response(file_json(receipt_store.get_file(session, file_id)))

    @router.get("/receipt-checks/{file_id}/claims", responses=_gives(JSON))
    def list_claims(
        file_id: UUID,
        after: Annotated[int, Query(ge=-1, le=2**31 - 1, description="ordinal of a claim")] = -1,
        limit: Annotated[int, Query(ge=1, le=MAX_COUNT)] = 50,
        needing: Annotated[bool, Query(description="with something open alone")] = False,
    ) -> Response:
        """Claims in the order of the file; `next` is the address of the next ones."""
        with database.session_scope() as session:
            found = receipt_store.claims_page(session, file_id, after, limit, needing)
        chosen = "&needing=true" if needing else ""
        more = f"/api/receipt-checks/{file_id}/claims?after={found[-1].ordinal}&limit={limit}{chosen}" if (
            len(found) == limit
        ) else None  # fmt: skip
        return json_response({"claims": [row_json(row) for row in found], "next": more})

    @router.get("/receipt-checks/{file_id}/claims/{claim_id}", responses=_gives(JSON), dependencies=chart)
    def get_claim(request: Request, file_id: UUID, claim_id: UUID, who: Who) -> Response:
        """One claim: its lines in words, findings and advice (`items`), the notes beside it; the passages of the chart at each
        line for those who may see drafts."""
        with database.session_scope() as session:
            found = receipt_store.get_claim(session, claim_id)
            if found.row.file_id != file_id:
                raise NotFound(f"claim {claim_id} is not of this file")
            patients = receipt_store.patients_of_claim(session, claim_id)
        request.state.audit = {"ids": [file_id, claim_id], "patients": sorted(patients)}
        return json_response(claim_json(found, drafts=who.drafts))

    @router.post("/receipt-checks/{file_id}/cancel", responses=_gives(JSON))
    def cancel(file_id: UUID) -> Response:
        """The model's part is given up for what waits or runs; what was found stays."""
        with database.session_scope() as session:
            receipt_store.cancel(session, file_id)
            return json_response(file_json(receipt_store.get_file(session, file_id)))

    @router.post("/receipt-checks/{file_id}/recheck", responses=_gives(JSON))
    def recheck(file_id: UUID) -> Response:
        """All claims are checked again, by the tables in use and with the notes that are there now; what was decided stays."""
        with database.session_scope() as session:
            receipt_store.recheck(session, file_id=file_id)
            return json_response(file_json(receipt_store.get_file(session, file_id)))

    @router.get("/receipt-checks/{file_id}/report.csv", responses=_gives(CSV), dependencies=chart)
    def report(file_id: UUID) -> Response:
        """A row an item, in UTF-8 with a byte order mark: claim, line, finding, advice, evidence, and what was decided."""
        with database.session_scope() as session:
            receipt_store.get_file(session, file_id)

        def parts() -> Iterator[bytes]:
            with database.session_scope() as session:
                lines = report_csv(judged_items(session, file_id))
                while part := "".join(islice(lines, 200)):
                    yield part.encode()

        headers = {"Content-Disposition": f'attachment; filename="{file_id}.csv"'}
        return StreamingResponse(parts(), media_type=CSV, headers=headers)

    @router.get("/receipt-checks/{file_id}/uke", responses=_gives(BYTES), dependencies=chart)
    def uke(
        file_id: UUID,
        apply: Annotated[bool, Query(description="carry out changed codes and counts, deleted lines, added diseases")] = False,
    ) -> Response:
        """The claim file, byte for byte as it came, with the accepted and edited comments (action `add_comment`) as records CO.

        Points and the totals of HO and GO are not computed anew (`Hyojun-Totals: unchanged`): after `apply` the billing
        system has to. `Hyojun-Comments`, `Hyojun-Changes`: how many; `Hyojun-Left`: ids of accepted items that say too little
        to be carried out. 422: a comment that Shift_JIS cannot hold; names the item.
        """
        with database.session_scope() as session:
            made = export_uke(session, file_id, apply=apply)
        headers = {
            "Content-Disposition": f'attachment; filename="{file_id}.UKE"', TOTALS: "unchanged",
            "Hyojun-Comments": str(made.comments), "Hyojun-Changes": str(made.changes),
            **({"Hyojun-Left": ", ".join(made.left[:50])} if made.left else {}),
        }  # fmt: skip
        return Response(made.content, media_type=BYTES, headers=headers)

    @router.post("/receipt-items/{item_id}/decision", responses=_gives(JSON), openapi_extra=_json(Decided))
    def decide(request: Request, item_id: UUID, body: Body, who: Who) -> Response:
        """`accepted`, `rejected`, or `edited` with what is to be done instead. 409: somebody decided since `version`."""
        said = _read(Decided, request, body)
        with database.session_scope() as session:
            item = receipt_decisions.decide(session, item_id, said.version, said.decision, said.edited, who.id)
        return json_response(item_json(item))

    @router.post("/receipt-items/{item_id}/undo", responses=_gives(JSON), openapi_extra=_json(Undone))
    def undo(request: Request, item_id: UUID, body: Body, who: Who) -> Response:
        """The item is open again. 409: it is, or somebody decided since `version`."""
        said = _read(Undone, request, body)
        with database.session_scope() as session:
            item = receipt_decisions.undo(session, item_id, said.version, who.id)
        return json_response(item_json(item))

    # --- tables -------------------------------------------------------------------------------------------------------

    @router.get("/receipt-tables", responses=_gives(JSON))
    def list_tables() -> Response:
        """Imported tables. Where none of a kind is `active`, the one that comes with Hyojun is in use."""
        with database.session_scope() as session:
            found = receipt_tables.list_tables(session)
        return json_response({"tables": [table_json(table) for table in found]})

    @router.post(
        "/receipt-tables", status_code=201, openapi_extra=_upload(BYTES, TEXT, CSV, ZIP), responses=_gives(JSON, 201)
    )
    def import_table(
        request: Request,
        who: Who,
        name: Annotated[str | None, Query(max_length=200, description="the file's; default, the form's")] = None,
    ) -> Response:
        """An SSK master (s_ y_ b_ c_ z_) or a table as TSV; it is in use from then on. Claims that were checked before keep what
        was found until they are checked again. 422: refused whole, with line and column."""
        with _coming(uploads):
            content, sent = _file(request, MAX_TABLE_BYTES, {BYTES, TEXT, CSV, ZIP})
            with database.session_scope() as session:
                found = receipt_tables.import_table(session, content, name or sent or "table", who.id)
        return json_response(table_json(found), 201)

    @router.post("/receipt-tables/{table_id}/activate", responses=_gives(JSON))
    def activate(table_id: UUID, who: Who) -> Response:
        """Puts an imported table into use, in place of the one of its kind."""
        with database.session_scope() as session:
            return json_response(table_json(receipt_tables.activate(session, table_id, who.id)))

    @router.post("/receipt-tables/{kind}/deactivate", responses=_gives(JSON))
    def deactivate(kind: str, who: Who) -> Response:
        """The table that comes with Hyojun is in use again. 404: it is."""
        with database.session_scope() as session:
            receipt_tables.deactivate(session, kind, who.id)
            found = receipt_tables.list_tables(session)
        return json_response({"tables": [table_json(table) for table in found]})

    return router


@contextmanager
def _coming(uploads: threading.BoundedSemaphore) -> Iterator[None]:
    if not uploads.acquire(blocking=False):
        raise TooMany(f"{MAX_UPLOADS} files are coming in already", 30)
    try:
        yield
    except ClientDisconnect:
        raise malformed("the body ended before it was whole; nothing of it was kept") from None
    finally:
        uploads.release()


def _file(request: Request, most: int, media: set[str]) -> tuple[bytes, str]:
    """The bytes, and the name that a form gives them. Raises: Refused, TooLong."""
    size = request.headers.get("content-length", "")
    # A form is a little longer than its file, which is measured while it comes in.
    if size.isascii() and size.isdigit() and int(size) > most + 100_000:
        raise TooLong(f"the file has more than {most:,} bytes; send it in parts")
    stated = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if stated == MULTIPART:
        upload = read_upload(request)
        if not upload.name:
            raise InvalidInput("the form holds no file")
        return upload.content(most), upload.name
    if stated not in media:
        raise unsupported_media("Content-Type must be " + ", ".join([*sorted(media), MULTIPART]))
    found = bytearray()
    for part in body_parts(request):
        found += part
        if len(found) > most:
            raise TooLong(f"the file has more than {most:,} bytes; send it in parts")
    return bytes(found), ""


def _faults(content: bytes) -> list[Fault]:
    """The first ones of the file."""
    return list(islice((fault for part in read_uke(io.BytesIO(content)) for fault in part.faults), MAX_FAULTS))


def _read(model: type[_Model], request: Request, body: bytes) -> _Model:
    """Raises: InvalidInput with the fields that cannot be read, and no value."""
    try:
        return model.model_validate(json_body(request, body, _JSON))
    except ValidationError as error:
        places = sorted({".".join(str(part) for part in detail["loc"]) for detail in error.errors()})
        raise InvalidInput("cannot be read: " + ", ".join(places)) from None
