"""Releases of code masters in a real Postgres: import, crash, concurrency, the way back; and the lexicon of what is in use."""

import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import masters
import psycopg
import pytest
from sqlalchemy import func, select, text, update
from typer.testing import CliRunner

from app.db import Database, libpq_url
from app.errors import Conflict, InvalidInput, NotFound, Unavailable
from app.terminology.entries import Part, starter_entries, starter_version
from app.terminology.importers import (
    KINDS,
    STARTER_SYSTEM,
    Report,
    import_files,
    lexicon_from,
    list_releases,
    load_starter,
    remove_release,
    renewed,
    terminology_version,
    use_release,
)
from app.terminology.importers.releases import IMPORT_LOCK
from app.terminology.matching import Lexicon
from models import CodeSystemRelease, Concept, ImportState, LocalCode
from schemas import systems
from schemas.statement import Kind

TODAY = date(2025, 9, 1)
CLINS_PACKAGE = Path("fhir/packages/jp-eCSCLINS.r4#1.10.0-snap/package")


def load(database: Database) -> bool:
    with database.session_scope() as session:
        return load_starter(session)


def count(database: Database, model: type[CodeSystemRelease | Concept]) -> int:
    with database.session_scope() as session:
        return session.scalar(select(func.count()).select_from(model)) or 0


def file(tmp_path: Path, kind: str, data: bytes | None = None, name: str | None = None) -> Path:
    usual, small = masters.master(kind)
    path = tmp_path / (name or usual)
    path.write_bytes(small if data is None else data)
    return path


def run(database: Database, kind: str, *paths: Path, version: str | None = None, force: bool = True) -> Report:
    return import_files(database, kind, paths, version=version, force=force, today=TODAY)


def version_of(database: Database) -> str:
    with database.session_scope() as session:
        return terminology_version(session)


def active(database: Database) -> dict[str, str]:
    return {release.system: release.version for release in list_releases(database) if release.active}


# --- the starter tables ----------------------------------------------------------------------------------------------


def test_nothing_loaded_is_said(fresh_database: Database) -> None:
    with fresh_database.session_scope() as session, pytest.raises(Unavailable):
        lexicon_from(session)


def test_the_lexicon_of_the_database_is_that_of_the_tables(fresh_database: Database) -> None:
    assert load(fresh_database)
    with fresh_database.session_scope() as session:
        stored = lexicon_from(session)
        assert stored.version == terminology_version(session)
    direct = Lexicon(starter_entries(), starter_version())
    for entry in starter_entries():
        for name in entry.names:
            found, expected = stored.lookup(entry.kind, name), direct.lookup(entry.kind, name)
            assert found == expected
            assert found is None or expected is None or found.properties == expected.properties
    note = "2型糖尿病、HbA1c 7.2 %、アムロジピン錠5mg 1錠、卵アレルギー、HBs抗原(-)"
    assert stored.find_mentions(note) == direct.find_mentions(note) != []


def test_loading_again_changes_nothing(fresh_database: Database) -> None:
    assert load(fresh_database)
    before = version_of(fresh_database)
    assert not load(fresh_database)
    assert count(fresh_database, Concept) == len(starter_entries())
    assert version_of(fresh_database) == before
    (release,) = list_releases(fresh_database)
    assert (release.kind, release.active, release.concepts) == ("starter", True, len(starter_entries()))


def test_another_version_stays_and_is_out_of_use(fresh_database: Database) -> None:
    load(fresh_database)
    with fresh_database.session_scope() as session:
        session.execute(update(CodeSystemRelease).values(version="an older one", fingerprint="0"))
    assert load(fresh_database)
    assert {release.version: release.active for release in list_releases(fresh_database)} == {
        "an older one": False,
        starter_version(): True,
    }
    use_release(fresh_database, "starter", "an older one")
    assert active(fresh_database) == {STARTER_SYSTEM: "an older one"}
    assert load(fresh_database)  # the tables of this version are taken up again, not stored twice
    assert count(fresh_database, CodeSystemRelease) == 2


