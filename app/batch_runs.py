"""A batch's life, as people see it and steer it.

    from                      to             by
    -                         receiving      app.batch_input     the input comes in
    receiving                 running        app.batch_input     it is stored whole, and may be read
    running                   paused         pause               none of its jobs is claimed any more
    paused                    running        resume
    running                   done, failed   app.batch_feed      every note has ended
    running, paused           cancelled      cancel              what has not ended is cancelled
    done, failed, cancelled   running        retry_failed        what failed or was cancelled is queued again

Messages say what to do next: they are read at night.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, String, cast, delete, func, select, text, update
from sqlalchemy.orm import Session

from app.batch_input import rate_of
from app.db import Database
from app.errors import Conflict, NotFound
from models import Batch, BatchChunk, BatchItem, BatchMinute, Job
from schemas.batch import BatchFormat, BatchState, ItemState
from schemas.job import JobState

SPEED_MINUTES = 10
"""The speed of a batch is that of its last so many minutes."""
PAGE = 1000
RECEIVING, RUNNING, PAUSED = BatchState.RECEIVING, BatchState.RUNNING, BatchState.PAUSED
ENDED = (BatchState.DONE, BatchState.FAILED, BatchState.CANCELLED)
ERRORS = (ItemState.FAILED, ItemState.CANCELLED, ItemState.REFUSED)


# --- looking ----------------------------------------------------------------------------------------------------------


def get_batch(session: Session, batch_id: UUID, *, lock: bool = False) -> Batch:
    """Raises: NotFound."""
    query = select(Batch).where(Batch.id == batch_id).execution_options(populate_existing=True)
    batch = session.scalars(query.with_for_update() if lock else query).one_or_none()
    if batch is None:
        raise NotFound(f"batch {batch_id} does not exist; GET /api/batches or `hyojun batch list` shows those that do")
    return batch


def find_ids(session: Session, beginning: str, count: int = 2) -> list[UUID]:
    """Batches whose id begins so; enough of them to tell whether it is one."""
    written = cast(Batch.id, String)
    return list(session.scalars(select(Batch.id).where(written.startswith(beginning, autoescape=True)).limit(count)))


def list_batches(
    session: Session, *, state: BatchState | None = None, before: datetime | None = None, count: int = 50
) -> list[dict[str, Any]]:
    """`status` of each, the newest first, of those made before `before`."""
    query = select(Batch).order_by(Batch.created_at.desc(), Batch.id).limit(count)
    if state is not None:
        query = query.where(Batch.state == state)
    if before is not None:
        query = query.where(Batch.created_at < before)
    return [_described(session, batch) for batch in session.scalars(query)]


def status(session: Session, batch_id: UUID) -> dict[str, Any]:
    """State, counts, speed and the expected end, as the API shows them; a few rows are read, whatever the size of the batch.

    `notes_per_hour`: converted in the last minutes; of an ended batch, over all its time. `ends_at`: if it goes on so, with the
    rate by time of day; None: not known. `next`: what to do. Raises: NotFound.
    """
    return _described(session, get_batch(session, batch_id))


def _described(session: Session, batch: Batch) -> dict[str, Any]:
    left = max(0, batch.items - batch.refused - batch.done - batch.failed - batch.cancelled)
    total = _total(batch)
    now = session.scalars(select(func.now())).one()
    if batch.finished_at is None:
        recent, capacity = _speeds(session, batch, now)
    else:
        converted = session.scalar(select(func.sum(BatchMinute.ended)).where(BatchMinute.batch_id == batch.id)) or 0
        took = max((batch.finished_at - batch.created_at).total_seconds(), 1.0)
        recent, capacity = round(float(converted) * 3600 / took, 1), 0.0
    ends_at = None
    if batch.state == RUNNING and total is not None and capacity > 0:
        ends_at = rate_of(batch.rate).end_of(now, left + max(0, total - batch.items), capacity)
    return {
        "id": batch.id,
        "name": batch.name,
        "source": batch.source,
        "format": batch.format,
        "rate": batch.rate,
        "state": batch.state,
        "reason": batch.reason,
        "created_at": batch.created_at,
        "created_by": batch.created_by,
        "finished_at": batch.finished_at,
        "bytes": batch.bytes,
        "sha256": batch.sha256,
        "total": total,
        "read": batch.items,
        "new": batch.added,
        "corrected": batch.corrected,
        "known": batch.known,
        "refused": batch.refused,
        "open": 0 if batch.state in ENDED else left,
        "done": batch.done,
        "failed": batch.failed,
        "cancelled": batch.cancelled,
        "notes_per_hour": recent,
        "ends_at": ends_at,
        "next": _advice(batch, left, recent, now),
    }


def _total(batch: Batch) -> int | None:
    """Entries of the whole input; by the part that is read, where nobody has counted them."""
    if batch.exhausted or batch.state in ENDED:
        return batch.items
    if batch.total is not None:
        return max(batch.total, batch.items)
    by_bytes = batch.format == BatchFormat.CSV and batch.items and batch.position
    return max(batch.items, round(batch.items * batch.bytes / batch.position)) if by_bytes else None


def _speeds(session: Session, batch: Batch, now: datetime) -> tuple[float, float]:
    """Notes an hour: of the last minutes, and the most that a stretch of so many minutes brought within a day."""
    since = max(now - timedelta(days=1), batch.created_at - timedelta(minutes=1))
    rows = session.execute(
        select(BatchMinute.minute, BatchMinute.ended).where(
            BatchMinute.batch_id == batch.id, BatchMinute.minute >= since
        )
    )
    minutes: dict[datetime, int] = dict(rows.all())
    if not minutes:
        return 0.0, 0.0
    # A batch that is younger than the stretch is measured over its own age.
    age = max((now - max(batch.created_at, min(minutes))).total_seconds(), 1.0)
    hours = min(SPEED_MINUTES * 60, age) / 3600
    begin = now - timedelta(minutes=SPEED_MINUTES)
    recent = sum(ended for minute, ended in minutes.items() if minute > begin) / hours
    best, stretch = 0, timedelta(minutes=SPEED_MINUTES)
    ordered = sorted(minutes.items())
    first, running = 0, 0
    for minute, ended in ordered:
        running += ended
        while ordered[first][0] <= minute - stretch:
            running -= ordered[first][1]
            first += 1
        best = max(best, running)
    return round(recent, 1), max(recent, best * 60 / SPEED_MINUTES)


def _advice(batch: Batch, left: int, recent: float, now: datetime) -> str:
    """What somebody who looks at the batch at night should do."""
    resend = "send the input again: what is converted is known by its content and is not converted twice"
    refused = "; the ledger says which entries were refused and why" if batch.refused else ""
    if batch.state == RECEIVING:
        return "the input is still coming in; if its sender is gone, send it again (the rest is removed after a day)"
    if batch.state == PAUSED:
        return "paused by a person: resume it to go on"
    if batch.state == BatchState.CANCELLED:
        return f"cancelled: to convert the rest, {resend}"
    if batch.state == BatchState.FAILED:
        return f"the input could not be read to its end: mend it and {resend}"
    if batch.state == BatchState.DONE:
        if batch.failed or batch.cancelled:
            return f"look at the ledger of errors, mend the cause, and retry what failed{refused}"
        return f"nothing to do{refused}"
    if batch.reason is not None:
        return f"{batch.reason}; it goes on by itself once that is mended"
    if batch.closed:
        change = rate_of(batch.rate).until(now)
        return f"its rate allows nothing now; it goes on at {change.isoformat()}" if change else "its rate allows nothing"
    old = (now - batch.created_at) > timedelta(minutes=2)
    if left and not recent and old:
        return "nothing has ended for minutes: is a worker running (`hyojun worker`), and what does its log say?"
    if not batch.items and old:
        return "nothing was read yet: is a worker running (`hyojun worker`)? The workers read the batches"
    return "nothing to do: it goes on by itself"


def items(
    session: Session, batch_id: UUID, *, errors: bool = False, after: int = 0, count: int = PAGE
) -> list[dict[str, Any]]:
    """The entries of the ledger behind position `after`; `errors`: only those that were refused, failed or cancelled."""
    columns = [column for column in BatchItem.__table__.c if column.name != "batch_id"]
    query = select(*columns).where(BatchItem.batch_id == batch_id, BatchItem.position > after)
    if errors:
        query = query.where(BatchItem.state.in_(ERRORS))
    return [dict(row) for row in session.execute(query.order_by(BatchItem.position).limit(count)).mappings()]


def every_item(database: Database, batch_id: UUID, *, errors: bool = False) -> Iterator[dict[str, Any]]:
    """All of them, a page in memory; each page in a transaction of its own. Raises: NotFound, before the first."""
    with database.session_scope() as session:
        get_batch(session, batch_id)
    return _pages(database, lambda session, after: items(session, batch_id, errors=errors, after=after))


def _pages(
    database: Database, page: Callable[[Session, int], list[dict[str, Any]]]
) -> Iterator[dict[str, Any]]:
    after = 0
    while True:
        with database.session_scope() as session:
            found = page(session, after)
        yield from found
        if not found:
            return
        after = found[-1]["position"]


# --- steering ---------------------------------------------------------------------------------------------------------


def pause(session: Session, batch_id: UUID) -> None:
    """From the commit on no job of the batch is claimed; those that run end. Raises: NotFound, Conflict."""
    batch = get_batch(session, batch_id, lock=True)
    if batch.state == PAUSED:
        return
    if batch.state != RUNNING:
        raise Conflict(f"batch {batch_id} is {batch.state}, and only a running one can be paused")
    batch.state, batch.closed = PAUSED, True
    session.flush()


def resume(session: Session, batch_id: UUID) -> None:
    """Raises: NotFound, Conflict."""
    batch = get_batch(session, batch_id, lock=True)
    if batch.state == RUNNING:
        return
    if batch.state != PAUSED:
        raise Conflict(f"batch {batch_id} is {batch.state}, and only a paused one can be resumed")
    batch.state = RUNNING
    set_closed(session, batch, False)


def cancel(session: Session, batch_id: UUID) -> None:
    """Its jobs that have not ended are cancelled, and the rest of its input is not read. Raises: NotFound, Conflict."""
    batch = get_batch(session, batch_id, lock=True)
    if batch.state == BatchState.CANCELLED:
        return
    if batch.state not in (RUNNING, PAUSED):
        raise Conflict(f"batch {batch_id} is {batch.state}, and only a running or paused one can be cancelled")
    while settle(session, batch):
        pass
    reason = "the batch was cancelled"
    session.execute(
        update(Job)
        .where(Job.id.in_(_open_jobs(batch_id)), Job.batch_id == batch_id, _still_open())
        .values(state=JobState.CANCELLED, reason=reason, finished_at=func.now(), lease_until=None, fence=Job.fence + 1)
        .execution_options(synchronize_session=False)
    )
    left = session.execute(
        update(BatchItem)
        .where(BatchItem.batch_id == batch_id, BatchItem.state.in_([ItemState.OPEN, ItemState.RETRY]))
        .values(state=ItemState.CANCELLED, error=reason, ended_at=func.now())
        .returning(BatchItem.position)
        .execution_options(synchronize_session=False)
    ).all()
    if not batch.exhausted:
        batch.reason = f"cancelled after {batch.items:,} entries of the input"
    batch.cancelled += len(left)
    end(session, batch, BatchState.CANCELLED)


def retry_failed(session: Session, batch_id: UUID) -> int:
    """What failed or was cancelled is queued again, little by little, as jobs of this batch; how much that is. What was
    refused is not: it has to be mended and sent again. Raises: NotFound; Conflict where there is nothing."""
    batch = get_batch(session, batch_id, lock=True)
    if batch.state == RECEIVING:
        raise Conflict(f"batch {batch_id} is still coming in")
    wanted = update(BatchItem).where(
        BatchItem.batch_id == batch_id, BatchItem.state.in_([ItemState.FAILED, ItemState.CANCELLED])
    )
    again = session.execute(
        wanted.values(state=ItemState.RETRY, error=None, ended_at=None).execution_options(synchronize_session=False)
    )
    moved = int(getattr(again, "rowcount", 0))
    if not moved:
        raise Conflict(f"nothing of batch {batch_id} failed or was cancelled")
    batch.failed, batch.cancelled = 0, 0
    if batch.state in ENDED:
        batch.state, batch.finished_at, batch.exhausted = RUNNING, None, True
    session.flush()
    return moved


def end(session: Session, batch: Batch, state: BatchState) -> None:
    """The batch has ended; its input is stored no longer."""
    session.execute(delete(BatchChunk).where(BatchChunk.batch_id == batch.id))
    session.flush()
    session.execute(
        update(Batch)
        .where(Batch.id == batch.id)
        .values(state=state, closed=False, exhausted=True, finished_at=func.now())
        .execution_options(synchronize_session=False)
    )
    session.refresh(batch)


def set_closed(session: Session, batch: Batch, closed: bool) -> None:
    """Whether its jobs may be claimed. Opened: their messages were answered in vain, so they are sent anew."""
    if batch.closed == closed:
        return
    batch.closed = closed
    session.flush()
    if not closed:
        session.execute(
            update(Job)
            .where(Job.id.in_(_open_jobs(batch.id)), Job.batch_id == batch.id, Job.state == JobState.QUEUED)
            .values(dispatched_at=None, dispatches=0)
            .execution_options(synchronize_session=False)
        )


def _open_jobs(batch_id: UUID) -> Select[UUID | None]:
    """Through the open items, a window of them: the index of jobs by batch holds all that there ever were."""
    return select(BatchItem.job_id).where(BatchItem.batch_id == batch_id, BatchItem.state == ItemState.OPEN)


def _still_open() -> ColumnElement[bool]:
    return Job.state.in_([JobState.QUEUED, JobState.RUNNING])


# --- settling ---------------------------------------------------------------------------------------------------------

_ENDED = text("""
    WITH ended AS MATERIALIZED (
        SELECT i.position, i.intake, j.id AS job_id, j.state, j.reason, j.started_at, j.finished_at
        FROM batch_items i JOIN jobs j ON j.id = i.job_id
        WHERE i.batch_id = :batch_id AND i.state = 'open' AND j.state IN ('done', 'failed', 'cancelled')
        LIMIT :limit
    )
    SELECT e.position, e.intake, e.state, CASE e.state WHEN 'done' THEN NULL ELSE coalesce(e.reason, e.state) END AS error,
        extract(epoch FROM e.finished_at - e.started_at)::float8 AS seconds, s.statements, s.uncoded, s.held,
        (SELECT count(*) FROM issues WHERE issues.job_id = e.job_id) AS issues,
        (SELECT count(*) FROM resources WHERE resources.job_id = e.job_id AND written_by IS NULL) AS resources
    FROM ended e CROSS JOIN LATERAL (
        SELECT count(*) AS statements, count(*) FILTER (WHERE (st.record ->> 'held')::boolean) AS held,
            count(*) FILTER (WHERE st.record -> 'codings' = '[]' AND st.record ->> 'local' IS NULL) AS uncoded
        FROM runs r JOIN statements st ON st.run_id = r.id WHERE r.job_id = e.job_id
    ) s
