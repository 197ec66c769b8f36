"""Fine-tuning for a use case: `python -m training.sft --config C`.

Table [sft]. With a table [decoder] our own small decoder learns the statement form of synthetic notes, or the receipt form
of synthetic claims (`use`), with loss on what it will have to choose (`encode.Example.learn`); Muon on the matrices of the
blocks, AdamW on the rest, or with method lora AdamW on an adapter alone. Without one the Hugging Face model in the local
folder `init` learns chats, {"messages": [{"role", "content"}, …]} a line, with loss on the last message. `data` is a JSONL
file of them (use case 2: `training.receipts`), or a folder that `training.corpus` (`chat`) has written for use case 1. A run
that was interrupted goes on from its last state; on several GPUs start it with `torchrun`.
"""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from app.generation.chat import Message
from app.generation.form import FORM_VERSION
from app.generation.receipt_form import RECEIPT_FORM
from training import decoder, loop, shards
from training.chat_tokens import ChatTokens
from training.config import Config, Training, from_arguments, wanted
from training.receipts.supply import Claims

if TYPE_CHECKING:
    from training import huggingface


def train(config: Config, report: loop.Report = loop.print_report) -> Path:
    """Returns the checkpoint, or the folder of the model or adapter. Raises ValueError, FileNotFoundError."""
    plan = wanted(config.sft, "sft")
    if config.decoder and plan.use == "uc2":
        claims = partial(Claims, seed=config.seed, length=plan.length, tokens=plan.tokens)
        return decoder.train(config, plan, claims, report, form=RECEIPT_FORM)
    if config.decoder:
        return decoder.train(config, plan, "form", report, form=FORM_VERSION)
    from training import huggingface  # needs transformers, which our own decoder does not

    return huggingface.train(config, plan, _chats(plan, ChatTokens(huggingface.source_of(plan))), report)


def _chats(plan: Training, tokens: ChatTokens) -> "huggingface.Samples":
    from training import huggingface

    files = [plan.data] if plan.data and plan.data.is_file() else []
    if plan.data and plan.data.is_dir():
        files = shards.pairs_in(plan.data, "train")
    if not files:
        raise FileNotFoundError(f"data must be a JSONL file of chats, or the folder of a corpus with pairs, not {plan.data}")
    chats = [chat for path in files for chat in _read(path)]
    rows = [chat for chat in chats if len(tokens.chat(chat).ids) <= plan.length]
    print(f"{len(rows)} of {len(chats)} chats have at most {plan.length} tokens", flush=True)
    return huggingface.Samples(len(rows), lambda number: tokens.chat(rows[number]))


def _read(path: Path) -> Iterator[list[Message]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.strip():
                yield [Message(message["role"], message["content"]) for message in json.loads(line)["messages"]]


if __name__ == "__main__":
    print(train(from_arguments(__doc__)))
