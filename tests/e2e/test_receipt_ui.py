"""Receipt checks in a real browser: a file is sent, and its claims are judged beside the chart."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
import test_review_axe
from installation import Installation
from playwright.sync_api import Browser
from read_by_hand import stored
from review_site import FACILITY, Reader, chromium_on, note_of
from sqlalchemy import select

from app import receipt_work, running
from app.jobs import Convert, Policy
from app.receipts.chart import Entry
from app.receipts.check import check
from app.receipts.tables import Tables
from app.receipts.uke import Claim
from models import Job, ReceiptClaim
from schemas.access import Role
from schemas.issue import Issue
from schemas.job import JobState
from schemas.receipt import Advice, Advised, Cited, Finding, Reason
from schemas.statement import EvidenceSpan

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
axe, findings = test_review_axe.axe, test_review_axe.findings

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"><svg onload=alert(3)>"
CHART = f"""【主訴】糖尿病の定期受診。{EVIL}
HbA1c 7.4%。高血圧は認めない。
胃癌の疑いで内視鏡を行い、悪性所見なし。
𠮷田医師と相談し、腰痛にロキソニン錠60mg 3錠 分3 14日分を処方。
次回は4週間後。"""
READING = """
condition name=糖尿病
lab name=HbA1c value=7.4 unit=%
condition name=高血圧 assertion=absent
condition name=腰痛
prescription name=ロキソニン錠60mg dose=3錠 usage=分3 days=14日分
"""
DENIED, BACK = "高血圧は認めない", "腰痛にロキソニン錠60mg 3錠 分3 14日分を処方"


def item(kind: str, section: str, code: str, points: int, times: int = 1, amount: str = "") -> str:
    """Given or done on the third."""
    days = ["", "", str(times), *[""] * 28]
    return ",".join([kind, section, "1", code, amount, str(points), str(times), *[""] * 6, *days])


def uke(*charts: str) -> bytes:
    """A claim for each chart number: acts that exclude each other, and a drug without its disease. One record is broken."""
    lines = ["IR,1,13,1,1000001,,見本病院,202605,00,0312345678"]
    for number, chart in enumerate(charts, 1):
        lines += [
            ",".join(["RE", str(number), "1112", "202604", "検査　花子", "2", "19500102", *[""] * 6, chart, *[""] * 24]),
            "HO,06132013,１,１,1,1200,,,,,",
            "SY,2500013,20260401,1,,,01,",
            "SY,1519006,20251005,1,8002,,,",
            item("SI", "12", "112007410", 75),
            item("SI", "", "112011010", 52),
            item("SI", "13", "113041810", 660),
            item("IY", "21", "620098801", 3, times=14, amount="3"),
            item("SI", "60", "160010010", 49),
            "CO,60,1,810000001,前回の検査から１か月",
        ]
    lines += [f"SI,60,1,16,,x,1{',' * 37}", "GO,3,3000,99"]
    return "".join(f"{line}\r\n" for line in lines).encode("cp932")


@dataclass(frozen=True)
class ByHand:
    findings: Sequence[Finding]
    advice: Sequence[Advice]
    run: dict[str, Any]
    issues: Sequence[Issue] = field(default=())


def judged(claim: Claim, tables: Tables, entries: Sequence[Entry]) -> ByHand:
    """What a model could say of the claim."""
    found = check(claim, tables)
    lines = {one.code: one.line for one in claim.items}
    row = next(one.row for one in found if one.rule == "duplicate")
    advice = []
    for entry in entries:
        said = (
            (lines["113041810"], Advised.CHANGE_CODE, Reason.ACTS_EXCLUDE_EACH_OTHER, row, DENIED, "主病は糖尿病"),
            (lines["620098801"], Advised.ADD_COMMENT, Reason.JUSTIFIED, "chart", BACK, f"腰痛に投与 {EVIL}"),
        )
        for line, action, reason, reference, quote, comment in said:
            start = entry.text.index(quote)
            span = EvidenceSpan(start=start, end=start + len(quote), quote=quote)
            advice.append(Advice(
                line=line, action=action, reason=reason, reference=reference, evidence=Cited(note_id=entry.note_id, span=span),
                comment=comment, probability=0.87,
            ))  # fmt: skip
    return ByHand(found, advice, {"id": str(uuid4()), "model": "by hand", "started_at": datetime.now(UTC).isoformat()})


def converting(*_: Any, **__: Any) -> Any:
    raise AssertionError("no note waits")


@dataclass(frozen=True)
class Site:
    hospital: Installation
    chromium: Browser
    folder: Path

    def reader(self, login: str, *roles: Role, scripts: bool = True) -> Reader:
        return Reader(self.hospital, self.chromium, login, *roles, scripts=scripts)

    def sent(self, reader: Reader, *charts: str, name: str = "RECEIPTC.UKE", checked: bool = True) -> str:
        """The path of the file's page, from the form; `checked`: a worker has been at it."""
        path = self.folder / name
        path.write_bytes(uke(*charts))
        reader.page.goto("/review/receipts")
        reader.page.set_input_files("input[type=file]", path)
        reader.page.get_by_role("button", name="送信して点検する").click()
        reader.page.locator("dl.figures").wait_for()
        address = reader.page.url.removeprefix(reader.base)
        if checked:
            self.check(address)
            reader.page.goto(address)
        return address

    def check(self, address: str) -> None:
        database = self.hospital.database
        with database.session_scope() as session:
            of_file = select(Job.id).join(ReceiptClaim, ReceiptClaim.id == Job.receipt_claim_id)
            jobs = session.scalars(of_file.where(ReceiptClaim.file_id == UUID(address.rpartition("/")[2]))).all()
        work = receipt_work.checking(database, judged)
        for job in jobs:
            done = running.run(database, job, cast(Convert, converting), worker="w", policy=Policy(), check=work)
            assert done is JobState.DONE


