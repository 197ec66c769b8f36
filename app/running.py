"""The work on jobs: one attempt at one job (`run`), or as many at the same time as the model reads at once (`work`).

What a worker is asked by a message is only to look at the queue. It takes the message's own job first, and whatever else
is due beside it, so that the model always has its slots full; each job is claimed, kept alive, completed or failed by
itself. A process that dies takes all its jobs with it; each of them is then tried by itself, so that the one which kills
processes uses up its own attempts and no neighbour's.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Self
from uuid import UUID

from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from app import receipt_work
from app.db import Database
from app.errors import Conflict, HyojunError, InvalidInput
from app.jobs import Claimed, ClaimedReceipt, Convert, Policy, claim, claim_due, claim_lost, complete, extend, fail
from app.log import describe
from app.receipt_work import CheckReceipt
from schemas.job import JobState

log = logging.getLogger(__name__)


def run(
    database: Database,
    job_id: UUID,
    convert: Convert,
    *,
    worker: str,
    policy: Policy,
    check: CheckReceipt | None = None,
) -> JobState | None:
    """One attempt at a job, from claim to result: a note is converted, a claim of a claim file checked. The state it ends in;
    None if there was nothing (more) to do here.

    Raises nothing that `convert` or `check` raises: that ends in the job's state and reason.
    """
    with database.session_scope() as session:
        claimed = claim(session, job_id, worker, policy)
    if claimed is None:
        log.info("job not free", extra={"job_id": job_id})
        return None
    with Heartbeat(database, policy.lease_seconds) as heartbeat:
        return _attempt(database, claimed, _Functions(convert, check), policy, heartbeat)


def work(
    database: Database,
    job_id: UUID,
    convert: Convert,
    *,
    worker: str,
    policy: Policy,
    slots: int,
    stopping: Callable[[], bool] = lambda: False,
    check: CheckReceipt | None = None,
) -> int:
    """Works on `job_id` and on whatever else is due, up to `slots` jobs at the same time. How many attempts were made.

    Ends when nothing is due, takes nothing new once `policy.batch_seconds` are over or `stopping()`, and lets what runs
    end. `convert` and `check` are called by several threads. Raises nothing that they raise, as `run`.
    """
    functions = _Functions(convert, check)
    crew = _Crew(database, functions, worker, policy, slots, stopping)
    attempts = 0
    claimed = crew.claim_first(job_id)
    while claimed is not None:
        if claimed.lost:
            with Heartbeat(database, policy.lease_seconds) as heartbeat:
                _attempt(database, claimed, functions, policy, heartbeat)
            attempts += 1
        else:
            attempts += crew.run_together(claimed)
        claimed = crew.claim_next(lost=True)
    return attempts


@dataclass(frozen=True)
class _Functions:
    """What is done with a note, and with a claim of a claim file."""

    convert: Convert
    check: CheckReceipt | None

    def work(self, claimed: Claimed, policy: Policy) -> Callable[[Session], None]:
        """Does the work; the function that it gives stores it."""
        if isinstance(claimed, ClaimedReceipt):
            if self.check is None:
                raise InvalidInput("this worker checks no claims")
            checked = self.check(claimed.receipt_claim_id)
            return partial(receipt_work.complete, claimed=claimed, work=checked)
        conversion = self.convert(claimed.note, source=claimed.source)
        share = policy.second_reader_share
        return partial(
            complete, claim=claimed, conversion=conversion, release=policy.release, second_reader_share=share
        )


class _Crew:
    def __init__(
        self,
        database: Database,
        functions: _Functions,
        worker: str,
        policy: Policy,
        slots: int,
        stopping: Callable[[], bool],
    ) -> None:
        self._database, self._functions, self._worker, self._policy = database, functions, worker, policy
        self._slots, self._stopping = slots, stopping
        self._end = time.monotonic() + policy.batch_seconds

    def claim_first(self, job_id: UUID) -> Claimed | None:
        """Jobs that lost their worker go before all others: they have waited for the end of a lease already."""
        with self._database.session_scope() as session:
            lost = claim_lost(session, self._worker, self._policy)
            return lost or claim_due(session, self._worker, self._policy, first=job_id)

    def claim_next(self, *, lost: bool = False) -> Claimed | None:
        """The next job that is due; `lost`: one that lost its worker goes before it, else such a job is left."""
        if self._stopping() or time.monotonic() >= self._end:
            return None
        with self._database.session_scope() as session:
            found = claim_lost(session, self._worker, self._policy) if lost else None
            return found or claim_due(session, self._worker, self._policy)

    def run_together(self, claimed: Claimed) -> int:
        """`claimed` and what else is due, until nothing is. How many attempts were made."""
        attempts = 0
        running: set[Future[JobState | None]] = set()
        waiting: Claimed | None = claimed
        with (
            Heartbeat(self._database, self._policy.lease_seconds) as heartbeat,
            ThreadPoolExecutor(self._slots, thread_name_prefix="job") as pool,
        ):
            while True:
                while waiting is not None:
                    running.add(pool.submit(_attempt, self._database, waiting, self._functions, self._policy, heartbeat))
                    attempts += 1
                    waiting = self.claim_next() if len(running) < self._slots else None
                if not running:
                    return attempts
                # While a slot is free a job that comes in is not left to wait for a message.
                patience = self._policy.interval_seconds if len(running) < self._slots else None
                ended, running = wait(running, patience, FIRST_COMPLETED)
                for future in ended:
                    if error := future.exception():
                        # The database did not take down how it ended: the lease runs out, and another attempt begins.
                        log.error("attempt left no trace", exc_info=error)
                waiting = self.claim_next()


def _attempt(
    database: Database, claimed: Claimed, functions: _Functions, policy: Policy, heartbeat: "Heartbeat"
) -> JobState | None:
    ids = {"job_id": claimed.job_id, "fence": claimed.fence, "attempt": claimed.attempts}
    if not isinstance(claimed, ClaimedReceipt):
        ids["note_id"] = claimed.note_id
    log.info("job started", extra=ids)
    started = time.monotonic()
    with heartbeat.of(claimed):
        try:
            _store(database, claimed, functions.work(claimed, policy))
            state: JobState | None = JobState.DONE
        except Conflict as conflict:
            log.warning("work refused: %s", conflict, extra=ids)
            return None
        except Exception as error:
            log.exception("attempt failed", extra=ids)
            # An error that is not ours may be a passing one (memory, a file system); the number of attempts limits it.
            retryable = error.retryable if isinstance(error, HyojunError) else True
            with database.session_scope() as session:
                state = fail(session, claimed, describe(error), retryable=retryable, policy=policy)
    log.info("job left", extra=ids | {"state": state, "duration_ms": round((time.monotonic() - started) * 1000)})
    return state


def _store(database: Database, claimed: Claimed, store: Callable[[Session], None]) -> None:
    """Minutes of model time are not thrown away because the database restarts: tries for a quarter of a minute."""
    for pause in (1, 2, 4, 8, None):
        try:
            with database.session_scope() as session:
                store(session)
            return
        except OperationalError:
            # The connection, not the data. The fence makes a second try safe even if the first commit went through.
            if pause is None:
                raise
            log.warning("result not stored yet", extra={"job_id": claimed.job_id, "retry_seconds": pause})
            time.sleep(pause)


class Heartbeat:
    """While the block runs, a thread extends the leases of the claims inside `of`, every third of a lease. A claim that
    turned out void is left alone from then on."""

    def __init__(self, database: Database, lease_seconds: float) -> None:
        self._database, self._lease_seconds = database, lease_seconds
        self._lock = threading.Lock()
        self._claims: dict[UUID, Claimed] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    @contextmanager
    def of(self, claimed: Claimed) -> Iterator[None]:
        with self._lock:
            self._claims[claimed.job_id] = claimed
        try:
            yield
        finally:
            self._drop(claimed)

    def _drop(self, claimed: Claimed) -> None:
        with self._lock:
            if self._claims.get(claimed.job_id) is claimed:
                del self._claims[claimed.job_id]

    def _beat(self) -> None:
        while not self._end.wait(self._lease_seconds / 3):
            with self._lock:
                claims = list(self._claims.values())
            for held in claims:
                try:
                    # A transaction each: several rows in one could wait crosswise for the dispatcher's.
                    with self._database.session_scope() as session:
                        alive = extend(session, held, self._lease_seconds)
                except SQLAlchemyError:
                    log.warning("heartbeat missed", extra={"job_id": held.job_id})
                    continue
                if not alive:
                    self._drop(held)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._end.set()
        self._thread.join(timeout=15)