def test_a_load_that_fails_leaves_the_former_one(fresh_database: Database) -> None:
    load(fresh_database)
    with fresh_database.session_scope() as session:
        session.execute(update(CodeSystemRelease).values(version="an older one"))
    before = version_of(fresh_database)
    with pytest.raises(RuntimeError), fresh_database.session_scope() as session:
        load_starter(session)
        raise RuntimeError
    assert version_of(fresh_database) == before
    assert active(fresh_database) == {STARTER_SYSTEM: "an older one"}


def test_two_loads_at_once_make_one_release(fresh_database: Database) -> None:
    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(lambda _: load(fresh_database), range(2))) == [False, True]
    assert count(fresh_database, CodeSystemRelease) == 1


# --- what is stored --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_stored_and_read_back(fresh_database: Database, tmp_path: Path, kind: str) -> None:
    report = run(fresh_database, kind, file(tmp_path, kind))
    stored = list_releases(fresh_database)
    assert {(release.system, release.version) for release in stored} == {
        (release.system, release.version) for release in report.releases
    }
    assert all(release.active and release.ready and release.kind == kind for release in stored)
    with fresh_database.session_scope() as session:
        rows = session.execute(select(Concept.code, Concept.display, Concept.properties, Concept.search_text)).all()
        lexicon = lexicon_from(session)
    assert len(rows) == sum(release.concepts for release in report.releases) > 0
    for _, display, properties, searched in rows:
        assert properties["names"][0] == display and searched
        assert {"kind", "names", "codings", "facts"} == set(properties)
        assert all(isinstance(value, str) for value in properties["facts"].values())
        for coding in properties["codings"]:
            own = coding["system"] in {release.system for release in report.releases}
            assert coding.get("version") == (report.releases[0].version if own else None)
            if properties["kind"] and "retired" not in properties["facts"]:
                assert lexicon.holds(coding["system"], coding["code"])


def test_versions_come_from_the_file_its_name_or_the_operator(fresh_database: Database, tmp_path: Path) -> None:
    assert run(fresh_database, "nmain", file(tmp_path, "nmain")).releases[0].version == "5.99"
    assert run(fresh_database, "ssk-disease", file(tmp_path, "ssk-disease")).releases[0].version == "20250601"
    assert run(fresh_database, "generic", file(tmp_path, "generic")).releases[0].version == "20260401"
    assert run(fresh_database, "codesystem", file(tmp_path, "codesystem")).releases[0].version == "9.9.0"
    assert run(fresh_database, "yj", file(tmp_path, "yj", name="list.csv"), version="a").releases[0].version == "a"
    unnamed = run(fresh_database, "jlac10", file(tmp_path, "jlac10", name="list.tsv")).releases[0].version
    assert len(unnamed) == 12 and set(unnamed) <= set("0123456789abcdef")


def test_a_disease_is_one_entry_of_all_its_masters(fresh_database: Database, tmp_path: Path) -> None:
    for kind in ("index", "ssk-disease", "nmain", "mdfy"):
        run(fresh_database, kind, file(tmp_path, kind))
    with fresh_database.session_scope() as session:
        lexicon = lexicon_from(session)
    entry = lexicon.lookup(Kind.CONDITION, "甲乙性炎症")  # a synonym that only the index has
    assert entry is not None and entry is lexicon.lookup(Kind.CONDITION, "甲乙炎")
    assert entry.display == "甲乙炎" and entry.codings[0].version == "5.99"
    assert entry.code(systems.DISEASE_KEY) == "29000001" and entry.code(systems.RECEIPT_DISEASE) == "9900001"
    # A withdrawn name leads to the code that took its place, and its own code is used no more.
    assert lexicon.lookup(Kind.CONDITION, "旧甲乙炎") is entry is lexicon.lookup(Kind.CONDITION, "乙甲炎")
    assert not lexicon.holds(systems.DISEASE_KEY, "29000003") and not lexicon.holds(systems.RECEIPT_DISEASE, "9900003")
    assert lexicon.lookup(Kind.CONDITION, "未コード化傷病名") is None
    modifier = lexicon.lookup(Part.MODIFIER, "の乙後")
    assert modifier is not None and modifier.fact("position") == "postfix"


