"""One drug of a prescription as charts write it: name, dose, usage and days of supply, in many spellings.

The abbreviations (3xN, vds, TD, T, C) are the usual ones of Japanese prescriptions: n.d.E. nach dem Essen, v.d.S. vor
dem Schlafen, TD Tagesdosen. Amounts are plausible for the form, not for the drug: the corpus teaches reading only.
"""

# ruff: noqa: E501 (tables of words, one row a line)

import random
import re
import unicodedata
from dataclasses import dataclass

from schemas.statement import Action, Field, Kind
from training.corpus.core import Context, Fact, Line
from training.corpus.names import Drug, Names


def pick(rng: random.Random, choices: str) -> str:
    """One of the choices written as a|b|c."""
    return rng.choice(choices.split("|"))


@dataclass
class Item:
    """A drug with what is written about it; '' where nothing is. `site`, `tail` and
    `gloss` (right behind the name) are written but are no field."""

    name: str
    dose: str = ""
    usage: str = ""
    days: str = ""
    site: str = ""
    tail: str = ""
    gloss: str = ""
    as_needed: bool = False


def fact(action: Action, name: str, dose: str = "", usage: str = "", days: str = "") -> Fact:
    pieces = {Field.NAME: name, Field.DOSE: dose, Field.USAGE: usage, Field.DAYS: days}
    return Fact(Kind.PRESCRIPTION, {key: piece for key, piece in pieces.items() if piece}, action=action)


def item_fact(action: Action, item: Item) -> Fact:
    return fact(action, item.name, item.dose, item.usage, item.days)


# -- writing ------------------------------------------------------------------------------------------------------

SEPARATORS = (" ", " ", " ", " ", "　", "　", "", "  ", "、", "　　", " / ", ",", "・")


def join(separator: str, parts: list[str]) -> str:
    """Parts side by side; two numbers never run into one, nor does a Latin word into the next."""
    text = ""
    for part in parts:
        if not part:
            continue
        gap = separator if text else ""
        if not gap and text and re.search(r"[0-9.][ ]?$", text) and re.match(r"[0-9(（×x/.]", part):
            gap = " "
        if not gap and re.search(r"[A-Za-z]$", text) and re.match(r"[A-Za-z]", part):
            gap = " "
        text += gap + part
    return text


def compose(rng: random.Random, item: Item, separator: str | None = None) -> str:
    """The item on one line, in one of the usual orders."""
    gap = rng.choice(SEPARATORS) if separator is None else separator
    shown = item.name + item.gloss
    if rng.random() < 0.015:
        shown = pick(rng, "【般】|[般]|(般)|般）|※|◎|＊") + shown  # prescribed by ingredient (一般名処方), or ticked off
    usage = item.usage
    if usage and gap.strip() == "" and rng.random() < 0.06:
        usage = pick(rng, "（{}）|({})|【{}】|[{}]|〔{}〕").format(usage)
    order = rng.random()
    if order < 0.78:
        parts = [shown, item.dose, usage, item.site, item.days, item.tail]
    elif order < 0.88:
        parts = [shown, usage, item.dose, item.site, item.days, item.tail]
    elif order < 0.94:
        parts = [shown, item.dose, item.days, usage, item.site, item.tail]
    else:
        parts = [shown, item.site, item.dose, usage, item.days, item.tail]
    text = join(gap, parts)
    if item.dose and rng.random() < 0.05:  # a slip of the spacing: two gaps where one was meant
        text = text.replace(shown + gap, shown + gap + " ", 1)
    return text


def _half_width() -> dict[int, str]:
    table = {}
    for code in range(0xFF66, 0xFFA0):
        for mark in ("", "\uff9e", "\uff9f"):
            whole = unicodedata.normalize("NFKC", chr(code) + mark)
            if len(whole) == 1 and "ァ" <= whole <= "ー":
                table[ord(whole)] = chr(code) + mark
    return table


_HALF_KANA = _half_width()
_WIDE_DIGITS = {code: code + 0xFEE0 for code in range(ord("0"), ord("9") + 1)}
_WIDE_ALNUM = {code: code + 0xFEE0 for code in range(0x21, 0x7F) if chr(code).isalnum() or chr(code) in "./%"}


def by_hand(rng: random.Random, ctx: Context, lines: list[Line]) -> list[Line]:
    """The block in the writer's character widths (half-width kana, full-width digits), the same for a whole note."""
    kana = ctx.style.setdefault("kana_width", rng.choices(("full", "half"), (94, 6))[0])
    digits = ctx.style.setdefault("digit_width", rng.choices(("half", "digits", "alnum"), (90, 5, 5))[0])
    table: dict[int, str | int] = {}
    if kana == "half":
        table |= _HALF_KANA
    if digits != "half":
        table |= _WIDE_DIGITS if digits == "digits" else _WIDE_ALNUM
    if table:
        for line in lines:
            line.text = line.text.translate(table)
            for each in line.facts:
                each.fields = {key: piece.translate(table) for key, piece in each.fields.items()}
    return lines


# -- usage and days -----------------------------------------------------------------------------------------------

