"""Machines: registered clients, and the signed assertions for which they get tokens.

Source: SMART App Launch 2.2, Backend Services (https://hl7.org/fhir/smart-app-launch/backend-services.html) and
asymmetric client authentication; RFC 6749, RFC 7523. Keys are registered here: no address of a client is ever asked.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app import audit
from app.access import digest, issue_token
from app.audit import person
from app.errors import Conflict, HyojunError, InvalidInput, NotFound
from models import AccessToken, Client, UsedAssertion
from schemas.access import Machine, Principal, Right, Scope, granted
from schemas.review import AuditAction

TOKEN_SECONDS = 300
"""The longest that SMART allows for a token of this kind."""
ASSERTION_SECONDS = 300
LEEWAY_SECONDS = 30
"""Between a client's clock and ours."""
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ALGORITHMS = ("RS384", "ES384")
FOR_PEOPLE = frozenset({Right.USERS, Right.CLIENTS, Right.REVIEW})
"""Rights that no machine gets: somebody must answer for what is done with them."""
_MAX_ASSERTION = 16_384
_MIN_RSA_BITS = 2048
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MAX_KEYS = 20


class TokenRefused(HyojunError):
    """`code`: of RFC 6749, 5.2."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Granted:
    """`scope`: what was granted of what was asked, in the words of scopes."""

    token: str
    seconds: int
    scope: str
    principal: Principal


# --- registration -----------------------------------------------------------------------------------------------------


def register(
    session: Session,
    client_id: str,
    name: str,
    jwks: Any,
    *,
    scopes: Sequence[str],
    rights: Sequence[Right] = (),
    drafts: bool = False,
    by: str,
) -> Machine:
    """`scopes`: the most that it can get. Raises: InvalidInput; Conflict where the id is taken."""
    if not _ID.fullmatch(client_id):
        raise InvalidInput("client id: must be 1 to 64 of A-Z, a-z, 0-9, . _ and -, the first a letter or digit")
    if not 0 < len(name.strip()) <= 100 or not name.isprintable():
        raise InvalidInput("name: must be 1 to 100 printable characters")
    for scope in scopes:
        if Scope.find(scope) is None:
            raise InvalidInput("scope: must look like system/Patient.rs, system/*.read or system/*.cruds")
    if forbidden := FOR_PEOPLE.intersection(rights):
        raise InvalidInput(f"right: {min(forbidden)} is for people")
    row = session.scalar(
        insert(Client)
        .values(
            id=client_id, name=name.strip(), jwks=_public(jwks), scopes=list(scopes),
            rights=[right.value for right in Right if right in rights], drafts=drafts, created_by=person(by),
        )
        .on_conflict_do_nothing()
        .returning(Client)
    )  # fmt: skip
    if row is None:
        raise Conflict("there is a client of this id")
    return _told(session, None, row, by)


def list_clients(session: Session) -> list[Machine]:
    return [_described(row) for row in session.scalars(select(Client).order_by(Client.id))]


def get_client(session: Session, client_id: str) -> Machine:
    """Raises: NotFound."""
    return _described(_row(session, client_id))


def set_disabled(session: Session, client_id: str, *, disabled: bool, by: str) -> Machine:
    """Disabling ends the client's tokens. Raises: NotFound."""
    row = _row(session, client_id)
    before = _described(row)
    row.disabled_at = (row.disabled_at or session.scalar(select(func.now()))) if disabled else None
    if disabled:
        session.execute(delete(AccessToken).where(AccessToken.client_id == client_id))
    return _told(session, before, row, by)


def replace_keys(session: Session, client_id: str, jwks: Any, *, by: str) -> Machine:
    """The former keys and the tokens got with them end. Raises: NotFound, InvalidInput."""
    row = _row(session, client_id)
    before = _described(row)
    row.jwks = _public(jwks)
    session.execute(delete(AccessToken).where(AccessToken.client_id == client_id))
    return _told(session, before, row, by)


