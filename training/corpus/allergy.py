"""Writes allergies: named, suspected and denied ones, general denials, and look-alikes that are none.

A general denial is named by the word it is written with (アレルギー, 薬剤アレルギー, 食物). Side effects, 花粉症, specific IgE
and questions not yet asked give no fact.
"""

import random
import re

from schemas.statement import AllergyCategory, Assertion, Field, Kind
from training.corpus import allergy_forms, allergy_stories
from training.corpus.core import Context, Fact, Line, Writer, problems
from training.corpus.names import Names
from training.corpus.phrasing import expand

MEDICATION, FOOD = AllergyCategory.MEDICATION, AllergyCategory.FOOD
ENVIRONMENT, OTHER = AllergyCategory.ENVIRONMENT, AllergyCategory.OTHER
PRESENT, SUSPECTED, ABSENT = Assertion.PRESENT, Assertion.SUSPECTED, Assertion.ABSENT

_REACTIONS = {
    "medication": "蕁麻疹 皮疹 発疹 薬疹 全身発疹 全身紅斑 掻痒感 膨疹 呼吸苦 血圧低下 アナフィラキシー アナフィラキシーショック 嘔吐 発熱 喘鳴 "
    "喉頭浮腫 顔面浮腫 口唇腫脹 中毒疹 紅斑 水疱 薬剤性肝障害 ショック 意識消失 気分不良 皮疹・発熱 発疹、呼吸苦 発赤 固定薬疹 SJS "
    "全身の痒み 眼瞼浮腫 嘔気・嘔吐 悪心 くしゃみ 熱感 冷汗 ふらつき DIHS じんましん rash 顔の腫れ".split(),
    "food": "蕁麻疹 口腔内掻痒感 口の痒み 口唇腫脹 喉のイガイガ感 呼吸苦 嘔吐 下痢 腹痛 アナフィラキシー 顔面発赤 眼瞼腫脹 喘鳴 全身蕁麻疹 咳込み "
    "口周囲の発赤 発疹 蕁麻疹・嘔吐 蕁麻疹、喘鳴 顔面腫脹 かゆみ 咽頭違和感 じんましん アナフィラキシーショック ぶつぶつ 血便".split(),
    "environment": "鼻汁 くしゃみ 鼻炎症状 目の痒み 咳 喘息発作 鼻閉 流涙 鼻汁・くしゃみ 眼の掻痒 皮膚掻痒 結膜充血 目のかゆみ、鼻水".split(),
    "other": "かぶれ 接触皮膚炎 発赤 水疱 掻痒感 かゆみ 皮膚発赤 蕁麻疹 手の痒み 紅斑 びらん 皮疹 アナフィラキシー 表皮剥離 腫脹 発赤・掻痒 全身蕁麻疹".split(),
}
_CATEGORIES = {"medication": MEDICATION, "food": FOOD, "environment": ENVIRONMENT, "other": OTHER}

