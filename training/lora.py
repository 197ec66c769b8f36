"""LoRA on our own decoder: the weights stay as they are, and beside named linear layers two narrow factors are trained.

A layer then computes W x + alpha / rank * B (A x). B begins at zero, so that the model begins as what it lies on.
Source: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.qwen2 import Block, Qwen2

LAYERS = ("q", "k", "v", "o", "gate", "up", "down")


class Adapted(nn.Module):
    """`base`, which is not trained, and the factors `a` (rank, inputs) and `b` (outputs, rank)."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.base = base
        self.a = nn.Parameter(torch.empty(rank, base.in_features))
        self.b = nn.Parameter(torch.zeros(base.out_features, rank))
        self.scale = alpha / rank
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(0, -2)
        whole: Tensor = self.base(rows)
        narrow = F.linear(rows, self.a)
        # In place, which no gradient needs undone: a copy of the wide layers' outputs takes as long as the product itself.
        whole.addmm_(narrow, self.b.T.to(whole.dtype), alpha=self.scale)
        return whole.view(*x.shape[:-1], -1)


def layers(targets: Sequence[str]) -> tuple[str, ...]:
    """Our names of the linear layers in `targets`, which may also be Hugging Face's (q_proj). Raises ValueError."""
    wanted = {target.removesuffix("_proj") for target in targets}
    if not wanted or not wanted <= set(LAYERS):
        raise ValueError(f"targets are some of {', '.join(LAYERS)}, not {', '.join(sorted(wanted)) or 'none'}")
    return tuple(name for name in LAYERS if name in wanted)


def attach(model: Qwen2, rank: int, alpha: float, targets: Sequence[str]) -> list[nn.Parameter]:
    """Freezes `model`, lays factors beside the layers `targets` of every block, and returns them. Raises ValueError."""
    names = layers(targets)
    if rank < 1:
        raise ValueError("the rank of an adapter is at least 1")
    model.requires_grad_(False)
    trained: list[nn.Parameter] = []
    for block in model.blocks:
        assert isinstance(block, Block)
        for name in names:
            adapted = Adapted(getattr(block, name), rank, alpha)
            setattr(block, name, adapted)
            trained += [adapted.a, adapted.b]
    return trained


def state(model: Qwen2) -> dict[str, Tensor]:
    """The factors alone: blocks.0.q.a, blocks.0.q.b …"""
    adapted = {name: layer for name, layer in model.named_modules() if isinstance(layer, Adapted)}
    factors = {f"{name}.a": layer.a.detach() for name, layer in adapted.items()}
    return factors | {f"{name}.b": layer.b.detach() for name, layer in adapted.items()}


def load_state(model: Qwen2, factors: Mapping[str, Tensor]) -> None:
    """What `state` gave, into a model with the same layers adapted. Raises ValueError."""
    own = state(model)
    if own.keys() != factors.keys() or any(own[name].shape != factors[name].shape for name in own):
        raise ValueError("the adapter has other layers or another rank")
    with torch.no_grad():
        for name, factor in own.items():
            factor.copy_(factors[name])


def merged(weights: Mapping[str, Tensor], checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """`weights` of the model below with the adapter of `checkpoint` added to them: one model, without an adapter."""
    scale = float(checkpoint["alpha"]) / int(checkpoint["rank"])
    factors: Mapping[str, Tensor] = checkpoint["adapter"]
    made = dict(weights)
    for name in factors:
        layer, _, part = name.rpartition(".")
        if part == "a":
            made[f"{layer}.weight"] = made[f"{layer}.weight"] + scale * (factors[f"{layer}.b"] @ factors[name])
    return made


def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """The first 16 hex digits of a SHA-256 over the names and numbers of `weights`."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + b"\0" + weights[name].contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
