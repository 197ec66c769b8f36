"""A note of which everything was accepted and released, and what is sent of it."""

from pathlib import Path
from uuid import UUID

from reviewed_notes import convert_again, items_of, stored
from reviewing import STANDARD
from sqlalchemy import update

from app import destinations, outbox, releases, reviews
from app.db import Database
from app.outgoing import Secrets
from app.pusher import send_all
from models import Delivery, PushDestination
from schemas.note import ChartNote
from schemas.push import DeliveryStatus, DestinationKind, NewDestination, PushPolicy
from schemas.review import Verdict

POLICY = PushPolicy(timeout_seconds=30.0, max_attempts=3)


def released(database: Database, note: ChartNote | None = None, *, reject: tuple[str, ...] = ()) -> UUID:
    """The id of the note. `reject`: kinds of statements that the reviewer does not accept."""
    note_id = stored(database, note=note)
    release(database, note_id, reject=reject)
    return note_id


def release(database: Database, note_id: UUID, *, reject: tuple[str, ...] = ()) -> UUID:
    """The id of the run that was released."""
    for item in items_of(database, note_id):
        verdict = Verdict.REJECT if item.statement.kind in reject else Verdict.ACCEPT
        with database.session_scope() as session:
            reviews.decide(session, item.id, verdict, by="test", version=item.version)
    with database.session_scope() as session:
        current = reviews.get_review(session, note_id)
        releases.release(session, note_id, current.run_id, by="test", standard=STANDARD)
    return current.run_id


def again(database: Database, note_id: UUID) -> UUID:
    """The note is converted and released once more; the id of the new run."""
    convert_again(database, note_id)
    return release(database, note_id)


def add(database: Database, kind: DestinationKind, url: str, **more: object) -> tuple[PushDestination, str | None]:
    new = NewDestination(kind=kind, url=url, **({"name": kind.value} | more))
    with database.session_scope() as session:
        return destinations.add(session, new, by="test")


def send(database: Database, folder: Path, policy: PushPolicy = POLICY) -> int:
    return send_all(database, Secrets(folder), policy)


def deliveries(database: Database) -> list[DeliveryStatus]:
    """The oldest first."""
    with database.session_scope() as session:
        return outbox.deliveries(session)[::-1]


def hurry(database: Database) -> None:
    """All pauses are over, and all leases."""
    with database.session_scope() as session:
        session.execute(update(PushDestination).values(hold_until=None))
        session.execute(update(Delivery).values(run_after=Delivery.queued_at, lease_until=None))
