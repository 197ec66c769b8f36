"""Models with random weights, opened once per run."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from random_model import write_compact, write_plain

from app.generation.context import Memory
from app.generation.llama import LlamaCpp


@pytest.fixture(scope="session")
def compact_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_compact(tmp_path_factory.mktemp("model") / "compact.gguf")


@pytest.fixture(scope="session")
def plain_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_plain(tmp_path_factory.mktemp("model") / "plain.gguf")


@pytest.fixture(scope="session")
def compact_model(compact_path: Path) -> Iterator[LlamaCpp]:
    model = LlamaCpp(compact_path, Memory(sequence_tokens=4096, threads=1))
    yield model
    model.close()


@pytest.fixture(scope="session")
def plain_model(plain_path: Path) -> Iterator[LlamaCpp]:
    model = LlamaCpp(plain_path, Memory(sequence_tokens=12288, threads=1))
    yield model
    model.close()
