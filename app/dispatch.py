"""The dispatcher: from rows that want a worker to messages that say so.

Any number of workers may run one; an advisory lock lets one at a time work. Without the window, a backlog older than
the re-dispatch time would multiply its own messages.
"""

import logging
import threading
from collections.abc import Callable
from uuid import UUID

from sqlalchemy import Interval, and_, cast, func, or_, select, update
from sqlalchemy.orm import Session

from app.db import Database
from app.jobs import Policy, may_become, not_closed
from models import Job
from schemas.job import JobState

log = logging.getLogger(__name__)

DISPATCH_LOCK = 4_841_001
MAX_DOUBLINGS = 10
"""Re-dispatch pauses double at most this often; a job that waits for days costs some ten messages."""


def dispatch_tick(database: Database, publish: Callable[[UUID], None], policy: Policy) -> int:
    """One look at the queue: sends ids of jobs that want a worker, and returns how many.

    At most `policy.window` messages that nobody claimed are in the broker. A job is sent again when nobody claimed it
    for a while, and when its lease ended. Commits first and publishes after: a message never runs ahead of its row, and
    a crash in between costs one re-dispatch. 0 also when another dispatcher is at it.
    Raises: what `publish` raises; the jobs not yet sent are then due again at once.
    """
    with database.session_scope() as session:
        if not session.scalar(select(func.pg_try_advisory_xact_lock(DISPATCH_LOCK))):
            return 0
        _fail_used_up(session, policy)
        ids = _take_due(session, policy)
    for sent, job_id in enumerate(ids):
        try:
            publish(job_id)
        except Exception:
            with database.session_scope() as session:
                session.execute(
                    update(Job)
                    .where(Job.id.in_(ids[sent:]), Job.state.in_([JobState.QUEUED, JobState.RUNNING]))
                    .values(dispatched_at=None)
                    .execution_options(synchronize_session=False)
                )
            raise
    return len(ids)


def _fail_used_up(session: Session, policy: Policy) -> None:
    ended = or_(Job.state == JobState.QUEUED, and_(Job.state == JobState.RUNNING, Job.lease_until < func.now()))
    dead = session.scalars(
        update(Job)
        .where(may_become(JobState.FAILED), ended, Job.attempts >= policy.max_attempts)
        .values(
            state=JobState.FAILED,
            reason=func.concat("worker lost, or stuck, in attempt ", Job.attempts, " of ", policy.max_attempts),
            finished_at=func.now(),
            lease_until=None,
        )
        .returning(Job.id)
        .execution_options(synchronize_session=False)
    ).all()
    for job_id in dead:
        log.error("job failed: attempts used up", extra={"job_id": job_id})


def _take_due(session: Session, policy: Policy) -> list[UUID]:
    doublings = func.least(func.greatest(Job.dispatches - 1, 0), MAX_DOUBLINGS)
    pause = cast(func.make_interval(0, 0, 0, 0, 0, 0, policy.redispatch_seconds * func.power(2, doublings)), Interval)
    stale = or_(Job.dispatched_at.is_(None), Job.dispatched_at + pause < func.now())
    # Jobs of a batch that is closed want no worker, and must not take the room of those that do.
    waiting = session.scalar(select(func.count()).where(Job.state == JobState.QUEUED, ~stale, not_closed())) or 0
    room = policy.window - waiting
    if room <= 0:
        return []
    abandoned = and_(
        Job.state == JobState.RUNNING, Job.lease_until < func.now(), or_(Job.dispatched_at < Job.lease_until, stale)
    )
    due = (
        select(Job.id)
        .where(or_(and_(Job.state == JobState.QUEUED, Job.run_after <= func.now(), stale), abandoned), not_closed())
        .order_by(Job.priority, Job.queued_at, Job.id)
        .limit(room)
        .with_for_update(skip_locked=True)
    )
    ids = list(session.scalars(due))
    if ids:
        session.execute(
            update(Job)
            .where(Job.id.in_(ids))
            .values(dispatched_at=func.now(), dispatches=Job.dispatches + 1)
            .execution_options(synchronize_session=False)
        )
    return ids


class Dispatcher:
    """A thread that ticks until stopped. It outlives whatever a tick raises: a database or broker that is away is asked
    again, at longer and longer intervals up to five seconds."""

    def __init__(self, database: Database, publish: Callable[[UUID], None], policy: Policy) -> None:
        self._database, self._publish, self._policy = database, publish, policy
        self._end = threading.Event()
        self._thread = threading.Thread(target=self.run, name="dispatcher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def run(self) -> None:
        """The loop itself, for a process that does nothing else; returns after `stop`."""
        pause = self._policy.interval_seconds
        while not self._end.wait(pause):
            try:
                dispatch_tick(self._database, self._publish, self._policy)
                pause = self._policy.interval_seconds
            except Exception:
                pause = min(max(pause, 0.1) * 2, 5.0)
                log.warning("dispatch failed", exc_info=True, extra={"retry_seconds": pause})
