"""Batches over HTTP: sent, looked at, steered, fetched."""

import asyncio
import csv
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from batch_files import feeder, ndjson, note, run_through, work
from sign_in import headers, principal
from sqlalchemy import text
from starlette.testclient import TestClient

from app.db import Database
from app.main import create_app
from app.settings import Settings
from app.web.batches_api import MAX_UPLOADS
from schemas.access import Right, Role

NDJSON, CSV, ZIP = "application/x-ndjson", "text/csv", "application/zip"


def client_of(database: Database, **settings: Any) -> TestClient:
    app = create_app(Settings(database_url=database.url, _env_file=None, **settings), database)
    return TestClient(app, raise_server_exceptions=False, follow_redirects=False)


@pytest.fixture(scope="module")
def client(database: Database) -> Iterator[TestClient]:
    with client_of(database, batch_max_bytes=2_000_000) as client:
        client.headers.update(headers(database))
        yield client


def post(client: TestClient, content: Any, media: str = NDJSON, **query: str) -> Any:
    return client.post("/api/batches", params=query, content=content, headers={"Content-Type": media})


def test_a_batch_from_the_file_to_its_results(client: TestClient, database: Database, tmp_path: Path) -> None:
    lines = [note(number) for number in range(8)]
    lines[2] |= {"text": ""}
    lines[5] |= {"department": "broken"}

    def pieces() -> Iterator[bytes]:
        content = ndjson(lines)
        for start in range(0, len(content), 100):
            yield content[start : start + 100]

    sent = post(client, pieces(), source="emr-1", name="April 2026")
    assert sent.status_code == 202, sent.text
    address = sent.headers["Location"]
    assert sent.json()["state"] == "running" and address == f"/api/batches/{sent.json()['id']}"
    assert client.post(f"{address}/pause").json()["state"] == "paused"
    assert client.post(f"{address}/resume").json()["state"] == "running"
    assert client.post(f"{address}/retry-failed").status_code == 409
    run_through(database, feeder(database, tmp_path))
    found = client.get(address).json()
    assert {name: found[name] for name in ("state", "new", "refused", "done", "failed", "total", "name", "created_by")} == {
        "state": "done", "new": 7, "refused": 1, "done": 6, "failed": 1, "total": 8, "name": "April 2026",
        "created_by": "client:test",
    }  # fmt: skip
    assert client.post(f"{address}/pause").status_code == 409
    assert any(one["id"] == found["id"] for one in client.get("/api/batches?count=5").json()["batches"])

    first = client.get(f"{address}/errors?count=1").json()
    assert (first["errors"][0]["place"], first["errors"][0]["error"]) == ("line 3", "text: is empty")
    second = client.get(first["next"]).json()
    assert second["errors"][0]["state"] == "failed" and client.get(second["next"]).json()["errors"] == []
    assert len(client.get(f"{address}/errors?format=ndjson").text.splitlines()) == 2
    rows = list(csv.DictReader(io.StringIO(client.get(f"{address}/report.csv").text)))
    assert [row["state"] for row in rows] == ["done", "done", "refused", "done", "done", "failed", "done", "done"]
    assert rows[0]["statements"] == "1" and float(rows[0]["seconds"]) >= 0

    output = client.get(f"{address}/output.ndjson")
    assert output.headers["content-type"] == NDJSON
    bundles = [json.loads(line, parse_float=str) for line in output.text.splitlines()]
    assert [bundle["identifier"]["value"] for bundle in bundles] == ["n-0", "n-1", "n-3", "n-4", "n-6", "n-7"]
    values = [entry["resource"].get("valueQuantity") for entry in bundles[0]["entry"]]
    assert {"value": "1.10", "unit": "%"} in values, "digits as written"
    archive = zipfile.ZipFile(io.BytesIO(client.get(f"{address}/ssmix2.zip").content))
    assert archive.testzip() is None
    patients = {Path(name).parts[2] for name in archive.namelist() if name != "not-written.txt"}
    assert patients == {"P000000", "P000001", "P000003", "P000004", "P000006"}, archive.namelist()


def test_the_report_holds_charts_and_no_word_of_a_note(client: TestClient, database: Database, tmp_path: Path) -> None:
    lines = [note(number, id=f"r-{number}") for number in range(5)]
    address = post(client, ndjson([*lines, lines[0], {"id": "<script>"}]), name="A/B").headers["Location"]
    feeding = feeder(database, tmp_path)
    feeding.tick()
    work(database)
    early = client.get(f"{address}/report.html")
    run_through(database, feeding)
    page = client.get(f"{address}/report.html")
    for answer in (early, page):
        assert answer.status_code == 200 and "検査" not in answer.text and "HbA1c" not in answer.text
        assert "sha256-" in answer.headers["content-security-policy"] and "http" not in answer.text
        charts = answer.text.split("<svg")[1:]
        assert len(charts) >= 3
        for part in charts:
            ElementTree.fromstring("<svg" + part.partition("</svg>")[0] + "</svg>")
    assert "no code" in page.text, "the remark that our conversion makes"
    for words in ("Notes by outcome", "done 6, failed 0, cancelled 0, refused 1, open 0", "statements without a code"):
        assert words in page.text


def test_tables_and_archives_are_taken_in(client: TestClient, database: Database, tmp_path: Path) -> None:
    table = "id,patient.id,patient.family,patient.given,text\nt-1,P0000001,検査,花子,発熱。\n".encode("cp932")
    stated = {"document_type": "progress", "department": "内科", "date": "2026-04-01"}
    of_table = post(client, table, CSV, **stated)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("notes.csv", "file,patient.id,patient.family,patient.given\nz-1.txt,P0000001,検査,花子\n")
        archive.writestr("z-1.txt", "咳。")
    of_archive = post(client, out.getvalue(), ZIP, **stated)
    run_through(database, feeder(database, tmp_path))
    for sent in (of_table, of_archive):
        found = client.get(sent.headers["Location"]).json()
        assert (found["state"], found["done"], found["refused"], found["total"]) == ("done", 1, 0, 1), found


