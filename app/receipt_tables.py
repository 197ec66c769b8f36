"""The tables that receipts are checked by, as an operator imports them: at most one of a kind is in use, in place of the
starter's. Everything works in the caller's transaction and leaves an audit event in it.
"""

import hashlib
import threading
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session

from app.audit import person, record
from app.errors import NotFound
from app.receipts.masters import read_master
from app.receipts.tables import Tables
from models import ReceiptTable
from schemas.review import AuditAction

_KEPT = 2
"""Tables held in memory: those of now, and those of before an import that another process may still ask for."""


@dataclass(frozen=True)
class Imported:
    """A table without its content. `whole`: every code in force is in it."""

    id: UUID
    kind: str
    edition: str | None
    name: str
    rows: int
    whole: bool
    active: bool
    imported_at: datetime
    imported_by: str


def import_table(session: Session, data: bytes, name: str, by: str) -> Imported:
    """Reads an SSK master or a table of ours (`app.receipts.masters`) and puts it into use. The same content again is the
    table that is there. Raises: InvalidInput with line and column; TooLong."""
    master = read_master(data, name)
    digest = hashlib.sha256(master.tsv.encode()).hexdigest()
    added = pg_insert(ReceiptTable).values(
        kind=master.kind, edition=master.edition or None, name=_printable(name), sha256=digest, rows=master.rows, whole=master.whole,
        content=master.tsv, imported_by=person(by),
    )  # fmt: skip
    session.execute(added.on_conflict_do_nothing(index_elements=["kind", "sha256"]))
    table_id = session.scalars(
        select(ReceiptTable.id).where(ReceiptTable.kind == master.kind, ReceiptTable.sha256 == digest)
    ).one()
    return activate(session, table_id, by)


def list_tables(session: Session) -> list[Imported]:
    """By kind, the newest first."""
    query = select(ReceiptTable).order_by(ReceiptTable.kind, ReceiptTable.imported_at.desc())
    return [_imported(row) for row in session.scalars(query.execution_options(populate_existing=True))]


def activate(session: Session, table_id: UUID, by: str) -> Imported:
    """Puts a table into use, in place of the one of its kind. Raises: NotFound."""
    row = session.get(ReceiptTable, table_id, populate_existing=True)
    if row is None:
        raise NotFound(f"receipt table {table_id} does not exist")
    if not row.active:
        _rest(session, row.kind)
        row.active = True
        session.flush()
        _record(session, by, row.kind, row.id)
    return _imported(row)


def deactivate(session: Session, kind: str, by: str) -> None:
    """The starter's table of the kind is in use again. Raises: NotFound where it is already."""
    former = _rest(session, kind)
    if former is None:
        raise NotFound(f"no imported table of the kind {kind} is in use")
    _record(session, by, kind, None)


def _rest(session: Session, kind: str) -> UUID | None:
    rest = update(ReceiptTable).where(ReceiptTable.kind == kind, ReceiptTable.active).values(active=False)
    return session.scalar(rest.returning(ReceiptTable.id))


def _record(session: Session, by: str, kind: str, now: UUID | None) -> None:
    after = {"kind": kind, "table": str(now) if now else "starter"}
    record(session, AuditAction.ADMIN, by=person(by), subject=now, after=after)


def _imported(row: ReceiptTable) -> Imported:
    return Imported(
        row.id, row.kind, row.edition, row.name, row.rows, row.whole, row.active, row.imported_at, row.imported_by
    )


def _printable(name: str) -> str:
    return "".join(character for character in name if character.isprintable())[:200]


# --- in use -----------------------------------------------------------------------------------------------------------

_Chosen = tuple[tuple[str, str, bool], ...]
_made: dict[_Chosen, Tables] = {}
_lock = threading.Lock()


def tables_of(session: Session) -> Tables:
    """Those in use; made anew only when others are in use than at the last call."""
    columns = (ReceiptTable.kind, ReceiptTable.sha256, ReceiptTable.whole)
    active = session.execute(select(*columns).where(ReceiptTable.active).order_by(ReceiptTable.kind)).all()
    chosen: _Chosen = tuple((kind, sha256, whole) for kind, sha256, whole in active)
    if not chosen:
        return Tables.starter()
    with _lock:
        if chosen not in _made:
            made = _read(session, chosen)
            while len(_made) >= _KEPT:
                del _made[next(iter(_made))]
            _made[chosen] = made
        return _made[chosen]


def _read(session: Session, chosen: _Chosen) -> Tables:
    contents = {}
    for kind, sha256, _ in chosen:
        query = select(ReceiptTable.content).where(ReceiptTable.kind == kind, ReceiptTable.sha256 == sha256)
        contents[kind] = session.scalars(query).one()
    return Tables.of(contents, whole=[kind for kind, _, whole in chosen if whole])
