"""What the interactions of FHIR share on the wire: resources in, Prefer, conditions of HTTP, versions, answers, HEAD.

Source: https://hl7.org/fhir/R4/http.html (prefer, versioning, concurrency, cread, parameters).
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import format_datetime, parsedate_to_datetime
from enum import StrEnum
from functools import wraps
from http import HTTPStatus
from typing import Any, ParamSpec

import msgspec
from fastapi import APIRouter, Request, Response

from app import fhir
from app.db import json_loads
from app.store.versions import Version
from app.web.outcome import FHIR_JSON, malformed
from app.web.wire import FHIR_TYPES, check_media

Json = dict[str, Any]
P = ParamSpec("P")

MAX_DEPTH = 100
"""Objects and lists within each other; a real resource has about a dozen."""
MAX_DIGITS = 60
"""Of a number, before or behind its point: 1e999999999 is short to write and long to store."""
_ETAG = re.compile(r'(?:W/)?"([1-9][0-9]{0,8})"')
# Postgres' jsonb holds neither NUL nor half of a surrogate pair.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


# --- in ---------------------------------------------------------------------------------------------------------------


def fhir_body(request: Request, body: bytes, types: frozenset[str] = FHIR_TYPES) -> Json:
    """The resource of the body, its decimals with the digits as written. Raises: Refused."""
    check_media(request, types)
    return fhir_object(body)


def fhir_object(body: bytes) -> Json:
    """A JSON object that can be stored, its decimals with the digits as written. Raises: Refused."""
    value = fhir_value(body)
    if not isinstance(value, dict):
        raise malformed("the request body must be a JSON object")
    return value


def fhir_value(body: bytes, what: str = "the request body") -> Any:
    """The same for any JSON, such as a patch. Raises: Refused."""
    try:
        value = json_loads(body.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise malformed(f"{what} is not UTF-8: byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise malformed(f"{what} is not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise malformed(f"{what} is nested too deep") from None
    check_storable(value)
    return value


def check_storable(value: Any) -> None:
    """Raises: Refused for characters and numbers that the database cannot hold, and for a nesting that is too deep."""
    level, depth = [value], 0
    while level:
        if depth > MAX_DEPTH:
            raise malformed("the request body is nested too deep")
        below: list[Any] = []
        for node in level:
            if isinstance(node, dict):
                below += node.keys()
                below += node.values()
            elif isinstance(node, list):
                below += node
            elif isinstance(node, str) and _UNSTORABLE.search(node):
                raise malformed("the request body holds U+0000, or half of a surrogate pair")
            elif isinstance(node, float):  # NaN and Infinity, which JSON has not, but its readers do
                raise malformed("the request body holds a number that is none of JSON")
            elif isinstance(node, Decimal) and (abs(node.adjusted()) > MAX_DIGITS or len(node.as_tuple().digits) > MAX_DIGITS):
                raise malformed(f"a number of the request body has more than {MAX_DIGITS} digits")
        level, depth = below, depth + 1


class Return(StrEnum):
    """What the answer to a change holds, by `Prefer: return=`."""

    MINIMAL = "minimal"
    REPRESENTATION = "representation"
    OUTCOME = "OperationOutcome"


@dataclass(frozen=True)
class Prefer:
    """`strict`, `lenient`: whether either was asked for; without, parameters that are not known are ignored."""

    returned: Return = Return.REPRESENTATION
    strict: bool = False
    lenient: bool = False


def prefer(request: Request) -> Prefer:
    """RFC 7240; preferences that are not known are ignored, as it says."""
    written = ",".join(request.headers.getlist("prefer")).replace(";", ",")
    stated = {part.strip().replace('"', "").replace(" ", "") for part in written.split(",")}
    returned = next((kind for kind in Return if f"return={kind}" in stated), Return.REPRESENTATION)
    return Prefer(returned, "handling=strict" in stated, "handling=lenient" in stated)


def version_of(etag: str | None) -> int | None:
    """The version that a weak ETag names, None for no ETag. Raises: Refused (If-Match is only used with a version)."""
    if etag is None:
        return None
    match = _ETAG.fullmatch(etag.strip())
    if match is None:
        raise malformed('If-Match: must be one ETag of a version, W/"<number>"')
    return int(match[1])


def check_condition_header(request: Request) -> None:
    """Raises: Refused for a condition of a create that this route does not look at; nothing is done as if it held."""
    if "if-none-exist" in request.headers or any(name not in ("_format", "_pretty") for name in request.query_params):
        raise malformed("this create takes no condition: what was sent before is known by its content")


def not_modified(version: Version, none_match: str | None, modified_since: str | None) -> bool:
    """RFC 9110: If-None-Match goes before If-Modified-Since, and a date that cannot be read is ignored."""
    if none_match is not None:
        named = {part.strip().removeprefix("W/") for part in none_match.split(",")}
        return bool(named & {"*", f'"{version.version}"'})
    try:
        since = parsedate_to_datetime(modified_since) if modified_since else None
    except (ValueError, TypeError, OverflowError):
        since = None
    if since is None:
        return False
    return version.last_updated.replace(microsecond=0) <= (since if since.tzinfo else since.replace(tzinfo=UTC))


# --- out --------------------------------------------------------------------------------------------------------------


def base_of(request: Request) -> str:
    return f"{str(request.base_url).rstrip('/')}/fhir"


def etag(version: Version) -> str:
    return f'W/"{version.version}"'


def http_date(at: datetime) -> str:
    return format_datetime(at.astimezone(UTC), usegmt=True)


def version_headers(version: Version) -> dict[str, str]:
    return {"ETag": etag(version), "Last-Modified": http_date(version.last_updated)}


def version_path(version: Version) -> str:
    return f"{version.type}/{version.id}/_history/{version.version}"


def fhir_answer(
    request: Request, value: Json, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    return text_answer(request, fhir.dumps(value), status, headers)


def text_answer(request: Request, text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`_pretty=true` writes it on many lines; digits stay."""
    if request.query_params.get("_pretty") == "true":
        text = msgspec.json.format(text, indent=2)
    return Response(text, status, dict(headers or {}), FHIR_JSON)


