"""Writes lines that hold no fact: the text from which nothing may be taken, in as many forms as charts have.

The frames stand in `filler_findings`, `filler_care` and `filler_letters`; lists and tables are composed here.
"""

import random
from datetime import timedelta

from training.corpus import filler_care as care
from training.corpus import filler_findings as findings
from training.corpus import filler_letters as letters
from training.corpus.core import Context, Line, Writer
from training.corpus.names import Names
from training.corpus.phrasing import ALL_FORMS, expand, written_date

_SIGNS = (
    "発熱 咳嗽 咳 喀痰 鼻汁 咽頭痛 頭痛 めまい 悪心 嘔気 嘔吐 下痢 腹痛 血便 黒色便 胸痛 動悸 息切れ 呼吸困難 浮腫 倦怠感 食思不振 体重減少 盗汗 関節痛 筋痛 皮疹 掻痒 "
    "しびれ 脱力 麻痺 構音障害 複視 視野異常 頻尿 排尿時痛 残尿感 血尿 腰痛 背部痛 圧痛 反跳痛 筋性防御 腸蠕動音亢進 叩打痛 浮腫 チアノーゼ 冷汗 失神 起座呼吸 夜間発作性呼吸困難 "
    "耳痛 耳鳴 難聴 嗄声 嚥下困難 胸やけ 腹部膨満 便秘 不眠 抑うつ気分 希死念慮 幻聴 振戦 口渇 多飲 多尿 ラ音 wheeze 心雑音 頸静脈怒張 項部硬直 羞明 眼充血 悪寒 戦慄 "
    "リンパ節腫脹 肝腫大 脾腫 腹水 胸水 結膜蒼白 黄染 紫斑 点状出血 歯肉出血 創部発赤 排膿 腫脹 熱感 疼痛 可動域制限 跛行 Babinski反射 Romberg Kernig徴候 Barré 固縮 すくみ足 ばち指 低血糖症状 転倒"
).split()
_TABLES = {
    "体重": ("kg", 38.0, 92.0, 1), "尿量": ("mL", 300, 2600, 0), "飲水量": ("mL", 400, 1900, 0), "ドレーン排液": ("mL", 0, 420, 0), "体温": ("℃", 35.6, 39.4, 1),
    "脈拍": ("/分", 50, 124, 0), "SpO2": ("%", 88, 99, 0), "歩行距離": ("m", 10, 400, 0), "食事摂取": ("割", 0, 10, 0), "疼痛NRS": ("", 0, 10, 0), "歩数": ("歩", 500, 9000, 0),
    "除水量": ("L", 0.8, 4.2, 1), "PEF": ("L/min", 180, 520, 0), "残尿": ("mL", 0, 240, 0), "眼圧": ("mmHg", 9, 24, 0), "HDS-R": ("点", 6, 30, 0), "FIM": ("点", 30, 126, 0),
    "EF": ("%", 25, 70, 0), "%FEV1": ("%", 38, 104, 0), "腹囲": ("cm", 68, 112, 0), "身長": ("cm", 60, 178, 1), "水分": ("ml", 400, 2000, 0), "握力": ("kg", 8, 45, 0), "便回数": ("回", 0, 7, 0),
}  # fmt: skip
_PROSE = [*care.COURSE, *letters.PLAN, *letters.TRAPS, *findings.EXAMINATION, *findings.IMAGING, *care.NURSING, *care.LIFE, *findings.PROCEDURES]


