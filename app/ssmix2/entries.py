"""How an entry comes into a storage: a file of the standardized one, a content folder of the extended one.

Source: SS-MIX2 標準化ストレージ and 拡張ストレージ 構成の説明と構築ガイドライン 1.2; update and deletion as in NHO
SSMIX2_support_documents `transaction_strage.md`.

A reader takes the entry with flag `_1`, so there is never more than one for a patient, date, kind and number. Readers walk
the whole root, and some take every file in it for a message; so what is not an entry stands beside the root, in
`<root>-work` (locks, entries under way), `<root>-transaction` (journal) and `<root>-index.sqlite`. Root and work folder
must be on one file system.

One write is these steps under a lock, and a process killed between any two of them leaves what the next one that takes the
lock, or `repair`, completes. Each step is safe to repeat:

    work/NAME.part    being written              killed here: thrown away
    work/NAME.ready   complete and on the disk   killed from here on: finished
    journal record, work/NAME.ready -> NAME.logged
    older _1 -> _2    (deletion: older _1 and _2 -> _0)
    row of the index
    work/NAME.logged -> its place

Between the last steps there is no `_1` for a moment, never two. Nothing here looks at more than one patient's folder of
one day and kind, so the cost of a write does not grow with the storage.
"""

import os
import re
import shutil
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import ClassVar

from app.errors import InvalidInput
from app.ssmix2 import index
from app.ssmix2.builder import JAPAN, local_time
from app.ssmix2.disk import locked, make_folder, sync
from app.ssmix2.journal import LOGGED, READY, Header, Journal

CURRENT, HISTORY, DELETED = "1", "2", "0"
"""Condition flags: valid and latest, valid but replaced, deleted."""

STRIPES = 256
"""Locks of one storage; a patient always has the same one."""

_TIME = "%Y%m%d%H%M%S%f"
_PATIENT = re.compile("[0-9A-Za-z]{7,15}")


