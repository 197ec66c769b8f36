"""Notes as received, and what was read out of them."""

from datetime import date, datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.metadata import Base, one_of
from schemas.note import DocumentType, Sex
from schemas.statement import Kind


class Note(Base):
    """One clinical document exactly as received. Never changed: a corrected note is another row.

    `content_sha256` covers the source and every received field, so that sending the same note twice finds the first.
    """

    __tablename__ = "notes"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    source: Mapped[str]
    """The system that sent it; `external_id` is unique only within one source, and not over corrections."""
    external_id: Mapped[str]
    patient_id: Mapped[str]
    patient_family: Mapped[str]
    patient_given: Mapped[str]
    patient_sex: Mapped[str]
    patient_birth_date: Mapped[date | None]
    patient_address: Mapped[str | None]
    patient_insurance_id: Mapped[str | None]
    encounter: Mapped[dict[str, Any] | None]
    """`schemas.note.Encounter`; likewise `physician` (Practitioner) and `recipient` (Recipient)."""
    physician: Mapped[dict[str, Any] | None]
    recipient: Mapped[dict[str, Any] | None]
    document_type: Mapped[str]
    department: Mapped[str]
    note_date: Mapped[date]
    text: Mapped[str]
    content_sha256: Mapped[str]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)

    __table_args__ = (
        UniqueConstraint("content_sha256"),
        CheckConstraint("content_sha256 ~ '^[0-9a-f]{64}$'", name="content_sha256"),
        CheckConstraint("text <> ''", name="text"),
        one_of("patient_sex", Sex),
        one_of("document_type", DocumentType),
        Index(None, "source", "external_id"),
        Index(None, "source", "patient_id"),
        Index(None, "patient_id", "note_date"),
    )


class Run(Base):
    """One generation: everything needed to say why the model wrote what it wrote.

    `model`, `adapter`, `prompt`, `grammar`, `terminology` are fingerprints of each; `version` is that of this software.
    `duration_ms` is the generation alone, `started_at` the start of the conversion.
    """

    __tablename__ = "runs"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    note_id: Mapped[UUID] = mapped_column(ForeignKey("notes.id", ondelete="CASCADE"), index=True)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    model: Mapped[str]
    adapter: Mapped[str | None]
    """None: the model as it is, or converted before this was kept."""
    prompt: Mapped[str]
    grammar: Mapped[str]
    terminology: Mapped[str]
    profiles: Mapped[str | None]
    """Fingerprint of the imported FHIR profiles that the resources were checked with."""
    calibration: Mapped[str | None]
    """Fingerprint of the calibration that the statements' probabilities come from; None: they have none."""
    version: Mapped[str]
    seed: Mapped[int | None]
    prompt_tokens: Mapped[int]
    output_tokens: Mapped[int]
    duration_ms: Mapped[int]
    started_at: Mapped[datetime]
    options: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """The settings that the output depends on, by name; None: converted before this was kept, as below."""
    output_sha256: Mapped[str | None]
    """Of what was stored of the note (`app.conversions.fingerprint`): the same run gives the same."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)

    __table_args__ = (
        CheckConstraint("output_sha256 ~ '^[0-9a-f]{64}$'", name="output_sha256"),
        CheckConstraint("prompt_tokens >= 0 AND output_tokens >= 0 AND duration_ms >= 0", name="not_negative"),
    )


class NoteStatement(Base):
    """A stored `schemas.statement.Statement`; `ordinal` counts from 0 in the order the model wrote them."""

    __tablename__ = "statements"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    note_id: Mapped[UUID] = mapped_column(ForeignKey("notes.id", ondelete="CASCADE"), index=True)
    run_id: Mapped[UUID] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    ordinal: Mapped[int]
    kind: Mapped[str]
    payload: Mapped[dict[str, Any]]
    """`Statement.model_dump(mode="json")`."""
    candidates: Mapped[list[dict[str, Any]]] = mapped_column(server_default=text("'[]'::jsonb"))
    """What came near an uncoded name: `schemas.coding.Candidate`, best first."""
    record: Mapped[dict[str, Any] | None]
    """What was computed from it: `schemas.record.Record` without its statement and candidates. None: converted before
    this was kept."""

    __table_args__ = (UniqueConstraint("run_id", "ordinal"), one_of("kind", Kind))
