"""The standardized storage on disk: where a message lies, and how it replaces the one before it.

Source: SS-MIX2 標準化ストレージ 構成の説明と構築ガイドライン 1.2, file name and folder rules. The steps of a write, and what a
killed process leaves: `app.ssmix2.entries`.
"""

import re
from datetime import date, datetime
from pathlib import Path, PurePosixPath

from app.errors import InvalidInput, NotFound
from app.ssmix2 import index
from app.ssmix2.builder import DataKind, Message
from app.ssmix2.disk import write_synced
from app.ssmix2.encoding import decode, encode
from app.ssmix2.entries import CURRENT, DELETED, HISTORY, Storage, stamp
from app.ssmix2.extended import ExtendedStorage
from app.ssmix2.message import cancelled


class StandardStorage(Storage):
    """Files of HL7 messages."""

    volume = "STD"
    grammar = re.compile(
        r"(?P<key>(?P<patient>[0-9A-Za-z]{7,15})_(?P<date>[0-9]{8}|-)_(?P<kind>[A-Z]{3}-[0-9]{2})_(?P<order>[0-9]{15}))"
        r"_(?P<time>[0-9]{17})_(?P<department>[0-9A-Za-z]{2,3}|-)_(?P<flag>[012])"
    )
    keeps_cancelled = True

    def kind_folder(self, kind: str) -> str:
        return kind

    def record(self, entry: Path) -> tuple[str, bytes]:
        content = entry.read_bytes()
        # MSH-4; a name instead of a number does not fit the column FacilityID.
        fields = content.split(b"|", 4)
        found = fields[3] if len(fields) > 4 else b""
        return found.decode() if re.fullmatch(b"[0-9A-Za-z]{1,10}", found) else "-", content


def path_of(message: Message, sent_at: datetime, flag: str = CURRENT) -> PurePosixPath:
    """Path below the storage root; the time in it is `sent_at` in Japan, to the millisecond.

    Raises InvalidInput when a part does not fit the grammar: a patient id under 7 characters cannot be filed.
    """
    day = message.care_date.strftime("%Y%m%d") if message.care_date else "-"
    name = f"{message.patient_id}_{day}_{message.kind}_{message.order_no}_{stamp(sent_at)}_{message.department}_{flag}"
    return StandardStorage(Path()).path(name)


def write(root: Path, message: Message, sent_at: datetime) -> Path:
    """Make `message` the current one of its patient, date, kind and order number; the former becomes history.

    Returns the file, which is on the disk, as are its record in the journal (`<root>-transaction`) and, but for a power
    cut, its row in the index. Writing the very bytes that are current already changes nothing. A name that is taken moves on
    by a millisecond. Raises InvalidInput for a message that does not fit the grammar or the bytes, Unavailable for a
    damaged index.
    """
    return put(root, message, sent_at)[0]


def put(root: Path, message: Message, sent_at: datetime) -> tuple[Path, bool]:
    """`write`, and whether anything was written."""
    storage = StandardStorage(root)
    name, data = path_of(message, sent_at).name, encode(message.text)
    with storage.locked(message.patient_id):
        for current in storage.entries(name, CURRENT):
            if current.read_bytes() == data:
                return current, False
        return storage.commit(storage.free(name), lambda part: write_synced(part, data)), True


def delete(root: Path, message: Message, sent_at: datetime, *, control_id: str) -> Path:
    """Take `message` back: its files, current and history, become `_0`, and the cancel message is written beside them.

    Returns the file of the cancel message. Raises NotFound when nothing of that key is stored.
    """
    storage = StandardStorage(root)
    name = path_of(message, sent_at, DELETED).name
    data = encode(cancelled(message, control_id=control_id, sent_at=sent_at).text)
    with storage.locked(message.patient_id):
        for deleted in storage.entries(name, DELETED):
            if deleted.read_bytes() == data:
                return deleted
        if storage.entries(name, CURRENT + HISTORY):
            return storage.commit(storage.free(name), lambda part: write_synced(part, data))
    raise NotFound(f"no {message.kind} with order number {message.order_no} is stored")


def current_messages(root: Path, patient_id: str) -> list[Message]:
    """What readers see of a patient: his files with flag `_1`, of the kinds that Hyojun writes."""
    storage = StandardStorage(root)
    found = []
    for path in storage.patient_entries(patient_id):
        parts = storage.parts(path.name)
        if parts["flag"] == CURRENT and parts["kind"] in list(DataKind):
            day = None if parts["date"] == "-" else date.fromisoformat(parts["date"])
            text = decode(path.read_bytes())
            kind = DataKind(parts["kind"])
            found.append(Message(kind, patient_id, day, parts["order"], parts["department"], text))
    return found


def repair(root: Path, patient_id: str | None = None) -> None:
    """Finish or throw away what a killed process left, of one patient or of all, and mend two current files of one key;
    idempotent. `write` and `delete` finish what was under way for the patient that they touch."""
    StandardStorage(root).repair(patient_id)


def recover(root: Path) -> None:
    """Finish what was under way in both storages when a process was killed; quick, whatever the storage's size."""
    for storage in _both(root):
        if storage.work.is_dir():
            storage.recover()


def rebuild_index(root: Path) -> int:
    """Makes `<root>-index.sqlite` anew from both storages and their journals; the number of rows. No writer may be at work."""
    storages = _both(root)
    recorded = (row for storage in storages for row in storage.recorded())
    found = (row for storage in storages for row in storage.found())
    count = index.rebuild(storages[0].index, recorded, found)
    recover(root)
    return count


def _both(root: Path) -> tuple[Storage, Storage]:
    if root.name.endswith("-extended"):
        raise InvalidInput("the root of a standardized storage cannot end in -extended")
    return StandardStorage(root), ExtendedStorage(extended_root(root))


def extended_root(root: Path) -> Path:
    """The extended storage beside a standardized one."""
    return root.with_name(f"{root.name}-extended")
