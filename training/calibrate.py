"""How likely is a statement right? `python -m training.calibrate --model F --gold G.jsonl [--synthetic N] --out FILE`.

Runs the model over notes with known facts, by the product's own steps as far as names and codes (`Converter.read`), compares
what it says with the facts, fits the probability of being right to the model's confidences (`training.probability`), prints
how far that can be trusted, and writes the calibration (`app.confidence`), which belongs beside the model and into
models.toml. Fit it anew for every model. The notes of tests/notes/gold.jsonl are for measuring alone: do not give them here.

A statement is right when a fact of its kind and assertion stands over the same characters under the same name; each fact
makes one statement right. Synthetic notes are drawn with a seed of their own, which training must not have used.
"""

import argparse
import json
import random
import re
import sys
import time
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app import __version__
from app.batches import write_file
from app.confidence import Calibration, features
from app.errors import HyojunError, InvalidInput
from app.generation.reader import NoteReader
from app.generation.registry import Models, single
from app.intake import read_notes
from app.pipeline import Converter
from app.restated import restated
from app.settings import Settings
from app.terminology.entries import starter_entries, starter_version
from app.terminology.matching import Lexicon
from schemas import systems
from schemas.note import ChartNote, DocumentType, Patient
from schemas.record import Record
from schemas.statement import Assertion, Field, Kind
from training.corpus.core import Line
from training.corpus.frame import note as synthetic_note
from training.corpus.names import Names
from training.probability import Case, Fact, cross_fitted, figures, fit

SEED = 970_001
"""Far from the seeds of training (`train.py`: its seed, and its seed plus 1,000 and the step)."""


@dataclass(frozen=True)
class Expected:
    """A fact that a note states. `start`, `end`: code points of the note; they hold the name, or are those of a quote that
    begins with it (`quoted`). `names`: what it may be called. `value`: of a result, as written or in canonical form."""

    kind: Kind
    start: int
    end: int
    names: tuple[str, ...]
    assertion: Assertion = Assertion.PRESENT
    icd10: str | None = None
    value: str | None = None
    quoted: bool = False


def expected_of_lines(lines: Sequence[Line]) -> list[Expected]:
    """The facts of a synthetic note whose lines are joined by line breaks."""
    found: list[Expected] = []
    start = 0
    for line in lines:
        at = 0
        for fact in line.facts:
            name = fact.fields[Field.NAME]
            at = max(line.text.find(name, at), 0)  # the facts of a line come in the order of their names
            value = fact.fields.get(Field.VALUE)
            found.append(Expected(fact.kind, start + at, start + at + len(name), (name,), fact.assertion, value=value))
        start += len(line.text) + 1
    return found


def expected_of_gold(fact: dict[str, Any]) -> Expected:
    """One of the `facts` of a note in the form of tests/notes/README.md."""
    kind = Kind(fact["item"])
    said = fact.get("assertion") or "present"
    names = [fact.get(key) for key in ("name", "substance", "display", "analyte", "core", "drug", "ingredient")]
    return Expected(
        kind,
        fact["start"],
        fact["start"] + len(fact["quote"]),
        tuple(name for name in names if name),
        Assertion.ABSENT if said == "denied" else Assertion(said),
        fact.get("icd10"),
        fact.get("value"),
        quoted=True,
    )


def judge(records: Sequence[Record], facts: Iterable[Expected]) -> list[bool]:
    """For each record whether it is right. A fact makes one record right: the one with its value, else the first."""
    right = [False] * len(records)
    for fact in facts:
        fitting = [n for n, record in enumerate(records) if not right[n] and _is(record, fact)]
        best = min(fitting, key=lambda n: (not _same_value(records[n], fact), n), default=None)
        if best is not None:
            right[best] = True
    return right


def _is(record: Record, fact: Expected) -> bool:
    statement = record.statement
    name = statement.name
    if statement.kind is not fact.kind or statement.assertion is not fact.assertion:
        return False
    if not (name.start < fact.end and fact.start < name.end):
        return False
    # What a quote begins with is its name, abbreviated or not; アレルギーなし denies as a whole.
    denied = fact.kind is Kind.ALLERGY and fact.assertion is Assertion.ABSENT
    if denied or (fact.quoted and name.start == fact.start):
        return True
    if fact.icd10 and any(c.system == systems.ICD10 and c.code[:3] == fact.icd10[:3] for c in record.codings):
        return True
    shown = (name.quote, record.display, *(coding.display for coding in record.codings))
    return any(_alike(one, other) for one in fact.names for other in shown)


