"""The input of a batch: taken in whole, kept in Postgres in chunks until it is read, and opened as a file that can be sought.

In the database nothing depends on a disk that the API and the workers share, and no backup holds a batch without its input.
"""

import hashlib
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import DBAPIError

from app.batch_sources import check_input
from app.db import Database
from app.errors import Conflict, InvalidInput, TooLong, Unavailable
from models import Batch, BatchChunk
from schemas.batch import BatchFormat, BatchState, Rate

CHUNK_BYTES = 1_000_000

# https://www.postgresql.org/docs/current/errcodes-appendix.html: disk_full
_DISK_FULL = "53100"


@dataclass(frozen=True)
class Order:
    """What a sender says of the input. `defaults`: keys of a note, dotted, for entries that do not state them."""

    name: str
    source: str
    format: BatchFormat
    defaults: Mapping[str, Any] = field(default_factory=dict)
    rate: str | None = None


def receive(database: Database, parts: Iterable[bytes], order: Order, *, created_by: str, max_bytes: int) -> UUID:
    """Stores the input and opens the batch; returns when all of it is on the database's disk. Nothing is kept otherwise.

    Raises: InvalidInput, TooLong for an input that is seen to be unreadable at once; Unavailable where the disk is full; what
    `parts` raises.
    """
    rate_of(order.rate)
    with database.session_scope() as session:
        row = {"name": order.name, "source": order.source, "format": order.format, "defaults": dict(order.defaults)}
        batch_id = session.scalars(
            insert(Batch).values(**row, rate=order.rate, created_by=created_by).returning(Batch.id)
        ).one()
    try:
        size, lines, digest = _store(database, batch_id, parts, max_bytes)
        if not size:
            raise InvalidInput("the input is empty")
        check_input(order.format, stored_input(database, batch_id, size), order.defaults, max_bytes)
        with database.session_scope() as session:
            # Lines are entries but for the blank ones; what a CSV record or an archive holds is seen when it is read.
            total = lines if order.format in (BatchFormat.NDJSON, BatchFormat.PREPARED) else None
            session.execute(
                update(Batch)
                .where(Batch.id == batch_id)
                .values(state=BatchState.RUNNING, bytes=size, sha256=digest, total=total)
                .execution_options(synchronize_session=False)
            )
    except BaseException as error:
        _forget(database, batch_id)
        if isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) == _DISK_FULL:
            full = "the disk of the database is full, and nothing of the batch was kept; free space, and send it again"
            raise Unavailable(full) from None
        raise
    return batch_id


def _store(database: Database, batch_id: UUID, parts: Iterable[bytes], max_bytes: int) -> tuple[int, int, str]:
    """Bytes, lines and SHA-256 of the input."""
    digest, waiting, number, size, lines, last = hashlib.sha256(), bytearray(), 0, 0, 0, b""

    def put(content: bytes) -> None:
        with database.session_scope() as session:
            session.execute(insert(BatchChunk).values(batch_id=batch_id, number=number, content=content))

    for part in parts:
        digest.update(part)
        size += len(part)
        if size > max_bytes:
            raise TooLong(f"the input has more than {max_bytes:,} bytes (BATCH_MAX_BYTES); split it")
        lines += part.count(b"\n")
        last = part[-1:] or last
        waiting += part
        while len(waiting) >= CHUNK_BYTES:
            put(bytes(waiting[:CHUNK_BYTES]))
            del waiting[:CHUNK_BYTES]
            number += 1
    if waiting:
        put(bytes(waiting))
    return size, lines + (last not in (b"\n", b"")), digest.hexdigest()


def _forget(database: Database, batch_id: UUID) -> None:
    """A batch that did not come in; if the database is away too, the feeder removes it after a day."""
    try:
        with database.session_scope() as session:
            session.execute(delete(Batch).where(Batch.id == batch_id, Batch.state == BatchState.RECEIVING))
    except DBAPIError:
        pass


def stored_input(database: Database, batch_id: UUID, size: int) -> io.BufferedReader:
    """The input as a file that can be sought; one chunk of it is in memory."""
    return io.BufferedReader(_StoredInput(database, batch_id, size), 1 << 16)


class _StoredInput(io.RawIOBase):
    def __init__(self, database: Database, batch_id: UUID, size: int) -> None:
        self._database, self._batch_id, self._size = database, batch_id, size
        self._at, self._number, self._chunk = 0, -1, b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        if self._at >= self._size:
            return 0
        number, start = divmod(self._at, CHUNK_BYTES)
        if number != self._number:
            query = select(BatchChunk.content).where(BatchChunk.batch_id == self._batch_id, BatchChunk.number == number)
            with self._database.session_scope() as session:
                content = session.scalar(query)
            if content is None:
                raise Conflict(f"the input of batch {self._batch_id} is no longer stored")
            self._number, self._chunk = number, bytes(content)
        part = self._chunk[start : start + len(buffer)]
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)


def rate_of(written: str | None) -> Rate:
    """Raises: InvalidInput."""
    try:
        return Rate.parse(written) if written is not None else Rate()
    except ValueError as error:
        raise InvalidInput(f"rate: {error}") from None
