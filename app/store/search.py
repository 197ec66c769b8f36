"""FHIR search: parameters to a query, a query to a page of results. Postgres compares, sorts and counts; nothing is in Python.

A page is found by where the one before it ended (keyset), so that what others write meanwhile moves nothing on other pages.
Without `_sort` results come by id. What lacks the element that is sorted by comes first, or with `-` last.

Source: https://hl7.org/fhir/R4/search.html (sort, count, total, include, revinclude, errors, summary, elements).
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

from sqlalchemy import ColumnElement, Select, and_, cast, func, literal, or_, select, text, tuple_
from sqlalchemy.orm import Session, aliased
from sqlalchemy.types import DateTime, Numeric, Text

from app.errors import InvalidInput
from app.store import cursors, versions
from app.store.criteria import TABLES, Criterion, Entry, Unknown, conditions, criterion, shown
from app.store.includes import Include, included, read_include
from app.store.parameters import PARAMETERS, ParameterType, SearchParameter
from app.store.versions import MAX_COUNT, Version
from models import SearchEntry
from schemas.access import Principal

DEFAULT_COUNT = 50
COUNTED = 5_000
"""Without `_total` results are counted up to here; more of them have no total."""
MAX_PARAMETERS = 100
SUMMARIES = ("true", "text", "data", "count", "false")
TOTALS = ("none", "estimate", "accurate")
CURSOR = "_cursor"
# Of the form of the answer, not of the search; the web face reads them.
_FORM = ("_format", "_pretty")
_SORT_COLUMNS: dict[ParameterType, str] = {
    ParameterType.TOKEN: "code",
    ParameterType.URI: "code",
    ParameterType.STRING: "folded",
    ParameterType.DATE: "starts",
    ParameterType.REFERENCE: "target_id",
    ParameterType.QUANTITY: "low",
}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,99}", re.ASCII)
# psycopg prepares what it sends often, and a plan for any value would not do for codes that are rare or everywhere. A page
# is made of few rows: starting other processes or a compiler for it takes longer than finding it.
_PLANS = text(
    "SELECT set_config('plan_cache_mode', 'force_custom_plan', true), set_config('jit', 'off', true),"
    " set_config('max_parallel_workers_per_gather', '0', true), set_config('random_page_cost', '1.5', true)"
)


@dataclass(frozen=True)
class SortKey:
    """`name`: a parameter, `_id` or `_lastUpdated`."""

    name: str
    descending: bool


@dataclass(frozen=True)
class Query:
    """`used`: the parameters that were really used, as given, without the cursor. `ignored`: names of the others.
    `summary`: None for none asked for; `count` 0 asks for the total alone."""

    type: str
    criteria: tuple[Criterion, ...] = ()
    sort: tuple[SortKey, ...] = ()
    includes: tuple[Include, ...] = ()
    count: int = DEFAULT_COUNT
    total: str | None = None
    summary: str | None = None
    elements: tuple[str, ...] = ()
    cursor: str | None = None
    used: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def counts_only(self) -> bool:
        return self.count == 0 or self.summary == "count"


@dataclass(frozen=True)
class Page:
    """`total`: of the matches on all pages; None: not counted. `cut`: more would be included than a page may hold. `next`,
    `previous`: values for `_cursor`; the first page is the query without one."""

    total: int | None
    matches: list[Version] = field(default_factory=list)
    included: list[Version] = field(default_factory=list)
    next: str | None = None
    previous: str | None = None
    cut: bool = False


# --- reading a request ------------------------------------------------------------------------------------------------


def parse(type_: str, parameters: Sequence[tuple[str, str]], *, strict: bool) -> Query:
    """The query of a request's decoded parameters, in their order. `strict`: what is not known is refused, not ignored.

    Raises: InvalidInput for a malformed value, a modifier that is not supported, and an unknown parameter if `strict`.
    """
    if type_ not in PARAMETERS:
        raise InvalidInput("this server stores no resources of that type")
    if len(parameters) > MAX_PARAMETERS:
        raise InvalidInput(f"at most {MAX_PARAMETERS} parameters")
    reading = _Reading(type_)
    for name, value in parameters:
        _check_text(name, value)
        if name in _FORM:
            continue
        try:
            if not value.strip():
                raise Unknown(name)
            reading.take(name, value)
        except Unknown:
            reading.ignored.append(name if _NAME.fullmatch(name) else "…")
        else:
            if name != CURSOR:
                reading.used.append((name, value))
    if strict and reading.ignored:
        raise InvalidInput("unknown or empty: " + ", ".join(dict.fromkeys(reading.ignored)))
    return reading.query()


def _check_text(name: str, value: str) -> None:
    try:
        (name + value).encode()
    except UnicodeEncodeError:
        raise InvalidInput("a parameter is no Unicode text") from None
    if "\0" in name + value:
        raise InvalidInput("a parameter holds U+0000")


class _Reading:
    """The parameters read so far."""

    def __init__(self, type_: str) -> None:
        self.type = type_
        self.criteria: list[Criterion] = []
        self.includes: list[Include] = []
        self.sort: list[SortKey] = []
        self.elements: list[str] = []
        self.count = DEFAULT_COUNT
        self.total: str | None = None
        self.summary: str | None = None
        self.cursor: str | None = None
        self.used: list[tuple[str, str]] = []
        self.ignored: list[str] = []

    def take(self, name: str, value: str) -> None:
        """Raises: Unknown, InvalidInput."""
        match name.split(":")[0] if name.startswith(("_include", "_revinclude")) else name:
            case "_sort":
                self.sort += [_sort_key(self.type, part.strip()) for part in value.split(",")]
            case "_count":
                self.count = _whole(name, value)
            case "_total":
                self.total = _one_of(name, value, TOTALS)
            case "_summary":
                self.summary = _one_of(name, value, SUMMARIES)
            case "_elements":
                self.elements += [_element(self.type, part.strip()) for part in value.split(",")]
            case "_include" | "_revinclude":
                self.includes.append(read_include(self.type, name, value))
            case "_cursor":
                self.cursor = value
            case _:
                self.criteria.append(criterion(self.type, name, value))

    def query(self) -> Query:
        return Query(
            self.type, tuple(self.criteria), tuple(self.sort), tuple(self.includes), self.count, self.total, self.summary,
            tuple(dict.fromkeys(self.elements)), self.cursor, tuple(self.used), tuple(dict.fromkeys(self.ignored)),
        )  # fmt: skip


def _element(type_: str, written: str) -> str:
    """The top-level element of `Patient.name.family`, `name` or `value[x]`."""
    return written.removeprefix(f"{type_}.").partition(".")[0].removesuffix("[x]")


def _whole(name: str, value: str) -> int:
    if not re.fullmatch(r"\d{1,9}", value, re.ASCII):
        raise InvalidInput(f"{name}: must be a whole number")
    return min(int(value), MAX_COUNT)


def _one_of(name: str, value: str, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise InvalidInput(f"{name}: must be one of {', '.join(allowed)}")
    return value


def _sort_key(type_: str, written: str) -> SortKey:
    name = written.removeprefix("-")
    if name not in ("_id", "_lastUpdated") and name not in PARAMETERS[type_]:
        raise Unknown("_sort")
    return SortKey(name, written.startswith("-"))


# --- searching --------------------------------------------------------------------------------------------------------


def search(session: Session, query: Query, who: Principal) -> Page:
    """One page. Whether `who` may search the type itself is the caller's to check; what he may not read is not included.

    Raises: Forbidden for a chain through a type that he may not search; InvalidInput for a bad cursor.
    """
    where = _where(SearchEntry, query, who)
    session.execute(_PLANS)
    if query.counts_only:
        return Page(_count(session, where))
    order = _Order(query, who)
    rows, following, previous = order.page(session, where)
    matches = versions.find_all(session, [(row.type, row.id, row.version) for row in rows])
    more, cut = included(session, query.includes, [(row.key, row.type, row.id) for row in rows], who)
    return Page(_total(session, query, where, len(rows), following, previous), matches, more, following, previous, cut)


def selected(query: Query, who: Principal) -> Select[str, str, int, datetime]:
    """Type, id, version and last_updated of everything that the criteria match, in no order, for `who`. Raises: Forbidden."""
    entry = aliased(SearchEntry)
    return select(entry.type, entry.id, entry.version, entry.last_updated).where(*_where(entry, query, who))


def matching(session: Session, type_: str, criteria: str, who: Principal) -> list[str]:
    """Ids of resources that the criteria of a conditional interaction match, two at most: `identifier=http://…|1`.

    Raises: InvalidInput where a criterion is unknown, empty or malformed, or there is none: it must never match them all.
    """
    given = parse_qsl(criteria.removeprefix("?"), keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
    query = parse(type_, given, strict=True)
    if not query.criteria or len(query.criteria) != len(given):
        raise InvalidInput("a condition needs criteria, and nothing else: identifier=system|value")
    session.execute(_PLANS)
    entry = aliased(SearchEntry)
    return list(session.scalars(select(entry.id).where(*_where(entry, query, who)).limit(2)))


def _where(entry: Entry, query: Query, who: Principal) -> list[ColumnElement[bool]]:
    return [entry.type == query.type, shown(entry, who), *conditions(query.criteria, entry, who)]


def _count(session: Session, where: Sequence[ColumnElement[bool]]) -> int:
    return session.scalar(select(func.count()).select_from(SearchEntry).where(*where)) or 0


def _total(
    session: Session, query: Query, where: list[ColumnElement[bool]], rows: int, following: str | None, previous: str | None
) -> int | None:
    if query.total == "none":
        return None
    if following is None and previous is None:
        return rows
    if query.total == "accurate":
        return _count(session, where)
    counted = select(literal(1)).select_from(SearchEntry).where(*where).limit(COUNTED + 1).subquery()
    found = session.scalar(select(func.count()).select_from(counted)) or 0
    if found <= COUNTED:
        return found
    return _estimate(session, select(SearchEntry.key).where(*where)) if query.total == "estimate" else None


def _estimate(session: Session, query: Select[Any]) -> int:
    """As the planner guesses it."""
    compiled = query.compile(session.get_bind(), compile_kwargs={"render_postcompile": True})
    plan = session.connection().exec_driver_sql(f"EXPLAIN (FORMAT JSON) {compiled}", compiled.params).scalar_one()
    return max(COUNTED, int(plan[0]["Plan"]["Plan Rows"]))


class _Order:
    """The order of a query's results, and its pages.

    Ties are broken by id, in the direction of the last key. A cursor holds the values by which the last row was sorted; of a
    text only whose it was, for a text may be a patient's name.
    """

    def __init__(self, query: Query, who: Principal) -> None:
        self.query, self.who = query, who
        self.keys = [key for key in query.sort if key.name != "_id"]
        by_id = next((key for key in query.sort if key.name == "_id"), None)
        self.id_descending = by_id.descending if by_id else bool(self.keys) and self.keys[-1].descending
        told = repr((query.type, query.sort, [pair for pair in query.used if not pair[0].startswith("_count")]))
        self.kind = hashlib.sha256(told.encode()).hexdigest()[:12]

    def page(self, session: Session, where: list[ColumnElement[bool]]) -> tuple[list[Any], str | None, str | None]:
        """Rows (key, type, id, version), and the cursors of the pages after and before."""
        sorting = [_expression(SearchEntry, self.query.type, key) for key in self.keys]
        columns = [cast(value, Text).label(f"sorted_{n}") for n, value in enumerate(sorting)]
        query = select(SearchEntry.key, SearchEntry.type, SearchEntry.id, SearchEntry.version, *columns).where(*where)
        backwards, place = self._place(session)
        if place is not None:
            query = query.where(self._beyond(sorting, place, backwards))
        directions = [key.descending != backwards for key in self.keys] + [self.id_descending != backwards]
        for value, descending in zip([*sorting, SearchEntry.id], directions, strict=True):
            query = query.order_by(value.desc() if descending else value.asc())
        rows: list[Any] = list(session.execute(query.limit(self.query.count + 1)))
        more = len(rows) > self.query.count
        rows = rows[: self.query.count]
        if backwards:
            rows.reverse()
        before = place is not None if not backwards else more
        after = more if not backwards else True
        return (
            rows,
            self._cursor("after", rows[-1]) if rows and after else None,
            self._cursor("before", rows[0]) if rows and before else None,
        )

    def _cursor(self, side: str, row: Any) -> str:
        stated = [None if self._is_text(key) else row[4 + n] for n, key in enumerate(self.keys)]
        return cursors.written(self.kind, [side, row.id, *stated])

    def _is_text(self, key: SortKey) -> bool:
        return key.name != "_lastUpdated" and PARAMETERS[self.query.type][key.name].type not in (
            ParameterType.DATE, ParameterType.QUANTITY,
        )  # fmt: skip

    def _place(self, session: Session) -> tuple[bool, list[Any] | None]:
        """Is the page before the place, and where it is: the sorted values as expressions, and the id."""
        if self.query.cursor is None:
            return False, None
        kinds = [type(None) if self._is_text(key) else str for key in self.keys]
        side, id_, *stated = cursors.read(self.query.cursor, self.kind, (str, str, *kinds))
        if side not in ("after", "before"):
            raise InvalidInput("_cursor: is not one that this server gave for this request")
        place: list[Any] = []
        for key, value in zip(self.keys, stated, strict=True):
            if not self._is_text(key):
                place.append(_typed(self.query.type, key, value))
                continue
            anchor = aliased(SearchEntry)
            own = (anchor.type == self.query.type, anchor.id == id_, shown(anchor, self.who))
            found = session.execute(select(_expression(anchor, self.query.type, key)).where(*own)).one_or_none()
            if found is None:
                raise InvalidInput("_cursor: the resource at which that page began was deleted; begin with the first page")
            place.append(literal(found[0]))
        return side == "before", [*place, literal(id_)]

    def _beyond(self, sorting: list[Any], place: list[Any], backwards: bool) -> ColumnElement[bool]:
        values = [*sorting, SearchEntry.id]
        down = [key.descending != backwards for key in self.keys] + [self.id_descending != backwards]
        if len(set(down)) == 1:  # the form that an index can follow
            return tuple_(*values) < tuple_(*place) if down[0] else tuple_(*values) > tuple_(*place)
        steps = []
        for n, descending in enumerate(down):
            same = [value == at for value, at in zip(values[:n], place[:n], strict=True)]
            steps.append(and_(*same, values[n] < place[n] if descending else values[n] > place[n]))
        return or_(*steps)


def _expression(entry: Entry, type_: str, key: SortKey) -> ColumnElement[Any]:
    """What is sorted by; never null. Of several values the lowest, descending the highest (search.html#sort)."""
    if key.name == "_lastUpdated":
        found: ColumnElement[Any] = entry.last_updated
        return found
    parameter = PARAMETERS[type_][key.name]
    if parameter.main:
        found = entry.dated_from
    else:
        found = _extreme(entry, parameter, key.descending)
    return found


def _extreme(entry: Entry, parameter: SearchParameter, highest: bool) -> ColumnElement[Any]:
    table = TABLES[parameter.type].c
    column = table[_SORT_COLUMNS[parameter.type]]
    chosen = func.max(column) if highest else func.min(column)
    value = select(chosen).where(table.entry == entry.key, table.param == parameter.number).scalar_subquery()
    if parameter.type is ParameterType.DATE:
        return func.coalesce(value, cast("-infinity", DateTime(timezone=True)))
    if parameter.type is ParameterType.QUANTITY:
        return func.coalesce(value, cast("-Infinity", Numeric))
    return func.coalesce(value, "")


def _typed(type_: str, key: SortKey, value: str) -> ColumnElement[Any]:
    number = key.name != "_lastUpdated" and PARAMETERS[type_][key.name].type is ParameterType.QUANTITY
    pattern = r"-?[0-9.]{1,200}|-?Infinity" if number else r"-?infinity|[0-9+:. BC-]{10,50}"
    if not re.fullmatch(pattern, value, re.ASCII):
        raise InvalidInput("_cursor: is not one that this server gave for this request")
    return cast(value, Numeric if number else DateTime(timezone=True))
