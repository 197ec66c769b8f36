"""A real worker with a converter for tests; started as a process of its own, settings from the environment.

Every start of a conversion leaves a file in $STARTED_DIR. A note of the department `slow` hangs in its first start only,
one of `brief` takes half a second, one of `poison` kills its process after that. With
$BROKEN_LOADS the converter cannot be loaded so many times.
"""

import os
import signal
import threading
import time
from pathlib import Path

from sample_conversion import SampleConversion, convert

from app.db import Database
from app.errors import Unavailable
from app.settings import Settings
from app.worker import Loaded, create_worker, run_worker
from schemas.note import ChartNote

STARTED = Path(os.environ["STARTED_DIR"])


def converter(settings: Settings, database: Database) -> Loaded:
    loads = STARTED / "loads"
    with loads.open("a") as file:
        file.write(f"{os.getpid()}\n")
    if len(loads.read_text().split()) <= int(os.environ.get("BROKEN_LOADS", "0")):
        raise Unavailable("the model file is not there")
    running: set[str] = set()
    lock = threading.Lock()

    def marked(note: ChartNote, source: str) -> SampleConversion:
        first = not any(STARTED.glob(f"{note.id}.*"))
        with lock:
            (STARTED / f"{note.id}.{os.getpid()}.{time.monotonic_ns()}.{len(running)}").touch()
            running.add(note.id)
        try:
            if note.department == "slow" and first:
                time.sleep(600)
            if note.department in ("brief", "poison"):
                time.sleep(0.5)
            if note.department == "poison":
                os.kill(os.getpid(), signal.SIGKILL)
            return convert(note, source=source)
        finally:
            with lock:
                running.discard(note.id)

    return Loaded(marked, settings.model_slots or 1)


if __name__ == "__main__":
    chosen = Settings()
    run_worker(create_worker(chosen, converter), chosen)
