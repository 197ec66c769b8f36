"""Tables into the database, and the lexicon out of it.

The starter is one release of one code system of our own: an entry has several names and codes of several systems.
"""

import logging
from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from app.errors import Unavailable
from app.terminology.entries import Entry, starter_entries, starter_version
from app.terminology.matching import Lexicon, key
from models import CodeSystemRelease, Concept, ImportState
from schemas.coding import Coding
from schemas.statement import Kind

log = logging.getLogger(__name__)

STARTER_SYSTEM = "urn:hyojun:starter"
IMPORT_LOCK = 4_841_002
"""Advisory lock: one import at a time."""


def load_starter(session: Session) -> bool:
    """Replaces the stored starter by the one that this version ships; the caller's transaction makes it all or nothing.

    False: the same tables are there already, by fingerprint.
    """
    version = starter_version()
    session.execute(select(func.pg_advisory_xact_lock(IMPORT_LOCK)))
    stored = select(CodeSystemRelease.version).where(
        CodeSystemRelease.system == STARTER_SYSTEM, CodeSystemRelease.state == ImportState.READY
    )
    if session.scalars(stored).all() == [version]:
        return False
    session.execute(delete(CodeSystemRelease).where(CodeSystemRelease.system == STARTER_SYSTEM))
    release = CodeSystemRelease(system=STARTER_SYSTEM, version=version, fingerprint=version)
    session.add(release)
    session.flush()
    rows = [_row(entry) | {"release_id": release.id} for entry in starter_entries()]
    session.execute(insert(Concept), rows)
    release.state = ImportState.READY
    session.flush()
    log.info("starter terminology imported", extra={"version": version, "concepts": len(rows)})
    return True


def lexicon_from(session: Session) -> Lexicon:
    """All entries of the ready starter release, in the order of its tables.

    Raises: Unavailable when nothing has been imported.
    """
    release = session.scalars(
        select(CodeSystemRelease)
        .where(CodeSystemRelease.system == STARTER_SYSTEM, CodeSystemRelease.state == ImportState.READY)
        .order_by(CodeSystemRelease.created_at.desc())
        .limit(1)
    ).one_or_none()
    if release is None:
        raise Unavailable("no terminology is loaded; run `hyojun import-terminology starter`")
    columns = select(Concept.display, Concept.properties).where(Concept.release_id == release.id).order_by(Concept.id)
    entries = [_entry(display, properties) for display, properties in session.execute(columns)]
    return Lexicon(entries, release.version)


def _row(entry: Entry) -> dict[str, Any]:
    names = list(entry.names)
    return {
        "code": entry.codings[0].code if entry.codings else "",
        "display": entry.display,
        "kana": entry.properties.get("kana") or None,
        "search_text": " ".join(dict.fromkeys(key(name) for name in names)),
        "properties": {
            "kind": entry.kind,
            "names": names,
            "codings": [coding.model_dump(exclude_none=True) for coding in entry.codings],
            "facts": entry.properties,
        },
    }


def _entry(display: str, properties: dict[str, Any]) -> Entry:
    codings = tuple(Coding(**coding) for coding in properties["codings"])
    return Entry(Kind(properties["kind"]), display, tuple(properties["names"]), codings, properties["facts"])
