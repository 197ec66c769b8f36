r"""The receipt form: what a model writes for a claim, as text, and the grammar of all that it may write.

One JSON object a line. First the claim's head and then each line of the claim, replayed with what speaks about it, followed
by the model's answers to that line:

    {"line":"男 54歳 入院外 2026年5月"}
    {"line":"L7 医薬品 メトグルコ錠250mg 3錠 28日分"}
    {"line":"F1 …"}                                a finding of the checks
    {"line":"S1 処方・継続: メトグルコ250mg 3錠分3 14日分"}    a passage of the chart
    {"action":"change_count","line":"L7","reason":"days_differ","reference":"chart","evidence":"S1","quote":"…","comment":"…"}
    {"end":true}

L counts the claim's lines that are shown, F and S those beside one line, from 1. Every line with a finding is answered; any
other may be. All is closed but two fields: `quote` is a run of whole chunks (`segments.chunks`) of the passage that is
named, and `comment` is free text with no more than three digits in a row, so that it can hold no code. What cites nothing
cannot be written: `reference` is a finding of the line or one of `schemas.receipt.GENERAL`, and the chart as reference needs
a quote. Training and inference share this module.
"""

import json
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from app.generation.form import CLOSE, END, LINE_OPEN, escape
from app.generation.grammar import SHAPES, Writing
from app.generation.segments import chunks, fold
from schemas.receipt import GENERAL, MAX_COMMENT, Advised, Block, Reason

RECEIPT_FORM = "receipt-1"
"""Written into an adapter or a model file that was trained on this form (GGUF key `hyojun.form`)."""

ACTION_OPEN = '{"action":"'
LINE_FIELD = '","line":"'
REASON_FIELD = '","reason":"'
REFERENCE_FIELD = '","reference":"'
EVIDENCE_FIELD = '","evidence":"'
QUOTE_FIELD = '","quote":"'
COMMENT_FIELD = '","comment":"'

CHART = "chart"
"""The reference that stands for a passage, which has to be quoted then."""
MOST_ANSWERS = 2
"""Answers to one line."""
_SHORTEST_COMMENT = 4


@dataclass(frozen=True)
class Answer:
    """One answer as a model wrote it. `block`: its place in the case from 0. `reference`: F and a number, or a key of
    `GENERAL`. `passage`: number of the passage from 0. `probability`: of the choices that made action and reason."""

    block: int
    action: Advised
    reason: Reason
    reference: str
    comment: str
    passage: int | None = None
    quote: str | None = None
    probability: float | None = None


def rows(number: int, block: Block) -> list[str]:
    """The texts that are replayed for the line `number` (from 0) of a case."""
    found = [f"L{number + 1} {block.text}"]
    found += [f"コメント {text}" for text in block.comments]
    found += [f"F{n} {finding.text}" for n, finding in enumerate(block.findings, 1)]
    found = [" ".join(text.split()) for text in found]
    # A passage keeps its spaces: what is quoted of it is looked for in the note.
    found += [f"S{n} {passage.says}: {passage.quote}" for n, passage in enumerate(block.passages, 1)]
    return [fold(text) for text in found]


def replayed(text: str) -> str:
    return LINE_OPEN + escape(text) + CLOSE


def written(head: str, blocks: Sequence[Block], answers: Sequence[Answer]) -> str:
    """The whole form in characters, as a chat model writes it."""
    found = [replayed(fold(head))]
    for number, block in enumerate(blocks):
        found += [replayed(text) for text in rows(number, block)]
        found += ["".join(parts(answer)) for answer in answers if answer.block == number]
    return "".join([*found, END])


def parts(answer: Answer) -> list[str]:
    """An answer in the pieces that the grammar makes it of; joined they are its line."""
    found = [ACTION_OPEN, answer.action.value, LINE_FIELD, f"L{answer.block + 1}", REASON_FIELD, answer.reason.value]
    found += [REFERENCE_FIELD, answer.reference]
    if answer.passage is not None and answer.quote is not None:
        found += [EVIDENCE_FIELD, f"S{answer.passage + 1}", QUOTE_FIELD, escape(fold(answer.quote))]
    return [*found, COMMENT_FIELD, escape(answer.comment), CLOSE]


# -- grammar ----------------------------------------------------------------------------------------------------------


def build(head: str, blocks: Sequence[Block], first: int, writing: Writing) -> str:
    """The grammar (Lark, llguidance dialect) for `blocks`, which are numbered from `first`."""
    sequence = [_line(fold(head), writing)]
    rules = [
        f"reason: {_choice([reason.value for reason in Reason], writing)}",
        f"comment: {writing.replay(COMMENT_FIELD)} COMMENT",
    ]
    for number, block in enumerate(blocks, first):
        sequence += [_line(text, writing) for text in rows(number, block)]
        rules += _answer(number, block, writing)
        sequence.append(f"a{number}{{{1 if block.findings else 0},{MOST_ANSWERS}}}")
    sequence.append(writing.fragment(END))
    return "\n".join([f"start: {' '.join(sequence)}", _COMMENT, f"TEXT_SHAPE: /{SHAPES['TEXT_SHAPE']}/", *rules]) + "\n"


