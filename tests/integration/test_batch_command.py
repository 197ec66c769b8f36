"""`hyojun batch` on a real Postgres."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from batch_files import feeder, ndjson, note, run_through
from sqlalchemy import select
from typer.testing import CliRunner

from app.cli import app
from app.db import Database
from models import Batch

RUNNER = CliRunner()


def hyojun(database: Database, *words: str | Path) -> Any:
    return RUNNER.invoke(app, ["batch", *map(str, words)], env={"DATABASE_URL": database.url})


def newest(database: Database) -> str:
    with database.session_scope() as session:
        return str(session.scalars(select(Batch.id).order_by(Batch.created_at.desc()).limit(1)).one())


def test_a_file_is_sent_followed_and_its_results_are_written(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "april.jsonl"
    file.write_bytes(ndjson([note(1), note(2), note(3, text="")]))
    feeding, end = feeder(database, tmp_path), threading.Event()

    def work() -> None:
        while not end.is_set():
            run_through(database, feeding)
            time.sleep(0.1)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        followed = hyojun(database, file, "--source", "emr")
    finally:
        end.set()
        worker.join()
    assert followed.exit_code == 1, "one line was refused"
    assert "new 2, corrected 0, known 0, refused 1" in followed.output and "done 2, failed 0" in followed.output
    batch_id = newest(database)
    assert followed.output.startswith(batch_id)
    shown = hyojun(database, "status", batch_id[:8])
    assert shown.exit_code == 0 and "april.jsonl: done" in shown.output and "next: " in shown.output
    assert batch_id in hyojun(database, "list").output
    assert hyojun(database, "report", batch_id, "--out", tmp_path / "out").exit_code == 0
    assert (tmp_path / "out" / "report.csv").read_text().count("\n") == 4
    assert "<svg" in (tmp_path / "out" / "report.html").read_text()
    written = hyojun(database, "output", batch_id, "--out", tmp_path / "out", "--drafts")
    assert written.exit_code == 0, written.output
    bundles = (tmp_path / "out" / "output.ndjson").read_text().splitlines()
    assert [json.loads(line)["identifier"]["value"] for line in bundles] == ["n-1", "n-2"]
    assert (tmp_path / "out" / "ssmix2").is_dir()


def test_a_batch_is_steered_and_what_is_wrong_is_said(database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "1.json").write_text(json.dumps(note(10)))
    sent = hyojun(database, folder, "--no-follow", "--rate", "0/h")
    assert sent.exit_code == 0, sent.output
    batch_id = sent.output.strip()
    for command, state in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
        answer = hyojun(database, command, batch_id)
        assert answer.exit_code == 0 and f"notes: {state}" in answer.output
    for words, reason in (
        ((tmp_path / "no.jsonl",), "does not exist"),
        ((__file__,), "must end with .jsonl"),
        (("status", "zzz"), "no batch has an id that begins so"),
        (("resume", batch_id), "is cancelled, and only a paused one"),
        ((folder, "--rate", "fast"), "rate: "),
    ):
        answer = hyojun(database, *words)
        assert answer.exit_code != 0 and reason in str(answer.exception), words


@pytest.mark.timeout(60)
def test_ctrl_c_leaves_it_running_and_says_how_to_come_back(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "may.jsonl"
    file.write_bytes(ndjson([note(20)]))
    env = os.environ | {"DATABASE_URL": database.url, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "batch", str(file)], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, cwd=tmp_path,
    )  # fmt: skip
    assert process.stdout is not None
    batch_id = process.stdout.readline().strip()
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    rest = process.stdout.read()
    assert process.wait(20) == 0, rest
    assert f"hyojun batch follow {batch_id[:8]}" in rest
    with database.session_scope() as session:
        assert session.get_one(Batch, batch_id).state == "running"
