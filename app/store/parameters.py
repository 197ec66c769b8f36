"""The search parameters of each type that is stored, and elements that summaries keep.

Source: the SearchParameter resources and snapshots of HL7 FHIR R4 (hl7.fhir.r4.core 4.0.1), https://hl7.org/fhir/R4/searchparameter-registry.html.
Composite and special parameters are left out, and those whose expression is an extension. `parameters.tsv` holds one a line:

    number      stored with every value; never changed, never given to another one
    type        * for all types
    paths       JSON properties from the resource down, alternatives separated by |; [system=phone] keeps the items of that
                system; with ? at the end, that it is there is the value `true`, and `false` is that nothing is there
    targets     types that a reference leads to; * for any
    definition  last part of http://hl7.org/fhir/SearchParameter/…
    system      of codes whose element is bound to one code system (http, JSON has the code alone)
    main        1: the date by which resources of the type are put in order; one at most
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from types import MappingProxyType

DEFINITIONS = "http://hl7.org/fhir/SearchParameter/"


class ParameterType(StrEnum):
    TOKEN = "token"  # noqa: S105  # https://hl7.org/fhir/R4/valueset-search-param-type.html
    DATE = "date"
    REFERENCE = "reference"
    STRING = "string"
    QUANTITY = "quantity"
    URI = "uri"


@dataclass(frozen=True)
class Path:
    """`steps`: properties from the resource down. `system`: keep the items that state this one. `exists`: that it is there is
    what counts."""

    steps: tuple[str, ...]
    system: str | None = None
    exists: bool = False

    @classmethod
    def read(cls, written: str) -> "Path":
        path, _, condition = written.rstrip("?").partition("[system=")
        return cls(tuple(path.split(".")), condition.rstrip("]") or None, written.endswith("?"))


@dataclass(frozen=True)
class SearchParameter:
    """`targets`: empty for none, ("*",) for any. `system`: of plain codes."""

    number: int
    name: str
    type: ParameterType
    paths: tuple[Path, ...]
    targets: tuple[str, ...]
    definition: str
    system: str | None
    main: bool

    @property
    def stored_targets(self) -> tuple[str, ...]:
        """Types here that a value may lead to."""
        if self.targets == ("*",):
            return STORED_TYPES
        return tuple(target for target in self.targets if target in PARAMETERS)


def _rows(name: str) -> list[dict[str, str]]:
    with files("app.store").joinpath(name).open(encoding="utf-8") as opened:
        return list(csv.DictReader(opened, delimiter="\t", quoting=csv.QUOTE_NONE))


def _read() -> tuple[dict[str, dict[str, SearchParameter]], dict[str, SearchParameter]]:
    by_type: dict[str, dict[str, SearchParameter]] = {}
    for row in _rows("parameters.tsv"):
        by_type.setdefault(row["type"], {})[row["name"]] = SearchParameter(
            number=int(row["number"]),
            name=row["name"],
            type=ParameterType(row["kind"]),
            paths=tuple(Path.read(path) for path in row["paths"].split("|")),
            targets=tuple(filter(None, row["targets"].split(","))),
            definition=DEFINITIONS + row["definition"],
            system=row["system"] or None,
            main=row["main"] == "1",
        )
    common = by_type.pop("*")
    return {type_: {**common, **by_type[type_]} for type_ in sorted(by_type)}, common


_of_types, COMMON = _read()
PARAMETERS: Mapping[str, Mapping[str, SearchParameter]] = MappingProxyType(
    {type_: MappingProxyType(found) for type_, found in _of_types.items()}
)
"""By type and name; `_id` and `_lastUpdated`, which every type has too, are columns and not here."""
STORED_TYPES: tuple[str, ...] = tuple(PARAMETERS)
"""Every type that can be stored, read and searched."""
MAIN_DATE: Mapping[str, SearchParameter] = MappingProxyType(
    {type_: parameter for type_, found in PARAMETERS.items() for parameter in found.values() if parameter.main}
)
BY_NUMBER: Mapping[int, SearchParameter] = MappingProxyType(
    {parameter.number: parameter for found in PARAMETERS.values() for parameter in found.values()}
)

_elements = {row["type"]: row for row in _rows("elements.tsv")}
SUMMARY: Mapping[str, frozenset[str]] = MappingProxyType(
    {type_: frozenset(row["summary"].split()) for type_, row in _elements.items()}
)
"""Top-level elements that R4 marks as part of a summary."""
MANDATORY: Mapping[str, frozenset[str]] = MappingProxyType(
    {type_: frozenset(row["mandatory"].split()) for type_, row in _elements.items()}
)
"""Top-level elements with a minimum above 0, and those that change what the others mean (modifiers)."""
CHOICES: Mapping[str, frozenset[str]] = MappingProxyType(
    {type_: frozenset(row["choices"].split()) for type_, row in _elements.items()}
)
"""Top-level elements of several types: `value` for valueQuantity, valueString …"""