def token_for(session: Session, client_id: str, *, seconds: int, by: str) -> str:
    """A token with all that the client may have, for somebody who can ask the database. Raises: NotFound, Conflict."""
    row = _row(session, client_id)
    if row.disabled_at is not None:
        raise Conflict("this client is disabled")
    audit.record(session, AuditAction.TOKEN, by=person(by), ids=[client_id])
    return issue_token(session, _principal(row, _scopes(row)), seconds=seconds, client_id=client_id)


# --- tokens -----------------------------------------------------------------------------------------------------------


def exchange(session: Session, form: Mapping[str, str], audiences: Sequence[str]) -> Granted:
    """The token that a form of the token endpoint asks for. `audiences`: the addresses of that endpoint.

    Raises: TokenRefused.
    """
    if form.get("grant_type") != "client_credentials":
        code = "unsupported_grant_type" if form.get("grant_type") else "invalid_request"
        raise TokenRefused(code, "grant_type must be client_credentials")
    if form.get("client_assertion_type") != ASSERTION_TYPE or not form.get("client_assertion"):
        raise TokenRefused("invalid_request", f"client_assertion and client_assertion_type={ASSERTION_TYPE} are needed")
    client = _proved(session, form["client_assertion"], audiences)
    if form.get("client_id", client.id) != client.id:
        raise TokenRefused("invalid_request", "client_id is not that of the assertion")
    allowed = _scopes(client)
    if "scope" not in form:
        found, words = allowed, [str(scope) for scope in allowed]
    else:
        asked = [(word, scope) for word in form["scope"].split() if (scope := Scope.find(word))]
        found = granted([scope for _, scope in asked], allowed)
        # As it was written where all of it is granted: a client of SMART 1 looks for its own words.
        whole = {word: scope for word, scope in asked if scope in found}
        words = [*whole, *(str(scope) for scope in found if scope not in whole.values())]
        if not found:
            raise TokenRefused("invalid_scope", "none of these scopes is registered for the client")
    principal = _principal(client, found)
    token = issue_token(session, principal, seconds=TOKEN_SECONDS, client_id=client.id)
    return Granted(token, TOKEN_SECONDS, " ".join(words), principal)


def _proved(session: Session, assertion: str, audiences: Sequence[str]) -> Client:
    """Whose assertion it is. Raises: TokenRefused, which never quotes the assertion."""
    if len(assertion) > _MAX_ASSERTION:
        raise TokenRefused("invalid_client", "the assertion is too long")
    try:
        header = jwt.get_unverified_header(assertion)
        said = jwt.decode(assertion, options={"verify_signature": False})
    except jwt.PyJWTError:
        raise TokenRefused("invalid_client", "the assertion is not a signed JWT") from None
    subject, algorithm = said.get("sub"), header.get("alg")
    client = session.get(Client, subject) if isinstance(subject, str) and _ID.fullmatch(subject) else None
    if client is None or client.disabled_at is not None:
        raise TokenRefused("invalid_client", "the client is not registered, or its key does not fit")
    if algorithm not in ALGORITHMS:
        raise TokenRefused("invalid_client", "the assertion must be signed with RS384 or ES384")
    key = _key(client, header.get("kid"), algorithm)
    try:
        claims = jwt.decode(
            assertion, key, algorithms=[algorithm], audience=list(audiences), issuer=client.id, leeway=LEEWAY_SECONDS,
            options={"require": ["iss", "sub", "aud", "exp", "jti"]},
        )  # fmt: skip
    except jwt.InvalidSignatureError:
        raise TokenRefused("invalid_client", "the client is not registered, or its key does not fit") from None
    except jwt.PyJWTError as error:
        # The kind of the fault (ExpiredSignatureError, InvalidAudienceError …) without its message, which may quote.
        raise TokenRefused("invalid_client", f"the assertion is not accepted: {type(error).__name__}") from None
    lasts = claims["exp"] - datetime.now(UTC).timestamp()
    if lasts > ASSERTION_SECONDS + LEEWAY_SECONDS:
        raise TokenRefused("invalid_client", f"exp must be at most {ASSERTION_SECONDS} seconds away")
    session.execute(delete(UsedAssertion).where(UsedAssertion.expires_at < func.now()))
    first = session.scalar(
        insert(UsedAssertion)
        .values(
            client_id=client.id,
            jti_sha256=digest(claims["jti"]),
            expires_at=datetime.fromtimestamp(claims["exp"] + 2 * LEEWAY_SECONDS, UTC),
        )
        .on_conflict_do_nothing()
        .returning(UsedAssertion.client_id)
    )
    if first is None:
        raise TokenRefused("invalid_client", "the assertion was used before")
    return client


