"""The Celery app, its one task, and the dispatcher that runs beside it in every worker.

Run it with `python -m app.worker` (settings from the environment). Celery carries ids only; what is done, by whom and
how often is decided in Postgres (`app.jobs`), so any Celery broker will do. A task is one look at the queue, and works as
many jobs at the same time as the model reads at once (`app.running`).
"""

import logging
import mmap
import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from celery import Celery
from celery.signals import (
    setup_logging,
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
    worker_shutdown,
    worker_shutting_down,
)
from kombu import Exchange, Queue
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from app import running
from app.conversions import Conversion
from app.db import Database, libpq_url
from app.dispatch import Dispatcher
from app.errors import HyojunError
from app.heartbeat import Counted, Load, WorkerHeartbeat
from app.jobs import Convert, Policy
from app.log import configure, describe
from app.outgoing import Secrets
from app.pusher import Sender
from app.receipt_work import CheckReceipt, ReceiptWork, checking
from app.settings import Settings
from app.store import index
from schemas.note import ChartNote

if TYPE_CHECKING:  # importing the first loads the model's libraries
    from app.batch_feed import Feeder
    from app.completions import Models

log = logging.getLogger(__name__)

QUEUE = "hyojun_convert"
TASK = "hyojun.convert_note"
INDEX_PAUSE_SECONDS = 10.0
"""Between two tries to index what a former version stored."""


@dataclass(frozen=True)
class Loaded:
    """A converter that is ready. `convert` and `check` may be called by `slots` threads at the same time; `load` tells how
    busy its model is, where that is known. `check`: None: claims of claim files are not checked here."""

    convert: Convert
    slots: int = 1
    load: Callable[[], Load] = Load
    check: CheckReceipt | None = None


LoadConverter = Callable[[Settings, Database], Loaded]
"""Makes the function that converts notes; called when a pool process starts, since it may load a model."""


def create_worker(settings: Settings, load_converter: LoadConverter | None = None) -> Celery:
    """The configured Celery app: to run a worker (`run_worker`), or to publish from another process (`publisher`).

    Raises: InvalidInput without a DATABASE_URL.
    """
    database = Database(settings.require_database_url())
    celery = Celery("hyojun", broker=_broker_url(settings), set_as_current=False)
    celery.conf.update(_configuration(settings))
    host, policy = socket.gethostname(), queue_policy(settings)
    once = _OnceAProcess(lambda: (load_converter or _load_pipeline)(settings, database))
    counted = Counted()
    # One byte that the pool processes share with this one: nothing else tells them of a warm shutdown.
    stop = mmap.mmap(-1, 1)

    @celery.task(name=TASK, ignore_result=True)
    def convert_note(job_id: str) -> None:
        worker = f"{host}:{os.getpid()}"
        try:
            loaded = once.get()
        except Exception as error:  # noqa: BLE001  # whatever it is, the job fails with it
            # The job's reason says so. This job alone: with more, a missing file would fail the whole queue.
            refuse, refuse_claim = _refusing(error)
            running.run(database, UUID(job_id), refuse, worker=worker, policy=policy, check=refuse_claim)
            return
        running.work(
            database, UUID(job_id), counted.of(loaded.convert), worker=worker, policy=policy, slots=loaded.slots,
            stopping=lambda: stop[0] != 0, check=counted.of(loaded.check) if loaded.check else None,
        )  # fmt: skip

    dispatcher = Dispatcher(database, publisher(celery), policy)
    sender = Sender(database, Secrets(settings.secrets_dir), settings.push_policy)

    # weak=False: nothing else holds these functions. The signals are the process's own, and a process has one worker.
    @worker_process_init.connect(weak=False)
    def load(**_: Any) -> None:
        once.begin()
        heartbeat = WorkerHeartbeat(database, f"{host}:{os.getpid()}", lambda: _load(once.find(), counted))
        heartbeat.start()
        worker_process_shutdown.connect(lambda **_: heartbeat.stop(), weak=False)

    @worker_shutting_down.connect(weak=False)
    def ask_to_stop(**_: Any) -> None:
        stop[0] = 1

    feeders: list[Feeder] = []

    @worker_ready.connect(weak=False)
    def begin(**_: Any) -> None:
        dispatcher.start()
        threading.Thread(target=_index, args=[database, lambda: stop[0] != 0], name="index", daemon=True).start()
        if settings.push_enabled:
            sender.start()
        feeders.append(_feeder(settings, database))
        feeders[0].start()

    @worker_shutdown.connect(weak=False)
    def end(**_: Any) -> None:
        for feeder in feeders:
            feeder.stop()
        dispatcher.stop()
        sender.stop()

    return celery


