"""The pages in a real browser: from the first administrator's link to the front page."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from installation import Installation, make_note
from playwright.sync_api import BrowserContext, sync_playwright

from app import accounts, jobs

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
# As little of its own traffic as it can do with; every name but ours is unknown to it, so that nothing can get out.
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]  # fmt: skip
PATIENCE_MS = 120_000
PASSWORD = "とても長い合言葉である 7"

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    if not Path(CHROMIUM).exists():
        pytest.skip("chromium is not installed")
    home = tmp_path_factory.mktemp("browser")
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            home / "profile", executable_path=CHROMIUM, headless=True, args=ARGUMENTS, timeout=PATIENCE_MS,
            env=dict(os.environ) | {"HOME": str(home)},
        )  # fmt: skip
        context.set_default_timeout(PATIENCE_MS)
        yield context
        context.close()


def test_the_first_administrator_comes_in_and_the_front_page_asks_nobody_else(
    installation: Installation, browser: BrowserContext
) -> None:
    installation.start_api()
    assert "hyojun users admin-link" in installation.log("serve"), "where no terminal reads it, no link is written"
    assert "token=" not in installation.log("serve")
    ids = [installation.request_json("POST", "/api/notes", make_note(text))["id"] for text in ("咳。", "熱。", "痛み。")]
    with installation.database.session_scope() as session:
        jobs.cancel(session, ids[0])

    page = browser.new_page()
    requested, complaints = [], []
    browser.on("request", lambda request: requested.append(request.url))
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    home = f"http://127.0.0.1:{installation.port}/"
    with installation.database.session_scope() as session:
        link = accounts.make_admin_link(session)
    page.goto(f"{home}setup?token={link}")
    page.fill("input[name=login]", "kanri")
    page.fill("input[name=name]", "管理 花子")
    for field in ("password", "again"):
        page.fill(f"input[name={field}]", PASSWORD)
    page.click("form[action='/setup'] button")
    page.goto(home)
    assert page.url == f"{home}login", "whoever is not signed in is asked to"
    page.fill("input[name=login]", "kanri")
    page.fill("input[name=password]", PASSWORD)
    page.click("form[action='/login'] button")
    page.wait_for_url(home)
    requested.clear()
    response = page.goto(home, wait_until="networkidle")
    assert response is not None and response.status == 200
    assert "管理 花子" in page.locator("body").inner_text()
    assert page.evaluate("getComputedStyle(document.querySelector('button')).backgroundColor") == "rgb(31, 95, 153)", (
        "the policy lets the page's own style through"
    )

    assert page.locator("html").get_attribute("lang") == "ja"
    assert "標準" in page.title() and "標準" in page.locator("h1").inner_text()
    counts = {cell: page.locator(f"#{cell}").inner_text() for cell in ("queued", "running", "done", "failed", "cancelled")}
    assert counts == {"queued": "2", "running": "0", "done": "0", "failed": "0", "cancelled": "1"}
    for cell in counts:
        assert page.locator("tr", has=page.locator(f"#{cell}")).locator("th").inner_text().strip()

    page.set_viewport_size({"width": 360, "height": 640})
    page.goto(home)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360, "a telephone shows it without scrolling sideways"

    assert {url for url in requested if not url.startswith("data:")} == {home}, "one document holds all of the page"
    assert complaints == []

    links = {link.get_attribute("href") for link in page.locator("a").all()}
    assert {"/openapi.json", "/fhir/metadata", "/readyz", "/account"} <= links
    for link in sorted(str(link) for link in links):
        followed = page.goto(home.rstrip("/") + link if link.startswith("/") else link)
        assert followed is not None and followed.status == 200, link

    assert {urlsplit(url).netloc for url in requested if not url.startswith("data:")} == {f"127.0.0.1:{installation.port}"}

    page.goto(home)
    page.click("form[action='/logout'] button")
    page.goto(home)
    assert page.url == f"{home}login"
    assert complaints == []
