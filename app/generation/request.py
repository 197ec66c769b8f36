"""What is asked of the engine, what comes back, and what it counts."""

import queue
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from typing import Literal

from app.errors import HyojunError


@dataclass(frozen=True)
class Request:
    """One generation.

    `grammar`: serialized by `llguidance.grammar_from`; None: free text up to the model's end mark. `shared`: how many of
    the first tokens of `prompt` other requests begin with too; they are kept in the cache. `max_tokens`: the text is cut
    off there (`Generated.finish` says so); None: only the context ends it. `temperature` 0 is greedy. `max_seconds`:
    from submission.
    """

    prompt: tuple[int, ...]
    grammar: str | None = None
    shared: int = 0
    adapter: str | None = None
    max_tokens: int | None = None
    temperature: float = 0.0
    seed: int = 0
    max_seconds: float | None = None


@dataclass(frozen=True)
class Generated:
    """`choices`: (characters written before it, natural log of its probability among the allowed tokens) of every token
    that was chosen, in order; forced tokens are left out. `ties`: choices between equal scores. `first_seconds`: until
    the first token was chosen. `finish` "length": cut off by `max_tokens`."""

    text: str
    choices: tuple[tuple[int, float], ...]
    prompt_tokens: int
    sampled_tokens: int
    forced_tokens: int
    seconds: float
    first_seconds: float = 0.0
    ties: int = 0
    finish: Literal["stop", "length"] = "stop"


@dataclass
class Metrics:
    """Sums since the model was opened, and what is there now (`waiting`, `running`, `kv_used`, in tokens).

    `prompt_tokens`: decoded; those found in the cache are `reused_tokens`. `slot_steps` / `steps` / slots is the batch
    occupancy. `preempted`: sequences that gave their room back. Seconds of the thread: `decode_seconds` in llama.cpp,
    `choose_seconds` for masks, choices and grammars, of which `sample_seconds` for masks and choices alone: the rest goes
    on the tokens that follow from a choice.
    """

    requests: int = 0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    sampled_tokens: int = 0
    forced_tokens: int = 0
    steps: int = 0
    slot_steps: int = 0
    preempted: int = 0
    failed: int = 0
    decode_seconds: float = 0.0
    choose_seconds: float = 0.0
    sample_seconds: float = 0.0
    kv_peak: int = 0
    kv_used: int = 0
    kv_tokens: int = 0
    slots: int = 0
    lanes: int = 1
    waiting: int = 0
    running: int = 0

    @property
    def occupancy(self) -> float:
        """Mean share of the slots that took part in a step; 0 before the first."""
        return self.slot_steps * self.lanes / (self.steps * self.slots) if self.steps else 0.0

    def __add__(self, other: "Metrics") -> "Metrics":
        """Those of two lanes together."""
        return Metrics(**{name: getattr(self, name) + getattr(other, name) for name in asdict(self)})

    def as_dict(self) -> dict[str, float]:
        return asdict(self) | {"occupancy": self.occupancy}


class Pending:
    """A generation that was submitted. Iterating gives its text as it is written, a few characters at a time."""

    def __init__(self) -> None:
        self._future: Future[Generated] = Future()
        self._texts: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.cancelled = False

    def cancel(self) -> None:
        """The engine drops it at its next step; `result` then raises Unavailable."""
        self.cancelled = True

    def result(self) -> Generated:
        """Waits for the end. Raises TooLong, Unavailable (time over, cancelled, engine closed), ModelOutputError."""
        try:
            return self._future.result()
        except BaseException:
            self.cancel()  # nobody waits any more
            raise

    def __iter__(self) -> Iterator[str]:
        while (text := self._texts.get()) is not None:
            yield text
        self.result()

    def write(self, text: str) -> None:
        """For the engine: `text` was written."""
        if text:
            self._texts.put(text)

    def end(self, outcome: Generated | HyojunError) -> None:
        """For the engine: it is over."""
        if isinstance(outcome, Generated):
            self._future.set_result(outcome)
        else:
            self._future.set_exception(outcome)
        self._texts.put(None)
