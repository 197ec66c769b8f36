"""Cost of a batch by its size: `python -m bench.batch [1000 10000 100000] [--pipeline] [--keep DIR] [--processes N]`.

Real: taking in the input, the feeder, the dispatcher, the broker (pgmq), one worker with --processes pool processes, claims, heartbeats,
storing with reviews and the search index, the ledger; PostgreSQL with fsync, each size in a database of its own. Not real: the
model. Its time is a pause (--model-ms), and what it makes of a note is made beforehand: by default the whole conversion, of
which every note gets a copy with ids of its own; with --pipeline the generated text alone, and coding, building and checking
run for every note.

Prints milliseconds a note (wall, and processor time of each part) and the peak memory of worker and sender; they must not grow
with the size. Progress lines show the same within a size. With --keep a run that was cut off is finished by another. Writes
bench/results/batch.json.
"""

import argparse
import copy
import json
import os
import pickle
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid4, uuid5

from sqlalchemy import select

from app import batch_runs, fhir
from app.batch_input import Order, receive
from app.conversions import Conversion
from app.db import Database, migrate
from app.embedded import embedded_postgres
from app.intake import read_notes
from app.log import configure
from app.settings import Settings
from app.worker import Loaded, create_worker, run_worker
from models import Batch
from schemas.batch import BatchFormat
from schemas.note import ChartNote

ROOT = Path(__file__).resolve().parents[1]
PATIENT_NOTES = 10
TICKS = os.sysconf("SC_CLK_TCK")


# --- what stands for the model ------------------------------------------------------------------------------------------


def sample_notes(characters: int) -> list[ChartNote]:
    """The beginnings of the sample notes, so many characters of each."""
    found = [line.note for path in sorted((ROOT / "samples").glob("*.json")) for line in read_notes(path)]
    return [note.model_copy(update={"text": note.text[:characters]}) for note in found if note is not None]


class _Prepared:
    """The reader of notes without its model: what it wrote before, after a pause."""

    def __init__(self, reader: Any, readings: dict[str, Any], seconds: float) -> None:
        self._reader, self._readings, self._seconds = reader, readings, seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def read(self, text: str, *_: Any, **__: Any) -> Any:
        time.sleep(self._seconds)
        return self._readings[text]


def prepare(target: Path, characters: int) -> None:
    """Reads and converts the sample notes with the shipped model, once."""
    converter = _converter()
    readings, conversions = {}, {}
    reader = converter.reader
    for note in sample_notes(characters):
        mentions = [(m.start, m.end, m.kind) for m in converter.lexicon.find_mentions(note.text)]
        readings[note.text] = reader.read(note.text, mentions, note.document_type.value)
        converter.reader = _Prepared(reader, readings, 0.0)
        conversions[note.text] = converter.convert(note, source="bench")
    target.write_bytes(pickle.dumps((readings, conversions)))


def _converter() -> Any:
    from app.pipeline import Converter
    from app.terminology.entries import starter_entries, starter_version
    from app.terminology.matching import Lexicon

    return Converter.load(Settings(_env_file=None), Lexicon(starter_entries(), starter_version()))


def copied(made: Any, note: ChartNote) -> Conversion:
    """The conversion `made` as if it were of `note`: its resources have ids of their own, the patient's those of the patient."""
    ids = {
        r["id"]: str(uuid5(NAMESPACE_OID, f"{note.patient.id if r['resourceType'] == 'Patient' else note.id}/{r['id']}"))
        for r in made.resources
    }
    pattern = re.compile("|".join(map(re.escape, sorted(ids, key=len, reverse=True))))
    resources = [fhir.loads(pattern.sub(lambda match: ids[match[0]], fhir.dumps(r))) for r in made.resources]
    run = made.run | {"id": str(uuid4()), "started_at": datetime.now(UTC)}
    held = frozenset((type_, ids[id_]) for type_, id_ in made.held)
    return replace(copy.copy(made), run=run, resources=resources, held=held)


