"""fhir-kit-client and Medplum's client, from npm, against a real server."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served import Hospital, fill, hospital

from app.db import Database

PACKAGES = ("fhir-kit-client@2.0.3", "@medplum/core@4.5.2")
SCRIPT = Path(__file__).with_name("npm_clients.mjs")

pytestmark = pytest.mark.npm


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages and the script."""
    folder = tmp_path_factory.mktemp("npm")
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed")
    (folder / "package.json").write_text('{"private": true}')
    arguments = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline", *PACKAGES]
    done = subprocess.run([npm, *arguments], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        pytest.skip("npm cannot get the packages: " + done.stderr[-300:])
    return Path(shutil.copy(SCRIPT, folder))


@pytest.fixture(scope="module")
def place(installed: Path, database: Database) -> Iterator[Hospital]:
    with hospital(database) as made:
        fill(made)
        yield made


def run(script: Path, place: Hospital, client: str) -> Any:
    arguments = ["node", script, place.url, place.token, place.patients["P1"], client]
    done = subprocess.run(arguments, cwd=script.parent, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_fhir_kit_client(installed: Path, place: Hospital) -> None:
    """It asks for three descriptions of sign-in at once, posts transactions to the base with a slash behind it, searches by
    POST, patches by JSON Patch, and follows links in both directions."""
    did = run(installed, place, "fhir-kit-client")
    assert did["tokenUrl"] == f"{place.root}/auth/token"
    assert did["can"] == [True, True, True]
    assert [status[:3] for status in did["statuses"]] == ["201", "201"]
    assert did["gender"] == [None, "female"] and did["history"] == ["2", "1"]
    assert did["days"] == [f"2026-04-0{day + 1}" for day in range(place.observations)] and did["back"] == 3
    assert did["everything"] == ["Observation", "Patient"]
    assert did["gone"] == [410, "OperationOutcome"]


def test_medplum_bulk_export(installed: Path, place: Hospital) -> None:
    """A second client of $export: it kicks off by a POST without a body."""
    did = run(installed, place, "medplum")
    patients = len(place.patients)
    assert did["requiresAccessToken"] is True
    assert did["counted"]["Patient"] >= patients and did["counted"]["Observation"] >= patients * place.observations
