"""Findings and drugs in real Japanese reports: `python -m bench.jmed DIR [--model FILE] [--through reader]`.

DIR holds mrner_disease.csv and mrner_medicine.csv of JMED-LLM (sociocom/JMED-LLM, CC BY 4.0), or parts of them: a question
about a report and the list of expressions that answer it. Two ways to ask:

- `list` (default for models with a chat template): the question with prompts/jmed-1.txt, no examples; the answer can only
  be a JSON array of pieces of the report, none of them twice, each inside one sentence, at most 40;
- `reader` (default for models that write the statement form alone): the report goes through the product's own reader;
  diseases that the patient has answer the first question, drug names the second, doses the third. The reader leaves out
  symptoms and findings on purpose, and they are most of what the first question asks for.

Scores are means over the questions of each one's F1, with 95 % bootstrap intervals. `exact`: equal strings. `partial`: a
string counts that contains one of the other side or is contained in one. `published partial` is that of JMED-LLM's own
script, whose test is membership in the list: one exact hit makes every expression of that question count, so that an F1
can exceed 1. The best published figures of the full sets stand below each task. Prints a table and writes bench/results/jmed.json.
"""

import argparse
import ast
import csv
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app import extraction
from app.errors import HyojunError, ModelOutputError
from app.generation.chat import Message
from app.generation.form import escape
from app.generation.grammar import literal
from app.generation.llama import LlamaCpp
from app.generation.reader import NoteReader
from app.generation.registry import BASE, Models, configured
from app.generation.segments import chunks, fold
from app.generation.structured import lark_grammar
from app.settings import Settings
from app.terminology.entries import starter_entries, starter_version
from app.terminology.matching import Lexicon
from bench.accuracy_score import interval, resamples
from schemas.statement import Assertion, Field, Kind

ROOT = Path(__file__).resolve().parents[1]
PROMPT = Path(__file__).parent / "prompts/jmed-1.txt"
PUBLISHED = {"disease": (0.31, 0.83), "medicine": (0.42, 0.65)}
"""Best published exact and partial F1 on the full sets."""
MOST = 40
"""Expressions in one answer; the longest list of the sets has 14."""


@dataclass(frozen=True)
class Item:
    """`tag`: d findings of the patient, m-key drug names, m-val doses. `text`: the report within the question."""

    tag: str
    question: str
    text: str
    answer: frozenset[str]


def read_items(path: Path) -> list[Item]:
    """The rows of a CSV file of JMED-LLM. Raises OSError, ValueError for any other file."""
    found = []
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            try:
                question, answer = row["question"], ast.literal_eval(row["answer"])
                text = question[question.index("「") + 1 : question.rindex("」")]
                found.append(Item(row["tag"], question, text, frozenset(answer)))
            except (KeyError, TypeError, ValueError, SyntaxError):
                raise ValueError(f"{path}, row {len(found) + 1} is not tag, question, answer") from None
    if not found:
        raise ValueError(f"{path} holds no rows")
    return found


# -- asking -----------------------------------------------------------------------------------------------------------


def next_piece(text: str, done: Sequence[str]) -> str:
    """Lark source of what may follow `[` and the pieces `done`: one more piece of `text`, and `,` or the end.

    A piece is a run of whole chunks of one sentence, and none that is there already. The first may be missing.
    """
    sentences = [part for line in text.split("\n") for part in line.split("。") if part.strip()]
    end = '"]" | ' if not done else ""
    rules = [
        f'start: {end}"\\"" PIECE ' + ('("\\"," | "\\"]")' if len(done) + 1 < MOST else '"\\"]"'),
        "PIECE: ANY & BEGINS" + (" & ~DONE" if done else ""),
        "ANY: " + " | ".join(f"S{number}" for number in range(len(sentences))),
        r"BEGINS: /[^\s](.|\n)*/",
    ]
    if done:
        rules.append("DONE: " + " | ".join(literal(escape(piece)) for piece in done))
    for number, sentence in enumerate(sentences):
        pieces = [escape(sentence[start:stop]) for start, stop in chunks(sentence)]
        rules.append(f"S{number}: %regex " + json.dumps({"substring_chunks": pieces}, ensure_ascii=False))
    return "\n".join(rules) + "\n"


