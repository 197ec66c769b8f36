"""Many generations at once on one model: continuous batching, tokens forced by a grammar, a shared beginning.

A thread owns the context. Each of its steps

1. lets waiting generations into free slots, as far as the KV cache has room;
2. decodes, in one call, what every running sequence has not put through the model yet: its prompt, or the token chosen
   last and the tokens that its grammar forces behind it;
3. chooses one token for each sequence whose scores are ready, and lets its grammar go on.

A sequence that ends frees its slot, and the next one enters. When the cache runs full, the youngest sequence gives its
room back and waits; what it has written is kept and decoded again later. So nothing fails for want of room: a generation
either fits the cache alone or is refused when it comes.

Sequences of different adapters share the cache and take turns, since llama.cpp applies one adapter to a whole batch.
"""

import codecs
import logging
import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace

import llguidance
import llguidance.llamacpp
import llguidance.numpy
import numpy as np
from llguidance import LLMatcher

from app.errors import HyojunError, InvalidInput, ModelOutputError, TooLong, Unavailable
from app.generation.context import LlamaContext, NoCells, Part
from app.generation.request import Generated, Metrics, Pending, Request
from app.generation.sampling import choose
from app.generation.structured import matcher

log = logging.getLogger(__name__)

_WIDE_VOCABULARY = 20_000
"""From this vocabulary on, masks of several sequences are computed in parallel: below, handing them out costs more."""
_IDLE_SECONDS = 0.05
"""The thread ends when it had nothing to do for so long. With it go the threads of its OpenMP team: as long as a process has
more of these than cores (two models, each with its own team), every team sleeps at each of its many barriers and
decodes several times slower."""
_GROWTH = 64
"""Tokens that each sequence may still write before the cache is full, when one more is let in."""


@dataclass(eq=False)
class _Sequence:
    """`tokens`: prompt and everything written; the first `decoded` of them are in the cache. `ready`: the place of the
    scores behind the last one."""

    request: Request
    pending: Pending
    matcher: LLMatcher | None
    submitted: float
    tokens: list[int]
    random: np.random.Generator
    decoded: int = 0
    slot: "_Slot | None" = None
    ready: int | None = None
    reader: codecs.IncrementalDecoder = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"))
    text: list[str] = field(default_factory=list)
    characters: int = 0
    choices: list[tuple[int, float]] = field(default_factory=list)
    forced: int = 0
    ties: int = 0
    first: float = 0.0
    ended: bool = False

    @property
    def written(self) -> int:
        return len(self.tokens) - len(self.request.prompt)

    @property
    def beginning(self) -> tuple[str | None, tuple[int, ...]]:
        return self.request.adapter, self.request.prompt[: self.request.shared]


@dataclass(eq=False)
class _Slot:
    """One sequence of the cache. `holds`: the shared beginning that is decoded in it."""

    number: int
    sequence: _Sequence | None = None
    holds: tuple[str | None, tuple[int, ...]] | None = None


