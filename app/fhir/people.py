"""Patient, Encounter, Practitioner and Organization: what the sender states about a note, not what the note says.

Nothing is filled in: an element that the sender does not state is absent, and the resource then claims JP Core.
"""

import re

from app.fhir import codes
from app.fhir.context import NoteContext, shown_name
from app.fhir.elements import Json, concept, line, meta, plain, reference
from app.fhir.elements import coding as coded
from schemas.issue import IssueType, Severity
from schemas.note import Encounter, Practitioner

_HAN = re.compile("[\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_KANA = re.compile("[\u3041-\u309f\u30a0-\u30ff\uff66-\uff9f ]+")
_LATIN = re.compile("[A-Za-z.'\u00c0-\u024f -]+")
# JP_Patient_eCS of JP-CLINS 1.10.0, R1013, forbids a circumflex where our schema does not.
_FORBIDDEN_IN_MEMBER_ID = "^"

ENCOUNTER = "#encounter"
PRACTITIONER = "#practitioner"


def human_name(family: str, given: str, use: str | None = None) -> Json | None:
    """HumanName with the representation that its characters show (JP Core: 漢字 IDE, カナ SYL, ローマ字 ABC); None for a
    blank name. A mixture without kanji gets no representation."""
    text = shown_name(family, given)
    if not text:
        return None
    if _HAN.search(text):
        kind = "IDE"
    elif _KANA.fullmatch(text):
        kind = "SYL"
    else:
        kind = "ABC" if _LATIN.fullmatch(text) else ""
    name: Json = {"extension": [{"url": codes.NAME_REPRESENTATION, "valueCode": kind}]} if kind else {}
    name |= {"use": use} if use else {}
    name["text"] = text
    if plain(family):
        name["family"] = plain(family)
    return name | ({"given": [plain(given)]} if plain(given) else {})


def patient(ctx: NoteContext) -> Json:
    """JP_Patient_eCS where the facility's number and the person's name, birth date, address and insurance are known."""
    person, facility = ctx.note.patient, ctx.facility
    derived = f"{codes.FACILITY_PATIENT_OID}{ctx.number}" if ctx.number else None
    system = f"urn:oid:{facility.patient_id_oid}" if facility and facility.patient_id_oid else derived
    name = human_name(person.family, person.given, "official")
    address = line(person.address or "")
    missing = [
        (element, why)
        for element, why, there in (
            ("Patient.identifier", "institution number of the facility is missing", derived),
            # R1010: the local number is under the OID of the institution, with a 1 before its ten digits.
            ("Patient.identifier", "the facility's patient numbers have an OID of their own", system == derived),
            ("Patient.identifier:JP_Insurance_memberID", "the sender states no insurance id", person.insurance_id),
            (
                "Patient.identifier:JP_Insurance_memberID",
                "the insurance id holds a character that R1013 forbids",
                _FORBIDDEN_IN_MEMBER_ID not in (person.insurance_id or ""),
            ),
            ("Patient.name", "family and given name are not both stated", name and {"family", "given"} <= set(name)),
            ("Patient.birthDate", "the sender states no birth date", person.birth_date),
            ("Patient.address", "the sender states no address", address),
        )
        if not there
    ]
    for element, why in missing:
        ctx.not_ecs(element, why)
    ctx.patient_ecs = not missing
    identifiers = [{"system": system or codes.PATIENT_ID, "value": person.id}]
    if person.insurance_id:
        identifiers.append({"system": codes.INSURANCE_MEMBER, "value": person.insurance_id})
    resource: Json = {
        "resourceType": "Patient",
        "id": ctx.ids.patient,
        "meta": meta(ctx.recorded, _profile("Patient", not missing)),
        "identifier": identifiers,
    }
    if ctx.number:
        resource["extension"] = ctx.institution()[:1]
    if name:
        resource["name"] = [name]
    resource["gender"] = person.sex.value
    if person.birth_date:
        resource["birthDate"] = person.birth_date.isoformat()
    return resource | ({"address": [{"text": address}]} if address else {})


def note_resources(ctx: NoteContext) -> list[Json]:
    """Encounter, Practitioner (who wrote), Organization (that sends), then the Organization and Practitioner that a
    referral is addressed to: those that the sender states, each once."""
    note, facility, ids = ctx.note, ctx.facility, ctx.ids
    made: list[Json] = []
    if note.encounter and ids.encounter:
        made.append(_encounter(ctx, note.encounter, ids.encounter))
    if note.physician and ids.physician:
        made.append(_practitioner(ctx, note.physician, ids.physician, ctx.number))
    if facility and facility.name and ids.organization:
        made.append(
            _organization(
                ctx, ids.organization, facility.number, facility.name, facility.address, facility.phone, ctx.department
            )
        )
    to = note.recipient
    if to and ids.recipient:
        department = concept([], line(to.department)) if to.department and line(to.department) else None
        made.append(_organization(ctx, ids.recipient, to.number, to.name, to.address, to.phone, department))
    if to and to.physician and ids.recipient_physician:
        made.append(_practitioner(ctx, to.physician, ids.recipient_physician, to.number))
    # A referral inside the house names the same institution twice: what the sender says of himself counts.
    return list({r["id"]: r for r in reversed(made)}.values())[::-1]


def organization_reference(ctx: NoteContext) -> Json | None:
    if ctx.ids.organization is None or ctx.facility is None:
        return None
    return reference(f"Organization/{ctx.ids.organization}", line(ctx.facility.name or ""))


def physician_reference(ctx: NoteContext) -> Json | None:
    person = ctx.note.physician
    if ctx.ids.physician is None or person is None:
        return None
    return reference(f"Practitioner/{ctx.ids.physician}", shown_name(person.family, person.given))


def encounter_reference(ctx: NoteContext) -> Json | None:
    visit = ctx.note.encounter
    if ctx.ids.encounter is None or visit is None:
        return None
    return reference(f"Encounter/{ctx.ids.encounter}", codes.ENCOUNTER_CLASS[visit.encounter_class].display)


def attach(ctx: NoteContext, resource: Json, role: str, *, specimen: Json | None = None) -> None:
    """Puts the visit and the physician into a resource of a record, contained and referred to as JP-CLINS demands.

    `role`: the element that refers to the physician; `performer` is a list, `recorder` and `requester` are not.
    `specimen`: a contained Specimen that the resource refers to already.
    """
    contained = []
    if ctx.note.encounter:
        contained.append(_contained_encounter(ctx, ctx.note.encounter))
        display = codes.ENCOUNTER_CLASS[ctx.note.encounter.encounter_class].display
        resource["encounter"] = reference(ENCOUNTER, display)
    if specimen:
        contained.append(specimen)
    person = ctx.note.physician
    if person and ctx.ids.physician:
        contained.append(_contained_practitioner(ctx, person))
        to = reference(PRACTITIONER, shown_name(person.family, person.given), "Practitioner")
        resource[role] = [to] if role == "performer" else to
    if contained:
        resource["contained"] = contained


def _profile(name: str, ecs: bool) -> str:
    return f"{codes.ECS_PROFILE}{name}_eCS" if ecs else f"{codes.CORE_PROFILE}{name}"


def _encounter_body(ctx: NoteContext, visit: Encounter) -> Json:
    """What the contained and the top-level Encounter share. JP_Encounter_eCS fixes the status."""
    identifier = ctx.visit_identifier()
    body: Json = {"identifier": [identifier]} if identifier else {}
    body |= {"status": "finished", "class": coded(codes.ENCOUNTER_CLASS[visit.encounter_class])}
    period = {name: day.isoformat() for name, day in (("start", visit.start), ("end", visit.end)) if day}
    return body | ({"period": period} if period else {})


def _encounter_is_ecs(visit: Encounter) -> bool:
    """JP_Encounter_eCS demands Encounter.period.start where there is a period."""
    return visit.start is not None or visit.end is None


def _contained_encounter(ctx: NoteContext, visit: Encounter) -> Json:
    """JP_Bundle_CLINS (R9013) takes exactly one canonical here, without version, and no lastUpdated (dom-4)."""
    profile = _profile("Encounter", _encounter_is_ecs(visit))
    head = {"resourceType": "Encounter", "id": ENCOUNTER[1:], "meta": {"profile": [profile]}}
    return head | _encounter_body(ctx, visit)


def _encounter(ctx: NoteContext, visit: Encounter, resource_id: str) -> Json:
    ecs = _encounter_is_ecs(visit)
    if not ecs:
        ctx.not_ecs("Encounter.period.start", "the sender states the end alone")
    resource: Json = {
        "resourceType": "Encounter",
        "id": resource_id,
        "meta": meta(ctx.recorded, _profile("Encounter", ecs)),
        **_encounter_body(ctx, visit),
        "subject": ctx.subject,
    }
    if reason := line(visit.reason or ""):
        resource["reasonCode"] = [{"text": reason}]
    if visit.discharge_disposition:
        stay: Json = {}
        if visit.admit_source:
            stay["admitSource"] = concept([codes.ADMIT_SOURCE[visit.admit_source]])
        stay["dischargeDisposition"] = concept([codes.DISCHARGE_DISPOSITION[visit.discharge_disposition]])
        resource["hospitalization"] = stay
    elif visit.admit_source:
        what = "Encounter.hospitalization.admitSource: left out, JP-CLINS takes it beside a dischargeDisposition only"
        ctx.issue(Severity.INFORMATION, IssueType.INCOMPLETE, what)
    if provider := organization_reference(ctx):
        resource["serviceProvider"] = provider
    return resource


def _practitioner_body(person: Practitioner, number: str | None) -> Json:
    body: Json = {}
    if person.id:
        system = f"{codes.FACILITY_PRACTITIONER_OID}{number}" if number else codes.PRACTITIONER_ID
        body["identifier"] = [{"system": system, "value": person.id}]
    return body | {"name": [human_name(person.family, person.given)]}


def _contained_practitioner(ctx: NoteContext, person: Practitioner) -> Json:
    """R9019 takes exactly one canonical here, without version. JP_Practitioner_eCS demands nothing that is not here."""
    head = {
        "resourceType": "Practitioner",
        "id": PRACTITIONER[1:],
        "meta": {"profile": [_profile("Practitioner", True)]},
    }
    return head | _practitioner_body(person, ctx.number)


def _practitioner(ctx: NoteContext, person: Practitioner, resource_id: str, number: str | None) -> Json:
    head = {
        "resourceType": "Practitioner",
        "id": resource_id,
        "meta": meta(ctx.recorded, _profile("Practitioner", True)),
    }
    return head | _practitioner_body(person, number)


def _organization(
    ctx: NoteContext,
    resource_id: str,
    number: str | None,
    name: str,
    address: str | None,
    phone: str | None,
    department: Json | None,
) -> Json:
    """JP_Organization_eCS demands the institution number. The profile asks for no narrative, so none is written."""
    if number is None:
        ctx.not_ecs("Organization.identifier:medicalInstitutionCode", "the institution number is not stated")
    resource: Json = {
        "resourceType": "Organization",
        "id": resource_id,
        "meta": meta(ctx.recorded, _profile("Organization", number is not None)),
    }
    if department:
        resource["extension"] = [{"url": codes.DEPARTMENT_EXTENSION, "valueCodeableConcept": department}]
    if number:
        resource["identifier"] = [{"system": codes.INSTITUTION_NUMBER, "value": number}]
    resource |= {"type": [concept([codes.PROVIDER])], "name": line(name)}
    if phone and line(phone):
        resource["telecom"] = [{"system": "phone", "value": line(phone)}]
    return resource | ({"address": [{"text": line(address)}]} if address and line(address) else {})
