"""What is configured, read from the files' headers (`describe`), and whether it works, by trying it (`try_out`)."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import llama_cpp
import llguidance

from app.errors import HyojunError, ModelOutputError
from app.generation import form, modelfile, registry
from app.generation.chat import Message
from app.generation.context import Memory
from app.generation.modelfile import ModelFile
from app.generation.reader import NoteReader
from app.generation.receipt_form import RECEIPT_FORM
from app.generation.receipt_reader import ReceiptReader
from app.generation.registry import Entry, Fingerprints, ModelOptions, Models, Registry
from schemas.receipt import Block, Case

_BLOCK_BYTES = {"f32": 4 * 32, "f16": 2 * 32, "bf16": 2 * 32, "q8_0": 34, "q4_0": 18}  # 32 numbers, with their scale: ggml-common.h
_CELLS = 256  # llama.cpp rounds the room of each sequence up to a multiple (llama_context::llama_context)
_SAMPLE = "高血圧症\nHbA1c 7.2%"
_CASE = Case(head="男 54歳 入院外 2026年5月", blocks=(Block(line=1, text="診療行為 HbA1c 1回"),))
_GRAMMAR = str(llguidance.grammar_from("lark", 'start: "yes" | "no"'))


@dataclass(frozen=True)
class Description:
    """One name of the registry. Sizes are bytes; `kv_bytes` is reserved when the model is opened, for all slots and once
    for all names of one file. `form`: compact (trained on the form of its use), chat (has a chat template), text (has
    neither). `problem`: why it cannot work; None: nothing speaks against it."""

    name: str
    file: Path
    context_tokens: int
    slots: int
    adapter: Path | None = None
    prompt: str | None = None
    size: int = 0
    architecture: str = ""
    quantization: str = ""
    trained_tokens: int | None = None
    kv_bytes: int | None = None
    form: str = ""
    fingerprints: Fingerprints | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Trial:
    """What came of opening `name` and generating with it; `seconds` without the opening."""

    name: str
    problem: str | None = None
    tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Room:
    """Memory in bytes, of the machine or of a GPU: what the model files and their caches take, and what is free. Buffers
    for computing (some hundred MiB for a large model) come on top."""

    place: str
    needed: int
    free: int

    @property
    def enough(self) -> bool:
        return self.needed <= self.free


def describe(known: Registry, options: ModelOptions) -> list[Description]:
    """One for each name, the base first; reads headers, opens no model. Raises InvalidInput for settings that exclude
    each other."""
    memories = {entry.file: registry.memory_of(known, entry.file, options) for entry in known.entries.values()}
    return [_describe(known, entry, memories[entry.file]) for entry in known.entries.values()]


def _describe(known: Registry, entry: Entry, memory: Memory) -> Description:
    found = Description(
        entry.name, entry.file, memory.sequence_tokens, memory.slots, adapter=entry.adapter, prompt=entry.prompt
    )
    try:
        known.require_files(entry.name)
        file = modelfile.read_model_file(entry.file)
        trained = _trained(file, entry)
        writes = _form(file, trained)
        # A model that was trained on the form gets no prompt; see NoteReader.
        prompt = "" if entry.prompt is None or writes == "compact" else registry.prompt_text(entry.prompt)
        return replace(
            found,
            size=file.size,
            architecture=file.architecture,
            quantization=_quantization(file),
            trained_tokens=file.number(f"{file.architecture}.context_length"),
            kv_bytes=_kv_bytes(file, memory),
            form=writes,
            fingerprints=registry.fingerprints(entry.file, prompt, entry.adapter, use=entry.name),
            problem=_problem(entry, file, memory, trained, writes),
        )
    except HyojunError as error:
        return replace(found, problem=str(error))
    except OSError as error:
        return replace(found, problem=f"{error.filename}: {error.strerror}")


def _trained(file: ModelFile, entry: Entry) -> str | None:
    """The form that it was trained on: that of the adapter where it says one."""
    own = modelfile.read_model_file(entry.adapter).text("hyojun.form") if entry.adapter else None
    return own or file.text("hyojun.form")


def _form(file: ModelFile, trained: str | None) -> str:
    if trained is not None:
        return "compact"
    return "chat" if file.text("tokenizer.chat_template") else "text"


def _problem(entry: Entry, file: ModelFile, memory: Memory, trained: str | None, writes: str) -> str | None:
    if file.text("general.type") == "adapter":
        return f"{entry.file} is an adapter, not a model; name it as adapter = … of a use case"
    if not file.architecture:
        return f"{entry.file} names no architecture; it is not a language model for llama.cpp"
    read = RECEIPT_FORM if entry.name == registry.RECEIPTS else form.FORM_VERSION
    if trained not in (None, read):
        return f"{entry.adapter or entry.file} writes form {trained}, this version reads {read}; use the model of this version"
    if writes == "text" and entry.prompt is not None:
        return f"{entry.file} carries neither the statement form nor a chat template; use an instruction model"
    with_its_own = replace(memory, adapters={entry.name: entry.adapter} if entry.adapter else {})
    return registry.misfit(entry.file, file, with_its_own)


def _quantization(file: ModelFile) -> str:
    """As the file says of itself, else the type of most of its numbers."""
    said = file.number("general.file_type")
    for name, value in vars(llama_cpp).items():
        if name.startswith(("LLAMA_FTYPE_MOSTLY_", "LLAMA_FTYPE_ALL_")) and value == said:
            return str(name).removeprefix("LLAMA_FTYPE_").removeprefix("MOSTLY_").removeprefix("ALL_")
    counts: dict[int, int] = {}
    for tensor in file.tensors.values():
        numbers = 1
        for size in tensor.shape:
            numbers *= size
        counts[tensor.type] = counts.get(tensor.type, 0) + numbers
    most = max(counts, key=counts.__getitem__, default=None)
    names = (name for name, value in vars(llama_cpp).items() if name.startswith("GGML_TYPE_") and value == most)
    return next(names, "").removeprefix("GGML_TYPE_")


def _kv_bytes(file: ModelFile, memory: Memory) -> int | None:
    """Of a plain transformer exactly; more than is reserved where layers look back a window only. None: not known."""
    kind, layers = file.architecture, file.number(f"{file.architecture}.block_count")
    if not layers or not (lengths := file.head_lengths()):
        return None
    heads = file.numbers(f"{kind}.attention.head_count_kv", layers) or file.numbers(f"{kind}.attention.head_count", layers)
    assert heads is not None  # head_lengths found them
    room = memory.kv_tokens or memory.slots * memory.sequence_tokens
    streams = 1 if memory.shared_room else memory.slots
    cells = streams * -(-(room // streams) // _CELLS) * _CELLS
    return cells * sum(heads) * sum(lengths) * _BLOCK_BYTES[memory.cache_type] // 32


def room(found: Sequence[Description], options: ModelOptions, devices: Mapping[str, int]) -> list[Room]:
    """What opening all of `found` takes, each file once; on the GPUs as far as its layers go there. `devices`: as
    `context.gpus` gives them."""
    files = {one.file: one for one in found if one.problem is None}
    host = gpu = 0
    for one in files.values():
        share = 0.0
        if devices and options.model_gpu_layers:
            layers = modelfile.read_model_file(one.file).number(f"{one.architecture}.block_count") or 0
            share = 1.0 if options.model_gpu_layers < 0 else min(1.0, options.model_gpu_layers / (layers + 1))
        needed = one.size + (one.kv_bytes or 0)
        adapters = {other.adapter for other in found if other.file == one.file and other.adapter and not other.problem}
        needed += sum(adapter.stat().st_size for adapter in adapters)
        gpu += round(needed * share)
        host += needed - round(needed * share)
    rooms = [Room("memory", host, free_bytes())]
    if gpu:
        rooms.append(Room("GPU memory", gpu, sum(devices.values())))
    return rooms


def free_bytes() -> int:
    """Memory that a process may still take: of the machine, or of the container it runs in where that is less."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    # cgroup v2; "max" where there is no limit. Pages of files are given back when memory is wanted.
    with suppress(OSError, ValueError, StopIteration):
        group = Path("/sys/fs/cgroup")
        limit, used = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
        statistics = (group / "memory.stat").read_text().splitlines()
        cached = next(int(line.split()[1]) for line in statistics if line.startswith("inactive_file "))
        free = min(free, limit - used + cached)
    return free


