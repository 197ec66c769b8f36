"""The feeder: from the inputs of batches to notes and jobs, a window of open jobs ahead of the workers, at each batch's rate.

Notes, jobs, items, counters and the place where the reading goes on are one transaction, so that a kill at any moment loses
nothing and doubles nothing. Any number of workers may run a feeder; an advisory lock lets one at a time work. It only saves
work: two of them could not store an entry twice, since each looks, under the batch's row lock, whether the other was faster.
"""

import logging
import shutil
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.orm import Session

from app import batch_runs, jobs
from app.batch_input import rate_of, stored_input
from app.batch_sources import Entry, Input, open_input
from app.db import Database
from app.errors import HyojunError
from app.note_rows import note_values
from models import Batch, BatchChunk, BatchItem, Note
from schemas.batch import BatchFormat, BatchState, Intake, ItemState

log = logging.getLogger(__name__)

FEED_LOCK = 4_841_004
MAX_PART = 200
"""Entries in one transaction."""
TURN_SECONDS = 1.0
"""After so long with one batch the others have their turn."""
BURST_SECONDS = 60
"""With a rate: what was not used of it is made up for over so long, and no longer."""


@dataclass(frozen=True)
class Plan:
    """`window`: open jobs of one batch at most. `max_bytes`: unpacked size of an archive. `work`: a folder of this machine in
    which storages are unpacked."""

    window: int
    max_bytes: int
    work: Path
    interval_seconds: float = 0.2