def _key(client: Client, kid: object, algorithm: str) -> Any:
    """Raises: TokenRefused."""
    listed = client.jwks["keys"]
    assert isinstance(listed, list)
    for key in listed:
        if kid is not None and key.get("kid") == kid and _algorithm(key) == algorithm:
            return jwt.PyJWK(key, algorithm).key
    raise TokenRefused("invalid_client", "the client is not registered, or its key does not fit")


def _principal(client: Client, scopes: tuple[Scope, ...]) -> Principal:
    rights = frozenset(Right(right) for right in client.rights)
    seen = client.drafts or Right.DRAFTS_READ in rights
    return Principal(id=f"client:{client.id}", name=client.name, scopes=scopes, rights=rights, drafts=seen)


# --- keys and parts ---------------------------------------------------------------------------------------------------


def _algorithm(key: Mapping[str, Any]) -> str:
    return "ES384" if key.get("kty") == "EC" else "RS384"


def _public(jwks: Any) -> dict[str, Any]:
    """The key set with its public parts alone. Raises: InvalidInput, without a word of a key."""
    keys = jwks.get("keys") if isinstance(jwks, dict) else None
    if not isinstance(keys, list) or not 0 < len(keys) <= _MAX_KEYS:
        raise InvalidInput(f"jwks: must be a JSON Web Key Set with 1 to {_MAX_KEYS} keys")
    kept: list[dict[str, str]] = []
    for place, key in enumerate(keys, 1):
        if not isinstance(key, dict) or not isinstance(key.get("kid"), str) or not key["kid"]:
            raise InvalidInput(f"jwks: key {place} needs a kid")
        if "d" in key or key.get("kty") == "oct":
            raise InvalidInput(f"jwks: key {place} is a secret one; register the public key, and make a new pair")
        public = {name: str(key[name]) for name in ("kty", "crv", "x", "y", "n", "e", "kid") if name in key}
        try:
            number = jwt.PyJWK(public, _algorithm(public)).key
        except (jwt.PyJWTError, ValueError, TypeError):
            raise InvalidInput(f"jwks: key {place} cannot be read") from None
        rsa = isinstance(number, RSAPublicKey) and number.key_size >= _MIN_RSA_BITS
        ec = isinstance(number, EllipticCurvePublicKey) and isinstance(number.curve, SECP384R1)
        if not rsa and not ec:
            raise InvalidInput(f"jwks: key {place} must be RSA of {_MIN_RSA_BITS} bits or more, or EC P-384")
        kept.append(public)
    if len({key["kid"] for key in kept}) != len(kept):
        raise InvalidInput("jwks: two keys have the same kid")
    return {"keys": kept}


def _scopes(client: Client) -> tuple[Scope, ...]:
    return tuple(scope for scope in map(Scope.find, client.scopes) if scope)


def _row(session: Session, client_id: str) -> Client:
    row = session.get(Client, client_id, with_for_update=True)
    if row is None:
        raise NotFound("there is no such client")
    return row


def _told(session: Session, before: Machine | None, row: Client, by: str) -> Machine:
    session.flush()
    after = _described(row)
    audit.record(
        session, AuditAction.ADMIN, by=person(by), ids=[row.id],
        before=before and before.model_dump(mode="json"), after=after.model_dump(mode="json"),
    )  # fmt: skip
    return after


def _described(row: Client) -> Machine:
    keys = row.jwks["keys"]
    assert isinstance(keys, list)
    return Machine(
        id=row.id,
        name=row.name,
        scopes=tuple(row.scopes),
        rights=tuple(Right(right) for right in row.rights),
        drafts=row.drafts,
        keys=tuple(key["kid"] for key in keys),
        disabled=row.disabled_at is not None,
        created_at=row.created_at,
    )
