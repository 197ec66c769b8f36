"""What went on without something."""

from enum import StrEnum

from schemas.value import Value


class Severity(StrEnum):
    """FHIR IssueSeverity."""

    FATAL = "fatal"
    ERROR = "error"
    WARNING = "warning"
    INFORMATION = "information"


class IssueType(StrEnum):
    """The part of FHIR IssueType that we use (http://hl7.org/fhir/issue-type)."""

    INVALID = "invalid"
    REQUIRED = "required"
    VALUE = "value"
    STRUCTURE = "structure"
    INCOMPLETE = "incomplete"
    CODE_INVALID = "code-invalid"
    NOT_FOUND = "not-found"
    DELETED = "deleted"
    NOT_SUPPORTED = "not-supported"
    BUSINESS_RULE = "business-rule"
    CONFLICT = "conflict"
    DUPLICATE = "duplicate"
    MULTIPLE_MATCHES = "multiple-matches"
    TOO_LONG = "too-long"
    EXCEPTION = "exception"
    LOGIN = "login"
    FORBIDDEN = "forbidden"
    THROTTLED = "throttled"
    TRANSIENT = "transient"
    TIMEOUT = "timeout"
    LOCK_ERROR = "lock-error"
    INFORMATIONAL = "informational"


class Issue(Value):
    """FHIR OperationOutcome.issue. `text` never holds patient text: it names positions and elements.

    `start`/`end`: half-open code-point offsets into the note, when the issue is about a place in it.
    """

    severity: Severity
    code: IssueType
    text: str
    start: int | None = None
    end: int | None = None
