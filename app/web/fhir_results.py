"""What was found, as a Bundle: pages of a search and of a history, with their links.

Sources: https://hl7.org/fhir/R4/http.html#search, #history, #paging; https://hl7.org/fhir/R4/search.html.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from urllib.parse import quote, urlencode

from sqlalchemy.orm import Session

from app.errors import InvalidInput
from app.store import search as stored
from app.store import versions
from app.store.parameters import PARAMETERS, ParameterType
from app.store.projection import projected
from app.store.versions import Version
from app.web.fhir_wire import Json, etag
from app.web.outcome import malformed, outcome_json
from schemas.access import Principal
from schemas.issue import Issue, IssueType, Severity

ABOUT_ANSWER = frozenset({"_format", "_pretty"})
"""Parameters that say how an answer is written, and search for nothing."""
CURSOR = "_cursor"
DEFAULT_COUNT, MAX_COUNT = 50, 1000
"""Entries of one page of a history: without `_count`, and at most."""
_STATUS = {"POST": "201 Created", "PUT": "200 OK", "DELETE": "204 No Content"}

Parameters = Sequence[tuple[str, str]]


def link(relation: str, url: str, parameters: Iterable[tuple[str, str]]) -> Json:
    """Characters that search parameters are made of stay readable, as in the examples of FHIR."""
    query = urlencode(list(parameters), quote_via=quote, safe=":|,$*/")
    return {"relation": relation, "url": f"{url}?{query}" if query else url}


def asked(parameters: Parameters) -> list[tuple[str, str]]:
    return [(name, value) for name, value in parameters if name not in ABOUT_ANSWER]


def ids_of(bundle: Json) -> list[str]:
    """The ids of the resources that a Bundle shows, for the record of who looked at what."""
    return [entry["resource"]["id"] for entry in bundle.get("entry", ()) if "id" in entry.get("resource", {})]


def touched(answer: Json) -> list[str]:
    """`Type/id` of what the entries of a transaction or batch wrote or showed, for the same record."""
    urls = (entry["fullUrl"] for entry in answer.get("entry", ()) if "fullUrl" in entry)
    return ["/".join(url.rsplit("/", 2)[1:]) for url in urls]


# --- search -----------------------------------------------------------------------------------------------------------


def searchset(
    session: Session,
    who: Principal,
    type_: str,
    parameters: Parameters,
    base: str,
    *,
    strict: bool = False,
    told: bool = False,
) -> Json:
    """A page of a search, as a Bundle. `strict`: refuse parameters that are not known; `told`: else say which were left out.

    Raises: Refused for what cannot be searched by; Forbidden for a chain through a type that `who` may not search.
    """
    try:
        query = stored.parse(type_, _local(type_, asked(parameters), base), strict=strict)
        page = stored.search(session, query, who)
    except InvalidInput as error:
        raise malformed(str(error)) from None
    url = f"{base}/{type_}"
    links = [link("first", url, query.used)]
    for relation, cursor in (("self", query.cursor), ("previous", page.previous), ("next", page.next)):
        if cursor is not None:
            links.append(link(relation, url, [*query.used, (CURSOR, cursor)]))
        elif relation == "self":
            links.append(link(relation, url, query.used))
    entries = [_found(_cut(version, query), version, base, "match") for version in page.matches]
    entries += [_found(_cut(version, query), version, base, "include") for version in page.included]
    if told and query.ignored:
        entries.append({"resource": _ignored(query.ignored), "search": {"mode": "outcome"}})
    return _bundle("searchset", page.total, links, entries)


def _local(type_: str, parameters: Parameters, base: str) -> list[tuple[str, str]]:
    """References by a URL of this server become those that are stored: `Patient/1`."""
    of_type = PARAMETERS.get(type_, {})

    def is_reference(name: str) -> bool:
        parameter = of_type.get(name.partition(":")[0])
        return parameter is not None and parameter.type is ParameterType.REFERENCE

    return [
        (name, ",".join(part.removeprefix(f"{base}/") for part in value.split(",")) if is_reference(name) else value)
        for name, value in parameters
    ]


def shown(version: Version, parameters: Parameters) -> Json:
    """A resource that was read by its id, cut down as `_summary` and `_elements` ask. Raises: Refused."""
    cut = [(name, value) for name, value in parameters if name in ("_summary", "_elements")]
    if not cut:
        return version.served()
    try:
        return _cut(version, stored.parse(version.type, cut, strict=True))
    except InvalidInput as error:
        raise malformed(str(error)) from None


def _cut(version: Version, query: stored.Query) -> Json:
    return projected(version.served(), query.summary, query.elements)


def _found(resource: Json, version: Version, base: str, mode: str) -> Json:
    return {"fullUrl": f"{base}/{version.type}/{version.id}", "resource": resource, "search": {"mode": mode}}


def _ignored(names: Iterable[str]) -> Json:
    count = len(list(names))
    text = f"{count} parameters are not known here and were ignored; the self link has those that were used"
    return outcome_json([Issue(severity=Severity.WARNING, code=IssueType.NOT_SUPPORTED, text=text)])


def _bundle(type_: str, total: int | None, links: list[Json], entries: list[Json]) -> Json:
    bundle: Json = {"resourceType": "Bundle", "type": type_, "link": links}
    if total is not None:
        bundle["total"] = total
    if entries:  # an empty list is no FHIR JSON
        bundle["entry"] = entries
    return bundle


# --- history ----------------------------------------------------------------------------------------------------------


def history(
    session: Session, who: Principal, type_: str | None, id_: str | None, parameters: Parameters, base: str
) -> Json:
    """Versions of one resource, of a type, or of all that `who` may read; newest first. Raises: Refused, NotFound."""
    stated: Mapping[str, str] = dict(asked(parameters))
    since, count, cursor = _since(stated.get("_since")), _count(stated.get("_count")), stated.get(CURSOR)
    try:
        found = versions.history(session, who, type_=type_, id_=id_, since=since, count=count, cursor=cursor)
    except InvalidInput as error:
        raise malformed(str(error)) from None
    url = "/".join(part for part in (base, type_, id_, "_history") if part)
    used = [(name, stated[name]) for name in ("_since", "_count") if name in stated]
    links = [link("self", url, [*used, *([(CURSOR, cursor)] if cursor else [])]), link("first", url, used)]
    if found.next is not None:
        links.append(link("next", url, [*used, (CURSOR, found.next)]))
    return _bundle("history", found.total, links, [_version_entry(version, base) for version in found.entries])


def _version_entry(version: Version, base: str) -> Json:
    path = f"{version.type}/{version.id}"
    created = version.method == "POST" or (version.method == "PUT" and version.version == 1)
    entry: Json = {
        "fullUrl": f"{base}/{path}",
        "request": {"method": version.method, "url": version.type if version.method == "POST" else path},
        "response": {
            "status": _STATUS["POST" if created else version.method],
            "etag": etag(version),
            "lastModified": version.last_updated.isoformat(timespec="milliseconds"),
        },
    }
    if version.content is not None:
        entry["resource"] = version.served()
    return entry


def _count(written: str | None) -> int:
    if written is None:
        return DEFAULT_COUNT
    if not (written.isascii() and written.isdigit() and len(written) <= 9):
        raise malformed("_count: must be a number of 0 or more")
    return min(int(written), MAX_COUNT)


def _since(written: str | None) -> datetime | None:
    if written is None:
        return None
    try:
        # `+` in a query is a space.
        moment = datetime.fromisoformat(written.replace(" ", "+"))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise malformed("_since: must be an instant with its time zone")
    return moment
