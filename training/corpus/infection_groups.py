"""Infection screening in groups: syphilis tests in brackets, one result for many, other hospitals, quantities with
marks and limits, repeated tests, and the conclusion that a doctor draws from them."""

import random

from schemas.statement import Assertion, Field, InfectionResult, Kind
from training.corpus.core import Context, Fact, Line, Writer, problems
from training.corpus.infection_pieces import (
    BRACKETS,
    HANDS,
    I,
    N,
    P,
    chosen_tests,
    infection_fact,
    opening,
    quantity,
    screening,
    shown_result,
)
from training.corpus.lab_marks import yes_no
from training.corpus.lab_values import (
    Part,
    Result,
    day_form,
    day_text,
    decoy,
    joined,
    lab,
    panel,
    past,
    put,
    restyle,
    result,
    written,
)  # fmt: skip
from training.corpus.names import Names
from training.corpus.phrasing import expand

_STS = ("RPR", "RPR", "RPR", "STS", "STS", "ガラス板法", "RPR法", "RPR定性", "脂質抗体", "RPRカード")
_TREPONEMA = ("TPHA", "TPHA", "TPHA", "TP", "TP", "TP抗体", "TPLA", "TPAb", "TP-Ab", "FTA-ABS", "TPPA")
_SYPHILIS = ("梅毒", "梅毒", "梅毒", "梅毒反応", "梅毒検査", "梅毒血清反応", "Lues", "梅毒抗体検査")
_MARKS = {
    N: ("(-)", "(-)", "(−)", "（-）", "（－）", "－", "-", "陰性", "陰性", "neg", "(ー)"),
    P: ("(+)", "(+)", "（+）", "（＋）", "＋", "+", "陽性", "陽性", "pos", "(2+)"),
    I: ("(±)", "±", "（±）", "判定保留", "保留"),
}
_ALL = (
    "いずれも{w}", "いずれも{w}", "すべて{w}", "全て{w}", "ともに{w}", "：いずれも{w}", "：すべて{w}", "は全て{w}", "は{w}", "{w}", " いずれも{w}", "、いずれも{w}", "　いずれも{w}", "は検索範囲で{w}", "について全て{w}", "→{w}", "→全て{w}", "：{w}", " all {w}", "：オール{w}", "、全{w}",
)  # fmt: skip


def _results(rng: random.Random, positive: float, count: int) -> list[InfectionResult]:
    return [rng.choices((P, I, N), (positive, 0.02, 1 - positive))[0] for _ in range(count)]


def _glued(name: str, mark: str) -> str:
    """Name and mark with a space where they would run together."""
    return name + (" " if mark[0].isalnum() and mark.isascii() or name[-1] in "-1234567890" and mark[0] in "-+" else "") + mark


def syphilis_pair(rng: random.Random, day: str = "") -> Part:
    """The two tests of syphilis beside each other: 梅毒(RPR(-)、TPHA(-)), TP(-)STS(-), 梅毒 RPR/TP −/−."""
    first, second = rng.choice(_STS), rng.choice(_TREPONEMA)
    if rng.random() < 0.3:
        first, second = second, first
    said = _results(rng, rng.choice((0.0, 0.1, 0.4)), 2)
    label = rng.choice(_SYPHILIS)
    kind = rng.randrange(len(_MARKS[N]))
    marks = [_MARKS[s][kind % len(_MARKS[s])] for s in said]
    a, b = _glued(first, marks[0]), _glued(second, marks[1])
    facts = [infection_fact(n, m.strip(BRACKETS), s, day=day) for n, m, s in zip((first, second), marks, said, strict=True)]
    closed = marks[0][-1] in ")）性"
    gap = rng.choice(("", "", " ", "　", "、", "・", "/", ",", "，")) if closed else rng.choice((" ", "、", "/", "　", "・", " / "))
    frames = ("{a}{g}{b}", "{a}{g}{b}", "{a}{g}{b}", "{l}（{a}{g}{b}）", "{l}({a}{g}{b})", "{l}：{a}{g}{b}", "{l} {a}{g}{b}", "{l}[{a}{g}{b}]", "{l}　{a}{g}{b}", "{l}検査 {a}{g}{b}")
    if said[0] is said[1] and rng.random() < 0.45:
        shared = rng.choice(("陰性", "(-)", "（－）", "-", "陰性") if said[0] is N else ("陽性", "(+)", "＋") if said[0] is P else ("判定保留", "(±)"))
        facts = [infection_fact(n, shared.strip(BRACKETS), s, day=day) for n, s in zip((first, second), said, strict=True)]
        gap = rng.choice(("、", "・", "/", "，", " / ", "/", "と", ", "))
        together = rng.choice(("いずれも", "ともに", "", "", "：", " ", "は")) if "性" in shared else rng.choice(("", " ", "："))
        names = rng.choice(("{l}({a}{g}{b}){t}{s}", "{l}（{a}{g}{b}）{t}{s}", "{l}：{a}{g}{b}{t}{s}", "{l} {a}{g}{b}{t}{s}", "{a}{g}{b}{t}{s}", "{l}（{a}{g}{b}{t}{s}）"))
        return names.format(l=label, a=first, b=second, g=gap, t=together or (" " if shared[0] in "-" else ""), s=shared), facts
    return rng.choice(frames).format(l=label, a=a, b=b, g=gap), facts


