"""What SS-MIX2 messages say against what FHIR resources of the same conversion say, read out of both outputs."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from app import ssmix2
from app.ssmix2 import DataKind, Message, Segment

Json = dict[str, Any]
KEY_NUMBER = "http://medis.or.jp/CodeSystem/master-disease-keyNumber"
RECEIPT = "http://jpfhir.jp/fhir/core/mhlw/CodeSystem/masterB-disease"
ICD10 = "http://jpfhir.jp/fhir/core/mhlw/CodeSystem/ICD10-2013-full"
HOT9 = "http://medis.or.jp/CodeSystem/master-HOT9"
YJ = "http://capstandard.jp/iyaku.info/CodeSystem/YJ-code"
JAMI = "http://jami.jp/CodeSystem/MedicationUsage"
UNCODED_FHIR, UNCODED_SSMIX2 = "99999999", "20084317"
NULL = '""'
# NHO, convert_to_sn: what a graded result looks like in OBX-5.
GRADES = {"-": "  -", "陰性": "  -", "+": "  +", "陽性": "  +", "±": "  +-"} | {f"{n}+": f" {n} +" for n in range(1, 6)}


def differences(resources: Sequence[Json], messages: Sequence[Message]) -> list[str]:
    """Where the two outputs of one note say different things; empty when they agree. Texts hold no patient text but
    codes and numbers."""
    by_kind: dict[DataKind, list[list[Segment]]] = {}
    for message in messages:
        by_kind.setdefault(message.kind, []).append(ssmix2.parse(message.text))
    typed: dict[str, list[Json]] = {}
    for resource in resources:
        typed.setdefault(resource["resourceType"], []).append(resource)
    return [
        *_patient(typed["Patient"][0], by_kind[DataKind.PATIENT][0]),
        *_visit(typed.get("Encounter", []), by_kind.get(DataKind.VISIT, [])),
        *_diseases(typed.get("Condition", []), by_kind.get(DataKind.DIAGNOSIS, [])),
        *_allergies(typed.get("AllergyIntolerance", []), by_kind.get(DataKind.ALLERGY, [])),
        *_results(typed.get("Observation", []), [m for m in messages if m.kind is DataKind.RESULT]),
        *_drugs(typed.get("MedicationRequest", []), by_kind.get(DataKind.PRESCRIPTION, [])),
    ]


def shown(text: str) -> str:
    """A text as JIS X 0208 and one line can show it."""
    return " ".join(ssmix2.fold(text)[0].split())


def compact(day: str | None) -> str:
    return (day or "").replace("-", "")


def codes(concept: Json, system: str) -> list[str]:
    return [coding["code"] for coding in concept.get("coding", []) if coding["system"] == system]


def first(found: Sequence[str]) -> str:
    return found[0] if found else ""


def of(segments: Iterable[Segment], name: str) -> list[Segment]:
    return [segment for segment in segments if segment.name == name]


def _patient(patient: Json, segments: list[Segment]) -> list[str]:
    pid = of(segments, "PID")[0]
    sex = {"male": "M", "female": "F", "other": "O", "unknown": "U"}[patient["gender"]]
    said = (sex, compact(patient.get("birthDate")) or NULL, patient["identifier"][0]["value"])
    return [] if said == (pid.get(8), pid.get(7), pid.get(3)) else ["ADT-00: another person"]


def _visit(encounters: list[Json], visits: list[list[Segment]]) -> list[str]:
    received = [
        compact(encounter["period"]["start"])
        for encounter in encounters
        if encounter["class"]["code"] in ("AMB", "EMER", "VR") and "start" in encounter.get("period", {})
    ]
    days = [of(segments, "PV1")[0].get(44) for segments in visits]
    return [] if received == days else [f"ADT-12: {received} and {days}"]


# --- diseases and allergies: SS-MIX2 says each once ---------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """`what`: codes, or the name where there are none; `day`: onset, compact; `category`: of an allergy."""

    what: tuple[str, ...]
    status: str
    day: str = ""
    category: str = ""

    def takes_up(self, other: "Finding") -> bool:
        """Does it say all that `other` says, of the same thing? (A note may call one allergen a food and a drug.)"""
        same = self.what == other.what and (self.status == "past") == (other.status == "past")
        surer = self.status == other.status or other.status == "suspected"
        return same and surer and self.day.startswith(other.day)


def _compared(kind: str, fhir: list[Finding], ours: list[Finding]) -> list[str]:
    found = [f"{kind}: only in SS-MIX2: {one}" for one in ours if one not in fhir]
    found += [f"{kind}: only in FHIR: {one}" for one in fhir if not any(said.takes_up(one) for said in ours)]
    return found + [f"{kind}: twice: {one}" for one in set(ours) if ours.count(one) > 1]


def _status(resource: Json) -> str:
    verification = resource["verificationStatus"]["coding"][0]["code"]
    if verification == "refuted":
        return ""
    past = resource["clinicalStatus"]["coding"][0]["code"] != "active"
    return "past" if past else "suspected" if verification == "unconfirmed" else "present"


def _named(codings: tuple[str, ...], name: str) -> tuple[str, ...]:
    return codings if any(codings) else ("", shown(name))


def _diseases(conditions: list[Json], snapshots: list[list[Segment]]) -> list[str]:
    fhir = []
    for condition in conditions:
        code = condition["code"]
        number = [value for value in codes(code, KEY_NUMBER) if value != UNCODED_FHIR]
        coded = (first(number), first(codes(code, RECEIPT)), first(codes(code, ICD10)).replace(".", ""))
        if status := _status(condition):
            what = _named(coded, re.sub("の?疑い?$", "", code["text"]))
            fhir.append(Finding(what, status, compact(condition.get("onsetDateTime"))))
    ours = []
    for prb in (prb for segments in snapshots for prb in of(segments, "PRB")):
        number = prb.get(3) if prb.get(3) != UNCODED_SSMIX2 else ""
        name = prb.get(3, 2).removesuffix("の疑い")
        suspected, past = prb.get(13) == "1" and prb.get(13, 3) == "JHSD0005", bool(prb.get(14))
        status = "suspected" if suspected else "past" if past else "present"
        if prb.get(9) or prb.get(15):
            return ["PRB-9: an end that no note can state"]
        ours.append(Finding(_named((number, prb.get(3, 4), prb.get(10)), name), status, prb.get(16)))
    keys = [prb.get(4) for segments in snapshots for prb in of(segments, "PRB")]
    return _compared("PPR-01", fhir, ours) + (["PRB-4: an id twice"] if len(set(keys)) < len(keys) else [])


def _allergies(allergies: list[Json], snapshots: list[list[Segment]]) -> list[str]:
    categories = {"medication": "DA", "food": "FA", "environment": "EA", "": "MA"}
    fhir = []
    for allergy in allergies:
        if status := _status(allergy):
            category = categories[first(allergy.get("category", []))]
            known = [c["code"] for c in allergy["code"]["coding"] if not re.fullmatch("D9[FNM]0+", c["code"])]
            what = _named((first(known),), allergy["code"]["text"])
            fhir.append(Finding(what, status, category=category))
    ours = []
    for iam in (iam for segments in snapshots for iam in of(segments, "IAM")):
        status = {"C": "present", "S": "suspected", "I": "past"}[iam.get(17)]
        ours.append(Finding(_named((iam.get(3),), iam.get(3, 2)), status, category=iam.get(2)))
    keys = [iam.get(7) for segments in snapshots for iam in of(segments, "IAM")]
    return _compared("ADT-61", fhir, ours) + (["IAM-7: an id twice"] if len(set(keys)) < len(keys) else [])


# --- results ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Value:
    """One value of a result: `text` as OBX-5 writes it, `unit` as written, `day` compact."""

    text: str
    unit: str
    day: str


def _results(observations: list[Json], messages: list[Message]) -> list[str]:
    found: list[str] = []
    rows: list[tuple[set[str], Value]] = []
    for message in messages:
        sampled = ""
        for segment in ssmix2.parse(message.text):
            if segment.name == "SPM":
                sampled = segment.get(17)
            elif segment.name == "OBX":
                found += [f"OML-11: {fault}" for fault in _row_faults(segment, sampled, message)]
                value = Value(segment.get(5), segment.get(6, 2), segment.get(14))
                rows.append(({segment.get(3), segment.get(3, 4)} - {""}, value))
    for observation in observations:
        known = {coding["code"] for coding in observation["code"]["coding"]}
        for value in _values(observation):
            row = next((row for row in rows if row[0] & known and row[1] == value), None)
            if row is None:
                found.append(f"OML-11: only in FHIR: {sorted(known)} {value}")
            else:
                rows.remove(row)
                found += [f"OML-11: a code that FHIR does not have: {code}" for code in row[0] - known]
    return found + [f"OML-11: only in SS-MIX2: {sorted(names)} {value}" for names, value in rows]


def _row_faults(obx: Segment, sampled: str, message: Message) -> Iterable[str]:
    if obx.get(2) == "NM" and not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", obx.get(5)):
        yield "NM is no number"
    if obx.get(2) not in ("NM", "ST", "CWE"):
        yield f"type {obx.get(2)}"
    day = f"{message.care_date:%Y%m%d}"
    if len(obx.get(14)) == 8 and not obx.get(14) == sampled == day:
        yield f"filed under {day}, sampled {sampled or 'at no day'}, observed {obx.get(14)}"


def _values(observation: Json) -> list[Value]:
    """What SS-MIX2 has to say of an Observation: a number, and the verdict beside it, are two values."""
    day = compact(observation.get("effectiveDateTime", ""))  # absent where the written day could not be computed
    values = []
    if quantity := observation.get("valueQuantity"):
        number = format(quantity["value"], "f")
        text = f"{quantity['comparator']} {number}" if "comparator" in quantity else number
        values.append(Value(text, shown(quantity.get("unit", "")), day))
        for flag in observation.get("interpretation", []):
            if flag["text"] in GRADES or flag["text"] == "判定保留":
                values.append(Value(GRADES.get(flag["text"], flag["text"]), "", day))
    text = observation.get("valueString") or observation.get("valueCodeableConcept", {}).get("text")
    if text:
        group = {c["system"].rpartition("/")[2] for c in observation.get("valueCodeableConcept", {}).get("coding", [])}
        rhesus = {"陽性": "+", "陰性": "-", "+": "+", "-": "-"}.get(text, text)
        blood = rhesus if "JP_BldRh_CS" in group else text if "JP_BldABO_CS" in group else ""
        values.append(Value(blood or GRADES.get(text, shown(text)), "", day))
    return values


# --- prescriptions ------------------------------------------------------------------------------------------------------


def _drugs(requests: list[Json], orders: list[list[Segment]]) -> list[str]:
    ordered = [request for request in requests if _is_order(request)]
    groups = [list(group) for segments in orders for group in _groups(segments)]
    if len(ordered) != len(groups):
        return [f"OMP-01: {len(ordered)} orders in FHIR, {len(groups)} in SS-MIX2"]
    pairs = zip(ordered, groups, strict=True)
    return [f"OMP-01 {place}: {fault}" for place, pair in enumerate(pairs, 1) for fault in _drug_faults(*pair)]


def _is_order(request: Json) -> bool:
    """A drug taken before is `completed` too, but claims no eCS profile."""
    ecs = any("/eCS/" in profile for profile in request["meta"]["profile"])
    return request["intent"] == "order" and (request["status"] == "active" or ecs)


def _groups(segments: list[Segment]) -> Iterable[list[Segment]]:
    starts = [place for place, segment in enumerate(segments) if segment.name == "ORC"]
    return (segments[start:end] for start, end in zip(starts, [*starts[1:], len(segments)], strict=True))


def _number(field: str) -> Decimal | None:
    return Decimal(field) if field not in ("", NULL) else None


def _drug_faults(request: Json, group: list[Segment]) -> Iterable[str]:
    orc, rxe, tq1, _ = group
    concept = request["medicationCodeableConcept"]
    for system, code in ((HOT9, rxe.get(2) if rxe.get(2, 3) == "HOT9" else ""), (YJ, rxe.get(31))):
        if first(codes(concept, system)) != code:
            yield f"code {codes(concept, system)} and {code}"
    if rxe.get(2, 3) == "99HYJ" and rxe.get(2) and rxe.get(2) not in {c["code"] for c in concept["coding"]}:
        yield f"local code {rxe.get(2)}"
    if orc.get(9) != compact(request["authoredOn"]):
        yield "day of order"
    instruction = first_json(request.get("dosageInstruction"))
    yield from _amount_faults(instruction, request.get("dispenseRequest", {}), rxe)
    timing = instruction.get("timing", {})
    days = request.get("dispenseRequest", {}).get("expectedSupplyDuration", {}).get("value")
    if _number(tq1.get(6)) != days:
        yield f"days {days} and {tq1.get(6)}"
    usage = first(codes(timing.get("code", {}), JAMI))
    if (tq1.get(3) if tq1.get(3, subcomponent=3) == "JAMISDP01" else "") != usage:
        yield f"usage {usage} and {tq1.get(3)}"
    if bool(timing.get("code")) != bool(tq1.get(3) or tq1.get(3, subcomponent=2)):
        yield "usage in one alone"
    if (
        instruction.get("asNeededBoolean")
        and rxe.get(27) == "21"
        or (rxe.get(27) == "22" and not instruction.get("asNeededBoolean"))
    ):
        yield "as needed in one alone"
    frequency = timing.get("repeat", {}).get("frequency")
    dose, daily = _number(rxe.get(3)), _number(rxe.get(19))
    if dose is not None and daily is not None and frequency != daily / dose:
        yield f"frequency {frequency}: {dose} and {daily}"


def first_json(found: list[Json] | None) -> Json:
    return found[0] if found else {}


def _amount_faults(instruction: Json, dispensed: Json, rxe: Segment) -> Iterable[str]:
    rate = first_json(instruction.get("doseAndRate"))
    dose = rate.get("doseQuantity") or rate.get("rateQuantity") or {}
    daily = rate.get("rateRatio", {}).get("numerator", {})
    whole = dispensed.get("quantity", {})
    text = instruction.get("text", "")
    if not (rate or whole):
        # An amount whose unit has no code in FHIR stands there as text.
        numbers = [value for field in (3, 19) if (value := _number(rxe.get(field))) is not None]
        if numbers and not re.search(r"\d|半", text):
            yield "an amount in SS-MIX2 alone"
        return
    for name, quantity, value, unit in (
        ("dose", dose, rxe.get(3), rxe.get(5) or rxe.get(5, 2)),
        ("daily dose", daily, rxe.get(19), rxe.get(19, 2)),
        ("whole", whole, rxe.get(10) if whole else "", rxe.get(11) if whole else ""),
    ):
        if quantity.get("value") != _number(value):
            yield f"{name} {quantity.get('value')} and {value}"
        elif quantity and quantity.get("code", shown(quantity["unit"])) != unit:
            yield f"unit of {name} {quantity.get('code')} and {unit}"
