"""Receipt checks as JSON: what `/api/receipt-checks` answers."""

from dataclasses import asdict
from typing import Any

from app.receipt_decisions import Item
from app.receipt_store import ClaimDetail, ClaimRow, File, Taken
from app.receipt_tables import Imported
from app.receipts.uke import Fault

MAX_FAULTS = 1000
"""Faults of one answer; those beyond it are counted. The claims tell their own."""


def file_json(file: File) -> dict[str, Any]:
    """`faults`: of records that belong to no claim; `claim_faults`: how many the claims have."""
    return {
        "id": file.id, "name": file.name, "sha256": file.sha256, "institution": file.institution, "claims": file.claims,
        "faults": [fault_json(fault) for fault in file.faults[:MAX_FAULTS]], "claim_faults": file.claim_faults,
        "items": file.items, "open": file.open, "needing": file.needing, "progress": file.progress.model_dump(),
        "created_at": file.created_at, "created_by": file.created_by,
    }  # fmt: skip


def taken_json(file: File, taken: Taken, faults: list[Fault]) -> dict[str, Any]:
    """The file as it was taken in. `faults`: the first `MAX_FAULTS` of all its records, of `faults_total`."""
    return file_json(file) | {
        "created": taken.created, "findings": taken.findings, "faults": [fault_json(fault) for fault in faults],
        "faults_total": taken.faults,
    }  # fmt: skip


def fault_json(fault: Fault) -> dict[str, Any]:
    """`line` and `position` of the field count from 1; `field`: its name. None: the line as a whole."""
    return {"line": fault.line, "position": fault.position, "field": fault.name, "text": fault.text}


def row_json(row: ClaimRow) -> dict[str, Any]:
    return asdict(row) | {
        "month": row.month.strftime("%Y-%m") if row.month else None,
        "faults": [fault_json(fault) for fault in row.faults[:MAX_FAULTS]],
    }


def item_json(item: Item) -> dict[str, Any]:
    return {
        "id": item.id, "claim_id": item.claim_id, "line": item.line, "state": item.state, "version": item.version,
        "finding": item.finding.model_dump(mode="json") if item.finding else None,
        "advice": item.advice.model_dump(mode="json") if item.advice else None,
        "edited": item.edited.model_dump(mode="json", exclude_none=True) if item.edited else None,
        "decided_by": item.decided_by, "decided_at": item.decided_at,
    }  # fmt: skip


def claim_json(found: ClaimDetail, *, drafts: bool) -> dict[str, Any]:
    """`drafts`: with what was read in the notes beside each line, which nobody may have released."""
    lines = [
        {
            "line": block.line, "text": block.text, "comments": block.comments,
            "passages": [passage.model_dump(mode="json") for passage in block.passages] if drafts else [],
        }
        for block in found.case.blocks
    ]  # fmt: skip
    notes = [
        {"id": note.id, "date": note.note_date, "document_type": note.document_type, "department": note.department}
        for note in found.notes
    ]
    return row_json(found.row) | {
        "head": found.case.head, "lines": lines, "items": [item_json(item) for item in found.items], "notes": notes,
        "issues": [issue.model_dump(mode="json") for issue in found.issues], "run": found.run, "stale": found.stale,
    }  # fmt: skip


def table_json(table: Imported) -> dict[str, Any]:
    return asdict(table)
