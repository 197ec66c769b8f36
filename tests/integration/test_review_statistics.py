"""What the reviews tell of the work and of the model, counted over a few notes."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from reviewing import STANDARD, at, converted, items_by_name, starter
from sqlalchemy.orm import Session

from app import releases, review_statistics, reviews
from app.db import Database
from app.terminology.importers import load_starter
from schemas.review import Verdict
from schemas.statement import AllergyCategory, Assertion, Field, Kind, Statement

TEXT = "肺炎。高血圧症。ほげ病。\nペニシリンで発疹"
PNEUMONIA, PRESSURE, UNKNOWN = (
    Statement(kind=Kind.CONDITION, fields={Field.NAME: at(TEXT, name)}) for name in ("肺炎", "高血圧症", "ほげ病")
)
PENICILLIN = Statement(
    kind=Kind.ALLERGY, fields={Field.NAME: at(TEXT, "ペニシリン")}, category=AllergyCategory.MEDICATION
)


@pytest.fixture(scope="module")
def notes(database: Database) -> list[UUID]:
    """The first is judged and released; the second waits."""
    with database.session_scope() as session:
        load_starter(session)
    made = [converted(database, TEXT, [PNEUMONIA, PRESSURE, UNKNOWN], probabilities=[0.95, 0.85, 0.15]) for _ in range(2)]
    with database.session_scope() as session:
        judge(session, made[0])
    return made


def judge(session: Session, note_id: UUID) -> None:
    items = items_by_name(session, note_id)
    entry = starter().lookup(Kind.CONDITION, "肺炎")
    assert entry is not None
    past = PRESSURE.model_copy(update={"assertion": Assertion.PAST})
    reviews.decide(session, items["肺炎"].id, Verdict.REJECT, by="user:1", version=0, seconds=10)
    reviews.undo(session, items["肺炎"].id, by="user:1", version=1, seconds=1)
    reviews.decide(session, items["肺炎"].id, Verdict.ACCEPT, by="user:1", version=2, seconds=1)
    reviews.amend(session, items["高血圧症"].id, past, by="user:2", version=0, seconds=20)
    reviews.amend(session, items["ほげ病"].id, UNKNOWN, by="user:2", version=0, coding=entry.codings[0])
    run_id = reviews.get_review(session, note_id).run_id
    reviews.add(session, note_id, run_id, PENICILLIN, by="user:2", seconds=30)
    releases.release(session, note_id, run_id, by="user:1", standard=STANDARD)


def test_the_work_is_counted_by_day_and_age(database: Database, notes: list[UUID]) -> None:
    with database.session_scope() as session:
        (day,) = review_statistics.throughput(session)
        assert (day.decisions, day.items, day.people, day.released) == (6, 4, 2, 1)
        assert review_statistics.throughput(session, datetime.now(UTC) + timedelta(days=1)) == []
        age = review_statistics.queue_age(session)
        assert (age.notes, age.items, age.drug_allergies) == (1, 3, 0)
        assert age.days[0] == (1, 1) and sum(count for _, count in age.days) == 1 and age.oldest_days is not None
        spent = {one.name: one for one in review_statistics.seconds_per_item(session)}
        assert spent[""].items == 3 and spent["condition"].median == 16 and spent["allergy"].median == 30


def test_acceptance_tells_what_people_did_with_what_was_read(database: Database, notes: list[UUID]) -> None:
    with database.session_scope() as session:
        kinds = {one.name: one for one in review_statistics.acceptance_by_kind(session)}
        condition = kinds["condition"]
        assert (condition.accepted, condition.amended, condition.rejected) == (1, 2, 0)
        assert condition.share == pytest.approx(1 / 3) and kinds["allergy"].added == 1 and kinds["lab"].share is None
        codes = review_statistics.acceptance_by_code(session)
        entry = starter().lookup(Kind.CONDITION, "肺炎")
        assert entry is not None
        assert {(one.system, one.code): one.accepted for one in codes}[entry.codings[0].system, entry.codings[0].code] == 1
        corrected = {one.name: one for one in review_statistics.most_corrected(session)}
        assert corrected.keys() == {"高血圧症", "ほげ病"}
        chosen = corrected["ほげ病"].chosen
        assert chosen is not None and chosen[1] == entry.codings[0].code and corrected["高血圧症"].chosen is None
        assert [(one.name, one.notes) for one in review_statistics.uncoded_names(session)] == [("ほげ病", 2)]


def test_probabilities_are_held_against_what_was_right(database: Database, notes: list[UUID]) -> None:
    with database.session_scope() as session:
        bins = review_statistics.calibration(session)
        # An assertion that had to be corrected was read wrongly; a code is not what the probability is of.
        assert [(one.low, one.items, one.right) for one in bins] == [(0.1, 1, 1.0), (0.8, 1, 0.0), (0.9, 1, 1.0)]
        assert bins[0].probability == pytest.approx(0.15)
        assert review_statistics.calibration(session, kind=Kind.LAB) == []
        (week,) = review_statistics.drift(session)
        assert (week.results, week.read, week.judged) == (2, 6, 3) and week.week.weekday() == 0
        assert week.accepted == pytest.approx(1 / 3) and week.probability == pytest.approx(0.65)
        assert week.uncoded == pytest.approx(1 / 3) and sum(week.models.values()) == 2
