"""One token out of the scores of all: against the definition, written out the slow way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.errors import ModelOutputError
from app.generation.sampling import allowed_tokens, choose

RANDOM = np.random.default_rng(5)


def mask_of(ids: set[int], size: int) -> NDArray[np.int32]:
    bits = np.zeros(-(-size // 32) * 32, np.uint8)
    bits[list(ids)] = 1
    return np.packbits(bits, bitorder="little").view(np.int32)


@st.composite
def cases(draw: st.DrawFn) -> tuple[NDArray[np.float32], set[int]]:
    size = draw(st.sampled_from([1, 31, 33, 200, 4096, 40_000]))
    share = draw(st.sampled_from([0.0, 0.01, 0.3, 0.9, 1.0]))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    logits = random.normal(0, 4, size).astype(np.float32)
    if draw(st.booleans()):
        logits = np.round(logits)  # many equal scores
    ids = {int(i) for i in np.flatnonzero(random.random(size) < share)} | {draw(st.integers(0, size - 1))}
    return logits, ids


@settings(deadline=None, max_examples=150)
@given(cases())
def test_the_likeliest_allowed_token_with_its_probability(case: tuple[NDArray[np.float32], set[int]]) -> None:
    logits, ids = case
    mask = mask_of(ids, len(logits))
    assert set(allowed_tokens(mask, len(logits)).tolist()) == ids
    choice = choose(logits, mask, 0.0, RANDOM)
    best = max(float(logits[i]) for i in ids)
    equal = sorted(i for i in ids if logits[i] == best)
    assert choice.token == equal[0] and choice.alone == (len(ids) == 1)
    assert choice.tie == (len(equal) > 1)
    share = sum(np.exp(float(logits[i]) - best) for i in ids)
    assert choice.logarithm == pytest.approx(-np.log(share), abs=1e-4)


@settings(deadline=None, max_examples=40)
@given(cases(), st.integers(0, 2**32))
def test_a_drawn_token_is_allowed_and_repeats(case: tuple[NDArray[np.float32], set[int]], seed: int) -> None:
    logits, ids = case
    mask = mask_of(ids, len(logits))
    first, again = (choose(logits, mask, 0.8, np.random.default_rng(seed)) for _ in range(2))
    assert first == again and first.token in ids


def test_draws_follow_the_probabilities() -> None:
    logits = np.log(np.array([0.5, 0.2, 0.2, 0.1], np.float32))
    mask = mask_of({0, 1, 3}, 4)
    drawn = [choose(logits, mask, 1.0, RANDOM).token for _ in range(4000)]
    shares = [drawn.count(token) / 4000 for token in range(4)]
    assert shares == pytest.approx([0.625, 0.25, 0.0, 0.125], abs=0.03)


def test_without_a_mask_all_may_be_chosen() -> None:
    logits = np.array([1.0, 3.0, 2.0], np.float32)
    assert choose(logits, None, 0.0, RANDOM).token == 1


def test_bits_past_the_vocabulary_are_no_tokens() -> None:
    logits = np.zeros(5, np.float32)
    assert allowed_tokens(np.array([-1], np.int32), 5).tolist() == [0, 1, 2, 3, 4]
    assert choose(logits, np.array([1 << 6], np.int32) | 2, 0.0, RANDOM).token == 1
    with pytest.raises(ModelOutputError):
        choose(logits, np.array([1 << 6], np.int32), 0.0, RANDOM)


@pytest.mark.parametrize("mask", [np.zeros(4, np.int32), None], ids=["nothing allowed", "no numbers"])
def test_what_cannot_be_chosen_from_is_an_error(mask: NDArray[np.int32] | None) -> None:
    with pytest.raises(ModelOutputError):
        choose(np.full(128, np.nan, np.float32), mask, 0.0, RANDOM)
