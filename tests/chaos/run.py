"""Jobs under fire: workers, dispatchers, broker and database are killed without warning, and every note has one result.

`make chaos` (ARGS="--jobs 2000 --kills 5 --brokers pgmq" for less). Everything is real but the model: the converter sleeps
some milliseconds and writes a small conversion. Exit status 1 when a job is lost or doubled.
"""

import argparse
import datetime
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from rabbitmq import RabbitMQ
from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from app import jobs
from app.db import Database, migrate
from app.embedded import embedded_postgres
from models import Job, NoteStatement, Resource, Run, Ssmix2Message
from schemas.note import ChartNote, DocumentType, Patient

HERE = Path(__file__).resolve().parent
PATH = os.pathsep.join(map(str, (HERE.parents[1], HERE.parent, HERE.parent / "integration")))

WORKERS = 2
PATIENTS = 500
"""Notes share patients, so that workers also meet over one resource."""


@dataclass
class Tally:
    """What was done to an installation, and what came out of it."""

    broker: str
    jobs: int
    kills: Counter[str] = field(default_factory=Counter)
    results: int = 0
    lost: int = 0
    doubled: int = 0
    restarted: int = 0
    seconds: float = 0.0


class Postgres:
    """The server behind `url`, which can be crashed and started again at the same address."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._server: subprocess.Popen[bytes] | None = None

    def crash_backend(self) -> None:
        """SIGKILL to one backend: the server drops everybody and recovers from its log."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            found = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
                " ORDER BY random() LIMIT 1"
            ).fetchone()
            own = connection.info.backend_pid
        os.kill(found[0] if found else own, signal.SIGKILL)
        self._wait()

    def crash(self) -> None:
        """SIGKILL to the whole server, as a power cut of this program, and another start on the same files and port."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            backend = connection.info.backend_pid
        postmaster = int(Path(f"/proc/{backend}/stat").read_text().rpartition(")")[2].split()[1])
        argv = Path(f"/proc/{postmaster}/cmdline").read_bytes().split(b"\0")[:-1]
        pairs = Path(f"/proc/{postmaster}/environ").read_bytes().split(b"\0")[:-1]
        environment = dict(pair.split(b"=", 1) for pair in pairs)
        directory = os.readlink(f"/proc/{postmaster}/cwd")
        owner = os.stat(f"/proc/{postmaster}")
        children = [int(p) for p in Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()]
        for pid in (postmaster, *children):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        identity: dict[str, Any] = {}
        if os.geteuid() == 0:
            identity = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
        for _ in range(20):
            time.sleep(0.5)
            self._server = subprocess.Popen(
                argv, env=environment, cwd=directory, start_new_session=True,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **identity,
            )  # fmt: skip
            time.sleep(0.5)
            if self._server.poll() is None:
                break
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                psycopg.connect(self.url, connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                time.sleep(0.1)
        raise RuntimeError("the database does not come back")

    def stop(self) -> None:
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)
            self._server.wait(60)


class Workers:
    """Worker processes that somebody starts again when they die, as an installation does."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._environment, self._log = environment, log
        self._running: list[subprocess.Popen[bytes]] = []
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _keep(self) -> None:
        while not self._end.wait(0.3):
            with self._lock:
                self._running = [process for process in self._running if process.poll() is None]
                while len(self._running) < WORKERS:
                    self._running.append(self._begin())

    def _begin(self) -> "subprocess.Popen[bytes]":
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, str(HERE / "worker_process.py")], env=self._environment, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def kill(self, what: str) -> bool:
        """`worker`: the process that dispatches, and its pool; `dispatcher`: that process alone; `pool`: one of its pool.
        False: there was none."""
        with self._lock:
            living = [process for process in self._running if process.poll() is None]
        if not living:
            return False
        process = random.choice(living)
        try:
            if what == "worker":
                os.killpg(process.pid, signal.SIGKILL)
            elif what == "dispatcher":
                os.kill(process.pid, signal.SIGKILL)
            else:
                # Any thread of the worker may have begun it.
                lists = Path(f"/proc/{process.pid}/task").glob("*/children")
                pool = [pid for children in lists for pid in children.read_text().split()]
                if not pool:
                    return False
                os.kill(int(random.choice(pool)), signal.SIGKILL)
        except (ProcessLookupError, FileNotFoundError):
            return False
        return True

    def stop(self) -> None:
        self._end.set()
        self._thread.join()
        for process in self._running:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()


def note(number: int) -> ChartNote:
    return ChartNote(
        id=f"chaos-{number}",
        document_type=DocumentType.PROGRESS,
        department="内科",
        date=datetime.date(2026, 4, 1),
        patient=Patient(
            id=f"9{number % PATIENTS:08}", family="検査", given="花子", birth_date=datetime.date(1950, 1, 2)
        ),
        text=f"HbA1c {number / 100} %。",
    )


def submit_all(database: Database, total: int) -> None:
    """As a hospital's system would: what was not acknowledged is sent again."""
    for first in range(0, total, 50):
        while True:
            try:
                with database.session_scope() as session:
                    for number in range(first, min(first + 50, total)):
                        jobs.submit(session, note(number), "chaos")
                break
            except DBAPIError:
                time.sleep(0.2)


def count(database: Database, state: str) -> int | None:
    """None while the database is away."""
    try:
        with database.session_scope() as session:
            return int(session.scalar(select(func.count()).where(Job.state == state)) or 0)
    except DBAPIError:
        return None


