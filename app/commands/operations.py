"""`hyojun audit`, `backup`, `restore` and `purge`: what an operator does beside the running service."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.commands import operator, quiet, read_settings
from app.errors import InvalidInput

if TYPE_CHECKING:
    from app.audit import Wanted
    from app.db import Database
    from app.settings import Settings

audit = typer.Typer(help="Who did what, and who looked at what.", no_args_is_help=True)

_Since = Annotated[str | None, typer.Option(help="From this instant on: 2026-04-01, or 2026-04-01T09:00:00+09:00.")]
_Until = Annotated[str | None, typer.Option(help="Before this instant.")]


@contextmanager
def _reached(settings: "Settings") -> Iterator["Database"]:
    """The database of DATABASE_URL; without one the embedded one, started for as long as it takes."""
    from contextlib import ExitStack

    from app.db import Database
    from app.embedded import embedded_postgres

    with ExitStack() as stack:
        url = settings.database_url or stack.enter_context(embedded_postgres(settings.data_dir))
        database = Database(url)
        stack.callback(database.dispose)
        yield database


# --- audit ------------------------------------------------------------------------------------------------------------


@audit.command()
def verify(
    since: _Since = None,
    head: Annotated[
        str | None, typer.Option(help="A head noted down earlier (`hyojun audit head`): it must still be there.")
    ] = None,
) -> None:
    """Reads the chain of hashes. Exit status 1, and the first row that is not as it was written, when something was changed,
    deleted or put in. What was deleted at the end is missed only with --head."""
    settings = read_settings()
    quiet(settings)
    from app import audit as chain
    from app.report import console

    noted = chain.Head.of(head) if head else None
    with _reached(settings) as database, database.session_scope() as session:
        found = chain.verify(session, since=_instant(since), noted=noted)
    out = console()
    before = f" and {found.former} from before the chain" if found.former else ""
    if found.broken is not None:
        out.print(f"BROKEN at row {found.broken}: {found.reason}", soft_wrap=True, markup=False)
        out.print(f"{found.checked} rows before it are as they were written", soft_wrap=True, markup=False)
        raise typer.Exit(1)
    out.print(f"{found.checked} rows{before} are as they were written", soft_wrap=True, markup=False)
    out.print(f"head {found.head}", soft_wrap=True, markup=False)


@audit.command()
def head() -> None:
    """Prints the last row's number and hash, to be noted down where nobody who can write to the database can."""
    settings = read_settings()
    quiet(settings)
    from app import audit as chain

    with _reached(settings) as database, database.session_scope() as session:
        found = chain.head(session)
    if found is None:
        raise InvalidInput("there is no chain; `hyojun migrate` begins it")
    sys.stdout.write(f"{found}\n")


@audit.command("list")
def list_events(
    actor: Annotated[str | None, typer.Option(help="As in acted_by: user:…, client:…, os:….")] = None,
    action: Annotated[str | None, typer.Option(help="read, search, release, login-failed …")] = None,
    type_: Annotated[str | None, typer.Option("--type", help="A FHIR type.")] = None,
    patient: Annotated[str | None, typer.Option(help="The FHIR id of a Patient.")] = None,
    since: _Since = None,
    until: _Until = None,
    count: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
) -> None:
    """The newest events, one a line."""
    settings = read_settings()
    quiet(settings)
    from rich.table import Table

    from app import audit as chain
    from app.report import console

    wanted = _wanted(actor, action, type_, patient, since, until)
    with _reached(settings) as database, database.session_scope() as session:
        rows = chain.newest(session, wanted, count=count)
    table = Table(box=None)
    for name in ("id", "at", "who", "action", "outcome", "what"):
        table.add_column(name, no_wrap=True)
    for row in rows:
        what = row["route"] or row["type"] or str(row["note_id"] or "")
        at = row["recorded_at"].astimezone(UTC).isoformat(timespec="seconds")
        table.add_row(str(row["id"]), at, row["acted_by"], row["action"], row["outcome"] or "success", what)
    console().print(table)


