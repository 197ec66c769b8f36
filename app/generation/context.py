"""llama.cpp as it is used here: one model file, its vocabulary, its adapters, and one KV cache for many sequences.

The only module that talks to llama.cpp's C interface. What may be written, and in which order, is decided elsewhere.
"""

import ctypes
import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import llama_cpp
import numpy as np
from llama_cpp._ggml import libggml
from numpy.typing import NDArray

from app.errors import InvalidInput, ModelOutputError, Unavailable

KvType = Literal["f32", "f16", "bf16", "q8_0", "q4_0"]
_KV_TYPES: dict[str, int] = {"f32": 0, "f16": 1, "bf16": 30, "q8_0": 8, "q4_0": 2}  # enum ggml_type in ggml.h
_QUANTIZED = frozenset({"q8_0", "q4_0"})
_FLASH = {None: -1, False: 0, True: 1}  # enum llama_flash_attn_type in llama.h
_ALL_LAYERS = 1_000_000
_UBATCH = 512
_CACHED_BYTES = 32 * 1024 * 1024
"""Weights up to this size stay in the last-level cache of a server's processor (32 MiB and more a chiplet)."""
_GPU = 1  # enum ggml_backend_dev_type in ggml-backend.h
_NO_CELLS = 1  # llama_decode: "could not find a KV slot for the batch" (llama.h)


