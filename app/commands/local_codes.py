"""`hyojun local-codes import | export | list`: the hospital's own codes and the standard codes that they mean."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.commands import open_database
from schemas.issue import Severity
from schemas.statement import Kind

if TYPE_CHECKING:
    from app.terminology.local import Report

local_codes = typer.Typer(
    help="The hospital's own codes of diseases, allergens, tests and drugs, and the standard codes that they mean.",
    no_args_is_help=True,
)

MAX_SHOWN = 50
"""Faults listed one by one; beyond it, how many there are."""


@local_codes.command("import")
def import_file(
    file: Annotated[
        Path,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="CSV, UTF-8 or CP932, with the columns above; English or Japanese names, in any order.",
        ),
    ],
    replace: Annotated[
        bool, typer.Option("--replace", help="Retire the rows of the file's kinds that the file does not name.")
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Store the good rows although others are wrong.")
    ] = False,
    by: Annotated[
        str, typer.Option(help="Who answers for the file; stored with every row.")
    ] = "hyojun local-codes import",
) -> None:
    """Checks every row, then stores new and changed ones; with one error nothing is stored. Exit status 1 for errors.

    Workers take it up between two notes.

    \b
    kind              種別        condition 傷病名, allergy アレルギー,
                                  infection 感染症, lab 検査, prescription 処方
    code              院内コード
    display           院内名称    as notes write it
    system            コード体系  URI; empty with standard_code: not known yet
    standard_code     標準コード  must be in a loaded table
    standard_display  標準名称    may be left out: the table's is taken
    """
    from app.terminology.local import MAX_FILE_BYTES, import_local

    with file.open("rb") as opened:
        raw = opened.read(MAX_FILE_BYTES + 1)
    with open_database() as database, database.session_scope() as session:
        report = import_local(session, raw, by=by, replace_all=replace, skip_bad=skip_bad)
    _show(report)
    if any(fault.severity is Severity.ERROR for fault in report.faults):
        raise typer.Exit(1)


def _show(report: "Report") -> None:
    from app.report import console

    out, messages = console(), console(stderr=True)
    # Errors first where not all can be listed; else by line.
    shown = sorted(report.faults, key=lambda fault: fault.severity is not Severity.ERROR)[:MAX_SHOWN]
    for fault in sorted(shown, key=lambda fault: fault.line or 0):
        place = "file" if fault.line is None else f"line {fault.line}"
        messages.print(f"{place}: {fault.severity}: {fault.text}", markup=False, soft_wrap=True)
    if len(report.faults) > MAX_SHOWN:
        messages.print(f"and {len(report.faults) - MAX_SHOWN} more", markup=False)
    counts = f"added {report.added}, changed {report.changed}, retired {report.retired}, unchanged {report.unchanged}"
    if report.skipped:
        counts += f", left out {report.skipped}"
    verdict = "" if report.stored else "nothing was stored; without the errors: "
    out.print(verdict + counts, markup=False, soft_wrap=True)


@local_codes.command("export")
def export_file(
    file: Annotated[
        Path, typer.Argument(dir_okay=False, help="CSV to write (UTF-8 with BOM, for Excel); - for the output.")
    ],
) -> None:
    """Writes the rows in force; importing the file again changes nothing."""
    from app.terminology.local import export_local, write_csv

    with open_database() as database, database.session_scope() as session:
        rows = export_local(session)
    content = write_csv(rows)
    if str(file) == "-":
        sys.stdout.buffer.write(content)
        return
    file.write_bytes(content)
    typer.echo(f"{len(rows)} rows: {file}")


@local_codes.command("list")
def list_rows(
    kind: Annotated[Kind | None, typer.Option(help="Only these.")] = None,
    unmapped: Annotated[bool, typer.Option("--unmapped", help="Only codes without a standard one.")] = False,
    only_lost: Annotated[
        bool, typer.Option("--lost", help="Only codes whose standard one no loaded table has any more.")
    ] = False,
) -> None:
    """Shows the rows in force."""
    from rich.box import SIMPLE
    from rich.markup import escape
    from rich.table import Table

    from app.report import console
    from app.terminology.local import current, lost

    with open_database() as database, database.session_scope() as session:
        gone = {(entry.kind, entry.code) for entry in lost(session)}
        entries = [
            entry for entry in current(session, kind)
            if (entry.target is None or not unmapped) and ((entry.kind, entry.code) in gone or not only_lost)
        ]  # fmt: skip
    out = console()
    table = Table(box=SIMPLE if out.is_terminal else None)
    for column in ("kind", "code", "display", "standard", "standard display", ""):
        table.add_column(column, overflow="fold")
    for entry in entries:
        target = entry.target
        means = (f"{target.system}|{target.code}", target.display) if target else ("", "")
        state = "in no loaded table any more" if (entry.kind, entry.code) in gone else ""
        table.add_row(*(escape(cell) for cell in (entry.kind, entry.code, entry.display, *means, state)))
    out.print(table)
    out.print("1 code" if len(entries) == 1 else f"{len(entries)} codes")
