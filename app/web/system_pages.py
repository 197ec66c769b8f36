"""What this installation is set to and what it works with, to look at: facility, models, workers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from fastapi import APIRouter, Request, Response
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.confidence import Calibration
from app.db import Database
from app.errors import HyojunError
from app.generation import modelfile, registry
from app.generation.registry import Entry, Fingerprints, ModelOptions, Registry
from app.heartbeat import LIVE_SECONDS
from app.terminology.entries import Part
from app.terminology.importers import STARTER_SYSTEM
from app.web.access import Who
from app.web.admin_frame import framed
from models import CodeSystemRelease, Concept, Worker


@dataclass(frozen=True)
class Fact:
    """A setting: its word, the environment variable, and the value; None: it is not set."""

    word: str
    variable: str
    value: str | None


@dataclass(frozen=True)
class ModelShown:
    """One name of models.toml. `problem`: why it cannot be read; its fingerprints are None then."""

    name: str
    file: str
    adapter: str | None
    prompt: str | None
    context_tokens: int
    slots: int
    fingerprints: Fingerprints | None
    calibration: str | None
    problem: str | None


@dataclass(frozen=True)
class WorkerShown:
    """`state`: live, loading or gone. `same`: does it read notes with the model that is configured? None: not known."""

    row: Worker
    state: str
    same: bool | None


def system_pages_router(
    database: Database, facility: Sequence[Fact], options: ModelOptions, *, remote: bool
) -> APIRouter:
    """`remote`: another server runs the model that reads notes."""
    router = APIRouter(prefix="/admin", include_in_schema=False)

    @router.get("/system")
    def system(request: Request, who: Who) -> Response:
        problem = None
        models: list[ModelShown] = []
        try:
            known = registry.configured(options)
            models = [_shown(known, entry) for entry in known.entries.values()]
            source = known.source
        except HyojunError as error:
            problem, source = str(error), str(options.models_file)
        reading = next((one.fingerprints.model for one in models if one.name == registry.READING and one.fingerprints), None)
        with database.session_scope() as session:
            values = {
                "facility": facility, "departments": _departments(session), "models": models, "source": source,
                "problem": problem, "workers": _workers(session, None if remote else reading), "remote": remote,
            }  # fmt: skip
            return framed(request, who, "admin_system.html", values)

    return router


def _shown(known: Registry, entry: Entry) -> ModelShown:
    """From the files' own bytes; no model is opened."""
    prints, calibration, problem = None, None, None
    try:
        known.require_files(entry.name)
        file = modelfile.read_model_file(entry.file)
        # A model that was trained on the form gets no prompt (`NoteReader`).
        unprompted = entry.prompt is None or file.text("hyojun.form") is not None
        prompt = "" if unprompted or entry.prompt is None else registry.prompt_text(entry.prompt)
        prints = registry.fingerprints(entry.file, prompt, entry.adapter)
        if entry.calibration is not None:
            calibration = Calibration.load(entry.calibration).fingerprint
    except HyojunError as error:
        problem = str(error)
    except OSError as error:
        problem = error.strerror
    adapter = entry.adapter.name if entry.adapter else None
    return ModelShown(
        entry.name, entry.file.name, adapter, entry.prompt, entry.context_tokens, entry.slots, prints, calibration, problem
    )


def _workers(session: Session, reading: str | None) -> list[WorkerShown]:
    since = func.now() - timedelta(seconds=LIVE_SECONDS)
    rows = session.execute(select(Worker, Worker.seen_at > since).order_by(Worker.seen_at.desc(), Worker.id))
    found = []
    for row, lives in rows:
        state = "gone" if not lives else "loading" if row.slots is None else "live"
        same = None if row.model is None or reading is None else row.model == reading
        found.append(WorkerShown(row, state, same))
    return found


def _departments(session: Session) -> list[tuple[str, str]]:
    """Code and name; only the tables that come with Hyojun hold them."""
    query = (
        select(Concept.code, Concept.display)
        .join(CodeSystemRelease, CodeSystemRelease.id == Concept.release_id)
        .where(CodeSystemRelease.active, CodeSystemRelease.system == STARTER_SYSTEM)
        .where(Concept.properties["kind"].astext == Part.DEPARTMENT)
        .order_by(Concept.code, Concept.display)
    )
    return [(code, display) for code, display in session.execute(query)]
