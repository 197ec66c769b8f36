"""The Celery app, its one task, and the dispatcher that runs beside it in every worker.

Run it with `python -m app.worker` (settings from the environment). Celery carries ids only; what is done, by whom and
how often is decided in Postgres (`app.jobs`), so any Celery broker will do.
"""

import logging
import os
import socket
from collections.abc import Callable
from typing import Any
from uuid import UUID

from celery import Celery
from celery.signals import setup_logging, worker_ready, worker_shutdown
from kombu import Exchange, Queue
from sqlalchemy import make_url

from app import jobs
from app.db import Database, libpq_url
from app.dispatch import Dispatcher
from app.jobs import Conversion, Convert, Policy
from app.log import configure
from app.settings import Settings
from schemas.note import ChartNote

log = logging.getLogger(__name__)

QUEUE = "hyojun_convert"
TASK = "hyojun.convert_note"

LoadConverter = Callable[[Settings, Database], Convert]
"""Makes the function that converts notes; called at the first task of each process, since it may load a model."""


def create_worker(settings: Settings, load_converter: LoadConverter | None = None) -> Celery:
    """The configured Celery app: to run a worker (`run_worker`), or to publish from another process (`publisher`).

    Raises: InvalidInput without a DATABASE_URL.
    """
    database = Database(settings.require_database_url())
    celery = Celery("hyojun", broker=_broker_url(settings), set_as_current=False)
    celery.conf.update(_configuration(settings))
    host, policy = socket.gethostname(), queue_policy(settings)
    loaded: dict[int, Convert] = {}

    def convert(note: ChartNote, *, source: str) -> Conversion:
        if os.getpid() not in loaded:
            loaded[os.getpid()] = (load_converter or _load_pipeline)(settings, database)
        return loaded[os.getpid()](note, source=source)

    @celery.task(name=TASK, ignore_result=True)
    def convert_note(job_id: str) -> None:
        jobs.run(database, UUID(job_id), convert, worker=f"{host}:{os.getpid()}", policy=policy)

    dispatcher = Dispatcher(database, publisher(celery), policy)

    # weak=False: nothing else holds these functions. The signals are the process's own, and a process has one worker.
    @worker_ready.connect(weak=False)
    def begin(**_: Any) -> None:
        dispatcher.start()

    @worker_shutdown.connect(weak=False)
    def end(**_: Any) -> None:
        dispatcher.stop()

    return celery


def run_worker(celery: Celery, settings: Settings) -> None:
    """Works in this process until SIGTERM; then ends running jobs first."""

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


def _load_pipeline(settings: Settings, database: Database) -> Convert:
    # Imported here: a process that only publishes must not load the model's libraries.
    from app.pipeline import Converter
    from app.terminology.importers import lexicon_from, renewed

    with database.session_scope() as session:
        lexicon = lexicon_from(session)
    converter = Converter.load(settings, lexicon)

    def convert(note: ChartNote, *, source: str) -> Conversion:
        with database.session_scope() as session:
            # A release that was imported or taken back since, and local codes that were edited.
            lexicon = renewed(session, converter.lexicon)
            if lexicon is not converter.lexicon:
                converter.lexicon = lexicon
                log.info("terminology loaded anew", extra={"version": converter.lexicon.version})
        return converter.convert(note, source=source)

    return convert


if __name__ == "__main__":
    chosen = Settings()
    configure(chosen.log_level)
    run_worker(create_worker(chosen), chosen)