class ListAsker:
    """The question itself, and a grammar of lists: one generation for each piece, since what may not come again is known
    only then. The question stays in the cache from piece to piece."""

    name = "list"

    def __init__(self, model: LlamaCpp) -> None:
        self.model = model
        self.system = PROMPT.read_text(encoding="utf-8").strip()
        self.prompt = hashlib.sha256(self.system.encode()).hexdigest()[:16]

    def __call__(self, item: Item) -> set[str]:
        """Raises TooLong, Unavailable."""
        prompt, _ = self.model.chat_prompt([Message("system", self.system), Message("user", item.question)])
        done: list[str] = []
        written = "["
        while len(done) < MOST:
            tokens = [*prompt, *self.model.tokenize(written)]
            grammar = lark_grammar(next_piece(item.text, done))
            try:
                text = self.model.write(tokens, grammar, shared=len(prompt)).text
            except ModelOutputError:
                break  # no piece is left that goes on as this one began
            if text == "]":
                break
            done.append(json.loads(text[:-1]))
            if text.endswith("]"):
                break
            written += text
        return {piece.strip() for piece in done}


class ReaderAsker:
    """The report through the product's reader, as a progress note."""

    name = "reader"
    prompt = None

    def __init__(self, reader: NoteReader) -> None:
        self.reader = reader
        self.lexicon = Lexicon(starter_entries(), starter_version())

    def __call__(self, item: Item) -> set[str]:
        """Raises TooLong, Unavailable, ModelOutputError."""
        mentions = [(m.start, m.end, m.kind) for m in self.lexicon.find_mentions(item.text)]
        reading = self.reader.read(item.text, mentions, "progress")
        statements, _ = extraction.locate(reading.lines, reading.written, fold)
        if item.tag == "d":
            told = [s for s in statements if s.kind is Kind.CONDITION and s.assertion is Assertion.PRESENT]
            return {statement.name.quote for statement in told}
        drugs = [statement for statement in statements if statement.kind is Kind.PRESCRIPTION]
        field = Field.NAME if item.tag == "m-key" else Field.DOSE
        return {drug.fields[field].quote for drug in drugs if field in drug.fields}


# -- scoring ----------------------------------------------------------------------------------------------------------


def exact_f1(gold: frozenset[str], told: set[str]) -> float:
    return _f1(len(gold & told), len(gold & told), gold, told)


def partial_f1(gold: frozenset[str], told: set[str]) -> float:
    """Recall over `gold`, precision over `told`: a string counts that contains, or is contained in, one of the other."""
    return _f1(
        sum(any(one in other or other in one for other in told) for one in gold),
        sum(any(one in other or other in one for other in gold) for one in told),
        gold,
        told,
    )


def published_partial_f1(gold: frozenset[str], told: set[str]) -> float:
    """As partial_f1_score of JMED-LLM's src/utils.py counts."""
    hits = sum(one in told or not gold.isdisjoint(told) for one in gold)
    return _f1(hits, hits, gold, told)


def _f1(found: int, right: int, gold: frozenset[str], told: set[str]) -> float:
    recall, precision = found / len(gold) if gold else 0.0, right / len(told) if told else 0.0
    return 2 * recall * precision / (recall + precision) if recall + precision else 0.0


MEASURES: Mapping[str, Callable[[frozenset[str], set[str]], float]] = {
    "exact": exact_f1,
    "partial": partial_f1,
    "published partial": published_partial_f1,
}


