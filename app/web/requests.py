"""One log line and one measurement for each request, under one id: X-Request-Id, taken from a proxy or made here."""

import logging
import re
import time
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.log import request_id
from app.metrics import Requests
from schemas.access import Principal

log = logging.getLogger(__name__)

HEADER = "X-Request-Id"
# Hexadecimal, as proxies make them, with or without hyphens: a name of a patient is none.
_FORM = re.compile(r"(?=.*[0-9])[0-9a-fA-F-]{8,64}")


class Watched:
    """The middleware; the outermost, so that it sees what others refuse."""

    def __init__(self, app: ASGIApp, requests: Requests) -> None:
        self._app, self._requests = app, requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        current = given if _FORM.fullmatch(given) else uuid4().hex
        before = request_id.set(current)
        started, status = time.perf_counter(), 500

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                MutableHeaders(scope=message)[HEADER] = current
            await send(message)

        try:
            await self._app(scope, receive, named)
        finally:
            seconds = time.perf_counter() - started
            self._tell(scope, status, seconds)
            request_id.reset(before)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", None)
        template = route if isinstance(route, str) else "-"
        method = scope["method"] if scope["method"] in _METHODS else "-"
        self._requests.observe(method, template, status, seconds)
        who = scope.get("state", {}).get("principal")
        # Whoever looks whether this process lives does it every few seconds.
        level = logging.DEBUG if template in ("/healthz", "/readyz", "/metrics") and status < 400 else logging.INFO
        log.log(level, "request", extra={
            "method": method, "route": template, "status": status, "duration_ms": round(seconds * 1000, 1),
            "principal": who.id if isinstance(who, Principal) else "anonymous",
        })  # fmt: skip


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
