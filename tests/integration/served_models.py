"""Two models with random weights over HTTP: what asks them, and what reads the answers."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from random_model import write_plain

from app.errors import NotFound
from app.generation.context import Memory
from app.generation.llama import LlamaCpp

SEQUENCE_TOKENS = 12288
LONG = "start: /[ab]{8000}/"
"""Takes seconds, and ends in no other way."""


class Opened:
    """`base` chats; `uc1` is a model without a chat template."""

    def __init__(self, base: LlamaCpp, uc1: LlamaCpp) -> None:
        self.models = {"base": base, "uc1": uc1}

    @property
    def names(self) -> list[str]:
        return list(self.models)

    def use(self, name: str) -> tuple[LlamaCpp, str | None]:
        if name not in self.models:
            raise NotFound("there is no model of this name")
        return self.models[name], None


@contextmanager
def opened_models(directory: Path) -> Iterator[Opened]:
    silent = write_plain(directory / "silent.gguf", seed=2, template=None)
    opened = Opened(
        LlamaCpp(write_plain(directory / "plain.gguf"), Memory(sequence_tokens=SEQUENCE_TOKENS, slots=4, threads=1)),
        LlamaCpp(silent, Memory(sequence_tokens=512, threads=1)),
    )
    try:
        yield opened
    finally:
        for model in opened.models.values():
            model.close()


def chat(content: str = "問い", **parameters: Any) -> dict[str, Any]:
    body = {"model": "base", "messages": [{"role": "user", "content": content}], "seed": 1, "max_tokens": 40}
    return body | parameters


def text(prompt: str = "x", **parameters: Any) -> dict[str, Any]:
    return {"model": "base", "prompt": prompt, "seed": 1, "max_tokens": 40} | parameters


PATHS = {"messages": "/v1/chat/completions", "prompt": "/v1/completions"}


def path_of(body: dict[str, Any]) -> str:
    return next(path for key, path in PATHS.items() if key in body)


def ask(client: Any, body: dict[str, Any]) -> dict[str, Any]:
    response = client.post(path_of(body), json=body)
    assert response.status_code == 200, response.text
    return dict(response.json())


def said(answer: dict[str, Any]) -> str:
    choice = answer["choices"][0]
    return str(choice["message"]["content"] if "message" in choice else choice["text"])


def events(raw: str) -> list[dict[str, Any]]:
    """The chunks of a stream that ended as it should."""
    lines = raw.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


def streamed(chunks: list[dict[str, Any]]) -> str:
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    return "".join(c["delta"].get("content", "") if "delta" in c else c["text"] for c in choices)


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "has not come true"
        time.sleep(0.02)


@contextmanager
def served(app: FastAPI, path: Path) -> Iterator[httpx.Client]:
    """`app` under uvicorn, and a client of it: both ends are real, so that one can go away."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=2))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            until(lambda: server.started)
            with at(path) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


def at(path: Path) -> httpx.Client:
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://model", timeout=60)
