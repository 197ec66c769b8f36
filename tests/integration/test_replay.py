"""A stored run gives the same bytes again; what changed since is named, and the difference that it makes is shown."""

import getpass
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from random_model import write_compact
from sample_conversion import make_note
from sqlalchemy import delete, select, text, update
from typer.testing import CliRunner

from app import jobs, replay, running
from app.cli import app
from app.db import Database
from app.errors import Conflict, NotFound
from app.intake import read_notes
from app.jobs import Policy
from app.pipeline import Converter
from app.settings import Settings
from app.terminology.importers import STARTER_SYSTEM, keep_version, lexicon_from, load_starter
from models import AuditEvent, CodeSystemRelease, LocalCode, Resource, Run, TerminologyVersion
from schemas.note import ChartNote
from schemas.review import AuditAction
from schemas.statement import Kind

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ("01-diabetes-clinic", "03-dermatology-clinic", "10-ward-nursing", "13-health-check")
SECRET = "ほにゃ病"
BY = "tester"


def settings(**values: Any) -> Settings:
    fixed = {"models_file": ROOT / "weights/models.toml", "model_path": None, "profiles_path": Path("not-there"),
             "facility_name": "検査病院", "institution_number": "1310000001", "model_threads": 2}  # fmt: skip
    return Settings(_env_file=None, **fixed | values)


def samples() -> list[ChartNote]:
    """The ends of sample notes: tables, allergies and prescriptions."""
    lines = [line for name in SAMPLES for line in read_notes(ROOT / f"samples/{name}.json")]
    notes = [line.note for line in lines if line.note is not None]
    return [note.model_copy(update={"text": "\n".join(note.text.split("\n")[-9:])}) for note in notes]


@pytest.fixture(scope="module")
def converter(database: Database) -> Iterator[Converter]:
    with database.session_scope() as session:
        load_starter(session)
        lexicon = lexicon_from(session)
        keep_version(session, lexicon)
    made = Converter.load(settings(model_slots=8), lexicon)
    yield made
    assert made.models is not None
    made.models.close()


@pytest.fixture(scope="module")
def stored(database: Database, converter: Converter) -> list[UUID]:
    """The jobs of the samples, which one worker read together."""
    ids = []
    for note in samples():
        with database.session_scope() as session:
            ids.append(jobs.submit(session, note, "emr").job_id)
    running.work(database, ids[0], converter.convert, worker="w", policy=Policy(), slots=8)
    return ids


def load(database: Database, job_id: UUID) -> replay.StoredRun:
    with database.session_scope() as session:
        return replay.load(session, job_id, by=BY)


def repeated(database: Database, job_id: UUID, converter: Converter) -> replay.Replayed:
    run = load(database, job_id)
    with database.session_scope() as session:
        lexicon, remarks = replay.tables(session, run, converter)
    found = replay.repeat(run, converter, lexicon)
    return replay.Replayed(**{**vars(found), "remarks": [*remarks, *found.remarks]})


def hyojun(database: Database, *words: str, **values: str) -> tuple[int, str]:
    """Exit status and output; a process of its own where the seed of hashes is given."""
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith(("MODEL_", "HYOJUN_"))}
    fixed = {"DATABASE_URL": database.url, "MODELS_FILE": str(ROOT / "weights/models.toml"), "PROFILES_PATH": "not-there",
             "FACILITY_NAME": "検査病院", "INSTITUTION_NUMBER": "1310000001"}  # fmt: skip
    if "PYTHONHASHSEED" in values:
        command = [str(Path(sys.executable).with_name("hyojun")), *words]
        done = subprocess.run(
            command, check=False, env=surroundings | fixed | values, capture_output=True, text=True, timeout=120
        )
        return done.returncode, done.stdout + done.stderr
    gone = dict.fromkeys(os.environ.keys() - surroundings.keys())
    result = CliRunner().invoke(app, list(words), env=gone | fixed | values)
    return result.exit_code, result.output


