"""Bundles and documents for the national service: from stored notes, over HTTP, and as files."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from clins_cases import (
    ALBUMIN,
    DIABETES,
    EGG,
    HYPERTENSION,
    INSURANCE,
    NOW,
    PATIENT,
    PNEUMONIA,
    RECIPIENT,
    REFERRAL_TEXT,
    STAY,
    allergy,
    built,
    disease,
    note,
    of_type,
    referral_records,
    result,
)
from fastapi import FastAPI
from sample_conversion import SampleConversion, convert
from sign_in import headers
from sqlalchemy import func, select, update
from starlette.testclient import TestClient
from typer.testing import CliRunner

from app import jobs, running, submissions
from app.commands import export
from app.db import Database
from app.errors import InvalidInput, NotFound
from app.fhir import dumps, loads
from app.fhir.clins import ClinsType
from app.jobs import Policy
from app.submissions import Made
from app.web import outcome
from app.web.clins_api import clins_router
from app.web.fhir_rest import fhir_router
from models import ClinsBundle, ReleaseState, Resource
from schemas.issue import Severity
from schemas.job import JobState
from schemas.note import ChartNote, DocumentType
from schemas.record import Record
from schemas.statement import Assertion

Json = dict[str, Any]
TEXT = "2型糖尿病 2015。鶏卵アレルギー。ALB 3.9 g/dL"


def store(
    database: Database,
    of: ChartNote,
    *records: Record,
    release: bool = True,
    source: str = "emr",
    held: tuple[str, ...] = (),
) -> list[Json]:
    """Submits and converts a note, the model's part given; the resources. `held`: types in which a check found an error."""
    resources = built(of, *records)
    keys = frozenset((r["resourceType"], r["id"]) for r in resources if r["resourceType"] in held)

    def conversion(chart: ChartNote, source: str) -> SampleConversion:
        sample = convert(chart, source)
        return replace(sample, resources=resources, statements=[], messages=[], issues=[], held=keys)

    with database.session_scope() as session:
        submission = jobs.submit(session, of, source)
        if not submission.created:
            submission = jobs.resubmit(session, submission.note_id)
    assert (
        running.run(database, submission.job_id, conversion, worker="w", policy=Policy(release=release)) is JobState.DONE
    )
    return resources


def records(text: str = TEXT) -> list[Record]:
    return [
        disease(text, "2型糖尿病", DIABETES, onset="2015"),
        allergy(text, "鶏卵", EGG),
        result(text, "ALB", ALBUMIN, "3.9", "g/dL"),
    ]


def bundles(
    database: Database, type_: ClinsType = "Condition", *, drafts: bool = False, now: datetime = NOW, **rest: Any
) -> list[Made]:
    with database.session_scope() as session:
        return submissions.clins_bundles(session, "emr", PATIENT.id, type_, drafts=drafts, now=now, **rest)


def one(database: Database, type_: ClinsType = "Condition", **rest: Any) -> Made:
    (made,) = bundles(database, type_, **rest)
    return made


def contents(made: Made) -> list[Json]:
    assert made.bundle is not None
    return [entry["resource"] for entry in made.bundle["entry"][1:]]


def names(made: Made) -> list[str]:
    return [resource["code"]["text"] for resource in contents(made)]


# --- Bundles from the database -----------------------------------------------------------------------------------------


def test_the_first_bundle_is_recorded_under_its_key(fresh_database: Database) -> None:
    store(fresh_database, note(TEXT), *records())
    made = one(fresh_database)
    assert (made.version, made.new, made.drafts, made.left_out, made.issues) == (1, True, False, 0, [])
    assert names(made) == ["2型糖尿病"]
    with fresh_database.session_scope() as session:
        (kept,) = submissions.clins_history(session, "emr", PATIENT.id)
    assert (kept.insurance_id, kept.identifier, kept.version) == (INSURANCE, made.identifier, 1)
    assert made.identifier is not None and made.identifier.startswith("1311234567^2026^")
    assert dumps(kept.content) == dumps(made.bundle or {})


