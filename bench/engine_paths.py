"""The ways to write a note that `bench.engine` compares: Outlines as documented, Outlines' processor alone, our engine.

All of them get the same prompts, the same grammars (Lark, as `NoteReader` makes them), the same limit of tokens, and are
greedy. What is timed is everything from there to the tokens: serializing the grammar, building masks, decoding.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import llama_cpp
import llguidance
import outlines
from outlines.backends.llguidance import LLGuidanceBackend, LLGuidanceLogitsProcessor
from outlines.types import CFG

from app.generation.context import Memory
from app.generation.llama import LlamaCpp
from app.generation.reader import NoteReader, Window
from app.generation.request import Generated, Metrics, Pending
from schemas.note import ChartNote
from schemas.statement import Kind

BACKEND = "llguidance"
"""Named, though Outlines would take it for a grammar by itself: its default for a JSON Schema is another one."""

_KV_TYPES = {"f32": 0, "f16": 1, "bf16": 30, "q8_0": 8, "q4_0": 2}  # enum ggml_type in ggml.h
_NEVER = 1_000_000


_T = TypeVar("_T")


def _apart(work: Callable[[], _T]) -> _T:
    """`work` in a thread that ends with it, and with the thread its OpenMP team: two teams with more threads than there are
    cores slow each other down, though only one of them works."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


@dataclass(frozen=True)
class Task:
    """One prompt and its grammar. `shared`: how many of its first tokens the prompts of all notes begin with."""

    prompt: tuple[int, ...]
    text: str
    shared: int
    lark: str
    window: Window


@dataclass(frozen=True)
class Work:
    """One note: a task for each of its windows."""

    note: ChartNote
    tasks: tuple[Task, ...]

    @property
    def prompt_tokens(self) -> int:
        return sum(len(task.prompt) for task in self.tasks)


@dataclass(frozen=True)
class Written:
    """What a path wrote for a task: `text` with reserved tokens spelled out, `tokens` perhaps with an end mark.
    `choices` as in `Generated`, by our engine alone."""

    text: str
    tokens: int
    ties: int = 0
    choices: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Round:
    """One pass over some notes: seconds for all of them, what was written, note by note, and the seconds of each note
    where they are written one after another. `submitting`: seconds until the engine had all of them; `before`, `after`:
    its counters."""

    seconds: float
    written: list[list[Written]]
    each: tuple[float, ...] = ()
    submitting: float = 0.0
    before: Metrics | None = None
    after: Metrics | None = None


class Writer(Protocol):
    """A way to write notes; `name` names it in the table."""

    name: str

    def run(self, work: Sequence[Work]) -> Round: ...
    def close(self) -> None: ...


def prepare(reader: NoteReader, note: ChartNote, mentions: Sequence[tuple[int, int, Kind]]) -> Work:
    """The tasks of `note`. Raises TooLong."""
    tasks = []
    for window in reader.windows(note.text, mentions, note.document_type.value):
        tokens, shared = list(window.tokens), 0
        if window.messages:
            tokens, shared = reader.model.chat_prompt(window.messages)
        text = b"".join(map(reader.model.piece, tokens)).decode()
        tasks.append(Task(tuple(tokens), text, shared, window.grammar, window))
    return Work(note, tuple(tasks))


class Recording(llama_cpp.Llama):  # type: ignore[misc]
    """`Llama` that keeps the tokens it chose and when: its own text leaves reserved tokens out."""

    chosen: list[int]
    times: list[float]

    def generate(self, *arguments: Any, **options: Any) -> Iterator[int]:
        self.chosen, self.times = [], []
        for token in super().generate(*arguments, **options):
            self.chosen.append(token)
            self.times.append(time.perf_counter())
            yield token

    def written(self, chosen: Sequence[int]) -> Written:
        """What `chosen` spells, without an end mark."""
        ended = bool(chosen) and bool(llama_cpp.llama_vocab_is_eog(self._model.vocab, chosen[-1]))
        tokens = chosen[:-1] if ended else chosen
        return Written(b"".join(map(self.spelled, tokens)).decode("utf-8", "replace"), len(tokens))

    def run(self, work: Sequence[Work], write: Callable[[Task], object]) -> Round:
        """`write` for one task after the other; spelling out what it chose is not timed."""
        chosen: list[list[list[int]]] = []
        each = []
        for one in work:
            started = time.perf_counter()
            chosen.append([])
            for task in one.tasks:
                write(task)
                chosen[-1].append(self.chosen)
            each.append(time.perf_counter() - started)
        written = [[self.written(tokens) for tokens in tasks] for tasks in chosen]
        return Round(sum(each), written, tuple(each))

    def spelled(self, token: int) -> bytes:
        return bytes(self.detokenize([token], special=True))


def open_llama(path: Path, memory: Memory) -> Recording:
    """`path` as Outlines' documentation opens it, with the context and threads of `memory`, and with its cache and
    flash attention where it names them."""
    options: dict[str, Any] = {}
    if memory.kv_type is not None:
        options |= {"type_k": _KV_TYPES[memory.kv_type], "type_v": _KV_TYPES[memory.kv_type]}
    if memory.flash_attention is not None:
        options["flash_attn"] = memory.flash_attention
    return Recording(
        str(path),
        n_ctx=memory.sequence_tokens,
        n_threads=memory.threads,
        n_threads_batch=memory.threads,
        n_gpu_layers=memory.gpu_layers,
        verbose=False,
        **options,
    )


