"""The pipeline of our own decoder, from a seed to a GGUF that reads notes, whole and interrupted."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs PyTorch")
import torch

from app.generation import form
from app.generation.context import Memory
from app.generation.llama import LlamaCpp
from app.generation.reader import NoteReader, source_lines
from app.generation.segments import fold
from app.terminology.entries import starter_entries, starter_version
from app.terminology.matching import Lexicon
from schemas.statement import Field, Kind
from training import average, base, batches, decoder, evaluate, export, loop, sft, shards
from training.config import BadConfig, Config, load
from training.corpus import __main__ as corpus
from training.corpus.core import Fact, Line
from training.corpus.names import Names
from training.qwen2 import Qwen2, Shape
from training.regroup import regroup

pytestmark = pytest.mark.train
CONFIGS = Path(__file__).resolve().parents[2] / "training" / "configs"


class Interruption(Exception):
    """Stands for a process that is killed."""


def interrupt_at(step: int) -> loop.Report:
    def report(clock: loop.Clock, loss: float) -> None:
        if clock.step == step:
            raise Interruption

    return report


def toy(folder: Path, *changes: str) -> Config:
    return load(CONFIGS / "toy.toml", [f"run={folder}", *changes])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The toy configuration, all its steps done."""
    config = toy(tmp_path_factory.mktemp("toy"))
    assert config.average and config.export
    assert corpus.write(config) == {"train": 16, "held-out": 8}
    base.train(config)
    sft.train(config)
    average.average(config.average)
    export.export(config.export)
    return config


# -- the whole way ----------------------------------------------------------------------------------------------------


def test_the_model_of_the_pipeline_reads_held_out_notes(run: Config) -> None:
    assert run.evaluate and run.evaluate.report
    scores = evaluate.evaluate(run.evaluate)
    assert scores.notes == 1 and not scores.unread
    assert scores.name["all"].gold == sum(scores.name[kind.value].gold for kind in Kind) > 0
    assert len(list(evaluate.table(scores))) == len(Kind) + 3
    assert '"exact"' in run.evaluate.report.read_text(encoding="utf-8")


def test_what_the_model_writes_obeys_the_grammar(run: Config) -> None:
    """Drawn at random as well: a model that knows nothing still copies from the note and ends."""
    assert run.export
    text = "2型糖尿病、高血圧症\nHbA1c 7.2%\nペニシリンで発疹"
    lexicon = Lexicon(starter_entries(), starter_version())
    mentions = [(m.start, m.end, m.kind) for m in lexicon.find_mentions(text)]
    model = LlamaCpp(run.export.target, Memory(sequence_tokens=2048, threads=1))
    try:
        reader = NoteReader(model)
        assert reader.compact
        readings = [reader.read(text, mentions, "progress", temperature=1.0, seed=seed) for seed in range(3)]
    finally:
        model.close()
    written = [one for reading in readings for one in reading.written]
    assert written
    lines = [fold(line) for line in text.split("\n")]
    for one in written:
        assert one.fields[Field.NAME] in lines[one.line]


def test_an_interrupted_run_gives_the_same_files(run: Config, tmp_path: Path) -> None:
    again = toy(tmp_path)
    assert run.corpus and again.corpus and again.base and again.sft and again.average and again.export and run.export
    corpus.write(again)
    shards.path_of(again.corpus.out, "train", 1).unlink()
    corpus.write(again)
    for file in run.corpus.out.glob("*.jsonl"):
        assert file.read_bytes() == (again.corpus.out / file.name).read_bytes()
    # Killed one step behind the checkpoint of step 2, whose work is lost.
    for train, plan in ((base.train, again.base), (sft.train, again.sft)):
        with pytest.raises(Interruption):
            train(again, interrupt_at(3))
        assert decoder.load(plan.out)["step"] == 2
        train(again)
        assert decoder.load(plan.out)["step"] == plan.steps
    average.average(again.average)
    export.export(again.export)
    assert again.export.target.read_bytes() == run.export.target.read_bytes()


def test_a_finished_training_is_left_as_it_is(run: Config) -> None:
    assert run.sft
    before = (run.sft.out / decoder.CHECKPOINT).read_bytes()
    seen: list[int] = []
    sft.train(run, lambda clock, loss: seen.append(clock.step))
    assert not seen and (run.sft.out / decoder.CHECKPOINT).read_bytes() == before


