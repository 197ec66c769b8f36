"""A storage read back: messages and patients of a standardized storage, text documents of an extended one.

for read in read_storage(root): …                 # Read | Unreadable, one for each file
for found in read_documents(extended, root): …    # Document | Unreadable, one for each content folder

What does not fit is answered as `Unreadable` with its reason, and the rest goes on. Nothing is followed that is not a file
or a folder itself (links, devices), nothing is read beyond a size, and an XML file that declares a document type is
refused, so that no entity is ever expanded.

Source: SS-MIX2 標準化ストレージ and 拡張ストレージ 構成の説明と構築ガイドライン 1.2; kinds of document as in NHO
SSMIX2_support_documents `medical_document.md`; HL7 2.5 (PID), HL7 CDA Release 2.
"""

import os
import re
import stat
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path, PurePosixPath

from app.errors import HyojunError, InvalidInput, TooLong
from app.intake import decode_text
from app.ssmix2.builder import JAPAN
from app.ssmix2.cda_reading import KANA, SEXES, Person, Stated, day_of, parse_cda
from app.ssmix2.encoding import decode, decode_windows
from app.ssmix2.hl7 import NULL, Segment, parse
from schemas.note import Sex

MAX_FILE_BYTES = 16_000_000
"""Longest message or document that is read; scanned pages inside a CDA document reach some megabytes."""

VALID = "1"
UNDATED = frozenset({"ADT-00", "ADT-01", "ADT-61", "PPR-01"})
"""Kinds that lie under `-` instead of a day."""
# Kinds of document that hold a note's text: LOINC.
DOCUMENT_CODES = ("11506-3", "34108-1", "34112-3", "18842-5", "57133-1")

_ID = "[0-9A-Za-z]{1,15}"
_FILE = re.compile(
    rf"(?P<patient>{_ID})_(?P<day>[0-9]{{8}}|-)_(?P<kind>[A-Z]{{3}}(?:-[0-9]{{2}})?)_(?P<order>[0-9A-Za-z]{{1,22}})"
    r"_(?P<time>[0-9]{17})_(?P<department>[0-9A-Za-z]{1,3}|-)_(?P<flag>[012])"
)
_KIND = re.compile("[A-Z]{3}(?:-[0-9]{2})?")
_FOLDER = re.compile(
    rf"(?P<patient>{_ID})_(?P<day>[0-9]{{8}}|-)_(?P<key>.+)_(?P<time>[0-9]{{17}})"
    r"_(?P<department>[0-9A-Za-z]{1,3}|-)_(?P<flag>[012])"
)


class Warn(StrEnum):
    """What a file does otherwise than the standard says, and was read all the same."""

    LINE_FEED = "segments end with LF"
    NO_END = "the last segment has no end"
    CHARACTER_SET = "MSH-18 is not ~ISO IR87"
    WINDOWS = "characters outside JIS X 0208 (cp932)"


@dataclass(frozen=True)
class Unreadable:
    """`path` below the root, with every character outside the standard's names as `?`; `reason` without patient text."""

    path: str
    reason: str


@dataclass(frozen=True)
class Read:
    """One file of a standardized storage. `day` 診療日, None for undated kinds; `sent_at` 発生日時."""

    path: PurePosixPath
    kind: str
    patient_id: str
    day: date | None
    order_no: str
    sent_at: datetime
    department: str
    flag: str
    segments: tuple[Segment, ...]
    warnings: tuple[Warn, ...] = ()


@dataclass(frozen=True)
class Document:
    """One text document. `code` LOINC; `name` as the kind folder says it; `key` 特定キー; `department` code or `-`, and
    `department_name` where the document states one; `text` with LF between lines; `person` from ADT-00, else from the
    document's header; `start` and `end` of a stay that the header states."""

    path: PurePosixPath
    code: str
    name: str
    patient_id: str
    day: date
    key: str
    sent_at: datetime
    department: str
    flag: str
    text: str
    person: Person
    department_name: str = ""
    author_id: str = ""
    author_family: str = ""
    author_given: str = ""
    start: date | None = None
    end: date | None = None


# --- the standardized storage -----------------------------------------------------------------------------------------


