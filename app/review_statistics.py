"""What the reviews tell of the work and of the model: counts over the decisions that count, for people and for charts.

A decision counts for its item as in `app.review_items`: the newest, or the one that an undo brought back. Days and weeks are
Japanese ones. `since`: only what was decided then or later; None: all. Reviews of results that were converted again since are
counted too: people judged them. Names are those of the notes and may be a patient's words: for signed-in people alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from schemas.statement import Kind

BINS = 10
"""Of `calibration`: 0 to 0.1, … 0.9 to 1."""

# The decisions that count, with what was read. `right`: the note says this of its name, with this assertion (app.confidence).
_COUNTED = """
WITH newest AS (
    SELECT DISTINCT ON (review_id) review_id, version, restores, decided_at FROM decisions
    ORDER BY review_id, version DESC
), counted AS (
    SELECT d.review_id, d.verdict, d.decided_by, n.decided_at, d.statement, d.coding, s.payload, s.record, i.run_id,
        coalesce(s.kind, d.statement ->> 'kind') AS kind,
        d.verdict = 'accept' OR d.verdict = 'amend' AND d.statement -> 'fields' -> 'name' = s.payload -> 'fields' -> 'name'
            AND d.statement -> 'assertion' = s.payload -> 'assertion' AS is_right
    FROM newest n
    JOIN decisions d ON d.review_id = n.review_id AND d.version = coalesce(n.restores, n.version)
    JOIN reviews i ON i.id = d.review_id
    LEFT JOIN statements s ON s.id = i.statement_id
    WHERE n.decided_at >= coalesce(CAST(:since AS timestamptz), '-infinity')
)
"""
_UNCODED = "(s.record -> 'codings' = '[]'::jsonb AND s.record ->> 'local' IS NULL)"


@dataclass(frozen=True)
class Day:
    """`decisions`: made that day, those that were changed later too; `items`: judged by them; `released`: notes."""

    day: date
    decisions: int
    items: int
    people: int
    released: int


@dataclass(frozen=True)
class QueueAge:
    """Of the notes with something undecided, in days since they came in; None: there are none. `days`: (fewer than so many
    days, notes); the last has no end."""

    notes: int
    items: int
    drug_allergies: int
    median_days: float | None
    oldest_days: float | None
    days: list[tuple[int | None, int]]


@dataclass(frozen=True)
class Acceptance:
    """`name`: a kind; or the display of a code, which `system` and `code` name. `share`: accepted as read, of what was read."""

    name: str
    accepted: int
    amended: int
    rejected: int
    added: int = 0
    system: str | None = None
    code: str | None = None

    @property
    def share(self) -> float | None:
        read = self.accepted + self.amended + self.rejected
        return self.accepted / read if read else None


@dataclass(frozen=True)
class Corrected:
    """A name as the notes write it: how often it was judged, amended and rejected. `chosen`: the code that people chose most
    for it (system, code, display), None: none."""

    kind: Kind
    name: str
    judged: int
    amended: int
    rejected: int
    chosen: tuple[str, str, str] | None


@dataclass(frozen=True)
class Uncoded:
    """A name that no table has, as the notes write it. `notes`: how many results read it; `candidate`: what came nearest."""

    kind: Kind
    name: str
    notes: int
    candidate: tuple[str, str, str] | None


@dataclass(frozen=True)
class Bin:
    """Statements of a probability from `low` to `high`: how many were judged, their mean probability, the share that was right."""

    low: float
    high: float
    items: int
    probability: float
    right: float


@dataclass(frozen=True)
class Week:
    """`week`: its Monday, of the conversion. `accepted`: share of what was judged; `probability`: mean of what was read, None:
    not known; `uncoded`: share of what was read; `models`: fingerprints, with how many results each made."""

    week: date
    results: int
    read: int
    judged: int
    accepted: float | None
    probability: float | None
    uncoded: float | None
    models: dict[str, int]


@dataclass(frozen=True)
class Seconds:
    """Spent on an item in all, by the decisions that tell it."""

    name: str
    items: int
    median: float
    ninth_decile: float


# --- the work -------------------------------------------------------------------------------------------------------


def throughput(session: Session, since: datetime | None = None) -> list[Day]:
    """Days on which something was done, in order."""
    rows = _rows(session, """
    WITH made AS (
        SELECT (decided_at AT TIME ZONE 'Asia/Tokyo')::date AS day, count(*) AS decisions,
            count(DISTINCT review_id) AS items, count(DISTINCT decided_by) AS people
        FROM decisions WHERE decided_at >= coalesce(CAST(:since AS timestamptz), '-infinity') GROUP BY 1
    ), ended AS (
        SELECT (released_at AT TIME ZONE 'Asia/Tokyo')::date AS day, count(*) AS released
        FROM releases WHERE released_at >= coalesce(CAST(:since AS timestamptz), '-infinity') GROUP BY 1
    )
    SELECT day, coalesce(decisions, 0) AS decisions, coalesce(items, 0) AS items, coalesce(people, 0) AS people,
        coalesce(released, 0) AS released
    FROM made FULL JOIN ended USING (day) ORDER BY day
    """, since)  # fmt: skip
    return [Day(**row) for row in rows]


_AGES = (1, 3, 7, 14, 30)


def queue_age(session: Session) -> QueueAge:
    bounds = ", ".join(
        f"count(*) FILTER (WHERE days >= {low} AND days < {high}) AS upto{high}" for low, high in zip((0, *_AGES), _AGES, strict=False)
    )
    (row,) = _rows(session, f"""
    SELECT count(*) AS notes, coalesce(sum(open), 0)::bigint AS items, count(*) FILTER (WHERE NOT calm) AS grave,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY days) AS median, max(days) AS oldest, {bounds},
        count(*) FILTER (WHERE days >= {_AGES[-1]}) AS older
    FROM (
        SELECT open, calm, extract(epoch FROM now() - received_at)::float8 / 86400 AS days FROM review_work WHERE state = 'open'
    ) AS waiting
    """)  # fmt: skip  # noqa: S608
    days: list[tuple[int | None, int]] = [(bound, row[f"upto{bound}"]) for bound in _AGES]
    return QueueAge(row["notes"], row["items"], row["grave"], row["median"], row["oldest"], [*days, (None, row["older"])])


def seconds_per_item(session: Session, since: datetime | None = None) -> list[Seconds]:
    """By kind of statement, and all together (`name` is empty); only items of which some decision tells its time."""
    rows = _rows(session, """
    WITH spent AS (
        SELECT d.review_id, sum(d.spent_ms) / 1000.0 AS seconds FROM decisions d
        WHERE d.spent_ms IS NOT NULL AND d.decided_at >= coalesce(CAST(:since AS timestamptz), '-infinity') GROUP BY 1
    )
    SELECT coalesce(k.kind, '') AS name, count(*) AS items,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY spent.seconds)::float8 AS median,
        percentile_cont(0.9) WITHIN GROUP (ORDER BY spent.seconds)::float8 AS ninth_decile
    FROM spent JOIN reviews i ON i.id = spent.review_id LEFT JOIN statements s ON s.id = i.statement_id
    CROSS JOIN LATERAL (SELECT coalesce(s.kind, (
        SELECT d.statement ->> 'kind' FROM decisions d WHERE d.review_id = i.id AND d.version = 1)) AS kind) k
    GROUP BY GROUPING SETS ((k.kind), ()) ORDER BY 1
    """, since)  # fmt: skip
    return [Seconds(**row) for row in rows if row["items"]]


# --- the model ------------------------------------------------------------------------------------------------------

_VERDICTS = ", ".join(
    f"count(*) FILTER (WHERE verdict = '{verdict}') AS {name}"
    for verdict, name in (("accept", "accepted"), ("amend", "amended"), ("reject", "rejected"), ("add", "added"))
)


def acceptance_by_kind(session: Session, since: datetime | None = None) -> list[Acceptance]:
    query = f"{_COUNTED} SELECT kind AS name, {_VERDICTS} FROM counted GROUP BY 1 ORDER BY 1"  # noqa: S608
    found = {row["name"]: Acceptance(**row) for row in _rows(session, query, since)}
    return [found.get(kind.value, Acceptance(kind.value, 0, 0, 0)) for kind in Kind]


def acceptance_by_code(session: Session, since: datetime | None = None, *, limit: int = 100) -> list[Acceptance]:
    """By the first code that the model's reading got; the most judged first."""
    rows = _rows(session, f"""{_COUNTED}
    SELECT first ->> 'system' AS system, first ->> 'code' AS code, min(first ->> 'display') AS name, {_VERDICTS}
    FROM counted CROSS JOIN LATERAL (SELECT record -> 'codings' -> 0 AS first) c
    WHERE first IS NOT NULL GROUP BY 1, 2 ORDER BY count(*) DESC, 1, 2 LIMIT :limit
    """, since, limit=limit)  # fmt: skip  # noqa: S608
    return [Acceptance(**row) for row in rows]


