"""A worker tells that it lives, and how busy its model is: a row of its own in `workers`, renewed every few seconds."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from sqlalchemy import delete, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app import __version__
from app.db import Database
from models import Worker

log = logging.getLogger(__name__)

BEAT_SECONDS = 10.0
LOADING_SECONDS = 1.0
"""Between beats of a worker whose model is being loaded: that it is ready is told soon."""
LIVE_SECONDS = 35
"""A worker that told nothing for so long is taken for dead: it missed three beats."""
FORGET_SECONDS = 86_400
"""Rows of workers that were killed go after a day."""


@dataclass(frozen=True)
class Load:
    """What a worker tells: see `models.Worker`. `slots` None: the model is being loaded."""

    slots: int | None = None
    model: str | None = None
    busy: int = 0
    waiting: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    slot_steps: int = 0
    step_slots: int = 0


P = ParamSpec("P")
T = TypeVar("T")


class Counted:
    """How many of the functions that went through `of` run now."""

    def __init__(self) -> None:
        self.running = 0
        self._lock = threading.Lock()

    def of(self, function: Callable[P, T]) -> Callable[P, T]:
        def counted(*args: P.args, **kwargs: P.kwargs) -> T:
            self._count(1)
            try:
                return function(*args, **kwargs)
            finally:
                self._count(-1)

        return counted

    def _count(self, change: int) -> None:
        with self._lock:
            self.running += change


class WorkerHeartbeat:
    """A thread that tells of `worker` until `stop`; a beat that fails is left out. `load` is asked before each."""

    def __init__(self, database: Database, worker: str, load: Callable[[], Load]) -> None:
        self._database, self._worker, self._load = database, worker, load
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="worker-heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """The worker ends in order: its row goes with it."""
        self._end.set()
        self._thread.join(timeout=5)
        try:
            with self._database.session_scope() as session:
                session.execute(delete(Worker).where(Worker.id == self._worker))
        except SQLAlchemyError:
            log.warning("a worker that ended stays listed for a while", extra={"worker": self._worker})

    def _run(self) -> None:
        while True:
            load = self._load()
            try:
                with self._database.session_scope() as session:
                    beat(session, self._worker, load)
            except SQLAlchemyError:
                log.warning("worker heartbeat missed", extra={"worker": self._worker})
            if self._end.wait(LOADING_SECONDS if load.slots is None else BEAT_SECONDS):
                return


def beat(session: Session, worker: str, load: Load) -> None:
    """One beat of `worker`, and an end to rows of those that told nothing for a day."""
    row = {"version": __version__, **vars(load)}
    renewed = {**row, "seen_at": func.now()}
    session.execute(insert(Worker).values(id=worker, **row).on_conflict_do_update(index_elements=["id"], set_=renewed))
    old = func.now() - text(f"interval '{FORGET_SECONDS} seconds'")
    session.execute(delete(Worker).where(Worker.seen_at < old).execution_options(synchronize_session=False))


def live_workers(session: Session) -> tuple[int, int]:
    """How many workers live and can read notes, and how many live and load their model."""
    since = func.now() - text(f"interval '{LIVE_SECONDS} seconds'")
    row = session.execute(
        select(func.count(Worker.slots), func.count() - func.count(Worker.slots)).where(Worker.seen_at > since)
    ).one()
    return int(row[0]), int(row[1])
