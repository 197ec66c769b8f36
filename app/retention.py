"""Notes that are no longer needed: which they are, and their deletion with everything that was made of them.

A note goes with its text, jobs, statements, reviews, resources and messages; audit events stay. What no longer counts anyway
(ended sessions, tokens, exports) goes with every purge. Files that were exported are somebody else's. A claim file (レセプト)
goes whole, by its own age, and only with a purge of all patients and senders; before, its advice loses what it quoted of notes
that went.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, delete, exists, func, or_, select, text
from sqlalchemy.orm import Session

from app import audit
from app.db import Database
from app.errors import Conflict
from app.review_items import is_decided
from app.store import index
from models import (
    Batch,
    BatchItem,
    Job,
    Note,
    NoteReview,
    ReceiptClaim,
    ReceiptFile,
    ReceiptItem,
    ReleaseState,
    Resource,
    Review,
)
from schemas.job import JobState
from schemas.receipt import ItemState
from schemas.review import AuditAction, AuditOutcome

CHUNK = 200
"""Notes of one transaction: some thousand rows of resources and of the index of searches."""
_OPEN_JOBS = (JobState.QUEUED, JobState.RUNNING)


@dataclass(frozen=True)
class Old:
    """Notes that came in longer ago than `age`, of a sending system, of a patient by the sender's id; None: of any."""

    age: timedelta
    source: str | None = None
    patient: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        chosen: list[ColumnElement[bool]] = [Note.received_at < func.now() - self.age]
        if self.source is not None:
            chosen.append(Note.source == self.source)
        if self.patient is not None:
            chosen.append(Note.patient_id == self.patient)
        return chosen


@dataclass(frozen=True)
class Found:
    """What a purge would meet. `open`: notes that wait to be converted, or are; they stay. Of the other `notes`: `undecided`
    have statements that wait for a person, `released` have resources that others may see."""

    notes: int
    open: int
    undecided: int
    released: int


@dataclass(frozen=True)
class Purged:
    """`bundles`: those handed out of patients without any note left; `batches`: with their lists of what failed; `receipts`:
    claim files."""

    notes: int = 0
    bundles: int = 0
    batches: int = 0
    expired: int = 0
    receipts: int = 0


def find(session: Session, old: Old) -> Found:
    """Counts alone; nothing is changed."""
    gone = [*old.conditions(), ~_open()]
    return Found(
        notes=_count(session, gone),
        open=_count(session, [*old.conditions(), _open()]),
        undecided=_count(session, [*gone, _undecided()]),
        released=_count(session, [*gone, _released()]),
    )


