"""Bulk exports (FHIR Bulk Data Access 2.0.0): which versions of which resources a client gets, and their text, line by line.

An export is a list of versions, written in one transaction that sees one state of the database. The text is read from the
stored versions when it is fetched: versions never change, so every fetch of a file gives the same bytes, no copy of patient
data lies about, and any process can answer. A thread of a process that was asked about the export prepares it; a killed one
leaves nothing behind, and whoever is asked next begins again.

What is purged after the export was prepared is missing from its files.
"""

import logging
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import parse_qsl
from uuid import UUID

from sqlalchemy import CursorResult, Text, delete, func, insert, literal, or_, select, text, tuple_, update
from sqlalchemy import cast as cast_
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session, aliased

from app import fhir
from app.db import Database
from app.errors import Forbidden, HyojunError, InvalidInput, NotFound, TooMany
from app.jobs import now_plus
from app.store import index, search, versions
from app.store.parameters import PARAMETERS
from app.store.values import values_of
from app.store.versions import Version
from models import Export, ExportEntry, ExportState, Resource, SearchEntry
from schemas.access import Principal
from schemas.bulk import ExportFile, ExportLevel, FileKind, Selection

log = logging.getLogger(__name__)

FILE_LINES = 100_000
"""Most lines of one file; a larger type comes in several, which a client can fetch side by side."""
CHUNK_LINES = 200
"""Lines in memory at once while a file is fetched. No transaction is open between two chunks: a slow client holds no
connection and keeps no old row alive."""
OPEN_EXPORTS = 10
"""Exports that one client may have in preparation."""
PATIENT_TYPES = frozenset({"Patient", *(type_ for type_, found in PARAMETERS.items() if "patient" in found)})
"""What can be about a patient, and so be in Patient/$export: where the parameter `patient` leads to one."""


@dataclass(frozen=True)
class FoundFile:
    """A file of an export, with what its text is made from."""

    export_id: UUID
    file: ExportFile
    warnings: tuple[str, ...]


# --- what a client asks for -------------------------------------------------------------------------------------------


def request(session: Session, selection: Selection, url: str, who: Principal, *, keep_hours: float) -> UUID:
    """Notes the export down; `Preparer.start` prepares it. Raises: NotFound for a Group that is not there; InvalidInput for
    a type filter that cannot be read; Forbidden for one that looks at a type that `who` may not search; TooMany."""
    for type_ in selection.types:
        for query in _queries(selection, type_):
            search.selected(query, who)
    if selection.level is ExportLevel.GROUP:
        _members(session, selection, who)
    # Counted by one request after the other.
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"exports of {who.id}", 0))))
    theirs = select(func.count()).select_from(Export).where(Export.requested_by == who.id, Export.expires_at > func.now())
    if (session.scalar(theirs.where(Export.state == ExportState.ACCEPTED)) or 0) >= OPEN_EXPORTS:
        raise TooMany(f"{OPEN_EXPORTS} exports of this client are being prepared; DELETE one, or wait", seconds=30)
    export = Export(
        requested_by=who.id,
        principal=who.model_dump(mode="json"),
        url=url,
        selection=selection.model_dump(mode="json"),
        expires_at=now_plus(keep_hours * 3600),
    )
    session.add(export)
    session.flush()
    return export.id


def status(session: Session, export_id: UUID, who: Principal) -> Export:
    """Raises: NotFound for an export that is over, or another client's."""
    export = session.scalars(
        select(Export).where(
            Export.id == export_id,
            Export.requested_by == who.id,
            Export.state != ExportState.DELETED,
            Export.expires_at > func.now(),
        )
    ).one_or_none()
    if export is None:
        raise NotFound("no such export: it is unknown, deleted or over")
    return export


def find_file(session: Session, export_id: UUID, name: str, who: Principal) -> FoundFile:
    """Raises: NotFound; Forbidden for a token that may see less than that of the request."""
    export = status(session, export_id, who)
    listed = (ExportFile.model_validate(file) for file in export.files)
    file = next((file for file in listed if file.name == name), None)
    if export.state != ExportState.DONE or file is None:
        raise NotFound("the export has no such file")
    asked = Principal.model_validate(export.principal)
    readable = file.kind is FileKind.ERROR or who.may(file.type, "r")
    if not readable or (asked.drafts and not who.drafts):
        raise Forbidden("this token may see less than the one of the request")
    return FoundFile(export_id, file, Selection.model_validate(export.selection).warnings)


