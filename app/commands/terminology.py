"""`hyojun import-terminology` and `hyojun terminology list | use | remove`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.commands import open_database
from app.errors import InvalidInput
from app.terminology.masters import MASTERS, STARTER

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from app.db import Database
    from app.terminology.importers.releases import Report

terminology = typer.Typer(
    help="Stored releases of code masters: which there are, which are in use.", no_args_is_help=True
)


def import_terminology(
    kind: Annotated[str, typer.Argument(help="Which master; see the list above.", show_default=False)],
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="As downloaded, unpacked; several only where the publisher cuts one list into several files."),
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Name of the release; default, what the file or its name says.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Take fewer concepts than the master or its active release has.")
    ] = False,
) -> None:
    if kind not in MASTERS:
        raise InvalidInput(f"KIND {kind} is unknown; there are {', '.join(MASTERS)}")
    if kind == STARTER:
        _import_starter(files)
        return
    if not files:
        raise InvalidInput(f"{kind}: name the file to import")
    from app.report import console, progress_bar
    from app.terminology.importers import import_files

    with open_database() as database, progress_bar(console(stderr=True)) as bar:
        task = bar.add_task("reading", total=None)

        def show(step: str, done: int, total: int) -> None:
            bar.update(task, description=step, completed=done, total=total or None)

        report = import_files(database, kind, files, version=version, force=force, progress=show)
        lost = _count_lost(database)
    _show_report(console(), report)
    _warn(lost)


import_terminology.__doc__ = (
    """Checks a code master and makes it the active release.

    Workers take it up between two notes. A faulty file is refused whole, with line and column, and changes nothing.
    `hyojun terminology use` goes back.

    KIND is one of:

    \b
    """
    + "\n    ".join(f"{kind:<14}{what}" for kind, what in MASTERS.items())
)


def _count_lost(database: "Database") -> int:
    from app.terminology.local import lost

    with database.session_scope() as session:
        return len(lost(session))


def _warn(lost: int) -> None:
    if lost:
        what = "1 local code means a code" if lost == 1 else f"{lost} local codes mean codes"
        typer.echo(f"warning: {what} that no loaded table has; see `hyojun local-codes list --lost`", err=True)


def _import_starter(files: list[Path] | None) -> None:
    if files:
        raise InvalidInput(f"{STARTER}: its tables come with Hyojun; no file is read")
    from app.terminology.importers import load_starter

    with open_database() as database, database.session_scope() as session:
        changed = load_starter(session)
    typer.echo("imported" if changed else "there already")


def _table(out: "Console", *columns: str) -> "Table":
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE if out.is_terminal else None)
    for column in columns:
        table.add_column(column, justify="right" if column in ("concepts", "retired") else "left", overflow="fold")
    return table


def _show_report(out: "Console", report: "Report") -> None:
    table = _table(out, "system", "version", "concepts", "retired", "")
    for release in report.releases:
        what = "there already" if release.already else "imported"
        if not release.active:
            what += f"; not in use, see `hyojun terminology use {release.kind} {release.version}`"
        else:
            what += ", in use"
        table.add_row(release.system, release.version, str(release.concepts), str(release.retired), what)
    out.print(table)
    for reason, count in sorted(report.skipped.items()):
        out.print(f"skipped {count}: {reason}", markup=False)


@terminology.command("list")
def list_all() -> None:
    """All stored releases; `in use`: names are coded with it."""
    from app.report import console
    from app.terminology.importers import list_releases

    with open_database() as database:
        releases = list_releases(database)
    out = console()
    table = _table(out, "system", "kind", "version", "concepts", "imported at", "")
    for release in releases:
        state = "in use" if release.active else "" if release.ready else "unfinished; the next import clears it"
        at = release.created_at.astimezone().strftime("%Y-%m-%d %H:%M")
        table.add_row(release.system, release.kind, release.version, str(release.concepts), at, state)
    out.print(table)
    if not releases:
        out.print("nothing is loaded; `hyojun import-terminology starter` makes a beginning", markup=False)


_System = Annotated[str, typer.Argument(help="URI of the code system, or the KIND that it was imported as.")]


@terminology.command()
def use(system: _System, version: str) -> None:
    """Makes a stored release the active one: the way back after an import that was a mistake."""
    from app.terminology.importers import use_release

    with open_database() as database:
        for release in use_release(database, system, version):
            typer.echo(f"in use: {release.system} {release.version}, {release.concepts} concepts")
        lost = _count_lost(database)
    _warn(lost)


@terminology.command()
def remove(system: _System, version: str) -> None:
    """Deletes a stored release; never the one in use. Runs that used it can then no longer be repeated."""
    from app.terminology.importers import remove_release

    with open_database() as database:
        for release in remove_release(database, system, version):
            typer.echo(f"removed: {release.system} {release.version}, {release.concepts} concepts")
