"""Many notes of a file at the same time: order, patients, memory, early ends."""

import datetime
import json
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from app.batches import Earlier, convert_notes
from app.errors import InvalidInput
from app.intake import Line
from schemas.note import ChartNote, DocumentType, Patient
from schemas.record import Record
from schemas.statement import EvidenceSpan, Field, Kind, Statement


def record(kind: Kind, name: str) -> Record:
    fields = {Field.NAME: EvidenceSpan(start=0, end=len(name), quote=name)}
    return Record(statement=Statement(kind=kind, fields=fields), display=name)


@dataclass
class Converted:
    bundle: dict[str, Any]
    records: list[Record] = field(default_factory=list)
    messages: list[Any] = field(default_factory=list)
    issues: list[Any] = field(default_factory=list)
    counts: dict[Kind, int] = field(default_factory=dict)

    @property
    def resources(self) -> list[Any]:
        return [self.bundle]


def line(number: int, patient: str | None = None) -> Line:
    person = Patient(id=patient or f"P{number:06}", family="検査", given="花子", birth_date=datetime.date(1950, 1, 2))
    note = ChartNote(
        id=f"n{number}",
        document_type=DocumentType.PROGRESS,
        department="内科",
        date=datetime.date(2026, 4, 1),
        patient=person,
        text=f"{number}番",
    )
    return Line(number, note, None)


def converted(note: ChartNote, earlier: Sequence[Earlier]) -> Converted:
    said = [record(Kind.CONDITION, f"病{note.id}"), record(Kind.LAB, f"値{note.id}")]
    return Converted({"resourceType": "Bundle", "id": note.id}, said)


def test_notes_are_converted_at_the_same_time_and_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    meeting = threading.Barrier(4)

    def together(note: ChartNote, earlier: Sequence[Earlier]) -> Converted:
        meeting.wait(20)
        time.sleep(0.002 * (9 - int(note.id[1:]) % 10))  # the later the quicker
        return converted(note, earlier)

    outcomes = list(convert_notes(map(line, range(40)), tmp_path, together, slots=4))
    assert [(outcome.note_id, outcome.error) for outcome in outcomes] == [(f"n{n}", None) for n in range(40)]
    assert all(0 < outcome.seconds < 20 for outcome in outcomes)
    for n in range(40):
        assert json.loads((tmp_path / f"n{n}.json").read_text())["id"] == f"n{n}"


def test_each_note_is_told_what_its_patients_notes_before_it_say(tmp_path: Path) -> None:
    lines = [line(n, patient=f"P{n % 3:06}") for n in range(30)]
    told: dict[str, list[tuple[str, str, list[str]]]] = {}
    busy: set[str] = set()
    lock = threading.Lock()

    def watched(note: ChartNote, earlier: Sequence[Earlier]) -> Converted:
        with lock:
            assert note.patient.id not in busy
            busy.add(note.patient.id)
        told[note.id] = [(before.id, before.text, [r.display for r in records]) for before, records in earlier]
        time.sleep(0.003)
        with lock:
            busy.remove(note.patient.id)
        return converted(note, earlier)

    outcomes = list(convert_notes(lines, tmp_path, watched, slots=8))
    assert [outcome.error for outcome in outcomes] == [None] * 30
    # Diseases and allergies are all that the patient-wide messages tell.
    assert told["n28"] == [(f"n{n}", "", [f"病n{n}"]) for n in range(1, 28, 3)]
    assert told["n0"] == told["n1"] == told["n2"] == []


def test_a_long_file_is_read_a_little_ahead_only(tmp_path: Path) -> None:
    read = 0

    def endless() -> Iterator[Line]:
        nonlocal read
        while True:
            read += 1
            yield line(read)

    hold = threading.Event()

    def first_is_slow(note: ChartNote, earlier: Sequence[Earlier]) -> Converted:
        if note.id == "n1":
            hold.wait(20)
        return converted(note, earlier)

    outcomes = convert_notes(endless(), tmp_path, first_is_slow, slots=4)
    threading.Timer(0.5, hold.set).start()
    assert next(outcomes).note_id == "n1"
    assert 4 < read <= 40
    for _ in range(50):
        next(outcomes)
    assert read <= 51 + 40
    outcomes.close()


def test_a_note_that_fails_and_a_line_that_is_none_end_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = [line(0, "P000001"), Line(1, None, InvalidInput("id: is missing")), *(line(n, "P000001") for n in (2, 3, 4))]

    def sometimes(note: ChartNote, earlier: Sequence[Earlier]) -> Converted:
        if note.id == "n2":
            raise InvalidInput("too odd")
        if note.id == "n3":
            raise ValueError(note.text)
        assert note.id != "n4" or [before.id for before, _ in earlier] == ["n0"]
        return converted(note, earlier)

    outcomes = list(convert_notes(lines, tmp_path, sometimes, slots=3))
    said = [(outcome.number, outcome.note_id, outcome.error) for outcome in outcomes]
    assert said == [
        (0, "n0", None),
        (1, None, "id: is missing"),
        (2, "n2", "InvalidInput: too odd"),
        (3, "n3", "ValueError"),
        (4, "n4", None),
    ]
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["n0.json", "n4.json"]
    assert "conversion failed" in caplog.text


def test_nothing_begins_and_nothing_is_written_after_an_early_stop(tmp_path: Path) -> None:
    begun: list[str] = []
    ended: list[str] = []

    def noted(note: ChartNote, earlier: Sequence[Earlier]) -> Converted:
        begun.append(note.id)
        time.sleep(0.1)
        ended.append(note.id)
        return converted(note, earlier)

    outcomes = convert_notes(map(line, range(1000)), tmp_path, noted, slots=2)
    assert next(outcomes).note_id == "n0"
    outcomes.close()
    deadline = time.monotonic() + 20
    while [t for t in threading.enumerate() if t.name.startswith("note")] and time.monotonic() < deadline:
        time.sleep(0.02)
    assert sorted(begun) == sorted(ended) and 1 <= len(begun) <= 5
    assert [path.name for path in tmp_path.glob("*.json")] == ["n0.json"]
