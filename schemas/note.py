"""One clinical document as received."""

from datetime import date
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from schemas.value import Value

MAX_TEXT = 100_000
"""Longest note accepted, in Unicode code points (a long discharge summary has about 10,000)."""


class DocumentType(StrEnum):
    """Closed list of document types; the value is what a sender writes."""

    PROGRESS = "progress"
    ADMISSION = "admission"
    PREOP = "preop"
    REFERRAL = "referral"
    REPLY = "reply"
    DISCHARGE = "discharge"
    NURSING = "nursing"
    EMERGENCY = "emergency"
    HOMECARE = "homecare"
    CHECKUP = "checkup"


class Sex(StrEnum):
    """FHIR AdministrativeGender."""

    MALE = "male"
    FEMALE = "female"
    OTHER = "other"
    UNKNOWN = "unknown"


# SS-MIX2 file names hold the patient id and split it into folders of three characters:
# at most 15 characters (SS-MIX2 1.2, file name grammar), and nothing that a path could misread.
PatientId = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z]{1,15}$")]
NoteId = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z][0-9A-Za-z.-]{0,63}$")]


class Patient(Value):
    """The person that a note is about, as the sender states it."""

    id: PatientId
    family: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    given: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    sex: Sex = Sex.UNKNOWN
    birth_date: date | None = None
    """None: the sender does not know it."""


class SourceLine(Value):
    """A line (or a sentence of a long line) of a note: code-point offset of its first character, and its text."""

    start: int
    text: str


class ChartNote(Value):
    """One note. `text` is stored and addressed exactly as received: every offset in Hyojun counts
    Unicode code points of this string from 0, half-open, before any normalization."""

    id: NoteId
    document_type: DocumentType
    department: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    date: date
    patient: Patient
    text: Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
