"""Laboratory results in columns: one or several dates in the head line, a unit column, reference ranges, date rows."""

import random

from schemas.statement import Field
from training.corpus.core import Context, Fact, Line
from training.corpus.lab_values import (
    Result,
    compared,
    day_form,
    decoy,
    flag,
    lab,
    number,
    panel,
    past,
    put,
    restyle,
    written,
)  # fmt: skip
from training.corpus.names import Names

_EMPTY = ("-", "-", "未検", "", "―", "/", "N/A", "…", "ー", "測定なし", "*")
_HEADS = ("", "", "項目", "検査項目", "　", "日付", "検査", "Date", "採血日", "date", "検査日", "項目名")
_TITLES = (
    "【検査】", "検査データ", "＜血液検査＞", "■検査値推移", "検査結果推移", "Labo", "[Lab data]", "・採血",
    "◎検査所見", "血液検査", "# データ", "【血液検査結果】", "O) 採血",
    "時系列", "経時変化", "【Labo data】", "検査経過", "主な検査値", "*Data*", "〈検査成績〉", "1) 検査",
)  # fmt: skip


def _columns(rng: random.Random) -> str:
    return rng.choice(("  ", "  ", "   ", "\t", "　", "　　", " ", " | ", "|", ", ", " / ", "    "))


def _mark(rng: random.Random, share: float) -> tuple[str, str]:
    """A flag and how it is joined to its value."""
    drawn = flag(rng, share)
    if drawn in ("高", "低", "高値", "低値", "h", "l"):
        drawn = "H" if drawn in ("高", "高値", "h") else "L"
    return drawn, rng.choice((" {}", " {}", "{}", "({})", "({})")).format(drawn) if drawn else ""


