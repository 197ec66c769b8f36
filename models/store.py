"""What searches look in: one entry for each version that somebody may be shown, and the values of its search parameters.

Only `app.store.index` writes these rows; they hold nothing that `resources` does not, and can be made anew from it.
`param` is the number of a search parameter (`app/store/parameters.tsv`). Texts are cut (`app.store.values.MAX_KEY`), since a
B-tree takes no longer ones.
"""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import DateTime

from models.metadata import Base


class SearchEntry(Base):
    """A version that searches find. Of a resource there are two at most: the newest released one, and a newer draft.

    `released`: what those see who are not shown drafts. `newest`: what those see who are.
    """

    __tablename__ = "search_entries"

    key: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    type: Mapped[str]
    id: Mapped[str]
    version: Mapped[int]
    last_updated: Mapped[datetime]
    released: Mapped[bool]
    newest: Mapped[bool]
    patient: Mapped[str | None]
    """Id of the Patient that the parameter `patient` leads to, or of the Patient itself; None: nobody, or not one of ours."""
    dated_from: Mapped[datetime] = mapped_column(server_default=text("'-infinity'"))
    """Begin of the type's main date, half-open with `dated_until`. Without one it is -infinity: sorted first."""
    dated_until: Mapped[datetime | None]
    """None: it has no main date."""

    __table_args__ = (
        ForeignKeyConstraint(
            ["type", "id", "version"], ["resources.type", "resources.id", "resources.version"], ondelete="CASCADE"
        ),
        UniqueConstraint("type", "id", "version"),
        Index(None, "patient", "type", "dated_from", postgresql_where=text("patient IS NOT NULL")),
        Index(None, "type", "dated_from", "id"),
        Index(None, "type", "last_updated", "id"),
    )


def _values(name: str, *columns: Column[object], indexes: tuple[Index, ...]) -> Table:
    entry = Column("entry", BigInteger, ForeignKey("search_entries.key", ondelete="CASCADE"), nullable=False)
    param = Column("param", Integer, nullable=False)
    return Table(name, Base.metadata, entry, param, *columns, Index(None, "entry", "param"), *indexes)


search_tokens = _values(
    "search_tokens",
    Column("system", Text),
    Column("code", Text),
    Column("dated_from", DateTime(timezone=True), nullable=False),
    Column("dated_until", DateTime(timezone=True)),
    # A code that is in every chart is found by its days, without a look at each of its entries.
    indexes=(Index(None, "param", "code", "dated_from", postgresql_include=["entry", "system", "dated_until"]),),
)
"""Codes, identifiers, contacts, booleans and URIs. `code` null: the element is there, without a code. Under the number of a
reference parameter: the identifiers of references. Its main date is the entry's."""
search_dates = _values(
    "search_dates",
    Column("starts", DateTime(timezone=True), nullable=False),
    Column("ends", DateTime(timezone=True), nullable=False),
    indexes=(Index(None, "param", "starts", "entry"),),
)
"""Half-open ranges of dates that are not their type's main date; open ends are infinite."""
search_references = _values(
    "search_references",
    Column("target_type", Text),
    Column("target_id", Text),
    Column("url", Text),
    indexes=(Index(None, "target_id", "param", "entry"), Index(None, "url", postgresql_where=text("url IS NOT NULL"))),
)
"""`target_type` and `target_id`: of a resource here; `url`: any other address, or a canonical. All null: the reference has none."""
search_strings = _values(
    "search_strings",
    Column("folded", Text, nullable=False),
    Column("exact", Text, nullable=False),
    indexes=(Index(None, "param", "folded", "entry", postgresql_ops={"folded": "text_pattern_ops"}),),
)
"""`folded`: as spellings are compared (`app.store.values.folded`)."""
search_quantities = _values(
    "search_quantities",
    Column("low", Numeric, nullable=False),
    Column("high", Numeric, nullable=False),
    Column("system", Text),
    Column("code", Text),
    Column("unit", Text),
    indexes=(Index(None, "param", "low", "entry"),),
)
"""Both ends included; an amount is a range of one number."""

SEARCH_VALUES = (search_tokens, search_dates, search_references, search_strings, search_quantities)
