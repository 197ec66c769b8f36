"""People whose accounts an OpenID provider of the hospital keeps: authorization code flow with PKCE.

Off unless an issuer is configured; then this is the only part of the API's process that opens connections to elsewhere.
Source: OpenID Connect Core 1.0 (3.1), Discovery 1.0, RFC 7636, RFC 9700. A person's roles are those that the provider states
at each signing in.
"""

import base64
import hashlib
import json
import re
import secrets
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit
from uuid import UUID, uuid4

import httpx
import jwt
from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.access import digest
from app.accounts import described, end_sessions
from app.db import Database
from app.errors import Forbidden, NotSignedIn, Unavailable
from models import OidcLogin, User
from schemas.access import Person, Role

LOGIN_SECONDS = 600
"""For so long somebody may take to sign in at the provider."""
_LEEWAY_SECONDS = 60
_KEYS_SECONDS = 600
_TIMEOUT_SECONDS = 10.0
_MAX_BYTES = 1_000_000
# Signatures with the provider's private key alone; `none` and those with the client's secret are not among them.
_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class ProviderSettings:
    """`roles_claim`: the place of the roles in the ID token, steps joined by dots (realm_access.roles). `ca_file`:
    certificates to trust instead of the system's."""

    issuer: str
    client_id: str
    client_secret: str | None
    roles_claim: str
    ca_file: Path | None


