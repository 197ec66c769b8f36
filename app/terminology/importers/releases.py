"""Releases of code masters in the database: import, list, change, remove.

A release is first written as `importing`. One transaction then fills it by COPY, makes it `ready` and active, and takes
the former one out of use. What a crash leaves is `importing`: never used, and cleared by the next import. Old releases
stay, so that a run can be repeated with the tables of its time and an operator can go back.
"""

import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import orjson
from sqlalchemy import Connection, delete, func, insert, select, text, update
from sqlalchemy.exc import OperationalError

from app.db import Database
from app.errors import Conflict, InvalidInput, NotFound
from app.terminology.importers.codesystem import KIND as CODE_SYSTEM
from app.terminology.importers.codesystem import read_code_system
from app.terminology.importers.diseases import INDEX, MDFY, NMAIN, SSK_DISEASE, SSK_MODIFIER
from app.terminology.importers.drugs import GENERIC, HOT, PRICE, SSK_DRUG, USAGE_MASTER, YJ_LIST
from app.terminology.importers.files import Source, fingerprint_of, read_source, read_tables
from app.terminology.importers.jlac_jfagy import JFAGY, JLAC10_TABLE
from app.terminology.importers.layouts import Faults, Item, Layout, read_items, version_by_name, version_by_title
from app.terminology.spelling import key
from models import CodeSystemRelease, Concept, ImportState

log = logging.getLogger(__name__)

IMPORT_LOCK = 4_841_002
"""Advisory lock: one import at a time."""
LOCK_SECONDS = 600
"""How long an import waits for another; the largest takes well under a minute."""
MAX_SHRINK = 0.9
"""A release with less than this share of the concepts of the active one looks cut off."""
JAPAN = timezone(timedelta(hours=9))

LAYOUTS = {
    layout.kind: layout
    for layout in (
        NMAIN, MDFY, INDEX, SSK_DISEASE, SSK_MODIFIER, SSK_DRUG, PRICE, JFAGY, JLAC10_TABLE, HOT, YJ_LIST, GENERIC, USAGE_MASTER,
    )
}  # fmt: skip
KINDS = (*LAYOUTS, CODE_SYSTEM)
"""What can be imported from files; the starter tables are loaded by `load_starter`."""

Progress = Callable[[str, int, int], None]
"""Called with a step, what is done of it, and all of it; 0 of 0 when that is not known."""


@dataclass(frozen=True)
class Imported:
    """What an import did with one code system. `already`: the same file was there; nothing was changed."""

    system: str
    version: str
    kind: str
    concepts: int
    retired: int
    active: bool
    already: bool = False


@dataclass(frozen=True)
class Report:
    releases: tuple[Imported, ...]
    skipped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Release:
    """A stored release, for a list."""

    id: UUID
    system: str
    version: str
    kind: str
    ready: bool
    active: bool
    concepts: int
    created_at: datetime


def import_files(
    database: Database,
    kind: str,
    paths: Sequence[Path],
    *,
    version: str | None = None,
    force: bool = False,
    today: date | None = None,
    progress: Progress = lambda step, done, total: None,
) -> Report:
    """Checks the file (several only where a publisher cuts one table into several) and makes its content the active release.

    `version`: by which name the release goes; default, what the file, its name, or else its fingerprint says. `force`: fewer concepts than expected are
    taken. `today`: which rows have run out; default, today in Japan.

    Raises: InvalidInput (layout, damage, too few concepts; nothing is stored), Conflict (the version is there with
    other content, or another import is running).
    """
    if kind not in KINDS:
        raise InvalidInput(f"unknown kind; there are {', '.join(KINDS)}, starter")
    if not paths:
        raise InvalidInput(f"{kind}: no file is given")
    progress("reading", 0, 0)
    sources = [read_source(path) for path in paths]
    skipped: Counter[str] = Counter()
    items, stated = _read(kind, sources, skipped, force, today or datetime.now(JAPAN).date())
    fingerprint = fingerprint_of(sources)
    release_version = version or stated or fingerprint[:12]
    items = _once(kind, items, skipped)
    items = _inherit(items)
    by_system: dict[str, list[Item]] = {}
    for item in items:
        by_system.setdefault(item.system, []).append(item)
    if not items:
        raise InvalidInput(f"{kind}: no concept is in the file. Nothing was stored.")
    with _locked(database) as connection:
        _clear(connection)
        if known := _already(connection, fingerprint, by_system, kind):
            return Report(known, skipped)
        _check_versions(connection, release_version, by_system)
        if not force:
            _check_sizes(connection, kind, by_system)
        return Report(_store(connection, kind, release_version, fingerprint, by_system, progress), dict(skipped))


