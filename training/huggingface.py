"""Training of a causal language model that lies in a local Hugging Face folder: whole, LoRA or QLoRA, on one process or many.

Several processes (`torchrun`) share the model with FSDP2 (`torch.distributed.fsdp.fully_shard`); the first one alone
reads the weights. Nothing is ever downloaded. A folder of a training holds state-<step>/ (all that is needed to go on,
in torch.distributed.checkpoint's format, for the same number of processes or another), `model/` (the folder to export or
to start from; an adapter where the method is LoRA) and, where the plan keeps some, step-<step>/ like it.
"""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_model_state_dict,
    set_state_dict,
)
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

from training import loop
from training.chat_tokens import Sample
from training.config import Config, Training

MODEL = "model"
_COPIED = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json", "generation_config.json")
_FROZEN = StateDictOptions(ignore_frozen_params=True)


class Samples:
    """What a training learns from: `count` samples, the one of a number when it is asked for."""

    def __init__(self, count: int, get: Callable[[int], Sample]) -> None:
        if not count:
            raise ValueError("there is nothing to learn from")
        self.count = count
        self.get = get


@dataclass(frozen=True)
class Batch:
    samples: list[Sample]
    following: tuple[int, int]

    @property
    def tokens(self) -> int:
        return sum(len(sample.ids) for sample in self.samples)

    @property
    def learnt(self) -> int:
        return sum(sum(sample.learn[1:]) for sample in self.samples)


def batches(samples: Samples, size: int, seed: int, epoch: int = 0, batch: int = 0) -> Iterator[Batch]:
    """Batches of `size` samples from that place on, epoch after epoch, each in an order of its own."""
    while True:
        order = list(range(samples.count))
        random.Random(f"{seed}/epoch/{epoch}").shuffle(order)
        parts = [order[at : at + size] for at in range(0, len(order), size)]
        for index, part in enumerate(parts):
            if index >= batch:
                following = (epoch, index + 1) if index + 1 < len(parts) else (epoch + 1, 0)
                yield Batch([samples.get(number) for number in part], following)
        epoch, batch = epoch + 1, 0


def source_of(plan: Training) -> Path:
    """The folder of the model: `plan.init`, or what the adapter there lies on. Raises FileNotFoundError."""
    if plan.init is None or not plan.init.is_dir():
        raise FileNotFoundError(f"init must be a local folder of a Hugging Face model or adapter, not {plan.init}")
    adapter = plan.init / "adapter_config.json"
    if adapter.is_file():
        return Path(json.loads(adapter.read_text(encoding="utf-8"))["base_model_name_or_path"])
    return plan.init