def read_storage(
    root: Path, *, flags: str = VALID, kinds: Collection[str] | None = None
) -> Iterator[Read | Unreadable]:
    """Every message with one of `flags` (and of `kinds`), by patient, day, kind and name. Raises: NotADirectoryError."""
    undated = kinds is not None and UNDATED.issuperset(kinds)
    for folder, kind, patient in _kind_folders(root, lambda day: day == "-" or not undated):
        if isinstance(folder, Unreadable):
            yield folder
        elif "^" not in kind and _KIND.fullmatch(kind):
            if kinds is None or kind in kinds:
                yield from _messages(root, folder, kind, patient, flags)
        elif "^" not in kind:
            yield Unreadable(_shown(root, folder), "a folder that is no kind of data (データ種別)")


def read_patient(root: Path, patient_id: str) -> Person | Unreadable | None:
    """The patient by the newest valid ADT-00; None where there is none. Nothing else of the storage is looked at."""
    if not re.fullmatch(_ID, patient_id):
        raise InvalidInput("patient id: 1 to 15 letters or digits")
    folder = root / patient_id[:3] / patient_id[3:6] / patient_id / "-" / "ADT-00"
    if not folder.is_dir() or any(level.is_symlink() for level in (folder, *list(folder.parents)[:4])):
        return None
    found = list(_messages(root, folder, "ADT-00", patient_id, VALID))
    reads = sorted((one for one in found if isinstance(one, Read)), key=lambda read: read.sent_at)
    if not reads:
        return next((one for one in found if isinstance(one, Unreadable)), None)
    try:
        return person_of(reads[-1])
    except InvalidInput as error:
        return Unreadable(reads[-1].path.as_posix(), str(error))


def person_of(read: Read) -> Person:
    """The patient of a message. Raises: InvalidInput where it has no PID, or that of somebody else."""
    pid = next((segment for segment in read.segments if segment.name == "PID"), None)
    if pid is None:
        raise InvalidInput("no PID segment")
    if pid.get(3) != read.patient_id:
        raise InvalidInput("PID-3 names another patient than the path")
    ideographic, kana = ("", ""), ("", "")
    for number in range(1, len(pid.field(5)) + 1):
        name = (_stated(pid.get(5, 1, number)), _stated(pid.get(5, 2, number)))
        # XPN-8: I ideographic, P phonetic, A alphabetic; a sender that leaves it out tells kana by their letters.
        if pid.get(5, 8, number) == "P" or not pid.get(5, 8, number) and KANA.fullmatch("".join(name)):
            kana = kana if any(kana) else name
        else:
            ideographic = ideographic if any(ideographic) else name
    shown = ideographic if any(ideographic) else kana
    # XAD-8 is the whole address in Japan; else state, city, other, street.
    address = _stated(pid.get(11, 8)) or "".join(_stated(pid.get(11, part)) for part in (4, 3, 2, 1))
    sex = SEXES.get(pid.get(8), Sex.UNKNOWN)
    return Person(read.patient_id, *shown, *kana, sex=sex, birth_date=day_of(pid.get(7)), address=address or None)


def _messages(root: Path, folder: Path, kind: str, patient: str, flags: str) -> Iterator[Read | Unreadable]:
    for path in _below(root, folder):
        if isinstance(path, Unreadable):
            yield path
            continue
        name = _FILE.fullmatch(path.name)
        place = _shown(root, path)
        if name is None:
            yield Unreadable(place, "the file name is not <patient>_<day>_<kind>_<order>_<time>_<department>_<flag>")
            continue
        if (name["patient"], name["kind"], name["day"]) != (patient, kind, folder.parent.name):
            yield Unreadable(place, "the file name says another patient, day or kind than its folders")
            continue
        if name["flag"] not in flags:
            continue
        try:
            segments, warnings = _parsed(_content(path))
            read = Read(
                PurePosixPath(path.relative_to(root)), kind, patient, _folder_day(name["day"]), name["order"],
                _instant(name["time"]), name["department"], name["flag"], segments, warnings,
            )  # fmt: skip
        except (HyojunError, OSError) as error:
            yield Unreadable(place, _reason(error))
        else:
            yield read


