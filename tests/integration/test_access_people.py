"""People: the first administrator, signing in and out, roles, lockout; through the pages, on a real Postgres."""

import io
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout

import pytest
from sign_in import headers, principal
from signed_assertions import ClientKey
from sqlalchemy import select, text
from starlette.testclient import TestClient
from typer.testing import CliRunner

from app import accounts
from app.cli import app as command_line
from app.commands.access import invite_admin
from app.db import Database
from app.errors import Conflict, NotFound, NotSignedIn, TooMany
from app.main import create_app
from app.settings import Settings
from app.sign_in import sign_in as sign_in_with
from app.web.access import SESSION_LIFETIMES
from models import AuditEvent, LoginAttempt, User, UserSession
from schemas.access import Role

PASSWORD = "とても長い合言葉である 7"
OTHER = "べつの長い合言葉である 8"


@contextmanager
def browser_on(database: Database, base: str = "http://hyojun.test", **settings: object) -> Iterator[TestClient]:
    app = create_app(Settings(database_url=database.url, _env_file=None, **settings), database)
    with TestClient(app, base_url=base, follow_redirects=False, headers={"Accept": "text/html"}) as made:
        yield made


@pytest.fixture
def browser(fresh_database: Database) -> Iterator[TestClient]:
    with browser_on(fresh_database) as made:
        yield made


def person(database: Database, login: str, *roles: Role, password: str | None = PASSWORD) -> accounts.Person:
    with database.session_scope() as session:
        made = accounts.add_user(session, login, f"{login} 様", roles, by="test")
        if password is not None:
            accounts.use_link(session, accounts.make_link(session, made.id, by="test"), password)
        return made


def sign_in(browser: TestClient, login: str, password: str = PASSWORD) -> object:
    form = browser.get("/login").text
    token = re.findall(r'name="form_token" value="([^"]+)"', form)[0]
    return browser.post("/login", data={"login": login, "password": password, "form_token": token})


def csrf_of(browser: TestClient) -> str:
    return re.findall(r'name="csrf_token" value="([^"]+)"', browser.get("/account").text)[0]


def test_the_first_administrator_comes_by_a_link_that_works_once(browser: TestClient, fresh_database: Database) -> None:
    assert "hyojun users admin-link" in browser.get("/login").text
    with fresh_database.session_scope() as session:
        token, second = accounts.make_admin_link(session), accounts.make_admin_link(session)
        assert token not in str(session.execute(text("SELECT * FROM one_time_links")).all())
    page = browser.get(f"/setup?token={token}")
    assert page.status_code == 200 and 'name="login"' in page.text
    form = {"token": token, "login": "Kanri", "name": "管理 <花子>", "password": PASSWORD, "again": PASSWORD}
    assert browser.post("/setup", data=form | {"password": "short", "again": "short"}).status_code == 422
    assert browser.post("/setup", data=form | {"again": OTHER}).status_code == 422
    assert browser.post("/setup", data=form | {"password": "administrator1", "again": "administrator1"}).status_code == 422
    assert browser.post("/setup", data=form | {"token": "x" * 43}).status_code == 404
    assert browser.post("/setup", data=form, headers={"Origin": "https://elsewhere.test"}).status_code == 403
    assert browser.post("/setup", data=form).status_code == 200
    for used in (token, second):  # the other one would make a second first administrator
        assert browser.get(f"/setup?token={used}").status_code == 404
        assert browser.post("/setup", data=form | {"token": used}).status_code == 404
    with fresh_database.session_scope() as session, pytest.raises(Conflict):
        accounts.make_admin_link(session)
    assert sign_in(browser, "kanri").status_code == 303
    home = browser.get("/")
    assert home.status_code == 200 and "管理 &lt;花子&gt;" in home.text and "<花子>" not in home.text
    assert "hyojun users admin-link" not in browser.get("/login").text


