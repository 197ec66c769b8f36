"""The Japanese national medical examination as a measure of a model: questions, answers under a grammar, and their score.

The files are those of IgakuQA (Kasai et al. 2023, github.com/jungokasai/IgakuQA), from a folder of the caller's; nothing is
downloaded: `116-A.jsonl` … with the questions, `116-A_metadata.jsonl` with the contraindicated choices (禁忌肢), and
`prompt.jsonl` with the worked examples that stand before every question.
"""

import json
import math
import re
import string
import tomllib
import unicodedata
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from app.errors import InvalidInput, NotFound
from app.generation.chat import Message
from app.generation.llama import LlamaCpp
from app.generation.registry import PROMPTS, fingerprints
from app.generation.request import Pending
from app.generation.structured import lark_grammar

Prediction = tuple[str, ...]
"""Letters of the choices, or one text with the digits of a number; empty: no answer."""

# As IgakuQA's scripts/evaluate_main.py scores: the ministry struck 116A71 and took two answers for 112B30.
_ALWAYS_RIGHT = frozenset({"116A71"})
_ALSO_RIGHT: dict[str, tuple[Prediction, ...]] = {"112B30": (("a",), ("d",))}

_FILE = re.compile(r"\d{3}-[A-Z]\.jsonl")
_ASKED = re.compile(r"([2-9])つ選べ")
_ALL_THAT_FIT = re.compile("(?:すべて|全て)選べ")
_PLACES = re.compile("[①-⑨]")
_LONGEST_NUMBER = 6
_ANSWER_TOKENS = 16
_Z = 1.959964
"""Quantile of the normal distribution for 95 %."""


@dataclass(frozen=True)
class Question:
    """`choices` are lettered from a; none: the answer is a number, written as its digits without the point.
    `contraindicated`: letters of choices that would harm the patient."""

    id: str
    text: str
    choices: tuple[str, ...]
    answer: Prediction
    text_only: bool = True
    points: int = 1
    contraindicated: frozenset[str] = frozenset()

    @property
    def year(self) -> int:
        """The 116th examination was that of 2022."""
        return int(self.id[:3]) + 1906

    @property
    def letters(self) -> str:
        return string.ascii_lowercase[: len(self.choices)]

    @property
    def asked(self) -> int | None:
        """How many choices are to be named; None: all that fit."""
        text = unicodedata.normalize("NFKC", self.text)
        if found := _ASKED.search(text):
            return int(found[1])
        return None if _ALL_THAT_FIT.search(text) else 1

    @property
    def digits(self) -> int | None:
        """How many digits the form of the answer has (①.②), where it shows one."""
        return len(set(_PLACES.findall(self.text.rpartition("解答")[2]))) or None

    def options(self) -> list[Prediction]:
        """Every answer of a question with choices."""
        counts = [self.asked] if self.asked else range(1, len(self.choices) + 1)
        return [chosen for count in counts for chosen in combinations(self.letters, count)]

    def grammar(self) -> str:
        """Letters, each once and in their order, as many as asked for; or digits."""
        if self.choices:
            return "start: " + " | ".join(f'"{",".join(option)}"' for option in self.options()) + "\n"
        count = str(self.digits) if self.digits else f"1,{_LONGEST_NUMBER}"
        return f"start: /[0-9]{{{count}}}/\n"

    def right(self, prediction: Prediction) -> bool:
        if self.id in _ALWAYS_RIGHT or prediction in _ALSO_RIGHT.get(self.id, ()):
            return True
        return sorted(prediction) == sorted(self.answer)


# -- files ------------------------------------------------------------------------------------------------------------


def read_questions(folder: Path) -> list[Question]:
    """All questions below `folder`, in the order of their files. Raises InvalidInput, NotFound, with the file's name."""
    if not folder.is_dir():
        raise NotFound(f"{folder} is not a folder")
    files = sorted((file for file in folder.rglob("*.jsonl") if _FILE.fullmatch(file.name)), key=lambda file: file.name)
    if not files:
        raise NotFound(f"{folder} holds no questions: files like 116-A.jsonl, in it or in folders of years")
    questions: dict[str, Question] = {}
    for file in files:
        beside = file.with_name(f"{file.stem}_metadata.jsonl")
        marked = {str(row["problem_id"]): row for _, row in _rows(beside, ("problem_id", "kinki"))}
        for number, row in _rows(file, ("problem_id", "problem_text", "choices", "answer", "points", "text_only")):
            question = _question(f"{file}, line {number}", row, marked.get(str(row["problem_id"])))
            if questions.setdefault(question.id, question) is not question:
                raise InvalidInput(f"{file}, line {number}: {question.id} was there before")
    return list(questions.values())


