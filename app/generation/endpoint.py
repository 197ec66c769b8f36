"""How a served model is spoken to: one request of OpenAI's `POST /v1/chat/completions`, its events, and its refusals.

Redirects are not followed and proxies are not used, whatever the environment says: a note goes to the address that the
settings name and nowhere else. What a server says in an error may quote the note, so it is looked into and never passed on.
"""

import email.utils
import http.client
import json
import socket
import ssl
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

from pydantic import SecretStr

from app.errors import InvalidInput, TooLong

ServerKind = Literal["llama-server", "vllm", "hyojun"]

STRANGE = "answers in a form that is no chat completion"
_AGAIN = frozenset({429, 502, 503, 504})
_LARGEST_ERROR = 64 * 1024
_LONGEST_LINE = 1024 * 1024
_LARGEST_ANSWER = 64 * 1024 * 1024
"""Bytes; a streamed token takes some 300."""


@dataclass(frozen=True)
class Endpoint:
    """Where a model is served, and how much patience it gets.

    `url`: http(s)://host:port, with or without /v1 and with a path before it. `sequence_tokens`: longest prompt and
    answer together that the server allows. `ca_file`: certificates to trust instead of the system's. `tries` of one
    generation, the first included; pauses between them double from `first_pause_seconds` on, and a server that asks for
    more than `longest_pause_seconds` is not waited for. `max_seconds` bounds a generation that names no limit itself.
    `circuit_failures` tries that fail in a row end all tries for `circuit_pause_seconds`. `slots`: generations at the
    same time; the server batches them, with those of others.
    """

    kind: ServerKind
    url: str
    model: str
    sequence_tokens: int
    key: SecretStr | None = None
    ca_file: Path | None = None
    connect_seconds: float = 5.0
    max_seconds: float = 600.0
    tries: int = 4
    first_pause_seconds: float = 0.5
    longest_pause_seconds: float = 20.0
    circuit_failures: int = 5
    circuit_pause_seconds: float = 30.0
    slots: int = 8


class ServerOptions(Protocol):
    """What an installation says of its model server; `app.settings.Settings` has it."""

    @property
    def model_server(self) -> ServerKind | None: ...
    @property
    def model_server_url(self) -> str | None: ...
    @property
    def model_server_model(self) -> str: ...
    @property
    def model_server_key(self) -> SecretStr | None: ...
    @property
    def model_server_ca_file(self) -> Path | None: ...
    @property
    def model_server_connect_seconds(self) -> float: ...
    @property
    def model_server_max_seconds(self) -> float: ...
    @property
    def model_server_tries(self) -> int: ...
    @property
    def model_context_tokens(self) -> int | None: ...
    @property
    def model_slots(self) -> int | None: ...


def configured(options: ServerOptions) -> Endpoint | None:
    """The endpoint that the settings name; None: the model runs here. Raises InvalidInput for settings that lack one."""
    if options.model_server is None:
        return None
    if options.model_server_url is None or options.model_context_tokens is None:
        raise InvalidInput("MODEL_SERVER needs MODEL_SERVER_URL and MODEL_CONTEXT_TOKENS, the context of one slot there")
    return Endpoint(
        kind=options.model_server,
        url=options.model_server_url,
        model=options.model_server_model,
        sequence_tokens=options.model_context_tokens,
        key=options.model_server_key,
        ca_file=options.model_server_ca_file,
        connect_seconds=options.model_server_connect_seconds,
        max_seconds=options.model_server_max_seconds,
        tries=options.model_server_tries,
        slots=options.model_slots or Endpoint.slots,
    )


