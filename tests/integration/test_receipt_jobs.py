"""The job of a claim on a real Postgres: checked by a worker, refused, tried again, cancelled, and checked anew."""

from datetime import timedelta
from uuid import UUID

import pytest
from receipt_files import Checker, chart_note, claim_ids, claim_lines, detail, take_in, uke
from reviewing import at, converted
from sample_conversion import convert
from sqlalchemy import select, text, update

from app import jobs, receipt_store, receipt_work, results, retention, running
from app.db import Database
from app.dispatch import dispatch_tick
from app.errors import Conflict, Unavailable
from app.jobs import ClaimedReceipt, Policy
from app.receipt_store import ClaimDetail
from app.receipt_work import Check
from models import Job
from schemas.issue import IssueType
from schemas.job import JobState
from schemas.receipt import Advice, Advised, Cited, ItemState, Reason
from schemas.statement import Assertion, EvidenceSpan, Field, Kind, Statement

POLICY = Policy(lease_seconds=30, max_attempts=2, interval_seconds=0.05, batch_seconds=60)
DRUG_LINE = 6
"""Of the only claim in the file."""


def job_of(database: Database, claim_id: UUID) -> Job:
    with database.session_scope() as session:
        return session.scalars(select(Job).where(Job.receipt_claim_id == claim_id)).one()


def one_claim(database: Database, number: int, chart_number: str = "0001") -> tuple[UUID, UUID]:
    """Ids of a file and of its claim."""
    file_id = take_in(database, uke(claim_lines(number, chart_number))).file_id
    return file_id, claim_ids(database, file_id)[0]


def run(database: Database, claim_id: UUID, check: Check | None) -> JobState | None:
    given = receipt_work.checking(database, check) if check else None
    return running.run(database, job_of(database, claim_id).id, convert, worker="w", policy=POLICY, check=given)


def drug_finding(found: ClaimDetail) -> str:
    return next(item.finding.row for item in found.items if item.finding and item.line == DRUG_LINE)


def advice(reference: str, comment: str = "", evidence: Cited | None = None, line: int = DRUG_LINE) -> Advice:
    return Advice(
        line=line, action=Advised.ADD_DISEASE, reason=Reason.DISEASE_MISSING_FOR_DRUG, reference=reference, comment=comment,
        evidence=evidence,
    )  # fmt: skip


def test_a_claim_is_checked_with_its_chart_and_its_rows_are_replaced(fresh_database: Database) -> None:
    note = "腰痛症。ロキソニン処方。"
    read = Statement(kind=Kind.CONDITION, assertion=Assertion.PRESENT, fields={Field.NAME: at(note, "腰痛症")})
    sent = chart_note(note)
    note_id = converted(
        fresh_database, note, [read], patient_id="1", date=sent.date, id="n1"
    )  # the sample's patient was born on the claim's day
    file_id, claim_id = one_claim(fresh_database, 1)
    before = detail(fresh_database, claim_id)
    row = drug_finding(before)
    evidence = Cited(note_id=str(note_id), span=EvidenceSpan(start=0, end=3, quote="腰痛症"))
    checker = Checker(advice(row, "腰痛症を追加", evidence), advice("chart", "カルテと照合"))
    assert run(fresh_database, claim_id, checker) is JobState.DONE

    (claim, entries), *more = checker.seen
    assert not more and claim == before.claim
    assert [(entry.note_id, entry.text) for entry in entries] == [(str(note_id), note)]
    assert [record.statement for record in entries[0].records] == [read]
    after = detail(fresh_database, claim_id)
    at_drug = [(item.finding and item.finding.row, item.advice and item.advice.comment) for item in after.items if item.line == 6]
    assert at_drug == [(row, "腰痛症を追加"), (None, "カルテと照合")]
    assert len(after.items) == len(before.items) + 1
    assert after.run == {"model": "0123456789abcdef"} and after.issues == [] and after.row.checked_at
    with fresh_database.session_scope() as session:
        assert receipt_store.progress(session, file_id).done == 1
        status = results.job_status(session, job_of(fresh_database, claim_id).id)
        assert (status["state"], status["note_id"]) == ("done", None)
        assert len(receipt_store.patients_of_claim(session, claim_id)) == 1

    # A note that goes takes its words with it.
    with fresh_database.session_scope() as session:
        session.execute(text("UPDATE notes SET received_at = now() - interval '400 days'"))
    retention.purge(fresh_database, retention.Old(timedelta(days=365)), by="os:test", force=True, with_resources=True)
    left = detail(fresh_database, claim_id)
    assert left.notes == [] and [item.advice.evidence for item in left.items if item.advice] == [None, None]


