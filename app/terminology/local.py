"""The hospital's own codes and the standard codes that they mean: checked as a file, stored as rows that are not changed.

A row says: our code and name of a disease, allergen, test or drug means this code of an official table. The display of
the standard code is the table's own; a code that no loaded table has is refused.

Sources: JP-CLINS 1.10.0, notes of JP_Observation_LabResult_eCS (施設固有検査コード: one system for all facilities, letters,
digits, - and _; names without spaces), and the systems that its profiles accept for each kind; the system of a
facility's drug codes is that of the examples of JP_MedicationRequest_eCS.
"""

import csv
import hashlib
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import uuid4

from sqlalchemy import ColumnElement, Select, func, insert, select, update
from sqlalchemy.orm import Session

from app.errors import InvalidInput, TooLong
from app.terminology import browse, spelling
from app.terminology.entries import LocalEntry
from models import LocalCode
from schemas import systems
from schemas.coding import Coding
from schemas.issue import Severity
from schemas.statement import Kind

LOCAL_LOCK = 4_841_003
"""Advisory lock: one change of local codes at a time."""
MAX_FILE_BYTES = 20_000_000
MAX_CODE, MAX_DISPLAY = 64, 200
"""Longest code and name, in characters."""

COLUMNS = ("kind", "code", "display", "system", "standard_code", "standard_display")
JAPANESE_COLUMNS = ("種別", "院内コード", "院内名称", "コード体系", "標準コード", "標準名称")
_KINDS = {
    "傷病名": Kind.CONDITION, "アレルギー": Kind.ALLERGY, "感染症": Kind.INFECTION, "検査": Kind.LAB, "処方": Kind.PRESCRIPTION,
    **{kind.value: kind for kind in Kind},
}  # fmt: skip
FACILITY_DRUGS = "http://jpfhir.jp/fhir/eCS/CodeSystem/DrugCode/"
"""Beginning of the systems of facilities' drug codes."""
_LAB_KINDS = (Kind.LAB, Kind.INFECTION)
_LABS = (systems.CORE_LAB, systems.CORE_LAB_11, systems.INFECTION_LAB, systems.INFECTION_LAB_11, systems.JLAC10)
TARGET_SYSTEMS: dict[Kind, tuple[str, ...]] = {
    Kind.CONDITION: (systems.DISEASE_KEY, systems.DISEASE_EXCHANGE, systems.RECEIPT_DISEASE, systems.ICD10),
    # AllergyIntolerance.code of JP-CLINS is bound to JFAGY, coding by coding.
    Kind.ALLERGY: (systems.JFAGY_FOOD, systems.JFAGY_OTHER, systems.JFAGY_PRODUCT, systems.JFAGY_INGREDIENT),
    Kind.LAB: _LABS,
    Kind.INFECTION: _LABS,
    Kind.PRESCRIPTION: (systems.YJ, systems.HOT9, systems.HOT7, systems.GENERAL_NAME),
}

# FHIR R4 `code`: no white space at either end, single spaces inside.
_CODE = re.compile(r"[^\s]+( [^\s]+)*")
_LAB_CODE = re.compile(r"[A-Za-z0-9_-]+")
# Codes that Hyojun makes of the names of tests without a local code.
_RESERVED = re.compile(r"HYJ-[0-9a-f]{16}")
# A spreadsheet runs a cell that begins so as a formula: https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA = ("=", "+", "-", "@")


@dataclass(frozen=True)
class Row:
    """A line of a mapping file as written, white space at the ends of cells aside. `line` counts from 1."""

    line: int
    kind: str
    code: str
    display: str
    system: str = ""
    standard_code: str = ""
    standard_display: str = ""


@dataclass(frozen=True)
class Fault:
    """`line`: of the file, None when the fault is of the whole. A warning does not keep a row from being stored."""

    line: int | None
    severity: Severity
    text: str


@dataclass(frozen=True)
class Report:
    """What an import did or, with `stored` False, would have done had there been no errors."""

    stored: bool
    added: int
    changed: int
    retired: int
    unchanged: int
    skipped: int
    """rows left out because of an error"""
    faults: tuple[Fault, ...]


