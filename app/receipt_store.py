"""Claim files (レセプト) that came in: taken in and looked at by the tables at once, checked by workers, shown and decided.

    take_in    `app.receipt_intake`: the file is stored with its claims and what the tables find; a job a claim waits
    recheck    the claims wait for a worker once more: tables have changed, or notes have come
    cancel     what waits or runs is given up
    decide     `app.receipt_decisions`

The tables' findings are there when `take_in` returns; the model's part is `app.receipt_work`. Everything works in the
caller's transaction.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, delete, exists, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session

from app import audit, jobs, receipt_work
from app.errors import InvalidInput, NotFound
from app.receipt_decisions import Item as Item
from app.receipt_decisions import decide as decide
from app.receipt_decisions import get_item as get_item
from app.receipt_decisions import items_of
from app.receipt_decisions import undo as undo
from app.receipt_intake import MANY
from app.receipt_intake import MAX_BYTES as MAX_BYTES
from app.receipt_intake import Taken as Taken
from app.receipt_intake import take_in as take_in
from app.receipt_tables import tables_of
from app.receipts.chart import case
from app.receipts.uke import Claim, Fault
from models import Job, Note, ReceiptClaim, ReceiptFile, ReceiptItem
from schemas.issue import Issue
from schemas.job import JobState, Progress
from schemas.receipt import Case, Finding, ItemState

_CHUNK = 500
"""Claims that are read together."""
_OPEN_JOBS = (JobState.QUEUED, JobState.RUNNING)


@dataclass(frozen=True)
class File:
    """A claim file with its figures. `faults`: of lines that belong to no claim; `claim_faults`: how many the claims have.
    `needing`: claims with open items. `progress`: of the jobs; empty where only the tables looked at it."""

    id: UUID
    name: str
    sha256: str
    institution: str | None
    claims: int
    faults: list[Fault]
    claim_faults: int
    created_at: datetime
    created_by: str
    items: int
    open: int
    needing: int
    progress: Progress


@dataclass(frozen=True)
class ClaimRow:
    """A claim as a list shows it. `chart_number` names the patient. `job`: None where no worker was asked."""

    id: UUID
    file_id: UUID
    ordinal: int
    line: int
    last_line: int
    number: int | None
    chart_number: str | None
    month: date | None
    inpatient: bool
    faults: list[Fault]
    findings: int
    notes: int
    items: int
    open: int
    checked_at: datetime | None
    job: JobState | None
    reason: str | None


@dataclass(frozen=True)
class LinkedNote:
    id: UUID
    note_date: date
    document_type: str
    department: str
    text: str


@dataclass(frozen=True)
class ClaimDetail:
    """A claim with all that there is of it. `case`: its lines in words, with what the tables found and the passages of the
    chart as it is now; `claim`: its records. `run`: of the model, None where none read it. `stale`: other tables are in use
    than those that looked at it."""

    row: ClaimRow
    claim: Claim
    case: Case
    items: list[Item]
    notes: list[LinkedNote]
    issues: list[Issue]
    run: dict[str, Any] | None
    stale: bool


# --- the work on it ---------------------------------------------------------------------------------------------------


def recheck(session: Session, *, file_id: UUID | None = None, claim_id: UUID | None = None) -> int:
    """Queues the claims of a file, or one claim, for another check; one that waits or runs is left as it is. How many are
    queued. What was decided stays. Raises: NotFound; InvalidInput unless one of both is named."""
    if (file_id is None) == (claim_id is None):
        raise InvalidInput("name a file or a claim")
    if file_id is not None:
        _require(session, ReceiptFile, file_id)
        mine = ReceiptClaim.file_id == file_id
    else:
        _require(session, ReceiptClaim, claim_id)
        mine = ReceiptClaim.id == claim_id
    count = session.scalar(select(func.count()).select_from(ReceiptClaim).where(mine)) or 0
    of_mine = Job.receipt_claim_id.in_(select(ReceiptClaim.id).where(mine))
    session.execute(
        delete(Job).where(of_mine, Job.state.not_in(_OPEN_JOBS)).execution_options(synchronize_session=False)
    )
    idle = ~exists().where(Job.receipt_claim_id == ReceiptClaim.id)
    priority = jobs.BATCH if count > MANY else jobs.INTERACTIVE
    chosen = select(func.gen_random_uuid(), ReceiptClaim.id, literal(priority)).where(mine, idle)
    queued = pg_insert(Job).from_select(["id", "receipt_claim_id", "priority"], chosen).on_conflict_do_nothing()
    return len(session.scalars(queued.returning(Job.id)).all())


def cancel(session: Session, file_id: UUID, reason: str = "cancelled on request") -> int:
    """Gives up what waits or runs of the file; what the tables found stays. How many jobs. Raises: NotFound."""
    _require(session, ReceiptFile, file_id)
    cancelled = (
        update(Job)
        .where(_of_file(file_id), jobs.may_become(JobState.CANCELLED))
        .values(state=JobState.CANCELLED, reason=reason, finished_at=func.now(), lease_until=None, fence=Job.fence + 1)
        .returning(Job.id)
    )
    return len(session.scalars(cancelled.execution_options(synchronize_session=False)).all())


def progress(session: Session, file_id: UUID) -> Progress:
    """Counts of the file's jobs. Raises: NotFound."""
    _require(session, ReceiptFile, file_id)
    return _progress(session, [file_id]).get(file_id, Progress())


