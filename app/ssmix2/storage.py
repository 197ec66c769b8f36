"""The standardized storage on disk: where a message lies, and how it replaces the one before it.

Source: SS-MIX2 標準化ストレージ 構成の説明と構築ガイドライン 1.2, file name and folder rules; update and deletion as in
NHO SSMIX2_support_documents `transaction_strage.md`.

A reader takes the file with flag `_1`, so there is never more than one for a patient, date, kind and order number.
One write is four steps under a lock of the patient (`ROOT/.lock/<patient>`), and a process killed between any two of
them leaves what the next write, or `repair`, completes:

    .NAME.part   being written             killed here: thrown away
    .NAME.ready  complete and on the disk  killed from here on: finished
    older _1 -> _2 (deletion: older _1 and _2 -> _0)
    .NAME.ready -> NAME

Finishing is safe to repeat. Between the last two steps there is no `_1` for a moment, never two.
"""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath

from app.errors import InvalidInput, NotFound
from app.ssmix2.builder import JAPAN, Message, local_time
from app.ssmix2.encoding import encode
from app.ssmix2.message import cancelled

CURRENT, HISTORY, DELETED = "1", "2", "0"
"""Condition flags: valid and latest, valid but replaced, deleted."""

# <patient>_<date or ->_<kind>_<order no>_<17-digit time>_<department or ->_<flag>. Seven characters of patient id at
# least: the two folder levels above it take its first six.
_NAME = re.compile(
    r"(?P<key>(?P<patient>[0-9A-Za-z]{7,15})_(?P<date>[0-9]{8}|-)_(?P<kind>[A-Z]{3}-[0-9]{2})_[0-9]{15})"
    r"_(?P<time>[0-9]{17})_(?P<department>[0-9A-Za-z]{2,3}|-)_(?P<flag>[012])"
)
_TIME = "%Y%m%d%H%M%S%f"


def path_of(message: Message, sent_at: datetime, flag: str = CURRENT) -> PurePosixPath:
    """Path below the storage root; the time in it is `sent_at` in Japan, to the millisecond.

    Raises InvalidInput when a part does not fit the grammar: a patient id under 7 characters cannot be filed.
    """
    day = message.care_date.strftime("%Y%m%d") if message.care_date else "-"
    patient = message.patient_id
    name = f"{patient}_{day}_{message.kind}_{message.order_no}_{_stamp(sent_at)}_{message.department}_{flag}"
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            "file name: patient id of 7 to 15 letters or digits, order number of 15 digits, department "
            "of 2 or 3 letters or digits or '-'"
        )
    return PurePosixPath(patient[:3], patient[3:6], patient, day, message.kind.value, name)


def write(root: Path, message: Message, sent_at: datetime) -> Path:
    """Make `message` the current one of its patient, date, kind and order number; the former becomes history.

    Returns the file, which is on the disk. Writing the very bytes that are current already changes nothing. A name that
    is taken moves on by a millisecond. Raises InvalidInput for a message that does not fit the grammar or the bytes.
    """
    path, data = root / path_of(message, sent_at), encode(message.text)
    with _locked(root, message.patient_id):
        _make_folder(root, path.parent)
        _heal(path.parent)
        for current in _files(path.parent, path.name, CURRENT):
            if current.read_bytes() == data:
                return current
        return _commit(_free(path), data)


def delete(root: Path, message: Message, sent_at: datetime, *, control_id: str) -> Path:
    """Take `message` back: its files, current and history, become `_0`, and the cancel message is written beside them.

    Returns the file of the cancel message. Raises NotFound when nothing of that key is stored.
    """
    path = root / path_of(message, sent_at, DELETED)
    data = encode(cancelled(message, control_id=control_id, sent_at=sent_at).text)
    with _locked(root, message.patient_id):
        if path.parent.is_dir():
            _heal(path.parent)
            for deleted in _files(path.parent, path.name, DELETED):
                if deleted.read_bytes() == data:
                    return deleted
            if _files(path.parent, path.name, CURRENT + HISTORY):
                return _commit(_free(path), data)
    raise NotFound(f"no {message.kind} with order number {message.order_no} is stored")