def test_the_same_content_is_handed_out_again_byte_for_byte(fresh_database: Database) -> None:
    store(fresh_database, note(TEXT), *records())
    for type_ in ("Condition", "AllergyIntolerance", "Observation"):
        first = one(fresh_database, type_)
        again = one(fresh_database, type_, now=NOW + timedelta(days=3))
        assert again.new is False and again.version == 1
        assert dumps(again.bundle or {}) == dumps(first.bundle or {})
    # A conversion at another hour changes instants only.
    store(fresh_database, note(TEXT), *records())
    assert one(fresh_database).new is False


def test_new_content_is_the_next_version_and_the_year_stays(fresh_database: Database) -> None:
    store(fresh_database, note(TEXT), *records())
    first = one(fresh_database)
    second_text = "高血圧症 2027-01"
    store(
        fresh_database,
        note(second_text, note_id="n-2", day=date(2027, 2, 1)),
        disease(second_text, "高血圧症", HYPERTENSION, onset="2027-01"),
    )
    second = one(fresh_database, now=datetime(2027, 2, 2, tzinfo=NOW.tzinfo))
    assert (second.version, second.new, second.identifier) == (2, True, first.identifier)
    assert names(second) == ["2型糖尿病", "高血圧症"]
    with fresh_database.session_scope() as session:
        history = submissions.clins_history(session, "emr", PATIENT.id, "Condition")
    assert [kept.version for kept in history] == [2, 1]


def test_the_year_of_a_first_version_is_that_of_japan(fresh_database: Database) -> None:
    store(fresh_database, note(TEXT), *records())
    made = one(fresh_database, now=datetime(2026, 12, 31, 16, tzinfo=NOW.tzinfo))
    assert made.identifier is not None and "^2027^" in made.identifier


def test_another_insurance_is_another_key(fresh_database: Database) -> None:
    store(fresh_database, note(TEXT), *records())
    assert one(fresh_database).version == 1
    moved = PATIENT.model_copy(update={"insurance_id": "06123456:12:34:01"})
    store(fresh_database, note(TEXT, note_id="n-2", patient=moved), *records())
    made = one(fresh_database)
    assert made.version == 1 and made.new
    with fresh_database.session_scope() as session:
        keys = {kept.insurance_id for kept in submissions.clins_history(session, "emr", PATIENT.id)}
    assert keys == {INSURANCE, "06123456:12:34:01"}


def test_drafts_stay_here_until_they_are_asked_for(fresh_database: Database) -> None:
    store(fresh_database, note(TEXT), *records(), release=False)
    made = one(fresh_database)
    assert made.bundle is None and made.waiting == made.left_out == 1
    assert [issue.text for issue in made.issues] == ["1 draft waits for review; drafts=true includes them"]
    drafted = one(fresh_database, drafts=True)
    assert drafted.drafts and drafted.version == 1
    # Accepted as it is: the same Bundle, which now holds no draft.
    with fresh_database.session_scope() as session:
        session.execute(update(Resource).where(Resource.type == "Condition").values(state=ReleaseState.FINAL))
    accepted = one(fresh_database)
    assert (accepted.new, accepted.version, accepted.drafts) == (False, 1, False)
    with fresh_database.session_scope() as session:
        assert [kept.drafts for kept in submissions.clins_history(session, "emr", PATIENT.id)] == [False]


def test_what_a_check_holds_is_sent_by_nobody(fresh_database: Database) -> None:
    store(fresh_database, note(TEXT), *records(), held=("Condition",))
    for drafts in (False, True):
        made = one(fresh_database, drafts=drafts)
        assert made.bundle is None and "a check found an error" in made.issues[0].text


def test_an_amended_resource_is_sent_as_amended(fresh_database: Database) -> None:
    resources = store(fresh_database, note(TEXT), *records())
    (condition,) = of_type(resources, "Condition")
    with fresh_database.session_scope() as session:
        row = session.get_one(Resource, ("Condition", condition["id"], 1))
        amended = {**row.content, "onsetDateTime": "2016"}
        values = {c.key: getattr(row, c.key) for c in Resource.__table__.columns if c.key != "created_at"}
        session.add(Resource(**{**values, "version": 2, "content": amended}))
    assert [r["onsetDateTime"] for r in contents(one(fresh_database))] == ["2016"]


