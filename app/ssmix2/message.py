"""Messages of the standardized storage: what each finding of a note becomes, segment by segment.

Source: SS-MIX2 標準化ストレージ仕様書 1.2 (allowed and required fields as of 1.2g), HL7 2.5, the JAHIS code tables
named at each field, and NHO SSMIX2_support_documents for what the specification leaves open. A field that the note does
not fill stays empty: no physician, no reference range, no report time is made up.

Every builder takes the records of a note (or of all notes of a patient, see each) in their own order and picks those
of its kind. `sent_at` is an aware instant; HL7 times are written in Japanese time. `control_id` (MSH-10) has at most
20 characters and is new for every message.
"""

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import date, datetime

from app.errors import InvalidInput
from app.ssmix2 import codes, hl7
from app.ssmix2.builder import (
    EVENTS,
    NO_ORDER,
    Builder,
    DataKind,
    Facility,
    Message,
    checked_control_id,
    compact,
    local_time,
    order_number,
    with_milliseconds,
)
from schemas.issue import Issue, IssueType
from schemas.note import ChartNote, DocumentType
from schemas.record import Dosage, Record
from schemas.statement import Action, AllergyCategory, Assertion, Field, Kind


def messages(
    note: ChartNote, records: Sequence[Record], *, facility: Facility, sent_at: datetime
) -> tuple[list[Message], list[Issue]]:
    """Every message of one note, and the issues of writing them.

    Order number and instance ids are derived from the ids of patient and note and the places of the statements, so
    that converting the note again replaces what it wrote before; MSH-10 changes with `sent_at`. ADT-61 and PPR-01 hold
    this note's findings alone; a storage that must keep those of other notes calls their builders with `earlier`.
    """
    origin = f"{note.patient.id}\n{note.id}"
    order = int(_digest(origin), 16) % (int(NO_ORDER) - 1) + 1
    control_ids = (_digest(f"{origin}\n{sent_at.isoformat()}\n{number}")[:20] for number in itertools.count())
    keys: dict[int, str] = {}
    seen: Counter[str] = Counter()
    for record in records:
        spans = sorted(record.statement.fields.items())
        place = " ".join([record.statement.kind, *(f"{name}:{span.start}-{span.end}" for name, span in spans)])
        keys[id(record)] = _digest(f"{origin}\n{place}\n{seen[place]}")[:20]
        seen[place] += 1  # two records over the same characters stay two instances

    def key_of(record: Record) -> str:
        return keys[id(record)]

    written = [
        patient_message(note, facility, control_id=next(control_ids), sent_at=sent_at),
        allergy_message(note, records, facility, control_id=next(control_ids), sent_at=sent_at, key_of=key_of),
        diagnosis_message(note, records, facility, control_id=next(control_ids), sent_at=sent_at, key_of=key_of),
        prescription_message(note, records, facility, order=order, control_id=next(control_ids), sent_at=sent_at),
        *result_messages(note, records, facility, order=order, control_ids=control_ids, sent_at=sent_at),
    ]
    made = [message for message in written if message is not None]
    return made, [issue for message in made for issue in message.issues]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def patient_message(note: ChartNote, facility: Facility, *, control_id: str, sent_at: datetime) -> Message:
    """ADT-00, the basic data of the note's patient."""
    build = Builder(note, facility, DataKind.PATIENT, control_id, sent_at)
    build.add("EVN", {2: build.now, 7: build.facility_id})
    build.patient({33: build.now})
    build.visit("0001")
    return build.message(None, NO_ORDER, "-")


def allergy_message(
    note: ChartNote,
    records: Sequence[Record],
    facility: Facility,
    *,
    control_id: str,
    sent_at: datetime,
    key_of: Callable[[Record], str],
    earlier: Sequence[Record] = (),
) -> Message | None:
    """ADT-61. A patient has one slot for it, so every message is a full snapshot: `earlier` are the records of the
    patient's other notes, written first and without what only `note` says (the day of report, IAM-13).

    Denied allergies and those of relatives are not written; None when nothing is left (SS-MIX2 has no agreed way to
    say "no allergy"). `key_of`: the stable id (IAM-7) of a record, at most 20 characters.
    """
    build = Builder(note, facility, DataKind.ALLERGY, control_id, sent_at)
    build.add("EVN", {2: build.now, 7: build.facility_id})
    build.patient()
    chosen = _stated(Kind.ALLERGY, earlier, records)
    for number, (record, of_note) in enumerate(chosen, 1):
        build.add("IAM", _allergy_fields(build, record, number, _key(key_of, record), of_note))
    return build.message(None, NO_ORDER, "-") if chosen else None


