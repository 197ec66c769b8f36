"""The check of one claim by a worker: what it needs out of the database, and what it gives back.

    begin      the claim out of the file's bytes, the tables in use, and the chart: notes of the same patient and month
    check      the tables and the model (`app.receipt_pipeline`), with no transaction open
    complete   findings and advice take the place of what nobody has decided, in one transaction with the end of the job

A note belongs to a claim where the patient's number is the same, leading zeros aside, and its date lies in the claim's month.
"""

import io
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import ARRAY, Text, any_, func, literal, select
from sqlalchemy.orm import Session

from app import jobs, receipt_decisions, trials
from app.db import Database
from app.errors import ModelOutputError, NotFound
from app.jobs import ClaimedReceipt
from app.receipt_tables import tables_of
from app.receipts.chart import Entry
from app.receipts.tables import Tables
from app.receipts.uke import Claim, read_uke
from app.review_items import Item, find_review
from models import Job, Note, ReceiptClaim, ReceiptFile, Release, ReleasedRecord, Run
from schemas.issue import Issue, IssueType, Severity
from schemas.job import JobState
from schemas.receipt import GENERAL, Advice, Finding
from schemas.record import Record
from schemas.review import Verdict

CHART_NUMBER = 20
"""Longest カルテ番号等, in characters (記録条件仕様, レセプト共通レコード)."""


class Checked(Protocol):
    """What the checker says of a claim (`app.receipt_pipeline`). `run`: JSON values, `model` among them where one read it."""

    @property
    def findings(self) -> Sequence[Finding]: ...
    @property
    def advice(self) -> Sequence[Advice]: ...
    @property
    def run(self) -> dict[str, Any]: ...
    @property
    def issues(self) -> Sequence[Issue]: ...


Check = Callable[[Claim, Tables, Sequence[Entry]], Checked]


@dataclass(frozen=True)
class ReceiptWork:
    """A checked claim, to be stored. `tables`: `Tables.version`; `note_ids`: of the chart that was read."""

    tables: str
    findings: Sequence[Finding]
    advice: Sequence[Advice]
    run: dict[str, Any]
    issues: Sequence[Issue]
    note_ids: Sequence[str]


CheckReceipt = Callable[[UUID], ReceiptWork]
"""Checks the claim of this id (`models.ReceiptClaim`); runs with no transaction open."""


def checking(database: Database, check: Check) -> CheckReceipt:
    """The worker's function: begins, and lets `check` look at the claim. It raises what `check` raises, and NotFound for a
    claim that was deleted meanwhile."""

    def check_receipt(claim_id: UUID) -> ReceiptWork:
        with database.session_scope() as session:
            begun = begin(session, claim_id)
        checked = check(begun.claim, begun.tables, begun.entries)
        return ReceiptWork(
            begun.tables.version, checked.findings, checked.advice, checked.run, [*begun.issues, *checked.issues],
            [entry.note_id for entry in begun.entries],
        )  # fmt: skip

    return check_receipt


@dataclass(frozen=True)
class Begun:
    """`issues`: notes that were left out, and those that only their text is known of."""

    claim: Claim
    tables: Tables
    entries: list[Entry]
    issues: list[Issue]


def begin(session: Session, claim_id: UUID) -> Begun:
    """Raises: NotFound."""
    row = session.get(ReceiptClaim, claim_id)
    if row is None:
        raise NotFound(f"claim {claim_id} does not exist")
    claim = stored_claim(session, row)
    linked, issues = link_notes(session, [claim])[0]
    entries, unread = entries_of(session, linked)
    return Begun(claim, tables_of(session), entries, [*issues, *unread])


def complete(session: Session, claimed: ClaimedReceipt, work: ReceiptWork) -> None:
    """Marks the job done and stores its work: all of it in the caller's transaction, or nothing.

    Raises: Conflict if the claim on the job is void; ModelOutputError for advice that cites what is not there.
    """
    jobs.finish(session, claimed)
    claim_id = claimed.receipt_claim_id
    row = session.scalars(select(ReceiptClaim).where(ReceiptClaim.id == claim_id).with_for_update()).one()
    _check_cited(row, work)
    row.tables = work.tables
    row.findings = [finding.model_dump(mode="json") for finding in work.findings]
    row.note_ids = list(work.note_ids)
    row.run = work.run or None
    row.issues = [issue.model_dump(mode="json", exclude_none=True) for issue in work.issues]
    row.checked_at = func.now()
    session.flush()
    receipt_decisions.renew(session, claim_id, work.findings, work.advice)


def _check_cited(row: ReceiptClaim, work: ReceiptWork) -> None:
    # The grammar lets a model cite nothing else; what is stored does not rest on that alone.
    rows = {finding.row for finding in work.findings} | set(GENERAL)
    for one in work.advice:
        if not row.line <= one.line <= row.last_line:
            raise ModelOutputError("an advice is about a line of another claim")
        if one.reference not in rows:
            raise ModelOutputError("an advice cites what no table has said")
        if one.evidence is not None and one.evidence.note_id not in work.note_ids:
            raise ModelOutputError("an advice cites a note that is not of the claim")