def read_shots(folder: Path) -> list[Question]:
    """The worked examples of prompt.jsonl in `folder`, the folder above it, or `prompts` in one of them.

    Raises NotFound, InvalidInput.
    """
    places = [folder / "prompt.jsonl", folder.parent / "prompt.jsonl"]
    places += [place.with_name("prompts") / place.name for place in places]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise NotFound(f"{places[0]} is not there, nor {places[1]}: the worked examples of the prompt")
    wanted = ("problem_id", "problem_text", "choices", "answer")
    return [_question(f"{file}, line {number}", row, None) for number, row in _rows(file, wanted)]


def read_predictions(files: Iterable[Path]) -> dict[str, Prediction]:
    """Answers by question: JSON Lines with `problem_id` and `prediction` ("a,b", or a list). Raises InvalidInput, NotFound."""
    found: dict[str, Prediction] = {}
    for file in files:
        for number, row in _rows(file, ("problem_id", "prediction")):
            if row["problem_id"] in found:
                raise InvalidInput(f"{file}, line {number}: {row['problem_id']} is answered twice")
            found[row["problem_id"]] = _prediction(row["prediction"])
    return found


def _prediction(told: Any) -> Prediction:
    """As the published scores read an answer: parts between commas as they stand, so "a, b" is not a and b."""
    parts = told if isinstance(told, list) else str(told).split(",")
    return tuple(str(part) for part in parts if part != "")


def _question(place: str, row: Mapping[str, Any], marked: Mapping[str, Any] | None) -> Question:
    letters = unicodedata.normalize("NFKC", "".join(marked["kinki"])) if marked else ""
    try:
        return Question(
            id=str(row["problem_id"]),
            text=str(row["problem_text"]),
            choices=tuple(row["choices"]),
            answer=tuple(row["answer"]),
            text_only=bool(row.get("text_only", True)),
            points=int(row.get("points", 1)),
            contraindicated=frozenset(letters.lower()),
        )
    except (TypeError, ValueError):
        raise InvalidInput(f"{place} is no question of IgakuQA") from None


