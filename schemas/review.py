"""A person's judgement of one resource."""

from enum import StrEnum


class Decision(StrEnum):
    """`amend`: right after the reviewer's correction, which is the next version of the resource."""

    ACCEPT = "accept"
    AMEND = "amend"
    REJECT = "reject"
