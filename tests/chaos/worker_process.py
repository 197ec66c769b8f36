"""A real worker whose converter stands for the model: a few milliseconds for a note, then a small conversion."""

import random
import time

from sample_conversion import SampleConversion, convert

from app.db import Database
from app.log import configure
from app.settings import Settings
from app.worker import Loaded, create_worker, run_worker
from schemas.note import ChartNote


def converter(settings: Settings, database: Database) -> Loaded:
    def slowly(note: ChartNote, *, source: str) -> SampleConversion:
        time.sleep(random.uniform(0.001, 0.02))
        return convert(note, source=source)

    return Loaded(slowly, settings.model_slots or 1)


if __name__ == "__main__":
    chosen = Settings()
    configure(chosen.log_level)
    run_worker(create_worker(chosen, converter), chosen)