# --- the claim --------------------------------------------------------------------------------------------------------


def stored_claim(session: Session, row: ReceiptClaim) -> Claim:
    """Out of its own bytes of the file, with the lines of the file."""
    own = func.substring(ReceiptFile.content, row.byte_start + 1, row.byte_end - row.byte_start)
    content = session.scalars(select(own).where(ReceiptFile.id == row.file_id)).one()
    (part,) = read_uke(io.BytesIO(content))
    return Claim(tuple(replace(record, line=record.line + row.line - 1) for record in part.records))


# --- the chart --------------------------------------------------------------------------------------------------------

Linked = tuple[list[str], list[Issue]]
"""Ids of notes, the oldest first, and what was left out."""


def link_notes(session: Session, claims: Sequence[Claim]) -> list[Linked]:
    """The notes of each claim. A note whose patient was born on another day is somebody else's, whatever its number."""
    wanted = {_number(claim.chart_number) for claim in claims if claim.month}
    months = [claim.month for claim in claims if claim.month]
    found: dict[str, list[tuple[str, date, date | None]]] = defaultdict(list)
    if forms := [form for number in wanted for form in _forms(number)]:
        query = (
            select(Note.id, Note.patient_id, Note.note_date, Note.patient_birth_date)
            .where(
                Note.patient_id == any_(literal(forms, ARRAY(Text))),
                Note.note_date.between(min(months), _last_day(max(months))),
            )
            .order_by(Note.note_date, Note.id)
        )
        for note_id, patient_id, written, born in session.execute(query):
            found[_number(patient_id)].append((str(note_id), written, born))
    return [_linked(claim, found.get(_number(claim.chart_number), ())) for claim in claims]


def _linked(claim: Claim, notes: Iterable[tuple[str, date, date | None]]) -> Linked:
    ids: list[str] = []
    issues: list[Issue] = []
    for note_id, written, born in notes:
        if claim.month is None or not claim.month <= written <= _last_day(claim.month):
            continue
        if born and claim.birth_date and born != claim.birth_date:
            text = f"note {note_id}: its patient was born on another day than the claim's, so that it was left out"
            issues.append(Issue(severity=Severity.WARNING, code=IssueType.CONFLICT, text=text))
        else:
            ids.append(note_id)
    return ids, issues


def _number(written: str | None) -> str:
    return (written or "").strip().lstrip("0")


def _forms(number: str) -> list[str]:
    """With all leading zeros that it may have: an index finds those, and no number without them."""
    return [number.rjust(length, "0") for length in range(len(number), CHART_NUMBER + 1)] if number else []


def _last_day(month: date) -> date:
    return (month.replace(day=1) + timedelta(days=32)).replace(day=1) - timedelta(days=1)


def entries_of(session: Session, note_ids: Sequence[str]) -> tuple[list[Entry], list[Issue]]:
    """The notes that are there, with what was read in them: as it was released, else by the decisions of the review so far.
    What a person corrected has no computed values. Of a note that is not converted there is the text, and an issue."""
    entries: list[Entry] = []
    issues: list[Issue] = []
    columns = (Note.id, Note.note_date, Note.text)
    rows = session.execute(
        select(*columns).where(Note.id.in_([UUID(note_id) for note_id in note_ids])).order_by(Note.note_date, Note.id)
    ).all()
    for note_id, written, text in rows:
        records = _records(session, note_id)
        if records is None:
            said = f"note {note_id} is not converted yet: only its words were looked at"
            issues.append(Issue(severity=Severity.WARNING, code=IssueType.INCOMPLETE, text=said))
        entries.append(Entry(str(note_id), written, text, tuple(records or ())))
    return entries, issues


def _records(session: Session, note_id: UUID) -> Sequence[Record] | None:
    results = select(Run.id).join(Job, Job.id == Run.job_id).where(Run.note_id == note_id, Job.state == JobState.DONE)
    run_id = session.scalar(results.order_by(Job.finished_at.desc(), Run.created_at.desc()).limit(1))
    if run_id is None:
        return None
    released = (
        select(ReleasedRecord.record)
        .join(Release, Release.id == ReleasedRecord.release_id)
        .where(Release.run_id == run_id, Release.withdrawn_at.is_(None))
        .order_by(ReleasedRecord.ordinal)
    )
    if records := session.scalars(released).all():
        return [Record.model_validate(record) for record in records]
    review = find_review(session, note_id)
    if review is None or review.run_id != run_id:
        return trials.records_of(session, run_id)
    return [_record(item) for item in review.items if item.verdict is not Verdict.REJECT]


def _record(item: Item) -> Record:
    if item.read is not None and item.statement == item.read.statement:
        return item.read
    codings = (item.coding,) if item.coding else ()
    return Record(statement=item.statement, display=item.statement.name.quote, codings=codings)
