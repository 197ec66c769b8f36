"""The rows that searches look in, made from stored versions; everything in the caller's transaction, but `catch_up`.

Two versions of a resource can be found: the newest final one, and a newer valid draft, if its note was not converted again
since. A deleted resource has none. Writers of one resource wait for each other (`lock`), so that the last one's rows stay.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import orjson
from sqlalchemy import Result, TextClause, func, select, text, update
from sqlalchemy.orm import Session

from app.db import Database
from app.store.parameters import PARAMETERS
from app.store.values import Moment, Values, cut, values_of
from models import Resource

log = logging.getLogger(__name__)

Key = tuple[str, str]
"""Type and id."""

CHUNK = 300
"""Resources of one transaction of `catch_up`; others who write them wait for it, some tenths of a second."""
# Any fixed number that no other advisory lock of ours uses (migrations/env.py, app/dispatch.py).
INDEX_LOCK = 4_841_009
_TOGETHER = "index.together"
RELEASE_SYSTEM = "http://hyojun.local/fhir/CodeSystem/release"
DRAFT_TAG = {"system": RELEASE_SYSTEM, "code": "draft", "display": "draft"}
"""`meta.tag` of a version that no person has released, wherever it is shown."""

_FOUND = text("""
SELECT r.type, r.id, r.version, r.content, r.state = 'final' AS released, r.version = n.version AS newest,
    COALESCE(r.released_at, r.created_at) AS last_updated
