"""An Outlines model for llama.cpp in which the grammar works: tokens that it forces are never sampled.

One sequence at a time. Each step asks llguidance which tokens may come; while there is only one, it is taken without
running the model; then all tokens taken since the last step are decoded in one batch and one token is chosen from the
logits of the last. Greedy by default; with a temperature, sampling is seeded and repeatable.
"""

import ctypes
import functools
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp
import llguidance
import llguidance.llamacpp
import llguidance.numpy
import numpy as np
from llguidance import LLMatcher
from numpy.typing import NDArray
from outlines.models.base import Model, ModelTypeAdapter
from outlines.types import CFG

from app.errors import InvalidInput, ModelOutputError, TooLong, Unavailable


@dataclass(frozen=True)
class Generated:
    """Text that obeys the grammar. `choices`: (characters written before it, natural log of its probability among
    the allowed tokens) of every token that was chosen, in order; forced tokens are left out."""

    text: str
    choices: tuple[tuple[int, float], ...]
    prompt_tokens: int
    sampled_tokens: int
    forced_tokens: int
    seconds: float


class GrammarAdapter(ModelTypeAdapter):
    """Prompts are text or token ids; the only output type is `outlines.types.CFG` in llguidance's Lark dialect."""

    def format_input(self, model_input: Any) -> Any:
        if isinstance(model_input, str) or all(isinstance(i, int) for i in model_input):
            return model_input
        raise TypeError("a prompt is a string or a list of token ids")

    def format_output_type(self, output_type: Any = None) -> str:
        if not isinstance(output_type, CFG):
            raise TypeError("output_type must be an outlines.types.CFG")
        return str(llguidance.grammar_from("lark", output_type.definition))


