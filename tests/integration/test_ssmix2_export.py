"""SS-MIX2 storages and zips made from the database: whole snapshots of a patient, repeatable, resumable, nothing of what is
held back."""

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID
from xml.etree import ElementTree

import pytest
from clins_cases import ALBUMIN, DIABETES, EGG, HYPERTENSION, PATIENT, PNEUMONIA, allergy, built, disease, result
from clins_cases import note as clins_note
from sample_conversion import SampleConversion, convert
from sign_in import headers
from sqlalchemy import update
from starlette.testclient import TestClient
from typer.testing import CliRunner

from app import jobs, patients, running, ssmix2
from app.commands import export
from app.db import Database
from app.errors import InvalidInput
from app.jobs import Policy
from app.main import create_app
from app.settings import Settings
from app.ssmix2 import Facility, decode, index, parse
from app.ssmix2.hl7 import Segment
from app.storage_export import Storages
from models import NoteStatement
from schemas.issue import Issue, IssueType, Severity
from schemas.job import JobState
from schemas.note import ChartNote, DocumentType
from schemas.record import Record

ROOT = Path(__file__).parents[2]
TEXT = "2型糖尿病 2015。鶏卵アレルギー。ALB 3.9 g/dL"
TEXT2 = "高血圧症。肺炎 2020。"
ME = PATIENT.model_copy(update={"id": "P001234"})
FACILITY = Facility("見本病院", institution_number="1311234567")
WIDE = ["ADT-00", "ADT-61", "PPR-01"]


def note(text: str = TEXT, **more: Any) -> ChartNote:
    return clins_note(text, **{"patient": ME, "encounter": None} | more)


def records(text: str = TEXT) -> list[Record]:
    return [
        disease(text, "2型糖尿病", DIABETES, onset="2015"),
        allergy(text, "鶏卵", EGG),
        result(text, "ALB", ALBUMIN, "3.9", "g/dL"),
    ]


def store(database: Database, of: ChartNote, *found: Record, source: str = "emr", held: tuple[str, ...] = ()) -> UUID:
    """Submits and converts a note, the model's part given; its id. `held`: types in which a check found an error."""
    resources = built(of, *found)
    keys = frozenset((r["resourceType"], r["id"]) for r in resources if r["resourceType"] in held)

    def conversion(chart: ChartNote, source: str) -> SampleConversion:
        sent_at = datetime.now(UTC)
        sender = replace(FACILITY, department_code="01", department_name=chart.department)
        messages, _ = ssmix2.messages(chart, found, facility=sender, sent_at=sent_at, source=source)
        return replace(
            convert(chart, source), resources=resources, statements=[record.statement for record in found],
            records=list(found), messages=messages, issues=[], held=keys,
        )  # fmt: skip

    with database.session_scope() as session:
        submission = jobs.submit(session, of, source)
        if not submission.created:
            submission = jobs.resubmit(session, submission.note_id)
    assert running.run(database, submission.job_id, conversion, worker="w", policy=Policy()) is JobState.DONE
    return submission.note_id


@pytest.fixture
def client(fresh_database: Database) -> Iterator[TestClient]:
    settings = Settings(
        database_url=fresh_database.url, facility_name="見本病院", institution_number="1311234567", _env_file=None
    )
    app = create_app(settings, fresh_database)
    with TestClient(app, raise_server_exceptions=False, headers=headers(fresh_database)) as client:
        yield client


