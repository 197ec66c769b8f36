"""fhirpy and fhirclient, the two FHIR clients of Python, against a real server."""

import json
import time
from collections.abc import Iterator
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from fhirclient.client import FHIRClient
from fhirclient.models.fhirsearch import FHIRSearch
from fhirclient.models.observation import Observation
from fhirclient.models.patient import Patient
from fhirclient.server import FHIRNotFoundException, FHIRPermissionDeniedException
from fhirpy import SyncFHIRClient
from fhirpy.base.exceptions import AuthorizationError, OperationOutcome, ResourceNotFound
from served import LOINC, SYSTEM, Hospital, fill, hospital, patient

from app import smart
from app.db import Database

# --- fhirpy -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(database: Database) -> Iterator[Hospital]:
    with hospital(database) as made:
        fill(made)
        yield made


@pytest.fixture(scope="module")
def fhirpy(place: Hospital) -> SyncFHIRClient:
    return SyncFHIRClient(place.url, authorization=f"Bearer {place.token}")


def test_fhirpy_creates_changes_and_deletes(fhirpy: SyncFHIRClient) -> None:
    made = fhirpy.resource("Patient", **{k: v for k, v in patient("F1").items() if k != "resourceType"})
    made.save()
    assert made.id and made["meta"]["versionId"] == "1"
    made["birthDate"] = "1950-01-03"
    made.save()  # PUT
    assert made["meta"]["versionId"] == "2"
    made.patch(gender="male")  # a merge patch, as application/json
    assert (made["gender"], made["meta"]["versionId"], made["birthDate"]) == ("male", "3", "1950-01-03")
    made.refresh()  # sends a version that is no ETag: it is given the resource, whatever it says
    assert fhirpy.reference("Patient", made.id).to_resource()["gender"] == "male"
    made.delete()
    with pytest.raises(ResourceNotFound):
        fhirpy.reference("Patient", made.id).to_resource()
    assert made.is_valid()


def test_fhirpy_searches(fhirpy: SyncFHIRClient, place: Hospital) -> None:
    found = fhirpy.resources("Observation").search(patient=place.patients["P0"], code=f"{LOINC}|4548-4")
    assert found.count() == place.observations
    assert [o["effectiveDateTime"] for o in found.sort("-date").limit(2)] == [
        f"2026-04-0{day}" for day in range(place.observations, 0, -1)
    ]  # iterating follows the next links
    chained = fhirpy.resources("Observation").search(patient__identifier=f"{SYSTEM}|P1").include("Observation", "subject")
    kinds = [resource.resourceType for resource in chained.fetch_all()]
    assert kinds.count("Observation") == place.observations
    assert fhirpy.resources("Patient").search(identifier=f"{SYSTEM}|P2").get().id == place.patients["P2"]
    assert fhirpy.resources("Patient").search(identifier=f"{SYSTEM}|none").first() is None


def test_fhirpy_get_or_create_makes_no_duplicate(fhirpy: SyncFHIRClient) -> None:
    """It puts its condition into the address of a POST, which R4 does not know: ignored, it would create each time."""
    of_one = fhirpy.resources("Patient").search(identifier=f"{SYSTEM}|P0")
    with pytest.raises(OperationOutcome) as refused:
        of_one.get_or_create(fhirpy.resource("Patient", **{k: v for k, v in patient("P0").items() if k != "resourceType"}))
    assert "If-None-Exist" in json.dumps(refused.value.resource)
    assert of_one.count() == 1
    changed, created = of_one.update(fhirpy.resource("Patient", identifier=patient("P0")["identifier"], gender="other"))
    assert (changed["gender"], created) == ("other", False)  # a conditional update


def test_fhirpy_is_told_why(fhirpy: SyncFHIRClient, place: Hospital) -> None:
    with pytest.raises(OperationOutcome):
        fhirpy.resource("Patient", birthDate="yesterday").save()
    with pytest.raises(OperationOutcome):
        fhirpy.resources("Observation").search(date="yesterday").fetch()
    with pytest.raises(AuthorizationError):
        SyncFHIRClient(place.url).resources("Patient").fetch()


# --- fhirclient: SMART Backend Services -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fhirclient(place: Hospital) -> FHIRClient:
    """Signed in with a key of its own, registered as an administrator would."""
    key = ec.generate_private_key(ec.SECP384R1())
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key())) | {"kid": "one", "alg": "ES384"}
    with place.database.session_scope() as session:
        smart.register(session, "warehouse", "Warehouse", {"keys": [public]}, scopes=["system/*.rs"], by="test")
    claims = {
        "iss": "warehouse", "sub": "warehouse", "aud": f"{place.root}/auth/token", "jti": str(uuid4()),
        "exp": int(time.time()) + 240,
    }  # fmt: skip
    assertion = jwt.encode(claims, key, algorithm="ES384", headers={"kid": "one"})
    settings = {"app_id": "warehouse", "api_base": place.url, "scope": "system/*.read", "jwt_token": assertion}
    client = FHIRClient(settings=settings)
    client.wants_patient = False
    assert not client.prepare()  # reads /metadata, finds the token endpoint there, and has no token yet
    client.authorize()
    assert client.ready
    return client


def test_fhirclient_reads_the_capabilities(fhirclient: FHIRClient) -> None:
    stated = fhirclient.server.capabilityStatement
    assert stated.fhirVersion == "4.0.1"
    (rest,) = stated.rest
    observation = next(resource for resource in rest.resource if resource.type == "Observation")
    assert {"patient", "code", "date"} <= {parameter.name for parameter in observation.searchParam}


def test_fhirclient_reads_and_searches_over_all_pages(fhirclient: FHIRClient, place: Hospital) -> None:
    found = Patient.read(place.patients["P1"], fhirclient.server)
    assert found.identifier[0].value == "P1"
    searched = FHIRSearch(Observation, {"patient": place.patients["P1"], "_count": "1", "_sort": "date"})
    days = [one.effectiveDateTime.isostring[:10] for one in searched.perform_resources_iter(fhirclient.server)]
    assert days == [f"2026-04-0{day + 1}" for day in range(place.observations)]


def test_fhirclient_is_told_why(fhirclient: FHIRClient, place: Hospital) -> None:
    with pytest.raises(FHIRNotFoundException) as missing:
        Patient.read("none", fhirclient.server)
    assert missing.value.response.json()["resourceType"] == "OperationOutcome"
    with pytest.raises(FHIRPermissionDeniedException) as forbidden:
        Patient({"name": [{"text": "x"}]}).create(fhirclient.server)
    assert forbidden.value.response.json()["resourceType"] == "OperationOutcome"
