"""A LoRA adapter on our own decoder: trained, interrupted, exported, and beside its base in the product's engine."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs PyTorch")
import torch

from app.generation.context import Memory
from app.generation.llama import LlamaCpp
from app.generation.modelfile import read_model_file
from training import average, base, batches, decoder, export, loop, lora
from training.config import Average, Config, Export, Training, load
from training.corpus import __main__ as corpus
from training.encode import Codec
from training.qwen2 import Qwen2

pytestmark = pytest.mark.train
CONFIGS = Path(__file__).resolve().parents[2] / "training" / "configs"
TEXT = "2型糖尿病 HbA1c 7.2%"


@dataclass(frozen=True)
class Sums:
    """A supply that is no corpus: a shard is a few sums of numbers, with loss on the result."""

    tokenizer: Path
    seed: int
    tokens: int

    def open(self) -> batches.Draw:
        codec = Codec.load(self.tokenizer)

        def draw(number: int, rng: random.Random) -> list[batches.Sample]:
            made = []
            for first in range(number % 3, 9):  # shards of several sizes
                second = rng.randrange(100)
                asked, said = codec.text(f"{first}+{second}="), codec.text(f"{first + second}")
                made.append((asked + said[:-1], [-1] * (len(asked) - 1) + said))
            return made

        return draw


def train(config: Config, plan: Training, report: loop.Report = loop.print_report) -> Path:
    return decoder.train(config, plan, lambda tokenizer: Sums(tokenizer, config.seed, 512), report, form="sums-1")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The toy decoder, and an adapter trained on it for three steps, which stand under `sft`."""
    folder = tmp_path_factory.mktemp("lora")
    config = load(CONFIGS / "toy.toml", [
        f"run={folder}", "sft.method=lora", "sft.rank=4", "sft.alpha=8", "sft.rate=0.05", "sft.steps=3",
        "base.steps=2", 'sft.targets=["q", "v", "o", "down"]',
    ])  # fmt: skip
    assert config.sft
    corpus.write(config)
    base.train(config)
    train(config, config.sft)
    return config


def changed(plan: Training, **changes: object) -> Training:
    return Training(**(plan.model_dump() | changes))


class Interruption(Exception):
    """Stands for a process that is killed."""


def killed_at_3(clock: loop.Clock, loss: float) -> None:
    if clock.step == 3:
        raise Interruption


# -- training ---------------------------------------------------------------------------------------------------------


def test_only_the_factors_are_trained_and_the_base_stays_bit_for_bit(made: Config) -> None:
    assert made.sft and made.base
    below = decoder.load(made.base.out)
    model = Qwen2(decoder.shape_of(below))
    model.load_state_dict(below["model"])
    with torch.no_grad():
        ids = torch.randint(0, 500, (2, 130))
        before = model(ids)
        trained = lora.attach(model, 4, 8, ("down_proj", "q"))
        assert torch.equal(model(ids), before)
    assert [p for p in model.parameters() if p.requires_grad] == trained and len(trained) == 2 * 2 * model.shape.layers
    optimizer = torch.optim.AdamW(trained, lr=0.05)
    for _ in range(3):
        with torch.autocast("cpu", torch.bfloat16):
            loss = model.loss(ids, ids)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    after = {name.replace(".base.", "."): tensor for name, tensor in model.state_dict().items()}
    assert all(torch.equal(after[name], tensor) for name, tensor in below["model"].items())
    assert all(factor.abs().max() > 0 for factor in lora.state(model).values())
    assert not torch.equal(model(ids), before)


def test_the_checkpoint_holds_the_adapter_and_names_its_base(made: Config) -> None:
    assert made.sft and made.base
    state = decoder.load(made.sft.out)
    assert "model" not in state and state["step"] == 3
    assert (state["rank"], state["alpha"], state["targets"]) == (4, 8.0, ["q", "v", "o", "down"])
    assert state["base"] == lora.fingerprint(decoder.load(made.base.out)["model"])
    assert sorted(state["adapter"]) == sorted(
        f"blocks.{block}.{name}.{part}" for block in (0, 1) for name in ("q", "v", "o", "down") for part in "ab"
    )
    assert (made.sft.out / decoder.TOKENIZER).read_bytes() == (made.base.out / decoder.TOKENIZER).read_bytes()


def test_an_interrupted_training_gives_the_same_adapter(made: Config, tmp_path: Path) -> None:
    """Killed one step behind the checkpoint of step 2, whose work is lost; the other batches come from a feeder."""
    assert made.sft
    plan = changed(made.sft, out=tmp_path, feeder=True)
    with pytest.raises(Interruption):
        train(made, plan, killed_at_3)
    assert decoder.load(tmp_path)["step"] == 2
    seen: list[int] = []
    train(made, plan, lambda clock, loss: seen.append(clock.step))
    whole, again = decoder.load(made.sft.out), decoder.load(tmp_path)
    assert seen == [3] and (whole["shard"], whole["batch"]) == (again["shard"], again["batch"])
    assert all(torch.equal(factor, again["adapter"][name]) for name, factor in whole["adapter"].items())


def test_training_lowers_the_loss(made: Config, tmp_path: Path) -> None:
    assert made.sft
    losses: list[float] = []
    train(made, changed(made.sft, out=tmp_path, steps=60), lambda clock, loss: losses.append(loss))
    assert losses[-1] < losses[0] - 0.05