class LlamaCpp(Model):
    """A GGUF file opened by llama.cpp, on the CPU or with `gpu_layers` layers on a GPU (-1: all).

    `context_tokens` bounds prompt and output of one generation together. Not thread-safe: one generation at a time.
    Raises Unavailable when the file cannot be opened.
    """

    tensor_library_name = "numpy"

    def __init__(self, path: Path, *, context_tokens: int = 8192, threads: int = 2, gpu_layers: int = 0) -> None:
        self.path = path
        self.context_tokens = context_tokens
        self.type_adapter = GrammarAdapter()
        if not path.is_file():
            raise Unavailable(f"model file {path} is not there")
        _quiet()
        llama_cpp.llama_backend_init()
        parameters = llama_cpp.llama_model_default_params()
        parameters.n_gpu_layers = gpu_layers if gpu_layers >= 0 else 1_000_000
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        if not self._model:
            raise Unavailable(f"llama.cpp cannot open the model file {path}")
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = context_tokens
        options.n_batch = self._batch_size = min(2048, context_tokens)
        options.n_ubatch = 512
        options.n_seq_max = 1
        options.n_threads = options.n_threads_batch = threads
        self._context = llama_cpp.llama_init_from_model(self._model, options)
        if not self._context:
            raise Unavailable(f"no memory for a context of {context_tokens} tokens")
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self.vocabulary_size: int = llama_cpp.llama_vocab_n_tokens(self._vocabulary)
        self._batch = llama_cpp.llama_batch_init(self._batch_size, 0, 1)
        self._tokenizer = llguidance.llamacpp.lltokenizer_from_vocab(self._vocabulary)
        self.begin_token: int = llama_cpp.llama_vocab_bos(self._vocabulary)
        self.begin_text = self.piece(self.begin_token).decode("utf-8", "replace") if self.begin_token >= 0 else ""
        self._mask = llguidance.numpy.allocate_token_bitmask(1, self._tokenizer.vocab_size)

    def close(self) -> None:
        """Gives the memory back; the model cannot be used afterwards."""
        if self._context:
            llama_cpp.llama_batch_free(self._batch)
            llama_cpp.llama_free(self._context)
            llama_cpp.llama_model_free(self._model)
            self._context = None

    # -- facts of the file ------------------------------------------------------------------------------------

    def metadata(self, key: str) -> str | None:
        """The GGUF value of `key` as text, or None."""
        size = 65536
        buffer = ctypes.create_string_buffer(size)
        length = llama_cpp.llama_model_meta_val_str(self._model, key.encode(), buffer, size)
        return buffer.value.decode("utf-8", "replace") if length >= 0 else None

    def chat_template(self) -> str | None:
        """The chat template (Jinja) that the GGUF carries, or None."""
        return self.metadata("tokenizer.chat_template")

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of `text` without a begin mark; `special`: reserved tokens written in the text are recognised."""
        data = text.encode()
        room = len(data) + 8
        buffer = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self._vocabulary, data, len(data), buffer, room, False, special)
        if count < 0:
            raise InvalidInput("llama.cpp cannot tokenize the text")
        return list(buffer[:count])

    def piece(self, token: int) -> bytes:
        """The bytes that `token` writes, reserved tokens included."""
        size = 512
        buffer = ctypes.create_string_buffer(size)
        length = llama_cpp.llama_token_to_piece(self._vocabulary, token, buffer, size, 0, True)
        return buffer.raw[: max(length, 0)]

    # -- generation -------------------------------------------------------------------------------------------

    def generate(self, model_input: str | list[int], output_type: CFG | None = None, **options: Any) -> str:
        """Outlines' face: the text alone. Options as for `write`."""
        return self.write(model_input, self.type_adapter.format_output_type(output_type), **options).text

    def generate_batch(self, model_input: Any, output_type: Any = None, **options: Any) -> list[str]:
        """One after the other; `output_type` one for all or one each."""
        types = output_type if isinstance(output_type, list) else [output_type] * len(model_input)
        return [self.generate(i, t, **options) for i, t in zip(model_input, types, strict=True)]

    def generate_stream(self, model_input: Any, output_type: Any = None, **options: Any) -> Iterator[str]:
        """The text in one piece: a note's output is of use only when it is whole."""
        yield self.generate(model_input, output_type, **options)

    def write(
        self,
        prompt: str | list[int],
        grammar: str,
        *,
        temperature: float = 0.0,
        seed: int = 0,
        max_seconds: float | None = None,
    ) -> Generated:
        """Generates until the grammar ends.

        `grammar`: serialized by `llguidance.grammar_from`. `temperature` 0 is greedy.
        Raises TooLong when prompt and output do not fit `context_tokens`, Unavailable when `max_seconds` are over,
        ModelOutputError when llama.cpp or the matcher fails.
        """
        started = time.monotonic()
        random = np.random.default_rng(seed)
        todo = list(prompt) if isinstance(prompt, list) else self.tokenize(prompt, special=True)
        if not todo:
            raise InvalidInput("the prompt is empty")
        prompt_tokens = len(todo)
        matcher = LLMatcher(self._tokenizer, grammar)
        if matcher.is_error():
            raise InvalidInput("llguidance refuses the grammar")
        llama_cpp.llama_memory_clear(self._memory, True)
        written = bytearray()
        choices: list[tuple[int, float]] = []
        characters = position = forced = 0
        while not matcher.is_stopped():
            llguidance.numpy.fill_next_token_bitmask(matcher, self._mask)
            only = _only(self._mask[0])
            if only is None:
                if position + len(todo) >= self.context_tokens:
                    raise TooLong(f"prompt and output exceed the model's context of {self.context_tokens} tokens")
                position = self._decode(todo, position)
                token, logarithm = self._choose(temperature, random)
                choices.append((characters, logarithm))
                todo = []
            else:
                token = only
                forced += 1
            if not matcher.consume_token(token):
                raise ModelOutputError("the grammar refused a token that its own mask allowed")
            todo.append(token)
            piece = self.piece(token)
            if token != self._tokenizer.eos_token:
                written += piece
                # Bytes of a character that is not complete yet are counted with its last byte.
                characters += sum(1 for byte in piece if byte & 0xC0 != 0x80)
            if max_seconds is not None and time.monotonic() - started > max_seconds:
                raise Unavailable(f"the model took longer than {max_seconds:g} s")
        if matcher.is_error():
            raise ModelOutputError("llguidance stopped with an error")
        return Generated(
            written.decode("utf-8", "replace"),
            tuple(choices),
            prompt_tokens,
            len(choices),
            forced,
            time.monotonic() - started,
        )

    def _decode(self, tokens: list[int], position: int) -> int:
        """Puts `tokens` through the model from `position` on; logits are kept for the last. Returns the next position."""
        batch = self._batch
        for start in range(0, len(tokens), self._batch_size):
            part = tokens[start : start + self._batch_size]
            for i, token in enumerate(part):
                batch.token[i] = token
                batch.pos[i] = position + i
                batch.n_seq_id[i] = 1
                batch.seq_id[i][0] = 0
                batch.logits[i] = False
            batch.logits[len(part) - 1] = True
            batch.n_tokens = len(part)
            status = llama_cpp.llama_decode(self._context, batch)
            if status != 0:
                raise ModelOutputError(f"llama_decode returned {status}")
            position += len(part)
        return position

    def _choose(self, temperature: float, random: np.random.Generator) -> tuple[int, float]:
        pointer = llama_cpp.llama_get_logits_ith(self._context, -1)
        logits: NDArray[np.float32] = np.ctypeslib.as_array(pointer, shape=(self.vocabulary_size,))
        allowed = np.unpackbits(self._mask[0].view(np.uint8), bitorder="little")[: self.vocabulary_size]
        ids = np.flatnonzero(allowed)
        if not len(ids):
            raise ModelOutputError("the grammar allows no token")
        scores = logits[ids].astype(np.float64)
        scores -= scores.max()
        logs = scores - np.log(np.exp(scores).sum())
        if temperature > 0:
            weights = np.exp((logs - logs.max()) / temperature)
            index = int(random.choice(len(ids), p=weights / weights.sum()))
        else:
            index = int(logs.argmax())
        return int(ids[index]), float(logs[index])


def _only(mask: NDArray[np.int32]) -> int | None:
    """The one token that `mask` (32 tokens a word) allows, or None when it allows more."""
    words = np.flatnonzero(mask)
    if len(words) != 1:
        return None
    word = int(mask[words[0]]) & 0xFFFFFFFF
    if word & (word - 1):
        return None
    return int(words[0]) * 32 + word.bit_length() - 1


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
