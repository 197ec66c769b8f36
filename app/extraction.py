"""What a model wrote -> statements with the characters they stand for.

A written field is text; the same text may stand in its line more than once. `locate` decides which place is meant:
names in the order of the line, a result behind its name and never used twice, the other fields next to what they
belong to. Dates and days of supply that are not in the line are looked for in the lines above, nearest first.
A field that is nowhere to be found becomes an `Issue`; a statement without its name is dropped with one.
"""

import re
from collections.abc import Callable, Sequence
from typing import Protocol

from schemas.issue import Issue, IssueType, Severity
from schemas.note import SourceLine
from schemas.statement import (
    Action,
    AllergyCategory,
    Assertion,
    EvidenceSpan,
    Field,
    InfectionResult,
    Kind,
    Statement,
)


class Written(Protocol):
    """A statement as text: the line it was written for, its fields and labels."""

    @property
    def line(self) -> int: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def fields(self) -> dict[Field, str]: ...
    @property
    def assertion(self) -> Assertion: ...
    @property
    def category(self) -> AllergyCategory | None: ...
    @property
    def result(self) -> InfectionResult | None: ...
    @property
    def action(self) -> Action | None: ...
    @property
    def confidence(self) -> float | None: ...


Place = tuple[int, int]
"""Half-open offsets into one line."""

# The fields that are looked for beside others, in this order, and what they stand next to.
_ANCHORS: dict[Field, tuple[Field, ...]] = {
    Field.UNIT: (Field.VALUE, Field.NAME),
    Field.FLAG: (Field.UNIT, Field.VALUE, Field.NAME),
    Field.DATE: (Field.VALUE, Field.NAME),
    Field.RELATIVE: (Field.NAME,),
    Field.ONSET: (Field.NAME,),
    Field.REACTION: (Field.NAME,),
    Field.DOSE: (Field.NAME,),
    Field.USAGE: (Field.DOSE, Field.NAME),
    Field.DAYS: (Field.USAGE, Field.DOSE, Field.NAME),
}
# Lines that are not blank, as the grammar counts them.
_ABOVE = 25
_REMOTE = (Field.DATE, Field.DAYS)


def locate(
    lines: Sequence[SourceLine], written: Sequence[Written], fold: Callable[[str], str] = lambda text: text
) -> tuple[list[Statement], list[Issue]]:
    """Statements in the order of the note, without repetitions, and what was lost on the way.

    `fold` maps a line to the text the model read, character by character (same length).
    Every span's quote is the note's own text, whatever the model read.
    """
    statements: list[Statement] = []
    issues: list[Issue] = []
    by_line: dict[int, list[Written]] = {}
    for item in written:
        by_line.setdefault(item.line, []).append(item)
    for number in sorted(by_line):
        finder = _LineFinder(lines, number, fold)
        for item in by_line[number]:
            statement = finder.statement(item, issues)
            if statement and statement.fields not in [s.fields for s in statements[-80:] if s.kind is statement.kind]:
                statements.append(statement)
    return statements, issues


