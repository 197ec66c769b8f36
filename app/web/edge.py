"""What happens to every request before any route sees it, and to every answer after: who really asks, for which host, how
long the body may be, and the headers that keep browsers from doing more than they should.

Sources: OWASP Secure Headers; RFC 9110, 7.2 (Host); RFC 6797 (HSTS). Forwarded headers are believed from `trusted` alone.
"""

import ipaddress
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.db import json_dumps
from app.errors import TooLong

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_BODY_BYTES = 16_000_000
"""Of any request, whatever its route reads; routes have lower limits of their own."""
HSTS_SECONDS = 31_536_000
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_API_POLICY = "default-src 'none'; frame-ancestors 'none'"
# Pages have no scripts; those that come without a policy of their own get this one.
PAGE_POLICY = (
    "default-src 'none'; style-src 'self' {style}; img-src 'self' data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)


@dataclass(frozen=True)
class Edge:
    """`public_url`: scheme and host under which clients know this server; None: as each request says. `hosts`: accepted in
    Host, beside the loopback names; empty: any. `trusted`: whose forwarded headers are believed. `streamed`: beginnings of
    paths whose routes read a longer body piece by piece, and limit it themselves."""

    public_url: str | None = None
    hosts: Sequence[str] = ()
    trusted: Sequence[Network] = ()
    streamed: Sequence[str] = ()

    def guard(self, app: ASGIApp) -> ASGIApp:
        return _Guarded(app, self)


class GuardedApp(FastAPI):
    """Guarded outside of everything, the answer to a fault of ours included."""

    def __init__(self, edge: Edge, **options: Any) -> None:
        self.edge = edge
        super().__init__(**options)

    def build_middleware_stack(self) -> ASGIApp:
        return self.edge.guard(super().build_middleware_stack())


class _Guarded:
    def __init__(self, app: ASGIApp, edge: Edge) -> None:
        self._app, self._edge = app, edge

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        _unwrap(scope, headers, self._edge.trusted)
        host = _host_name(_header(scope, b"host"))
        allowed = {name.lower() for name in self._edge.hosts}
        known = not allowed or host in allowed or host in LOOPBACK
        if self._edge.public_url is not None:
            public = urlsplit(self._edge.public_url)
            scope["scheme"] = public.scheme
            _set_header(scope, b"host", public.netloc.encode())

        async def protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                _protect(message, scope["scheme"])
            await send(message)

        most = None if scope["path"].startswith(tuple(self._edge.streamed)) else MAX_BODY_BYTES
        announced = headers.get("content-length", "")
        if not known:
            await _refuse(protected, 400, "invalid", "Host: is not a name of this server")
        elif most is not None and announced.isascii() and announced.isdigit() and int(announced) > most:
            await _refuse(protected, 413, "too-long", f"the request body has more than {most:,} bytes")
        else:
            await self._app(scope, receive if most is None else _limited(receive, most), protected)


def _limited(receive: Receive, most: int) -> Receive:
    size = 0

    async def limited() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > most:
            raise TooLong(f"the request body has more than {most:,} bytes")
        return message

    return limited


def _protect(message: MutableMapping[str, Any], scheme: str) -> None:
    """What a route has said itself stays."""
    headers = MutableHeaders(raw=list(message.get("headers", [])))
    page = headers.get("content-type", "").startswith("text/html")
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("X-Frame-Options", "DENY")
    # A form of a page under no-referrer would be sent with `Origin: null`, as one of a stranger is.
    headers.setdefault("Referrer-Policy", "same-origin" if page else "no-referrer")
    headers.setdefault("Content-Security-Policy", PAGE_POLICY.format(style="'unsafe-inline'") if page else _API_POLICY)
    headers.setdefault("Cache-Control", "no-store")
    if scheme == "https":
        headers.setdefault("Strict-Transport-Security", f"max-age={HSTS_SECONDS}")
    message["headers"] = headers.raw


async def _refuse(send: Send, status: int, code: str, detail: str) -> None:
    problem = {
        "type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, "code": code,
    }  # fmt: skip
    body = json_dumps(problem).encode()
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, (b"connection", b"close")]})
    await send({"type": "http.response.body", "body": body})


# --- proxies ----------------------------------------------------------------------------------------------------------


def networks(written: str | None) -> tuple[Network, ...]:
    """Addresses and networks, joined by commas. Raises: ValueError."""
    return tuple(ipaddress.ip_network(part.strip()) for part in (written or "").split(",") if part.strip())


def _unwrap(scope: Scope, headers: Headers, trusted: Sequence[Network]) -> None:
    """Client, scheme and host as a trusted proxy saw them."""
    peer = scope.get("client")
    if not peer or not _within(peer[0], trusted):
        return
    # The nearest proxy's entry is the last one; those before it were written by whoever came before.
    chain = [part.strip() for part in ",".join(headers.getlist("x-forwarded-for")).split(",") if part.strip()]
    address = peer[0]
    while chain and _within(address, trusted):
        address = chain.pop()
    if _is_address(address):
        scope["client"] = (address, 0)
    scheme = headers.get("x-forwarded-proto", "").rpartition(",")[2].strip().lower()
    if scheme in ("http", "https"):
        scope["scheme"] = scheme
    host = headers.get("x-forwarded-host", "").rpartition(",")[2].strip()
    if host:
        _set_header(scope, b"host", host.encode("latin-1"))


def _within(address: str, trusted: Sequence[Network]) -> bool:
    return _is_address(address) and any(ipaddress.ip_address(address) in network for network in trusted)


def _is_address(written: str) -> bool:
    try:
        ipaddress.ip_address(written)
    except ValueError:
        return False
    return True


def _host_name(written: str) -> str:
    """Without the port."""
    name = written.strip().lower()
    return name.partition("]")[0] + "]" if name.startswith("[") else name.partition(":")[0]


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def _set_header(scope: Scope, name: bytes, value: bytes) -> None:
    scope["headers"] = [(key, kept) for key, kept in scope["headers"] if key != name] + [(name, value)]
