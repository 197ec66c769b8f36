"""Dates as charts write them -> ISO 8601 at the precision that is written.

Sources: the boundaries of the eras are those of the 改元 edicts and of 元号法 (Act No. 43 of 1979) with its orders;
the Gregorian calendar begins with 明治6年1月1日 (太政官布告第337号 of 明治5年).
"""

import calendar
import datetime
import re
from typing import NamedTuple

from app.normalize.characters import arabic_before, fold_width


class _Day(NamedTuple):
    """A date at its precision; month and day are None when not written."""

    year: int
    month: int | None = None
    day: int | None = None


class _Era(NamedTuple):
    start: datetime.date
    end: datetime.date


# The first day of 大正 and of 昭和 is also the last day of the era before: the edict came in the course of the day.
# 明治 starts for days and months with the Gregorian calendar; earlier days of it have no such month and day.
_ERAS = {
    "M": _Era(datetime.date(1873, 1, 1), datetime.date(1912, 7, 30)),
    "T": _Era(datetime.date(1912, 7, 30), datetime.date(1926, 12, 25)),
    "S": _Era(datetime.date(1926, 12, 25), datetime.date(1989, 1, 7)),
    "H": _Era(datetime.date(1989, 1, 8), datetime.date(2019, 4, 30)),
    "R": _Era(datetime.date(2019, 5, 1), datetime.date.max),
}
_FIRST_YEARS = {"M": 1868, "T": 1912, "S": 1926, "H": 1989, "R": 2019}
_ERA_LETTERS = {"明": "M", "大": "T", "昭": "S", "平": "H", "令": "R"}
# No chart dates anything before 明治; four digits outside of this range are some other number.
_YEARS = range(1868, 2200)
# 25/4/1 written out with month and day is a western date when it is this near; farther away it could as well be 平成.
_BARE_YEARS = 8

_YEAR_WORDS = {"今年": 0, "本年": 0, "昨年": -1, "去年": -1, "一昨年": -2, "おととし": -2, "来年": 1, "再来年": 2}
_MONTH_WORDS = {"今月": 0, "本月": 0, "当月": 0, "先月": -1, "先々月": -2, "来月": 1, "再来月": 2}
_DAY_WORDS = {
    **dict.fromkeys(("本日", "今日", "きょう", "当日", "今朝", "今夕", "今晩", "今夜"), 0),
    **dict.fromkeys(("昨日", "きのう", "前日", "昨夜", "昨晩", "昨夕", "昨朝"), -1),
    **dict.fromkeys(("一昨日", "おととい", "前々日", "一昨夜", "一昨晩"), -2),
    **dict.fromkeys(("明日", "明朝"), 1),
    "明後日": 2,
}


def _any_of(words: dict[str, int]) -> str:
    return "|".join(sorted(words, key=len, reverse=True))


_N = "[0-9]{1,2}(?![0-9])"
_YEAR_FIRST = re.compile(
    rf"""(?: (?P<era>明治|大正|昭和|平成|令和|[明大昭平令MTSHRmtshr])\.?(?P<era_year>元|{_N})
          | (?P<year>[0-9]{{4}})(?![0-9])
          | '(?P<short>[0-9]{{2}})(?![0-9])
          | (?P<bare>[0-9]{{2}})(?=(?P<bare_sep>[/.-]){_N}(?P=bare_sep){_N})
          | (?P<word>{_any_of(_YEAR_WORDS)}) )
        (?: (?P<sep>[/.-])(?P<month>{_N})(?:(?P=sep)(?P<day>{_N})|月)?
          | 年?の?(?P<month2>{_N})月(?:の?(?P<day2>{_N})日?)?
          | (?:年|(?<=[年し]))の?(?P<month3>{_N})/(?P<day3>{_N})
          | 年? )""",
    re.VERBOSE,
)
_PACKED = re.compile(
    r"(?:(?P<year>[0-9]{4})|(?P<era>[MTSHR])(?P<era_year>[0-9]{2}))(?P<month>[0-9]{2})(?P<day>[0-9]{2})(?![0-9])"
)
_MONTH_YEAR = re.compile(rf"(?P<month>{_N})/(?P<year>[0-9]{{4}})(?![0-9])")
_MONTH_FIRST = re.compile(rf"(?P<month>{_N})(?:月(?:の?(?P<day>{_N})日?)?|[/.-](?P<day2>{_N}))")
_MONTH_WORD = re.compile(rf"(?P<word>{_any_of(_MONTH_WORDS)})(?:の?(?P<day>{_N})日)?")
_DAY_WORD = re.compile(_any_of(_DAY_WORDS))
_DAY_ONLY = re.compile(rf"(?P<day>{_N})日")
_DISTANCE = re.compile(
    r"(?:(?P<days>[0-9]{1,4})日|(?P<weeks>[0-9]{1,3})週間?|(?P<months>[0-9]{1,3})[かカヶケヵ箇]月(?P<month_half>半)?"
    r"|(?P<half>半)年|(?P<years>[0-9]{1,3})年(?P<year_half>半)?)(?:ほど|くらい|ぐらい)?(?P<way>前|後)"
)

