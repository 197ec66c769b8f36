"""Laboratory results in lines: one a line, many in a row, slash lists, changes; headings and decoys around them."""

import random

from schemas.statement import Field
from training.corpus.core import Context, Fact, Line
from training.corpus.lab_marks import POSNEG, yes_no
from training.corpus.lab_values import (
    NO_RESULT,
    PANELS,
    Part,
    Result,
    analyte,
    day_form,
    day_text,
    decoy,
    flag,
    joined,
    lab,
    number,
    panel,
    past,
    put,
    restyle,
    result,
    row_of,
    written,
)  # fmt: skip
from training.corpus.names import Analyte, Names

_SEPARATORS = ("、", "，", ", ", " ", "  ", "　", "; ", " / ", "・", ",", "、 ", " ; ", "；")


def laid_out(rng: random.Random, ctx: Context, r: Result, day: str = "") -> Part:
    """One result in the writer's way: name, separator, value, unit and flag in one of many orders."""
    sep = ctx.habit(
        rng,
        "lab_sep",
        " ",
        " ",
        " ",
        "",
        "：",
        ":",
        ": ",
        "　",
        "=",
        " : ",
        "＝",
        " = ",
        "： ",
        "…",
        "→" if rng.random() < 0.1 else " ",
    )
    if sep == "" and (
        r.name[-1].isascii()
        and r.name[-1] in "0123456789-.+"
        or not (r.value[0].isdigit() or r.value[0] in "<＜≦>＞≧≤≥")
    ):
        sep = " "
    if sep == "" and r.name[-1] in "0123456789":
        sep = " "
    how = ctx.habit(rng, "lab_unit", "none", "none", "none", "space", "tight", "tight", "bracket", "before", "mixed")
    if how == "mixed":
        how = rng.choice(("none", "space", "tight"))
    if not r.unit or "未満" in r.value or "以" in r.value:
        how = "before" if how == "before" and r.unit else "none"
    if how == "tight" and r.unit[0] in "0123456789xK":
        how = "space"
    value = r.value
    if how == "space":
        value += " " + r.unit
    elif how == "tight":
        value += r.unit
    elif how == "bracket":
        value += rng.choice(("({})", "({})", "（{}）", "[{}]", " ({})", " [{}]")).format(r.unit)
    name = r.name
    if how == "before":
        name += rng.choice(("({})", "({})", "（{}）", "[{}]", " ({})", " [{}]")).format(r.unit)
        sep = sep or " "
    if r.flag:
        if r.flag in ("高値", "低値", "高", "低"):
            shape = rng.choice(("{v}({f})", "{v}（{f}）", "{v} ({f})", "{v} {f}", "{v}[{f}]"))
        elif r.flag in "↑↓↑↑↓↓":
            shape = ctx.habit(
                rng, "lab_arrow", "{v}{f}", "{v}{f}", "{v} {f}", "{f}{v}", "{v}({f})", "{v}（{f}）", "{f} {v}"
            )
        else:
            shape = ctx.habit(
                rng,
                "lab_flag",
                "{v} {f}",
                "{v} {f}",
                "{v}{f}",
                "{v}({f})",
                "{v}（{f}）",
                "{f} {v}",
                "{v} [{f}]",
                "{v}　{f}",
            )
        if shape == "{v}{f}" and r.flag.isalpha() and value[-1].isalpha():
            shape = "{v} {f}"
        value = shape.format(v=value, f=r.flag)
        if shape.startswith("{f}") and r.flag.isascii():
            sep = sep or " "
    elif rng.random() < 0.012:
        value += "*"
    return name + sep + value, [lab(r, day, unit=how != "none")]


# -- frame: headings, dates, prefixes -----------------------------------------------------------------------------

