"""The states of a job, as the API shows them."""

from enum import StrEnum

from schemas.value import Value


class JobState(StrEnum):
    """Why a job is in its state is told apart from it, in its reason."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Progress(Value):
    """How many jobs are in each state."""

    queued: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def total(self) -> int:
        return self.queued + self.running + self.done + self.failed + self.cancelled

    @property
    def open(self) -> int:
        """Jobs that will still change without anybody's help."""
        return self.queued + self.running
