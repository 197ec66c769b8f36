"""Section writers of laboratory results: prose, gas, urine, tests of yes or no, and what states nothing.

Lines are in `lab_lines`, columns in `lab_tables`."""

import random

from training.corpus import lab_shared
from training.corpus.core import Context, Fact, Line, Writer
from training.corpus.lab_gaps import flags_apart, gappy_table, gas_states
from training.corpus.lab_lines import (
    changes,
    changing,
    clear,
    differential,
    glucose_day,
    heading,
    laid_out,
    many_on_a_line,
    nothing,
    one_a_line,
    opened,
    slash_run,
    slashes,
    strewn,
)
from training.corpus.lab_marks import (  # fmt: skip
    POSNEG,
    blood_group,
    urine_run,
    yes_no,
)
from training.corpus.lab_scores import beside_scores, reason, score, scores
from training.corpus.lab_tables import date_rows, dated_table, paired_row, report
from training.corpus.lab_values import (
    Part,
    Result,
    analyte,
    compared,
    day_form,
    day_text,
    decoy,
    flag,
    joined,
    lab,
    named,
    number,
    panel,
    past,
    put,
    restyle,
    result,
    written,
)  # fmt: skip
from training.corpus.names import Names

# {a} {b} {c} results laid out; {v} a bare name with value; {d} a date; {x} a decoy; {n} no result
_SENTENCES = (
    "採血で{a}", "採血では{a}、{b}", "採血上{a}、{b}と炎症反応上昇あり", "本日の採血で{a}、{b}。",
    "血液検査にて{a}、{b}、{c}を認めた。", "{a}と上昇を認める。", "{a}と改善傾向。",
    "{a}まで低下しており輸血を検討。", "{a}とやや高め。", "検査では{a}, {b}であった。", "{a}、{b}と正常化。",
    "{a}と横ばい。", "データ上は{a}、{b}と悪化なし。", "外来採血にて{a}であり紹介となった。",
    "前医採血で{a}、{b}を指摘され受診。", "健診で{a}を指摘。", "入院時{a}、{b}。", "来院時の採血で{a}。{x}。",
    "{x}、{a}、{b}。", "{x}。採血：{a}、{b}。", "{a}、{b}だが{n}。", "{n}。{a}のみ軽度異常。",
    "{a}と良好、現行治療継続。", "{a}のため入院。", "{a}であり脱水が疑われる。", "本日{a}。次回も採血予定。",
    "{a}と再上昇しておりCT予定。", "#腎機能障害 {a}、{b}", "DM：{a}とコントロール不良", "貧血：{a} 鉄剤継続", "→{a}",
    "P) {a}のため内服継続、{b}は経過観察", "A) {a}、{b}と炎症反応は改善。",
    "S) 先日の採血が気になる。O) {a}、{b}。{x}。", "{a}であったが自覚症状なし。", "{d}の採血で{a}、{b}。",
    "{d}　{a}、{b}と低下。", "{d}に{a}まで上昇。", "{d}近医で{a}。", "{d}健診で{a}、{b}を指摘され当院紹介。",
    "{d}時点で{a}であった。", "入院後、{d}の採血で{a}と上昇し抗菌薬変更。", "{a}（{d}）と腎機能は安定。",
    "直近は{a}（{d}）。", "{a}, {b} ({d})", "{d}当院採血：{a}、{b}、{c}", "最終検査は{d}、{a}。",
    "{d}施行の血液検査では{a}、{b}であった。", "訪問時採血にて{a}、{b}。{x}", "体調変わりなし。{x}、採血 {a}。",
    "透析前{a}、{b}", "{a}、{b}、{c}。いずれも前回より改善。", "術後採血 {a} {b} {c}", "ICで{a}と説明。",
    "救急外来で{a}、{b}。{x}。", "{a} だったため家族に説明した。", "貧血の進行（{a}）を認めた。",
    "炎症反応（{a}、{b}）は陰性化していない。", "腎機能低下({a}, {b})あり",
    "肝機能障害（{a}、{b}）を認め、エコー予定。", "高K血症を疑う所見なし({a})。", "目標は{t}未満だが{a}。",
    "{t}を超えたら連絡、本日は{a}。", "{u}、{a}。", "{u}。", "{u}であり尿路感染を疑う。", "尿検査で{u}。採血 {a}。",
    "{n}、{n}。", "{n}。", "本日採血施行、{n}。", "{w}。", "{w}、{a}。", "発熱あり{w}。{x}。", "迅速検査：{w}",
    "{d} {w}。", "{s}、{a}。", "{s}と異常なし。", "採血：{s} {a}", "{r}。", "{r}と推移し、{a}。",
    "本日の検査で{r}。{n}。", "{d}の検査では{s}、{a}。", "{x}、{x}。", "{t}を目標に調整。", "{t}以上で受診指示。",
    "{x}。{t}なら中止。", "{a}を維持、HbA1c 7%未満を目標とする。", "K 5.5以上でカリメート開始。{a}。",
    "{a}にて外来フォロー。", "入院時のLabo：{a}、{b}、{c}、{s}", "血培2セット採取。{a}。", "{g}。{x}。",
    "{g}、インスリン継続。", "採血：{g}、{r}。", "食欲低下あり、{a}と低アルブミン血症。", "検尿 {u} 採血 {a} {b}",
    "BS測定4検、{a}。",
)  # fmt: skip
_MARKED = (
    "{N} {V}{U}と{F}", "採血で{N} {V}{U}と{F}を認めた。", "{N}{V}{U}と{F}あり", "{N}が{V}{U}と{F}",
    "本日の採血で{N}が{V}{U}と{F}。", "{N} {V}{U}（{F}）", "{N}は{V}{U}で{F}",
    "{N} {V}{U}と{F}であり精査目的に紹介。", "{N}は{V}{U}と{F}だった。{x}。", "健診で{N}{F}（{V}{U}）を指摘。",
    "{N} {F} ({V}{U})", "{F}の{N}（{V}{U}）",
)  # fmt: skip
_PLAIN = (
    "{N}は{V}{U}まで低下し", "{N}は{V}{U}に上昇した。", "{N}は{V}{U}と改善", "{N}が{V}{U}、", "{N}も{V}{U}に低下、",
    "{N}値は{V}{U}であった。", "{N}：{V}{U}と上昇。", "{N}{V}{U}台で推移", "最高{N} {V}{U}まで上昇",
    "{N}は{V}{U}でピークアウト。", "{N}のみ{V}{U}と異常。", "{N}={V}{U}だった", "{N}：{V}{U}、{x}",
    "{N}については{V}{U}と著変なし。", "{N} {V}{U}に対し補正開始。", "輸血後{N} {V}{U}まで回復。",
    "{N}は{d}に{V}{U}と上昇した。", "{N}は{V}{U}（{d}）と安定。", "{d} {N} {V}{U}であった。", "{N} {V}{U} ({d})、{n}",
    "{d}の{N}は{V}{U}。", "{N}は前回と同じ{V}{U}。", "{N}{V}{U}で目標達成。", "{N} 約{V}{U}",
)  # fmt: skip


