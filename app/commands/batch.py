"""`hyojun batch`: many notes into the queue, followed until they are through; and what a person does with a batch."""

import os
import re
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer
from typer.core import TyperGroup

from app.commands import open_database, read_settings
from app.errors import HyojunError, InvalidInput, Unavailable

if TYPE_CHECKING:
    from rich.console import Console

    from app.db import Database
    from schemas.batch import BatchFormat

POLL_SECONDS = 1.0
_ENDED = ("done", "failed", "cancelled")
_SUFFIXES = {".jsonl": "ndjson", ".ndjson": "ndjson", ".csv": "csv", ".zip": "zip"}


class _Group(TyperGroup):
    """A first word that is no command is a file or folder to send."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # Options before the file belong to it too, but for those of the group itself.
        if args and args[0] not in self.commands and args[0] not in ("--help",):
            args = ["send", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Group,
    help="Many notes as one file: `hyojun batch FILE|DIR` sends and follows them; the commands look at a batch and steer it.",
    no_args_is_help=True,
)
Id = Annotated[str, typer.Argument(metavar="ID", help="The batch's id, or its first characters.")]


@app.command()
def send(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="FILE|DIR",
            help=".jsonl/.ndjson, .csv or .zip; a folder of text files (with notes.csv), or an SS-MIX2 root.",
        ),
    ],
    source: Annotated[str, typer.Option(help="Name of the sending system; part of every id that is written.")] = "file",
    name: Annotated[str | None, typer.Option(help="What to call it; default, the file's name.")] = None,
    rate: Annotated[
        str | None, typer.Option(help="Notes an hour by time of day: 600/h, or 08:00-18:00=600/h,else=unlimited.")
    ] = None,
    ssmix2: Annotated[bool, typer.Option("--ssmix2", help="The ZIP is an SS-MIX2 storage.")] = False,
    document_type: Annotated[str | None, typer.Option(help="Of notes that do not state it; so the others below.")] = None,
    department: Annotated[str | None, typer.Option()] = None,
    day: Annotated[str | None, typer.Option("--date", metavar="YYYY-MM-DD")] = None,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Stay until it is through.")] = True,
) -> None:
    """Stores the notes in the database of DATABASE_URL; the workers convert them. Ctrl-C leaves it running.

    A note that the source sent before is known by its content and is not converted again, so the same file can be sent twice.
    Exit status 1 if an entry was refused or a note failed.
    """
    from app.report import console

    if not path.exists():
        raise InvalidInput(f"{path} does not exist")
    stated = {"document_type": document_type, "department": department, "date": day}
    defaults = {key: value for key, value in stated.items() if value is not None}
    with open_database("create", "hyojun batch send") as database:
        batch_id = _send(database, path, source, name, rate, ssmix2, defaults, console(stderr=True))
        console().print(str(batch_id))
        if follow:
            _follow(database, batch_id)


def _send(
    database: "Database", path: Path, source: str, name: str | None, rate: str | None, ssmix2: bool,
    defaults: dict[str, str], messages: "Console",
) -> UUID:  # fmt: skip
    from app.batch_archives import prepare_folder, shown
    from app.batch_input import Order, receive
    from app.report import progress_bar
    from schemas.batch import BatchFormat

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}", source):
        raise InvalidInput("--source: must be 1 to 100 ASCII letters, digits, . _ : / and -, the first a letter or digit")
    format_ = BatchFormat.PREPARED if path.is_dir() else _format(path, ssmix2)
    parts = prepare_folder(path, defaults) if path.is_dir() else _pieces(path)
    order = Order(name or shown(path.resolve().name) or "batch", source, format_, defaults, rate)
    with progress_bar(messages) as bar:
        # A folder is read to be counted; its size is not known before.
        task = bar.add_task("sending", total=None if path.is_dir() else max(1, path.stat().st_size // 1_000_000))

        def counted() -> Iterator[bytes]:
            sent = 0
            for part in parts:
                yield part
                sent += len(part)
                bar.update(task, completed=sent // 1_000_000)

        return receive(
            database, counted(), order, created_by="system:cli", max_bytes=read_settings().batch_max_bytes
        )


def _format(path: Path, ssmix2: bool) -> "BatchFormat":
    from schemas.batch import BatchFormat

    known = _SUFFIXES.get(path.suffix.lower())
    if known is None:
        raise InvalidInput(f"{path.suffix or 'the file'}: must end with .jsonl, .ndjson, .csv or .zip, or be a folder")
    return BatchFormat.SSMIX2 if ssmix2 and known == "zip" else BatchFormat(known)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while part := file.read(1_000_000):
            yield part


@app.command("list")
def list_batches(
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="So many of the newest.")] = 20,
) -> None:
    """The newest batches: state, counts, when they will end."""
    from rich.box import SIMPLE
    from rich.table import Table

    from app import batch_runs
    from app.report import console

    screen = console()
    with open_database() as database, database.session_scope() as session:
        found = batch_runs.list_batches(session, count=count)
    table = Table(box=SIMPLE if screen.is_terminal else None)
    for heading in ("id", "name", "state", "read", "done", "failed", "refused", "ends"):
        table.add_column(heading, no_wrap=True, justify="left" if heading in ("id", "name", "state") else "right")
    for one in found:
        read = f"{one['read']}/{one['total'] if one['total'] is not None else '?'}"
        table.add_row(
            str(one["id"]), one["name"][:40], one["state"], read, str(one["done"]), str(one["failed"]),
            str(one["refused"]), _moment(one["ends_at"] or one["finished_at"]),
        )  # fmt: skip
    screen.print(table)


@app.command()
def status(batch: Id) -> None:
    """How far it is, how fast, when it ends, and what to do next."""
    with open_database() as database:
        _show(_status(database, _find(database, batch)))


@app.command()
def follow(batch: Id) -> None:
    """Watches it until it is through. Ctrl-C leaves it running."""
    with open_database() as database:
        _follow(database, _find(database, batch))


@app.command()
def pause(batch: Id) -> None:
    """No further note of it is begun; those that are being converted end."""
    _steer(batch, "pause")


@app.command()
def resume(batch: Id) -> None:
    """A paused one goes on."""
    _steer(batch, "resume")


@app.command()
def cancel(batch: Id) -> None:
    """What has not ended is cancelled, and the rest of its input is dropped; what is converted stays."""
    _steer(batch, "cancel")


@app.command("retry-failed")
def retry_failed(batch: Id) -> None:
    """What failed or was cancelled is queued again."""
    _steer(batch, "retry_failed")


def _steer(batch: str, how: str) -> None:
    from app import batch_runs

    with open_database() as database:
        batch_id = _find(database, batch)
        with database.session_scope() as session:
            getattr(batch_runs, how)(session, batch_id)
        _show(_status(database, batch_id))


@app.command()
def report(
    batch: Id,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for report.csv and report.html.")],
) -> None:
    """Writes OUT/report.csv (a row an entry, errors with their reasons) and OUT/report.html (charts)."""
    from app import batch_report, batch_runs
    from app.batches import write_file
    from app.report import console

    with open_database("export", "hyojun batch report") as database:
        batch_id = _find(database, batch)
        out.mkdir(parents=True, exist_ok=True)
        write_file(out / "report.html", batch_report.report_html(database, batch_id))
        _write_lines(out / "report.csv", batch_report.ledger_csv(batch_runs.every_item(database, batch_id)))
    console().print(f"{out / 'report.csv'}   {out / 'report.html'}", soft_wrap=True)


@app.command()
def output(
    batch: Id,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for output.ndjson and the SS-MIX2 storages.")],
    drafts: Annotated[bool, typer.Option("--drafts", help="Bundles with what no person has released, too.")] = False,
    ssmix2: Annotated[bool, typer.Option("--ssmix2/--no-ssmix2", help="Write the storages, too.")] = True,
) -> None:
    """Writes OUT/output.ndjson (a FHIR Bundle a line) and OUT/ssmix2, OUT/ssmix2-extended of the batch's patients.

    Without --drafts a Bundle holds what is released, as a line; a note of which nothing is has none. Run again, it finishes
    what was cut off. Exit status 1 if something could not be filed; each is told.
    """
    from datetime import UTC

    from app import batch_output
    from app.report import console, progress_bar
    from app.ssmix2 import Facility
    from app.storage_export import Storages, Written

    screen, messages = console(), console(stderr=True)
    settings = read_settings()
    facility = Facility(settings.facility_name or "", institution_number=settings.institution_number)
    total, failed = Written(), 0
    with open_database("export", "hyojun batch output") as database, progress_bar(messages) as bar:
        batch_id = _find(database, batch)
        out.mkdir(parents=True, exist_ok=True)
        task = bar.add_task("bundles", total=None)
        _write_lines(out / "output.ndjson", batch_output.bundles(database, batch_id, drafts=drafts))
        if ssmix2:
            of, everyone = batch_output.patients_of(database, batch_id)
            bar.update(task, description="patients", total=len(everyone))
            storages = Storages(out, facility)
            storages.open(of)
            for patient in everyone:
                try:
                    with database.session_scope() as session:
                        written = storages.write_patient(session, of, patient, datetime.now(UTC))
                except HyojunError as error:
                    if isinstance(error, Unavailable):
                        raise
                    failed += 1
                    messages.print(f"patient {patient}: {error}", markup=False, soft_wrap=True)
                else:
                    total.add(written)
                    for kind, reason in written.refused:
                        messages.print(f"patient {patient}: {kind}: {reason}", markup=False, soft_wrap=True)
                bar.advance(task)
    screen.print(f"Bundles: {out / 'output.ndjson'}", soft_wrap=True)
    if ssmix2:
        counts = f"{total.new.total()} written, {total.unchanged.total()} unchanged, {len(total.refused)} refused"
        screen.print(f"SS-MIX2 storages: {out / 'ssmix2'}   {counts}", soft_wrap=True)
    if failed or total.refused:
        raise typer.Exit(1)


def _write_lines(path: Path, lines: Iterator[str]) -> None:
    """Replaces `path` when all lines are on the disk."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    with unfinished.open("w", encoding="utf-8", newline="") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)


