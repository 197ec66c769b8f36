"""Records of a note to FHIR R4 resources (raw JSON values), each with the characters it was taken from.

A JP-CLINS (eCS) profile is claimed only where the resource has every element that the profile demands of it; otherwise
the JP Core profile is claimed and an Issue names what is missing, once for a note. What the profile lets pass and a
JP-CLINS Bundle or document does not is named too.
"""

from collections.abc import Sequence
from datetime import datetime

from app.fhir import people
from app.fhir.conditions import allergy, condition, family_history
from app.fhir.context import NoteContext
from app.fhir.elements import Json, identifier_of, instant, line
from app.fhir.medications import Prescriptions
from app.fhir.observations import observation
from app.fhir.source import Facility, ProvenanceSource, document_reference, provenance
from schemas.coding import Coding
from schemas.issue import Issue, IssueType, Severity
from schemas.note import ChartNote
from schemas.record import Record
from schemas.statement import Assertion, Kind


def build_resources(
    note: ChartNote,
    records: Sequence[Record],
    *,
    facility: Facility | None = None,
    department: Coding | None = None,
    run: ProvenanceSource,
    recorded: datetime,
    source: str = "",
) -> tuple[list[Json], list[Issue]]:
    """Patient, DocumentReference; Encounter, Practitioners and Organizations as far as the sender states them; one
    resource for each record in their order; Provenance (when there is a record).

    References are `Type/id`, or `#id` of a contained resource. Ids depend on facility, sending system (`source`), patient,
    note, kind and spans alone (`app.fhir.context.note_ids`): the same note converted again gives the same ids, and two
    systems that both number their notes from 1 never share one. `department`: the SS-MIX2 code of the note's
    department, from a table. `recorded`: when the run ended, with a zone. Records whose spans do not quote the note, and
    family statements that FHIR has no place for, are left out with an Issue.
    Raises InvalidInput for a `recorded` without time zone.
    """
    ctx = NoteContext(note, facility, department, instant(recorded), source)
    prescriptions = Prescriptions(ctx)
    patient = people.patient(ctx)
    stated = people.note_resources(ctx)
    document = document_reference(
        ctx.ids.document,
        ctx.subject,
        note,
        ctx.recorded,
        practice=ctx.department,
        author=people.physician_reference(ctx),
        custodian=people.organization_reference(ctx),
        encounter=people.encounter_reference(ctx),
    )
    derived = [made for record in records if (made := _resource(ctx, prescriptions, record)) is not None]
    resources = [patient, document, *stated, *derived]
    if derived:
        made_id = identifier_of("Provenance", *ctx.note_key, run.run_id)
        targets = [f"{r['resourceType']}/{r['id']}" for r in derived]
        resources.append(provenance(made_id, targets, ctx.document, run, ctx.recorded))
    return resources, ctx.issues


def _resource(ctx: NoteContext, prescriptions: Prescriptions, record: Record) -> Json | None:
    statement = record.statement
    if reason := _refusal(ctx.note, record):
        ctx.issue(Severity.ERROR, reason[0], f"no resource: {reason[1]}", statement)
        return None
    if statement.kind is Kind.CONDITION:
        family = statement.assertion is Assertion.FAMILY
        return family_history(ctx, record) if family else condition(ctx, record)
    if statement.kind is Kind.ALLERGY:
        return allergy(ctx, record)
    if statement.kind is Kind.PRESCRIPTION:
        return prescriptions.request(record)
    return observation(ctx, record)


def _refusal(note: ChartNote, record: Record) -> tuple[IssueType, str] | None:
    statement = record.statement
    if any(note.text[s.start : s.end] != s.quote for s in statement.fields.values()):
        return IssueType.INVALID, "evidence does not quote the note"
    if not line(record.display) or not line(statement.name.quote):
        return IssueType.VALUE, "name is blank"
    if statement.assertion is Assertion.FAMILY and statement.kind is not Kind.CONDITION:
        return IssueType.NOT_SUPPORTED, f"{statement.kind.value} of a family member"
    return None
