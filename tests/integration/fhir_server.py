"""The FHIR face on a real Postgres, signed in, and small resources to put into it."""

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any
from uuid import uuid4

from sample_conversion import convert, make_note
from sign_in import headers
from starlette.testclient import TestClient

from app import jobs, running
from app.db import Database
from app.fhir import dumps, loads
from app.jobs import Policy
from app.main import create_app
from app.settings import Settings
from schemas.access import Principal
from schemas.job import JobState

Json = dict[str, Any]
SYSTEM = "urn:oid:1.2.392.100495.20.3.51.1"
JSON = {"Content-Type": "application/fhir+json"}


@contextmanager
def server(database: Database, who: Principal | None = None) -> Iterator[TestClient]:
    settings = Settings(database_url=database.url, _env_file=None)
    app = create_app(settings, database)
    with TestClient(app, raise_server_exceptions=False, follow_redirects=False) as client:
        client.headers.update(headers(database, who))
        yield client


def number() -> str:
    """A patient's number that no other test uses."""
    return uuid4().hex[:12]


def patient(value: str | None = None, **more: Any) -> Json:
    return {
        "resourceType": "Patient",
        "identifier": [{"system": SYSTEM, "value": value or number()}],
        "name": [{"family": "検査", "given": ["花子"]}],
        "gender": "female",
        "birthDate": "1950-01-02",
    } | more


def observation(subject: str, value: str = "1.10", **more: Any) -> Json:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "4548-4", "display": "HbA1c"}]},
        "subject": {"reference": subject},
        "effectiveDateTime": "2026-04-01",
        "valueQuantity": {"value": Decimal(value), "unit": "%", "system": "http://unitsofmeasure.org", "code": "%"},
    } | more


def send(client: TestClient, method: str, path: str, resource: Any, **stated: str) -> Any:
    """`if_match="…"` becomes the header If-Match."""
    told = JSON | {name.replace("_", "-"): value for name, value in stated.items()}
    content = resource if isinstance(resource, bytes | str) else dumps(resource)
    return client.request(method, path, content=content, headers=told)


def created(client: TestClient, resource: Json) -> Json:
    response = send(client, "POST", f"/fhir/{resource['resourceType']}", resource)
    assert response.status_code == 201, response.text
    return loads(response.content)  # .json() would make floats of decimals


def refused(response: Any, status: int, code: str | None = None) -> str:
    """Every error is an OperationOutcome; all that its issues say."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/fhir+json"
    body = response.json()
    assert body["resourceType"] == "OperationOutcome" and body["issue"]
    for issue in body["issue"]:
        assert issue["severity"] in ("error", "fatal") and issue["code"] and issue["diagnostics"]
    if code is not None:
        assert code in {issue["code"] for issue in body["issue"]}
    return str(response.text)


def bundle(*entries: Json, type_: str = "transaction") -> Json:
    return {"resourceType": "Bundle", "type": type_, "entry": list(entries)}


def entry(method: str, url: str, resource: Json | None = None, full_url: str | None = None, **stated: str) -> Json:
    made: Json = {"request": {"method": method, "url": url, **stated}}
    if resource is not None:
        made["resource"] = resource
    if full_url is not None:
        made["fullUrl"] = full_url
    return made


def converted(database: Database, *, release: bool) -> str:
    """A note is converted; the id of its Observation."""
    note = make_note()
    with database.session_scope() as session:
        submission = jobs.submit(session, note, "emr")
    state = running.run(database, submission.job_id, convert, worker="w", policy=Policy(release=release))
    assert state is JobState.DONE
    return f"obs-{note.id}"[:64]