class Provider:
    """One OpenID provider; its description and its keys are asked when they are needed, and kept for some minutes."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, dict[str, Any]]] = {}

    def begin(self, session: Session, redirect_uri: str) -> tuple[str, str]:
        """The provider's address to send somebody to, and the state, which his browser keeps. Raises: Unavailable."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        target = self._endpoint("authorization_endpoint")
        session.execute(delete(OidcLogin).where(OidcLogin.expires_at < func.now()))
        session.add(
            OidcLogin(
                state_sha256=digest(state), nonce=nonce, verifier=verifier, redirect_uri=redirect_uri,
                expires_at=func.now() + timedelta(seconds=LOGIN_SECONDS),
            )
        )  # fmt: skip
        session.flush()
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code", "client_id": self._settings.client_id, "redirect_uri": redirect_uri,
            "scope": "openid profile", "state": state, "nonce": nonce,
            "code_challenge": challenge, "code_challenge_method": "S256",
        }  # fmt: skip
        return f"{target}{'&' if urlsplit(target).query else '?'}{urlencode(query)}", state

    def finish(self, database: Database, state: str, code: str) -> Person:
        """Who came back with `code`; an account is made for somebody who comes for the first time.

        Raises: NotSignedIn for a state that is unknown, was used or is too old, and for an answer of the provider that
        does not hold; Forbidden for somebody without a role here or whose account is disabled; Unavailable.
        """
        with database.session_scope() as session:
            # Taken out in a transaction of its own: whatever comes after, the state is used.
            begun = session.execute(
                delete(OidcLogin)
                .where(OidcLogin.state_sha256 == digest(state), OidcLogin.expires_at > func.now())
                .returning(OidcLogin.nonce, OidcLogin.verifier, OidcLogin.redirect_uri)
            ).one_or_none()
        if begun is None:
            raise NotSignedIn("this sign-in is unknown, was used, or took too long")
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": begun.redirect_uri,
            "code_verifier": begun.verifier, "client_id": self._settings.client_id,
        }  # fmt: skip
        answer = self._ask("POST", self._endpoint("token_endpoint"), form)
        claims = self._claims(str(answer.get("id_token", "")), begun.nonce)
        roles = self._roles(claims)
        with database.session_scope() as session:
            person = self._person(session, claims, roles)
        # Said after the roles that were taken away are stored.
        if not person.roles:
            raise Forbidden("the OpenID provider states no role of this system for this person")
        if person.disabled:
            raise Forbidden("this account is disabled")
        return person

    def _claims(self, token: str, nonce: str) -> dict[str, Any]:
        settings = self._settings
        try:
            header = jwt.get_unverified_header(token)
            algorithm = header.get("alg")
            if algorithm not in _ALGORITHMS:
                raise NotSignedIn("the ID token's algorithm is not accepted")
            claims: dict[str, Any] = jwt.decode(
                token, self._key(header.get("kid"), algorithm), algorithms=[algorithm], audience=settings.client_id,
                issuer=settings.issuer, leeway=_LEEWAY_SECONDS, options={"require": ["iss", "sub", "aud", "exp", "iat"]},
            )  # fmt: skip
        except jwt.PyJWTError as error:
            # The kind without the message, which may quote the token.
            raise NotSignedIn(f"the ID token is not accepted: {type(error).__name__}") from None
        if not secrets.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
            raise NotSignedIn("the ID token is not accepted: another nonce")
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", settings.client_id if not several else None) != settings.client_id:
            raise NotSignedIn("the ID token is not accepted: another authorized party")
        return claims

    def _roles(self, claims: Mapping[str, Any]) -> tuple[Role, ...]:
        """Roles that the claim names, as they are called here or with `hyojun-` before it."""
        found: Any = claims
        for step in self._settings.roles_claim.split("."):
            found = found.get(step) if isinstance(found, Mapping) else None
        stated = {found} if isinstance(found, str) else set(map(str, found)) if isinstance(found, list) else set()
        return tuple(role for role in Role if role.value in stated or f"hyojun-{role.value}" in stated)

    def _person(self, session: Session, claims: Mapping[str, Any], roles: tuple[Role, ...]) -> Person:
        mine = (User.issuer == self._settings.issuer, User.subject == claims["sub"])
        row = session.scalar(select(User).where(*mine).with_for_update())
        if row is None:
            if not roles:
                raise Forbidden("the OpenID provider states no role of this system for this person")
            row = session.get_one(User, self._add(session, claims))
        stated = claims.get("name")
        if isinstance(stated, str) and stated.strip() and stated.isprintable():
            row.name = stated.strip()[:100]
        row.roles = [role.value for role in roles]
        if not roles:
            end_sessions(session, row.id)
        session.flush()
        return described(row)

    def _add(self, session: Session, claims: Mapping[str, Any]) -> UUID:
        issuer, subject = self._settings.issuer, str(claims["sub"])
        # Two people of one name, or one who has a local account of it, stay two: the name proves nothing.
        mark = hashlib.sha256(f"{issuer} {subject}".encode()).hexdigest()[:8]
        preferred = re.sub(r"[^a-z0-9._@-]+", "-", str(claims.get("preferred_username", "")).lower())[:50].lstrip("._@-")
        for login in (*([preferred] if preferred else []), f"{preferred or 'oidc'}-{mark}"):
            added: UUID | None = session.scalar(
                insert(User)
                .values(
                    id=uuid4(), login=login, name=login, roles=[], issuer=issuer, subject=subject,
                    created_by="OpenID provider",
                )
                .on_conflict_do_nothing()
                .returning(User.id)
            )  # fmt: skip
            if added is not None:
                return added
        raise Unavailable("the account could not be made; try again")

    # --- the provider -------------------------------------------------------------------------------------------------

    def _endpoint(self, name: str) -> str:
        issuer = self._settings.issuer
        described = self._cached(issuer.rstrip("/") + "/.well-known/openid-configuration")
        if described.get("issuer") != issuer:
            raise Unavailable("the OpenID provider states another issuer than OIDC_ISSUER")
        url = described.get(name)
        if not isinstance(url, str) or not _safe(url):
            raise Unavailable(f"the OpenID provider states no usable {name}")
        return url

    def _key(self, kid: object, algorithm: str) -> Any:
        """Raises: NotSignedIn, Unavailable."""
        url = self._endpoint("jwks_uri")
        for fresh in (False, True):
            # A key that is not known may be new; the provider is not asked for every made-up one.
            keys = self._cached(url, oldest_seconds=60 if fresh else _KEYS_SECONDS).get("keys")
            for key in keys if isinstance(keys, list) else []:
                known = isinstance(key, dict) and key.get("kid") == kid and key.get("use", "sig") == "sig"
                if known and key.get("alg", algorithm) == algorithm and key.get("kty") in ("RSA", "EC"):
                    return jwt.PyJWK(key, algorithm).key
        raise NotSignedIn("the ID token is signed with a key that the OpenID provider does not list")

    def _cached(self, url: str, oldest_seconds: float = _KEYS_SECONDS) -> dict[str, Any]:
        with self._lock:
            kept = self._kept.get(url)
            if kept is None or time.monotonic() - kept[0] > oldest_seconds:
                kept = (time.monotonic(), self._ask("GET", url))
                self._kept[url] = kept
            return kept[1]

    def _ask(self, method: str, url: str, form: Mapping[str, str] | None = None) -> dict[str, Any]:
        """A JSON object from the provider; redirects and proxies are not followed. Raises: NotSignedIn, Unavailable."""
        settings = self._settings
        if not _safe(url):
            raise Unavailable("the OpenID provider's addresses must be https")
        auth = (settings.client_id, settings.client_secret) if form is not None and settings.client_secret else None
        try:
            trusted = ssl.create_default_context(cafile=settings.ca_file)
            with (
                httpx.Client(verify=trusted, trust_env=False, timeout=_TIMEOUT_SECONDS) as client,
                client.stream(method, url, data=form, auth=auth, headers={"Accept": "application/json"}) as answer,
            ):
                body = bytearray()
                for part in answer.iter_bytes():
                    body += part
                    if len(body) > _MAX_BYTES:
                        raise Unavailable("the OpenID provider's answer is too long")
                status = answer.status_code
        except (httpx.HTTPError, OSError) as error:
            raise Unavailable(f"the OpenID provider does not answer: {type(error).__name__}") from None
        if form is not None and status in (400, 401, 403):
            raise NotSignedIn("the OpenID provider does not confirm this sign-in")
        try:
            found = json.loads(bytes(body)) if status == 200 else None
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Unavailable(f"the OpenID provider's answer cannot be used: status {status}")
        return found


def _safe(url: str) -> bool:
    """Encrypted, or on this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
