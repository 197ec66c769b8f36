"""Machines and people who may ask, and the tokens that prove it; of a secret only its SHA-256 is kept."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, false, func, text
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
