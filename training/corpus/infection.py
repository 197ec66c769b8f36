"""Section writers of infection screening tests: HBs antigen and antibody, HCV, syphilis (RPR/STS and TP), HIV.

Other viral tests (HBc antibody, HBV-DNA, HTLV-1) stand among them and are laboratory results.
"""

import random

from schemas.statement import Field
from training.corpus import infection_groups
from training.corpus.core import Context, Fact, Line, Writer
from training.corpus.infection_pieces import (
    BRACKETS,
    HANDS,
    NEGATIVE,
    POSITIVE,
    WORDS,
    WORN,
    I,
    N,
    P,
    chosen_tests,
    infection_fact,
    opening,
    outcome,
    quantity,
    screening,
    shown_result,
    test_piece,
)
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

_ROW_ENDS = (
    "（過去に治療済）", " 既感染パターン", "、他異常なし", "。", "（外注）", " ※HIVは同意なく未検", "（前医データ）",
    "。術前問題なし", " (HBVワクチン歴あり)", "、消化器内科コンサルト予定", "。標準予防策",
)  # fmt: skip


def in_a_row(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    head, day = opening(rng, ctx)
    body = joined(
        screening(rng, names, ctx, day),
        rng.choice((" ", " ", "、", ", ", "，", "　", "・", " / ", "/", "  ", "; ", ",", "")),
    )
    if body[0].count(")") + body[0].count("）") < 2 and "性" not in body[0]:
        body = joined(screening(rng, names, ctx, day), rng.choice((" ", "、", ", ", "　", " / ")))
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
    head, day = opening(rng, ctx, 0.85)
    bullet = rng.choice(("", "・", "- ", "  ", "　", "* ", "\t"))
    lines = [put(bullet, part) for part in screening(rng, names, ctx, day)]
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
    head, day = opening(rng, ctx, 0.6)
    pairs = chosen_tests(rng, names)
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
        facts = [infection_fact(name, m, said, day=day) for (_, name), (m, said) in zip(pairs, marks, strict=True)]
        return restyle(rng, ctx, [put(head, (text, facts))])
    said = P if rng.random() < 0.12 else N
    shown = rng.choice(WORDS[said])
    how = rng.choice(_TOGETHER)
    if shown.isascii() and how in ("", "いずれも"):
        how += "" if shown[0] == "(" else " "
    value = shown.strip(BRACKETS)
    text = cut.join(n for _, n in pairs) + how + shown
    facts = [infection_fact(name, value, said, day=day) for _, name in pairs]
    parts: list[Part] = [(text, facts)]
    if rng.random() < 0.3:
        used = text
        others = [
            p for p in chosen_tests(rng, names) if not any(p[1] in n or n in p[1] for _, n in pairs) and p[1] not in used
        ]
        parts += [test_piece(rng, ctx, n, name, 0.5, day, 0.2) for n, name in others[:2]]
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
    body = joined(screening(rng, names, ctx, day)[: rng.randint(1, 5)], rng.choice(("、", "、", ", ", " ")))
    note = {"d": day, "x": decoy(rng, ctx)}
    lead = rng.choice(("", "", "", "・", "O) ", "A) ", "# "))
    return restyle(rng, ctx, [put(lead, before.format(**note), body, after.format(**note))])


def table(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Columns: name, amount, unit, judgement in one of several orders; one date above or two dates in the head."""
    form = day_form(rng, ctx)
    between = rng.choice(("\t", "  ", "　", " | ", "   ", ",", " "))
    pairs = chosen_tests(rng, names)
    if rng.random() < 0.3:
        days = [written(form, d) for d in sorted({past(rng, ctx, 0.2), past(rng, ctx, 0.0)})]
        lines = [Line(between.join([rng.choice(("感染症", "項目", "")), *days]))]
        for _, name in pairs:
            marks = [shown_result(rng, outcome(rng, 0.15)) for _ in days]
            facts = []
            for (shown, value), day in zip(marks, days, strict=True):
                facts.append(infection_fact(name, value, P if shown in POSITIVE else N if shown in NEGATIVE else I, day=day))
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
        said = outcome(rng, 0.12)
        amount, unit = quantity(rng, n, said)
        amount = amount.replace(",", "") if "," in between else amount
        if "u" not in order or "未" in amount or "以" in amount:
            unit = ""
        shown, value = shown_result(rng, said)
        cells = {"n": name, "a": amount, "u": unit, "w": shown, "r": rng.choice(("(0.00-0.99)", "0.05未満", "(-)"))}
        text = between.join(cells[key] for key in order if cells[key])
        fact = infection_fact(name, amount if "a" in order else value, said if "w" in order else None, unit, day)
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
    a, b = rng.choice(HANDS)[rng.choice((0, 2, 3, 4, 5))], rng.choice(HANDS)[rng.choice((0, 2, 5))]
    text = rng.choice(_UNSTATED).format(a=a, b=b, d=day_text(rng, ctx))
    lines = [Line(text)]
    if rng.random() < 0.4:
        lines.append(Line(decoy(rng, ctx)))
    return restyle(rng, ctx, lines)


def with_laboratory(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Screening in the middle of the other pre-operative results."""
    day = day_text(rng, ctx, 0.3) if rng.random() < 0.3 else ""
    parts = [_result_text(rng, names, day) for _ in range(rng.randint(0, 3))]
    parts += screening(rng, names, ctx, day)
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
        return yes_no(rng, rng.choice(WORN), day)
    r = result(rng, analyte(rng, names) if rng.random() < 0.5 else panel(rng, names, 1, 1)[0], 0.0)
    return f"{r.name} {r.value}", [lab(Result(r.name, r.value), day)]


def inline(rng: random.Random, names: Names, ctx: Context) -> tuple[str, list[Fact]]:
    """A short piece with screening results for use inside another section's sentence, without a full stop."""
    if rng.random() < 0.25:
        text, facts = infection_groups.group(rng, names, ctx)
        return text.rstrip("。、 "), facts
    if rng.random() < 0.35:
        pairs = chosen_tests(rng, names)[:3]
        said = P if rng.random() < 0.3 else N
        word = "陽性" if said is P else "陰性"
        return rng.choice(("、", "・", "/")).join(n for _, n in pairs) + rng.choice(("", "は", "ともに")) + word, [
            infection_fact(n, word, said) for _, n in pairs
        ]
    text, facts = joined(screening(rng, names, ctx, "")[:3], rng.choice(("、", " ", ", ")))
    return text.rstrip("。、 "), facts


WRITERS: list[tuple[float, Writer]] = [
    (3.0, in_a_row),
    (1.4, one_a_line),
    (1.6, shared),
    (1.4, prose),
    (0.9, table),
    (1.2, without_results),
    (0.9, with_laboratory),
    *infection_groups.WRITERS,
]
