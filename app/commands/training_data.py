"""`hyojun export sft` and `hyojun opt-out`: what people released, as training data, and whose notes are none."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.commands import open_database, read_settings
from app.errors import InvalidInput

if TYPE_CHECKING:
    from app.generation.reader import NoteReader
    from app.settings import Settings

opt_outs = typer.Typer(help="Patients and notes that no model may be trained on.", no_args_is_help=True)


def sft(
    out: Annotated[Path, typer.Option("--out", "-o", help="Directory for the files; made where it is not there.")],
    test_share: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of the patients whose notes go to test.jsonl.")
    ] = 0.1,
    seed: Annotated[
        int, typer.Option(help="Salt of the hashes; with it the split of the patients stays the same.")
    ] = 0,
    since: Annotated[
        str | None, typer.Option(help="Only what was released since this time (ISO 8601; without a zone, local).")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files of an earlier export.")] = False,
    by: Annotated[str, typer.Option(help="Who answers for it; kept in the audit events.")] = "hyojun export sft",
) -> None:
    """Writes released notes as chats for training: OUT/train.jsonl, OUT/test.jsonl, OUT/manifest.json.

    THE FILES HOLD PATIENT TEXT. They are readable by you alone; what becomes of them is yours to answer for.

    A patient is in one of the two files only. Notes that wait for a decision or a release, and those that were opted out
    (`hyojun opt-out`), are left out and counted.
    """
    from app.commands.export import instant
    from app.report import console, progress_bar
    from app.sft_export import export

    screen, messages = console(), console(stderr=True)
    moment = instant(since)
    reader = _reader(read_settings())
    with open_database() as database, progress_bar(messages) as bar:
        task = bar.add_task("exporting", total=None)
        manifest = export(
            database, reader, out, test_share=test_share, seed=seed, since=moment, force=force, by=by,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
    _show(screen, manifest)
    screen.print(f"{out} holds patient text, readable by you alone: keep it inside the hospital, and delete it after use",
                 markup=False, soft_wrap=True)  # fmt: skip


def _reader(settings: "Settings") -> "NoteReader":
    """One that prepares prompts as a chat model of this installation is given them; no model is opened or asked."""
    from app.generation.endpoint import Endpoint
    from app.generation.endpoint import configured as model_server
    from app.generation.reader import NoteReader
    from app.generation.registry import READING, configured
    from app.generation.remote import RemoteModel

    endpoint = model_server(settings)
    if endpoint is not None:
        return NoteReader(RemoteModel(endpoint))
    entry = configured(settings).get(READING)
    nowhere = Endpoint("hyojun", "http://127.0.0.1", "base", settings.model_context_tokens or entry.context_tokens)
    return NoteReader(RemoteModel(nowhere), prompt=entry.prompt or READING)


def _show(screen: Any, manifest: dict[str, Any]) -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE if screen.is_terminal else None)
    table.add_column("", no_wrap=True)
    for heading in ("patients", "notes", "pairs"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, counts in manifest["files"].items():
        table.add_row(name, *(str(counts[key]) for key in ("patients", "notes", "pairs")))
    screen.print(table)
    for reason, count in manifest["left_out"].items():
        screen.print(f"left out: {reason} {count}", markup=False)


_By = Annotated[str, typer.Option(help="Who does it, by the id that the hospital knows the person by.")]
_Source = Annotated[
    str | None, typer.Option(help="The sending system; may be left out where one system alone sent such notes.")
]
_Undo = Annotated[bool, typer.Option("--undo", help="End it: the notes may be used again.")]


@opt_outs.command("patient")
def patient(
    patient_id: Annotated[str, typer.Argument(metavar="ID", help="The sender's patient id.")],
    by: _By,
    source: _Source = None,
    undo: _Undo = False,
) -> None:
    """Keeps all notes of a patient, also those to come, out of training data."""
    _set(by, source, undo, patient_id=patient_id)


@opt_outs.command("note")
def note(
    note_id: Annotated[str, typer.Argument(metavar="ID", help="The sender's note id.")],
    by: _By,
    source: _Source = None,
    undo: _Undo = False,
) -> None:
    """Keeps one note, corrections of it too, out of training data."""
    _set(by, source, undo, note=note_id)


@opt_outs.command("list")
def list_all() -> None:
    """Those in force, oldest first."""
    from rich.box import SIMPLE
    from rich.markup import escape
    from rich.table import Table

    from app import opt_outs as stored
    from app.report import console

    with open_database() as database, database.session_scope() as session:
        found = stored.opt_outs(session)
    out = console()
    table = Table(box=SIMPLE if out.is_terminal else None)
    for column in ("source", "patient", "note", "since", "by"):
        table.add_column(column, overflow="fold")
    for one in found:
        at = one.created_at.astimezone().strftime("%Y-%m-%d %H:%M")
        cells = (one.subject.source, one.subject.patient_id or "", one.subject.note or "", at, one.created_by)
        table.add_row(*map(escape, cells))
    out.print(table)
    out.print("1 opt-out" if len(found) == 1 else f"{len(found)} opt-outs")


def _source(source: str | None, known: "list[str] | Any") -> str:
    if source is not None:
        return source
    if len(known) != 1:
        several = f"several systems sent such notes ({', '.join(known)})" if known else "no system sent such a note yet"
        raise InvalidInput(f"{several}; name the system with --source")
    return str(known[0])


def _set(by: str, source: str | None, undo: bool, **which: str) -> None:
    """`which`: patient_id or note, as `Subject` names them."""
    from app.opt_outs import Subject, opt_in, opt_out, sources_of

    with open_database() as database:
        with database.session_scope() as session:
            known = sources_of(session, **which)
        subject = Subject(_source(source, known), **which)
        with database.session_scope() as session:
            if undo:
                opt_in(session, subject, by=by)
                typer.echo("ended; the notes may be used again")
            else:
                new = opt_out(session, subject, by=by)
                typer.echo(
                    "from now on nothing of it is exported; files written before are not changed" if new else "so already"
                )
