"""Training of our own decoder, or of a LoRA adapter on one: its checkpoints, its optimizers, its steps.

A folder of a training holds tokenizer.json, checkpoint.pt (all that is needed to go on) and, where the plan keeps some,
step-00000650.pt … (weights alone, for averaging). Checkpoints of an adapter hold its factors (`adapter`), `rank`, `alpha`,
`targets`, `form` and, of the model that it lies on, the fingerprint `base` alone.
"""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from training import loop, lora, shards
from training.batches import Batch, Feeder, Source, Supply, stream
from training.config import Config, Decoder, Training, wanted
from training.corpus.frame import note
from training.corpus.names import Names
from training.encode import Codec, train_tokenizer
from training.qwen2 import Qwen2, Shape
from training.regroup import regroup

CHECKPOINT, TOKENIZER = "checkpoint.pt", "tokenizer.json"

Task: TypeAlias = Literal["form", "text"] | Callable[[Path], Supply]
"""What is learnt: a task of `batches.Source`, or what makes another supply from the path of the tokenizer."""


def train(
    config: Config, plan: Training, task: Task, report: loop.Report = loop.print_report, *, form: str | None = None
) -> Path:
    """Trains as `plan` says, from its checkpoint on where there is one; returns the checkpoint. `form`: what an adapter
    is trained to write, for the key `hyojun.form` of its file.

    Raises ValueError when `plan.init` or the checkpoint is of another shape, tokenizer or method.
    """
    if plan.method == "qlora":
        raise ValueError("method qlora is for Hugging Face models; our own decoder has full and lora")
    if plan.method == "lora" and plan.init is None:
        raise ValueError("an adapter lies on a model; name its checkpoint as init")
    torch.set_num_threads(plan.threads)
    torch.manual_seed(config.seed)
    plan.out.mkdir(parents=True, exist_ok=True)
    decoder = wanted(config.decoder, "decoder")
    tokenizer = _tokenizer(config, decoder, plan)
    shape = _shape(decoder, Codec.load(tokenizer).size)
    model = Qwen2(shape)
    adapter = _adapter(model, plan, form) if plan.method == "lora" else None
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizers = [_adamw(trained, plan, plan.weight_decay)] if adapter else _optimizers(model, plan)
    path = plan.out / CHECKPOINT
    if path.is_file():
        state = load(path)
        if shape_of(state) != shape:
            raise ValueError(f"{path} is of another shape than the configuration")
        _restore(model, state, adapter, path)
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        clock = loop.Clock.of(state)
        print(f"resumed at {clock.spent / 60:.1f} min, step {clock.step}", flush=True)
    else:
        clock = loop.Clock()
        if plan.init and not adapter:
            model.load_state_dict(fitting(load(plan.init), shape))
    print(f"{sum(p.numel() for p in trained) / 1e6:.3f} M parameters", flush=True)

    def advance(batch: Batch, rate: float) -> float:
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16, enabled=plan.bf16):
            loss = model.loss(*batch.tensors())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return float(loss.item())

    def save(clock: loop.Clock) -> None:
        made = adapter | {"adapter": lora.state(model)} if adapter else {"model": model.state_dict()}
        weights = made | {"shape": shape.as_dict()} | clock.as_dict()
        write(path, weights | {"optimizers": [o.state_dict() for o in optimizers]})
        if plan.keep:
            write(plan.out / f"step-{clock.step:08}.pt", weights)
            for old in kept(plan.out)[: -plan.keep]:
                old.unlink()

    model.train()
    with _batches(_source(config, plan, task, tokenizer), plan, clock) as batches:
        loop.run(plan, clock, batches, advance, save, report)
    return path


# -- checkpoints ------------------------------------------------------------------------------------------------------


def load(path: Path) -> dict[str, Any]:
    """A checkpoint, or the one in the folder `path`."""
    state: dict[str, Any] = torch.load(path / CHECKPOINT if path.is_dir() else path, weights_only=True, map_location="cpu")
    return state


def write(path: Path, state: dict[str, Any]) -> None:
    """Whole or not at all."""
    part = path.with_suffix(".tmp")
    torch.save(state, part)
    os.replace(part, path)


def kept(folder: Path) -> list[Path]:
    """The kept weights of a training, oldest first."""
    return sorted(folder.glob("step-*.pt"))


