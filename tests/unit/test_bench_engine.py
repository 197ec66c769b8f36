"""The measurements of the engine on toy models: what matters is that every way runs and tells what it found."""

import json
import sys
from pathlib import Path

import gguf
import llguidance
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

from app.generation import grammar
from app.generation.context import Memory
from app.generation.llama import LlamaCpp
from app.generation.reader import Window
from bench import engine
from bench.engine_facts import agreement, context_and_vocabulary, kv_bytes, partings
from bench.engine_paths import Round, Task, Work, Written
from bench.llama_server import LlamaServer, gbnf, loose_lark
from bench.random_weights import SHAPES, Shape, _blocks, _tensors, vocabulary, write
from schemas.note import ChartNote
from schemas.statement import Kind

ROOT = Path(__file__).resolve().parents[2]
TOY = Shape(width=64, layers=2, heads=4, kv_heads=2, feed_forward=256, vocabulary=640, tied=True, tokens=600, notes=20)
LINES = [grammar.Line(0, "2型糖尿病、HbA1c 7.2%", ((0, 5, Kind.CONDITION),)), grammar.Line(1, "アムロジピン 5mg")]
SAMPLE = sorted((ROOT / "samples").glob("*.json"))[0]
NOTE = ChartNote.model_validate_json(SAMPLE.read_bytes())
LARK = grammar.build(LINES, grammar.PLAIN)


@pytest.fixture(scope="module", params=["q4_k_m", "q8_0"])
def toy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("toy") / f"toy-{request.param}.gguf"
    write(path, TOY, request.param)
    return path


def test_random_weights_obey_a_grammar(toy: Path) -> None:
    assert context_and_vocabulary(toy) == (32768, 640)
    model = LlamaCpp(toy, Memory(sequence_tokens=2048, threads=1))
    try:
        assert model.chats
        assert kv_bytes(model, "f16", 100) == 2 * 2 * 16 * 2 * 100 * 2  # layers, heads, head, keys and values, bytes
        text = "日本語と English, 12.5"
        assert b"".join(map(model.piece, model.tokenize(text))).decode() == text
        generated = model.write("問い", llguidance.grammar_from("lark", LARK), max_tokens=400)
        assert generated.text.startswith('{"line":"2型糖尿病、HbA1c 7.2%"}\n')
        assert generated.ties == 0 and generated.sampled_tokens > 0
        assert generated.choices == model.write("問い", llguidance.grammar_from("lark", LARK), max_tokens=400).choices
    finally:
        model.close()


@pytest.mark.parametrize("kind", [Type.Q4_K, Type.Q6_K, Type.Q5_0, Type.Q8_0])
def test_random_blocks_have_the_deviation_asked_for(kind: Type) -> None:
    weights = gguf.quants.dequantize(_blocks(kind, 4000, 0.05, np.random.default_rng(1)), kind)
    assert abs(weights.mean()) < 0.005
    assert 0.045 < weights.std() < 0.055


@pytest.mark.parametrize(
    ("name", "parameters", "gigabytes"),
    [("qwen2.5-0.5b", 0.494e9, 0.40), ("qwen2.5-7b", 7.62e9, 4.68), ("qwen2.5-72b", 72.7e9, 47.4)],
)
def test_shapes_are_the_published_ones(name: str, parameters: float, gigabytes: float) -> None:
    """Parameters as the model cards give them, sizes as of the published Q4_K_M files (72B without its shards' padding)."""
    tensors = list(_tensors(SHAPES[name], "q4_k_m"))
    assert sum(float(np.prod(tensor.shape)) for tensor in tensors) == pytest.approx(parameters, rel=0.01)
    assert sum(tensor.bytes for tensor in tensors) / 1e9 == pytest.approx(gigabytes, rel=0.03)


def test_made_up_vocabulary_has_its_size_and_no_token_twice() -> None:
    tokens, merges = vocabulary(20_022, 5, 1)
    assert len(tokens) == len(set(tokens)) == 20_000
    assert len(merges) == 20_000 - 256
    assert all(merge.replace(" ", "") in tokens[256 + at - 2 : 256 + at + 3] for at, merge in enumerate(merges))


def test_gbnf_and_the_looser_lark_are_one_language(plain_model: LlamaCpp) -> None:
    # llguidance reads GBNF too, so the same texts can be put to both.
    lark, theirs = llguidance.grammar_from("lark", loose_lark(LARK)), llguidance.grammar_from("gbnf", gbnf(LARK, plain_model.piece))
    line = '{"line":"2型糖尿病、HbA1c 7.2%"}\n'
    rest = '{"line":"アムロジピン 5mg"}\n{"end":true}\n'
    for statements, expected in (
        ('{"kind":"condition","name":"2型糖尿病","assertion":"present"}\n', True),
        ('{"kind":"lab","name":"HbA1c","value":"7.2","unit":"%"}\n', True),
        ('{"kind":"lab","name":"HbA1c","value":"7"}\n', False),  # half a number
        ('{"kind":"lab","name":"","value":"7.2"}\n', False),
        ('{"kind":"lab","name":"CRP","value":"7.2"}\n', False),
        ("", True),
    ):
        text = (line + statements + rest).encode()
        for source in (lark, theirs):
            matcher = llguidance.LLMatcher(llguidance.LLTokenizer("byte"), source)
            assert not matcher.is_error()
            accepted = matcher.try_consume_tokens(list(text)) == len(text) and matcher.is_accepting()
            assert accepted is expected, statements


