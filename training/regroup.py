"""The weights of a decoder, regrouped into fewer and wider attention heads that share keys and values.

Heads are laid side by side: `factor` old heads become one. A head's rotary frequencies then belong to several old
heads, which take turns (frequency f of the new head is frequency f // factor of old head f % factor), so each old head
keeps nearly its own. The scores of the joined heads add up; queries are scaled so that the sum is divided as each was
before. Keys and values of the groups that are to share are averaged. The result is no equal model, but one that needs
only a little training to be as good, where a new one would need all of it.
"""

import torch
from torch import Tensor

from training.qwen2 import Shape


def regroup(weights: dict[str, Tensor], old: Shape, new: Shape) -> dict[str, Tensor]:
    """`weights` of a `training.qwen2.Qwen2` of shape `old` for one of shape `new`, which differs in its heads alone.

    Raises ValueError when the shapes differ elsewhere, or the heads do not divide evenly.
    """
    same = ("vocabulary", "width", "layers", "feed_forward", "rope_base", "norm_epsilon")
    if different := [name for name in same if getattr(old, name) != getattr(new, name)]:
        raise ValueError(f"only heads can be regrouped; these differ too: {', '.join(different)}")
    factor, rest = divmod(old.heads, new.heads)
    if rest or factor < 1 or old.kv_heads % (factor * new.kv_heads):
        raise ValueError(
            f"{old.heads} heads with {old.kv_heads} of keys do not regroup into {new.heads} with {new.kv_heads}"
        )
    size = old.width // old.heads
    half = size // 2
    # Place in the new head -> place in the old heads side by side.
    order = [
        (place % factor) * size + place // factor + half * side for side in (0, 1) for place in range(factor * half)
    ]
    made = dict(weights)
    for key, tensor in weights.items():
        layer = key.split(".")[-2]
        if not key.startswith("blocks.") or layer not in ("q", "k", "v"):
            continue
        heads = tensor.view(-1, factor * size, *tensor.shape[1:])
        if layer != "v":
            heads = heads[:, torch.tensor(order)]
        if layer == "q":
            heads = heads * factor**0.5
        else:
            heads = heads.view(new.kv_heads, -1, *heads.shape[1:]).mean(1)
        made[key] = heads.reshape(-1, *tensor.shape[1:]).clone()
    return made
