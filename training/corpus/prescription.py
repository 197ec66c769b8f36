"""Section writers for prescriptions: lists, tables, grouped lines; sentences are in `prescription_prose`.

One writer is one family of layouts. What a list states of each drug (action, how much is written) is drawn once per block
and departs from it now and then, as in charts.
"""

# ruff: noqa: E501 (tables of words, one row a line)

import random

from schemas.statement import Action
from training.corpus.core import Context, Fact, Line, Writer
from training.corpus.names import Names
from training.corpus.prescription_items import (
    DAY_COUNTS,
    Item,
    by_hand,
    compose,
    days,
    days_form,
    draw,
    fact,
    item_fact,
    join,
    medicine,
    pick,
    usage,
)
from training.corpus.prescription_prose import (
    course_prose,
    inline,
    nursing,
    plan_prose,
    sentence,
    stated_nothing,
)

__all__ = ["WRITERS", "inline"]

_HEADS = {
    Action.PRESCRIBE: "処方|処方内容|本日の処方|本日処方|今回処方|退院処方|退院時処方|院外処方|処方箋|Rp|Rp.|RP|Rx|新規処方|処方薬|退院時投薬|退院時内服薬|投薬|外来処方|処方オーダー|Prescription|"
    "Discharge medication|臨時処方|P|帰宅時処方|救急処方|入院処方|持ち帰り薬|本日の投薬|お薬|退院薬|退院時持ち帰り処方|処方(院外)|Rp)",
    Action.CONTINUE: "内服薬|内服|常用薬|持参薬|現在の処方|現在の内服薬|現在の内服|内服中の薬|服用中の薬|服薬中|他院処方|定期処方|定期薬|入院時持参薬|入院時内服薬|Medication|Medications|Meds|Current medication|"
    "併用薬|前医処方|かかりつけ処方|紹介時処方|普段の薬|お薬手帳より|現処方|現在の投薬|常用内服薬|継続処方|処方（do）|Do処方|do処方|使用薬剤|定期内服薬|持参薬（鑑別済）|服薬内容|現行処方|家での薬|"
    "内服状況|訪問診療処方|施設での内服薬|近医処方|当院処方|投薬内容|薬剤|常備薬|現在投与中の薬剤|既処方|服用薬|薬|DM薬|在宅での内服",
    Action.HISTORY: "過去の治療薬|治療歴|前治療|既治療|入院中の投与薬（終了）|以前の内服|過去の使用薬剤|抗菌薬治療歴|入院中投与（終了）|使用歴のある薬",
    Action.STOP: "中止薬|術前休薬|休薬|休薬薬剤|中止した薬|術前中止薬|中止|入院時中止薬|休薬指示|中止する薬|術前に止める薬|退院時中止薬|抗血栓薬の休薬",
    Action.PLAN: "退院後再開予定|今後開始予定の薬|次回開始予定|術後再開薬|再開予定|次回処方予定|来月から開始予定",
}  # fmt: skip
_FRAMES = ("【{}】", "＜{}＞", "<{}>", "■{}", "[{}]", "[{}]", "# {}", "#{}", "{}：", "{}:", "{}", "{}）", "{})", "◆{}", "●{}", "○{}", "〔{}〕",
           "▼{}", "◎{}", "★{}", "《{}》", "～{}～", "--- {} ---", "＝＝{}＝＝", "[ {} ]", "・{}", "1. {}", "({})", "（{}）", "「{}」", "□{}", "**{}**", "## {}")  # fmt: skip
_MARKS = {
    Action.PRESCRIBE: "新規|新規|開始|追加|new|新規処方|今回追加|New|入院後開始|退院後も内服|本日開始",
    Action.CONTINUE: "継続|継続|do|Do|DO|変更なし|他院処方|前医より|持参薬継続|同じ|内科|循内|整形|cont|入院前より継続|継|当日朝も内服",
    Action.CHANGE: "増量|減量|変更|増量後|減量後|用量変更|今回増量|今回減量|↑|↓|漸減中",
    Action.STOP: "中止|休薬|off|終了|入院時より中止|術前休薬|中止済|STOP|削除|7日前より休薬|休薬中",
    Action.PLAN: "退院後再開|次回より|来月開始予定|術後再開予定|再開予定|食事開始後より",
    Action.HISTORY: "終了済|過去|入院中のみ|7日間で終了|飲み切り終了|効果なく終了",
}
_MARK_FRAMES = ("（{}）", "({})", "（{}）", " {}", "　{}", "：{}", " ←{}", "【{}】", "→{}", " *{}", " [{}]", "／{}", " ※{}", "→ {}", " - {}")
_FOOT = (
    "以上{n}日分|以上|（以上）|他は変更なし|※残薬調整あり|一包化|以上 {n}日分 処方|お薬手帳確認済|×{n}日分|（{n}日分）|全て{n}TD|湿布は希望なく処方せず|残薬あり|後発品可|"
    "点滴：生食500mL|以下余白|※詳細はお薬手帳参照|（お薬手帳より）|薬剤アレルギーなし確認|自己管理|妻が管理|処方箋交付|次回予約 {n}日後|ヘルパーによる服薬確認|＊飲み忘れあり|全薬 {n}日分|残薬なし|他院の眼科薬あり"
)


