"""The models of a worker's process at its socket, and the API before it."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException
from served_models import (
    LONG,
    Opened,
    ask,
    at,
    chat,
    events,
    opened_models,
    path_of,
    said,
    served,
    streamed,
    text,
    until,
)
from sign_in import headers, principal

from app.db import Database
from app.errors import InvalidInput
from app.generation.llama import LlamaCpp
from app.main import create_app
from app.model_server import MAX_PATH_BYTES, ModelServer, serve_model
from app.settings import Settings
from app.web.completions_relay import relay_router
from app.web.openai_wire import MAX_BODY_BYTES
from schemas.access import Right


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    with opened_models(tmp_path_factory.mktemp("models")) as opened:
        yield opened


@pytest.fixture(scope="module")
def base(models: Opened) -> LlamaCpp:
    return models.models["base"]


@pytest.fixture
def model_socket(tmp_path: Path) -> Path:
    return tmp_path / "data" / "model.sock"


@pytest.fixture
def server(models: Opened, model_socket: Path) -> Iterator[ModelServer]:
    made = serve_model(models, model_socket, max_seconds=60.0)
    until(lambda: made.serving)
    yield made
    made.close()


@pytest.fixture
def api_socket(api: httpx.Client, tmp_path: Path) -> Path:
    return tmp_path / "api"


@pytest.fixture
def signed_in(database: Database) -> dict[str, str]:
    return headers(database, principal(rights=[Right.MODEL]))


@pytest.fixture
def api(model_socket: Path, tmp_path: Path, database: Database, signed_in: dict[str, str]) -> Iterator[httpx.Client]:
    """The API's application; it has no model."""
    settings = Settings(database_url=database.url, data_dir=model_socket.parent, _env_file=None)
    with served(create_app(settings, database), tmp_path / "api") as client:
        client.headers.update(signed_in)
        yield client


def test_the_socket_is_its_owners_alone(server: ModelServer, model_socket: Path) -> None:
    assert model_socket.stat().st_mode & 0o777 == 0o600
    server.close()
    assert not model_socket.exists()


def test_the_api_relays_to_the_socket(server: ModelServer, model_socket: Path, api: httpx.Client) -> None:
    with at(model_socket) as direct:
        for body in (chat(), text(), chat(n=2), text(model="uc9"), text(grammar="start: nowhere")):
            here, there = direct.post(path_of(body), json=body), api.post(path_of(body), json=body)
            assert (here.status_code, here.headers["content-type"]) == (
                there.status_code,
                there.headers["content-type"],
            )
            if here.status_code == 200:
                assert said(here.json()) == said(there.json()) and here.json()["usage"] == there.json()["usage"]
            else:
                assert here.content == there.content
        assert direct.get("/v1/models").content == api.get("/v1/models").content
        assert direct.get("/v1/models/none").content == api.get("/v1/models/none").content
    assert api.get("/v1/models/..%2F..%2Fhealthz").status_code == 404
    huge = api.post("/v1/completions", content=b" " * (MAX_BODY_BYTES + 1))
    assert huge.status_code == 413 and "bytes" in huge.json()["error"]["message"]


def test_the_api_relays_a_stream_as_it_comes(server: ModelServer, base: LlamaCpp, api: httpx.Client) -> None:
    body = text(grammar="start: /[ab]{1000}/", max_tokens=None)
    with api.stream("POST", "/v1/completions", json=body | {"stream": True}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        parts = []
        for part in response.iter_text():
            if not parts:
                until(lambda: base.metrics().running == 1)  # it is still being written
            parts.append(part)
    assert streamed(events("".join(parts))) == said(ask(api, body))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("through", ["socket", "api"])
def test_a_client_that_goes_away_ends_its_generation(
    server: ModelServer, base: LlamaCpp, model_socket: Path, api_socket: Path, signed_in: dict[str, str], through: str,
    stream: bool,
) -> None:  # fmt: skip
    before = base.metrics()
    body = text(grammar=LONG, max_tokens=None, stream=stream)
    raw = json.dumps(body).encode()
    shown = f"Authorization: {signed_in['Authorization']}"
    head = f"POST /v1/completions HTTP/1.1\r\nHost: model\r\n{shown}\r\nContent-Length: {len(raw)}\r\n\r\n"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(model_socket if through == "socket" else api_socket))
        client.sendall(head.encode() + raw)
        if stream:
            assert client.recv(12) == b"HTTP/1.1 200"
        until(lambda: base.metrics().sampled_tokens > before.sampled_tokens)
    until(lambda: base.metrics().failed == before.failed + 1)
    after = base.metrics()
    assert after.requests == before.requests + 1
    assert after.sampled_tokens - before.sampled_tokens < 8000


