"""What a log line may hold."""

import ast
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from app.errors import InvalidInput
from app.log import FIELDS, configure, request_id

SECRET = "検査花子 HbA1c"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure("INFO", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def only_line(stream: io.StringIO) -> dict[str, Any]:
    lines = stream.getvalue().splitlines()
    assert len(lines) == 1
    line: dict[str, Any] = json.loads(lines[0])
    return line


def test_ids_and_numbers_pass(stream: io.StringIO) -> None:
    job_id = uuid4()
    logging.getLogger("app.x").info("job left", extra={"job_id": job_id, "attempt": 2, "state": "done"})
    line = only_line(stream)
    assert (line["message"], line["level"], line["logger"]) == ("job left", "info", "app.x")
    assert (line["job_id"], line["attempt"], line["state"]) == (str(job_id), 2, "done")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("job_id", "kensa-hanako"),
        ("job_id", "検査花子"),
        ("note_id", "0" * 32),
        ("attempt", "kensa"),
        ("state", "two words"),
        ("state", "検査"),
        ("path", "/fhir/Patient/検査花子"),
        ("path", "/api?name=kensa"),
        ("principal", "kensa hanako"),
        ("principal", "hanako"),
        ("version", "a" * 200),
        ("error", "no such name: hanako"),
        ("seconds", [1, "hanako"]),
        ("worker", {"kensa": 1}),
    ],
)
def test_a_value_of_another_form_is_withheld(stream: io.StringIO, field: str, value: object) -> None:
    logging.getLogger("app.x").info("note", extra={field: value})
    assert only_line(stream)[field] == "<withheld>"
    assert "hanako" not in stream.getvalue() and "kensa" not in stream.getvalue()


def test_a_field_that_is_not_listed_is_left_out_and_counted(stream: io.StringIO) -> None:
    logging.getLogger("app.x").info("note", extra={"what": "x1", "family": "kensa", "attempt": 1})
    line = only_line(stream)
    assert line["dropped"] == 2 and line["attempt"] == 1
    assert "what" not in line and "family" not in line and "kensa" not in stream.getvalue()


def test_numbers_keep_their_type(stream: io.StringIO) -> None:
    logging.getLogger("app.x").info("x", extra={"seconds": 1.25e-7, "count": -3, "cached": True, "state": None})
    line = only_line(stream)
    assert (line["seconds"], line["count"], line["cached"], line["state"]) == (1.25e-7, -3, True, None)


def test_lines_written_while_a_request_is_answered_name_it(stream: io.StringIO) -> None:
    before = request_id.set("0123456789abcdef")
    logging.getLogger("app.x").info("x")
    request_id.reset(before)
    logging.getLogger("app.x").info("x")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert first["request_id"] == "0123456789abcdef" and "request_id" not in second


def test_an_exception_shows_types_and_places_and_no_data(stream: io.StringIO) -> None:
    romanized = "hanako kensa"
    try:
        try:
            raise ValueError(romanized)
        except ValueError as cause:
            raise InvalidInput("text: too long") from cause
    except InvalidInput as error:
        logging.getLogger("app.x").exception("refused: %s", error)
    line = only_line(stream)
    assert [e["error"] for e in line["errors"]] == ["InvalidInput: text: too long", "ValueError"]
    assert "test_log.py" in line["errors"][0]["at"][0]
    assert romanized not in stream.getvalue()


def test_a_foreign_exception_in_the_message_is_named_only(stream: io.StringIO) -> None:
    logging.getLogger("celery.worker.request").error("Task handler raised error: %r", ValueError("hanako kensa"))
    assert only_line(stream)["message"] == "Task handler raised error: 'ValueError'"


def test_celerys_own_error_message_loses_its_data(stream: io.StringIO) -> None:
    context = {
        "name": "hyojun.convert_note",
        "id": "1",
        "exc": "ValueError('hanako')",
        "traceback": "hanako",
        "args": "[]",
    }
    logging.getLogger("celery.app.trace").error("Task %(name)s[%(id)s] raised: %(exc)s\n%(traceback)s", context)
    assert only_line(stream)["message"] == "Task hyojun.convert_note[1] raised: -\n-"


def test_japanese_in_a_message_is_masked(stream: io.StringIO) -> None:
    logging.getLogger("library").warning("cannot parse %s", SECRET)
    logging.getLogger("app.x").warning("cannot parse %s", SECRET)
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == [
        "cannot parse -", "cannot parse ? HbA1c",
    ]  # fmt: skip


@pytest.mark.parametrize("logger", ["uvicorn.error", "celery.app.trace", "kombu", "sqlalchemy.pool", "psycopg.pool"])
def test_a_library_puts_ids_and_numbers_into_its_message_and_nothing_else(stream: io.StringIO, logger: str) -> None:
    job_id = uuid4()
    message = "Task %s[%s] on %s:%d: %s, %s, %s, %r, %s"
    values = ("hyojun.convert_note", job_id, "127.0.0.1", 8484, "hanako", "kensa hanako", b"hanako", {"n": "hanako"}, 0.5)
    logging.getLogger(logger).warning(message, *values)
    said = only_line(stream)["message"]
    assert said == f"Task hyojun.convert_note[{job_id}] on 127.0.0.1:8484: -, -, -, '-', 0.5"


def test_every_field_that_the_code_writes_is_listed() -> None:
    """Names in `extra={...}` of any call to a logger."""
    used = set()
    for path in (Path(__file__).parents[2] / "app").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "extra":
                for part in ast.walk(node.value):
                    if isinstance(part, ast.Dict):
                        used |= {key.value for key in part.keys if isinstance(key, ast.Constant)}
    assert {"job_id", "route"} <= used and used - FIELDS.keys() == set()
