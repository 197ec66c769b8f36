"""Section writers of infection screening tests: HBs antigen and antibody, HCV, syphilis (RPR/STS and TP), HIV.

Other viral tests (HBc antibody, HBV-DNA, HTLV-1) stand among them and are laboratory results.
"""

import random

from schemas.statement import Field, InfectionResult, Kind
from training.corpus.core import Context, Fact, Line, Writer
from training.corpus.lab_marks import blood_group, yes_no
from training.corpus.lab_values import (
    Part,
    Result,
    analyte,
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

P, N, I = InfectionResult.POSITIVE, InfectionResult.NEGATIVE, InfectionResult.INDETERMINATE  # noqa: E741

# one writer's way of naming the six tests: HBs antigen, HBs antibody, HCV, RPR, TP, HIV
_HANDS = tuple(
    tuple(row.split("|"))
    for row in """
HBs抗原|HBs抗体|HCV抗体|RPR|TPHA|HIV
HBsAg|HBsAb|HCVAb|RPR|TPHA|HIV
HBs-Ag|HBs-Ab|HCV-Ab|RPR|TP|HIV-Ab
HBs Ag|HBs Ab|HCV Ab|STS|TPHA|HIV Ag/Ab
HBs抗原定性|HBs抗体定性|HCV抗体定性|RPR定性|TP抗体定性|HIV抗原・抗体
HBs抗原定量|HBs抗体定量|HCV抗体|RPR定量|TPLA|HIV1/2抗体
HBV|HBs抗体|HCV|梅毒|TP抗体|HIV
HBs-抗原|HBs-抗体|HCV-抗体|ガラス板法|梅毒TP抗体|HIV抗体
HBs抗原|HBs抗体|HCV抗体|梅毒RPR|梅毒TP|HIVスクリーニング
HBsAg|HBsAb|anti-HCV|梅毒STS|梅毒TPHA|HIV-1/2
ＨＢｓ抗原|ＨＢｓ抗体|ＨＣＶ抗体|ＲＰＲ|ＴＰＨＡ|ＨＩＶ
HBs 抗原|HBs 抗体|HCV 抗体|RPR法|TP抗体|HIV Ag/Ab
HBs抗原|抗HBs抗体|抗HCV抗体|RPR|TPAb|抗HIV抗体
HBAg|HBAb|HCV|ワ氏|TPHA|HIV
HBs抗原(CLIA)|HBs抗体(CLIA)|HCV抗体(CLIA)|RPR(LA)|TP抗体(LA)|HIV(CLIA)
HBs抗原|HBs抗体|HCV抗体|梅毒脂質抗体|梅毒トレポネーマ抗体|HIV抗原抗体
HBs抗原|HBs抗体|HCV|RPR|TP|HIV""".strip().splitlines()
)
_WORN = (
    "HBc抗体", "HBcAb", "HBc-Ab", "IgM-HBc抗体", "HBV-DNA", "HCV-RNA", "HTLV-1", "HTLV-1抗体", "HTLV-I", "HBe抗原",
    "HBe抗体", "HCVコア抗原", "ATLA", "風疹抗体", "MRSA", "COVID-19抗原", "T-SPOT", "コロナ抗原",
)  # fmt: skip
_NEGATIVE = (
    "(-)", "(-)", "（-）", "（－）", "（−）", "陰性", "陰性", "－", "-", "neg", "negative", "(ー)", "Neg", "Negative",
    "（陰性）", "(陰性)", "[-]", "−",
)  # fmt: skip
_POSITIVE = (
    "(+)", "(+)", "（+）", "（＋）", "陽性", "陽性", "＋", "+", "pos", "positive", "Positive", "（陽性）", "(1+)",
    "2+", "強陽性", "(陽性)",
)  # fmt: skip
_UNCLEAR = ("(±)", "±", "（±）", "判定保留", "弱陽性", "疑陽性", "擬陽性", "保留")
_WORDS = {
    N: ("陰性", "(-)", "（－）", "neg", "陰性", "-", "(-)", "－", "negative", "（-）"),
    P: ("陽性", "(+)", "（＋）", "陽性", "pos", "positive", "＋"),
}
# quantities: units, negative range, positive range, decimals
_AMOUNTS = {
    0: (("IU/mL", "C.O.I", "COI", "S/CO", "IU/ml"), (0.0, 0.04), (0.06, 4800.0), 2),
    1: (("mIU/mL", "mIU/ml", "IU/L"), (0.0, 9.8), (10.0, 980.0), 1),
    2: (("COI", "S/CO", "C.O.I.", "C.O.I"), (0.0, 0.9), (1.1, 24.0), 2),
    3: (("R.U.", "RU", "倍", "SU/mL"), (0.0, 0.9), (1.0, 128.0), 1),
    4: (("COI", "S/CO", "T.U.", "TU", "U/mL"), (0.0, 0.9), (1.2, 260.0), 1),
    5: (("COI", "S/CO", "C.O.I"), (0.0, 0.9), (1.2, 40.0), 2),
}
_BRACKETS = "()（）[]"


def _fact(name: str, value: str, said: InfectionResult | None, unit: str = "", day: str = "") -> Fact:
    fields = {Field.NAME: name, Field.VALUE: value}
    if unit:
        fields[Field.UNIT] = unit
    if day:
        fields[Field.DATE] = day
    return Fact(Kind.INFECTION, fields, result=said)


def _outcome(rng: random.Random, positive: float) -> InfectionResult:
    roll = rng.random()
    return P if roll < positive else I if roll < positive + 0.03 else N


def _shown(rng: random.Random, said: InfectionResult) -> tuple[str, str]:
    """A result marker as laid out and the value inside its brackets."""
    shown = rng.choice(_POSITIVE if said is P else _NEGATIVE if said is N else _UNCLEAR)
    return shown, shown.strip(_BRACKETS)


def _chosen(rng: random.Random, names: Names) -> list[tuple[int, str]]:
    """(which of the six, name as written) of one screening, in the usual order or shuffled."""
    hand = list(rng.choice(_HANDS))
    if rng.random() < 0.25:
        hand = [rng.choice(_HANDS)[n] for n in range(6)]
    which = rng.choice(
        (
            [0, 2, 3, 4],
            [0, 2, 3, 4],
            [0, 2, 3, 4, 5],
            [0, 2],
            [0, 2, 4],
            [0, 2, 3, 4],
            [0, 1, 2],
            [0, 2, 5],
            [0, 1, 2, 3, 4, 5],
            [3, 4],
            [0],
            [2],
            [0, 1],
            [4],
            [5],
            [0, 2, 3],
        )
    )
    pairs = [(n, hand[n]) for n in which]
    if rng.random() < 0.12:
        rng.shuffle(pairs)
    if rng.random() < 0.25:
        at = rng.randrange(len(pairs))
        pairs[at] = (-1, names.infection(rng))
    found: dict[str, tuple[int, str]] = {}
    for n, name in pairs:
        if not any(name in other or other in name for other in found):
            found[name] = (n, name)
    return list(found.values())


_BOUNDED = (
    "<0.05", "<0.1", "<1.0", "＜0.5", "<0.02", "0.05未満", "<2.0", "1.0未満", "0.1以下", "<10.0", "≦0.9", "<0.005",
)  # fmt: skip


def _quantity(rng: random.Random, which: int, said: InfectionResult) -> tuple[str, str]:
    units, low, high, decimals = _AMOUNTS[which if which in _AMOUNTS else 2]
    span = high if said is not N else low
    text = f"{span[0] + (span[1] - span[0]) * rng.random() ** 3:.{rng.choice((decimals, decimals, max(0, decimals - 1)))}f}"
    if said is N and rng.random() < 0.3:
        text = rng.choice(_BOUNDED)
    if said is P and rng.random() < 0.08:
        text = rng.choice((">1000", "≧100", "＞250", ">128", "1,240", "100以上", "2,000以上"))
    return text, rng.choice(units)


_QUANTITY_FORMS = (
    "{n}{s}{a}{u}", "{n}{s}{a}{u}", "{n}{s}{w}({a}{u})", "{n}{s}{w}（{a}{u}）", "{n}{s}{a}{u} {w}",
    "{n}{s}{a}{u}({w})", "{n}{s}{w} {a}{u}", "{n}{s}{w}、{a}{u}", "{n}{s}{a}{u}（{w}）", "{n}({w}) {a}{u}",
    "{n}[{w}:{a}{u}]",
)  # fmt: skip


def _piece(
    rng: random.Random, ctx: Context, which: int, name: str, positive: float, day: str, quantities: float
) -> Part:
    """One test with its result."""
    said = _outcome(rng, positive)
    sep = ctx.habit(rng, "inf_sep", "", "", "", "：", ": ", " ", " ", "　", ":", "=", " : ")
    shown, value = _shown(rng, said)
    if rng.random() >= quantities:
        if sep == "" and (
            name.isascii()
            and shown.isascii()
            and shown[0].isalpha()
            or shown[0] in "-+±N0123456789"
            and name[-1] in "-0123456789"
        ):
            sep = " "
        if shown[0] in "(（[" and rng.random() < 0.5:
            sep = ""
        return name + sep + shown, [_fact(name, value, said, day=day)]
    amount, unit = _quantity(rng, which, said)
    if unit and ("未満" in amount or "以" in amount) or rng.random() < 0.3:
        unit = ""
    form = rng.choice(_QUANTITY_FORMS)
    spoken = "{w}" in form
    word = rng.choice([w for w in _WORDS.get(said, ("判定保留", "±", "疑陽性")) if "(" not in w and "（" not in w])
    if "{w} {a}" in form or "{w}、" in form or "{u} {w}" in form:
        word = {N: "陰性", P: "陽性", I: "判定保留"}[said]
    if not sep and ("{s}{a}" in form or word[0].isascii() and name.isascii()):
        sep = " "
    glue = " " if unit and rng.random() < 0.6 else ""
    text = form.format(n=name, s=sep, a=amount, u=glue + unit if unit else "", w=word)
    return text, [_fact(name, amount, said if spoken else None, unit, day)]


_TITLES = (
    "感染症", "感染症", "感染", "感染症検査", "術前感染症", "感染症スクリーニング", "入院時感染症", "感染症検査結果",
    "ウイルス検査", "感染症マーカー", "Infection", "術前検査 感染症", "ウイルスマーカー", "感染症（術前）",
    "肝炎ウイルス", "感染情報", "感染症関連", "感染症チェック", "血清学的検査", "Virus marker", "STD", "感染症セット",
    "輸血前感染症",
)  # fmt: skip
_FRAMES = (
    "{}：", "{}: ", "{} ", "【{}】", "＜{}＞", "[{}]", "■{} ", "・{}：", "# {} ", "◎{}：", "({}) ", "{}）", "{}　",
    "{}→", "* {}: ", "〔{}〕", "●{}：", "○{} ", "{}は",
)  # fmt: skip
_DATED = (
    "{t}({d})", "{t}（{d}）", "{t} {d}", "{d} {t}", "{t}（{d}採血）", "{t}({d}検査)", "{d}{t}", "{t}（前医{d}）",
    "{t}（{d} 当院）",
)  # fmt: skip


def _opening(rng: random.Random, ctx: Context, share: float = 0.75) -> tuple[str, str]:
    """The text before the results and the date in it."""
    if rng.random() >= share:
        return "", ""
    title = rng.choice(_TITLES)
    day = day_text(rng, ctx, 0.25, 0.2) if rng.random() < 0.35 else ""
    if day:
        title = rng.choice(_DATED).format(t=title, d=day)
    return rng.choice(_FRAMES).format(title), day


_NOT_TESTED = (
    "は未検", " 未検", "：未検", "：結果待ち", " 未施行", "：同意取得後", "：提出中", "は検査せず", "(未)", " 未",
)  # fmt: skip


def _list(rng: random.Random, names: Names, ctx: Context, day: str) -> list[Part]:
    positive = rng.choice((0.0, 0.1, 0.1, 0.25, 0.45))
    quantities = rng.choice((0.0, 0.0, 0.0, 0.1, 0.5, 1.0))
    parts = [_piece(rng, ctx, n, name, positive, day, quantities) for n, name in _chosen(rng, names)]
    if rng.random() < 0.25:
        parts.insert(rng.randint(0, len(parts)), yes_no(rng, rng.choice(_WORN), day, 0.25))
    if rng.random() < 0.15:
        hand = rng.choice(_HANDS)
        free = [n for n in (hand[5], hand[1], "HIV", "HTLV-1") if not any(n in t for t, _ in parts)]
        if free:
            parts.append(
                (
                    rng.choice(free) + rng.choice(_NOT_TESTED),
                    [],
                )
            )
    return parts


_ROW_ENDS = (
    "（過去に治療済）", " 既感染パターン", "、他異常なし", "。", "（外注）", " ※HIVは同意なく未検", "（前医データ）",
    "。術前問題なし", " (HBVワクチン歴あり)", "、消化器内科コンサルト予定", "。標準予防策",
)  # fmt: skip


def in_a_row(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    head, day = _opening(rng, ctx)
    body = joined(
        _list(rng, names, ctx, day),
        rng.choice((" ", " ", "、", ", ", "，", "　", "・", " / ", "/", "  ", "; ", ",", "")),
    )
    if body[0].count(")") + body[0].count("）") < 2 and "性" not in body[0]:
        body = joined(_list(rng, names, ctx, day), rng.choice((" ", "、", ", ", "　", " / ")))
    tail = ""
    if rng.random() < 0.2:
        tail = rng.choice(_ROW_ENDS)
    if rng.random() < 0.15:
        tail += rng.choice(("、", "　", " ")) + decoy(rng, ctx)
    lines = [Line(head.rstrip()), put(body, tail)] if head and rng.random() < 0.2 else [put(head, body, tail)]
    if rng.random() < 0.2:
        lines.append(put(blood_group(rng, "")))
    return restyle(rng, ctx, lines)


def one_a_line(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    head, day = _opening(rng, ctx, 0.85)
    bullet = rng.choice(("", "・", "- ", "  ", "　", "* ", "\t"))
    lines = [put(bullet, part) for part in _list(rng, names, ctx, day)]
    if head:
        lines.insert(0, Line(head.strip()))
    if rng.random() < 0.15:
        lines.insert(
            rng.randint(1, len(lines)),
            Line(
                bullet
                + rng.choice(
                    ("HIV：未検", "結核：なし", "MRSA保菌：不明", "感染症既往なし", "ワクチン：済", "HTLV-1：結果待ち")
                )
            ),
        )
    return restyle(rng, ctx, lines)


_TOGETHER = (
    "", "", "：", " ", "いずれも", "：すべて", "は全て", "ともに", "：いずれも", " all ", "は", "　", "は共に",
    "とも", "：全て", " いずれも", "→",
)  # fmt: skip


def shared(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Several names, one result: HBs抗原・HCV抗体陰性, HBsAg/HCVAb/RPR/TPHA：すべて陰性, or a slash list -/-/+."""
    head, day = _opening(rng, ctx, 0.6)
    pairs = _chosen(rng, names)
    cut = rng.choice(("・", "、", "/", " / ", ", ", "，", "／", "，", "と", " "))
    if len(pairs) > 1 and rng.random() < 0.3 and cut.strip() in ("/", "・", "／"):
        marks = [rng.choice((("-", N),) * 5 + (("+", P), ("±", I))) for _ in pairs]
        back = rng.choice(("/", "/", "、", " "))
        wrap = rng.choice(("{}", "({})", "{}", "（{}）"))
        text = (
            cut.join(n for _, n in pairs)
            + rng.choice((" ", "：", ": ", " = "))
            + back.join(wrap.format(m) for m, _ in marks)
        )
        facts = [_fact(name, m, said, day=day) for (_, name), (m, said) in zip(pairs, marks, strict=True)]
        return restyle(rng, ctx, [put(head, (text, facts))])
    said = P if rng.random() < 0.12 else N
    shown = rng.choice(_WORDS[said])
    how = rng.choice(_TOGETHER)
    if shown.isascii() and how in ("", "いずれも"):
        how += "" if shown[0] == "(" else " "
    value = shown.strip(_BRACKETS)
    text = cut.join(n for _, n in pairs) + how + shown
    facts = [_fact(name, value, said, day=day) for _, name in pairs]
    parts: list[Part] = [(text, facts)]
    if rng.random() < 0.3:
        used = text
        others = [
            p for p in _chosen(rng, names) if not any(p[1] in n or n in p[1] for _, n in pairs) and p[1] not in used
        ]
        parts += [_piece(rng, ctx, n, name, 0.5, day, 0.2) for n, name in others[:2]]
    if rng.random() < 0.15:
        parts.append((rng.choice(("HIVは未検", "HTLV-1は提出中", "他は未検", "HIV未")), []))
    return restyle(rng, ctx, [put(head, joined(parts, rng.choice(("、", "，", " ", "。", "　"))))])


_PROSE = (
    "感染症は{p}。", "術前感染症検査で{p}。", "{d}の採血で{p}。", "{p}を認め、HBV-DNAを追加提出。",
    "{p}であり、既感染と考える。", "{d}前医にて{p}と指摘された。", "{p}、手術室へ連絡済。",
    "{p}のため針刺し時対応を確認。", "免疫抑制療法前スクリーニング：{p}。", "化学療法前に{p}を確認。",
    "妊娠初期検査：{p}。", "献血で{p}と言われた。", "入院時検査にて{p}。その他特記なし。", "{p}（{d}）。",
    "{x}、{p}。", "肝障害精査で{p}。", "{p}だが無症状。", "{p}のためHBV-DNA提出。", "{p}、肝臓内科紹介。",
    "梅毒治療歴あり、{p}。", "{p}でありワクチン接種を勧める。", "針刺し事故。患者側 {p}。", "{p}は確認済み（{d}）。",
    "輸血前検査 {p}", "透析導入時 {p}", "問診：肝炎既往なし、{p}", "{d} {p}", "{p}。HBVワクチン接種歴あり。",
    "内視鏡前：{p}。", "{p} 感染対策:標準予防策", "感染症に関しては{p}、経過観察。",
)  # fmt: skip


def prose(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    template = rng.choice(_PROSE)
    day = day_text(rng, ctx, 0.1, 0.25) if "{d}" in template else ""
    before, after = template.split("{p}")
    body = joined(_list(rng, names, ctx, day)[: rng.randint(1, 5)], rng.choice(("、", "、", ", ", " ")))
    note = {"d": day, "x": decoy(rng, ctx)}
    lead = rng.choice(("", "", "", "・", "O) ", "A) ", "# "))
    return restyle(rng, ctx, [put(lead, before.format(**note), body, after.format(**note))])


def table(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Columns: name, amount, unit, judgement in one of several orders; one date above or two dates in the head."""
    form = day_form(rng, ctx)
    between = rng.choice(("\t", "  ", "　", " | ", "   ", ",", " "))
    pairs = _chosen(rng, names)
    if rng.random() < 0.3:
        days = [written(form, d) for d in sorted({past(rng, ctx, 0.2), past(rng, ctx, 0.0)})]
        lines = [Line(between.join([rng.choice(("感染症", "項目", "")), *days]))]
        for _, name in pairs:
            marks = [_shown(rng, _outcome(rng, 0.15)) for _ in days]
            facts = []
            for (shown, value), day in zip(marks, days, strict=True):
                facts.append(_fact(name, value, P if shown in _POSITIVE else N if shown in _NEGATIVE else I, day=day))
            lines.append(put((between.join([name, *(shown for shown, _ in marks)]), facts)))
        return restyle(rng, ctx, lines)
    day = written(form, past(rng, ctx)) if rng.random() < 0.4 else ""
    lines = (
        [Line(rng.choice(("感染症 {}", "【感染症（{}）】", "採血日：{}", "{} 感染症検査", "■感染症({})")).format(day))]
        if day
        else [Line(rng.choice(("【感染症】", "感染症", "＜感染症検査＞")))]
    )
    order = rng.choice(("naw", "nwa", "nauw", "nauwr", "naur", "nw", "nwau", "nau"))
    for n, name in pairs:
        said = _outcome(rng, 0.12)
        amount, unit = _quantity(rng, n, said)
        amount = amount.replace(",", "") if "," in between else amount
        if "u" not in order or "未" in amount or "以" in amount:
            unit = ""
        shown, value = _shown(rng, said)
        cells = {"n": name, "a": amount, "u": unit, "w": shown, "r": rng.choice(("(0.00-0.99)", "0.05未満", "(-)"))}
        text = between.join(cells[key] for key in order if cells[key])
        fact = _fact(name, amount if "a" in order else value, said if "w" in order else None, unit, day)
        lines.append(put((text, [fact])))
    return restyle(rng, ctx, lines)


_UNSTATED = (
    "感染症：未検", "感染症 提出中", "{a}、{b} 提出", "{a}は未検", "感染症（{a}、{b}）結果待ち",
    "感染症：異常なしと言われた", "感染症検査：問題なし", "感染症：特記事項なし", "次回{a}、{b}を確認",
    "{a}/{b}：未検", "感染症チェック済", "{a}：", "{a}（　）{b}（　）", "術前に{a}提出予定", "感染症なし",
    "肝炎ウイルスマーカーは検査歴なし", "B型肝炎ワクチン3回接種済", "{a}測定を勧めたが同意得られず",
    "HIV検査は本人希望なし", "感染症：前医に問い合わせ中", "{a}、{b}は異常なし", "STD検査：外注", "□{a} □{b} □HIV",
    "感染症：不明", "母子手帳で感染症検査を確認", "{a}の既往は問診では不明", "{a}：結果待ち、{b}：未施行",
    "感染症採血施行", "感染症（{d}）：採血済、結果待ち",
)  # fmt: skip


def without_results(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Screening that states no result, or a disease or vaccine named like a test."""
    a, b = rng.choice(_HANDS)[rng.choice((0, 2, 3, 4, 5))], rng.choice(_HANDS)[rng.choice((0, 2, 5))]
    text = rng.choice(_UNSTATED).format(a=a, b=b, d=day_text(rng, ctx))
    lines = [Line(text)]
    if rng.random() < 0.4:
        lines.append(Line(decoy(rng, ctx)))
    return restyle(rng, ctx, lines)


def with_laboratory(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Screening in the middle of the other pre-operative results."""
    day = day_text(rng, ctx, 0.3) if rng.random() < 0.3 else ""
    parts = [_result_text(rng, names, day) for _ in range(rng.randint(0, 3))]
    parts += _list(rng, names, ctx, day)
    if rng.random() < 0.35:
        parts.append(blood_group(rng, day))
    tests = [fact.fields[Field.NAME] for _, facts in parts for fact in facts]
    if len(set(tests)) < len(tests):
        return in_a_row(rng, names, ctx)
    between = rng.choice(("、", " ", ", ", "　", "／"))
    title = rng.choice(("術前検査", "入院時検査", "採血", "検査", "スクリーニング", "妊婦健診")) + (
        rng.choice(("（{}）", "({})", " {}")).format(day) if day else ""
    )
    if rng.random() < 0.4:
        return restyle(
            rng, ctx, [Line(rng.choice(("【{}】", "■{}", "{}", "＜{}＞")).format(title)), put(joined(parts, between))]
        )
    return restyle(rng, ctx, [put(title, rng.choice(("：", ": ", " ", "　")), joined(parts, between))])


def _result_text(rng: random.Random, names: Names, day: str) -> Part:
    if rng.random() < 0.3:
        return yes_no(rng, rng.choice(_WORN), day)
    r = result(rng, analyte(rng, names) if rng.random() < 0.5 else panel(rng, names, 1, 1)[0], 0.0)
    return f"{r.name} {r.value}", [lab(Result(r.name, r.value), day)]


def inline(rng: random.Random, names: Names, ctx: Context) -> tuple[str, list[Fact]]:
    """A short piece with screening results for use inside another section's sentence, without a full stop."""
    if rng.random() < 0.35:
        pairs = _chosen(rng, names)[:3]
        said = P if rng.random() < 0.3 else N
        word = "陽性" if said is P else "陰性"
        return rng.choice(("、", "・", "/")).join(n for _, n in pairs) + rng.choice(("", "は", "ともに")) + word, [
            _fact(n, word, said) for _, n in pairs
        ]
    text, facts = joined(_list(rng, names, ctx, "")[:3], rng.choice(("、", " ", ", ")))
    return text.rstrip("。、 "), facts


WRITERS: list[tuple[float, Writer]] = [
    (3.0, in_a_row),
    (1.4, one_a_line),
    (1.6, shared),
    (1.4, prose),
    (0.9, table),
    (1.2, without_results),
    (0.9, with_laboratory),
]
