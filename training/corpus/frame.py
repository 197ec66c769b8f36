"""Puts whole synthetic notes together from the blocks of the section writers.

A note has one writer's habits, the sections of its document type, and text without facts between them. When pieces share
a line, their facts stay in the order of their names; a last pass may change the characters of the whole note.
"""

import random
import unicodedata
from collections.abc import Callable
from datetime import date, timedelta

from schemas.statement import Field
from training.corpus import (
    allergy,
    condition,
    condition_choice,
    filler,
    filler_care,
    filler_copied,
    filler_findings,
    filler_injected,
    filler_letters,
    infection,
    lab,
    prescription,
)
from training.corpus.core import Context, Fact, Line, Writer, problems
from training.corpus.names import Names
from training.corpus.phrasing import FULL_FORMS, expand, written_date

_DEPARTMENTS = (
    "内科 循環器内科 消化器内科 呼吸器内科 腎臓内科 糖尿病内科 脳神経内科 血液内科 膠原病内科 外科 消化器外科 整形外科 脳神経外科 皮膚科 泌尿器科 眼科 耳鼻咽喉科 "
    "産婦人科 小児科 精神科 救急科 麻酔科 総合診療科 緩和ケア科 リハビリテーション科 腫瘍内科 心臓血管外科 呼吸器外科 乳腺外科"
).split()
_TYPES = {
    "progress": 32, "admission": 11, "preop": 8, "referral": 10, "reply": 6, "discharge": 10, "nursing": 8, "emergency": 7, "homecare": 5, "checkup": 3,
}  # fmt: skip
_TITLES = {
    "progress": ["外来診療録", "経過記録", "再診", "診療記録", "外来", "入院経過", "SOAP", "定期外来", "回診"],
    "admission": ["入院時記録", "入院サマリ", "入院診療録", "入院時現症", "Admission note", "入院時記載", "緊急入院"],
    "preop": ["術前サマリー", "術前評価", "麻酔科術前診察", "術前カンファレンス", "術前チェックリスト", "手術前評価"],
    "referral": ["診療情報提供書", "紹介状", "診療情報提供書（紹介状）", "御紹介", "転院サマリ"],
    "reply": ["返書", "ご報告", "診療情報提供書（返信）", "紹介患者 経過報告", "御返事"],
    "discharge": ["退院時サマリー", "退院サマリ", "退院時要約", "Discharge summary", "退院サマリー"],
    "nursing": ["看護記録", "入院時看護記録", "看護サマリー", "看護経過記録", "アナムネ", "データベース用紙", "訪問看護記録"],
    "emergency": ["救急外来記録", "救急診療録", "ER記録", "時間外診療", "救急搬送記録"],
    "homecare": ["訪問診療記録", "往診記録", "在宅診療録", "訪問診療"],
    "checkup": ["健診結果", "人間ドック結果報告", "特定健診", "健康診断", "ドック判定"],
}

