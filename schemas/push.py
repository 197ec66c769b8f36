"""What is sent to other systems, where to, and how far it got."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, StringConstraints

from schemas.value import Value

DestinationName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
SecretName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""Name of a file in PUSH_SECRETS_DIR: no path, so that nobody can have another file of the host sent."""
Printable = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,500}$")]


class DestinationKind(StrEnum):
    """`fhir`: a FHIR server; `webhook`: signed JSON with ids; `subscription`: the channel of a FHIR Subscription."""

    FHIR = "fhir"
    WEBHOOK = "webhook"
    SUBSCRIPTION = "subscription"


class DestinationState(StrEnum):
    """`requested`, `error` and `off` are a Subscription's alone (FHIR SubscriptionStatus)."""

    ACTIVE = "active"
    PAUSED = "paused"
    REQUESTED = "requested"
    ERROR = "error"
    OFF = "off"


class PushMode(StrEnum):
    """How a receiving FHIR server tells our resources. `conditional`: by identifier, under ids of its own; `update`: by our
    type and id."""

    CONDITIONAL = "conditional"
    UPDATE = "update"


class PushLogin(StrEnum):
    """How we prove who we are. `smart`: SMART Backend Services (private_key_jwt)."""

    NONE = "none"
    BEARER = "bearer"
    BASIC = "basic"
    SMART = "smart"


class PushEvent(StrEnum):
    CONVERTED = "note.converted"
    RELEASED = "resource.released"
    HANDSHAKE = "handshake"
    """A Subscription's first notification, which makes it active."""


class DeliveryState(StrEnum):
    """`skipped`: there was nothing in it for this destination; `dead`: given up, until somebody replays it."""

    WAITING = "waiting"
    SENT = "sent"
    SKIPPED = "skipped"
    DEAD = "dead"


class NewDestination(Value):
    """`ca_file`: certificates to trust instead of the system's; `cert_file`, `key_file`: our own (mTLS). `login_name`: user or
    client id. `token_url`: None: as the server's smart-configuration says. `http`: is plain http taken for this one?"""

    name: DestinationName
    kind: DestinationKind
    url: Annotated[str, StringConstraints(min_length=1, max_length=1000)]
    mode: PushMode = PushMode.CONDITIONAL
    provenance: bool = True
    login: PushLogin = PushLogin.NONE
    login_name: Printable | None = None
    secret_file: SecretName | None = None
    key_id: Printable | None = None
    token_url: Annotated[str, StringConstraints(min_length=1, max_length=1000)] | None = None
    scope: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]+( [\x21-\x7e]+)*$", max_length=500)] | None = None
    ca_file: SecretName | None = None
    cert_file: SecretName | None = None
    key_file: SecretName | None = None
    events: frozenset[PushEvent] = Field(default=frozenset({PushEvent.RELEASED}), min_length=1)
    http: bool = False


class DestinationStatus(Value):
    """`waiting_seconds`: age of the oldest that waits. `problem`: why the newest try failed, free of patient text."""

    id: UUID
    name: str
    kind: DestinationKind
    url: str
    state: DestinationState
    waiting: int
    dead: int
    sent: int
    waiting_seconds: float | None = None
    problem: str | None = None
    failures: int = 0
    hold_until: datetime | None = None
    sent_at: datetime | None = None


class DeliveryStatus(Value):
    """`outcome`: of what the receiver answered only issue codes and places; its words may quote a patient's data."""

    id: UUID
    destination: str
    event: PushEvent
    subject: UUID
    note_id: UUID | None
    state: DeliveryState
    attempts: int
    queued_at: datetime
    ended_at: datetime | None
    status: int | None
    reason: str | None
    outcome: list[dict[str, Any]] | None


class PushPolicy(Value):
    """The numbers of the outbox; see the settings of the same names."""

    interval_seconds: float = 1.0
    timeout_seconds: float = 60.0
    max_attempts: int = 10
    max_hours: float = 168.0

    @property
    def lease_seconds(self) -> float:
        """Longer than any delivery takes, so that no second sender begins while the first may still be heard."""
        return self.timeout_seconds * 1.5
