"""People whose accounts an OpenID provider keeps: the whole way, against a provider that really signs."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from openid_provider import OpenIdProvider, openid_provider
from sqlalchemy import text
from starlette.testclient import TestClient

from app import accounts
from app.db import Database
from app.main import create_app
from app.settings import Settings
from schemas.access import Role

NOTE = "/api/notes/00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def provider() -> Iterator[OpenIdProvider]:
    with openid_provider() as made:
        yield made


@pytest.fixture
def browser(fresh_database: Database, provider: OpenIdProvider) -> Iterator[TestClient]:
    provider.claims, provider.signs_with, provider.algorithm = {"roles": ["hyojun-reviewer", "other"]}, provider.key, "RS256"
    settings = Settings(
        database_url=fresh_database.url, oidc_issuer=provider.issuer, oidc_client_id="hyojun",
        oidc_client_secret="s3cret-of-hyojun", _env_file=None,
    )  # fmt: skip
    app = create_app(settings, fresh_database)
    with TestClient(app, base_url="http://hyojun.test", follow_redirects=False, headers={"Accept": "text/html"}) as made:
        yield made


def come_back(browser: TestClient, provider: OpenIdProvider, **changes: str) -> Any:
    away = browser.get("/login/oidc")
    assert away.status_code == 303 and away.headers["location"].startswith(f"{provider.issuer}/authorize?")
    state, code = provider.sign_in(away.headers["location"])
    return browser.get("/login/oidc/callback", params={"state": state, "code": code} | changes)


def people(database: Database) -> dict[str, accounts.Person]:
    with database.session_scope() as session:
        return {one.login: one for one in accounts.list_users(session)}


def test_a_person_comes_with_the_roles_that_the_provider_states(
    browser: TestClient, provider: OpenIdProvider, fresh_database: Database
) -> None:
    assert 'href="/login/oidc"' in browser.get("/login").text
    provider.claims |= {"preferred_username": "Sato.Hanako", "name": "佐藤 花子"}
    answer = come_back(browser, provider)
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    assert "佐藤 花子" in browser.get("/").text and browser.get(NOTE).status_code == 404
    assert 'action="/account/password"' not in browser.get("/account").text
    found = people(fresh_database)["sato.hanako"]
    assert found.roles == (Role.REVIEWER,) and found.external

    provider.claims |= {"roles": "integrator"}
    come_back(browser, provider)
    assert people(fresh_database)["sato.hanako"].roles == (Role.INTEGRATOR,), "as stated this time"
    provider.claims |= {"roles": []}
    assert come_back(browser, provider).status_code == 403
    assert people(fresh_database)["sato.hanako"].roles == () and browser.get("/account").status_code == 303
    provider.claims |= {"roles": ["integrator"]}
    with fresh_database.session_scope() as session:
        accounts.set_disabled(session, found.id, disabled=True, by="test")
    assert come_back(browser, provider).status_code == 403


def test_a_name_makes_nobody_somebody_else(browser: TestClient, provider: OpenIdProvider, fresh_database: Database) -> None:
    with fresh_database.session_scope() as session:
        accounts.add_user(session, "kanri", "管理", (Role.ADMIN,), by="test")
    provider.claims |= {"preferred_username": "kanri", "sub": "s-2"}
    assert come_back(browser, provider).status_code == 303
    found = people(fresh_database)
    assert len(found) == 2 and not found["kanri"].external and found["kanri"].roles == (Role.ADMIN,)


def test_without_a_role_nobody_gets_an_account(browser: TestClient, provider: OpenIdProvider, fresh_database: Database) -> None:
    for roles in (None, [], "Reviewer", ["somebody"], {"reviewer": True}, 7):
        provider.claims = {"roles": roles}
        assert come_back(browser, provider).status_code == 403
    assert people(fresh_database) == {}


FALSE_CLAIMS: tuple[dict[str, Any], ...] = (
    {"nonce": "another"}, {"nonce": None}, {"aud": "another"}, {"aud": ["hyojun", "another"]}, {"azp": "another"},
    {"iss": "https://elsewhere.test"}, {"exp": int(time.time()) - 3600}, {"exp": None}, {"sub": None}, {"iat": None},
    {"nbf": int(time.time()) + 3600},
)  # fmt: skip


def test_an_id_token_that_does_not_hold_is_refused(
    browser: TestClient, provider: OpenIdProvider, fresh_database: Database
) -> None:
    for claims in FALSE_CLAIMS:
        provider.claims = {"roles": ["reviewer"]} | claims
        assert come_back(browser, provider).status_code == 401, claims
    assert people(fresh_database) == {} and browser.get("/account").status_code == 303


def test_only_the_providers_key_signs(browser: TestClient, provider: OpenIdProvider, fresh_database: Database) -> None:
    provider.signs_with = rsa.generate_private_key(65537, 2048)
    assert come_back(browser, provider).status_code == 401
    provider.signs_with, provider.algorithm = "s3cret-of-hyojun-that-is-long-enough-for-it", "HS256"
    assert come_back(browser, provider).status_code == 401
    assert people(fresh_database) == {}


def test_a_state_is_for_one_browser_and_one_time(
    browser: TestClient, provider: OpenIdProvider, fresh_database: Database
) -> None:
    away = browser.get("/login/oidc")
    state, code = provider.sign_in(away.headers["location"])
    assert browser.get("/login/oidc/callback", params={"state": "made-up", "code": code}).status_code == 401
    assert browser.get("/login/oidc/callback").status_code == 401
    with TestClient(browser.app, base_url="http://hyojun.test", follow_redirects=False) as other:
        assert other.get("/login/oidc/callback", params={"state": state, "code": code}).status_code == 401
    asked = len(provider.asked)
    assert browser.get("/login/oidc/callback", params={"state": state, "code": code}).status_code == 303
    assert browser.get("/login/oidc/callback", params={"state": state, "code": code}).status_code == 401, "replayed"
    late = provider.sign_in(browser.get("/login/oidc").headers["location"])
    with fresh_database.session_scope() as session:
        session.execute(text("UPDATE oidc_logins SET expires_at = now()"))
    assert browser.get("/login/oidc/callback", params={"state": late[0], "code": late[1]}).status_code == 401
    assert provider.asked[asked:].count("/token") == 1, "a state that is not known is not taken to the provider"
    assert come_back(browser, provider, code="made-up").status_code == 401


def test_a_provider_that_is_away_is_said_to_be(fresh_database: Database) -> None:
    settings = Settings(
        database_url=fresh_database.url, oidc_issuer="http://127.0.0.1:9", oidc_client_id="hyojun", _env_file=None
    )
    with TestClient(create_app(settings, fresh_database)) as browser:
        answer = browser.get("/login/oidc")
        assert answer.status_code == 503 and "認証サーバー" in answer.text
