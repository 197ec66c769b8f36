"""Released notes as training files: who is in them, on which side, and who may read them."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from reviewed_notes import CONDITION, TEXT, convert_again, span, stored
from reviewing import STANDARD
from sample_conversion import make_note
from sqlalchemy import func, select

from app import opt_outs, releases, reviews
from app.db import Database
from app.errors import InvalidInput
from app.generation import form
from app.generation.endpoint import Endpoint
from app.generation.reader import NoteReader
from app.generation.remote import RemoteModel
from app.generation.segments import fold
from app.opt_outs import Subject
from app.sft_export import MANIFEST, SIDES, export, is_test, split_key
from app.terminology.importers import load_starter
from models import AuditEvent
from schemas.note import ChartNote
from schemas.review import AuditAction, Verdict
from schemas.statement import Assertion, Field, Kind, Statement

ROOT = Path(__file__).resolve().parents[2]
READER = NoteReader(RemoteModel(Endpoint("hyojun", "http://127.0.0.1", "base", 8192)))
MISSED = Statement(kind=Kind.CONDITION, fields={Field.NAME: span("高血圧")})


def note_of(patient: str, number: int = 0, text: str | None = None) -> ChartNote:
    """Texts differ behind what is said, so that no note is another's repetition."""
    note = make_note(text=text or f"{TEXT}\n{patient}の{number}回目", note_id=f"n{number}-{patient}")
    return note.model_copy(update={"patient": note.patient.model_copy(update={"id": patient})})


def review(database: Database, note_id: UUID, *, release: bool = True) -> None:
    """The condition is past, hypertension was missed, the laboratory result is wrong."""
    with database.session_scope() as session:
        current = reviews.get_review(session, note_id)
        condition, allergy, lab = current.items
        corrected = CONDITION.model_copy(update={"assertion": Assertion.PAST})
        reviews.amend(session, condition.id, corrected, by="dr-1", version=0)
        reviews.decide(session, allergy.id, Verdict.ACCEPT, by="dr-1", version=0)
        reviews.decide(session, lab.id, Verdict.REJECT, by="dr-1", version=0)
        reviews.add(session, note_id, current.run_id, MISSED, by="dr-1")
        if release:
            releases.release(session, note_id, current.run_id, by="dr-1", standard=STANDARD)


def released(database: Database, note: ChartNote) -> UUID:
    note_id = stored(database, note=note)
    review(database, note_id)
    return note_id


def write(database: Database, out: Path, **options: Any) -> dict[str, Any]:
    return export(database, READER, out, **({"test_share": 0.5, "seed": 1, "by": "dr-1"} | options))


def rows(out: Path) -> dict[str, list[dict[str, Any]]]:
    return {name: [json.loads(line) for line in (out / name).read_text().splitlines()] for name in SIDES}


@pytest.fixture
def loaded(fresh_database: Database) -> Database:
    with fresh_database.session_scope() as session:
        load_starter(session)
    return fresh_database


def test_a_released_note_is_a_chat_that_says_what_the_reviewer_says(loaded: Database, tmp_path: Path) -> None:
    released(loaded, note_of("P1"))
    manifest = write(loaded, tmp_path, test_share=0)
    assert rows(tmp_path)["test.jsonl"] == []
    (row,) = rows(tmp_path)["train.jsonl"]
    assert [message["role"] for message in row["messages"]] == ["system", "user", "assistant"]
    assert row["messages"][1]["content"] == fold(note_of("P1").text)
    read, complete = form.read(row["messages"][2]["content"], range(4))
    assert complete
    assert [(w.kind, w.fields[Field.NAME], w.assertion) for w in read] == [
        ("condition", "2型糖尿病", "past"), ("condition", "高血圧", "present"), ("allergy", "ペニシリン", "present"),
    ]  # fmt: skip
    assert [[*one["fields"]] for one in row["spans"]] == [["name", "onset"], ["name"], ["name", "reaction"]]
    assert row["patient"] == split_key(1, "P1") and len(row["note"]) == 64
    assert manifest["decisions"] == {"accept": 1, "add": 1, "amend": 1, "reject": 1}
    assert manifest == json.loads((tmp_path / MANIFEST).read_text())
    assert manifest["left_out"] == {} and manifest["prompt"] == READER.fingerprints.prompt
    with loaded.session_scope() as session:
        event = session.scalars(select(AuditEvent).where(AuditEvent.action == AuditAction.EXPORT)).one()
        assert event.acted_by == "dr-1" and event.after is not None


def test_no_patient_and_no_note_is_on_both_sides_and_the_same_run_gives_the_same_files(
    loaded: Database, tmp_path: Path
) -> None:
    patients = [f"P{n}" for n in range(8)]
    for patient in patients:
        for number in range(2):
            released(loaded, note_of(patient, number))
    manifest = write(loaded, tmp_path / "a")
    found = rows(tmp_path / "a")
    sides = {name: {row["patient"] for row in of} for name, of in found.items()}
    assert sides["test.jsonl"] == {split_key(1, p) for p in patients if is_test(split_key(1, p), 0.5)}
    assert sides["train.jsonl"] | sides["test.jsonl"] == {split_key(1, p) for p in patients}
    assert not sides["train.jsonl"] & sides["test.jsonl"] and all(sides.values())
    notes = [row["note"] for of in found.values() for row in of]
    assert len(notes) == len(set(notes)) == 16
    for name, of in found.items():
        assert manifest["files"][name] | {"sha256": ""} == {
            "patients": len(sides[name]), "notes": len(of), "pairs": len(of), "sha256": "",
        }  # fmt: skip
    write(loaded, tmp_path / "b")
    for name in SIDES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    write(loaded, tmp_path / "c", seed=2)
    assert {row["patient"] for row in rows(tmp_path / "c")["test.jsonl"]} != sides["test.jsonl"]


