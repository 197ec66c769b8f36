"""The models of a worker's process for the other processes of this machine: HTTP on a Unix socket, its owner's alone.

Of several processes with models the first serves. When it ends, however it ends, another takes over.
"""

import fcntl
import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from app.completions import ModelCompletions, Models
from app.errors import InvalidInput
from app.web.completions_api import model_app

log = logging.getLogger(__name__)

MAX_PATH_BYTES = 107
"""sun_path in sys/un.h: 108 bytes with the closing zero."""
_LOOK_SECONDS = 1.0
"""Pause between two tries to become the one that serves."""
_FAULT_SECONDS = 30.0
_END_SECONDS = 3.0
"""Time that completions under way have when the server is closed."""


def serve_model(models: Models, path: Path, *, max_seconds: float) -> "ModelServer":
    """Serves `models` at the socket `path` from a thread of its own, as soon as no other process does.

    `max_seconds`: the longest completion. The result's `close` ends it; `models` may be closed afterwards.
    Raises: InvalidInput when `path` is too long for a socket, OSError when its directory cannot be made.
    """
    size = len(os.fsencode(path))
    if size > MAX_PATH_BYTES:
        raise InvalidInput(
            f"MODEL_SOCKET has {size} bytes; a socket's path has at most {MAX_PATH_BYTES}: name a shorter"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    return ModelServer(models, path, max_seconds)


class ModelServer:
    """A thread that waits for its turn and then serves."""

    def __init__(self, models: Models, path: Path, max_seconds: float) -> None:
        self._completions = ModelCompletions(models, max_seconds)
        self._path = path
        self._closing = threading.Event()
        self._server: uvicorn.Server | None = None
        self._thread = threading.Thread(target=self._run, name="model-server", daemon=True)
        self._thread.start()

    @property
    def serving(self) -> bool:
        """Is it this one that serves?"""
        server = self._server
        return server is not None and server.started

    def close(self) -> None:
        """Ends the server; whoever still waits for a completion after three seconds is told to ask again."""
        self._closing.set()
        server = self._server
        if server is not None:
            server.should_exit = True
        self._thread.join(_END_SECONDS)
        self._completions.cancel()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                with _turn(self._path) as ours:
                    if ours:
                        self._serve()
            except OSError as error:
                log.error("the model cannot be served at its socket: %s", error.strerror or type(error).__name__)
                self._closing.wait(_FAULT_SECONDS)
            self._closing.wait(_LOOK_SECONDS)

    def _serve(self) -> None:
        with _bound(self._path) as listener:
            # log_config=None: the log is ours. No access line: nothing of a request is to be logged.
            config = uvicorn.Config(
                model_app(self._completions),
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                ws="none",
                timeout_graceful_shutdown=round(_END_SECONDS) + 3,  # what does not end when it is cancelled
            )
            self._server = uvicorn.Server(config)
            self._server.should_exit = self._closing.is_set()
            log.info("the model is served to other processes")
            try:
                self._server.run(sockets=[listener])
            finally:
                self._server = None


@contextmanager
def _turn(path: Path) -> Iterator[bool]:
    """Is it this process's turn? The lock ends with the process."""
    lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(lock)


@contextmanager
def _bound(path: Path) -> Iterator[socket.socket]:
    """A socket at `path` that does not listen yet. What is there is of a process that has ended: we have the lock."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(os.fspath(path))
        path.chmod(0o600)  # before it listens, nobody can have connected
        made = path.stat()
        try:
            yield listener
        finally:
            try:
                found = path.stat()
                if (found.st_dev, found.st_ino) == (made.st_dev, made.st_ino):
                    path.unlink()
            except FileNotFoundError:
                pass
