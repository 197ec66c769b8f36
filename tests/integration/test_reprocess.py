"""Old notes through another model: beside their results until somebody says so, each note once, whatever dies."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from reviewed_notes import ALLERGY, CONDITION, LAB, READ, TEXT, items_of, stored
from reviewing import STANDARD
from sample_conversion import SampleConversion, convert, make_note
from sqlalchemy import func, select, text, update
from typer.testing import CliRunner

from app import jobs, releases, reprocess, results, reviews, running
from app.cli import app
from app.db import Database
from app.errors import Conflict, InvalidInput, NotFound
from app.jobs import Convert, Policy
from app.reprocess import Applied
from models import AuditEvent, Job, Note, NoteReview, NoteStatement, Resource, Run, Trial, TrialNote
from schemas.coding import Coding
from schemas.job import JobState
from schemas.note import ChartNote
from schemas.record import Record
from schemas.review import AuditAction, Verdict
from schemas.statement import Assertion, EvidenceSpan, Field, Kind, Statement

HERE = Path(__file__).parent
POLICY = Policy(lease_seconds=30, max_attempts=2, interval_seconds=0.05)
BY = "tester"
MODEL = "fedcba9876543210"
HYPERTENSION = Statement(
    kind=Kind.CONDITION,
    fields={Field.NAME: EvidenceSpan(start=TEXT.index("高血圧"), end=TEXT.index("高血圧") + 3, quote="高血圧")},
)


def another(statements: Sequence[Statement], **codes: str) -> Convert:
    """A model that reads `statements`, and codes names as `codes` says by kind."""

    def converted(note: ChartNote, *, source: str) -> SampleConversion:
        made = convert(note, source=source)
        records = [
            Record(
                statement=s, display=s.name.quote,
                codings=(Coding(system="urn:x", code=codes[s.kind], display="x"),) if s.kind in codes else (),
            )
            for s in statements
        ]  # fmt: skip
        return replace(made, run=made.run | {"model": MODEL}, statements=list(statements), records=records)

    return converted


def begin(database: Database, where: str = "all", **options: int) -> UUID:
    with database.session_scope() as session:
        return reprocess.start(session, where, by=BY, **options).id


def work(database: Database, converter: Convert) -> None:
    """As workers do, until nothing is due."""
    with database.session_scope() as session:
        first = session.scalars(select(Job.id).where(Job.state == JobState.QUEUED).limit(1)).one()
    running.work(database, first, converter, worker="w", policy=POLICY, slots=2)


def summary(database: Database, trial: UUID) -> reprocess.Summary:
    with database.session_scope() as session:
        return reprocess.summary(session, trial)


def apply(database: Database, trial: UUID, **options: bool) -> list[Applied]:
    with database.session_scope() as session:
        waiting = reprocess.waiting(session, trial)
    done = []
    for job_id in waiting:
        with database.session_scope() as session:
            done.append(reprocess.apply(session, job_id, by=BY, **options))
    return done


def counted(database: Database) -> dict[str, int]:
    """Rows that make up what counts."""
    with database.session_scope() as session:
        tables = (Run, NoteStatement, Resource, NoteReview)
        return {table.__tablename__: session.scalar(select(func.count()).select_from(table)) or 0 for table in tables}


def model_of(database: Database, note_id: UUID) -> str:
    with database.session_scope() as session:
        of_note = select(Run.model).join(Job, Job.id == Run.job_id).where(Run.note_id == note_id)
        return session.scalars(of_note.order_by(Job.finished_at.desc()).limit(1)).one()


def test_nothing_that_counts_changes_before_it_is_applied(fresh_database: Database) -> None:
    database = fresh_database
    note_id = stored(database)
    before = counted(database)
    with database.session_scope() as session:
        bundle = results.note_result(session, note_id)
    trial = begin(database)
    past = Statement(**CONDITION.model_dump() | {"assertion": Assertion.PAST})
    work(database, another([past, HYPERTENSION, LAB], lab="Y"))
    assert counted(database) == before and model_of(database, note_id) != MODEL
    with database.session_scope() as session:
        assert results.note_result(session, note_id) == bundle
        assert [row["state"] for row in results.note_record(session, note_id)["jobs"]] == ["done"]
        # The note may be converted and reviewed beside it.
        assert jobs.resubmit(session, note_id).created
        session.rollback()

    found = summary(database, trial)
    assert (found.kept, found.changed, found.grave, found.codes) == (1, 1, 1, 1)
    assert found.counts["condition"] == {"same": 0, "changed": 1, "new": 1, "gone": 0}
    assert found.counts["allergy"]["gone"] == 1 and found.counts["lab"]["changed"] == 1
    with database.session_scope() as session:
        [change] = reprocess.changes(session, trial)
    first, *rest = change.differences
    assert (first.kind, first.change, first.grave) == (Kind.ALLERGY, "gone", True), "drug allergies come first"
    told = {(d.kind, d.name): {part.part: (part.before, part.after) for part in d.parts} for d in rest}
    assert told[Kind.CONDITION, "2型糖尿病"] == {"assertion": ("present", "past")}
    assert told[Kind.LAB, "HbA1c"] == {"codes": (None, "urn:x|Y"), "held": ("held", None)}


def test_applied_it_is_the_result_and_the_review_begins_anew(fresh_database: Database) -> None:
    database = fresh_database
    note_id = stored(database)
    with database.session_scope() as session:
        item = reviews.get_review(session, note_id).items[0]
        reviews.decide(session, item.id, Verdict.ACCEPT, by="r", version=0)
    trial = begin(database)
    work(database, another(READ))
    assert summary(database, trial).decided == 1
    with database.session_scope() as session:
        kept = session.scalars(select(TrialNote.output_sha256)).one()
    assert apply(database, trial) == [Applied.APPLIED]
    assert model_of(database, note_id) == MODEL
    items = items_of(database, note_id)
    assert len(items) == len(READ) and {item.verdict for item in items} == {None}
    with database.session_scope() as session:
        result = results.note_result(session, note_id)
        values = [r["valueQuantity"]["value"] for r in result.resources if r["resourceType"] == "Observation"]
        assert values == [Decimal("1.10")], "with the digits as they were written"
        run = session.scalars(select(Run).where(Run.model == MODEL)).one()
        assert run.output_sha256 == kept
        actions = session.scalars(select(AuditEvent.action).where(AuditEvent.note_id == note_id)).all()
        assert AuditAction.SUPERSEDE in actions and AuditAction.REPLAY in actions
        assert session.scalars(select(Job.note_id)).all() == [note_id, note_id]
    assert apply(database, trial) == [], "nothing waits any more"
    with database.session_scope() as session:
        job_id = session.scalars(select(TrialNote.job_id)).one()
        assert reprocess.apply(session, job_id, by=BY) is Applied.APPLIED
    assert counted(database)["runs"] == 2
    # To discard what was applied leaves it.
    with database.session_scope() as session:
        assert reprocess.discard(session, trial, by=BY) == 0
    assert model_of(database, note_id) == MODEL and summary(database, trial).applied == 1


def test_what_was_released_or_converted_since_is_left_alone(fresh_database: Database) -> None:
    database = fresh_database
    released, again, plain = (stored(database, note=make_note(text=TEXT)) for _ in range(3))
    with database.session_scope() as session:
        review = reviews.get_review(session, released)
        for item in review.items:
            reviews.decide(session, item.id, Verdict.REJECT, by="r", version=0)
        releases.release(session, released, review.run_id, by="r", standard=STANDARD)
    trial = begin(database)
    work(database, another(READ))
    with database.session_scope() as session:
        submission = jobs.resubmit(session, again)
    running.run(database, submission.job_id, convert, worker="w", policy=POLICY)
    found = summary(database, trial)
    assert (found.released, found.stale) == (1, 1)
    assert sorted(apply(database, trial)) == sorted([Applied.APPLIED, Applied.RELEASED, Applied.STALE])
    assert [model_of(database, note) == MODEL for note in (released, again, plain)] == [False, False, True]
    assert sorted(apply(database, trial, released=True)) == sorted([Applied.APPLIED, Applied.STALE])
    assert model_of(database, released) == MODEL


def test_a_lost_worker_and_a_late_one_leave_one_result(fresh_database: Database) -> None:
    database = fresh_database
    stored(database)
    trial = begin(database)
    with database.session_scope() as session:
        job_id = session.scalars(select(TrialNote.job_id)).one()
        late = jobs.claim(session, job_id, "late", POLICY)
        assert late is not None and late.trial and late.note.text == TEXT
    with database.session_scope() as session:
        session.execute(update(Job).where(Job.id == job_id).values(lease_until=func.now() - text("interval '1 s'")))
    assert running.run(database, job_id, another(READ), worker="w", policy=POLICY) is JobState.DONE
    with pytest.raises(Conflict), database.session_scope() as session:
        jobs.complete(session, late, another([])(late.note, source="emr"))
    assert summary(database, trial).counts["condition"]["same"] == 1
    # A crash before the commit leaves nothing; applied again it is applied once.
    with pytest.raises(RuntimeError), database.session_scope() as session:
        reprocess.apply(session, job_id, by=BY)
        raise RuntimeError("killed")
    assert counted(database)["runs"] == 1
    assert apply(database, trial) == [Applied.APPLIED] and counted(database)["runs"] == 2


def test_workers_that_are_killed_leave_each_note_one_result(fresh_database: Database, tmp_path: Path) -> None:
    """Real workers and the real queue; SIGKILL in the middle of a trial."""
    database = fresh_database
    for _ in range(6):
        stored(database, note=make_note(department="brief"))
    before, trial = counted(database), begin(database)
    env = os.environ | {
        "DATABASE_URL": database.url, "STARTED_DIR": str(tmp_path), "PYTHONPATH": str(HERE.parent.parent),
        "JOB_LEASE_SECONDS": "2", "WORKER_PROCESSES": "1", "MODEL_SLOTS": "2",
    }  # fmt: skip

    def worked(until: Callable[[reprocess.Summary], bool]) -> None:
        """A worker until then, and its end without a chance to tidy up."""
        with (tmp_path / "worker.log").open("ab") as log:
            worker = subprocess.Popen([sys.executable, HERE / "worker_process.py"], env=env, stderr=log, stdout=log,
                                      start_new_session=True)  # fmt: skip
        try:
            deadline = time.monotonic() + 120
            while not until(summary(database, trial)) and time.monotonic() < deadline:
                time.sleep(0.1)
        finally:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()

    worked(lambda found: found.kept >= 1)
    assert summary(database, trial).kept < 6
    worked(lambda found: found.kept == 6)
    found = summary(database, trial)
    assert (found.kept, found.progress.done, found.progress.total) == (6, 6, 6), (tmp_path / "worker.log").read_text()
    assert counted(database) == before
    assert apply(database, trial) == [Applied.APPLIED] * 6
    assert counted(database)["runs"] == 12


def test_cancelled_failed_resumed_and_discarded(fresh_database: Database) -> None:
    database = fresh_database
    for _ in range(3):
        stored(database, note=make_note(text=TEXT))
    trial = begin(database)
    with database.session_scope() as session:
        first, *_ = session.scalars(select(TrialNote.job_id).order_by(TrialNote.job_id)).all()

    def failing(note: ChartNote, *, source: str) -> SampleConversion:
        raise InvalidInput("not this one")

    assert running.run(database, first, failing, worker="w", policy=POLICY) is JobState.FAILED
    with database.session_scope() as session:
        assert reprocess.cancel(session, trial) == 2
        assert reprocess.progress(session, trial).open == 0
    assert apply(database, trial) == []
    with database.session_scope() as session:
        assert reprocess.resume(session, trial) == 3
    work(database, another(READ))
    assert summary(database, trial).kept == 3
    with database.session_scope() as session:
        assert reprocess.discard(session, trial, by=BY) == 3
        with pytest.raises(Conflict):
            reprocess.resume(session, trial)
    with database.session_scope() as session:
        assert session.scalars(select(TrialNote)).all() == [] and session.get_one(Trial, trial).discarded_at
        assert session.scalar(select(func.count()).select_from(Job)) == 3
    # A worker that is at it when the trial is discarded has its work refused.
    later = begin(database, limit=1)
    with database.session_scope() as session:
        held = jobs.claim(session, session.scalars(select(TrialNote.job_id)).one(), "w", POLICY)
    with database.session_scope() as session:
        assert reprocess.discard(session, later, by=BY) == 1
    assert held is not None
    with pytest.raises(Conflict), database.session_scope() as session:
        jobs.complete(session, held, another(READ)(held.note, source="emr"))
    # With a note goes what was tried with it.
    last = begin(database, limit=1)
    with database.session_scope() as session:
        session.execute(text("DELETE FROM notes"))
    assert summary(database, last).kept == 0
    with database.session_scope() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 0


def test_somebody_who_waits_goes_before_a_trial(fresh_database: Database) -> None:
    database = fresh_database
    stored(database)
    begin(database)
    with database.session_scope() as session:
        urgent = jobs.submit(session, make_note(), "emr").job_id
    with database.session_scope() as session:
        claim = jobs.claim_due(session, "w", POLICY)
    assert claim is not None and claim.job_id == urgent and not claim.trial


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("all", 2),
        ("source=emr type=progress", 2),
        ("source!=emr", 0),
        ("department=内科", 1),
        ("department=外科 and since=2026-04-01 until=2026-04-01", 1),
        ("since=2026-04-02", 0),
        ("model=m", 0),
        ("model!=m", 2),
        ("terminology=0123456789ab version=0.0.0", 2),
        ("calibration!=x", 2),
        ("uncoded", 2),
        ("held", 2),
        ("held department='内科'", 1),
        ("batch=00000000-0000-4000-8000-000000000000", 0),
    ],
)
def test_a_condition_chooses_notes(two_notes: Database, where: str, found: int) -> None:
    with two_notes.session_scope() as session:
        if found:
            assert reprocess.start(session, where, by=BY).notes == found
        else:
            with pytest.raises(NotFound):
                reprocess.start(session, where, by=BY)
        session.rollback()


@pytest.mark.parametrize(
    "where", ["", "and", "patient=1", "source", "text=糖尿病", "since=2026-13-01", "since!=2026-01-01", "note=1",
              "type=diary", "source='a", "1=1; DROP TABLE notes", "model="],
)  # fmt: skip
def test_a_condition_that_is_none_is_refused(two_notes: Database, where: str) -> None:
    with two_notes.session_scope() as session, pytest.raises(InvalidInput) as refused:
        reprocess.start(session, where, by=BY)
    assert "糖尿病" not in str(refused.value)


@pytest.fixture(scope="module")
def two_notes(database: Database) -> Database:
    for department in ("内科", "外科"):
        stored(database, note=make_note(text=TEXT, department=department))
    return database


@pytest.fixture
def hyojun(fresh_database: Database) -> Callable[..., tuple[int, str]]:
    def run(*words: object) -> tuple[int, str]:
        done = CliRunner().invoke(app, list(map(str, words)), env={"DATABASE_URL": fresh_database.url})
        return done.exit_code, done.output

    return run


def test_the_commands(fresh_database: Database, hyojun: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    database = fresh_database
    stored(database, note=make_note(text=TEXT, note_id="n1"))
    status, said = hyojun("reprocess", "--where", "source=emr", "--detach")
    assert status == 0 and "1 notes are queued" in said
    [trial] = re.findall(r"trial ([0-9a-f-]{36})", said)
    work(database, another([CONDITION, replace_category(ALLERGY), LAB]))
    assert "1" in hyojun("reprocess", "list")[1]
    status, said = hyojun("reprocess", "show", trial, "--csv", tmp_path / "a.csv", "--html", tmp_path / "a.html")
    assert status == 0 and "DRUG ALLERGIES: 1" in said and "allergy at " in said
    page, table = (tmp_path / "a.html").read_text(), (tmp_path / "a.csv").read_text()
    assert (tmp_path / "a.csv").stat().st_mode & 0o077 == 0
    assert not [where for where in (said, page, table) if "ペニシリン" in where or "発疹" in where]
    rows = list(csv.DictReader(table.splitlines()))
    assert {(row["kind"], row["change"], row["drug_allergy"], row["part"]) for row in rows} == {
        ("allergy", "changed", "yes", "category"), ("lab", "changed", "", "held"),
    }  # fmt: skip
    assert rows[0]["kind"] == "allergy" and rows[0]["external_id"] == "n1"
    assert "src=" not in page and "http" not in page and "<svg" in page
    status, said = hyojun("reprocess", "show", trial, "--show-text", "--html", tmp_path / "a.html")
    assert "ペニシリン" in said and "category: medication -> food" in said
    assert "ペニシリン" in (tmp_path / "a.html").read_text()
    assert hyojun("reprocess", "cancel", trial)[1].startswith("0 jobs")
    with database.session_scope() as session:
        note_id = session.scalars(select(Note.id)).one()
    status, said = hyojun("reprocess", "apply", trial, "--note", note_id, "--yes", "--by", "me")
    assert status == 0 and "applied: 1" in said
    assert model_of(database, note_id) == MODEL
    assert hyojun("reprocess", "discard", trial) == (0, "discarded: 0 notes\n")


def replace_category(statement: Statement) -> Statement:
    return Statement.model_validate(statement.model_dump() | {"category": "food"})