_ONCE = (
    "分1 朝食後|分1朝食後|分1 朝|分１ 夕食後|分1 夕食後|分1 就寝前|分1 眠前|1日1回 朝食後|1日1回朝食後|1日1回 夕食後|1日1回|1x朝|1x朝食後|"
    "1×朝食後|1×夕|1×朝|1xM|1xA|1xvds|1×v.d.s|1x眠前|朝|朝食後|夕|夕食後|昼食後|眠前|就寝前|寝る前|朝1回|夕1回|起床時|朝食前|分1 朝食前|"
    "1日1回就寝前|毎朝|毎朝食後|夕食直後|1xn|分1|qd|1日1回朝|朝のみ|夜のみ|1日1回起床時|寝る前に1回|1x 朝食後|1X朝食後|分1：朝食後|分1（朝食後）|"
    "分1(夕食後)|朝食後に|1日1回（夕食後）|昼|hs|1xHS|q24h|1日1回 食後|分1 朝食直前|1日1回 昼食後"
)
_TWICE = (
    "分2 朝夕食後|分2朝夕食後|分2 朝夕|分2 朝・夕食後|1日2回 朝夕食後|1日2回朝夕食後|1日2回|2x朝夕|2×朝夕|2x朝夕食後|2×朝夕食後|2xMA|2xM.A|2×n|"
    "朝夕|朝夕食後|朝・夕|朝・夕食後|朝夕食前|分2 朝夕食前|分2 朝食後・就寝前|1日2回 朝・就寝前|分2|bid|b.i.d.|12時間毎|1日2回(朝・夕食後)|"
    "分2（朝夕食後）|2x 朝夕食後|朝、夕|朝食後と夕食後|朝夕2回|1日2回 朝昼食後|分2 朝昼食後|2×朝昼|q12h|朝夕食直後|朝夕の食後"
)
_THRICE = (
    "分3 毎食後|分3毎食後|分3 毎食前|分3 食前|分3 食間|1日3回 毎食後|1日3回毎食後|1日3回 毎食前|1日3回|3xN|3×N|3xn|3×n|3xndE|3×n.d.E|3x毎食後|"
    "3×毎食後|3×毎食前|毎食後|毎食前|毎食間|毎食直前|分3 毎食直前|1日3回毎食直前|食直前|分3|tid|t.i.d.|朝昼夕|朝昼夕食後|3xvdE|8時間毎|q8h|"
    "1日3回（毎食後）|分3(毎食後)|3x 毎食後|食前|食後|1日3回食後|3Xn|毎食後3回|1日3回 食直後|分3 毎食直後|3x食間|朝昼夕の食後"
)
_FOUR = (
    "分4 毎食後・就寝前|分4 毎食後と眠前|1日4回 毎食後・就寝前|1日4回|4×毎食後眠前|4xN+vds|分4|6時間毎|6時間ごと|q6h|1日4回毎食後、就寝前|毎食後・眠前|"
    "4x毎食後と寝る前|qid|1日4回 6時間毎"
)
_SPACED = (
    "週1回(月)|週1回|週1回（月曜）|週1回 起床時|週1回月曜日起床時|毎週月曜 起床時|毎週土曜日|月曜起床時|隔日|隔日 朝|隔日朝食後|1日おき|月・水・金|月水金|火木土|"
    "火・木・土|週3回 透析後|週3回(月水金)|透析日のみ|非透析日|透析後|月1回|月1回 起床時|4週に1回|4週毎|毎月1回|週2回(月・木)|週2回|週1回 水曜 朝食後|"
    "週1回(日)起床時|2日に1回|3日毎|72時間毎|土日のみ|土曜 朝夕|週5日|週1回金曜夕食後|12週毎|半年に1回|6ヶ月毎|2週に1回"
)
_AS_NEEDED = (
    "疼痛時|痛い時|痛む時|痛みがある時|頭痛時|発熱時|発熱時頓用|38.5℃以上の時|38度以上の発熱時|発熱・疼痛時|不眠時|不穏時|便秘時|嘔気時|嘔気時頓用|悪心時|発作時|胸痛時|"
    "胸部症状時|屯用|頓用|頓服|屯服|疼痛時頓用|疼痛時 頓服|疼痛時屯用|不安時|動悸時|めまい時|下痢時|咳がひどい時|呼吸苦時|息切れ時|かゆい時|掻痒時|鼻出血時|腹痛時|生理痛時|"
    "血圧180以上時|浮腫時|吃逆時|体動時痛時|レスキュー|疼痛時 1日3回まで|疼痛時 6時間あけて|頭痛時1日2回まで|排便なし時|3日排便なければ眠前|prn|必要時|適宜|頓|"
    "疼痛増悪時|突出痛時|悪寒時|不眠時頓用|眠れない時|喘鳴時|低血糖時|食欲不振時|38℃以上で頓用|イライラ時|鼻水がひどいとき|頭痛時頓用"
)


def usage(rng: random.Random, times: int) -> str:
    """How often and when. `times` 1–4 a day, 0 for less often than daily, -1 for as needed."""
    return pick(rng, {1: _ONCE, 2: _TWICE, 3: _THRICE, 4: _FOUR, 0: _SPACED, -1: _AS_NEEDED}[times])


DAY_COUNTS = (3, 4, 5, 5, 7, 7, 10, 14, 14, 14, 21, 28, 28, 28, 28, 30, 30, 35, 35, 42, 49, 56, 56, 60, 63, 70, 84, 90, 91)


def days(rng: random.Random, form: str | None = None) -> str:
    """Days of supply; `form` fixes the spelling, with {} for the number."""
    shape = form or days_form(rng)
    return shape.format(rng.choice(DAY_COUNTS))


def days_form(rng: random.Random) -> str:
    return pick(rng, "{}日分|{}日分|{}日分|{}日分|{}TD|{}TD|{}日間|{}日間|{}日|×{}日|x{}TD|×{}TD|{}T.D.|×{}日分|{}日処方|{} 日分|x{}日|/{}日|{}d|{}days")


# -- names --------------------------------------------------------------------------------------------------------

# Brand and ingredient side by side, as in charts that write both.
_PAIRS = (
    "ノルバスク/アムロジピン|アムロジン/アムロジピン|ロキソニン/ロキソプロフェン|リピトール/アトルバスタチン|クレストール/ロスバスタチン|タケプロン/ランソプラゾール|"
    "ネキシウム/エソメプラゾール|バイアスピリン/アスピリン|プラビックス/クロピドグレル|エリキュース/アピキサバン|リクシアナ/エドキサバン|イグザレルト/リバーロキサバン|"
    "ラシックス/フロセミド|アルダクトンA/スピロノラクトン|メトグルコ/メトホルミン|ジャヌビア/シタグリプチン|フォシーガ/ダパグリフロジン|ジャディアンス/エンパグリフロジン|"
    "マイスリー/ゾルピデム|デパス/エチゾラム|リリカ/プレガバリン|サインバルタ/デュロキセチン|ムコダイン/カルボシステイン|ムコスタ/レバミピド|クラビット/レボフロキサシン|"
    "フロモックス/セフカペンピボキシル|ザイロリック/アロプリノール|フェブリク/フェブキソスタット|ディオバン/バルサルタン|オルメテック/オルメサルタン|アーチスト/カルベジロール|"
    "メインテート/ビソプロロール|プレドニン/プレドニゾロン|チラーヂンS/レボチロキシン|アリセプト/ドネペジル|ザイザル/レボセチリジン|キプレス/モンテルカスト|ベルソムラ/スボレキサント"
)
_MAKERS = "「トーワ」|「サワイ」|「日医工」|「明治」|「NP」|「ファイザー」|「DSEP」|「ケミファ」|「杏林」|「タカタ」|「EE」|「TCK」|「アメル」|「JG」|「オーハラ」|「YD」"