def _sentence(rng: random.Random, names: Names, ctx: Context, date: bool = True) -> Part:
    """One sentence; its facts in reading order."""
    roll = rng.random()
    if roll < 0.33:
        return _bare(rng, names, ctx, date)
    template = rng.choice([t for t in _SENTENCES if date or "{d}" not in t])
    return _filled(rng, names, ctx, template)


def _bare(rng: random.Random, names: Names, ctx: Context, date: bool) -> Part:
    """One result worked into the words: Kが5.8と高値."""
    template = rng.choice(_MARKED if rng.random() < 0.5 else [t for t in _PLAIN if date or "{d}" not in t])
    item = analyte(rng, names)
    unit = rng.choice(item.units) if item.units and rng.random() < 0.5 else ""
    value = compared(rng, number(rng, item), 0.02)
    if unit and (unit[0] in "0123456789xK" or not value[-1].isdigit()):
        unit = ""
    mark = rng.choice(("高値", "高値", "高値", "低値", "軽度高値", "著明高値", "異常高値")) if "{F}" in template else ""
    if "（{F}）" in template or "{N}{F}" in template or "{N} {F}" in template or template.startswith("{F}"):
        mark = rng.choice(("高値", "低値"))
    day = day_text(rng, ctx, 0.1) if "{d}" in template else ""
    name = item.name
    if "{N}{V}" in template and name[-1] in "0123456789-":
        template = template.replace("{N}{V}", "{N} {V}")
    text = template.format(N=name, V=value, U=unit, F=mark, d=day, x=decoy(rng, ctx), n=nothing(rng))
    return text, [lab(Result(name, value, unit, mark), day)]


