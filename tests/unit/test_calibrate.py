"""Fitting a calibration: the regressions, the thresholds, and what counts as right."""

import math
import random
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.confidence import stepped
from schemas.record import Quantity, Record
from schemas.statement import AllergyCategory, Assertion, EvidenceSpan, Field, Kind, Statement
from training.calibrate import Expected, expected_of_gold, judge, synthetic_notes
from training.probability import (
    Case,
    Fact,
    accept_threshold,
    cross_fitted,
    figures,
    fit,
    hold_threshold,
    isotonic,
    logistic,
    upper_bound,
)

# -- regressions --------------------------------------------------------------------------------------------------


def test_the_logistic_regression_finds_the_law_that_made_the_data() -> None:
    chance = np.random.default_rng(1)
    known = chance.normal(size=(20_000, 3)) * [1, 5, 0]  # the last one never changes
    odds = -0.5 + known @ [2.0, -0.3, 0]
    right = (chance.random(20_000) < 1 / (1 + np.exp(-odds))).astype(float)
    intercept, weights = logistic(known, right, np.ones(20_000))
    assert intercept == pytest.approx(-0.5, abs=0.1)
    assert weights == pytest.approx([2.0, -0.3, 0.0], abs=0.1) and weights[2] == 0


def test_data_without_a_doubt_give_no_certainty() -> None:
    at = np.linspace(-1, 1, 50)
    intercept, weights = logistic(at[:, None], (at > 0).astype(float), np.ones(50))
    probable = 1 / (1 + np.exp(-(intercept + weights[0] * at)))
    assert 0.001 < probable[0] < 0.2 and 0.8 < probable[-1] < 0.999


def test_a_weight_counts_like_repetition() -> None:
    known, right = np.array([[0.0], [1.0], [0.0], [1.0], [1.0]]), np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    twice = logistic(np.vstack([known, known]), np.tile(right, 2), np.ones(10))
    heavy = logistic(known, right, np.full(5, 2.0))
    assert heavy[0] == pytest.approx(twice[0]) and heavy[1] == pytest.approx(twice[1])


CASES = st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.floats(0.1, 3)), min_size=1, max_size=60)


@given(CASES)
def test_isotonic_steps_rise_within_0_and_1(cases: list[tuple[float, bool, float]]) -> None:
    at, right, weight = (np.array(column, dtype=float) for column in zip(*cases, strict=True))
    steps = isotonic(at, right, weight)
    assert steps
    for (x, y), (other, above) in pairwise(steps):
        assert x < other and y <= above
    assert all(0 <= x <= 1 and 0 <= y <= 1 for x, y in steps)
    grid = [stepped(steps, x) for x in np.linspace(0, 1, 30)]
    assert grid == sorted(grid)


def test_isotonic_regression_pools_what_violates_the_order() -> None:
    at, right = np.repeat([0.1, 0.3, 0.5, 0.9], 1000), np.repeat([0.0, 1.0, 0.0, 1.0], 1000)
    steps = isotonic(at, right, np.ones(4000))
    assert [x for x, _ in steps] == [0.1, 0.4, 0.9]
    assert [y for _, y in steps] == pytest.approx([0, 0.5, 1], abs=0.001)


# -- thresholds ---------------------------------------------------------------------------------------------------


def test_the_hold_threshold_gives_the_best_f1() -> None:
    probable = np.array([0.1, 0.2, 0.3, 0.4, 0.7, 0.9])
    right = np.array([0.0, 0.0, 1.0, 0.0, 1.0, 1.0])
    # Without the two lowest: 3 of 4 right, all 3 found. Without four: 2 of 2, and 1 lost.
    assert hold_threshold(probable, right, np.ones(6), wanted=3) == 0.3
    # All are right: nothing is gained by holding.
    assert hold_threshold(probable, np.ones(6), np.ones(6), wanted=6) == 0.0
    # All are wrong, also those that look right: 0.5 is the end.
    assert hold_threshold(probable + 0.3, np.zeros(6), np.ones(6), wanted=6) <= 0.5