# S: substance, R: reaction. One named allergy a sentence; the key says which categories the wording fits.
_WITH_REACTION = {
    "any": [
        "S(R)", "S（R）", "S：R", "S:R", "S→R", "S → R", "SでR", "SにてR", "SでRあり", "SによるR", "SでRの既往", "SでRの既往あり", "S […|-] R",
        "Sアレルギー(R)", "Sアレルギー（R）", "Sアレルギーあり（R）", "Sアレルギー：R", "S(+) R", "S：あり（R）", "SでRを生じた", "SでRが出現", "SでR歴あり",
        "S（{year}年、R）", "S（症状：R）", "S アレルギー症状：R", "[以前|過去に|{year}年に]SでR[あり|を認めた|が出た]", "SでRが出たことがある", "S　R", "S / R",
        "SによりRを来したことあり", "SアレルギーがありRをきたす", "S [重症度：|]R", "S／症状 R", "Sに対しR", "S　反応：R　時期：{year}年", "S（{relative}より聴取、R）",
        "SでR(小児期)", "S [20代|30代|小児期|若い頃]にR", "S曝露後にR",
    ],
    "medication": [
        "S内服後にR", "S内服後R", "S内服{2-10}日目にR出現", "S投与後にR", "S点滴中にR", "S投与{5-40}分後にRあり中止", "S使用時R", "{clinic}でS投与されR",
        "S系抗菌薬でR", "S系（R）", "S系(R)", "S系でR", "Sを飲んでR", "Sを飲むとRが出る", "[過去に|前医で]S使用しR、[以後|以降]使用[禁止|禁]", "{year}年 SでR",
        "S[錠|]（R）[→|のため]使用禁忌", "{dept}でS処方されR", "歯科でSを使用しR", "SにてR→DLST未施行", "S静注直後にRを認め、[以後|以降]禁忌",
    ],
    "food": [
        "Sを食べるとR", "S摂取後にR", "S摂取後R", "Sを食べてR", "[生の|]S摂取でR", "Sを食べるとRが出る", "S摂取{5-60}分後にR", "[小児期に|幼少期に|]S摂取でR",
        "Sを食べるとRがあるため[除去中|避けている|完全除去]", "SでR、[除去食対応|完全除去中|加熱は可]", "Sで[以前|子供の頃]R、[現在は摂取していない|以後食べていない]",
        "SでR(小児期)、現在は摂取可", "Sを食べた後にRが出るようになった",
    ],
    "environment": ["[春先に|季節性に|]SでR", "Sの時期にR", "Sに曝露するとR"],
    "other": ["S貼付部にR", "SでR[しやすい|を起こす]", "S装着でR", "S使用でR", "S貼付でR", "Sに触れるとR"],
}  # fmt: skip
_NAMED = {
    "any": [
        "S", "S", "S", "Sアレルギー", "Sアレルギーあり", "Sアレルギー(+)", "Sアレルギー有", "S(+)", "S：あり", "S：＋", "S（＋）", "S あり", "S：有",
        "Sに対するアレルギー", "Sアレルギー有り", "S（詳細不明）", "S（症状不明）", "S(症状[不詳|覚えていない])", "S □なし ■あり", "S allergy", "Sアレルギーの既往", "S 使用不可",
        "Sにアレルギーあり", "S過敏症", "S過敏", "Sアレルギーを指摘されている", "S [※|★]", "S：陽性（[本人|{relative}]申告）",
    ],
    "medication": ["S系", "S系薬剤", "S禁忌", "S×", "S系禁", "S禁", "S（使用禁忌）", "S 禁忌登録済", "S系（詳細不明）", "Sショックの既往", "S（{year}年）"],
    "food": ["S（除去食対応）", "S[除去中|禁|禁止]", "S（[少量なら可|加熱すれば可|エキスは可]）", "S×", "Sアレルギー、除去食[オーダー|提供]"],
    "environment": ["S（春）", "S(季節性)"],
    "other": ["Sでかぶれる", "Sかぶれ", "S不可", "S（[使用避ける|代替品使用]）"],
}  # fmt: skip
_SUSPECTED = {
    "any": [
        "Sアレルギー疑い", "Sアレルギーの疑い", "S（疑い）", "S(疑)", "S?", "S？", "Sアレルギー？", "Sアレルギーかもしれない", "S：疑い", "Sアレルギーの可能性[あり|]",
        "Sでのアレルギー疑い", "S：R疑い", "SによるR疑い", "SでR？", "S（R？ 詳細不明）", "SによるRの可能性[あり|を否定できず]", "本人はSでRと言うが[未確認|詳細不明]",
        "本人はSアレルギーと言うが未確認", "S（R、[因果関係不明|関連不明|確定診断なし]）", "SでRが出た[かもしれない|気がする]とのこと", "Sアレルギーが疑われる", "S susp.", "Sアレルギー（自己申告、未検査）",
        "S摂取・使用との関連が疑われるR" , "SでRを疑われたことあり", "Sが原因と疑われるR", "S：{relative}によれば[アレルギー|体質に合わない]かもしれないとのこと",
    ],
    "medication": ["Sの投与後にR[、薬剤性を疑う|、被疑薬として中止]", "S（被疑薬）", "Sを飲んでRとなった気がするとのこと", "S内服中のR、薬剤アレルギー疑い"],
    "food": ["Sを食べた後にR、関連は不明", "SでRの疑い、負荷試験予定", "S摂取との関連が疑われるR"],
    "environment": ["SによるRを疑う"],
    "other": ["Sによるかぶれ疑い", "S部のR、Sによるものか"],
}  # fmt: skip
_DENIED = {
    "any": [
        "Sアレルギーなし", "Sアレルギー(-)", "Sアレルギー（－）", "S(-)", "S：なし", "S なし", "S:無", "Sアレルギー：なし", "Sアレルギーは否定", "Sに対するアレルギーなし", "Sアレルギー歴なし",
        "Sアレルギーは[ない|ありません]", "Sアレルギー[否定的|の既往なし]", "S：―", "S ■なし □あり", "Sアレルギー無し", "Sに関するアレルギーの既往なし", "No S allergy", "SによるR歴なし", "SでのR(-)",
    ],
    "medication": [
        "S使用歴あり、問題なし", "SでRも[迷走神経反射|心因反応|局所反応]と考えられアレルギーではない", "Sは以前使用し問題なし", "S系薬剤でRなし", "S[再投与|皮内テスト|チャレンジテスト]陰性、アレルギーは否定",
        "SでRとの申告あるが副作用であり、アレルギーではない", "S：使用可（{year}年使用歴あり、異常なし）", "S過去使用時R認めず", "Sアレルギーとされていたが[精査|検査]で否定",
    ],
    "food": [
        "Sは現在摂取可", "Sは摂取可能", "S：現在は問題なく摂取", "Sアレルギーは[小児期に|]寛解、現在摂取可", "Sは食べられる", "Sは解除済み", "S負荷試験陰性、除去[解除|不要]", "Sで以前Rとの話だが現在は食べても問題なく、アレルギーは否定的",
    ],
    "environment": ["Sに対する症状なし"],
    "other": ["Sかぶれなし", "S：かぶれなし", "S貼付問題なし", "S使用可"],
}  # fmt: skip

