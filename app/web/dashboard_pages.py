"""Dashboards of the reviews: the work, the model, and the names that people correct; each figure as a chart, a table and CSV.

They hold names as the notes write them, so they are for those who may read notes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from fastapi import APIRouter, Request, Response
from markupsafe import Markup
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app import charts, review_statistics, second_readings
from app.batch_report import csv_line
from app.db import Database
from app.errors import HyojunError, InvalidInput, NotFound
from app.terminology import local
from app.terminology.spelling import key
from app.web.access import Form, Who
from app.web.admin_frame import Failure, back_to, framed
from app.web.rendered import language_of
from app.web.words import said
from schemas.access import Principal
from schemas.coding import Coding
from schemas.review import AuditAction
from schemas.statement import Kind

PERIODS = (7, 30, 90, 365, 0)
"""Days that a reader may choose; 0: all time."""
DEFAULT_PERIOD = 90
SHOWN, LISTED = 30, 10_000
"""Rows by code and by name: on a page, and in a CSV file."""
_CSV = "text/csv; charset=utf-8"


@dataclass(frozen=True)
class Table:
    """Figures as they are downloaded: names of columns, and rows."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


def dashboard_router(database: Database) -> APIRouter:
    router = APIRouter(prefix="/dashboard", include_in_schema=False)

    @router.get("")
    def figures(request: Request, who: Who, days: int = DEFAULT_PERIOD, kind: str = "") -> Response:
        chosen = _kind(kind)
        language = language_of(request)
        with database.session_scope() as session:
            since = _since(session, days)
            found = {name: one.read(session, since, chosen, SHOWN) for name, one in FIGURES.items()}
        drawn = {name: one.chart(found[name], language) for name, one in FIGURES.items()}
        values = {
            "periods": PERIODS, "days": days, "kinds": list(Kind), "kind": kind, "queue": found["queue"],
            "tables": {name: one.table(found[name]) for name, one in FIGURES.items()},
            # Made by app.charts, which escapes every text.
            "charts": {name: Markup(chart) for name, chart in drawn.items() if chart},  # noqa: S704
            "figures": list(FIGURES),
        }  # fmt: skip
        return framed(request, who, "dashboard.html", values)

    @router.get("/names")
    def names(request: Request, who: Who, days: int = DEFAULT_PERIOD) -> Response:
        return _names_page(request, who, days)

    @router.post("/mappings")
    def map_name(request: Request, who: Who, form: Form) -> Response:
        """Those who judge what a name means say here what it means from now on."""
        request.state.audit = {"action": AuditAction.ADMIN}
        try:
            kind = _kind(form.get("kind", ""))
            if kind is None:
                raise InvalidInput("kind: is missing")
            target = Coding(system=form.get("system", ""), code=form.get("code", "").strip(), display="")
            with database.session_scope() as session:
                row = local.map_name(session, kind, form.get("name", ""), target, who.id)
                request.state.audit["ids"] = [str(row.id)]
        except HyojunError as error:
            return _names_page(request, who, DEFAULT_PERIOD, error)
        return back_to("/dashboard/names")

    @router.get("/{name}.csv")
    def download(name: str, days: int = DEFAULT_PERIOD, kind: str = "") -> Response:
        known = {**FIGURES, **NAMES}
        if name not in known:
            raise NotFound("there is no such table; there are " + ", ".join(known))
        with database.session_scope() as session:
            table = known[name].table(known[name].read(session, _since(session, days), _kind(kind), LISTED))
        content = "".join(csv_line(line) for line in (table.columns, *table.rows))
        headers = {"Content-Disposition": f'attachment; filename="hyojun-{name}.csv"'}
        # The mark by which Excel knows UTF-8.
        return Response(content.encode("utf-8-sig"), 200, headers, _CSV)

    def _names_page(request: Request, who: Principal, days: int, error: Failure | None = None) -> Response:
        with database.session_scope() as session:
            since = _since(session, days)
            corrected, uncoded = (one.read(session, since, None, SHOWN) for one in NAMES.values())
            mapped = {(entry.kind, key(entry.display)): entry.target for entry in local.current(session) if entry.target}
        values = {
            "periods": PERIODS, "days": days,
            "corrected": [(one, mapped.get((one.kind, key(one.name))), _mappable(one.kind, one.chosen)) for one in corrected],
            "uncoded": [(one, mapped.get((one.kind, key(one.name))), _mappable(one.kind, one.candidate)) for one in uncoded],
            "systems": local.TARGET_SYSTEMS,
        }  # fmt: skip
        return framed(request, who, "dashboard_names.html", values, error=error)

    return router


def _since(session: Session, days: int) -> datetime | None:
    """By the database's clock. Raises: InvalidInput."""
    if not 0 <= days <= 36_500:
        raise InvalidInput("days: must be 0 to 36500")
    return session.scalars(select(func.now() - timedelta(days=days))).one() if days else None


def _kind(written: str) -> Kind | None:
    """Raises: InvalidInput."""
    if written and written not in set(Kind):
        raise InvalidInput("kind: must be one of " + ", ".join(Kind))
    return Kind(written) if written else None


def _mappable(kind: Kind, coding: tuple[str, str, str] | None) -> tuple[str, str, str] | None:
    """A code that a local one may stand for."""
    return coding if coding is not None and coding[0] in local.TARGET_SYSTEMS[kind] else None


