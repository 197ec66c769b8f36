"""One clinical document as received."""

from datetime import date
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

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


class EncounterClass(StrEnum):
    """HL7 v3 ActCode, as far as JP-CLINS encounters use it."""

    AMBULATORY = "AMB"
    INPATIENT = "IMP"
    EMERGENCY = "EMER"
    HOME = "HH"
    VIRTUAL = "VR"


class DischargeDisposition(StrEnum):
    """退院時転帰, http://jpfhir.jp/fhir/Common/CodeSystem/discharge-disposition (JP-CLINS 1.10.0)."""

    CURED = "1"
    REMISSION = "3"
    UNCHANGED = "4"
    WORSE = "5"
    DIED_OF_MAIN_DISEASE = "6"
    DIED_OF_OTHER = "7"
    OTHER = "9"


class AdmitSource(StrEnum):
    """入院経路, http://jpfhir.jp/fhir/Common/CodeSystem/admit-Source (JP-CLINS 1.10.0)."""

    OTHER_WARD = "0"
    HOME = "1"
    OTHER_HOSPITAL = "4"
    CARE_FACILITY = "5"
    IN_HOSPITAL_BIRTH = "8"
    OTHER = "9"


Name = Annotated[str, StringConstraints(min_length=1, max_length=100)]
# 医療機関番号: prefecture 2, fee table 1, institution 7 digits (JP_eCS_InstitutionNumber of JP-CLINS 1.10.0).
InstitutionNumber = Annotated[str, StringConstraints(pattern=r"^[0-4][0-9][1-3][0-9]{7}$")]
LocalId = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z._-]{1,64}$")]


class Practitioner(Value):
    """A physician, as the sender states him. `id`: the facility's own id of the person."""

    id: LocalId | None = None
    family: Name
    given: Name


class Encounter(Value):
    """The visit or stay that the note belongs to, as the sender states it."""

    id: LocalId | None = None
    encounter_class: EncounterClass
    start: date | None = None
    end: date | None = None
    discharge_disposition: DischargeDisposition | None = None
    admit_source: AdmitSource | None = None
    reason: Annotated[str, StringConstraints(min_length=1, max_length=1000)] | None = None

    @model_validator(mode="after")
    def _order(self) -> "Encounter":
        if self.start and self.end and self.end < self.start:
            raise ValueError("end is before start")
        return self


class Recipient(Value):
    """Whom a referral is addressed to (紹介先)."""

    name: Name
    number: InstitutionNumber | None = None
    department: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    address: Annotated[str, StringConstraints(min_length=1, max_length=500)] | None = None
    phone: Annotated[str, StringConstraints(pattern=r"^[0-9+() -]{1,30}$")] | None = None
    physician: Practitioner | None = None


# JP_Patient_eCS of JP-CLINS 1.10.0, invariant R1013.
INSURANCE_ID = r"^[0-9]{8}:[^:\s　]*:[^:\s　]*:([0-9][0-9])?$"


class Patient(Value):
    """The person that a note is about, as the sender states it."""

    id: PatientId
    family: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    given: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    sex: Sex = Sex.UNKNOWN
    birth_date: date | None = None
    """None: the sender does not know it."""
    address: Annotated[str, StringConstraints(min_length=1, max_length=500)] | None = None
    insurance_id: Annotated[str, StringConstraints(pattern=INSURANCE_ID)] | None = None
    """被保険者個人識別子: insurer 8 digits:symbol:number:branch 2 digits, e.g. `00012345:あいう:１８７:05`."""


class SourceLine(Value):
    """A line (or a sentence of a long line) of a note: code-point offset of its first character, and its text."""

    start: int
    text: str


class ChartNote(Value):
    """One note. `text` is stored and addressed exactly as received: every offset in Hyojun counts
    Unicode code points of this string from 0, half-open, before any normalization.

    `encounter`, `physician` (who wrote the note and ordered what it says) and `recipient` are the sender's knowledge;
    what is not stated stays None and is never invented."""

    id: NoteId
    document_type: DocumentType
    department: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    date: date
    patient: Patient
    text: Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
    encounter: Encounter | None = None
    physician: Practitioner | None = None
    recipient: Recipient | None = None