def most_corrected(session: Session, since: datetime | None = None, *, limit: int = 50) -> list[Corrected]:
    """Names whose reading people amended or rejected, the most often first."""
    rows = _rows(session, f"""{_COUNTED}
    SELECT kind, payload -> 'fields' -> 'name' ->> 'quote' AS name, count(*) AS judged,
        count(*) FILTER (WHERE verdict = 'amend') AS amended, count(*) FILTER (WHERE verdict = 'reject') AS rejected,
        mode() WITHIN GROUP (ORDER BY coding) FILTER (WHERE coding IS NOT NULL) AS chosen
    FROM counted WHERE payload IS NOT NULL GROUP BY 1, 2
    HAVING count(*) FILTER (WHERE verdict IN ('amend', 'reject')) > 0
    ORDER BY count(*) FILTER (WHERE verdict IN ('amend', 'reject')) DESC, 1, 2 LIMIT :limit
    """, since, limit=limit)  # fmt: skip  # noqa: S608
    return [
        Corrected(Kind(row["kind"]), row["name"], row["judged"], row["amended"], row["rejected"], _coding(row["chosen"]))
        for row in rows
    ]


def uncoded_names(session: Session, since: datetime | None = None, *, limit: int = 50) -> list[Uncoded]:
    """Names in the current results of notes (converted since then) that no table has, the most frequent first; denials of
    allergies ("none known") are among them."""
    rows = _rows(session, f"""
    SELECT s.kind, s.payload -> 'fields' -> 'name' ->> 'quote' AS name, count(DISTINCT s.run_id) AS notes,
        mode() WITHIN GROUP (ORDER BY s.candidates -> 0 -> 'coding') AS candidate
    FROM statements s JOIN note_reviews v ON v.run_id = s.run_id AND v.superseded_at IS NULL
    WHERE v.begun_at >= coalesce(CAST(:since AS timestamptz), '-infinity') AND {_UNCODED}
    GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT :limit
    """, since, limit=limit)  # fmt: skip  # noqa: S608
    return [Uncoded(Kind(row["kind"]), row["name"], row["notes"], _coding(row["candidate"])) for row in rows]


