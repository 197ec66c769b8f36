"""A judge of an SS-MIX2 standardized storage that shares no code with the writer.

`check_storage(root)` reads every file below a root and answers with what breaks the rules of SS-MIX2 標準化ストレージ
仕様書 1.2c-1.2h as the procurement rules and the checking tool of the National Hospital Organization read them (nhoHQ
SSMIX2_support_documents, SSMIX2DataTestingTool), HL7 2.5 and JAHIS. Nothing of `app` is imported here: a mistake in
the writer's idea of a rule must not be this file's mistake as well.

A fault names the file, the segment (`OBX#3`: the third OBX of the file), the field and the rule, never a value.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from nho_tables import (
    CODED,
    CODED_IN,
    EMPTY,
    EMPTY_IN,
    EVENTS_OF,
    FIELD_SHAPES,
    KINDS,
    KNOWN_SYSTEM,
    LAST_FIELD,
    LENGTHS,
    LOCAL_SYSTEM,
    NULL,
    NUMBERED,
    NUMBERS,
    ORDERLESS,
    PEOPLE,
    REQUIRED,
    REQUIRED_IN,
    SHAPES,
    TIMES,
    UNDATED,
    VALUES,
    Kind,
)  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """`path` below the root; `segment` and `field` are "" where the fault is of the whole file."""

    path: str
    segment: str
    field: str
    rule: str


_BYTES = re.compile(rb"(?:[\x20-\x7e\x0d]|\x1b\$B(?:[\x21-\x7e]{2})+\x1b\(B)*")
_ESCAPE = re.compile(r"\\(?:[FSTREHN]|\.(?:br|sp\d*|in\d+|ti\d+|fi|nf|ce|sk\d+)|X[0-9A-F]+|[CM][0-9A-F]+|Z[^\\]*)\\")
_NAME = re.compile(
    r"(?P<patient>[0-9A-Za-z]{1,15})_(?P<day>\d{8}|-)_(?P<kind>[A-Z]{3}(?:-\d{2})?)_(?P<order>[0-9A-Za-z]{15})"
    r"_(?P<time>\d{17})_(?P<department>[0-9A-Za-z]{2,3}|-)_(?P<flag>[012])"
)


class Segment:
    """Fields as written; `get("OBX-3")` is the field, `""` where there is none."""

    def __init__(self, line: str, number: int) -> None:
        parts = line.split("|")
        self.name = parts[0]
        self.label = f"{self.name}#{number}"
        # MSH-1 is the delimiter itself.
        self.fields = ["|", *parts[1:]] if self.name == "MSH" else parts[1:]

    def get(self, number: int) -> str:
        return self.fields[number - 1] if number <= len(self.fields) else ""


def check_storage(root: Path) -> list[Fault]:
    """Every fault below `root`, in the order of the paths. Every file in it counts: readers take each for a message."""
    faults: list[Fault] = []
    kept: dict[tuple[str, ...], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    found = False
    for path in sorted(root.rglob("*")):
        place = path.relative_to(root)
        if path.is_dir() and not path.is_symlink():
            continue
        found = True
        faults += check_file(path, place.as_posix(), kept)
    for flags in kept.values():
        faults += [
            Fault(other, "", "", "only one valid file (flag 1) for a patient, day, kind and order")
            for other in flags["1"][1:]
        ]
        for history in flags["2"]:
            # The seven parts of the name; the fifth is the time.
            newer = [valid for valid in flags["1"] if valid.split("_")[4] > history.split("_")[4]]
            if not newer:
                faults.append(Fault(history, "", "", "history (flag 2) has a later valid file"))
    return faults if found else [Fault("", "", "", "the storage holds no file")]


def check_file(path: Path, place: str, kept: dict[tuple[str, ...], dict[str, list[str]]]) -> Iterator[Fault]:
    def fault(rule: str) -> Fault:
        return Fault(place, "", "", rule)

    if path.is_symlink() or not path.is_file():
        yield fault("not a regular file")
        return
    name = _NAME.fullmatch(path.name)
    if name is None:
        yield fault("file name: seven parts joined by _")
        return
    patient, day, kind = name["patient"], name["day"], name["kind"]
    if len(patient) < 7:
        yield fault("patient id: 7 characters at least")
    if place.split("/")[:-1] != [patient[:3], patient[3:6], patient, day, kind]:
        yield fault("folders: id 1-3, id 4-6, id, day, kind as in the file name")
    if kind not in KINDS:
        yield fault("kind: none of the standardized storage")
        return
    if (day == "-") != (kind in UNDATED):
        yield fault("day: - for ADT-00, ADT-01, ADT-61 and PPR-01 alone")
    if day != "-" and not _is_time(day):
        yield fault("day: not in the calendar")
    if not _is_time(name["time"][:14]):
        yield fault("time of the name: not in the calendar")
    if kind in UNDATED and name["order"] != ORDERLESS:
        yield fault("order number: nines for a kind without order")
    if not kind.startswith(("ADT", "PPR")) and (name["order"] == ORDERLESS or not name["order"].isdigit()):
        yield fault("order number: 15 digits filled with zeros")
    if kind in ("ADT-00", "ADT-61") and name["department"] != "-":
        yield fault("department: - for ADT-00 and ADT-61")
    kept[(patient, day, kind, name["order"])][name["flag"]].append(place)
    data = path.read_bytes()
    # Some writers end with the FS of HL7's lower layer; readers take both.
    data = data.removesuffix(b"\x1c")
    if not data.endswith(b"\r"):
        yield fault("bytes: the last segment ends with CR")
    if b"\n" in data:
        yield fault("bytes: segments end with CR alone")
        return
    if not _BYTES.fullmatch(data):
        yield fault("bytes: ASCII and ESC $ B … ESC ( B alone, ASCII again before a delimiter and CR")
        return
    try:
        text = data.decode("iso2022_jp")
    except UnicodeDecodeError:
        yield fault("bytes: a code outside JIS X 0208")
        return
    for found in check_message(text, kind, name["flag"]):
        yield Fault(place, found[0], found[1], found[2])
    for found in _against_name(text, name.groupdict()):
        yield Fault(place, found[0], found[1], found[2])


Found = tuple[str, str, str]


def segments_of(text: str) -> list[Segment]:
    counts: Counter[str] = Counter()
    segments = []
    for line in text.split("\r"):
        if line:
            counts[line[:3]] += 1
            segments.append(Segment(line, counts[line[:3]]))
    return segments


def check_message(text: str, kind: str, flag: str) -> Iterator[Found]:
    segments = segments_of(text)
    rule = KINDS[kind]
    if not re.fullmatch(rule.segments, "".join(f"{segment.name} " for segment in segments)):
        yield "", "", "segments: those of the kind, in its order"
    if "\r\r" in text:
        yield "", "", "segments: none is empty"
    if not segments or segments[0].name != "MSH":
        return
    yield from _header(segments[0], rule, flag)
    event = segments[0].get(9).split("^")[1:2]
    counters: Counter[str] = Counter()
    for segment in segments:
        yield from _fields(segment, kind, event[0] if event else "")
        for name, starts in NUMBERED.items():
            if segment.name in starts:
                counters[name] = 0
        if segment.name in NUMBERED and segment.get(1):
            counters[segment.name] += 1
            if segment.get(1) != str(counters[segment.name]):
                yield segment.label, f"{segment.name}-1", "numbered from 1 in order"
    yield from _meaning(segments, kind, flag)


def _header(header: Segment, rule: Kind, flag: str) -> Iterator[Found]:
    exact = {
        1: "|", 2: "^~\\&", 11: "P", 12: "2.5", 18: "~ISO IR87", 20: "ISO 2022-1994",
    }  # fmt: skip
    for number, value in exact.items():
        if header.get(number) != value:
            yield header.label, f"MSH-{number}", "MSH: the fixed values of SS-MIX2"
    if not re.fullmatch(
        r"SS-MIX2_1\.20(_[a-z])?\^SS-MIX2\^1\.2\.392\.200250\.2\.1\.100\.1\.2\.120\^ISO", header.get(21)
    ):
        yield header.label, "MSH-21", "MSH: the profile of SS-MIX2 1.2"
    # A deleted file is a renamed one, or the cancel message that came after it.
    if header.get(9) not in ((rule.event, rule.cancel) if flag == "0" else (rule.event,)):
        yield header.label, "MSH-9", "MSH: the event of the kind"
    if not re.fullmatch(r"\d{14}(\.\d{1,4})?", header.get(7)):
        yield header.label, "MSH-7", "MSH: time to the second"


def _fields(segment: Segment, kind: str, event: str) -> Iterator[Found]:
    name = segment.name
    for number in (*REQUIRED.get(name, ()), *REQUIRED_IN.get((kind, name), ())):
        if not segment.get(number):
            yield segment.label, f"{name}-{number}", "required"
    for number in (*EMPTY.get(name, ()), *EMPTY_IN.get((kind, name), ())):
        if segment.get(number):
            yield segment.label, f"{name}-{number}", "not supported, stays empty"
    if len(segment.fields) > LAST_FIELD.get(name, 99):
        yield segment.label, "", "more fields than HL7 2.5 has"
    if segment.fields and segment.fields[-1] == "":
        yield segment.label, "", "empty fields at the end are dropped"
    for number, value in enumerate(segment.fields, 1):
        if value and value != NULL and not (name == "MSH" and number <= 2):
            for rule in _field(f"{name}-{number}", value, kind, event):
                yield segment.label, f"{name}-{number}", rule


def _field(field: str, value: str, kind: str, event: str) -> Iterator[str]:
    if "\\" in _ESCAPE.sub("", value):
        yield "escape: \\F\\ \\S\\ \\T\\ \\R\\ \\E\\"
    if field in EVENTS_OF and event not in EVENTS_OF[field]:
        yield "not of this event"
    if any(len(_unescaped(repetition)) > LENGTHS.get(field, 10**6) for repetition in value.split("~")):
        yield "length"
    if field in TIMES and not _is_time(value):
        yield "time: HL7 TS, in the calendar"
    if field in PEOPLE:
        parts = value.split("^")
        if len(parts) != 15 or parts[9] != "L" or parts[14] not in ("I", "P", "A"):
            yield "person: id^姓^名^^^^^^^L^^^^^I"
    if field in NUMBERS and not re.fullmatch(r"\d+(\.\d+)?", value):
        yield "number"
    systems = CODED_IN.get((kind, field)) or CODED.get(field)
    if systems is not None:
        for repetition in value.split("~"):
            yield from _coded(field, repetition.split("^"), systems)
    if field == "TQ1-3":
        yield from _coded(field, value.split("^")[0].split("&"), "JAMISDP01")
    if field in ("TQ1-6", "RXE-19"):
        number, _, unit = value.partition("^")
        if not re.fullmatch(r"\d+(\.\d+)?", number) or not unit:
            yield "quantity: number^unit"
        elif "&" in unit:
            yield from _coded(field, unit.split("&"), "ISO+ MR9P")


def _coded(field: str, parts: list[str], systems: str) -> Iterator[str]:
    """CWE: code^text^system, one of the two triples or both; standard or local must be there."""
    code, text, system, code2, text2, system2, *_ = [*parts, *[""] * 6]
    if not system and not system2:
        yield "code: a standard or a local code system"
    for one, word, of in ((code, text, system), (code2, text2, system2)):
        if of and not KNOWN_SYSTEM.fullmatch(of) and not LOCAL_SYSTEM.fullmatch(of):
            yield "code: system unknown to SS-MIX2, and not local (99…)"
        elif of and not LOCAL_SYSTEM.fullmatch(of) and of not in systems.split() and systems:
            yield "code: system not used in this field"
        if one and not of:
            yield "code: without its system"
        if of and not one and not LOCAL_SYSTEM.fullmatch(of):
            yield "code: system without a code"
        if of and not one and not word:
            yield "code: neither code nor text"
        shape = FIELD_SHAPES.get((field, of)) or SHAPES.get(of)
        if one and shape and not re.fullmatch(shape, one):
            yield "code: shape of the system"
        if one and of in VALUES and one not in VALUES[of].split():
            yield "code: not in the table"


def _against_name(text: str, name: Mapping[str, str]) -> Iterator[Found]:
    """What the file name says of the message."""
    kind = KINDS[name["kind"]]
    where, _, number = kind.day.partition("-")
    days = 0
    for segment in segments_of(text):
        if segment.name == "PID" and segment.get(3).split("^")[0] != name["patient"]:
            yield segment.label, "PID-3", "the patient of the file name"
        if segment.name == where:
            if segment.get(int(number))[:8] != name["day"]:
                yield segment.label, kind.day, "the day of the folder"
            days += 1
        ordered = segment.name in ("ORC", "OBR") and not name["kind"].startswith(("ADT", "PPR"))
        if ordered and segment.get(2).split("^")[0] != name["order"]:
            yield segment.label, f"{segment.name}-2", "the order number of the file name"
    if where and not days:
        yield "", kind.day, "the day of the folder stands nowhere"


def _meaning(segments: list[Segment], kind: str, flag: str) -> Iterator[Found]:
    """Rules about one field's value, and between fields."""
    unique: dict[str, set[str]] = defaultdict(set)

    def twice(segment: Segment, number: int) -> Iterator[Found]:
        value, field = segment.get(number), f"{segment.name}-{number}"
        if value and value in unique[field]:
            yield segment.label, field, "twice in one file"
        unique[field].add(value)

    for segment in segments:
        label, get = segment.label, segment.get
        if segment.name == "PID":
            if get(3).split("^")[1:] != ["", "", "", "PI"]:
                yield label, "PID-3", "id^^^^PI"
            for repetition in get(5).split("~"):
                parts = repetition.split("^")
                if len(parts) != 8 or parts[6] != "L" or parts[7] not in ("I", "P", "A") or not parts[0]:
                    yield label, "PID-5", "姓^名^^^^^L^I, kana with P"
            if [part.split("^")[-1] for part in get(5).split("~")] not in (["I"], ["P"], ["A"], ["I", "P"]):
                yield label, "PID-5", "kanji (I) first, then kana (P)"
            if get(13) and (len(get(13).split("^")) < 12 or get(13).split("^")[1:3] != ["PRN", "PH"]):
                yield label, "PID-13", "^PRN^PH^^^^^^^^^number"
            if not re.fullmatch(r'\d{8}|""', get(7)):
                yield label, "PID-7", "eight digits"
            if get(8) not in ("M", "F", "O", "U", "A", "N"):
                yield label, "PID-8", "M F O U A N"
            if get(11) and get(11).split("^")[6:7] not in (["H"], ["B"], ["C"], ["M"]):
                yield label, "PID-11", "^^^^postcode^JPN^H^address"
        elif segment.name == "PV1":
            if get(2) not in ("I", "O"):
                yield label, "PV1-2", "I or O"
            kind_of_place = get(3).split("^")[5:6]
            if get(3) and kind_of_place != (["C"] if get(2) == "O" else ["N"]):
                yield label, "PV1-3", "outpatient dept^^^^^C, inpatient ward^room^bed^^^N"
        elif segment.name == "OBX":
            yield from _observation(segment, kind)
        elif segment.name == "IAM":
            yield from twice(segment, 7)
            if not get(7):
                yield label, "IAM-7", "the allergy's own id"
            if get(11) and len(get(11)) != 8:
                yield label, "IAM-11", "eight digits; anything else in IAM-12"
            if flag != "0" and get(6).split("^")[0] == "D":
                yield label, "IAM-6", "D only in a deleted file"
        elif segment.name == "PRB":
            yield from twice(segment, 4)
            if get(1) not in (("AD", "UP", "DE") if flag == "0" else ("AD", "UP")):
                yield label, "PRB-1", "AD or UP; DE only in a deleted file"
            yield from _diagnosis(segment)
        elif segment.name == "ORC":
            yield from _order(segment, kind, flag)
            if get(4).count("_") == 2:
                yield from twice(segment, 4)
        elif segment.name == "RXE" and kind == "OMP-01":
            for number, unit in ((3, 5), (10, 11)):
                if (get(number) == NULL) != (get(unit) == NULL):
                    yield label, f"RXE-{unit}", "a number and its unit are null together"
        elif segment.name == "RXC" and get(1) not in ("B", "A"):
            yield label, "RXC-1", "B or A"
        elif segment.name == "AL1" and get(2) and "^" not in get(2):
            yield label, "AL1-2", "code^text^system"


