"""Speed of the review page: `python -m bench.review_page [--items N] [--characters N] [--times N]`.

One note of some 20,000 characters with 100 items in an embedded PostgreSQL. On the server: the whole page, the answer to one
decision, the check of a correction, the codes of the picker, each through the application without a network. In Chromium,
where it is installed: from a key to the next item on the screen, and from `a` to the stored decision. Prints milliseconds
(the first one, median, worst, and the median of this process's own CPU time); writes bench/results/review_page.json.
"""

import argparse
import json
import os
import re
import shutil
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from uuid import UUID

import uvicorn
from fastapi import FastAPI
from playwright.sync_api import sync_playwright
from starlette.testclient import TestClient

from app import accounts, sign_in
from app.db import Database, migrate
from app.embedded import embedded_postgres
from app.main import create_app
from app.settings import Settings
from app.terminology.importers import load_starter
from app.web.access import SESSION_LIFETIMES
from schemas.access import Role
from schemas.note import ChartNote, DocumentType, Patient

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from read_by_hand import stored  # noqa: E402

WORDS = ("高血圧", "２型糖尿病", "気管支喘息", "脂質異常症", "慢性胃炎")
KEYS = "jjajjkajjajkjaja"


def make(database: Database, items: int, characters: int) -> UUID:
    """A line and a disease with its date for each item."""
    filler = "経過は良好で内服を続けている。"
    most = max(1, (characters // items - 20) // len(filler))
    lines = [f"{2000 + number % 26}年{1 + number % 12}月 {WORDS[number % len(WORDS)]} {filler * most}" for number in range(items)]
    text = "\n".join(lines)
    reading = "".join(f"condition name={WORDS[number % len(WORDS)]}\n" for number in range(items))
    patient = Patient(id="B000001", family="検査", given="花子", birth_date=date(1950, 1, 2))
    note = ChartNote(
        id="bench", document_type=DocumentType.PROGRESS, department="内科", date=date(2026, 4, 1), patient=patient, text=text
    )
    return stored(database, note, reading)


def timed(work: Callable[[], object], times: int) -> dict[str, float]:
    took, busy = [], []
    for _ in range(times):
        started, used = time.perf_counter(), time.process_time()
        work()
        took.append((time.perf_counter() - started) * 1000)
        busy.append((time.process_time() - used) * 1000)
    return row(took) | {"cpu_ms": round(statistics.median(busy), 1)}


def row(took: list[float]) -> dict[str, float]:
    return {"first_ms": round(took[0], 1), "p50_ms": round(statistics.median(took), 1), "worst_ms": round(max(took), 1)}


def on_the_server(app: FastAPI, note: UUID, secret: str, times: int) -> dict[str, dict[str, float]]:
    with TestClient(app, base_url="http://hyojun.test", headers={"Accept": "text/html"}) as client:
        client.cookies.set("hyojun", secret)
        csrf = sign_in.csrf_token(secret)

        def post(path: str, **form: object) -> str:
            answer = client.post(path, data={"csrf_token": csrf} | form, headers={"X-Fragment": "1"})
            assert answer.status_code == 200, answer.text[:500]
            return answer.text

        def page() -> str:
            answer = client.get(f"/review/{note}")
            assert answer.status_code == 200
            return answer.text

        figures = {"whole page": timed(page, times), "queue": timed(lambda: client.get("/review"), times)}
        found = page()
        ids = iter(re.findall(r'<article class="card[^"]*" id="item-([^"]+)"', found))
        figures["one decision"] = timed(
            lambda: post(f"/review/{note}/items/{next(ids)}/decide", verdict="reject", version=0), min(times, 30)
        )
        span = {"name.start": "0", "name.end": "5", "kind": "condition", "form": "x"}
        figures["check of a correction"] = timed(lambda: post(f"/review/{note}/check", **span), times)
        figures["codes by kana"] = timed(lambda: post("/review/codes", kind="condition", q="とうにょう", list="x"), times)
        print(f"{len(found):,} characters of HTML, {found.count('<article')} items, {found.count('<mark')} marks")
    return figures


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


MEASURE = """() => {
    window.took = [];
    addEventListener('keydown', () => {
        const pressed = performance.now();
        requestAnimationFrame(() => setTimeout(() => window.took.push(performance.now() - pressed)));
    }, true);
}"""


def in_a_browser(app: FastAPI, note: UUID, secret: str, chromium: str) -> dict[str, dict[str, float]]:
    with served(app) as base, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        context = browser.new_context(base_url=base, viewport={"width": 1280, "height": 800})
        context.add_cookies([{"name": "hyojun", "value": secret, "url": base}])
        page = context.new_page()
        page.goto(f"/review/{note}")
        page.locator("article.card:focus").wait_for()
        loaded = page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
        page.evaluate(MEASURE)
        for key in KEYS:
            before = page.evaluate("window.took.length")
            page.keyboard.press(key)
            page.wait_for_function("(before) => window.took.length > before", arg=before)
        took = page.evaluate("window.took")
        stored_in = []
        for _ in range(10):
            with page.expect_response("**/decide") as answer:
                started = time.perf_counter()
                page.keyboard.press("a")
            answer.value.finished()
            stored_in.append((time.perf_counter() - started) * 1000)
        browser.close()
    return {"page loaded": row([loaded]), "key to the next item": row(took), "key to stored": row(stored_in)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--characters", type=int, default=20_000)
    parser.add_argument("--times", type=int, default=30)
    args = parser.parse_args()
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="hyojun-bench-") as folder:
        Path(folder).chmod(0o755)
        with embedded_postgres(Path(folder) / "data") as url:
            migrate(url)
            database = Database(url)
            with database.session_scope() as session:
                load_starter(session)
                person = accounts.add_user(session, "bench", "計測", (Role.REVIEWER,), by="bench")
                secret = sign_in.open_session(session, person.id, SESSION_LIFETIMES)
            note = make(database, args.items, args.characters)
            settings = Settings(database_url=url, facility_name="見本病院", _env_file=None)
            table = on_the_server(create_app(settings, database), note, secret, args.times)
            chromium = shutil.which("chromium")
            if chromium is None:
                print("chromium is not installed: the browser is not measured")
            else:
                table |= in_a_browser(create_app(settings, database), note, secret, chromium)
            database.dispose()
    print(f"{args.items} items, {args.characters:,} characters, {os.cpu_count()} cores, load {before:.1f} {os.getloadavg()[0]:.1f}")
    print(f"{'':26}{'first':>9}{'p50':>9}{'worst':>9}{'cpu':>9}   ms")
    for name, one in table.items():
        print(f"{name:26}{one['first_ms']:>9}{one['p50_ms']:>9}{one['worst_ms']:>9}{one.get('cpu_ms', ''):>9}")
    out = ROOT / "bench" / "results"
    out.mkdir(exist_ok=True)
    facts = {"items": args.items, "characters": args.characters, "cores": os.cpu_count(), "load": [before, os.getloadavg()[0]], "ms": table}
    (out / "review_page.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
