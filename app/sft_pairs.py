"""A reviewed note as the chats that a model for use case 1 is trained on. Pure: no database, no model.

A pair is one window of a note: the messages of the reader itself, and the answer that it should have got, which is the
statement form of what the reviewed note says. Each answer is put through that window's own grammar: what a model could not
write is not taught.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.generation import form
from app.generation.reader import Window, source_lines
from app.generation.segments import fold
from app.generation.structured import first_refused
from schemas.note import SourceLine
from schemas.statement import FIELDS, EvidenceSpan, Field, Kind, Statement

_REMOTE = (Field.DATE, Field.DAYS)
"""The fields that the form takes from lines above, too."""
_KINDS = list(Kind)


@dataclass(frozen=True)
class Pair:
    """A chat of one window. `spans`: of each statement in the answer, in its order: kind and fields, with half-open
    code-point offsets into the user's message. `lost`: fields of them that stand where the form cannot reach."""

    messages: tuple[dict[str, str], ...]
    spans: tuple[dict[str, Any], ...]
    lost: int


def pairs_of(text: str, windows: Sequence[Window], statements: Sequence[Statement]) -> tuple[list[Pair], int]:
    """A pair for each of `windows` (`NoteReader.windows` of the note `text`, for a chat model), and for how many there is none:
    no model could write their answer. Blank windows are passed over."""
    lines = source_lines(text)
    starts = [line.start for line in lines]
    homes = [bisect_right(starts, statement.name.start) - 1 for statement in statements]
    shown = {number for window in windows for number in window.numbers}
    placed = zip(homes, statements, strict=True)
    if not all(home in shown and _inside(lines[home], statement.name) for home, statement in placed):
        # A name over a line's end, or of spaces, is in no window, and would be taught as not being there.
        return [], len(windows)
    found: list[Pair] = []
    refused = 0
    for window in windows:
        if window.numbers:
            numbers = set(window.numbers)
            here = [(home, s) for home, s in zip(homes, statements, strict=True) if home in numbers]
            pair = _pair(window, lines, here)
            found += [pair] if pair else []
            refused += pair is None
    return found, refused


def _inside(line: SourceLine, span: EvidenceSpan) -> bool:
    return line.start <= span.start and span.end <= line.start + len(line.text)


def _written(lines: Sequence[SourceLine], number: int, statement: Statement) -> tuple[form.Written, int]:
    """The statement as line `number`, the last of `lines`, tells it in the form, and how many of its fields the form cannot
    hold there: those that stand on other lines, but for dates and days of supply in `lines`."""
    own = {key: span for key, span in statement.fields.items() if key in FIELDS[statement.kind]}
    near = {
        key: fold(span.quote)
        for key, span in own.items()
        if _inside(lines[-1], span) or (key in _REMOTE and any(_inside(line, span) for line in lines))
    }
    as_text = form.Written(
        number, statement.kind, near, statement.assertion, statement.category, statement.result, statement.action
    )
    return as_text, len(own) - len(near)


def _pair(window: Window, lines: Sequence[SourceLine], here: Sequence[tuple[int, Statement]]) -> Pair | None:
    """None: the grammar refuses the answer whatever is left out."""
    ordered = sorted(here, key=lambda one: (one[0], one[1].name.start, one[1].name.end, _KINDS.index(one[1].kind)))
    told: list[tuple[form.Written, Statement]] = []
    lost = 0
    for number, statement in ordered:
        as_text, missing = _written(lines[window.numbers[0] : number + 1], number, statement)
        told.append((as_text, statement))
        lost += missing
    while True:
        rows = list(_rows(window, told))
        refused = first_refused(window.grammar, [text for text, _ in rows])
        if refused is None:
            break
        at = rows[refused][1] if refused < len(rows) else None
        # A date or a supply above that the grammar does not offer: the model cannot write it either.
        far = [key for key in _REMOTE if at is not None and _far(told[at], lines, key)]
        if at is None or not far:
            return None
        as_text, statement = told[at]
        kept = {key: piece for key, piece in as_text.fields.items() if key not in far}
        told[at] = replace(as_text, fields=kept), statement
        lost += len(far)
    answer = "".join(text for text, _ in rows)
    places = _places(window, lines)
    spans = tuple(
        {"kind": s.kind.value, "fields": {key.value: _moved(s.fields[key], places) for key in as_text.fields}}
        for as_text, s in told
    )
    messages = tuple({"role": str(role), "content": text} for role, text in [*window.messages, ("assistant", answer)])
    return Pair(messages, spans, lost)


def _far(one: tuple[form.Written, Statement], lines: Sequence[SourceLine], key: Field) -> bool:
    as_text, statement = one
    return key in as_text.fields and not _inside(lines[as_text.line], statement.fields[key])


def _rows(window: Window, told: Sequence[tuple[form.Written, Statement]]) -> Iterator[tuple[str, int | None]]:
    """The answer's rows, each with the statement that it is."""
    for line in window.lines:
        yield form.LINE_OPEN + form.escape(line.text) + form.CLOSE, None
        for at, (as_text, _) in enumerate(told):
            if as_text.line == line.number:
                yield "".join(part for part, _ in form.parts(as_text)), at
    yield form.END, None


def _places(window: Window, lines: Sequence[SourceLine]) -> dict[int, int]:
    """For each line of the window, how far its characters move from the note to the user's message."""
    texts = window.messages[-1].content.split("\n")
    first = window.numbers[0] - next(at for at, text in enumerate(texts) if text.strip())
    moves: dict[int, int] = {}
    at = 0
    for offset, text in enumerate(texts):
        moves[lines[first + offset].start] = at - lines[first + offset].start
        at += len(text) + 1
    return moves


def _moved(span: EvidenceSpan, places: dict[int, int]) -> dict[str, Any]:
    start = max(begin for begin in places if begin <= span.start)
    return {"start": span.start + places[start], "end": span.end + places[start], "quote": fold(span.quote)}
