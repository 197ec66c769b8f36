"""Reviewers at work in a real browser: from signing in to what FHIR and SS-MIX2 say of what they released."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from installation import Installation
from playwright.sync_api import Browser
from read_by_hand import CHOSEN, stored
from review_site import FACILITY, PASSWORD, PATIENCE_MS, Reader, chromium_on, note_of, sample

from app import ssmix2
from app.storage_export import Storages

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium_on(tmp_path_factory) as browser:
        yield browser


@pytest.fixture(scope="module")
def hospital(installation: Installation) -> Installation:
    installation.start_api(**FACILITY)
    return installation


def test_a_note_is_reviewed_by_two_and_released(hospital: Installation, chromium: Browser, tmp_path: Path) -> None:
    note = stored(hospital.database, note_of("V000001"), """
        condition name=２型糖尿病 onset=2015年
        condition name=高血圧
        lab name=HbA1c value=7.2 unit=%
    """)
    first = Reader(hospital, chromium, "ichiro", signed_in=False)
    page = first.page
    page.goto("/login")
    page.fill("input[name=login]", "ichiro")
    page.fill("input[name=password]", PASSWORD)
    page.click("form[action='/login'] button")
    page.wait_for_url("**/")
    page.goto("/review")
    first.picture("review-queue")
    first.press("n")
    page.wait_for_url(f"**/review/{note}")

    # Accept by key; the next item has the focus at once.
    page.locator("article.card:focus").wait_for()
    assert first.at() == "2型糖尿病"
    first.press("a")
    assert first.at() == "高血圧症"
    first.wait_state("2型糖尿病", "accept")
    page.get_by_text("1 / 3").or_(page.get_by_text("2 / 3")).first.wait_for()

    # Correct a code through the picker, by its reading.
    first.press("e")
    search = page.get_by_role("combobox", name="コード")
    search.fill("ほんたいせいこうけつあつ")
    option = page.locator("li[role=option]").first
    option.wait_for()
    search.press("Enter")
    page.locator(".editing .chosen b, .editing .chosen", has_text="本態性高血圧").wait_for()
    page.locator(".editing .check", has_text="本態性高血圧").wait_for()
    first.picture("review-edit")
    page.get_by_role("button", name="保存").click()
    first.wait_state("高血圧", "amend")

    # Undo with one key, and again to where it was.
    first.press("u")
    first.wait_state("高血圧", "open")
    first.press("r")
    first.wait_state("高血圧", "reject")
    first.press("u")
    first.wait_state("高血圧", "open")
    first.press("a")
    first.wait_state("高血圧", "accept")
    first.wait_state("HbA1c", "open")
    first.press("a")
    first.wait_state("HbA1c", "accept")

    # A missed allergy, by selecting text.
    first.select("卵")
    first.press("m")
    editor = page.locator("#new.editing")
    editor.wait_for()
    editor.get_by_label("種類").select_option("food")
    editor.locator("[data-pick=reaction]").click()
    first.select("じんましん")
    assert editor.locator("[data-part$=':reaction'] q").inner_text() == "じんましん"
    page.locator("#new .check b", has_text="卵").wait_for()
    first.picture("review-add")
    editor.get_by_role("button", name="保存").click()
    first.wait_state("卵", "add")
    assert page.locator("#note-text mark.k-other-allergy", has_text="卵").count() == 1

    # A second reader, blind, who misses the allergy; the two then agree.
    page.get_by_role("button", name="二人目に回す").click()
    page.get_by_text("二人目の確認に回しました").wait_for()
    second = Reader(hospital, chromium, "jiro")
    second.page.goto("/review?state=second")
    second.press("n")
    second.page.wait_for_url(f"**/review/{note}")
    second.page.get_by_text("一人目の判断は").wait_for()
    assert second.page.locator("article.card").count() == 3
    assert second.page.locator("article.card[data-state=open]").count() == 3
    second.picture("review-second")
    second.press("A")
    for name in ("2型糖尿病", "高血圧症", "HbA1c"):
        second.wait_state(name, "accept")
    second.press("f")
    second.page.get_by_text("二人目の確認を終えました").wait_for()

    page.goto(f"/review/{note}/differences")
    first.picture("review-differences")
    page.locator("article", has_text="卵").get_by_role("button", name="これにする").first.click()
    page.get_by_text("一人目 に決まりました").wait_for()

    page.goto(f"/review/{note}")
    first.press("f")
    page.get_by_role("heading", name="確認結果の確定").wait_for()
    first.picture("review-release")
    page.get_by_role("button", name="確定する").click()
    page.get_by_role("heading", name="確定しました").wait_for()
    assert first.complaints == [] and second.complaints == []

    found = hospital.request_json("GET", "/fhir/AllergyIntolerance?patient.identifier=V000001")
    (allergy,) = [entry["resource"] for entry in found["entry"]]
    assert "卵" in allergy["code"]["text"] and "draft" not in str(allergy["meta"].get("tag"))
    assert allergy["reaction"][0]["manifestation"][0]["text"] == "じんましん"
    storages = Storages(tmp_path, CHOSEN.sender(note_of("V000001"), None))
    storages.open(None)
    with hospital.database.session_scope() as session:
        written = storages.write_patient(session, "emr", "V000001", datetime.now(UTC))
    assert written.refused == [] and written.new["ADT-61"] == 1
    (message,) = [one for one in ssmix2.storage.current_messages(storages.root, "V000001") if one.kind.value == "ADT-61"]
    assert "卵" in message.text


def test_without_scripts_items_are_accepted_and_rejected(hospital: Installation, chromium: Browser) -> None:
    note = stored(hospital.database, note_of("V000002"), "condition name=２型糖尿病\ncondition name=高血圧")
    reader = Reader(hospital, chromium, "kaishi", scripts=False)
    reader.page.goto(f"/review/{note}")
    for name, button, state in (("2型糖尿病", "承認", "accept"), ("高血圧", "却下", "reject")):
        card = reader.page.locator("article.card", has=reader.page.locator("h3", has_text=name))
        card.get_by_role("button", name=button).click()
        reader.wait_state(name, state)
    assert reader.page.get_by_role("button", name="操作").count() == 0, "what needs a script is not shown"


def test_nothing_in_a_note_runs(hospital: Installation, chromium: Browser) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)><a href=javascript:alert(3)>x</a>"
    text = f"{evil}\n高血圧。\"><svg onload=alert(4)>\r\n𠮷田は喘息。"
    note = stored(
        hospital.database, note_of("V000003", text, family=evil, given="<svg onload=alert(5)>"),
        f"condition name={evil[:25]}\ncondition name=高血圧\ncondition name=喘息",
    )  # fmt: skip
    reader = Reader(hospital, chromium, "yon")
    page = reader.page
    page.goto(f"/review/{note}")
    page.locator("article.card:focus").wait_for()
    assert "\n".join(page.locator("#note-text .line").all_text_contents()) == text
    reader.press("e")
    page.locator("article.editing").wait_for()
    page.get_by_role("combobox", name="コード").fill('"><img src=x onerror=alert(6)>')
    page.get_by_text("0 件").wait_for()
    reader.press("Escape")
    # Characters outside the first plane are one character each: the selection is where it was made.
    reader.select("喘息")
    reader.press("m")
    page.locator("#new.editing").wait_for()
    assert page.locator("#new input[name='name.start']").input_value() == str(text.index("喘息"))
    assert page.locator("#new [data-part$=':name'] q").inner_text() == "喘息"
    assert reader.complaints == [] and page.locator("#note-text svg, #note-text img, h1 svg").count() == 0


def test_the_page_shows_what_two_people_decided_at_once(hospital: Installation, chromium: Browser) -> None:
    note = stored(hospital.database, note_of("V000004"), "condition name=２型糖尿病\ncondition name=高血圧")
    one, other = Reader(hospital, chromium, "go"), Reader(hospital, chromium, "roku")
    for reader in (one, other):
        reader.page.goto(f"/review/{note}")
        reader.page.locator("article.card:focus").wait_for()
    other.press("r")
    other.wait_state("2型糖尿病", "reject")
    one.press("a")
    stale = one.page.locator("article.stale")
    stale.wait_for()
    assert "roku 様" in stale.inner_text()
    one.picture("review-stale")
    stale.get_by_role("button", name="自分の判断にする").click()
    one.wait_state("2型糖尿病", "accept")
    assert [line for line in one.complaints if "409" not in line] == []


def test_pictures_for_the_handbook(hospital: Installation, chromium: Browser) -> None:
    """A tablet and a desk show a sample without scrolling sideways."""
    note = sample(hospital)
    reader = Reader(hospital, chromium, "nana")
    for width, height, name in ((1280, 800, "desk"), (820, 1180, "tablet")):
        reader.page.set_viewport_size({"width": width, "height": height})
        reader.page.goto("/review")
        assert reader.page.evaluate("document.documentElement.scrollWidth") <= width
        reader.picture(f"review-queue-{name}")
        reader.page.goto(f"/review/{note}")
        reader.page.locator("article.card:focus").wait_for(timeout=PATIENCE_MS)
        assert reader.page.evaluate("document.documentElement.scrollWidth") <= width
        reader.press("j")
        reader.picture(f"review-note-{name}")
    assert reader.complaints == []
