"""Words for allergies: families of substances with what they do and how one meets them, and side effects that are none.

`tell` writes a frame with several substances and reactions and gives the facts that it states.
"""

import random
import re
from dataclasses import dataclass

from schemas.statement import AllergyCategory, Assertion, Field, Kind
from training.corpus.core import Context, Fact, Line, problems
from training.corpus.names import Names
from training.corpus.phrasing import expand

MEDICATION, FOOD = AllergyCategory.MEDICATION, AllergyCategory.FOOD
ENVIRONMENT, OTHER = AllergyCategory.ENVIRONMENT, AllergyCategory.OTHER
PRESENT, SUSPECTED, ABSENT = Assertion.PRESENT, Assertion.SUSPECTED, Assertion.ABSENT


@dataclass(frozen=True)
class Family:
    """Substances that are met alike. `draw`: key of `Names.allergen` from which half of the names come ('' if none).

    `met`: how one meets the substance S, up to the reaction (S内服後に). `details`: what may stand in brackets with it.
    """

    category: AllergyCategory
    draw: str
    names: tuple[str, ...]
    reactions: tuple[str, ...]
    met: tuple[str, ...]
    details: tuple[str, ...] = ()


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_SKIN = "かぶれ 発赤 皮膚発赤 水疱 かゆみ 痒み 掻痒感 皮膚炎 接触皮膚炎 接触性皮膚炎 紅斑 びらん 湿疹 皮疹 発赤・掻痒 皮膚トラブル ただれ 皮膚剥離 ヒリヒリ感 赤み 発赤と水疱 小水疱 色素沈着"
_SYSTEMIC = "蕁麻疹 全身蕁麻疹 アナフィラキシー 血圧低下 呼吸困難 呼吸苦 喘鳴 意識消失 ショック アナフィラキシーショック 気分不良 全身発赤 全身の紅斑 全身の発疹 顔面浮腫 顔面腫脹 眼瞼浮腫 嘔吐 全身掻痒感 口唇腫脹 全身紅潮"
_DRUG_ACTS = (
    _SYSTEMIC + " 皮疹 発疹 薬疹 膨疹 紅斑 紅皮症 中毒疹 多形紅斑 播種状紅斑丘疹 固定薬疹 肝障害 薬剤性肝障害 発熱 薬剤熱 喉頭浮腫 汎血球減少 無顆粒球症 血小板減少 間質性肺炎 薬剤性過敏症症候群 "
    "スティーブンス・ジョンソン症候群 SJS TEN DIHS 急性腎障害 粘膜疹 口内びらん 喘息発作 喘息 くしゃみ・鼻汁 掻痒 かゆみ じんましん 湿疹 ぶつぶつ 顔の腫れ 血管浮腫 血管性浮腫 薬疹(播種状紅斑) 点状紫斑 光線過敏 顔面紅潮 咽頭違和感"
)
_FOOD_ACTS = (
    "蕁麻疹 口唇腫脹 口腔内掻痒 口腔内のかゆみ 口のかゆみ 口の中のイガイガ のどのイガイガ 喉の痒み 咽頭違和感 咽頭掻痒感 嘔吐 腹痛 下痢 呼吸苦 喘鳴 咳込み アナフィラキシー 口周囲の紅斑 口周囲の発赤 口囲の発疹 顔面発赤 顔面の膨疹 "
    "眼瞼浮腫 眼瞼腫脹 全身蕁麻疹 全身の膨疹 じんま疹 じんましん 唇の腫れ 湿疹 発疹 湿疹悪化 アナフィラキシーショック 顔の腫れ 意識消失 血圧低下 反復性嘔吐 血便 OAS 口腔アレルギー症候群"
)
_AIRWAY = "鼻汁 くしゃみ 鼻閉 鼻水 目のかゆみ 眼掻痒感 眼の充血 流涙 結膜充血 咳 咳嗽 喘息発作 喘鳴 喘息悪化 皮膚のかゆみ くしゃみ・鼻水 鼻汁、眼瞼掻痒 目の周りの腫れ 蕁麻疹 湿疹悪化"
_STING = "局所腫脹 全身蕁麻疹 アナフィラキシー アナフィラキシーショック 血圧低下 蕁麻疹 意識消失 呼吸苦 前腕の腫脹 手背の腫脹 著明な腫脹 広範囲の発赤腫脹 水疱 発赤・腫脹 全身の痒み 気分不良 嘔気・冷汗 発熱"

