"""The file of compiled profiles: a mark, a digest, msgpack. Each definition is a blob of its own, read when needed."""

import hashlib
import zlib
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from app.errors import InvalidInput, Unavailable
from app.fhir.profiles.definitions import Constraint

_MARK = b"hyojun-profiles-1\n"
_DIGEST_BYTES = 32


class Content(msgspec.Struct, frozen=True):
    packages: tuple[str, ...]
    warnings: tuple[str, ...]
    parser: str
    """Version of the FHIRPath parser that made `trees`; with another one the expressions are parsed again."""
    definitions: dict[str, bytes]
    value_sets: dict[str, bytes]
    code_systems: dict[str, bytes]
    constraints: tuple[Constraint, ...]
    trees: dict[str, bytes]
    """Expression -> its parsed tree."""


_content = msgspec.msgpack.Decoder(Content)
_T = TypeVar("_T")


def pack(value: Any) -> bytes:
    return zlib.compress(msgspec.msgpack.encode(value), 6)


def unpack(blob: bytes, kind: type[_T]) -> _T:
    return msgspec.msgpack.decode(zlib.decompress(blob), type=kind)


def encode(content: Content) -> bytes:
    body = msgspec.msgpack.encode(content)
    return _MARK + hashlib.sha256(body).digest() + body


def read(path: Path) -> tuple[Content, str]:
    """The content and its fingerprint. Raises Unavailable when the file is not there, InvalidInput when it is damaged
    or was written by another version."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise Unavailable(f"{path}: no profiles have been imported") from None
    except OSError as error:
        raise Unavailable(f"{path}: cannot be read ({error.strerror})") from None
    start = len(_MARK) + _DIGEST_BYTES
    body = data[start:]
    if not data.startswith(_MARK):
        raise InvalidInput(f"{path}: not a file of profiles of this version; import the packages again")
    if hashlib.sha256(body).digest() != data[len(_MARK) : start]:
        raise InvalidInput(f"{path}: damaged; import the packages again")
    try:
        content = _content.decode(body)
    except msgspec.DecodeError:
        raise InvalidInput(f"{path}: not a file of profiles of this version; import the packages again") from None
    return content, hashlib.sha256(data).hexdigest()[:12]