def test_a_corrected_note_replaces_the_one_before(fresh_database: Database) -> None:
    store(fresh_database, note(TEXT), *records())
    other = "高血圧症 2020"
    store(fresh_database, note(other), disease(other, "高血圧症", HYPERTENSION, onset="2020"))
    assert names(one(fresh_database)) == ["高血圧症"]


def test_what_was_sent_and_is_denied_now_is_not_forgotten(fresh_database: Database) -> None:
    first, second = "肺炎 2026-03", "肺炎は否定"
    store(fresh_database, note(first), disease(first, "肺炎", PNEUMONIA, onset="2026-03"))
    sent = one(fresh_database)
    denied = disease(second, "肺炎", PNEUMONIA, assertion=Assertion.ABSENT)
    store(fresh_database, note(second, note_id="n-2", day=date(2026, 5, 2)), denied)
    made = one(fresh_database)
    assert made.bundle is None
    assert [issue.severity for issue in made.issues] == [Severity.INFORMATION, Severity.WARNING, Severity.WARNING]
    assert sent.identifier is not None and sent.identifier in made.issues[2].text and "deleted" in made.issues[2].text


def test_a_patient_without_insurance_id_is_sent_nowhere(fresh_database: Database) -> None:
    unknown = PATIENT.model_copy(update={"insurance_id": None})
    store(fresh_database, note(TEXT, patient=unknown), *records())
    made = one(fresh_database)
    assert made.bundle is None and "insurance id" in made.issues[0].text and made.issues[0].severity == Severity.ERROR


def test_a_note_that_leaves_out_the_address_does_not_undo_the_one_that_states_it(fresh_database: Database) -> None:
    store(fresh_database, note(TEXT), *records())
    store(fresh_database, note(TEXT, note_id="n-2", patient=PATIENT.model_copy(update={"address": None})), *records())
    assert one(fresh_database).bundle is not None


def test_every_note_with_results_is_a_report_of_its_own(fresh_database: Database) -> None:
    ids = {}
    for number in (1, 2):
        of = note(TEXT, note_id=f"n-{number}", day=date(2026, 4, number))
        ids[number] = of_type(store(fresh_database, of, *records()), "DocumentReference")[0]["id"]
    made = bundles(fresh_database, "Observation")
    assert [(m.document, m.day) for m in made] == [(ids[2], date(2026, 4, 2)), (ids[1], date(2026, 4, 1))]
    assert made[0].identifier != made[1].identifier
    (chosen,) = bundles(fresh_database, "Observation", document=ids[1])
    assert (chosen.identifier, chosen.new) == (made[1].identifier, False)
    with pytest.raises(NotFound):
        bundles(fresh_database, "Observation", document="nothing")
    with pytest.raises(InvalidInput):
        bundles(fresh_database, "Condition", document=ids[1])


def test_nothing_said_is_nothing_made(fresh_database: Database) -> None:
    store(fresh_database, note(TEXT), records()[0])
    assert bundles(fresh_database, "AllergyIntolerance") == [] and bundles(fresh_database, "Observation") == []
    with fresh_database.session_scope() as session:
        assert submissions.clins_bundles(session, "emr", "nobody", "Condition", drafts=True, now=NOW) == []


def test_two_at_once_record_one_version(fresh_database: Database) -> None:
    store(fresh_database, note(TEXT), *records())
    found: list[Made] = []
    barrier = threading.Barrier(4)

    def make() -> None:
        barrier.wait()
        found.append(one(fresh_database))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(made.new for made in found) == [False, False, False, True]
    assert len({dumps(made.bundle or {}) for made in found}) == 1
    with fresh_database.session_scope() as session:
        assert session.scalar(select(func.count()).select_from(ClinsBundle)) == 1


# --- over HTTP ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def client(fresh_database: Database) -> Iterator[TestClient]:
    app = FastAPI()
    app.include_router(clins_router(fresh_database))
    app.include_router(fhir_router(fresh_database, lambda: None))
    outcome.install(app)
    app.state.database = fresh_database
    with TestClient(app, raise_server_exceptions=False, headers=headers(fresh_database)) as made:
        yield made


