"""Versions of stored resources: reading, history, and what clients create, change and delete. In the caller's transaction.

Who is not shown drafts sees of each resource the newest final version and the former final ones; who is sees every valid one.
What a conversion wrote is a note's, and no client changes it. A deletion is a version, too: reading it raises Gone.
Every time is the database's: that of the transaction that wrote the version, or of its release.

Source of the rules: https://hl7.org/fhir/R4/http.html (read, vread, update, delete, create, history).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Row, Select, and_, func, insert, literal, null, select, true, tuple_
from sqlalchemy.orm import Session

from app.errors import Conflict, Gone, InvalidInput, NotFound, Stale
from app.store import cursors, index
from app.store.parameters import PARAMETERS, STORED_TYPES
from app.store.values import JAPAN
from models import ReleaseState, Resource
from schemas.access import Principal

MAX_COUNT = 1000
"""Most entries of a page."""
# FHIR R4 `id`: https://hl7.org/fhir/R4/datatypes.html#id
_ID = re.compile(r"[A-Za-z0-9.-]{1,64}", re.ASCII)
_OBSERVATION_VALUE = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue"
SUBSETTED = {"system": _OBSERVATION_VALUE, "code": "SUBSETTED", "display": "Resource encoded in summary mode"}
"""`meta.tag` of a part of a resource; it cannot be stored."""
LAST_UPDATED: ColumnElement[datetime] = func.coalesce(Resource.released_at, Resource.created_at)


@dataclass(frozen=True)
class Version:
    """`content`: as it was stored; None: the resource was deleted. `method`: POST, PUT or DELETE."""

    type: str
    id: str
    version: int
    last_updated: datetime
    content: dict[str, Any] | None
    method: str
    released: bool
    made_from_note: bool

    def served(self) -> dict[str, Any]:
        """The content with `meta.versionId` and `meta.lastUpdated`, and the tag of a draft. Not for a deletion."""
        assert self.content is not None
        content = self.content if self.released else index.as_draft(self.content)
        stamp = {"versionId": str(self.version), "lastUpdated": instant(self.last_updated)}
        return content | {"meta": (content.get("meta") or {}) | stamp}


@dataclass(frozen=True)
class History:
    """Newest first. `total`: of all pages. `next`: the cursor of the next page; None on the last."""

    entries: list[Version]
    total: int
    next: str | None


def instant(moment: datetime) -> str:
    """With all digits that the database keeps, so that what is asked for by it is found."""
    return moment.astimezone(JAPAN).isoformat(timespec="microseconds")


# --- reading ----------------------------------------------------------------------------------------------------------


def read(session: Session, type_: str, id_: str, who: Principal) -> Version:
    """The newest version that `who` may see. Raises: NotFound; Gone for one that was deleted."""
    query = _versions(type_, id_).where(shown_to(who)).order_by(Resource.version.desc()).limit(1)
    row = session.execute(query).one_or_none()
    if row is None:
        raise NotFound(_why_not(session, type_, id_, who))
    return _living(row)


def read_version(session: Session, type_: str, id_: str, version: int, who: Principal) -> Version:
    """Raises: NotFound; Gone for the version that says that it was deleted."""
    row = session.execute(_versions(type_, id_).where(shown_to(who), Resource.version == version)).one_or_none()
    if row is None:
        raise NotFound("no such version")
    return _living(row)


def history(
    session: Session,
    who: Principal,
    *,
    type_: str | None = None,
    id_: str | None = None,
    since: datetime | None = None,
    count: int = 50,
    cursor: str | None = None,
) -> History:
    """Versions of one resource, of a type, or of all types that `who` may read, those since an instant; newest first.

    A deletion is an entry without content. `count`: entries of the page, at most `MAX_COUNT`; 0: the total alone.
    Raises: NotFound for a resource that never was, or of which he may see nothing; InvalidInput for a bad cursor.
    """
    shown: list[ColumnElement[bool]] = [shown_to(who)]
    types = [type_] if type_ is not None else [name for name in STORED_TYPES if who.may(name, "r")]
    shown.append(Resource.type.in_(types))
    if id_ is not None:
        shown.append(Resource.id == id_)
    if id_ is not None and not session.scalar(select(func.count()).select_from(Resource).where(*shown)):
        raise NotFound("no such resource")
    if since is not None:
        shown.append(since <= LAST_UPDATED)
    total = session.scalar(select(func.count()).select_from(Resource).where(*shown)) or 0
    place = tuple_(LAST_UPDATED, Resource.type, Resource.id, Resource.version)
    query = _columns().where(*shown)
    count = min(max(count, 0), MAX_COUNT)
    if cursor is not None:
        at, *rest = cursors.read(cursor, "history", (str, str, str, int))
        query = query.where(place < tuple_(literal(_moment(at)), *(literal(value) for value in rest)))
    order = (LAST_UPDATED.desc(), Resource.type.desc(), Resource.id.desc(), Resource.version.desc())
    rows = session.execute(query.order_by(*order).limit(count + 1)).all() if count else []
    entries = [as_version(row) for row in rows[:count]]
    following = None
    if len(rows) > count and entries:
        last = entries[-1]
        following = cursors.written("history", [last.last_updated.isoformat(), last.type, last.id, last.version])
    return History(entries, total, following)


def _moment(written: str) -> datetime:
    try:
        moment = datetime.fromisoformat(written)
    except ValueError:
        raise InvalidInput("_cursor: is not one that this server gave for this request") from None
    return moment.replace(tzinfo=moment.tzinfo or JAPAN)


def shown_to(who: Principal) -> ColumnElement[bool]:
    """Which versions `who` may see."""
    return and_(Resource.valid, true() if who.drafts else Resource.state == ReleaseState.FINAL)


def find_all(session: Session, keys: Sequence[tuple[str, str, int]]) -> list[Version]:
    """Versions by type, id and number, in the order of `keys`; what is not there any more is left out."""
    if not keys:
        return []
    query = _columns().where(tuple_(Resource.type, Resource.id, Resource.version).in_(keys))
    found = {(row.type, row.id, row.version): as_version(row) for row in session.execute(query)}
    return [found[key] for key in keys if key in found]


def _columns() -> Select[Any]:
    return select(
        Resource.type, Resource.id, Resource.version, LAST_UPDATED.label("last_updated"), Resource.content,
        Resource.method, (Resource.state == ReleaseState.FINAL).label("released"),
        Resource.note_id.is_not(None).label("made_from_note"),
    )  # fmt: skip


def _versions(type_: str, id_: str) -> Select[Any]:
    return _columns().where(Resource.type == type_, Resource.id == id_)


def as_version(row: Row[Any]) -> Version:
    return Version(
        row.type, row.id, row.version, row.last_updated, row.content, row.method, row.released, row.made_from_note
    )


def _living(row: Row[Any]) -> Version:
    if row.method == "DELETE":
        raise Gone("it was deleted")
    return as_version(row)


def _why_not(session: Session, type_: str, id_: str, who: Principal) -> str:
    faulty = select(Resource.version).where(Resource.type == type_, Resource.id == id_, ~Resource.valid).limit(1)
    if who.drafts and session.scalar(faulty) is not None:
        return "held back: a check found an error in it"
    return "no such resource"


# --- clients ----------------------------------------------------------------------------------------------------------


def create(session: Session, content: dict[str, Any], who: Principal, *, id_: str | None = None) -> Version:
    """Stores a checked resource under an id of the server's, or `id_`; the content's own id, versionId and lastUpdated are
    passed over. Raises: InvalidInput for a type that is not stored; Conflict where `id_` is taken.
    """
    type_ = _type_of(content)
    if id_ is None:
        return _write(session, type_, str(uuid4()), 1, content, "POST", who)
    if not _ID.fullmatch(id_):
        raise InvalidInput("id: must be 1 to 64 of A-Z a-z 0-9 . -")
    if _current(session, type_, id_, None) is not None:
        raise Conflict(f"{type_}/{id_} is there already")
    return _write(session, type_, id_, 1, content, "POST", who)


def update(
    session: Session, type_: str, id_: str, content: dict[str, Any], who: Principal, *, if_match: int | None = None
) -> tuple[Version, bool]:
    """The next version, and whether the resource was not there before: a client may choose the id, and what was deleted
    comes back. Raises: Stale where `if_match` is not the current version; Conflict for what was made from a note;
    InvalidInput.
    """
    if _type_of(content) != type_:
        raise InvalidInput("resourceType: is not the type of the address")
    if not _ID.fullmatch(id_):
        raise InvalidInput("id: must be 1 to 64 of A-Z a-z 0-9 . -")
    current = _current(session, type_, id_, if_match)
    there = current is not None and current.method != "DELETE"
    version = current.version + 1 if current else 1
    return _write(session, type_, id_, version, content, "PUT", who), not there


def remove(session: Session, type_: str, id_: str, who: Principal, *, if_match: int | None = None) -> Version | None:
    """Deletes the resource; its history stays. None: it was not there, or deleted before. Raises: Stale, Conflict."""
    current = _current(session, type_, id_, if_match)
    if current is None or current.method == "DELETE":
        return None
    return _write(session, type_, id_, current.version + 1, None, "DELETE", who)


def _current(
    session: Session, type_: str, id_: str, if_match: int | None
) -> Row[int, str, UUID | None] | None:
    """The newest version of all, locked until the end of the transaction. Raises: Stale, Conflict."""
    index.lock(session, [(type_, id_)])
    newest = select(Resource.version, Resource.method, Resource.note_id).where(Resource.type == type_, Resource.id == id_)
    current = session.execute(newest.order_by(Resource.version.desc()).limit(1)).one_or_none()
    if current is not None and current.note_id is not None:
        raise Conflict(f"{type_}/{id_} was made from a note; amend it in its review")
    if if_match is not None and (current is None or current.method == "DELETE" or current.version != if_match):
        raise Stale(f"{type_}/{id_} is not at version {if_match}")
    return current


def _type_of(content: dict[str, Any]) -> str:
    type_ = content.get("resourceType")
    if not isinstance(type_, str) or type_ not in PARAMETERS:
        raise InvalidInput("resourceType: this server stores no resources of that type")
    return type_


def _write(
    session: Session, type_: str, id_: str, version: int, content: dict[str, Any] | None, method: str, who: Principal
) -> Version:
    stored = None if content is None else _stamped_off(content) | {"id": id_}
    session.execute(
        insert(Resource).values(
            type=type_, id=id_, version=version, ordinal=0, patient_id="", content=null() if stored is None else stored, method=method,
            written_by=who.id, state=ReleaseState.FINAL, valid=True, indexed=True,
        )
    )  # fmt: skip
    index.renew(session, [(type_, id_)])
    return as_version(session.execute(_versions(type_, id_).where(Resource.version == version)).one())


def _stamped_off(content: dict[str, Any]) -> dict[str, Any]:
    """Without what the server adds when it shows a resource. Raises: InvalidInput for a part of one."""
    meta = content.get("meta")
    if not isinstance(meta, dict):
        return content
    tags = meta.get("tag")
    tags = [tag for tag in tags if isinstance(tag, dict)] if isinstance(tags, list) else []
    if any(tag.get("system") == _OBSERVATION_VALUE and tag.get("code") == "SUBSETTED" for tag in tags):
        raise InvalidInput("meta.tag: SUBSETTED: a part of a resource cannot take its place")
    own = {name: value for name, value in meta.items() if name not in ("versionId", "lastUpdated", "tag")}
    kept = [tag for tag in tags if tag.get("system") != index.RELEASE_SYSTEM]
    if kept:
        own["tag"] = kept
    rest = {name: value for name, value in content.items() if name != "meta"}
    return rest | ({"meta": own} if own else {})
