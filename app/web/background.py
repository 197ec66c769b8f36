"""Work of this process that takes longer than a request: somebody begins it at a page, and the page tells how far it is.

What is told here is in memory and gone with the process; what the work does is in the database, or it was not done.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from app.errors import Conflict, HyojunError, NotFound

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called with a step, what is done of it, and all of it; 0: not known."""
KEPT = 20
"""Works that have ended are told of until so many newer ones began."""


@dataclass
class Work:
    """`by`: whose. `result`: what came of it; `error`: why nothing did; neither: it is not over."""

    id: UUID
    kind: str
    by: str
    step: str = ""
    done: int = 0
    total: int = 0
    result: object | None = None
    error: HyojunError | None = None
    over: bool = False
    thread: threading.Thread | None = field(default=None, repr=False)


class Background:
    def __init__(self) -> None:
        self._works: dict[UUID, Work] = {}
        self._lock = threading.Lock()

    def start(self, kind: str, by: str, run: Callable[[Progress], object]) -> Work:
        """Raises: Conflict while another work of the kind is not over."""
        work = Work(uuid4(), kind, by)
        work.thread = threading.Thread(target=self._run, args=(work, run), name=f"background-{kind}", daemon=True)
        with self._lock:
            if any(other.kind == kind and not other.over for other in self._works.values()):
                raise Conflict("another one is at work; wait until it has ended")
            self._works[work.id] = work
            for old in [one for one in self._works.values() if one.over][:-KEPT]:
                del self._works[old.id]
        work.thread.start()
        return work

    def find(self, kind: str, work_id: UUID) -> Work:
        """Raises: NotFound."""
        work = self._works.get(work_id)
        if work is None or work.kind != kind:
            raise NotFound("this process knows of no such work; it was restarted, or that is long ago")
        return work

    def open(self, kind: str) -> Work | None:
        """The one that is at work."""
        return next((work for work in list(self._works.values()) if work.kind == kind and not work.over), None)

    def _run(self, work: Work, run: Callable[[Progress], object]) -> None:
        def progress(step: str, done: int, total: int) -> None:
            work.step, work.done, work.total = step, done, total

        try:
            work.result = run(progress)
        except HyojunError as error:
            work.error = error
        except Exception:  # the thread's end: nobody above it would tell
            log.exception("background work failed")
            work.error = HyojunError("an error of this server; its log says more")
        finally:
            work.over = True
