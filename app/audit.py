"""Who did what, and who looked at what: audit events, written in the transaction of the deed itself, and never changed.

Each row holds the hash of the row before it, so that a row that was changed, deleted or put in later is found, whoever did
it: `verify` reads the chain from its beginning. What was deleted at its end shows against a head that was noted down
elsewhere (`hyojun audit head`). Writers wait for each other from the end of their transactions to their commits.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, event, func, select, text, tuple_
from sqlalchemy.orm import Session, SessionTransaction

from app.errors import InvalidInput, Unavailable
from models import AuditEvent, Resource, SearchEntry
from schemas.access import Principal
from schemas.review import AuditAction, AuditOutcome

SYSTEM = "hyojun"
"""Who did what no person did."""
ANONYMOUS = "anonymous"
"""Who asked without saying who."""
MAX_PERSON = 200
MAX_IDS = 1_000
"""Ids named in one event; a search tells at most so many."""
# Any fixed number that no other advisory lock of ours uses (migrations/env.py, app/dispatch.py).
AUDIT_LOCK = 4_841_010
START = "0" * 64
"""What the first row of the chain holds in place of a hash."""

_CHUNK = 1_000
"""Rows that are read from the database at a time."""
_PENDING = "audit"
_COLUMNS = tuple(c.name for c in AuditEvent.__table__.columns if c.name != "hash")


def person(by: str) -> str:
    """`by` as it is stored. Raises: InvalidInput for what cannot be a person's id."""
    named = by.strip()
    if not 0 < len(named) <= MAX_PERSON or not named.isprintable():
        raise InvalidInput(f"who does it must be named in 1 to {MAX_PERSON} printable characters")
    return named


def record(
    session: Session,
    action: AuditAction,
    *,
    by: str,
    subject: UUID | None = None,
    note_id: UUID | None = None,
    before: Any = None,
    after: Any = None,
    sha256: str | None = None,
    **further: Any,
) -> None:
    """One event, appended when the transaction commits. `before`, `after`: JSON values, kept as fingerprints alone; None:
    there was, or is, nothing. `sha256`: of a file that is there after, instead of `after`. `further`: columns of
    `models.AuditEvent` by their names. The transaction must not be one of REPEATABLE READ, which cannot see the newest row."""
    if not session.in_transaction():
        session.begin()
    values = {"action": action, "acted_by": by, "subject": subject, "note_id": note_id}
    values |= {"before": fingerprint(before), "after": sha256 or fingerprint(after), **further}
    within = session.get_nested_transaction() or session.get_transaction()
    session.info.setdefault(_PENDING, []).append((within, values))


def record_access(
    session: Session,
    who: Principal | str,
    action: AuditAction,
    *,
    type_: str | None = None,
    ids: Iterable[str] = (),
    patients: Iterable[str] = (),
    query_names: Iterable[str] = (),
    outcome: AuditOutcome | str = AuditOutcome.SUCCESS,
    note_id: UUID | None = None,
    **further: Any,
) -> None:
    """Somebody saw or changed patient data, or tried to. `ids`: ours, or Type/id; `patients`: FHIR ids of Patients;
    `query_names`: names of parameters, without values. `who`: a principal, or a name as in `AuditEvent.acted_by`."""
    record(
        session, action, by=who if isinstance(who, str) else who.id, note_id=note_id, type=type_,
        ids=_listed(ids), patients=_listed(patients), query_names=_listed(query_names),
        outcome=AuditOutcome(outcome), **further,
    )  # fmt: skip


def patients_of(
    session: Session, names: Sequence[tuple[str, str]], *, note_id: UUID | None = None, local: str | None = None
) -> set[str]:
    """FHIR ids of the Patients of resources (type and id), of a note, and of whom a sender calls `local`."""
    found = {id_ for type_, id_ in names if type_ == "Patient"}
    if others := [name for name in names if name[0] != "Patient"]:
        of = tuple_(SearchEntry.type, SearchEntry.id).in_(others)
        found.update(filter(None, session.scalars(select(SearchEntry.patient).where(of))))
    written = select(Resource.id).where(Resource.type == "Patient").distinct()
    if note_id is not None:
        found.update(session.scalars(written.where(Resource.note_id == note_id)))
    if local is not None:
        found.update(session.scalars(written.where(Resource.patient_id == local)))
    return found


def _listed(names: Iterable[str]) -> list[str] | None:
    return sorted(set(names))[:MAX_IDS] or None