def run(broker: str, total: int, kills: int, minutes: float, console: Console) -> Tally:
    tally = Tally(broker, total)
    with ExitStack() as stack:
        home = Path(tempfile.mkdtemp(prefix="hyojun-chaos-"))
        home.chmod(0o755)
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        url = stack.enter_context(embedded_postgres(home / "data"))
        postgres = Postgres(url)
        stack.callback(postgres.stop)
        migrate(url)
        database = Database(url)
        stack.callback(database.dispose)
        environment = os.environ | {
            "DATABASE_URL": url, "PYTHONPATH": PATH, "JOB_LEASE_SECONDS": "4", "JOB_REDISPATCH_SECONDS": "5",
            "JOB_MAX_ATTEMPTS": "50", "WORKER_PROCESSES": "1", "MODEL_SLOTS": "4", "DATA_DIR": str(home / "files"),
        }  # fmt: skip
        crashes: list[tuple[float, str, Callable[[], None]]] = [
            (0.35, "postgres backend", postgres.crash_backend), (0.75, "postgres", postgres.crash),
        ]  # fmt: skip
        if broker == "rabbitmq":
            node = RabbitMQ(home / "rabbitmq")
            node.start()
            stack.callback(node.stop)
            environment["BROKER_URL"] = node.url

            def crash_node() -> None:
                node.crash()
                time.sleep(2)
                node.start()

            crashes.append((0.5, "rabbitmq", crash_node))
        workers = Workers(environment, home / "worker.log")
        stack.callback(workers.stop)
        sender = threading.Thread(target=submit_all, args=(database, total), daemon=True)
        started = time.monotonic()
        sender.start()
        workers.start()
        plan = sorted(
            [(random.uniform(0.02, 0.97), random.choice(["worker", "dispatcher", "pool"]), None) for _ in range(kills)]
            + list(crashes),
            key=lambda step: step[0],
        )
        shown = 0.0
        while (done := count(database, "done")) is None or done < total:
            elapsed = time.monotonic() - started
            if elapsed > minutes * 60:
                console.print(f"{broker}: out of time after {elapsed:.0f} s with {done} jobs done")
                console.print((home / "worker.log").read_text("utf-8", "replace")[-2000:], markup=False)
                break
            if done is not None and plan and done / total >= plan[0][0]:
                _, what, crash = plan[0]
                if crash is not None:
                    crash()
                if crash is not None or workers.kill(what):
                    tally.kills[what] += 1
                    plan.pop(0)
            if elapsed - shown > 10:
                shown = elapsed
                console.print(f"{broker}: {elapsed:.0f} s, {done} done, {sum(tally.kills.values())} kills")
            time.sleep(0.1)
        tally.seconds = time.monotonic() - started
        sender.join(30)
        _judge(database, tally)
    return tally


def _judge(database: Database, tally: Tally) -> None:
    """Each note has one run, and what that run wrote is there once; a patient's versions have no gap."""
    with database.session_scope() as session:
        runs = Counter(session.scalars(select(Run.note_id)))
        written = Counter(session.scalars(select(Resource.job_id)))
        messages = Counter(session.scalars(select(Ssmix2Message.job_id)))
        statements = Counter(session.scalars(select(NoteStatement.run_id)))
        rows = session.execute(select(Job.id, Job.note_id, Job.state, Job.attempts)).all()
        versions = session.execute(
            select(Resource.id, func.max(Resource.version), func.count())
            .where(Resource.type == "Patient")
            .group_by(Resource.id)
        ).all()
    tally.results = sum(row.state == "done" and runs[row.note_id] == 1 for row in rows)
    tally.lost = tally.jobs - len({row.note_id for row in rows if row.state == "done" and runs[row.note_id]})
    tally.doubled = (
        sum(found > 1 for found in runs.values())
        + sum(found != 2 for found in written.values())
        + sum(found != 1 for found in [*messages.values(), *statements.values()])
        + sum(newest != found for _, newest, found in versions)
        + abs(sum(found for *_, found in versions) - tally.results)
        + (len(rows) - tally.jobs if len(rows) > tally.jobs else 0)
    )
    tally.restarted = sum(row.attempts > 1 for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=15, help="longest time for one broker")
    parser.add_argument("--brokers", default="pgmq,rabbitmq")
    parser.add_argument("--seed", type=int, default=None)
    chosen = parser.parse_args()
    seed = chosen.seed if chosen.seed is not None else random.SystemRandom().randrange(10**6)
    random.seed(seed)
    console = Console()
    console.print(f"seed {seed}")
    table = Table(title=f"{chosen.jobs:,} jobs under fire")
    for column in ("broker", "killed", "results", "lost", "doubled", "started again", "seconds", "jobs/s"):
        table.add_column(column, justify="left" if column in ("broker", "killed") else "right")
    good = True
    for broker in chosen.brokers.split(","):
        tally = run(broker, chosen.jobs, chosen.kills, chosen.minutes, console)
        # Told at once: what the next broker does must not hide it.
        console.print(
            f"{broker}: {tally.results:,} results of {tally.jobs:,} jobs, {tally.lost} lost, {tally.doubled} doubled,"
            f" {tally.restarted} started again, in {tally.seconds:.0f} s"
        )
        good &= tally.results == tally.jobs and not tally.lost and not tally.doubled
        killed = ", ".join(f"{number} {what}" for what, number in sorted(tally.kills.items()))
        table.add_row(
            broker, killed, f"{tally.results:,}", str(tally.lost), str(tally.doubled), str(tally.restarted),
            f"{tally.seconds:.0f}", f"{tally.results / tally.seconds:.0f}",
        )  # fmt: skip
    console.print(table)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
