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
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
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

from app import running
from app.db import Database, libpq_url
from app.dispatch import Dispatcher
from app.errors import HyojunError
from app.jobs import Conversion, Convert, Policy
from app.log import configure, describe
from app.settings import Settings
from schemas.note import ChartNote

if TYPE_CHECKING:  # importing it loads the model's libraries
    from app.completions import Models

log = logging.getLogger(__name__)

QUEUE = "hyojun_convert"
TASK = "hyojun.convert_note"


@dataclass(frozen=True)
class Loaded:
    """A converter that is ready. `convert` may be called by `slots` threads at the same time."""

    convert: Convert
    slots: int = 1


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
    # One byte that the pool processes share with this one: nothing else tells them of a warm shutdown.
    stop = mmap.mmap(-1, 1)

    @celery.task(name=TASK, ignore_result=True)
    def convert_note(job_id: str) -> None:
        worker = f"{host}:{os.getpid()}"
        try:
            loaded = once.get()
        except Exception as error:  # noqa: BLE001  # whatever it is, the job fails with it
            # The job's reason says so. This job alone: with more, a missing file would fail the whole queue.
            running.run(database, UUID(job_id), _refusing(error), worker=worker, policy=policy)
            return
        running.work(
            database, UUID(job_id), loaded.convert, worker=worker, policy=policy, slots=loaded.slots,
            stopping=lambda: stop[0] != 0,
        )  # fmt: skip

    dispatcher = Dispatcher(database, publisher(celery), policy)

    # weak=False: nothing else holds these functions. The signals are the process's own, and a process has one worker.
    @worker_process_init.connect(weak=False)
    def load(**_: Any) -> None:
        once.begin()

    @worker_shutting_down.connect(weak=False)
    def ask_to_stop(**_: Any) -> None:
        stop[0] = 1

    @worker_ready.connect(weak=False)
    def begin(**_: Any) -> None:
        dispatcher.start()

    @worker_shutdown.connect(weak=False)
    def end(**_: Any) -> None:
        dispatcher.stop()

    return celery


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
    )


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

    def get(self) -> Loaded:
        """Waits for the end of the load. Raises what it raised."""
        self.begin()
        return self._future.result()


def _refusing(error: Exception) -> Convert:
    def refuse(note: ChartNote, *, source: str) -> Conversion:
        raise error

    return refuse


def _load_pipeline(settings: Settings, database: Database) -> Loaded:
    # Imported here: a process that only publishes must not load the model's libraries.
    from app.pipeline import Converter
    from app.terminology.importers import lexicon_from, renewed

    with database.session_scope() as session:
        lexicon = lexicon_from(session)
    converter = Converter.load(settings, lexicon)
    if converter.models is not None:
        _serve(converter.models, settings)
    renewing = threading.Lock()

    def convert(note: ChartNote, *, source: str) -> Conversion:
        # The lock: of the threads that see a new release, one reads it.
        with renewing, database.session_scope() as session:
            # A release that was imported or taken back since, and local codes that were edited.
            lexicon = renewed(session, converter.lexicon)
            if lexicon is not converter.lexicon:
                converter.lexicon = lexicon
                log.info("terminology loaded anew", extra={"version": converter.lexicon.version})
        return converter.convert(note, source=source)

    return Loaded(convert, converter.slots)


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