_GROUPS = {
    "錠": "tablet", "カプセル": "capsule", "散": "powder", "細粒": "powder", "顆粒": "powder", "シロップ": "liquid", "液": "liquid",
    "点眼": "eye", "軟膏": "ointment", "クリーム": "ointment", "ローション": "ointment", "テープ": "patch", "パッチ": "patch",
    "パップ": "patch", "吸入": "inhaler", "エアゾール": "inhaler", "注": "injection", "坐": "suppository", "点鼻": "spray", "ゲル": "ointment",
    "ゼリー": "liquid", "貼付": "patch", "包": "powder",
}  # fmt: skip


def group(drug: Drug) -> str:
    """tablet | capsule | powder … by the form, else by what the name itself says of it; '' if neither tells."""
    for text in (drug.form, drug.name):
        for mark in ("点眼", "点鼻", "吸入", "注", "点滴", "皮下", "坐"):
            if mark in text:
                return _GROUPS.get(mark, "injection")
        for mark, kind in _GROUPS.items():
            if mark in text:
                return kind
    return "powder" if drug.name.endswith(("末", "エキス")) else ""


# Official price lists also hold what is no prescription here: fluids, blood, contrast media, test agents, disinfectants.
_NO_DRUG = re.compile(
    "バリ[ブテトコ]|ヒビテン|マスキン|ハイカリック|PET|ヨード|血球|血小板|血漿|赤血球|照射|バリウム|バリトップ|エネマスター|テクネ|造影|オムニパーク|イオパミ|ガドビ|ツベルクリン|ワクチン|トキソイド|輸液|輸|糖液|糖注|大塚糖|"
    "ラクト|ラクテック|ソリタ|ソルデム|ヴィーン|パレプラス|イントラリポス|ビーフリード|エルネオパ|フィジオ|KN[1-4]|生食|食塩|リンゲル|透析|ヘパフィルド|キドミン|アミパレン|ビカーボン|"
    "エーテル|アルコール|エタノール|消毒|ヨードチンキ|ステリクロン|ヘキザック|クロルヘキシジン|酸素|窒素|カチリ|フルデオキシ|シンチ|ダイアニール|腹膜|検査|診断|蒸留水|注射用水|ポビドン|"
    "ソルアセト|ソルマルト|ハルトマン|アクチット|ソリューゲン|ニソリ|EL-3|デノサリン|リプラス|アクマルト|フルクト|マルトス|ポタコール|生理|デキストラン|サヴィオゾール|ボルベン|ヘスパンダー|ツインパル|フルカリック|ネオパレン|ワンパル|アミノ酸|アルブミン|グロブリン|"
    "エネフリード|モリアミン|モリプロン|モリヘパミン|アミグランド|プラスアミノ|ネオアミユー|プレアミン|プロテアミン|アミゼット|プリモビスト|ガストログラフ|マグネビスト|オムニスキャン|インジゴカルミン|フルオレ|ジアグノ|ソナゾイド|ルゴール|リピオドール|イオメロン|イオプロミド|イオジキサ|"
    "ロック|ミッドペリック|フィルム|トレーサ|スキャン|カーボスター|サブラッド|キンダリー|ベンザルコニウム|オキシドール|グルコース|ブドウ糖|イオヘキソール|イオ[ベプメ]|ガド[テキブ]"
)


def medicine(rng: random.Random, names: Names, lists: tuple[str, ...] = ()) -> Drug:
    """A drug that a statement may be about; of the given groups if any come up."""
    drug = names.drug(rng)
    for _ in range(30):
        if not _NO_DRUG.search(drug.name) and (not lists or group(drug) in lists):
            break
        drug = names.drug(rng)
    return Drug(drug.name.strip(), drug.form, drug.strength)


def spell(rng: random.Random, drug: Drug) -> str:
    """The name with what is written next to it of form and strength."""
    name, form, strength = drug.name, drug.form, drug.strength
    form = "" if form and (name.endswith(form) or form in name) else form
    number = re.match(r"[0-9.]+", strength)
    way = rng.random()
    if strength and way < 0.26:
        text = name + form + strength
    elif strength and way < 0.46:
        text = name + strength
    elif strength and way < 0.54:
        text = name + pick(rng, "({})|（{}）|（{}） |[{}]").format(pick(rng, f"{strength}|{number[0] if number else strength}")).strip()
    elif number and "%" not in strength and way < 0.61:
        text = name + number[0]
    elif strength and way < 0.70:
        text = name + pick(rng, " |　") + strength
    elif strength and way < 0.76:
        text = name + form + pick(rng, " |　| ") + strength
    elif strength and way < 0.79:
        text = name + form + pick(rng, "({})|（{}）").format(strength)
    elif strength and way < 0.82:
        text = name + form + strength + pick(rng, _MAKERS)
    elif strength and way < 0.84 and number and strength.endswith("mg"):
        text = name + number[0] + pick(rng, "ｍｇ|㎎|MG|ミリ|mg錠")
    elif way < 0.9:
        text = name + form
    else:
        text = name
    return text.strip()


def _tablets(rng: random.Random, kind: str, times: int) -> str:
    unit = pick(rng, "錠|錠|錠|錠|T|T|tab|Tab|錠") if kind == "tablet" else pick(rng, "カプセル|C|Cap|cap|C|Cp|カプセル|CAP")
    if times not in (2, 3, 4):
        count = pick(rng, "1|1|1|1|1|2|2|0.5|3|4|1.5|6|1/2")
        form = pick(rng, "{}|{}|{}|{}|{}|1回{}|1日{}|1日1回{}|{}/日|{} |1回 {}").strip()
        if unit == "錠" and rng.random() < 0.04:
            return pick(rng, "半錠|一錠|二錠|1錠半|1T半")
        return "1回" + count + unit if form.startswith("1日1回") else form.format(count + unit)
    each = rng.choice((1, 1, 1, 1, 2, 2))
    if rng.random() < 0.3:
        return pick(rng, "1回{}|1回{}|1回 {}|各{}|{}ずつ|{}/回").format(f"{each}{unit}")
    gap = " " if rng.random() < 0.04 else ""
    return pick(rng, "{}|{}|{}|{}|1日{}|{}/日|1日量{}").format(f"{each * times}{gap}{unit}")


