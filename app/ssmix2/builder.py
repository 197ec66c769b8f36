"""One message under construction: its header, the segments that every kind shares, and what went on without something.

Source: SS-MIX2 標準化ストレージ仕様書 1.2, HL7 2.5.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from enum import StrEnum

from app.errors import InvalidInput
from app.ssmix2 import hl7
from app.ssmix2.encoding import fold
from app.ssmix2.stated import Registration
from app.ssmix2.units import LOCAL
from schemas.issue import Issue, IssueType, Severity
from schemas.note import ChartNote, DocumentType, EncounterClass, Sex

JAPAN = timezone(timedelta(hours=9), "JST")
NO_ORDER = "9" * 15
"""Order number in the names of kinds that have no order."""


class DataKind(StrEnum):
    """SS-MIX2 データ種別."""

    PATIENT = "ADT-00"
    VISIT = "ADT-12"
    ALLERGY = "ADT-61"
    DIAGNOSIS = "PPR-01"
    PRESCRIPTION = "OMP-01"
    RESULT = "OML-11"


# MSH-9 of a valid message and of its cancellation.
EVENTS = {
    DataKind.PATIENT: ("ADT^A08^ADT_A01", "ADT^A23^ADT_A21"),
    DataKind.VISIT: ("ADT^A04^ADT_A01", "ADT^A11^ADT_A09"),
    DataKind.ALLERGY: ("ADT^A60^ADT_A60", "ADT^A60^ADT_A60"),
    DataKind.DIAGNOSIS: ("PPR^ZD1^PPR_ZD1", "PPR^ZD1^PPR_ZD1"),
    DataKind.PRESCRIPTION: ("RDE^O11^RDE_O11", "RDE^O11^RDE_O11"),
    DataKind.RESULT: ("OUL^R22^OUL_R22", "OUL^R22^OUL_R22"),
}


@dataclass(frozen=True)
class Facility:
    """Who sends. `institution_number`: 10 digits (保険医療機関番号). `identifier`: what MSH-4 says; None: the institution
    number, else the name. `department_code`: 2 or 3 characters of the SS-MIX2 統一診療科コード (user table 0069) for the
    department of the message's note; None: the note's own department name is written under the local system.
    `local_system`: the name of the facility's own codes, `99` and letters or digits.
    Raises InvalidInput for a code that the file name could not hold, and for a name that SS-MIX2 has no place for."""

    name: str
    application: str = "HYOJUN"
    institution_number: str | None = None
    department_code: str | None = None
    department_name: str | None = None
    identifier: str | None = None
    local_system: str = LOCAL

    def __post_init__(self) -> None:
        if self.department_code is not None and not re.fullmatch("[0-9A-Za-z]{2,3}", self.department_code):
            raise InvalidInput("department_code: 2 or 3 letters or digits of user table 0069")
        if not re.fullmatch("99[0-9A-Za-z]{1,18}", self.local_system):
            raise InvalidInput("local_system: 99 and 1 to 18 letters or digits")


@dataclass(frozen=True)
class Message:
    """One message and what names its file. `care_date` 診療日, None for undated kinds; `order_no` 15 digits;
    `department` a code or `-`; `text` folded to JIS X 0208, segments ended by CR; `issues` what folding or a
    length limit changed, or what could not be written."""

    kind: DataKind
    patient_id: str
    care_date: date | None
    order_no: str
    department: str
    text: str
    issues: tuple[Issue, ...] = ()


def order_number(order: int) -> str:
    """15 digits, zero-filled. Raises InvalidInput outside 1 … 999999999999998 (all nines means "no order")."""
    if not 1 <= order < int(NO_ORDER):
        raise InvalidInput("order: an integer from 1 to 999999999999998")
    return f"{order:015}"


def is_inpatient(note: ChartNote) -> bool:
    """By the encounter that the sender states; else by the kinds of document that are written about a person in a bed.
    PV1-2 and ORC-29 know inpatients and outpatients only, and an emergency visit is one of the latter."""
    if note.encounter:
        return note.encounter.encounter_class is EncounterClass.INPATIENT
    in_bed = (DocumentType.ADMISSION, DocumentType.DISCHARGE, DocumentType.PREOP, DocumentType.NURSING)
    return note.document_type in in_bed


@dataclass
class Builder:
    """Segments of one message, beginning with MSH, and the issues met on the way."""

    note: ChartNote
    facility: Facility
    kind: DataKind
    control_id: str
    sent_at: datetime
    registration: Registration | None = None
    lines: list[str] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)

    def __post_init__(self) -> None:
        moment = local_time(self.sent_at)
        self.now = seconds(moment)
        self.facility_id = self.text(
            "MSH-4", self.facility.identifier or self.facility.institution_number or self.facility.name
        )
        self.inpatient = is_inpatient(self.note)
        header = {2: hl7.DELIMITERS, 3: self.text("MSH-3", self.facility.application), 4: self.facility_id, 5: "GW"}
        header |= {
            6: "RCV",
            7: with_milliseconds(moment),
            9: EVENTS[self.kind][0],
            10: checked_control_id(self.control_id),
        }
        # MSH-18: first repetition empty (ASCII), second IR-87. MSH-21: the profile of SS-MIX2 1.2.
        header |= {11: "P", 12: "2.5", 18: "~ISO IR87", 20: "ISO 2022-1994"}
        header |= {21: "SS-MIX2_1.20^SS-MIX2^1.2.392.200250.2.1.100.1.2.120^ISO"}
        self.add("MSH", header)

    def add(self, name: str, fields: dict[int, str]) -> None:
        self.lines.append(hl7.segment(name, fields))

    def text(self, place: str, value: str, limit: int = 250, lines: bool = False) -> str:
        """`value` folded, cut to `limit` characters and escaped; `place` names the field in issues. `lines`: the field
        is of a type that may hold line breaks (TX, FT); elsewhere they become blanks."""
        return hl7.escape(self._cut(place, self._folded(place, value, lines), limit))

    def pieces(self, place: str, value: str, limit: int) -> str:
        """`value` as repetitions of at most `limit` characters, so that nothing is lost."""
        folded = self._folded(place, value)
        parts = [folded[at : at + limit] for at in range(0, len(folded), limit)]
        if len(parts) > 1:
            split = f"{place}: {len(folded)} characters written as {len(parts)} repetitions"
            self.note_issue(IssueType.TOO_LONG, split)
        return "~".join(map(hl7.escape, parts))

    def coded(self, place: str, components: Sequence[str], by: str = "^") -> str:
        """A coded field (CWE) of its components; our local system becomes the facility's."""
        named = (self.facility.local_system if component == LOCAL else component for component in components)
        return hl7.join(*(self.text(place, component, 200) for component in named), by=by)

    def repeated(self, place: str, codes: Sequence[Sequence[str]]) -> str:
        """A coded field that repeats."""
        return "~".join(self.coded(place, code) for code in codes)

    def note_issue(self, code: IssueType, text: str) -> None:
        self.issues.append(Issue(severity=Severity.WARNING, code=code, text=f"{self.kind} {text}"))

    def patient(self, more: dict[int, str] | None = None) -> None:
        person = self.note.patient
        sex = {Sex.MALE: "M", Sex.FEMALE: "F", Sex.OTHER: "O", Sex.UNKNOWN: "U"}[person.sex]
        kana = self.registration.kana if self.registration else None
        fields = {1: "0001", 3: f"{person.id}^^^^PI", 5: self.name("PID-5", person.family, person.given, kana)}
        self.add(
            "PID", fields | {7: compact(person.birth_date) if person.birth_date else hl7.NULL, 8: sex} | (more or {})
        )

    def name(self, place: str, family: str, given: str, kana: tuple[str, str] | None = None) -> str:
        """A person's name (XPN), in katakana once more where that is known."""
        parts = [(family, given, "", "", "", "", "L", _representation(family + given))]
        if kana:
            parts.append((*kana, "", "", "", "", "L", "P"))
        return "~".join(self.coded(place, part) for part in parts)

    def physician(self, place: str, note: ChartNote | None = None) -> str:
        """The physician of a note (XCN), as far as the sender states him; "" where he does not."""
        person = (note or self.note).physician
        if person is None:
            return ""
        said = (person.id or "", person.family, person.given)
        shown = _representation(person.family + person.given)
        return self.coded(place, (*said, "", "", "", "", "", "", "L", "", "", "", "", shown))

    def visit(self, number: str, more: dict[int, str] | None = None) -> None:
        code = self.facility.department_code
        place = f"{code}^^^^^C" if code and not self.inpatient else ""
        fields = {1: number, 2: "I" if self.inpatient else "O", 3: place, 7: self.physician("PV1-7")}
        self.add("PV1", fields | (more or {}))

    def order(self, control: str, order_no: str, more: dict[int, str], note: ChartNote | None = None) -> None:
        """ORC of an order of `note`, or of the message's own."""
        note = note or self.note
        code = self.facility.department_code if note.department == self.note.department else None
        name = self.facility.department_name if code else None
        department = (code, name or note.department, "HL70069") if code else ("", note.department, LOCAL)
        kind = "I^入院患者オーダ^HL70482" if is_inpatient(note) else "O^外来患者オーダ^HL70482"
        fields = {1: control, 2: order_no, 17: self.coded("ORC-17", department)}
        # Who wrote the note entered what it orders, and is the one who orders it.
        fields |= {10: self.physician("ORC-10", note), 12: self.physician("ORC-12", note)}
        self.add("ORC", fields | {21: self.text("ORC-21", self.facility.name), 29: kind} | more)

    def message(self, care_date: date | None, order_no: str, department: str) -> Message:
        text = "".join(line + hl7.CR for line in self.lines)
        patient_id = self.note.patient.id
        return Message(self.kind, patient_id, care_date, order_no, department, text, tuple(self.issues))

    def _folded(self, place: str, value: str, lines: bool = False) -> str:
        folded, issues = fold(value)
        for issue in issues:
            self.note_issue(issue.code, f"{place}: {issue.text}")
        return folded if lines else folded.replace(hl7.CR, " ")

    def _cut(self, place: str, folded: str, limit: int) -> str:
        if len(folded) > limit:
            self.note_issue(IssueType.TOO_LONG, f"{place}: cut from {len(folded)} to {limit} characters")
        return folded[:limit]


