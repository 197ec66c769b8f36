"""What a note tells twice is one record: the more complete mention stands, the other one becomes evidence of it.

An assessment names a disease again that the history gave in full (心不全は代償されている), a course names a drug that the list of
prescriptions has with its dose. A mention is a restatement only when the other one says all that it says, and the two do
not contradict each other; when in doubt both stand. Nothing is lost: the statement is kept, and an issue tells where it is.
"""

from collections.abc import Sequence

from app.terminology.drugs import parse_drug
from app.terminology.matching import Lexicon
from app.terminology.spelling import variant_key
from schemas import systems
from schemas.issue import Issue, IssueType, Severity
from schemas.record import Record
from schemas.statement import Action, Assertion, EvidenceSpan, Field, Kind

# What is ordered or taken now; a drug that is stopped, planned or of the past is told of for its own sake.
_CURRENT = (Action.PRESCRIBE, Action.CONTINUE, Action.CHANGE, None)


def restated(records: Sequence[Record], lexicon: Lexicon) -> tuple[list[Record], list[Issue]]:
    """The records in order, each restatement with `restates` (the index of the one that says it more fully), each of
    those with the places of its restatements in `also`; an issue for each restatement. Held records are left as they are.
    """
    fuller: dict[int, int] = {}
    for index, record in enumerate(records):
        if record.held:
            continue
        for other, candidate in enumerate(records):
            if other == index or other in fuller or candidate.held or candidate.statement.kind is not record.statement.kind:
                continue
            # Of two that say the same the first one stands.
            if _says(candidate, record, lexicon) and (other < index or not _says(record, candidate, lexicon)):
                fuller[index] = other
                break
    stands = {index: _last(fuller, index) for index in fuller}
    again: dict[int, list[EvidenceSpan]] = {}
    for index, last in stands.items():
        again.setdefault(last, []).append(records[index].statement.name)
    found: list[Record] = []
    issues: list[Issue] = []
    for index, record in enumerate(records):
        found.append(record.model_copy(update={"also": tuple(again.get(index, ())), "restates": stands.get(index)}))
        if index in stands:
            name = record.statement.name
            text = f"{record.statement.kind.value}: told more completely elsewhere in the note; it is evidence of that one"
            issues.append(
                Issue(
                    severity=Severity.INFORMATION, code=IssueType.DUPLICATE, text=text, start=name.start, end=name.end
                )
            )
    return found, issues


def _last(fuller: dict[int, int], index: int) -> int:
    """The record that stands in the end. The chain has no circle: nothing already restated takes another one."""
    while index in fuller:
        index = fuller[index]
    return index


def _says(fuller: Record, record: Record, lexicon: Lexicon) -> bool:
    """Does `fuller` say all that `record` says?"""
    match record.statement.kind:
        case Kind.CONDITION:
            return _says_condition(fuller, record)
        case Kind.PRESCRIPTION:
            return _says_prescription(fuller, record, lexicon)
        case Kind.ALLERGY:
            same = fuller.statement.assertion is record.statement.assertion and _same_name(fuller, record)
            return same and set(record.reactions) <= set(fuller.reactions)
        case _:
            parts = ("date", "quantity", "text_value")
            same = _same_name(fuller, record) and all(getattr(fuller, part) == getattr(record, part) for part in parts)
            return same and record.statement.result in (None, fuller.statement.result) and record.flag in (None, fuller.flag)


def _same_name(fuller: Record, record: Record) -> bool:
    if fuller.codings and record.codings:
        return fuller.codings[0].code == record.codings[0].code and set(record.modifiers) <= set(fuller.modifiers)
    return variant_key(fuller.display) == variant_key(record.display)


def _says_condition(fuller: Record, record: Record) -> bool:
    if fuller.statement.assertion is not record.statement.assertion or record.date not in (None, fuller.date):
        return False
    if record.statement.assertion is Assertion.FAMILY and record.relative != fuller.relative:
        return False
    if _same_name(fuller, record):
        return True
    # 慢性心不全 is a 心不全, and 左変形性膝関節症 a 変形性膝関節症: the head of a Japanese name is its end. Not 肺高血圧症 a 高血圧症: the
    # class of ICD-10 must be of the same ten.
    one, other = (_icd(r) for r in (fuller, record))
    ends = variant_key(fuller.display).endswith(variant_key(record.display))
    return ends and bool(one) and one[:2] == other[:2]


def _icd(record: Record) -> str:
    return next((coding.code for coding in record.codings if coding.system == systems.ICD10), "")


def _says_prescription(fuller: Record, record: Record, lexicon: Lexicon) -> bool:
    """A drug named without amount, usage or days, where the same drug stands with them."""
    detail = {Field.DOSE, Field.USAGE, Field.DAYS}
    if fuller.statement.action not in _CURRENT or record.statement.action not in _CURRENT:
        return False
    if detail & record.statement.fields.keys() or not detail & fuller.statement.fields.keys():
        return False
    if _same_name(fuller, record):
        return True
    # The restatement may lack form and strength, never have others.
    name = parse_drug(record.statement.name.quote)
    if name.forms or name.strengths or name.maker:
        return False
    ingredient = lexicon.drugs.ingredient(record.statement.name.quote)
    return bool(ingredient) and ingredient == lexicon.drugs.ingredient(fuller.statement.name.quote)
