"""The whole review without a mouse, and how fast a large note answers to a key."""

from collections.abc import Iterator

import pytest
from installation import Installation
from playwright.sync_api import Browser
from read_by_hand import stored
from review_site import FACILITY, PASSWORD, TEXT, Reader, chromium_on, note_of

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

KEY_MS = 150
"""Longest wait for the next item after a key, with 100 items beside a note of 20,000 characters."""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium_on(tmp_path_factory) as browser:
        yield browser


@pytest.fixture(scope="module")
def hospital(installation: Installation) -> Installation:
    installation.start_api(**FACILITY)
    return installation


def tab_to(reader: Reader, selector: str) -> None:
    for _ in range(120):
        reader.press("Tab")
        if reader.page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"no Tab leads to {selector}")


def select(reader: Reader, quote: str) -> None:
    """In the note, with arrows alone, from wherever the cursor is. The note has the focus."""
    line = next(n for n, text in enumerate(TEXT.split("\n")) if quote in text)
    column = TEXT.split("\n")[line].index(quote)
    reader.press(*["ArrowUp"] * 6, "Home", *["ArrowDown"] * line, *["ArrowRight"] * column)
    reader.press(*["Shift+ArrowRight"] * len(quote))
    assert reader.page.evaluate("getSelection().toString()") == quote


def sign_in(reader: Reader) -> None:
    reader.page.goto("/login")
    reader.page.locator("input[name=login]:focus").wait_for()
    reader.page.keyboard.type(reader.login)
    reader.press("Tab")
    reader.page.keyboard.insert_text(PASSWORD)
    reader.press("Enter")
    reader.page.wait_for_url("**/")
    tab_to(reader, "a[href='/review']")
    reader.press("Enter")
    reader.page.wait_for_url("**/review")


def test_a_note_is_reviewed_without_a_mouse(hospital: Installation, chromium: Browser) -> None:
    note = stored(hospital.database, note_of("K000001"), """
        condition name=２型糖尿病 onset=2015年
        condition name=高血圧
        lab name=HbA1c value=7.2 unit=%
        lab name=CRP value=3.4 unit=mg/dL
    """)
    reader = Reader(hospital, chromium, "ichi", signed_in=False)
    page = reader.page
    sign_in(reader)
    reader.press("n")
    page.wait_for_url(f"**/review/{note}")
    page.locator("article.card:focus").wait_for()
    reader.press("?")
    page.locator("dialog[open]").wait_for()
    reader.press("Escape")

    # Another code for the first one.
    reader.press("e")
    page.locator(".editing [data-pick=name]:focus").wait_for()
    tab_to(reader, ".search")
    page.keyboard.type("NIDDM")
    page.locator("li[role=option]").first.wait_for()
    reader.press("ArrowDown", "ArrowUp", "Enter")
    page.locator(".editing [data-uncode]").wait_for()
    reader.press("Control+Enter")
    reader.wait_state("糖尿病", "amend")

    # j, a, k, arrows; u takes the last one back.
    reader.press("j", "a")
    reader.wait_state("高血圧", "accept")
    assert reader.at() == "HbA1c"
    reader.press("r")
    reader.wait_state("HbA1c", "reject")
    reader.press("u")
    reader.wait_state("HbA1c", "open")
    page.locator("article.card:focus h3", has_text="HbA1c").wait_for()
    reader.press("ArrowDown")
    assert reader.at() == "CRP"
    reader.press("ArrowUp", "A")
    reader.wait_state("CRP", "accept")
    reader.wait_state("HbA1c", "open")  # somebody has judged it before: no rule accepts it in his name
    reader.press("a")
    reader.wait_state("HbA1c", "accept")

    # What was missed: its name and its reaction, selected with arrows.
    reader.press("s")
    page.locator("#note:focus").wait_for()
    select(reader, "ペニシリン")
    reader.press("m")
    page.locator("#new.editing select:focus").wait_for()
    tab_to(reader, "[data-pick=reaction]")
    reader.press("Enter")
    page.locator("#note:focus").wait_for()
    select(reader, "発疹")
    reader.press("Enter")
    page.locator("#new [data-pick=reaction]:focus").wait_for()
    page.locator("#new .check b", has_text="ペニシリン").wait_for()
    reader.press("Control+Enter")
    reader.wait_state("ペニシリン", "add")
    reader.press("u")
    page.locator("article.card[data-state=add]").wait_for(state="detached")
    reader.press("s")
    page.locator("#note:focus").wait_for()
    select(reader, "ペニシリン")
    reader.press("Enter")
    page.locator("#new.editing select:focus").wait_for()
    reader.press("Control+Enter")
    reader.wait_state("ペニシリン", "add")

    # Somebody else reads it too.
    tab_to(reader, "form[action$='/second/choose'] button")
    reader.press("Enter")
    page.get_by_text("二人目の確認に回しました").wait_for()
    other = Reader(hospital, chromium, "ni", signed_in=False)
    sign_in(other)
    tab_to(other, "select[name=state]")
    other.press("End")
    tab_to(other, ".filters button")
    other.press("Enter")
    other.page.wait_for_url("**state=second**")
    other.press("j", "Enter")
    other.page.wait_for_url(f"**/review/{note}")
    other.page.locator("article.card:focus").wait_for()
    other.press("a", "a", "a", "a")
    other.page.locator("#progress[data-open='0']").wait_for()
    other.press("f")
    other.page.get_by_text("二人目の確認を終えました").wait_for()

    page.goto(f"/review/{note}")
    tab_to(reader, f"a[href='/review/{note}/differences']")
    reader.press("Enter")
    page.wait_for_url("**/differences")
    for left in range(page.locator("button[value=first]").count(), 0, -1):
        tab_to(reader, "button[value=first]")
        reader.press("Enter")
        page.wait_for_function("(left) => document.querySelectorAll('button[value=first]').length < left", arg=left)
    tab_to(reader, f"a[href='/review/{note}']")
    reader.press("Enter")
    page.locator("article.card:focus").wait_for()
    reader.press("f")
    page.locator("form[action$='/release'] button:focus").wait_for()
    reader.press("Enter")
    page.get_by_role("heading", name="確定しました").wait_for()
    assert reader.complaints == [] and other.complaints == []


def test_a_large_note_answers_to_a_key_at_once(hospital: Installation, chromium: Browser) -> None:
    lines = [f"{number}日目 高血圧 {'経過良好、' * 38}" for number in range(100)]
    text = "\n".join(lines)
    assert len(text) > 19_000
    note = stored(hospital.database, note_of("K000002", text), "condition name=高血圧\n" * 1 + "".join(
        f"condition name=高血圧 onset={number}日目\n" for number in range(1, 100)
    ))  # fmt: skip
    reader = Reader(hospital, chromium, "san")
    reader.page.goto(f"/review/{note}")
    reader.page.locator("article.card:focus").wait_for()
    assert reader.page.locator("article.card").count() == 100
    assert reader.page.locator("#note-text *").count() < 1000, "no elements for single characters"
    reader.page.evaluate("""() => {
        window.took = [];
        addEventListener('keydown', () => {
            const pressed = performance.now();
            requestAnimationFrame(() => setTimeout(() => window.took.push(performance.now() - pressed)));
        }, true);
    }""")
    for key in ("j", "a", "j", "j", "a", "k", "a", "j"):
        before = len(reader.page.evaluate("window.took"))
        reader.press(key)
        reader.page.wait_for_function("(before) => window.took.length > before", arg=before)
    took = sorted(reader.page.evaluate("window.took"))
    assert took[len(took) // 2] < KEY_MS, took
