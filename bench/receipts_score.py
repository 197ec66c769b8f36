"""How well lines that need correction were found, and how good the comments are."""

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.generation.segments import fold
from app.receipts.chart import Entry
from schemas.receipt import GENERAL, Advice, Advised, Case
from training.receipts.draw import Planted

DRAWS = 1000


@dataclass(frozen=True)
class Judged:
    """One claim: which of its `lines` need correction (`truth`), and which were said to."""

    lines: frozenset[int]
    truth: frozenset[int]
    said: frozenset[int]


def line_counts(one: Judged) -> tuple[int, int, int, int]:
    """True and false positives, false and true negatives, of lines."""
    hit, wrong, missed = len(one.truth & one.said), len(one.said - one.truth), len(one.truth - one.said)
    return hit, wrong, missed, len(one.lines) - hit - wrong - missed


def claim_counts(one: Judged) -> tuple[int, int, int, int]:
    """The same of the claim as a whole: does anything in it need correction?"""
    return (
        int(bool(one.truth) and bool(one.said)), int(not one.truth and bool(one.said)),
        int(bool(one.truth) and not one.said), int(not one.truth and not one.said),
    )  # fmt: skip


def measures(counts: Sequence[tuple[int, int, int, int]]) -> dict[str, float]:
    hit, wrong, missed, right = (sum(one[n] for one in counts) for n in range(4))
    precision = hit / (hit + wrong) if hit + wrong else 0.0
    recall = hit / (hit + missed) if hit + missed else 0.0
    return {
        "accuracy": (hit + right) / max(1, hit + wrong + missed + right),
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
    }


def with_interval(judged: Sequence[Judged], count: Callable[[Judged], tuple[int, int, int, int]]) -> dict[str, Any]:
    """The measures, and the 95 % interval of F1 by bootstrap over claims."""
    counts = [count(one) for one in judged]
    rng = random.Random(1)
    drawn = sorted(measures(rng.choices(counts, k=len(counts)))["f1"] for _ in range(DRAWS))
    return measures(counts) | {"f1_95": [drawn[int(DRAWS * 0.025)], drawn[int(DRAWS * 0.975) - 1]]}


def difference(first: Sequence[Judged], second: Sequence[Judged]) -> dict[str, float]:
    """F1 of lines, second minus first, both resampled together."""
    pairs = [(line_counts(a), line_counts(b)) for a, b in zip(first, second, strict=True)]
    rng = random.Random(2)
    drawn = []
    for _ in range(DRAWS):
        chosen = rng.choices(pairs, k=len(pairs))
        drawn.append(measures([b for _, b in chosen])["f1"] - measures([a for a, _ in chosen])["f1"])
    drawn.sort()
    whole = measures([b for _, b in pairs])["f1"] - measures([a for a, _ in pairs])["f1"]
    return {"difference": whole, "low": drawn[int(DRAWS * 0.025)], "high": drawn[int(DRAWS * 0.975) - 1]}


# -- comments ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Quality:
    """What a comment must hold, each yes or no; and how like the reference comment it is. `evidence`: None where the fault
    has none in the chart."""

    names_line: bool
    action: bool
    reason: bool
    reference: bool
    evidence: bool | None
    rouge_l: float
    chrf: float

    @property
    def all(self) -> bool:
        return self.names_line and self.action and self.reason and self.reference and self.evidence is not False


def quality(advice: Advice, fault: Planted, line_text: str) -> Quality:
    evidence: bool | None = None
    if fault.evidence is not None:
        note_id, start, end = fault.evidence
        cited = advice.evidence
        evidence = cited is not None and cited.note_id == note_id and cited.span.start < end and start < cited.span.end
    return Quality(
        names_line=names(advice.comment, line_text),
        action=advice.action is fault.action,
        reason=advice.reason is fault.reason,
        reference=advice.reference == fault.reference,
        evidence=evidence,
        rouge_l=rouge_l(advice.comment, fault.comment),
        chrf=chrf(advice.comment, fault.comment),
    )


def names(comment: str, line_text: str) -> bool:
    """Does the comment name what the line is about: four characters of its name in a row, or all of a shorter one?"""
    name = fold(line_text).split(" ", 1)[-1].split(" ")[0]
    run = min(4, len(name))
    text = fold(comment)
    return any(name[at : at + run] in text for at in range(len(name) - run + 1))


def rouge_l(written: str, reference: str) -> float:
    """F1 of the longest common subsequence of characters (Lin 2004; Japanese has no spaces between words)."""
    if not written or not reference:
        return 0.0
    row = [0] * (len(reference) + 1)
    for a in written:
        before = 0
        for at, b in enumerate(reference, 1):
            before, row[at] = row[at], before + 1 if a == b else max(row[at], row[at - 1])
    return 2 * row[-1] / (len(written) + len(reference))


def chrf(written: str, reference: str, longest: int = 6, beta: float = 2.0) -> float:
    """chrF (Popovic 2015): the mean over n-grams of 1 to 6 characters of precision and recall, with recall counting
    twice; spaces are left out."""
    written, reference = written.replace(" ", ""), reference.replace(" ", "")
    precisions, recalls = [], []
    for n in range(1, longest + 1):
        ours = Counter(written[at : at + n] for at in range(len(written) - n + 1))
        theirs = Counter(reference[at : at + n] for at in range(len(reference) - n + 1))
        if not ours or not theirs:
            continue
        common = (ours & theirs).total()
        precisions.append(common / ours.total())
        recalls.append(common / theirs.total())
    precision = math.fsum(precisions) / len(precisions) if precisions else 0.0
    recall = math.fsum(recalls) / len(recalls) if recalls else 0.0
    weighed = beta**2 * precision + recall
    return (1 + beta**2) * precision * recall / weighed if weighed else 0.0


def unsupported(advice: Advice, case: Case, entries: Sequence[Entry]) -> list[str]:
    """What an advice cites that is not there: its line, its rule, its passage. Looked up in the claim and the notes
    themselves, not in what the grammar was made of."""
    block = next((block for block in case.blocks if block.line == advice.line), None)
    if block is None:
        return ["line"]
    wrong = []
    if advice.reference not in GENERAL and advice.reference not in {finding.row for finding in block.findings}:
        wrong.append("rule")
    if advice.evidence is not None:
        span = advice.evidence.span
        text = next((entry.text for entry in entries if entry.note_id == advice.evidence.note_id), "")
        if text[span.start : span.end] != span.quote:
            wrong.append("passage")
    elif advice.reference == "chart":
        wrong.append("nothing cited")
    return wrong


def needing(advice: Sequence[Advice]) -> frozenset[int]:
    return frozenset(one.line for one in advice if one.action is not Advised.NO_CHANGE)


def by_kind(faults: Sequence[tuple[Planted, bool]]) -> Mapping[str, tuple[int, int]]:
    """Reason -> planted, found."""
    planted = Counter(fault.reason.value for fault, _ in faults)
    found = Counter(fault.reason.value for fault, hit in faults if hit)
    return {kind: (planted[kind], found[kind]) for kind in sorted(planted)}