def drop(session: Session, export_id: UUID, who: Principal) -> None:
    """From now on there is no such export; its preparation ends in vain. Raises: NotFound."""
    export = status(session, export_id, who)
    session.execute(update(Export).where(Export.id == export.id).values(state=ExportState.DELETED))


def sweep(session: Session) -> None:
    """Clears away what was deleted, and what is over."""
    over = Export.expires_at <= func.now()
    session.execute(delete(Export).where(over | (Export.state == ExportState.DELETED)))


# --- preparation --------------------------------------------------------------------------------------------------------


def prepare(
    database: Database, export_id: UUID, progress: Callable[[int, int], None], file_lines: int = FILE_LINES
) -> None:
    """Writes the list of versions, and marks the export as done, in one transaction. Nothing happens where another process
    is at it, or it is deleted. `progress`: types done, types in all.

    Raises: HyojunError where it cannot be done; OperationalError, InterfaceError where the database fails.
    """
    with database.session_scope() as session:
        at = session.execute(text(_TRANSACTION_TIME)).scalar_one()
    with database.session_scope() as session:
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        # Whoever dies loses his connection, and with it the lock.
        mine = func.pg_try_advisory_xact_lock(func.hashtextextended(f"export {export_id}", 0))
        if not session.scalar(select(mine)) or index.behind(session):
            return
        export = session.get(Export, export_id)
        if export is None or export.state != ExportState.ACCEPTED:
            return
        selection = Selection.model_validate(export.selection)
        who = Principal.model_validate(export.principal)
        members = _members(session, selection, who)
        files: list[ExportFile] = []
        for done, type_ in enumerate(selection.types):
            progress(done, len(selection.types))
            count = _insert(session, export_id, type_, selection, who, members)
            files += _files(type_, FileKind.OUTPUT, count, file_lines)
            if selection.since is not None:
                count = _insert_deleted(session, export_id, type_, selection, members)
                files += _files(type_, FileKind.DELETED, count, file_lines)
        if selection.warnings:
            files.append(
                ExportFile(
                    name="errors-1", kind=FileKind.ERROR, type="OperationOutcome", first=0, count=len(selection.warnings)
                )
            )
        # Where a client has deleted it meanwhile, this fails and takes everything back.
        session.execute(
            update(Export)
            .where(Export.id == export_id)
            .values(
                state=ExportState.DONE,
                transaction_at=at,
                files=[file.model_dump(mode="json") for file in files],
                finished_at=func.clock_timestamp(),
            )
        )


