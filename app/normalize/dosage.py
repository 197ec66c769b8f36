"""Written dose, usage and days of a prescription -> `Dosage`.

Sources: charts write the total of a day before 分n or n×, and the amount of one intake otherwise (厚生労働省
「内服薬処方せんの記載方法の在り方に関する検討会報告書」, January 2010, describes both ways and how they are mixed up);
abbreviations of forms and times (T, C, P, vds, TD) are the customary ones of Japanese prescriptions.
"""

import re
from decimal import Decimal
from fractions import Fraction
from typing import Literal, NamedTuple

from app.normalize.characters import arabic_before, fold_width
from schemas.record import Dosage

# Spellings in lower case; the first column is what is kept.
_UNITS = {
    "錠": ("錠", "t", "tab", "tabs", "tablet", "tablets"),
    "カプセル": ("カプセル", "c", "cp", "cap", "caps", "capsule", "capsules"),
    "包": ("包", "p"),
    "バイアル": ("バイアル", "v", "vial", "vials"),
    "アンプル": ("アンプル", "a", "amp", "管"),
    "単位": ("単位", "u", "e", "国際単位"),
    "万単位": ("万単位",),
    "mL": ("ml", "cc"),
    "L": ("l",),
    "ug": ("ug", "μg", "mcg"),
    "mEq": ("meq",),
    "IU": ("iu",),
    **{
        unit: (unit,)
        for unit in (
            "γ",
            *("g", "mg", "ng", "kg", "mmol", "噴霧", "吸入", "滴", "枚", "本", "個", "袋", "キット", "シート", "筒"),
            *("瓶", "丸", "プッシュ", "吹", "puff", "ブリスター", "シリンジ", "パック", "カートリッジ", "粒"),
        )
    },
}
_UNIT_OF = {spelling: unit for unit, spellings in _UNITS.items() for spelling in spellings}
# Amounts of substance; beside one of a countable form (5mg 1錠) they are its strength.
_MEASURES = frozenset({"g", "mg", "ug", "ng", "kg", "mL", "L", "mEq", "mmol", "γ", "IU", "単位", "万単位"})
_PATCH = re.compile("テープ|パップ|パッチ|貼付|湿布")

_UNIT = "(?:" + "|".join(sorted(map(re.escape, _UNIT_OF), key=len, reverse=True)) + ")(?![a-wyz])"
_NUMBER = r"(?:[0-9]{1,6}(?:\.[0-9]{1,4})?(?:/[0-9]{1,2}(?![0-9]))?|半)"
_PER = r"(?:/(?:kg|m2|日|day|d|週|week|w|回|時間?|hr?|分(?![0-9])|min)(?![a-z0-9]))*"
# Not after a digit, a point, or the first number of a range (1~2錠, 1、2錠): half of a number is not an amount.
_AMOUNT = re.compile(
    rf"(?:(?<![0-9])(?P<scope>1回|毎回|1日)(?:量|あたり|につき)?[はに:]? ?(?:各|約)?)?"
    rf"(?<![0-9.])(?<![0-9][~\-/、,・])(?P<number>{_NUMBER}) ?(?P<unit>{_UNIT})(?P<half>半)?(?P<per>{_PER})"
)
# Without a unit a fraction may be a date (8/11), so it is no amount.
_BARE_AMOUNT = re.compile(r"(?P<number>[0-9]{1,6}(?:\.[0-9]{1,4})?|半)")
_RANGE_OF_AMOUNTS = re.compile(rf"[0-9半](?: ?(?:{_UNIT})?[~\-]|[、,・]) ?[0-9]+(?:\.[0-9]+)? ?{_UNIT}")
_STEP = r"[0-9]{1,3}(?:\.[0-9]+)?"
_STEPS = re.compile(rf"(?<![0-9.])(?P<steps>{_STEP} ?(?:{_UNIT})?(?:[・-]{_STEP} ?(?:{_UNIT})?){{2,3}})(?![0-9\-])")
_TIMED_NUMBER = re.compile(
    rf"(?:朝|昼|夕|夜|眠前|就寝前|寝る前|起床時)(?:食[前後直間]*)?[に:]? ?(?P<number>{_STEP}|半)"
    r"(?![0-9.]| ?(?:日|週|時|回|分|td|x|~|-))"
)