@given(
    st.lists(st.tuples(st.floats(0, 1).map(lambda p: round(p, 2)), st.booleans()), min_size=1, max_size=30),
    st.integers(0, 10),
)
def test_no_threshold_below_a_half_is_better(cases: list[tuple[float, bool]], missed: int) -> None:
    probable, right = (np.array(column, dtype=float) for column in zip(*cases, strict=True))
    wanted = right.sum() + missed

    def f1(threshold: float) -> float:
        kept = probable >= threshold
        return 2 * right[kept].sum() / (kept.sum() + wanted) if kept.sum() + wanted else 1.0

    chosen = hold_threshold(probable, right, np.ones(len(cases)), float(wanted))
    assert 0 <= chosen <= 0.5
    assert f1(chosen) >= max(f1(t) for t in np.linspace(0, 0.5, 51)) - 1e-9


def test_the_bound_is_wilsons() -> None:
    # Newcombe 1998, table I: 81 of 263 and 0 of 20.
    assert upper_bound(81, 263) == pytest.approx(0.3662, abs=0.0001)
    assert upper_bound(0, 20) == pytest.approx(0.1611, abs=0.0001)
    assert upper_bound(0, 0) == 1.0 and upper_bound(7, 7) == pytest.approx(1.0)


def test_what_is_accepted_stays_below_the_error_rate() -> None:
    probable = np.concatenate([np.linspace(0.9, 1, 1000), np.linspace(0.1, 0.6, 200)])
    right = np.concatenate([np.ones(1000), np.zeros(200)])
    chosen = accept_threshold(probable, right, 0.02)
    assert chosen is not None and 0.55 < chosen <= 0.9
    passed = probable >= chosen
    assert upper_bound(int((1 - right[passed]).sum()), int(passed.sum())) <= 0.02
    # 187 right ones prove no error rate of 2 %, 189 do.
    assert accept_threshold(np.linspace(0.5, 1, 187), np.ones(187), 0.02) is None
    assert accept_threshold(np.linspace(0.5, 1, 189), np.ones(189), 0.02) == 0.5


def test_equal_probabilities_pass_together_or_not_at_all() -> None:
    probable = np.concatenate([np.full(300, 0.99), np.full(100, 0.8)])
    right = np.concatenate([np.ones(300), np.ones(50), np.zeros(50)])
    assert accept_threshold(probable, right, 0.02) == 0.99


# -- the whole ----------------------------------------------------------------------------------------------------


def made_up(count: int, seed: int = 3) -> tuple[list[Case], list[Fact]]:
    """Conditions whose confidence says twice the odds that they have, ten to a note, and one fact in each note missed."""
    chance = random.Random(seed)
    cases, facts = [], []
    for note in range(count):
        here = []
        for _ in range(10):
            odds = chance.gauss(1, 3)
            right = chance.random() < 1 / (1 + math.exp(-odds))
            here.append(Case(note, Kind.CONDITION, {"log_odds": 2 * odds, "coded": 1.0}, right))
        cases += here
        facts += [Fact(note, Kind.CONDITION)] * (sum(case.right for case in here) + 1)
    return cases, facts


def test_a_fit_turns_overconfidence_into_probabilities() -> None:
    cases, facts = made_up(300)
    kinds = fit(cases, facts, error_rate=0.02)
    assert list(kinds) == [Kind.CONDITION]
    fitted = kinds[Kind.CONDITION]
    for odds in (-2, 0, 1, 3):
        assert fitted.probability({"log_odds": 2 * odds, "coded": 1.0}) == pytest.approx(
            1 / (1 + math.exp(-odds)), abs=0.05
        )
    assert 0.2 < fitted.hold <= 0.5
    assert fitted.auto_accept is not None and fitted.auto_accept > 0.9
    assert fit(cases[:30], facts, error_rate=0.02) == {}


def test_allergies_have_no_hold_threshold() -> None:
    cases, facts = made_up(300)
    allergies = [replace(case, kind=Kind.ALLERGY) for case in cases]
    fitted = fit(allergies, [replace(fact, kind=Kind.ALLERGY) for fact in facts], error_rate=0.02)
    assert fitted[Kind.ALLERGY].hold == 0 < fit(cases, facts, error_rate=0.02)[Kind.CONDITION].hold
    assert not any(one.held for one in cross_fitted(allergies, facts, error_rate=0.02))


def test_notes_that_no_person_wrote_prove_no_error_rate() -> None:
    cases, facts = made_up(300)
    synthetic = [replace(case, written=False) for case in cases]
    [fitted] = fit(synthetic, facts, error_rate=0.02).values()
    assert fitted.auto_accept is None and fitted.hold > 0


