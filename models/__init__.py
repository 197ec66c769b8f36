"""Stored rows. They import `schemas` for closed lists only; what crosses a boundary is a schema."""

from models.access import AccessToken, Client
from models.jobs import Job, JobIssue
from models.metadata import Base
from models.notes import Note, NoteStatement, Run
from models.resources import ClinsBundle, ReleaseState, Resource, Ssmix2Message
from models.reviews import AuditEvent, Decision, NoteReview, Review, TrainingOptOut
from models.terminology import CodeSystemRelease, Concept, ImportState, LocalCode

__all__ = [
    "AccessToken",
    "AuditEvent",
    "Base",
    "Client",
    "ClinsBundle",
    "CodeSystemRelease",
    "Concept",
    "Decision",
    "ImportState",
    "Job",
    "JobIssue",
    "LocalCode",
    "Note",
    "NoteReview",
    "NoteStatement",
    "ReleaseState",
    "Resource",
    "Review",
    "Run",
    "Ssmix2Message",
    "TrainingOptOut",
]
