"""`hyojun receipts check`: the claims of a file, checked in this process; no server, no queue."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.commands import open_database, quiet, read_settings, tell
from app.errors import HyojunError, InvalidInput

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from app.db import Database
    from app.intake import Line
    from app.receipt_output import Item
    from app.receipts.chart import Entry
    from app.receipts.tables import Tables
    from app.receipts.uke import Claim, Fault
    from app.settings import Settings
    from schemas.receipt import Advice, Finding

MAX_ROWS = 200
"""Lines shown one by one; the CSV has all."""
MAX_FAULTS = 50

Checked = tuple["Sequence[Finding]", "Sequence[Advice]", tuple[str, ...]]
"""What was found in a claim, what the model advises, and what is to be told of how it was checked."""
Check = Callable[["Claim"], Checked]


def check_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A claim file (UKE).")],
    notes: Annotated[
        Path | None, typer.Option(help="Folder of notes, .json or .jsonl; read first, and put beside the claims.")
    ] = None,
    stored: Annotated[bool, typer.Option("--database", help="Put the notes of the database beside the claims.")] = False,
    rules_only: Annotated[bool, typer.Option("--rules-only", help="The tables' checks alone, without a model.")] = False,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write all of it as CSV.")] = None,
    uke: Annotated[
        Path | None,
        typer.Option("--uke", help="Write the file with the comments that the model proposes; read each: nobody has yet."),
    ] = None,
) -> None:
    """Checks the claims of FILE here, without a server, and shows which lines need correction or confirmation.

    With DATABASE_URL the tables are those in use there; without, the ones that come with Hyojun. The model is that of the use
    case uc2 of models.toml; where there is none the tables alone speak. No patient's name is shown.

    Exit status 1 if a claim could not be checked; whether something was found does not change it.
    """
    from app.receipt_output import report_csv
    from app.report import console

    if stored and notes is not None:
        raise InvalidInput("--notes and --database: choose one chart")
    if rules_only and (stored or notes is not None):
        raise InvalidInput("--rules-only: the tables' checks read no chart; leave --notes and --database out")
    if rules_only and uke is not None:
        raise InvalidInput("--uke: the tables' checks propose no comments; leave --rules-only out")
    content = content_of(file)
    if notes is not None and not notes.is_dir():
        raise InvalidInput(f"{notes} is not a folder")
    settings = read_settings()
    quiet(settings)
    tables = _tables(settings)
    screen, messages = console(), console(stderr=True)
    run = _Run(content, tables, messages)
    if rules_only:
        run.through(_by_rules(tables))
    else:
        with _with_model(settings, tables, notes, stored, messages) as (check, slots):
            run.through(check, slots)
    if not run.claims:
        raise InvalidInput(f"{file}: is no claim file: no record RE is in it")
    run.show(screen)
    if csv is not None:
        write_whole(csv, (line.encode() for line in report_csv(run.items)))
        screen.print(f"CSV: {csv}", markup=False, soft_wrap=True)
    if uke is not None:
        run.write_proposed(uke, screen)
    if run.failed:
        raise typer.Exit(1)


class _Run:
    """One file on its way through the checks."""

    def __init__(self, content: bytes, tables: "Tables", messages: "Console") -> None:
        self._content, self._tables, self._messages = content, tables, messages
        self.claims = self.needing = self.failed = 0
        self.items: list[Item] = []
        self._faults: list[Fault] = []
        self._told: set[str] = set()

    def through(self, check: Check, slots: int = 1) -> None:
        """Every claim, in the order of the file; one that fails does not end the others."""
        from app.report import progress_bar

        def safely(claim: "Claim") -> "tuple[Claim, Checked | HyojunError]":
            try:
                return claim, check(claim)
            except HyojunError as error:
                return claim, error

        with progress_bar(self._messages) as bar, ThreadPoolExecutor(slots) as pool:
            task = bar.add_task("checking", total=len(self._content))
            parts = self._parts()
            while some := list(islice(parts, 4 * slots)):
                found = pool.map(safely, some) if slots > 1 else map(safely, some)
                for claim, checked in found:
                    self._take(claim, checked)
                    bar.advance(task, sum(len(record.raw or b"") for record in claim.records))

    def _parts(self) -> "Iterator[Claim]":
        import io

        from app.receipts.uke import Claim, read_uke

        for part in read_uke(io.BytesIO(self._content)):
            self._faults += part.faults
            if isinstance(part, Claim):
                yield part

    def _take(self, claim: "Claim", checked: "Checked | HyojunError") -> None:
        from app.receipt_decisions import joined
        from app.receipt_output import Item
        from app.receipts.describe import line_texts
        from schemas.receipt import Advised

        self.claims += 1
        if isinstance(checked, HyojunError):
            self.failed += 1
            self._tell(f"claim {claim.number}, line {claim.line}: {checked}")
            return
        findings, advice, issues = checked
        for text in issues:
            if text not in self._told:
                self._told.add(text)
                self._tell(text)
        said = joined(findings, advice)
        if not said:
            return
        # What a model looked at and found in order needs nothing.
        self.needing += any(one.advice is None or one.advice.action is not Advised.NO_CHANGE for one in said)
        texts = line_texts(claim, self._tables)
        self.items += [
            Item(
                f"{claim.line}-{number}", claim.number, one.line, texts.get(one.line, ""), finding=one.finding,
                advice=one.advice,
            )
            for number, one in enumerate(said, 1)
        ]  # fmt: skip

    def _tell(self, text: str) -> None:
        self._messages.print(text, markup=False, soft_wrap=True)

    def show(self, screen: "Console") -> None:
        for fault in self._faults[:MAX_FAULTS]:
            field = f", field {fault.position} ({fault.name})" if fault.position else ""
            self._tell(f"line {fault.line}{field}: {fault.text}")
        if len(self._faults) > MAX_FAULTS:
            self._tell(f"{len(self._faults) - MAX_FAULTS} more faults of records")
        if self.items:
            screen.print(_results(screen, self.items[:MAX_ROWS]))
        if len(self.items) > MAX_ROWS:
            screen.print(f"{len(self.items) - MAX_ROWS} more; --csv writes all")
        found = sum(item.finding is not None for item in self.items)
        advised = sum(item.advice is not None for item in self.items)
        screen.print(
            f"{self.claims} claims, {self.needing} need work: {found} findings, {advised} advices; "
            f"{len(self._faults)} faults of records" + (f"; {self.failed} could not be checked" if self.failed else ""),
            soft_wrap=True,
        )

    def write_proposed(self, path: Path, screen: "Console") -> None:
        from dataclasses import replace

        from app.receipt_output import with_comments
        from schemas.receipt import ItemState

        made = with_comments(self._content, [replace(item, state=ItemState.ACCEPTED) for item in self.items])
        write_whole(path, [made.content])
        screen.print(f"UKE: {path}, {made.comments} records CO, not yet accepted by anybody", markup=False, soft_wrap=True)


def _results(screen: "Console", items: "Sequence[Item]") -> "Table":
    from rich.markup import escape

    from app.receipt_output import reference_of

    # What no model has said would be two empty columns.
    advised = ("action", "comment") if any(item.advice for item in items) else ()
    table = result_table(screen, "claim", "line", "text", "severity", "finding", *advised, "reference")
    for item in items:
        finding = item.finding
        cells = [_plain(item.claim), str(item.line), item.line_text]
        cells += [finding.severity, finding.text] if finding else ["", ""]
        cells += [item.action or "", item.comment] if advised else []
        table.add_row(*map(escape, cells), escape(reference_of(item)))
    return table


# --- how claims are checked -------------------------------------------------------------------------------------------


def _by_rules(tables: "Tables") -> Check:
    from app.receipts.check import check

    return lambda claim: (check(claim, tables), (), ())


@contextmanager
def _with_model(
    settings: "Settings", tables: "Tables", notes: Path | None, stored: bool, messages: "Console"
) -> Iterator[tuple[Check, int]]:
    """The check with the model and the chart, and how many claims are checked at the same time."""
    from app.receipt_pipeline import ReceiptChecker

    with ExitStack() as stack:
        entries: Callable[[Claim], list[Entry]] = _Charts([]).of
        if notes is not None:
            converter = _converter(settings)
            entries = _Charts(_read_notes(converter, notes, messages)).of
            # One base in memory: the notes were read by the same one.
            checker = ReceiptChecker.of(converter.models) if converter.models else ReceiptChecker.load(settings)
        else:
            if stored:
                database = stack.enter_context(open_database("read", "hyojun receipts check"))
                entries = partial(_stored, database)
            checker = ReceiptChecker.load(settings)
        stack.callback(checker.close)

        def check(claim: "Claim") -> Checked:
            done = checker.check(claim, tables, entries(claim))
            return done.findings, done.advice, tuple(issue.text for issue in done.issues)

        yield check, checker.reader.model.slots if checker.reader else 1


def _stored(database: "Database", claim: "Claim") -> "list[Entry]":
    """The notes that the database has of the claim's patient and month."""
    from app.receipt_work import entries_of, link_notes

    with database.session_scope() as session:
        return entries_of(session, link_notes(session, [claim])[0][0])[0]


