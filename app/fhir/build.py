"""Records of a note to FHIR R4 resources (raw JSON values), each with the characters it was taken from.

A JP-CLINS (eCS) profile is claimed only where the resource has every element that the profile demands of it; otherwise
the JP Core profile is claimed and an Issue names what is missing, once for a note. Canonicals carry no version: the JP
Core definitions have none.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from app.fhir import codes, source
from app.fhir.elements import (
    Json,
    concept,
    dose_and_rate,
    duration,
    evidence,
    identifier_of,
    instant,
    is_partial_date,
    lab_quantity,
    line,
    meta,
    primitive,
    spans,
    with_extension,
)
from app.fhir.source import Facility, ProvenanceSource
from schemas.coding import Coding
from schemas.issue import Issue, IssueType, Severity
from schemas.note import ChartNote
from schemas.record import Record
from schemas.statement import Action, AllergyCategory, Assertion, Field, Kind, Statement


def build_resources(
    note: ChartNote,
    records: Sequence[Record],
    *,
    facility: Facility | None = None,
    run: ProvenanceSource,
    recorded: datetime,
) -> tuple[list[Json], list[Issue]]:
    """Patient, DocumentReference, one resource for each record in their order, Provenance (when there is a record).

    References are `Type/id`. Ids depend on facility, patient, note, kind and spans alone: the same note converted
    again gives the same ids. `recorded`: when the run ended, with a zone. Records whose spans do not quote the note,
    and family statements that FHIR has no place for, are left out with an Issue.
    Raises InvalidInput for a `recorded` without time zone.
    """
    return _Builder(note, facility, run, recorded).build(records)


class _Builder:
    def __init__(self, note: ChartNote, facility: Facility | None, run: ProvenanceSource, recorded: datetime) -> None:
        self.note, self.facility, self.run = note, facility, run
        self.recorded = instant(recorded)
        self.issues: dict[Issue, None] = {}
        self.keys: Counter[str] = Counter()
        self.rp_usage: tuple[int, int] | None = None
        self.rp = self.order_in_rp = 0
        owner = facility.number if facility else ""
        self.note_key = (owner, note.patient.id, note.id)
        self.patient_id = identifier_of("Patient", owner, note.patient.id)
        self.document_id = identifier_of("DocumentReference", *self.note_key)
        self.subject = {"reference": f"Patient/{self.patient_id}"}
        self.document = f"DocumentReference/{self.document_id}"

    def build(self, records: Sequence[Record]) -> tuple[list[Json], list[Issue]]:
        derived = [made for record in records if (made := self._resource(record)) is not None]
        self._gap("Patient.address", "the sender states no address")
        resources = [
            source.patient(self.patient_id, self.note, self.facility, self.recorded),
            source.document_reference(self.document_id, self.subject, self.note, self.recorded),
            *derived,
        ]
        if derived:
            made_id = identifier_of("Provenance", *self.note_key, self.run.run_id)
            targets = [f"{r['resourceType']}/{r['id']}" for r in derived]
            resources.append(source.provenance(made_id, targets, self.document, self.run, self.recorded))
        return resources, list(self.issues)

    # --- one record ---

    def _resource(self, record: Record) -> Json | None:
        statement = record.statement
        if reason := self._refusal(record):
            self._issue(Severity.ERROR, reason[0], f"no resource: {reason[1]}", statement)
            return None
        if statement.kind is Kind.CONDITION:
            return self._family(record) if statement.assertion is Assertion.FAMILY else self._condition(record)
        if statement.kind is Kind.ALLERGY:
            return self._allergy(record)
        if statement.kind is Kind.PRESCRIPTION:
            return self._prescription(record)
        return self._observation(record)

    def _refusal(self, record: Record) -> tuple[IssueType, str] | None:
        statement = record.statement
        if any(self.note.text[s.start : s.end] != s.quote for s in statement.fields.values()):
            return IssueType.INVALID, "evidence does not quote the note"
        if not line(record.display) or not line(statement.name.quote):
            return IssueType.VALUE, "name is blank"
        if statement.assertion is Assertion.FAMILY and statement.kind is not Kind.CONDITION:
            return IssueType.NOT_SUPPORTED, f"{statement.kind.value} of a family member"
        return None

    def _issue(self, severity: Severity, code: IssueType, text: str, statement: Statement | None = None) -> None:
        start, end = (statement.name.start, statement.name.end) if statement else (None, None)
        self.issues[Issue(severity=severity, code=code, text=text, start=start, end=end)] = None

    def _gap(self, element: str, why: str) -> None:
        self._issue(Severity.INFORMATION, IssueType.INCOMPLETE, f"{element}: {why}; JP Core profile claimed")

    def _start(self, resource_type: str, record: Record, ecs: bool, identifiers: Sequence[Json] = ()) -> Json:
        """resourceType, id, meta, extension, identifier: what every resource of a record begins with."""
        statement = record.statement
        places = (f"{field.value}:{span.start}-{span.end}" for field, span in sorted(statement.fields.items()))
        key = " ".join((statement.kind.value, *places))
        resource_id = identifier_of(*self.note_key, key, str(self.keys[key]))
        self.keys[key] += 1  # two records over the same characters stay two resources
        extension = self._evidence(record, *statement.fields)
        if statement.confidence is not None:
            extension.append({"url": codes.CONFIDENCE, "valueDecimal": Decimal(str(round(statement.confidence, 4)))})
        listed = list(identifiers)
        if self.facility:
            number = {"system": codes.INSTITUTION_NUMBER, "value": self.facility.number}
            extension.append({"url": codes.INSTITUTION_EXTENSION, "valueIdentifier": number})
            if department := line(self.note.department):
                extension.append({"url": codes.DEPARTMENT_EXTENSION, "valueCodeableConcept": {"text": department}})
            # <10 digits>^<year>^<up to 36 of A-Za-z0-9-> (JP-CLINS, リソース一意識別ID)
            value = f"{self.facility.number}^{self.note.date.year:04}^{resource_id}"
            listed.append({"system": codes.RESOURCE_ID, "value": value})
        name = {"Observation": "Observation_LabResult"}.get(resource_type, resource_type)
        profile = f"{codes.ECS_PROFILE}{name}_eCS" if ecs else f"{codes.CORE_PROFILE}{name}"
        start: Json = {
            "resourceType": resource_type,
            "id": resource_id,
            "meta": meta(self.recorded, profile),
            "extension": extension,
        }
        if listed:
            start["identifier"] = listed
        return start

    def _ecs(self, resource_type: str) -> bool:
        if self.facility is None:
            self._gap(f"{resource_type}.identifier", "institution number of the facility is missing")
        return self.facility is not None

    def _evidence(self, record: Record, *fields: Field) -> list[Json]:
        return evidence(self.document, spans(record.statement, *fields))

    def _date(self, record: Record) -> str | None:
        if record.date is not None and not is_partial_date(record.date):
            self._issue(Severity.WARNING, IssueType.VALUE, "date is not in the calendar", record.statement)
            return None
        return record.date

    # --- kinds ---

    def _condition(self, record: Record) -> Json:
        ecs = self._ecs("Condition")
        codings = list(record.codings)
        # JP_Condition_eCS: code.coding:medisRecordNo 1..*, its dummy where the 管理番号 is not known.
        if not codings or (ecs and all(c.system != codes.MEDIS_DISEASE for c in codings)):
            codings.append(codes.UNCODED_DISEASE)
        assertion = record.statement.assertion
        clinical, verification = codes.CONDITION_STATUS[assertion]
        past = assertion is Assertion.PAST
        category = codes.PROBLEM_LIST_ITEM if past else codes.ENCOUNTER_DIAGNOSIS
        resource = self._start("Condition", record, ecs) | {
            "clinicalStatus": concept([clinical]),
            "verificationStatus": concept([verification]),
            "category": [concept([category])],
            "code": concept(codings, line(record.display), self._evidence(record, Field.NAME)),
            "subject": self.subject,
        }
        if onset := self._date(record):
            resource |= primitive("onsetDateTime", onset, self._evidence(record, Field.ONSET))
        return resource | {"recordedDate": self.note.date.isoformat()}

    def _family(self, record: Record) -> Json:
        """FamilyMemberHistory; `partial`, because a note names some diseases of a relative, never all."""
        written = record.statement.fields.get(Field.RELATIVE)
        relative = line(record.relative or (written.quote if written else ""))
        # JP_FamilyMemberHistory_eCS allows one coding: ICD-10 is the one that other systems read.
        best = sorted(record.codings, key=lambda c: c.system != codes.ICD10)[:1] or [codes.UNCODED_DISEASE]
        condition: Json = {"code": concept(best, line(record.display), self._evidence(record, Field.NAME))}
        if onset := self._date(record):
            condition |= primitive("onsetString", onset, self._evidence(record, Field.ONSET))
        taken = self._evidence(record, Field.RELATIVE)
        relationship = concept([codes.relationship_coding(relative)], relative, taken)
        return self._start("FamilyMemberHistory", record, ecs=True) | {
            "status": "partial",
            "patient": self.subject,
            "date": self.note.date.isoformat(),
            "relationship": relationship,
            "condition": [condition],
        }

    def _allergy(self, record: Record) -> Json:
        category = record.statement.category or AllergyCategory.OTHER
        codings = record.codings or (codes.UNCODED_ALLERGEN[category],)
        ecs = self._ecs("AllergyIntolerance")
        if ecs and any(c.system not in codes.JFAGY for c in codings):
            self._gap("AllergyIntolerance.code", "a coding is not of the JFAGY systems")
            ecs = False
        clinical, verification = codes.ALLERGY_STATUS[record.statement.assertion]
        resource = self._start("AllergyIntolerance", record, ecs) | {
            "clinicalStatus": concept([clinical]),
            "verificationStatus": concept([verification]),
        }
        # FHIR has no `other`; JP-CLINS reads an absent category as その他アレルギー等.
        if category is not AllergyCategory.OTHER:
            resource["category"] = [category.value]
        resource |= {
            "code": concept(codings, line(record.display), self._evidence(record, Field.NAME)),
            "patient": self.subject,
            "recordedDate": self.note.date.isoformat(),
        }
        written = record.statement.fields.get(Field.REACTION)
        shown = [text for reaction in record.reactions if (text := line(reaction))]
        if not shown and written and line(written.quote):
            shown = [line(written.quote)]
        if shown:
            reaction = {"manifestation": [{"text": text} for text in shown]}
            resource["reaction"] = [with_extension(reaction, self._evidence(record, Field.REACTION))]
        return resource

    def _observation(self, record: Record) -> Json:
        name = "".join(line(record.statement.name.quote).split())
        digest = hashlib.sha256(codes.fold(name).encode()).hexdigest()[:16]
        local = Coding(system=codes.LOCAL_LAB, code=f"HYJ-{digest}", display=name)
        # Legal sets: {local, shared …} or {local, uncoded}; code.text is the local display (JP-CLINS, ObsLab notes).
        codings = [local, *(record.codings or (codes.UNCODED_LAB,))]
        resource = self._start("Observation", record, self._ecs("Observation")) | {
            "status": "final",
            "category": [concept([codes.LABORATORY])],
            "code": concept(codings, name, self._evidence(record, Field.NAME)),
            "subject": self.subject,
        }
        moment = self._date(record) or self.note.date.isoformat()
        resource |= primitive("effectiveDateTime", moment, self._evidence(record, Field.DATE))
        resource |= self._value(record, name)
        # specimen is 1..1 in JP_Observation_LabResult; a reference with a display alone is allowed there.
        resource["specimen"] = {"type": "Specimen", "display": codes.specimen(record.codings)}
        return resource

    def _value(self, record: Record, name: str) -> Json:
        """value[x] and interpretation. Beside a number a qualitative result becomes an interpretation."""
        statement = record.statement
        result = codes.INFECTION_TEXT[statement.result] if statement.result else record.text_value
        found = self._evidence(record, Field.VALUE)
        flags = [(record.flag, Field.FLAG)] if record.flag else []
        made: Json
        if record.quantity is not None:
            taken = self._evidence(record, Field.VALUE, Field.UNIT)
            made = {"valueQuantity": lab_quantity(record.quantity, taken)}
            if result:
                flags.insert(0, (result, Field.VALUE))
        elif result and (text := line(result)):
            if known := codes.result_coding(text, name, record.codings):
                made = {"valueCodeableConcept": concept([known], text, found)}
            else:
                made = primitive("valueString", text, found)
        elif Field.VALUE in statement.fields and (text := line(statement.fields[Field.VALUE].quote)):
            made = primitive("valueString", text, found)
        else:
            # JP-CLINS: without a result the status is registered, and the reason carries a text.
            made = {"status": "registered", "dataAbsentReason": concept([codes.NO_RESULT], "結果の記載なし")}
        interpretations = []
        for flag, field in flags:
            if text := line(flag):
                known = codes.interpretation_coding(text)
                interpretations.append(concept([known] if known else [], text, self._evidence(record, field)))
        return made | ({"interpretation": interpretations} if interpretations else {})

    def _prescription(self, record: Record) -> Json:
        statement = record.statement
        self._gap("MedicationRequest.status", "a note does not prove the completed order that JP-CLINS demands")
        status, intent = codes.MEDICATION_STATUS[statement.action or Action.PRESCRIBE]
        usage = statement.fields.get(Field.USAGE)
        group = (usage.start, usage.end) if usage else None
        # Drugs that share one written usage are one Rp; where a usage is not shared, each drug is its own.
        same = group is not None and group == self.rp_usage
        self.rp, self.order_in_rp = (self.rp, self.order_in_rp + 1) if same else (self.rp + 1, 1)
        self.rp_usage = group
        numbers = [
            {"system": codes.RP_NUMBER, "value": str(self.rp)},
            {"system": codes.ORDER_IN_RP, "value": str(self.order_in_rp)},
        ]
        codings = record.codings or (codes.UNCODED_DRUG,)
        resource = self._start("MedicationRequest", record, ecs=False, identifiers=numbers) | {
            "status": status,
            "intent": intent,
            "medicationCodeableConcept": concept(codings, line(record.display), self._evidence(record, Field.NAME)),
            "subject": self.subject,
            "authoredOn": self.note.date.isoformat(),
        }
        if instruction := self._dosage(record):
            resource["dosageInstruction"] = [instruction]
        if record.dosage and record.dosage.days is not None and record.dosage.days > 0:
            supply = with_extension(duration(record.dosage.days, "日", "d"), self._evidence(record, Field.DAYS))
            resource["dispenseRequest"] = {"expectedSupplyDuration": supply}
        return resource

    def _dosage(self, record: Record) -> Json:
        """Dosage; empty when the note states neither amount nor usage."""
        fields, dosage = record.statement.fields, record.dosage
        quotes = [line(fields[f].quote) for f in (Field.DOSE, Field.USAGE) if f in fields]
        instruction: Json = {}
        if text := line((dosage.text if dosage else None) or " ".join(quotes)):
            instruction["text"] = text
        timing: Json = {}
        if dosage and dosage.per_day is not None and dosage.per_day > 0:
            timing["repeat"] = {"frequency": dosage.per_day, "period": 1, "periodUnit": "d"}
        if Field.USAGE in fields and (usage := line(fields[Field.USAGE].quote)):
            timing["code"] = concept([], usage, self._evidence(record, Field.USAGE))
        if timing:
            instruction["timing"] = timing
        if dosage and dosage.as_needed:
            instruction["asNeededBoolean"] = True
        if dosage and dosage.dose is not None:
            taken = self._evidence(record, Field.DOSE)
            instruction["doseAndRate"] = [dose_and_rate(dosage.dose, dosage.dose_unit, taken)]
        return with_extension(instruction, self._evidence(record, Field.DOSE, Field.USAGE)) if instruction else {}
