"""ADT-00 basic data of a patient, ADT-12 an outpatient visit, ADT-61 allergies.

Source: SS-MIX2 標準化ストレージ仕様書 1.2 (allowed and required fields as of 1.2g), HL7 2.5.
"""

import re
import unicodedata
from collections.abc import Sequence
from datetime import datetime

from app.ssmix2 import codes, hl7
from app.ssmix2.builder import NO_ORDER, Builder, DataKind, Facility, Message, compact, day_of, is_inpatient, seconds
from app.ssmix2.findings import check_key
from app.ssmix2.results import profile_rows
from app.ssmix2.stated import Allergy, Registration, Relative
from schemas.note import ChartNote, EncounterClass
from schemas.record import Record
from schemas.statement import AllergyCategory, Assertion, Kind

_POSTAL = re.compile(r"〒?\s*(\d{3})[-‐－−]?(\d{4})(?!\d)[\s、,]*(?=\S)")
# What is received at a desk: a visit at the patient's home is none, and a stay is told by other kinds.
_RECEIVED = (EncounterClass.AMBULATORY, EncounterClass.EMERGENCY, EncounterClass.VIRTUAL)


def patient_message(
    note: ChartNote,
    facility: Facility,
    *,
    control_id: str,
    sent_at: datetime,
    registration: Registration | None = None,
    profile: Sequence[Record] = (),
    allergies: Sequence[Record] = (),
) -> Message:
    """ADT-00, the basic data of the note's patient. There is one for a patient, so that each is a full snapshot:
    `profile` (height, weight, blood groups) and `allergies` are all that is known, or none of it."""
    build = Builder(note, facility, DataKind.PATIENT, control_id, sent_at, registration)
    build.add("EVN", {2: build.now, 7: build.facility_id})
    phone = registration.phone if registration else None
    build.patient(
        {
            11: _address(build, note.patient.address) if note.patient.address else "",
            # XTN: PRN primary residence number, PH telephone, 12 the number as it is written.
            13: build.coded("PID-13", ("", "PRN", "PH", *[""] * 8, phone)) if phone else "",
            33: build.now,
        }
    )
    for number, person in enumerate(registration.relatives if registration else (), 1):
        _relative(build, number, person)
    stay = note.encounter if note.encounter and build.inpatient else None
    build.visit("0001", {44: compact(stay.start), 45: compact(stay.end)} if stay else None)
    for number, row in enumerate(profile_rows(build, profile), 1):
        build.add("OBX", {1: str(number)} | row)
    add_allergies(build, allergies)
    if note.patient.insurance_id:
        _insurance(build, note.patient.insurance_id)
    return build.message(None, NO_ORDER, "-")


def _address(build: Builder, address: str) -> str:
    """PID-11 (XAD): post code and country as far as the address begins with a Japanese post code; the rest in one piece
    (8, other designation), of the home (7, H)."""
    line = " ".join(address.split())
    found = _POSTAL.match(line)
    if found is None:
        return build.coded("PID-11", ("", "", "", "", "", "", "H", line))
    code = unicodedata.normalize("NFKC", f"{found[1]}-{found[2]}")
    return build.coded("PID-11", ("", "", "", "", code, "JPN", "H", line[found.end() :]))


def _relative(build: Builder, number: int, person: Relative) -> None:
    name = build.name("NK1-2", person.family, person.given, person.kana)
    relationship = build.coded("NK1-3", (*person.relationship, "HL70063"))
    build.add("NK1", {1: str(number), 2: name, 3: relationship})


def _insurance(build: Builder, member: str) -> None:
    """IN1 of 被保険者個人識別子 (insurer, 記号, 番号, branch). IN1-2, the kind of insurance, is required and not in it."""
    insurer, symbol, number, _ = member.split(":")
    fields = {1: "1", 2: hl7.NULL, 3: insurer, 10: build.text("IN1-10", symbol), 11: build.text("IN1-11", number)}
    build.add("IN1", fields)


def visit_message(
    note: ChartNote,
    facility: Facility,
    *,
    control_id: str,
    sent_at: datetime,
    registration: Registration | None = None,
    received_at: datetime | None = None,
) -> Message | None:
    """ADT-12, the reception of an outpatient. None unless the sender states an outpatient visit and its day: a note of
    that day says by itself nothing of a reception. `received_at`: the moment, where it is known."""
    visit = note.encounter
    if visit is None or visit.encounter_class not in _RECEIVED or visit.start is None or is_inpatient(note):
        return None
    build = Builder(note, facility, DataKind.VISIT, control_id, sent_at, registration)
    build.add("EVN", {2: build.now, 7: build.facility_id})
    build.patient()
    build.visit("0001", {44: seconds(received_at) or compact(visit.start)})
    return build.message(visit.start, NO_ORDER, facility.department_code or "-")


