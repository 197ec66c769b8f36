"""Pages that people work with: Jinja templates, every value in them escaped, in the language that the reader chose.

Their scripts and styles are files of this package. The policy allows those alone: no script of a page's own, nothing from
elsewhere (https://www.w3.org/TR/CSP3/).
"""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from app.errors import NotFound
from app.sign_in import csrf_token
from app.web.access import Form, Who, cookie_name, session_secret
from app.web.review_view import system_name
from app.web.words import LANGUAGES, said
from schemas.access import Principal, Right

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)
NAVIGATION: list[tuple[str, str, frozenset[Right]]] = [
    ("/review", "queue", frozenset({Right.REVIEW})),
    ("/review/receipts", "receipts", frozenset({Right.REVIEW, Right.BATCHES})),
    ("/dashboard", "dashboard", frozenset({Right.REVIEW})),
    ("/batches", "batches", frozenset({Right.BATCHES})),
    ("/admin", "admin", frozenset({Right.USERS})),
]
"""Path, word and rights, of which one is enough, of what the head of every page leads to."""

_HERE = Path(__file__).parent
_STATIC = _HERE / "static"
_MEDIA = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
_LANGUAGE_COOKIE = "hyojun-language"
_YEAR_SECONDS = 365 * 24 * 3600


def rendered(
    request: Request, who: Principal, name: str, values: Mapping[str, Any], *, status: int = 200
) -> Response:
    """The template `name` with `values`, and what every page knows: `t` (words), `language`, `who`, `csrf_token`, `links`."""
    language = language_of(request)
    secret = session_secret(request)
    links = [(path, word) for path, word, rights in NAVIGATION if who.rights & rights]
    known = {
        "t": lambda key, **parts: said(language, key, **parts),
        "language": language,
        "who": who,
        "csrf_token": csrf_token(secret) if secret else "",
        "links": links,
        "path": request.url.path,
        "made": None,
    }
    whole = _environment().get_template(name).render({**known, **values})
    return HTMLResponse(whole, status, {"Content-Security-Policy": POLICY})


def language_of(request: Request) -> str:
    """Of `LANGUAGES`; the first one until somebody chooses another."""
    chosen = request.cookies.get(cookie_name(request, _LANGUAGE_COOKIE), "")
    return chosen if chosen in LANGUAGES else LANGUAGES[0]


def is_fragment(request: Request) -> bool:
    """Does a script ask, which puts the parts of the answer where those of the same id stand? Else a form was sent."""
    return request.headers.get("x-fragment") == "1"


def rendered_router() -> APIRouter:
    """The files that pages need, and the choice of language."""
    router = APIRouter(include_in_schema=False)

    @router.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in _files():
            raise NotFound("there is no such file")
        content, _ = _files()[name]
        # Its address changes with it (`_address`), so nobody has to ask again.
        headers = {"Cache-Control": f"public, max-age={_YEAR_SECONDS}, immutable"}
        return Response(content, 200, headers, _MEDIA[Path(name).suffix])

    @router.post("/language")
    def choose(request: Request, who: Who, form: Form) -> Response:
        back = form.get("back", "")
        # Only to a page of ours: //elsewhere is another host.
        ours = back.startswith("/") and not back.startswith(("//", "/\\"))
        response = RedirectResponse(back if ours else "/", 303)
        if form.get("language") in LANGUAGES:
            response.set_cookie(
                cookie_name(request, _LANGUAGE_COOKIE), form["language"], max_age=_YEAR_SECONDS, path="/", httponly=True,
                secure=request.url.scheme == "https", samesite="lax",
            )  # fmt: skip
        return response

    return router


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=StrictUndefined, auto_reload=False,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.globals["static"] = _address
    made.filters["verbatim"] = _verbatim
    made.filters["system_name"] = system_name
    return made


@cache
def _files() -> Mapping[str, tuple[bytes, str]]:
    """Content and fingerprint of each file."""
    paths = [path for path in sorted(_STATIC.iterdir()) if path.suffix in _MEDIA]
    return {path.name: (path.read_bytes(), hashlib.sha256(path.read_bytes()).hexdigest()[:16]) for path in paths}


def _address(name: str) -> str:
    return f"/static/{name}?v={_files()[name][1]}"


def _verbatim(text: str) -> Markup:
    """The text so that a browser has the same characters: a bare CR in a document becomes LF (HTML, 13.2.3.5)."""
    return Markup(str(escape(text)).replace("\r", "&#13;"))  # noqa: S704
