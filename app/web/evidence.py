"""The note as a page shows it: lines, cut where evidence begins or ends, each piece with the items that it is evidence for.

Offsets are code points of the stored text, half-open. A browser counts UTF-16 units: it gets the offset of every line's first
character, and counts code points from there.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

LINES_A_BLOCK = 40
"""Lines that a browser lays out together, once they come near the window."""


class Mark(NamedTuple):
    """Evidence. `item`: of which; `part`: of which of its fields, `also` for a further mention, `issue` for what asks to look."""

    start: int
    end: int
    item: str
    part: str


class Piece(NamedTuple):
    """Text that lies in the same marks throughout."""

    text: str
    marks: tuple[Mark, ...]

    @property
    def items(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(mark.item for mark in self.marks))

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(f"{mark.item}:{mark.part}" for mark in self.marks))


class Line(NamedTuple):
    """`start`: of its first character; its end is none of its pieces'."""

    start: int
    pieces: tuple[Piece, ...]


def blocks(text: str, marks: Iterable[Mark]) -> list[list[Line]]:
    """The lines of the note, `LINES_A_BLOCK` together. Marks may overlap and go over lines; those outside the text count not."""
    found = lines(text, marks)
    return [found[first : first + LINES_A_BLOCK] for first in range(0, len(found), LINES_A_BLOCK)]


def lines(text: str, marks: Iterable[Mark]) -> list[Line]:
    waiting = sorted(mark for mark in marks if 0 <= mark.start < mark.end <= len(text))
    found: list[Line] = []
    start, first, open_marks = 0, 0, list[Mark]()
    for line in text.split("\n"):
        end = start + len(line)
        while first < len(waiting) and waiting[first].start < end:
            open_marks.append(waiting[first])
            first += 1
        found.append(Line(start, tuple(_pieces(line, start, open_marks))))
        start = end + 1
        open_marks = [mark for mark in open_marks if mark.end > start]
    return found


def _pieces(line: str, start: int, marks: Sequence[Mark]) -> Iterable[Piece]:
    if not line:
        return
    end = start + len(line)
    cuts = {start, end}
    for mark in marks:
        cuts |= {max(mark.start, start), min(mark.end, end)}
    bounds = sorted(cuts)
    for left, right in itertools.pairwise(bounds):
        inside = tuple(mark for mark in marks if mark.start < right and mark.end > left)
        yield Piece(line[left - start : right - start], inside)
