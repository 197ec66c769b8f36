"""The documents of the national service, made from one note: 診療情報提供書 (a referral) and 退院時サマリー (a discharge).

Source: JP-CLINS 1.10.0, StructureDefinitions JP_Bundle_eReferral, JP_Bundle_eDischargeSummary, JP_Composition_eReferral
and JP_Composition_eDischargeSummary. A reply to a referral (返書) is neither: the type code 57133-1 and the event
診療情報提供書発行 are fixed in the profile, so no document is made of it.

What the note's sender does not state is not invented: without it there is no document, and Issues name each element.
The body is the section 300 (構造情報); 200 (a CDA file) would exclude it. The text of the note travels as it was received,
in its DocumentReference (330 臨床経過, 333 入院中経過), so evidence (derivation-reference) stays, and leads to it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from app.fhir import clins, codes
from app.fhir.clins import clinical, reference_of, url_of, verification
from app.fhir.context import recipient_id
from app.fhir.elements import Json, identifier_of, instant, reference
from app.fhir.sections import NIL_KNOWN, TITLES, UNAVAILABLE, denies_all_allergies, described, section
from schemas.issue import Issue, IssueType, Severity
from schemas.note import ChartNote, DocumentType, EncounterClass

_VERSION = "http://hl7.org/fhir/StructureDefinition/composition-clinicaldocument-versionNumber"
_DOC_TYPES = "http://jpfhir.jp/fhir/Common/CodeSystem/doc-typecodes"
_DOC_SUBTYPES = "http://jpfhir.jp/fhir/Common/CodeSystem/doc-subtypecodes"
_SUBTYPES = {"OUTPATIENT": "外来文書", "INPATIENT": "入院中文書", "DISCHARGE": "退院時文書"}
_ENDED = {"resolved", "remission", "inactive"}
_NOT_SAID = {"refuted", "entered-in-error"}


@dataclass(frozen=True)
class _Form:
    name: str
    code: str
    title: str
    text_section: str
    """Code of the section that leads to the text of the note."""

    @property
    def bundle_profile(self) -> str:
        return f"http://jpfhir.jp/fhir/clins/StructureDefinition/JP_Bundle_{self.name}|1.10.0"

    @property
    def composition_profile(self) -> str:
        return f"http://jpfhir.jp/fhir/{self.name}/StructureDefinition/JP_Composition_{self.name}|1.10.0"


FORMS = {
    DocumentType.REFERRAL: _Form("eReferral", "57133-1", "診療情報提供書", "330"),
    DocumentType.DISCHARGE: _Form("eDischargeSummary", "18842-5", "退院時サマリー", "333"),
}
"""The types of note that a document can be made of."""
KINDS = frozenset({"Condition", "AllergyIntolerance", "FamilyMemberHistory", "Observation", "MedicationRequest"})
"""Resource types that were read out of the note, and that a document has a section for."""


def document(
    note: ChartNote,
    resources: Sequence[Json],
    *,
    timestamp: datetime,
    version: int = 1,
    withheld: Sequence[Json] = (),
) -> tuple[Json | None, list[Issue]]:
    """A Bundle of type document, or None. `resources`: those of the note's conversion. `version`: of the document, from 1.
    `withheld`: others of the same conversion that may not leave (drafts, faulty ones); nothing of them is written, but a
    section that they would stand in says that it is not all, and never that nothing is known.

    Ids and identifiers depend on the note alone: the same note made again has the same. A resource that the profiles keep
    out is left out with an Issue; elements that are missing altogether each get an Issue of severity error.
    Raises: InvalidInput for a timestamp without zone.
    """
    form = FORMS.get(note.document_type)
    if form is None:
        text = f"no document is made of a note of type {note.document_type}; only of {' and '.join(FORMS)}"
        return None, [Issue(severity=Severity.ERROR, code=IssueType.NOT_SUPPORTED, text=text)]
    moment = instant(timestamp)
    parties, missing = _parties(note, resources)
    contents = _contents(resources, parties, TITLES[form.text_section])
    for resource in withheld:
        contents.count(resource)
    if note.document_type is DocumentType.DISCHARGE and not contents.present:
        missing.append("Condition: no present disease for 退院時診断 (section 344)")
    if missing:
        required = [
            Issue(severity=Severity.ERROR, code=IssueType.REQUIRED, text=f"missing: {what}") for what in missing
        ]
        return None, [*required, *contents.issues]
    assert parties is not None
    composition = _composition(note, form, parties, contents, timestamp, version)
    members = [composition, *parties.members, *contents.members]
    urls = {reference_of(r): url_of(r) for r in members}
    entries = [{"fullUrl": url_of(r), "resource": clins.outward(r, urls, _travels)} for r in members]
    return {
        "resourceType": "Bundle",
        "id": identifier_of("Bundle", form.name, parties.document["id"]),
        "meta": {"lastUpdated": moment, "profile": [form.bundle_profile]},
        "identifier": {
            "system": clins.BUNDLE_IDENTIFIER,
            "value": f"{_prefix(note, parties.number, timestamp)}{identifier_of('document', parties.document['id'])}",
        },
        "type": "document",
        "timestamp": moment,
        "entry": entries,
    }, contents.issues


def _travels(extension_url: str) -> bool:
    return not extension_url.startswith(codes.LOCAL)


def _prefix(note: ChartNote, number: str, timestamp: datetime) -> str:
    """`<10 digits>^<year>^`. The year is the note's, so that it stays; R2152 takes none before 2020 or after 2039."""
    year = note.date.year if 2020 <= note.date.year <= 2039 else timestamp.year
    return f"{number}^{year:04}^"