def _head(rng: random.Random, ctx: Context, action: Action, addition: str = "") -> str:
    frame = ctx.habit(rng, "heading", *_FRAMES) if rng.random() < 0.6 else rng.choice(_FRAMES)
    frame = frame if frame.count("{}") == 1 else "【{}】"
    name = pick(rng, _HEADS[action])
    return frame.format(name + addition) if rng.random() < 0.6 else frame.format(name) + addition


def _thin_all(items: list[Item], level: str) -> list[Item]:
    """The block's habit of how much is written: full | no_days | dose | usage | name."""
    for item in items:
        if level in ("no_days", "dose", "usage", "name"):
            item.days = item.tail = ""
        if level in ("usage", "name"):
            item.dose = ""
        if level in ("dose", "name"):
            item.usage = item.site = ""
    return items


def _level(rng: random.Random, action: Action) -> str:
    levels = ("full", "no_days", "dose", "usage", "name")
    if action is Action.PRESCRIBE:
        return rng.choices(levels, (66, 16, 8, 6, 4))[0]
    if action is Action.CONTINUE:
        return rng.choices(levels, (20, 40, 14, 12, 14))[0]
    return rng.choices(levels, (10, 25, 15, 15, 35))[0]


def _items(rng: random.Random, names: Names, count: int, action: Action, kind: str = "") -> list[Item]:
    """`count` drugs of one block with one spelling of the days."""
    level, form, same = _level(rng, action), days_form(rng), rng.choice(DAY_COUNTS)
    found: list[Item] = []
    while len(found) < count:
        item = draw(rng, names, kind)
        if any(item.name in other.name or other.name in item.name for other in found):
            continue
        if item.days:
            item.days = form.format(same if rng.random() < 0.75 else rng.choice(DAY_COUNTS))
        found += _thin_all([item], level if rng.random() < 0.9 else _level(rng, action))
    return found


def _numbering(rng: random.Random, ctx: Context) -> str:
    return ctx.habit(
        rng, "numbering", "{}) ", "{}.", "{}. ", "（{}）", "({})", "Rp{} ", "Rp.{}　", "Rp{}) ", "circled", "・", "・", "- ", "-", "", "", "", "　", "* ", "{}　",
        "{}：", "[{}] ", "○", "{}）", "#{} ", "●", "  ", "{}、", "R{}) ", "RP{}: ", "No{} ", "〇", "＊", "◦", "0{} ", "　・", "> ", "□",
    )  # fmt: skip


def _number(style: str, at: int) -> str:
    return chr(0x2460 + at) + " " if style == "circled" else style.replace("{}", str(at + 1))