@dataclass(frozen=True)
class Memory:
    """How a model file is opened.

    `sequence_tokens`: longest prompt and output of one sequence together. `slots`: sequences that are generated at the
    same time. `kv_tokens`: room of the KV cache for all of them together; None: `slots` times `sequence_tokens`.
    `unified`: one room for all sequences, which may share a beginning in it, and every one of which looks past the
    others' tokens; otherwise each slot has its own part, of the same size, and llama.cpp decodes sequences that bring
    different numbers of tokens in several goes, reading the weights each time. None: on a GPU, where that reading is what
    takes the time, one room; on the CPU parts. `gpu_layers` -1: all.

    `lanes`: KV caches that decode side by side, each with its share of slots, room and `threads`. None: on the CPU one for
    each thread where the weights are so small that they stay in the processor's own cache, else one. Threads that share
    a step wait for each other a hundred times in it, which is what a step of a small model takes; a large one is read
    from memory once a step, and only a shared step shares that.

    `kv_type`: numbers in the cache; quantized ones need flash attention. None: on a GPU f16, on the CPU bf16.
    `flash_attention` None: on a GPU where llama.cpp finds it faster, on the CPU only for a quantized cache. Sums of
    half-precision numbers depend on which tokens are decoded together; with these defaults and weights in Q8_0, on the
    CPU, the scores of a sequence are the same to the last bit whatever else is in the batch.
    """

    sequence_tokens: int = 8192
    slots: int = 1
    kv_tokens: int | None = None
    unified: bool | None = None
    kv_type: KvType | None = None
    flash_attention: bool | None = None
    threads: int = 2
    lanes: int | None = None
    gpu_layers: int = 0
    adapters: Mapping[str, Path] = field(default_factory=dict)

    def share(self, slots: int, lanes: int) -> "Memory":
        """That of one of `lanes`, with so many of the slots."""
        room = None if self.kv_tokens is None else max(1, self.kv_tokens * slots // self.slots)
        return replace(self, slots=slots, kv_tokens=room, threads=max(1, self.threads // lanes), lanes=1)

    @property
    def cache_type(self) -> KvType:
        """`kv_type`, or what it stands for."""
        return self.kv_type or ("f16" if self.gpu_layers else "bf16")

    @property
    def shared_room(self) -> bool:
        """`unified`, or what it stands for."""
        return self.gpu_layers != 0 if self.unified is None else self.unified

    @property
    def quantized(self) -> bool:
        """Is the cache of a type that only flash attention can read?"""
        return self.cache_type in _QUANTIZED


def lane_slots(memory: Memory, model_bytes: int) -> list[int]:
    """The slots of each lane, the most first, at least one each. `model_bytes`: size of the weights."""
    small = memory.gpu_layers == 0 and not memory.shared_room and model_bytes <= _CACHED_BYTES
    lanes = memory.lanes or (memory.threads if small else 1)
    lanes = max(1, min(lanes, memory.slots, memory.threads))
    return [memory.slots // lanes + (number < memory.slots % lanes) for number in range(lanes)]


class NoCells(Exception):
    """The KV cache has no room for a batch; nothing of it was decoded."""


@dataclass(frozen=True)
class Part:
    """Tokens of one sequence to be decoded, from `position` on. `logits`: are those behind the last one wanted?"""

    sequence: int
    position: int
    tokens: Sequence[int]
    logits: bool


class LlamaContext:
    """A GGUF file opened by llama.cpp, with one KV cache. Not thread-safe; but contexts `beside` each other may be used at
    the same time, each by one thread.

    Raises Unavailable when the file or an adapter cannot be opened or memory is short, InvalidInput when an adapter does
    not fit the model or a setting cannot be had.
    """

    def __init__(self, path: Path, memory: Memory) -> None:
        self._model: Any = None
        self._owner: LlamaContext | None = None
        self._context: Any = None
        self._adapters: dict[str, Any] = {}
        if not path.is_file():
            raise Unavailable(f"model file {path} is not there")
        if memory.cache_type not in _KV_TYPES:
            raise InvalidInput(f"KV type {memory.cache_type} is unknown; known are {', '.join(_KV_TYPES)}")
        if memory.quantized and memory.flash_attention is False:
            raise InvalidInput(f"a cache of type {memory.cache_type} needs flash attention")
        _quiet()
        llama_cpp.llama_backend_init()
        parameters = llama_cpp.llama_model_default_params()
        parameters.n_gpu_layers = memory.gpu_layers if memory.gpu_layers >= 0 else _ALL_LAYERS
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        if not self._model:
            raise Unavailable(f"llama.cpp cannot open the model file {path}")
        try:
            self._open_model(memory)
            self._open_context(memory)
        except BaseException:
            self.close()
            raise

    def beside(self, memory: Memory) -> "LlamaContext":
        """A further KV cache on the same model and adapters, to be closed before this one. Raises Unavailable."""
        other = object.__new__(LlamaContext)
        other._model, other._owner, other._context = self._model, self, None
        other._vocabulary, other._adapters = self._vocabulary, dict(self._adapters)
        other.vocabulary_size, other.begin_token, other.end_token = self.vocabulary_size, self.begin_token, self.end_token
        other._open_context(memory)
        return other

    def _open_model(self, memory: Memory) -> None:
        self._vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self.vocabulary_size: int = llama_cpp.llama_vocab_n_tokens(self._vocabulary)
        self.begin_token: int = llama_cpp.llama_vocab_bos(self._vocabulary)
        self.end_token: int = llama_cpp.llama_vocab_eos(self._vocabulary)
        for name, file in memory.adapters.items():
            # llama.cpp reports an adapter of another architecture or shape like a damaged file.
            adapter = llama_cpp.llama_adapter_lora_init(self._model, str(file).encode()) if file.is_file() else None
            if not adapter:
                raise Unavailable(f"adapter {name} ({file}) is not there, damaged, or not made for this model")
            self._adapters[name] = adapter

    def _open_context(self, memory: Memory) -> None:
        room = memory.kv_tokens or memory.slots * memory.sequence_tokens
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = room
        options.n_batch = self.batch_tokens = min(2048, room)
        options.n_ubatch = self.piece_tokens = min(_UBATCH, self.batch_tokens)
        options.n_seq_max = memory.slots
        options.n_outputs_max = memory.slots
        options.n_threads = options.n_threads_batch = memory.threads
        options.kv_unified = memory.shared_room
        flash = memory.flash_attention
        if flash is None and memory.gpu_layers == 0:
            flash = memory.quantized
        options.flash_attn_type = _FLASH[flash]
        options.type_k = options.type_v = _KV_TYPES[memory.cache_type]
        options.no_perf = True
        self._context = llama_cpp.llama_init_from_model(self._model, options)
        if not self._context:
            raise Unavailable(f"no memory for {room} tokens in {memory.slots} slots, KV type {memory.cache_type}")
        self._memory = llama_cpp.llama_get_memory(self._context)
        self.unified = memory.shared_room
        self.cells: int = llama_cpp.llama_n_ctx(self._context)
        """Room of the whole cache, in tokens."""
        self.sequence_tokens: int = min(memory.sequence_tokens, llama_cpp.llama_n_ctx_seq(self._context))
        self._adapter: str | None = None
        self._batch = _Batch(self.batch_tokens)
        self._copies: list[NDArray[np.float32]] = []

    def close(self) -> None:
        """Gives the memory back; nothing of this can be used afterwards."""
        if self._context:
            llama_cpp.llama_free(self._context)
        if self._model and self._owner is None:
            llama_cpp.llama_model_free(self._model)  # its adapters go with it
        self._context = self._model = None
        self._adapters.clear()

    # -- facts of the file ------------------------------------------------------------------------------------

    @property
    def vocabulary(self) -> Any:
        """The pointer that llguidance makes its tokenizer of."""
        return self._vocabulary

    @property
    def adapters(self) -> frozenset[str]:
        return frozenset(self._adapters)

    def metadata(self, key: str) -> str | None:
        """The GGUF value of `key` as text, or None."""
        self._check_open()
        size = 65536
        buffer = ctypes.create_string_buffer(size)
        length = llama_cpp.llama_model_meta_val_str(self._model, key.encode(), buffer, size)
        return buffer.value.decode("utf-8", "replace") if length >= 0 else None

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of `text` without a begin mark; `special`: reserved tokens written in the text are recognised."""
        self._check_open()
        data = text.encode()
        room = len(data) + 8
        buffer = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self._vocabulary, data, len(data), buffer, room, False, special)
        if count < 0:
            raise InvalidInput("llama.cpp cannot tokenize the text")
        return list(buffer[:count])

    def piece(self, token: int) -> bytes:
        """The bytes that `token` writes, reserved tokens included."""
        self._check_open()
        size = 512
        buffer = ctypes.create_string_buffer(size)
        length = llama_cpp.llama_token_to_piece(self._vocabulary, token, buffer, size, 0, True)
        return buffer.raw[: max(length, 0)]

    def _check_open(self) -> None:
        if not self._model:
            raise Unavailable("the model is closed")

    def ends(self, token: int) -> bool:
        """Does `token` end a text (end of sequence, of turn, of message)?"""
        return bool(llama_cpp.llama_vocab_is_eog(self._vocabulary, token))

    # -- the KV cache -----------------------------------------------------------------------------------------

    def use(self, adapter: str | None) -> None:
        """What follows is decoded with `adapter`; None: by the base model alone."""
        if adapter == self._adapter:
            return
        chosen = [self._adapters[adapter]] if adapter is not None else []
        pointers = (llama_cpp.llama_adapter_lora_p_ctypes * len(chosen))(*chosen)
        scales = (ctypes.c_float * len(chosen))(*[1.0] * len(chosen))
        if llama_cpp.llama_set_adapters_lora(self._context, pointers, len(chosen), scales):
            raise ModelOutputError(f"llama.cpp cannot switch to adapter {adapter}")
        self._adapter = adapter

    def decode(self, parts: Sequence[Part]) -> list[int]:
        """Puts `parts` through the model; together at most `batch_tokens`.

        Where to find the logits (`logits`), for the parts that wanted them, in their order. On a GPU this returns
        before the work is done. Raises NoCells (nothing of them is in the cache then), ModelOutputError.
        """
        self._copies.clear()
        if self.unified:
            return self._decode(parts)
        # llama.cpp cuts parts of unequal length to the shortest, and attention over one token is rounded differently from
        # that over several: what a sequence is told would depend on its neighbours. Pieces of one length are not cut.
        pieces = [piece for part in parts for piece in self._pieces(part)]
        places: dict[int, int] = {}
        done: list[Part] = []
        for group in self._groups(pieces):
            try:
                found = self._decode(group)
            except NoCells:
                for part in done:
                    self.keep(part.sequence, next(p.position for p in parts if p.sequence == part.sequence))
                raise
            done += group
            for part, place in zip((part for part in group if part.logits), found, strict=True):
                # The next group overwrites them.
                places[part.sequence] = len(self._copies)
                self._copies.append(self._scores(place).copy())
        return [places[part.sequence] for part in parts if part.logits]

    def _decode(self, parts: Sequence[Part]) -> list[int]:
        places = self._batch.fill(parts)
        status = llama_cpp.llama_decode(self._context, self._batch.struct)
        if status == _NO_CELLS:
            raise NoCells
        if status != 0:
            raise ModelOutputError(f"llama_decode returned {status}")
        return places

    def _pieces(self, part: Part) -> Iterator[Part]:
        """As much as llama.cpp decodes at once, from the beginning of the part on."""
        for start in range(0, len(part.tokens), self.piece_tokens):
            tokens = part.tokens[start : start + self.piece_tokens]
            last = start + len(tokens) == len(part.tokens)
            yield Part(part.sequence, part.position + start, tokens, part.logits and last)

    def _groups(self, pieces: Sequence[Part]) -> Iterator[list[Part]]:
        """Pieces of one length and of different sequences, each sequence's in order, as many as are decoded at once."""
        waiting = list(pieces)
        while waiting:
            # The first pieces of the sequences; whole ones before the ends that come behind them.
            first: dict[int, Part] = {}
            for piece in waiting:
                first.setdefault(piece.sequence, piece)
            length = max(len(piece.tokens) for piece in first.values())
            group = [piece for piece in first.values() if len(piece.tokens) == length]
            group = group[: max(1, self.piece_tokens // length)]
            yield group
            waiting = [piece for piece in waiting if piece not in group]

    def logits(self, place: int) -> NDArray[np.float32]:
        """Scores of all tokens; a view that the next `decode` overwrites. Waits for the GPU."""
        return self._scores(place) if self.unified else self._copies[place]

    def _scores(self, place: int) -> NDArray[np.float32]:
        pointer = llama_cpp.llama_get_logits_ith(self._context, place)
        return np.ctypeslib.as_array(pointer, shape=(self.vocabulary_size,))

    def keep(self, sequence: int, tokens: int) -> None:
        """Forgets all but the first `tokens` of `sequence`."""
        llama_cpp.llama_memory_seq_rm(self._memory, sequence, tokens, -1)

    def share(self, source: int, target: int, tokens: int) -> None:
        """The first `tokens` of `source` are also those of the empty sequence `target`; costs no room.

        In a unified cache only.
        """
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, 0, tokens)

    def clear(self) -> None:
        llama_cpp.llama_memory_clear(self._memory, True)


class _Batch:
    """llama_batch on arrays of numpy: filling it costs a few assignments a sequence instead of five a token."""

    def __init__(self, tokens: int) -> None:
        self._token = np.zeros(tokens, np.int32)
        self._position = np.zeros(tokens, np.int32)
        self._count = np.ones(tokens, np.int32)
        self._sequence = np.zeros(tokens, np.int32)
        self._logits = np.zeros(tokens, np.int8)
        start = self._sequence.ctypes.data
        self._pointers = np.arange(start, start + 4 * tokens, 4, dtype=np.uintp)
        sequence_p = ctypes.POINTER(llama_cpp.llama_seq_id)
        self.struct = llama_cpp.llama_batch(
            n_tokens=0,
            token=self._token.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token)),
            embd=None,
            pos=self._position.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_pos)),
            n_seq_id=self._count.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            seq_id=self._pointers.ctypes.data_as(ctypes.POINTER(sequence_p)),
            logits=self._logits.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    def fill(self, parts: Sequence[Part]) -> list[int]:
        """The places of the tokens whose logits are wanted."""
        at = 0
        places: list[int] = []
        for part in parts:
            end = at + len(part.tokens)
            self._token[at:end] = part.tokens
            self._position[at:end] = np.arange(part.position, part.position + end - at, dtype=np.int32)
            self._sequence[at:end] = part.sequence
            self._logits[at:end] = 0
            if part.logits:
                self._logits[end - 1] = 1
                places.append(end - 1)
            at = end
        self.struct.n_tokens = at
        return places


def gpus() -> dict[str, int]:
    """Free bytes of each GPU that llama.cpp was built for and finds."""
    llama_cpp.llama_backend_init()
    size_p = ctypes.POINTER(ctypes.c_size_t)
    libggml.ggml_backend_dev_count.restype = ctypes.c_size_t
    libggml.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    libggml.ggml_backend_dev_get.restype = ctypes.c_void_p
    libggml.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    libggml.ggml_backend_dev_name.argtypes = [ctypes.c_void_p]
    libggml.ggml_backend_dev_name.restype = ctypes.c_char_p
    libggml.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p, size_p, size_p]
    found: dict[str, int] = {}
    for number in range(libggml.ggml_backend_dev_count()):
        device = libggml.ggml_backend_dev_get(number)
        if libggml.ggml_backend_dev_type(device) == _GPU:
            free, total = ctypes.c_size_t(), ctypes.c_size_t()
            libggml.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
            found[libggml.ggml_backend_dev_name(device).decode()] = free.value
    return found


@functools.cache
def _quiet() -> None:
    """llama.cpp writes its log to standard error; only errors are kept, and they hold no text of notes.

    Called before llama.cpp is; the callback lives as long as the process, since llama.cpp keeps its address.
    """
    log = logging.getLogger(__name__)

    def callback(level: int, text: bytes, _: Any) -> None:
        if level == 4:  # GGML_LOG_LEVEL_ERROR; 5 continues the line before (ggml.h)
            log.error("llama.cpp: %s", text.decode("utf-8", "replace").strip())

    _KEPT.append(llama_cpp.llama_log_callback(callback))
    llama_cpp.llama_log_set(_KEPT[0], ctypes.c_void_p(0))


_KEPT: list[Any] = []
