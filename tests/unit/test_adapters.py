"""LoRA adapters on one base model: what each writes, together and alone, and which files are refused."""

from pathlib import Path

import llguidance
import pytest
from model_options import Options
from random_model import write_compact, write_lora, write_plain

from app.errors import HyojunError, InvalidInput, Unavailable
from app.generation.chat import Message
from app.generation.context import Memory
from app.generation.llama import LlamaCpp
from app.generation.modelfile import misfit, read_model_file
from app.generation.reader import NoteReader
from app.generation.registry import Models, load_registry

GRAMMAR = str(llguidance.grammar_from("lark", "start: /[a-z]{24}/"))
PROMPTS = ["問い", "x", "HbA1c 7.2%", "a longer one, so that not all are of one length"]
TOML = """
[base]
file = "plain.gguf"
context_tokens = 1024
slots = 4

[use_cases.uc1]
adapter = "one.gguf"
prompt = "uc1"

[use_cases.uc2]
adapter = "two.gguf"
prompt = "uc1"

[use_cases.uc3]
adapter = "one.gguf"
prompt = "uc1"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("adapters")
    write_plain(path / "plain.gguf")
    write_lora(path / "one.gguf", 1)
    write_lora(path / "two.gguf", 2)
    (path / "models.toml").write_text(TOML)
    return path


def opened(folder: Path, *, unified: bool = False, slots: int = 4) -> LlamaCpp:
    adapters = {"one": folder / "one.gguf", "two": folder / "two.gguf"}
    memory = Memory(sequence_tokens=1024, slots=slots, unified=unified, threads=1, adapters=adapters)
    return LlamaCpp(folder / "plain.gguf", memory)


def test_an_adapter_changes_what_is_written(folder: Path) -> None:
    model = opened(folder, slots=1)
    try:
        texts = {name: model.write("問い", GRAMMAR, adapter=name).text for name in (None, "one", "two")}
        assert len(set(texts.values())) == 3
        # The base is as it was before the adapters were used.
        assert model.write("問い", GRAMMAR).text == texts[None]
    finally:
        model.close()


@pytest.mark.parametrize("unified", [False, True])
def test_adapters_that_run_together_write_what_they_write_alone(folder: Path, unified: bool) -> None:
    """More requests than slots, of all three in turn: batches change the adapter from step to step."""
    wanted = [(prompt, adapter) for prompt in PROMPTS for adapter in (None, "one", "two")]
    alone = opened(folder, slots=1)
    try:
        expected = [alone.write(prompt, GRAMMAR, adapter=adapter).text for prompt, adapter in wanted]
    finally:
        alone.close()
    assert len(set(expected)) == len(expected)
    model = opened(folder, unified=unified)
    try:
        pending = [model.submit(prompt, GRAMMAR, adapter=adapter) for prompt, adapter in wanted]
        assert [one.result().text for one in pending] == expected
        metrics = model.metrics()
        assert metrics.requests == len(wanted) and metrics.failed == 0
    finally:
        model.close()


@pytest.mark.parametrize("unified", [False, True])
def test_a_shared_beginning_is_that_of_its_adapter(folder: Path, unified: bool) -> None:
    """The same system prompt gives other keys and values under another adapter; the cache must not mix them up."""
    chats = [[Message("system", "同じ始まり" * 9), Message("user", text)] for text in PROMPTS]
    wanted = [(chat, adapter) for chat in chats for adapter in ("one", None, "two")]
    alone = opened(folder, slots=1)
    try:
        expected = [alone.write(alone.chat_prompt(c).tokens, GRAMMAR, adapter=adapter).text for c, adapter in wanted]
    finally:
        alone.close()
    model = opened(folder, unified=unified)
    try:
        prompts = [model.chat_prompt(chat) for chat, _ in wanted]
        pending = [
            model.submit(prompt.tokens, GRAMMAR, shared=prompt.shared, adapter=adapter)
            for prompt, (_, adapter) in zip(prompts, wanted, strict=True)
        ]
        assert [one.result().text for one in pending] == expected
        if unified:  # else a beginning is found again only where a slot happens to hold it
            assert model.metrics().reused_tokens > 0
    finally:
        model.close()


def test_an_adapter_that_is_not_loaded_is_refused(folder: Path) -> None:
    model = opened(folder, slots=1)
    try:
        with pytest.raises(InvalidInput, match="three"):
            model.submit("x", GRAMMAR, adapter="three")
    finally:
        model.close()


def test_use_cases_share_one_base(folder: Path) -> None:
    models = Models(load_registry(folder / "models.toml"), Options())
    try:
        assert models.names == ("base", "uc1", "uc2", "uc3")
        assert models.metrics() == {}
        used = {name: models.use(name) for name in models.names}
        assert len({id(model) for model, _ in used.values()}) == 1
        # An adapter that two use cases have is loaded once.
        assert [adapter for _, adapter in used.values()] == [None, "uc1", "uc2", "uc1"]
        texts = {name: model.write("問い", GRAMMAR, adapter=adapter).text for name, (model, adapter) in used.items()}
        assert texts["uc1"] == texts["uc3"] and len(set(texts.values())) == 3
        assert list(models.metrics()) == ["base"] and models.metrics()["base"].requests == 4
    finally:
        models.close()
    with pytest.raises(Unavailable):
        models.use("base")


def test_a_note_is_read_with_the_adapter_of_its_use_case(folder: Path) -> None:
    """The registry's adapter reaches the engine, and its fingerprint the reader."""
    models = Models(load_registry(folder / "models.toml"), Options(model_context_tokens=8192, model_slots=1))
    try:
        model, adapter = models.use("uc1")
        reader, plain = NoteReader.of(models), NoteReader(model)
        assert (reader.adapter, plain.adapter) == (adapter, None) == ("uc1", None)
        text = "2型糖尿病（2015年〜）、高血圧症、HbA1c 7.2%\nアムロジピンOD錠5mg 1回1錠\nペニシリンで発疹"
        first, second = (
            [(w.line, w.kind, tuple(w.fields.items())) for w in one.read(text, [], "progress", temperature=1.0, seed=4).written]
            for one in (reader, plain)
        )
        assert first != second
        assert reader.fingerprints.adapter and plain.fingerprints.adapter is None
        assert reader.fingerprints.model == plain.fingerprints.model
    finally:
        models.close()


