"""Who sends a request, and may they? Every route of the application passes `authorize` before anything else of it runs.

A machine shows a bearer token; a person's browser a cookie, and then whatever changes something must come with the token
of the session's own forms (OWASP CSRF: synchronizer token) and from our own pages.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import Depends, Request
from starlette.exceptions import HTTPException

from app import access
from app.db import Database
from app.errors import Forbidden, NotSignedIn
from app.sign_in import Lifetimes, csrf_token, principal_of_session
from app.web.limits import Limits
from app.web.outcome import malformed
from app.web.permissions import Need, check, rule_of
from schemas.access import Principal, Right

SESSION_LIFETIMES = Lifetimes(idle_seconds=30 * 60, max_seconds=12 * 3600)
MAX_FORM_BYTES = 65_536
_SAFE = ("GET", "HEAD", "OPTIONS")
UPLOADS = (
    "/batches", "/admin/clients", "/admin/clients/{client_id}/keys", "/admin/terminology/imports", "/review/receipts/files",
)  # fmt: skip
"""Routes that take a form with a file: they read it with `app.web.uploads`, which checks the form's token before the file."""
_SIGN_IN_ROUTES = ("/login", "/login/oidc", "/login/oidc/callback", "/setup", "/auth/token")


@dataclass(frozen=True)
class Door:
    """How requests are let in; `app.state.door`. `metrics_token`: with it, and without an account, metrics are read."""

    limits: Limits
    lifetimes: Lifetimes = SESSION_LIFETIMES
    metrics_token: str | None = None


async def _form(request: Request) -> Mapping[str, str]:
    # A coroutine, since Starlette hands out a body in no other way; routes that read it later find it again.
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    size = request.headers.get("content-length", "")
    if media != "application/x-www-form-urlencoded" or request.headers.get("authorization"):
        return {}
    if not size.isascii() or not size.isdigit() or int(size) > MAX_FORM_BYTES:
        return {}
    try:
        return dict(parse_qsl((await request.body()).decode(), keep_blank_values=True, max_num_fields=100))
    except ValueError:
        return {}


Form = Annotated[Mapping[str, str], Depends(_form)]
"""The fields of a page's form; empty for any other body, and for one of more than `MAX_FORM_BYTES`."""


def authorize(request: Request, form: Form) -> None:
    """The dependency of the whole application. Raises: NotSignedIn, Forbidden, TooMany; Refused for an address with U+0000."""
    door: Door = request.app.state.door
    template = str(getattr(request.scope.get("route"), "path", ""))
    rule = rule_of(request.method, template)
    address = address_of(request)
    if rule is Need.PUBLIC:
        door.limits.requests.take(f"address:{address}")
        if template in _SIGN_IN_ROUTES and (request.method == "POST" or template.startswith("/login/")):
            door.limits.sign_ins.take(address)
        return
    try:
        who = current_principal(request)
    except NotSignedIn:
        door.limits.requests.take(f"address:{address}")
        browser = "text/html" in request.headers.get("accept", "") and "authorization" not in request.headers
        if browser and request.method == "GET":
            raise HTTPException(303, headers={"Location": "/login"}) from None
        raise
    door.limits.requests.take(who.id)
    if session_secret(request) is not None and _by_cookie(request) and request.method not in _SAFE:
        check_same_site(request)
        if template not in UPLOADS or not _is_multipart(request):
            check_csrf(request, form)
    check(rule, who)
    if "\0" in request.scope["path"] or b"%00" in request.scope["query_string"]:
        raise malformed("the address holds U+0000, which no text of the database can")


def current_principal(request: Request) -> Principal:
    """Of the request's bearer token, else of its session. Raises: NotSignedIn."""
    found = getattr(request.state, "principal", None)
    if isinstance(found, Principal):
        return found
    database: Database = request.app.state.database
    door: Door | None = getattr(request.app.state, "door", None)
    secret = session_secret(request)
    if not _by_cookie(request):
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise NotSignedIn("this needs a bearer token (Authorization: Bearer …)")
        principal = _of_token(database, door, token.strip())
    elif secret is not None:
        with database.session_scope() as session:
            principal = principal_of_session(session, secret, door.lifetimes if door else SESSION_LIFETIMES)
    else:
        raise NotSignedIn("this needs a bearer token (Authorization: Bearer …), or a person who is signed in")
    request.state.principal = principal
    return principal


Who = Annotated[Principal, Depends(current_principal)]
"""The one who asks. Raises: NotSignedIn."""


def needs(right: Right) -> Callable[..., None]:
    """A route's dependency: `dependencies=[Depends(needs(Right.BATCHES))]`. Raises: NotSignedIn, Forbidden."""

    def require(who: Who) -> None:
        if not who.has(right):
            raise Forbidden(f"this needs the right {right.value}")

    return require


def address_of(request: Request) -> str:
    """Whence the request came, as far as is known."""
    return request.client.host if request.client else "unknown"


# --- the session's cookie ---------------------------------------------------------------------------------------------


def cookie_name(request: Request, name: str = "hyojun") -> str:
    """Under https with the prefix that binds a cookie to this host and to https (RFC 6265bis, 4.1.3.2)."""
    return f"__Host-{name}" if request.url.scheme == "https" else name


def session_secret(request: Request) -> str | None:
    return request.cookies.get(cookie_name(request)) or None


def check_same_site(request: Request) -> None:
    """A browser says from whose page a form was sent. Raises: Forbidden for another one than ours."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    ours = f"{request.url.scheme}://{request.url.netloc}".lower()
    if (origin is not None and origin.lower() != ours) or site not in (None, "same-origin", "none"):
        raise Forbidden("the request comes from another site")


def _by_cookie(request: Request) -> bool:
    return "authorization" not in request.headers


def _is_multipart(request: Request) -> bool:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == "multipart/form-data"


def check_csrf(request: Request, form: Mapping[str, str]) -> None:
    """Were these fields in a form of the session? A request that shows a token of its own needs none. Raises: Forbidden."""
    secret = session_secret(request)
    if secret is None or not _by_cookie(request):
        return
    brought = request.headers.get("x-csrf-token") or form.get("csrf_token", "")
    if not secrets.compare_digest(brought.encode(), csrf_token(secret).encode()):
        raise Forbidden("X-CSRF-Token or the form's csrf_token is not that of the session; load the page again")


def _of_token(database: Database, door: Door | None, token: str) -> Principal:
    kept = door.metrics_token if door else None
    if kept and secrets.compare_digest(token.encode("utf-8", "replace"), kept.encode()):
        return Principal(id="system:metrics", name="metrics", rights=frozenset({Right.METRICS}))
    with database.session_scope() as session:
        return access.principal_of(session, token)