@pytest.fixture(scope="module")
def site(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    installation.start_api(**FACILITY)
    for patient in ("00R0001", "R0002", "R0003"):
        stored(installation.database, note_of(patient, CHART), READING)
    with chromium_on(tmp_path_factory) as browser:
        yield Site(installation, browser, tmp_path_factory.mktemp("claims"))


def state_of(reader: Reader, name: str) -> str:
    card = reader.page.locator("article.card", has=reader.page.locator("h3", has_text=name)).first
    return str(card.get_attribute("data-state"))


def test_a_file_is_judged_by_keys(site: Site) -> None:
    reader = site.reader("ichiro")
    page = reader.page
    address = site.sent(reader, "R0001", "R0009", checked=False)
    assert page.locator("meta[http-equiv=refresh]").count() == 1, "claims wait for a worker"
    site.check(address)
    page.goto(address)
    assert page.locator("meta[http-equiv=refresh]").count() == 0
    assert "完了 2" in page.locator("dl.figures").inner_text()
    assert page.locator("tbody tr").count() == 2
    assert "読めない記録 2" in page.locator("tbody").inner_text()
    reader.picture("receipt-file")

    # The filters leave what fits.
    page.get_by_label("規則").select_option("duplicate")
    page.get_by_label("状態").select_option("rejected")
    page.get_by_role("button", name="絞り込む").click()
    page.get_by_text("条件に合うレセプトはありません").wait_for()
    page.goto(address)

    # The claim that needs most comes first; its gravest lies under the hand.
    reader.press("n")
    page.wait_for_url(f"**{address}/*")
    page.locator("article.card:focus").wait_for()
    claim = page.url
    names = page.locator("article.card h3").all_inner_texts()
    assert "重複算定" in names and "コメントを追加" in names
    total = len(names)
    page.locator("article.card", has_text="重複算定").focus()
    lit = page.locator("mark.lit.evidence")
    assert lit.all_inner_texts() == [DENIED], "the evidence of the advice, and no other"
    page.locator("article.card", has_text="コメントを追加").locator("[data-part]").hover()
    page.locator("mark.spot", has_text="を処方").wait_for()
    reader.picture("receipt-claim")

    # Accept and reject; the next one has the focus at once.
    page.locator("article.card", has_text="重複算定").focus()
    reader.press("a")
    assert reader.at() != "重複算定"
    reader.wait_state("重複算定", "accepted")
    after = reader.at()
    reader.press("r")
    reader.wait_state(after, "rejected")
    page.get_by_text(f"{total - 2} / {total}").wait_for()

    # Another comment, and a code where the action wants one.
    page.locator("article.card", has_text="コメントを追加").focus()
    reader.press("e")
    page.locator("article.editing select:focus").wait_for()
    assert not page.get_by_label("コード").is_visible()
    page.get_by_label("対応").select_option("change_code")
    page.get_by_label("コード").fill("620098801")
    page.get_by_label("対応").select_option("add_comment")
    page.locator("article.editing textarea").fill("腰痛症に対し頓用で投与")
    reader.picture("receipt-edit")
    reader.press("Control+Enter")
    reader.wait_state("コメントを追加", "edited")
    card = page.locator("article.card", has_text="コメントを追加")
    assert "腰痛症に対し頓用で投与" in card.inner_text() and "修正前" in card.inner_text()
    reader.press("u")
    reader.wait_state("コメントを追加", "open")
    assert EVIL in page.locator("article.card", has_text="コメントを追加").inner_text()

    # Nothing of the chart or of a model runs, and characters outside the first plane are one each.
    assert page.locator("#note-text script, #note-text img, #note-text svg, article.card img, article.card svg").count() == 0
    assert "𠮷田医師" in page.locator("#note-text").inner_text()
    assert page.get_by_role("link", name="記録を開く").get_attribute("href", timeout=1000) is not None

    # Both ways out: the next claim, and the files.
    reader.press("n")
    page.wait_for_url(lambda url: url != claim)
    page.get_by_text("この患者のこの月の記録はありません").wait_for()
    page.goto(address)
    for name in ("結果（CSV）", "承認したコメントを加えた UKE"):
        link = page.get_by_role("link", name=name).get_attribute("href")
        answer = page.request.get(f"{reader.base}{link}")
        assert answer.status == 200 and len(answer.body()) > 100
    assert reader.complaints == []


def test_two_people_decide_at_once(site: Site) -> None:
    one, other = site.reader("jiro"), site.reader("saburo")
    address = site.sent(one, "R0002", name="TWO.UKE")
    one.press("n")
    one.page.wait_for_url(f"**{address}/*")
    other.page.goto(one.page.url)
    for reader in (one, other):
        reader.page.locator("article.card", has_text="重複算定").focus()
    other.press("r")
    other.wait_state("重複算定", "rejected")
    one.press("a")
    stale = one.page.locator("article.stale")
    stale.wait_for()
    assert "saburo 様" in stale.inner_text()
    one.picture("receipt-stale")
    stale.get_by_role("button", name="自分の判断にする").click()
    one.wait_state("重複算定", "accepted")
    assert [line for line in one.complaints if "409" not in line] == []


def test_without_scripts_forms_do_it(site: Site) -> None:
    reader = site.reader("shiro", scripts=False)
    page = reader.page
    site.sent(reader, "R0003", name=f"{EVIL.replace('/', '')[:60]}.UKE")
    page.get_by_role("button", name="次のレセプト").click()
    for name, button, state in (("重複算定", "承認", "accepted"), ("適応病名なし", "却下", "rejected")):
        card = page.locator("article.card", has=page.locator("h3", has_text=name)).first
        card.get_by_role("button", name=button).click()
        reader.wait_state(name, state)
    card = page.locator("article.card", has=page.locator("h3", has_text="重複算定"))
    card.get_by_role("link", name="修正").click()
    page.get_by_label("対応").select_option("delete_line")
    page.get_by_role("button", name="保存").click()
    reader.wait_state("重複算定", "edited")
    card.get_by_role("button", name="取り消す").click()
    reader.wait_state("重複算定", "open")
    assert page.get_by_role("button", name="操作").count() == 0 and reader.complaints == []


@pytest.mark.npm
def test_no_page_has_a_serious_finding(site: Site, axe: str) -> None:
    reader = site.reader("goro", Role.REVIEWER, Role.INTEGRATOR)
    page, found = reader.page, []
    address = site.sent(reader, "R0001", "R0003", name="AXE.UKE")
    for language in ("en", "ja"):
        page.goto("/review/receipts")
        if page.locator(f"button[value={language}]").count():
            page.locator(f"button[value={language}]").click()
        page.locator(f"html[lang={language}]").wait_for()
        found += findings(page, axe, f"files {language}")
        if language == "ja":
            reader.picture("receipts")
        page.goto(address)
        found += findings(page, axe, f"file {language}")
        reader.press("n")
        page.locator("article.card:focus").wait_for()
        found += findings(page, axe, f"claim {language}")
    reader.press("a", "r", "e")
    page.locator("article.editing").wait_for()
    found += findings(page, axe, "decided, and a form")
    page.set_viewport_size({"width": 820, "height": 1180})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is scrolled sideways"
    reader.picture("receipt-claim-tablet")
    found += findings(page, axe, "tablet")
    assert found == []
