"""What a note's resources are written from beside its records, and the resources of its text and of its reading."""

import base64
import hashlib
from collections.abc import Sequence
from typing import Annotated

from pydantic import StringConstraints

from app.fhir import codes
from app.fhir.elements import Json, concept, meta, plain, reference
from schemas.coding import Coding
from schemas.note import ChartNote, InstitutionNumber
from schemas.value import Value


class Facility(Value):
    """The institution that sends the notes, as its operator states it; what is None stays out of the resources.

    `number`: 医療機関番号, prefecture 2, fee table 1, institution 7 digits (JP_eCS_InstitutionNumber). Without it no
    resource of a record can claim a JP-CLINS profile. `patient_id_oid`: OID of the facility's patient numbers, dotted
    decimal without `urn:oid:`, where it is not the one that JP-CLINS derives from `number`.
    """

    number: InstitutionNumber | None = None
    name: Annotated[str, StringConstraints(min_length=1, max_length=100)] | None = None
    address: Annotated[str, StringConstraints(min_length=1, max_length=500)] | None = None
    phone: Annotated[str, StringConstraints(pattern=r"^[0-9+() -]{1,30}$")] | None = None
    patient_id_oid: Annotated[str, StringConstraints(pattern=r"^[0-2](\.(0|[1-9][0-9]*))+$")] | None = None


class ProvenanceSource(Value):
    """What made the statements: fingerprints of one generation run, for Provenance."""

    run_id: Annotated[str, StringConstraints(pattern=r"\S")]
    software_version: str
    model: str
    adapter: str | None = None
    prompt: str
    grammar: str
    terminology: str


def department_concept(text: str, coding: Coding | None = None) -> Json | None:
    """診療科 (JP_eCS_Department: text as the facility calls it, SS-MIX2 code of two digits where known)."""
    shown = plain(text)
    return concept([coding] if coding else [], shown) if shown else None


def document_reference(
    resource_id: str,
    subject: Json,
    note: ChartNote,
    recorded: str,
    *,
    practice: Json | None = None,
    author: Json | None = None,
    custodian: Json | None = None,
    encounter: Json | None = None,
) -> Json:
    """The note as received; evidence counts code points of the decoded attachment. `practice`: the department;
    `author`, `custodian`, `encounter`: references to resources of the note."""
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
    document: Json = {
        "resourceType": "DocumentReference",
        "id": resource_id,
        "meta": meta(recorded, f"{codes.ECS_PROFILE}DocumentReference_eCS"),
        "identifier": [{"system": codes.NOTE_ID, "value": note.id}],
        "status": "current",
        "docStatus": "final",
        "type": concept([codes.DOCUMENT_TYPE[note.document_type]]),
        "subject": subject,
        "date": recorded,
    }
    if author:
        document["author"] = [author]
    if custodian:
        document["custodian"] = custodian
    document["content"] = [{"attachment": attachment}]
    context: Json = {"encounter": [encounter]} if encounter else {}
    if practice:
        context["practiceSetting"] = practice
    return document | ({"context": context} if context else {})


def provenance(resource_id: str, targets: Sequence[str], document: str, run: ProvenanceSource, recorded: str) -> Json:
    """One for a note: the program, as a contained Device with a version for each part, read the document."""
    versions = (
        ("software", run.software_version),
        ("model", run.model),
        ("adapter", run.adapter or ""),
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
        "target": [reference(target) for target in targets],
        "recorded": recorded,
        "activity": concept([codes.CREATE]),
        "agent": [{"type": concept([codes.ASSEMBLER]), "who": {"reference": "#hyojun", "display": "Hyojun"}}],
        "entity": [{"role": "source", "what": {"reference": document}}],
    }


def verification(
    resource_id: str, targets: Sequence[str], document: str, by: str, recorded: str, run_id: str, *, withdrawn: bool = False
) -> Json:
    """Provenance of a release, or of its withdrawal: the person `by` (`schemas.access.Principal.id`) judged what is told."""
    who = {"identifier": {"system": codes.PRINCIPAL_ID, "value": by}}
    return {
        "resourceType": "Provenance",
        "id": resource_id,
        "meta": meta(recorded),
        "extension": [{"url": codes.RUN, "valueString": run_id}],
        "target": [reference(target) for target in targets],
        "recorded": recorded,
        "activity": concept([codes.NULLIFY if withdrawn else codes.UPDATE]),
        "agent": [{"type": concept([codes.VERIFIER]), "who": who}],
        "entity": [{"role": "source", "what": {"reference": document}}],
    }
