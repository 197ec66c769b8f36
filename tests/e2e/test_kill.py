"""The worker with the model, killed with SIGKILL in the middle of a note."""

import os
import signal
import subprocess
from uuid import UUID, uuid4

import pytest
from installation import JOB_SECONDS, STOP_SECONDS, Installation, group_of, kill_group, make_note, wait_until
from sqlalchemy import select

from app import jobs
from app.intake import note_from
from models import Job, NoteStatement, Resource, Run, Ssmix2Message

pytestmark = pytest.mark.timeout(900)

# Long enough to be in the middle of it, whatever the model makes of its lines.
LONG = "\n".join(f"{day}日目 体温36.{day % 10} 血圧{110 + day}/70 CRP {day}.{day % 7} 食事{day % 10}割。" for day in range(1, 41))


def submit(installation: Installation, text: str) -> UUID:
    with installation.database.session_scope() as session:
        return jobs.submit(session, note_from(make_note(text)), "emr").job_id


def job(installation: Installation, job_id: UUID) -> Job:
    with installation.database.session_scope() as session:
        return jobs.get_job(session, job_id)


def finished(installation: Installation, *ids: UUID) -> bool:
    def check() -> bool:
        return all(job(installation, job_id).state in ("done", "failed") for job_id in ids)

    assert wait_until(check, JOB_SECONDS), installation.log("worker")
    assert [job(installation, job_id).state for job_id in ids] == ["done"] * len(ids), installation.log("worker")
    return True


def only_run(installation: Installation, job_id: UUID) -> UUID:
    """The one run that the job's note has; everything that came out of the note is of it, and is there once."""
    note_id = job(installation, job_id).note_id
    with installation.database.session_scope() as session:
        [run] = session.scalars(select(Run.id).where(Run.note_id == note_id))
        resources = session.execute(
            select(Resource.type, Resource.id, Resource.version, Resource.job_id, Resource.run_id)
            .where(Resource.note_id == note_id)
        ).all()  # fmt: skip
        messages = session.execute(
            select(Ssmix2Message.kind, Ssmix2Message.order_no, Ssmix2Message.care_date, Ssmix2Message.job_id)
            .where(Ssmix2Message.note_id == note_id)
        ).all()  # fmt: skip
        assert set(session.scalars(select(NoteStatement.run_id).where(NoteStatement.note_id == note_id))) <= {run}
    assert {"Patient", "DocumentReference"} <= {row.type for row in resources}
    assert {(row.version, row.job_id, row.run_id) for row in resources} == {(1, job_id, run)}
    assert len({(row.type, row.id) for row in resources}) == len(resources)
    assert "ADT-00" in {row.kind for row in messages} and {row.job_id for row in messages} == {job_id}
    assert len({(row.kind, row.order_no, row.care_date) for row in messages}) == len(messages)
    return run


def busy_worker(installation: Installation) -> tuple["subprocess.Popen[bytes]", dict[str, UUID]]:
    """A worker that has done one note, is in the middle of the next, and has a third before it: it has one slot."""
    ids = {"before": submit(installation, f"HbA1c 7.1 %。{uuid4().hex}")}
    worker = installation.start("worker", job_lease_seconds=5, job_redispatch_seconds=5, model_slots=1)
    finished(installation, ids["before"])  # so the model is loaded, and what takes time now is the note
    ids["long"] = submit(installation, f"{LONG}\n{uuid4().hex}")
    running = wait_until(lambda: job(installation, ids["long"]).state == "running", JOB_SECONDS)
    assert running, installation.log("worker")
    ids["meanwhile"] = submit(installation, f"2型糖尿病。{uuid4().hex}")
    return worker, ids


def test_a_note_whose_worker_is_killed_is_finished_by_the_next_once(installation: Installation) -> None:
    worker, ids = busy_worker(installation)
    before = only_run(installation, ids["before"])
    kill_group(worker)
    left = job(installation, ids["long"])
    assert (left.state, left.attempts) == ("running", 1)
    assert job(installation, ids["meanwhile"]).state == "queued"

    second = installation.start("worker", job_redispatch_seconds=5)
    finished(installation, ids["long"], ids["meanwhile"])
    row = job(installation, ids["long"])
    assert (row.attempts, row.fence) == (2, 2)
    only_run(installation, ids["long"])
    assert job(installation, ids["meanwhile"]).attempts == 1
    only_run(installation, ids["meanwhile"])
    assert only_run(installation, ids["before"]) == before and job(installation, ids["before"]).attempts == 1
    second.send_signal(signal.SIGTERM)
    assert second.wait(STOP_SECONDS) == 0


def test_a_pool_process_whose_parent_is_killed_harms_nothing(installation: Installation) -> None:
    worker, ids = busy_worker(installation)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    second = installation.start("worker", job_redispatch_seconds=5)
    finished(installation, ids["long"], ids["meanwhile"])
    # The pool process may have handed in its note, or the next worker did it again: one of them did, not both.
    assert job(installation, ids["long"]).attempts in (1, 2)
    only_run(installation, ids["long"])
    only_run(installation, ids["meanwhile"])
    assert wait_until(lambda: not group_of(worker), STOP_SECONDS), "a pool process waits for a parent that is gone"
    second.send_signal(signal.SIGTERM)
    assert second.wait(STOP_SECONDS) == 0


def test_notes_that_were_read_together_are_finished_by_the_next_worker_once_each(installation: Installation) -> None:
    first = submit(installation, f"HbA1c 7.1 %。{uuid4().hex}")
    worker = installation.start("worker", job_lease_seconds=5, job_redispatch_seconds=5, model_slots=4)
    finished(installation, first)
    ids = [submit(installation, f"{LONG}\n{uuid4().hex}") for _ in range(4)]
    together = wait_until(lambda: [job(installation, one).state for one in ids] == ["running"] * 4, JOB_SECONDS)
    assert together, installation.log("worker")
    kill_group(worker)
    second = installation.start("worker", job_redispatch_seconds=5, model_slots=4)
    finished(installation, *ids)
    for one in ids:
        assert (job(installation, one).attempts, job(installation, one).fence) == (2, 2)
        only_run(installation, one)
    second.send_signal(signal.SIGTERM)
    assert second.wait(STOP_SECONDS) == 0