# A version is dated by the start of its transaction, which may commit later than a version dated after it. What this export
# does not see was written by a transaction that is running now, or begins later; so the time given to the client, from which
# he asks for the next export, is before the start of every one that runs. It is read before the export's own snapshot; the
# second is for a transaction that has its date already, and does not show it yet. Transactions of other database roles do not
# show their start: all our processes must use one role.
_TRANSACTION_TIME = """
SELECT least(now(), min(xact_start)) - interval '1 second' FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


def _files(type_: str, kind: FileKind, lines: int, file_lines: int) -> Iterator[ExportFile]:
    mark = "-deleted" if kind is FileKind.DELETED else ""
    for n, first in enumerate(range(0, lines, file_lines), start=1):
        count = min(file_lines, lines - first)
        yield ExportFile(name=f"{type_}{mark}-{n}", kind=kind, type=type_, first=first, count=count)


def _insert(
    session: Session, export_id: UUID, type_: str, selection: Selection, who: Principal, members: Sequence[str] | None
) -> int:
    """Lists the versions of one type; how many there are."""
    chosen = SearchEntry.type == type_, SearchEntry.newest if who.drafts else SearchEntry.released
    found = select(SearchEntry.id, SearchEntry.version, SearchEntry.released).where(*chosen)
    if selection.level is not ExportLevel.SYSTEM:
        found = found.where(SearchEntry.patient.is_not(None) if members is None else SearchEntry.patient == func.any(cast_(members, ARRAY(Text))))
    if selection.since is not None:
        found = found.where(SearchEntry.last_updated > selection.since)
    queries = _queries(selection, type_)
    if queries:
        matched = (search.selected(query, who).subquery() for query in queries)
        version = tuple_(SearchEntry.id, SearchEntry.version)
        found = found.where(or_(*(version.in_(select(one.c.id, one.c.version)) for one in matched)))
    columns = (
        literal(export_id), literal(False), literal(type_), func.row_number().over(order_by=SearchEntry.id) - 1,
        SearchEntry.id, SearchEntry.version, ~SearchEntry.released,
    )  # fmt: skip
    writing = insert(ExportEntry).from_select(_COLUMNS, found.with_only_columns(*columns))
    return cast(CursorResult[Any], session.execute(writing.execution_options(preserve_rowcount=True))).rowcount


def _insert_deleted(
    session: Session, export_id: UUID, type_: str, selection: Selection, members: Sequence[str] | None
) -> int:
    """Lists what was deleted since, whatever a type filter says: it cannot be searched any more."""
    newest, before = aliased(Resource), aliased(Resource)
    same = (newest.type == before.type) & (newest.id == before.id)
    later = select(Resource.version).where(
        Resource.type == newest.type, Resource.id == newest.id, Resource.version > newest.version
    )
    deletions = (
        select(newest.id, newest.version, before.content)
        .join(before, same & (before.version == newest.version - 1))
        .where(
            newest.type == type_, newest.method == "DELETE", ~later.exists(),
            func.coalesce(newest.released_at, newest.created_at) > selection.since,
        )
        .order_by(newest.id)
        .execution_options(yield_per=CHUNK_LINES)
    )  # fmt: skip
    known = None if members is None else frozenset(members)
    count = 0
    for part in session.execute(deletions).partitions():
        rows = [
            {"export_id": export_id, "deleted": True, "type": type_, "ordinal": 0, "id": row.id, "version": row.version}
            for row in part
            if selection.level is ExportLevel.SYSTEM or _about(row.content, known)
        ]
        for row in rows:
            row["ordinal"] = count
            count += 1
        if rows:
            session.execute(insert(ExportEntry), rows)
    return count


def _about(content: dict[str, Any], members: frozenset[str] | None) -> bool:
    patient = values_of(content).patient
    return patient is not None and (members is None or patient in members)


def _members(session: Session, selection: Selection, who: Principal) -> list[str] | None:
    """The ids of the patients that the export is about; None: of all. Raises: NotFound."""
    if selection.level is not ExportLevel.GROUP:
        return None if selection.patients is None else list(selection.patients)
    assert selection.group is not None
    # Clients ask for scopes of the types that they fetch, not for that of the Group; it shows itself in no other way here.
    group = versions.read(session, "Group", selection.group, who)
    references = [
        member["entity"].get("reference", "")
        for member in (group.content or {}).get("member", ())
        if not member.get("inactive", False)
    ]
    found = {reference.removeprefix("Patient/") for reference in references if reference.startswith("Patient/")}
    return sorted(found if selection.patients is None else found.intersection(selection.patients))


def _queries(selection: Selection, type_: str) -> list[search.Query]:
    """Raises: InvalidInput, also for parameters that say how a result is shown and not what it is."""
    return [_query(type_, filter_.query) for filter_ in selection.filters if filter_.type == type_]


def _query(type_: str, written: str) -> search.Query:
    stated = parse_qsl(written, keep_blank_values=True)
    query = search.parse(type_, stated, strict=True)
    if not query.criteria or len(query.criteria) != len(stated):
        raise InvalidInput("_typeFilter: takes parameters that choose resources, and no others")
    return query


_COLUMNS = ["export_id", "deleted", "type", "ordinal", "id", "version", "draft"]


# --- files --------------------------------------------------------------------------------------------------------------


def lines(database: Database, found: FoundFile) -> Iterator[bytes]:
    """The file's text, some lines at a time. Raises: NotFound where the export ends meanwhile: a file is whole, or broken off."""
    if found.file.kind is FileKind.ERROR:
        for warning in found.warnings:
            issue = {"severity": "warning", "code": "not-supported", "diagnostics": warning}
            yield _line({"resourceType": "OperationOutcome", "issue": [issue]})
        return
    end = found.file.first + found.file.count
    for first in range(found.file.first, end, CHUNK_LINES):
        yield _chunk(database, found, first, min(first + CHUNK_LINES, end))