def test_the_index_makes_one_concept_of_the_names_of_a_code(fresh_database: Database, tmp_path: Path) -> None:
    run(fresh_database, "index", file(tmp_path, "index"))
    with fresh_database.session_scope() as session:
        rows = session.execute(select(Concept.code, Concept.properties).order_by(Concept.code)).all()
    assert [(code, properties["names"]) for code, properties in rows] == [
        ("X001", ["甲乙性炎症", "甲乙炎"]), ("Y001", ["甲性"]),
    ]  # fmt: skip
    assert [coding["system"] for coding in rows[0][1]["codings"]] == [systems.DISEASE_EXCHANGE]


def test_a_file_with_two_tables_makes_two_releases(fresh_database: Database, tmp_path: Path) -> None:
    report = run(fresh_database, "jfagy", file(tmp_path, "jfagy"))
    assert {release.system: release.concepts for release in report.releases} == {systems.JFAGY_FOOD: 3, systems.JFAGY_OTHER: 1}
    assert [release.retired for release in report.releases] == [1, 0]
    assert sum(report.skipped.values()) == 1


def test_a_list_that_the_publisher_cuts_into_files(fresh_database: Database, tmp_path: Path) -> None:
    rows = masters.price()
    paths = []
    for number, part in enumerate((rows[1:2], rows[2:]), 1):
        path = tmp_path / f"tp20250716-01_{number:02}.xlsx"
        path.write_bytes(masters.workbook({"HP": [["薬価基準収載品目リスト"], rows[0], *part]}))
        paths.append(path)
    (release,) = run(fresh_database, "price", *paths).releases
    assert (release.concepts, release.version) == (3, "20250716")
    assert run(fresh_database, "price", *reversed(paths)).releases[0].already


def test_packages_of_one_drug_are_one_concept(fresh_database: Database, tmp_path: Path) -> None:
    report = run(fresh_database, "hot", file(tmp_path, "hot"))
    assert report.releases[0].concepts == 2 and report.skipped == {"code that stood above": 1}
    with fresh_database.session_scope() as session:
        assert lexicon_from(session).holds(systems.YJ, "9999001F1048")


# --- refusals --------------------------------------------------------------------------------------------------------


def refused(database: Database, kind: str, path: Path, reason: str, *, force: bool = True) -> None:
    before = (version_of(database), count(database, CodeSystemRelease), count(database, Concept))
    with pytest.raises(InvalidInput, match=reason):
        run(database, kind, path, force=force)
    assert (version_of(database), count(database, CodeSystemRelease), count(database, Concept)) == before


def test_a_wrong_layout_stores_nothing_and_says_what_the_file_may_be(database: Database, tmp_path: Path) -> None:
    refused(database, "ssk-disease", file(tmp_path, "ssk-modifier"), "looks like the kind ssk-modifier")
    refused(database, "nmain", file(tmp_path, "mdfy"), "line 1: 10 columns .* Nothing was stored. It looks like the kind mdfy")


def test_a_code_with_two_names(database: Database, tmp_path: Path) -> None:
    rows = masters.ssk_modifier()
    rows[1][2] = rows[0][2]
    data = masters.csv_text(rows).encode("cp932")
    refused(database, "ssk-modifier", file(tmp_path, "ssk-modifier", data), "line 2: has the code of line 1 and another name")


def test_a_row_that_stands_twice_is_counted(fresh_database: Database, tmp_path: Path) -> None:
    rows = masters.ssk_modifier()
    data = masters.csv_text([*rows, rows[0]]).encode("cp932")
    report = run(fresh_database, "ssk-modifier", file(tmp_path, "ssk-modifier", data))
    assert report.releases[0].concepts == 2 and report.skipped == {"code that stood above": 1}


