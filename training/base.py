"""Pre-training on the text of notes, with loss on all of it: `python -m training.base --config C`.

Table [base]. With a table [decoder] our own small decoder, from nothing or from `init`; without one, continued
pre-training of the Hugging Face model in the local folder `init`. Notes stand one behind the other in sequences of
`length` tokens. A run that was interrupted goes on from its last state; on several GPUs start it with `torchrun`.
"""

from array import array
from pathlib import Path
from typing import TYPE_CHECKING

from training import decoder, loop, shards
from training.batches import packed
from training.chat_tokens import ChatTokens, Sample
from training.config import Config, Training, from_arguments, wanted

if TYPE_CHECKING:
    from training import huggingface


def train(config: Config, report: loop.Report = loop.print_report) -> Path:
    """Returns the checkpoint, or the folder of the model. Raises ValueError, FileNotFoundError."""
    plan = wanted(config.base, "base")
    if config.decoder:
        return decoder.train(config, plan, "text", report)
    from training import huggingface  # needs transformers, which our own decoder does not

    return huggingface.train(config, plan, _texts(plan, ChatTokens(huggingface.source_of(plan))), report)


def _texts(plan: Training, tokens: ChatTokens) -> "huggingface.Samples":
    from training import huggingface

    files = shards.found_in(plan.data, "train") if plan.data else []
    if not files:
        raise FileNotFoundError(f"{plan.data} has no shards; run training.corpus first, and name its folder as data")
    parts: list[array[int]] = []
    for file in files:
        ids = [number for note in shards.read(file) for number in tokens.document(note.text)]
        parts += [array("i", part) for part in packed(ids, plan.length)]
    return huggingface.Samples(len(parts), lambda number: Sample(list(parts[number]), [True] * len(parts[number])))


if __name__ == "__main__":
    print(train(from_arguments(__doc__)))
