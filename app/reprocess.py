"""Old notes through the model of now, beside their results, before anything is replaced.

    start      a condition chooses notes; each gets a job that waits behind those that somebody waits for
    (workers)  convert them; what comes out is kept beside the note's result (`app.trials`), one transaction each
    summary    what would change
    apply      makes what was kept the note's result, as if the note had been converted anew; its review is superseded
    discard    forgets what was kept

Everything works in the caller's transaction, so a crash leaves each note as it was or as it is to be. A note whose
result is another one than that which the trial was compared with is left alone.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    text,
    true,
    update,
)
from sqlalchemy.orm import Session, undefer

from app import audit, conversions, jobs
from app.comparison import CODES, Change, Difference
from app.errors import Conflict, InvalidInput, NotFound
from app.note_rows import chart_note
from models import Job, Note, NoteReview, NoteStatement, ReleaseState, Resource, Run, Trial, TrialNote
from schemas.job import JobState, Progress
from schemas.note import DocumentType
from schemas.review import AuditAction

ENDED = (JobState.FAILED, JobState.CANCELLED)

# --- which notes ----------------------------------------------------------------------------------------------------

_TEXTS: dict[str, Any] = {
    "source": Note.source,
    "department": Note.department,
    "type": Note.document_type,
    "model": Run.model,
    "adapter": Run.adapter,
    "prompt": Run.prompt,
    "grammar": Run.grammar,
    "terminology": Run.terminology,
    "profiles": Run.profiles,
    "calibration": Run.calibration,
    "version": Run.version,
}
_IDS: dict[str, Any] = {"note": Note.id, "batch": Job.batch_id}
_TERM = re.compile(r"([a-z]+)(=|!=)(.+)", re.DOTALL)


def condition(where: str) -> list[ColumnElement[bool]]:
    """What `where` asks of a note and its result, all of it together: `name=value`, `name!=value` and flags, with white
    space between them and quotes around a value that has some.

    Names: source department type (as they were received), since until (the note's date, both included), note batch
    (ids), model adapter prompt grammar terminology profiles calibration version (of the run). Flags: uncoded (a
    statement that no table knows), held (one that waits for review), all. Raises: InvalidInput, also where nothing is
    asked.
    """
    try:
        terms = [term for term in shlex.split(where) if term != "and"]
    except ValueError as error:
        raise InvalidInput(f"the condition cannot be read: {error}") from None
    if not terms:
        raise InvalidInput("the condition is empty; `all` stands for every note that has a result")
    return [_asked(term) for term in terms]


def _asked(term: str) -> ColumnElement[bool]:
    if term == "all":
        return true()
    if term in ("uncoded", "held"):
        said = select(NoteStatement.id).where(NoteStatement.run_id == Run.id)
        if term == "held":
            return exists(said.where(NoteStatement.record["held"].as_boolean()))
        uncoded = func.jsonb_array_length(NoteStatement.record["codings"]) == 0
        return exists(said.where(uncoded, NoteStatement.record["local"].astext.is_(None)))
    match = _TERM.fullmatch(term)
    names = [*_TEXTS, *_IDS, "since", "until"]
    if match is None or match[1] not in names:
        raise InvalidInput(f"a term of the condition is none of: {', '.join(names)} (name=value), uncoded, held, all")
    name, sign, value = match.groups()
    if name in ("since", "until"):
        if sign != "=":
            raise InvalidInput(f"{name} takes = alone")
        day = _day(name, value)
        return Note.note_date >= day if name == "since" else Note.note_date <= day
    if name in _IDS:
        try:
            column, wanted = _IDS[name], UUID(value)
        except ValueError:
            raise InvalidInput(f"{name}: not an id") from None
        return column == wanted if sign == "=" else column.is_distinct_from(wanted)  # type: ignore[no-any-return]
    if name == "type" and value not in list(DocumentType):
        raise InvalidInput(f"type is one of {', '.join(DocumentType)}")
    column = _TEXTS[name]
    return column == value if sign == "=" else column.is_distinct_from(value)  # type: ignore[no-any-return]


def _day(name: str, value: str) -> date:
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise InvalidInput(f"{name}: not a date as YYYY-MM-DD") from None


def _chosen(where: Sequence[ColumnElement[bool]]) -> Select[UUID, UUID]:
    """(note, run of its result) of the notes that the condition chooses."""
    newest = _current_run(Note.id).lateral("newest")
    return (
        select(Note.id.label("note_id"), Run.id.label("run_id"))
        .select_from(Note)
        .join(newest, true())
        .join(Run, Run.id == newest.c.id)
        .join(Job, Job.id == Run.job_id)
        .where(and_(*where))
        .order_by(Note.note_date.desc(), Note.id)
    )


def _current_run(note_id: Any) -> Select[UUID]:
    done = select(Run.id).join(Job, Job.id == Run.job_id).where(Run.note_id == note_id, Job.state == JobState.DONE)
    return done.order_by(Job.finished_at.desc(), Run.created_at.desc()).limit(1).correlate(Note)


# --- the life of a trial --------------------------------------------------------------------------------------------


def start(session: Session, where: str, *, by: str, limit: int | None = None) -> Trial:
    """Queues the chosen notes, the newest `limit` of them, all in one statement. Raises: InvalidInput; NotFound where
    no note is chosen."""
    found = _chosen(condition(where)).limit(limit).subquery("chosen")
    trial = Trial(id=uuid4(), chosen=where.strip(), created_by=audit.person(by))
    session.add(trial)
    session.flush()
    # Used twice below, so that Postgres makes it once: the ids are those of both tables.
    numbered = select(func.gen_random_uuid().label("job_id"), *found.c).cte("numbered")
    _, note_id, run_id = numbered.c
    queued = (
        insert(Job)
        .from_select(
            ["id", "trial_id", "trial_note_id", "priority"],
            select(numbered.c.job_id, literal(trial.id), note_id, literal(jobs.BATCH)),
        )
        .returning(Job.id)
        .cte("queued")
    )
    session.execute(
        insert(TrialNote)
        .from_select(
            ["job_id", "trial_id", "note_id", "former_run_id"],
            select(numbered.c.job_id, literal(trial.id), note_id, run_id),
        )
        .add_cte(queued)
    )
    trial.notes = session.scalar(select(func.count()).where(TrialNote.trial_id == trial.id)) or 0
    if not trial.notes:
        raise NotFound("no note with a result is as the condition says")
    audit.record(session, AuditAction.REPLAY, by=trial.created_by, subject=trial.id)
    session.flush()
    return trial


def get_trial(session: Session, trial_id: UUID) -> Trial:
    """Raises: NotFound."""
    trial = session.get(Trial, trial_id)
    if trial is None:
        raise NotFound(f"trial {trial_id} does not exist")
    return trial


def find_trials(session: Session) -> list[Trial]:
    """The newest first."""
    return list(session.scalars(select(Trial).order_by(Trial.created_at.desc(), Trial.id)))


def progress(session: Session, trial_id: UUID) -> Progress:
    """Its jobs by state. Raises: NotFound."""
    get_trial(session, trial_id)
    states = select(Job.state, func.count()).where(Job.trial_id == trial_id).group_by(Job.state)
    return Progress(**{str(state): count for state, count in session.execute(states)})


def cancel(session: Session, trial_id: UUID) -> int:
    """Ends what was not converted yet; what was is kept. How many jobs. Raises: NotFound."""
    values = {
        "state": JobState.CANCELLED,
        "reason": "the trial was cancelled",
        "finished_at": func.now(),
        "lease_until": None,
    }
    return _moved(session, trial_id, jobs.may_become(JobState.CANCELLED), values | {"fence": Job.fence + 1})


def resume(session: Session, trial_id: UUID) -> int:
    """Queues what failed or was cancelled again, with all its attempts. How many jobs. Raises: NotFound; Conflict if
    discarded."""
    if get_trial(session, trial_id).discarded_at is not None:
        raise Conflict(f"trial {trial_id} was discarded")
    fresh = {
        "state": JobState.QUEUED, "reason": None, "attempts": 0, "dispatches": 0, "dispatched_at": None,
        "finished_at": None, "started_at": None, "worker": None, "queued_at": func.now(), "run_after": func.now(),
    }  # fmt: skip
    return _moved(session, trial_id, and_(Job.state.in_(ENDED), jobs.may_become(JobState.QUEUED)), fresh)


def _moved(session: Session, trial_id: UUID, may: ColumnElement[bool], values: dict[str, Any]) -> int:
    get_trial(session, trial_id)
    mine = and_(Job.trial_id == trial_id, Job.trial_note_id.is_not(None))
    moved = update(Job).where(mine, may).values(values).returning(Job.id)
    return len(session.scalars(moved.execution_options(synchronize_session=False)).all())


def discard(session: Session, trial_id: UUID, *, by: str) -> int:
    """Forgets what was kept and not applied, and ends what still waits. How many notes. Raises: NotFound."""
    trial = get_trial(session, trial_id)
    gone = delete(Job).where(Job.trial_id == trial_id, Job.trial_note_id.is_not(None)).returning(Job.id)
    count = len(session.scalars(gone.execution_options(synchronize_session=False)).all())
    trial.discarded_at = trial.discarded_at or func.now()
    audit.record(session, AuditAction.DELETE, by=audit.person(by), subject=trial_id)
    session.flush()
    return count


# --- what would change ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Summary:
    """`counts`: statements by kind and change. `changed`: notes of which something would change. `grave`: differences
    about drug allergies, `codes`: names that are coded otherwise. What applying would meet: `decided` reviews with
    somebody's decisions that would count no more, `released` results, `stale` notes that were converted again since;
    none of these was `applied`."""

    trial: Trial
    progress: Progress
    counts: dict[str, dict[str, int]]
    kept: int
    changed: int
    grave: int
    codes: int
    decided: int
    released: int
    stale: int
    applied: int


def summary(session: Session, trial_id: UUID) -> Summary:
    """Raises: NotFound."""
    trial = get_trial(session, trial_id)
    counts: dict[str, dict[str, int]] = {}
    rows = session.execute(text(_COUNTS), {"trial": trial_id})
    for kind, change, number in rows:
        counts.setdefault(kind, dict.fromkeys((one.value for one in Change), 0))[change] = int(number)
    found = session.execute(text(_DIFFERENT), {"trial": trial_id, "codes": CODES}).one()
    standing = session.execute(text(_STANDING), {"trial": trial_id}).one()
    return Summary(
        trial, progress(session, trial_id), counts, found.kept, found.changed, found.grave, found.codes,
        standing.decided, standing.released, standing.stale, found.applied,
    )  # fmt: skip


_COUNTS = """
SELECT kind.key, change.key, sum(change.value::bigint) FROM trial_notes, jsonb_each(counts) AS kind,
    jsonb_each_text(kind.value) AS change
WHERE trial_id = :trial GROUP BY 1, 2 ORDER BY 1
"""
_DIFFERENT = """
SELECT count(kept_at) AS kept, count(applied_at) AS applied,
    count(*) FILTER (WHERE jsonb_array_length(differences) > 0) AS changed,
    coalesce(sum(jsonb_array_length(
        jsonb_path_query_array(differences, '$[*] ? (@.grave == true)')
    )), 0)::bigint AS grave,
    coalesce(sum(jsonb_array_length(
        jsonb_path_query_array(differences, '$[*] ? (@.change == "changed" && @.parts[*].part == $codes)',
            jsonb_build_object('codes', CAST(:codes AS text)))
    )), 0)::bigint AS codes
FROM trial_notes WHERE trial_id = :trial
"""
_STANDING = """
SELECT count(*) FILTER (WHERE stale IS NOT TRUE AND NOT released AND decided) AS decided,
    count(*) FILTER (WHERE stale IS NOT TRUE AND released) AS released, count(*) FILTER (WHERE stale) AS stale
FROM (
    SELECT
        now.run_id <> mine.former_run_id AS stale,
        now.released_at IS NOT NULL
            OR EXISTS (SELECT FROM resources AS r WHERE r.note_id = mine.note_id AND r.run_id = mine.former_run_id
                AND r.state = 'final') AS released,
        EXISTS (SELECT FROM reviews JOIN decisions ON decisions.review_id = reviews.id
            WHERE reviews.run_id = now.run_id) AS decided
    FROM trial_notes AS mine
    LEFT JOIN note_reviews AS now ON now.note_id = mine.note_id AND now.superseded_at IS NULL
    WHERE mine.trial_id = :trial AND mine.kept_at IS NOT NULL AND mine.applied_at IS NULL
) AS standing
"""


@dataclass(frozen=True)
class NoteChange:
    """What the trial says otherwise of one note. `external_id`: the sender's id of it."""

    job_id: UUID
    note_id: UUID
    source: str
    external_id: str
    note_date: date
    applied_at: datetime | None
    differences: list[Difference]


def changes(session: Session, trial_id: UUID, *, chunk: int = 500) -> Iterator[NoteChange]:
    """Notes of which something would change: those with a drug allergy in it first, then by id. Read in chunks."""
    grave = TrialNote.differences.contains([{"grave": True}])
    for first in (grave, ~grave):
        after: UUID | None = None
        while True:
            query = (
                select(
                    TrialNote.job_id,
                    TrialNote.note_id,
                    Note.source,
                    Note.external_id,
                    Note.note_date,
                    TrialNote.applied_at,
                    TrialNote.differences,
                )
                .join(Note, Note.id == TrialNote.note_id)
                .where(TrialNote.trial_id == trial_id, first, func.jsonb_array_length(TrialNote.differences) > 0)
                .order_by(TrialNote.note_id)
                .limit(chunk)
            )
            rows = session.execute(query.where(TrialNote.note_id > after) if after else query).all()
            for row in rows:
                found = [Difference.model_validate(one) for one in row.differences or ()]
                yield NoteChange(
                    row.job_id, row.note_id, row.source, row.external_id, row.note_date, row.applied_at, found
                )
            if len(rows) < chunk:
                break
            after = rows[-1].note_id


# --- making it count ------------------------------------------------------------------------------------------------


class Applied(StrEnum):
    """What became of one note."""

    APPLIED = "applied"
    RELEASED = "released"
    """Its result is released, and released ones were not to be replaced."""
    STALE = "converted again since"


def waiting(session: Session, trial_id: UUID, notes: Sequence[UUID] = ()) -> list[UUID]:
    """The jobs whose work was kept and not applied, of all notes or of these. Raises: NotFound."""
    get_trial(session, trial_id)
    query = select(TrialNote.job_id).where(
        TrialNote.trial_id == trial_id, TrialNote.kept_at.is_not(None), TrialNote.applied_at.is_(None)
    )
    if notes:
        query = query.where(TrialNote.note_id.in_(notes))
    return list(session.scalars(query.order_by(TrialNote.note_id)))


def apply(session: Session, job_id: UUID, *, by: str, released: bool = False, release: bool = False) -> Applied:
    """Makes what the trial's job kept the result of its note. `released`: also where the result there is was released;
    `release`: as `jobs.store`. Applied twice it says so and does nothing. Raises: NotFound, Conflict while nothing is
    kept."""
    query = select(TrialNote).where(TrialNote.job_id == job_id).options(undefer(TrialNote.kept)).with_for_update()
    mine = session.scalars(query).one_or_none()
    if mine is None:
        raise NotFound(f"job {job_id} is of no trial")
    if mine.applied_at is not None:
        return Applied.APPLIED
    if mine.kept is None:
        raise Conflict(f"job {job_id} has not ended: nothing is kept of it")
    note = session.scalars(select(Note).where(Note.id == mine.note_id).with_for_update(key_share=True)).one()
    open_job = select(Job.id).where(Job.note_id == note.id, Job.state.in_([JobState.QUEUED, JobState.RUNNING]))
    current = session.scalar(_current_run(note.id))
    if current != mine.former_run_id or session.scalar(open_job.limit(1)) is not None:
        return Applied.STALE
    if not released and _is_released(session, note.id, mine.former_run_id):
        return Applied.RELEASED
    conversion = conversions.conversion_of(mine.kept)
    session.execute(
        update(Job)
        .where(Job.id == job_id)
        .values(note_id=note.id, trial_note_id=None, finished_at=func.now())
        .execution_options(synchronize_session=False)
    )
    claim = jobs.Claim(job_id, note.id, 0, 0, chart_note(note), note.source)
    jobs.store(session, claim, conversion, release=release)
    mine.applied_at, mine.kept = func.now(), None
    run_id = UUID(str(conversion.run["id"]))
    audit.record(session, AuditAction.REPLAY, by=audit.person(by), subject=run_id, note_id=note.id)
    session.flush()
    return Applied.APPLIED


def _is_released(session: Session, note_id: UUID, run_id: UUID) -> bool:
    """By a person, or by the rule that needs none."""
    review = select(NoteReview.run_id).where(NoteReview.run_id == run_id, NoteReview.released_at.is_not(None))
    of_note = select(Resource.id).where(Resource.note_id == note_id, Resource.run_id == run_id)
    final = of_note.where(Resource.state == ReleaseState.FINAL)
    return session.scalar(review.limit(1)) is not None or session.scalar(final.limit(1)) is not None