def _representation(name: str) -> str:
    """HL7 table 4000: A alphabetic, I ideographic (kanji), P phonetic (kana)."""
    kana = re.fullmatch("[\u30a1-\u30fc\uff66-\uff9f ・]+", name)
    return "A" if name.isascii() else "P" if kana else "I"


def checked_control_id(control_id: str) -> str:
    if not re.fullmatch(r"[0-9A-Za-z._-]{1,20}", control_id):
        raise InvalidInput("control_id: 1 to 20 letters, digits, dots, hyphens or underscores (MSH-10)")
    return control_id


def local_time(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise InvalidInput("sent_at: an instant needs its time zone")
    return moment.astimezone(JAPAN)


def with_milliseconds(moment: datetime) -> str:
    return f"{moment:%Y%m%d%H%M%S}.{moment.microsecond // 1000:03}"


def seconds(moment: datetime | None) -> str:
    return f"{local_time(moment):%Y%m%d%H%M%S}" if moment else ""


def minutes(moment: datetime | None) -> str:
    return f"{local_time(moment):%Y%m%d%H%M}" if moment else ""


def compact(day: str | date | None) -> str:
    """ISO 8601 to HL7 TS of the same precision: YYYY, YYYYMM or YYYYMMDD; "" for None."""
    return (day.isoformat() if isinstance(day, date) else day or "").replace("-", "")


def day_of(stated: str | None) -> str:
    """A record's date (YYYY, YYYY-MM or YYYY-MM-DD); "" when there is none or the calendar has no such day."""
    day = stated or ""
    if not re.fullmatch("[0-9]{4}(?:-[0-9]{2}){0,2}", day):
        return ""
    try:
        date.fromisoformat(day + "-01-01"[len(day) - 4 :])
    except ValueError:
        return ""
    return day
