"""Every stored run, and every Provenance, names the model, adapter, prompt, grammar and terminology that it came from."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from random_model import write_compact, write_lora
from sample_conversion import make_note
from sqlalchemy import select

from app import jobs
from app.db import Database
from app.generation.registry import configured, fingerprints
from app.jobs import Policy
from app.pipeline import Converter
from app.settings import Settings
from app.terminology.entries import starter_entries, starter_version
from app.terminology.matching import Lexicon
from models import Resource, Run

TOML = """
[base]
file = "compact.gguf"
context_tokens = 4096
slots = 2

[use_cases.uc1]
{way}
prompt = "uc1"
"""


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return Lexicon(starter_entries(), starter_version())


@pytest.fixture(params=["adapter", "base"])
def loaded(request: pytest.FixtureRequest, tmp_path: Path, lexicon: Lexicon) -> Iterator[tuple[Settings, Converter]]:
    write_compact(tmp_path / "compact.gguf")
    write_lora(tmp_path / "uc1.gguf")
    way = {"adapter": 'adapter = "uc1.gguf"', "base": 'model = "base"'}[request.param]
    (tmp_path / "models.toml").write_text(TOML.format(way=way))
    settings = Settings(
        _env_file=None, models_file=tmp_path / "models.toml", model_path=None, model_threads=1, data_dir=tmp_path,
    )  # fmt: skip
    converter = Converter.load(settings, lexicon)
    yield settings, converter
    assert converter.models is not None
    converter.models.close()


def test_a_run_names_everything_it_was_made_with(
    loaded: tuple[Settings, Converter], database: Database, lexicon: Lexicon
) -> None:
    settings, converter = loaded
    assert converter.models is not None
    note = make_note("HbA1c 7.2%")
    conversion = converter.convert(note, source="emr")
    with database.session_scope() as session:
        submission = jobs.submit(session, note, "emr")
    with database.session_scope() as session:
        claim = jobs.claim(session, submission.job_id, "w", Policy())
    assert claim is not None
    with database.session_scope() as session:
        jobs.complete(session, claim, conversion)
    with database.session_scope() as session:
        run = session.scalars(select(Run).where(Run.job_id == submission.job_id)).one()
        content: dict[str, Any] = session.scalars(
            select(Resource.content).where(Resource.job_id == submission.job_id, Resource.type == "Provenance")
        ).one()

    entry = configured(settings).get("uc1")
    wanted = fingerprints(entry.file, "", entry.adapter)  # a model that was trained on the form is given no prompt
    assert (wanted.adapter is None) == (entry.adapter is None)
    assert (run.model, run.adapter, run.prompt, run.grammar) == (
        wanted.model, wanted.adapter, wanted.prompt, wanted.grammar,
    )  # fmt: skip
    assert run.terminology == lexicon.version

    [device] = content["contained"]
    named = {version["type"]["text"]: version["value"] for version in device["version"]}
    known = {"model": run.model, "adapter": run.adapter, "prompt": run.prompt, "grammar": run.grammar,
             "terminology": run.terminology, "software": run.version}  # fmt: skip
    assert named == {part: value for part, value in known.items() if value is not None}
    # The generation went through the registry's model.
    assert converter.models.metrics()["base"].requests > 0
