"""Lists of diseases in synthetic notes: problem lists, diagnosis fields, tables, histories, check lists."""

import random

from schemas.statement import Assertion, Field, Kind
from training.corpus.condition_prose import FAMILY, MIXED, PAST, inline, plain
from training.corpus.condition_words import fill, join, pick, stage, when, words
from training.corpus.core import Context, Fact, Line
from training.corpus.names import Names

Item = tuple[str, list[Fact]]

SEPARATORS = ("、", "、", "，", "・", "/", " ", "　", "、 ", ", ", "；", "。", " / ")

# Items of a history section: what one heading mixes.
HISTORY_ITEMS: list[tuple[float, list[str]]] = [
    (
        30,
        [
            "{o>} {H}",
            "{o>}{H}",
            "{o>}：{H}",
            "{o>} {H}[手術|術後|（手術）|(ope)|で入院|治癒|、{op}]",
            "{o>}{H}[手術|で手術|にて入院|術後]",
            "{o>} {H}（{op}）",
            "{o>}：{H}にて{op}",
            "{H}（{<o}）",
            "{H}({<o})",
            "{H} {<o}",
            "{H}（{<o}、{healed}）",
            "{H}({<o} {op})",
            "{H}（{<o}〜{n:1-3}年間治療、治癒）",
            "{H}（{healed}）",
            "{H}({healed})",
            "{H}術後",
            "{H}術後（{<o}）",
            "{H}：{healed}",
            "{n:5-70}歳 {H}[|手術|（手術）|で入院]",
            "{n:5-70}歳時{H}",
            "{n:5-70}歳：{H}（治癒）",
            "{n:5-70}y.o. {H}",
            "{H}（{n:5-70}歳時手術）",
            "{H}（{n:2-30}年前、手術）",
            "{n:2-30}年前 {H}手術",
            "{H:child}[（小児期）|（治癒）|（寛解）| 小児期]",
            "小児期に{H:child}",
            "{H:cancer}術後（{<o}、再発なし）",
            "{o>} {H:injury} {op}",
            "{H:injury}（{<o}）",
            "s/p {H} ({<o})",
        ],
    ),
    (
        26,
        [
            "{P:chronic}（{treated}）",
            "{P:chronic}({treated})",
            "{P:chronic}：{treated}",
            "{P:chronic} {treated}",
            "{P:chronic}で{treated}",
            "{P:chronic}にて{hosp}通院中",
            "{P:chronic}（{<o}〜、{treated}）",
            "{P:chronic}（{<o}〜）",
            "{P:chronic}({<o}〜 {treated})",
            "{P:chronic}（{<o}より{treated}）",
            "{o>}〜 {P:chronic}（{treated}）",
            "{o>}〜{P:chronic}",
            "{o>}より{P:chronic}で{treated}",
            "{o>}：{P:chronic}（{treated}）",
            "{n:30-80}歳〜 {P:chronic}（{treated}）",
            "{n:30-80}歳：{P:chronic}（{treated}）",
            "{P:chronic}（{n:3-30}年前から{treated}）",
            "{P:chronic}（{hosp}）",
            "{P:chronic}{stage}（{dept}通院中）",
            "{P:cancer}{stage}（{dept}で化学療法中）",
        ],
    ),
    (
        10,
        [
            "{A:denied}なし",
            "{A:denied}（-）",
            "{A:denied}(-)",
            "{A:denied}：なし",
            "{A:denied}（−）",
            "{A:denied}：無",
            "{A:denied}や{A:denied}の既往なし",
            "{A:denied}の既往はない",
            "{A:denied}は指摘なし",
        ],
    ),
    (
        6,
        ["{op}（{d}）", "{d} {op}", "{op}", "{n:20-70}歳 {op}", "輸血歴なし", "手術歴なし", "{d} 交通事故で入院",
            "出産{n:1-3}回"],
    ),
    (2, ["{S}疑い（{d}、精査せず）", "{S}の疑いで経過観察中", "{S}疑い"]),
]

