"""Many notes from a file in one process: read, convert, write. Without HTTP, database or queue."""

import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
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
"""A note of the same patient that was converted before, and its records."""


@dataclass(frozen=True)
class Outcome:
    """What became of one note. `error`: why nothing was written for it, free of patient text."""

    number: int
    note_id: str | None
    seconds: float = 0.0
    counts: dict[Kind, int] = field(default_factory=dict)
    resources: int = 0
    issues: int = 0
    error: str | None = None


def convert_notes(
    lines: Iterable[Line], out: Path, convert: Callable[[ChartNote, Sequence[Earlier]], "Conversion"]
) -> Iterator[Outcome]:
    """Writes `out`/<note id>.json (a FHIR Bundle) and `out`/ssmix2/ for each note; each file is whole or not there.

    `convert` is given the note, and the records of the patient's notes before it in this file: the patient-wide messages of
    the storage say what this file says of a patient, no more. Over many files, and over what a server has stored,
    `hyojun export ssmix2` keeps them whole. Beside out/ssmix2 stand its journal and index (`app.ssmix2.entries`).
    A note that fails does not end the others. Raises: OSError where `out` cannot be written, Unavailable where the
    storage's index is damaged.
    """
    out.mkdir(parents=True, exist_ok=True)
    earlier: dict[str, list[Earlier]] = {}
    for line in lines:
        if line.note is None:
            yield Outcome(line.number, None, error=str(line.error))
            continue
        started = time.monotonic()
        try:
            conversion = convert(line.note, earlier.get(line.note.patient.id, ()))
        except Exception as error:
            # The message of an error that is not ours may quote the note; its type and place go to the log.
            if not isinstance(error, HyojunError):
                log.exception("conversion failed", extra={"line": line.number})
            yield Outcome(line.number, line.note.id, time.monotonic() - started, error=describe(error))
            continue
        earlier.setdefault(line.note.patient.id, []).append((line.note, conversion.records))
        write_file(out / f"{line.note.id}.json", fhir.dumps(conversion.bundle))
        try:
            for message in conversion.messages:
                ssmix2.write(out / "ssmix2", message, datetime.now(UTC))
        except InvalidInput as error:
            refused = f"the Bundle is written, the SS-MIX2 storage refuses: {error}"
            yield Outcome(line.number, line.note.id, time.monotonic() - started, error=refused)
            continue
        yield Outcome(
            line.number,
            line.note.id,
            time.monotonic() - started,
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
