"""OML-11, results of laboratory and infection tests.

Source: SS-MIX2 標準化ストレージ仕様書 1.2 (allowed and required fields as of 1.2g), JLAC10 (JSLM), and NHO
SSMIX2_support_documents for graded, compared and mixed values.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from app.errors import InvalidInput
from app.ssmix2 import codes
from app.ssmix2.builder import (
    Builder,
    DataKind,
    Facility,
    Message,
    compact,
    day_of,
    local_time,
    minutes,
    order_number,
    seconds,
)
from app.ssmix2.stated import Registration, Result, Specimen
from app.ssmix2.units import LOCAL, result_unit
from app.ssmix2.values import abnormal_flag, reference_range, result_values
from schemas.issue import Issue, IssueType
from schemas.note import ChartNote
from schemas.record import Record
from schemas.statement import Assertion, Field, Kind


def result_messages(
    note: ChartNote,
    results: Sequence[Result],
    facility: Facility,
    *,
    order: int,
    control_ids: Iterable[str],
    sent_at: datetime,
    registration: Registration | None = None,
    reported_at: datetime | None = None,
) -> tuple[list[Message], list[Issue]]:
    """OML-11, laboratory and infection results of one note: one message for each collection day, oldest first; and the
    issues of the days on which nothing could be written.

    `control_ids` gives one MSH-10 for each message. A result of which the day is not known to the day is filed under
    the note's date, as the standard files an undated order under the day of its entry; SPM-17 is the day of the folder
    in every file (SSMIX2DataTestingTool `SSMIX_CAREDATE.json`), OBR-7 and OBX-14 say what is known. Specimens (SPM) are
    split by material and time, orders (OBR) by the JLAC10 group of the test. `reported_at`: when the laboratory
    reported; None: not said.
    """
    order_no = order_number(order)
    days: dict[date, list[Result]] = {}
    for result in results:
        said = result.record.statement
        if said.kind in (Kind.LAB, Kind.INFECTION) and said.assertion is not Assertion.FAMILY:
            days.setdefault(_filed(result, note), []).append(result)
    made: list[Message] = []
    issues: list[Issue] = []
    ids = iter(control_ids)
    for day in sorted(days):
        control_id = next(ids, None)
        if control_id is None:
            raise InvalidInput(f"control_ids: fewer than the {len(days)} collection days")
        build = Builder(note, facility, DataKind.RESULT, control_id, sent_at, registration)
        build.patient()
        build.visit("0001")
        if _specimens(build, days[day], day, order_no, reported_at):
            made.append(build.message(day, order_no, facility.department_code or "-"))
        else:
            issues += build.issues
    return made, issues


def _filed(result: Result, note: ChartNote) -> date:
    """The day that a result is filed under (SPM-17)."""
    if result.specimen and result.specimen.collected:
        return local_time(result.specimen.collected).date()
    stated = day_of(result.record.date)
    return date.fromisoformat(stated) if len(stated) == 10 else note.date


def _collected(record: Record, note: ChartNote) -> str:
    """The note's day for a result that states none; nothing where a stated one could not be computed."""
    if day := day_of(record.date):
        return compact(day)
    return "" if Field.DATE in record.statement.fields else compact(note.date)


@dataclass(frozen=True)
class _Sample:
    """What tells one SPM from another. `collected`: HL7 time of the precision that is known."""

    collected: str
    material: str
    stated: Specimen | None