def scored(items: Sequence[Item], told: Sequence[set[str]]) -> dict[str, Any]:
    """Means over the items, of all and of each tag, with intervals."""
    groups: dict[str, Sequence[int]] = {"all": range(len(items))}
    tags = sorted({item.tag for item in items})
    if len(tags) > 1:
        groups |= {tag: [n for n, item in enumerate(items) if item.tag == tag] for tag in tags}
    found: dict[str, Any] = {}
    for group, numbers in groups.items():
        weights = resamples(len(numbers)) / len(numbers)
        found[group] = {"items": len(numbers)}
        for name, measure in MEASURES.items():
            values = np.array([measure(items[n].answer, told[n]) for n in numbers])
            found[group][name] = {"f1": round(float(values.mean()), 4), "interval": interval(weights @ values)}
    return found


# -- the run ----------------------------------------------------------------------------------------------------------


def asked(ask: Callable[[Item], set[str]], items: Sequence[Item], slots: int) -> Iterator[set[str] | HyojunError]:
    """Answers in the order of the items, as many at once as the model has slots."""

    def one(item: Item) -> set[str] | HyojunError:
        try:
            return ask(item)
        except HyojunError as error:
            return error

    with ThreadPoolExecutor(slots) as pool:
        yield from pool.map(one, items)


def table(name: str, way: str, results: Mapping[str, Any]) -> str:
    lines = [f"{name}, through {way}", f"{'':22}{'items':>6}" + "".join(f"{measure:>27}" for measure in MEASURES)]
    for task, groups in results.items():
        for group, row in groups["scores"].items():
            cells = "".join(
                f"{row[m]['f1']:9.3f} ({row[m]['interval'][0]:.3f} to {row[m]['interval'][1]:.3f})" for m in MEASURES
            )
            lines.append(f"{task if group == 'all' else '  ' + group:22}{row['items']:6}{cells}")
        exact, partial = PUBLISHED[task]
        lines.append(f"  best published figures of the full set: exact {exact:.2f}, partial {partial:.2f}")
        if groups["failed"]:
            lines.append(f"  {groups['failed']} items failed and count as no answer")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--model", type=Path, default=ROOT / "weights/hyojun-uc1.gguf")
    parser.add_argument("--through", choices=("list", "reader"))
    parser.add_argument("--items", type=int, help="only so many of each file")
    parser.add_argument("--out", type=Path, default=ROOT / "bench/results/jmed.json")
    args = parser.parse_args(arguments)
    tasks = {}
    try:
        for task in PUBLISHED:
            tasks[task] = read_items(args.folder / f"mrner_{task}.csv")[: args.items]
    except FileNotFoundError as error:
        sys.exit(f"{error.filename} is not there: give the folder of JMED-LLM's CSV files")
    except ValueError as error:
        sys.exit(str(error))
    settings = Settings(model_path=args.model)
    models = Models(configured(settings), settings)
    results: dict[str, Any] = {}
    try:
        model, _ = models.use(BASE)
        way = args.through or ("reader" if model.metadata("hyojun.form") else "list")
        ask: ListAsker | ReaderAsker
        if way == "reader":
            ask = ReaderAsker(NoteReader(model))
        elif not model.chats:
            sys.exit(f"{args.model} carries no chat template: --through reader")
        else:
            ask = ListAsker(model)
        for task, items in tasks.items():
            started = time.monotonic()
            told = []
            for answer in asked(ask, items, model.slots):
                told.append(answer)
                print(f"\r{task}: {len(told)} of {len(items)}", end="", file=sys.stderr, flush=True)
            print(file=sys.stderr)
            for number, answer in enumerate(told):
                if isinstance(answer, HyojunError):
                    print(f"{task}, item {number + 1}: {answer}", file=sys.stderr)
            answers = [answer if isinstance(answer, set) else set() for answer in told]
            results[task] = {
                "scores": scored(items, answers),
                "failed": sum(isinstance(answer, HyojunError) for answer in told),
                "seconds": round(time.monotonic() - started, 1),
                "told": [sorted(answer) for answer in answers],
            }
    except HyojunError as error:
        sys.exit(str(error))
    finally:
        models.close()
    print(table(args.model.name, way, results))
    result = {"model": args.model.name, "through": way, "prompt": ask.prompt, "published": PUBLISHED, "tasks": results}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