# Old diseases that need no marker under a history heading to be read as past, and chronic ones that go on.
BARE_PAST = words(
    "虫垂炎 急性虫垂炎 左鼠径ヘルニア 自然気胸 肺結核 胃潰瘍 十二指腸潰瘍 急性膵炎 右橈骨遠位端骨折 鎖骨骨折 小児喘息 川崎病 尿管結石 肺炎 帯状疱疹 脳梗塞 心筋梗塞 くも膜下出血 麻疹 水痘")
BARE_PRESENT = words(
    "高血圧 高血圧症 糖尿病 2型糖尿病 脂質異常症 高脂血症 HT DM HL CKD COPD 慢性腎臓病 心房細動 Af 骨粗鬆症 認知症 前立腺肥大症 高尿酸血症 関節リウマチ 気管支喘息 緑内障 慢性心不全 パーキンソン病")

# What follows a name in a problem list and states nothing of its own.
COMMENTS = [
    "",
    "",
    "",
    "",
    "",
    "",
    "：{course}",
    "　{course}",
    "（{course}）",
    " - {course}",
    " → {course}",
    "（{treated}）",
    "({treated})",
    "：{rx}継続",
    " {rx}",
    "（{dept}）",
    "；{dept}フォロー",
    "（{<o}〜）",
    "（{<o}〜、{treated}）",
    "（{<o}診断）",
    " ({<o}〜)",
    "：{sx}は軽減、{rx}継続",
    "、{sx}あり",
    "（{<m}発症）",
    "（{<m}〜）",
    " {op}後",
    "（{op}予定）",
    " ＜{n:1-9}年目＞",
    "　主治医：{dept}",
]

# Signs that become problems when a doctor lists them as such.
LISTED_SIGNS = words(
    "便秘症 便秘 癌性疼痛 不眠症 不眠 貧血 低K血症 低Alb血症 低栄養 嚥下障害 嚥下機能低下 廃用症候群 腰痛症 食欲不振 慢性疼痛 低Na血症 脱水 脱水症 せん妄 フレイル サルコペニア 肥満 肥満症 尿閉 神経因性膀胱 褥瘡")


def _weighted(rng: random.Random, groups: list[tuple[float, list[str]]]) -> str:
    chosen = rng.choices([frames for _, frames in groups], [weight for weight, _ in groups])[0]
    return rng.choice(chosen)


def heading(rng: random.Random, ctx: Context, *titles: str) -> str:
    """One of the titles in the writer's form."""
    title = rng.choice(titles)
    form = ctx.habit(rng, "heading", "{}：", "{}:", "【{}】", "[{}]", "<{}>", "＜{}＞", "■{}", "#{}", "◎{}",
        "*{}", "{}", "〈{}〉", "● {}", "《{}》", "◆{}", "・{}：", "（{}）", "[{}] ", "{} :")
    return form.format(title)


def _block(rng: random.Random, ctx: Context, head: str, items: list[Item], inline_chance: float = 0.45) -> list[Line]:
    """Items under a heading: on the heading's line, on one line below, or each on a line of its own."""
    if rng.random() < inline_chance:
        joint = ctx.habit(rng, "separator", *SEPARATORS)
        if joint == "/" and any("/" in part for part, _ in items):
            joint = "、"
        text, facts = join(joint, items)
        gap = "" if head.endswith(("：", ":", " ")) and rng.random() < 0.7 else rng.choice([" ", "　", " ", ""])
        gap = gap or _gap(head)
        end = rng.choice(["", "", "。"]) if not text.endswith("。") else ""
        if rng.random() < 0.3:
            return [Line(head), Line(rng.choice(["", "", "　", " ", "・"]) + text + end, facts)]
        return [Line(head + gap + text + end, facts)]
    bullet = ctx.habit(rng, "bullet", "・", "- ", "", "　", "  ", "・ ", "# ", "#", "＃", "＊", "○", "①", "1.",
        "1)", "(1)", "１．", "◯ ", "●", "□")
    lines = [Line(head)] if head else []
    for number, (text, facts) in enumerate(items):
        lines.append(Line(_bullet(bullet, number) + text, facts))
    return lines


def _gap(head: str) -> str:
    return " " if head[-1].isalnum() else ""


