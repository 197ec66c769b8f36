"""smart-fetch (Cumulus), a whole Backend Services and $export client, as its users run it: by its command line."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from served import SYSTEM, Hospital, fill, hospital

from app import smart
from app.db import Database
from app.store import versions
from models import Export
from schemas.access import Principal, Scope

COMMAND = Path(sys.executable).with_name("smart-fetch")


@pytest.fixture(scope="module")
def place(database: Database) -> Iterator[Hospital]:
    with hospital(database) as made:
        fill(made)
        yield made


@pytest.fixture(scope="module")
def key(place: Hospital, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the private key of a registered client."""
    made = ec.generate_private_key(ec.SECP384R1())
    named = {"kid": "one", "alg": "ES384"}
    private = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(made)) | named | {"key_ops": ["sign"]}
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(made.public_key())) | named
    with place.database.session_scope() as session:
        smart.register(session, "fetch", "smart-fetch", {"keys": [public]}, scopes=["system/*.rs"], by="test")
    path = tmp_path_factory.mktemp("key") / "key.jwks"
    path.write_text(json.dumps({"keys": [private]}))
    return path


def run(place: Hospital, key: Path, command: str, folder: Path, *more: str) -> dict[str, list[dict[str, object]]]:
    """The resources that it wrote, by type."""
    done = subprocess.run(
        [COMMAND, command, folder, "--fhir-url", place.url, "--smart-client-id", "fetch", "--smart-key", key,
         "--no-compression", *more],
        capture_output=True, text=True, timeout=60, env=os.environ | {"COLUMNS": "200"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, list[dict[str, object]]] = {}
    for path in sorted(folder.rglob("*.ndjson")):
        if path.name != "log.ndjson" and not path.is_symlink():
            kind = f"{path.parent.name}/" if path.parent.name in ("deleted", "error") else ""
            found.setdefault(kind + path.name.split(".")[0], []).extend(map(json.loads, path.read_text().splitlines()))
    return found


def test_bulk_export_and_the_next_one(place: Hospital, key: Path, tmp_path: Path) -> None:
    everything = run(place, key, "bulk", tmp_path / "all", "--type", "Patient,Observation,Condition")
    assert {resource["id"] for resource in everything["Patient"]} == set(place.patients.values())
    # It asks for Observations by category, in a filter with commas.
    assert len(everything["Observation"]) == place.observations * len(place.patients)
    log = [json.loads(line) for line in (tmp_path / "all" / "log.ndjson").read_text().splitlines()]
    events = {event["eventId"]: event["eventDetail"] for event in log}
    assert events["export_complete"]["resources"] == len(everything["Patient"]) + len(everything["Observation"])
    with place.database.session_scope() as session:
        assert not session.query(Export).filter(Export.state == "done").all()  # it deletes what it has fetched
        # What was written in the second before the export comes twice; so this is of the second after.
    since = events["status_complete"]["transactionTime"]
    who = Principal(id="client:test", name="test", scopes=(Scope(type="*", actions=frozenset("cruds")),))
    gone = str(everything["Observation"][0]["id"])
    with place.database.session_scope() as session:
        versions.remove(session, "Observation", gone, who)
    later = run(place, key, "bulk", tmp_path / "later", "--type", "Patient,Observation", "--since", since)
    urls = [entry["request"]["url"] for bundle in later["deleted/Bundle"] for entry in bundle["entry"]]
    assert urls == [f"Observation/{gone}"]


def test_bulk_export_of_a_group(place: Hospital, key: Path, tmp_path: Path) -> None:
    found = run(place, key, "bulk", tmp_path / "group", "--type", "Patient", "--group", place.group)
    assert {resource["id"] for resource in found["Patient"]} == {place.patients["P0"], place.patients["P1"]}


def test_crawl_by_search(place: Hospital, key: Path, tmp_path: Path) -> None:
    wanted = ("--type", "Patient,Observation", "--id-list", "P1,P2", "--id-system", SYSTEM)
    found = run(place, key, "crawl", tmp_path / "crawl", *wanted)
    assert {resource["id"] for resource in found["Patient"]} == {place.patients["P1"], place.patients["P2"]}
    subjects = {resource["subject"]["reference"] for resource in found["Observation"]}  # type: ignore[index]
    assert subjects == {f"Patient/{place.patients[n]}" for n in ("P1", "P2")}
