"""Stored rows. They import `schemas` for closed lists only; what crosses a boundary is a schema."""

from models.jobs import Job, JobIssue
from models.metadata import Base
from models.notes import Note, NoteStatement, Run
from models.resources import ClinsBundle, ReleaseState, Resource, Review, Ssmix2Message
from models.terminology import CodeSystemRelease, Concept, ImportState, LocalCode

__all__ = [
    "Base",
    "ClinsBundle",
    "CodeSystemRelease",
    "Concept",
    "ImportState",
    "Job",
    "JobIssue",
    "LocalCode",
    "Note",
    "NoteStatement",
    "ReleaseState",
    "Resource",
    "Review",
    "Run",
    "Ssmix2Message",
]
