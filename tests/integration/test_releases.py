"""A release makes FHIR and SS-MIX2 say what people judged, and a withdrawal takes it back, on a real Postgres."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from agreement import differences
from loaded_tables import concept, load
from released_notes import add, deliveries
from reviewing import STANDARD, accept_rest, at, converted, items_by_name, run_job, starter
from sample_conversion import make_note
from sqlalchemy import func, insert, select

from app import fhir, jobs, patients, releases, replay, reviews, standardize
from app.db import Database
from app.errors import Conflict, InvalidInput
from app.fhir.origin import is_taken_back, made_of, taken_back
from app.ssmix2 import DataKind, Facility
from app.storage_export import Storages
from app.terminology import local
from app.terminology.importers import load_starter
from models import Note, Release, Resource, Run, Ssmix2Message
from schemas import systems
from schemas.coding import Coding
from schemas.push import DestinationKind
from schemas.review import AuditAction, Verdict
from schemas.statement import Action, AllergyCategory, Assertion, Field, Kind, Statement

TEXT = "肺炎の疑い。高血圧症。胃潰瘍あり。\nペニシリンで発疹。卵で蕁麻疹\nHbA1c 7.2 %\nアムロジピン錠5mg 1錠 分1 朝食後 14日分"
SENDER = Facility("架空総合病院")
BY = "user:1"


def said(kind: Kind, name: str, **more: Any) -> Statement:
    fields = {Field(field): at(TEXT, quote) for field, quote in {"name": name, **more.pop("fields", {})}.items()}
    return Statement(kind=kind, fields=fields, **more)


PNEUMONIA = said(Kind.CONDITION, "肺炎", confidence=0.7)
PRESSURE = said(Kind.CONDITION, "高血圧症", confidence=0.9)
ULCER = said(Kind.CONDITION, "胃潰瘍", confidence=0.4)
EGG = said(Kind.ALLERGY, "卵", fields={"reaction": "蕁麻疹"}, category=AllergyCategory.FOOD)
HBA1C = said(Kind.LAB, "HbA1c", fields={"value": "7.2", "unit": "%"}, confidence=0.8)
DRUG = said(
    Kind.PRESCRIPTION, "アムロジピン錠5mg", fields={"dose": "1錠", "usage": "分1 朝食後", "days": "14日分"}, action=Action.PRESCRIBE
)
READ = (PNEUMONIA, PRESSURE, ULCER, EGG, HBA1C, DRUG)
PENICILLIN = said(Kind.ALLERGY, "ペニシリン", fields={"reaction": "発疹"}, category=AllergyCategory.MEDICATION)
SUSPECTED = PNEUMONIA.model_copy(update={"assertion": Assertion.SUSPECTED})


@pytest.fixture(scope="module", autouse=True)
def tables(database: Database) -> None:
    with database.session_scope() as session:
        load_starter(session)


def finals(database: Database, note_id: UUID) -> list[dict[str, Any]]:
    """What a reader without drafts finds of the note, in its order."""
    with database.session_scope() as session:
        rows = session.scalars(
            select(Resource).where(Resource.note_id == note_id, Resource.state == "final").order_by(Resource.version)
        )
        newest = {(row.type, row.id): row for row in rows}
        return [
            row.content for row in sorted(newest.values(), key=lambda row: row.ordinal) if not is_taken_back(row.content)
        ]


def names(contents: list[dict[str, Any]], type_: str) -> list[str]:
    return [one["code"]["text"] for one in contents if one["resourceType"] == type_]


def files(database: Database, note_id: UUID) -> patients.PatientFiles:
    with database.session_scope() as session:
        return patients.patient_files(session, "emr", session.get_one(Note, note_id).patient_id, SENDER)


def reviewed(database: Database, patient_id: str) -> tuple[UUID, UUID]:
    """A note of which one thing was amended, one added, one rejected, and the rest accepted; and its run. One was held."""
    note_id = converted(database, TEXT, READ, held=[2], patient_id=patient_id)
    with database.session_scope() as session:
        items = items_by_name(session, note_id)
        reviews.amend(session, items["肺炎"].id, SUSPECTED, by=BY, version=0)
        run_id = reviews.get_review(session, note_id).run_id
        reviews.add(session, note_id, run_id, PENICILLIN, by=BY)
        reviews.decide(session, items["高血圧症"].id, Verdict.REJECT, by=BY, version=0)
        accept_rest(session, note_id)
    return note_id, run_id


def release(database: Database, note_id: UUID, run_id: UUID) -> None:
    with database.session_scope() as session:
        releases.release(session, note_id, run_id, by=BY, standard=STANDARD)


def test_fhir_and_ssmix2_say_what_was_judged(database: Database) -> None:
    note_id, run_id = reviewed(database, "2000001")
    release(database, note_id, run_id)
    resources = finals(database, note_id)
    assert names(resources, "Condition") == ["肺炎", "胃潰瘍"]
    (pneumonia, _) = (one for one in resources if one["resourceType"] == "Condition")
    assert pneumonia["verificationStatus"]["coding"][0]["code"] == "unconfirmed"
    assert {one["code"]["text"] for one in resources if one["resourceType"] == "AllergyIntolerance"} == {"卵", "ペニシリン"}
    made = files(database, note_id)
    assert differences(resources, [message for message, _ in made.messages]) == []
    told = "".join(message.text for message, _ in made.messages)
    assert "ペニシリン" in told and "胃潰瘍" in told and "高血圧" not in told
    bundle = fhir.collection(made.notes[0].note, resources, datetime.now(UTC))
    assert not fhir.held_back(fhir.check(bundle, text=TEXT))
    with database.session_scope() as session:
        versions = {(row.type, row.version, row.state, row.written_by) for row in session.scalars(
            select(Resource).where(Resource.run_id == run_id, Resource.id == pneumonia["id"])
        )}  # fmt: skip
        (deed,) = releases.releases(session, note_id)
        which = releases.released_versions(session, deed.id)
        assert which[items_by_name(session, note_id)["肺炎"].id] == ("Condition", pneumonia["id"], 2)
        # What the conversion wrote is still told as it was: a run can be repeated.
        job_id = session.get_one(Run, run_id).job_id
        stored = replay.load(session, job_id, by="test")
        assert len(stored.output["messages"]) + len(made.messages) > 0 and stored.recorded is not None
    assert versions == {("Condition", 1, "draft", None), ("Condition", 2, "final", BY)}
    proofs = [one for one in resources if one["resourceType"] == "Provenance"]
    (proof,) = [one for one in proofs if one["agent"][0]["type"]["coding"][0]["code"] == "verifier"]
    assert proof["agent"][0]["who"]["identifier"]["value"] == BY
    assert {one["reference"] for one in proof["target"]} == {
        f"{one['resourceType']}/{one['id']}" for one in resources if one["resourceType"] in releases.READ
    }


def test_a_run_is_repeated_as_it_was_after_its_release(database: Database) -> None:
    note_id, run_id = reviewed(database, "2000002")
    with database.session_scope() as session:
        before = replay.load(session, session.get_one(Run, run_id).job_id, by="test").output
    release(database, note_id, run_id)
    with database.session_scope() as session:
        assert replay.load(session, session.get_one(Run, run_id).job_id, by="test").output == before


def test_a_release_is_withdrawn_and_can_be_made_again(database: Database, tmp_path: Path) -> None:
    add(database, DestinationKind.WEBHOOK, "http://127.0.0.1:9/hook", http=True)
    note_id, run_id = reviewed(database, "2000003")
    storages = Storages(tmp_path, SENDER)
    storages.open("emr")
    release(database, note_id, run_id)
    before = finals(database, note_id)
    (queued,) = [one for one in deliveries(database) if one.subject == run_id]

    def write() -> dict[str, dict[str, int]]:
        with database.session_scope() as session:
            written = storages.write_patient(session, "emr", "2000003", datetime.now(UTC))
        return {"new": dict(written.new), "deleted": dict(written.deleted)}

    assert write()["new"].keys() >= {"PPR-01", "ADT-61", "OML-11", "OMP-01"}
    with database.session_scope() as session, pytest.raises(InvalidInput, match="reason"):
        releases.withdraw(session, note_id, by=BY, reason=" ")
    with database.session_scope() as session:
        undone = releases.withdraw(session, note_id, by="user:2", reason="別の患者")
    assert sorted(key[0] for key in undone.resources) == [
        "AllergyIntolerance", "AllergyIntolerance", "Condition", "Condition", "MedicationRequest", "Observation",
    ]  # fmt: skip
    assert {kind for kind, _ in undone.messages} >= {"PPR-01", "ADT-61", "OML-11", "OMP-01"}
    left = {one["resourceType"] for one in finals(database, note_id)}
    assert left == {"Patient", "DocumentReference", "Organization", "Provenance"}
    with database.session_scope() as session:
        review = reviews.get_review(session, note_id)
        assert review.released_at is None and review.undecided == []  # its decisions stay
        events = [event.action for event in reviews.history(session, note_id)]
        assert events[-1] is AuditAction.WITHDRAW
        (deed,) = releases.releases(session, note_id)
        assert (deed.withdrawn_by, deed.reason) == ("user:2", "別の患者")
        for content in session.scalars(
            select(Resource.content).where(Resource.run_id == run_id, Resource.written_by == "user:2")
        ):
            assert not fhir.held_back(fhir.check(content, text=TEXT))
        with pytest.raises(Conflict, match="nothing is released"):
            releases.withdraw(session, note_id, by=BY, reason="x")
    assert write()["deleted"].keys() == {"PPR-01", "ADT-61", "OML-11", "OMP-01"}
    release(database, note_id, run_id)
    again = finals(database, note_id)
    assert [one["id"] for one in again if one["resourceType"] in releases.READ] == [
        one["id"] for one in before if one["resourceType"] in releases.READ
    ]
    assert differences(again, [message for message, _ in files(database, note_id).messages]) == []
    assert write()["new"].keys() >= {"PPR-01", "ADT-61", "OML-11", "OMP-01"}
    # Each time the newest state is sent.
    (resent,) = [one for one in deliveries(database) if one.subject == run_id]
    assert resent.id == queued.id and resent.queued_at > queued.queued_at


def test_what_a_former_result_had_released_and_the_new_one_does_not_say_is_taken_back(database: Database) -> None:
    note_id = converted(database, TEXT, [PNEUMONIA, PRESSURE], patient_id="2000004")
    with database.session_scope() as session:
        run_id = accept_rest(session, note_id)
    release(database, note_id, run_id)
    assert names(finals(database, note_id), "Condition") == ["肺炎", "高血圧症"]
    with database.session_scope() as session:
        job_id = jobs.resubmit(session, note_id).job_id
    run_job(database, job_id, [PRESSURE])
    with database.session_scope() as session:
        run_id = accept_rest(session, note_id)
    release(database, note_id, run_id)
    resources = finals(database, note_id)
    assert names(resources, "Condition") == ["高血圧症"]
    assert differences(resources, [message for message, _ in files(database, note_id).messages]) == []


def test_a_preview_is_what_a_release_writes(database: Database) -> None:
    note_id = converted(database, TEXT, [PNEUMONIA, PRESSURE], patient_id="2000005")
    with database.session_scope() as session:
        item = items_by_name(session, note_id)["肺炎"]
        seen = STANDARD.standardized(session, note_id, PENICILLIN)
        assert not seen.refused and seen.resource is not None and seen.record.reactions == ("発疹",)
        assert STANDARD.standardized(session, note_id, SUSPECTED, review_id=item.id).record.date is None
        wrong = PENICILLIN.model_copy(update={"category": None})
        with pytest.raises(InvalidInput, match="category"):
            STANDARD.standardized(session, note_id, wrong)
        run_id = reviews.get_review(session, note_id).run_id
        reviews.add(session, note_id, run_id, PENICILLIN, by=BY)
        accept_rest(session, note_id)
    release(database, note_id, run_id)
    (written,) = [one for one in finals(database, note_id) if one["resourceType"] == "AllergyIntolerance"]
    assert {**written, "meta": None} == {**seen.resource, "meta": None}


def test_a_chosen_code_is_one_that_a_table_has(database: Database) -> None:
    note_id = converted(database, TEXT, [PNEUMONIA, HBA1C], patient_id="2000006")
    ulcer = Coding(system=systems.ICD10, code="K259", display="胃潰瘍")
    with database.session_scope() as session:
        known = STANDARD.lexicon(session).lookup(Kind.CONDITION, "胃潰瘍")
        assert known is not None
        ulcer = known.codings[0]
        items = items_by_name(session, note_id)
        for wrong in (Coding(system=ulcer.system, code="Z99X", display="?"), Coding(system="urn:x", code="1", display="1")):
            with pytest.raises(InvalidInput, match="no table that is loaded"):
                reviews.amend(session, items["肺炎"].id, PNEUMONIA, by=BY, version=0, coding=wrong)
        made = reviews.amend(session, items["肺炎"].id, PNEUMONIA, by=BY, version=0, coding=ulcer, seconds=12.5)
        assert made.coding is not None and made.coding.code == ulcer.code
        local.set_local(session, Kind.LAB, "A1C-9", "当院HbA1c", None, "test")
        own = Coding(system=systems.LOCAL_LAB, code="A1C-9", display="?")
        assert reviews.chosen_coding(session, Kind.LAB, own).display == "当院HbA1c"
        run_id = accept_rest(session, note_id)
    release(database, note_id, run_id)
    with database.session_scope() as session:
        told = reviews.history(session, note_id)[0]
        assert told.seconds == 12.5 and told.coding == made.coding
    resources = finals(database, note_id)
    (condition,) = [one for one in resources if one["resourceType"] == "Condition"]
    assert condition["code"]["text"] == "肺炎" and ulcer.code in {one["code"] for one in condition["code"]["coding"]}
    assert differences(resources, [message for message, _ in files(database, note_id).messages]) == []


def test_a_correction_with_an_error_is_refused_and_nothing_is_released(database: Database) -> None:
    note_id = converted(database, TEXT, [HBA1C, PRESSURE], patient_id="2000009")
    code, name = "9Z999000000000001", "架空検査"
    load(database, systems.CORE_LAB, "test", [concept(Kind.LAB, code, name, (systems.CORE_LAB, code, name))])
    with database.session_scope() as session:
        chosen = Coding(system=systems.CORE_LAB, code=code, display=name)
        item = items_by_name(session, note_id)["HbA1c"]
        reviews.amend(session, item.id, HBA1C, by=BY, version=0, coding=chosen)
        # The tables with which it is written do not have that item: it was taken out since.
        assert STANDARD.standardized(session, note_id, HBA1C, coding=chosen, review_id=item.id).refused
        run_id = accept_rest(session, note_id)
    with pytest.raises(InvalidInput, match=f"item {item.id}: a check found an error") as refused:
        release(database, note_id, run_id)
    assert "HbA1c" not in str(refused.value) and name not in str(refused.value)
    assert finals(database, note_id) == []
    with database.session_scope() as session:
        assert reviews.get_review(session, note_id).released_at is None and releases.releases(session, note_id) == []


def test_an_earlier_release_without_records_can_be_withdrawn(database: Database) -> None:
    """As a rule, or a former version, released it: without a row of its own."""
    note_id = converted(database, TEXT, [PRESSURE], patient_id="2000007")
    with database.session_scope() as session:
        session.execute(
            Resource.__table__.update().where(Resource.note_id == note_id).values(state="final")
        )
    with database.session_scope() as session:
        undone = releases.withdraw(session, note_id, by=BY, reason="誤り")
        assert [key[0] for key in undone.resources] == ["Condition"] and undone.messages == []
    assert {message.kind for message, _ in files(database, note_id).messages} == {DataKind.PATIENT}


def test_the_database_holds_one_release_in_force(database: Database) -> None:
    note_id, run_id = reviewed(database, "2000008")
    release(database, note_id, run_id)
    with pytest.raises(Exception, match="uq_releases_in_force"), database.session_scope() as session:
        session.execute(insert(Release).values(run_id=run_id, note_id=note_id, released_by="x"))
    with database.session_scope() as session:
        messages = session.scalar(
            select(func.count()).where(Ssmix2Message.note_id == note_id, Ssmix2Message.release_id.is_not(None))
        )
        assert messages


def test_what_the_note_tells_twice_keeps_its_resource() -> None:
    """Its evidence has the other place too."""
    (found,), _ = standardize.records([PRESSURE], datetime(2026, 4, 1, tzinfo=UTC).date(), starter())
    twice = found.model_copy(update={"also": (at(TEXT, "胃潰瘍"),)})
    run = fhir.ProvenanceSource(run_id="r", software_version="0", model="m", prompt="p", grammar="g", terminology="t")
    built, _ = fhir.build_resources(make_note(text=TEXT), [twice], run=run, recorded=datetime.now(UTC))
    (condition,) = [one for one in built if one["resourceType"] == "Condition"]
    assert made_of(condition, PRESSURE, twice.also) and not made_of(condition, PRESSURE)


def test_each_type_taken_back_obeys_its_rules() -> None:
    moment = datetime(2026, 4, 1, tzinfo=UTC)
    condition = {
        "resourceType": "Condition", "id": "c", "clinicalStatus": {"coding": []}, "verificationStatus": {},
        "meta": {"profile": ["http://jpfhir.jp/fhir/eCS/StructureDefinition/JP_Condition_eCS"]},
    }  # fmt: skip
    made = taken_back(condition, moment)
    assert "clinicalStatus" not in made and made["meta"]["profile"] == ["http://jpfhir.jp/fhir/core/StructureDefinition/JP_Condition"]
    assert is_taken_back(made) and not is_taken_back(condition)
    assert is_taken_back(taken_back({"resourceType": "Observation", "id": "o", "status": "final"}, moment))