def dated_table(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """A head line with 1–4 dates, a row for each test."""
    count = rng.choice((1, 2, 2, 3, 3, 4))
    form = day_form(rng, ctx, 0.12)
    days = sorted({past(rng, ctx, 0.3 if n == 0 else 0.05) for n in range(count)}, reverse=rng.random() < 0.3)
    shown = list(dict.fromkeys(written(form, d) for d in days))
    between = _columns(rng)
    pad = rng.random() < 0.35 and between.isspace()
    pipe = between.strip() == "|" and rng.random() < 0.5
    unit_at = rng.choice(("none", "none", "none", "name", "name", "cell", "last", "column"))
    head_name = rng.choice(_HEADS)
    undated = rng.random() < 0.07
    heads = ["前回", "今回"][-len(shown) :] if undated and len(shown) <= 2 else shown
    undated = heads is not shown
    weekday = rng.choice("月火水木金") if rng.random() < 0.05 and not undated else ""
    cells = [d + (f"({weekday})" if weekday else "") for d in heads]
    head = [
        head_name,
        *(["単位"] if unit_at == "column" else []),
        *cells,
        *(["単位"] if unit_at == "last" and rng.random() < 0.5 else []),
    ]
    if between == " " and any(" " in cell for cell in cells):
        between = "  "
    lines = [Line(_row(head, between, pad, pipe))]
    if pipe and rng.random() < 0.7:
        lines.append(Line("|" + "---|" * len(head)))
    share = rng.choice((0.0, 0.0, 0.15, 0.3))
    empty = rng.choice((0.0, 0.05, 0.2)) if len(shown) > 1 else 0.03
    for item in panel(rng, names, 2, 11):
        unit = rng.choice(item.units) if item.units else ""
        if unit_at == "none":
            unit = ""
        name = item.name
        label = name + (
            rng.choice(("({})", "（{}）", " ({})", "[{}]")).format(unit) if unit and unit_at == "name" else ""
        )
        texts, facts = [], []
        for day in heads:
            if rng.random() < empty:
                gap = rng.choice(_EMPTY)
                texts.append(gap or ("-" if not between.strip() and between != "\t" else ""))
                continue
            value = compared(rng, number(rng, item), 0.03).replace("< ", "<").replace("> ", ">")
            if "," in between:
                value = value.replace(",", "")
            drawn, joint = _mark(rng, share)
            own = unit if unit_at == "cell" and not (unit and unit[0] in "0123456789xK") else ""
            if own and joint == drawn and drawn.isalpha():
                joint = " " + drawn
            texts.append(value + own + joint)
            written_unit = own if unit_at == "cell" else unit
            facts.append(lab(Result(name, value, written_unit, drawn), "" if undated else day))
        row = [
            label,
            *([unit or "-"] if unit_at == "column" else []),
            *texts,
            *([unit] if unit_at == "last" and unit else []),
        ]
        lines.append(Line(_row(row, between, pad, pipe), facts))
    if rng.random() < 0.12:
        lines.append(
            Line(
                _row(
                    [rng.choice(("BP", "BT", "体重", "HR")), *[str(rng.randint(40, 120)) for _ in shown]],
                    between,
                    pad,
                    pipe,
                )
            )
        )
    if rng.random() < 0.65:
        lines.insert(0, Line(rng.choice(_TITLES)))
    return restyle(rng, ctx, lines)


def _row(cells: list[str], between: str, pad: bool, pipe: bool) -> str:
    if pipe:
        return "| " + " | ".join(cells) + " |"
    if pad:
        wide = 9 if all(len(cell) < 8 for cell in cells[1:]) else 13
        return "".join(cell.ljust(wide) if n else cell.ljust(10) for n, cell in enumerate(cells)).rstrip()
    return between.join(cells)


def report(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """A printout pasted into the note: name, value, flag, unit, reference range in any order of columns."""
    between = rng.choice(("\t", "  ", "　", " ", ", ", " | ", "   "))
    order = rng.choice(("nvufr", "nvfur", "nvur", "nvfru", "nvfr", "nuvfr", "nvuf", "fnvur", "nvr", "nvfu"))
    words = {
        "n": ("項目", "検査項目", "検査名"),
        "v": ("結果", "結果値", "測定値"),
        "u": ("単位",),
        "f": ("判定", "H/L", "異常", "フラグ"),
        "r": ("基準値", "基準範囲", "参考値", "正常値"),
    }
    day = written(day_form(rng, ctx), past(rng, ctx)) if rng.random() < 0.5 else ""
    lines = []
    if day:
        lines.append(
            Line(
                rng.choice(
                    (
                        "採取日：{}",
                        "採血日 {}",
                        "検体採取日:{} 07:30",
                        "【検査 {}】",
                        "検査日 {}",
                        "{} 検査結果",
                        "■{}",
                        "採取日時：{} 06:15",
                        "{}",
                    )
                ).format(day)
            )
        )
    elif rng.random() < 0.5:
        lines.append(Line(rng.choice(_TITLES)))
    if rng.random() < 0.45:
        lines.append(Line(between.join(rng.choice(words[key]) for key in order)))
    dash = rng.choice(("-", "-", "～", "〜", " - "))
    wrap = rng.choice(("({})", "{}", "{}", "[{}]", "（{}）"))
    marks = rng.choice((("H",), ("H",), ("↑",), ("HH", "H")))
    for item in panel(rng, names, 3, 11):
        unit = rng.choice(item.units) if item.units else ""
        value = compared(rng, number(rng, item), 0.04)
        if "," in between:
            value = value.replace(",", "")
        middle = item.low + (item.high - item.low) / 3
        plain = value.replace(",", "")
        over = plain.replace(".", "", 1).isdigit() and float(plain) > middle
        drawn = (
            rng.choice(marks) if over and rng.random() < 0.9 else rng.choice(("L", "↓")) if rng.random() < 0.06 else ""
        )
        span = (
            f"{item.low:g}{dash}{middle:.{max(0, item.decimals)}f}"
            if rng.random() < 0.85
            else f"{middle:.{max(0, item.decimals)}f}{rng.choice(('以下', '未満'))}"
        )
        cell = {"n": item.name, "v": value, "u": unit, "f": drawn, "r": wrap.format(span)}
        fact = lab(Result(item.name, value, unit if "u" in order else "", drawn if "f" in order else ""), day)
        kept = [cell[key] for key in order if cell[key] or between in ("\t", ", ", " | ")]
        lines.append(Line(between.join(kept).strip(), [fact]))
    return restyle(rng, ctx, lines)


def date_rows(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """A line for each day: 9/1 WBC 7200 CRP 0.3; the tests are named in every line."""
    items = panel(rng, names, 1, 6)
    form = day_form(rng, ctx, 0.1)
    between = rng.choice((" ", "、", ", ", "　", "  ", " / "))
    sep = rng.choice((" ", " ", "：", ":", "　", "="))
    after = rng.choice((" ", "：", ": ", "　", ") ", " → ", "\t", "採血 ", " 採血："))
    before = rng.choice(("", "", "", "・", "- ", "(", "#"))
    if before == "(":
        after = ") "
    with_unit = rng.random() < 0.25
    lines: list[Line] = []
    days = sorted({past(rng, ctx, 0.15) for _ in range(rng.randint(1, 4))}, reverse=rng.random() < 0.3)
    relative = rng.random() < 0.15
    for number_of_day, day in enumerate(days):
        shown = written(form, day)
        label = (
            rng.choice(("POD{}", "第{}病日", "入院{}日目", "術後{}日", "Day{}")).format(number_of_day + 1)
            if relative
            else shown
        )
        texts, facts = [], []
        for item in items:
            if len(items) > 1 and rng.random() < 0.15:
                continue
            unit = rng.choice(item.units) if with_unit and item.units else ""
            if unit[:1] in tuple("0123456789xK"):
                unit = ""
            drawn, joint = _mark(rng, 0.08)
            value = compared(rng, number(rng, item), 0.03)
            if unit and joint == drawn and drawn.isalpha():
                joint = " " + drawn
            texts.append(item.name + sep + value + unit + joint)
            facts.append(lab(Result(item.name, value, unit, drawn), "" if relative else shown))
        if not texts:
            continue
        tail = rng.choice(("、", " ", "、", "　")) + decoy(rng, ctx) if rng.random() < 0.2 else ""
        lines.append(Line((before + label + after + between.join(texts) + tail).strip(), facts))
    if rng.random() < 0.5:
        lines.insert(0, Line(rng.choice(_TITLES)))
    return restyle(rng, ctx, lines)


def paired_row(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Dates named once in a heading (9/1→9/8), each test as an arrow row below it."""
    form = day_form(rng, ctx)
    days = sorted({past(rng, ctx, 0.2) for _ in range(rng.choice((2, 2, 3)))})
    shown = [written(form, d) for d in days]
    if len(set(shown)) != len(shown):
        return dated_table(rng, names, ctx)
    arrow = rng.choice(("→", " → ", "⇒", "/", " / ", "->"))
    title = rng.choice(
        ("検査（{}）", "【検査値推移 {}】", "採血({})", "{} の推移", "Labo {}", "■{}", "データ：{}")
    ).format(arrow.join(shown) if arrow.strip() != "/" else "→".join(shown))
    lines = [Line(title)]
    for item in panel(rng, names, 2, 7):
        unit = rng.choice(item.units) if item.units and rng.random() < 0.3 else ""
        values = [number(rng, item) for _ in days]
        facts: list[Fact] = [lab(Result(item.name, v, unit), d) for v, d in zip(values, shown, strict=True)]
        lines.append(
            put(
                (
                    item.name + rng.choice((" ", "：", "　", ": ")) + arrow.join(values) + (" " + unit if unit else ""),
                    facts,
                )
            )
        )
    for line in lines:
        line.facts = [fact for fact in line.facts if fact.fields.get(Field.VALUE)]
    return restyle(rng, ctx, lines)