class Engine:
    """Generations on one `LlamaContext`, as many at a time as it has slots. Thread-safe.

    The context belongs to the engine's thread, which lives as long as there is something to do.
    """

    def __init__(self, context: LlamaContext, slots: int, beside: "Engine | None" = None) -> None:
        """`beside`: another engine on the same model, whose tokenizer is used too: building one takes seconds for a large
        vocabulary."""
        self.slots = slots
        self._context = context
        self._tokenizer: llguidance.LLTokenizer = (
            beside._tokenizer if beside else llguidance.llamacpp.lltokenizer_from_vocab(context.vocabulary)
        )
        self._masks = llguidance.numpy.allocate_token_bitmask(slots, self._tokenizer.vocab_size)
        self._executor = llguidance.LLExecutor() if self._tokenizer.vocab_size >= _WIDE_VOCABULARY and slots > 1 else None
        self._slots = [_Slot(number) for number in range(slots)]
        self._waiting: deque[_Sequence] = deque()
        self._turn: str | None = None
        self._pieces: dict[int, bytes] = {}
        self._metrics = Metrics(kv_tokens=context.cells, slots=slots)
        self._wake = threading.Condition()
        self._arrived: list[_Sequence] = []
        self._closing = False
        self._thread: threading.Thread | None = None

    # -- callers ----------------------------------------------------------------------------------------------

    def submit(self, request: Request) -> Pending:
        """Queues a generation.

        Raises InvalidInput for an empty prompt, an adapter that is not loaded or a grammar that llguidance refuses,
        TooLong when the prompt alone is longer than a sequence may be, Unavailable when the engine is closed.
        """
        submitted = time.monotonic()
        if not request.prompt:
            raise InvalidInput("the prompt is empty")
        if request.adapter is not None and request.adapter not in self._context.adapters:
            raise InvalidInput(f"adapter {request.adapter} is not loaded")
        sequence = _Sequence(
            request,
            Pending(),
            matcher(self._tokenizer, request.grammar) if request.grammar is not None else None,
            submitted,
            list(request.prompt),
            np.random.default_rng(request.seed),
        )
        self._follow(sequence)
        if len(sequence.tokens) >= self._context.sequence_tokens:
            raise self._too_long(sequence)
        if self._over(sequence):  # the grammar leaves no choice at all
            sequence.pending.end(self._finished(sequence))
            return sequence.pending
        with self._wake:
            if self._closing:
                raise Unavailable("the engine is closed")
            self._arrived.append(sequence)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
                self._thread.start()
            self._wake.notify()
        return sequence.pending

    @property
    def busy(self) -> int:
        """Generations that wait or run."""
        with self._wake:
            return len(self._arrived) + len(self._waiting) + len(self._running())

    def metrics(self) -> Metrics:
        """A copy of the counters."""
        with self._wake:
            return replace(self._metrics, waiting=len(self._waiting) + len(self._arrived))

    def close(self) -> None:
        """Ends what runs with Unavailable, and the thread. The context may be closed afterwards."""
        with self._wake:
            self._closing = True
            self._wake.notify()
            thread = self._thread
        if thread is not None:
            thread.join()

    # -- the thread -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while self._take_in():
            if self._closing:
                for sequence in [*self._running(), *self._waiting]:
                    self._leave(sequence, Unavailable("the engine is closed"))
                return
            try:
                self._step()
            except HyojunError as error:
                self._fail_running(error)
            except Exception as error:  # a fault of ours must not leave callers waiting for ever
                log.exception("engine step failed")
                self._fail_running(ModelOutputError(f"the engine failed: {type(error).__name__}"))

    def _take_in(self) -> bool:
        """Waits until there is something to do, the closing included. False: nothing came, and the thread is to end; from
        then on another one may be at work."""
        with self._wake:
            if not (self._closing or self._arrived or self._waiting or self._running()):
                self._wake.wait(_IDLE_SECONDS)
                if not (self._closing or self._arrived):
                    self._thread = None
                    return False
            self._waiting.extend(self._arrived)
            self._metrics.requests += len(self._arrived)
            self._metrics.forced_tokens += sum(sequence.forced for sequence in self._arrived)
            self._arrived.clear()
            return True

    def _step(self) -> None:
        self._drop_late()
        self._admit()
        parts = self._plan()
        if not parts:
            return
        started = time.perf_counter()
        try:
            places = iter(self._context.decode([part for _, part in parts]))
        except NoCells:
            # Fewer cells than we counted; the youngest gives its room back, and the others go on.
            if not self._preempt():
                raise ModelOutputError("the KV cache has no room for a single sequence") from None
            return
        for sequence, part in parts:
            sequence.decoded += len(part.tokens)
            if part.logits:
                sequence.ready = next(places)
            if sequence.slot and sequence.request.shared and sequence.decoded >= sequence.request.shared:
                sequence.slot.holds = sequence.beginning
        ready = [sequence for sequence, part in parts if part.logits]
        # A GPU is still at work here; masks do not depend on scores.
        masked = time.perf_counter()
        self._mask(ready)
        now = time.perf_counter()
        decoding, choosing = masked - started, now - masked
        self._metrics.sample_seconds += choosing
        if ready:
            assert ready[0].ready is not None
            self._context.logits(ready[0].ready)
            decoding += time.perf_counter() - now
            now = time.perf_counter()
        for sequence in ready:
            self._advance(sequence)
        metrics = self._metrics
        metrics.steps += 1
        metrics.slot_steps += len(parts)
        metrics.running, metrics.kv_used = len(self._running()), self._used()
        metrics.kv_peak = max(metrics.kv_peak, metrics.kv_used)
        metrics.decode_seconds += decoding
        metrics.choose_seconds += choosing + time.perf_counter() - now

    def _drop_late(self) -> None:
        now = time.monotonic()
        for sequence in [*self._running(), *self._waiting]:
            limit = sequence.request.max_seconds
            if sequence.pending.cancelled:
                self._leave(sequence, Unavailable("the generation was cancelled"))
            elif limit is not None and now - sequence.submitted > limit:
                self._leave(sequence, Unavailable(f"the model took longer than {limit:g} s"))

    # -- room -------------------------------------------------------------------------------------------------

    def _running(self) -> list[_Sequence]:
        return [slot.sequence for slot in self._slots if slot.sequence is not None]

    def _used(self) -> int:
        """Tokens in the cache. In a unified one a shared beginning is counted once."""
        if not self._context.unified:
            held = [len(s.holds[1]) for s in self._slots if s.holds and s.sequence is None]
            return sum(held) + sum(s.decoded for s in self._running())
        beginnings = {slot.holds for slot in self._slots if slot.holds}
        own = sum(s.decoded - (len(s.slot.holds[1]) if s.slot and s.slot.holds else 0) for s in self._running())
        return sum(len(beginning[1]) for beginning in beginnings) + own

    def _admit(self) -> None:
        while self._waiting:
            sequence = self._waiting[0]
            free = [slot for slot in self._slots if slot.sequence is None]
            wanted = sequence.beginning if sequence.request.shared else None
            if not free or (wanted and self._comes(wanted)):
                return
            slot = max(free, key=lambda slot: (slot.holds == wanted, slot.holds is None))
            donor = slot if slot.holds == wanted else self._donor(wanted)
            found = len(wanted[1]) if wanted and donor else 0
            if not self._make_room(len(sequence.tokens) - found, wanted):
                return
            self._waiting.popleft()
            if donor is not slot:
                self._context.keep(slot.number, 0)
                slot.holds = None
                if donor and wanted:
                    self._context.share(donor.number, slot.number, found)
                    slot.holds = wanted
            sequence.slot, sequence.decoded, slot.sequence = slot, found, sequence
            self._metrics.reused_tokens += found
            self._metrics.prompt_tokens += len(sequence.request.prompt) - found

    def _comes(self, wanted: tuple[str | None, tuple[int, ...]]) -> bool:
        """Is a sequence just decoding `wanted`, so that waiting a step spares doing it twice?"""
        if not self._context.unified:
            return False
        return self._donor(wanted) is None and any(s.beginning == wanted for s in self._running())

    def _donor(self, wanted: tuple[str | None, tuple[int, ...]] | None) -> _Slot | None:
        """A slot from whose cells `wanted` can be shared."""
        if wanted is None or not self._context.unified:
            return None
        return next((slot for slot in self._slots if slot.holds == wanted), None)

    def _make_room(self, tokens: int, wanted: tuple[str | None, tuple[int, ...]] | None) -> bool:
        """Room for `tokens` more; beginnings that no running sequence has are given up for it."""
        growth = _GROWTH * (1 + len(self._running()))
        if not self._context.unified or self._used() + tokens + growth <= self._context.cells:
            return True
        for slot in self._slots:
            if slot.sequence is None and slot.holds and slot.holds != wanted:
                self._context.keep(slot.number, 0)
                slot.holds = None
        return self._used() + tokens + growth <= self._context.cells or not self._running()

    def _preempt(self) -> bool:
        """The youngest sequence back to the head of the queue; False when there are not two."""
        running = self._running()
        if len(running) < 2:
            return False
        youngest = max(running, key=lambda sequence: sequence.submitted)
        self._free(youngest)
        youngest.decoded, youngest.ready = 0, None
        self._waiting.appendleft(youngest)
        self._metrics.preempted += 1
        return True

    def _free(self, sequence: _Sequence) -> None:
        slot = sequence.slot
        assert slot is not None
        self._context.keep(slot.number, len(slot.holds[1]) if slot.holds else 0)
        slot.sequence = sequence.slot = None
        self._metrics.running, self._metrics.kv_used = len(self._running()), self._used()

    # -- one step ---------------------------------------------------------------------------------------------

    def _plan(self) -> list[tuple[_Sequence, Part]]:
        """What is decoded now: of the adapter whose turn it is, short pieces first, as much as a batch holds."""
        running = self._running()
        adapters = sorted({s.request.adapter for s in running}, key=str)
        if not adapters:
            return []
        later = [adapter for adapter in adapters if str(adapter) > str(self._turn)]
        self._turn = (later or adapters)[0]
        self._context.use(self._turn)
        if self._context.unified:
            while self._used() + sum(len(s.tokens) - s.decoded for s in self._running()) > self._context.cells:
                if not self._preempt():
                    break
        chosen = [s for s in self._running() if s.request.adapter == self._turn]
        room = self._context.batch_tokens
        parts: list[tuple[_Sequence, Part]] = []
        for sequence in sorted(chosen, key=lambda s: len(s.tokens) - s.decoded):
            tokens = sequence.tokens[sequence.decoded : self._end(sequence, room)]
            if tokens and sequence.slot:
                whole = sequence.decoded + len(tokens) == len(sequence.tokens)
                parts.append((sequence, Part(sequence.slot.number, sequence.decoded, tokens, whole)))
                room -= len(tokens)
        return parts

    def _end(self, sequence: _Sequence, room: int) -> int:
        """How far `sequence` is decoded in a step that has room for so many more tokens."""
        end, shared = len(sequence.tokens), sequence.request.shared
        if self._context.unified:
            return min(end, sequence.decoded + room)
        # Where a chunk ends changes the last bits of the scores: so it may depend on the sequence alone, not on what runs
        # beside it, nor on whether another brought the same beginning before.
        if sequence.decoded < shared:
            end = min(end, shared)
        if end - sequence.decoded <= room:
            return end
        return sequence.decoded + room // self._context.piece_tokens * self._context.piece_tokens

    def _mask(self, ready: list[_Sequence]) -> None:
        bound = [(s.matcher, s.slot.number) for s in ready if s.matcher is not None and s.slot]
        if self._executor and len(bound) > 1:
            llguidance.numpy.fill_next_token_bitmask_par(self._executor, bound, self._masks)
        else:
            for matcher, row in bound:
                llguidance.numpy.fill_next_token_bitmask(matcher, self._masks, row)

    def _advance(self, sequence: _Sequence) -> None:
        """Chooses the next token of `sequence`, and takes those that follow from it."""
        try:
            self._choose(sequence)
            if len(sequence.tokens) >= self._context.sequence_tokens and not sequence.ended:
                raise self._too_long(sequence)
        except HyojunError as error:
            self._leave(sequence, error)
            return
        if self._over(sequence):
            self._leave(sequence, self._finished(sequence))

    def _choose(self, sequence: _Sequence) -> None:
        assert sequence.slot is not None and sequence.ready is not None
        request, matcher = sequence.request, sequence.matcher
        mask = self._masks[sequence.slot.number] if matcher is not None else None
        started = time.perf_counter()
        choice = choose(self._context.logits(sequence.ready), mask, request.temperature, sequence.random)
        self._metrics.sample_seconds += time.perf_counter() - started
        sequence.ready = None
        sequence.first = sequence.first or time.monotonic()
        before = sequence.forced
        if choice.alone:
            sequence.forced += 1
        else:
            sequence.choices.append((sequence.characters, choice.logarithm))
            sequence.ties += choice.tie
            self._metrics.sampled_tokens += 1
        if matcher is None:
            if self._context.ends(choice.token):
                sequence.ended = True
                return
        elif not matcher.consume_token(choice.token):
            raise ModelOutputError("the grammar refused a token that its own mask allowed")
        self._write(sequence, [choice.token])
        self._follow(sequence)
        self._metrics.forced_tokens += sequence.forced - before

    def _follow(self, sequence: _Sequence) -> None:
        """Takes the tokens that the grammar forces; notes whether it has come to its end."""
        matcher = sequence.matcher
        if matcher is None:
            return
        if not matcher.is_stopped():
            forced = matcher.compute_ff_tokens()
            if sequence.request.max_tokens is not None:
                forced = forced[: max(0, sequence.request.max_tokens - sequence.written)]
            if forced:
                if not matcher.consume_tokens(forced):
                    raise ModelOutputError("the grammar refused tokens that it forces")
                self._write(sequence, forced)
                sequence.forced += len(forced)
        if matcher.is_error():
            raise ModelOutputError("llguidance stopped with an error")
        sequence.ended = matcher.is_stopped()

    def _write(self, sequence: _Sequence, tokens: list[int]) -> None:
        sequence.tokens += tokens
        text = sequence.reader.decode(b"".join(map(self._piece, tokens)))
        sequence.text.append(text)
        sequence.characters += len(text)
        sequence.pending.write(text)

    def _piece(self, token: int) -> bytes:
        piece = self._pieces.get(token)
        if piece is None:
            # An end mark ends the text and is none of it.
            piece = self._pieces[token] = b"" if self._context.ends(token) else self._context.piece(token)
        return piece

    # -- endings ----------------------------------------------------------------------------------------------

    def _over(self, sequence: _Sequence) -> bool:
        limit = sequence.request.max_tokens
        return sequence.ended or (limit is not None and sequence.written >= limit)

    def _finished(self, sequence: _Sequence) -> Generated:
        now = time.monotonic()
        text = "".join(sequence.text) + sequence.reader.decode(b"", True)
        return Generated(
            text,
            tuple(sequence.choices),
            len(sequence.request.prompt),
            len(sequence.choices),
            sequence.forced,
            now - sequence.submitted,
            (sequence.first or now) - sequence.submitted,
            sequence.ties,
            "stop" if sequence.ended else "length",
        )

    def _leave(self, sequence: _Sequence, outcome: Generated | HyojunError) -> None:
        if sequence.slot is not None:
            self._free(sequence)
        elif sequence in self._waiting:
            self._waiting.remove(sequence)
        if not isinstance(outcome, Generated):
            self._metrics.failed += 1
        sequence.pending.end(outcome)

    def _fail_running(self, error: HyojunError) -> None:
        """After a failed decode nobody knows what the cache holds."""
        for sequence in self._running():
            self._leave(sequence, error)
        self._context.clear()
        for slot in self._slots:
            slot.holds = None

    def _too_long(self, sequence: _Sequence) -> TooLong:
        return TooLong(
            f"prompt ({len(sequence.request.prompt)} tokens) and output ({sequence.written} so far) exceed the "
            f"{self._context.sequence_tokens} tokens that the model is opened with"
        )

