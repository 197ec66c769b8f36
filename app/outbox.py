"""The outbox: what is to be sent to other systems, queued in the transaction of the deed itself.

    from      to        by            when
    -         waiting   released      resources of a note were released: one delivery for each destination that wants to know
    -         waiting   converted     a note was converted
    waiting   sent      sent          the receiver said 2xx
    waiting   skipped   skipped       nothing of it is for this destination
    waiting   waiting   later         this one failed: again after a pause
    waiting   waiting   held          the receiver is away, or refuses all of us: nothing is tried there for a while
    waiting   dead      later, held, refused    it can never succeed, or tries or time are used up
    dead      waiting   replay        a person wants it tried again

A delivery names a note and a run or job; what is sent is read when it is sent. Of one note and destination the oldest
waiting delivery alone can be claimed, so that an older release never overtakes a newer one. As with jobs, work counts only
for the holder of the newest fence; a receiver may get the same thing twice, and has to be told so in a way that it sees.

Everything works in the caller's transaction. Without a destination nothing is queued. Who sends: `app.pusher`.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, exists, func, insert, literal, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session, aliased

from app.errors import NotFound
from models import Delivery, PushDestination, ReleaseState, Resource, Subscription
from schemas.push import (
    DeliveryState,
    DeliveryStatus,
    DestinationKind,
    DestinationState,
    DestinationStatus,
    PushEvent,
    PushPolicy,
)

ACTIVE, REQUESTED = DestinationState.ACTIVE, DestinationState.REQUESTED
WAITING, DEAD = DeliveryState.WAITING, DeliveryState.DEAD

PAUSE_SECONDS = 5.0
"""Pause after the first failure; doubles with each further one, give or take a fifth."""
MAX_PAUSE_SECONDS = 3600.0
MAX_RETRY_AFTER_SECONDS = 86_400.0
"""The longest pause that a receiver may ask for."""


@dataclass(frozen=True)
class Claimed:
    """The right to send one delivery until its lease ends. `attempts`: failures of its own so far."""

    id: UUID
    destination_id: UUID
    event: PushEvent
    subject: UUID
    note_id: UUID | None
    fence: int
    attempts: int


@dataclass(frozen=True)
class Depth:
    """Of all destinations. `oldest_seconds`: how long the oldest waits; None: nothing does."""

    waiting: int
    dead: int
    oldest_seconds: float | None


# --- queue ----------------------------------------------------------------------------------------------------------


def released(session: Session, note_id: UUID, run_id: UUID, *, again: bool = False) -> int:
    """What the run wrote was released; how many deliveries were queued. The same run again queues nothing, unless `again`: its
    release was withdrawn, or renewed, and the newest versions are to be sent whatever was sent, or is being sent, before."""
    final = select(Resource.id).where(
        Resource.note_id == note_id, Resource.run_id == run_id, Resource.state == ReleaseState.FINAL
    )
    wanted = or_(
        and_(PushDestination.kind != DestinationKind.SUBSCRIPTION, exists(final)),
        exists(
            final.join(Subscription, Subscription.type == Resource.type).where(Subscription.id == PushDestination.id)
        ),
    )
    return _queue(session, PushEvent.RELEASED, run_id, note_id, wanted, again=again)


def converted(session: Session, note_id: UUID, job_id: UUID) -> int:
    """The job made its result; how many deliveries were queued."""
    return _queue(session, PushEvent.CONVERTED, job_id, note_id, literal(True))


def _queue(
    session: Session, event: PushEvent, subject: UUID, note_id: UUID, wanted: ColumnElement[bool], *, again: bool = False
) -> int:
    # A paused destination gets it once it goes on.
    open_ = PushDestination.state.in_([ACTIVE, DestinationState.PAUSED])
    chosen = select(
        func.gen_random_uuid(), PushDestination.id, literal(event), literal(subject), literal(note_id)
    ).where(literal(event) == func.any(PushDestination.events), open_, wanted)
    # One that is being removed is waited for, and then no more there.
    chosen = chosen.with_for_update(read=True, key_share=True, of=PushDestination)
    columns = ["id", "destination_id", "event", "subject", "note_id"]
    insertion = pg_insert(Delivery).from_select(columns, chosen, include_defaults=False)
    queued = insertion.on_conflict_do_nothing()
    if again:
        # The fence: who sends the former state right now does not end it.
        fresh = {"state": WAITING, "ended_at": None, "attempts": 0, "queued_at": func.now(), "run_after": func.now()}
        renewed = {"position": text("DEFAULT"), "fence": Delivery.fence + 1, "lease_until": None, "reason": None}
        same = ["destination_id", "event", "subject"]
        queued = insertion.on_conflict_do_update(index_elements=same, set_=fresh | renewed)
    return len(session.scalars(queued.returning(Delivery.id)).all())


def handshake(session: Session, destination_id: UUID, subject: UUID) -> None:
    """Asks a Subscription's endpoint whether it answers."""
    session.execute(insert(Delivery).values(destination_id=destination_id, event=PushEvent.HANDSHAKE, subject=subject))


