"""Writes allergies as forms: categories with a colon, aligned columns, tables, check lists and bulleted lists."""

import random

from schemas.statement import AllergyCategory, Field, Kind
from training.corpus.allergy_stories import clause, sentence
from training.corpus.allergy_words import (
    ABSENT,
    ENVIRONMENT,
    FAMILIES,
    FOOD,
    MEDICATION,
    OTHER,
    PRESENT,
    SUSPECTED,
    family,
    reaction,
    side_effect,
    substance,
    tell,
)
from training.corpus.core import Context, Fact, Line, Writer, problems
from training.corpus.lab_values import Part, joined
from training.corpus.names import Names
from training.corpus.phrasing import expand

_CATEGORY_HEADS: dict[AllergyCategory, tuple[str, ...]] = {
    MEDICATION: ("薬", "薬", "薬", "薬剤", "薬剤", "薬物", "薬品", "内服薬", "くすり", "Drug", "薬剤アレルギー", "薬物アレルギー", "薬アレルギー"),
    FOOD: ("食", "食", "食物", "食物", "食品", "食べ物", "食事", "Food", "食物アレルギー", "食品アレルギー"),
    OTHER: ("その他", "その他", "その他", "他", "接触", "皮膚", "外用・接触", "物質", "その他のアレルギー", "接触性", "Others"),
    ENVIRONMENT: ("環境", "吸入", "花粉等", "花粉・動物", "環境因子"),
}
# Headings that are the substance itself: family, names.
_ITEMS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("contrast", ("造影剤", "造影剤", "ヨード造影剤", "造影剤（CT）", "ヨード")),
    ("unnamed", ("局所麻酔", "局麻", "麻酔薬", "抗生剤", "輸血", "キシロカイン", "ワクチン", "湿布")),
    ("tape", ("テープ", "テープ類", "絆創膏", "医療用テープ")),
    ("latex", ("ラテックス", "ラテックス", "ゴム", "ゴム手袋")),
    ("wipe", ("アルコール綿", "アルコール", "消毒", "アルコール消毒", "消毒薬")),
    ("metal", ("金属", "金属", "歯科金属")),
    ("cosmetic", ("化粧品", "ヘアカラー", "毛染め", "洗剤")),
    ("air", ("花粉", "ハウスダスト", "ダニ")),
    ("animal", ("動物", "ペット", "猫")),
    ("sting", ("ハチ", "蜂")),
    ("food", ("卵", "牛乳", "小麦", "そば", "甲殻類", "エビ・カニ", "大豆", "果物", "ナッツ")),
)  # fmt: skip
_NONE = ("なし", "なし", "なし", "なし", "無", "無し", "(-)", "（－）", "－", "特になし", "特記なし", "ない", "−", "なし（本人確認）", "認めず", "×", "該当なし")
_OPEN = ("不明", "未聴取", "未確認", "聴取していない", "確認中", "詳細不明", "家族に確認", "？", "未", "聴取困難", "")
_CELL = (
    "p|SでR", "p|SでR", "p|S（R）", "p|S(R)", "p|S（R）", "p|OR", "p|OR", "p|S→R", "p|S：R", "p|S R", "p|S　R", "p|S", "p|S（E）", "p|S（EでR）", "p|S(EでR)", "p|S（{year}年、R）", "p|S（{year}年R）", "p|{year}年 SでR", "p|Sアレルギー", "p|Sアレルギー（R）", "p|あり（S：R）", "p|あり（SでR）", "p|あり(S R)", "p|有（S、R）",
    "p|有　S　R", "p|LでR", "p|L（R）", "p|L", "p|LでR", "p|あり（L）", "p|S[かぶれ|]（R）", "p|S[、|で]R[あり|]", "p|SでRの既往", "p|S　症状：R", "p|S 反応：R", "p|S（症状不明）", "p|S（R、以後[禁忌|避けている|使用なし]）", "s|S疑い", "s|S（R疑い）", "s|SでR？", "s|S？", "s|S（疑い、R）", "s|SによるR疑い", "s|OR疑い",
    "pp|SでR、TでQ", "pp|S（R）、T（Q）", "pp|S(R) T(Q)", "pp|S：R、T：Q", "pp|S、T", "pp|SでR、T", "pp|S（R）・T", "pa|SでR。Tは[可|問題なし|使用可]", "pp|OR、PQ", "p-|SでR（DでXは副作用）", "p|「S」でR", "p|■有 S（R）", "p|(+) S：R", "p|（＋）SでR", "p|＋　S　R", "p|S禁（R）", "p|S×（R）",
)  # fmt: skip
_ITEM_CELL = (
    "あり（R）", "あり(R)", "あり　R", "R", "R", "Rあり", "有（R）", "(+) R", "＋（R）", "（＋）R", "{year}年の[検査時|使用時|入院時|手術時|受診時]にR", "{year}年[使用時|]R", "[前回|以前|過去に|他院で|小児期に]R", "あり、詳細不明", "あり", "(+)", "有", "Rの既往", "Rの既往あり", "○（R）", "■有（R）", "過去に[|使用し]Rあり[、以後回避|]",
    "疑い（R）", "Rの疑い", "R疑い", "？（R）", "あり（E、R）", "Eで[軽い|]R", "EでR", "R（E）", "要注意（R）", "禁（R）", "不可（R）",
)  # fmt: skip
_ITEM_DENIED = ("使用歴あり、アレルギーなし", "使用歴あり問題なし", "使用歴あり、異常なし", "問題なし", "かぶれなし", "過去使用し問題なし", "アレルギーなし", "反応なし", "{year}年使用、副作用なし")
_ITEM_OPEN = ("使用歴なし", "未使用", "不明", "未確認", "使用経験なし", "聴取していない", "未聴取", "")
_HEADS = (
    "アレルギー", "アレルギー", "アレルギー歴", "【アレルギー】", "■アレルギー", "＜アレルギー＞", "〔アレルギー〕", "●アレルギー", "アレルギー・禁忌", "アレルギー・副作用", "アレルギー情報", "Allergy", "ALLERGY", "◇アレルギー歴", "アレルギー等", "◆アレルギー・過敏症", "（アレルギー）", "[アレルギー]", "アレルギー・体質", "# アレルギー",
)  # fmt: skip
_MANY_HEADS = (*_HEADS, "アレルギー歴（詳細）", "薬剤・食物アレルギー一覧", "アレルギーあり", "アレルギー：有", "アレルギー（+）", "アレルギー登録内容", "過敏症の既往")


