"""What the commands show a person: tables and a progress bar; plain lines where there is no terminal."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from schemas.statement import Kind

if TYPE_CHECKING:
    from app.batches import Outcome

HEADINGS = {
    Kind.CONDITION: "傷病名",
    Kind.ALLERGY: "アレルギー",
    Kind.INFECTION: "感染症",
    Kind.LAB: "検査",
    Kind.PRESCRIPTION: "処方",
}
MAX_ROWS = 100
"""Notes listed one by one; beyond it, the total alone."""


def console(*, stderr: bool = False) -> Console:
    """A terminal of its own width, else lines of up to 140 columns without colours."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, width=None if stream.isatty() else 140)


def progress_bar(out: Console) -> Progress:
    """Shows nothing where there is no terminal."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=out, disable=not out.is_terminal,
    )  # fmt: skip


def show_outcomes(out: Console, outcomes: "Sequence[Outcome]") -> None:
    """Statements by kind, resources, issues and seconds: of each note, and of all."""
    from app.batches import total_of  # here: with it comes all of FHIR, which most commands do not need

    table = Table(box=SIMPLE if out.is_terminal else None)
    table.add_column("note", no_wrap=True)
    for heading in (*HEADINGS.values(), "resources", "issues", "seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for outcome in outcomes if len(outcomes) <= MAX_ROWS else ():
        if outcome.error is not None:
            table.add_row(outcome.note_id or f"line {outcome.number}", "failed")
            continue
        counts = [str(outcome.counts.get(kind, 0)) for kind in HEADINGS]
        table.add_row(
            outcome.note_id, *counts, str(outcome.resources), str(outcome.issues), f"{outcome.seconds:.1f}"
        )
    total = total_of(outcomes)
    sums = [str(total["counts"][kind]) for kind in HEADINGS]
    table.add_section()
    table.add_row(
        f"{total['notes']} of {len(outcomes)} notes", *sums, str(total["resources"]), str(total["issues"]),
        f"{total['seconds']:.1f}",
    )  # fmt: skip
    out.print(table)
