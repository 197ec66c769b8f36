"""The SS-MIX2 storages of a folder, brought up to what the database says: new, changed and taken back.

`<folder>/ssmix2` is the standardized storage, `<folder>/ssmix2-extended` the notes themselves as CDA documents; journals and
index lie beside them. A patient is written as a whole while nobody else writes him, so a run that is killed can be run again,
and one that finds everything as it should be writes nothing.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app import patients, ssmix2
from app.batches import write_file
from app.errors import InvalidInput
from app.ssmix2 import Facility, Message, extended, storage
from schemas.issue import Severity

DOCUMENT = "document"
"""What `Written` calls an entry of the extended storage; messages go by their kind."""


@dataclass
class Written:
    """By kind: entries `new` (an update too), `unchanged`, taken back (`deleted`). `refused`: kind and reason of each that
    could not be written, free of patient text."""

    new: Counter[str] = field(default_factory=Counter)
    unchanged: Counter[str] = field(default_factory=Counter)
    deleted: Counter[str] = field(default_factory=Counter)
    refused: list[tuple[str, str]] = field(default_factory=list)

    def add(self, other: "Written") -> None:
        self.new += other.new
        self.unchanged += other.unchanged
        self.deleted += other.deleted
        self.refused += other.refused


class Storages:
    """Both storages in `folder`."""

    def __init__(self, folder: Path, facility: Facility) -> None:
        self.root = folder / "ssmix2"
        self.extended = storage.extended_root(self.root)
        self._facility = facility

    def open(self, source: str | None) -> None:
        """Makes the folder, and finishes what a killed run left. `source`: whose patients it holds; None: of all systems.

        Raises: InvalidInput where the storage holds another system's patients, whose ids may mean other persons.
        """
        note = self.root.with_name("ssmix2-work") / "source"
        chosen = source or "*"
        if note.exists() and (known := note.read_text().strip()) != chosen:
            what, remedy = (
                ("all systems", "leave --source out") if known == "*" else (known, f"choose it with --source {known}")
            )
            raise InvalidInput(f"{self.root} holds the patients of {what}; {remedy}, or choose another folder")
        note.parent.mkdir(parents=True, exist_ok=True)
        storage.recover(self.root)
        if not note.exists():
            write_file(note, f"{chosen}\n")

    def write_patient(self, session: Session, source: str, patient_id: str, now: datetime) -> Written:
        """Writes what the database says of the patient and takes back what it says no more; `now`: the time in new names.

        Nothing that any conversion of his notes did not write is touched. The lock that keeps two exports from writing an
        older state over a newer one ends with the caller's transaction. Raises: NotFound, Conflict (`patients`),
        Unavailable, OSError.
        """
        session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"ssmix2/{patient_id}", 0))))
        files = patients.patient_files(session, source, patient_id, self._facility)
        written = Written()
        written.refused += [
            ("message", issue.text) for issue in files.issues if issue.severity in (Severity.ERROR, Severity.FATAL)
        ]
        for message, _ in files.messages:
            try:
                _, new = storage.put(self.root, message, now)
            except InvalidInput as error:
                written.refused.append((message.kind.value, str(error)))
            else:
                (written.new if new else written.unchanged)[message.kind.value] += 1
        for message in storage.current_messages(self.root, patient_id):
            if patients.key_of(message) in files.superseded:
                storage.delete(self.root, message, now, control_id=_control_id(message, now))
                written.deleted[message.kind.value] += 1
        self._documents(files, patient_id, now, written)
        return written

    def _documents(self, files: patients.PatientFiles, patient_id: str, now: datetime, written: Written) -> None:
        wanted = set()
        for one in files.notes:
            document = extended.document_of(one.note, one.order, one.department)
            wanted.add(document.key)
            try:
                _, new = extended.write_note(self.extended, one.note, self._facility, now, document=document)
            except InvalidInput as error:
                written.refused.append((DOCUMENT, str(error)))
            else:
                (written.new if new else written.unchanged)[DOCUMENT] += 1
        orders = {f"{order:015}" for order in files.orders}
        for document in extended.current_documents(self.extended, patient_id, orders):
            if document.key not in wanted:
                extended.delete_note(self.extended, document, self._facility, now)
                written.deleted[DOCUMENT] += 1


def kinds() -> list[str]:
    """What `Written` counts, in the order in which it is shown."""
    return [*(kind.value for kind in ssmix2.DataKind), DOCUMENT]


def _control_id(message: Message, now: datetime) -> str:
    day = message.care_date.isoformat() if message.care_date else ""
    part = "\0".join((message.patient_id, message.kind, day, message.order_no, now.isoformat()))
    return hashlib.sha256(part.encode()).hexdigest()[:20]
