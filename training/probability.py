"""From confidences to probabilities: what fits an `app.confidence.Calibration`, and the figures that judge it.

Pure. A case is a statement of a note whose facts are known. Every threshold and every figure comes from probabilities of
cases that the regression behind them has not seen: the notes are split, never the statements of one note.

Sources: Platt 1999, "Probabilistic outputs for support vector machines" (targets (n+1)/(n+2) and 1/(n+2)); Ayer et al. 1955
(pool adjacent violators); Wilson 1927 (bounds of a share); Naeini et al. 2015 (expected calibration error).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from app.confidence import KindCalibration, stepped
from schemas.statement import Kind

Numbers: TypeAlias = NDArray[np.float64]
Steps: TypeAlias = tuple[tuple[float, float], ...]

_RIDGE = 3.0
"""Of standardised weights; a kind with some dozen cases has more features than it can settle."""
_FOLDS = 4
_FEWEST = 40
"""A kind with fewer cases gets no calibration."""
_GAIN = 0.002
"""Isotonic regression is kept where it lowers the log loss of unseen cases by this share of itself at least."""
_MOST_HELD = 0.5
_WILSON_Z = 1.96  # two-sided 95 %
BINS = 10


@dataclass(frozen=True)
class Case:
    """A statement that the model made. `note` tells notes apart; `known`: `app.confidence.features`. `written`: by a person;
    what the model makes of notes like those that it was trained on proves no error rate."""

    note: int
    kind: Kind
    known: Mapping[str, float]
    right: bool
    weight: float = 1.0
    written: bool = True


@dataclass(frozen=True)
class Fact:
    """Something that a note says and that the model was to find; the fields are those of `Case`."""

    note: int
    kind: Kind
    weight: float = 1.0
    written: bool = True


def fit(cases: Sequence[Case], facts: Sequence[Fact], *, error_rate: float) -> dict[Kind, KindCalibration]:
    """One calibration for each kind that has cases enough, both right and wrong. `error_rate`: of what may be accepted
    without a person; allergies are never held."""
    found: dict[Kind, KindCalibration] = {}
    for kind in Kind:
        own = [case for case in cases if case.kind is kind]
        if len(own) >= _FEWEST and 0 < sum(case.right for case in own) < len(own):
            wanted = sum(fact.weight for fact in facts if fact.kind is kind)
            fitted = _fit_kind(own, wanted, error_rate)
            # What an allergy's threshold would be is never applied, so it is not written down.
            found[kind] = fitted if kind is not Kind.ALLERGY else fitted.model_copy(update={"hold": 0.0})
    return found


def _fit_kind(cases: Sequence[Case], wanted: float, error_rate: float) -> KindCalibration:
    names = sorted({name for case in cases for name in case.known})
    known = np.array([[case.known.get(name, 0.0) for name in names] for case in cases])
    right = np.array([case.right for case in cases], dtype=np.float64)
    weight = np.array([case.weight for case in cases])
    written = np.array([case.written for case in cases])
    folds = _folds([case.note for case in cases])
    unseen = np.zeros(len(cases))
    for fold in np.unique(folds):
        rest = folds != fold
        intercept, weights = logistic(known[rest], right[rest], weight[rest])
        unseen[~rest] = _sigmoid(intercept + known[~rest] @ weights)
    improved = np.zeros(len(cases))
    for fold in np.unique(folds):
        rest = folds != fold
        steps = isotonic(unseen[rest], right[rest], weight[rest])
        improved[~rest] = [stepped(steps, at) for at in unseen[~rest]]
    helps = _log_loss(improved, right, weight) < (1 - _GAIN) * _log_loss(unseen, right, weight)
    probable = improved if helps else unseen
    intercept, weights = logistic(known, right, weight)
    return KindCalibration(
        weights={name: float(f"{value:.6g}") for name, value in zip(names, weights, strict=True) if value},
        intercept=float(f"{intercept:.6g}"),
        steps=isotonic(unseen, right, weight) if helps else (),
        hold=hold_threshold(probable, right, weight, wanted),
        auto_accept=accept_threshold(probable[written], right[written], error_rate),
    )


def _folds(notes: Sequence[int]) -> NDArray[np.int64]:
    """The part that each case's note is in; neighbours are in different ones."""
    part = {note: rank % _FOLDS for rank, note in enumerate(sorted(set(notes)))}
    return np.array([part[note] for note in notes])


