"""Draws synthetic receipts with their charts and what is to be advised: `draw(seed, part, number, count)`.

Parts. A combination is a reason with the subject of its line (`days_differ:2171022`): the code of a disease or an act, the
first seven digits of a drug's YJ code; findings that need nothing count as the reason `justified`. A quarter of all
combinations is reserved by hash (`reserved`), and of every list of the chart's phrases the last fifth (`phrases.frames`).

- `train`: no combination of a receipt is reserved, and no reserved phrase is used. About 6 % of the statements of the notes
  are missing, as if the reader had overlooked them. What only the chart shows is planted three times as often as the rest,
  and every fault can be seen in the case that is made of it.
- `held-out`: every receipt with a fault has at least one fault whose combination is reserved; half of the phrases drawn are
  reserved ones. No statement is missing, and nothing is left out for being hard to see.

Thus no fault by which a model is measured was seen with that drug, act or disease in training. The subjects themselves were,
with other reasons and without fault.
"""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

from app.receipts.chart import Entry, case
from app.receipts.check import check
from app.receipts.tables import Tables
from app.receipts.uke import Claim
from schemas.receipt import Advised, Finding, Reason
from training.receipts.asides import add_asides
from training.receipts.catalog import catalog
from training.receipts.chart import Chart, write_chart
from training.receipts.claim import write_claim
from training.receipts.clean import draw_story
from training.receipts.faults import FAULTS, JUSTIFIED
from training.receipts.plans import Allowed, Part, Plan, Plant, subject_of
from training.receipts.remarks import remark
from training.receipts.story import Problem, Service, Story, Supply, Weighing

Kind = Literal["train", "held-out"]
OVERLOOKED = 0.06
_FAULTS = ((0, 1, 2, 3), (30, 38, 22, 10))
_DECOYS = ((0, 1, 2), (38, 38, 24))
_CHART_KINDS = (
    Reason.DAYS_DIFFER, Reason.DRUG_STOPPED, Reason.ACT_NOT_DONE, Reason.DISEASE_DENIED, Reason.SUSPECTED_AS_CERTAIN,
    Reason.SIDE_DIFFERS, Reason.PRODUCT_DIFFERS,
)  # fmt: skip
_CHART_WEIGHT = 3.0
_LONGEST_CLAIM = 34
_TRIES = 1200


@dataclass(frozen=True)
class Planted:
    """What is to be advised at a line. `reference`: the row of the finding that the check gives there, or `chart`.
    `evidence`: note, start and end of the clause of the chart that supports it."""

    line: int
    action: Advised
    reason: Reason
    reference: str
    evidence: tuple[str, int, int] | None
    comment: str


@dataclass(frozen=True)
class Synthetic:
    """`faults`: in line order; those with `no_change` stand at findings that need nothing, every line without one needs nothing
    either. `combination`: of each of them."""

    claim: Claim
    entries: tuple[Entry, ...]
    faults: tuple[Planted, ...]
    combination: tuple[str, ...]


@cache
def reserved(combination: str) -> bool:
    """Is it kept for the held-out part? One in four is."""
    return hashlib.sha256(combination.encode()).digest()[0] % 4 == 0


def draw(seed: int, part: Kind, number: int, count: int) -> list[Synthetic]:
    """`count` receipts of the block `number`: the same for the same arguments."""
    rng = random.Random(f"receipts {seed} {part} {number}")
    return [_one(rng, part == "held-out") for _ in range(count)]


def _one(rng: random.Random, held_out: bool) -> Synthetic:
    faults = rng.choices(*_FAULTS)[0]
    decoys = rng.choices(*_DECOYS)[0]
    for n in range(_TRIES):
        # The kinds stay for a few stories, so that rare ones are as frequent as those that fit everybody.
        if n % 60 == 0:
            kinds = _kinds(rng, faults, held_out)
            spared = rng.sample(JUSTIFIED, decoys)
        if made := _try(rng, kinds, spared, held_out):
            return made
    raise RuntimeError("no receipt fits the tables")


def _kinds(rng: random.Random, count: int, held_out: bool) -> list[Reason]:
    """All alike where it is measured; for training those that only the chart shows more often, since they are harder."""
    if held_out:
        return rng.sample(list(FAULTS), count)
    left, kinds = dict.fromkeys(FAULTS, 1.0) | dict.fromkeys(_CHART_KINDS, _CHART_WEIGHT), []
    for _ in range(count):
        kinds += rng.choices(list(left), list(left.values()))
        del left[kinds[-1]]
    return kinds