def group(rng: random.Random, names: Names, ctx: Context, day: str = "") -> Part:
    """Names in a list with syphilis tests in brackets and one result for all of them."""
    hand = rng.choice(HANDS)
    firsts = rng.choice(([0, 2], [0, 2], [0, 2], [0], [0, 1, 2], [2], [0, 2, 5]))
    tests = [hand[n] for n in firsts]
    cut = rng.choice(("・", "・", "、", "/", "，", "／", ", ", " "))
    inner = rng.choice(("、", "・", "/", "，", "," , "／", " "))
    pair = [rng.choice(_STS), rng.choice(_TREPONEMA)][: rng.choice((2, 2, 2, 1))]
    if rng.random() < 0.15:
        pair.reverse()
    shape = rng.choice(("{l}({p})", "{l}（{p}）", "{l}({p})", "{l}[{p}]", "{p}", "{l}：{p}", "{l} {p}"))
    bracketed = shape.format(l=rng.choice(_SYPHILIS), p=inner.join(pair))
    pieces = [*tests, bracketed]
    names_in = [*tests, *pair]
    if rng.random() < 0.2 and not any("HIV" in name for name in names_in):
        pieces.append("HIV")
        names_in.append("HIV")
    said = N if rng.random() < 0.88 else P
    word = rng.choice(("陰性", "陰性", "陰性", "(-)", "（－）", "negative", "－") if said is N else ("陽性", "陽性", "(+)", "（＋）"))
    how = rng.choice(_ALL).format(w=word)
    if how == "-" or how[0].isascii() and how[0].isalpha():
        how = " " + how
    text = cut.join(pieces) + how
    facts = [infection_fact(n, word.strip(BRACKETS), said, day=day) for n in names_in]
    if len(set(names_in)) < len(names_in) or any(a != b and a in b for a in names_in for b in names_in) or problems([Line(text, facts)]):
        return syphilis_pair(rng, day)
    return text, facts


_SOURCES = (
    "前医（{d}）：", "前医({d})：", "前医データ（{d}）", "{clinic}（{d}）：", "{clinic}での検査（{d}）で", "紹介元 {d}：", "他院{d} ", "前医：", "前医にて", "{clinic}：", "紹介状より：", "持参データ（{d}）：", "{d} {clinic} ", "かかりつけ医（{d}）：", "健診（{d}）：", "献血時（{d}）", "妊婦健診（{d}）：", "当院{d}：", "前回入院時（{d}）：", "透析施設（{d}）：",
    "{d}前医採血 ", "術前検査（{d}、前医）：", "感染症（{d} {clinic}）：", "感染症：前医{d} ", "{d}時点 ", "直近（{d}）：", "HD導入時（{d}）：", "化学療法前（{d}）：", "{d}　入院時感染症　",
)  # fmt: skip
_SOURCE_TAILS = ("", "", "", "（{d}）", "（前医、{d}）", "（{d} {clinic}）", "（{clinic}にて）", "（{d}確認）", "({d})", "　※{clinic}より", "（3か月以内）", "、当院では未検", "。当院再検せず", "（前医結果参照）")


