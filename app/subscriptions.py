"""FHIR Subscriptions with a rest-hook: what may be asked for, and what one is told of a release.

Source: https://hl7.org/fhir/R4/subscription.html. `criteria` is `Type` or `Type?parameters`, in the words of our own search
(strictly: what is not known is refused, never left out). An endpoint is asked first, by a POST without a body, whether it
answers; with its 2xx the Subscription is active. Then every release of a note that it fits makes one POST without a body or,
with the payload application/fhir+json, a PUT of each resource to `endpoint/Type/id`. It fits what its owner may read, and what
is released alone. After the sender's attempts in a row its status is `error`; an update to `requested` begins anew.

The channel's headers often hold a secret: they are kept apart, never shown, and have to be stated in every update.
"""

import json
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.orm import Session

from app import outbox
from app.errors import Forbidden, InvalidInput, NotFound, Stale
from app.fhir import check, held_back
from app.outgoing import check_url
from app.store import search
from app.store.parameters import STORED_TYPES
from models import Client, Delivery, PushDestination, ReleaseState, Resource, Subscription, User
from schemas.access import Principal, Right
from schemas.push import DeliveryState, DestinationKind, DestinationState, PushEvent

PAYLOAD = "application/fhir+json"
MAX_HEADERS = 20
_STATUS = {
    DestinationState.REQUESTED: "requested",
    DestinationState.ACTIVE: "active",
    DestinationState.ERROR: "error",
    DestinationState.OFF: "off",
    DestinationState.PAUSED: "off",
}
# RFC 9110: a field name is a token; a value is printable. The rest would let a client write other parts of the request.
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}):[ \t]*([\x21-\x7e](?:[\x20-\x7e]{0,4000}[\x21-\x7e])?)")
_RESERVED = frozenset({
    "host", "content-length", "content-type", "transfer-encoding", "connection", "te", "trailer", "upgrade", "expect",
    "accept-encoding", "user-agent",
})  # fmt: skip


@dataclass(frozen=True)
class Stored:
    """`resource`: as it is served."""

    id: UUID
    version: int
    changed_at: datetime
    resource: dict[str, Any]


@dataclass(frozen=True)
class Notified:
    """What a release has for a Subscription; `contents`: as they are served, only with a payload."""

    payload: bool
    keys: list[tuple[str, str]]
    contents: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class _Asked:
    """A Subscription as it was sent, taken apart."""

    off: bool
    url: str
    criteria: str
    type: str
    payload: bool
    headers: list[str]
    ends_at: datetime | None
    content: dict[str, Any]


# --- what clients ask for ---------------------------------------------------------------------------------------------


def create(session: Session, content: dict[str, Any], who: Principal, hosts: Collection[str]) -> Stored:
    """`hosts`: the only ones that an endpoint may be on. Raises: InvalidInput, Forbidden."""
    asked = _read(content, who, hosts)
    id_ = uuid4()
    state = DestinationState.OFF if asked.off else DestinationState.REQUESTED
    session.add(
        PushDestination(
            id=id_, name=f"subscription-{id_}", kind=DestinationKind.SUBSCRIPTION, state=state, created_by=who.id,
            events=[PushEvent.RELEASED], url=asked.url, secret=json.dumps(asked.headers),
        )
    )  # fmt: skip
    session.flush()
    session.add(
        Subscription(
            id=id_, criteria=asked.criteria, type=asked.type, payload=asked.payload, content=asked.content,
            owner_id=who.id, owner=who.model_dump(mode="json"), ends_at=asked.ends_at,
        )
    )  # fmt: skip
    session.flush()
    if not asked.off:
        outbox.handshake(session, id_, uuid4())
    return read(session, str(id_), who)


def change(
    session: Session, id_: str, content: dict[str, Any], who: Principal, hosts: Collection[str], *,
    if_match: int | None = None,
) -> Stored:  # fmt: skip
    """The whole of it anew, its owner's rights too: with the status `off` nothing is sent any more, with any other its
    endpoint is asked again. Raises: NotFound, Stale, InvalidInput, Forbidden."""
    row, destination = _own(session, id_, who)
    if content.get("id") not in (None, id_):
        raise InvalidInput("Subscription.id: is not the one of the address")
    if if_match is not None and if_match != row.version:
        raise Stale("the Subscription was changed meanwhile")
    asked = _read(content, who, hosts)
    state = DestinationState.OFF if asked.off else DestinationState.REQUESTED
    session.execute(
        update(PushDestination)
        .where(PushDestination.id == row.id)
        .values(
            url=asked.url, secret=json.dumps(asked.headers), state=state, hold_until=None, failures=0,
            failing_since=None, problem=None,
        )
    )  # fmt: skip
    session.execute(
        update(Subscription)
        .where(Subscription.id == row.id)
        .values(
            version=Subscription.version + 1, criteria=asked.criteria, type=asked.type, payload=asked.payload,
            content=asked.content, owner_id=who.id, owner=who.model_dump(mode="json"), ends_at=asked.ends_at,
            changed_at=func.now(),
        )
    )  # fmt: skip
    # What waited was meant for it as it was; a former handshake would speak for the former address.
    _drop_waiting(session, destination.id)
    if not asked.off:
        outbox.handshake(session, row.id, uuid4())
    session.expire_all()
    return read(session, id_, who)