# --- send -----------------------------------------------------------------------------------------------------------


def due(session: Session) -> list[UUID]:
    """The destinations for which something can be sent now."""
    rows = select(PushDestination.id).where(_open_destination(), exists().where(_free(Delivery)))
    return list(session.scalars(rows))


def claim(session: Session, destination_id: UUID, policy: PushPolicy) -> Claimed | None:
    """Takes the oldest delivery that may go to the destination. None: none may now, or others are at it."""
    earlier = aliased(Delivery)
    overtakes = exists().where(
        earlier.destination_id == Delivery.destination_id, earlier.note_id == Delivery.note_id,
        earlier.state == WAITING, earlier.position < Delivery.position,
    )  # fmt: skip
    chosen = (
        select(Delivery.id)
        .join(PushDestination, PushDestination.id == Delivery.destination_id)
        .where(PushDestination.id == destination_id, _open_destination(), _free(Delivery), ~overtakes)
        .order_by(Delivery.position)
        .limit(1)
        .with_for_update(of=Delivery, skip_locked=True)
    )
    id_ = session.scalar(chosen)
    if id_ is None:
        return None
    row = session.execute(
        update(Delivery)
        .where(Delivery.id == id_)
        .values(fence=Delivery.fence + 1, lease_until=_in(policy.lease_seconds))
        .returning(Delivery.event, Delivery.subject, Delivery.note_id, Delivery.fence, Delivery.attempts)
        .execution_options(synchronize_session=False)
    ).one()
    return Claimed(id_, destination_id, PushEvent(row.event), row.subject, row.note_id, row.fence, row.attempts)


def _open_destination() -> ColumnElement[bool]:
    return and_(
        PushDestination.state.in_([ACTIVE, REQUESTED]),
        or_(PushDestination.hold_until.is_(None), PushDestination.hold_until <= func.now()),
    )


def _free(row: type[Delivery]) -> ColumnElement[bool]:
    """Waiting, due, and in nobody's hands; until a Subscription is active its handshake alone."""
    return and_(
        row.destination_id == PushDestination.id,
        row.state == WAITING,
        row.run_after <= func.now(),
        or_(row.lease_until.is_(None), row.lease_until < func.now()),
        or_(PushDestination.state == ACTIVE, row.event == PushEvent.HANDSHAKE),
    )


def sent(session: Session, claimed: Claimed, status: int, sha256: str | None) -> bool:
    """False: the claim is void; the receiver may get it once more."""
    if not _settle(
        session, claimed, state=DeliveryState.SENT, ended_at=func.now(), status=status, sha256=sha256, reason=None,
        outcome=None,
    ):  # fmt: skip
        return False
    values = _well() | {"sent": PushDestination.sent + 1, "sent_at": func.now()}
    if claimed.event is PushEvent.HANDSHAKE:
        values["state"] = ACTIVE
    _destination(session, claimed.destination_id, **values)
    return True


def skipped(session: Session, claimed: Claimed, reason: str) -> bool:
    return _settle(session, claimed, state=DeliveryState.SKIPPED, ended_at=func.now(), reason=reason)


def refused(session: Session, claimed: Claimed, reason: str, status: int | None = None, outcome: Any = None) -> bool:
    """It can never succeed as it is: dead at once. The receiver itself is well, unless it is a Subscription's."""
    buried = {"state": DEAD, "ended_at": func.now(), "reason": reason, "status": status, "outcome": outcome}
    if not _settle(session, claimed, attempts=Delivery.attempts + 1, **buried):
        return False
    if status is not None:
        _destination(session, claimed.destination_id, **_well())
    return True


