"""Given the statements of a golden case, FHIR and SS-MIX2 say the same; and a difference of any kind would be seen."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from agreement import differences
from golden import case_names, read_case

from app import fhir, ssmix2, standardize
from app.ssmix2 import DataKind, Message
from app.terminology.entries import starter_entries
from app.terminology.matching import Lexicon
from schemas.coding import Coding
from schemas.note import ChartNote
from schemas.record import Dosage, Quantity, Record
from schemas.statement import Assertion, EvidenceSpan, Field, Kind, Statement

RECORDED = datetime(2026, 6, 1, 9, 0, tzinfo=UTC)
RUN = fhir.ProvenanceSource(
    run_id="golden", software_version="0", model="none", prompt="none", grammar="none", terminology="starter"
)
FACILITY = fhir.Facility(number="1310000001", name="架空総合病院")
Outputs = tuple[list[dict[str, Any]], list[Message]]


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return Lexicon(starter_entries(), "starter")


def both(note: ChartNote, records: Sequence[Record]) -> Outputs:
    resources, _ = fhir.build_resources(note, records, facility=FACILITY, run=RUN, recorded=RECORDED)
    sender = ssmix2.Facility("架空総合病院", institution_number="1310000001")
    messages, _ = ssmix2.messages(note, records, facility=sender, sent_at=RECORDED, source="golden")
    return resources, messages


@pytest.mark.parametrize("name", case_names())
def test_golden_cases_agree(name: str, lexicon: Lexicon) -> None:
    note, expectations = read_case(name)
    statements = [expectation.statement for expectation in expectations]
    records, _ = standardize.records(statements, note.date, lexicon)
    assert differences(*both(note, records)) == []


# --- the judge itself ---------------------------------------------------------------------------------------------------

WORDS = "糖尿病 2020年 肺炎 喘息 CRP 1.5 mg/dL HBs抗原 1日3回毎食後 アムロジピン錠5mg 7日分 エビ"


def span(quote: str) -> EvidenceSpan:
    start = WORDS.index(quote)
    return EvidenceSpan(start=start, end=start + len(quote), quote=quote)


def record(kind: Kind, name: str, said: dict[str, Any] | None = None, **values: Any) -> Record:
    fields = {Field.NAME: span(name)} | {Field(k): span(v) for k, v in (said or {}).items() if k in set(Field)}
    rest = {k: v for k, v in (said or {}).items() if k not in set(Field)}
    statement = Statement.model_validate({"kind": kind, "fields": fields} | rest)
    return Record.model_validate({"statement": statement, "display": name} | values)


def sample() -> Outputs:
    note = ChartNote.model_validate(
        {
            "id": "n1",
            "document_type": "progress",
            "department": "内科",
            "date": date(2026, 4, 1),
            "patient": {"id": "0000012345", "family": "見本", "given": "花子", "sex": "female"},
            "text": WORDS,
            "encounter": {"encounter_class": "AMB", "start": date(2026, 4, 1)},
        }
    )
    icd10 = Coding(system="http://jpfhir.jp/fhir/core/mhlw/CodeSystem/ICD10-2013-full", code="E14.9", display="糖尿病")
    yj = Coding(
        system="http://capstandard.jp/iyaku.info/CodeSystem/YJ-code", code="2171022F2024", display="アムロジピン"
    )
    dosage = Dosage(dose=Decimal(1), dose_unit="錠", per_day=3, days=7, text="1日3回毎食後 7日分")
    records = [
        record(Kind.CONDITION, "糖尿病", {"onset": "2020年"}, codings=(icd10,), date="2020"),
        record(Kind.CONDITION, "肺炎", {"assertion": Assertion.SUSPECTED}),
        record(Kind.CONDITION, "喘息", {"assertion": Assertion.PAST}),
        record(Kind.ALLERGY, "エビ", {"category": "food"}),
        record(Kind.LAB, "CRP", {"value": "1.5"}, quantity=Quantity(value=Decimal("1.5"), unit="mg/dL")),
        record(Kind.INFECTION, "HBs抗原", {"result": "negative"}),
        record(
            Kind.PRESCRIPTION,
            "アムロジピン錠5mg",
            {"usage": "1日3回毎食後", "days": "7日分", "action": "prescribe"},
            codings=(yj,),
            dosage=dosage,
        ),
    ]
    return both(note, records)


def test_the_sample_agrees() -> None:
    assert differences(*sample()) == []


@pytest.mark.parametrize(
    ("kind", "segment", "pattern", "other"),
    [
        ("ADT-00", "PID", r"\|F", "|M"),
        ("ADT-12", "PV1", "20260401$", "20260402"),
        ("ADT-61", "IAM", "FA\\^", "DA^"),
        ("ADT-61", "IAM", r"\|C\^", "|S^"),
        ("ADT-61", "IAM", "エビ", "カニ"),
        ("PPR-01", "PRB", "E149", "E148"),
        ("PPR-01", "PRB", r"\|2020\|", "|2021|"),
        ("PPR-01", "PRB", r"\|1\^疑いあり\^JHSD0005", ""),
        ("PPR-01", "PRB", r"\|O\^その他\^JHSD0006", ""),
        ("PPR-01", "PRB", r"(?<=MDCDX2\|)(\w+)", "SAME"),
        ("PPR-01", "PRB", "喘息", "気管支喘息"),
        ("OML-11", "OBX", r"\|1\.5\|", "|1.50|"),
        ("OML-11", "OBX", r"\|1\.5\|", "|< 1.5|"),
        ("OML-11", "OBX", r"\^mg/dL\^", "^g/dL^"),
        ("OML-11", "OBX", r"HYJ-\w", "HYJ-X"),
        ("OML-11", "OBX", r"\|  -\|", "|  +|"),
        ("OML-11", "OBX", "20260401$", "20260402"),
        ("OML-11", "SPM", "20260401$", "20260402"),
        ("OMP-01", "RXE", r"\|1\|\|TAB", "|2||TAB"),
        ("OMP-01", "RXE", r"\|1\|\|TAB", "|1||CAP"),
        ("OMP-01", "RXE", r"\|3\^TAB", "|2^TAB"),
        ("OMP-01", "RXE", "2171022F2024.アムロジピン.YJ", ""),
        ("OMP-01", "RXE", r"\|21\^", "|22^"),
        ("OMP-01", "TQ1", r"\|7\^D", "|8^D"),
        ("OMP-01", "TQ1", "&1日3回毎食後&99HYJ", ""),
        ("OMP-01", "ORC", r"\|20260401\|", "|20260402|"),
    ],
)
def test_a_difference_is_seen(kind: str, segment: str, pattern: str, other: str) -> None:
    resources, messages = sample()
    damaged = []
    for message in messages:
        lines = message.text.split("\r")
        if message.kind == kind:
            changed = [re.sub(pattern, other, line) if line.startswith(segment) else line for line in lines]
            assert changed != lines
            message = replace(message, text="\r".join(changed))
        damaged.append(message)
    assert differences(resources, damaged)


@pytest.mark.parametrize(
    "kind", [DataKind.VISIT, DataKind.ALLERGY, DataKind.DIAGNOSIS, DataKind.PRESCRIPTION, DataKind.RESULT]
)
def test_a_missing_message_is_seen(kind: DataKind) -> None:
    resources, messages = sample()
    assert differences(resources, [message for message in messages if message.kind is not kind])


@pytest.mark.parametrize("kind", ["Encounter", "AllergyIntolerance", "Condition", "MedicationRequest", "Observation"])
def test_a_missing_resource_is_seen(kind: str) -> None:
    resources, messages = sample()
    assert differences([r for r in resources if r["resourceType"] != kind], messages)