# -- regressions --------------------------------------------------------------------------------------------------


def logistic(known: Numbers, right: Numbers, weight: Numbers, ridge: float = _RIDGE) -> tuple[float, Numbers]:
    """Intercept and weights of P(right) = 1 / (1 + exp(-(intercept + known @ weights))), by Newton's method.

    `known`: cases x features; `right`: 0 or 1; `weight`: of a case. The penalty is on weights of standardised features;
    a feature that never changes weighs 0.
    """
    center = np.average(known, axis=0, weights=weight)
    spread = np.sqrt(np.average((known - center) ** 2, axis=0, weights=weight))
    alive = spread > 1e-9
    x = np.column_stack([np.ones(len(known)), (known[:, alive] - center[alive]) / spread[alive]])
    yes, no = float(weight @ right), float(weight @ (1 - right))
    target = np.where(right > 0.5, (yes + 1) / (yes + 2), 1 / (no + 2))
    penalty = np.full(x.shape[1], ridge)
    penalty[0] = 1e-9

    def loss(beta: Numbers) -> float:
        score = x @ beta
        return float(weight @ (np.logaddexp(0, score) - target * score) + 0.5 * penalty @ beta**2)

    beta = np.zeros(x.shape[1])
    now = loss(beta)
    for _ in range(100):
        share = _sigmoid(x @ beta)
        slope = x.T @ (weight * (share - target)) + penalty * beta
        curve = (x * (weight * share * (1 - share))[:, None]).T @ x + np.diag(penalty)
        step = np.linalg.solve(curve, slope)
        size = 1.0
        while (then := loss(beta - size * step)) > now and size > 1e-6:
            size /= 2
        if now - then < 1e-10 * (1 + abs(now)):
            break
        beta, now = beta - size * step, then
    weights = np.zeros(known.shape[1])
    weights[alive] = beta[1:] / spread[alive]
    return float(beta[0] - center @ weights), weights


def isotonic(at: Numbers, right: Numbers, weight: Numbers) -> Steps:
    """Corners (mean of `at`, share that is right) of the best rising step function, by pooling adjacent violators.

    Each step counts one case more that is as probable as it stands, so that few cases make no certainty.
    """
    blocks: list[list[float]] = []  # weight, weight x at, weight x right
    order = np.argsort(at, kind="stable")
    last = None
    for n in order:
        row = [weight[n], weight[n] * at[n], weight[n] * right[n]]
        if last is not None and at[n] - last < 1e-9:
            blocks[-1] = [a + b for a, b in zip(blocks[-1], row, strict=True)]
        else:
            blocks.append(row)
        last = at[n]
        while len(blocks) > 1 and blocks[-2][2] * blocks[-1][0] >= blocks[-1][2] * blocks[-2][0]:
            top = blocks.pop()
            blocks[-1] = [a + b for a, b in zip(blocks[-1], top, strict=True)]
    steps: list[tuple[float, float]] = []
    highest = 0.0
    for count, place, hits in blocks:
        mean = place / count
        highest = min(max(highest, (hits + mean) / (count + 1)), 1.0)
        corner = float(f"{mean:.6g}"), float(f"{highest:.6g}")
        if not steps or corner[0] > steps[-1][0]:
            steps.append(corner)
    return tuple(steps)


def _sigmoid(score: Numbers) -> Numbers:
    return 1 / (1 + np.exp(-np.clip(score, -30, 30)))


def _log_loss(probable: Numbers, right: Numbers, weight: Numbers) -> float:
    safe = np.clip(probable, 1e-6, 1 - 1e-6)
    return float(-np.average(right * np.log(safe) + (1 - right) * np.log(1 - safe), weights=weight))


# -- thresholds ---------------------------------------------------------------------------------------------------


def hold_threshold(probable: Numbers, right: Numbers, weight: Numbers, wanted: float) -> float:
    """The threshold, 0.5 at most, below which leaving statements out gives the highest F1; `wanted`: facts to be found.
    The lowest of several."""
    best, chosen = _f1(float(weight @ right), float(weight.sum()), wanted), 0.0
    for threshold in [*np.unique(probable[probable < _MOST_HELD]), _MOST_HELD]:
        kept = probable >= threshold
        score = _f1(float(weight[kept] @ right[kept]), float(weight[kept].sum()), wanted)
        if score > best + 1e-12:
            best, chosen = score, float(threshold)
    return round(chosen, 4)


