"""Writes GGUF files tensor by tensor, so that a model need not fit into memory."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gguf
import llama_cpp
import numpy as np
from numpy.typing import NDArray

from app.generation.modelfile import read_model_file
from app.generation.registry import adapter_misfit

Type = Literal["f32", "f16", "q8_0"]
_TYPES = {
    "f32": gguf.GGMLQuantizationType.F32,
    "f16": gguf.GGMLQuantizationType.F16,
    "q8_0": gguf.GGMLQuantizationType.Q8_0,
}


@dataclass(frozen=True)
class Tensor:
    """`shape`: rows, then what a row reads. `load` returns it in 32-bit numbers when its turn comes."""

    name: str
    shape: tuple[int, ...]
    load: Callable[[], NDArray[np.float32]]


@dataclass(frozen=True)
class Vocabulary:
    """A byte-level BPE: `tokens` by number, `control` those that are marks and no text, `merges` "left right"."""

    tokens: Sequence[str]
    control: frozenset[str]
    merges: Sequence[str]
    pre: str

    def write(self, writer: Any) -> None:
        kinds = gguf.TokenType
        writer.add_vocab_size(len(self.tokens))
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(list(self.tokens))
        writer.add_token_types([kinds.CONTROL if token in self.control else kinds.NORMAL for token in self.tokens])
        writer.add_token_merges(list(self.merges))


def vocabulary(tokenizer: dict[str, Any], control: frozenset[str], pre: str, size: int | None = None) -> Vocabulary:
    """From the content of a tokenizer.json. `size`: rows of the embedding where they are more than the tokens.

    Raises ValueError for a tokenizer that is no byte-level BPE.
    """
    model = tokenizer["model"]
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        raise ValueError("only byte-level BPE tokenizers can be exported")
    numbers = dict(model["vocab"]) | {added["content"]: added["id"] for added in tokenizer.get("added_tokens", [])}
    tokens = [f"[PAD{n}]" for n in range(max(size or 0, max(numbers.values()) + 1))]
    for token, number in numbers.items():
        tokens[number] = token
    unused = frozenset(tokens) - numbers.keys()
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return Vocabulary(tokens, control | unused, merges, pre)


def write(path: Path, architecture: str, tensors: Sequence[Tensor], weights: Type, describe: Callable[[Any], None]) -> None:
    """Vectors are written as f32, matrices as `weights` (f16 where their rows are no multiple of its block).

    `describe` adds the metadata to the writer. The file appears whole or not at all.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    writer = gguf.GGUFWriter(part, architecture)
    describe(writer)
    kinds = [_kind(tensor, weights) for tensor in tensors]
    for tensor, kind in zip(tensors, kinds, strict=True):
        block, size = gguf.GGML_QUANT_SIZES[kind]
        *rows, columns = tensor.shape
        count = int(np.prod(rows, dtype=np.int64)) * columns // block * size
        stored = (*rows, columns // block * size) if kind is _TYPES["q8_0"] else tensor.shape
        bits = {"f32": np.float32, "f16": np.float16, "q8_0": np.uint8}[kind.name.lower()]
        writer.add_tensor_info(tensor.name, stored, np.dtype(bits), count, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor, kind in zip(tensors, kinds, strict=True):
        writer.write_tensor_data(gguf.quants.quantize(np.ascontiguousarray(tensor.load()), kind))
    writer.close()
    os.replace(part, path)


def _kind(tensor: Tensor, weights: Type) -> Any:
    if len(tensor.shape) == 1:
        return _TYPES["f32"]
    block, _ = gguf.GGML_QUANT_SIZES[_TYPES[weights]]
    return _TYPES[weights] if tensor.shape[-1] % block == 0 else _TYPES["f16"]


def write_lora(
    path: Path, architecture: str, factors: Mapping[str, NDArray[np.float32]], alpha: float, *,
    name: str, form: str | None = None, base: Path | None = None, weights: Type = "f32",
) -> None:  # fmt: skip
    """A LoRA adapter. `factors`: blk.0.attn_q.weight.lora_a (rank, inputs), ….lora_b (outputs, rank) and so on; llama.cpp
    multiplies their product by `alpha` / rank. `form`: what it is trained to write, as key `hyojun.form`. `base`: the GGUF
    that it has to fit. Raises ValueError where it does not."""

    def describe(writer: Any) -> None:
        writer.add_name(name)
        writer.add_string("general.type", "adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", alpha)
        if form:
            writer.add_string("hyojun.form", form)

    tensors = [Tensor(key, rows.shape, _given(rows)) for key, rows in factors.items()]
    write(path, architecture, tensors, weights, describe)
    if base and (reason := adapter_misfit(path, base, read_model_file(base))):
        path.unlink()
        raise ValueError(reason)


def _given(rows: NDArray[np.float32]) -> Callable[[], NDArray[np.float32]]:
    return lambda: rows


def quantize(source: Path, target: Path, *, threads: int = 0) -> None:
    """`source` (f16 or f32) as Q4_K_M, by llama.cpp. `threads` 0: all. Raises ValueError where llama.cpp refuses."""
    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M
    options.nthread = threads
    part = target.with_name(target.name + ".part")
    target.parent.mkdir(parents=True, exist_ok=True)
    if llama_cpp.llama_model_quantize(str(source).encode(), str(part).encode(), options):
        part.unlink(missing_ok=True)
        raise ValueError(f"llama.cpp cannot quantize {source}")
    os.replace(part, target)
