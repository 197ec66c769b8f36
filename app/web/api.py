"""The JSON API: notes in, jobs to look at, results out. Conversion happens in the workers, never here."""

import io
import re
import zipfile
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response

from app import fhir, jobs, patients, results, ssmix2
from app.db import Database
from app.errors import Forbidden, InvalidInput
from app.intake import note_from
from app.web.access import Who
from app.web.outcome import FHIR_JSON
from app.web.wire import Body, fhir_response, json_body, json_response
from models import Note
from schemas.access import Principal
from schemas.note import ChartNote

SOURCE_HEADER = "Hyojun-Source"
DRAFTS = "Hyojun-Drafts"
"""Header: `true` where there is something in it that no person has released."""
_SOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}")

JSON, ZIP = "application/json", "application/zip"
_JSON = frozenset({JSON})
_NOTE_BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": ChartNote.model_json_schema()}}}
}


def _gives(media: str, *statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route answers where all is well: 200, or `statuses`."""
    schema = {"type": "string", "format": "binary"} if media == ZIP else {"type": "object"}
    return {status: {"description": "", "content": {media: {"schema": schema}}} for status in statuses or (200,)}


def source_of(*candidates: Any) -> str:
    """The first stated name of the sending system. Raises: InvalidInput."""
    source = next((candidate for candidate in candidates if candidate is not None), "api")
    if not isinstance(source, str) or not _SOURCE.fullmatch(source):
        raise InvalidInput("source: must be 1 to 100 ASCII letters, digits, . _ : / and -, the first a letter or digit")
    return source


def api_router(database: Database, facility: ssmix2.Facility) -> APIRouter:
    """`facility`: who sends the SS-MIX2 messages."""
    router = APIRouter(prefix="/api", tags=["notes"], default_response_class=Response)

    @router.post("/notes", status_code=202, openapi_extra=_NOTE_BODY, responses=_gives(JSON, 202, 200))
    def post_note(request: Request, body: Body) -> Response:
        """Queues one note. 202 with its job; 200 with the existing job if this source sent the same note before.

        The source is the key `source` or the header `Hyojun-Source`; keys that a note does not have are ignored.
        """
        value = json_body(request, body, _JSON)
        note = note_from(value)
        source = source_of(value.get("source"), request.headers.get(SOURCE_HEADER))
        with database.session_scope() as session:
            submission = jobs.submit(session, note, source)
            status = results.job_status(session, submission.job_id)
        return _job_response(status, 202 if submission.created else 200)

    @router.get("/notes/{note_id}", responses=_gives(JSON))
    def get_note(note_id: UUID) -> Response:
        """The note as received, and its jobs, newest first."""
        with database.session_scope() as session:
            return json_response(results.note_record(session, note_id))

    @router.post("/notes/{note_id}/jobs", status_code=202, responses=_gives(JSON, 202, 200))
    def convert_again(note_id: UUID) -> Response:
        """Queues a stored note once more, e.g. for another model; 200 with the open job if there is one."""
        with database.session_scope() as session:
            submission = jobs.resubmit(session, note_id)
            status = results.job_status(session, submission.job_id)
        return _job_response(status, 202 if submission.created else 200)

    @router.get("/jobs/{job_id}", responses=_gives(JSON))
    def get_job(job_id: UUID) -> Response:
        """State, attempts, times, issues, and how many statements and resources came out."""
        with database.session_scope() as session:
            return json_response(results.job_status(session, job_id))

    @router.get("/notes/{note_id}/bundle", responses=_gives(FHIR_JSON))
    def get_bundle(note_id: UUID, who: Who) -> Response:
        """A FHIR R4 Bundle (collection) of everything made of the note; 409 while no job has finished.

        It is what the machine has read: while there is something in it that no person has released, the header
        `Hyojun-Drafts` says so, and it is for those alone who may see drafts; /fhir shows what is released.
        """
        with database.session_scope() as session:
            result = results.note_result(session, note_id)
            marked = drafts_shown(who, results.has_drafts(session, Note.id == note_id))
        bundle = fhir.collection(result.note, result.resources, timestamp=result.finished_at)
        return fhir_response(bundle, 200, marked)

    @router.get("/notes/{note_id}/ssmix2", responses=_gives(ZIP))
    def get_ssmix2(note_id: UUID, who: Who) -> Response:
        """A zip of files of an SS-MIX2 standardized storage: the note's own, and the patient-wide ones, which say what all
        notes of its patient say; 409 while no job has finished. `Hyojun-Drafts` as of the Bundle."""
        with database.session_scope() as session:
            messages = patients.note_messages(session, note_id, facility)
            note = session.get_one(Note, note_id)
            of_patient = (Note.source == note.source, Note.patient_id == note.patient_id)
            marked = drafts_shown(who, results.unreleased(session, *of_patient))
        return _zip(f"{note_id}-ssmix2.zip", messages, marked)

    @router.get("/patients/{patient_id}/ssmix2.zip", responses=_gives(ZIP))
    def get_patient_ssmix2(patient_id: str, who: Who, source: str | None = None) -> Response:
        """A zip of the SS-MIX2 standardized storage of one patient, by the sender's id of him. 404: no note of his has a
        result; 422: several systems use the id and `source` does not choose one, or SS-MIX2 cannot file him.
        `Hyojun-Drafts` as of the Bundle."""
        with database.session_scope() as session:
            chosen = patients.source_of(session, patient_id, source)
            files = patients.patient_files(session, chosen, patient_id, facility)
            of_patient = (Note.source == chosen, Note.patient_id == patient_id)
            marked = drafts_shown(who, results.unreleased(session, *of_patient))
        return _zip(f"{patient_id}-ssmix2.zip", files.messages, marked)

    return router


def drafts_shown(who: Principal, drafts: bool) -> dict[str, str]:
    """The header that tells of `drafts`. Raises: Forbidden where there are some, and `who` may see released content alone."""
    if drafts and not who.drafts:
        raise Forbidden("this holds what no person has released; it is for those who may see drafts (drafts.read)")
    return {DRAFTS: str(drafts).lower()}


def _zip(
    name: str, messages: Iterable[tuple[ssmix2.Message, datetime]], marked: Mapping[str, str] | None = None
) -> Response:
    """Each message at its place, under the time at which it counts as sent."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for message, sent_at in messages:
            archive.writestr(str(ssmix2.path_of(message, sent_at)), ssmix2.encode(message.text))
    headers = {"Content-Disposition": f'attachment; filename="{name}"'} | dict(marked or {})
    return Response(packed.getvalue(), media_type=ZIP, headers=headers)


def _job_response(status: dict[str, Any], code: int) -> Response:
    return json_response(status, code, {"Location": f"/api/jobs/{status['id']}"})
