"""Faults that no table finds: the claim and the chart differ."""

import random

from schemas.receipt import Advised, Reason
from training.receipts.catalog import Catalog, sided, strengths
from training.receipts.clean import add_act
from training.receipts.plans import (
    Allowed,
    Plan,
    new_problem,
    pick,
)
from training.receipts.story import Problem, Service, Story, Supply
from training.receipts.words import act_words, parts


def oral(story: Story) -> list[Supply]:
    return [
        s
        for s in story.claimed_supplies
        if s.form == "oral" and s.said in ("given", "raised", "kept") and s.claimed_days == s.days and s.counted is None
    ]


def other_days(rng: random.Random, days: int) -> int:
    return rng.choice(
        [
            n
            for n in (3, 5, 7, 10, 14, 21, 28, 30, 35, 42, 56, 60, 90)
            if n != days and n <= days * 4 + 4 and days <= n * 4 + 4
        ]
    )


def days_differ(rng: random.Random, story: Story, known: Catalog, allowed: Allowed) -> Plan | None:
    reason = Reason.DAYS_DIFFER
    found = pick(rng, oral(story), allowed, reason)
    if not found:
        return None
    one = found[0]
    assert isinstance(one, Supply)
    alike = [s for s in story.claimed_supplies if s is not one and s.group == one.group and s.visit == one.visit]
    if rng.random() < 0.6 or alike:
        one.days = other_days(rng, one.days)
    else:
        one.claimed_days = other_days(rng, one.days)
    return Plan(reason, Advised.CHANGE_COUNT, [one], None, one)


def stopped(rng: random.Random, story: Story, known: Catalog, allowed: Allowed) -> Plan | None:
    reason = Reason.DRUG_STOPPED
    given = [
        s
        for s in story.claimed_supplies
        if s.said == "given"
        and s.claimed_days == s.days
        and s.counted is None
        and s.form != "injected"
        and not s.strength
        and not s.comment
    ]
    found = pick(rng, given, allowed, reason)
    if not found:
        return None
    one = found[0]
    assert isinstance(one, Supply)
    one.said = rng.choices(("stopped", "planned", "elsewhere"), (78, 12, 10))[0]
    return Plan(reason, Advised.DELETE_LINE, [one], None, one)


def not_done(rng: random.Random, story: Story, known: Catalog, allowed: Allowed) -> Plan | None:
    reason = Reason.ACT_NOT_DONE
    done = [
        s
        for s in story.claimed_services
        if s.said in ("done", "resumed")
        and len(s.visits) == 1
        and len(s.times) == 1
        and act_words(s.row)
        and not s.comment
        and not s.counted
        and not s.row.code.startswith(("170", "113", "112", "111"))
    ]
    found = pick(rng, done, allowed, reason)
    if not found:
        acts = [
            a
            for p in story.claimed_problems
            for a in known.testing(p.row.code)
            if allowed(reason.value, a.code) and not a.code.startswith(("113", "114", "180", "130", "170"))
        ]
        rng.shuffle(acts)
        found = [s for s in [add_act(story, known, act, rng.randrange(len(story.visits))) for act in acts[:1]] if s]
    if not found:
        return None
    one = found[0]
    assert isinstance(one, Service)
    one.said = rng.choices(("postponed", "planned", "elsewhere"), (80, 12, 8))[0]
    return Plan(reason, Advised.DELETE_LINE, [one], None, one)


def denied(rng: random.Random, story: Story, known: Catalog, allowed: Allowed) -> Plan | None:
    one = new_problem(rng, story, known, allowed, Reason.DISEASE_DENIED, "denied", "certain")
    return Plan(Reason.DISEASE_DENIED, Advised.DELETE_LINE, [one], None, one, one.row) if one else None


def as_certain(rng: random.Random, story: Story, known: Catalog, allowed: Allowed) -> Plan | None:
    reason = Reason.SUSPECTED_AS_CERTAIN
    found = pick(
        rng, [p for p in story.problems if p.claimed == "suspected" and p.said == "suspected"], allowed, reason
    )
    one = (
        found[0]
        if found
        else new_problem(
            rng, story, known, allowed, reason, rng.choice(("suspected", "suspected", "workup")), "certain"
        )
    )
    if one is None:
        return None
    assert isinstance(one, Problem)
    one.claimed = "certain"
    return Plan(reason, Advised.CHANGE_CODE, [one], None, one, one.row)


def side_differs(rng: random.Random, story: Story, known: Catalog, allowed: Allowed) -> Plan | None:
    reason = Reason.SIDE_DIFFERS
    found = pick(
        rng,
        [
            p
            for p in story.problems
            if p.claimed == "certain"
            and p.side
            and p.said in ("present", "confirmed", "steady")
            and p.side == p.claimed_side
        ],
        allowed,
        reason,
    )
    one = found[0] if found else new_problem(rng, story, known, allowed, reason, "present", "certain", sided)
    if one is None:
        return None
    assert isinstance(one, Problem)
    one.side = one.side or rng.choice("右左")
    one.claimed_side = rng.choice([side for side in ("右", "左", "右", "左", "両") if side != one.side])
    return Plan(reason, Advised.CHANGE_CODE, [one], None, one, one.row)


def product_differs(rng: random.Random, story: Story, known: Catalog, allowed: Allowed) -> Plan | None:
    reason = Reason.PRODUCT_DIFFERS
    several = {
        s.named.ingredient
        for s in story.supplies
        if sum(o.named.ingredient == s.named.ingredient for o in story.supplies) > 1
    }
    given = [
        s
        for s in story.claimed_supplies
        if s.said in ("given", "kept")
        and s.form in ("oral", "needed")
        and not s.strength
        and s.named.ingredient not in several
        and strengths(s.named, known)
    ]
    found = pick(rng, given, allowed, reason)
    if not found:
        return None
    one = found[0]
    assert isinstance(one, Supply)
    own = parts(one.named.name)
    rows = [
        d
        for d in known.by_ingredient[one.named.ingredient]
        if parts(d.name)[1] == own[1] and parts(d.name)[2] not in ("", own[2])
    ]
    if rows and rng.random() < 0.5:
        one.product, one.strength = rng.choice(rows), own[2]
    else:
        one.strength = rng.choice(list(strengths(one.named, known)))
    return Plan(reason, Advised.CHANGE_CODE, [one], None, one)
