"""The claim file: typed values with line numbers, faults that name their place, and the same bytes back."""

import io
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidInput
from app.receipts.layout import parse_date, parse_month
from app.receipts.uke import Claim, Fault, Other, read_uke, write_uke

DAYS = "," * 30
LINES = [
    "IR,1,13,1,0000001,,架空総合病院,202604,00,0312345678",
    "RE,1,1112,202603,見本　花子,2,19500102,,,,,,,000123,,,,,,,,,,,,,,,,,,,,,,,ミホンハナコ,",
    "HO,06131001,見本,１,2,1200,,,,,,,,,",
    "SY,2500013,20210801,1,,,01,",
    "SY,4659007,3330105,1,8002,,,",
    "SY,0000999,20260309,1,,見本の病気,,",
    f"SI,11,1,111000110,,291,1,,,,,,,1{DAYS}",
    "CO,21,1,810000001,１日１回朝",
    f"IY,,1,620098801,1.5,12,14,,,,,,,14{DAYS}",
    f"IY,,1,611170005,1,,1,,,,,,,{DAYS}",
    "RE,2,1111,202603,見本　太郎,1,3251225,,20260301,,,,,000124,,,,,,,,,,,,,,,,,,,,,,,,",
    "GO,2,1212,99",
]


def as_bytes(lines: list[str]) -> bytes:
    return "".join(line + "\r\n" for line in lines).encode("cp932")


def parts_of(raw: bytes) -> list[Claim | Other]:
    parts = list(read_uke(io.BytesIO(raw)))
    assert b"".join(write_uke(parts)) == raw
    return parts


def claims_of(raw: bytes) -> list[Claim]:
    return [part for part in parts_of(raw) if isinstance(part, Claim)]


def test_values_of_a_claim() -> None:
    first, second = claims_of(as_bytes(LINES))
    assert (first.line, first.number, first.month) == (2, 1, date(2026, 3, 1))
    assert (first.female, first.birth_date, first.inpatient, first.chart_number) == (True, date(1950, 1, 2), False, "000123")
    assert [(d.code, d.suspected, d.ended, d.main) for d in first.diseases] == [
        ("2500013", False, False, True),
        ("4659007", True, False, False),
        ("0000999", False, False, False),
    ]
    assert first.diseases[1].started == date(1958, 1, 5), "昭和33年"
    assert first.diseases[2].name == "見本の病気"
    visit, drug, other = first.items
    assert (visit.kind, visit.code, visit.section, visit.points, dict(visit.days)) == ("SI", "111000110", "11", 291, {1: 1})
    assert (drug.amount, drug.times, drug.section, drug.line) == (Decimal("1.5"), 14, "21", 9)
    assert drug.group == other.group == first.comments[0].group != visit.group, "one 剤"
    assert (second.female, second.inpatient, second.birth_date) == (False, True, date(1950, 12, 25))
    assert not first.faults and not second.faults


@pytest.mark.parametrize(
    ("number", "line", "fault"),
    [
        (3, "SY,250001,20210801,1,,,01,", (2, "disease", "must be 7 digits")),
        (3, "SY,2500013,20210832,1,,,01,", (3, "started", "is not a day of the calendar")),
        (3, "SY,2500013,,1,,,01,", (3, "started", "is missing")),
        (3, "SY,2500013,20210801,9,,,01,", (4, "outcome", "must be one of 1, 2, 3, 4")),
        (6, f"SI,11,1,111000110,,-5,1,,,,,,,1{DAYS}", (6, "points", "must be a whole number of at most 7 digits")),
        (8, f"IY,,1,620098801,1..5,12,14,,,,,,,14{DAYS}", (5, "amount", "must be a number with at most 8 digits")),
        (8, "IY,,1", (4, "drug", "is missing")),
    ],
)
def test_a_broken_field_is_told_and_the_rest_goes_on(number: int, line: str, fault: tuple[int, str, str]) -> None:
    lines = [*LINES]
    lines[number] = line
    first, second = claims_of(as_bytes(lines))
    [found] = first.faults
    assert (found.line, found.position, found.name) == (number + 1, *fault[:2])
    assert found.text.startswith(fault[2])
    assert not second.faults and len(first.items) + len(first.diseases) >= 5


