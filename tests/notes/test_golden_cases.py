"""Given the statements of a golden case, records and FHIR resources hold exactly the answers written beside them."""

from datetime import UTC, datetime
from typing import Any

import pytest
from golden import Expectation, case_names, read_case

from app import fhir, standardize
from app.terminology.entries import starter_entries
from app.terminology.matching import Lexicon
from schemas.note import ChartNote
from schemas.record import Record
from schemas.statement import Kind

RECORDED = datetime(2026, 6, 1, 9, 0, tzinfo=UTC)
RUN = fhir.ProvenanceSource(
    run_id="golden", software_version="0", model="none", prompt="none", grammar="none", terminology="starter"
)


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return Lexicon(starter_entries(), "starter")


def computed(record: Record) -> dict[str, str]:
    """What the record holds, by column; nothing is an empty string."""
    quantity, dosage = record.quantity, record.dosage
    cells = {
        "expect_display": record.display,
        "expect_date": record.date,
        "expect_text": record.text_value,
        "expect_reactions": "|".join(record.reactions),
        "expect_value": quantity and quantity.value,
        "expect_comparator": quantity and quantity.comparator,
        "expect_unit": quantity and quantity.unit,
        "expect_dose": dosage and dosage.dose and f"{dosage.dose.normalize():f}",
        "expect_dose_unit": dosage and dosage.dose_unit,
        "expect_per_day": dosage and dosage.per_day,
        "expect_days": dosage and dosage.days,
        "expect_as_needed": dosage and ("yes" if dosage.as_needed else "no"),
    }
    return {column: "" if cell is None else str(cell) for column, cell in cells.items()}


def codes_in(concept: dict[str, Any] | None) -> set[str]:
    return {coding["code"] for coding in (concept or {}).get("coding", [])}


def written(resource: dict[str, Any]) -> dict[str, set[str]]:
    """The codes of a resource, by column."""
    condition = resource.get("condition", [{}])[0]
    status = codes_in(resource.get("clinicalStatus")) | codes_in(resource.get("verificationStatus"))
    return {
        "fhir_resource": {resource["resourceType"]},
        "fhir_code": codes_in(
            resource.get("code") or resource.get("medicationCodeableConcept") or condition.get("code")
        ),
        "fhir_status": status or {resource["status"]},
        "fhir_value": codes_in(resource.get("valueCodeableConcept")),
        "fhir_interpretation": {code for concept in resource.get("interpretation", []) for code in codes_in(concept)},
    }


def convert(note: ChartNote, expectations: list[Expectation], lexicon: Lexicon) -> list[tuple[Record, dict[str, Any]]]:
    statements = [expectation.statement for expectation in expectations]
    records, _ = standardize.records(statements, note.date, lexicon)
    resources, _ = fhir.build_resources(note, records, run=RUN, recorded=RECORDED)
    built = [r for r in resources if r["resourceType"] not in ("Patient", "DocumentReference", "Provenance")]
    return list(zip(records, built, strict=True))


@pytest.mark.parametrize("name", case_names())
def test_case_gives_the_answers_beside_it(name: str, lexicon: Lexicon) -> None:
    note, expectations = read_case(name)
    wrong = []
    for expectation, (record, resource) in zip(expectations, convert(note, expectations, lexicon), strict=True):
        values, codes = computed(record), written(resource)
        for column, answer in expectation.expected.items():
            if column in values:
                right = values[column] == ("" if answer == "none" else answer)
                got: object = values[column]
            else:
                right = set(answer.split()) <= codes[column]
                got = codes[column]
            if not right:
                wrong.append(f"{name} line {expectation.line} {column}: {answer} expected, {got} computed")
    assert not wrong, "\n".join(wrong)


def test_every_kind_and_label_is_specified() -> None:
    expectations = [expectation for name in case_names() for expectation in read_case(name)[1]]
    statements = [expectation.statement for expectation in expectations]
    assert {statement.kind for statement in statements} == set(Kind)
    assert len({statement.assertion for statement in statements if statement.kind is Kind.CONDITION}) == 5
    assert len({statement.action for statement in statements if statement.kind is Kind.PRESCRIPTION}) == 6
    assert len({statement.result for statement in statements if statement.kind is Kind.INFECTION}) == 3
    assert len({statement.category for statement in statements if statement.kind is Kind.ALLERGY}) == 4
