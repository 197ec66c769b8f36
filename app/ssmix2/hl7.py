"""HL7 v2 text: segments, fields, repetitions, components and subcomponents, with the delimiters `|^~\\&`.

Source: HL7 2.5 chapter 2; SS-MIX2 1.2 uses no other delimiters and ends a segment with CR alone.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from app.errors import InvalidInput

CR = "\r"
NULL = '""'
"""Explicit null: fills a required field that cannot be stated; an empty field says nothing."""
DELIMITERS = "^~\\&"

_ESCAPES = {"|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\\": "\\E\\", CR: "\\.br\\"}
_UNESCAPES = {escape: char for char, escape in _ESCAPES.items()}
_TO_ESCAPE = re.compile(r"[|^&~\\\r]")
_TO_UNESCAPE = re.compile(r"\\(?:[FSTRE]|\.br)\\")

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
    if name == "MSH":  # MSH-1 is the delimiter itself
        return "|".join(["MSH", *(fields.get(number, "") for number in range(2, last + 1))])
    return "|".join([name, *(fields.get(number, "") for number in range(1, last + 1))])


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
    return [_parse_segment(line) for line in text.split(CR) if line]


def _parse_segment(line: str) -> Segment:
    name, *fields = line.split("|")
    literal: list[Field] = []
    if name == "MSH":
        literal, fields = [((("|",),),), (((fields[0],),),)], fields[1:]
    return Segment(name, (*literal, *map(_parse_field, fields)))


def _parse_field(field: str) -> Field:
    return tuple(
        tuple(tuple(map(unescape, component.split("&"))) for component in repetition.split("^"))
        for repetition in field.split("~")
    )


def render(segments: Iterable[Segment]) -> str:
    """The message of parsed segments: `render(parse(text)) == text` for a text that ends with CR."""
    return "".join(_render_segment(segment) + CR for segment in segments)


def _render_segment(segment: Segment) -> str:
    fields = ["~".join("^".join("&".join(map(escape, c)) for c in r) for r in field) for field in segment.fields]
    if segment.name == "MSH":
        fields = [DELIMITERS, *fields[2:]]
    return "|".join([segment.name, *fields])
