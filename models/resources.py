"""What a job made of a note: FHIR resources and SS-MIX2 messages; and the Bundles that were handed out."""

from datetime import date, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, false, func, text, true
from sqlalchemy.orm import Mapped, mapped_column

from models.metadata import Base, one_of


class ReleaseState(StrEnum):
    """Is a resource shown to other systems? A machine writes drafts only."""

    DRAFT = "draft"
    FINAL = "final"


class Resource(Base):
    """One version of one FHIR resource; `content` is the raw JSON, decimals with the digits as written.

    `id` is the FHIR logical id, unique within `type`; versions count from 1 and are never changed. Written by the conversion
    of a note (`note_id`, `job_id`, `run_id`), by its review (those and `written_by`), or by a client (`written_by` alone), whose
    versions are always final.
    """

    __tablename__ = "resources"

    type: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    note_id: Mapped[UUID | None] = mapped_column(ForeignKey("notes.id", ondelete="CASCADE"), index=True)
    job_id: Mapped[UUID | None] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    run_id: Mapped[UUID | None] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), index=True)
    ordinal: Mapped[int]
    """Position in the job's output, from 0."""
    patient_id: Mapped[str]
    """The sender's patient id, not the FHIR one; empty in what a client wrote."""
    content: Mapped[dict[str, Any]] = mapped_column(nullable=True)
    """Null in a deletion alone, which no conversion writes."""
    method: Mapped[str] = mapped_column(server_default="POST")
    """How it came to be, as HTTP's methods say it: POST (what conversions write, too), PUT, DELETE."""
    written_by: Mapped[str | None]
    """`Principal.id` of the client, or of who released or withdrew it in a review; None: a conversion."""
    state: Mapped[str] = mapped_column(server_default=ReleaseState.DRAFT)
    valid: Mapped[bool] = mapped_column(server_default=true())
    """False: a check found an error. Such a resource waits for a person and can never be released."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    released_at: Mapped[datetime | None]
    """When a person released it; None: nobody did, or it was final from the beginning."""
    indexed: Mapped[bool] = mapped_column(server_default=false())
    """Do searches know of this version (`app.store.index`)?"""

    __table_args__ = (
        one_of("state", ReleaseState),
        CheckConstraint("valid OR state = 'draft'", name="valid"),
        CheckConstraint("version >= 1", name="version"),
        # FHIR R4 `id`: https://hl7.org/fhir/R4/datatypes.html#id
        CheckConstraint("id ~ '^[A-Za-z0-9.-]{1,64}$'", name="id"),
        CheckConstraint(
            "CASE WHEN method = 'DELETE' THEN content IS NULL ELSE content IS NOT NULL"
            " AND content ->> 'resourceType' IS NOT DISTINCT FROM type"
            " AND content ->> 'id' IS NOT DISTINCT FROM id END",
            name="content",
        ),
        CheckConstraint("method IN ('POST', 'PUT', 'DELETE')", name="method"),
        CheckConstraint(
            "num_nulls(note_id, job_id, run_id) = 0 AND method <> 'DELETE'"
            " OR num_nulls(note_id, job_id, run_id) = 3 AND written_by IS NOT NULL AND state = 'final'",
            name="origin",
        ),
        Index(None, "patient_id", "type"),
        Index(None, "type", "created_at"),
        Index("ix_resources_unindexed", "type", "id", postgresql_where=text("NOT indexed")),
        Index("ix_resources_last_updated", text("COALESCE(released_at, created_at)"), "type", "id"),
    )


class ClinsBundle(Base):
    """A Bundle made for the national service, as it was handed out. The service keeps one Bundle for each key
    (`insurance_id`, `identifier_system`, `identifier_value`); a higher version under the same key replaces the lower.

    `type`: the resource type that it carries. `drafts`: does it hold resources that no person has accepted?
    """

    __tablename__ = "clins_bundles"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    source: Mapped[str]
    patient_id: Mapped[str]
    type: Mapped[str]
    insurance_id: Mapped[str]
    identifier_system: Mapped[str]
    identifier_value: Mapped[str]
    version: Mapped[int]
    drafts: Mapped[bool]
    content: Mapped[dict[str, Any]]
    content_sha256: Mapped[str]
    """Of the Bundle without its instants: the same content is not recorded twice."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        UniqueConstraint("insurance_id", "identifier_system", "identifier_value", "version", name="uq_clins_bundles_key"),
        CheckConstraint("version >= 1", name="version"),
        CheckConstraint("type IN ('Condition', 'AllergyIntolerance', 'Observation')", name="type"),
        Index(None, "source", "patient_id", "type"),
    )


class Ssmix2Message(Base):
    """One SS-MIX2 message; `payload` is its text before encoding, segments ended by CR."""

    __tablename__ = "ssmix2_messages"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    note_id: Mapped[UUID] = mapped_column(ForeignKey("notes.id", ondelete="CASCADE"), index=True)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    ordinal: Mapped[int]
    kind: Mapped[str]
    """SS-MIX2 data kind, e.g. PPR-01."""
    order_no: Mapped[str]
    care_date: Mapped[date | None]
    """None where the storage grammar writes `-` for the day."""
    department: Mapped[str]
    """A department code, or `-`; part of the file's name."""
    payload: Mapped[str]
    release_id: Mapped[UUID | None] = mapped_column(ForeignKey("releases.id", ondelete="CASCADE"))
    """The release that it was made for; None: a conversion made it."""

    __table_args__ = (
        Index("ix_ssmix2_messages_release_id", "release_id", postgresql_where=text("release_id IS NOT NULL")),
    )
