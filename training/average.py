"""The mean of the last checkpoints of a training: `python -m training.average --config C`.

Table [average]. `source` is the folder of a training that kept some (`keep`). The mean of our own decoder can be exported
or trained on like a checkpoint, that of an adapter on it exported; that of a Hugging Face model or adapter is a folder like
those that it is made from.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from training.config import Average, from_arguments, wanted
from training.decoder import TOKENIZER, kept, load, write


def average(plan: Average) -> Path:
    """Writes `plan.target` and returns it. Raises ValueError where nothing was kept."""
    if files := kept(plan.source)[-plan.last :]:
        plan.target.parent.mkdir(parents=True, exist_ok=True)
        states = [load(file) for file in files]
        part = "adapter" if "adapter" in states[-1] else "model"
        write(plan.target, states[-1] | {part: mean([state[part] for state in states])})
        if plan.target.parent != plan.source:
            shutil.copyfile(plan.source / TOKENIZER, plan.target.with_name(TOKENIZER))
        return plan.target
    folders = sorted(path for path in plan.source.glob("step-*") if path.is_dir())[-plan.last :]
    if not folders:
        raise ValueError(f"{plan.source} has kept no checkpoints; train with keep > 0")
    shutil.copytree(folders[-1], plan.target, dirs_exist_ok=True)
    for file in plan.target.glob("*.safetensors"):
        with safe_open(file, framework="pt") as content:
            metadata = content.metadata()
        save_file(mean([load_file(folder / file.name) for folder in folders]), file, metadata=metadata)
    return plan.target


def mean(states: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The mean of each tensor, summed in 64 bits, in the type of the last."""
    return {
        key: (sum(state[key].double() for state in states) / len(states)).to(last.dtype)
        if torch.is_floating_point(last)
        else last
        for key, last in states[-1].items()
    }


if __name__ == "__main__":
    print(average(wanted(from_arguments(__doc__).average, "average")))