def local_system(kind: Kind, institution_number: str | None = None) -> str:
    """The URI of the hospital's own codes of a kind. `institution_number`: ten digits, for the system of drug codes."""
    if kind in _LAB_KINDS:
        return systems.LOCAL_LAB
    if kind is Kind.PRESCRIPTION and institution_number:
        return f"{FACILITY_DRUGS}1{institution_number}"
    return f"urn:hyojun:local:{kind}"


# --- reading and writing files ----------------------------------------------------------------------------------------


def read_rows(raw: bytes) -> tuple[list[Row], list[Fault]]:
    """The lines of a CSV file, UTF-8 (with or without BOM) or CP932, and those that cannot be read.

    Raises: TooLong; InvalidInput for another encoding, or a first line that lacks a column.
    """
    if len(raw) > MAX_FILE_BYTES:
        raise TooLong(f"the file has {len(raw):,} bytes; at most {MAX_FILE_BYTES:,} are accepted")
    reader = csv.reader(io.StringIO(_decoded(raw), newline=""), strict=True)
    try:
        header = next(reader, [])
    except csv.Error:
        raise InvalidInput("line 1: is not CSV") from None
    at = _columns(header)
    rows: list[Row] = []
    faults: list[Fault] = []
    while True:
        line = reader.line_num + 1
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return rows, faults
        except csv.Error:
            faults.append(_error(line, "is not CSV: a quote is missing or stands in the wrong place"))
            continue
        if not any(cells):
            continue
        if len(cells) > len(header):
            faults.append(_error(line, f"has {len(cells)} cells; the first line has {len(header)}"))
            continue
        cells += [""] * (len(header) - len(cells))
        rows.append(Row(line, **{name: cells[position] for name, position in at.items()}))