def _denied(head: str, category: AllergyCategory) -> Fact:
    return Fact(Kind.ALLERGY, {Field.NAME: head}, ABSENT, category)


def _content(rng: random.Random, names: Names, ctx: Context, category: AllergyCategory) -> Part:
    """What stands in the cell of a category that has an allergy."""
    if category is OTHER and rng.random() < 0.25:
        category = ENVIRONMENT
    while True:
        key = family(rng, category)
        if line := tell(rng, names, ctx, rng.choice(_CELL), (key, family(rng, category), key)):
            return line.text, line.facts


def _class_cell(rng: random.Random, names: Names, ctx: Context, head: str, category: AllergyCategory, colon: str) -> Part:
    chance = rng.random()
    if chance < 0.42:
        return head + colon + rng.choice(_NONE), [_denied(head, category)]
    if chance < 0.52:
        return head + colon + rng.choice(_OPEN), []
    if chance < 0.58:
        drug, effect = side_effect(rng)
        return rng.choice(("副作用", "副作用歴", "薬剤副作用")) + colon + drug + rng.choice(("で", "→", " ", "：")) + effect, []
    text, facts = _content(rng, names, ctx, category)
    return head + colon + text, facts


def _item_cell(rng: random.Random, ctx: Context, colon: str) -> Part:
    """A substance as heading: 造影剤：前回CTで蕁麻疹."""
    key, heads = rng.choices(_ITEMS, (5, 3, 4, 4, 4, 4, 2, 2, 2, 1.5, 3))[0]
    head, category = rng.choice(heads), FAMILIES[key].category
    chance = rng.random()
    if chance < 0.36:
        return head + colon + rng.choice(_NONE), [_denied(head, category)]
    if chance < 0.46:
        return head + colon + expand(rng, rng.choice(_ITEM_DENIED), ctx), [_denied(head, category)]
    if chance < 0.56:
        return head + colon + rng.choice(_ITEM_OPEN), []
    frame = expand(rng, rng.choice(_ITEM_CELL), ctx)
    fields = {Field.NAME: head}
    if "R" in frame:
        fields[Field.REACTION] = reaction(rng, key)
    detail = expand(rng, rng.choice(FAMILIES[key].details or ("使用時",)), ctx)
    text = head + colon + frame.replace("E", detail).replace("R", fields.get(Field.REACTION, ""))
    said = SUSPECTED if "疑" in frame or frame[0] == "？" else PRESENT
    return text, [Fact(Kind.ALLERGY, fields, said, category)]