def purge(
    database: Database,
    old: Old,
    *,
    by: str,
    force: bool = False,
    with_resources: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Purged:
    """Deletes them, `CHUNK` notes at a time; killed, the next run goes on. `progress` is told how many went.

    `force`: also what still waits for a person's decision; `with_resources`: also what was released, and the Bundles handed
    out of patients of whom nothing is left. Raises: Conflict without them, where there is such; nothing is deleted then.
    """
    with database.session_scope() as session:
        found = find(session, old)
        _check(found, force=force, with_resources=with_resources)
        audit.record(session, AuditAction.PURGE, by=by, outcome=AuditOutcome.BEGUN, after=_told(old))
    notes = 0
    while True:
        with database.session_scope() as session:
            gone = _delete_some(session, old, force=force, with_resources=with_resources)
        if not gone:
            break
        notes += gone
        progress(gone)
    with database.session_scope() as session:
        bundles = _delete_bundles(session, old) if with_resources else 0
        batches = _delete_batches(session, old) if old.patient is None else 0
        expired = delete_expired(session)
        receipts = _delete_receipts(session, old, force=force) if old.patient is None and old.source is None else 0
        purged = Purged(notes, bundles, batches, expired, receipts)
        audit.record(
            session, AuditAction.PURGE, by=by, outcome=AuditOutcome.SUCCESS, before=_told(old), after=vars(purged)
        )
    return purged


def delete_expired(session: Session) -> int:
    """Tokens, sessions, links, exports and answers whose time is over: how many rows."""
    gone = 0
    for table in ("access_tokens", "used_assertions", "user_sessions", "one_time_links", "oidc_logins", "exports",
                  "standardize_requests"):  # fmt: skip
        done = session.execute(text(f"DELETE FROM {table} WHERE expires_at < now()"))  # noqa: S608  # names of ours
        gone += int(getattr(done, "rowcount", 0))
    return gone


def _check(found: Found, *, force: bool, with_resources: bool) -> None:
    reasons = []
    if found.undecided and not force:
        reasons.append(f"{found.undecided} notes have statements that nobody has decided on (--force deletes them too)")
    if found.released and not with_resources:
        reasons.append(
            f"{found.released} notes have released resources, which others may have read (--with-resources deletes them too)"
        )
    if reasons:
        raise Conflict(f"nothing was deleted: of {found.notes} notes, " + "; ".join(reasons))


def _delete_some(session: Session, old: Old, *, force: bool, with_resources: bool) -> int:
    conditions = [*old.conditions(), ~_open()]
    # Decided or released since the look at all of them: it stays for another time.
    conditions += [] if force else [~_undecided()]
    conditions += [] if with_resources else [~_released()]
    ids = session.scalars(
        select(Note.id).where(*conditions).order_by(Note.received_at).limit(CHUNK).with_for_update(skip_locked=True)
    ).all()
    if not ids:
        return 0
    keys = {(type_, id_) for type_, id_ in session.execute(
        select(Resource.type, Resource.id).where(Resource.note_id.in_(ids)).distinct()
    )}  # fmt: skip
    index.lock(session, keys)
    _forget_quotes(session, ids)
    session.execute(delete(Note).where(Note.id.in_(ids)).execution_options(synchronize_session=False))
    # Another note may have written an earlier version of the same Patient: searches find that one now.
    index.renew(session, keys)
    return len(ids)


def _delete_bundles(session: Session, old: Old) -> int:
    chosen = {"source": old.source, "patient": old.patient, "age": old.age}
    done = session.execute(text(
        "DELETE FROM clins_bundles b WHERE created_at < now() - CAST(:age AS interval)"
        " AND (CAST(:source AS text) IS NULL OR source = :source)"
        " AND (CAST(:patient AS text) IS NULL OR patient_id = :patient)"
        " AND NOT EXISTS (SELECT FROM notes n WHERE n.source = b.source AND n.patient_id = b.patient_id)"
    ), chosen)  # fmt: skip
    return int(getattr(done, "rowcount", 0))


def _delete_batches(session: Session, old: Old) -> int:
    """Those that ended, and of whose notes none is left."""
    chosen = [Batch.finished_at < func.now() - old.age]
    if old.source is not None:
        chosen.append(Batch.source == old.source)
    left = exists().where(BatchItem.batch_id == Batch.id, BatchItem.note_id.is_not(None))
    done = session.execute(delete(Batch).where(*chosen, ~left).execution_options(synchronize_session=False))
    return int(getattr(done, "rowcount", 0))


def _delete_receipts(session: Session, old: Old, *, force: bool) -> int:
    """Claim files that no worker is at; `force`: also those with items that wait for a person's decision."""
    of_file = ReceiptClaim.file_id == ReceiptFile.id
    working = exists().where(of_file, Job.receipt_claim_id == ReceiptClaim.id, Job.state.in_(_OPEN_JOBS))
    waiting = exists().where(of_file, ReceiptItem.claim_id == ReceiptClaim.id, ReceiptItem.state == ItemState.OPEN)
    chosen = [ReceiptFile.created_at < func.now() - old.age, ~working, *([] if force else [~waiting])]
    done = session.execute(delete(ReceiptFile).where(*chosen).execution_options(synchronize_session=False))
    return int(getattr(done, "rowcount", 0))


def _forget_quotes(session: Session, note_ids: Sequence[UUID]) -> None:
    """Advice on claims keeps what was advised, without the words of notes that go."""
    gone = {"ids": [str(note_id) for note_id in note_ids]}
    session.execute(text(
        "UPDATE receipt_items i SET advice = jsonb_set(advice, '{evidence}', 'null') FROM receipt_claims c"
        " WHERE c.note_ids ?| CAST(:ids AS text[]) AND i.claim_id = c.id"
        " AND i.advice -> 'evidence' ->> 'note_id' = ANY (CAST(:ids AS text[]))"
    ), gone)  # fmt: skip
    session.execute(text(
        "UPDATE receipt_claims SET note_ids = note_ids - CAST(:ids AS text[]) WHERE note_ids ?| CAST(:ids AS text[])"
    ), gone)  # fmt: skip


def _open() -> ColumnElement[bool]:
    of_note = or_(Job.note_id == Note.id, Job.trial_note_id == Note.id)
    return exists().where(of_note, Job.state.in_(_OPEN_JOBS))


def _undecided() -> ColumnElement[bool]:
    """A statement of the current review that no person has judged, and that was not released without one."""
    resource = and_(
        Resource.type == Review.resource_type, Resource.id == Review.resource_id,
        Resource.version == Review.resource_version, Resource.state == ReleaseState.FINAL,
    )  # fmt: skip
    return exists().where(
        NoteReview.note_id == Note.id,
        NoteReview.superseded_at.is_(None),
        NoteReview.released_at.is_(None),
        Review.run_id == NoteReview.run_id,
        ~is_decided(),
        ~exists().where(resource),
    )


def _released() -> ColumnElement[bool]:
    return exists().where(Resource.note_id == Note.id, Resource.state == ReleaseState.FINAL)


def _count(session: Session, conditions: list[ColumnElement[bool]]) -> int:
    return session.scalar(select(func.count()).select_from(Note).where(*conditions)) or 0


def _told(old: Old) -> dict[str, Any]:
    return {"days": old.age.total_seconds() / 86_400, "source": old.source, "patient": old.patient}