def _rows(file: Path, keys: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Lines with their numbers."""
    if not file.is_file():
        raise NotFound(f"{file} is not there")
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            raise InvalidInput(f"{file}, line {number} is not JSON") from None
        missing = [key for key in keys if not isinstance(row, dict) or key not in row]
        if missing:
            raise InvalidInput(f"{file}, line {number} has no {', '.join(missing)}")
        yield number, row


# -- answers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """`shots`: the worked examples that stood before the question; None: the question alone is longer than the model's
    context, and the prediction is empty."""

    question_id: str
    prediction: Prediction
    shots: int | None


class Examinee:
    """A model that answers questions: through its chat template where it has one, else by going on with a plain text.

    Answers are greedy and under the question's grammar. `limit`: longest prompt and answer together, in tokens: what the
    model is opened with, and at most what it was trained on. Raises InvalidInput.
    """

    def __init__(self, model: LlamaCpp, shots: Sequence[Question], adapter: str | None = None) -> None:
        self._model = model
        self._shots = list(shots)
        self._adapter = adapter
        self._layout: dict[str, str] = tomllib.loads((PROMPTS / "igakuqa.toml").read_text(encoding="utf-8"))
        trained = model.metadata(f"{model.metadata('general.architecture')}.context_length")
        self.limit = min(model.sequence_tokens, int(trained or model.sequence_tokens))
        file = model.memory.adapters[adapter] if adapter is not None else None
        prompt = "\n".join([*self._layout.values(), *(self._asked(shot) + ",".join(shot.answer) for shot in shots)])
        made_with = fingerprints(model.path, prompt, file)
        self.made_by = {"model": made_with.model, "adapter": made_with.adapter, "prompt": made_with.prompt}
        """Fingerprints of what its answers come from."""

    def answers(self, questions: Iterable[Question]) -> Iterator[Answer]:
        """In the order of the questions; as many as the model has slots are generated at the same time.

        Raises Unavailable, ModelOutputError.
        """
        waiting: deque[tuple[Question, int | None, Pending | None]] = deque()
        for question in questions:
            waiting.append(self._started(question))
            # Some wait in the engine too, so that a slot that ends has the next one at once.
            if len(waiting) > 2 * self._model.slots:
                yield self._ended(*waiting.popleft())
        while waiting:
            yield self._ended(*waiting.popleft())

    def _started(self, question: Question) -> tuple[Question, int | None, Pending | None]:
        for first in range(len(self._shots) + 1):
            shots = self._shots[first:]
            tokens, shared = self._prompt(question, shots)
            if len(tokens) + _ANSWER_TOKENS <= self.limit:
                grammar = lark_grammar(question.grammar())
                pending = self._model.submit(tokens, grammar, shared=shared, adapter=self._adapter)
                return question, len(shots), pending
        return question, None, None

    def _ended(self, question: Question, shots: int | None, pending: Pending | None) -> Answer:
        text = pending.result().text if pending is not None else ""
        return Answer(question.id, _prediction(text), shots)

    def _prompt(self, question: Question, shots: Sequence[Question]) -> tuple[list[int], int]:
        """Tokens, and how many of the first all questions with these shots have in common."""
        if self._model.chats:
            messages = [Message("system", self._layout["system"])]
            for shot in shots:
                messages += [Message("user", self._asked(shot)), Message("assistant", ",".join(shot.answer))]
            return self._model.chat_prompt([*messages, Message("user", self._asked(question))])
        worked = [self._asked(shot) + ",".join(shot.answer) for shot in shots]
        head = "\n\n".join([self._layout["system"], *worked, ""])
        begin = [self._model.begin_token] if self._model.begin_token >= 0 else []
        tokens = begin + self._model.tokenize(head)
        return tokens + self._model.tokenize(self._asked(question)), len(tokens)

    def _asked(self, question: Question) -> str:
        layout = self._layout
        parts = [layout["question"].format(text=question.text)]
        for letter, choice in zip(question.letters, question.choices, strict=True):
            parts.append(layout["choice"].format(letter=letter, text=choice))
        if not question.choices:
            parts.append(layout["number"])
        else:
            way = "choose" if question.asked else "choose_any"
            parts.append(layout[way].format(letters=",".join(question.letters), count=question.asked))
        return "".join(parts)


class AnswerFile:
    """Answers kept as they come, one JSON line each, so that a run goes on where an earlier one stopped; the file can be
    scored as predictions too. Rows of another model or prompt, or of a line that a kill cut in two, are not taken over.

    Raises InvalidInput for a file of other answers; OSError.
    """

    def __init__(self, path: Path, examinee: Examinee) -> None:
        self.path = path
        self._made_by = examinee.made_by
        self.answers: dict[str, Answer] = {}
        if not path.exists():
            return
        raw = path.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        if whole != raw:
            with path.open("r+b") as file:
                file.truncate(len(whole))
        for number, row in _rows(path, ("problem_id", "prediction", "shots", "made_by")):
            if row["made_by"] != self._made_by:
                raise InvalidInput(f"{path}, line {number}: answers of another model or prompt; name another file")
            answer = Answer(row["problem_id"], _prediction(row["prediction"]), row["shots"])
            self.answers[answer.question_id] = answer

    def add(self, answer: Answer) -> None:
        """On the disk before this returns."""
        told = ",".join(answer.prediction)
        row = {"problem_id": answer.question_id, "prediction": told, "shots": answer.shots, "made_by": self._made_by}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self.answers[answer.question_id] = answer


# -- score ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Score:
    """`accuracy` is that of questions, `points_rate` that of points (published figures are often the latter).
    `interval`: of `accuracy`, 95 %, Wilson's. `contraindicated`: questions in which such a choice was taken, of those
    that have one. `guessing`: the accuracy to expect of answers drawn by lot."""

    name: str
    questions: int
    right: int
    points: int
    all_points: int
    contraindicated: int
    with_contraindicated: int
    unanswered: int
    guessing: float

    @property
    def accuracy(self) -> float:
        return self.right / self.questions

    @property
    def points_rate(self) -> float:
        return self.points / self.all_points if self.all_points else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.right, self.questions)


def score(questions: Collection[Question], predictions: Mapping[str, Prediction]) -> list[Score]:
    """Of all questions, of those that need no picture, and of each year. A question without a prediction is wrong."""
    parts = [_score("all", questions, predictions)]
    text_only = [question for question in questions if question.text_only]
    if 0 < len(text_only) < len(questions):
        parts.append(_score("text only", text_only, predictions))
    for year in sorted({question.year for question in questions}):
        parts.append(_score(str(year), [q for q in questions if q.year == year], predictions))
    return parts


def _score(name: str, questions: Collection[Question], predictions: Mapping[str, Prediction]) -> Score:
    told = [(question, predictions.get(question.id, ())) for question in questions]
    right = [question for question, prediction in told if question.right(prediction)]
    lots = [
        1.0 if q.id in _ALWAYS_RIGHT else 1 / len(q.options()) if q.choices else 0.1 ** (q.digits or 1)
        for q in questions
    ]
    return Score(
        name=name,
        questions=len(questions),
        right=len(right),
        points=sum(question.points for question in right),
        all_points=sum(question.points for question in questions),
        contraindicated=sum(not q.contraindicated.isdisjoint(prediction) for q, prediction in told),
        with_contraindicated=sum(bool(question.contraindicated) for question in questions),
        unanswered=sum(not prediction for _, prediction in told),
        guessing=math.fsum(lots) / len(lots),
    )


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927). Raises ValueError for a count of 0."""
    if count <= 0:
        raise ValueError("no questions")
    share, z2 = right / count, _Z * _Z
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)