""")
# By the key, one by one in a pipeline: joined with the rows above, the planner would read the whole ledger.
_SETTLE = text("""
    UPDATE batch_items SET state = :state, error = :error, ended_at = now(), seconds = :seconds, statements = :statements,
        resources = :resources, issues = :issues, uncoded = :uncoded, held = :held
    WHERE batch_id = :batch_id AND position = :position
""")
_MINUTE = text("""
    INSERT INTO batch_minutes (batch_id, minute, ended) VALUES (:batch_id, date_trunc('minute', now()), :ended)
    ON CONFLICT (batch_id, minute) DO UPDATE SET ended = batch_minutes.ended + excluded.ended
""")


def settle(session: Session, batch: Batch, limit: int = 500) -> int:
    """Takes over how the jobs of open items ended, and moves the counters; the batch is locked by the caller. How many."""
    rows = session.execute(_ENDED, {"batch_id": batch.id, "limit": limit}).mappings().all()
    if not rows:
        return 0
    session.execute(_SETTLE, [{"batch_id": batch.id, **row} for row in rows])
    states = [row["state"] for row in rows]
    batch.done += states.count("done")
    batch.failed += states.count("failed")
    batch.cancelled += states.count("cancelled")
    session.flush()
    # What was converted before says nothing of how fast converting goes.
    if converted := sum(row["intake"] != "known" and row["state"] != "cancelled" for row in rows):
        session.execute(_MINUTE, {"batch_id": batch.id, "ended": converted})
    return len(rows)
