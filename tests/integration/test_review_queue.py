"""The queue: by risk, by filters, one person a note; decisions that are undone; what a threshold may accept."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any
from uuid import UUID, uuid4

import pytest
from reviewing import accept_rest, at, converted, items_by_name
from sqlalchemy import select, text

from app import review_queue, reviews
from app.db import Database
from app.errors import Conflict, InvalidInput, NotFound
from app.review_items import is_decided
from app.review_queue import QueueFilter
from models import AuditEvent, Decision, Review, ReviewWork
from schemas.note import DocumentType
from schemas.review import AuditAction, Verdict
from schemas.statement import AllergyCategory, Assertion, Field, Kind, Statement

TEXT = "肺炎。高血圧症。\nペニシリンで発疹\nHbA1c 7.2 %"
PNEUMONIA, PRESSURE = (Statement(kind=Kind.CONDITION, fields={Field.NAME: at(TEXT, name)}) for name in ("肺炎", "高血圧症"))
PENICILLIN = Statement(
    kind=Kind.ALLERGY, fields={Field.NAME: at(TEXT, "ペニシリン")}, category=AllergyCategory.MEDICATION
)
HBA1C = Statement(kind=Kind.LAB, fields={Field.NAME: at(TEXT, "HbA1c"), Field.VALUE: at(TEXT, "7.2")})
ME, OTHER = "user:1", "user:2"


def found(database: Database, chosen: QueueFilter = QueueFilter(), who: str = ME) -> list[UUID]:  # noqa: B008
    with database.session_scope() as session:
        return [row.note_id for row in review_queue.queue(session, who, chosen)[0]]


# --- the queue ------------------------------------------------------------------------------------------------------


def test_what_is_most_at_risk_comes_first_and_filters_choose(fresh_database: Database) -> None:
    database = fresh_database
    sure = converted(database, TEXT, [PNEUMONIA], probabilities=[0.95])
    unsure = converted(database, TEXT, [PRESSURE, HBA1C], probabilities=[0.9, 0.4], department="外科")
    grave = converted(database, TEXT, [PENICILLIN], probabilities=[0.99], document_type=DocumentType.DISCHARGE)
    unknown = converted(database, TEXT, [PNEUMONIA])
    nothing = converted(database, TEXT, [])
    assert found(database) == [grave, unknown, unsure, sure]
    assert found(database, QueueFilter(state="decided")) == [nothing]
    assert found(database, QueueFilter(kinds=("condition",))) == [unknown, unsure, sure]
    assert found(database, QueueFilter(kinds=("lab", "drug-allergy"))) == [grave, unsure]
    assert found(database, QueueFilter(departments=("外科",))) == [unsure]
    assert found(database, QueueFilter(document_types=("discharge",))) == [grave]
    assert found(database, QueueFilter(max_probability=0.5)) == [unknown, unsure]
    assert found(database, QueueFilter(min_age_days=1)) == [] and found(database, QueueFilter(batch_id=uuid4())) == []
    with database.session_scope() as session:
        for wrong in (QueueFilter(kinds=("x",)), QueueFilter(state="x")):
            with pytest.raises(InvalidInput):
                review_queue.queue(session, ME, wrong)
        first, cursor = review_queue.queue(session, ME, QueueFilter(), limit=3)
        rest, end = review_queue.queue(session, ME, QueueFilter(), limit=3, cursor=cursor)
        assert [row.note_id for row in first + rest] == [grave, unknown, unsure, sure] and end is None
        assert first[0].drug_allergies_open == 1 and first[0].patient_id == "1000001" and first[2].lowest_probability == 0.4
        for bad in ("x", "WyJhIl0"):
            with pytest.raises(InvalidInput):
                review_queue.queue(session, ME, QueueFilter(), cursor=bad)
        told = review_queue.counts(session, QueueFilter())
        assert told["notes"] == 4 and told["items"] == 5 and told["drug_allergies"] == 1
        assert told["kinds"] == {"allergy": 1, "drug-allergy": 1, "condition": 3, "lab": 1}
        assert told["departments"] == {"内科": 3, "外科": 1} and told["states"] == {"open": 4, "decided": 1}
        # Each decision moves the note at once.
        reviews.decide(session, items_by_name(session, grave)["ペニシリン"].id, Verdict.ACCEPT, by=ME, version=0)
        reviews.decide(session, items_by_name(session, unsure)["HbA1c"].id, Verdict.REJECT, by=ME, version=0)
    assert found(database) == [unknown, unsure, sure]
    assert set(found(database, QueueFilter(state="decided"))) == {grave, nothing}


def test_one_person_has_a_note_until_his_time_is_over(fresh_database: Database) -> None:
    database = fresh_database
    notes = [converted(database, TEXT, [PNEUMONIA], probabilities=[0.1 * n]) for n in (1, 2, 3)]
    with database.session_scope() as session:
        assert review_queue.next_for(session, ME, QueueFilter()) == notes[0]
    with database.session_scope() as session:
        assert review_queue.next_for(session, OTHER, QueueFilter()) == notes[1]
        with pytest.raises(Conflict, match="somebody else has"):
            review_queue.take(session, notes[0], by=OTHER)
        item = items_by_name(session, notes[0])["肺炎"]
        with pytest.raises(Conflict, match="somebody else has"):
            reviews.decide(session, item.id, Verdict.ACCEPT, by=OTHER, version=0)
        rows, _ = review_queue.queue(session, ME, QueueFilter(mine=True))
        assert [(row.note_id, row.assigned_to) for row in rows] == [(notes[0], ME)]
        # The next one lets go of the one before; after the last one comes the first that waits.
        assert review_queue.next_for(session, ME, QueueFilter(), after=notes[0]) == notes[2]
        assert review_queue.assignment(session, notes[0]) is None
        assert review_queue.next_for(session, ME, QueueFilter(), after=notes[2]) == notes[0]
        before = review_queue.renew(session, notes[0], by=ME, minutes=30)
        assert review_queue.renew(session, notes[0], by=ME, minutes=60).assigned_until > before.assigned_until
        assert not review_queue.give_back(session, notes[0], by=OTHER) and review_queue.give_back(session, notes[0], by=ME)
        review_queue.take(session, notes[0], by=ME)
        session.execute(text("UPDATE review_work SET assigned_until = now() - interval '1 second' WHERE assigned_to = :me"), {"me": ME})
        assert review_queue.assignment(session, notes[0]) is None
        assert review_queue.take(session, notes[0], by=OTHER).assigned_to == OTHER
        with pytest.raises(NotFound):
            review_queue.assignment(session, uuid4())
        with pytest.raises(InvalidInput, match="minutes"):
            review_queue.take(session, notes[0], by=ME, minutes=0)
        assert review_queue.next_for(session, ME, QueueFilter(departments=("x",))) is None


def test_those_who_ask_at_once_get_different_notes(fresh_database: Database) -> None:
    notes = [converted(fresh_database, TEXT, [PNEUMONIA]) for _ in range(4)]

    def ask(who: str) -> UUID | None:
        with fresh_database.session_scope() as session:
            return review_queue.next_for(session, who, QueueFilter())

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(ask, "abcd")) == set(notes)


def test_a_hundred_thousand_open_notes_are_found_by_an_index(fresh_database: Database) -> None:
    note_id = converted(fresh_database, TEXT, [PNEUMONIA])
    with fresh_database.session_scope() as session:
        # As many lines of one note: what they are of is not looked at before the page is chosen.
        session.execute(text("ALTER TABLE review_work DROP CONSTRAINT fk_review_work_note_id, DROP CONSTRAINT fk_review_work_run_id"))
        session.execute(text(
            "INSERT INTO review_work SELECT gen_random_uuid(), gen_random_uuid(), 'open', 1, 0, n % 1000 / 1000.0, n % 50 > 0,"
            " n % 1000 / 1000.0, '{condition}', false, CASE WHEN n % 10 = 0 THEN '外科' ELSE '内科' END, 'progress',"
            " now() - n * interval '1 minute', NULL FROM generate_series(1, 100000) n"
        ))  # fmt: skip
        session.execute(text("ANALYZE review_work"))
    with fresh_database.session_scope() as session:
        plan = str(session.scalars(text(
            "EXPLAIN (FORMAT JSON) SELECT * FROM review_work WHERE state = 'open'"
            " AND (state, calm, likelihood, received_at, note_id) > ('open', true, 0.5, '2026-01-01', '0cffd2c2-320b-4acc-831e-62d08a5ab27f')"
            " ORDER BY state, calm, likelihood, received_at, note_id LIMIT 51"
        )).one())  # fmt: skip
        assert "ix_review_work_risk" in plan and "'Sort'" not in plan
        took = []
        for chosen in (QueueFilter(), QueueFilter(departments=("外科",), kinds=("condition",), max_probability=0.9)):
            started = time.perf_counter()
            review_queue.queue(session, ME, chosen, limit=50)
            took.append(time.perf_counter() - started)
        assert note_id and max(took) < 1.0  # some milliseconds; the machine of a test may be busy


# --- decisions ------------------------------------------------------------------------------------------------------


def test_undoing_goes_back_step_by_step_and_forgets_nothing(database: Database) -> None:
    note_id = converted(database, TEXT, [PNEUMONIA, PRESSURE])
    past = PNEUMONIA.model_copy(update={"assertion": Assertion.PAST})
    with database.session_scope() as session:
        item = items_by_name(session, note_id)["肺炎"]
        with pytest.raises(Conflict, match="nothing to undo"):
            reviews.undo(session, item.id, by=ME, version=0)
        reviews.decide(session, item.id, Verdict.ACCEPT, by=ME, version=0)
        reviews.amend(session, item.id, past, by=ME, version=1)
        reviews.decide(session, item.id, Verdict.REJECT, by=OTHER, version=2)
        states = []
        for version in (3, 4, 5):
            back = reviews.undo(session, item.id, by=ME, version=version)
            assert back is not None and back.version == version + 1
            states.append((back.verdict, back.statement))
        assert states == [(Verdict.AMEND, past), (Verdict.ACCEPT, PNEUMONIA), (None, PNEUMONIA)]
        with pytest.raises(Conflict, match="nothing to undo"):
            reviews.undo(session, item.id, by=ME, version=6)
        again = reviews.decide(session, item.id, Verdict.REJECT, by=ME, version=6)
        assert again.verdict is Verdict.REJECT and again.version == 7
        assert len(session.scalars(select(Decision).where(Decision.review_id == item.id)).all()) == 7
        assert [e.action for e in reviews.history(session, note_id)] == []  # told when it is committed
    with database.session_scope() as session:
        actions = [event.action for event in reviews.history(session, note_id)]
        assert actions == [
            AuditAction.ACCEPT, AuditAction.AMEND, AuditAction.REJECT, *[AuditAction.UNDO] * 3, AuditAction.REJECT,
        ]  # fmt: skip


def test_what_was_added_and_undone_is_gone(database: Database) -> None:
    note_id = converted(database, TEXT, [PRESSURE])
    with database.session_scope() as session:
        run_id = reviews.get_review(session, note_id).run_id
        added = reviews.add(session, note_id, run_id, PENICILLIN, by=ME)
        assert reviews.undo(session, added.id, by=ME, version=1) is None
        assert [item.statement for item in reviews.get_review(session, note_id).items] == [PRESSURE]
        with pytest.raises(NotFound, match="taken back"):
            reviews.decide(session, added.id, Verdict.REJECT, by=ME, version=2)
        assert reviews.add(session, note_id, run_id, PENICILLIN, by=ME).verdict is Verdict.ADD


def test_a_threshold_accepts_what_is_likely_and_never_a_drug_allergy(database: Database) -> None:
    note_id = converted(database, TEXT, [PNEUMONIA, PRESSURE, PENICILLIN, HBA1C], probabilities=[0.95, 0.6, 0.99, None])
    with database.session_scope() as session:
        items = items_by_name(session, note_id)
        run_id, ids = reviews.get_review(session, note_id).run_id, [item.id for item in items.values()]
        stranger = uuid4()
        for wrong in (0, 1.5):
            with pytest.raises(InvalidInput, match="threshold"):
                reviews.accept_visible(session, note_id, run_id, ids, by=ME, threshold=wrong)
        done = reviews.accept_visible(session, note_id, run_id, [*ids, stranger], by=ME, threshold=0.9)
        assert [item.statement for item in done.items] == [PNEUMONIA] and done.items[0].automatic
        assert done.left == {
            items["高血圧症"].id: "below the threshold", items["ペニシリン"].id: "needs a person's own decision",
            items["HbA1c"].id: "its probability is not known", stranger: "is no item of this result",
        }  # fmt: skip
        assert session.get_one(ReviewWork, note_id).open == 3
    with database.session_scope() as session:
        told = session.scalars(select(AuditEvent).where(AuditEvent.note_id == note_id)).all()
        assert [event.action for event in told] == ["accept"]
        with pytest.raises(Conflict, match="converted again"):
            reviews.accept_visible(session, note_id, uuid4(), ids, by=ME, threshold=0.9)


@pytest.mark.parametrize(("seconds", "kept"), [(None, None), (-1, None), (2.5, 2500), (99_999, 3_600_000), (float("nan"), None)])
def test_time_spent_is_bounded(database: Database, seconds: float | None, kept: int | None) -> None:
    note_id = converted(database, TEXT, [PNEUMONIA])
    with database.session_scope() as session:
        item = items_by_name(session, note_id)["肺炎"]
        reviews.decide(session, item.id, Verdict.ACCEPT, by=ME, version=0, seconds=seconds)
        assert session.scalars(select(Decision.spent_ms).where(Decision.review_id == item.id)).one() == kept


def test_what_is_undone_is_undecided_wherever_it_is_asked(database: Database) -> None:
    note_id = converted(database, TEXT, [PNEUMONIA, PRESSURE])
    with database.session_scope() as session:
        item = items_by_name(session, note_id)["肺炎"]
        waiting = select(Review.id).where(Review.id == item.id, ~is_decided())
        for decided in (True, False):
            reviews.decide(session, item.id, Verdict.ACCEPT, by=ME, version=0) if decided else reviews.undo(
                session, item.id, by=ME, version=1
            )
            assert (session.scalar(waiting) is None) is decided


def test_the_migration_fills_the_queue_as_decisions_do(fresh_database: Database) -> None:
    notes = [
        converted(fresh_database, TEXT, [PNEUMONIA, PENICILLIN, HBA1C], probabilities=[0.5, 0.9, 0.4]),
        converted(fresh_database, TEXT, [PNEUMONIA]),
        converted(fresh_database, TEXT, []),
    ]
    with fresh_database.session_scope() as session:
        reviews.decide(session, items_by_name(session, notes[0])["HbA1c"].id, Verdict.ACCEPT, by=ME, version=0)
        lines = text("SELECT * FROM review_work ORDER BY note_id")
        before = session.execute(lines).all()
        session.execute(text("DELETE FROM review_work"))
        session.execute(text(import_module("migrations.versions.0015_review_work").FILL))
        filled = session.execute(lines).all()

    def plain(rows: Sequence[Any]) -> list[dict[str, Any]]:
        return [row._asdict() | {"kinds": sorted(row.kinds)} for row in rows]

    assert len(before) == 3 and plain(filled) == plain(before)


def test_the_line_of_a_note_goes_with_it(database: Database) -> None:
    note_id = converted(database, TEXT, [PNEUMONIA])
    with database.session_scope() as session:
        accept_rest(session, note_id)
        session.execute(text("DELETE FROM notes WHERE id = :id"), {"id": note_id})
    with database.session_scope() as session:
        assert session.get(ReviewWork, note_id) is None
