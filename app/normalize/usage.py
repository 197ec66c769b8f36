"""Written usage of a prescription -> one canonical string of what it says, for the lookup of its standard code.

The string is no code and is written nowhere but in tables of usages: a chart's `3×N` and a master's
`内服・経口・１日３回朝昼夕食後` are the same usage exactly when their strings are equal.

Sources: the parts of a usage and the routes are those of JAMI 標準用法マスタ (16-digit usage codes; 基本用法 1 and 2
digits; conditions of 頓用); the abbreviations are the customary German and Latin ones of Japanese prescriptions
(n.d.E. 食後, v.d.E. 食前, z.d.E. 食間, v.d.S. 就寝前, M 朝, A 夕; a.c., p.c., p.o., p.r.n.).
"""

import re
from dataclasses import dataclass, field

from app.normalize.characters import fold_width
from app.normalize.dosage import (
    BEDTIME,
    EVERY_HOURS,
    LATIN,
    LATIN_TIMES,
    MEALS,
    SPLIT,
    SUPPLY,
    TIMES_A_DAY,
    fold_dosage,
)

_INTERNAL, _EXTERNAL, _INJECTION = "内服", "外用", "注射"
# Spelling -> route; the routes are those of JAMI 基本用法 (1 digit: 内服 外用 注射; 2 digits: the rest).
_ROUTES = {
    **dict.fromkeys(("内服", "経口", "服用", "内用", "p.o.", "p.o", "po"), _INTERNAL),
    _EXTERNAL: _EXTERNAL,
    _INJECTION: _INJECTION,
    **{route: route for route in ("舌下", "バッカル", "口腔内塗布", "塗布", "湿布", "噴霧", "消毒", "点耳", "点眼", "点鼻")},
    **{route: route for route in ("吸入", "トローチ", "膀胱洗浄", "鼻腔内洗浄", "浣腸", "肛門注入", "膀胱注入")},
    **dict.fromkeys(("貼付", "貼用"), "貼付"),
    **dict.fromkeys(("撒布", "散布"), "撒布"),
    **dict.fromkeys(("うがい", "含嗽"), "うがい"),
    **dict.fromkeys(("肛門挿入", "肛門内挿入", "直腸内挿入", "挿肛"), "肛門挿入"),
    **dict.fromkeys(("膣内挿入", "腟内挿入"), "膣内挿入"),
    **dict.fromkeys(("静脈注射", "静注"), "静脈注射"),
    **dict.fromkeys(("皮下注射", "皮下注"), "皮下注射"),
    **dict.fromkeys(("筋肉内注射", "筋肉注射", "筋注"), "筋肉内注射"),
}
_INJECTIONS = frozenset({"静脈注射", "皮下注射", "筋肉内注射"})
# Condition -> its other spellings. Only words that mean the same stand in one row (JAMI 頓用指示).
_OCCASIONS = {
    "疼痛": ("痛い", "痛む"),
    "かゆい": ("痒い", "掻痒", "そう痒"),
    "吐き気": ("嘔気", "悪心"),
    "むくみ": ("浮腫",),
    "不眠": ("眠れない",),
    "いらいら": ("イライラ",),
    "けいれん": ("痙攣",),
    "めまい": ("眩暈",),
    "発熱": ("熱発",),
    "咳込": ("咳込み", "咳き込み"),
    **dict.fromkeys(
        (
            *("頭痛", "歯痛", "胸痛", "腹痛", "腰痛", "関節痛", "喘鳴", "喘息発作", "血圧上昇", "血糖上昇", "便秘", "下痢", "排便"),
            *("嘔吐", "口腔乾燥", "出血", "乏尿", "多尿", "不安", "不穏", "疲労", "悪寒", "発疹", "発作", "動悸", "呼吸苦", "咳嗽"),
        ),
        (),
    ),
}
_OCCASION_OF = {spelling: word for word, others in _OCCASIONS.items() for spelling in (word, *others)}
_AS_NEEDED_WORDS = {
    **dict.fromkeys(("頓用", "頓服", "屯用", "屯服", "頓"), ""),
    **dict.fromkeys(("必要時", "p.r.n.", "p.r.n", "prn"), "必要時"),
    "適宜": "適宜",
}
# 食 and this: relation to a meal. 食間 is about two hours after a meal, but what is written stays apart.
_RELATIONS = {"前": "食前", "直前": "食直前", "後": "食後", "直後": "食直後", "間": "食間",
              "2時間後": "食後2時間", "後2時間": "食後2時間"}  # fmt: skip
