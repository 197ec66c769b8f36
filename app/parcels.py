"""What one delivery sends, and what is understood of the answer. Ids alone to a webhook; to a FHIR server what was released.

A webhook's receiver checks it so, and takes no delivery twice and none that is older than some minutes:

    expected = hmac.new(key, timestamp + b"." + body, hashlib.sha256).hexdigest()
    hmac.compare_digest("v1=" + expected, headers["Hyojun-Signature"])

`key`: the signing key as it was shown, in ASCII; `timestamp`: the header Hyojun-Timestamp, Unix seconds; `body`: as received.
The header Hyojun-Delivery, also `id` in the body, is the same when a delivery is sent again.
"""

import hashlib
import hmac
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app import fhir, push_fhir, subscriptions
from app.db import json_dumps
from app.errors import InvalidInput
from app.outbox import Claimed
from app.push_login import Identity
from models import PushDestination, ReleaseState, Resource
from schemas.push import DestinationKind, PushEvent, PushLogin, PushMode

FHIR_JSON = "application/fhir+json"
# What is kept of another system's words: codes and places, since the rest may quote a patient's data.
_CODE = re.compile(r"[a-z-]{1,40}")
_PLACE = re.compile(r"[A-Za-z][A-Za-z0-9_.\[\]]{0,200}")
MAX_ISSUES = 20


@dataclass(frozen=True)
class Request:
    method: str
    url: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""


@dataclass(frozen=True)
class Parcel:
    """What one delivery sends, in this order; nothing: there is nothing in it for the destination. `members`: the resources
    that leave with it."""

    requests: list[Request]
    members: list[tuple[str, str]] = field(default_factory=list)

    @property
    def sha256(self) -> str | None:
        body = b"".join(request.body for request in self.requests)
        return hashlib.sha256(body).hexdigest() if body else None


@dataclass(frozen=True)
class Target:
    """The columns of a destination that sending needs."""

    kind: DestinationKind
    url: str
    mode: PushMode
    provenance: bool
    secret: str | None = field(repr=False)
    files: tuple[str | None, str | None, str | None]
    identity: Identity


def target_of(row: PushDestination) -> Target:
    identity = Identity(
        url=row.url, login=PushLogin(row.login), login_name=row.login_name, secret_file=row.secret_file,
        key_id=row.key_id, token_url=row.token_url, scope=row.scope, http=row.http,
    )  # fmt: skip
    files = (row.ca_file, row.cert_file, row.key_file)
    return Target(DestinationKind(row.kind), row.url, PushMode(row.mode), row.provenance, row.secret, files, identity)


# --- what is sent -----------------------------------------------------------------------------------------------------


def parcel_of(session: Session, claimed: Claimed, target: Target) -> Parcel:
    if target.kind is DestinationKind.FHIR:
        return _fhir(session, claimed, target)
    if target.kind is DestinationKind.WEBHOOK:
        return Parcel([_webhook(session, claimed, target)])
    headers = subscriptions.headers_of(target.secret)
    if claimed.event is PushEvent.HANDSHAKE:
        return Parcel([Request("POST", target.url, headers)])
    found = subscriptions.notified(session, claimed.destination_id, claimed.note_id, claimed.subject)
    if not found.payload:
        return Parcel([Request("POST", target.url, headers)] if found.keys else [])
    # https://hl7.org/fhir/R4/subscription.html, rest-hook: with a payload the URL is a service base, and an update is made.
    listed = [("content-type", FHIR_JSON), *headers]
    requests = [
        Request("PUT", f"{target.url}/{type_}/{id_}", listed, fhir.dumps(content).encode())
        for (type_, id_), content in zip(found.keys, found.contents, strict=True)
    ]
    return Parcel(requests, found.keys)


def _fhir(session: Session, claimed: Claimed, target: Target) -> Parcel:
    if claimed.note_id is None:
        return Parcel([])
    release = push_fhir.transaction(
        session, claimed.note_id, claimed.subject, base=target.url, mode=target.mode, provenance=target.provenance
    )
    if release is None:
        return Parcel([])
    headers = [("content-type", FHIR_JSON), ("accept", FHIR_JSON), ("prefer", "return=minimal")]
    return Parcel([Request("POST", target.url, headers, fhir.dumps(release.bundle).encode())], release.members)


def _webhook(session: Session, claimed: Claimed, target: Target) -> Request:
    """Ids alone: who wants more asks for it, and is asked who he is."""
    told: dict[str, Any] = {"id": str(claimed.id), "event": claimed.event, "note_id": str(claimed.note_id)}
    if claimed.event is PushEvent.CONVERTED:
        told["job_id"] = str(claimed.subject)
    else:
        rows = session.execute(
            select(Resource.type, Resource.id, Resource.version)
            .where(
                Resource.note_id == claimed.note_id, Resource.run_id == claimed.subject,
                Resource.state == ReleaseState.FINAL,
            )
            .order_by(Resource.ordinal, Resource.version)
        )  # fmt: skip
        newest = {(type_, id_): version for type_, id_, version in rows}
        told["run_id"] = str(claimed.subject)
        told["resources"] = [{"type": key[0], "id": key[1], "version": version} for key, version in newest.items()]
    body = json_dumps(told).encode()
    return Request("POST", target.url, signed(target.secret or "", str(claimed.id), body), body)


def signed(secret: str, delivery_id: str, body: bytes, *, at: int | None = None) -> list[tuple[str, str]]:
    """The headers of a webhook. The signature is HMAC-SHA256 over the timestamp (Unix seconds), a full stop and the body."""
    timestamp = str(int(time.time()) if at is None else at)
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return [
        ("content-type", "application/json"),
        ("hyojun-delivery", delivery_id),
        ("hyojun-timestamp", timestamp),
        ("hyojun-signature", f"v1={digest}"),
    ]


# --- what came back ---------------------------------------------------------------------------------------------------


def outcome_of(body: bytes) -> list[dict[str, Any]] | None:
    """Severity, code and places of each issue of an OperationOutcome, or of those in a Bundle's entries; None: it is neither."""
    issues = _issues(resource_in(body))
    return issues[:MAX_ISSUES] or None


def _issues(resource: Any) -> list[dict[str, Any]]:
    if not isinstance(resource, dict):
        return []
    if resource.get("resourceType") == "Bundle":
        entries = [e for e in items(resource.get("entry")) if isinstance(e, dict)]
        outcomes = [response.get("outcome") for e in entries if isinstance(response := e.get("response"), dict)]
        return [issue for outcome in outcomes for issue in _issues(outcome)]
    if resource.get("resourceType") != "OperationOutcome":
        return []
    kept = []
    for issue in items(resource.get("issue")):
        if not isinstance(issue, dict):
            continue
        words = {key: value for key in ("severity", "code") if _CODE.fullmatch(value := str(issue.get(key)))}
        places = [p for p in items(issue.get("expression")) if isinstance(p, str) and _PLACE.fullmatch(p)]
        kept.append(words | ({"expression": places[:5]} if places else {}))
    return kept


def failed_entries(body: bytes) -> bool:
    """Does a Bundle that came with a 2xx report errors all the same? A batch does so; a transaction must not."""
    resource = resource_in(body)
    if not isinstance(resource, dict) or resource.get("resourceType") != "Bundle":
        return False
    responses = [e.get("response") for e in items(resource.get("entry")) if isinstance(e, dict)]
    return any(str(r.get("status", "2"))[:1] in "45" for r in responses if isinstance(r, dict))


def resource_in(body: bytes) -> Any:
    try:
        return fhir.loads(body)
    except InvalidInput:
        return None


def items(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else []