# IAM-17, HL7 table 0438 (HL7 2.5).
_ALLERGY_STATUS = {
    Assertion.PRESENT: "C^確認済^HL70438",
    Assertion.SUSPECTED: "S^疑い^HL70438",
    Assertion.PAST: "I^確認済、現在なし^HL70438",
}
# IAM-2, HL7 table 0127.
_ALLERGY_CLASS = {
    AllergyCategory.MEDICATION: "DA^薬物アレルギー^HL70127",
    AllergyCategory.FOOD: "FA^食物アレルギー^HL70127",
    AllergyCategory.ENVIRONMENT: "EA^環境アレルギー^HL70127",
    AllergyCategory.OTHER: "MA^その他のアレルギー^HL70127",
}
_REACTION_LENGTH = 15  # IAM-5 is ST 15, repeating


def _allergy_fields(build: Builder, record: Record, number: int, key: str, of_note: bool) -> dict[int, str]:
    category = record.statement.category
    drug = category is AllergyCategory.MEDICATION
    allergen = codes.drug_code(record) if drug else codes.local_code(record)
    day = _day(record)
    return {
        1: str(number),
        2: _ALLERGY_CLASS[category] if category else "",
        3: build.coded("IAM-3", allergen),
        5: "~".join(build.pieces("IAM-5", reaction, _REACTION_LENGTH) for reaction in record.reactions),
        6: "A^追加^HL70323",
        7: key,
        11: compact(day) if len(day) == 10 else "",
        12: build.text("IAM-12", _in_words(day), 60) if 0 < len(day) < 10 else "",
        13: compact(build.note.date.isoformat()) if of_note else "",
        17: _ALLERGY_STATUS[record.statement.assertion],
    }


def diagnosis_message(
    note: ChartNote,
    records: Sequence[Record],
    facility: Facility,
    *,
    control_id: str,
    sent_at: datetime,
    key_of: Callable[[Record], str],
    earlier: Sequence[Record] = (),
) -> Message | None:
    """PPR-01, one file with all diagnoses of a patient: `earlier` are the records of the patient's other notes,
    written first and without what only `note` says (the moment of diagnosis, PRB-10.4).

    Absent conditions and those of relatives are not written; None when nothing is left. Suspected ones carry PRB-13;
    past ones an outcome (PRB-14) and, where a date is known, PRB-9 and PRB-15. `key_of`: the stable id (PRB-4) of a
    record, at most 20 characters.
    """
    build = Builder(note, facility, DataKind.DIAGNOSIS, control_id, sent_at)
    build.patient()
    chosen = _stated(Kind.CONDITION, earlier, records)
    for record, of_note in chosen:
        build.add("PRB", _problem_fields(build, record, _key(key_of, record), of_note))
    return build.message(None, NO_ORDER, "-") if chosen else None


UNCODED_DISEASE = "20084317"
"""病名管理番号 of a 未コード化傷病名; the name beside it is then free. Source: NHO `unspecified_icd10.md`."""

# PRB-10.4, JAHIS table JHSD0004: when a diagnosis was made, as far as the kind of document says it.
_DIAGNOSIS_TYPES = {
    DocumentType.ADMISSION: ("H", "入院時", "JHSD0004"),
    DocumentType.DISCHARGE: ("L", "退院時", "JHSD0004"),
    DocumentType.PREOP: ("B", "手術前", "JHSD0004"),
    DocumentType.HOMECARE: ("O", "外来時", "JHSD0004"),
    DocumentType.EMERGENCY: ("O", "外来時", "JHSD0004"),
    DocumentType.CHECKUP: ("O", "外来時", "JHSD0004"),
}


