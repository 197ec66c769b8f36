"""What a chart also says and a claim rightly does not: old and denied diseases, drugs of others, acts put off.

They are said in the same frames as the faults, and beside lines of the claim as well: a drug that was not stopped after
all, an act that was put off and is done now, another dose from the next month on.
"""

import random
from collections.abc import Callable
from datetime import timedelta

from training.receipts.catalog import Catalog, strengths, suits_age
from training.receipts.clean import add_act, free_diseases, problem, service, suitable_drug, supply
from training.receipts.story import Problem, Story
from training.receipts.words import act_words

Aside = Callable[[random.Random, Story, Catalog], object]


def _disease(said: str, claimed: str = "none") -> Aside:
    def add(rng: random.Random, story: Story, known: Catalog) -> Problem | None:
        rows = free_diseases(rng, story, known, 1)
        if not rows:
            return None
        story.problems.append(problem(rng, story, rows[0], said, claimed))
        return story.problems[-1]

    return add


def _drug(said: str) -> Aside:
    def add(rng: random.Random, story: Story, known: Catalog) -> None:
        age = story.age()
        have = {one.named.yj[:4] for one in story.supplies}
        fitting = [one for one in story.problems if one.said in ("present", "steady")]
        drug = suitable_drug(rng, story, known, rng.choice(fitting)) if fitting and rng.random() < 0.6 else None
        if drug is None:
            drug = rng.choice(known.clinic_drugs)
            if (
                drug.yj[:4] in have
                or not suits_age(drug, age)
                or not known.for_person(drug.ingredient, story.female, age)
            ):
                return
        made = supply(rng, drug, rng.randrange(len(story.visits)), 14, age)
        made.product, made.said = None, said
        story.supplies.append(made)

    return add


def _act(said: str) -> Aside:
    def add(rng: random.Random, story: Story, known: Catalog) -> None:
        have = {one.row.code for one in story.services}
        fitting = [act for one in story.problems for act in known.testing(one.row.code)]
        act = rng.choice(fitting) if fitting and rng.random() < 0.7 else rng.choice(known.named_acts)
        if act.code in have or act.code.startswith(
            (
                "111",
                "112",
                "113",
                "120",
                "1600617",
                "160061",
                "1600620",
                "1600621",
                "1600622",
                "160095710",
                "160095970",
                "130",
            )
        ):
            return
        if not known.for_person(act.code, story.female, story.age()):
            return
        made = service(act, rng.randrange(len(story.visits)), said, claimed=False)
        story.services.append(made)

    return add


def _changed(said: str) -> Aside:
    def change(rng: random.Random, story: Story, known: Catalog) -> None:
        given = [one for one in story.claimed_supplies if one.said == "given" and one.form == "oral"]
        if said == "raised":
            given = [one for one in given if strengths(one.named, known)]
        if given:
            rng.choice(given).said = said

    return change


def _resumed(rng: random.Random, story: Story, known: Catalog) -> None:
    done = [one for one in story.claimed_services if one.said == "done" and len(one.visits) == 1 and act_words(one.row)]
    if done:
        rng.choice(done).said = "resumed"


def _steady(rng: random.Random, story: Story, known: Catalog) -> None:
    there = [one for one in story.claimed_problems if one.said == "present"]
    if there:
        rng.choice(there).said = "steady"


def _again(rng: random.Random, story: Story, known: Catalog) -> None:
    """Done at both visits, and nothing limits it."""
    done = [
        one
        for one in story.claimed_services
        if one.said == "done" and act_words(one.row) and one.row.code not in known.tables.limits
    ]
    if done and len(story.visits) > 1:
        one = rng.choice(done)
        one.visits, one.times, one.said = (0, 1), {0: 1, 1: 1}, "repeated"


def _ruled_out_now(rng: random.Random, story: Story, known: Catalog) -> None:
    """疑い of this month, examined and denied in it: as it should be claimed."""
    one = _disease("denied", "suspected")(rng, story, known)
    if isinstance(one, Problem):
        one.since = story.visits[0] - timedelta(days=rng.randint(0, story.visits[0].day - 1))
        tests = [act for act in known.testing(one.row.code) if not act.code.startswith(("113", "114", "180"))]
        if tests:
            add_act(story, known, rng.choice(tests), 0)


ASIDES: tuple[tuple[float, Aside], ...] = (
    (2, _disease("past")), (2, _disease("family")), (3, _disease("denied")), (1.5, _ruled_out_now), (1, _disease("present")), (3, _steady),
    (2, _drug("stopped")), (1.5, _drug("elsewhere")), (1.5, _drug("planned")), (1, _drug("past")), (2, _changed("raised")), (4, _changed("kept")),
    (2, _act("postponed")), (1.5, _act("elsewhere")), (1.5, _act("planned")), (1, _act("past")), (3, _resumed), (1, _again),
)  # fmt: skip


def add_asides(rng: random.Random, story: Story, known: Catalog) -> None:
    weights = [weight for weight, _ in ASIDES]
    for _, add in rng.choices(ASIDES, weights, k=rng.choice((0, 1, 2, 2, 3, 4, 5))):
        add(rng, story, known)