class _LineFinder:
    """Finds the fields of one line's statements; remembers which results are taken."""

    def __init__(self, lines: Sequence[SourceLine], number: int, fold: Callable[[str], str]) -> None:
        self.lines = lines
        self.number = number
        self.text = fold(lines[number].text)
        self.fold = fold
        self.cursor: dict[Kind, int] = {}
        self.taken: set[Place] = set()

    def statement(self, item: Written, issues: list[Issue]) -> Statement | None:
        name = item.fields.get(Field.NAME, "")
        places = self._name_and_value(item, name)
        line = self.lines[self.number]
        if places is None:
            text = f"a {item.kind.value} was dropped: its name is not in the line"
            end = line.start + len(line.text)
            issues.append(Issue(severity=Severity.WARNING, code=IssueType.VALUE, text=text, start=line.start, end=end))
            return None
        spans = {key: self._span(self.number, place) for key, place in places.items()}
        for key, anchors in _ANCHORS.items():
            if key not in item.fields:
                continue
            anchor = next(places[a] for a in anchors if a in places)
            place = self._nearest(key, item.fields[key], anchor, list(places.values()))
            if place:
                places[key] = place
                spans[key] = self._span(self.number, place)
            elif key in _REMOTE and (span := self._above(item.fields[key])):
                spans[key] = span
        for key in item.fields:
            if key not in spans:
                text = f"the {key.value} of a {item.kind.value} is not where it can belong; it was left out"
                start, end = spans[Field.NAME].start, spans[Field.NAME].end
                issues.append(Issue(severity=Severity.WARNING, code=IssueType.VALUE, text=text, start=start, end=end))
        return Statement(
            kind=item.kind,
            fields=spans,
            assertion=item.assertion,
            category=item.category,
            result=item.result,
            action=item.action,
            confidence=item.confidence,
        )

    def _name_and_value(self, item: Written, name: str) -> dict[Field, Place] | None:
        """Places of name and, if there is one, value: the first name not before the last one of this kind, with the
        first free value behind it; the last such name before that value."""
        cursor = self.cursor.get(item.kind, 0)
        everywhere = _places(self.text, name)
        names = [p for p in everywhere if p[0] >= cursor] or everywhere
        if not names:
            return None
        value = item.fields.get(Field.VALUE)
        if value is None:
            self.cursor[item.kind] = names[0][1]
            return {Field.NAME: names[0]}
        values = _places(self.text, value)
        free = [p for p in values if p not in self.taken]
        behind = [p for p in free if p[0] >= names[0][1]]
        place = next(iter(behind or free or values), None)
        if place is None:
            self.cursor[item.kind] = names[0][0]
            return {Field.NAME: names[0]}
        before = [p for p in names if p[1] <= place[0]]
        # A name that is repeated before its value (heading and row) is meant where it stands closest.
        chosen = before[-1] if before else names[0]
        self.cursor[item.kind] = chosen[0]
        # Several tests may share one result (HBs抗原・HCV抗体 陰性), but one test does not take another's.
        if behind and item.kind is Kind.LAB:
            self.taken.add(place)
        return {Field.NAME: chosen, Field.VALUE: place}

    def _nearest(self, key: Field, piece: str, anchor: Place, others: list[Place]) -> Place | None:
        """The place of `piece` closest to `anchor`, not inside another field: behind it rather than before, but for
        a relative, which leads (父：胃癌) unless it stands in brackets (胃癌(父))."""

        def distance(place: Place) -> tuple[int, int]:
            overlap = any(place[0] < end and start < place[1] for start, end in others)
            behind = place[0] >= anchor[1]
            gap = place[0] - anchor[1] if behind else anchor[0] - place[1]
            follows = key is not Field.RELATIVE or self.text[anchor[1] : place[0]] in ("(", "（")
            return (overlap, abs(gap if behind == follows else gap * 2 + 1))

        return min(_places(self.text, piece), key=distance, default=None)

    def _above(self, piece: str) -> EvidenceSpan | None:
        part: EvidenceSpan | None = None
        written = [number for number in range(self.number) if self.lines[number].text.strip()]
        for number in reversed(written[-_ABOVE:]):
            text = self.fold(self.lines[number].text)
            for place in _places(text, piece)[:1]:
                if _whole(text, place):
                    return self._span(number, place)
                part = part or self._span(number, place)
        return part

    def _span(self, number: int, place: Place) -> EvidenceSpan:
        line = self.lines[number]
        start, end = line.start + place[0], line.start + place[1]
        return EvidenceSpan(start=start, end=end, quote=line.text[place[0] : place[1]])


def _places(text: str, piece: str) -> list[Place]:
    """Where `piece` stands in `text` as a whole, left to right, overlaps included; where it stands as a part of
    something longer when it is nowhere whole."""
    found: list[Place] = []
    at = text.find(piece) if piece else -1
    while at >= 0:
        found.append((at, at + len(piece)))
        at = text.find(piece, at + 1)
    return [place for place in found if _whole(text, place)] or found


# What may not lie across the edge of a piece: two letters of one word, a kinship word (祖|父, 母|方), a date (年|5月).
_JOINED = re.compile(r"[A-Za-z\u00b5\u0370-\u03ff]{2}|[祖曾伯叔義養][父母]|[父母][方親系]|[年月][0-9]")


def _whole(text: str, place: Place) -> bool:
    """Is the piece at `place` not a part of a longer number, word or date?"""
    for edge in place:
        if 0 < edge < len(text) and _JOINED.fullmatch(text[edge - 1 : edge + 1]):
            return False
    before, after = text[: place[0]][-2:], text[place[1] :][:2]
    piece = text[place[0] : place[1]]
    if piece[-1:].isdigit() and (after[:1].isdigit() or (after[:1] in ".," and after[1:].isdigit())):
        return False
    return not (piece[:1].isdigit() and (before[-1:].isdigit() or (before[-1:] in (".", ",") and before[:1].isdigit())))
