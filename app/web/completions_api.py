"""`/v1/chat/completions`, `/v1/completions` and `/v1/models`: OpenAI's API, as far as the models here can follow it.

Beyond OpenAI's: the parameter `grammar` (llguidance's Lark), which the answer obeys, and `hyojun` in the answer.
This router runs where the models are; `app.web.completions_relay` brings requests to it.
"""

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, Protocol

from fastapi import APIRouter, FastAPI, Response
from starlette.types import Receive, Scope, Send

from app.errors import HyojunError, NotFound, TooLong, Unavailable
from app.generation.chat import Message
from app.web.openai_wire import Asked, BadParameter, Json, OpenAIRoute, error_response, read_request, while_connected
from app.web.wire import Body, json_response
from schemas.completion import CompletionOptions, Finish, Usage

log = logging.getLogger(__name__)

MAX_AT_ONCE = 64
"""Completions under way or waiting for the engine; each holds a thread."""


class Completion(Protocol):
    """One text: iterating gives it as it is written; afterwards `finish` and `usage` are there."""

    finish: Finish
    usage: Usage

    def __iter__(self) -> Iterator[str]: ...
    def cancel(self) -> None: ...


class Completions(Protocol):
    """What writes them. `chat` and `text` return at once, and raise NotFound, InvalidInput, TooLong and Unavailable."""

    @property
    def names(self) -> Sequence[str]: ...
    def chat(self, model: str, messages: Sequence[Message], options: CompletionOptions) -> Completion: ...
    def text(self, model: str, prompt: str, options: CompletionOptions) -> Completion: ...


def model_app(completions: Completions, at_once: int = MAX_AT_ONCE) -> FastAPI:
    """An application of this router alone."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.include_router(completions_router(completions, at_once))
    app.add_exception_handler(Exception, lambda _, error: error_response(error))
    return app


def completions_router(completions: Completions, at_once: int = MAX_AT_ONCE) -> APIRouter:
    """`at_once`: completions under way or waiting for the engine; more are refused until one has ended."""
    router = APIRouter(prefix="/v1", tags=["completions"], route_class=OpenAIRoute)
    free = threading.BoundedSemaphore(at_once)
    threads = ThreadPoolExecutor(at_once, thread_name_prefix="completion")
    since = int(time.time())

    def answer(body: bytes, *, chat: bool) -> Response:
        asked = read_request(body, chat=chat)
        if not free.acquire(blocking=False):
            raise Unavailable(f"{at_once} completions are under way already")
        try:
            if isinstance(asked.source, str):
                completion = completions.text(asked.model, asked.source, asked.options)
            else:
                completion = completions.chat(asked.model, asked.source, asked.options)
        except TooLong as error:
            free.release()
            raise BadParameter(str(error), "messages" if chat else "prompt", "context_length_exceeded") from None
        except BaseException:
            free.release()
            raise
        return _Answer(completion, asked, threads, free.release)

    @router.post("/chat/completions")
    def chat_completion(body: Body) -> Response:
        return answer(body, chat=True)

    @router.post("/completions")
    def text_completion(body: Body) -> Response:
        return answer(body, chat=False)

    def described(name: str) -> Json:
        return {"id": name, "object": "model", "created": since, "owned_by": "hyojun"}

    @router.get("/models")
    def models() -> Response:
        return json_response({"object": "list", "data": [described(name) for name in completions.names]})

    @router.get("/models/{name}")
    def model(name: str) -> Response:
        if name not in completions.names:
            raise NotFound("there is no model of this name")
        return json_response(described(name))

    return router


class _Answer(Response):
    """Writes the answer as the engine writes the text, and ends the generation when the client goes away."""

    def __init__(self, completion: Completion, asked: Asked, threads: Executor, release: Callable[[], None]) -> None:
        super().__init__()
        self._completion, self._asked, self._threads, self._release = completion, asked, threads, release
        self._chat = not isinstance(asked.source, str)
        self._frame: Json = {
            "id": f"{'chatcmpl' if self._chat else 'cmpl'}-{secrets.token_hex(12)}",
            "object": ("chat.completion" + ".chunk" * asked.stream) if self._chat else "text_completion",
            "created": int(time.time()),
            "model": asked.model,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            write = self._stream(send) if self._asked.stream else self._whole(scope, receive, send)
            await while_connected(receive, write, self._completion.cancel)
        finally:
            self._release()

    async def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    async def _whole(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            text = await self._in_thread("".join, self._completion)
        except HyojunError as error:
            response = _failed(error)
        else:
            said = (
                {"message": {"role": "assistant", "content": text, "refusal": None}} if self._chat else {"text": text}
            )
            response = json_response(
                self._frame | {"choices": [self._choice(said, self._completion.finish)]} | self._cost()
            )
        await response(scope, receive, send)

    async def _stream(self, send: Send) -> None:
        pieces = iter(self._completion)
        begun = False

        async def put(data: bytes, *, more: bool = True) -> None:
            nonlocal begun
            if not begun:
                begun = True
                headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"data: " + data + b"\n\n", "more_body": more})

        try:
            # The first piece is waited for before the status goes out: until then a failure has a status of its own.
            text = await self._in_thread(next, pieces, None)
            if self._chat:
                await put(self._chunk({"delta": {"role": "assistant", "content": ""}}))
            while text is not None:
                await put(self._chunk({"delta": {"content": text}} if self._chat else {"text": text}))
                text = await self._in_thread(next, pieces, None)
            last: Json = {"delta": {}} if self._chat else {"text": ""}
            await put(self._chunk(last, self._completion.finish))
            if self._asked.include_usage:
                await put(_dumped(self._frame | {"choices": []} | self._cost()))
            await put(b"[DONE]", more=False)
        except HyojunError as error:
            response = _failed(error)
            if begun:
                await put(bytes(response.body), more=False)
            else:
                await send(
                    {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
                )
                await send({"type": "http.response.body", "body": bytes(response.body)})

    def _choice(self, said: Json, finish: Finish | None) -> Json:
        return {"index": 0} | said | {"logprobs": None, "finish_reason": finish}

    def _chunk(self, said: Json, finish: Finish | None = None) -> bytes:
        frame = self._frame | {"choices": [self._choice(said, finish)]}
        return _dumped(frame | {"usage": None} if self._asked.include_usage else frame)

    def _cost(self) -> Json:
        usage = self._completion.usage
        counted = {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        }
        extension = {"forced_tokens": usage.forced_tokens, "seconds": round(usage.seconds, 3)}
        return {"usage": counted, "hyojun": extension}


def _dumped(value: Any) -> bytes:
    return bytes(json_response(value).body)


def _failed(error: HyojunError) -> Response:
    response = error_response(error)
    if response.status_code >= 500:
        log.error("completion failed", exc_info=error)
    return response