def elsewhere(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Results of another hospital with their date, before or after them."""
    day = day_text(rng, ctx, 0.05, 0.25)
    before = rng.random() < 0.7
    frame = rng.choice(_SOURCES) if before else rng.choice(_SOURCE_TAILS[3:9])
    said = frame.format(d=day, clinic="\x01").replace("\x01", expand(rng, "{clinic}", ctx))
    dated = day if "{d}" in frame else ""
    body = _body(rng, names, ctx, dated)
    tail = rng.choice(("", "", "", "。", "、当院では未検", "、再検不要", "（コピー添付）", "とのこと", "と記載あり")) if before else ""
    line = put(said, body, tail) if before else put(rng.choice(("", "感染症：", "感染症 ", "【感染症】")), body, said)
    return restyle(rng, ctx, [line])


def _body(rng: random.Random, names: Names, ctx: Context, day: str) -> Part:
    chance = rng.random()
    if chance < 0.3:
        return group(rng, names, ctx, day)
    if chance < 0.5:
        hand = rng.choice(HANDS)
        parts: list[Part] = []
        for n in rng.choice(([0, 2], [0], [0, 2], [2])):
            shown, value = shown_result(rng, said := _results(rng, 0.12, 1)[0])
            parts.append((_glued(hand[n], shown), [infection_fact(hand[n], value, said, day=day)]))
        return joined([*parts, syphilis_pair(rng, day)], rng.choice(("、", " ", "　", "・" if rng.random() < 0.3 else "，")))
    return joined(screening(rng, names, ctx, day), rng.choice(("、", " ", ", ", "　")))


_LIMITS = {
    0: ("<0.05", "0.05未満", "0-0.04", "<1.0", "0.05"), 1: ("<10.0", "10未満", "10.0"), 2: ("<1.0", "1.0未満", "0.0-0.9", "1.00"), 3: ("<1.0", "1.0未満", "1.0", "1倍未満"), 4: ("<1.0", "10未満", "1.0", "80倍未満"), 5: ("<1.0", "1.0未満", "1.00"),
}  # fmt: skip
_AMOUNT_FRAMES = (
    "{n} {a}{u}（{w}）", "{n} {a}{u}({w})", "{n}：{a}{u} {w}", "{n} {w} {a}{u}", "{n} {w}（{a}{u}）", "{n}({w}) {a}{u}", "{n} {a}{u} {w}（基準{r}）", "{n}：{w}（{a}{u}、基準値{r}）", "{n} {a}{u}(C.O. {r}) {w}", "{n} {a}{u}、{w}", "{n} {w}、{a}{u}", "{n} {a}{u}（基準 {r}）{w}", "{n} {a}{u} (cutoff {r}) {w}", "{n}={a}{u}→{w}", "{n} {a} {u} {w}",
)  # fmt: skip


def amounts(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Cut-off indices and titres with the qualitative result: HCV抗体 12.3 COI（陽性）, TPHA 640倍(+)."""
    head, day = opening(rng, ctx, 0.6)
    frame = rng.choice(_AMOUNT_FRAMES)
    parts: list[Part] = []
    for n, name in chosen_tests(rng, names)[: rng.choice((1, 2, 3, 4))]:
        said = rng.choices((P, N), (35, 65))[0]
        amount, unit = quantity(rng, n, said)
        if n in (3, 4) and said is P and rng.random() < 0.7:
            amount = str(rng.choice((1, 2, 4, 8, 16, 32, 64) if n == 3 else (80, 160, 320, 640, 1280, 2560, 5120)))
            unit = rng.choice(("倍", "倍", "x", "R.U." if n == 3 else "倍"))
        if "未満" in amount or "以" in amount or rng.random() < 0.12:
            unit = ""
        word = rng.choice(("陰性", "陰性", "-", "(-)") if said is N else ("陽性", "陽性", "+", "(+)"))
        if "({w})" in frame or "（{w}）" in frame or "→" in frame:
            word = word.strip("()")
        elif word in "-+":
            word = f"({word})"
        glue = " " if unit and unit[0].isascii() and rng.random() < 0.6 and "{a}{u}" in frame else ""
        limit = rng.choice(_LIMITS.get(n, _LIMITS[2]))
        text = frame.format(n=name, a=amount, u=glue + unit, w=word, r=limit).replace("  ", " ")
        parts.append((text, [infection_fact(name, amount, said, unit, day)]))
    if rng.random() < 0.5 or len(parts) == 1:
        return restyle(rng, ctx, [put(head, joined(parts, rng.choice(("、", "　", " / ", "。", "，"))))])
    bullet = rng.choice(("", "・", "　", "- "))
    return restyle(rng, ctx, ([Line(head.strip())] if head else []) + [put(bullet, part) for part in parts])


def among_chemistry(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Chemistry with TP (total protein) and the syphilis test TP, each on its own line or in its own bracket."""
    day = day_text(rng, ctx, 0.3) if rng.random() < 0.35 else ""
    protein = f"{rng.uniform(5.2, 8.2):.1f}"
    unit = rng.choice(("", " g/dL", "g/dL", " g/dl"))
    parts: list[Part] = []
    for item in panel(rng, names, 2, 5):
        if item.name not in ("TP", "総蛋白", "総タンパク"):
            r = result(rng, item, 0.0)
            parts.append((f"{r.name} {r.value}", [Fact(Kind.LAB, {Field.NAME: r.name, Field.VALUE: r.value} | ({Field.DATE: day} if day else {}))]))
    fields = {Field.NAME: "TP", Field.VALUE: protein} | ({Field.UNIT: unit.strip()} if unit else {}) | ({Field.DATE: day} if day else {})
    parts.insert(rng.randint(0, len(parts)), (f"TP {protein}{unit}", [Fact(Kind.LAB, fields)]))
    title = rng.choice(("生化学", "採血", "血液検査", "検査", "術前検査", "Lab", "入院時検査")) + (rng.choice(("（{}）", "({})", " {}")).format(day) if day else "")
    first = put(title, rng.choice(("：", ": ", " ", "　")), joined(parts, rng.choice(("、", " ", ", ", "　"))))
    body = syphilis_pair(rng, day) if rng.random() < 0.5 else _body(rng, names, ctx, day)
    second = put(rng.choice(("感染症：", "感染症 ", "", "血清：", "【感染症】", "感染症検査 ")), body)
    lines = [first, second]
    if rng.random() < 0.25:
        lines.append(put(yes_no(rng, rng.choice(("HBc抗体", "HTLV-1抗体", "HBV-DNA", "不規則抗体", "MRSA鼻腔")), day, 0.2)) if rng.random() < 0.8 else Line(decoy(rng, ctx)))
    return restyle(rng, ctx, [line for line in lines if not problems([line])] or [second])


# Conclusions: tests (which, result), text after them, disease, assertion. Without a disease the text states none.
_S, _T, _A, _B, _C, _H = 3, 4, 0, 1, 2, 5
_PAST, _PRESENT, _SUSPECTED, _ABSENT = Assertion.PAST, Assertion.PRESENT, Assertion.SUSPECTED, Assertion.ABSENT
_CONCLUSIONS: tuple[tuple[tuple[tuple[int, InfectionResult], ...], str, str, Assertion], ...] = (
    (((_S, N), (_T, P)), "：[梅毒]（治療済み）", "梅毒", _PAST), (((_S, N), (_T, P)), " → [梅毒]治療後", "梅毒", _PAST), (((_S, N), (_T, P)), "、[梅毒]（治療済み）と考える", "梅毒", _PAST), (((_S, N), (_T, P)), "（[陳旧性梅毒]）", "陳旧性梅毒", _PAST), (((_S, N), (_T, P)), "　[梅毒]既往（20年前に治療）", "梅毒", _PAST),
    (((_S, N), (_T, P)), "、[梅毒]の既往（治癒）", "梅毒", _PAST), (((_S, N), (_T, P)), "：[梅毒]既感染、治療歴あり", "梅毒", _PAST), (((_S, P), (_T, P)), "：[梅毒]", "梅毒", _PRESENT), (((_S, P), (_T, P)), "、[梅毒]と診断", "梅毒", _PRESENT), (((_S, P), (_T, P)), "→[活動性梅毒]、AMPC開始予定", "活動性梅毒", _PRESENT), (((_S, P), (_T, P)), "：[潜伏梅毒]として治療", "潜伏梅毒", _PRESENT),
    (((_S, P), (_T, N)), "、生物学的偽陽性", "", _PRESENT), (((_S, P), (_T, N)), "：BFPと考える", "", _PRESENT), (((_S, N), (_T, N)), "：[梅毒]は否定的", "梅毒", _ABSENT), (((_S, N), (_T, N)), "、[梅毒]なし", "梅毒", _ABSENT), (((_A, P),), "：[B型慢性肝炎]", "B型慢性肝炎", _PRESENT), (((_A, P),), "、[B型肝炎キャリア]", "B型肝炎キャリア", _PRESENT), (((_A, P), (_C, N)), "、[B型肝炎]フォロー中", "B型肝炎", _PRESENT),
    (((_C, P),), "（[C型肝炎]、DAA治療後SVR）", "C型肝炎", _PAST), (((_C, P),), "：[C型肝炎]治療済み（SVR）", "C型肝炎", _PAST), (((_A, N), (_C, P)), "、[C型肝炎]治癒後", "C型肝炎", _PAST), (((_C, P),), "、[C型慢性肝炎]として消化器内科通院中", "C型慢性肝炎", _PRESENT), (((_C, P),), "、[C型肝炎]疑いHCV-RNA提出", "C型肝炎", _SUSPECTED), (((_H, P),), "、[HIV感染症]疑い、確認検査提出", "HIV感染症", _SUSPECTED),
    (((_A, N), (_B, P)), "：ワクチン後", "", _PRESENT), (((_A, N), (_B, P)), "、既感染パターン", "", _PRESENT), (((_A, N), (_C, N), (_S, N), (_T, P)), "（[梅毒]：治療済み）", "梅毒", _PAST), (((_A, N), (_C, N), (_S, N), (_T, P)), "。[梅毒]治療後", "梅毒", _PAST), (((_A, N), (_C, N)), "、[ウイルス性肝炎]は否定的", "ウイルス性肝炎", _ABSENT), (((_H, N),), "、陰性確認3か月後再検", "", _PRESENT), (((_H, P),), "、スクリーニング偽陽性の可能性", "", _PRESENT),
)  # fmt: skip


def concluded(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Results and what the doctor concludes: RPR(-) TPHA(+)：梅毒（治療済み）."""
    tests, after, disease, assertion = rng.choice(_CONCLUSIONS)
    hand = rng.choice(HANDS)
    head, day = opening(rng, ctx, 0.6)
    amount = rng.random() < 0.2
    parts: list[Part] = []
    for n, said in tests:
        name = rng.choice(_STS) if n == _S else rng.choice(_TREPONEMA) if n == _T else hand[n]
        if amount and said is P:
            number, unit = quantity(rng, n, said)
            unit = "" if "以" in number else unit
            parts.append((f"{name} {number}{unit}(+)", [infection_fact(name, number, said, unit, day)]))
        else:
            shown = rng.choice(_MARKS[said])
            parts.append((_glued(name, shown), [infection_fact(name, shown.strip(BRACKETS), said, day=day)]))
    text, facts = joined(parts, rng.choice(("、", " ", "　", "，", ", ")))
    after = after.replace("[", "").replace("]", "")
    if disease:
        facts = [*facts, Fact(Kind.CONDITION, {Field.NAME: disease}, assertion)]
    line = put(head, (text + after, facts))
    return restyle(rng, ctx, [line]) if not problems([line]) else [put(syphilis_pair(rng))]


_STEPS = (("受傷時", "1か月後", "3か月後", "6か月後"), ("曝露時", "6週後", "3か月後"), ("初回", "再検"), ("前医", "当院"), ("入院時", "今回"), ("初診時", "治療後"), ("妊娠初期", "妊娠後期"), ("前回", "今回"))


def repeated(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """The same tests on several days, one line a day."""
    steps = rng.choice(_STEPS)
    count = rng.randint(2, len(steps))
    hand = rng.choice(HANDS)
    which = rng.choice(([2], [0, 2], [0, 2, 5], [3, 4], [5], [3], [0]))
    lines = []
    bullet = rng.choice(("", "", "・", "　"))
    form, days = day_form(rng, ctx), sorted(past(rng, ctx, 0.1) for _ in range(count))
    for step, taken in zip(steps, days, strict=False):
        day = written(form, taken)
        dated = rng.choice((f"{step}（{day}）：", f"{step}({day}) ", f"{day} {step} ", f"{day}（{step}）"))
        parts: list[Part] = []
        for n in which:
            shown = rng.choice(_MARKS[said := _results(rng, 0.2, 1)[0]])
            parts.append((_glued(hand[n], shown), [infection_fact(hand[n], shown.strip(BRACKETS), said, day=day)]))
        lines.append(put(bullet + dated, joined(parts, rng.choice(("、", " ", "　")))))
    return restyle(rng, ctx, lines)


def titled(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """A group under a heading, with a test that was not done or a laboratory result beside it."""
    head, day = opening(rng, ctx, 0.8)
    parts = [_body(rng, names, ctx, day)]
    if rng.random() < 0.3:
        parts.append((rng.choice(("HTLV-1は未検", "HTLV-1：提出中", "COVID-19抗原 未施行", "結核は問診上なし", "他は未検", "MRSA 監視培養提出")), []))
    if rng.random() < 0.25:
        name = rng.choice(("HBc抗体", "HBV-DNA", "HTLV-1抗体", "HCV-RNA"))
        parts.append((f"{name} {(mark := rng.choice(('陰性', '陽性', '検出せず')))}", [lab(Result(name, mark), day)]))
    line = put(head, joined(parts, rng.choice(("、", "　", "。", " / "))), rng.choice(("", "", "", "。", "（同意あり）", "。標準予防策で対応", "、手術室連絡済")))
    return restyle(rng, ctx, [line]) if not problems([line]) else [put(syphilis_pair(rng))]


WRITERS: list[tuple[float, Writer]] = [
    (2.4, titled), (1.3, elsewhere), (1.2, amounts), (0.8, among_chemistry), (1.2, concluded), (0.6, repeated),
]  # fmt: skip
