"""A statement that is rather wrong than right: read, stored and named, and in no resource and no message.

The model's weights are random; the calibration calls what no table knows improbable.
"""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from random_model import write_compact
from sample_conversion import SampleConversion, convert
from test_pipeline import Sampling, make_note, options_for, synthetic_notes
from test_ssmix2_export import FACILITY, note, records, store

from app import jobs, patients, results, running, ssmix2
from app.batches import convert_notes
from app.confidence import Calibration, KindCalibration
from app.db import Database
from app.errors import InvalidInput, Unavailable
from app.generation.context import Memory
from app.generation.registry import load_registry, single
from app.intake import Line
from app.pipeline import Conversion, Converter
from app.terminology.entries import starter_entries, starter_version
from app.terminology.matching import Lexicon
from models import Run
from schemas.issue import IssueType, Severity
from schemas.job import JobState
from schemas.note import ChartNote
from schemas.record import Record
from schemas.statement import Kind

KNOWN = KindCalibration(weights={"coded": 4.0}, intercept=-2.0, hold=0.5)
"""0.88 where a table has the name, else 0.12."""


def calibration_of(reader: Sampling, **changes: Any) -> Calibration:
    prints = reader.fingerprints.as_dict()
    model = {key: prints[key] for key in ("model", "adapter", "prompt")}
    return Calibration.model_validate(
        {"model": model, "kinds": dict.fromkeys(Kind, KNOWN), "error_rate": 0.02} | changes
    )


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return Lexicon(starter_entries(), starter_version())


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sampling]:
    path = write_compact(tmp_path_factory.mktemp("model") / "compact.gguf")
    reader = Sampling.open(path, Memory(sequence_tokens=4096, threads=1))
    yield reader
    reader.model.close()


def converter(reader: Sampling, lexicon: Lexicon, calibration: Calibration | None, **settings: Any) -> Converter:
    return Converter(reader, lexicon, options_for(reader.model.path, **settings), calibration=calibration)


def evidence(node: Any) -> Iterator[tuple[int, int]]:
    """Places in the note that a resource was made from."""
    if isinstance(node, dict):
        if str(node.get("url", "")).endswith("derivation-reference"):
            place = {part["url"]: part.get("valueInteger") for part in node["extension"]}
            yield place["offset"], place["offset"] + place["length"]
        for value in node.values():
            yield from evidence(value)
    elif isinstance(node, list):
        for value in node:
            yield from evidence(value)


def names(found: list[Record]) -> set[tuple[int, int]]:
    return {(record.statement.name.start, record.statement.name.end) for record in found}


@pytest.fixture(scope="module")
def conversions(reader: Sampling, lexicon: Lexicon) -> list[tuple[ChartNote, Conversion]]:
    weighing = converter(reader, lexicon, calibration_of(reader))
    return [(one, weighing.convert(one, source="test")) for one in synthetic_notes(20)]


def test_what_is_held_is_in_no_resource_and_no_message(
    conversions: list[tuple[ChartNote, Conversion]], lexicon: Lexicon
) -> None:
    held_at_all = set()
    for chart, conversion in conversions:
        held = [record for record in conversion.records if record.held]
        written = [record for record in conversion.records if not record.held]
        held_at_all |= {record.statement.kind for record in held}
        places = {place for resource in conversion.resources for place in evidence(resource)}
        assert names(written) <= places
        assert not (names(held) - names(written)) & places
        department = lexicon.department(chart.department)
        sender = ssmix2.Facility(
            "検査病院",
            institution_number="1310000001",
            department_code=department.code if department else None,
            department_name=chart.department,
        )
        sent_at = conversion.run["started_at"]
        expected, _ = ssmix2.messages(chart, written, facility=sender, sent_at=sent_at, source="test")
        assert conversion.messages == expected
    assert held_at_all == set(Kind) - {Kind.ALLERGY}


def test_what_is_held_stays_with_its_probability_and_an_issue(conversions: list[tuple[ChartNote, Conversion]]) -> None:
    for chart, conversion in conversions:
        assert conversion.statements == [record.statement for record in conversion.records]
        held = [record for record in conversion.records if record.held]
        assert all(record.probability == 0.1192 and not record.codings for record in held)
        issues = [issue for issue in conversion.issues if "held for review" in issue.text]
        assert [(issue.start, issue.end) for issue in issues] == [
            (record.statement.name.start, record.statement.name.end) for record in held
        ]
        for issue, record in zip(issues, held, strict=True):
            assert (issue.severity, issue.code) == (Severity.WARNING, IssueType.BUSINESS_RULE)
            quote = record.statement.name.quote
            assert quote.isascii() or len(quote) < 2 or quote not in issue.text
        if conversion.resources and not held:
            assert not issues, chart.id


def test_resources_carry_the_probability_instead_of_the_confidence(
    conversions: list[tuple[ChartNote, Conversion]],
) -> None:
    said = {
        str(extension["valueDecimal"])
        for _, conversion in conversions
        for resource in conversion.resources
        for extension in resource.get("extension", ())
        if extension["url"].endswith("/confidence")
    }
    assert said == {"0.8808", "0.1192"}  # the second one of allergies


def test_the_run_names_the_calibration(reader: Sampling, conversions: list[tuple[ChartNote, Conversion]]) -> None:
    assert {conversion.run["calibration"] for _, conversion in conversions} == {calibration_of(reader).fingerprint}


