"""Machines: registration, the token endpoint of SMART Backend Services, and what a token opens."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from signed_assertions import ClientKey, token_form
from sqlalchemy import text
from starlette.testclient import TestClient
from typer.testing import CliRunner

from app import smart
from app.cli import app as command_line
from app.db import Database
from app.errors import Conflict, InvalidInput
from app.main import create_app
from app.settings import Settings
from schemas.access import Right, Scope, granted

BASE = "http://hyojun.test"
URL = f"{BASE}/auth/token"
RSA, EC = ClientKey("RS384", "rsa"), ClientKey("ES384", "ec")
NOTE = "/api/notes/00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def client(database: Database) -> Iterator[TestClient]:
    with database.session_scope() as session:
        keys = {"keys": [RSA.jwk, EC.jwk]}
        scopes = ["system/Patient.rs", "system/Observation.read"]
        smart.register(session, "emr", "電子カルテ", keys, scopes=scopes, rights=[Right.NOTES_READ], by="test")
        smart.register(session, "sender", "送信", EC.jwks, scopes=[], rights=[Right.NOTES_WRITE], by="test")
        smart.register(session, "all", "全部", EC.jwks, scopes=["system/*.cruds"], drafts=True, by="test")
    app = create_app(Settings(database_url=database.url, _env_file=None), database)
    with TestClient(app, base_url=BASE) as made:
        yield made


def asked(client: TestClient, assertion: str, scope: str | None = "system/*.rs", **changes: str) -> tuple[int, dict[str, Any]]:
    answer = client.post("/auth/token", data=token_form(assertion, scope, **changes))
    assert answer.headers["cache-control"] == "no-store" and answer.headers["content-type"] == "application/json"
    return answer.status_code, answer.json()


@pytest.mark.parametrize("key", [RSA, EC], ids=lambda key: key.algorithm)
def test_a_signed_assertion_gets_a_token_that_opens_what_it_says(client: TestClient, database: Database, key: ClientKey) -> None:
    status, given = asked(client, key.assertion("emr", URL))
    assert status == 200 and given["token_type"] == "bearer" and given["expires_in"] == 300
    assert set(given["scope"].split()) == {"system/Patient.rs", "system/Observation.rs"}
    bearer = {"Authorization": f"Bearer {given['access_token']}"}
    assert client.get("/fhir/Patient/none", headers=bearer).status_code == 404
    assert client.get("/fhir/Condition/none", headers=bearer).status_code == 403
    assert client.get(NOTE, headers=bearer).status_code == 404
    assert client.post("/api/notes", json={}, headers=bearer).status_code == 403
    with database.session_scope() as session:
        assert given["access_token"] not in str(session.execute(text("SELECT * FROM access_tokens")).all())
        session.execute(text("UPDATE access_tokens SET expires_at = now()"))
    assert client.get(NOTE, headers=bearer).status_code == 401


def test_scopes_are_what_is_registered_and_asked_for(client: TestClient) -> None:
    def scope(asked_for: str | None, client_id: str = "emr") -> str:
        status, given = asked(client, EC.assertion(client_id, URL), asked_for)
        return str(given["scope"] if status == 200 else given["error"])

    assert scope("system/Patient.read") == "system/Patient.read"  # in the words of SMART 1, as it was asked for
    assert scope("system/Patient.cruds openid launch") == "system/Patient.rs"
    assert scope("system/*.read", "all") == "system/*.read"
    assert scope("system/Patient.s system/Condition.r") == "system/Patient.s"
    assert scope("system/Condition.r") == scope("user/Patient.rs") == scope("") == "invalid_scope"
    assert scope(None) == "system/Patient.rs system/Observation.rs"
    assert scope(None, "sender") == "" and scope("system/*.rs", "sender") == "invalid_scope"


@pytest.mark.parametrize(("asked_for", "allowed", "expected"), [
    ("system/*.rs", "system/Patient.cruds system/Basic.c", "system/Patient.rs"),
    ("system/Patient.cruds", "system/*.rs", "system/Patient.rs"),
    ("system/Patient.r system/Patient.s", "system/*.cruds", "system/Patient.rs"),
    ("system/Patient.c", "system/Patient.rs", ""),
    ("system/*.*", "system/*.write", "system/*.cud"),
])  # fmt: skip
def test_granted_scopes_lie_within_the_registered_ones(asked_for: str, allowed: str, expected: str) -> None:
    found = granted(*([scope for word in words.split() if (scope := Scope.find(word))] for words in (asked_for, allowed)))
    assert " ".join(map(str, found)) == expected


def test_an_assertion_is_used_once(client: TestClient) -> None:
    assertion = EC.assertion("emr", URL)
    assert asked(client, assertion)[0] == 200
    status, error = asked(client, assertion)
    assert (status, error["error"]) == (401, "invalid_client") and "used before" in error["error_description"]
    # The same jti of another client is another one.
    same = {"jti": jwt.decode(assertion, options={"verify_signature": False})["jti"]}
    assert asked(client, EC.assertion("all", URL, **same))[0] == 200


def test_an_assertion_that_two_bring_at_the_same_moment_is_taken_once(client: TestClient, database: Database) -> None:
    assertion = EC.assertion("emr", URL)

    def bring(_: int) -> bool:
        try:
            with database.session_scope() as session:
                smart.exchange(session, token_form(assertion), [URL])
        except smart.TokenRefused:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(bring, range(6))) == 1


STRANGER = ClientKey("ES384", "ec")


@pytest.mark.parametrize("make", [
    lambda: STRANGER.assertion("emr", URL),
    lambda: EC.assertion("emr", "https://elsewhere.test/auth/token"),
    lambda: EC.assertion("emr", URL, exp=int(time.time()) - 60),
    lambda: EC.assertion("emr", URL, exp=int(time.time()) + 3600),
    lambda: EC.assertion("emr", URL, exp=None),
    lambda: EC.assertion("emr", URL, jti=None),
    lambda: EC.assertion("emr", URL, aud=None),
    lambda: EC.assertion("emr", URL, iss="all"),
    lambda: EC.assertion("emr", URL, nbf=int(time.time()) + 600),
    lambda: EC.assertion("nobody", URL),
    lambda: EC.assertion("sender", URL, iss="emr"),
    lambda: EC.assertion("emr", URL, headers={"kid": "other"}),
    lambda: EC.assertion("emr", URL, headers={"kid": None}),
    lambda: EC.assertion("emr", URL, headers={"kid": "rsa"}),
    lambda: jwt.encode({"sub": "emr"}, None, "none"),
    lambda: jwt.encode(CLAIMS(), "0" * 64, "HS384", headers={"kid": "ec"}),
    lambda: jwt.encode(CLAIMS(), RSA.private, "RS256", headers={"kid": "rsa"}),
    lambda: EC.assertion("emr", URL)[:-8] + "AAAAAAAA",
    lambda: "x.y.z",
    lambda: "eyJ" + "A" * 20_000,
])  # fmt: skip
def test_what_proves_nothing_gets_nothing(client: TestClient, make: Any) -> None:
    assertion = make()
    status, error = asked(client, assertion)
    assert (status, error["error"]) == (401, "invalid_client")
    assert assertion[-20:] not in json.dumps(error)


def CLAIMS() -> dict[str, Any]:
    return {"iss": "emr", "sub": "emr", "aud": URL, "jti": "x", "exp": int(time.time()) + 100}


@pytest.mark.parametrize(("changes", "code"), [
    ({"grant_type": "authorization_code"}, "unsupported_grant_type"),
    ({"grant_type": ""}, "invalid_request"),
    ({"client_assertion_type": "urn:x"}, "invalid_request"),
    ({"client_assertion": ""}, "invalid_request"),
    ({"client_id": "other"}, "invalid_request"),
])  # fmt: skip
def test_a_form_that_is_wrong_is_said_to_be(client: TestClient, changes: dict[str, str], code: str) -> None:
    status, error = asked(client, EC.assertion("emr", URL), **changes)
    assert (status, error["error"]) == (400, code)
    assert client.post("/auth/token", json={}).json()["error"] == "invalid_request"


def test_clients_learn_where_tokens_are(client: TestClient) -> None:
    for path in ("/fhir/.well-known/smart-configuration", "/.well-known/smart-configuration"):
        found = client.get(path).json()
        assert found["token_endpoint"] == URL and "client_credentials" in found["grant_types_supported"]
        assert found["token_endpoint_auth_methods_supported"] == ["private_key_jwt"]
        assert set(found["token_endpoint_auth_signing_alg_values_supported"]) == {"RS384", "ES384"}
        assert {"client-confidential-asymmetric", "permission-v2"} <= set(found["capabilities"])
    absent = client.get("/.well-known/openid-configuration")
    assert absent.status_code == 404 and absent.json()["status"] == 404


def test_behind_a_proxy_the_audience_is_the_public_address(client: TestClient, database: Database) -> None:
    app = create_app(Settings(database_url=database.url, public_url="https://fhir.hospital.test", _env_file=None), database)
    with TestClient(app, base_url="http://127.0.0.1:8484") as inside:
        found = inside.get("/.well-known/smart-configuration").json()["token_endpoint"]
        assert found == "https://fhir.hospital.test/auth/token"
        assert inside.post("/auth/token", data=token_form(EC.assertion("emr", found))).status_code == 200
        assert inside.post("/auth/token", data=token_form(EC.assertion("emr", URL))).status_code == 401


def public(key: Any, kid: str = "k") -> dict[str, Any]:
    kind = {True: RSAAlgorithm}.get(isinstance(key, rsa.RSAPrivateKey), ECAlgorithm)
    return {"keys": [{**json.loads(kind.to_jwk(key.public_key())), "kid": kid}]}


@pytest.mark.parametrize("jwks", [
    {}, {"keys": []}, {"keys": ["x"]}, [], {"keys": [{"kty": "oct", "k": "AAAA", "kid": "k"}]},
    {"keys": [{**EC.jwk, "d": "AAAA"}]}, {"keys": [{**EC.jwk, "kid": ""}]}, {"keys": [EC.jwk, EC.jwk]},
    {"keys": [{**EC.jwk, "x": "AAAA"}]}, public(ec.generate_private_key(ec.SECP256R1())),
    public(rsa.generate_private_key(65537, 1024)),
    {"keys": [{**json.loads(OKPAlgorithm.to_jwk(Ed25519PrivateKey.generate().public_key())), "kid": "k"}]},
])  # fmt: skip
def test_keys_that_are_weak_or_secret_are_refused(database: Database, jwks: Any) -> None:
    with pytest.raises(InvalidInput) as refused, database.session_scope() as session:
        smart.register(session, "bad", "bad", jwks, scopes=[], by="test")
    assert "AAAA" not in str(refused.value)


def test_registration_is_checked(database: Database, client: TestClient) -> None:
    def register(client_id: str = "new", **changes: Any) -> None:
        with database.session_scope() as session:
            smart.register(session, client_id, "x", EC.jwks, **({"scopes": [], "by": "test"} | changes))

    for fault in ({"client_id": "a b"}, {"scopes": ["patient/*.rs"]}, {"scopes": ["system/Patient.rs?code=1"]},
                  {"scopes": ["system/*."]}, {"rights": [Right.USERS]}, {"rights": [Right.REVIEW]}):  # fmt: skip
        with pytest.raises(InvalidInput):
            register(**fault)
    with pytest.raises(Conflict):
        register("emr")


def test_the_command_line_manages_clients(
    fresh_database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DATABASE_URL", fresh_database.url)
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(EC.jwks))

    def run(*words: str) -> str:
        done = CliRunner().invoke(command_line, ["clients", *words], catch_exceptions=False, env={"COLUMNS": "200"})
        assert done.exit_code == 0, done.output
        return done.output

    run("add", "emr", "--name", "電子カルテ", "--jwks", str(file), "--scope", "system/*.rs", "--right", "notes.read")
    token = run("token", "emr", "--seconds", "60").strip()
    listed = run("list")
    assert "system/*.rs, notes.read" in listed and "active" in listed and token not in listed
    app = create_app(Settings(database_url=fresh_database.url, _env_file=None), fresh_database)
    with TestClient(app, base_url=BASE) as client:
        bearer = {"Authorization": f"Bearer {token}"}
        assert client.get(NOTE, headers=bearer).status_code == 404
        # Other keys: tokens got with the former ones end, and the former ones open nothing any more.
        file.write_text(json.dumps(RSA.jwks))
        run("key", "emr", "--jwks", str(file))
        assert client.get(NOTE, headers=bearer).status_code == 401
        assert client.post("/auth/token", data=token_form(EC.assertion("emr", URL))).status_code == 401
        given = client.post("/auth/token", data=token_form(RSA.assertion("emr", URL))).json()
        bearer = {"Authorization": f"Bearer {given['access_token']}"}
        assert client.get(NOTE, headers=bearer).status_code == 404
        run("disable", "emr")
        assert client.get(NOTE, headers=bearer).status_code == 401
        assert client.post("/auth/token", data=token_form(RSA.assertion("emr", URL))).status_code == 401
        run("disable", "emr", "--enable")
        assert client.post("/auth/token", data=token_form(RSA.assertion("emr", URL))).status_code == 200
    secret = RSA.private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(secret)
    with pytest.raises(InvalidInput):
        run("key", "emr", "--jwks", str(file))
