"""One token out of the scores of all, of those that a grammar allows."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.errors import ModelOutputError

_FEW_WORDS = 512
"""Up to so many words of the mask (32 tokens each) their bits are looked up one by one."""


class Choice(NamedTuple):
    """`logarithm`: natural log of the token's probability among the allowed tokens, before any temperature.
    `alone`: was it the only one allowed? `tie`: did another have exactly its score? (Greedy takes the lower id.)"""

    token: int
    logarithm: float
    alone: bool
    tie: bool


def allowed_tokens(mask: NDArray[np.int32], vocabulary_size: int) -> NDArray[np.intp]:
    """Ids of the bits set in `mask` (32 tokens a word, lowest bit first), ascending; bits past the vocabulary are none."""
    ids: NDArray[np.intp]
    words = np.flatnonzero(mask)
    if len(words) <= _FEW_WORDS:
        bits = np.unpackbits(mask[words].view(np.uint8), bitorder="little")
        set_bits = np.flatnonzero(bits)
        ids = words[set_bits >> 5] * 32 + (set_bits & 31)
    else:
        ids = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little").view(np.bool_))
    if len(ids) and ids[-1] >= vocabulary_size:
        ids = ids[: np.searchsorted(ids, vocabulary_size)]
    return ids


def _masked(logits: NDArray[np.float32], mask: NDArray[np.int32]) -> NDArray[np.float32]:
    """A copy of `logits` in which what `mask` forbids is minus infinity: for masks that forbid little."""
    allowed = np.unpackbits(mask.view(np.uint8), bitorder="little", count=len(logits)).view(np.bool_)
    return np.where(allowed, logits, np.float32(-np.inf))


def choose(
    logits: NDArray[np.float32],
    mask: NDArray[np.int32] | None,
    temperature: float,
    random: np.random.Generator,
) -> Choice:
    """The likeliest token that `mask` allows (None: of all); with a temperature, one drawn by `random`.

    Raises ModelOutputError when no token is allowed, or the model's scores are no numbers.
    """
    ids: NDArray[np.intp] | None = None
    if mask is None:
        scores = logits
    elif np.count_nonzero(mask) > max(_FEW_WORDS, len(mask) // 2):
        scores = _masked(logits, mask)
    else:
        ids = allowed_tokens(mask, len(logits))
        if not len(ids):
            raise ModelOutputError("the grammar allows no token")
        if len(ids) == 1:
            return Choice(int(ids[0]), 0.0, True, False)
        scores = logits[ids]
    best = int(scores.argmax())
    top = scores[best]
    if not math.isfinite(top):
        # Of a wide mask not one bit lies within the vocabulary, or the model is broken.
        raise ModelOutputError("the model's scores are not numbers")
    if temperature > 0:
        weights = np.exp((scores.astype(np.float64) - float(top)) / temperature)
        best = int(random.choice(len(weights), p=weights / weights.sum()))
        tie = False
    else:
        # The first of equal scores was taken; one further down would be as good.
        tie = bool((scores[best + 1 :] == top).any())
    # In single precision: a hundred thousand exponentials cost less than the mask.
    logarithm = float(scores[best] - top) - math.log(float(np.exp(scores - top).sum()))
    return Choice(best if ids is None else int(ids[best]), logarithm, False, tie)
