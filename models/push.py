"""Where to things are sent, and what waits to be sent: the outbox."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, UniqueConstraint, false, func, text, true
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import Text

from models.metadata import Base, one_of
from schemas.push import DeliveryState, DestinationKind, DestinationState, PushEvent, PushLogin, PushMode


class PushDestination(Base):
    """A system that is sent to. Files are named, not kept: `secret_file` (token, password or private key), `ca_file`,
    `cert_file`, `key_file`, all in PUSH_SECRETS_DIR.

    While `hold_until` lies ahead nothing is tried: the system did not answer, or refused all of us. `failures` in a row
    since `failing_since`; `problem` is the newest.
    """

    __tablename__ = "push_destinations"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    name: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str]
    url: Mapped[str]
    state: Mapped[str] = mapped_column(server_default=DestinationState.ACTIVE)
    events: Mapped[list[str]] = mapped_column(ARRAY(Text))
    mode: Mapped[str] = mapped_column(server_default=PushMode.CONDITIONAL)
    provenance: Mapped[bool] = mapped_column(server_default=true())
    """Are Provenance resources sent? They have no identifier: a server that gives out its own ids cannot take them twice."""
    login: Mapped[str] = mapped_column(server_default=PushLogin.NONE)
    login_name: Mapped[str | None]
    secret_file: Mapped[str | None]
    key_id: Mapped[str | None]
    token_url: Mapped[str | None]
    scope: Mapped[str | None]
    ca_file: Mapped[str | None]
    cert_file: Mapped[str | None]
    key_file: Mapped[str | None]
    secret: Mapped[str | None]
    """A webhook's signing key, or the header lines of a Subscription as a JSON list; never shown again."""
    http: Mapped[bool] = mapped_column(server_default=false())
    hold_until: Mapped[datetime | None]
    failures: Mapped[int] = mapped_column(server_default=text("0"))
    failing_since: Mapped[datetime | None]
    problem: Mapped[str | None]
    sent: Mapped[int] = mapped_column(server_default=text("0"))
    sent_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    created_by: Mapped[str]

    __table_args__ = (
        one_of("kind", DestinationKind),
        one_of("state", DestinationState),
        one_of("mode", PushMode),
        one_of("login", PushLogin),
        CheckConstraint("name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'", name="name"),
        CheckConstraint("kind = 'subscription' OR state IN ('active', 'paused')", name="subscription_state"),
        CheckConstraint("kind <> 'webhook' OR secret IS NOT NULL", name="webhook_secret"),
        CheckConstraint("created_by <> ''", name="created_by"),
    )


class Delivery(Base):
    """One event for one destination. What is sent is read from the stored resources when it is sent.

    `subject`: the run that was released, or the job that was converted; an event is queued once. `position`: order of the
    queue, kept for each note. `fence` and `lease_until` as a job's.
    """

    __tablename__ = "deliveries"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    position: Mapped[int] = mapped_column(Identity(always=True))
    destination_id: Mapped[UUID] = mapped_column(ForeignKey("push_destinations.id", ondelete="CASCADE"))
    event: Mapped[str]
    subject: Mapped[UUID]
    note_id: Mapped[UUID | None] = mapped_column(ForeignKey("notes.id", ondelete="CASCADE"), index=True)
    state: Mapped[str] = mapped_column(server_default=DeliveryState.WAITING)
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    fence: Mapped[int] = mapped_column(server_default=text("0"))
    queued_at: Mapped[datetime] = mapped_column(server_default=func.now())
    run_after: Mapped[datetime] = mapped_column(server_default=func.now())
    lease_until: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    status: Mapped[int | None]
    """HTTP status of the newest answer."""
    reason: Mapped[str | None]
    outcome: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB)
    """Of the answer's OperationOutcome: severity, code and places of each issue, never its words."""
    sha256: Mapped[str | None]
    """Of the body that was sent."""

    __table_args__ = (
        one_of("event", PushEvent),
        one_of("state", DeliveryState),
        UniqueConstraint("destination_id", "event", "subject"),
        CheckConstraint("(state = 'waiting') = (ended_at IS NULL)", name="ended"),
        CheckConstraint("attempts >= 0 AND fence >= 0", name="not_negative"),
        Index("ix_deliveries_waiting", "destination_id", "position", postgresql_where=text("state = 'waiting'")),
        Index(
            "ix_deliveries_waiting_note", "destination_id", "note_id", "position",
            postgresql_where=text("state = 'waiting'"),
        ),
        Index("ix_deliveries_dead", "destination_id", "position", postgresql_where=text("state = 'dead'")),
    )  # fmt: skip


class Subscription(Base):
    """A FHIR Subscription; its channel is the destination of the same id. `owner`: `schemas.access.Principal` of the one who
    asked for it, as of then: what he may not read is not sent."""

    __tablename__ = "subscriptions"

    id: Mapped[UUID] = mapped_column(ForeignKey("push_destinations.id", ondelete="CASCADE"), primary_key=True)
    version: Mapped[int] = mapped_column(server_default=text("1"))
    criteria: Mapped[str]
    type: Mapped[str]
    payload: Mapped[bool]
    """Is the resource itself sent?"""
    content: Mapped[dict[str, Any]]
    """As it was sent, without the channel's headers and the elements that we answer for."""
    owner_id: Mapped[str] = mapped_column(index=True)
    owner: Mapped[dict[str, Any]]
    ends_at: Mapped[datetime | None]
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (CheckConstraint("version >= 1", name="version"),)
