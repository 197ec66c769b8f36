"""Groups of the command line, one module each; `app.cli` puts them together.

`hyojun --help` imports all of them: what is heavy (database, importers, rich) is imported inside the functions.
"""

import errno
import os
import pwd
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from app.errors import InvalidInput
from app.log import configure

if TYPE_CHECKING:
    from app.db import Database
    from app.settings import Settings


def read_settings() -> "Settings":
    """Raises: InvalidInput; the message names variables and never shows a value (it may be a password)."""
    from pydantic import ValidationError

    from app.settings import Settings

    try:
        return Settings()
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        faults = "; ".join(f"{'.'.join(str(part) for part in d['loc']).upper()}: {d['msg']}" for d in details)
        raise InvalidInput(f"settings: {faults}") from None


def quiet(settings: "Settings") -> None:
    """The log of a command that a person looks at: what goes wrong, or all that LOG_LEVEL asks for."""
    configure(settings.log_level if settings.log_level != "INFO" else "WARNING")


def operator() -> str:
    """Who runs this command, as audit events name him: the account of the operating system."""
    try:
        # By the number, which the kernel knows; LOGNAME is whatever somebody has set.
        return "os:" + re.sub(r"[^A-Za-z0-9._-]", "-", pwd.getpwuid(os.getuid()).pw_name)[:64]
    except (OSError, KeyError):  # a container may run under a number that has no name
        return f"os:{os.getuid()}"


@contextmanager
def open_database(action: str | None = None, command: str = "") -> Iterator["Database"]:
    """The database of DATABASE_URL, or the embedded one that `hyojun up` has made, for one command. `action`, of
    `schemas.review.AuditAction`: what a `command` does with patient data, told in an audit event before it does it.

    Raises: InvalidInput where there is neither.
    """
    settings = read_settings()
    quiet(settings)
    with _database_url(settings) as url:
        from app.db import Database

        database = Database(url)
        try:
            if action is not None:
                tell(database, action, command)
            yield database
        finally:
            database.dispose()


@contextmanager
def _database_url(settings: "Settings") -> Iterator[str]:
    if settings.database_url is None:
        from app.embedded import embedded_postgres, has_cluster

        if has_cluster(settings.data_dir):
            with embedded_postgres(settings.data_dir) as url:
                yield url
            return
    yield settings.require_database_url()


def tell(database: "Database", action: str, command: str) -> None:
    """An audit event of what the person at the terminal does."""
    from app.audit import record_access
    from schemas.review import AuditAction

    with database.session_scope() as session:
        record_access(session, operator(), AuditAction(action), route=command)


# https://www.postgresql.org/docs/current/errcodes-appendix.html
_SQLSTATES = {
    "42P01": "tables are missing or of another version; run `hyojun migrate`",
    "42703": "tables are of another version; run `hyojun migrate`",
    "42883": "tables are of another version; run `hyojun migrate`",
    "3F000": "tables are missing or of another version; run `hyojun migrate`",
    "42501": "the user of DATABASE_URL may not do this",
    "25006": "the database is read-only: a standby, or one that an administrator has closed",
    "53100": "the disk of the database is full; nothing was stored",
    "53300": "the database has no connection free; try again, or raise its max_connections",
    "57P01": "the database was shut down meanwhile; what was not finished was not stored",
}


def explain(error: BaseException) -> str | None:
    """What an operator can do about a failure of the surroundings (disk, database), in one line; None for any other.

    Never the message of a database error, which may quote rows; but that of a failed connection, which holds an address
    and no password.
    """
    if isinstance(error, OSError) and error.strerror:
        if error.filename:
            return f"{error.filename}: {error.strerror}"
        # Writing to a file that is open: Python does not know its name any more.
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EPIPE):
            return error.strerror
    if not type(error).__module__.startswith("sqlalchemy"):
        return None
    from sqlalchemy.exc import DBAPIError, OperationalError

    if not isinstance(error, DBAPIError):
        return None
    if known := _SQLSTATES.get(getattr(error.orig, "sqlstate", None) or ""):
        return f"database: {known}"
    if isinstance(error, OperationalError) and error.statement is None:
        lines = str(error.orig).strip().splitlines()
        return f"the database of DATABASE_URL cannot be reached: {lines[0] if lines else type(error.orig).__name__}"
    if error.connection_invalidated:
        return "the connection to the database broke; what was not finished was not stored"
    return None
