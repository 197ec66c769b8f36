"""Confidences as probabilities: the calibration's file, what it holds back, and what it would let pass."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.confidence import Calibration, KindCalibration, auto_accepted, features, stepped, weigh
from app.errors import InvalidInput, Unavailable
from schemas.coding import Candidate, Coding
from schemas.issue import Severity
from schemas.record import Record
from schemas.statement import AllergyCategory, Assertion, EvidenceSpan, Field, Kind, Statement

MODEL = {"model": "0123456789abcdef", "adapter": None, "prompt": "fedcba9876543210"}
CODING = Coding(system="urn:test", code="1", display="高血圧症")


def record(
    kind: Kind = Kind.CONDITION,
    confidence: float | None = 0.5,
    category: AllergyCategory | None = None,
    *,
    coded: bool = True,
    assertion: Assertion = Assertion.PRESENT,
) -> Record:
    name = EvidenceSpan(start=3, end=7, quote="高血圧症")
    statement = Statement(
        kind=kind, fields={Field.NAME: name}, confidence=confidence, category=category, assertion=assertion
    )
    return Record(statement=statement, display=name.quote, codings=(CODING,) if coded else ())


def by_confidence(hold: float = 0.5, auto_accept: float | None = 0.95) -> KindCalibration:
    """The confidence itself as the probability."""
    return KindCalibration(weights={"log_odds": 1.0}, intercept=0.0, hold=hold, auto_accept=auto_accept)


def calibration(**changes: object) -> Calibration:
    kinds = {kind: by_confidence() for kind in Kind}
    return Calibration.model_validate({"model": MODEL, "kinds": kinds, "error_rate": 0.02} | changes)


def test_features_tell_what_is_known_of_a_record() -> None:
    near = Candidate(coding=CODING, score=0.7, reason="like")
    known = features(record(confidence=0.5, coded=False).model_copy(update={"candidates": (near,)}))
    assert known is not None
    assert (known["log_odds"], known["coded"], known["likeness"]) == (0.0, 0.0, 0.7)
    assert known["assertion_present"] == 1.0 and known["has_onset"] == 0.0 and "has_dose" not in known
    coded = features(record(Kind.ALLERGY, 1.0, AllergyCategory.FOOD, assertion=Assertion.ABSENT))
    assert coded is not None and coded["likeness"] == coded["category_food"] == coded["assertion_absent"] == 1.0
    assert 10 < coded["log_odds"] < 20  # a certain model stays finite
    assert features(record(confidence=None)) is None


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=8, unique_by=lambda step: step[0]),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_steps_rise_and_stay_in_their_range(corners: list[tuple[float, float]], one: float, other: float) -> None:
    steps = tuple(zip(sorted(x for x, _ in corners), sorted(y for _, y in corners), strict=True))
    low, high = sorted((one, other))
    assert 0 <= stepped(steps, low) <= stepped(steps, high) + 1e-12 <= 1 + 1e-9
    for at, value in steps:
        assert stepped(steps, at) == pytest.approx(value)


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_higher_confidence_is_never_less_probable(one: float, other: float) -> None:
    stepwise = KindCalibration(weights={"log_odds": 0.7}, intercept=-1, steps=((0.1, 0.0), (0.5, 0.4), (0.9, 1.0)))
    chosen = calibration(kinds={Kind.LAB: stepwise})
    low, high = (chosen.probability(record(Kind.LAB, c)) for c in sorted((one, other)))
    assert low is not None and high is not None and 0 <= low <= high <= 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": ((0.5, 0.1), (0.4, 0.2))},
        {"steps": ((0.4, 0.2), (0.5, 0.1))},
        {"steps": ((0.4, 0.2), (0.5, 1.1))},
        {"weights": {"log_odds": float("nan")}},
        {"hold": 0.6},
        {"auto_accept": 1.5},
    ],
)
def test_numbers_that_are_no_calibration_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        KindCalibration.model_validate({"weights": {}, "intercept": 0.0} | wrong)


def test_what_is_rather_wrong_is_held_and_named_in_an_issue() -> None:
    records = [record(confidence=0.4), record(confidence=0.6), record(confidence=None)]
    weighed, issues = weigh(records, calibration(), hold=True)
    assert [(one.probability, one.held) for one in weighed] == [(0.4, True), (0.6, False), (None, False)]
    [issue] = issues
    assert (issue.severity, issue.start, issue.end) == (Severity.WARNING, 3, 7)
    assert "0.40" in issue.text and "高血圧症" not in issue.text
    assert [one.model_copy(update={"probability": None, "held": False}) for one in weighed] == records


def test_hold_can_be_turned_off_and_probabilities_stay() -> None:
    [weighed], issues = weigh([record(confidence=0.1)], calibration(), hold=False)
    assert (weighed.probability, weighed.held, issues) == (0.1, False, [])


@pytest.mark.parametrize("category", list(AllergyCategory))
@pytest.mark.parametrize("assertion", [Assertion.PRESENT, Assertion.SUSPECTED, Assertion.ABSENT])
def test_an_allergy_is_never_held(category: AllergyCategory, assertion: Assertion) -> None:
    doubtful = record(Kind.ALLERGY, 1e-9, category, coded=False, assertion=assertion)
    [weighed], issues = weigh([doubtful], calibration(), hold=True)
    assert weighed.probability is not None and weighed.probability < 0.001
    assert not weighed.held and issues == []


def test_a_kind_that_was_not_fitted_has_no_probability() -> None:
    chosen = calibration(kinds={Kind.LAB: by_confidence()})
    [weighed], issues = weigh([record(Kind.CONDITION, 0.01)], chosen, hold=True)
    assert (weighed.probability, weighed.held, issues) == (None, False, [])
    assert not auto_accepted(weighed, chosen)


def test_what_passes_without_a_person() -> None:
    chosen = calibration()

    def passes(one: Record) -> bool:
        return auto_accepted(weigh([one], chosen, hold=True)[0][0], chosen)

    assert passes(record(confidence=0.96)) and not passes(record(confidence=0.94))
    assert not passes(record(confidence=None))
    assert passes(record(Kind.ALLERGY, 0.99, AllergyCategory.FOOD))
    # A drug, whatever the number; and what may be one, or denies one.
    assert not passes(record(Kind.ALLERGY, 1.0, AllergyCategory.MEDICATION))
    assert not passes(record(Kind.ALLERGY, 1.0, AllergyCategory.MEDICATION, assertion=Assertion.ABSENT))
    assert not passes(record(Kind.ALLERGY, 1.0, AllergyCategory.OTHER, coded=False, assertion=Assertion.ABSENT))
    never = calibration(kinds={Kind.CONDITION: by_confidence(auto_accept=None)})
    assert not auto_accepted(weigh([record(confidence=1.0)], never, hold=True)[0][0], never)
    held = weigh([record(confidence=0.96)], chosen, hold=True)[0][0].model_copy(update={"held": True})
    assert not auto_accepted(held, chosen)


def test_the_file_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "m.calibration.json"
    written = calibration(fitted={"statements": 10, "terminology": "x"})
    path.write_text(written.model_dump_json(indent=1))
    read = Calibration.load(path)
    assert read == written and read.fingerprint == written.fingerprint
    assert calibration(error_rate=0.03).fingerprint != calibration().fingerprint


def test_it_fits_the_model_that_it_was_made_for_and_no_other() -> None:
    assert calibration().fits(MODEL | {"grammar": "anything"})
    for key in MODEL:
        assert not calibration().fits(MODEL | {key: "another"})


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.calibration.json"
    with pytest.raises(Unavailable, match=r"m\.calibration\.json"):
        Calibration.load(path)
    for text in ("", "[]", '{"version": 2}', calibration().model_dump_json().replace("log_odds", "log_odds", 1)[:-1]):
        path.write_text(text)
        with pytest.raises(InvalidInput, match=r"m\.calibration\.json"):
            Calibration.load(path)
