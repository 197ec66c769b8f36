"""Figures for Prometheus: of the database, asked at most every few seconds, and of the requests of this process.

What is counted comes from indexed columns, from windows of minutes and from estimates of the server, never from a walk over
all notes. No label holds anything but words of closed lists and paths as they are declared.
"""

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app import __version__
from app.db import Database
from app.heartbeat import LIVE_SECONDS

log = logging.getLogger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STATEMENT_SECONDS = 5
"""Longest query: a scrape must not add to the trouble of a database that is in trouble."""
DRIFT_RUNS = 200
"""The newest conversions, from which the shares of what was not coded, held and doubted are taken."""

# Milliseconds to minutes: a search, and a completion.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Requests:
    """What this process answered."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._seconds = Histogram(
            "hyojun_request_seconds", "Time until a request was answered to its end, by route as declared.",
            ["method", "route", "status"], buckets=_BUCKETS, registry=self.registry,
        )  # fmt: skip

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        self._seconds.labels(method, route, str(status)).observe(seconds)


@dataclass(frozen=True)
class _Family:
    name: str
    help: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Query:
    """`sql` gives rows of (family, label values or empty, value). `seconds`: for so long its answer is good enough."""

    seconds: float
    families: tuple[_Family, ...]
    sql: str


_QUEUE = _Query(
    5,
    (
        _Family("hyojun_jobs", "Jobs that wait or are worked on.", ("state",)),
        _Family("hyojun_queue_age_seconds", "How long the oldest waiting job waits.", ("priority",)),
        _Family("hyojun_jobs_ended_5m", "Jobs that ended in the last five minutes.", ("state",)),
        _Family("hyojun_notes_received_5m", "Notes that came in in the last five minutes."),
        _Family("hyojun_tokens_5m", "Tokens of the conversions of the last five minutes.", ("kind",)),
        _Family("hyojun_generation_seconds_5m", "Seconds of the model for them, those side by side added up."),
        _Family("hyojun_batches", "Batches that are open, by their state.", ("state",)),
        _Family("hyojun_outbox", "Deliveries that wait, and that were given up.", ("state",)),
        _Family("hyojun_outbox_age_seconds", "How long the oldest waiting delivery waits."),
        _Family("hyojun_workers", "Workers that live: reading notes, or still loading their model.", ("state",)),
        _Family("hyojun_worker_slots", "Notes that the live workers can read at the same time, and do.", ("state",)),
        _Family("hyojun_worker_occupancy", "Share of the slots that took part in the model's steps, 0 to 1."),
        _Family("hyojun_backup_age_seconds", "Time since the last backup that ended well; absent: there was none."),
        _Family("hyojun_audit_last_id", "Number of the newest audit event."),
    ),
    f"""
    SELECT 'hyojun_jobs', state, n FROM (SELECT state, count(*) AS n FROM jobs WHERE state = 'queued' GROUP BY state
        UNION ALL SELECT state, count(*) FROM jobs WHERE state = 'running' GROUP BY state) AS open
    UNION ALL
    SELECT 'hyojun_queue_age_seconds', label, extract(epoch FROM now() - (
        SELECT min(queued_at) FROM jobs WHERE state = 'queued' AND priority = wanted))
    FROM (VALUES (0, 'interactive'), (10, 'batch')) AS priorities (wanted, label)
    UNION ALL
    SELECT 'hyojun_jobs_ended_5m', state, count(*) FROM jobs WHERE finished_at > now() - interval '5 minutes' GROUP BY state
    UNION ALL
    SELECT 'hyojun_notes_received_5m', '', count(*) FROM notes WHERE received_at > now() - interval '5 minutes'
    UNION ALL
    SELECT family, label, value FROM (
        SELECT coalesce(sum(prompt_tokens), 0) AS prompt, coalesce(sum(output_tokens), 0) AS output,
            coalesce(sum(duration_ms), 0) / 1000.0 AS seconds
        FROM runs WHERE created_at > now() - interval '5 minutes') AS recent,
        LATERAL (VALUES ('hyojun_tokens_5m', 'prompt', prompt), ('hyojun_tokens_5m', 'output', output),
            ('hyojun_generation_seconds_5m', '', seconds)) AS figures (family, label, value)
    UNION ALL
    SELECT 'hyojun_batches', state, count(*) FROM batches WHERE state IN ('receiving', 'running', 'paused') GROUP BY state
    UNION ALL
    SELECT 'hyojun_outbox', 'waiting', count(*) FROM deliveries WHERE state = 'waiting'
    UNION ALL
    SELECT 'hyojun_outbox', 'dead', count(*) FROM deliveries WHERE state = 'dead'
    UNION ALL
    SELECT 'hyojun_outbox_age_seconds', '', extract(epoch FROM now() - min(queued_at)) FROM deliveries WHERE state = 'waiting'
    UNION ALL
    SELECT family, label, value FROM (
        SELECT count(*) FILTER (WHERE slots IS NOT NULL) AS ready, count(*) FILTER (WHERE slots IS NULL) AS loading,
            coalesce(sum(slots), 0) AS slots, coalesce(sum(busy), 0) AS busy,
            sum(slot_steps)::float8 / nullif(sum(step_slots), 0) AS occupancy
        FROM workers WHERE seen_at > now() - interval '{LIVE_SECONDS} seconds') AS live,
        LATERAL (VALUES ('hyojun_workers', 'ready', ready), ('hyojun_workers', 'loading', loading),
            ('hyojun_worker_slots', 'all', slots), ('hyojun_worker_slots', 'busy', busy),
            ('hyojun_worker_occupancy', '', occupancy)) AS figures (family, label, value)
    UNION ALL
    SELECT 'hyojun_backup_age_seconds', '', extract(epoch FROM now() - max(recorded_at))
    FROM (SELECT recorded_at FROM audit_events WHERE action = 'backup' AND outcome = 'success' ORDER BY id DESC LIMIT 1) AS newest
    UNION ALL
    SELECT 'hyojun_audit_last_id', '', max(id) FROM audit_events
    """,  # noqa: S608
)
_DRIFT = _Query(
    60,
    (
        _Family("hyojun_drift_runs", f"Conversions that the shares below are of: the newest, at most {DRIFT_RUNS}."),
        _Family("hyojun_drift_statements", "Their statements.", ("kind",)),
        _Family("hyojun_drift_uncoded_ratio", "Share of them that no table has a code for.", ("kind",)),
        _Family("hyojun_drift_held_ratio", "Share of them held for a person as unlikely.", ("kind",)),
        _Family("hyojun_drift_probability_mean", "Mean probability that they are right.", ("kind",)),
        _Family("hyojun_drift_issues_per_run", "Issues of a conversion.", ("severity",)),
        _Family("hyojun_table_rows", "Rows, as the server estimates them.", ("table",)),
        _Family("hyojun_database_bytes", "Size of the database."),
    ),
    f"""
    WITH newest AS MATERIALIZED (SELECT id, job_id FROM runs ORDER BY created_at DESC LIMIT {DRIFT_RUNS}),
    said AS (
        SELECT s.kind, count(*) AS n, avg((s.record ->> 'probability')::float8) AS probability,
            avg((coalesce(jsonb_array_length(nullif(s.record -> 'codings', 'null')), 0) = 0)::int) AS uncoded,
            avg(coalesce((s.record ->> 'held')::bool, false)::int) AS held
        FROM newest JOIN statements s ON s.run_id = newest.id WHERE s.record IS NOT NULL GROUP BY s.kind)
    SELECT 'hyojun_drift_runs', '', (SELECT count(*) FROM newest)::float8
    UNION ALL
    SELECT family, kind, value::float8 FROM said, LATERAL (VALUES ('hyojun_drift_statements', n::numeric),
        ('hyojun_drift_uncoded_ratio', uncoded), ('hyojun_drift_held_ratio', held),
        ('hyojun_drift_probability_mean', probability::numeric)) AS figures (family, value)
    UNION ALL
    SELECT 'hyojun_drift_issues_per_run', severity, count(*)::float8 / nullif((SELECT count(*) FROM newest), 0)
    FROM issues WHERE job_id IN (SELECT job_id FROM newest) GROUP BY severity
    UNION ALL
    SELECT 'hyojun_table_rows', relname, greatest(reltuples, 0) FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname IN
        ('notes', 'jobs', 'runs', 'statements', 'resources', 'audit_events', 'deliveries', 'search_entries')
    UNION ALL
    SELECT 'hyojun_database_bytes', '', pg_database_size(current_database())
    """,  # noqa: S608
)


class _Asked:
    """One query and its last answer."""

    def __init__(self, query: _Query) -> None:
        self.query = query
        self.rows: list[tuple[str, str, float]] = []
        self.until = 0.0

    def families(self) -> Iterator[Metric]:
        for known in self.query.families:
            family = GaugeMetricFamily(known.name, known.help, labels=known.labels)
            for name, label, value in self.rows:
                if name == known.name:
                    family.add_metric([label] if known.labels else [], value)
            if family.samples:
                yield family


class DatabaseFigures(Collector):
    """The figures of the database; without it there is one: that it does not answer."""

    def __init__(self, database: Database, queries: Sequence[_Query] = (_QUEUE, _DRIFT)) -> None:
        self._database = database
        self._asked = [_Asked(query) for query in queries]
        self._lock = threading.Lock()

    def collect(self) -> Iterable[Metric]:
        info = GaugeMetricFamily("hyojun_info", "The version of this process.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        with self._lock:
            up = self._renew()
            yield GaugeMetricFamily("hyojun_database_up", "1: the database answers.", value=float(up))
            if up:
                for asked in self._asked:
                    yield from asked.families()

    def _renew(self) -> bool:
        due = [asked for asked in self._asked if asked.until <= time.monotonic()]
        if not due:
            return True
        try:
            with self._database.session_scope() as session:
                session.execute(text(f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'"))
                for asked in due:
                    found = session.execute(text(asked.query.sql)).all()
                    asked.rows = [(str(row[0]), str(row[1]), float(row[2])) for row in found if row[2] is not None]
                    asked.until = time.monotonic() + asked.query.seconds
        except SQLAlchemyError as error:
            log.warning("no figures from the database", exc_info=error)
            return False
        return True


def exposition(*sources: CollectorRegistry) -> bytes:
    """The figures in Prometheus' text format."""
    return b"".join(generate_latest(source) for source in sources)