def test_who_came_in_is_on_record(browser: TestClient, fresh_database: Database) -> None:
    made = person(fresh_database, "rev", Role.REVIEWER)
    sign_in(browser, "rev", OTHER)
    sign_in(browser, "rev")
    browser.post("/logout", data={"csrf_token": csrf_of(browser)})
    with fresh_database.session_scope() as session:
        told = session.execute(
            select(AuditEvent.action, AuditEvent.acted_by, AuditEvent.address).where(AuditEvent.action.startswith("log"))
            .order_by(AuditEvent.id)
        ).all()  # fmt: skip
    him = f"user:{made.id}"
    assert [tuple(row) for row in told] == [
        ("login-failed", "anonymous", "testclient"), ("login", him, "testclient"), ("logout", him, "testclient"),
    ]  # fmt: skip


class Terminal(io.StringIO):
    def __init__(self, *, read_by_a_person: bool) -> None:
        super().__init__()
        self._read = read_by_a_person

    def isatty(self) -> bool:
        return self._read


def test_the_first_start_shows_the_link_where_no_log_keeps_it(fresh_database: Database) -> None:
    settings = Settings(database_url=fresh_database.url, api_host="0.0.0.0", _env_file=None)

    def start(*, read_by_a_person: bool) -> str:
        with redirect_stdout(Terminal(read_by_a_person=read_by_a_person)) as shown:
            invite_admin(settings)
        return shown.getvalue()

    logged, shown = start(read_by_a_person=False), start(read_by_a_person=True)
    assert "token=" not in logged and "hyojun users admin-link" in logged
    token = re.findall(r"^http://127\.0\.0\.1:8484/setup\?token=(\S+)", shown, re.MULTILINE)[0]
    with fresh_database.session_scope() as session:
        accounts.use_link(session, token, PASSWORD, login="adm", name="管理")
    assert start(read_by_a_person=True) == start(read_by_a_person=False) == ""


def test_a_session_begins_and_ends(browser: TestClient, fresh_database: Database) -> None:
    made = person(fresh_database, "rev", Role.REVIEWER)
    away = browser.get("/")
    assert away.status_code == 303 and away.headers["location"] == "/login"
    assert browser.get("/", headers={"Accept": "application/json"}).status_code == 401
    assert browser.get("/account").status_code == 303

    browser.cookies.set("hyojun", "chosen-by-somebody-else", domain="hyojun.test", path="/")
    answer = sign_in(browser, "REV")
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=lax" in cookie and "path=/" in cookie and "domain" not in cookie
    secret = browser.cookies["hyojun"]
    assert secret != "chosen-by-somebody-else"
    with fresh_database.session_scope() as session:
        assert secret not in str(session.execute(text("SELECT * FROM user_sessions")).all())
        kept = session.scalar(select(User.password_hash).where(User.id == made.id))
    assert str(kept).startswith("$argon2id$v=19$m=65536,t=3,p=4$")

    assert browser.get("/").status_code == 200
    sign_in(browser, "rev")
    assert browser.cookies["hyojun"] != secret, "each signing in begins a new session"
    with fresh_database.session_scope() as session:
        assert len(session.scalars(select(UserSession)).all()) == 1, "and ends the browser's former one"
    assert browser.post("/logout", data={"csrf_token": csrf_of(browser)}).status_code == 303
    with fresh_database.session_scope() as session:
        assert session.scalars(select(UserSession)).all() == []
    assert browser.get("/account").status_code == 303


def test_sessions_end_by_themselves(fresh_database: Database) -> None:
    person(fresh_database, "rev", Role.REVIEWER)
    with browser_on(fresh_database, session_idle_minutes=10, session_max_hours=1) as browser:
        for fault in ("seen_at = now() - interval '11 minutes'", "expires_at = now() - interval '1 second'"):
            assert sign_in(browser, "rev").status_code == 303
            with fresh_database.session_scope() as session:
                session.execute(text("UPDATE user_sessions SET seen_at = now() - interval '9 minutes'"))
            assert browser.get("/account").status_code == 200
            with fresh_database.session_scope() as session:
                session.execute(text("SELECT 1 FROM user_sessions WHERE seen_at > now() - interval '1 minute'")).one()
                session.execute(text(f"UPDATE user_sessions SET {fault}"))
            assert browser.get("/account").status_code == 303


