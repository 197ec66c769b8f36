"""The national medical examination on invented questions; and, where the published files are, their known score."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llguidance import LLMatcher
from typer.testing import CliRunner

from app.cli import app
from app.errors import HyojunError, InvalidInput
from app.generation.context import Memory
from app.generation.llama import LlamaCpp
from app.generation.structured import byte_tokenizer, lark_grammar
from app.igakuqa import (
    Answer,
    AnswerFile,
    Examinee,
    Question,
    read_predictions,
    read_questions,
    read_shots,
    score,
    wilson,
)

SHARED = Path(__file__).resolve().parents[3] / "shared/eval/igakuqa"
CHOICES = ["頭を冷やす", "水を飲む", "横になる", "歩く", "眠る"]
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="no IgakuQA in ../shared/eval")


def row(name: str, text: str, answer: list[str], **others: Any) -> dict[str, Any]:
    made = {
        "problem_id": name,
        "problem_text": text,
        "choices": CHOICES,
        "text_only": True,
        "answer": answer,
        "points": "1",
    }
    return made | others


ROWS = {
    "115-A": [
        row("115A1", "喉が渇いた人にすすめるのはどれか。", ["b"]),
        row("115A2", "疲れた人にすすめるのはどれか。2つ選べ。", ["c", "e"], points="3"),
    ],
    "116-A": [
        row("116A1", "図に示す人にすすめるのはどれか。", ["d"], text_only=False),
        row("116A71", "取り消された問題はどれか。", ["a"]),
        row("116A72", "3時間に60歩あるく人が1時間にあるく歩数を求めよ。解答：①②歩", ["20"], choices=[]),
        row("116A73", "体によいものはどれか。すべて選べ。", ["b", "c", "d", "e"], points="0"),
    ],
}
KINKI = {"115A1": ["de"], "115A2": ["ａ", "d"], "116A1": ["e"]}
SHOTS = [row(f"100A{n}", f"見本の問題{n}はどれか。", ["a"]) for n in (1, 2, 3)]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in rows), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "exam"
    for name, rows in ROWS.items():
        year = root / str(1906 + int(name[:3]))
        year.mkdir(parents=True)
        write_rows(year / f"{name}.jsonl", rows)
        marked = [{"problem_id": one["problem_id"], "kinki": KINKI.get(one["problem_id"], [])} for one in rows]
        write_rows(year / f"{name}_metadata.jsonl", marked)
    write_rows(root / "prompt.jsonl", SHOTS)
    return root


def run(*words: object) -> Any:
    return CliRunner().invoke(app, ["evaluate", "igakuqa", *map(str, words)])


def test_score_of_known_answers(folder: Path, tmp_path: Path) -> None:
    told = {"115A1": "b", "115A2": "e,a", "116A1": ["e"], "116A71": "c", "116A72": "20", "116A73": "b,c,d"}
    write_rows(tmp_path / "told.jsonl", [{"problem_id": name, "prediction": one} for name, one in told.items()])
    questions = read_questions(folder)
    everything, text_only, of_2021, of_2022 = score(questions, read_predictions([tmp_path / "told.jsonl"]))
    assert [everything.name, text_only.name, of_2021.name, of_2022.name] == ["all", "text only", "2021", "2022"]
    assert (everything.right, everything.questions, everything.points, everything.all_points) == (3, 6, 3, 7)
    # e is contraindicated in 116A1, and a in 115A2: each question counts once.
    assert (everything.contraindicated, everything.with_contraindicated) == (2, 3)
    assert (text_only.questions, text_only.right, text_only.contraindicated) == (5, 3, 1)
    assert (of_2021.points, of_2021.all_points, of_2022.points, of_2022.all_points) == (1, 4, 2, 3)
    assert everything.interval == pytest.approx((0.1876, 0.8124), abs=1e-4)
    # 1 of 5, of 10 pairs, of 5, always, of 100 numbers, of 31 sets.
    assert everything.guessing == pytest.approx((1 / 5 + 1 / 10 + 1 / 5 + 1 + 1 / 100 + 1 / 31) / 6)
    shown = run(folder, "--predictions", tmp_path / "told.jsonl", "--json")
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["scores"][0]["points"] == 3
    assert "2 of 3" in run(folder, "--predictions", tmp_path / "told.jsonl").stdout


def test_a_missing_answer_is_wrong_and_a_struck_question_right(folder: Path) -> None:
    [everything, *_] = score(read_questions(folder), {})
    assert (everything.right, everything.unanswered, everything.contraindicated) == (1, 6, 0)
    also = Question("112B30", "", tuple(CHOICES), ("a", "d"))
    assert [also.right((letter,)) for letter in "abd"] == [True, False, True]
    assert also.right(("d", "a"))


def test_spaces_behind_commas_are_no_letters_as_published(folder: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "told.jsonl", [{"problem_id": "115A2", "prediction": "c, e"}])
    question = next(one for one in read_questions(folder) if one.id == "115A2")
    assert not question.right(read_predictions([tmp_path / "told.jsonl"])["115A2"]) and question.right(("e", "c"))


@pytest.mark.parametrize(("right", "count", "bounds"), [
    (0, 10, (0.0, 0.2775)), (10, 10, (0.7225, 1.0)), (81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)),
])  # fmt: skip
def test_intervals_are_wilsons(right: int, count: int, bounds: tuple[float, float]) -> None:
    """The last two: Newcombe 1998, table I, method 3."""
    assert wilson(right, count) == pytest.approx(bounds, abs=1e-4)


def accepted(grammar: str, text: str) -> bool:
    matcher = LLMatcher(byte_tokenizer(), lark_grammar(grammar))
    assert not matcher.is_error()
    return matcher.try_consume_tokens(list(text.encode())) == len(text.encode()) and matcher.is_accepting()


def test_answers_can_only_be_what_is_asked_for(folder: Path) -> None:
    one, two, _, _, number, every = (question.grammar() for question in read_questions(folder))
    assert [accepted(one, text) for text in ("a", "e", "f", "a,b", "", "A")] == [True, True, False, False, False, False]
    for text, right in (("a,b", True), ("d,e", True), ("b,a", False), ("a,a", False), ("a", False), ("a,b,c", False)):
        assert accepted(two, text) is right, text
    assert [accepted(number, text) for text in ("07", "7", "123", "1.5")] == [True, False, False, False]
    assert [accepted(every, text) for text in ("c", "b,c,d,e", "e,b")] == [True, True, False]
    six = Question("116F1", "どれか。", ("x",) * 6, ("f",)).grammar()
    assert accepted(six, "f")
    assert accepted(Question("116F2", "いくつか。", (), ("7",)).grammar(), "1234")


class Keeping(LlamaCpp):
    """Keeps the prompts that it is given."""

    def submit(self, prompt: Any, grammar: Any = None, **options: Any) -> Any:
        self.prompts = [*getattr(self, "prompts", []), (b"".join(map(self.piece, prompt)).decode(), options["shared"])]
        return super().submit(prompt, grammar, **options)


@pytest.fixture(params=["plain", "compact"])
def model(request: pytest.FixtureRequest) -> Iterator[Keeping]:
    path = request.getfixturevalue(f"{request.param}_path")
    opened = Keeping(path, Memory(sequence_tokens=4096, slots=2, threads=1))
    yield opened
    opened.close()


def test_questions_stand_behind_the_examples_and_share_them(model: Keeping, folder: Path) -> None:
    questions = read_questions(folder)
    answers = list(Examinee(model, read_shots(folder)).answers(questions))
    assert [answer.question_id for answer in answers] == [question.id for question in questions]
    for question, answer in zip(questions, answers, strict=True):
        assert answer.shots == 3 and accepted(question.grammar(), ",".join(answer.prediction))
    text, shared = model.prompts[1]
    assert len({one for _, one in model.prompts}) == 1 and 0 < shared < len(model.tokenize(text))
    assert text.count("見本の問題") == 3 and text.count("a: 頭を冷やす") == 4
    assert "問題: 疲れた人" in text and "必ずa,b,c,d,eの中からちょうど2個選んでください。" in text
    assert ("<|im_start|>assistant\na<|im_end|>" in text) is model.chats
    assert model.metrics().reused_tokens >= shared * (len(questions) - 2)


def test_a_short_context_takes_examples_away_and_says_so(plain_path: Path, folder: Path, tmp_path: Path) -> None:
    shots, questions = read_shots(folder), read_questions(folder)[:2]
    model = Keeping(plain_path, Memory(sequence_tokens=800, slots=1, threads=1))
    try:
        long = Question("115A3", "長い" * 300, tuple(CHOICES), ("a",))
        answers = list(Examinee(model, shots).answers([*questions, long]))
    finally:
        model.close()
    assert answers[0].shots is not None and 0 < answers[0].shots < 3
    assert answers[2] == Answer("115A3", (), None)
    assert "見本の問題3" in model.prompts[0][0] and "見本の問題1" not in model.prompts[0][0]


def test_answers_are_kept_and_gone_on_with(plain_path: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    words = (folder, "--model", plain_path, "--out", out, "--json")
    environment = {"MODEL_CONTEXT_TOKENS": "2048", "MODEL_SLOTS": "2", "MODEL_THREADS": "1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        first = run(*words)
        assert first.exit_code == 0, first.output
        lines = out.read_text(encoding="utf-8").splitlines(keepends=True)
        assert len(lines) == 6
        # Killed while it wrote the fourth answer; and the first one is changed, to see that it is not asked again.
        changed = json.loads(lines[0]) | {"prediction": "z"}
        out.write_text(json.dumps(changed) + "\n" + "".join(lines[1:3]) + lines[3][:20], encoding="utf-8")
        second = run(*words)
        assert second.exit_code == 0 and "3 answers are there already" in second.stderr
        again = out.read_text(encoding="utf-8").splitlines(keepends=True)
        assert json.loads(again[0])["prediction"] == "z" and again[1:] == lines[1:]
        assert json.loads(second.stdout)["model"] == json.loads(first.stdout)["model"] == changed["made_by"]
        # The file is one of predictions, too.
        told = run(folder, "--predictions", out, "--json")
        assert json.loads(told.stdout)["scores"] == json.loads(second.stdout)["scores"]
        write_rows(folder / "prompt.jsonl", SHOTS[:2])
        other = run(*words)
        assert isinstance(other.exception, InvalidInput) and "another model or prompt" in str(other.exception)


def test_a_model_of_the_statement_form_is_scored_all_the_same(compact_path: Path, folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODEL_THREADS", "1")
        shown = run(folder, "--model", compact_path, "--first", "2")
    assert shown.exit_code == 0 and "not to answer questions" in shown.stderr and "2021" in shown.stdout


def broken(folder: Path, fault: str) -> None:
    rows = [dict(one) for one in ROWS["116-A"]]
    if fault == "no prompt":
        (folder / "prompt.jsonl").unlink()
    elif fault == "no metadata":
        (folder / "2022/116-A_metadata.jsonl").unlink()
    elif fault == "not JSON":
        (folder / "2022/116-A.jsonl").write_text("{\n", encoding="utf-8")
    elif fault == "twice":
        write_rows(folder / "2022/116-A.jsonl", [*rows, rows[0]])
    elif fault == "no answer":
        del rows[1]["answer"]
        write_rows(folder / "2022/116-A.jsonl", rows)
    elif fault == "no number":
        write_rows(folder / "2022/116-A.jsonl", [rows[0] | {"points": "one"}])


@pytest.mark.parametrize(("fault", "said"), [
    ("no prompt", "prompt.jsonl is not there"), ("no metadata", "116-A_metadata.jsonl is not there"),
    ("not JSON", "116-A.jsonl, line 1 is not JSON"), ("twice", "line 5: 116A1 was there before"),
    ("no answer", "line 2 has no answer"), ("no number", "line 1 is no question"),
])  # fmt: skip
def test_files_that_are_missing_or_wrong_are_named(folder: Path, plain_path: Path, fault: str, said: str) -> None:
    broken(folder, fault)
    result = run(folder, "--model", plain_path)
    assert isinstance(result.exception, HyojunError) and said in str(result.exception)


@pytest.mark.parametrize(("words", "said"), [
    (("nowhere",), "nowhere is not a folder"), (("--model", "nowhere.gguf"), "nowhere.gguf is not there"),
    (("--predictions", "nowhere.jsonl"), "nowhere.jsonl is not there"),
    (("--out", "nowhere/answers.jsonl"), "cannot be a file"),
])  # fmt: skip
def test_wrong_words(folder: Path, words: tuple[str, ...], said: str) -> None:
    result = run(*(words if not words[0].startswith("--") else (folder, *words)))
    assert isinstance(result.exception, HyojunError) and said in str(result.exception)


def test_a_folder_without_questions_is_said(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert isinstance(result.exception, HyojunError) and "holds no questions" in str(result.exception)


def test_predictions_and_a_model_exclude_each_other(folder: Path) -> None:
    assert run(folder, "--predictions", "x.jsonl", "--model", "base").exit_code == 2


def test_an_answer_file_is_of_one_model(plain_model: LlamaCpp, folder: Path, tmp_path: Path) -> None:
    examinee = Examinee(plain_model, read_shots(folder))
    kept = AnswerFile(tmp_path / "answers.jsonl", examinee)
    kept.add(Answer("115A2", ("a", "b"), 3))
    kept.add(Answer("115A3", (), None))
    assert AnswerFile(kept.path, examinee).answers == kept.answers
    assert read_predictions([kept.path]) == {"115A2": ("a", "b"), "115A3": ()}
    with pytest.raises(InvalidInput, match="another model or prompt"):
        AnswerFile(kept.path, Examinee(plain_model, []))


@pytest.mark.official
@needs_shared
def test_published_answers_have_their_published_score() -> None:
    """GPT-4 in 2022: 392 points with one contraindicated choice."""
    questions = read_questions(SHARED)
    given = read_predictions(sorted((SHARED / "2022").glob("116-?_gpt4.jsonl")))
    everything, text_only, _ = score([question for question in questions if question.year == 2022], given)
    assert (everything.questions, everything.points, everything.all_points) == (400, 392, 494)
    assert (everything.right, everything.contraindicated, text_only.questions) == (314, 1, 301)


@pytest.mark.official
@needs_shared
def test_every_published_answer_can_be_given() -> None:
    for question in read_questions(SHARED):
        assert accepted(question.grammar(), ",".join(sorted(question.answer))), question.id
    assert len(read_shots(SHARED)) == len(read_shots(SHARED / "2022")) == 3
