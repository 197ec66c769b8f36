"""The web application, put together; nothing runs at import. `hyojun serve` runs it under uvicorn."""

from collections.abc import Callable

from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app import __version__
from app.db import Database
from app.errors import Unavailable
from app.settings import Settings
from app.ssmix2 import Facility
from app.web import outcome
from app.web.api import api_router
from app.web.clins_api import clins_router
from app.web.completions_relay import relay_router
from app.web.fhir_api import fhir_router
from app.web.pages import pages_router
from app.web.terminology_api import terminology_router
from app.web.validate_api import profiles_of, validate_router


def create_app(settings: Settings, database: Database | None = None) -> FastAPI:
    """`database`: default, the one of the settings. Nothing is connected before the first request.

    Raises: InvalidInput without a DATABASE_URL.
    """
    database = database or Database(settings.require_database_url())
    app = FastAPI(
        title="Hyojun",
        version=__version__,
        summary="Japanese chart notes to FHIR (JP-CLINS, JP Core) and SS-MIX2",
        # The pages that show an API description load their scripts from elsewhere; /openapi.json needs nothing.
        docs_url=None,
        redoc_url=None,
        # A slash too many is no other resource: 404, not a redirect that some clients answer with a GET.
        redirect_slashes=False,
    )
    app.state.database = database
    app.include_router(pages_router(database, __version__, {"queue": _queue_check(settings, database)}))
    sender = Facility(settings.facility_name or "", institution_number=settings.institution_number)
    app.include_router(api_router(database, sender))
    # Operations before `/fhir/{type}/{id}`, which would take their names for ids.
    app.include_router(clins_router(database))
    app.include_router(terminology_router(database, settings.institution_number))
    app.include_router(validate_router(database, profiles_of(settings.profiles_file)))
    app.include_router(fhir_router(database, __version__))
    app.include_router(relay_router(settings.socket_file, settings.completion_max_seconds))
    outcome.install(app)
    return app


def _queue_check(settings: Settings, database: Database) -> Callable[[], None]:
    """Is there a broker for the workers' messages? Accepting notes does not need it, converting them does."""

    def pgmq() -> None:
        try:
            with database.session_scope() as session:
                found = session.scalar(text("SELECT to_regclass('pgmq.meta') IS NOT NULL"))
        except SQLAlchemyError:
            raise Unavailable("the database does not answer") from None
        if not found:
            raise Unavailable("the schema pgmq is missing; run `hyojun migrate`")

    def broker() -> None:
        from kombu import Connection
        from kombu.exceptions import KombuError

        try:
            with Connection(settings.broker_url, connect_timeout=2) as connection:
                connection.ensure_connection(max_retries=1, interval_start=0, timeout=2)
        except (KombuError, OSError):
            raise Unavailable("the broker does not answer") from None

    return pgmq if settings.broker_url is None else broker
