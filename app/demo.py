"""`hyojun up`: database, API and worker on this machine alone, the samples sent through the API, and what came out.

The API and the worker are processes of their own, as in an installation; this one only watches them and talks HTTP.
"""

import http.client
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

import app
from app import accounts, ssmix2
from app.access import issue_token
from app.batches import Outcome, write_file
from app.db import Database, migrate
from app.embedded import embedded_postgres
from app.errors import HyojunError, Unavailable
from app.generation.registry import READING, configured
from app.intake import Line, read_notes
from app.processes import Supervised
from app.report import console, progress_bar, show_outcomes
from app.settings import Settings
from app.storage_export import Storages
from app.terminology.importers import load_starter
from schemas.access import Principal, Right
from schemas.job import JobState
from schemas.statement import Kind

log = logging.getLogger(__name__)

READY_SECONDS = 90.0
"""Longest wait for the API; a first start on a slow disk compiles every module."""
MAX_RESTARTS = 5
POLL_SECONDS = 0.25
TOKEN_SECONDS = 3600
MAX_LOG_BYTES = 10_000_000
SOURCE = "samples"
_ENDED = {JobState.DONE, JobState.FAILED, JobState.CANCELLED}


def run_demo(settings: Settings, samples: Path, *, once: bool, port: int | None, again: bool) -> int:
    """The exit status: 0 if every sample was converted. Ctrl-C, SIGTERM and SIGHUP end it, with everything stopped.

    Raises: Unavailable, InvalidInput when something that is needed is missing.
    """
    screen = console()
    lines = list(_samples(samples))
    configured(settings).require_files(READING)
    failed = False
    try:
        with _signals(), ExitStack() as stack:
            screen.print("database …")
            url = settings.database_url or stack.enter_context(embedded_postgres(settings.data_dir))
            database = Database(url)
            stack.callback(database.dispose)
            migrate(url)
            with database.session_scope() as session:
                load_starter(session)
            chosen = _port(settings.api_host, port, settings.api_port)
            screen.print("API and worker …")
            services = stack.enter_context(_services(settings, url, chosen))
            api = _Api(_reachable(settings.api_host), chosen, database)
            _wait_until_ready(api, services)
            sender = ssmix2.Facility(settings.facility_name or "", institution_number=settings.institution_number)
            storages = Storages(settings.data_dir / "out", sender)
            outcomes = _convert(
                api, database, services, lines, settings.data_dir / "out", storages, screen, again=again
            )
            failed = any(outcome.error is not None for outcome in outcomes)
            show_outcomes(screen, outcomes)
            _say_where(screen, settings.data_dir / "out", api, link=None if once else _admin_link(database))
            while not once:
                services.check()
                time.sleep(1)
    except KeyboardInterrupt:
        screen.print("stopped")
        return 130 if once else int(failed)
    return int(failed)


def _samples(directory: Path) -> Iterator[Line]:
    files = sorted([*directory.glob("*.json"), *directory.glob("*.jsonl")])
    if not files:
        raise Unavailable(f"{directory} holds no .json or .jsonl file")
    for path in files:
        yield from read_notes(path)


@contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end us as Ctrl-C does; while things are being stopped, further ones are ignored."""
    watched = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def stop(number: int, frame: object) -> None:
        for other in watched:
            signal.signal(other, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in watched}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- processes --------------------------------------------------------------------------------------------------------


class _Services:
    """The API and one worker. One that ends by itself is started again, a few times."""

    def __init__(self, commands: dict[str, list[str]], environment: dict[str, str], log_dir: Path) -> None:
        log_dir.mkdir(parents=True, exist_ok=True)
        self._commands, self._environment, self._log_dir = commands, environment, log_dir
        self._restarts = 0
        self._running: dict[str, Supervised] = {}
        try:
            for name in commands:
                self._start(name)
        except BaseException:
            self.stop()
            raise

    def _start(self, name: str) -> None:
        path = self._log_dir / f"{name}.log"
        if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        with path.open("ab") as output:
            self._running[name] = Supervised(self._commands[name], env=self._environment, output=output)

    def check(self) -> None:
        """Raises: Unavailable when a service keeps ending."""
        for name, child in list(self._running.items()):
            status = child.poll()
            if status is None:
                continue
            log_file = self._log_dir / f"{name}.log"
            if self._restarts >= MAX_RESTARTS:
                raise Unavailable(f"the {name} ended with status {status}, and not for the first time; see {log_file}")
            self._restarts += 1
            log.warning("the %s ended with status %d; starting it again", name, status)
            child.stop()
            self._start(name)

    def stop(self) -> None:
        for child in self._running.values():
            child.request_stop()
        for child in self._running.values():
            child.stop()


@contextmanager
def _services(settings: Settings, url: str, port: int) -> Iterator[_Services]:
    # The packages are found from any working directory, also where they are not installed.
    roots = [str(Path(app.__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "DATABASE_URL": url,
        "API_PORT": str(port),
        "PYTHONPATH": os.pathsep.join(root for root in roots if root),
    }
    command = [sys.executable, "-m", "app.cli"]
    commands = {"api": [*command, "serve"], "worker": [*command, "worker"]}
    services = _Services(commands, environment, settings.data_dir / "log")
    try:
        yield services
    finally:
        services.stop()


def _port(host: str, wanted: int | None, preferred: int) -> int:
    """A port that nobody listens on; another one than `preferred` if that is taken, but never than `wanted`."""
    for port in [wanted] if wanted is not None else [preferred, 0]:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise Unavailable(f"port {wanted} of {host} is taken or forbidden; choose another with --port")


def _reachable(host: str) -> str:
    """Where to reach a server that listens on every address."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104


# --- HTTP -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Api:
    """The API over HTTP; proxies of the environment are not asked. Its tokens come straight from the database."""

    host: str
    port: int
    database: Database
    _kept: list[tuple[str, float]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """Status and body. Raises: OSError, http.client.HTTPException when there is no answer."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            headers = {"Authorization": f"Bearer {self.token()}"}
            headers |= {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, path, None if body is None else json.dumps(body).encode(), headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def token(self) -> str:
        """One that lasts; a new one before it ends."""
        now = time.monotonic()
        if not self._kept or self._kept[0][1] < now:
            rights = frozenset({Right.NOTES_READ, Right.NOTES_WRITE})
            # What it shows is what the machine has read; nobody has judged it yet.
            who = Principal(id="system:up", name="hyojun up", rights=rights, drafts=True)
            with self.database.session_scope() as session:
                token = issue_token(session, who, seconds=TOKEN_SECONDS)
            self._kept[:] = [(token, now + TOKEN_SECONDS / 2)]
        return self._kept[0][0]

    def fetch(self, path: str, method: str = "GET", body: Any = None) -> bytes:
        """Raises: Unavailable, with the API's own reason."""
        try:
            status, content = self.call(method, path, body)
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"the API does not answer: {type(error).__name__}") from None
        if status >= 400:
            detail = json.loads(content).get("detail", "") if content.startswith(b"{") else ""
            raise Unavailable(f"the API answered {status}: {detail}")
        return content

    def fetch_json(self, path: str, method: str = "GET", body: Any = None) -> Any:
        return json.loads(self.fetch(path, method, body))


def _wait_until_ready(api: _Api, services: _Services) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        services.check()
        try:
            status, content = api.call("GET", "/readyz")
            if status == 200:
                return
            found = json.loads(content)
        except (OSError, http.client.HTTPException, ValueError):
            found = {}
        if time.monotonic() > deadline:
            faults = "; ".join(f"{key}: {value}" for key, value in found.items() if value != "ok")
            raise Unavailable(f"the API is not ready after {READY_SECONDS:.0f} s {faults}")
        time.sleep(0.1)