def _chunk(database: Database, found: FoundFile, first: int, end: int) -> bytes:
    deleted = found.file.kind is FileKind.DELETED
    same = (Resource.type == ExportEntry.type) & (Resource.id == ExportEntry.id) & (Resource.version == ExportEntry.version)
    rows = (
        select(ExportEntry.id, ExportEntry.draft, Resource)
        .outerjoin(Resource, same)
        .where(
            ExportEntry.export_id == found.export_id,
            ExportEntry.deleted == deleted,
            ExportEntry.type == found.file.type,
            ExportEntry.ordinal >= first,
            ExportEntry.ordinal < end,
        )
        .order_by(ExportEntry.ordinal)
    )
    with database.session_scope() as session:
        listed = session.execute(rows).all()
    if len(listed) != end - first:
        raise NotFound("the export was deleted, or is over")
    if deleted:
        return b"".join(_line(_deletion(found.file.type, row.id)) for row in listed)
    # Purged since: nothing is left of it.
    return b"".join(_line(_served(row.Resource, row.draft)) for row in listed if row.Resource is not None)


def _served(row: Resource, draft: bool) -> dict[str, Any]:
    """As it was when the export was prepared: released since, it is a draft here still."""
    return Version(
        type=row.type,
        id=row.id,
        version=row.version,
        last_updated=row.created_at if draft else row.released_at or row.created_at,
        content=row.content,
        method=row.method,
        released=not draft,
        made_from_note=row.note_id is not None,
    ).served()


def _deletion(type_: str, id_: str) -> dict[str, Any]:
    """Bulk Data Access 2.0.0, deleted: Bundles of type transaction, one a line."""
    entry = {"request": {"method": "DELETE", "url": f"{type_}/{id_}"}}
    return {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}


def _line(resource: dict[str, Any]) -> bytes:
    return fhir.dumps(resource).encode() + b"\n"


# https://www.postgresql.org/docs/current/errcodes-appendix.html serialization_failure: the export was deleted by its client.
_CHANGED_MEANWHILE = "40001"


class Preparer:
    """The thread of this process that prepares exports, one after the other; it starts with the first one.

    It is a daemon: the process does not wait for it at its end, since nothing is lost with it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._waiting: dict[UUID, str] = {}
        self._queue: queue.SimpleQueue[UUID | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self, export_id: UUID) -> None:
        """Prepares it when its turn comes; once, however often it is called meanwhile."""
        with self._lock:
            if export_id in self._waiting:
                return
            self._waiting[export_id] = "waiting"
        self._hand_over(export_id)

    def sweep(self) -> None:
        """Clears away what is deleted or over, when its turn comes."""
        self._hand_over(None)

    def progress(self, export_id: UUID) -> str:
        """In words, for X-Progress."""
        with self._lock:
            return self._waiting.get(export_id, "in progress")

    def _hand_over(self, task: UUID | None) -> None:
        self._queue.put(task)
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="exports", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while True:
            task = self._queue.get()
            try:
                if task is not None:
                    self._prepare(task)
                with self._database.session_scope() as session:
                    sweep(session)
            except Exception:
                log.exception("an export was not prepared; the next look at its status tries again")
            finally:
                if task is not None:
                    with self._lock:
                        self._waiting.pop(task, None)

    def _prepare(self, export_id: UUID) -> None:
        def say(done: int, of: int) -> None:
            with self._lock:
                self._waiting[export_id] = f"{done} of {of} types"

        try:
            prepare(self._database, export_id, say)
        except (OperationalError, InterfaceError) as error:
            if getattr(error.orig, "sqlstate", None) != _CHANGED_MEANWHILE:
                raise
        except HyojunError as error:
            self._fail(export_id, str(error))
        except Exception:
            self._fail(export_id, "an error of this server; its log says more")
            raise

    def _fail(self, export_id: UUID, reason: str) -> None:
        failed = update(Export).where(Export.id == export_id, Export.state == ExportState.ACCEPTED)
        with self._database.session_scope() as session:
            session.execute(failed.values(state=ExportState.FAILED, reason=reason, finished_at=func.clock_timestamp()))