# A digit stands in a run of three at most, half-width or full-width: 14日 and 100mg can be written, a code cannot.
_COMMENT = (
    f"COMMENT: /([0-9０-９]{{0,3}}[^0-9０-９\\p{{Cc}}\"\\\\]){{{_SHORTEST_COMMENT},{MAX_COMMENT}}}/ & /[^\\n]{{1,{MAX_COMMENT}}}/"
)


def _line(text: str, writing: Writing) -> str:
    return f"{writing.fragment(LINE_OPEN)} {writing.replay(escape(text))} {writing.fragment(CLOSE)}"


def _choice(labels: Sequence[str], writing: Writing) -> str:
    return " | ".join(writing.replay(label) for label in labels)


def _answer(number: int, block: Block, writing: Writing) -> list[str]:
    """The rules of the answers to one line. Without a finding there is nothing that needs no change."""
    actions = [action.value for action in Advised if block.findings or action is not Advised.NO_CHANGE]
    name = f"a{number}"
    rules = []
    cited = []
    for n, passage in enumerate(block.passages):
        pieces = quotable(passage.quote)
        if not pieces:
            continue
        rules.append(f"Q{number}_{n}: {_substring(pieces)}")
        rules.append(f"T{number}_{n}: Q{number}_{n} & TEXT_SHAPE")
        cited.append(f"{writing.replay(f'S{n + 1}{QUOTE_FIELD}')} T{number}_{n}")
    others = [f"F{n + 1}" for n in range(len(block.findings))] + [key for key in GENERAL if key != CHART]
    if cited:
        rules.append(f"e{number}: {writing.replay(EVIDENCE_FIELD)} ({' | '.join(cited)})")
        source = f"({writing.replay(CHART)} e{number} | ({_choice(others, writing)}) e{number}?)"
    else:
        source = f"({_choice(others, writing)})"
    body = " ".join(
        [
            writing.replay(ACTION_OPEN),
            f"({_choice(actions, writing)})",
            writing.replay(f"{LINE_FIELD}L{number + 1}{REASON_FIELD}"),
            f"reason {writing.replay(REFERENCE_FIELD)} {source} comment {writing.fragment(CLOSE)}",
        ]
    )
    return [*rules, f"{name}: {body}"]


def quotable(quote: str) -> list[str]:
    """The chunks of a passage, as JSON writes them, up to the last that a quote can end with: without it the grammar would
    offer a way on that leads nowhere (see `grammar.SHAPES`)."""
    text = fold(quote)
    pieces = [text[start:end] for start, end in chunks(text)]
    while pieces and (pieces[-1][-1].isspace() or unicodedata.category(pieces[-1][-1]) == "Cc"):
        pieces.pop()
    return [escape(piece) for piece in pieces]


def _substring(pieces: Sequence[str]) -> str:
    return "%regex " + json.dumps({"substring_chunks": list(pieces)}, ensure_ascii=False)


# -- reading ----------------------------------------------------------------------------------------------------------


def read(text: str, choices: Sequence[tuple[int, float]] = ()) -> tuple[list[Answer], bool]:
    """The answers in a model's output, and whether its end mark was reached. `choices`: (characters before it, log
    probability) of each token that was chosen. Raises ValueError where the text is not the receipt form."""
    answers: list[Answer] = []
    start = choice = 0
    for row in text.split("\n"):
        begin, start = start, start + len(row) + 1
        if not row:
            continue
        try:
            item = json.loads(row)
        except json.JSONDecodeError:
            return answers, False
        if not isinstance(item, dict):
            raise ValueError("a row is not a JSON object")
        if "end" in item:
            return answers, True
        if "action" not in item:
            continue
        while choice < len(choices) and choices[choice][0] < begin:
            choice += 1
        behind = begin + row.index(REFERENCE_FIELD)
        made = [logarithm for at, logarithm in choices[choice:] if at < behind]
        answers.append(_read(item, math.exp(sum(made)) if choices else None))
    return answers, False


def _read(item: dict[str, str], probability: float | None) -> Answer:
    evidence = item.get("evidence")
    return Answer(
        block=int(item["line"].removeprefix("L")) - 1,
        action=Advised(item["action"]),
        reason=Reason(item["reason"]),
        reference=item["reference"],
        comment=item["comment"],
        passage=int(evidence.removeprefix("S")) - 1 if evidence else None,
        quote=item.get("quote"),
        probability=probability,
    )
