"""The loaded tables as people and other systems look into them: one code, many codes, a search by name.

Only `ready` releases are read: the active one of each system, or the version that was asked for. A code stands in a
table of its own system (`Concept.code`), or among the codings of another table's row (`properties.codings`): the
starter, and masters that carry the codes of further systems.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import RowMapping, select, text
from sqlalchemy.orm import Session

from app.errors import InvalidInput, NotFound
from app.terminology.spelling import key
from models import CodeSystemRelease, ImportState
from schemas import systems
from schemas.coding import Coding
from schemas.statement import Kind

Key = tuple[str, str]
"""System and code."""

VALUE_SET = "urn:hyojun:valueset:"
"""With a `Kind` behind it: everything that the active tables can code statements of that kind with."""
MAX_FILTER = 200
"""Longest text that can be searched for, in characters."""

# Importers state it as a fact of the row (`Item.retired`): its master has ended the code, or moved it to another.
_INACTIVE = "coalesce(c.properties->'facts' ? 'retired', false)"
_GCM = re.compile(r"GCM[0-9A-Z]{9}ZZZ")
_CODE_LIKE = re.compile(r"[A-Z0-9][A-Z0-9._^-]*")
_HIRAGANA = {ord("ァ") + i: chr(ord("ぁ") + i) for i in range(ord("ヴ") - ord("ァ") + 1)}


@dataclass(frozen=True)
class Found:
    """One code with what its table says of it. `names`: all it goes by; `codings`: the same row in other systems."""

    coding: Coding
    kana: str | None
    names: tuple[str, ...]
    codings: tuple[Coding, ...]
    facts: Mapping[str, str]
    inactive: bool


@dataclass(frozen=True)
class Hit:
    coding: Coding
    kana: str | None
    inactive: bool


@dataclass(frozen=True)
class Page:
    """`total`: of all hits, not of this page."""

    total: int
    hits: tuple[Hit, ...]


def releases(session: Session, system: str | None = None, version: str | None = None) -> list[CodeSystemRelease]:
    """The ready releases, the active one of a system first, then the newest."""
    wanted = select(CodeSystemRelease).where(CodeSystemRelease.state == ImportState.READY)
    if system is not None:
        wanted = wanted.where(CodeSystemRelease.system == system)
    if version is not None:
        wanted = wanted.where(CodeSystemRelease.version == version)
    newest = (CodeSystemRelease.active.desc(), CodeSystemRelease.created_at.desc())
    return list(session.scalars(wanted.order_by(CodeSystemRelease.system, *newest)))


_COLUMNS = f"c.code, c.display, c.kana, c.properties, r.system, r.version, {_INACTIVE} AS inactive"
_OWN_ROW = f"""
SELECT {_COLUMNS} FROM concepts c JOIN code_system_releases r ON r.id = c.release_id
WHERE r.system = :system AND c.code = :code AND r.state = 'ready'
    AND CASE WHEN CAST(:version AS TEXT) IS NULL THEN r.active ELSE r.version = CAST(:version AS TEXT) END ORDER BY inactive, c.id LIMIT 1
"""  # noqa: S608
_OTHER_ROW = f"""
SELECT {_COLUMNS} FROM concepts c JOIN code_system_releases r ON r.id = c.release_id
WHERE c.properties->'codings' @> CAST(:wanted AS JSONB) AND r.state = 'ready'
    AND (r.active OR CAST(:version AS TEXT) IS NOT NULL) ORDER BY inactive, c.id LIMIT 1
