"""models.toml as an operator may write it, the models that it opens, and the fingerprints of files."""

import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from model_options import Options
from random_model import write_compact, write_lora, write_plain

from app.errors import HyojunError, InvalidInput, NotFound, Unavailable
from app.generation import registry
from app.generation.form import FORM_VERSION
from app.generation.modelfile import parts, read_model_file
from app.generation.receipt_form import RECEIPT_FORM
from app.generation.registry import Entry, Models, configured, fingerprints, load_registry, memory_of
from app.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
FULL = """
[base]
file = "large.gguf"
context_tokens = 4096
slots = 32

[use_cases.uc1]
adapter = "lora/uc1.gguf"
prompt = "uc1"

[use_cases.uc2]
file = "small.gguf"
context_tokens = 2048
prompt = "uc1"

[use_cases.uc3]
model = "base"
prompt = "uc1"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "models.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_base_adapter_and_a_model_of_its_own(tmp_path: Path) -> None:
    known = load_registry(write(tmp_path, FULL))
    large, lora = tmp_path / "large.gguf", tmp_path / "lora" / "uc1.gguf"
    assert known.entries == {
        "base": Entry("base", large, None, None, 4096, 32),
        "uc1": Entry("uc1", large, lora, "uc1", 4096, 32),
        "uc2": Entry("uc2", tmp_path / "small.gguf", None, "uc1", 2048, 32),
        "uc3": Entry("uc3", large, None, "uc1", 4096, 32),
    }
    assert known.adapters(large) == {"uc1": lora} and known.adapters(tmp_path / "small.gguf") == {}
    with pytest.raises(NotFound, match=r"uc9.*base, uc1, uc2, uc3"):
        known.get("uc9")


def test_the_shipped_file_names_the_shipped_model() -> None:
    known = configured(Settings(_env_file=None).model_copy(update={"models_file": ROOT / "weights" / "models.toml"}))
    assert list(known.entries) == ["base", "uc1", "uc2"]
    base, reading, receipts = known.entries.values()
    assert base.file == reading.file == receipts.file == ROOT / "weights" / "hyojun-uc1.gguf" and reading.adapter is None
    known.require_files("uc1")
    known.require_files("uc2")
    assert read_model_file(base.file).text("hyojun.form") == FORM_VERSION
    assert receipts.adapter is not None and read_model_file(receipts.adapter).text("hyojun.form") == RECEIPT_FORM


def test_one_file_is_base_and_reads_notes(tmp_path: Path) -> None:
    known = configured(Options(model_path=tmp_path / "x.gguf"))
    assert [(e.name, e.file, e.prompt) for e in known.entries.values()] == [
        ("base", tmp_path / "x.gguf", None), ("uc1", tmp_path / "x.gguf", "uc1"),
    ]  # fmt: skip
    with pytest.raises(Unavailable, match=r"x\.gguf is not there.*MODEL_PATH"):
        known.require_files("uc1")


BAD = [
    ("[base", "is not TOML"),
    ("", "base: is missing"),
    ("base = 1", "base: must be a table"),
    ("[base]", r"base\.file: is missing"),
    ('[base]\nfile = ""', r"base\.file: must be a text"),
    ("[base]\nfile = 3", r"base\.file: must be a text"),
    ('[base]\nfile = "a\\u0000b"', r"base\.file: must be a text"),
    ('[base]\nfile = "x"\nslots = 0', r"base\.slots: must be a whole number from 1 to 256"),
    ('[base]\nfile = "x"\nslots = true', r"base\.slots: must be a whole number"),
    ('[base]\nfile = "x"\nslots = 257', r"base\.slots: must be a whole number"),
    ('[base]\nfile = "x"\ncontext_tokens = "8k"', r"base\.context_tokens: must be a whole number from 512"),
    ('[base]\nfile = "x"\ncontext = 8192', r"base\.context: is not a key"),
    ('[base]\nfile = "x"\nadapter = "y"', r"base\.adapter: is not a key"),
    ('[base]\nfile = "x"\n[models]', "models: is not a key"),
    ('use_cases = 1\n[base]\nfile = "x"', "use_cases: must be a table"),
    ('[base]\nfile = "x"\n[use_cases]\nuc1 = "base"', r"use_cases\.uc1: must be a table"),
    ('[base]\nfile = "x"\n[use_cases.base]\nmodel = "base"\nprompt = "uc1"', r"use_cases\.base: a name"),
    ('[base]\nfile = "x"\n[use_cases.UC1]\nmodel = "base"\nprompt = "uc1"', r"use_cases\.UC1: a name"),
    ('[base]\nfile = "x"\n[use_cases.uc1]\nprompt = "uc1"', r"use_cases\.uc1: give one of"),
    ('[base]\nfile = "x"\n[use_cases.uc1]\nmodel = "base"\nfile = "y"\nprompt = "uc1"', r"use_cases\.uc1: give one of"),
    ('[base]\nfile = "x"\n[use_cases.uc1]\nmodel = "uc2"\nprompt = "uc1"', r"use_cases\.uc1\.model: can only be"),
    ('[base]\nfile = "x"\n[use_cases.uc1]\nmodel = "base"', r"use_cases\.uc1\.prompt: is missing"),
    ('[base]\nfile = "x"\n[use_cases.uc1]\nmodel = "base"\nprompt = "uc9"', r"use_cases\.uc1\.prompt: there is no prompt uc9"),
    ('[base]\nfile = "x"\n[use_cases.uc1]\nmodel = "base"\nprompt = "../uc1"', r"use_cases\.uc1\.prompt: there is no"),
    ('[base]\nfile = "x"\n[use_cases.uc1]\nadapter = "y"\nslots = 2\nprompt = "uc1"', r"use_cases\.uc1\.slots: is not a key"),
    ('[base]\nfile = "x"\nslots = 2\n[use_cases.uc1]\nfile = "x"\nslots = 3\nprompt = "uc1"', "base and uc1 are one file"),
]


@pytest.mark.parametrize(("text", "reason"), BAD)
def test_what_is_not_understood_is_refused_with_file_and_key(tmp_path: Path, text: str, reason: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InvalidInput, match=reason) as raised:
        load_registry(path)
    assert str(raised.value).startswith(str(path))


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="MODELS_FILE"):
        configured(Options(models_file=tmp_path / "none.toml"))
    with pytest.raises(Unavailable):
        load_registry(tmp_path)
    (tmp_path / "x.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match="is not TOML"):
        load_registry(tmp_path / "x.toml")


def test_the_machine_goes_before_the_file(tmp_path: Path) -> None:
    known = load_registry(write(tmp_path, FULL))
    large = known.get("base").file
    as_written = memory_of(known, large, Options())
    assert (as_written.sequence_tokens, as_written.slots, as_written.kv_tokens) == (4096, 32, None)
    assert as_written.flash_attention is None and as_written.adapters == {"uc1": tmp_path / "lora" / "uc1.gguf"}
    options = Options(
        model_context_tokens=1024, model_slots=3, model_kv_tokens=2048, model_kv_type="q8_0", model_kv_unified="on",
        model_flash_attention="on", model_threads=5, model_gpu_layers=-1,
    )  # fmt: skip
    chosen = memory_of(known, large, options)
    assert (chosen.sequence_tokens, chosen.slots, chosen.kv_tokens, chosen.kv_type) == (1024, 3, 2048, "q8_0")
    assert (chosen.unified, chosen.flash_attention, chosen.threads, chosen.gpu_layers) == (True, True, 5, -1)
    assert memory_of(known, large, Options(model_threads=None)).threads >= 1
    with pytest.raises(InvalidInput, match="MODEL_FLASH_ATTENTION"):
        memory_of(known, large, Options(model_kv_type="q4_0", model_flash_attention="off"))


@pytest.mark.parametrize("options", [
    Options(model_kv_type="q8_0"), Options(model_kv_type="q4_0", model_flash_attention="on"),
    Options(model_flash_attention="off"), Options(model_kv_unified="on", model_kv_tokens=1024),
])  # fmt: skip
def test_every_kind_of_cache_generates(tmp_path: Path, options: Options) -> None:
    shutil.copy(ROOT / "weights" / "hyojun-uc1.gguf", tmp_path / "x.gguf")
    path = write(tmp_path, '[base]\nfile = "x.gguf"\ncontext_tokens = 512\nslots = 2')
    models = Models(load_registry(path), options)
    try:
        model, adapter = models.use("base")
        assert adapter is None
        assert model.write([model.begin_token], None, max_tokens=3, temperature=1.0).finish == "length"
        assert models.metrics()["base"].sampled_tokens == 3
    finally:
        models.close()


def test_a_cache_that_a_model_cannot_have(tmp_path: Path) -> None:
    write_plain(tmp_path / "x.gguf")
    models = Models(configured(Options(model_path=tmp_path / "x.gguf")), Options(model_kv_type="q8_0"))
    with pytest.raises(InvalidInput, match=r"MODEL_KV_TYPE=q8_0 needs .* x\.gguf has 16"):
        models.use("base")


@pytest.fixture
def models(tmp_path: Path) -> Iterator[Models]:
    write_plain(tmp_path / "plain.gguf")
    write_compact(tmp_path / "compact.gguf")
    text = (
        '[base]\nfile = "plain.gguf"\ncontext_tokens = 512\nslots = 1\n'
        '[use_cases.uc1]\nfile = "compact.gguf"\nprompt = "uc1"\n'
        '[use_cases.uc2]\nfile = "nowhere.gguf"\nprompt = "uc1"\n'
    )
    made = Models(load_registry(write(tmp_path, text)), Options())
    yield made
    made.close()


def test_a_file_is_opened_once_when_it_is_asked_for(models: Models) -> None:
    found = []
    threads = [threading.Thread(target=lambda: found.append(models.use("base")[0])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len(set(map(id, found))) == 1
    assert list(models.metrics()) == ["base"]
    assert models.use("uc1")[0] is not found[0]
    assert list(models.metrics()) == ["base", "uc1"]


def test_a_name_or_a_file_that_is_not_there(models: Models) -> None:
    with pytest.raises(NotFound, match="uc7"):
        models.use("uc7")
    with pytest.raises(Unavailable, match=r"nowhere\.gguf is not there .*uc2"):
        models.use("uc2")
    assert models.use("base")[1] is None  # the others work


# --- files ------------------------------------------------------------------------------------------------------------


def test_fingerprints_name_every_part(tmp_path: Path) -> None:
    one, other = write_plain(tmp_path / "one.gguf", 1), write_plain(tmp_path / "other.gguf", 2)
    first, second = write_lora(tmp_path / "first.gguf", 1), write_lora(tmp_path / "second.gguf", 2)
    whole = fingerprints(one, "prompt", first)
    assert all(value is not None and len(value) == 16 for value in whole.as_dict().values())
    assert whole == fingerprints(shutil.copy(one, tmp_path / "copy.gguf"), "prompt", first)
    assert fingerprints(one, "prompt").adapter is None
    assert fingerprints("0123456789abcdef", "prompt", first) == replace(whole, model="0123456789abcdef")
    changed = {
        "model": fingerprints(other, "prompt", first),
        "prompt": fingerprints(one, "prompt.", first),
        "adapter": fingerprints(one, "prompt", second),
    }
    for part, prints in changed.items():
        differ = {key for key, value in prints.as_dict().items() if value != whole.as_dict()[key]}
        assert differ == {part}


def test_two_trainings_of_one_large_model_have_two_fingerprints(tmp_path: Path) -> None:
    """The same header and size: the weights at the end tell them apart; what lies between is not read."""
    made = []
    for name, at, byte in (("a", None, b""), ("b", -1, b"\1"), ("c", 10_000_000, b"\1")):
        path = tmp_path / f"{name}.gguf"
        with path.open("wb") as file:
            file.truncate(20_000_000)
            if at is not None:
                file.seek(at % 20_000_000)
                file.write(byte)
        made.append(fingerprints(path, "").model)
    assert made[0] != made[1] and made[0] == made[2]


def test_a_split_model_is_all_its_parts(tmp_path: Path) -> None:
    first = tmp_path / "m-00001-of-00003.gguf"
    assert [path.name for path in parts(first)] == [f"m-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    write_plain(first)
    for n in (2, 3):
        (tmp_path / f"m-0000{n}-of-00003.gguf").write_bytes(b"GGUF" + bytes(n))
    assert read_model_file(first).size == sum(path.stat().st_size for path in parts(first))
    before = fingerprints(first, "").model
    (tmp_path / "m-00003-of-00003.gguf").write_bytes(b"GGUF" + b"\1\1\1")
    assert fingerprints(first, "").model != before
    (tmp_path / "m-00002-of-00003.gguf").unlink()
    with pytest.raises(Unavailable, match="m-00002-of-00003"):
        read_model_file(first)


def test_a_header_says_what_llama_cpp_says(plain_path: Path, compact_path: Path) -> None:
    from app.generation.context import LlamaContext, Memory

    for path in (plain_path, compact_path):
        file = read_model_file(path)
        context = LlamaContext(path, Memory(sequence_tokens=256, threads=1))
        try:
            assert file.metadata
            for key, value in file.metadata.items():
                if isinstance(value, (str, int)) and not isinstance(value, bool):
                    assert context.metadata(key) == str(value), key
        finally:
            context.close()
        assert file.tensors["token_embd.weight"].shape[0] == file.number("qwen2.embedding_length")


def test_a_header_cut_off_anywhere_is_refused(plain_path: Path, tmp_path: Path) -> None:
    whole = plain_path.read_bytes()
    path = tmp_path / "cut.gguf"
    for end in [*range(0, 2000, 13), *range(2000, len(whole) // 2, 997)]:
        path.write_bytes(whole[:end])
        with pytest.raises(HyojunError, match=r"cut\.gguf"):
            read_model_file(path)
    for at in range(4, 400):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            read_model_file(path)
        except HyojunError as error:
            assert "cut.gguf" in str(error)


def test_prompts_are_found_by_name() -> None:
    assert registry.prompt_text("uc1").strip()
