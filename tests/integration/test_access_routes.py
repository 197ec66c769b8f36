"""Every route of the application with every role, with machines, and with nobody: who is let through is what a table says."""

import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from fastapi.routing import iter_route_contexts
from sign_in import headers, principal
from starlette.testclient import TestClient

from app.db import Database
from app.main import create_app
from app.settings import Settings
from app.web.permissions import RULES, Need, plain, rule_of
from schemas.access import Principal, Right, Role

# One column each: nobody; integrator; reviewer; admin; a machine with the scope of a type that is not asked for; a machine
# with neither scope nor right. `.` is 401, `x` 403, `o` anything else.
TABLE = """
oooooo GET /healthz, /readyz, /login, /setup, /login/oidc, /fhir/metadata
oooooo GET /.well-known/smart-configuration, /fhir/.well-known/smart-configuration
oooooo GET /static/{}
oooooo POST /setup, /auth/token
xxxxxx POST /login
...... GET /login/oidc/callback
.ooooo GET /, /openapi.json
.xxxxx GET /account
.xxxxx POST /account/password, /logout, /language
.xxoxx GET /metrics, /api/audit, /api/users, /api/clients
.xxoxx POST /api/users, /api/users/{}/link, /api/clients
.xxoxx PATCH /api/users/{}, /api/clients/{}
.xxoxx GET /admin, /admin/users, /admin/clients, /admin/system, /admin/audit, /admin/audit/checks/{}
.xxoxx GET /admin/terminology, /admin/terminology/imports/{}, /admin/terminology/compare, /admin/terminology/compare.csv
.xxoxx POST /admin/users, /admin/users/{}/roles, /admin/users/{}/disabled, /admin/users/{}/link
.xxoxx POST /admin/clients, /admin/clients/{}/keys, /admin/clients/{}/disabled, /admin/audit/checks
.xxoxx POST /admin/terminology/imports, /admin/terminology/starter, /admin/terminology/use
.oxxxx GET /batches, /batches/{}
.oxxxx POST /batches, /batches/{}/pause, /batches/{}/resume, /batches/{}/cancel, /batches/{}/retry-failed
.xoxxx GET /dashboard, /dashboard/names, /dashboard/{}.csv, /trace/notes/{}, /trace/{}/{}
.xoxxx POST /dashboard/mappings
.oxxxx POST /api/notes, /api/notes/{}/jobs
.ooxxx GET /api/jobs/{}, /api/notes/{}, /api/notes/{}/bundle, /api/notes/{}/ssmix2, /api/patients/{}/ssmix2.zip
.oxxxx GET /api/batches, /api/batches/{}, /api/batches/{}/errors, /api/batches/{}/output.ndjson
.oxxxx GET /api/batches/{}/report.csv, /api/batches/{}/report.html, /api/batches/{}/ssmix2.zip
.oxxxx POST /api/batches, /api/batches/{}/cancel, /api/batches/{}/pause, /api/batches/{}/resume
.oxxxx POST /api/batches/{}/retry-failed
.ooxxx GET /api/receipt-checks, /api/receipt-checks/{}, /api/receipt-checks/{}/claims, /api/receipt-checks/{}/claims/{}
.ooxxx GET /api/receipt-checks/{}/report.csv, /api/receipt-checks/{}/uke
.ooxxx POST /api/receipt-checks, /api/receipt-checks/{}/cancel, /api/receipt-checks/{}/recheck
.xoxxx POST /api/receipt-items/{}/decision, /api/receipt-items/{}/undo
.oooxx GET /api/receipt-tables
.xxoxx POST /api/receipt-tables, /api/receipt-tables/{}/activate, /api/receipt-tables/{}/deactivate
.oxoxx GET /api/push/deliveries, /api/push/destinations, /api/push/destinations/{}
.oxoxx POST /api/push/deliveries/{}/replay, /api/push/destinations, /api/push/destinations/{}/pause
.oxoxx POST /api/push/destinations/{}/replay, /api/push/destinations/{}/resume
.oxoxx DELETE /api/push/destinations/{}
.xoxxx GET /review, /review/{}, /review/{}/new, /review/{}/release, /review/{}/withdraw, /review/{}/differences
.xoxxx GET /review/{}/items/{}, /review/{}/items/{}/edit
.xoxxx POST /review/next, /review/codes, /review/{}/take, /review/{}/give-back, /review/{}/accept-visible, /review/{}/check
.xoxxx POST /review/{}/add, /review/{}/release, /review/{}/withdraw, /review/{}/differences
.xoxxx POST /review/{}/second, /review/{}/second/choose, /review/{}/second/finish
.xoxxx POST /review/{}/items/{}/decide, /review/{}/items/{}/amend, /review/{}/items/{}/undo
.ooxxx GET /review/receipts, /review/receipts/{}
.ooxxx POST /review/receipts/files, /review/receipts/{}/recheck, /review/receipts/{}/cancel
.xoxxx GET /review/receipts/{}/{}, /review/receipts/{}/{}/items/{}, /review/receipts/{}/{}/items/{}/edit
.xoxxx POST /review/receipts/{}/next, /review/receipts/{}/{}/items/{}/decide, /review/receipts/{}/{}/items/{}/edit
.xoxxx POST /review/receipts/{}/{}/items/{}/undo
.oxxxx GET /v1/models, /v1/models/{}
.oxxxx POST /v1/chat/completions, /v1/completions
.oooox GET /fhir/CodeSystem, /fhir/CodeSystem/{}, /fhir/CodeSystem/$lookup, /fhir/ValueSet/$expand
.oooox GET /fhir/ConceptMap/$translate
.oooox POST /fhir/CodeSystem/$lookup, /fhir/ValueSet/$expand, /fhir/ConceptMap/$translate
.oooox POST /fhir/$validate, /fhir/{}/$validate
.ooxxx GET /fhir/{}, /fhir/{}/{}, /fhir/{}/_history, /fhir/{}/{}/_history, /fhir/{}/{}/_history/{}
.ooxxx GET /fhir/Patient/{}/$everything, /fhir/Patient/{}/$clins-bundle, /fhir/DocumentReference/{}/$document
.ooxxx GET /fhir/Task/{}, /fhir/Subscription, /fhir/Subscription/{}
.oxxxx POST /fhir/{}, /fhir/DocumentReference, /fhir/DocumentReference/$standardize, /fhir/Subscription
.oxxxx PUT /fhir/{}, /fhir/{}/{}, /fhir/Subscription/{}
.oxxxx PATCH /fhir/{}, /fhir/{}/{}
.oxxxx DELETE /fhir/{}, /fhir/{}/{}, /fhir/Subscription/{}, /fhir/DocumentReference/$standardize/{}
.oxxxx GET /fhir/DocumentReference/$standardize/{}
.ooxox POST /fhir, /fhir/{}/_search, /fhir/{}/{}
.ooxox GET /fhir/_history, /fhir/$export, /fhir/Patient/$export, /fhir/Group/{}/$export, /fhir/$export/{}
.ooxox GET /fhir/$export/{}/{}
.ooxox POST /fhir/$export, /fhir/Patient/$export, /fhir/Group/{}/$export
.ooxox DELETE /fhir/$export/{}
"""
# `/fhir/_history` and exports hold the types of one's scopes alone, a Bundle is judged entry by entry, and a search by POST
# that is no form is refused for that first.