# Sections of each type: key, weight. Keys are those of `_SECTIONS`.
_PLANS = {
    "progress": "course 8 condition 7 exam 6 lab 9 imaging 4 rx 8 allergy 3 infection 2 traps 3 life 1 plan 7",
    "admission": "course 9 condition 9 life 5 allergy 7 exam 7 lab 9 rx 7 infection 5 imaging 5 plan 5 nursing 1",
    "preop": "condition 8 allergy 9 infection 8 lab 9 rx 8 imaging 6 exam 4 procedures 6 life 4 plan 4",
    "referral": "letter 8 condition 9 course 7 lab 8 rx 9 allergy 7 infection 4 imaging 4 exam 2 plan 2",
    "reply": "letter 9 condition 8 course 6 lab 7 rx 7 imaging 5 allergy 2 infection 2 plan 4",
    "discharge": "condition 9 course 8 lab 8 allergy 4 infection 4 procedures 4 imaging 4 rx 10 life 1 rehab 2 plan 5",
    "nursing": "nursing 9 exam 6 life 7 allergy 7 condition 6 rx 5 infection 4 timeline 4 rehab 3 plan 3 course 4 lab 2",
    "emergency": "course 9 exam 9 lab 9 condition 7 imaging 5 rx 6 allergy 7 procedures 5 plan 6 infection 1",
    "homecare": "course 7 exam 7 nursing 4 life 5 rx 8 condition 7 lab 4 plan 6 rehab 2 allergy 3 infection 1",
    "checkup": "exam 7 lab 10 imaging 6 condition 6 life 5 plan 5 infection 3 allergy 2 rx 3",
}
_HEADS = {
    "course": ["現病歴", "経過", "主訴・現病歴", "S", "入院後経過", "病歴", "主訴", "HPI", "臨床経過", "症状経過", "主訴と経過", "来院までの経過", "問診", "S/", "受診理由", "発症経過", "紹介までの経過", "Present illness", "PI", "訴え", "本日の様子", "病状経過", "入院までの経緯"],
    "condition": ["既往歴", "診断", "病名", "#", "診断名", "傷病名", "プロブレム", "既往", "A", "併存症", "主病名", "評価", "Problem list", "PMH", "既往歴・家族歴", "アセスメント", "診断・併存症", "基礎疾患", "Diagnosis", "治療中の病気", "入院時診断", "確定診断", "問題点", "診断および既往", "Assessment", "合併症", "病状評価", "Imp", "考察", "総合評価", "既往歴・手術歴", "傷病名・病期", "現在の問題"],
    "exam": ["現症", "身体所見", "バイタル", "O", "入院時現症", "所見", "診察所見", "身体診察", "Vital", "Physical exam", "PE", "入室時", "来院時現症", "理学所見", "他覚所見", "V/S・身体所見"],
    "lab": ["検査所見", "検査", "採血", "検査データ", "血液検査", "Labs", "検査結果", "データ", "入院時検査", "血算・生化", "採血結果", "O", "本日の採血"],
    "rx": ["処方", "内服薬", "持参薬", "Rx", "現在の処方", "内服", "退院時処方", "常用薬", "薬", "投薬", "処方内容", "服薬状況", "Meds", "P", "定期薬", "治療"],
    "allergy": ["アレルギー", "禁忌・アレルギー", "アレルギー・副作用歴", "アレルギー歴", "特記", "注意事項"],
    "infection": ["感染症", "感染症検査", "術前感染症", "感染症情報", "ウイルスマーカー", "感染"],
    "imaging": ["画像所見", "画像", "画像検査", "生理検査", "ECG・画像", "検査(画像)", "内視鏡", "その他の検査", "画像・生理", "Imaging", "エコー", "読影", "内視鏡所見", "心電図・心エコー", "CT・MRI", "画像診断", "眼科所見"],
    "plan": ["方針", "計画", "P", "今後の方針", "プラン", "Plan", "治療方針", "A/P", "対応", "説明", "治療計画", "Dispo", "今後", "依頼事項", "申し送り", "次回", "IC", "指示", "TODO"],
    "life": ["生活歴", "生活背景", "嗜好", "社会歴", "家族構成", "SH", "背景", "家族歴・生活歴"],
    "nursing": ["看護", "O", "生活状況", "ADL", "観察", "入院までの経過", "看護問題"],
    "timeline": ["経時記録", "時系列", "記録"],
    "rehab": ["リハビリ", "リハ", "ADL", "機能評価", "PT"],
    "procedures": ["手術", "処置", "術中経過", "治療経過", "麻酔", "予定術式", "処置内容", "手術歴", "既往手術", "OP", "手術・麻酔", "処置・手術", "麻酔計画", "術式"],
    "letter": ["紹介目的", "備考", "ご挨拶", "記"],
    "traps": ["指導", "備考", "その他", "管理", "説明内容"],
    "copied": ["転記", "コピー", "参考", "メモ", "連絡事項", "引用", "電話", "メール転記"],
}  # fmt: skip


