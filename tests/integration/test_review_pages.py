"""The review pages without a browser: forms alone, parts for a script, two readers, release; on a real Postgres."""

import html
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any
from uuid import UUID

import pytest
from read_by_hand import stored
from sign_in import headers, principal
from sqlalchemy import select
from starlette.testclient import TestClient
from test_access_people import csrf_of, person, sign_in

from app import reviews
from app.db import Database
from app.main import create_app
from app.settings import Settings
from app.terminology.importers import load_starter
from app.web.words import LANGUAGES, WORDS
from models import AuditEvent
from schemas.access import Role
from schemas.note import ChartNote, DocumentType, Patient
from schemas.review import Verdict

TEXT = "２型糖尿病（2015年〜）、高血圧。\nペニシリンで発疹。卵でじんましん。\nHbA1c 7.2%\nアムロジピンOD錠5mg 1錠 分1 朝食後"
READING = """
condition name=２型糖尿病 onset=2015年
condition name=高血圧
allergy name=ペニシリン reaction=発疹 category=medication
lab name=HbA1c value=7.2 unit=%
prescription name=アムロジピンOD錠5mg dose=1錠 usage=分1_朝食後 action=continue
"""
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'{{ 98765*98765 }}"


def note_of(number: int, text: str = TEXT, **changes: Any) -> ChartNote:
    patient = {"id": f"R{number:04}", "family": "検査", "given": "花子", "sex": "female", "birth_date": date(1950, 1, 2)}
    return ChartNote(
        id=f"review-{number}", document_type=DocumentType.PROGRESS, department=changes.pop("department", "内科"),
        date=date(2026, 4, 1), patient=Patient(**patient | changes), text=text,
    )  # fmt: skip


@pytest.fixture(scope="module")
def hospital(database: Database) -> Database:
    with database.session_scope() as session:
        load_starter(session)
    for login in ("ichiro", "jiro", "saburo"):
        person(database, login, Role.REVIEWER)
    return database


@contextmanager
def browser_of(hospital: Database, login: str) -> Iterator[TestClient]:
    settings = Settings(
        database_url=hospital.url, facility_name="見本病院", institution_number="1310000001", _env_file=None
    )
    accepts = {"Accept": "text/html"}
    with TestClient(
        create_app(settings, hospital), base_url="http://hyojun.test", follow_redirects=False, headers=accepts
    ) as browser:
        assert sign_in(browser, login).status_code == 303  # type: ignore[attr-defined]
        browser.csrf = csrf_of(browser)  # type: ignore[attr-defined]
        yield browser


@pytest.fixture(scope="module")
def ichiro(hospital: Database) -> Iterator[TestClient]:
    with browser_of(hospital, "ichiro") as made:
        yield made


@pytest.fixture(scope="module")
def jiro(hospital: Database) -> Iterator[TestClient]:
    with browser_of(hospital, "jiro") as made:
        yield made


def post(browser: TestClient, path: str, *, script: bool = False, **form: object) -> Any:
    sent = {"csrf_token": browser.csrf} | form  # type: ignore[attr-defined]
    return browser.post(path, data=sent, headers={"X-Fragment": "1"} if script else {})


