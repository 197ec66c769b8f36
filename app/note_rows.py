"""A note as a stored row, and back: the one place that knows both."""

import hashlib
import json
from typing import Any
from uuid import uuid4

from app.errors import InvalidInput
from models import Note
from schemas.note import ChartNote, DocumentType, Encounter, Patient, Practitioner, Recipient, Sex


def note_values(note: ChartNote, source: str) -> dict[str, Any]:
    """The columns of `models.Note`. Raises: InvalidInput for characters that a database text cannot hold."""
    # A note without them keeps the fingerprint that it had before these fields were there.
    unstated = {name for name in ("encounter", "physician", "recipient") if getattr(note, name) is None}
    unstated_patient = {name for name in ("address", "insurance_id") if getattr(note.patient, name) is None}
    content = note.model_dump(mode="json", exclude={**dict.fromkeys(unstated, True), "patient": unstated_patient})
    canonical = json.dumps([source, content], ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    if bad := [name for name, value in {"source": source, **content}.items() if _holds_nul(value)]:
        raise InvalidInput(f"{', '.join(bad)}: U+0000 cannot be stored; remove it")
    return {
        "id": uuid4(),
        "source": source,
        "external_id": note.id,
        "patient_id": note.patient.id,
        "patient_family": note.patient.family,
        "patient_given": note.patient.given,
        "patient_sex": note.patient.sex,
        "patient_birth_date": note.patient.birth_date,
        "patient_address": note.patient.address,
        "patient_insurance_id": note.patient.insurance_id,
        "encounter": content.get("encounter"),
        "physician": content.get("physician"),
        "recipient": content.get("recipient"),
        "document_type": note.document_type,
        "department": note.department,
        "note_date": note.date,
        "text": note.text,
        "content_sha256": hashlib.sha256(canonical.encode()).hexdigest(),
    }


def _holds_nul(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_nul, value.values()))
    return isinstance(value, str) and "\x00" in value


def chart_note(row: Note) -> ChartNote:
    """The note as it was received."""
    return ChartNote(
        id=row.external_id,
        document_type=DocumentType(row.document_type),
        department=row.department,
        date=row.note_date,
        patient=Patient(
            id=row.patient_id,
            family=row.patient_family,
            given=row.patient_given,
            sex=Sex(row.patient_sex),
            birth_date=row.patient_birth_date,
            address=row.patient_address,
            insurance_id=row.patient_insurance_id,
        ),
        text=row.text,
        encounter=Encounter.model_validate(row.encounter) if row.encounter else None,
        physician=Practitioner.model_validate(row.physician) if row.physician else None,
        recipient=Recipient.model_validate(row.recipient) if row.recipient else None,
    )
