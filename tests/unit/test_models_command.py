"""`hyojun models` and `hyojun models check`: what they say of good and of wrong files, and their exit status."""

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
from click.testing import Result
from model_options import Options
from random_model import write_lora, write_plain
from typer.testing import CliRunner

from app.cli import app
from app.errors import HyojunError
from app.generation import inspection
from app.generation.context import gpus
from app.generation.registry import Models, configured, fingerprints, load_registry, prompt_text

ROOT = Path(__file__).resolve().parents[2]
TOML = """
[base]
file = "plain.gguf"
context_tokens = 1000
slots = 3

[use_cases.uc1]
adapter = "lora.gguf"
prompt = "uc1"
"""


def run(*words: str, **settings: object) -> Result:
    variables = {name.upper(): str(value) for name, value in settings.items()}
    cleared = {"DATABASE_URL": None, "MODEL_PATH": None, "MODELS_FILE": None, "MODEL_THREADS": "1", "COLUMNS": "200"}
    return CliRunner().invoke(app, ["models", *words], env=cleared | variables)


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    write_plain(tmp_path / "plain.gguf")
    write_lora(tmp_path / "lora.gguf")
    (tmp_path / "models.toml").write_text(TOML.replace("context_tokens = 1000", "context_tokens = 8000"))
    return tmp_path / "models.toml"


def shown(result: Result) -> dict[str, Any]:
    loaded = json.loads(result.stdout)
    assert isinstance(loaded, dict)
    return loaded


def test_the_shipped_models_are_listed_and_work() -> None:
    listed = run(models_file=ROOT / "weights" / "models.toml")
    assert listed.exit_code == 0, listed.output
    for words in ("base", "uc1", "hyojun-uc1.gguf", "qwen2 Q8_0", "compact", "ok"):
        assert words in listed.stdout
    checked = run("check", "uc1", "--json", models_file=ROOT / "weights" / "models.toml", model_slots=1)
    assert checked.exit_code == 0, checked.output
    [trial] = shown(checked)["trials"]
    assert trial["name"] == "uc1" and trial["problem"] is None and trial["tokens"] > 10


def test_everything_is_in_the_json(toml: Path) -> None:
    found = shown(run("--json", models_file=toml, model_context_tokens=1000))
    base, reading = found["models"]
    folder = toml.parent
    # One layer, two heads of 16 numbers, as key and value, in two bytes; 1,000 tokens are rounded up to 1,024 cells.
    cells = 3 * 1024
    assert base | {"fingerprints": None} == {
        "name": "base", "file": str(folder / "plain.gguf"), "context_tokens": 1000, "slots": 3, "adapter": None, "prompt": None,
        "size": (folder / "plain.gguf").stat().st_size, "architecture": "qwen2", "quantization": "F32",
        "trained_tokens": 16384, "kv_bytes": cells * 2 * (16 + 16) * 2, "form": "chat", "fingerprints": None, "problem": None,
    }  # fmt: skip
    assert reading["adapter"] == str(folder / "lora.gguf") and reading["prompt"] == "uc1"
    wanted = fingerprints(folder / "plain.gguf", prompt_text("uc1"), folder / "lora.gguf")
    assert reading["fingerprints"] == wanted.as_dict()
    assert found["source"] == str(toml)
    needed = sum((folder / name).stat().st_size for name in ("plain.gguf", "lora.gguf")) + base["kv_bytes"]
    [memory] = found["memory"]
    assert memory["needed"] == needed < memory["free"]


@pytest.mark.parametrize(("settings", "cells", "block"), [
    ({"model_kv_unified": "on"}, 3072, 64), ({"model_kv_tokens": 600}, 3 * 256, 64),
    ({"model_kv_tokens": 600, "model_kv_unified": "on"}, 768, 64), ({"model_slots": 1}, 1024, 64),
])  # fmt: skip
def test_the_cache_is_what_llama_cpp_reserves(toml: Path, settings: dict[str, Any], cells: int, block: int) -> None:
    options = Options(models_file=toml, model_context_tokens=1000, **settings)
    known = configured(options)
    base = inspection.describe(known, options)[0]
    assert base.kv_bytes == cells * 2 * (16 + 16) * block // 32
    models = Models(known, options)
    try:
        model, _ = models.use("base")
        assert model.metrics().kv_tokens == cells
    finally:
        models.close()


