"""The starter terminology in a real Postgres."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select, update

from app.db import Database
from app.errors import Unavailable
from app.terminology.entries import starter_entries, starter_version
from app.terminology.importers import lexicon_from, load_starter
from app.terminology.matching import Lexicon
from models import CodeSystemRelease, Concept


def load(database: Database) -> bool:
    with database.session_scope() as session:
        return load_starter(session)


def count(database: Database, model: type[CodeSystemRelease | Concept]) -> int:
    with database.session_scope() as session:
        return session.scalar(select(func.count()).select_from(model)) or 0


def test_nothing_loaded_is_said(fresh_database: Database) -> None:
    with fresh_database.session_scope() as session, pytest.raises(Unavailable):
        lexicon_from(session)


def test_the_lexicon_of_the_database_is_that_of_the_tables(database: Database) -> None:
    assert load(database)
    with database.session_scope() as session:
        stored = lexicon_from(session)
    direct = Lexicon(starter_entries(), starter_version())
    assert stored.version == direct.version == starter_version()
    for entry in starter_entries():
        for name in entry.names:
            found, expected = stored.lookup(entry.kind, name), direct.lookup(entry.kind, name)
            assert found == expected and found is not None and expected is not None
            assert found.properties == expected.properties
    text = "2型糖尿病、HbA1c 7.2 %、アムロジピン錠5mg 1錠、卵アレルギー、HBs抗原(-)"
    assert stored.find_mentions(text) == direct.find_mentions(text) != []


def test_loading_again_changes_nothing(database: Database) -> None:
    load(database)
    before = count(database, Concept)
    assert not load(database)
    assert count(database, Concept) == before == len(starter_entries())


def test_another_version_is_replaced(fresh_database: Database) -> None:
    load(fresh_database)
    with fresh_database.session_scope() as session:
        session.execute(update(CodeSystemRelease).values(version="an older one"))
    assert load(fresh_database)
    assert count(fresh_database, CodeSystemRelease) == 1
    assert count(fresh_database, Concept) == len(starter_entries())


def test_an_import_that_fails_leaves_the_former_one(fresh_database: Database) -> None:
    load(fresh_database)
    with fresh_database.session_scope() as session:
        session.execute(update(CodeSystemRelease).values(version="an older one"))
    with pytest.raises(RuntimeError), fresh_database.session_scope() as session:
        load_starter(session)
        raise RuntimeError
    with fresh_database.session_scope() as session:
        assert lexicon_from(session).version == "an older one"


def test_two_imports_at_once_make_one_release(fresh_database: Database) -> None:
    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(lambda _: load(fresh_database), range(2))) == [False, True]
    assert count(fresh_database, CodeSystemRelease) == 1
