"""Stored rows. They import `schemas` for closed lists only; what crosses a boundary is a schema."""

from models.access import (
    AccessToken,
    Client,
    LoginAttempt,
    OidcLogin,
    OneTimeLink,
    UsedAssertion,
    User,
    UserSession,
)
from models.audit import AuditEvent, Worker
from models.batches import Batch, BatchChunk, BatchItem, BatchMinute
from models.bulk import Export, ExportEntry, ExportState, StandardizeRequest
from models.jobs import Job, JobIssue
from models.metadata import Base
from models.notes import Note, NoteStatement, Run
from models.push import Delivery, PushDestination, Subscription
from models.receipts import ReceiptClaim, ReceiptFile, ReceiptItem, ReceiptTable
from models.replay import TerminologyVersion, Trial, TrialNote
from models.resources import ClinsBundle, ReleaseState, Resource, Ssmix2Message
from models.review_work import (
    Release,
    ReleasedRecord,
    ReviewWork,
    SecondComparison,
    SecondDecision,
    SecondReading,
)
from models.reviews import Decision, NoteReview, Review, TrainingOptOut
from models.store import (
    SEARCH_VALUES,
    SearchEntry,
    search_dates,
    search_quantities,
    search_references,
    search_strings,
    search_tokens,
)
from models.terminology import CodeSystemRelease, Concept, ImportState, LocalCode

__all__ = [
    "SEARCH_VALUES",
    "AccessToken",
    "AuditEvent",
    "Base",
    "Batch",
    "BatchChunk",
    "BatchItem",
    "BatchMinute",
    "Client",
    "ClinsBundle",
    "CodeSystemRelease",
    "Concept",
    "Decision",
    "Delivery",
    "Export",
    "ExportEntry",
    "ExportState",
    "ImportState",
    "Job",
    "JobIssue",
    "LocalCode",
    "LoginAttempt",
    "Note",
    "NoteReview",
    "NoteStatement",
    "OidcLogin",
    "OneTimeLink",
    "PushDestination",
    "ReceiptClaim",
    "ReceiptFile",
    "ReceiptItem",
    "ReceiptTable",
    "Release",
    "ReleaseState",
    "ReleasedRecord",
    "Resource",
    "Review",
    "ReviewWork",
    "Run",
    "SearchEntry",
    "SecondComparison",
    "SecondDecision",
    "SecondReading",
    "Ssmix2Message",
    "StandardizeRequest",
    "Subscription",
    "TerminologyVersion",
    "TrainingOptOut",
    "Trial",
    "TrialNote",
    "UsedAssertion",
    "User",
    "UserSession",
    "Worker",
    "search_dates",
    "search_quantities",
    "search_references",
    "search_strings",
    "search_tokens",
]
