"""A backup, and the database that comes out of it."""

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from reviewed_notes import stored
from sample_conversion import convert, make_note
from sqlalchemy import text

from app import audit, jobs, results, running
from app.backup import DUMP, MANIFEST, back_up, restore
from app.db import Database
from app.errors import Conflict, InvalidInput
from app.fhir import collection, dumps
from app.jobs import Policy
from schemas.job import JobState
from schemas.review import AuditAction

ROOT = Path(__file__).parents[2]


@pytest.fixture
def backed_up(fresh_database: Database, tmp_path: Path) -> Path:
    """Of a database with a converted note and one that waits."""
    stored(fresh_database)
    with fresh_database.session_scope() as session:
        jobs.submit(session, make_note(), "emr")
    return back_up(fresh_database, tmp_path / "backups", by="os:test", models={"uc1": {"model": "0" * 16}})


@pytest.fixture
def other(empty_database_url: str) -> Iterator[Database]:
    database = Database(empty_database_url)
    yield database
    database.dispose()


def bundle(database: Database) -> str:
    with database.session_scope() as session:
        note_id = session.scalar(text("SELECT note_id FROM jobs WHERE state = 'done'"))
        assert isinstance(note_id, UUID)
        result = results.note_result(session, note_id)
    return dumps(collection(result.note, result.resources, timestamp=result.finished_at))


def open_job(database: Database) -> UUID:
    with database.session_scope() as session:
        return session.execute(text("SELECT id FROM jobs WHERE state = 'queued'")).scalar_one()


def test_what_was_backed_up_comes_out_and_goes_on(fresh_database: Database, other: Database, backed_up: Path) -> None:
    manifest = json.loads((backed_up / MANIFEST).read_text())
    assert manifest["counts"]["notes"] == 2 and manifest["models"] == {"uc1": {"model": "0" * 16}}
    # What happens after the snapshot is not in it.
    with fresh_database.session_scope() as session:
        jobs.submit(session, make_note(), "emr")
    found, verified = restore(backed_up, other.url, by="os:test")
    assert found.counts == manifest["counts"]
    assert verified.broken is None and str(verified.head) == manifest["audit_head"]
    assert bundle(other) == bundle(fresh_database)
    waiting = open_job(other)
    assert running.run(other, waiting, convert, worker="w", policy=Policy()) is JobState.DONE
    with other.session_scope() as session:
        assert session.scalar(text("SELECT count(*) FROM notes")) == 2
        told = session.execute(text("SELECT action, outcome, after FROM audit_events ORDER BY id")).all()
        assert ("restore", "success", manifest["sha256"]) in [tuple(row) for row in told]
        assert audit.verify(session).broken is None
    with pytest.raises(Conflict, match="not empty"):
        restore(backed_up, other.url, by="os:test")


def test_only_its_owner_can_read_a_backup_and_nothing_else_is_left(backed_up: Path) -> None:
    assert stat.S_IMODE(backed_up.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in backed_up.iterdir()} == {0o600}
    assert sorted(path.name for path in backed_up.iterdir()) == [DUMP, MANIFEST]
    assert list(backed_up.parent.iterdir()) == [backed_up]


def test_a_backup_is_told_before_and_after(fresh_database: Database, backed_up: Path) -> None:
    with fresh_database.session_scope() as session:
        told = session.execute(text("SELECT outcome, after FROM audit_events WHERE action = 'backup' ORDER BY id")).all()
    manifest = json.loads((backed_up / MANIFEST).read_text())
    assert [tuple(row) for row in told] == [("begun", None), ("success", manifest["sha256"])]


def test_a_damaged_or_foreign_backup_is_refused_and_nothing_is_restored(other: Database, backed_up: Path) -> None:
    dump, manifest = backed_up / DUMP, backed_up / MANIFEST
    whole, said = dump.read_bytes(), manifest.read_text()
    dump.write_bytes(whole[:-100] + bytes(100))
    with pytest.raises(InvalidInput, match="SHA-256"):
        restore(backed_up, other.url, by="os:test")
    dump.unlink()
    with pytest.raises(InvalidInput, match="missing"):
        restore(backed_up, other.url, by="os:test")
    dump.write_bytes(whole)
    for wrong, reason in (
        (said.replace('"revision": "', '"revision": "x'), "newer"),
        (said.replace('"format": 1', '"format": 9'), "form 9"),
        ("{", "cannot be read"),
    ):
        manifest.write_text(wrong)
        with pytest.raises(InvalidInput, match=reason):
            restore(backed_up, other.url, by="os:test")
    manifest.unlink()
    with pytest.raises(InvalidInput, match="no backup"):
        restore(backed_up, other.url, by="os:test")
    with other.session_scope() as session:
        assert session.scalar(text("SELECT to_regclass('notes')")) is None


def test_the_commands_keep_the_password_out_of_every_argument(
    fresh_database: Database, other: Database, tmp_path: Path
) -> None:
    """`hyojun backup` and `hyojun restore`, watched from outside while they run."""
    stored(fresh_database)
    kept = {key: value for key, value in os.environ.items() if key != "BROKER_URL"}
    command = [sys.executable, "-m", "app.cli"]

    def run(*arguments: str, **settings: str) -> tuple[int, str, set[str]]:
        environment = kept | {"PYTHONPATH": str(ROOT), "MODEL_PATH": str(tmp_path / "none.gguf")} | settings
        process = subprocess.Popen(
            [*command, *arguments], env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        seen: set[str] = set()
        while process.poll() is None:
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.add(path.read_text("utf-8", "replace"))
                except OSError:
                    continue
            time.sleep(0.03)
        assert process.stdout is not None
        return process.returncode, process.stdout.read(), seen

    status, out, seen = run("backup", "backups", DATABASE_URL=fresh_database.url)
    assert status == 0, out
    password = fresh_database.url.split(":")[2].split("@")[0]
    assert any("pg_dump" in line for line in seen) and not any(password in line for line in seen)
    folder = next((tmp_path / "backups").iterdir())
    status, out, seen = run("restore", str(folder), RESTORE_DATABASE_URL=other.url)
    assert status == 0 and "restored: 1 notes" in out, out
    assert not any(password in line for line in seen)


def test_the_command_that_verifies_says_which_row_is_broken(
    fresh_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from app.cli import app as command_line

    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(command_line, ["audit", *arguments])
        return done.exit_code, done.output

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", fresh_database.url)
    with fresh_database.session_scope() as session:
        audit.record_access(session, "client:emr", AuditAction.READ, type_="Patient", ids=["p-1"], patients=["p-1"])
    noted = run("head")[1].strip()
    assert run("verify") == (0, f"2 rows are as they were written\nhead {noted}\n")
    assert run("verify", "--head", noted)[0] == 0
    assert "client:emr" in run("list", "--patient", "p-1")[1]
    assert run("export", "--out", "events.ndjson", "--action", "read")[0] == 0
    exported = [json.loads(line) for line in (tmp_path / "events.ndjson").read_text().splitlines()]
    assert [event["resourceType"] for event in exported] == ["AuditEvent"]
    with fresh_database.session_scope() as session:
        session.execute(text("SET LOCAL session_replication_role = replica"))
        session.execute(text("UPDATE audit_events SET acted_by = 'x' WHERE id = 2"))
    status, out = run("verify", "--head", noted)
    assert status == 1 and "BROKEN at row 2: it was changed" in out and "1 rows before it" in out
