"""What a log line may hold."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from app.errors import InvalidInput
from app.log import configure

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


def test_text_in_extra_is_withheld(stream: io.StringIO) -> None:
    logging.getLogger("app.x").info("note", extra={"what": SECRET, "more": "two words"})
    line = only_line(stream)
    assert line["what"] == line["more"] == "<withheld>"


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
    assert only_line(stream)["message"] == "cannot parse ? HbA1c"