def work() -> None:
    """The worker's process: everything of the product but the model."""
    prepared, pipeline = Path(os.environ["BENCH_PREPARED"]), os.environ["BENCH_PIPELINE"] == "1"
    seconds = float(os.environ["BENCH_MODEL_MS"]) / 1000

    def load(settings: Settings, database: Database) -> Loaded:
        readings, conversions = pickle.loads(prepared.read_bytes())  # noqa: S301  # this program wrote it
        slots = settings.model_slots or 4
        if pipeline:
            converter = _converter()
            converter.reader = _Prepared(converter.reader, readings, seconds)
            return Loaded(converter.convert, slots)

        def convert(note: ChartNote, *, source: str) -> Conversion:
            time.sleep(seconds)
            return copied(conversions[note.text], note)

        return Loaded(convert, slots)

    chosen = Settings()
    configure(chosen.log_level)
    run_worker(create_worker(chosen, load), chosen)


# --- measuring ----------------------------------------------------------------------------------------------------------


def lines(notes: int, characters: int) -> Iterator[bytes]:
    samples = [note.model_dump(mode="json", exclude_none=True) for note in sample_notes(characters)]
    for number in range(notes):
        stated = samples[number % len(samples)]
        patient = stated["patient"] | {"id": f"B{number // PATIENT_NOTES:08}"}
        yield json.dumps(stated | {"id": f"b-{number}", "patient": patient}, ensure_ascii=False).encode() + b"\n"


def descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(path.parent.name))
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], [])
    return found


def cpu_seconds(pid: int) -> float:
    """Of the process and all below it, those that have ended included."""
    total = 0.0
    for one in descendants(pid):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:15])) / TICKS
    return total


