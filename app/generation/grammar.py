r"""A note -> the llguidance grammar of everything that may be written about it (`form` says what that looks like).

- The note's lines are literals: they are replayed, never sampled.
- A free field is a run of whole chunks of its own line (`%regex {"substring_chunks": …}`), not empty, with no space and
  no control character at its ends. `date` and `days` may also be date-like or supply-like pieces of the lines above: the
  head of a table, a heading such as 退院時処方（14日分）.
- Labels come from the closed lists of `schemas.statement`.
- Laboratory results and infections are offered only on lines where a result can stand.

- A name holds a letter and is not a date; a result is a number or the word or sign of a qualitative result (`SHAPES`).

There is no way to write a code, a normalized value or a character that is not in the note. A grammar that llguidance
cannot enforce is refused (`check`), never loosened.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import llguidance

from app.errors import InvalidInput
from app.generation import form
from app.generation.segments import chunks
from schemas.statement import FIELDS, AllergyCategory, Field, Kind

MAX_STATEMENTS = 60
"""Most statements of one line (a laboratory table on one line has about 40)."""

LOOK_BACK = 25
"""How many lines above a line its `date` and `days` are looked for; the synthetic corpus uses the same number."""

# Pieces of earlier lines that can be a date: with year, month or day sign, slashes, dots or hyphens, any era.
# Two numbers around a dot are a result (12.3) unless the first is a year: results would crowd out the dates.
_DATE = re.compile(
    r"(?<![0-9.])(?:(?:令和|平成|昭和|[RHS])(?:元|[0-9]{1,2})[年./-]?(?:[0-9]{1,2}[月./-]?(?:[0-9]{1,2}日?)?)?"
    r"|'?[0-9]{2,4}[年/-][0-9]{1,2}(?:[月./-](?:[0-9]{1,2}日?)?)?"
    r"|'?[0-9]{2,4}\.[0-9]{1,2}\.[0-9]{1,2}|(?:19|20)[0-9]{2}\.[0-9]{1,2}"
    r"|[0-9]{1,2}[/月][0-9]{1,2}日?|[0-9]{4}年|[0-9]{1,2}月)(?![0-9])"
)
_SUPPLY = re.compile(r"[0-9]{1,3}\s*(?:日分|日間|TD|週間分|週間|日)")
# A result is a number or one of the signs and words of a qualitative result.
_RESULT = re.compile(r"[0-9+\-±陽陰型]|neg|pos|nd|反応|検出", re.IGNORECASE)

# Fields are seen as JSON writes them. An escape is one character: the t of an escaped tab is no letter.
_ANY = r"([^\\\n]|\\u[0-9a-f]{4}|\\[^u\n])*"
_NO_EDGE = r"\s\p{Cc}\\"
"""What a field neither begins nor ends with: spaces and controls. The escapes among them begin with a backslash, ..."""
_SIGN = r'\\["\\]'
"""... which here are a quotation mark and a backslash, and may stand anywhere."""

# What names and results must look like, so that a weak model cannot take 6 or 令和3年 for a disease.
# llguidance 1.9.1 does not see that an intersection has become empty: it offers a way on, is stuck behind it and breaks
# off (has_pending_lexeme_bytes). So a shape may only ask for what its first character decides, or for what is sure to
# come: the chunks that a name is made of end with the last letter of the line, and all chunks with one that can be last.
_DATE_SIGNS = "年月日元頃"
_CLOSERS = ")]】」』〉》>、。,.;:=-"
_IS_DATE = (
    "(令和|平成|昭和|大正|[RHSrhs'])? ?[0-9元]{1,4}"
    "([年/.-]([0-9]{1,2}([月/.-]([0-9]{1,2}日?)?)?)?|月([0-9]{1,2}日?)?)[頃〜~]?"
)
_RESULT_START = r"0-9<>≦≧≤≥+\-−±ー▲弱強擬疑陽陰保判検反NnPpABO"
_STARTS_RESULT = re.compile(f"[{_RESULT_START}]")
SHAPES = {
    "TEXT_SHAPE": f"([^{_NO_EDGE}]|{_SIGN})({_ANY}([^{_NO_EDGE}]|{_SIGN}))?",
    "NAME_SHAPE": f"([^{_NO_EDGE}{re.escape(_CLOSERS)}]|{_SIGN})({_ANY}([^{_NO_EDGE}]|{_SIGN}))?",
    "HOLDS_A_LETTER": rf"{_ANY}[\p{{L}}--[{_DATE_SIGNS}]]{_ANY}",
    "NOT_DATE": _IS_DATE,
    "RESULT_SHAPE": rf"[{_RESULT_START}][^\n]*",
}


@dataclass(frozen=True)
class Line:
    """A line to be replayed: its number in the note (from 0), its text as the model reads it, and the dictionary
    mentions in it as (start, end, kind), in order, without overlaps."""

    number: int
    text: str
    mentions: tuple[tuple[int, int, Kind], ...] = ()


@dataclass(frozen=True)
class Writing:
    """How a model's vocabulary writes the form: `fragment` and `replay` turn text into grammar atoms."""

    fragment: Callable[[str], str]
    replay: Callable[[str], str]
    marks: bool


def literal(text: str) -> str:
    # JSON leaves U+007F as it is, and llguidance's reader of grammars refuses it.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


PLAIN = Writing(fragment=literal, replay=literal, marks=False)
"""For any model: the form as ordinary characters."""


def compact(token: Callable[[str], int], tokenize: Callable[[str], Sequence[int]]) -> Writing:
    """For a model with a reserved token for each fragment (`token`); replayed text is given as its exact tokens."""
    return Writing(
        fragment=lambda text: f"<[{token(text)}]>",
        replay=lambda text: " ".join(f"<[{i}]>" for i in tokenize(text)),
        marks=True,
    )


