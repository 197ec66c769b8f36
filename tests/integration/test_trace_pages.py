"""Where a resource comes from: judged, amended, released, as its page tells it, to those who may know."""

import html
import re
from collections.abc import Iterator
from uuid import UUID

import pytest
from read_by_hand import stored
from reviewing import STANDARD
from sample_conversion import make_note
from signed_browser import SignedBrowser, words_of
from sqlalchemy import select

from app import releases, reviews
from app.db import Database
from models import AuditEvent, Resource, Run, SecondReading
from schemas.access import Role
from schemas.note import ChartNote
from schemas.review import Verdict
from schemas.statement import EvidenceSpan, Field

TEXT = "2型糖尿病<b>で</b>通院中。\nペニシリンで発疹。\nHbA1c 7.20%"
READING = """
condition name=糖尿病
allergy name=ペニシリン reaction=発疹 category=medication
lab name=HbA1c value=7.20 unit=%
"""


def note() -> ChartNote:
    made = make_note(text=TEXT)
    return made.model_copy(update={"patient": made.patient.model_copy(update={"id": "P0000001"})})


@pytest.fixture(scope="module")
def reviewer(database: Database) -> Iterator[SignedBrowser]:
    browser = SignedBrowser(database, Role.REVIEWER, name="確認 <i>次郎</i>")
    with browser.client:
        yield browser


@pytest.fixture(scope="module")
def note_id(database: Database, reviewer: SignedBrowser) -> UUID:
    """Its condition amended, with seconds and a reason, after an undone rejection; everything released."""
    made = stored(database, note(), READING)
    longer = EvidenceSpan(start=0, end=5, quote="2型糖尿病")
    with database.session_scope() as session:
        for item in reviews.get_review(session, made).items:
            if item.statement.name.quote != "糖尿病":
                reviews.decide(session, item.id, Verdict.ACCEPT, by=reviewer.who, version=0, seconds=2.5)
                continue
            reviews.decide(session, item.id, Verdict.REJECT, by=reviewer.who, version=0, seconds=3.0)
            reviews.undo(session, item.id, by=reviewer.who, version=1)
            changed = item.statement.model_copy(update={"fields": {Field.NAME: longer}})
            reviews.amend(session, item.id, changed, by=reviewer.who, version=2, seconds=4.0, reason="型が<b>抜けていた")
    with database.session_scope() as session:
        run_id = reviews.get_review(session, made).run_id
        releases.release(session, made, run_id, by=reviewer.who, standard=STANDARD)
    return made


def page_of(reviewer: SignedBrowser, note_id: UUID, type_: str) -> str:
    whole = reviewer.text(f"/trace/notes/{note_id}")
    return reviewer.text(re.findall(rf'href="(/trace/{type_}/[^"]+)"', whole)[0])


def test_an_amended_resource_tells_who_what_when_and_with_what(
    reviewer: SignedBrowser, database: Database, note_id: UUID
) -> None:
    page = page_of(reviewer, note_id, "Condition")
    shown = words_of(page)
    assert "<del lang=\"ja\">糖尿病</del> → <ins lang=\"ja\">2型糖尿病</ins>" in page
    assert re.findall(r"<td>(却下|取り消し|修正|承認)</td>", page) == ["却下", "取り消し", "修正"]
    assert "型が&lt;b&gt;抜けていた" in page and "確認 &lt;i&gt;次郎" in page and "<i>次郎" not in page
    assert re.findall(r'<td class="number">(\d\.\d)</td>', page) == ["3.0", "4.0", "7.0"], "seconds of each step, and in all"
    with database.session_scope() as session:
        run = session.scalars(select(Run).where(Run.note_id == note_id)).one()
        for made_with in (run.model, run.prompt, run.grammar, run.terminology, run.version, str(run.id)):
            assert made_with in shown
        newest = session.scalars(
            select(Resource.content).where(Resource.note_id == note_id, Resource.type == "Condition").order_by(Resource.version)
        ).all()[-1]
    written = html.unescape(re.findall(r'<pre id="fhir"[^>]*>(.*?)</pre>', page, re.DOTALL)[0])
    assert f'"text": "{newest["code"]["text"]}"' in written and '"versionId"' in written
    assert "確定" in words_of(page) and f"/review/{note_id}" in page


def test_what_leaves_is_shown_as_it_leaves(reviewer: SignedBrowser, note_id: UUID) -> None:
    page = page_of(reviewer, note_id, "Observation")
    assert '"value": 7.20' in html.unescape(page), "with the digits as written"
    messages = dict(re.findall(r'<details( open)? class="message">\s*<summary>([A-Z]{3}-\d\d)', page))
    assert messages.get(" open") == "OML-11", "the one that tells it is open"
    assert re.search(r"P00/000/P0000001/[^<]*OML-11", page) and "MSH|^~\\&amp;|" in page and "PPR-01" in page


def test_the_note_tells_of_everything(reviewer: SignedBrowser, note_id: UUID) -> None:
    shown = words_of(reviewer.text(f"/trace/notes/{note_id}"))
    for told in ("Condition/", "AllergyIntolerance/", "Observation/", "確定", "修正", "確認 &lt;i&gt;次郎", "ADT-61"):
        assert told in shown, told


def test_who_looked_is_on_record_and_others_may_not_look(
    reviewer: SignedBrowser, database: Database, note_id: UUID
) -> None:
    page_of(reviewer, note_id, "AllergyIntolerance")
    with database.session_scope() as session:
        event = session.scalars(
            select(AuditEvent).where(AuditEvent.route == "GET /trace/{resource_type}/{resource_id}").order_by(AuditEvent.id.desc())
        ).first()
        assert event is not None and event.acted_by == reviewer.who and event.note_id == note_id and event.patients
        assert event.type == "AllergyIntolerance" and event.ids
    for role in (Role.ADMIN, Role.INTEGRATOR):
        other = SignedBrowser(database, role)
        assert other.get(f"/trace/notes/{note_id}").status_code == 403
        assert other.get(f"/trace/{event.type}/{event.ids[0]}").status_code == 403
    for absent in ("/trace/Condition/nothing", "/trace/notes/00000000-0000-4000-8000-000000000000", "/trace/condition/x"):
        assert reviewer.get(absent).status_code == 404


def test_a_second_reader_does_not_learn_here_what_the_first_one_said(database: Database, reviewer: SignedBrowser) -> None:
    made = stored(database, note(), READING)
    first = SignedBrowser(database, Role.REVIEWER, name="先読み 三郎")
    with database.session_scope() as session:
        current = reviews.get_review(session, made)
        item = next(item for item in current.items if item.statement.kind == "condition")
        reviews.decide(session, item.id, Verdict.REJECT, by=first.who, version=0)
        session.add(SecondReading(run_id=current.run_id, note_id=made, chosen_by="test"))
    seen, hidden = page_of(first, made, "Condition"), page_of(reviewer, made, "Condition")
    assert "却下" in seen and "却下" not in hidden and "先読み" not in hidden
    assert "却下" in first.text(f"/trace/notes/{made}") and "却下" not in reviewer.text(f"/trace/notes/{made}")