def patient_of(resources: list[Json]) -> str:
    return str(of_type(resources, "Patient")[0]["id"])


def document_of(resources: list[Json]) -> str:
    return str(of_type(resources, "DocumentReference")[0]["id"])


def test_a_bundle_is_fetched_by_patient_and_type(fresh_database: Database, client: TestClient) -> None:
    text = "2型糖尿病 2015、左膝痛"
    resources = store(
        fresh_database, note(text), disease(text, "2型糖尿病", DIABETES, onset="2015"), disease(text, "左膝痛")
    )
    url = f"/fhir/Patient/{patient_of(resources)}/$clins-bundle?type=Condition"
    answer = client.get(url)
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/fhir+json"
    assert answer.headers["Hyojun-Left-Out"] == "1" and answer.headers["etag"] == 'W/"1"'
    assert [e["resource"]["resourceType"] for e in loads(answer.content)["entry"]] == ["Patient", "Condition"]
    assert client.get(url).content == answer.content
    report = client.get(f"{url}&report=true")
    assert report.status_code == 200 and report.json()["resourceType"] == "OperationOutcome"
    (issue,) = report.json()["issue"]
    assert issue["diagnostics"].endswith("is not sent: onsetDateTime is missing")
    assert "膝" not in report.text and PATIENT.family not in report.text


def test_drafts_are_named_and_given_on_demand(fresh_database: Database, client: TestClient) -> None:
    resources = store(fresh_database, note(TEXT), *records(), release=False)
    url = f"/fhir/Patient/{patient_of(resources)}/$clins-bundle?type=Condition"
    answer = client.get(url)
    assert answer.status_code == 422
    assert answer.json()["issue"][0]["diagnostics"] == "1 draft waits for review; drafts=true includes them"
    given = client.get(f"{url}&drafts=true")
    assert given.json()["type"] == "collection" and given.headers["Hyojun-Drafts"] == "true"


def test_the_newest_report_is_given_with_links_to_the_others(fresh_database: Database, client: TestClient) -> None:
    made = [store(fresh_database, note(TEXT, note_id=f"n-{n}", day=date(2026, 4, n)), *records()) for n in (1, 2, 3)]
    url = f"/fhir/Patient/{patient_of(made[0])}/$clins-bundle?type=Observation"
    newest = client.get(url)
    assert newest.status_code == 200
    targets = [part.split(">")[0][1:] for part in newest.headers["link"].split(", ")]
    assert [target.rsplit("document=", 1)[1] for target in targets] == [document_of(made[1]), document_of(made[0])]
    other = client.get(targets[1])
    assert other.status_code == 200 and other.json()["identifier"] != newest.json()["identifier"]
    assert client.get(f"{url}&document={document_of(made[2])}").content == newest.content
    with fresh_database.session_scope() as session:  # only what was handed out is recorded
        assert len(submissions.clins_history(session, "emr", PATIENT.id)) == 2


@pytest.mark.parametrize(
    ("query", "status"),
    [("", 400), ("?type=Patient", 400), ("?type=condition", 400), ("?type=Condition&document=x", 422),
     ("?type=Observation&document=x", 404), ("?type=AllergyIntolerance", 404), ("?type=Condition&drafts=perhaps", 422)],
)  # fmt: skip
def test_refusals_are_operation_outcomes(fresh_database: Database, client: TestClient, query: str, status: int) -> None:
    resources = store(fresh_database, note(TEXT), records()[0], records()[2])
    answer = client.get(f"/fhir/Patient/{patient_of(resources)}/$clins-bundle{query}")
    assert answer.status_code == status
    assert answer.json()["resourceType"] == "OperationOutcome" and answer.json()["issue"][0]["diagnostics"]


def test_an_unknown_patient_is_not_found(client: TestClient) -> None:
    answer = client.get("/fhir/Patient/nobody/$clins-bundle?type=Condition")
    assert answer.status_code == 404 and answer.json()["resourceType"] == "OperationOutcome"


