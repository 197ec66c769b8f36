"""Many generations on one model: what each writes must not depend on the others, on room, or on who gives up."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import llguidance
import pytest

from app.errors import InvalidInput, ModelOutputError, TooLong, Unavailable
from app.generation.chat import Message
from app.generation.context import Memory, lane_slots
from app.generation.llama import LlamaCpp
from app.generation.request import Generated

LETTERS = llguidance.grammar_from("lark", "start: /[a-p]{40}/")
ENDLESS = llguidance.grammar_from("lark", "start: /[a-p]+/")
PROMPTS = [f"問い{number} " + "x" * (number * 7 % 30) for number in range(12)]


def opened(path: Path, **memory: object) -> LlamaCpp:
    return LlamaCpp(path, Memory(**{"sequence_tokens": 512, "threads": 1} | memory))  # type: ignore[arg-type]


def all_of(model: LlamaCpp, prompts: list[str], **options: object) -> list[Generated]:
    with at_once(model):
        pending = [model.submit(prompt, LETTERS, **options) for prompt in prompts]
    return [one.result() for one in pending]


def at_once(model: LlamaCpp) -> AbstractContextManager[object]:
    """What is submitted inside reaches the engine's thread together, however slow the machine is."""
    return model._engines[0]._wake


def logarithms(generated: list[Generated]) -> list[float]:
    return [logarithm for one in generated for _, logarithm in one.choices]


@pytest.fixture(scope="module")
def alone(plain_path: Path) -> list[Generated]:
    """Each prompt by itself."""
    model = opened(plain_path)
    found = [model.write(prompt, LETTERS) for prompt in PROMPTS]
    model.close()
    return found


@pytest.fixture(scope="module")
def model(plain_path: Path) -> Iterator[LlamaCpp]:
    model = opened(plain_path, slots=4)
    yield model
    model.close()


@pytest.mark.parametrize("unified", [False, True], ids=["apart", "unified"])
def test_many_at_once_write_what_each_writes_alone(plain_path: Path, alone: list[Generated], unified: bool) -> None:
    model = opened(plain_path, slots=4, unified=unified)
    try:
        together = all_of(model, PROMPTS)
        metrics = model.metrics()
    finally:
        model.close()
    assert [one.text for one in together] == [one.text for one in alone]
    if not unified:  # there, sums over the cells come in another order
        assert logarithms(together) == pytest.approx(logarithms(alone), abs=1e-3)
    # Twelve generations of forty letters: one by one 480 steps.
    assert metrics.steps < 200 and metrics.occupancy > 0.8
    assert metrics.requests == len(PROMPTS) and metrics.running == 0


def test_sampling_is_its_own_seed_s_alone_or_together(plain_path: Path, model: LlamaCpp) -> None:
    single = opened(plain_path)
    try:
        one_by_one = [single.write(p, LETTERS, temperature=1.0, seed=n).text for n, p in enumerate(PROMPTS)]
    finally:
        single.close()
    pending = [model.submit(p, LETTERS, temperature=1.0, seed=n) for n, p in enumerate(PROMPTS)]
    assert [one.result().text for one in pending] == one_by_one
    assert len(set(one_by_one)) > len(PROMPTS) // 2


def test_without_room_for_all_the_youngest_waits_and_nothing_changes(plain_path: Path, alone: list[Generated]) -> None:
    model = opened(plain_path, slots=4, unified=True, sequence_tokens=256, kv_tokens=256)
    try:
        together = all_of(model, PROMPTS)
        metrics = model.metrics()
    finally:
        model.close()
    assert [one.text for one in together] == [one.text for one in alone]
    assert metrics.kv_peak <= metrics.kv_tokens == 256
    # With 64 tokens kept free for each that writes, not all four slots could ever be filled.
    assert metrics.occupancy < 1


def test_a_sequence_that_gave_its_room_back_goes_on_where_it_was(plain_path: Path) -> None:
    long = llguidance.grammar_from("lark", "start: /[a-p]{150}/")
    texts = {}
    for cells in (256, 2048):
        model = opened(plain_path, slots=3, unified=True, sequence_tokens=256, kv_tokens=cells)
        try:
            with at_once(model):
                pending = [model.submit("問い" * n, long) for n in (1, 2, 3)]
            texts[cells] = [one.result().text for one in pending]
            preempted = model.metrics().preempted
        finally:
            model.close()
        assert (preempted > 0) is (cells == 256)
    assert texts[256] == texts[2048]