FAMILIES: dict[str, Family] = {
    "drug": Family(MEDICATION, "medication", (), _words(_DRUG_ACTS), (
        "S内服後に", "S内服で", "S服用後に", "S服用で", "S投与後に", "S投与時に", "S点滴中に", "S点滴後に", "Sの内服で", "Sで", "Sにて", "Sで", "Sを飲んで", "Sを飲むと", "S内服{2-14}日目に", "S開始{3-20}日後に", "S処方され",
        "S静注直後に", "S使用で", "S投与開始{5-40}分後に", "Sにより", "Sを内服し", "Sの点滴で", "S処方後", "S内服{2-5}時間後に", "S{2-4}回目投与時に", "S変更後に", "Sの静注で", "S再投与で",
    )),
    "unnamed": Family(MEDICATION, "", tuple(
        "抗生剤 抗生物質 抗菌薬 風邪薬 感冒薬 総合感冒薬 市販の風邪薬 市販薬 痛み止め 鎮痛剤 解熱剤 解熱鎮痛薬 消炎鎮痛剤 麻酔の注射 歯科麻酔 歯の麻酔 歯医者の麻酔 局所麻酔 局麻 化膿止め 抗生剤の点滴 漢方薬 "
        "血圧の薬 降圧薬 胃薬 咳止め 睡眠薬 目薬 点眼薬 塗り薬 軟膏 湿布 湿布薬 貼り薬 座薬 下剤 痛風の薬 てんかんの薬 抗てんかん薬 水虫の薬 リウマチの薬 抗がん剤 鉄の注射 精神科の薬 造影剤 輸血 サプリメント うがい薬 消毒薬 "
        "花粉症の薬 骨粗鬆症の薬 ビタミン剤 注射 麻酔薬 全身麻酔 眠剤 抗リウマチ薬 筋弛緩薬 ワクチン 予防接種".split()
    ), _words(_DRUG_ACTS), (
        "Sで", "Sで", "Sにて", "Sを飲んで", "S内服後に", "S使用後に", "Sを使って", "Sの後", "S投与後に", "以前もらったSで", "昔、Sで", "他院のSで", "S（名前不明）で", "S(名前不明)で", "S（薬品名不詳）で", "S(商品名不詳)で",
        "S（名称不明）で", "S（詳細不明）にて", "何かのSで", "S(種類不明)で", "Sを使用した際に", "薬局で買ったSで",
    ), ("名前不明", "詳細不明", "商品名不詳", "名称不明", "薬品名不明", "種類不明", "薬剤名は覚えていない", "処方元不明")),
    "contrast": Family(MEDICATION, "", _words(
        "造影剤 ヨード造影剤 造影CT造影剤 CT造影剤 MRI造影剤 ガドリニウム造影剤 非イオン性造影剤 イオパミロン オムニパーク イオメロン プロスコープ ガドビスト マグネビスト プリモビスト EOB 造影剤(イオパミドール) ヨード系造影剤 フルオレセイン ICG バリウム"
    ), _words(_SYSTEMIC + " くしゃみ 嘔気 嘔気・嘔吐 膨疹 掻痒感 発疹 皮疹 喉の違和感 咳込み 冷汗 顔面発赤 遅発性皮疹 熱感と嘔吐"), (
        "Sで", "S使用で", "S投与後に", "S静注後", "Sにて", "S使用後に", "Sで{year}年の検査時に", "SでCT撮影時に", "S注入直後に", "S使用時",
    ), ("CT時", "造影CT", "心カテ時", "MRI", "前回造影時", "2回目の造影", "ヨード", "他院")),
    "food": Family(FOOD, "food", _words(
        "エビ えび 海老 カニ かに 蟹 ソバ そば 蕎麦 卵 生卵 鶏卵 牛乳 乳製品 小麦 小麦製品 ピーナッツ 落花生 くるみ クルミ カシューナッツ ナッツ類 アーモンド 大豆 豆乳 サバ さば 鯖 青魚 青背魚 イカ タコ 貝 貝類 牡蠣 生牡蠣 アワビ ホタテ いくら "
        "魚卵 キウイ もも 桃 りんご リンゴ メロン スイカ バナナ マンゴー パイナップル いちご さくらんぼ 山芋 長芋 とろろ 里芋 タケノコ トマト ナス 生の果物 果物 バラ科の果物 トロピカルフルーツ 甲殻類 魚介類 生魚 刺身 光り物 アルコール飲料 日本酒 "
        "赤ワイン ごま ゴマ チョコレート 納豆 キノコ 生しいたけ マツタケ 豚肉 牛肉 鶏肉 からし 香辛料 コーヒー はちみつ グレープフルーツ ココナッツ 生ピーナッツ シラス あさり 数の子 ウニ うなぎ セロリ パクチー"
    ), _words(_FOOD_ACTS), (
        "Sで", "Sで", "Sを食べると", "Sを食べて", "S摂取後に", "S摂取で", "S摂取{5-50}分後に", "Sを食べた後に", "S入りの料理で", "Sを少量摂取し", "S少量で", "S摂取後の運動で", "Sの誤食で", "S誤食により", "Sを初めて食べて", "S喫食後", "S負荷試験で",
        "Sを飲むと", "S入り菓子で", "加熱不十分なSで", "Sに触れて", "Sを含む食品で", "離乳食のSで", "給食のSで",
    ), ("生のみ", "加熱でも", "小児期", "幼少時", "除去中", "少量なら可", "エキスは可", "{year}年", "体調不良時", "外食時", "摂取直後")),
    "tape": Family(OTHER, "", _words(
        "テープ 医療用テープ 固定テープ サージカルテープ 紙テープ 絆創膏 ばんそうこう バンドエイド カットバン 布テープ 優肌絆 シルキーテックス テガダーム フィルム材 ドレッシング材 ドレッシングテープ 心電図のシール 電極 心電図電極 "
        "電極パッド モニター電極 ストーマ装具 キネシオテープ テーピング サポーター 防水テープ 伸縮テープ 粘着テープ 点滴固定テープ 冷えピタ カイロ 弾性包帯 ギプス 手術用ドレープ オムツ おむつ マスク 生理用品"
    ), _words(_SKIN), (
        "Sで", "Sで", "Sで", "S貼付部に", "S貼付で", "S固定部に", "Sを貼ると", "S使用で", "Sの貼付部位に", "Sにて", "S剥離時に", "S装着部に", "術後のSで", "Sを長時間貼ると", "Sを貼った所に", "点滴時のSで",
    ), ("紙", "布", "シルキー可", "優肌絆は可", "3Mのもの", "術後", "長時間", "夏のみ", "点滴固定", "肌用は可")),
    "latex": Family(OTHER, "", _words(
        "ラテックス ゴム ゴム手袋 ラテックス手袋 天然ゴム ゴム製品 風船 コンドーム 輪ゴム 下着のゴム ゴム長靴 手袋 医療用手袋 ラテックス製手袋 ビニール手袋 ゴーグル"
    ), _words(_SKIN + " 蕁麻疹 手の発赤 手の痒み 手背の膨疹 手指の腫れ 接触蕁麻疹 アナフィラキシー 喘鳴 くしゃみ 手荒れ"), (
        "Sで", "Sで", "Sにて", "S着用で", "S装着後に", "S使用後", "Sに触れると", "Sを膨らませて", "Sで手に", "S着用{5-40}分で", "職場でSを使用し", "S接触部に",
    ), ("ゴム手袋", "手袋", "風船", "歯科治療時", "婦人科診察時", "バナナも", "美容師時代", "コンドーム")),
    "wipe": Family(OTHER, "", _words(
        "アルコール綿 アルコール アルコール消毒 酒精綿 消毒綿 消毒用アルコール エタノール アル綿 消毒液 手指消毒剤 手指消毒 ウェルパス ヒビスコール クロルヘキシジン ヒビテン 消毒 次亜塩素酸 除菌シート ウェットティッシュ"
    ), _words(_SKIN), ("Sで", "Sで", "Sで皮膚が", "Sで拭くと", "S使用部に", "S使用で", "Sにて", "採血時のSで", "Sで消毒すると", "S塗布部に", "S清拭部位に", "注射時のSで"),
        ("採血時", "注射時", "消毒", "皮膚消毒", "ヘキシジン可", "飲酒は可")),
    "metal": Family(OTHER, "", _words(
        "金属 ニッケル コバルト クロム ピアス ネックレス 腕時計 時計 指輪 ベルト ベルトのバックル アクセサリー 歯科金属 銀歯 メッキ 安い金属 貴金属以外の金属 眼鏡のフレーム 金属アクセサリー ボタン 入れ歯の金属 パラジウム 水銀 ステンレス"
    ), _words(_SKIN + " 耳たぶの腫れ 耳介の発赤 頸部の発赤 手首の発赤 掌蹠の水疱 耳のただれ"), (
        "Sで", "Sで", "Sを着けると", "S装着で", "Sに触れる部位に", "Sにて", "Sをすると", "S着用部に", "Sの接触部に", "汗をかくとSで", "安価なSで", "S装着部位に",
    ), ("夏場", "汗をかくと", "パッチテスト陽性", "{year}年", "長時間", "安価なもの", "メッキ製", "チタンは可")),
    "cosmetic": Family(OTHER, "", _words(
        "ヘアカラー 毛染め 毛染め剤 白髪染め 染毛剤 ヘアダイ パーマ液 化粧品 ファンデーション 口紅 化粧水 乳液 日焼け止め シャンプー リンス 石鹸 ボディソープ 洗剤 食器用洗剤 柔軟剤 香水 マニキュア ジェルネイル まつ毛エクステ アイシャドウ "
        "制汗剤 ヘナ 整髪料 歯磨き粉 入浴剤 虫よけスプレー クレンジング 美容液 除光液 育毛剤 衣類の洗剤"
    ), _words(_SKIN + " 頭皮の痒み 頭皮のかぶれ 顔面の腫脹 顔の発赤 眼瞼の腫れ 眼周囲の発赤 手荒れ 手湿疹 顔面浮腫 生え際の発赤"), (
        "Sで", "Sで", "Sで", "S使用で", "S使用後に", "S使用翌日に", "Sを使うと", "Sを塗ると", "Sにて", "Sが合わず", "S変更後に", "新しいSで", "Sが付くと",
    ), ("市販品", "美容院", "{year}年", "メーカー不明", "資生堂は可", "ジアミン", "セルフカラー", "新製品", "敏感肌用は可")),
    "material": Family(OTHER, "", _words(
        "ウルシ 漆 うるし ハゼ 革製品 接着剤 セメント レジン ナイロン 化繊 化学繊維 ペンキ シンナー 塗料 プラスチック アロンアルファ 切削油 農薬 殺虫剤 草 植物 銀杏の皮 サクラソウ ハチミツ石鹸 花火の煙 マンゴーの皮 紙 印刷インク ホルマリン 洗浄剤 入れ歯 縫合糸"
    ), _words(_SKIN), ("Sで", "Sで", "Sに触れて", "Sに触れると", "Sに接触し", "Sが付いて", "仕事でSを扱い", "Sにて", "Sの接触で", "S作業後に", "Sを使うと"), ("仕事", "山菜採り", "庭仕事", "自転車部品", "作業時")),
    "sting": Family(OTHER, "", _words(
        "ハチ 蜂 スズメバチ アシナガバチ ミツバチ ハチ刺傷 蜂刺され ハチ毒 ムカデ 毛虫 クラゲ アニサキス ブヨ アリ 火蟻 マダニ チャドクガ ブユ 蜂毒"
    ), _words(_STING), ("Sで", "Sで", "Sに刺されて", "Sに刺され", "Sに刺されると", "Sに刺された際に", "Sにて", "S刺傷後に", "{year}年にSに刺され", "Sに2回刺され", "農作業中Sに刺されて", "Sに{2-3}回目に刺されて"), ("2回目", "エピペン携行", "林業", "養蜂", "{year}年")),
    "insect": Family(ENVIRONMENT, "", _words("虫 虫 虫刺され 蚊 昆虫 ユスリカ ゴキブリ 蛾 ガ"), _words(_STING), ("Sで", "Sに刺されて", "Sに刺されると", "Sにて", "Sに刺された所が", "Sの時期に"), ("夏", "蚊", "草むしり")),
    "animal": Family(ENVIRONMENT, "", _words(
        "猫 ネコ 犬 イヌ 動物 動物の毛 ネコの毛 猫の毛 犬の毛 ペット ウサギ ハムスター モルモット 馬 ウマ 牛 羊 インコ 鳥 鳩 羽毛 羽毛布団 羊毛 ウール フェレット 毛の長い犬 動物全般 ニワトリ"
    ), _words(_AIRWAY), ("Sで", "Sで", "Sに触ると", "Sに触れて", "Sに近づくと", "Sを飼って以降", "Sにて", "Sを抱くと", "Sと接触し", "Sのいる部屋で", "Sに触れた後に", "友人宅のSで"), ("飼育中", "実家", "毛", "飼い猫", "フケ", "触ると", "犬は可")),
    "air": Family(ENVIRONMENT, "", _words(
        "スギ ヒノキ スギ花粉 ヒノキ花粉 花粉 ブタクサ カモガヤ イネ科 シラカバ ハンノキ ヨモギ 花粉 ダニ ハウスダスト ほこり ホコリ 埃 カビ 黄砂 PM2.5 線香 線香の煙 タバコの煙 たばこ 香水の匂い 柔軟剤の匂い 古本 布団 布団のダニ 寒暖差 冷気 寒冷 日光 紫外線 直射日光 温熱 "
        "そば殻枕 そばがら 畳 芝生 稲 米ぬか"
    ), _words(_AIRWAY), ("Sで", "Sで", "Sの時期に", "S曝露で", "Sを吸うと", "S吸入で", "Sにより", "Sにて", "Sの多い日に", "掃除時のSで", "秋のSで", "Sで毎年", "春はSで", "S飛散期に"), ("春", "秋", "通年性", "2〜4月", "検査済", "RAST", "季節性", "小児期より")),
}  # fmt: skip
_WEIGHTS = {
    "drug": 26, "unnamed": 9, "contrast": 7, "food": 20, "tape": 7, "latex": 5, "wipe": 4, "metal": 6, "cosmetic": 6, "material": 3, "sting": 4, "insect": 1.5, "animal": 3, "air": 4,
}  # fmt: skip
BY_CATEGORY = {c: [key for key, family in FAMILIES.items() if family.category is c] for c in AllergyCategory}

