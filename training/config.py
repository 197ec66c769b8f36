"""The configuration of a training: one TOML file for all its steps, and what the command line changes in it.

    seed = 1
    run = "training/runs/mine"    stands for {run} in every text below
    [corpus]    synthetic notes          python -m training.corpus
    [claims]    chats about receipts     python -m training.receipts
    [decoder]   our own small decoder; without this table `init` names a local Hugging Face model
    [base]      pre-training             python -m training.base
    [sft]       fine-tuning              python -m training.sft
    [average]   of checkpoints           python -m training.average
    [export]    to GGUF                  python -m training.export
    [evaluate]  through the reader       python -m training.evaluate

Paths count from the current folder. A key that is not known is an error.
"""

import argparse
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

T = TypeVar("T")


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Corpus(_Table):
    """`out`: folder of the shards. `official`: folder with the national masters, for more names. `chat`: folder of the
    chat model whose tokenizer and template the pairs are written for; None: no pairs. `context_tokens`: of that model
    when it reads; longer notes are read, and so taught, in several windows."""

    out: Path
    train_notes: int = Field(20_000, ge=0)
    held_out_notes: int = Field(500, ge=0)
    shard_notes: int = Field(250, ge=1)
    official: Path | None = None
    chat: Path | None = None
    prompt: str = "uc1"
    context_tokens: int = Field(8192, ge=512)


class Claims(_Table):
    """Chats about synthetic claims. `out`: the JSONL file to write; `count`: claims that are drawn for it."""

    out: Path
    count: int = Field(20_000, ge=1)


class Decoder(_Table):
    """Sizes of our own decoder; `tokenizer_notes`: synthetic notes that its tokenizer is made from."""

    vocabulary: int = 4096
    width: int = 256
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    feed_forward: int = 704
    context: int = 2048
    tokenizer_notes: int = 6000


class Training(_Table):
    """One step of training. Either `steps` or `minutes` (of training time, over all resumed runs).

    `use`: what our own decoder learns, the notes of use case 1 or the claims of use case 2 (a Hugging Face model: what
    `data` says). `out`: folder of its checkpoints. `init`: what to start from (a checkpoint.pt of our own; a local folder of a
    Hugging Face model or of a LoRA adapter on one); None: from nothing. `data`: folder of a corpus, or a JSONL file of
    chats ({"messages": […]}); None: notes are made on the way.

    `length`: longest sequence in tokens. `tokens`: padded tokens a step of our own decoder. `batch`: sequences a step
    of a Hugging Face model over all processes, `micro_batch` of them at once in each. `save_steps`, `save_minutes`: how
    often the state is written; `keep`: the weights of the last so many of these times are kept for averaging.

    `method`: full, or lora with `rank` and `alpha` on the linear layers `targets` (of our own decoder q, k, v, o, gate, up,
    down; q_proj means q there), where `init` is the model below it. qlora, `dropout` and `checkpoint_activations` are for
    Hugging Face models alone.
    """

    out: Path
    use: Literal["uc1", "uc2"] = "uc1"
    init: Path | None = None
    data: Path | None = None
    steps: int | None = Field(None, ge=1)
    minutes: float | None = Field(None, gt=0)
    length: int = Field(1280, ge=8)
    tokens: int = Field(6144, ge=8)
    batch: int = Field(16, ge=1)
    micro_batch: int = Field(1, ge=1)
    rate: float = Field(2e-3, gt=0)
    warmup_steps: int = Field(100, ge=1)
    weight_decay: float = 0.05
    save_steps: int | None = Field(None, ge=1)
    save_minutes: float = 3.0
    keep: int = Field(0, ge=0)
    threads: int = 2
    feeder: bool = True
    method: Literal["full", "lora", "qlora"] = "full"
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    bf16: bool = True
    checkpoint_activations: bool = False

    @model_validator(mode="after")
    def _bounded(self) -> "Training":
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("give one of steps and minutes")
        return self


class Average(_Table):
    """`source`: folder of a training; `target`: a file for our own decoder, a folder for a Hugging Face model."""

    source: Path
    target: Path
    last: int = Field(4, ge=1)


class Export(_Table):
    """`source`: a checkpoint of our own decoder, or of an adapter on it, or its folder; a local folder of a Hugging Face
    model or of a LoRA adapter. `base`: the GGUF that an adapter has to fit. `pre`: llama.cpp's name of the tokenizer's way
    to cut text; None: that of the architecture. `type`; None: q8_0 for a model, f32 for an adapter."""

    source: Path
    target: Path
    type: Literal["f32", "f16", "q8_0", "q4_k_m"] | None = None
    name: str = "hyojun-uc1"
    base: Path | None = None
    pre: str | None = None


class Evaluate(_Table):
    """`gold`: JSONL of notes with their facts (as the shards have them), or a folder of shards, whose held-out ones are
    read. `report`: the JSON to write."""

    model: Path
    gold: Path
    adapter: Path | None = None
    prompt: str = "uc1"
    notes: int | None = Field(None, ge=1)
    context_tokens: int = 8192
    slots: int = 1
    threads: int = 2
    gpu_layers: int = 0
    report: Path | None = None


class Config(_Table):
    seed: int = 1
    run: str = "training/runs"
    corpus: Corpus | None = None
    claims: Claims | None = None
    decoder: Decoder | None = None
    base: Training | None = None
    sft: Training | None = None
    average: Average | None = None
    export: Export | None = None
    evaluate: Evaluate | None = None


class BadConfig(Exception):
    """The configuration cannot be used; the message names the file and the key."""


def load(path: Path, changes: Sequence[str] = ()) -> Config:
    """`changes`: "table.key=value" each, the value in TOML or, where it is no TOML, as text. Raises BadConfig."""
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadConfig(f"{path}: {error}") from None
    for change in changes:
        key, equals, value = change.partition("=")
        *tables, last = key.strip().split(".")
        if not equals or not last:
            raise BadConfig(f"{change}: write table.key=value")
        place = content
        for table in tables:
            place = place.setdefault(table, {})
        try:
            place[last] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            place[last] = value
    content = _filled(content, str(content.get("run", Config.model_fields["run"].default)))
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise BadConfig(f"{path}: {faults}") from None


def _filled(value: Any, run: str) -> Any:
    if isinstance(value, dict):
        return {key: _filled(inner, run) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, run) for inner in value]
    return value.replace("{run}", run) if isinstance(value, str) else value


def from_arguments(description: str | None, arguments: Sequence[str] | None = None) -> Config:
    """The configuration that a step's command line names; ends the program with a message for a wrong one."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="TOML file, see training/config.py")
    parser.add_argument("--set", action="append", default=[], metavar="TABLE.KEY=VALUE", help="change one key; repeatable")
    chosen = parser.parse_args(arguments)
    try:
        return load(chosen.config, chosen.set)
    except BadConfig as error:
        parser.error(str(error))


def wanted(table: T | None, name: str) -> T:
    """`table`, or BadConfig where the file does not have it."""
    if table is None:
        raise BadConfig(f"the configuration has no table [{name}]")
    return table