def _problem_fields(build: Builder, record: Record, key: str, of_note: bool) -> dict[int, str]:
    past = record.statement.assertion is Assertion.PAST
    number = codes.find_coding(record, codes.KEY_NUMBER)
    receipt = codes.find_coding(record, codes.RECEIPT_DISEASE)
    icd10 = codes.find_coding(record, codes.ICD10_2013)
    disease = (number.code, number.display, "MDCDX2") if number else (UNCODED_DISEASE, record.display, "MDCDX2")
    local = (receipt.code, receipt.display, codes.LOCAL) if receipt else ()
    unsaid = ("", "", "")
    moment = _DIAGNOSIS_TYPES.get(build.note.document_type, unsaid) if of_note and not past else unsaid
    day = compact(_day(record))
    onset = record.statement.fields.get(Field.ONSET)
    return {
        1: "AD",
        2: build.now,
        3: build.coded("PRB-3", disease + local),
        4: key,
        9: day if past else "",
        10: build.coded("PRB-10", (icd10.code.replace(".", ""), "", "I10", *moment, "2013")) if icd10 else "",
        13: "1^疑いあり^JHSD0005" if record.statement.assertion is Assertion.SUSPECTED else "",
        14: "O^その他^JHSD0006" if past else "",
        15: day if past else "",
        16: day,
        17: build.text("PRB-17", " ".join(onset.quote.split()), 80) if onset else "",
    }


def prescription_message(
    note: ChartNote,
    records: Sequence[Record],
    facility: Facility,
    *,
    order: int,
    control_id: str,
    sent_at: datetime,
) -> Message | None:
    """OMP-01, the drugs of one note as one order of its date.

    Only drugs that the note gives (prescribe, continue, change, or no action stated): a stopped, a former and a
    planned drug is no order, so the actions stop, history and plan are not written. None when nothing is left.
    Drugs that share the written usage and days share an RP number.
    """
    build = Builder(note, facility, DataKind.PRESCRIPTION, control_id, sent_at)
    order_no = order_number(order)
    build.patient()
    build.visit("")  # PV1-1 must stay empty in OMP-01
    unwritten = (Action.STOP, Action.HISTORY, Action.PLAN)
    chosen = [
        r
        for r in records
        if r.statement.kind is Kind.PRESCRIPTION
        and r.statement.action not in unwritten
        and r.statement.assertion is not Assertion.FAMILY
    ]
    for rp, drugs in enumerate(_taken_together(chosen), 1):
        for number, record in enumerate(drugs, 1):
            if rp > 99:
                raise InvalidInput("a prescription holds at most 99 RP numbers (ORC-4)")
            build.order("NW", order_no, {4: f"{order_no}_{rp:02}_{number:03}", 9: compact(note.date.isoformat())})
            _prescribe(build, record, order_no)
    return build.message(note.date, order_no, facility.department_code or "-") if chosen else None


def _taken_together(records: Iterable[Record]) -> list[list[Record]]:
    groups: list[list[Record]] = []
    former: tuple[int, int] | None = None
    for record in records:
        usage = record.statement.fields.get(Field.USAGE)
        # Only the very same words of the note: 毎食後 written twice may be two RPs.
        place = (usage.start, usage.end) if usage else None
        if groups and place is not None and place == former:
            groups[-1].append(record)
        else:
            groups.append([record])
        former = place
    return groups