_JEWELS = ("ネックレス", "ピアス", "腕時計", "ベルト", "指輪", "時計のバンド", "歯科金属", "アクセサリー", "イヤリング", "バックル", "眼鏡")
_MILK, _EGG, _WHEAT = ("ヨーグルト", "チーズ", "生クリーム", "アイス", "粉ミルク", "プリン"), ("ゆで卵", "茶碗蒸し", "生卵", "プリン", "マヨネーズ", "卵焼き"), ("パン", "うどん", "パスタ", "クッキー", "ラーメン")
# Things that hold a substance and may stand in brackets with it.
_DETAILS = {
    "金属": _JEWELS, "ニッケル": _JEWELS, "コバルト": _JEWELS, "クロム": ("革靴", "時計", "革手袋"), "アクセサリー": ("ネックレス", "ピアス", "指輪"), "牛乳": _MILK, "乳製品": _MILK, "乳": _MILK, "ミルク": _MILK, "卵": _EGG, "鶏卵": _EGG, "小麦": _WHEAT, "コムギ": _WHEAT, "エビ": ("えびせん", "寿司", "天ぷら", "エビフライ"),
    "そば": ("そば粉入り饅頭", "ガレット", "そば殻枕"), "大豆": ("豆腐", "味噌", "豆乳", "納豆"), "山芋": ("とろろ", "お好み焼き"), "くるみ": ("くるみパン", "クッキー"), "サバ": ("しめ鯖", "缶詰", "塩焼き"), "化粧品": ("ファンデーション", "化粧水", "口紅", "アイシャドウ"), "虫": ("ハチ", "ムカデ", "ブヨ", "蚊"), "動物": ("猫", "犬", "ハムスター", "ウサギ"),
    "花粉": ("スギ", "ヒノキ", "ブタクサ", "カモガヤ"), "果物": ("キウイ", "メロン", "桃", "りんご"), "ナッツ類": ("カシューナッツ", "アーモンド", "くるみ"), "甲殻類": ("エビ", "カニ"), "テープ": ("紙テープ", "布テープ", "シルキーテックス", "優肌絆", "防水テープ"), "洗剤": ("食器用洗剤", "衣類用"), "ラテックス": ("ゴム手袋", "風船", "手術用手袋"),
}