def _progress(session: Session, file_ids: Sequence[UUID]) -> dict[UUID, Progress]:
    query = (
        select(ReceiptClaim.file_id, Job.state, func.count())
        .join(Job, Job.receipt_claim_id == ReceiptClaim.id)
        .where(ReceiptClaim.file_id.in_(file_ids))
        .group_by(ReceiptClaim.file_id, Job.state)
    )
    counts: dict[UUID, dict[str, int]] = {}
    for file_id, state, count in session.execute(query):
        counts.setdefault(file_id, {})[state] = count
    return {file_id: Progress(**of_file) for file_id, of_file in counts.items()}


def _of_file(file_id: UUID) -> ColumnElement[bool]:
    return Job.receipt_claim_id.in_(select(ReceiptClaim.id).where(ReceiptClaim.file_id == file_id))


def _require(session: Session, model: type[ReceiptFile] | type[ReceiptClaim], id_: UUID | None) -> None:
    if session.scalar(select(model.id).where(model.id == id_)) is None:
        raise NotFound(f"{'claim file' if model is ReceiptFile else 'claim'} {id_} does not exist")


# --- to look at -------------------------------------------------------------------------------------------------------


def get_file(session: Session, file_id: UUID) -> File:
    """Raises: NotFound."""
    found = _files(session, select(ReceiptFile).where(ReceiptFile.id == file_id))
    if not found:
        raise NotFound(f"claim file {file_id} does not exist")
    return found[0]


def list_files(session: Session, *, limit: int = 50, before: datetime | None = None) -> list[File]:
    """The newest first; `before`: only those that came in earlier."""
    query = select(ReceiptFile).order_by(ReceiptFile.created_at.desc(), ReceiptFile.id).limit(limit)
    return _files(session, query if before is None else query.where(ReceiptFile.created_at < before))


def content(session: Session, file_id: UUID) -> bytes:
    """The file as it came. Raises: NotFound."""
    found = session.scalar(select(ReceiptFile.content).where(ReceiptFile.id == file_id))
    if found is None:
        raise NotFound(f"claim file {file_id} does not exist")
    return found


def _faults(stored: Sequence[dict[str, Any]]) -> list[Fault]:
    return [Fault(**fault) for fault in stored]


def _files(session: Session, query: Select[ReceiptFile]) -> list[File]:
    rows = session.scalars(query.execution_options(populate_existing=True)).all()
    ids = [row.id for row in rows]
    open_item = ReceiptItem.state == ItemState.OPEN
    items = (
        select(
            ReceiptClaim.file_id, func.count(), func.count().filter(open_item),
            func.count(ReceiptItem.claim_id.distinct()).filter(open_item),
        )
        .join(ReceiptItem, ReceiptItem.claim_id == ReceiptClaim.id)
        .where(ReceiptClaim.file_id.in_(ids))
        .group_by(ReceiptClaim.file_id)
    )  # fmt: skip
    counted = {file_id: (total, left, needing) for file_id, total, left, needing in session.execute(items)}
    faults = select(ReceiptClaim.file_id, func.sum(func.jsonb_array_length(ReceiptClaim.faults)))
    faults = faults.where(ReceiptClaim.file_id.in_(ids)).group_by(ReceiptClaim.file_id)
    broken: dict[UUID, int] = {file_id: int(count) for file_id, count in session.execute(faults)}
    states = _progress(session, ids)
    files = []
    for row in rows:
        total, left, needing = counted.get(row.id, (0, 0, 0))
        files.append(File(
            row.id, row.name, row.sha256, row.institution, row.claims, _faults(row.faults), broken.get(row.id, 0),
            row.created_at, row.created_by, total, left, needing, states.get(row.id, Progress()),
        ))  # fmt: skip
    return files


