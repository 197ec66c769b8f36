"""What the builders of one note share: its ids, how a record's resource begins, and the issues found on the way."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from app.fhir import codes
from app.fhir.elements import Json, evidence, identifier_of, is_partial_date, line, meta, plain, spans
from app.fhir.source import Facility, department_concept
from schemas.coding import Coding
from schemas.issue import Issue, IssueType, Severity
from schemas.note import ChartNote, Practitioner, Recipient
from schemas.record import Record
from schemas.statement import Field, Statement

_JP_CORE_CLAIMED = "JP Core profile claimed"
_NOT_FOR_BUNDLE = "cannot be sent in a CLINS Bundle"
_NOT_FOR_DOCUMENT = "cannot be sent in a CLINS document"
# Characters of the facility's part of a リソース一意識別ID (JP-CLINS 1.10.0, identifier rules).
_LOCAL_PART = re.compile(r"[A-Za-z0-9-]{1,36}")


@dataclass(frozen=True)
class NoteIds:
    """Ids of the resources of a note that are not made from its records; None: the note does not have that resource.

    They depend on the sender's own ids (facility, patient, visit, physician) where he gives them, else on the note's,
    which the sending system is a part of.
    """

    patient: str
    document: str
    encounter: str | None = None
    physician: str | None = None
    organization: str | None = None
    recipient: str | None = None
    recipient_physician: str | None = None


def owner_of(facility: Facility | None, source: str) -> str:
    """Whose the patient and practitioner numbers are."""
    return (facility.number if facility else None) or source


def note_key_of(note: ChartNote, owner: str, source: str) -> tuple[str, ...]:
    """What tells a note from every other: two systems of a facility may each have a note 1 of the same patient."""
    return (owner, *([f"source {source}"] if source else []), note.patient.id, note.id)


def recipient_id(to: Recipient | None) -> str | None:
    """Id of the Organization that a referral is addressed to."""
    return _organization_id(to.number, to.name, to.department) if to and line(to.name) else None


def note_ids(note: ChartNote, facility: Facility | None, source: str = "") -> NoteIds:
    """The ids that `build_resources` gives for the same note, facility and source.

    A patient number is the facility's, whatever system sends it, where the facility is known by its institution number;
    a note's id is the sending system's own.
    """
    owner = owner_of(facility, source)
    note_key = note_key_of(note, owner, source)
    visit, to = note.encounter, note.recipient
    encounter = organization = None
    if visit:
        encounter = identifier_of("Encounter", owner, note.patient.id, visit.id) if visit.id else None
        encounter = encounter or identifier_of("Encounter", *note_key)
    if facility and facility.name and line(facility.name):
        organization = _organization_id(facility.number, facility.name, note.department)
    return NoteIds(
        patient=identifier_of("Patient", owner, note.patient.id),
        document=identifier_of("DocumentReference", *note_key),
        encounter=encounter,
        physician=_practitioner_id(note.physician, owner, note_key),
        organization=organization,
        recipient=recipient_id(to),
        recipient_physician=_practitioner_id(to.physician, to.number or f"to {to.name}", note_key) if to else None,
    )


def _organization_id(number: str | None, name: str, department: str | None) -> str:
    return identifier_of("Organization", number or f"named {line(name)}", line(department or ""))


def _practitioner_id(person: Practitioner | None, owner: str, note_key: tuple[str, ...]) -> str | None:
    """By the facility's id of the person; without one two persons of one name must not become one."""
    if person is None or not shown_name(person.family, person.given):
        return None
    if person.id:
        return identifier_of("Practitioner", owner, person.id)
    return identifier_of("Practitioner", owner, line(person.family), line(person.given), *note_key)


def shown_name(family: str, given: str) -> str:
    """Family and given name with a half-width space between (JP_Patient_eCS, R1113), in usual widths (it is a display in
    Observation); empty when both are blank."""
    return " ".join(part for part in (plain(family), plain(given)) if part)