def _specimens(
    build: Builder, results: Sequence[Result], filed: date, order_no: str, reported_at: datetime | None
) -> int:
    """SPM groups of one message, of the folder of the day `filed`; the number of results written."""
    groups: dict[_Sample, dict[str, list[Result]]] = {}
    for result in results:
        if not result.value and not result_values(result.record):
            build.note_issue(IssueType.INCOMPLETE, "OBX-5: a result without a value is not written")
            continue
        test, stated = codes.jlac10_of(result.record), result.specimen
        time = minutes(stated.collected) if stated else ""
        sample = _Sample(
            time or _collected(result.record, build.note),
            (stated.material if stated else None) or ("" if stated else test.material),
            stated,
        )
        group = (stated.discipline if stated else None) or test.discipline
        groups.setdefault(sample, {}).setdefault(group, []).append(result)
    written = 0
    for number, (sample, orders) in enumerate(groups.items(), 1):
        stated = sample.stated
        own = (*stated.local, LOCAL) if stated and stated.local else ()
        fields = {1: str(number), 2: _id(build, "SPM-2", stated), 4: _material(build, sample, own)}
        known = len(sample.collected) >= 8
        if not known:
            build.note_issue(IssueType.VALUE, "SPM-17: results of a day that is not known are filed under the note's day")
        build.add("SPM", fields | {17: sample.collected if known else compact(filed)})
        for place, (group, tests) in enumerate(orders.items(), 1):
            _order(build, place, sample, group, order_no, reported_at)
            rows = [row for result in tests for row in _observations(build, result, sample.collected)]
            for row, observed in enumerate(rows, 1):
                build.add("OBX", {1: str(row)} | observed)
            written += len(rows)
    return written


def _id(build: Builder, place: str, stated: Specimen | None) -> str:
    return build.text(place, stated.id, 30) if stated and stated.id else ""


def _material(build: Builder, sample: _Sample, own: codes.Code) -> str:
    standard = codes.material(sample.material)
    known = standard[2] != LOCAL
    return build.coded("SPM-4", (*standard, *own) if known or not own else own)


def _order(
    build: Builder, number: int, sample: _Sample, group: str, order_no: str, reported_at: datetime | None
) -> None:
    filler = _id(build, "OBR-3", sample.stated)
    fields = {1: str(number), 2: order_no, 3: filler, 4: build.coded("OBR-4", codes.discipline(group))}
    fields |= {7: sample.collected, 8: sample.collected if sample.stated else "", 16: build.physician("OBR-16")}
    build.add("OBR", fields | {22: seconds(reported_at)})
    build.order("SC", order_no, {3: filler, 5: "CM", 9: seconds(reported_at)})


def _observations(build: Builder, result: Result, collected: str) -> list[dict[int, str]]:
    """OBX of one result; two of a mixed one, whose quantity comes first."""
    record = result.record
    values = [("CWE", (*result.value, LOCAL))] if result.value else result_values(record)
    mixed = len(values) > 1
    names = [codes.test_code(record, qualitative=place > 0 if mixed else None) for place in range(len(values))]
    rows = []
    for place, ((value_type, value), name) in enumerate(zip(values, names, strict=True)):
        quantity = record.quantity is not None and place == 0 and not result.value
        rows.append(
            {
                2: value_type,
                3: build.coded("OBX-3", name),
                # Two values under one code are told apart by the sub-id (HL7 2.5 OBX-4).
                4: str(place + 1) if names.count(name) > 1 else "",
                5: build.coded("OBX-5", value),
                6: _unit(build, result) if quantity else "",
                7: build.text("OBX-7", reference_range(record), 60) if place == 0 else "",
                8: abnormal_flag(record.flag),
                11: "F",
                14: collected,
            }
        )
    return rows


def _unit(build: Builder, result: Result) -> str:
    if result.unit:
        return build.coded("OBX-6", (*result.unit, LOCAL))
    unit = result.record.quantity.unit if result.record.quantity else None
    return build.coded("OBX-6", result_unit(unit)) if unit else ""


def profile_rows(build: Builder, records: Sequence[Record]) -> list[dict[int, str]]:
    """OBX of a patient's profile in ADT-00 (height, weight, blood groups), which has neither range, flag nor time."""
    rows = []
    for record in records:
        for value_type, value in result_values(record)[:1]:
            code = codes.test_code(record, any_method=True)
            row = {2: value_type, 3: build.coded("OBX-3", code), 5: build.coded("OBX-5", value), 11: "F"}
            rows.append(row | {6: _unit(build, Result(record)) if record.quantity else ""})
    return rows
