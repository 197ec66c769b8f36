"""`hyojun evaluate igakuqa`: how well a model answers the national medical examination, from files on this machine."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.commands import quiet, read_settings
from app.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.igakuqa import Answer, Question, Score
    from app.settings import Settings

app = typer.Typer(help="Measures models on published tests; nothing is downloaded.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `igakuqa` a command of its own while it is the only one."""


@app.command()
def igakuqa(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="IgakuQA: folders of years, and prompt.jsonl.")],
    model: Annotated[
        str | None, typer.Option(help="A .gguf file, or a name of MODELS_FILE (base, uc1 …); default, the base model.")
    ] = None,
    predictions: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Score these answers instead of asking a model; may be given several times."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="JSON Lines: each answer as it comes. A second run goes on there."),
    ] = None,
    first: Annotated[int | None, typer.Option(min=1, help="Only so many questions, from the beginning.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
) -> None:
    """Asks each question behind three worked examples; the answer can only be letters, as many as asked for, or digits.

    Shows question accuracy with Wilson's 95 % interval, points, and questions in which a contraindicated choice was taken:
    over all, over the questions without a picture (no model sees one), and by year.
    """
    if predictions and (model or out):
        raise typer.BadParameter("--predictions needs no model; leave out --model and --out")
    settings = read_settings()
    quiet(settings)
    from app.igakuqa import read_predictions, read_questions, score
    from app.report import console

    questions = read_questions(folder)[:first]
    messages = console(stderr=True)
    facts: dict[str, Any] = {}
    if predictions:
        given = read_predictions(predictions)
        if strangers := given.keys() - {question.id for question in questions}:
            messages.print(f"{len(strangers)} answers are to other questions and do not count", soft_wrap=True)
    else:
        answers, facts = _asked(settings, folder, questions, model, out)
        given = {answer.question_id: answer.prediction for answer in answers}
    scores = score(questions, given)
    if as_json:
        shown = [asdict(one) | {"accuracy": one.accuracy, "interval": one.interval, "points_rate": one.points_rate}
                 for one in scores]  # fmt: skip
        typer.echo(json.dumps({**facts, "scores": shown}, ensure_ascii=False, indent=2))
        return
    _show(scores)


def _asked(
    settings: "Settings", folder: Path, questions: "Sequence[Question]", name: str | None, out: Path | None
) -> "tuple[list[Answer], dict[str, Any]]":
    from app.generation.registry import BASE, Models, configured
    from app.igakuqa import AnswerFile, Examinee, read_shots
    from app.report import console, progress_bar

    shots = read_shots(folder)
    if name is not None and name.endswith(".gguf"):
        if not Path(name).is_file():
            raise NotFound(f"the model file {name} is not there")
        settings, name = settings.model_copy(update={"model_path": Path(name)}), BASE
    if out is not None and (out.is_dir() or not out.absolute().parent.is_dir()):
        raise InvalidInput(f"{out} cannot be a file: it is a folder, or its folder is not there")
    messages = console(stderr=True)
    models = Models(configured(settings), settings)
    try:
        opened, adapter = models.use(name or BASE)
        examinee = Examinee(opened, shots, adapter)
        if opened.metadata("hyojun.form") is not None:
            messages.print(
                "this model was trained to write statements of notes, not to answer questions", soft_wrap=True
            )
        kept = AnswerFile(out, examinee) if out is not None else None
        answers = dict(kept.answers) if kept is not None else {}
        left = [question for question in questions if question.id not in answers]
        if len(left) < len(questions):
            messages.print(
                f"{out}: {len(questions) - len(left)} answers are there already", markup=False, soft_wrap=True
            )
        try:
            with progress_bar(messages) as bar:
                task = bar.add_task("answering", total=len(questions), completed=len(questions) - len(left))
                for answer in examinee.answers(left):
                    answers[answer.question_id] = answer
                    if kept is not None:
                        kept.add(answer)
                    bar.advance(task)
        except KeyboardInterrupt:
            there = f"{len(answers)} answers are in {out}; the same command goes on" if out else "no --out was given"
            messages.print(f"stopped: {there}", markup=False, soft_wrap=True)
            sys.stderr.flush()
            os._exit(130)  # what is being generated would hold the process
        _tell_short(messages, answers.values(), len(shots), examinee.limit)
    finally:
        models.close()
    mine = [answers[question.id] for question in questions]
    return mine, {"model": examinee.made_by, "context_tokens": examinee.limit}


def _tell_short(messages: Any, answers: Any, shots: int, limit: int) -> None:
    """What the model's context did not hold."""
    fewer = sum(answer.shots is not None and answer.shots < shots for answer in answers)
    unasked = sum(answer.shots is None for answer in answers)
    if fewer:
        messages.print(
            f"{fewer} questions had fewer than {shots} examples: the context holds {limit} tokens", soft_wrap=True
        )
    if unasked:
        messages.print(f"{unasked} questions alone are longer than {limit} tokens; they count as wrong", soft_wrap=True)


def _show(scores: "Sequence[Score]") -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    from app.report import console

    out = console()
    table = Table(box=SIMPLE if out.is_terminal else None)
    table.add_column("", no_wrap=True)
    columns = (
        "questions",
        "right",
        "accuracy",
        "95 % interval",
        "by lot",
        "points",
        "points rate",
        "contraindicated",
        "unanswered",
    )
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for one in scores:
        low, high = one.interval
        table.add_row(
            one.name, str(one.questions), str(one.right), f"{one.accuracy:.3f}", f"{low:.3f} to {high:.3f}",
            f"{one.guessing:.3f}", f"{one.points} of {one.all_points}", f"{one.points_rate:.3f}",
            f"{one.contraindicated} of {one.with_contraindicated}", str(one.unanswered),
        )  # fmt: skip
    out.print(table)