def test_what_may_not_be_in_it_is_left_out_and_counted(loaded: Database, tmp_path: Path) -> None:
    released(loaded, note_of("P1"))
    stored(loaded, note=note_of("P2"))
    decided = stored(loaded, note=note_of("P3"))
    review(loaded, decided, release=False)
    again = released(loaded, note_of("P4"))
    convert_again(loaded, again)
    released(loaded, note_of("P5"))
    released(loaded, note_of("P6"))
    corrected = note_of("P7")
    released(loaded, corrected)
    stored(loaded, note=corrected.model_copy(update={"text": f"{TEXT}\n訂正"}))
    released(loaded, note_of("P8", text=note_of("P1").text))
    stored(loaded, note=note_of("P9"), finished=False)
    with loaded.session_scope() as session:
        opt_outs.opt_out(session, Subject("emr", patient_id="P5"), by="dr-1")
        opt_outs.opt_out(session, Subject("emr", note="n0-P6"), by="dr-1")
    manifest = write(loaded, tmp_path)
    assert manifest["left_out"] == {"opted-out": 2, "same text as another note": 1, "undecided": 3, "unreleased": 1}
    assert sum(side["notes"] for side in manifest["files"].values()) == 1 and manifest["notes"] == 8
    with loaded.session_scope() as session:
        opt_outs.opt_in(session, Subject("emr", patient_id="P5"), by="dr-1")
    assert write(loaded, tmp_path, force=True)["left_out"]["opted-out"] == 1
    later = datetime.now(UTC) + timedelta(days=1)
    with pytest.raises(InvalidInput, match="nothing to write: of 8 notes with a result none gives a pair"):
        write(loaded, tmp_path / "later", since=later)
    assert list((tmp_path / "later").iterdir()) == []


def test_files_are_the_owners_alone_and_are_not_replaced_unasked(loaded: Database, tmp_path: Path) -> None:
    released(loaded, note_of("P1"))
    out = tmp_path / "new"
    mask = os.umask(0)
    try:
        write(loaded, out)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    assert {p.name: stat.S_IMODE(p.stat().st_mode) for p in out.iterdir()} == dict.fromkeys((*SIDES, MANIFEST), 0o600)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    with pytest.raises(InvalidInput, match="--force"):
        write(loaded, out)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before


def test_an_export_that_is_broken_off_leaves_the_former_files_as_they_were(loaded: Database, tmp_path: Path) -> None:
    released(loaded, note_of("P1"))
    write(loaded, tmp_path)
    released(loaded, note_of("P2"))
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def stop(done: int, total: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(loaded, tmp_path, force=True, progress=stop)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    with loaded.session_scope() as session:
        assert session.scalar(select(func.count()).where(AuditEvent.action == AuditAction.EXPORT)) == 1


# --- the commands ---------------------------------------------------------------------------------------------------


@pytest.fixture
def hyojun(loaded: Database, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    environment = {k: v for k, v in os.environ.items() if k != "MODEL_PATH"}
    environment |= {"DATABASE_URL": loaded.url, "PYTHONPATH": str(ROOT)}
    environment["MODELS_FILE"] = str(ROOT / "weights" / "models.toml")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "app.cli", *words]
        return subprocess.run(
            argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=200
        )

    return run


def test_the_commands_as_an_operator_runs_them(
    loaded: Database, hyojun: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    empty = hyojun("export", "sft", "--out", "data")
    assert empty.returncode == 1 and "nothing to write: of 0 notes" in empty.stderr
    for patient in ("P1", "P2"):
        released(loaded, note_of(patient))
    assert "1 opt-out" not in hyojun("opt-out", "list").stdout
    unknown = hyojun("opt-out", "patient", "P7", "--by", "dr-1")
    assert unknown.returncode == 1 and "name the system with --source" in unknown.stderr
    out = hyojun("opt-out", "patient", "P2", "--by", "dr-1")
    assert out.returncode == 0, out.stderr
    listed = hyojun("opt-out", "list").stdout
    assert "P2" in listed and "1 opt-out" in listed
    made = hyojun("export", "sft", "--out", "data", "--test-share", "0")
    assert made.returncode == 0, made.stderr
    assert "holds patient text" in made.stdout and "opted-out 1" in made.stdout
    assert not any(mark in made.stdout + made.stderr for mark in ("糖尿病", "ペニシリン", "P1", "花子"))
    assert [row["patient"] for row in rows(tmp_path / "data")["train.jsonl"]] == [split_key(0, "P1")]
    refused = hyojun("export", "sft", "--out", "data")
    assert refused.returncode == 1 and "--force" in refused.stderr
    assert hyojun("opt-out", "patient", "P2", "--by", "dr-1", "--undo").returncode == 0
    assert hyojun("opt-out", "note", "n0-P1", "--by", "dr-1").returncode == 0
    assert hyojun("export", "sft", "--out", "data", "--test-share", "0", "--force").returncode == 0
    assert [row["patient"] for row in rows(tmp_path / "data")["train.jsonl"]] == [split_key(0, "P2")]
    again = hyojun("opt-out", "patient", "P2", "--by", "dr-1", "--undo")
    assert again.returncode == 1 and "no such opt-out is in force" in again.stderr
