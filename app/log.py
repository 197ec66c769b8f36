"""JSON lines on stderr, one object a line, made so that patient text cannot get into them by accident.

Four measures, because log records also come from libraries:
- an exception is written as its types and code positions; its message only if it is one of ours (`HyojunError`), since
  messages of database drivers and parsers quote the data that they failed on. Local variables are never written;
- of `extra=` only the fields that `FIELDS` lists pass, each only with a value of its form: what is not listed is left out and
  counted (`dropped`), a value of another form is `<withheld>`;
- what a library puts into its message passes only where it is a number, an id or an address;
- whatever is not ASCII in a message is masked: our messages are English, the notes are Japanese.
"""

import json
import logging
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

from app.errors import HyojunError

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Of the request that is being answered: it stands in every line that is written meanwhile."""

_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?")
_FLAG = re.compile(r"True|False")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.$-]{0,39}")
_MARK = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+-]{0,119}")
_URI = re.compile(r"(urn:|https?://)[A-Za-z0-9._:/?=&#+-]{1,200}|[A-Za-z0-9._-]{1,80}")
# A path with the names of its parameters, as it is declared: {id}, $operation.
_ROUTE = re.compile(r"-|/[A-Za-z0-9_{}:.$/-]{0,200}")
# `schemas.access.Principal.id`; of a person it is the number of the account.
_PRINCIPAL = re.compile(r"anonymous|(user|client|system|os):[A-Za-z0-9._-]{1,64}")

# What a library may put into a message: a number, an id of ours, the name of a task, an address of a server.
_FOREIGN = re.compile(
    rf"{_UUID.pattern}|{_NUMBER.pattern}|hyojun[a-z_.]{{0,60}}|https?|[0-9.]{{7,15}}|[0-9a-f:]{{2,39}}|localhost|SIG[A-Z]{{3,6}}"
)
# Celery puts the text of an exception and of its traceback into the arguments of its message.
_CELERYS_DATA = frozenset({"exc", "traceback", "args", "kwargs", "return_value", "description"})

FIELDS: Mapping[str, re.Pattern[str]] = {
    "job_id": _UUID, "note_id": _UUID, "run_id": _UUID, "batch_id": _UUID, "review_id": _UUID, "export_id": _UUID,
    "destination_id": _UUID, "delivery_id": _UUID, "subscription_id": _UUID,
    "attempt": _NUMBER, "fence": _NUMBER, "line": _NUMBER, "position": _NUMBER, "count": _NUMBER, "status": _NUMBER,
    "seconds": _NUMBER, "retry_seconds": _NUMBER, "duration_ms": _NUMBER, "prompt_tokens": _NUMBER,
    "completion_tokens": _NUMBER, "concepts": _NUMBER, "releases": _NUMBER, "names": _NUMBER, "notes": _NUMBER,
    "resources": _NUMBER, "bytes": _NUMBER, "slots": _NUMBER, "port": _NUMBER,
    "state": _WORD, "kind": _WORD, "type": _WORD, "finish": _WORD, "action": _WORD, "outcome": _WORD, "error": _WORD,
    "method": _WORD, "part": _WORD,
    "version": _MARK, "worker": _MARK, "model": _MARK, "request_id": _MARK, "revision": _MARK,
    "system": _URI, "route": _ROUTE, "path": _ROUTE, "principal": _PRINCIPAL, "cached": _FLAG,
}  # fmt: skip
"""The fields that a line may have beside its own, and the form of their values. `path` is a route, too."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "taskName",
    "data",
    "stack",
    "color_message",
    "errors",
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
        ours = record.name == "app" or record.name.startswith("app.")
        if isinstance(record.args, dict):
            record.args = {
                key: "-" if key in _CELERYS_DATA else _argument(value, ours) for key, value in record.args.items()
            }
        elif isinstance(record.args, tuple):
            record.args = tuple(_argument(value, ours) for value in record.args)
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


def _argument(value: object, ours: bool) -> object:
    """What may stand in a message. Our own messages are written with care; a library's may hold anything."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, BaseException):
        return describe(value)
    if ours:
        return value
    return value if _FOREIGN.fullmatch(str(value)) else "-"


class JsonFormatter(logging.Formatter):
    """`at` is UTC, ISO 8601 with milliseconds."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (current := request_id.get()) is not None:
            line["request_id"] = current
        further = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        line |= {key: _safe(value, FIELDS[key]) for key, value in further.items() if key in FIELDS}
        if dropped := len(further.keys() - FIELDS.keys()):
            line["dropped"] = dropped
        if hasattr(record, "errors"):
            line["errors"] = record.errors
        return json.dumps(line, ensure_ascii=True)


def _safe(value: object, form: re.Pattern[str]) -> object:
    if value is None:
        return None
    text = str(value)
    if not form.fullmatch(text):
        return "<withheld>"
    return value if isinstance(value, bool | int | float) else text


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
