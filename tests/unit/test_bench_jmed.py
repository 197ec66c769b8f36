"""`bench.jmed` on invented reports: what may be answered, how it is scored, and the two ways to ask."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from llguidance import LLMatcher

from app.generation.llama import LlamaCpp
from app.generation.structured import byte_tokenizer, lark_grammar
from bench import jmed
from bench.jmed import Item, ListAsker, exact_f1, next_piece, partial_f1, published_partial_f1, read_items, scored

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared/eval/jmed"
TEXT = '右肺癌に対し手術。術後に肺炎、"咳"と発熱。\nプレドニゾロン10mg/日で軽快\n発熱'


def accepted(grammar: str, text: str) -> bool:
    matcher = LLMatcher(byte_tokenizer(), lark_grammar(grammar))
    assert not matcher.is_error()
    return matcher.try_consume_tokens(list(text.encode())) == len(text.encode()) and matcher.is_accepting()


@pytest.mark.parametrize(("text", "done", "right"), [
    ('"右肺癌",', [], True), ('"右肺癌"]', [], True), ("]", [], True), ('""]', [], False), ('"左肺癌"]', [], False),
    ('"プレドニゾロン"]', [], True), ('"プレドニ"]', [], False), ('"10mg/日"]', [], True), ('"0mg/日"]', [], False),
    ('"\\"咳\\""]', [], True), ('"手術。術後"]', [], False), ('"軽快\\n発熱"]', [], False),
    ('"右肺癌"]', ["右肺癌"], False), ('"肺癌"]', ["右肺癌"], True), ('"右肺癌に"]', ["右肺癌"], True), ("]", ["右肺癌"], False),
    ('"発熱"]', ["右肺癌", "発熱"], False), ('"発"]', ["発熱"], True), ('"\\"咳\\""]', ['"咳"'], False),
    ('"発熱",', [str(number) for number in range(39)], False), ('"発熱"]', [str(number) for number in range(39)], True),
])  # fmt: skip
def test_pieces_are_of_the_report_and_none_comes_twice(text: str, done: list[str], right: bool) -> None:
    assert accepted(next_piece(TEXT, done), text) is right


def test_a_model_that_knows_nothing_writes_a_list_all_the_same(plain_model: LlamaCpp) -> None:
    ask = ListAsker(plain_model)
    told = ask(Item("d", f"所見は？\n「{TEXT}」", TEXT, frozenset()))
    assert told and all(piece in TEXT for piece in told) and len(told) <= jmed.MOST


def test_f1_of_a_question() -> None:
    gold = frozenset({"右肺癌", "肺炎", "発熱"})
    # Two of four right, two of three found.
    assert exact_f1(gold, {"右肺癌", "肺炎", "手術", "咳"}) == pytest.approx(4 / 7)
    # 肺癌 is in 右肺癌: three of four touch, all three are touched but 発熱.
    told = {"肺癌", "肺炎", "肺炎の", "咳"}
    assert exact_f1(gold, told) == pytest.approx(2 / 7)
    assert partial_f1(gold, told) == pytest.approx(2 * (3 / 4) * (2 / 3) / (3 / 4 + 2 / 3))
    assert partial_f1(gold, {"".join(gold)}) == 1.0
    # One exact hit, and all three count: three over four, three over three.
    assert published_partial_f1(gold, told) == pytest.approx(2 * (3 / 4) / (3 / 4 + 1))
    assert published_partial_f1(gold, {"肺癌"}) == 0.0
    assert published_partial_f1(gold, {"肺炎"}) == pytest.approx(1.5)
    for measure in (exact_f1, partial_f1, published_partial_f1):
        assert measure(gold, set()) == 0.0 and measure(gold, set(gold)) == 1.0


def test_scores_are_means_with_intervals() -> None:
    items = [Item(tag, "", "", frozenset({"x"})) for tag in ["m-key"] * 60 + ["m-val"] * 40]
    found = scored(items, [{"x"} if number % 2 else set() for number in range(100)])
    assert found["all"]["exact"]["f1"] == 0.5 and (found["m-key"]["items"], found["m-val"]["items"]) == (60, 40)
    low, high = found["all"]["exact"]["interval"]
    assert low == pytest.approx(0.402, abs=0.02) and high == pytest.approx(0.598, abs=0.02)


def write_files(folder: Path) -> Path:
    for name, tag, asked, answer in (
        ("disease", "d", "所見は？", ["右肺癌", "肺炎"]),
        ("medicine", "m-val", "値は？", ["10mg/日"]),
    ):
        with (folder / f"mrner_{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("tag", "question", "answer"))
            writer.writerow((tag, f"{asked}\n「{TEXT}」", str(answer)))
    return folder


@pytest.mark.parametrize(("kind", "way"), [("plain", "list"), ("compact", "reader")])
def test_a_run(
    tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str], kind: str, way: str
) -> None:
    model, out = request.getfixturevalue(f"{kind}_path"), tmp_path / "made/jmed.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODEL_THREADS", "1")
        patch.setenv("MODEL_SLOTS", "2")
        jmed.main([str(write_files(tmp_path)), "--model", str(model), "--out", str(out)])
    printed = capsys.readouterr()
    assert f"through {way}" in printed.out and "exact 0.31, partial 0.83" in printed.out and "1 of 1" in printed.err
    result: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    assert result["through"] == way and (result["prompt"] is None) == (way == "reader")
    for task in result["tasks"].values():
        assert task["failed"] == 0 and all(piece in TEXT for told in task["told"] for piece in told)


def test_what_is_missing_is_named(tmp_path: Path, compact_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"mrner_disease\.csv is not there"):
        jmed.main([str(tmp_path)])
    write_files(tmp_path)
    with pytest.raises(SystemExit, match="carries no chat template"):
        jmed.main([str(tmp_path), "--model", str(compact_path), "--through", "list"])
    (tmp_path / "mrner_medicine.csv").write_text("tag,question,answer\nd,no report,[]\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="row 1 is not tag, question, answer"):
        jmed.main([str(tmp_path)])


@pytest.mark.official
@pytest.mark.skipif(not SHARED.is_dir(), reason="no JMED-LLM in ../shared/eval")
@pytest.mark.parametrize("task", sorted(jmed.PUBLISHED))
def test_every_published_answer_can_be_given(task: str) -> None:
    for item in read_items(SHARED / f"mrner_{task}.csv"):
        done: list[str] = []
        for piece in sorted(item.answer)[:3]:
            assert accepted(next_piece(item.text, done), json.dumps(piece, ensure_ascii=False) + "]"), piece
            done.append(piece)