def test_a_run_gives_the_same_bytes_whatever_was_read_beside_it(
    database: Database, converter: Converter, stored: list[UUID]
) -> None:
    """Stored: eight at a time in one batch. Again: each alone, by a converter with one slot."""
    alone = Converter.load(settings(model_slots=1, model_threads=1), converter.lexicon)
    try:
        for job_id in stored:
            found = repeated(database, job_id, alone)
            assert found.identical and found.changed == {} and found.remarks == [] and found.paths == []
            assert found.sha256 == found.stored.recorded
            assert found.stored.records and not found.said.differences
    finally:
        assert alone.models is not None
        alone.models.close()
    with database.session_scope() as session:
        told = session.scalars(select(AuditEvent).where(AuditEvent.action == AuditAction.REPLAY)).all()
    assert {event.acted_by for event in told} == {BY} and len(told) == len(stored)


def test_scores_do_not_depend_on_the_batch(converter: Converter) -> None:
    """To the last bit: confidences are sums of the model's scores."""
    notes = [note.text for note in samples()] * 2
    model = converter.reader

    def scores(note: str) -> list[Any]:
        return [(w.fields, w.confidence) for w in model.read(note, [], "progress").written]

    alone = {note: scores(note) for note in dict.fromkeys(notes)}
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(scores, reversed(notes)))
    assert together == [alone[note] for note in reversed(notes)]
    assert any(confidence not in (None, 1.0) for _, confidence in together[0])


def test_the_command_in_another_process_with_another_order_of_sets(database: Database, stored: list[UUID]) -> None:
    status, said = hyojun(database, "replay", "--all", PYTHONHASHSEED="4711", MODEL_SLOTS="2", MODEL_THREADS="1")
    assert status == 0, said
    assert f"{len(stored)} runs: {len(stored)} identical, 0 different, 0 not run" in said
    with database.session_scope() as session:
        event = session.scalars(select(AuditEvent).order_by(AuditEvent.id.desc()).limit(1)).one()
    assert event.acted_by.startswith(getpass.getuser())


def test_settings_that_changed_are_taken_from_the_run(
    database: Database, converter: Converter, stored: list[UUID]
) -> None:
    moved = Converter(
        converter.reader, converter.lexicon, settings(facility_name="別の病院", facility_phone="03-0000-0000")
    )
    moved.calibration = converter.calibration
    assert repeated(database, stored[0], moved).identical
    now = replay.repeat(load(database, stored[0]), moved)
    assert not now.identical and not now.said.differences
    assert now.changed == {"facility_name": ("検査病院", "別の病院"), "facility_phone": (None, "03-0000-0000")}
    assert {path.path.split(".")[0] for path in now.paths} <= {"resources", "messages[0]", "messages"} | {
        f"messages[{n}]" for n in range(99)
    }


def test_the_difference_is_told_without_patient_text(database: Database, stored: list[UUID]) -> None:
    status, said = hyojun(database, "replay", str(stored[0]), "--now", FACILITY_NAME="別の病院")
    assert status == 1 and "facility_name: was another" in said and "  messages[" in said
    note = samples()[0]
    assert not [word for word in (note.patient.family, note.patient.id, "別の病院", note.text[:8]) if word in said]


