"""`hyojun export`: Bundles and documents for the national service, as files. They are only written, never sent."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.commands import open_database
from app.errors import HyojunError, InvalidInput

if TYPE_CHECKING:
    from app.submissions import DocumentMade, Made
    from schemas.issue import Issue

app = typer.Typer(help="Writes Bundles and documents for the national service as files.", no_args_is_help=True)

Out = Annotated[Path, typer.Option("--out", "-o", help="Directory for the files; made where it is not there.")]
Drafts = Annotated[bool, typer.Option("--drafts", help="Take what no person has released too. Not for the service.")]


@dataclass
class _Count:
    """Of files. `waiting`: for a person's release; `failed`: those that should be there and cannot be made."""

    written: int = 0
    unchanged: int = 0
    left_out: int = 0
    waiting: int = 0
    failed: int = 0


MAX_REASONS = 100
"""Lines on what could not be made; beyond it, how many there are."""


class _Reasons:
    """Why something was not made, on standard error: what is serious alone, where anything is."""

    def __init__(self, messages: Any) -> None:
        self.messages, self.count = messages, 0

    def show(self, what: str, issues: "list[Issue]") -> None:
        errors = [issue for issue in issues if issue.severity in ("fatal", "error")]
        for issue in errors or [issue for issue in issues if issue.severity != "information"] or issues:
            self.line(f"{what}: {issue.severity} {issue.text}")

    def line(self, text: str) -> None:
        self.count += 1
        if self.count <= MAX_REASONS:
            self.messages.print(text, markup=False, soft_wrap=True)

    def end(self) -> None:
        if self.count > MAX_REASONS:
            self.messages.print(f"and {self.count - MAX_REASONS} more; the API tells each ($clins-bundle?report=true)")


@app.command()
def clins(
    out: Out,
    type_: Annotated[
        list[str] | None, typer.Option("--type", help="Condition, AllergyIntolerance or Observation; default, all.")
    ] = None,
    patient: Annotated[
        list[str] | None, typer.Option("--patient", help="The sender's patient id; default, all.")
    ] = None,
    drafts: Drafts = False,
) -> None:
    """Writes OUT/<identifier>.json, a Bundle (JP_Bundle_CLINS) each; `^` of the identifier becomes `_`.

    Exit status 1 if a Bundle that should be there could not be made. Waiting for review is no fault.
    """
    from app import submissions
    from app.fhir.clins import CLINS_TYPES
    from app.report import console, progress_bar

    wanted = [known for known in CLINS_TYPES if not type_ or known in type_]
    if unknown := set(type_ or ()) - set(CLINS_TYPES):
        raise typer.BadParameter(f"--type: {' '.join(sorted(unknown))} is none of {', '.join(CLINS_TYPES)}")
    screen, messages = console(), console(stderr=True)
    counts, reasons = {known: _Count() for known in wanted}, _Reasons(messages)
    with open_database() as database:
        with database.session_scope() as session:
            everyone = [one for one in submissions.patients(session) if not patient or one[1] in patient]
        if patient and (lost := set(patient) - {local for _, local in everyone}):
            raise InvalidInput(f"{len(lost)} of the patients asked for have no finished note")
        out.mkdir(parents=True, exist_ok=True)
        with progress_bar(messages) as bar:
            task = bar.add_task("exporting", total=len(everyone) * len(wanted))
            for source, local in everyone:
                for known in wanted:
                    now = datetime.now(UTC)
                    with database.session_scope() as session:
                        found = submissions.clins_bundles(session, source, local, known, drafts=drafts, now=now)
                    # After the commit: a file that no row tells of would be worse than a row whose file comes next time.
                    for made in found:
                        _write_bundle(out, made, counts[known], reasons)
                    bar.advance(task)
    reasons.end()
    _table(screen, counts)
    screen.print(f"Bundles: {out}/<identifier>.json", soft_wrap=True)
    if any(count.failed for count in counts.values()):
        raise typer.Exit(1)


@app.command()
def documents(
    out: Out,
    note: Annotated[list[str] | None, typer.Option("--note", help="The sender's note id; default, all.")] = None,
    drafts: Drafts = False,
) -> None:
    """Writes OUT/<identifier>.json for each note of type referral or discharge: 診療情報提供書, 退院時サマリー.

    A note of which something waits for review is left for another time: half a document is none.
    Exit status 1 if a document could not be made; each reason is shown.
    """
    from app import submissions
    from app.report import console, progress_bar

    screen, messages = console(), console(stderr=True)
    count, reasons = _Count(), _Reasons(messages)
    with open_database() as database:
        with database.session_scope() as session:
            known = submissions.document_ids(session, note or ())
        if note and (lost := set(note) - {note_id for note_id, _ in known}):
            raise InvalidInput(f"no converted note of type referral or discharge: {', '.join(sorted(lost))}")
        out.mkdir(parents=True, exist_ok=True)
        with progress_bar(messages) as bar:
            task = bar.add_task("exporting", total=len(known))
            for note_id, document_id in known:
                try:
                    with database.session_scope() as session:
                        made = submissions.note_document(session, document_id, drafts=drafts)
                except HyojunError as error:
                    count.failed += 1
                    reasons.line(f"note {note_id}: {error}")
                else:
                    _write_document(out, made, count, reasons)
                bar.advance(task)
    reasons.end()
    _table(screen, {"document": count})
    screen.print(f"Documents: {out}/<identifier>.json", soft_wrap=True)
    if count.failed:
        raise typer.Exit(1)


def _write_bundle(out: Path, made: "Made", count: _Count, reasons: _Reasons) -> None:
    count.left_out += made.left_out
    if made.bundle is not None:
        assert made.identifier is not None
        _write(out, made.identifier, made.bundle, count)
        return
    # What is missing, and a Bundle that the service may still hold, need a person; a draft has one waiting for it already,
    # and where all is denied or long past there is nothing to send.
    serious = any(issue.severity == "error" or issue.code == "conflict" for issue in made.issues)
    if not serious and (made.waiting or all(issue.severity == "information" for issue in made.issues)):
        count.waiting += bool(made.waiting)
        return
    count.failed += 1
    # A patient's id is no text of a note, but it names a person: the report's document, or nothing, stands for it.
    reasons.show(f"{made.type} {made.document or ''}".strip(), made.issues)


def _write_document(out: Path, made: "DocumentMade", count: _Count, reasons: _Reasons) -> None:
    if made.waiting:
        count.waiting += 1
    elif made.bundle is None:
        count.failed += 1
        reasons.show(f"note {made.note_id}", made.issues)
    else:
        count.left_out += len(made.issues)
        _write(out, made.bundle["identifier"]["value"], made.bundle, count)


def _write(out: Path, identifier: str, bundle: dict[str, Any], count: _Count) -> None:
    from app import fhir
    from app.batches import write_file

    path = out / f"{identifier.replace('^', '_')}.json"
    text = fhir.dumps(bundle)
    if path.exists() and path.read_bytes() == text.encode():
        count.unchanged += 1
        return
    write_file(path, text)
    count.written += 1


def _table(screen: Any, counts: dict[Any, _Count]) -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE if screen.is_terminal else None)
    table.add_column("", no_wrap=True)
    for heading in ("written", "unchanged", "left out", "waiting", "failed"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, count in counts.items():
        cells = (count.written, count.unchanged, count.left_out, count.waiting, count.failed)
        table.add_row(str(name), *map(str, cells))
    screen.print(table)
