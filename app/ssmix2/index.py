"""The index database: the table SSMIXIDX with one row for each entry of a standardized and an extended storage.

Source: NHO SSMIX2_support_documents `index_db.md` (names, lengths and meaning of the columns). It is an SQLite file beside
the storages, `<root>-index.sqlite`, so that it travels with them and needs no server; everything in it can be made again
from storages and journals (`rebuild`), so it is not forced to the disk with every row.
"""

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path

from app.errors import Unavailable
from app.ssmix2.journal import Header

_TABLE = """
CREATE TABLE IF NOT EXISTS SSMIXIDX (
    VolumeLabel VARCHAR(20) NOT NULL, FacilityID CHAR(10) NOT NULL, PatientID VARCHAR(15) NOT NULL,
    OrderDate VARCHAR(8) NOT NULL, DataKind VARCHAR(180) NOT NULL, OrderNo VARCHAR(22) NOT NULL,
    ProcessingType VARCHAR(3) NOT NULL, EnterOrgCD VARCHAR(5) NOT NULL, TransactionDatetime VARCHAR(17) NOT NULL,
    OutRelDirectory VARCHAR(260) NOT NULL, FileName VARCHAR(260) NOT NULL, UpdateDatetime TIMESTAMP NOT NULL,
    PRIMARY KEY (PatientID, OrderDate, DataKind, OrderNo, VolumeLabel, TransactionDatetime)
) WITHOUT ROWID
"""
_KEY = "PatientID = ? AND OrderDate = ? AND DataKind = ? AND OrderNo = ? AND VolumeLabel = ?"


@dataclass(frozen=True)
class Row:
    """One entry. `volume`: STD or ANX; `folder`: below the storage's root; `name`: of the file or content folder, empty
    where a deletion left none."""

    volume: str
    header: Header
    folder: str
    name: str

    @property
    def key(self) -> tuple[str, ...]:
        header = self.header
        return (header.patient, header.date, header.kind, header.order_no, self.volume)


def put(path: Path, row: Row) -> None:
    """Adds `row` and changes the flags of the entries that it replaces or deletes; idempotent. Raises: Unavailable."""
    with _connection(path) as connection, connection:
        connection.execute("BEGIN IMMEDIATE")
        now = _now()
        change = "substr(FileName, 1, length(FileName) - 1)"
        flags, to = ("'1', '2'", "0") if row.header.processing == "DEL" else ("'1'", "2")
        connection.execute(
            f"UPDATE SSMIXIDX SET FileName = {change} || ?, UpdateDatetime = ? WHERE {_KEY} "  # noqa: S608 constants
            f"AND substr(FileName, -1) IN ({flags}) AND TransactionDatetime <> ?",
            (to, now, *row.key, row.header.time),
        )
        _insert(connection, row, now)


def rebuild(path: Path, recorded: Iterable[Row], found: Iterable[Row]) -> int:
    """Replaces the index, in one step, by one of the journal's rows and the entries found in the storages, which know
    their names; an entry that no journal knows is added as it is. Returns the number of rows."""
    fresh = path.with_name(f"{path.name}.new")
    for name in (fresh, fresh.with_name(f"{fresh.name}-journal")):
        name.unlink(missing_ok=True)
    connection = _open(fresh)
    with connection:
        connection.execute("BEGIN")
        now = _now()
        for row in recorded:
            _insert(connection, row, now)
        for row in found:
            named = f"UPDATE SSMIXIDX SET FileName = ? WHERE {_KEY} AND TransactionDatetime = ?"  # noqa: S608 constants
            if connection.execute(named, (row.name, *row.key, row.header.time)).rowcount == 0:
                _insert(connection, row, now)
    (count,) = connection.execute("SELECT count(*) FROM SSMIXIDX").fetchone()
    connection.close()
    _close()
    fresh.with_name(f"{fresh.name}-journal").unlink(missing_ok=True)
    # A journal of the damaged file must not be played back into the new one.
    path.with_name(f"{path.name}-journal").unlink(missing_ok=True)
    os.replace(fresh, path)
    return int(count)


def read(path: Path) -> list[dict[str, str]]:
    """All rows by the names of their columns, in the order of the entries."""
    with _connection(path) as connection:
        columns = [column[1] for column in connection.execute("PRAGMA table_info(SSMIXIDX)")]
        found = connection.execute(
            "SELECT * FROM SSMIXIDX ORDER BY PatientID, OrderDate, DataKind, OrderNo, TransactionDatetime"
        )
        return [dict(zip(columns, row, strict=True)) for row in found]


def _insert(connection: sqlite3.Connection, row: Row, now: str) -> None:
    # The columns stand in the order of a header's fields.
    values = (row.volume, *astuple(row.header), row.folder, row.name, now)
    connection.execute("INSERT OR REPLACE INTO SSMIXIDX VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", values)


def _now() -> str:
    return datetime.now(UTC).isoformat(sep=" ", timespec="milliseconds")


# One open connection of a thread: opening one costs as much as a message.
_opened = threading.local()


@contextmanager
def _connection(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        found = path.stat() if path.exists() else None
        key = (os.getpid(), str(path), found and (found.st_dev, found.st_ino))
        if getattr(_opened, "key", None) != key or found is None:
            _close()
            _opened.connection = _open(path)
            made = path.stat()
            _opened.key = (os.getpid(), str(path), (made.st_dev, made.st_ino))
        yield _opened.connection
    except sqlite3.Error as error:
        _close()
        raise Unavailable(
            f"the index {path} cannot be written ({error}); `hyojun export ssmix2-index` makes it anew"
        ) from None


def _open(path: Path) -> sqlite3.Connection:
    # Autocommit off by hand: a transaction begins where BEGIN stands. A minute's wait: another writer at work.
    connection = sqlite3.connect(path, timeout=60, isolation_level=None)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute(_TABLE)
    return connection


def _close() -> None:
    connection = getattr(_opened, "connection", None)
    key = getattr(_opened, "key", None)
    if connection is not None and key and key[0] == os.getpid():  # one from before a fork belongs to the parent
        connection.close()
    _opened.connection, _opened.key = None, None