def _oral(rng: random.Random, drug: Drug, kind: str) -> Item:
    times = rng.choices((1, 2, 3, 4, 0), (48, 22, 22, 3, 5))[0]
    name = spell(rng, drug)
    if kind in ("tablet", "capsule", ""):
        dose = _tablets(rng, kind or "tablet", times)
        if rng.random() < 0.07 and drug.strength.endswith(("mg", "g")):
            # A daily quantity instead of a count: the name then stands without its strength.
            name, number = drug.name, drug.strength
            dose = pick(rng, "{}/日|{}/day|1日{}|1回{}|{}/回|{}/d").format(number)
        return Item(name, dose, usage(rng, times))
    if kind == "powder":
        name = drug.name + (drug.form if rng.random() < 0.6 else "") + (drug.strength if "%" in drug.strength else "")
        dose = pick(rng, "0.5g|1g|1.5g|2g|3g|0.3g|6g|1.0g|3.0g|1包|2包|3包|1P|3P|1回1包|1回0.5g|1日3g|0.8g/日|12g|9g|1.2g|0.67g|1包/回|1日3包|6包")
        return Item(name, dose, usage(rng, times))
    dose = pick(rng, "10mL|5mL|15mL|30mL|1回10mL|20ml|6mL|4.5mL|1回5ml|1本|1包|8cc|12ml|1日30mL|60mL|10cc|3ml|2.5mL|1回1包")
    return Item(name, dose, usage(rng, times))


_TOPICAL = {
    "eye": "ヒアレイン点眼液0.1%|ヒアレイン|クラビット点眼|クラビット点眼液1.5%|キサラタン|キサラタン点眼液0.005%|デュオトラバ|コソプト|アイファガン|フルメトロン0.1|"
    "フルメトロン点眼液0.02%|リンデロン点眼|ジクアス|ジクアスLX|ムコスタ点眼|チモプトールXE|ルミガン|タプロス|エイベリス|アレジオンLX|パタノール|サンピロ2%|ミドリンP|"
    "ブロナック|ベガモックス|カリーユニ|アゾルガ|ミケルナ|トラチモ|エイゾプト|リズモンTG|ガチフロ|ネバナック|オドメール|ソフティア",
    "inhaler": "アドエア250|アドエア500ディスカス|シムビコート|レルベア100|レルベア200エリプタ|スピリーバ|スピリーバ2.5μgレスピマット|フルティフォーム125|テリルジー100|"
    "ビレーズトリ|パルミコート|パルミコート200|サルタノール|サルタノールインヘラー|メプチンエアー|メプチンスイングヘラー|オルベスコ|エンクラッセ|アノーロ|スピオルト|ウルティブロ|"
    "キュバール100|フルタイド200|オンブレス|エナジア|アテキュラ|ビベスピ|シーブリ|ベロテック",
    "spray": "アラミスト点鼻|ナゾネックス点鼻|ナゾネックス|フルナーゼ点鼻液|エリザス|モメタゾン点鼻|デスモプレシン点鼻|トラマゾリン点鼻|ミニリンメルト|ニトロペン|ミオコールスプレー",
    "ointment": "リンデロンVG軟膏|アンテベート軟膏|デルモベート|ロコイド軟膏|ロコイド|プロトピック軟膏0.1%|ヒルドイドソフト|ヒルドイド|ヘパリン類似物質クリーム|プロペト|白色ワセリン|"
    "ゲンタシン軟膏|アズノール軟膏|ゲーベンクリーム|ユーパスタ|カデックス軟膏|ルリコン|ラミシール|アスタットクリーム|ニゾラール|マイザー|キンダベート|ボチシート|ウレパール|"
    "ケラチナミン|デュアック|ベピオゲル|ディフェリン|アラセナA軟膏|強力ポステリザン|ネリプロクト|ボルタレンゲル|コレクチム軟膏|モイゼルト|フィブラストスプレー|イソジンシュガー|亜鉛華軟膏|オイラックス",
    "patch": "モーラステープ20|モーラステープL40mg|ロキソニンテープ100|ロキソプロフェンテープ|ホクナリンテープ2mg|ツロブテロールテープ|ニトロダームTTS|フランドルテープ40|フランドルテープ|"
    "ノルスパンテープ5mg|フェントステープ1mg|デュロテップMT2.1|イクセロンパッチ|リバスタッチ9mg|ニュープロパッチ|ビソノテープ4|ミルタックスパップ|セルタッチ|ジクトルテープ|ロコアテープ|"
    "エストラーナ|ネオキシテープ|リドカインテープ|アドフィード|ハルロピテープ|フェンタニルテープ0.5",
    "suppository": "ボルタレンサポ25mg|ボルタレン坐剤50|アンヒバ坐剤100|アンヒバ200|カロナール坐剤|ジクロフェナク坐薬25mg|新レシカルボン坐剤|レシカルボン|ナウゼリン坐薬30|テレミンソフト|"
    "ダイアップ4|ダイアップ坐剤6|インテバン坐剤|アルピニー100|ワコビタール|ペンタサ坐剤1g|リンデロン坐剤|プロクトセディル",
    "kampo": "ツムラ大建中湯|大建中湯|ツムラ100|抑肝散|抑肝散加陳皮半夏|葛根湯|小青竜湯|麦門冬湯|芍薬甘草湯|補中益気湯|六君子湯|牛車腎気丸|八味地黄丸|当帰芍薬散|加味逍遙散|桂枝茯苓丸|"
    "半夏厚朴湯|五苓散|防風通聖散|麻黄附子細辛湯|ツムラ芍薬甘草湯(68)|TJ-54|ツムラ抑肝散エキス顆粒|クラシエ葛根湯|大黄甘草湯|潤腸湯|麻子仁丸|半夏瀉心湯|十全大補湯|人参養栄湯|"
    "柴苓湯|猪苓湯|防已黄耆湯|清肺湯|辛夷清肺湯|竹茹温胆湯|酸棗仁湯|桂枝加朮附湯|疎経活血湯|釣藤散|半夏白朮天麻湯|苓桂朮甘湯|十味敗毒湯|消風散|乙字湯|安中散|平胃散|真武湯|TJ-100|N107",
    "insulin": "ノボラピッド|ノボラピッド注フレックスペン|ヒューマログ|ヒューマログミックス25|アピドラ|フィアスプ|ルムジェブ|ランタス|ランタスXR|ランタス注ソロスター|トレシーバ|"
    "レベミル|グラルギンBS|インスリングラルギンBS|リスプロBS|ノボリンR|ヒューマリンR|ヒューマリンN|ライゾデグ|ノボラピッド30ミックス|ゾルトファイ|ソリクア|アスパルトBS|イノレットR",
    "glp": "トルリシティ|トルリシティ0.75mg|オゼンピック|ビクトーザ|マンジャロ|バイエッタ|リキスミア|ウゴービ|ヒュミラ|エンブレル|アクテムラ|ケシンプタ|オレンシア|デュピクセント|ヌーカラ|"
    "プラリア|イベニティ|テリボン|フォルテオ|ネスプ|ミルセラ|エポジン|レパーサ|プラルエント|コセンティクス|トルツ|ゾラデックス|リュープリン|メソトレキセート|フェジン",
    "injection": "CTRX|CEZ|CMZ|ABPC/SBT|TAZ/PIPC|PIPC|MEPM|VCM|LVFX|CAZ|CFPM|GM|AZM|DRPM|TEIC|LZD|MINO|CLDM|FLCZ|MCFG|ACV|PAPM|SBT/ABPC|CPZ/SBT|TAZ|セフトリアキソン|"
    "ロセフィン|セファゾリン|タゾピペ|ゾシン|ユナシンS|スルバシリン|メロペネム|メロペン|バンコマイシン|セファメジン|セフメタゾール|ラシックス|フロセミド|ソルメドロール|デキサート|"
    "デカドロン|ヘパリン|ハンプ|ドパミン|ノルアドレナリン|ニカルジピン|ペルジピン|アンカロン|アミオダロン|オメプラゾール|タケプロン|プリンペラン|アセリオ|カロナール|ロピオン|ソセゴン|"
    "アタラックスP|セレネース|ドルミカム|プロポフォール|プレセデックス|フェンタニル|モルヒネ|オキファスト|ビタメジン|アスパラK|ソルコーテフ|ハイドロコートン|ネオフィリン|ラジカット|"
    "エダラボン|グリセオール|グリセレブ|トランサミン|アドナ|メイロン|カルチコール|セフェピム|ゲンタシン|クリンダマイシン|ボスミン|アトロピン|リドカイン|ニトロール|シグマート|オノアクト|エクストラニール",
}  # fmt: skip
_ABBREVIATIONS = (
    "PSL|PSL5mg|MTX|LVFX|AMPC|AMPC/CVA|CVA/AMPC|CAM|AZM|CDTR-PI|CFPN-PI|CCL|ST合剤|MINO|VACV|AZA|TAC|CyA|MMF|HCQ|SASP|5-ASA|L-DOPA|UDCA|ASA|NTG|ISDN|LT4|T4|"
    "INH|RFP|EB|PZA|VPA|CBZ|LEV|LTG|TS-1|S-1|UFT|TAM|カマ|カマグ330|酸化Mg330mg|酸化マグネシウム|マグミット330|MgO|ワーファリン|WF|アムロジ|ロキソ|カロナール|プレドニン5|ムコ|"
    "アザチオプリン|BUC|IGU|TOF|BAR|UPA|LEF|MZR|SPL|EPL|CPG|PRS|BIS|CVD|AMD|VER|DTZ|DIG|NTG舌下|ROS|EZE|TLV|DTX|CPT-11|5-FU|Cape|TAS-102|TMZ|GEM|CPA|LEN|ETH|PB|ZNS|LCM|TPM|PER|CLB|PHT|DZP|SV|Li|OLZ|RIS|QTP|ARP|"
    "SMX/TMP|CEX|CDTR|CFDN|FRPM|STFX|GRNX|MFLX|DOXY|FOM|RXM|VRCZ|ITCZ|FLCZ|GCV|VGCV|FCV|LAM|ETV|TAF|SM|PAS|DDS|TGC|mPSL|DEX|HDC|BTM|COL|AUR|D-Pen|ASA81mg|WFN|L-T4|MMI|PTU|KI|MET|SITA|DAPA|EMPA|LINA|GLM|VDT|"
    "ビオ3|SM散|トランサミン|ラックB|ビオフェルミン|アドナ|重ソウ|ミヤBM|ガスコン|PL顆粒|PL|総合感冒薬PL|メコバラミン|メチコ|フォリアミン|ケイキサレート|アーガメイト|EPA|エパデール"
)


