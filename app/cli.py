"""The command `hyojun`. Each command reads the settings once, and imports the heavy libraries that it alone needs."""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.commands import (
    access,
    batch,
    evaluate,
    explain,
    export,
    import_ssmix2,
    local_codes,
    models,
    operations,
    profiles,
    push,
    quiet,
    read_settings,
    receipts,
    replay,
    store,
    tell,
    terminology,
    training_data,
)
from app.errors import HyojunError, InvalidInput
from app.log import configure, describe

if TYPE_CHECKING:
    from app.batches import Earlier
    from app.settings import Settings
    from schemas.note import ChartNote

app = typer.Typer(
    help="Japanese chart notes to FHIR (JP-CLINS, JP Core) and SS-MIX2.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # it can print local variables, and those hold notes
)


@app.callback()
def _begin() -> None:
    sys.excepthook = _report


def _report(kind: type[BaseException], error: BaseException, tb: TracebackType | None) -> None:
    """The last word of a failed command: one line for what an operator can change, type and place for any other."""
    reason = str(error) if isinstance(error, HyojunError) else explain(error)
    if reason is not None:
        print(f"hyojun: {reason}", file=sys.stderr)
        return
    import traceback

    print(f"hyojun: {describe(error)}", file=sys.stderr)
    if isinstance(error, OSError) and error.strerror:
        print(f"  {error.strerror}", file=sys.stderr)
    library = str(Path(typer.__file__).parent)  # a dozen frames between the command's name and its function
    for frame in traceback.extract_tb(tb):
        if frame.filename.startswith(library):
            continue
        print(f"  at {frame.filename}:{frame.lineno} {frame.name}", file=sys.stderr)


@app.command()
def convert(
    out: Annotated[Path, typer.Option("--out", "-o", help="Directory for the Bundles and the SS-MIX2 storage.")],
    notes: Annotated[Path | None, typer.Argument(help="JSON Lines, one note a line; or .json, one note.")] = None,
    text: Annotated[Path | None, typer.Option(help="One note as plain text instead.")] = None,
    source: Annotated[str, typer.Option(help="Name of the sending system; part of every id that is written.")] = "file",
    note_id: Annotated[str | None, typer.Option("--id", help="With --text; default, the file's name.")] = None,
    document_type: Annotated[str, typer.Option(help="With --text.")] = "progress",
    department: Annotated[str, typer.Option(help="With --text.")] = "不明",
    day: Annotated[str | None, typer.Option("--date", help="With --text: the note's date; default, today.")] = None,
    patient_id: Annotated[str, typer.Option(help="With --text; SS-MIX2 needs 7 to 15.")] = "0000000",
    family: Annotated[str, typer.Option(help="With --text.")] = "不明",
    given: Annotated[str, typer.Option(help="With --text.")] = "不明",
    sex: Annotated[str, typer.Option(help="With --text: male, female, other or unknown.")] = "unknown",
    birth_date: Annotated[str | None, typer.Option(help="With --text; left out: unknown.")] = None,
) -> None:
    """Converts notes in this process, without a server; writes OUT/<id>.json and OUT/ssmix2/.

    Exit status 1 if a note was refused or failed; the others are written all the same.
    """
    if (notes is None) == (text is None):
        raise typer.BadParameter("give a file of notes, or one text with --text")
    settings = read_settings()
    quiet(settings)
    from app.batches import convert_notes
    from app.intake import Line, count_notes, read_note_text, read_notes
    from app.report import console, progress_bar, show_outcomes

    def one_text(path: Path) -> Iterator[Line]:
        patient = {"id": patient_id, "family": family, "given": given, "sex": sex}
        patient |= {"birth_date": birth_date} if birth_date else {}
        yield read_note_text(path, {
            "id": note_id or re.sub(r"[^0-9A-Za-z.-]+", "-", path.stem).strip("-.")[:64] or "note",
            "document_type": document_type, "department": department, "date": day or date.today().isoformat(),
            "patient": patient,
        })  # fmt: skip

    path = notes or text
    assert path is not None
    if not path.exists() or path.is_dir():
        raise InvalidInput(f"{path} is not a file")
    screen, messages = console(), console(stderr=True)
    converter = _load_converter(settings)
    lines = read_notes(path) if notes else one_text(path)
    outcomes = []

    def one_note(note: "ChartNote", earlier: "Sequence[Earlier]") -> Any:
        return converter.convert(note, source=source, earlier=earlier)

    try:
        with progress_bar(messages) as bar, closing(convert_notes(lines, out, one_note, slots=converter.slots)) as found:
            task = bar.add_task("converting", total=count_notes(path) if notes else 1)
            for outcome in found:
                outcomes.append(outcome)
                if outcome.error is not None:
                    known = f" (note {outcome.note_id})" if outcome.note_id else ""
                    messages.print(f"line {outcome.number}{known}: {outcome.error}", markup=False, soft_wrap=True)
                bar.advance(task)
    except KeyboardInterrupt:
        written = sum(outcome.error is None for outcome in outcomes)
        messages.print(f"stopped: {written} notes are written to {out}", markup=False, soft_wrap=True)
        # The notes that are being converted would hold the process, for minutes with a large model; what is on the disk
        # is whole at any moment.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(130)
    show_outcomes(screen, outcomes)
    screen.print(f"FHIR Bundles: {out}/<id>.json   SS-MIX2 storage: {out / 'ssmix2'}", soft_wrap=True)
    if any(outcome.error is not None for outcome in outcomes):
        raise typer.Exit(1)


