"""The files of this folder and of samples/ say what they claim: places, counts of keys, one text in both."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from golden import FOLDER, case_names, read_case

from schemas.note import ChartNote

SAMPLES = FOLDER.parents[1] / "samples"
KEYS = {
    "condition": {"name", "icd10", "assertion", "onset"},
    "allergy": {"category", "substance", "assertion", "reactions"},
    "infection": {"display", "result", "value", "unit", "date"},
    "lab": {"analyte", "core", "value", "comparator", "unit", "flag", "date"},
    "prescription": {
        "drug", "ingredient", "strength", "dose", "dose_unit", "per_day", "timing", "days", "as_needed", "action",
    },
}  # fmt: skip


def gold() -> list[dict[str, Any]]:
    lines = (FOLDER / "gold.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.json")), ids=lambda path: path.stem)
def test_sample_is_a_note_and_has_gold(path: Path) -> None:
    sample = json.loads(path.read_text(encoding="utf-8"))
    note = ChartNote.model_validate(sample)
    assert note.id == path.stem
    assert 300 <= len(note.text) <= 1500
    assert [{key: row[key] for key in sample} for row in gold() if row["id"] == note.id] == [sample]


@pytest.mark.parametrize("row", gold(), ids=lambda row: str(row["id"]))
def test_gold_facts_quote_the_note(row: dict[str, Any]) -> None:
    assert row["facts"]
    for fact in row["facts"]:
        start, quote = fact["start"], fact["quote"]
        assert row["text"][start : start + len(quote)] == quote
        assert set(fact) == {"item", "quote", "start"} | KEYS[fact["item"]]
    starts = [fact["start"] for fact in row["facts"]]
    assert starts == sorted(starts)
    assert max(Counter(json.dumps(fact, sort_keys=True) for fact in row["facts"]).values()) == 1


def test_every_sample_has_its_gold_line() -> None:
    assert sorted(row["id"] for row in gold()) == sorted(path.stem for path in SAMPLES.glob("*.json"))


@pytest.mark.parametrize("name", case_names())
def test_case_quotes_its_note(name: str) -> None:
    note, expectations = read_case(name)
    assert note.id == name
    assert 80 <= len(note.text) <= 400
    for expectation in expectations:
        assert expectation.expected["fhir_resource"]
        for span in expectation.statement.fields.values():
            assert note.text[span.start : span.end] == span.quote
