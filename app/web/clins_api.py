"""What the national service takes, as operations of the FHIR face. This server sends nothing: a person or another program
fetches a Bundle here and carries it on.

Source of the form of operations: https://hl7.org/fhir/R4/operations.html. They are read by GET although the first reading
of a Bundle records it: a second one gives the same.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request, Response

from app import submissions
from app.db import Database
from app.errors import Forbidden
from app.fhir.clins import CLINS_TYPES, ClinsType
from app.submissions import DocumentMade, Made
from app.web.access import Who
from app.web.api import DRAFTS
from app.web.fhir_wire import answers
from app.web.outcome import malformed
from app.web.wire import check_fhir_format, fhir_response
from schemas.access import Principal
from schemas.issue import Issue, IssueType, Severity

LEFT_OUT = "Hyojun-Left-Out"
"""Header: how many resources are not in the Bundle; `report=true` tells which, and why."""


def clins_router(database: Database) -> APIRouter:
    """Goes in before the router of `app.web.fhir_rest`, whose /fhir/{type}/{id} is more general."""
    responses = answers(200, 404, 409)
    router = APIRouter(prefix="/fhir", tags=["fhir"], responses=responses, default_response_class=Response)

    @router.get("/Patient/{patient_id}/$clins-bundle")
    def clins_bundle(
        request: Request,
        patient_id: str,
        who: Who,
        type: str | None = None,  # noqa: A002 the parameter's name on the wire
        drafts: bool = False,
        document: str | None = None,
        report: bool = False,
        source: str | None = None,
    ) -> Response:
        """A Bundle (JP_Bundle_CLINS) of the patient's released resources of one type.

        Observation: one result report, that of `document` (an id of a DocumentReference) or the newest; `Link` leads to
        the others. `drafts=true` takes what no person has released too. `report=true`: an OperationOutcome that says what
        is left out and why. 404: no such patient, or nothing of the type; 422: something is there and cannot be sent.
        """
        check_fhir_format(request)
        _check_scopes(who, ("Patient",), drafts=drafts)
        type_ = _type(type)
        _check_scopes(who, (type_,), drafts=drafts)
        with database.session_scope() as session:
            source, local_id = submissions.find_patient(session, patient_id, source)
            headers: dict[str, str] = {}
            if type_ == "Observation":
                known = submissions.reports(session, source, local_id, drafts=drafts)
                if document is None and known:
                    document = known[0].document
                others = [r.document for r in known if r.document != document]
                headers = _links(request, patient_id, others, drafts=drafts)
            now = datetime.now(UTC)
            found = submissions.clins_bundles(
                session, source, local_id, type_, drafts=drafts, document=document, now=now
            )
            _check_scopes(who, _types(found), drafts=drafts)
        if not found:
            text = f"the patient's notes state nothing that becomes {type_}"
            return _outcome([Issue(severity=Severity.ERROR, code=IssueType.NOT_FOUND, text=text)], 404)
        # Without one that may be looked at, every report says the same: why not.
        return _answer(found[0], headers, report=report)

    @router.get("/DocumentReference/{document_id}/$document")
    def document(
        request: Request, document_id: str, who: Who, drafts: bool = False, report: bool = False
    ) -> Response:
        """The document (診療情報提供書, 退院時サマリー) of a note of type referral or discharge, of its released resources.

        422: the note is of another type, or lacks what the document must have.
        """
        check_fhir_format(request)
        _check_scopes(who, ("DocumentReference",), drafts=drafts)
        with database.session_scope() as session:
            made = submissions.note_document(session, document_id, drafts=drafts)
            _check_scopes(who, _types([made]), drafts=drafts)
        if made.bundle is None:
            return _outcome(made.issues, 422)
        headers = {
            LEFT_OUT: str(len(made.issues) + max(made.waiting - 1, 0)),
            DRAFTS: str(made.drafts).lower(),
        }
        return _outcome(made.issues, 200, headers) if report else fhir_response(made.bundle, 200, headers)

    return router


def _check_scopes(who: Principal, types: Iterable[str], *, drafts: bool) -> None:
    """Raises: Forbidden for a type that is not his to read, and for drafts that are not his to see."""
    if missing := sorted({type_ for type_ in types if not who.may(type_, "r")}):
        raise Forbidden("this needs the scope " + " ".join(f"system/{type_}.r" for type_ in missing))
    if drafts and not who.drafts:
        raise Forbidden("drafts=true needs the right drafts.read")


def _types(made: Iterable[Made | DocumentMade]) -> set[str]:
    """Of all that is in the Bundles; who may read a document's DocumentReference may read its Composition."""
    entries = [entry["resource"] for one in made if one.bundle for entry in one.bundle["entry"]]
    return {str(resource["resourceType"]) for resource in entries} - {"Composition"}


def _type(written: str | None) -> ClinsType:
    for known in CLINS_TYPES:
        if written == known:
            return known
    raise malformed("type: must be " + " or ".join(CLINS_TYPES))


def _answer(made: Made, headers: dict[str, str], *, report: bool) -> Response:
    if made.bundle is None:
        return _outcome(made.issues, 422, headers)
    headers |= {LEFT_OUT: str(made.left_out), DRAFTS: str(made.drafts).lower(), "ETag": f'W/"{made.version}"'}
    return _outcome(made.issues, 200, headers) if report else fhir_response(made.bundle, 200, headers)


def _outcome(issues: Sequence[Issue], status: int, headers: dict[str, str] | None = None) -> Response:
    listed: list[dict[str, Any]] = [
        {"severity": issue.severity.value, "code": issue.code.value, "diagnostics": issue.text} for issue in issues
    ]
    nothing = {"severity": "information", "code": "informational", "diagnostics": "nothing is left out"}
    return fhir_response({"resourceType": "OperationOutcome", "issue": listed or [nothing]}, status, headers)


def _links(request: Request, patient_id: str, documents: Sequence[str], *, drafts: bool) -> dict[str, str]:
    """RFC 8288: the same operation for the patient's other reports, the newest first."""
    base = f"{str(request.base_url).rstrip('/')}/fhir/Patient/{quote(patient_id)}/$clins-bundle"
    wanted = {"drafts": "true"} if drafts else {}
    targets = [f"{base}?{urlencode({'type': 'Observation', **wanted, 'document': one})}" for one in documents]
    return {"Link": ", ".join(f'<{target}>; rel="related"' for target in targets)} if targets else {}
