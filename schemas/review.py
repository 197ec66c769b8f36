"""A person's judgement of what a model read, and what is kept of who did what."""

from enum import StrEnum


class Verdict(StrEnum):
    """Of one statement. `amend`: right after the reviewer's correction; `add`: the model missed it. `undo` is no judgement:
    the one before counts again, or none."""

    ACCEPT = "accept"
    AMEND = "amend"
    REJECT = "reject"
    ADD = "add"
    UNDO = "undo"


class ReviewState(StrEnum):
    """Of the review of a note's current result. `open`: something is undecided; `differing`: two readers judged it, and their
    differences are not settled; `decided`: nobody has released it yet."""

    OPEN = "open"
    DIFFERING = "differing"
    DECIDED = "decided"
    RELEASED = "released"


class AuditAction(StrEnum):
    """What an audit event tells of: the verdicts, what happens to a whole result or patient, and who came and looked.

    `supersede`: a later conversion took the place of a result that was being reviewed, or was released. `withdraw`: a release
    was taken back. `second-reading`: a note was chosen for a second reader, or he judged; `adjudicate`: a difference between
    two readers was settled. `export`: patient data left as files, or in bulk. `read` to `execute`: a request for patient data, in the words of FHIR's RESTful
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
    UNDO = "undo"
    WITHDRAW = "withdraw"
    SECOND_READING = "second-reading"
    ADJUDICATE = "adjudicate"


class AuditOutcome(StrEnum):
    """`begun`: the end is told by another event. `refused`: not signed in, not allowed, not there, or wrong input;
    `failed`: a fault of ours."""

    BEGUN = "begun"
    SUCCESS = "success"
    REFUSED = "refused"
    FAILED = "failed"