def test_training_lowers_the_loss_and_can_go_on(run: Config, tmp_path: Path) -> None:
    assert run.sft
    plan = run.sft.model_copy(update={"out": tmp_path, "init": run.sft.out / "average.pt", "steps": 12, "rate": 0.01})
    losses: list[float] = []
    sft.train(run.model_copy(update={"sft": plan}), lambda clock, loss: losses.append(loss))
    assert len(losses) == 12 and losses[-1] < losses[0]
    assert (tmp_path / decoder.TOKENIZER).read_bytes() == (run.sft.out / decoder.TOKENIZER).read_bytes()


def test_minutes_end_a_training(run: Config, tmp_path: Path) -> None:
    assert run.sft
    plan = run.sft.model_copy(update={"out": tmp_path, "steps": None, "minutes": 1e-4, "save_steps": None})
    sft.train(run.model_copy(update={"sft": plan}))
    assert decoder.load(tmp_path)["step"] == 1


@pytest.mark.parametrize("weights", ["f32", "f16", "q8_0", "q4_k_m"])
def test_the_exported_model_computes_what_was_trained(run: Config, tmp_path: Path, weights: str) -> None:
    """Greedy: the probabilities of its choices, step by step, are PyTorch's."""
    assert run.export
    target = export.export(run.export.model_copy(update={"target": tmp_path / "model.gguf", "type": weights}))
    state = decoder.load(run.export.source)
    trained = Qwen2(decoder.shape_of(state))
    trained.load_state_dict({key: tensor.clone() for key, tensor in state["model"].items()})
    model = LlamaCpp(target, Memory(sequence_tokens=512, threads=1, kv_type="f32"))
    try:
        prompt = [model.begin_token, *model.tokenize("2型糖尿病 HbA1c 7.2%")]
        generated = model.write(prompt, None, max_tokens=6)
    finally:
        model.close()
    expected = greedy(trained, prompt, 6)
    # The first choice is made before rounding can lead to another text.
    tolerance = {"f32": 1e-3, "f16": 1e-2, "q8_0": 0.1, "q4_k_m": 1.0}[weights]
    count = 6 if weights == "f32" else 1
    assert [p for _, p in generated.choices][:count] == pytest.approx(expected[:count], abs=tolerance)


def greedy(model: Qwen2, prompt: Sequence[int], count: int) -> list[float]:
    """Log probabilities of the most probable tokens."""
    ids, found = list(prompt), []
    with torch.no_grad():
        for _ in range(count):
            scores = (model(torch.tensor([ids]))[0, -1] @ model.embedding.weight.T).log_softmax(-1)
            ids.append(int(scores.argmax()))
            found.append(float(scores.max()))
    return found


# -- shards -----------------------------------------------------------------------------------------------------------


def test_shards_hold_notes_facts_and_their_form(run: Config) -> None:
    assert run.corpus
    files = shards.found_in(run.corpus.out, "train")
    notes = [note for file in files for note in shards.read(file)]
    assert notes == [note for number in range(2) for note in shards.draw(1, "train", number, 8, Names())]
    held_out = [note for file in shards.found_in(run.corpus.out, "held-out") for note in shards.read(file)]
    assert held_out and not {note.text for note in notes} & {note.text for note in held_out}
    for note in notes:
        numbers = [number for number, line in enumerate(note.lines) if line.text.strip()]
        statements, complete = form.read(shards.written(note.lines), numbers)
        assert complete
        expected = [replace(shards.as_written(f), line=n) for n, line in enumerate(note.lines) for f in line.facts]
        assert [replace(one, confidence=None) for one in statements] == expected


def test_a_folder_holds_one_corpus(run: Config) -> None:
    with pytest.raises(ValueError, match="another corpus"):
        corpus.write(run.model_copy(update={"seed": 2}))


def test_a_file_that_is_no_shard_is_refused() -> None:
    """Gold notes with codes and dates are for bench.accuracy."""
    with pytest.raises(ValueError, match="no shard"):
        shards.read(CONFIGS.parents[1] / "tests" / "notes" / "gold.jsonl")


def test_long_lines_are_cut_as_the_reader_cuts_them() -> None:
    filler = "経過は良好で、食事も摂れている。" * 12
    facts = [Fact(Kind.CONDITION, {Field.NAME: "高血圧症"}), Fact(Kind.LAB, {Field.NAME: "CRP", Field.VALUE: "0.3"})]
    line = Line(f"高血圧症あり。{filler}CRP 0.3。{filler}", facts)
    cut = shards.as_read([Line("短い行"), line])
    assert [one.text for one in cut] == ["短い行", *(part.text for part in source_lines(line.text))]
    assert cut[1].facts == facts[:1] and next(one for one in cut if facts[1] in one.facts).text.startswith("CRP 0.3")
    # A fact that reaches over a cut keeps its line whole.
    wide = Line(f"CRP {filler}0.3", facts[1:])
    assert shards.as_read([wide]) == [wide]


