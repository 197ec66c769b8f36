"""The pages against axe-core, the checker of WCAG rules (npm package, fetched for this test alone)."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from installation import Installation
from playwright.sync_api import Browser, Page
from read_by_hand import stored
from review_site import FACILITY, READING, Reader, chromium_on, note_of

from schemas.access import Role

PACKAGE = "axe-core@4.11.0"
# https://www.w3.org/TR/WCAG22/: levels A and AA.
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
SERIOUS = ("serious", "critical")
ADMIN = ("/dashboard", "/dashboard/names", "/batches", "/admin", "/admin/users", "/admin/clients", "/admin/terminology", "/admin/system",
         "/admin/audit")  # fmt: skip

pytestmark = [pytest.mark.browser, pytest.mark.npm, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The script."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("npm")
    (folder / "package.json").write_text('{"private": true}')
    arguments = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline", PACKAGE]
    done = subprocess.run([npm, *arguments], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        pytest.skip("npm cannot get the package: " + done.stderr[-300:])
    return Path(folder, "node_modules", "axe-core", "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium_on(tmp_path_factory) as browser:
        yield browser


@pytest.fixture(scope="module")
def hospital(installation: Installation) -> Installation:
    installation.start_api(**FACILITY)
    return installation


def findings(page: Page, axe: str, where: str) -> list[str]:
    if not page.evaluate("Boolean(window.axe)"):
        page.evaluate(axe + "; null")
    options = {"runOnly": TAGS, "resultTypes": ["violations"]}
    found = page.evaluate("(options) => axe.run(document, options)", options)["violations"]
    return [
        f"{where}: {one['id']} ({one['impact']}): {node['html'][:160]}"
        for one in found
        if one["impact"] in SERIOUS
        for node in one["nodes"]
    ]


def test_no_page_of_reviewers_has_a_serious_finding(hospital: Installation, chromium: Browser, axe: str) -> None:
    text = note_of("A000001").text + "\nセフェム系抗菌薬セファゾリンでアナフィラキシーの既往あり"
    note = stored(hospital.database, note_of("A000001", text), READING, {"高血圧": 0.6})
    reader = Reader(hospital, chromium, "ichi")
    page, found = reader.page, []

    def look(where: str) -> None:
        found.extend(findings(page, axe, where))

    for language in ("en", "ja"):
        page.goto("/review")
        page.locator(f"button[value={language}]").click() if page.locator(f"button[value={language}]").count() else None
        page.locator(f"html[lang={language}]").wait_for()
        look(f"queue {language}")
        page.goto(f"/review/{note}")
        page.locator("article.card:focus").wait_for()
        look(f"note {language}")
    reader.press("a", "r")
    reader.wait_state("高血圧", "reject")
    page.hover("#note-text mark.k-lab")
    look("decided, a mark under the mouse")
    reader.press("e")
    page.locator(".search").fill("とう")
    page.locator("li[role=option]").first.wait_for()
    look("editor with codes")
    reader.press("Escape", "Escape")
    reader.press("m")
    page.locator("#new.editing").wait_for()
    page.locator("#new [data-pick=name]").click()
    look("a missed one, picking its name")
    reader.press("Escape", "Escape")
    reader.press("?")
    look("help")
    reader.press("Escape")
    page.set_viewport_size({"width": 820, "height": 1180})
    look("tablet")
    for path in (f"/review/{note}/release", f"/review/{note}/withdraw", f"/review/{note}/new", "/review?state=decided"):
        page.goto(path)
        look(path.replace(str(note), "…"))
    assert found == []


def test_no_other_page_has_a_serious_finding(hospital: Installation, chromium: Browser, axe: str) -> None:
    note = stored(hospital.database, note_of("A000002"), READING)
    reader = Reader(hospital, chromium, "ni", *Role)
    found = []
    for path in (*ADMIN, f"/trace/notes/{note}"):
        answer = reader.page.goto(path)
        assert answer is not None and answer.status == 200, path
        found += findings(reader.page, axe, path)
    assert found == []
