"""OpenAI's wire forms, as far as they are spoken here: requests read, answers and errors written.

Source: https://platform.openai.com/docs/api-reference/chat and …/completions. A parameter that would change the answer
and is not supported is refused; one that changes nothing is ignored. No error quotes a value.
"""

import asyncio
import json
import re
import secrets
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import Receive

from app.db import json_dumps
from app.errors import Forbidden, HyojunError, InvalidInput, NotFound, NotSignedIn, TooLong, TooMany, Unavailable
from app.generation.chat import Message
from app.intake import parse_json
from app.web.outcome import Refused
from schemas.completion import CompletionOptions

Json = dict[str, Any]

MAX_BODY_BYTES = 1_000_000
MAX_STOPS = 16
MAX_STOP_CHARACTERS = 200
RETRY_SECONDS = 5

_IGNORED = frozenset(
    "user metadata store service_tier safety_identifier prompt_cache_key prompt_cache_retention "
    "parallel_tool_calls".split()
)
# Parameters that are not supported, and the values at which they ask for nothing; null always does.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "logprobs": (False,),
    "top_logprobs": (),
    "top_p": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
}
# What clients send back with an answer of the model.
_EMPTY_IN_MESSAGE = ("refusal", "annotations", "audio", "tool_calls", "function_call", "reasoning_content")
_ROLES: Mapping[str, Literal["system", "user", "assistant"]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,60}")