def run(database: Database, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    monkeypatch.setenv("DATABASE_URL", database.url)
    monkeypatch.setenv("FACILITY_NAME", "見本病院")
    monkeypatch.setenv("INSTITUTION_NUMBER", "1311234567")
    return CliRunner().invoke(export.app, ["ssmix2", *arguments])


def counts(output: str) -> dict[str, list[int]]:
    """written, unchanged, deleted, refused of each kind in the table."""
    rows = [line.split() for line in output.splitlines() if re.search(r"^\s*\S+( +\d+){4}\s*$", line)]
    return {row[0]: list(map(int, row[1:])) for row in rows}


def files(folder: Path) -> dict[str, bytes]:
    """Everything in the roots of the storages, by path."""
    roots = [folder / "ssmix2", folder / "ssmix2-extended"]
    return {str(p.relative_to(folder)): p.read_bytes() for root in roots for p in root.rglob("*") if p.is_file()}


def unzipped(answer: Any) -> dict[str, bytes]:
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/zip", answer.text
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert len(set(archive.namelist())) == len(archive.namelist())
    return {name: archive.read(name) for name in archive.namelist()}


def message_of(found: dict[str, bytes], kind: str, flag: str = "1") -> list[Segment]:
    (data,) = [data for name, data in found.items() if f"_{kind}_" in name and name.endswith(f"_{flag}")]
    return parse(decode(data))


def diseases(found: dict[str, bytes], flag: str = "1") -> list[str]:
    return [line.get(3, 2) for line in message_of(found, "PPR-01", flag) if line.name == "PRB"]


def kinds(found: dict[str, bytes], flag: str = "1") -> list[str]:
    return sorted(name.split("_")[2] for name in found if name.endswith(f"_{flag}"))


# --- snapshots ---------------------------------------------------------------------------------------------------------


def test_the_snapshots_hold_all_notes_of_the_patient(fresh_database: Database, client: TestClient) -> None:
    first = store(fresh_database, note(), *records())
    second = store(
        fresh_database,
        note(TEXT2, note_id="n-2", day=date(2026, 5, 2)),
        disease(TEXT2, "高血圧症", HYPERTENSION),
        disease(TEXT2, "肺炎", PNEUMONIA, onset="2020"),
    )
    whole = unzipped(client.get(f"/api/patients/{ME.id}/ssmix2.zip"))
    assert kinds(whole) == [*WIDE[:2], "OML-11", "PPR-01"]
    assert sorted(diseases(whole)) == sorted(["２型糖尿病", "肺炎", "高血圧症"])
    assert [line.get(3, 2) for line in message_of(whole, "ADT-61") if line.name == "IAM"] == ["鶏卵"]
    # A note's own zip: its own files, and the same snapshots.
    of_first, of_second = (unzipped(client.get(f"/api/notes/{one}/ssmix2")) for one in (first, second))
    assert of_first == whole
    assert of_second == {name: data for name, data in whole.items() if "_OML-11_" not in name}
    assert unzipped(client.get(f"/api/patients/{ME.id}/ssmix2.zip")) == whole


def test_notes_converted_at_once_do_not_lose_each_other(fresh_database: Database, client: TestClient) -> None:
    """Both conversions begin before either is stored, so neither knows of the other."""
    texts = [f"肺炎 {2000 + n}。" for n in range(6)]
    names = [f"架空病{n}" for n in range(6)]
    barrier = threading.Barrier(len(texts))

    def one(n: int) -> None:
        of = note(f"{names[n]}。{texts[n]}", note_id=f"n-{n}", day=date(2026, 5, 1) + timedelta(days=n))
        barrier.wait()
        store(fresh_database, of, disease(of.text, names[n]))

    threads = [threading.Thread(target=one, args=(n,)) for n in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = unzipped(client.get(f"/api/patients/{ME.id}/ssmix2.zip"))
    from app.ssmix2 import fold

    assert sorted(diseases(whole)) == sorted(fold(name)[0] for name in names)


def test_the_newest_job_of_the_newest_note_counts(fresh_database: Database, client: TestClient) -> None:
    of = note()
    store(fresh_database, of, *records())
    store(fresh_database, of, disease(TEXT, "2型糖尿病", DIABETES))  # converted again: no allergy, no result
    whole = unzipped(client.get(f"/api/patients/{ME.id}/ssmix2.zip"))
    assert kinds(whole) == ["ADT-00", "PPR-01"]
    corrected = note(TEXT2)  # the same id, another text
    store(fresh_database, corrected, disease(TEXT2, "高血圧症", HYPERTENSION))
    assert diseases(unzipped(client.get(f"/api/patients/{ME.id}/ssmix2.zip"))) == ["高血圧症"]


@pytest.mark.parametrize(
    ("held", "lost"), [("Condition", "PPR-01"), ("AllergyIntolerance", "ADT-61"), ("Observation", "OML-11")]
)
def test_what_is_held_back_goes_nowhere(fresh_database: Database, client: TestClient, held: str, lost: str) -> None:
    one = store(fresh_database, note(), *records(), held=(held,))
    for url in (f"/api/patients/{ME.id}/ssmix2.zip", f"/api/notes/{one}/ssmix2"):
        assert kinds(unzipped(client.get(url))) == sorted({"ADT-00", "ADT-61", "OML-11", "PPR-01"} - {lost})


def test_two_notes_about_one_visit_have_one_file(fresh_database: Database, client: TestClient) -> None:
    for n in (1, 2):
        store(fresh_database, clins_note(TEXT, patient=ME, note_id=f"n-{n}"), *records())
    assert kinds(unzipped(client.get(f"/api/patients/{ME.id}/ssmix2.zip"))).count("ADT-12") == 1


def test_refusals_of_the_api(fresh_database: Database, client: TestClient) -> None:
    assert client.get("/api/patients/nobody/ssmix2.zip").status_code == 404
    with fresh_database.session_scope() as session:
        waiting = jobs.submit(session, note(note_id="n-9"), "emr").note_id
    assert client.get(f"/api/notes/{waiting}/ssmix2").status_code == 409
    assert client.get(f"/api/patients/{ME.id}/ssmix2.zip").status_code == 404
    store(fresh_database, note(), *records())
    store(fresh_database, note(note_id="n-2"), *records(), source="lab")
    refused = client.get(f"/api/patients/{ME.id}/ssmix2.zip")
    assert refused.status_code == 422 and "emr, lab" in refused.text
    assert client.get(f"/api/patients/{ME.id}/ssmix2.zip?source=lab").status_code == 200
    assert client.get(f"/api/patients/{ME.id}/ssmix2.zip?source=other").status_code == 404
    store(fresh_database, note(patient=PATIENT, note_id="n-3"), *records())
    short = client.get(f"/api/patients/{PATIENT.id}/ssmix2.zip")
    assert short.status_code == 422 and "7 to 15" in short.text


def test_a_note_of_an_earlier_version_asks_to_be_converted_again(fresh_database: Database, client: TestClient) -> None:
    store(fresh_database, note(), *records())
    with fresh_database.session_scope() as session:
        session.execute(update(NoteStatement).values(record=None))
    refused = client.get(f"/api/patients/{ME.id}/ssmix2.zip")
    assert refused.status_code == 409 and "n-1 was converted by an earlier version" in refused.text


def test_a_stored_record_is_the_record(fresh_database: Database) -> None:
    found = records()
    store(fresh_database, note(), *found)
    with fresh_database.session_scope() as session:
        (one,) = patients.patient_files(session, "emr", ME.id, FACILITY).notes
    assert one.records == found


# --- hyojun export ssmix2 ------------------------------------------------------------------------------------------------


def test_the_storages_of_a_folder(fresh_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(fresh_database, note(document_type=DocumentType.DISCHARGE), *records())
    done = run(fresh_database, monkeypatch, str(tmp_path))
    assert done.exit_code == 0, done.output
    assert counts(done.output) == {
        "ADT-00": [1, 0, 0, 0], "ADT-12": [0, 0, 0, 0], "ADT-61": [1, 0, 0, 0], "PPR-01": [1, 0, 0, 0],
        "OMP-01": [0, 0, 0, 0], "OML-11": [1, 0, 0, 0], "document": [1, 0, 0, 0],
    }  # fmt: skip
    written = files(tmp_path)
    folders = {str(Path(name).parent) for name in written}
    assert {"ssmix2/P00/123/P001234/-/PPR-01", "ssmix2/P00/123/P001234/20260501/OML-11"} <= folders
    (document,) = [name for name in written if name.endswith("/document.xml")]
    assert document.startswith(
        "ssmix2-extended/P00/123/P001234/20260501/^退院時サマリー^^18842-5^退院時サマリー^LN/P001234_20260501_18842-5_"
    )
    tree = ElementTree.fromstring(written[document])
    assert "".join(tree.find(".//{*}section/{*}text").itertext()) == TEXT  # type: ignore[union-attr]
    assert tree.find(".//{*}assignedPerson/{*}name/{*}family").text == "佐藤"  # type: ignore[union-attr]
    assert len(index.read(tmp_path / "ssmix2-index.sqlite")) == 5
    assert TEXT not in done.output and ME.family not in done.output


def test_a_repeated_run_writes_nothing(
    fresh_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(3):
        of = note(note_id=f"n-{n}", patient=ME.model_copy(update={"id": f"P00123{n}"}))
        store(fresh_database, of, *records())
    assert run(fresh_database, monkeypatch, str(tmp_path)).exit_code == 0
    before = {
        str(p): (p.stat().st_mtime_ns, p.stat().st_ino)
        for p in tmp_path.rglob("*")
        if p.is_file() and p.suffix != ".lock"
    }
    again = run(fresh_database, monkeypatch, str(tmp_path))
    assert again.exit_code == 0
    assert {kind: row[:1] + row[2:] for kind, row in counts(again.output).items() if any(row[:1] + row[2:])} == {}
    assert counts(again.output)["PPR-01"][1] == 3
    after = {
        str(p): (p.stat().st_mtime_ns, p.stat().st_ino)
        for p in tmp_path.rglob("*")
        if p.is_file() and p.suffix != ".lock"
    }
    assert after == before


def test_what_cannot_be_made_is_not_taken_back(
    fresh_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(fresh_database, note(), *records())
    run(fresh_database, monkeypatch, str(tmp_path))
    before = files(tmp_path)
    wrong = Issue(severity=Severity.ERROR, code=IssueType.INVALID, text="SS-MIX2: PRB-4 is too long")
    monkeypatch.setattr("app.ssmix2.patient_snapshot", lambda *args, **more: ([], [wrong]))
    done = run(fresh_database, monkeypatch, str(tmp_path))
    assert done.exit_code == 1 and "patient P001234: message: SS-MIX2: PRB-4 is too long" in done.output
    assert files(tmp_path) == before


def test_changes_and_what_is_taken_back(
    fresh_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(fresh_database, note(), *records())
    run(fresh_database, monkeypatch, str(tmp_path))
    # Corrected: another day and text, no allergy and no result any more.
    store(fresh_database, note(TEXT2, day=date(2026, 5, 3)), disease(TEXT2, "高血圧症", HYPERTENSION))
    done = run(fresh_database, monkeypatch, str(tmp_path))
    assert done.exit_code == 0, done.output
    found = counts(done.output)
    assert (found["PPR-01"], found["ADT-61"], found["OML-11"]) == ([1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0])
    assert found["document"] == [1, 0, 1, 0]
    messages = {name: data for name, data in files(tmp_path).items() if name.startswith("ssmix2/")}
    assert (
        kinds(messages) == ["ADT-00", "PPR-01"]
        and diseases(messages) == ["高血圧症"]
        and diseases(messages, "2") == ["２型糖尿病"]
    )
    cancels = [parse(decode(data)) for name, data in messages.items() if "_ADT-61_" in name]
    assert sorted(line.get(6) for segments in cancels for line in segments if line.name == "IAM") == ["A", "D"]
    flags = sorted(name.split("/")[-2][-1] for name in files(tmp_path) if name.startswith("ssmix2-extended"))
    assert flags == ["0", "1"]
    rest = run(fresh_database, monkeypatch, str(tmp_path))
    assert not any(row[0] or row[2] for row in counts(rest.output).values())


def test_files_of_others_stay(fresh_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(fresh_database, note(), *records())
    foreign = ssmix2.messages(
        note(note_id="other"), records(), facility=FACILITY, sent_at=datetime.now(UTC), source="x"
    )[0]
    (kept,) = [message for message in foreign if message.kind == "OML-11"]
    path = ssmix2.write(tmp_path / "ssmix2", kept, datetime.now(UTC))
    run(fresh_database, monkeypatch, str(tmp_path))
    store(fresh_database, note(), disease(TEXT, "2型糖尿病", DIABETES))
    run(fresh_database, monkeypatch, str(tmp_path))
    assert path.exists()


def test_refusals_are_named_and_end_in_status_one(
    fresh_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(fresh_database, note(), *records())
    store(fresh_database, note(patient=PATIENT, note_id="n-2"), *records())  # an id of five characters
    done = run(fresh_database, monkeypatch, str(tmp_path))
    assert done.exit_code == 1
    assert re.search(r"^patient P0012: ADT-00.*document: file name: patient id of 7 to 15", done.output, re.MULTILINE)
    assert counts(done.output)["PPR-01"] == [1, 0, 0, 1]
    assert all("P001234" in name for name in files(tmp_path))


def test_one_id_of_two_systems(fresh_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(fresh_database, note(), *records())
    store(fresh_database, note(TEXT2, note_id="n-2"), disease(TEXT2, "高血圧症", HYPERTENSION), source="lab")
    both = run(fresh_database, monkeypatch, str(tmp_path / "all"))
    assert both.exit_code == 1 and "several systems" in both.output and files(tmp_path / "all") == {}
    assert run(fresh_database, monkeypatch, str(tmp_path / "lab"), "--source", "lab").exit_code == 0
    assert diseases(files(tmp_path / "lab")) == ["高血圧症"]
    mixed = run(fresh_database, monkeypatch, str(tmp_path / "lab"), "--source", "emr")
    assert isinstance(mixed.exception, InvalidInput) and diseases(files(tmp_path / "lab")) == ["高血圧症"]
    assert "choose it with --source lab" in str(mixed.exception)
    other = run(fresh_database, monkeypatch, str(tmp_path / "all"), "--source", "lab")
    assert "leave --source out" in str(other.exception)
    unknown = run(fresh_database, monkeypatch, str(tmp_path / "none"), "--source", "l4b")
    assert "no note of the system l4b" in str(unknown.exception) and not (tmp_path / "none").exists()
    late = run(fresh_database, monkeypatch, str(tmp_path / "lab"), "--source", "lab", "--since", "2100-01-01")
    assert late.exit_code == 0


def test_some_patients_and_since(fresh_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = [ME.model_copy(update={"id": f"P00123{n}"}) for n in range(3)]
    for n, one in enumerate(others[:2]):
        store(fresh_database, note(patient=one, note_id=f"n-{n}"), *records())
    assert run(fresh_database, monkeypatch, str(tmp_path), "--patient", "P001230").exit_code == 0
    assert all("P001230" in name for name in files(tmp_path))
    moment = datetime.now(UTC)
    store(fresh_database, note(patient=others[2], note_id="n-2"), *records())
    done = run(fresh_database, monkeypatch, str(tmp_path), "--since", moment.isoformat())
    assert done.exit_code == 0 and counts(done.output)["PPR-01"] == [1, 0, 0, 0]
    assert {name.split("/")[3] for name in files(tmp_path)} == {"P001230", "P001232"}
    nothing = run(fresh_database, monkeypatch, str(tmp_path), "--since", "2100-01-01", "--patient", "P001230")
    assert nothing.exit_code == 0 and not any(map(any, counts(nothing.output).values()))
    assert isinstance(run(fresh_database, monkeypatch, str(tmp_path), "--patient", "X").exception, InvalidInput)
    assert run(fresh_database, monkeypatch, str(tmp_path), "--since", "yesterday").exit_code == 2


def test_the_index_is_made_again(fresh_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(fresh_database, note(), *records())
    run(fresh_database, monkeypatch, str(tmp_path))
    before = index.read(tmp_path / "ssmix2-index.sqlite")
    (tmp_path / "ssmix2-index.sqlite").unlink()
    done = CliRunner().invoke(export.app, ["ssmix2-index", str(tmp_path)])
    assert done.exit_code == 0 and "5 entries" in done.output
    strip = lambda rows: [{k: v for k, v in row.items() if k != "UpdateDatetime"} for row in rows]  # noqa: E731
    assert strip(index.read(tmp_path / "ssmix2-index.sqlite")) == strip(before)
    missing = CliRunner().invoke(export.app, ["ssmix2-index", str(tmp_path / "nothing")])
    assert isinstance(missing.exception, InvalidInput)


def started(database: Database, folder: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "DATABASE_URL": database.url,
        "FACILITY_NAME": "見本病院",
        "INSTITUTION_NUMBER": "1311234567",
    }
    command = [sys.executable, "-m", "app.cli", "export", "ssmix2", str(folder)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_a_nameless_sender_is_pointed_out(
    fresh_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(fresh_database, note(), *records())
    assert "MSH-4" not in run(fresh_database, monkeypatch, str(tmp_path / "named")).output
    monkeypatch.setattr(export, "_sender", lambda: Facility(""))
    nameless = run(fresh_database, monkeypatch, str(tmp_path / "nameless"))
    assert nameless.exit_code == 0 and "INSTITUTION_NUMBER are not set" in nameless.output


def test_an_interrupted_export_says_what_to_do(
    fresh_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(3):
        store(fresh_database, note(note_id=f"n-{n}", patient=ME.model_copy(update={"id": f"P00{n:05}"})), *records())
    written = Storages.write_patient
    calls = iter([None, None])

    def interrupted(*arguments: Any) -> Any:
        if next(calls, False) is False:
            raise KeyboardInterrupt
        return written(*arguments)

    monkeypatch.setattr(Storages, "write_patient", interrupted)
    stopped = run(fresh_database, monkeypatch, str(tmp_path))
    assert stopped.exit_code not in (0, None) and "the same command finishes" in stopped.output
    monkeypatch.undo()
    rest = run(fresh_database, monkeypatch, str(tmp_path))
    assert rest.exit_code == 0 and counts(rest.output)["ADT-00"] == [1, 2, 0, 0]


@pytest.mark.slow
def test_a_killed_export_is_finished_by_another_and_two_at_once_agree(fresh_database: Database, tmp_path: Path) -> None:
    for n in range(40):
        store(fresh_database, note(note_id=f"n-{n}", patient=ME.model_copy(update={"id": f"P00{n:05}"})), *records())
    root = tmp_path / "ssmix2"
    for goal in (5, 40, 90):
        child = started(fresh_database, tmp_path)
        while child.poll() is None and len(list(root.glob("*/*/*/*/*/*_1"))) < goal:
            time.sleep(0.002)
        child.kill()
        child.communicate()
        assert child.returncode == -signal.SIGKILL
    children = [started(fresh_database, tmp_path) for _ in range(2)]
    outputs = [child.communicate()[0].decode() for child in children]
    assert [child.returncode for child in children] == [0, 0], outputs
    found = files(tmp_path)
    assert len(found) == 40 * 5 and all(name.endswith(("_1", "_1/document.xml")) for name in found)
    whole = b"".join(path.read_bytes() for path in sorted((tmp_path / "ssmix2-transaction").glob("*/*")))
    assert whole.count(b"#SSMIX,2.00,") == 40 * 4
    assert len(index.read(tmp_path / "ssmix2-index.sqlite")) == 40 * 5