def _load_converter(settings: "Settings") -> Any:
    """With DATABASE_URL the tables are those in use there; without, the ones that come with Hyojun."""
    from app.pipeline import Converter
    from app.terminology.entries import starter_entries, starter_version
    from app.terminology.matching import Lexicon

    if settings.database_url is None:
        return Converter.load(settings, Lexicon(starter_entries(), starter_version()))
    from app.db import Database
    from app.terminology.importers import lexicon_from

    database = Database(settings.database_url)
    try:
        with database.session_scope() as session:
            lexicon = lexicon_from(session)
        tell(database, "convert", "hyojun convert")
    finally:
        database.dispose()
    return Converter.load(settings, lexicon)


@app.command()
def up(
    once: Annotated[bool, typer.Option("--once", help="End when the samples are converted.")] = False,
    samples: Annotated[Path, typer.Option(help="Directory of .json and .jsonl files.")] = Path("samples"),
    port: Annotated[int | None, typer.Option(help="Default: API_PORT, or a free one if that is taken.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Convert notes anew that were converted before.")] = False,
) -> None:
    """Starts everything, converts the samples through the HTTP API, shows what came out, and stays up until Ctrl-C.

    The database is the embedded one unless DATABASE_URL is set. Nothing is left running at the end.
    """
    settings = read_settings()
    configure("WARNING")
    from app.demo import run_demo

    raise typer.Exit(run_demo(settings, samples, once=once, port=port, again=again))


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="End when the samples are converted.")] = False,
    samples: Annotated[Path, typer.Option(help="Directory of .json and .jsonl files.")] = Path("samples"),
    port: Annotated[int | None, typer.Option(help="Default: API_PORT, or a free one if that is taken.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Convert notes anew that were converted before.")] = False,
) -> None:
    """The same as `up`."""
    up(once, samples, port, again)


@app.command()
def serve() -> None:
    """The API alone; needs DATABASE_URL, and at least one `hyojun worker` on the same database. SIGTERM lets requests that
    run end first, for 30 seconds."""
    settings = read_settings()
    settings.require_database_url()
    import uvicorn

    from app.main import create_app

    configure(settings.log_level)
    access.invite_admin(settings)
    # log_config=None: the log is ours; an access line would hold URLs. proxy_headers: what is believed of them is decided
    # by TRUSTED_PROXY.
    uvicorn.run(
        create_app(settings), host=settings.api_host, port=settings.api_port, log_config=None, access_log=False,
        server_header=False, proxy_headers=False, timeout_graceful_shutdown=5,
    )  # fmt: skip


@app.command()
def worker() -> None:
    """One worker; needs DATABASE_URL. SIGTERM lets running jobs end first."""
    settings = read_settings()
    settings.require_database_url()
    from app.worker import create_worker, run_worker

    configure(settings.log_level)
    run_worker(create_worker(settings), settings)


@app.command()
def migrate() -> None:
    """Brings the tables of DATABASE_URL to this version."""
    settings = read_settings()
    url = settings.require_database_url()
    from app import db

    configure(settings.log_level)
    db.migrate(url, lock_seconds=settings.migration_lock_seconds, max_seconds=settings.migration_max_seconds)


app.command("reindex")(store.reindex)
app.command("import-terminology")(terminology.import_terminology)
app.command("replay")(replay.replay)
app.add_typer(replay.reprocess, name="reprocess")
app.command("import-profiles")(profiles.import_profiles)
app.command("profiles")(profiles.profiles)
app.add_typer(models.models, name="models")
app.add_typer(terminology.terminology, name="terminology")
app.add_typer(local_codes.local_codes, name="local-codes")
app.add_typer(batch.app, name="batch")
app.add_typer(receipts.app, name="receipts")
app.add_typer(push.push, name="push")
app.add_typer(access.users, name="users")
app.add_typer(access.clients, name="clients")
export.app.command("sft")(training_data.sft)
app.add_typer(export.app, name="export")
app.add_typer(training_data.opt_outs, name="opt-out")
app.add_typer(import_ssmix2.app, name="import")
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(operations.audit, name="audit")
app.command("backup")(operations.backup)
app.command("restore")(operations.restore)
app.command("purge")(operations.purge)


if __name__ == "__main__":
    app()