def test_too_few_concepts(database: Database, tmp_path: Path) -> None:
    refused(database, "nmain", file(tmp_path, "nmain"), "3 concepts; this master has at least 20000.*--force", force=False)


def test_a_release_that_shrinks_is_held_up(fresh_database: Database, tmp_path: Path) -> None:
    path = file(tmp_path, "codesystem", name="a.json")
    run(fresh_database, "codesystem", path)
    smaller = masters.code_system().replace(b'"9.9.0", "count": 3', b'"9.9.1"').replace(b"9Z990000002329902", b"9Z990000002329901")
    assert smaller.count(b"9Z990000002329901") == 2
    path = file(tmp_path, "codesystem", smaller, "b.json")
    refused(fresh_database, "codesystem", path, "1 concepts of .*the active release 9.9.0 has 2.*--force", force=False)
    assert run(fresh_database, "codesystem", path).releases[0].concepts == 1
    assert active(fresh_database) == {systems.CORE_LAB: "9.9.1"}


def test_a_version_with_other_content(fresh_database: Database, tmp_path: Path) -> None:
    run(fresh_database, "nmain", file(tmp_path, "nmain"))
    other = file(tmp_path, "nmain", masters.csv_text(masters.nmain(extra=1)).encode("cp932"))
    with pytest.raises(Conflict, match=r"version 5\.99 .*--version"):
        run(fresh_database, "nmain", other)
    assert run(fresh_database, "nmain", other, version="5.99a").releases[0].concepts == 4


def test_unknown_kinds_and_files(database: Database, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="there are nmain"):
        run(database, "icd", tmp_path / "x")
    with pytest.raises(InvalidInput, match="is not a file"):
        run(database, "nmain", tmp_path / "nothing")


# --- the way to `active` ---------------------------------------------------------------------------------------------


def test_the_same_file_again(fresh_database: Database, tmp_path: Path) -> None:
    run(fresh_database, "nmain", file(tmp_path, "nmain"))
    before = version_of(fresh_database)
    (again,) = run(fresh_database, "nmain", file(tmp_path, "nmain", name="copy.txt"), force=True).releases
    assert again.already and again.active and (again.version, again.concepts, again.retired) == ("5.99", 3, 1)
    assert version_of(fresh_database) == before and count(fresh_database, CodeSystemRelease) == 1


def two_releases(database: Database, tmp_path: Path) -> None:
    run(database, "nmain", file(tmp_path, "nmain"))
    more = masters.csv_text(masters.nmain(extra=1)).encode("cp932")
    run(database, "nmain", file(tmp_path, "nmain", more, "nmain600.txt"))


def test_a_new_release_takes_over_and_the_old_one_can_come_back(fresh_database: Database, tmp_path: Path) -> None:
    two_releases(fresh_database, tmp_path)
    new = version_of(fresh_database)
    assert active(fresh_database) == {systems.DISEASE_KEY: "6.00"} and count(fresh_database, Concept) == 7
    with fresh_database.session_scope() as session:
        assert lexicon_from(session).lookup(Kind.CONDITION, "試験病0") is not None
    use_release(fresh_database, systems.DISEASE_KEY, "5.99")
    with fresh_database.session_scope() as session:
        lexicon = lexicon_from(session)
    assert lexicon.lookup(Kind.CONDITION, "試験病0") is None and lexicon.version != new
    use_release(fresh_database, "nmain", "6.00")
    assert version_of(fresh_database) == new
    with pytest.raises(NotFound):
        use_release(fresh_database, systems.DISEASE_KEY, "7.00")


def test_the_active_release_is_not_removed(fresh_database: Database, tmp_path: Path) -> None:
    two_releases(fresh_database, tmp_path)
    with pytest.raises(Conflict, match="active"):
        remove_release(fresh_database, systems.DISEASE_KEY, "6.00")
    remove_release(fresh_database, systems.DISEASE_KEY, "5.99")
    assert [release.version for release in list_releases(fresh_database)] == ["6.00"]
    assert count(fresh_database, Concept) == 4