def _cells(rng: random.Random, names: Names, ctx: Context, colon: str) -> list[Part]:
    """The cells of one form: drugs and food nearly always, then others."""
    rows: list[tuple[str, AllergyCategory] | None] = [
        (rng.choice(_CATEGORY_HEADS[MEDICATION]), MEDICATION),
        (rng.choice(_CATEGORY_HEADS[FOOD]), FOOD),
    ]
    if rng.random() < 0.6:
        rows.append((rng.choice(_CATEGORY_HEADS[OTHER]), OTHER))
    if rng.random() < 0.12:
        rows.append((rng.choice(_CATEGORY_HEADS[ENVIRONMENT]), ENVIRONMENT))
    rows += [None] * rng.choice((0, 0, 0, 1, 1, 2, 3))
    if rng.random() < 0.15:
        rows = rows[1:]
    if rng.random() < 0.25:
        rng.shuffle(rows)
    return [_class_cell(rng, names, ctx, *row, colon) if row else _item_cell(rng, ctx, colon) for row in rows]


_COLONS = ("：", "：", "：", ":", ": ", "　", " ", "→", "）", ")", "；", " - ", "…", "は", "＝", "／")


def _sound(lines: list[Line]) -> bool:
    """No breach of the contract, and no fact named twice on a line."""
    named = [[fact.fields[Field.NAME] for fact in line.facts] for line in lines]
    return not problems(lines) and all(len(set(each)) == len(each) for each in named)


