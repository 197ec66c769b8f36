"""What one patient's notes say together of diseases or allergies: each once, with an id that stays.

The same rules as for the Bundles of JP-CLINS (`app.fhir.clins.merged`), on records: the two parts do not know each
other. What differs is on purpose: a denial overrules older notes, never a finding of its own note, because the files here
are what others treat by, and an allergy that a note states must not vanish behind a careless なし.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from itertools import takewhile

from app.errors import InvalidInput
from app.ssmix2 import codes
from app.ssmix2.builder import day_of
from app.ssmix2.stated import Finding
from schemas import systems
from schemas.issue import Issue, IssueType, Severity
from schemas.note import ChartNote
from schemas.record import Record
from schemas.spelling import fold
from schemas.statement import Assertion, Kind

Noted = tuple[int, ChartNote | None, Record]
"""Position of the note among the patient's notes, the note where it is at hand, and what it says."""

_ACTIVE = (Assertion.PRESENT, Assertion.SUSPECTED)


def merged(
    kind: Kind, notes: Sequence[tuple[ChartNote | None, Sequence[Record]]], patient_id: str
) -> tuple[list[Finding], list[Issue]]:
    """Findings of `kind` (condition or allergy) of one patient, in the order in which the notes first speak of them.
    `notes`: the oldest first. The newest note that speaks of a thing decides:

    - what it denies is not written, each older statement that this overrules is an Issue;
    - else its statements are written: those of now apart from past ones, and each date of onset apart, because two
      falls are two fractures. One without a date, or merely suspected, is taken up by one that says more;
    - one that says no onset (an allergy: no reaction) gives way to the newest older one that does, if every statement
      since asserts the same: a visit that does not repeat it does not unsay it.

    The same thing is the same code and modifiers of a system that names things, or the same name where no table has it.
    Keys depend on patient, kind and thing: stable when a note is converted again, and when another one words it
    otherwise. Of several findings of one thing the first has the thing's key, the others keys of their state and date.
    """
    things: dict[tuple[str, ...], list[Noted]] = {}
    for position, (note, records) in enumerate(notes):
        for record in records:
            # What a relative has says nothing of the patient.
            if record.statement.kind is kind and record.statement.assertion is not Assertion.FAMILY:
                things.setdefault(_thing(record), []).append((position, note, record))
    findings: list[Finding] = []
    issues: list[Issue] = []
    for thing, said in things.items():
        kept, left = _decide(said)
        issues += [_overruled(kind)] * left
        for place, (_, note, record) in enumerate(kept):
            apart = (_state(record), day_of(record.date)) if place else ()
            findings.append(Finding(record, _key(patient_id, kind, *thing, *apart), note))
    return findings, issues


def check_key(key: str) -> str:
    """A key that PRB-4 and IAM-7 can hold. Raises InvalidInput."""
    if not re.fullmatch(r"[0-9A-Za-z._-]{1,20}", key):
        raise InvalidInput("key: 1 to 20 letters, digits, dots, hyphens or underscores")
    return key


def _decide(said: list[Noted]) -> tuple[list[Noted], int]:
    """What is written of one thing, and how many older statements its newest note denies."""
    newest = said[-1][0]
    latest = [noted for noted in said if noted[0] == newest and noted[2].statement.assertion is not Assertion.ABSENT]
    before = [noted for noted in said if noted[0] < newest]
    if not latest:
        return [], sum(record.statement.assertion is not Assertion.ABSENT for _, _, record in before)
    kept: list[Noted] = []
    for state in ("active", "past"):
        said_so = [noted for noted in latest if _state(noted[2]) == state]
        chosen = list(_saying_most(said_so))
        if len(chosen) == 1:
            chosen = [_with_reactions(_fuller(chosen[0], before), said_so)]
        kept += chosen
    return kept, 0


def _fuller(noted: Noted, before: list[Noted]) -> Noted:
    """The same of an older note that says more, as long as every statement since asserts the same."""
    if _is_full(noted[2]):
        return noted
    assertion = noted[2].statement.assertion
    same = takewhile(lambda older: older[2].statement.assertion is assertion, reversed(before))
    return next((older for older in same if _is_full(older[2])), noted)


def _with_reactions(noted: Noted, said: list[Noted]) -> Noted:
    """All reactions to an allergen that its note tells in several places."""
    position, note, record = noted
    told = (reaction for other, _, said_so in said if other == position for reaction in said_so.reactions)
    reactions = tuple(dict.fromkeys((*record.reactions, *told)))
    return position, note, record.model_copy(update={"reactions": reactions})


def _saying_most(said: list[Noted]) -> Iterator[Noted]:
    """Those that no other one of the same state takes up; of equals the first."""
    for place, noted in enumerate(said):
        others = [(other, where < place) for where, other in enumerate(said) if where != place]
        if not any(_takes_up(other[2], noted[2], first) for other, first in others):
            yield noted


def _takes_up(other: Record, record: Record, first: bool) -> bool:
    mine, its = _said(record), _said(other)
    if not (its[0] >= mine[0] and its[1].startswith(mine[1]) and (its[2] or not mine[2])):
        return False
    return first or its != mine


def _said(record: Record) -> tuple[int, str, bool]:
    return int(record.statement.assertion is not Assertion.SUSPECTED), day_of(record.date), bool(record.reactions)


def _is_full(record: Record) -> bool:
    if record.statement.kind is Kind.ALLERGY:
        return bool(record.reactions)
    return bool(day_of(record.date))


def _state(record: Record) -> str:
    return "active" if record.statement.assertion in _ACTIVE else "past"


# Systems whose code means one disease. ICD-10 is a classification: two diseases may share a code of it.
_DISEASES = (systems.DISEASE_KEY, systems.DISEASE_EXCHANGE, systems.RECEIPT_DISEASE)


def _thing(record: Record) -> tuple[str, ...]:
    """What makes two records the same thing; see `merged`."""
    if record.statement.kind is Kind.ALLERGY:
        coding = next(iter(record.codings), None)
    else:
        coding = next((c for system in _DISEASES if (c := codes.find_coding(record, system))), None)
    if coding is None:
        return "name", fold(record.display)
    modifiers = ((m.position, m.codings[0].code if m.codings else fold(m.text)) for m in record.modifiers)
    return coding.system, coding.code, *(part for modifier in modifiers for part in modifier)


def _key(patient_id: str, *parts: str) -> str:
    return hashlib.sha256("\0".join((patient_id, *parts)).encode()).hexdigest()[:20]


def _overruled(kind: Kind) -> Issue:
    # Without a place: offsets of another note would point anywhere in this one.
    text = f"SS-MIX2: an older {kind.value} is not written, the newest note that speaks of it denies it"
    return Issue(severity=Severity.INFORMATION, code=IssueType.BUSINESS_RULE, text=text)
