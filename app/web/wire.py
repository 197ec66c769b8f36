"""Requests and responses as bytes: bodies up to a limit, JSON that keeps decimals, media types."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

from fastapi import Depends, Request, Response

from app import fhir
from app.db import json_dumps
from app.errors import InvalidInput, TooLong
from app.intake import MAX_BYTES, parse_json
from app.web.outcome import FHIR_JSON, malformed, not_acceptable, unsupported_media

# https://hl7.org/fhir/R4/http.html#mime-type: the FHIR type is preferred, plain JSON types are accepted.
FHIR_TYPES = frozenset({FHIR_JSON, "application/json", "text/json", "application/json+fhir"})
FORMATS = FHIR_TYPES | {"json"}
# https://hl7.org/fhir/R4/http.html#version-parameter: major and minor; the patch is often written too.
VERSIONS = ("4.0", "4.0.1")


def _reader(most: int) -> Callable[[Request], Awaitable[bytes]]:
    async def read(request: Request) -> bytes:
        # The one coroutine of the house: Starlette hands out a body in no other way.
        size = request.headers.get("content-length", "")
        announced = int(size) if size.isascii() and size.isdigit() else 0
        body = bytearray()
        if announced <= most:
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    break
        if max(announced, len(body)) > most:
            raise TooLong(f"the request body has more than {most:,} bytes")
        return bytes(body)

    return read


MAX_BUNDLE_BYTES = 10_000_000
"""Longest Bundle of a transaction or batch."""
Body = Annotated[bytes, Depends(_reader(MAX_BYTES))]
"""The request body as received. Raises: TooLong."""
BundleBody = Annotated[bytes, Depends(_reader(MAX_BUNDLE_BYTES))]
"""The same for a Bundle. Raises: TooLong."""


def check_media(request: Request, types: frozenset[str]) -> str:
    """The media type of the body, one of `types`; empty for a request that states none. Raises: Refused."""
    written = request.headers.get("content-type", "")
    media, *rest = (part.strip().lower() for part in written.split(";"))
    if written and media not in types:
        raise unsupported_media("Content-Type must be " + " or ".join(sorted(types)))
    parameters = {name.strip(): value.strip(' "') for name, _, value in (part.partition("=") for part in rest)}
    if parameters.get("charset", "utf-8") not in ("", "utf-8", "utf8"):
        raise unsupported_media("the charset of JSON is UTF-8 (RFC 8259)")
    if parameters.get("fhirversion", "4.0") not in VERSIONS:
        raise unsupported_media("this server takes FHIR 4.0")
    return media


def json_body(request: Request, body: bytes, types: frozenset[str]) -> Any:
    """The body as JSON; a request without a Content-Type is taken for JSON. Raises: Refused."""
    check_media(request, types)
    try:
        return parse_json(body)
    except InvalidInput as error:
        raise malformed(f"the request body {error}") from None


def check_fhir_format(request: Request) -> None:
    """Can the client read FHIR JSON? `_format` overrides Accept. Raises: Refused."""
    wanted = request.query_params.get("_format")
    accept = [wanted] if wanted else request.headers.get("accept", "*/*").split(",")
    for item in accept:
        media, *parameters = (part.strip().lower() for part in item.split(";"))
        # `+` in a query is a space: _format=application/fhir+json arrives with one.
        known = media.replace(" ", "+") in FORMATS or (not wanted and media in ("*/*", "application/*", "text/*"))
        versions = [p.removeprefix("fhirversion=") for p in parameters if p.startswith("fhirversion=")]
        if known and all(version in VERSIONS for version in versions) and "q=0" not in parameters:
            return
    raise not_acceptable(f"this server answers in {FHIR_JSON}, FHIR 4.0")


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(json_dumps(value), status, dict(headers or {}), "application/json")


def fhir_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(fhir.dumps(value), status, dict(headers or {}), FHIR_JSON)