# What may stand around a date without changing it. Anything else (以前, 年度, 年代, 日目, 歳, まで, 予定 …) says
# something other than this date, and the text is then not understood.
_LEAD = re.compile(r"(?:約|およそ|おおよそ|(?:発症|診断|初発|受傷|手術|採血|検査|採取|測定)(?:年月)?日?[:は]?)*")
_TAIL = re.compile(
    r"""(?: 頃|ごろ|ころ|より|から|以降|以来|に|の|付け?|時点|現在|[春夏秋冬]
          | [上中下]旬|初旬|初め|はじめ|末|半ば|[前後]半|早朝|未明|深夜|午前|午後|[朝昼夕夜]方?|[AaPp][Mm]
          | 発症|診断|確定|受傷|指摘|手術|施行|発見|初発|再発|発生|発作|出現|自覚|増悪|開始|確認
          | 初診|受診|入院|退院|採血|検査|採取|測定|実施|分|[、。,]
          | \([月火水木金土日](?:曜日?)?\)|[月火水木金土日]曜日?
          | [ T]?[0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?|[ ]?[0-9]{1,2}時(?:半|[0-9]{1,2}分)? )*""",
    re.VERBOSE,
)
_RANGE = re.compile(r"(?P<mark>~|-|から|より)(?P<rest>.*)", re.DOTALL)
# 2015~2020年, 4~5月: the unit stands once, after the second number.
_SHARED_UNIT = re.compile(r"(?P<first>[0-9]{4}|[0-9]{1,2})[~-](?:[0-9]{4}|[0-9]{1,2})(?P<unit>[年月])")
_KANJI_FOLLOWERS = "年|月|日|週|[かカヶケヵ箇]月"


def parse_date(text: str, reference: datetime.date, *, past: bool = True) -> str | None:
    """ISO 8601 `YYYY`, `YYYY-MM` or `YYYY-MM-DD` of a date as written; None if it is not understood or impossible.

    `reference` is the note's own date: relative words count from it, and a date without a year is the most recent
    such day not after it when `past`, else the first one not before it. So is an apostrophe year ('24); two digits
    without an apostrophe are a western year only in a whole date (25/4/1) of the last eight years. The precision is the written one: 先月 is a month,
    昨年 and 3年前 are years, 2週間前 is a day. A range gives its first date. A day outside of its era
    (平成31年5月1日) is impossible. 同日, 来院時 and others that point at another date are not understood.
    """
    folded = _tidy(text)
    folded = folded[_end(_LEAD, folded) :]
    try:
        found = _read(folded, reference, past)
        return _iso(found) if found else None
    except (ValueError, OverflowError):  # a year that the calendar of `datetime` does not have
        return None


def _tidy(text: str) -> str:
    """Folded width; no spaces except one between two digits, where leaving it out would make another number."""
    folded = " ".join(fold_width(text).split())
    folded = re.sub(r"(?<![0-9]) | (?![0-9])", "", folded)
    bracketed = re.fullmatch(r"[(\[【「](.*)[)\]】」]", folded, re.DOTALL)
    folded = bracketed[1] if bracketed and not set("()") & set(bracketed[1]) else folded
    return arabic_before(folded, _KANJI_FOLLOWERS)