def test_shorter_numbers_make_a_smaller_cache() -> None:
    sizes = {}
    for kind in ("f16", "q8_0", "q4_0"):
        options = Options(model_path=ROOT / "weights" / "hyojun-uc1.gguf", model_slots=2, model_kv_type=kind)
        sizes[kind] = inspection.describe(configured(options), options)[0].kv_bytes
    # 6 layers, keys and values of 2 heads of 64 numbers; blocks of 32 numbers take 64, 34 and 18 bytes.
    assert sizes == {kind: 2 * 8192 * 6 * 2 * 2 * 2 * size for kind, size in (("f16", 64), ("q8_0", 34), ("q4_0", 18))}


def test_a_chat_model_with_an_adapter_is_tried(toml: Path) -> None:
    checked = run("check", models_file=toml)
    assert checked.exit_code == 0, checked.output
    assert checked.stdout.count("works: ") == 2 and "lora.gguf" in checked.stdout


def test_use_cases_that_read_no_notes_are_tried_with_their_prompt(toml: Path) -> None:
    toml.write_text(toml.read_text().replace("use_cases.uc1", "use_cases.uc2"))
    checked = run("check", "--json", models_file=toml)
    assert checked.exit_code == 0, checked.output
    assert [(trial["name"], trial["problem"]) for trial in shown(checked)["trials"]] == [("base", None), ("uc2", None)]


