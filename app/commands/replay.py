"""`hyojun replay` and `hyojun reprocess`: stored runs once more, and old notes through another model."""

import getpass
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from app.commands import explain, open_database, read_settings
from app.errors import HyojunError, InvalidInput
from app.log import describe

if TYPE_CHECKING:
    from rich.console import Console

    from app.db import Database
    from app.pipeline import Converter
    from app.replay import Replayed
    from app.reprocess import Summary
    from app.terminology.matching import Lexicon

IDENTICAL, DIFFERENT, NOT_RUN = 0, 1, 2
MAX_PATHS = 40
"""Differences of one run listed one by one."""
_CHUNK = 200

reprocess = typer.Typer(
    help="Old notes through the model of now, beside their results, before anything is replaced.",
    invoke_without_command=True,
)


def operator() -> str:
    """Who sits at the terminal, as audit events name the person."""
    try:
        return f"{getpass.getuser()} (command line)"
    except (KeyError, OSError):  # a container whose user has no name
        return f"uid {os.getuid()} (command line)"


_By = Annotated[str | None, typer.Option(help="Who does it, for the audit events; default, the account.")]
_Text = Annotated[bool, typer.Option("--show-text", help="Show what the note says too. IT IS PATIENT TEXT.")]


# --- replay -----------------------------------------------------------------------------------------------------------