class BadParameter(InvalidInput):
    """A parameter that is wrong or not supported. `param` is its name."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param, self.code = param, code


@dataclass(frozen=True)
class Asked:
    """A request that was read. `source`: the messages of a chat, or the prompt of a text."""

    model: str
    source: tuple[Message, ...] | str
    options: CompletionOptions
    stream: bool
    include_usage: bool


# --- requests ---------------------------------------------------------------------------------------------------------


def check_size(body: bytes) -> bytes:
    """Raises: TooLong."""
    if len(body) > MAX_BODY_BYTES:
        raise TooLong(f"the request body has {len(body):,} bytes, more than {MAX_BODY_BYTES:,}")
    return body


def read_request(body: bytes, *, chat: bool) -> Asked:
    """Raises: BadParameter, TooLong."""
    check_size(body)
    try:
        value = parse_json(body)
        # A lone surrogate can be written in JSON, but is no character.
        json.dumps(value, ensure_ascii=False).encode()
    except InvalidInput as error:
        raise BadParameter(f"the request body {error}") from None
    except (UnicodeEncodeError, RecursionError):
        raise BadParameter("the request body holds half a surrogate pair, or is nested too deep") from None
    if not isinstance(value, dict):
        raise BadParameter("the request body must be a JSON object")
    given = {key: item for key, item in value.items() if item is not None and key not in _IGNORED}
    model = _take(given, "model", str, "a string")
    if model is None:
        raise BadParameter("model is missing", "model")
    source = _messages(given.pop("messages", None)) if chat else _prompt(given.pop("prompt", None))
    stream = bool(_take(given, "stream", bool, "true or false"))
    asked = Asked(model, source, _options(given, chat=chat), stream, _include_usage(given, stream=stream))
    for key, item in given.items():
        neutral = any(type(item) is type(n) and item == n for n in _NEUTRAL.get(key, ()))
        if not neutral and not (isinstance(item, float) and item in _NEUTRAL.get(key, ())):
            name = key if _NAME.fullmatch(key) else "a parameter"
            raise BadParameter(f"{name} is not supported", name if name == key else None, "unsupported_parameter")
    return asked


def _take(given: Json, key: str, kind: type, told: str) -> Any:
    item = given.pop(key, None)
    if item is not None and (not isinstance(item, kind) or (kind is int and isinstance(item, bool))):
        raise BadParameter(f"{key} must be {told}", key)
    return item


def _options(given: Json, *, chat: bool) -> CompletionOptions:
    names = ("max_completion_tokens", "max_tokens") if chat else ("max_tokens",)
    limits = [_take(given, name, int, "a whole number") for name in names]
    limit = next((limit for limit in limits if limit is not None), None)
    if limit is not None and limit < 1:
        raise BadParameter("max_tokens must be at least 1", "max_tokens")
    temperature = given.pop("temperature", 1.0)
    if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not 0 <= temperature <= 2:
        raise BadParameter("temperature must be a number from 0 to 2", "temperature")
    seed = _take(given, "seed", int, "a whole number")
    schema, grammar = _response_format(given.pop("response_format", None)), _take(given, "grammar", str, "a string")
    if schema is not None and grammar is not None:
        raise BadParameter("grammar and a response_format of JSON exclude each other", "grammar")
    return CompletionOptions(
        max_tokens=limit,
        temperature=float(temperature),
        seed=secrets.randbits(63) if seed is None else seed,
        stop=_stops(given.pop("stop", None)),
        json_schema=schema,
        grammar=grammar,
    )


def _stops(value: Any) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(stops, list) or len(stops) > MAX_STOPS:
        raise BadParameter(f"stop must be a string or a list of at most {MAX_STOPS} strings", "stop")
    if not all(isinstance(stop, str) and 0 < len(stop) <= MAX_STOP_CHARACTERS for stop in stops):
        raise BadParameter(f"a stop string has 1 to {MAX_STOP_CHARACTERS} characters", "stop")
    return tuple(stops)


def _response_format(value: Any) -> Json | None:
    if value is None:
        return None
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object"}
    if kind != "json_schema":
        raise BadParameter("response_format.type must be text, json_object or json_schema", "response_format")
    named = value.get("json_schema")
    schema = named.get("schema") if isinstance(named, dict) else None
    if not isinstance(schema, dict):
        raise BadParameter("response_format.json_schema.schema must be an object", "response_format")
    return schema


def _include_usage(given: Json, *, stream: bool) -> bool:
    options = given.pop("stream_options", None)
    if options is None:
        return False
    if not stream or not isinstance(options, dict):
        raise BadParameter("stream_options is an object, and goes with stream alone", "stream_options")
    if not options.keys() <= {"include_usage", "include_obfuscation"}:
        raise BadParameter("stream_options knows include_usage only", "stream_options")
    return options.get("include_usage") is True


def _prompt(value: Any) -> str:
    if not isinstance(value, str):
        raise BadParameter("prompt must be one string", "prompt")
    return value


def _messages(value: Any) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise BadParameter("messages must be a list of at least one message", "messages")
    return tuple(_message(item, number) for number, item in enumerate(value))


def _message(item: Any, number: int) -> Message:
    where = f"messages[{number}]"
    if not isinstance(item, dict):
        raise BadParameter(f"{where} must be an object", "messages")
    role = _ROLES.get(str(item.get("role")))
    if role is None:
        raise BadParameter(f"{where}.role must be system, developer, user or assistant", "messages")
    if any(item[key] for key in _EMPTY_IN_MESSAGE if key in item):
        raise BadParameter(f"{where}: only text is supported", "messages")
    if not item.keys() <= {"role", "content", *_EMPTY_IN_MESSAGE}:
        raise BadParameter(f"{where} has a key that is not supported", "messages")
    content = item.get("content")
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        texts = [part.get("text") for part in content]
        content = "".join(texts) if all(isinstance(text, str) for text in texts) else None
    if not isinstance(content, str):
        raise BadParameter(f"{where}.content must be a string or a list of texts", "messages")
    return Message(role, content)


# --- errors -----------------------------------------------------------------------------------------------------------


def error_body(message: str, type_: str, param: str | None = None, code: str | None = None) -> bytes:
    return json_dumps({"error": {"message": message, "type": type_, "param": param, "code": code}}).encode()


def unavailable(message: str, code: str) -> Response:
    headers = {"Retry-After": str(RETRY_SECONDS)}
    return Response(error_body(message, "server_error", None, code), 503, headers, "application/json")


def error_response(error: Exception) -> Response:
    """`error` in OpenAI's form; of a fault of ours only that there was one."""
    status, type_, param, code, headers = 400, "invalid_request_error", None, None, {}
    message = str(error) if isinstance(error, HyojunError | Refused) else "an error of this server; its log says more"
    if isinstance(error, BadParameter):
        param, code = error.param, error.code
    elif isinstance(error, NotFound):
        status, param, code = 404, "model", "model_not_found"
    elif isinstance(error, TooLong):  # of the body; the model's own limit is a BadParameter
        status = 413
    elif isinstance(error, InvalidInput):
        pass
    elif isinstance(error, Unavailable):
        if error.retryable:
            return unavailable(message, "model_unavailable")
        # OpenAI's clients try again by themselves unless they are told not to.
        status, type_, code, headers = 503, "server_error", "time_over", {"x-should-retry": "false"}
    elif isinstance(error, NotSignedIn):
        status, code, headers = 401, "invalid_api_key", {"WWW-Authenticate": 'Bearer realm="hyojun"'}
    elif isinstance(error, Forbidden):
        status, code = 403, "insufficient_permissions"
    elif isinstance(error, TooMany):
        status, type_, headers = 429, "rate_limit_error", {"retry-after": str(error.seconds)}
        code = "rate_limit_exceeded"
    elif isinstance(error, Refused):
        status = error.status
    elif isinstance(error, RequestValidationError):
        message = "the request cannot be read"
    elif isinstance(error, HTTPException):
        status, headers = error.status_code, dict(error.headers or {})
        message = HTTPStatus(status).phrase
        code = "invalid_api_key" if status == 401 else None
    else:
        status, type_ = 500, "server_error"
    return Response(error_body(message, type_, param, code), status, headers, "application/json")


class OpenAIRoute(APIRoute):
    """A route whose errors leave in OpenAI's form, those of its dependencies too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except (HyojunError, Refused, HTTPException, RequestValidationError) as error:
                return error_response(error)

        return handled


# --- connections ------------------------------------------------------------------------------------------------------


async def while_connected(
    receive: Receive, work: Coroutine[Any, Any, None], end: Callable[[], None] = lambda: None
) -> None:
    """Runs `work`, which answers the request; at its end, or when the client goes away first, calls `end` and cancels it.

    The request's body must have been read. A coroutine, since a thread that writes an answer cannot watch its client.
    """

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(gone())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        end()
        for task in tasks:
            task.cancel()
        outcome = (await asyncio.gather(*tasks, return_exceptions=True))[0]
    if isinstance(outcome, Exception) and not isinstance(outcome, asyncio.CancelledError):
        raise outcome
