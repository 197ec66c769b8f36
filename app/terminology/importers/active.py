"""The active releases and the hospital's own codes into a lexicon; the starter tables into their release."""

import logging
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import ColumnElement, and_, func, insert, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session

from app.errors import NotFound, Unavailable
from app.terminology.entries import Entry, LocalEntry, Part, starter_entries, starter_version
from app.terminology.importers.releases import IMPORT_LOCK, KINDS
from app.terminology.matching import Lexicon
from app.terminology.merge import merge
from app.terminology.spelling import key
from models import CodeSystemRelease, Concept, ImportState, LocalCode, TerminologyVersion
from schemas.coding import Coding
from schemas.statement import Kind

log = logging.getLogger(__name__)

STARTER_SYSTEM = "urn:hyojun:starter"
STARTER = "starter"
_KINDS: dict[str, Kind | Part] = {kind.value: kind for of in (Kind, Part) for kind in of}
# The entry that comes first names a concept in `merge`: masters before the index of their synonyms.
_ORDER = {kind: at for at, kind in enumerate([*(kind for kind in KINDS if kind != "index"), "index", STARTER])}

_STATED = """
WITH stated AS (SELECT
    coalesce((
        SELECT string_agg(concat_ws(E'\\x1f', system, version, fingerprint), E'\\x1e' ORDER BY system COLLATE "C")
        FROM code_system_releases WHERE {releases}
    ), '') AS tables,
    coalesce((
        SELECT string_agg(
            concat_ws(E'\\x1f', kind, code, display, coalesce(target_system, ''), coalesce(target_code, ''),
                coalesce(target_display, '')),
            E'\\x1e' ORDER BY kind COLLATE "C", code COLLATE "C")
        FROM local_codes WHERE {codes}
    ), '') AS local
)
SELECT encode(sha256(convert_to(tables || E'\\x1d' || local, 'UTF8')), 'hex'), encode(sha256(convert_to(tables, 'UTF8')), 'hex')
FROM stated
"""
_VERSION = _STATED.format(releases="active", codes="retired_at IS NULL")
# Rows of local codes are only added and retired, so those of any moment can be told.
_AT = "created_at <= :at AND (retired_at IS NULL OR retired_at > :at)"
_VERSION_AT = _STATED.format(releases="id = ANY(:releases)", codes=_AT)


def terminology_version(session: Session) -> str:
    """Of what is loaded now: 12 hex digits of the SHA-256 over the active releases (system, version, fingerprint) and the
    current local codes. One query of some milliseconds: a worker can ask between two jobs."""
    return _versions(session)[0]


def _versions(session: Session) -> tuple[str, str]:
    """(of all that is loaded, of the active releases alone)"""
    every, tables = session.execute(text(_VERSION)).one()
    return str(every)[:12], str(tables)[:12]


def lexicon_from(session: Session) -> Lexicon:
    """All entries of the active releases as one, and the local codes.

    Raises: Unavailable when no release is active, or when they change faster than they can be read.
    """
    for _ in range(3):
        version, tables = before = _versions(session)
        entries = merge(_entries(session))
        local = _local(session)
        if not entries:
            raise Unavailable("no terminology is loaded; run `hyojun import-terminology starter`")
        # Another process may have made another release active meanwhile; then tables of two moments are mixed here.
        if _versions(session) == before:
            return Lexicon(entries, version, local=local, tables=tables)
    raise Unavailable("the terminology is being changed; try again")


def renewed(session: Session, lexicon: Lexicon) -> Lexicon:
    """`lexicon` itself where nothing has changed since it was made; else one of what is loaded now. An edit of local codes
    takes milliseconds: the tables, which take seconds to read, stay as they are built.

    Raises: Unavailable, as `lexicon_from`.
    """
    for _ in range(3):
        version, tables = before = _versions(session)
        if version == lexicon.version:
            return lexicon
        if tables != lexicon.tables:
            return lexicon_from(session)
        local = _local(session)
        if _versions(session) == before:
            return lexicon.with_local(version, local)
    raise Unavailable("the terminology is being changed; try again")


def keep_version(session: Session, lexicon: Lexicon) -> None:
    """Writes down which releases the lexicon's version stands for, so that `lexicon_of` finds them again. Nothing happens
    where that is known, or where something was changed since the lexicon was made."""
    columns = (CodeSystemRelease.id, CodeSystemRelease.system, CodeSystemRelease.version)
    active = session.execute(select(*columns).where(CodeSystemRelease.active).order_by(CodeSystemRelease.system)).all()
    if terminology_version(session) != lexicon.version:
        return
    releases = [{"id": str(row.id), "system": row.system, "version": row.version} for row in active]
    # statement_timestamp(): what was committed before this statement is what the version was computed of.
    row = {"version": lexicon.version, "releases": releases, "local_at": func.statement_timestamp()}
    session.execute(pg_insert(TerminologyVersion).values(row).on_conflict_do_nothing())