class OutlinesGenerator:
    """`outlines.Generator` as its documentation writes it: made anew for each note, since each has its own grammar."""

    name = "generator"

    def __init__(self, llama: Recording, max_tokens: int | None) -> None:
        self._llama = llama
        self._model = outlines.from_llamacpp(llama, chat_mode=False)
        self._max_tokens = max_tokens

    def run(self, work: Sequence[Work]) -> Round:
        return _apart(lambda: self._llama.run(work, self._write))

    def _write(self, task: Task) -> None:
        generator = outlines.Generator(self._model, CFG(task.lark), backend=BACKEND)
        generator(task.text, max_tokens=self._max_tokens, temperature=0.0)

    def close(self) -> None:
        self._llama.close()


class OutlinesProcessor:
    """Outlines' llguidance processor on one `Llama`: its tokenizer is built once, and what a prompt has in common with
    the one before stays in the cache."""

    name = "processor"

    def __init__(self, llama: Recording, max_tokens: int | None) -> None:
        self._llama = llama
        self._backend = LLGuidanceBackend(outlines.from_llamacpp(llama, chat_mode=False))
        self._max_tokens = max_tokens

    def run(self, work: Sequence[Work]) -> Round:
        return _apart(lambda: self._llama.run(work, self._write))

    def _write(self, task: Task) -> None:
        processor = self._backend.get_cfg_logits_processor(task.lark)
        self._llama(
            list(task.prompt),
            max_tokens=self._max_tokens,
            temperature=0.0,
            logits_processor=llama_cpp.LogitsProcessorList([processor]),
        )

    def latency(self, task: Task, before_choice: int) -> tuple[float, float, float]:
        """Seconds until the first token, until the one that ends behind `before_choice` characters, until the end."""
        started = time.perf_counter()
        _apart(lambda: self._write(task))
        ended = time.perf_counter() - started
        times = [at - started for at in self._llama.times]
        text = b""
        for token, at in zip(self._llama.chosen, times, strict=True):
            text += self._llama.spelled(token)
            if len(text.decode("utf-8", "ignore")) > before_choice:
                return times[0], at, ended
        return times[0], ended, ended

    def close(self) -> None:
        self._llama.close()


class OurEngine:
    """The engine with `memory.slots` sequences; all notes are submitted at once."""

    def __init__(self, path: Path, memory: Memory, max_tokens: int | None) -> None:
        self.model = LlamaCpp(path, memory)
        self.slots = memory.slots
        self.name = f"engine-{memory.slots}"
        self._max_tokens = max_tokens

    def run(self, work: Sequence[Work]) -> Round:
        before = self.model.metrics()
        started = time.perf_counter()
        pending = [[self._submit(task) for task in one.tasks] for one in work]
        submitting = time.perf_counter() - started
        generated = [[one.result() for one in tasks] for tasks in pending]
        seconds = time.perf_counter() - started
        written = [[self._written(one) for one in tasks] for tasks in generated]
        return Round(seconds, written, (), submitting, before, self.model.metrics())

    def run_free(self, tasks: Sequence[Task], tokens: Sequence[int]) -> tuple[float, int]:
        """Seconds and tokens of unconstrained text after the same prompts, as many tokens as `tokens` says."""
        started = time.perf_counter()
        pending = [
            self.model.submit(task.prompt, None, shared=task.shared, max_tokens=count)
            for task, count in zip(tasks, tokens, strict=True)
            if count
        ]
        made = sum(one.result().sampled_tokens for one in pending)
        return time.perf_counter() - started, made

    def latency(self, task: Task) -> tuple[float, float, float, int]:
        """Seconds until the first text, until the first choice, until the end; characters before the first choice."""
        started = time.perf_counter()
        pending = self._submit(task)
        texts = iter(pending)
        next(texts, None)
        first = time.perf_counter() - started
        generated = pending.result()
        ended = time.perf_counter() - started
        before = generated.choices[0][0] if generated.choices else _NEVER
        return first, generated.first_seconds, ended, before

    def _submit(self, task: Task) -> Pending:
        grammar = llguidance.grammar_from("lark", task.lark)
        return self.model.submit(task.prompt, grammar, shared=task.shared, max_tokens=self._max_tokens)

    def _written(self, generated: Generated) -> Written:
        tokens = generated.sampled_tokens + generated.forced_tokens
        return Written(generated.text, min(tokens, self._max_tokens or tokens), generated.ties, generated.choices)

    def close(self) -> None:
        self.model.close()


class ProcessorModel:
    """`OutlinesProcessor` with the face that `NoteReader` wants: the same pipeline, another engine."""

    def __init__(self, model: LlamaCpp, llama: Recording) -> None:
        self._model = model
        self._llama = llama
        self._backend = LLGuidanceBackend(outlines.from_llamacpp(llama, chat_mode=False))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def write(self, prompt: Sequence[int], grammar: str, **_: Any) -> Generated:
        started = time.monotonic()
        # `get_cfg_logits_processor` serializes a grammar; this one is serialized already.
        processor = LLGuidanceLogitsProcessor(grammar, self._backend.llg_tokenizer, self._backend.tensor_library_name)
        processors = llama_cpp.LogitsProcessorList([processor])
        self._llama(list(prompt), max_tokens=None, temperature=0.0, logits_processor=processors)
        written = self._llama.written(self._llama.chosen)
        return Generated(written.text, (), len(prompt), written.tokens, 0, time.monotonic() - started)

    def write_chat(self, messages: Any, grammar: str, **_: Any) -> Generated:
        return self.write(self._model.chat_prompt(messages).tokens, grammar)