def test_lines_that_are_no_records() -> None:
    raw = as_bytes(LINES[:4]) + b"\x81\x00\xff\r\n\r\nwhat is this\r\n" + as_bytes(LINES[4:]) + b"\x1a"
    first, second = claims_of(raw)
    assert [(f.line, f.position) for f in first.faults] == [(5, None), (7, None)]
    assert "Shift_JIS" in first.faults[0].text and "kind of record" in first.faults[1].text
    assert len(first.diseases) == 3 and not second.faults


def test_a_line_with_nul_is_a_fault() -> None:
    """A database's text cannot hold it."""
    raw = as_bytes(LINES[:3]) + b"SY,2500013\0,20210801,1\r\n" + as_bytes(LINES[3:])
    faults = [fault for part in read_uke(io.BytesIO(raw)) for fault in part.faults]
    assert [(fault.line, "NUL" in fault.text) for fault in faults] == [(4, True)]
    assert b"".join(write_uke(read_uke(io.BytesIO(raw)))) == raw


def test_a_file_that_is_none() -> None:
    [part] = parts_of(b"\x89PNG\r\n")
    assert isinstance(part, Other) and part.faults
    assert parts_of(b"") == []


def test_corrections_change_their_line_alone() -> None:
    [first, _] = claims_of(as_bytes(LINES))
    corrected = (
        first.replaced(first.record(9).changed(times="7", day_1="7"))
        .without(5)
        .inserted(4, ["SY", "8830052", "20260301", "1", "", "", "", ""])
    )
    written = b"".join(write_uke([corrected])).decode("cp932").split("\r\n")[:-1]
    assert written[2:4] == [LINES[3], "SY,8830052,20260301,1,,,,"]
    assert LINES[4] not in written and f"IY,,1,620098801,1.5,12,7,,,,,,,7{DAYS}" in written
    assert [line for line in LINES[1:10] if line in written] == [*LINES[1:4], *LINES[5:8], LINES[9]]
    assert b"".join(write_uke([first])) == as_bytes(LINES[1:10]), "the claim itself is as it was"


def test_what_cannot_be_written_is_refused() -> None:
    [first, _] = claims_of(as_bytes(LINES))
    for refused in (
        lambda: first.record(9).changed(times="many"),
        lambda: first.record(9).changed(colour="red"),
        lambda: first.record(4).changed(disease=""),
        lambda: first.record(99),
        lambda: first.without(first.line),
        lambda: first.inserted(4, ["SY", "1"]),
        lambda: first.inserted(4, ["CO", "", "1", "810000001", "a,b"]),
        lambda: first.inserted(4, ["CO", "", "1", "810000001", "𠮷"]),
    ):
        with pytest.raises(InvalidInput):
            refused()


@given(st.dates(date(1868, 1, 25), date(2099, 12, 31)))
def test_dates_in_both_forms(day: date) -> None:
    assert parse_date(f"{day:%Y%m%d}") == day and parse_month(f"{day:%Y%m}") == day.replace(day=1)
    for number, first in (("5", 2019), ("4", 1989), ("3", 1926), ("2", 1912), ("1", 1868)):
        if first <= day.year < first + 99:
            assert parse_date(f"{number}{day.year - first + 1:02}{day:%m%d}") == day
            break


@given(st.lists(st.binary(max_size=40), max_size=12))
def test_any_bytes_come_back(lines: list[bytes]) -> None:
    for part in parts_of(b"\r\n".join(lines)):
        for fault in part.faults:
            assert isinstance(fault, Fault) and fault.text
        if isinstance(part, Claim):
            assert part.items is not None and part.diseases is not None


@given(st.lists(st.sampled_from([*LINES, "SY,1", "XX,unknown kind", "NI,21,1"]), max_size=40))
def test_records_in_any_order_come_back(lines: list[str]) -> None:
    for claim in claims_of(as_bytes(lines)):
        assert {item.line for item in claim.items} <= {record.line for record in claim.records}