SPLIT = re.compile(
    r"(?<![0-9日回週間月.])分 ?(?P<split>[1-9])(?![0-9])"
    r"|(?<![0-9.x])(?P<times>[1-9]) ?x(?! ?[0-9]+ ?(?:錠|t\b|c\b|mg|回))"
    r"|(?P<share>[1-9])回に分"
)
TIMES_A_DAY = re.compile(
    r"(?:1日|毎日|日に|daily) ?(?:に|量)?(?P<day_first>[1-9])回(?!目|分)"
    r"|(?<![0-9~\-])(?P<day_last>[1-9])回/(?:日|day)"
    r"|(?<![0-9.])(?<!ma)x ?(?P<multiplied>[1-9])(?:回)?(?:/日)?(?! ?[0-9日tdTD週分回])"
)
_UNCERTAIN_TIMES = re.compile(r"[0-9] ?[~\-・、,] ?[0-9]回(?![0-9半量])|[0-9]回(?:/日)?まで|最大|上限")
EVERY_HOURS = re.compile(r"q ?(?P<latin>[0-9]{1,2}) ?h|(?P<hours>[0-9]{1,2})時間(?:毎|ごと|おき|間隔|置き)")
LATIN_TIMES = {"qd": 1, "bid": 2, "tid": 3, "qid": 4}
LATIN = re.compile(r"(?<![a-z])(?:q\.?d|b\.?i\.?d|t\.?i\.?d|q\.?i\.?d)(?![a-z])")
# A supply of weeks (2週間分) is not a rhythm of weeks.
SUPPLY = re.compile(
    r"x? ?(?P<count>[0-9]{1,3}) ?(?P<unit>日間分|日分|日間|t\.?d\.?|週間?分|週間(?!毎|ごと|おき|に)"
    r"|(?<=x[0-9])日|(?<=x[0-9]{2})日)"
    r"|[0-9]{1,2}[かカヶケヵ箇]月分"
)
_NOT_DAILY = re.compile(
    r"週|隔日|[0-9]日(?:おき|毎|ごと|に1回)|月に?[0-9]回|[かカヶケヵ箇]月|曜|qod|透析[日後]|[月火水木金土日]{2,}|月・|火・"
)
MEALS = re.compile(r"毎食|各食|毎回食|食毎|食事毎|食事ごと|3食")
BEDTIME = re.compile(
    r"夜?(?:眠前|就寝[前時]|就眠[前時]|入眠[前時]|睡眠前|睡前|寝る前|寝前)|v\.?d\.?s|(?<![a-wyz])hs(?![a-z])"
)
_WAKING = re.compile(r"朝?起床[時後直]?")
_DAY_PARTS = ("朝", "昼", "夕", "夜", "晩")
_CLOCK = re.compile(r"(?<![0-9])[0-9]{1,2}時(?!間)")
_AS_NEEDED = re.compile(
    r"頓|屯|必要時|適宜|適時|随時|症状に応じ|p\.?r\.?n|[0-9.]{1,5}(?:度|°c)以上"
    r"|(?P<occasion>[^0-9 、,。・()/]{1,12})(?:時(?!間|々)|とき)"
)
# Times of the day and of the course, not occasions.
_FIXED_TIME = re.compile(
    r"(?:起床|起きた|就寝|就眠|入眠|寝る|食事?|空腹|朝|昼|夕|夜|透析|入院|退院|外来|受診|来院|手術|[定同毎臨常一当即])の?$"
)

_DAYS = re.compile(
    r"(?:各|全|計|処方|x|/| )*(?P<count>[0-9]{1,3}) ?(?P<unit>日間分|日間|日分|日|t\.?d\.?|days?|d|週間?分?)?"
    r"(?:ずつ|ぶん|処方|投与|継続|まで| )*"
)
_ARROW = re.compile("→|⇒|->|➡")
_KANJI_FOLLOWERS = f"日|回|週|{_UNIT}"


class _Amount(NamedTuple):
    """One written amount. `scope`: what it is the amount of, as far as its own words say; `suffix`: kg, 時 … after it.
    `prefixed`: the scope is said by 1日 before, not by /日 after."""

    number: Decimal | None
    unit: str
    suffix: str
    scope: Literal["intake", "day", "week"] | None
    prefixed: bool


