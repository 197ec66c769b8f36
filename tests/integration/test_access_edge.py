"""What happens to every request and answer: headers, hosts, proxies, rates, lengths of bodies; and no secret in what is told."""

import io
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sign_in import headers, principal
from signed_assertions import ClientKey, token_form
from sqlalchemy import make_url
from starlette.testclient import TestClient

from app import accounts, log, smart
from app.db import Database
from app.errors import InvalidInput, TooMany
from app.main import create_app
from app.settings import Settings
from app.web.edge import MAX_BODY_BYTES
from app.web.limits import Rate
from schemas.access import Right, Role


@contextmanager
def client_on(
    database: Database, base: str = "http://hyojun.test", peer: str = "10.0.0.7", signed: bool = True, **settings: object
) -> Iterator[TestClient]:
    app = create_app(Settings(database_url=database.url, _env_file=None, **settings), database)
    with TestClient(app, base_url=base, client=(peer, 5), follow_redirects=False, raise_server_exceptions=False) as made:
        if signed:
            made.headers.update(headers(database, principal(name=peer)))
        yield made


def test_every_answer_keeps_browsers_from_doing_more_than_they_should(database: Database) -> None:
    with client_on(database) as client:

        @client.app.get("/healthz/fault")  # type: ignore[attr-defined]
        def fault() -> None:
            raise RuntimeError("fault")

        for path, status in (("/", 200), ("/login", 200), ("/healthz", 200), ("/nothing", 404), ("/fhir/Patient/x", 404),
                             ("/fhir/metadata", 200), ("/openapi.json", 200), ("/healthz/fault", 403)):  # fmt: skip
            answer = client.get(path)
            assert answer.status_code == status, path
            said = answer.headers
            assert said["x-content-type-options"] == "nosniff" and said["x-frame-options"] == "DENY"
            policy = said["content-security-policy"]
            assert policy.startswith("default-src 'none'") and "frame-ancestors 'none'" in policy and "unsafe" not in policy
            assert "strict-transport-security" not in said
            page = said["content-type"].startswith("text/html")
            assert said["referrer-policy"] == ("same-origin" if page else "no-referrer")
            assert ("style-src 'self' 'sha256-" in policy) == page and "<script" not in answer.text
            if path != "/fhir/metadata":
                assert said["cache-control"] == "no-store", path
    with client_on(database, "https://hyojun.test") as client:
        assert client.get("/healthz").headers["strict-transport-security"] == "max-age=31536000"


class Broken(Database):
    @contextmanager
    def session_scope(self) -> Iterator[Any]:
        raise RuntimeError("broken")
        yield


def test_a_fault_of_ours_is_guarded_too() -> None:
    broken = Broken("postgresql://x@localhost/x")
    app = create_app(Settings(database_url=broken.url, _env_file=None), broken)
    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.get("/api/users", headers={"Authorization": "Bearer x"})
    assert answer.status_code == 500 and answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_hosts_that_are_not_ours_are_refused(database: Database) -> None:
    with client_on(database, allowed_hosts="hyojun.test, other.test") as client:
        for host, status in (("hyojun.test", 200), ("OTHER.test:8484", 200), ("127.0.0.1:8484", 200), ("[::1]:80", 200),
                             ("evil.test", 400), ("hyojun.test.evil.test", 400), ("", 400)):  # fmt: skip
            assert client.get("/healthz", headers={"Host": host}).status_code == status, host
    with client_on(database, public_url="https://hyojun.test") as client:
        assert client.get("/healthz", headers={"Host": "evil.test"}).status_code == 400
        assert client.get("/healthz").headers["strict-transport-security"]


def endpoint(client: TestClient, **forwarded: str) -> str:
    shown = {f"X-Forwarded-{name}": value for name, value in forwarded.items()}
    return str(client.get("/.well-known/smart-configuration", headers=shown).json()["token_endpoint"])


def test_forwarded_headers_are_believed_from_a_trusted_proxy_alone(database: Database) -> None:
    with client_on(database) as client:
        assert endpoint(client, Proto="https", Host="evil.test") == "http://hyojun.test/auth/token"
    with client_on(database, trusted_proxy="10.0.0.0/24, ::1") as client:
        assert endpoint(client, Proto="https", Host="fhir.test") == "https://fhir.test/auth/token"
        assert endpoint(client, Proto="javascript") == "http://hyojun.test/auth/token"
    with pytest.raises(InvalidInput), client_on(database, trusted_proxy="proxy.test"):
        pass


def test_the_address_is_the_one_that_the_nearest_trusted_proxy_saw(database: Database) -> None:
    settings = {"rate_limit_burst": 1, "rate_limit_requests_per_second": 0.001}
    with client_on(database, signed=False, trusted_proxy="10.0.0.0/24", **settings) as client:

        def status(forwarded: str) -> int:
            return client.get("/healthz", headers={"X-Forwarded-For": forwarded}).status_code

        assert status("192.0.2.1") == 200 and status("192.0.2.1") == 429
        assert status("192.0.2.2, 10.0.0.9") == 200, "another proxy of ours stands between"
        assert status("192.0.2.3, 192.0.2.1") == 429, "what the client itself has written there does not count"
        assert status("nonsense") == 200
    with client_on(database, signed=False, **settings) as client:
        assert client.get("/healthz", headers={"X-Forwarded-For": "192.0.2.9"}).status_code == 200
        assert client.get("/healthz", headers={"X-Forwarded-For": "192.0.2.8"}).status_code == 429