def later(
    session: Session, claimed: Claimed, reason: str, policy: PushPolicy, *, status: int | None = None,
    outcome: Any = None, seconds: float | None = None,
) -> bool:  # fmt: skip
    """This delivery failed and may succeed: again after a pause, `seconds` if the receiver named one."""
    if claimed.attempts + 1 >= policy.max_attempts:
        return refused(session, claimed, f"{reason}; {claimed.attempts + 1} attempts", status, outcome)
    wait = _pause(claimed.attempts + 1, seconds)
    return _settle(
        session, claimed, attempts=Delivery.attempts + 1, run_after=_in(wait), reason=reason, status=status,
        outcome=outcome,
    )  # fmt: skip


def held(
    session: Session, claimed: Claimed, reason: str, policy: PushPolicy, *, status: int | None = None,
    seconds: float | None = None,
) -> bool:  # fmt: skip
    """The receiver is away, or refuses whatever we send: nothing is tried there for a while, and no delivery's own attempts
    are used up. What waits for longer than the policy's hours is dead; a Subscription is in error after its attempts."""
    if not _settle(session, claimed, reason=reason, status=status):
        return False
    row = session.get_one(PushDestination, claimed.destination_id, populate_existing=True)
    failures = row.failures + 1
    values: dict[str, Any] = {
        "failures": failures,
        "failing_since": func.coalesce(PushDestination.failing_since, func.now()),
        "problem": reason,
        "hold_until": _in(_pause(failures, seconds)),
    }
    if row.kind == DestinationKind.SUBSCRIPTION and failures >= policy.max_attempts:
        values["state"] = DestinationState.ERROR
    _destination(session, row.id, **values)
    session.execute(
        update(Delivery)
        .where(
            Delivery.destination_id == row.id, Delivery.state == WAITING,
            Delivery.queued_at < func.now() - timedelta(hours=policy.max_hours),
        )
        .values(state=DEAD, ended_at=func.now(), lease_until=None, reason=f"{reason}; given up after {policy.max_hours:g} h")
        .execution_options(synchronize_session=False)
    )  # fmt: skip
    return True


def _settle(session: Session, claimed: Claimed, **values: Any) -> bool:
    # The destination first, as whoever removes or changes it does: so nobody waits for the other.
    destination = select(PushDestination.id).where(PushDestination.id == claimed.destination_id)
    if session.scalar(destination.with_for_update(key_share=True)) is None:
        return False
    statement = (
        update(Delivery)
        .where(Delivery.id == claimed.id, Delivery.state == WAITING, Delivery.fence == claimed.fence)
        .values(lease_until=None, **values)
        .returning(Delivery.id)
        .execution_options(synchronize_session=False)
    )
    return session.scalar(statement) is not None


def _destination(session: Session, id_: UUID, **values: Any) -> None:
    statement = update(PushDestination).where(PushDestination.id == id_).values(values)
    session.execute(statement.execution_options(synchronize_session=False))


def _well() -> dict[str, Any]:
    return {"failures": 0, "failing_since": None, "problem": None, "hold_until": None}


def _pause(failures: int, asked: float | None) -> float:
    pause = min(PAUSE_SECONDS * 2 ** min(failures - 1, 30), MAX_PAUSE_SECONDS) * random.uniform(0.8, 1.2)
    return float(max(pause, min(asked or 0.0, MAX_RETRY_AFTER_SECONDS)))


def _in(seconds: float) -> ColumnElement[datetime]:
    return func.now() + timedelta(seconds=seconds)


# --- people ---------------------------------------------------------------------------------------------------------