def peak_mb(pids: Sequence[int]) -> int:
    most = 0
    for pid in pids:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        if found := re.search(r"VmHWM:\s+(\d+) kB", status):
            most = max(most, int(found[1]) // 1024)
    return most


def postmaster(folder: Path) -> int:
    pid_file = next(folder.rglob("postmaster.pid"))
    return int(pid_file.read_text().splitlines()[0])


def measure(notes: int, folder: Path, prepared: Path, args: argparse.Namespace) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    with embedded_postgres(folder) as url:
        migrate(url)
        database = Database(url)
        server = postmaster(folder)
        with database.session_scope() as session:
            batch_id = session.scalars(select(Batch.id).where(Batch.name == f"bench-{notes}", Batch.sha256.is_not(None))).first()
        taking_in = 0.0
        if batch_id is None:
            begun = time.monotonic()
            order = Order(f"bench-{notes}", "bench", BatchFormat.NDJSON)
            batch_id = receive(database, lines(notes, args.characters), order, created_by="system:bench", max_bytes=10**12)
            taking_in = time.monotonic() - begun
        env = os.environ | {
            "DATABASE_URL": url, "DATA_DIR": str(folder), "BENCH_PREPARED": str(prepared), "LOG_LEVEL": "WARNING",
            "BENCH_PIPELINE": "1" if args.pipeline else "0", "BENCH_MODEL_MS": str(args.model_ms),
            "MODEL_SLOTS": str(args.slots), "WORKER_PROCESSES": str(args.processes),
        }  # fmt: skip
        command = [sys.executable, "-c", "from bench.batch import work; work()"]
        worker = subprocess.Popen(command, env=env, cwd=ROOT, start_new_session=True)
        try:
            result = follow(database, batch_id, notes, worker.pid, server, args)
        finally:
            worker.terminate()
            worker.wait()
        database.dispose()
    return result | {"taking in ms": round(taking_in * 1000 / notes, 3)}


def follow(
    database: Database, batch_id: UUID, notes: int, worker: int, server: int, args: argparse.Namespace
) -> dict[str, Any]:
    def through() -> int:
        with database.session_scope() as session:
            found = batch_runs.status(session, batch_id)
        ended = int(found["done"] + found["failed"] + found["refused"])
        return notes if found["state"] in batch_runs.ENDED else min(ended, notes - 1)

    # The worker's start (imports, loading) is no cost of a note.
    first = through()
    while (now := through()) == first and now < notes:
        time.sleep(0.2)
    first, begun = now, time.monotonic()
    at = (cpu_seconds(worker), cpu_seconds(server))
    last, last_at, last_cpu, step = now, begun, at, max(notes // 10, 200)
    while now < notes:
        time.sleep(0.5)
        now = through()
        if now - last >= step or now == notes:
            moment = time.monotonic()
            pids, count = descendants(worker), max(now - last, 1)
            cpu = (cpu_seconds(worker), cpu_seconds(server))
            spent = [(new - old) * 1000 / count for new, old in zip(cpu, last_cpu, strict=True)]
            print(f"  {now:>8,} of {notes:,}: {(moment - last_at) * 1000 / count:6.1f} ms a note, CPU: worker {spent[0]:5.1f}, "
                  f"PostgreSQL {spent[1]:5.1f}; feeder and dispatcher {peak_mb([worker])} MB, pool {peak_mb(pids[1:])} MB",
                  flush=True)  # fmt: skip
            last, last_at, last_cpu = now, moment, cpu
    wall, counted = time.monotonic() - begun, max(notes - first, 1)
    with database.session_scope() as session:
        state = batch_runs.status(session, batch_id)
    assert state["done"] == notes, state
    pids = descendants(worker)
    return {
        "notes": notes,
        "wall ms": round(wall * 1000 / counted, 2),
        "worker CPU ms": round((cpu_seconds(worker) - at[0]) * 1000 / counted, 2),
        "PostgreSQL CPU ms": round((cpu_seconds(server) - at[1]) * 1000 / counted, 2),
        "feeder MB": peak_mb([worker]),
        "pool MB": peak_mb(pids[1:]),
        "sender MB": peak_mb([os.getpid()]),
        "measured": counted,
        "pipeline": args.pipeline,
        "model ms": args.model_ms,
        "slots": args.slots,
        "processes": args.processes,
        "characters": args.characters,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", type=int, nargs="*", default=[1_000, 10_000])
    parser.add_argument("--pipeline", action="store_true", help="run everything behind the generation for every note")
    parser.add_argument("--model-ms", type=float, default=5.0, help="what stands for the model's time")
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--processes", type=int, default=1, help="pool processes of the worker")
    parser.add_argument("--characters", type=int, default=200, help="of each note; a progress note is not longer")
    parser.add_argument("--keep", type=Path, help="folder of the databases and of what was prepared; kept")
    args = parser.parse_args()
    target = ROOT / "bench/results/batch.json"
    with tempfile.TemporaryDirectory(prefix="hyojun-bench-") as temporary:
        Path(temporary).chmod(0o755)
        base = args.keep or Path(temporary)
        base.mkdir(parents=True, exist_ok=True)
        prepared = base / "prepared.pickle"
        if not prepared.exists():
            print("preparing: the samples are read once with the shipped model", flush=True)
            # In a process of its own: the model's memory would hide what the sender needs.
            subprocess.run([sys.executable, "-c", "import sys; from pathlib import Path; from bench.batch import prepare; "
                            "prepare(Path(sys.argv[1]), int(sys.argv[2]))", str(prepared), str(args.characters)], check=True, cwd=ROOT)  # fmt: skip
        results = []
        for size in args.sizes:
            print(f"{size:,} notes", flush=True)
            results.append(measure(size, base / f"{size}{'-pipeline' if args.pipeline else ''}", prepared, args))
            print("  " + ", ".join(f"{name} {value}" for name, value in results[-1].items()), flush=True)
    names = [name for name in results[0] if name not in ("pipeline", "model ms", "slots", "processes", "characters", "measured")]
    print("".join(f"{name:>19}" for name in names))
    for result in results:
        print("".join(f"{result[name]:>19,}" for name in names))
    known = json.loads(target.read_text()) if target.exists() else []
    same = [(r["notes"], r["pipeline"]) for r in results]
    target.parent.mkdir(parents=True, exist_ok=True)
    kept = [r for r in known if (r["notes"], r["pipeline"]) not in same]
    target.write_text(json.dumps(sorted([*kept, *results], key=lambda r: (r["pipeline"], r["notes"])), indent=1))


if __name__ == "__main__":
    main()
