"""An installation as it is run: one database, and `hyojun` processes on it with the shipped model."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

from sign_in import headers

from app.db import Database

ROOT = Path(__file__).resolve().parents[2]
MODEL = Path(os.environ.get("MODEL_PATH", ROOT / "weights" / "hyojun-uc1.gguf")).resolve()

# Bounds for a busy machine; an idle one needs a few seconds for each.
READY_SECONDS = 240.0
JOB_SECONDS = 240.0
STOP_SECONDS = 60.0


def make_note(text: str, **changes: Any) -> dict[str, Any]:
    """A note of a patient of its own, as it is sent to the API."""
    number = uuid4().int % 10**9
    patient = {"id": f"7{number:09}", "family": "検査", "given": "花子", "sex": "female", "birth_date": "1950-01-02"}
    note: dict[str, Any] = {"id": f"e-{number}", "document_type": "progress", "department": "内科",
                            "date": "2026-04-01", "patient": patient, "text": text}  # fmt: skip
    return note | changes


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class Installation:
    """Starts processes, each in a process group of its own, with its log in `directory`; talks to the API."""

    def __init__(self, database: Database, directory: Path) -> None:
        self.database, self.directory = database, directory
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.signed_in = headers(database)
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, command: str, **settings: object) -> "subprocess.Popen[bytes]":
        """`hyojun serve` or `hyojun worker`; keyword arguments become settings."""
        edges = ("BROKER_URL", "DATA_DIR", "API_HOST", "MODEL_PATH")
        kept = {key: value for key, value in os.environ.items() if key not in edges}
        model: dict[str, object] = {} if "models_file" in settings else {"model_path": MODEL}
        chosen: dict[str, object] = {"model_threads": 1, "api_port": self.port} | model | settings
        environment = kept | {name.upper(): str(value) for name, value in chosen.items()} | {
            "DATABASE_URL": self.database.url,
            "PYTHONPATH": os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH", "")) if part),
        }  # fmt: skip
        with (self.directory / f"{command}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "app.cli", command], env=environment, cwd=self.directory,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._running.append(process)
        return process

    def start_api(self, **settings: object) -> None:
        process = self.start("serve", **settings)

        def ready() -> bool:
            try:
                return self.request("GET", "/readyz")[0] == 200
            except OSError:
                return False

        assert wait_until(lambda: ready() or process.poll() is not None, READY_SECONDS), self.log("serve")
        assert process.poll() is None, self.log("serve")

    def log(self, command: str) -> str:
        return (self.directory / f"{command}.log").read_text("utf-8", "replace")

    def request(self, method: str, path: str, body: Any = None, media: str = "application/json") -> tuple[int, bytes]:
        """`body`: bytes as they are, of the type `media`; anything else as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Content-Type": media} if content else {}
        try:
            connection.request(method, path, content, sent | self.signed_in)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def request_json(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        status, content = self.request(method, path, body)
        assert status < 300, content
        found: dict[str, Any] = json.loads(content)
        return found

    def stop(self) -> None:
        for process in self._running:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._running:
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                pass
            kill_group(process)


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    """The process and its children, with no chance to tidy up."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def group_of(process: "subprocess.Popen[bytes]") -> list[int]:
    """Processes that still run in the group that `process` began."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group = path.read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if int(group) == process.pid and state != "Z":
            found.append(int(path.parent.name))
    return found
