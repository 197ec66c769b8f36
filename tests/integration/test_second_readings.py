"""A second person reads a result blind; what differs is settled before it is released."""

from uuid import UUID, uuid4

import pytest
from reviewing import STANDARD, accept_rest, at, converted, items_by_name, run_job
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app import jobs, releases, review_queue, reviews, second_readings
from app.db import Database
from app.errors import Conflict, InvalidInput
from app.jobs import Policy
from app.second_comparison import sampled
from models import ReviewWork, SecondComparison, SecondReading
from schemas.review import ReviewState, Verdict
from schemas.statement import AllergyCategory, Assertion, Field, Kind, Statement

TEXT = "肺炎。高血圧症。胃潰瘍。\nペニシリンで発疹"
FIRST, SECOND, THIRD = "user:1", "user:2", "user:3"
PNEUMONIA, PRESSURE, ULCER = (
    Statement(kind=Kind.CONDITION, fields={Field.NAME: at(TEXT, name)}) for name in ("肺炎", "高血圧症", "胃潰瘍")
)
PENICILLIN = Statement(
    kind=Kind.ALLERGY, fields={Field.NAME: at(TEXT, "ペニシリン")}, category=AllergyCategory.MEDICATION
)
PAST = PNEUMONIA.model_copy(update={"assertion": Assertion.PAST})


def chosen(database: Database) -> UUID:
    note_id = converted(database, TEXT, [PNEUMONIA, PRESSURE, ULCER])
    with database.session_scope() as session:
        assert second_readings.choose(session, note_id, by="admin")
        assert not second_readings.choose(session, note_id, by="admin")
    return note_id


def read_second(session: Session, note_id: UUID) -> None:
    """Takes the pneumonia for past, rejects the ulcer, and adds the allergy that the model missed."""
    second_readings.begin(session, note_id, by=SECOND)
    items = {item.statement.name.quote: item for item in second_readings.own_review(session, note_id, by=SECOND).items}
    run_id = reviews.get_review(session, note_id).run_id
    second_readings.amend(session, items["肺炎"].id, PAST, by=SECOND, version=0, seconds=3)
    second_readings.decide(session, items["高血圧症"].id, Verdict.ACCEPT, by=SECOND, version=0)
    second_readings.decide(session, items["胃潰瘍"].id, Verdict.REJECT, by=SECOND, version=0)
    second_readings.add(session, note_id, run_id, PENICILLIN, by=SECOND)


def test_a_sample_is_drawn_by_the_run_alone(database: Database) -> None:
    ids = [uuid4() for _ in range(2000)]
    drawn = [sampled(id_, 0.1) for id_ in ids]
    assert 120 < sum(drawn) < 280 and drawn == [sampled(id_, 0.1) for id_ in ids]
    assert not any(sampled(id_, 0) for id_ in ids) and all(sampled(id_, 1) for id_ in ids)
    note_id = converted(database, TEXT, [PNEUMONIA])
    with database.session_scope() as session:
        job_id = jobs.resubmit(session, note_id).job_id
    run_job(database, job_id, [PNEUMONIA], policy=Policy(second_reader_share=1.0))
    with database.session_scope() as session:
        (reading,) = session.scalars(select(SecondReading).where(SecondReading.note_id == note_id))
        assert reading.chosen_by == "hyojun" and session.get_one(ReviewWork, note_id).second_reader


def test_neither_reader_sees_the_other_or_takes_both_parts(database: Database) -> None:
    note_id = chosen(database)
    with database.session_scope() as session:
        first = items_by_name(session, note_id)["肺炎"]
        reviews.decide(session, first.id, Verdict.REJECT, by=FIRST, version=0)
        with pytest.raises(Conflict, match="another person reads it second"):
            second_readings.begin(session, note_id, by=FIRST)
        read_second(session, note_id)
        with pytest.raises(Conflict, match="somebody else is the second reader"):
            second_readings.begin(session, note_id, by=THIRD)
        own = second_readings.own_review(session, note_id, by=SECOND)
        assert [item.verdict for item in own.items if item.id == first.id] == [Verdict.AMEND]
        assert reviews.get_review(session, note_id).items[0].verdict is Verdict.REJECT
        assert second_readings.blinded(session, note_id, SECOND) and not second_readings.blinded(session, note_id, FIRST)
        with pytest.raises(Conflict, match="you are the second reader"):
            reviews.decide(session, first.id, Verdict.ACCEPT, by=SECOND, version=1)
        with pytest.raises(Conflict, match="not the second reader"):
            second_readings.decide(session, first.id, Verdict.ACCEPT, by=THIRD, version=0)
        with pytest.raises(Conflict, match="its version is 1"):
            second_readings.decide(session, first.id, Verdict.ACCEPT, by=SECOND, version=0)
        undone = second_readings.undo(session, first.id, by=SECOND, version=1)
        assert undone is not None and undone.verdict is None and undone.statement == PNEUMONIA
        with pytest.raises(Conflict, match="1 statements are undecided"):
            second_readings.finish(session, note_id, by=SECOND)
        with pytest.raises(Conflict, match="not both done"):
            second_readings.differences(session, note_id)
        assert review_queue.queue(session, SECOND, review_queue.QueueFilter(second=True))[0]


