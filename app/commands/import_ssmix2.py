"""`hyojun import ssmix2`: the notes of a hospital's SS-MIX2 storages into the queue."""

from contextlib import nullcontext
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from app.commands import open_database, quiet, read_settings
from app.errors import InvalidInput

app = typer.Typer(help="Takes notes in from other systems' files.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `ssmix2` a command of its own while it is the only one."""


@app.command()
def ssmix2(
    storage: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="Root of the standardized storage: who the patients are. Or the folder of `hyojun export ssmix2`.",
        ),
    ],
    extended: Annotated[
        Path | None,
        typer.Option(
            "--extended",
            help="Root of the extended storage: the documents. Default, DIR-extended if it is there, else DIR.",
        ),
    ] = None,
    source: Annotated[
        str, typer.Option(help="Name of the sending system; part of every id that is written.")
    ] = "ssmix2",
    since: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="Only documents of this day or later.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check everything, and store nothing.")] = False,
) -> None:
    """Queues every text document (経過記録, 診療録, 退院時サマリー, 紹介状) for conversion by the workers of DATABASE_URL.

    A second run adds only what is new. Exit status 1 if a file could not be read; each is listed, the rest goes on.
    """
    first = _day(since)
    if dry_run:
        quiet(read_settings())
    from app.report import console, progress_bar
    from app.ssmix2.storage import extended_root
    from app.ssmix2_import import import_storage
    from app.terminology.entries import Part, starter_entries

    screen, messages = console(), console(stderr=True)
    # The first level of a storage is three characters of a patient's id, so this can only be a folder of storages.
    storage = storage / "ssmix2" if (storage / "ssmix2").is_dir() else storage
    beside = extended_root(storage)
    documents = extended or (beside if beside.is_dir() else storage)
    counts = {"new": 0, "there already": 0, "read": 0, "failed": 0}
    departments = {e.codings[0].code: e.names for e in starter_entries() if e.kind is Part.DEPARTMENT}
    reached = nullcontext() if dry_run else open_database("create", "hyojun import ssmix2")
    with reached as database, progress_bar(messages) as bar:
        task = bar.add_task("importing", total=None)
        for one in import_storage(
            storage, documents, source=source, database=database, since=first, departments=departments
        ):
            if one.error is not None:
                counts["failed"] += 1
                messages.print(f"{one.path}: {one.error}", markup=False, soft_wrap=True)
            elif one.warning is not None:
                messages.print(f"{one.path}: read all the same: {one.warning}", markup=False, soft_wrap=True)
            else:
                counts["read" if one.created is None else "new" if one.created else "there already"] += 1
            bar.advance(task)
    shown = ("read", "failed") if dry_run else ("new", "there already", "failed")
    verdict = "nothing was stored; " if dry_run else ""
    screen.print(verdict + ", ".join(f"{name} {counts[name]}" for name in shown), soft_wrap=True)
    if counts["failed"]:
        raise typer.Exit(1)
    # Nothing new since then is no fault.
    if first is None and not sum(counts.values()):
        raise InvalidInput(f"{documents} holds no text document; name the extended storage with --extended")


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise InvalidInput("--since: must be a date YYYY-MM-DD") from None
