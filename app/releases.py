"""The end of a review: what was judged becomes final in FHIR and in SS-MIX2, and a release can be taken back.

    what                        its resource                                    its record in SS-MIX2
    accepted as it was read     the conversion's, released as it is             the conversion's
    accepted, and was held      written now                                     the conversion's
    amended                     the next version; a new one if its type is another    computed anew
    added                       written now                                     computed
    rejected                    stays a draft for ever                          none

What an earlier result of the note had released and this one does not say becomes a version that was entered in error. Each
release writes a Provenance that names the person as verifier, the messages of the note, and the records that they tell, all in
the caller's transaction (`models.Release`). A withdrawn release leaves resources that were entered in error, nothing in
SS-MIX2 (`app.patients`), and an open review.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import func, select, tuple_, update
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from app import fhir, outbox, review_work, second_comparison, ssmix2
from app.audit import SYSTEM, person, record
from app.corrections import Standard, Writing, first_error
from app.errors import Conflict, InvalidInput
from app.fhir.elements import identifier_of, instant
from app.fhir.origin import RESOURCE_TYPES, is_taken_back, taken_back
from app.review_items import CurrentReview, Item
from app.reviews import MAX_REASON, get_review, lock, still_open
from app.store import index
from models import Note, NoteReview, Release, ReleasedRecord, ReleaseState, Resource, Run, Ssmix2Message
from schemas.record import Record
from schemas.review import AuditAction, Verdict

READ = frozenset(type_ for of_kind in RESOURCE_TYPES.values() for type_ in of_kind)
"""Types of what is made of statements; all others are the sender's own statements of whom and what the note is about."""

VersionKey = tuple[str, str, int]


@dataclass(frozen=True)
class Withdrawn:
    """What a withdrawal undid: the versions that say so, and the SS-MIX2 messages of the release, as (kind, order number), that
    the next export takes back or writes without what this note had told."""

    release_id: UUID
    resources: list[VersionKey]
    messages: list[tuple[str, str]]


@dataclass
class _Told:
    """One item of a release. `stored`: the version that tells it as it is; None: `content` is to be written."""

    item: Item
    record: Record
    stored: Resource | None = None
    content: dict[str, Any] | None = None


# --- release --------------------------------------------------------------------------------------------------------


def release(session: Session, note_id: UUID, run_id: UUID, *, by: str, standard: Standard) -> CurrentReview:
    """Ends the review of the result `run_id`. A note without statements can be released too: a person says that there are none.

    What was accepted and a check had found an error in stays a draft, as before; a correction with an error is refused.
    With it go the sender's own statements of whom and what the note is about, which nobody has to judge.

    Raises: NotFound; Conflict while something is undecided or a second reader is not done, where the note was converted again
    or somebody else has it, or if it is released; InvalidInput, naming the item, for a correction that has an error;
    Unavailable while no tables are loaded.
    """
    named = person(by)
    current = still_open(session, note_id, run_id, named)
    if waiting := current.undecided:
        grave = sum(item.explicit for item in waiting)
        raise Conflict(f"{len(waiting)} statements are undecided, {grave} of them on drug allergies")
    reading = second_comparison.find_reading(session, run_id)
    if reading is not None and reading.compared_at is None:
        raise Conflict(f"note {note_id} waits for its second reader")
    now: datetime = session.scalars(select(func.now())).one()
    writing = standard.writing(session, note_id, run_id)
    written = _by_key(session, run_id)
    told, stated = _told(current, writing, written, now)
    _check(told, writing, stated, now)

    made = Release(id=uuid4(), run_id=run_id, note_id=note_id, released_by=named)
    session.add(made)
    keys = {(row.type, row.id) for row in written.values()} | {_key(one.content) for one in told if one.content}
    former = _standing(session, session.get_one(Note, note_id))
    # Before a row is changed, as conversions do: two that lock in one order cannot wait for each other.
    index.lock(session, keys | {(row.type, row.id) for row in former})
    session.flush()
    store = _Store(session, session.get_one(Run, run_id), writing.chart.patient.id, named)
    released = [_release_one(store, one, now) for one in told]
    store.release_stated(run_id)
    gone = [row for row in former if (row.type, row.id) not in {key[:2] for key in released}]
    for row in gone:
        store.write(taken_back(row.content, now), row.ordinal)
    if released:
        _attest(store, made.id, [key[:2] for key in released], now)
    store.renew(keys | {(row.type, row.id) for row in gone})

    for ordinal, (one, key) in enumerate(zip(told, released, strict=True)):
        session.add(
            ReleasedRecord(
                release_id=made.id, ordinal=ordinal, review_id=one.item.id, record=one.record.model_dump(mode="json"),
                resource_type=key[0], resource_id=key[1], resource_version=key[2],
            )
        )  # fmt: skip
    _messages(session, made, store.run, writing, [one.record for one in told], now)
    session.execute(
        update(NoteReview).where(NoteReview.run_id == run_id).values(released_at=func.now(), released_by=named)
    )
    said = [statement.model_dump(mode="json") for statement in current.statements]
    record(session, AuditAction.RELEASE, by=named, subject=run_id, note_id=note_id, after=said)
    outbox.released(session, note_id, run_id, again=True)
    after = get_review(session, note_id)
    review_work.renew(session, after)
    return after


