"""`hyojun receipts`: check a claim file, what was decided about those of the database, and the tables they are checked by."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from app.commands import open_database, operator
from app.commands.receipt_check import check_file, content_of, result_table, write_whole
from app.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from app.receipt_tables import Imported

app = typer.Typer(
    help="Receipts (レセプト): check a claim file, and the tables that claims are checked by.", no_args_is_help=True
)
app.command("check")(check_file)


# --- of the database --------------------------------------------------------------------------------------------------


@app.command("list")
def list_files(
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="So many of the newest.")] = 20,
) -> None:
    """The newest claim files of the database: how far the model's part is, and what waits for a person."""
    from rich.markup import escape

    from app import receipt_store
    from app.report import console

    screen = console()
    with open_database() as database, database.session_scope() as session:
        found = receipt_store.list_files(session, limit=count)
    table = result_table(screen, "id", "file", "claims", "checked", "need work", "open", "came in")
    for one in found:
        done = f"{one.progress.total - one.progress.open}/{one.progress.total}" if one.progress.total else "-"
        table.add_row(
            str(one.id)[:8], escape(one.name[:40]), f"{one.claims:,}", done, f"{one.needing:,}", f"{one.open:,}",
            one.created_at.astimezone().strftime("%Y-%m-%d %H:%M"),
        )  # fmt: skip
    screen.print(table)


@app.command()
def export(
    file: Annotated[str, typer.Argument(metavar="ID", help="The file's id, or its first characters.")],
    csv: Annotated[Path | None, typer.Option("--csv", help="What was found and decided, a row an item.")] = None,
    uke: Annotated[Path | None, typer.Option("--uke", help="The claim file with the comments that were accepted.")] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="With --uke: carry out changed codes and counts, deletions, added diseases.")
    ] = False,
) -> None:
    """Writes what was decided about a claim file of the database.

    Points and the totals of HO and GO are never computed anew: with --apply the billing system has to.
    """
    from app import receipt_store
    from app.receipt_output import report_csv
    from app.receipt_report import export_uke, judged_items

    if csv is None and uke is None:
        raise InvalidInput("name a file to write with --csv or --uke")
    if apply and uke is None:
        raise InvalidInput("--apply goes with --uke")
    with open_database("export", "hyojun receipts export") as database, database.session_scope() as session:
        fitting = [one.id for one in receipt_store.list_files(session, limit=10_000) if str(one.id).startswith(file.lower())]
        file_id = _only(fitting, "claim file", "hyojun receipts list")
        if csv is not None:
            write_whole(csv, (line.encode() for line in report_csv(judged_items(session, file_id))))
            typer.echo(f"CSV: {csv}")
        if uke is not None:
            made = export_uke(session, file_id, apply=apply)
            write_whole(uke, [made.content])
            typer.echo(f"UKE: {uke}, {made.comments} records CO, {made.changes} changes; totals as they came in")
            for id_ in made.left:
                typer.echo(f"item {id_}: says too little to be carried out, or its line is away", err=True)


# --- tables -----------------------------------------------------------------------------------------------------------


@app.command("import")
def import_tables(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="SSK masters (s_ y_ b_ c_ z_) or tables as TSV.")],
) -> None:
    """Checks tables and puts them into use, each in place of the one of its kind.

    A faulty file is refused whole, with line and column, and neither it nor those after it are imported. Claims that were
    checked before keep their results until they are checked again.
    """
    from app.receipt_tables import import_table

    contents = [(path, content_of(path)) for path in files]
    with open_database("admin", "hyojun receipts import") as database:
        for path, content in contents:
            with database.session_scope() as session:
                try:
                    found = import_table(session, content, path.name, operator())
                except InvalidInput as error:
                    raise InvalidInput(f"{path}: {error}") from None
            typer.echo(f"in use: {_named(found)}, {found.rows:,} rows, from {found.name}")


@app.command("tables")
def list_all() -> None:
    """All imported tables; `in use`: claims are checked by it, else by the one that comes with Hyojun."""
    from rich.markup import escape

    from app.receipt_tables import list_tables
    from app.report import console

    screen = console()
    with open_database() as database, database.session_scope() as session:
        found = list_tables(session)
    table = result_table(screen, "id", "kind", "edition", "rows", "whole", "file", "imported at", "")
    for one in found:
        at = one.imported_at.astimezone().strftime("%Y-%m-%d %H:%M")
        table.add_row(
            str(one.id)[:8], one.kind, one.edition or "-", f"{one.rows:,}", "yes" if one.whole else "no", escape(one.name), at,
            "in use" if one.active else "",
        )  # fmt: skip
    screen.print(table)
    if not found:
        screen.print("nothing is imported; the tables that come with Hyojun are in use", markup=False)


@app.command()
def activate(
    table: Annotated[str, typer.Argument(metavar="ID", help="The table's id, or its first characters.")],
) -> None:
    """Puts an imported table into use: the way back after an import that was a mistake."""
    from app import receipt_tables

    with open_database("admin", "hyojun receipts activate") as database, database.session_scope() as session:
        fitting = [one.id for one in receipt_tables.list_tables(session) if str(one.id).startswith(table.lower())]
        found = receipt_tables.activate(session, _only(fitting, "table", "hyojun receipts tables"), operator())
    typer.echo(f"in use: {_named(found)}, {found.rows:,} rows, from {found.name}")


@app.command()
def deactivate(kind: Annotated[str, typer.Argument(metavar="KIND", help="Such as acts; `tables` shows the kinds.")]) -> None:
    """The table that comes with Hyojun is in use again for this kind."""
    from app import receipt_tables

    with open_database("admin", "hyojun receipts deactivate") as database, database.session_scope() as session:
        receipt_tables.deactivate(session, kind, operator())
    typer.echo(f"in use: {kind}, as it comes with Hyojun")


def _named(table: "Imported") -> str:
    return f"{table.kind} {table.edition}" if table.edition else table.kind


def _only(found: Sequence[UUID], what: str, where: str) -> UUID:
    if len(found) != 1:
        how = f"no {what} has" if not found else f"several {what}s have"
        raise NotFound(f"{how} an id that begins so; `{where}` shows them")
    return found[0]