def _parsed(data: bytes) -> tuple[tuple[Segment, ...], tuple[Warn, ...]]:
    """Decoded first, split after: the bytes of kanji hold delimiters."""
    warnings = []
    try:
        text = decode(data)
    except InvalidInput:
        text = decode_windows(data)
        warnings.append(Warn.WINDOWS)
    # <VT> before and <FS><CR> behind: what HL7's lower layer puts around a message.
    text = text.lstrip("\x0b")
    body = text.rstrip("\x1c\r\n")
    text = body + text[len(body) :].replace("\x1c", "")
    if "\n" in text:
        warnings.append(Warn.LINE_FEED)
        text = text.replace("\r\n", "\r").replace("\n", "\r")
    if not text.endswith("\r"):
        warnings.append(Warn.NO_END)
    segments = tuple(parse(text))
    if any(not re.fullmatch("[A-Z][A-Z0-9]{2}", segment.name) for segment in segments):
        raise InvalidInput("a line that is no segment: the file is damaged, or holds a line break inside a field")
    if segments[0].get(9) == "" or segments[0].get(12) == "":
        raise InvalidInput("MSH is cut off")
    if (segments[0].get(18), segments[0].get(18, repetition=2)) != ("", "ISO IR87"):
        warnings.append(Warn.CHARACTER_SET)
    return segments, tuple(warnings)


# --- the extended storage ---------------------------------------------------------------------------------------------


def read_documents(
    root: Path, standardized: Path | None = None, *, flags: str = VALID, since: date | None = None
) -> Iterator[Document | Unreadable]:
    """Every text document with one of `flags`, of `since` or later; patients from the ADT-00 of `standardized`, else from
    the document's header. Kinds that hold no note are passed over. Raises: NotADirectoryError."""
    people: dict[str, Person | Unreadable | None] = {}
    first = f"{since:%Y%m%d}" if since else ""
    # Under `-` the document itself says its day.
    for folder, kind, patient in _kind_folders(root, lambda day: day == "-" or day >= first):
        if isinstance(folder, Unreadable):
            yield folder
            continue
        parts = (kind.split("^") + [""] * 6)[:6]
        if "^" not in kind or parts[3] not in DOCUMENT_CODES:
            continue
        for path in _below(root, folder):
            if isinstance(path, Unreadable):
                yield path
                continue
            name, place = _FOLDER.fullmatch(path.name), _shown(root, path)
            known = [f"{code}_" for code in (parts[3], kind, parts[0]) if code]
            code = next((code for code in known if name and name["key"].startswith(code)), None)
            if name is None or code is None or name["key"] == code:
                reason = "the folder name is not <patient>_<day>_<kind code>_<key>_<time>_<department>_<flag>"
                yield Unreadable(place, reason)
                continue
            if (name["patient"], name["day"]) != (patient, folder.parent.name):
                yield Unreadable(place, "the folder name says another patient or day than the folders above")
                continue
            if name["flag"] not in flags:
                continue
            try:
                stated = _document(path)
                day = _folder_day(name["day"]) or stated.day
                if day is None:
                    raise InvalidInput("neither the folders nor the document say its day")
                if stated.person and stated.person.id not in ("", patient):
                    raise InvalidInput("the document names another patient than the path")
                sent_at = _instant(name["time"])
            except (HyojunError, OSError) as error:
                yield Unreadable(place, _reason(error))
                continue
            if since and day < since:
                continue
            if standardized is not None and patient not in people:
                people = {patient: read_patient(standardized, patient)}  # patients come one after the other
                if isinstance(lost := people[patient], Unreadable):
                    yield lost
            person = people.get(patient)
            if not isinstance(person, Person):
                person = stated.person
            if person is None:
                yield Unreadable(place, "neither an ADT-00 nor the document says who the patient is")
                continue
            yield Document(
                PurePosixPath(path.relative_to(root)), parts[3], parts[1] or parts[4], patient, day,
                name["key"].removeprefix(code), sent_at, name["department"], name["flag"], stated.text, person,
                stated.department, *stated.author, start=stated.start, end=stated.end,
            )  # fmt: skip