def replaced(folder: Path, fault: str) -> None:
    if fault == "missing":
        (folder / "plain.gguf").unlink()
    elif fault == "text":
        (folder / "plain.gguf").write_text("Git LFS pointer, or an error page of a proxy")
    elif fault == "cut":
        whole = (folder / "plain.gguf").read_bytes()
        (folder / "plain.gguf").write_bytes(whole[: len(whole) * 2 // 3])
    elif fault == "adapter as model":
        write_lora(folder / "plain.gguf")
    elif fault == "no template":
        write_plain(folder / "plain.gguf", template=None)
    elif fault == "old form":
        writer = gguf.GGUFWriter(folder / "plain.gguf", "qwen2")
        writer.add_string("hyojun.form", "interleaved-1")
        for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
            step()
    elif fault == "no adapter":
        (folder / "lora.gguf").unlink()
    else:
        write_lora(folder / "lora.gguf", width=16)


@pytest.mark.parametrize(("fault", "reason"), [
    ("missing", "plain.gguf is not there"), ("text", "plain.gguf is not a GGUF file"), ("cut", "cut off"),
    ("adapter as model", "is an adapter, not a model"), ("no template", "neither the statement form nor a chat template"),
    ("old form", "writes form interleaved-1"), ("no adapter", "lora.gguf is not there"),
    ("other adapter", "blk.0.attn_q.weight is 32 by 32 in the model, 16 by 16 in the adapter"),
])  # fmt: skip
def test_what_is_wrong_is_said_and_the_rest_goes_on(toml: Path, fault: str, reason: str) -> None:
    replaced(toml.parent, fault)
    for words in ([], ["check"]):
        result = run(*words, models_file=toml)
        assert result.exit_code == 1, result.output
        [line] = [line for line in result.stderr.splitlines() if line.startswith("uc1: ")]
        assert reason in line and "wrong, see below" in result.stdout
        if fault in ("no adapter", "other adapter", "no template"):  # the base is as good as before
            assert "base: " not in result.stderr


def test_what_llama_cpp_refuses_is_wrong_too(toml: Path) -> None:
    """A header without fault and no weights: only opening it shows that."""
    writer = gguf.GGUFWriter(toml.parent / "plain.gguf", "qwen2")
    writer.add_chat_template("{{ messages }}")
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    toml.write_text('[base]\nfile = "plain.gguf"')
    assert run(models_file=toml).exit_code == 0
    checked = run("check", models_file=toml)
    assert checked.exit_code == 1 and "base: llama.cpp cannot open the model file" in checked.stderr


def test_what_does_not_fit_the_memory_is_not_opened(toml: Path) -> None:
    checked = run("check", "--json", models_file=toml, model_slots=256, model_context_tokens=100_000_000)
    assert checked.exit_code == 1 and shown(checked)["trials"] == []
    assert "needed" in checked.stderr and "MODEL_SLOTS" in checked.stderr


def test_a_gpu_that_is_not_there_is_said(toml: Path) -> None:
    if gpus():
        pytest.skip("this engine has a GPU")
    checked = run("check", "base", models_file=toml, model_gpu_layers=-1)
    assert checked.exit_code == 1 and "the engine finds no GPU" in checked.stderr


@pytest.mark.parametrize(("words", "settings", "reason"), [
    ((), {"models_file": "nowhere.toml"}, "nowhere.toml is not there"),
    ((), {"model_path": "nowhere.gguf"}, None),
    (("check", "uc9"), {}, "has no model uc9; it has base, uc1"),
    ((), {"model_kv_type": "q8_0", "model_flash_attention": "off"}, "MODEL_FLASH_ATTENTION"),
])  # fmt: skip
def test_wrong_settings(toml: Path, words: tuple[str, ...], settings: dict[str, Any], reason: str | None) -> None:
    result = run(*words, **({"models_file": toml} | settings))
    assert result.exit_code == 1
    if reason is not None:
        assert isinstance(result.exception, HyojunError) and reason in str(result.exception)


def test_free_memory_is_a_share_of_the_machine() -> None:
    lines = Path("/proc/meminfo").read_text().splitlines()
    total = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:"))
    assert 0 < inspection.free_bytes() <= total


def test_the_same_file_is_counted_once(toml: Path) -> None:
    options = Options(models_file=toml, model_context_tokens=1000)
    known = load_registry(toml)
    found = inspection.describe(known, options)
    [both], [one] = inspection.room(found, options, {}), inspection.room(found[:1], options, {})
    assert both.needed - one.needed == (toml.parent / "lora.gguf").stat().st_size


@pytest.mark.parametrize(("layers", "share"), [(-1, 1.0), (0, 0.0), (1, 0.5), (99, 1.0)])
def test_layers_on_the_gpu_take_its_memory(toml: Path, layers: int, share: float) -> None:
    """The model has one layer; the last matrix counts as another."""
    options = Options(models_file=toml, model_gpu_layers=layers)
    found = inspection.describe(load_registry(toml), options)
    [all_of_it] = inspection.room(found, options, {})
    rooms = {one.place: one for one in inspection.room(found, options, {"CUDA0": 5_000, "CUDA1": 6_000})}
    assert rooms["memory"].needed == pytest.approx(all_of_it.needed * (1 - share), abs=1)
    if share:
        gpu = rooms["GPU memory"]
        assert gpu.needed == pytest.approx(all_of_it.needed * share, abs=1)
        assert gpu.free == 11_000 and not gpu.enough
    else:
        assert list(rooms) == ["memory"]


@pytest.mark.parametrize("fitted", [True, False])
def test_a_calibration_of_another_model_is_said(toml: Path, fitted: bool) -> None:
    registry = configured(Options(models_file=toml))
    uc1 = registry.get("uc1")
    prints = fingerprints(uc1.file, prompt_text("uc1"), uc1.adapter).as_dict()
    model = {key: prints[key] for key in ("model", "adapter", "prompt")} | ({} if fitted else {"model": "0123456789abcdef"})
    written = {"model": model, "kinds": {}, "error_rate": 0.02}
    (toml.parent / "uc1.calibration.json").write_text(json.dumps(written))
    toml.write_text(toml.read_text() + 'calibration = "uc1.calibration.json"\n')
    found = run("--json", models_file=toml)
    [one] = shown(found)["calibrations"]
    assert (one["problem"] is None) is fitted
    assert found.exit_code == (0 if fitted else 1)
    listed = run(models_file=toml)
    assert ("fits its model" in listed.stdout) is fitted
