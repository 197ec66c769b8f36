"""What was released reaches another FHIR server: once, whole, in order, and whatever goes wrong on the way."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from push_receiver import Got, Receiver, Reply, fhir_server, receiver
from released_notes import POLICY, add, again, deliveries, hurry, release, released, send
from reviewed_notes import READ, TEXT, stored
from sample_conversion import SampleConversion, convert, make_note
from sign_in import token
from sqlalchemy import delete, func, select, text, update

from app import destinations, jobs, outbox, push_fhir, running
from app.db import Database, json_loads
from app.errors import Conflict, NotFound
from app.fhir import Facility, ProvenanceSource, build_resources, check
from app.fhir.codes import RESOURCE_ID
from app.jobs import Policy
from app.outgoing import Secrets
from app.pusher import probe
from models import AuditEvent, Delivery, PushDestination, Resource
from schemas.job import JobState
from schemas.note import ChartNote
from schemas.push import DeliveryState, DestinationKind, DestinationState, PushLogin, PushMode
from schemas.record import Record

HERE = Path(__file__).parent
FHIR = DestinationKind.FHIR


@pytest.fixture
def clean(database: Database) -> Database:
    """The module's database, without destinations."""
    with database.session_scope() as session:
        session.execute(delete(PushDestination))
    return database


@pytest.fixture
def hospital() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


@pytest.fixture
def secrets(tmp_path: Path, other_database: Database) -> Path:
    (tmp_path / "token").write_text(token(other_database) + "\n")
    return tmp_path