# --- what is shown ----------------------------------------------------------------------------------------------------


def _find(database: "Database", written: str) -> UUID:
    """Raises: InvalidInput."""
    from app import batch_runs

    with database.session_scope() as session:
        found = batch_runs.find_ids(session, written)
    if len(found) != 1:
        how = "no batch has" if not found else "several batches have"
        raise InvalidInput(f"{how} an id that begins so; `hyojun batch list` shows them")
    return found[0]


def _status(database: "Database", batch_id: UUID) -> dict[str, Any]:
    from app import batch_runs

    with database.session_scope() as session:
        return batch_runs.status(session, batch_id)


def _moment(instant: datetime | None) -> str:
    return instant.astimezone().strftime("%m-%d %H:%M") if instant else "-"


def _show(found: dict[str, Any]) -> None:
    from app.report import console

    screen = console()
    total = found["total"] if found["total"] is not None else "?"
    lines = [
        f"{found['id']}  {found['name']}: {found['state']}",
        f"read {found['read']} of {total}: new {found['new']}, corrected {found['corrected']}, known {found['known']}, "
        f"refused {found['refused']}",
        f"ended: done {found['done']}, failed {found['failed']}, cancelled {found['cancelled']}; open {found['open']}",
        f"{found['notes_per_hour']:g} notes an hour" + (f", ends {_moment(found['ends_at'])}" if found["ends_at"] else ""),
        *([found["reason"]] if found["reason"] else []),
        f"next: {found['next']}",
    ]  # fmt: skip
    for line in lines:
        screen.print(line, markup=False, soft_wrap=True)


def _follow(database: "Database", batch_id: UUID) -> None:
    from app.report import console, progress_bar

    messages = console(stderr=True)
    told = None
    try:
        with progress_bar(messages) as bar:
            task = bar.add_task("converting", total=None)
            while True:
                found = _status(database, batch_id)
                through = found["done"] + found["failed"] + found["cancelled"] + found["refused"]
                ends = f", ends {_moment(found['ends_at'])}" if found["ends_at"] else ""
                label = f"{found['state']}, {found['notes_per_hour']:g}/h{ends}"
                bar.update(task, description=label, total=found["total"], completed=through)
                if found["state"] in _ENDED:
                    break
                if found["next"] != told and not found["next"].startswith("nothing to do"):
                    messages.print(f"next: {found['next']}", markup=False, soft_wrap=True)
                told = found["next"]
                time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        short = str(batch_id)[:8]
        messages.print(
            f"the batch goes on without this command; to come back: hyojun batch follow {short}\n"
            f"or: hyojun batch status|pause|resume|cancel {short}",
            markup=False, soft_wrap=True,
        )  # fmt: skip
        raise typer.Exit(0) from None
    _show(found)
    if found["failed"] or found["refused"] or found["state"] != "done":
        raise typer.Exit(1)