def _document(folder: Path) -> Stated:
    if folder.is_symlink() or not folder.is_dir():
        raise InvalidInput("is a link, or no folder")
    files = [path for path in _entries(folder) if path.suffix.lower() in (".xml", ".cda", ".txt")]
    named = [path for path in files if path.stem.lower() in ("main_document", "document")]
    if len(named or files) != 1:
        raise InvalidInput(f"{len(named or files)} files could be the main document (.xml or .txt)")
    path = (named or files)[0]
    content = _content(path)
    if path.suffix.lower() == ".txt":
        return Stated(decode_text(content).replace("\r\n", "\n").replace("\r", "\n"))
    return parse_cda(content)


# --- files ------------------------------------------------------------------------------------------------------------


def _kind_folders(root: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[Path | Unreadable, str, str]]:
    """(folder, its name, patient id) of every kind of data of the days that are wanted, in order."""
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is not a folder")
    for first in _entries(root):
        for second in _below(root, first):
            for person in _below(root, second):
                for day in _below(root, person):
                    if isinstance(day, Unreadable) or wanted(day.name):
                        for kind in _below(root, day):
                            yield from _kind_folder(root, kind)


def _kind_folder(root: Path, kind: Path | Unreadable) -> Iterator[tuple[Path | Unreadable, str, str]]:
    if isinstance(kind, Unreadable):
        yield kind, "", ""
        return
    first, second, patient, day, name = kind.relative_to(root).parts
    if kind.is_symlink() or not kind.is_dir():
        yield Unreadable(_shown(root, kind), "is a link, or no folder"), "", ""
    elif not re.fullmatch(_ID, patient) or (first, second) != (patient[:3], patient[3:6]):
        yield Unreadable(_shown(root, kind), "the folders are not <id 1-3>/<id 4-6>/<id>"), "", ""
    elif not re.fullmatch("[0-9]{8}|-", day):
        yield Unreadable(_shown(root, kind), "the folder of the day is neither YYYYMMDD nor -"), "", ""
    else:
        yield kind, name, patient


def _below(root: Path, folder: Path | Unreadable) -> Iterator[Path | Unreadable]:
    if isinstance(folder, Unreadable):
        yield folder
    elif folder.is_symlink() or not folder.is_dir():
        yield Unreadable(_shown(root, folder), "is a link, or no folder")
    else:
        try:
            yield from _entries(folder)
        except OSError as error:
            yield Unreadable(_shown(root, folder), _reason(error))


def _entries(folder: Path) -> list[Path]:
    """Names that begin with a dot are a writer's own, under way."""
    return [folder / name for name in sorted(os.listdir(folder)) if not name.startswith(".")]


def _content(path: Path) -> bytes:
    # O_NONBLOCK: a pipe of that name must not hold the reading up before it is seen to be one.
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise InvalidInput("is not a regular file")
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise TooLong(f"is longer than {MAX_FILE_BYTES:,} bytes")
    return data


def _shown(root: Path, path: Path) -> str:
    """A path that may be shown: names that the standard does not have could hold anything, a patient's name too."""
    kind = re.compile(r"[^0-9A-Za-z._^/-]")
    return "/".join(kind.sub("?", part) for part in path.relative_to(root).parts)


def _reason(error: HyojunError | OSError) -> str:
    if isinstance(error, HyojunError):
        return str(error)
    # ELOOP is what O_NOFOLLOW answers for a link.
    return "is a link" if error.errno == 40 else (error.strerror or "cannot be opened").lower()


def _folder_day(name: str) -> date | None:
    if name == "-":
        return None
    day = day_of(name)
    if day is None:
        raise InvalidInput("the day of the path is not in the calendar")
    return day


def _instant(text: str) -> datetime:
    try:
        # strptime would take 99 for a month of one digit and a day of one digit.
        day, time = (
            (int(text[:4]), int(text[4:6]), int(text[6:8])),
            (int(text[8:10]), int(text[10:12]), int(text[12:14])),
        )
        return datetime(*day, *time, int(text[14:]) * 1000, tzinfo=JAPAN)
    except ValueError:
        raise InvalidInput("the time of the name is not in the calendar") from None


def _stated(text: str) -> str:
    return "" if text == NULL else text
