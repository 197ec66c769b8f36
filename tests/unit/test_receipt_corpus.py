"""The synthetic receipts: what is planted is there, at its line, with evidence that stands in the chart; the own samples."""

import io
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from app.receipts.check import check
from app.receipts.describe import line_texts
from app.receipts.tables import Tables
from app.receipts.uke import Claim, read_uke, write_uke
from schemas.note import ChartNote
from schemas.receipt import MAX_COMMENT, Advised, Reason
from training.receipts.draw import Synthetic, draw, reserved
from training.receipts.faults import FAULTS

SAMPLES = Path(__file__).parents[2] / "samples" / "receipts"


@pytest.fixture(scope="module")
def tables() -> Tables:
    return Tables.starter()


@pytest.fixture(scope="module")
def trained() -> list[Synthetic]:
    return draw(3, "train", 0, 80)


@pytest.fixture(scope="module")
def held_out() -> list[Synthetic]:
    return draw(3, "held-out", 0, 80)


@pytest.fixture(scope="module")
def both(trained: list[Synthetic], held_out: list[Synthetic]) -> list[Synthetic]:
    return trained + held_out


def test_the_same_arguments_give_the_same_receipts(trained: list[Synthetic]) -> None:
    assert draw(3, "train", 0, 4) == trained[:4]
    assert draw(3, "train", 1, 4) != trained[:4]


def test_claims_are_sound_records_of_the_file(both: list[Synthetic]) -> None:
    for one in both:
        assert not one.claim.faults
        [again] = read_uke(io.BytesIO(b"".join(write_uke([one.claim]))))
        assert isinstance(again, Claim)
        assert [record.fields for record in again.records] == [record.fields for record in one.claim.records]
        assert [item.code for item in again.items] == [item.code for item in one.claim.items]


def test_every_finding_is_one_that_was_planted(both: list[Synthetic], tables: Tables) -> None:
    for one in both:
        planted = {fault.line: fault for fault in one.faults}
        assert len(planted) == len(one.faults) == len(one.combination)
        found = {(finding.line, finding.row) for finding in check(one.claim, tables)}
        assert found == {(fault.line, fault.reference) for fault in one.faults if fault.reference != "chart"}
        assert planted.keys() <= line_texts(one.claim, tables).keys()


def test_evidence_and_spans_stand_in_the_chart(both: list[Synthetic]) -> None:
    for one in both:
        texts = {entry.note_id: entry.text for entry in one.entries}
        for fault in one.faults:
            assert fault.evidence or fault.reference != "chart"
            if fault.evidence:
                note, start, end = fault.evidence
                quote = texts[note][start:end]
                assert 0 < len(quote) <= 60 and "\n" not in quote and quote == quote.strip()
        for entry in one.entries:
            for record in entry.records:
                for span in record.statement.fields.values():
                    assert entry.text[span.start : span.end] == span.quote == span.quote.strip()


def test_comments_are_short_and_without_codes(both: list[Synthetic]) -> None:
    for fault in (fault for one in both for fault in one.faults):
        assert 10 < len(fault.comment) <= MAX_COMMENT
        assert not re.search(r"[0-9]{4}|[{}]", fault.comment)


def test_all_twenty_kinds_and_clean_claims_are_drawn(both: list[Synthetic]) -> None:
    kinds = Counter(fault.reason for one in both for fault in one.faults)
    assert set(FAULTS) | {Reason.JUSTIFIED} == set(kinds) and len(FAULTS) == 20
    clean = sum(all(fault.action is Advised.NO_CHANGE for fault in one.faults) for one in both)
    assert 0.2 < clean / len(both) < 0.4
    assert any(not one.faults for one in both)


def test_no_reserved_combination_is_trained(trained: list[Synthetic], held_out: list[Synthetic]) -> None:
    assert not any(reserved(combination) for one in trained for combination in one.combination)
    for one in held_out:
        planted = zip(one.combination, one.faults, strict=True)
        faults = [combination for combination, fault in planted if fault.action is not Advised.NO_CHANGE]
        assert not faults or any(map(reserved, faults))


def test_what_marks_a_fault_is_also_said_where_none_is(both: list[Synthetic]) -> None:
    """中止, 否定, 疑い: as words of the chart they do not tell a faulty claim from a clean one."""
    clean = [one for one in both if all(fault.action is Advised.NO_CHANGE for fault in one.faults)]
    for word in ("中止", "否定", "疑"):
        assert sum(any(word in entry.text for entry in one.entries) for one in clean) > len(clean) / 20


def sample_notes() -> list[ChartNote]:
    return [
        ChartNote.model_validate(json.loads(path.read_text("utf-8")))
        for path in sorted((SAMPLES / "notes").glob("*.json"))
    ]


def test_the_samples_hold_what_their_readme_says(tables: Tables) -> None:
    with (SAMPLES / "clinic-2026-05.uke").open("rb") as file:
        parts = list(read_uke(file))
    claims = [part for part in parts if isinstance(part, Claim)]
    assert len(claims) == 7 and not [fault for part in parts for fault in part.faults]
    found = {finding.line: finding.row for claim in claims for finding in check(claim, tables)}
    assert found == {
        34: "indications:1149019", 62: "contraindications:2149032", 78: "rule:suspected-open", 82: "rule:duplicate",
        115: "rule:suspected-open",
    }  # fmt: skip
    said = (SAMPLES / "README.md").read_text("utf-8")
    for line in found:
        assert f"| {line} |" in said


def test_the_samples_notes_belong_to_their_claims() -> None:
    with (SAMPLES / "clinic-2026-05.uke").open("rb") as file:
        claims = {part.chart_number: part for part in read_uke(file) if isinstance(part, Claim)}
    notes = sample_notes()
    assert {note.patient.id for note in notes} == claims.keys()
    for note in notes:
        claim = claims[note.patient.id]
        month = claim.month
        assert month and (note.date.year, note.date.month) == (month.year, month.month)
        assert note.patient.birth_date == claim.birth_date
        assert any(note.date.day in item.days for item in claim.items)