def _list(rng: random.Random, names: Names, ctx: Context, action: Action, kind: str = "", marked: float = 0.0) -> list[Line]:
    lines: list[Line] = []
    remote = ""
    if rng.random() < 0.88:
        if action is Action.PRESCRIBE and rng.random() < 0.2:
            remote = days(rng)
            lines.append(Line(_head(rng, ctx, action, pick(rng, "（{}）|({})| {}|　{}|（全て{}）|：{}").format(remote))))
        else:
            extra = pick(rng, "|||||（近医より）|（{}/{}現在）|（お薬手帳より）|（持参）|（A病院）").format(rng.randint(1, 12), rng.randint(1, 28))
            lines.append(Line(_head(rng, ctx, action, extra if action is Action.CONTINUE else "")))
    items = _items(rng, names, rng.choices((1, 2, 3, 4, 5, 6, 8, 10), (10, 16, 20, 18, 14, 10, 8, 4))[0], action, kind)
    number, gap = _numbering(rng, ctx), rng.choice((" ", " ", "　", "", "  ", "　　", "、", " / ", "\t", ", "))
    for at, item in enumerate(items):
        if remote and item.days:
            item.days = ""
        text = _number(number, at) + compose(rng, item, gap if rng.random() < 0.9 else None)
        label = action
        if rng.random() < marked:
            label = rng.choices((Action.PRESCRIBE, Action.CONTINUE, Action.CHANGE, Action.STOP, Action.PLAN, Action.HISTORY), (20, 44, 16, 14, 3, 3))[0]
            mark = rng.choice(_MARK_FRAMES).format(pick(rng, _MARKS[label]))
            text = text + mark if rng.random() < 0.9 else mark.strip(" 　←→：") + " " + text
        found = item_fact(label, item)
        if remote and not item.as_needed and label is not Action.STOP:
            found = fact(label, item.name, item.dose, item.usage, remote)
        lines.append(Line(text, [found]))
        if rng.random() < 0.03:
            other, stated = sentence(rng, names, "decoy")
            lines.append(Line("　" + other, stated))
    if rng.random() < 0.2:
        lines.append(Line(pick(rng, _FOOT).replace("{n}", str(rng.choice(DAY_COUNTS)))))
    if lines and lines[0].facts == [] and len(lines) > 1 and lines[1].facts and rng.random() < 0.15:
        # The first drug beside the heading, as behind "P)" and "Rp)".
        lines[:2] = [Line(lines[0].text + pick(rng, "| |　") + lines[1].text, lines[1].facts)]
    return by_hand(rng, ctx, lines)