def test_whoever_asks_too_often_waits(database: Database) -> None:
    with client_on(database, rate_limit_burst=3, rate_limit_requests_per_second=0.5) as client:
        statuses = [client.get("/openapi.json").status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        refused = client.get("/fhir/Patient/x")
        assert refused.status_code == 429 and 1 <= int(refused.headers["retry-after"]) <= 2
        assert refused.json()["issue"][0]["code"] == "throttled"
        client.headers.update(headers(database, principal(name="another")))
        assert client.get("/openapi.json").status_code == 200, "each has a share of its own"
        client.headers["Authorization"] = "Bearer made-up"
        assert [client.get("/openapi.json").status_code for _ in range(4)] == [401, 401, 401, 429]
        assert client.post("/v1/completions", json={}).json()["error"]["code"] == "rate_limit_exceeded"


def test_tries_to_sign_in_are_counted_more_strictly(database: Database) -> None:
    with client_on(database, signed=False, rate_limit_sign_ins_per_minute=2) as client:
        statuses = [client.post("/auth/token", data={}).status_code for _ in range(3)]
        assert statuses == [400, 400, 429]
        assert client.post("/login", data={}).status_code == 429 and client.get("/login").status_code == 200


def test_a_bucket_fills_again() -> None:
    rate = Rate(50, 1)
    rate.take("a")
    rate.take("b")
    with pytest.raises(TooMany):
        rate.take("a")
    time.sleep(0.03)
    rate.take("a")


def test_no_body_is_longer_than_the_limit(database: Database) -> None:
    with client_on(database) as client:
        announced = {"Content-Length": str(MAX_BODY_BYTES + 1), "Content-Type": "application/json"}
        assert client.post("/api/users", content=b"{}", headers=announced).status_code == 413

        def endless() -> Iterator[bytes]:
            for _ in range(20):
                yield b" " * 1_000_000

        for method, path in (("POST", "/api/notes"), ("POST", "/fhir"), ("POST", "/fhir/Patient"), ("POST", "/v1/completions"),
                             ("PUT", "/fhir/Patient/1"), ("POST", "/api/clients"), ("POST", "/fhir/$validate")):  # fmt: skip
            answer = client.request(method, path, content=endless(), headers={"Content-Type": "application/json"})
            assert answer.status_code == 413, path


SECRET = "Zq7-never-shown-anywhere"


def test_no_secret_is_in_a_log_or_an_answer(database: Database) -> None:
    stream = io.StringIO()
    key = ClientKey()
    with database.session_scope() as session:
        smart.register(session, "quiet", "quiet", key.jwks, scopes=[], rights=[Right.MODEL], by="test")
        made = accounts.add_user(session, "quiet", "quiet", (Role.REVIEWER,), by="test")
        link = accounts.make_link(session, made.id, by="test")
    assertions = [
        key.assertion("quiet", f"http://elsewhere.test/{SECRET}"), ClientKey().assertion("quiet", "http://hyojun.test/auth/token"),
        f"e30.{SECRET}.x", key.assertion(SECRET, "http://hyojun.test/auth/token", sub=SECRET),
    ]  # fmt: skip
    kept = list(logging.getLogger().handlers)
    log.configure("DEBUG", stream)
    try:
        with client_on(database, signed=False, public_url=None, metrics_token=f"{SECRET}-metrics") as client:
            answers = [client.post("/auth/token", data=token_form(assertion)) for assertion in assertions]
            form = {"login": SECRET, "password": SECRET, "form_token": "x"}
            answers.append(client.post("/login", data=form))
            answers.append(client.post("/login", data=form | {"form_token": client.cookies["hyojun-form"]}))
            answers.append(client.post("/setup", data={"token": link, "password": SECRET[:5], "again": SECRET[:5]}))
            answers.append(client.get(f"/setup?token={SECRET}"))
            answers.append(client.get("/openapi.json", headers={"Authorization": f"Bearer {SECRET}"}))
            answers.append(client.get("/login/oidc/callback", params={"code": SECRET, "state": SECRET}))
            answers.append(client.get("/metrics", headers={"Authorization": f"Bearer {SECRET}-metrics"}))
            assert [one.status_code for one in answers] == [401] * 4 + [403, 401, 422, 404, 401, 404, 200]
            good = client.post("/auth/token", data=token_form(key.assertion("quiet", "http://hyojun.test/auth/token"), None))
            token = good.json()["access_token"]
            assert client.get("/openapi.json", headers={"Authorization": f"Bearer {token}"}).status_code == 200
        wrong = make_url(database.url).set(password=SECRET)
        away = Database(wrong.render_as_string(hide_password=False))
        with client_on(away, signed=False) as client:
            answers.append(client.get("/openapi.json", headers={"Authorization": "Bearer x"}))
            answers.append(client.get("/readyz"))
            assert [one.status_code for one in answers[-2:]] == [503, 503]
    finally:
        logging.getLogger().handlers[:] = kept
    told = stream.getvalue()
    assert "database unavailable" in told and '"route": "/auth/token"' in told
    signatures = [assertion.rpartition(".")[2] for assertion in assertions if len(assertion) > 100]
    for secret in (SECRET, link, token, *signatures):
        assert secret not in told
    shown = "".join(one.text for one in answers[:7] + answers[8:])
    assert SECRET not in shown and not any(signature in shown for signature in signatures)
    assert SECRET not in repr(Settings(database_url=away.url, metrics_token=f"{SECRET}-metrics", oidc_client_secret=SECRET))
    assert json.loads(told.splitlines()[0])["level"]
