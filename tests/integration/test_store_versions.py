"""Versions of stored resources, and who sees which; rules of https://hl7.org/fhir/R4/http.html, on a real Postgres."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from alembic import command
from alembic.config import Config
from reviewed_notes import CONDITION, READ, convert_again, items_of, stored
from reviewing import STANDARD
from sign_in import principal
from sqlalchemy import delete, func, select, text
from typer.testing import CliRunner

from app import fhir, releases, reviews
from app.cli import app
from app.db import MIGRATIONS, Database, migrate
from app.errors import Conflict, Gone, InvalidInput, NotFound, Stale
from app.store import index, search, versions
from app.store.versions import Version
from models import Note, Resource, SearchEntry
from schemas.access import Principal, Role
from schemas.review import Verdict

WHO = principal(scopes=["system/*.cruds"], name="emr")
REVIEWER = principal(Role.REVIEWER)


def basic(**more: Any) -> dict[str, Any]:
    return {"resourceType": "Basic", "code": {"text": "x"}, **more}


def found(database: Database, type_: str, who: Principal = WHO, **asked: str) -> list[Version]:
    with database.session_scope() as session:
        return search.search(session, search.parse(type_, list(asked.items()), strict=True), who).matches


# --- rules 1, 2, 5, 10, 48: what clients write ----------------------------------------------------------------------------


def test_rule_1_a_create_takes_no_id_version_or_instant_of_the_client(database: Database) -> None:
    meta = {"versionId": "9", "lastUpdated": "1999-01-01T00:00:00Z", "tag": [{"system": "urn:t", "code": "a"}, index.DRAFT_TAG]}
    with database.session_scope() as session:
        made = versions.create(session, basic(id="mine", meta=meta), WHO)
        now = session.scalar(select(func.now()))
    assert made.id != "mine" and UUID(made.id) and (made.version, made.method, made.released) == (1, "POST", True)
    assert made.last_updated == now and made.content is not None
    served = made.served()
    assert served["id"] == made.id and served["meta"]["versionId"] == "1" and served["meta"]["tag"] == meta["tag"][:1]
    assert served["meta"]["lastUpdated"] == versions.instant(made.last_updated)


def test_rule_2_every_version_can_be_read_and_rule_5_a_client_may_choose_the_id(database: Database) -> None:
    with database.session_scope() as session:
        first, created = versions.update(session, "Basic", "own-1", basic(), WHO)
        assert (first.version, first.method, created) == (1, "PUT", True)
    with database.session_scope() as session:
        second, created = versions.update(session, "Basic", "own-1", basic(language="ja"), WHO)
        assert (second.version, created) == (2, False)
    with database.session_scope() as session:
        assert versions.read(session, "Basic", "own-1", WHO) == second
        assert versions.read_version(session, "Basic", "own-1", 1, WHO).content == first.content
        for version in (0, 3):
            with pytest.raises(NotFound):
                versions.read_version(session, "Basic", "own-1", version, WHO)
        with pytest.raises(NotFound):
            versions.read(session, "Basic", "never", WHO)
        with pytest.raises(Conflict):
            versions.create(session, basic(), WHO, id_="own-1")
    for id_, content in (("a/b", basic()), ("x" * 65, basic()), ("", basic()), ("ok", {"resourceType": "Bundle"})):
        with pytest.raises(InvalidInput), database.session_scope() as session:
            versions.update(session, "Basic", id_, content, WHO)
    with pytest.raises(InvalidInput, match="SUBSETTED"), database.session_scope() as session:
        versions.update(session, "Basic", "own-1", basic(meta={"tag": [versions.SUBSETTED]}), WHO)


def test_rule_3_a_stale_version_changes_nothing(database: Database) -> None:
    with database.session_scope() as session:
        versions.update(session, "Basic", "own-2", basic(), WHO)
    for match in (0, 2):
        with pytest.raises(Stale), database.session_scope() as session:
            versions.update(session, "Basic", "own-2", basic(), WHO, if_match=match)
        with pytest.raises(Stale), database.session_scope() as session:
            versions.remove(session, "Basic", "own-2", WHO, if_match=match)
    with pytest.raises(Stale), database.session_scope() as session:
        versions.update(session, "Basic", "not-there", basic(), WHO, if_match=1)
    with database.session_scope() as session:
        assert versions.update(session, "Basic", "own-2", basic(), WHO, if_match=1)[0].version == 2


def test_rule_10_deleted_is_gone_and_comes_back(database: Database) -> None:
    with database.session_scope() as session:
        versions.update(session, "Basic", "own-3", basic(identifier=[{"value": "own-3"}]), WHO)
    assert len(found(database, "Basic", identifier="own-3")) == 1
    with database.session_scope() as session:
        gone = versions.remove(session, "Basic", "own-3", WHO)
        assert gone is not None and (gone.version, gone.method, gone.content) == (2, "DELETE", None)
    with database.session_scope() as session:
        assert versions.remove(session, "Basic", "own-3", WHO) is None
        assert versions.remove(session, "Basic", "never", WHO) is None
        with pytest.raises(Gone):
            versions.read(session, "Basic", "own-3", WHO)
        with pytest.raises(Gone):
            versions.read_version(session, "Basic", "own-3", 2, WHO)
        assert versions.read_version(session, "Basic", "own-3", 1, WHO).content is not None
        told = versions.history(session, WHO, type_="Basic", id_="own-3")
        assert [(one.version, one.content is None) for one in told.entries] == [(2, True), (1, False)]
    assert found(database, "Basic", identifier="own-3") == []
    with database.session_scope() as session:
        back, created = versions.update(session, "Basic", "own-3", basic(identifier=[{"value": "own-3"}]), WHO)
        assert (back.version, created) == (3, True)
    assert len(found(database, "Basic", identifier="own-3")) == 1


def test_rule_48_digits_stay_in_every_version_and_search(database: Database) -> None:
    with database.session_scope() as session:
        sent = '{"resourceType": "Observation", "valueQuantity": {"value": 1.10}, "component": [{"valueQuantity": {"value": 100}}]}'
        made = versions.create(session, fhir.loads(sent.encode()), WHO)
    with database.session_scope() as session:
        read = versions.read(session, "Observation", made.id, WHO)
    for version in (made, read, *found(database, "Observation", _id=made.id)):
        assert '"value":1.10' in fhir.dumps(version.served()).replace(" ", "")


def test_two_writers_of_one_resource_make_two_versions(database: Database) -> None:
    barrier = threading.Barrier(4)

    def write(n: int) -> int:
        barrier.wait()
        with database.session_scope() as session:
            return versions.update(session, "Basic", "shared", basic(language=f"x-{n}"), WHO)[0].version

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(write, range(4))) == [1, 2, 3, 4]
    entries = found(database, "Basic", _id="shared")
    assert [one.version for one in entries] == [4]


# --- history --------------------------------------------------------------------------------------------------------------


def test_history_is_newest_first_in_pages_and_since_an_instant(fresh_database: Database) -> None:
    made: list[Version] = []
    for n in range(5):
        with fresh_database.session_scope() as session:
            made.append(versions.update(session, "Basic" if n % 2 else "Group", f"h{n}", {"resourceType": "Basic" if n % 2 else "Group"}, WHO)[0])
    with fresh_database.session_scope() as session:
        told, cursor = [], None
        while True:
            history = versions.history(session, WHO, count=2, cursor=cursor)
            assert history.total == 5
            told += history.entries
            cursor = history.next
            if cursor is None:
                break
        assert [one.id for one in told] == ["h4", "h3", "h2", "h1", "h0"]
        assert [one.id for one in versions.history(session, WHO, type_="Basic").entries] == ["h3", "h1"]
        since = versions.history(session, WHO, since=made[3].last_updated)
        assert [one.id for one in since.entries] == ["h4", "h3"]
        assert versions.history(session, WHO, count=0) == versions.History([], 5, None)
        later = versions.history(session, WHO, type_="Basic", id_="h1", since=made[4].last_updated + timedelta(days=1))
        assert later.entries == [] and later.total == 0
        assert [one.id for one in versions.history(session, principal(scopes=["system/Group.r"])).entries] == ["h4", "h2", "h0"]
        for cursor in ("x", "WyJoaXN0b3J5Il0", "é"):
            with pytest.raises(InvalidInput):
                versions.history(session, WHO, cursor=cursor)
        with pytest.raises(NotFound):
            versions.history(session, WHO, type_="Basic", id_="never")


# --- drafts ---------------------------------------------------------------------------------------------------------------


def conditions(database: Database, who: Principal) -> list[str]:
    return [f"{one.id}/{one.version}" for one in found(database, "Condition", who)]


def decide_all(database: Database, note_id: UUID, rejected: object = None) -> None:
    for item in items_of(database, note_id):
        verdict = Verdict.REJECT if item.read and item.read.statement == rejected else Verdict.ACCEPT
        with database.session_scope() as session:
            reviews.decide(session, item.id, verdict, by="dr", version=item.version)


def release(database: Database, note_id: UUID) -> None:
    with database.session_scope() as session:
        releases.release(session, note_id, reviews.get_review(session, note_id).run_id, by="dr", standard=STANDARD)


def test_drafts_are_shown_to_those_alone_who_may_see_them(fresh_database: Database) -> None:
    note_id = stored(fresh_database)
    (draft,) = found(fresh_database, "Condition", REVIEWER)
    assert (draft.released, draft.made_from_note) == (False, True)
    assert index.DRAFT_TAG in draft.served()["meta"]["tag"]
    assert len(found(fresh_database, "Condition", REVIEWER, _tag=f"{index.RELEASE_SYSTEM}|draft")) == 1
    assert found(fresh_database, "Condition", WHO) == [] and found(fresh_database, "Patient", WHO) == []
    with fresh_database.session_scope() as session:
        assert versions.read(session, "Condition", draft.id, REVIEWER).version == 1
        for attempt in (versions.read, versions.read_version):
            with pytest.raises(NotFound):
                attempt(session, "Condition", draft.id, *(() if attempt is versions.read else (1,)), WHO)  # type: ignore[operator]
        with pytest.raises(NotFound):
            versions.history(session, WHO, type_="Condition", id_=draft.id)
        assert versions.history(session, WHO).total == 0
    decide_all(fresh_database, note_id)
    release(fresh_database, note_id)
    (final,) = found(fresh_database, "Condition", WHO)
    assert (final.id, final.version, final.released) == (draft.id, 1, True)
    assert "tag" not in final.served()["meta"] and final.last_updated > draft.last_updated
    assert found(fresh_database, "Condition", WHO, _lastUpdated=f"gt{versions.instant(draft.last_updated)}") == [final]
    assert found(fresh_database, "Condition", REVIEWER, _tag=f"{index.RELEASE_SYSTEM}|draft") == []
    # Whom and what the note is about is released with it.
    assert len(found(fresh_database, "Patient", WHO)) == len(found(fresh_database, "DocumentReference", WHO)) == 1


def test_what_was_rejected_stays_a_draft(fresh_database: Database) -> None:
    note_id = stored(fresh_database)
    decide_all(fresh_database, note_id, rejected=CONDITION)
    release(fresh_database, note_id)
    assert found(fresh_database, "Condition", WHO) == []
    assert len(found(fresh_database, "AllergyIntolerance", WHO)) == 1


def test_a_faulty_resource_is_never_shown(fresh_database: Database) -> None:
    stored(fresh_database, faulty=["Condition"])
    assert found(fresh_database, "Condition", REVIEWER) == []
    with fresh_database.session_scope() as session:
        id_ = session.scalars(select(Resource.id).where(Resource.type == "Condition")).one()
        with pytest.raises(NotFound, match="held back"):
            versions.read(session, "Condition", id_, REVIEWER)
        with pytest.raises(NotFound, match="no such resource"):
            versions.read(session, "Condition", id_, WHO)


def test_a_note_converted_again_has_the_new_drafts_alone_and_the_released_ones(fresh_database: Database) -> None:
    note_id = stored(fresh_database, statements=[*READ])
    decide_all(fresh_database, note_id)
    release(fresh_database, note_id)
    other = stored(fresh_database, statements=[CONDITION])
    with fresh_database.session_scope() as session:  # as if its first result had said something that the next one does not
        run_id = reviews.get_review(session, other).run_id
        content = {"resourceType": "Condition", "id": "former"}
        row = session.scalars(select(Resource).where(Resource.run_id == run_id).limit(1)).one()
        session.add(Resource(
            type="Condition", id="former", version=1, note_id=other, job_id=row.job_id, run_id=run_id, ordinal=9, patient_id="x",
            content=content,
        ))  # fmt: skip
        session.flush()
        index.renew(session, [("Condition", "former")])
    assert "former/1" in conditions(fresh_database, REVIEWER)
    before = conditions(fresh_database, WHO)
    for id_ in (note_id, other):
        convert_again(fresh_database, id_)
    assert "former/1" not in conditions(fresh_database, REVIEWER)
    assert conditions(fresh_database, WHO) == before  # a new draft takes nothing from what was released
    newest = found(fresh_database, "Condition", REVIEWER)
    assert {one.version for one in newest} == {2} and not any(one.released for one in newest)


def test_a_client_changes_nothing_that_was_made_from_a_note(fresh_database: Database) -> None:
    stored(fresh_database)
    (draft,) = found(fresh_database, "Condition", REVIEWER)
    for attempt in (
        lambda s: versions.update(s, "Condition", draft.id, {"resourceType": "Condition"}, WHO),
        lambda s: versions.remove(s, "Condition", draft.id, WHO),
    ):
        with pytest.raises(Conflict, match="made from a note"), fresh_database.session_scope() as session:
            attempt(session)


# --- the index ------------------------------------------------------------------------------------------------------------


def rows(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of the index, without the keys of their entries."""
    told: dict[str, list[tuple[Any, ...]]] = {}
    with database.session_scope() as session:
        entries = "SELECT type, id, version, last_updated, released, newest, patient, dated_from::text, dated_until::text FROM search_entries"
        told["search_entries"] = sorted(map(tuple, session.execute(text(entries))), key=repr)
        for table, columns in index.VALUE_COLUMNS.items():
            named = ", ".join(f"v.{name}::text" for name in columns if name != "entry")
            query = f"SELECT e.type, e.id, e.version, {named} FROM {table} v JOIN search_entries e ON e.key = v.entry"
            told[table] = sorted(map(tuple, session.execute(text(query))), key=repr)
    return told


