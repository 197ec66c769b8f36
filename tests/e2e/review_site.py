"""A hospital whose notes wait for review, and its people at their browsers."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from installation import ROOT, Installation
from playwright.sync_api import Browser, Page, sync_playwright
from read_by_hand import stored

from app import accounts, sign_in
from app.web.access import SESSION_LIFETIMES
from schemas.access import Role
from schemas.note import ChartNote, DocumentType, Patient

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]  # fmt: skip
PATIENCE_MS = 60_000
PASSWORD = "とても長い合言葉である 7"
SCREENSHOTS = ROOT / ".screenshots"
FACILITY = {"facility_name": "見本病院", "institution_number": "1310000001"}

TEXT = """【主訴】咳、発熱
２型糖尿病（2015年〜）、高血圧で通院中。父：胃癌
ペニシリンで発疹の既往。卵を食べてじんましん。
HbA1c 7.2%  CRP 3.4 mg/dL
アムロジピンOD錠5mg 1錠 分1 朝食後 28日分"""
READING = """
condition name=２型糖尿病 onset=2015年
condition name=高血圧
condition name=胃癌 relative=父 assertion=family
allergy name=ペニシリン reaction=発疹 category=medication
lab name=HbA1c value=7.2 unit=%
lab name=CRP value=3.4 unit=mg/dL
prescription name=アムロジピンOD錠5mg dose=1錠 usage=分1_朝食後 days=28日分 action=continue
"""
SAMPLE_READING = """
lab name=HbA1c(%) value=8.1 date=2025/11/04
lab name=随時血糖 value=168
lab name=Cr value=1.02
lab name=eGFR value=56
lab name=LDL-C value=131 flag=H date=2025/11/04
condition name=２型糖尿病 onset=平成20年
condition name=糖尿病性腎症２期
condition name=脂質異常症
condition name=高血圧症
condition name=虫垂炎 onset=1988年 assertion=past
condition name=糖尿病 relative=父 assertion=family
prescription name=メトホルミン塩酸塩錠500mg dose=2錠 usage=分2　朝夕食後 days=56日分 action=continue
prescription name=アムロジピンOD錠5mg dose=1錠 usage=分1　朝食後 days=56日分 action=continue
allergy name=ペニシリン reaction=全身の発疹 category=medication
"""


def note_of(patient: str, text: str = TEXT, **changes: Any) -> ChartNote:
    who = {"id": patient, "family": "検査", "given": "花子", "sex": "female", "birth_date": date(1950, 1, 2)} | changes
    return ChartNote(
        id=f"note-{patient}", document_type=DocumentType.PROGRESS, department="内科", date=date(2026, 4, 1),
        patient=Patient(**who), text=text,
    )  # fmt: skip


def sample(installation: Installation) -> UUID:
    """The first of the samples."""
    note = json.loads((ROOT / "samples" / "01-diabetes-clinic.json").read_text())
    return stored(installation.database, ChartNote(**note), SAMPLE_READING, {"糖尿病性腎症２期": 0.62, "eGFR": 0.81})


@contextmanager
def chromium_on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        pytest.skip("chromium is not installed")
    home = dict(os.environ) | {"HOME": str(tmp_path_factory.mktemp("browser"))}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS, timeout=PATIENCE_MS, env=home)
        yield browser
        browser.close()


class Reader:
    """Somebody at a browser of his own. `complaints`: what its pages said to the console."""

    def __init__(
        self, installation: Installation, browser: Browser, login: str, *roles: Role, scripts: bool = True, signed_in: bool = True
    ) -> None:
        self.login, self.base = login, f"http://127.0.0.1:{installation.port}"
        with installation.database.session_scope() as session:
            person = accounts.add_user(session, login, f"{login} 様", roles or (Role.REVIEWER,), by="test")
            accounts.use_link(session, accounts.make_link(session, person.id, by="test"), PASSWORD)
            secret = sign_in.open_session(session, person.id, SESSION_LIFETIMES)
        context = browser.new_context(
            base_url=self.base, java_script_enabled=scripts, viewport={"width": 1280, "height": 800}
        )
        context.set_default_timeout(PATIENCE_MS)
        if signed_in:
            context.add_cookies([{"name": "hyojun", "value": secret, "url": self.base}])
        self.page: Page = context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def at(self) -> str:
        """The name of the item that has the focus."""
        return str(self.page.evaluate("document.activeElement.querySelector('h3')?.textContent || ''"))

    def wait_state(self, name: str, state: str) -> None:
        self.page.locator(f"article.card[data-state={state}]", has=self.page.locator("h3", has_text=name)).first.wait_for()

    def select(self, quote: str) -> None:
        """With the mouse, from the first to the last character of its first place in the note."""
        box = self.page.evaluate(
            """(quote) => {
                const line = [...document.querySelectorAll('#note-text .line')].find((one) => one.textContent.includes(quote));
                line.scrollIntoView({block: 'center'});
                const at = (index) => {
                    const walker = document.createTreeWalker(line, NodeFilter.SHOW_TEXT);
                    let left = index;
                    while (walker.nextNode()) {
                        if (left < walker.currentNode.data.length) {
                            const range = document.createRange();
                            range.setStart(walker.currentNode, left);
                            range.setEnd(walker.currentNode, left + 1);
                            return range.getBoundingClientRect();
                        }
                        left -= walker.currentNode.data.length;
                    }
                };
                const start = line.textContent.indexOf(quote), first = at(start), last = at(start + quote.length - 1);
                return [first.left + 1, first.top + first.height / 2, last.right - 1, last.top + last.height / 2];
            }""",
            quote,
        )
        self.page.mouse.move(box[0], box[1])
        self.page.mouse.down()
        self.page.mouse.move(box[2], box[3], steps=6)
        self.page.mouse.up()

    def picture(self, name: str) -> None:
        SCREENSHOTS.mkdir(exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")
