"""What a person's correction becomes: its values, dates and codes, the resource that is written of it, and what is wrong with
that; computed before anything is stored, by the same code with which it is written when the note is released.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app import fhir, outputs
from app.errors import InvalidInput
from app.fhir.origin import made_of
from app.note_rows import chart_note
from app.outputs import Choices, Chosen
from app.review_items import CurrentReview, Item
from app.reviews import check_statement, chosen_coding, get_review
from app.terminology.importers import lexicon_from, renewed
from app.terminology.matching import Lexicon
from models import Note, Run
from schemas.coding import Coding
from schemas.issue import Issue, Severity
from schemas.note import ChartNote
from schemas.record import Record
from schemas.statement import Statement


@dataclass(frozen=True)
class Standardized:
    """`resource`: FHIR JSON, None where none can be made of it. `issues`: of the values and of the check of the resource; with
    an error (`refused`) it could not be released."""

    record: Record
    resource: dict[str, Any] | None
    issues: list[Issue]

    @property
    def refused(self) -> bool:
        return self.resource is None or fhir.held_back(self.issues)


@dataclass(frozen=True)
class Writing:
    """What the resources and messages of one result are written with."""

    chart: ChartNote
    source: str
    run: Run
    chosen: Chosen
    lexicon: Lexicon
    profiles: fhir.Profiles | None

    @property
    def department(self) -> Coding | None:
        return self.lexicon.department(self.chart.department)

    def corrected(self, item: Item, others: Sequence[Item]) -> tuple[Record, list[Issue]]:
        """The record of an item as a person has it; `others`: the items beside it."""
        beside = [one.statement for one in others if one.id != item.id]
        score = self.chosen.coding_min_score
        return outputs.corrected(item.statement, beside, self.chart.date, self.lexicon, score, item.coding)

    def resources(
        self, records: Sequence[Record], recorded: datetime
    ) -> tuple[list[dict[str, Any] | None], list[dict[str, Any]], list[Issue]]:
        """The resource of each record (None: it cannot be made), those that the sender states, and the issues of building."""
        run = self.run
        made_by = fhir.ProvenanceSource(
            run_id=str(run.id), software_version=run.version, model=run.model, adapter=run.adapter, prompt=run.prompt,
            grammar=run.grammar, terminology=self.lexicon.version,
        )  # fmt: skip
        built, issues = fhir.build_resources(
            self.chart, records, facility=self.chosen.facility, department=self.department, run=made_by,
            recorded=recorded, source=self.source,
        )  # fmt: skip
        waiting = [content for content in built if content["resourceType"] != "Provenance"]
        found: list[dict[str, Any] | None] = []
        for record in records:  # in their order, those left out that cannot be made
            own = next((c for c in waiting if made_of(c, record.statement, record.also)), None)
            found.append(own)
            if own is not None:
                waiting.remove(own)
        return found, waiting, issues

    def faults(
        self, contents: Sequence[dict[str, Any]], stated: Sequence[dict[str, Any]], at: datetime
    ) -> dict[tuple[str, str], list[Issue]]:
        """What the checks find in `contents`, which refer to `stated`, by type and id."""
        bundle = fhir.collection(self.chart, [*stated, *contents], at)
        found: dict[tuple[str, str], list[Issue]] = {(content["resourceType"], content["id"]): [] for content in contents}
        for issue in outputs.checked(self.chart, bundle, self.profiles, self.lexicon):
            key = outputs.of_entry(bundle, issue)
            if key in found:
                found[key].append(issue)
        return found


class Standard:
    """The tables, settings and profiles of an installation, for what people correct. Thread-safe. Reading the tables takes
    seconds, once and whenever they were changed; `tables`: where they come from, else from the database.

    A result is corrected with the settings that it was made with, where its run kept them, and with the tables of now.
    """

    def __init__(
        self,
        choices: Choices,
        *,
        tables: Callable[[Session], Lexicon] | None = None,
        profiles: Callable[[], fhir.Profiles | None] = lambda: None,
    ) -> None:
        self._chosen = Chosen.of(choices)
        self._tables, self._profiles = tables, profiles
        self._lexicon: Lexicon | None = None
        self._lock = threading.Lock()

    def lexicon(self, session: Session) -> Lexicon:
        """Raises: Unavailable while no tables are loaded."""
        if self._tables is not None:
            return self._tables(session)
        with self._lock:
            self._lexicon = renewed(session, self._lexicon) if self._lexicon else lexicon_from(session)
            return self._lexicon

    def writing(self, session: Session, note_id: UUID, run_id: UUID) -> Writing:
        """Raises: Unavailable."""
        note, run = session.get_one(Note, note_id), session.get_one(Run, run_id)
        try:
            chosen = Chosen.kept(run.options or {})
        except InvalidInput:
            chosen = self._chosen  # a former version did not keep them
        return Writing(chart_note(note), note.source, run, chosen, self.lexicon(session), self._profiles())

    def standardized(
        self,
        session: Session,
        note_id: UUID,
        statement: Statement,
        *,
        coding: Coding | None = None,
        review_id: UUID | None = None,
    ) -> Standardized:
        """What `statement` would become in place of the item `review_id`, or as one that is added; nothing is stored.

        Raises: NotFound; InvalidInput where the note does not say it, or no table has the code `coding`; Conflict while the
        note has no result; Unavailable.
        """
        current = get_review(session, note_id)
        check_statement(session.get_one(Note, note_id).text, statement)
        if coding is not None:
            coding = chosen_coding(session, statement.kind, coding)
        writing = self.writing(session, note_id, current.run_id)
        value = statement.model_copy(update={"confidence": None})
        item = Item(review_id or note_id, 0, value, None, None, False, False, True, None, coding=coding)
        record, issues = writing.corrected(item, _beside(current, review_id))
        now = session.scalars(select(func.now())).one()
        (content,), stated, built = writing.resources([record], now)
        mine = [issue for issue in built if (issue.start, issue.end) == (value.name.start, value.name.end)]
        found = writing.faults([content], stated, now) if content is not None else {}
        return Standardized(record, content, [*issues, *mine, *(issue for one in found.values() for issue in one)])


def _beside(current: CurrentReview, review_id: UUID | None) -> list[Item]:
    return [item for item in current.items if item.id != review_id and (item.verdict is None or item.stands)]


def first_error(issues: Sequence[Issue]) -> str:
    """Without patient text, as all issues are."""
    return next((issue.text for issue in issues if issue.severity in (Severity.ERROR, Severity.FATAL)), "")