def train(config: Config, plan: Training, samples: Samples, report: loop.Report = loop.print_report) -> Path:
    """Trains as `plan` says, from its last state on where there is one; returns the folder of the result.

    Raises FileNotFoundError, ValueError for a plan that this machine cannot follow.
    """
    torch.set_num_threads(plan.threads)
    torch.manual_seed(config.seed)
    machine = Machine()
    if machine.count > 1 and plan.steps is None:
        raise ValueError("several processes must stop at the same step: give steps, not minutes")
    model = _model(plan, machine)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=plan.rate, betas=(0.9, 0.95), weight_decay=plan.weight_decay)
    clock = loop.Clock()
    states = sorted(plan.out.glob("state-*[0-9]"))
    if states:
        clock = _restore(model, optimizer, states[-1])
    machine.say(f"{sum(p.numel() for p in trained) / 1e6:.2f} M parameters to train, step {clock.step}")

    def advance(batch: Batch, rate: float) -> float:
        # Dropout is a function of the step, so that a training that goes on draws what it would have drawn.
        torch.manual_seed((config.seed * 1_000_003 + clock.step) * 1_000 + machine.rank)
        for group in optimizer.param_groups:
            group["lr"] = rate
        mine = batch.samples[machine.rank :: machine.count]
        groups = [mine[at : at + plan.micro_batch] for at in range(0, len(mine), plan.micro_batch)]
        # Every process takes as many turns as the first: a shared model is gathered by all of them together.
        turns = -(-len(batch.samples[0 :: machine.count]) // plan.micro_batch)
        total = torch.zeros((), device=machine.device)
        for turn in range(turns):
            group = groups[turn] if turn < len(groups) else batch.samples[:1]
            loss = _loss(model, group, machine.device, plan.bf16) / max(1, batch.learnt)
            loss = loss if turn < len(groups) else loss * 0
            (loss * machine.count).backward()  # FSDP takes the mean over the processes
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return machine.sum(total)

    def save(clock: loop.Clock) -> None:
        _keep_state(model, optimizer, clock, plan.out, machine)
        if plan.keep:
            _write(model, plan, plan.out / f"step-{clock.step:08}", machine)
            for old in sorted(plan.out.glob("step-*[0-9]"))[: -plan.keep]:
                if machine.rank == 0:
                    shutil.rmtree(old)

    model.train()
    made = batches(samples, plan.batch, config.seed, clock.shard, clock.batch)
    loop.run(plan, clock, made, advance, save, report if machine.rank == 0 else lambda *_: None)
    result = plan.out / MODEL
    _write(model, plan, result, machine)
    machine.close()
    return result


# -- the machine ------------------------------------------------------------------------------------------------------


class Machine:
    """This process among those of the training: `rank` of `count`, and its `device`."""

    def __init__(self) -> None:
        self.count, self.rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
        cuda = torch.cuda.is_available()
        self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
        if cuda:
            torch.cuda.set_device(self.device)
        if self.count > 1:
            dist.init_process_group("nccl" if cuda else "gloo")

    def sum(self, value: torch.Tensor) -> float:
        if self.count > 1:
            dist.all_reduce(value)
        return float(value.item())

    def wait(self) -> None:
        if self.count > 1:
            dist.barrier()

    def say(self, text: str) -> None:
        if self.rank == 0:
            print(text, flush=True)

    def close(self) -> None:
        if self.count > 1:
            dist.destroy_process_group()


# -- the model --------------------------------------------------------------------------------------------------------


def _model(plan: Training, machine: Machine) -> torch.nn.Module:
    folder = source_of(plan)
    if plan.method == "qlora":
        if machine.device.type != "cuda" or machine.count > 1:
            raise ValueError("qlora needs one process with a CUDA GPU (bitsandbytes); use lora here")
        bits = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )  # fmt: skip
        model = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, dtype=torch.bfloat16, quantization_config=bits, device_map={"": machine.device}
        )
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=plan.checkpoint_activations)
        return _tuned(model, plan)
    if machine.count == 1:
        return _prepared(_loaded(folder, plan), plan).to(machine.device)
    return _shared(folder, plan, machine)


def _loaded(folder: Path, plan: Training) -> torch.nn.Module:
    # What is trained stays in 32 bits, sums of small steps are lost in 16; a frozen base need not.
    dtype = torch.bfloat16 if plan.method == "lora" and plan.bf16 else torch.float32
    return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=dtype)


def _prepared(model: Any, plan: Training) -> torch.nn.Module:
    model.config.use_cache = False
    if plan.checkpoint_activations:
        model.activation_checkpointing_enable({"use_reentrant": False})
    return _tuned(model, plan) if plan.method == "lora" else model


def _tuned(model: Any, plan: Training) -> torch.nn.Module:
    """`model` with the adapter that the plan starts from, or with a new one."""
    if plan.init and (plan.init / "adapter_config.json").is_file():
        return PeftModel.from_pretrained(model, str(plan.init), is_trainable=True, local_files_only=True)
    lora = LoraConfig(
        r=plan.rank, lora_alpha=plan.alpha, lora_dropout=plan.dropout, target_modules=list(plan.targets),
        task_type="CAUSAL_LM",
    )  # fmt: skip
    return get_peft_model(model, lora)


