"""Trains the small model on synthetic notes: `python -m training.train --minutes 90 --out training/runs/uc1`.

Resumable: weights, optimizer and clock are written to `OUT/checkpoint.pt` every few minutes and read back at start.
Loss on statements and line decisions only (`encode.Example.learn`); Muon on the matrices of the blocks, AdamW on the
rest; learning rate warms up, then falls by a cosine to 5 % over the given minutes of training time.
"""

import argparse
import json
import math
import multiprocessing
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Full
from typing import TypeAlias

import torch

from app.terminology.entries import starter_entries, starter_version
from app.terminology.matching import Lexicon
from training.corpus.core import problems
from training.corpus.frame import note
from training.corpus.names import Names
from training.encode import Codec, Unsound, encode_note, train_tokenizer
from training.qwen2 import Qwen2, Shape

STRIDE = 128
"""Batches are padded to a multiple of this length: every new shape costs the matrix library a compilation."""


Sample = tuple[list[int], list[int]]
"""Token ids and targets of one note: targets[i] is the token to predict after ids[i], or -1."""
Batches: TypeAlias = "multiprocessing.Queue[list[Sample]]"


def examples(codec: Codec, lexicon: Lexicon, names: Names, rng: random.Random, limit: int) -> Iterator[Sample]:
    """Endless samples of synthetic notes; a note longer than `limit` tokens is cut there."""
    while True:
        context, lines = note(rng, names)
        if problems(lines):
            continue
        try:
            example = encode_note(codec, lexicon, lines, context.document_type, rng)
        except Unsound:
            continue
        ids, learn = example.ids[: limit + 1], example.learn[: limit + 1]
        yield ids[:-1], [t if wanted else -1 for t, wanted in zip(ids[1:], learn[1:], strict=True)]


def _feed(queue: Batches, tokenizer: Path, official: Path | None, seed: int, limit: int, tokens: int) -> None:
    """Fills `queue` with batches of about `tokens` tokens, notes of like length together."""
    os.nice(2)
    torch.set_num_threads(1)
    rng = random.Random(seed)
    source = examples(Codec.load(tokenizer), Lexicon(starter_entries(), starter_version()), Names(official), rng, limit)
    parent = os.getppid()
    waiting: dict[int, list[Sample]] = {}
    while True:
        example = next(source)
        length = -(-len(example[0]) // STRIDE) * STRIDE
        batch = waiting.setdefault(length, [])
        batch.append(example)
        if len(batch) < max(1, tokens // length):
            continue
        del waiting[length]
        while True:
            if os.getppid() != parent:
                return
            try:
                queue.put(batch, timeout=5)
                break
            except Full:
                continue


def _tensors(batch: list[Sample]) -> tuple[torch.Tensor, torch.Tensor]:
    length = -(-max(len(ids) for ids, _ in batch) // STRIDE) * STRIDE
    x = torch.zeros(len(batch), length, dtype=torch.long)
    y = torch.full((len(batch), length), -1)
    for row, (ids, targets) in enumerate(batch):
        x[row, : len(ids)] = torch.tensor(ids)
        y[row, : len(targets)] = torch.tensor(targets)
    return x, y


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, required=True, help="training time in minutes, over all resumed runs")
    parser.add_argument("--out", type=Path, required=True, help="folder for tokenizer, checkpoints and log")
    parser.add_argument("--official", type=Path, help="folder with official name tables (optional)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--feed-forward", type=int, default=704)
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--length", type=int, default=1280, help="longest note in tokens")
    parser.add_argument("--batch", type=int, default=8192, help="tokens a step")
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)

    tokenizer = args.out / "tokenizer.json"
    if not tokenizer.exists():
        rng, names = random.Random(args.seed), Names(args.official)
        texts = ("\n".join(line.text for line in note(rng, names)[1]) for _ in range(6000))
        train_tokenizer(texts, args.vocabulary).save(str(tokenizer))
    codec = Codec.load(tokenizer)
    shape = Shape(codec.size, args.width, args.layers, args.heads, args.feed_forward)
    model = Qwen2(shape)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, vocabulary {codec.size}", flush=True)

    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and n.startswith("blocks")]
    others = [p for n, p in model.named_parameters() if not (p.dim() == 2 and n.startswith("blocks"))]
    optimizers = [
        torch.optim.Muon(matrices, lr=args.rate, weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=args.rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    spent, step, tokens = 0.0, 0, 0
    checkpoint = args.out / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        spent, step, tokens = state["spent"], state["step"], state["tokens"]
        print(f"resumed at {spent / 60:.1f} min, step {step}", flush=True)

    context = multiprocessing.get_context("spawn")
    queue: Batches = context.Queue(maxsize=64)
    seed = args.seed + 1000 + step
    feeder = context.Process(
        target=_feed, args=(queue, tokenizer, args.official, seed, args.length, args.batch), daemon=True
    )
    feeder.start()

    def save() -> None:
        state = {
            "model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers],
            "spent": spent, "step": step, "tokens": tokens, "shape": shape.as_dict(),
        }  # fmt: skip
        torch.save(state, checkpoint.with_suffix(".tmp"))
        os.replace(checkpoint.with_suffix(".tmp"), checkpoint)

    model.train()
    mean = None
    saved_at = last = time.monotonic()
    limit = args.minutes * 60
    while spent < limit:
        x, y = _tensors(queue.get())
        progress = spent / limit
        rate = args.rate * min(1.0, (step + 1) / 100) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress)))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16):
            loss = model.loss(x, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
        tokens += x.numel()
        mean = loss.item() if mean is None else mean * 0.98 + loss.item() * 0.02
        now = time.monotonic()
        spent, last = spent + now - last, now
        if step % 50 == 0:
            row = {"minutes": round(spent / 60, 1), "step": step, "tokens": tokens, "loss": round(mean, 4)}
            print(json.dumps(row), flush=True)
        if now - saved_at > 180:
            save()
            saved_at = now
    save()
    feeder.terminate()


if __name__ == "__main__":
    main()
