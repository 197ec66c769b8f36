"""Systems that are sent to: an HTTP server that answers as it is told and keeps what it got, and a FHIR server of our own."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ssl import SSLContext
from typing import Any

import uvicorn

from app.db import Database, json_loads
from app.main import create_app
from app.settings import Settings


@dataclass
class Got:
    """`headers`: names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json_loads(self.body)


@dataclass
class Reply:
    """`drop`: the connection ends without an answer. `before`: done when the request is there, before anything is answered."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    seconds: float = 0.0
    drop: bool = False
    before: Callable[[Got], None] | None = None


class Receiver:
    """Answers with the replies of `script`, one after the other, then with `usual`; `got`: what came, in order."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.script: list[Reply] = []
        self.usual: Reply | Callable[[Got], Reply] = Reply()
        self.url = ""

    def take(self) -> list[Got]:
        taken, self.got = self.got, []
        return taken


@contextmanager
def receiver(context: SSLContext | None = None) -> Iterator[Receiver]:
    state = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            got = Got(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
            usual = state.usual(got) if callable(state.usual) else state.usual
            reply = state.script.pop(0) if state.script else usual
            state.got.append(got)
            if reply.before:
                reply.before(got)
            time.sleep(reply.seconds)
            if reply.drop:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        do_GET = do_POST = do_PUT = answer

        def log_message(self, *args: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # the other side went away: so some tests want it

    server = Quiet(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    state.url = f"{'https' if context else 'http'}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def fhir_server(database: Database) -> Iterator[str]:
    """The base URL of a server of our own on `database`."""
    app = create_app(Settings(database_url=database.url, _env_file=None), database)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        until = time.monotonic() + 10
        while not server.started and time.monotonic() < until:
            time.sleep(0.02)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/fhir"
        finally:
            server.should_exit = True
            thread.join(timeout=10)
