"""The exception tree. HTTP status codes live in `app/web/outcome.py` alone.

HyojunError
├── NotFound          not-found      a thing asked for by id is not there
├── Conflict          conflict       the state forbids it, or somebody was faster
├── InvalidInput      invalid        the caller's input is wrong; says what to change
│   └── TooLong       too-long       the input is larger than the limit; says both sizes
├── ModelOutputError  exception      the model's output broke its own grammar
└── Unavailable       transient      a service is away; trying again may help

Messages never hold patient text: they name fields, positions, sizes and ids of ours.
"""

from schemas.issue import IssueType


class HyojunError(Exception):
    """Base of all errors that Hyojun raises on purpose; `str(error)` is safe to show and to log."""

    issue_type = IssueType.EXCEPTION
    retryable = False


class NotFound(HyojunError):
    issue_type = IssueType.NOT_FOUND


class Conflict(HyojunError):
    issue_type = IssueType.CONFLICT


class InvalidInput(HyojunError):
    issue_type = IssueType.INVALID


class TooLong(InvalidInput):
    issue_type = IssueType.TOO_LONG


class ModelOutputError(HyojunError):
    issue_type = IssueType.EXCEPTION
    retryable = True


class Unavailable(HyojunError):
    issue_type = IssueType.TRANSIENT
    retryable = True
