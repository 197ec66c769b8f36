"""Imported code masters."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.metadata import Base, one_of


class ImportState(StrEnum):
    """Only a `ready` release is used; an import that was cut short stays `importing`."""

    IMPORTING = "importing"
    READY = "ready"


class CodeSystemRelease(Base):
    """An imported version of a code master. `system` is its URI; `fingerprint` the SHA-256 of the imported file."""

    __tablename__ = "code_system_releases"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    system: Mapped[str]
    version: Mapped[str]
    state: Mapped[str] = mapped_column(server_default=ImportState.IMPORTING)
    fingerprint: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (UniqueConstraint("system", "version"), one_of("state", ImportState))


class Concept(Base):
    """An entry of a code master. `kana`: its reading, the sort key; `search_text`: what names are compared with."""

    __tablename__ = "concepts"

    id: Mapped[int] = mapped_column(primary_key=True)
    release_id: Mapped[UUID] = mapped_column(ForeignKey("code_system_releases.id", ondelete="CASCADE"))
    code: Mapped[str]
    display: Mapped[str]
    kana: Mapped[str | None]
    properties: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    search_text: Mapped[str]

    __table_args__ = (
        Index("ix_concepts_release_id_code", "release_id", "code"),
        Index(
            "ix_concepts_search_text_trgm",
            "search_text",
            postgresql_using="gin",
            postgresql_ops={"search_text": "gin_trgm_ops"},
        ),
        Index("ix_concepts_release_id_search_text", "release_id", "search_text"),
    )