def test_what_was_decided_stays_when_a_claim_is_checked_again(database: Database) -> None:
    file_id, claim_id = one_claim(database, 2)
    row = drug_finding(detail(database, claim_id))
    assert run(database, claim_id, Checker(advice(row, "一"))) is JobState.DONE
    chosen = next(item for item in detail(database, claim_id).items if item.advice)
    with database.session_scope() as session:
        receipt_store.decide(session, chosen.id, 0, ItemState.ACCEPTED, None, "user:7")
        assert receipt_store.recheck(session, claim_id=claim_id) == 1
        assert receipt_store.recheck(session, file_id=file_id) == 0  # it waits already
    assert run(database, claim_id, Checker(advice(row, "二"), advice("claims", "三"))) is JobState.DONE
    items = [item for item in detail(database, claim_id).items if item.line == DRUG_LINE]
    said = {(item.state, item.finding is not None, item.advice.comment) for item in items if item.advice}
    assert said == {(ItemState.ACCEPTED, True, "一"), (ItemState.OPEN, False, "三")}
    assert chosen.id in {item.id for item in items}


def test_a_note_that_is_not_converted_is_told(database: Database) -> None:
    with database.session_scope() as session:
        note_id = jobs.submit(session, chart_note("膝痛。", "33"), "emr").note_id
    _, claim_id = one_claim(database, 3, "0033")
    checker = Checker()
    assert run(database, claim_id, checker) is JobState.DONE
    assert [(entry.text, entry.records) for entry in checker.seen[0][1]] == [("膝痛。", ())]
    found = detail(database, claim_id)
    assert [(issue.code, str(note_id) in issue.text) for issue in found.issues] == [(IssueType.INCOMPLETE, True)]


@pytest.mark.parametrize("wrong", [advice("chart", line=1), advice("limits:0"), advice("chart", evidence=Cited(
    note_id="11111111-1111-1111-1111-111111111111", span=EvidenceSpan(start=0, end=1, quote="腰")))])  # fmt: skip
def test_advice_that_cites_what_is_not_there_is_not_stored(fresh_database: Database, wrong: Advice) -> None:
    _, claim_id = one_claim(fresh_database, 4)
    before = detail(fresh_database, claim_id).items
    assert run(fresh_database, claim_id, Checker(wrong)) is JobState.QUEUED
    assert detail(fresh_database, claim_id).items == before


def test_a_failed_check_is_tried_again_and_ends_with_its_reason(database: Database) -> None:
    def away(*_: object) -> None:
        raise Unavailable("the model is away")

    file_id, claim_id = one_claim(database, 5)
    for state in (JobState.QUEUED, JobState.FAILED):
        assert run(database, claim_id, away) is state
        with database.session_scope() as session:
            session.execute(update(Job).values(run_after=text("now()")))
    found = detail(database, claim_id)
    assert found.row.job is JobState.FAILED and "the model is away" in (found.row.reason or "")
    assert found.items and found.row.checked_at is None
    with database.session_scope() as session:
        jobs.requeue(session, job_of(database, claim_id).id)
    assert run(database, claim_id, Checker()) is JobState.DONE
    with database.session_scope() as session:
        assert receipt_store.progress(session, file_id).done == 1


def test_a_worker_without_a_checker_says_so(database: Database) -> None:
    _, claim_id = one_claim(database, 6)
    assert run(database, claim_id, None) is JobState.FAILED
    assert "checks no claims" in (job_of(database, claim_id).reason or "")


def test_cancelled_while_it_runs_its_work_is_refused(database: Database) -> None:
    file_id, claim_id = one_claim(database, 7)
    with database.session_scope() as session:
        claimed = jobs.claim(session, job_of(database, claim_id).id, "w", POLICY)
    assert isinstance(claimed, ClaimedReceipt)
    work = receipt_work.checking(database, Checker())(claim_id)
    with database.session_scope() as session:
        assert receipt_store.cancel(session, file_id) == 1
    with pytest.raises(Conflict), database.session_scope() as session:
        receipt_work.complete(session, claimed, work)
    with database.session_scope() as session:
        assert receipt_store.progress(session, file_id).cancelled == 1
        assert receipt_store.cancel(session, file_id) == 0


def test_notes_and_claims_wait_in_one_queue(fresh_database: Database) -> None:
    with fresh_database.session_scope() as session:
        note_job = jobs.submit(session, chart_note("膝痛。"), "emr").job_id
    many = take_in(fresh_database, uke(*(claim_lines(n) for n in range(1, 52)))).file_id
    sent: list[UUID] = []
    assert dispatch_tick(fresh_database, sent.append, POLICY) == 52
    assert sent[0] == note_job  # 51 claims are a batch
    checker = Checker()
    made = running.work(
        fresh_database, note_job, convert, worker="w", policy=POLICY, slots=4,
        check=receipt_work.checking(fresh_database, checker),
    )  # fmt: skip
    assert made == 52 and len(checker.seen) == 51
    with fresh_database.session_scope() as session:
        assert receipt_store.progress(session, many).done == 51
        assert jobs.get_job(session, note_job).state == JobState.DONE