# N: the word that names a general denial.
_GENERAL_WORDS = {
    OTHER: ["アレルギー"] * 8
    + "アレルギー歴 Allergy allergy 既知のアレルギー アレルギー既往 アレルギー体質 Allergies ALLERGY アレルギーの既往 アレルギー等 その他のアレルギー アレルゲン".split(),
    MEDICATION: "薬剤アレルギー 薬物アレルギー 薬アレルギー 薬剤過敏 薬剤アレルギー歴 内服薬アレルギー 禁忌薬 禁忌薬剤".split(),
    FOOD: "食物アレルギー 食品アレルギー 食べ物アレルギー 食事アレルギー 食物アレルギー歴".split(),
    ENVIRONMENT: "環境アレルギー 吸入アレルギー 吸入抗原アレルギー".split(),
}
_GENERAL = [
    "Nなし", "Nなし", "N：なし", "N:なし", "N：なし", "N なし", "N(-)", "N（－）", "N（-）", "N無し", "N：無", "N：特になし", "N：特記なし", "N：(-)", "N -", "N：ー", "N［なし］", "【N】なし", "＜N＞なし",
    "Nなし。", "Nはなし", "Nは特にない", "Nは[ありません|ない|否定]", "N：[N/A|none|None|NKA|NKDA]", "N：□あり ■なし", "N □有 ☑無", "Nの訴えなし", "N：これまで指摘なし", "N／なし", "■N　なし", "・N：なし",
    "Nを認めず", "N：nil", "No known N", "Nは[本人・家族とも|問診上]なし", "N：いままで一度もない", "N（無）",
]  # fmt: skip

# The headings of a form's rows: each is named by itself when denied.
_ROWS: list[tuple[str, AllergyCategory]] = [
    ("薬", MEDICATION), ("薬剤", MEDICATION), ("薬物", MEDICATION), ("薬品", MEDICATION), ("造影剤", MEDICATION), ("局所麻酔薬", MEDICATION), ("麻酔薬", MEDICATION),
    ("ヨード", MEDICATION), ("抗生剤", MEDICATION), ("食物", FOOD), ("食品", FOOD), ("食べ物", FOOD), ("食事", FOOD), ("その他", OTHER), ("ラテックス", OTHER), ("テープ", OTHER),
    ("アルコール綿", OTHER), ("金属", OTHER), ("環境", ENVIRONMENT), ("花粉", ENVIRONMENT), ("ゴム", OTHER), ("アルコール", OTHER), ("絆創膏", OTHER), ("卵", FOOD), ("大豆", FOOD), ("ハウスダスト", ENVIRONMENT),
]  # fmt: skip
_CLASS_HEADS = set("薬 薬剤 薬物 薬品 麻酔薬 抗生剤 食物 食品 食べ物 食事 その他 環境".split())
_CLASSES = {MEDICATION: "medication", FOOD: "food", ENVIRONMENT: "environment", OTHER: "other"}