def read(session: Session, id_: str, who: Principal) -> Stored:
    """Raises: NotFound, for another's Subscription too."""
    row, destination = _own(session, id_, who)
    return _stored(row, destination)


def remove(session: Session, id_: str, who: Principal) -> None:
    """Raises: NotFound."""
    row, _ = _own(session, id_, who)
    session.execute(delete(PushDestination).where(PushDestination.id == row.id))
    session.expire_all()


def find(
    session: Session, who: Principal, *, status: str | None = None, criteria: str | None = None, url: str | None = None,
    id_: str | None = None, count: int = 50, offset: int = 0,
) -> tuple[list[Stored], int]:  # fmt: skip
    """A page of those that the client may see, newest first, and how many they are."""
    states = [state for state, word in _STATUS.items() if word == status]
    conditions: list[ColumnElement[bool]] = [] if who.has(Right.PUSH) else [Subscription.owner_id == who.id]
    if status is not None:
        conditions.append(PushDestination.state.in_(states))
    if criteria is not None:
        # https://hl7.org/fhir/R4/subscription.html#search: a string, so that its beginning is enough.
        conditions.append(func.lower(Subscription.criteria).startswith(criteria.lower(), autoescape=True))
    if url is not None:
        conditions.append(PushDestination.url == url)
    if id_ is not None:
        conditions.append(Subscription.id == _uuid(id_))
    joined = select(Subscription, PushDestination).join(PushDestination, PushDestination.id == Subscription.id)
    total = session.scalar(select(func.count()).select_from(joined.where(*conditions).subquery())) or 0
    newest = joined.where(*conditions).order_by(PushDestination.created_at.desc(), Subscription.id)
    rows = session.execute(newest.limit(count).offset(offset))
    return [_stored(row, destination) for row, destination in rows], total


def _own(session: Session, id_: str, who: Principal) -> tuple[Subscription, PushDestination]:
    row = session.get(Subscription, _uuid(id_))
    if row is None or (row.owner_id != who.id and not who.has(Right.PUSH)):
        raise NotFound("no such Subscription")
    return row, session.get_one(PushDestination, row.id)


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFound("no such Subscription") from None


def _drop_waiting(session: Session, destination_id: UUID) -> None:
    waiting = delete(Delivery).where(Delivery.destination_id == destination_id, Delivery.state == DeliveryState.WAITING)
    session.execute(waiting.execution_options(synchronize_session=False))


def _stored(row: Subscription, destination: PushDestination) -> Stored:
    at = row.changed_at.astimezone(UTC).isoformat(timespec="milliseconds")
    state = DestinationState(destination.state)
    served = row.content | {
        "id": str(row.id),
        "meta": row.content.get("meta", {}) | {"versionId": str(row.version), "lastUpdated": at},
        "status": _STATUS[state],
    }
    if state is DestinationState.ERROR and destination.problem:
        served["error"] = destination.problem
    return Stored(row.id, row.version, row.changed_at, served)