_SALTS = (
    "アスパラK散50%|アスパラK錠300mg|アスパラCa錠200|塩化Na|塩化ナトリウム|塩化K徐放錠600mg|グルコンサンK細粒4mEq/g|グルコン酸K錠5mEq|酸化Mg細粒83%|酸化Mg錠330mg|酸化Mg|炭酸Ca|沈降炭酸Ca錠500mg|乳酸Ca|クエン酸K・クエン酸Na配合錠|"
    "炭酸水素Na|炭酸水素Na末|バルプロ酸Na徐放錠200mg|バルプロ酸Na細粒40%|ロサルタンK錠50mg|モンテルカストNa錠10mg|プラバスタチンNa錠10mg|ラベプラゾールNa錠10mg|リセドロン酸Na錠17.5mg|アレンドロン酸Na錠35mg|アトルバスタチンCa|"
    "ロスバスタチンCa|ピタバスタチンCa錠2mg|レボチロキシンNa錠50μg|エソメプラゾールMg|ピコスルファートNa内用液0.75%|ピコスルファートNa|ジクロフェナクNa錠25mg|ロキソプロフェンNa錠60mg|ロキソプロフェンNa|クエン酸第一鉄Na錠50mg|"
    "ポリスチレンスルホン酸Ca|ポリスチレンスルホン酸Na|アルギン酸Na|フルバスタチンNa|ミグリトール|ワルファリンK錠1mg|ワルファリンK|ワルファリンK細粒0.2%|ダントロレンNa|カルバゾクロムスルホン酸Na|クロモグリク酸Na|L-アスパラギン酸Ca錠200mg|"
    "L-アスパラギン酸K|リン酸Na|ホスリボン配合顆粒|レボホリナートCa|ホリナートCa|フェキソフェナジン塩酸塩錠60mg|メサラジン徐放錠500mg|チオ硫酸Na|硫酸Mg|乾燥硫酸鉄|フェロ・グラデュメット|プロマックD|ポラプレジンク|酢酸亜鉛錠50mg|ビスマス"
)
_COURSE = (
    "CTRX|CTRX|ABPC/SBT|SBT/ABPC|TAZ/PIPC|PIPC/TAZ|CEZ|CMZ|CFPM|CAZ|CTX|FMOX|MEPM|DRPM|IPM/CS|VCM|TEIC|LZD|DAP|CLDM|AZM|LVFX|CPFX|MINO|GM|AMK|MNZ|ABPC|PCG|AMPC|AMPC/CVA|CVA/AMPC|ST合剤|MCFG|CPFG|L-AMB|F-FLCZ|ACV|GCV|"
    "PSL|PSL|mPSL|DEX|セフトリアキソン|アンピシリン・スルバクタム|タゾバクタム・ピペラシリン|メロペネム|セファゾリン|セフメタゾール|セフェピム|バンコマイシン|アジスロマイシン|レボフロキサシン|ミノサイクリン|オセルタミビル|ペラミビル|ラピアクタ|"
    "レムデシビル|ベクルリー|ソル・メドロール|メチルプレドニゾロン|プレドニゾロン|デキサメタゾン|ヒドロコルチゾン|アセリオ|フロセミド|トルバプタン|ヘパリン|カルペリチド|エダラボン|オザグレル|ナファモスタット|ウリナスタチン|アシクロビル|シプロフロキサシン"
)
_CHEMO = (
    "S-1|CDDP|CBDCA|L-OHP|CPT-11|5-FU|GEM|PTX|DTX|nab-PTX|PEM|BV|Cmab|Pmab|RAM|T-DXd|T-DM1|ADM|EPI|CPA|VCR|VP-16|TMZ|Cape|FTD/TPI|HER|RTX|R-CHOP|FOLFOX|FOLFIRI|XELOX|AC療法|TC療法|オシメルチニブ|ペムブロリズマブ|ニボルマブ|アテゾリズマブ|"
    "デュルバルマブ|イピリムマブ|イマチニブ|ダサチニブ|レンバチニブ|カボザンチニブ|スニチニブ|エンザルタミド|アビラテロン|パルボシクリブ|アベマシクリブ|タモキシフェン|レトロゾール|アナストロゾール|ボルテゾミブ|レナリドミド|ダラツムマブ|アザシチジン"
)
_DMARDS = (
    "MTX|MTX|SASP|BUC|TAC|IGU|LEF|TOF|BAR|UPA|FIL|PSL|PSL|HCQ|AZA|MMF|CyA|MZR|ETN|ADA|TCZ|SAR|ABT|GLM|CZP|IFX|SEC|IXE|UST|GUS|RZB|BIM|BEL|アプレミラスト|ウパダシチニブ|バリシチニブ|トファシチニブ|サラゾスルファピリジン|イグラチモド|ブシラミン|"
    "タクロリムス|アザチオプリン|ミコフェノール酸モフェチル|ヒドロキシクロロキン|コルヒチン|エタネルセプト|アダリムマブ|セクキヌマブ|グセルクマブ|リサンキズマブ|デュークラバシチニブ|メトトレキサート|プレドニゾロン|エトレチナート|シクロスポリン"
)
_BIOLOGICS = (
    "デノスマブ|プラリア|プラリア皮下注60mgシリンジ|ランマーク|ロモソズマブ|イベニティ|テリパラチド|メポリズマブ|ベンラリズマブ|ファセンラ|テゼスパイア|オマリズマブ|ゾレア|デュピルマブ|デュピクセント|ネモリズマブ|アダリムマブ|セクキヌマブ|ウステキヌマブ|"
    "ステラーラ|トレムフィア|スキリージ|リサンキズマブ|グセルクマブ|ゴリムマブ|エタネルセプト|トシリズマブ|アバタセプト|エボロクマブ|インクリシラン|ガルカネズマブ|エムガルティ|アジョビ|アイモビーグ|オファツムマブ|ナタリズマブ|リュープロレリン|リュープリン|"
    "ゴセレリン|ゾラデックス|デガレリクス|オクトレオチド|ランレオチド|ソマチュリン|セマグルチド|デュラグルチド|チルゼパチド|ダルベポエチン|ネスプ|エポエチンベータペゴル|ミルセラ|パリペリドン|アリピプラゾール持続性水懸筋注|ゼプリオン|エビリファイLAI|"
    "メトジェクト|イキセキズマブ|ブロダルマブ|ビメキズマブ|ベリムマブ|アニフロルマブ|ラナデルマブ|ブロスマブ|ゾレドロン酸|イバンドロン酸|ソマトロピン|ペグフィルグラスチム|ジーラスタ"
)
_RESCUES = (
    "オキノーム散2.5mg|オキノーム散5mg|オキノーム|オプソ内服液5mg|オプソ10mg|ナルラピド錠1mg|ナルラピド2mg|モルヒネ塩酸塩|モルヒネ水|アブストラル舌下錠100μg|イーフェンバッカル50μg|アンペック坐剤10mg|フェンタニル早送り|オキシコドン散|ヒドロモルフォン|"
    "サルタノール|メプチンエアー|ニトロペン舌下錠0.3mg|ミオコールスプレー|カロナール錠500mg|ロキソプロフェン錠60mg|アセトアミノフェン錠500mg|トラマドール25mg|アルプラゾラム0.4mg|ロラゼパム0.5mg|ブスコパン|ナウゼリン|プリンペラン|スマトリプタン50mg|レルパックス20mg"
)