_TITLES = (
    "検査", "検査所見", "血液検査", "採血", "採血結果", "検査結果", "Labo", "Labo data", "Lab", "LAB", "データ",
    "検査データ", "血算・生化", "採血データ", "血液検査所見", "入院時検査所見", "検体検査", "臨床検査", "血液生化学",
    "Data", "【検査】", "主要検査", "来院時検査", "退院時検査", "術前検査", "Laboratory findings", "血液データ", "LD",
    "ラボ", "採血上", "直近の検査値", "外来採血", "検査成績", "Lab data", "Laboratory data", "生化学", "血液",
    "緊急採血", "健診結果",
)  # fmt: skip
_FRAMES = (
    "【{}】", "【{}】", "＜{}＞", "<{}>", "[{}]", "■{}", "#{}", "# {}", "*{}*", "◎{}", "・{}", "{}", "{}：", "{}:",
    "〔{}〕", "●{}", "○{}", "《{}》", "◆ {}", "□{}", "▼{}", "== {} ==", "1. {}", "（{}）",
)  # fmt: skip
_DATED = (
    "{t}（{d}）", "{t}({d})", "{t} {d}", "{d} {t}", "{t}：{d}", "{t}　{d}", "{d}の{t}", "{t}（{d}施行）",
    "{t}（{d} 当院）", "{t} ({d} 7:30)", "{d}{t}", "{t}（{d}採血）",
)  # fmt: skip
_UNDATED = (
    "{t}", "{t}", "{t}", "{t}（入院時）", "{t}（本日）", "{t}（同日）", "{t} (前医)", "本日{t}", "入院時{t}",
    "{t}（抜粋）", "来院時{t}", "{t}(至急)",
)  # fmt: skip


def heading(rng: random.Random, ctx: Context, titles: tuple[str, ...] = _TITLES, dated: float = 0.4) -> tuple[str, str]:
    """A heading's text and the date in it, '' if it has none."""
    title = rng.choice(titles).strip("【】")
    day = day_text(rng, ctx) if rng.random() < dated else ""
    inner = rng.choice(_DATED if day else _UNDATED).format(t=title, d=day)
    return ctx.habit(rng, "heading", *_FRAMES).format(inner), day


def opened(
    rng: random.Random, ctx: Context, lines: list[Line], titles: tuple[str, ...] = _TITLES
) -> tuple[list[Line], str]:
    """Starts a block: heading line, heading to be put before the first line, S/O prefix, or nothing."""
    if rng.random() < 0.25:
        return lines, ""
    text, day = heading(rng, ctx, titles)
    for line in lines:
        for fact in line.facts:
            if day and Field.DATE not in fact.fields:
                fact.fields[Field.DATE] = day
    if rng.random() < 0.3:
        gap = ("", " ") if text[-1] in "：:" else (" ", "　", "", "：") if text[-1] in "】＞>]）" else (" ", "：", ": ")
        lines[0].text = text + rng.choice(gap) + lines[0].text
        return lines, day
    return [Line(text), *lines], day


def _soap(rng: random.Random, ctx: Context) -> str:
    return (
        ctx.habit(rng, "soap", "O)", "O：", "(O)", "O) ", "O: ", "O　", "Ｏ）", "O/", "[O] ", "O.", "(O) ")
        if rng.random() < 0.3
        else ""
    )


def strewn(rng: random.Random, ctx: Context, lines: list[Line], share: float = 0.3) -> list[Line]:
    """Lines without facts strewn into the block."""
    out = []
    for line in lines:
        if rng.random() < share / max(2, len(lines)):
            out.append(
                Line(rng.choice(("、", "  ", ", ", "　")).join(decoy(rng, ctx) for _ in range(rng.randint(1, 3))))
            )
        out.append(line)
    if rng.random() < share:
        out.append(Line(rng.choice(("・", "", "", "* ")) + (decoy(rng, ctx) if rng.random() < 0.5 else nothing(rng))))
    return out


def nothing(rng: random.Random) -> str:
    """A test's name without a result."""
    n, m = rng.choice(_PLAIN), rng.choice(_PLAIN)
    return rng.choice(NO_RESULT).format(n=n, m=m)


_PLAIN = (
    "肝機能", "腎機能", "電解質", "炎症反応", "WBC", "CRP", "血算", "Hb", "凝固", "甲状腺機能", "腫瘍マーカー", "CEA",
    "HbA1c", "脂質", "BNP", "TSH", "尿検査", "血糖", "抗核抗体", "感染症", "血液培養", "尿培養",
)  # fmt: skip


# -- writers ------------------------------------------------------------------------------------------------------


