"""One thing the note says, as the note writes it (an HL7 clinical statement).

A statement holds only copies of the note and labels from closed lists. Numbers, dates and codes are
computed from it later (`app.normalize`, `app.terminology`) and live in `schemas.record`.
"""

from enum import StrEnum

from pydantic import model_validator

from schemas.value import Value


class Kind(StrEnum):
    """What a statement is about; `allergy` covers two of the six items, medication and other."""

    CONDITION = "condition"
    ALLERGY = "allergy"
    INFECTION = "infection"
    LAB = "lab"
    PRESCRIPTION = "prescription"


class Assertion(StrEnum):
    """Does the patient have it (condition, allergy)? A denied allergy is `absent`.
    Laboratory results, infections and prescriptions are always `present`."""

    PRESENT = "present"
    SUSPECTED = "suspected"
    ABSENT = "absent"
    FAMILY = "family"
    PAST = "past"


class AllergyCategory(StrEnum):
    """FHIR AllergyIntolerance.category without biologic; `other` is latex, tape, metal, alcohol swabs, unknown."""

    MEDICATION = "medication"
    FOOD = "food"
    ENVIRONMENT = "environment"
    OTHER = "other"


class InfectionResult(StrEnum):
    """Qualitative result of an infection test."""

    POSITIVE = "positive"
    NEGATIVE = "negative"
    INDETERMINATE = "indeterminate"


class Action(StrEnum):
    """What is done with a drug. `plan`: to start later. `history`: ended before this encounter."""

    PRESCRIBE = "prescribe"
    CONTINUE = "continue"
    STOP = "stop"
    CHANGE = "change"
    PLAN = "plan"
    HISTORY = "history"


class EvidenceSpan(Value):
    """Half-open code-point offsets into the stored note text: text[start:end] == quote."""

    start: int
    end: int
    quote: str

    @model_validator(mode="after")
    def _length(self) -> "EvidenceSpan":
        if self.start < 0 or self.end - self.start != len(self.quote) or not self.quote:
            raise ValueError("span and quote differ in length")
        return self


class Field(StrEnum):
    """Free fields of a statement, each a verbatim piece of the note. Which kind has which: `FIELDS`."""

    NAME = "name"
    """disease, allergen, test or drug (a drug with form and strength when written next to it: アムロジピンOD錠5mg)"""
    RELATIVE = "relative"
    """the family member (父, 母方祖母), condition with assertion family only"""
    ONSET = "onset"
    """date as written that the note gives for onset, diagnosis, injury, or (past) occurrence or operation"""
    REACTION = "reaction"
    """what the allergen did (蕁麻疹); several reactions side by side are one piece (発疹、呼吸苦)"""
    VALUE = "value"
    """result as written with its comparator: 7.2, <0.5, 1万2千, (2+), 陽性"""
    UNIT = "unit"
    FLAG = "flag"
    """H, L, ↑, ↓, 高値 … only if written"""
    DATE = "date"
    """date as written of the result when it differs from the note's own; may stand on an earlier line"""
    DOSE = "dose"
    """amount as written: 2錠, 1回1錠, 1T, 15mg/日, 1日6錠"""
    USAGE = "usage"
    """how often and when, as written in one piece: 分2 朝夕食後, 1日3回毎食後, 3xN, 疼痛時"""
    DAYS = "days"
    """supply as written: 28日分, 14TD; may stand on another line of the same block"""
    REFERENCE = "reference"
    """reference range of a result as written beside it: (3.5-5.0); found by its place, never written by a model"""


FIELDS: dict[Kind, tuple[Field, ...]] = {
    Kind.CONDITION: (Field.NAME, Field.RELATIVE, Field.ONSET),
    Kind.ALLERGY: (Field.NAME, Field.REACTION),
    Kind.INFECTION: (Field.NAME, Field.VALUE, Field.UNIT, Field.DATE),
    Kind.LAB: (Field.NAME, Field.VALUE, Field.UNIT, Field.FLAG, Field.DATE),
    Kind.PRESCRIPTION: (Field.NAME, Field.DOSE, Field.USAGE, Field.DAYS),
}
"""Fields of each kind in the order in which they are written; only `name` is always there."""


class Statement(Value):
    """One statement with the characters that each field was copied from.

    `category` for allergies only, `result` for infections only (None: only a quantity is stated),
    `action` for prescriptions only. `confidence`: 0..1, the product of the probabilities of the model's choices, which is
    not the probability that it is right (`Record.probability`); None if unknown.
    """

    kind: Kind
    fields: dict[Field, EvidenceSpan]
    assertion: Assertion = Assertion.PRESENT
    category: AllergyCategory | None = None
    result: InfectionResult | None = None
    action: Action | None = None
    confidence: float | None = None

    @property
    def name(self) -> EvidenceSpan:
        return self.fields[Field.NAME]

    @property
    def start(self) -> int:
        return min(s.start for s in self.fields.values())