def _prescribe(build: Builder, record: Record, order_no: str) -> None:
    dosage = record.dosage or Dosage()
    external = codes.is_external(record)
    unit, daily_only = _split_daily(dosage.dose_unit)
    unit_code = codes.dose_unit(unit) if unit else None
    per_intake = None if daily_only else dosage.dose
    per_day = dosage.dose if daily_only else None
    if per_intake is not None and dosage.per_day and not dosage.as_needed:
        per_day = per_intake * dosage.per_day
    if unit and "/" in unit:
        per_day = None  # 5 mg/kg or 15 mg/週 cannot be multiplied into a supply
    # 頓用 is supplied by the number of intakes, anything else by days.
    times = codes.occasions(record) if dosage.as_needed else None
    total = None
    if times and per_intake is not None and not (unit and "/" in unit):
        total = per_intake * times
    elif per_day is not None and dosage.days:
        total = per_day * dosage.days
    yj = codes.find_coding(record, codes.YJ)
    use = "23^外用^JHSP0003" if external else "22^頓用^JHSP0003" if dosage.as_needed else "21^内服^JHSP0003"
    known_use = external is not None or dosage.as_needed
    outpatient = "OHP^外来処方^MR9P" if not build.inpatient else "IHP^入院処方^MR9P"
    stated = unit_code and per_intake is not None
    daily = f"{_plain(per_day)}^{build.coded('RXE-19', unit_code, '&')}" if per_day is not None and unit_code else ""
    build.add(
        "RXE",
        {
            2: build.coded("RXE-2", codes.drug_code(record)),
            3: codes.digits(per_intake) if per_intake is not None else hl7.NULL,
            5: build.coded("RXE-5", unit_code) if stated and unit_code else hl7.NULL,
            10: _plain(total) if total is not None else hl7.NULL,
            11: build.coded("RXE-11", unit_code) if total is not None and unit_code else hl7.NULL,
            15: order_no,
            19: daily,
            21: outpatient,
            27: use if known_use else "",
            31: build.coded("RXE-31", (yj.code, yj.display, "YJ")) if yj else "",
        },
    )
    usage = record.statement.fields.get(Field.USAGE)
    build.add(
        "TQ1",
        {
            1: "1",
            3: build.coded("TQ1-3", ("", " ".join(usage.quote.split()), codes.LOCAL), "&") if usage else "",
            6: f"{dosage.days}^D&日&ISO+" if dosage.days else "",
            11: build.text("TQ1-11", dosage.text, lines=True) if dosage.text else "",
            14: str(times) if times else "",
        },
    )
    # RXR-1 is required; where the note does not tell the route it is an explicit null.
    routes = {True: "AP^外用^HL70162", False: "PO^口^HL70162", None: hl7.NULL}
    build.add("RXR", {1: routes[external]})


def result_messages(
    note: ChartNote,
    records: Sequence[Record],
    facility: Facility,
    *,
    order: int,
    control_ids: Iterable[str],
    sent_at: datetime,
) -> tuple[Message, ...]:
    """OML-11, laboratory and infection results of one note: one message for each collection day, oldest first.

    `control_ids` gives one MSH-10 for each message. A result of which the day is not known to the day is filed under
    the note's date, its SPM-17 stays empty and OBX-14 says what is known. Specimens (SPM) are split by material and
    time, orders (OBR) by the JLAC10 group of the test.
    """
    order_no = order_number(order)
    days: dict[date, list[Record]] = {}
    for record in records:
        relative = record.statement.assertion is Assertion.FAMILY
        if record.statement.kind in (Kind.LAB, Kind.INFECTION) and not relative:
            stated = _day(record)
            day = date.fromisoformat(stated) if len(stated) == 10 else note.date
            days.setdefault(day, []).append(record)
    by_day = []
    ids = iter(control_ids)
    for day in sorted(days):
        control_id = next(ids, None)
        if control_id is None:
            raise InvalidInput(f"control_ids: fewer than the {len(days)} collection days")
        build = Builder(note, facility, DataKind.RESULT, control_id, sent_at)
        build.patient()
        build.visit("0001")
        written = _specimens(build, days[day], order_no)
        message = build.message(day, order_no, facility.department_code or "-")
        if written:
            by_day.append(message)
    return tuple(by_day)


def _specimens(build: Builder, records: Sequence[Record], order_no: str) -> int:
    """SPM groups of one message; the number of results written."""
    groups: dict[tuple[str, tuple[str, str, str]], dict[tuple[str, str, str], list[Record]]] = {}
    for record in records:
        if not codes.result_values(record):
            build.note_issue(IssueType.INCOMPLETE, "OBX-5: a result without a value is not written")
            continue
        test = codes.jlac10_of(record)
        orders = groups.setdefault((_day(record) or build.note.date.isoformat(), test.material), {})
        orders.setdefault(test.discipline, []).append(record)
    written = 0
    for specimen, ((day, material), orders) in enumerate(groups.items(), 1):
        collected = compact(day)
        sampled = collected if len(day) == 10 else ""
        build.add("SPM", {1: str(specimen), 4: build.coded("SPM-4", material), 17: sampled})
        for number, (discipline, tests) in enumerate(orders.items(), 1):
            build.add("OBR", {1: str(number), 2: order_no, 4: build.coded("OBR-4", discipline), 7: collected})
            build.order("SC", order_no, {5: "CM"})
            row = 0
            for record in tests:
                for fields in _observations(build, record, collected):
                    row += 1
                    build.add("OBX", {1: str(row)} | fields)
                    written += 1
    return written