def test_a_crash_before_ready_is_never_used_and_cleared(fresh_database: Database, tmp_path: Path) -> None:
    run(fresh_database, "nmain", file(tmp_path, "nmain"))
    before = version_of(fresh_database)
    more = file(tmp_path, "nmain", masters.csv_text(masters.nmain(extra=5)).encode("cp932"), "nmain600.txt")

    def fail(step: str, done: int, total: int) -> None:
        if done == total > 0:
            raise RuntimeError("disk")

    with pytest.raises(RuntimeError):
        import_files(fresh_database, "nmain", [more], force=True, progress=fail)
    assert [(r.version, r.ready, r.active) for r in list_releases(fresh_database)] == [
        ("6.00", False, False), ("5.99", True, True),
    ]  # fmt: skip
    assert version_of(fresh_database) == before
    with pytest.raises(Conflict, match="never finished"):
        use_release(fresh_database, systems.DISEASE_KEY, "6.00")
    run(fresh_database, "nmain", more)
    assert active(fresh_database) == {systems.DISEASE_KEY: "6.00"} and count(fresh_database, CodeSystemRelease) == 2


KILLED = """
import sys, time
from pathlib import Path
from app.db import Database
from app.terminology.importers import import_files
def wait(step, done, total):
    if done:
        print("storing", flush=True)
        time.sleep(600)
import_files(Database(sys.argv[1]), "nmain", [Path(sys.argv[2])], force=True, progress=wait)
"""


def test_kill_9_while_storing(fresh_database: Database, tmp_path: Path) -> None:
    path = file(tmp_path, "nmain")
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, fresh_database.url, str(path)],
        stdout=subprocess.PIPE, text=True, cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    try:
        assert process.stdout is not None and process.stdout.readline() == "storing\n"
    finally:
        process.kill()
        process.wait()
    assert [(release.ready, release.active) for release in list_releases(fresh_database)] == [(False, False)]
    run(fresh_database, "nmain", path)  # the killed process's lock went with its connection
    assert [(release.ready, release.active) for release in list_releases(fresh_database)] == [(True, True)]
    assert count(fresh_database, Concept) == 3


def test_two_imports_at_once(fresh_database: Database, tmp_path: Path) -> None:
    path = file(tmp_path, "nmain", masters.csv_text(masters.nmain(extra=2000)).encode("cp932"))
    with ThreadPoolExecutor(3) as pool:
        reports = list(pool.map(lambda _: run(fresh_database, "nmain", path), range(3)))
    assert sorted(report.releases[0].already for report in reports) == [False, True, True]
    assert count(fresh_database, Concept) == 2003


def test_an_import_that_never_ends_does_not_hold_others_for_ever(
    fresh_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.terminology.importers.releases.LOCK_SECONDS", 1)
    with psycopg.connect(libpq_url(fresh_database.url)) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [IMPORT_LOCK])
        started = time.monotonic()
        with pytest.raises(Conflict, match="another import is running"):
            run(fresh_database, "nmain", file(tmp_path, "nmain"))
        assert time.monotonic() - started < 20
    run(fresh_database, "nmain", file(tmp_path, "nmain"))


def test_an_unfinished_release_cannot_be_active(fresh_database: Database, tmp_path: Path) -> None:
    run(fresh_database, "nmain", file(tmp_path, "nmain"))
    with pytest.raises(Exception, match="ck_code_system_releases_active"), fresh_database.session_scope() as session:
        session.execute(update(CodeSystemRelease).values(state=ImportState.IMPORTING))


# --- the version that a worker watches -------------------------------------------------------------------------------


def local(code: str, display: str) -> LocalCode:
    return LocalCode(kind=Kind.CONDITION, code=code, display=display, target_system=systems.DISEASE_KEY, target_code="29000001",
                     target_display="甲乙炎", created_by="test")  # fmt: skip


