"""検査 and 感染症: records to Observation (JP_Observation_LabResult_eCS of JP-CLINS 1.10.0)."""

import hashlib
from decimal import Decimal

from app.fhir import codes, people
from app.fhir.context import NoteContext
from app.fhir.elements import Json, concept, lab_quantity, plain, primitive, reference
from app.fhir.elements import coding as coded
from schemas.coding import Coding
from schemas.issue import IssueType, Severity
from schemas.record import Record
from schemas.spelling import fold
from schemas.statement import Field

_SPECIMEN = "#specimen"


def observation(ctx: NoteContext, record: Record) -> Json:
    ecs = ctx.ecs("Observation")
    when = _when(ctx, record)
    if ecs and "effectiveDateTime" not in when:
        ctx.not_ecs("Observation.effectiveDateTime", "the date that the note states could not be computed")
        ecs = False
    local = _local(ctx, record)
    # Local always, then the shared or general JLAC codes, or the dummy; code.text is the local display (JP-CLINS,
    # ObsLabResult notes). Codes of other systems may stand beside them.
    standard = any(c.system in codes.STANDARD_LAB for c in record.codings)
    codings = [local, *(() if standard else (codes.UNCODED_LAB,)), *record.codings]
    resource = ctx.start("Observation", record, ecs) | {
        "status": "final",
        "category": [concept([codes.LABORATORY])],
        "code": concept(codings, local.display, ctx.evidence(record, Field.NAME)),
        "subject": ctx.subject,
    }
    resource |= when
    resource |= _result(ctx, record, local.display)
    specimen = _specimen(record)
    # specimen is 1..1; a reference with a display alone is allowed.
    resource["specimen"] = (
        reference(_SPECIMEN, specimen["type"]["text"], "Specimen")
        if specimen
        else {"type": "Specimen", "display": codes.UNKNOWN_SPECIMEN}
    )
    people.attach(ctx, resource, "performer", specimen=specimen)
    if ecs:
        for element, there in (
            ("Observation.encounter", ctx.note.encounter),
            ("Observation.performer", ctx.ids.physician),
            ("Observation.extension:eCS_Department", ctx.department),
        ):
            if not there:
                ctx.not_for_bundle(element)
        if ctx.ids.physician and not (ctx.note.physician and ctx.note.physician.id):
            # JP_Practitioner_eCS, identifier: 医師ID is mandatory for what is sent to the service.
            ctx.not_for_bundle("Observation.performer.identifier")
    return resource


def _when(ctx: NoteContext, record: Record) -> Json:
    """The day of collection: the stated one, else the note's.

    Where a stated date could not be computed it is absent: the note's day would make an old result a new one.
    """
    taken = ctx.evidence(record, Field.DATE)
    if (day := ctx.date(record)) or not taken:
        return primitive("effectiveDateTime", day or ctx.day, taken)
    unknown = {"url": codes.DATA_ABSENT, "valueCode": "unknown"}
    return {"_effectiveDateTime": {"extension": [unknown, *taken]}}


def _local(ctx: NoteContext, record: Record) -> Coding:
    """The facility's own code of the item, else ours: a hash of the folded name as written, the same for every note.

    Its display is the record's, where no code says what the item is; the hash stays that of the written name.
    The display has no spaces, full-width ASCII or half-width katakana (JP-CLINS, ObsLabResult notes).
    """
    own = record.local
    if own and codes.HOSPITAL_LAB_CODE.fullmatch(own.code) and (shown := "".join(plain(own.display).split())):
        return Coding(system=codes.LOCAL_LAB, code=own.code, display=shown, version=own.version)
    if own:
        what = "Observation.code: the facility's item code or name is not of the form that JP-CLINS allows"
        ctx.issue(Severity.WARNING, IssueType.CODE_INVALID, what, record.statement)
    name = "".join(plain(record.statement.name.quote).split())
    digest = hashlib.sha256(fold(name).encode()).hexdigest()[:16]
    shown = name if record.codings else "".join(plain(record.display).split())
    return Coding(system=codes.LOCAL_LAB, code=f"HYJ-{digest}", display=shown)


def _result(ctx: NoteContext, record: Record, name: str) -> Json:
    """value[x], referenceRange and interpretation. Beside a number a qualitative result becomes an interpretation."""
    statement = record.statement
    result = codes.INFECTION_TEXT[statement.result] if statement.result else record.text_value
    found = ctx.evidence(record, Field.VALUE)
    flags = [(record.flag, Field.FLAG)] if record.flag else []
    made: Json
    if record.quantity is not None:
        taken = ctx.evidence(record, Field.VALUE, Field.UNIT)
        made = {"valueQuantity": lab_quantity(record.quantity, taken)}
        if result:
            flags.insert(0, (result, Field.VALUE))
    elif result and (text := plain(result)):
        if known := codes.result_coding(text, name, record.codings):
            made = {"valueCodeableConcept": concept([known], text, found)}
        else:
            made = primitive("valueString", text, found)
    elif Field.VALUE in statement.fields and (text := plain(statement.fields[Field.VALUE].quote)):
        made = primitive("valueString", text, found)
    else:
        # JP-CLINS: without a result the status is registered, and the reason carries a text.
        made = {"status": "registered", "dataAbsentReason": concept([codes.NO_RESULT], "結果の記載なし")}
    if interval := _reference_range(ctx, record, made.get("valueQuantity")):
        made["referenceRange"] = [interval]
    interpretations = []
    for flag, field in flags:
        if text := plain(flag):
            known = codes.interpretation_coding(text)
            interpretations.append(concept([known] if known else [], text, ctx.evidence(record, field)))
    return made | ({"interpretation": interpretations} if interpretations else {})


def _reference_range(ctx: NoteContext, record: Record, value: Json | None) -> Json:
    """Limits in the very unit of the value (two invariants of the profile), or without one where the value has none.

    The profile forbids extensions on the range and its limits: the evidence stands on its text, the range as written.
    """
    stated = record.reference_range
    if stated is None:
        return {}
    low, high = stated.low, stated.high
    if low is not None and high is not None and low > high:
        what = "Observation.referenceRange: the lower limit is above the upper one; it stands as text"
        ctx.issue(Severity.WARNING, IssueType.VALUE, what, record.statement)
        low = high = None
    if value is None:
        low = high = None  # limits of a number say nothing of a result that is none
    same = {part: value[part] for part in ("unit", "system", "code") if value and part in value}
    limits: tuple[tuple[str, Decimal | None], ...] = (("low", low), ("high", high))
    interval: Json = {name: {"value": limit, **same} for name, limit in limits if limit is not None}
    written = record.statement.fields.get(Field.REFERENCE)
    if written and (text := plain(written.quote)):
        interval |= primitive("text", text, ctx.evidence(record, Field.REFERENCE))
    return interval


def _specimen(record: Record) -> Json | None:
    """Contained Specimen of the material that the item's own code states."""
    material = codes.material(record.codings)
    if material is None:
        return None
    return {
        "resourceType": "Specimen",
        "id": _SPECIMEN[1:],
        "meta": {"profile": [f"{codes.CORE_PROFILE}Specimen"]},
        "type": {"coding": [coded(material)], "text": material.display},
    }
