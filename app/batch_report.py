"""The report on a batch: a row a note (CSV), and one HTML file with charts that needs nothing else.

It holds ids, counts and our own words. What notes say is not in it: names without a code are counted, never listed.
"""

import csv
import html
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app import batch_runs, charts
from app.db import Database, json_dumps
from models import BatchItem, BatchMinute, JobIssue
from schemas.batch import JAPAN

COLUMNS = (
    "position", "place", "external_id", "intake", "state", "seconds", "statements", "resources", "issues", "uncoded", "held",
    "error", "ended_at", "note_id", "job_id",
)  # fmt: skip
_EDGES = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300)
"""Seconds at which the bars of the histogram begin and end."""
TOP_ISSUES = 15
POINTS = 120


def ledger_csv(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Lines of RFC 4180, the header first. An empty cell: not known, or not yet."""
    yield csv_line(COLUMNS)
    for row in rows:
        yield csv_line([row[name] for name in COLUMNS])


def ledger_ndjson(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        yield json_dumps({name: value for name, value in row.items() if value is not None}) + "\n"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    written = "" if value is None else value.isoformat() if hasattr(value, "isoformat") else str(value)
    # A spreadsheet takes a cell that begins so for a formula (OWASP, CSV injection).
    return f"'{written}" if written[:1] in ("=", "+", "-", "@", "\t", "\r") else written


def csv_line(cells: Sequence[Any]) -> str:
    """A line of RFC 4180. None is an empty cell; no cell is one that a spreadsheet would compute."""
    out = io.StringIO()
    csv.writer(out).writerow(map(_cell, cells))
    return out.getvalue()


def report_html(database: Database, batch_id: UUID) -> str:
    """Counts, speed over time, seconds a note, and what was remarked most often. Raises: NotFound."""
    with database.session_scope() as session:
        status = batch_runs.status(session, batch_id)
        minutes = _minutes(session, batch_id)
        histogram, sums = _seconds(session, batch_id), _sums(session, batch_id)
        issues, errors = _issues(session, batch_id), _errors(session, batch_id)
    outcomes = [(name, status[name]) for name in ("done", "failed", "cancelled", "refused", "open")]
    intake = [(name, status[name]) for name in ("new", "corrected", "known", "refused")]
    body = [
        f"<h1>Batch {_text(status['name'])}</h1>",
        f"<p>{_text(status['state'])}: {_text(status['next'])}</p>",
        _facts(status),
        "<h2>Notes by outcome</h2>", charts.bars(outcomes),
        "<h2>Notes as they came</h2>", charts.bars(intake),
        "<h2>Converted over time</h2>",
        charts.curve(minutes, "notes converted", " (Japan)") if minutes else "<p>none</p>",
        "<h2>Seconds a note</h2>", charts.bars(histogram),
        "<h2>What came out</h2>", _table(("", "sum", "a note"), [
            (name, f"{total:,}", f"{total / max(status['done'], 1):.2f}") for name, total in sums
        ]),
        "<h2>Remarks made most often</h2>", _table(("severity", "remark", "times"), issues),
        "<h2>Errors</h2>", _table(("reason", "notes"), errors),
    ]  # fmt: skip
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Batch ' + _text(status["name"]) + "</title>\n"
        f"<style>{STYLE}</style>\n" + "\n".join(body) + "\n</html>\n"
    )


STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#1b2733;background:#fff}"
    "h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse}"
    "th,td{padding:.2rem 1rem .2rem 0;text-align:left;vertical-align:top;border-bottom:1px solid #d8dee4;font-weight:normal}"
)
"""The one style sheet of the report; a policy for it can name its hash."""


# --- figures ----------------------------------------------------------------------------------------------------------


def _minutes(session: Session, batch_id: UUID) -> list[tuple[str, int]]:
    """Notes converted so far, at no more than `POINTS` instants."""
    query = select(BatchMinute.minute, BatchMinute.ended).where(BatchMinute.batch_id == batch_id)
    total, found = 0, []
    for minute, ended in session.execute(query.order_by(BatchMinute.minute)):
        total += ended
        found.append((minute.astimezone(JAPAN).strftime("%m-%d %H:%M"), total))
    step = max(1, -(-len(found) // POINTS))
    return [point for number, point in enumerate(found) if number % step == 0 or number == len(found) - 1]


def _seconds(session: Session, batch_id: UUID) -> list[tuple[str, int]]:
    bucket = func.width_bucket(BatchItem.seconds, list(map(float, _EDGES)))
    query = select(bucket, func.count()).where(BatchItem.batch_id == batch_id, BatchItem.seconds.is_not(None))
    counts: dict[int, int] = dict(session.execute(query.group_by(bucket)).all())
    names = [f"under {_EDGES[0]:g}", *(f"{a:g} to {b:g}" for a, b in pairwise(_EDGES))]
    return [(name, counts.get(number, 0)) for number, name in enumerate([*names, f"{_EDGES[-1]:g} and more"])]


def _sums(session: Session, batch_id: UUID) -> list[tuple[str, int]]:
    columns = (BatchItem.statements, BatchItem.uncoded, BatchItem.held, BatchItem.resources, BatchItem.issues)
    names = ("statements", "statements without a code", "statements held for review", "resources", "remarks")
    sums = session.execute(select(*map(func.sum, columns)).where(BatchItem.batch_id == batch_id)).one()
    return [(name, int(total or 0)) for name, total in zip(names, sums, strict=True)]


def _issues(session: Session, batch_id: UUID) -> list[tuple[str, str, str]]:
    query = (
        select(JobIssue.severity, JobIssue.text, func.count())
        .join(BatchItem, BatchItem.job_id == JobIssue.job_id)
        .where(BatchItem.batch_id == batch_id)
        .group_by(JobIssue.severity, JobIssue.text)
        .order_by(func.count().desc(), JobIssue.text)
        .limit(TOP_ISSUES)
    )
    return [(severity, remark, f"{count:,}") for severity, remark, count in session.execute(query)]


def _errors(session: Session, batch_id: UUID) -> list[tuple[str, str]]:
    query = select(BatchItem.error, func.count()).where(BatchItem.batch_id == batch_id, BatchItem.error.is_not(None))
    query = query.group_by(BatchItem.error).order_by(func.count().desc(), BatchItem.error).limit(TOP_ISSUES)
    return [(reason or "", f"{count:,}") for reason, count in session.execute(query)]


# --- HTML -------------------------------------------------------------------------------------------------------------


def _text(value: Any) -> str:
    return html.escape(str(value))


def _facts(status: dict[str, Any]) -> str:
    def moment(name: str) -> str:
        return status[name].astimezone(JAPAN).strftime("%Y-%m-%d %H:%M") if status[name] else "-"

    rows = [
        ("id", status["id"]), ("source", status["source"]), ("input", f"{status['format']}, {status['bytes']:,} bytes"),
        ("SHA-256", status["sha256"] or "-"), ("rate", status["rate"] or "unlimited"),
        ("sent", f"{moment('created_at')} by {status['created_by']}"), ("ended", moment("finished_at")),
        ("entries read", f"{status['read']:,} of {status['total'] if status['total'] is not None else '?'}"),
        ("notes an hour", f"{status['notes_per_hour']:,}"), ("remark", status["reason"] or "-"),
    ]  # fmt: skip
    return _table(("", ""), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    if not rows:
        return "<p>none</p>"

    def cells(tag: str, row: Sequence[Any]) -> str:
        return "".join(f"<{tag}>{_text(cell)}</{tag}>" for cell in row)

    lines = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table><tr>{cells('th', head)}</tr>{lines}</table>" if any(head) else f"<table>{lines}</table>"
