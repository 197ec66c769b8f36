"""A note as other systems send it: a DocumentReference in, a Task to follow.

Source of the REST rules: https://hl7.org/fhir/R4/http.html (create, Status-Codes). A POST of a DocumentReference stores no
DocumentReference: it queues the note in it, whose conversion writes one, with all that the note states.
"""

import base64
import binascii
import hashlib
from datetime import datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response

from app import jobs, results
from app.db import Database
from app.errors import Forbidden, InvalidInput
from app.fhir.codes import DOCUMENT_TYPE, INSURANCE_MEMBER, LOINC
from app.intake import note_from
from app.web.access import Who
from app.web.api import SOURCE_HEADER, source_of
from app.web.fhir_wire import answers, base_of, check_condition_header, fhir_answer, readable, takes
from app.web.outcome import malformed
from app.web.wire import FHIR_TYPES, Body, check_fhir_format, json_body
from schemas.job import JobState
from schemas.note import ChartNote, DocumentType

DOCUMENT_TYPES = "urn:hyojun:document-type"
"""Code system of `DocumentType`."""

# The other way round from what conversions write; where several of our types share a code, the first one.
_LOINC = {coding.code: type_ for type_, coding in reversed(DOCUMENT_TYPE.items())}
_TASK_STATUS = {
    JobState.QUEUED: "requested",
    JobState.RUNNING: "in-progress",
    JobState.DONE: "completed",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "cancelled",
}


def intake_router(database: Database) -> APIRouter:
    """Goes in before the router of `app.web.fhir_rest`, whose /fhir/{type} is more general."""
    router = APIRouter(prefix="/fhir", tags=["notes"], default_response_class=Response)

    @router.post(
        "/DocumentReference",
        status_code=202,
        responses=answers(200, 202, 403, 413, 415, 422),
        openapi_extra=takes(),
    )
    @router.post("/DocumentReference/", include_in_schema=False)
    def create_document_reference(request: Request, body: Body, who: Who) -> Response:
        """Queues the note that the DocumentReference holds; the Task of its job tells when the resources are there.

        202, or 200 if the same source sent the same note before. Location is the Task. The source is `meta.source` or
        the header `Hyojun-Source`.
        """
        check_fhir_format(request)
        if not who.may("DocumentReference", "c"):
            raise Forbidden("this needs the scope system/DocumentReference.c")
        check_condition_header(request)
        resource = json_body(request, body, FHIR_TYPES)
        if not isinstance(resource, dict) or resource.get("resourceType") != "DocumentReference":
            raise malformed("the body must be a DocumentReference")
        note = document_note(resource)
        source = document_source(request, resource)
        with database.session_scope() as session:
            submission = jobs.submit(session, note, source)
            task = _task(results.job_status(session, submission.job_id), note.id)
        location = f"{base_of(request)}/Task/{task['id']}"
        return fhir_answer(request, task, 202 if submission.created else 200, {"Location": location})

    @readable(router, "/Task/{task_id}", responses=answers(200, 403, 404))
    def read_task(request: Request, task_id: UUID, who: Who) -> Response:
        """A job, as a Task; its outputs are the resources that it wrote."""
        check_fhir_format(request)
        if not (who.may("Task", "r") or who.may("DocumentReference", "c")):
            raise Forbidden("this needs the scope system/Task.r, or that of sending notes")
        with database.session_scope() as session:
            status = results.job_status(session, task_id)
            record = results.note_record(session, status["note_id"])
            written = results.job_resources(session, task_id)
        return fhir_answer(request, _task(status, record["note"]["id"], written))

    return router


def document_note(resource: dict[str, Any]) -> ChartNote:
    """The note that a DocumentReference holds. Raises: InvalidInput, TooLong; Refused for what is not text."""
    return note_from(note_fields(resource))


def document_source(request: Request, resource: dict[str, Any]) -> str:
    """The sending system: `meta.source`, or the header `Hyojun-Source`, or `fhir`. Raises: InvalidInput."""
    return source_of(_at(resource, "meta", "source"), request.headers.get(SOURCE_HEADER), "fhir")


