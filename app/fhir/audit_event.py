"""Audit events as FHIR R4 AuditEvent (https://hl7.org/fhir/R4/auditevent.html), for the hospital's audit repository.

Local codes, for what no code system has a word: `CodeSystem/audit-action` below our base, the actions of
`schemas.review.AuditAction`.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from app.fhir.codes import LOCAL
from schemas.review import AuditAction, AuditOutcome

Json = dict[str, Any]

_TYPES = "http://terminology.hl7.org/CodeSystem/audit-event-type"
_DICOM = "http://dicom.nema.org/resources/ontology/DCM"
_REST = "http://hl7.org/fhir/restful-interaction"
_ROLES = "http://terminology.hl7.org/CodeSystem/object-role"
_ENTITIES = "http://terminology.hl7.org/CodeSystem/audit-entity-type"

# https://hl7.org/fhir/R4/valueset-audit-event-sub-type.html
_INTERACTIONS = {
    AuditAction.READ: ("read", "R"),
    AuditAction.SEARCH: ("search", "E"),
    AuditAction.CREATE: ("create", "C"),
    AuditAction.UPDATE: ("update", "U"),
    AuditAction.DELETE: ("delete", "D"),
    AuditAction.EXECUTE: ("operation", "E"),
}
# DICOM PS3.16, context group 400 and 401: user authentication, export, security administration.
_DICOM_CODES = {
    AuditAction.LOGIN: ("110114", "User Authentication", "110122", "Login"),
    AuditAction.LOGIN_FAILED: ("110114", "User Authentication", "110122", "Login"),
    AuditAction.LOGOUT: ("110114", "User Authentication", "110123", "Logout"),
    AuditAction.TOKEN: ("110114", "User Authentication", "110122", "Login"),
    AuditAction.EXPORT: ("110106", "Export", None, None),
    AuditAction.BACKUP: ("110106", "Export", None, None),
    AuditAction.RESTORE: ("110107", "Import", None, None),
    AuditAction.ADMIN: ("110100", "Application Activity", None, None),
}
_CHANGES = {
    AuditAction.PURGE: "D", AuditAction.CONVERT: "C", AuditAction.RESTORE: "C", AuditAction.ADD: "C",
    AuditAction.AMEND: "U", AuditAction.RELEASE: "U", AuditAction.UNDO: "U", AuditAction.WITHDRAW: "U",
    AuditAction.ADJUDICATE: "U",
}  # fmt: skip
# https://hl7.org/fhir/R4/valueset-audit-event-outcome.html
_OUTCOMES = {AuditOutcome.REFUSED: "4", AuditOutcome.FAILED: "8"}


def audit_event(row: Mapping[str, Any]) -> Json:
    """`row`: the columns of `models.AuditEvent`."""
    action = AuditAction(row["action"])
    type_, subtype = _kind(action)
    agent: Json = {
        "who": {"identifier": {"system": f"{LOCAL}/NamingSystem/principal", "value": row["acted_by"]}},
        "requestor": True,
    }
    if row["address"]:
        agent["network"] = {"address": row["address"], "type": "2"}
    found: Json = {
        "resourceType": "AuditEvent",
        "id": f"audit-{row['id']}",
        "type": type_,
        "subtype": [subtype],
        "action": _INTERACTIONS[action][1] if action in _INTERACTIONS else _CHANGES.get(action, "E"),
        "recorded": _instant(row["recorded_at"]),
        "outcome": _OUTCOMES.get(row["outcome"], "0"),
        "agent": [agent],
        "source": {"observer": {"display": "Hyojun"}},
    }
    if entities := [*_things(row), *_request(row)]:
        found["entity"] = entities
    return found


def _kind(action: AuditAction) -> tuple[Json, Json]:
    own = {"system": f"{LOCAL}/CodeSystem/audit-action", "code": action.value}
    if action in _INTERACTIONS:
        code = _INTERACTIONS[action][0]
        return {"system": _TYPES, "code": "rest", "display": "RESTful Operation"}, {"system": _REST, "code": code}
    if action in _DICOM_CODES:
        code, display, subcode, subdisplay = _DICOM_CODES[action]
        sub = {"system": _DICOM, "code": subcode, "display": subdisplay} if subcode else own
        return {"system": _DICOM, "code": code, "display": display}, sub
    return {"system": f"{LOCAL}/CodeSystem/audit-action", "code": "event"}, own


def _things(row: Mapping[str, Any]) -> list[Json]:
    named = [i if "/" in i else f"{row['type']}/{i}" for i in row["ids"] or () if "/" in i or row["type"]]
    patients = [f"Patient/{i}" for i in row["patients"] or ()]
    things: list[Json] = [
        {"what": {"reference": f"Patient/{i}"}, "role": {"system": _ROLES, "code": "1", "display": "Patient"}}
        for i in row["patients"] or ()
    ]
    things += [
        {"what": {"reference": name}, "role": {"system": _ROLES, "code": "4", "display": "Domain Resource"}}
        for name in named
        if name not in patients
    ]
    if row["note_id"]:
        things.append({"what": {"identifier": {"system": f"{LOCAL}/NamingSystem/note-row", "value": str(row["note_id"])}}})
    return things


def _request(row: Mapping[str, Any]) -> list[Json]:
    """How it was asked for, and its place in the chain of hashes."""
    told = [("route", row["route"]), ("status", row["status"]), ("request-id", row["request_id"])]
    told += [("parameter", name) for name in row["query_names"] or ()]
    told += [("hash", row["hash"]), ("previous", row["previous"])]
    details = [{"type": name, "valueString": str(value)} for name, value in told if value is not None]
    if not details:
        return []
    return [{"type": {"system": _ENTITIES, "code": "2", "display": "System Object"}, "name": "request", "detail": details}]


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
