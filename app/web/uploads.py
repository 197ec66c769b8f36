"""A form with a file (multipart/form-data, RFC 7578), read while it comes in: the fields before the file, then the file's bytes.

The file is neither held in memory nor written to this machine's disk. So the form's own token, by which we know that a page of
ours sent it, is checked here and before the first byte of the file; the file has to be the form's last control.
"""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from anyio import from_thread
from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from app.errors import TooLong
from app.web.access import MAX_FORM_BYTES, check_csrf
from app.web.outcome import malformed, unsupported_media

MULTIPART = "multipart/form-data"


@dataclass(frozen=True)
class Upload:
    """`name`: of the file as its sender calls it; empty where none was chosen. `parts`: its bytes, to be read once."""

    fields: dict[str, str]
    name: str
    parts: Iterator[bytes]

    def content(self, most: int) -> bytes:
        """The file whole. Raises: TooLong."""
        found = bytearray()
        for part in self.parts:
            found += part
            if len(found) > most:
                raise TooLong(f"the file has more than {most:,} bytes")
        return bytes(found)


def read_upload(request: Request) -> Upload:
    """The form of a request, for a route that runs in a thread. Raises: Refused, TooLong; Forbidden for a form of a stranger."""
    media, options = parse_options_header(request.headers.get("content-type", "").encode("latin-1"))
    if media != MULTIPART.encode() or not options.get(b"boundary"):
        raise unsupported_media(f"Content-Type must be {MULTIPART}")
    return _Reader(request, options[b"boundary"]).upload()


def body_parts(request: Request) -> Iterator[bytes]:
    """The body piece by piece, for the thread that the route runs in."""
    stream = request.stream()
    while (part := from_thread.run(_next, stream)) is not None:
        if part:
            yield part


async def _next(stream: AsyncIterator[bytes]) -> bytes | None:
    # A coroutine, since Starlette hands out a body in no other way.
    return await anext(stream, None)


class _Reader:
    """Feeds the parser, whose callbacks fill `fields`, then `_file`."""

    def __init__(self, request: Request, boundary: bytes) -> None:
        self._request = request
        self._pieces = body_parts(request)
        self.fields: dict[str, str] = {}
        self._name: str | None = None
        """Of the file, once its part has begun."""
        self._file: list[bytes] = []
        self._field, self._value, self._size = "", bytearray(), 0
        self._header, self._header_value, self._headers = b"", b"", dict[bytes, bytes]()
        self._within_file = self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._on_header,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers,
                "on_part_data": self._on_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def upload(self) -> Upload:
        while self._name is None and self._feed():
            pass
        check_csrf(self._request, self.fields)
        return Upload(self.fields, self._name or "", self._rest())

    def _rest(self) -> Iterator[bytes]:
        while True:
            waiting, self._file = self._file, []
            yield from waiting
            if not self._feed():
                yield from self._file
                return

    def _feed(self) -> bool:
        """One piece more; False: there is none. Raises: Refused for a body that ends too early, or is no form."""
        try:
            piece = next(self._pieces, None)
            if piece is not None:
                self._parser.write(piece)
        except ClientDisconnect:
            piece = None
        except FormParserError:
            raise malformed("the body is no multipart form") from None
        if piece is None and not self._ended:
            raise malformed("the body ended before it was whole; nothing of it was kept")
        return piece is not None

    def _begin(self) -> None:
        self._headers, self._value, self._field = {}, bytearray(), ""

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._header.lower()] = self._header_value
        self._header, self._header_value = b"", b""

    def _on_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        self._field = options.get(b"name", b"").decode("utf-8", "replace")
        if b"filename" in options and self._name is None:
            self._name, self._within_file = options[b"filename"].decode("utf-8", "replace"), True

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._within_file:
            self._file.append(data[start:end])
            return
        self._size += end - start
        if self._size > MAX_FORM_BYTES:
            raise TooLong(f"the form's fields have more than {MAX_FORM_BYTES:,} bytes")
        self._value += data[start:end]

    def _on_part_end(self) -> None:
        if not self._within_file and self._name is None:
            self.fields[self._field] = self._value.decode("utf-8", "replace")
        self._within_file = False

    def _on_end(self) -> None:
        self._ended = True