def _read(
    kind: str, sources: Sequence[Source], skipped: Counter[str], force: bool, today: date
) -> tuple[list[Item], str | None]:
    if kind == CODE_SYSTEM:
        if len(sources) > 1:
            raise InvalidInput(f"{kind}: one file at a time")
        read = read_code_system(sources[0], skipped, force=force)
        return read.items, read.version or _package_version(sources[0].path) or version_by_name(sources[0].name)
    layout = LAYOUTS[kind]
    tables = [table for source in sources for table in read_tables(source)]
    try:
        items = read_items(layout, tables, today, skipped)
    except InvalidInput as error:
        likely = [other.kind for other in LAYOUTS.values() if other is not layout and _fits(other, tables, today)]
        if not likely:
            raise
        raise InvalidInput(f"{error} It looks like the kind {' or '.join(likely)}.") from None
    return items, version_by_title(layout, tables) or max((v for s in sources if (v := (layout.version or version_by_name)(s.name))), default=None)


def _fits(layout: Layout, tables: Sequence[Any], today: date) -> bool:
    try:
        return bool(read_items(layout, tables, today, Counter(), limit=20))
    except InvalidInput:
        return False


def _package_version(path: Path) -> str | None:
    """A FHIR package keeps its version in package.json beside its resources."""
    try:
        version = orjson.loads((path.parent / "package.json").read_bytes())["version"]
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
        return None
    return version if isinstance(version, str) and version else None


def _once(kind: str, items: list[Item], skipped: Counter[str]) -> list[Item]:
    """Each concept once. Raises: InvalidInput when a code has two names and its layout does not allow it."""
    several = kind in LAYOUTS and LAYOUTS[kind].several
    gather = kind in LAYOUTS and LAYOUTS[kind].gather
    kept: dict[tuple[Any, ...], Item] = {}
    names: dict[tuple[Any, ...], list[str]] = {}
    faults = Faults(kind)
    for item in items:
        same: tuple[Any, ...] = (item.system, item.code)
        if several:
            same = (*same, item.codings, item.display)
        first = kept.setdefault(same, item)
        if first is item:
            continue
        if gather:
            names.setdefault(same, list(first.names)).extend(item.names)
            continue
        if first.display == item.display:
            skipped["code that stood above"] += 1
            if first.retired and not item.retired:
                kept[same] = item
        elif first.retired != item.retired:
            skipped["withdrawn row of a code that is in use"] += 1
            kept[same] = first if item.retired else item
        else:
            faults.add(item.where, f"has the code of {first.where} and another name")
    if faults.count:
        raise faults.refuse()
    return [
        replace(item, names=tuple(dict.fromkeys(names[same]))) if same in names else item for same, item in kept.items()
    ]


def _inherit(items: list[Item]) -> list[Item]:
    """The name of a withdrawn code becomes a name of the code that took its place, through at most five moves."""
    by_code = {(item.system, item.code): item for item in items}
    gained: dict[tuple[str, str], list[str]] = {}
    for item in items:
        heir = item
        for _ in range(5):
            if not heir.retired:
                break
            heir = by_code.get((heir.system, heir.facts.get("successor", "")), heir)
        if heir is not item and not heir.retired:
            gained.setdefault((heir.system, heir.code), []).append(item.display)
    if not gained:
        return items
    return [
        replace(item, names=tuple(dict.fromkeys((*item.names, *names))))
        if (names := gained.get((item.system, item.code))) and not item.retired
        else item
        for item in items
    ]


@contextmanager
def _locked(database: Database) -> Iterator[Connection]:
    """A connection of its own that holds the lock over several transactions; a killed process loses it with its socket.

    Raises: Conflict when another import holds it for too long.
    """
    with database.engine.connect() as connection:
        connection.detach()  # closed at the end, not pooled: with it goes the lock, whatever happened
        try:
            connection.execute(text(f"SET lock_timeout = '{LOCK_SECONDS}s'"))
            connection.execute(select(func.pg_advisory_lock(IMPORT_LOCK)))
            connection.execute(text("RESET lock_timeout"))
            connection.commit()
        except OperationalError:
            connection.rollback()
            raise Conflict("another import is running; try again when it has ended") from None
        yield connection


