"""DocumentReference/$standardize: a note in, what the machine reads in it out, in one answer where the note is short.

Source of the asynchronous pattern: https://hl7.org/fhir/R4/async.html (kick-off, status, delete); of the answer under the
status URL, a Bundle batch-response with the one answer in it: https://hl7.org/fhir/R5/async-bundle.html.
"""

import threading
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response

from app import standardize_requests as requests
from app.db import Database
from app.errors import Conflict, Forbidden, ModelOutputError
from app.standardize_requests import OPEN, Standing
from app.web.access import Who
from app.web.bulk_api import without_body
from app.web.document_intake import document_note, document_source
from app.web.fhir_wire import answers, base_of, fhir_answer, fhir_body
from app.web.outcome import malformed
from app.web.wire import Body, check_fhir_format
from schemas.access import Principal
from schemas.job import JobState

WAITING = 8
"""Requests of one process that wait at the same time, each in a thread; who comes then is answered 202. The threads of the
process (40) serve everything else too."""
RETRY_SECONDS = 1


def standardize_router(
    database: Database, *, max_seconds: float, max_characters: int, keep_hours: float
) -> APIRouter:
    """`max_seconds`: longest wait in one request; `max_characters`: longest note that is waited for."""
    router = APIRouter(prefix="/fhir/DocumentReference", tags=["fhir"], default_response_class=Response)
    places = threading.BoundedSemaphore(WAITING)

    def waited(request_id: UUID, who: Principal, wanted: bool) -> Standing:
        """How far the job is: at once, or after a wait where that is `wanted` and not too many wait already."""
        if not wanted or not places.acquire(blocking=False):
            return requests.wait(database, request_id, who, 0)
        try:
            return requests.wait(database, request_id, who, max_seconds)
        finally:
            places.release()

    def finished(found: Standing) -> dict[str, Any]:
        if found.state is JobState.FAILED:
            raise ModelOutputError(f"the conversion failed: {found.reason or 'without a reason'}")
        if found.state is JobState.CANCELLED:
            raise Conflict("the conversion was cancelled")
        with database.session_scope() as session:
            return requests.answer(session, found.job_id)

    @router.post("/$standardize", responses=without_body(202, answers(200, 202, 409, 413, 415, 422)))
    def standardize(request: Request, body: Body, who: Who) -> Response:
        """Converts the note that the DocumentReference holds (or the parameter `document` of a Parameters).

        200 with a Bundle (collection) of all that was read, drafts tagged as such, and an OperationOutcome of the issues;
        202 with the status URL in Content-Location for a long note, where it takes long, or on `Prefer: respond-async`.
        The same note again is not converted twice.
        """
        check_fhir_format(request)
        _check(who)
        resource = _document(fhir_body(request, body))
        note = document_note(resource)
        source = document_source(request, resource)
        with database.session_scope() as session:
            request_id = requests.ask(session, note, source, who, keep_hours=keep_hours)
        asynchronous = "respond-async" in request.headers.get("prefer", "").lower()
        found = waited(request_id, who, not asynchronous and len(note.text) <= max_characters)
        request.state.audit = {"type": "DocumentReference", "ids": (), "note_id": found.note_id}
        if asynchronous or found.state in OPEN:
            return _accepted(request, request_id)
        with database.session_scope() as session:
            requests.cancel(session, request_id, who)
        return fhir_answer(request, finished(found))

    @router.get("/$standardize/{request_id}", responses=without_body(202, answers(200, 202, 404, 409)))
    def status(request: Request, request_id: UUID, who: Who) -> Response:
        """202 with X-Progress while the job is open; 200 with a Bundle (batch-response) that holds the answer."""
        check_fhir_format(request)
        _check(who)
        with database.session_scope() as session:
            found = requests.standing(session, request_id, who)
        request.state.audit = {"type": "DocumentReference", "ids": (), "note_id": found.note_id}
        if found.state in OPEN:
            return Response(status_code=202, headers={"X-Progress": found.state.value, "Retry-After": str(RETRY_SECONDS)})
        entry = {"response": {"status": "200 OK"}, "resource": finished(found)}
        return fhir_answer(request, {"resourceType": "Bundle", "type": "batch-response", "entry": [entry]})

    @router.delete("/$standardize/{request_id}", status_code=202, responses=without_body(202, answers(202, 404)))
    def cancel(request: Request, request_id: UUID, who: Who) -> Response:
        """Ends the request, and its job where it is open and nobody else sent the same note. 404 from then on."""
        _check(who)
        with database.session_scope() as session:
            requests.cancel(session, request_id, who)
        return Response(status_code=202)

    return router


def _check(who: Principal) -> None:
    if not who.may("DocumentReference", "c"):
        raise Forbidden("this needs the scope system/DocumentReference.c")


def _document(body: dict[str, Any]) -> dict[str, Any]:
    """The DocumentReference of the body. Raises: Refused."""
    found: Any = body
    if body.get("resourceType") == "Parameters":
        parts = body.get("parameter")
        named = [p for p in parts if isinstance(p, dict) and p.get("name") == "document"] if isinstance(parts, list) else []
        found = named[0].get("resource") if len(named) == 1 else None
    if not isinstance(found, dict) or found.get("resourceType") != "DocumentReference":
        raise malformed("the body must be a DocumentReference, or Parameters with one in the parameter `document`")
    return found


def _accepted(request: Request, request_id: UUID) -> Response:
    url = f"{base_of(request)}/DocumentReference/$standardize/{request_id}"
    return Response(status_code=202, headers={"Content-Location": url, "Retry-After": str(RETRY_SECONDS)})