@pytest.mark.parametrize("unified", [False, True], ids=["apart", "unified"])
def test_a_shared_beginning_is_decoded_once(plain_path: Path, unified: bool) -> None:
    rules = Message("system", "規則" * 30)
    model = opened(plain_path, slots=2, unified=unified)
    try:
        shared = model.chat_prompt([rules, Message("user", "x")]).shared
        first = model.write_chat([rules, Message("user", "x")], LETTERS)
        before = model.metrics()
        again = model.write_chat([rules, Message("user", "x")], LETTERS)
        after = model.metrics()
        assert first.text == again.text
        assert before.reused_tokens == 0 and after.reused_tokens == shared > 100
        assert after.prompt_tokens - before.prompt_tokens == first.prompt_tokens - shared
        # Another beginning finds nothing to share, and harms nothing.
        model.write_chat([Message("system", "別"), Message("user", "x")], LETTERS)
        assert model.write_chat([rules, Message("user", "x")], LETTERS).text == first.text
    finally:
        model.close()


def test_in_a_unified_cache_all_slots_share_one_beginning(plain_path: Path) -> None:
    messages = [[Message("system", "規則" * 30), Message("user", str(number))] for number in range(4)]
    model = opened(plain_path, slots=4, unified=True)
    try:
        prompts = [model.chat_prompt(one) for one in messages]
        with at_once(model):
            pending = [model.submit(p.tokens, LETTERS, shared=p.shared) for p in prompts]
        texts = [one.result().text for one in pending]
        assert model.metrics().reused_tokens == 3 * prompts[0].shared
        assert model.metrics().kv_peak < 2 * prompts[0].shared + 4 * 60
        # What was shared and what was decoded anew say the same.
        assert texts == [model.write_chat(one, LETTERS).text for one in messages]
    finally:
        model.close()


def test_the_text_streams(model: LlamaCpp) -> None:
    pending = model.submit("問い", LETTERS)
    pieces = list(pending)
    assert len(pieces) > 10
    assert "".join(pieces) == pending.result().text == model.write("問い", LETTERS).text


def test_a_cancelled_generation_leaves_and_the_others_stay(model: LlamaCpp) -> None:
    unwanted = [model.submit("x", ENDLESS) for _ in range(6)]  # more than there are slots: two of them wait
    next(iter(unwanted[0]))
    wanted = model.submit("問い", LETTERS)
    for one in unwanted:
        one.cancel()
    assert wanted.result().text == model.write("問い", LETTERS).text
    for one in unwanted:
        with pytest.raises(Unavailable, match="cancelled"):
            one.result()
    assert model.metrics().running == model.metrics().waiting == 0


def test_a_reader_that_stops_early_ends_the_generation(model: LlamaCpp) -> None:
    from outlines.types import CFG

    stream = model.generate_stream("x", CFG("start: /[a-p]+/"))
    assert next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert model.write("問い", LETTERS).text  # the slots are free again, or this would wait for the context's end


def test_time_runs_from_the_submission(plain_path: Path) -> None:
    model = opened(plain_path, slots=1, sequence_tokens=16384)
    try:
        first = model.submit("x", ENDLESS, max_seconds=0.5)
        waiting = model.submit("x", LETTERS, max_seconds=0.2)
        with pytest.raises(Unavailable, match=r"longer than 0[.]2 s"):
            waiting.result()
        with pytest.raises(Unavailable, match=r"longer than 0[.]5 s"):
            first.result()
    finally:
        model.close()


@pytest.mark.parametrize("limit", [1, 7])
def test_a_limit_of_tokens_cuts_the_text(model: LlamaCpp, limit: int) -> None:
    whole = model.write("問い", LETTERS)
    cut = model.write("問い", LETTERS, max_tokens=limit)
    assert (cut.text, cut.finish, whole.finish) == (whole.text[:limit], "length", "stop")
    forced = llguidance.grammar_from("lark", 'start: ("x" | "y") "abcdefgh" ("1" | "2")')
    text = model.write("問い", forced, max_tokens=4).text
    assert text[0] in "xy" and text[1:] == "abc"


def test_without_a_grammar_the_text_is_free(model: LlamaCpp) -> None:
    free = model.write("問い", None, max_tokens=20)
    assert free.sampled_tokens <= 20 and free.forced_tokens == 0
    assert all(logarithm <= 0 for _, logarithm in free.choices)


def test_what_cannot_fit_is_refused_with_sizes(model: LlamaCpp) -> None:
    with pytest.raises(TooLong, match=r"600 tokens.*512"):
        model.submit("x" * 600, LETTERS)
    with pytest.raises(TooLong, match="512"):
        model.write("x", ENDLESS)
    with pytest.raises(InvalidInput, match="not loaded"):
        model.submit("x", LETTERS, adapter="nobody")
    assert model.write("問い", LETTERS).text