def test_differences_are_settled_by_a_third_person_or_by_agreement_before_the_release(database: Database) -> None:
    note_id = chosen(database)
    with database.session_scope() as session:
        read_second(session, note_id)
        run_id = accept_rest(session, note_id, by=FIRST)
        with pytest.raises(Conflict, match="waits for its second reader"):
            releases.release(session, note_id, run_id, by=FIRST, standard=STANDARD)
        second_readings.finish(session, note_id, by=SECOND)
        with pytest.raises(Conflict, match="is finished"):
            second_readings.add(session, note_id, run_id, PENICILLIN, by=SECOND)
        assert session.get_one(ReviewWork, note_id).state == ReviewState.DIFFERING
        assert not second_readings.blinded(session, note_id, SECOND)
    with database.session_scope() as session:
        past, ulcer, allergy = second_readings.differences(session, note_id)
        assert past.first and past.second and past.second.statement == PAST and past.first.verdict is Verdict.ACCEPT
        assert ulcer.second and ulcer.second.verdict is Verdict.REJECT
        assert allergy.first is None and allergy.second and allergy.second.statement == PENICILLIN
        item = items_by_name(session, note_id)["高血圧症"]
        with pytest.raises(Conflict, match="settle what differs"):
            reviews.decide(session, item.id, Verdict.REJECT, by=FIRST, version=1)
        with pytest.raises(Conflict, match="settle what differs"):
            releases.release(session, note_id, run_id, by=FIRST, standard=STANDARD)
        for by, agreed, why in ((FIRST, False, "a third person"), (THIRD, True, "only one of the two")):
            with pytest.raises(Conflict, match=why):
                second_readings.adjudicate(session, past.id, by=by, choose="first", agreed=agreed)
        second_readings.adjudicate(session, past.id, by=THIRD, choose="second")
        second_readings.adjudicate(session, ulcer.id, by=SECOND, choose="first", agreed=True)
        settled = second_readings.adjudicate(session, allergy.id, by=THIRD, choose="second")
        assert settled.settled_as == "second" and settled.settled_by == THIRD
        with pytest.raises(Conflict, match="is settled"):
            second_readings.adjudicate(session, allergy.id, by=THIRD, choose="first")
        assert session.get_one(ReviewWork, note_id, populate_existing=True).state == ReviewState.DECIDED
        after = releases.release(session, note_id, run_id, by=FIRST, standard=STANDARD)
        assert after.statements == [PAST, PRESSURE, ULCER, PENICILLIN]


def test_a_third_opinion_may_be_another_one(database: Database) -> None:
    note_id = chosen(database)
    with database.session_scope() as session:
        read_second(session, note_id)
        second_readings.finish(session, note_id, by=SECOND)
        accept_rest(session, note_id, by=FIRST)  # the first one is done last: both are compared then
        past, ulcer, allergy = second_readings.differences(session, note_id)
        family = PNEUMONIA.model_copy(update={"assertion": Assertion.SUSPECTED})
        second_readings.adjudicate(session, past.id, by=THIRD, choose="other", statement=family)
        second_readings.adjudicate(session, ulcer.id, by=THIRD, choose="second")
        second_readings.adjudicate(session, allergy.id, by=THIRD, choose="other")
        assert reviews.get_review(session, note_id).statements == [family, PRESSURE]
        with pytest.raises(InvalidInput, match="threshold"):
            second_readings.accept_visible(session, note_id, uuid4(), [], by=SECOND, threshold=0)


def test_kappa_is_cohens(fresh_database: Database) -> None:
    database = fresh_database
    note_id = chosen(database)
    pairs = [("accept", "accept")] * 45 + [("accept", "reject")] * 15 + [("reject", "accept")] * 25 + [("reject", "reject")] * 15
    with database.session_scope() as session:
        items = items_by_name(session, note_id)
        run_id = reviews.get_review(session, note_id).run_id
        for first, second in pairs:
            session.add(SecondComparison(
                run_id=run_id, kind=Kind.LAB, review_id=items["肺炎"].id, first=first, second=second, same=first == second,
            ))  # fmt: skip
        session.add(SecondComparison(run_id=run_id, kind=Kind.LAB, second_item=uuid4(), second="add", same=False))
        found = second_readings.kappa(session)
    lab = found[Kind.LAB]
    # po = (45 + 15) / 100; pe = 0.60 * 0.70 + 0.40 * 0.30 = 0.54 (https://en.wikipedia.org/wiki/Cohen%27s_kappa, example).
    assert lab.items == 100 and lab.observed == 0.6 and lab.kappa == pytest.approx((0.6 - 0.54) / 0.46)
    assert (lab.added, lab.added_by_both) == (1, 0) and found[Kind.CONDITION].kappa is None


def test_nothing_of_it_can_be_changed(database: Database) -> None:
    note_id = chosen(database)
    with database.session_scope() as session:
        read_second(session, note_id)
    for table in ("second_decisions", "second_readings", "second_comparisons", "released_records", "releases"):
        with pytest.raises(DBAPIError, match="is append-only"), database.session_scope() as session:
            session.connection().exec_driver_sql(f"TRUNCATE {table} CASCADE")
    with pytest.raises(DBAPIError, match="is append-only"), database.session_scope() as session:
        session.connection().exec_driver_sql("UPDATE second_decisions SET decided_by = 'x'")