class NoteContext:
    """One note being built. `recorded` is a FHIR instant."""

    def __init__(
        self, note: ChartNote, facility: Facility | None, department: Coding | None, recorded: str, source: str = ""
    ) -> None:
        self.note, self.facility, self.recorded = note, facility, recorded
        self.number = facility.number if facility else None
        self.note_key = note_key_of(note, owner_of(facility, source), source)
        self.ids = note_ids(note, facility, source)
        self.subject: Json = {"reference": f"Patient/{self.ids.patient}"}
        self.document = f"DocumentReference/{self.ids.document}"
        self.day = note.date.isoformat()
        self.department = department_concept(note.department, department)
        self.patient_ecs = False
        """Does the note's Patient claim JP_Patient_eCS? Known once it is built."""
        self._issues: dict[Issue, None] = {}
        self._gaps: Counter[tuple[str, str]] = Counter()
        self._keys: Counter[str] = Counter()

    # --- issues ---

    @property
    def issues(self) -> list[Issue]:
        """What was found about single places, then each missing element once for the note."""
        gaps = [
            Issue(
                severity=Severity.INFORMATION,
                code=IssueType.INCOMPLETE,
                text=f"{what} ({count} resources); {then}" if count > 1 else f"{what}; {then}",
            )
            for (what, then), count in self._gaps.items()
        ]
        return [*self._issues, *gaps]

    def issue(self, severity: Severity, code: IssueType, text: str, statement: Statement | None = None) -> None:
        start, end = (statement.name.start, statement.name.end) if statement else (None, None)
        self._issues[Issue(severity=severity, code=code, text=text, start=start, end=end)] = None

    def not_ecs(self, element: str, why: str) -> None:
        """An element that keeps a resource from its JP-CLINS profile."""
        self._gaps[f"{element}: {why}", _JP_CORE_CLAIMED] += 1

    def not_for_bundle(self, element: str, why: str = "not stated") -> None:
        """What the profile of a resource lets pass and JP_Bundle_CLINS does not."""
        self._gaps[f"{element}: {why}", _NOT_FOR_BUNDLE] += 1

    def not_for_document(self, element: str, why: str = "not stated") -> None:
        """What the profile of a prescription lets pass and its use in the two documents does not."""
        self._gaps[f"{element}: {why}", _NOT_FOR_DOCUMENT] += 1

    def ecs(self, resource_type: str) -> bool:
        """May a resource of a record claim its JP-CLINS profile? Each demands the identifier that `number` begins, and
        a patient who obeys JP_Patient_eCS."""
        if self.number is None:
            self.not_ecs(f"{resource_type}.identifier", "institution number of the facility is missing")
        elif not self.patient_ecs:
            who = "patient" if resource_type == "AllergyIntolerance" else "subject"
            self.not_ecs(f"{resource_type}.{who}", "the Patient lacks what JP-CLINS demands of it")
        return self.number is not None and self.patient_ecs

    # --- pieces of a record's resource ---

    def start(self, resource_type: str, record: Record, ecs: bool, identifiers: Sequence[Json] = ()) -> Json:
        """resourceType, id, meta, extension, identifier: what every resource of a record begins with.

        The canonical has no version: a resource is stored once and may be sent later, when the service reads it by the
        version of that day; JP-CLINS takes both forms, and the JP Core definitions have no version at all.
        """
        statement = record.statement
        places = (f"{field.value}:{span.start}-{span.end}" for field, span in sorted(statement.fields.items()))
        key = " ".join((statement.kind.value, *places))
        resource_id = identifier_of(*self.note_key, key, str(self._keys[key]))
        self._keys[key] += 1  # two records over the same characters stay two resources
        extension = self.evidence(record, *statement.fields)
        confidence = statement.confidence if record.probability is None else record.probability
        if confidence is not None:
            extension.append({"url": codes.CONFIDENCE, "valueDecimal": Decimal(str(round(confidence, 4)))})
        listed = list(identifiers)
        if self.number:
            extension += self.institution()
            listed.append(
                {"system": codes.RESOURCE_ID, "value": f"{self.number}^{self.note.date.year:04}^{resource_id}"}
            )
        name = {"Observation": "Observation_LabResult"}.get(resource_type, resource_type)
        start: Json = {
            "resourceType": resource_type,
            "id": resource_id,
            "meta": meta(self.recorded, f"{codes.ECS_PROFILE}{name}_eCS" if ecs else f"{codes.CORE_PROFILE}{name}"),
            "extension": extension,
        }
        return start | ({"identifier": listed} if listed else {})

    def institution(self) -> list[Json]:
        """The extensions eCS_InstitutionNumber and eCS_Department, in this order."""
        number = {"system": codes.INSTITUTION_NUMBER, "value": self.number}
        found: list[Json] = [{"url": codes.INSTITUTION_EXTENSION, "valueIdentifier": number}]
        if self.department:
            found.append({"url": codes.DEPARTMENT_EXTENSION, "valueCodeableConcept": self.department})
        return found

    def evidence(self, record: Record, *fields: Field) -> list[Json]:
        """Of the fields that the statement has; a name's with the places where the note tells the same again."""
        again = record.also if Field.NAME in fields else ()
        return evidence(self.document, [*spans(record.statement, *fields), *again])

    def date(self, record: Record) -> str | None:
        if record.date is not None and not is_partial_date(record.date):
            self.issue(Severity.WARNING, IssueType.VALUE, "date is not in the calendar", record.statement)
            return None
        return record.date

    def visit_identifier(self) -> Json | None:
        """Of the Encounter, by the facility's own visit number."""
        visit = self.note.encounter
        if visit is None or visit.id is None:
            return None
        if self.number and _LOCAL_PART.fullmatch(visit.id):
            year = (visit.start or self.note.date).year
            return {"system": codes.RESOURCE_ID, "value": f"{self.number}^{year:04}^{visit.id}"}
        return {"system": codes.ENCOUNTER_ID, "value": visit.id}


def written_name(record: Record) -> str:
    """`text` of a name: as written in the note where a coding carries the standard name, or a modifier stands in the
    text alone; else what the record shows (an abbreviation expanded)."""
    if record.codings or record.modifiers:
        return line(record.statement.name.quote)
    return line(record.display)