def _told(
    current: CurrentReview, writing: Writing, written: dict[VersionKey, Resource], now: datetime
) -> tuple[list[_Told], list[dict[str, Any]]]:
    """What the release tells, in the order of the note's result with what is new behind it, and the sender's statements.

    Everything is built at once, rejected statements too, at its place: prescriptions are numbered through.
    """
    standing = [item for item in current.items if item.stands]
    by_place = {item.ordinal: item for item in current.items if item.ordinal is not None}
    building: list[tuple[Record, _Told | None]] = []
    new: list[tuple[Record, _Told | None]] = []
    for item in sorted(current.items, key=lambda one: (one.ordinal is None, one.ordinal or 0)):
        stored = written.get(item.resource) if item.resource else None
        if item.verdict is Verdict.ACCEPT and stored is not None:
            computed = item.read or writing.corrected(item, standing)[0]
            # What a check found an error in stays a draft, and so is nowhere in SS-MIX2.
            building.append((computed, _Told(item, computed, stored) if stored.valid else None))
        elif item.verdict is Verdict.ACCEPT:
            if (computed_ := _newly_written(item, by_place)) is not None:
                new.append((computed_, _Told(item, computed_)))
        elif item.stands:
            computed = writing.corrected(item, standing)[0]
            (building if stored is not None else new).append((computed, _Told(item, computed)))
        elif item.read is not None and stored is not None:
            building.append((item.read, None))
    everything = [*building, *new]
    contents, stated, _ = writing.resources([one for one, _ in everything], now)
    # A resource stays the one that it was for as long as its type is the same.
    kept = {key[:2] for one in everything if one[1] and (key := one[1].item.resource)}
    found = []
    for (_, one), content in zip(everything, contents, strict=True):
        if one is None:
            continue
        if one.stored is None:
            if content is None:
                raise InvalidInput(f"item {one.item.id}: no resource can be made of it; amend or reject it")
            one.content = _named(content, one.item, kept)
        found.append(one)
    return found, stated


def _newly_written(item: Item, by_place: dict[int, Item]) -> Record | None:
    """The record of what was accepted and is in no resource: it was held, or stood for another place of the note that is not
    told any more. None: it needs none."""
    read = item.read
    if read is None or not (read.held or read.restates is not None):
        return None
    fuller = by_place.get(read.restates) if read.restates is not None else None
    if fuller is not None and fuller.stands:
        return None
    return read.model_copy(update={"held": False, "restates": None})


def _named(content: dict[str, Any], item: Item, kept: Collection[tuple[str, str]]) -> dict[str, Any]:
    """The content under the id of the item's resource, if that is of its type; else under its own, if nothing else has it."""
    type_, id_ = _key(content)
    if item.resource is not None and item.resource[0] == type_:
        wanted = item.resource[1]
    elif (type_, id_) in kept:
        wanted = identifier_of(id_, str(item.id))
    else:
        return content
    renamed = content | {"id": wanted}
    if "identifier" in content:
        # The number that JP-CLINS wants holds the id (app.fhir.context).
        renamed["identifier"] = [
            one | {"value": one["value"].removesuffix(f"^{id_}") + f"^{wanted}"} if one["value"].endswith(f"^{id_}") else one
            for one in content["identifier"]
        ]
    return renamed


def _check(told: Iterable[_Told], writing: Writing, stated: Sequence[dict[str, Any]], now: datetime) -> None:
    """Raises: InvalidInput."""
    changed = {_key(one.content): one for one in told if one.content is not None}
    contents = [one.content for one in changed.values() if one.content is not None]
    for key, issues in writing.faults(contents, stated, now).items() if contents else ():
        if error := first_error(issues):
            item = changed[key].item.id
            raise InvalidInput(f"item {item}: a check found an error in what it becomes; amend or reject it: {error}")