EXPECTED = {
    (method, path.strip()): columns
    for columns, method, paths in re.findall(r"^(\S{6}) (\S+) (.+)$", TABLE, re.MULTILINE)
    for path in paths.split(",")
}


@pytest.fixture(scope="module")
def client(database: Database) -> Iterator[TestClient]:
    settings = Settings(
        database_url=database.url, oidc_issuer="http://127.0.0.1:9", oidc_client_id="hyojun", _env_file=None
    )
    with TestClient(create_app(settings, database), raise_server_exceptions=False, follow_redirects=False) as made:
        yield made


@pytest.fixture(scope="module")
def routes(client: TestClient) -> list[tuple[str, str]]:
    """Method and path of every route, as they are declared."""
    contexts: Any = iter_route_contexts(client.app.routes)  # type: ignore[attr-defined]
    return sorted({(method, context.path) for context in contexts for method in context.methods or ()})


def test_every_route_has_its_rule_and_every_rule_its_route(routes: list[tuple[str, str]]) -> None:
    assert {(method, plain(path)) for method, path in routes if method != "HEAD"} == set(EXPECTED)
    assert [route for route in routes if rule_of(*route) is None] == []
    assert {(method, path) for path, rules in RULES.items() for method in rules} == set(EXPECTED)


def test_who_is_let_through(client: TestClient, database: Database, routes: list[tuple[str, str]]) -> None:
    unrelated = principal(scopes=["system/Basic.cruds"])
    signed = [{}, *(headers(database, principal(role)) for role in Role)]
    signed += [headers(database, unrelated), headers(database, Principal(id="client:bare", name="bare"))]
    wrong = []
    for method, path in routes:
        if method == "HEAD":  # the rule is that of GET, and the route the same function
            continue
        url = re.sub(r"\{[^}]*\}", str(uuid4()), re.sub(r"\{(resource_)?type\}", "Patient", path))
        content = {"content": b"{}"} if method in ("POST", "PUT", "PATCH") else {}
        media = {"Content-Type": "application/json"} if content else {}
        found = ""
        for shown in signed:
            status = client.request(method, url, headers=media | shown, **content).status_code
            found += {401: ".", 403: "x"}.get(status, "o")
            assert status < 500 or status == 503, (method, path, status)  # the model and the provider are away
        if found != EXPECTED[method, plain(path)]:
            wrong.append(f"{found} {method} {path}")
    assert wrong == []


def test_what_nobody_has_listed_is_refused(database: Database) -> None:
    app = create_app(Settings(database_url=database.url, _env_file=None), database)

    @app.get("/forgotten/{id}")
    def forgotten(id: str) -> str:  # noqa: A002
        return id

    with TestClient(app) as client:
        client.headers.update(headers(database))
        assert client.get("/forgotten/1").status_code == 403
        assert client.get("/healthz").status_code == 200


def test_no_role_holds_what_belongs_to_another() -> None:
    admin, reviewer, integrator = (principal(role) for role in (Role.ADMIN, Role.REVIEWER, Role.INTEGRATOR))
    patient_data = {Right.NOTES_READ, Right.NOTES_WRITE, Right.DRAFTS_READ, Right.BATCHES, Right.REVIEW}
    assert not admin.rights & patient_data and not admin.scopes and not admin.drafts
    assert not {Right.USERS, Right.CLIENTS, Right.AUDIT} & (reviewer.rights | integrator.rights)
    assert reviewer.drafts and not integrator.drafts
    assert reviewer.may("Patient", "r") and not any(reviewer.may("Patient", action) for action in "cud")


def test_public_routes_are_these_alone() -> None:
    public = {path for path, rules in RULES.items() if Need.PUBLIC in rules.values()}
    assert public == {
        "/healthz", "/readyz", "/login", "/login/oidc", "/login/oidc/callback", "/setup", "/auth/token", "/fhir/metadata",
        "/.well-known/smart-configuration", "/fhir/.well-known/smart-configuration", "/static/{}",
    }  # fmt: skip