FROM unnest(CAST(:types AS text[]), CAST(:ids AS text[])) AS k (type, id)
JOIN LATERAL (
    SELECT version, method FROM resources d WHERE d.type = k.type AND d.id = k.id AND d.valid
    AND (d.state = 'final' OR NOT EXISTS (
        SELECT FROM note_reviews v WHERE v.run_id = d.run_id AND v.superseded_at IS NOT NULL))
    ORDER BY version DESC LIMIT 1
) n ON n.method <> 'DELETE'
LEFT JOIN LATERAL (
    SELECT version FROM resources f WHERE f.type = k.type AND f.id = k.id AND f.state = 'final'
    ORDER BY version DESC LIMIT 1
) f ON true
JOIN resources r ON r.type = k.type AND r.id = k.id AND r.version IN (n.version, f.version)
""")
_DELETE = text("""
DELETE FROM search_entries e USING unnest(CAST(:types AS text[]), CAST(:ids AS text[])) AS k (type, id)
WHERE e.type = k.type AND e.id = k.id
""")
_MARK = text("""
UPDATE resources r SET indexed = true FROM unnest(CAST(:types AS text[]), CAST(:ids AS text[])) AS k (type, id)
WHERE r.type = k.type AND r.id = k.id AND NOT r.indexed
""")
_ENTRIES = {
    "type": "text", "id": "text", "version": "bigint", "last_updated": "timestamptz", "released": "boolean", "newest": "boolean",
    "patient": "text", "dated_from": "timestamptz", "dated_until": "timestamptz",
}  # fmt: skip
VALUE_COLUMNS = {
    "search_tokens": {
        "entry": "bigint", "param": "integer", "system": "text", "code": "text", "dated_from": "timestamptz",
        "dated_until": "timestamptz",
    },
    "search_dates": {"entry": "bigint", "param": "integer", "starts": "timestamptz", "ends": "timestamptz"},
    "search_references": {
        "entry": "bigint", "param": "integer", "target_type": "text", "target_id": "text", "url": "text",
    },
    "search_strings": {"entry": "bigint", "param": "integer", "folded": "text", "exact": "text"},
    "search_quantities": {
        "entry": "bigint", "param": "integer", "low": "numeric", "high": "numeric", "system": "text", "code": "text",
        "unit": "text",
    },
}  # fmt: skip
"""The columns of the rows that `rows_of` gives, and their types."""


_COLUMNS = {"search_entries": _ENTRIES, **VALUE_COLUMNS}


def _insert_of(table: str, columns: dict[str, str]) -> TextClause:
    # As JSON: a note has hundreds of rows, and psycopg writes an array's elements one by one.
    typed = ", ".join(f"{name} {type_}" for name, type_ in columns.items())
    insert = f"INSERT INTO {table} ({', '.join(columns)}) SELECT * FROM json_to_recordset(CAST(:rows AS json)) AS r ({typed})"  # noqa: S608
    return text(f"{insert} RETURNING key, type, id, version" if table == "search_entries" else insert)


_INSERT = {table: _insert_of(table, columns) for table, columns in _COLUMNS.items()}


def lock(session: Session, keys: Iterable[Key]) -> None:
    """Until the end of the transaction nobody else writes these resources. All keys of a transaction at once: one order
    everywhere keeps two from waiting for each other."""
    names = [f"{type_}/{id_}" for type_, id_ in sorted(set(keys))]
    locks = "SELECT count(pg_advisory_xact_lock(hashtextextended(k, 0))) FROM unnest(CAST(:names AS text[])) AS k"
    session.execute(text(locks), {"names": names})


@contextmanager
def together(session: Session) -> Iterator[None]:
    """What is written inside is indexed at its end, all at once; until then searches do not find it."""
    waiting: set[Key] = set()
    session.info[_TOGETHER] = waiting
    try:
        yield
    finally:
        del session.info[_TOGETHER]
    renew(session, waiting)


def renew(session: Session, keys: Iterable[Key]) -> None:
    """Makes the rows of these resources say what the database holds now; to be called after every change of a version."""
    wanted = sorted({key for key in keys if key[0] in PARAMETERS})
    if (waiting := session.info.get(_TOGETHER)) is not None:
        waiting.update(wanted)
        return
    if not wanted:
        return
    lock(session, wanted)
    session.flush()
    named = {"types": [key[0] for key in wanted], "ids": [key[1] for key in wanted]}
    session.execute(_DELETE, named)
    found = session.execute(_FOUND, named).all()
    if found:
        made = [values_of(row.content if row.released else as_draft(row.content)) for row in found]
        _insert(session, found, made)
    session.execute(_MARK, named)


def as_draft(content: dict[str, Any]) -> dict[str, Any]:
    """The content with the tag that every served draft carries."""
    meta = content.get("meta") or {}
    return content | {"meta": meta | {"tag": [*meta.get("tag", ()), DRAFT_TAG]}}


def _insert(session: Session, found: Sequence[Any], made: Sequence[Values]) -> None:
    entries = _write(session, "search_entries", [entry_of(row, values) for row, values in zip(found, made, strict=True)])
    keys = {(row.type, row.id, row.version): row.key for row in entries}
    rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in VALUE_COLUMNS}
    for row, values in zip(found, made, strict=True):
        for name, own in rows_of(keys[row.type, row.id, row.version], values).items():
            rows[name] += own
    for name, own in rows.items():
        if own:
            _write(session, name, own)


def entry_of(row: Any, values: Values) -> tuple[Any, ...]:
    """The columns of a `SearchEntry` but its key, in their order."""
    stated = (row.type, row.id, row.version, row.last_updated, row.released, row.newest)
    return (*stated, cut(values.patient), *_main_date(values))


def rows_of(entry: int, values: Values) -> dict[str, list[tuple[Any, ...]]]:
    """Rows by table, their columns as in `VALUE_COLUMNS`."""
    return {
        "search_tokens": [(entry, *row, *_main_date(values)) for row in values.tokens],
        "search_dates": [
            (entry, number, _bound(start, "-infinity"), _bound(end, "infinity")) for number, start, end in values.dates
        ],
        "search_references": [(entry, *row) for row in values.references],
        "search_strings": [(entry, *row) for row in values.strings],
        "search_quantities": [(entry, *row) for row in values.quantities],
    }


def _main_date(values: Values) -> tuple[str, str | None]:
    if values.dated is None:
        return "-infinity", None
    return _bound(values.dated[0], "-infinity"), _bound(values.dated[1], "infinity")


def _bound(moment: Moment, infinite: str) -> str:
    return infinite if moment is None else moment.isoformat()


def _write(session: Session, table: str, rows: Sequence[tuple[Any, ...]]) -> Result[Any]:
    columns = _COLUMNS[table]
    told = orjson.dumps([dict(zip(columns, row, strict=True)) for row in rows], default=str).decode()
    return session.execute(_INSERT[table], {"rows": told})


# --- what was stored before -------------------------------------------------------------------------------------------


def behind(session: Session) -> int:
    """How many stored versions searches do not know of yet."""
    return session.scalar(select(func.count()).select_from(Resource).where(~Resource.indexed)) or 0


def forget(session: Session) -> None:
    """Every version is to be indexed anew; searches find what they found until then."""
    session.execute(update(Resource).where(Resource.indexed).values(indexed=False))


def catch_up(
    database: Database, *, stopping: Callable[[], bool] = lambda: False, told: Callable[[int], None] = lambda done: None
) -> bool:
    """Indexes what is stored and not indexed, some resources a transaction; killed, it goes on where it was.

    `told`: called with how many resources each transaction did. False: another process is at it, or it was stopped.
    """
    while not stopping():
        with database.session_scope() as session:
            if not session.scalar(select(func.pg_try_advisory_xact_lock(INDEX_LOCK))):
                return False
            waiting = select(Resource.type, Resource.id).where(~Resource.indexed)
            chosen = session.execute(waiting.order_by(Resource.type, Resource.id).limit(CHUNK)).all()
            keys = {(type_, id_) for type_, id_ in chosen}
            if not keys:
                return True
            renew(session, keys)
            # Of a type that is not stored any more nothing is searched, and it must not wait for ever.
            session.execute(_MARK, {"types": [key[0] for key in keys], "ids": [key[1] for key in keys]})
        told(len(keys))
    return False