def try_out(models: Models, names: tuple[str, ...]) -> Iterator[Trial]:
    """Opens the model of each name, checks what a reader needs of it, and generates a few tokens under a grammar."""
    for name in names:
        try:
            yield _try(models, name)
        except HyojunError as error:
            yield Trial(name, str(error))


def _try(models: Models, name: str) -> Trial:
    entry = models.registry.get(name)
    model, adapter = models.use(name)
    started = time.monotonic()
    if name == registry.RECEIPTS:
        judged = ReceiptReader(model, adapter=adapter, prompt=entry.prompt or name).advise(_CASE, everything=True)
        return Trial(name, None, judged.sampled_tokens + judged.forced_tokens, time.monotonic() - started)
    if model.metadata("hyojun.form") is not None or name == registry.READING:
        # Its vocabulary, its template and its grammar are checked by reading a note.
        reading = NoteReader(model, adapter=adapter, prompt=entry.prompt or registry.READING).read(_SAMPLE, [], "progress")
        return Trial(name, None, reading.sampled_tokens + reading.forced_tokens, time.monotonic() - started)
    if entry.prompt is not None:
        messages = [Message("system", registry.prompt_text(entry.prompt)), Message("user", _SAMPLE)]
        written = model.write_chat(messages, _GRAMMAR, adapter=adapter, max_seconds=600.0)
    else:
        written = model.write(_SAMPLE, _GRAMMAR, max_seconds=600.0)
    if written.text not in ("yes", "no"):
        raise ModelOutputError("the model did not keep to the grammar")
    return Trial(name, None, written.sampled_tokens + written.forced_tokens, time.monotonic() - started)

