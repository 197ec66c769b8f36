r"""A note -> the llguidance grammar of everything that may be written about it (`form` says what that looks like).

- The note's lines are literals: they are replayed, never sampled.
- A free field is a run of whole chunks of its own line (`%regex {"substring_chunks": …}`), not empty, no space at its
  ends. `date` and `days` may also be date-like or supply-like pieces of the lines above: the head of a table, a heading
  such as 退院時処方（14日分）.
- Labels come from the closed lists of `schemas.statement`.
- Laboratory results and infections are offered only on lines where a result can stand.

- A name holds a letter and is not a date; a result is a number or the word or sign of a qualitative result (`SHAPES`).

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

# Two letters side by side: some run of chunks around them is a name.
_NAME = re.compile(r"[A-Za-z\u4e00-\u9fff\u30a1-\u30fa]{2}")


# What names and results must look like, as llguidance regular expressions over the line as the model reads it. They are
# wide: of the 69,000 names and results of 3,000 synthetic notes four are lost. They keep a weak model from taking 6 or
# 令和3年 for a disease. (A shape for every field makes llguidance 1.9.1 panic: has_pending_lexeme_bytes.)
_LETTER = r"\p{Han}\p{Katakana}A-Za-z\u{370}-\u{3ff}々"
_ANY = r"[^\n]"
_IS_DATE = (
    "(令和|平成|昭和|大正|[RHSrhs'])? ?[0-9元]{1,4}"
    "([年/.-]([0-9]{1,2}([月/.-]([0-9]{1,2}日?)?)?)?|月([0-9]{1,2}日?)?)[頃〜~]?"
)
SHAPES: dict[str, str] = {
    "name": rf"{_ANY}*[{_LETTER}]{_ANY}+|{_ANY}+[{_LETTER}]|[\p{{Hiragana}}ー]{{2,}}",
    "short_name": rf"{_ANY}*[{_LETTER}\p{{Hiragana}}]{_ANY}*",
    "value": rf"[<>≦≧≤≥=約]* ?[-+]?[0-9]{_ANY}*|[ABO]{{1,2}}型?"
    rf"|{_ANY}*(陽|陰|[Nn]eg|NEG|[Pp]os|POS|N\.?D|検出|反応|保留|[-+±ー▲]){_ANY}*",
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


def build(lines: Sequence[Line], writing: Writing, *, shaped: bool = True) -> str:
    """The grammar (Lark, llguidance dialect) of the statement form for `lines`, in their order.

    `shaped` False leaves `SHAPES` out: any run of chunks may then be a name or a result.
    """
    sequence: list[str] = []
    rules: list[str] = []
    texts = [line.text for line in lines]
    for index, line in enumerate(lines):
        sequence.append(_replay(line, writing))
        if not line.text.strip():
            continue
        if made := _line_rules(index, line, texts[max(0, index - LOOK_BACK) : index], writing, shaped):
            rules += made
            sequence.append(f"s{index}{{0,{most_statements(line)}}}")
    sequence.append(writing.fragment(form.END))
    return "\n".join([f"start: {' '.join(sequence)}", *(_shapes() if shaped else ()), *rules]) + "\n"


def _shapes() -> list[str]:
    shapes = [f"SHAPE_{name.upper()}: {_regex(shape)}" for name, shape in SHAPES.items()]
    return [*shapes, f"NOT_DATE: ~{_regex(_IS_DATE)}"]


def _regex(pattern: str) -> str:
    return "/" + pattern.replace("/", "\\/") + "/"


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


def _line_rules(index: int, line: Line, above: list[str], writing: Writing, shaped: bool) -> list[str]:
    spans = [(start, end) for start, end, _ in line.mentions]
    parts = [form.escape(line.text[start:end]) for start, end in chunks(line.text, spans)]
    rules = [
        f"C{index}: %regex {json.dumps({'substring_chunks': parts}, ensure_ascii=False)}",
        # Not empty, and no space at either end.
        f"T{index}: C{index} & /[^ \u3000]([^\\n]*[^ \u3000])?/",
    ]
    names = dict.fromkeys(["name", "short_name", *Field], f"T{index}")
    if shaped:
        names |= {key: f"{key.upper()}{index}" for key in SHAPES}
        for key in SHAPES:
            apart = "" if key == "value" else " & NOT_DATE"
            rules.append(f"{names[key]}: T{index} & SHAPE_{key.upper()}{apart}")
        # Most lines hold a name and, if a result is expected, a number: there is nothing to ask.
        numbered = any(part[0] in "0123456789" for part in parts)
        if not _NAME.search(line.text) or (_RESULT.search(line.text) and not numbered):
            empty = _empty(names, rules)
            names = {key: name for key, name in names.items() if key not in empty}
    remote = {
        Field.DATE: _candidates(_DATE, above),
        Field.DAYS: _candidates(_SUPPLY, above),
    }
    for field, found in remote.items():
        if found:
            rules.append(f"{field.value}{index}: T{index} | " + " | ".join(literal(form.escape(f)) for f in found))
            names[field] = f"{field.value}{index}"
    statements = [_statement(kind, names, writing) for kind in _possible(line) if _name_of(kind) in names]
    return [*rules, f"s{index}: " + " | ".join(statements)] if statements else []


_BYTES = llguidance.LLTokenizer("byte")


def _empty(names: dict[str, str], rules: list[str]) -> set[str]:
    """The shapes that nothing in a line has. llguidance 1.9.1 offers what stands before such a terminal all the same,
    is stuck behind it and breaks off, so they may not be in the grammar."""
    letters = {key: chr(ord("a") + number) for number, key in enumerate(SHAPES)}
    start = " | ".join(f'"{letter}" {names[key]}' for key, letter in letters.items())
    source = "\n".join([f"start: {start}", *_shapes(), *rules])
    first = llguidance.LLMatcher(_BYTES, llguidance.grammar_from("lark", source))
    if first.is_error():
        return set()
    found = set()
    for key, letter in letters.items():
        matcher = first.deep_copy()
        # Tokens 0 to 255 are the bytes.
        if not matcher.consume_token(ord(letter)) or not any(matcher.compute_bitmask()[:32]):
            found.add(key)
    return found


def _name_of(kind: Kind) -> str:
    """One character alone is a name only of a test (K) or an allergen (卵)."""
    return "short_name" if kind in (Kind.LAB, Kind.ALLERGY) else "name"


def _possible(line: Line) -> list[Kind]:
    """The kinds that a line can state: where no result can stand, no laboratory or infection statement."""
    return [k for k in Kind if k not in (Kind.LAB, Kind.INFECTION) or _RESULT.search(line.text)]


def _candidates(pattern: re.Pattern[str], above: list[str]) -> list[str]:
    """Different matches in the lines above, nearest line first, at most 24."""
    found = [match[0].strip() for text in reversed(above) for match in pattern.finditer(text)]
    return list(dict.fromkeys(found))[:24]


def _statement(kind: Kind, names: dict[str, str], writing: Writing) -> str:
    parts = [f"{writing.fragment(form.kind_open(kind))} {names[_name_of(kind)]}"]
    for field in FIELDS[kind]:
        if field is not Field.NAME and field in names:
            parts.append(f"({writing.fragment(form.field_open(field))} {names[field]})?")
    if kind is Kind.ALLERGY:
        parts.append("(" + " | ".join(writing.fragment(form.category_label(c)) for c in AllergyCategory) + ")")
    parts.append("(" + " | ".join(writing.fragment(label) for label in form.closing_labels(kind)) + ")")
    return " ".join(parts)