def _sentences(frames: list[str], most: int) -> Writer:
    """A writer of up to `most` of the frames, on lines of their own or joined on one."""

    def write(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
        texts = [expand(rng, frame, ctx) for frame in rng.sample(frames, rng.randint(1, most))]
        chance = rng.random()
        if chance < 0.4:
            mark = rng.choice(("。", "。", "　", "、", " / ", "；"))
            text = mark.join(texts) + ("。" if mark == "。" else "")
            return [Line(text)]
        bullet = ctx.habit(rng, "filler_bullet", "", "", "", "・", "- ", "　", "*", "→")
        return [Line(bullet + text) for text in texts]

    return write


def _signs(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Symptoms and signs with their marks: 発熱(-)、咳(+)."""
    signs = rng.sample(_SIGNS, rng.randint(2, 9))
    form = rng.choice(("({})", "（{}）", "{}", " {}", "：{}", "({})"))
    marks = rng.choice((("-", "+", "±"), ("－", "＋", "±"), ("−", "+", "±"), ("なし", "あり", "軽度")))
    gap = rng.choice(("、", " ", "，", "　", "／", ", ", "・"))
    if rng.random() < 0.25:
        text = rng.choice(("、", "・", "，")).join(signs) + rng.choice(("なし", "いずれもなし", "を認めず", "の訴えなし", "(-)", "すべて陰性", "ない", "は否定"))
    else:
        text = gap.join(sign + form.format(rng.choices(marks, (75, 20, 5))[0]) for sign in signs)
    head = rng.choice(("", "", "", "症状：", "ROS：", "現症：", "自覚症状：", "O：", "神経：", "腹部：", "胸部："))
    return [Line(head + text)]


def _table(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Numbers over days that are no laboratory results."""
    items = rng.sample(sorted(_TABLES), rng.choice((1, 1, 1, 2, 3)))
    form = rng.choice(("md/", "md/", "md", "short"))
    count = rng.randint(2, 5)
    step = rng.choice((1, 1, 2, 7, 28))
    days = [written_date(rng, ctx.day - timedelta(days=step * n), form) for n in range(count - 1, -1, -1)]

    def number(item: str) -> str:
        _, low, high, decimals = _TABLES[item]
        return f"{rng.uniform(low, high):.{decimals}f}"

    if rng.random() < 0.4:
        arrow = rng.choice(("→", "→", " → ", "-", "、", "/"))
        return [Line(f"{item}：{arrow.join(number(item) for _ in days)}{_TABLES[item][0]}") for item in items]
    if rng.random() < 0.5:
        return [Line(f"{day} " + " ".join(f"{item}{number(item)}{_TABLES[item][0]}" for item in items)) for day in days]
    gap = rng.choice(("  ", "　", "\t", " | ", ","))
    head = rng.choice(("日付", "", "項目", "月日"))
    return [Line(gap.join((head, *days)).lstrip())] + [Line(gap.join((item, *(number(item) for _ in days)))) for item in items]


def _pressures(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """A blood pressure diary."""
    form = rng.choice(ALL_FORMS)
    lines = []
    for back in range(rng.randint(2, 5), 0, -1):
        day = written_date(rng, ctx.day - timedelta(days=back), form)
        lines.append(Line(expand(rng, rng.choice((f"{day} 朝 {{bp}} 夕 {{bp}}", f"{day}　{{bp}}　P{{50-95}}", f"{day} {{bp}} ({{50-95}})")), ctx)))
    return [Line(rng.choice(("家庭血圧", "血圧手帳より", "血圧推移：", "BP")))] + lines if rng.random() < 0.6 else lines


def timeline(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Entries of a shift, in the order of the clock."""
    hours = sorted(rng.sample(range(24), rng.randint(2, 5)))
    form = rng.choice(("{}:{:02} ", "{:02}:{:02}　", "{}時{}分 ", "[{:02}:{:02}] "))
    frames = rng.sample([f for f in care.NURSING + findings.VITALS if "{time}" not in f], len(hours))
    return [Line(form.format(h, rng.choice((0, 15, 30, 45))) + expand(rng, f, ctx)) for h, f in zip(hours, frames, strict=True)]


def examination(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Vital signs with findings."""
    text = expand(rng, rng.choice(findings.VITALS), ctx)
    rest = [expand(rng, f, ctx) for f in rng.sample(findings.EXAMINATION, rng.randint(1, 4))]
    if rng.random() < 0.4:
        return [Line(rng.choice(("　", "。", " ", "、")).join([text, *rest]))]
    return [Line(text), *[Line(t) for t in rest]]


def _drug_or_test_named(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """A drug, test or disease by name in a sentence that states nothing about the patient."""
    kind = rng.random()
    forms: tuple[str, ...]
    if kind < 0.35:
        name = names.drug(rng).name
        forms = ("{}について薬剤師より説明", "{}の飲み方を確認", "{}の供給不足につき薬局より問い合わせ", "{}について本人より質問あり、説明", "{}の副作用について説明", "{}の適応について検討", "{}は適応なしと判断", "{}の残薬を確認", "{}の説明書を渡した", "{}は希望されず")
    elif kind < 0.7:
        name = names.analyte(rng).name
        forms = ("{}は次回採血で確認", "{}測定予定", "{}は未検", "{}の結果待ち", "{}を追加オーダー", "{}は{next}に再検予定", "{}の推移に注意", "{}提出", "{}の基準値について説明", "次回{}を測定", "{}含め採血を予定", "{}は外注のため後日")
    else:
        name = names.disease(rng)
        forms = ("{}について家族より質問あり", "{}のパンフレットを渡した", "{}の講演会に参加", "{}の治療法について一般的な説明を行った", "{}に関する診断書を希望", "{}のガイドラインを参照", "{}の患者会を案内", "{}の公費申請について説明", "{}外来の予約", "{}教室の案内")
    return [Line(expand(rng, rng.choice(forms).replace("{}", "\x02"), ctx).replace("\x02", name))]


def inline(rng: random.Random, names: Names, ctx: Context) -> str:
    """One sentence without a fact, ending with 。"""
    if rng.random() < 0.06:
        return _drug_or_test_named(rng, names, ctx)[0].text + "。"
    if rng.random() < 0.12:
        return _signs(rng, names, ctx)[0].text + "。"
    frames = letters.LETTER[:14] + letters.PLAN if ctx.document_type in ("referral", "reply") and rng.random() < 0.4 else _PROSE
    return expand(rng, rng.choice(frames), ctx).rstrip("。.") + "。"


WRITERS: list[tuple[float, Writer]] = [
    (3.0, _sentences(findings.VITALS, 2)), (3.0, examination), (2.0, _sentences(findings.EXAMINATION, 4)), (3.0, _signs), (3.0, _sentences(findings.IMAGING, 3)),
    (2.0, _sentences(findings.PROCEDURES, 3)), (2.5, _sentences(care.NURSING, 4)), (2.0, _sentences(care.LIFE, 4)), (1.2, _sentences(care.REHAB, 3)),
    (2.5, _sentences(care.COURSE, 3)), (1.5, _sentences(letters.LETTER, 3)), (3.0, _sentences(letters.PLAN, 4)), (2.5, _sentences(letters.TRAPS, 2)), (0.4, _sentences(letters.COMMANDS, 1)),
    (0.5, _sentences(letters.ENGLISH, 2)), (0.7, _sentences(letters.HEADINGS, 1)), (0.4, _sentences(letters.SEPARATORS, 1)), (0.7, _sentences(letters.NEGATIVE, 1)),
    (1.5, _table), (0.7, _pressures), (1.0, timeline), (1.5, _drug_or_test_named),
]  # fmt: skip
