r"""A note -> the llguidance grammar of everything that may be written about it (`form` says what that looks like).

- The note's lines are literals: they are replayed, never sampled.
- A free field is a run of whole chunks of its own line (`%regex {"substring_chunks": …}`), not empty, no space at its
  ends. `date` and `days` may also be date-like or supply-like pieces of the lines above: the head of a table, a heading
  such as 退院時処方（14日分）.
- Labels come from the closed lists of `schemas.statement`.
- Laboratory results and infections are offered only on lines where a result can stand.

There is no way to write a code, a normalized value or a character that is not in the note. A grammar that llguidance
cannot enforce is refused (`check`), never loosened.
"""

import json
import re
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
_DATE = re.compile(
    r"(?:(?:令和|平成|昭和|[RHS])(?:元|[0-9]{1,2})[年./-]?(?:[0-9]{1,2}[月./-]?(?:[0-9]{1,2}日?)?)?"
    r"|'?[0-9]{2,4}[年./-][0-9]{1,2}(?:[月./-](?:[0-9]{1,2}日?)?)?"
    r"|[0-9]{1,2}[/月][0-9]{1,2}日?|[0-9]{4}年|[0-9]{1,2}月)"
)
_SUPPLY = re.compile(r"[0-9]{1,3}\s*(?:日分|日間|TD|週間分|週間|日)")
# A result is a number or one of the signs and words of a qualitative result.
_RESULT = re.compile(r"[0-9+\-±陽陰型]|neg|pos|nd|反応|検出", re.IGNORECASE)


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
    return json.dumps(text, ensure_ascii=False)


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
        if not line.text.strip():
            continue
        rules += _line_rules(index, line, texts[max(0, index - LOOK_BACK) : index], writing)
        sequence.append(f"s{index}{{0,{most_statements(line)}}}")
    sequence.append(writing.fragment(form.END))
    return f"start: {' '.join(sequence)}\n" + "\n".join(rules) + "\n"


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
    spans = [(start, end) for start, end, _ in line.mentions]
    parts = [form.escape(line.text[start:end]) for start, end in chunks(line.text, spans)]
    rules = [
        f"C{index}: %regex {json.dumps({'substring_chunks': parts}, ensure_ascii=False)}",
        # Not empty, and no space at either end.
        f"N{index}: C{index} & /[^ \u3000]([^\\n]*[^ \u3000])?/",
    ]
    remote = {
        Field.DATE: _candidates(_DATE, above),
        Field.DAYS: _candidates(_SUPPLY, above),
    }
    names = dict.fromkeys(Field, f"N{index}")
    for field, found in remote.items():
        if found:
            # A literal that also stands in the line itself would be ambiguous to the lexer, so the line's own go first.
            rules.append(f"{field.value}{index}: N{index} | " + " | ".join(literal(form.escape(f)) for f in found))
            names[field] = f"{field.value}{index}"
    kinds = [k for k in Kind if k not in (Kind.LAB, Kind.INFECTION) or _RESULT.search(line.text)]
    rules.append(f"s{index}: " + " | ".join(_statement(kind, names, writing) for kind in kinds))
    return rules


def _candidates(pattern: re.Pattern[str], above: list[str]) -> list[str]:
    """Different matches in the lines above, nearest line first, at most 24."""
    found = [match[0].strip() for text in reversed(above) for match in pattern.finditer(text)]
    return list(dict.fromkeys(found))[:24]


def _statement(kind: Kind, names: dict[Field, str], writing: Writing) -> str:
    parts = [f"{writing.fragment(form.kind_open(kind))} {names[Field.NAME]}"]
    for field in FIELDS[kind]:
        if field is not Field.NAME:
            parts.append(f"({writing.fragment(form.field_open(field))} {names[field]})?")
    if kind is Kind.ALLERGY:
        parts.append("(" + " | ".join(writing.fragment(form.category_label(c)) for c in AllergyCategory) + ")")
    parts.append("(" + " | ".join(writing.fragment(label) for label in form.closing_labels(kind)) + ")")
    return " ".join(parts)
