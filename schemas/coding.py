"""Codes from tables; nothing here is ever written by a model."""

from schemas.value import Value


class Coding(Value):
    """FHIR Coding: `system` is a URI, `version` the release of the table that holds the code."""

    system: str
    code: str
    display: str
    version: str | None = None


class Candidate(Value):
    """A possible coding of a name: `score` 0..1 and the reason for it, for a reviewer."""

    coding: Coding
    score: float
    reason: str