def test_whoever_is_disabled_or_loses_a_role_does_so_at_once(browser: TestClient, fresh_database: Database) -> None:
    admin = person(fresh_database, "adm", Role.ADMIN)
    made = person(fresh_database, "two", Role.INTEGRATOR)
    assert sign_in(browser, "two").status_code == 303
    note = "/api/notes/00000000-0000-4000-8000-000000000000"
    assert browser.get(note).status_code == 404
    with fresh_database.session_scope() as session:
        accounts.set_roles(session, made.id, (), by="test")
    assert browser.get(note).status_code == 403
    with fresh_database.session_scope() as session:
        accounts.set_disabled(session, made.id, disabled=True, by="test")
    assert browser.get(note, headers={"Accept": "*/*"}).status_code == 401
    assert sign_in(browser, "two").status_code == 401
    for change in (lambda s: accounts.set_roles(s, admin.id, (), by="test"),
                   lambda s: accounts.set_disabled(s, admin.id, disabled=True, by="test")):  # fmt: skip
        with pytest.raises(Conflict), fresh_database.session_scope() as session:
            change(session)


def test_an_account_is_locked_after_five_wrong_passwords(browser: TestClient, fresh_database: Database) -> None:
    person(fresh_database, "rev", Role.REVIEWER)
    seen = {}
    for login in ("rev", "nobody"):
        answers = [sign_in(browser, login, OTHER) for _ in range(6)]
        assert [one.status_code for one in answers] == [401] * 5 + [429]
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 31
        seen[login] = re.sub(r"約 \d+ 秒", "", answers[0].text + answers[-1].text)
    assert seen["rev"] == seen["nobody"], "nothing tells a name that somebody has from one that nobody has"
    assert sign_in(browser, "rev").status_code == 429, "the right one does not help while it is locked"

    def waits() -> float:
        with fresh_database.session_scope() as session:
            [left] = session.scalars(text(
                "SELECT extract(epoch FROM locked_until - last_at) FROM login_attempts WHERE failures < 20"
                " AND locked_until IS NOT NULL ORDER BY failures DESC LIMIT 1"))  # fmt: skip
            session.execute(text("UPDATE login_attempts SET locked_until = now()"))
            return float(left)

    assert waits() == 30
    assert sign_in(browser, "rev", OTHER).status_code == 401
    assert waits() == 60
    assert sign_in(browser, "rev").status_code == 303
    with fresh_database.session_scope() as session:
        failures = sorted(session.scalars(select(LoginAttempt.failures)))
    assert failures == [5, 11], "of the name that nobody has, and of the address"


def test_guesses_at_the_same_moment_are_counted(fresh_database: Database) -> None:
    person(fresh_database, "rev", Role.REVIEWER)

    def guess(number: int) -> str:
        try:
            sign_in_with(fresh_database, "rev", f"{OTHER} {number}", address="a", lifetimes=SESSION_LIFETIMES)
        except (NotSignedIn, TooMany) as error:
            return type(error).__name__
        return "signed in"

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(guess, range(8))) == ["NotSignedIn"] * 5 + ["TooMany"] * 3


def test_a_link_that_two_use_at_the_same_moment_works_for_one(fresh_database: Database) -> None:
    with fresh_database.session_scope() as session:
        links = [accounts.make_admin_link(session) for _ in range(2)]

    def use(number: int) -> bool:
        try:
            with fresh_database.session_scope() as session:
                accounts.use_link(session, links[number % 2], PASSWORD, login=f"adm{number}", name="管理")
        except (NotFound, Conflict):
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(use, range(4))) == [False, False, False, True]


def test_an_address_that_tries_many_names_is_locked(fresh_database: Database) -> None:
    with browser_on(fresh_database) as browser:
        with fresh_database.session_scope() as session:
            session.execute(text(
                "INSERT INTO login_attempts (sha256, failures) VALUES"
                " (encode(sha256('address:testclient'), 'hex'), 19)"))  # fmt: skip
        assert sign_in(browser, "one", OTHER).status_code == 401
        assert sign_in(browser, "two", OTHER).status_code == 429


