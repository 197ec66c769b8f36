"""`hyojun reindex`: what FHIR searches look in, made anew from the stored resources."""

from typing import Annotated

import typer

from app.commands import open_database


def reindex(
    everything: Annotated[
        bool, typer.Option("--all", help="Every stored resource, not only those that searches do not know of yet.")
    ] = False,
) -> None:
    """Makes stored resources known to FHIR searches. Workers do so by themselves after an update.

    Searches and conversions go on meanwhile. Killed, it goes on where it was. Exit status 1 if another process is at it.
    """
    from sqlalchemy import text

    from app.report import console, progress_bar
    from app.store import index

    with open_database() as database:
        with database.session_scope() as session:
            if everything:
                index.forget(session)
            waiting = index.behind(session)
        with progress_bar(console(stderr=True)) as bar:
            task = bar.add_task("indexing versions", total=waiting)

            def told(done: int) -> None:
                with database.session_scope() as session:
                    bar.update(task, completed=waiting - index.behind(session))

            if not index.catch_up(database, told=told):
                console(stderr=True).print("another process is indexing; nothing was done here")
                raise typer.Exit(1)
        with database.session_scope() as session:
            for table in ("search_entries", *index.VALUE_COLUMNS):
                session.execute(text(f"ANALYZE {table}"))  # plans depend on how often a code is there
    console().print(f"{waiting} versions indexed")
