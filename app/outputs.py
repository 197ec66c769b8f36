"""What is written of records needs no model: whose they are, how they are checked, and what a person's correction becomes.

The pipeline writes what it has read by it, and a release what a person has corrected: one way to write, so that both say the
same thing in the same form.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from typing import Any, Protocol

from app import fhir, ssmix2, standardize
from app.errors import InvalidInput
from app.terminology.entries import LocalEntry
from app.terminology.local import FACILITY_DRUGS, local_system
from app.terminology.matching import Lexicon
from schemas.coding import Coding
from schemas.issue import Issue, IssueType, Severity
from schemas.note import ChartNote
from schemas.record import Record
from schemas.statement import Kind, Statement


class Choices(Protocol):
    """What an installation chooses that its output depends on; `app.settings.Settings` has it."""

    @property
    def facility_name(self) -> str | None: ...
    @property
    def institution_number(self) -> str | None: ...
    @property
    def facility_address(self) -> str | None: ...
    @property
    def facility_phone(self) -> str | None: ...
    @property
    def patient_id_oid(self) -> str | None: ...
    @property
    def coding_min_score(self) -> float: ...
    @property
    def hold_uncertain(self) -> bool: ...


@dataclass(frozen=True)
class Chosen:
    """`Choices` as a run keeps them (`models.Run.options`), so that it can be repeated after they have changed."""

    facility_name: str | None
    institution_number: str | None
    facility_address: str | None
    facility_phone: str | None
    patient_id_oid: str | None
    coding_min_score: float
    hold_uncertain: bool

    @classmethod
    def of(cls, options: Choices) -> "Chosen":
        return cls(**{one.name: getattr(options, one.name) for one in fields(cls)})

    @classmethod
    def kept(cls, options: Mapping[str, Any]) -> "Chosen":
        """Out of `models.Run.options`. Raises: InvalidInput where another version kept others."""
        known = {one.name: options[one.name] for one in fields(cls) if one.name in options}
        if len(known) < len(fields(cls)):
            raise InvalidInput("the run does not say which settings it was made with")
        return cls(**known | {"coding_min_score": float(known["coding_min_score"])})

    @property
    def facility(self) -> fhir.Facility:
        return fhir.Facility(
            number=self.institution_number,
            name=self.facility_name,
            address=self.facility_address,
            phone=self.facility_phone,
            patient_id_oid=self.patient_id_oid,
        )

    def sender(self, note: ChartNote, department: Coding | None) -> ssmix2.Facility:
        """Who sends the note's messages. `department`: the SS-MIX2 code of its department, from a table."""
        code = department.code if department else None
        return ssmix2.Facility(
            name=self.facility_name or "", institution_number=self.institution_number, department_code=code,
            department_name=note.department,
        )  # fmt: skip


# --- checks ----------------------------------------------------------------------------------------------------------


def checked(note: ChartNote, bundle: dict[str, Any], profiles: fhir.Profiles | None, lexicon: Lexicon) -> list[Issue]:
    """What is wrong with the resources of a Bundle of the note."""
    found = fhir.check(bundle, text=note.text, profiles=profiles, lab=lexicon.lab_displays)
    # Best practices that the profiles only recommend would bury what a person has to read.
    return [issue for issue in found if issue.severity is not Severity.INFORMATION]


_ENTRY = re.compile(r"Bundle\.entry\[(\d+)\]")


def faulty(bundle: dict[str, Any], issues: Iterable[Issue]) -> frozenset[tuple[str, str]]:
    """(type, id) of the entries that an error names."""
    errors = (issue for issue in issues if issue.severity in (Severity.ERROR, Severity.FATAL))
    return frozenset(key for issue in errors if (key := of_entry(bundle, issue)))


def of_entry(bundle: dict[str, Any], issue: Issue) -> tuple[str, str] | None:
    """(type, id) of the entry that the issue is about; None: it is about the whole."""
    place = _ENTRY.match(issue.text)
    resource = bundle["entry"][int(place[1])]["resource"] if place else None
    return (resource["resourceType"], resource["id"]) if resource else None


# --- corrections -----------------------------------------------------------------------------------------------------


def corrected(
    statement: Statement, others: Sequence[Statement], day: date, lexicon: Lexicon, min_score: float, coding: Coding | None
) -> tuple[Record, list[Issue]]:
    """The record of a person's statement, computed as of one that a model read. `others`: what else the note says, since a
    neighbour tells what a short name stands for; `day`: the note's date. `coding`: the code that the person chose, of a table
    or the hospital's own; what else the tables give its concept is written with it."""
    beside = sorted([*others, statement], key=lambda one: (one.name.start, one.name.end))
    place = next(n for n, one in enumerate(beside) if one is statement)
    window = beside[max(place - 1, 0) : place + 2]
    at = 1 if place else 0
    # Of the neighbours nothing is told: their issues are their own.
    own = standardize.records(window, day, lexicon, min_score)[0][at].local
    meant = lexicon
    if coding is not None:
        row = hospitals_own(statement.kind, coding, lexicon)
        meant = lexicon.meaning(row or LocalEntry(statement.kind, coding.code, coding.display, coding))
    found, issues = standardize.records(window, day, meant, min_score)
    record = found[at]
    spans = statement.fields.values()
    mine = [issue for issue in issues if any((one.start, one.end) == (issue.start, issue.end) for one in spans)]
    if coding is None:
        return record, mine
    mine = [issue for issue in mine if issue.code is not IssueType.CODE_INVALID]
    row = hospitals_own(statement.kind, coding, lexicon)
    wanted = row.target if row else coding
    codings = () if wanted is None else _all_of(wanted, lexicon)
    if codings and codings[0] not in record.codings:
        text = f"{statement.kind.value}: the value is not one of the chosen code; the code stays as it was chosen"
        name = statement.name
        mine.append(Issue(severity=Severity.WARNING, code=IssueType.VALUE, text=text, start=name.start, end=name.end))
    return record.model_copy(update={"codings": codings, "candidates": (), "local": record.local if row else own}), mine


def hospitals_own(kind: Kind, coding: Coding, lexicon: Lexicon) -> LocalEntry | None:
    """The row of the hospital's mapping table that the coding names; None: it is of another table."""
    if coding.system != local_system(kind) and not coding.system.startswith(FACILITY_DRUGS):
        return None
    row = lexicon.local(kind, coding.code)
    # What was retired since it was chosen is a code without a meaning.
    return row if row is not None and row.code == coding.code else LocalEntry(kind, coding.code, coding.display)


def _all_of(coding: Coding, lexicon: Lexicon) -> tuple[Coding, ...]:
    """The chosen code first, then the others of its concept, where the code is the concept's own: a code of ICD-10 or of a
    general name stands for many."""
    entry = lexicon.find(coding.system, coding.code)
    codings = entry.codings if entry else ()
    if not codings or (codings[0].system, codings[0].code) != (coding.system, coding.code):
        return (coding,)
    return codings
