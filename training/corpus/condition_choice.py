"""Blocks in which a reader must choose: operations with and without their disease, numbered lists, several diseases
closed by one bracket, findings above the diagnosis, and the frames of `condition_contrast`."""

import random
import re

from schemas.statement import Assertion, Field, Kind
from training.corpus import condition_contrast as contrast
from training.corpus.condition_lists import heading
from training.corpus.condition_words import POOLS, WORDS, fill, join, spelled, when
from training.corpus.core import Context, Fact, Line
from training.corpus.names import Names

_FRAMES = [frames for _, frames in contrast.GROUPS]
_WEIGHTS = [weight for weight, _ in contrast.GROUPS]


def frame(rng: random.Random) -> str:
    return rng.choice(rng.choices(_FRAMES, _WEIGHTS)[0])


def inline(rng: random.Random, names: Names, ctx: Context) -> tuple[str, list[Fact]]:
    """One sentence of `condition_contrast`."""
    return fill(rng, names, ctx, frame(rng))


def _lines(frames: list[str] | None, most: int, rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    mark = ctx.habit(rng, "bullet", "・", "- ", "", "", "　", "", "○", "→", "※", "* ")
    texts = [fill(rng, names, ctx, rng.choice(frames) if frames else frame(rng)) for _ in range(rng.randint(1, most))]
    if rng.random() < 0.3:
        return [Line(*join("", [(text if text.endswith("。") else text + "。", facts) for text, facts in texts]))]
    return [Line(mark + text, facts) for text, facts in texts]


def sentences(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Sentences of one group or of all."""
    group = rng.choices(_FRAMES, _WEIGHTS)[0] if rng.random() < 0.4 else None
    return _lines(group, 4, rng, names, ctx)


def course(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """How an illness began and went on: symptoms above all."""
    return _lines(contrast.SYMPTOMS, 3, rng, names, ctx)


def findings(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Images and examinations, some with the diagnosis that was made of them."""
    return _lines(contrast.FINDINGS, 3, rng, names, ctx)


def operations(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """A list of past operations; where an item names its disease, that alone is a (past) disease."""
    head = heading(rng, ctx, "手術歴", "手術歴", "既往手術", "OP歴", "ope歴", "Past surgical history", "PSH", "手術・処置歴", "既往歴（手術）", "手術既往", "処置歴", "治療歴", "既往手術・麻酔歴")
    plain = ["{d} {opx}", "{d}：{opx}", "{opx}（{d}）", "{n:6-80}歳 {opx}", "{opx}", "{opx}({d} {hosp})", "{d}　{opx}（{anes}）", "{n:2-40}年前に{opx}", "{d} {opx}　{anes} 合併症なし", "{d} {organ}生検", "{d} {vessel}ステント留置"]
    caused = ["{o>} {H:cured}に対し{opx}", "{o>}：{H:cured}（{opx}）", "{opx}（{H:cured}、{<o}）", "{n:10-70}歳 {H:cured}で{opx}", "{o>} {opx}（{H:cured}）", "{o>}　{H:cured}　{opx}", "{H:cured}に対し{opx}（{<o}）"]
    form = rng.choice(plain)
    items = [fill(rng, names, ctx, rng.choice(caused) if rng.random() < 0.25 else form if rng.random() < 0.7 else rng.choice(plain)) for _ in range(rng.randint(1, 5))]
    if rng.random() < 0.5:
        gap = " " if head[-1].isalnum() else ""
        return [Line(*join(rng.choice(["、", "　", " / ", "、", "，", "；", "→"]), items, head + gap))]
    mark = ctx.habit(rng, "bullet", "・", "- ", "", "　", "① ", "・")
    return [Line(head), *[Line((chr(0x2460 + number) if "①" in mark else mark) + text, facts) for number, (text, facts) in enumerate(items)]]


_MARKS = ["{}．", "{}．", "{}。", "{}）", "（{}）", "{}、", "{} ", "{}:", "＃{}", "{}．　", "第{}　", "{}. ", "{}) "]


def numbered(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """１．…　２．…の疑い　３．…: full-width numbers, on one line or several, with operations and signs between."""
    mark = rng.choice(_MARKS)
    wide = rng.random() < 0.75
    entries = ["{P:numbered}", "{P:numbered}", "{P:chronic}", "{P:acute}", "{P:numbered}{graded}", "{S:numbered}の疑い", "{S}疑い", "{S}の疑い（{test}予定）", "{P:cancer}{stage}", "{P:numbered}（{treated}）",
        "{H:cured}術後", "{opx}後", "{opx}後（{d}）", "{P:numbered}、{P:numbered}", "{P:cured}{stage}（{opx}後）", "{P:trauma}", "{S} s/o", "r/o {S}"]
    items = []
    for number in range(rng.randint(2, 7)):
        shown = str(number + 1).translate({code: code + 0xFEE0 for code in range(0x30, 0x3A)}) if wide else str(number + 1)
        text, facts = fill(rng, names, ctx, rng.choice(entries))
        gap = " " if text[:1].isdigit() and not mark.endswith((" ", "　")) else ""
        items.append((mark.format(shown) + gap + text, facts))
    head = rng.choice(["", "診断：", "傷病名　", "病名：", "診断名\x01", "＃診断\x01", "傷病名：", "主病名・併存症\x01", "【診断】\x01", "【傷病名】\x01", "確定診断名：", "入院時診断\x01", "診断　", "紹介病名：", "プロブレム\x01"])
    lines = [Line(head[:-1])] if head.endswith("\x01") else []
    head = "" if lines else head
    if rng.random() < 0.5:
        return [*lines, Line(*join(rng.choice(["　", "　", " ", "、", "  "]), items, head))]
    return [*lines, *([Line(head.rstrip("　"))] if head else []), *[Line(text, facts) for text, facts in items]]


def shared_bracket(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Diseases of which a bracket at the end speaks; before or after them some that it does not speak of."""
    pool = rng.choice([POOLS["chronic"], POOLS["chronic"], POOLS["abbr"], POOLS["numbered"], POOLS["eye"] + POOLS["ent"], POOLS["mind"] + POOLS["skin"]])
    joint = rng.choice(["、", "、", "、", "・", " ", "，", "、　", ", ", "/"])
    chosen: list[str] = []
    for name in rng.sample(pool, rng.randint(2, 5)):
        if not any(name in other or other in name for other in chosen):
            chosen.append(name)
    opening, closing = rng.choice([("（", "）"), ("（", "）"), ("（", "）"), ("(", ")"), ("　", ""), ("：", ""), ("→", ""), ("〔", "〕")])
    note = spelled(rng, rng.choice(WORDS["shared"]), when(rng, ctx))
    group = joint.join(chosen) + opening + note + closing
    pair = re.search("両者|ともに|3疾患", note)
    if len(chosen) < 2 or any(name in note for name in chosen) or (pair and len(chosen) != (3 if pair[0][0] == "3" else 2)):
        return sentences(rng, names, ctx)
    items: list[tuple[str, list[Fact]]] = [(group, [Fact(Kind.CONDITION, {Field.NAME: name}, Assertion.PRESENT) for name in chosen])]
    others = [fill(rng, names, ctx, rng.choice(["{H:cured}（{<o}手術）", "{H:=past}（{<o}）", "{opx}（{d}）", "{P:chronic}（{<o}〜）", "{A:denied}なし", "{P:=numbered}", "{S}疑い"])) for _ in range(rng.choice([0, 0, 1, 1, 2]))]
    items = [*others, *items] if rng.random() < 0.4 else [*items, *others]
    head = rng.choice(["", "既往歴：", "既往：", "併存症：", "基礎疾患：", "【既往歴】", "PMH: ", "現在治療中の病気：", "合併症：", "既往歴　", "＜既往＞", "治療中："])
    return [Line(*join(joint if joint != " " else "、", items, head))]


def diagnosis_of_findings(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Lines of results, then what they were held for."""
    results = ["{scan}：{site}に{lesion}", "{scan}　{lesion}あり", "{scan}：{lesion}、{site}に{lesion}", "{site}に{lesion}", "身体所見：{symptom}、圧痛なし", "主訴：{symptom}", "{score}", "{scan}({d}) {site} {lesion}"]
    verdicts = ["診断：{P:region}", "→ {P:region}", "⇒{P:region}{graded}", "以上より{P:region}と診断。", "診断：{P:region}。{A:region}は否定的。", "臨床診断　{P:region}、{S:region}疑い", "Imp) {P:region}", "評価：{P:region}{graded}、{P:chronic}", "A：{P:region}", "結論：{A:region}は否定、{P:region}", "病名　{P:region}（{site}）",
        "→ {S:region}疑い", "総合診断：{P:region}、{P:chronic}", "判定：{S:region}の疑い　{check}"]
    shown = [*rng.sample(results, rng.randint(1, 3)), rng.choice(verdicts)]
    if rng.random() < 0.3:
        return [Line(*fill(rng, names, ctx, rng.choice(["。", "　", "、"]).join(shown)))]
    text, facts = fill(rng, names, ctx, "\x02".join(shown))
    texts = text.split("\x02")
    # No name of the verdict stands in a line above it, or `fill` would have refused it.
    return [*map(Line, texts[:-1]), Line(texts[-1], facts)]