def test_without_a_worker_the_api_says_what_is_missing(api: httpx.Client, model_socket: Path) -> None:
    def refused() -> None:
        for response in (api.post("/v1/chat/completions", json=chat(stream=True)), api.get("/v1/models")):
            assert response.status_code == 503 and response.headers["retry-after"] == "5"
            error = response.json()["error"]
            assert error["code"] == "model_unavailable"
            assert "hyojun worker" in error["message"] and "MODEL_SOCKET" in error["message"]

    refused()
    model_socket.parent.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(model_socket))  # what a process that was killed leaves behind
    refused()


def test_a_worker_that_ends_in_the_middle_of_an_answer(models: Opened, model_socket: Path, api: httpx.Client) -> None:
    server = serve_model(models, model_socket, max_seconds=60.0)
    until(lambda: server.serving)
    ended = threading.Thread(target=server.close)
    body = text(grammar="start: /[ab]{12000}/", max_tokens=None, stream=True)
    with api.stream("POST", "/v1/completions", json=body) as response:
        parts = response.iter_text()
        received = next(parts)
        began = time.monotonic()
        ended.start()
        received += "".join(parts)
    ended.join()
    assert time.monotonic() - began < 6
    last = received.split("\n\n")[-2]
    assert last == "data: [DONE]" or json.loads(last.removeprefix("data: "))["error"]["code"] == "model_unavailable"


def test_whoever_waits_for_a_worker_that_ends_may_ask_again(
    models: Opened, base: LlamaCpp, model_socket: Path, api: httpx.Client
) -> None:
    server = serve_model(models, model_socket, max_seconds=60.0)
    until(lambda: server.serving)
    before = base.metrics().requests
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(api.post, "/v1/completions", json=text(grammar="start: /[ab]{12000}/", max_tokens=None))
        until(lambda: base.metrics().requests > before)
        server.close()
        response = waiting.result()
    if response.status_code != 200:  # 12,000 tokens within three seconds
        assert response.status_code == 503 and response.headers["retry-after"] == "5"
        assert response.json()["error"]["code"] == "model_unavailable"


def test_a_dependency_that_refuses_answers_in_openais_form(model_socket: Path, tmp_path: Path) -> None:
    def deny() -> None:
        raise HTTPException(401, headers={"WWW-Authenticate": "Bearer"})

    app = FastAPI()
    app.include_router(relay_router(model_socket, 60.0), dependencies=[Depends(deny)])
    with served(app, tmp_path / "api") as client:
        for response in (client.get("/v1/models"), client.post("/v1/completions", json=text())):
            assert response.status_code == 401 and response.headers["www-authenticate"] == "Bearer"
            assert response.json()["error"]["code"] == "invalid_api_key"


def test_another_process_takes_over(models: Opened, model_socket: Path, api: httpx.Client) -> None:
    first = serve_model(models, model_socket, max_seconds=60.0)
    until(lambda: first.serving)
    second = serve_model(models, model_socket, max_seconds=60.0)
    try:
        assert ask(api, text())
        assert not second.serving
        first.close()
        until(lambda: second.serving)
        assert ask(api, text())
    finally:
        second.close()
        first.close()


SERVE = """
import sys, time
from pathlib import Path
from app.generation.context import Memory
from app.generation.llama import LlamaCpp
from app.model_server import serve_model

class Models:
    names = ("base",)
    def use(self, name):
        return model, None

model = LlamaCpp(Path(sys.argv[1]), Memory(sequence_tokens=512, threads=1))
server = serve_model(Models(), Path(sys.argv[2]), max_seconds=60.0)
while not server.serving:
    time.sleep(0.02)
print("ready", flush=True)
time.sleep(600)
"""


def test_a_killed_process_leaves_its_place(models: Opened, model_socket: Path, api: httpx.Client) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(models.models["base"].path), str(model_socket)],
        stdout=subprocess.PIPE,
        env=os.environ,
    )
    waiting = None
    try:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        waiting = serve_model(models, model_socket, max_seconds=60.0)
        assert ask(api, text()) and not waiting.serving
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert model_socket.exists()
        until(lambda: waiting.serving)
        assert ask(api, text())
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
        if waiting is not None:
            waiting.close()


def test_a_path_too_long_for_a_socket_is_refused(models: Opened, tmp_path: Path) -> None:
    long = tmp_path / ("x" * MAX_PATH_BYTES)
    with pytest.raises(InvalidInput, match="at most 107"):
        serve_model(models, long, max_seconds=1.0)


def test_no_log_line_holds_a_text(server: ModelServer, api: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    answer = ask(api, text("山田太郎 secret-prompt", grammar='start: "secret-answer" ("1" | "2")'))
    assert said(answer).startswith("secret-answer")
    for body in (text("secret-prompt", grammar="secret-grammar"), chat("secret-prompt", model="secret-model")):
        api.post(path_of(body), json=body)
    logged = [record.getMessage() + str(vars(record)) for record in caplog.records]
    assert any("completion written" in line for line in logged)
    assert not any("secret" in line or "山田" in line for line in logged)
