"""What a batch's notes became, read out of the database piece by piece: FHIR Bundles, and the SS-MIX2 storage of its patients."""

import io
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session, aliased

from app import batch_runs, fhir, patients, ssmix2
from app.db import Database
from app.errors import HyojunError
from app.fhir.origin import is_taken_back
from app.note_rows import chart_note
from app.ssmix2 import Facility
from models import BatchItem, Job, Note, ReleaseState, Resource
from schemas.batch import ItemState

PAGE = 20
"""Notes read in one transaction; with all their resources they lie in memory."""


def bundles(database: Database, batch_id: UUID, *, drafts: bool) -> Iterator[str]:
    """A line for each note that is converted, in the order of the input: a Bundle of its resources without an error. Without
    `drafts` of those that are released, and no line where none is. Raises: NotFound, before the first."""
    with database.session_scope() as session:
        batch_runs.get_batch(session, batch_id)
    return _bundles(database, batch_id, drafts)


def _bundles(database: Database, batch_id: UUID, drafts: bool) -> Iterator[str]:
    after = 0
    while True:
        with database.session_scope() as session:
            rows = session.execute(_converted(batch_id, after)).all()
            made = [fhir.dumps(bundle) + "\n" for bundle in _made(session, rows, drafts)]
        if not rows:
            return
        yield from made
        after = rows[-1][0]


def _converted(batch_id: UUID, after: int) -> Any:
    earlier = aliased(BatchItem)
    same = exists().where(
        earlier.batch_id == batch_id, earlier.note_id == BatchItem.note_id, earlier.position < BatchItem.position
    )
    return (
        select(BatchItem.position, Note, Job)
        .join(Note, Note.id == BatchItem.note_id)
        .join(Job, Job.id == BatchItem.job_id)
        .where(BatchItem.batch_id == batch_id, BatchItem.position > after, BatchItem.state == ItemState.DONE, ~same)
        .order_by(BatchItem.position)
        .limit(PAGE)
    )


def _made(session: Session, rows: Any, drafts: bool) -> Iterator[Any]:
    resources: dict[UUID | None, dict[tuple[str, str], dict[str, Any]]] = defaultdict(dict)
    query = select(Resource.job_id, Resource.type, Resource.id, Resource.content).where(
        Resource.job_id.in_([job.id for _, _, job in rows]), Resource.valid, Resource.content.is_not(None)
    )  # fmt: skip
    if not drafts:
        query = query.where(Resource.state == ReleaseState.FINAL)
    # Of what was amended or taken back in a review, the newest version.
    for job_id, type_, id_, content in session.execute(query.order_by(Resource.ordinal, Resource.version)):
        resources[job_id][type_, id_] = content
    for _, note, job in rows:
        if standing := [content for content in resources[job.id].values() if not is_taken_back(content)]:
            yield fhir.collection(chart_note(note), standing, timestamp=job.finished_at)


# --- SS-MIX2 --------------------------------------------------------------------------------------------------------


@dataclass
class _Sink(io.RawIOBase):
    """A file that can only be written on, whose content is taken away again and again."""

    parts: list[bytes] = field(default_factory=list)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        taken = b"".join(self.parts)
        self.parts.clear()
        return taken


def storage_zip(database: Database, batch_id: UUID, facility: Facility) -> Iterator[bytes]:
    """A ZIP of the standardized storage of the batch's patients, of all that their notes say, as it is made.

    What cannot be filed is told in its last entry, `not-written.txt`. Raises: NotFound, before the first part.
    """
    source, everyone = patients_of(database, batch_id)
    return _zipped(database, source, everyone, facility)


def _zipped(database: Database, source: str, everyone: list[str], facility: Facility) -> Iterator[bytes]:
    sink, refused = _Sink(), []
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, patient in enumerate(everyone, 1):
            try:
                with database.session_scope() as session:
                    files = patients.patient_files(session, source, patient, facility)
                for message, sent_at in files.messages:
                    archive.writestr(str(ssmix2.path_of(message, sent_at)), ssmix2.encode(message.text))
                refused += [f"patient {number}: {issue.text}" for issue in files.issues if issue.severity == "error"]
            except HyojunError as error:
                refused.append(f"patient {number}: {error}")
            if part := sink.take():
                yield part
        if refused:
            archive.writestr("not-written.txt", "\n".join(refused) + "\n")
    yield sink.take()


def patients_of(database: Database, batch_id: UUID) -> tuple[str, list[str]]:
    """The source, and its ids of the patients with a converted note in the batch, in the order of the input.

    Raises: NotFound.
    """
    with database.session_scope() as session:
        source = batch_runs.get_batch(session, batch_id).source
        found = session.scalars(
            select(Note.patient_id)
            .join(BatchItem, BatchItem.note_id == Note.id)
            .where(BatchItem.batch_id == batch_id, BatchItem.state == ItemState.DONE)
            .group_by(Note.patient_id)
            .order_by(func.min(BatchItem.position))
        )
        return source, list(found)