def _decoded(raw: bytes) -> str:
    for encoding in ("utf-8-sig", "cp932"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise InvalidInput("the file is neither UTF-8 nor CP932 (Shift_JIS of Windows)")


def _columns(header: Sequence[str]) -> dict[str, int]:
    """Column name -> its place; unknown columns are left aside."""
    known = dict(zip((*COLUMNS, *JAPANESE_COLUMNS), COLUMNS * 2, strict=True))
    at: dict[str, int] = {}
    for position, cell in enumerate(header):
        name = known.get(unicodedata.normalize("NFKC", cell).strip().lower())
        if name in at:
            raise InvalidInput(f"line 1: the column {name} stands twice")
        if name is not None:
            at[name] = position
    missing = [name for name in COLUMNS[:5] if name not in at]
    if missing:
        raise InvalidInput(f"line 1: must hold the columns {','.join(COLUMNS)}; {', '.join(missing)} missing")
    return at


def write_csv(rows: Iterable[Row]) -> bytes:
    """UTF-8 with BOM, which Excel needs; importing it again changes nothing."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_harmless(getattr(row, name)) for name in COLUMNS])
    return out.getvalue().encode("utf-8-sig")


def _harmless(cell: str) -> str:
    """Names of official tables may begin with a sign; a quote before it keeps it text. `_judge` ignores the quote."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


# --- the table --------------------------------------------------------------------------------------------------------


def import_local(
    session: Session, source: bytes | Sequence[Row], *, by: str, replace_all: bool = False, skip_bad: bool = False
) -> Report:
    """Stores a mapping file in the caller's transaction: new rows, changed ones (the old row is retired), nothing else.

    Every row is checked before anything is stored; with one error nothing is, unless `skip_bad` leaves such rows out.
    `replace_all`: rows of the kinds that the file holds, but not named in it, are retired. A row that was left out
    keeps what is stored under its code.
    Raises: InvalidInput and TooLong for a file that cannot be read at all.
    """
    if not by.strip():
        raise InvalidInput("by: is empty; say who imports")
    rows, faults = read_rows(source) if isinstance(source, bytes) else (list(source), [])
    _lock(session)
    stored = {(Kind(row.kind), row.code): row for row in _current_rows(session)}
    known = browse.find_all(session, {(row.system, row.standard_code) for row in rows if row.standard_code})
    good: dict[tuple[Kind, str], LocalEntry] = {}
    first_line: dict[tuple[Kind, str], int] = {}
    named: set[tuple[Kind, str]] = set()
    skipped = skipped_lines = len(faults)
    for row in rows:
        entry, found = _judge(row, known)
        if (kind := _KINDS.get(row.kind)) is not None:
            named.add((kind, row.code))
            if (first := first_line.setdefault((kind, row.code), row.line)) != row.line and row.code:
                found.append(_error(row.line, f"code: line {first} has the same one"))
        if entry is not None and not _errors(found) and _clashes(entry, good):
            found.append(_error(row.line, _CLASH))
        faults += found
        if _errors(found) or entry is None:
            skipped += 1
        else:
            good[entry.kind, entry.code] = entry
    unread = bool(skipped_lines) or any(row.kind not in _KINDS or not row.code for row in rows)
    kinds = {kind for kind, _ in named}
    unnamed = [key for key in stored if key not in named and key[0] in kinds] if replace_all else []
    others = {key: _entry(row) for key, row in stored.items() if key not in unnamed and key not in good}
    for key, entry in list(good.items()):
        if _clashes(entry, others):
            faults.append(_error(first_line[key], _CLASH))
            skipped += 1
            del good[key]
    added = [entry for key, entry in good.items() if key not in stored]
    changed = [entry for key, entry in good.items() if key in stored and _differs(stored[key], entry)]
    faults.sort(key=lambda fault: fault.line or 0)
    if replace_all and not good:
        faults.append(_error(None, "no row can be stored; a file that replaces must hold one"))
    elif replace_all and unread:
        faults.append(_error(None, "a line's kind or code cannot be read, so what it replaces is not known"))
    store = (skip_bad or not _errors(faults)) and not (replace_all and (unread or not good))
    if store:
        _retire(session, [stored[entry.kind, entry.code] for entry in changed] + [stored[key] for key in unnamed], by)
        _insert(session, [*added, *changed], by)
    unchanged = len(good) - len(added) - len(changed)
    return Report(store, len(added), len(changed), len(unnamed), unchanged, skipped, tuple(faults))


def set_local(session: Session, kind: Kind, code: str, display: str, target: Coding | None, by: str) -> LocalCode:
    """One row, by the same rules as a file's; the row that it replaces is retired, an equal one stays.

    The display of `target` is taken from the table. Raises: InvalidInput with everything that is wrong.
    """
    if not by.strip():
        raise InvalidInput("by: is empty; say who decided")
    row = Row(0, kind, code.strip(), display.strip())
    if target is not None:
        row = replace(row, system=target.system, standard_code=target.code, standard_display=target.display)
    _lock(session)
    entry, found = _judge(row, browse.find_all(session, [(row.system, row.standard_code)]))
    stored = {(Kind(old.kind), old.code): old for old in _current_rows(session)}
    if entry is not None and _clashes(entry, {key: _entry(old) for key, old in stored.items()}):
        found.append(_error(0, _CLASH))
    if entry is None or _errors(found):
        raise InvalidInput("; ".join(fault.text for fault in _errors(found)))
    old = stored.get((entry.kind, entry.code))
    if old is not None:
        if not _differs(old, entry):
            return old
        _retire(session, [old], by)
    _insert(session, [entry], by)
    return next(row for row in _current_rows(session, kind) if row.code == entry.code)


def map_name(session: Session, kind: Kind, name: str, target: Coding, by: str) -> LocalCode:
    """`name`, as notes write it, means `target`: in the row that has the name already, else in a new one, whose code is made
    of the name. Raises: as `set_local`."""
    wanted = spelling.key(name)
    known = next((entry for entry in current(session, kind) if spelling.key(entry.display) == wanted), None)
    made = "NAME-" + hashlib.sha256(f"{kind}\0{wanted}".encode()).hexdigest()[:16]
    code, display = (known.code, known.display) if known else (made, name)
    return set_local(session, kind, code, display, target, by)


def current(session: Session, kind: Kind | None = None) -> list[LocalEntry]:
    """The rows in force, by kind and code."""
    return [_entry(row) for row in _current_rows(session, kind)]


def lost(session: Session) -> list[LocalEntry]:
    """The rows in force whose standard code no active table has any more: a release was changed since they were stored.

    Names are still coded with them, as the hospital said; a person must see to them.
    """
    mapped = [(entry, entry.target) for entry in current(session) if entry.target is not None]
    known = browse.find_all(session, {(target.system, target.code) for _, target in mapped})
    return [entry for entry, target in mapped if (target.system, target.code) not in known]


def history(session: Session, kind: Kind, code: str) -> list[LocalCode]:
    """Every row that the code has had, the one in force or else the last one first."""
    rows = select(LocalCode).where(LocalCode.kind == kind, LocalCode.code == code)
    return list(session.scalars(rows.order_by(LocalCode.retired_at.desc().nulls_first(), LocalCode.created_at.desc())))


def export_local(session: Session) -> list[Row]:
    """The rows in force as lines of a file (`write_csv`)."""
    return [
        Row(
            number, entry.kind, entry.code, entry.display,
            *((entry.target.system, entry.target.code, entry.target.display) if entry.target else ()),
        )
        for number, entry in enumerate(current(session), start=2)
    ]  # fmt: skip


def find_current(session: Session, kinds: Iterable[Kind], code: str) -> list[LocalEntry]:
    """The rows in force of one code."""
    return [_entry(row) for row in session.scalars(_in_force(LocalCode.kind.in_(list(kinds)), LocalCode.code == code))]


def find_by_target(session: Session, system: str, code: str) -> list[LocalEntry]:
    """The rows in force that mean a standard code."""
    rows = _in_force(LocalCode.target_system == system, LocalCode.target_code == code)
    return [_entry(row) for row in session.scalars(rows)]


# --- rules ------------------------------------------------------------------------------------------------------------


def _judge(row: Row, known: Mapping[browse.Key, tuple[Coding, ...]]) -> tuple[LocalEntry | None, list[Fault]]:
    """The entry of a line, None where no kind can be read, and everything wrong with it."""
    kind = _KINDS.get(row.kind)
    if kind is None:
        return None, [_error(row.line, "kind: must be one of " + ", ".join(Kind))]
    texts = [*_code_faults(kind, row.code), *_display_faults(row.display)]
    found = [_error(row.line, text) for text in texts]
    if kind in _LAB_KINDS and " " in unicodedata.normalize("NFKC", row.display):
        found.append(_warning(row.line, "display: JP-CLINS asks for names of tests without spaces"))
    target = None
    if bool(row.system) != bool(row.standard_code):
        empty = "system" if row.standard_code else "standard_code"
        found.append(_error(row.line, f"{empty}: is empty; give both, or neither for a code without a standard one"))
    elif row.system and row.system not in TARGET_SYSTEMS[kind]:
        found.append(_error(row.line, f"system: {kind} is mapped to one of " + ", ".join(TARGET_SYSTEMS[kind])))
    elif row.system:
        displays = known.get((row.system, row.standard_code), ())
        written = row.standard_display
        if written[:1] == "'" and written[1:].startswith(_FORMULA):
            written = written[1:]
        target = next((coding for coding in displays if coding.display == written), next(iter(displays), None))
        if target is None:
            found.append(_error(row.line, "standard_code: no loaded table of this system has it"))
        else:
            target = Coding(system=target.system, code=target.code, display=target.display)
            if written and written != target.display:
                found.append(_warning(row.line, "standard_display: the table has another one, which is taken"))
    elif row.standard_display:
        found.append(_warning(row.line, "standard_display: is not used without a standard code"))
    return LocalEntry(kind, row.code, row.display, target), found


def _code_faults(kind: Kind, code: str) -> Iterator[str]:
    if not code:
        yield "code: is empty"
    elif len(code) > MAX_CODE:
        yield f"code: has {len(code)} characters; at most {MAX_CODE} are accepted"
    elif code.startswith(_FORMULA):
        yield "code: begins with a sign that makes spreadsheets run it"
    elif kind in _LAB_KINDS and not _LAB_CODE.fullmatch(code):
        yield "code: JP-CLINS accepts letters, digits, - and _ for tests"
    elif not _CODE.fullmatch(code) or _unprintable(code):
        yield "code: holds control characters, or white space other than single spaces"
    elif _RESERVED.fullmatch(code):
        yield "code: HYJ- and 16 hexadecimal digits are made by Hyojun"


def _display_faults(display: str) -> Iterator[str]:
    if not display:
        yield "display: is empty"
    elif len(display) > MAX_DISPLAY:
        yield f"display: has {len(display)} characters; at most {MAX_DISPLAY} are accepted"
    elif unicodedata.normalize("NFKC", display).startswith(_FORMULA):
        yield "display: begins with a sign that makes spreadsheets run it"
    elif _unprintable(display):
        yield "display: holds control characters"


def _unprintable(written: str) -> bool:
    return any(unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in written)


_CLASH = "code: means another test under infection or lab; both are codes of one system of JP-CLINS"


def _clashes(entry: LocalEntry, entries: Mapping[tuple[Kind, str], LocalEntry]) -> bool:
    """Does the code stand for something else among the codes of the other kind of test?"""
    if entry.kind not in _LAB_KINDS:
        return False
    other = entries.get((Kind.INFECTION if entry.kind is Kind.LAB else Kind.LAB, entry.code))
    return other is not None and (other.display, other.target) != (entry.display, entry.target)


def _error(line: int | None, text: str) -> Fault:
    return Fault(line, Severity.ERROR, text)


def _warning(line: int, text: str) -> Fault:
    return Fault(line, Severity.WARNING, text)


def _errors(faults: Iterable[Fault]) -> list[Fault]:
    return [fault for fault in faults if fault.severity is Severity.ERROR]


# --- rows -------------------------------------------------------------------------------------------------------------


def _lock(session: Session) -> None:
    session.execute(select(func.pg_advisory_xact_lock(LOCAL_LOCK)))


def _in_force(*conditions: ColumnElement[bool]) -> Select[LocalCode]:
    return select(LocalCode).where(LocalCode.retired_at.is_(None), *conditions).order_by(LocalCode.kind, LocalCode.code)


def _current_rows(session: Session, kind: Kind | None = None) -> list[LocalCode]:
    return list(session.scalars(_in_force(*([LocalCode.kind == kind] if kind else []))))


def _entry(row: LocalCode) -> LocalEntry:
    target = None
    if row.target_system is not None and row.target_code is not None and row.target_display is not None:
        target = Coding(system=row.target_system, code=row.target_code, display=row.target_display)
    return LocalEntry(Kind(row.kind), row.code, row.display, target)


def _differs(row: LocalCode, entry: LocalEntry) -> bool:
    return _entry(row) != entry


def _retire(session: Session, rows: Sequence[LocalCode], by: str) -> None:
    # clock_timestamp: two changes in one transaction keep their order.
    ids = [row.id for row in rows]
    gone = {"retired_at": func.clock_timestamp(), "retired_by": by}
    if ids:
        session.execute(update(LocalCode).where(LocalCode.id.in_(ids)).values(**gone))


def _insert(session: Session, entries: Sequence[LocalEntry], by: str) -> None:
    rows = [
        {
            "id": uuid4(), "kind": entry.kind, "code": entry.code, "display": entry.display, "created_by": by,
            "target_system": entry.target.system if entry.target else None,
            "target_code": entry.target.code if entry.target else None,
            "target_display": entry.target.display if entry.target else None,
        }
        for entry in entries
    ]  # fmt: skip
    if rows:
        session.execute(insert(LocalCode).values(created_at=func.clock_timestamp()), rows)