def _try(rng: random.Random, kinds: list[Reason], spared: list[Plant], held_out: bool) -> Synthetic | None:
    known = catalog()
    story = draw_story(rng)
    steps = [*(FAULTS[kind] for kind in kinds), *spared]
    plans: list[Plan] = []
    for n, plant in enumerate(steps):
        plan = plant(rng, story, known, _allowed(held_out, first=n == 0 and bool(kinds)))
        if plan is None or any(
            one is other for one in _touched(plan) for before in plans for other in _touched(before)
        ):
            return None
        plans.append(plan)
    add_asides(rng, story, known)
    if (
        len(story.claimed_problems) + len(story.claimed_supplies) + len(story.claimed_services) > _LONGEST_CLAIM
        or not story.claimed_problems
    ):
        return None
    if not any(problem.main for problem in story.claimed_problems):
        story.claimed_problems[0].main = rng.random() < 0.8
    claim = write_claim(rng, story)
    findings = check(claim, Tables.starter())
    found = _placed(story, plans, findings)
    if found is None:
        return None
    combination = tuple(f"{plan.reason.value}:{subject_of(one)}" for plan, one, _ in found)
    if (
        held_out
        and kinds
        and not any(
            reserved(one)
            for one, (plan, _, _) in zip(combination, found, strict=True)
            if plan.action is not Advised.NO_CHANGE
        )
    ):
        return None
    if not held_out and any(map(reserved, combination)):
        return None
    chart = write_chart(rng, story, held_out, 0 if held_out else OVERLOOKED)
    planted = [_planted(rng, plan, one, finding, chart) for plan, one, finding in found]
    if any(one is None for one in planted):
        return None
    made = Synthetic(claim, chart.entries, tuple(one for one in planted if one), combination)
    return None if not held_out and _hidden(made, findings) else made


def _hidden(made: Synthetic, findings: list[Finding]) -> bool:
    """Is there a fault that only the chart shows, and the case does not show that place of the chart beside its line? In
    training nothing is asked for that cannot be seen; in the held-out part it is."""
    wanted = {fault.line: fault.evidence for fault in made.faults if fault.reference == "chart" and fault.evidence}
    if not wanted:
        return False
    for block in case(made.claim, findings, Tables.starter(), made.entries).blocks:
        if evidence := wanted.get(block.line):
            note, start, end = evidence
            if not any(one.note_id == note and one.start < end and start < one.end for one in block.passages):
                return True
    return False


def _touched(plan: Plan) -> list[object]:
    """Parts of the story that no other plan may change."""
    proof = plan.proof
    return [
        *plan.targets,
        *([proof.problem, proof.supply] if isinstance(proof, Weighing) else [proof] if proof else []),
    ]


def _allowed(held_out: bool, first: bool) -> Allowed:
    if not held_out:
        return lambda reason, subject: not reserved(f"{reason}:{subject}")
    return lambda reason, subject: not first or reserved(f"{reason}:{subject}")


def _placed(story: Story, plans: list[Plan], findings: list[Finding]) -> list[tuple[Plan, Part, Finding | None]] | None:
    """Each line with what is planted at it, in line order; None if a finding was not meant, or one that was is not there."""
    at: dict[int, Part] = {one.line: one for one in _parts(story)}
    placed: dict[int, tuple[Plan, Part, Finding | None]] = {}
    met: set[int] = set()
    for finding in findings:
        for n, plan in enumerate(plans):
            if (
                plan.rule is finding.rule
                and any(one.line == finding.line for one in plan.targets)
                and finding.line not in placed
            ):
                placed[finding.line] = (plan, at[finding.line], finding)
                met.add(n)
                break
        else:
            return None
    for n, plan in enumerate(plans):
        if plan.rule is None:
            if plan.targets[0].line in placed or plan.targets[0].line not in at:
                return None
            placed[plan.targets[0].line] = (plan, plan.targets[0], None)
        elif n not in met:
            return None
    return [placed[line] for line in sorted(placed)]


def _parts(story: Story) -> Iterator[Problem | Supply | Service]:
    yield from story.claimed_problems
    yield from story.claimed_supplies
    yield from story.claimed_services


def _planted(rng: random.Random, plan: Plan, one: Part, finding: Finding | None, chart: Chart) -> Planted | None:
    evidence = chart.proof.get(id(plan.proof)) if plan.proof is not None else None
    if evidence is None and finding is None:
        return None
    return Planted(
        one.line, plan.action, plan.reason, finding.row if finding else "chart", evidence, remark(rng, plan, one)
    )
