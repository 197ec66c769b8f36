"""What a planted fault is, and the means to plant one."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from app.receipts.tables import DiseaseRow, Drug
from schemas.receipt import Advised, Reason, Rule
from training.receipts.catalog import Catalog, suits_age
from training.receipts.clean import add_act, free_diseases, icd10_of, problem, supply
from training.receipts.story import Problem, Service, Story, Supply

Part = Problem | Supply | Service


@dataclass
class Plan:
    """`targets`: the parts at whose lines it stands; of a rule those where the rule finds it. `proof`: what the chart says
    about it. `about`: a further disease for the comment. `explained`: nothing is to be done."""

    reason: Reason
    action: Advised
    targets: list[Part]
    rule: Rule | None = None
    proof: object | None = None
    about: DiseaseRow | None = None
    explained: str = ""
    further: dict[str, str] = field(default_factory=dict)


Allowed = Callable[[str, str], bool]
"""May a fault of this reason concern this subject?"""
Plant = Callable[[random.Random, Story, Catalog, Allowed], Plan | None]


def subject_of(part: Part) -> str:
    """A disease's or an act's code, a drug's first seven digits."""
    if isinstance(part, Supply):
        return (part.product or part.named).ingredient
    return part.row.code


def pick(rng: random.Random, parts_: Iterable[Part], allowed: Allowed, reason: Reason) -> list[Part]:
    """The allowed ones, shuffled."""
    found = [part for part in parts_ if allowed(reason.value, subject_of(part))]
    rng.shuffle(found)
    return found


def dependents(story: Story, known: Catalog, one: Problem) -> list[Part]:
    """Lines whose only reason is the problem."""
    others = icd10_of(p for p in story.problems if p is not one)
    certain = icd10_of((p for p in story.problems if p is not one), certain=True)
    lines: list[Part] = [
        s for s in story.claimed_supplies if s.product and not known.fits(s.product.ingredient, certain)
    ]
    return lines + [s for s in story.claimed_services if not known.fits(s.row.code, others)]


def new_problem(
    rng: random.Random, story: Story, known: Catalog, allowed: Allowed, reason: Reason, said: str, claimed: str,
    fit: Callable[[DiseaseRow], bool] = lambda row: True,
) -> Problem | None:  # fmt: skip
    rows = [
        row for row in free_diseases(rng, story, known, 40, common=0.5) if allowed(reason.value, row.code) and fit(row)
    ]
    if not rows:
        return None
    story.problems.append(problem(rng, story, rows[0], said, claimed))
    rng.shuffle(story.problems)
    return story.problems[[p.row for p in story.problems].index(rows[0])]


def main_moves(story: Story, one: Problem) -> None:
    if one.main and story.claimed_problems:
        one.main, story.claimed_problems[0].main = False, True


def with_dependent(
    rng: random.Random, story: Story, known: Catalog, allowed: Allowed, reason: Reason, for_drug: bool
) -> tuple[Problem, Part] | None:
    """A new disease with something that only it is a reason for."""
    before = icd10_of(story.problems)
    age = story.age()
    for row in free_diseases(rng, story, known, 25, common=0.4):
        if for_drug:
            drugs = [
                d
                for d in known.treating(row.code)
                if allowed(reason.value, d.ingredient) and addable(story, known, d, age)
            ]
            drugs = [
                d
                for d in drugs
                if not known.fits(d.ingredient, before)
                and not any(known.clashes(d.ingredient, p.row.icd10) for p in story.problems)
            ]
            if drugs:
                line: Part = give(rng, story, rng.choice(drugs), age)
                story.problems.append(problem(rng, story, row, "present", "certain"))
                return story.problems[-1], line
        else:
            acts = [
                a
                for a in known.testing(row.code)
                if allowed(reason.value, a.code)
                and not known.fits(a.code, before)
                and not a.code.startswith(("113", "114", "180", "130"))
            ]
            rng.shuffle(acts)
            story.problems.append(
                problem(rng, story, row, rng.choice(("present", "confirmed", "suspected")), "certain")
            )
            for act in acts:
                if done := add_act(story, known, act, rng.randrange(len(story.visits))):
                    return story.problems[-1], done
            story.problems.pop()
    return None


def addable(story: Story, known: Catalog, drug: Drug, age: int) -> bool:
    have = {s.named.yj[:4] for s in story.supplies}
    return drug.yj[:4] not in have and suits_age(drug, age) and known.for_person(drug.ingredient, story.female, age)


def give(rng: random.Random, story: Story, drug: Drug, age: int) -> Supply:
    oral = [s for s in story.claimed_supplies if s.form == "oral" and not s.comment]
    like = rng.choice(oral) if oral and rng.random() < 0.6 else None
    made = supply(
        rng,
        drug,
        like.visit if like else rng.randrange(len(story.visits)),
        like.days if like else rng.choice((7, 14, 28, 30)),
        age,
    )
    made.group = (
        like.group
        if like and made.form == "oral" and made.days == like.days and rng.random() < 0.5
        else 1 + max((s.group for s in story.supplies), default=0)
    )
    story.supplies.append(made)
    return made
