"""What lies before somebody who judges a claim: its lines, its items, the chart; and the form in which he corrects an advice."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from app import receipt_store
from app.errors import InvalidInput, NotFound
from app.receipt_decisions import Item
from app.web.receipt_view import ReceiptShown, chart, claim_lines, page_of, shown
from app.web.review_desk import names_of
from app.web.review_forms import Sent, choice, number
from app.web.words import issue_words, said
from schemas.job import JobState
from schemas.receipt import MAX_COMMENT, Advised, Edited, ItemState

_CODE = re.compile(r"[0-9]{7}|[0-9]{9}")
_MODIFIERS = re.compile(r"[0-9]{4}(?:[ \u3000]+[0-9]{4}){0,19}")


@dataclass(frozen=True)
class ReceiptDesk:
    """`patients`: whose chart it is, by their ids in FHIR; `deciders`: names of those who decided."""

    file: receipt_store.File
    claim: receipt_store.ClaimDetail
    patients: list[str]
    deciders: Mapping[str, str]

    @property
    def items(self) -> list[Item]:
        return self.claim.items

    def item(self, id_: UUID) -> Item:
        """Raises: NotFound."""
        found = next((item for item in self.items if item.id == id_), None)
        if found is None:
            raise NotFound(f"item {id_} does not exist, or a later check took its place; load the claim again")
        return found


@dataclass(frozen=True)
class ClaimShown:
    """The head of a page. `path`, `file_path`: of the pages of the claim and its file."""

    id: str
    path: str
    file_path: str
    file: str
    number: int | None
    chart_number: str | None
    line: int
    head: str
    total: int
    open: int


@dataclass(frozen=True)
class Editor:
    """The form: what it begins with. `most`: characters of a comment."""

    item: ReceiptShown
    action: Advised
    comment: str
    code: str = ""
    modifiers: str = ""
    started: str = ""
    count: str = ""
    actions: tuple[Advised, ...] = tuple(Advised)
    most: int = MAX_COMMENT

    def __getitem__(self, name: str) -> str:
        """Of a field that only some actions want."""
        return str(getattr(self, name))


def desk(session: Session, file_id: UUID, claim_id: UUID) -> ReceiptDesk:
    """Raises: NotFound, also for a claim of another file."""
    claim = receipt_store.get_claim(session, claim_id)
    if claim.row.file_id != file_id:
        raise NotFound(f"claim {claim_id} does not exist in this file")
    return ReceiptDesk(
        receipt_store.get_file(session, file_id),
        claim,
        sorted(receipt_store.patients_of_claim(session, claim_id)),
        names_of(session, (item.decided_by for item in claim.items)),
    )


def shown_of(at: ReceiptDesk, item: Item) -> ReceiptShown:
    rows = {finding.row: finding for block in at.claim.case.blocks for finding in block.findings}
    return shown(item, rows, at.deciders.get(item.decided_by or "", ""))


def claim_values(at: ReceiptDesk, language: str) -> dict[str, Any]:
    """What the templates of a claim's page need."""
    row = at.claim.row
    items = [shown_of(at, item) for item in at.items]
    waiting = sum(item.state is ItemState.OPEN for item in at.items)
    head = ClaimShown(
        id=str(row.id), path=page_of(row.file_id, row.id), file_path=page_of(row.file_id), file=at.file.name,
        number=row.number, chart_number=row.chart_number, line=row.line, head=at.claim.case.head, total=len(items), open=waiting,
    )  # fmt: skip
    issues = [said(language, "receipt_stale_tables")] if at.claim.stale else []
    if row.job in (JobState.QUEUED, JobState.RUNNING):
        issues.append(said(language, "receipt_waits"))
    elif row.job is JobState.FAILED:
        issues.append(said(language, "receipt_job_failed", reason=row.reason or ""))
    return {
        "claim": head,
        "by_id": {item.id: item for item in items},
        "lines": claim_lines(at.claim.case, items),
        "notes": chart(at.claim.notes, at.claim.case, at.items),
        "faults": row.faults,
        "issues": issues + [issue_words(issue.text, language) for issue in at.claim.issues],
    }


def name_of_item(item: ReceiptShown, language: str) -> str:
    """As the head of its card says."""
    if item.finding is not None:
        return said(language, f"receipt_rule_{item.finding.rule}")
    return said(language, f"advised_{item.advice.action}") if item.advice else ""


# --- the form ---------------------------------------------------------------------------------------------------------


def editor_of(item: ReceiptShown) -> Editor:
    """A finding without advice begins with a question to the physician."""
    advice = item.advice
    if advice is None:
        return Editor(item, Advised.CONFIRM, "")
    code = (advice.code or "").split(" ")
    return Editor(
        item, advice.action, advice.comment, code=code[-1], modifiers=" ".join(code[:-1]), started=advice.started or "",
        count="" if advice.count is None else str(advice.count),
    )  # fmt: skip


def edited_of(form: Sent) -> Edited:
    """What the form says; of the fields those that the action wants. Raises: InvalidInput."""
    action = choice(form, "action", Advised)
    if action is None:
        raise InvalidInput("action: is missing")
    comment = " ".join(form.get("comment", "").split())
    if len(comment) > MAX_COMMENT:
        raise InvalidInput(f"comment: has more than {MAX_COMMENT} characters")
    if action is Advised.ADD_COMMENT and not comment:
        raise InvalidInput("comment: is missing")
    coded = action in (Advised.CHANGE_CODE, Advised.ADD_DISEASE)
    return Edited(
        action=action,
        comment=comment,
        code=_matching(form, "code", _CODE, "must have 7 digits, or 9") if coded else None,
        modifiers=_modifiers(form) if coded else None,
        started=_started(form) if action is Advised.ADD_DISEASE else None,
        count=_count(form) if action is Advised.CHANGE_COUNT else None,
    )


def _matching(form: Sent, name: str, wanted: re.Pattern[str], complaint: str) -> str | None:
    written = form.get(name, "").strip()
    if written and not wanted.fullmatch(written):
        raise InvalidInput(f"{name}: {complaint}")
    return written or None


def _modifiers(form: Sent) -> tuple[str, ...] | None:
    """None: as they are."""
    written = _matching(form, "modifiers", _MODIFIERS, "must be codes of 4 digits, parted by spaces")
    return tuple(written.split()) if written else None


def _started(form: Sent) -> date | None:
    written = form.get("started", "").strip()
    try:
        return date.fromisoformat(written) if written else None
    except ValueError:
        raise InvalidInput("started: must be a day as 2026-04-01") from None


def _count(form: Sent) -> int | None:
    if not form.get("count", "").strip():
        return None
    count = number(form, "count", 999)
    if count < 1:
        raise InvalidInput("count: must be at least 1; delete the line instead")
    return count
