"""The twenty kinds of fault, and what looks like one and is none.

Each changes a clean story, most of them on one side alone, and tells what is to be advised. A kind that a table finds names
its rule; `training.receipts.draw` takes the place and the row from what the check really finds.
"""

from schemas.receipt import Advised, Reason
from training.receipts.chart_faults import (
    as_certain,
    days_differ,
    denied,
    not_done,
    product_differs,
    side_differs,
    stopped,
)
from training.receipts.plans import Plant
from training.receipts.table_faults import (
    against,
    age,
    confirmed,
    count,
    exclude,
    missing,
    over,
    sex,
    still_open,
    twice,
    uncoded,
)

FAULTS: dict[Reason, Plant] = {
    Reason.DISEASE_MISSING_FOR_DRUG: missing(True),
    Reason.DISEASE_MISSING_FOR_ACT: missing(False),
    Reason.SUSPICION_CONFIRMED: confirmed,
    Reason.SUSPICION_RULED_OUT: still_open("denied", Reason.SUSPICION_RULED_OUT, Advised.DELETE_LINE),
    Reason.CONTRAINDICATED: against(Reason.CONTRAINDICATED, Advised.CONFIRM, False, False),
    Reason.CONTRAINDICATION_EXPLAINED: against(Reason.CONTRAINDICATION_EXPLAINED, Advised.ADD_COMMENT, True, False),
    Reason.ACTS_EXCLUDE_EACH_OTHER: exclude(False),
    Reason.DRUG_TWICE: twice(False),
    Reason.OVER_LIMIT: over(False),
    Reason.AGE: age(False),
    Reason.SEX: sex,
    Reason.NAME_UNCODED: uncoded,
    Reason.COUNT_WRONG: count,
    Reason.DAYS_DIFFER: days_differ,
    Reason.DRUG_STOPPED: stopped,
    Reason.ACT_NOT_DONE: not_done,
    Reason.DISEASE_DENIED: denied,
    Reason.SUSPECTED_AS_CERTAIN: as_certain,
    Reason.SIDE_DIFFERS: side_differs,
    Reason.PRODUCT_DIFFERS: product_differs,
}
"""The twenty kinds."""
JUSTIFIED: tuple[Plant, ...] = (
    still_open("workup", Reason.JUSTIFIED, Advised.NO_CHANGE, "workup"),
    against(Reason.JUSTIFIED, Advised.NO_CHANGE, True, True),
    exclude(True),
    twice(True),
    over(True),
    age(True),
)
"""Findings that need nothing."""