@audit.command("export")
def export_events(
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write; it must not be there yet.")],
    actor: Annotated[str | None, typer.Option(help="As in acted_by.")] = None,
    action: Annotated[str | None, typer.Option(help="read, search, release …")] = None,
    type_: Annotated[str | None, typer.Option("--type", help="A FHIR type.")] = None,
    patient: Annotated[str | None, typer.Option(help="The FHIR id of a Patient.")] = None,
    since: _Since = None,
    until: _Until = None,
) -> None:
    """Writes FHIR AuditEvents as NDJSON, the oldest first, with the hashes of the chain."""
    settings = read_settings()
    quiet(settings)
    from app import audit as chain
    from app import fhir
    from app.fhir.audit_event import audit_event
    from app.report import console
    from schemas.review import AuditAction

    wanted = _wanted(actor, action, type_, patient, since, until)
    count = 0
    with _reached(settings) as database:
        with database.session_scope() as session:
            chain.record_access(session, operator(), AuditAction.EXPORT, route="hyojun audit export", type_="AuditEvent")
        with database.session_scope() as session, out.open("x", encoding="utf-8") as file:
            for row in chain.stream(session, wanted):
                file.write(fhir.dumps(audit_event(row)) + "\n")
                count += 1
    console().print(f"{count} events: {out}", soft_wrap=True, markup=False)


def _wanted(
    actor: str | None, action: str | None, type_: str | None, patient: str | None, since: str | None, until: str | None
) -> "Wanted":
    from app.audit import Wanted
    from schemas.review import AuditAction

    if action is not None and action not in set(AuditAction):
        raise InvalidInput(f"--action: one of {', '.join(AuditAction)}")
    chosen = AuditAction(action) if action else None
    return Wanted(actor, chosen, type_, patient, None, _instant(since), _instant(until))


def _instant(written: str | None) -> datetime | None:
    """Without a zone: the zone of this machine."""
    if written is None:
        return None
    try:
        return datetime.fromisoformat(written).astimezone()
    except ValueError:
        raise InvalidInput(f"{written} is no instant; write 2026-04-01 or 2026-04-01T09:00:00+09:00") from None


# --- backup and restore -----------------------------------------------------------------------------------------------


def backup(
    out: Annotated[Path, typer.Argument(metavar="DIR", help="Where the backup's own folder is made.")],
) -> None:
    """Backs the database up while everything goes on. THE BACKUP IS PATIENT DATA, not encrypted: keep it accordingly.

    Not in it: the files of the models and profiles, .env, and what was exported.
    """
    settings = read_settings()
    quiet(settings)
    from app.backup import back_up
    from app.report import console

    out_, messages = console(), console(stderr=True)
    with _reached(settings) as database, messages.status("backing up"):
        folder = back_up(database, out, by=operator(), models=_models(settings))
    size = (folder / "database.dump").stat().st_size
    out_.print(f"{folder}   {size:,} bytes", soft_wrap=True, markup=False)


def restore(
    folder: Annotated[Path, typer.Argument(metavar="BACKUP", help="The folder that `hyojun backup` made.")],
    into: Annotated[
        str | None,
        typer.Option(envvar="RESTORE_DATABASE_URL", show_envvar=True, show_default=False,
                     help="An empty database; default: that of DATABASE_URL, or the embedded one. Passwords are better "
                     "kept in the variable than on the command line."),
    ] = None,
) -> None:
    """Fills an empty database with a backup, checks it against its manifest and the audit log's chain, and brings it to this
    version. Jobs that were open then go on as soon as a worker runs."""  # fmt: skip
    settings = read_settings()
    quiet(settings)
    from app.backup import Manifest
    from app.backup import restore as fill
    from app.report import console

    out, messages = console(), console(stderr=True)
    before = Manifest.read(folder).models
    with messages.status("restoring"):
        if into is not None:
            manifest, verified = fill(folder, into, by=operator())
        else:
            with _reached(settings) as database:
                manifest, verified = fill(folder, database.url, by=operator())
    notes, jobs = manifest.counts.get("notes", 0), manifest.counts.get("jobs", 0)
    out.print(f"restored: {notes} notes, {jobs} jobs, as of {manifest.made_at}", soft_wrap=True, markup=False)
    if verified.broken is not None:
        out.print(
            f"the audit log was BROKEN already when it was backed up, at row {verified.broken}: {verified.reason}",
            soft_wrap=True, markup=False,
        )  # fmt: skip
        raise typer.Exit(1)
    out.print(f"audit log: {verified.checked} rows are as they were written", soft_wrap=True, markup=False)
    if before != _models(settings):
        messages.print("the models configured here are not those of the backup (see its manifest.json)", soft_wrap=True)


