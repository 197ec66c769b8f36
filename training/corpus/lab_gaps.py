"""Laboratory results in layouts with gaps: tables with missing cells and comments below them, flags that stand apart
from their values, blood gases under two conditions."""

import random

from training.corpus.core import Context, Line
from training.corpus.lab_lines import clear, laid_out, opened
from training.corpus.lab_values import (
    Part,
    Result,
    day_form,
    joined,
    lab,
    number,
    panel,
    past,
    put,
    restyle,
    result,
    written,
)  # fmt: skip
from training.corpus.names import Names

_MISSING = ("---", "－", "未", "", "-", "--", "―", "ー", "未検", "/", "n.d.", "ND", "（-）", "…", "溶血", "N/A", "*", "なし")
_COMMENTS = (
    "※{d}は溶血あり", "※{d}は他院データ", "注）{n}は月1回測定", "（{n}は外注）", "※ － は未測定", "{d}は食後採血", "未＝未検", "*{d} 輸血後", "{n}は次回測定予定", "（{d}は前医）",
    "→{n}上昇傾向、再検", "※空欄は未測定", "{d}より内服開始", "他は正常範囲", "{n}は測定せず", "{d} 夜間救急にて",
)  # fmt: skip


def gappy_table(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Dates in the head line, many cells missing, and results of one day in a comment under the table."""
    form = day_form(rng, ctx, 0.1)
    days = sorted({past(rng, ctx, 0.2) for _ in range(rng.choice((2, 3, 3, 4, 5)))})
    shown = list(dict.fromkeys(written(form, d) for d in days))
    between = rng.choice(("\t", "\t", "  ", " | ", "|", "　", "   ", " / "))
    blank = between in ("\t", "|", " | ") or rng.random() < 0.3
    padded = between in ("  ", "   ") and rng.random() < 0.6
    share = rng.choice((0.15, 0.3, 0.5))
    gap = rng.choice([g for g in _MISSING if (g or blank or padded) and g != between.strip()])
    mixed = rng.random() < 0.3
    items = panel(rng, names, 3, 10)
    units = rng.choice((0, 0, 1))

    def row(cells: list[str]) -> str:
        if padded:
            return "".join(c.ljust(12 if at == 0 else 10) for at, c in enumerate(cells)).rstrip()
        if between == "|":
            return "|" + "|".join(cells) + "|"
        return between.join(cells).rstrip(" \u3000") if between != "\t" else "\t".join(cells)

    lines = [Line(row([rng.choice(("", "項目", "検査", "　", "日付")), *shown]))]
    flags = rng.choice((0.0, 0.0, 0.2))
    apart = rng.choice((" ", "", " ", "(")) if between != "　" else ""
    for item in items:
        unit = rng.choice(item.units) if units and item.units else ""
        label = item.name + (rng.choice(("({})", "（{}）", "[{}]")).format(unit) if unit else "")
        cells, facts = [label], []
        for day in shown:
            if rng.random() < share:
                other = rng.choice([g for g in _MISSING if (g or blank or padded) and g != between.strip()])
                cells.append(other if mixed else gap)
                continue
            value = number(rng, item).replace(",", "")
            mark = rng.choice(("H", "L", "↑", "↓")) if rng.random() < flags else ""
            cells.append(value + ((f"({mark})" if apart == "(" else apart + mark) if mark else ""))
            facts.append(lab(Result(item.name, value, unit, mark), day))
        lines.append(Line(row(cells), facts))
    lines = [line for line in lines if line.text.strip()]
    for _ in range(rng.choice((0, 1, 1, 2))):
        lines.append(_comment(rng, names, shown, {item.name for item in items}))
    if rng.random() < 0.5:
        titles = ("【検査データ推移】", "検査（推移）", "■採血", "＜経過表＞", "O) 採血推移", "Labo", "検査値の推移", "#Labs")
        lines.insert(0, Line(rng.choice(titles)))
    return restyle(rng, ctx, lines)


def _comment(rng: random.Random, names: Names, shown: list[str], used: set[str]) -> Line:
    """A line under the table: results of one of its days, or a remark."""
    items = [item for item in panel(rng, names, 1, 3, rng.choice(("", "renal", "immune", "coag"))) if item.name not in used]
    if rng.random() < 0.35 or not items:
        name = rng.choice(sorted(used))
        return Line(rng.choice(_COMMENTS).format(d=rng.choice(shown), n=name))
    day = rng.choice(shown)
    sep = rng.choice((" ", " ", "：", ""))
    parts: list[Part] = []
    for item in items[: rng.choice((1, 1, 2, 3))]:
        value = number(rng, item)
        gap = sep or (" " if item.name[-1] in "0123456789-+)" else "")
        parts.append((item.name + gap + value, [lab(Result(item.name, value), day)]))
    text, facts = joined(parts, rng.choice(("、", " ", ", ")))
    frame = rng.choice(
        ("{d}のみ：{t}", "※{d}のみ {t}", "（{d}のみ）{t}", "{d}追加：{t}", "*{d}：{t}", "{d}に測定：{t}", "{t}（{d}のみ）", "※ {d} {t}", "その他 {d} {t}", "注) {d}は{t}も測定", "欄外：{d} {t}")
    )  # fmt: skip
    return Line(frame.format(d=day, t=text), facts)


def flags_apart(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """H and L in a column or a blank of their own: Na 132 L  K 5.4 H; the letters are flags, never tests."""
    share = rng.choice((0.3, 0.5, 0.8))
    high, low = rng.choice((("H", "L"), ("H", "L"), ("H", "L"), ("(H)", "(L)"), ("＊H", "＊L"), ("↑", "↓"), ("高", "低")))
    form = rng.choice(("row", "row", "lines", "before", "dated"))
    items = panel(rng, names, 3, 9)
    if form == "dated":
        return _dated_flags(rng, names, ctx)
    between = rng.choice((" ", "  ", "　", ", ", "、", " / ", "; "))
    parts: list[Part] = []
    for item in items:
        value = number(rng, item)
        mark = rng.choice((high, low)) if rng.random() < share else ""
        flag = mark.strip("()＊")
        unit = rng.choice(item.units) if item.units and form == "lines" and rng.random() < 0.6 else ""
        gap = rng.choice((" ", "  ", "\t")) if form == "lines" else " "
        cells = [item.name, value]
        if form == "before":
            cells = [item.name, mark, value]
        elif mark:
            cells.append(mark)
        if unit:
            cells.insert(2 if rng.random() < 0.5 else len(cells), unit)
        parts.append((gap.join(c for c in cells if c), [lab(Result(item.name, value, unit, flag))]))
    if form == "lines":
        lines = [put(part) for part in parts]
    else:
        wrap = rng.choice((4, 6, 20))
        lines = [put(joined(parts[at : at + wrap], between)) for at in range(0, len(parts), wrap)]
    lines, _ = opened(rng, ctx, lines)
    return restyle(rng, ctx, lines)


def _dated_flags(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Every date has a column of values and one of flags beside it."""
    form = day_form(rng, ctx)
    days = sorted({past(rng, ctx, 0.2) for _ in range(rng.choice((1, 2, 2, 3)))})
    shown = list(dict.fromkeys(written(form, d) for d in days))
    cut = rng.choice(("\t", "|", " | "))
    word = rng.choice(("", "判定", "H/L", "F"))
    lines = [Line(cut.join([rng.choice(("項目", "", "検査名")), *[c for d in shown for c in (d, word)]]))]
    for item in panel(rng, names, 3, 8):
        cells, facts = [item.name], []
        for day in shown:
            value = number(rng, item).replace(",", "")
            mark = rng.choice(("H", "L")) if rng.random() < 0.35 else ""
            cells += [value, mark]
            facts.append(lab(Result(item.name, value, "", mark), day))
        lines.append(Line(cut.join(cells), facts))
    return restyle(rng, ctx, lines)


_STATES = (
    ("RA", "O2 2L"), ("室内気", "O2 3L経鼻"), ("O2 5Lマスク下", "NPPV装着1時間後"), ("来院時 RA", "酸素4L投与後"), ("リザーバー10L", "挿管後 FiO2 0.6"), ("入院時", "翌朝"), ("FiO2 0.4", "FiO2 0.3"), ("安静時", "労作後"),
    ("HFNC 40L FiO2 0.5", "HFNC 30L FiO2 0.35"), ("nasal 2L", "RA"), ("NPPV S/T IPAP 10 EPAP 4", "離脱後"), ("O2 1L", "O2 3L"), ("透析前", "透析後"), ("動脈血", "静脈血"), ("SIMV PS10 PEEP5", "抜管後 O2 3L"),
)  # fmt: skip


def gas_states(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Blood gas under the condition of oxygen, once or before and after."""
    form = clear(day_form(rng, ctx, 0.0))
    day = written(form, past(rng, ctx, 0.3)) if rng.random() < 0.3 else ""
    states = rng.choice(_STATES)[: rng.choice((1, 2, 2))]
    items = {item.name: item for item in panel(rng, names, 3, 7, "gas")}
    bodies: list[Part] = []
    frame = rng.choice(("{s}：{b}", "（{s}）{b}", "({s}) {b}", "{b}（{s}）", "{b} ({s})", "{s} {b}", "[{s}] {b}"))
    for state in states:
        parts = [laid_out(rng, ctx, result(rng, item, 0.06), day) for item in items.values()]
        text, facts = joined(parts, rng.choice((" ", "、", ", ")))
        bodies.append((frame.format(s=state, b=text), facts))
    title = rng.choice(("血ガス", "ABG", "動脈血ガス", "BGA", "血液ガス", "動脈血液ガス分析", "A-gas", "VBG"))
    head = title + (rng.choice(("（{}）", " {}", "({})")).format(day) if day else "")
    if len(bodies) == 1 or rng.random() < 0.4:
        lines = [put(head + rng.choice((" ", "：", "　")), joined(bodies, rng.choice((" → ", "→", "。", "；", "　"))))]
    else:
        lines = [Line(head), *[put(rng.choice(("　", "・", "")), body) for body in bodies]]
    return restyle(rng, ctx, lines)

