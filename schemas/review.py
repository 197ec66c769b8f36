"""A person's judgement of what a model read, and what is kept of who did what."""

from enum import StrEnum


class Verdict(StrEnum):
    """Of one statement. `amend`: right after the reviewer's correction; `add`: the model missed it."""

    ACCEPT = "accept"
    AMEND = "amend"
    REJECT = "reject"
    ADD = "add"


class AuditAction(StrEnum):
    """What an audit event tells of: the verdicts, what happens to a whole result or patient, and who came and looked.

    `supersede`: a later conversion took the place of a result that was being reviewed, or was released. `export`: patient
    data left as files, or in bulk. `read` to `execute`: a request for patient data, in the words of FHIR's RESTful
    interactions (https://hl7.org/fhir/R4/valueset-audit-event-action.html). `admin`: people, machines, tables, settings.
    `chain`: the row with which the chain of hashes begins.
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
    READ = "read"
    SEARCH = "search"
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    EXECUTE = "execute"
    LOGIN = "login"
    LOGIN_FAILED = "login-failed"
    LOGOUT = "logout"
    TOKEN = "token"  # noqa: S105
    ADMIN = "admin"
    PUSH = "push"
    CONVERT = "convert"
    REPLAY = "replay"
    PURGE = "purge"
    BACKUP = "backup"
    RESTORE = "restore"
    CHAIN = "chain"


class AuditOutcome(StrEnum):
    """`begun`: the end is told by another event. `refused`: not signed in, not allowed, not there, or wrong input;
    `failed`: a fault of ours."""

    BEGUN = "begun"
    SUCCESS = "success"
    REFUSED = "refused"
    FAILED = "failed"
