"""The loop of every training: clock, learning rate, log and checkpoints. What a step does is passed in."""

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from training.config import Training


@dataclass
class Clock:
    """How far a training is: seconds spent, steps done, tokens seen, and the place of the next batch in the data
    (`shard` or epoch, and the batch in it)."""

    spent: float = 0.0
    step: int = 0
    tokens: int = 0
    shard: int = 0
    batch: int = 0

    def as_dict(self) -> dict[str, float]:
        return asdict(self)

    @classmethod
    def of(cls, state: dict[str, Any]) -> "Clock":
        """The clock in a checkpoint. One without a place in the data goes on in shards that it cannot have seen."""
        step = int(state["step"])
        return cls(
            float(state["spent"]), step, int(state["tokens"]), int(state.get("shard", step)), int(state.get("batch", 0))
        )


class Batch(Protocol):
    """`following`: the place of the batch behind this one."""

    @property
    def tokens(self) -> int: ...
    @property
    def following(self) -> tuple[int, int]: ...


Report = Callable[[Clock, float], None]
"""Called after each step with the clock and the moving mean of the loss."""


def print_report(clock: Clock, loss: float, every: int = 50) -> None:
    if clock.step % every == 0:
        row = {"minutes": round(clock.spent / 60, 1), "step": clock.step, "tokens": clock.tokens, "loss": round(loss, 4)}
        print(json.dumps(row), flush=True)


def progress(plan: Training, clock: Clock) -> float:
    """Share of the training that is done, 0..1."""
    if plan.steps is not None:
        return min(1.0, clock.step / plan.steps)
    return min(1.0, clock.spent / (60 * (plan.minutes or 1)))


def rate(plan: Training, clock: Clock) -> float:
    """Learning rate of the next step: it warms up, then falls by a cosine to 5 % of its peak."""
    warm = min(1.0, (clock.step + 1) / plan.warmup_steps)
    return plan.rate * warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress(plan, clock))))


def run(
    plan: Training,
    clock: Clock,
    batches: Iterator[Any],
    advance: Callable[[Any, float], float],
    save: Callable[[Clock], None],
    report: Report = print_report,
) -> None:
    """Trains until the plan's steps or minutes are over. `advance(batch, rate)` is one step and returns its loss."""
    mean: float | None = None
    saved = last = time.monotonic()
    unsaved = False
    while progress(plan, clock) < 1:
        batch = next(batches)
        loss = advance(batch, rate(plan, clock))
        mean = loss if mean is None else 0.98 * mean + 0.02 * loss
        clock.step += 1
        clock.tokens += batch.tokens
        clock.shard, clock.batch = batch.following
        now = time.monotonic()
        clock.spent, last, unsaved = clock.spent + now - last, now, True
        if clock.step % plan.save_steps == 0 if plan.save_steps else now - saved > 60 * plan.save_minutes:
            save(clock)
            saved, unsaved = now, False
        report(clock, mean)
    if unsaved:
        save(clock)