def one_line(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Categories beside each other: アレルギー　薬：ペニシリンで発疹　食：なし　その他：テープかぶれ."""
    colon = ctx.habit(rng, "allergy_colon", *_COLONS)
    head = rng.choice((*_HEADS, "", ""))
    start = head + (rng.choice(("：", ":", " ", "　", "→", "）")) if head and head[-1] not in "】＞〕]）" else rng.choice(("", " ")) if head else "")
    gap = rng.choice(("　", "　", "　", "／", "／", " / ", "、", "。", "；", "  ", "，", "｜", " ｜ "))
    text, facts = joined(_cells(rng, names, ctx, colon), gap)
    line = Line(start + text.rstrip(" 　"), facts)
    return [line] if _sound([line]) else sentence(rng, names, ctx)


def columns(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """One category a line, indented, bulleted or padded to a column."""
    colon = ctx.habit(rng, "allergy_colon", *_COLONS)
    padded = rng.random() < 0.35
    cells = _cells(rng, names, ctx, "\x01" if padded else colon)
    if padded:
        width = max(text.find("\x01") for text, _ in cells)
        fill = rng.choice(("　", "　", " "))
        cells = [(text.replace("\x01", fill * (width - text.find("\x01")) + colon), facts) for text, facts in cells]
    bullet = rng.choice(("　", "　", "  ", "　　", "・", "- ", "　・", "", "    ", "□ ", "・ ", "*", "○"))
    lines = [Line((bullet + text).rstrip(" 　"), facts) for text, facts in cells]
    if rng.random() < 0.2:
        lines = [Line(f"{mark}{line.text.lstrip('　 ・-*○□')}", line.facts) for mark, line in zip(("①", "②", "③", "④", "⑤", "⑥", "⑦"), lines, strict=False)]
    if rng.random() < 0.85:
        lines.insert(0, Line(rng.choice(_HEADS) + rng.choice(("", "", "：", ":"))))
    return lines if _sound(lines) else sentence(rng, names, ctx)


_TABLES = (
    ("品名", "症状", "時期"), ("薬品名", "症状", "発現時期"), ("物質", "反応", "時期"), ("アレルゲン", "症状", "備考"), ("名称", "症状", "時期"), ("区分", "品名", "症状"), ("種類", "原因物質", "症状", "時期"), ("原因", "症状"), ("薬剤名", "反応", "年"), ("分類", "アレルゲン", "反応", "重症度"), ("No", "物質名", "症状"), ("時期", "品名", "症状"),
)  # fmt: skip
_KIND_WORDS = {MEDICATION: ("薬剤", "薬"), FOOD: ("食物", "食品"), OTHER: ("その他", "接触"), ENVIRONMENT: ("環境", "吸入")}


def table(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """A table with a head: 品名／症状／時期."""
    head = rng.choice(_TABLES)
    gap = rng.choice(("／", "　", "\t", " | ", "｜", " / ", ",", "  ", "：", "、"))
    lines = [Line(gap.join(head))] if rng.random() < 0.9 else []
    if rng.random() < 0.5:
        lines.insert(0, Line(rng.choice(_MANY_HEADS)))
    for number in range(rng.choice((1, 2, 2, 3, 3, 4))):
        key = family(rng)
        category = FAMILIES[key].category
        name, act = substance(rng, names, key), reaction(rng, key)
        if gap in act or gap in name:
            continue
        year = expand(rng, rng.choice(("{year}年", "{year}", "{year}年頃", "小児期", "幼少期", "不明", "{year}/{1-12}", "20代", "昨年", "H{10-30}", "{past}")), ctx)
        known = rng.random() < 0.88
        fields = {Field.NAME: name} | ({Field.REACTION: act} if known else {})
        said = PRESENT if rng.random() < 0.9 else SUSPECTED
        kind = rng.choice(_KIND_WORDS[category])
        if "区分" in head and rng.random() < 0.15:
            lines.append(Line(gap.join((kind, "なし", rng.choice(("－", "-", ""))) ).rstrip(), [_denied(kind, category)]))
            continue
        cells = {
            "症状": act if known else rng.choice(("不明", "詳細不明", "－")), "時期": year, "備考": rng.choice((year, "使用禁", "本人申告", "-")), "重症度": rng.choice(("軽度", "中等度", "重度", "不明")), "区分": kind, "No": str(number + 1),
        }  # fmt: skip
        same = {"反応": "症状", "発現時期": "時期", "年": "時期", "種類": "区分", "分類": "区分"}
        shown = [cells.get(same.get(column, column), name) for column in head]
        text = gap.join(shown) + ("（疑い）" if said is SUSPECTED else "")
        lines.append(Line(text, [Fact(Kind.ALLERGY, fields, said, category)]))
    return lines if _sound(lines) and any(line.facts for line in lines) else sentence(rng, names, ctx)


_STORIES = (
    "p|S：{year}年[の使用時に|に使用し|頃]R", "p|S：{year}年[に|]R", "p|S：[以前|過去に|小児期に|学生時代に]R[あり|]", "p|S：R", "p|S：R[、その後使用なし|、以後避けている|。救急搬送歴あり|あり。詳細不明|（自然軽快）|（入院加療）|、無治療で軽快]", "p|S　R", "p|S → R", "p|S（R）", "p|S（E）：R", "p|S（E）R", "p|S：詳細不明", "p|S",
    "p|S：{clinic}で使用しR", "p|S：R（{year}年）", "p|S：{year}年投与時にR", "p|S：{year}年の入院時にR", "p|S：{relative}の話では使用後R", "p|S -- R", "p|S… R", "s|S：R[の疑い|疑い|？|、因果関係不明|、関連不明|を疑われた]", "s|S疑い：R", "s|S：R、[薬疹疑い|アレルギー疑い]と言われた", "s|S？：Rの原因か", "p|OR", "p|SによるR[（{year}年）|]", "p|{year}年：SでR", "p|{year}年頃 OR", "a|S：アレルギーなし（使用歴あり）",
    "a|S：[以前|過去に]気分不良あったが[迷走神経反射|緊張によるもの]、アレルギーではない", "a|S：問題なく使用できた", "a|S：否定（[皮内テスト|再投与|検査]陰性）", "|D：Xのため中止（副作用）", "|D：X", "|D：X（アレルギーではない）", "|D：Xあり、以後使用せず",
)  # fmt: skip


def bullets(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """A heading and bullets, the substance first and the story after it."""
    bullet = rng.choice(("・", "・", "- ", "　・", "● ", "① ", "*", "　", "→ ", "○"))
    category = rng.choice((None, None, None, MEDICATION, FOOD, OTHER))
    heads = {None: _MANY_HEADS, MEDICATION: ("薬剤アレルギー", "【薬剤アレルギー】", "薬物アレルギー：", "禁忌薬", "薬剤アレルギー歴"), FOOD: ("食物アレルギー", "【食物アレルギー】", "食事アレルギー：", "食物アレルギー歴")}
    lines = [Line(rng.choice(heads.get(category, _MANY_HEADS)).rstrip("：") + rng.choice(("", "", "：")))]
    for _ in range(rng.choice((1, 2, 2, 3, 3, 4))):
        key = family(rng, category)
        while key in ("insect", "sting", "animal") and rng.random() < 0.8:
            key = family(rng, category)
        frame = rng.choice(_STORIES)
        if key not in ("drug", "unnamed", "contrast") and ("投与" in frame or "皮内" in frame or "薬疹" in frame):
            continue
        if line := tell(rng, names, ctx, frame, (key,)):
            lines.append(Line(bullet + line.text, line.facts))
    if rng.random() < 0.3:
        line = clause(rng, names, ctx, "none" if category else rng.choice(("not", "none", "has")))
        lines.append(Line(bullet + line.text, line.facts))
    if rng.random() < 0.25:
        word, kind = rng.choice((("食物", FOOD), ("薬剤", MEDICATION), ("その他", OTHER), ("ラテックス", OTHER), ("食物アレルギー", FOOD), ("薬剤アレルギー", MEDICATION)))
        lines.append(Line(bullet + word + rng.choice(("：なし", "なし", "(-)", "：特になし")), [_denied(word, kind)]))
    return lines if len(lines) > 1 else sentence(rng, names, ctx)


_NURSE = (
    "アレルギー　□無　■有（K：S　症状：R）", "アレルギー：有　K：S　症状：R", "アレルギー有無：有　物質：S　反応：R", "アレルギー：■有 □無　内容：S（R）", "アレルギー（有・無）→有　S、R", "アレルギーの有無：あり（S／R）", "アレルギー：あり　[薬品名|品目|原因]：S　[症状|反応]：R　時期：{year}年", "アレルギー歴：有り、S、症状はR",
    "アレルギー[登録|カード]：S（R）[確認|]済", "アレルギー　☑あり　□なし　S：R", "アレルギー／あり／S／R", "アレルギー：[有]　S　[R]", "アレルギー聴取：S摂取でR", "患者確認：アレルギーSあり（R）", "タイムアウト時確認：アレルギー S（R）", "アレルギー：S→R　対応：使用回避", "アレルギー情報共有：S（R）", "リストバンド：アレルギーS", "K：S　症状：R", "K アレルギー（+）S；R",
    "アレルギー【有】S・症状「R」",
)  # fmt: skip


def nurse_row(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """A row of a nursing or theatre check list with boxes."""
    key = family(rng, FOOD if rng.random() < 0.3 else None)
    frame = rng.choice(_NURSE)
    if "摂取" in frame:
        key = "food"
    frame = frame.replace("K", rng.choice(_KIND_WORDS[FAMILIES[key].category]))
    line = tell(rng, names, ctx, "p|" + frame, (key,))
    return [line] if line else sentence(rng, names, ctx)


def check_list(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Substances of a form with their marks side by side: ラテックス(-) 造影剤(-) テープ(+) 発赤."""
    colon = rng.choice(("", "", "：", " ", ":"))
    cells = [_item_cell(rng, ctx, colon or "：") for _ in range(rng.randint(2, 5))]
    if not colon:
        marks = {PRESENT: ("(+)", "（+）"), ABSENT: ("(-)", "（-）"), SUSPECTED: ("(?)", "（？）")}
        wide = rng.randrange(2)
        cells = [
            (
                fact.fields[Field.NAME] + marks[fact.assertion][wide] + (" " + fact.fields[Field.REACTION] if Field.REACTION in fact.fields else ""),
                [fact],
            )
            for _, facts in cells
            for fact in facts
        ]
    if not cells:
        return sentence(rng, names, ctx)
    head = rng.choice((*_HEADS, "", "アレルギーチェック", "術前アレルギー確認", "検査前問診"))
    text, facts = joined(cells, rng.choice((" ", "　", "、", " / ", "／")))
    line = Line((head + ("：" if head and head[-1] not in "】＞〕]）" else "") + text).rstrip(" 　"), facts)
    return [line] if _sound([line]) else sentence(rng, names, ctx)


WRITERS: list[tuple[float, Writer]] = [
    (3.0, one_line), (2.6, columns), (1.4, table), (2.6, bullets), (1.2, nurse_row), (0.9, check_list),
]  # fmt: skip