def repair(root: Path, patient_id: str) -> None:
    """Finish or throw away what a killed process left of the patient; idempotent. `write` and `delete` do it
    for the folder that they touch."""
    if not re.fullmatch("[0-9A-Za-z]{7,15}", patient_id):
        raise InvalidInput("patient id: 7 to 15 letters or digits")
    folder = root / patient_id[:3] / patient_id[3:6] / patient_id
    if folder.is_dir():
        with _locked(root, patient_id):
            for kind in sorted(folder.glob("*/*/")):
                _heal(kind)


@contextmanager
def _locked(root: Path, patient_id: str) -> Iterator[None]:
    # Beside the patients' folders, not in them: readers walk those and take every file for a message.
    locks = root / ".lock"
    locks.mkdir(parents=True, exist_ok=True)
    handle = os.open(locks / patient_id, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # the kernel releases it when the process dies
        yield
    finally:
        os.close(handle)


def _commit(path: Path, data: bytes) -> Path:
    part, ready = path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.ready")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.rename(ready)
    _sync(path.parent)
    return _finish(ready)


def _finish(ready: Path) -> Path:
    path = ready.with_name(ready.name.removeprefix(".").removesuffix(".ready"))
    deleting = path.name.endswith(DELETED)
    for older in _files(path.parent, path.name, CURRENT + HISTORY if deleting else CURRENT):
        older.rename(older.with_name(older.name[:-1] + (DELETED if deleting else HISTORY)))
    _sync(path.parent)
    ready.rename(path)
    _sync(path.parent)
    return path


def _heal(folder: Path) -> None:
    """Bring a folder of one patient, date and kind to rest; at most one `_1` of each order number afterwards."""
    for part in folder.glob(".*.part"):
        part.unlink()
    for ready in sorted(folder.glob(".*.ready")):
        _finish(ready)
    newest: dict[str, Path] = {}
    # Two `_1` can only come from another writer; the later one is the latest.
    for path in sorted(_files(folder, None, CURRENT), key=lambda p: _parts(p)["time"]):
        if older := newest.get(_parts(path)["key"]):
            older.rename(older.with_name(older.name[:-1] + HISTORY))
        newest[_parts(path)["key"]] = path


def _files(folder: Path, like: str | None, flags: str) -> list[Path]:
    """Stored files with one of `flags`, of the key of the file name `like` if given."""
    key = f"{_parts(Path(like))['key']}_" if like else ""
    names = sorted(name for name in os.listdir(folder) if name.startswith(key) and name[-1] in flags)
    return [folder / name for name in names if _NAME.fullmatch(name)]


def _parts(path: Path) -> dict[str, str]:
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise InvalidInput("not the name of a stored message")
    return match.groupdict()


def _free(path: Path) -> Path:
    """`path`, or the same some milliseconds later: no flag of one name may be in use, since flags change."""
    taken = {other.name[:-1] for other in _files(path.parent, path.name, CURRENT + HISTORY + DELETED)}
    while path.name[:-1] in taken:
        time = _parts(path)["time"]
        moment = datetime.strptime(time, _TIME).replace(tzinfo=JAPAN) + timedelta(milliseconds=1)
        path = path.with_name(path.name.replace(f"_{time}_", f"_{_stamp(moment)}_"))
    return path


def _stamp(moment: datetime) -> str:
    return local_time(moment).strftime(_TIME)[:17]


def _make_folder(root: Path, folder: Path) -> None:
    """Create `folder`, each new level on the disk before the next."""
    missing = [level for level in (folder, *folder.parents) if level.is_relative_to(root) and not level.exists()]
    for level in reversed(missing):
        level.mkdir(exist_ok=True)
        _sync(level.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
