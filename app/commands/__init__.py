"""Groups of the command line, one module each; `app.cli` puts them together.

`hyojun --help` imports all of them: what is heavy (database, importers, rich) is imported inside the functions.
"""

import errno
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


@contextmanager
def open_database() -> Iterator["Database"]:
    """The database of DATABASE_URL, for one command. Raises: InvalidInput where none is set."""
    settings = read_settings()
    url = settings.require_database_url()
    quiet(settings)
    from app.db import Database

    database = Database(url)
    try:
        yield database
    finally:
        database.dispose()


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
