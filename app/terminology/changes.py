"""What one release of a code master has that another has not: codes added, removed and changed.

A code that stands in several rows of a release counts once, with all its names. What only says which release it is (the
version in the codings of its own system) is no change.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.errors import InvalidInput, NotFound
from models import CodeSystemRelease, ImportState


class ChangeKind(StrEnum):
    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True)
class CodeChange:
    """`before`, `after`: names, the first of the table's rows first; None where the release has no such code. `facts`: which
    further parts changed (retired, kana, names, codings, facts)."""

    kind: ChangeKind
    code: str
    before: str | None
    after: str | None
    facts: tuple[str, ...]


@dataclass(frozen=True)
class Changes:
    """`rows`: the first ones, by code; the counts are of all."""

    added: int
    removed: int
    changed: int
    rows: list[CodeChange]


# The starter has rows without a code; they go by their name. Parts are compared as sets of what the rows of a code hold.
_SIDE = """
SELECT coalesce(nullif(c.code, ''), c.display) AS code,
    string_agg(DISTINCT c.display, ' / ' ORDER BY c.display) AS display,
    bool_and(coalesce(c.properties -> 'facts' ? 'retired', false)) AS retired,
    string_agg(DISTINCT coalesce(c.kana, ''), '|' ORDER BY coalesce(c.kana, '')) AS kana,
    string_agg(DISTINCT (c.properties -> 'names')::text, '|' ORDER BY (c.properties -> 'names')::text) AS names,
    string_agg(DISTINCT codings.text, '|' ORDER BY codings.text) AS codings,
    string_agg(DISTINCT ((c.properties -> 'facts') - 'retired')::text, '|' ORDER BY ((c.properties -> 'facts') - 'retired')::text)
        AS facts
FROM concepts c, LATERAL (
    SELECT coalesce(jsonb_agg(one - 'version' - 'display'), '[]')::text AS text
    FROM jsonb_array_elements(coalesce(c.properties -> 'codings', '[]')) AS one
) AS codings
WHERE c.release_id = :{side} GROUP BY 1
"""
_PARTS = ("retired", "kana", "names", "codings", "facts")
_BOTH = f"""
WITH old AS MATERIALIZED ({_SIDE.format(side="before")}), new AS MATERIALIZED ({_SIDE.format(side="after")}),
both_sides AS (
    SELECT code, old.display AS before, new.display AS after,
        array_remove(ARRAY[{", ".join(f"CASE WHEN old.{part} IS DISTINCT FROM new.{part} THEN '{part}' END" for part in _PARTS)}], NULL) AS parts,
        CASE WHEN old.display IS NULL THEN 'added' WHEN new.display IS NULL THEN 'removed' ELSE 'changed' END AS kind
    FROM old FULL JOIN new USING (code)
),
differing AS MATERIALIZED (
    SELECT kind, code, before, after, CASE WHEN kind = 'changed' THEN parts ELSE '{{}}' END AS parts FROM both_sides
    WHERE kind <> 'changed' OR before <> after OR cardinality(parts) > 0
)
"""  # noqa: S608
_ROWS = f"""{_BOTH}
SELECT kind, code, before, after, parts FROM differing WHERE CAST(:kind AS TEXT) IS NULL OR kind = :kind
ORDER BY code COLLATE "C", kind LIMIT :count
"""  # noqa: S608
# How many of each kind, as rows without a code, before the rows: to put the tables side by side twice would take twice as long.
_COUNTED = f"""{_BOTH}
SELECT kind, NULL AS code, NULL AS before, NULL AS after, NULL AS parts, count(*) AS number FROM differing GROUP BY kind
UNION ALL
SELECT * FROM (
    SELECT kind, code, before, after, parts, NULL::bigint FROM differing WHERE CAST(:kind AS TEXT) IS NULL OR kind = :kind
    ORDER BY code COLLATE "C", kind LIMIT :count
) AS first
"""  # noqa: S608


def compare(
    session: Session, before: UUID, after: UUID, *, kind: ChangeKind | None = None, count: int = 200
) -> Changes:
    """Of two stored releases of one code system. `kind`: which rows are wanted; None: all.

    Raises: NotFound; InvalidInput for releases of two systems.
    """
    _check(session, before, after)
    found = session.execute(text(_COUNTED), {"before": before, "after": after, "kind": kind, "count": count}).all()
    counts = {row.kind: row.number for row in found if row.code is None}
    added, removed, changed = (counts.get(one, 0) for one in ChangeKind)
    return Changes(added, removed, changed, [_change(*row[:5]) for row in found if row.code is not None])


def every_change(session: Session, before: UUID, after: UUID) -> Iterator[CodeChange]:
    """All of them, by code. Raises: as `compare`, before the first."""
    _check(session, before, after)
    found = session.execute(text(_ROWS), {"before": before, "after": after, "kind": None, "count": None})
    return (_change(*row) for row in found)


def _change(kind: str, code: str, before: str | None, after: str | None, parts: list[str]) -> CodeChange:
    return CodeChange(ChangeKind(kind), code, before, after, tuple(parts))


def _check(session: Session, before: UUID, after: UUID) -> None:
    ready = CodeSystemRelease.state == ImportState.READY
    query = select(CodeSystemRelease.id, CodeSystemRelease.system).where(CodeSystemRelease.id.in_([before, after]), ready)
    known: dict[UUID, str] = dict(session.execute(query).all())
    if not {before, after} <= known.keys():
        raise NotFound("there is no such release")
    if known[before] != known[after]:
        raise InvalidInput("two releases of one code system can be compared")