class Storage(ABC):
    """A root folder and what stands beside it."""

    volume: ClassVar[str]
    """VolumeLabel of the index."""
    grammar: ClassVar[re.Pattern[str]]
    """Names of entries, with the groups key (patient, date, kind and order joined), patient, date, kind, order, time,
    department and flag. Seven characters of patient id at least: the two folder levels above it take its first six."""
    keeps_cancelled: ClassVar[bool]
    """Does a deletion leave an entry of its own (the cancel message)?"""

    def __init__(self, root: Path) -> None:
        root = root.absolute()
        if not root.name or root.name == "..":
            raise InvalidInput("a storage needs a folder of its own, with room for others beside it")
        self.root = root
        self.work = root.with_name(f"{root.name}-work")
        self.journal = Journal(root.with_name(f"{root.name}-transaction"), self.work)
        # One table for both storages (NHO index_db.md).
        self.index = root.with_name(f"{root.name.removesuffix('-extended')}-index.sqlite")

    @abstractmethod
    def kind_folder(self, kind: str) -> str:
        """Name of the folder of a kind."""

    @abstractmethod
    def record(self, entry: Path) -> tuple[str, bytes]:
        """What the journal says of an entry: the facility's id (at most ten letters and digits, or `-`), and the content."""

    # --- names ---

    def parts(self, name: str) -> dict[str, str]:
        match = self.grammar.fullmatch(name)
        if match is None:
            raise InvalidInput(
                "file name: patient id of 7 to 15 letters or digits, order number of 15 digits, department "
                "of 2 or 3 letters or digits or '-'"
            )
        return match.groupdict()

    def path(self, name: str) -> PurePosixPath:
        """Where an entry of this name lies below the root. Raises: InvalidInput for a name outside the grammar."""
        parts = self.parts(name)
        return _folder(parts["patient"]) / parts["date"] / self.kind_folder(parts["kind"]) / name

    def entries(self, name: str, flags: str) -> list[Path]:
        """Entries with one of `flags` and the key of `name`, oldest first."""
        folder = self.root / self.path(name).parent
        key = f"{self.parts(name)['key']}_"
        try:
            names = sorted(found for found in os.listdir(folder) if found.startswith(key) and found[-1] in flags)
        except FileNotFoundError:
            return []
        return [folder / found for found in names if self.grammar.fullmatch(found)]

    def patient_entries(self, patient_id: str) -> Iterator[Path]:
        """All entries of a patient."""
        for path in sorted((self.root / _folder(patient_id)).glob("*/*/*")):
            if self.grammar.fullmatch(path.name):
                yield path

    def free(self, name: str) -> str:
        """`name`, or the same some milliseconds later: no flag of one name may be in use, since flags change."""
        taken = {other.name[:-1] for other in self.entries(name, CURRENT + HISTORY + DELETED)}
        while name[:-1] in taken:
            time = self.parts(name)["time"]
            moment = datetime.strptime(time, _TIME).replace(tzinfo=JAPAN) + timedelta(milliseconds=1)
            name = name.replace(f"_{time}_", f"_{stamp(moment)}_")
        return name

    # --- writing ---

    @contextmanager
    def locked(self, patient_id: str) -> Iterator[None]:
        """Alone with the patient; what a killed process left is finished first."""
        stripe = self._stripe(patient_id)
        with locked(stripe.with_suffix(".lock")):
            stripe.mkdir(exist_ok=True)
            self._recover(stripe)
            yield

    def commit(self, name: str, fill: Callable[[Path], None]) -> Path:
        """Files an entry under `name`, inside `locked`. `fill` writes it to the path that it is given, through to the disk."""
        stripe = self._stripe(self.parts(name)["patient"])
        part = stripe / f"{name}.part"
        fill(part)
        ready = part.with_suffix(READY)
        part.rename(ready)
        sync(stripe)
        return self._finish(ready)

    def repair(self, patient_id: str | None = None) -> None:
        """Finishes or throws away what a killed process left, of every patient if none is named, and mends two current
        entries of one key, which only another writer can have made; idempotent."""
        if patient_id is not None and not _PATIENT.fullmatch(patient_id):
            raise InvalidInput("patient id: 7 to 15 letters or digits")
        if self.work.is_dir():
            self.journal.settle()
            for stripe in sorted(self.work.glob("[0-9a-f][0-9a-f]")):
                with locked(stripe.with_suffix(".lock")):
                    self._recover(stripe)
        patients = [patient_id] if patient_id else [path.name for path in self.root.glob("*/*/*")]
        for patient in filter(_PATIENT.fullmatch, patients):
            with self.locked(patient):
                self._mend(patient)

    def recover(self) -> None:
        """The first half of `repair`: only what was under way, without looking at the storage."""
        self.journal.settle()
        for stripe in sorted(self.work.glob("[0-9a-f][0-9a-f]")):
            if any(stripe.iterdir()):
                with locked(stripe.with_suffix(".lock")):
                    self._recover(stripe)

    def recorded(self) -> Iterator[index.Row]:
        """Rows of the index as the journal tells them, without names of entries."""
        return (self._row(header, "") for header in self.journal.headers())

    def found(self) -> Iterator[index.Row]:
        """Rows of the index as the entries tell them; one that is deleted counts as a deletion."""
        for path in self.root.glob("*/*/*/*/*/*"):
            if self.grammar.fullmatch(path.name):
                parts = self.parts(path.name)
                yield self._row(self._header(parts, path.parent.name, self.record(path)[0]), path.name)

    def _stripe(self, patient_id: str) -> Path:
        return self.work / f"{zlib.crc32(patient_id.encode()) % STRIPES:02x}"

    def _recover(self, stripe: Path) -> None:
        if not stripe.is_dir() or not any(stripe.iterdir()):
            return
        # Another writer that settles the journal renames what a killed one had logged, in whatever stripe that is. Once
        # it is settled under this stripe's lock nothing of the stripe can come into the journal, and its names stay.
        self.journal.settle()
        for path in sorted(stripe.iterdir()):
            if path.suffix in (LOGGED, READY):
                self._finish(path)
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _finish(self, waiting: Path) -> Path:
        name = waiting.stem
        parts = self.parts(name)
        place = self.root / self.path(name)
        deleting = parts["flag"] == DELETED
        facility, content = self.record(waiting)
        header = self._header(parts, place.parent.name, facility)
        if waiting.suffix == READY:
            waiting = self.journal.append(header, content, waiting)
        make_folder(self.root, place.parent)
        older = [path for path in self.entries(name, CURRENT + HISTORY if deleting else CURRENT) if path != place]
        for path in older:
            path.rename(path.with_name(path.name[:-1] + (DELETED if deleting else HISTORY)))
        if older:
            sync(place.parent)
        leaves = self.keeps_cancelled or not deleting
        index.put(self.index, self._row(header, name if leaves else ""))
        if leaves:
            waiting.rename(place)
            sync(place.parent)
        else:
            waiting.unlink()
        return place

    def _header(self, parts: dict[str, str], kind: str, facility: str) -> Header:
        return Header(
            facility, parts["patient"], parts["date"], kind, parts["order"],
            "DEL" if parts["flag"] == DELETED else "INS", parts["department"], parts["time"],
        )  # fmt: skip

    def _row(self, header: Header, name: str) -> index.Row:
        folder = _folder(header.patient) / header.date / header.kind
        return index.Row(self.volume, header, str(folder), name)

    def _mend(self, patient_id: str) -> None:
        newest: dict[str, Path] = {}
        # The later one is the latest.
        for path in sorted(self.patient_entries(patient_id), key=lambda path: self.parts(path.name)["time"]):
            parts = self.parts(path.name)
            if parts["flag"] == CURRENT:
                if older := newest.get(parts["key"]):
                    older.rename(older.with_name(older.name[:-1] + HISTORY))
                newest[parts["key"]] = path


def _folder(patient_id: str) -> PurePosixPath:
    """All entries of a patient lie below it."""
    return PurePosixPath(patient_id[:3], patient_id[3:6], patient_id)


def stamp(moment: datetime) -> str:
    """17 digits: the time in Japan to the millisecond."""
    return local_time(moment).strftime(_TIME)[:17]
