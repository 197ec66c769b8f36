"""Who asks: bearer tokens of machines and what they stand for.

A token is 32 random bytes; the database keeps its SHA-256 alone, so that a copy of the database opens nothing.
"""

import hashlib
import secrets
from datetime import timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.errors import NotSignedIn
from models import AccessToken, Client
from schemas.access import Principal

PREFIX = "hyj_"
"""By which a token is recognised where it must not be: in a log, in a repository."""


def issue_token(session: Session, principal: Principal, *, seconds: int = 300, client_id: str | None = None) -> str:
    """A bearer token that stands for `principal` for so long; `client_id`: whose disabling ends it."""
    token = PREFIX + secrets.token_urlsafe(32)
    session.execute(delete(AccessToken).where(AccessToken.expires_at < func.now()))
    session.add(
        AccessToken(
            sha256=digest(token),
            client_id=client_id,
            principal=principal.model_dump(mode="json"),
            expires_at=func.now() + timedelta(seconds=seconds),
        )
    )
    session.flush()
    return token


def principal_of(session: Session, token: str) -> Principal:
    """Raises: NotSignedIn for a token that is unknown, has ended, or whose client was disabled."""
    row = session.execute(
        select(AccessToken.principal, Client.disabled_at)
        .outerjoin(Client, Client.id == AccessToken.client_id)
        .where(AccessToken.sha256 == digest(token), AccessToken.expires_at > func.now())
    ).one_or_none()
    if row is None or row.disabled_at is not None:
        raise NotSignedIn("the token is unknown, or has ended")
    return Principal.model_validate(row.principal)


def digest(token: str) -> str:
    """What is kept of a secret that is long and random; passwords are another matter."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
