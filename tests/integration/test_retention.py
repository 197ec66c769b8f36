"""What a purge deletes, what it leaves, and what it asks for first."""

from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from reviewed_notes import convert_again, items_of, stored
from reviewing import STANDARD
from sample_conversion import make_note
from sqlalchemy import text

from app import jobs, releases, retention, reviews
from app.db import Database
from app.errors import Conflict
from app.retention import Old
from schemas.note import ChartNote
from schemas.review import Verdict

YEAR = Old(timedelta(days=365))


def age(database: Database, *notes: UUID, days: int = 400) -> None:
    with database.session_scope() as session:
        session.execute(
            text("UPDATE notes SET received_at = now() - make_interval(days => :days) WHERE id = ANY(:ids)"),
            {"ids": list(notes), "days": days},
        )


def decide(database: Database, note_id: UUID, *, release: bool, verdict: Verdict = Verdict.ACCEPT) -> None:
    for item in items_of(database, note_id):
        with database.session_scope() as session:
            reviews.decide(session, item.id, verdict, by="dr-1", version=item.version)
    if release:
        with database.session_scope() as session:
            run_id = reviews.get_review(session, note_id).run_id
            releases.release(session, note_id, run_id, by="dr-1", standard=STANDARD)


def counted(database: Database, old: Old = YEAR) -> retention.Found:
    with database.session_scope() as session:
        return retention.find(session, old)


def left(database: Database, table: str) -> int:
    with database.session_scope() as session:
        return int(session.scalar(text(f"SELECT count(*) FROM {table}")) or 0)


def purge(database: Database, old: Old = YEAR, **options: Any) -> retention.Purged:
    return retention.purge(database, old, by="os:test", **options)


def test_what_needs_a_word_is_counted_and_refused_without_it(fresh_database: Database) -> None:
    undecided, rejected, released = (stored(fresh_database) for _ in range(3))
    decide(fresh_database, rejected, release=False, verdict=Verdict.REJECT)
    decide(fresh_database, released, release=True)
    waiting = stored(fresh_database, finished=False)
    young = stored(fresh_database)
    age(fresh_database, undecided, rejected, released, waiting)
    assert counted(fresh_database) == retention.Found(notes=3, open=1, undecided=1, released=1)
    for options, reason in (({}, "--force.*--with-resources"), ({"force": True}, "released"), ({"with_resources": True}, "decided")):
        with pytest.raises(Conflict, match=reason):
            purge(fresh_database, **options)
    assert left(fresh_database, "notes") == 5
    assert purge(fresh_database, force=True, with_resources=True).notes == 3
    with fresh_database.session_scope() as session:
        assert set(session.scalars(text("SELECT id FROM notes"))) == {waiting, young}
    assert counted(fresh_database) == retention.Found(notes=0, open=1, undecided=0, released=0)


def test_everything_of_a_note_goes_and_the_audit_log_stays(fresh_database: Database) -> None:
    gone = stored(fresh_database)
    age(fresh_database, gone)
    before = left(fresh_database, "audit_events")
    purge(fresh_database, force=True)
    for table in ("notes", "jobs", "runs", "statements", "resources", "issues", "ssmix2_messages", "note_reviews", "reviews",
                  "search_entries"):  # fmt: skip
        assert left(fresh_database, table) == 0, table
    with fresh_database.session_scope() as session:
        told = session.execute(text("SELECT outcome FROM audit_events WHERE action = 'purge' ORDER BY id")).scalars().all()
    assert told == ["begun", "success"] and left(fresh_database, "audit_events") == before + 2


def test_one_source_or_one_patient_at_a_time(fresh_database: Database) -> None:
    def note(patient: str) -> ChartNote:
        made = make_note()
        return made.model_copy(update={"patient": made.patient.model_copy(update={"id": patient})})

    with fresh_database.session_scope() as session:
        made = [
            jobs.submit(session, note(patient), source) for source, patient in (("a", "1"), ("a", "2"), ("b", "1"))
        ]
        session.execute(text("UPDATE jobs SET state = 'cancelled', finished_at = now()"))
    age(fresh_database, *(one.note_id for one in made))
    assert purge(fresh_database, Old(timedelta(days=365), "a", "1")).notes == 1
    assert purge(fresh_database, Old(timedelta(days=500))).notes == 0
    assert purge(fresh_database, Old(timedelta(days=365), "a")).notes == 1
    assert left(fresh_database, "notes") == 1


def test_a_patient_that_a_younger_note_tells_of_is_found_afterwards(fresh_database: Database) -> None:
    """The newest version of the Patient goes with its note; searches find the one before."""
    young, old = stored(fresh_database), stored(fresh_database)
    convert_again(fresh_database, old)
    age(fresh_database, old)
    purge(fresh_database, force=True)
    with fresh_database.session_scope() as session:
        of_young = session.scalars(text("SELECT id FROM resources WHERE type = 'Patient' AND note_id = :n"), {"n": young}).one()
        found = session.execute(text("SELECT id, version, newest FROM search_entries WHERE type = 'Patient'")).all()
    assert [tuple(row) for row in found] == [(of_young, 1, True)]


def test_a_purge_that_was_cut_off_is_gone_on_with(fresh_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "CHUNK", 2)
    with fresh_database.session_scope() as session:
        made = [jobs.submit(session, make_note(), "emr").note_id for _ in range(5)]
        session.execute(text("UPDATE jobs SET state = 'cancelled', finished_at = now()"))
    age(fresh_database, *made)

    def cut(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        purge(fresh_database, progress=cut)
    assert left(fresh_database, "notes") == 3
    assert purge(fresh_database).notes == 3


def test_what_has_ended_goes_with_every_purge(fresh_database: Database) -> None:
    from sign_in import token

    token(fresh_database)
    with fresh_database.session_scope() as session:
        session.execute(text("UPDATE access_tokens SET created_at = now() - interval '2 days', expires_at = now() - interval '1 day'"))
    token_now = left(fresh_database, "access_tokens")
    assert purge(fresh_database).expired == token_now == 1
    assert left(fresh_database, "access_tokens") == 0


def test_the_command_counts_first_and_needs_an_age(
    fresh_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from app.cli import app as command_line

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", fresh_database.url)
    age(fresh_database, stored(fresh_database))
    told = CliRunner().invoke(command_line, ["purge"])
    assert told.exit_code == 1 and "NOTE_RETENTION_DAYS" in str(told.exception)
    monkeypatch.setenv("NOTE_RETENTION_DAYS", "365")
    told = CliRunner().invoke(command_line, ["purge", "--dry-run"])
    assert told.exit_code == 0 and "1 notes; of them 1 with undecided" in told.output
    assert left(fresh_database, "notes") == 1
    told = CliRunner().invoke(command_line, ["purge", "--older-than", "365d", "--force"])
    assert told.exit_code == 0 and "deleted: 1 notes" in told.output
    assert left(fresh_database, "notes") == 0
