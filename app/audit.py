"""Who did what: audit events, written in the transaction of the deed itself, and never changed."""

import hashlib
import json
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from app.errors import InvalidInput
from models import AuditEvent
from schemas.review import AuditAction

SYSTEM = "hyojun"
"""Who did what no person did."""
MAX_PERSON = 200


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
    subject: UUID,
    note_id: UUID | None = None,
    before: Any = None,
    after: Any = None,
) -> None:
    """One event. `before`, `after`: JSON values, kept as fingerprints alone; None: there was, or is, nothing."""
    session.add(
        AuditEvent(
            action=action, acted_by=by, subject=subject, note_id=note_id,
            before=fingerprint(before), after=fingerprint(after),
        )
    )  # fmt: skip
    session.flush()


def fingerprint(state: Any) -> str | None:
    """SHA-256, hexadecimal, of a JSON value in canonical form."""
    if state is None:
        return None
    canonical = json.dumps(state, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
