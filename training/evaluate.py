"""How well a GGUF reads notes: `python -m training.evaluate --config C`.

Table [evaluate]. Every note of `gold` goes through the product's own reader, with its prompt, grammar and windows. A fact
counts as found by `name` when its kind and name are right, and as `exact` when every field and label is right too. A
fact that a note states twice has to be found twice. Gold facts of whole documents, with codes and dates, are measured by
`bench.accuracy`.
"""

import json
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from app.errors import HyojunError
from app.generation.context import Memory
from app.generation.form import Written
from app.generation.llama import LlamaCpp
from app.generation.reader import NoteReader
from app.generation.segments import fold
from app.terminology.entries import starter_entries, starter_version
from app.terminology.matching import Lexicon
from schemas.statement import Field, Kind
from training import shards
from training.config import Evaluate, from_arguments, wanted

ADAPTER = "adapter"


@dataclass
class Score:
    """Facts of the gold, facts that were written, and those that agree."""

    gold: int = 0
    found: int = 0
    right: int = 0

    @property
    def precision(self) -> float:
        return self.right / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        return self.right / self.gold if self.gold else 0.0

    @property
    def f1(self) -> float:
        return 2 * self.right / (self.gold + self.found) if self.gold + self.found else 0.0

    def add(self, gold: Counter[Hashable], found: Counter[Hashable]) -> None:
        self.gold += gold.total()
        self.found += found.total()
        self.right += (gold & found).total()


@dataclass
class Scores:
    """By kind, and of all together ("all"); `unread`: notes that the model could not be asked about, by reason."""

    name: dict[str, Score] = field(default_factory=dict)
    exact: dict[str, Score] = field(default_factory=dict)
    notes: int = 0
    unread: Counter[str] = field(default_factory=Counter)

    def add(self, gold: list[Written], found: list[Written]) -> None:
        self.notes += 1
        for kind in (None, *Kind):
            key = kind.value if kind else "all"
            for scores, view in ((self.name, _named), (self.exact, _whole)):
                ours, theirs = (
                    Counter(view(one) for one in facts if kind in (None, one.kind)) for facts in (gold, found)
                )
                scores.setdefault(key, Score()).add(ours, theirs)

    def as_dict(self) -> dict[str, Any]:
        def rows(scores: dict[str, Score]) -> dict[str, Any]:
            return {
                key: {"gold": s.gold, "found": s.found, "right": s.right, "precision": round(s.precision, 4),
                      "recall": round(s.recall, 4), "f1": round(s.f1, 4)}
                for key, s in scores.items()
            }  # fmt: skip

        return {"notes": self.notes, "unread": dict(self.unread), "name": rows(self.name), "exact": rows(self.exact)}


def _named(one: Written) -> Hashable:
    return one.kind, fold(one.fields[Field.NAME])


def _whole(one: Written) -> Hashable:
    fields = frozenset((key, fold(piece)) for key, piece in one.fields.items())
    return one.kind, fields, one.assertion, one.category, one.result, one.action


def evaluate(plan: Evaluate) -> Scores:
    """Raises Unavailable, InvalidInput when the model or adapter cannot be opened, ValueError without gold notes."""
    notes = list(islice(_gold(plan.gold), plan.notes))
    if not notes:
        raise ValueError(f"{plan.gold} has no gold notes")
    lexicon = Lexicon(starter_entries(), starter_version())
    memory = Memory(
        sequence_tokens=plan.context_tokens, slots=plan.slots, threads=plan.threads, gpu_layers=plan.gpu_layers,
        adapters={ADAPTER: plan.adapter} if plan.adapter else {},
    )  # fmt: skip
    model = LlamaCpp(plan.model, memory)
    scores = Scores()
    try:
        reader = NoteReader(model, adapter=ADAPTER if plan.adapter else None, prompt=plan.prompt)

        def read(note: shards.Note) -> list[Written] | str:
            mentions = [(m.start, m.end, m.kind) for m in lexicon.find_mentions(note.text)]
            try:
                return reader.read(note.text, mentions, note.document_type).written
            except HyojunError as error:  # its facts count as missed
                return type(error).__name__

        with ThreadPoolExecutor(plan.slots) as pool:
            for note, found in zip(notes, pool.map(read, notes), strict=True):
                gold = [shards.as_written(fact) for line in note.lines for fact in line.facts]
                if isinstance(found, str):
                    scores.unread[found] += 1
                scores.add(gold, found if isinstance(found, list) else [])
    finally:
        model.close()
    if plan.report:
        plan.report.parent.mkdir(parents=True, exist_ok=True)
        plan.report.write_text(json.dumps(scores.as_dict(), indent=1), encoding="utf-8")
    return scores


def _gold(path: Path) -> Iterator[shards.Note]:
    for file in shards.found_in(path, "held-out") if path.is_dir() else [path]:
        yield from shards.read(file)


def table(scores: Scores) -> Iterable[str]:
    yield f"{'':14}{'gold':>6}{'name F1':>9}{'exact F1':>10}"
    for key, name in scores.name.items():
        yield f"{key:14}{name.gold:6}{name.f1:9.3f}{scores.exact[key].f1:10.3f}"
    yield f"{scores.notes} notes" + "".join(f", {count} unread ({reason})" for reason, count in scores.unread.items())


if __name__ == "__main__":
    print("\n".join(table(evaluate(wanted(from_arguments(__doc__).evaluate, "evaluate")))))