class Feeder:
    """`tick` looks at every batch once. `start` and `stop`: a thread that does so until it is stopped, and outlives whatever
    a tick raises."""

    def __init__(self, database: Database, plan: Plan) -> None:
        self._database, self._plan = database, plan
        self._opened: dict[UUID, _Opened] = {}
        self._waits: dict[UUID, float] = {}
        self._swept = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self.run, name="feeder", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        self.close()

    def close(self) -> None:
        """Lets go of the inputs that are open."""
        for batch_id in list(self._opened):
            self._drop(batch_id)

    def run(self) -> None:
        pause = self._plan.interval_seconds
        while not self._end.wait(pause):
            try:
                moved = self.tick()
                # Nothing to do: the workers are busy, or there is no batch.
                pause = self._plan.interval_seconds if moved else min(pause * 1.5, 1.0)
            except Exception:
                pause = min(max(pause, 0.1) * 2, 5.0)
                log.warning("feeding failed", exc_info=True, extra={"retry_seconds": pause})

    def tick(self) -> int:
        """One look at every running batch; how many entries were read or ended. 0 also when another feeder is at it.

        A batch with which something is wrong does not keep the others from their turn.
        """
        with self._database.session_scope() as session:
            running = select(Batch.id).where(Batch.state == BatchState.RUNNING).order_by(Batch.created_at)
            batches = list(session.scalars(running))
            # Closed by a person or not at all: what still runs of it goes on to end.
            batches += session.scalars(select(Batch.id).where(Batch.state == BatchState.PAUSED)).all()
        for gone in set(self._opened) - set(batches):
            self._drop(gone)
        if not batches and time.monotonic() - self._swept < 60:
            return 0
        with self._alone() as alone:
            if not alone:
                return 0
            self._sweep(batches)
            return sum(self._turn(batch_id) for batch_id in batches if not self._end.is_set())

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        # A lock of the connection, not of a transaction: to unpack a storage takes minutes.
        with self._database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            got = bool(connection.scalar(select(func.pg_try_advisory_lock(FEED_LOCK))))
            try:
                yield got
            finally:
                if got:
                    connection.scalar(select(func.pg_advisory_unlock(FEED_LOCK)))

    def _sweep(self, running: Collection[UUID]) -> None:
        """Inputs whose sender was gone before they were whole, and what a killed feeder had unpacked."""
        if time.monotonic() - self._swept < 60:
            return
        for left in self._plan.work.iterdir() if self._plan.work.is_dir() else ():
            if left.name not in map(str, running):
                shutil.rmtree(left, ignore_errors=True)
        self._swept = time.monotonic()
        with self._database.session_scope() as session:
            old = Batch.created_at < func.now() - text("interval '1 day'")
            session.execute(delete(Batch).where(Batch.state == BatchState.RECEIVING, old))

    def _turn(self, batch_id: UUID) -> int:
        if time.monotonic() < self._waits.get(batch_id, 0.0):
            return 0
        self._waits.pop(batch_id, None)
        moved, until = 0, time.monotonic() + TURN_SECONDS
        try:
            while not self._end.is_set():
                step = self._step(batch_id)
                moved += step
                if not step or time.monotonic() > until:
                    return moved
        except Exception as error:
            self._drop(batch_id)
            self._waits[batch_id] = time.monotonic() + 10
            log.warning("a batch waits", exc_info=True, extra={"batch_id": batch_id, "retry_seconds": 10})
            if isinstance(error, OSError) and error.strerror:
                self._say(batch_id, f"the worker's folder DATA_DIR/batches: {error.strerror.lower()}")
        return moved

    def _say(self, batch_id: UUID, reason: str | None) -> None:
        with self._database.session_scope() as session:
            session.execute(
                update(Batch)
                .where(Batch.id == batch_id, Batch.state == BatchState.RUNNING, ~Batch.exhausted)
                .values(reason=reason)
                .execution_options(synchronize_session=False)
            )

    def _step(self, batch_id: UUID) -> int:
        """Takes over what ended, and submits what there is room for. How many entries that moved."""
        with self._database.session_scope() as session:
            batch = batch_runs.get_batch(session, batch_id, lock=True)
            moved = batch_runs.settle(session, batch)
            if batch.state != BatchState.RUNNING:
                return moved
            now = session.scalars(select(func.now())).one()
            room = self._room(session, batch, now)
            again = self._again(session, batch, min(room, MAX_PART), now)
            moved, room = moved + again, room - again
            if batch.exhausted:
                self._drop(batch_id)
                _end_if_through(session, batch)
                return moved
        if room <= 0:
            return moved
        # Read before the transaction begins: what the input says never changes, only where the reading goes on.
        part = self._part(batch, min(room, MAX_PART))
        with self._database.session_scope() as session:
            batch = batch_runs.get_batch(session, batch_id, lock=True)
            if batch.state != BatchState.RUNNING or batch.position != part.begin or batch.exhausted:
                self._drop(batch_id)
                return moved
            _store(session, batch, part, now)
        return moved + max(len(part.entries), 1)

    def _room(self, session: Session, batch: Batch, now: datetime) -> int:
        """How many entries may be submitted now, by the window and by the rate; opens and closes the batch by it."""
        limit = rate_of(batch.rate).at(now)
        batch_runs.set_closed(session, batch, limit == 0)
        waiting = select(func.count()).where(BatchItem.batch_id == batch.id, BatchItem.state == ItemState.OPEN)
        room = self._plan.window - (session.scalar(waiting) or 0)
        if limit is not None:
            return min(room, _allowance(batch, limit, now))
        # Few at a time would cost a transaction each.
        return room if room >= self._plan.window / 4 else 0

    def _again(self, session: Session, batch: Batch, room: int, now: datetime) -> int:
        """Of what is to be tried again, the first."""
        if room <= 0:
            return 0
        wanted = select(BatchItem).where(BatchItem.batch_id == batch.id, BatchItem.state == ItemState.RETRY)
        found = session.scalars(wanted.order_by(BatchItem.position).limit(room)).all()
        for item in found:
            assert item.note_id is not None
            item.job_id = jobs.resubmit(session, item.note_id, batch.id, jobs.BATCH).job_id
            item.state = ItemState.OPEN
        _spend(batch, len(found), now)
        session.flush()
        return len(found)

    def _part(self, batch: Batch, count: int) -> "_Part":
        """The next entries of the input, or why it cannot be read any further."""
        opened = self._opened.get(batch.id)
        if opened is not None and opened.position != batch.position:
            self._drop(batch.id)
            opened = None
        entries: list[Entry] = []
        fault, total = None, batch.total
        try:
            if opened is None:
                source = open_input(
                    BatchFormat(batch.format),
                    stored_input(self._database, batch.id, batch.bytes),
                    defaults=batch.defaults,
                    work=self._plan.work / str(batch.id),
                    max_bytes=self._plan.max_bytes,
                    position=batch.position,
                    line=batch.line,
                )
                opened = self._opened[batch.id] = _Opened(source, batch.position)
            total = opened.source.total or total
            for entry in islice(opened.source, count):
                entries.append(entry)
        except HyojunError as error:
            fault = str(error)
        if opened is not None and entries:
            opened.position = entries[-1].position
        ended = fault is None and len(entries) < count
        return _Part(batch.position, entries, ended, fault, total)

    def _drop(self, batch_id: UUID) -> None:
        opened = self._opened.pop(batch_id, None)
        if opened is not None:
            opened.source.close()


