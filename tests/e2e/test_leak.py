"""Patient text is in no log line, no message and no reason: a whole service that says as much as it can (DEBUG)."""

import base64
import json
import re
from typing import Any
from urllib.parse import quote, unquote

import psycopg
import pytest
from installation import JOB_SECONDS, Installation, make_note, wait_until
from psycopg import sql

# Strings that are in no other note, and in no table of ours.
FAMILY, GIVEN, DISEASE, PLACE, DEPARTMENT, PATIENT = "鱗鷲坂", "咲羅々", "Qxzvitis", "鵺鱏駅前", "XQZDEPT", "ZQ7X4401"
MARKS = [FAMILY, GIVEN, DISEASE, PLACE, DEPARTMENT, PATIENT]
TEXT = f"#1 {DISEASE} 2型糖尿病で通院中。HbA1c 7.1 %。\n{PLACE}を散歩。{FAMILY}様と電話。"
HOLDERS = {"notes", "resources", "statements", "ssmix2_messages", "search_strings", "search_tokens", "review_work"}
"""Tables that hold what a note says (the last its department, to sort the queue by); in any other one it has no business."""

pytestmark = pytest.mark.timeout(900)

_BASE64 = re.compile(r"[A-Za-z0-9+/]{16,}={0,2}")


def readable(text: str, depth: int = 2) -> str:
    """The text, and behind it what its escapes and its base64 say."""
    found = [text, unquote(text), re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text)]
    if depth:
        for piece in _BASE64.findall(text):
            try:
                raw = base64.b64decode(piece, validate=True)
                found.append(readable(raw.decode(), depth - 1))
            except ValueError:
                continue
    return "\n".join(found)


def marks_in(text: str) -> list[str]:
    seen = readable(text)
    return [mark for mark in MARKS if mark in seen]


@pytest.mark.parametrize("hide", [
    lambda mark: mark,
    quote,
    json.dumps,
    lambda mark: base64.b64encode(json.dumps([[mark, 1], {}, None]).encode()).decode(),
    lambda mark: json.dumps({"body": base64.b64encode(f"text of {mark} and more".encode()).decode()}),
])  # fmt: skip
def test_the_search_finds_what_is_hidden(hide: Any) -> None:
    assert all(mark in marks_in(f"a line with {hide(mark)} in it") for mark in MARKS)
    assert marks_in("nothing of it") == []


def patient_note(text: str = TEXT, **changes: Any) -> dict[str, Any]:
    note = make_note(text, department=DEPARTMENT)
    note["patient"] |= {"id": PATIENT, "family": FAMILY, "given": GIVEN}
    return note | changes


def tables_with_marks(connection: "psycopg.Connection[Any]") -> set[str]:
    names = connection.execute(
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema')").fetchall()  # fmt: skip
    assert {("pgmq", "q_hyojun_convert"), ("pgmq", "a_hyojun_convert"), ("public", "jobs")} <= set(names)
    return {name for schema, name in names if marks_in(rows_of(connection, schema, name))}


def rows_of(connection: "psycopg.Connection[Any]", schema: str, table: str) -> str:
    query = sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(schema, table))
    return "\n".join(row for (row,) in connection.execute(query))


def test_patient_text_leaves_no_trace_outside_its_tables(installation: Installation) -> None:
    with psycopg.connect(installation.database.url, autocommit=True) as connection:
        installation.start_api(log_level="DEBUG")
        installation.start("worker", log_level="DEBUG", job_lease_seconds=60, model_context_tokens=512)

        # One line that this small context does not hold: reading it fails, on every attempt.
        hopeless = patient_note(f"{FAMILY}{DISEASE}" * 40)
        sent = [installation.request_json("POST", "/api/notes", note)["id"] for note in (patient_note(), hopeless)]
        messages = ""

        def ended() -> bool:
            nonlocal messages
            if connection.execute("SELECT to_regclass('pgmq.q_hyojun_convert') IS NOT NULL").fetchone() == (True,):
                messages += rows_of(connection, "pgmq", "q_hyojun_convert")
            return all(state in ("done", "failed") for state in states())

        def states() -> list[str]:
            return [installation.request_json("GET", f"/api/jobs/{job_id}")["state"] for job_id in sent]

        assert wait_until(ended, JOB_SECONDS), installation.log("worker")
        assert states() == ["done", "failed"], installation.log("worker")
        assert any(job_id in readable(messages) for job_id in sent), "a message was seen on its way"
        assert marks_in(messages) == []
        failed = installation.request("GET", f"/api/jobs/{sent[1]}")[1].decode()
        assert "TooLong" in failed and marks_in(failed) == []

        # What is refused, and addresses that hold a name as no client should write them.
        refused = [
            installation.request("POST", "/api/notes", json.dumps(patient_note(), ensure_ascii=False).encode()[:-40]),
            installation.request("POST", "/api/notes", patient_note(f"{TEXT}\x00")),
            installation.request("POST", "/api/notes", patient_note(document_type=DISEASE)),
            installation.request("POST", "/fhir/DocumentReference", {"resourceType": "DocumentReference", "id": PLACE}),
            installation.request("GET", f"/fhir/Patient/{PATIENT}.{DISEASE}"),
            installation.request("GET", f"/api/jobs/{quote(FAMILY)}?name={quote(GIVEN)}"),
        ]
        assert all(400 <= status < 500 for status, _ in refused)
        assert not [answer for _, answer in refused[:4] if marks_in(answer.decode())]
        assert installation.request("GET", f"/?family={quote(FAMILY)}&place={PATIENT}")[0] == 200

        installation.stop()
        found = tables_with_marks(connection)
        assert "notes" in found and found <= HOLDERS
    for command, expected in (("worker", "job left"), ("serve", "Uvicorn running")):
        log = installation.log(command)
        assert expected in log
        assert marks_in(log) == []
    assert "attempt failed" in installation.log("worker")
