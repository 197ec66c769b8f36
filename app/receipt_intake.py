"""A claim file (レセプト) on its way in: its bytes, its claims by their place in it, what the tables find in each, and a job
a claim for what a worker looks at. Works in the caller's transaction.
"""

import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import IO, Any
from uuid import UUID, uuid4

from sqlalchemy import func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session

from app import audit, jobs
from app.errors import InvalidInput, TooLong
from app.receipt_decisions import joined, rows_of
from app.receipt_tables import tables_of
from app.receipt_work import link_notes
from app.receipts.check import check
from app.receipts.tables import Tables
from app.receipts.uke import Claim, Fault, read_uke
from models import Job, ReceiptClaim, ReceiptFile, ReceiptItem

MAX_BYTES = 200_000_000
"""Largest claim file unless the caller says otherwise: some 100,000 claims."""
MANY = 50
"""A file of more claims than this is a batch: interactive jobs go before its."""
_CHUNK = 500
"""Claims that are stored together."""
_RE = re.compile(rb"^RE(?=[,\r\n]|\Z)", re.MULTILINE)


@dataclass(frozen=True)
class Taken:
    """`created` is False where the same bytes were there before. `findings`: of the tables. `faults`: broken fields."""

    file_id: UUID
    created: bool
    claims: int
    findings: int
    faults: int


def take_in(
    session: Session, file: IO[bytes], name: str, by: str, *, max_bytes: int = MAX_BYTES, rules_only: bool = False
) -> Taken:
    """Stores a claim file, has the tables look at each claim, and queues a job for each; `rules_only`: queues none.

    Idempotent: the same bytes again, also at the same time, give the first file and no new job. A broken record is a fault of
    its claim; the others go on. Memory is that of the file's bytes and a few hundred claims.
    Raises: TooLong; InvalidInput for a file without any claim; the caller's transaction must end with it.
    """
    content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise TooLong(f"the file is larger than {max_bytes:,} bytes; send it in parts")
    claims = sum(1 for _ in _RE.finditer(content))
    if not claims:
        raise InvalidInput("the file holds no claim: no line begins with RE")
    digest = hashlib.sha256(content).hexdigest()
    row = {"name": _printable(name), "sha256": digest, "content": content, "created_by": audit.person(by)}
    added = pg_insert(ReceiptFile).values(row).on_conflict_do_nothing(index_elements=["sha256"])
    file_id = session.scalar(added.returning(ReceiptFile.id))
    if file_id is None:
        return _former(session, digest)
    priority = None if rules_only else jobs.BATCH if claims > MANY else jobs.INTERACTIVE
    taken = _Intake(session, file_id, tables_of(session), priority)
    taken.read(content)
    if not taken.claims:
        raise InvalidInput("the file holds no claim: no record RE can be read")
    session.execute(
        update(ReceiptFile)
        .where(ReceiptFile.id == file_id)
        .values(claims=taken.claims, institution=taken.institution, faults=_plain(taken.others))
        .execution_options(synchronize_session=False)
    )
    return Taken(file_id, True, taken.claims, taken.findings, taken.faults + len(taken.others))


def _former(session: Session, sha256: str) -> Taken:
    file = session.execute(
        select(ReceiptFile.id, ReceiptFile.claims, func.jsonb_array_length(ReceiptFile.faults).label("faults"))
        .where(ReceiptFile.sha256 == sha256)
    ).one()  # fmt: skip
    findings, faults = session.execute(
        select(
            func.sum(func.jsonb_array_length(ReceiptClaim.findings)), func.sum(func.jsonb_array_length(ReceiptClaim.faults))
        ).where(ReceiptClaim.file_id == file.id)
    ).one()  # fmt: skip
    return Taken(file.id, False, file.claims, int(findings or 0), file.faults + int(faults or 0))


class _Intake:
    """One file on its way in. `priority` None: no jobs."""

    def __init__(self, session: Session, file_id: UUID, tables: Tables, priority: int | None) -> None:
        self._session, self._file_id, self._tables, self._priority = session, file_id, tables, priority
        self.claims = self.findings = self.faults = 0
        self.others: list[Fault] = []
        self.institution: str | None = None

    def read(self, content: bytes) -> None:
        waiting: list[tuple[Claim, int, int]] = []
        start = 0
        for part in read_uke(io.BytesIO(content)):
            end = start + sum(len(record.raw or b"") for record in part.records)
            if isinstance(part, Claim):
                waiting.append((part, start, end))
            else:
                self.others += part.faults
                if part.record.kind == "IR":
                    self.institution = part.record.values["institution"]
            start = end
            if len(waiting) == _CHUNK:
                self._store(waiting)
                waiting = []
        if waiting:
            self._store(waiting)

    def _store(self, claims: Sequence[tuple[Claim, int, int]]) -> None:
        linked = link_notes(self._session, [claim for claim, _, _ in claims])
        rows, items, work = [], [], []
        for (claim, start, end), (note_ids, issues) in zip(claims, linked, strict=True):
            claim_id, found, faults = uuid4(), check(claim, self._tables), claim.faults
            rows.append({
                "id": claim_id, "file_id": self._file_id, "ordinal": self.claims, "line": claim.line,
                "last_line": claim.records[-1].line, "byte_start": start, "byte_end": end, "number": claim.number,
                "chart_number": claim.chart_number, "month": claim.month, "inpatient": claim.inpatient,
                "faults": _plain(faults), "tables": self._tables.version,
                "findings": [finding.model_dump(mode="json") for finding in found], "note_ids": note_ids,
                "issues": [issue.model_dump(mode="json", exclude_none=True) for issue in issues],
            })  # fmt: skip
            items += rows_of(claim_id, joined(found, ()))
            if self._priority is not None:
                work.append({"id": uuid4(), "receipt_claim_id": claim_id, "priority": self._priority})
            self.claims += 1
            self.findings += len(found)
            self.faults += len(faults)
        for model, made in ((ReceiptClaim, rows), (ReceiptItem, items), (Job, work)):
            if made:
                self._session.execute(insert(model), made)


def _plain(faults: Sequence[Fault]) -> list[dict[str, Any]]:
    return [asdict(fault) for fault in faults]


def _printable(name: str) -> str:
    return "".join(character for character in name if character.isprintable())[:200] or "RECEIPTC.UKE"
