"""Laboratory results whose name is shared or stands apart from the value: paired rapid tests, load tests, specific IgE,
urine strips in a row, results told by others, series of changes.

The name of a result is the run of text that names it: the first of a pair with what stands right before it
(インフルエンザA), the second as it is written (B); in a load test the time (1時間値) where no analyte heads the row.
"""

# ruff: noqa: E501 (tables of words, one row a line)

import random

from training.corpus.core import Context, Line
from training.corpus.lab_lines import clear, laid_out, opened
from training.corpus.lab_marks import marker, yes_no
from training.corpus.lab_values import (
    PANELS,
    Part,
    Result,
    analyte,
    day_form,
    day_text,
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
from training.corpus.names import Analyte, Names

_COMMAS = ("、", "、", " ", "　", ", ", "・", "/", " / ", "，")


# -- pairs --------------------------------------------------------------------------------------------------------

# head | members: the head is written once
_PAIRS = (
    ("インフルエンザ|インフル|Flu |Flu|インフルエンザウイルス|influenza |Influenza |インフルエンザ抗原 |インフルエンザ迅速 |インフル抗原|インフルエンザ迅速抗原 |ﾌﾙ|イ", ("A", "B")),
    ("インフルエンザ|インフル", ("A型", "B型")),
    ("便潜血|便潜血反応|便ヒトHb|FIT|便潜血検査|便ヘモグロビン", ("1回目", "2回目")),
    ("便潜血|便潜血反応|便潜血 |便潜血2日法 |便潜血（2日法）", ("1日目", "2日目")),
    ("クームス試験|クームス|Coombs |クームステスト", ("直接", "間接")),
    ("抗SS-|抗SS|SS-", ("A抗体", "B抗体")),
    ("HBe|HBe-", ("抗原", "抗体")),
    ("抗カルジオリピン抗体|抗カルジオリピン|aCL ", ("IgG", "IgM")),
    ("マイコプラズマ|マイコプラズマ抗体|クラミジア・ニューモニエ|風疹|麻疹|サイトメガロ|CMV|水痘|ムンプス|トキソプラズマ|パルボB19 ", ("IgG", "IgM")),
    ("抗", ("AChR抗体", "MuSK抗体")),
    ("尿中抗原 |尿中抗原検査 |尿中", ("肺炎球菌", "レジオネラ")),
    ("肺炎球菌・レジオネラ尿中抗原 |細菌尿中抗原 ", ("肺炎球菌", "レジオネラ")),
    ("迅速 |迅速検査 |咽頭迅速 |鼻腔ぬぐい液 ", ("コロナ", "インフルエンザA", "B")),
    ("CD|C.difficile ", ("毒素", "抗原")),
    ("ノロ・ロタ迅速 |便迅速 ", ("ノロ", "ロタ", "アデノ")),
    ("妊娠初期 ", ("風疹HI", "トキソプラズマ", "HTLV-1")),
    ("血液培養|血培|Blood culture ", ("1セット目", "2セット目")),
)  # fmt: skip

# These head a row and are no part of a test's name.
_HEADINGS = {h for heads, _ in _PAIRS for h in heads.split("|") if h.startswith(("迅速", "咽頭", "鼻腔", "尿中抗原", "肺炎球菌・", "細菌", "便迅速", "ノロ", "妊娠"))}


def pair(rng: random.Random, day: str = "") -> Part:
    """インフルエンザA(+)・B(-): a fact for each member; the head belongs to the first name if it stands right before it."""
    heads, members = rng.choice(_PAIRS[:1] * 9 + _PAIRS)
    head = rng.choice(heads.split("|"))
    if rng.random() < 0.12:
        # One value for all: インフルエンザA・Bともに陰性.
        shown = rng.choice(("陰性", "陰性", "陽性", "(-)", "（−）", "(－)"))
        how = rng.choice(("ともに", "とも", "いずれも", "：", " ", "は共に", "両者", "は"))
        if rng.random() < 0.2:
            head = head.strip() + "："
        cut = rng.choice(("・", "/", "、", "／", "，"))
        first = members[0] if head[-1] == "：" or head in _HEADINGS else head + members[0]
        names = [first, *members[1:]]
        text = head + cut.join(members) + how + shown
        return text, [lab(Result(n, shown.strip("()（）")), day) for n in names]
    texts, facts = [], []
    # The head stands off by a sign: then each member names itself.
    apart = head[-1] not in " 抗-中イD" and head not in _HEADINGS and rng.random() < 0.14
    style = rng.choice(("{v}", "{v}", "{v}", " {v}", "：{v}", ":{v}"))
    for at, member in enumerate(members):
        shown, value = marker(rng, 0.25)
        gap = style if shown[0] in "(（" or style != "{v}" else " {v}"
        if "性" in shown and rng.random() < 0.5:
            gap = "{v}"
        name = head + member if at == 0 and not apart and head not in _HEADINGS else member
        texts.append(member + gap.format(v=shown))
        facts.append(lab(Result(name, value), day))
    sep = rng.choice(_COMMAS) if style in ("{v}", " {v}") else rng.choice(("、", " ", "　", ", "))
    if "-" in sep or sep == "・" and any("・" in n for n in members):
        sep = "、"
    return head + (rng.choice(("：", "…", " : ", "→")) if apart else "") + sep.join(texts), facts


def paired_tests(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Rapid tests with a shared name, with others beside them, on a line or several."""
    parts = [pair(rng)]
    for _ in range(rng.choice((0, 0, 1, 2))):
        parts.append(yes_no(rng, rng.choice(("COVID-19抗原", "コロナ抗原", "SARS-CoV-2抗原", "溶連菌迅速", "溶連菌", "RSV", "hMPV", "アデノウイルス", "新型コロナPCR", "マイコプラズマ抗原", "A群溶連菌迅速", "ノロ", "Covid-19", "StrepA", "GAS迅速"))))  # fmt: skip
    if rng.random() < 0.35:
        parts.reverse()
    if rng.random() < 0.3:
        parts += [laid_out(rng, ctx, result(rng, item, 0.1)) for item in panel(rng, names, 1, 3, "cbc")]
    lines = [put(p) for p in parts] if rng.random() < 0.2 else [put(joined(parts, rng.choice(("、", " ", "　", "。", ", "))))]
    if rng.random() < 0.45:
        lines[0].text = rng.choice(("迅速：", "迅速検査 ", "検査：", "O) ", "抗原検査：", "鼻咽頭ぬぐい ", "発熱外来にて ", "来院時迅速 ", "感染症迅速：")) + lines[0].text
    elif rng.random() < 0.4:
        lines, _ = opened(rng, ctx, lines, ("迅速検査", "抗原定性", "感染症迅速", "検査", "Rapid test", "発熱外来検査"))
    return restyle(rng, ctx, lines)


# -- load tests ---------------------------------------------------------------------------------------------------

_TIMES = (
    ("空腹時", "30分", "60分", "120分"), ("前", "30分", "60分", "120分"), ("前値", "1時間値", "2時間値"), ("空腹時", "1時間値", "2時間値"), ("空腹時", "1時間", "2時間"),
    ("負荷前", "30分後", "60分後", "120分後"), ("前", "30分", "60分", "90分", "120分"), ("前", "1h", "2h"), ("空腹時血糖", "1時間値", "2時間値"), ("負荷前", "1時間後", "2時間後"),
    ("空腹時", "2時間値"), ("FBS", "1hr", "2hr"), ("空腹", "60分値", "120分値"), ("空腹時値", "1時間血糖", "2時間血糖"), ("前値", "30分値", "1時間値", "2時間値"), ("前", "30'", "60'", "120'"),
)  # fmt: skip
_LOADS = ("75gOGTT", "75g OGTT", "75gOGTT", "OGTT", "75gブドウ糖負荷試験", "ブドウ糖負荷試験", "糖負荷試験", "75gOGTT（妊娠26週）", "75gOGTT 結果", "75gGTT")  # fmt: skip


def _sugar(rng: random.Random, count: int) -> list[str]:
    first = rng.randint(78, 128)
    return [str(first), *(str(rng.randint(first + 12, 268)) for _ in range(count - 1))]


def _insulin(rng: random.Random, count: int) -> list[str]:
    first = f"{rng.uniform(2, 16):.1f}"
    return [first, *(f"{rng.uniform(12, 128):.1f}" for _ in range(count - 1))]


def load_sentence(rng: random.Random, day: str = "") -> Part:
    """75gOGTT：空腹時92、1時間値188、2時間値156mg/dL; the time is the name."""
    times = rng.choice(_TIMES)
    values = _sugar(rng, len(times))
    unit = rng.choice(("", "", "mg/dL", "mg/dl", " mg/dL"))
    every = bool(unit) and rng.random() < 0.4
    gap = rng.choice((" ", "", "：", " ", ":", "は", "="))
    sep = rng.choice(("、", "、", " ", ", ", "→", " → ", "　", " / ", "-"))
    cells = []
    for at, (time, value) in enumerate(zip(times, values, strict=True)):
        space = gap or (" " if time[-1].isascii() else "")
        if space == "は" and time[-1].isascii():
            space = " "
        cells.append(time + space + value + (unit if every or unit and at == len(times) - 1 else ""))
    head = rng.choice(_LOADS) + rng.choice(("：", " ", ":", "で", "にて", "　", "は", "（{d}） " if day else "、", "で")).format(d=day)
    if day and day not in head:
        head = day + rng.choice((" ", "　", "の", "に施行した")) + head
    tail = rng.choice(("", "", "", "、境界型", "（1点陽性）", "と2点陽性", "で反応遅延あり", "、食後高血糖を認める"))
    facts = [lab(Result(t, v, unit.strip()), day) for t, v in zip(times, values, strict=True)]
    return head + sep.join(cells) + tail, facts


def load_pairs(rng: random.Random, day: str = "") -> Part:
    """血糖/IRI of each time: 前 98/5.2、30分 160/48.1; both values carry the time's name."""
    times = rng.choice(_TIMES[:8])
    sugar, insulin = _sugar(rng, len(times)), _insulin(rng, len(times))
    gap, cut = rng.choice((" ", "：", ":")), rng.choice(("/", "/", " / ", "／"))
    cells = [f"{t}{gap}{s}{cut}{i}" for t, s, i in zip(times, sugar, insulin, strict=True)]
    facts = [lab(Result(t, v), day) for t, s, i in zip(times, sugar, insulin, strict=True) for v in (s, i)]
    title = rng.choice(_LOADS) + rng.choice(("(血糖/IRI)", "（血糖/インスリン）", " PG/IRI", "（BS/IRI）", "(Glu/IRI)"))
    return title + rng.choice((" ", "：", "　")) + rng.choice(("、", " ", ", ", "　")).join(cells), facts


def load_row(rng: random.Random, day: str = "") -> Part:
    """A row headed by its analyte: 血糖 前98 30分165 60分188; the analyte is the name of every value."""
    kind = rng.choice(("sugar", "sugar", "insulin", "hormone"))
    if kind == "hormone":
        name = rng.choice(("コルチゾール", "GH", "ACTH", "LH", "FSH", "PRL", "TSH", "CPR", "PAC", "cortisol", "17-OHP", "アルドステロン"))
        times = rng.choice((("前", "30分", "60分"), ("前", "30分", "60分", "90分", "120分"), ("前値", "頂値"), ("前値", "30分後", "60分後"), ("基礎値", "頂値"), ("前", "15分", "30分", "60分")))
        values = [f"{rng.uniform(0.4, 48):.1f}" for _ in times]
        load = rng.choice(("CRH負荷試験", "迅速ACTH負荷試験", "LH-RH負荷試験", "TRH負荷", "GHRP-2負荷試験", "インスリン低血糖試験", "アルギニン負荷", "カプトプリル負荷試験", "生食負荷試験", "フロセミド立位負荷試験", "DST 1mg", "グルカゴン負荷試験", "四者負荷試験", "", ""))
    else:
        times = rng.choice(_TIMES[:8])
        name = rng.choice(("血糖", "BS", "PG", "Glu", "GLU", "血糖値")) if kind == "sugar" else rng.choice(("IRI", "インスリン", "Insulin", "血中インスリン", "CPR"))
        values = _sugar(rng, len(times)) if kind == "sugar" else _insulin(rng, len(times))
        load = rng.choice(("75gOGTT", "75gOGTT", "OGTT", "", ""))
    gap = rng.choice(("", " ", ":"))
    row = rng.choice((" ", "、", " → ", "→", ", ", "/")).join(f"{t}{gap or (' ' if t[-1].isascii() else '')}{v}" for t, v in zip(times, values, strict=True))
    if rng.random() < 0.3:
        row = rng.choice(("-", "→", "/", " - ")).join(values) + rng.choice(("", "（" + "/".join(times) + "）"))
    unit = {"sugar": "mg/dL", "insulin": "μU/mL", "hormone": ""}[kind] if rng.random() < 0.25 else ""
    if unit and name == "CPR":
        unit = "ng/mL"
    label = name + rng.choice((f"({unit})", f"（{unit}）", f" [{unit}]")) if unit else name
    return (load + rng.choice((" ", "：", "　")) if load else "") + label + rng.choice((" ", "：", "　", ": ")) + row, [lab(Result(name, v, unit), day) for v in values]


def load_tests(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    day = day_text(rng, ctx, 0.2, 0.05) if rng.random() < 0.4 else ""
    roll = rng.random()
    if roll < 0.4:
        lines = [put(load_sentence(rng, day))]
    elif roll < 0.5:
        lines = [put(load_pairs(rng))]
    elif roll < 0.68:
        lines = [put(load_row(rng)) for _ in range(rng.choice((1, 2)))]
    elif roll < 0.84:
        lines = _load_table(rng, day)
    else:
        lines = _load_rows(rng, day)
    if rng.random() < 0.25:
        item, value = rng.choice((("50gGCT", rng.randint(98, 188)), ("GCT", rng.randint(98, 188)), ("50g GCT", rng.randint(98, 188)), ("随時血糖", rng.randint(82, 190)), ("HbA1c", 5.6)))
        lines.insert(0, put((f"{item} {value}", [lab(Result(item, str(value)))])))
    if rng.random() < 0.3:
        lines.append(Line(rng.choice(("インスリン分泌指数 0.38、HOMA-R算出予定", "→境界型、食事指導", "判定：正常型", "判定：GDM（1点陽性）", "Insulinogenic index低値", "悪心なく終了", "※採血は左肘より", "II 0.42"))))
    return restyle(rng, ctx, lines)


def _load_table(rng: random.Random, day: str) -> list[Line]:
    """Times in the head line, a row for each analyte."""
    times = rng.choice(_TIMES[:8])
    between = rng.choice(("\t", "  ", " | ", "　", "|", "   "))
    head = rng.choice(("", "項目", "　", "分")) + between + between.join(times)
    rows: list[tuple[tuple[str, ...], list[str]]] = [(("血糖", "BS", "PG", "血糖(mg/dL)", "Glu"), _sugar(rng, len(times)))]
    if rng.random() < 0.75:
        rows.append((("IRI", "インスリン", "IRI(μU/mL)", "Insulin"), _insulin(rng, len(times))))
    lines = [Line(rng.choice(_LOADS) + (rng.choice(("（{}）", " {}", "({}施行)")).format(day) if day else "")), Line(head)]
    for labels, values in rows:
        label = rng.choice(labels)
        name, _, unit = label.partition("(")
        gone = rng.randrange(1, len(values)) if rng.random() < 0.15 else -1
        cells = [v if at != gone else rng.choice(("-", "未", "---", "溶血")) for at, v in enumerate(values)]
        facts = [lab(Result(name, v, unit.rstrip(")")), day) for at, v in enumerate(values) if at != gone]
        lines.append(Line(label + between + between.join(cells), facts))
    return lines


def _load_rows(rng: random.Random, day: str) -> list[Line]:
    """A line for each time, with glucose alone or glucose and insulin."""
    times = rng.choice(_TIMES)
    sugar, insulin = _sugar(rng, len(times)), _insulin(rng, len(times))
    two = rng.random() < 0.4
    between = rng.choice(("\t", "  ", "　", " | ", " "))
    lines = [Line(rng.choice(_LOADS) + (rng.choice(("（{}）", " {}", "({})")).format(day) if day else ""))]
    if two:
        lines.append(Line(between.join((rng.choice(("時間", "", "採血")), rng.choice(("血糖", "PG", "BS")), rng.choice(("IRI", "インスリン"))))))
    unit = rng.choice(("", "mg/dL", "")) if not two else ""
    for t, s, i in zip(times, sugar, insulin, strict=True):
        values = (s, i) if two else (s,)
        text = rng.choice(("", "・", "　")) + t + between + between.join(values) + (" " + unit if unit else "")
        lines.append(Line(text.strip("\u3000 "), [lab(Result(t, v, unit), day) for v in values]))
    return lines


# -- specific IgE -------------------------------------------------------------------------------------------------

_ALLERGENS = (
    "スギ ヒノキ ダニ ヤケヒョウヒダニ コナヒョウヒダニ ハウスダスト HD ハウスダスト1 カモガヤ オオアワガエリ ブタクサ ヨモギ ハンノキ シラカンバ ネコ ネコ皮屑 イヌ イヌ皮屑 アスペルギルス アルテルナリア カンジダ ゴキブリ ガ ユスリカ 卵白 卵黄 "
    "オボムコイド 牛乳 カゼイン 小麦 ω-5グリアジン グルテン ソバ そば ピーナッツ Arah2 クルミ カシューナッツ アーモンド エビ カニ サバ サケ マグロ 大豆 ゴマ キウイ バナナ リンゴ モモ Glym4 イクラ 米 ラテックス ハチ毒 スズメバチ アシナガバチ アニサキス マラセチア α-Gal 牛肉 豚肉 タラ イカ"
).split()


def ige_run(rng: random.Random, day: str = "") -> Part:
    """スギ クラス4、ダニ クラス0: the allergen is the name, the class the value; with a quantity, that is the value."""
    chosen = rng.sample(_ALLERGENS, rng.choice((1, 2, 2, 3, 4, 5, 7)))
    shape = rng.choice(("{n} クラス{c}", "{n}クラス{c}", "{n}：クラス{c}", "{n} class {c}", "{n}(クラス{c})", "{n}（クラス{c}）", "{n} class{c}", "{n} Class {c}", "{n}: class {c}", "{n} {c}", "{n}({c})", "{n}（{c}）", "{n} {q} UA/mL", "{n} {q}UA/mL（クラス{c}）", "{n} {q}", "{n}：{q} (class {c})", "{n} スコア{c}", "{n} {c}+"))
    parts: list[Part] = []
    for name in chosen:
        c = str(rng.choice((0, 0, 1, 2, 3, 4, 5, 6)))
        q = rng.choice(("<0.10", f"{rng.uniform(0.1, 9):.2f}", f"{rng.uniform(10, 99):.1f}", ">100"))
        # A run of katakana is never divided, so クラス stands off a name that ends in katakana.
        form = shape.replace("{n}クラス", "{n} クラス") if "ァ" <= name[-1] <= "ー" else shape
        text = form.format(n=name, c=c, q=q)
        if "{q}" in shape:
            value, unit = q, "UA/mL" if "UA" in shape else ""
        else:
            value, unit = text[len(name) :].strip("：:()（） ").removeprefix("("), ""
            value = value.rstrip(")）")
        parts.append((text, [lab(Result(name, value, unit), day)]))
    return joined(parts, rng.choice(("、", "、", ", ", " ", "　", " / ", "，")) if "(" not in shape else rng.choice(("、", ", ", "　")))


def specific_ige(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    head = rng.choice(("特異的IgE：", "特異的IgE ", "特異的IgE抗体：", "RAST：", "RAST ", "View39：", "MAST36：", "IgE-RAST ", "抗原特異的IgE：", "アレルギー検査：", "sIgE ", "血液検査（特異的IgE）：", "採血：", "吸入系アレルゲン ", "食物アレルゲン：", "特異的IgE抗体検査では", ""))
    parts: list[Part] = []
    if rng.random() < 0.45:
        value = rng.choice((str(rng.randint(12, 980)), f"{rng.randint(1000, 9800):,}"))
        name, unit = rng.choice(("総IgE", "非特異的IgE", "IgE", "IgE(RIST)", "血清総IgE", "total IgE")), rng.choice(("IU/mL", "", "IU/ml", "U/mL"))
        parts.append((f"{name} {value}{' ' if rng.random() < 0.6 else ''}{unit}".strip(), [lab(Result(name, value, unit))]))
        if rng.random() < 0.4:
            parts.append(laid_out(rng, ctx, result(rng, next(i for row in PANELS["cbc"] for i in row if i.name == "好酸球"), 0.1)))
    if rng.random() < 0.3:
        lines = [put(joined([*parts], "、"))] if parts else []
        lines += [put(rng.choice(("・", "　", "")), ige_run(rng)) for _ in range(rng.choice((1, 2, 3)))]
        lines = [line for line in lines if line.text.strip()]
        lines, _ = opened(rng, ctx, lines, ("アレルギー検査", "特異的IgE", "RAST", "View39", "IgE", "アレルゲン検査"))
    else:
        lines = [put(joined([*parts, put_head(head, ige_run(rng))], rng.choice(("、", " ", "。", "　"))))]
    if rng.random() < 0.2:
        lines.append(Line(rng.choice(("（クラス2以上を陽性とする）", "プリックテスト：スギ 膨疹8mm、対照 0mm", "皮内テスト陰性", "※クラス3以上は除去継続", "負荷試験は次回予定", "皮膚テストは施行せず"))))
    return restyle(rng, ctx, lines)


def put_head(head: str, part: Part) -> Part:
    return head + part[0], part[1]


# -- urine strips in a row ----------------------------------------------------------------------------------------

_STRIPS = (
    ("蛋白", "糖", "潜血"), ("pro", "glu", "OB"), ("pro", "glu", "OB", "ket"), ("Pro", "Glu", "Ket", "OB", "Uro"), ("P", "S", "OB"), ("蛋白", "潜血"), ("蛋白", "糖", "ケトン", "潜血"), ("Prot", "Glu", "OB"),
    ("TP", "Glu", "潜血"), ("pro", "OB"), ("蛋白", "糖", "ウロビリ", "潜血"), ("糖", "蛋白", "潜血"), ("U-pro", "U-glu", "U-ob"), ("糖", "ケトン"), ("白血球", "亜硝酸", "潜血"), ("PRO", "GLU", "BLD", "KET", "URO"), ("BLO", "PRO", "GLU"),
)  # fmt: skip
_SIGNS = ("-", "-", "−", "－", "±", "1+", "2+", "3+", "+", "+-", "＋", "4+")


def dipstick(rng: random.Random, day: str = "") -> Part:
    """Signs of a urine strip: 尿 蛋白/糖/潜血 -/-/1+, 尿蛋白(−)糖(−)潜血(±), 尿糖・蛋白(-)."""
    names = list(rng.choice(_STRIPS))
    signs = [rng.choice(_SIGNS) for _ in names]
    roll = rng.random()
    if roll < 0.2:
        cut = rng.choice(("/", "・", " / "))
        text = rng.choice(("尿", "尿 ", "検尿 ", "尿定性 ", "", "U/A ", "尿：")) + cut.join(names)
        first = names[0]
        if text.startswith("尿" + first):
            names[0] = "尿" + first
        row = rng.choice((" {}", "：{}", "({})", " ({})", "（{}）")).format((cut if cut != "・" else "/").join(signs))
        return text + row, [lab(Result(n, s), day) for n, s in zip(names, signs, strict=True)]
    if roll < 0.3:
        sign = rng.choice(("-", "－", "−", "陰性"))
        text = rng.choice(("・", "、", "/")).join(names)
        shown = sign if sign == "陰性" else rng.choice(("({})", "（{}）")).format(sign)
        names[0] = "尿" + names[0] if names[0][0] > "\u3000" else names[0]
        head = names[0] + text[len(names[0].removeprefix("尿")) :]
        return head + rng.choice(("", "とも", "いずれも", "：", "ともに")) + shown, [lab(Result(n, sign), day) for n in names]
    shape = rng.choice(("{n}({s})", "{n}（{s}）", "{n} ({s})", "{n}（{s}）", "{n} {s}", "{n}:{s}", "{n}：{s}"))
    sep = rng.choice(("", " ", "、", "　", ", ", "/")) if "(" in shape or "（" in shape else rng.choice((" / ", "、", ", ", "　", "  "))
    head = rng.choice(("尿", "尿 ", "尿：", "検尿：", "尿定性 ", "U/A: ", "Urine ", "尿一般：", "尿試験紙：", "試験紙 ", "", "随時尿：", "早朝尿 "))
    if head == "尿":
        if names[0][0] > "\u3000":
            names[0] = "尿" + names[0]
            head = ""
        else:
            head = "尿 "
    return head + sep.join(shape.format(n=n, s=s) for n, s in zip(names, signs, strict=True)), [lab(Result(n, s), day) for n, s in zip(names, signs, strict=True)]


def strips(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    parts = [dipstick(rng)]
    if rng.random() < 0.35:
        parts.append((rng.choice(("浮腫(-)", "浮腫（±）", "BP 118/72", "体重 58.2kg", "沈渣異常なし", "子宮底長 26cm", "腹囲 88cm")), []))
    if rng.random() < 0.3:
        parts = [laid_out(rng, ctx, result(rng, item, 0.1)) for item in panel(rng, names, 1, 3, "renal")] + parts
    lines = [put(joined(parts, rng.choice(("、", "　", "。", " "))))]
    if rng.random() < 0.3:
        lines, _ = opened(rng, ctx, lines, ("尿検査", "検尿", "尿所見", "健診結果", "妊婦健診", "尿一般"))
    return restyle(rng, ctx, lines)


# -- told by others, below detection, with ranges, in series --------------------------------------------------------

_TOLD = (
    "貴院{d}の{N} {V}{U}とのこと", "貴院{d}の採血で{N} {V}{U}であったとのことで", "前医{d}の{N}は{V}{U}", "紹介状によると{d}の{N} {V}{U}", "近医で測定した{N}は{V}{U}（{d}）とのこと",
    "かかりつけでの{d}の採血にて{N} {V}{U}を指摘され", "{c}の{d}採血：{N} {V}{U}、{N2} {V2}{U2}", "{d}{c}で{N} {V}{U}、{N2} {V2}{U2}といわれた", "他院データ（{d}）では{N} {V}{U}",
    "{c}からのFAXでは{d} {N} {V}{U}", "ご紹介時の{N} {V}{U}は当院{d}で{V2}{U}", "持参データ {d}：{N} {V}{U}、{N2} {V2}{U2}", "{d}貴院採血の{N}（{V}{U}）を拝見し", "健診（{d}）の{N}が{V}{U}だったと持参",
    "本人談では{d}の{N}は{V}{U}とのこと", "お手紙にあります{d}の{N} {V}{U}、{N2} {V2}{U2}", "貴科{d}データ：{N} {V}{U}", "透析クリニックの{d}の{N}は{V}{U}、{N2}は{V2}{U2}", "「{d}の{N}は{V}」と電話で情報提供あり", "施設の{d}採血で{N}{V}{U}",
    "検診センターの{d}の結果は{N} {V}{U}、{N2} {V2}{U2}", "眼科で{d}に{N} {V}{U}と指摘され", "当科初診時（{d}）の{N}は{V}{U}", "{d}の前回外来では{N} {V}{U}であった", "血糖手帳の{d}、{N} {V}{U}",
    "術前の{N} {V}{U}（{d}）", "{N} {V}{U}（{d}、{c}）", "前回当院（{d}）{N} {V}{U}→今回は未採血", "かかりつけの先生より{N} {V}{U}（{d}）とのご連絡",
)  # fmt: skip
_OTHERS = ("前医", "近医", "A病院", "かかりつけ医", "貴院", "他院", "当院内科", "紹介元", "市民病院", "中央クリニック", "健診施設", "人間ドック", "透析クリニック", "施設嘱託医")


def told(rng: random.Random, names: Names, ctx: Context) -> Part:
    """A result that another hospital measured, quoted in a sentence with its date."""
    template = rng.choice(_TOLD)
    day = written(clear(day_form(rng, ctx, 0.12)), past(rng, ctx, 0.0))
    first = analyte(rng, names)
    second = first if "{U}は" in template and "{N2}" not in template and "{V2}" in template else analyte(rng, names)
    while second.name == first.name and "{N2}" in template:
        second = analyte(rng, names)

    def unit_of(item: Analyte) -> str:
        unit = rng.choice(item.units) if item.units and rng.random() < 0.6 else ""
        return "" if unit and unit[0] in "0123456789xK" else unit

    v, v2 = number(rng, first), number(rng, second)
    u = unit_of(first) if "{U}" in template else ""
    u2 = u if second is first else unit_of(second)
    if first.name[-1].isascii() and "{N}{V}" in template:
        template = template.replace("{N}{V}", "{N} {V}")
    text = template.format(d=day, c=rng.choice(_OTHERS), N=first.name, V=v, U=u, N2=second.name, V2=v2, U2=u2)
    facts = [lab(Result(first.name, v, u), day)]
    if "{V2}" in template:
        # What this hospital measured ("ご紹介時の…は当院…で"): the date stands between and belongs to the second.
        if second is first:
            facts = [lab(Result(first.name, v, u)), lab(Result(first.name, v2, u), day)]
        else:
            facts.append(lab(Result(second.name, v2, u2), day))
    return text, facts


_BELOW = (
    ("HCV-RNA|HCV RNA|HCV-RNA定量|HCVRNA", "検出せず|検出せず|検出限界以下|<1.2|TND|陰性|感度以下|(-)", "LogIU/mL"), ("HBV-DNA|HBV DNA|HBV-DNA定量", "検出せず|<1.0|<1.3|検出限界以下|測定感度未満|検出されず|陰性", "LogIU/mL"),
    ("PSA", "<0.008|<0.01|測定感度以下|<0.003", "ng/mL"), ("高感度トロポニンI|hs-TnI|トロポニンI|TnI", "<0.01|<10|<0.003|検出限界以下", "ng/mL"), ("CMV抗原血症|CMVアンチゲネミア|CMV抗原(C7-HRP)", "0/0|陰性|検出せず|2/3", ""),
    ("β-Dグルカン|βDグルカン", "<6.0|<5.0|検出限界以下", "pg/mL"), ("CRP|hs-CRP", "<0.02|<0.10|<0.05|0.01以下|感度以下", "mg/dL"), ("TRAb|TSAb", "<0.3|<0.8|陰性", "IU/L"), ("TSH", "<0.005|<0.01|感度以下|測定感度未満", "μIU/mL"), ("hCG|β-hCG", "<0.5|<1.0|感度以下", "mIU/mL"),
    ("HIV-RNA|HIV-1 RNA", "検出せず|<20|20未満", "コピー/mL"), ("EBV-DNA|CMV-DNA|CMV-PCR", "検出せず|<200|陰性|検出限界未満", "コピー/mL"), ("プロカルシトニン|PCT", "<0.02|<0.05|0.02未満", "ng/mL"), ("CEA", "<0.5|<1.0", "ng/mL"), ("D-dimer|Dダイマー", "<0.5|0.5未満|<0.4", "μg/mL"),
    ("CPR|尿中CPR|血中Cペプチド", "<0.03|測定感度以下|感度未満|<0.1", "ng/mL"), ("アセトアミノフェン血中濃度|ジゴキシン|VPA", "<2.0|感度以下|検出限界以下", "μg/mL"), ("抗dsDNA抗体|抗CCP抗体|抗GAD抗体", "<10|<0.5|<5.0|陰性", "U/mL"), ("エタノール|血中アルコール", "<10|検出せず", "mg/dL"),
)  # fmt: skip


def below(rng: random.Random, day: str = "") -> Part:
    """A value below what the test can measure: HCV-RNA 検出せず, PSA <0.008."""
    names_, values, unit = rng.choice(_BELOW)
    name, value = rng.choice(names_.split("|")), rng.choice(values.split("|"))
    shown = value.strip("()")
    put_unit = unit if unit and value[0] == "<" and rng.random() < 0.5 else ""
    gap = "" if value[0] == "(" else rng.choice((" ", "：", " ", ":", "は" if value[0] != "<" else " "))
    return name + gap + value + (rng.choice((" ", "")) + put_unit if put_unit else ""), [lab(Result(name, shown, put_unit), day)]


def series(rng: random.Random, names: Names, ctx: Context) -> Part:
    """A 5.0→4.1、B 1.2→1.4、C 90→75 U/L: every value is a result of its own, undated or in the dates of the head."""
    items = panel(rng, names, 2, 5)
    if rng.random() < 0.4:
        items = [*items[:2], *panel(rng, names, 1, 2, rng.choice(("cardiac", "metabolic", "thyroid", "immune", "tumor")))]
    unique = list({item.name: item for item in items}.values())
    arrow = rng.choice(("→", "→", "→", " → ", "⇒", "->", "➡"))
    sep = rng.choice((" ", " ", "：", "", ":"))
    count = 2 if rng.random() < 0.8 else 3
    days: list[str] = []
    head = rng.choice(("", "", "採血：", "検査 ", "前回→今回：", "入院時→退院時 ", "治療前後で", "推移：", "（前回→今回）", "投与前→投与後 "))
    if rng.random() < 0.3:
        form = clear(day_form(rng, ctx, 0.1))
        days = list(dict.fromkeys(written(form, d) for d in sorted(past(rng, ctx, 0.1) for _ in range(count))))
        if len(days) < count:
            days = []
        else:
            head = rng.choice(("{}：", "{} ", "（{}）", "検査（{}）", "採血({}) ")).format(arrow.strip().join(days))
    parts: list[Part] = []
    unit_share = rng.choice((0.0, 0.3, 1.0))
    for item in unique:
        values = [number(rng, item) for _ in range(count)]
        unit = rng.choice(item.units) if item.units and rng.random() < unit_share else ""
        gap = sep or (" " if item.name[-1] in "0123456789-+)" else "")
        if not sep and item.name[-1].isascii() and rng.random() < 0.5:
            gap = " "
        shown = " " + unit if unit and (rng.random() < 0.6 or unit[0] in "0123456789xK×") else unit
        parts.append((item.name + gap + arrow.join(values) + shown, [lab(Result(item.name, v, unit), days[k] if days else "") for k, v in enumerate(values)]))
    text, facts = joined(parts, rng.choice(("、", "、", "、", ", ", "　", "；", "，")))
    return head + text + rng.choice(("", "", "と改善", "と推移", "。著変なし", "といずれも改善傾向")), facts


def ranged(rng: random.Random, ctx: Context, item: Analyte, day: str = "") -> Part:
    """A result with its reference range beside it: CRP 3.2（0-0.14）."""
    r = result(rng, item, 0.2)
    top = f"{item.low + (item.high - item.low) / 3:.{max(0, item.decimals)}f}"
    span = rng.choice((f"{item.low:g}-{top}", f"{item.low:g}～{top}", f"{item.low:g}〜{top}", f"<{top}", f"{top}以下", f"≦{top}", f"{top}未満"))
    shape = rng.choice(("（{}）", "({})", " ({})", "（基準 {}）", "（正常 {}）", " [{}]", "（基準値：{}）", "（N: {}）", " 基準{}", "（参考 {}）"))
    text, facts = laid_out(rng, ctx, r, day)
    return text + shape.format(span), facts


_ENDS = ("", "", "。", "、", "と考えます。", "")


def quoted(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Lines with results told by others, below detection, in series, or with their ranges."""
    lines = []
    for _ in range(rng.choice((1, 1, 2))):
        roll = rng.random()
        if roll < 0.34:
            part = told(rng, names, ctx)
        elif roll < 0.62:
            part = series(rng, names, ctx)
        elif roll < 0.8:
            part = joined([ranged(rng, ctx, item) for item in panel(rng, names, 1, 5)], rng.choice(("、", "　", ", ", " ")))
        else:
            parts = [below(rng) for _ in range(rng.choice((1, 1, 2)))]
            parts += [laid_out(rng, ctx, result(rng, item, 0.1)) for item in panel(rng, names, 0, 2, "liver")]
            part = joined(parts, rng.choice(("、", ", ", "　")))
        lines.append(put(rng.choice(("", "", "・", "O) ", "# ", "→")), part))
    return restyle(rng, ctx, lines)


def inline(rng: random.Random, names: Names, ctx: Context) -> Part:
    """A piece for use inside a sentence."""
    roll = rng.random()
    if roll < 0.16:
        return pair(rng)
    if roll < 0.3:
        return load_sentence(rng)
    if roll < 0.42:
        return dipstick(rng)
    if roll < 0.52:
        return ige_run(rng)
    if roll < 0.72:
        return told(rng, names, ctx)
    return below(rng) if roll < 0.8 else series(rng, names, ctx)


__all__ = ["inline", "load_tests", "paired_tests", "quoted", "specific_ige", "strips"]