def _filled(rng: random.Random, names: Names, ctx: Context, template: str) -> Part:
    text, facts, rest = "", [], template
    day = day_text(rng, ctx, 0.1, 0.15) if "{d}" in template else ""
    items = iter(panel(rng, names, 4, 7))
    while rest:
        at = rest.find("{")
        if at < 0:
            text += rest
            break
        text, key, rest = text + rest[:at], rest[at + 1], rest[at + 3 :]
        part: Part
        if key in "abc":
            item = next(items, None) or analyte(rng, names)
            part = laid_out(rng, ctx, result(rng, item, 0.08), day)
        elif key == "d":
            part = (day, [])
        elif key == "x":
            part = (decoy(rng, ctx), [])
        elif key == "n":
            part = (nothing(rng), [])
        elif key == "t":
            item = analyte(rng, names)
            part = (f"{item.name} {number(rng, item)}", [])
        elif key == "u":
            part = urine_run(rng, day)
        elif key == "w":
            part = joined(
                [yes_no(rng, n, day) for n in rng.sample(POSNEG, rng.randint(1, 3))], rng.choice(("、", ", ", " "))
            )
        elif key == "g":
            part = rng.choice((glucose_day, differential))(rng, ctx)
        elif key == "s":
            part = slash_run(rng, ctx, day)
        else:
            part = changing(rng, names, ctx)
        text += part[0]
        facts += part[1]
    return text, facts