class _Charts:
    """Notes by patient: the number without its leading zeros, which systems write or leave out."""

    def __init__(self, entries: "Iterable[tuple[str, Entry]]") -> None:
        self._entries: dict[str, list[Entry]] = {}
        for patient, entry in entries:
            self._entries.setdefault(patient.lstrip("0"), []).append(entry)

    def of(self, claim: "Claim") -> "list[Entry]":
        """Of the claim's patient and month."""
        if not claim.chart_number or claim.month is None:
            return []
        found = self._entries.get(claim.chart_number.strip().lstrip("0"), [])
        return [entry for entry in found if entry.date.replace(day=1) == claim.month]


def _read_notes(converter: Any, folder: Path, messages: "Console") -> "Iterator[tuple[str, Entry]]":
    """Each note of the folder, converted; one that is refused is told, and the others go on."""
    from app.intake import read_notes
    from app.receipts.chart import Entry
    from app.report import progress_bar

    files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".jsonl"))
    if not files:
        raise InvalidInput(f"{folder}: no .json or .jsonl file is in it")
    lines = [(path, line) for path in files for line in read_notes(path)]
    with progress_bar(messages) as bar, ThreadPoolExecutor(converter.slots) as pool:
        task = bar.add_task("reading notes", total=len(lines))

        def read(of: "tuple[Path, Line]") -> Any:
            _, line = of
            try:
                if line.error is not None:
                    raise line.error
                return converter.convert(line.note, source="file")
            except HyojunError as error:
                return error

        for (path, line), made in zip(lines, pool.map(read, lines), strict=True):
            bar.advance(task)
            if line.note is None or isinstance(made, HyojunError):
                messages.print(f"{path}, line {line.number}: {made}", markup=False, soft_wrap=True)
                continue
            records = tuple(record for record in made.records if record.written)
            yield line.note.patient.id, Entry(line.note.id, line.note.date, line.note.text, records)


