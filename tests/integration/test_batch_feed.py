"""Batches on a real Postgres: the feeder, the ledger, and what people do with a batch."""

import io
import json
import time
import zipfile
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from batch_files import feeder, ndjson, note, run_through, send, status, work
from sample_conversion import convert
from sqlalchemy import func, select, text, update

from app import batch_runs, jobs
from app.batch_feed import FEED_LOCK, Feeder
from app.batch_input import CHUNK_BYTES, stored_input
from app.db import Database
from app.dispatch import dispatch_tick
from app.errors import Conflict, InvalidInput, NotFound, TooLong, Unavailable
from app.jobs import Policy
from models import Batch, BatchChunk, BatchItem, BatchMinute, Job, Note, Resource, Run
from schemas.batch import BatchFormat
from schemas.note import ChartNote

COUNTS = ("new", "corrected", "known", "refused", "done", "failed", "cancelled", "open")


def counts(database: Database, batch_id: UUID) -> dict[str, int]:
    found = status(database, batch_id)
    return {name: found[name] for name in COUNTS if found[name]}


def count(database: Database, model: Any, **where: Any) -> int:
    with database.session_scope() as session:
        return session.scalar(select(func.count()).select_from(model).filter_by(**where)) or 0


def ledger(database: Database, batch_id: UUID, *, errors: bool = False) -> list[dict[str, Any]]:
    return list(batch_runs.every_item(database, batch_id, errors=errors))


def steer(database: Database, what: Any, batch_id: UUID) -> Any:
    with database.session_scope() as session:
        return what(session, batch_id)


# --- taking in --------------------------------------------------------------------------------------------------------


