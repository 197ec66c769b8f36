"""What a trial would change, as a table (CSV, a row each difference) and as a page for a browser, in one file.

Without `show_text` they name notes by ids and places by offsets; with it they hold patient text.
"""

import csv
from collections.abc import Iterable
from html import escape
from typing import IO

from app.comparison import Change, Difference, Part
from app.reprocess import NoteChange, Summary

COLUMNS = (
    "note_id", "source", "external_id", "note_date", "applied", "kind", "change", "drug_allergy", "start", "end",
    "part", "name", "before", "after",
)  # fmt: skip
MAX_NOTES = 1000
"""Notes on the page; the table has all."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; } h2 { font-size: 1rem; margin: 1.5rem 0 .2rem; }
th, td { border: 1px solid #ccc; padding: .2rem .6rem; text-align: left; } td.n { text-align: right; }
.grave { background: #fdd; font-weight: bold; }
rect.changed { fill: #d90; } rect.new { fill: #286; } rect.gone { fill: #c33; } rect.same { fill: #bbb; }
"""


def write_csv(file: IO[str], summary: Summary, changes: Iterable[NoteChange], *, show_text: bool = False) -> None:
    """One row for each part that differs; for a statement that is new or gone, one row."""
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    for note in changes:
        for difference in note.differences:
            whole = (Part(part="", before=None, after=None),)
            for part in difference.parts if difference.change is Change.CHANGED else whole:
                texts = (difference.name, part.before or "", part.after or "") if show_text else ("", "", "")
                row = (
                    str(note.note_id), note.source, note.external_id, note.note_date.isoformat(),
                    "yes" if note.applied_at else "", difference.kind.value, difference.change.value,
                    "yes" if difference.grave else "", str(difference.start), str(difference.end), part.part, *texts,
                )  # fmt: skip
                writer.writerow([_cell(value) for value in row])


def _cell(value: str) -> str:
    """A spreadsheet runs a cell that begins like a formula. Source: OWASP, CSV Injection."""
    return "'" + value if value.startswith(_FORMULA) else value


def write_html(file: IO[str], summary: Summary, changes: Iterable[NoteChange], *, show_text: bool = False) -> None:
    """Counts with a bar for each kind, and the notes that would change, drug allergies first."""
    trial = summary.trial
    file.write(
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Trial {trial.id}</title>'
        f"<style>{_STYLE}</style>\n"
    )
    file.write(
        f"<h1>Trial {trial.id}</h1>\n<p>{escape(trial.chosen)}: {summary.kept} of {trial.notes} notes converted, "
        f"{summary.changed} would change, {summary.codes} names would have other codes, {summary.applied} applied."
        "</p>\n"
    )
    if summary.grave:
        file.write(f'<p class="grave">Drug allergies: {summary.grave} statements would be other ones.</p>\n')
    file.write(
        f"<p>Applying would end {summary.decided} reviews that somebody began; {summary.released} results are "
        f"released; {summary.stale} notes were converted again since.</p>\n"
    )
    file.write(
        "<table><tr><th>kind</th>" + "".join(f"<th>{change.value}</th>" for change in Change) + "<th></th></tr>\n"
    )
    for kind, counts in summary.counts.items():
        cells = "".join(f'<td class="n">{counts[change.value]}</td>' for change in Change)
        file.write(f"<tr><td>{escape(kind)}</td>{cells}<td>{_bar(counts)}</td></tr>\n")
    file.write("</table>\n")
    more = 0
    for number, note in enumerate(changes):
        if number >= MAX_NOTES:
            more += 1
            continue
        state = ", applied" if note.applied_at else ""
        file.write(
            f"<h2>{escape(note.source)} {escape(note.external_id)}, {note.note_date}{state} "
            f"<small>{note.note_id}</small></h2>\n"
        )
        file.write("<table><tr><th>statement</th><th>place</th><th>change</th><th>what differs</th></tr>\n")
        file.writelines(_row(difference, show_text) for difference in note.differences)
        file.write("</table>\n")
    if more:
        file.write(f"<p>{more} notes more; the table (CSV) has all of them.</p>\n")
    file.write("</html>\n")


def _bar(counts: dict[str, int]) -> str:
    total, at, width, parts = sum(counts.values()) or 1, 0.0, 240, []
    for change in Change:
        length = counts[change.value] * width / total
        parts.append(f'<rect class="{change.value}" x="{at:.1f}" width="{length:.1f}" height="14"/>')
        at += length
    return f'<svg width="{width}" height="14" role="img">{"".join(parts)}</svg>'


def _row(difference: Difference, show_text: bool) -> str:
    what = f"{difference.kind.value} {difference.name if show_text else ''}"
    shown = difference.parts if difference.change is Change.CHANGED else ()
    parts = (f"{p.part}: {p.before or '∅'} → {p.after or '∅'}" if show_text else p.part for p in shown)
    grave = ' class="grave"' if difference.grave else ""
    return (
        f"<tr{grave}><td>{escape(what)}</td><td>{difference.start}–{difference.end}</td>"
        f"<td>{difference.change.value}</td><td>{'<br>'.join(map(escape, parts))}</td></tr>\n"
    )
