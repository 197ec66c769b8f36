"""GGUF files of real shapes with random weights: the speed of a model can be measured without the model.

Architecture qwen2. A file is written tensor by tensor from a pattern of random blocks, so that a model of 47 GB takes
memory for 50 MB and as long as the disk does. The vocabulary is a byte-level BPE of the size of Qwen2.5's, trained on
synthetic notes and filled up with made-up words; prompts and masks cost what they cost with the real one.

Source of the shapes: config.json of Qwen2.5-0.5B, -7B and -72B-Instruct. Source of the types of "q4_k_m":
llama_tensor_get_type in llama.cpp's llama-quant.cpp.
"""

import json
import math
import random
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from training.corpus.frame import note
from training.corpus.names import Names

_VERSION = 1
"""Part of the file's name: a file of another version is written anew."""


@dataclass(frozen=True)
class Shape:
    """`tokens`: those of the tokenizer, special ones included; the vocabulary is filled up with unused ones to
    `vocabulary`. `tied`: the embedding is the output matrix too."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocabulary: int
    tied: bool = False
    tokens: int = 151_665
    notes: int = 3_000

    @property
    def head(self) -> int:
        return self.width // self.heads


SHAPES = {
    "tiny-152k": Shape(64, 2, 2, 2, 128, 151_936, tied=True),
    "qwen2.5-0.5b": Shape(896, 24, 14, 2, 4864, 151_936, tied=True),
    "qwen2.5-7b": Shape(3584, 28, 28, 4, 18944, 152_064),
    "qwen2.5-72b": Shape(8192, 80, 64, 8, 29568, 152_064),
}
QUANTS = ("q4_k_m", "q8_0")

_MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def cached(name: str, quant: str, folder: Path) -> Path:
    """The file of shape `name` in `folder`, written when it is not there. Raises OSError when the disk is too small."""
    path = folder / f"{name}-{quant}-{_VERSION}.gguf"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        try:
            write(part, SHAPES[name], quant, name=name)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    return path


def write(path: Path, shape: Shape, quant: str = "q4_k_m", *, name: str = "random", seed: int = 1) -> None:
    """The same file for the same arguments."""
    tokens, merges = vocabulary(shape.tokens, shape.notes, seed)
    specials = [*_MARKS, *(f"<|special_{n}|>" for n in range(shape.tokens - len(tokens) - len(_MARKS)))]
    unused = [f"[PAD{n}]" for n in range(shape.tokens, shape.vocabulary)]
    kinds = gguf.TokenType
    types = [kinds.NORMAL] * len(tokens) + [kinds.CONTROL] * len(specials) + [kinds.UNUSED] * len(unused)
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_name(name)
    writer.add_context_length(32_768)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1_000_000.0)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([*tokens, *specials, *unused])
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_add_bos_token(False)
    writer.add_bos_token_id(len(tokens))
    writer.add_eos_token_id(len(tokens) + _MARKS.index("<|im_end|>"))
    writer.add_pad_token_id(len(tokens))
    writer.add_chat_template(_CHATML)
    planned = list(_tensors(shape, quant))
    for tensor in planned:
        as_floats = tensor.type is Type.F32
        kind = np.float32 if as_floats else np.uint8
        bytes_shape = tensor.shape if as_floats else (tensor.shape[0], tensor.bytes // tensor.shape[0])
        writer.add_tensor_info(tensor.name, bytes_shape, np.dtype(kind), tensor.bytes, raw_dtype=tensor.type)
    total = sum(tensor.bytes for tensor in planned)
    if shutil.disk_usage(path.parent).free < total + 2**28:
        raise OSError(f"{path.parent} has no room for {total / 1e9:.1f} GB")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    file: BinaryIO = writer.fout[0]
    writer.write_padding(file, file.tell())
    patterns = _Patterns(shape.vocabulary, seed)
    for tensor in planned:
        patterns.write(tensor, file)
        writer.write_padding(file, tensor.bytes)
    writer.close()


# -- tensors ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Tensor:
    """`shape` as numpy has it: rows, then what a row reads."""

    name: str
    shape: tuple[int, ...]
    type: Type

    @property
    def bytes(self) -> int:
        block, size = gguf.GGML_QUANT_SIZES[self.type]
        return math.prod(self.shape) // block * int(size)


def _tensors(shape: Shape, quant: str) -> Iterator[_Tensor]:
    width, keys = shape.width, shape.kv_heads * shape.head

    def matrix(name: str, rows: int, columns: int, *, fine: bool = False) -> _Tensor:
        if quant == "q8_0":
            return _Tensor(f"{name}.weight", (rows, columns), Type.Q8_0)
        if columns % 256 == 0:
            return _Tensor(f"{name}.weight", (rows, columns), Type.Q6_K if fine else Type.Q4_K)
        # Rows that are no multiple of 256: llama-quantize falls back to blocks of 32.
        return _Tensor(f"{name}.weight", (rows, columns), Type.Q8_0 if fine else Type.Q5_0)

    yield matrix("token_embd", shape.vocabulary, width, fine=shape.tied)
    for layer in range(shape.layers):
        # "Medium": every third layer in the middle, and all at both ends, are finer.
        eighth = shape.layers // 8
        fine = layer < eighth or layer >= 7 * shape.layers // 8 or (layer - eighth) % 3 == 2
        at = f"blk.{layer}"
        yield _Tensor(f"{at}.attn_norm.weight", (width,), Type.F32)
        for part, rows in (("q", width), ("k", keys), ("v", keys)):
            yield matrix(f"{at}.attn_{part}", rows, width, fine=fine and part == "v")
            yield _Tensor(f"{at}.attn_{part}.bias", (rows,), Type.F32)
        yield matrix(f"{at}.attn_output", width, width)
        yield _Tensor(f"{at}.ffn_norm.weight", (width,), Type.F32)
        yield matrix(f"{at}.ffn_gate", shape.feed_forward, width)
        yield matrix(f"{at}.ffn_up", shape.feed_forward, width)
        yield matrix(f"{at}.ffn_down", width, shape.feed_forward, fine=fine)
    yield _Tensor("output_norm.weight", (width,), Type.F32)
    if not shape.tied:
        yield matrix("output", shape.vocabulary, width, fine=True)


class _Patterns:
    """Random blocks, repeated through the tensors.

    A pattern has a prime number of blocks, more than any tensor has rows: so no two rows of a tensor begin at the same
    block, no two tokens have the same score, and greedy choices are no ties.
    """

    def __init__(self, rows: int, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._blocks = next(n for n in range(rows + 1, 2 * rows + 2) if all(n % d for d in range(2, int(n**0.5) + 1)))
        self._made: dict[tuple[Type, int], NDArray[np.uint8]] = {}

    def write(self, tensor: _Tensor, file: BinaryIO) -> None:
        if tensor.type is Type.F32:
            drawn = np.ones(tensor.shape) if "norm" in tensor.name else self._random.normal(0, 0.1, tensor.shape)
            file.write(drawn.astype("<f4").tobytes())
            return
        key = tensor.type, tensor.shape[1]
        if key not in self._made:
            self._made[key] = _blocks(tensor.type, self._blocks, 1 / tensor.shape[1] ** 0.5, self._random)
        pattern = self._made[key]
        left = tensor.bytes
        start = int(self._random.integers(self._blocks)) * pattern.shape[1]
        data = memoryview(pattern.data).cast("B")
        while left:
            piece = data[start : start + left]
            file.write(piece)
            left -= len(piece)
            start = 0


def _blocks(kind: Type, count: int, deviation: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """`count` blocks of random weights, of mean 0 and about `deviation`; a row of the result is a block.

    Source of the layouts: block_q4_K, block_q6_K, block_q5_0 and block_q8_0 in llama.cpp's ggml-common.h.
    """
    made = rng.integers(0, 256, (count, gguf.GGML_QUANT_SIZES[kind][1]), np.uint8)

    def half(at: int, value: float) -> None:
        made[:, at : at + 2] = np.frombuffer(np.array([value], "<f2").tobytes(), np.uint8)

    if kind is Type.Q4_K:
        # d * scale * q - dmin * min: q is 0..15 around 7.5, and so is dmin where each scale equals its min.
        scale = 32
        half(0, deviation / (scale * 4.61))
        half(2, deviation / (scale * 4.61) * 7.5)
        low, high = scale & 0x3F, (scale & 0x0F) | (scale & 0x0F) << 4
        # Six bits each: four scales, four mins, then the low halves of the other four with their upper bits above.
        made[:, 4:12] = low | (scale >> 4) << 6
        made[:, 12:16] = high
    elif kind is Type.Q6_K:
        # d * scale * (q - 32), q is 0..63; scales of either sign keep the mean at 0.
        made[:, 192:208] = rng.choice(np.array([-32, 32], np.int8), (count, 16)).view(np.uint8)
        half(208, deviation / (32 * 18.5))
    elif kind is Type.Q5_0:
        half(0, deviation / 9.2)  # d * (q - 16), q is 0..31
    elif kind is Type.Q8_0:
        half(0, deviation / 73.9)  # d * q, q is -128..127
    else:
        raise ValueError(kind)
    return made


# -- vocabulary -------------------------------------------------------------------------------------------------------

# How Qwen's tokenizers cut a text before merging (tokenizer.json of Qwen2.5).
_PRE = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def vocabulary(size: int, notes: int, seed: int) -> tuple[list[str], list[str]]:
    """Tokens, in the letters that stand for bytes, and merges, of a byte-level BPE with `size` tokens at most, special
    ones not counted in: trained on `notes` synthetic notes, then random words of kanji, kana and Latin syllables."""
    rng = random.Random(seed)
    names = Names()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_PRE), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    wanted = size - 22  # Qwen2.5 has 22 special tokens
    trainer = trainers.BpeTrainer(
        vocab_size=wanted, initial_alphabet=alphabet, show_progress=False, max_token_length=24
    )
    texts = ("\n".join(line.text for line in note(rng, names)[1]) for _ in range(notes))
    tokenizer.train_from_iterator(texts, trainer)
    known = tokenizer.get_vocab()
    tokens = sorted(known, key=known.__getitem__)
    merges = [" ".join(pair) for pair in _merges(tokenizer)]
    have = set(tokens)

    def add(first: str, second: str) -> str:
        if first + second not in have:
            have.add(first + second)
            tokens.append(first + second)
            merges.append(f"{first} {second}")
        return first + second

    letter = dict(zip(_BYTES, _letters(), strict=True))
    words: list[str] = []
    for character in _characters():
        if len(tokens) >= wanted:
            break
        first, *others = (letter[byte] for byte in character.encode())
        for other in others:
            first = add(first, other)
        words.append(first)
    consonants, vowels = "bcdfghjklmnpqrstvwxyz", "aeiou"
    syllables = [add(c, v) for c in consonants for v in vowels if len(tokens) < wanted]
    spaced = [add("\u0120", syllable) for syllable in syllables if len(tokens) < wanted]
    while len(tokens) < wanted:
        if rng.random() < 0.5:
            add(rng.choice(words), rng.choice(words[:3000]))
        else:
            longer = add(rng.choice(spaced), rng.choice(syllables))
            if len(longer) < 9:
                spaced.append(longer)
    return tokens, merges


def _merges(tokenizer: Tokenizer) -> Iterable[tuple[str, str]]:
    for merge in json.loads(tokenizer.to_str())["model"]["merges"]:
        first, second = merge.split(" ") if isinstance(merge, str) else merge
        yield first, second


_BYTES = range(256)


def _letters() -> list[str]:
    """The letter that stands for each byte (GPT-2's table): printable Latin-1 as itself, the rest from U+0100 up."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in _BYTES]


def _characters() -> Iterator[str]:
    """Kana and the kanji of JIS X 0208, level 1 before level 2."""
    yield from map(chr, (*range(0x3041, 0x3097), *range(0x30A1, 0x30FD)))
    for row in range(0x30, 0x75):
        for cell in range(0x21, 0x7F):
            try:
                yield bytes((row | 0x80, cell | 0x80)).decode("euc_jp")
            except UnicodeDecodeError:
                continue  # places without a character