def shape_of(state: dict[str, Any]) -> Shape:
    """The shape in a checkpoint; one that does not name `kv_heads` has as many as heads."""
    found = dict(state["shape"])
    found.setdefault("kv_heads", found["heads"])
    whole = {key: value if key in ("rope_base", "norm_epsilon") else int(value) for key, value in found.items()}
    return Shape(**whole)


def fitting(state: dict[str, Any], shape: Shape) -> dict[str, torch.Tensor]:
    """The weights of a checkpoint for a model of `shape`: regrouped where it has other heads. Raises ValueError, also
    for the checkpoint of an adapter."""
    if "adapter" in state:
        raise ValueError("an adapter is no model to start from; name the model below it as init")
    old = shape_of(state)
    weights: dict[str, torch.Tensor] = state["model"]
    return weights if (old.heads, old.kv_heads) == (shape.heads, shape.kv_heads) else regroup(weights, old, shape)


# -- parts ------------------------------------------------------------------------------------------------------------


def _shape(decoder: Decoder, vocabulary: int) -> Shape:
    return Shape(
        vocabulary, decoder.width, decoder.layers, decoder.heads, decoder.kv_heads, decoder.feed_forward, decoder.context
    )


def _tokenizer(config: Config, decoder: Decoder, plan: Training) -> Path:
    """The tokenizer of the training's folder: that of what it starts from, or a new one."""
    path = plan.out / TOKENIZER
    if not path.is_file():
        if plan.init:
            start = plan.init if plan.init.is_dir() else plan.init.parent
            shutil.copyfile(start / TOKENIZER, path)
        else:
            rng = random.Random(config.seed)
            names = Names(config.corpus.official if config.corpus else None)
            texts = (shards.Note("", note(rng, names)[1]).text for _ in range(decoder.tokenizer_notes))
            train_tokenizer(texts, decoder.vocabulary).save(str(path))
    return path


def _optimizers(model: Qwen2, plan: Training) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for the rest."""
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and n.startswith("blocks")]
    others = [p for n, p in model.named_parameters() if not (p.dim() == 2 and n.startswith("blocks"))]
    return [
        torch.optim.Muon(
            matrices, lr=plan.rate, weight_decay=plan.weight_decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        ),
        _adamw(others, plan, 0.0),
    ]


def _adamw(parameters: list[torch.nn.Parameter], plan: Training, decay: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=plan.rate, betas=(0.9, 0.95), weight_decay=decay)


def _adapter(model: Qwen2, plan: Training, form: str | None) -> dict[str, Any]:
    """Lays an adapter over the weights of `plan.init` in `model`; what a checkpoint says of it, the factors aside."""
    assert plan.init is not None
    state = load(plan.init)
    if shape_of(state) != model.shape:
        raise ValueError(f"{plan.init} is of another shape than the configuration")
    weights = fitting(state, model.shape)
    model.load_state_dict(weights)
    lora.attach(model, plan.rank, plan.alpha, plan.targets)
    return {
        "rank": plan.rank, "alpha": float(plan.alpha), "targets": list(lora.layers(plan.targets)),
        "form": form, "base": lora.fingerprint(weights),
    }  # fmt: skip


def _restore(model: Qwen2, state: dict[str, Any], adapter: dict[str, Any] | None, path: Path) -> None:
    if ("adapter" in state) != (adapter is not None):
        raise ValueError(f"{path} is of another method than the plan")
    if adapter is None:
        model.load_state_dict(state["model"])
        return
    if different := [key for key, value in adapter.items() if state.get(key) != value]:
        raise ValueError(f"{path} is an adapter with another {', '.join(different)} than the plan's")
    lora.load_state(model, state["adapter"])


def _source(config: Config, plan: Training, task: Task, tokenizer: Path) -> Supply:
    if callable(task):
        return task(tokenizer)
    corpus = config.corpus
    return Source(
        task, tokenizer, config.seed, plan.length, plan.tokens,
        notes=corpus.shard_notes if corpus else 250, folder=plan.data, official=corpus.official if corpus else None,
    )  # fmt: skip


@contextmanager
def _batches(source: Supply, plan: Training, clock: loop.Clock) -> Iterator[Iterator[Batch]]:
    """The batches from the clock's place on, from a process of their own where the plan has one."""
    if not plan.feeder:
        yield stream(source, clock.shard, clock.batch)
        return
    feeder = Feeder(source, clock.shard, clock.batch)
    try:
        yield iter(feeder)
    finally:
        feeder.close()
