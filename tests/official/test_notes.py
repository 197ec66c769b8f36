"""Everything that conversions write, by the publishers' own definitions: notes through the shipped model, with the
packages imported. No error, no resource held back, in the Bundles of the notes, those for the service, and documents."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from agreement import differences
from published import CHECKOUT, STANDARDS

from app import fhir
from app.errors import InvalidInput
from app.fhir.clins import CLINS_TYPES, clins_bundle
from app.fhir.documents import FORMS, document
from app.intake import note_from
from app.pipeline import Conversion, Converter
from app.settings import Settings
from app.terminology.entries import starter_entries, starter_version
from app.terminology.matching import Lexicon
from schemas.issue import Issue, Severity
from schemas.note import ChartNote, DocumentType, Encounter, EncounterClass, Practitioner, Recipient

WEIGHTS = CHECKOUT / "weights" / "hyojun-uc1.gguf"
DEVELOPMENT = STANDARDS.parent / "eval" / "dev" / "notes.jsonl"
NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
NUMBER = "1310000001"


@pytest.fixture(scope="module")
def convert(imported: tuple[Path, fhir.ImportReport]) -> Callable[..., Conversion]:
    lexicon = Lexicon(starter_entries(), starter_version())
    settings = {"model_path": WEIGHTS, "model_threads": 1, "profiles_path": imported[0]}
    known = Settings(**settings, institution_number=NUMBER, facility_name="架空総合病院", facility_address="架空県1-1")
    full = Converter.load(known, lexicon)
    bare = Converter(full.reader, lexicon, Settings(**settings), full.profiles)

    def run(note: ChartNote, *, facility: bool = True) -> Conversion:
        return (full if facility else bare).convert(note, source="official")

    return run


def errors(issues: list[Issue]) -> list[str]:
    return [issue.text for issue in issues if issue.severity in (Severity.ERROR, Severity.FATAL)]


def samples() -> list[ChartNote]:
    files = sorted((CHECKOUT / "samples").glob("*.json"))
    return [note_from(json.loads(file.read_text(encoding="utf-8"))) for file in files]


def development() -> Iterator[ChartNote]:
    """Development notes carry no more than a patient's number, name, sex and birth date; here half of them get the rest."""
    lines = DEVELOPMENT.read_text(encoding="utf-8").splitlines() if DEVELOPMENT.is_file() else []
    for number, line in enumerate(lines):
        note = note_from(json.loads(line))
        if number % 2:
            stay = note.document_type in (DocumentType.DISCHARGE, DocumentType.ADMISSION)
            patient = note.patient.model_copy(
                update={"address": "架空県見本市1-1", "insurance_id": f"0613{number:04}:見本:{number}:01"}
            )
            kind = EncounterClass.INPATIENT if stay else EncounterClass.AMBULATORY
            note = note.model_copy(
                update={
                    "patient": patient,
                    "encounter": Encounter(id=f"E{number}", encounter_class=kind, start=note.date, end=note.date),
                    "physician": Practitioner(id="D1", family="医師", given="一郎"),
                    "recipient": Recipient(name="架空診療所", number="1310000019"),
                }
            )
        yield note


def judge(conversion: Conversion, check: Callable[[dict[str, Any]], list[Issue]]) -> None:
    assert errors(conversion.issues) == []
    assert not conversion.held
    assert errors(check(conversion.bundle)) == []


@pytest.mark.parametrize("note", samples(), ids=lambda note: note.id)
def test_a_sample_obeys_the_profiles_in_every_form(note: ChartNote, convert: Any, profiles: Any, lab: Any) -> None:
    conversion = convert(note)

    def check(bundle: dict[str, Any]) -> list[Issue]:
        return fhir.check(bundle, profiles=profiles, lab=lab)

    judge(conversion, check)
    # A denied disease never claims JP_Condition_eCS, which does not use its clinicalStatus.
    stated = [r for r in conversion.resources if "profile" in r["meta"] and '"refuted"' not in fhir.dumps(r)]
    claimed = {r["meta"]["profile"][0].rsplit("/", 1)[-1] for r in stated}
    complete = note.patient.insurance_id is not None
    if any(r["resourceType"] == "Condition" for r in stated):
        assert ("JP_Condition_eCS" in claimed) == complete and ("JP_Condition" in claimed) != complete

    for type_ in CLINS_TYPES:
        patient = conversion.resources[0]
        value = f"{NUMBER}^2026^{note.id}"
        bundle, left = clins_bundle(type_, patient, conversion.resources, identifier_value=value, timestamp=NOW)
        assert bundle is not None or left
        if bundle is not None:
            assert complete and errors(check(bundle)) == []
    if note.document_type in FORMS:
        made, missing = document(note, conversion.resources, timestamp=NOW)
        assert made is not None, errors(missing)
        assert errors(check(made)) == []


def test_without_a_facility_nothing_claims_jp_clins_and_nothing_is_wrong(convert: Any, profiles: Any, lab: Any) -> None:
    conversion = convert(samples()[0], facility=False)
    judge(conversion, lambda bundle: fhir.check(bundle, profiles=profiles, lab=lab))
    types = {"Condition", "AllergyIntolerance", "Observation", "MedicationRequest", "Patient"}
    claims = [r["meta"]["profile"] for r in conversion.resources if r["resourceType"] in types]
    assert claims and all("/core/" in profile for [profile] in claims)
    with pytest.raises(InvalidInput):
        clins_bundle("Condition", conversion.resources[0], conversion.resources, identifier_value="", timestamp=NOW)


@pytest.mark.slow
@pytest.mark.parametrize("note", list(development()), ids=lambda note: note.id)
def test_a_development_note_obeys_the_profiles_and_ssmix2_says_the_same(note: ChartNote, convert: Any) -> None:
    conversion = convert(note)
    # The conversion has checked its own Bundle by the same profiles.
    assert errors(conversion.issues) == [] and not conversion.held
    assert differences(conversion.resources, conversion.messages) == []