_SITES = "全身 顔面 口唇 眼瞼 頸部 体幹 四肢 両上肢 前腕 手背 両手 背部 腹部 口周囲 両下肢 胸部 耳介 顔 唇 まぶた 首 腕 手 足".split()
_SIGNS = "発赤 腫脹 蕁麻疹 掻痒 掻痒感 膨疹 紅斑 発疹 皮疹 紅潮 浮腫 痒み 赤み 湿疹 の発赤 の腫れ の痒み の紅斑 の発疹 の蕁麻疹 の膨疹 のかゆみ のむくみ".split()
_LONG = (
    "皮疹、発熱および肝障害", "発疹・発熱", "全身発赤、血圧低下", "口唇腫脹と呼吸苦", "全身の膨疹と嘔気", "蕁麻疹＋喘鳴", "血圧低下、意識消失", "全身蕁麻疹、嘔吐、腹痛", "眼瞼浮腫・咳嗽", "顔面浮腫、呼吸困難", "アナフィラキシー（Grade3）", "皮疹・肝機能障害", "発疹と38℃台の発熱",
    "口のしびれ", "口の中のかゆみ", "喉のつまり感", "喉の締めつけ感", "のどのかゆみ", "息苦しさ", "呼吸困難感", "目の腫れ", "全身の赤み", "赤いぶつぶつ", "赤い発疹", "手のひらの痒み", "全身が赤くなる", "唇が腫れる", "顔が腫れた", "ぶつぶつが出た", "冷や汗と動悸", "気分不快",
)  # fmt: skip