# --- who -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Parties:
    number: str
    patient: Json
    facility: Json
    physician: Json
    encounter: Json
    document: Json
    recipient: Json | None = None
    recipient_physician: Json | None = None

    @property
    def members(self) -> list[Json]:
        """In the order of the profiles' slices: Patient, Practitioner, Organization, Encounter, DocumentReference."""
        found = (
            self.patient, self.physician, self.recipient_physician, self.facility, self.recipient, self.encounter,
            self.document,
        )  # fmt: skip
        # Who refers to another department of the house may be the physician there as well.
        return list({reference_of(resource): resource for resource in found if resource is not None}.values())


def _parties(note: ChartNote, resources: Sequence[Json]) -> tuple[_Parties | None, list[str]]:
    """The resources that the document is about and by, and what is missing of them."""
    by_reference = {reference_of(r): r for r in resources}
    number = next((n for n in map(clins.institution, resources) if n), None)
    text = next((r for r in resources if r.get("resourceType") == "DocumentReference"), None)
    if text is None:
        return None, ["DocumentReference with the text of the note"]

    def meant(*references: Json | None) -> Json | None:
        return next((by_reference.get(str(to.get("reference"))) for to in references if to), None)

    # The DocumentReference was built with the others and names them.
    patient, facility = meant(text.get("subject")), meant(text.get("custodian"))
    physician = meant(*text.get("author", ()))
    encounter = meant(*text.get("context", {}).get("encounter", ()))
    to = by_reference.get(f"Organization/{recipient_id(note.recipient)}")
    missing = []
    if number is None:
        missing.append("the institution number of the facility (INSTITUTION_NUMBER)")
    elif facility is None or not _claims(facility, "Organization_eCS"):
        missing.append("Composition.custodian: the facility as an Organization (FACILITY_NAME)")
    if patient is None:
        missing.append("Patient")
    elif gaps := clins.patient_faults(patient):
        missing += [f"Patient.{gap}" for gap in gaps]
    if physician is None or not _claims(physician, "Practitioner_eCS"):
        missing.append("Composition.author: the physician of the note")
    if encounter is None or not _claims(encounter, "Encounter_eCS"):
        missing.append("Encounter: the visit or stay of the note")
        encounter = None
    if note.document_type is DocumentType.DISCHARGE:
        period = (encounter or {}).get("period", {})
        missing += [
            f"Composition.event.period.{end}: the stay's {end}" for end in ("start", "end") if end not in period
        ]
    elif to is None:
        missing.append("section 910: the recipient of the referral")
    elif to is facility:
        missing.append("section 910: a recipient other than the sending department")
    elif not _claims(to, "Organization_eCS"):
        missing.append("section 910: the institution number of the recipient")
    if missing:
        return None, missing
    assert number and patient and facility and physician and encounter
    if note.document_type is not DocumentType.REFERRAL:
        return _Parties(number, patient, facility, physician, encounter, text), []
    doctor = None
    if note.recipient and note.recipient.physician:
        others = (r for r in resources if r.get("resourceType") == "Practitioner" and r is not physician)
        doctor = next(others, physician)
    return _Parties(number, patient, facility, physician, encounter, text, to, doctor), []


def _claims(resource: Json, profile: str) -> bool:
    claimed = resource.get("meta", {}).get("profile", [])
    return any(str(one).partition("|")[0] == f"{codes.ECS_PROFILE}{profile}" for one in claimed)


# --- what ------------------------------------------------------------------------------------------------------------


