"""Hyojun as other systems meet it: a real server on a real port, filled through its own FHIR face."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
from sign_in import headers, principal

from app.db import Database
from app.main import create_app
from app.settings import Settings

SYSTEM = "urn:oid:1.2.392.100495.20.3.51.1"
LOINC = "http://loinc.org"
CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"


@dataclass
class Hospital:
    """`url`: the FHIR base. `patients`: ids by number; `observations`: how many each has."""

    url: str
    token: str
    database: Database
    patients: dict[str, str] = field(default_factory=dict)
    observations: int = 0
    group: str = ""

    @property
    def root(self) -> str:
        return self.url.removesuffix("/fhir")


@contextmanager
def hospital(database: Database) -> Iterator[Hospital]:
    """Serves in a thread until the end of the block."""
    app = create_app(Settings(database_url=database.url, _env_file=None), database)
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, lifespan="on", timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        who = principal(scopes=["system/*.cruds"], name="tests")
        token = headers(database, who)["Authorization"].removeprefix("Bearer ")
        yield Hospital(f"http://127.0.0.1:{listening.getsockname()[1]}/fhir", token, database)
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def fill(place: Hospital, *, patients: int = 3, observations: int = 4) -> None:
    """One transaction: patients, each with results that have a category and a code, and a Group of the first two."""
    entries: list[dict[str, Any]] = []
    for n in range(patients):
        entries.append(posted(patient(f"P{n}"), f"urn:uuid:00000000-0000-4000-8000-00000000000{n}"))
        for day in range(observations):
            entries.append(posted(observation(entries[-1 - day]["fullUrl"], f"2026-04-0{day + 1}")))
    members = [{"entity": {"reference": entry["fullUrl"]}} for entry in entries if entry["resource"]["resourceType"] == "Patient"]
    entries.append(posted({"resourceType": "Group", "type": "person", "actual": True, "member": members[:2]}))
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    response = httpx.post(place.url, json=bundle, headers={"Authorization": f"Bearer {place.token}"}, timeout=30)
    assert response.status_code == 200, response.text
    written = [entry["response"]["location"].split("/_history")[0].split("/")[-2:] for entry in response.json()["entry"]]
    place.patients = {f"P{n}": id_ for n, id_ in enumerate(id_ for type_, id_ in written if type_ == "Patient")}
    place.observations = observations
    place.group = written[-1][1]


def posted(resource: dict[str, Any], full_url: str | None = None) -> dict[str, Any]:
    entry = {"resource": resource, "request": {"method": "POST", "url": resource["resourceType"]}}
    return entry if full_url is None else {"fullUrl": full_url, **entry}


def patient(number: str) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "identifier": [{"system": SYSTEM, "value": number}],
        "name": [{"family": "検査", "given": ["花子"]}],
        "gender": "female",
        "birthDate": "1950-01-02",
    }


def observation(subject: str, day: str) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "category": [{"coding": [{"system": CATEGORY, "code": "laboratory"}]}],
        "code": {"coding": [{"system": LOINC, "code": "4548-4"}]},
        "subject": {"reference": subject},
        "effectiveDateTime": day,
        "valueQuantity": {"value": 6.5, "unit": "%", "system": "http://unitsofmeasure.org", "code": "%"},
    }
