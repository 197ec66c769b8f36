"""HL7 v2 text: segments, fields, repetitions, components and subcomponents, with the delimiters `|^~\\&`.

python-hl7 splits and joins. Ours is what it does otherwise than SS-MIX2 needs: its escapes write every character outside
ASCII in hexadecimal and drop what they do not know, and its parser strips blanks at the ends of a message, where a value
may have some. Source: HL7 2.5 chapter 2; SS-MIX2 1.2 uses no other delimiters and ends a segment with CR alone.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import hl7 as library

from app.errors import InvalidInput

CR = "\r"
NULL = '""'
"""Explicit null: fills a required field that cannot be stated; an empty field says nothing."""
DELIMITERS = "^~\\&"

_ESCAPES = {"|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\\": "\\E\\", CR: "\\.br\\"}
_UNESCAPES = {escape: char for char, escape in _ESCAPES.items()}
_TO_ESCAPE = re.compile(r"[|^&~\\\r]")
_TO_UNESCAPE = re.compile(r"\\(?:[FSTRE]|\.br)\\")
_END = f"{CR}ZZZ|."  # a segment behind the last one, whose ends the library may strip

Component = tuple[str, ...]
Repetition = tuple[Component, ...]
Field = tuple[Repetition, ...]


def escape(text: str) -> str:
    """Delimiters as `\\F\\ \\S\\ \\T\\ \\R\\ \\E\\`, CR as `\\.br\\` (defined for the types TX and FT only)."""
    return _TO_ESCAPE.sub(lambda m: _ESCAPES[m[0]], text)


def unescape(text: str) -> str:
    """The inverse of `escape`; an unknown sequence (`\\H\\`, `\\X0D\\`) stays as it is."""
    return _TO_UNESCAPE.sub(lambda m: _UNESCAPES[m[0]], text)


def join(*components: str, by: str = "^") -> str:
    """Escaped components as one field, trailing empty ones dropped."""
    return by.join(components).rstrip(by)


def segment(name: str, fields: Mapping[int, str]) -> str:
    """One segment from its fields by HL7 number (1-based, already escaped), trailing empty ones dropped."""
    last = max((number for number, value in fields.items() if value), default=0)
    values = [fields.get(number, "") for number in range(1, last + 1)]
    if name == "MSH":
        values[0] = "|"  # MSH-1 is the delimiter itself
    return str(library.Segment("|", [name, *values]))


@dataclass(frozen=True)
class Segment:
    """A parsed segment. `fields[0]` is field 1; every field is repetitions of components of subcomponents."""

    name: str
    fields: tuple[Field, ...]

    def field(self, number: int) -> Field:
        return self.fields[number - 1] if number <= len(self.fields) else ((("",),),)

    def get(self, number: int, component: int = 1, repetition: int = 1, subcomponent: int = 1) -> str:
        """Unescaped text at 1-based places; "" where the message has nothing there."""
        try:
            return self.field(number)[repetition - 1][component - 1][subcomponent - 1]
        except IndexError:
            return ""

    def put(self, number: int, *components: str) -> "Segment":
        """The segment with field `number` replaced by one repetition of unescaped components."""
        fields: list[Field] = [*self.fields, *[((("",),),)] * (number - len(self.fields))]
        fields[number - 1] = (tuple((component,) for component in components),)
        return Segment(self.name, tuple(fields))


def parse(text: str) -> list[Segment]:
    """Segments of a message, in order. Raises InvalidInput when it does not begin with `MSH|^~\\&|` or holds LF."""
    if not text.startswith(f"MSH|{DELIMITERS}|"):
        raise InvalidInput(f"a message begins with MSH|{DELIMITERS}|")
    if "\n" in text:
        raise InvalidInput("segments end with CR alone; the message holds LF")
    *parsed, _ = library.parse(text.rstrip(CR) + _END)
    return [_segment(part) for part in parsed if str(part)]


def _segment(parsed: Any) -> Segment:
    name, *fields = parsed
    literal = fields[:2] if str(name) == "MSH" else []  # MSH-1 and MSH-2 are the delimiters, nothing to split
    split = [tuple(map(_repetition, field)) for field in fields[len(literal) :]]
    return Segment(str(name), (*((((str(field),),),) for field in literal), *split))


# The library goes only as deep as there are delimiters: what it did not split is a string.
def _repetition(parsed: Any) -> Repetition:
    return ((unescape(parsed),),) if isinstance(parsed, str) else tuple(map(_component, parsed))


def _component(parsed: Any) -> Component:
    return (unescape(parsed),) if isinstance(parsed, str) else tuple(map(unescape, parsed))


def render(segments: Iterable[Segment]) -> str:
    """The message of parsed segments: `render(parse(text)) == text` for a text that ends with CR."""
    return str(library.Message(CR, [library.Segment("|", [part.name, *_rendered(part)]) for part in segments]))


def _rendered(part: Segment) -> list[str]:
    literal = ["|", DELIMITERS] if part.name == "MSH" else []
    return [*literal, *(str(_container(field)) for field in part.fields[len(literal) :])]


def _container(field: Field) -> Any:
    components = [[library.Component("&", [escape(text) for text in c]) for c in repetition] for repetition in field]
    return library.Field("~", [library.Repetition("^", parts) for parts in components])
