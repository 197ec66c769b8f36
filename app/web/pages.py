"""What a person or a supervisor sees: the front page, and whether this process lives and can work."""

from collections.abc import Callable, Mapping
from pathlib import Path
from string import Template

from alembic.config import Config
from alembic.script import ScriptDirectory
from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError

from app import jobs
from app.db import MIGRATIONS, Database
from app.errors import HyojunError, Unavailable
from app.web.wire import json_response

_HOME = Template((Path(__file__).parent / "templates" / "home.html").read_text(encoding="utf-8"))

Check = Callable[[], None]
"""Raises a `HyojunError` when the thing that it looks at cannot be used."""


def pages_router(database: Database, version: str, checks: Mapping[str, Check]) -> APIRouter:
    """`checks`: further things that `/readyz` asks, by name."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    def home() -> Response:
        with database.session_scope() as session:
            progress = jobs.progress(session)
        return HTMLResponse(_HOME.substitute(progress.model_dump(), version=version))

    @router.get("/healthz")
    def healthz() -> Response:
        """This process answers; nothing else is asked."""
        return json_response({"status": "alive"})

    @router.get("/readyz")
    def readyz() -> Response:
        """200 when everything that this process needs can be used, else 503; each part with its state."""
        found: dict[str, str] = {}
        named: dict[str, Check] = {
            "database": lambda: _answers(database),
            "migrations": lambda: _at_head(database),
            "terminology": lambda: _has_terminology(database),
        }
        for name, check in (named | dict(checks)).items():
            try:
                check()
                found[name] = "ok"
            except HyojunError as error:
                found[name] = str(error)
        ready = all(state == "ok" for state in found.values())
        return json_response({"status": "ready" if ready else "not ready", **found}, 200 if ready else 503)

    return router


def _answers(database: Database) -> None:
    try:
        with database.session_scope() as session:
            session.execute(text("SELECT 1"))
    except SQLAlchemyError:
        raise Unavailable("does not answer") from None


def _at_head(database: Database) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    head = ScriptDirectory.from_config(config).get_current_head()
    try:
        with database.session_scope() as session:
            current = session.scalar(text("SELECT version_num FROM alembic_version"))
    except ProgrammingError:
        raise Unavailable("no tables; run `hyojun migrate`") from None
    except SQLAlchemyError:
        raise Unavailable("not known: the database does not answer") from None
    if current != head:
        raise Unavailable(f"at {current}, this version needs {head}; run `hyojun migrate`")


def _has_terminology(database: Database) -> None:
    """Without any table a note is accepted, and its conversion fails."""
    try:
        with database.session_scope() as session:
            loaded = session.scalar(text("SELECT EXISTS (SELECT FROM code_system_releases WHERE active)"))
    except SQLAlchemyError:
        raise Unavailable("not known") from None
    if not loaded:
        raise Unavailable("none is loaded; run `hyojun import-terminology starter`")
