"""Values of receipt (レセプト) checking: what the tables find, what the chart says about a line, what the model advises.

Lines of a claim file count from 1. Offsets are half-open code points of the stored note text.
"""

from datetime import date
from enum import StrEnum

from pydantic import Field as Limited

from schemas.issue import Severity
from schemas.statement import EvidenceSpan
from schemas.value import Value

MAX_COMMENT = 120
"""Characters of a comment: it has to stand in one CO record (記録条件仕様: 文字データ of up to 200 bytes are printed)."""


class Rule(StrEnum):
    """Checks that need no model (`app.receipts.check`)."""

    INDICATION = "indication"
    """no disease of the claim is one that the drug or the act is for"""
    SUSPECTED_INDICATION = "suspected-indication"
    """a drug whose only indicating disease is 疑い"""
    CONTRAINDICATION = "contraindication"
    DUPLICATE = "duplicate"
    """two acts that exclude each other, or a drug of the same ingredient twice on the same days"""
    LIMIT = "limit"
    AGE = "age"
    SEX = "sex"
    SUSPECTED_OPEN = "suspected-open"
    """疑い that has stood for three months or more"""
    UNCODED_NAME = "uncoded-name"
    """0000999 with a name that the master has a code for"""
    ENDED_CODE = "ended-code"
    UNKNOWN_CODE = "unknown-code"
    """not in a master that was imported whole"""
    COUNT = "count"
    """the times do not agree with the days that they are spread over"""
    VISIT_DAY = "visit-day"
    """something on a day on which the record JD has no visit"""


class Advised(StrEnum):
    """What is to be done with a line."""

    ADD_DISEASE = "add_disease"
    CHANGE_CODE = "change_code"
    CHANGE_COUNT = "change_count"
    DELETE_LINE = "delete_line"
    ADD_COMMENT = "add_comment"
    CONFIRM = "confirm_with_physician"
    NO_CHANGE = "no_change"


class Reason(StrEnum):
    """Why a line needs it; `JUSTIFIED` why it does not."""

    DISEASE_MISSING_FOR_DRUG = "disease_missing_for_drug"
    DISEASE_MISSING_FOR_ACT = "disease_missing_for_act"
    SUSPICION_CONFIRMED = "suspicion_confirmed"
    """the claim says 疑い of a disease that the chart says is there"""
    SUSPICION_RULED_OUT = "suspicion_ruled_out"
    CONTRAINDICATED = "contraindicated"
    CONTRAINDICATION_EXPLAINED = "contraindication_explained"
    """the chart weighs it, and the claim says nothing of that"""
    ACTS_EXCLUDE_EACH_OTHER = "acts_exclude_each_other"
    DRUG_TWICE = "drug_twice"
    OVER_LIMIT = "over_limit"
    AGE = "age"
    SEX = "sex"
    NAME_UNCODED = "name_uncoded"
    COUNT_WRONG = "count_wrong"
    DAYS_DIFFER = "days_differ"
    """another supply than in the chart"""
    DRUG_STOPPED = "drug_stopped"
    ACT_NOT_DONE = "act_not_done"
    DISEASE_DENIED = "disease_denied"
    SUSPECTED_AS_CERTAIN = "suspected_as_certain"
    SIDE_DIFFERS = "side_differs"
    PRODUCT_DIFFERS = "product_differs"
    """another strength or form than in the chart"""
    OTHER = "other"
    JUSTIFIED = "justified"


class Finding(Value):
    """What a check found. `others`: further lines that it is about. `text`: Japanese, for a person; it names codes and
    names of the claim and the tables, never the patient. `reference`: the document and section to look at; `row`: table
    and key of the row that speaks (`limits:112011010`)."""

    rule: Rule
    line: int
    others: tuple[int, ...] = ()
    severity: Severity
    text: str
    reference: str
    row: str


class Passage(Value):
    """A piece of a note that concerns a line of the claim: text[start:end] == quote. `says`: what use case 1 read there
    (Japanese label, such as 傷病名・疑い or 処方・中止), or 記載 for a mere mention of the line's subject."""

    note_id: str
    note_date: date
    start: int
    end: int
    quote: str
    says: str


class Block(Value):
    """One line of a claim with all that is to be judged about it. `text`: what the line says, in words. `comments`: what
    the claim itself says beside it. Findings are this line's own."""

    line: int
    text: str
    comments: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    passages: tuple[Passage, ...] = ()


class Case(Value):
    """A claim as it is put before a model. `head`: sex, age, in or out, month."""

    head: str
    blocks: tuple[Block, ...]


class Cited(Value):
    """Evidence: characters of a stored note."""

    note_id: str
    span: EvidenceSpan


class Advice(Value):
    """What a model advises for a line. `reference`: the `Finding.row` it cites, or one of `GENERAL`. `probability`: 0..1 of
    its choice of action; None: unknown."""

    line: int
    action: Advised
    reason: Reason
    reference: str
    evidence: Cited | None = None
    comment: str = Limited(max_length=MAX_COMMENT)
    probability: float | None = None


class Edited(Value):
    """What a person puts in the place of what was advised or found. `comment`: what the claim is to say (`add_comment`).
    `code`: to change to, or of the disease to add (SY: 7 digits; others: 9); `modifiers`: of that disease, 4 digits each,
    None: as they are; `started`: its 診療開始日. `count`: 回数 to change to."""

    action: Advised
    reason: Reason | None = None
    comment: str = Limited(default="", max_length=MAX_COMMENT)
    code: str | None = Limited(default=None, pattern="^([0-9]{7}|[0-9]{9})$")
    modifiers: tuple[str, ...] | None = Limited(default=None, max_length=20)
    started: date | None = None
    count: int | None = Limited(default=None, ge=1, le=999)


GENERAL: dict[str, str] = {
    "chart": "保険医療機関及び保険医療養担当規則 第22条（診療録の記載）",
    "claims": "保険医療機関及び保険医療養担当規則 第23条の2（適正な費用の請求の確保）",
}
"""What may be cited without a finding: that a claim has to say what the chart says. Key -> 規則 and article
(昭和32年厚生省令第15号)."""


class ItemState(StrEnum):
    """What a person made of a finding or an advice."""

    OPEN = "open"
    ACCEPTED = "accepted"
    EDITED = "edited"
    """right after the correction that the item holds"""
    REJECTED = "rejected"
