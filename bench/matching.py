"""Names to codes by the size of the tables: `python -m bench.matching [--sizes 10000,30000,100000]`.

For the starter and for growing tables (the starter merged with so many made-up concepts: names of the starter's diseases
and drugs put together from their parts) it prints, each in a process of its own: seconds to make and merge the entries and to build the lexicon,
megabytes that it holds, lookups a second, milliseconds of `find_mentions` for 1,000 characters of the samples, of
`candidates` for one name, and seconds of the first one (which builds the trigrams). Beside each number its ratio to the
starter. Writes bench/results/matching.json.
"""

import argparse
import gc
import itertools
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from app.terminology.entries import Entry, starter_entries
from app.terminology.matching import Lexicon
from app.terminology.merge import merge
from schemas import systems
from schemas.coding import Coding
from schemas.statement import Kind

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = ("concepts", "names", "merge_s", "build_s", "mb", "lookups_per_s", "mentions_ms", "first_candidates_s", "candidates_ms")
FLAT = ("lookups_per_s", "mentions_ms", "candidates_ms")


def made_up(count: int) -> Iterator[Entry]:
    """Official-looking rows: two diseases in three with four codes each, the rest drug products. Names are unlike any in
    the starter, and repeatable."""
    chance = random.Random(0)
    diseases = [entry.display for entry in starter_entries() if entry.kind is Kind.CONDITION]
    drugs = [entry.display for entry in starter_entries() if entry.kind is Kind.PRESCRIPTION and not entry.packed_codings]
    seen: set[str] = set()
    for number in itertools.count():
        if len(seen) == count:
            return
        if number % 3:
            one, other = chance.choice(diseases), chance.choice(diseases)
            name = one[: chance.randint(2, len(one))] + other[chance.randint(0, len(other) - 2) :]
            codes = {
                systems.DISEASE_KEY: f"2{number:07}",
                systems.RECEIPT_DISEASE: f"9{number:06}",
                systems.DISEASE_EXCHANGE: f"{number:X}",
                systems.ICD10: f"A{number % 999:03}",
            }
            kind, facts = Kind.CONDITION, {"adoption": "1", "changed": "20250101"}
        else:
            strength = f"{chance.randint(1, 999)}mg"
            name = f"{chance.choice(drugs)}錠{strength}「{chance.choice(diseases)[:3]}」"
            codes = {systems.YJ: f"{number:012}"}
            kind, facts = Kind.PRESCRIPTION, {"strength": strength, "form": "錠", "drug_code": f"{number:012}", "maker": "架空製薬"}
        if name not in seen:
            seen.add(name)
            codings = [Coding(system=system, code=code, display=name, version="1") for system, code in codes.items()]
            yield Entry(kind, name, (name,), codings, facts)


def megabytes() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def best(work: Callable[[], object], times: int = 5) -> float:
    return min(seconds(work) for _ in range(times))


def measure(count: int) -> dict[str, Any]:
    """One row of the table: the lexicon of the starter and `count` made-up concepts."""
    # Loaded as a database gives them: nothing but the lexicon is kept.
    base = starter_entries()
    gc.collect()
    before = megabytes()
    started = time.perf_counter()
    entries = merge(itertools.chain(base, made_up(count)))
    merged = time.perf_counter() - started
    started = time.perf_counter()
    lexicon = Lexicon(entries, "bench")
    built = time.perf_counter() - started
    concepts, names = len(entries), sum(len(entry.names) for entry in entries)
    known = [(entry.kind, name) for entry in entries[:: max(1, len(entries) // 2000)] for name in entry.names[:1]]
    del entries, base
    gc.collect()
    text = "\n".join(json.loads(path.read_text())["text"] for path in sorted((ROOT / "samples").glob("*.json")))
    unknown = [f"{name[:3]}架空{name[3:]}" for kind, name in known if kind is Kind.CONDITION][:100]
    lookups = best(lambda: [lexicon.lookup(kind, name) for kind, name in known]) / len(known)
    mentions = best(lambda: lexicon.find_mentions(text)) / len(text) * 1000
    first = seconds(lambda: lexicon.candidates(Kind.CONDITION, unknown[0]))
    candidates = best(lambda: [lexicon.candidates(Kind.CONDITION, name) for name in unknown], 3) / len(unknown)
    return {
        "concepts": concepts,
        "names": names,
        "merge_s": round(merged, 2),
        "build_s": round(built, 2),
        "mb": round(megabytes() - before, 1),
        "lookups_per_s": round(1 / lookups),
        "mentions_ms": round(mentions * 1000, 3),
        "first_candidates_s": round(first, 2),
        "candidates_ms": round(candidates * 1000, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,30000,100000")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is not None:
        print(json.dumps(measure(args.one)))
        return
    rows = []
    for size in (0, *map(int, args.sizes.split(","))):
        # A process of its own: memory that another size has freed would count for this one.
        done = subprocess.run(
            [sys.executable, "-m", "bench.matching", "--one", str(size)], check=True, capture_output=True, text=True, cwd=ROOT
        )
        rows.append(json.loads(done.stdout))
    for row in rows:
        row["ratios"] = {name: round(row[name] / rows[0][name], 2) for name in FLAT}
    print("  ".join(f"{name:>18}" for name in COLUMNS))
    for row in rows:
        cells = [f"{row[name]} (x{row['ratios'][name]})" if name in FLAT else str(row[name]) for name in COLUMNS]
        print("  ".join(f"{cell:>18}" for cell in cells))
    target = ROOT / "bench/results/matching.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
