"""Locks and folders on a disk that may lose power: what a returned call made is there afterwards."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Only one process at a time, by the lock file `path`, which stays. The kernel frees it when the process dies."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def make_folder(above: Path, folder: Path) -> None:
    """Creates `folder` and what is missing of its parents up to `above`, each level on the disk before the next."""
    missing = []
    level = folder
    while not level.is_dir():
        missing.append(level)
        if level in (above, level.parent):
            break
        level = level.parent
    for level in reversed(missing):
        level.mkdir(exist_ok=True, parents=level == above)
        sync(level.parent)


def sync(path: Path) -> None:
    """The names in a folder, or the content of a file, are on the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_synced(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
