"""What reviewers do: judge items, correct and add statements, undo, release and withdraw; every form of their pages.

Asked by a script (`is_fragment`) the answer holds the parts of the page that have changed; else the browser is sent back to
the page. Whoever decides on an old version of an item is shown both versions and chooses. Somebody who is the second reader
of a note decides for himself alone (`app.second_readings`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.orm import Session

from app import releases, review_queue, reviews, second_readings
from app.corrections import Standard
from app.db import Database
from app.errors import Conflict, HyojunError, InvalidInput, NotFound
from app.review_items import Item
from app.review_queue import QueueFilter
from app.terminology import browse
from app.web.access import Form, Who
from app.web.outcome import status_of
from app.web.rendered import is_fragment, language_of, rendered
from app.web.review_desk import Desk, desk, name_of, page_values
from app.web.review_forms import (
    Sent,
    choice,
    chosen_code,
    identifier,
    new_editor,
    probability,
    queue_filter,
    seconds,
    statement_of,
    version,
)
from app.web.review_view import checked, shown
from app.web.words import issue_words, said
from models import Note
from schemas.access import Principal
from schemas.issue import Issue
from schemas.record import Record
from schemas.review import AuditAction, Verdict
from schemas.statement import Kind

MAX_CODES = 20
"""Codes that the picker shows at once."""
_ITEM = "/review/{note_id}/items/{item_id}"
_TOLD = ("nothing_next", "second_chosen", "second_done")
"""What a page says after it was come back to, as `told` in its address."""

Judged = Callable[[Session, Desk], Item | None]


@dataclass(frozen=True)
class ReviewActions:
    """`standard`: what corrections are computed and written with."""

    database: Database
    standard: Standard

    def router(self) -> APIRouter:
        router = APIRouter(include_in_schema=False)
        router.post("/review/codes")(self.codes)
        router.post("/review/next")(self.next)
        router.post("/review/{note_id}/take")(self.take)
        router.post("/review/{note_id}/give-back")(self.give_back)
        router.post("/review/{note_id}/accept-visible")(self.accept_visible)
        router.post("/review/{note_id}/check")(self.check)
        router.post("/review/{note_id}/add")(self.add)
        router.post("/review/{note_id}/release")(self.release)
        router.post("/review/{note_id}/withdraw")(self.withdraw)
        router.post("/review/{note_id}/second")(self.second)
        router.post("/review/{note_id}/second/choose")(self.choose_second)
        router.post("/review/{note_id}/second/finish")(self.finish_second)
        router.post("/review/{note_id}/differences")(self.settle)
        router.post(f"{_ITEM}/decide")(self.decide)
        router.post(f"{_ITEM}/amend")(self.amend)
        router.post(f"{_ITEM}/undo")(self.undo)
        return router

    # --- one item -----------------------------------------------------------------------------------------------------

    def decide(self, request: Request, who: Who, note_id: UUID, item_id: UUID, form: Form) -> Response:
        def judged(session: Session, at: Desk) -> Item | None:
            verdict = choice(form, "verdict", Verdict)
            if verdict not in (Verdict.ACCEPT, Verdict.REJECT):
                raise InvalidInput("verdict: must be accept or reject")
            decide = second_readings.decide if at.second else reviews.decide
            return decide(session, item_id, verdict, by=who.id, version=version(form), seconds=seconds(form))

        return self._judged(request, who, note_id, item_id, form, judged, whole=False)

    def amend(self, request: Request, who: Who, note_id: UUID, item_id: UUID, form: Form) -> Response:
        def judged(session: Session, at: Desk) -> Item | None:
            statement, coding = statement_of(form, at.note.text), chosen_code(form)
            if at.second:
                return second_readings.amend(
                    session, item_id, statement, by=who.id, version=version(form), coding=coding, seconds=seconds(form)
                )
            return reviews.amend(
                session, item_id, statement, by=who.id, version=version(form), coding=coding, seconds=seconds(form),
                reason=form.get("reason"),
            )  # fmt: skip

        return self._judged(request, who, note_id, item_id, form, judged, whole=True)

    def undo(self, request: Request, who: Who, note_id: UUID, item_id: UUID, form: Form) -> Response:
        def judged(session: Session, at: Desk) -> Item | None:
            undo = second_readings.undo if at.second else reviews.undo
            return undo(session, item_id, by=who.id, version=version(form), seconds=seconds(form))

        return self._judged(request, who, note_id, item_id, form, judged, whole=True)

    def add(self, request: Request, who: Who, note_id: UUID, form: Form) -> Response:
        def judged(session: Session, at: Desk) -> Item | None:
            statement, coding, run_id = statement_of(form, at.note.text), chosen_code(form), identifier(form, "run")
            if at.second:
                return second_readings.add(
                    session, note_id, run_id, statement, by=who.id, coding=coding, seconds=seconds(form)
                )
            return reviews.add(
                session, note_id, run_id, statement, by=who.id, coding=coding, seconds=seconds(form),
                reason=form.get("reason"),
            )  # fmt: skip

        return self._judged(request, who, note_id, None, form, judged, whole=True)

    def _judged(
        self, request: Request, who: Principal, note_id: UUID, item_id: UUID | None, form: Sent, judged: Judged, *, whole: bool
    ) -> Response:
        """`whole`: the places in the note change too, not the item alone."""
        request.state.audit = {"action": AuditAction.UPDATE}

        def work(session: Session) -> Response:
            at = desk(session, self.standard, note_id, who.id)
            if item_id is not None:
                at.item(item_id)  # of this note, which the audit log names
            item = judged(session, at)
            if not is_fragment(request):
                return RedirectResponse(_page(note_id, item.id if item else None), 303)
            verdict = request.url.path.rpartition("/")[2]
            word = f"did_{form.get('verdict') if verdict == 'decide' else verdict}"
            return self._parts(request, who, session, note_id, word, item, whole=whole)

        def stale(session: Session, error: HyojunError) -> Response | None:
            """Both versions, where the item is another one than the person saw."""
            if item_id is None or not isinstance(error, Conflict):
                return None
            at = desk(session, self.standard, note_id, who.id)
            found = next((item for item in at.items if item.id == item_id), None)
            if found is None or str(found.version) == form.get("version"):
                return None
            return self._both(request, who, session, at, found, form)

        return answered(self.database, request, who, work, _page(note_id, item_id), stale)

    def _parts(
        self, request: Request, who: Principal, session: Session, note_id: UUID, word: str, item: Item | None, *, whole: bool
    ) -> Response:
        language = language_of(request)
        values = page_values(session, desk(session, self.standard, note_id, who.id), who.id, language)
        items = [one for _, inside in values["groups"] for one in inside]
        one = next((one for one in items if item is not None and one.id == str(item.id)), None)
        parts = {
            "one": None if whole else one,
            "whole": whole,
            "emptied": word == "did_add",
            "made": one.id if one and word == "did_add" else None,
            "notice": said(language, word, name=one.display if one else ""),
        }
        return rendered(request, who, "review_parts.html", values | parts)

    def _both(
        self, request: Request, who: Principal, session: Session, at: Desk, theirs: Item, form: Sent
    ) -> Response:
        language, action = language_of(request), request.url.path.rpartition("/")[2]
        mine, record, issues = replace(theirs, verdict=None), theirs.read, list[Issue]()
        if action == "amend":
            statement = statement_of(form, at.note.text)
            mine = replace(theirs, statement=statement, verdict=Verdict.AMEND, coding=chosen_code(form))
            told = self.standard.standardized(session, at.note.id, statement, coding=mine.coding, review_id=theirs.id)
            record, issues = told.record, told.issues
        elif action == "decide":
            mine = replace(theirs, verdict=choice(form, "verdict", Verdict))
        values = page_values(session, at, who.id, language)
        resent = dict(form) | {"version": str(theirs.version)}
        both = {
            "theirs": next(one for _, inside in values["groups"] for one in inside if one.id == str(theirs.id)),
            "mine": shown(mine, record, issues, language),
            "decider": name_of(session, theirs.decided_by) or said(language, "nobody"),
            "action": request.url.path,
            "resent": [(name, value) for name, value in resent.items() if name != "csrf_token"],
            "fragment": is_fragment(request),
        }
        name = "review_stale.html" if is_fragment(request) else "review_stale_page.html"
        return rendered(request, who, name, values | both, status=409)

    # --- many items ---------------------------------------------------------------------------------------------------

    def accept_visible(self, request: Request, who: Who, note_id: UUID, form: Form) -> Response:
        request.state.audit = {"action": AuditAction.UPDATE}

        def work(session: Session) -> Response:
            ids = [identifier({"id": one}, "id") for one in form.get("ids", "").split(",") if one]
            least = probability(form, "threshold")
            if least is None:
                raise InvalidInput("threshold: is missing")
            second = desk(session, self.standard, note_id, who.id).second
            accept = second_readings.accept_visible if second else reviews.accept_visible
            done = accept(session, note_id, identifier(form, "run"), ids, by=who.id, threshold=least)
            if not is_fragment(request):
                return RedirectResponse(_page(note_id), 303)
            language = language_of(request)
            values = page_values(session, desk(session, self.standard, note_id, who.id), who.id, language)
            told = said(language, "accepted_visible", number=len(done.items))
            parts = {"one": None, "whole": True, "emptied": False, "made": None, "notice": told}
            return rendered(request, who, "review_parts.html", values | parts)

        return answered(self.database, request, who, work, _page(note_id))

    # --- before anything is stored ------------------------------------------------------------------------------------

    def check(self, request: Request, who: Who, note_id: UUID, form: Form) -> Response:
        """What the tables and the checks say of a form as it is."""
        request.state.audit = {"action": AuditAction.READ}

        def work(session: Session) -> Response:
            language = language_of(request)
            reviews.get_review(session, note_id)
            note = session.get_one(Note, note_id)
            kind = choice(form, "kind", Kind) or Kind.ALLERGY
            editor = new_editor(note.text, kind, None, note=_page(note_id))
            record: Record | None = None
            try:
                item_id = identifier(form, "item") if form.get("item") else None
                told = self.standard.standardized(
                    session, note_id, statement_of(form, note.text), coding=chosen_code(form), review_id=item_id
                )
                record, texts = told.record, [issue.text for issue in told.issues]
            except InvalidInput as error:
                texts = [str(error)]
            editor = replace(editor, id=form.get("form", editor.id))
            values = {"form": editor, "check": checked(record, texts, language)}
            return rendered(request, who, "review_check.html", values)

        return answered(self.database, request, who, work, _page(note_id))

    def codes(self, request: Request, who: Who, form: Form) -> Response:
        """Codes by name, kana, abbreviation or code. Sent as a form: what is looked for may be a patient's."""
        request.state.audit = {"action": AuditAction.READ}

        def work(session: Session) -> Response:
            kind = choice(form, "kind", Kind)
            if kind is None:
                raise InvalidInput("kind: is missing")
            found = browse.expand(session, f"{browse.VALUE_SET}{kind.value}", form.get("q", "").strip(), count=MAX_CODES)
            return rendered(request, who, "review_codes.html", {"page": found, "list": form.get("list", "codes")})

        return answered(self.database, request, who, work, "/review")

    # --- the queue ----------------------------------------------------------------------------------------------------

    def next(self, request: Request, who: Who, form: Form) -> Response:
        request.state.audit = {"action": AuditAction.UPDATE}

        def work(session: Session) -> Response:
            chosen, after = queue_filter(form), identifier(form, "after") if form.get("after") else None
            found = _second_next(session, who, chosen) if chosen.second else review_queue.next_for(
                session, who.id, chosen, after=after
            )  # fmt: skip
            return RedirectResponse("/review?told=nothing_next" if found is None else _page(found), 303)

        return answered(self.database, request, who, work, "/review")

    def take(self, request: Request, who: Who, note_id: UUID) -> Response:
        def work(session: Session) -> Response:
            review_queue.take(session, note_id, by=who.id)
            return Response(status_code=204) if is_fragment(request) else RedirectResponse(_page(note_id), 303)

        return answered(self.database, request, who, work, "/review")

    def give_back(self, request: Request, who: Who, note_id: UUID) -> Response:
        def work(session: Session) -> Response:
            review_queue.give_back(session, note_id, by=who.id)
            return RedirectResponse("/review", 303)

        return answered(self.database, request, who, work, "/review")

    # --- two readers --------------------------------------------------------------------------------------------------

    def second(self, request: Request, who: Who, note_id: UUID) -> Response:
        def work(session: Session) -> Response:
            second_readings.begin(session, note_id, by=who.id)
            return RedirectResponse(_page(note_id), 303)

        return answered(self.database, request, who, work, "/review")

    def choose_second(self, request: Request, who: Who, note_id: UUID) -> Response:
        def work(session: Session) -> Response:
            second_readings.choose(session, note_id, by=who.id)
            return RedirectResponse(f"{_page(note_id)}?told=second_chosen", 303)

        return answered(self.database, request, who, work, _page(note_id))

    def finish_second(self, request: Request, who: Who, note_id: UUID) -> Response:
        def work(session: Session) -> Response:
            second_readings.finish(session, note_id, by=who.id)
            return RedirectResponse("/review?told=second_done", 303)

        return answered(self.database, request, who, work, _page(note_id))

    def settle(self, request: Request, who: Who, note_id: UUID, form: Form) -> Response:
        """Says who is right: the first reader, the second, or neither, which means that the note does not say it."""

        def work(session: Session) -> Response:
            difference = identifier(form, "difference")
            if difference not in {one.id for one in second_readings.differences(session, note_id)}:
                raise NotFound(f"difference {difference} does not exist")
            chosen = choice(form, "choose", Settled)
            if chosen is None:
                raise InvalidInput("choose: is missing")
            agreed = form.get("agreed") == "1"
            second_readings.adjudicate(session, difference, by=who.id, choose=chosen.value, agreed=agreed)
            return RedirectResponse(f"{_page(note_id)}/differences", 303)

        return answered(self.database, request, who, work, f"{_page(note_id)}/differences")

    # --- the end of a review ------------------------------------------------------------------------------------------

    def release(self, request: Request, who: Who, note_id: UUID, form: Form) -> Response:
        def work(session: Session) -> Response:
            releases.release(session, note_id, identifier(form, "run"), by=who.id, standard=self.standard)
            newest = releases.releases(session, note_id)[-1]
            told = list(dict.fromkeys(releases.released_versions(session, newest.id).values()))
            return self._done(request, who, note_id, "did_release", [f"{type_}/{id_}" for type_, id_, _ in told], [])

        return answered(self.database, request, who, work, _page(note_id))

    def withdraw(self, request: Request, who: Who, note_id: UUID, form: Form) -> Response:
        def work(session: Session) -> Response:
            undone = releases.withdraw(session, note_id, by=who.id, reason=form.get("reason", ""))
            resources = [f"{type_}/{id_}" for type_, id_, _ in undone.resources]
            messages = [f"SS-MIX2 {kind} {order}" for kind, order in undone.messages]
            return self._done(request, who, note_id, "did_withdraw", resources, messages)

        return answered(self.database, request, who, work, _page(note_id))

    def _done(
        self, request: Request, who: Principal, note_id: UUID, word: str, resources: list[str], messages: list[str]
    ) -> Response:
        heading = said(language_of(request), word)
        values = {"heading": heading, "resources": resources, "messages": messages, "note_id": str(note_id)}
        return rendered(request, who, "review_done.html", values)


