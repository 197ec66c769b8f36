"""Receipt checks over HTTP: sent, looked at, decided, fetched; and the tables."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from receipt_files import Checker, chart_note, claim_lines, uke
from sample_conversion import convert
from sign_in import headers, principal
from sqlalchemy import text
from starlette.testclient import TestClient

from app import jobs, receipt_work, running
from app.db import Database
from app.jobs import Policy
from app.main import create_app
from app.settings import Settings
from schemas.access import Right, Role
from schemas.receipt import Advice, Advised, Cited, Reason
from schemas.statement import EvidenceSpan

BYTES = "application/octet-stream"
POLICY = Policy(lease_seconds=30, max_attempts=2, interval_seconds=0.05, batch_seconds=60)
NOTE = "腰痛症。ロキソニン処方。"


@pytest.fixture(scope="module")
def client(database: Database) -> Iterator[TestClient]:
    settings = Settings(database_url=database.url, batch_max_bytes=200_000, _env_file=None)
    with TestClient(create_app(settings, database), raise_server_exceptions=False, follow_redirects=False) as made:
        made.headers.update(headers(database))
        yield made


def post(client: TestClient, content: bytes, media: str = BYTES, **query: Any) -> Any:
    return client.post("/api/receipt-checks", params=query, content=content, headers={"Content-Type": media})


def test_a_file_from_the_sending_to_what_goes_out(client: TestClient, database: Database) -> None:
    with database.session_scope() as session:
        note_id = str(jobs.submit(session, chart_note(NOTE), "emr").note_id)
    content = uke(claim_lines(1), claim_lines(2, "0002"))
    sent = post(client, content, name="June.UKE")
    assert sent.status_code == 202, sent.text
    file = sent.json()
    assert (file["claims"], file["created"], file["faults"], file["name"]) == (2, True, [], "June.UKE")
    assert file["findings"] == file["items"] == file["open"] > 0 and file["progress"]["queued"] == 2
    address = sent.headers["Location"]
    assert address == f"/api/receipt-checks/{file['id']}"
    # The worker's part, with an advice for the first claim's drug.
    claims = client.get(f"{address}/claims?limit=1").json()
    first = claims["claims"][0]
    assert client.get(claims["next"]).json()["claims"][0]["number"] == 2
    place = f"{address}/claims/{first['id']}"
    assert client.get(place).json()["notes"][0]["id"] == note_id
    evidence = Cited(note_id=note_id, span=EvidenceSpan(start=0, end=3, quote="腰痛症"))
    advice = Advice(
        line=6, action=Advised.ADD_COMMENT, reason=Reason.DISEASE_MISSING_FOR_DRUG, reference="chart", evidence=evidence,
        comment="腰痛症に対して投与",
    )  # fmt: skip
    with database.session_scope() as session:
        job_id = session.scalar(text("SELECT id FROM jobs WHERE receipt_claim_id = :c"), {"c": first["id"]})
    running.run(
        database, job_id, convert, worker="w", policy=POLICY, check=receipt_work.checking(database, Checker(advice))
    )
    assert client.get(address).json()["progress"]["done"] == 1
    found = client.get(place).json()
    assert found["job"] == "done" and found["month"] == "2024-06" and found["lines"][0]["line"] == 4
    assert {item["line"] for item in found["items"]} >= {6} and not found["stale"]
    assert "見本" not in client.get(place).text and "太郎" not in client.get(place).text

    # Decisions.
    advised = next(item for item in found["items"] if item["advice"])
    decision = f"/api/receipt-items/{advised['id']}"
    assert client.get(f"{address}/uke").content == content
    accepted = client.post(f"{decision}/decision", json={"version": 0, "decision": "accepted"})
    assert (accepted.status_code, accepted.json()["state"], accepted.json()["version"]) == (200, "accepted", 1)
    assert client.post(f"{decision}/decision", json={"version": 0, "decision": "rejected"}).status_code == 409
    assert client.post(f"{decision}/undo", json={"version": 1}).json()["state"] == "open"
    edited = {"action": "add_comment", "comment": "腰痛症へ投与"}
    changed = client.post(f"{decision}/decision", json={"version": 2, "decision": "edited", "edited": edited})
    assert changed.json()["edited"] == edited
    other = next(item for item in found["items"] if item["line"] == 6 and not item["advice"])
    disease = {"action": "add_disease", "code": "7245008", "started": "2024-06-03"}
    place_of_other = f"/api/receipt-items/{other['id']}/decision"
    assert client.post(place_of_other, json={"version": 0, "decision": "edited", "edited": disease}).status_code == 200

    # Files.
    report = client.get(f"{address}/report.csv")
    assert report.headers["content-type"].startswith("text/csv") and report.content.startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(io.StringIO(report.content.decode("utf-8-sig"))))
    row = next(row for row in rows if row["item"] == advised["id"])
    assert (row["claim"], row["line"], row["state"], row["evidence"]) == ("1", "6", "edited", "腰痛症")
    assert row["comment"] == "腰痛症へ投与" and row["decided_by"].endswith("client:test")
    assert {row["claim"] for row in rows} == {"1", "2"}
    out = client.get(f"{address}/uke")
    lines = out.content.decode("cp932").split("\r\n")
    assert lines[6] == "CO,,1,810000001,腰痛症へ投与" and (out.headers["Hyojun-Comments"], out.headers["Hyojun-Changes"]) == ("1", "0")
    assert lines[:6] + lines[7:] == content.decode("cp932").split("\r\n")
    applied = client.get(f"{address}/uke?apply=true")
    assert applied.headers["Hyojun-Totals"] == "unchanged" and applied.headers["Hyojun-Changes"] == "1"
    assert "SY,7245008,20240603,1,,,," in applied.content.decode("cp932").split("\r\n")

    assert client.post(f"{address}/cancel").json()["progress"]["cancelled"] == 1
    assert client.post(f"{address}/recheck").json()["progress"]["queued"] == 2
    again = post(client, content)
    assert again.status_code == 200 and again.json()["id"] == file["id"] and not again.json()["created"]


def test_broken_records_are_told_and_the_others_go_on(client: TestClient) -> None:
    broken = claim_lines(1, "0009")
    broken[2] = "SY,88,20240401,1,,,,"
    content = uke(broken, claim_lines(2, "0009"))
    form = {"file": ("六月.UKE", content, BYTES)}
    sent = client.post("/api/receipt-checks?rules_only=true", files=form)
    assert sent.status_code == 202 and sent.json()["claims"] == 2, sent.text
    assert sent.json()["faults"] == [{"line": 4, "position": 2, "field": "disease", "text": "must be 7 digits"}]
    assert (sent.json()["faults_total"], sent.json()["name"]) == (1, "六月.UKE")
    assert sum(sent.json()["progress"].values()) == 0
    listed = client.get("/api/receipt-checks?count=1").json()
    assert listed["files"][0]["id"] == sent.json()["id"] and client.get(listed["next"]).status_code == 200
    needing = client.get(f"/api/receipt-checks/{sent.json()['id']}/claims?needing=true").json()["claims"]
    assert [len(claim["faults"]) for claim in needing][:1] == [1]


def test_what_is_no_claim_file_is_refused(client: TestClient) -> None:
    assert post(client, b"").status_code == 422
    assert "RE" in post(client, b"IR,1,13,1,1234567\r\n").json()["detail"]
    assert post(client, b"{}", "application/json").status_code == 415
    assert post(client, b"RE,1\r\n" * 40_000).status_code == 413
    assert post(client, iter([b"RE,1\r\n" * 20_000] * 2)).status_code == 413  # type: ignore[arg-type]
    assert client.post("/api/receipt-checks", files={"other": (None, "x")}).status_code == 422
    unknown = "00000000-0000-4000-8000-000000000000"
    for path in ("", "/claims", f"/claims/{unknown}", "/report.csv", "/uke"):
        assert client.get(f"/api/receipt-checks/{unknown}{path}").status_code == 404
    assert client.post(f"/api/receipt-items/{unknown}/undo", json={"version": 0}).status_code == 404
    said = client.post(f"/api/receipt-items/{unknown}/decision", json={"version": 0, "decision": "edited", "edited": {"action": "x"}})
    assert (said.status_code, said.json()["detail"]) == (422, "cannot be read: edited.action")


def test_a_comment_that_the_file_cannot_hold_is_told(client: TestClient) -> None:
    sent = post(client, uke(claim_lines(7, "0077")), rules_only=True).json()
    address = f"/api/receipt-checks/{sent['id']}"
    claim = client.get(f"{address}/claims").json()["claims"][0]["id"]
    item = client.get(f"{address}/claims/{claim}").json()["items"][0]
    edited = {"action": "add_comment", "comment": "\U0001f600"}
    said = {"version": 0, "decision": "edited", "edited": edited}
    assert client.post(f"/api/receipt-items/{item['id']}/decision", json=said).status_code == 200
    refused = client.get(f"{address}/uke")
    assert refused.status_code == 422 and item["id"] in refused.json()["detail"]


def test_tables_are_imported_used_and_set_aside(client: TestClient) -> None:
    starter = Path(__file__).parents[2] / "app/receipts/starter/limits.tsv"
    content = starter.read_bytes()
    sent = client.post(
        "/api/receipt-tables?name=limits.tsv", content=content, headers={"Content-Type": "text/plain"}
    )
    assert sent.status_code == 201, sent.text
    table = sent.json()
    assert (table["kind"], table["active"], table["rows"]) == ("limits", True, len(content.splitlines()) - 1)
    bad = client.post("/api/receipt-tables", files={"file": ("limits.tsv", content + b"x\ty\n", "text/plain")})
    assert bad.status_code == 422 and "line" in bad.json()["detail"]
    aside = client.post("/api/receipt-tables/limits/deactivate").json()["tables"]
    assert [one["active"] for one in aside] == [False]
    assert client.post("/api/receipt-tables/limits/deactivate").status_code == 404
    assert client.post(f"/api/receipt-tables/{table['id']}/activate").json()["active"] is True
    assert client.get("/api/receipt-tables").json()["tables"][0]["id"] == table["id"]


def test_the_chart_is_for_those_who_may_read_notes_and_drafts(client: TestClient, database: Database) -> None:
    with database.session_scope() as session:
        jobs.submit(session, chart_note(NOTE, "55"), "emr")
    sent = post(client, uke(claim_lines(1, "0055"))).json()
    claim = client.get(f"/api/receipt-checks/{sent['id']}/claims").json()["claims"][0]["id"]
    place = f"/api/receipt-checks/{sent['id']}/claims/{claim}"

    def passages(who: Any) -> int:
        lines = client.get(place, headers=headers(database, who)).json()["lines"]
        return sum(len(line["passages"]) for line in lines)

    assert passages(principal(Role.REVIEWER)) > 0 and passages(principal(Role.INTEGRATOR)) == 0
    assert client.get(place, headers=headers(database, principal(rights=[Right.BATCHES]))).status_code == 403
    with database.session_scope() as session:
        newest = "SELECT route, ids FROM audit_events WHERE route = :route AND status = 200 ORDER BY id DESC LIMIT 1"
        route = "GET /api/receipt-checks/{file_id}/claims/{claim_id}"
        assert session.execute(text(newest), {"route": route}).one().ids == [sent["id"], claim]
