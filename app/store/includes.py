"""What is shown beside the matches of a search: `_include` and `_revinclude`.

Source: https://hl7.org/fhir/R4/search.html#include. What is not there, or may not be read, is left out in silence.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from app.errors import InvalidInput
from app.store import versions
from app.store.criteria import Unknown, shown
from app.store.parameters import PARAMETERS, ParameterType
from app.store.versions import Version
from models import SearchEntry, search_references
from schemas.access import Principal

MAX_INCLUDED = 1000
"""Resources beside the matches of one page."""
MAX_ROUNDS = 5
"""How often what was included is looked at for more (`:iterate`)."""

Place = tuple[int, str, str]
"""An entry's key, type and id."""


@dataclass(frozen=True)
class Include:
    """`source`: the type that refers; `params`: numbers of its parameters, None for all of them (and of all types, where `source` is
    None). `target`: only to this type. `reverse`: those are included that refer, not those that are referred to."""

    source: str | None
    params: frozenset[int] | None
    target: str | None
    reverse: bool
    iterate: bool


def read_include(type_: str, name: str, value: str) -> Include:
    """Raises: Unknown for a type or parameter that there is not; InvalidInput for another modifier or form."""
    base, _, modifier = name.partition(":")
    if modifier not in ("", "iterate", "recurse"):  # recurse: its name in R3
        raise InvalidInput(f"{base}: this modifier is not supported")
    reverse, iterate = base == "_revinclude", bool(modifier)
    if base not in ("_include", "_revinclude"):
        raise Unknown(base)
    if value == "*":
        return Include(None if reverse else type_, None, type_ if reverse else None, reverse, iterate)
    source, _, rest = value.partition(":")
    parameter_name, _, target = rest.partition(":")
    if source not in PARAMETERS or (target and target not in PARAMETERS):
        raise Unknown(base)
    if not iterate and not reverse and source != type_:
        raise InvalidInput(f"{base}: begins with the type that is searched, or has :iterate")
    params = None
    if parameter_name != "*":
        parameter = PARAMETERS[source].get(parameter_name)
        if parameter is None or parameter.type is not ParameterType.REFERENCE:
            raise Unknown(base)
        params = frozenset({parameter.number})
    return Include(source, params, target or None, reverse, iterate)


def included(
    session: Session, includes: Sequence[Include], matches: Sequence[Place], who: Principal
) -> tuple[list[Version], bool]:
    """The resources beside `matches`, none twice and none that is a match; and whether there would have been more."""
    seen = {(type_, id_) for _, type_, id_ in matches}
    found: dict[tuple[str, str], int] = {}
    frontier, wanted, cut = list(matches), list(includes), False
    for _ in range(MAX_ROUNDS):
        if not frontier or not wanted:
            break
        new: dict[int, Place] = {}
        versions_of: dict[int, int] = {}
        for include in wanted:
            for key, type_, id_, version in _found(session, include, frontier, who):
                if (type_, id_) not in seen and key not in new:
                    new[key], versions_of[key] = (key, type_, id_), version
        room = MAX_INCLUDED - len(found)
        cut = cut or len(new) > room
        frontier = list(new.values())[:room]
        found |= {(type_, id_): versions_of[key] for key, type_, id_ in frontier}
        seen |= {(type_, id_) for _, type_, id_ in frontier}
        wanted = [include for include in includes if include.iterate]
    return versions.find_all(session, [(type_, id_, version) for (type_, id_), version in found.items()]), cut


def _found(
    session: Session, include: Include, frontier: Sequence[Place], who: Principal
) -> list[tuple[int, str, str, int]]:
    """(key, type, id, version), at most one more than may be included."""
    rows = search_references.c
    entry = SearchEntry
    readable = [type_ for type_ in PARAMETERS if who.may(type_, "r")]
    query = select(entry.key, entry.type, entry.id, entry.version).distinct()
    if include.reverse:
        places = [(type_, id_) for _, type_, id_ in frontier if include.target in (None, type_)]
        if include.source is not None:
            readable = [type_ for type_ in readable if type_ == include.source]
        query = query.join(search_references, rows.entry == entry.key)
        query = query.where(tuple_(rows.target_type, rows.target_id).in_(places))
    else:
        keys = [key for key, type_, _ in frontier if include.source in (None, type_)]
        if include.target is not None:
            readable = [type_ for type_ in readable if type_ == include.target]
        query = query.join(
            search_references, (rows.target_type == entry.type) & (rows.target_id == entry.id)
        ).where(rows.entry.in_(keys))
        places = [("", "")] if keys else []
    if not places or not readable:
        return []
    if include.params is not None:
        query = query.where(rows.param.in_(include.params))
    query = query.where(shown(entry, who), entry.type.in_(readable)).order_by(entry.type, entry.id)
    return [(row.key, row.type, row.id, row.version) for row in session.execute(query.limit(MAX_INCLUDED + 1))]