# --- allergies -------------------------------------------------------------------------------------------------------

# IAM-17, HL7 table 0438 (HL7 2.5).
_STATUS = {
    "U": ("U", "未確認"),
    "P": ("P", "確認待ち"),
    "S": ("S", "疑い"),
    "C": ("C", "確認済"),
    "I": ("I", "確認済、現在なし"),
}
_STATUS_OF = {Assertion.PRESENT: "C", Assertion.SUSPECTED: "S", Assertion.PAST: "I"}
# IAM-4, HL7 table 0128; IAM-9, table 0436.
_SEVERITY = {"MI": "軽度", "MO": "中等度", "SV": "重度", "U": "不明"}
_SORT = {"AD": "副作用", "AL": "アレルギー", "CT": "禁忌", "IN": "不耐"}
# IAM-2, HL7 table 0127.
_CLASS = {
    AllergyCategory.MEDICATION: "DA^薬物アレルギー^HL70127",
    AllergyCategory.FOOD: "FA^食物アレルギー^HL70127",
    AllergyCategory.ENVIRONMENT: "EA^環境アレルギー^HL70127",
    AllergyCategory.OTHER: "MA^その他のアレルギー^HL70127",
}
_REACTION_LENGTH = 15  # IAM-5 is ST 15, repeating


def allergy_message(
    note: ChartNote,
    allergies: Sequence[Allergy],
    facility: Facility,
    *,
    control_id: str,
    sent_at: datetime,
    registration: Registration | None = None,
) -> Message | None:
    """ADT-61. A patient has one slot for it, so every message is a full snapshot of `allergies` (`findings.merged`).

    Denied allergies and those of relatives are not written; None when nothing is left (SS-MIX2 has no agreed way to
    say "no allergy"). Raises InvalidInput for a key that IAM-7 cannot hold.
    """
    chosen = [allergy for allergy in allergies if _is_written(allergy.record)]
    if not chosen:
        return None
    build = Builder(note, facility, DataKind.ALLERGY, control_id, sent_at, registration)
    build.add("EVN", {2: build.now})
    build.patient()
    for number, allergy in enumerate(chosen, 1):
        build.add("IAM", {1: str(number)} | _allergy_fields(build, allergy))
    return build.message(None, NO_ORDER, "-")


def _is_written(record: Record) -> bool:
    return record.statement.kind is Kind.ALLERGY and record.statement.assertion in _STATUS_OF


def _allergy_fields(build: Builder, allergy: Allergy) -> dict[int, str]:
    record, note = allergy.record, allergy.note
    category = record.statement.category
    day = day_of(record.date)
    status = _STATUS_OF[record.statement.assertion] if allergy.status is None else allergy.status
    reported = allergy.reported or (note.date if note else None)
    return {
        2: _CLASS[category] if category else "",
        3: build.coded("IAM-3", codes.allergen_code(record)),
        4: f"{allergy.severity}^{_SEVERITY[allergy.severity]}^HL70128" if allergy.severity else "",
        5: "~".join(build.pieces("IAM-5", reaction, _REACTION_LENGTH) for reaction in record.reactions),
        6: "A^追加^HL70323",
        7: check_key(allergy.key),
        9: f"{allergy.sort}^{_SORT[allergy.sort]}^HL70436" if allergy.sort else "",
        11: compact(day) if len(day) == 10 else "",
        12: build.text("IAM-12", allergy.onset or _in_words(day), 60) if len(day) < 10 else "",
        13: compact(reported),
        17: build.coded("IAM-17", (*_STATUS[status], "HL70438")) if status else "",
    }


def _in_words(day: str) -> str:
    year, _, month = day.partition("-")
    return f"{int(year)}年{int(month)}月" if month else f"{int(year)}年" if year else ""


def add_allergies(build: Builder, allergies: Sequence[Record]) -> None:
    """AL1 of each allergy that the patient has or may have."""
    known = [record for record in allergies if _is_written(record)]
    for number, record in enumerate(known, 1):
        category = record.statement.category
        kind = _CLASS[category] if category else ""
        build.add("AL1", {1: str(number), 2: kind, 3: build.coded("AL1-3", codes.allergen_code(record))})
