"""Notes out of SS-MIX2 storages into the queue: each text document of an extended storage becomes a `ChartNote` and a job.

A note is known by its content, so that a second run, or one after a kill, adds only what is new. A document that cannot be
read or is no note does not end the others.
"""

import hashlib
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

from app import jobs
from app.db import Database
from app.errors import HyojunError, InvalidInput
from app.intake import note_from
from app.log import describe
from app.ssmix2.reading import Document, Unreadable, read_documents, read_storage
from schemas.note import ChartNote, DocumentType, EncounterClass

log = logging.getLogger(__name__)

UNKNOWN = "不明"
"""Stands for a department or a part of a name that neither the storage nor the document states."""

# LOINC as SS-MIX2 kind folders have it; a record of a stay (入院診療録) says so in its encounter.
DOCUMENT_TYPES = {
    "11506-3": DocumentType.PROGRESS,
    "34108-1": DocumentType.PROGRESS,
    "34112-3": DocumentType.PROGRESS,
    "18842-5": DocumentType.DISCHARGE,
    "57133-1": DocumentType.REFERRAL,
}
_STAYS = ("34112-3", "18842-5")


@dataclass(frozen=True)
class Imported:
    """One document or file. `path` below its root, safe to show. `error`: why there is no note, free of patient text;
    `warning`: what a patient's file does otherwise than the standard, and was read all the same: no note either.
    `created`: is the note new to the database? None in a dry run and where there is no note."""

    path: str
    note_id: str | None = None
    job_id: UUID | None = None
    created: bool | None = None
    error: str | None = None
    warning: str | None = None


def chart_note(document: Document, departments: Mapping[str, Sequence[str]]) -> ChartNote:
    """The note of a document; what nobody states is not made up. `departments`: the names of each code of user table
    0069, of which the document's own is taken if it is one.

    The id is patient, day, kind and key of the document: a later version of it is a corrected note of the same id.
    Raises: InvalidInput, TooLong, naming the field.
    """
    person = document.person
    key, named = document.key, departments.get(document.department, ())
    if not re.fullmatch("[0-9A-Za-z.-]{1,30}", key):
        key = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:20]
    fields: dict[str, Any] = {
        "id": f"{document.patient_id}-{document.day:%Y%m%d}-{document.code}-{key}",
        "document_type": DOCUMENT_TYPES[document.code].value,
        "department": document.department_name
        if document.department_name in named
        else [*named, document.department_name or UNKNOWN][0],
        "date": document.day.isoformat(),
        "patient": {
            "id": document.patient_id,
            "family": person.family or UNKNOWN,
            "given": person.given or UNKNOWN,
            "sex": person.sex.value,
            "birth_date": person.birth_date.isoformat() if person.birth_date else None,
            "address": person.address,
        },
        "text": document.text,
    }
    if document.code in _STAYS:
        stay = {"start": document.start, "end": document.end}
        fields["encounter"] = {"encounter_class": EncounterClass.INPATIENT.value}
        fields["encounter"] |= {name: day.isoformat() for name, day in stay.items() if day}
    if document.author_family and document.author_given:
        fields["physician"] = {"family": document.author_family, "given": document.author_given}
        # An id of another form than ours takes nothing from the name.
        if re.fullmatch("[0-9A-Za-z._-]{1,64}", document.author_id):
            fields["physician"]["id"] = document.author_id
    return note_from(fields)


def import_storage(
    standardized: Path,
    extended: Path,
    *,
    source: str,
    database: Database | None,
    departments: Mapping[str, Sequence[str]],
    since: date | None = None,
    batch_id: UUID | None = None,
) -> Iterator[Imported]:
    """Submits every note, each in a transaction of its own; without `database` nothing is stored.

    The patients' files (ADT-00) of the standardized storage are looked through first, and those that cannot be read are
    named. Raises: InvalidInput for a root that is no folder; what the database raises.
    """
    for root in (standardized, extended):
        if not root.is_dir():
            raise InvalidInput(f"{root} is not a folder")
    told: set[str] = set()
    for read in read_storage(standardized, kinds={"ADT-00"}):
        if isinstance(read, Unreadable):
            told.add(read.path)
            yield Imported(read.path, error=read.reason)
        elif read.warnings:
            yield Imported(read.path.as_posix(), warning="; ".join(read.warnings))
    for found in read_documents(extended, standardized, since=since):
        if isinstance(found, Unreadable):
            if found.path not in told:
                told.add(found.path)
                yield Imported(found.path, error=found.reason)
            continue
        path = f"{found.patient_id}/{found.day:%Y%m%d}/{found.code}/{found.sent_at:%Y%m%d%H%M%S}"
        try:
            note = chart_note(found, departments)
            if database is None:
                yield Imported(path, note.id)
                continue
            with database.session_scope() as session:
                submitted = jobs.submit(session, note, source, batch_id)
        except HyojunError as error:
            yield Imported(path, error=describe(error))
            continue
        if submitted.created:
            log.info("note imported", extra={"job_id": submitted.job_id, "note_id": submitted.note_id})
        yield Imported(path, note.id, submitted.job_id, submitted.created)