def _release_one(store: "_Store", one: _Told, now: datetime) -> VersionKey:
    if one.stored is None:
        assert one.content is not None
        return store.write(one.content, store.ordinal_of(one.item))
    return store.finish(one.stored, now)


def _attest(
    store: "_Store", deed: UUID, targets: Sequence[tuple[str, str]], now: datetime, *, withdrawn: bool = False
) -> None:
    """Who did it, as Provenance."""
    documents = select(Resource.id).where(Resource.run_id == store.run.id, Resource.type == "DocumentReference")
    document = store.session.scalars(documents.limit(1)).first()
    content = fhir.verification(
        identifier_of("Provenance", str(deed), "withdrawn" if withdrawn else "released"),
        ["/".join(target) for target in targets],
        f"DocumentReference/{document or identifier_of('DocumentReference', str(store.run.note_id))}",
        store.by, instant(now), str(store.run.id), withdrawn=withdrawn,
    )  # fmt: skip
    store.write(content, store.next_ordinal())


def _messages(
    session: Session, made: Release, run: Run, writing: Writing, records: Sequence[Record], now: datetime
) -> None:
    sender = writing.chosen.sender(writing.chart, writing.department)
    messages, _ = ssmix2.messages(writing.chart, records, facility=sender, sent_at=now, source=writing.source)
    session.add_all(
        Ssmix2Message(
            note_id=run.note_id, job_id=run.job_id, ordinal=ordinal, kind=message.kind, order_no=message.order_no,
            care_date=message.care_date, department=message.department, payload=message.text, release_id=made.id,
        )
        for ordinal, message in enumerate(messages)
    )  # fmt: skip
    session.flush()


# --- withdrawal -----------------------------------------------------------------------------------------------------


def withdraw(session: Session, note_id: UUID, *, by: str, reason: str) -> Withdrawn:
    """Takes back what was released of the note, whoever or whatever released it; its review is open again, with its decisions.

    Raises: NotFound; InvalidInput without a reason; Conflict where nothing is released.
    """
    named, reason = person(by), reason.strip()
    if not 0 < len(reason) <= MAX_REASON or "\x00" in reason:
        raise InvalidInput(f"reason: must have 1 to {MAX_REASON} characters, and no U+0000")
    lock(session, note_id)
    current = get_review(session, note_id)
    note = session.get_one(Note, note_id)
    standing = _standing(session, note)
    if not standing and current.released_at is None:
        raise Conflict(f"nothing is released of note {note_id}")
    now: datetime = session.scalars(select(func.now())).one()
    keys = {(row.type, row.id) for row in standing}
    index.lock(session, keys)
    store = _Store(session, session.get_one(Run, current.run_id), note.patient_id, named)
    undone = [store.write(taken_back(row.content, now), row.ordinal) for row in standing]
    deed = session.scalars(
        select(Release).where(Release.run_id == current.run_id, Release.withdrawn_at.is_(None))
    ).one_or_none()
    if deed is None:  # released by a rule, by a former version, or of an earlier result
        deed = Release(
            id=uuid4(), run_id=current.run_id, note_id=note_id, released_by=current.released_by or SYSTEM,
            released_at=current.released_at or func.now(),
        )  # fmt: skip
        session.add(deed)
    deed.withdrawn_at, deed.withdrawn_by, deed.reason = now, named, reason
    session.flush()
    if undone:
        _attest(store, deed.id, [key[:2] for key in undone], now, withdrawn=True)
    store.renew(keys)
    session.execute(
        update(NoteReview).where(NoteReview.run_id == current.run_id).values(released_at=None, released_by=None)
    )
    messages = select(Ssmix2Message.kind, Ssmix2Message.order_no).where(Ssmix2Message.release_id == deed.id)
    told = [(kind, order) for kind, order in session.execute(messages.order_by(Ssmix2Message.ordinal))]
    record(
        session, AuditAction.WITHDRAW, by=named, subject=current.run_id, note_id=note_id,
        before=[statement.model_dump(mode="json") for statement in current.statements], after=[list(key) for key in undone],
    )  # fmt: skip
    outbox.released(session, note_id, current.run_id, again=True)
    review_work.renew(session, get_review(session, note_id))
    return Withdrawn(deed.id, undone, told)


def releases(session: Session, note_id: UUID) -> list[Release]:
    """Of all its results, oldest first."""
    return list(session.scalars(select(Release).where(Release.note_id == note_id).order_by(Release.released_at)))