def _index(database: Database, stopping: Callable[[], bool]) -> None:
    """What a former version stored becomes known to searches; what is stored now is from the beginning."""
    while not stopping():
        try:
            if index.catch_up(database, stopping=stopping):
                return
        except SQLAlchemyError as error:
            log.error("stored resources are not indexed yet: %s", describe(error))
        time.sleep(INDEX_PAUSE_SECONDS)  # another worker is at it, or the database is away


def run_worker(celery: Celery, settings: Settings) -> None:
    """Works in this process until SIGTERM; then ends running jobs first, and takes no others."""

    @setup_logging.connect(weak=False)
    def use_ours(**_: Any) -> None:
        configure(settings.log_level)

    # Gossip and mingle would make a queue per worker, which pgmq keeps for ever.
    celery.worker_main([
        "--quiet", "worker", "--pool=prefork", f"--concurrency={settings.worker_processes}",
        f"--loglevel={settings.log_level}",
        "--without-gossip", "--without-mingle", "--without-heartbeat",
    ])  # fmt: skip


def publisher(celery: Celery) -> Callable[[UUID], None]:
    """Sends one job's id to the workers; declares the queue when it is not there yet.

    The function raises kombu's OperationalError when the broker is away.
    """

    def publish(job_id: UUID) -> None:
        celery.send_task(TASK, args=[str(job_id)], queue=QUEUE, retry=False, ignore_result=True)

    return publish


def queue_policy(settings: Settings) -> Policy:
    return Policy(
        lease_seconds=settings.job_lease_seconds,
        max_attempts=settings.job_max_attempts,
        redispatch_seconds=settings.job_redispatch_seconds,
        window=settings.dispatch_window,
        interval_seconds=settings.dispatch_interval_seconds,
        batch_seconds=settings.job_batch_seconds,
        release=settings.release_without_review,
        second_reader_share=settings.review_second_reader_share,
    )


def _feeder(settings: Settings, database: Database) -> "Feeder":
    # Imported here: a process that only publishes does not read batches.
    from app.batch_feed import Feeder, Plan

    plan = Plan(settings.batch_window_notes, settings.batch_max_bytes, settings.data_dir / "batches")
    return Feeder(database, plan)


def _broker_url(settings: Settings) -> str:
    if settings.broker_url is not None:
        return settings.broker_url
    return (
        make_url(settings.require_database_url()).set(drivername="pgmq", query={}).render_as_string(hide_password=False)
    )


def _configuration(settings: Settings) -> dict[str, Any]:
    scheme = _broker_url(settings).split(":", 1)[0]
    arguments: dict[str, Any] = {}
    options: dict[str, Any] = {}
    if scheme in {"amqp", "amqps", "pyamqp"}:
        arguments = {"x-queue-type": "quorum"}  # survives the loss of a node; also redelivers fastest
        options = {"confirm_publish": True}
    else:
        options = {"visibility_timeout": settings.broker_visibility_seconds}
    if scheme == "pgmq":
        # init_extension=False: the schema comes with our migrations and needs no server extension. NOTIFY wakes an idle
        # worker, so the long poll is off. It does not wake one whose job just ended while others wait: with a prefetch
        # of one, half the polling interval is lost between two jobs.
        options |= {
            "init_extension": False,
            "use_notify": True,
            "wait_time_seconds": 0,
            "polling_interval": 0.1,
            "pool_timeout": 10,
        }
        if settings.broker_url is None:
            options["conn_string"] = libpq_url(settings.require_database_url())  # keeps sslmode and the like
    return {
        "task_queues": [Queue(QUEUE, Exchange(QUEUE, type="direct"), routing_key=QUEUE, queue_arguments=arguments)],
        "task_default_queue": QUEUE,
        "task_default_exchange": QUEUE,
        "task_default_routing_key": QUEUE,
        "task_create_missing_queues": False,
        "broker_transport_options": options,
        "broker_connection_retry_on_startup": True,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        # A killed pool process has no result to wait for (default 10 s): results are in Postgres or nowhere.
        "worker_lost_wait": 1.0,
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        "task_ignore_result": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "timezone": "UTC",
        "enable_utc": True,
    }