def test_what_was_stored_before_is_indexed_as_what_is_written_now(fresh_database: Database) -> None:
    for n in range(2):
        note_id = stored(fresh_database)
        if n:
            decide_all(fresh_database, note_id)
            release(fresh_database, note_id)
    with fresh_database.session_scope() as session:
        versions.create(session, {"resourceType": "Observation", "valueQuantity": {"value": Decimal("1.10")}}, WHO)
        versions.update(session, "Basic", "gone", basic(), WHO)
        versions.remove(session, "Basic", "gone", WHO)
    before = rows(fresh_database)
    assert all(before[name] for name in ("search_entries", "search_tokens", "search_references", "search_strings"))
    with fresh_database.session_scope() as session:
        session.execute(delete(SearchEntry))
        index.forget(session)
        waiting = index.behind(session)
        assert waiting == session.scalar(select(func.count()).select_from(Resource))
    told: list[int] = []
    stopped = iter([False, True])
    assert not index.catch_up(fresh_database, stopping=lambda: next(stopped), told=told.append)
    assert index.catch_up(fresh_database, told=told.append) and sum(told) > 10
    with fresh_database.session_scope() as session:
        assert index.behind(session) == 0
    assert rows(fresh_database) == before


def test_rows_go_with_what_they_are_of(fresh_database: Database) -> None:
    note_id = stored(fresh_database)
    with fresh_database.session_scope() as session:
        session.execute(delete(Note).where(Note.id == note_id))
    assert not any(rows(fresh_database).values())


