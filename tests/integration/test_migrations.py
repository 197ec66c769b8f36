"""A database of the former version, with what it holds, taken to this one and back."""

from uuid import uuid4

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, ProgrammingError

from app.commands import explain
from app.db import MIGRATIONS, Database, migrate
from app.terminology.importers import lexicon_from, list_releases, load_starter
from schemas.statement import Kind

RELEASE = str(uuid4())
FORMER = f"""
INSERT INTO notes (id, source, external_id, content_sha256, document_type, department, note_date, patient_id, patient_family,
    patient_given, patient_sex, patient_birth_date, text)
VALUES ('{uuid4()}', 'emr', 'n1', repeat('0', 64), 'progress', '内科', '2026-04-01', '1000001', '見本', '太郎', 'male',
    '1950-01-02', '肺炎。');
INSERT INTO code_system_releases (id, system, version, state, fingerprint)
VALUES ('{RELEASE}', 'urn:hyojun:starter', 'former', 'ready', 'former');
INSERT INTO concepts (release_id, code, display, kana, properties, search_text)
SELECT '{RELEASE}', 'J18.9', '肺炎', 'ハイエン',
    '{{"kind": "condition", "names": ["肺炎"], "codings": [], "facts": {{}}}}', '肺炎' FROM generate_series(1, 3);
"""


def downgrade(url: str, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["database_url"] = url
    command.downgrade(config, revision)


@pytest.fixture
def former(empty_database_url: str) -> Database:
    migrate(empty_database_url, "0002")
    database = Database(empty_database_url)
    with database.session_scope() as session:
        session.execute(text(FORMER))
    return database


def columns(database: Database) -> set[tuple[str, str, str]]:
    query = "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public'"
    indexes = "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
    with database.session_scope() as session:
        return {tuple(row) for row in [*session.execute(text(query)), *session.execute(text(indexes))]}


def test_a_former_database_comes_up_and_goes_back(former: Database) -> None:
    before = columns(former)
    migrate(former.url)
    with former.session_scope() as session:
        row = session.execute(text("SELECT kind, active, concepts FROM code_system_releases")).one()
        assert tuple(row) == ("starter", True, 3)
        assert session.scalars(text("SELECT DISTINCT folded FROM concepts")).all() == ["肺炎 はいえん"]
        assert len(lexicon_from(session).entries(Kind.CONDITION)) > 0
    with former.session_scope() as session:
        assert load_starter(session)  # the tables of this version take the place of the former ones
    with former.session_scope() as session:
        # A master with a concept that the former index could not hold.
        session.execute(text(
            "INSERT INTO code_system_releases (id, system, version, state, fingerprint, kind, active)"
            " VALUES (gen_random_uuid(), 'urn:x', '1', 'ready', 'x', 'index', true)"
        ))  # fmt: skip
        names = "(SELECT string_agg(md5(i::text), ' ') FROM generate_series(1, 3000) i)"
        session.execute(text(
            "INSERT INTO concepts (release_id, code, display, search_text)"
            f" SELECT id, '1', 'x', {names} FROM code_system_releases WHERE system = 'urn:x'"
        ))  # fmt: skip
    downgrade(former.url, "0002")
    assert columns(former) == before
    with former.session_scope() as session:
        assert session.scalars(text("SELECT DISTINCT system FROM code_system_releases")).all() == ["urn:hyojun:starter"]
        assert session.scalar(text("SELECT text FROM notes")) == "肺炎。"
    migrate(former.url)
    former.dispose()


def test_two_releases_of_which_one_was_never_finished(former: Database) -> None:
    """What a killed import of the former version may have left is not in use after the upgrade."""
    with former.session_scope() as session:
        session.execute(text(
            "INSERT INTO code_system_releases (id, system, version, fingerprint)"
            " VALUES (gen_random_uuid(), 'urn:hyojun:starter', 'cut', 'cut')"
        ))  # fmt: skip
    migrate(former.url)
    with former.session_scope() as session:
        active = session.scalars(text("SELECT version FROM code_system_releases WHERE active")).all()
    assert active == ["former"]
    former.dispose()


def test_a_database_without_tables_or_with_former_ones_says_what_to_do(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    for revision in (None, "0002"):
        if revision:
            migrate(empty_database_url, revision)
        with pytest.raises(ProgrammingError) as raised:
            list_releases(database)
        assert "hyojun migrate" in (explain(raised.value) or "")
    migrate(empty_database_url)
    assert list_releases(database) == []
    with pytest.raises(IntegrityError) as refused, database.session_scope() as session:
        session.execute(text("INSERT INTO concepts (release_id, code, display, search_text)"
                             " VALUES (gen_random_uuid(), '1', '肺炎', '肺炎')"))  # fmt: skip
    assert explain(refused.value) is None  # its message quotes the row
    database.dispose()
