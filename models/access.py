"""Machines and people who may ask, and the tokens that prove it; of a secret only its SHA-256 is kept."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, false, func, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import Text

from models.metadata import Base


class Client(Base):
    """A machine (SMART Backend Services): it proves itself with a key of `jwks`. `scopes`: the most that it is given;
    `rights`: of `schemas.access.Right`. `drafts`: may it see what no person has released?"""

    __tablename__ = "clients"

    id: Mapped[str] = mapped_column(primary_key=True)
    """The client_id."""
    name: Mapped[str]
    jwks: Mapped[dict[str, object]] = mapped_column(JSONB)
    """RFC 7517, public keys alone."""
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    rights: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    drafts: Mapped[bool] = mapped_column(server_default=false())
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    created_by: Mapped[str]
    disabled_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("id ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'", name="id"),
        CheckConstraint("name <> '' AND created_by <> ''", name="not_empty"),
    )


class AccessToken(Base):
    """A bearer token that was given out. `principal`: `schemas.access.Principal` at that time, without its secret."""

    __tablename__ = "access_tokens"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    client_id: Mapped[str | None] = mapped_column(ForeignKey("clients.id", ondelete="CASCADE"), index=True)
    principal: Mapped[dict[str, object]] = mapped_column(JSONB)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]

    __table_args__ = (
        CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name="sha256"),
        Index(None, "expires_at"),
    )


class UsedAssertion(Base):
    """A client's assertion that was taken for a token; it is not taken again."""

    __tablename__ = "used_assertions"

    client_id: Mapped[str] = mapped_column(ForeignKey("clients.id", ondelete="CASCADE"), primary_key=True)
    jti_sha256: Mapped[str] = mapped_column(primary_key=True)
    expires_at: Mapped[datetime]
    """From here on the assertion is too old anyway."""

    __table_args__ = (Index(None, "expires_at"),)


class User(Base):
    """A person. `roles`: of `schemas.access.Role`. Without a password and a subject nobody can sign in as him yet."""

    __tablename__ = "users"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    login: Mapped[str]
    """What he types to sign in; lower case."""
    name: Mapped[str]
    """What others see."""
    roles: Mapped[list[str]] = mapped_column(ARRAY(Text))
    password_hash: Mapped[str | None]
    """argon2id in the form of the reference implementation ($argon2id$…)."""
    issuer: Mapped[str | None]
    """Whose account at an OpenID provider he is, with `subject`."""
    subject: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    created_by: Mapped[str]
    disabled_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("login"),
        UniqueConstraint("issuer", "subject"),
        CheckConstraint("login ~ '^[a-z0-9][a-z0-9._@-]{0,63}$'", name="login"),
        CheckConstraint("name <> '' AND created_by <> ''", name="not_empty"),
        CheckConstraint("roles <@ ARRAY['integrator', 'reviewer', 'admin']", name="roles"),
        CheckConstraint("(issuer IS NULL) = (subject IS NULL)", name="subject"),
    )


class UserSession(Base):
    """A person who is signed in, in one browser; the browser's cookie holds the secret."""

    __tablename__ = "user_sessions"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    """Of the last request, give or take a minute."""
    expires_at: Mapped[datetime]
    """It ends then at the latest."""

    __table_args__ = (
        CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name="sha256"),
        Index(None, "expires_at"),
    )


class OneTimeLink(Base):
    """A link at which somebody chooses a password, once. `user_id`: whose; None: the first administrator, who is made so."""

    __tablename__ = "one_time_links"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]

    __table_args__ = (CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name="sha256"),)


class LoginAttempt(Base):
    """Failed attempts of one kind in a row. `sha256`: of what was tried, since people type passwords into the field for
    the name."""

    __tablename__ = "login_attempts"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    failures: Mapped[int]
    last_at: Mapped[datetime] = mapped_column(server_default=func.now())
    locked_until: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("failures > 0", name="failures"),
        Index(None, "last_at"),
    )


class OidcLogin(Base):
    """Somebody who was sent to the OpenID provider and has not come back yet."""

    __tablename__ = "oidc_logins"

    state_sha256: Mapped[str] = mapped_column(primary_key=True)
    nonce: Mapped[str]
    verifier: Mapped[str]
    """Of PKCE (RFC 7636)."""
    redirect_uri: Mapped[str]
    expires_at: Mapped[datetime]

    __table_args__ = (Index(None, "expires_at"),)