def test_two_systems_that_know_the_patient_are_told_apart(fresh_database: Database, client: TestClient) -> None:
    resources = store(fresh_database, note(TEXT), *records())
    store(fresh_database, note(TEXT, note_id="n-2"), *records(), source="lab")
    url = f"/fhir/Patient/{patient_of(resources)}/$clins-bundle?type=Condition"
    refused = client.get(url)
    assert refused.status_code == 422 and "emr, lab" in refused.json()["issue"][0]["diagnostics"]
    first, second = (client.get(f"{url}&source={source}") for source in ("emr", "lab"))
    assert first.status_code == second.status_code == 200
    assert first.json()["identifier"] != second.json()["identifier"]
    assert client.get(f"{url}&source=other").status_code == 404


def test_the_document_of_a_referral_is_fetched(fresh_database: Database, client: TestClient) -> None:
    of = note(REFERRAL_TEXT, document_type=DocumentType.REFERRAL, recipient=RECIPIENT)
    resources = store(fresh_database, of, *referral_records())
    url = f"/fhir/DocumentReference/{document_of(resources)}/$document"
    answer = client.get(url)
    assert answer.status_code == 200 and answer.json()["type"] == "document"
    assert client.get(url).content == answer.content
    assert client.get(f"{url}?report=true").json()["issue"] == [
        {"severity": "information", "code": "informational", "diagnostics": "nothing is left out"}
    ]


def test_a_document_of_drafts_is_for_who_asks_for_it(fresh_database: Database, client: TestClient) -> None:
    of = note(REFERRAL_TEXT, document_type=DocumentType.DISCHARGE, encounter=STAY)
    resources = store(fresh_database, of, *referral_records(), release=False)
    url = f"/fhir/DocumentReference/{document_of(resources)}/$document"
    refused = client.get(url)
    assert refused.status_code == 422
    assert [issue["diagnostics"] for issue in refused.json()["issue"]] == [
        "missing: Condition: no present disease for 退院時診断 (section 344)",
        "9 drafts wait for review; drafts=true includes them",
    ]
    drafted = client.get(f"{url}?drafts=true")
    assert drafted.status_code == 200 and drafted.headers["Hyojun-Drafts"] == "true"


def test_documents_that_cannot_be(fresh_database: Database, client: TestClient) -> None:
    resources = store(fresh_database, note(TEXT), *records())
    progress = client.get(f"/fhir/DocumentReference/{document_of(resources)}/$document")
    assert progress.status_code == 422 and "progress" in progress.json()["issue"][0]["diagnostics"]
    unknown = client.get("/fhir/DocumentReference/nothing/$document")
    assert unknown.status_code == 404 and unknown.json()["resourceType"] == "OperationOutcome"


# --- as files ----------------------------------------------------------------------------------------------------------