def _observation(segment: Segment, kind: str) -> Iterator[Found]:
    type_, value, get = segment.get(2), segment.get(5), segment.get
    if value and type_ not in ("NM", "ST", "CWE"):
        yield segment.label, "OBX-2", "NM, ST or CWE"
    if type_ == "NM" and not re.fullmatch(r"[+-]?\d+(\.\d+)?", value):
        yield segment.label, "OBX-5", "NM: digits alone"
    if type_ == "ST" and "^" in value:
        yield segment.label, "OBX-5", "ST: no components"
    if type_ == "CWE":
        for rule in _coded("OBX-5", value.split("^"), ""):
            yield segment.label, "OBX-5", rule
    if kind == "OML-11":
        if not value:
            yield segment.label, "OBX-5", "a result has a value"
        if get(8) not in ("", "H", "L", "A", "N", "HH", "LL", "AA"):
            yield segment.label, "OBX-8", "H L A N"
    if get(11) not in (("O",) if kind == "OML-01" else ("F", "P", "C", "X", "D", "R", "S", "O")):
        yield segment.label, "OBX-11", "status of HL70085; O in an order"


def _diagnosis(segment: Segment) -> Iterator[Found]:
    if not segment.get(10):
        return
    code, _, system, type_, _, type_system, edition, *_ = [*segment.get(10).split("^"), *[""] * 7]
    if system != "I10" or not re.fullmatch(SHAPES["I10"], code):
        yield segment.label, "PRB-10", "ICD-10 without the dot, system I10"
    if type_ and (type_system != "JHSD0004" or type_ not in VALUES["JHSD0004"].split()):
        yield segment.label, "PRB-10", "診断種別 of JHSD0004"
    if edition not in ("", "2003", "2013"):
        yield segment.label, "PRB-10", "edition 2003 or 2013"


