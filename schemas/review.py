"""A person's judgement of what a model read, and what is kept of who did what."""

from enum import StrEnum


class Verdict(StrEnum):
    """Of one statement. `amend`: right after the reviewer's correction; `add`: the model missed it."""

    ACCEPT = "accept"
    AMEND = "amend"
    REJECT = "reject"
    ADD = "add"


class AuditAction(StrEnum):
    """What an audit event tells of: the verdicts, and what happens to a whole result or patient.

    `supersede`: a later conversion took the place of a result that was being reviewed, or was released. `export`: files
    with patient text were written.
    """

    ACCEPT = "accept"
    AMEND = "amend"
    REJECT = "reject"
    ADD = "add"
    RELEASE = "release"
    SUPERSEDE = "supersede"
    OPT_OUT = "opt-out"
    OPT_IN = "opt-in"
    EXPORT = "export"