def run(database: Database, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    monkeypatch.setenv("DATABASE_URL", database.url)
    return CliRunner().invoke(export.app, list(arguments))


def test_bundles_are_written_as_files(
    fresh_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(fresh_database, note(TEXT), *records())
    result = run(fresh_database, monkeypatch, "clins", "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    files = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert len(files) == 3
    kinds = {loads(content)["meta"]["tag"][0]["code"] for content in files.values()}
    assert kinds == {"Condition", "AllergyIntolerance", "Observation"}
    for name, content in files.items():
        assert name == loads(content)["identifier"]["value"].replace("^", "_") + ".json"
    again = run(fresh_database, monkeypatch, "clins", "--out", str(tmp_path / "out"), "--type", "Condition")
    assert again.exit_code == 0 and again.output.splitlines()[1].split() == ["Condition", "0", "1", "0", "0", "0"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == files


def test_what_cannot_be_made_ends_in_status_one(
    fresh_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(fresh_database, note(TEXT, patient=PATIENT.model_copy(update={"insurance_id": None})), *records())
    result = run(fresh_database, monkeypatch, "clins", "--out", str(tmp_path), "--patient", PATIENT.id)
    assert result.exit_code == 1 and list(tmp_path.iterdir()) == []
    assert "insurance id" in result.output and PATIENT.family not in result.output


def test_what_waits_for_review_is_no_failure(
    fresh_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(fresh_database, note(TEXT), *records(), release=False)
    result = run(fresh_database, monkeypatch, "clins", "--out", str(tmp_path), "--type", "Condition")
    assert result.exit_code == 0 and list(tmp_path.iterdir()) == []
    assert result.output.splitlines()[1].split() == ["Condition", "0", "0", "1", "1", "0"]
    drafted = run(fresh_database, monkeypatch, "clins", "--out", str(tmp_path), "--type", "Condition", "--drafts")
    assert drafted.exit_code == 0 and len(list(tmp_path.iterdir())) == 1
    # A version with drafts was not for the service, so nothing there can be out of date.
    again = run(fresh_database, monkeypatch, "clins", "--out", str(tmp_path), "--type", "Condition")
    assert again.exit_code == 0 and again.output.splitlines()[1].split() == ["Condition", "0", "0", "1", "1", "0"]


def test_a_document_waits_until_all_of_it_is_released(
    fresh_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = note(REFERRAL_TEXT, document_type=DocumentType.REFERRAL, recipient=RECIPIENT)
    store(fresh_database, of, *referral_records(), release=False)
    result = run(fresh_database, monkeypatch, "documents", "--out", str(tmp_path))
    assert result.exit_code == 0 and list(tmp_path.iterdir()) == []
    assert result.output.splitlines()[1].split() == ["document", "0", "0", "0", "1", "0"]
    drafted = run(fresh_database, monkeypatch, "documents", "--out", str(tmp_path), "--drafts")
    assert drafted.exit_code == 0 and len(list(tmp_path.iterdir())) == 1


def test_a_bundle_that_was_handed_out_released_stays_known_as_such(
    fresh_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same content handed out as a draft afterwards does not hide that the service may hold it."""
    store(fresh_database, note(TEXT), *records())
    run(fresh_database, monkeypatch, "clins", "--out", str(tmp_path), "--type", "Condition")
    store(fresh_database, note(TEXT), *records(), release=False)
    run(fresh_database, monkeypatch, "clins", "--out", str(tmp_path), "--type", "Condition", "--drafts")
    result = run(fresh_database, monkeypatch, "clins", "--out", str(tmp_path), "--type", "Condition")
    assert result.exit_code == 1 and "was handed out before" in result.output


def test_reasons_are_the_serious_ones_and_not_without_end(
    fresh_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "MAX_REASONS", 2)
    without = PATIENT.model_copy(update={"insurance_id": None})
    store(fresh_database, note(TEXT, patient=without), *records())
    result = run(fresh_database, monkeypatch, "clins", "--out", str(tmp_path))
    assert result.exit_code == 1 and result.output.count("error missing: Patient/") == 2
    assert "and 1 more" in result.output and "information" not in result.output


def test_unknown_types_and_patients_are_refused(
    fresh_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(fresh_database, monkeypatch, "clins", "--out", str(tmp_path), "--type", "Patient").exit_code == 2
    lost = run(fresh_database, monkeypatch, "clins", "--out", str(tmp_path), "--patient", "X")
    assert isinstance(lost.exception, InvalidInput)


def test_documents_are_written_as_files(
    fresh_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = note(REFERRAL_TEXT, document_type=DocumentType.REFERRAL, recipient=RECIPIENT)
    store(fresh_database, of, *referral_records())
    result = run(fresh_database, monkeypatch, "documents", "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    (path,) = tmp_path.iterdir()
    assert json.loads(path.read_text())["type"] == "document"
    store(fresh_database, note(REFERRAL_TEXT, note_id="n-9", document_type=DocumentType.REFERRAL), *referral_records())
    both = run(fresh_database, monkeypatch, "documents", "--out", str(tmp_path))
    assert both.exit_code == 1 and "note n-9: error missing: section 910" in both.output
    chosen = run(fresh_database, monkeypatch, "documents", "--out", str(tmp_path), "--note", "n-1")
    assert chosen.exit_code == 0 and chosen.output.splitlines()[1].split() == ["document", "0", "1", "0", "0", "0"]
    lost = run(fresh_database, monkeypatch, "documents", "--out", str(tmp_path), "--note", "n-404")
    assert isinstance(lost.exception, InvalidInput)