def test_forms_are_taken_from_our_own_pages_alone(browser: TestClient, fresh_database: Database) -> None:
    person(fresh_database, "adm", Role.ADMIN)
    strange = {"login": "adm", "password": PASSWORD, "form_token": "made up"}
    assert browser.post("/login", data=strange).status_code == 403
    assert sign_in(browser, "adm").status_code == 303
    token, new = csrf_of(browser), {"login": "rev", "name": "確認", "roles": ["reviewer"]}
    assert browser.post("/api/users", json=new).status_code == 403
    assert browser.post("/api/users", json=new, headers={"X-CSRF-Token": "0" * 64}).status_code == 403
    good = {"X-CSRF-Token": token}
    for header in ({"Origin": "http://elsewhere.test"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"},
                   {"Origin": "https://hyojun.test"}, {"Sec-Fetch-Site": "same-site"}):  # fmt: skip
        assert browser.post("/api/users", json=new, headers=good | header).status_code == 403
    made = browser.post("/api/users", json=new, headers=good | {"Origin": "http://hyojun.test"})
    assert made.status_code == 201 and made.json()["link"].startswith("http://hyojun.test/setup?token=")
    assert browser.post("/logout").status_code == 403
    assert browser.post("/logout", data={"csrf_token": token}).status_code == 303
    assert browser.post("/api/users", json=new, headers=good).status_code == 401


def test_a_password_is_changed_with_the_present_one(browser: TestClient, fresh_database: Database) -> None:
    person(fresh_database, "rev", Role.REVIEWER)
    sign_in(browser, "rev")
    form = {"present": PASSWORD, "password": OTHER, "again": OTHER, "csrf_token": csrf_of(browser)}
    assert browser.post("/account/password", data=form | {"csrf_token": ""}).status_code == 403
    assert browser.post("/account/password", data=form | {"present": OTHER}).status_code == 403
    assert browser.post("/account/password", data=form | {"password": "rev", "again": "rev"}).status_code == 422
    with browser_on(fresh_database) as elsewhere:
        sign_in(elsewhere, "rev")
        assert browser.post("/account/password", data=form).status_code == 303
        assert elsewhere.get("/account").status_code == 303, "sessions elsewhere have ended"
    assert browser.get("/account").status_code == 200
    assert sign_in(browser, "rev").status_code == 401
    assert sign_in(browser, "rev", OTHER).status_code == 303


def test_a_reset_ends_sessions_and_password(browser: TestClient, fresh_database: Database) -> None:
    person(fresh_database, "adm", Role.ADMIN)
    made = person(fresh_database, "rev", Role.REVIEWER)
    sign_in(browser, "rev")
    with fresh_database.session_scope() as session:
        old, token = (accounts.make_link(session, made.id, by="test") for _ in range(2))
    assert browser.get("/account").status_code == 303 and sign_in(browser, "rev").status_code == 401
    assert browser.get(f"/setup?token={old}").status_code == 404
    assert 'name="login"' not in browser.get(f"/setup?token={token}").text
    assert browser.post("/setup", data={"token": token, "password": OTHER, "again": OTHER}).status_code == 200
    assert sign_in(browser, "rev", OTHER).status_code == 303
    with fresh_database.session_scope() as session:
        late = accounts.make_link(session, made.id, by="test")
        session.execute(text("UPDATE one_time_links SET expires_at = now()"))
    assert browser.get(f"/setup?token={late}").status_code == 404


def test_under_https_the_cookie_is_bound_to_the_host(fresh_database: Database) -> None:
    person(fresh_database, "rev", Role.REVIEWER)
    with browser_on(fresh_database, "https://hyojun.test") as browser:
        answer = sign_in(browser, "rev")
        assert answer.headers["set-cookie"].startswith("__Host-hyojun=") and "Secure" in answer.headers["set-cookie"]
        assert browser.get("/account").status_code == 200
        assert browser.get("/login").headers["strict-transport-security"] == "max-age=31536000"


def test_an_administrator_says_who_has_access(fresh_database: Database) -> None:
    person(fresh_database, "adm", Role.ADMIN)
    with browser_on(fresh_database) as client:
        client.headers.update(headers(fresh_database, principal(Role.ADMIN, name="adm")))
        new = {"login": "Two", "name": "二", "roles": ["reviewer"]}
        made = client.post("/api/users", json=new).json()
        assert made["login"] == "two" and not made["ready"] and "/setup?token=" in made["link"]
        assert client.post("/api/users", json=new).status_code == 409
        for wrong in ({"login": ""}, {"name": " "}, {"roles": ["nurse"]}, {"more": 1}, {"login": "a b"}):
            assert client.post("/api/users", json=new | wrong).status_code == 422
        one = f"/api/users/{made['id']}"
        assert client.patch(one, json={"roles": ["integrator", "reviewer"]}).json()["roles"] == ["integrator", "reviewer"]
        assert client.patch(one, json={"disabled": True}).json()["disabled"]
        assert client.post(f"{one}/link").status_code == 409
        assert client.patch(one, json={"disabled": False}).json()["disabled"] is False
        link = client.post(f"{one}/link").json()["link"]
        assert link != made["link"]
        listed = client.get("/api/users")
        assert [entry["login"] for entry in listed.json()] == ["adm", "two"] and "argon2" not in listed.text
        last = f"/api/users/{listed.json()[0]['id']}"
        assert client.patch(last, json={"disabled": True}).status_code == 409
        assert client.patch(last, json={"roles": []}).status_code == 409
        assert client.patch("/api/users/00000000-0000-4000-8000-000000000000", json={}).status_code == 404

        machine = {"id": "emr", "name": "電子カルテ", "jwks": ClientKey().jwks, "scopes": ["system/*.rs"]}
        assert client.post("/api/clients", json=machine).json()["keys"] == ["k1"]
        assert client.post("/api/clients", json=machine).status_code == 409
        assert client.post("/api/clients", json=machine | {"id": "x", "rights": ["users"]}).status_code == 422
        assert client.patch("/api/clients/emr", json={"jwks": ClientKey(kid="k2").jwks}).json()["keys"] == ["k2"]
        assert client.patch("/api/clients/emr", json={"disabled": True}).json()["disabled"]
        assert [entry["disabled"] for entry in client.get("/api/clients").json()] == [True]
    with fresh_database.session_scope() as session:
        told = session.execute(select(AuditEvent.acted_by, AuditEvent.after).where(AuditEvent.action == "admin")).all()
    changed = [by for by, after in told if after is not None]
    assert changed.count("client:adm") == 9, "of each change the actor, and the fingerprint of what came of it"


def test_the_command_line_manages_people(fresh_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", fresh_database.url)
    monkeypatch.setenv("PUBLIC_URL", "https://hyojun.test")

    def run(*words: str, status: int = 0) -> str:
        done = CliRunner().invoke(command_line, ["users", *words], env={"COLUMNS": "200"})
        assert done.exit_code == status, (done.output, done.exception)
        return done.output + str(done.exception or "")

    token = re.findall(r"^https://hyojun\.test/setup\?token=(\S+)", run("admin-link"), re.MULTILINE)[0]
    with fresh_database.session_scope() as session:
        accounts.use_link(session, token, PASSWORD, login="adm", name="管理")
    assert "there is an administrator" in run("admin-link", status=1)
    run("add", "two", "--role", "reviewer", "--role", "integrator", "--name", "二")
    assert re.search(r"two +二 +integrator, reviewer +password +waits for a password", run("list"))
    assert "no role" in run("roles", "two")
    assert "nobody would be left" in run("roles", "adm", status=1)
    assert "disabled" in run("disable", "two") and "waits" in run("disable", "two", "--enable")
    again = re.findall(r"token=(\S+)", run("reset", "adm"))[0]
    monkeypatch.delenv("PUBLIC_URL")
    with browser_on(fresh_database) as browser:
        # The only administrator is not kept out by a link that nobody follows.
        assert sign_in(browser, "adm").status_code == 303
    with fresh_database.session_scope() as session:
        accounts.use_link(session, again, OTHER)
    with browser_on(fresh_database) as browser:
        assert sign_in(browser, "adm").status_code == 401 and sign_in(browser, "adm", OTHER).status_code == 303
