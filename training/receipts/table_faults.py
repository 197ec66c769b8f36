"""Faults that a table finds, and findings that look like one and need nothing."""

import random
from dataclasses import replace
from datetime import timedelta

from app.receipts.tables import Act, Drug
from schemas.receipt import Advised, Reason, Rule
from training.receipts.catalog import Catalog, form_of, section, suits_age
from training.receipts.chart_faults import oral, other_days
from training.receipts.clean import add_act, free_diseases, icd10_of, neutral, problem, service
from training.receipts.phrases import WHY_AGAINST, WHY_AGE, WHY_BOTH, WHY_BOTH_FEES, WHY_OVER, WHY_TWICE
from training.receipts.plans import (
    Allowed,
    Part,
    Plan,
    Plant,
    addable,
    dependents,
    give,
    main_moves,
    new_problem,
    pick,
    subject_of,
    with_dependent,
)
from training.receipts.story import Problem, Service, Story, Supply, Weighing
from training.receipts.words import act_words, parts


def missing(for_drug: bool) -> Plant:
    reason = Reason.DISEASE_MISSING_FOR_DRUG if for_drug else Reason.DISEASE_MISSING_FOR_ACT
    kind = Supply if for_drug else Service

    def plant(rng: random.Random, story: Story, known: Catalog, allowed: Allowed) -> Plan | None:
        certain = [p for p in story.problems if p.claimed == "certain"]
        rng.shuffle(certain)
        for one in certain:
            lines = dependents(story, known, one)
            if (
                len(story.claimed_problems) > 1
                and lines
                and all(isinstance(line, kind) and allowed(reason.value, subject_of(line)) for line in lines)
            ):
                one.claimed = "none"
                main_moves(story, one)
                return Plan(reason, Advised.ADD_DISEASE, lines, Rule.INDICATION, one, one.row)
        # Nothing hangs on one disease alone: a new one, of which the claim says nothing.
        made = with_dependent(rng, story, known, allowed, reason, for_drug)
        if made is None:
            return None
        one, line = made
        one.claimed = "none"
        return Plan(reason, Advised.ADD_DISEASE, [line], Rule.INDICATION, one, one.row)

    return plant


def confirmed(rng: random.Random, story: Story, known: Catalog, allowed: Allowed) -> Plan | None:
    reason = Reason.SUSPICION_CONFIRMED
    for one in [p for p in story.problems if p.claimed == "certain"]:
        lines = [line for line in dependents(story, known, one) if isinstance(line, Supply)]
        if lines and all(allowed(reason.value, subject_of(line)) for line in lines):
            break
    else:
        made = with_dependent(rng, story, known, allowed, reason, True)
        if made is None:
            return None
        one, lines = made[0], [made[1]]  # type: ignore[list-item]
    one.said, one.claimed = "confirmed", "suspected"
    one.since = story.visits[0] - timedelta(days=rng.randint(0, 50))
    return Plan(reason, Advised.CHANGE_CODE, list(lines), Rule.SUSPECTED_INDICATION, one, one.row)


def still_open(said: str, reason: Reason, action: Advised, explained: str = "") -> Plant:
    def plant(rng: random.Random, story: Story, known: Catalog, allowed: Allowed) -> Plan | None:
        one = new_problem(rng, story, known, allowed, reason, said, "suspected")
        if one is None:
            return None
        one.since = story.visits[0] - timedelta(days=rng.randint(125, 560))
        if one.since < story.birth:
            return None
        tests = [a for a in known.testing(one.row.code) if not a.code.startswith(("113", "114", "180", "130"))]
        if tests and rng.random() < 0.5:
            add_act(story, known, rng.choice(tests), rng.randrange(len(story.visits)))
        return Plan(reason, action, [one], Rule.SUSPECTED_OPEN, one, one.row, explained)

    return plant