_ABBREVIATED = {"n": "食後", "nde": "食後", "pc": "食後", "v": "食前", "vde": "食前", "ac": "食前",
                "z": "食間", "zw": "食間", "zde": "食間"}  # fmt: skip
_WAKING, _BEDTIME = "起床時", "就寝前"
_MEAL_SLOTS = ("朝", "昼", "夕")
_ORDER = (_WAKING, *_MEAL_SLOTS, "夜")


def _any_of(words: dict[str, str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


_RELATION = f"(?:{_any_of(_RELATIONS)})"
_TO_MEAL = rf" ?の?食?事?の? ?(?P<relation>{_RELATION})"
_OCCASION = f"(?:{_any_of(_OCCASION_OF)})"
# Single letters mean something behind 3× alone.
_AFTER_X = "(?:(?<=x)|(?<=x ))"
# What a usage is made of, tried in this order at each place. A word that none of them reads is not understood.
_TOKENS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("split", SPLIT),
    ("times", TIMES_A_DAY),
    ("some", re.compile("1日数回")),
    ("every", EVERY_HOURS),
    ("latin", LATIN),
    ("supply", SUPPLY),
    ("intake", re.compile(r"1回(?:量)? ?[0-9.]{1,6} ?(?:錠|カプセル|包|滴|枚|個|t(?![a-z])|c(?![a-z])|p(?![a-z]))")),
    ("bedtime", BEDTIME),
    ("waking", re.compile("朝?起床時?(?![後直])")),
    ("empty", re.compile("空腹時")),
    ("meals", re.compile(rf"(?:{MEALS.pattern})(?: ?の?事?の? ?(?P<relation>{_RELATION}))?(?!事|前|後|間)")),
    ("meal", re.compile(rf"食事?の?(?P<relation>{_RELATION})")),
    ("slots", re.compile(rf"毎?(?P<slots>[朝昼夕夜晩](?:食?[・、,/と ]{{0,2}}[朝昼夕夜晩])*)(?:(?=[ の食]){_TO_MEAL})?(?!食|起床)")),
    ("german", re.compile(rf"{_AFTER_X}(?P<parts>m[.・]?a|m|a)\.?(?![a-z.])")),
    ("abbreviation", re.compile(rf"(?P<short>(?<![a-wyz])(?:[nvz]\.?d\.?e|[pa]\.?c)|{_AFTER_X}(?:zw|[nvz]))\.?(?![a-z])")),
    ("occasion", re.compile(rf"(?P<occasions>{_OCCASION}(?:[・、,/や]{_OCCASION})*)の?(?:時(?!間)|とき)")),
    ("needed", re.compile(rf"(?:{_any_of(_AS_NEEDED_WORDS)})(?![a-z])")),
    ("clock", re.compile("(?<![0-9])(?P<hour>[01]?[0-9]|2[0-4])時(?![間々半])")),
    ("route", re.compile(rf"(?:{_any_of(_ROUTES)})(?![a-z])")),
    ("bare", re.compile(r"(?<![0-9~\-・、,])(?P<count>[1-9])回(?![0-9目分以半量])")),
    # 毎日: every usage here is daily. のみ: only then.
    ("filler", re.compile(r"に分けて|(?<=分)けて|毎日|のみ|及び|および|[と に、。,・:;/()\[\]+&]|(?<=[a-z])\.")),
)


@dataclass
class _Usage:
    """What has been read. `times`: what each part says of intakes a day; `relations`: of meals that are not named."""

    times: set[int] = field(default_factory=set)
    some: bool = False
    counts: list[int] = field(default_factory=list)
    slots: set[tuple[str, str]] = field(default_factory=set)
    relations: set[str] = field(default_factory=set)
    hours: set[int] = field(default_factory=set)
    empty: bool = False
    as_needed: bool = False
    occasions: set[str] = field(default_factory=set)
    routes: set[str] = field(default_factory=set)
    supplies: int = 0


def usage_key(text: str) -> str | None:
    """A canonical string of a written usage; None when any word of it is not understood, or its parts contradict
    each other (分2 毎食後).

    Two usages have one key exactly if they say the same: route, intakes a day, times of the day with their relation to
    meals, interval, condition of 頓用. 分3 毎食後, 3×N and １日３回朝昼夕食後　服用 have the key of JAMI's
    内服・経口・１日３回朝昼夕食後. A usage that names meals, waking or bedtime and no route is taken by mouth; others
    without a route (1日3回, 発熱時, 12時間毎) say nothing of it, and differ from those with one. The caller, who knows the
    drug, says the route by adding it as a word (`usage_route`): 朝食後 of a patch is not 朝食後 of a tablet.
    Rhythms that are not daily (隔日, 週1回), tapering, limits (まで) and sites are not understood.
    A supply beside it (14日分) and an amount of one intake (1回1錠) say nothing of the usage and are passed over.
    """
    read = _read(fold_dosage(text))
    return _key(read) if read else None


# Form in the name of a drug -> route; the first that matches counts. 外用 and 注射 where the form leaves the way open:
# an ointment may be for the skin, the eye or the anus.
_FORMS = (
    (_INTERNAL, re.compile("内服|内用|経口")),
    (_EXTERNAL, re.compile("軟膏|クリーム|ローション|外用|耳鼻科用|口腔用|うがい|含嗽|浣腸|注腸|吸入|スプレー|噴霧|エアゾール|エリプタ"
                           "|タービュヘイラー|ディスカス|レスピマット|ヘラー|エアロスフィア|エアー|ロタディスク|フォーム|腟|膣|舌下|バッカル|トローチ|パップ|湿布|ゲル|ゼリー")),
    ("点眼", re.compile("点眼")),
    ("点鼻", re.compile("点鼻")),
    ("点耳", re.compile("点耳")),
    ("貼付", re.compile("テープ|パッチ|貼付|TTS")),
    ("肛門挿入", re.compile("坐剤|坐薬|座薬|サポ(?![ァ-ヶー])")),
    (_INJECTION, re.compile("注|シリンジ|フレックス|ミリオペン|ソロスター|点滴|輸液|インスリン")),
    (_INTERNAL, re.compile("錠|カプセル|散|細粒|顆粒|シロップ|エキス")),
)  # fmt: skip


def usage_route(drug: str) -> str | None:
    """The route that the form in the name of a drug implies (内服, 点眼, 貼付, 外用 …), as a word that may be added to a
    written usage before `usage_key`; None when the name says no form."""
    name = "".join(fold_width(drug).split())
    return next((route for route, form in _FORMS if form.search(name)), None)


def _read(text: str) -> _Usage | None:
    usage = _Usage()
    at = 0
    while at < len(text):
        matches = ((kind, found) for kind, pattern in _TOKENS if (found := pattern.match(text, at)))
        kind, found = next(matches, ("", None))
        if found is None:
            return None
        _take(usage, kind, found)
        at = found.end()
    return usage


def _take(usage: _Usage, kind: str, found: re.Match[str]) -> None:
    match kind:
        case "split" | "times":
            usage.times.add(int(next(filter(None, found.groups()))))
        case "some":
            usage.some = True
        case "every":
            usage.hours.add(int(found["latin"] or found["hours"]))
        case "latin":
            usage.times.add(LATIN_TIMES[found[0].replace(".", "")])
        case "supply":
            usage.supplies += 1
        case "bedtime":
            usage.slots.add((_BEDTIME, ""))
        case "waking":
            usage.slots.add((_WAKING, ""))
        case "empty":
            usage.empty = True
        case "meals":
            usage.slots |= {(slot, _RELATIONS.get(found["relation"] or "", "")) for slot in _MEAL_SLOTS}
            if not found["relation"]:
                usage.relations.add("")
        case "meal":
            usage.relations.add(_RELATIONS[found["relation"]])
        case "slots":
            usage.slots |= _slots(found)
        case "german":
            usage.slots |= {({"m": "朝", "a": "夕"}[part], "") for part in found["parts"] if part in "ma"}
        case "abbreviation":
            usage.relations.add(_ABBREVIATED[found["short"].replace(".", "")])
        case "occasion":
            usage.occasions |= {_OCCASION_OF[word] for word in re.findall(_OCCASION, found["occasions"])}
        case "needed":
            usage.as_needed = True
            usage.occasions |= {_AS_NEEDED_WORDS[found[0]]} - {""}
        case "clock":
            usage.slots.add((f"{int(found['hour'])}時", ""))
        case "route":
            usage.routes.add(_ROUTES[found[0]])
        case "bare":
            usage.counts.append(int(found["count"]))


def _slots(found: re.Match[str]) -> set[tuple[str, str]]:
    """朝夕食後 is 朝食後 and 夕食後. 晩 and 夜 beside other meals are the evening meal; a lone 夜食 may be a snack."""
    slots = [part for part in found["slots"] if part in "朝昼夕夜晩"]
    relation = _RELATIONS.get(found["relation"] or "", "")
    if relation:
        slots = ["夕" if part == "晩" or (part == "夜" and len(slots) > 1) else part for part in slots]
    return {("夜" if part == "晩" else part, relation) for part in slots}


def _key(usage: _Usage) -> str | None:
    if len(usage.times) > 1 or len(usage.hours) > 1 or usage.supplies > 1 or 0 in usage.hours:
        return None
    route = _route(usage)
    times = next(iter(usage.times), None)
    if route is None or not _related(usage, times):
        return None
    as_needed = usage.as_needed or bool(usage.occasions)
    hours = next(iter(usage.hours), None)
    if not as_needed:
        implied = {len(usage.slots)} if usage.slots and not usage.relations else set()
        implied |= {24 // hours} if hours and 24 % hours == 0 else set()
        implied |= {times} if times else set()
        if len(implied) > 1 or (usage.some and implied):
            return None
        times = next(iter(implied), None)
    if any(count != times for count in usage.counts):
        return None
    slots = [f"{slot}{relation}" for slot, relation in sorted(usage.slots, key=_place)]
    parts = [
        "1日数回" if usage.some else f"1日{times}回" if times else "",
        "+".join(slots + sorted(usage.relations)),
        f"{hours}時間毎" if hours else "",
        "空腹時" if usage.empty else "",
        "頓用" * as_needed,
        "+".join(sorted(usage.occasions)),
    ]
    said = [part for part in parts if part]
    return "/".join([route, *said] if route else said) if said else None


def _related(usage: _Usage, times: int | None) -> bool:
    """Gives a relation that stands apart (分2 朝夕 食後, 3×N) to the meals without one; False where it is not clear
    whose it is. Without named meals it is that of all three when the intakes a day leave just three for them."""
    relations = usage.relations - {""}
    every_meal = "" in usage.relations
    meals = {slot for slot in usage.slots if slot[0] in _MEAL_SLOTS}
    open_meals = {slot for slot in meals if not slot[1]}
    usage.relations.clear()
    if not relations:
        return not every_meal  # 毎食 alone: before or after?
    if len(relations) > 1 or meals != open_meals:
        return False
    [relation] = relations
    if open_meals:
        usage.slots -= open_meals
        usage.slots |= {(slot, relation) for slot, _ in open_meals}
    elif times is not None and times - len(usage.slots) == len(_MEAL_SLOTS):
        usage.slots |= {(slot, relation) for slot in _MEAL_SLOTS}
    else:
        usage.relations.add(relation)
    return True


def _route(usage: _Usage) -> str | None:
    """The one route, "" when none is said or implied, None when two are."""
    routes = set(usage.routes)
    if routes & _INJECTIONS:
        routes.discard(_INJECTION)
    if routes - {_INTERNAL, _INJECTION} - _INJECTIONS - {_EXTERNAL}:
        routes.discard(_EXTERNAL)
    if len(routes) > 1:
        return None
    related = usage.relations or any(relation for _, relation in usage.slots)
    by_mouth = related or usage.empty or {slot for slot, _ in usage.slots} & {_WAKING, _BEDTIME}
    return next(iter(routes), _INTERNAL if by_mouth else "")


def _place(slot: tuple[str, str]) -> tuple[int, int, str]:
    """Order of the day: waking, meals, night, hours of the clock, bedtime."""
    name = slot[0]
    if name in _ORDER:
        return _ORDER.index(name), 0, slot[1]
    return (len(_ORDER) + 1, 0, "") if name == _BEDTIME else (len(_ORDER), int(name.removesuffix("時")), "")