# -- batches ----------------------------------------------------------------------------------------------------------


def taken(made: Iterator[batches.Batch], count: int) -> list[batches.Batch]:
    return [next(made) for _ in range(count)]


@pytest.mark.parametrize("task", ["form", "text"])
@pytest.mark.parametrize("stored", [True, False])
def test_batches_go_on_at_any_place(run: Config, task: str, stored: bool) -> None:
    assert run.sft and run.corpus
    folder = run.corpus.out if stored else None
    source = batches.Source(task, run.sft.out / decoder.TOKENIZER, 3, 300, 700, notes=4, folder=folder)  # type: ignore[arg-type]
    first = taken(batches.stream(source), 50)
    shard_ends = [at for at, batch in enumerate(first, 1) if batch.following[1] == 0]
    for done in (1, shard_ends[0], 30):
        assert taken(batches.stream(source, *first[done - 1].following), 50 - done) == first[done:]
    for batch in first:
        x, y = batch.tensors()
        assert x.shape == y.shape and x.shape[1] % batches.STRIDE == 0
        assert x.numel() == batch.tokens <= 700 or len(batch.samples) == 1
        for row, (ids, targets) in enumerate(batch.samples):
            assert len(ids) == len(targets) <= 300
            assert x[row, : len(ids)].tolist() == ids and (y[row, len(ids) :] == -1).all()
            assert all(t in (-1, following) for t, following in zip(targets, ids[1:], strict=False))


def test_a_feeder_gives_the_same_batches(run: Config) -> None:
    assert run.sft
    source = batches.Source("text", run.sft.out / decoder.TOKENIZER, 3, 300, 700, notes=4)
    feeder = batches.Feeder(source, 0, 1)
    try:
        assert taken(iter(feeder), 3) == taken(batches.stream(source), 4)[1:]
    finally:
        feeder.close()


# -- averaging --------------------------------------------------------------------------------------------------------


def test_the_average_is_the_mean_of_the_last_kept(run: Config) -> None:
    assert run.average and run.sft
    kept = decoder.kept(run.sft.out)
    assert [int(path.stem.removeprefix("step-")) for path in kept] == [4, 6]
    states = [decoder.load(path)["model"] for path in kept]
    averaged = decoder.load(run.average.target)
    assert averaged["step"] == 6
    for key, tensor in averaged["model"].items():
        assert torch.allclose(tensor, (states[0][key] + states[1][key]) / 2, atol=1e-7)
    assert not torch.equal(averaged["model"]["norm.weight"], states[1]["norm.weight"])


def test_nothing_kept_is_nothing_to_average(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keep"):
        average.average(toy(tmp_path).average)  # type: ignore[arg-type]


# -- other heads ------------------------------------------------------------------------------------------------------

EIGHT = Shape(50, 64, 2, heads=8, kv_heads=8, feed_forward=96, context=64)


def initialized(shape: Shape) -> Qwen2:
    torch.manual_seed(1)
    model = Qwen2(shape)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, 0, 0.02)
    return model


@pytest.mark.parametrize(("heads", "kv_heads"), [(8, 4), (4, 4), (4, 2), (2, 1)])
def test_regrouped_weights_fit_and_stay_close(heads: int, kv_heads: int) -> None:
    old = initialized(EIGHT)
    shape = replace(EIGHT, heads=heads, kv_heads=kv_heads)
    new = Qwen2(shape)
    new.load_state_dict(regroup(old.state_dict(), EIGHT, shape))
    fresh = Qwen2(shape)
    ids = torch.randint(0, 50, (2, 40))
    with torch.no_grad():
        wanted, got, other = (model(ids) for model in (old, new, fresh))
    assert (got - wanted).pow(2).mean() < 0.1 * (other - wanted).pow(2).mean()


def test_heads_that_look_alike_regroup_without_loss() -> None:
    """Pairs of heads with equal queries and keys, frequencies all equal (base 1): one head of double width with halved
    queries scores the same, and values stand side by side."""
    shape = replace(EIGHT, rope_base=1.0)
    old = initialized(shape)
    for name, parameter in old.named_parameters():
        if name.split(".")[-2] in ("q", "k"):
            parameter.data = parameter.data.view(4, 2, 8, -1)[:, :1].repeat(1, 2, 1, 1).reshape(parameter.shape) * 20
    halved = {key: t * 0.5 if ".q." in key else t for key, t in old.state_dict().items()}
    wide = replace(shape, heads=4, kv_heads=4)
    new = Qwen2(wide)
    new.load_state_dict(regroup(halved, shape, wide))
    ids = torch.randint(0, 50, (2, 40))
    with torch.no_grad():
        assert torch.allclose(old(ids), new(ids), atol=1e-4)