def against(reason: Reason, action: Advised, weighed: bool, commented: bool) -> Plant:
    def plant(rng: random.Random, story: Story, known: Catalog, allowed: Allowed) -> Plan | None:
        age = story.age()
        tables = known.tables
        drugs = [
            d
            for d in known.clinic_drugs
            if d.ingredient in tables.contraindications
            and allowed(reason.value, d.ingredient)
            and addable(story, known, d, age)
        ]
        given = [
            s
            for s in story.claimed_supplies
            if s.named.ingredient in tables.contraindications and allowed(reason.value, s.named.ingredient)
        ]
        if given and rng.random() < 0.5:
            one = rng.choice(given)
        elif drugs:
            drug = rng.choice(drugs)
            if not known.fits(drug.ingredient, icd10_of(story.problems, certain=True)):
                rows = [
                    row
                    for row in free_diseases(rng, story, known, 60, common=0.6)
                    if known.fits(drug.ingredient, [row.icd10]) and not known.clashes(drug.ingredient, row.icd10)
                ]
                if not rows:
                    return None
                story.problems.append(problem(rng, story, rows[0], "present", "certain"))
            one = give(rng, story, drug, age)
        else:
            return None
        clashing = [p for p in story.problems if known.clashes(one.named.ingredient, p.row.icd10)]
        if not clashing:
            taken = {p.row.icd10[:3] for p in story.problems}
            rows = [
                r
                for r in known.diseases
                if known.clashes(one.named.ingredient, r.icd10)
                and r.icd10[:3] not in taken
                and known.disease_suits(r, story.female, age)
            ]
            rows = [
                r
                for r in rows
                if not any(known.clashes(s.named.ingredient, r.icd10) for s in story.supplies if s is not one)
            ]
            if not rows:
                return None
            story.problems.append(problem(rng, story, rng.choice(rows), "present", "certain"))
            clashing = [story.problems[-1]]
        if any(p.claimed != "certain" or p.said not in ("present", "steady", "confirmed") for p in clashing):
            return None
        proof: object = clashing[0]
        if weighed:
            story.weighings.append(Weighing(clashing[0], one))
            proof = story.weighings[-1]
        if commented:
            one.comment = rng.choice(WHY_AGAINST)
        elif rng.random() < 0.15:
            one.comment = neutral(rng)
        if one.comment:
            one.group = 1 + max(s.group for s in story.supplies)
        return Plan(
            reason, action, [one], Rule.CONTRAINDICATION, proof, clashing[0].row, one.comment if commented else ""
        )

    return plant


def exclude(commented: bool) -> Plant:
    reason = Reason.JUSTIFIED if commented else Reason.ACTS_EXCLUDE_EACH_OTHER

    def plant(rng: random.Random, story: Story, known: Catalog, allowed: Allowed) -> Plan | None:
        have = {s.row.code: s for s in story.claimed_services}
        certain = icd10_of(story.problems)
        acts = known.tables.acts
        pairs = []
        for rows in known.tables.duplicates.values():
            for row in rows:
                both = [row.a, row.b]
                if any(
                    code not in acts
                    or acts[code].code.startswith(("111", "114", "1130036", "1130035", "1300044", "14000931"))
                    for code in both
                ):
                    continue
                if all(
                    known.fits(c, certain)
                    and known.for_person(c, story.female, story.age())
                    and allowed(reason.value, c)
                    for c in both
                ):
                    pairs += [both] * (12 if any(c in have for c in both) else 1)
        if not pairs:
            return None
        both = rng.choice(pairs)
        lines: list[Part] = []
        visit = next((have[c].visits[0] for c in both if c in have), rng.randrange(len(story.visits)))
        others = [code for code in have if code not in both]
        if any(known.excludes(code, others) for code in both if code not in have):
            return None
        for code in both:
            if code in have:
                have[code].times.setdefault(visit, 1)
                lines.append(have[code])
            else:
                made = service(acts[code], visit)
                made.said = (
                    "done"
                    if act_words(acts[code])
                    and not code.startswith(("112", "113", "120"))
                    and (commented or rng.random() < 0.5)
                    else "unsaid"
                )
                story.services.append(made)
                lines.append(made)
        tests = all(line.section == "60" for line in lines if isinstance(line, Service))
        text = rng.choice(WHY_BOTH if tests else WHY_BOTH_FEES) if commented else ""
        for line in lines:
            assert isinstance(line, Service)
            if commented:
                line.comment = text
            elif rng.random() < 0.1:
                line.comment = neutral(rng)
        action = Advised.NO_CHANGE if commented else Advised.DELETE_LINE
        return Plan(reason, action, lines, Rule.DUPLICATE, None, None, text)

    return plant


