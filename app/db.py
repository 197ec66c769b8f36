"""The database at the edge: one lazily made engine per process, the only commit, and the migrations.

JSON goes in and out with the digits as written: 1.10 stays 1.10 (FHIR: a decimal's precision is significant,
https://hl7.org/fhir/R4/datatypes.html#decimal), which Python's float would lose.
"""

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg.errors import LockNotAvailable
from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.errors import Unavailable

log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"


def json_loads(text: str | bytes) -> Any:
    """Numbers with a fraction or an exponent become Decimal, and so do whole ones too long for `json_dumps` as int."""
    return json.loads(text, parse_float=Decimal, parse_int=lambda digits: (Decimal if len(digits) > 18 else int)(digits))


def json_dumps(value: Any) -> str:
    """Decimals are written as numbers with their digits.

    Raises: TypeError for a value that JSON cannot hold, infinite and undefined numbers among them.
    """
    return orjson.dumps(value, default=_digits).decode()


def _digits(value: Any) -> orjson.Fragment:
    if isinstance(value, Decimal) and value.is_finite():
        return orjson.Fragment(format(value, "f").encode())
    raise TypeError(f"not JSON: {type(value).__name__}")


def sqlalchemy_url(url: str) -> str:
    """postgres://… and postgresql://… with the driver named; the password stays in."""
    parsed = make_url(url).set(drivername="postgresql+psycopg")
    return parsed.render_as_string(hide_password=False)


def libpq_url(url: str) -> str:
    """The same address for libpq and psycopg, without SQLAlchemy's driver name."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


class Database:
    """An address and, per process, its engine. Safe to make before a fork: two processes never share a connection."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine: Engine | None = None
        self._pid = 0

    @property
    def engine(self) -> Engine:
        if self._engine is None or self._pid != os.getpid():
            if self._engine is not None:
                self._engine.dispose(close=False)  # the sockets belong to the parent process
            self._pid = os.getpid()
            self._engine = create_engine(
                sqlalchemy_url(self.url),
                json_serializer=json_dumps,
                json_deserializer=json_loads,
                pool_pre_ping=True,
                pool_size=5,
                max_overflow=15,
                hide_parameters=True,  # else the text of a note stands in the message of a database error
                connect_args={"connect_timeout": 10},
            )
        return self._engine

    @contextmanager
    def session_scope(self) -> Iterator[Session]:
        """One transaction: committed at the end of the block, rolled back by any exception. Nothing else commits."""
        session = Session(self.engine, expire_on_commit=False)
        try:
            yield session
            session.commit()
        except BaseException:
            session.rollback()
            raise
        finally:
            session.close()

    def dispose(self) -> None:
        """Closes this process's idle connections; the next use opens new ones."""
        if self._engine is not None and self._pid == os.getpid():
            self._engine.dispose()


def migrate(url: str, revision: str = "head", *, lock_seconds: float = 5.0, max_seconds: float = 120.0) -> None:
    """Brings the database to `revision`, each revision whole or not at all. Two processes may do it at once: the second waits
    and finds it done.

    It waits at most `lock_seconds` for a table that somebody uses, since whoever comes after waits behind it; then it lets
    the others go first and tries again, for `max_seconds`. Raises: Unavailable when the table stays in use.
    """
    config = _alembic(url)
    config.attributes["lock_seconds"] = lock_seconds
    deadline, pause = time.monotonic() + max_seconds, 1.0
    while True:
        try:
            command.upgrade(config, revision)
            return
        except OperationalError as error:
            if not isinstance(error.orig, LockNotAvailable):
                raise
        if time.monotonic() + pause > deadline:
            raise Unavailable(
                f"a table that has to be changed is in use, always for longer than {lock_seconds:g} s; nothing is half done: "
                "end what uses it (a backup, a long query: pg_stat_activity shows it), and run `hyojun migrate` again"
            )
        log.warning("a table that has to be changed is in use", extra={"retry_seconds": pause})
        time.sleep(pause)
        pause = min(2 * pause, 15.0)


def known_revisions() -> frozenset[str]:
    """Those that this version can bring a database to, or on from."""
    script = ScriptDirectory.from_config(_alembic(None))
    return frozenset(found.revision for found in script.walk_revisions())


def _alembic(url: str | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["database_url"] = url
    return config