def _clear(connection: Connection) -> None:
    """Takes away what an import that was cut short has left; under the lock nobody else is importing."""
    found = connection.execute(
        delete(CodeSystemRelease).where(CodeSystemRelease.state == ImportState.IMPORTING).returning(CodeSystemRelease.id)
    ).all()
    connection.commit()
    if found:
        log.warning("unfinished imports cleared", extra={"releases": len(found)})


def _already(
    connection: Connection, fingerprint: str, by_system: Mapping[str, list[Item]], kind: str
) -> tuple[Imported, ...]:
    """The releases that this very file made before, if it made all of them; else nothing."""
    columns = (CodeSystemRelease.system, CodeSystemRelease.version, CodeSystemRelease.concepts, CodeSystemRelease.active)
    rows = connection.execute(
        select(*columns)
        .where(CodeSystemRelease.fingerprint == fingerprint, CodeSystemRelease.kind == kind)
        .where(CodeSystemRelease.state == ImportState.READY)
    ).all()
    connection.commit()
    if {row.system for row in rows} != set(by_system):
        return ()
    return tuple(
        Imported(
            row.system, row.version, kind, row.concepts, sum(item.retired for item in by_system[row.system]), row.active, True
        )
        for row in sorted(rows)
    )


def _check_versions(connection: Connection, version: str, by_system: Mapping[str, list[Item]]) -> None:
    taken = connection.scalars(
        select(CodeSystemRelease.system)
        .where(CodeSystemRelease.version == version, CodeSystemRelease.system.in_(by_system))
        .order_by(CodeSystemRelease.system)
    ).all()
    connection.commit()
    if taken:
        raise Conflict(
            f"version {version} of {', '.join(taken)} is there with other content. Nothing was stored. "
            "Give this file another name with --version, or remove the stored one first."
        )


def _check_sizes(connection: Connection, kind: str, by_system: Mapping[str, list[Item]]) -> None:
    found, least = sum(map(len, by_system.values())), LAYOUTS[kind].minimum if kind in LAYOUTS else 1
    if found < least:
        raise InvalidInput(
            f"{kind}: {found} concepts; this master has at least {least}. Is the file cut off? "
            "Nothing was stored. --force takes it all the same."
        )
    active = connection.execute(
        select(CodeSystemRelease.system, CodeSystemRelease.version, CodeSystemRelease.concepts).where(
            CodeSystemRelease.active, CodeSystemRelease.system.in_(by_system)
        )
    ).all()
    connection.commit()
    for system, version, concepts in active:
        if (new := len(by_system[system])) < concepts * MAX_SHRINK:
            raise InvalidInput(
                f"{kind}: {new} concepts of {system}; the active release {version} has {concepts}. Is the file cut off? "
                "Nothing was stored. --force takes it all the same."
            )


def _store(
    connection: Connection,
    kind: str,
    version: str,
    fingerprint: str,
    by_system: Mapping[str, list[Item]],
    progress: Progress,
) -> tuple[Imported, ...]:
    ids = {system: uuid4() for system in sorted(by_system)}
    connection.execute(
        insert(CodeSystemRelease),
        [
            {
                "id": release, "system": system, "version": version, "fingerprint": fingerprint, "kind": kind,
                "concepts": len(by_system[system]), "state": ImportState.IMPORTING, "active": False,
            }
            for system, release in ids.items()
        ],
    )  # fmt: skip
    connection.commit()
    total = sum(map(len, by_system.values()))
    done = 0
    for system, release in ids.items():
        for row in _copy(connection, release, by_system[system], version):
            done += row
            progress("storing", done, total)
    # COPY began the transaction on the driver's connection; it is this one, and ends below.
    _activate(connection, list(ids.values()))
    # Else searches are planned for the table as it was, until autovacuum comes by.
    connection.execute(text("ANALYZE concepts"))
    connection.commit()
    log.info("terminology imported", extra={"kind": kind, "version": version, "concepts": total})
    return tuple(
        Imported(system, version, kind, len(items), sum(item.retired for item in items), True)
        for system, items in sorted(by_system.items())
    )