@pytest.mark.parametrize(
    ("media", "content", "query", "status", "reason"),
    [
        ("application/json", b"{}", {}, 415, "Content-Type must be"),
        (CSV, b"id,text\n1,x\n", {}, 422, "lacks the columns"),
        (ZIP, b"PK", {}, 422, "no ZIP archive"),
        (NDJSON, b"", {}, 422, "the input is empty"),
        (NDJSON, b"{}\n", {"rate": "always"}, 422, "rate: "),
        (NDJSON, b"{}\n", {"source": "検査"}, 422, "source: "),
        (NDJSON, b"{}\n", {"name": "検査花子"}, 422, "name: "),
        (NDJSON, b"{}\n", {"ssmix2": "true"}, 415, "application/zip"),
        (NDJSON, b"x" * 2_000_001, {}, 413, "BATCH_MAX_BYTES"),
    ],
)
def test_what_cannot_be_taken_in_is_refused_with_the_reason(
    client: TestClient, media: str, content: bytes, query: dict[str, str], status: int, reason: str
) -> None:
    answer = post(client, content, media, **query)
    assert (answer.status_code, reason in answer.text) == (status, True), answer.text
    assert "検査" not in answer.text
    # The same where nobody announces the length.
    if content:
        assert post(client, iter([content]), media, **query).status_code == status


def test_who_may(client: TestClient, database: Database, tmp_path: Path) -> None:
    address = post(client, ndjson([note(500)])).headers["Location"]
    run_through(database, feeder(database, tmp_path))
    routes = [("GET", ""), ("GET", "/errors"), ("GET", "/report.csv"), ("GET", "/report.html"), ("GET", "/output.ndjson"),
              ("GET", "/ssmix2.zip"), ("POST", "/pause"), ("POST", "/cancel"), ("POST", "/resume"), ("POST", "/retry-failed")]  # fmt: skip
    with client_of(database) as other:
        for method, route in routes:
            assert other.request(method, address + route).status_code == 401
        other.headers.update(headers(database, principal(Role.REVIEWER, Role.ADMIN, name="other")))
        for method, route in routes:
            assert other.request(method, address + route).status_code == 403
        assert post(other, ndjson([note(1)])).status_code == 403
        other.headers.update(headers(database, principal(rights=[Right.BATCHES], name="third")))
        assert other.get(address).status_code == 200
        assert other.get(f"{address}/output.ndjson").status_code == other.get(f"{address}/ssmix2.zip").status_code == 403
        # Who may not see drafts is given what is released.
        other.headers.update(headers(database, principal(Role.INTEGRATOR, name="fourth")))
        assert other.get(f"{address}/output.ndjson").text == ""
        with database.session_scope() as session:
            session.execute(text("UPDATE resources SET state = 'final' WHERE type = 'Observation' AND id = 'obs-n-500'"))
        (line,) = other.get(f"{address}/output.ndjson").text.splitlines()
        assert [entry["resource"]["id"] for entry in json.loads(line)["entry"]] == ["obs-n-500"]
    unknown = "/api/batches/00000000-0000-4000-8000-000000000000"
    for method, route in routes:
        assert client.request(method, unknown + route).status_code == 404


async def answer_to(client: TestClient, name: str, receive: Any) -> tuple[int, bytes]:
    """Of a POST whose body comes from `receive`, piece by piece."""
    stated = {"host": "testserver", "content-type": NDJSON, "authorization": client.headers["authorization"]}
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http", "root_path": "",
        "path": "/api/batches", "raw_path": b"/api/batches", "query_string": f"name={name}".encode(),
        "client": ("127.0.0.1", 1), "server": ("testserver", 80),
        "headers": [(key.encode(), value.encode()) for key, value in stated.items()],
    }  # fmt: skip
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await client.app(scope, receive, send)  # type: ignore[arg-type]
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def test_a_body_that_breaks_off_leaves_nothing(client: TestClient, database: Database) -> None:
    waiting = [{"type": "http.request", "body": ndjson([note(1)]), "more_body": True}]

    async def receive() -> dict[str, Any]:
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    status, body = asyncio.run(answer_to(client, "broken", receive))
    assert status == 400 and b"nothing of it was kept" in body
    with database.session_scope() as session:
        assert session.scalar(text("SELECT count(*) FROM batches WHERE name = 'broken'")) == 0


def test_a_few_files_come_in_at_a_time_and_no_more(client: TestClient) -> None:
    """Each of them holds a thread of the server."""

    async def together() -> list[tuple[int, bytes]]:
        go_on, asked = asyncio.Event(), 0

        async def receive() -> dict[str, Any]:
            nonlocal asked
            asked += 1
            await go_on.wait()
            return {"type": "http.request", "body": ndjson([note(700)]), "more_body": False}

        held = [asyncio.create_task(answer_to(client, "held", receive)) for _ in range(MAX_UPLOADS)]
        while asked < MAX_UPLOADS:
            await asyncio.sleep(0.01)
        refused = await answer_to(client, "refused", receive)
        go_on.set()
        return [*await asyncio.gather(*held), refused]

    *held, refused = asyncio.run(together())
    assert [status for status, _ in held] == [202] * MAX_UPLOADS
    assert refused[0] == 429 and b"coming in already" in refused[1]
    assert post(client, ndjson([note(701)])).status_code == 202