def prose(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Sentences with results, on one line or several."""
    between = rng.choice(("", "", "。", " ", "\u3000"))
    lines = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        parts = [_sentence(rng, names, ctx) for _ in range(rng.choice((1, 1, 2, 3)))]
        glue = "" if between == "。" else between
        whole = [
            (t if t.endswith(("。", "、")) or glue and rng.random() < 0.3 else t + "。", f) for t, f in parts[:-1]
        ] + parts[-1:]
        lines.append(put(joined(whole, glue)))
    if rng.random() < 0.35:
        lines[0].text = (
            rng.choice(
                ("O) ", "O：", "A) ", "S/O) ", "A/P) ", "・", "# ", "　", "(O)", "P：", "経過：", "現病歴：", "評価）")
            )
            + lines[0].text
        )
    return restyle(rng, ctx, lines)


def blood_gas(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    title = rng.choice(
        (
            "ABG",
            "血ガス",
            "血液ガス",
            "BGA",
            "動脈血ガス",
            "VBG",
            "A-gas",
            "血液ガス分析",
            "ガス",
            "動脈血液ガス分析",
            "BG",
        )
    )
    state = rng.choice(
        (
            "",
            "(RA)",
            "（室内気）",
            "(O2 2L)",
            "（酸素3L/分鼻カニュラ）",
            " room air",
            "(FiO2 0.4)",
            "(NPPV FiO2 0.35)",
            "(リザーバー10L)",
            "（静脈血）",
            "(RM 6L)",
        )
    )
    day = day_text(rng, ctx, 0.2, 0) if rng.random() < 0.25 else ""
    items = panel(rng, names, 3, 9, "gas")
    if rng.random() < 0.3:
        items += panel(rng, names, 1, 3, rng.choice(("renal", "metabolic")))
    unique = list({item.name: item for item in items}.values())
    parts = [laid_out(rng, ctx, result(rng, item, 0.06), day) for item in unique]
    if rng.random() < 0.15:
        parts.insert(
            rng.randint(0, len(parts)), (rng.choice(("P/F 210", "P/F比 286", "A-aDO2 34", "FiO2 0.21", "FiO2 0.5")), [])
        )
    body = joined(parts, rng.choice((" ", ", ", "、", "  ", "　", " / ")))
    head = (f"{day} " if day and rng.random() < 0.5 else "") + title + state
    if day and not head.startswith(day):
        head += rng.choice((f"（{day}）", f" {day}", f"({day})"))
    if rng.random() < 0.25:
        lines = [Line(rng.choice(("【{}】", "[{}]", "{}", "＜{}＞", "■{}")).format(head)), put(body)]
    else:
        lines = [put(head, rng.choice((": ", "：", " ", "；", "　", " : ")), body)]
    return restyle(rng, ctx, lines)


def urine(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    lines = [put(urine_run(rng)) for _ in range(rng.choice((1, 1, 1, 2)))]
    if rng.random() < 0.25:
        lines = [put(line_part) for line_part in [urine_run(rng)]]
    head = rng.choice(
        (
            "尿：",
            "尿検査：",
            "検尿 ",
            "U/A: ",
            "UA：",
            "尿定性：",
            "尿一般 ",
            "検尿：",
            "随時尿 ",
            "尿）",
            "Urine: ",
            "",
            "",
            "【尿検査】",
            "[尿]",
            "尿検 ",
            "・尿検査 ",
            "＜検尿＞ ",
            "尿所見：",
        )
    )
    if rng.random() < 0.3:
        item = panel(rng, names, 1, 2, "urinequant")
        lines.append(put(joined([laid_out(rng, ctx, result(rng, i, 0.05)) for i in item], "、")))
    lines[0].text = head + lines[0].text
    if rng.random() < 0.35:
        lines, _ = opened(rng, ctx, lines, ("尿検査", "検尿", "尿所見", "尿一般検査", "U/A", "尿定性・沈渣"))
    return restyle(rng, ctx, lines)


def qualitative(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Rapid tests, stool blood, blood groups: yes or no, on one line or one a line."""
    chosen = list(dict.fromkeys(named(rng, names, "posneg", POSNEG) for _ in range(rng.randint(1, 5))))
    lines: list[Line]
    if rng.random() < 0.25 and len(chosen) > 1:
        shown = rng.choice(("陰性", "陰性", "陽性", "(-)", "（－）"))
        value = shown.strip("()（）")
        how = rng.choice(("いずれも", "ともに", "すべて", "", "：", " 全て"))
        text = rng.choice(("、", "・", "/", " / ")).join(chosen) + how + shown
        lines = [Line(text, [lab(Result(n, value)) for n in chosen])]
    elif rng.random() < 0.5:
        lines = [put(rng.choice(("", "・", "- ")), yes_no(rng, n)) for n in chosen]
    else:
        lines = [put(joined([yes_no(rng, n) for n in chosen], rng.choice(("、", " ", ", ", "　", " / ", "／"))))]
    if rng.random() < 0.35:
        lines.insert(rng.randint(0, len(lines)), put(blood_group(rng)))
    lines = strewn(rng, ctx, lines, 0.2)
    if rng.random() < 0.6:
        lines, _ = opened(
            rng,
            ctx,
            lines,
            (
                "迅速検査",
                "迅速",
                "検査",
                "抗原検査",
                "便検査",
                "感染症迅速",
                "定性検査",
                "その他検査",
                "鼻咽頭迅速検査",
                "輸血検査",
                "ウイルス検査",
            ),
        )
    return restyle(rng, ctx, lines)


def special(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Tumour markers, drug levels, hormones, antibodies under a heading of their own."""
    key = rng.choice(("tumor", "tumor", "drug", "thyroid", "immune", "urinequant", "cardiac"))
    titles = {"tumor": ("腫瘍マーカー", "TM", "Tumor marker", "マーカー"), "drug": ("血中濃度", "TDM", "薬物血中濃度", "トラフ"), "thyroid": ("甲状腺", "甲状腺機能", "内分泌"), "immune": ("免疫", "自己抗体", "免疫学的検査", "特殊検査"), "urinequant": ("尿生化学", "尿定量"), "cardiac": ("心筋マーカー", "心不全マーカー")}[key]  # fmt: skip
    parts = [laid_out(rng, ctx, result(rng, item, 0.15)) for item in panel(rng, names, 1, 6, key)]
    lines = (
        [put(joined(parts, rng.choice(("、", " ", ", ", "　", "  ", "/ ", "，"))))]
        if rng.random() < 0.65
        else [put(rng.choice(("", "・", "  ")), p) for p in parts]
    )
    if rng.random() < 0.2:
        lines.append(
            Line(
                rng.choice(
                    (
                        "（基準値：CEA 5.0以下、CA19-9 37以下）",
                        "※外注、結果待ちの項目あり",
                        "目標トラフ 15-20",
                        "有効域 10-20",
                        "抗GAD抗体：提出中",
                    )
                )
            )
        )
    lines, _ = opened(rng, ctx, lines, titles)
    return restyle(rng, ctx, lines)


def without_results(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Lines that look like results and state none: plans, targets, normal findings, vital signs, scores."""
    lines = []
    for _ in range(rng.randint(1, 5)):
        item, other = analyte(rng, names), analyte(rng, names)
        value = number(rng, item)
        lines.append(
            Line(
                rng.choice(
                    (
                        nothing(rng), decoy(rng, ctx), "、".join(decoy(rng, ctx) for _ in range(rng.randint(2, 4))), "  ".join(decoy(rng, ctx) for _ in range(2)),
                        f"次回 {item.name}、{other.name}を測定", f"{item.name} {value}以上なら連絡", f"目標{item.name} {value}未満", f"{item.name}<{value}を目標", f"採血予定：{item.name}/{other.name}",
                        f"{item.name}、{other.name}は前回と著変なし", f"{item.name}提出", f"（{item.name} {item.low:g}-{item.high:g}）", f"{item.name}高値を認め紹介", f"{item.name}↑", f"{item.name}上昇傾向、{other.name}低下",
                        "採血：著変なし", "検査：特記すべきことなし", "本日採血なし", "採血は次回", "Labo n.p.", "血液検査 異常なし", f"{item.name}フォロー", f"{item.name}の推移をみる", "血算・生化・凝固提出", f"{item.name}、{other.name}外注結果待ち",
                        f"{item.name}が{value}を超える場合は減量", f"・{item.name}：", f"{item.name}（　　）", f"{rng.randint(1, 12)}ヶ月後に{item.name}再検", "血糖測定 1日4検", "スライディングスケール 200-249 4単位",
                    )
                )
            )
        )  # fmt: skip
    if rng.random() < 0.6:
        lines.insert(0, Line(heading(rng, ctx)[0]))
    if rng.random() < 0.3:
        lines[0].text = rng.choice(("O) ", "O：", "P) ", "P：", "(P) ", "バイタル：", "身体所見：")) + lines[0].text
    return restyle(rng, ctx, lines)


def mixed(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Objective section: vital signs, physical examination, results and imaging in a row."""
    lines = [Line(rng.choice(("、", " ", "　", ", ")).join(decoy(rng, ctx) for _ in range(rng.randint(1, 4))))]
    body = rng.choice((many_on_a_line, slashes, changes, prose, urine))(rng, names, ctx)
    lines += body
    if rng.random() < 0.5:
        lines.append(Line(decoy(rng, ctx)))
    lines[0].text = rng.choice(("O) ", "O：", "(O) ", "", "O: ", "所見 ", "")) + lines[0].text
    return lines


def shared_date(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Several dates on one line, each before its results: 2/1 CRP 8.2、WBC 12000 → 2/4 CRP 1.2."""
    form = clear(day_form(rng, ctx, 0.05))
    items = panel(rng, names, 1, 3)
    parts: list[Part] = []
    sep = rng.choice((" ", "：", " ", "="))
    for day in sorted({past(rng, ctx, 0.2) for _ in range(rng.choice((1, 2, 2, 3)))}):
        shown = written(form, day)
        facts, texts = [], []
        for item in items:
            value = number(rng, item)
            mark = flag(rng, 0.05).replace("高値", "H").replace("低値", "L")
            texts.append(item.name + sep + value + mark)
            facts.append(lab(Result(item.name, value, "", mark), shown))
        inner = rng.choice(("、", " ", ", ")).join(texts)
        parts.append(
            (rng.choice(("{d} {t}", "{d}：{t}", "{d}({t})", "{t}（{d}）", "{d}は{t}")).format(d=shown, t=inner), facts)
        )
    line = put(
        rng.choice(("採血 ", "", "・", "検査：", "")), joined(parts, rng.choice((" → ", "、", "；", "　", " / ", "⇒")))
    )
    return restyle(rng, ctx, [line])


def inline(rng: random.Random, names: Names, ctx: Context) -> tuple[str, list[Fact]]:
    """A short piece with results for use inside another section's sentence, without a full stop."""
    if rng.random() < 0.25:
        text, facts = lab_shared.inline(rng, names, ctx)
        return text.rstrip("。、 \u3000"), facts
    if rng.random() < 0.12:
        return (score(rng, ctx) if rng.random() < 0.6 else reason(rng, names)), []
    roll = rng.random()
    if roll < 0.4:
        text, facts = _bare(rng, names, ctx, rng.random() < 0.4)
    elif roll < 0.6:
        text, facts = joined(
            [laid_out(rng, ctx, result(rng, item, 0.1)) for item in panel(rng, names, 1, 3)],
            rng.choice(("、", ", ", " ")),
        )
    elif roll < 0.72:
        text, facts = changing(rng, names, ctx)
    elif roll < 0.8:
        text, facts = slash_run(rng, ctx)
    elif roll < 0.87:
        text, facts = yes_no(rng, rng.choice(POSNEG))
    else:
        text, facts = _sentence(rng, names, ctx, rng.random() < 0.5)
    return text.rstrip("。、 \u3000"), facts


WRITERS: list[tuple[float, Writer]] = [
    (2.0, one_a_line),
    (3.0, many_on_a_line),
    (1.6, slashes),
    (1.8, changes),
    (3.0, prose),
    (1.8, dated_table),
    (1.2, report),
    (1.0, date_rows),
    (0.4, paired_row),
    (0.6, shared_date),
    (0.8, blood_gas),
    (1.0, urine),
    (1.0, qualitative),
    (0.9, special),
    (1.3, mixed),
    (2.0, without_results),
    (0.9, lab_shared.paired_tests),
    (0.8, lab_shared.load_tests),
    (0.6, lab_shared.specific_ige),
    (0.8, lab_shared.strips),
    (2.0, lab_shared.quoted),
    (1.5, gappy_table),
    (1.2, flags_apart),
    (0.5, gas_states),
    (1.0, scores),
    (2.0, beside_scores),
]