def test_the_input_is_stored_whole_and_can_be_sought(fresh_database: Database) -> None:
    content = bytes(range(256)) * 10_000
    batch_id = send(fresh_database, content)
    found = status(fresh_database, batch_id)
    assert (found["state"], found["bytes"], len(found["sha256"])) == ("running", len(content), 64)
    assert count(fresh_database, BatchChunk) == -(-len(content) // CHUNK_BYTES)
    file = stored_input(fresh_database, batch_id, len(content))
    assert file.read() == content
    for start in (CHUNK_BYTES - 3, 0, len(content) - 5, 2 * CHUNK_BYTES):
        file.seek(start)
        assert file.read(9) == content[start : start + 9]


def test_nothing_is_kept_of_an_input_that_cannot_be(fresh_database: Database) -> None:
    with pytest.raises(TooLong, match="BATCH_MAX_BYTES"):
        send(fresh_database, b"x" * 2_000_000, max_bytes=1_500_000)
    with pytest.raises(InvalidInput, match="empty"):
        send(fresh_database, b"")
    with pytest.raises(InvalidInput, match="lacks the columns"):
        send(fresh_database, b"id,text\n", BatchFormat.CSV)
    with pytest.raises(InvalidInput, match="rate: "):
        send(fresh_database, ndjson([note(1)]), rate="fast")
    assert count(fresh_database, Batch) == count(fresh_database, BatchChunk) == 0


def test_a_full_disk_is_said_and_nothing_stays(fresh_database: Database) -> None:
    """The database itself answers as it does when its disk is full, at the second chunk."""
    full = """CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN IF NEW.number = 1 THEN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END IF; RETURN NEW; END $$;
        CREATE TRIGGER full_disk BEFORE INSERT ON batch_chunks FOR EACH ROW EXECUTE FUNCTION full_disk()"""
    with fresh_database.session_scope() as session:
        session.execute(text(full))
    with pytest.raises(Unavailable, match="disk of the database is full"):
        send(fresh_database, b"x\n" * CHUNK_BYTES)
    assert count(fresh_database, Batch) == count(fresh_database, BatchChunk) == 0


# --- feeding ----------------------------------------------------------------------------------------------------------


def test_a_batch_runs_through_a_window_at_a_time(fresh_database: Database, tmp_path: Path) -> None:
    lines = [note(number) for number in range(40)]
    lines[7] |= {"text": ""}
    lines[20] |= {"department": "broken"}
    batch_id = send(fresh_database, ndjson(lines))
    feeding = feeder(fresh_database, tmp_path, window=15)
    most = 0
    for _ in range(100):
        moved = feeding.tick()
        with fresh_database.session_scope() as session:
            most = max(most, session.scalar(select(func.count()).where(Job.state == "queued")) or 0)
        if not work(fresh_database) and not moved:
            break
    assert most == 15, "no more than the window waits"
    assert counts(fresh_database, batch_id) == {"new": 39, "refused": 1, "done": 38, "failed": 1}
    found = status(fresh_database, batch_id)
    assert (found["state"], found["total"], found["read"]) == ("done", 40, 40)
    assert "look at the ledger" in found["next"]
    assert count(fresh_database, BatchChunk) == 0, "the input is not kept"
    rows = ledger(fresh_database, batch_id)
    assert [row["position"] for row in rows] == list(range(1, 41))
    assert (rows[0]["state"], rows[0]["statements"], rows[0]["resources"], rows[0]["issues"], rows[0]["uncoded"]) == (
        "done", 1, 2, 1, 1,
    )  # fmt: skip
    assert [(row["place"], row["state"], row["error"]) for row in ledger(fresh_database, batch_id, errors=True)] == [
        ("line 8", "refused", "text: is empty"), ("line 21", "failed", "ValueError"),
    ]  # fmt: skip
    assert "検査" not in json.dumps(rows, default=str, ensure_ascii=False)
    with fresh_database.session_scope() as session:
        assert session.scalar(select(func.sum(BatchMinute.ended))) == 39
        assert session.scalar(select(func.max(Job.priority))) == session.scalar(select(func.min(Job.priority))) == jobs.BATCH


def test_what_was_sent_before_is_known_by_its_content(fresh_database: Database, tmp_path: Path) -> None:
    feeding = feeder(fresh_database, tmp_path)
    with fresh_database.session_scope() as session:
        jobs.submit(session, ChartNote.model_validate(note(0)), "emr")
    lines = [note(number) for number in range(10)]
    first = send(fresh_database, ndjson([*lines, lines[3], note(4, text="訂正。")]))
    run_through(fresh_database, feeding)
    assert counts(fresh_database, first) == {"new": 9, "known": 2, "corrected": 1, "done": 12}
    before = count(fresh_database, Job)
    again = send(fresh_database, ndjson([*lines, note(4, text="訂正。")]))
    run_through(fresh_database, feeding)
    assert counts(fresh_database, again) == {"known": 11, "done": 11}
    assert count(fresh_database, Job) == before == 11, "the same batch makes no new job"
    other = send(fresh_database, ndjson(lines[:2]), source="another-emr")
    run_through(fresh_database, feeding)
    assert counts(fresh_database, other) == {"new": 2, "done": 2}
    by_content = {row["external_id"]: row["note_id"] for row in ledger(fresh_database, again) if row["position"] <= 10}
    assert by_content == {row["external_id"]: row["note_id"] for row in ledger(fresh_database, first) if row["position"] <= 10}


def test_a_known_note_without_a_result_is_tried_again(fresh_database: Database, tmp_path: Path) -> None:
    feeding = feeder(fresh_database, tmp_path)
    lines = ndjson(note(number, department="broken") for number in range(3))
    send(fresh_database, lines)
    run_through(fresh_database, feeding)
    again = send(fresh_database, lines)
    feeding.tick()
    work(fresh_database, convert)
    run_through(fresh_database, feeding)
    assert counts(fresh_database, again) == {"known": 3, "done": 3}
    assert count(fresh_database, Job) == 6


def test_two_feeders_store_each_entry_once(fresh_database: Database, tmp_path: Path) -> None:
    """One reads on from where the other was; one that was overtaken reads nothing twice."""
    batch_id = send(fresh_database, ndjson(note(number) for number in range(40)))
    both = [feeder(fresh_database, tmp_path, window=8) for _ in range(2)]
    for turn in range(16):
        both[turn % 2].tick()
        work(fresh_database)
    assert counts(fresh_database, batch_id) == {"new": 40, "done": 40}
    assert [row["external_id"] for row in ledger(fresh_database, batch_id)] == [f"n-{n}" for n in range(40)]
    # The lock of one keeps the other away altogether.
    send(fresh_database, ndjson([note(1)]))
    with fresh_database.engine.connect() as connection:
        connection.execute(select(func.pg_advisory_lock(FEED_LOCK)))
        assert both[1].tick() == 0
    assert both[1].tick() > 0


def test_a_transaction_that_fails_loses_and_doubles_nothing(fresh_database: Database, tmp_path: Path) -> None:
    batch_id = send(fresh_database, ndjson(note(number) for number in range(24)))
    with fresh_database.session_scope() as session:
        session.execute(text("""
            CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN IF NEW.position > 12 THEN RAISE EXCEPTION 'no' USING ERRCODE = 'disk_full'; END IF; RETURN NEW; END $$;
            CREATE TRIGGER broken BEFORE INSERT ON batch_items FOR EACH ROW EXECUTE FUNCTION broken()"""))  # fmt: skip
    feeding = feeder(fresh_database, tmp_path, window=8)
    for _ in range(3):
        feeding.tick()
        work(fresh_database)
    assert count(fresh_database, Note) == count(fresh_database, BatchItem) == status(fresh_database, batch_id)["read"] == 8
    with fresh_database.session_scope() as session:
        session.execute(text("DROP TRIGGER broken ON batch_items"))
    run_through(fresh_database, feeder(fresh_database, tmp_path))
    assert counts(fresh_database, batch_id) == {"new": 24, "done": 24}
    assert count(fresh_database, Note) == count(fresh_database, Run) == 24


def test_an_input_that_breaks_off_is_said_and_what_was_read_is_converted(fresh_database: Database, tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.txt", "発熱。")
    batch_id = send(fresh_database, out.getvalue(), BatchFormat.SSMIX2)
    run_through(fresh_database, feeder(fresh_database, tmp_path))
    found = status(fresh_database, batch_id)
    assert found["state"] == "failed" and "no SS-MIX2 storage" in found["reason"] and "mend it" in found["next"]


# --- steering ---------------------------------------------------------------------------------------------------------


def test_a_paused_batch_begins_nothing_and_goes_on(fresh_database: Database, tmp_path: Path) -> None:
    batch_id = send(fresh_database, ndjson(note(number) for number in range(20)))
    feeding = feeder(fresh_database, tmp_path, window=12)
    feeding.tick()
    sent: list[UUID] = []
    assert dispatch_tick(fresh_database, sent.append, Policy(window=5)) == 5
    work(fresh_database, limit=3)
    steer(fresh_database, batch_runs.pause, batch_id)
    assert work(fresh_database) == 0
    # Its messages take no room from others.
    with fresh_database.session_scope() as session:
        mine = jobs.submit(session, ChartNote.model_validate(note(999)), "emr").job_id
    sent.clear()
    assert dispatch_tick(fresh_database, sent.append, Policy(window=5)) == 1 and sent == [mine]
    assert work(fresh_database) == 1
    feeding.tick()
    assert counts(fresh_database, batch_id) == {"new": 12, "done": 3, "open": 9}, "what had ended is taken over"
    assert "resume it" in status(fresh_database, batch_id)["next"]
    steer(fresh_database, batch_runs.resume, batch_id)
    sent.clear()
    assert dispatch_tick(fresh_database, sent.append, Policy(window=50)) == 9, "its messages are sent anew at once"
    run_through(fresh_database, feeding)
    assert counts(fresh_database, batch_id) == {"new": 20, "done": 20}
    for what, reason in ((batch_runs.pause, "done"), (batch_runs.resume, "done"), (batch_runs.cancel, "done")):
        with pytest.raises(Conflict, match=f"is {reason}"):
            steer(fresh_database, what, batch_id)
    with pytest.raises(NotFound, match="batch list"):
        steer(fresh_database, batch_runs.pause, mine)


def test_cancel_ends_what_waits_and_the_rest_can_be_sent_again(fresh_database: Database, tmp_path: Path) -> None:
    lines = ndjson(note(number) for number in range(20))
    batch_id = send(fresh_database, lines)
    feeding = feeder(fresh_database, tmp_path, window=10)
    feeding.tick()
    work(fresh_database, limit=5)
    steer(fresh_database, batch_runs.cancel, batch_id)
    found = status(fresh_database, batch_id)
    assert counts(fresh_database, batch_id) == {"new": 10, "done": 5, "cancelled": 5}
    assert (found["state"], found["reason"]) == ("cancelled", "cancelled after 10 entries of the input")
    assert count(fresh_database, Job, state="queued") == count(fresh_database, BatchChunk) == 0
    feeding.tick()
    again = send(fresh_database, lines)
    run_through(fresh_database, feeding)
    assert counts(fresh_database, again) == {"known": 10, "new": 10, "done": 20}
    assert count(fresh_database, Run) == 20, "what was converted is not converted again"


def test_what_failed_is_tried_again_a_window_at_a_time(fresh_database: Database, tmp_path: Path) -> None:
    batch_id = send(fresh_database, ndjson(note(number, department="broken") for number in range(15)) + b"{\n")
    feeding = feeder(fresh_database, tmp_path, window=8)
    run_through(fresh_database, feeding)
    assert counts(fresh_database, batch_id) == {"new": 15, "failed": 15, "refused": 1}
    assert steer(fresh_database, batch_runs.retry_failed, batch_id) == 15
    assert status(fresh_database, batch_id)["state"] == "running"
    feeding.tick()
    assert count(fresh_database, Job, state="queued") == 8
    for _ in range(5):
        work(fresh_database, convert)
        feeding.tick()
    assert counts(fresh_database, batch_id) == {"new": 15, "done": 15, "refused": 1}
    assert status(fresh_database, batch_id)["state"] == "done"
    with pytest.raises(Conflict, match="nothing of batch"):
        steer(fresh_database, batch_runs.retry_failed, batch_id)


# --- rate and priority ------------------------------------------------------------------------------------------------


def test_a_rate_holds_the_feeder_back_and_its_hours_close_the_batch(fresh_database: Database, tmp_path: Path) -> None:
    batch_id = send(fresh_database, ndjson(note(number) for number in range(20)), rate="600/h")
    feeding = feeder(fresh_database, tmp_path)
    for _ in range(5):
        feeding.tick()
    assert status(fresh_database, batch_id)["read"] == 1
    # As if ten minutes had gone by: a minute's worth is made up for, no more.
    with fresh_database.session_scope() as session:
        session.execute(update(Batch).values(next_at=func.now() - text("interval '10 minutes'")))
    for _ in range(5):
        feeding.tick()
    assert 11 <= status(fresh_database, batch_id)["read"] <= 13
    with fresh_database.session_scope() as session:
        session.execute(update(Batch).values(rate="0/h"))
    feeding.tick()
    assert work(fresh_database) == 0, "at an hour without any rate nothing is begun"
    assert "its rate allows nothing" in status(fresh_database, batch_id)["next"]
    with fresh_database.session_scope() as session:
        session.execute(update(Batch).values(rate=None))
    run_through(fresh_database, feeding)
    assert counts(fresh_database, batch_id) == {"new": 20, "done": 20}


def test_a_person_s_note_goes_before_a_batch(fresh_database: Database, tmp_path: Path) -> None:
    send(fresh_database, ndjson(note(number) for number in range(30)))
    feeder(fresh_database, tmp_path).tick()
    with fresh_database.session_scope() as session:
        mine = jobs.submit(session, ChartNote.model_validate(note(999)), "emr").job_id
        batch_job = session.scalars(select(Job.id).where(Job.priority == jobs.BATCH).limit(1)).one()
    sent: list[UUID] = []
    dispatch_tick(fresh_database, sent.append, Policy(window=3))
    assert sent[0] == mine
    with fresh_database.session_scope() as session:
        claimed = jobs.claim_due(session, "w", Policy(), first=batch_job)
        assert claimed is not None and claimed.job_id == mine
    with fresh_database.session_scope() as session:
        due = "SELECT id FROM jobs WHERE state = 'queued' AND run_after <= now() ORDER BY priority, queued_at LIMIT 1"
        session.execute(text("SET LOCAL enable_seqscan = off"))
        plan = "\n".join(session.scalars(text(f"EXPLAIN {due}")))
    assert "ix_jobs_queued" in plan and "Sort" not in plan


def test_speed_and_end_are_told_without_counting(fresh_database: Database, tmp_path: Path) -> None:
    batch_id = send(fresh_database, ndjson(note(number) for number in range(20)))
    feeding = feeder(fresh_database, tmp_path, window=5)
    feeding.tick()
    work(fresh_database)
    feeding.tick()
    found = status(fresh_database, batch_id)
    assert found["notes_per_hour"] > 0 and found["ends_at"] is not None
    with fresh_database.session_scope() as session:
        session.execute(update(Batch).values(created_at=func.now() - text("interval '10 minutes'")))
        session.execute(update(BatchMinute).values(minute=BatchMinute.minute - text("interval '11 minutes'")))
    assert "is a worker running" in status(fresh_database, batch_id)["next"]


def test_a_thread_feeds_until_it_is_stopped_and_outlives_the_database(fresh_database: Database, tmp_path: Path) -> None:
    batch_id = send(fresh_database, ndjson(note(number) for number in range(10)))
    feeding: Feeder = feeder(fresh_database, tmp_path)
    feeding.start()
    try:
        deadline = time.monotonic() + 20
        while status(fresh_database, batch_id)["read"] < 10 and time.monotonic() < deadline:
            time.sleep(0.05)
        with fresh_database.session_scope() as session:
            kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            session.execute(text(kill))
        work(fresh_database)
        while status(fresh_database, batch_id)["state"] != "done" and time.monotonic() < deadline:
            time.sleep(0.05)
        assert counts(fresh_database, batch_id) == {"new": 10, "done": 10}
    finally:
        feeding.stop()


def test_what_was_left_behind_is_removed(fresh_database: Database, tmp_path: Path) -> None:
    """An upload that never ended, after a day; and a storage that a killed feeder had unpacked."""
    left = tmp_path / "batches" / "00000000-0000-4000-8000-000000000000"
    left.mkdir(parents=True)
    with fresh_database.session_scope() as session:
        for hours in (1, 25):
            made = func.now() - text(f"interval '{hours} hours'")
            session.add(Batch(name=f"{hours}", source="emr", format="ndjson", created_by="client:test", created_at=made))
    feeder(fresh_database, tmp_path).tick()
    with fresh_database.session_scope() as session:
        assert session.scalars(select(Batch.name)).all() == ["1"]
    assert not left.exists()


def test_purged_notes_leave_the_ledger(fresh_database: Database, tmp_path: Path) -> None:
    batch_id = send(fresh_database, ndjson(note(number) for number in range(5)))
    run_through(fresh_database, feeder(fresh_database, tmp_path))
    with fresh_database.session_scope() as session:
        session.execute(text("DELETE FROM notes WHERE external_id IN ('n-1', 'n-2')"))
    assert [row["external_id"] for row in ledger(fresh_database, batch_id)] == ["n-0", "n-3", "n-4"]
    assert count(fresh_database, Resource) > 0
