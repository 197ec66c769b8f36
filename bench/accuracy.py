"""Accuracy through the real pipeline: `python -m bench.accuracy [GOLD.jsonl] [--model FILE] [--scorer FILE]`.

Converts every note of GOLD (notes with gold facts, see tests/notes/README.md) in this process, writes the Bundles to a
temporary folder and has the scorer read them: name and strict F1 for each item. Prints the table and the time for each
note, and writes bench/results/accuracy.json. The scorer is a stand-alone script that takes GOLD and the folder, and
`--json`; by default the one in ../shared/eval.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from app import fhir
from app.intake import read_notes
from app.pipeline import Converter
from app.settings import Settings
from app.terminology.entries import starter_entries, starter_version
from app.terminology.matching import Lexicon

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "eval"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gold", type=Path, nargs="?", default=ROOT / "tests/notes/gold.jsonl")
    parser.add_argument("--model", type=Path, default=ROOT / "weights/hyojun-uc1.gguf")
    parser.add_argument("--scorer", type=Path, default=SHARED / "score.py")
    args = parser.parse_args()
    if not args.scorer.is_file():
        sys.exit(f"{args.scorer} is not there: name the scorer with --scorer")
    settings = Settings(model_path=args.model)
    converter = Converter.load(settings, Lexicon(starter_entries(), starter_version()))
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for line in read_notes(args.gold):
            if line.note is None:
                sys.exit(f"line {line.number}: {line.error}")
            started = time.monotonic()
            conversion = converter.convert(line.note, source="bench")
            seconds.append(time.monotonic() - started)
            (Path(folder) / f"{line.note.id}.json").write_text(fhir.dumps(conversion.bundle), encoding="utf-8")
            print(f"\r{len(seconds)} notes", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        command = [sys.executable, str(args.scorer), str(args.gold), folder]
        print(subprocess.run(command, check=True, capture_output=True, text=True).stdout, end="")
        scores = json.loads(
            subprocess.run([*command, "--json"], check=True, capture_output=True, text=True).stdout
        )
    seconds.sort()
    print(f"seconds a note: median {seconds[len(seconds) // 2]:.2f}, longest {seconds[-1]:.2f}")
    result = {"model": converter.reader.fingerprints.as_dict(), "gold": args.gold.name, "scores": scores, "seconds": seconds}
    target = ROOT / "bench/results/accuracy.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, ensure_ascii=False, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
