"""Synthetic claims -> token sequences of the receipt form, with the tokens to be learnt marked.

Some claims are shown without their findings, so that the model learns to compare a claim with its chart and not only to
judge findings; then nothing is answered by `no_change`, and the references are the general ones.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from app.generation import form, receipt_form
from app.generation.receipt_form import CHART, Answer
from app.generation.segments import chunks, fold
from app.receipts.chart import case
from app.receipts.check import check
from app.receipts.tables import Tables
from schemas.receipt import GENERAL, Advised, Block, Case
from training.batches import Draw, Sample
from training.encode import BOS, Codec, Example
from training.receipts.draw import Planted, Synthetic, draw

WITHOUT_FINDINGS = 0.2
"""Share of the claims that are shown without their findings."""
_NOT_CHART = next(key for key in GENERAL if key != CHART)


@dataclass(frozen=True)
class Claims:
    """The supply of claims: `claims` a shard, sequences of at most `length` tokens, `tokens` padded tokens a batch."""

    tokenizer: Path
    seed: int
    length: int
    tokens: int
    claims: int = 200

    def open(self) -> Draw:
        codec = Codec.load(self.tokenizer)
        tables = Tables.starter()

        def drawn(number: int, rng: random.Random) -> list[Sample]:
            found: list[Sample] = []
            for synthetic in draw(self.seed, "train", number, self.claims):
                example = encode(codec, *lesson(synthetic, tables, with_findings=rng.random() >= WITHOUT_FINDINGS))
                ids, learn = example.ids[: self.length + 1], example.learn[: self.length + 1]
                found.append((ids[:-1], [t if wanted else -1 for t, wanted in zip(ids[1:], learn[1:], strict=True)]))
            return found

        return drawn


def lesson(
    synthetic: Synthetic, tables: Tables, *, with_findings: bool = True
) -> tuple[str, list[Block], list[Answer]]:
    """Head, blocks as the product shows them, and the answers that are right."""
    found = case(synthetic.claim, check(synthetic.claim, tables), tables, synthetic.entries)
    shown = blocks(found, with_findings=with_findings)
    planted = [fault for fault in synthetic.faults if with_findings or fault.action is not Advised.NO_CHANGE]
    places = {block.line: number for number, block in enumerate(shown)}
    answers = [
        _answer(fault, places[fault.line], shown[places[fault.line]]) for fault in planted if fault.line in places
    ]
    return found.head, shown, answers


def blocks(found: Case, *, with_findings: bool) -> list[Block]:
    """Those that a model is shown: with the findings, the lines that something speaks of; without them all lines."""
    if with_findings:
        return [block for block in found.blocks if block.findings or block.passages]
    return [block.model_copy(update={"findings": ()}) for block in found.blocks]


def _answer(fault: Planted, number: int, block: Block) -> Answer:
    passage, quote = _evidence(fault, block)
    rows = [finding.row for finding in block.findings]
    if fault.reference in rows:
        reference = f"F{rows.index(fault.reference) + 1}"
    else:
        reference = CHART if passage is not None else _NOT_CHART
    return Answer(number, fault.action, fault.reason, reference, fault.comment, passage, quote)


def _evidence(fault: Planted, block: Block) -> tuple[int | None, str | None]:
    """The passage that holds the evidence, and as much of its quote as the evidence covers; None: it is not shown."""
    if fault.evidence is None:
        return None, None
    note_id, start, end = fault.evidence
    for number, passage in enumerate(block.passages):
        if passage.note_id == note_id and passage.start < end and start < passage.end:
            # Whole chunks, as the grammar has it.
            whole = [
                (a, b) for a, b in chunks(fold(passage.quote)) if passage.start + a < end and start < passage.start + b
            ]
            return number, passage.quote[whole[0][0] : whole[-1][1]].strip()
    return None, None


def encode(codec: Codec, head: str, shown: Sequence[Block], answers: Sequence[Answer]) -> Example:
    """One claim. What is replayed is not learnt, but whether a line is answered, and every answer."""
    fragment = codec.reserved
    ids, learn = [fragment[BOS]], [False]

    def put(tokens: list[int], learnt: bool) -> None:
        ids.extend(tokens)
        learn.extend([learnt] * len(tokens))

    def replay(text: str, decided: bool) -> None:
        put([fragment[form.LINE_OPEN]], decided)
        put([*codec.text(form.escape(text)), fragment[form.CLOSE]], False)

    replay(fold(head), False)
    decided = False
    for number, block in enumerate(shown):
        for row in receipt_form.rows(number, block):
            replay(row, decided)
            decided = False
        own = [answer for answer in answers if answer.block == number][: receipt_form.MOST_ANSWERS]
        for answer in own:
            *body, close = receipt_form.parts(replace(answer, comment=fold(answer.comment)))
            put([token for part in body for token in codec.text(part)], True)
            put([fragment[close]], True)
        # Behind the last answer that there may be, the next line follows by itself.
        decided = len(own) < receipt_form.MOST_ANSWERS
    put([fragment[form.END]], decided)
    return Example(ids, learn)
