"""schemathesis over /openapi.json: whatever it makes up is answered as the description says, and never with a fault of ours.

Each operation gets a few examples, the same ones in every run, from somebody who may do everything.
"""

import os
from collections.abc import Iterator

import httpx
import hypothesis
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance
from served import Hospital, fill, hospital
from sign_in import token

from app.db import Database

EXAMPLES = int(os.environ.get("HYOJUN_EXAMPLES", "5"))
"""Of each operation; more of them are for a night."""


@pytest.fixture(scope="module")
def place(database: Database) -> Iterator[Hospital]:
    with hospital(database) as made:
        fill(made, patients=1, observations=1)
        made.token = token(database)
        yield made


def faults(place: Hospital, operation: schemathesis.APIOperation) -> str | None:
    """What was wrong with the answers to the examples of one operation."""
    checks = [status_code_conformance, content_type_conformance]
    if not operation.path.startswith("/v1/"):  # without a worker there is no model: 503, as described
        checks.append(not_a_server_error)

    @hypothesis.settings(
        max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck), verbosity=hypothesis.Verbosity.quiet,
    )  # fmt: skip
    @hypothesis.given(case=operation.as_strategy())
    def holds(case: schemathesis.Case) -> None:
        case.call_and_validate(headers={"Authorization": f"Bearer {place.token}"}, checks=checks, timeout=30)

    try:
        holds()
    except FailureGroup as found:  # each operation is asked, whatever the others answered
        return f"{operation.label}: {found.message}"
    return None


def test_every_operation(place: Hospital) -> None:
    authorization = {"Authorization": f"Bearer {place.token}"}
    described = schemathesis.openapi.from_url(f"{place.root}/openapi.json", headers=authorization)
    operations = [found.ok() for found in described.get_all_operations()]
    assert len(operations) > 50
    found = [fault for operation in operations if (fault := faults(place, operation))]
    assert not found, "\n\n".join(found)


def test_what_it_once_found(place: Hospital) -> None:
    """An address with U+0000, which went as far as the database."""
    for path in ("/api/patients/%00/ssmix2.zip", "/api/notes?source=%00", "/fhir/Patient?identifier=%00", "/fhir/Patient/%00"):
        response = httpx.get(place.root + path, headers={"Authorization": f"Bearer {place.token}"})
        assert response.status_code in (400, 404, 405), path
