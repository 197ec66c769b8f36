"""Which models there are and what they are for (models.toml), the models in memory, and what a generation was made with.

One base model serves several use cases: each by itself, by a LoRA adapter on it, or by a whole model of its own.
"""

import hashlib
import logging
import os
import re
import threading
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from app.errors import HyojunError, InvalidInput, NotFound, Unavailable
from app.generation import modelfile

if TYPE_CHECKING:
    from app.generation.context import Memory
    from app.generation.llama import LlamaCpp
    from app.generation.request import Metrics

log = logging.getLogger(__name__)

PROMPTS = Path(__file__).parent / "prompts"
BASE = "base"
READING = "uc1"
"""The use case that reads notes."""
RECEIPTS = "uc2"
"""The use case that checks receipts."""

_CONTEXT_TOKENS = 8192
_SLOTS = 8
_CONTEXT_RANGE = (512, 1_048_576)
_SLOTS_RANGE = (1, 256)  # LLAMA_MAX_SEQ in llama-cparams.h
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_KV_BLOCK = 32  # numbers that share a scale in q8_0 and q4_0: ggml-common.h
_SAMPLE_BYTES = 4 * 1024 * 1024
_WHOLE_BYTES = 64 * 1024 * 1024


# -- models.toml ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """One name that a generation may ask for. `adapter`: LoRA on `file`. `prompt`: a file of `prompts/` without its
    ending; None for the base, which is used as it is. `context_tokens`, `slots`: of `file`, the same for all its uses.
    `calibration`: what this use's confidences are worth (`app.confidence`)."""

    name: str
    file: Path
    adapter: Path | None = None
    prompt: str | None = None
    context_tokens: int = _CONTEXT_TOKENS
    slots: int = _SLOTS
    calibration: Path | None = None


@dataclass(frozen=True)
class Registry:
    """`source`: where it comes from, for messages. `entries`: the base first, then the use cases, by name."""

    source: str
    entries: Mapping[str, Entry]

    def get(self, name: str) -> Entry:
        """Raises NotFound, which names those there are."""
        if name not in self.entries:
            raise NotFound(f"{self.source} has no model {name}; it has {', '.join(self.entries)}")
        return self.entries[name]

    def require_files(self, name: str) -> None:
        """Raises Unavailable when a file of the model `name` is not there, NotFound."""
        entry = self.get(name)
        for file in (*modelfile.parts(entry.file), *([entry.adapter] if entry.adapter else [])):
            if not file.is_file():
                raise Unavailable(f"the model file {file} is not there ({self.source}, {name}); put it there, or change "
                                  "MODELS_FILE or MODEL_PATH")  # fmt: skip

    def adapters(self, file: Path) -> dict[str, Path]:
        """The adapters of the model in `file`, each under the name of the first use case that has it."""
        found: dict[Path, str] = {}
        for entry in self.entries.values():
            if entry.file == file and entry.adapter is not None:
                found.setdefault(entry.adapter, entry.name)
        return {name: adapter for adapter, name in found.items()}


def single(file: Path) -> Registry:
    """One GGUF file that is the base and reads notes, with the calibration that lies beside it as
    `<name>.calibration.json`, if one does."""
    beside = file.with_suffix(".calibration.json")
    reading = Entry(READING, file, prompt=READING, calibration=beside if beside.is_file() else None)
    entries = [Entry(BASE, file), reading]
    return Registry("MODEL_PATH", {entry.name: entry for entry in entries})


