"""The model's own confidence -> the probability that a statement is right, and what follows from it.

A confidence is the product of the probabilities of a statement's choices. It tells right statements from wrong ones, but
90 of 100 statements with 0.9 need not be right. A `Calibration` was fitted on notes whose facts are known
(`python -m training.calibrate`), for one model, and lies beside it as JSON: for each kind a logistic regression on what
is known of the record, and after it, where that helped, an isotonic one. Right means here: the note says this of its name,
with this assertion; values, doses and dates are checked elsewhere.

Source of the methods: Platt 1999 (logistic regression of scores, with smoothed targets); Zadrozny and Elkan 2002
(isotonic regression).
"""

import hashlib
import json
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field, ValidationError, model_validator

from app.errors import InvalidInput, Unavailable
from schemas.issue import Issue, IssueType, Severity
from schemas.record import Record
from schemas.statement import FIELDS, AllergyCategory, Kind
from schemas.statement import Field as StatementField
from schemas.value import Value

# A model that is certain writes 1.0; the logarithm of the odds needs an end.
_CERTAIN = 1e-6


def features(record: Record) -> dict[str, float] | None:
    """What the probability is computed from; None for a statement without a confidence. What is not named is 0."""
    statement = record.statement
    if statement.confidence is None:
        return None
    confidence = min(max(statement.confidence, _CERTAIN), 1 - _CERTAIN)
    coded = float(bool(record.codings or record.local))
    near = max((candidate.score for candidate in record.candidates), default=0.0)
    found = {
        "log_confidence": math.log(confidence),
        "log_odds": math.log(confidence / (1 - confidence)),
        "coded": coded,
        "likeness": max(coded, near),
        "valued": float(record.quantity is not None or record.text_value is not None),
        f"assertion_{statement.assertion.value}": 1.0,
    }
    if statement.category is not None:
        found[f"category_{statement.category.value}"] = 1.0
    for field in FIELDS[statement.kind]:
        if field is not StatementField.NAME:
            found[f"has_{field.value}"] = float(field in statement.fields)
    return found


class KindCalibration(Value):
    """Of one kind of statement. `weights` by feature. `steps`: corners (logistic probability, probability) of the isotonic
    regression, both rising, straight between them; empty: the logistic probability is taken as it is.

    `hold`: a statement below it is kept for a person; at most 0.5, since what is rather right than wrong is never held.
    `auto_accept`: from it on the error rate is below the one that the calibration states; None: it is nowhere.
    """

    weights: dict[str, float]
    intercept: float
    steps: tuple[tuple[float, float], ...] = ()
    hold: float = Field(0.0, ge=0, le=0.5)
    auto_accept: float | None = Field(None, ge=0, le=1)

    @model_validator(mode="after")
    def _monotone(self) -> "KindCalibration":
        corners = [number for step in self.steps for number in step]
        rising = all(a[0] < b[0] and a[1] <= b[1] for a, b in zip(self.steps, self.steps[1:], strict=False))
        if not rising or not all(0 <= number <= 1 for number in corners):
            raise ValueError("the steps do not rise from 0 to 1")
        if not all(math.isfinite(number) for number in (self.intercept, *self.weights.values())):
            raise ValueError("a weight is not a number")
        return self

    def logistic(self, known: Mapping[str, float]) -> float:
        """The probability before the isotonic regression."""
        score = self.intercept + sum(weight * known.get(name, 0.0) for name, weight in self.weights.items())
        return 1 / (1 + math.exp(-min(max(score, -30.0), 30.0)))

    def probability(self, known: Mapping[str, float]) -> float:
        """Of a statement with these features."""
        return stepped(self.steps, self.logistic(known))


def stepped(steps: Sequence[tuple[float, float]], at: float) -> float:
    """The line through the corners `steps` at `at`, level beyond its ends; `at` itself without corners."""
    if not steps:
        return at
    place = bisect_right(steps, at, key=lambda step: step[0])
    if place == 0:
        return steps[0][1]
    if place == len(steps):
        return steps[-1][1]
    (x, low), (other, high) = steps[place - 1], steps[place]
    return low + (high - low) * (at - x) / (other - x)


class Calibration(Value):
    """What a model's confidences are worth. `model`: the fingerprints `model`, `adapter` and `prompt` of that model.
    `error_rate`: of what `auto_accept` lets through, at most. `fitted`: on what, for a reader. A kind that was too rare to
    be fitted has no entry: its statements have no probability, are not held and not accepted."""

    version: int = Field(1, ge=1, le=1)
    model: dict[str, str | None]
    kinds: dict[Kind, KindCalibration]
    error_rate: float = Field(gt=0, lt=1)
    fitted: dict[str, str | int | float | None] = Field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> "Calibration":
        """Raises Unavailable when the file is not there, InvalidInput when it is no calibration."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise Unavailable(f"the calibration {path}: {error.strerror}") from None
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise InvalidInput(f"{path} is no calibration of this version: {place}: {first['msg']}") from None

    @property
    def fingerprint(self) -> str:
        """The first 16 hex digits of the SHA-256 of what it says."""
        said = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    def fits(self, model: Mapping[str, str | None]) -> bool:
        """Was it fitted for the model with these fingerprints? Further ones (the grammar's) are not looked at."""
        return all(model.get(key) == self.model.get(key) for key in ("model", "adapter", "prompt"))

    def probability(self, record: Record) -> float | None:
        """That the record's statement is right; None: not known."""
        kind = self.kinds.get(record.statement.kind)
        known = features(record)
        return round(kind.probability(known), 4) if kind and known is not None else None


def weigh(records: Sequence[Record], calibration: Calibration, *, hold: bool) -> tuple[list[Record], list[Issue]]:
    """The records with their probabilities, in order; with `hold` those below their kind's threshold are held, each with
    an issue. An allergy is never held: one that is overlooked can kill."""
    found: list[Record] = []
    issues: list[Issue] = []
    for record in records:
        probability = calibration.probability(record)
        kind = record.statement.kind
        held = (
            hold and probability is not None and kind is not Kind.ALLERGY and probability < calibration.kinds[kind].hold
        )
        found.append(record.model_copy(update={"probability": probability, "held": held}))
        if held:
            name = record.statement.name
            text = f"{kind.value}: held for review, right with a probability of {probability:.2f} only; it is in no resource"
            issues.append(
                Issue(
                    severity=Severity.WARNING, code=IssueType.BUSINESS_RULE, text=text, start=name.start, end=name.end
                )
            )
    return found, issues


def auto_accepted(record: Record, calibration: Calibration) -> bool:
    """May a record with a probability of `calibration` pass without a person?

    Never a drug allergy; nor a denied one, nor an allergen that no table knows, which may be a drug.
    """
    statement = record.statement
    if statement.kind is Kind.ALLERGY and (statement.category is AllergyCategory.MEDICATION or not record.codings):
        return False
    kind = calibration.kinds.get(statement.kind)
    if record.held or record.probability is None or kind is None or kind.auto_accept is None:
        return False
    return record.probability >= kind.auto_accept