_NO_FACT = [
    "アレルギー：[未聴取|不明|確認中|未確認|聴取できず|家族到着後に確認|後日確認|意識障害のため聴取困難]", "アレルギー歴は[家族に確認予定|{relative}に確認中|お薬手帳で確認する]", "薬剤アレルギーの有無は不明",
    "Allergy: unknown", "アレルギー：", "アレルギー歴：[不詳|―（未記入）|？]", "アレルギー情報は[薬剤部|{clinic}]へ照会中", "アレルギーの有無を確認し、[説明した|署名を得た]",
    "副作用歴：[ACE阻害薬|エナラプリル|ペリンドプリル]で空咳", "副作用歴：[NSAIDs|ロキソプロフェン]で胃痛", "[スタチン|ロスバスタチン]で筋肉痛あり（アレルギーではない）", "[アムロジピン|Ca拮抗薬]で下腿浮腫のため中止歴",
    "[オピオイド|コデイン]で便秘・嘔気", "[メトホルミン|GLP-1作動薬]で下痢あり", "スルピリドで乳汁分泌", "[ベンゾジアゼピン|睡眠薬]でふらつき、転倒歴", "抗菌薬で軟便になりやすい", "鉄剤で[胃部不快|黒色便]",
    "副作用歴：[なし|特記なし]", "副作用：{none}", "ステロイドで不眠", "プレガバリンで眠気強い", "[特異的IgE|IgE RAST]は[後日|次回]採血予定", "アレルギー検査を希望される", "アレルギー検査（View39）は次回説明", "プリックテスト予定",
    "輸血歴[なし|あり（副作用なし）]", "輸血歴：{none}　輸血副作用：{none}", "インフルエンザワクチン接種後に[発熱|接種部位の腫脹]あり（翌日軽快）", "コロナワクチン[2|3|4]回目で{37.8-39.2}℃の発熱", "予防接種での異常{no}",
    "乳糖不耐で牛乳を飲むと下痢する", "飲酒で顔面紅潮", "好き嫌い：[納豆|レバー|生魚|椎茸]（アレルギーではなく嗜好）", "アレルギーバンド装着", "アレルギー欄を更新", "[造影剤|造影CT]の同意書取得", "アレルギー外来を[予約|受診予定]",
    "アレルギーカードを携帯するよう指導", "エピペンの使い方を[説明|指導]した", "アレルギー食の説明を栄養士に依頼", "薬剤師がお薬手帳を確認", "アレルギー科より紹介",
]  # fmt: skip

_HEADS = ["アレルギー", "アレルギー歴", "Allergy", "薬剤・食物アレルギー", "アレルギー情報", "【アレルギー】", "＜アレルギー＞", "■アレルギー", "アレルギー等", "Al", "#アレルギー", "アレルギー・禁忌"]
_DRUG_HEADS = ["禁忌薬", "禁忌薬剤", "薬剤アレルギー", "薬物アレルギー", "薬剤アレルギー歴", "薬アレルギー", "使用禁忌", "禁忌", "【禁忌薬】", "薬剤禁忌"]
_FOOD_HEADS = ["食物アレルギー", "禁止食品", "食物アレルギー歴", "食品アレルギー", "除去食品"]


def _category(rng: random.Random) -> str:
    return rng.choices(("medication", "food", "other", "environment"), (46, 30, 15, 9))[0]


_BAG = (
    "ペニシリン系 セフェム系 ヨード造影剤 ヨード NSAIDs 局所麻酔薬 キシロカイン サルファ剤 ピリン系 ニューキノロン系 造影剤 アスピリン ポビドンヨード 抗生剤 風邪薬 痛み止め マクロライド系"
).split()


def _substance(rng: random.Random, names: Names, category: str) -> str:
    if category == "medication" and rng.random() < 0.15:
        return rng.choice(_BAG)
    return names.allergen(rng, category).strip()