def twice(commented: bool) -> Plant:
    reason = Reason.JUSTIFIED if commented else Reason.DRUG_TWICE

    def plant(rng: random.Random, story: Story, known: Catalog, allowed: Allowed) -> Plan | None:
        given = [s for s in story.claimed_supplies if s.form == "oral" and s.said in ("given", "kept", "raised")]
        if not given:
            certain = [
                d
                for p in story.problems
                if p.claimed == "certain"
                for d in known.treating(p.row.code)
                if form_of(d) == "oral" and addable(story, known, d, story.age())
            ]
            if certain:
                given = [s for s in [give(rng, story, rng.choice(certain), story.age())] if s.form == "oral"]
        found = pick(rng, given, allowed, reason)
        for one in found:
            assert isinstance(one, Supply) and one.product is not None
            same = [
                d
                for d in known.by_ingredient[one.product.ingredient]
                if parts(d.name)[1] == parts(one.product.name)[1] and suits_age(d, story.age())
            ]
            others = [d for d in same if parts(d.name)[2] != parts(one.product.name)[2]]
            if commented and not others:
                continue
            product = rng.choice(others) if commented else rng.choice(same) if rng.random() < 0.4 else one.product
            again = replace(
                one,
                product=product,
                named=product,
                said="given" if commented else "unsaid",
                group=1 + max(s.group for s in story.supplies),
            )
            if commented:
                for part in (one, again):
                    part.strength = parts(part.product.name)[2] if part.product else ""
                again.comment = rng.choice(WHY_TWICE)
            elif rng.random() < 0.15:
                again.comment = neutral(rng)
            at = rng.randrange(len(story.supplies) + 1)
            story.supplies.insert(at, again)
            for n, s in enumerate(story.supplies):
                if s is not again and s is not one and s.group == one.group and s.visit == one.visit:
                    s.group = 100 + n
            action = Advised.NO_CHANGE if commented else Advised.DELETE_LINE
            return Plan(reason, action, [one, again], Rule.DUPLICATE, one, None, again.comment if commented else "")
        return None

    return plant


def over(commented: bool) -> Plant:
    reason = Reason.JUSTIFIED if commented else Reason.OVER_LIMIT

    def plant(rng: random.Random, story: Story, known: Catalog, allowed: Allowed) -> Plan | None:
        if commented and len(story.visits) < 2:
            return None
        there = [
            s
            for s in story.claimed_services
            if known.most(s.row.code) == 1 and len(s.visits) == 1 and s.said in ("done", "unsaid")
        ]
        found: list[Part] = pick(rng, there, allowed, reason)
        if commented:
            found = [s for s in found if isinstance(s, Service) and s.said == "done" and s.section == "60"]
        if not found:
            certain = icd10_of(story.problems)
            acts = [
                a
                for a in known.named_acts
                if known.most(a.code) == 1
                and allowed(reason.value, a.code)
                and a.code[:3] in ("113", "160")
                and a.code in known.tables.indications
                and known.fits(a.code, certain)
            ]
            rng.shuffle(acts)
            found = [s for s in [add_act(story, known, act, rng.randrange(len(story.visits))) for act in acts[:1]] if s]
        for one in found:
            assert isinstance(one, Service)
            if len(story.visits) > 1 and (commented or rng.random() < 0.7):
                one.times = {0: 1, 1: 1}
            else:
                one.times = {one.visits[0]: 2}
            if commented:
                one.visits, one.said, one.comment = (0, 1), "repeated", rng.choice(WHY_OVER)
            elif rng.random() < 0.15:
                one.comment = neutral(rng)
            action = Advised.NO_CHANGE if commented else Advised.CHANGE_COUNT
            return Plan(
                reason,
                action,
                [one],
                Rule.LIMIT,
                one if one.said != "unsaid" else None,
                None,
                one.comment if commented else "",
            )
        return None

    return plant