def _plain(rng: random.Random, kind: str) -> Item:
    """A drug of a hospital's or a clinic's jargon, with quantities of its kind."""
    if kind == "course":
        return Item(
            pick(rng, _COURSE), pick(rng, "1回2g|1回1g|1回3g|1回4.5g|1回0.5g|1回500mg|1回40mg|1回20mg|1回1,000mg|1回1.5g|1回100mg|2g|1g|600mg/日|40mg/日|1000mg|1回80mg|1回250mg|2g/日|1 g"),
            pick(rng, "1日1回|1日1回|1日2回|1日3回|1日4回|8時間毎|12時間毎|24時間毎|6時間ごと|q8h|q24h|分2|q12h|1日1回点滴静注|1日2回点滴"),
            pick(rng, "7日間|5日間|3日間|14日間|10日間|5日|7日|2週間|4日間|6週間|8日間|1週間|計14日間|計7日間"),
        )  # fmt: skip
    if kind == "chemo":
        return Item(pick(rng, _CHEMO), pick(rng, "80mg/m2|100mg/body|120mg/日|AUC5|1000mg/m2|80mg/日|200mg/body|75mg/m2|240mg|20mg/日|80%量|100mg/日"), pick(rng, "3週毎|2週毎|day1,8|4投2休|2投1休|3週ごと|day1|週1回|1日1回|分2 朝夕"), pick(rng, "14日分|21日分|28日分"))
    if kind == "dmard":
        return Item(pick(rng, _DMARDS), pick(rng, "8mg/週|6mg/週|12mg/週|1000mg/日|200mg/日|3mg/日|50mg/日|15mg/日|4mg/日|5mg/日|7.5mg/日|2mg/日|10mg/日|30mg 1T|15mg|40mg|50mg/週|162mg|100mg/日|2g/日|60mg/日"), pick(rng, "週1回|分2|分1 朝食後|隔週|2週毎|4週毎|1日1回|1日2回|8週毎|分2 朝夕食後"), days(rng))
    if kind == "glp":
        return Item(pick(rng, _BIOLOGICS), pick(rng, "60mg|120mg|210mg|300mg|100mg|80mg|40mg|30mg|140mg|150mg|0.75mg|0.5mg|1mg|2.5mg|30μg|11.25mg|3.75mg|10.8mg|45mg|90mg|1筒|1本|20μg|400mg"), pick(rng, "6か月毎|6ヶ月毎|6か月に1回|4週毎|4週ごと|月1回|毎月1回|2週毎|2週に1回|8週毎|8週間隔|12週毎|3か月毎|3ヶ月に1回|隔週|週1回|毎週月曜|半年毎|年1回"), site=pick(rng, "|皮下注|皮下注|sc|筋注|自己注射|皮下注射"))
    if kind == "rescue":
        return Item(pick(rng, _RESCUES), pick(rng, "1回1包|1包|1回5mg|5mg/回|1回2.5mg|2.5mg/回|1回1錠|1錠|1回1個|10mg/回|1回10mg|1回1時間量|1回2吸入|1T"), pick(rng, "疼痛時|突出痛時|呼吸困難時|疼痛時 1時間以上あけて|疼痛増強時|発作時|頭痛時|疼痛時1日4回まで|呼吸苦時|レスキュー|痛みが強い時|嘔気時|不安時|処置前"), as_needed=True)
    times = rng.choice((1, 2, 3, 3))
    name = pick(rng, _SALTS)
    powder = re.search("散|細粒|末|顆粒", name)
    dose = pick(rng, "0.5g|1g|1.5g|2g|3g|1包|3包|1.0g|1回1g") if powder else pick(rng, "10mL|20滴|1回10滴") if "液" in name else _tablets(rng, "tablet", times)
    return Item(name, dose, usage(rng, times), days(rng))


