"""SS-MIX2 standardized storage: messages of a note's records, their bytes, and their files.

made, issues = messages(note, records, facility=Facility("見本病院"), sent_at=sent_at)
paths = [write(root, message, sent_at) for message in made]
"""

from app.ssmix2.builder import DataKind, Facility, Message
from app.ssmix2.encoding import decode, encode, fold
from app.ssmix2.hl7 import Segment, parse
from app.ssmix2.message import (
    allergy_message,
    cancelled,
    diagnosis_message,
    messages,
    patient_message,
    prescription_message,
    result_messages,
)
from app.ssmix2.storage import delete, path_of, repair, write

__all__ = [
    "DataKind",
    "Facility",
    "Message",
    "Segment",
    "allergy_message",
    "cancelled",
    "decode",
    "delete",
    "diagnosis_message",
    "encode",
    "fold",
    "messages",
    "parse",
    "path_of",
    "patient_message",
    "prescription_message",
    "repair",
    "result_messages",
    "write",
]
