"""Systems that things are sent to: added, paused and removed by an operator, or over the API within PUSH_ALLOWED_HOSTS."""

import secrets
from collections.abc import Collection

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session

from app.audit import record
from app.errors import Conflict, InvalidInput
from app.outbox import named
from app.outgoing import check_url
from models import Delivery, PushDestination
from schemas.push import DeliveryState, DestinationKind, DestinationState, NewDestination, PushEvent, PushLogin
from schemas.review import AuditAction

KEY_PREFIX = "whsec_"
"""By which a webhook's key is recognised where it must not be."""


def add(
    session: Session, new: NewDestination, *, by: str, hosts: Collection[str] | None = None
) -> tuple[PushDestination, str | None]:
    """The destination and, of a webhook, the key that signs its deliveries: nobody is shown it again. `hosts`: the only ones
    that may be named; None: any.

    Raises: InvalidInput; Conflict where the name is taken.
    """
    _check(new)
    values = new.model_dump(exclude={"events", "url", "token_url"})
    values["url"] = check_url(new.url, http=new.http, hosts=hosts)
    values["token_url"] = check_url(new.token_url, http=new.http, hosts=hosts) if new.token_url else None
    values["events"] = sorted(new.events)
    key = KEY_PREFIX + secrets.token_urlsafe(32) if new.kind is DestinationKind.WEBHOOK else None
    made = pg_insert(PushDestination).values(**values, secret=key, created_by=by).on_conflict_do_nothing()
    id_ = session.scalar(made.returning(PushDestination.id))
    if id_ is None:
        raise Conflict("a destination of that name is there already")
    row = session.get_one(PushDestination, id_)
    record(session, AuditAction.ADMIN, by=by, subject=id_, after={"destination": row.name, "url": row.url})
    return row, key


def _check(new: NewDestination) -> None:
    if new.kind is DestinationKind.SUBSCRIPTION:
        raise InvalidInput("kind: a Subscription is made at /fhir/Subscription")
    if new.kind is DestinationKind.WEBHOOK and (new.login is not PushLogin.NONE or new.secret_file):
        raise InvalidInput("login: a webhook is signed with a key of its own")
    if new.kind is DestinationKind.FHIR and new.events != {PushEvent.RELEASED}:
        raise InvalidInput(f"events: a FHIR server is sent {PushEvent.RELEASED} alone")
    if PushEvent.HANDSHAKE in new.events:
        raise InvalidInput("events: a handshake is a Subscription's alone")
    if new.login is not PushLogin.NONE and not new.secret_file:
        raise InvalidInput("secret_file: the login needs one")
    if new.login in (PushLogin.BASIC, PushLogin.SMART) and not new.login_name:
        raise InvalidInput("login_name: the login needs one")
    if new.key_file and not new.cert_file:
        raise InvalidInput("cert_file: is missing beside key_file")


def pause(session: Session, name: str) -> None:
    """Nothing is sent there until `resume`; what happens meanwhile waits. Raises: NotFound; Conflict for a Subscription that
    is not active."""
    row = named(session, name)
    if row.state not in (DestinationState.ACTIVE, DestinationState.PAUSED):
        raise Conflict(f"{name} is {row.state}")
    _become(session, row, DestinationState.PAUSED)


def resume(session: Session, name: str) -> None:
    """Sent again, and at once. Raises: NotFound; Conflict for a Subscription that is off or was never answered."""
    row = named(session, name)
    if row.state in (DestinationState.OFF, DestinationState.REQUESTED):
        raise Conflict(f"{name} is {row.state}")
    _become(session, row, DestinationState.ACTIVE)


def _become(session: Session, row: PushDestination, state: DestinationState) -> None:
    values = {"state": state, "hold_until": None, "failures": 0, "failing_since": None}
    session.execute(update(PushDestination).where(PushDestination.id == row.id).values(values))
    session.refresh(row)


def remove(session: Session, name: str, *, by: str, force: bool = False) -> None:
    """With the record of what was sent there. Raises: NotFound; Conflict while something waits there, but for `force`."""
    row = named(session, name)
    waits = select(func.count()).where(
        Delivery.destination_id == row.id, Delivery.state.in_([DeliveryState.WAITING, DeliveryState.DEAD])
    )
    count = session.scalar(waits) or 0
    if count and not force:
        raise Conflict(f"{count} deliveries to {name} wait or are dead; they would be lost")
    record(session, AuditAction.ADMIN, by=by, subject=row.id, before={"destination": row.name, "url": row.url})
    session.execute(delete(PushDestination).where(PushDestination.id == row.id))
    session.expire_all()
