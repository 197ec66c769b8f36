"""Speed of everything behind the model: `python -m bench.fhir [NOTES] [--profiles FILE] [--repeat N]`.

Reads each note of NOTES (JSON Lines or a folder of .json; default: samples/) once with the shipped model, untimed, and
keeps its statements. Then it times, over and over: coding (names, values, dates to records), building (records to
resources and a Bundle), checking without profiles, checking with the official ones (PROFILES_PATH or --profiles; left
out where there are none), and JSON. CPU milliseconds of this process, scaled to a note of 20 resources; median and 90th
percentile over notes and repetitions. Prints a table and writes bench/results/fhir.json.
"""

import argparse
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app import extraction, fhir, scopes, standardize
from app.generation.segments import fold
from app.intake import read_notes
from app.pipeline import Converter
from app.settings import Settings
from app.terminology.entries import starter_entries, starter_version
from app.terminology.matching import Lexicon
from schemas.note import ChartNote

ROOT = Path(__file__).resolve().parents[1]
SIZE = 20
"""Resources of the note that the figures are scaled to."""
RUN = fhir.ProvenanceSource(run_id="bench", software_version="0", model="0", prompt="0", grammar="0", terminology="0")
FACILITY = fhir.Facility(number="1310000001", name="架空総合病院", address="架空県見本市9-9", phone="03-0000-0000")


def notes_of(path: Path) -> Iterator[ChartNote]:
    for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
        for line in read_notes(file):
            if line.note is None:
                sys.exit(f"{file}, line {line.number}: {line.error}")
            yield line.note


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notes", type=Path, nargs="?", default=ROOT / "samples")
    parser.add_argument("--profiles", type=Path, default=Settings().profiles_file)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    lexicon = Lexicon(starter_entries(), starter_version())
    converter = Converter.load(Settings(), lexicon)
    profiles = fhir.Profiles.open(args.profiles) if args.profiles.is_file() else None
    taken: dict[str, list[float]] = defaultdict(list)
    sizes: list[int] = []

    for note in notes_of(args.notes):
        mentions = [(m.start, m.end, m.kind) for m in lexicon.find_mentions(note.text)]
        reading = converter.reader.read(note.text, mentions, note.document_type.value)
        statements, _ = extraction.locate(reading.lines, reading.written, fold)
        statements = scopes.distribute(reading.lines, statements, fold)
        now = datetime.now(UTC)

        def coded(note: ChartNote = note, statements: Any = statements) -> Any:
            return standardize.records(statements, note.date, lexicon)[0]

        records = coded()

        def built(note: ChartNote = note, records: Any = records, now: datetime = now) -> Any:
            department = lexicon.department(note.department)
            made = fhir.build_resources(note, records, facility=FACILITY, department=department, run=RUN, recorded=now)[0]
            return fhir.collection(note, made, now)

        bundle = built()
        size = len(bundle["entry"])
        sizes.append(size)
        steps: dict[str, Callable[[], Any]] = {
            "code": coded,
            "build": built,
            "check": lambda b=bundle, t=note.text: fhir.check(b, text=t, lab=lexicon.lab_displays),
            "json": lambda b=bundle: fhir.loads(fhir.dumps(b)),
        }
        if profiles is not None:
            steps["check with profiles"] = lambda b=bundle, t=note.text: fhir.check(
                b, text=t, profiles=profiles, lab=lexicon.lab_displays
            )
        for name, step in steps.items():
            for turn in range(args.repeat + 1):
                started = time.process_time()
                step()
                if turn:  # the first one compiles and fills caches
                    taken[name].append((time.process_time() - started) * 1000 * SIZE / size)

    medians = {name: statistics.median(values) for name, values in taken.items()}
    rows = {name: (medians[name], statistics.quantiles(values, n=10)[-1]) for name, values in taken.items()}
    print(f"{len(sizes)} notes of {min(sizes)} to {max(sizes)} resources; CPU ms for {SIZE} resources")
    for name, (median, slow) in rows.items():
        print(f"{name:22}{median:8.1f}{slow:8.1f}")
    without = sum(medians[name] for name in ("code", "build", "check"))
    print(f"{'together':22}{without:8.1f}")
    if profiles is not None:
        print(f"{'together with profiles':22}{without - medians['check'] + medians['check with profiles']:8.1f}")
    else:
        print(f"no profiles: {args.profiles} is not there")
    target = ROOT / "bench/results/fhir.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps({"sizes": sizes, "cpu_ms_median_p90": rows}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
