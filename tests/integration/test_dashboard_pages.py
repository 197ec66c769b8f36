"""Dashboards over notes that were judged: charts, tables, CSV, and a local mapping by one click."""

import csv
import html
import io
import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pytest
from read_by_hand import stored
from sample_conversion import make_note
from signed_browser import SignedBrowser, words_of
from sqlalchemy import select

from app import reviews
from app.db import Database
from app.terminology import local
from app.terminology.importers import load_starter
from app.web.dashboard_pages import FIGURES, NAMES, PERIODS
from models import AuditEvent, LocalCode
from schemas import systems
from schemas.access import Role
from schemas.coding import Coding
from schemas.review import Verdict
from schemas.statement import EvidenceSpan, Field, Kind

HOSTILE = '謎の<script>alert("x")</script>病'
TEXT = f"2型糖尿病、{HOSTILE}で通院中。\nペニシリンで発疹。\nHbA1c 7.20%"
READING = f"""
condition name=糖尿病
condition name={HOSTILE}
allergy name=ペニシリン reaction=発疹 category=medication
lab name=HbA1c value=7.20 unit=%
"""


@pytest.fixture(scope="module")
def reviewer(database: Database) -> Iterator[SignedBrowser]:
    """Of one note everything is judged, of another one nothing."""
    with database.session_scope() as session:
        load_starter(session)
    browser = SignedBrowser(database, Role.REVIEWER)
    made = stored(database, make_note(text=TEXT), READING, {"糖尿病": 0.95, "HbA1c": 0.55})
    stored(database, make_note(text=TEXT), READING)
    longer = EvidenceSpan(start=0, end=5, quote="2型糖尿病")
    with database.session_scope() as session:
        known = local.browse.expand(session, f"{local.browse.VALUE_SET}condition", "2型糖尿病", count=20).hits
        coding = next(hit.coding for hit in known if hit.coding.system in local.TARGET_SYSTEMS[Kind.CONDITION])
        for item in reviews.get_review(session, made).items:
            name = item.statement.name.quote
            if name == "糖尿病":
                changed = item.statement.model_copy(update={"fields": {Field.NAME: longer}})
                reviews.amend(session, item.id, changed, by=browser.who, version=0, seconds=4.0, coding=coding)
            else:
                verdict = Verdict.REJECT if name == "HbA1c" else Verdict.ACCEPT
                reviews.decide(session, item.id, verdict, by=browser.who, version=0, seconds=2.0)
    with browser.client:
        yield browser


def rows_of(browser: SignedBrowser, name: str, **query: Any) -> list[dict[str, str]]:
    answer = browser.get(f"/dashboard/{name}.csv", **query)
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/csv"), answer.text
    assert f"hyojun-{name}.csv" in answer.headers["content-disposition"]
    return list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))


def test_the_page_draws_what_the_files_hold(reviewer: SignedBrowser) -> None:
    page = reviewer.text("/dashboard")
    drawn = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    for one in drawn:
        ElementTree.fromstring(one)
    labels = " ".join(html.unescape(re.findall(r'aria-label="([^"]*)"', one)[0]) for one in drawn)
    assert len(drawn) == 5 and "script" not in "".join(drawn)
    (day,) = rows_of(reviewer, "throughput")
    assert (day["decisions"], day["items"], day["people"], day["released"]) == ("4", "4", "1", "0")
    assert f"{day['day']} 4" in labels
    assert [row["notes"] for row in rows_of(reviewer, "queue")] == ["1", "0", "0", "0", "0", "0"]
    kinds = {row["name"]: row for row in rows_of(reviewer, "kinds")}
    assert (kinds["condition"]["accepted"], kinds["condition"]["amended"], kinds["lab"]["rejected"]) == ("1", "1", "1")
    assert kinds["condition"]["share"] == "0.500" and "傷病名 50.0%" in labels
    bins = rows_of(reviewer, "calibration")
    assert [(row["low"], row["items"], row["right"]) for row in bins] == [("0.500", "1", "0.000"), ("0.900", "3", "0.667")]
    assert "96.3% stated, 66.7% right (3)" in labels
    assert [row["items"] for row in rows_of(reviewer, "calibration", kind="lab")] == ["1"]
    (week,) = rows_of(reviewer, "drift")
    assert (week["results"], week["read"], week["judged"], week["accepted"]) == ("2", "8", "4", "0.500")
    seconds = {row["name"]: row for row in rows_of(reviewer, "seconds")}
    assert seconds[""]["items"] == "4" and seconds["condition"]["median"] == "3.000"
    assert {row["kind"] for row in rows_of(reviewer, "agreement")} == set(Kind)
    codes = rows_of(reviewer, "codes")
    assert codes and all(row["system"] and row["code"] for row in codes)
    shown = words_of(page)
    assert "平均確率" in shown and "未確認の記録 1 件" in shown


