"""Fixtures for tests that need a database: one embedded server per run, one migrated database per test module."""

import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from app.db import Database, migrate
from app.embedded import embedded_postgres

TEMPLATE = "hyojun_template"

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would the programs whose Ctrl-C is tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _other(url: str, database: str) -> str:
    return make_url(url).set(database=database).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def open_dir() -> Iterator[Path]:
    """A directory that other accounts may enter (pytest's own are closed): as root, the server runs as another one."""
    path = Path(tempfile.mkdtemp(prefix="hyojun-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def server_url(open_dir: Path) -> Iterator[str]:
    """Address of an empty database `hyojun` on this run's own server."""
    with embedded_postgres(open_dir / "session") as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")  # nothing here has to survive a power cut
            connection.execute("SELECT pg_reload_conf()")
        yield url


@pytest.fixture(scope="session")
def template_url(server_url: str) -> str:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
    url = _other(server_url, TEMPLATE)
    migrate(url)
    return url


def _copy(server_url: str, template: str | None) -> Iterator[str]:
    name = f"test_{uuid4().hex}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        connection.execute(create.format(sql.Identifier(name), sql.Identifier(template or "template0")))
        yield _other(server_url, name)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def empty_database_url(server_url: str) -> Iterator[str]:
    """A database of this test's own, without any table."""
    yield from _copy(server_url, None)


@pytest.fixture(scope="module")
def database_url(server_url: str, template_url: str) -> Iterator[str]:
    """A migrated database of this module's own."""
    yield from _copy(server_url, TEMPLATE)


@pytest.fixture
def fresh_database_url(server_url: str, template_url: str) -> Iterator[str]:
    """A migrated database of this test's own."""
    yield from _copy(server_url, TEMPLATE)


@pytest.fixture(scope="module")
def database(database_url: str) -> Iterator[Database]:
    made = Database(database_url)
    yield made
    made.dispose()


@pytest.fixture
def other_database(server_url: str, template_url: str) -> Iterator[Database]:
    """Another system's, beside `fresh_database`."""
    for url in _copy(server_url, TEMPLATE):
        made = Database(url)
        yield made
        made.dispose()


@pytest.fixture
def fresh_database(fresh_database_url: str) -> Iterator[Database]:
    made = Database(fresh_database_url)
    yield made
    made.dispose()