def _named(
    rng: random.Random, names: Names, ctx: Context, category: str | None = None, assertion: Assertion | None = None, bare: bool = False
) -> tuple[str, Fact]:
    """One allergy and its wording. `bare`: no sentence, a piece for a list."""
    category = category or _category(rng)
    assertion = assertion or rng.choices((PRESENT, SUSPECTED, ABSENT), (66, 14, 20))[0]
    frames = {SUSPECTED: _SUSPECTED, ABSENT: _DENIED}.get(assertion)
    if frames is None:
        frames = _WITH_REACTION if rng.random() < 0.62 else _NAMED
    own = frames.get(category, [])
    frame = rng.choice(own if own and rng.random() < 0.4 else frames["any"])
    if bare and assertion is PRESENT:
        frame = rng.choice(("S", "S", "S(R)", "S（R）", "S：R", "SでR", "Sアレルギー", "S→R"))
    substance, reaction = _substance(rng, names, category), rng.choice(_REACTIONS[category])
    if rng.random() < 0.12:
        reaction += rng.choice(("、", "・", "、", "と")) + rng.choice(_REACTIONS[category])
    if substance.endswith(("系", "薬", "剤")) and re.search("S系", frame):
        frame = frame.replace("S系薬剤", "S").replace("S系抗菌薬", "S").replace("S系", "S")
    for spare in ("アレルギー", "過敏症", "かぶれ"):
        if substance.endswith(spare):
            substance = substance.removesuffix(spare) or substance
    text, piece = _place(rng, frame, {"S": substance, "R": reaction}, ctx)
    fields = {Field.NAME: substance}
    if "R" in piece and assertion is not ABSENT:
        fields[Field.REACTION] = reaction
    return text, Fact(Kind.ALLERGY, fields, assertion, _CATEGORIES[category])


def _place(rng: random.Random, frame: str, pieces: dict[str, str], ctx: Context) -> tuple[str, set[str]]:
    """The expanded frame with its capitals replaced, and which of them it holds."""
    marked = re.sub(r"(?<![A-Za-z/])([SRN])(?![A-Za-z/])", lambda m: f"\x01{m[1]}", frame)
    text = expand(rng, marked, ctx)
    held = set(re.findall("\x01([SRN])", text)) & set(pieces)
    for key in held:
        text = text.replace(f"\x01{key}", pieces[key])
    return text, held


def _general(rng: random.Random, ctx: Context) -> tuple[str, Fact]:
    category = rng.choices((OTHER, MEDICATION, FOOD, ENVIRONMENT), (62, 20, 15, 3))[0]
    word = rng.choice(_GENERAL_WORDS[category])
    frame = ctx.habit(rng, "allergy_denial", *_GENERAL)
    text, _ = _place(rng, frame, {"N": word}, ctx)
    return text, Fact(Kind.ALLERGY, {Field.NAME: word}, ABSENT, category)


def _denied_word(rng: random.Random) -> str:
    return rng.choice(("なし", "なし", "なし", "無", "(-)", "特になし", "ない", "－", "なし。"))


def _itself(rng: random.Random, head: str, category: AllergyCategory) -> tuple[str, Fact]:
    """What follows a row's heading that is the allergen itself (造影剤：あり（発疹）), and the fact."""
    reaction = rng.choice(_REACTIONS[_CLASSES[category]])
    frames = ("あり", "(+)", "有", "＋", "R", "あり（R）", "あり(R)", "+ R", "有　R", "あり、R", "Rの既往", "あり（詳細不明）", "疑い", "?", "疑いあり（R）")
    text = rng.choice(frames)
    fields = {Field.NAME: head} | ({Field.REACTION: reaction} if "R" in text else {})
    assertion = SUSPECTED if text[0] in "疑?" else PRESENT
    return text.replace("R", reaction), Fact(Kind.ALLERGY, fields, assertion, category)