def prescribed_list(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    return _list(rng, names, ctx, Action.PRESCRIBE)


def current_list(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    return _list(rng, names, ctx, Action.CONTINUE, marked=rng.choice((0.0, 0.0, 0.15)))


def marked_list(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """A list whose drugs carry marks: (継続), (新規), (減量), do."""
    return _list(rng, names, ctx, rng.choice((Action.PRESCRIBE, Action.CONTINUE)), marked=rng.choice((0.5, 0.8, 1.0)))


def other_list(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """What is stopped, planned, or was given earlier."""
    action = rng.choice((Action.STOP, Action.STOP, Action.STOP, Action.HISTORY, Action.HISTORY, Action.PLAN))
    return _list(rng, names, ctx, action)


def special_list(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """One kind of preparation at a time: insulin, inhalers, eye drops, ointments, injections, as-needed drugs."""
    kind = rng.choice(("insulin", "insulin", "injection", "injection", "inhaler", "eye", "ointment", "patch", "kampo", "suppository", "as_needed", "as_needed", "spaced", "glp", "glp", "spray", "short", "salt", "rescue", "course", "course", "chemo", "dmard"))
    head = {
        "insulin": "インスリン|注射|インスリン指示|自己注射|BBT", "injection": "注射|点滴|抗菌薬|注射オーダー|投与薬|治療薬|点滴指示|抗生剤", "inhaler": "吸入|吸入薬|吸入薬処方",
        "eye": "点眼|点眼薬|目薬|眼科処方", "ointment": "外用|外用薬|塗り薬|軟膏|軟膏処置", "patch": "貼付剤|外用|湿布・テープ", "kampo": "漢方|漢方薬|エキス剤", "suppository": "坐薬|坐剤|頓用",
        "as_needed": "頓用|頓服|屯用|頓服薬|屯用指示|頓用薬|不眠時・疼痛時|PRN|頓用処方|必要時薬", "spaced": "処方|週1回製剤|透析日", "glp": "注射|自己注射|皮下注|生物学的製剤", "spray": "点鼻|点鼻薬|スプレー", "short": "内服|Rp|内服薬",
        "salt": "内服|電解質補正|Rp|内服薬", "rescue": "レスキュー|頓用|疼痛時|レスキュー薬|麻薬", "course": "抗菌薬|治療|点滴|入院後の治療|抗生剤|投与薬剤", "chemo": "化学療法|レジメン|抗がん剤|Chemo|薬物療法",
        "dmard": "抗リウマチ薬|DMARD|免疫抑制薬|内服|膠原病治療薬|治療",
    }[kind]  # fmt: skip
    # Injections of a ward and as-needed orders are given now; what is used at home is named as such.
    action = rng.choice((Action.PRESCRIBE, Action.CONTINUE))
    addition = "中|（継続）|（do）|（現在）|（自宅）" if action is Action.CONTINUE else "開始|処方|（新規）|（本日より）|"
    if kind in ("injection", "course", "as_needed", "eye", "ointment", "suppository") and action is Action.PRESCRIBE:
        addition += "|||"
    lines = [Line(rng.choice(_FRAMES).format(pick(rng, head) + pick(rng, addition)))]
    items = _items(rng, names, rng.choice((1, 1, 2, 2, 3, 4)), Action.PRESCRIBE, kind)
    number = _numbering(rng, ctx)
    lines += [Line(_number(number, at) + compose(rng, item), [item_fact(action, item)]) for at, item in enumerate(items)]
    if kind == "injection" and rng.random() < 0.5:
        other, stated = sentence(rng, names, "decoy")
        lines.insert(rng.randint(1, len(lines)), Line(_number(number, len(items)) + other, stated))
    if len(lines) == 2 and rng.random() < 0.5:
        lines = [Line(lines[0].text + rng.choice(("", " ", "　")) + lines[1].text, lines[1].facts)]
    return by_hand(rng, ctx, lines)


def compact(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Many drugs on a line: 内服：アムロジピン5mg、アスピリン100mg、ランソプラゾール15mg."""
    action = rng.choices((Action.CONTINUE, Action.PRESCRIBE, Action.STOP, Action.HISTORY), (64, 22, 8, 6))[0]
    level = rng.choice(("name", "name", "name", "dose", "no_days", "usage"))
    items = _thin_all(_items(rng, names, rng.choice((1, 2, 3, 3, 4, 4, 5, 6, 7, 9)), action), level)
    comma = rng.choice(("、", "、", "、", ", ", "，", "・", " ", "　", "/", "／", " + ", "＋", "; ", " , ", "，　", " & "))
    inner = rng.choice(("", "", " ")) if comma.strip() else ""
    if not comma.strip() and level != "name":
        comma, inner = "、", " "
    width = rng.choice((2, 3, 4, 20, 20, 20, 20))
    head = _head(rng, ctx, action) if rng.random() < 0.92 else ""
    tail = "" if head and rng.random() < 0.8 else {Action.CONTINUE: pick(rng, "内服中|内服中。| 継続| do|を継続|服用中|を定期内服|以上内服"), Action.PRESCRIBE: pick(rng, "処方|を処方|開始| 追加"), Action.STOP: pick(rng, "中止|は休薬| off"), Action.HISTORY: pick(rng, "の使用歴|は過去に使用|（終了）")}[action]
    lines: list[Line] = []
    for start in range(0, len(items), width):
        part = items[start : start + width]
        text = comma.join(compose(rng, item, inner) for item in part)
        text += tail if start + width >= len(items) else pick(rng, "、|")
        lines.append(Line(text, [item_fact(action, item) for item in part]))
    if head and rng.random() < 0.75:
        joint = "" if head[-1] in "：:）)】＞>]" else pick(rng, "：|: | |　|→")
        lines[0].text = head + joint + rng.choice(("", "", " ", "　")) + lines[0].text
    elif head:
        lines.insert(0, Line(head))
    return by_hand(rng, ctx, lines)


def grouped(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Drugs that share usage and days: on one line, or with these written last on a line of their own."""
    action = rng.choices((Action.PRESCRIBE, Action.CONTINUE), (75, 25))[0]
    lines = [Line(_head(rng, ctx, action))] if rng.random() < 0.85 else []
    number, gap = _numbering(rng, ctx), rng.choice((" ", "　", "", " ", "  "))
    beneath = rng.random() < 0.5
    form = days_form(rng)
    for at in range(rng.choice((1, 2, 2, 3, 4))):
        times = rng.choice((1, 1, 1, 2, 3))
        items = _items(rng, names, rng.choice((1, 1, 2, 3)) if beneath else rng.choice((2, 2, 3, 4)), Action.PRESCRIBE, "oral")
        when, supply = usage(rng, times), days(rng, form) if action is Action.PRESCRIBE or rng.random() < 0.4 else ""
        for item in items:
            item.usage = item.days = item.tail = item.site = ""
        if beneath:
            pad = rng.choice(("", "　", "　　", "  ", "    "))
            for place, item in enumerate(items):
                mark = _number(number, at) if place == 0 else pad
                lines.append(Line(mark + compose(rng, item, gap or " "), [item_fact(action, item)]))
            under = rng.choice(("　", "　　", "  ", "    ", "", "　　　", "→", "└ ", "\t"))
            lines.append(Line(under + join(rng.choice((" ", "　", "")), [when, supply])))
            if rng.random() < 0.15:
                # The usage stands beside the last drug instead.
                last = lines.pop()
                lines[-1].text += " " + last.text.strip("　 →└\t")
                lines[-1].facts = [item_fact(action, Item(items[-1].name, items[-1].dose, when, supply))]
        else:
            comma = rng.choice(("、", "、", " ", "　", ", ", "，", "＋", "/"))
            body = comma.join(compose(rng, item, gap) for item in items)
            text = _number(number, at) + join(rng.choice((" ", "　", "　", "、", " / ")), [body, when, supply])
            lines.append(Line(text, [fact(action, item.name, item.dose, when, supply) for item in items]))
    return by_hand(rng, ctx, lines)


def _padded(text: str, width: int) -> str:
    """Filled up to a width in half-width columns, as hospital systems print tables."""
    taken = sum(2 if ord(char) > 0x2FF and not 0xFF61 <= ord(char) <= 0xFF9F else 1 for char in text)
    return text + " " * max(1, width - taken)


def table(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Columns of name, dose, usage and days, with the days as bare numbers when the head carries the unit."""
    action = rng.choices((Action.PRESCRIBE, Action.CONTINUE), (60, 40))[0]
    items = _items(rng, names, rng.choice((2, 3, 4, 5, 6, 8)), Action.PRESCRIBE)
    bare, with_days, with_mark = rng.random() < 0.5, rng.random() < 0.75, rng.random() < 0.2
    heads = [pick(rng, "薬品名|薬剤名|薬剤|医薬品|薬|Drug|処方薬"), pick(rng, "用量|1日量|分量|量|数量|Dose"), pick(rng, "用法|服用方法|飲み方|Usage|用法・タイミング")]
    if with_days:
        heads.append(pick(rng, "日数|日分|投与日数|日数(日)|days"))
    if with_mark:
        heads.append(pick(rng, "備考|区分|変更|コメント"))
    rows: list[tuple[list[str], Fact]] = []
    for item in items:
        item.site = item.tail = ""
        count = str(rng.choice(DAY_COUNTS))
        item.days = "" if item.as_needed or not with_days or not item.days else count if bare else item.days
        label, mark = action, ""
        if with_mark and rng.random() < 0.7:
            label = rng.choice((Action.CONTINUE, Action.CONTINUE, Action.PRESCRIBE, Action.CHANGE, Action.STOP))
            mark = pick(rng, _MARKS[label])
        cells = [item.name + item.gloss, item.dose or "-", item.usage or "-", *([item.days or pick(rng, "-|5回|") or " "] if with_days else []), *([mark] if with_mark else [])]
        rows.append((cells, item_fact(label, item)))
    style = rng.choice(("pipe", "markdown", "tab", "padded", "padded", "spaces", "slash", "full", "comma"))
    wide = max(len(cells[0]) for cells, _ in rows) * 2 + 2

    def row(cells: list[str]) -> str:
        if style == "padded":
            return "".join(_padded(cell, wide if at == 0 else (12, 22, 8, 10)[min(at, 4) - 1]) for at, cell in enumerate(cells)).rstrip()
        if style == "markdown":
            return "| " + " | ".join(cells) + " |"
        return {"pipe": "|", "tab": "\t", "spaces": "   ", "slash": " / ", "full": "　　", "comma": ","}[style].join(cells).rstrip()

    lines = [Line(_head(rng, ctx, action))] if rng.random() < 0.8 else []
    if rng.random() < 0.85 or bare:
        lines.append(Line(row(heads)))
        if style == "markdown":
            lines.append(Line("|" + "---|" * len(heads)))
        elif rng.random() < 0.2:
            lines.append(Line(rng.choice(("-", "―", "=", "ー", "─")) * rng.randint(10, 30)))
    lines += [Line(row(cells), [stated]) for cells, stated in rows]
    return by_hand(rng, ctx, lines)


def mixed_plan(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """A plan in which drug lines, sentences and other orders alternate."""
    bullet = _numbering(rng, ctx)
    lines = [Line(pick(rng, "P)|P：|P:|【P】|Plan:|P|A/P|(P)|＃P|【プラン】|方針|【指示】|指示：|【本日の対応】|対応|Tx|#治療"))] if rng.random() < 0.8 else []
    for at in range(rng.choice((2, 3, 3, 4, 5, 6))):
        if rng.random() < 0.4:
            item = _items(rng, names, 1, Action.PRESCRIBE)[0]
            label = rng.choice((Action.PRESCRIBE, Action.PRESCRIBE, Action.CONTINUE, Action.CHANGE, Action.STOP))
            mark = "" if label is Action.PRESCRIBE and rng.random() < 0.6 else rng.choice(_MARK_FRAMES).format(pick(rng, _MARKS[label]))
            lines.append(Line(_number(bullet, at) + compose(rng, item) + mark, [item_fact(label, item)]))
        else:
            text, facts = sentence(rng, names)
            lines.append(Line(_number(bullet, at) + text, facts))
    return by_hand(rng, ctx, lines)


def alternating(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Doses that change by the day or by the hour: 2mg/2.5mg 隔日交互, 朝2錠 夕1錠."""
    lines = [Line(_head(rng, ctx, Action.CONTINUE))] if rng.random() < 0.6 else []
    label = Action.CONTINUE if lines else Action.PRESCRIBE
    for at in range(rng.choice((1, 1, 2))):
        name = pick(rng, "ワーファリン|ワルファリン|プレドニゾロン|PSL|プレドニン|チラーヂンS|レボチロキシン|メドロール") if rng.random() < 0.7 else medicine(rng, names).name
        dose, when = rng.choice((
            ("2mg/2.5mg", "隔日交互"), ("5mg/2.5mg", "隔日"), ("10mg/5mg", "隔日交互"), ("2-1-1錠", "朝昼夕"), ("2T-0-1T", "朝-昼-夕"), ("1.5錠と2錠", "交互"),
            ("50μgと75μg", "隔日交互"), ("朝2錠夕1錠", "分2"), ("2-0-1", "分2 朝夕食後"), ("3mg/3.5mg", "隔日"), ("2錠-1錠-0錠", "朝昼夕食後"), ("20-10-0mg", "朝昼夕"), ("1-0-1錠", "分2"),
        ))  # fmt: skip
        supply = days(rng) if rng.random() < 0.3 else ""
        mark = "" if lines or rng.random() < 0.3 else pick(rng, " 処方|で処方|より開始")
        lines.append(Line(_number(_numbering(rng, ctx), at) + join(rng.choice((" ", "　", " ")), [name, dose, when, supply]) + mark, [fact(label, name, dose, when, supply)]))
    return by_hand(rng, ctx, lines)


def tapered(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """A dose lowered or raised step by step: PSL 30→25→20mg; what counts is the last."""
    lines: list[Line] = []
    for at in range(rng.choice((1, 1, 2))):
        steroid = rng.random() < 0.5
        name = pick(rng, "PSL|プレドニゾロン|プレドニン|mPSL|メドロール") if steroid else medicine(rng, names).name
        steps = rng.choice(("30 25 20", "60 50 40 30", "20 15 10", "10 7.5 5", "40 35 30", "15 12.5 10", "5 4 3")).split()
        if not steroid and rng.random() < 0.5:
            steps.reverse()
        arrow, each, unit = rng.choice(("→", "→", " → ", "⇒", "->")), rng.random() < 0.4, pick(rng, "mg|mg|mg/日")
        row = arrow.join(step + (unit if each else "") for step in steps) + ("" if each else unit)
        tail = pick(rng, "|||と漸減|へ漸減|（2週毎）|（1週毎）|に漸減中|と調整|（現在）") if float(steps[0]) > float(steps[-1]) else pick(rng, "||と漸増|へ増量|と増量中|（2週毎）")
        text = _number(_numbering(rng, ctx), at) + name + pick(rng, " | |：|　|を") + row + tail
        lines.append(Line(text, [fact(Action.CHANGE, name, steps[-1] + unit)]))
    if rng.random() < 0.4:
        other, stated = sentence(rng, names, rng.choice(("decoy", "keep")))
        lines.append(Line(other, stated))
    return by_hand(rng, ctx, lines)


WRITERS: list[tuple[float, Writer]] = [
    (3.0, prescribed_list),
    (2.2, current_list),
    (1.6, marked_list),
    (0.8, other_list),
    (1.6, special_list),
    (2.4, compact),
    (1.8, grouped),
    (1.4, table),
    (1.8, mixed_plan),
    (0.25, alternating),
    (0.3, tapered),
    (2.6, plan_prose),
    (2.0, course_prose),
    (0.8, nursing),
    (1.6, stated_nothing),
]
