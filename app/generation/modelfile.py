"""What a GGUF file says of itself in its header. No weights are read, and no library of models is needed.

Source: ggml/docs/gguf.md, versions 2 and 3 (little-endian).
"""

import mmap
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from app.errors import InvalidInput, Unavailable

Scalar: TypeAlias = str | int | float | bool
Metadata: TypeAlias = Mapping[str, Scalar | list[int | float | bool]]

# enum gguf_metadata_value_type: format of struct, by number; 8 is a string, 9 an array.
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_LONGEST_LIST = 1024
"""Longer lists of numbers (token types, scores) are passed over, as lists of texts are: they are the vocabulary's."""
_MOST_ENTRIES = 1_000_000
_MOST_ITEMS = 10_000_000
_PART = re.compile(r"-00001-of-(\d{5})\.gguf$")  # llama_split_path in llama.h


@dataclass(frozen=True)
class Tensor:
    """`shape`: the fastest dimension first, as GGUF writes it. `type`: enum ggml_type of ggml.h."""

    shape: tuple[int, ...]
    type: int


@dataclass(frozen=True)
class ModelFile:
    """`paths`: the file, and the other parts of a split one. `size`: bytes of all of them. `tensors`: of the first part
    alone. `metadata`: without lists of texts and very long lists of numbers."""

    paths: tuple[Path, ...]
    size: int
    metadata: Metadata
    tensors: Mapping[str, Tensor]

    def text(self, key: str) -> str | None:
        """The text of `key`, or None where it is not there or no text."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None

    def number(self, key: str) -> int | None:
        value = self.metadata.get(key)
        return value if isinstance(value, int) else None

    def numbers(self, key: str, count: int) -> list[int] | None:
        """`count` numbers of a key that holds as many, or one for all."""
        value = self.metadata.get(key)
        if isinstance(value, int):
            return [value] * count
        if isinstance(value, list) and len(value) == count:
            return [int(number) for number in value]
        return None

    @property
    def architecture(self) -> str:
        """`general.architecture`; empty where the file does not say."""
        return self.text("general.architecture") or ""

    def head_lengths(self) -> tuple[int, int] | None:
        """Numbers that one attention head keeps of a token, as key and as value; None: the file does not say."""
        kind, layers = self.architecture, self.number(f"{self.architecture}.block_count")
        heads = self.numbers(f"{kind}.attention.head_count", layers or 0)
        width = self.number(f"{kind}.embedding_length")
        if not heads or not width or not max(heads):
            return None
        usual = width // max(heads)
        key, value = (self.number(f"{kind}.attention.{part}_length") for part in ("key", "value"))
        return key or usual, value or usual


def parts(path: Path) -> tuple[Path, ...]:
    """`path`, and the other parts of the model where `path` is the first of several."""
    match = _PART.search(path.name)
    if match is None:
        return (path,)
    stem = path.name[: match.start()]
    return tuple(path.with_name(f"{stem}-{n:05}-of-{match[1]}.gguf") for n in range(1, int(match[1]) + 1))


def read_model_file(path: Path) -> ModelFile:
    """Raises Unavailable when a part is not there or cannot be read, InvalidInput when `path` is no GGUF file or is cut
    off."""
    paths = parts(path)
    for part in paths:
        if not part.is_file():
            raise Unavailable(f"{part} is not there")
    try:
        size = sum(part.stat().st_size for part in paths)
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise InvalidInput(f"{path} is not a GGUF file")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                metadata, tensors = _Header(data).read()
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}") from None
    except _Damaged as damage:
        raise InvalidInput(f"{path} is damaged: {damage}") from None
    except (struct.error, UnicodeDecodeError, KeyError, RecursionError):
        raise InvalidInput(f"{path} is damaged, or cut off in its header; copy it again") from None
    return ModelFile(paths, size, metadata, tensors)


class _Damaged(Exception):
    pass


class _Header:
    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = 4

    def read(self) -> tuple[Metadata, dict[str, Tensor]]:
        version = self._number("I")
        if version not in (2, 3):
            raise _Damaged(f"its GGUF version {version} is not one of 2 and 3")
        tensor_count, key_count = self._number("Q"), self._number("Q")
        if max(tensor_count, key_count) > _MOST_ENTRIES:
            raise _Damaged("it names more keys and tensors than any model has")
        metadata: dict[str, Scalar | list[int | float | bool]] = {}
        for _ in range(key_count):
            key = self._text()
            value = self._value(self._number("I"))
            if value is not None:
                metadata[key] = value
        tensors: dict[str, Tensor] = {}
        last = 0
        for _ in range(tensor_count):
            name = self._text()
            shape = tuple(self._number("Q") for _ in range(self._number("I")))
            tensors[name] = Tensor(shape, self._number("I"))
            last = max(last, self._number("Q"))
        if tensors and self._at + last >= len(self._data):
            raise _Damaged("it is cut off before the end of its weights; copy it again")
        return metadata, tensors

    def _number(self, form: str) -> int:
        (value,) = struct.unpack_from(f"<{form}", self._data, self._at)
        self._at += struct.calcsize(f"<{form}")
        return int(value)

    def _text(self) -> str:
        length = self._number("Q")
        end = self._at + length
        if end > len(self._data):
            raise _Damaged("it is cut off in its header; copy it again")
        text = self._data[self._at : end].decode()
        self._at = end
        return text

    def _value(self, kind: int) -> Scalar | list[int | float | bool] | None:
        if kind == _STRING:
            return self._text()
        if kind == _ARRAY:
            return self._list()
        (value,) = struct.unpack_from(f"<{_NUMBERS[kind]}", self._data, self._at)
        self._at += struct.calcsize(f"<{_NUMBERS[kind]}")
        assert isinstance(value, (int, float, bool))
        return value

    def _list(self) -> list[int | float | bool] | None:
        kind, count = self._number("I"), self._number("Q")
        if count > _MOST_ITEMS:
            raise _Damaged("it holds a list that is longer than any vocabulary")
        if kind in _NUMBERS:
            width = struct.calcsize(f"<{_NUMBERS[kind]}")
            start = self._at
            self._at += count * width
            if count > _LONGEST_LIST:
                return None
            return list(struct.unpack_from(f"<{count}{_NUMBERS[kind]}", self._data, start))
        for _ in range(count):
            if kind == _STRING:
                # Passed over without decoding: a vocabulary has hundreds of thousands of them.
                length = self._number("Q")
                self._at += length
                if self._at > len(self._data):
                    raise _Damaged("it is cut off in its header; copy it again")
            else:
                self._value(kind)
        return None


def misfit(adapter: ModelFile, model: ModelFile) -> str | None:
    """Why the LoRA file `adapter` cannot be laid over `model`; None: nothing speaks against it.

    Source: the checks of llama_adapter_lora_init_impl in llama-adapter.cpp, which tells its caller only that it failed.
    """
    if adapter.text("general.type") != "adapter":
        return "the file is a model, not an adapter"
    if adapter.text("adapter.type") != "lora":
        return f"its type is {adapter.text('adapter.type') or 'not given'}, not lora"
    if adapter.architecture != model.architecture:
        return f"it is made for {adapter.architecture or 'an unknown architecture'}, the model is {model.architecture}"
    # A split model names only the tensors of its first part here.
    whole = len(model.paths) == 1
    for name, down in adapter.tensors.items():
        target, mark, _ = name.partition(".lora_a")
        up = adapter.tensors.get(f"{target}.lora_b")
        if not mark or up is None:
            if not name.endswith(".lora_b") or f"{target.removesuffix('.lora_b')}.lora_a" not in adapter.tensors:
                return f"its tensor {name} is not one of a pair lora_a, lora_b"
            continue
        tensor = model.tensors.get(target)
        if tensor is None:
            if whole:
                return f"the model has no tensor {target}"
            continue
        # The embedding's factors lie the other way round.
        wanted = (up.shape[1:], down.shape[1:]) if target == "token_embd.weight" else (down.shape[:1], up.shape[1:2])
        if (tensor.shape[:1], tensor.shape[1:2]) != (wanted[0][:1], wanted[1][:1]):
            return f"{target} is {_by(tensor.shape)} in the model, {_by((*wanted[0], *wanted[1]))} in the adapter"
        if target != "token_embd.weight" and down.shape[1:2] != up.shape[:1]:
            return f"the two factors of {target} do not fit each other"
    return None


def _by(shape: tuple[int, ...]) -> str:
    return " by ".join(str(size) for size in shape)