class Failed(Exception):
    """A try that failed. `again`: another one may succeed; `fault`: it counts against the server; `wait`: seconds that
    the server asked for."""

    def __init__(self, reason: str, *, again: bool = True, fault: bool = True, wait: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.again, self.fault, self.wait = reason, again, fault, wait


@dataclass(frozen=True)
class Address:
    secure: bool
    host: str
    port: int
    path: str
    connect_seconds: float
    context: ssl.SSLContext | None

    @property
    def text(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.host}:{self.port}{self.path}"

    @classmethod
    def of(cls, endpoint: Endpoint) -> "Address":
        """Raises InvalidInput; the message does not quote the address, which may hold a password."""
        try:
            parts = urlsplit(endpoint.url)
            port = parts.port
        except ValueError:
            raise InvalidInput("the address of the model server is not a URL") from None
        clean = endpoint.url.isascii() and endpoint.url.isprintable() and " " not in endpoint.url
        if parts.scheme not in ("http", "https") or not parts.hostname or not clean:
            raise InvalidInput("the address of the model server must be http://host:port or https://host:port")
        if parts.username is not None or parts.query or parts.fragment:
            raise InvalidInput("the address of the model server holds more than host, port and path; the key is set apart")
        key = endpoint.key.get_secret_value() if endpoint.key else ""
        if not (key.isascii() and key.isprintable()):
            raise InvalidInput("the key of the model server holds characters that a header cannot carry")
        context = None
        if secure := parts.scheme == "https":
            try:
                context = ssl.create_default_context(cafile=endpoint.ca_file)
            except OSError as error:
                raise InvalidInput(f"the certificates of the model server: {type(error).__name__}") from None
        path = parts.path.rstrip("/").removesuffix("/v1") + "/v1/chat/completions"
        return cls(secure, parts.hostname, port or (443 if secure else 80), path, endpoint.connect_seconds, context)


class Call:
    """One request on a connection of its own. Its reads end with TimeoutError at the deadline, and `break_off` ends them
    from another thread."""

    def __init__(self, address: Address, deadline: float) -> None:
        self._address = address
        self._deadline = deadline
        self._socket: socket.socket | None = None
        self._response: http.client.HTTPResponse | None = None
        self._broken_off = False
        timeout = min(address.connect_seconds, self._left())
        self._connection: http.client.HTTPConnection
        if address.secure:
            self._connection = http.client.HTTPSConnection(
                address.host, address.port, timeout=timeout, context=address.context
            )
        else:
            self._connection = http.client.HTTPConnection(address.host, address.port, timeout=timeout)

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def events(self, body: bytes, idempotency_key: str, key: SecretStr | None) -> Iterator[dict[str, Any]]:
        """Sends `body`, and gives what comes back as it comes; the whole answer is one event if the server does not
        stream. Raises Failed, TooLong, InvalidInput (the grammar is refused), TimeoutError."""
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream", "Idempotency-Key": idempotency_key}
        if key is not None:
            headers["Authorization"] = f"Bearer {key.get_secret_value()}"
        try:
            response = self._send(body, headers)
            if response.status != 200:
                said = _parsed(self._read(_LARGEST_ERROR)) or {}
                raise refusal(response.status, said, response.headers.get("Retry-After"))
            kind = response.headers.get_content_type()
            if kind == "text/event-stream":
                yield from _server_sent(self._lines())
            elif kind == "application/json":
                yield _event(self._read(_LARGEST_ANSWER))
            else:
                raise Failed(STRANGE, again=False, fault=False)
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException) as error:
            raise Failed(f"broke off its answer ({type(error).__name__})") from None

    def _send(self, body: bytes, headers: dict[str, str]) -> http.client.HTTPResponse:
        try:
            self._connection.connect()
        except ssl.SSLCertVerificationError:
            raise Failed("shows a certificate that is not trusted", again=False) from None
        except (OSError, UnicodeError) as error:  # UnicodeError: a host name that cannot be one
            self._left()
            raise Failed(f"cannot be reached ({type(error).__name__})") from None
        self._socket = self._connection.sock
        if self._broken_off:
            raise Failed("was not asked any more", again=False)
        self._socket.settimeout(self._left())
        self._connection.request("POST", self._address.path, body, headers)
        self._socket.settimeout(self._left())
        self._response = self._connection.getresponse()
        return self._response

    def _read(self, most: int) -> bytes:
        """The body, at most `most` bytes of it."""
        assert self._socket is not None and self._response is not None
        found = bytearray()
        while len(found) < most:
            self._socket.settimeout(self._left())
            piece = self._response.read1(most - len(found))
            if not piece:
                break
            found += piece
        return bytes(found)

    def _lines(self) -> Iterator[bytes]:
        assert self._socket is not None and self._response is not None
        received = 0
        while True:
            self._socket.settimeout(self._left())
            line = self._response.readline(_LONGEST_LINE)
            if not line:
                return
            received += len(line)
            if received > _LARGEST_ANSWER:
                raise Failed(STRANGE, again=False, fault=False)
            yield line

    def break_off(self) -> None:
        self._broken_off = True
        if self._socket is not None:
            try:
                # Not SSLSocket's own, which takes the connection apart under the reader's hands.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
            except OSError:
                pass  # it has ended by itself

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
        self._connection.close()


def _parsed(data: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _event(data: bytes) -> dict[str, Any]:
    if (found := _parsed(data)) is None:
        raise Failed(STRANGE, again=False, fault=False)
    return found


def _server_sent(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The events of a stream (HTML Living Standard, 9.2); llama-server writes errors under a name of their own."""
    for line in lines:
        name, _, value = line.strip().partition(b":")
        if name == b"data":
            if value.strip() == b"[DONE]":
                return
            yield _event(value)
        elif name == b"error":
            yield {"error": _event(value)}


def refusal(status: int | None, answer: dict[str, Any], retry_after: str | None = None) -> Exception:
    """What an answer with another status than 200 means, to be raised; `status` None: it came within a stream."""
    error = answer.get("error", answer)
    fields = error if isinstance(error, dict) else {}
    if status is None and isinstance(fields.get("code"), int):
        status = fields["code"]
    if status in (400, 422, None):
        message = str(fields.get("message", "")).lower()
        marks = {str(fields.get("type")), str(fields.get("code"))}
        # llama-server; OpenAI and Hyojun; vLLM says it in words alone.
        if marks & {"exceed_context_size_error", "context_length_exceeded"} or (
            "maximum context length" in message or "maximum model length" in message
        ):
            return TooLong("prompt and answer do not fit the context of the model server")
        if "llguidance is not enabled" in message:
            return InvalidInput("the server refuses the grammar: it was built without llguidance")
        if "grammar" in message or "structured output" in message:
            return InvalidInput("the server refuses the grammar")
    return Failed(
        "reports an error in its answer" if status is None else f"answers with status {status}",
        again=status in _AGAIN,
        fault=status is None or status >= 500,
        wait=_wait(retry_after) if status in _AGAIN else None,
    )


def _wait(retry_after: str | None) -> float | None:
    """Seconds from the value of a Retry-After header, which is a number of them or a date (RFC 9110, 10.2.3)."""
    if retry_after is None:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        until = email.utils.parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())