def _observations(build: Builder, record: Record, collected: str) -> list[dict[int, str]]:
    values = codes.result_values(record)
    unit = record.quantity.unit if record.quantity else None
    rows = []
    for number, (value_type, value) in enumerate(values, 1):
        of_quantity = record.quantity is not None and number == 1
        rows.append(
            {
                2: value_type,
                3: build.coded("OBX-3", codes.test_code(record)),
                # Two values of one test are told apart by the sub-id (HL7 2.5 OBX-4).
                4: str(number) if len(values) > 1 else "",
                5: build.coded("OBX-5", value),
                6: build.coded("OBX-6", codes.result_unit(unit)) if unit and of_quantity else "",
                8: codes.abnormal_flag(record.flag),
                11: "F",
                14: collected,
            }
        )
    return rows


def cancelled(message: Message, *, control_id: str, sent_at: datetime) -> Message:
    """The message that takes `message` back (for `storage.delete`): the cancel event of ADT-00, `D` in IAM-6, `DE` in
    PRB-1, `CA` in ORC-1."""
    now = local_time(sent_at)
    lines = []
    for line in hl7.parse(message.text):
        if line.name == "MSH":
            line = line.put(7, with_milliseconds(now)).put(9, *EVENTS[message.kind][1].split("^"))
            line = line.put(10, checked_control_id(control_id))
        elif line.name == "EVN":
            line = line.put(2, f"{now:%Y%m%d%H%M%S}")
        elif line.name == "IAM":
            line = line.put(6, "D", "削除", "HL70323")
        elif line.name == "PRB":
            line = line.put(1, "DE").put(2, f"{now:%Y%m%d%H%M%S}")
        elif line.name == "ORC":
            line = line.put(1, "CA")
        lines.append(line)
    return replace(message, text=hl7.render(lines))


def _stated(kind: Kind, earlier: Sequence[Record], records: Sequence[Record]) -> list[tuple[Record, bool]]:
    """Records of `kind` that say something of the patient which has a field, each with whether it is of the note."""
    known = (Assertion.PRESENT, Assertion.SUSPECTED, Assertion.PAST)
    both = [(record, False) for record in earlier] + [(record, True) for record in records]
    return [(r, of_note) for r, of_note in both if r.statement.kind is kind and r.statement.assertion in known]


def _key(key_of: Callable[[Record], str], record: Record) -> str:
    key = key_of(record)
    if not re.fullmatch(r"[0-9A-Za-z._-]{1,20}", key):
        raise InvalidInput("key_of: 1 to 20 letters, digits, dots, hyphens or underscores")
    return key


def _day(record: Record) -> str:
    """The record's date (YYYY, YYYY-MM or YYYY-MM-DD); "" when there is none or the calendar has no such day."""
    day = record.date or ""
    if not re.fullmatch("[0-9]{4}(?:-[0-9]{2}){0,2}", day):
        return ""
    try:
        date.fromisoformat(f"{day}-01-01"[:10])
    except ValueError:
        return ""
    return day


def _in_words(day: str) -> str:
    year, _, month = day.partition("-")
    return f"{int(year)}年{int(month)}月" if month else f"{int(year)}年"


def _split_daily(unit: str | None) -> tuple[str | None, bool]:
    """A dose written for a whole day (15mg/日) keeps that in its unit."""
    if unit is None:
        return None, False
    bare = re.sub(r"[/／](?:日|day|d)$", "", unit)
    return bare, bare != unit


def _plain(value: object) -> str:
    """A computed number without the zeros that multiplication adds."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
