"""What the page of a claim shows: its lines with what is to be judged at each, and the passages of the chart that speak of them.

Lines of a claim count from 1; offsets are half-open code points of the stored note.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from app.receipt_decisions import Item
from app.receipt_store import LinkedNote
from app.web.evidence import Line, Mark, Piece, lines
from schemas.issue import Severity
from schemas.receipt import GENERAL, Advice, Advised, Case, Edited, Finding, ItemState, Passage, Reason

SEVERITIES = tuple(Severity)
"""The gravest first."""
CONTEXT_LINES = 1
"""Lines of a note that are shown on either side of one with a passage."""


@dataclass(frozen=True)
class AdviceShown:
    """What is to be done, by the model or by a person after it. `code`: behind the codes of its modifiers; `started`: 診療開始日 of
    a disease to add; `count`: to change to; `evidence`: characters of a note."""

    action: Advised
    reason: Reason | None
    comment: str
    code: str | None = None
    started: str | None = None
    count: int | None = None
    evidence: str | None = None
    probability: float | None = None


@dataclass(frozen=True)
class ReceiptShown:
    """An item. `advice`: as it stands; `before`: the model's, where a person has changed it. `shade`: the class of its card.
    `references`: the documents that speak, for a person; `decider`: name of who decided."""

    id: str
    version: int
    line: int
    state: str
    finding: Finding | None
    advice: AdviceShown | None
    before: AdviceShown | None
    references: Sequence[str]
    decider: str

    @property
    def shade(self) -> str:
        return {ItemState.OPEN: "open", ItemState.REJECTED: "reject"}.get(ItemState(self.state), "done")


@dataclass(frozen=True)
class LineShown:
    """A line of the claim. `kind`: 傷病名, 診療行為, 医薬品 or 特定器材; empty for what is no such line."""

    line: int
    kind: str
    text: str
    comments: Sequence[str]
    items: Sequence[ReceiptShown]


@dataclass(frozen=True)
class NoteLine:
    """A line of a note. `says`: what was read in it, each with the line of the claim that it concerns."""

    pieces: Sequence[Piece]
    says: Sequence[tuple[int, str]]


@dataclass(frozen=True)
class NoteShown:
    """`lines`: those with a passage and what lies beside them; None: something is left out."""

    id: str
    date: str
    document_type: str
    department: str
    lines: Sequence[NoteLine | None]


def shown(item: Item, rows: Mapping[str, Finding], decider: str) -> ReceiptShown:
    """`rows`: the claim's findings by the rows of the tables that speak, as an advice cites them."""
    finding, advice, edited = item.finding, item.advice, item.edited
    model = advised(advice) if advice else None
    references = [finding.reference] if finding else []
    if advice:
        cited = rows.get(advice.reference)
        references.append(cited.reference if cited else GENERAL.get(advice.reference, advice.reference))
    return ReceiptShown(
        id=str(item.id),
        version=item.version,
        line=item.line,
        state=item.state,
        finding=finding,
        advice=corrected(model, edited) if edited else model,
        before=model if edited else None,
        references=list(dict.fromkeys(references)),
        decider=decider,
    )


def advised(advice: Advice) -> AdviceShown:
    return AdviceShown(
        advice.action, advice.reason, advice.comment,
        evidence=advice.evidence.span.quote if advice.evidence else None, probability=advice.probability,
    )  # fmt: skip


def corrected(model: AdviceShown | None, edited: Edited) -> AdviceShown:
    """What a person says instead; the chart stays that of the model."""
    return AdviceShown(
        edited.action,
        edited.reason or (model.reason if model else None),
        edited.comment,
        " ".join([*(edited.modifiers or ()), *([edited.code] if edited.code else ())]) or None,
        edited.started.isoformat() if edited.started else None,
        edited.count,
        model.evidence if model else None,
    )


def claim_lines(case: Case, items: Iterable[ReceiptShown]) -> list[LineShown]:
    """In the order of the file. What is said of a line that is none of these stands at its place too."""
    at: dict[int, list[ReceiptShown]] = defaultdict(list)
    for item in items:
        at[item.line].append(item)
    found = []
    for block in case.blocks:
        kind, _, text = block.text.partition(" ")
        found.append(LineShown(block.line, kind, text, block.comments, in_order(at.pop(block.line, []))))
    found += [LineShown(line, "", "", (), in_order(inside)) for line, inside in at.items()]
    return sorted(found, key=lambda one: one.line)


def in_order(items: Iterable[ReceiptShown]) -> list[ReceiptShown]:
    """The gravest first; an advice without a finding last."""
    def rank(item: ReceiptShown) -> int:
        return SEVERITIES.index(item.finding.severity) if item.finding else len(SEVERITIES)

    return sorted(items, key=rank)


def chart(notes: Iterable[LinkedNote], case: Case, items: Sequence[Item]) -> list[NoteShown]:
    """The notes in their order, each with the passages of the case and the evidence of the advice. A mark of the line 12 is
    that of `line-12`, and of every item at that line."""
    at: dict[int, list[str]] = defaultdict(list)
    marks: dict[str, list[Mark]] = defaultdict(list)
    for item in items:
        at[item.line].append(str(item.id))
        if item.advice and item.advice.evidence:
            span = item.advice.evidence.span
            marks[item.advice.evidence.note_id].append(Mark(span.start, span.end, str(item.id), "evidence"))
    passages: dict[str, list[tuple[int, Passage]]] = defaultdict(list)
    for block in case.blocks:
        for passage in block.passages:
            passages[passage.note_id].append((block.line, passage))
            for owner in (f"line-{block.line}", *at[block.line]):
                marks[passage.note_id].append(Mark(passage.start, passage.end, owner, "passage"))
    return [
        NoteShown(
            id=str(note.id),
            date=note.note_date.isoformat(),
            document_type=note.document_type,
            department=note.department,
            lines=list(_excerpt(lines(note.text, marks[str(note.id)]), passages[str(note.id)])),
        )
        for note in notes
    ]


def _excerpt(whole: Sequence[Line], passages: Sequence[tuple[int, Passage]]) -> Iterator[NoteLine | None]:
    speaking = [number for number, line in enumerate(whole) if any(piece.marks for piece in line.pieces)]
    wanted = {near for number in speaking for near in range(number - CONTEXT_LINES, number + CONTEXT_LINES + 1)}
    last = -1
    for number in sorted(wanted & set(range(len(whole)))):
        if number > last + 1:
            yield None
        line, last = whole[number], number
        end = line.start + sum(len(piece.text) for piece in line.pieces)
        own = [(at, one.says) for at, one in passages if line.start <= one.start < max(end, line.start + 1)]
        yield NoteLine(line.pieces, sorted(set(own)))
    if speaking and last + 1 < len(whole):
        yield None


def mark_class(piece: Piece, items: Mapping[str, ReceiptShown]) -> str:
    """Of a piece with marks: evidence is coloured until it is judged, a mere passage underlined."""
    states = {items[id_].state for id_ in piece.items if id_ in items}
    state = "open" if ItemState.OPEN in states else "reject" if states == {ItemState.REJECTED} else "done"
    parts = {mark.part for mark in piece.marks}
    return f"evidence m-{state}" if "evidence" in parts else "also"


def page_of(file_id: UUID, claim_id: UUID | None = None) -> str:
    return f"/review/receipts/{file_id}" + (f"/{claim_id}" if claim_id else "")
