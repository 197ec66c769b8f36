"""What people released of notes, as files of chats that a model is trained on: JSON Lines, split by patient."""

import hashlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from app import __version__, audit, reviews
from app.db import Database
from app.errors import InvalidInput, TooLong
from app.generation import form
from app.generation.reader import NoteReader
from app.opt_outs import covers_note
from app.review_items import is_decided
from app.sft_pairs import Pair, pairs_of
from app.terminology.importers import lexicon_from
from app.terminology.matching import Lexicon
from models import Job, Note, NoteReview, Review
from schemas.job import JobState
from schemas.review import AuditAction

FORMAT = "hyojun-sft-1"
SIDES = ("train.jsonl", "test.jsonl")
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Candidate:
    """A note with a result. `state`: "released", or why it is left out: opted-out, undecided, unreleased (all is decided, and
    nobody released it), earlier (released before the day asked for)."""

    note_id: UUID
    note: str
    """Hash of the note's id."""
    patient: str
    state: str


@dataclass
class Chats:
    """Of one note. `refused`: windows whose answer no model could write. `verdicts`: how many statements of each; automatic
    ones are counted as "automatic"."""

    text_sha256: str
    pairs: list[Pair] = field(default_factory=list)
    refused: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)


# --- which notes, and on which side ---------------------------------------------------------------------------------


def split_key(seed: int, patient_id: str) -> str:
    """Salted hash of a patient's id, hexadecimal. One id of two systems is taken for one patient: he must not be on both sides.

    It is a pseudonym and no more: who knows the seed can try out ids.
    """
    return hashlib.sha256(f"hyojun patient {seed} {patient_id}".encode()).hexdigest()


def is_test(key: str, share: float) -> bool:
    """Is a patient of this key on the test side? It depends on nothing else: more patients move nobody."""
    return int(key[:13], 16) < share * 16**13


def candidates(session: Session, *, seed: int, since: datetime | None = None) -> list[Candidate]:
    """Every note with a result, of a corrected note the newest, in the order of the hashes."""
    newest = (
        select(Note.id)
        .join(Job, Job.note_id == Note.id)
        .where(Job.state == JobState.DONE)
        .ext(distinct_on(Note.source, Note.external_id))
        .order_by(Note.source, Note.external_id, Note.received_at.desc(), Note.id)
        .subquery()
    )
    waits = select(Review.id).where(Review.run_id == NoteReview.run_id, ~is_decided()).exists()
    rows = session.execute(
        select(
            Note.id, Note.source, Note.external_id, Note.patient_id, NoteReview.run_id, NoteReview.released_at,
            covers_note().label("opted_out"), waits.label("waits"),
        )
        .join(newest, newest.c.id == Note.id)
        .outerjoin(NoteReview, (NoteReview.note_id == Note.id) & NoteReview.superseded_at.is_(None))
    )  # fmt: skip
    found = []
    for row in rows:
        state = "released"
        if row.opted_out:
            state = "opted-out"
        elif row.released_at is None:
            state = "undecided" if row.run_id is None or row.waits else "unreleased"
        elif since is not None and row.released_at < since:
            state = "earlier"
        named = hashlib.sha256(f"hyojun note {seed} {row.source}\0{row.external_id}".encode()).hexdigest()
        found.append(Candidate(row.id, named, split_key(seed, row.patient_id), state))
    return sorted(found, key=lambda one: one.note)


# --- one note -------------------------------------------------------------------------------------------------------


def chats(session: Session, note_id: UUID, reader: NoteReader, lexicon: Lexicon) -> Chats | None:
    """The pairs of a note; None where it is not released any more, or was opted out meanwhile."""
    row = session.execute(select(Note, covers_note()).where(Note.id == note_id)).one_or_none()
    if row is None or row[1]:
        return None
    note = row[0]
    current = reviews.get_review(session, note_id)
    if current.released_at is None:
        return None
    made = Chats(hashlib.sha256(note.text.encode()).hexdigest())
    for item in current.items:
        name = "automatic" if item.automatic else str(item.verdict)
        made.verdicts[name] = made.verdicts.get(name, 0) + 1
    mentions = [(m.start, m.end, m.kind) for m in lexicon.find_mentions(note.text)]
    try:
        windows = reader.windows(note.text, mentions, note.document_type)
    except TooLong:
        made.refused += 1
        return made
    found, refused = pairs_of(note.text, windows, current.statements)
    made.pairs, made.refused = found, refused
    return made


# --- files ----------------------------------------------------------------------------------------------------------