def _row(rng: random.Random, names: Names, ctx: Context, head: str, category: AllergyCategory, colon: str) -> tuple[str, list[Fact]]:
    """One labelled cell: 薬：セフェム系（皮疹）, 食物：なし, その他：未確認."""
    chance = rng.random()
    if chance < 0.5:
        return head + colon + _denied_word(rng), [Fact(Kind.ALLERGY, {Field.NAME: head}, ABSENT, category)]
    if chance < 0.6:
        return head + colon + rng.choice(("不明", "未確認", "未聴取", "確認中", "")), []
    if head not in _CLASS_HEADS:
        text, fact = _itself(rng, head, category)
        return head + colon + text, [fact]
    parts, facts = [], []
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3))):
        text, fact = _named(rng, names, ctx, _CLASSES[category], rng.choice((PRESENT, PRESENT, PRESENT, PRESENT, SUSPECTED)), bare=True)
        parts.append(text)
        facts.append(fact)
    mark = rng.choice(("", "", "", "あり ", "あり（", "■"))
    text = rng.choice(("、", "、", "，", " ", "・", "，")).join(parts)
    return head + colon + mark + text + ("）" if mark.endswith("（") else ""), facts


def _mixed(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """The cells of a form, on one line or one a line."""
    rows = [rng.choice(_ROWS[:5]), rng.choice(_ROWS[9:13])]
    rows += rng.sample([r for r in _ROWS if r not in rows], rng.choice((0, 0, 1, 1, 2, 3)))
    if rng.random() < 0.2:
        rng.shuffle(rows)
    colon = rng.choice(("：", "：", ":", "；", " ", "→", "は", "…"))
    cells = [_row(rng, names, ctx, head, category, colon) for head, category in rows]
    head = rng.choice((*_HEADS, "", ""))
    if rng.random() < 0.62:
        gap = rng.choice(("　", "　", " ", "、", "，", " / ", "／", "；", "  "))
        start = head + (rng.choice(("：", ":", " ", "　", "→")) if head else "")
        return [Line(start + gap.join(text for text, _ in cells), [f for _, facts in cells for f in facts])]
    bullet = rng.choice(("", "　", "・", "- ", "  ", "□"))
    return ([Line(head + rng.choice(("", "：")))] if head else []) + [Line((bullet + text).rstrip(), facts) for text, facts in cells]


def _listed(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """A heading and its allergies, on the same line or below it."""
    category = rng.choice((None, None, "medication", "medication", "food"))
    heads = {None: _HEADS, "medication": _DRUG_HEADS, "food": _FOOD_HEADS}[category]
    head = rng.choice(heads)
    count = rng.choice((1, 1, 1, 2, 2, 3, 4))
    mostly = rng.random() < 0.75
    pieces = [
        _named(rng, names, ctx, category, PRESENT if mostly and rng.random() < 0.9 else None, bare=rng.random() < 0.5)
        for _ in range(count)
    ]
    extra = rng.choice(("", "", "", "、詳細不明", "（お薬手帳より）", "　※要注意", "、他は不明", "（本人談）", "。入力済"))
    if rng.random() < 0.65:
        mark = rng.choice(("：", "：", ":", " ", "　", "あり：", "(+)：", "あり　", "有（", "：あり（", "：■有　", "→", "：□なし ■あり（"))
        if head.endswith(("】", "＞")):
            mark = rng.choice(("", " ", "　"))
        text = rng.choice(("、", "、", "，", " ", "　", "; ", "／", "，")).join(t for t, _ in pieces)
        return [Line(head + mark + text + ("）" if mark.endswith("（") else "") + extra, [f for _, f in pieces])]
    bullet = rng.choice(("・", "　", "- ", "", "  ", "①", "*", "　・", "→"))
    return [Line(head + rng.choice(("", "：", "あり")))] + [Line((bullet + t), [f]) for t, f in pieces]


def _sentence(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    text, facts = inline(rng, names, ctx)
    return [Line(text, facts)]


def _denials(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """A general denial, alone or among other lines of a history."""
    text, fact = _general(rng, ctx)
    chance = rng.random()
    if chance < 0.55:
        return [Line(rng.choice(("", "", "・", "　", "- ", "■")) + text, [fact])]
    if chance < 0.75:
        other = _named(rng, names, ctx, None, ABSENT)
        return [Line(text + rng.choice(("、", "。", "　", " ")) + other[0], [fact, other[1]])]
    before = expand(rng, rng.choice(("既往：特記なし", "喫煙：{none}", "飲酒：機会飲酒", "輸血歴：なし", "手術歴：{none}", "内服なし", "身長{140-180}cm 体重{40-85}kg", "職業：{job}", "ADL自立", "妊娠{no}")), ctx)
    gap = rng.choice(("　", "、", " ", "。", " / "))
    return [Line(before + gap + text if chance < 0.9 else text + gap + before, [fact])]


_SHARED = ["喘息", "気管支喘息", "花粉症", "アトピー性皮膚炎", "アトピー", "緑内障", "糖尿病", "蕁麻疹", "てんかん", "高血圧", "心疾患", "甲状腺疾患", "出血性素因"]


def _shared_denial(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """One なし for diseases and allergy together: 喘息・アレルギーなし."""
    diseases = rng.sample(_SHARED, rng.choice((1, 1, 2)))
    words = [(d, Fact(Kind.CONDITION, {Field.NAME: d}, ABSENT)) for d in diseases]
    word = rng.choice(("アレルギー", "アレルギー", "アレルギー歴", "薬剤アレルギー", "食物アレルギー"))
    category = {"薬剤アレルギー": MEDICATION, "食物アレルギー": FOOD}.get(word, OTHER)
    words.insert(rng.randrange(len(words) + 1), (word, Fact(Kind.ALLERGY, {Field.NAME: word}, ABSENT, category)))
    text = rng.choice(("・", "、", "，", "／")).join(w for w, _ in words)
    return [Line(text + rng.choice(("なし", "なし", "(-)", "の既往なし", "はない", "いずれもなし", "：いずれもなし", "ともになし", "無し")), [f for _, f in words])]


def _hay_fever(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """A disease (花粉症) beside allergies: it stays a condition."""
    disease = rng.choice(("花粉症", "花粉症", "アレルギー性鼻炎", "スギ花粉症", "アトピー性皮膚炎", "気管支喘息"))
    fact = Fact(Kind.CONDITION, {Field.NAME: disease}, rng.choice((PRESENT, PRESENT, ABSENT)))
    first = disease + ("なし" if fact.assertion is ABSENT else rng.choice(("", "あり", "(+)", "（春）")))
    text, other = _general(rng, ctx) if rng.random() < 0.4 else _named(rng, names, ctx)
    head = rng.choice(("", "", "アレルギー：", "アレルギー歴 ", "体質："))
    return [Line(head + first + rng.choice(("、", "。", "　", "，")) + text, [fact, other])]


def _looks_alike(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    frames = rng.sample(_NO_FACT, rng.choice((1, 1, 1, 2, 3)))
    if rng.random() < 0.25:
        drug, effect = names.drug(rng).name, rng.choice("便秘 眠気 口渇 空咳 胃痛 下痢 ふらつき 筋肉痛 浮腫 頻尿 動悸 ほてり 頭痛 不眠 食欲低下 手の震え 悪心 口内炎 脱毛 味覚障害".split())
        text = rng.choice(("副作用歴：{}で{}", "{}で{}（副作用、アレルギーではない）", "{}内服中に{}の副作用あり", "過去に{}で{}が出たため自己中断した経緯", "{}：{}の副作用で以後使用せず"))
        return [Line(text.format(drug, effect))]
    return [Line(expand(rng, frame, ctx)) for frame in frames]


def _marked_form(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Check boxes of an admission form or an operation checklist."""
    lines = []
    rows = rng.sample(_ROWS, rng.randint(2, 5))
    style = rng.choice(("{}　□あり　■なし", "{}アレルギー □有 ☑無", "{}：無・有", "{}　[-]", "{}アレルギー：なし", "{}：なし", "{}アレルギー(-)", "[x] {}アレルギーなし"))
    for head, category in rows:
        if rng.random() < 0.3 and head not in _CLASS_HEADS:
            text, fact = _itself(rng, head, category)
            lines.append(Line(head + rng.choice(("：", "　", " ■", "　☑")) + text, [fact]))
            continue
        if rng.random() < 0.3:
            text, fact = _named(rng, names, ctx, _CLASSES[category], PRESENT, bare=True)
            lines.append(Line(head + rng.choice(("：あり（", "　■あり（", "：有（")) + text + "）", [fact]))
            continue
        if style == "{}：無・有":
            lines.append(Line(f"{head}：無・有"))
            continue
        text = style.format(head)
        name = head + "アレルギー" if head + "アレルギー" in text else head
        if name in ("食物アレルギー", "薬剤アレルギー", "薬物アレルギー") or "アレルギー" not in text:
            lines.append(Line(text, [Fact(Kind.ALLERGY, {Field.NAME: name}, ABSENT, category)]))
        else:
            lines.append(Line(text, [Fact(Kind.ALLERGY, {Field.NAME: head}, ABSENT, category)]))
    return lines


_SEVERAL = {
    PRESENT: ["Lアレルギー", "Lアレルギーあり", "LでR", "LにアレルギーありRをきたす", "LでRの既往", "L（いずれもR）", "Lアレルギー(+)", "LはアレルギーのためNG", "Lにアレルギー", "LでR歴", "Lに対するアレルギーあり（R）"],
    SUSPECTED: ["Lアレルギー疑い", "L（疑い）", "LでR？", "LのいずれかによるRの疑い", "Lアレルギー？", "被疑薬：L"],
    ABSENT: ["Lアレルギーなし", "Lアレルギー(-)", "Lのアレルギーなし", "Lともになし", "L：なし", "Lアレルギーはない", "Lアレルギー：いずれもなし", "Lにアレルギーなし", "Lアレルギー歴なし"],
}  # fmt: skip


def _several(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Several substances that share one predicate: 卵、牛乳で蕁麻疹; 薬剤・食物アレルギーなし."""
    assertion = rng.choices((PRESENT, SUSPECTED, ABSENT), (50, 12, 38))[0]
    frame = rng.choice(_SEVERAL[assertion])
    if assertion is ABSENT and rng.random() < 0.6:
        rows = [rng.choice(_ROWS[:3]), rng.choice(_ROWS[9:13])] + ([rng.choice(_ROWS[13:18])] if rng.random() < 0.3 else [])
        if rng.random() < 0.3:
            rows.reverse()
    else:
        category = "medication" if frame.startswith("被疑薬") else _category(rng)
        drawn = dict.fromkeys(_substance(rng, names, category).removesuffix("アレルギー") for _ in range(rng.choice((2, 2, 2, 3, 4))))
        rows = [(name, _CATEGORIES[category]) for name in drawn if name]
    gap = rng.choice(("、", "、", "・", "，", "と", "／", "/", "および", "や"))
    reaction = rng.choice(_REACTIONS[_CLASSES[rows[0][1]]])
    text, held = _place(rng, frame.replace("L", gap.join(name for name, _ in rows)).replace("NG", "禁"), {"R": reaction}, ctx)
    shared = {Field.REACTION: reaction} if "R" in held else {}
    facts = [Fact(Kind.ALLERGY, {Field.NAME: name} | shared, assertion, category) for name, category in rows]
    line = Line(rng.choice(("", "", "", "・", "アレルギー：", "既往に")) + text, facts)
    return _sentence(rng, names, ctx) if problems([line]) else [line]


def inline(rng: random.Random, names: Names, ctx: Context) -> tuple[str, list[Fact]]:
    """One sentence or clause, ending with 。, with its facts (none for a side effect or an open question)."""
    if rng.random() < 0.5:
        line = allergy_stories.clause(rng, names, ctx)
        return line.text.rstrip("。 　") + "。", line.facts
    chance = rng.random()
    if chance < 0.3:
        text, fact = _general(rng, ctx)
        facts = [fact]
    elif chance < 0.42:
        line = _several(rng, names, ctx)[0]
        text, facts = line.text, line.facts
    elif chance < 0.88:
        text, fact = _named(rng, names, ctx)
        facts = [fact]
        text = rng.choice(("", "", "", "なお、", "アレルギー歴として", "本人より", "問診上、", "既往に", "また")) + text
        text += rng.choice(("", "", "", "とのこと", "につきご注意ください", "のためご配慮ください", "、使用は避ける")) if fact.assertion is PRESENT else ""
    else:
        text, facts = expand(rng, rng.choice(_NO_FACT), ctx), []
    return text.rstrip("。") + "。", facts


WRITERS: list[tuple[float, Writer]] = [
    (3.0, _denials), (2.5, _mixed), (3.0, _listed), (3.5, _sentence), (2.0, _several), (1.0, _shared_denial), (0.8, _hay_fever), (2.0, _looks_alike), (1.0, _marked_form),
    *allergy_stories.WRITERS, *allergy_forms.WRITERS,
]  # fmt: skip
