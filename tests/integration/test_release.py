"""A resource with an error waits for a person: it is stored, never released, and no other system is given it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sample_conversion import SampleConversion, convert, make_note
from sign_in import headers
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from app import jobs, running
from app.db import Database
from app.jobs import Policy
from app.main import create_app
from app.settings import Settings
from models import NoteStatement, ReleaseState, Resource
from schemas.coding import Candidate, Coding
from schemas.job import JobState

CANDIDATE = Candidate(coding=Coding(system="urn:x", code="1", display="近い名"), score=0.7, reason="trigram")


def stored(database: Database, *, release: bool, held: bool) -> tuple[UUID, str, str]:
    """Runs a job; the note's id, and the ids of its Observation and Patient."""
    note = make_note()

    def conversion(note: Any, source: str) -> SampleConversion:
        made = convert(note, source)
        key = (made.resources[0]["resourceType"], made.resources[0]["id"])
        return replace(made, held=frozenset({key} if held else ()), candidates={0: [CANDIDATE]})

    with database.session_scope() as session:
        submission = jobs.submit(session, note, "emr")
    state = running.run(database, submission.job_id, conversion, worker="w", policy=Policy(release=release))
    assert state is JobState.DONE
    return submission.note_id, f"obs-{note.id}"[:64], f"pat-{note.patient.id}"


def states(database: Database, note_id: UUID) -> dict[str, tuple[str, bool]]:
    with database.session_scope() as session:
        rows = session.execute(select(Resource.type, Resource.state, Resource.valid).where(Resource.note_id == note_id))
        return {type_: (state, valid) for type_, state, valid in rows}


@pytest.fixture
def client(database: Database) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(database_url=database.url)), headers=headers(database)) as made:
        yield made


def test_without_a_person_everything_is_a_draft(database: Database) -> None:
    note_id, _, _ = stored(database, release=False, held=False)
    assert states(database, note_id) == {"Observation": ("draft", True), "Patient": ("draft", True)}


def test_release_without_review_leaves_the_faulty_one_behind(database: Database) -> None:
    note_id, _, _ = stored(database, release=True, held=True)
    assert states(database, note_id) == {"Observation": ("draft", False), "Patient": ("final", True)}


def test_the_database_refuses_to_release_a_faulty_one(database: Database) -> None:
    note_id, _, _ = stored(database, release=False, held=True)
    with pytest.raises(IntegrityError, match="ck_resources_valid"), database.session_scope() as session:
        session.execute(update(Resource).where(Resource.note_id == note_id).values(state=ReleaseState.FINAL))


def test_no_client_is_given_a_faulty_one(database: Database, client: TestClient) -> None:
    note_id, observation, patient = stored(database, release=False, held=True)
    answer = client.get(f"/fhir/Observation/{observation}")
    assert answer.status_code == 404 and "held back" in answer.text
    assert client.get(f"/fhir/Patient/{patient}").status_code == 200
    bundle = client.get(f"/api/notes/{note_id}/bundle").json()
    assert [entry["resource"]["resourceType"] for entry in bundle["entry"]] == ["Patient"]


@pytest.mark.parametrize("release", [False, True])
def test_what_a_machine_wrote_is_marked_until_it_is_released(database: Database, client: TestClient, release: bool) -> None:
    note_id, _, _ = stored(database, release=release, held=False)
    answer = client.get(f"/api/notes/{note_id}/bundle")
    assert answer.status_code == 200 and answer.headers["Hyojun-Drafts"] == str(not release).lower()


def test_what_came_near_an_uncoded_name_is_kept_for_review(database: Database) -> None:
    note_id, _, _ = stored(database, release=False, held=False)
    with database.session_scope() as session:
        near = session.scalars(select(NoteStatement.candidates).where(NoteStatement.note_id == note_id)).one()
    assert [Candidate.model_validate(one) for one in near] == [CANDIDATE]
