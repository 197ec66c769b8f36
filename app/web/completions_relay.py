"""The same paths as `app.web.completions_api` in a process without a model: brought to the socket of one that has it.

Requests and answers pass unchanged; credentials stay here. A client that goes away ends its generation.
"""

import logging
import ssl
from pathlib import Path
from urllib.parse import quote

import httpx
from fastapi import APIRouter, Response
from starlette.types import Receive, Scope, Send

from app.web.openai_wire import OpenAIRoute, check_size, error_body, unavailable, while_connected
from app.web.wire import Body

log = logging.getLogger(__name__)

_CONNECT_SECONDS = 5.0
_GRACE_SECONDS = 30.0
"""The model's process tells that its time is over; only if it does not for this long, the relay does."""
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # httpx wants one, and would read every root certificate for it
_PASSED = ("content-type", "cache-control", "retry-after", "x-should-retry")


def relay_router(socket: Path, max_seconds: float) -> APIRouter:
    """`max_seconds`: the longest completion."""
    router = APIRouter(prefix="/v1", tags=["completions"], route_class=OpenAIRoute)
    timeout = httpx.Timeout(max_seconds + _GRACE_SECONDS, connect=_CONNECT_SECONDS)

    def relayed(method: str, path: str, body: bytes = b"") -> Response:
        headers = {"content-type": "application/json"} if body else {}
        return _Relayed(
            socket, httpx.Request(method, f"http://model/v1/{path}", content=body, headers=headers), timeout
        )

    @router.post("/chat/completions")
    def chat_completion(body: Body) -> Response:
        return relayed("POST", "chat/completions", check_size(body))

    @router.post("/completions")
    def text_completion(body: Body) -> Response:
        return relayed("POST", "completions", check_size(body))

    @router.get("/models")
    def models() -> Response:
        return relayed("GET", "models")

    @router.get("/models/{name}")
    def model(name: str) -> Response:
        return relayed("GET", f"models/{quote(name, safe='')}")

    return router


class _Relayed(Response):
    def __init__(self, socket: Path, request: httpx.Request, timeout: httpx.Timeout) -> None:
        super().__init__()
        self._socket, self._request, self._timeout = socket, request, timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await while_connected(receive, self._relay(scope, receive, send))

    async def _relay(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport = httpx.AsyncHTTPTransport(uds=str(self._socket), verify=_NO_TLS, trust_env=False)
        begun = stream = False
        async with httpx.AsyncClient(transport=transport, timeout=self._timeout, trust_env=False) as client:
            self._request.extensions["timeout"] = self._timeout.as_dict()
            try:
                answer = await client.send(self._request, stream=True)
                headers = [(name, value) for name, value in answer.headers.raw if name.decode().lower() in _PASSED]
                stream = answer.headers.get("content-type", "").startswith("text/event-stream")
                await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
                begun = True
                async for part in answer.aiter_raw():
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
            except httpx.TransportError as error:
                log.warning("the model's process does not answer: %s", type(error).__name__)
                if not begun:
                    await _no_answer(error)(scope, receive, send)
                elif stream:
                    lost = error_body("the process with the model ended", "server_error", None, "model_unavailable")
                    await send({"type": "http.response.body", "body": b"data: " + lost + b"\n\n"})
                else:
                    raise  # the connection is cut, which is all that can still be said


def _no_answer(error: httpx.TransportError) -> Response:
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return unavailable(
            "no worker serves the model here: start `hyojun worker` with the same MODEL_SOCKET (default: DATA_DIR) as "
            "this process, and wait until it has loaded the model",
            "model_unavailable",
        )
    return unavailable("the process with the model ended, or gave no answer in time", "model_unavailable")
