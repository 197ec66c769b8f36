"""The extended storage on disk: a note as a CDA R2 document in a content folder of its own.

`<root>/pid[0:3]/pid[3:6]/pid/<day>/<kind folder>/<content folder>/document.xml`; kind folder
`[local code]^name^[local system]^code^name^system`, here without a local half; content folder
`<patient>_<day>_<kind code>_<key>_<time>_<department>_<flag>`. Source: NHO SSMIX2_support_documents `medical_document.md`
and `transaction_strage.md`: an update renames the former folder to `_2`, a deletion renames the folders to `_0` and writes
nothing. The steps of a write, and what a killed process leaves: `app.ssmix2.entries`.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from xml.etree import ElementTree

from app.errors import NotFound
from app.ssmix2 import cda
from app.ssmix2.builder import Facility, order_number
from app.ssmix2.disk import sync, write_synced
from app.ssmix2.entries import CURRENT, DELETED, HISTORY, Storage, stamp
from schemas.note import ChartNote

MAIN = "document.xml"


class ExtendedStorage(Storage):
    """Content folders of documents."""

    volume = "ANX"
    _kinds = "|".join(sorted({form.code for form in cda.FORMS.values()}))
    grammar = re.compile(
        rf"(?P<key>(?P<patient>[0-9A-Za-z]{{7,15}})_(?P<date>[0-9]{{8}}|-)_(?P<kind>{_kinds})_(?P<order>[0-9]{{15}}))"
        r"_(?P<time>[0-9]{17})_(?P<department>[0-9A-Za-z]{2,3}|-)_(?P<flag>[012])"
    )
    keeps_cancelled = False

    def kind_folder(self, kind: str) -> str:
        name = next(form.name for form in cda.FORMS.values() if form.code == kind)
        return f"^{name}^^{kind}^{name}^LN"

    def record(self, entry: Path) -> tuple[str, bytes]:
        if entry.is_file():  # a deletion, which has no document: its file says who deleted
            return entry.read_text(), b""
        content = (entry / MAIN).read_bytes()
        number = ElementTree.fromstring(content).find(  # noqa: S314 our own document
            ".//{urn:hl7-org:v3}representedCustodianOrganization/{urn:hl7-org:v3}id"
        )
        return (number.get("extension", "-") if number is not None else "-"), content


@dataclass(frozen=True)
class Document:
    """What names a stored document: `order_no`, the key of its note, 15 digits."""

    patient_id: str
    day: date
    code: str
    order_no: str
    department: str

    @property
    def key(self) -> str:
        return f"{self.patient_id}_{self.day:%Y%m%d}_{self.code}_{self.order_no}"


def document_of(note: ChartNote, order: int, department: str = "-") -> Document:
    """`order`: the number of the note, from 1; `department`: a code of user table 0069, or `-`."""
    return Document(note.patient.id, note.date, cda.FORMS[note.document_type].code, order_number(order), department)


def write_note(
    root: Path, note: ChartNote, facility: Facility, sent_at: datetime, *, document: Document
) -> tuple[Path, bool]:
    """Makes the note the current document of its key; the former becomes history. Returns the content folder, which is on
    the disk, and whether anything was written. Raises: InvalidInput for a patient id that cannot be filed; Unavailable."""
    storage = ExtendedStorage(root)
    data = cda.document(note, facility, document.order_no)
    name = f"{document.key}_{stamp(sent_at)}_{document.department}_{CURRENT}"
    storage.path(name)

    def fill(part: Path) -> None:
        part.mkdir()
        write_synced(part / MAIN, data)
        sync(part)

    with storage.locked(document.patient_id):
        for current in storage.entries(name, CURRENT):
            if (current / MAIN).read_bytes() == data:
                return current, False
        return storage.commit(storage.free(name), fill), True


def delete_note(root: Path, document: Document, facility: Facility, sent_at: datetime) -> None:
    """Renames the document's folders to `_0`. Raises: NotFound where nothing of its key is valid."""
    storage = ExtendedStorage(root)
    name = f"{document.key}_{stamp(sent_at)}_{document.department}_{DELETED}"
    storage.path(name)
    with storage.locked(document.patient_id):
        if not storage.entries(name, CURRENT + HISTORY):
            raise NotFound("no such document is stored")
        by = (facility.institution_number or "-").encode()
        storage.commit(storage.free(name), lambda part: write_synced(part, by))


def current_documents(root: Path, patient_id: str, order_nos: Collection[str]) -> list[Document]:
    """The patient's documents with flag `_1` and one of these numbers."""
    storage = ExtendedStorage(root)
    found = []
    for path in storage.patient_entries(patient_id):
        parts = storage.parts(path.name)
        if parts["flag"] == CURRENT and parts["order"] in order_nos and parts["date"] != "-":
            day = date.fromisoformat(parts["date"])
            found.append(Document(patient_id, day, parts["kind"], parts["order"], parts["department"]))
    return found