def _shared(folder: Path, plan: Training, machine: Machine) -> torch.nn.Module:
    """The model in parts, one on each process. The first reads it and hands the parts out."""
    whole = _prepared(_loaded(folder, plan), plan) if machine.rank == 0 else None
    with torch.device("meta"):
        dtype = torch.bfloat16 if plan.method == "lora" and plan.bf16 else torch.float32
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        skeleton = AutoModelForCausalLM.from_config(config, dtype=dtype)
        model = _prepared(skeleton, _without_adapter(plan))
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32) if plan.bf16 else MixedPrecisionPolicy()
    for layer in skeleton.model.layers:
        fully_shard(layer, mp_policy=policy)
    fully_shard(model, mp_policy=policy)
    model.to_empty(device=machine.device)
    skeleton.tie_weights()
    state = whole.state_dict() if whole is not None else {}
    set_model_state_dict(model, state, options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True))
    # Buffers that are in no state: rotary frequencies.
    read = dict(whole.named_buffers()) if whole is not None else {}
    for name, buffer in model.named_buffers():
        if name in read:
            buffer.copy_(read[name])
        dist.broadcast(buffer, 0)
    return model


def _without_adapter(plan: Training) -> Training:
    """The plan with a new adapter of the same shape: its weights come from the process that has read them."""
    adapter = plan.init / "adapter_config.json" if plan.init else None
    if adapter is None or not adapter.is_file():
        return plan
    found = json.loads(adapter.read_text(encoding="utf-8"))
    return plan.model_copy(
        update={"init": None, "rank": found["r"], "alpha": found["lora_alpha"], "targets": tuple(found["target_modules"])}
    )


def _loss(model: Any, samples: Sequence[Sample], device: torch.device, bf16: bool) -> torch.Tensor:
    """Summed cross entropy of what `samples` shall teach."""
    width = max(len(sample.ids) for sample in samples)
    ids = torch.zeros(len(samples), width, dtype=torch.long)
    wanted = torch.full((len(samples), width), -100)
    there = torch.zeros(len(samples), width, dtype=torch.long)
    for row, sample in enumerate(samples):
        count = len(sample.ids)
        ids[row, :count] = torch.tensor(sample.ids)
        there[row, :count] = 1
        learnt = torch.tensor(sample.learn)
        wanted[row, :count][learnt] = ids[row, :count][learnt]
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        logits = model(input_ids=ids.to(device), attention_mask=there.to(device)).logits
    targets = wanted[:, 1:].to(device)
    return F.cross_entropy(logits[:, :-1][targets >= 0].float(), targets[targets >= 0], reduction="sum")


# -- files ------------------------------------------------------------------------------------------------------------


def _keep_state(model: Any, optimizer: Any, clock: loop.Clock, out: Path, machine: Machine) -> None:
    weights, moments = get_state_dict(model, optimizer, options=_FROZEN)
    part, whole = out / "state.part", out / f"state-{clock.step:08}"
    if machine.rank == 0:
        shutil.rmtree(part, ignore_errors=True)
    machine.wait()
    dcp.save({"model": weights, "optimizer": moments}, checkpoint_id=part, no_dist=machine.count == 1)
    machine.wait()
    if machine.rank == 0:
        (part / "clock.json").write_text(json.dumps(clock.as_dict()), encoding="utf-8")
        part.rename(whole)
        for old in sorted(out.glob("state-*[0-9]"))[:-1]:
            shutil.rmtree(old)
    machine.wait()


def _restore(model: Any, optimizer: Any, folder: Path) -> loop.Clock:
    weights, moments = get_state_dict(model, optimizer, options=_FROZEN)
    state = {"model": weights, "optimizer": moments}
    dcp.load(state, checkpoint_id=folder, no_dist=not dist.is_initialized())
    options = StateDictOptions(ignore_frozen_params=True, strict=False)
    set_state_dict(
        model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"], options=options
    )
    return loop.Clock.of(json.loads((folder / "clock.json").read_text(encoding="utf-8")))


def _write(model: Any, plan: Training, folder: Path, machine: Machine) -> None:
    """The model, or its adapter, as a Hugging Face folder with its tokenizer."""
    source = source_of(plan)
    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=plan.method != "full")
    state = get_model_state_dict(model, options=options)
    if machine.rank == 0:
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        model.save_pretrained(part, state_dict=state)
        for name in _COPIED:
            if (source / name).is_file():
                shutil.copyfile(source / name, part / name)
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    machine.wait()
