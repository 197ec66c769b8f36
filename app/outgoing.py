"""HTTP to systems that an operator named, and to no other.

A redirect is not followed, a proxy of the environment is not used, and the address that a name stands for is checked when the
connection is made, so that a name cannot lead to this host itself or to the metadata service of a cloud. Private networks
are allowed: hospitals are on them. An answer is read up to a limit, and the whole exchange has an end.
"""

import ipaddress
import socket
import ssl
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpcore

from app.errors import InvalidInput, Unavailable

CONNECT_SECONDS = 10.0
MAX_ANSWER = 1024 * 1024
"""Bytes of an answer that are read; what follows is cut off."""
MAX_SECRET = 64 * 1024
_LOOPBACK_NAMES = frozenset({"localhost", "localhost.localdomain"})
# Addresses of metadata services outside the link-local ranges: Amazon over IPv6, Alibaba.
_METADATA = frozenset({ipaddress.ip_address("fd00:ec2::254"), ipaddress.ip_address("100.100.100.200")})

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Answer:
    """`fault`: why there is no answer, in our words; `begun`: may the receiver have got the request all the same?"""

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    fault: str | None = None
    begun: bool = False

    @property
    def ok(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def retry_after(self) -> float | None:
        """Seconds that the receiver asks to wait (RFC 9110, Retry-After: seconds or a date)."""
        written = self.headers.get("retry-after", "").strip()
        if written.isascii() and written.isdigit():
            return float(written[:9])
        try:
            return max(0.0, parsedate_to_datetime(written).timestamp() - time.time())
        except ValueError:
            return None


def check_url(url: str, *, http: bool = False, hosts: Collection[str] | None = None) -> str:
    """The URL as it is kept, without a slash at its end. `http`: plain http is taken too; to this host itself it always is.
    `hosts`: the only ones that may be named, as `name` or `name:port`; None: any.

    Raises: InvalidInput.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        raise InvalidInput("url: cannot be read") from None
    host = (parts.hostname or "").lower()
    if parts.scheme not in ("http", "https") or not host or not url.isascii() or not url.isprintable():
        raise InvalidInput("url: must be https://host[:port]/path")
    if parts.username is not None or parts.password is not None:
        raise InvalidInput("url: holds a user or a password; name a secret file instead")
    if parts.query or parts.fragment:
        raise InvalidInput("url: must have neither a query nor a fragment")
    address = _literal(host)
    if address is not None and (why := _forbidden(address)):
        raise InvalidInput(f"url: {why}")
    if parts.scheme == "http" and not http and not _is_loopback(host):
        raise InvalidInput("url: must be https")
    if hosts is not None and host not in hosts and f"{host}:{port or _PORTS[parts.scheme]}" not in hosts:
        raise InvalidInput("url: its host is not in PUSH_ALLOWED_HOSTS")
    return urlunsplit((parts.scheme, parts.netloc.lower(), parts.path.rstrip("/"), "", ""))


_PORTS = {"http": 80, "https": 443}


def _literal(host: str) -> _Address | None:
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _is_loopback(host: str) -> bool:
    address = _literal(host)
    return host in _LOOPBACK_NAMES or (address is not None and address.is_loopback)


def _forbidden(address: _Address) -> str | None:
    if address.is_link_local or address in _METADATA:
        return "link-local and metadata addresses are not sent to"
    if address.is_multicast or address.is_unspecified or address == ipaddress.ip_address("255.255.255.255"):
        return "that address is no host's"
    return None


class Secrets:
    """The files of PUSH_SECRETS_DIR, read anew each time: a renewed one needs no restart."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, name: str) -> Path:
        """Raises: Unavailable where it is not there; the message holds its name."""
        path = self._folder / name
        if "/" in name or name.startswith(".") or not path.is_file():
            raise Unavailable(f"the file {name} is not in PUSH_SECRETS_DIR")
        return path

    def read(self, name: str) -> str:
        """Without white space at its ends. Raises: Unavailable."""
        path = self.path(name)
        try:
            with path.open("rb") as opened:
                return opened.read(MAX_SECRET).decode("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise Unavailable(f"the file {name} in PUSH_SECRETS_DIR cannot be read") from None


def tls(secrets: Secrets, ca_file: str | None, cert_file: str | None, key_file: str | None) -> ssl.SSLContext:
    """Raises: Unavailable for a file that is not there, or holds no certificate or key."""
    try:
        context = ssl.create_default_context(cafile=str(secrets.path(ca_file)) if ca_file else None)
        if cert_file:
            context.load_cert_chain(secrets.path(cert_file), secrets.path(key_file) if key_file else None)
    except (ssl.SSLError, OSError):
        raise Unavailable("a certificate or key in PUSH_SECRETS_DIR cannot be used") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class Line:
    """One connection to one host, kept open between requests; for one thread."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self._backend = _Backend()
        self._pool = httpcore.ConnectionPool(
            ssl_context=context, max_connections=1, keepalive_expiry=30.0, network_backend=self._backend
        )

    def close(self) -> None:
        self._pool.close()

    def send(
        self, method: str, url: str, headers: Iterable[tuple[str, str]] = (), body: bytes = b"", *, deadline: float
    ) -> Answer:
        """One request; `deadline` on the monotonic clock ends it, whatever the other side does."""
        self._backend.deadline, self._backend.begun = deadline, False
        if deadline <= time.monotonic():
            return Answer(fault="no time is left")
        listed = [("accept-encoding", "identity"), ("user-agent", "hyojun"), *headers]
        timeout = {"connect": CONNECT_SECONDS, "read": None, "write": None, "pool": CONNECT_SECONDS}
        found = bytearray()
        try:
            with self._pool.stream(
                method, url, headers=listed, content=body, extensions={"timeout": timeout}
            ) as answer:
                for chunk in answer.iter_stream():
                    found += chunk
                    if len(found) >= MAX_ANSWER:
                        break
                named = {
                    key.decode("ascii", "replace").lower(): value.decode("latin-1") for key, value in answer.headers
                }
                return Answer(answer.status, named, bytes(found[:MAX_ANSWER]), begun=True)
        except _Refused as refused:
            return Answer(fault=str(refused))
        except Exception as error:  # noqa: BLE001  # a name that cannot be encoded, a broken protocol: all are no answer
            return Answer(fault=_fault(error, self._backend.begun), begun=self._backend.begun)


def _fault(error: Exception, begun: bool) -> str:
    if isinstance(error, httpcore.TimeoutException):
        return "no answer in time" if begun else "no connection in time"
    # httpcore wraps the socket's own error, whose message may quote what the other side sent.
    causes = [error, error.__cause__, error.__context__]
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return "its certificate is not trusted"
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return "TLS failed"
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return "its name is not known"
    return "the connection broke" if begun else "no connection"


class _Refused(Exception):
    """The address may not be connected to."""


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, backend: "_Backend") -> None:
        self._inner, self._backend = inner, backend

    def _left(self) -> float:
        left = self._backend.deadline - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("the exchange took too long")
        return left

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._backend.begun = True
        self._inner.write(buffer, self._left())

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        inner = self._inner.start_tls(ssl_context, server_hostname, min(timeout or CONNECT_SECONDS, self._left()))
        return _Stream(inner, self._backend)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.SyncBackend):
    """Connects to an address that was checked, not to a name that may mean another one a moment later."""

    deadline = 0.0
    begun = False

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = [found[4][0] for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        for text in addresses:
            address = _literal(str(text))
            assert address is not None
            if why := _forbidden(address):
                raise _Refused(why)
            if address.is_loopback and not _is_loopback(host.lower()):
                raise _Refused("its name stands for this host itself")
        last: Exception | None = None
        for text in dict.fromkeys(addresses):
            try:
                inner = super().connect_tcp(str(text), port, timeout, local_address, socket_options)
                return _Stream(inner, self)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
        raise last or httpcore.ConnectError("no address")
