"""Conversions in many threads at once give what they give one after the other."""

import copy
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from random_model import write_compact
from test_pipeline import HOSTILE, Sampling, make_note, options_for, synthetic_notes

from app.generation.context import Memory
from app.generation.reader import Reading
from app.pipeline import Conversion, Converter
from app.terminology.entries import starter_entries, starter_version
from app.terminology.matching import Lexicon
from schemas.note import ChartNote
from schemas.statement import Kind

SLOTS = 6


class Remembering(Sampling):
    """Reads each note once: what a model says may depend on the last bit on what it reads beside it, and is not asked
    here. Everything after it is."""

    def remember(self, texts: Sequence[str]) -> None:
        self.known: dict[str, Reading] = {}
        for text in texts:
            self.known[text] = super().read(text, [], "progress")

    def read(self, text: str, mentions: Sequence[tuple[int, int, Kind]], document_type: str, **_: Any) -> Reading:
        return copy.deepcopy(self.known[text])


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads that change every few instructions, so that what they share is met half done."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def told(converter: Converter, note: ChartNote) -> Any:
    """What does not change from run to run."""
    conversion: Conversion = converter.convert(note, source="test")
    resources = [r for r in conversion.resources if r["resourceType"] != "Provenance"]
    for resource in resources:
        resource.pop("meta", None)
        if resource["resourceType"] == "DocumentReference":
            del resource["date"]
    kinds = [(message.kind, message.order_no, message.care_date) for message in conversion.messages]
    return conversion.statements, conversion.records, resources, conversion.issues, conversion.held, kinds


@pytest.mark.usefixtures("restless")
def test_threads_do_not_disturb_each_other(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = write_compact(tmp_path_factory.mktemp("model") / "compact.gguf")
    reader = Remembering.open(path, Memory(sequence_tokens=4096, slots=SLOTS, threads=1))
    notes = [*synthetic_notes(24), *(make_note(100 + n, text) for n, text in enumerate(HOSTILE))]
    try:
        reader.remember([note.text for note in notes])
        # Two converters, so that the first use of every table is by many threads, and by one alone.
        many, alone = (
            Converter(reader, Lexicon(starter_entries(), starter_version()), options_for(path)) for _ in range(2)
        )
        assert many.slots == SLOTS
        with ThreadPoolExecutor(SLOTS) as pool:
            together = list(pool.map(lambda note: told(many, note), notes))
        assert together == [told(alone, note) for note in notes]
    finally:
        reader.model.close()
    assert sum(len(found[0]) for found in together) > 20, "the model said too little for this to show anything"