def readable(
    router: APIRouter, path: str, *, also: tuple[str, ...] = (), **options: Any
) -> Callable[[Callable[P, Response]], Callable[P, Response]]:
    """Registers a function for GET, and for HEAD, which is GET without the body. `also`: other spellings of the path."""

    def register(function: Callable[P, Response]) -> Callable[P, Response]:
        @wraps(function)
        def head(*args: P.args, **kwargs: P.kwargs) -> Response:
            response = function(*args, **kwargs)
            return Response(b"", response.status_code, dict(response.headers))

        router.add_api_route(path, function, methods=["GET"], **options)
        for other in also:
            router.add_api_route(other, function, methods=["GET"], include_in_schema=False)
        for spelled in (path, *also):
            router.add_api_route(spelled, head, methods=["HEAD"], include_in_schema=False)
        return function

    return register


_WHAT = {
    200: "what was asked for",
    201: "created",
    202: "taken",
    204: "done; nothing to say",
    304: "not changed since",
}


def takes(*types: str) -> dict[str, Any]:
    """`openapi_extra` of a route: the media types of its body, FHIR's own where none is named."""
    schema: dict[str, Any] = {"type": "object"}
    if not types:
        schema |= {"required": ["resourceType"], "properties": {"resourceType": {"type": "string"}}}
    content = {type_: {"schema": _LIST if type_.endswith("json-patch+json") else schema} for type_ in types or (FHIR_JSON,)}
    return {"requestBody": {"required": True, "content": content}}


_LIST: dict[str, Any] = {"type": "array", "items": {"type": "object"}}


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route: the statuses of its own, and those that every route under /fhir has."""
    schema = {"schema": {"type": "object", "required": ["resourceType"]}}
    found: dict[int | str, dict[str, Any]] = {}
    for status in sorted({*statuses, 400, 401, 403, 406, 422, 429, 500, 503}):
        said = _WHAT.get(status) or f"OperationOutcome: {HTTPStatus(status).phrase}"
        found[status] = {"description": said} if status in (204, 304) else {"description": said, "content": {FHIR_JSON: schema}}
    return found
