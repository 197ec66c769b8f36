"""Administration in a real browser, with scripts off: files chosen in forms, work whose page renews itself, nothing but the keyboard."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from installation import Installation, make_note
from playwright.sync_api import Browser, Page, sync_playwright

from app import accounts, sign_in
from app.web.access import SESSION_LIFETIMES
from schemas.access import Role

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]  # fmt: skip
PATIENCE_MS = 120_000
PATHS = ("/admin", "/admin/users", "/admin/clients", "/admin/terminology", "/admin/system", "/admin/audit", "/batches", "/dashboard",
         "/dashboard/names")  # fmt: skip
SCREENSHOTS = Path(__file__).parents[2] / ".screenshots"

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        pytest.skip("chromium is not installed")
    home = dict(os.environ) | {"HOME": str(tmp_path_factory.mktemp("browser"))}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS, timeout=PATIENCE_MS, env=home)
        yield browser
        browser.close()


def signed_in(installation: Installation, chromium: Browser, *, scripts: bool) -> tuple[Page, list[str]]:
    """A page of somebody who has every role, and what it complained of."""
    with installation.database.session_scope() as session:
        person = accounts.add_user(session, f"kanri{scripts:d}", "管理 花子", tuple(Role), by="test")
        secret = sign_in.open_session(session, person.id, SESSION_LIFETIMES)
    base = f"http://127.0.0.1:{installation.port}"
    context = chromium.new_context(base_url=base, java_script_enabled=scripts, viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    context.add_cookies([{"name": "hyojun", "value": secret, "url": base}])
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    return page, complaints


def test_an_administrator_works_without_scripts(
    installation: Installation, chromium: Browser, tmp_path: Path
) -> None:
    installation.start_api()
    page, _ = signed_in(installation, chromium, scripts=False)

    page.goto("/admin/users")
    page.get_by_role("textbox", name="ログイン名").focus()
    for key in ("rev1", "Tab", "確認 太郎", "Tab", "Tab", "Space", "Tab", "Tab", "Enter"):
        if key in ("Tab", "Space", "Enter"):
            page.keyboard.press(key)
        else:
            page.keyboard.insert_text(key)
    link = page.locator("#one-time-link").inner_text()
    assert re.search(r"/setup\?token=[\w-]{20,}", link)
    with installation.database.session_scope() as session:
        assert accounts.user_of_login(session, "rev1").roles == (Role.REVIEWER,)

    concepts = [{"code": f"C{number}", "display": f"病名{number}"} for number in range(3000)]
    table = {"resourceType": "CodeSystem", "url": "http://example.test/c", "version": "1", "status": "active",
             "content": "complete", "concept": concepts}  # fmt: skip
    (tmp_path / "table.json").write_text(json.dumps(table))
    page.goto("/admin/terminology")
    page.select_option("select[name=kind]", "codesystem")
    page.set_input_files("input[type=file]", tmp_path / "table.json")
    page.click("form[action='/admin/terminology/imports'] button")
    page.get_by_text("取り込みが終わりました").wait_for()
    assert "3,000" in page.locator("main").inner_text()

    (tmp_path / "notes.ndjson").write_text("".join(json.dumps(make_note("高血圧。")) + "\n" for _ in range(3)))
    page.goto("/batches")
    page.set_input_files("input[type=file]", tmp_path / "notes.ndjson")
    page.click("form[action='/batches'] button")
    page.wait_for_url("**/batches/*-*")
    page.click("text=一時停止")
    page.get_by_role("button", name="再開").wait_for()

    page.goto("/admin/audit")
    page.click("form[action='/admin/audit/checks'] button")
    page.get_by_text("異常はありません").wait_for()


def test_every_page_fits_a_desk_and_a_tablet_and_complains_of_nothing(
    installation: Installation, chromium: Browser
) -> None:
    installation.start_api()
    page, complaints = signed_in(installation, chromium, scripts=True)
    SCREENSHOTS.mkdir(exist_ok=True)
    for path in PATHS:
        answer = page.goto(path)
        assert answer is not None and answer.status == 200, path
        assert page.locator("h1").count() == 1 and page.title()
        for width in (1280, 820):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (path, width)
        page.set_viewport_size({"width": 1280, "height": 900})
        page.screenshot(path=SCREENSHOTS / f"{path.strip('/').replace('/', '-')}.png", full_page=True)
    page.goto("/dashboard")
    page.click("header button[name=language]")
    page.get_by_role("heading", name="Drift by week").wait_for()
    assert page.url.endswith("/dashboard") and page.locator("html").get_attribute("lang") == "en"
    assert complaints == []