# Side effects with the drugs that are known for them: no allergy.
_SIDE = (
"エナラプリル ペリンドプリル ACE阻害薬 イミダプリル タナトリル レニベース コバシル|空咳 咳 乾性咳嗽 から咳 咳嗽","ロキソプロフェン ロキソニン NSAIDs ボルタレン アスピリン バイアスピリン ジクロフェナク|胃痛 胃部不快感 胃もたれ 胃が荒れる 黒色便 心窩部痛 腎機能低下",
"メトホルミン メトグルコ リベルサス GLP-1作動薬 マンジャロ オゼンピック アカルボース ボグリボース|下痢 軟便 嘔気 食欲低下 腹部膨満 放屁 便秘 悪心","プレガバリン リリカ ミロガバリン タリージェ トラムセット トラマドール 睡眠薬 眠剤 ガバペンチン マイスリー ブロチゾラム|ふらつき 眠気 めまい 日中の眠気 浮腫 健忘 もうろう",
"アムロジピン ニフェジピン アダラート Ca拮抗薬 ノルバスク|下腿浮腫 むくみ 歯肉腫脹 歯肉肥厚 顔のほてり 動悸 頭痛 足のむくみ 歯ぐきの腫れ","スルピリド ドグマチール リスペリドン メトクロプラミド ドンペリドン|乳汁分泌 手の震え 錐体外路症状 アカシジア 月経不順",
"ロスバスタチン スタチン リピトール アトルバスタチン クレストール|筋肉痛 CK上昇 脱力 肝酵素上昇 下肢のだるさ","ビソプロロール カルベジロール β遮断薬 メインテート アーチスト|徐脈 倦怠感 めまい 手足の冷え","デュロキセチン サインバルタ SSRI パキシル セルトラリン|嘔気 口渇 排尿困難 眠気 便秘 発汗",
"クラリスロマイシン オーグメンチン 抗菌薬 抗生剤 サワシリン ミノマイシン|下痢 軟便 味覚異常 めまい 嘔気 苦味","オキシコドン コデイン オピオイド モルヒネ フェンタニル|便秘 嘔気 眠気 便秘・悪心","プレドニン プレドニゾロン ステロイド PSL デキサメタゾン|不眠 血糖上昇 多弁 ムーンフェイス 食欲亢進 気分の高揚",
"フロセミド 利尿薬 トリクロルメチアジド サムスカ|頻尿 夜間頻尿","エンレスト ニコランジル ニトロペン 亜硝酸薬|頭痛 ふらつき 立ちくらみ","芍薬甘草湯 抑肝散 葛根湯 麻黄湯|動悸 むくみ 胃もたれ 血圧上昇","鉄剤 フェロミア フェルム|嘔気 黒色便 胃部不快 便秘 吐き気",
"ドネペジル アリセプト リバスチグミン|徐脈 食欲低下 嘔気 易怒性 下痢","フォシーガ SGLT2阻害薬 ジャディアンス|頻尿 陰部の痒み 体重減少 口渇","アロマターゼ阻害薬 レトロゾール タモキシフェン|関節痛 ほてり のぼせ 不正出血","バルプロ酸 カルバマゼピン フェニトイン レベチラセタム|歯肉増殖 ふらつき 眠気 脱毛 イライラ 体重増加",
"ビスホスホネート ボナロン アクトネル|胃部不快感 胸やけ","アロプリノール コルヒチン|下痢 軟便","吸入ステロイド LABA 気管支拡張薬 テオフィリン|嗄声 動悸 手の震え 嘔気","PL顆粒 抗ヒスタミン薬 ポララミン 総合感冒薬 ブスコパン|眠気 口渇 排尿困難 動悸",
)  # fmt: skip
_SIDE_TABLE = [tuple(part.split() for part in row.split("|")) for row in _SIDE]


