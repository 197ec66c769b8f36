"""A batch: many notes sent as one file, and how fast they may be worked on."""

import re
from datetime import datetime, time, timedelta, timezone
from enum import StrEnum

from schemas.value import Value

JAPAN = timezone(timedelta(hours=9), "JST")
"""The times of day of a `Rate` are those of Japan, which has no summer time."""


class BatchFormat(StrEnum):
    """What the input of a batch is.

    `ndjson`: a note a line. `csv`: a note a row. `zip`: text files, or .json and .jsonl files. `ssmix2`: the ZIP of a
    standardized storage with its extended one. `prepared`: what `hyojun batch DIR` makes of a folder, a line a file.
    """

    NDJSON = "ndjson"
    CSV = "csv"
    ZIP = "zip"
    SSMIX2 = "ssmix2"
    PREPARED = "prepared"


class BatchState(StrEnum):
    """`receiving`: the input is not whole yet. `failed`: the input could not be read to its end; what was read before is
    converted. `done`: every note has ended, some perhaps failed."""

    RECEIVING = "receiving"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    FAILED = "failed"
    DONE = "done"


class Intake(StrEnum):
    """How a note of a batch was met. `known`: the same source sent the same content before; its job counts. `corrected`:
    the source sent other content under this id before. `refused`: unreadable, so there is no note."""

    NEW = "new"
    CORRECTED = "corrected"
    KNOWN = "known"
    REFUSED = "refused"


class ItemState(StrEnum):
    """`retry`: failed or cancelled before, and waits to be queued again."""

    OPEN = "open"
    RETRY = "retry"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REFUSED = "refused"


# 600/h, 0/h, unlimited
_LIMIT = re.compile(r"(?P<number>[0-9]{1,7})/h|unlimited")
_SPAN = re.compile(r"(?P<from>[0-2][0-9]:[0-5][0-9])-(?P<to>[0-2][0-9]:[0-5][0-9])=(?P<limit>\S+)")
DAY_MINUTES = 24 * 60


class Span(Value):
    """From one minute of the day (0 to 1439) to the minute before another, over midnight where `start` is after `end`.
    `limit`: notes an hour; None: as fast as it goes."""

    start: int
    end: int
    limit: int | None

    def covers(self, minute: int) -> bool:
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end


class Rate(Value):
    """Notes an hour by time of day: `600/h`, `08:00-18:00=600/h,else=unlimited`, `08:00-18:00=0/h`.

    Times are Japan's. Where no span and no `else` says otherwise, there is no limit.
    """

    spans: tuple[Span, ...] = ()
    otherwise: int | None = None

    @classmethod
    def parse(cls, written: str) -> "Rate":
        """Raises: ValueError, whose message says what to write."""
        spans: list[Span] = []
        otherwise: int | None = None
        told = False
        for part in (piece.strip() for piece in written.split(",")):
            if match := _SPAN.fullmatch(part):
                start, end = _minute(match["from"]), _minute(match["to"], end=True)
                if start == end:
                    raise ValueError(f"the span {part} is empty")
                spans.append(Span(start=start, end=end % DAY_MINUTES, limit=_limit(match["limit"], part)))
            elif not told and (part.startswith("else=") or "=" not in part):
                told, otherwise = True, _limit(part.removeprefix("else="), part)
            else:
                raise ValueError(f"{part!a} is not as 600/h, unlimited, 08:00-18:00=600/h or else=unlimited")
        for one in range(DAY_MINUTES):
            if sum(span.covers(one) for span in spans) > 1:
                raise ValueError(f"two spans hold {one // 60:02}:{one % 60:02}")
        return cls(spans=tuple(spans), otherwise=otherwise)

    def at(self, moment: datetime) -> int | None:
        """Notes an hour then; 0: none, None: no limit."""
        local = moment.astimezone(JAPAN)
        minute = local.hour * 60 + local.minute
        return next((span.limit for span in self.spans if span.covers(minute)), self.otherwise)

    def until(self, moment: datetime) -> datetime | None:
        """When the rate may change next. None: it never does."""
        if not self.spans:
            return None
        midnight = datetime.combine(moment.astimezone(JAPAN).date(), time(), JAPAN)
        edges = {edge for span in self.spans for edge in (span.start, span.end)}
        instants = (midnight + timedelta(days=day, minutes=edge) for day in (0, 1) for edge in edges)
        return min(instant for instant in instants if instant > moment)

    def end_of(self, moment: datetime, notes: int, capacity: float) -> datetime | None:
        """When `notes` will be through where `capacity` notes an hour are possible. None: not within a year."""
        left, now = float(notes), moment
        while left > 0:
            limit, change = self.at(now), self.until(now)
            speed = capacity if limit is None else min(capacity, limit)
            needed = timedelta(hours=left / speed) if speed > 0 and left / speed < 24 * 366 else None
            if needed is not None and (change is None or now + needed <= change):
                return now + needed
            if change is None or change - moment > timedelta(days=366):
                return None
            left -= speed * (change - now).total_seconds() / 3600
            now = change
        return now


def _minute(written: str, *, end: bool = False) -> int:
    hours, minutes = map(int, written.split(":"))
    if hours * 60 + minutes > (DAY_MINUTES if end else DAY_MINUTES - 1):
        raise ValueError(f"{written} is no time of day")
    return hours * 60 + minutes


def _limit(written: str, part: str) -> int | None:
    match = _LIMIT.fullmatch(written)
    if match is None and written != "0":
        raise ValueError(f"{part!a}: a limit is as 600/h, 0/h or unlimited")
    if match is None:
        return 0
    return int(match["number"]) if match["number"] else None