class _OnceAProcess:
    """What `load` makes, once in each process; a load that failed is tried again by the next `get`."""

    def __init__(self, load: Callable[[], Loaded]) -> None:
        self._load = load
        self._pid, self._future = 0, Future[Loaded]()

    def begin(self) -> None:
        """Starts to load in a thread of its own: a pool process must tell that it is up within seconds. Does nothing
        where that was done, in this process."""
        if self._pid == os.getpid() and not (self._future.done() and self._future.exception()):
            return
        self._pid, self._future = os.getpid(), Future[Loaded]()
        threading.Thread(target=self._fill, args=[self._future], name="load", daemon=True).start()

    def _fill(self, future: Future[Loaded]) -> None:
        try:
            future.set_result(self._load())
        except BaseException as error:  # whoever waits is to have it
            log.error("the converter cannot be loaded", exc_info=error)
            future.set_exception(error)

    def find(self) -> Loaded | None:
        """What was loaded; None before the end of the load, and where it failed."""
        ready = self._pid == os.getpid() and self._future.done() and not self._future.exception()
        return self._future.result() if ready else None

    def get(self) -> Loaded:
        """Waits for the end of the load. Raises what it raised."""
        self.begin()
        return self._future.result()


def _load(loaded: Loaded | None, counted: Counted) -> Load:
    return Load() if loaded is None else replace(loaded.load(), slots=loaded.slots, busy=counted.running)


def _refusing(error: Exception) -> tuple[Convert, CheckReceipt]:
    def refuse(note: ChartNote, *, source: str) -> Conversion:
        raise error

    def refuse_claim(claim_id: UUID) -> ReceiptWork:
        raise error

    return refuse, refuse_claim


def _load_pipeline(settings: Settings, database: Database) -> Loaded:
    # Imported here: a process that only publishes must not load the model's libraries.
    from app.pipeline import Converter
    from app.receipt_pipeline import ReceiptChecker
    from app.terminology.importers import keep_version, lexicon_from, renewed

    with database.session_scope() as session:
        lexicon = lexicon_from(session)
        keep_version(session, lexicon)
    converter = Converter.load(settings, lexicon)
    if converter.models is not None:
        _serve(converter.models, settings)
    try:
        checker = ReceiptChecker.load(settings) if converter.models is None else ReceiptChecker.of(converter.models)
        check = checking(database, checker.check)
    except HyojunError as error:  # notes can be read all the same
        log.error("claims are not checked: %s", describe(error))
        check = _refusing(error)[1]
    renewing = threading.Lock()

    def convert(note: ChartNote, *, source: str) -> Conversion:
        # The lock: of the threads that see a new release, one reads it.
        with renewing, database.session_scope() as session:
            # A release that was imported or taken back since, and local codes that were edited.
            lexicon = renewed(session, converter.lexicon)
            if lexicon is not converter.lexicon:
                keep_version(session, lexicon)
                converter.lexicon = lexicon
                log.info("terminology loaded anew", extra={"version": converter.lexicon.version})
        return converter.convert(note, source=source)

    def load() -> Load:
        engines = converter.models.metrics().values() if converter.models is not None else ()
        return Load(
            model=converter.fingerprints["model"],
            waiting=sum(engine.waiting for engine in engines),
            prompt_tokens=sum(engine.prompt_tokens + engine.reused_tokens for engine in engines),
            output_tokens=sum(engine.sampled_tokens + engine.forced_tokens for engine in engines),
            slot_steps=sum(engine.slot_steps * engine.lanes for engine in engines),
            step_slots=sum(engine.steps * engine.slots for engine in engines),
        )

    return Loaded(convert, converter.slots, load, check)


def _serve(models: "Models", settings: Settings) -> None:
    """Other processes may use the model too; that they cannot is no reason not to read notes."""
    from app.model_server import serve_model

    try:
        server = serve_model(models, settings.socket_file, max_seconds=settings.completion_max_seconds)
    except (HyojunError, OSError) as error:
        log.error("the model is not served to other processes: %s", describe(error))
        return

    @worker_process_shutdown.connect(weak=False)
    def end(**_: Any) -> None:
        server.close()


if __name__ == "__main__":
    chosen = Settings()
    configure(chosen.log_level)
    run_worker(create_worker(chosen), chosen)
