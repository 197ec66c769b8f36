"""Writes chats about synthetic claims for a chat model: `python -m training.receipts --config C`.

Table [claims]. One chat a line, {"messages": […]}: the prompt and the claim as the product shows them, and the answer that is
right; what the grammar would refuse is not taught. The same seed gives the same chats. The result is the `data` of [sft].
"""

import random
from collections.abc import Iterator
from typing import Any

from app.generation import receipt_form
from app.generation.grammar import PLAIN
from app.generation.registry import RECEIPTS, prompt_text
from app.generation.segments import fold
from app.generation.structured import first_refused
from app.receipts.tables import Tables
from training import shards
from training.config import Config, from_arguments, wanted
from training.receipts.draw import draw
from training.receipts.supply import WITHOUT_FINDINGS, lesson

SHARD = 200


def chats(seed: int, count: int) -> Iterator[dict[str, Any]]:
    """At most `count`: those whose answer the product's grammar allows."""
    tables, system = Tables.starter(), prompt_text(RECEIPTS)
    for number in range(-(-count // SHARD)):
        rng = random.Random(f"{seed}/chats/{number}")
        for synthetic in draw(seed, "train", number, min(SHARD, count - number * SHARD)):
            head, shown, answers = lesson(synthetic, tables, with_findings=rng.random() >= WITHOUT_FINDINGS)
            answer = receipt_form.written(head, shown, answers)
            if first_refused(receipt_form.build(head, shown, 0, PLAIN), [answer]) is not None:
                continue
            rows = [fold(head), *(row for n, block in enumerate(shown) for row in receipt_form.rows(n, block))]
            contents = {"system": system, "user": "\n".join(rows), "assistant": answer}
            yield {"messages": [{"role": role, "content": content} for role, content in contents.items()]}


def write(config: Config) -> int:
    plan = wanted(config.claims, "claims")
    plan.out.parent.mkdir(parents=True, exist_ok=True)
    return shards.write_lines(plan.out, chats(config.seed, plan.count))


if __name__ == "__main__":
    chosen = from_arguments(__doc__)
    print(f"{write(chosen)} chats in {wanted(chosen.claims, 'claims').out}")