def build(lines: Sequence[Line], writing: Writing) -> str:
    """The grammar (Lark, llguidance dialect) of the statement form for `lines`, in their order."""
    sequence: list[str] = []
    rules: list[str] = []
    texts = [line.text for line in lines]
    for index, line in enumerate(lines):
        sequence.append(_replay(line, writing))
        if made := _line_rules(index, line, texts[max(0, index - LOOK_BACK) : index], writing):
            rules += made
            sequence.append(f"s{index}{{0,{most_statements(line)}}}")
    sequence.append(writing.fragment(form.END))
    shapes = [f"{name}: {'~' if name == 'NOT_DATE' else ''}{_regex(shape)}" for name, shape in SHAPES.items()]
    return "\n".join([f"start: {' '.join(sequence)}", *shapes, *rules]) + "\n"


def _regex(pattern: str) -> str:
    return "/" + re.sub(r"(?<!\\)/", r"\/", pattern) + "/"


def most_statements(line: Line) -> int:
    """How many statements a line may bring: in the densest layout, a table row, each takes a value and a space."""
    return min(MAX_STATEMENTS, 2 + len(chunks(line.text)) // 2)


def check(grammar: str) -> None:
    """Raises InvalidInput when llguidance cannot enforce `grammar`; the message holds no text of the note."""
    if llguidance.LLMatcher.validate_grammar(llguidance.grammar_from("lark", grammar)):
        raise InvalidInput(f"the grammar of this note ({len(grammar)} characters) is refused by llguidance")


def _replay(line: Line, writing: Writing) -> str:
    atoms = [writing.fragment(form.LINE_OPEN)]
    at = 0
    for start, _, kind in line.mentions if writing.marks else ():
        if start > at:
            atoms.append(writing.replay(form.escape(line.text[at:start])))
        atoms.append(writing.fragment(form.MARKS[kind.value]))
        at = start
    if at < len(line.text):
        atoms.append(writing.replay(form.escape(line.text[at:])))
    return " ".join([*atoms, writing.fragment(form.CLOSE)])


def _line_rules(index: int, line: Line, above: list[str], writing: Writing) -> list[str]:
    """The rules of one line's statements; none where nothing in it can be a name."""
    spans = [(start, end) for start, end, _ in line.mentions]
    pieces = [line.text[start:end] for start, end in chunks(line.text, spans)]
    while pieces and not _can_be_last(pieces[-1]):
        pieces.pop()
    last = max((at for at, piece in enumerate(pieces) if _holds_a_letter(piece)), default=-1)
    if last < 0:
        return []
    while last + 1 < len(pieces) and pieces[last + 1] in _CLOSERS:
        last += 1
    numbered = any(_STARTS_RESULT.match(piece) for piece in pieces)
    rules = [
        f"C{index}: {_substring(pieces)}",
        f"P{index}: {_substring(pieces[: last + 1])}",
        f"TEXT{index}: C{index} & TEXT_SHAPE",
        f"NAME{index}: P{index} & NAME_SHAPE & NOT_DATE & HOLDS_A_LETTER",
    ]
    names = dict.fromkeys(Field, f"TEXT{index}") | {Field.NAME: f"NAME{index}"}
    if numbered:
        rules.append(f"RESULT{index}: TEXT{index} & RESULT_SHAPE")
        names[Field.VALUE] = f"RESULT{index}"
    else:
        del names[Field.VALUE]
    remote = {
        Field.DATE: _candidates(_DATE, above),
        Field.DAYS: _candidates(_SUPPLY, above),
    }
    for field, found in remote.items():
        if found:
            rules.append(f"{field.value}{index}: TEXT{index} | " + " | ".join(literal(form.escape(f)) for f in found))
            names[field] = f"{field.value}{index}"
    # Where no result can stand, nothing is a laboratory or infection statement.
    kinds = [k for k in Kind if k not in (Kind.LAB, Kind.INFECTION) or (numbered and _RESULT.search(line.text))]
    return [*rules, f"s{index}: " + " | ".join(_statement(kind, names, writing) for kind in kinds)]


def _can_be_last(piece: str) -> bool:
    return not piece[-1].isspace() and unicodedata.category(piece[-1]) != "Cc"


def _holds_a_letter(piece: str) -> bool:
    return any(unicodedata.category(char)[0] == "L" and char not in _DATE_SIGNS for char in piece)


def _substring(pieces: Sequence[str]) -> str:
    return "%regex " + json.dumps({"substring_chunks": [form.escape(piece) for piece in pieces]}, ensure_ascii=False)


def _candidates(pattern: re.Pattern[str], above: list[str]) -> list[str]:
    """Different matches in the lines above, nearest line first, at most 24."""
    found = [match[0].strip() for text in reversed(above) for match in pattern.finditer(text)]
    return list(dict.fromkeys(found))[:24]


def _statement(kind: Kind, names: dict[Field, str], writing: Writing) -> str:
    parts = [f"{writing.fragment(form.kind_open(kind))} {names[Field.NAME]}"]
    for field in FIELDS[kind]:
        if field is not Field.NAME and field in names:
            parts.append(f"({writing.fragment(form.field_open(field))} {names[field]})?")
    if kind is Kind.ALLERGY:
        parts.append("(" + " | ".join(writing.fragment(form.category_label(c)) for c in AllergyCategory) + ")")
    parts.append("(" + " | ".join(writing.fragment(label) for label in form.closing_labels(kind)) + ")")
    return " ".join(parts)
