"""Notes for batches, and a worker inside the test's process: the real feeder, claims and storing, one note after the other."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from sample_conversion import convert

from app import batch_runs, running
from app.batch_feed import Feeder, Plan
from app.batch_input import Order, receive
from app.conversions import Conversion
from app.db import Database
from app.jobs import Convert, Policy
from schemas.batch import BatchFormat
from schemas.note import ChartNote


def note(number: int, **fields: Any) -> dict[str, Any]:
    patient = {"id": f"P{number % 7:06}", "family": "検査", "given": "花子", "sex": "female"}
    stated = {"id": f"n-{number}", "document_type": "progress", "department": "内科", "date": "2026-04-01"}
    return stated | {"patient": patient, "text": f"HbA1c 1.10 %。第{number}回。"} | fields


def ndjson(notes: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(one, ensure_ascii=False).encode() + b"\n" for one in notes)


def send(
    database: Database, content: bytes, format_: BatchFormat = BatchFormat.NDJSON, *, source: str = "emr",
    rate: str | None = None, max_bytes: int = 10_000_000, **defaults: Any,
) -> UUID:  # fmt: skip
    def parts() -> Iterator[bytes]:
        for start in range(0, len(content), 70_000):
            yield content[start : start + 70_000]

    order = Order("test", source, format_, defaults, rate)
    return receive(database, parts(), order, created_by="client:test", max_bytes=max_bytes)


def feeder(database: Database, work: Path, *, window: int = 50) -> Feeder:
    return Feeder(database, Plan(window, 10_000_000, work / "batches"))


def convert_or_fail(note: ChartNote, *, source: str) -> Conversion:
    """A note of the department `broken` fails."""
    if note.department == "broken":
        raise ValueError("検査 is patient text")
    return convert(note, source=source)


def work(database: Database, convert: Convert = convert_or_fail, limit: int = 10_000) -> int:
    """Claims and converts until nothing is due, or `limit` notes are through; how many."""
    begun = 0

    def counted(note: ChartNote, *, source: str) -> Conversion:
        nonlocal begun
        begun += 1
        return convert(note, source=source)

    policy = Policy(lease_seconds=30, max_attempts=1)
    return running.work(
        database, uuid4(), counted, worker="test", policy=policy, slots=1, stopping=lambda: begun >= limit
    )


def run_through(database: Database, feeding: Feeder, *, turns: int = 200) -> None:
    for _ in range(turns):
        moved = feeding.tick()
        if not work(database) and not moved:
            return
    raise AssertionError("the batch does not end")


def status(database: Database, batch_id: UUID) -> dict[str, Any]:
    with database.session_scope() as session:
        return batch_runs.status(session, batch_id)