def test_frequencies_of_joined_heads_take_turns() -> None:
    """Rows of a query projection that carry their own number: head, then place."""
    rows = torch.arange(64.0)
    wide = replace(EIGHT, heads=4, kv_heads=4)
    weights = initialized(EIGHT).state_dict() | {"blocks.0.k.bias": rows, "blocks.0.v.bias": rows}
    made = regroup(weights, EIGHT, wide)
    # Heads 0 and 1 have rows 0-7 and 8-15; places 0-3 turn with 4-7 of the same head.
    assert made["blocks.0.k.bias"][:16].tolist() == [0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15]
    assert made["blocks.0.v.bias"].tolist() == rows.tolist()


@pytest.mark.parametrize("change", [{"width": 32}, {"heads": 3}, {"heads": 4, "kv_heads": 3}, {"layers": 1}])
def test_shapes_that_do_not_regroup_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="regroup"):
        regroup({}, EIGHT, replace(EIGHT, **change))


def test_a_training_starts_from_other_heads(run: Config, tmp_path: Path) -> None:
    assert run.sft and run.decoder
    plan = run.sft.model_copy(update={"out": tmp_path, "init": run.sft.out, "steps": 1})
    narrow = run.decoder.model_copy(update={"heads": 2, "kv_heads": 1})
    sft.train(run.model_copy(update={"sft": plan, "decoder": narrow}))
    shape = decoder.shape_of(decoder.load(tmp_path))
    assert (shape.heads, shape.kv_heads) == (2, 1)
    with pytest.raises(ValueError, match="another shape"):
        sft.train(run.model_copy(update={"sft": plan.model_copy(update={"steps": 2})}))


def test_checkpoints_without_kv_heads_and_place_are_understood(run: Config, tmp_path: Path) -> None:
    """The format of earlier trainings: every head has its keys, and the data were not numbered."""
    assert run.sft and run.export and run.decoder
    tokenizer = tmp_path / decoder.TOKENIZER
    tokenizer.write_bytes((run.sft.out / decoder.TOKENIZER).read_bytes())
    shape = replace(decoder.shape_of(decoder.load(run.sft.out)), kv_heads=4)
    old = {key: value for key, value in shape.as_dict().items() if key != "kv_heads"}
    model = initialized(shape)
    state = {"model": model.state_dict(), "shape": old, "spent": 60.0, "step": 40, "tokens": 9000}
    optimizers = decoder._optimizers(model, run.sft)
    decoder.write(tmp_path / decoder.CHECKPOINT, state | {"optimizers": [o.state_dict() for o in optimizers]})
    clock = loop.Clock.of(state)
    assert (clock.step, clock.shard, clock.batch) == (40, 40, 0)
    target = export.export(run.export.model_copy(update={"source": tmp_path, "target": tmp_path / "old.gguf"}))
    LlamaCpp(target, Memory(sequence_tokens=512, threads=1)).close()
    plan = run.sft.model_copy(update={"out": tmp_path, "steps": 41, "keep": 0})
    sft.train(run.model_copy(update={"sft": plan, "decoder": run.decoder.model_copy(update={"kv_heads": 4})}))
    assert decoder.load(tmp_path)["step"] == 41


# -- configuration ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_the_configurations_that_are_shipped_are_sound(path: Path) -> None:
    config = load(path)
    assert config.export and "{run}" not in str(config)


def test_the_shipped_model_has_the_shape_of_its_configuration() -> None:
    config = load(CONFIGS / "small.toml")
    assert config.decoder
    made = decoder._shape(config.decoder, 4096)
    assert made == Shape(4096)


@pytest.mark.parametrize(("change", "key"), [
    ("sft.stepps=3", "sft.stepps"), ("sft.steps=0", "sft.steps"), ("sft.minutes=3", "steps and minutes"), ("sft", "table.key"),
    ("corpus.out=3", "corpus.out"), ("export.type=q2_k", "export.type"),
])  # fmt: skip
def test_a_wrong_key_is_named(change: str, key: str) -> None:
    with pytest.raises(BadConfig, match=key):
        load(CONFIGS / "toy.toml", [change])


def test_the_rate_warms_up_and_falls() -> None:
    plan = toy(Path("x"), "sft.steps=100", "sft.warmup_steps=10", "sft.rate=1.0").sft
    assert plan
    rates = [loop.rate(plan, loop.Clock(step=step)) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == rates[9] > 0.95
    assert rates[9:] == sorted(rates[9:], reverse=True) and rates[-1] == pytest.approx(0.05, abs=2e-3)
