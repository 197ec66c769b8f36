"""Administration in a browser, through its pages and forms: people, machines, tables, the installation, the audit log, batches."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_files import ndjson, note
from signed_assertions import ClientKey
from signed_browser import SignedBrowser, words_of
from sqlalchemy import select, text

from app import accounts, audit, heartbeat, smart
from app.db import Database
from app.web.admin_words import ADMIN_WORDS
from app.web.words import WORDS
from models import AuditEvent, Batch, CodeSystemRelease, User
from schemas.access import Right, Role
from schemas.review import AuditAction

ROOT = Path(__file__).parents[2]
ADMIN_PATHS = ("", "/users", "/clients", "/terminology", "/system", "/audit")
SYSTEM = "http://example.test/codes"


@pytest.fixture(scope="module")
def admin(database: Database) -> Iterator[SignedBrowser]:
    settings = {"facility_name": "見本病院", "institution_number": "1311234567", "patient_id_oid": "1.2.3", "batch_max_bytes": 2_000_000}
    browser = SignedBrowser(database, Role.ADMIN, Role.INTEGRATOR, name="管理 <i>花子</i>", **settings)
    with browser.client:
        yield browser


def finished(browser: SignedBrowser, page: Any) -> Any:
    """The page of a work once it is over."""
    until = time.monotonic() + 60
    while 'http-equiv="refresh"' in page.text:
        assert time.monotonic() < until
        time.sleep(0.05)
        page = browser.get(page.url.path)
    return page


def audited(database: Database, route: str) -> list[AuditEvent]:
    with database.session_scope() as session:
        return list(session.scalars(select(AuditEvent).where(AuditEvent.route == route).order_by(AuditEvent.id)))


def test_every_page_is_there_in_both_languages_without_a_script_of_its_own(admin: SignedBrowser) -> None:
    headings = {}
    for language in ("ja", "en"):
        admin.post("/language", language=language, back="/admin")
        for path in (*(f"/admin{path}" for path in ADMIN_PATHS), "/batches"):
            answer = admin.get(path)
            assert answer.status_code == 200, path
            assert "'unsafe-inline'" not in answer.headers["Content-Security-Policy"]
            assert " style=" not in answer.text and " onclick=" not in answer.text and "<style" not in answer.text
            assert f'<html lang="{language}">' in answer.text
            headings[path, language] = words_of(re.findall(r"<h1>(.*?)</h1>", answer.text)[0])
    admin.post("/language", language="ja", back="/admin")
    assert headings["/admin/users", "ja"] != headings["/admin/users", "en"] == "Users"
    assert "管理 &lt;i&gt;花子" in admin.text("/admin") and "<i>花子" not in admin.text("/admin")


def test_no_word_stands_in_two_tables() -> None:
    assert all(WORDS[key] == words for key, words in ADMIN_WORDS.items())
    assert all(ja and en for ja, en in ADMIN_WORDS.values())


def test_people(admin: SignedBrowser, database: Database) -> None:
    made = admin.post("/admin/users", **{"login": "rev1", "name": "確認 <b>太郎</b>", "role.reviewer": "1", "role.nonsense": "1"})
    assert made.status_code == 200
    link = re.findall(r'<code id="one-time-link">([^<]+)</code>', made.text)[0]
    assert "/setup?token=" in link and "確認 &lt;b&gt;太郎" in made.text
    assert "token=" not in admin.text("/admin/users"), "the link is shown once"
    with database.session_scope() as session:
        person = accounts.user_of_login(session, "rev1")
        assert person.roles == (Role.REVIEWER,) and not person.ready
        accounts.use_link(session, link.partition("token=")[2], "とても長い合言葉である 7")

    taken = admin.post("/admin/users", login="rev1", name="x")
    assert taken.status_code == 409 and "既に使われています" in taken.text and 'value="rev1"' in taken.text
    path = f"/admin/users/{person.id}"
    assert "保存しました" in admin.post(f"{path}/roles", **{"role.reviewer": "1", "role.integrator": "1"}).text
    assert admin.post(f"{path}/disabled", disabled="1").status_code == 200
    assert admin.post(f"{path}/link").status_code == 409
    admin.post(f"{path}/disabled", disabled="0")
    assert "/setup?token=" in admin.post(f"{path}/link").text
    with database.session_scope() as session:
        person = accounts.get_user(session, person.id)
        assert person.roles == (Role.INTEGRATOR, Role.REVIEWER) and not person.disabled and not person.ready
    assert admin.client.post(f"{path}/disabled", data={"disabled": "1"}).status_code == 403, "a form of ours has a token"
    assert [event.action for event in audited(database, "POST /admin/users/{user_id}/link")] == ["admin"] * 2

    with database.session_scope() as session:
        session.execute(text("UPDATE users SET password_hash = 'x' WHERE login = :login"), {"login": admin.login})
    own = f"/admin/users/{admin.who.removeprefix('user:')}"
    last = admin.post(f"{own}/roles", **{"role.integrator": "1"})
    assert last.status_code == 409 and "最後の管理者は外せません" in last.text


def test_machines(admin: SignedBrowser, database: Database) -> None:
    pasted, chosen = ClientKey(), ClientKey(kid="k2")
    form = {"id": "emr", "name": "電子カルテ", "scopes": "system/*.rs system/DocumentReference.c", "right.notes.write": "1"}
    secret = json.dumps({"keys": [{**pasted.jwk, "d": "c2VjcmV0"}]})
    refused = admin.upload("/admin/clients", "", b"", **form, jwks=secret)
    assert refused.status_code == 422 and "秘密鍵" in refused.text and "c2VjcmV0" not in refused.text
    assert 'value="emr"' in refused.text and 'name="right.notes.write" value="1" checked' in refused.text
    assert admin.upload("/admin/clients", "", b"", **form, jwks="{").status_code == 422
    added = admin.upload("/admin/clients", "", b"", **form, jwks=json.dumps(pasted.jwks), drafts="1")
    assert added.status_code == 200 and "保存しました" in added.text
    replaced = admin.upload("/admin/clients/emr/keys", "keys.json", json.dumps(chosen.jwks).encode(), jwks="")
    assert "保存しました" in replaced.text
    with database.session_scope() as session:
        machine = smart.get_client(session, "emr")
    assert machine.keys == ("k2",) and machine.drafts and machine.rights == (Right.NOTES_WRITE,)
    assert machine.scopes == ("system/*.rs", "system/DocumentReference.c")
    admin.post("/admin/clients/emr/disabled", disabled="1")
    with database.session_scope() as session:
        assert smart.get_client(session, "emr").disabled
    assert admin.upload("/admin/clients/other/keys", "k", json.dumps(chosen.jwks).encode()).status_code == 404


@pytest.mark.parametrize("path", ["/admin/clients", "/admin/clients/emr/keys", "/admin/terminology/imports", "/batches"])
def test_a_form_with_a_file_is_taken_from_our_own_pages_alone(admin: SignedBrowser, path: str) -> None:
    def send(token: str | None, *, last: bool = False, **headers: str) -> int:
        field = [] if token is None else [("csrf_token", (None, token))]
        file = [("file", ("a.json", b"{}"))]
        return admin.client.post(path, files=[*file, *field] if last else [*field, *file], headers=headers).status_code

    assert send(None) == 403 and send("0" * 64) == 403
    assert send(admin.csrf, last=True) == 403, "the token has to come before the file"
    assert send(admin.csrf, Origin="https://elsewhere.test") == 403
    assert send(admin.csrf) in (404, 422)
    broken = b'--x\r\nContent-Disposition: form-data; name="csrf_token"\r\n\r\n' + admin.csrf.encode() + b"\r\n--x\r\n"
    media = {"Content-Type": "multipart/form-data; boundary=x"}
    assert admin.client.post(path, content=broken, headers=media).status_code in (400, 409)
    assert admin.client.post(path, content=b"no form at all", headers=media).status_code == 400
    assert admin.client.post(path, content=b"{}", headers={"Content-Type": "application/json"}).status_code == 403


def table(version: str, **displays: str) -> bytes:
    concepts = [{"code": code, "display": display} for code, display in displays.items()]
    resource = {"resourceType": "CodeSystem", "url": SYSTEM, "version": version, "status": "active", "content": "complete"}
    return json.dumps(resource | {"concept": concepts}).encode()


def test_tables(admin: SignedBrowser, database: Database) -> None:
    def load(name: str, content: bytes) -> Any:
        return finished(admin, admin.upload("/admin/terminology/imports", name, content, kind="codesystem"))

    first = load("one.json", table("2025", A="甲", B="乙", C="丙"))
    assert first.status_code == 200 and "取り込みが終わりました" in first.text and SYSTEM in first.text
    assert "既に取り込まれています" in load("one.json", table("2025", A="甲", B="乙", C="丙")).text
    second = load("two.json", table("2026", A="甲", B='乙 "新" <b>', D="丁", E="戊"))
    assert "2026" in second.text
    faulty = load("three.json", b"[]")
    assert faulty.status_code == 422 and "できませんでした" in faulty.text
    assert admin.upload("/admin/terminology/imports", "x.csv", b"x", kind="nonsense").status_code == 422
    assert admin.upload("/admin/terminology/imports", "", b"", kind="nmain").status_code == 422

    with database.session_scope() as session:
        rows = session.scalars(select(CodeSystemRelease).where(CodeSystemRelease.system == SYSTEM)).all()
        ids = {row.version: row.id for row in rows}
        assert {row.version: row.active for row in rows} == {"2025": False, "2026": True}
    both = {"before": str(ids["2025"]), "after": str(ids["2026"])}
    compared = admin.text("/admin/terminology/compare", **both)
    assert "2025 → 2026" in compared and "乙 &#34;新&#34; &lt;b&gt;" in compared
    assert words_of(compared).count("追加") >= 3 and "甲" not in words_of(compared)
    removed = words_of(admin.text("/admin/terminology/compare", **both, kind="removed"))
    assert "丙" in removed and "丁" not in removed
    lines = admin.get("/admin/terminology/compare.csv", **both).content.decode("utf-8-sig").splitlines()
    assert lines == ["change,code,before,after,parts", 'changed,B,乙,"乙 ""新"" <b>",names', "removed,C,丙,,", "added,D,,丁,", "added,E,,戊,"]
    assert admin.get("/admin/terminology/compare", before=str(ids["2025"]), after=str(ids["2025"])).status_code == 200

    assert admin.post("/admin/terminology/use", system=SYSTEM, version="2025").status_code == 200
    assert admin.post("/admin/terminology/use", system=SYSTEM, version="1999").status_code == 404
    with database.session_scope() as session:
        assert session.scalar(select(CodeSystemRelease.version).where(CodeSystemRelease.active, CodeSystemRelease.system == SYSTEM)) == "2025"
        named = session.scalars(select(AuditEvent.ids).where(AuditEvent.acted_by == admin.who, AuditEvent.ids.is_not(None))).all()
    for version, times in (("2025", 2), ("2026", 1)):  # imported, and the first one used again
        assert sum(f"CodeSystem/{ids[version]}" in one for one in named if one) == times
    other = admin.get("/admin/terminology/imports/00000000-0000-4000-8000-000000000000")
    assert other.status_code == 404


def test_the_installation(admin: SignedBrowser, database: Database) -> None:
    admin.post("/admin/terminology/starter")
    with database.session_scope() as session:
        heartbeat.beat(session, "host:1", heartbeat.Load(slots=8, model="0123456789abcdef", busy=3))
        heartbeat.beat(session, "host:2", heartbeat.Load())
    page = words_of(admin.text("/admin/system"))
    for shown in ("見本病院", "1311234567", "PATIENT_ID_OID", "循環器科", "weights/models.toml", "0123456789abcdef", "設定と異なる", "3 / 8",
                  "モデルを読み込み中"):  # fmt: skip
        assert shown in page, shown
    assert re.search(r"uc1 .*?[0-9a-f]{16}", page)


def test_the_pages_load_no_model_engine() -> None:
    code = "import app.main, app.web.system_pages, sys; print([n for n in ('llama_cpp', 'llguidance', 'outlines') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_audit_log(admin: SignedBrowser, database: Database) -> None:
    found = words_of(admin.text("/admin/audit", action="admin", actor=admin.who))
    assert "POST /admin/users" in found or "admin" in found
    assert "login-failed" not in re.findall(r"<td>([a-z-]+)</td>", admin.text("/admin/audit", action="admin"))
    assert "ありません" in admin.text("/admin/audit", since="2001-01-01", until="2001-01-02")
    for wrong in ({"action": "nonsense"}, {"note": "1"}, {"since": "yesterday"}, {"actor": "x" * 201}):
        assert admin.get("/admin/audit", **wrong).status_code == 422, wrong
    with database.session_scope() as session:
        for _ in range(150):
            audit.record(session, AuditAction.ADMIN, by="test")
    older = re.findall(r'href="(/admin/audit\?[^"]*cursor=\d+)"', admin.text("/admin/audit"))[0].replace("&amp;", "&")
    assert "<table" in admin.text(older)

    fine = finished(admin, admin.post("/admin/audit/checks"))
    number, head = re.findall(r"([\d,]+) 行を検査しました", fine.text)[0], re.findall(r'<code id="head">([^<]+)', fine.text)[0]
    assert int(number.replace(",", "")) > 150
    assert "異常はありません" in finished(admin, admin.post("/admin/audit/checks", head=head)).text
    assert admin.post("/admin/audit/checks", head="nonsense").status_code == 422
    with database.session_scope() as session:
        session.execute(text("ALTER TABLE audit_events DISABLE TRIGGER append_only"))
        row = session.scalar(text("UPDATE audit_events SET acted_by = 'me' WHERE id = (SELECT max(id) - 5 FROM audit_events) RETURNING id"))
    wrong = finished(admin, admin.post("/admin/audit/checks"))
    assert f"{row} 番の行に異常があります" in wrong.text
    with database.session_scope() as session:
        session.execute(text("UPDATE audit_events SET acted_by = 'test' WHERE id = :id"), {"id": row})
        session.execute(text("ALTER TABLE audit_events ENABLE TRIGGER append_only"))


def test_batches(admin: SignedBrowser, database: Database) -> None:
    lines = [note(number) for number in range(4)]
    form = {"format": "ndjson", "name": "April", "source": "emr-1", "rate": "600/h"}
    started = admin.upload("/batches", "notes.ndjson", ndjson(lines), **form)
    assert started.status_code == 200 and re.fullmatch(r"/batches/[0-9a-f-]{36}", started.url.path), started.text
    address = started.url.path
    with database.session_scope() as session:
        row = session.scalars(select(Batch)).one()
        assert (row.name, row.source, row.total, row.rate, row.created_by) == ("April", "emr-1", 4, "600/h", admin.who)
        assert row.bytes == len(ndjson(lines))
    assert "April" in admin.text("/batches")
    assert "一時停止" in words_of(admin.post(f"{address}/pause").text)
    assert f'formaction="{address}/resume"' in admin.text(address)
    assert admin.post(f"{address}/retry-failed").status_code == 409
    admin.post(f"{address}/resume")
    cancelled = admin.post(f"{address}/cancel")
    assert 'class="badge">中止' in cancelled.text and 'http-equiv="refresh"' not in cancelled.text
    assert admin.post(f"{address}/pause").status_code == 409

    empty = admin.upload("/batches", "notes.ndjson", b"", **form)
    assert empty.status_code == 422 and "ファイルが空です" in empty.text and 'value="April"' in empty.text
    assert admin.upload("/batches", "notes.ndjson", b"x" * 2_000_001, **form).status_code == 413
    assert admin.upload("/batches", "notes.ndjson", b"x", **form | {"rate": "fast"}).status_code == 422
    with database.session_scope() as session:
        assert len(session.scalars(select(Batch)).all()) == 1, "nothing of what was refused is kept"
        assert session.scalar(select(User.login).where(User.login == admin.login))