def test_what_does_not_belong_together_is_refused(made: Config, tmp_path: Path) -> None:
    assert made.sft and made.base
    plan = changed(made.sft, steps=4)
    refused: list[tuple[dict[str, object], str]] = [
        ({"rank": 8}, "another rank"), ({"alpha": 4}, "another alpha"), ({"targets": ("q",)}, "another targets"),
        ({"method": "full"}, "another method"), ({"method": "qlora"}, "Hugging Face"),
    ]  # fmt: skip
    for changes, reason in refused:
        with pytest.raises(ValueError, match=reason):
            train(made, changed(plan, **changes))
    with pytest.raises(ValueError, match="another method"):
        train(made, changed(plan, out=made.base.out))
    new = changed(plan, out=tmp_path / "new")
    refused = [({"targets": ("embed_tokens",)}, "embed_tokens"), ({"init": made.sft.out}, "no model to start from")]
    for changes, reason in refused:
        with pytest.raises(ValueError, match=reason):
            train(made, changed(new, **changes))
    with pytest.raises(ValueError, match="init"):
        train(made, changed(new, out=made.base.out, init=None))
    assert made.decoder
    wide = made.model_copy(update={"decoder": made.decoder.model_copy(update={"feed_forward": 192})})
    with pytest.raises(ValueError, match="another shape"):
        train(wide, new)


# -- export -----------------------------------------------------------------------------------------------------------


def greedy(model: Qwen2, prompt: Sequence[int], count: int) -> tuple[list[int], list[float]]:
    """The most probable tokens and their log probabilities."""
    ids, found = list(prompt), []
    with torch.no_grad():
        for _ in range(count):
            scores = (model(torch.tensor([ids]))[0, -1] @ model.embedding.weight.T).log_softmax(-1)
            ids.append(int(scores.argmax()))
            found.append(float(scores.max()))
    return ids[len(prompt) :], found


def test_an_exported_adapter_computes_what_the_merged_model_does(made: Config, tmp_path: Path) -> None:
    """And so does the model that it was trained in; the base beside it stays what it was."""
    assert made.sft and made.base
    file = export.export(Export(source=made.base.out, target=tmp_path / "base.gguf", type="f32"))
    # q4_k_m is for models; an adapter is written as it is.
    plan = Export(source=made.sft.out, target=tmp_path / "lora.gguf", type="q4_k_m", name="sums", base=file)
    adapter = read_model_file(export.export(plan))
    half = export.export(plan.model_copy(update={"target": tmp_path / "half.gguf", "type": "f16"}))
    assert half.stat().st_size < plan.target.stat().st_size
    assert adapter.text("hyojun.form") == "sums-1" and adapter.metadata["adapter.lora.alpha"] == 8.0
    below, state = decoder.load(made.base.out), decoder.load(made.sft.out)
    shape = decoder.shape_of(below)
    alone, merged, live = Qwen2(shape), Qwen2(shape), Qwen2(shape)
    alone.load_state_dict(below["model"])
    merged.load_state_dict(lora.merged(below["model"], state))
    live.load_state_dict(below["model"])
    lora.attach(live, state["rank"], state["alpha"], state["targets"])
    lora.load_state(live, state["adapter"])
    adapters = {"whole": plan.target, "half": half}
    model = LlamaCpp(file, Memory(sequence_tokens=512, threads=1, kv_type="f32", adapters=adapters))
    try:
        prompt = [model.begin_token, *model.tokenize(TEXT)]
        with_it, rounded, without = (
            model.write(prompt, None, max_tokens=6, adapter=name) for name in ("whole", "half", None)
        )
        tokens, expected = greedy(merged, prompt, len(with_it.choices))
        text = b"".join(model.piece(token) for token in tokens).decode("utf-8", "replace")
    finally:
        model.close()
    assert greedy(live, prompt, 6)[1] == pytest.approx(expected, abs=1e-4)
    assert with_it.text == text
    assert [p for _, p in with_it.choices] == pytest.approx(expected, abs=1e-3) and len(expected) > 1
    assert rounded.choices[0][1] == pytest.approx(expected[0], abs=1e-3)
    found = [p for _, p in without.choices]
    assert found == pytest.approx(greedy(alone, prompt, len(found))[1], abs=1e-3)
    assert found[0] != pytest.approx(expected[0], abs=1e-2)


def test_an_adapter_beside_another_base_is_not_written(made: Config, tmp_path: Path) -> None:
    assert made.sft and made.base
    state = decoder.load(made.base.out)
    narrow = Qwen2(decoder.Shape(512, 32, 2, 4, 2, 128))
    state |= {"model": narrow.state_dict(), "shape": narrow.shape.as_dict()}
    decoder.write(tmp_path / decoder.CHECKPOINT, state)
    (tmp_path / decoder.TOKENIZER).write_bytes((made.base.out / decoder.TOKENIZER).read_bytes())
    file = export.export(Export(source=tmp_path, target=tmp_path / "narrow.gguf", type="f32"))
    with pytest.raises(ValueError, match=r"32 by 32 in the model, 64 by 64 in the adapter"):
        export.export(Export(source=made.sft.out, target=tmp_path / "lora.gguf", base=file))
    assert not (tmp_path / "lora.gguf").exists()


def test_the_mean_of_adapters_is_one(made: Config, tmp_path: Path) -> None:
    assert made.sft
    train(made, changed(made.sft, out=tmp_path, keep=2))
    kept = [decoder.load(path) for path in decoder.kept(tmp_path)]
    assert [state["step"] for state in kept] == [2, 3]
    mean = average.average(Average(source=tmp_path, target=tmp_path / "average.pt"))
    for name, factor in decoder.load(mean)["adapter"].items():
        assert torch.allclose(factor, (kept[0]["adapter"][name] + kept[1]["adapter"][name]) / 2, atol=1e-7)
    export.export(Export(source=mean, target=tmp_path / "mean.gguf"))
    assert read_model_file(tmp_path / "mean.gguf").text("adapter.type") == "lora"
