"""JSON lines on stderr, one object a line, made so that patient text cannot get into them by accident.

Three measures, because log records also come from libraries:
- an exception is written as its types and code positions; its message only if it is one of ours (`HyojunError`), since
  messages of database drivers and parsers quote the data that they failed on. Local variables are never written;
- a string in `extra=` passes only if it looks like an id, a name or a number;
- whatever is not ASCII in a message is masked: our messages are English, the notes are Japanese.
"""

import json
import logging
import re
import sys
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

from app.errors import HyojunError

_ID = re.compile(r"[\w.:@/+-]{1,120}", re.ASCII)
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "taskName",
    "data",
    "stack",
    "color_message",
}


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def describe(error: BaseException) -> str:
    """The error without data: the message of a `HyojunError`, else only the type's name."""
    return f"{type(error).__name__}: {error}" if isinstance(error, HyojunError) else type(error).__name__


def _frames(tb: TracebackType | None) -> list[str]:
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(tb)]


class PatientTextFilter(logging.Filter):
    """Removes from a record what may quote data; the record stays usable for any formatter after it."""

    def filter(self, record: logging.LogRecord) -> bool:
        # Celery puts the text of the exception and of the traceback into the arguments of its message.
        if isinstance(record.args, dict):
            hidden = {"exc", "traceback", "args", "kwargs", "return_value", "description"}
            record.args = {k: ("-" if k in hidden else v) for k, v in record.args.items()}
        elif isinstance(record.args, tuple):
            record.args = tuple(describe(a) if isinstance(a, BaseException) else a for a in record.args)
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):
            message = str(record.msg)
        record.msg, record.args = _NOT_ASCII.sub("?", message), None
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            record.errors = [
                {"error": _NOT_ASCII.sub("?", describe(e)), "at": _frames(e.__traceback__)} for e in _chain(error)
            ]
        record.exc_info, record.exc_text, record.stack_info = None, None, None
        return True


class JsonFormatter(logging.Formatter):
    """`at` is UTC, ISO 8601 with milliseconds."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for key, value in vars(record).items():
            if key == "errors":
                line[key] = value
            elif key not in _STANDARD:
                line[key] = _safe(value)
        return json.dumps(line, ensure_ascii=True)


def _safe(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    return text if _ID.fullmatch(text) else "<withheld>"


def configure(level: str = "INFO", stream: TextIO | None = None) -> None:
    """Replaces the handlers of the root logger; calling it again changes the level. Default stream: stderr."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.addFilter(PatientTextFilter())
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "celery", "celery.task", "kombu"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    # These two repeat their work at INFO; an access line holds URLs, and a search parameter may name a patient.
    for name in ("uvicorn.access", "pgmq", "httpx", "psycopg.pool"):
        logging.getLogger(name).setLevel("WARNING")