def note_fields(resource: dict[str, Any]) -> dict[str, Any]:
    """The keys of a note from the elements of a DocumentReference; what is not stated is left out, and then missed."""
    text = _text(resource)
    patient = _patient(resource)
    identifier = _at(resource, "masterIdentifier", "value") or _at(resource, "identifier", 0, "value")
    if identifier is None:
        # A document without an identifier gets one that is the same when it is sent again.
        identifier = "doc-" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    elif isinstance(identifier, str):
        identifier = identifier.removeprefix("urn:uuid:").removeprefix("urn:oid:")
    # When the care took place, else when the document was made; the day is the one that was written, in its own zone.
    written = _at(resource, "context", "period", "start") or _at(resource, "date")
    setting = _at(resource, "context", "practiceSetting") or {}
    fields = {
        "id": identifier,
        "document_type": _document_type(resource),
        "department": _at(setting, "text") or _at(setting, "coding", 0, "display"),
        "date": written[:10] if isinstance(written, str) else written,
        "patient": patient,
        "text": text,
        "encounter": _encounter(resource),
        "physician": _physician(resource),
    }
    missing = {"department": "context.practiceSetting", "date": "context.period.start or date", "document_type": "type"}
    for name, element in missing.items():
        if fields[name] is None:
            raise InvalidInput(f"{element}: is missing, and Hyojun needs it")
    return fields


def _text(resource: dict[str, Any]) -> str:
    content = resource.get("content")
    if not isinstance(content, list) or len(content) != 1:
        raise InvalidInput("content: must hold one attachment")
    attachment = _at(content, 0, "attachment")
    kind, data = _at(attachment, "contentType"), _at(attachment, "data")
    media, _, parameters = str(kind or "").replace(" ", "").lower().partition(";")
    if media != "text/plain" or parameters not in ("", "charset=utf-8"):
        raise InvalidInput("content.attachment.contentType: must be text/plain; charset=utf-8")
    if not isinstance(data, str):
        raise InvalidInput("content.attachment.data: is missing; a url is not followed")
    try:
        raw = base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        raise malformed("content.attachment.data: is not base64") from None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise malformed(f"content.attachment.data: is not UTF-8: byte {error.start}") from None


def _patient(resource: dict[str, Any]) -> dict[str, Any]:
    """The contained Patient of `subject`, as the `patient` of a note."""
    reference = _at(resource, "subject", "reference")
    contained = resource.get("contained")
    found = [
        item
        for item in (contained if isinstance(contained, list) else [])
        if isinstance(item, dict) and item.get("resourceType") == "Patient"
    ]
    if isinstance(reference, str):
        found = [item for item in found if reference == f"#{item.get('id')}"]
    if len(found) != 1:
        raise InvalidInput("subject: must name the one contained Patient, with identifier, name and birthDate")
    patient = found[0]
    identifiers = [i for i in patient.get("identifier") or [] if isinstance(i, dict)]
    insurance = [i.get("value") for i in identifiers if i.get("system") == INSURANCE_MEMBER]
    local = [i.get("value") for i in identifiers if i.get("system") != INSURANCE_MEMBER]
    fields = {
        "id": _at(resource, "subject", "identifier", "value") or next(iter(local), None),
        **_person(patient),
        "sex": patient.get("gender", "unknown"),
        "birth_date": patient.get("birthDate"),
        "address": _at(patient, "address", 0, "text"),
        "insurance_id": next(iter(insurance), None),
    }
    missing = {"id": "identifier", "family": "name.family", "given": "name.given", "birth_date": "birthDate"}
    for field, element in missing.items():
        if fields[field] is None:
            raise InvalidInput(f"subject: the Patient's {element} is missing, and Hyojun needs it")
    return fields