def _topical(rng: random.Random, name: str, kind: str) -> Item:
    if kind == "eye":
        return Item(name, pick(rng, "1滴|1回1滴|1回1滴|1本|2本|5mL|||5ml 1本"), pick(rng, "1日4回|1日3回|1日2回|1日1回|1日6回|眠前|就寝前|1日1回眠前|朝夕|4×|3x|1日4回点眼|朝1回|2回/日|4回/日|1日5〜6回"), site=pick(rng, "両眼|右眼|左眼|||両|(両)|R|L"))
    if kind == "inhaler":
        return Item(name, pick(rng, "1吸入|2吸入|1回1吸入|1回2吸入|1回2puff|2パフ|2puff|1キット|1個|2本|1回1カプセル|"), pick(rng, "1日2回|1日1回|朝夕|朝|1日2回朝夕|発作時|夕|bid|1日1回朝|眠前|分2 朝夕"))
    if kind == "spray":
        return Item(name, pick(rng, "1噴霧|2噴霧|1回2噴霧|1本|各鼻腔2噴霧|1回1噴霧|1瓶"), pick(rng, "1日1回|1日2回|朝|朝夕|胸痛時|発作時|眠前|1日1回朝"))
    if kind == "ointment":
        return Item(name, pick(rng, "適量|適量|10g|5g|1本|2本|25g|50g|30g|100g|1日2g|"), pick(rng, "1日2回|1日2回塗布|1日1回|1日数回|朝・入浴後|入浴後|適宜|1日1回 就寝前|処置時|排便後|掻痒時|1日3回|朝夕|患部に1日2回"), site=pick(rng, "||患部|体幹|四肢|顔|仙骨部|両下肢|陰部|手|塗布"))
    if kind == "patch":
        return Item(name, pick(rng, "1枚|1枚|1回1枚|2枚|7枚|14枚|35枚|70枚|63枚|1日1枚|3袋|1P|5袋"), pick(rng, "1日1回|1日1回貼付|1日1枚貼付|眠前|夜|就寝前|72時間毎|毎日貼替|入浴後|朝|1日1回腰部|7日毎|1日2回"), site=pick(rng, "||腰|膝|胸部|右肩|患部|前胸部|両膝|貼付"))
    if kind == "suppository":
        return Item(name, pick(rng, "1個|1個|1回1個|1/2個|2/3個|1本|1回1/2個|0.5個"), usage(rng, -1), tail=pick(rng, "|5個|3回分|10個|5回分"), as_needed=True)
    dose = pick(rng, "7.5g|5g|2.5g|7.5g|5.0g|3包|2包|1包|1回2.5g|1回1包|15g|9g|6g|7.5g/日|1日3包|7.5 g|1日7.5g")
    times = usage(rng, rng.choice((1, 2, 3, 3, 3)))
    times = times.replace("食後", pick(rng, "食前|食前|食間|食後"))
    return Item(name, dose, times)