def test_the_version_follows_releases_and_local_codes(fresh_database: Database, tmp_path: Path) -> None:
    seen = [version_of(fresh_database)]
    load(fresh_database)
    seen.append(version_of(fresh_database))
    run(fresh_database, "nmain", file(tmp_path, "nmain"))
    seen.append(version_of(fresh_database))
    with fresh_database.session_scope() as session:
        session.add(local("H1", "院内甲乙"))
    seen.append(version_of(fresh_database))
    assert len(set(seen)) == 4 and all(len(version) == 12 for version in seen)
    with fresh_database.session_scope() as session:
        lexicon = lexicon_from(session)
        row = lexicon.local(Kind.CONDITION, "院内甲乙")
    assert lexicon.version == seen[-1]
    assert row is not None and row.code == "H1" and row.target is not None and row.target.code == "29000001"
    with fresh_database.session_scope() as session:
        session.execute(update(LocalCode).values(retired_at=text("now()"), retired_by="test"))
    assert version_of(fresh_database) == seen[2]
    with fresh_database.session_scope() as session:
        assert lexicon_from(session).local(Kind.CONDITION, "院内甲乙") is None


def test_an_edit_of_local_codes_leaves_the_tables_as_they_are_built(fresh_database: Database, tmp_path: Path) -> None:
    load(fresh_database)
    run(fresh_database, "nmain", file(tmp_path, "nmain"))
    with fresh_database.session_scope() as session:
        first = lexicon_from(session)
        assert renewed(session, first) is first
        entry = first.lookup(Kind.CONDITION, "甲乙炎")
        session.add(local("H1", "院内甲乙"))
    with fresh_database.session_scope() as session:
        second = renewed(session, first)
        assert second.version == terminology_version(session) != first.version
    assert entry is not None and second.lookup(Kind.CONDITION, "甲乙炎") is entry
    assert second.local(Kind.CONDITION, "院内甲乙") is not None and first.local(Kind.CONDITION, "院内甲乙") is None
    more = masters.csv_text(masters.nmain(extra=1)).encode("cp932")
    run(fresh_database, "nmain", file(tmp_path, "nmain", more, "nmain600.txt"))
    with fresh_database.session_scope() as session:
        third = renewed(session, second)
        assert third.version == terminology_version(session)
    assert second.lookup(Kind.CONDITION, "試験病0") is None and third.lookup(Kind.CONDITION, "試験病0") is not None
    assert third.local(Kind.CONDITION, "院内甲乙") is not None
    use_release(fresh_database, "nmain", "5.99")
    with fresh_database.session_scope() as session:
        back = renewed(session, third)
    assert back.version == second.version and back.lookup(Kind.CONDITION, "試験病0") is None


def test_an_import_leaves_the_planner_its_figures(fresh_database: Database, tmp_path: Path) -> None:
    load(fresh_database)
    run(fresh_database, "nmain", file(tmp_path, "nmain"))
    with fresh_database.session_scope() as session:
        planned = session.scalar(text("SELECT reltuples FROM pg_class WHERE oid = 'concepts'::regclass"))
    assert planned == count(fresh_database, Concept)


# --- the commands ----------------------------------------------------------------------------------------------------


def command(url: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str, BaseException | None]:
    import typer

    from app.commands.terminology import import_terminology, terminology

    monkeypatch.setenv("DATABASE_URL", url)
    app = typer.Typer()
    app.command("import-terminology")(import_terminology)
    app.add_typer(terminology, name="terminology")
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.output, result.exception


