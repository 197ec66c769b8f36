"""What a person or a supervisor sees: the front page, and whether this process lives and can work."""

from collections.abc import Callable, Mapping

from alembic.config import Config
from alembic.script import ScriptDirectory
from fastapi import APIRouter, Request, Response
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError

from app import jobs
from app.db import MIGRATIONS, Database
from app.errors import HyojunError, Unavailable
from app.heartbeat import live_workers
from app.sign_in import Lifetimes, csrf_token, person_of_session
from app.web.access import current_principal, session_secret
from app.web.description import with_errors
from app.web.layout import fill, page
from app.web.login_pages import TITLE, role_names
from app.web.rendered import NAVIGATION
from app.web.wire import json_response
from app.web.words import LANGUAGES, said

Check = Callable[[], None]
"""Raises a `HyojunError` when the thing that it looks at cannot be used."""


def pages_router(database: Database, version: str, checks: Mapping[str, Check], lifetimes: Lifetimes) -> APIRouter:
    """`checks`: further things that `/readyz` asks, by name; `lifetimes`: of sessions."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    def home(request: Request) -> Response:
        secret, who = session_secret(request), ""
        with database.session_scope() as session:
            progress = jobs.progress(session)
            # A machine may look too; nobody is greeted then.
            if secret is not None and "authorization" not in request.headers:
                person = person_of_session(session, secret, lifetimes)
                values = {"name": person.name, "roles": role_names(person.roles), "csrf_token": csrf_token(secret)}
                links = " · ".join(
                    f'<a href="{path}">{said(LANGUAGES[0], word)}</a>'
                    for path, word, rights in NAVIGATION
                    if current_principal(request).rights & rights
                )
                who = fill("who.html", values, {"links": links})
        return page(TITLE, fill("home.html", progress.model_dump() | {"version": version}, {"who": who}))

    @router.get("/openapi.json")
    def openapi(request: Request) -> Response:
        """The description of this API."""
        return json_response(with_errors(request.app.openapi()))

    @router.get("/healthz")
    def healthz() -> Response:
        """This process answers; nothing else is asked."""
        return json_response({"status": "alive"})

    @router.get("/readyz")
    def readyz() -> Response:
        """200 when everything that this process needs to accept notes can be used, else 503; each part with its state.
        `workers` says whether anybody converts them: without one they wait."""
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
        found["workers"] = _workers(database)
        return json_response({"status": "ready" if ready else "not ready", **found}, 200 if ready else 503)

    return router


def _workers(database: Database) -> str:
    try:
        with database.session_scope() as session:
            ready, loading = live_workers(session)
    except SQLAlchemyError:
        return "not known"
    if not ready and not loading:
        return "none: notes wait until `hyojun worker` runs"
    return f"{ready}" + (f", {loading} loading" if loading else "")


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