def accept_threshold(probable: Numbers, right: Numbers, error_rate: float) -> float | None:
    """The lowest threshold from which on the upper bound of the error rate is `error_rate` at most; None: nowhere."""
    order = np.argsort(-probable, kind="stable")
    ranked, wrong = probable[order], np.cumsum(1 - right[order])
    for n in range(len(ranked), 0, -1):
        whole = n == len(ranked) or ranked[n] < ranked[n - 1]  # equal ones pass together
        if whole and upper_bound(int(wrong[n - 1]), n) <= error_rate:
            # Rounded up: what lies between has not been counted.
            return min(math.ceil(float(ranked[n - 1]) * 1e4 - 1e-9) / 1e4, 1.0)
    return None


def upper_bound(hits: int, count: int) -> float:
    """Upper end of Wilson's 95 % interval of the share hits / count."""
    if not count:
        return 1.0
    share, z = hits / count, _WILSON_Z
    middle = share + z * z / (2 * count)
    reach = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return (middle + reach) / (1 + z * z / count)


def _f1(hits: float, said: float, wanted: float) -> float:
    return 2 * hits / (said + wanted) if said + wanted else 1.0


# -- figures ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """A case with what a calibration that had not seen its note says of it. `held`, `accepted`: by that calibration."""

    case: Case
    probability: float
    held: bool
    accepted: bool


def cross_fitted(cases: Sequence[Case], facts: Sequence[Fact], *, error_rate: float) -> list[Judged]:
    """Each half of the notes as judged by a fit to the other half; cases of a kind that could not be fitted are left out."""
    ranks = {
        note: rank for rank, note in enumerate(sorted({case.note for case in cases} | {fact.note for fact in facts}))
    }
    found: list[Judged] = []
    for half in (0, 1):
        seen = [case for case in cases if ranks[case.note] % 2 != half]
        fitted = fit(seen, [fact for fact in facts if ranks[fact.note] % 2 != half], error_rate=error_rate)
        for case in cases:
            kind = fitted.get(case.kind)
            if ranks[case.note] % 2 == half and kind is not None:
                probable = kind.probability(case.known)
                accepted = kind.auto_accept is not None and probable >= kind.auto_accept
                found.append(Judged(case, probable, probable < kind.hold, accepted))
    return found


def figures(judged: Sequence[Judged], wanted: int) -> dict[str, Any]:
    """What `judged` is worth. `ece`: expected calibration error; `brier`; `bins`: of the probabilities; `coverage`: share
    taken, most probable first, with the error rate in it; F1 of what is right, before and after holding; what was held and
    what would pass by itself, with its error rate. `wanted`: facts that there were to be found."""
    if not judged:
        return {"statements": 0}
    probable = np.array([one.probability for one in judged])
    right = np.array([one.case.right for one in judged], dtype=np.float64)
    bins = list(_bins(probable, right))
    order = np.argsort(-probable, kind="stable")
    parts = [max(1, round(len(judged) * tenth / 10)) for tenth in range(1, 11)]
    kept = [one for one in judged if not one.held]
    passed = [one for one in judged if one.accepted]
    errors = sum(not one.case.right for one in passed)
    return {
        "statements": len(judged),
        "right": int(right.sum()),
        "wanted": wanted,
        "ece": sum(row["count"] * abs(row["mean"] - row["right"]) for row in bins) / len(judged),
        "brier": float(np.mean((probable - right) ** 2)),
        "bins": bins,
        "coverage": [{"share": n / len(judged), "error": float(1 - right[order[:n]].mean())} for n in parts],
        "f1": _f1(right.sum(), len(judged), wanted),
        "f1_held": _f1(sum(one.case.right for one in kept), len(kept), wanted),
        "held": len(judged) - len(kept),
        "held_right": sum(one.case.right for one in judged if one.held),
        "accepted": len(passed),
        "accepted_error": errors / len(passed) if passed else None,
        "accepted_error_upper": upper_bound(errors, len(passed)) if passed else None,
    }


def _bins(probable: Numbers, right: Numbers) -> Iterator[dict[str, Any]]:
    place = np.minimum((probable * BINS).astype(int), BINS - 1)
    for n in range(BINS):
        inside = place == n
        if inside.any():
            mean, share = float(probable[inside].mean()), float(right[inside].mean())
            yield {"from": n / BINS, "count": int(inside.sum()), "mean": mean, "right": share}
