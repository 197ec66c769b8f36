"""What lies before a reviewer: a note, the review of its newest result, and what the page may do with it.

A second reader sees his own decisions alone until he is done (`app.second_readings`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app import review_queue, reviews, second_comparison
from app.corrections import Standard
from app.errors import NotFound
from app.review_items import CurrentReview, Item
from app.web.evidence import Mark, blocks
from app.web.review_view import ItemShown, in_groups, mark_class, marks_of, shown, within
from app.web.words import issue_words
from models import JobIssue, Note, ReviewWork, Run, User
from schemas.issue import Issue, IssueType, Severity
from schemas.record import Record
from schemas.review import ReviewState


@dataclass(frozen=True)
class Desk:
    """`second`: its second reader is at it, blind; `finished`: he is done, and the first one is not. `records`: of the items as
    they stand; `issues`: of those that a person corrected."""

    note: Note
    review: CurrentReview
    second: bool
    finished: bool
    records: Mapping[UUID, Record]
    issues: Mapping[UUID, Sequence[Issue]]

    @property
    def items(self) -> list[Item]:
        return self.review.items

    def item(self, id_: UUID) -> Item:
        """Raises: NotFound."""
        found = next((item for item in self.items if item.id == id_), None)
        if found is None:
            raise NotFound(f"item {id_} does not exist")
        return found


@dataclass(frozen=True)
class NoteShown:
    """The head of a page. `writable`: may this person decide now? `held_by`: who else does."""

    id: str
    run_id: str
    patient_id: str
    patient_name: str
    sex: str
    birth_date: str | None
    document_type: str
    department: str
    date: str
    physician: str | None
    writable: bool
    second: bool
    differences: bool
    second_chosen: bool
    released_by: str | None
    held_by: str | None
    total: int
    open: int
    drug_allergies_open: int
    open_ids: Sequence[str]


def desk(session: Session, standard: Standard, note_id: UUID, by: str) -> Desk:
    """Raises: NotFound; Conflict while no job of the note has finished; Unavailable while no tables are loaded."""
    review = reviews.get_review(session, note_id)
    note = session.get_one(Note, note_id)
    reading = second_comparison.find_reading(session, review.run_id)
    second = reading is not None and reading.reader == by and reading.compared_at is None
    if second:
        items = second_comparison.second_items(session, review.run_id)
        review = CurrentReview(note_id, review.run_id, items, None, None)
    records: dict[UUID, Record] = {}
    issues: dict[UUID, Sequence[Issue]] = {}
    writing = None
    for item in review.items:
        if item.read is not None and item.coding is None and item.statement == item.read.statement:
            records[item.id] = item.read
            continue
        writing = writing or standard.writing(session, note_id, review.run_id)
        records[item.id], issues[item.id] = writing.corrected(item, [other for other in review.items if other.stands])
    return Desk(note, review, second, reading is not None and reading.finished_at is not None, records, issues)


def page_values(session: Session, at: Desk, by: str, language: str) -> dict[str, Any]:
    """What the templates of a note's page need."""
    stored = _stored_issues(session, at.review.run_id)
    own = {item.id: _issues_of(item, at, stored) for item in at.items}
    seen = {issue for issues in own.values() for issue in issues}
    items = [shown(item, at.records.get(item.id), own[item.id], language) for item in at.items]
    by_id = {item.id: item for item in items}
    # What no item was read from: it asks a person to look at the place.
    left = [(f"look-{number}", issue) for number, issue in enumerate(stored) if issue not in seen]
    places = [
        Mark(issue.start, issue.end, id_, "issue")
        for id_, issue in left
        if issue.start is not None and issue.end is not None
    ]
    marks = [mark for item in at.items for mark in marks_of(item, at.records.get(item.id))]
    return {
        "note": _head(session, at, by, items),
        "groups": in_groups(items),
        "blocks": blocks(at.note.text, [*marks, *places]),
        "mark_class": lambda piece: mark_class(piece, by_id),
        "notices": [(id_, issue_words(issue.text, language)) for id_, issue in left],
    }


def is_reader(session: Session, at: Desk, who: str) -> bool:
    """Is he one of the two whose judgements are compared? Else he is a third person."""
    reading = second_comparison.find_reading(session, at.review.run_id)
    return (reading is not None and reading.reader == who) or any(item.decided_by == who for item in at.items)


def name_of(session: Session, who: str | None) -> str:
    """What others call a person or a machine (`Principal.id`)."""
    return names_of(session, [who])[who] if who else ""


def names_of(session: Session, who: Iterable[str | None]) -> dict[str, str]:
    wanted = {one for one in who if one}
    people = {id_: found for id_ in wanted if id_.startswith("user:") and (found := _uuid(id_[5:]))}
    rows = session.execute(select(User.id, User.name).where(User.id.in_(people.values())))
    known: dict[UUID, str] = {row.id: row.name for row in rows}
    return {id_: known.get(people[id_], id_) if id_ in people else id_ for id_ in wanted}


def _head(session: Session, at: Desk, by: str, items: Sequence[ItemShown]) -> NoteShown:
    note, review = at.note, at.review
    work = session.get(ReviewWork, note.id, populate_existing=True)
    held = None if at.second or work is None else review_queue.assignment(session, note.id)
    holder = held.assigned_to if held else None
    physician = note.physician or {}
    waiting = [item for item in items if item.state == "open"]
    return NoteShown(
        id=str(note.id),
        run_id=str(review.run_id),
        patient_id=note.patient_id,
        patient_name=f"{note.patient_family} {note.patient_given}",
        sex=note.patient_sex,
        birth_date=note.patient_birth_date.isoformat() if note.patient_birth_date else None,
        document_type=note.document_type,
        department=note.department,
        date=note.note_date.isoformat(),
        physician=f"{physician.get('family', '')} {physician.get('given', '')}".strip() or None,
        writable=not at.finished if at.second else review.released_at is None and holder in (None, by),
        second=at.second,
        differences=work is not None and work.state == ReviewState.DIFFERING,
        second_chosen=work is not None and work.second_reader,
        released_by=name_of(session, review.released_by) or None,
        held_by=name_of(session, holder) if holder not in (None, by) else None,
        total=len(items),
        open=len(waiting),
        drug_allergies_open=sum(item.explicit for item in waiting),
        open_ids=[item.id for item in waiting if not item.explicit],
    )


def _stored_issues(session: Session, run_id: UUID) -> list[Issue]:
    """What the conversion said of the note, each once."""
    rows = session.scalars(
        select(JobIssue).join(Run, Run.job_id == JobIssue.job_id).where(Run.id == run_id).order_by(JobIssue.ordinal)
    )
    found = [
        Issue(severity=Severity(row.severity), code=IssueType(row.code), text=row.text, start=row.start, end=row.end)
        for row in rows
    ]
    return list(dict.fromkeys(found))


def _issues_of(item: Item, at: Desk, stored: Sequence[Issue]) -> list[Issue]:
    """Of a corrected statement those of its own check, else those of the conversion."""
    if item.id in at.issues:
        return list(at.issues[item.id])
    return [issue for issue in stored if within(issue, item.statement)]


def _uuid(written: str) -> UUID | None:
    try:
        return UUID(written)
    except ValueError:
        return None