def _copy(connection: Connection, release: UUID, items: Sequence[Item], version: str) -> Iterator[int]:
    """COPY of the concepts; yields how many more were sent."""
    driver: Any = connection.connection.dbapi_connection  # psycopg's own
    statement = "COPY concepts (release_id, code, display, kana, properties, search_text) FROM STDIN"
    with driver.cursor() as cursor, cursor.copy(statement) as copy:
        for number, item in enumerate(items, 1):
            copy.write_row(_row(release, item, version))
            if number % 1000 == 0 or number == len(items):
                yield number % 1000 or 1000


def _row(release: UUID, item: Item, version: str) -> tuple[Any, ...]:
    codings = []
    for system, code, display in item.codings:
        coding = {"system": system, "code": code, "display": display}
        # The version of this release says nothing about the version of another master's code.
        codings.append(coding | {"version": version} if system == item.system else coding)
    properties = {"kind": item.kind, "names": item.names, "codings": codings, "facts": item.facts}
    searched = " ".join(dict.fromkeys(map(key, item.names)))
    return release, item.code, item.display, item.kana or None, orjson.dumps(properties).decode(), searched


def _activate(connection: Connection, releases: Sequence[UUID]) -> None:
    """Makes the releases ready and active, and takes what was active of their systems out of use; the caller commits."""
    chosen = select(CodeSystemRelease.system).where(CodeSystemRelease.id.in_(releases))
    connection.execute(
        update(CodeSystemRelease)
        .where(CodeSystemRelease.active, CodeSystemRelease.system.in_(chosen))
        .values(active=False)
    )
    connection.execute(
        update(CodeSystemRelease)
        .where(CodeSystemRelease.id.in_(releases))
        .values(state=ImportState.READY, active=True)
    )


def list_releases(database: Database) -> list[Release]:
    """All stored releases, by system, the newest import first."""
    with database.engine.connect() as connection:
        rows = connection.execute(
            select(CodeSystemRelease.__table__).order_by(
                CodeSystemRelease.system, CodeSystemRelease.created_at.desc(), CodeSystemRelease.version
            )
        ).all()
    return [
        Release(
            row.id, sys.intern(row.system), row.version, row.kind, row.state == ImportState.READY, row.active, row.concepts,
            row.created_at,
        )
        for row in rows
    ]  # fmt: skip


def use_release(database: Database, system: str, version: str) -> list[Release]:
    """Makes a stored release the active one again. `system`: its URI, or a KIND for all systems that one file of it fills.

    Raises: NotFound, Conflict (it was never finished).
    """
    with _locked(database) as connection:
        chosen = _find(connection, system, version)
        if not all(release.ready for release in chosen):
            raise Conflict(f"the import of {version} was never finished; import the file again")
        _activate(connection, [release.id for release in chosen])
        connection.commit()
    log.info("terminology release changed", extra={"system": system, "version": version})
    return [replace(release, active=True) for release in chosen]


def remove_release(database: Database, system: str, version: str) -> list[Release]:
    """Deletes a stored release and its concepts. Runs that used it can then no longer be repeated.

    Raises: NotFound, Conflict (it is the active one).
    """
    with _locked(database) as connection:
        chosen = _find(connection, system, version)
        if any(release.active for release in chosen):
            raise Conflict(f"{version} is the active release; make another one active first")
        connection.execute(delete(Concept).where(Concept.release_id.in_([release.id for release in chosen])))
        connection.execute(delete(CodeSystemRelease).where(CodeSystemRelease.id.in_([release.id for release in chosen])))
        connection.commit()
    log.info("terminology release removed", extra={"system": system, "version": version})
    return chosen


def _find(connection: Connection, system: str, version: str) -> list[Release]:
    rows = connection.execute(
        select(CodeSystemRelease.__table__)
        .where(CodeSystemRelease.version == version)
        .where((CodeSystemRelease.system == system) | (CodeSystemRelease.kind == system))
        .order_by(CodeSystemRelease.system)
    ).all()
    connection.commit()
    if not rows:
        raise NotFound("no release of that system and version is stored; `hyojun terminology list` shows what is there")
    return [
        Release(
            row.id, row.system, row.version, row.kind, row.state == ImportState.READY, row.active, row.concepts, row.created_at
        )
        for row in rows
    ]