def _models(settings: "Settings") -> dict[str, Any]:
    """Name, size and fingerprint of each model, adapter and calibration in use; what is missing is left out."""
    import hashlib

    from app.generation.registry import configured, fingerprints

    found: dict[str, Any] = {}
    try:
        entries = configured(settings).entries
    except (InvalidInput, OSError):
        return found
    for name, entry in entries.items():
        if entry.file.is_file() and (entry.adapter is None or entry.adapter.is_file()):
            marks = fingerprints(entry.file, "", entry.adapter)
            found[name] = {"file": entry.file.name, "model": marks.model, "adapter": marks.adapter}
            if entry.calibration is not None and entry.calibration.is_file():
                found[name]["calibration"] = hashlib.sha256(entry.calibration.read_bytes()).hexdigest()
    return found


# --- purge ------------------------------------------------------------------------------------------------------------


def purge(
    older_than: Annotated[
        str | None, typer.Option(help="365d: notes that came in longer ago; default: NOTE_RETENTION_DAYS.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="Of this sending system alone.")] = None,
    patient: Annotated[str | None, typer.Option(help="Of this patient alone, by the sender's id.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and delete nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also notes with undecided statements.")] = False,
    with_resources: Annotated[
        bool, typer.Option("--with-resources", help="Also notes with released resources, and those resources.")
    ] = False,
) -> None:
    """Deletes old notes with all that was made of them; audit events stay. Nothing brings them back but a backup.

    What clients wrote themselves at /fhir, and files that were exported, are not touched. Exit status 1 where notes would go
    that need --force or --with-resources.
    """
    settings = read_settings()
    quiet(settings)
    from app import retention
    from app.report import console, progress_bar

    old = retention.Old(_age(older_than, settings.note_retention_days), source, patient)
    out, messages = console(), console(stderr=True)
    with _reached(settings) as database:
        with database.session_scope() as session:
            found = retention.find(session, old)
        out.print(
            f"{found.notes} notes; of them {found.undecided} with undecided statements, {found.released} with released "
            f"resources; {found.open} more wait to be converted and stay", soft_wrap=True, markup=False,
        )  # fmt: skip
        if dry_run:
            return
        with progress_bar(messages) as bar:
            task = bar.add_task("deleting", total=found.notes)
            gone = retention.purge(
                database, old, by=operator(), force=force, with_resources=with_resources,
                progress=lambda count: bar.advance(task, count),
            )  # fmt: skip
    out.print(
        f"deleted: {gone.notes} notes, {gone.bundles} bundles that were handed out, {gone.batches} batches, "
        f"{gone.receipts} claim files, {gone.expired} tokens, sessions and exports that had ended", soft_wrap=True, markup=False,
    )  # fmt: skip


def _age(written: str | None, days: int | None) -> timedelta:
    if written is None:
        if days is None:
            raise InvalidInput("how old? Say --older-than 365d, or set NOTE_RETENTION_DAYS")
        return timedelta(days=days)
    match = re.fullmatch(r"([1-9][0-9]{0,4})d", written)
    if match is None:
        raise InvalidInput("--older-than: a number of days, as in 365d")
    return timedelta(days=int(match[1]))