def lexicon_of(session: Session, version: str, at: datetime) -> Lexicon:
    """The lexicon that had this version when it was in use, at `at` among other times.

    Raises: NotFound, with the reason, where it cannot be put together any more.
    """
    known = session.get(TerminologyVersion, version)
    if known is not None:
        wanted = {UUID(release["id"]): f"{release['system']} {release['version']}" for release in known.releases}
        moments = [known.local_at, at]
    else:
        # Made before versions were written down: perhaps the tables are still those in use.
        active = select(CodeSystemRelease.id, CodeSystemRelease.system).where(CodeSystemRelease.active)
        wanted, moments = {row.id: row.system for row in session.execute(active)}, [at]
    there = set(session.scalars(select(CodeSystemRelease.id).where(CodeSystemRelease.id.in_(wanted))))
    if missing := [name for id_, name in wanted.items() if id_ not in there]:
        raise NotFound(f"the release {missing[0]} was removed")
    for moment in moments:
        every = session.execute(text(_VERSION_AT), {"releases": list(wanted), "at": moment}).one()[0]
        if every[:12] == version:
            return Lexicon(merge(_entries(session, CodeSystemRelease.id.in_(wanted))), version, _local(session, moment))
    if known is None:
        raise NotFound("nobody wrote down which releases it was made of, and it is not those in use now")
    raise NotFound("the local codes of that time cannot be told any more")


def _entries(session: Session, chosen: ColumnElement[bool] | None = None) -> Iterator[Entry]:
    """Of the active releases, or of those chosen."""
    columns = (CodeSystemRelease.id, CodeSystemRelease.kind, CodeSystemRelease.system)
    releases = session.execute(select(*columns).where(CodeSystemRelease.active if chosen is None else chosen)).all()
    for release in sorted(releases, key=lambda row: (_ORDER.get(row.kind, len(_ORDER)), row.system)):
        yield from _of_release(session, release.id)


def _of_release(session: Session, release: UUID) -> Iterator[Entry]:
    # As text and through orjson: the database's own JSON reading makes decimals, of which there are none here.
    rows = session.connection().execute(
        text("SELECT display, properties::text FROM concepts WHERE release_id = :id ORDER BY id"),
        {"id": release},
        execution_options={"stream_results": True, "yield_per": 2000},
    )
    for display, properties in rows:
        if entry := _entry(display, orjson.loads(properties)):
            yield entry


def _entry(display: str, properties: dict[str, Any]) -> Entry | None:
    kind = _KINDS.get(properties["kind"] or "")
    if kind is None:
        return None
    codings = [Coding(**coding) for coding in properties["codings"]]
    return Entry(kind, display, tuple(properties["names"]), codings, properties["facts"])


def _local(session: Session, at: datetime | None = None) -> list[LocalEntry]:
    """Those in use now, or at that time."""
    current: ColumnElement[bool] = LocalCode.retired_at.is_(None)
    if at is not None:
        current = and_(LocalCode.created_at <= at, or_(current, LocalCode.retired_at > at))
    rows = session.scalars(select(LocalCode).where(current).order_by(LocalCode.kind, LocalCode.code))
    return [
        LocalEntry(
            Kind(row.kind), row.code, row.display,
            Coding(system=row.target_system, code=row.target_code, display=row.target_display)
            if row.target_system is not None and row.target_code is not None and row.target_display is not None
            else None,
        )
        for row in rows
    ]  # fmt: skip


def load_starter(session: Session) -> bool:
    """Makes the starter tables of this version the active ones; the caller's transaction makes it all or nothing.

    False: they are already. Starters of other versions stay, out of use.
    """
    version = starter_version()
    session.execute(select(func.pg_advisory_xact_lock(IMPORT_LOCK)))
    stored = session.scalars(
        select(CodeSystemRelease).where(
            CodeSystemRelease.system == STARTER_SYSTEM,
            CodeSystemRelease.version == version,
            CodeSystemRelease.state == ImportState.READY,
        )
    ).one_or_none()
    if stored is not None and stored.active:
        return False
    session.execute(
        update(CodeSystemRelease)
        .where(CodeSystemRelease.system == STARTER_SYSTEM, CodeSystemRelease.active)
        .values(active=False)
    )
    if stored is None:
        rows = [_row(entry) for entry in starter_entries()]
        stored = CodeSystemRelease(
            system=STARTER_SYSTEM, version=version, fingerprint=version, kind=STARTER, concepts=len(rows)
        )
        session.add(stored)
        session.flush()
        session.execute(insert(Concept), [row | {"release_id": stored.id} for row in rows])
        session.execute(text("ANALYZE concepts"))
    stored.state = ImportState.READY
    stored.active = True
    session.flush()
    log.info("starter terminology imported", extra={"version": version, "concepts": stored.concepts})
    return True


def _row(entry: Entry) -> dict[str, Any]:
    names, facts = list(entry.names), entry.properties
    return {
        "code": entry.codings[0].code if entry.codings else "",
        "display": entry.display,
        "kana": facts.get("kana") or None,
        "search_text": " ".join(dict.fromkeys(key(name) for name in names)),
        "properties": {
            "kind": entry.kind,
            "names": names,
            "codings": [coding.model_dump(exclude_none=True) for coding in entry.codings],
            "facts": facts,
        },
    }