def _end(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.match(text)
    return found.end() if found else 0


def _read(text: str, reference: datetime.date, past: bool, *, may_be_range: bool = True) -> _Day | None:
    shared = _SHARED_UNIT.match(text)
    if shared and _is_closed(text[shared.end() :]):
        text = shared["first"] + shared["unit"]
    # The first layout that matches up to an allowed tail is the reading; an impossible day is not read otherwise.
    for pattern in (
        _DISTANCE,
        _PACKED,
        _YEAR_FIRST,
        _MONTH_YEAR,
        _MONTH_WORD,
        _DAY_WORD,
        _MONTH_FIRST,
        _DAY_ONLY,
    ):
        found = pattern.match(text)
        if not found:
            continue
        rest = text[found.end() :]
        if _is_closed(rest) or (may_be_range and _opens_range(rest, reference, past)):
            return _resolve(pattern, found, reference, past)
    return None


def _is_closed(rest: str) -> bool:
    return _TAIL.fullmatch(rest) is not None


def _opens_range(rest: str, reference: datetime.date, past: bool) -> bool:
    """Is the rest of the text `〜` and then nothing, a word, or another date?"""
    mark = _RANGE.match(rest, _end(re.compile("頃|ごろ|ころ"), rest))
    if not mark:
        return False
    second = mark["rest"].removesuffix("まで").removesuffix("にかけて")
    if mark["mark"] == "~" and (not second or _is_closed(second)):
        return True
    return re.fullmatch("[0-9]{1,2}[年月日]?", second) is not None or bool(
        _read(second, reference, past, may_be_range=False)
    )


def _resolve(pattern: re.Pattern[str], found: re.Match[str], reference: datetime.date, past: bool) -> _Day | None:
    if pattern is _DISTANCE:
        return _at_distance(found, reference, past)
    if pattern is _DAY_WORD:
        return _Day(*(reference + datetime.timedelta(days=_DAY_WORDS[found[0]])).timetuple()[:3])
    groups = found.groupdict()
    month = _number(groups, "month", "month2", "month3")
    day = _number(groups, "day", "day2", "day3")
    if pattern is _MONTH_WORD:
        year, month = _month_away(reference, _MONTH_WORDS[groups["word"]])
        return _Day(year, month, day)
    if pattern in (_MONTH_FIRST, _DAY_ONLY):
        return _nearest(month, day, reference, past)
    if groups.get("era"):
        return _in_era(groups["era"], groups["era_year"], month, day)
    if groups.get("word"):
        return _Day(reference.year + _YEAR_WORDS[groups["word"]], month, day)
    if groups.get("short"):
        return _Day(_century(int(groups["short"]), reference.year, past), month, day)
    if groups.get("bare"):
        year = _century(int(groups["bare"]), reference.year, past)
        return _Day(year, month, day) if abs(year - reference.year) <= _BARE_YEARS else None
    year = int(groups["year"])
    return _Day(year, month, day) if year in _YEARS else None


def _number(groups: dict[str, str | None], *names: str) -> int | None:
    return next((int(value) for name in names if (value := groups.get(name))), None)


def _at_distance(found: re.Match[str], reference: datetime.date, past: bool) -> _Day | None:
    if found["way"] == "後" and past:
        return None
    sign = 1 if found["way"] == "後" else -1
    if found["days"] or found["weeks"]:
        days = int(found["days"] or 0) + 7 * int(found["weeks"] or 0)
        return _Day(*(reference + sign * datetime.timedelta(days=days)).timetuple()[:3])
    if found["years"] and not found["year_half"]:
        return _Day(reference.year + sign * int(found["years"]))
    if found["month_half"]:
        return None
    months = int(found["months"] or 0) + 12 * int(found["years"] or 0) + (6 if not found["months"] else 0)
    return _Day(*_month_away(reference, sign * months))


def _month_away(reference: datetime.date, months: int) -> tuple[int, int]:
    year, month = divmod(reference.year * 12 + reference.month - 1 + months, 12)
    return year, month + 1


def _century(two_digits: int, year: int, past: bool) -> int:
    return year - (year - two_digits) % 100 if past else year + (two_digits - year) % 100


def _in_era(name: str, year_text: str, month: int | None, day: int | None) -> _Day | None:
    letter = _ERA_LETTERS.get(name[0], name.upper())
    in_era = 1 if year_text == "元" else int(year_text)
    found = _Day(_FIRST_YEARS[letter] + in_era - 1, month, day)
    era = _ERAS[letter]
    if in_era < 1 or not _iso(found):
        return None
    if month is None:
        return found if found.year <= era.end.year else None
    first = datetime.date(found.year, month, day or 1)
    last = datetime.date(found.year, month, day or calendar.monthrange(found.year, month)[1])
    return found if last >= era.start and first <= era.end else None


def _nearest(month: int | None, day: int | None, reference: datetime.date, past: bool) -> _Day | None:
    """The month, the day of a month, or the day of any month that lies nearest to the reference on the asked side."""
    step = -1 if past else 1
    # Nine years hold every day of the year once: 29 February is missing for eight years around 1900.
    for away in range(9 * 12):
        candidate = _Day(*_month_away(reference, step * away), day)
        if month not in (None, candidate.month) or not _iso(candidate):
            continue
        if away == 0 and day and (reference.day - day) * step > 0:
            continue
        return candidate
    return None


def _iso(found: _Day) -> str | None:
    """None for a day that the calendar does not have."""
    try:
        day = datetime.date(
            found.year, 1 if found.month is None else found.month, 1 if found.day is None else found.day
        )
    except ValueError:
        return None
    return day.isoformat()[: 4 if found.month is None else 7 if found.day is None else 10]