def export(
    database: Database,
    reader: NoteReader,
    out: Path,
    *,
    test_share: float,
    seed: int,
    since: datetime | None = None,
    force: bool = False,
    by: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Writes `out`/train.jsonl, test.jsonl and manifest.json, readable by their owner alone; what the manifest says.

    The files are there all at once at the end, the manifest last. The same notes, seed and share give the same two files.
    Raises: InvalidInput where files are there and not `force`, and when nothing is to be written.
    """
    if not force and (there := [name for name in (*SIDES, MANIFEST) if (out / name).exists()]):
        raise InvalidInput(f"{out} holds {', '.join(there)}; --force replaces them")
    with database.session_scope() as session:
        lexicon = lexicon_from(session)
        known = candidates(session, seed=seed, since=since)
    states = Counter(one.state for one in known)
    chosen = [one for one in known if one.state == "released"]
    out.mkdir(parents=True, exist_ok=True, mode=0o700)
    with ExitStack() as opened:
        sides = [opened.enter_context(_Unfinished(out, name)) for name in (*SIDES, MANIFEST)]
        seen: set[str] = set()
        left_out, verdicts, lost = Counter[str](), Counter[str](), 0
        for done, one in enumerate(chosen):
            progress(done, len(chosen))
            with database.session_scope() as session:
                made = chats(session, one.note_id, reader, lexicon)
            if made is None:
                left_out["changed meanwhile"] += 1
            elif made.text_sha256 in seen:
                left_out["same text as another note"] += 1
            else:
                seen.add(made.text_sha256)
                left_out["windows that no model could write"] += made.refused
                verdicts.update(made.verdicts)
                lost += sum(pair.lost for pair in made.pairs)
                side = sides[is_test(one.patient, test_share)]
                for pair in made.pairs:
                    side.write(one, pair)
        progress(len(chosen), len(chosen))
        left_out.update({state: count for state, count in states.items() if state != "released"})
        manifest: dict[str, Any] = {
            "format": FORMAT,
            "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "software": __version__,
            "seed": seed,
            "test_share": test_share,
            "since": since.isoformat() if since else None,
            "form": form.FORM_VERSION,
            "prompt": reader.fingerprints.prompt,
            "grammar": reader.fingerprints.grammar,
            "terminology": lexicon.version,
            "context_tokens": reader.model.sequence_tokens,
            "notes": len(known),
            "left_out": {reason: count for reason, count in sorted(left_out.items()) if count},
            "decisions": dict(sorted(verdicts.items())),
            "fields_out_of_reach": lost,
            "files": {side.name: side.describe() for side in sides[:2]},
        }
        if not any(side.pairs for side in sides[:2]):
            reasons = ", ".join(f"{reason} {count}" for reason, count in manifest["left_out"].items())
            raise InvalidInput(
                f"nothing to write: of {len(known)} notes with a result none gives a pair ({reasons or 'none is there'})"
            )
        sides[2].write_text(json.dumps(manifest, ensure_ascii=False, indent=2) + "\n")
        # Before the files are there: that they were written must never be unknown.
        with database.session_scope() as session:
            audit.record(session, AuditAction.EXPORT, by=audit.person(by), subject=uuid4(), after=manifest)
        (out / MANIFEST).unlink(missing_ok=True)
        for side in sides:
            side.finish()
    return manifest


class _Unfinished:
    """A file of `out` under another name until `finish`; gone if that is not reached. For the eyes of its owner (0600)."""

    def __init__(self, out: Path, name: str) -> None:
        self.name = name
        self.pairs = 0
        self._path = out / name
        self._notes: set[str] = set()
        self._patients: set[str] = set()
        self._digest = hashlib.sha256()
        descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", suffix=".unfinished", dir=out)  # made with 0600
        self._temporary = Path(temporary)
        self._file = os.fdopen(descriptor, "wb")

    def __enter__(self) -> "_Unfinished":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def write(self, candidate: Candidate, pair: Pair) -> None:
        row = {"messages": pair.messages, "spans": pair.spans, "note": candidate.note, "patient": candidate.patient}
        self.write_text(json.dumps(row, ensure_ascii=False) + "\n")
        self.pairs += 1
        self._notes.add(candidate.note)
        self._patients.add(candidate.patient)

    def write_text(self, text: str) -> None:
        data = text.encode()
        self._file.write(data)
        self._digest.update(data)

    def describe(self) -> dict[str, Any]:
        counts = {"pairs": self.pairs, "notes": len(self._notes), "patients": len(self._patients)}
        return counts | {"sha256": self._digest.hexdigest()}

    def finish(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        os.replace(self._temporary, self._path)
