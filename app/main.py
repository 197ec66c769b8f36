"""The web application, put together; nothing runs at import. `hyojun serve` runs it under uvicorn."""

from collections.abc import Callable
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app import __version__
from app.corrections import Standard
from app.db import Database
from app.errors import InvalidInput, Unavailable
from app.metrics import DatabaseFigures, Requests
from app.oidc import Provider, ProviderSettings
from app.settings import Settings
from app.sign_in import Lifetimes
from app.ssmix2 import Facility
from app.web import audited, outcome
from app.web.access import Door, authorize
from app.web.accounts_api import accounts_router
from app.web.admin_pages import admin_router
from app.web.api import api_router
from app.web.audit_api import audit_router
from app.web.audit_pages import audit_pages_router
from app.web.auth_api import auth_router
from app.web.background import Background
from app.web.batch_pages import batch_pages_router
from app.web.batches_api import batches_router
from app.web.bulk_api import bulk_router
from app.web.capabilities import capabilities_router
from app.web.clins_api import clins_router
from app.web.completions_relay import relay_router
from app.web.dashboard_pages import dashboard_router
from app.web.document_intake import intake_router
from app.web.edge import Edge, GuardedApp, networks
from app.web.fhir_rest import fhir_router
from app.web.limits import Limits, Rate
from app.web.login_pages import LoginPages
from app.web.metrics_api import metrics_router
from app.web.pages import pages_router
from app.web.push_api import push_router
from app.web.receipt_actions import ReceiptActions
from app.web.receipt_pages import ReceiptPages
from app.web.receipts_api import receipts_router
from app.web.rendered import rendered_router
from app.web.requests import Watched
from app.web.review_actions import ReviewActions
from app.web.review_pages import ReviewPages
from app.web.standardize_api import standardize_router
from app.web.subscription_api import subscription_router
from app.web.system_pages import Fact, system_pages_router
from app.web.terminology_api import terminology_router
from app.web.terminology_pages import terminology_pages_router
from app.web.trace_pages import trace_router
from app.web.validate_api import profiles_of, validate_router


def create_app(settings: Settings, database: Database | None = None) -> FastAPI:
    """`database`: default, the one of the settings. Nothing is connected before the first request.

    Raises: InvalidInput without a DATABASE_URL.
    """
    database = database or Database(settings.require_database_url())
    door = _door(settings)
    app = GuardedApp(
        _edge(settings),
        dependencies=[Depends(authorize)],
        title="Hyojun",
        version=__version__,
        summary="Japanese chart notes to FHIR (JP-CLINS, JP Core) and SS-MIX2",
        # The pages that show an API description load their scripts from elsewhere; /openapi.json, a page of ours, needs
        # nothing.
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        # A slash too many is no other resource: 404, not a redirect that some clients answer with a GET.
        redirect_slashes=False,
    )
    app.state.database = database
    app.state.door = door
    app.include_router(
        pages_router(database, __version__, {"queue": _queue_check(settings, database)}, door.lifetimes)
    )
    app.include_router(LoginPages(database, door.lifetimes, _provider(settings)).router())
    app.include_router(auth_router(database))
    app.include_router(accounts_router(database))
    sender = Facility(settings.facility_name or "", institution_number=settings.institution_number)
    app.include_router(api_router(database, sender))
    app.include_router(batches_router(database, sender, max_bytes=settings.batch_max_bytes))
    app.include_router(receipts_router(database, max_bytes=settings.batch_max_bytes))
    # Operations before `/fhir/{type}/{id}`, which would take their names for ids.
    app.include_router(clins_router(database))
    app.include_router(terminology_router(database, settings.institution_number))
    profiles = profiles_of(settings.profiles_file)
    app.include_router(validate_router(database, profiles))
    app.include_router(bulk_router(database, keep_hours=settings.export_keep_hours))
    app.include_router(
        standardize_router(
            database,
            max_seconds=settings.standardize_max_seconds,
            max_characters=settings.standardize_max_characters,
            keep_hours=settings.export_keep_hours,
        )
    )
    app.include_router(subscription_router(database, settings.push_hosts))
    app.include_router(push_router(database, settings.push_hosts))
    app.include_router(intake_router(database))
    app.include_router(capabilities_router(__version__))
    app.include_router(fhir_router(database, profiles))
    app.include_router(relay_router(settings.socket_file, settings.completion_max_seconds))
    requests = Requests()
    app.include_router(metrics_router(DatabaseFigures(database), requests))
    app.include_router(audit_router(database))
    standard = Standard(settings, profiles=profiles)
    app.include_router(rendered_router())
    # Before `/review/{note_id}`, which would take their names for ids.
    app.include_router(ReceiptPages(database).router())
    app.include_router(ReceiptActions(database, max_bytes=settings.batch_max_bytes).router())
    app.include_router(ReviewPages(database, standard).router())
    app.include_router(ReviewActions(database, standard).router())
    background = Background()
    app.include_router(admin_router(database))
    app.include_router(terminology_pages_router(database, background))
    app.include_router(audit_pages_router(database, background))
    app.include_router(
        system_pages_router(database, _facts(settings), settings, remote=settings.model_server is not None)
    )
    app.include_router(batch_pages_router(database, max_bytes=settings.batch_max_bytes))
    app.include_router(dashboard_router(database))
    app.include_router(trace_router(database, sender))
    outcome.install(app)
    audited.install(app, database)
    app.add_middleware(Watched, requests=requests)
    return app


def _facts(settings: Settings) -> list[Fact]:
    """What of the settings goes into documents and messages."""
    names = ("facility_name", "institution_number", "facility_address", "facility_phone", "patient_id_oid")
    return [Fact(name, name.upper(), getattr(settings, name)) for name in names]


def _edge(settings: Settings) -> Edge:
    """Raises: InvalidInput for settings that cannot be."""
    try:
        trusted = networks(settings.trusted_proxy)
    except ValueError:
        raise InvalidInput("settings: TRUSTED_PROXY: must be addresses or networks, joined by commas") from None
    hosts = [name.strip() for name in (settings.allowed_hosts or "").split(",") if name.strip()]
    if settings.public_url is not None and not hosts:
        hosts = [urlsplit(settings.public_url).hostname or ""]
    streamed = (
        "/api/batches", "/batches", "/admin/terminology/imports", "/review/receipts/files", "/api/receipt-checks",
        "/api/receipt-tables",
    )  # fmt: skip
    return Edge(settings.public_url, hosts, trusted, streamed=streamed)


def _door(settings: Settings) -> Door:
    per_second, per_minute = settings.rate_limit_requests_per_second, settings.rate_limit_sign_ins_per_minute
    return Door(
        limits=Limits(
            requests=Rate(per_second, settings.rate_limit_burst), sign_ins=Rate(per_minute / 60, max(1, per_minute))
        ),
        lifetimes=Lifetimes(settings.session_idle_minutes * 60, settings.session_max_hours * 3600),
        metrics_token=settings.metrics_token.get_secret_value() if settings.metrics_token else None,
    )


def _provider(settings: Settings) -> Provider | None:
    """None: people have local accounts alone."""
    if settings.oidc_issuer is None:
        return None
    if settings.oidc_client_id is None:
        raise InvalidInput("settings: OIDC_CLIENT_ID must be set with OIDC_ISSUER")
    secret = settings.oidc_client_secret.get_secret_value() if settings.oidc_client_secret else None
    return Provider(
        ProviderSettings(
            settings.oidc_issuer, settings.oidc_client_id, secret, settings.oidc_roles_claim, settings.oidc_ca_file
        )
    )


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