def one_a_line(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    bullet = ctx.habit(rng, "bullet", "", "", "・", "- ", "* ", "　", "  ", "○", "◦ ", "\t")
    lines = []
    for item in panel(rng, names, 2, 9):
        r = result(rng, item)
        if rng.random() < 0.05:
            lines.append(Line(bullet + item.name + rng.choice((" 未検", "：未検", " 提出中", "：", " -", " 再検"))))
        else:
            text, facts = laid_out(rng, ctx, r)
            if r.unit and rng.random() < 0.06:
                text += rng.choice(("（基準 {}-{}）", " (正常値{}〜{})", "  [{}-{}]")).format(
                    f"{item.low:g}", f"{item.high:g}"
                )
            lines.append(Line(bullet + text, facts))
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        lines.insert(rng.randint(0, len(lines)), put(bullet, yes_no(rng, rng.choice(POSNEG))))
    lines, _ = opened(rng, ctx, strewn(rng, ctx, lines))
    return restyle(rng, ctx, lines)


_SUBHEADS = {
    "cbc": ("血算", "CBC", "末血", "末梢血", "血液"),
    "liver": ("生化学", "生化", "肝機能", "Bio", "BC"),
    "renal": ("腎機能", "電解質", "生化", "生化学"),
    "metabolic": ("糖代謝", "脂質", "血糖関連"),
    "coag": ("凝固", "凝固系", "Coag"),
    "cardiac": ("心筋マーカー", "その他"),
    "thyroid": ("甲状腺", "内分泌", "甲状腺機能"),
    "immune": ("免疫", "その他", "免疫血清"),
    "tumor": ("腫瘍マーカー", "TM", "マーカー"),
    "drug": ("血中濃度", "薬物血中濃度", "TDM"),
    "gas": ("血ガス", "ABG", "動脈血液ガス", "BGA", "VBG", "血液ガス"),
    "urinequant": ("尿", "尿定量", "尿化学"),
}


def many_on_a_line(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Results in a row, wrapped at any place, with subheadings such as 血算: or without."""
    between = ctx.habit(rng, "lab_between", *_SEPARATORS)
    lines = []
    if rng.random() < 0.45:
        for key in rng.sample(tuple(_SUBHEADS), rng.randint(1, 4)):
            parts = [laid_out(rng, ctx, result(rng, item, 0.15)) for item in panel(rng, names, 2, 8, key)]
            head = rng.choice(
                ("{}：", "{}: ", "{}　", "({})", "[{}] ", "<{}>", "{} ", "・{}：", "- {}: ", "【{}】")
            ).format(rng.choice(_SUBHEADS[key]))
            lines.append(put(head, joined(parts, between)))
    else:
        items = panel(rng, names, 2, 14)
        parts = [laid_out(rng, ctx, result(rng, item, 0.15)) for item in items]
        if rng.random() < 0.15 and not any(item in row for item in items for row in PANELS["cbc"]):
            parts.insert(0, differential(rng, ctx))
        elif rng.random() < 0.06:
            parts.append(glucose_day(rng, ctx))
        wrap = rng.randint(3, 12)
        for at in range(0, len(parts), wrap):
            part = joined(parts[at : at + wrap], between)
            lines.append(put(part, rng.choice(("", "", "", "。", between.strip()))))
    if rng.random() < 0.25:
        lines[-1] = put(
            (lines[-1].text, lines[-1].facts),
            between if between.strip() else "、",
            rng.choice((nothing(rng), decoy(rng, ctx))),
        )
    lines[0].text = _soap(rng, ctx) + lines[0].text
    lines, _ = opened(rng, ctx, strewn(rng, ctx, lines))
    return restyle(rng, ctx, lines)


_SLASHES = (
    ("AST", "ALT"), ("AST", "ALT", "γ-GTP"), ("AST", "ALT", "LDH", "ALP"), ("Na", "K", "Cl"), ("Na", "K"), ("BUN", "Cr"), ("BUN", "Cre"), ("TP", "Alb"),
    ("WBC", "CRP"), ("WBC", "Hb", "Plt"), ("Hb", "Ht"), ("LDL", "HDL", "TG"), ("T-Bil", "D-Bil"), ("TSH", "FT4"), ("TSH", "FT3", "FT4"), ("GOT", "GPT"),
    ("Na", "K", "Cl", "Ca"), ("PT-INR", "APTT"), ("CEA", "CA19-9"), ("BS", "HbA1c"), ("UN", "Cr", "eGFR"), ("Ca", "IP"), ("Fe", "TIBC"), ("IgG", "IgA", "IgM"),
)  # fmt: skip


def _known(name: str) -> Analyte:
    return next(item for rows in PANELS.values() for row in rows for item in row if item.name == name)


def slash_run(rng: random.Random, ctx: Context, day: str = "") -> Part:
    """Na/K/Cl 138/4.2/101 with one unit or none."""
    group = rng.choice(_SLASHES)
    cut = rng.choice(("/", "/", "/", "/", " / ", "・", "-", ",", "／"))
    if cut in ",-" and any(c in "".join(group) for c in ",-"):
        cut = "/"
    values = [number(rng, _known(n)).replace("万", "").replace("千", "").replace(",", "") for n in group]
    unit = ""
    if (
        rng.random() < 0.3
        and group[0] in ("AST", "GOT", "Na", "LDL", "BUN", "T-Bil", "IgG")
        and group != ("UN", "Cr", "eGFR")
    ):
        unit = rng.choice(_known(group[0]).units)
    head = cut.join(group)
    flags = [rng.choice(("H", "L", "↑", "↓")) if rng.random() < 0.08 else "" for _ in group]
    middle = rng.choice((" ", "：", ": ", "　", "=", ":", " = ", ""))
    if group[-1][-1].isdigit() or group[-1] in ("eGFR",):
        middle = middle or " "
    back = "/" if cut in ",・" else cut
    text = (
        head
        + middle
        + back.join(v + f for v, f in zip(values, flags, strict=True))
        + ((" " if flags[-1].isalpha() else rng.choice(("", " "))) + unit if unit else "")
    )
    return text, [lab(Result(n, v, unit, f), day) for n, v, f in zip(group, values, flags, strict=True)]


def slashes(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    between = rng.choice(("、", ", ", " ", "　", "; "))
    lines: list[Line] = []
    used: set[str] = set()
    for _ in range(rng.randint(1, 3)):
        parts: list[Part] = []
        for _ in range(rng.randint(1, 5)):
            part = (
                slash_run(rng, ctx) if rng.random() < 0.6 else laid_out(rng, ctx, result(rng, analyte(rng, names), 0.1))
            )
            tests = {row_of(fact.fields[Field.NAME]) for fact in part[1]}
            if not tests & used:
                parts.append(part)
                used |= tests
        if parts:
            lines.append(put(joined(parts, between)))
    lines[0].text = _soap(rng, ctx) + lines[0].text
    lines, _ = opened(rng, ctx, strewn(rng, ctx, lines))
    return restyle(rng, ctx, lines)


def clear(form: str) -> str:
    """A date pattern that cannot be taken for a value beside it."""
    return "{m}/{d}" if form in ("{m}.{d}", "{m}-{d}", "{y}年") else form


def differential(rng: random.Random, ctx: Context) -> Part:
    """White cells with their fractions in brackets: WBC 8900(Neu 78.2, Ly 12.0)."""
    value = f"{rng.randint(18, 210) * 100}"
    rows = [rng.choice(row) for row in PANELS["cbc"] if row[0].name in ("Neut", "Lymph", "Eos", "Mono", "芽球")]
    kept = rows[: rng.randint(1, 4)]
    unit = rng.choice(("", "%", "％", " %"))
    sep = rng.choice((" ", "", "：", ":"))
    inner = [(n.name + sep + v + unit, [lab(Result(n.name, v, unit.strip()))]) for n in kept for v in (number(rng, n),)]
    text, facts = joined(inner, rng.choice((", ", "、", " ", "/")))
    name, count = rng.choice(("WBC", "WBC", "白血球")), rng.choice(("", "/μL", "/uL"))
    shape = rng.choice(("{}({})", "{}（{}）", "{} ({})", "{} [{}]"))
    return shape.format(f"{name} {value}{count}", text), [lab(Result(name, value, count)), *facts]


def glucose_day(rng: random.Random, ctx: Context) -> Part:
    """Blood sugar of one day: BS 142-188-160-133 or 血糖 朝142 昼188 夕160; the name stands once."""
    name = rng.choice(("BS", "血糖", "血糖値", "DEX", "BG", "Glu", "血糖測定"))
    values = [str(rng.randint(58, 380)) for _ in range(rng.randint(2, 4))]
    when = rng.choice((("朝", "昼", "夕", "眠前"), ("朝前", "昼前", "夕前", "眠前"), ("7時", "11時", "17時", "21時")))
    if rng.random() < 0.5:
        text = name + rng.choice((" ", "：", "(朝/昼/夕/眠前) "))
        text += rng.choice(("-", "/", "→", " - ")).join(values)
        return text, [lab(Result(name, v)) for v in values]
    body = rng.choice(("、", " ", "　", "/")).join(w + v for w, v in zip(when, values, strict=False))
    return name + rng.choice((" ", "：", ": ")) + body, [lab(Result(name, v)) for v in values]


def changing(rng: random.Random, names: Names, ctx: Context) -> Part:
    """One test twice or more: 前回 in brackets, or a row of arrows; undated values have no date."""
    item = analyte(rng, names)
    unit = rng.choice(item.units) if item.units and rng.random() < 0.55 else ""
    if unit and unit[0] in "0123456789xK":
        unit = ""
    count = 2 if rng.random() < 0.75 else rng.randint(3, 5)
    values = [number(rng, item) for _ in range(count)]
    form = clear(day_form(rng, ctx, 0.25))
    days = sorted((past(rng, ctx, 0.1) for _ in range(count)), reverse=True)
    shown = [written(form, d) for d in days]
    sep = rng.choice((" ", "：", ":", "　", "は" if not item.name.isascii() else " ", "= "))

    def fact(k: int, day: str = "", with_unit: bool = True, mark: str = "") -> Fact:
        return lab(Result(item.name, values[k], unit if with_unit else "", mark), day)

    if rng.random() < 0.08:
        back = rng.choice(("←", " ← ", "⇐", "<-"))
        return item.name + sep.replace("は", " ") + values[0] + back + values[1], [
            fact(0, "", False),
            fact(1, "", False),
        ]
    if rng.random() < 0.45:
        mark = flag(rng, 0.2) if rng.random() < 0.5 else ""
        now = values[0] + unit + (" " + mark if mark else "")
        both = rng.random() < 0.5
        old = values[1] + (unit if both else "")
        when = shown[1] if rng.random() < 0.55 else ""
        tail = rng.choice(("（前回 {d} {v}）", "（前回{d} {v}）", "(前回{d}:{v})", "（{d} {v}）", "({d}：{v})", "（前回 {v}：{d}）", "[前回 {d} {v}]", "（{d}は{v}）", "、{d}は{v}", "（{d}時点 {v}）")
                          if when else ("（前回{v}）", "（前回 {v}）", "(前回値{v})", "（前:{v}）", "[前回：{v}]", "（前回は{v}）", "(前回 {v})", "、前回は{v}", "（入院時{v}）", "(1ヶ月前{v})", "（←{v}）", "（前医{v}）", "（前値 {v}）"))  # fmt: skip
        return item.name + sep + now + tail.format(d=when, v=old), [fact(0, "", True, mark), fact(1, when)]
    arrow = rng.choice(("→", "→", " → ", "⇒", " ⇒ ", "->", "→→", " -> ", "➡", "〜>" if rng.random() < 0.05 else "→"))
    order = list(range(count - 1, -1, -1))
    if rng.random() < 0.45:
        cell = rng.choice(("{v}({d})", "{v}（{d}）", "{v} ({d})", "({d}){v}", "{d} {v}", "{d}：{v}"))
        each = unit and rng.random() < 0.6
        row = arrow.join(cell.format(v=values[k] + (unit if each else ""), d=shown[k]) for k in order)
        if unit and not each:
            row += unit if row[-1].isdigit() else " " + unit
        return item.name + sep.replace("は", " ") + row, [fact(k, shown[k]) for k in order]
    each = bool(unit) and rng.random() < 0.3
    row = arrow.join(values[k] + (unit if each else "") for k in order) + (unit if not each else "")
    tail = rng.choice(("", "", "", "と改善", "と上昇", "へ低下", "と推移", "で横ばい", " と増悪傾向", "（改善）"))
    if rng.random() < 0.2 and count == 2:
        row = (
            values[1]
            + (unit if each else "")
            + "から"
            + values[0]
            + unit
            + "に"
            + rng.choice(("低下", "上昇", "改善", "増加"))
        )
        tail = ""
    return item.name + sep + row + tail, [fact(k) for k in order]


def changes(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    bullet = rng.choice(("", "", "・", "- ", "  "))
    lines = []
    for _ in range(rng.randint(1, 4)):
        parts = [changing(rng, names, ctx) for _ in range(rng.choice((1, 1, 1, 2)))]
        if rng.random() < 0.3:
            parts.append(laid_out(rng, ctx, result(rng, analyte(rng, names))))
        lines.append(put(bullet, joined(parts, rng.choice(("、", "　", ", ", "；", "。")))))
    lines[0].text = _soap(rng, ctx) + lines[0].text
    if rng.random() < 0.6:
        title, day = heading(rng, ctx)
        if day:
            lines = [Line(rng.choice(("検査推移", "経過", "データ推移", "【検査値の推移】", "採血フォロー"))), *lines]
        else:
            lines = [Line(title), *lines]
    return restyle(rng, ctx, strewn(rng, ctx, lines))