def released_versions(session: Session, release_id: UUID) -> dict[UUID, VersionKey]:
    """Which version of which resource tells each item of a release."""
    columns = (ReleasedRecord.resource_type, ReleasedRecord.resource_id, ReleasedRecord.resource_version)
    rows = session.execute(
        select(ReleasedRecord.review_id, *columns)
        .where(ReleasedRecord.release_id == release_id)
        .order_by(ReleasedRecord.ordinal)
    )
    return {review_id: (type_, id_, version) for review_id, type_, id_, version in rows}


# --- versions -------------------------------------------------------------------------------------------------------


def _key(content: dict[str, Any]) -> tuple[str, str]:
    return content["resourceType"], content["id"]


def _by_key(session: Session, run_id: UUID) -> dict[VersionKey, Resource]:
    """What the conversion wrote."""
    rows = session.scalars(select(Resource).where(Resource.run_id == run_id, Resource.written_by.is_(None)))
    return {(row.type, row.id, row.version): row for row in rows}


def _standing(session: Session, note: Note) -> list[Resource]:
    """What is released of the note in any of its results and corrections, each in its newest version, and not taken back."""
    same = select(Note.id).where(Note.source == note.source, Note.external_id == note.external_id)
    newest = (
        select(Resource)
        .where(Resource.note_id.in_(same), Resource.type.in_(READ), Resource.state == ReleaseState.FINAL)
        .ext(distinct_on(Resource.type, Resource.id))
        .order_by(Resource.type, Resource.id, Resource.version.desc())
    )
    return [row for row in session.scalars(newest) if not is_taken_back(row.content)]


class _Store:
    """Writes versions for one result, in a person's name; whoever uses it has locked their keys."""

    def __init__(self, session: Session, run: Run, patient_id: str, by: str) -> None:
        self.session, self.run, self.by = session, run, by
        self._patient_id = patient_id
        self._written: set[tuple[str, str]] = set()
        last = select(func.coalesce(func.max(Resource.ordinal), -1)).where(Resource.run_id == run.id)
        self._last: int = session.scalars(last).one()

    def next_ordinal(self) -> int:
        self._last += 1
        return self._last

    def ordinal_of(self, item: Item) -> int:
        """That of the item's resource; else the next one."""
        stored = self.session.get(Resource, item.resource) if item.resource else None
        return stored.ordinal if stored is not None else self.next_ordinal()

    def write(self, content: dict[str, Any], ordinal: int) -> VersionKey:
        type_, id_ = _key(content)
        version = self._newest(type_, id_) + 1
        self.session.add(
            Resource(
                type=type_, id=id_, version=version, note_id=self.run.note_id, job_id=self.run.job_id, run_id=self.run.id,
                ordinal=ordinal, patient_id=self._patient_id, content=content, method="POST" if version == 1 else "PUT",
                written_by=self.by, state=ReleaseState.FINAL, valid=True, indexed=True,
            )
        )  # fmt: skip
        self.session.flush()
        self._written.add((type_, id_))
        return type_, id_, version

    def finish(self, row: Resource, now: datetime) -> VersionKey:
        """The version becomes final; one that was taken back since is written again."""
        if self._newest(row.type, row.id) > row.version:
            return self.write(row.content | {"meta": row.content["meta"] | {"lastUpdated": instant(now)}}, row.ordinal)
        self._release([(row.type, row.id, row.version)])
        return row.type, row.id, row.version

    def release_stated(self, run_id: UUID) -> None:
        rows = select(Resource.type, Resource.id, Resource.version).where(
            Resource.run_id == run_id, Resource.type.not_in(READ), Resource.valid, Resource.state == ReleaseState.DRAFT
        )
        self._release([(type_, id_, version) for type_, id_, version in self.session.execute(rows)])

    def _release(self, keys: Sequence[VersionKey]) -> None:
        self.session.execute(
            update(Resource)
            .where(
                tuple_(Resource.type, Resource.id, Resource.version).in_(keys), Resource.valid,
                Resource.state == ReleaseState.DRAFT,
            )
            .values(state=ReleaseState.FINAL, released_at=func.now())
            .execution_options(synchronize_session=False)
        )  # fmt: skip
        self._written |= {key[:2] for key in keys}

    def _newest(self, type_: str, id_: str) -> int:
        newest = select(func.coalesce(func.max(Resource.version), 0)).where(Resource.type == type_, Resource.id == id_)
        return self.session.scalars(newest).one()

    def renew(self, keys: Iterable[tuple[str, str]]) -> None:
        index.renew(self.session, self._written.union(keys))