def found(base: str, secrets: Path, path: str) -> list[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {(secrets / 'token').read_text().strip()}"}
    answer = httpx.get(f"{base}/{path}", headers=headers)
    assert answer.status_code == 200, answer.text
    return [entry["resource"] for entry in json_loads(answer.content).get("entry", [])]


# --- arriving ---------------------------------------------------------------------------------------------------------


def test_nothing_is_queued_or_sent_without_a_destination(clean: Database, tmp_path: Path) -> None:
    released(clean)
    assert deliveries(clean) == [] and send(clean, tmp_path) == 0


@pytest.mark.parametrize("mode", list(PushMode))
def test_released_resources_arrive_whole_and_once(
    clean: Database, other_database: Database, secrets: Path, mode: PushMode
) -> None:
    with fhir_server(other_database) as base:
        row, _ = add(clean, FHIR, base, mode=mode, login=PushLogin.BEARER, secret_file="token")
        note_id = released(clean, reject=("allergy",))
        assert send(clean, secrets) == 1
        (delivery,) = deliveries(clean)
        assert (delivery.state, delivery.status, delivery.note_id) == (DeliveryState.SENT, 200, note_id)
        # The same again, as after a crash between sending and putting it down.
        with clean.session_scope() as session:
            session.execute(update(Delivery).values(state="waiting", ended_at=None))
        assert send(clean, secrets) == 1
        # And another note of the same patient.
        released(clean, reject=("allergy",))
        assert send(clean, secrets) == 1
        (patient,) = found(base, secrets, "Patient")
        conditions = found(base, secrets, "Condition")
        documents = found(base, secrets, "DocumentReference")
        # Of each note one of the conversion, and one of the person who released it.
        assert len(conditions) == 2 and len(documents) == 2 and len(found(base, secrets, "Provenance")) == 4
        assert found(base, secrets, "AllergyIntolerance") == []
        assert {c["subject"]["reference"] for c in conditions} == {f"Patient/{patient['id']}"}
        evidence = {e["valueReference"]["reference"] for c in conditions for x in c["extension"] for e in x.get("extension", ())
                    if e["url"] == "reference"}  # fmt: skip
        assert evidence == {f"DocumentReference/{d['id']}" for d in documents}
    with clean.session_scope() as session:
        ours = set(session.scalars(select(Resource.id).where(Resource.type == "Condition")))
        told = session.scalars(select(AuditEvent).where(AuditEvent.subject == row.id).order_by(AuditEvent.id)).all()
    assert ({c["id"] for c in conditions} <= ours) is (mode is PushMode.UPDATE)
    assert [(event.action, event.outcome) for event in told[1:]] == [("push", "success")] * 3
    assert all(event.patients and event.ids for event in told[1:])


def test_a_sender_that_is_killed_before_it_can_put_down_what_it_sent_harms_nothing(
    clean: Database, other_database: Database, secrets: Path
) -> None:
    with fhir_server(other_database) as base, receiver() as between:
        add(clean, FHIR, between.url, login=PushLogin.BEARER, secret_file="token")
        released(clean)
        process: list[subprocess.Popen[bytes]] = []

        def pass_on(got: Got) -> None:
            headers = {k: v for k, v in got.headers.items() if k in ("authorization", "content-type", "prefer")}
            assert httpx.post(base, content=got.body, headers=headers).status_code == 200

        def pass_on_and_kill(got: Got) -> None:
            pass_on(got)
            process[0].send_signal(signal.SIGKILL)
            process[0].wait()

        between.script = [Reply(drop=True, before=pass_on_and_kill)]
        between.usual = Reply(200, before=pass_on)
        command = [sys.executable, str(HERE / "push_process.py"), clean.url, str(secrets)]
        env = os.environ | {"PYTHONPATH": str(HERE.parent.parent)}
        process.append(subprocess.Popen(command, env=env))
        assert process[0].wait(timeout=60) == -signal.SIGKILL
        (delivery,) = deliveries(clean)
        assert delivery.state is DeliveryState.WAITING
        assert send(clean, secrets) == 0  # the lease of the one that was killed
        hurry(clean)
        assert send(clean, secrets) == 1
        assert deliveries(clean)[0].state is DeliveryState.SENT
        assert len(between.got) == 2 and between.got[0].body == between.got[1].body
        assert len(found(base, secrets, "Patient")) == 1 and len(found(base, secrets, "Condition")) == 1


def test_whose_lease_ended_has_no_say_any_more(clean: Database, hospital: Receiver) -> None:
    row, _ = add(clean, FHIR, hospital.url)
    released(clean)
    with clean.session_scope() as session:
        first = outbox.claim(session, row.id, POLICY)
    with clean.session_scope() as session:
        assert first is not None and outbox.claim(session, row.id, POLICY) is None
        session.execute(update(Delivery).values(lease_until=func.now() - timedelta(seconds=1)))
    with clean.session_scope() as session:
        second = outbox.claim(session, row.id, POLICY)
    with clean.session_scope() as session:
        assert second is not None and (second.id, second.fence) == (first.id, first.fence + 1)
        assert outbox.claim(session, row.id, POLICY) is None
        assert not outbox.sent(session, first, 200, None) and not outbox.held(session, first, "late", POLICY)
        assert outbox.sent(session, second, 200, None) and not outbox.later(session, second, "again", POLICY)
    assert deliveries(clean)[0].state is DeliveryState.SENT


def test_the_bundle_is_valid_and_finds_what_is_there(clean: Database, hospital: Receiver, tmp_path: Path) -> None:
    """With an institution number the hospital's own identifiers are used, without one ours."""
    add(clean, FHIR, hospital.url)
    released(clean)
    send(clean, tmp_path)
    (got,) = hospital.take()
    assert got.headers["content-type"] == "application/fhir+json" and "authorization" not in got.headers
    bundle = got.json
    assert check(bundle, foreign=True) == []
    by_type = {entry["resource"]["resourceType"]: entry for entry in bundle["entry"]}
    assert list(by_type) == [
        "Patient", "DocumentReference", "Condition", "AllergyIntolerance", "Observation", "Provenance",
    ]  # fmt: skip
    patient = by_type["Patient"]
    own = {"system": "urn:ietf:rfc:3986", "value": patient["fullUrl"]}
    assert own in patient["resource"]["identifier"] and "id" not in patient["resource"]
    assert patient["request"] == {
        "method": "POST", "url": "Patient",
        "ifNoneExist": "identifier=" + f"urn:ietf:rfc:3986|{patient['fullUrl']}".replace(":", "%3A").replace("|", "%7C"),
    }  # fmt: skip
    condition = by_type["Condition"]
    assert condition["request"]["method"] == "PUT" and condition["request"]["url"].startswith(
        "Condition?identifier=urn"
    )
    assert condition["resource"]["subject"]["reference"] == patient["fullUrl"]
    provenance = by_type["Provenance"]
    assert provenance["request"]["url"] == f"Provenance/{provenance['resource']['id']}"
    # Of who released it: what was held until a person accepted it is written then.
    assert {t["reference"] for t in provenance["resource"]["target"]} == {
        condition["fullUrl"], by_type["AllergyIntolerance"]["fullUrl"], by_type["Observation"]["fullUrl"]
    }  # fmt: skip

    facility = Facility(name="病院", number="1312345678")

    def conversion(note: ChartNote, source: str) -> SampleConversion:
        made = convert(note, source)
        run = ProvenanceSource(
            run_id=made.run["id"], software_version="0", model="m", prompt="p", grammar="g", terminology="t"
        )
        records = [Record(statement=s, display=s.name.quote) for s in READ[:2]]
        resources, _ = build_resources(
            note, records, facility=facility, run=run, recorded=datetime.now(UTC), source=source
        )
        return replace(made, statements=list(READ[:2]), records=records, resources=resources)

    with clean.session_scope() as session:
        submission = jobs.submit(session, make_note(text=TEXT), "emr")
    assert running.run(clean, submission.job_id, conversion, worker="w", policy=Policy()) is JobState.DONE
    release(clean, submission.note_id)
    send(clean, tmp_path)
    (got,) = hospital.take()
    by_type = {entry["resource"]["resourceType"]: entry for entry in got.json["entry"]}
    assert by_type["Patient"]["request"]["ifNoneExist"].startswith("identifier=urn%3Aoid%3A1.2.392")
    assert RESOURCE_ID.rpartition("/")[2] in by_type["Condition"]["request"]["url"]
    # An institution's number is no identity of one of its departments.
    assert "rfc%3A3986" in by_type["Organization"]["request"]["ifNoneExist"]
    assert check(got.json, foreign=True) == []


def test_what_refers_to_a_resource_that_is_held_back_is_not_sent(
    clean: Database, hospital: Receiver, tmp_path: Path
) -> None:
    add(clean, FHIR, hospital.url)
    note = make_note(text=TEXT)
    note = note.model_copy(update={"patient": note.patient.model_copy(update={"id": "held"})})
    note_id = stored(clean, faulty=("Patient",), note=note)
    run_id = release(clean, note_id)
    with clean.session_scope() as session, pytest.raises(Conflict, match="held back"):
        push_fhir.transaction(session, note_id, run_id, base=hospital.url, mode=PushMode.CONDITIONAL)
    send(clean, tmp_path)
    (delivery,) = deliveries(clean)
    assert delivery.state is DeliveryState.DEAD and "which is held back" in (delivery.reason or "")
    assert hospital.got == []


def test_release_without_review_is_sent_too(clean: Database, hospital: Receiver, tmp_path: Path) -> None:
    add(clean, FHIR, hospital.url)
    with clean.session_scope() as session:
        submission = jobs.submit(session, make_note(), "emr")
    running.run(clean, submission.job_id, convert, worker="w", policy=Policy(release=True))
    assert send(clean, tmp_path) == 1
    (entry,) = [e for e in hospital.take()[0].json["entry"] if e["resource"]["resourceType"] == "Observation"]
    assert str(entry["resource"]["valueQuantity"]["value"]) == "1.10"


# --- order, retries, death --------------------------------------------------------------------------------------------


def test_a_newer_release_of_a_note_waits_for_the_older_one(clean: Database, hospital: Receiver, tmp_path: Path) -> None:
    add(clean, FHIR, hospital.url)
    first = released(clean)
    newer = again(clean, first)
    second = released(clean)
    hospital.script = [Reply(500)]
    assert send(clean, tmp_path) == 2
    older, held_up, other_note = deliveries(clean)
    assert (older.state, older.attempts, held_up.state, held_up.attempts) == ("waiting", 1, "waiting", 0)
    assert (other_note.note_id, other_note.state) == (second, "sent")
    hurry(clean)
    assert send(clean, tmp_path) == 2
    with clean.session_scope() as session:
        rows = session.execute(select(Delivery.subject).where(Delivery.note_id == first).order_by(Delivery.ended_at))
        assert [row.subject for row in rows][-1] == newer


def test_an_overloaded_receiver_is_left_alone_for_as_long_as_it_asks(
    clean: Database, hospital: Receiver, tmp_path: Path
) -> None:
    add(clean, FHIR, hospital.url)
    for _ in range(3):
        released(clean)
    hospital.script = [Reply(503, {"Retry-After": "600"})]
    assert send(clean, tmp_path) == 1 and send(clean, tmp_path) == 0
    with clean.session_scope() as session:
        (status,) = outbox.status(session)
        now = session.scalar(select(func.now()))
    assert now is not None and status.hold_until is not None
    assert timedelta(seconds=580) < status.hold_until - now <= timedelta(seconds=600)
    assert (status.waiting, status.failures, status.problem) == (3, 1, "HTTP 503")
    hurry(clean)
    assert send(clean, tmp_path) == 3
    with clean.session_scope() as session:
        (status,) = outbox.status(session)
        assert (status.waiting, status.sent, status.problem, status.failures) == (0, 3, None, 0)
        assert outbox.depth(session) == outbox.Depth(0, 0, None)


@pytest.mark.parametrize("reply", [Reply(401), Reply(403), Reply(404), Reply(302, {"Location": "/elsewhere"})])
def test_what_concerns_all_deliveries_kills_none(
    clean: Database, hospital: Receiver, tmp_path: Path, reply: Reply
) -> None:
    add(clean, FHIR, hospital.url)
    released(clean)
    hospital.usual = reply
    for _ in range(5):
        hurry(clean)
        assert send(clean, tmp_path) == 1
    (delivery,) = deliveries(clean)
    assert (delivery.state, delivery.attempts) == ("waiting", 0)
    assert [got.path for got in hospital.got] == ["/"] * 5  # no redirect was followed


def test_a_receiver_that_is_away_for_too_long_loses_what_is_too_old(
    clean: Database, hospital: Receiver, tmp_path: Path
) -> None:
    add(clean, FHIR, "http://127.0.0.1:9")  # discard: nobody listens
    released(clean)
    assert send(clean, tmp_path) == 1
    (delivery,) = deliveries(clean)
    assert (delivery.state, delivery.reason) == ("waiting", "no connection")
    hurry(clean)
    with clean.session_scope() as session:
        session.execute(text("UPDATE deliveries SET queued_at = now() - interval '8 days'"))
    assert send(clean, tmp_path) == 1
    (delivery,) = deliveries(clean)
    assert (delivery.state, delivery.reason) == ("dead", "no connection; given up after 168 h")


def test_a_secret_that_is_missing_is_a_fault_of_the_destination_and_not_of_the_delivery(
    clean: Database, hospital: Receiver, tmp_path: Path
) -> None:
    add(clean, FHIR, hospital.url, login=PushLogin.BEARER, secret_file="token")
    released(clean)
    assert send(clean, tmp_path) == 1 and hospital.got == []
    with clean.session_scope() as session:
        (status,) = outbox.status(session)
        asked = session.scalars(select(AuditEvent.action).where(AuditEvent.subject == status.id)).all()
    assert (status.waiting, status.problem) == (1, "the file token is not in PUSH_SECRETS_DIR")
    assert asked == ["admin"]  # added, and nothing left the house
    (tmp_path / "token").write_text("here")
    hurry(clean)
    assert send(clean, tmp_path) == 1 and hospital.got[0].headers["authorization"] == "Bearer here"


def test_a_bundle_that_is_refused_is_dead_until_it_is_replayed(
    clean: Database, hospital: Receiver, tmp_path: Path
) -> None:
    add(clean, FHIR, hospital.url)
    released(clean)
    said = {
        "severity": "error",
        "code": "invariant",
        "diagnostics": "検査花子 is wrong",
        "expression": ["Patient.name[0]", "検査"],
    }
    outcome = {"resourceType": "OperationOutcome", "issue": [said]}
    hospital.script = [Reply(422, body=json.dumps(outcome).encode())]
    send(clean, tmp_path)
    (delivery,) = deliveries(clean)
    assert (delivery.state, delivery.status, delivery.attempts) == ("dead", 422, 1)
    assert delivery.outcome == [{"severity": "error", "code": "invariant", "expression": ["Patient.name[0]"]}]
    with clean.session_scope() as session:
        with pytest.raises(Conflict, match="1 deliveries"):
            destinations.remove(session, "fhir", by="test")
        with pytest.raises(NotFound):
            outbox.replay(session, "nobody")
        assert outbox.replay(session, "fhir") == 1
    assert send(clean, tmp_path) == 1
    (delivery,) = deliveries(clean)
    assert (delivery.state, delivery.outcome) == ("sent", None)


def test_errors_within_a_bundle_are_errors(clean: Database, hospital: Receiver, tmp_path: Path) -> None:
    add(clean, FHIR, hospital.url)
    released(clean)
    outcome = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "duplicate"}]}
    entries = [{"response": {"status": "201"}}, {"response": {"status": "412 Precondition Failed", "outcome": outcome}}]
    bundle = {"resourceType": "Bundle", "type": "batch-response", "entry": entries}
    hospital.script = [Reply(200, body=json.dumps(bundle).encode())]
    send(clean, tmp_path)
    (delivery,) = deliveries(clean)
    assert (delivery.state, delivery.outcome) == ("dead", [{"severity": "error", "code": "duplicate"}])