def _bullet(bullet: str, number: int) -> str:
    if bullet == "①":
        return chr(0x2460 + number % 20)
    if "1" in bullet:
        return bullet.replace("1", str(number + 1)) + " "
    return bullet.replace("１", chr(0xFF11 + number % 9))


def problem(rng: random.Random, names: Names, ctx: Context) -> Item:
    """One entry of a problem or diagnosis list."""
    draw = rng.random()
    if draw < 0.03:
        sided = ["{side} {P:=limb}", "{P:=limb}（{side}）", "{P:=limb}({side})", "{P:=limb} {side}",
            "{side}・{P:=limb}"]
        return fill(rng, names, ctx, rng.choice(sided) + rng.choice(COMMENTS))
    if draw < 0.05:
        return fill(rng, names, ctx, "{P:=dm}" + rng.choice(["（{<o}〜、HbA1c {n:6-9}%台で推移）",
            "（HbA1c {n:6-9}%台）", "：血糖{n:1-2}00台", "（{<o}〜、インスリン使用中）"]))
    if draw < 0.14:
        return fill(rng, names, ctx, rng.choice(["{S}疑い", "{S}の疑い", "{S}（疑い）", "{S}(疑)", "{S}?",
            "{S}？", "s/o {S}", "{S} s/o", "{S} susp", "r/o {S}", "susp {S}", "{S}疑", "{S}の可能性",
            "{S}疑い{stage}", "{S}疑い（{test}予定）"]))
    if draw < 0.18:
        return fill(rng, names, ctx, rng.choice(["{H}術後", "{H}術後（{<o}）", "{H}（治癒）", "{H} s/p {op}",
            "{H}{stage}術後", "{H}術後 {op}", "{o>} {H}術後", "{H}：治癒", "{H}（寛解）"]))
    if draw < 0.23:
        name = rng.choice(LISTED_SIGNS)
        text, facts = fill(rng, names, ctx, rng.choice(["", "", "：{course}", "（{treated}）"]))
        return name + text, [Fact(Kind.CONDITION, {Field.NAME: name}, Assertion.PRESENT), *facts]
    if draw < 0.26:
        return fill(rng, names, ctx, rng.choice(["{op}後", "{op}術後{n:1-20}日目", "{decoy}", "社会背景：独居",
            "退院調整", "ADL低下予防", "{test}予定", "内服調整"]))
    if draw < 0.31:
        return fill(rng, names, ctx, rng.choice(["{P}、{P}", "{P} / {P}", "{P}+{P}", "{P}・{P}",
            "{P:chronic}、{P:acute}合併", "{P}、{P}（{course}）"]))
    pool = rng.choice(["", "", "chronic", "chronic", "acute", "cancer", "injury"])
    slot = "{P:" + pool + "}" if pool else "{P}"
    return fill(rng, names, ctx, slot + rng.choice(["{stage}", "{stage}", ""]) + rng.choice(COMMENTS))


