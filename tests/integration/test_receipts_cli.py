"""`hyojun receipts`: a file checked here, tables imported, and what was decided written out."""

import csv
import io
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from receipt_files import claim_ids, claim_lines, detail, take_in, uke
from typer.testing import CliRunner

from app import receipt_decisions
from app.cli import app
from app.db import Database
from app.receipts.tables import Tables
from schemas.receipt import Advised, Edited, ItemState

RUNNER = CliRunner()
ROOT = Path(__file__).parents[2]
WIDE = {"COLUMNS": "300"}


def hyojun(*words: str | Path, **environment: str) -> Any:
    return RUNNER.invoke(app, ["receipts", *map(str, words)], env=WIDE | environment)


def test_a_file_is_checked_by_rules_alone_without_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)  # away from a .env
    broken = claim_lines(2)
    broken[2] = "SY,88,20240401,1,,,,"
    file = tmp_path / "june.uke"
    file.write_bytes(uke(claim_lines(1), broken))
    shown = hyojun("check", file, "--rules-only", "--csv", tmp_path / "out.csv")
    assert shown.exit_code == 0, shown.output
    assert "2 claims, 2 need work" in shown.stdout and "1 faults of records" in shown.stdout
    assert "line 9, field 2 (disease): must be 7 digits" in shown.stderr
    drug = Tables.starter().drugs["620098801"].name[:4]
    assert drug in shown.stdout and "indication" not in shown.stderr
    assert "見本" not in shown.output and "太郎" not in shown.output
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_bytes().decode("utf-8-sig"))))
    assert {row["claim"] for row in rows} == {"1", "2"} and {row["origin"] for row in rows} == {"rule"}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_cannot_be_checked_is_said(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_bytes("肺炎。\r\n".encode("cp932"))
    for words, said in (
        (["check", tmp_path / "none.uke"], "none.uke is not a file"),
        (["check", file, "--rules-only"], "is no claim file: no record RE is in it"),
        (["check", file, "--rules-only", "--uke", tmp_path / "x"], "propose no comments"),
        (["check", file, "--rules-only", "--notes", tmp_path], "read no chart"),
        (["check", file, "--database", "--notes", tmp_path], "choose one chart"),
    ):
        failed = hyojun(*words)
        assert failed.exit_code == 1 and said in str(failed.exception), (words, failed.output)


def test_without_a_model_for_receipts_the_rules_speak_and_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    registry = tmp_path / "models.toml"
    model = (ROOT / "weights/hyojun-uc1.gguf").resolve()
    registry.write_text(f'[base]\nfile = "{model}"\n[use_cases.uc1]\nmodel = "base"\nprompt = "uc1"\n')
    file = tmp_path / "june.uke"
    file.write_bytes(uke(claim_lines(1)))
    shown = hyojun("check", file, MODELS_FILE=str(registry))
    assert shown.exit_code == 0, (shown.output, shown.exception)
    assert "1 claims, 1 need work" in shown.stdout and "0 advices" in shown.stdout
    assert "no model is configured for receipts" in shown.stderr


def test_tables_are_imported_listed_and_set_aside(database: Database, tmp_path: Path) -> None:
    environment = {"DATABASE_URL": database.url}
    starter = ROOT / "app/receipts/starter/limits.tsv"
    done = hyojun("import", starter, **environment)
    assert done.exit_code == 0 and done.stdout.startswith("in use: limits"), done.output
    listed = hyojun("tables", **environment)
    assert "limits.tsv" in listed.stdout and "in use" in listed.stdout
    id_ = listed.stdout.splitlines()[1].split()[0]
    assert hyojun("deactivate", "limits", **environment).exit_code == 0
    assert "in use" not in hyojun("tables", **environment).stdout
    assert hyojun("activate", id_, **environment).stdout.startswith("in use: limits")
    assert "no table has an id that begins so" in str(hyojun("activate", "zz", **environment).exception)
    bad = tmp_path / "limits.tsv"
    bad.write_bytes(starter.read_bytes() + b"x\ty\n")
    assert "line " in str(hyojun("import", bad, **environment).exception)


def test_what_was_decided_is_written_out(database: Database, tmp_path: Path) -> None:
    content = uke(claim_lines(3, "0003"))
    file_id: UUID = take_in(database, content).file_id
    item = detail(database, claim_ids(database, file_id)[0]).items[0]
    edited = Edited(action=Advised.DELETE_LINE)
    with database.session_scope() as session:
        receipt_decisions.decide(session, item.id, 0, ItemState.EDITED, edited, "user:1")
    environment = {"DATABASE_URL": database.url}
    assert str(file_id)[:8] in hyojun("list", **environment).stdout
    plain, applied = tmp_path / "plain.uke", tmp_path / "applied.uke"
    done = hyojun("export", str(file_id)[:8], "--uke", plain, "--csv", tmp_path / "out.csv", **environment)
    assert done.exit_code == 0 and plain.read_bytes() == content, done.output
    assert str(item.id) in (tmp_path / "out.csv").read_text("utf-8-sig")
    done = hyojun("export", str(file_id), "--uke", applied, "--apply", **environment)
    assert "0 records CO, 1 changes" in done.stdout and len(applied.read_bytes()) < len(content)
    assert hyojun("export", str(file_id), **environment).exit_code == 1