def claims_page(
    session: Session, file_id: UUID, after: int | None = None, limit: int = 50, only_needing: bool = False
) -> list[ClaimRow]:
    """In the order of the file, behind the claim with the ordinal `after`. `only_needing`: with an open item. Another order,
    and other choices, has `app.receipt_queue`. Raises: NotFound."""
    _require(session, ReceiptFile, file_id)
    chosen = [ReceiptClaim.file_id == file_id]
    if only_needing:
        chosen.append(exists().where(ReceiptItem.claim_id == ReceiptClaim.id, ReceiptItem.state == ItemState.OPEN))
    if after is not None:
        chosen.append(ReceiptClaim.ordinal > after)
    return _claim_rows(session, chosen, limit)


def _claim_rows(session: Session, chosen: Sequence[ColumnElement[bool]], limit: int) -> list[ClaimRow]:
    of_claim = ReceiptItem.claim_id == ReceiptClaim.id
    total = select(func.count()).where(of_claim).scalar_subquery()
    left = select(func.count()).where(of_claim, ReceiptItem.state == ItemState.OPEN).scalar_subquery()
    query = (
        select(
            ReceiptClaim.id, ReceiptClaim.file_id, ReceiptClaim.ordinal, ReceiptClaim.line, ReceiptClaim.last_line,
            ReceiptClaim.number, ReceiptClaim.chart_number, ReceiptClaim.month, ReceiptClaim.inpatient, ReceiptClaim.faults,
            func.jsonb_array_length(ReceiptClaim.findings).label("findings"),
            func.jsonb_array_length(ReceiptClaim.note_ids).label("notes"), total.label("items"), left.label("open"),
            ReceiptClaim.checked_at, Job.state.label("job"), Job.reason,
        )
        .outerjoin(Job, Job.receipt_claim_id == ReceiptClaim.id)
        .where(*chosen)
        .order_by(ReceiptClaim.ordinal)
        .limit(limit)
    )  # fmt: skip
    rows = session.execute(query).mappings()
    return [
        ClaimRow(**{**row, "faults": _faults(row["faults"]), "job": JobState(row["job"]) if row["job"] else None}) for row in rows
    ]


def get_claim(session: Session, claim_id: UUID) -> ClaimDetail:
    """Raises: NotFound."""
    stored = session.get(ReceiptClaim, claim_id, populate_existing=True)
    if stored is None:
        raise NotFound(f"claim {claim_id} does not exist")
    (row,) = _claim_rows(session, [ReceiptClaim.id == claim_id], 1)
    tables, claim = tables_of(session), receipt_work.stored_claim(session, stored)
    entries, _ = receipt_work.entries_of(session, stored.note_ids)
    findings = [Finding.model_validate(finding) for finding in stored.findings]
    notes = select(Note).where(Note.id.in_([UUID(note_id) for note_id in stored.note_ids]))
    return ClaimDetail(
        row=row,
        claim=claim,
        case=case(claim, findings, tables, entries),
        items=items_of(session, [claim_id]),
        notes=[
            LinkedNote(note.id, note.note_date, note.document_type, note.department, note.text)
            for note in session.scalars(notes.order_by(Note.note_date, Note.id))
        ],
        issues=[Issue.model_validate(issue) for issue in stored.issues],
        run=stored.run,
        stale=stored.tables != tables.version,
    )


def judged(session: Session, file_id: UUID) -> Iterator[tuple[ClaimRow, list[Item]]]:
    """All claims of the file that have items, in its order, with flat memory: for what is written of it. Raises: NotFound."""
    _require(session, ReceiptFile, file_id)
    after = -1
    any_item = exists().where(ReceiptItem.claim_id == ReceiptClaim.id)
    while rows := _claim_rows(
        session, [ReceiptClaim.file_id == file_id, ReceiptClaim.ordinal > after, any_item], _CHUNK
    ):
        of_claims: dict[UUID, list[Item]] = {row.id: [] for row in rows}
        for item in items_of(session, list(of_claims)):
            of_claims[item.claim_id].append(item)
        yield from ((row, of_claims[row.id]) for row in rows)
        after = rows[-1].ordinal


def patients_of_claim(session: Session, claim_id: UUID) -> set[str]:
    """FHIR ids of the Patients that an audit event about the claim names: those of its notes, and of its chart number.
    Raises: NotFound."""
    row = session.execute(
        select(ReceiptClaim.chart_number, ReceiptClaim.note_ids).where(ReceiptClaim.id == claim_id)
    ).one_or_none()
    if row is None:
        raise NotFound(f"claim {claim_id} does not exist")
    found = audit.patients_of(session, [], local=row.chart_number or None)
    for note_id in row.note_ids:
        found |= audit.patients_of(session, [], note_id=UUID(note_id))
    return found
