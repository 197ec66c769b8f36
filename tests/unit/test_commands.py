"""What a person sees of the command line before anything heavy runs: help, kinds of masters, last words of a failure."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from typer.testing import CliRunner

from app.cli import app
from app.commands import explain
from app.commands.terminology import MASTERS, STARTER
from app.terminology.importers import KINDS

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("sqlalchemy", "alembic", "numpy", "celery", "fastapi", "llama_cpp", "outlines", "pydantic_settings", "app.db", "app.fhir")


def test_help_waits_for_nothing_heavy() -> None:
    code = "import json, sys; import app.cli; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert set(json.loads(done.stdout)) & set(HEAVY) == set()


@pytest.mark.parametrize("words", [
    [], ["convert"], ["up"], ["serve"], ["worker"], ["migrate"], ["import-terminology"], ["import-profiles"], ["profiles"],
    ["terminology"], ["terminology", "use"], ["local-codes"], ["local-codes", "import"], ["export"], ["export", "clins"],
    ["export", "documents"], ["models"], ["models", "check"],
])  # fmt: skip
def test_every_command_has_help(words: list[str]) -> None:
    shown = CliRunner().invoke(app, [*words, "--help"])
    assert shown.exit_code == 0 and "Usage" in shown.output


def test_help_names_every_kind_of_master_and_what_it_is() -> None:
    assert set(MASTERS) == {STARTER, *KINDS}
    shown = CliRunner().invoke(app, ["import-terminology", "--help"], env={"COLUMNS": "120"}).output
    for kind, what in MASTERS.items():
        assert any(line.strip().split() == [kind, *what.split()] for line in shown.splitlines()), kind


@pytest.mark.parametrize(("error", "said"), [
    (FileNotFoundError(errno.ENOENT, "No such file or directory", "/x/y"), "/x/y: No such file or directory"),
    (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
    (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), None),
    (ValueError("2型糖尿病"), None),
])  # fmt: skip
def test_the_surroundings_are_explained_and_nothing_else(error: Exception, said: str | None) -> None:
    assert explain(error) == said


def test_a_database_that_is_away_is_named_without_its_password() -> None:
    engine = create_engine("postgresql+psycopg://who:hunter2@127.0.0.1:1/none", connect_args={"connect_timeout": 5})
    with pytest.raises(OperationalError) as raised, engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    said = explain(raised.value)
    assert said is not None and "cannot be reached" in said and "hunter2" not in said