def age(commented: bool) -> Plant:
    reason = Reason.JUSTIFIED if commented else Reason.AGE

    def plant(rng: random.Random, story: Story, known: Catalog, allowed: Allowed) -> Plan | None:
        age, female = story.age(), story.female
        certain = icd10_of(story.problems, certain=True)
        have = {s.row.code for s in story.services}
        acts: list[Act] = []
        drugs: list[Drug] = []
        for code, row in known.tables.people.items():
            wrong = (row.min_age is not None and age < row.min_age) or (
                row.max_age is not None and age > row.max_age + 1
            )
            if (
                not wrong
                or (row.sex and (row.sex == "female") != female)
                or not allowed(reason.value, code)
                or not known.fits(code, certain)
            ):
                continue
            if (
                row.kind == "act"
                and code not in have
                and not known.excludes(code, have)
                and not code.startswith(("1110", "11300", "180028", "1703", "114"))
            ):
                acts.append(known.tables.acts[code])
            elif row.kind == "drug":
                drugs += [d for d in known.by_ingredient.get(code, []) if d in known.clinic_drugs]
        if drugs and (commented or rng.random() < 0.6):
            given = give(rng, story, rng.choice(drugs), age)
            if commented:
                given.comment = rng.choice(WHY_AGE)
                given.group = 1 + max(s.group for s in story.supplies)
            one: Supply | Service = given
        elif acts and not commented:
            act = rng.choice(acts)
            one = Service(act, "unsaid", (0,), {0: 1}, section(act))
            story.services.append(one)
        else:
            return None
        action = Advised.NO_CHANGE if commented else Advised.DELETE_LINE
        return Plan(
            reason,
            action,
            [one],
            Rule.AGE,
            one if isinstance(one, Supply) else None,
            None,
            one.comment if commented else "",
        )

    return plant


def sex(rng: random.Random, story: Story, known: Catalog, allowed: Allowed) -> Plan | None:
    reason, age = Reason.SEX, story.age()
    wrong = "male" if story.female else "female"
    if age < 20:
        return None
    have = {s.row.code for s in story.services}
    if rng.random() < 0.45:
        certain = icd10_of(story.problems)
        acts = [
            known.tables.acts[code] for code, row in known.tables.people.items()
            if row.kind == "act" and row.sex == wrong and allowed(reason.value, code) and known.fits(code, certain) and code not in have and row.min_age is None
        ]  # fmt: skip
        acts = [act for act in acts if not act.code.startswith(("1600729", "1600732", "1600733"))]
        if not acts:
            return None
        one = service(rng.choice(acts), rng.randrange(len(story.visits)), "unsaid")
        story.services.append(one)
        return Plan(reason, Advised.CONFIRM, [one], Rule.SEX)
    taken = {p.row.icd10[:3] for p in story.problems}
    rows = [
        r
        for r in known.diseases
        if not known.disease_suits(r, story.female, age)
        and known.disease_suits(r, not story.female, age)
        and r.icd10[:3] not in taken
        and allowed(reason.value, r.code)
    ]
    if not rows:
        return None
    new = problem(rng, story, rng.choice(rows), "present", "certain")
    story.problems.append(new)
    targets: list[Part] = [new]
    drugs = [
        d
        for d in known.treating(new.row.code)
        if suits_age(d, age) and d.yj[:4] not in {s.named.yj[:4] for s in story.supplies}
    ]
    if drugs and rng.random() < 0.6:
        targets.append(give(rng, story, rng.choice(drugs), age))
    return Plan(reason, Advised.CONFIRM, targets, Rule.SEX, new, new.row)


def uncoded(rng: random.Random, story: Story, known: Catalog, allowed: Allowed) -> Plan | None:
    reason = Reason.NAME_UNCODED
    free = [
        p
        for p in story.problems
        if p.claimed == "certain" and p.said in ("present", "steady", "confirmed") and not dependents(story, known, p)
    ]
    found = pick(rng, free, allowed, reason)
    one = found[0] if found else new_problem(rng, story, known, allowed, reason, "present", "certain")
    if one is None:
        return None
    assert isinstance(one, Problem)
    one.claimed = "uncoded"
    return Plan(reason, Advised.CHANGE_CODE, [one], Rule.UNCODED_NAME, one, one.row)


def count(rng: random.Random, story: Story, known: Catalog, allowed: Allowed) -> Plan | None:
    reason = Reason.COUNT_WRONG
    found = pick(
        rng,
        [
            *oral(story),
            *(
                s
                for s in story.claimed_services
                if s.said == "done" and len(s.visits) == 1 and not known.tables.limits.get(s.row.code)
            ),
        ],
        allowed,
        reason,
    )
    for one in found:
        if isinstance(one, Supply):
            other = other_days(rng, one.days)
            if rng.random() < 0.6:
                one.claimed_days, one.counted = other, one.days
            else:
                one.counted = other
        elif isinstance(one, Service):
            one.counted = sum(one.times.values()) + rng.choice((1, 1, 2))
        return Plan(reason, Advised.CHANGE_COUNT, [one], Rule.COUNT, one)
    return None