def test_gbnf_names_whole_characters_by_their_tokens(plain_model: LlamaCpp) -> None:
    tokens = plain_model.tokenize("aö<b")
    assert [plain_model.piece(token) for token in tokens] == [b"a", b"\xc3", b"\xb6", b"<", b"b"]
    start = " ".join(f"<[{token}]>" for token in tokens)
    first, *_, sign, last = tokens
    assert gbnf(f"start: {start}", plain_model.piece) == f'root ::= <[{first}]> "ö" <[{sign}]> <[{last}]>\n'


def test_agreement_and_partings() -> None:
    def round_of(text: str, choices: tuple[tuple[int, float], ...] = ()) -> Round:
        return Round(1.0, [[Written(text, 3, 0, choices)]])

    reference = round_of("abcd", ((0, -0.1), (2, -0.7)))
    other = round_of("abxy", ((0, -0.1), (2, -0.69), (3, -0.2)))
    assert agreement(reference, [reference, round_of("ab"), other]) == {"equal": 1, "as_far_as_both_go": 1, "different": 1}
    assert partings(reference, [reference, other]) == [(0.4966, 0.5016)]


SERVER = """#!{python}
import http.server, json, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200, {{"status": "ok"}})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        accepted = self.path == "/completion" and asked["grammar"].startswith("root ::= ") and asked["n_predict"] == 7
        self.answer(200 if accepted else 400, {{"tokens": asked["prompt"]}})

    def answer(self, status, body):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *arguments):
        pass

assert sys.argv[sys.argv.index("-np") + 1] == "2" and sys.argv[sys.argv.index("-c") + 1] == "1024"
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


def test_notes_are_put_to_a_server_in_its_protocol(toy: Path, tmp_path: Path, plain_model: LlamaCpp) -> None:
    program = tmp_path / "llama-server"
    program.write_text(SERVER.format(python=sys.executable), encoding="utf-8")
    program.chmod(0o755)
    tasks = [Task(tuple(plain_model.tokenize(text)), text, 0, LARK, Window((), LARK)) for text in ("一", "二", "三")]
    memory = Memory(sequence_tokens=512, slots=2, threads=1)
    works = [Work(NOTE, (task,)) for task in tasks]
    for limit in (7, 8):
        server = LlamaServer(program, toy, memory, limit, plain_model)
        try:
            if limit == 7:
                assert [note[0].text for note in server.run(works).written] == ["一", "二", "三"]
            else:
                with pytest.raises(RuntimeError, match="answers 400"):
                    server.run(works)
        finally:
            server.close()
    with pytest.raises(RuntimeError, match="ended with 1"):
        LlamaServer(program, toy, Memory(sequence_tokens=512, slots=1), 7, plain_model)


def _main(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict:  # type: ignore[type-arg]
    note = json.loads(SAMPLE.read_text(encoding="utf-8"))
    notes = [note | {"id": f"n{n}", "text": text} for n, text in enumerate(("2型糖尿病\nHbA1c 7.2%", "咳なし", "HT"))]
    (tmp_path / "notes.jsonl").write_text("\n".join(json.dumps(one, ensure_ascii=False) for one in notes), encoding="utf-8")
    engine.main(
        ["--model", str(path), "--eval", str(tmp_path), "--out", str(tmp_path / "out.json"), "--repeat", "1"]
        + ["--slots", "1,2", "--threads", "1", *options]
    )
    last = capsys.readouterr().out.splitlines()[-1]
    found: dict = json.loads(last)  # type: ignore[type-arg]
    assert found == json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert "糖尿病" not in last
    return found


def test_main_on_the_compact_form(compact_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = _main(compact_path, tmp_path, capsys, "--context", "1024", "--memory-notes", "12", "--generator-notes", "2")
    assert found["speedup_vs_generator"] > 0 and found["speedup_vs_processor"] > 0
    assert found["identical_across_slots"] is (found["identical_texts"]["engine-2"]["different"] == 0)
    assert found["identical_texts"]["engine-1"]["equal"] == found["notes"] == 3
    assert (found["rows"]["generator"]["notes"], found["rows"]["processor"]["notes"]) == (2, 3)
    assert found["rows"]["engine-2"]["slots"] == 2
    assert found["latency"].keys() == {"engine-1", "engine-2", "processor"}
    assert found["constrained_against_free"]["engine-2"]["tokens"] > 0
    assert found["memory"]["engine-2"]["notes"] == 12
    assert found["memory"]["engine-2"]["kv_mb"] == pytest.approx(2 * found["memory"]["engine-1"]["kv_mb"])
    # Without a cut, every way ends at the end of the grammar.
    assert found["same_text_as_engine"]["processor"]["as_far_as_both_go"] == 0


def test_main_in_turn_with_a_chat_model(toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--in-turn", "--max-tokens", "40", "--memory-notes", "0", "--baselines", "b,llama-server=/nowhere")
    found = _main(toy, tmp_path, capsys, *options)
    assert found["speedup_vs_generator"] is None and found["speedup_vs_processor"] > 0
    assert all(row["output_tokens"] <= 3 * 40 for row in found["rows"].values())
    assert found["rows"]["engine-1"]["reused_per_note"] > 0
    assert "error" in found["llama_server"]
    assert found["settings"]["in_turn"] is True and "memory" not in found