def parse_dosage(name: str, dose: str | None, usage: str | None, days: str | None) -> Dosage:
    """The numbers of a prescription; what is not stated or not understood is None, the written form stays in `text`.

    `dose` is per intake, in `dose_unit`. The written amount is that of one intake, unless a split follows it (分3,
    3×, 3回に分けて): then it is divided, and is None when the quotient is not a finite decimal or the intakes are
    unequal (4-4-6, 朝2錠夕1錠). A total of a day without a split keeps its unit (15 mg/日); 1日1錠 taken once a day
    is 1 錠. Of 5mg→10mg the new amount counts. `per_day` is None for rhythms other than daily and for 1日3回まで.
    `as_needed` (頓用, 疼痛時) has no `days`, and `per_day` only when a number of times is written. Weeks of supply
    count seven days; months are not understood. `name` tells patches from tablets: the T of 1T is not 錠 for a テープ.
    """
    # 5mg→10mg: a change is recorded with what it changes to.
    written_dose, written_usage = (_ARROW.split(fold_dosage(text))[-1].strip() for text in (dose, usage))
    reading = f"{written_dose} {written_usage}".strip()
    as_needed = _is_as_needed(written_usage) or _is_as_needed(written_dose)
    split = _split(reading)
    per_day = _per_day(reading, split, as_needed)
    number, unit, per_day = _per_intake(fold_width(name), written_dose, written_usage, split, per_day)
    parts = [part.strip() for part in (dose, usage, days) if part and part.strip()]
    return Dosage(
        dose=number,
        dose_unit=unit if number is not None else None,
        per_day=per_day,
        days=None if as_needed else _supply_days(fold_dosage(days), reading),
        as_needed=as_needed,
        text=" ".join(parts) or None,
    )


def fold_dosage(text: str | None) -> str:
    """Lower case, folded width, single spaces, × as x, kanji numerals before units as digits, no thousands commas."""
    folded = " ".join(fold_width(text or "").lower().replace("×", "x").split())
    folded = re.sub(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))", "", folded)
    return arabic_before(folded, _KANJI_FOLLOWERS)


def _decimal(number: str) -> Decimal | None:
    """None for a fraction without a finite decimal (1/3)."""
    if number == "半":
        return Decimal("0.5")
    numerator, _, denominator = number.partition("/")
    return _quotient(Decimal(numerator), int(denominator)) if denominator else Decimal(numerator)


def _quotient(total: Decimal, divisor: int) -> Decimal | None:
    """Exact, or None: a dose is never rounded."""
    if divisor == 0:
        return None
    # Multiplying back would not tell: 8/11 in 28 digits times 11 is 8 again. Finite are denominators of 2s and 5s alone.
    denominator = (Fraction(total) / divisor).denominator
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    return total / divisor if denominator == 1 else None


def _amounts(text: str, is_patch: bool) -> list[_Amount]:
    found = [_amount(match) for match in _AMOUNT.finditer(text)]
    return [amount for amount in found if not (is_patch and amount.unit in ("錠", "包"))]


def _amount(found: re.Match[str]) -> _Amount:
    suffix = re.sub("/(?:day|d)(?![a-z])", "/日", found["per"])
    suffix = re.sub("/(?:week|w)(?![a-z])", "/週", suffix)
    scope: Literal["intake", "day", "week"] | None = None
    if "/週" in suffix:
        scope = "week"
    elif "/日" in suffix or found["scope"] == "1日":
        scope = "day"
    elif "/回" in suffix or found["scope"]:
        scope = "intake"
    number = _decimal(found["number"])
    if found["half"] and number is not None:
        number += Decimal("0.5")
    plain_suffix = suffix.replace("/回", "").replace("/日", "")
    return _Amount(number, _UNIT_OF[found["unit"]], plain_suffix, scope, "/日" not in suffix)


def _per_intake(
    name: str, dose: str, usage: str, split: int | None, per_day: int | None
) -> tuple[Decimal | None, str | None, int | None]:
    """Dose and unit of one intake, and how often a day as far as unequal intakes tell it."""
    is_patch = bool(_PATCH.search(name))
    in_dose, in_usage = _amounts(dose, is_patch), _amounts(usage, is_patch)
    units = {amount.unit for amount in in_dose + in_usage}
    steps = _STEPS.search(dose) or _STEPS.search(usage)
    if steps:
        return _stepped(steps, units.pop() if len(units) == 1 else None, per_day)
    timed = [_decimal(found["number"]) for found in _TIMED_NUMBER.finditer(f"{dose} {usage}")]
    if _RANGE_OF_AMOUNTS.search(dose) or "不均等" in usage or len(set(timed)) > 1:
        return None, None, per_day
    if len(timed) > 1:
        agrees = len(units) == 1 and per_day in (None, len(timed))
        return (timed[0], units.pop(), len(timed)) if agrees else (None, None, per_day)
    bare = _BARE_AMOUNT.fullmatch(dose)
    if bare:
        number = _decimal(bare["number"])
        return (_quotient(number, split) if number is not None and split else number), None, per_day
    amount = _chosen(in_dose, in_usage)
    if amount is None or amount.number is None:
        return None, None, per_day
    if amount.scope == "week":
        return amount.number, amount.unit + amount.suffix, None
    unit = amount.unit + amount.suffix
    if amount.scope == "intake":
        return amount.number, unit, per_day
    if split:
        return _quotient(amount.number, split), unit, per_day
    is_total = amount.scope == "day" and not (amount.prefixed and per_day == 1)
    return amount.number, f"{unit}/日" if is_total else unit, per_day


