"""Every message of a note, the snapshots of a patient, and the messages that take others back.

A field that neither note nor sender fills stays empty: no physician, no reference range, no report time is made up.
`sent_at` is an aware instant; HL7 times are written in Japanese time.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from app.errors import InvalidInput
from app.ssmix2 import hl7
from app.ssmix2.adt import allergy_message, patient_message, visit_message
from app.ssmix2.builder import (
    EVENTS,
    Facility,
    Message,
    checked_control_id,
    local_time,
    seconds,
    with_milliseconds,
)
from app.ssmix2.findings import merged
from app.ssmix2.prescriptions import prescription_message
from app.ssmix2.problems import diagnosis_message
from app.ssmix2.results import result_messages
from app.ssmix2.stated import Allergy, Drug, Finding, Problem, Result
from schemas.issue import Issue, IssueType, Severity
from schemas.note import ChartNote
from schemas.record import Record
from schemas.statement import Kind

Notes = Sequence[tuple[ChartNote | None, Sequence[Record]]]
"""Notes with what they say; None for a note that is not at hand: its day, physician and department stay unsaid."""


def messages(
    note: ChartNote,
    records: Sequence[Record],
    *,
    facility: Facility,
    sent_at: datetime,
    source: str = "",
    earlier: Notes = (),
) -> tuple[list[Message], list[Issue]]:
    """Every message of one note, in the order of the kinds, and the issues of writing them.

    `source`: the sending system. Its order number is that of source and note, the ids of diseases and allergies those of
    `findings.merged`: converting the note again replaces what it wrote before; MSH-10 changes with `sent_at`. ADT-61 and
    PPR-01 are full snapshots of a patient: `earlier` are the patient's older notes, the oldest first.
    A message that cannot be written becomes an Issue and does not stop the others.
    """
    origin = hashlib.sha256(f"{source}\0{note.id}".encode()).hexdigest()
    order, ids = _order(origin), _control_ids(origin, sent_at)
    drugs, results = [Drug(record) for record in records], [Result(record) for record in records]
    issues: list[Issue] = []

    def results_of_days() -> list[Message]:
        made, left = result_messages(note, results, facility, order=order, control_ids=ids, sent_at=sent_at)
        issues.extend(left)
        return made

    notes: Notes = [*earlier, (note, records)]
    steps: tuple[Callable[[], Iterable[Message | None]], ...] = (
        lambda: [patient_message(note, facility, control_id=next(ids), sent_at=sent_at)],
        lambda: [visit_message(note, facility, control_id=next(ids), sent_at=sent_at)],
        lambda: [_allergies(note, notes, facility, next(ids), sent_at, issues)],
        lambda: [_diseases(note, notes, facility, next(ids), sent_at, issues)],
        lambda: [prescription_message(note, drugs, facility, order=order, control_id=next(ids), sent_at=sent_at)],
        results_of_days,
    )
    made = _written(steps, issues)
    return made, issues


def patient_snapshot(
    notes: Sequence[tuple[ChartNote, Sequence[Record]]],
    facility: Facility,
    *,
    sent_at: datetime,
    control_ids: Iterable[str],
) -> tuple[list[Message], list[Issue]]:
    """PPR-01 and ADT-61 of one patient over all notes, the oldest first; none of a kind when nothing of it is left.

    The patient's data are those of the newest note, and a department code of `facility` is that of the newest note's
    department. Ids are those that `messages` gives. A message that cannot be written becomes an Issue.
    Raises InvalidInput for notes of different patients.
    """
    if not notes:
        return [], []
    if len({note.patient.id for note, _ in notes}) > 1:
        raise InvalidInput("notes: they are of more than one patient")
    newest, ids = notes[-1][0], iter(control_ids)
    issues: list[Issue] = []
    steps: tuple[Callable[[], Iterable[Message | None]], ...] = (
        lambda: [_diseases(newest, notes, facility, _next(ids), sent_at, issues)],
        lambda: [_allergies(newest, notes, facility, _next(ids), sent_at, issues)],
    )
    made = _written(steps, issues)
    return made, issues


def _written(steps: Iterable[Callable[[], Iterable[Message | None]]], issues: list[Issue]) -> list[Message]:
    made: list[Message] = []
    for step in steps:
        try:
            made += [message for message in step() if message]
        except InvalidInput as error:
            issues.append(Issue(severity=Severity.ERROR, code=IssueType.INVALID, text=f"SS-MIX2: {error}"))
    issues += [issue for message in made for issue in message.issues]
    return made


def _allergies(
    note: ChartNote, notes: Notes, facility: Facility, control_id: str, sent_at: datetime, issues: list[Issue]
) -> Message | None:
    found = _merged(Kind.ALLERGY, note, notes, issues)
    allergies = [Allergy(f.record, f.key, f.note) for f in found]
    return allergy_message(note, allergies, facility, control_id=control_id, sent_at=sent_at)


def _diseases(
    note: ChartNote, notes: Notes, facility: Facility, control_id: str, sent_at: datetime, issues: list[Issue]
) -> Message | None:
    found = _merged(Kind.CONDITION, note, notes, issues)
    # Without its note nothing is known of the order: neither physician nor department.
    problems = [Problem(f.record, f.key, f.note, order=_order(f.key) if f.note else None) for f in found]
    return diagnosis_message(note, problems, facility, control_id=control_id, sent_at=sent_at)


def _merged(kind: Kind, note: ChartNote, notes: Notes, issues: list[Issue]) -> list[Finding]:
    found, left = merged(kind, notes, note.patient.id)
    issues += left
    return found


def _order(digest: str) -> int:
    # Order numbers have 15 digits (SS-MIX2 1.2, file names); 12 hexadecimal digits of a hash always fit.
    return int(digest[:12], 16) % 10**14 + 1


def _control_ids(origin: str, sent_at: datetime) -> Iterator[str]:
    """MSH-10, at most 20 characters, different for every message of every run."""
    run = hashlib.sha256(f"{origin}{sent_at.isoformat()}".encode()).hexdigest()[:16]
    return (f"{run}{number:04}" for number in itertools.count())


def _next(ids: Iterator[str]) -> str:
    control_id = next(ids, None)
    if control_id is None:
        raise InvalidInput("control_ids: one for each message")
    return control_id


def cancelled(message: Message, *, control_id: str, sent_at: datetime) -> Message:
    """The message that takes `message` back (for `storage.delete`): the cancel event of ADT-00 and ADT-12, `D` in IAM-6,
    `DE` in PRB-1, `CA` in ORC-1."""
    now = seconds(sent_at)
    lines = []
    for line in hl7.parse(message.text):
        if line.name == "MSH":
            line = line.put(7, with_milliseconds(local_time(sent_at))).put(9, *EVENTS[message.kind][1].split("^"))
            line = line.put(10, checked_control_id(control_id))
        elif line.name == "EVN":
            line = line.put(2, now)
        elif line.name == "IAM":
            line = line.put(6, "D", "削除", "HL70323")
        elif line.name == "PRB":
            line = line.put(1, "DE").put(2, now)
        elif line.name == "ORC":
            line = line.put(1, "CA")
        lines.append(line)
    return replace(message, text=hl7.render(lines))