def problem_list(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """#1 … #2 …, with or without a heading, one a line; or all on one line."""
    mark = ctx.habit(rng, "number", "#{} ", "#{}", "＃{} ", "＃", "#", "# ", "#{}. ", "{}. ", "{}) ", "({}) ",
        "P{}) ", "①", "{}．", "# {} ", "#{}：", "・", "No.{} ", "Problem {}: ", "【{}】", "P#{} ", "{}: ")
    full_width = "＃" in mark and rng.random() < 0.6
    lines = []
    if rng.random() < 0.5:
        lines.append(Line(heading(rng, ctx, "プロブレムリスト", "Problem list", "Problem List", "問題リスト",
            "プロブレム", "問題点", "A/P", "A", "Assessment", "評価", "診断", "病名", "Problems", "アセスメント",
            "PL", "入院時プロブレム", "現在の問題点", "A）", "Assessment & Plan")))
    items = [problem(rng, names, ctx) for _ in range(rng.choice([1, 2, 3, 3, 4, 5, 6]))]
    marks = []
    for number in range(len(items)):
        shown = chr(0xFF11 + number % 9) if full_width else str(number + 1)
        marks.append(chr(0x2460 + number) if mark == "①" else mark.format(shown))
    # A number must not run into the year or the kind that the entry begins with (#3 2001年, #2 1型糖尿病).
    marks = [m + " " if (m[-1:].isdigit() or m[-1:] in "．.") and part[:1].isdigit() else m for m, (part, _) in zip(marks, items, strict=True)]
    if rng.random() < 0.22:
        gap = rng.choice([" ", "　", "、", "  "])
        marked = [(m + part, facts) for m, (part, facts) in zip(marks, items, strict=True)]
        return [*lines, Line(*join(gap, marked))]
    notes = rng.random() < 0.35
    for m, (part, facts) in zip(marks, items, strict=True):
        lines.append(Line(m + part, facts))
        for _ in range(rng.randint(0, 2) if notes else 0):
            line = plain(rng, names, ctx) if rng.random() < 0.7 else Line(*inline(rng, names, ctx))
            opening = rng.choice(["　", "  ", " ", "", "→", "　→", "- ", "・", "P) ", "A) "])
            line.text = (opening if line.text[1:2] not in (")", "：") else "") + line.text
            lines.append(line)
    return lines


def abbreviations(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """＃HT ＃HL: short notes of busy doctors."""
    mark = rng.choice(["＃", "#", "# ", "・", "", "", "#"])
    joint = rng.choice([" ", "　", "", "、", "/", ", ", "・"]) if mark else rng.choice([" ", "、", "/", ", ",
        "・", "，", " + "])
    parts: list[str] = []
    facts: list[Fact] = []
    seen: set[str] = set()
    for _ in range(rng.randint(1, 6)):
        name = pick(rng, names, "chronic" if rng.random() < 0.8 else "acute")
        if any(name in other or other in name for other in seen):
            continue
        seen.add(name)
        suspected = rng.random() < 0.1
        tail = rng.choice(["疑い", "?", "？", "疑"]) if suspected else stage(rng, name) if rng.random() < 0.25 else ""
        gap = " " if tail and not suspected else ""
        parts.append(mark + name + gap + tail)
        facts.append(Fact(Kind.CONDITION, {Field.NAME: name},
            Assertion.SUSPECTED if suspected else Assertion.PRESENT))
    head = rng.choice(["", "", "", "A：", "A) ", "Dx: ", "Dx）", "病名：", "S)", "現病：",
        "現症："]) if not mark else rng.choice(["", "", "", "A) ", "A: "])
    lines = [Line(head + joint.join(parts), facts)]
    for _ in range(rng.choice([0, 0, 1, 2])):
        lines.append(plain(rng, names, ctx))
    return lines


def diagnosis_fields(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """主病名： … 併存症： … of letters, discharge summaries and admission forms."""
    colon = ctx.habit(rng, "colon", "：", ":", " ", "　", "： ", "】", "｜")
    lines = []
    titles = ["主病名", "傷病名", "入院時診断", "退院時診断", "確定診断", "診断名", "病名", "入院病名",
        "退院時病名", "主診断", "最終診断", "診断", "術前診断", "術後診断", "紹介病名", "主たる傷病名",
        "Diagnosis", "Dx", "Final Dx", "原疾患", "対象疾患"]
    others = ["併存症", "併存疾患", "副病名", "合併症", "併存病名", "基礎疾患", "その他の病名", "副傷病名",
        "併発症", "Comorbidity", "続発症", "入院中合併症", "他の病名"]
    for _ in range(rng.choice([1, 1, 2])):
        lines.append(_field_line(rng, rng.choice(titles), colon, [problem(rng, names,
            ctx) for _ in range(rng.choice([1, 1, 1, 2, 3]))]))
    if rng.random() < 0.6:
        if rng.random() < 0.15:
            lines.append(_field_line(rng, rng.choice(others), colon, [(rng.choice(["なし", "特記なし", "特になし",
                "-"]), [])]))
        else:
            entries = [fill(rng, names, ctx, rng.choice(["{P:chronic}", "{P:chronic}", "{P}",
                "{P:chronic}{stage}", "{P:chronic}（{treated}）",
                "{P:chronic}（{<o}〜）"])) for _ in range(rng.randint(1, 4))]
            lines.append(_field_line(rng, rng.choice(others), colon, entries))
    extras = ["主訴{c}{sx}", "主訴{c}{sx}、{sx}", "紹介目的{c}{P}の精査・加療", "紹介目的{c}{S}疑いの精査",
        "紹介目的{c}{S}の疑い", "目的{c}{P}に対する{op}", "紹介目的{c}{test}", "入院目的{c}{P}の治療",
        "入院目的{c}{test}、リハビリ", "手術{c}{op}（{d}）", "術式{c}{op}", "転帰{c}軽快", "転帰{c}治癒",
        "入院期間{c}{d}〜", "担当科{c}{dept}", "処置{c}{op}", "食事{c}糖尿病食", "鑑別診断{c}{S}、{S}",
        "除外診断{c}{A}、{A}", "依頼内容{c}{P}の周術期管理について", "入院理由{c}{P:acute}",
        "入院の契機となった病名{c}{P:acute}", "医療資源を最も投入した病名{c}{P}", "死因{c}{P:acute}",
        "感染対策{c}標準予防策", "発症日{c}{d}"]
    for _ in range(rng.randint(0, 3)):
        text, facts = fill(rng, names, ctx, rng.choice(extras).replace("{c}", "：" if colon in "】｜" else colon))
        lines.insert(rng.randint(0, len(lines)), Line(text, facts))
    return lines


def _field_line(rng: random.Random, title: str, colon: str, items: list[Item]) -> Line:
    joint = rng.choice(["、", "、", "　", " / ", "，", ", ", "；", " "])
    numbered = len(items) > 1 and rng.random() < 0.4
    style = rng.choice(["#{} ", "{}) ", "①", "{}. ", "({})", "＃{} "])
    parts = []
    for number, (text, facts) in enumerate(items):
        mark = (chr(0x2460 + number) if style == "①" else style.format(number + 1)) if numbered else ""
        parts.append((mark + text, facts))
    head = f"【{title}】" if colon == "】" else title + colon
    return Line(*join(" " if numbered else joint, parts, head))


def history(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """既往歴: past, present and denied diseases and operations under one heading."""
    head = heading(rng, ctx, "既往歴", "既往歴", "既往", "既往症", "PH", "PMH", "Past history", "P.H.", "PMHx",
        "既往歴・併存症", "主な既往歴", "既往・併存症", "既往歴/手術歴", "病歴", "過去の病気", "今までにかかった病気")
    draw = rng.random()
    if draw < 0.09:
        return [Line(head + _gap(head) + rng.choice(["特記なし", "なし", "特記事項なし", "特になし", "n.p.", "np",
            " 特記すべきことなし", "不明", "特記事項無し", "聴取できず"]))]
    if draw < 0.27:
        kept = rng.sample(BARE_PAST, rng.randint(0, 3)) + rng.sample(BARE_PRESENT, rng.randint(0, 3)) or ["虫垂炎"]
        rng.shuffle(kept)
        return _block(rng, ctx, head, [_bare(name) for name in _apart(kept)], 0.8)
    items = [fill(rng, names, ctx, _weighted(rng, HISTORY_ITEMS)) for _ in range(rng.choice([1, 2, 2, 3, 3, 4, 5,
        6]))]
    lines = _block(rng, ctx, head, items)
    if rng.random() < 0.15:
        frame_ = rng.choice(PAST + MIXED)
        lines.append(Line(*fill(rng, names, ctx, frame_)))
    if rng.random() < 0.2:
        lines.append(plain(rng, names, ctx))
    return lines


def _bare(name: str) -> Item:
    label = Assertion.PRESENT if name in BARE_PRESENT else Assertion.PAST
    return name, [Fact(Kind.CONDITION, {Field.NAME: name}, label)]


def _apart(found: list[str]) -> list[str]:
    """Names of which none is a piece of another."""
    return [name for name in found if not any(name != other and name in other for other in found)]


def family(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """家族歴, also inside a run of other histories."""
    head = heading(rng, ctx, "家族歴", "家族歴", "家族歴", "FH", "FHx", "Family history", "F.H.", "家族の病気",
        "血縁者の病歴")
    draw = rng.random()
    if draw < 0.3:
        words = ["特記なし", "なし", "特記事項なし", "特になし", "不明", "n.p.", "癌の家族歴なし",
            "糖尿病なし、高血圧なし", "両親健在、兄弟健康", "心疾患の家族歴なし", "父母とも健在", "聴取できず",
            "悪性腫瘍の家族歴なし", "父 健在、母 老衰で他界", "遺伝性疾患なし",
            "がん（-） 脳卒中（-） 心筋梗塞（-）", "突然死の家族歴なし", "血縁者に喘息なし"]
        return [Line(head + _gap(head) + rng.choice(words))]
    if draw < 0.45:
        return [Line(*fill(rng, names, ctx, rng.choice(FAMILY)))]
    entries = ["{r>}：{F}", "{r>} {F}", "{r>}:{F}", "{r>}に{F}", "{r>}が{F}", "{r>}（{F}）", "{r>}；{F}、{F}",
        "{r>}→{F}", "{r>}：{F}（{n:40-85}歳）", "{r>}：{F}で死亡", "{F}（{<r}）", "{F}：{<r}", "{r>}：{F}・{F}",
        "{r>} {F}で他界"]
    entry = rng.choice(entries)
    items = [fill(rng, names, ctx,
        entry if rng.random() < 0.8 else rng.choice(entries)) for _ in range(rng.randint(1, 4))]
    if rng.random() < 0.2:
        items.append((rng.choice(["兄：健康", "母：健在", "他特記なし", "父：老衰", "妹：特記なし",
            "弟：交通事故死", "母：糖尿病なし"]), []))
    return _block(rng, ctx, head, items, 0.7)


def histories(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """History, family, life and vaccination in the run of an admission note."""
    parts: list[list[Line]] = [history(rng, names, ctx), family(rng, names, ctx)]
    extras = ["生活歴：{job}、喫煙{n:5-40}本/日、飲酒なし", "生活歴：独居、ADL自立", "喫煙：なし　飲酒：機会飲酒",
        "手術歴：{op}（{d}）", "手術歴：なし", "予防接種：インフルエンザワクチン済、肺炎球菌ワクチン未",
        "輸血歴：なし", "職業：{job}", "海外渡航歴なし、結核接触歴なし", "健診：毎年受診、大腸がん検診は未受診",
        "主訴：{sx}", "月経歴：閉経{n:48-55}歳", "出産歴：{n:1-3}経妊{n:1-2}経産"]
    for extra in rng.sample(extras, rng.randint(1, 3)):
        text, facts = fill(rng, names, ctx, extra)
        parts.insert(rng.randint(0, len(parts)), [Line(text, facts)])
    return [line for part in parts for line in part]


def checklist(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Questionnaire of signs: 糖尿病（＋） 高血圧（−), before an operation, on arrival, on a ward form."""
    yes, no = rng.choice([("(+)", "(-)"), ("（＋）", "（－）"), ("（+）", "（-）"), ("：あり", "：なし"), (":有",
        ":無"), (" あり", " なし"), ("（あり）", "（なし）"), ("＋", "－"), ("(＋)", "(－)"), ("：＋", "：－"),
        ("有り", "無し"), ("（+）", "（−）"), ("あり", "なし")])
    joint = rng.choice(["　", " ", "、", "/", "，", " ・ "])
    cells = []
    for _ in range(rng.randint(2, 7)):
        draw = rng.random()
        if draw < 0.42:
            cells.append(fill(rng, names, ctx, "{A:denied}" + no))
        elif draw < 0.7:
            cells.append(fill(rng, names, ctx, "{P:chronic}" + yes + rng.choice(["", "", "", "({treated})",
                "（{<o}〜）"])))
        elif draw < 0.75:
            cells.append(fill(rng, names, ctx, "{H}" + yes + "（{<o}[手術|治癒|]）"))
        else:
            cells.append(fill(rng, names, ctx, rng.choice(["{sx}", "喫煙", "飲酒", "義歯", "ペースメーカー",
                "輸血歴", "手術歴", "妊娠", "{sign}", "麻酔歴", "結核接触歴", "渡航歴"]) + rng.choice([yes, no])))
    head = rng.choice(["", "", "既往歴：", "術前問診：", "問診：", "既往 ", "リスク因子：", "【既往】",
        "併存症チェック：", "ROS: ", "冠危険因子：", "禁忌確認："])
    if rng.random() < 0.3:
        return [Line(rng.choice(["術前チェックリスト", "問診票", "既往歴確認", "入院時アセスメント",
            "■既往・併存症"])), *[Line(rng.choice(["・", "□", "", "　"]) + text, facts) for text, facts in cells]]
    return [Line(*join(joint, cells, head))]


def disease_table(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """The registered diseases of a chart: name, start, outcome, with codes or marks that state nothing."""
    cell = rng.choice(["\t", " | ", "　", "  ", ",", " / ", "｜", " "])
    dated = rng.random() < 0.75
    lines = []
    if rng.random() < 0.7:
        heads = [rng.choice(["病名", "傷病名", "診断名", "Problem"]), *([rng.choice(["開始日", "発症日", "診断日",
            "Onset"])] if dated else []), rng.choice(["転帰", "状態", "Status"])]
        lines.append(Line(cell.join(heads)))
    coded = rng.random() < 0.2
    for number in range(rng.randint(2, 7)):
        name = pick(rng, names, rng.choice(["", "chronic", "acute", "cancer"]))
        label, outcomes = rng.choices(
            [
                (Assertion.PRESENT, ["継続", "治療中", "加療中", "不変", "軽快", "active", "通院中", "主", "継続中"]),
                (Assertion.PAST, ["治癒", "完治", "resolved", "治癒終了", "手術済", "術後"]),
                (Assertion.SUSPECTED, ["疑い", "疑", "疑い・精査中", "suspected"]),
                (Assertion.ABSENT, ["否定", "除外", "疑い否定", "ruled out"]),
            ],
            [60, 20, 12, 8],
        )[0]
        fields = {Field.NAME: name}
        cells = [rng.choice(["", "", "", "(主)", "★",
            "○"]) + name + (
            f"（{rng.choice('CEIJKMN')}{rng.randint(10, 99)}.{rng.randint(0, 9)}）" if coded else "")]
        if dated and label is not Assertion.ABSENT and rng.random() < 0.85:
            fields[Field.ONSET] = when(rng, ctx)
            cells.append(fields[Field.ONSET])
        elif dated:
            cells.append("不明")
        cells.append(rng.choice(outcomes))
        start = f"{number + 1}{cell}" if coded else ""
        if name not in start:
            lines.append(Line(start + cell.join(cells), [Fact(Kind.CONDITION, fields, label)]))
    return lines


def shared_lists(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Long lists that share one marker at their end or in their heading."""
    frames = [
        "{A*}の既往なし。",
        "{A*:denied}の既往はない。",
        "{A*}：いずれもなし",
        "{A*}はいずれも否定的。",
        "{A*}などの合併症なし。",
        "{A*}を除外した。",
        "{test}にて{A*}は認めず。",
        "{S*}が鑑別に挙がる。",
        "鑑別診断：{S*}",
        "{S*}等を疑い{test}を予定。",
        "{S*}の可能性を考え{rx}開始。",
        "{P*:chronic}で{hosp}通院中。",
        "併存症：{P*:chronic}",
        "現病：{P*:chronic}",
        "{P*:chronic}あり。",
        "治療中の疾患：{P*:chronic}",
        "{P*:chronic}にて{rx}内服中。",
        "基礎疾患に{P*:chronic}を有する。",
        "{A*:denied}なし、{P*:chronic}あり",
        "除外：{A*}",
        "否定的：{A*}",
        "治癒した疾患：{H*:past}",
        "{o>} {H:past}、{o>} {H:past}、{o>} {H:past}",
        "{r>}：{F*}",
        "{r>}：{F*}、{r>}：{F}",
    ]
    return [Line(*fill(rng, names, ctx, rng.choice(frames))) for _ in range(rng.choice([1, 1, 2]))]