def _insulin(rng: random.Random, name: str) -> Item:
    counts = [str(rng.choice((2, 3, 4, 4, 6, 8, 10, 12, 14, 16))) for _ in range(4)]
    unit = pick(rng, "単位|単位|単位|U|E|u")
    way = rng.random()
    if way < 0.4:
        dose = pick(rng, "{0}-{1}-{2}{u}|{0}-{1}-{2}{u}|{0}-{1}-{2}-0{u}|({0}-{1}-{2}){u}|{0}-0-{2}{u}|{0}-{1}-{2}-{3}{u}|{0}・{1}・{2}{u}|{0}/{1}/{2}{u}|({0},{1},{2},0)|0-0-0-{3}{u}|{0}-{1}-{2}|{0}-0-{2}-0")
        return Item(name, dose.format(*counts, u=unit), pick(rng, "毎食直前|毎食前|食直前|||朝昼夕|毎食直前|3x直前|朝昼夕食直前|毎食直前皮下注"))
    dose = pick(rng, "{}{u}|{}{u}|{} {u}|1回{}{u}|1日{}{u}|{}{u}/日").format(counts[3], u=unit)
    return Item(name, dose, pick(rng, "朝|朝|眠前|就寝前|夕|夕食前|朝食前|1日1回|1日1回朝|寝る前|朝夕|朝食直前|毎食直前|1日1回眠前|毎朝|分1 朝"))


def _injection(rng: random.Random, name: str) -> Item:
    dose = pick(rng, "1g|2g|1g|2g|0.5g|4.5g|3g|1.5g|2.25g|500mg|1000mg|250mg|20mg|40mg|10mg|4mg|6.6mg|100mg|1A|1A|1V|2A|0.5A|1筒|1mg|5mg|1000単位|10000単位|2.0g|1回1g|1回4.5g|3ml/hr|2mL/h|5γ|0.05γ|1袋|50mL|1000mg/日|80mg/日|1.0g|1 g|0.6g")
    when = pick(rng, "q24h|q12h|q8h|q6h|×3/日|×2/日|x1/日|1日1回|1日2回|1日3回|8時間毎|12時間毎|24時間毎|6時間毎|×2|×3|1日1回点滴|朝夕|分2|1日3回点滴静注|q8hr|q6-8h|単回|持続|1回のみ|")
    return Item(name, dose, when, site=pick(rng, "|||iv|div|IV|DIV|静注|点滴静注|im|筋注|+生食100|側管から|皮下注|sc|in 生食100mL"))


def draw(rng: random.Random, names: Names, kind: str = "") -> Item:
    """A drug with dose, usage and (unless as needed or not counted in days) days of supply.

    `kind`: oral | eye | inhaler | spray | ointment | patch | suppository | kampo | insulin | glp | injection |
    as_needed | spaced | salt | rescue | course (drugs of a stay) | chemo | dmard, or '' for the mixture of an outpatient's list.
    """
    kind = kind or rng.choices(
        ("oral", "kampo", "insulin", "inhaler", "eye", "ointment", "patch", "suppository", "spray", "spaced", "as_needed", "glp", "short", "salt", "rescue", "dmard"),
        (66, 4, 3, 3, 3, 3, 3, 1, 1, 2, 7, 2, 5, 4, 1, 1),
    )[0]  # fmt: skip
    if kind == "insulin":
        return _insulin(rng, pick(rng, _TOPICAL["insulin"]))
    if kind == "injection":
        return _injection(rng, pick(rng, _TOPICAL["injection"]))
    if kind in ("course", "chemo", "dmard", "rescue", "salt") or kind == "glp" and rng.random() < 0.6:
        return _plain(rng, kind)
    if kind == "glp":
        dose = pick(rng, "0.25mg|0.5mg|0.75mg|2.5mg|1mg|1本|1A|1キット|60mg|40mg|30μg|1筒|100mg|1.8mg|2本")
        return Item(pick(rng, _TOPICAL["glp"]), dose, pick(rng, "週1回|週1回皮下注|週1回(日)|1日1回朝|2週毎|2週に1回|4週毎|6ヶ月毎|月1回|半年に1回|毎週火曜|3ヶ月毎"), site=pick(rng, "|||皮下注|sc"))
    if kind in _TOPICAL:
        return _topical(rng, pick(rng, _TOPICAL[kind]), kind)
    if kind == "short":
        times = rng.choice((1, 1, 2, 3))
        return Item(pick(rng, _ABBREVIATIONS), _tablets(rng, "tablet", times), usage(rng, times), days(rng))
    if kind == "oral" and rng.random() < 0.04:
        brand, ingredient = pick(rng, _PAIRS).split("/")
        first, second = (brand, ingredient) if rng.random() < 0.7 else (ingredient, brand)
        times = rng.choice((1, 1, 2, 3))
        gloss = pick(rng, "（{}）|({})| ({})|＜{}＞|〔{}〕|（={}）|（{}後発）").format(second)
        return Item(first, _tablets(rng, "tablet", times), usage(rng, times), days(rng), gloss=gloss)
    drug = medicine(rng, names, () if rng.random() < 0.08 else ("tablet", "tablet", "capsule", "powder", "liquid", ""))
    found = group(drug)
    if found == "injection":
        return _injection(rng, spell(rng, drug))
    if found in _TOPICAL:
        return _topical(rng, spell(rng, drug), found)
    made = _oral(rng, drug, found if found in ("tablet", "capsule", "powder", "liquid") else "tablet")
    if kind == "spaced":
        made.usage = usage(rng, 0)
        made.dose = _tablets(rng, "tablet", 1) if rng.random() < 0.7 else pick(rng, "8mg/週|6mg/週|10mg/週|1回1錠|2T|3錠")
        return made
    if kind == "as_needed" or made.usage.endswith("時") and rng.random() < 0.1:
        made.dose = pick(rng, {
            "powder": "1包|1回1包|0.3g|1P|0.5g|1回1P|", "liquid": "10mL|5mL|1包|1回10滴|15滴|1本|", "capsule": "1C|1Cap|1回1カプセル|1カプセル|",
        }.get(found, "1錠|1T|2錠|1回1錠|1回2錠|1tab|2T|1回1T|1回2T|0.5錠|1錠|1 錠|各1錠|"))  # fmt: skip
        made.usage, made.days, made.as_needed = usage(rng, -1), "", True
        made.tail = pick(rng, "|||10回分|5回分|6回分|20回分|10T|20錠分|3回分|×10回|10回|x5回分|(5回分)|14回分|１０回分|30回")
        return made
    made.days = days(rng)
    return made