# --- figures ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figure:
    """`read`: by session, begin of the period, kind (of the calibration alone) and most rows; of its answer come `table` and
    `chart`, as SVG with words of a language; None where there is nothing to draw."""

    read: Callable[[Session, datetime | None, Kind | None, int], Any]
    table: Callable[[Any], Table]
    chart: Callable[[Any, str], str | None] = lambda found, language: None


def _plain(of: type[Any], *further: str) -> Callable[[Iterable[Any]], Table]:
    """A row for each value of a class, a column for each of its fields and for the properties `further`."""
    columns = [*(field.name for field in fields(of)), *further]
    return lambda found: Table(columns, [[getattr(one, name) for name in columns] for one in found])


def _queue_table(found: review_statistics.QueueAge) -> Table:
    bounds = [0, *(bound for bound, _ in found.days[:-1])]
    rows = [(low, bound, notes) for low, (bound, notes) in zip(bounds, found.days, strict=True)]
    return Table(("from_days", "to_days", "notes"), rows)


def _named_table(figures: Sequence[str], coding: str) -> Callable[[Iterable[Any]], Table]:
    """`coding`: the field that holds system, code and display."""
    columns = ("kind", "name", *figures)

    def made(found: Iterable[Any]) -> Table:
        rows = [[*(getattr(one, name) for name in columns), *(getattr(one, coding) or (None,) * 3)] for one in found]
        return Table((*columns, "system", "code", "display"), rows)

    return made


def _drift_table(found: Iterable[review_statistics.Week]) -> Table:
    table = _plain(review_statistics.Week)(found)
    rows = [[*row[:-1], " ".join(f"{model}:{runs}" for model, runs in sorted(row[-1].items()))] for row in table.rows]
    return Table(table.columns, rows)


def _agreement_table(found: Mapping[Kind, second_readings.Kappa]) -> Table:
    columns = [field.name for field in fields(second_readings.Kappa)]
    return Table(("kind", *columns), [(kind, *(getattr(one, name) for name in columns)) for kind, one in found.items()])


def _throughput_chart(found: Sequence[review_statistics.Day], language: str) -> str | None:
    if not found:
        return None
    by_day, first, last = {day.day: day.items for day in found}, found[0].day, found[-1].day
    every = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    return charts.columns([(day.isoformat(), by_day.get(day, 0)) for day in every])


def _queue_chart(found: review_statistics.QueueAge, language: str) -> str | None:
    if not found.notes:
        return None
    longest = found.days[-2][0]
    return charts.bars([
        (said(language, "days_under", days=bound) if bound else said(language, "days_more", days=longest), notes)
        for bound, notes in found.days
    ])  # fmt: skip


def _kinds_chart(found: Iterable[review_statistics.Acceptance], language: str) -> str | None:
    judged = [(said(language, f"kind_{one.name}"), one.share) for one in found if one.share is not None]
    return charts.bars(judged, charts.percent, most=1.0) if judged else None


def _calibration_chart(found: Sequence[review_statistics.Bin], language: str) -> str | None:
    return charts.reliability([(one.probability, one.right, one.items) for one in found]) if found else None


def _drift_chart(found: Sequence[review_statistics.Week], language: str) -> str | None:
    if not found:
        return None
    series = {
        said(language, f"series_{name}"): [getattr(week, name) for week in found]
        for name in ("accepted", "probability", "uncoded")
    }
    return charts.lines([week.week.isoformat() for week in found], series)


FIGURES: Mapping[str, Figure] = {
    "throughput": Figure(
        lambda session, since, kind, most: review_statistics.throughput(session, since),
        _plain(review_statistics.Day), _throughput_chart,
    ),
    "queue": Figure(
        lambda session, since, kind, most: review_statistics.queue_age(session), _queue_table, _queue_chart
    ),
    "seconds": Figure(
        lambda session, since, kind, most: review_statistics.seconds_per_item(session, since),
        _plain(review_statistics.Seconds),
    ),
    "kinds": Figure(
        lambda session, since, kind, most: review_statistics.acceptance_by_kind(session, since),
        _plain(review_statistics.Acceptance, "share"), _kinds_chart,
    ),
    "codes": Figure(
        lambda session, since, kind, most: review_statistics.acceptance_by_code(session, since, limit=most),
        _plain(review_statistics.Acceptance, "share"),
    ),
    "calibration": Figure(
        lambda session, since, kind, most: review_statistics.calibration(session, since, kind=kind),
        _plain(review_statistics.Bin), _calibration_chart,
    ),
    "drift": Figure(
        lambda session, since, kind, most: review_statistics.drift(session, since), _drift_table, _drift_chart
    ),
    "agreement": Figure(lambda session, since, kind, most: second_readings.kappa(session), _agreement_table),
}  # fmt: skip
"""What the first page shows, in its order."""
NAMES: Mapping[str, Figure] = {
    "corrected": Figure(
        lambda session, since, kind, most: review_statistics.most_corrected(session, since, limit=most),
        _named_table(("judged", "amended", "rejected"), "chosen"),
    ),
    "uncoded": Figure(
        lambda session, since, kind, most: review_statistics.uncoded_names(session, since, limit=most),
        _named_table(("notes",), "candidate"),
    ),
}
