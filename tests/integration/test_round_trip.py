"""What a client reads is what was stored: every digit of a decimal and every character of an instant, through Postgres
and the HTTP faces. FHIR: a decimal's precision is significant (https://hl7.org/fhir/R4/datatypes.html#decimal)."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import format_datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_conversion import convert, make_note
from sign_in import headers, principal
from sqlalchemy import JSON, literal, select
from sqlalchemy.dialects.postgresql import JSONB
from starlette.testclient import TestClient

from app import jobs, results
from app.db import Database, json_dumps, json_loads
from app.fhir import dumps, loads
from app.jobs import Policy
from app.main import create_app
from app.settings import Settings
from app.store import versions

# As they are written; those that Python writes with an exponent have no other form with as many digits.
DECIMALS = (
    "1.10", "100", "0.0", "0.100", "-5.0", "0.000001", "1E-7", "1.20E-9", "7.0000000000000000000001",
    "12345678901234567890.123456789", "18446744073709551616", "123456789012345678901234567890",
)  # fmt: skip
INSTANTS = (
    "2026-04-01T09:30:00.100+09:00",
    "2026-04-01T00:30:00.000Z",
    "2026-03-31T23:59:59.999-03:30",
    "2026-04-01T00:30:00Z",
    "2026-04-01T09:30:00.000000+09:00",
    "2016-12-31T23:59:60.000Z",  # a leap second, which Python has no value for
)


@pytest.fixture(scope="module")
def client(database: Database) -> Iterator[TestClient]:
    app = create_app(Settings(database_url=database.url, _env_file=None), database)
    with TestClient(app, raise_server_exceptions=False, headers=headers(database)) as client:
        yield client


def observation(digits: str, instant: str) -> dict[str, Any]:
    value = Decimal(digits)
    return {
        "resourceType": "Observation",
        "id": str(uuid4()),
        "meta": {"lastUpdated": instant, "profile": ["http://example.org/p"]},
        "extension": [{"url": "http://example.org/e", "valueDecimal": value}],
        "status": "final",
        "code": {"text": "CRP"},
        "effectiveDateTime": instant,
        "issued": instant,
        "referenceRange": [{"low": {"value": value}, "high": {"value": value}}],
        "valueQuantity": {"value": value, "unit": "mg/dL"},
    }


def store(database: Database, *resources: dict[str, Any]) -> UUID:
    """The note whose conversion brought `resources`, through the functions that a worker calls."""
    note = make_note()
    with database.session_scope() as session:
        submission = jobs.submit(session, note, "test")
        claim = jobs.claim(session, submission.job_id, "test", Policy())
    assert claim
    conversion = replace(convert(note, "test"), resources=list(resources))
    with database.session_scope() as session:
        jobs.complete(session, claim, conversion)
    return submission.note_id


def read(client: TestClient, resource: dict[str, Any]) -> Any:
    response = client.get(f"/fhir/{resource['resourceType']}/{resource['id']}")
    assert response.status_code == 200, response.text
    return response


@pytest.mark.parametrize("digits", DECIMALS)
def test_decimals_keep_their_digits(client: TestClient, database: Database, digits: str) -> None:
    stored = observation(digits, INSTANTS[0])
    note_id = store(database, stored)
    with database.session_scope() as session:
        [kept] = results.note_result(session, note_id).resources
        assert versions.read(session, "Observation", stored["id"], principal()).content == kept
    assert dumps(kept) == dumps(stored)

    bundle = client.get(f"/api/notes/{note_id}/bundle")
    for text in (read(client, stored).text, bundle.text, dumps(kept)):
        assert re.findall(r'"value":([-0-9][^,}]*)', text) == [digits] * 3
        assert re.findall(r'"valueDecimal":([^,}]*)', text) == [digits]
    [entry] = loads(bundle.content)["entry"]
    assert dumps(entry["resource"]) == dumps(stored)


@pytest.mark.parametrize("instant", INSTANTS)
def test_instants_keep_their_fraction_and_zone(client: TestClient, database: Database, instant: str) -> None:
    stored = observation("1.0", instant)
    note_id = store(database, stored)
    served = read(client, stored)
    assert served.text.count(f'"{instant}"') == 2
    assert client.get(f"/api/notes/{note_id}/bundle").text.count(f'"{instant}"') == 3
    # When a version was stored is the server's to say: https://hl7.org/fhir/R4/resource.html#Meta
    stamp = loads(served.content)["meta"]["lastUpdated"]
    with database.session_scope() as session:
        at = versions.read(session, "Observation", stored["id"], principal()).last_updated
    assert datetime.fromisoformat(stamp) == at
    assert served.headers["last-modified"] == format_datetime(at.astimezone(UTC), usegmt=True)


def test_only_what_tells_the_version_is_added(client: TestClient, database: Database) -> None:
    first = observation("1.10", INSTANTS[0])
    second = observation("1.1", INSTANTS[1]) | {"id": first["id"]}
    for version, stored in enumerate((first, second), 1):
        store(database, stored)
        served = read(client, stored)
        meta = loads(served.content)["meta"]
        assert (meta["versionId"], meta["profile"], meta["tag"][0]["code"]) == (str(version), ["http://example.org/p"], "draft")
        assert served.text == dumps(stored | {"meta": meta})
        assert served.headers["etag"] == f'W/"{version}"'
        same = client.get(served.request.url.path, headers={"If-None-Match": served.headers["etag"]})
        assert (same.status_code, same.headers["last-modified"]) == (304, served.headers["last-modified"])


# Postgres' numeric keeps digits and scale but neither a zero's sign nor an exponent above zero; no builder writes these.
_DECIMALS = (
    st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?", fullmatch=True)
    .map(Decimal)
    .filter(lambda value: bool(value) or not value.is_signed())
)
_INSTANTS = st.builds(
    lambda at, fraction, zone: f"{at:%Y-%m-%dT%H:%M:%S}{fraction}{zone}",
    st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2999, 1, 1)),  # noqa: DTZ001
    st.from_regex(r"(\.[0-9]{1,9})?", fullmatch=True),
    st.from_regex(r"Z|[+-](0[0-9]|1[0-3]):[0-5][0-9]", fullmatch=True),
)


@settings(max_examples=150, deadline=None)
@given(value=_DECIMALS, instant=_INSTANTS)
def test_text_and_jsonb_keep_any_decimal_and_instant(database: Database, value: Decimal, instant: str) -> None:
    resource = observation(str(value), instant)
    text = dumps(resource)
    assert len(re.findall(rf'"value(?:Decimal)?":{re.escape(str(value))}[,}}]', text)) == 4
    assert text.count(f'"{instant}"') == 3
    assert dumps(loads(text)) == text
    with database.session_scope() as session:
        for type_ in (JSONB(), JSON()):
            kept = session.scalar(select(literal(resource, type_=type_)))
            assert dumps(kept) == text
            # What was read can be stored again.
            assert dumps(json_loads(json_dumps(kept))) == text
