"""A bulk export: what a client chose, and the files that it is given."""

from datetime import datetime
from enum import StrEnum

from schemas.value import Value


class ExportLevel(StrEnum):
    """Where $export was asked for: everything, what is about patients, what is about the members of a Group."""

    SYSTEM = "system"
    PATIENT = "patient"
    GROUP = "group"


class TypeFilter(Value):
    """Of `type` only what the search `query` finds (`code=…&date=…`, percent-encoded)."""

    type: str
    query: str


class Selection(Value):
    """`types`: which, in this order. `since`: changed after that instant. `patients`: FHIR ids; None: all of the level.
    `warnings`: what of the request was ignored, in words without its values."""

    level: ExportLevel
    group: str | None = None
    types: tuple[str, ...]
    since: datetime | None = None
    filters: tuple[TypeFilter, ...] = ()
    patients: tuple[str, ...] | None = None
    warnings: tuple[str, ...] = ()


class FileKind(StrEnum):
    """The manifest's arrays."""

    OUTPUT = "output"
    DELETED = "deleted"
    ERROR = "error"


class ExportFile(Value):
    """`count` lines from the ordinal `first` on; `type` is that of the resources, for deletions that of what was deleted."""

    name: str
    kind: FileKind
    type: str
    first: int
    count: int
