"""The files that are made of what was judged of a stored claim file (`app.receipt_output`), out of the database."""

import io
from collections.abc import Iterator
from uuid import UUID

from sqlalchemy.orm import Session

from app import receipt_store
from app.receipt_output import Exported, Item, with_comments
from app.receipt_tables import tables_of
from app.receipts.describe import line_texts
from app.receipts.uke import Claim, read_uke


def judged_items(session: Session, file_id: UUID) -> Iterator[Item]:
    """Every item of the file, in its order, with what its line says by the tables in use. Raises: NotFound."""
    content = receipt_store.content(session, file_id)
    return _items(session, file_id, content)


def export_uke(session: Session, file_id: UUID, *, apply: bool = False) -> Exported:
    """The claim file with what was decided (`with_comments`). Raises: NotFound; InvalidInput with the item."""
    content = receipt_store.content(session, file_id)
    return with_comments(content, _items(session, file_id, content), apply=apply)


def _items(session: Session, file_id: UUID, content: bytes) -> Iterator[Item]:
    tables = tables_of(session)
    claims = (part for part in read_uke(io.BytesIO(content)) if isinstance(part, Claim))
    for row, items in receipt_store.judged(session, file_id):
        claim = next(claim for claim in claims if claim.line == row.line)
        texts = line_texts(claim, tables)
        for item in items:
            yield Item(
                id=str(item.id), claim=row.number, line=item.line, line_text=texts.get(item.line, ""), finding=item.finding,
                advice=item.advice, state=item.state, edited=item.edited, decided_by=item.decided_by,
                decided_at=item.decided_at,
            )  # fmt: skip