def _read(content: dict[str, Any], who: Principal, hosts: Collection[str]) -> _Asked:
    """Raises: InvalidInput, which names the element; Forbidden for a type that the client may not read."""
    if content.get("resourceType") != "Subscription":
        raise InvalidInput("the body must be a Subscription")
    found = check(content, foreign=True)
    if held_back(found):
        raise InvalidInput("; ".join(issue.text for issue in found[:5]))
    status = content.get("status")
    if status not in ("requested", "active", "off"):
        raise InvalidInput("Subscription.status: must be requested or off")
    channel = content["channel"]
    if channel.get("type") != "rest-hook":
        raise InvalidInput("Subscription.channel.type: this server knows rest-hook alone")
    if channel.get("payload") not in (None, PAYLOAD):
        raise InvalidInput(f"Subscription.channel.payload: must be {PAYLOAD}, or not there")
    try:
        url = check_url(str(channel.get("endpoint", "")), hosts=hosts)
    except InvalidInput as error:
        raise InvalidInput(f"Subscription.channel.endpoint: {error}") from None
    criteria = content["criteria"]
    type_, given = _criteria(criteria)
    if not who.may(type_, "r") or (given and not who.may(type_, "s")):
        raise Forbidden(f"this needs the scope to read and search {type_}")
    if given:
        search.parse(type_, given, strict=True)
    shown = {key: value for key, value in content.items() if key not in ("id", "status", "error")}
    if isinstance(content.get("meta"), dict):
        meta = {key: value for key, value in content["meta"].items() if key not in ("versionId", "lastUpdated")}
        shown = {key: value for key, value in shown.items() if key != "meta"} | ({"meta": meta} if meta else {})
    shown["channel"] = {key: value for key, value in channel.items() if key not in ("header", "_header")}
    return _Asked(
        off=status == "off", url=url, criteria=criteria, type=type_, payload=channel.get("payload") is not None,
        headers=_headers(channel.get("header", [])), ends_at=_instant(content.get("end")), content=shown,
    )  # fmt: skip


def _criteria(written: str) -> tuple[str, list[tuple[str, str]]]:
    type_, mark, query = written.partition("?")
    if type_ not in STORED_TYPES:
        raise InvalidInput("Subscription.criteria: must be Type or Type?parameters, of a type that is stored here")
    try:
        given = parse_qsl(query, keep_blank_values=True, strict_parsing=True, max_num_fields=20) if mark else []
    except ValueError:
        raise InvalidInput("Subscription.criteria: its parameters cannot be read") from None
    if any(name.startswith("_") and name not in ("_id", "_profile", "_tag", "_security", "_has") for name, _ in given):
        raise InvalidInput(
            "Subscription.criteria: holds a parameter that forms a result and tells nothing of a resource"
        )
    return type_, given


def _headers(lines: list[Any]) -> list[str]:
    if len(lines) > MAX_HEADERS:
        raise InvalidInput(f"Subscription.channel.header: at most {MAX_HEADERS}")
    for n, line in enumerate(lines):
        match = _HEADER.fullmatch(line) if isinstance(line, str) else None
        if match is None or match[1].lower() in _RESERVED:
            raise InvalidInput(
                f"Subscription.channel.header[{n}]: must be `Name: value`, of a header that a client may set"
            )
    return lines


def _instant(written: Any) -> datetime | None:
    if written is None:
        return None
    try:
        found = datetime.fromisoformat(str(written))
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise InvalidInput("Subscription.end: must be an instant with a time zone")
    return found


# --- what is told -----------------------------------------------------------------------------------------------------


def headers_of(secret: str | None) -> list[tuple[str, str]]:
    """The channel's header lines, as a request takes them."""
    found = []
    for line in json.loads(secret or "[]"):
        name, _, value = line.partition(":")
        found.append((name, value.strip()))
    return found


def notified(session: Session, subscription_id: UUID, note_id: UUID | None, run_id: UUID) -> Notified:
    """What was released of the run and fits the Subscription, in its newest released version; nothing where its owner was
    disabled, or may not read it."""
    row = session.get_one(Subscription, subscription_id)
    nothing = Notified(row.payload, [])
    if not _owner_stays(session, row.owner_id):
        return nothing
    ids = session.scalars(
        select(Resource.id)
        .where(
            Resource.note_id == note_id, Resource.run_id == run_id, Resource.type == row.type,
            Resource.state == ReleaseState.FINAL,
        )
        .order_by(Resource.ordinal)
    ).all()  # fmt: skip
    # As everybody without a right to drafts sees it, whoever asked.
    owner = Principal.model_validate(row.owner).model_copy(update={"drafts": False})
    if not ids or not owner.may(row.type, "r"):
        return nothing
    type_, given = _criteria(row.criteria)
    asked = [*given, ("_id", ",".join(ids)), ("_count", str(len(ids)))]
    page = search.search(session, search.parse(type_, asked, strict=True), owner)
    matches = {version.id: version for version in page.matches}
    found = [matches[id_] for id_ in ids if id_ in matches]
    contents = [version.served() for version in found] if row.payload else []
    return Notified(row.payload, [(version.type, version.id) for version in found], contents)


def _owner_stays(session: Session, owner_id: str) -> bool:
    """Was neither the client nor the person disabled since?"""
    kind, _, id_ = owner_id.partition(":")
    if kind == "client":
        return session.scalar(select(Client.disabled_at).where(Client.id == id_)) is None
    if kind == "user":
        try:
            gone = select(User.disabled_at).where(User.id == UUID(id_))
        except ValueError:
            return True
        return session.scalar(gone) is None
    return True
