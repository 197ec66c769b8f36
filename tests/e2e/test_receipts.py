"""A month of a clinic, as its operator sends it: notes, then the claim file; a worker with both uses of the model; what a
reviewer decides; what goes out."""

import csv
import io
import json
from typing import Any
from uuid import UUID

import pytest
from installation import JOB_SECONDS, ROOT, Installation, wait_until

from models import Note

pytestmark = pytest.mark.timeout(600)

SAMPLES = ROOT / "samples" / "receipts"
MISSING = 34
"""ロキソニン without a disease (samples/receipts/README.md)."""


def decided(installation: Installation, item: dict[str, Any], decision: str, **edited: Any) -> dict[str, Any]:
    body = {"version": item["version"], "decision": decision} | ({"edited": edited} if edited else {})
    return installation.request_json("POST", f"/api/receipt-items/{item['id']}/decision", body)


def test_a_month_from_notes_and_claims_to_the_corrected_file(installation: Installation) -> None:
    installation.start_api()
    jobs = [
        installation.request_json("POST", "/api/notes", json.loads(path.read_text()))["id"]
        for path in sorted((SAMPLES / "notes").glob("*.json"))
    ]
    installation.start("worker", models_file=ROOT / "weights" / "models.toml")

    def read() -> bool:
        return all(installation.request_json("GET", f"/api/jobs/{job}")["state"] == "done" for job in jobs)

    assert wait_until(read, JOB_SECONDS), installation.log("worker")
    content = (SAMPLES / "clinic-2026-05.uke").read_bytes()
    status, answer = installation.request("POST", "/api/receipt-checks?name=clinic.uke", content, "application/octet-stream")
    assert status == 202, answer
    file = json.loads(answer)
    place = f"/api/receipt-checks/{file['id']}"
    assert file["claims"] == 7 and file["faults"] == []

    def judged() -> bool:
        return bool(installation.request_json("GET", place)["progress"]["done"] == 7)

    assert wait_until(judged, JOB_SECONDS), installation.log("worker")
    claims = installation.request_json("GET", f"{place}/claims")["claims"]
    details = [installation.request_json("GET", f"{place}/claims/{claim['id']}") for claim in claims]
    assert all(len(detail["notes"]) >= 1 for detail in details), "a claim found no note of its patient"
    items = [item for detail in details for item in detail["items"]]

    # The model answers each finding, with evidence from the notes that were read before.
    missing = next(item for item in items if item["line"] == MISSING)
    assert missing["finding"]["rule"] == "indication" and missing["advice"]["action"] == "add_disease"
    evidence = missing["advice"]["evidence"]
    with installation.database.session_scope() as session:
        text = session.get_one(Note, UUID(evidence["note_id"])).text
    span = evidence["span"]
    assert text[span["start"] : span["end"]] == span["quote"]

    decided(installation, missing, "edited", action="add_comment", comment="変形性膝関節症に対する投与")
    others = [item for item in items if item["id"] != missing["id"]]
    for item in others:
        decided(installation, item, "rejected")
    assert installation.request_json("GET", place)["open"] == 0

    status, report = installation.request("GET", f"{place}/report.csv")
    rows = list(csv.DictReader(io.StringIO(report.decode("utf-8-sig"))))
    assert status == 200 and len(rows) == len(items)
    status, written = installation.request("GET", f"{place}/uke")
    assert status == 200
    before, after = content.split(b"\r\n"), written.split(b"\r\n")
    added = [line.decode("cp932") for line in after if line not in before]
    assert len(added) == 1 and added[0].startswith("CO,") and "変形性膝関節症に対する投与" in added[0]
    assert [line for line in after if line in before] == before, "nothing else has changed"

    # No word of chart or claim in what the processes say.
    said = installation.log("worker") + installation.log("serve")
    assert "ロキソニン" not in said and "変形性" not in said and "水沢" not in said