def load_registry(path: Path) -> Registry:
    """models.toml; file names in it count from its own folder. Whether the model files are there is not looked at.

    Raises Unavailable when it is not there, InvalidInput, with the file and the key, for anything in it that is not
    understood.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Unavailable(f"{path} is not there; set MODELS_FILE to it, or MODEL_PATH to a GGUF file") from None
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is not TOML: {error}") from None
    top = _Table(str(path), "", content)
    table = top.table(BASE)
    base = Entry(
        BASE,
        path.parent / table.text("file"),
        context_tokens=table.number("context_tokens", _CONTEXT_TOKENS, *_CONTEXT_RANGE),
        slots=table.number("slots", _SLOTS, *_SLOTS_RANGE),
    )
    table.finish()
    entries = {BASE: base}
    uses = top.table("use_cases")
    for name in uses.keys:
        if not _NAME.fullmatch(name) or name == BASE:
            raise InvalidInput(f"{path}: use_cases.{name}: a name is small letters, digits, - and _, and not {BASE}")
        entries[name] = _use_case(name, uses.table(name), base, path.parent)
    top.finish()
    _same_opening(path, entries)
    return Registry(str(path), entries)


def _use_case(name: str, table: "_Table", base: Entry, folder: Path) -> Entry:
    ways = [way for way in ("model", "file", "adapter") if way in table.keys]
    if len(ways) != 1:
        raise table.wrong("", 'give one of model = "base", file = "….gguf" and adapter = "….gguf"')
    file, adapter, context_tokens, slots = base.file, None, base.context_tokens, base.slots
    if ways == ["model"]:
        if table.text("model") != BASE:
            raise table.wrong("model", f'can only be "{BASE}"; another model has a file')
    elif ways == ["adapter"]:
        adapter = folder / table.text("adapter")
    else:
        file = folder / table.text("file")
        context_tokens = table.number("context_tokens", context_tokens, *_CONTEXT_RANGE)
        slots = table.number("slots", slots, *_SLOTS_RANGE)
    prompt = table.text("prompt")
    if not (_NAME.fullmatch(prompt) and (PROMPTS / f"{prompt}.txt").is_file()):
        known = ", ".join(sorted(file.stem for file in PROMPTS.glob("*.txt")))
        raise table.wrong("prompt", f"there is no prompt {prompt}; there is {known}")
    calibration = folder / table.text("calibration") if "calibration" in table.keys else None
    table.finish()
    return Entry(name, file, adapter, prompt, context_tokens, slots, calibration)


def _same_opening(path: Path, entries: Mapping[str, Entry]) -> None:
    """A file is opened once, so its uses cannot ask for different sizes."""
    first: dict[Path, Entry] = {}
    for entry in entries.values():
        other = first.setdefault(entry.file, entry)
        if (other.context_tokens, other.slots) != (entry.context_tokens, entry.slots):
            raise InvalidInput(
                f"{path}: {other.name} and {entry.name} are one file with different context_tokens or slots; it is opened once"
            )


class _Table:
    """A table of the file; every key is taken once, and one that nobody took is an error."""

    def __init__(self, source: str, name: str, content: Mapping[str, Any]) -> None:
        self._source = source
        self._name = name
        self._content = dict(content)
        self.keys = tuple(content)

    def wrong(self, key: str, reason: str) -> InvalidInput:
        return InvalidInput(f"{self._source}: {'.'.join(part for part in (self._name, key) if part)}: {reason}")

    def text(self, key: str) -> str:
        value = self._content.pop(key, None)
        if not isinstance(value, str) or not value.strip() or "\0" in value:
            raise self.wrong(key, "is missing" if value is None else "must be a text that is not empty")
        return value

    def number(self, key: str, default: int, least: int, most: int) -> int:
        value = self._content.pop(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self.wrong(key, f"must be a whole number from {least} to {most}")
        return value

    def table(self, key: str) -> "_Table":
        value = self._content.pop(key, {} if key == "use_cases" else None)
        if not isinstance(value, dict):
            raise self.wrong(key, "is missing" if value is None else "must be a table")
        return _Table(self._source, f"{self._name}.{key}" if self._name else key, value)

    def finish(self) -> None:
        """Raises InvalidInput for a key that was not taken."""
        if self._content:
            raise self.wrong(next(iter(self._content)), "is not a key that is known here")


# -- the machine ----------------------------------------------------------------------------------------------------


SWITCH = {"auto": None, "on": True, "off": False}
"""How a person says what `Memory` may leave to the engine."""


class ModelOptions(Protocol):
    """What opening models needs to know of an installation; `app.settings.Settings` has it."""

    @property
    def models_file(self) -> Path: ...
    @property
    def model_path(self) -> Path | None: ...
    @property
    def model_context_tokens(self) -> int | None: ...
    @property
    def model_slots(self) -> int | None: ...
    @property
    def model_gpu_layers(self) -> int: ...
    @property
    def model_threads(self) -> int | None: ...
    @property
    def model_lanes(self) -> int | None: ...
    @property
    def model_kv_tokens(self) -> int | None: ...
    @property
    def model_kv_type(self) -> Literal["auto", "f32", "f16", "bf16", "q8_0", "q4_0"]: ...
    @property
    def model_kv_unified(self) -> Literal["auto", "on", "off"]: ...
    @property
    def model_flash_attention(self) -> Literal["auto", "on", "off"]: ...


def configured(options: ModelOptions) -> Registry:
    """MODEL_PATH alone where it is set, else the file MODELS_FILE. Raises Unavailable, InvalidInput."""
    return load_registry(options.models_file) if options.model_path is None else single(options.model_path)


def memory_of(registry: Registry, file: Path, options: ModelOptions) -> "Memory":
    """How `file` is opened: what the installation says of the machine goes before what models.toml says.

    Raises InvalidInput for settings that exclude each other.
    """
    from app.generation.context import Memory

    entry = next(entry for entry in registry.entries.values() if entry.file == file)
    memory = Memory(
        sequence_tokens=options.model_context_tokens or entry.context_tokens,
        slots=options.model_slots or entry.slots,
        kv_tokens=options.model_kv_tokens,
        unified=SWITCH[options.model_kv_unified],
        kv_type=None if options.model_kv_type == "auto" else options.model_kv_type,
        flash_attention=SWITCH[options.model_flash_attention],
        threads=options.model_threads or min(8, len(os.sched_getaffinity(0))),
        lanes=options.model_lanes,
        gpu_layers=options.model_gpu_layers,
        adapters=registry.adapters(file),
    )
    if memory.quantized and memory.flash_attention is False:
        raise InvalidInput(f"MODEL_KV_TYPE={options.model_kv_type} needs flash attention: MODEL_FLASH_ATTENTION=auto or on")
    return memory


class Models:
    """The models of a registry, each file opened once, when it is first asked for. Thread-safe."""

    def __init__(self, registry: Registry, options: ModelOptions) -> None:
        self.registry = registry
        self._options = options
        self._open: dict[Path, LlamaCpp] = {}
        self._refused: dict[Path, str] = {}
        self._locks = {entry.file: threading.Lock() for entry in registry.entries.values()}
        self._closed = False

    @property
    def names(self) -> tuple[str, ...]:
        """`base` and the use cases."""
        return tuple(self.registry.entries)

    def use(self, name: str) -> "tuple[LlamaCpp, str | None]":
        """The model of `name`, and the adapter to generate with. Slow when the file is not open yet.

        Raises NotFound; Unavailable, InvalidInput when the file or the adapter cannot be opened.
        """
        entry = self.registry.get(name)
        with self._locks[entry.file]:  # of this file alone: opening a large one takes minutes, and others are asked for
            if self._closed:
                raise Unavailable("the models are closed")
            if entry.file not in self._open:
                self.registry.require_files(name)
                self._open[entry.file] = self._opened(entry.file)
            if entry.adapter in self._refused:
                raise InvalidInput(self._refused[entry.adapter])
            model = self._open[entry.file]
        return model, next((name for name, path in model.memory.adapters.items() if path == entry.adapter), None)

    def _opened(self, path: Path) -> "LlamaCpp":
        from app.generation.llama import LlamaCpp

        memory = memory_of(self.registry, path, self._options)
        file = modelfile.read_model_file(path)
        if reason := misfit(path, file, replace(memory, adapters={})):
            raise InvalidInput(reason)
        fitting = {name: adapter for name, adapter in memory.adapters.items() if self._fits(adapter, path, file)}
        return LlamaCpp(path, replace(memory, adapters=fitting))

    def _fits(self, adapter: Path, path: Path, file: modelfile.ModelFile) -> bool:
        """One wrong adapter stops its own use cases, and no other that shares the base."""
        try:
            reason = adapter_misfit(adapter, path, file)
        except HyojunError as error:
            reason = str(error)
        if reason is not None:
            log.error("an adapter is left out: %s", reason)
            self._refused[adapter] = reason
        return reason is None

    def metrics(self) -> "dict[str, Metrics]":
        """Of each open file, under the first name that uses it."""
        opened = self._open.copy()  # in one step
        names: dict[Path, str] = {}
        for name, entry in self.registry.entries.items():
            names.setdefault(entry.file, name)
        return {names[file]: model.metrics() for file, model in opened.items()}

    def close(self) -> None:
        """Ends what runs and gives the memory back; waits for a model that is just being opened."""
        self._closed = True
        for path, lock in self._locks.items():
            with lock:
                if model := self._open.pop(path, None):
                    model.close()


def misfit(path: Path, file: modelfile.ModelFile, memory: "Memory") -> str | None:
    """Why the model `file` at `path` cannot be opened as `memory` says, where llama.cpp would tell only that it cannot;
    None: nothing speaks against it. Raises Unavailable, InvalidInput for an adapter that cannot be read."""
    for adapter in memory.adapters.values():
        if reason := adapter_misfit(adapter, path, file):
            return reason
    lengths = file.head_lengths()
    if memory.quantized and lengths and any(length % _KV_BLOCK for length in lengths):
        return (
            f"MODEL_KV_TYPE={memory.cache_type} needs attention heads of a multiple of {_KV_BLOCK} numbers, and {path.name} has "
            f"{lengths[0]}; use f16"
        )
    return None


def adapter_misfit(adapter: Path, path: Path, file: modelfile.ModelFile) -> str | None:
    """Likewise why `adapter` cannot be laid over the model `file` at `path`."""
    reason = modelfile.misfit(modelfile.read_model_file(adapter), file)
    return f"{adapter} is no adapter for {path.name}: {reason}" if reason else None


# -- fingerprints ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fingerprints:
    """What a generation was made with, each as the first 16 hex digits of a SHA-256.

    `model`: the GGUF file by its size, its first 4 MiB (metadata, vocabulary) and its last 4 MiB (weights): two
    trainings of one model differ there, and 47 GB are not read at every start. `adapter`: the whole file, from 64 MiB on
    like a model; None: without one. `prompt`: the text of the prompt. `grammar`: the code that writes grammars.
    """

    model: str
    prompt: str
    grammar: str
    adapter: str | None = field(default=None)

    def as_dict(self) -> dict[str, str | None]:
        return asdict(self)


def fingerprints(model: Path | str, prompt: str, adapter: Path | None = None, *, use: str = READING) -> Fingerprints:
    """Fingerprints of the GGUF at `model`, of `adapter` and of the text `prompt`. `model` as text: the fingerprint of a
    model that is elsewhere, which nobody here can read (`RemoteModel.fingerprint`). `use`: the use case, whose grammar it
    is."""
    here = Path(__file__).parent
    modules = ["form.py", "grammar.py", "segments.py", *(["receipt_form.py"] if use == RECEIPTS else [])]
    code = [(here / name).read_bytes() for name in modules]
    if isinstance(model, Path):
        model = _digest(*(sample for part in modelfile.parts(model) for sample in _samples(part)))
    return Fingerprints(
        model=model,
        prompt=_digest(prompt.encode()),
        grammar=_digest(*code),
        adapter=_digest(*_samples(adapter, _WHOLE_BYTES)) if adapter else None,
    )


def _samples(path: Path, whole_below: int = 0) -> list[bytes]:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size < max(whole_below, 2 * _SAMPLE_BYTES):
            return [str(size).encode(), file.read()]
        head = file.read(_SAMPLE_BYTES)
        file.seek(-_SAMPLE_BYTES, os.SEEK_END)
        return [str(size).encode(), head, file.read()]


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:16]


def prompt_text(name: str) -> str:
    """The prompt file `prompts/<name>.txt`."""
    return (PROMPTS / f"{name}.txt").read_text(encoding="utf-8")