def fingerprint(state: Any) -> str | None:
    """SHA-256, hexadecimal, of a JSON value in canonical form."""
    if state is None:
        return None
    canonical = json.dumps(state, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


# --- the chain --------------------------------------------------------------------------------------------------------


def begin_chain(connection: Connection) -> None:
    """For the migration: the first row of the chain. Its `after` is the fingerprint of all rows that were there before."""
    former, count = _digest(_rows(connection, AuditEvent.hash.is_(None)))
    start = {"action": AuditAction.CHAIN, "acted_by": SYSTEM, "after": former if count else None}
    _insert(connection, [start], START)


@event.listens_for(Session, "before_commit")
def _append(session: Session) -> None:
    # As late as can be: behind the lock comes the commit alone, so nobody waits for anything but that.
    pending = session.info.get(_PENDING)
    if not pending or session.in_nested_transaction():  # the end of a savepoint is no commit
        return
    session.flush()
    connection = session.connection()
    connection.execute(select(func.pg_advisory_xact_lock(AUDIT_LOCK)))
    _insert(connection, [values for _, values in pending])
    session.info.pop(_PENDING)


@event.listens_for(Session, "after_soft_rollback")
def _forget(session: Session, ended: SessionTransaction) -> None:
    # What was undone, a savepoint too, has not happened.
    if _PENDING in session.info:
        session.info[_PENDING] = [one for one in session.info[_PENDING] if ended not in _around(one[0])]


def _around(transaction: SessionTransaction | None) -> Iterator[SessionTransaction]:
    while transaction is not None:
        yield transaction
        transaction = transaction.parent


# Both belong to the hash, so they are drawn before the row is there.
_DRAW = text(
    "SELECT nextval(pg_get_serial_sequence('audit_events', 'id')), clock_timestamp(),"
    " (SELECT hash FROM audit_events ORDER BY id DESC LIMIT 1) FROM generate_series(1, :count)"
)
_INSERT = text(
    f"INSERT INTO audit_events ({', '.join(_COLUMNS)}, hash) OVERRIDING SYSTEM VALUE"  # noqa: S608
    f" VALUES ({', '.join(':' + name for name in _COLUMNS)}, :hash)"
)


def _insert(connection: Connection, events: Sequence[Mapping[str, Any]], previous: str | None = None) -> None:
    drawn = connection.execute(_DRAW, {"count": len(events)}).all()
    previous = previous or drawn[0][2]
    if previous is None:
        raise Unavailable("the audit log has lost its last row; `hyojun audit verify` says more")
    rows = []
    for (number, now, _), values in zip(drawn, events, strict=True):
        row = dict.fromkeys(_COLUMNS) | {name: _plain(value) for name, value in values.items()}
        row |= {"id": number, "recorded_at": now, "previous": previous}
        previous = row["hash"] = _hash(row)
        rows.append(row)
    connection.execute(_INSERT, rows)


def _hash(row: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(row)).hexdigest()


def _canonical(row: Mapping[str, Any]) -> bytes:
    """Canonical JSON of what the row says. Empty columns are left out: a later version may add some."""
    said = {name: _plain(row[name], whole=True) for name in _COLUMNS if row[name] is not None}
    return json.dumps(said, ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode()


def _plain(value: Any, *, whole: bool = False) -> Any:
    """`whole`: instants and ids too."""
    if isinstance(value, str):
        return str(value)  # of a closed list: its value
    if whole and isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    return str(value) if whole and isinstance(value, UUID) else value


def _rows(connection: Connection, *conditions: ColumnElement[bool]) -> Iterator[Mapping[str, Any]]:
    """In the order of the chain, read as a stream."""
    query = select(AuditEvent.__table__).where(*conditions).order_by(AuditEvent.id)
    with connection.execute(query, execution_options={"yield_per": _CHUNK}) as found:
        for row in found.mappings():
            yield {str(name): value for name, value in row.items()}


def _digest(rows: Iterable[Mapping[str, Any]]) -> tuple[str, int]:
    digest, count = hashlib.sha256(), 0
    for row in rows:
        digest.update(_canonical(row) + b"\n")
        count += 1
    return digest.hexdigest(), count


@dataclass(frozen=True)
class Head:
    """The last row of the chain, to be noted down where nobody who can write to the database can."""

    id: int
    hash: str

    def __str__(self) -> str:
        return f"{self.id}:{self.hash}"

    @classmethod
    def of(cls, written: str) -> "Head":
        """Raises: InvalidInput."""
        number, _, digest = written.strip().partition(":")
        if not (number.isascii() and number.isdigit() and len(digest) == 64):
            raise InvalidInput("a head of the audit log is written NUMBER:HASH, as `hyojun audit head` prints it")
        return cls(int(number), digest)


@dataclass(frozen=True)
class Verified:
    """`checked` rows of the chain, after `former` ones from before it. `broken`: the first row that is not what was written,
    and `reason`; None: none is."""

    checked: int
    former: int
    head: Head | None
    broken: int | None = None
    reason: str = ""


def head(session: Session) -> Head | None:
    """None: there is no chain."""
    found = select(AuditEvent.id, AuditEvent.hash).where(AuditEvent.hash.is_not(None)).order_by(AuditEvent.id.desc())
    row = session.execute(found.limit(1)).one_or_none()
    return None if row is None else Head(row.id, str(row.hash))


def verify(
    session: Session,
    *,
    since: datetime | None = None,
    noted: Head | None = None,
    checked: Callable[[int], None] = lambda rows: None,
) -> Verified:
    """Reads the chain, from its beginning or from the first row at or after `since`, with flat memory. `noted`: a head from
    earlier, which must still be in it: without one, rows that were deleted at the end are not missed, and somebody who
    may write to the database could write the whole chain anew. `checked`: told now and then how many rows are read."""
    connection = session.connection()
    chained: ColumnElement[bool] = AuditEvent.hash.is_not(None)
    if since is not None:
        first = select(func.min(AuditEvent.id)).where(AuditEvent.recorded_at >= since, chained)
        chained = AuditEvent.id >= first.scalar_subquery()
    count, former, last = 0, 0, None
    for row in _rows(connection, chained):
        if count % _CHUNK == 0:
            checked(count)
        reason = ""
        if last is not None:
            reason = "" if row["previous"] == last.hash else f"a row between {last.id} and it is missing, or was put in"
        elif since is None:
            former, reason = _beginning(connection, row)
        if row["hash"] is None or (not reason and _hash(row) != row["hash"]):
            reason = reason or "it was changed, or put in"
        if reason:
            return Verified(count, former, last, row["id"], reason)
        count, last = count + 1, Head(row["id"], row["hash"])
    if last is None and since is None:
        return Verified(0, 0, None, 0, "the chain has no beginning")
    if noted is not None and session.scalar(select(AuditEvent.hash).where(AuditEvent.id == noted.id)) != noted.hash:
        return Verified(count, former, last, noted.id, "the noted head is gone: rows were deleted, or all written anew")
    return Verified(count, former, last)


def _beginning(connection: Connection, row: Mapping[str, Any]) -> tuple[int, str]:
    """How many rows there are from before the chain, and what is wrong with its first `row` or with them."""
    if row["action"] != AuditAction.CHAIN or row["previous"] != START:
        return 0, "the rows before it, from the beginning of the chain, are missing"
    digest, count = _digest(_rows(connection, AuditEvent.hash.is_(None)))
    if row["after"] != (digest if count else None):
        return count, "the rows from before the chain are not those that were there when it began"
    return count, ""


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wanted:
    """Which events; None: any. `patient`: the FHIR id; `since` included, `until` not."""

    by: str | None = None
    action: AuditAction | None = None
    type: str | None = None
    patient: str | None = None
    note_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> Iterator[ColumnElement[bool]]:
        for found, value in (
            (AuditEvent.acted_by, self.by), (AuditEvent.action, self.action), (AuditEvent.type, self.type),
            (AuditEvent.note_id, self.note_id),
        ):  # fmt: skip
            if value is not None:
                yield found == value
        if self.patient is not None:
            yield AuditEvent.patients.contains([self.patient])
        if self.since is not None:
            yield AuditEvent.recorded_at >= self.since
        if self.until is not None:
            yield AuditEvent.recorded_at < self.until


def newest(session: Session, wanted: Wanted, *, count: int, before: int | None = None) -> list[dict[str, Any]]:
    """At most `count` events by their columns, the newest first; `before`: only those with lower numbers."""
    query = select(AuditEvent.__table__).where(*wanted.conditions()).order_by(AuditEvent.id.desc()).limit(count)
    if before is not None:
        query = query.where(AuditEvent.id < before)
    return [{str(name): value for name, value in row.items()} for row in session.execute(query).mappings()]


def stream(session: Session, wanted: Wanted) -> Iterator[Mapping[str, Any]]:
    """All of them by their columns, the oldest first, with flat memory."""
    return _rows(session.connection(), *wanted.conditions())