def replay(session: Session, destination: str | None = None, ids: Sequence[UUID] = ()) -> int:
    """Dead deliveries wait again, with all their attempts and hours: those of `ids`, or all of the destination, or all. The
    newest state of the resources is what will be sent. How many they are."""
    chosen = select(Delivery.id).where(Delivery.state == DEAD)
    if destination is not None:
        chosen = chosen.where(Delivery.destination_id == named(session, destination).id)
    if ids:
        chosen = chosen.where(Delivery.id.in_(ids))
    owners = chosen.with_only_columns(Delivery.destination_id)
    touched = update(PushDestination).where(PushDestination.id.in_(owners)).values(hold_until=None)
    session.execute(touched.execution_options(synchronize_session=False))
    fresh = {"state": WAITING, "ended_at": None, "attempts": 0, "queued_at": func.now(), "run_after": func.now()}
    moved = session.scalars(
        update(Delivery)
        .where(Delivery.id.in_(chosen))
        .values(reason=None, status=None, outcome=None, **fresh)
        .returning(Delivery.id)
        .execution_options(synchronize_session=False)
    )
    return len(moved.all())


def named(session: Session, name: str) -> PushDestination:
    """Raises: NotFound."""
    found = session.scalars(select(PushDestination).where(PushDestination.name == name)).one_or_none()
    if found is None:
        raise NotFound("there is no destination of that name")
    return found


def depth(session: Session) -> Depth:
    """For metrics: two counts over partial indexes."""
    waiting, oldest = session.execute(
        select(func.count(), func.min(Delivery.queued_at)).where(Delivery.state == WAITING)
    ).one()
    dead = session.scalar(select(func.count()).where(Delivery.state == DEAD)) or 0
    return Depth(waiting, dead, _age(session, oldest))


def status(session: Session) -> list[DestinationStatus]:
    """Every destination, by name."""
    counts = {
        (row.destination_id, row.state): row
        for row in session.execute(
            select(
                Delivery.destination_id, Delivery.state, func.count().label("count"),
                func.min(Delivery.queued_at).label("oldest"),
            )
            .where(or_(Delivery.state == WAITING, Delivery.state == DEAD))
            .group_by(Delivery.destination_id, Delivery.state)
        )
    }  # fmt: skip
    found = []
    for row in session.scalars(select(PushDestination).order_by(PushDestination.name)):
        waiting, dead = counts.get((row.id, WAITING)), counts.get((row.id, DEAD))
        found.append(
            DestinationStatus(
                id=row.id, name=row.name, kind=DestinationKind(row.kind), url=row.url, state=DestinationState(row.state),
                waiting=waiting[2] if waiting else 0, dead=dead[2] if dead else 0, sent=row.sent,
                waiting_seconds=_age(session, waiting.oldest) if waiting else None, problem=row.problem,
                failures=row.failures, hold_until=row.hold_until, sent_at=row.sent_at,
            )
        )  # fmt: skip
    return found


def _age(session: Session, since: datetime | None) -> float | None:
    if since is None:
        return None
    now = session.scalar(select(func.clock_timestamp()))
    assert now is not None
    return max(0.0, float((now - since).total_seconds()))


def deliveries(
    session: Session, *, destination: str | None = None, state: DeliveryState | None = None, limit: int = 100
) -> list[DeliveryStatus]:
    """Newest first. Raises: NotFound for an unknown destination."""
    query = select(Delivery, PushDestination.name).join(PushDestination, PushDestination.id == Delivery.destination_id)
    if destination is not None:
        query = query.where(Delivery.destination_id == named(session, destination).id)
    if state is not None:
        query = query.where(Delivery.state == state)
    rows = session.execute(query.order_by(Delivery.position.desc()).limit(limit))
    return [
        DeliveryStatus(
            id=row.id, destination=name, event=PushEvent(row.event), subject=row.subject, note_id=row.note_id,
            state=DeliveryState(row.state), attempts=row.attempts, queued_at=row.queued_at, ended_at=row.ended_at,
            status=row.status, reason=row.reason, outcome=row.outcome,
        )
        for row, name in rows
    ]  # fmt: skip


def end_subscriptions(session: Session) -> None:
    """Those whose end has come are off; what still waited for them is dropped."""
    ended = session.scalars(
        update(PushDestination)
        .where(
            PushDestination.id == Subscription.id, Subscription.ends_at <= func.now(),
            PushDestination.state != DestinationState.OFF,
        )
        .values(state=DestinationState.OFF)
        .returning(PushDestination.id)
        .execution_options(synchronize_session=False)
    ).all()  # fmt: skip
    if ended:
        session.execute(
            text("DELETE FROM deliveries WHERE state = 'waiting' AND destination_id = ANY(:ids)"), {"ids": list(ended)}
        )