def _contained(resource: dict[str, Any], type_: str, reference: Any) -> dict[str, Any] | None:
    """The contained resource that a reference `#id` names; a reference to elsewhere is not followed."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    for item in resource.get("contained") or []:
        if isinstance(item, dict) and item.get("resourceType") == type_ and item.get("id") == reference[1:]:
            return item
    raise InvalidInput(f"contained: has no {type_} of the id that is referred to")


def _encounter(resource: dict[str, Any]) -> dict[str, Any] | None:
    """The contained Encounter of `context.encounter`, as the `encounter` of a note."""
    found = _contained(resource, "Encounter", _at(resource, "context", "encounter", 0, "reference"))
    if found is None:
        return None
    start, end = _at(found, "period", "start"), _at(found, "period", "end")
    stay = found.get("hospitalization")
    fields = {
        "id": _at(found, "identifier", 0, "value"),
        "encounter_class": _at(found, "class", "code"),
        "start": start[:10] if isinstance(start, str) else start,
        "end": end[:10] if isinstance(end, str) else end,
        "discharge_disposition": _at(stay, "dischargeDisposition", "coding", 0, "code"),
        "admit_source": _at(stay, "admitSource", "coding", 0, "code"),
        "reason": _at(found, "reasonCode", 0, "text"),
    }
    if fields["encounter_class"] is None:
        raise InvalidInput("context.encounter: the Encounter's class is missing")
    return fields


def _physician(resource: dict[str, Any]) -> dict[str, Any] | None:
    """The contained Practitioner of the first `author` that is one, as the `physician` of a note."""
    authors = resource.get("author")
    for author in authors if isinstance(authors, list) else []:
        reference = _at(author, "reference")
        contained = [c for c in resource.get("contained") or [] if isinstance(c, dict)]
        if isinstance(reference, str) and any(
            c.get("resourceType") == "Practitioner" and reference == f"#{c.get('id')}" for c in contained
        ):
            found = _contained(resource, "Practitioner", reference)
            assert found is not None
            return {"id": _at(found, "identifier", 0, "value"), **_person(found)}
    return None


def _person(person: dict[str, Any]) -> dict[str, Any]:
    """family and given of the name of a Patient or Practitioner."""
    name = _name(person)
    given = name.get("given")
    whole = isinstance(given, list) and all(isinstance(part, str) for part in given)
    return {"family": name.get("family"), "given": " ".join(given) if whole and given else None}


def _name(patient: dict[str, Any]) -> dict[str, Any]:
    """The name in kanji (iso21090-EN-representation IDE, as JP Core writes it), else the first."""
    names = [name for name in patient.get("name") or [] if isinstance(name, dict)]
    for name in names:
        if any(isinstance(e, dict) and e.get("valueCode") == "IDE" for e in name.get("extension") or []):
            return name
    return names[0] if names else {}


def _document_type(resource: dict[str, Any]) -> str | None:
    """A code of ours, or a LOINC code that means one. Raises: InvalidInput for codes that are neither."""
    codings = _at(resource, "type", "coding")
    codings = [coding for coding in codings if isinstance(coding, dict)] if isinstance(codings, list) else []
    for coding in codings:
        system, code = coding.get("system"), coding.get("code")
        if system in (None, DOCUMENT_TYPES) and code in set(DocumentType):
            return str(code)
        if system == LOINC and isinstance(code, str) and code in _LOINC:
            return _LOINC[code].value
    if not codings:
        return None
    raise InvalidInput(f"type: no coding is known; {DOCUMENT_TYPES} has " + ", ".join(DocumentType))


def _at(value: Any, *path: str | int) -> Any:
    """The element at `path`, or None where the way there ends."""
    for step in path:
        if isinstance(step, int):
            value = value[step] if isinstance(value, list) and len(value) > step else None
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value


def _task(status: dict[str, Any], external_id: str, written: list[tuple[str, str]] | None = None) -> dict[str, Any]:
    """Source: https://hl7.org/fhir/R4/task.html; the job's reason and issues become statusReason and notes."""
    timings = status["timings"]
    changed = timings["finished_at"] or timings["started_at"] or timings["queued_at"]
    task: dict[str, Any] = {
        "resourceType": "Task",
        "id": str(status["id"]),
        "meta": {"lastUpdated": _instant(changed)},
        "status": _TASK_STATUS[JobState(status["state"])],
        "intent": "order",
        "focus": {"type": "DocumentReference", "identifier": {"value": external_id}},
        "authoredOn": _instant(timings["queued_at"]),
        "lastModified": _instant(changed),
    }
    if status["reason"]:
        task["statusReason"] = {"text": status["reason"]}
    if status["issues"]:
        task["note"] = [{"text": f"{issue['severity']} {issue['code']}: {issue['text']}"} for issue in status["issues"]]
    if written:
        task["output"] = [
            {"type": {"text": type_}, "valueReference": {"reference": f"{type_}/{id_}"}} for type_, id_ in written
        ]
    return task



def _instant(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds")