def test_one_process_at_a_time_catches_up(fresh_database: Database) -> None:
    with fresh_database.session_scope() as session:
        session.execute(select(func.pg_advisory_xact_lock(index.INDEX_LOCK)))
        assert not index.catch_up(fresh_database)
    assert index.catch_up(fresh_database)


def test_reindex_makes_everything_anew(fresh_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(fresh_database)
    before = rows(fresh_database)
    with fresh_database.session_scope() as session:
        session.execute(text("TRUNCATE search_tokens"))
    monkeypatch.setenv("DATABASE_URL", fresh_database.url)
    runner = CliRunner()
    nothing = runner.invoke(app, ["reindex"])
    assert (nothing.exit_code, nothing.stdout) == (0, "0 versions indexed\n")
    assert rows(fresh_database) != before
    everything = runner.invoke(app, ["reindex", "--all"])
    assert everything.exit_code == 0 and rows(fresh_database) == before
    with fresh_database.session_scope() as session:
        session.execute(select(func.pg_advisory_xact_lock(index.INDEX_LOCK)))
        assert runner.invoke(app, ["reindex"]).exit_code == 1


def test_a_former_version_has_no_place_for_what_clients_wrote(fresh_database: Database) -> None:
    stored(fresh_database)
    with fresh_database.session_scope() as session:
        versions.update(session, "Basic", "own", basic(), WHO)
        versions.remove(session, "Basic", "own", WHO)
        kept = session.scalar(select(func.count()).select_from(Resource).where(Resource.note_id.is_not(None)))
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["database_url"] = fresh_database.url
    command.downgrade(config, "0008")
    with fresh_database.session_scope() as session:
        assert session.scalar(text("SELECT count(*) FROM resources")) == kept
    migrate(fresh_database.url)
    with fresh_database.session_scope() as session:
        assert index.behind(session) == kept
    assert index.catch_up(fresh_database) and len(found(fresh_database, "Condition", REVIEWER)) == 1