@pytest.mark.parametrize("reply", [Reply(500), Reply(409), Reply(drop=True), Reply(seconds=0.8)])
def test_a_delivery_that_fails_again_and_again_is_given_up_and_others_go_on(
    clean: Database, hospital: Receiver, tmp_path: Path, reply: Reply
) -> None:
    add(clean, FHIR, hospital.url)
    released(clean)
    hospital.script = [reply] * 3
    quick = POLICY.model_copy(update={"timeout_seconds": 0.3})
    for attempts in (1, 2):
        send(clean, tmp_path, quick)
        (delivery,) = deliveries(clean)
        assert (delivery.state, delivery.attempts) == ("waiting", attempts)
        hurry(clean)
    send(clean, tmp_path, quick)
    (delivery,) = deliveries(clean)
    assert delivery.state == "dead" and "3 attempts" in (delivery.reason or "")
    released(clean)
    assert send(clean, tmp_path) == 1 and deliveries(clean)[1].state == "sent"


def test_a_paused_destination_gets_later_what_happened_meanwhile(
    clean: Database, hospital: Receiver, tmp_path: Path
) -> None:
    add(clean, FHIR, hospital.url)
    with clean.session_scope() as session:
        destinations.pause(session, "fhir")
    released(clean)
    assert send(clean, tmp_path) == 0 and len(deliveries(clean)) == 1
    with clean.session_scope() as session:
        destinations.resume(session, "fhir")
    assert send(clean, tmp_path) == 1
    with clean.session_scope() as session:
        assert session.scalars(select(PushDestination.state)).one() == DestinationState.ACTIVE
        destinations.remove(session, "fhir", by="test")
    assert deliveries(clean) == []


def test_a_probe_tells_whether_it_is_a_fhir_server(
    clean: Database, other_database: Database, hospital: Receiver, secrets: Path
) -> None:
    with fhir_server(other_database) as base:
        row, _ = add(clean, FHIR, base)
        assert probe(row, Secrets(secrets), POLICY) == "FHIR R4"
    hospital.usual = Reply(200, body=b'{"resourceType": "CapabilityStatement", "fhirVersion": "5.0.0"}')
    row, _ = add(clean, FHIR, hospital.url, name="five")
    with pytest.raises(Exception, match="does not speak FHIR R4"):
        probe(row, Secrets(secrets), POLICY)


def test_a_release_waits_for_a_destination_that_is_being_removed(clean: Database, hospital: Receiver) -> None:
    add(clean, FHIR, hospital.url)
    ended = []
    with clean.session_scope() as session:
        destinations.remove(session, "fhir", by="test")
        session.flush()
        releasing = threading.Thread(target=lambda: ended.append(released(clean)))
        releasing.start()
        releasing.join(timeout=0.5)
        assert releasing.is_alive() and not ended
    releasing.join(timeout=20)
    assert len(ended) == 1 and deliveries(clean) == []
