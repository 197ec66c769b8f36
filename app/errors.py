"""The exception tree. HTTP status codes live in `app/web/outcome.py` alone.

HyojunError
├── NotFound          not-found      a thing asked for by id is not there
│   └── Gone          deleted        it was there, and was deleted
├── Conflict          conflict       the state forbids it, or somebody was faster
│   └── Stale         conflict       a condition of the request does not hold (If-Match, several matches)
├── InvalidInput      invalid        the caller's input is wrong; says what to change
│   └── TooLong       too-long       the input is larger than the limit; says both sizes
├── NotSignedIn       login          who asks is not known, or proved nothing
├── Forbidden         forbidden      who asks may not
├── TooMany           throttled      too many requests; try again later
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


class Gone(NotFound):
    issue_type = IssueType.DELETED


class Conflict(HyojunError):
    issue_type = IssueType.CONFLICT


class Stale(Conflict):
    """HTTP's 412: nothing was done."""


class InvalidInput(HyojunError):
    issue_type = IssueType.INVALID


class TooLong(InvalidInput):
    issue_type = IssueType.TOO_LONG


class NotSignedIn(HyojunError):
    issue_type = IssueType.LOGIN


class Forbidden(HyojunError):
    issue_type = IssueType.FORBIDDEN


class TooMany(HyojunError):
    """`seconds`: when to try again."""

    issue_type = IssueType.THROTTLED
    retryable = True

    def __init__(self, message: str, seconds: int = 5) -> None:
        super().__init__(message)
        self.seconds = seconds


class ModelOutputError(HyojunError):
    issue_type = IssueType.EXCEPTION
    retryable = True


class Unavailable(HyojunError):
    issue_type = IssueType.TRANSIENT
    retryable = True