class Settled(StrEnum):
    """Who of two readers is right."""

    FIRST = "first"
    SECOND = "second"
    OTHER = "other"


def answered(
    database: Database, request: Request, who: Principal, work: Callable[[Session], Response], back: str,
    stale: Callable[[Session, HyojunError], Response | None] | None = None,
) -> Response:  # fmt: skip
    """What `work` answers in one transaction; its errors in words that people read. `stale`: may answer a conflict itself."""
    try:
        with database.session_scope() as session:
            return work(session)
    except HyojunError as error:
        refused = error
    if stale is not None:
        with database.session_scope() as session:
            if (both := stale(session, refused)) is not None:
                return both
    language, status = language_of(request), status_of(refused)
    if status >= 500:
        raise refused
    message = issue_words(str(refused), language)
    if is_fragment(request):
        reload = back if isinstance(refused, Conflict | NotFound) else None
        return rendered(request, who, "review_status.html", {"message": message, "reload": reload}, status=status)
    values = {"heading": said(language, "error"), "message": message, "back": back}
    return rendered(request, who, "review_message.html", values, status=status)


def _second_next(session: Session, who: Principal, chosen: QueueFilter) -> UUID | None:
    """The first note that waits for a second reader, who `who` may be and is from now on."""
    rows, _ = review_queue.queue(session, who.id, chosen)
    for row in rows:
        try:
            second_readings.begin(session, row.note_id, by=who.id)
        except Conflict:  # he has decided in it, or somebody was faster
            continue
        return row.note_id
    return None


def notice_of(request: Request, language: str) -> str:
    told = request.query_params.get("told", "")
    return said(language, told) if told in _TOLD else ""


def _page(note_id: UUID, item_id: UUID | None = None) -> str:
    return f"/review/{note_id}" + (f"#item-{item_id}" if item_id else "")
