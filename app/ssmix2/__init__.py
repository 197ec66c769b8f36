"""SS-MIX2 standardized storage: messages of a note's records, their bytes, and their files.

made, issues = messages(note, records, facility=Facility("見本病院"), sent_at=sent_at)
paths = [write(root, message, sent_at) for message in made]
"""

from app.ssmix2.adt import allergy_message, patient_message, visit_message
from app.ssmix2.builder import DataKind, Facility, Message
from app.ssmix2.encoding import decode, encode, fold
from app.ssmix2.findings import merged
from app.ssmix2.hl7 import Segment, parse
from app.ssmix2.message import cancelled, messages, patient_snapshot
from app.ssmix2.prescriptions import prescription_message
from app.ssmix2.problems import diagnosis_message
from app.ssmix2.results import result_messages
from app.ssmix2.stated import Allergy, Drug, Finding, Problem, Registration, Relative, Result, Specimen
from app.ssmix2.storage import delete, path_of, repair, write

__all__ = [
    "Allergy",
    "DataKind",
    "Drug",
    "Facility",
    "Finding",
    "Message",
    "Problem",
    "Registration",
    "Relative",
    "Result",
    "Segment",
    "Specimen",
    "allergy_message",
    "cancelled",
    "decode",
    "delete",
    "diagnosis_message",
    "encode",
    "fold",
    "merged",
    "messages",
    "parse",
    "path_of",
    "patient_message",
    "patient_snapshot",
    "prescription_message",
    "repair",
    "result_messages",
    "visit_message",
    "write",
]
