"""The shipped model judges the sample claims, on the base that reads the notes."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.pipeline import Converter
from app.receipt_pipeline import Checked, ReceiptChecker
from app.receipts.chart import Entry
from app.receipts.tables import Tables
from app.receipts.uke import Claim, read_uke
from app.settings import Settings
from app.terminology.entries import starter_entries, starter_version
from app.terminology.matching import Lexicon
from schemas.note import ChartNote
from schemas.receipt import GENERAL, Advised

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "samples" / "receipts"
TABLES = Tables.starter()


@pytest.fixture(scope="module")
def converter() -> Iterator[Converter]:
    settings = Settings(_env_file=None, models_file=ROOT / "weights" / "models.toml")  # type: ignore[call-arg]
    made = Converter.load(settings, Lexicon(starter_entries(), starter_version()))
    yield made
    assert made.models is not None
    made.models.close()


@pytest.fixture(scope="module")
def checker(converter: Converter) -> ReceiptChecker:
    assert converter.models is not None
    return ReceiptChecker.of(converter.models)


@pytest.fixture(scope="module")
def notes() -> list[ChartNote]:
    return [ChartNote.model_validate(json.loads(path.read_text())) for path in sorted((SAMPLES / "notes").glob("*.json"))]


@pytest.fixture(scope="module")
def entries(converter: Converter, notes: list[ChartNote]) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for note in notes:
        records = tuple(record for record in converter.convert(note, source="emr").records if record.written)
        found.setdefault(note.patient.id, []).append(Entry(note.id, note.date, note.text, records))
    return found


@pytest.fixture(scope="module")
def claims() -> list[Claim]:
    with (SAMPLES / "clinic-2026-05.uke").open("rb") as file:
        return [part for part in read_uke(file) if isinstance(part, Claim)]


@pytest.fixture(scope="module")
def checked(checker: ReceiptChecker, claims: list[Claim], entries: dict[str, list[Entry]]) -> list[Checked]:
    return [checker.check(claim, TABLES, entries[claim.chart_number or ""]) for claim in claims]


def test_one_base_in_memory_serves_both_uses(converter: Converter, checker: ReceiptChecker) -> None:
    assert checker.reader is not None
    assert checker.reader.model is converter.reader.model
    assert (converter.reader.adapter, checker.reader.adapter) == (None, "uc2")
    ours, theirs = checker.reader.fingerprints, converter.reader.fingerprints
    assert ours.model == theirs.model and ours.adapter and not theirs.adapter and ours.grammar != theirs.grammar


def test_what_is_cited_is_there(checked: list[Checked], claims: list[Claim], notes: list[ChartNote]) -> None:
    texts = {note.id: note.text for note in notes}
    advised = 0
    for one, claim in zip(checked, claims, strict=True):
        lines = {record.line for record in claim.records}
        rows = {(finding.line, finding.row) for finding in one.findings}
        for advice in one.advice:
            advised += 1
            assert advice.line in lines
            assert (advice.line, advice.reference) in rows or advice.reference in GENERAL
            if advice.evidence:
                span = advice.evidence.span
                assert texts[advice.evidence.note_id][span.start : span.end] == span.quote
            else:
                assert advice.reference != "chart"
    assert advised >= 5


def test_every_finding_is_answered(checked: list[Checked]) -> None:
    for one in checked:
        answered = {advice.line for advice in one.advice}
        assert {finding.line for finding in one.findings} <= answered


def test_a_disease_that_the_chart_has_is_proposed(checked: list[Checked]) -> None:
    """ロキソニン without a disease; the note has 右変形性膝関節症."""
    found = next(advice for one in checked for advice in one.advice if advice.line == 34)
    assert found.action is Advised.ADD_DISEASE and found.reference == "indications:1149019"
    assert found.evidence is not None and "膝" in found.evidence.span.quote
    assert "ロキソニン" in found.comment


def test_without_its_notes_a_claim_says_that_there_is_no_chart(checker: ReceiptChecker, claims: list[Claim]) -> None:
    found = checker.check(claims[1], TABLES)
    assert any("no chart" in issue.text for issue in found.issues)
    assert all(advice.evidence is None for advice in found.advice)


def test_claims_and_notes_at_the_same_time_come_out_as_alone(
    converter: Converter, checker: ReceiptChecker, checked: list[Checked], claims: list[Claim], notes: list[ChartNote],
    entries: dict[str, list[Entry]],
) -> None:  # fmt: skip
    with ThreadPoolExecutor(8) as pool:
        judged = [pool.submit(checker.check, claim, TABLES, entries[claim.chart_number or ""]) for claim in claims]
        read = [pool.submit(converter.convert, note, source="emr") for note in notes]
        assert [one.result().advice for one in judged] == [one.advice for one in checked]
        for note, conversion in zip(notes, read, strict=True):
            alone = next(entry for entry in entries[note.patient.id] if entry.note_id == note.id)
            assert tuple(record for record in conversion.result().records if record.written) == alone.records
