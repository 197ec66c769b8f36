"""The steps for Hugging Face models, run on tiny random ones with the configurations of the 72B model."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="training Hugging Face models needs transformers")
pytest.importorskip("peft", reason="training Hugging Face models needs peft")
import torch
from model_options import Options
from peft import PeftModel
from safetensors.torch import load_file
from tiny_qwen import write_llama, write_qwen2
from transformers import AutoModelForCausalLM

from app.generation.chat import Message
from app.generation.context import Memory
from app.generation.llama import LlamaCpp
from app.generation.reader import NoteReader
from app.generation.registry import Models, load_registry, prompt_text
from app.terminology.entries import starter_entries, starter_version
from app.terminology.matching import Lexicon
from training import average, base, evaluate, export, huggingface, loop, sft, shards
from training.chat_tokens import ChatTokens
from training.config import Config, Training, load
from training.corpus import __main__ as corpus
from training.corpus.names import Names
from training.pairs import PairWriter, obeys

pytestmark = pytest.mark.train
ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "training" / "configs"


class Interruption(Exception):
    """Stands for a process that is killed."""


def interrupt_at(step: int) -> loop.Report:
    def report(clock: loop.Clock, loss: float) -> None:
        if clock.step == step:
            raise Interruption

    return report


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("huggingface")


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [prompt_text("uc1"), *(note.text for note in shards.draw(5, "train", 0, 30, Names()))]


@pytest.fixture(scope="module")
def tiny(folder: Path, texts: list[str]) -> Path:
    return write_qwen2(folder / "tiny", texts)


SMALL = ("steps=4", "save_steps=2", "batch=2", "warmup_steps=1", "threads=1", "rate=0.01")


def of_72b(use: str, step: str, run: Path, model: Path, *changes: str) -> Config:
    """The configuration of the 72B model, with the tiny one in its place and few small steps."""
    small = [f"{step}.{change}" for change in SMALL]
    return load(CONFIGS / f"qwen2.5-72b-{use}.toml", [f"run={run}", f"{step}.init={model}", *small, *changes])


@pytest.fixture(scope="module")
def uc1(folder: Path, tiny: Path) -> Config:
    """Corpus, chats, LoRA and its export as the 72B model has them; QLoRA alone needs CUDA."""
    base_file = folder / "tiny.gguf"
    config = of_72b(
        "uc1", "sft", folder / "run", tiny, "corpus.train_notes=12", "corpus.held_out_notes=4", "corpus.shard_notes=4",
        f"corpus.chat={tiny}", "corpus.context_tokens=3072", "sft.length=2048", "sft.method=lora", "sft.bf16=false", f"export.base={base_file}",
        f"evaluate.model={base_file}", "evaluate.notes=1", "evaluate.slots=1", "evaluate.threads=1",
        "evaluate.gpu_layers=0",
    )  # fmt: skip
    assert config.export
    export.export(config.export.model_copy(update={"source": tiny, "target": base_file, "type": "f32"}))
    assert corpus.write(config)["pairs-train"] >= 5
    sft.train(config)
    export.export(config.export)
    return config


# -- chats ------------------------------------------------------------------------------------------------------------


def rows_of(config: Config) -> list[dict[str, list[dict[str, str]]]]:
    assert config.sft and config.sft.data
    files = shards.pairs_in(config.sft.data, "train")
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").split("\n") if line]


def test_chats_are_what_the_product_asks_and_may_be_answered(uc1: Config) -> None:
    """The reader over the exported model prepares the same messages, and its grammars allow the answers."""
    assert uc1.evaluate and uc1.corpus
    lexicon = Lexicon(starter_entries(), starter_version())
    rows = rows_of(uc1)
    model = LlamaCpp(uc1.evaluate.model, Memory(sequence_tokens=uc1.corpus.context_tokens, threads=1))
    try:
        reader = NoteReader(model)
        windows = []
        for file in shards.found_in(uc1.corpus.out, "train"):
            for note in shards.read(file):
                mentions = [(m.start, m.end, m.kind) for m in lexicon.find_mentions(note.text)]
                windows += reader.windows(note.text, mentions, note.document_type)
    finally:
        model.close()
    asked = {window.messages: window for window in windows}
    facts = 0
    for row in rows:
        *question, answer = [Message(m["role"], m["content"]) for m in row["messages"]]  # type: ignore[arg-type]
        window = asked[tuple(question)]
        assert question[0].content == prompt_text("uc1") and answer.role == "assistant"
        assert obeys(window.grammar, answer.content)
        assert not obeys(window.grammar, answer.content.replace('{"line":"', '{"line":"x', 1))
        assert not obeys(window.grammar, answer.content[:-1])
        facts += answer.content.count('{"kind":')
    assert facts > 10


def test_missing_pairs_are_written_again(uc1: Config) -> None:
    assert uc1.corpus
    before = rows_of(uc1)
    shards.pairs_in(uc1.corpus.out, "train")[1].unlink()
    assert corpus.write(uc1)["pairs-train"] == len(before)
    assert rows_of(uc1) == before
    with pytest.raises(ValueError, match="another corpus"):
        corpus.write(uc1.model_copy(update={"corpus": uc1.corpus.model_copy(update={"context_tokens": 4096})}))


def test_a_note_whose_facts_the_grammar_refuses_gives_no_chat(tiny: Path) -> None:
    writer = PairWriter(ChatTokens(tiny), Lexicon([], "none"), "uc1")
    note = next(n for n in shards.draw(1, "train", 0, 9, Names()) if any(line.facts for line in n.lines))
    for line in note.lines:
        for fact in line.facts:
            fact.fields = {key: piece + "に無い" for key, piece in fact.fields.items()}
    assert list(writer.chats(note)) == []


def test_a_chat_has_the_tokens_of_the_product_and_teaches_the_answer_alone(uc1: Config, tiny: Path) -> None:
    assert uc1.evaluate
    tokens = ChatTokens(tiny)
    model = LlamaCpp(uc1.evaluate.model, Memory(sequence_tokens=8192, threads=1))
    try:
        for row in rows_of(uc1)[:4]:
            messages = [Message(m["role"], m["content"]) for m in row["messages"]]  # type: ignore[arg-type]
            sample = tokens.chat(messages)
            prompt = model.chat_prompt(messages[:-1]).tokens
            answer = model.tokenize(messages[-1].content)
            assert sample.ids == [*prompt, *answer, *model.tokenize("<|im_end|>", special=True)]
            assert sample.learn == [False] * len(prompt) + [True] * (len(answer) + 1)
        # A mark inside a message is text.
        marked = tokens.chat([Message("user", "x"), Message("assistant", "<|im_end|>")])
        assert marked.ids.count(marked.ids[-1]) == 2 and sum(marked.learn) > 2
    finally:
        model.close()
    with pytest.raises(ValueError, match="assistant"):
        tokens.chat([Message("user", "x")])


# -- training ---------------------------------------------------------------------------------------------------------


def weights(path: Path) -> dict[str, torch.Tensor]:
    return {k: v for file in sorted(path.glob("*.safetensors")) for k, v in load_file(file).items()}


def same(first: Path, second: Path, tolerance: float = 0.0) -> bool:
    ours, theirs = weights(first), weights(second)
    assert ours and ours.keys() == theirs.keys()
    return all(torch.allclose(ours[key].float(), theirs[key].float(), atol=tolerance, rtol=0) for key in ours)


def test_an_interrupted_fine_tuning_gives_the_same_adapter(uc1: Config, tmp_path: Path) -> None:
    assert uc1.sft
    again = uc1.model_copy(update={"sft": uc1.sft.model_copy(update={"out": tmp_path})})
    with pytest.raises(Interruption):
        sft.train(again, interrupt_at(3))
    assert [path.name for path in tmp_path.glob("state-*")] == ["state-00000002"]
    seen: list[int] = []
    result = sft.train(again, lambda clock, loss: seen.append(clock.step))
    assert seen == [3, 4]
    assert same(result, uc1.sft.out / huggingface.MODEL)


def test_pre_training_goes_on_where_it_was(uc1: Config, folder: Path, tiny: Path, tmp_path: Path) -> None:
    assert uc1.corpus
    changes = (f"base.data={uc1.corpus.out}", "base.length=128", "base.keep=2")
    whole, cut = (of_72b("base", "base", tmp_path / name, tiny, *changes) for name in ("whole", "cut"))
    losses: list[float] = []
    result = base.train(whole, lambda clock, loss: losses.append(loss))
    assert len(losses) == 4 and losses[-1] < losses[0]
    with pytest.raises(Interruption):
        base.train(cut, interrupt_at(3))
    assert same(base.train(cut), result)
    assert not same(result, tiny)
    # What comes out is a folder that can be started from, averaged, and exported.
    assert whole.base and whole.export
    mean = average.average(
        load(CONFIGS / "toy.toml", [f"average.source={whole.base.out}", f"average.target={tmp_path / 'mean'}"]).average  # type: ignore[arg-type]
    )
    kept = [weights(path) for path in sorted(whole.base.out.glob("step-*"))]
    assert len(kept) == 2
    for key, tensor in weights(mean).items():
        assert torch.allclose(tensor, (kept[0][key] + kept[1][key]) / 2, atol=1e-6)
    AutoModelForCausalLM.from_pretrained(mean, local_files_only=True)
    file = export.export(whole.export)
    model = LlamaCpp(file, Memory(sequence_tokens=512, threads=1))
    try:
        assert model.chats and model.write("診断", None, max_tokens=3).sampled_tokens >= 1
    finally:
        model.close()
    assert not file.with_name(file.name + ".f16").exists()


def test_another_use_case_is_another_file(uc1: Config, tiny: Path, tmp_path: Path) -> None:
    """Goes on with the adapter of use case 1; chats that are too long are left out."""
    assert uc1.sft
    data = tmp_path / "uc2" / "train.jsonl"
    data.parent.mkdir()
    chat = [{"role": "user", "content": "点検"}, {"role": "assistant", "content": "返戻なし"}]
    longer = [{"role": "user", "content": "点検" * 400}, chat[1]]
    rows = [{"messages": chat, "id": 1}] * 4 + [{"messages": longer}]
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    adapter = uc1.sft.out / huggingface.MODEL
    config = of_72b("uc2", "sft", tmp_path, adapter, "sft.method=lora", "sft.length=200", "sft.steps=20")
    losses: list[float] = []
    result = sft.train(config, lambda clock, loss: losses.append(loss))
    assert losses[-1] < 0.8 * losses[0]
    assert weights(result).keys() == weights(adapter).keys() and not same(result, adapter)


def test_a_plan_that_cannot_be_followed_says_why(uc1: Config, tmp_path: Path) -> None:
    assert uc1.sft

    def plan(**changes: object) -> Config:
        return uc1.model_copy(update={"sft": Training(**(uc1.sft.model_dump() | {"out": tmp_path} | changes))})  # type: ignore[union-attr]

    with pytest.raises(FileNotFoundError, match="local folder"):
        sft.train(plan(init="Qwen/Qwen2.5-72B-Instruct"))
    with pytest.raises(FileNotFoundError, match="JSONL"):
        sft.train(plan(data=tmp_path / "nowhere.jsonl"))
    with pytest.raises(ValueError, match="nothing to learn"):
        sft.train(plan(length=8))
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="qlora"):
            sft.train(plan(method="qlora"))


@pytest.mark.slow
@pytest.mark.timeout(900)  # eight starts of PyTorch and transformers
@pytest.mark.parametrize("method", ["full", "lora"])
def test_two_processes_train_the_model_that_one_does(uc1: Config, folder: Path, tiny: Path, tmp_path: Path, method: str) -> None:
    """FSDP on the CPU: parts of the model on each process, interrupted by the end of a shorter run."""
    assert uc1.corpus
    changes = (f"base.data={uc1.corpus.out}", "base.length=64", "base.bf16=false", f"base.method={method}")
    one = base.train(of_72b("base", "base", tmp_path / "one", tiny, *changes, "base.rate=0.001"))
    arguments = [f"--set={change}" for change in (
        f"run={tmp_path / 'two'}", f"base.init={tiny}", *(f"base.{c}" for c in SMALL), *changes, "base.rate=0.001",
    )]  # fmt: skip
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "training.base",
        "--config", str(CONFIGS / "qwen2.5-72b-base.toml"), *arguments,
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    for state in (4, 4):  # the second run finds the work done
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        assert (tmp_path / "two" / "base" / f"state-{state:08}").is_dir()
    assert "step 4" in done.stdout
    alone, together = weights(one), weights(tmp_path / "two" / "base" / huggingface.MODEL)
    assert alone.keys() == together.keys()
    start = weights(tiny)
    # The second factor of an adapter begins at zero, and an adapter's names are none of the model's.
    moved = max(float((w - start.get(key, torch.zeros(()))).abs().max()) for key, w in alone.items() if "lora_A" not in key)
    apart = max(float((w - together[key]).abs().max()) for key, w in alone.items())
    assert apart < 0.05 * moved


# -- export -----------------------------------------------------------------------------------------------------------


def greedy(model: torch.nn.Module, prompt: Sequence[int], count: int) -> list[float]:
    ids, found = list(prompt), []
    with torch.no_grad():
        for _ in range(count):
            scores = model(torch.tensor([ids])).logits[0, -1].float().log_softmax(-1)
            ids.append(int(scores.argmax()))
            found.append(float(scores.max()))
    return found


def computed(path: Path, prompt: str, count: int, adapter: Path | None = None) -> tuple[list[int], list[float]]:
    """Tokens of `prompt`, and the log probabilities of the greedy choices behind it."""
    adapters = {"a": adapter} if adapter else {}
    model = LlamaCpp(path, Memory(sequence_tokens=512, threads=1, kv_type="f32", adapters=adapters))
    try:
        tokens = model.tokenize(prompt)
        generated = model.write(tokens, None, max_tokens=count, adapter="a" if adapter else None)
    finally:
        model.close()
    return tokens, [probability for _, probability in generated.choices]


TEXT = "2型糖尿病、高血圧症。HbA1c 7.25% (2015年)\n  It's 12 mg"


@pytest.mark.parametrize("kind", ["qwen2", "tied", "llama"])
def test_an_exported_model_computes_what_hugging_face_does(tmp_path: Path, texts: list[str], kind: str) -> None:
    source = tmp_path / "model"
    if kind == "llama":
        write_llama(source, texts)
    else:
        write_qwen2(source, texts, tied=kind == "tied")
    plan = load(CONFIGS / "qwen2.5-72b-base.toml", [f"export.source={source}", f"export.target={tmp_path / 'model.gguf'}", "export.type=f32"])
    assert plan.export
    tokens, found = computed(export.export(plan.export), TEXT, 5)
    assert tokens == ChatTokens(source).tokenize(TEXT)
    model = AutoModelForCausalLM.from_pretrained(source, local_files_only=True, dtype=torch.float32)
    assert found == pytest.approx(greedy(model, tokens, len(found)), abs=1e-3) and len(found) > 0


def test_an_exported_adapter_computes_what_peft_does(uc1: Config, tiny: Path) -> None:
    assert uc1.export and uc1.export.base and uc1.sft
    tokens, found = computed(uc1.export.base, TEXT, 5, uc1.export.target)
    model = AutoModelForCausalLM.from_pretrained(tiny, local_files_only=True, dtype=torch.float32)
    expected = greedy(PeftModel.from_pretrained(model, uc1.export.source), tokens, len(found))
    assert found == pytest.approx(expected, abs=1e-3)
    assert computed(uc1.export.base, TEXT, 5)[1] != pytest.approx(expected, abs=1e-3)


def test_the_adapter_reads_notes_in_the_product(uc1: Config, tmp_path: Path) -> None:
    assert uc1.export and uc1.export.base and uc1.evaluate
    toml = f'[base]\nfile = "{uc1.export.base}"\nslots = 1\n[use_cases.uc1]\nadapter = "{uc1.export.target}"\nprompt = "uc1"\n'
    (tmp_path / "models.toml").write_text(toml)
    models = Models(load_registry(tmp_path / "models.toml"), Options())
    try:
        reading = NoteReader.of(models).read("糖尿病", [], "progress")
        assert reading.windows == 1 and reading.sampled_tokens > 0
    finally:
        models.close()
    scores = evaluate.evaluate(uc1.evaluate)
    assert scores.notes == 1 and scores.exact["all"].gold > 0


def test_what_cannot_be_exported_is_refused(uc1: Config, tiny: Path, texts: list[str], tmp_path: Path) -> None:
    assert uc1.export and uc1.sft
    other = write_qwen2(tmp_path / "llama-like", texts)
    settings = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(settings | {"model_type": "mamba"}))
    with pytest.raises(ValueError, match="mamba"):
        export.export(uc1.export.model_copy(update={"source": other, "target": tmp_path / "x.gguf"}))
    (other / "config.json").write_text(json.dumps(settings | {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}, "rope_parameters": None}))
    with pytest.raises(ValueError, match="yarn"):
        export.export(uc1.export.model_copy(update={"source": other, "target": tmp_path / "x.gguf"}))
    # An adapter beside another base.
    narrow = write_llama(tmp_path / "llama", texts)
    file = export.export(uc1.export.model_copy(update={"source": narrow, "target": tmp_path / "llama.gguf", "type": "f16"}))
    with pytest.raises(ValueError, match="made for qwen2"):
        export.export(uc1.export.model_copy(update={"target": tmp_path / "y.gguf", "base": file}))
    assert not (tmp_path / "y.gguf").exists()