def test_the_tables_of_the_time_are_put_together_again(fresh_database: Database, converter: Converter) -> None:
    database = fresh_database
    note = make_note(f"【病名】{SECRET}（2015年〜）、高血圧症。\nHbA1c 7.2%")
    with database.session_scope() as session:
        load_starter(session)
        lexicon = lexicon_from(session)
        keep_version(session, lexicon)
        job_id = jobs.submit(session, note, "emr").job_id
    old = converter.beside(lexicon, converter.chosen)
    running.run(database, job_id, old.convert, worker="w", policy=Policy())
    name = load(database, job_id).records[0].statement.name.quote
    with database.session_scope() as session:
        session.add(LocalCode(
            kind=Kind.CONDITION, code="L1", display=name, target_system="urn:x", target_code="X1", target_display="別の病名",
            created_by="t",
        ))  # fmt: skip
    with database.session_scope() as session:
        changed = lexicon_from(session)
        keep_version(session, changed)
    assert changed.version != lexicon.version
    new = converter.beside(changed, converter.chosen)

    assert repeated(database, job_id, new).identical, "with the tables of then"
    now = replay.repeat(load(database, job_id), new)
    assert not now.identical and now.changed == {"terminology": (lexicon.version, changed.version)}
    assert any(part.part in ("codes", "local") for d in now.said.differences for part in d.parts)

    # Nobody wrote down which releases it was: the tables are those in use, and the local codes of the time are told.
    with database.session_scope() as session:
        session.execute(delete(TerminologyVersion))
    assert repeated(database, job_id, new).identical
    # Another release is in use now.
    with database.session_scope() as session:
        keep_version(session, lexicon)  # it is not in use: nothing is written
        assert session.scalars(select(TerminologyVersion)).all() == []
        release = session.scalars(select(CodeSystemRelease).where(CodeSystemRelease.active)).one()
        session.add(TerminologyVersion(
            version=lexicon.version, releases=[{"id": str(uuid4()), "system": STARTER_SYSTEM, "version": "gone"}],
            local_at=release.created_at,
        ))  # fmt: skip
    found = repeated(database, job_id, new)
    assert f"the release {STARTER_SYSTEM} gone was removed" in found.remarks[0]
    assert found.changed == {"terminology": (lexicon.version, changed.version)} and not found.identical


def test_another_model_is_named_and_what_it_says_is_shown(
    database: Database, stored: list[UUID], tmp_path: Path
) -> None:
    write_compact(tmp_path / "other.gguf")
    run = load(database, stored[1])
    other = {"MODEL_PATH": str(tmp_path / "other.gguf"), "MODEL_CONTEXT_TOKENS": "8192", "MODEL_SLOTS": "1"}
    status, said = hyojun(database, "replay", str(stored[1]), **other)
    assert status == 1, said
    assert f"  model: {run.fingerprints['model']} -> " in said
    assert ": gone" in said or ": changed" in said
    assert not [r for r in run.records if len(r.statement.name.quote) > 3 and r.statement.name.quote in said]


def test_what_was_changed_in_the_database_is_found(
    database: Database, converter: Converter, stored: list[UUID]
) -> None:
    job_id = stored[2]
    with database.session_scope() as session:
        mine = (Resource.job_id == job_id, Resource.type == "Patient")
        content = session.scalars(select(Resource.content).where(*mine)).one()
        session.execute(update(Resource).where(*mine).values(content=content | {"gender": "other"}))
    found = repeated(database, job_id, converter)
    assert found.altered and not found.identical
    assert found.sha256 == found.stored.recorded
    assert [path.path for path in found.paths] == [f"resources.Patient/{content['id']}.content.gender"]
    status, said = hyojun(database, "replay", str(job_id), "--show-text")
    assert status == 1 and "what is stored is not what the run wrote" in said
    assert f".content.gender: 'other' -> '{content['gender']}'" in said


def test_what_has_no_run_cannot_be_repeated(database: Database) -> None:
    with database.session_scope() as session:
        waiting = jobs.submit(session, make_note(), "emr").job_id
    with pytest.raises(Conflict):
        load(database, waiting)
    with pytest.raises(NotFound):
        load(database, uuid4())
    status, said = hyojun(database, "replay", str(waiting))
    assert status == 2 and "is queued" in said
    assert hyojun(database, "replay", str(waiting), DATABASE_URL="postgresql://nobody@127.0.0.1:1/x")[0] == 2
    with database.session_scope() as session:
        jobs.cancel(session, waiting)


def test_a_run_of_a_former_version_is_compared_with_what_is_stored(
    database: Database, converter: Converter, stored: list[UUID]
) -> None:
    with database.session_scope() as session:
        session.execute(update(Run).where(Run.job_id == stored[3]).values(options=None, output_sha256=None))
        assert session.scalar(text("SELECT count(*) FROM terminology_versions")) == 1
    found = repeated(database, stored[3], converter)
    assert found.identical and found.stored.recorded is None
    assert found.remarks == ["the run does not say which settings it was made with"]