def _stepped(
    steps: re.Match[str], unit: str | None, per_day: int | None
) -> tuple[Decimal | None, str | None, int | None]:
    """4-4-4単位: one number for each time of the day; a 0 is a time without an intake."""
    numbers = [Decimal(number) for number in re.findall(_STEP, steps["steps"])]
    taken = [number for number in numbers if number]
    if per_day not in (None, len(numbers), len(taken)):
        return None, None, per_day
    written = re.search(_UNIT, steps["steps"])
    equal = len(set(taken)) == 1
    return (taken[0] if equal else None), (_UNIT_OF[written[0]] if written else unit), len(taken) or None


def _chosen(in_dose: list[_Amount], in_usage: list[_Amount]) -> _Amount | None:
    """The amount that is taken: what is marked 1回, else a countable form before its strength, else the only one;
    None when the first of these kinds that is there says two things."""

    def countable(amounts: list[_Amount]) -> list[_Amount]:
        return [amount for amount in amounts if amount.unit not in _MEASURES]

    marked = [amount for amount in in_dose + in_usage if amount.scope == "intake"]
    kinds = (marked, countable(in_dose), countable(in_usage), in_dose, in_usage)
    first = next(filter(None, kinds), [])
    return first[0] if len({(amount.number, amount.unit) for amount in first}) == 1 else None


def _split(reading: str) -> int | None:
    """Into how many intakes the total of a day is divided."""
    found = SPLIT.search(reading)
    return int(next(filter(None, found.groups()))) if found else None


def _per_day(reading: str, split: int | None, as_needed: bool) -> int | None:
    rhythm = SUPPLY.sub(" ", reading)
    rhythm = re.sub(rf"(?:{_NUMBER}) ?(?:{_UNIT})/(?:週|week|w)", " ", rhythm)
    if _NOT_DAILY.search(rhythm) or _UNCERTAIN_TIMES.search(rhythm):
        return None
    if split:
        return split
    times = TIMES_A_DAY.search(rhythm)
    if times and not (as_needed and times["multiplied"]):
        return int(next(filter(None, times.groups())))
    every = EVERY_HOURS.search(rhythm)
    if every:
        hours = int(every["latin"] or every["hours"])
        return 24 // hours if hours and 24 % hours == 0 else None
    latin = LATIN.search(rhythm)
    if latin:
        return LATIN_TIMES[latin[0].replace(".", "")]
    return None if as_needed else _times_of_day(rhythm)


def _times_of_day(rhythm: str) -> int | None:
    """How many times of the day are named: 朝夕眠前 is 3, 毎食後と眠前 is 4."""
    bedtime, waking = bool(BEDTIME.search(rhythm)), bool(_WAKING.search(rhythm))
    rest = _WAKING.sub(" ", BEDTIME.sub(" ", rhythm))
    meals = 3 if MEALS.search(rest) else len({"夕" if part in "夜晩" else part for part in _DAY_PARTS if part in rest})
    count = meals + bedtime + waking
    return count or len(set(_CLOCK.findall(rest))) or None


def _is_as_needed(text: str) -> bool:
    return any(
        not found["occasion"] or not _FIXED_TIME.search(found["occasion"]) for found in _AS_NEEDED.finditer(text)
    )


def _supply_days(days: str, reading: str) -> int | None:
    """Days of supply from the days as written, else from the one supply that dose and usage state."""
    found = _DAYS.fullmatch(days)
    if not days:
        stated = [supply for supply in SUPPLY.finditer(reading) if supply["count"]]
        found = stated[0] if len(stated) == 1 else None
    if not found:
        return None
    count = int(found["count"]) * (7 if (found["unit"] or "").startswith("週") else 1)
    return count or None
