"""The resources of the note itself: whose it is, its text, and what read it."""

import base64
import hashlib
from collections.abc import Sequence
from typing import Annotated

from pydantic import StringConstraints

from app.fhir import codes
from app.fhir.elements import Json, concept, line, meta
from schemas.note import ChartNote
from schemas.value import Value


class Facility(Value):
    """The sender's 医療機関番号: prefecture 2, fee table 1, facility 7 digits (JP_eCS_InstitutionNumber)."""

    number: Annotated[str, StringConstraints(pattern=r"^[0-4][0-9][1-3][0-9]{7}$")]


class ProvenanceSource(Value):
    """What made the statements: fingerprints of one generation run, for Provenance."""

    run_id: Annotated[str, StringConstraints(pattern=r"\S")]
    software_version: str
    model: str
    prompt: str
    grammar: str
    terminology: str


def patient(resource_id: str, note: ChartNote, facility: Facility | None, recorded: str) -> Json:
    """JP Core, never eCS: JP_Patient_eCS demands an address, which a note does not bring."""
    person = note.patient
    system = f"{codes.FACILITY_PATIENT_OID}{facility.number}" if facility else codes.PATIENT_ID
    family, given = (line(part) or "不明" for part in (person.family, person.given))
    known = {"birthDate": person.birth_date.isoformat()} if person.birth_date else {}
    return {
        "resourceType": "Patient",
        "id": resource_id,
        "meta": meta(recorded, f"{codes.CORE_PROFILE}Patient"),
        "identifier": [{"system": system, "value": person.id}],
        "name": [{"use": "official", "text": f"{family} {given}", "family": family, "given": [given]}],
        "gender": person.sex.value,
        **known,
    }


def document_reference(resource_id: str, subject: Json, note: ChartNote, recorded: str) -> Json:
    """The note as received; evidence counts code points of the decoded attachment."""
    data = note.text.encode()
    attachment = {
        "contentType": "text/plain; charset=utf-8",
        "language": "ja",
        "data": base64.b64encode(data).decode(),
        "size": len(data),
        # R4 Attachment.hash is SHA-1: it detects damage, it does not protect.
        "hash": base64.b64encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode(),
        "creation": note.date.isoformat(),
    }
    document = {
        "resourceType": "DocumentReference",
        "id": resource_id,
        "meta": meta(recorded, f"{codes.ECS_PROFILE}DocumentReference_eCS"),
        "identifier": [{"system": codes.NOTE_ID, "value": note.id}],
        "status": "current",
        "docStatus": "final",
        "type": concept([codes.DOCUMENT_TYPE[note.document_type]]),
        "subject": subject,
        "date": recorded,
        "content": [{"attachment": attachment}],
    }
    if department := line(note.department):
        document["context"] = {"practiceSetting": {"text": department}}
    return document


def provenance(resource_id: str, targets: Sequence[str], document: str, run: ProvenanceSource, recorded: str) -> Json:
    """One for a note: the program, as a contained Device with a version for each part, read the document."""
    versions = (
        ("software", run.software_version),
        ("model", run.model),
        ("prompt", run.prompt),
        ("grammar", run.grammar),
        ("terminology", run.terminology),
    )
    device = {
        "resourceType": "Device",
        "id": "hyojun",
        "deviceName": [{"name": "Hyojun", "type": "model-name"}],
        "version": [{"type": {"text": part}, "value": value.strip()} for part, value in versions if value.strip()],
    }
    return {
        "resourceType": "Provenance",
        "id": resource_id,
        "meta": meta(recorded),
        "contained": [{key: value for key, value in device.items() if value}],
        "extension": [{"url": codes.RUN, "valueString": run.run_id}],
        "target": [{"reference": target} for target in targets],
        "recorded": recorded,
        "activity": concept([codes.CREATE]),
        "agent": [{"type": concept([codes.ASSEMBLER]), "who": {"reference": "#hyojun", "display": "Hyojun"}}],
        "entity": [{"role": "source", "what": {"reference": document}}],
    }