def test_every_table_and_period_is_there(reviewer: SignedBrowser) -> None:
    for name in (*FIGURES, *NAMES):
        rows_of(reviewer, name, days=0)
    for days in PERIODS:
        assert reviewer.get("/dashboard", days=days).status_code == 200
    reviewer.post("/language", language="en", back="/dashboard")
    assert "Drift by week" in reviewer.text("/dashboard") and "Names corrected most" in reviewer.text("/dashboard/names")
    reviewer.post("/language", language="ja", back="/dashboard")
    assert reviewer.get("/dashboard/nothing.csv").status_code == 404
    assert reviewer.get("/dashboard", days=-1).status_code == 422
    assert reviewer.get("/dashboard", kind="x").status_code == 422


def test_one_click_makes_a_local_mapping(reviewer: SignedBrowser, database: Database) -> None:
    page = reviewer.text("/dashboard/names")
    assert "<script>alert" not in page and html.escape(HOSTILE, quote=False)[:10] in page
    (corrected,) = [row for row in rows_of(reviewer, "corrected") if row["kind"] == "condition"]
    assert corrected["name"] == "糖尿病" and corrected["system"] in local.TARGET_SYSTEMS[Kind.CONDITION]
    forms = re.findall(r'<form method="post" action="/dashboard/mappings".*?</form>', page, re.DOTALL)
    one_click = next(form for form in forms if 'value="糖尿病"' in form and "<select" not in form)
    fields = {name: html.unescape(value) for name, value in re.findall(r'name="([a-z_]+)" value="([^"]*)"', one_click)}
    mapped = reviewer.client.post("/dashboard/mappings", data=fields)
    assert mapped.status_code == 200 and "登録済み" in mapped.text and "保存しました" in mapped.text
    with database.session_scope() as session:
        row = session.scalars(select(LocalCode)).one()
        assert (row.kind, row.display, row.target_code, row.created_by) == (
            "condition", "糖尿病", corrected["code"], reviewer.who,
        )  # fmt: skip
        event = session.scalars(select(AuditEvent).where(AuditEvent.route == "POST /dashboard/mappings")).all()[-1]
        assert event.action == "admin" and event.ids == [str(row.id)] and event.acted_by == reviewer.who

    wrong = reviewer.post("/dashboard/mappings", kind="condition", name=HOSTILE, system=systems.ICD10, code="X99.999")
    assert wrong.status_code == 422 and "どの表にもありません" in wrong.text
    assert reviewer.post("/dashboard/mappings", kind="condition", name="=1+1", system=fields["system"], code=fields["code"]).status_code == 422
    assert reviewer.client.post("/dashboard/mappings", data=fields | {"csrf_token": "x"}).status_code == 403
    assert reviewer.post("/dashboard/mappings", kind="condition", name=HOSTILE, system=fields["system"], code=fields["code"]).status_code == 200
    again = reviewer.post("/dashboard/mappings", kind="condition", name="糖尿病", system=fields["system"], code=fields["code"])
    assert again.status_code == 200
    with database.session_scope() as session:
        assert len(session.scalars(select(LocalCode)).all()) == 2, "what is stored already is not stored again"
        target = Coding(system=fields["system"], code=fields["code"], display="")
        local.set_local(session, Kind.LAB, "L-1", "HbA1c", None, "test")
        with pytest.raises(Exception, match="system"):
            local.map_name(session, Kind.LAB, "HbA1c", target, "test")


def test_names_are_for_reviewers(reviewer: SignedBrowser, database: Database) -> None:
    for role in (Role.ADMIN, Role.INTEGRATOR):
        other = SignedBrowser(database, role)
        for path in ("/dashboard", "/dashboard/names", "/dashboard/corrected.csv"):
            assert other.get(path).status_code == 403
    with database.session_scope() as session:
        told = session.scalars(select(AuditEvent).where(AuditEvent.route == "GET /dashboard/{name}.csv", AuditEvent.outcome == "success"))
        assert {event.action for event in told} == {"export"}
