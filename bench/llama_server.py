"""llama.cpp's own server beside our engine: as many slots, the same notes at once, the same grammar in its language.

llama-server reads GBNF; llguidance is usually not compiled in. A GBNF rule cannot be the intersection of two, so this
comparison leaves out what the names and results of `app.generation.grammar` must look like: a field is any run of whole
chunks of its line. Our engine gets that same, looser grammar in Lark (`loose_lark`).
"""

import http.client
import json
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from app.generation.context import Memory
from app.generation.llama import LlamaCpp
from bench.engine_paths import Round, Task, Work, Written

_RULE = re.compile(r"(\w+): (.*)")
_CHUNKS = "%regex "
_TOKENS = re.compile(r"<\[\d+\]>(?: <\[\d+\]>)*")
_START_SECONDS = 600.0


def loose_lark(lark: str) -> str:
    """The note grammar `lark` without the shapes of its fields."""
    rules = [f"{name}: {body}" for name, body in _loose(lark)]
    return "\n".join([*rules, "SOME: /.+/"]) + "\n"


def gbnf(lark: str, piece: Callable[[int], bytes]) -> str:
    """The same language in GBNF. `piece`: what a token spells."""
    rules: list[str] = []
    for name, body in _loose(lark):
        if body.startswith(_CHUNKS):
            # A run of chunks: it begins with any of them and goes on with the next, or ends.
            chunks = json.loads(body.removeprefix(_CHUNKS))["substring_chunks"]
            rules.append(f"{name} ::= {' | '.join(f'{name}-{n}' for n in range(len(chunks)))}")
            for n, chunk in enumerate(chunks):
                after = f" {name}-{n + 1}?" if n + 1 < len(chunks) else ""
                rules.append(f"{name}-{n} ::= {json.dumps(chunk, ensure_ascii=False)}{after}")
        else:
            body = _TOKENS.sub(lambda run: _whole(run[0], piece), body.removesuffix(" & SOME"))
            rules.append(f"{'root' if name == 'start' else name} ::= {body}")
    return "\n".join(rules) + "\n"


def _whole(tokens: str, piece: Callable[[int], bytes]) -> str:
    """A run of token references; those that spell a part of a character become the character itself.

    llama.cpp never accepts such a token by its number (llama_grammar_reject_candidates_for_stack looks at an unfinished
    character before it looks at numbers), and then stops with "Unexpected empty grammar stack".
    """
    atoms: list[str] = []
    waiting = b""
    for token in re.findall(r"\d+", tokens):
        waiting += piece(int(token))
        try:
            text = waiting.decode()
        except UnicodeDecodeError:
            continue
        atoms.append(f"<[{token}]>" if waiting == piece(int(token)) else json.dumps(text, ensure_ascii=False))
        waiting = b""
    return " ".join(atoms)


def _loose(lark: str) -> list[tuple[str, str]]:
    """(name, body) of the rules that are left; a run of chunks may not be empty (SOME)."""
    found = []
    for line in lark.splitlines():
        match = _RULE.fullmatch(line)
        if match is None:
            raise ValueError("the note grammar is not one rule a line")
        name, body = match.groups()
        if kind := re.fullmatch(r"(TEXT|NAME|RESULT)(\d+)", name):
            body = f"{'P' if kind[1] == 'NAME' else 'C'}{kind[2]} & SOME"
        if not re.fullmatch(r"[A-Z]+_[A-Z_]+", name):
            found.append((name, body))
    return found


class LlamaServer:
    """A llama-server process with `memory.slots` slots. Raises RuntimeError when it does not start."""

    def __init__(self, program: Path, path: Path, memory: Memory, max_tokens: int | None, model: LlamaCpp) -> None:
        self.name = f"llama-server-{memory.slots}"
        self._slots = memory.slots
        self._max_tokens = max_tokens
        self._model = model  # spells its tokens out
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        layers = 999 if memory.gpu_layers < 0 else memory.gpu_layers
        command = [
            str(program), "-m", str(path), "--host", "127.0.0.1", "--port", str(self._port),
            "-np", str(memory.slots), "-c", str(memory.slots * memory.sequence_tokens),
            "-t", str(memory.threads), "-tb", str(memory.threads), "-ngl", str(layers),
            "--no-webui", "--cache-ram", "0",  # which would copy the cache of every note that ends
            "-kvu" if memory.shared_room else "-no-kvu",
        ]  # fmt: skip
        if memory.kv_type is not None:
            command += ["-ctk", memory.kv_type, "-ctv", memory.kv_type]
        if memory.flash_attention is not None:
            command += ["-fa", "on" if memory.flash_attention else "off"]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 -- closed with the server
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def _wait(self) -> None:
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until:
            if self._process.poll() is not None:
                self._log.seek(0)
                last = self._log.read()[-500:].decode("utf-8", "replace")
                raise RuntimeError(f"llama-server ended with {self._process.returncode}: {last}")
            try:
                status, _ = self._ask("GET", "/health")
            except OSError:
                status = 0
            if status == 200:
                return
            time.sleep(0.2)
        raise RuntimeError("llama-server did not become ready")

    def run(self, work: Sequence[Work]) -> Round:
        """All notes, as many at a time as there are slots. Raises RuntimeError when the server refuses one."""
        bodies = [[self._body(task) for task in one.tasks] for one in work]
        with ThreadPoolExecutor(self._slots) as pool:
            started = time.perf_counter()
            pending = [[pool.submit(self._complete, body) for body in tasks] for tasks in bodies]
            answers = [[one.result() for one in tasks] for tasks in pending]
            seconds = time.perf_counter() - started
        return Round(seconds, [[self._written(answer) for answer in tasks] for tasks in answers])

    def _body(self, task: Task) -> bytes:
        request = {
            "prompt": list(task.prompt),
            "grammar": gbnf(task.lark, self._model.piece),
            "n_predict": self._max_tokens or -1,
            # Greedy, and without the samplers that greedy makes idle.
            "samplers": ["top_k"],
            "top_k": 1,
            "temperature": 0.0,
            "cache_prompt": True,
            "return_tokens": True,
        }
        return json.dumps(request).encode()

    def _complete(self, body: bytes) -> dict[str, Any]:
        status, answer = self._ask("POST", "/completion", body)
        if status != 200:
            raise RuntimeError(f"llama-server answers {status} to a note of {len(body)} bytes")
        return answer

    def _ask(self, method: str, target: str, body: bytes | None = None) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port)
        try:
            connection.request(method, target, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def _written(self, answer: dict[str, Any]) -> Written:
        tokens = answer["tokens"][:-1] if answer.get("stop_type") == "eos" else answer["tokens"]
        return Written(b"".join(map(self._model.piece, tokens)).decode("utf-8", "replace"), len(tokens))

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