def test_the_commands(fresh_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def call(*arguments: str) -> Sequence[object]:
        return command(fresh_database.url, monkeypatch, *arguments)

    code, out, _ = call("terminology", "list")
    assert code == 0 and "nothing is loaded" in str(out)
    assert call("import-terminology", "starter")[:2] == (0, "imported\n")
    assert call("import-terminology", "starter")[:2] == (0, "there already\n")
    path = str(file(tmp_path, "jfagy"))
    code, out, error = call("import-terminology", "jfagy", path)
    assert code == 1 and isinstance(error, InvalidInput) and "4 concepts; this master has at least 1500" in str(error)
    code, out, _ = call("import-terminology", "jfagy", path, "--force")
    assert code == 0 and systems.JFAGY_FOOD in str(out) and "20250401_R01" in str(out) and "skipped 1: dummy code" in str(out)
    assert "there already, in use" in str(call("import-terminology", "jfagy", path)[1])
    assert call("import-terminology", "jfagy", path, "--version", "b")[0] == 0
    code, out, _ = call("terminology", "list")
    assert code == 0 and str(out).count("in use") == 3
    code, out, error = call("terminology", "remove", "jfagy", "20250401_R01")
    assert isinstance(error, Conflict)
    assert call("terminology", "use", systems.JFAGY_FOOD, "20250401_R01")[0] == 0
    assert isinstance(call("import-terminology", "nothing", path)[2], InvalidInput)
    assert isinstance(call("import-terminology", "nmain")[2], InvalidInput)


# --- the publishers' own files ---------------------------------------------------------------------------------------


@pytest.mark.official
def test_the_real_files(fresh_database: Database) -> None:
    root = masters.standards()
    tables, claims = root / "fhir/packages/terminology", root / "claims/masters"
    expected = {
        ("ssk-modifier", claims / "z_20250101.txt"): ("20250101", [2359]),
        ("price", claims / "mhlw_price_20250716.csv"): ("20250716", [12434]),
        ("jfagy", tables / "JFAGY/csv/sj_JFAGY_J9FN_20250401_R01.csv"): ("20250401_R01", [1128, 609]),
        ("jlac10", tables / "jlac10_medis_matome_2022-09.tsv"): ("2022-09", [8108]),
    }
    for name, concepts in (
        ("JLAC10-corelabo", 593), ("JLAC10-infectionlabo", 378), ("JLAC11-corelabo", 6401), ("JLAC11-infectionlabo", 1251),
    ):  # fmt: skip
        path = root / CLINS_PACKAGE / f"CodeSystem-jp-clins-codesystem-{name}-cs.json"
        expected["codesystem", path] = ("1.6.0", [concepts])
    load(fresh_database)
    for (kind, path), (version, concepts) in expected.items():
        report = import_files(fresh_database, kind, [path], today=TODAY)
        assert [release.concepts for release in report.releases] == concepts
        assert {release.version for release in report.releases} == {version}
    with fresh_database.session_scope() as session:
        lexicon = lexicon_from(session)
    assert len(lexicon.lab_displays) == 593 + 378 + 6401 + 1251
    assert lexicon.display(systems.CORE_LAB, "3A010000002399901") == "TP"
    entry = lexicon.lookup(Kind.CONDITION, "高血圧")
    assert entry is not None


@pytest.mark.official
@pytest.mark.parametrize("kind", ["ssk-disease", "ssk-modifier", "ssk-drug"])
def test_real_rows_of_the_receipt_masters(fresh_database: Database, kind: str) -> None:
    letter = {"ssk-disease": "b", "ssk-modifier": "z", "ssk-drug": "y"}[kind]
    path = masters.standards() / f"claims/masters/{letter}_layout_sample.csv"
    report = run(fresh_database, kind, path)
    assert report.releases[0].concepts in (4, 5, 8) and report.releases[0].retired == 0
    with fresh_database.session_scope() as session:
        lexicon = lexicon_from(session)
    if kind == "ssk-disease":
        assert lexicon.holds(systems.DISEASE_KEY, "20050703")  # もやもや病
        assert not lexicon.holds(systems.DISEASE_KEY, "20084317")  # the dummy
    if kind == "ssk-drug":
        assert lexicon.holds(systems.YJ, "2325003B2029")
