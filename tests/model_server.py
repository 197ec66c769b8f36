"""A server on a free port that speaks OpenAI's chat completions over the engine, as llama-server, vLLM or Hyojun do:
a field of another kind of server is dropped in silence. `plan` says what goes wrong with the next requests."""

import json
import ssl
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

import llguidance

from app.errors import HyojunError, InvalidInput, TooLong
from app.generation.chat import Message
from app.generation.llama import LlamaCpp
from app.generation.request import Pending


@dataclass(frozen=True)
class Seen:
    """A request that arrived."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        serving = self.server.serving
        serving.seen.append(Seen(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        fault = serving.plan.popleft() if serving.plan else None
        try:
            if fault is not None:
                fault(self)
            elif self.path != "/v1/chat/completions":
                self.refuse(404, "no such path")
            elif serving.key and self.headers.get("Authorization") != f"Bearer {serving.key}":
                self.refuse(401, "bad key")
            else:
                serving.answer(self, body)
        except (BrokenPipeError, ConnectionResetError):
            serving.left += 1

    def refuse(self, status: int, message: str, **more: Any) -> None:
        error = {"message": message, "type": "BadRequestError", "code": status} | more
        data = json.dumps({"error": error}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def event(self, data: str) -> None:
        raw = f"data: {data}\n\n".encode()
        self.wfile.write(f"{len(raw):x}\r\n".encode() + raw + b"\r\n")
        self.wfile.flush()

    def open_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def close_stream(self) -> None:
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *args: Any) -> None:
        pass


Fault = Callable[[Handler], None]


class _Server(ThreadingHTTPServer):
    serving: "ModelServer"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that hangs up is no news


@dataclass
class ModelServer:
    kind: str
    model: LlamaCpp
    key: str = ""
    plan: deque[Fault] = field(default_factory=deque)
    seen: list[Seen] = field(default_factory=list)
    streams: bool = True
    obeys: bool = True
    """False: grammars are dropped in silence."""
    certificate: tuple[Path, Path] | None = None
    left: int = 0
    """Clients that hung up."""
    ended: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    def __enter__(self) -> "ModelServer":
        self._server = _Server(("127.0.0.1", self.port), Handler)
        self._server.serving = self
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        if self.certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.ended.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"{'https' if self.certificate else 'http'}://127.0.0.1:{self.port}"

    def answer(self, handler: Handler, body: dict[str, Any]) -> None:
        try:
            pending, prompt_tokens = self._submit(body)
            result = None if self.streams else pending.result()
        except TooLong:
            if self.kind == "llama-server":
                return handler.refuse(400, "request exceeds the available context size", type="exceed_context_size_error")
            return handler.refuse(400, "This model's maximum context length is 12288 tokens. However, you requested more")
        except InvalidInput:
            return handler.refuse(400, f"Grammar error: in {json.dumps(body, ensure_ascii=False)}")
        except HyojunError as error:
            return handler.refuse(500, str(error))
        if result is not None:
            choice = {"index": 0, "message": {"role": "assistant", "content": result.text}, "finish_reason": result.finish}
            data = json.dumps({"choices": [choice], "usage": _usage(pending, prompt_tokens)}).encode()
            handler.send_response(200)
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data)
            return None
        handler.open_stream()
        try:
            handler.event(json.dumps({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}))
            for text in pending:
                handler.event(json.dumps({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}))
            finish = pending.result().finish
            handler.event(json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}))
            if body.get("stream_options", {}).get("include_usage"):
                handler.event(json.dumps({"choices": [], "usage": _usage(pending, prompt_tokens)}))
            handler.close_stream()
        except OSError:
            pending.cancel()
            raise
        return None

    def _submit(self, body: dict[str, Any]) -> tuple[Pending, int]:
        prompt = self.model.chat_prompt([Message(m["role"], m["content"]) for m in body["messages"]])
        room = self.model.sequence_tokens - len(prompt.tokens) - 1
        if room < 1:
            raise TooLong("the prompt is too long")
        pending = self.model.submit(
            prompt.tokens,
            self._grammar(body) if self.obeys else None,
            shared=prompt.shared,
            temperature=body["temperature"],
            seed=body["seed"],
            max_tokens=min(body.get("max_tokens") or room, room),
            max_seconds=60.0,
        )
        return pending, len(prompt.tokens)

    def _grammar(self, body: dict[str, Any]) -> str | None:
        if self.kind == "vllm":
            # vllm/v1/structured_output/backend_guidance.py hands it to llguidance as "grammar": Lark or GBNF.
            given = (body.get("structured_outputs") or {}).get("grammar")
            return llguidance.grammar_from("grammar", given) if given else None
        given = body.get("grammar")
        # common/sampling.cpp of llama.cpp: any other beginning is GBNF.
        if given and self.kind == "llama-server" and not given.startswith("%llguidance"):
            raise InvalidInput("not GBNF")
        return llguidance.grammar_from("lark", given) if given else None


def _usage(pending: Pending, prompt_tokens: int) -> dict[str, int]:
    result = pending.result()
    completion = result.sampled_tokens + result.forced_tokens
    return {"prompt_tokens": prompt_tokens, "completion_tokens": completion, "total_tokens": prompt_tokens + completion}


# -- faults -----------------------------------------------------------------------------------------------------------


def status(code: int, message: str = "", **headers: str) -> Fault:
    """An error with `message`, and headers by their names with _ for -."""

    def answer(handler: Handler) -> None:
        data = json.dumps({"error": {"message": message, "type": "error", "code": code}}).encode()
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def hang_up(handler: Handler) -> None:
    """Not a word."""
    handler.close_connection = True


def break_off(text: str) -> Fault:
    """A stream that ends behind `text`."""

    def answer(handler: Handler) -> None:
        handler.open_stream()
        handler.event(json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}))
        handler.close_connection = True

    return answer


def fall_silent(text: str = "") -> Fault:
    """`text`, and then nothing until the server ends; no answer at all without `text`."""

    def answer(handler: Handler) -> None:
        if text:
            handler.open_stream()
            handler.event(json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}))
        handler.server.serving.ended.wait(30)
        handler.close_connection = True

    return answer


def events(*items: dict[str, Any] | str) -> Fault:
    """A stream of these events; a text is written as it is."""

    def answer(handler: Handler) -> None:
        handler.open_stream()
        for item in items:
            handler.event(item if isinstance(item, str) else json.dumps(item))
        handler.close_stream()

    return answer


def page(handler: Handler) -> None:
    """What a proxy may say with status 200."""
    data = "<html>ようこそ</html>".encode()
    handler.send_response(200)
    handler.send_header("Content-Type", "text/html")
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)
