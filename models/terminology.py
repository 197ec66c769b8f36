"""Imported code masters."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import (
    DDL,
    CheckConstraint,
    Computed,
    ForeignKey,
    Index,
    UniqueConstraint,
    event,
    false,
    func,
    literal_column,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from models.metadata import Base, one_of
from schemas.statement import Kind


class ImportState(StrEnum):
    """Only a `ready` release is used; an import that was cut short stays `importing`."""

    IMPORTING = "importing"
    READY = "ready"


class CodeSystemRelease(Base):
    """An imported version of a code master. `system` is its URI; `fingerprint` the SHA-256 of the imported file.

    Old releases stay, so that a run can be repeated with the tables of its time. `active`: names are coded with it; of
    each system one release at most, and only a ready one. `kind`: the layout that it was read by. `concepts`: how many.
    """

    __tablename__ = "code_system_releases"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    system: Mapped[str]
    version: Mapped[str]
    state: Mapped[str] = mapped_column(server_default=ImportState.IMPORTING)
    fingerprint: Mapped[str]
    kind: Mapped[str] = mapped_column(server_default="starter")
    active: Mapped[bool] = mapped_column(server_default=false())
    concepts: Mapped[int] = mapped_column(server_default="0")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        UniqueConstraint("system", "version"),
        one_of("state", ImportState),
        CheckConstraint("state = 'ready' OR NOT active", name="active"),
        Index("uq_code_system_releases_active", "system", unique=True, postgresql_where=text("active")),
    )


NAME_FUNCTIONS = """
CREATE FUNCTION name_fold(search_text TEXT, kana TEXT) RETURNS TEXT LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN translate(
    search_text || ' ' || normalize(coalesce(kana, ''), NFKC),
    'ァアィイゥウェエォオカガキギクグケゲコゴサザシジスズセゼソゾタダチヂッツヅテデトドナニヌネノハバパヒビピフブプヘベペホボポマミムメモャヤュユョヨラリルレロヮワヰヱヲンヴ',
    'ぁあぃいぅうぇえぉおかがきぎくぐけげこごさざしじすずせぜそぞただちぢっつづてでとどなにぬねのはばぱひびぴふぶぷへべぺほぼぽまみむめもゃやゅゆょよらりるれろゎわゐゑをんゔ'
);
CREATE FUNCTION name_grams(folded TEXT) RETURNS TEXT[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT array_agg(DISTINCT a || b)
    FROM ROWS FROM (unnest(string_to_array(' ' || folded, NULL)), unnest(string_to_array(folded, NULL))) AS pair (a, b)
    WHERE b <> ' '
);
"""
"""`name_fold`: names and reading, katakana as hiragana. `name_grams`: its pairs of characters, among them the first
character of each name behind a space."""


class Concept(Base):
    """An entry of a code master. `kana`: its reading, the sort key; `search_text`: its names as keys.

    `folded`: what people search in, those names and the reading with katakana as hiragana; the database fills it.
    """

    __tablename__ = "concepts"

    id: Mapped[int] = mapped_column(primary_key=True)
    release_id: Mapped[UUID] = mapped_column(ForeignKey("code_system_releases.id", ondelete="CASCADE"))
    code: Mapped[str]
    display: Mapped[str]
    kana: Mapped[str | None]
    properties: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    search_text: Mapped[str]
    folded: Mapped[str] = mapped_column(Computed("name_fold(search_text, kana)", persisted=True), deferred=True)

    __table_args__ = (
        # text_pattern_ops: beginnings of codes are looked for, whatever the collation of the database is.
        Index("ix_concepts_release_id_code", "release_id", "code", postgresql_ops={"code": "text_pattern_ops"}),
        # pg_trgm sees no letter in Japanese where the database's LC_CTYPE is C, and no trigram in a word of two
        # characters anywhere; pairs of characters need neither.
        Index(
            "ix_concepts_name_grams",
            text("name_grams(folded)"),
            postgresql_using="gin",
            postgresql_with={"gin_pending_list_limit": "256"},
        ),
        Index(
            "ix_concepts_codings",
            literal_column("(properties -> 'codings')").label("codings"),
            postgresql_using="gin",
            postgresql_ops={"codings": "jsonb_path_ops"},
            # Every search reads the entries that an import left pending, and here one search is made for each code.
            postgresql_with={"fastupdate": "off"},
        ),
    )


event.listen(Concept.__table__, "before_create", DDL(NAME_FUNCTIONS))  # type: ignore[no-untyped-call]


class LocalCode(Base):
    """A row of the hospital's mapping table: its own code of a name, and the standard code that it means.

    `target_*` are None while nobody has said what the code means. Rows are not changed: a new one retires the old one,
    and `retired_at` tells when. `created_by`: the person, or the command that imported a file.
    """

    __tablename__ = "local_codes"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    kind: Mapped[str]
    code: Mapped[str]
    display: Mapped[str]
    target_system: Mapped[str | None]
    target_code: Mapped[str | None]
    target_display: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    created_by: Mapped[str]
    retired_at: Mapped[datetime | None]
    retired_by: Mapped[str | None]

    __table_args__ = (
        one_of("kind", Kind),
        CheckConstraint("code <> '' AND display <> '' AND created_by <> ''", name="not_empty"),
        CheckConstraint("(retired_at IS NULL) = (retired_by IS NULL)", name="retired"),
        CheckConstraint(
            "(target_system IS NULL) = (target_code IS NULL) AND (target_code IS NULL) = (target_display IS NULL)",
            name="target",
        ),
        Index("uq_local_codes_current", "kind", "code", unique=True, postgresql_where=text("retired_at IS NULL")),
        Index(None, "target_system", "target_code"),
    )