def _convert(
    api: _Api,
    database: Database,
    services: _Services,
    lines: list[Line],
    out: Path,
    storages: Storages,
    screen: Console,
    *,
    again: bool,
) -> list[Outcome]:
    """Submits every note, waits for its job, fetches its results; outcomes in the order of `lines`."""
    out.mkdir(parents=True, exist_ok=True)
    storages.open(SOURCE)
    outcomes: dict[int, Outcome] = {}
    waiting: dict[int, str] = {}
    for index, line in enumerate(lines):
        if line.note is None:
            outcomes[index] = Outcome(line.number, None, error=str(line.error))
        else:
            waiting[index] = _submit(api, line, again=again)
    with progress_bar(screen) as bar:
        task = bar.add_task("converting", total=len(lines), completed=len(outcomes))
        while waiting:
            services.check()
            for index, job_id in list(waiting.items()):
                job = api.fetch_json(f"/api/jobs/{job_id}")
                if job["state"] not in _ENDED:
                    continue
                del waiting[index]
                outcomes[index] = _outcome(api, database, lines[index], job, out, storages)
                bar.advance(task)
            if waiting:
                time.sleep(POLL_SECONDS)
    for index, outcome in sorted(outcomes.items()):
        if outcome.error is not None:
            screen.print(f"sample {index + 1} ({outcome.note_id or 'unreadable'}): {outcome.error}", markup=False)
    return [outcome for _, outcome in sorted(outcomes.items())]


def _submit(api: _Api, line: Line, *, again: bool) -> str:
    assert line.note is not None
    job = api.fetch_json("/api/notes", "POST", line.note.model_dump(mode="json") | {"source": SOURCE})
    # A note of an earlier run has its result already; one that failed then is tried again.
    if job["state"] in (JobState.FAILED, JobState.CANCELLED) or (again and job["state"] == JobState.DONE):
        job = api.fetch_json(f"/api/notes/{job['note_id']}/jobs", "POST", {})
    return str(job["id"])


def _outcome(
    api: _Api, database: Database, line: Line, job: dict[str, Any], out: Path, storages: Storages
) -> Outcome:
    assert line.note is not None
    if job["state"] != JobState.DONE:
        return Outcome(line.number, line.note.id, error=f"job {job['id']} is {job['state']}: {job['reason']}")
    try:
        write_file(out / f"{line.note.id}.json", api.fetch(f"/api/notes/{job['note_id']}/bundle"))
        with database.session_scope() as session:
            written = storages.write_patient(session, SOURCE, line.note.patient.id, datetime.now(UTC))
    except HyojunError as error:
        return Outcome(line.number, line.note.id, error=str(error))
    if written.refused:
        reasons = "; ".join(dict.fromkeys(reason for _, reason in written.refused))
        return Outcome(line.number, line.note.id, error=f"the Bundle is written, the SS-MIX2 storage refuses: {reasons}")
    counts = {Kind(kind): count for kind, count in job["statements"].items()}
    seconds = job["timings"]["seconds"] or 0.0
    return Outcome(line.number, line.note.id, seconds, counts, job["resources"], len(job["issues"]))


def _admin_link(database: Database) -> str | None:
    """The token of a link that makes the first administrator; None when there is one."""
    with database.session_scope() as session:
        return None if accounts.has_admin(session) else accounts.make_admin_link(session)


def _say_where(screen: Console, out: Path, api: _Api, link: str | None) -> None:
    screen.print(f"FHIR Bundles: {out}/<note>.json   SS-MIX2 storage: {out / 'ssmix2'}", soft_wrap=True)
    if link is not None:
        # Without markup and colour: a token holds what rich takes for either.
        screen.print("Nobody can sign in yet. This link makes the first administrator, once and within a day:")
        screen.print(f"{api.url}{accounts.SETUP_PATH}?token={link}", soft_wrap=True, markup=False, highlight=False)
    screen.print(f"{api.url}/   (API: {api.url}/openapi.json)   Ctrl-C ends it", soft_wrap=True)