"""  # noqa: S608


def find(session: Session, system: str, code: str, version: str | None = None) -> Found | None:
    """A code in the active tables, or in the release of that version, which may be an old one."""
    if not code or not _storable(system) or not _storable(code):
        return None
    values = {"system": system, "code": code, "version": version, "wanted": _wanted((system, code), version)}
    row = session.execute(text(_OWN_ROW), values).mappings().one_or_none()
    row = row or session.execute(text(_OTHER_ROW), values).mappings().one_or_none()
    if row is None:
        derived = {} if version else _medication_allergens(session, [(system, code)])
        return next((Found(coding, None, (), (), {}, False) for coding in derived.values()), None)
    properties = row["properties"]
    codings = [Coding(**coding) for coding in properties.get("codings", ())]
    coding = Coding(system=system, code=code, display=row["display"], version=row["version"])
    if row["system"] != system:
        # A table says nothing of the version of another one, whose codes it carries.
        coding = next(coding for coding in codings if (coding.system, coding.code) == (system, code))
    return Found(
        coding=coding,
        kana=row["kana"],
        names=tuple(properties.get("names", ())),
        codings=tuple(coding for coding in codings if (coding.system, coding.code) != (system, code)),
        facts={name: value for name, value in properties.get("facts", {}).items() if isinstance(value, str)},
        inactive=row["inactive"],
    )


_OWN_ROWS = f"""
SELECT r.system, c.code, c.display, r.version FROM code_system_releases r
JOIN unnest(CAST(:systems AS TEXT[]), CAST(:codes AS TEXT[])) AS wanted (system, code) ON wanted.system = r.system
JOIN concepts c ON c.release_id = r.id AND c.code = wanted.code
WHERE r.active ORDER BY {_INACTIVE}, c.id
"""  # noqa: S608
# OFFSET 0: one index scan for each code; else the planner compares all rows with all codes.
_OTHER_ROWS = f"""
SELECT coding->>'system' AS system, coding->>'code' AS code, coding->>'display' AS display, coding->>'version' AS version
FROM unnest(CAST(:wanted AS TEXT[])) AS wanted (one)
CROSS JOIN LATERAL (
    SELECT * FROM concepts WHERE properties->'codings' @> CAST(wanted.one AS JSONB) OFFSET 0
) c
JOIN code_system_releases r ON r.id = c.release_id AND r.active
CROSS JOIN LATERAL jsonb_array_elements(c.properties->'codings') AS coding
WHERE coding @> (CAST(wanted.one AS JSONB)->0) ORDER BY {_INACTIVE}, c.id
"""  # noqa: S608


def find_all(session: Session, keys: Iterable[Key]) -> dict[Key, tuple[Coding, ...]]:
    """Which of the codes the active tables hold, each with its displays.

    A table of the code's own system has the last word on the display; without one, every display that other tables give
    the code, best first (one ICD-10 code stands for many names).
    """
    wanted = sorted({(system, code) for system, code in keys if code and _storable(system) and _storable(code)})
    found: dict[Key, list[Coding]] = {}

    def take(rows: Iterable[RowMapping]) -> None:
        for row in rows:
            coding = Coding(system=row["system"], code=row["code"], display=row["display"], version=row["version"])
            known = found.setdefault((coding.system, coding.code), [])
            if coding.display not in (other.display for other in known):
                known.append(coding)

    if not wanted:
        return {}
    values = {"systems": [system for system, _ in wanted], "codes": [code for _, code in wanted]}
    take(session.execute(text(_OWN_ROWS), values).mappings())
    rest = [_wanted(one) for one in wanted if one not in found]
    if rest:
        take(session.execute(text(_OTHER_ROWS), {"wanted": rest}).mappings())
    for one, coding in _medication_allergens(session, [one for one in wanted if one not in found]).items():
        found[one] = [coding]
    return {one: tuple(codings) for one, codings in found.items()}


_INGREDIENT = """
SELECT c.properties->'facts'->>'ingredient' AS ingredient
FROM code_system_releases r JOIN concepts c ON c.release_id = r.id
WHERE r.active AND c.code LIKE :code AND c.properties->'codings' @> CAST(:wanted AS JSONB)
    AND coalesce(c.properties->'facts'->>'ingredient', '') <> '' ORDER BY c.id LIMIT 1