def _end_if_through(session: Session, batch: Batch) -> None:
    left = select(BatchItem.position).where(
        BatchItem.batch_id == batch.id, BatchItem.state.in_([ItemState.OPEN, ItemState.RETRY])
    )
    if session.scalar(left.limit(1)) is None:
        batch_runs.end(session, batch, BatchState.FAILED if batch.reason else BatchState.DONE)
        log.info("batch ended", extra={"batch_id": batch.id, "state": batch.state})


@dataclass
class _Opened:
    """An input that is being read; `position`: where its next entry begins."""

    source: Input
    position: int


@dataclass(frozen=True)
class _Part:
    """Entries of an input from `begin` on. `ended`: there are no more; `fault`: why no more can be read."""

    begin: int
    entries: list[Entry]
    ended: bool
    fault: str | None
    total: int | None


def _store(session: Session, batch: Batch, part: _Part, now: datetime) -> None:
    """The part's notes, jobs and items, and the batch's counters and place."""
    values = [_values(entry, batch.source) for entry in part.entries]
    sendable = [one for one in values if isinstance(one, dict)]
    contents = _contents(session, batch.source, sendable)
    sent = iter(jobs.submit_many(session, sendable, batch.id) if sendable else [])
    seen: set[UUID] = set()
    rows, counts = [], dict.fromkeys(Intake, 0)
    for number, (entry, one) in enumerate(zip(part.entries, values, strict=True), batch.items + 1):
        row: dict[str, Any] = {"batch_id": batch.id, "position": number, "place": entry.place, "note_id": None,
                               "job_id": None, "external_id": entry.note.id if entry.note else None}  # fmt: skip
        if isinstance(one, str):
            intake = Intake.REFUSED
            row |= {"state": ItemState.REFUSED, "error": one, "ended_at": now}
        else:
            submission = next(sent)
            others = contents.setdefault(one["external_id"], set())
            fresh = submission.created and submission.note_id not in seen
            intake = Intake.KNOWN if not fresh else Intake.CORRECTED if others else Intake.NEW
            others.add(one["content_sha256"])
            seen.add(submission.note_id)
            row |= {"note_id": submission.note_id, "job_id": submission.job_id, "state": ItemState.OPEN,
                    "error": None, "ended_at": None}  # fmt: skip
        counts[intake] += 1
        rows.append(row | {"intake": intake})
    if rows:
        session.execute(insert(BatchItem), rows)
        batch.position, batch.line = part.entries[-1].position, part.entries[-1].line
    batch.items += len(rows)
    batch.added += counts[Intake.NEW]
    batch.corrected += counts[Intake.CORRECTED]
    batch.known += counts[Intake.KNOWN]
    batch.refused += counts[Intake.REFUSED]
    batch.total, batch.reason = part.total, part.fault
    _spend(batch, counts[Intake.NEW] + counts[Intake.CORRECTED], now)
    if part.ended or part.fault is not None:
        batch.exhausted = True
        session.execute(delete(BatchChunk).where(BatchChunk.batch_id == batch.id))
    session.flush()


def _values(entry: Entry, source: str) -> dict[str, Any] | str:
    """The columns of the entry's note, or why it is refused."""
    if entry.note is None:
        return entry.error or "cannot be read"
    try:
        return note_values(entry.note, source)
    except HyojunError as error:
        return str(error)


def _contents(session: Session, source: str, rows: list[dict[str, Any]]) -> dict[str, set[str]]:
    """What the source sent before under the ids of `rows`: fingerprints by id."""
    found: dict[str, set[str]] = {}
    ids = {row["external_id"] for row in rows}
    query = select(Note.external_id, Note.content_sha256).where(Note.source == source, Note.external_id.in_(ids))
    for external_id, sha256 in session.execute(query) if ids else ():
        found.setdefault(external_id, set()).add(sha256)
    return found


# --- the rate ---------------------------------------------------------------------------------------------------------


def _allowance(batch: Batch, limit: int, now: datetime) -> int:
    """Notes that may be queued now at `limit` an hour."""
    if limit == 0:
        return 0
    late = (now - _begin(batch, now)).total_seconds()
    return int(late * limit / 3600) + 1 if late >= 0 else 0


def _spend(batch: Batch, notes: int, now: datetime) -> None:
    limit = rate_of(batch.rate).at(now)
    if limit and notes:
        batch.next_at = _begin(batch, now) + timedelta(hours=notes / limit)


def _begin(batch: Batch, now: datetime) -> datetime:
    return max(batch.next_at or now, now - timedelta(seconds=BURST_SECONDS))
