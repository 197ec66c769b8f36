"""The hospital's own codes in a real Postgres: what a file may hold, what an import changes, and the way back out."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from loaded_tables import AMLODIPINE, CRP, HBS, TP, concept, load, load_all
from sqlalchemy import func, select

from app.db import Database
from app.errors import InvalidInput, TooLong
from app.terminology.entries import LocalEntry
from app.terminology.local import (
    MAX_FILE_BYTES,
    Report,
    current,
    export_local,
    find_by_target,
    history,
    import_local,
    local_system,
    lost,
    read_rows,
    set_local,
    write_csv,
)  # fmt: skip
from models import LocalCode
from schemas import systems
from schemas.coding import Coding
from schemas.issue import Severity
from schemas.statement import Kind

ROOT = Path(__file__).resolve().parents[2]
HEADER = "kind,code,display,system,standard_code,standard_display"
GOOD = [
    f"condition,D001,肺炎（当院）,{systems.DISEASE_KEY},20050001,肺炎",
    f"condition,D002,糖尿病,{systems.ICD10},E119,糖尿病",
    f"allergy,A-1,卵,{systems.JFAGY_FOOD},J9FC11000000,鶏卵",
    f"lab,1001_23,総蛋白_血清,{systems.CORE_LAB},{TP},TP",
    f"infection,2001,HBs抗原_血清,{systems.INFECTION_LAB},{HBS},HBs抗原-定性",
    f"prescription,M 10,アムロジピン５,{systems.YJ},{AMLODIPINE},",
    "lab,9999,院内検査,,,",
]


def file(*lines: str, header: str = HEADER, encoding: str = "utf-8") -> bytes:
    return "\r\n".join((header, *lines, "")).encode(encoding)


def store(database: Database, raw: bytes, **options: bool) -> Report:
    with database.session_scope() as session:
        return import_local(session, raw, by="tester", **options)


def entries(database: Database, kind: Kind | None = None) -> dict[str, LocalEntry]:
    with database.session_scope() as session:
        return {entry.code: entry for entry in current(session, kind)}


def numbers(report: Report) -> tuple[int, int, int, int, int]:
    return report.added, report.changed, report.retired, report.unchanged, report.skipped


def errors(report: Report) -> list[tuple[int | None, str]]:
    return [(fault.line, fault.text) for fault in report.faults if fault.severity is Severity.ERROR]


@pytest.fixture
def tables(fresh_database: Database) -> Database:
    load_all(fresh_database)
    return fresh_database


# --- import -----------------------------------------------------------------------------------------------------------


def test_a_file_becomes_rows_with_the_tables_displays(tables: Database) -> None:
    report = store(tables, file(*GOOD))
    assert report.stored and numbers(report) == (7, 0, 0, 0, 0)
    assert report.faults == ()
    rows = entries(tables)
    assert rows["D001"].target == Coding(system=systems.DISEASE_KEY, code="20050001", display="肺炎")
    assert rows["M 10"] == LocalEntry(
        Kind.PRESCRIPTION,
        "M 10",
        "アムロジピン５",
        Coding(system=systems.YJ, code=AMLODIPINE, display="アムロジピン錠5mg「検査」"),
    )
    assert rows["9999"].target is None
    # One code, several names: that of the file is one of them.
    assert rows["D002"].target is not None and rows["D002"].target.display == "糖尿病"
    assert set(entries(tables, Kind.LAB)) == {"1001_23", "9999"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp932"])
def test_encodings_and_japanese_headings(tables: Database, encoding: str) -> None:
    header = "種別,院内コード,院内名称,コード体系,標準コード,標準名称,備考"
    raw = file(f"傷病名,D001,髙血圧～①,{systems.DISEASE_KEY},20050001,肺炎,備考は読まない", header=header, encoding=encoding)
    assert store(tables, raw).stored
    assert entries(tables)["D001"].display == "髙血圧～①"


def test_the_same_file_again_changes_nothing(tables: Database) -> None:
    store(tables, file(*GOOD))
    with tables.session_scope() as session:
        before = {row.id for row in session.scalars(select(LocalCode))}
    assert numbers(store(tables, file(*GOOD))) == (0, 0, 0, 7, 0)
    with tables.session_scope() as session:
        assert {row.id for row in session.scalars(select(LocalCode))} == before


def test_a_merge_changes_what_differs_and_keeps_the_rest(tables: Database) -> None:
    store(tables, file(*GOOD))
    report = store(
        tables, file("condition,D001,肺炎,,,", f"lab,1001_23,総蛋白_血清,{systems.CORE_LAB},{TP},TP", "lab,n1,新,,,")
    )
    assert report.stored and numbers(report) == (1, 1, 0, 1, 0)
    assert len(entries(tables)) == 8
    with tables.session_scope() as session:
        new, old = history(session, Kind.CONDITION, "D001")
    assert (new.retired_at, new.target_code, new.display) == (None, None, "肺炎")
    assert (old.display, old.target_code, old.retired_by) == ("肺炎（当院）", "20050001", "tester")
    assert old.retired_at is not None and old.created_at < old.retired_at <= new.created_at


def test_replacing_retires_what_the_file_does_not_name_of_its_kinds(tables: Database) -> None:
    store(tables, file(*GOOD))
    report = store(tables, file(GOOD[0], "lab,n1,新,,,"), replace_all=True)
    assert report.stored and numbers(report) == (1, 0, 3, 1, 0)
    # Kinds that are not in the file stay as they are.
    assert set(entries(tables)) == {"D001", "n1", "A-1", "2001", "M 10"}


def test_replacing_by_nothing_is_refused(tables: Database) -> None:
    store(tables, file(*GOOD))
    for raw in (file(), file("condition,,x,,,")):
        report = store(tables, raw, replace_all=True, skip_bad=True)
        assert not report.stored and errors(report)
    assert len(entries(tables)) == 7


def test_replacing_does_not_retire_behind_a_line_that_cannot_be_read(tables: Database) -> None:
    store(tables, file(*GOOD))
    report = store(tables, file(GOOD[0], "condtion,D002,糖尿病,,,"), replace_all=True, skip_bad=True)
    assert not report.stored
    # A line that can be told apart keeps what is stored under its code.
    report = store(tables, file(GOOD[0], f"condition,D002,糖尿病,{systems.ICD10},Z99.9,"), replace_all=True, skip_bad=True)
    assert report.stored and numbers(report) == (0, 0, 0, 1, 1)
    assert "D002" in entries(tables)


BAD = {
    "lab,10 01,x,,,": "code: JP-CLINS",
    "infection,Ａ1,x,,,": "code: JP-CLINS",
    "lab,検査,x,,,": "code: JP-CLINS",
    "lab,HYJ-0123456789abcdef,x,,,": "code: HYJ-",
    "condition,=1+1,x,,,": "code: begins with a sign",
    "condition,-1,x,,,": "code: begins with a sign",
    'condition,D9,"=HYPERLINK(""http://x"",""y"")",,,': "display: begins with a sign",
    "condition,D9,@SUM(A1),,,": "display: begins with a sign",
    "condition,D9,＝1,,,": "display: begins with a sign",
    "condition,D9,+1,,,": "display: begins with a sign",
    "condition,D9,-x,,,": "display: begins with a sign",
    'condition,D9,"a\nb",,,': "display: holds control",
    "condition,D9,a\x00b,,,": "display: holds control",
    "condition,D9,\u202eevil,,,": "display: holds control",
    "condition,D  9,x,,,": "code: holds",
    "condition,D\t9,x,,,": "code: holds",
    "condition,,x,,,": "code: is empty",
    "condition,D9,,,,": "display: is empty",
    f"condition,{'9' * 65},x,,,": "code: has 65",
    f"condition,D9,{'x' * 201},,,": "display: has 201",
    "disease,D9,x,,,": "kind: must be one of",
    ",D9,x,,,": "kind: must be one of",
    f"condition,D9,x,{systems.DISEASE_KEY},,": "standard_code: is empty",
    "condition,D9,x,,20050001,": "system: is empty",
    f"condition,D9,x,{systems.DISEASE_KEY},99999999,": "standard_code: no loaded table",
    f"condition,D9,x,{systems.DISEASE_KEY},20050001\x00,": "standard_code: no loaded table",
    f"condition,D9,x,{systems.YJ},{AMLODIPINE},": "system: condition is mapped to",
    f"allergy,D9,x,{systems.YJ},{AMLODIPINE},": "system: allergy is mapped to",
    f"lab,D9,x,{systems.DISEASE_KEY},20050001,": "system: lab is mapped to",
    f"prescription,D9,x,{systems.JFAGY_FOOD},J9FC11000000,": "system: prescription is mapped to",
    "condition,D9,x,http://example.org/x,1,": "system: condition is mapped to",
    "condition,D9,x,,,,,": "has 8 cells",
    'condition,"D9"x,y,,,': "is not CSV",
}


@pytest.mark.parametrize("line", BAD)
def test_a_faulty_row_is_named_by_its_line_and_nothing_is_stored(tables: Database, line: str) -> None:
    report = store(tables, file(GOOD[0], line, GOOD[2]))
    assert not report.stored
    [(number, text)] = errors(report)
    assert number == 3 and text.startswith(BAD[line])
    assert entries(tables) == {}


def test_all_faults_are_told_at_once_and_good_rows_can_be_stored_alone(tables: Database) -> None:
    raw = file(*GOOD, *BAD)
    assert not store(tables, raw).stored and entries(tables) == {}
    report = store(tables, raw, skip_bad=True)
    assert report.stored and (report.added, report.skipped) == (len(GOOD), len(BAD))
    assert len({line for line, _ in errors(report)}) == len(BAD)
    assert len(entries(tables)) == len(GOOD)


def test_a_code_stands_once_in_a_file(tables: Database) -> None:
    report = store(tables, file(GOOD[0], "", "condition,D001,別名,,,", "allergy,D001,x,,,"))
    assert not report.stored
    assert errors(report) == [(4, "code: line 2 has the same one")]


def test_tests_and_infections_share_one_system_so_a_code_means_one_thing(tables: Database) -> None:
    report = store(tables, file("lab,77,HBs抗原,,,", "infection,77,HBs抗体,,,"))
    assert [line for line, _ in errors(report)] == [3]
    # The same meaning twice is no contradiction; another meaning than the stored one is.
    assert store(tables, file("lab,77,HBs抗原,,,", "infection,77,HBs抗原,,,")).stored
    report = store(tables, file("lab,77,別の検査,,,"))
    assert not report.stored and [line for line, _ in errors(report)] == [2]
    assert store(tables, file("lab,77,別の検査,,,", "infection,77,別の検査,,,")).stored


def test_warnings_do_not_keep_a_row_out(tables: Database) -> None:
    report = store(tables, file(f"lab,1,総 蛋白,{systems.CORE_LAB},{TP},総蛋白", "lab,2,院内,,,使わない名称"))
    assert report.stored
    assert [(fault.line, fault.text.partition(":")[0], fault.severity) for fault in report.faults] == [
        (2, "display", Severity.WARNING),
        (2, "standard_display", Severity.WARNING),
        (3, "standard_display", Severity.WARNING),
    ]
    assert entries(tables)["1"].target == Coding(system=systems.CORE_LAB, code=TP, display="TP")


def test_drug_allergens_are_made_of_loaded_drug_codes(tables: Database) -> None:
    product, ingredient = f"YCM{AMLODIPINE}", f"GCM{AMLODIPINE[:9]}ZZZ"
    rows = (f"allergy,1,x,{systems.JFAGY_PRODUCT},{product},", f"allergy,2,y,{systems.JFAGY_INGREDIENT},{ingredient},")
    assert store(tables, file(*rows)).stored
    found = entries(tables)
    assert found["1"].target == Coding(system=systems.JFAGY_PRODUCT, code=product, display="アムロジピン錠5mg「検査」")
    assert found["2"].target is not None and found["2"].target.display == "【成分名】アムロジピンベシル酸塩"
    for system, code in (
        (systems.JFAGY_PRODUCT, "YCM9999999F9999"), (systems.JFAGY_INGREDIENT, "GCM9999999F9ZZZ"), (systems.JFAGY_INGREDIENT, "GCM%%%%%%%%%ZZZ"),
    ):  # fmt: skip
        assert errors(store(tables, file(f"allergy,3,x,{system},{code},")))


def test_only_active_tables_count(tables: Database) -> None:
    row = f"condition,D1,x,{systems.DISEASE_KEY},20059999,"
    newer = [concept(Kind.CONDITION, "20059999", "新しい病名", (systems.DISEASE_KEY, "20059999", "新しい病名"))]
    load(tables, systems.DISEASE_KEY, "6.0", newer, active=False)
    assert errors(store(tables, file(row)))
    load(tables, systems.DISEASE_KEY, "6.1", newer)
    assert store(tables, file(row)).stored
    assert errors(store(tables, file(GOOD[0])))  # only the former table had it


def test_a_file_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInput, match="neither UTF-8 nor CP932"):
        read_rows(b"kind,\x81\x20")
    with pytest.raises(InvalidInput, match="standard_code missing"):
        read_rows(b"kind,code,display,system\n")
    with pytest.raises(InvalidInput, match="twice"):
        read_rows("kind,種別,code,display,system,standard_code\n".encode())
    with pytest.raises(InvalidInput, match="line 1"):
        read_rows(b"")
    with pytest.raises(TooLong):
        read_rows(b"x" * (MAX_FILE_BYTES + 1))


def test_line_numbers_are_those_of_the_file() -> None:
    rows, faults = read_rows(b'kind,code,display,system,standard_code\nlab,1,"a\nb",,\n\nlab,2,c\nlab,3,"d')
    assert [(row.line, row.code) for row in rows] == [(2, "1"), (5, "2")]
    assert [fault.line for fault in faults] == [6]


# --- export -----------------------------------------------------------------------------------------------------------


def test_what_is_exported_can_be_imported_without_a_change(tables: Database) -> None:
    odd = '-その他，"引用"の検査'
    load(tables, systems.JLAC10, "2023", [concept(Kind.LAB, CRP, odd, (systems.JLAC10, CRP, odd))])
    store(tables, file(*GOOD, f"lab,crp,CRP,{systems.JLAC10},{CRP},"))
    with tables.session_scope() as session:
        raw = write_csv(export_local(session))
    assert raw.startswith(b"\xef\xbb\xbfkind,")
    # No cell begins with a sign that a spreadsheet would run, names of official tables included.
    cells = [cell for line in raw.decode("utf-8-sig").splitlines() for cell in line.split(",")]
    assert not [cell for cell in cells if cell.strip('"').startswith(("=", "+", "-", "@"))]
    before = entries(tables)
    report = store(tables, raw, replace_all=True)
    assert report.stored and numbers(report) == (0, 0, 0, 8, 0) and report.faults == ()
    assert entries(tables) == before


# --- one row ----------------------------------------------------------------------------------------------------------


def test_a_row_is_set_by_the_same_rules(tables: Database) -> None:
    target = Coding(system=systems.DISEASE_KEY, code="20050001", display="whatever")
    with tables.session_scope() as session:
        first = set_local(session, Kind.CONDITION, "D1", "肺炎", target, "reviewer")
        assert (first.target_display, first.created_by, first.retired_at) == ("肺炎", "reviewer", None)
    with tables.session_scope() as session:
        assert set_local(session, Kind.CONDITION, "D1", "肺炎", target, "another").id == first.id
    with tables.session_scope() as session:
        second = set_local(session, Kind.CONDITION, "D1", "肺炎", None, "another")
        assert second.id != first.id and second.target_code is None
        rows = history(session, Kind.CONDITION, "D1")
        assert [(row.id, row.retired_by) for row in rows] == [(second.id, None), (first.id, "another")]
        assert history(session, Kind.LAB, "D1") == []
    for kind, code, display, wanted in (
        (Kind.LAB, "D 1", "x", None), (Kind.CONDITION, "D1", "=x", None), (Kind.CONDITION, "", "x", None),
        (Kind.CONDITION, "D1", "x", Coding(system=systems.DISEASE_KEY, code="nope", display="x")),
        (Kind.ALLERGY, "D1", "x", target),
    ):  # fmt: skip
        with tables.session_scope() as session, pytest.raises(InvalidInput):
            set_local(session, kind, code, display, wanted, "reviewer")
    with tables.session_scope() as session, pytest.raises(InvalidInput, match="by"):
        set_local(session, Kind.CONDITION, "D1", "x", None, " ")


def test_several_changes_in_one_transaction_keep_their_order(tables: Database) -> None:
    with tables.session_scope() as session:
        for number in range(4):
            set_local(session, Kind.LAB, "1", f"名{number}", None, "r")
    with tables.session_scope() as session:
        rows = history(session, Kind.LAB, "1")
        assert [row.display for row in rows] == ["名3", "名2", "名1", "名0"]
        assert find_by_target(session, systems.DISEASE_KEY, "20050001") == []


def test_imports_at_the_same_time_do_not_collide(tables: Database) -> None:
    raws = [file(*(f"lab,c{n},名{one},,," for n in range(50))) for one in range(4)]
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(lambda raw: store(tables, raw), raws))
    assert sorted(report.added for report in reports) == [0, 0, 0, 50]
    with tables.session_scope() as session:
        in_force = select(func.count()).select_from(LocalCode).where(LocalCode.retired_at.is_(None))
        assert session.scalar(in_force) == 50
        assert session.scalar(select(func.count()).select_from(LocalCode)) == 200


def test_systems_of_local_codes() -> None:
    assert {local_system(kind) for kind in (Kind.LAB, Kind.INFECTION)} == {systems.LOCAL_LAB}
    assert local_system(Kind.PRESCRIPTION, "1318814790") == "http://jpfhir.jp/fhir/eCS/CodeSystem/DrugCode/11318814790"
    assert local_system(Kind.PRESCRIPTION) == "urn:hyojun:local:prescription"
    assert local_system(Kind.CONDITION, "1318814790") == "urn:hyojun:local:condition"


def test_ten_thousand_rows_take_seconds(tables: Database) -> None:
    targets = [f"{systems.DISEASE_KEY},2005000{n % 6 + 1}," for n in range(10_000)]
    report = store(tables, file(*(f"condition,D{n},名称{n},{target}" for n, target in enumerate(targets))))
    assert report.stored and report.added == 10_000
    assert numbers(store(tables, file("condition,D1,名称1,,,"))) == (0, 1, 0, 0, 0)


# --- after another release ---------------------------------------------------------------------------------------------


def test_what_a_new_release_no_longer_has_is_told(tables: Database, tmp_path: Path) -> None:
    assert store(tables, file(*GOOD)).stored
    with tables.session_scope() as session:
        assert lost(session) == []
    newer = [concept(Kind.CONDITION, "20059999", "新しい病名", (systems.DISEASE_KEY, "20059999", "新しい病名"))]
    load(tables, systems.DISEASE_KEY, "6.0", newer)
    with tables.session_scope() as session:
        assert "D001" in {entry.code for entry in lost(session)}
        assert not {"A-1", "1001_23", "2001", "M 10", "9999"} & {entry.code for entry in lost(session)}
    done = run(tables, tmp_path, "list", "--lost")
    assert "D001" in done.stdout and "any more" in done.stdout and "1001_23" not in done.stdout, done.stderr
    every = run(tables, tmp_path, "list").stdout.splitlines()
    assert [("any more" in line) for line in every if "1001_23" in line] == [False]


# --- the command ------------------------------------------------------------------------------------------------------


def run(database: Database, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    code = "from app.commands.local_codes import local_codes; local_codes()"
    env = {**os.environ, "DATABASE_URL": database.url, "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-c", code, *words]
    return subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=100)


def test_the_command(tables: Database, tmp_path: Path) -> None:
    (tmp_path / "good.csv").write_bytes(file(*GOOD, encoding="cp932"))
    done = run(tables, tmp_path, "import", "good.csv", "--by", "情報課")
    assert (done.returncode, done.stdout.strip()) == (0, "added 7, changed 0, retired 0, unchanged 0"), done.stderr
    with tables.session_scope() as session:
        assert set(session.scalars(select(LocalCode.created_by))) == {"情報課"}
    (tmp_path / "bad.csv").write_bytes(file(*(["lab,検,x,,,"] * 60), "lab,n1,x,,,"))
    done = run(tables, tmp_path, "import", "bad.csv")
    assert done.returncode == 1 and done.stdout.startswith("nothing was stored")
    assert len(done.stderr.splitlines()) == 51 and "more" in done.stderr.splitlines()[-1]
    assert done.stderr.startswith("line 2: error: code:")
    assert "n1" not in entries(tables)
    done = run(tables, tmp_path, "import", "bad.csv", "--skip-bad")
    assert done.returncode == 1 and "added 1," in done.stdout and "n1" in entries(tables)
    done = run(tables, tmp_path, "list", "--kind", "lab", "--unmapped")
    assert "9999" in done.stdout and "n1" in done.stdout and "1001_23" not in done.stdout and "2 codes" in done.stdout
    assert run(tables, tmp_path, "export", "out.csv").returncode == 0
    done = run(tables, tmp_path, "import", "out.csv", "--replace")
    assert (done.returncode, done.stdout.strip()) == (0, "added 0, changed 0, retired 0, unchanged 8")