def _alike(one: str, other: str) -> bool:
    one, other = _plain(one), _plain(other)
    return one == other or (min(len(one), len(other)) >= 2 and (one in other or other in one))


def _plain(text: str) -> str:
    return re.sub(r"[\s・\-‐－ー_,、()\[\]【】]", "", unicodedata.normalize("NFKC", text).casefold())


def _same_value(record: Record, fact: Expected) -> bool:
    if fact.value is None:
        return True
    quote = record.statement.fields.get(Field.VALUE)
    shown = [quote.quote if quote else "", record.text_value or ""]
    if record.quantity:
        shown.append(str(record.quantity.value))
    return any(_plain(fact.value).lstrip("<>≦≧=") == _plain(one).lstrip("<>≦≧=") for one in shown)


# -- the command --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Known:
    """A note and its facts. `synthetic`: the corpus wrote it, not a person."""

    note: ChartNote
    facts: list[Expected]
    synthetic: bool


def gold_notes(path: Path) -> list[Known]:
    """Raises InvalidInput for a line that is no note with facts."""
    rows = [row for row in path.read_text(encoding="utf-8").split("\n") if row.strip()]
    found: list[Known] = []
    for line, row in zip(read_notes(path), rows, strict=True):
        facts = json.loads(row).get("facts") if line.note else None
        if line.note is None or facts is None:
            raise InvalidInput(f"{path}, line {line.number}: {line.error or 'the note has no facts'}")
        found.append(Known(line.note, [expected_of_gold(fact) for fact in facts], synthetic=False))
    return found


def synthetic_notes(count: int, seed: int) -> Iterator[Known]:
    """Notes of the corpus with the facts that it wrote them from."""
    rng, names = random.Random(seed), Names()
    nobody = Patient(id="0", family="合成", given="患者")
    for number in range(count):
        context, lines = synthetic_note(rng, names)
        note = ChartNote(
            id=f"synthetic-{number}",
            document_type=DocumentType(context.document_type),
            department=context.department,
            date=context.day,
            patient=nobody,
            text="\n".join(line.text for line in lines),
        )
        yield Known(note, expected_of_lines(lines), synthetic=True)


def cases_of(known: Sequence[Known], converter: Converter, gold_weight: float) -> tuple[list[Case], list[Fact]]:
    """What the model says of the notes, as many at once as it reads together. A case's note is its place in `known`."""
    cases: list[Case] = []
    facts: list[Fact] = []
    with ThreadPoolExecutor(converter.slots) as pool:
        for number, records in enumerate(pool.map(lambda one: converter.read(one.note), known)):
            one = known[number]
            if not one.synthetic:
                # A person states once what the note tells twice; the product writes it once, too.
                records = [record for record in restated(records, converter.lexicon)[0] if record.restates is None]
            weight, written = (1.0, False) if one.synthetic else (gold_weight, True)
            facts += [Fact(number, fact.kind, weight, written) for fact in one.facts]
            for record, right in zip(records, judge(records, one.facts), strict=True):
                said = features(record)
                if said is not None:
                    cases.append(Case(number, record.statement.kind, said, right, weight, written))
            print(f"\r{number + 1} of {len(known)} notes", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return cases, facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="the GGUF file that reads notes")
    parser.add_argument("--gold", type=Path, action="append", default=[], help="notes with facts; may be given again")
    parser.add_argument("--synthetic", type=int, default=150, help="synthetic notes beside them")
    parser.add_argument("--seed", type=int, default=SEED, help="of the synthetic notes; not one of training")
    parser.add_argument("--gold-weight", type=float, default=3.0, help="of a gold note, against a synthetic one")
    parser.add_argument("--error-rate", type=float, default=0.02, help="of what may be accepted without a person")
    parser.add_argument("--out", type=Path, required=True, help="the calibration, *.calibration.json beside the model")
    parser.add_argument("--json", type=Path, help="file for the figures")
    args = parser.parse_args()
    started = time.monotonic()
    try:
        known = [*synthetic_notes(args.synthetic, args.seed), *(one for path in args.gold for one in gold_notes(path))]
        settings = Settings(model_path=args.model)
        models = Models(single(args.model), settings)
        try:
            converter = Converter(NoteReader.of(models), Lexicon(starter_entries(), starter_version()), settings)
            cases, facts = cases_of(known, converter, args.gold_weight)
        finally:
            models.close()
    except HyojunError as error:
        sys.exit(str(error))
    prints = converter.reader.fingerprints.as_dict()
    calibration = Calibration(
        model={key: prints[key] for key in ("model", "adapter", "prompt")},
        kinds=fit(cases, facts, error_rate=args.error_rate),
        error_rate=args.error_rate,
        fitted={
            "gold_notes": len(known) - args.synthetic,
            "synthetic_notes": args.synthetic,
            "seed": args.seed,
            "gold_weight": args.gold_weight,
            "statements": len(cases),
            "grammar": prints["grammar"],
            "terminology": converter.lexicon.version,
            "version": __version__,
        },
    )
    write_file(args.out, calibration.model_dump_json(indent=1) + "\n")
    found = measured(calibration, cases, facts)
    show(calibration, found)
    print(f"\n{len(known)} notes, {time.monotonic() - started:.0f} s; written to {args.out}")
    if args.json:
        said = {"calibration": calibration.model_dump(mode="json"), "fingerprint": calibration.fingerprint, **found}
        write_file(args.json, json.dumps(said, ensure_ascii=False, indent=1) + "\n")


