"""Who did what, and who looked at what; and the workers that live."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Identity, Index, SmallInteger, Text, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from models.metadata import Base, one_of
from schemas.review import AuditAction, AuditOutcome


class AuditEvent(Base):
    """Who did what, and when. It names things by ids and fingerprints alone, holds no patient text, and outlives what it
    tells of: hence no foreign keys. Only `app.audit` writes these rows; the database refuses to change one.

    `hash`: SHA-256 over the row and `previous`, the hash of the row before. Rows from before the chain have neither.
    """

    __tablename__ = "audit_events"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    action: Mapped[str]
    acted_by: Mapped[str]
    """`schemas.access.Principal.id`, a person's name in a review, `os:` and the account of who runs a command, `anonymous`."""
    note_id: Mapped[UUID | None] = mapped_column(index=True)
    subject: Mapped[UUID | None]
    """The decision, the result (run), the opt-out, the export, the backup."""
    before: Mapped[str | None]
    after: Mapped[str | None]
    """`before`, `after`: SHA-256 of the state of the subject; of a backup, of its file."""
    outcome: Mapped[str | None]
    """None, as in rows from before it was kept: success."""
    type: Mapped[str | None]
    """A FHIR type."""
    ids: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    """What was shown or changed, at most `app.audit.MAX_IDS`: ids of ours, or Type/id."""
    patients: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    """FHIR ids of Patients, never the sender's."""
    query_names: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    """Names of the request's parameters, never their values."""
    route: Mapped[str | None]
    """Method and path with the names of its parameters; or the command."""
    status: Mapped[int | None] = mapped_column(SmallInteger)
    """Of HTTP."""
    address: Mapped[str | None]
    """Network address of who asked."""
    request_id: Mapped[str | None]
    previous: Mapped[str | None]
    hash: Mapped[str | None]

    __table_args__ = (
        one_of("action", AuditAction),
        one_of("outcome", AuditOutcome),
        CheckConstraint("acted_by <> ''", name="acted_by"),
        CheckConstraint("before ~ '^[0-9a-f]{64}$' AND after ~ '^[0-9a-f]{64}$'", name="fingerprints"),
        CheckConstraint(
            "num_nulls(previous, hash) IN (0, 2) AND previous ~ '^[0-9a-f]{64}$' AND hash ~ '^[0-9a-f]{64}$'", name="chain"
        ),
        # A row has one successor: two writers at once could otherwise fork the chain.
        Index("uq_audit_events_previous", "previous", unique=True),
        Index(None, "acted_by", "id"),
        Index(None, "action", "id"),
        Index(None, "recorded_at", postgresql_using="brin"),
        Index("ix_audit_events_patients", "patients", postgresql_using="gin"),
    )


class Worker(Base):
    """A process that converts notes, as it told last (`seen_at`). Numbers are sums since it began.

    `slots`: notes that it reads at the same time, None while it loads; `busy` of them are at work. `slot_steps` /
    `step_slots` is the share of the slots that took part in the model's steps.
    """

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(primary_key=True)
    """`jobs.worker` of what it works on: host and process id."""
    version: Mapped[str]
    model: Mapped[str | None]
    """Fingerprint of the model that reads notes."""
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)
    slots: Mapped[int | None]
    busy: Mapped[int] = mapped_column(server_default=text("0"))
    waiting: Mapped[int] = mapped_column(server_default=text("0"))
    prompt_tokens: Mapped[int] = mapped_column(server_default=text("0"))
    output_tokens: Mapped[int] = mapped_column(server_default=text("0"))
    slot_steps: Mapped[int] = mapped_column(server_default=text("0"))
    step_slots: Mapped[int] = mapped_column(server_default=text("0"))

    __table_args__ = (CheckConstraint("id <> ''", name="id"),)
