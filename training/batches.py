"""Batches for our own decoder: a function of the seed and the place in the data, so that a training can go on anywhere.

Shards follow each other without end: those of a folder in turn, or new ones made on the way. In a shard, sequences of
like length go together, and the order of the batches is drawn.
"""

import functools
import multiprocessing
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from queue import Empty, Full
from typing import Literal, Protocol, TypeAlias

import torch

from app.generation import form
from app.generation.segments import fold
from app.terminology.entries import starter_entries, starter_version
from app.terminology.matching import Lexicon
from training import shards
from training.corpus.names import Names
from training.encode import BOS, EOS, Codec, Unsound, encode_note

STRIDE = 128
"""Batches are padded to a multiple of this length: every new shape costs the matrix library a compilation."""

Sample: TypeAlias = tuple[list[int], list[int]]
"""Token ids and targets of one sequence: targets[i] is the token to predict after ids[i], or -1."""

Draw: TypeAlias = Callable[[int, random.Random], list[Sample]]
"""The samples of the shard with that number, the same at every call; what is drawn on the way comes from the generator.
An empty shard is passed over. Raises ValueError when no shard has any."""


class Supply(Protocol):
    """Where samples come from. It is pickled for the process that makes the batches. `tokens`: padded tokens a batch."""

    @property
    def seed(self) -> int: ...
    @property
    def tokens(self) -> int: ...
    def open(self) -> Draw:
        """Loads what drawing needs. Raises ValueError when there is nothing to draw from."""
        ...


@dataclass(frozen=True)
class Source:
    """The supply of notes. `task`: "form", the statement form with loss on what the model chooses, or "text", the
    plain text of the notes, packed, with loss on everything. `folder`: shards on disk; None: made on the way, `notes` a
    shard. `length`: longest sequence, `tokens`: padded tokens a batch."""

    task: Literal["form", "text"]
    tokenizer: Path
    seed: int
    length: int
    tokens: int
    notes: int = 250
    folder: Path | None = None
    official: Path | None = None

    def open(self) -> Draw:
        codec = Codec.load(self.tokenizer)
        lexicon = _lexicon() if self.task == "form" else Lexicon([], "none")
        names = Names(self.official)
        files = shards.found_in(self.folder, "train") if self.folder else []
        if self.folder and not files:
            raise ValueError(f"{self.folder} has no shards; run training.corpus first")
        empty = 0

        def draw(number: int, rng: random.Random) -> list[Sample]:
            nonlocal empty
            if files:
                notes = shards.read(files[number % len(files)])
            else:
                notes = shards.draw(self.seed, "train", number, self.notes, names)
            if self.task == "form":
                samples = form_samples(codec, lexicon, notes, self.length, rng)
            else:
                samples = text_samples(codec, notes, self.length)
            empty = 0 if samples else empty + 1
            if empty > max(10, len(files)):
                raise ValueError("no note of the corpus can be written in the statement form")
            return samples

        return draw


@dataclass(frozen=True)
class Batch:
    """`samples`, and the place (shard, batch) behind them."""

    samples: list[Sample]
    following: tuple[int, int]

    @property
    def width(self) -> int:
        return -(-max(len(ids) for ids, _ in self.samples) // STRIDE) * STRIDE

    @property
    def tokens(self) -> int:
        return len(self.samples) * self.width

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and targets, each (samples, width)."""
        x = torch.zeros(len(self.samples), self.width, dtype=torch.long)
        y = torch.full((len(self.samples), self.width), -1)
        for row, (ids, targets) in enumerate(self.samples):
            x[row, : len(ids)] = torch.tensor(ids)
            y[row, : len(targets)] = torch.tensor(targets)
        return x, y


def stream(source: Supply, shard: int = 0, batch: int = 0) -> Iterator[Batch]:
    """Batches from that place on, without end. Raises ValueError when nothing can be drawn."""
    draw = source.open()
    for number in count(shard):
        rng = random.Random(f"{source.seed}/batches/{number}")
        groups = grouped(draw(number, rng), source.tokens)
        rng.shuffle(groups)
        for index, group in enumerate(groups):
            if number > shard or index >= batch:
                last = index + 1 == len(groups)
                yield Batch(group, (number + 1, 0) if last else (number, index + 1))


@functools.cache
def _lexicon() -> Lexicon:
    return Lexicon(starter_entries(), starter_version())


def form_samples(
    codec: Codec, lexicon: Lexicon, notes: list[shards.Note], length: int, rng: random.Random
) -> list[Sample]:
    """The statement form of each note; one longer than `length` tokens is cut there, an unsound one left out."""
    found: list[Sample] = []
    for note in notes:
        try:
            example = encode_note(codec, lexicon, list(note.lines), note.document_type, rng)
        except Unsound:
            continue
        ids, learn = example.ids[: length + 1], example.learn[: length + 1]
        found.append((ids[:-1], [t if wanted else -1 for t, wanted in zip(ids[1:], learn[1:], strict=True)]))
    return found


def text_samples(codec: Codec, notes: list[shards.Note], length: int) -> list[Sample]:
    """The notes' text one behind the other, each between its marks, in sequences of `length`."""
    ids: list[int] = []
    for note in notes:
        ids += [codec.reserved[BOS], *codec.text(form.escape(fold(note.text))), codec.reserved[EOS]]
    return [(part[:-1], part[1:]) for part in packed(ids, length + 1)]


def packed(ids: list[int], length: int) -> list[list[int]]:
    """`ids` in parts of `length`; the last may be shorter, but has two tokens at least."""
    return [part for at in range(0, len(ids), length) if len(part := ids[at : at + length]) > 1]


def grouped(samples: list[Sample], tokens: int) -> list[list[Sample]]:
    """Groups of like length, each of at most `tokens` padded tokens (one sequence at least)."""
    groups: list[list[Sample]] = []
    for sample in sorted(samples, key=lambda s: len(s[0])):
        width = -(-len(sample[0]) // STRIDE) * STRIDE
        if not groups or (len(groups[-1]) + 1) * width > tokens:
            groups.append([])
        groups[-1].append(sample)
    return groups


# -- from a process of its own ----------------------------------------------------------------------------------------

Batches: TypeAlias = "multiprocessing.Queue[Batch]"


class Feeder:
    """The same batches, made by another process while the model trains. Ends with its `close`, or with its parent."""

    def __init__(self, source: Supply, shard: int, batch: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._queue: Batches = context.Queue(maxsize=64)
        self._process = context.Process(target=_feed, args=(self._queue, source, shard, batch), daemon=True)
        self._process.start()

    def __iter__(self) -> Iterator[Batch]:
        while True:
            try:
                yield self._queue.get(timeout=30)
            except Empty:
                if not self._process.is_alive():
                    raise RuntimeError("the process that makes the batches has ended") from None

    def close(self) -> None:
        self._process.terminate()
        self._process.join()


def _feed(queue: Batches, source: Supply, shard: int, batch: int) -> None:
    os.nice(2)
    torch.set_num_threads(1)
    parent = os.getppid()
    for made in stream(source, shard, batch):
        while os.getppid() == parent:
            try:
                queue.put(made, timeout=5)
                break
            except Full:
                continue
        else:
            return