def _converter(settings: "Settings") -> Any:
    from app.pipeline import Converter
    from app.terminology.entries import starter_entries, starter_version
    from app.terminology.matching import Lexicon

    if settings.database_url is None:
        return Converter.load(settings, Lexicon(starter_entries(), starter_version()))
    from app.terminology.importers import lexicon_from

    with open_database() as database, database.session_scope() as session:
        lexicon = lexicon_from(session)
    return Converter.load(settings, lexicon)


def _tables(settings: "Settings") -> "Tables":
    if settings.database_url is None:
        from app.receipts.tables import Tables

        return Tables.starter()
    from app.receipt_tables import tables_of

    with open_database() as database:
        tell(database, "convert", "hyojun receipts check")
        with database.session_scope() as session:
            return tables_of(session)


# --- what is written --------------------------------------------------------------------------------------------------


def content_of(path: Path) -> bytes:
    if not path.is_file():
        raise InvalidInput(f"{path} is not a file")
    return path.read_bytes()


def _plain(value: object) -> str:
    return "-" if value is None else str(value)


def result_table(screen: "Console", *columns: str) -> "Table":
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE if screen.is_terminal else None)
    for column in columns:
        table.add_column(column, justify="right" if column in ("claim", "line", "rows") else "left", overflow="fold")
    return table


def write_whole(path: Path, parts: Iterable[bytes]) -> None:
    """Replaces `path` when all of it is on the disk."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    with unfinished.open("wb") as file:
        file.writelines(parts)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)