def side_effect(rng: random.Random) -> tuple[str, str]:
    """A drug and one of its known side effects."""
    drugs, effects = rng.choice(_SIDE_TABLE)
    return rng.choice(drugs), rng.choice(effects)


def family(rng: random.Random, category: AllergyCategory | None = None) -> str:
    """A key of `FAMILIES`, of the given category if any."""
    keys = list(_WEIGHTS) if category is None else BY_CATEGORY[category]
    return rng.choices(keys, [_WEIGHTS[key] for key in keys])[0]


def substance(rng: random.Random, names: Names, key: str) -> str:
    """A substance of the family as written in charts; a drug now and then with its form and strength."""
    chosen = FAMILIES[key]
    if not chosen.draw or chosen.names and rng.random() < 0.6:
        return rng.choice(chosen.names)
    if chosen.category is MEDICATION and rng.random() < 0.12:
        drug = names.drug(rng)
        return drug.name + drug.form + drug.strength
    drawn = names.allergen(rng, chosen.draw).strip()
    return drawn.removesuffix("アレルギー") or drawn


def reaction(rng: random.Random, key: str) -> str:
    """What the family does: one word, a place with a sign, or two or three side by side."""
    words = FAMILIES[key].reactions
    chance = rng.random()
    if chance < 0.6:
        return rng.choice(words)
    if chance < 0.72:
        site, sign = rng.choice(_SITES), rng.choice(_SIGNS)
        return site + ("の" if len(site) == 1 and sign[0] != "の" else "") + sign
    if chance < 0.8 and key in ("drug", "unnamed", "contrast", "food"):
        return rng.choice(_LONG)
    first, *others = dict.fromkeys(rng.choices(words, k=rng.choice((2, 2, 2, 3))))
    gap = rng.choice(("、", "、", "・", "と", "，", "＋", "及び", "/", "・"))
    return first + "".join((gap if gap not in ("と", "及び") or n == 0 else "、") + other for n, other in enumerate(others))


