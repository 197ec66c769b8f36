"""傷病名 and allergies: records to Condition, FamilyMemberHistory and AllergyIntolerance (JP-CLINS 1.10.0)."""

from app.fhir import codes, people
from app.fhir.context import NoteContext, written_name
from app.fhir.elements import Json, concept, line, primitive, with_extension
from app.fhir.elements import coding as coded
from schemas.issue import IssueType, Severity
from schemas.record import Record
from schemas.statement import AllergyCategory, Assertion, Field


def condition(ctx: NoteContext, record: Record) -> Json:
    """JP_Condition_eCS; JP_Condition for a denied disease. Asserts what the note says: 疑い is verificationStatus
    `unconfirmed`, never a modifier."""
    ecs = ctx.ecs("Condition")
    assertion = record.statement.assertion
    clinical, verification = codes.CONDITION_STATUS[assertion]
    if ecs and assertion is Assertion.ABSENT:
        # Its clinicalStatus is not one of those that JP-CLINS uses, and the service reads no denied disease.
        ctx.not_ecs("Condition.clinicalStatus", "JP-CLINS has none for a disease that is denied")
        ecs = False
    # The service takes encounter-diagnosis alone (JP_Condition_eCS, category).
    category = codes.PROBLEM_LIST_ITEM if assertion is Assertion.PAST and not ecs else codes.ENCOUNTER_DIAGNOSIS
    resource = ctx.start("Condition", record, ecs) | {
        "clinicalStatus": concept([clinical]),
        "verificationStatus": concept([verification]),
        "category": [concept([category])],
        "code": _disease(ctx, record, ecs),
        "subject": ctx.subject,
    }
    onset = ctx.date(record)
    if onset:
        resource |= primitive("onsetDateTime", onset, ctx.evidence(record, Field.ONSET))
    resource["recordedDate"] = ctx.day
    people.attach(ctx, resource, "recorder")
    if ecs:
        for element, there in (
            ("Condition.onsetDateTime", onset),
            ("Condition.encounter", ctx.note.encounter),
            ("Condition.extension:eCS_Department", ctx.department),
        ):
            if not there:
                ctx.not_for_bundle(element)
    return resource


def _disease(ctx: NoteContext, record: Record, ecs: bool) -> Json:
    """code: 病名管理番号 first, or its dummy, then 病名交換用コード, receipt code and ICD-10; modifiers as extensions."""
    rank = {system: place for place, system in enumerate(codes.DISEASE_ORDER)}
    codings = sorted(record.codings, key=lambda c: rank.get(c.system, len(rank)))
    # code.coding:medisRecordNo is 1..*; the dummy says that the 管理番号 is not known.
    if not codings or (ecs and codings[0].system != codes.MEDIS_DISEASE):
        codings.insert(0, codes.UNCODED_DISEASE)
    extension = ctx.evidence(record, Field.NAME)
    for modifier in record.modifiers:
        known = [next((c for c in modifier.codings if c.system == s), None) for s in codes.MODIFIER_SYSTEMS]
        if known[0] is None:
            # The extension demands the 修飾語管理番号: without one the modifier stands in code.text alone.
            what = "Condition.code: a modifier without 修飾語管理番号 stands in the text only"
            ctx.issue(Severity.INFORMATION, IssueType.INCOMPLETE, what, record.statement)
            continue
        value = {"coding": [coded(c) for c in known if c]}
        extension.append({"url": codes.MODIFIER_EXTENSION[modifier.position], "valueCodeableConcept": value})
    return concept(codings, written_name(record), extension)


def family_history(ctx: NoteContext, record: Record) -> Json:
    """FamilyMemberHistory; `partial`, because a note names some diseases of a relative, never all.

    JP_FamilyMemberHistory_eCS demands no identifier of the institution.
    """
    written = record.statement.fields.get(Field.RELATIVE)
    relative = line(record.relative or (written.quote if written else ""))
    # At most one coding is allowed, none is demanded: ICD-10 is the one that other systems read.
    best = sorted(record.codings, key=lambda c: c.system != codes.ICD10)[:1]
    disease: Json = {"code": concept(best, written_name(record), ctx.evidence(record, Field.NAME))}
    if onset := ctx.date(record):
        disease |= primitive("onsetString", onset, ctx.evidence(record, Field.ONSET))
    taken = ctx.evidence(record, Field.RELATIVE)
    return ctx.start("FamilyMemberHistory", record, ecs=True) | {
        "status": "partial",
        "patient": ctx.subject,
        "date": ctx.day,
        "relationship": concept([codes.relationship_coding(relative)], relative, taken),
        "condition": [disease],
    }


def allergy(ctx: NoteContext, record: Record) -> Json:
    """JP_AllergyIntolerance_eCS. `criticality` is absent: it is no field of a statement."""
    category = record.statement.category or AllergyCategory.OTHER
    # code.coding is bound to the JFAGY codes, required: a code of another system may not even stand beside one.
    codings = tuple(c for c in record.codings if c.system in codes.JFAGY) or (codes.UNCODED_ALLERGEN[category],)
    if any(c.system not in codes.JFAGY for c in record.codings):
        what = "AllergyIntolerance.code: a code that is not of the JFAGY systems is left out"
        ctx.issue(Severity.INFORMATION, IssueType.CODE_INVALID, what, record.statement)
    clinical, verification = codes.ALLERGY_STATUS[record.statement.assertion]
    resource = ctx.start("AllergyIntolerance", record, ctx.ecs("AllergyIntolerance")) | {
        "clinicalStatus": concept([clinical]),
        "verificationStatus": concept([verification]),
    }
    # FHIR has no `other`; JP-CLINS reads an absent category as その他アレルギー等.
    if category is not AllergyCategory.OTHER:
        resource["category"] = [category.value]
    resource |= {
        "code": concept(codings, written_name(record), ctx.evidence(record, Field.NAME)),
        "patient": ctx.subject,
        "recordedDate": ctx.day,
    }
    written = record.statement.fields.get(Field.REACTION)
    shown = [text for reaction in record.reactions if (text := line(reaction))]
    if not shown and written and line(written.quote):
        shown = [line(written.quote)]
    if shown:
        reaction = {"manifestation": [{"text": text} for text in shown]}
        resource["reaction"] = [with_extension(reaction, ctx.evidence(record, Field.REACTION))]
    people.attach(ctx, resource, "recorder")
    return resource
