"""Small claim files, made as the records' layout says, and a check of them without a model."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from uuid import UUID

from app import receipt_store
from app.db import Database
from app.receipts.chart import Entry
from app.receipts.check import check
from app.receipts.tables import Tables
from app.receipts.uke import Claim
from schemas.issue import Issue
from schemas.note import ChartNote, DocumentType, Patient
from schemas.receipt import Advice, Finding

HYPERTENSION, LOXOPROFEN = "8840107", "620098801"
DAYS = ",".join(["1", *[""] * 30])


def claim_lines(number: int, chart_number: str = "0001", *, month: str = "202406", drug: str = LOXOPROFEN) -> list[str]:
    """RE, HO, SY, SI, IY: a drug that no disease of the claim is for. Five lines."""
    head = ["RE", str(number), "1112", month, "見本　太郎", "1", "19500102", *[""] * 6, chart_number, *[""] * 24]
    return [
        ",".join(head),
        "HO,01010016,１,１,1,500,,,,,,,,,",
        f"SY,{HYPERTENSION},20230401,1,,,01,",
        f"SI,12,1,112007410,,73,1,,,,,,,{DAYS}",
        f"IY,21,1,{drug},3,3,14,,,,,,,14,{','.join([''] * 30)}",
    ]


def uke(*claims: list[str]) -> bytes:
    lines = ["IR,1,13,1,1234567,,架空病院,202407,00,", *[line for claim in claims for line in claim], "GO,1,500,99"]
    return "".join(f"{line}\r\n" for line in lines).encode("cp932")


def take_in(database: Database, content: bytes, **options: Any) -> receipt_store.Taken:
    with database.session_scope() as session:
        return receipt_store.take_in(session, io.BytesIO(content), "RECEIPTC.UKE", "user:1", **options)


def claim_ids(database: Database, file_id: UUID) -> list[UUID]:
    with database.session_scope() as session:
        return [row.id for row in receipt_store.claims_page(session, file_id)]


def detail(database: Database, claim_id: UUID) -> receipt_store.ClaimDetail:
    with database.session_scope() as session:
        return receipt_store.get_claim(session, claim_id)


def chart_note(text: str, patient_id: str = "1", *, day: date = date(2024, 6, 3), born: date | None = date(1950, 1, 2)) -> ChartNote:
    patient = Patient(id=patient_id, family="見本", given="太郎", birth_date=born)
    return ChartNote(
        id=f"{patient_id}-{day}-{len(text)}", document_type=DocumentType.PROGRESS, department="内科", date=day, patient=patient,
        text=text,
    )  # fmt: skip


@dataclass(frozen=True)
class Checked:
    findings: Sequence[Finding]
    advice: Sequence[Advice] = ()
    run: dict[str, Any] = field(default_factory=dict)
    issues: Sequence[Issue] = ()


class Checker:
    """The real checks of the tables, and the advice that a test gives it. `seen`: what it was asked to look at."""

    def __init__(self, *advice: Advice) -> None:
        self.advice = advice
        self.seen: list[tuple[Claim, Sequence[Entry]]] = []

    def __call__(self, claim: Claim, tables: Tables, entries: Sequence[Entry]) -> Checked:
        self.seen.append((claim, entries))
        return Checked(check(claim, tables), self.advice, {"model": "0123456789abcdef"})
