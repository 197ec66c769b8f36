"""Accuracy through the real pipeline: `python -m bench.accuracy [GOLD.jsonl] [--model FILE] [--scorer FILE]`.

    python -m bench.accuracy                                      the sample notes, the shipped model
    python -m bench.accuracy GOLD.jsonl --against other.gguf      a second model on the same notes
    python -m bench.accuracy GOLD.jsonl --model chat.gguf --against-prompt draft.txt
                                                                  the same chat model with another prompt

Converts every note of GOLD (notes with gold facts, see tests/notes/README.md) in this process as `hyojun convert` does,
several at once, and compares the Bundles with the facts. For each item and over all: precision, recall and F1 of `name`
(the right thing was found) and `strict` (and every field that the gold states agrees), with 95 % intervals (bootstrap over
notes); assertions against assertions; the share of the facts found whose code is the gold's; the same by document type.
Differences are paired: both ways of reading are resampled together.

Matching and the item totals are the scorer's, a stand-alone script that takes GOLD and a folder of Bundles, and `--json`;
by default the one in ../shared/eval. It is run as well, and must come to the same totals. Settings of the machine
(MODEL_SLOTS, MODEL_GPU_LAYERS …) count. Prints tables and writes bench/results/accuracy.json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from app.batches import convert_notes
from app.errors import HyojunError
from app.generation.reader import NoteReader
from app.generation.registry import PROMPTS, READING, Models, Registry, single
from app.intake import read_notes
from app.pipeline import Converter
from app.settings import Settings
from app.terminology.entries import starter_entries, starter_version
from app.terminology.matching import Lexicon
from bench.accuracy_score import (
    ITEMS,
    NO_RESOURCE,
    NoteScore,
    Scorer,
    code_checks,
    differences,
    load_scorer,
    measures,
    score_note,
    scorer_view,
)

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "eval"


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("gold", type=Path, nargs="?", default=ROOT / "tests/notes/gold.jsonl")
    add("--model", type=Path, default=ROOT / "weights/hyojun-uc1.gguf")
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--against", type=Path, metavar="FILE", help="a second model")
    other.add_argument("--against-prompt", metavar="PROMPT", help="a prompt of app/generation/prompts, or a .txt file")
    add("--scorer", type=Path, default=SHARED / "score.py")
    add("--out", type=Path, default=ROOT / "bench/results/accuracy.json")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    args = _arguments(arguments)
    for path in (args.gold, args.model, *([args.against] if args.against else [])):
        if not path.is_file():
            sys.exit(f"{path} is not there")
    if not args.scorer.is_file():
        sys.exit(f"{args.scorer} is not there: name the scorer with --scorer")
    prompts: list[str | None] = [None]
    files = [args.model]
    if args.against:
        files, prompts = [args.model, args.against], [None, None]
    elif args.against_prompt:
        files, prompts = [args.model, args.model], [None, _prompt(args.against_prompt)]
    lexicon = Lexicon(starter_entries(), starter_version())
    runs: list[dict[str, Any]] = []
    scores: list[list[NoteScore]] = []
    try:
        for file, prompt in zip(files, prompts, strict=True):
            with _converter(file, prompt, lexicon) as converter:
                if args.against_prompt and converter.reader.compact:
                    sys.exit(f"{file} was trained on the statement form: it is given no prompt")
                found, timing = _scored(converter, args.gold, args.scorer, lexicon)
            name = f"{file.name}, prompt {Path(prompt).name}" if prompt else file.name
            fingerprints = converter.reader.fingerprints.as_dict()
            runs.append(
                {"name": name, "model": fingerprints, "scores": scorer_view(found), **measures(found), **timing}
            )
            scores.append(found)
    except HyojunError as error:
        sys.exit(str(error))
    result: dict[str, Any] = {"gold": args.gold.name, "notes": len(scores[0]), "runs": runs}
    for run in runs:
        print(table(run))
    if len(scores) > 1:
        result["differences"] = differences(*scores)
        print(difference_table(runs[0]["name"], runs[1]["name"], result["differences"]))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _prompt(name: str) -> str:
    """The name by which the reader finds it: that of a file without its ending, counted from the folder of prompts."""
    file = Path(name).resolve() if name.endswith(".txt") else PROMPTS / f"{name}.txt"
    if not file.is_file():
        sys.exit(f"the prompt {file} is not there")
    return str(file.with_suffix(""))


@contextmanager
def _converter(file: Path, prompt: str | None, lexicon: Lexicon) -> Iterator[Converter]:
    """As the product makes it for one GGUF file; with `prompt` without a calibration, which is one prompt's own.

    Raises Unavailable, InvalidInput.
    """
    settings = Settings(model_path=file)
    if prompt is None:
        converter = Converter.load(settings, lexicon)
    else:
        registry = single(file)
        reading = replace(registry.get(READING), prompt=prompt)
        models = Models(Registry(registry.source, {**registry.entries, READING: reading}), settings)
        converter = Converter(NoteReader.of(models), lexicon, settings, models=models)
    try:
        yield converter
    finally:
        if converter.models is not None:
            converter.models.close()


def _scored(converter: Converter, gold: Path, scorer: Path, lexicon: Lexicon) -> tuple[list[NoteScore], dict[str, Any]]:
    """The counts of each note, and how long it took: `seconds` of each note, others beside it, `wall_seconds` of all."""
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        started = time.monotonic()

        def convert(note: Any, earlier: Any) -> Any:
            return converter.convert(note, source="bench", earlier=earlier)

        for outcome in convert_notes(read_notes(gold), out, convert, slots=converter.slots):
            if outcome.note_id is None:
                sys.exit(f"{gold}, line {outcome.number}: {outcome.error}")
            if outcome.error is not None:
                print(f"\n{outcome.note_id}: {outcome.error}", file=sys.stderr)
            seconds.append(outcome.seconds)
            print(f"\r{len(seconds)} notes", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        wall = time.monotonic() - started
        scores = score_folder(gold, out, load_scorer(scorer), lexicon)
        command = [sys.executable, str(scorer), str(gold), folder, "--json"]
        theirs = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    if scorer_view(scores) != theirs:
        raise AssertionError(f"the totals are not those of {scorer}: its matching and this program's have parted")
    return scores, {"slots": converter.slots, "wall_seconds": round(wall, 2), "seconds": seconds}


def score_folder(gold: Path, folder: Path, scorer: Scorer, lexicon: Lexicon) -> list[NoteScore]:
    """The counts of every note of `gold`, whose Bundle is `folder`/<note id>.json, or missing."""
    coded = code_checks(lexicon)
    scores = []
    for line in gold.read_text(encoding="utf-8").splitlines():
        note = json.loads(line)
        file = folder / f"{note['id']}.json"
        bundle = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
        scores.append(score_note(scorer, note, bundle, coded))
    return scores


# -- tables ---------------------------------------------------------------------------------------------------------------


def table(run: dict[str, Any]) -> str:
    totals = run["scores"]["items"]
    columns = f"{'precision':>11}{'recall':>8}{'F1':>7}  {'95 % interval':14}"
    lines = [
        run["name"],
        f"{'':25}{'name':>11}{'':{len(columns) - 8}}{'strict':>11}",
        f"{'item':13}{'gold':>6}{'pred':>6}{columns}   {columns}{'located':>9}  traps sprung",
    ]
    for item in (*ITEMS, "all"):
        row, total = run["items"][item], totals[item]
        cells = "   ".join(
            f"{_cell(row[name]['precision']):>11}{_cell(row[name]['recall']):>8}{_cell(row[name]['f1']):>7}"
            f"  {_range(row[name]['interval']):14}" for name in ("name", "strict")
        )  # fmt: skip
        traps = f"{total['trapped']}/{total['traps']}" if item != "all" else ""
        lines.append(f"{item:13}{total['gold']:6}{total['pred']:6}{cells}{_cell(total['located']):>9}  {traps}")
    for item, pairs in run["assertions"].items():
        lines += ["", *_matrix(item, pairs)]
    lines += ["", "codes of the facts that were found (right / facts)"]
    for measure, found in run["codes"].items():
        lines.append(f"  {measure:24}{found['right']:5} / {found['facts']:<5}{found['right'] / found['facts']:6.3f}")
    lines += ["", f"{'document type':15}{'notes':>6}{'gold':>6}{'name F1':>9}{'strict F1':>11}"]
    for kind, found in run["document_types"].items():
        lines.append(
            f"{kind:15}{found['notes']:6}{found['gold']:6}{_cell(found['name_f1']):>9}{_cell(found['strict_f1']):>11}"
        )
    evidence = run["scores"]["evidence"]
    seconds = run["seconds"]
    lines += [
        "",
        f"resources with valid evidence: {evidence.get('traced', 0)}/{evidence.get('resources', 0)}; "
        f"notes without a Bundle: {len(run['scores']['missing_notes'])}",
        f"seconds a note, {run['slots']} at once: median {median(seconds):.2f}, longest {max(seconds):.2f}; "
        f"all notes {run['wall_seconds']:.1f}",
        "",
    ]
    return "\n".join(lines)


def _matrix(item: str, pairs: dict[str, int]) -> list[str]:
    """Rows gold, columns what the resource says; the last column: no resource."""
    cells = {tuple(pair.split("->")): count for pair, count in pairs.items()}
    order = ("present", "suspected", "absent", "denied", "family", "past")
    rows = [name for name in order if any(gold == name for gold, _ in cells)]
    columns = [*(name for name in order if any(told == name for _, told in cells)), NO_RESOURCE]
    lines = [f"{item + ' gold / told':24}" + "".join(f"{name:>11}" for name in columns)]
    for gold in rows:
        lines.append(f"  {gold:22}" + "".join(f"{cells.get((gold, told), 0):11}" for told in columns))
    return lines


def difference_table(first: str, second: str, found: dict[str, Any]) -> str:
    lines = [
        f"{second} less {first}: F1, 95 % interval of the paired bootstrap, share of resamples in which it is better"
    ]
    for item, row in found.items():
        cells = [
            f"{name} {_signed(row[name]['difference']):>8}  {_range(row[name]['interval'], signed=True):19}"
            f"{'' if row[name]['better'] is None else format(row[name]['better'], '.3f'):>6}"
            for name in ("name", "strict")
        ]
        lines.append(f"{item:13}" + "   ".join(cells))
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"


def _range(found: list[float] | None, *, signed: bool = False) -> str:
    if found is None:
        return "-"
    return f"{found[0]:+.3f} to {found[1]:+.3f}" if signed else f"{found[0]:.3f} to {found[1]:.3f}"


if __name__ == "__main__":
    main()
