"""Writes synthetic notes with their facts: `python -m training.corpus --config C`.

Table [corpus]. Shards `train-00000.jsonl` … and `held-out-00000.jsonl` … (`training.shards`) and, for a chat model, the
chats of each, `pairs-train-00000.jsonl` …. The same seed gives the same files. Files that are there are left as they
are, so an interrupted run goes on where it was.
"""

import json
from pathlib import Path
from typing import Any

from app.terminology.entries import starter_entries, starter_version
from app.terminology.matching import Lexicon
from training import shards
from training.chat_tokens import ChatTokens
from training.config import Config, from_arguments, wanted
from training.corpus.names import Names
from training.pairs import PairWriter

PARTS: tuple[shards.Part, ...] = ("train", "held-out")


def write(config: Config) -> dict[str, int]:
    """Writes what is missing; returns how many notes and pairs each part has."""
    corpus = wanted(config.corpus, "corpus")
    corpus.out.mkdir(parents=True, exist_ok=True)
    made = {"seed": config.seed, "shard_notes": corpus.shard_notes, "official": corpus.official is not None}
    _same_as_before(corpus.out / "corpus.json", made)
    names = Names(corpus.official)
    counts: dict[str, int] = {}
    for part, total in zip(PARTS, (corpus.train_notes, corpus.held_out_notes), strict=True):
        # Whole shards only: a larger corpus goes on where a smaller one ended.
        numbers = range(-(-total // corpus.shard_notes))
        for number in numbers:
            path = shards.path_of(corpus.out, part, number)
            if not path.is_file():
                shards.write(path, shards.draw(config.seed, part, number, corpus.shard_notes, names))
        counts[part] = len(numbers) * corpus.shard_notes
    if corpus.chat:
        asked = {"chat": str(corpus.chat), "prompt": corpus.prompt, "context_tokens": corpus.context_tokens}
        _same_as_before(corpus.out / "pairs.json", asked)
        tokens = ChatTokens(corpus.chat, corpus.context_tokens)
        writer = PairWriter(tokens, Lexicon(starter_entries(), starter_version()), corpus.prompt)
        for part in PARTS:
            for path in shards.found_in(corpus.out, part):
                pairs = path.with_name(f"pairs-{path.name}")
                if not pairs.is_file():
                    shards.write_lines(pairs, (chat for note in shards.read(path) for chat in writer.chats(note)))
            counts[f"pairs-{part}"] = sum(_rows(path) for path in shards.pairs_in(corpus.out, part))
    return counts


def _same_as_before(file: Path, made: dict[str, Any]) -> None:
    """A folder holds what one configuration makes: shards of two would mix train and held-out notes of two corpora."""
    if file.is_file() and json.loads(file.read_text(encoding="utf-8")) != made:
        raise ValueError(f"{file.parent} holds another corpus; remove it or take another folder")
    file.write_text(json.dumps(made), encoding="utf-8")


def _rows(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


if __name__ == "__main__":
    print(json.dumps(write(from_arguments(__doc__))))