def _order(segment: Segment, kind: str, flag: str) -> Iterator[Found]:
    control = segment.get(1)
    if control not in ("NW", "OK", "XO", "SC", "RE", "CA", "SN", "PA", "CH") or (control == "CA") and flag != "0":
        yield segment.label, "ORC-1", "order control; CA only in a deleted file"
    group = segment.get(4)
    numbered = re.fullmatch(r"[0-9A-Za-z]{1,15}_\d{2}(_\d{3})?", group) and group.startswith(segment.get(2))
    if kind in ("OMP-01", "OMP-02") and group and not numbered:
        yield segment.label, "ORC-4", "order_RP_number"


def _unescaped(value: str) -> str:
    return _ESCAPE.sub("x", value)


_STARTS, _ENDS = (0, 4, 6, 8, 10, 12), (4, 6, 8, 10, 12, 14)


def _is_time(value: str) -> bool:
    """HL7 TS of any precision, in the calendar."""
    match = re.fullmatch(r"(\d{4}(?:\d{2}){0,5})(\.\d{1,4})?([+-]\d{4})?", value)
    if match is None:
        return False
    filled = match[1] + "00000101000000"[len(match[1]) :]
    try:
        year, month, day, hour, minute, second = (int(filled[at:end]) for at, end in zip(_STARTS, _ENDS, strict=True))
        datetime(year, month, day, hour, minute, second)  # noqa: DTZ001
    except ValueError:
        return False
    return True
