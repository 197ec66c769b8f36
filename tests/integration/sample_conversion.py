"""A note, and a small conversion of it, for tests of what happens around the converter."""

import datetime
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import uuid4

from schemas.coding import Candidate
from schemas.issue import Issue, IssueType, Severity
from schemas.note import ChartNote, DocumentType, Patient
from schemas.record import Record
from schemas.statement import EvidenceSpan, Field, Kind, Statement


def make_note(text: str = "HbA1c 1.10 %。", department: str = "内科", note_id: str | None = None) -> ChartNote:
    return ChartNote(
        id=note_id or f"n-{uuid4().hex}",
        document_type=DocumentType.PROGRESS,
        department=department,
        date=datetime.date(2026, 4, 1),
        patient=Patient(id="P0001", family="検査", given="花子", birth_date=datetime.date(1950, 1, 2)),
        text=text,
    )


@dataclass(frozen=True)
class SampleMessage:
    kind: str
    order_no: str
    care_date: datetime.date | None
    department: str
    text: str


@dataclass(frozen=True)
class SampleConversion:
    run: dict[str, Any]
    statements: list[Statement] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    messages: list[SampleMessage] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)
    held: frozenset[tuple[str, str]] = frozenset()
    candidates: dict[int, list[Candidate]] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)


def convert(note: ChartNote, source: str) -> SampleConversion:
    """One laboratory result whose value is written with a zero that a float would lose."""
    quote = note.text[:5]
    value = {"value": Decimal("1.10"), "unit": "%"}
    statement = Statement(kind=Kind.LAB, fields={Field.NAME: EvidenceSpan(start=0, end=len(quote), quote=quote)})
    return SampleConversion(
        run={
            "id": str(uuid4()),
            "model": "0123456789abcdef",
            "prompt": "0123456789abcdef",
            "grammar": "0123456789abcdef",
            "terminology": "0123456789ab",
            "version": "0.0.0",
            "seed": 0,
            "prompt_tokens": 10,
            "output_tokens": 5,
            "duration_ms": 3,
            "started_at": datetime.datetime.now(datetime.UTC),
        },
        statements=[statement],
        records=[Record(statement=statement, display=quote)],
        resources=[
            {"resourceType": "Observation", "id": f"obs-{note.id}"[:64], "valueQuantity": value},
            {"resourceType": "Patient", "id": f"pat-{note.patient.id}"},
        ],
        messages=[SampleMessage("OML-11", "000000000000001", note.date, "01", "MSH|^~\\&|\r")],
        issues=[Issue(severity=Severity.WARNING, code=IssueType.NOT_FOUND, text="no code", start=0, end=5)],
    )