def test_a_failed_batch_ends_those_in_it_and_no_others(plain_path: Path) -> None:
    model = opened(plain_path, slots=2)
    context = model._context
    decode = context.decode
    calls: list[int] = []

    def failing(parts: list[object]) -> list[int]:
        calls.append(len(parts))
        if len(calls) == 5:
            raise ModelOutputError("llama_decode returned -3")
        return decode(parts)  # type: ignore[arg-type]

    context.decode = failing  # type: ignore[method-assign, assignment]
    try:
        with at_once(model):
            pending = [model.submit(f"問い{number}", LETTERS) for number in range(4)]
        outcomes = []
        for one in pending:
            try:
                outcomes.append(one.result().text)
            except ModelOutputError:
                outcomes.append("")
        assert [bool(text) for text in outcomes] == [False, False, True, True]
        assert outcomes[2] == model.write("問い2", LETTERS).text
        assert model.metrics().failed == 2
    finally:
        model.close()


def test_threads_share_batches(model: LlamaCpp, alone: list[Generated]) -> None:
    start = threading.Barrier(len(PROMPTS))
    texts: dict[int, str] = {}

    def write(number: int) -> None:
        start.wait()
        texts[number] = model.write(PROMPTS[number], LETTERS).text

    before = model.metrics()
    threads = [threading.Thread(target=write, args=(number,)) for number in range(len(PROMPTS))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = model.metrics()
    assert [texts[number] for number in range(len(PROMPTS))] == [one.text for one in alone]
    assert after.slot_steps - before.slot_steps > after.steps - before.steps


def test_a_closed_engine_tells_those_who_wait(plain_path: Path) -> None:
    model = opened(plain_path, sequence_tokens=16384)
    pending = [model.submit("x", ENDLESS), model.submit("x", LETTERS)]
    next(iter(pending[0]))
    model.close()
    for one in pending:
        with pytest.raises(Unavailable, match="closed"):
            one.result()
    with pytest.raises(Unavailable, match="closed"):
        model.submit("x", LETTERS)


@pytest.mark.parametrize(
    ("memory", "size", "slots"),
    [
        (Memory(slots=4, threads=2), 6_000_000, [2, 2]),
        (Memory(slots=5, threads=2), 6_000_000, [3, 2]),
        (Memory(slots=1, threads=8), 6_000_000, [1]),
        (Memory(slots=4, threads=1), 6_000_000, [4]),
        (Memory(slots=4, threads=2), 600_000_000, [4]),
        (Memory(slots=4, threads=2, gpu_layers=-1), 6_000_000, [4]),
        (Memory(slots=4, threads=2, unified=True), 6_000_000, [4]),
        (Memory(slots=4, threads=4, lanes=2), 600_000_000, [2, 2]),
        (Memory(slots=4, threads=2, lanes=1), 6_000_000, [4]),
        (Memory(slots=2, threads=8, lanes=16), 6_000_000, [1, 1]),
    ],
)
def test_lanes_share_slots(memory: Memory, size: int, slots: list[int]) -> None:
    assert lane_slots(memory, size) == slots


def test_lanes_write_what_one_writes(plain_path: Path, alone: list[Generated]) -> None:
    model = opened(plain_path, slots=4, threads=2, kv_tokens=2048)
    try:
        pending = [model.submit(prompt, LETTERS) for prompt in PROMPTS]
        found = [one.result() for one in pending]
        assert [one.text for one in found] == [one.text for one in alone]
        assert logarithms(found) == pytest.approx(logarithms(alone), abs=1e-3)
        metrics, lanes = model.metrics(), [engine.metrics() for engine in model._engines]
        assert (metrics.lanes, metrics.slots, metrics.kv_tokens) == (2, 4, 2048)
        assert metrics.requests == len(PROMPTS) == sum(lane.requests for lane in lanes)
        assert all(lane.requests for lane in lanes), "every lane had work"
        assert 0 < metrics.occupancy <= 1
    finally:
        model.close()


def test_a_generation_goes_to_the_lane_that_has_least_to_do(plain_path: Path) -> None:
    model = opened(plain_path, slots=2, threads=2)
    try:
        endless = model.submit("x", ENDLESS)
        while not model.metrics().running:
            pass
        assert model.write(PROMPTS[0], LETTERS).text, "it does not wait behind the endless one"
        endless.cancel()
        with pytest.raises(Unavailable):
            endless.result()
    finally:
        model.close()


def test_closing_ends_the_work_of_all_lanes(plain_path: Path) -> None:
    model = opened(plain_path, slots=2, threads=2)
    pending = [model.submit("x", ENDLESS) for _ in range(4)]
    model.close()
    for one in pending:
        with pytest.raises((Unavailable, TooLong)):
            one.result()
    with pytest.raises(Unavailable):
        model.submit("x", ENDLESS)
