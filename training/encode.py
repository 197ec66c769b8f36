"""Synthetic notes -> token sequences of the statement form, with the tokens to be learnt marked.

The tokenizer is a byte-level BPE whose merges stay inside the pieces of `segments.pieces` (a kanji, a hiragana, a
digit or a sign alone; words of Latin letters and runs of katakana together) and whose reserved tokens are the
fragments of `form`. So the tokens of a copied piece are the tokens it has in the line that it is copied from.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from app.generation import form
from app.generation.segments import chunks, fold, pieces
from app.terminology.matching import Lexicon
from training.corpus.core import REMOTE, Line

PAD, BOS, EOS = "<pad>", "<bos>", "<eos>"
RESERVED = [PAD, BOS, EOS, *form.all_fragments()]


def train_tokenizer(texts: Iterable[str], size: int) -> Tokenizer:
    """A byte-level BPE of `size` tokens, the reserved ones first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=RESERVED,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        max_token_length=24,
    )
    tokenizer.train_from_iterator((piece for text in texts for piece in pieces(fold(text))), trainer)
    return tokenizer


class Codec:
    """Token ids of texts and fragments."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.size = tokenizer.get_vocab_size()
        vocabulary = tokenizer.get_vocab()
        self.reserved: dict[str, int] = {text: vocabulary[text] for text in RESERVED}
        self._cache: dict[str, list[int]] = {}

    @classmethod
    def load(cls, path: Path) -> "Codec":
        return cls(Tokenizer.from_file(str(path)))

    def text(self, text: str) -> list[int]:
        found: list[int] = []
        for piece in pieces(text):
            ids = self._cache.get(piece)
            if ids is None:
                ids = self._cache[piece] = self.tokenizer.encode(piece, add_special_tokens=False).ids
            found += ids
        return found


@dataclass
class Example:
    """`ids` of one note; `learn[i]`: the model shall learn to predict ids[i]."""

    ids: list[int]
    learn: list[bool]


class Unsound(ValueError):
    """A fact of a synthetic note cannot be written in the form: a field is not a run of whole chunks."""


def encode_note(
    codec: Codec, lexicon: Lexicon, lines: list[Line], document_type: str, rng: random.Random, forget: float = 0.08
) -> Example:
    """One note as an example. A share `forget` of the dictionary mentions is not marked, as if the table lacked the name.

    Raises Unsound.
    """
    fragment = codec.reserved
    known_type = document_type if rng.random() > 0.1 else rng.choice(form.DOCUMENT_TYPES)
    ids = [fragment[BOS], fragment[form.document_open(known_type)]]
    learn = [False, False]

    def put(tokens: list[int], learnt: bool) -> None:
        ids.extend(tokens)
        learn.extend([learnt] * len(tokens))

    def put_marked(text: str, marks: dict[int, str]) -> None:
        at = 0
        for place in [*sorted(marks), len(text)]:
            put(codec.text(form.escape(text[at:place])), False)
            if place in marks:
                put([fragment[form.MARKS[marks[place]]]], False)
            at = place

    history: list[str] = []
    for line in lines:
        text = fold(line.text)
        history.append(text)
        if not text.strip():
            continue
        fields = [(key, fold(piece)) for fact in line.facts for key, piece in fact.fields.items()]
        mentions = [m for m in lexicon.find_mentions(text) if rng.random() > forget]
        mentions = [m for m in mentions if not _divides(text, m.start, m.end, [piece for _, piece in fields])]
        cuts = {edge for chunk in chunks(text, [(m.start, m.end) for m in mentions]) for edge in chunk}
        for key, piece in fields:
            if not _aligned(text, piece, cuts) and not (
                key in REMOTE and any(piece in earlier for earlier in history[-26:-1])
            ):
                raise Unsound(f"{key.value}: {piece!r} in {text!r}")
        put([fragment[form.LINE_OPEN]], True)
        put_marked(text, {m.start: m.kind.value for m in mentions})
        put([fragment[form.CLOSE]], False)
        for fact in line.facts:
            written = form.Written(
                0, fact.kind, {k: fold(v) for k, v in fact.fields.items()},
                fact.assertion, fact.category, fact.result, fact.action,
            )  # fmt: skip
            for part, is_fragment in form.parts(written):
                put([fragment[part]] if is_fragment else codec.text(part), True)
    put([fragment[form.END]], True)
    return Example(ids, learn)


def _occurrences(text: str, piece: str) -> Iterator[int]:
    at = text.find(piece)
    while at >= 0:
        yield at
        at = text.find(piece, at + 1)


def _aligned(text: str, piece: str, cuts: set[int]) -> bool:
    return any(at in cuts and at + len(piece) in cuts for at in _occurrences(text, piece))


def _divides(text: str, start: int, end: int, fields: list[str]) -> bool:
    """Would a mention at start..end make some field impossible, because every place of it cuts into the mention?"""
    for piece in fields:
        places = list(_occurrences(text, piece))
        if places and all(
            start < at < end or start < at + len(piece) < end for at in places
        ):
            return True
    return False