def _of(frames: list[str], most: int) -> Writer:
    def write(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
        return [Line(expand(rng, frame, ctx)) for frame in rng.sample(frames, rng.randint(1, most))]

    return write


def _mixed(often: Writer, rarely: Writer, share: float) -> Writer:
    """`often`, but a share of `rarely`, or both."""

    def write(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
        if rng.random() >= share:
            return often(rng, names, ctx)
        lines = rarely(rng, names, ctx)
        return [*lines, *often(rng, names, ctx)] if rng.random() < 0.4 else lines

    return write


def _drawn(writers: list[tuple[float, Writer]]) -> Writer:
    weights = [weight for weight, _ in writers]
    return lambda rng, names, ctx: rng.choices(writers, weights)[0][1](rng, names, ctx)


def _plain(rng: random.Random, names: Names, ctx: Context) -> tuple[str, list[Fact]]:
    return filler.inline(rng, names, ctx), []


_INLINE: dict[str, Callable[[random.Random, Names, Context], tuple[str, list[Fact]]]] = {
    "condition": condition.inline, "lab": lab.inline, "infection": infection.inline, "rx": prescription.inline, "allergy": allergy.inline, "plain": _plain,
}  # fmt: skip
_SECTIONS: dict[str, Writer] = {
    "condition": _drawn(condition.WRITERS), "lab": _drawn(lab.WRITERS), "infection": _drawn(infection.WRITERS), "rx": _drawn(prescription.WRITERS),
    "allergy": _drawn(allergy.WRITERS), "any": _drawn(filler.WRITERS), "course": _mixed(_of([*filler_care.COURSE, *filler_copied.QUOTES], 3), condition_choice.course, 0.45), "exam": filler.examination,
    "imaging": _mixed(_of(filler_findings.IMAGING, 3), condition_choice.findings, 0.35), "plan": _of(filler_letters.PLAN, 4), "life": _of(filler_care.LIFE, 4), "nursing": _of([*filler_care.NURSING, *filler_copied.QUOTES], 5),
    "timeline": filler.timeline, "rehab": _of(filler_care.REHAB, 3), "procedures": _mixed(_of(filler_findings.PROCEDURES, 3), condition_choice.operations, 0.4), "letter": _of(filler_letters.LETTER, 2),
    "traps": _of(filler_letters.TRAPS, 2), "copied": _of(filler_copied.COPIED, 3), "injected": filler_injected.paragraph,
}  # fmt: skip
_FACTUAL = ("condition", "lab", "infection", "rx", "allergy")
# What a free-text section (経過, 方針 …) may mention, and how often.
_MENTIONS = {
    "course": "plain 6 condition 4 rx 3 lab 2 allergy 0.6 infection 0.3", "plan": "plain 6 rx 4 condition 1.5 lab 1", "exam": "plain 5 lab 2 condition 1", "letter": "plain 6 condition 3 rx 2 lab 1",
    "condition": "plain 2 condition 8 allergy 0.5", "lab": "plain 2 lab 8", "rx": "plain 2 rx 8", "allergy": "plain 1 allergy 9", "infection": "plain 2 infection 8 lab 1",
    "nursing": "plain 8 rx 2 allergy 0.7 condition 0.7", "imaging": "plain 8 condition 1", "procedures": "plain 8 rx 1",
}  # fmt: skip


def _weights(spec: str) -> dict[str, float]:
    words = spec.split()
    return {key: float(weight) for key, weight in zip(words[::2], words[1::2], strict=True)}


def _join(first: Line, second: Line, gap: str) -> Line | None:
    """Both on one line, or None when a name of the second would first be found in the text of the first."""
    start = len(first.text) + len(gap)
    text = first.text + gap + second.text
    at = 0
    for fact in first.facts:
        at = max(at, text.find(fact.fields[Field.NAME], at))
    for fact in second.facts:
        place = text.find(fact.fields[Field.NAME], at)
        if place < start:
            return None
        at = place
    return Line(text, [*first.facts, *second.facts])


# How the sentences of a paragraph end.
_STOPS = ("。", "。", "。", "。", "。", "。", "。　", "　", "、", "/", "．", ". ", "；")


def _paragraph(rng: random.Random, names: Names, ctx: Context, mentions: dict[str, float], count: int) -> list[Line]:
    """Sentences of several kinds, run together; a sentence that would blur the order of names starts a new line."""
    lines = [Line("")]
    for key in rng.choices(list(mentions), list(mentions.values()), k=count):
        text, facts = _INLINE[key](rng, names, ctx)
        text = text.rstrip("。 　") + ctx.habit(rng, "full_stop", *_STOPS)
        joined = _join(lines[-1], Line(text, facts), "")
        if joined:
            lines[-1] = joined
        else:
            lines.append(Line(text, facts))
    return lines


def _content(rng: random.Random, names: Names, ctx: Context, key: str) -> list[Line]:
    """The lines of one section: a block, a paragraph, or both, now and then with text of another kind."""
    prose = 0.55 if key in ("course", "letter") else 0.3 if key in _MENTIONS else 0
    if ctx.style["form"] == "prose":
        prose = min(0.9, prose * 2)
    if rng.random() < prose:
        lines = _paragraph(rng, names, ctx, _weights(_MENTIONS[key]), rng.randint(1, 5))
    else:
        lines = _SECTIONS[key](rng, names, ctx)
    while key in _FACTUAL and rng.random() < (0.3 if len(lines) < 3 else 0.08):
        lines = lines + _SECTIONS[key](rng, names, ctx)
    if rng.random() < 0.15:
        lines = lines + (_SECTIONS["any"](rng, names, ctx) if rng.random() < 0.6 else _paragraph(rng, names, ctx, {"plain": 1}, 1))
    return lines


_HEADING_FORMS = (
    "【{}】", "【{}】", "【{}】", "■{}", "■ {}", "<{}>", "＜{}＞", "{}：", "{}：", "{}:", "{}", "[{}]", "●{}", "〈{}〉", "◆{}", "# {}", "({})", "{}）", "○{}", "□{}", "==={}===", "〔{}〕", "◎{}", "## {}", "**{}**", "*{}", "―{}―", "--- {} ---",
    "▼{}", "★{}", "【 {} 】", "≪{}≫", "《{}》", "1. {}", "1){}", "(1) {}", "１．{}", "1 {}", "_{}_", "{} ：", "{} -", "・{}：", "■■{}■■", "▶{}", "◇{}", "＊{}＊", "｛{}｝", "〓{}〓", "{}…", "* {}", "{}｜",
)  # fmt: skip
_RULES = ("----------", "-----", "==========", "＝＝＝＝＝", "――――――", "－－－－－", "~~~~~", "______", "……………")


def _heading(rng: random.Random, ctx: Context, key: str) -> str:
    word = rng.choice(_HEADS[key])
    if word == "#":
        return "#"
    form = ctx.habit(rng, "heading", *_HEADING_FORMS)
    if "1" in form:
        ctx.style["sections"] = number = str(int(ctx.style.get("sections", "0")) % 9 + 1)
        form = form.replace("１", chr(0xFF10 + int(number))).replace("1", number)
    return form.format(word)


def _section(rng: random.Random, names: Names, ctx: Context, key: str) -> list[Line]:
    lines = _content(rng, names, ctx, key)
    if ctx.style["form"] in ("bare", "prose") or rng.random() < 0.12:
        return lines
    head = Line(_heading(rng, ctx, key))
    if head.text[-1] in "：:）" or len(lines) == 1 and rng.random() < 0.6:
        gap = "" if head.text[-1] in "：:】>＞]）)" and rng.random() < 0.7 else rng.choice((" ", "　"))
        if rng.random() < 0.75 and (joined := _join(head, lines[0], gap)):
            return [joined, *lines[1:]]
    if rng.random() < 0.25:
        indent = rng.choice(("　", "  ", " ", "\t"))
        lines = [Line(indent + line.text, line.facts) for line in lines]
    if rng.random() < float(ctx.style.get("ruled", "0")):
        return [head, Line(ctx.habit(rng, "rule", *_RULES)), *lines]
    return [head, *lines]


def _soap(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Subjective, objective, assessment, plan; each on its line, or all on one."""
    form = rng.choice(("{}：", "{}:", "{}) ", "{}）", "({}) ", "[{}] ", "{}　", "{} ", "#{} ", "＜{}＞", "【{}】", "■{} ", "{}．", "{}/ ", "{}　：", "<{}> ", "*{}*　", "{}-"))
    groups = [("S", ["course"]), ("O", rng.sample(["exam", "lab", "imaging", "exam", "lab"], rng.randint(1, 3))), ("A", ["condition"]), ("P", rng.sample(["rx", "plan", "rx", "plan", "traps"], rng.randint(1, 3)))]
    if rng.random() < 0.2:
        groups[2:] = [(rng.choice(("A/P", "AP", "A＋P", "A・P")), ["condition", "rx", "plan"])]
    elif rng.random() < 0.12:
        groups = [(rng.choice(("F", "Focus", "F(焦点)")), ["nursing"]), ("D", ["course", "exam"]), ("A", ["rx", "procedures"]), (rng.choice(("R", "R(反応)")), ["nursing"])]
    elif rng.random() < 0.15:
        groups = [(rng.choice(("SO", "S/O", "S・O")), ["course", *groups[1][1]]), (rng.choice(("AP", "A/P")), ["condition", "rx", "plan"])]
    elif rng.random() < 0.1:
        groups.insert(3, (rng.choice(("I", "R", "E")), ["plan"]))
    elif rng.random() < 0.12:
        groups = [group for group in groups if rng.random() < 0.7] or groups
    blocks = []
    for letter, keys in groups:
        lines = [line for key in dict.fromkeys(keys) for line in _content(rng, names, ctx, key)]
        first = Line(form.format(letter).rstrip()) if rng.random() < 0.15 else None
        joined = None if first else _join(Line(form.format(letter)), lines[0], "")
        blocks.append([joined, *lines[1:]] if joined else [Line(form.format(letter).rstrip()), *lines])
    result = blocks[0]
    for block in blocks[1:]:
        one = _join(result[-1], block[0], rng.choice((" ", "　"))) if rng.random() < float(ctx.style["one_line"]) else None
        result = [*result[:-1], one, *block[1:]] if one else result + block
    return result


def _opening(rng: random.Random, ctx: Context) -> list[Line]:
    """Title, date, department, patient, addressee: some of them."""
    day = written_date(rng, ctx.day, rng.choice(FULL_FORMS))
    title = rng.choice(_TITLES[ctx.document_type])
    if ctx.document_type in ("referral", "reply") and rng.random() < 0.7:
        frames = [title, "{clinic}　{dept}　{doctor}[御机下|御侍史|机下|]", day, "[患者：|]{family}様　{20-95}歳{sex}", "[平素より|いつも][大変|]お世話になっております。"]
    else:
        dated = [f"{day}　{ctx.department}", f"{title}　{day}", f"{day} {ctx.department} {title}", day, f"{day} {{time}}", f"記載日：{day}", f"{day}({{weekday}})"]
        frames = [rng.choice((title, f"【{title}】", f"〔{title}〕")), rng.choice(dated), f"{ctx.department}　担当：{{family}}", "{20-95}歳{sex}"]
    count = rng.choices((0, 1, 2, 3), (20, 40, 28, 12))[0]
    chosen = sorted(rng.sample(range(len(frames)), count))
    return [Line(expand(rng, frames[i], ctx)) for i in chosen]


def _closing(rng: random.Random, ctx: Context) -> list[Line]:
    frames = filler_letters.LETTER if ctx.document_type in ("referral", "reply") else filler_letters.SEPARATORS + filler_letters.PLAN
    return [Line(expand(rng, rng.choice(frames), ctx))] if rng.random() < 0.35 else []


def _one_line(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """A busy writer's note: short sections run on with little between them, broken only where it must be."""
    keys = rng.sample(["course", "condition", "exam", "lab", "rx", "plan", "allergy", "imaging", "condition", "lab", "rx", "plan", "traps", "infection"], rng.randint(3, 7))
    gap = rng.choice((" ", "　", "。", " / ", "、", "；", " → ", "．", ", "))
    titled = rng.random() < 0.4
    lines: list[Line] = []
    for key in dict.fromkeys(keys):
        block = _section(rng, names, ctx, key) if titled else _content(rng, names, ctx, key)
        for line in block[: rng.randint(2, 4)]:
            # A table or list whose lines refer to the one above stays in lines of its own.
            joined = _join(lines[-1], line, gap) if lines and len(block) < 4 and "\t" not in line.text else None
            if joined:
                lines[-1] = joined
            else:
                lines.append(line)
    return lines


def _body(rng: random.Random, names: Names, ctx: Context, length: int) -> list[Line]:
    """Sections until the note has about `length` characters."""
    if ctx.style["form"] == "paragraph":
        mentions = {"plain": 6.0, "condition": 4.0, "rx": 3.0, "lab": 3.0, "allergy": 1.0, "infection": 0.6}
        return _paragraph(rng, names, ctx, mentions, max(3, length // 40))
    if ctx.style["form"] == "empty":
        keys = ["course", "exam", "life", "nursing", "plan", "imaging", "traps", "any", "any", "procedures", "rehab", "timeline", "copied"]
        lines: list[Line] = []
        while sum(len(line.text) for line in lines) < min(length, 450):
            block = _SECTIONS[rng.choice(keys)](rng, names, ctx)
            lines += [line for line in block if not line.facts]
        if rng.random() < 0.4:
            lines.insert(rng.randrange(len(lines) + 1), _SECTIONS[rng.choice(_FACTUAL)](rng, names, ctx)[0])
        return lines
    if ctx.style["form"] == "line":
        return _one_line(rng, names, ctx)
    lines = _soap(rng, names, ctx) if ctx.style["form"] == "soap" else []
    plan = _weights(_PLANS[ctx.document_type])
    order = list(plan)
    if rng.random() < 0.35:
        rng.shuffle(order)
    rate = rng.uniform(0.7, 1.2)
    chosen = [key for key in order if rng.random() < plan[key] / 10 * rate + 0.05]
    for key in chosen:
        if sum(len(line.text) for line in lines) >= length:
            break
        if lines and rng.random() < float(ctx.style["blank"]):
            lines.append(Line(""))
        lines += _section(rng, names, ctx, key)
        if rng.random() < 0.02:
            lines += _section(rng, names, ctx, "copied") if rng.random() < 0.3 else _SECTIONS["copied"](rng, names, ctx)
    while sum(len(line.text) for line in lines) < 130:
        lines += _section(rng, names, ctx, rng.choice(list(plan)))
    return lines


# -- characters of the whole note ---------------------------------------------------------------------------------


def _half_width_katakana() -> dict[str, str]:
    """Katakana to its half-width form, voiced ones to two characters. Source: compatibility mappings of Unicode."""
    table = {}
    for code in range(0xFF66, 0xFF9E):
        table[unicodedata.normalize("NFKC", chr(code))] = chr(code)
        for mark in "\uff9e\uff9f":
            voiced = unicodedata.normalize("NFKC", chr(code) + mark)
            if len(voiced) == 1:
                table[voiced] = chr(code) + mark
    return table


def _table(source: str, target: str) -> dict[str, str]:
    return dict(zip(source, target, strict=True))


_WIDE = {chr(c): chr(c + 0xFEE0) for c in range(0x21, 0x7F)}
_FOLDS: list[tuple[float, dict[str, str]]] = [
    (62, {}),
    (7, _table("、；：（）", ",;:()")),
    (4, _table("、。：（）　", ",.:() ")),
    (4, _table("、。", "，．")),
    (4, _table("、", "，")),
    (6, _table(":()%+-", "：（）％＋－")),
    (3, {a: b for a, b in _WIDE.items() if a.isdigit()}),
    (3, {a: b for a, b in _WIDE.items() if a.isalnum()}),
    (2, _WIDE | {" ": "　"}),
    (4, _half_width_katakana()),
    (1, _half_width_katakana() | _table("。、・「」", "｡､･｢｣")),
]


def _folded(rng: random.Random, lines: list[Line]) -> list[Line]:
    """The note in other characters, fields alike; as it was where that would break the contract."""
    table = rng.choices([fold for _, fold in _FOLDS], [weight for weight, _ in _FOLDS])[0]
    if not table:
        return lines
    by_code = str.maketrans(table)
    folded = [
        Line(
            line.text.translate(by_code),
            [
                Fact(f.kind, {key: piece.translate(by_code) for key, piece in f.fields.items()}, f.assertion, f.category, f.result, f.action)
                for f in line.facts
            ],
        )
        for line in lines
    ]
    return lines if problems(folded) else folded


def _style(rng: random.Random, document_type: str) -> dict[str, str]:
    forms = {"headed": 52.0, "soap": 10.0, "bare": 14.0, "prose": 10.0, "paragraph": 7.0, "empty": 7.0, "line": 5.0}
    if document_type == "progress":
        forms |= {"soap": 40, "headed": 25}
    return {
        "form": rng.choices(list(forms), list(forms.values()))[0],
        "blank": rng.choice(("0", "0", "0.1", "0.9", "1")),
        "one_line": rng.choice(("0", "0", "0", "0.15", "0.5")),
        "ruled": rng.choice(("0", "0", "0", "0", "0", "0", "0", "0.8")),
    }


_SHORTEST, _LONGEST = 150, 1400
_INJECTED = 0.05
"""Share of the notes with text that is aimed at a program."""


def note(rng: random.Random, names: Names, day: date | None = None) -> tuple[Context, list[Line]]:
    """One whole note of 150 to 1,400 characters and its context. `day`: the note's day, else one of 2018–2027."""
    day = day or date(2018, 1, 1) + timedelta(days=rng.randrange(3652))
    document_type = rng.choices(list(_TYPES), list(_TYPES.values()))[0]
    while True:
        ctx = Context(day, document_type, rng.choice(_DEPARTMENTS), _style(rng, document_type))
        length = int(min(1200, max(170, rng.lognormvariate(6.35, 0.5))))
        lines = _opening(rng, ctx) if ctx.style["form"] != "paragraph" or rng.random() < 0.3 else []
        lines += _body(rng, names, ctx, length) + _closing(rng, ctx)
        if rng.random() < _INJECTED:
            # At the front most often: what follows an order to a program is a note like any other.
            at = rng.choice((0, 0, 0, rng.randrange(len(lines) + 1), len(lines)))
            lines[at:at] = [*filler_injected.paragraph(rng, names, ctx), *([Line("")] if rng.random() < 0.3 else [])]
        lines = _cut(_folded(rng, lines))
        if sum(len(line.text) + 1 for line in lines) >= _SHORTEST and not problems(lines):
            return ctx, lines


def _cut(lines: list[Line]) -> list[Line]:
    """The note without what goes beyond the longest length."""
    total = 0
    for at, line in enumerate(lines):
        total += len(line.text) + 1
        if total > _LONGEST:
            return lines[:at]
    return lines