@dataclass
class _Contents:
    """The note's statements by the section that they belong to, in their order. `text_title`: of the section with the
    text of the note."""

    text_title: str
    present: list[Json] = field(default_factory=list)
    past: list[Json] = field(default_factory=list)
    allergies: list[Json] = field(default_factory=list)
    denied_allergies: list[Json] = field(default_factory=list)
    family: list[Json] = field(default_factory=list)
    infections: list[Json] = field(default_factory=list)
    laboratory: list[Json] = field(default_factory=list)
    prescriptions: list[Json] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    """How many statements are not in the document though the note makes them, by the list that they belong to."""

    @property
    def members(self) -> list[Json]:
        return [
            *self.present, *self.past, *self.allergies, *self.family, *self.infections, *self.laboratory,
            *self.prescriptions,
        ]  # fmt: skip

    def count(self, resource: Json) -> None:
        """A statement that stays out; what was denied or entered in error is missed by nobody."""
        if resource.get("resourceType") in KINDS and not verification(resource) & _NOT_SAID:
            self.left_out[_section_of(resource)] += 1

    def not_all(self, *lists: str) -> list[str]:
        """The line that keeps a reader from taking a section for all that the note says: a list of drugs without those
        that could not be structured would read as the whole list."""
        number = sum(self.left_out[name] for name in lists)
        return [f"この欄に構造化して載せていない記載が原文に{number}件ある。「{self.text_title}」の文書を参照。"] if number else []

    def leave_out(self, resource: Json, why: str, severity: Severity = Severity.WARNING) -> None:
        self.count(resource)
        text = f"{reference_of(resource)} is not in the document: {why}"
        self.issues.append(Issue(severity=severity, code=IssueType.BUSINESS_RULE, text=text))


def _contents(resources: Sequence[Json], parties: _Parties | None, text_title: str) -> _Contents:
    """What the profiles take. What corresponds to one of the six items must claim its eCS profile (guide, 2文書)."""
    found = _Contents(text_title)
    urls = {reference_of(r): url_of(r) for r in parties.members} if parties else None
    for resource in resources:
        kind = str(resource.get("resourceType"))
        if kind not in KINDS:
            continue
        denied = verification(resource) & _NOT_SAID
        if denied and (kind != "AllergyIntolerance" or "refuted" not in denied):
            found.leave_out(resource, f"verificationStatus: {min(denied)}", Severity.INFORMATION)
        elif kind != "FamilyMemberHistory" and not clins.claims_ecs(resource):
            found.leave_out(resource, "meta.profile: the eCS profile is not claimed")
        elif urls is not None and (stray := clins.strays(resource, urls)):
            found.leave_out(resource, "; ".join(stray))
        else:
            section_list: list[Json] = getattr(found, _section_of(resource))
            section_list.append(resource)
    return found


def _section_of(resource: Json) -> str:
    """The list of `_Contents` that a resource belongs to."""
    match str(resource.get("resourceType")):
        case "Condition":
            return "past" if clinical(resource) & _ENDED else "present"
        case "AllergyIntolerance":
            return "denied_allergies" if verification(resource) & _NOT_SAID else "allergies"
        case "FamilyMemberHistory":
            return "family"
        case "Observation":
            return "infections" if clins.is_infection(resource) else "laboratory"
        case _:
            return "prescriptions"


# --- the Composition -------------------------------------------------------------------------------------------------


def _composition(
    note: ChartNote, form: _Form, parties: _Parties, contents: _Contents, timestamp: datetime, version: int
) -> Json:
    if note.document_type is DocumentType.REFERRAL:
        subtype = "INPATIENT" if _is_stay(parties.encounter) else "OUTPATIENT"
        # event.code is fixed text in this profile, and forbidden in the other.
        event: Json = {"code": [{"text": "診療情報提供書発行"}], "period": {"start": note.date.isoformat()}}
        sections = _referral_sections(parties, contents)
    else:
        subtype = "DISCHARGE"
        event = {"period": {end: parties.encounter["period"][end] for end in ("start", "end")}}
        sections = _discharge_sections(parties, contents)
    key = identifier_of("Composition", parties.document["id"])
    return {
        "resourceType": "Composition",
        "id": key,
        "meta": {"lastUpdated": instant(timestamp), "profile": [form.composition_profile]},
        "language": "ja",
        "extension": [{"url": _VERSION, "valueString": f"{version}.0"}],
        # The last part has 32 characters at most here (guide on the documents): the UUID without its hyphens.
        "identifier": {
            "system": codes.RESOURCE_ID,
            "value": f"{_prefix(note, parties.number, timestamp)}{key.replace('-', '')}",
        },
        "status": "final",
        "type": {"coding": [{"system": _DOC_TYPES, "code": form.code, "display": form.title}]},
        "category": [{"coding": [{"system": _DOC_SUBTYPES, "code": subtype, "display": _SUBTYPES[subtype]}]}],
        "subject": _to(parties.patient),
        "encounter": _to(parties.encounter),
        "date": note.date.isoformat(),
        "author": [_to(parties.physician), _to(parties.facility)],
        "title": form.title,
        "custodian": _to(parties.facility),
        "event": [event],
        "section": sections,
    }