_MARK = re.compile(r"(?<![A-Za-z/{])([STURQOPLXDE])(?![A-Za-z/}])")
_HELD = re.compile("\x01(.)")


def tell(rng: random.Random, names: Names, ctx: Context, frame: str, keys: tuple[str, ...]) -> Line | None:
    """The frame filled in, with its facts; None if two of its substances cannot be told apart.

    `frame`: assertions of S, T, U (p present, s suspected, a absent, - no fact), a bar and the text. R is the reaction of
    S, Q that of T; O meets S (Sで), P meets T; L is a list of substances, all with S's assertion and reaction; X is a
    side effect with its drug D, E a detail of S; [a|b] and {slots} as in `phrasing`. `keys`: the families of S, T and U.
    """
    said, _, body = frame.partition("|")
    body = re.sub("(OR|PQ|ER)", lambda m: f"{m[0][0]}\x02{m[0][1]}", body)  # two slots side by side are no word
    second = keys[min(1, len(keys) - 1)]
    for letter, own, key in (("O", "S", keys[0]), ("P", "T", second)):
        while place := re.search(rf"(?<![A-Za-z/]){letter}(?![A-Za-z/])", body):
            body = body[: place.start()] + rng.choice(FAMILIES[key].met).replace("S", own) + body[place.end() :]
    text = expand(rng, _MARK.sub("\x01\\1", body).replace("\x02", ""), ctx)
    held = set(_HELD.findall(text))
    drug, effect = side_effect(rng)
    pieces = {"R": reaction(rng, keys[0]), "Q": reaction(rng, second), "X": effect, "D": drug}
    families = {"S": keys[0], "T": second, "U": keys[-1]}
    pieces |= {letter: substance(rng, names, key) for letter, key in families.items()}
    if re.search("\x01E(で|に)", text):  # a thing that holds the substance, not an occasion
        holders = [name for name in FAMILIES[keys[0]].names if name in _DETAILS]
        if not holders:
            return None
        pieces["S"] = rng.choice(holders)
    pieces["E"] = expand(rng, rng.choice(_DETAILS.get(pieces["S"]) or FAMILIES[keys[0]].details or ("{year}年",)), ctx)
    listed = list(dict.fromkeys(substance(rng, names, keys[0]) for _ in range(rng.choice((2, 2, 2, 3, 4)))))
    facts: list[Fact] = []
    out, at = "", 0
    for found in _HELD.finditer(text):
        letter = found[1]
        out, at = out + text[at : found.start()], found.end()
        index = "STU".find(letter) if letter != "L" else 0
        states = index >= 0 and index < len(said) and said[index] != "-"
        if states:
            assertion = {"p": PRESENT, "s": SUSPECTED, "a": ABSENT}[said[index]]
            act = {0: "R", 1: "Q"}.get(index, "")
            fields = {Field.REACTION: pieces[act]} if act in held and assertion is not ABSENT else {}
            category = FAMILIES[families["S" if letter == "L" else letter]].category
            for name in listed if letter == "L" else [pieces[letter]]:
                facts.append(Fact(Kind.ALLERGY, {Field.NAME: name} | fields, assertion, category))
        out += rng.choice(("、", "、", "・", "，", "と", "／", "や")).join(listed) if letter == "L" else pieces[letter]
    line = Line(out + text[at:], facts)
    told = [f.fields[Field.NAME] for f in facts]
    blurred = any(a != b and a in b for a in told for b in told) or len(set(told)) < len(told)
    return None if blurred or "L" in held and len(listed) < 2 or problems([line]) else line
