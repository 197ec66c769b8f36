r"""The statement form: what a model writes for a note, as text.

One JSON object a line. First the note's own line, replayed, then the statements that it makes, then the next line:

    {"line":"2型糖尿病（2015年〜）、HbA1c 7.2%"}
    {"kind":"condition","name":"2型糖尿病","onset":"2015年","assertion":"present"}
    {"kind":"lab","name":"HbA1c","value":"7.2","unit":"%"}
    {"line":"…"}
    {"end":true}

Keys have a fixed order, there is no white space, absent fields are left out, every free field is a run of whole
chunks (`segments.chunks`) of its own line; `date` and `days` may also be pieces of the lines above it.

The text is a sequence of *fragments* (`{"kind":"lab","name":"`, `","unit":"`, `"}` + newline …) and of copied pieces.
A model whose vocabulary holds each fragment as one token writes a statement in a dozen tokens; any other model writes
the same characters. This module is the only one that knows the fragments; training and inference share it.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.note import DocumentType
from schemas.statement import (
    FIELDS,
    Action,
    AllergyCategory,
    Assertion,
    Field,
    InfectionResult,
    Kind,
)

FORM_VERSION = "interleaved-2"
"""Written into a model file that was trained on this form (GGUF key `hyojun.form`)."""

LINE_OPEN = '{"line":"'
CLOSE = '"}\n'
END = '{"end":true}\n'

ASSERTIONS: dict[Kind, tuple[Assertion, ...]] = {
    Kind.CONDITION: tuple(Assertion),
    Kind.ALLERGY: (Assertion.PRESENT, Assertion.SUSPECTED, Assertion.ABSENT),
}
"""Which kinds carry an assertion, and which ones they may choose from."""

MARKS: dict[str, str] = {kind.value: f"\u27e8{kind.value}\u27e9" for kind in Kind}
"""Written into a replayed line in front of a dictionary mention: kind of the dictionary -> mark."""

DOCUMENT_TYPES = tuple(kind.value for kind in DocumentType)


def document_open(document_type: str) -> str:
    """First fragment of the compact form: what kind of document follows."""
    return f'{{"document":"{document_type}"}}\n'


def kind_open(kind: Kind) -> str:
    return f'{{"kind":"{kind.value}","name":"'


def field_open(field: Field) -> str:
    return f'","{field.value}":"'


def category_label(category: AllergyCategory) -> str:
    return f'","category":"{category.value}'


def closing_labels(kind: Kind) -> list[str]:
    """The fragments that may close a statement of `kind`: its last label, or a bare close."""
    if kind in ASSERTIONS:
        return [f'","assertion":"{a.value}"}}\n' for a in ASSERTIONS[kind]]
    if kind is Kind.PRESCRIPTION:
        return [f'","action":"{a.value}"}}\n' for a in Action]
    if kind is Kind.INFECTION:
        return [f'","result":"{r.value}"}}\n' for r in InfectionResult] + [CLOSE]
    return [CLOSE]


def all_fragments() -> list[str]:
    """Every fragment once, in a fixed order: the reserved tokens of a model that is trained on this form."""
    found = [LINE_OPEN, CLOSE, END, *(document_open(d) for d in DOCUMENT_TYPES), *MARKS.values()]
    found += [kind_open(kind) for kind in Kind]
    written = {field for fields in FIELDS.values() for field in fields}
    found += [field_open(field) for field in Field if field in written and field is not Field.NAME]
    found += [category_label(category) for category in AllergyCategory]
    for kind in Kind:
        found += [label for label in closing_labels(kind) if label not in found]
    return found


def escape(text: str) -> str:
    """`text` as it stands inside a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


@dataclass(frozen=True)
class Written:
    """One statement as a model wrote it, before its pieces are found in the note.

    `line` counts the note's lines from 0. `fields` unescaped, as written. `confidence` 0..1, None when unknown.
    """

    line: int
    kind: Kind
    fields: dict[Field, str]
    assertion: Assertion = Assertion.PRESENT
    category: AllergyCategory | None = None
    result: InfectionResult | None = None
    action: Action | None = None
    confidence: float | None = None


def parts(statement: Written) -> list[tuple[str, bool]]:
    """The statement as (text, is_fragment) parts in order; joined they are its line of the form."""
    found: list[tuple[str, bool]] = []
    for field in FIELDS[statement.kind]:
        if field in statement.fields:
            opening = kind_open(statement.kind) if field is Field.NAME else field_open(field)
            found += [(opening, True), (escape(statement.fields[field]), False)]
    if statement.kind is Kind.ALLERGY:
        found.append((category_label(statement.category or AllergyCategory.OTHER), True))
    label: str
    if statement.kind in ASSERTIONS:
        label = f'","assertion":"{statement.assertion.value}"}}\n'
    elif statement.kind is Kind.PRESCRIPTION and statement.action:
        label = f'","action":"{statement.action.value}"}}\n'
    elif statement.kind is Kind.INFECTION and statement.result:
        label = f'","result":"{statement.result.value}"}}\n'
    else:
        label = CLOSE
    found.append((label, True))
    return found


def read(
    text: str, lines: Sequence[int], choices: Sequence[tuple[int, float]] = ()
) -> tuple[list[Written], bool]:
    """Statements in a model's output, and whether its end mark was reached (False: it was cut off).

    `lines`: the note's line numbers that were replayed, in order. `choices`: (characters before it, log probability)
    of each token that the model chose; a statement's confidence is the product over the choices that made it.
    Raises ValueError where the text is not the statement form.
    """
    statements: list[Written] = []
    replayed = iter(lines)
    line = -1
    start = choice = 0
    for row in text.split("\n"):
        begin, start = start, start + len(row) + 1
        if not row:
            continue
        try:
            item = json.loads(row)
        except json.JSONDecodeError:
            return statements, False  # the last row of an output that was cut off
        while choice < len(choices) and choices[choice][0] < begin:
            choice += 1
        logarithm, chosen = 0.0, 0
        while choice < len(choices) and choices[choice][0] < start:
            logarithm, chosen, choice = logarithm + choices[choice][1], chosen + 1, choice + 1
        if not isinstance(item, dict):
            raise ValueError("a row is not a JSON object")
        if "end" in item:
            return statements, True
        if "line" in item:
            line = next(replayed, -1)
            if line < 0:
                raise ValueError("more lines than the note has")
            continue
        if "document" in item:
            continue
        if line < 0:
            raise ValueError("a statement before the first line")
        confidence = math.exp(logarithm) if chosen else None
        statements.append(_statement(item, line, confidence))
    return statements, False


def _statement(item: dict[str, str], line: int, confidence: float | None) -> Written:
    category, result, action = (item.pop(key, None) for key in ("category", "result", "action"))
    return Written(
        line,
        Kind(item.pop("kind", "")),
        assertion=Assertion(item.pop("assertion", "present")),
        category=AllergyCategory(category) if category else None,
        result=InfectionResult(result) if result else None,
        action=Action(action) if action else None,
        confidence=confidence,
        fields={Field(key): value for key, value in item.items()},
    )
