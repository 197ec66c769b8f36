"""PPR-01, the diseases of a patient.

Source: SS-MIX2 標準化ストレージ仕様書 1.2, HL7 2.5, the JAHIS tables JHSD0004 to JHSD0007, and NHO
SSMIX2_support_documents for what the specification leaves open.
"""

import re
import unicodedata
from collections.abc import Sequence
from datetime import datetime

from app.ssmix2 import codes
from app.ssmix2.builder import (
    NO_ORDER,
    Builder,
    DataKind,
    Facility,
    Message,
    compact,
    day_of,
    is_inpatient,
    order_number,
    seconds,
)
from app.ssmix2.findings import check_key
from app.ssmix2.stated import Problem, Registration
from schemas.note import ChartNote, DocumentType
from schemas.record import Record
from schemas.statement import Assertion, Field, Kind

_WRITTEN = (Assertion.PRESENT, Assertion.SUSPECTED, Assertion.PAST)
# PRB-10.4, JAHIS table JHSD0004: when a diagnosis was made, as far as the kind of document says it.
_MOMENTS = {
    DocumentType.ADMISSION: ("H", "入院時", "JHSD0004"),
    DocumentType.DISCHARGE: ("L", "退院時", "JHSD0004"),
    DocumentType.PREOP: ("B", "手術前", "JHSD0004"),
}
_OUTPATIENT = ("O", "外来時", "JHSD0004")
_OUTPATIENT_DOCUMENTS = (DocumentType.HOMECARE, DocumentType.EMERGENCY, DocumentType.CHECKUP)
# PRB-14, HL7 table 0241.
_OUTCOMES = {
    "D": "死亡した",
    "R": "回復中",
    "N": "回復していない",
    "W": "悪化した",
    "S": "後遺症あり",
    "F": "完全に回復した",
    "U": "不明",
}


def diagnosis_message(
    note: ChartNote,
    problems: Sequence[Problem],
    facility: Facility,
    *,
    control_id: str,
    sent_at: datetime,
    registration: Registration | None = None,
) -> Message | None:
    """PPR-01, one file with all diseases of the patient of `note`: a full snapshot (`findings.merged`).

    Absent conditions and those of relatives are not written; None when nothing is left. Suspected ones carry PRB-13 and
    の疑い behind their name; past ones PRB-14. The end (PRB-9, PRB-15) is what a sender states: a note's date of a past
    disease is its onset. Raises InvalidInput for a key that PRB-4 cannot hold.
    """
    chosen = [problem for problem in problems if _is_written(problem.record)]
    if not chosen:
        return None
    build = Builder(note, facility, DataKind.DIAGNOSIS, control_id, sent_at, registration)
    build.patient()
    for problem in chosen:
        build.add("PRB", _problem_fields(build, problem))
        parts = {
            number: build.repeated(f"ZPR-{number}", repetitions)
            for number, repetitions in codes.disease_parts(problem.record).items()
        }
        suspected = problem.record.statement.assertion is Assertion.SUSPECTED
        build.add("ZPR", parts | {7: codes.SUSPECTED if suspected else ""})
        if problem.order is not None:
            day = problem.note.date if problem.note else None
            placed = seconds(problem.ordered_at) or compact(day)
            build.order("NW", order_number(problem.order), {9: placed}, problem.note)
    return build.message(None, NO_ORDER, "-")


def _is_written(record: Record) -> bool:
    return record.statement.kind is Kind.CONDITION and record.statement.assertion in _WRITTEN


def _problem_fields(build: Builder, problem: Problem) -> dict[int, str]:
    record = problem.record
    past = record.statement.assertion is Assertion.PAST
    onset = record.statement.fields.get(Field.ONSET)
    outcome = "O^その他^JHSD0006" if past else ""
    if problem.outcome:
        outcome = f"{problem.outcome}^{_OUTCOMES[problem.outcome]}^HL70241"
    icd10 = codes.icd10(record)
    return {
        1: "AD",
        2: build.now,
        3: build.coded("PRB-3", codes.disease_code(record)),
        4: check_key(problem.key),
        7: compact(problem.diagnosed),
        9: compact(problem.ended),
        10: build.coded("PRB-10", (icd10, "", "I10", *_moment(problem), "2013")) if icd10 else "",
        13: "1^疑いあり^JHSD0005" if record.statement.assertion is Assertion.SUSPECTED else "",
        14: outcome,
        15: compact(problem.ended),
        16: compact(day_of(record.date)),
        17: build.text("PRB-17", " ".join(onset.quote.split()), 80) if onset and _tells(record, onset.quote) else "",
        18: "1^主診断^JHSD0007" if problem.main else "",
    }


def _tells(record: Record, onset: str) -> bool:
    """Is the onset a time? One that is no date is told in Japanese words (小学生の頃); a bare number, a temperature or an
    abbreviation (50, 38℃, Rt) is something else that was taken for it."""
    return bool(day_of(record.date)) or bool(re.search("[ぁ-ゖァ-ヺ一-龠々]", unicodedata.normalize("NFKC", onset)))


def _moment(problem: Problem) -> tuple[str, str, str]:
    """When the diagnosis was made. A past disease was not diagnosed on the occasion of the note, unless its day of
    diagnosis is stated."""
    past = problem.record.statement.assertion is Assertion.PAST
    if problem.note is None or (past and problem.diagnosed is None):
        return "", "", ""
    document = problem.note.document_type
    if document in _MOMENTS:
        return _MOMENTS[document]
    seen = problem.note.encounter is not None and not is_inpatient(problem.note)
    return _OUTPATIENT if seen or document in _OUTPATIENT_DOCUMENTS else ("", "", "")