"""


def _medication_allergens(session: Session, keys: Iterable[Key]) -> dict[Key, Coding]:
    """The codes of drugs as allergens, which no table lists: they are made of YJ codes.

    Source: JP-CLINS 1.10.0, JFAGY 医薬品: YCM and the code of a product; GCM, its first nine characters and ZZZ.
    """
    found: dict[Key, Coding] = {}
    keys = list(keys)
    products = {one: (systems.YJ, one[1][3:]) for one in keys if one[0] == systems.JFAGY_PRODUCT and one[1].startswith("YCM")}
    known = find_all(session, products.values()) if products else {}
    for one, product in products.items():
        for coding in known.get(product, ())[:1]:
            found[one] = coding.model_copy(update={"system": one[0], "code": one[1]})
    for one in keys:
        if one[0] == systems.JFAGY_INGREDIENT and _GCM.fullmatch(one[1]):
            values = {"code": one[1][3:12] + "%", "wanted": json.dumps([{"system": systems.YJ}])}
            row = session.execute(text(_INGREDIENT), values).mappings().one_or_none()
            if row is not None:
                display = f"【成分名】{row['ingredient']}"
                found[one] = Coding(system=one[0], code=one[1], display=display)
    return found


def held(session: Session, systems: Iterable[str]) -> dict[str, str]:
    """The systems that have an active table of their own, with its version: a code that it lacks does not exist.

    Systems that are known only through the codings of other tables are not among them: those hold excerpts.
    """
    wanted = select(CodeSystemRelease.system, CodeSystemRelease.version).where(
        CodeSystemRelease.active,
        CodeSystemRelease.concepts > 0,
        CodeSystemRelease.system.in_(set(filter(_storable, systems))),
    )
    return {row.system: row.version for row in session.execute(wanted)}


_DISPLAYS = """
SELECT r.system, c.code, c.display FROM code_system_releases r JOIN concepts c ON c.release_id = r.id
WHERE r.active AND r.system = ANY(CAST(:systems AS TEXT[])) AND c.code <> ''
UNION ALL
SELECT coding->>'system', coding->>'code', coding->>'display'
FROM unnest(CAST(:systems AS TEXT[])) AS wanted (system)
JOIN concepts c ON c.properties->'codings' @> jsonb_build_array(jsonb_build_object('system', wanted.system))
JOIN code_system_releases r ON r.id = c.release_id AND r.active AND r.system <> wanted.system
CROSS JOIN LATERAL jsonb_array_elements(c.properties->'codings') AS coding
WHERE coding->>'system' = wanted.system
"""


def displays(session: Session, systems: Sequence[str]) -> dict[Key, str]:
    """Every code of the systems with its display; meant for small tables (the items that JP-CLINS names)."""
    found: dict[Key, str] = {}
    for system, code, display in session.execute(text(_DISPLAYS), {"systems": list(systems)}):
        found.setdefault((system, code), display)
    return found


# --- search ----------------------------------------------------------------------------------------------------------


def expand(
    session: Session, url: str, filter_: str = "", *, count: int, offset: int = 0, active_only: bool = False,
    version: str | None = None,
) -> Page:  # fmt: skip
    """The codes of a value set that match every word of `filter_`, best first; all, by code, without one.

    `url`: the canonical of a loaded code system, with or without `?fhir_vs` or `|version`, or `VALUE_SET` and a kind.
    A word matches the beginning of a code, or any part of a name or reading (hiragana and katakana are the same), a
    word of one character only their beginnings. Order: the whole code, a whole name, the beginning of a name, others;
    among those the shorter name; what its table retired comes last.
    Raises: NotFound for a value set that is not loaded, InvalidInput for a filter of more than `MAX_FILTER` characters.
    """
    if len(filter_) > MAX_FILTER:
        raise InvalidInput(f"filter: has more than {MAX_FILTER} characters")
    if not _storable(filter_) or not _storable(url):
        raise InvalidInput("filter or url: holds a character that no text can hold")
    source = _source(session, url, version)
    words = [word for word in (_Word.of(part) for part in filter_.split()) if word is not None]
    if filter_.strip() and not words:
        return Page(0, ())
    values: dict[str, Any] = {**source.values, "count": count, "offset": offset}
    where = [source.where]
    if active_only:
        where.append(f"NOT {_INACTIVE}")
    if source.own and not words:
        return _page(session, _ALL.format(where=" AND ".join(where)), values)
    for number, word in enumerate(words):
        # Two index scans put together; as an OR over rows, every row of the table would be looked at.
        arms = []
        if word.grams:
            arms.append(
                f"SELECT c.id FROM concepts c WHERE c.release_id = ANY(:releases)"  # noqa: S608
                f" AND name_grams(c.folded) @> CAST(:grams{number} AS TEXT[])"
                f" AND strpos(' ' || c.folded, :word{number}) > 0"
            )
            values |= {f"grams{number}": list(word.grams), f"word{number}": word.searched}
        if word.code is not None:
            arms.append(source.with_code.format(code=f":code{number}"))
            values[f"code{number}"] = word.code.replace("_", r"\_") + "%"
        where.append("c.id IN (" + " UNION ALL ".join(arms) + ")")
    values["raw"] = unicodedata.normalize("NFKC", filter_).strip().upper()
    values["name"] = _folded(filter_) or "\n"
    statement = _SEARCH.format(
        code=source.code, system=source.system, display=source.display, version=source.version,
        joins=source.joins, where=" AND ".join(where),
        order="inactive, rank, length(display), code USING ~<~" if words else "code USING ~<~, system",
    )  # fmt: skip
    return _page(session, statement, values)


@dataclass(frozen=True)
class _Source:
    """Where the codes of a value set stand, as SQL. `own`: in one table of their own system. `with_code`: the rows whose
    code begins so."""

    own: bool
    code: str
    system: str
    display: str
    version: str
    joins: str
    where: str
    with_code: str
    values: Mapping[str, Any]


def _source(session: Session, url: str, version: str | None) -> _Source:
    url, _, stated = url.removesuffix("?fhir_vs").partition("|")
    version = version or stated or None
    if url.startswith(VALUE_SET):
        return _kind_source(session, url.removeprefix(VALUE_SET))
    own = releases(session, url, version)
    if version is None:
        own = [release for release in own if release.active]
    if own:
        return _Source(
            own=True, code="c.code", system="CAST(:system AS TEXT)", display="c.display",
            version="CAST(:version AS TEXT)", joins="",
            where="c.release_id = ANY(:releases) AND c.code <> ''", with_code=_WITH_CODE,
            values={"releases": [own[0].id], "system": url, "version": own[0].version},
        )  # fmt: skip
    inside = [release.id for release in releases(session) if release.active or version]
    wanted = json.dumps([{"system": url, **({"version": version} if version else {})}])
    values = {"releases": inside, "wanted": wanted, "system": url}
    where = "c.release_id = ANY(:releases) AND c.properties->'codings' @> CAST(:wanted AS JSONB)"
    there = text(f"SELECT EXISTS (SELECT FROM concepts c WHERE {where})")  # noqa: S608
    if not session.scalar(there, values):
        raise NotFound("no value set of that url is loaded" + (" in that version" if version else ""))
    return _Source(
        own=False, code="coding->>'code'", system="coding->>'system'", display="coding->>'display'",
        version="coding->>'version'",
        joins="CROSS JOIN LATERAL jsonb_array_elements(c.properties->'codings') AS coding",
        where=f"{where} AND coding->>'system' = :system", with_code=_WITH_INNER_CODE,
        values=values,
    )  # fmt: skip


def _kind_source(session: Session, kind: str) -> _Source:
    if kind not in set(Kind):
        raise NotFound("no value set of that url; the kinds are " + ", ".join(Kind))
    active = [release.id for release in releases(session) if release.active]
    # The first coding is the row's own; rows without one are of tables whose codes no resource can hold.
    first = "c.properties->'codings'->0"
    return _Source(
        own=False, code=f"{first}->>'code'", system=f"{first}->>'system'", display=f"{first}->>'display'",
        version=f"{first}->>'version'", joins="",
        where=f"c.release_id = ANY(:releases) AND c.properties->>'kind' = :kind AND {first} IS NOT NULL",
        with_code=_WITH_CODE,
        values={"releases": active, "kind": kind},
    )  # fmt: skip


_WITH_CODE = "SELECT c.id FROM concepts c WHERE c.release_id = ANY(:releases) AND c.code LIKE {code}"
_WITH_INNER_CODE = """SELECT c.id FROM concepts c CROSS JOIN LATERAL jsonb_array_elements(c.properties->'codings') AS coding
    WHERE c.release_id = ANY(:releases) AND coding->>'system' = :system AND coding->>'code' LIKE {code}"""
_ALL = f"""
SELECT whole.total, page.* FROM (SELECT count(*) AS total FROM concepts c WHERE {{where}}) whole
LEFT JOIN LATERAL (
    SELECT CAST(:system AS TEXT) AS system, c.code, c.display, CAST(:version AS TEXT) AS version, c.kana,
        {_INACTIVE} AS inactive
    FROM concepts c WHERE {{where}} ORDER BY c.code USING ~<~ LIMIT :count OFFSET :offset
) page ON true
"""  # noqa: S608
_SEARCH = f"""
WITH hits AS MATERIALIZED (
    SELECT {{system}} AS system, {{code}} AS code, {{display}} AS display, {{version}} AS version, c.kana,
        {_INACTIVE} AS inactive,
        c.id, ' ' || c.folded || ' ' AS folded
    FROM concepts c {{joins}} WHERE {{where}}
), ranked AS (
    SELECT DISTINCT ON (system, code) *, CASE
        WHEN code = :raw THEN 0
        WHEN strpos(folded, ' ' || CAST(:name AS TEXT) || ' ') > 0 THEN 1
        WHEN strpos(folded, ' ' || CAST(:name AS TEXT)) > 0 THEN 2
        ELSE 3 END AS rank
    FROM hits ORDER BY system, code, inactive, rank, id
)
SELECT whole.total, page.* FROM (SELECT count(*) AS total FROM ranked) whole
LEFT JOIN LATERAL (
    SELECT system, code, display, version, kana, inactive FROM ranked
    ORDER BY {{order}} LIMIT :count OFFSET :offset
) page ON true
"""  # noqa: S608


def _page(session: Session, statement: str, values: Mapping[str, Any]) -> Page:
    named = {name: values[name] for name in values if re.search(rf"(?<!:):{name}\b", statement)}
    rows = session.execute(text(statement), named).mappings().all()
    hits = tuple(
        Hit(
            Coding(
                system=row["system"], code=row["code"], display=row["display"],
                version=row["version"],
            ),
            row["kana"], row["inactive"],
        )
        for row in rows if row["code"] is not None
    )  # fmt: skip
    return Page(rows[0]["total"], hits)


@dataclass(frozen=True)
class _Word:
    """`searched`: a piece of the folded names; `grams`: the pairs of characters that it must have; `code`: the beginning
    of a code, None where the word cannot be one."""

    searched: str
    grams: tuple[str, ...]
    code: str | None

    @staticmethod
    def of(written: str) -> "_Word | None":
        raw = unicodedata.normalize("NFKC", written).upper()
        code = raw if _CODE_LIKE.fullmatch(raw) else None
        name = _folded(written)
        if len(name) == 1:
            name = " " + name
        grams = tuple(dict.fromkeys(name[i : i + 2] for i in range(len(name) - 1)))
        return _Word(name, grams, code) if grams or code else None


def _folded(written: str) -> str:
    """As the database folds names (`name_fold`), which are stored as `key` makes them."""
    return key(written).translate(_HIRAGANA)


def _storable(value: str) -> bool:
    """Can PostgreSQL hold it as text? Not U+0000, nor half of a surrogate pair."""
    return not any(char == "\x00" or "\ud800" <= char <= "\udfff" for char in value)


def _wanted(one: Key, version: str | None = None) -> str:
    return json.dumps([{"system": one[0], "code": one[1], **({"version": version} if version else {})}])
