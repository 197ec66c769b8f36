"""Many notes from a file in one process: read, convert, write. Without HTTP, database or queue."""

import logging
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app import fhir, ssmix2
from app.errors import HyojunError, InvalidInput
from app.intake import Line
from app.log import describe
from schemas.note import ChartNote
from schemas.record import Record
from schemas.statement import Kind

if TYPE_CHECKING:  # importing it loads the model's libraries
    from app.pipeline import Conversion

log = logging.getLogger(__name__)

Earlier = tuple[ChartNote, Sequence[Record]]
"""A note of the same patient that was converted before, without its text, and its diseases and allergies."""


@dataclass(frozen=True)
class Outcome:
    """What became of one note. `error`: why nothing was written for it, free of patient text. `seconds`: from the begin of its
    conversion to the end, other notes beside it."""

    number: int
    note_id: str | None
    seconds: float = 0.0
    counts: dict[Kind, int] = field(default_factory=dict)
    resources: int = 0
    issues: int = 0
    error: str | None = None


def convert_notes(
    lines: Iterable[Line],
    out: Path,
    convert: Callable[[ChartNote, Sequence[Earlier]], "Conversion"],
    *,
    slots: int = 1,
) -> Generator[Outcome]:
    """Writes `out`/<note id>.json (a FHIR Bundle) and `out`/ssmix2/ for each note; each file is whole or not there.

    `convert` is called by `slots` threads. It is given the note, and what the patient's notes before it in this file say:
    the patient-wide messages of the storage say what this file says of a patient, no more. So the notes of one patient are
    converted one after the other. Files are written, and outcomes come, in the order of the lines; a few dozen lines are
    read ahead. Over many files, and over what a server has stored, `hyojun export ssmix2` keeps the patient-wide messages
    whole. Beside out/ssmix2 stand its journal and index (`app.ssmix2.entries`).

    A note that fails does not end the others. When the reader of the outcomes stops early no other conversion begins; those
    under way end by themselves, and nothing of them is written.
    Raises: OSError where `out` cannot be written, Unavailable where the storage's index is damaged.
    """
    out.mkdir(parents=True, exist_ok=True)
    pool = ThreadPoolExecutor(slots, thread_name_prefix="note")
    try:
        for work in _converted(iter(lines), convert, pool, slots):
            yield _written(work, out)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


_AHEAD = 4
"""Lines read ahead for each slot: enough that one long note, or a patient with several, leaves no slot without work."""


_PATIENT_WIDE = (Kind.CONDITION, Kind.ALLERGY)
"""What the patient-wide messages tell; to keep more of every note would fill the memory on a long file."""


@dataclass(eq=False)
class _Work:
    """A line, its conversion once that has begun, and the seconds that it took once it has ended."""

    line: Line
    conversion: "Future[Conversion] | None" = None
    seconds: float = 0.0

    @property
    def patient(self) -> str | None:
        return self.line.note.patient.id if self.line.note else None

    @property
    def ended(self) -> bool:
        return self.line.note is None or (self.conversion is not None and self.conversion.done())


def _converted(
    lines: Iterator[Line],
    convert: Callable[[ChartNote, Sequence[Earlier]], "Conversion"],
    pool: ThreadPoolExecutor,
    slots: int,
) -> Iterator[_Work]:
    """The lines in their order, each when its conversion has ended."""
    earlier: dict[str, list[Earlier]] = {}
    window: deque[_Work] = deque()

    def run(work: _Work, note: ChartNote, before: Sequence[Earlier]) -> "Conversion":
        started = time.monotonic()
        try:
            conversion = convert(note, before)
            told = (record for record in conversion.records if record.written)
            wide = [record for record in told if record.statement.kind in _PATIENT_WIDE]
            if wide:
                # Nobody else uses this list now: the patient's next note begins after this one has ended.
                earlier.setdefault(note.patient.id, []).append((note.model_copy(update={"text": ""}), wide))
            return conversion
        finally:
            work.seconds = time.monotonic() - started

    while True:
        window.extend(_Work(line) for line in islice(lines, slots * _AHEAD - len(window)))
        busy: set[str | None] = set()
        for work in window:
            if work.ended:
                continue
            if work.conversion is None and work.line.note is not None and work.patient not in busy:
                before = tuple(earlier.get(work.line.note.patient.id, ()))
                work.conversion = pool.submit(run, work, work.line.note, before)
            busy.add(work.patient)
        if not window:
            return
        if window[0].ended:
            yield window.popleft()
            continue
        wait([work.conversion for work in window if work.conversion and not work.ended], return_when=FIRST_COMPLETED)


def _written(work: _Work, out: Path) -> Outcome:
    line, seconds = work.line, work.seconds
    if line.note is None or work.conversion is None:
        return Outcome(line.number, None, error=str(line.error))
    if error := work.conversion.exception():
        if not isinstance(error, Exception):
            raise error
        # The message of an error that is not ours may quote the note; its type and place go to the log.
        if not isinstance(error, HyojunError):
            log.error("conversion failed", extra={"line": line.number}, exc_info=error)
        return Outcome(line.number, line.note.id, seconds, error=describe(error))
    conversion = work.conversion.result()
    write_file(out / f"{line.note.id}.json", fhir.dumps(conversion.bundle))
    try:
        for message in conversion.messages:
            ssmix2.write(out / "ssmix2", message, datetime.now(UTC))
    except InvalidInput as error:
        refused = f"the Bundle is written, the SS-MIX2 storage refuses: {error}"
        return Outcome(line.number, line.note.id, seconds, error=refused)
    return Outcome(
        line.number,
        line.note.id,
        seconds,
        dict(conversion.counts),
        len(conversion.resources),
        len(conversion.issues),
    )


def write_file(path: Path, content: str | bytes) -> None:
    """Replaces `path` in one step: a reader, or a kill, sees the old file or the new one."""
    data = content.encode() if isinstance(content, str) else content
    descriptor, name = tempfile.mkstemp(prefix=".", suffix=".unfinished", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def total_of(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """Sums over notes that were written."""
    written = [outcome for outcome in outcomes if outcome.error is None]
    return {
        "notes": len(written),
        "counts": {kind: sum(o.counts.get(kind, 0) for o in written) for kind in Kind},
        "resources": sum(o.resources for o in written),
        "issues": sum(o.issues for o in written),
        "seconds": sum(o.seconds for o in written),
    }