def damaged(path: Path, name: str) -> Path:
    if name == "missing":
        return path / "nowhere.gguf"
    if name == "text":
        (path / "text.gguf").write_text("not a GGUF file, and longer than its mark")
        return path / "text.gguf"
    if name == "cut":
        whole = write_lora(path / "cut.gguf").read_bytes()
        (path / "cut.gguf").write_bytes(whole[: len(whole) // 2])
        return path / "cut.gguf"
    if name == "model":
        return write_plain(path / "model.gguf")
    if name == "architecture":
        return write_lora(path / "llama.gguf", architecture="llama")
    return write_lora(path / "wide.gguf", width=64)


@pytest.mark.parametrize(("name", "reason"), [
    ("missing", "is not there"), ("text", "is not a GGUF file"), ("cut", "cut off"), ("model", "is a model, not an adapter"),
    ("architecture", "made for llama, the model is qwen2"),
    ("shape", r"blk\.0\.attn_q\.weight is 32 by 32 in the model, 64 by 64 in the adapter"),
])  # fmt: skip
def test_a_wrong_adapter_is_refused_with_its_reason(folder: Path, tmp_path: Path, name: str, reason: str) -> None:
    adapter = damaged(tmp_path, name)
    write_plain(tmp_path / "plain.gguf")
    (tmp_path / "models.toml").write_text(TOML.replace("one.gguf", adapter.name))
    (tmp_path / "two.gguf").write_bytes((folder / "two.gguf").read_bytes())
    models = Models(load_registry(tmp_path / "models.toml"), Options())
    try:
        with pytest.raises(HyojunError, match=reason) as raised:
            models.use("uc1")
        assert adapter.name in str(raised.value)
        # The others that share the base go on.
        model, other = models.use("uc2")
        assert other == "uc2" and model.write("x", GRAMMAR, adapter=other).text
        assert models.use("base") == (model, None)
        with pytest.raises(HyojunError, match=reason):
            models.use("uc3")
    finally:
        models.close()
    # llama.cpp itself refuses every one of them too.
    with pytest.raises(Unavailable):
        LlamaCpp(tmp_path / "plain.gguf", Memory(sequence_tokens=512, threads=1, adapters={"x": adapter}))


def test_an_adapter_fits_models_of_its_shape_alone(folder: Path, tmp_path: Path) -> None:
    adapter = read_model_file(folder / "one.gguf")
    assert misfit(adapter, read_model_file(folder / "plain.gguf")) is None
    assert misfit(adapter, read_model_file(write_compact(tmp_path / "compact.gguf"))) is None