def test_each_half_is_judged_by_the_other() -> None:
    cases, facts = made_up(300)
    judged = cross_fitted(cases, facts, error_rate=0.02)
    assert sorted(map(id, cases)) == sorted(id(one.case) for one in judged)
    found = figures(judged, len(facts))
    assert found["ece"] < 0.03 and found["f1_held"] > found["f1"]
    assert sum(row["count"] for row in found["bins"]) == found["statements"] == 3000
    errors = [row["error"] for row in found["coverage"]]
    assert errors[0] < errors[-1] == pytest.approx(1 - found["right"] / 3000)
    assert found["accepted"] and found["accepted_error"] < 0.04
    # What a half says of itself plays no part: with other answers in one half only the other half's judgement changes.
    turned = [replace(case, right=not case.right) if case.note % 2 else case for case in cases]
    again = cross_fitted(turned, facts, error_rate=0.02)
    for before, after in zip(judged, again, strict=True):
        assert (before.probability == after.probability) == bool(before.case.note % 2)


# -- right or wrong -----------------------------------------------------------------------------------------------

TEXT = "HT、２型糖尿病。父が胃癌。CRP 0.1 0.3。エビで蕁麻疹"


def say(kind: Kind, name: str, assertion: Assertion = Assertion.PRESENT, value: str | None = None) -> Record:
    start = TEXT.index(name)
    fields = {Field.NAME: EvidenceSpan(start=start, end=start + len(name), quote=name)}
    if value:
        at = TEXT.index(value)
        fields[Field.VALUE] = EvidenceSpan(start=at, end=at + len(value), quote=value)
    category = AllergyCategory.FOOD if kind is Kind.ALLERGY else None
    statement = Statement(kind=kind, fields=fields, assertion=assertion, category=category)
    return Record(statement=statement, display=name, quantity=Quantity(value=value) if value else None)


def gold(item: str, quote: str, **fields: str) -> Expected:
    return expected_of_gold({"item": item, "quote": quote, "start": TEXT.index(quote), **fields})


def test_right_is_the_same_place_kind_assertion_and_name() -> None:
    facts = [
        gold("condition", "HT", name="高血圧症", assertion="present"),
        gold("condition", "２型糖尿病", name="2型糖尿病", assertion="present"),
        gold("condition", "父が胃癌", name="胃癌", assertion="family"),
        gold("allergy", "エビで蕁麻疹", substance="エビ", assertion="present"),
    ]
    assert judge([say(Kind.CONDITION, "HT"), say(Kind.CONDITION, "２型糖尿病")], facts) == [True, True]
    assert judge([say(Kind.CONDITION, "糖尿病")], facts) == [True]  # a part of the name
    assert judge([say(Kind.CONDITION, "胃癌", Assertion.FAMILY)], facts) == [True]
    assert judge([say(Kind.CONDITION, "胃癌")], facts) == [False]  # the father's, not the patient's
    assert judge([say(Kind.LAB, "HT")], facts) == [False]
    assert judge([say(Kind.ALLERGY, "エビ")], facts) == [True]
    assert judge([say(Kind.ALLERGY, "蕁麻疹")], facts) == [False]  # within the quote, and not its name
    assert judge([say(Kind.CONDITION, "HT")], [gold("condition", "２型糖尿病", name="HT", assertion="present")]) == [
        False
    ]


def test_a_fact_makes_one_statement_right() -> None:
    facts = [gold("lab", "CRP 0.1", analyte="CRP", value="0.1"), gold("lab", "CRP 0.1 0.3", analyte="CRP", value="0.3")]
    one, two = say(Kind.LAB, "CRP", value="0.3"), say(Kind.LAB, "CRP", value="0.1")
    assert judge([one, two], facts) == [True, True]
    assert judge([one, two, say(Kind.LAB, "CRP")], facts) == [True, True, False]
    assert judge([one, two], facts[:1]) == [False, True]  # that with its value


def test_a_denial_is_an_absent_allergy() -> None:
    fact = expected_of_gold({"item": "allergy", "quote": "x", "start": 0, "substance": "なし", "assertion": "denied"})
    assert fact.assertion is Assertion.ABSENT and fact.quoted


def test_facts_of_synthetic_notes_stand_where_they_say() -> None:
    known = list(synthetic_notes(15, 5))
    assert any(one.facts for one in known)
    for one in known:
        for fact in one.facts:
            assert (one.note.text[fact.start : fact.end],) == fact.names
    assert [one.note.text for one in synthetic_notes(3, 5)] == [one.note.text for one in known[:3]]
