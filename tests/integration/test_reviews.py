"""Reviews on a real Postgres: every statement is judged by a person, nothing is changed in silence."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from reviewed_notes import ALLERGY, CONDITION, LAB, TEXT, convert_again, items_of, span, stored
from reviewing import STANDARD
from sqlalchemy import select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from app import opt_outs, releases, reviews
from app.db import Database
from app.errors import Conflict, InvalidInput, NotFound
from app.opt_outs import Subject
from models import AuditEvent, Decision, Note, NoteReview, Resource, Review, TrainingOptOut
from schemas.review import AuditAction, Verdict
from schemas.statement import Action, AllergyCategory, Assertion, EvidenceSpan, Field, InfectionResult, Kind, Statement

ACCEPT, REJECT = Verdict.ACCEPT, Verdict.REJECT
MISSED = Statement(kind=Kind.CONDITION, fields={Field.NAME: span("高血圧")})


def accept_all(session: Session, note_id: UUID, by: str = "dr-1") -> UUID:
    review = reviews.get_review(session, note_id)
    for item in review.undecided:
        reviews.decide(session, item.id, ACCEPT, by=by, version=item.version)
    return review.run_id


# --- what waits -----------------------------------------------------------------------------------------------------


def test_each_statement_waits_with_its_resource(database: Database) -> None:
    note_id = stored(database)
    with database.session_scope() as session:
        items = reviews.open_items(session, note_id)
        assert [item.statement for item in items] == [CONDITION, ALLERGY, LAB]
        assert [item.resource and item.resource[0] for item in items] == ["Condition", "AllergyIntolerance", None]
        for item in items[:2]:
            assert item.resource is not None
            content = session.get_one(Resource, item.resource).content
            assert item.statement.name.quote in str(content)
    assert [item.read.held for item in items if item.read] == [False, False, True]
    assert [(item.version, item.verdict, item.explicit, item.added) for item in items] == [
        (0, None, False, False), (0, None, True, False), (0, None, False, False),
    ]  # fmt: skip


def test_a_note_without_a_result_cannot_be_reviewed(database: Database) -> None:
    note_id = stored(database, finished=False)
    with database.session_scope() as session, pytest.raises(Conflict, match="no result yet"):
        reviews.open_items(session, note_id)
    with database.session_scope() as session, pytest.raises(NotFound):
        reviews.open_items(session, uuid4())


def test_what_was_converted_before_reviews_were_kept_waits_too(database: Database) -> None:
    note_id = stored(database)
    with database.session_scope() as session:
        session.execute(text("ALTER TABLE note_reviews DISABLE TRIGGER USER"))
        session.execute(text("DELETE FROM note_reviews WHERE note_id = :id"), {"id": note_id})
        session.execute(text("ALTER TABLE note_reviews ENABLE TRIGGER USER"))
    assert len(items_of(database, note_id)) == 3


@pytest.mark.parametrize(("category", "needed"), [
    (AllergyCategory.MEDICATION, True), (AllergyCategory.OTHER, True), (None, True),
    (AllergyCategory.FOOD, False), (AllergyCategory.ENVIRONMENT, False),
])  # fmt: skip
def test_what_may_kill_needs_a_person(category: AllergyCategory | None, needed: bool) -> None:
    assert reviews.needs_person(ALLERGY.model_copy(update={"category": category})) is needed
    assert not reviews.needs_person(CONDITION)


# --- decisions ------------------------------------------------------------------------------------------------------


def test_accept_reject_amend_and_add_make_what_the_note_says(database: Database) -> None:
    note_id = stored(database)
    condition, allergy, lab = items_of(database, note_id)
    corrected = CONDITION.model_copy(update={"assertion": Assertion.PAST})
    with database.session_scope() as session:
        run_id = reviews.get_review(session, note_id).run_id
        reviews.decide(session, allergy.id, ACCEPT, by="dr-1", version=0)
        rejected = reviews.decide(session, lab.id, REJECT, by="dr-1", version=0, reason=" 別の患者 ")
        amended = reviews.amend(session, condition.id, corrected, by="dr-2", version=0)
        added = reviews.add(session, note_id, run_id, MISSED, by="dr-2")
    assert (rejected.version, rejected.verdict, amended.statement) == (
        1,
        REJECT,
        corrected.model_copy(update={"confidence": None}),
    )
    with database.session_scope() as session:
        review = reviews.get_review(session, note_id)
        assert review.undecided == []
        assert review.statements == [amended.statement, MISSED, ALLERGY]
        assert session.scalars(select(Decision.reason).where(Decision.review_id == lab.id)).one() == "別の患者"
        # A judgement is changed by another one: back to what was read, and what was added is taken back.
        assert reviews.decide(session, condition.id, ACCEPT, by="dr-1", version=1).statement == CONDITION
        assert reviews.decide(session, added.id, REJECT, by="dr-1", version=1).statement == MISSED
        assert reviews.get_review(session, note_id).statements == [CONDITION, ALLERGY]
        with pytest.raises(InvalidInput, match="no reading"):
            reviews.decide(session, added.id, ACCEPT, by="dr-1", version=2)
        releases.release(session, note_id, run_id, by="dr-1", standard=STANDARD)


def test_an_outdated_version_is_refused(database: Database) -> None:
    note_id = stored(database)
    item = items_of(database, note_id)[0]
    with database.session_scope() as session:
        reviews.decide(session, item.id, ACCEPT, by="dr-1", version=0)
    for version in (0, 2):
        with database.session_scope() as session, pytest.raises(Conflict, match="its version is 1"):
            reviews.decide(session, item.id, REJECT, by="dr-2", version=version)


def test_of_two_people_who_decide_at_once_one_is_told(database: Database) -> None:
    note_id = stored(database)
    item = items_of(database, note_id)[0]

    def decide(by: str) -> bool:
        try:
            with database.session_scope() as session:
                reviews.decide(session, item.id, ACCEPT, by=by, version=0)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(decide, ["a", "b", "c", "d"])) == [False, False, False, True]


def test_a_rule_may_accept_what_nobody_decided_but_no_drug_allergy(database: Database) -> None:
    note_id = stored(database)
    condition, allergy, _ = items_of(database, note_id)
    with database.session_scope() as session:
        with pytest.raises(InvalidInput, match="person's own decision"):
            reviews.decide(session, allergy.id, ACCEPT, by="dr-1", version=0, automatic=True)
        with pytest.raises(InvalidInput, match="only accept"):
            reviews.decide(session, condition.id, REJECT, by="dr-1", version=0, automatic=True)
        assert reviews.decide(session, condition.id, ACCEPT, by="dr-1", version=0, automatic=True).automatic
        with pytest.raises(InvalidInput, match="nobody has decided"):
            reviews.decide(session, condition.id, ACCEPT, by="dr-1", version=1, automatic=True)
    # The database refuses it too, whoever asks.
    values = {"review_id": allergy.id, "version": 1, "verdict": "accept", "automatic": True, "decided_by": "x"}
    for explicit, constraint in ((True, "ck_decisions_automatic"), (False, "fk_decisions_review_id_explicit")):
        with pytest.raises(IntegrityError, match=constraint), database.session_scope() as session:
            session.add(Decision(explicit=explicit, **values))


@pytest.mark.parametrize(("changes", "reason"), [
    ({"fields": {Field.NAME: EvidenceSpan(start=1, end=6, quote="2型糖尿病")}}, "name: the note does not have these"),
    ({"fields": {Field.NAME: EvidenceSpan(start=900, end=905, quote="2型糖尿病")}}, "900 to 905"),
    ({"fields": {Field.ONSET: span("2015年")}}, "no name"),
    ({"fields": {Field.NAME: span("2型糖尿病"), Field.DOSE: span("7.2")}}, "a condition has no dose"),
    ({"fields": {Field.NAME: EvidenceSpan(start=TEXT.index("\n"), end=TEXT.index("\n") + 1, quote="\n")}}, "white space"),
    ({"fields": {Field.NAME: span("2型糖尿病"), Field.RELATIVE: span("父")}}, "only a condition of the family"),
    ({"kind": Kind.LAB, "fields": {Field.NAME: span("HbA1c")}, "assertion": Assertion.ABSENT}, "a lab cannot be absent"),
    ({"kind": Kind.ALLERGY, "fields": {Field.NAME: span("ペニシリン")}}, "category: a allergy needs one"),
    ({"kind": Kind.PRESCRIPTION, "fields": {Field.NAME: span("ペニシリン")}}, "action: a prescription needs one"),
    ({"result": InfectionResult.POSITIVE}, "result: a condition has none"),
    ({"action": Action.STOP}, "action: a condition has none"),
])  # fmt: skip
def test_a_correction_must_be_what_the_note_says(database: Database, changes: dict[str, object], reason: str) -> None:
    note_id = stored(database)
    item = items_of(database, note_id)[0]
    wrong = CONDITION.model_copy(update=changes)
    with database.session_scope() as session:
        run_id = reviews.get_review(session, note_id).run_id
        with pytest.raises(InvalidInput, match=reason) as refused:
            reviews.amend(session, item.id, wrong, by="dr-1", version=0)
        assert not any(quote in str(refused.value) for quote in ("糖尿病", "ペニシリン", "HbA1c"))
        with pytest.raises(InvalidInput, match=reason):
            reviews.add(session, note_id, run_id, wrong, by="dr-1")
        assert len(reviews.open_items(session, note_id)) == 3


def test_nothing_is_said_twice(database: Database) -> None:
    note_id = stored(database)
    condition, allergy, _ = items_of(database, note_id)
    with database.session_scope() as session:
        run_id = reviews.get_review(session, note_id).run_id
        with pytest.raises(Conflict, match=str(condition.id)):
            reviews.add(session, note_id, run_id, CONDITION, by="dr-1")
        with pytest.raises(Conflict, match=str(condition.id)):
            reviews.amend(session, allergy.id, CONDITION, by="dr-1", version=0)
        reviews.decide(session, condition.id, REJECT, by="dr-1", version=0)
        assert reviews.add(session, note_id, run_id, CONDITION, by="dr-1").verdict is Verdict.ADD


@pytest.mark.parametrize("by", ["", "  ", "a\nb", "x" * 201])
def test_who_decides_must_be_named(database: Database, by: str) -> None:
    item = items_of(database, stored(database))[0]
    with database.session_scope() as session, pytest.raises(InvalidInput, match="must be named"):
        reviews.decide(session, item.id, ACCEPT, by=by, version=0)


# --- release --------------------------------------------------------------------------------------------------------


def test_a_note_is_released_when_all_is_decided_and_what_was_accepted_is_final(database: Database) -> None:
    note_id = stored(database)
    condition, _, lab = items_of(database, note_id)
    with database.session_scope() as session:
        run_id = reviews.get_review(session, note_id).run_id
        reviews.decide(session, condition.id, REJECT, by="dr-1", version=0)
        with pytest.raises(Conflict, match="2 statements are undecided, 1 of them on drug allergies"):
            releases.release(session, note_id, run_id, by="dr-1", standard=STANDARD)
        accept_all(session, note_id)
        released = releases.release(session, note_id, run_id, by="dr-9", standard=STANDARD)
        assert released.released_at is not None and released.released_by == "dr-9"
    with database.session_scope() as session:
        states = dict(session.execute(select(Resource.type, Resource.state).where(Resource.note_id == note_id)).all())
        assert states["AllergyIntolerance"] == "final" and states["Condition"] == "draft"
        with pytest.raises(Conflict, match="it is released"):
            releases.release(session, note_id, run_id, by="dr-1", standard=STANDARD)
        with pytest.raises(Conflict, match="it is released"):
            reviews.decide(session, lab.id, REJECT, by="dr-1", version=1)
        with pytest.raises(Conflict, match="it is released"):
            reviews.add(session, note_id, run_id, MISSED, by="dr-1")


def test_an_accepted_resource_with_an_error_stays_a_draft(database: Database) -> None:
    note_id = stored(database, faulty=("Condition",))
    with database.session_scope() as session:
        releases.release(session, note_id, accept_all(session, note_id), by="dr-1", standard=STANDARD)
    with database.session_scope() as session:
        states = dict(session.execute(select(Resource.type, Resource.state).where(Resource.note_id == note_id)).all())
    assert states["Condition"] == "draft" and states["AllergyIntolerance"] == "final"


def test_a_note_that_says_nothing_can_be_released(database: Database) -> None:
    note_id = stored(database, statements=[])
    with database.session_scope() as session:
        run_id = reviews.get_review(session, note_id).run_id
        assert releases.release(session, note_id, run_id, by="dr-1", standard=STANDARD).statements == []


# --- once more ------------------------------------------------------------------------------------------------------


def test_another_conversion_supersedes_the_review_and_carries_nothing_over(database: Database) -> None:
    note_id = stored(database)
    former = items_of(database, note_id)
    with database.session_scope() as session:
        run_id = accept_all(session, note_id)
    convert_again(database, note_id)
    with database.session_scope() as session:
        current = reviews.get_review(session, note_id)
        assert current.run_id != run_id and len(current.undecided) == 3
        assert {item.id for item in current.items}.isdisjoint({item.id for item in former})
        with pytest.raises(Conflict, match="converted again"):
            reviews.decide(session, former[0].id, REJECT, by="dr-1", version=1)
        with pytest.raises(Conflict, match="converted again"):
            reviews.add(session, note_id, run_id, MISSED, by="dr-1")
        with pytest.raises(Conflict, match="converted again"):
            releases.release(session, note_id, run_id, by="dr-1", standard=STANDARD)
        events = reviews.history(session, note_id)
    assert [event.action for event in events] == [AuditAction.ACCEPT] * 3 + [AuditAction.SUPERSEDE]
    assert events[-1].by == "hyojun"


def test_history_tells_who_did_what_in_order(database: Database) -> None:
    note_id = stored(database)
    condition, allergy, lab = items_of(database, note_id)
    corrected = CONDITION.model_copy(update={"assertion": Assertion.SUSPECTED})
    with database.session_scope() as session:
        reviews.amend(session, condition.id, corrected, by="dr-1", version=0, reason="疑いと書かれている")
        reviews.decide(session, condition.id, REJECT, by="dr-2", version=1)
        releases.release(session, note_id, accept_all(session, note_id, "dr-3"), by="dr-3", standard=STANDARD)
    with database.session_scope() as session:
        events = reviews.history(session, note_id)
        stored_events = session.scalars(
            select(AuditEvent).where(AuditEvent.note_id == note_id).order_by(AuditEvent.id)
        ).all()
        with pytest.raises(NotFound):
            reviews.history(session, uuid4())
    assert [(e.action, e.by, e.review_id, e.version) for e in events] == [
        ("amend", "dr-1", condition.id, 1), ("reject", "dr-2", condition.id, 2),
        ("accept", "dr-3", allergy.id, 1), ("accept", "dr-3", lab.id, 1), ("release", "dr-3", None, None),
    ]  # fmt: skip
    assert events[0].statement and events[0].statement.assertion is Assertion.SUSPECTED
    assert events[0].reason == "疑いと書かれている"
    assert all(e.recorded_at.tzinfo is not None for e in events)
    # The state before is the state that the event before left.
    assert stored_events[0].before is None and stored_events[1].before == stored_events[0].after
    assert all(e.after for e in stored_events)
    assert not any(mark in str(vars(e)) for e in stored_events for mark in ("糖尿病", "疑い"))


# --- the database ---------------------------------------------------------------------------------------------------


def test_the_database_lets_nobody_change_or_delete_what_was_decided(database: Database) -> None:
    note_id = stored(database)
    with database.session_scope() as session:
        accept_all(session, note_id)
    for statement in (
        "UPDATE decisions SET decided_by = 'x'", "DELETE FROM decisions", "TRUNCATE decisions",
        "UPDATE audit_events SET acted_by = 'x'", "DELETE FROM audit_events", "TRUNCATE audit_events",
        "UPDATE reviews SET explicit = false", "DELETE FROM reviews", "TRUNCATE reviews CASCADE",
        "DELETE FROM note_reviews", "TRUNCATE note_reviews CASCADE",
    ):  # fmt: skip
        with pytest.raises(DBAPIError, match="is append-only"), database.session_scope() as session:
            session.execute(text(statement))


def test_a_note_can_be_deleted_with_all_of_it_and_the_audit_stays(database: Database) -> None:
    note_id = stored(database)
    with database.session_scope() as session:
        run_id = accept_all(session, note_id)
    with database.session_scope() as session:
        session.execute(text("DELETE FROM notes WHERE id = :id"), {"id": note_id})
    with database.session_scope() as session:
        assert session.scalars(select(Review).where(Review.run_id == run_id)).all() == []
        assert len(session.scalars(select(AuditEvent).where(AuditEvent.note_id == note_id)).all()) == 3


@pytest.mark.parametrize(("values", "constraint"), [
    ({"version": 0, "verdict": "accept"}, "ck_decisions_version"),
    ({"version": 2, "verdict": "add", "statement": {}}, "ck_decisions_version"),
    ({"version": 1, "verdict": "accept", "statement": {}}, "ck_decisions_statement"),
    ({"version": 1, "verdict": "amend"}, "ck_decisions_statement"),
    ({"version": 1, "verdict": "maybe"}, "ck_decisions_verdict"),
    ({"version": 1, "verdict": "accept", "decided_by": ""}, "ck_decisions_not_empty"),
])  # fmt: skip
def test_the_database_refuses_what_is_no_decision(
    database: Database, values: dict[str, object], constraint: str
) -> None:
    item = items_of(database, stored(database))[0]
    with pytest.raises(IntegrityError, match=constraint), database.session_scope() as session:
        session.add(Decision(**({"review_id": item.id, "explicit": item.explicit, "decided_by": "x"} | values)))


def test_a_note_has_one_current_review_and_a_release_names_a_person(database: Database) -> None:
    note_id = stored(database)
    convert_again(database, note_id)
    with pytest.raises(IntegrityError, match="uq_note_reviews_current"), database.session_scope() as session:
        session.execute(update(NoteReview).where(NoteReview.note_id == note_id).values(superseded_at=None))
    with pytest.raises(IntegrityError, match="ck_note_reviews_released"), database.session_scope() as session:
        session.execute(text("UPDATE note_reviews SET released_at = now() WHERE note_id = :id"), {"id": note_id})


# --- opt-outs -------------------------------------------------------------------------------------------------------


def test_an_opt_out_covers_a_patient_or_a_note_and_can_be_ended(database: Database) -> None:
    note_id = stored(database)
    with database.session_scope() as session:
        note = session.get_one(Note, note_id)
        subjects = [Subject("emr", patient_id=note.patient_id), Subject("emr", note=note.external_id)]

    def covered() -> bool:
        with database.session_scope() as session:
            return bool(session.scalar(select(opt_outs.covers_note()).select_from(Note).where(Note.id == note_id)))

    for subject in subjects:
        assert not covered()
        with database.session_scope() as session:
            assert opt_outs.opt_out(session, replace(subject, source="other"), by="dr-1")
        assert not covered()
        with database.session_scope() as session:
            assert opt_outs.opt_out(session, subject, by="dr-1")
            assert not opt_outs.opt_out(session, subject, by="dr-2")
        assert covered()
        with database.session_scope() as session:
            assert subject in [one.subject for one in opt_outs.opt_outs(session)]
            opt_outs.opt_in(session, subject, by="dr-3")
            with pytest.raises(NotFound):
                opt_outs.opt_in(session, subject, by="dr-3")
            ended = session.scalars(select(TrainingOptOut).where(TrainingOptOut.ended_by == "dr-3")).all()
        with database.session_scope() as session:
            told = session.scalars(
                select(AuditEvent).where(AuditEvent.subject.in_([one.id for one in ended])).order_by(AuditEvent.id)
            )
            assert [event.action for event in told][-2:] == [AuditAction.OPT_OUT, AuditAction.OPT_IN]
    assert not covered()


def test_an_opt_out_is_of_one_thing() -> None:
    for wrong in ({}, {"patient_id": "1", "note": "n"}, {"patient_id": ""}):
        with pytest.raises(InvalidInput):
            Subject("emr", **wrong)
