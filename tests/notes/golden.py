"""The golden cases of this folder: a note, the statements that a reader finds in it, and what must become of them.

The columns of `statements.tsv` and the rule for finding a written piece in the note: `README.md`.
"""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from schemas.note import ChartNote
from schemas.statement import (
    FIELDS,
    Action,
    AllergyCategory,
    Assertion,
    EvidenceSpan,
    Field,
    InfectionResult,
    Kind,
    Statement,
)

FOLDER = Path(__file__).parent
_PLACE = re.compile(r"^(?P<quote>.+?)(?:#(?P<nth>[1-9]))?$")


@dataclass(frozen=True)
class Expectation:
    """One line of `statements.tsv`: the statement, and the `expect_`/`fhir_` cells that are not empty."""

    line: int
    statement: Statement
    expected: dict[str, str]


def case_names() -> list[str]:
    return sorted(path.parent.name for path in FOLDER.glob("*/statements.tsv"))


def read_case(name: str) -> tuple[ChartNote, list[Expectation]]:
    """Raises ValueError when a written piece does not stand in the note or a label is not of its list."""
    note = ChartNote.model_validate_json((FOLDER / name / "note.json").read_text(encoding="utf-8"))
    with (FOLDER / name / "statements.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return note, [_expectation(note.text, line, row) for line, row in enumerate(rows, start=2)]


def _expectation(text: str, line: int, row: dict[str, str]) -> Expectation:
    try:
        kind = Kind(row["kind"])
        name = _find(text, row["name"], None)
        fields = {Field.NAME: name} | {
            field: _find(text, row[field.value], name) for field in FIELDS[kind][1:] if row[field.value]
        }
        label = row["label"]
        statement = Statement(
            kind=kind,
            fields=fields,
            assertion=Assertion(label) if kind in (Kind.CONDITION, Kind.ALLERGY) else Assertion.PRESENT,
            category=AllergyCategory(row["category"]) if kind is Kind.ALLERGY else None,
            result=InfectionResult(label) if kind is Kind.INFECTION and label else None,
            action=Action(label) if kind is Kind.PRESCRIPTION else None,
        )
    except ValueError as error:
        raise ValueError(f"line {line}: {error}") from error
    expected = {column: cell for column, cell in row.items() if column.startswith(("expect_", "fhir_")) and cell}
    return Expectation(line, statement, expected)


def _find(text: str, cell: str, name: EvidenceSpan | None) -> EvidenceSpan:
    found = _PLACE.match(cell)
    if found is None:
        raise ValueError("an empty name")
    quote, nth = found["quote"], found["nth"]
    if nth or name is None:
        start = -1
        for _ in range(int(nth or 1)):
            start = text.find(quote, start + 1)
    else:
        start = text.find(quote, name.end)
        if start < 0:
            start = text.rfind(quote, 0, name.start)
    if start < 0:
        raise ValueError(f"{cell} does not stand in the note")
    return EvidenceSpan(start=start, end=start + len(quote), quote=quote)