def test_without_hold_everything_is_written(reader: Sampling, lexicon: Lexicon) -> None:
    weighing = converter(reader, lexicon, calibration_of(reader), hold_uncertain=False)
    bare = converter(reader, lexicon, None)
    for chart in synthetic_notes(4):
        all_written, unweighed = weighing.convert(chart, source="test"), bare.convert(chart, source="test")
        assert not any(record.held for record in all_written.records)
        assert all(record.probability is not None for record in all_written.records if record.statement.confidence)
        assert [r["id"] for r in all_written.resources[:-1]] == [r["id"] for r in unweighed.resources[:-1]]
        assert unweighed.run["calibration"] is None
        assert all(record.probability is None for record in unweighed.records)


def test_the_calibration_of_another_model_is_not_applied(
    reader: Sampling, lexicon: Lexicon, caplog: pytest.LogCaptureFixture
) -> None:
    other = calibration_of(reader, model={"model": "0" * 16, "adapter": None, "prompt": "0" * 16})
    with caplog.at_level(logging.WARNING):
        refusing = converter(reader, lexicon, other)
    assert "another model" in caplog.text
    conversion = refusing.convert(synthetic_notes(1)[0], source="test")
    assert conversion.records and not any(r.held or r.probability is not None for r in conversion.records)
    assert conversion.run["calibration"] is None
    assert [i.severity for i in conversion.issues if "another model" in i.text] == [Severity.INFORMATION]


def test_the_registry_names_the_calibration(tmp_path: Path, lexicon: Lexicon) -> None:
    model = write_compact(tmp_path / "m.gguf", seed=3)
    options = options_for(model)
    toml = tmp_path / "models.toml"
    toml.write_text(
        '[base]\nfile = "m.gguf"\n[use_cases.uc1]\nmodel = "base"\nprompt = "uc1"\ncalibration = "c.json"\n'
    )
    assert load_registry(toml).get("uc1").calibration == tmp_path / "c.json"
    assert single(model).get("uc1").calibration is None
    beside = tmp_path / "m.calibration.json"
    beside.write_text("{}")
    assert single(model).get("uc1").calibration == beside
    with pytest.raises(InvalidInput, match=r"m\.calibration\.json"):
        Converter.load(options, lexicon)
    with pytest.raises(Unavailable, match=r"c\.json"):
        Converter.load(options.model_copy(update={"model_path": None, "models_file": toml}), lexicon)
    reader = Sampling.open(model, Memory(sequence_tokens=4096, threads=1))
    beside.write_text(calibration_of(reader).model_dump_json())
    reader.model.close()
    loaded = Converter.load(options, lexicon)
    try:
        assert loaded.calibration is not None
    finally:
        loaded.reader.model.close()


def test_earlier_notes_do_not_tell_what_is_held(tmp_path: Path) -> None:
    found = records()
    found[0] = found[0].model_copy(update={"held": True})
    told: list[list[str]] = []

    def conversion(chart: ChartNote, earlier: Any) -> Conversion:
        told.append([record.display for _, kept in earlier for record in kept])
        made = convert(chart, "t")
        return Conversion(made.run, [], found, [], {"resourceType": "Bundle"}, [])

    lines = [Line(n, note().model_copy(update={"id": f"n{n}"}), None) for n in (1, 2)]
    assert [one.error for one in convert_notes(lines, tmp_path, conversion)] == [None, None]
    assert told == [[], ["鶏卵"]]


def test_a_stored_statement_that_is_held_is_in_no_patient_wide_message(fresh_database: Database) -> None:
    found = records()
    found[0] = found[0].model_copy(update={"held": True, "probability": 0.2})
    store(fresh_database, note(), *found)
    with fresh_database.session_scope() as session:
        files = patients.patient_files(session, "emr", "P001234", FACILITY)
        assert [record.display for record in files.notes[0].records] == ["鶏卵", "ALB"]
        diagnoses = [message.text for message, _ in files.messages if message.kind is ssmix2.DataKind.DIAGNOSIS]
        assert not any("糖尿病" in text for text in diagnoses)


def test_a_held_statement_is_stored_and_counted(fresh_database: Database) -> None:
    found = records()
    found[0] = found[0].model_copy(update={"held": True, "probability": 0.2})

    def conversion(chart: ChartNote, source: str) -> SampleConversion:
        made = convert(chart, source)
        return replace(
            made, run=made.run | {"calibration": "ab" * 8}, statements=[one.statement for one in found], records=found
        )

    with fresh_database.session_scope() as session:
        job_id = jobs.submit(session, note(), "emr").job_id
    assert running.run(fresh_database, job_id, conversion, worker="w", policy=jobs.Policy()) is JobState.DONE
    with fresh_database.session_scope() as session:
        status = results.job_status(session, job_id)
        assert (status["statements"]["condition"], status["statements"]["lab"], status["held"]) == (1, 1, 1)
        assert session.query(Run.calibration).scalar() == "ab" * 8


def test_a_note_of_no_statement_holds_nothing(reader: Sampling, lexicon: Lexicon) -> None:
    blank = converter(reader, lexicon, calibration_of(reader)).convert(make_note(2, " \n\t\n"), source="test")
    assert blank.records == [] and not [issue for issue in blank.issues if "held" in issue.text]