def measured(calibration: Calibration, cases: Sequence[Case], facts: Sequence[Fact]) -> dict[str, dict[str, Any]]:
    """Figures of gold and synthetic notes: of all kinds that were fitted, and of each. They come from fits to halves of the
    notes, and so say a little less than what the calibration, fitted to all, is worth."""
    judged = cross_fitted(cases, facts, error_rate=calibration.error_rate)

    def of(kinds: Iterable[Kind], source: bool) -> dict[str, Any]:
        chosen = set(kinds)
        wanted = sum(fact.kind in chosen and fact.written is source for fact in facts)
        return figures([one for one in judged if one.case.kind in chosen and one.case.written is source], wanted)

    return {
        part: {"all": of(calibration.kinds, source), **{kind.value: of([kind], source) for kind in calibration.kinds}}
        for part, source in (("gold", True), ("synthetic", False))
    }


def show(calibration: Calibration, found: dict[str, dict[str, Any]]) -> None:
    """The figures as tables."""
    print(f"calibration {calibration.fingerprint}")
    for kind, one in calibration.kinds.items():
        accept = (
            "nothing accepted by itself"
            if one.auto_accept is None
            else f"accepted by itself from {one.auto_accept:.4f}"
        )
        held = "never held" if kind is Kind.ALLERGY else f"held below {one.hold:.4f}"
        print(f"  {kind.value:13} {held:18} {accept}{', isotonic' if one.steps else ''}")
    for part, kinds in found.items():
        if not kinds["all"]["statements"]:
            continue
        print(f"\n{part} notes, each half judged by a fit to the other")
        heads = ("said", "right", "facts", "ECE", "Brier", "F1", "held", "right", "F1", "passed", "wrong")
        print(f"{'':13}" + "".join(f"{head:>8}" for head in heads))
        for name, row in kinds.items():
            if row["statements"]:
                numbers = [row[key] for key in ("statements", "right", "wanted", "ece", "brier", "f1")]
                numbers += [row[key] for key in ("held", "held_right", "f1_held", "accepted", "accepted_error")]
                print(f"{name:13}" + "".join(map(_cell, numbers)))
        print("\n  probability  statements    mean   right")
        for row in kinds["all"]["bins"]:
            print(
                f"  {row['from']:.1f} - {row['from'] + 0.1:.1f}   {row['count']:10}{_cell(row['mean'])}{_cell(row['right'])}"
            )
        coverage = "  ".join(f"{row['share']:.0%} {row['error']:.3f}" for row in kinds["all"]["coverage"])
        print(f"  most probable share, and the error in it: {coverage}")


def _cell(number: float | None) -> str:
    return f"{'-' if number is None else f'{number:.3f}' if isinstance(number, float) else number:>8}"


if __name__ == "__main__":
    main()