def calibration(session: Session, since: datetime | None = None, *, kind: Kind | None = None) -> list[Bin]:
    """How often statements of a probability were right: where it lies below the probability, the model is too sure. Bins
    without a statement are left out; what has no probability is not counted."""
    rows = _rows(session, f"""{_COUNTED}
    SELECT least(floor(p * {BINS}), {BINS - 1})::int AS bin, count(*) AS items, avg(p) AS probability,
        avg(CASE WHEN is_right THEN 1.0 ELSE 0.0 END)::float8 AS "right"
    FROM counted CROSS JOIN LATERAL (SELECT (record ->> 'probability')::float8 AS p) known
    WHERE p IS NOT NULL AND (CAST(:kind AS text) IS NULL OR kind = :kind) GROUP BY 1 ORDER BY 1
    """, since, kind=kind)  # fmt: skip  # noqa: S608
    return [
        Bin(row["bin"] / BINS, (row["bin"] + 1) / BINS, row["items"], row["probability"], row["right"]) for row in rows
    ]


def drift(session: Session, since: datetime | None = None) -> list[Week]:
    """By the week of the conversion, in order: what a new model, other notes or other tables have changed."""
    rows = _rows(session, f"""
    WITH results AS (
        SELECT v.run_id, r.model, date_trunc('week', v.begun_at AT TIME ZONE 'Asia/Tokyo')::date AS week
        FROM note_reviews v JOIN runs r ON r.id = v.run_id
        WHERE v.begun_at >= coalesce(CAST(:since AS timestamptz), '-infinity')
    ), verdicts AS (
        SELECT DISTINCT ON (d.review_id) i.statement_id, e.verdict
        FROM results JOIN reviews i ON i.run_id = results.run_id JOIN decisions d ON d.review_id = i.id
        LEFT JOIN decisions e ON e.review_id = d.review_id AND e.version = coalesce(d.restores, d.version)
        WHERE i.statement_id IS NOT NULL ORDER BY d.review_id, d.version DESC
    ), read AS (
        SELECT results.week, count(*) AS read, count(verdicts.verdict) AS judged,
            avg(CASE WHEN verdicts.verdict = 'accept' THEN 1.0 ELSE 0.0 END)
                FILTER (WHERE verdicts.verdict IS NOT NULL)::float8 AS accepted,
            avg((s.record ->> 'probability')::float8) AS probability,
            avg(CASE WHEN {_UNCODED} THEN 1.0 ELSE 0.0 END)::float8 AS uncoded
        FROM results JOIN statements s ON s.run_id = results.run_id LEFT JOIN verdicts ON verdicts.statement_id = s.id
        GROUP BY 1
    ), made AS (
        SELECT week, sum(runs)::bigint AS results, jsonb_object_agg(model, runs) AS models
        FROM (SELECT week, model, count(*) AS runs FROM results GROUP BY 1, 2) AS by_model GROUP BY 1
    )
    SELECT week, results, coalesce(read, 0) AS read, coalesce(judged, 0) AS judged, accepted, probability, uncoded, models
    FROM made LEFT JOIN read USING (week) ORDER BY week
    """, since)  # fmt: skip  # noqa: S608
    return [Week(**row) for row in rows]


def _coding(found: Mapping[str, Any] | None) -> tuple[str, str, str] | None:
    return (found["system"], found["code"], found["display"]) if found else None


def _rows(session: Session, query: str, since: datetime | None = None, **values: Any) -> list[dict[str, Any]]:
    given = values | ({"since": since} if ":since" in query else {})
    return [dict(row) for row in session.execute(text(query), given).mappings()]