def forms_of(page: str, action: str) -> list[dict[str, str]]:
    """What the forms that lead to `action` would send, by hidden fields."""
    found = re.findall(rf'<form[^>]* action="{re.escape(action)}".*?</form>', page, re.DOTALL)
    return [dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', form)) for form in found]


def items(hospital: Database, note_id: UUID) -> dict[str, reviews.Item]:
    with hospital.session_scope() as session:
        return {item.statement.name.quote: item for item in reviews.get_review(session, note_id).items}


def fields_of(item: reviews.Item) -> dict[str, object]:
    """The form of an item as it stands."""
    statement = item.statement
    spans = {f"{part}.{end}": getattr(span, end) for part, span in statement.fields.items() for end in ("start", "end")}
    labels = {name: getattr(statement, name) for name in ("assertion", "category", "result", "action")}
    return {"kind": statement.kind, "version": item.version} | spans | {k: v.value for k, v in labels.items() if v}


def test_forms_alone_accept_reject_and_undo(hospital: Database, ichiro: TestClient) -> None:
    note = stored(hospital, note_of(1), READING)
    page = ichiro.get(f"/review/{note}")
    assert page.status_code == 200
    assert "script-src 'self'" in page.headers["content-security-policy"] and "unsafe" not in page.headers["content-security-policy"]
    for name, verdict in (("２型糖尿病", "accept"), ("高血圧", "reject")):
        action = f"/review/{note}/items/{items(hospital, note)[name].id}/decide"
        (form,) = forms_of(page.text, action)
        answer = ichiro.post(action, data=form | {"verdict": verdict})
        assert answer.status_code == 303 and answer.headers["location"].startswith(f"/review/{note}#item-")
    after = items(hospital, note)
    assert (after["２型糖尿病"].verdict, after["高血圧"].verdict) == (Verdict.ACCEPT, Verdict.REJECT)
    assert after["ペニシリン"].verdict is None
    undo = f"/review/{note}/items/{after['高血圧'].id}/undo"
    assert undo in ichiro.get(f"/review/{note}").text
    assert post(ichiro, undo, version=1).status_code == 303
    assert items(hospital, note)["高血圧"].verdict is None
    assert ichiro.post(undo, data={"version": "2"}).status_code == 403, "a form of somebody else's page has no token"


def test_a_script_gets_the_parts_that_changed(hospital: Database, ichiro: TestClient) -> None:
    note = stored(hospital, note_of(2), READING)
    item = items(hospital, note)["HbA1c"]
    answer = post(
        ichiro, f"/review/{note}/items/{item.id}/decide", script=True, verdict="accept", version=0, spent_ms="4200"
    )
    assert answer.status_code == 200
    ids = re.findall(r'^<(?:p|article|div)[^>]* id="([^"]+)"', answer.text, re.MULTILINE)
    assert ids == ["status", "progress", f"item-{item.id}"]
    assert 'data-state="accept"' in answer.text and "承認しました" in answer.text
    with hospital.session_scope() as session:
        assert [event.seconds for event in reviews.history(session, note) if event.review_id == item.id] == [4.2]


def test_all_that_is_shown_is_accepted_but_never_a_drug_allergy(hospital: Database, ichiro: TestClient) -> None:
    note = stored(hospital, note_of(3), READING, {"高血圧": 0.6})
    (form,) = forms_of(ichiro.get(f"/review/{note}").text, f"/review/{note}/accept-visible")
    every = ",".join(str(item.id) for item in items(hospital, note).values())
    assert post(ichiro, f"/review/{note}/accept-visible", script=True, **form | {"ids": every, "threshold": "0.95"}).status_code == 200
    verdicts = {name: item.verdict for name, item in items(hospital, note).items()}
    assert verdicts.pop("ペニシリン") is None and verdicts.pop("高血圧") is None
    assert set(verdicts.values()) == {Verdict.ACCEPT}
    assert post(ichiro, f"/review/{note}/accept-visible", run=form["run"], ids=every, threshold="1e9").status_code == 422


def test_both_versions_are_shown_to_whoever_saw_an_old_one(
    hospital: Database, ichiro: TestClient, jiro: TestClient
) -> None:
    note = stored(hospital, note_of(4), READING)
    item = items(hospital, note)["高血圧"]
    action = f"/review/{note}/items/{item.id}/decide"
    assert post(jiro, action, verdict="reject", version=0).status_code == 303
    for script in (False, True):
        answer = post(ichiro, action, script=script, verdict="accept", version=0)
        assert answer.status_code == 409 and "jiro 様" in answer.text and "却下" in answer.text and "承認" in answer.text
        (resent,) = forms_of(answer.text, action)
        assert resent["version"] == "1" and resent["verdict"] == "accept"
    assert items(hospital, note)["高血圧"].verdict is Verdict.REJECT
    assert post(ichiro, action, **resent).status_code == 303
    assert items(hospital, note)["高血圧"].verdict is Verdict.ACCEPT
    kept = ichiro.get(f"/review/{note}/items/{item.id}", headers={"X-Fragment": "1"})
    assert kept.status_code == 200 and f'id="item-{item.id}"' in kept.text


def test_a_correction_is_computed_and_checked_before_it_is_stored(hospital: Database, ichiro: TestClient) -> None:
    note = stored(hospital, note_of(5), READING)
    item = items(hospital, note)["２型糖尿病"]
    form = fields_of(item)
    editor = ichiro.get(f"/review/{note}/items/{item.id}/edit", headers={"X-Fragment": "1"}).text
    assert 'role="combobox"' in editor and "2015" in editor
    start = TEXT.index("2015年")
    answer = post(ichiro, f"/review/{note}/check", script=True, form=f"edit-{item.id}", item=item.id, **form | {
        "onset.start": start + 3, "onset.end": start + 4,
    })  # fmt: skip
    assert "日付として計算できません" in answer.text
    answer = post(ichiro, f"/review/{note}/check", script=True, form=f"edit-{item.id}", item=item.id, **form)
    assert re.search(rf'id="edit-{item.id}-computed-onset"[^>]*>→ 2015<', answer.text) and "E119" in answer.text
    assert "issue" not in answer.text

    codes = post(ichiro, "/review/codes", kind="condition", q="コウケツアツ", list="x")
    chosen = re.search(r'data-system="([^"]+)" data-code="([^"]+)" data-display="高血圧症"', codes.text)
    assert chosen is not None, "found by its reading"
    coding = {"coding.system": chosen[1], "coding.code": chosen[2], "coding.display": "高血圧症"}
    path = f"/review/{note}/items/{item.id}/amend"
    assert post(ichiro, path, script=True, **form | coding).status_code == 200
    after = items(hospital, note)["２型糖尿病"]
    assert after.verdict is Verdict.AMEND and after.coding is not None and after.coding.code == chosen[2]
    wrong = post(ichiro, path, script=True, **form | coding | {"version": 1, "coding.code": "0000000"})
    assert wrong.status_code == 422 and "表にこのコードがありません" in wrong.text
    for bad in ({"name.end": len(TEXT) + 1}, {"name.start": "x"}, {"name.start": 5, "name.end": 5}, {"kind": "surgery"}):
        assert post(ichiro, path, **form | {"version": 1} | bad).status_code == 422


def test_codes_are_found_by_name_kana_abbreviation_and_code(ichiro: TestClient) -> None:
    for kind, asked, expected in (
        ("condition", "とうにょうびょう", "糖尿病"), ("condition", "2500013", "糖尿病"), ("lab", "HbA1c", "HbA1c"),
        ("allergy", "たまご", "卵"), ("infection", "HBs", "HBs"),
    ):  # fmt: skip
        found = post(ichiro, "/review/codes", kind=kind, q=asked, list="x")
        assert found.status_code == 200 and expected in html.unescape(found.text), asked
    assert 'data-total="0"' in post(ichiro, "/review/codes", kind="lab", q="ーーー", list="x").text


def test_what_was_missed_is_added_from_its_place_in_the_note(hospital: Database, ichiro: TestClient) -> None:
    note = stored(hospital, note_of(6), READING)
    start = TEXT.index("卵")
    editor = ichiro.get(f"/review/{note}/new?kind=allergy&start={start}&end={start + 1}").text
    (form,) = forms_of(editor, f"/review/{note}/add")
    assert (form["name.start"], form["name.end"]) == (str(start), str(start + 1))
    sent = form | {"kind": "allergy", "category": "food", "assertion": "present", "reaction.start": start + 2, "reaction.end": start + 7}
    answer = post(ichiro, f"/review/{note}/add", script=True, **sent)
    assert answer.status_code == 200 and "data-new" in answer.text and "じんましん" in answer.text
    assert f'data-start="{TEXT.index("ペニシリン")}"' in answer.text, "its place in the note is marked now"
    again = post(ichiro, f"/review/{note}/add", script=True, **sent)
    assert again.status_code == 409 and "同じ内容" in again.text
    added = items(hospital, note)["卵"]
    assert post(ichiro, f"/review/{note}/items/{added.id}/undo", script=True, version=1).status_code == 200
    assert "卵" not in items(hospital, note)


def test_nothing_of_a_note_a_patient_or_a_table_runs(hospital: Database, ichiro: TestClient) -> None:
    text = f"{EVIL}\n高血圧。ペニシリンで発疹。\r\n</mark></section>"
    note = stored(
        hospital, note_of(7, text, family=EVIL, given="'\"<u>", department="<s>&"), f"condition name={text[:8]}\ncondition name=高血圧"
    )
    assert post(ichiro, f"/review/{note}/take").status_code == 303
    for path in (
        f"/review/{note}", "/review?mine=1", f"/review/{note}/release", f"/review/{note}/new?start=0&end=8",
        f"/review/{note}/items/{items(hospital, note)['高血圧'].id}/edit", f"/review?department={EVIL}&type={EVIL}&told={EVIL}",
    ):  # fmt: skip
        page = ichiro.get(path).text
        assert not re.search(r"<script(?! src=\"/static/)|<img|<u>|<s>|onerror=alert\(2\)>(?!&)", page), path
        assert str(98765 * 98765) not in page, "a template's marks in a note are text"
    found = post(ichiro, "/review/codes", kind="condition", q=EVIL, list='"><script>alert(1)</script>')
    assert "<script" not in found.text
    page = ichiro.get(f"/review/{note}").text
    shown = re.search(r'<div id="note-text".*?</div>\n</div>', page, re.DOTALL)
    assert shown is not None
    lines = re.findall(r'<div class="line" data-start="(\d+)">(.*?)</div>', shown[0], re.DOTALL)
    plain = [html.unescape(re.sub(r"<[^>]+>", "", line)) for _, line in lines]
    assert "\n".join(plain) == text, "what is shown is the note, to the letter"
    assert [int(start) for start, _ in lines] == [0, len(EVIL) + 1, text.index("</mark>")]


def test_the_queue_is_in_the_order_of_risk_and_gives_the_next_one(hospital: Database, jiro: TestClient) -> None:
    calm = "高血圧。"
    low = stored(hospital, note_of(21, calm, department="眼科"), "condition name=高血圧", {"高血圧": 0.55})
    high = stored(hospital, note_of(22, calm, department="眼科"), "condition name=高血圧")
    grave = stored(hospital, note_of(23, department="眼科"), READING)
    page = jiro.get("/review?department=眼科").text
    order = [UUID(found) for found in re.findall(r'href="/review/([0-9a-f-]{36})" data-row', page)]
    assert order == [grave, low, high] and "薬剤アレルギー 1" in page and "55%" in page
    below = jiro.get("/review?department=眼科&probability=0.7").text
    assert str(low) in below and str(high) not in below
    assert str(grave) not in jiro.get("/review?department=眼科&kind=prescription&type=discharge").text
    for wrong in ("probability=2", "age=-1", "batch=x", "state=gone", "kind=surgery", "cursor=x"):
        assert jiro.get(f"/review?{wrong}").status_code == 422, wrong

    first = post(jiro, "/review/next", department="眼科")
    assert first.headers["location"] == f"/review/{grave}"
    assert "自分" in jiro.get("/review?department=眼科&mine=1").text
    with browser_of(hospital, "saburo") as saburo:
        assert "jiro 様" in saburo.get(f"/review/{grave}").text, "somebody else has it"
        item = items(hospital, grave)["高血圧"]
        refused = post(saburo, f"/review/{grave}/items/{item.id}/decide", verdict="accept", version=0)
        assert refused.status_code == 409 and "別の人がこの記録" in refused.text
        assert post(saburo, "/review/next", department="眼科").headers["location"] == f"/review/{low}"
        assert post(saburo, f"/review/{low}/give-back").status_code == 303
    assert post(jiro, "/review/next", department="眼科", after=grave).headers["location"] == f"/review/{low}"
    nothing = post(jiro, "/review/next", department="存在しない科").headers["location"]
    assert nothing == "/review?told=nothing_next" and WORDS["nothing_next"][0] in jiro.get(nothing).text


def test_two_readers_judge_blind_and_a_difference_is_settled(
    hospital: Database, ichiro: TestClient, jiro: TestClient
) -> None:
    note = stored(hospital, note_of(30), "condition name=２型糖尿病 onset=2015年\ncondition name=高血圧")
    assert post(ichiro, f"/review/{note}/second/choose").status_code == 303
    for item in items(hospital, note).values():
        assert post(ichiro, f"/review/{note}/items/{item.id}/decide", verdict="accept", version=0).status_code == 303
    assert post(ichiro, f"/review/{note}/second").status_code == 409, "nobody reads what he has judged himself"
    assert f"/review/{note}/second" in jiro.get("/review?state=second").text
    assert post(jiro, f"/review/{note}/second").headers["location"] == f"/review/{note}"
    blind = jiro.get(f"/review/{note}").text
    assert 'data-state="accept"' not in blind and "一人目の判断は" in blind
    both = items(hospital, note)
    for name, verdict in (("２型糖尿病", "accept"), ("高血圧", "reject")):
        path = f"/review/{note}/items/{both[name].id}/decide"
        assert post(jiro, path, script=True, verdict=verdict, version=0).status_code == 200
    assert items(hospital, note)["高血圧"].verdict is Verdict.ACCEPT, "the first reader's own judgement stays"
    assert post(jiro, f"/review/{note}/second/finish").headers["location"].endswith("second_done")
    run = forms_of(ichiro.get(f"/review/{note}").text, f"/review/{note}/accept-visible")[0]["run"]
    assert post(ichiro, f"/review/{note}/release", run=run).status_code == 409
    with browser_of(hospital, "saburo") as saburo:
        page = saburo.get(f"/review/{note}/differences").text
        forms = forms_of(page, f"/review/{note}/differences")
        assert len(forms) == 3 and "高血圧" in page and "２型糖尿病" not in page.split("<article")[-1]
        settled = post(saburo, f"/review/{note}/differences", **forms[0] | {"choose": "second"})
        assert settled.status_code == 303
        assert "二人目" in saburo.get(f"/review/{note}/differences").text
    assert items(hospital, note)["高血圧"].verdict is Verdict.REJECT


def test_a_release_says_what_it_does_and_can_be_withdrawn(hospital: Database, ichiro: TestClient) -> None:
    note = stored(hospital, note_of(40), READING)
    page = ichiro.get(f"/review/{note}/release").text
    assert "まだ確定できません" in page and not forms_of(page, f"/review/{note}/release")
    decided = {"高血圧": "reject"}
    for name, item in items(hospital, note).items():
        path = f"/review/{note}/items/{item.id}/decide"
        assert post(ichiro, path, verdict=decided.get(name, "accept"), version=0).status_code == 303
    page = ichiro.get(f"/review/{note}/release").text
    assert "読み取りのまま確定: 4 項目" in page and "却下され、書き出されない: 1 項目" in page
    (form,) = forms_of(page, f"/review/{note}/release")
    done = post(ichiro, f"/review/{note}/release", **form)
    assert done.status_code == 200 and "/trace/AllergyIntolerance/" in done.text
    (allergy,) = re.findall(r"/trace/(AllergyIntolerance/[^\"]+)", done.text)
    machine = headers(hospital, principal(scopes=["system/*.rs"]))
    final = ichiro.get(f"/fhir/{allergy}", headers=machine | {"Accept": "application/fhir+json"})
    assert final.status_code == 200 and "draft" not in str(final.json()["meta"].get("tag"))
    assert post(ichiro, f"/review/{note}/items/{item.id}/decide", verdict="reject", version=1).status_code == 409

    page = ichiro.get(f"/review/{note}/withdraw").text
    (form,) = forms_of(page, f"/review/{note}/withdraw")
    assert post(ichiro, f"/review/{note}/withdraw", **form | {"reason": " "}).status_code == 422
    undone = post(ichiro, f"/review/{note}/withdraw", **form | {"reason": "別の患者の記録"})
    assert undone.status_code == 200 and allergy in undone.text and "SS-MIX2" in undone.text
    taken_back = ichiro.get(f"/fhir/{allergy}", headers=machine | {"Accept": "application/fhir+json"}).json()
    assert taken_back["verificationStatus"]["coding"][0]["code"] == "entered-in-error"


def test_every_look_at_a_patients_note_is_put_down(hospital: Database, ichiro: TestClient) -> None:
    note = stored(hospital, note_of(50), READING)
    with hospital.session_scope() as session:
        last = session.scalars(select(AuditEvent.id).order_by(AuditEvent.id.desc()).limit(1)).one()
    ichiro.get("/review")
    ichiro.get(f"/review/{note}")
    post(ichiro, "/review/codes", kind="condition", q="ひみつの病名", list="x")
    with hospital.session_scope() as session:
        events = session.scalars(select(AuditEvent).where(AuditEvent.id > last)).all()
        told = [(event.action, event.note_id) for event in events if event.acted_by.startswith("user:")]
        assert told == [("search", None), ("read", note), ("read", None)]
        assert "ひみつ" not in str([vars(event) for event in events])


def test_the_reader_chooses_the_language(ichiro: TestClient) -> None:
    assert '<html lang="ja">' in ichiro.get("/review").text
    assert post(ichiro, "/language", language="en", back="//elsewhere.test/").headers["location"] == "/"
    assert post(ichiro, "/language", language="en", back="/review").headers["location"] == "/review"
    page = ichiro.get("/review").text
    assert '<html lang="en">' in page and "Review queue" in page
    post(ichiro, "/language", language="ja", back="/review")
    assert all(len(words) == len(LANGUAGES) and all(words) for words in WORDS.values())
    ours = {key: [set(re.findall(r"{\w+}", words)) for words in said] for key, said in WORDS.items()}
    assert [key for key, parts in ours.items() if parts[0] != parts[1]] == []


def test_files_of_the_pages_are_served_to_anybody_and_nothing_else_is(hospital: Database) -> None:
    with TestClient(create_app(Settings(database_url=hospital.url, _env_file=None), hospital)) as client:
        script = client.get("/static/review.js")
        assert script.headers["content-type"].startswith("text/javascript") and "immutable" in script.headers["cache-control"]
        for name in ("..%2Fwords.py", "review_note.html", ".", "%2e%2e"):
            assert client.get(f"/static/{name}").status_code == 404