def _referral_sections(parties: _Parties, contents: _Contents) -> list[Json]:
    assert parties.recipient is not None
    source = [parties.facility, parties.physician]
    target = [r for r in (parties.recipient, parties.recipient_physician) if r is not None]
    unread = "この項目は原文から区別して読み取っていない。原文は「臨床経過」の文書にある。"
    parts = [
        # The reason of a stay is why the patient was admitted, not why he is referred.
        _reason("950", {} if _is_stay(parties.encounter) else parties.encounter, unread),
        _filled("340", contents, "present", "傷病名は原文から読み取られていない。原文は「臨床経過」の文書にある。"),
        section("360", lines=[unread], empty=UNAVAILABLE),
        *_optional(contents),
        *_some("520", contents, "infections"),
        *_some("430", contents, "prescriptions"),
        *_some("620", contents, "laboratory"),
        section("330", [_to(parties.document)], ["診療記録の原文"]),
    ]
    return [
        section("920", [_to(r) for r in source], [_name(r) for r in source]),
        section("910", [_to(r) for r in target], [_name(r) for r in target]),
        section("300", parts=parts),
    ]


def _discharge_sections(parties: _Parties, contents: _Contents) -> list[Json]:
    stay, period = [_to(parties.encounter)], parties.encounter["period"]
    unread = "この項目は原文から区別して読み取っていない。原文は「入院中経過」の文書にある。"
    parts = [
        section("322", stay, [f"入院日 {period['start']}"]),
        # The note does not say of its diseases which were known on admission: the same list twice would be invented.
        section("342", lines=[unread], empty=UNAVAILABLE),
        section("352", lines=[unread], empty=UNAVAILABLE),
        _reason("312", parties.encounter, unread),
        section("360", lines=[unread], empty=UNAVAILABLE),
        *_optional(contents),
        section("333", [_to(parties.document)], ["診療記録の原文"]),
        section("324", stay, [f"退院日 {period['end']}"]),
        _filled("344", contents, "present", unread),
        _filled("444", contents, "prescriptions", "処方は原文から読み取られていない。原文は「入院中経過」の文書にある。"),
        section("424", lines=[unread], empty=UNAVAILABLE),
        *_some("623", contents, "infections", "laboratory"),
    ]
    return [section("300", parts=parts)]


def _optional(contents: _Contents) -> list[Json]:
    """既往歴, アレルギー and 家族歴, where the note has any."""
    return [*_some("370", contents, "past"), *_allergies(contents), *_some("550", contents, "family")]


def _allergies(contents: _Contents) -> list[Json]:
    stated = [described(r) for r in contents.allergies] + contents.not_all("allergies")
    denied = [f"{described(r)}: 否定" for r in contents.denied_allergies]
    if not stated and not denied:
        return []
    # That one allergen is denied does not say that no allergy is known, nor does a denial beside an allergy that is
    # stated, though the document may not hold it.
    none_known = not stated and any(map(denies_all_allergies, contents.denied_allergies))
    empty = NIL_KNOWN if none_known else UNAVAILABLE if stated else None
    return [section("510", [_to(r) for r in contents.allergies], [*stated, *denied], empty=empty)]


def _some(code: str, contents: _Contents, *lists: str) -> list[Json]:
    """A section that may be absent: it is where the note says nothing that belongs into it."""
    found: list[Json] = [resource for name in lists for resource in getattr(contents, name)]
    lines = [*map(described, found), *contents.not_all(*lists)]
    return [section(code, [_to(r) for r in found], lines, empty=UNAVAILABLE)] if lines else []


def _filled(code: str, contents: _Contents, name: str, otherwise: str) -> Json:
    """A section that must be there: without entries it says so."""
    return next(iter(_some(code, contents, name)), section(code, lines=[otherwise], empty=UNAVAILABLE))


def _reason(code: str, encounter: Json, otherwise: str) -> Json:
    """紹介目的 or 入院理由: what the sender states as the Encounter's reason."""
    texts = [str(reason["text"]) for reason in encounter.get("reasonCode", []) if reason.get("text")]
    return section(code, [_to(encounter)] if texts else [], texts or [otherwise], empty=UNAVAILABLE)


def _is_stay(encounter: Json) -> bool:
    return str(encounter.get("class", {}).get("code")) == EncounterClass.INPATIENT.value


def _to(resource: Json) -> Json:
    return reference(reference_of(resource), resource_type=str(resource["resourceType"]))


def _name(party: Json) -> str:
    name = party.get("name", "")
    return name if isinstance(name, str) else str(next((n["text"] for n in name if n.get("text")), ""))
