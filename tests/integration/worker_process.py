"""A real worker with a converter for tests; started as a process of its own, settings from the environment.

Every start of a conversion leaves a file in $STARTED_DIR. A note of the department
`slow` hangs in its first start only.
"""

import os
import time
from pathlib import Path

from sample_conversion import SampleConversion, convert

from app.db import Database
from app.jobs import Convert
from app.settings import Settings
from app.worker import create_worker, run_worker
from schemas.note import ChartNote

STARTED = Path(os.environ["STARTED_DIR"])


def converter(settings: Settings, database: Database) -> Convert:
    def marked(note: ChartNote, source: str) -> SampleConversion:
        first = not any(STARTED.glob(f"{note.id}.*"))
        (STARTED / f"{note.id}.{os.getpid()}").touch()
        if note.department == "slow" and first:
            time.sleep(600)
        return convert(note, source=source)

    return marked


if __name__ == "__main__":
    chosen = Settings()
    run_worker(create_worker(chosen, converter), chosen)
