"""Lines with the facts they state: what every section writer of the synthetic corpus returns.

A writer gets a random source, a name sampler and the note's context and returns a block of lines. A fact's fields are
pieces of text exactly as they stand in the line (dates of results and days of supply may stand on an earlier line of
the same block). Facts of a line come in the order of their names. Labels come from the closed lists of
`schemas.statement`. `problems` says what breaks this contract.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date

from schemas.statement import FIELDS, Action, AllergyCategory, Assertion, Field, InfectionResult, Kind
from training.corpus.names import Names


@dataclass
class Fact:
    """One statement to be learnt. `fields` holds verbatim pieces of the line; `name` is always there."""

    kind: Kind
    fields: dict[Field, str]
    assertion: Assertion = Assertion.PRESENT
    category: AllergyCategory | None = None
    result: InfectionResult | None = None
    action: Action | None = None


@dataclass
class Line:
    """One line of a note (no line break inside) and the facts that it states."""

    text: str
    facts: list[Fact] = field(default_factory=list)


@dataclass
class Context:
    """What one synthetic note has in common: its day, its type, and the habits of its writer.

    `style`: free per-note choices, so that one note is written by one hand (bullet, colon, date format, heading form …).
    """

    day: date
    document_type: str
    department: str
    style: dict[str, str] = field(default_factory=dict)

    def habit(self, rng: random.Random, key: str, *choices: str) -> str:
        """The writer's choice for `key`: drawn once per note, then kept (one time in ten it changes)."""
        if key not in self.style or rng.random() < 0.1:
            self.style[key] = rng.choice(choices)
        return self.style[key]


Writer = Callable[[random.Random, Names, Context], list[Line]]

# Fields that may stand on an earlier line of the block (a table's head, a heading such as 退院時処方（14日分）).
REMOTE = {Field.DATE, Field.DAYS}


def problems(lines: list[Line]) -> list[str]:
    """Breaches of the contract, in words; empty when the block is sound."""
    found = []
    for number, line in enumerate(lines):
        if "\n" in line.text:
            found.append(f"line {number}: holds a line break")
        at = 0
        for fact in line.facts:
            where = f"line {number} {fact.kind.value}"
            if Field.NAME not in fact.fields:
                found.append(f"{where}: no name")
                continue
            for key, piece in fact.fields.items():
                if key not in FIELDS[fact.kind]:
                    found.append(f"{where}: has no field {key.value}")
                if not piece or piece != piece.strip(" 　"):
                    found.append(f"{where}: {key.value} is empty or has space around it")
                earlier = lines[max(0, number - 25) : number] if key in REMOTE else []
                if piece not in line.text and not any(piece in other.text for other in earlier):
                    found.append(f"{where}: {key.value} is not in the text")
            place = line.text.find(fact.fields[Field.NAME], at)
            if place < 0 and fact.fields[Field.NAME] in line.text:
                found.append(f"{where}: names out of order")
            at = max(at, place)
            if (fact.kind is Kind.ALLERGY) != (fact.category is not None):
                found.append(f"{where}: category")
            if (fact.kind is Kind.PRESCRIPTION) != (fact.action is not None):
                found.append(f"{where}: action")
            if fact.kind is Kind.ALLERGY and fact.assertion not in (
                Assertion.PRESENT,
                Assertion.SUSPECTED,
                Assertion.ABSENT,
            ):
                found.append(f"{where}: assertion")
    return found
