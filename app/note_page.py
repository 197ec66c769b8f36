"""The page of a note as the rules of layout see it: its lines, their folded texts, the statements by line, and the lines
above a row that may be the head of its table.
"""

import bisect
import re
from collections.abc import Callable, Iterator, Sequence

from schemas.note import SourceLine
from schemas.statement import EvidenceSpan, Field, Kind, Statement

# Dates as a head of a column or a heading has them; a lone "3月" is none in a table head, where it may be a price.
DATE = re.compile(
    r"(?<![0-9./-])(?:(?:令和|平成|[RH])(?:元|[0-9]{1,2})[年./][0-9]{1,2}[月./][0-9]{1,2}日?"
    r"|(?:令和|平成)(?:元|[0-9]{1,2})年(?:[0-9]{1,2}月)?"
    r"|'?(?:[0-9]{4}|[0-9]{2})[年./-][0-9]{1,2}[月./-][0-9]{1,2}日?|[0-9]{4}[年./][0-9]{1,2}月?"
    r"|(?:1[0-2]|0?[1-9])(?:/|月)(?:3[01]|[12][0-9]|0?[1-9])日?|[0-9]{4}年)(?![0-9./])"
)
LOOK_UP = 25
"""How many lines above its own a result is still under a heading or the head of a table."""


class Page:
    """Lines are numbered from 0, statements as in the sequence given. `texts`: the lines folded, so that an offset in one
    is an offset in the line; `line_of`: the line of each statement's name; `results`: the lines that hold a result.
    """

    def __init__(self, lines: Sequence[SourceLine], statements: Sequence[Statement], fold: Callable[[str], str]) -> None:
        self.lines = lines
        self.statements = statements
        self.texts = [fold(line.text) for line in lines]
        starts = [line.start for line in lines]
        self.line_of = [bisect.bisect_right(starts, s.name.start) - 1 for s in statements]
        self.by_line: dict[int, list[int]] = {}
        for index, number in enumerate(self.line_of):
            self.by_line.setdefault(number, []).append(index)
        self.results = {n for n, i in self.by_line.items() if any(self.is_result(k) for k in i)}

    def is_result(self, index: int) -> bool:
        return self.statements[index].kind in (Kind.LAB, Kind.INFECTION)

    def begin(self, index: int) -> int:
        """Where in the note the statement itself begins: its date may stand before it, on another line too."""
        return min(span.start for key, span in self.statements[index].fields.items() if key not in (Field.DATE, Field.DAYS))

    def place(self, index: int, field: Field) -> tuple[int, int] | None:
        """Offsets of a field in the line of the statement's name; None when it is not there."""
        span, line = self.statements[index].fields.get(field), self.lines[self.line_of[index]]
        if span is None or not line.start <= span.start < span.end <= line.start + len(line.text):
            return None
        return span.start - line.start, span.end - line.start

    def span(self, number: int, start: int, end: int) -> EvidenceSpan:
        """The evidence between two offsets in a line (half-open)."""
        line = self.lines[number]
        return EvidenceSpan(start=line.start + start, end=line.start + end, quote=line.text[start:end])

    def above(self, number: int) -> Iterator[int]:
        """The lines above that may be the head of a table: at most `LOOK_UP`, up to a blank line or a sentence."""
        for above in range(number - 1, max(-1, number - 1 - LOOK_UP), -1):
            yield above
            text = self.texts[above]
            if not text.strip() or (above not in self.results and len(text.strip()) > 30):
                return