def replay(
    job: Annotated[str | None, typer.Argument(metavar="JOB", help="Id of a finished job.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every stored run, the newest first.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="With --all: so many of them.")] = None,
    now: Annotated[
        bool, typer.Option("--now", help="With the tables and settings of now, instead of those that the run had.")
    ] = False,
    show_text: _Text = False,
    by: _By = None,
) -> None:
    """Runs a stored conversion again and says whether it gives the same bytes; nothing is stored.

    The tables and settings are those that the run had, as far as they are still there; model, profiles and software are
    those of this installation. Exit status 0: identical; 1: different; 2: one could not be run again.
    """
    if (job is None) != every:
        raise typer.BadParameter("name one job, or --all")
    try:
        wanted = None if job is None else UUID(job)
    except ValueError:
        raise typer.BadParameter("JOB is not an id") from None
    settings = read_settings()
    from sqlalchemy.exc import SQLAlchemyError

    from app import replay as runs
    from app.pipeline import Converter
    from app.report import console, progress_bar
    from app.terminology.importers import lexicon_from

    out, messages = console(), console(stderr=True)
    tally = {IDENTICAL: 0, DIFFERENT: 0, NOT_RUN: 0}
    try:
        with open_database() as database:
            with database.session_scope() as session:
                ids = [wanted] if wanted else runs.finished_jobs(session, limit=limit)
                lexicon = lexicon_from(session)
            converter = Converter.load(settings, lexicon)
            one = _Again(database, converter, now, by or operator())
            try:
                with progress_bar(messages) as bar, ThreadPoolExecutor(converter.slots) as pool:
                    task = bar.add_task("replaying", total=len(ids))
                    # A few at a time: `map` begins all that it is given.
                    for chunk in (ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK)):
                        for job_id, found in zip(chunk, pool.map(one.tried, chunk), strict=True):
                            tally[_show_replayed(out, job_id, found, show_text=show_text, short=every)] += 1
                            bar.advance(task)
            finally:
                if converter.models is not None:
                    converter.models.close()
    except (HyojunError, SQLAlchemyError) as error:
        reason = str(error) if isinstance(error, HyojunError) else explain(error) or describe(error)
        messages.print(f"hyojun: {reason}", markup=False, soft_wrap=True)
        raise typer.Exit(NOT_RUN) from None
    if every:
        told = f"{len(ids)} runs: {tally[IDENTICAL]} identical, {tally[DIFFERENT]} different, {tally[NOT_RUN]} not run"
        out.print(told, markup=False)
    if tally[NOT_RUN]:
        raise typer.Exit(NOT_RUN)
    raise typer.Exit(DIFFERENT if tally[DIFFERENT] else IDENTICAL)


class _Again:
    """Runs of one installation again, several at the same time; tables of former times are put together once."""

    def __init__(self, database: "Database", converter: "Converter", now: bool, by: str) -> None:
        from threading import Lock

        self._database, self._converter, self._now, self._by = database, converter, now, by
        self._tables: tuple[str | None, tuple[Lexicon, list[str]]] | None = None
        self._lock = Lock()

    def tried(self, job_id: UUID) -> "Replayed | str":
        """Or why it could not be run."""
        from app import replay as runs

        try:
            with self._lock, self._database.session_scope() as session:
                stored = runs.load(session, job_id, by=self._by)
                lexicon: Lexicon | None = None
                remarks: list[str] = []
                if not self._now:
                    version = stored.fingerprints["terminology"]
                    if self._tables is None or self._tables[0] != version:
                        self._tables = version, runs.tables(session, stored, self._converter)
                    lexicon, remarks = self._tables[1]
            found = runs.repeat(stored, self._converter, lexicon)
            found.remarks[:0] = remarks
            return found
        except HyojunError as error:
            return describe(error)


def _show_replayed(out: "Console", job_id: UUID, found: "Replayed | str", *, show_text: bool, short: bool) -> int:
    def say(line: str) -> None:
        out.print(line, markup=False, soft_wrap=True)

    if isinstance(found, str):
        say(f"{job_id} could not be run: {found}")
        return NOT_RUN
    if found.identical:
        say(f"{job_id} identical, sha256 {found.sha256}")
    else:
        say(f"{job_id} different, sha256 {found.stored_sha256} -> {found.sha256}")
    for remark in found.remarks:
        say(f"  {remark}")
    if found.altered:
        say(f"  what is stored is not what the run wrote: that had sha256 {found.stored.recorded}")
    for name, (then, now) in found.changed.items():
        shown = "was another" if name.startswith(("facility", "institution")) and not show_text else f"{then} -> {now}"
        say(f"  {name}: {shown}")
    if found.identical:
        return IDENTICAL
    if not short:
        for difference in found.said.differences:
            say("  " + told(difference, show_text=show_text))
        for path in found.paths[:MAX_PATHS]:
            say(f"  {path.path}" + (f": {_value(path.before)} -> {_value(path.after)}" if show_text else ""))
    if (more := len(found.paths) - (0 if short else MAX_PATHS)) > 0:
        say(f"  {more} {'more ' if not short else ''}places differ")
    return DIFFERENT


def _value(value: Any) -> str:
    from app.comparison import MISSING

    return "nothing" if value is MISSING else repr(value) if isinstance(value, str) else str(value)


def told(difference: Any, *, show_text: bool) -> str:
    """A difference in one line; without text, by its place in the note and the parts that differ."""
    grave = " DRUG ALLERGY" if difference.grave else ""
    name = f" {difference.name}" if show_text else ""
    head = f"{difference.kind} at {difference.start}-{difference.end}{name}: {difference.change}{grave}"
    if difference.change != "changed":
        return head
    if not show_text:
        return f"{head} ({', '.join(part.part for part in difference.parts)})"
    return head + "".join(f"; {p.part}: {p.before or 'nothing'} -> {p.after or 'nothing'}" for p in difference.parts)


# --- reprocess --------------------------------------------------------------------------------------------------------


@reprocess.callback()
def begin(
    context: typer.Context,
    where: Annotated[
        str | None,
        typer.Option(
            help="Which notes: source= department= type= since= until= note= batch= model= adapter= prompt= grammar= "
            "terminology= profiles= calibration= version= (all but the dates also with !=), uncoded, held, all; what "
            "stands side by side must all hold."
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="The newest so many of them.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Queue them and come back at once.")] = False,
    by: _By = None,
) -> None:
    """Old notes through the model of now, beside their results; `--where` begins a trial, workers do it.

    Nothing that counts is changed before `hyojun reprocess apply`.
    """
    if context.invoked_subcommand is not None:
        return
    if where is None:
        raise typer.BadParameter("say which notes with --where, or name a command (see --help)")
    from app import reprocess as trials
    from app.report import console

    out = console()
    with open_database() as database:
        with database.session_scope() as session:
            trial = trials.start(session, where, by=by or operator(), limit=limit)
        out.print(f"trial {trial.id}: {trial.notes} notes are queued", markup=False, soft_wrap=True)
        if detach:
            _say_where_to(out, trial.id)
        else:
            _follow(database, trial.id)


def _say_where_to(out: "Console", trial_id: UUID) -> None:
    out.print(
        f"workers go on by themselves; look with `hyojun reprocess show {trial_id}`, stop with `hyojun reprocess cancel"
        f" {trial_id}`",
        markup=False, soft_wrap=True,
    )  # fmt: skip


def _follow(database: "Database", trial_id: UUID) -> None:
    """Until every job of it has ended. Ctrl-C leaves it running."""
    from app import reprocess as trials
    from app.report import console, progress_bar

    out, messages = console(), console(stderr=True)
    try:
        with progress_bar(messages) as bar:
            task = bar.add_task("reprocessing", total=None)
            while True:
                with database.session_scope() as session:
                    found = trials.progress(session, trial_id)
                bar.update(task, completed=found.total - found.open, total=found.total)
                if not found.open:
                    break
                time.sleep(1)
    except KeyboardInterrupt:
        _say_where_to(out, trial_id)
        raise typer.Exit(130) from None
    with database.session_scope() as session:
        _show_summary(out, trials.summary(session, trial_id))


_Trial = Annotated[UUID, typer.Argument(metavar="ID", help="Of the trial; `hyojun reprocess list` shows them.")]


@reprocess.command("list")
def list_all() -> None:
    """All trials, the newest first."""
    from rich.table import Table
    from rich.text import Text

    from app import reprocess as trials
    from app.report import console

    out = console()
    with open_database() as database, database.session_scope() as session:
        table = Table(box=None)
        for column in ("id", "begun", "notes", "waiting", "kept", "failed", "by", "where", ""):
            table.add_column(column, overflow="fold")
        for trial in trials.find_trials(session):
            state = trials.progress(session, trial.id)
            cells = (
                str(trial.id), trial.created_at.astimezone().strftime("%Y-%m-%d %H:%M"), str(trial.notes),
                str(state.open), str(state.done), str(state.failed + state.cancelled), trial.created_by, trial.chosen,
                "discarded" if trial.discarded_at else "",
            )  # fmt: skip
            table.add_row(*map(Text, cells))
    out.print(table)


@reprocess.command()
def follow(trial: _Trial) -> None:
    """Shows the progress of a trial until it has ended; Ctrl-C leaves it running."""
    with open_database() as database:
        _follow(database, trial)


@reprocess.command()
def cancel(trial: _Trial) -> None:
    """Ends what was not converted yet; what was is kept. `resume` goes on."""
    _count(trial, "cancel", "jobs are cancelled; go on with `hyojun reprocess resume ID`")


@reprocess.command()
def resume(trial: _Trial) -> None:
    """Queues again what failed or was cancelled."""
    _count(trial, "resume", "jobs are queued again")


def _count(trial: UUID, name: str, what: str) -> None:
    from app import reprocess as trials

    move: Callable[..., int] = getattr(trials, name)
    with open_database() as database, database.session_scope() as session:
        typer.echo(f"{move(session, trial)} {what}".replace("ID", str(trial)))


@reprocess.command()
def show(
    trial: _Trial,
    csv: Annotated[Path | None, typer.Option(help="Write every difference to this file, a row each.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a report for a browser, in one file.")] = None,
    notes: Annotated[int, typer.Option(min=0, help="List so many notes here.")] = 10,
    show_text: _Text = False,
    by: _By = None,
) -> None:
    """What would change: statements by kind, codes, drug allergies first; and what applying would meet.

    Files are readable by you alone. They hold the sender's note ids, and with --show-text patient text.
    """
    from itertools import islice

    from app import audit
    from app import reprocess as trials
    from app import reprocess_report as report
    from app.report import console
    from schemas.review import AuditAction

    out = console()
    with open_database() as database, database.session_scope() as session:
        summary = trials.summary(session, trial)
        deed = AuditAction.EXPORT if csv or html else AuditAction.READ
        audit.record(session, deed, by=audit.person(by or operator()), subject=trial)
        _show_summary(out, summary)
        for change in islice(trials.changes(session, trial), notes):
            state = ", applied" if change.applied_at else ""
            out.print(f"note {change.note_id} of {change.note_date}{state}", markup=False, soft_wrap=True)
            for difference in change.differences:
                out.print(f"  {told(difference, show_text=show_text)}", markup=False, soft_wrap=True)
        for path, write in ((csv, report.write_csv), (html, report.write_html)):
            if path is not None:
                with _private(path) as file:
                    write(file, summary, trials.changes(session, trial), show_text=show_text)
                out.print(f"written: {path}", markup=False, soft_wrap=True)


@contextmanager
def _private(path: Path) -> Iterator[IO[str]]:
    """A file that nobody else may read, in place of `path` once it is whole."""
    import tempfile

    descriptor, name = tempfile.mkstemp(prefix=".", suffix=".unfinished", dir=path.absolute().parent)  # of mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            yield file
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _show_summary(out: "Console", summary: "Summary") -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    from app.comparison import Change
    from app.report import HEADINGS

    state = summary.progress
    out.print(
        f"{summary.kept} of {summary.trial.notes} notes are converted; {state.open} wait, {state.failed} failed, "
        f"{state.cancelled} are cancelled; {summary.applied} are applied",
        markup=False, soft_wrap=True,
    )  # fmt: skip
    if summary.grave:
        out.print(f"DRUG ALLERGIES: {summary.grave} statements would be other ones; look at each", markup=False)
    table = Table(box=SIMPLE if out.is_terminal else None)
    table.add_column("")
    for change in Change:
        table.add_column(change.value, justify="right")
    for kind, heading in HEADINGS.items():
        counts = summary.counts.get(kind.value, {})
        table.add_row(heading, *(str(counts.get(change.value, 0)) for change in Change))
    out.print(table)
    for line in (
        f"{summary.changed} notes would change; {summary.codes} names would have other codes",
        f"applying would end {summary.decided} reviews that somebody began; {summary.released} results are released and"
        f" stay unless --released; {summary.stale} notes were converted again since and stay",
    ):
        out.print(line, markup=False, soft_wrap=True)


@reprocess.command()
def apply(
    trial: _Trial,
    note: Annotated[list[UUID] | None, typer.Option(help="This note alone; may be given several times.")] = None,
    released: Annotated[
        bool, typer.Option("--released", help="Also where a person, or the rule that needs none, released the result.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    by: _By = None,
) -> None:
    """Makes what the trial kept the notes' results, as if they had been converted anew.

    Reviews of the former results are superseded: decisions stay on record and count no more. May be broken off and
    begun again.
    """
    settings = read_settings()
    from app import reprocess as trials
    from app.report import console, progress_bar

    out = console()
    with open_database() as database:
        with database.session_scope() as session:
            summary = trials.summary(session, trial)
            ids = trials.waiting(session, trial, note or ())
        if note and len(ids) < len(set(note)):
            raise InvalidInput("a note is not in the trial, not converted yet, or applied already")
        _show_summary(out, summary)
        if not ids:
            out.print("nothing waits to be applied")
            return
        if not yes:
            typer.confirm(f"replace the results of {len(ids)} notes?", abort=True)
        tally = dict.fromkeys(trials.Applied, 0)
        with progress_bar(console(stderr=True)) as bar:
            task = bar.add_task("applying", total=len(ids))
            for job_id in ids:
                with database.session_scope() as session:
                    done = trials.apply(
                        session, job_id, by=by or operator(), released=released, release=settings.release_without_review
                    )
                tally[done] += 1
                bar.advance(task)
    out.print(
        f"applied: {tally[trials.Applied.APPLIED]}; left alone: {tally[trials.Applied.RELEASED]} released, "
        f"{tally[trials.Applied.STALE]} converted again since",
        markup=False, soft_wrap=True,
    )  # fmt: skip


@reprocess.command()
def discard(trial: _Trial, by: _By = None) -> None:
    """Forgets what a trial kept and was not applied, and ends what still waits."""
    from app import reprocess as trials

    with open_database() as database, database.session_scope() as session:
        count = trials.discard(session, trial, by=by or operator())
    typer.echo(f"discarded: {count} notes")
