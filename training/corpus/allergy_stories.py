"""Writes allergies as sentences: what was met and what it did, doubts, denials, and what only looks like an allergy."""

import random

from schemas.statement import Field, Kind
from training.corpus.allergy_words import ABSENT, FAMILIES, FOOD, MEDICATION, PRESENT, family, tell
from training.corpus.core import Context, Fact, Line, Writer
from training.corpus.lab_shared import specific_ige
from training.corpus.names import Names

# Letters as in `allergy_words.tell`. The key says which families the wording fits.
_HAS = {
    "any": [
        "p|OR", "p|OR", "p|OR[あり|の既往|の既往あり|歴|歴あり|出現|が出現|を認めた|を生じた|（+）|(+)|とのこと|になる|になった|が出る|が出た|。]", "p|OR[、以後|。以降|。その後は]避けている", "p|[過去に|以前|昔|若い頃|{year}年|小児期に|学生時代に|数年前]OR[|あり|が出現|を認め、受診]",
        "p|S（E[で|に|にて|：|、|→]R）", "p|S(E[で|にて|に|、]R)", "p|S（R）", "p|S(R、E)", "p|S（E、R）", "p|S[アレルギー|過敏]（Eで[、|]R）", "p|S(E)でR", "p|S（E）でR[あり|]", "p|SアレルギーありR（E）", "p|S：EでR", "p|S：{year}年の[検査時|使用時|治療時|入院時|受診時]にR",
        "p|S：{year}年にR", "p|S：{year}年、R[出現|]", "p|S　{year}年頃　R", "p|S→R", "p|S → R", "p|S⇒R", "p|S…R", "p|S ; R", "p|S【R】", "p|S [R]", "p|S＝R", "p|S／R", "p|S｜R", "p|S <R>", "p|S，R", "p|S　→　R（{year}年）", "p|S）：R",
        "p|OR（{relative}談）", "p|OR（症状の詳細は覚えていない）", "p|本人によるとOR[あり|とのこと|になったとのこと|が出るとのこと]", "p|{relative}より、OR[あり|が出たことがある|とのこと]と聴取", "p|OR[を起こしたことがある|をきたしたことあり|を呈した既往|を来たし救急搬送歴あり|で救急受診|で入院歴]",
        "p|問診にてOR[あり|が判明]。回避を指示", "p|OR[ため|のため]使用[不可|禁止]", "p|ORのエピソードあり", "p|[アレルギー：|アレルギー歴：|Allergy：|【アレルギー】|アレルギーは]OR", "p|[アレルギー|アレルギー歴|既往アレルギー][：| |　]S（R）", "p|SアレルギーでR[あり|の既往]",
        "p|Sに対して[アレルギー|過敏]あり、R", "p|原因物質：S、症状：R", "p|アレルゲン：S　症状：R", "p|物質名：S　反応：R　[発現時期|時期]：{year}年", "p|S　[症状|反応|内容]＝R", "p|Sアレルギー[：|　]R　[重症度：|][軽度|中等度|重症|Grade2|]",
        "p|{year}年[にS|、S]使用時にR", "p|Sは[不可|NG|使えない|避ける]（R）", "p|Sは[R|Rあり]のため[禁|禁忌|使用しない|使用不可|避ける]", "p|[※|★|！|要注意：|注意]Sアレルギー[あり|]（R）", "p|Sアレルギー[あり|有|有り|（＋）|(+)][。|、]R[あり|が出る|]", "p|OR[、軽度|（軽症）|（軽快）|、自然軽快|、数日で軽快|、無治療で消退|、ステロイドで軽快|、救急でアドレナリン筋注]",
        "p|Sアレルギー[の既往|]（{year}年にR）", "p|OR。[以来|以降|その後]Sは[使用していない|避けている|食べていない|使っていない|回避]", "p|O「R」とのこと", "p|OR、アレルギー登録[済|済み|した]",
    ],
    "drug": [
        "p|S系[抗菌薬|抗生剤|薬剤|]でR", "p|OR[→|、][中止|使用中止|投与中止|以後使用禁忌|禁忌登録|以降は他剤|他剤に変更し軽快|薬剤中止で軽快]", "p|S（{year}年、[前医|他院|{clinic}|皮膚科|歯科|当院]でR）", "p|S：{year}年[投与時|内服時|点滴時|使用時]に[R|R出現]", "p|OR出現し[皮膚科|救急|前医]で[薬疹|薬剤アレルギー]と診断",
        "p|{clinic}で処方されたSでR", "p|[歯科で|抜歯後に|前医で|近医で|術前に|入院中に|小児期に]S[投与され|処方され|使用し]R", "p|[DLST|パッチテスト|皮内テスト]でS陽性、[内服でR|R]の既往", "p|OR[あり、|。]類薬も[避ける|禁忌とする|使用しない]", "p|OR[出現|あり]。Sは禁忌", "p|Sによる[R|Rの既往]", "p|Sによる{year}年のR",
        "p|お薬手帳に[「S禁（R）」|「SでR」]の記載[あり|]", "p|S錠でR", "p|S 禁（R）", "p|Sショック[あり|の既往]", "p|Sアレルギー：{year}年内服時R", "p|今回、S投与{5-30}分後よりR[出現|あり]。投与中止し[生食負荷|アドレナリン筋注|抗ヒスタミン薬静注]、以後アレルギー登録",
    ],
    "food": [
        "p|S（[生のみ|生で|加熱でも]R）", "p|SはR[出現|が出る]ため[除去中|完全除去|摂取していない|食べない]", "p|S、[少量でR|R]", "p|S（[乳児期|幼児期|学童期|成人後|{year}年]よりR）[除去中|]", "p|S[除去中|禁|制限中]（R）", "p|S[アレルギー|]（[学校|給食|保育園]で除去、R）", "p|S除去中、誤食でR",
        "p|食事：S禁（R）", "p|S摂取後運動でR[あり、FDEIAとして運動制限|]", "p|S（[ゆで|焼き|生]はR、[加工品|少量]は可）",
    ],
    "skin": ["p|OR[しやすい|になりやすい|になる|ができる|を起こしやすい]", "p|SかぶれありR", "p|S使用部位のR[あり|]", "p|S[×|不可|禁]（R）、[シルキーテックス|綿手袋|ヘキシジン|代替品|優肌絆|別製品]を使用", "p|S負け（R）", "p|皮膚が弱くOR", "p|S（R）のため[貼付位置変更|変更|使用中止]"],
}  # fmt: skip
_BARE = [
    "p|Sアレルギー[あり|有|（+）|(+)||持ち|の既往]", "p|Sアレルギー（E）", "p|S(E)", "p|S（E）", "p|S（[詳細不明|症状不明|症状は覚えていない|詳細不詳|反応不明]）", "p|Sに[アレルギー|過敏]あり", "p|[アレルギー：|Al)|アレルギー有：|アレルギー(+)：]S", "p|S過敏[症|あり|]", "p|Sに弱い、アレルギーと言われた", "p|Sアレルギーと[診断されている|言われている|言われたことがある|指摘され除去中]",
    "p|Sは[アレルギー|アレルギーのため不可|アレルギーあり使用不可]", "p|[原因は|原因：]Sアレルギー", "p|Sアレルギー[手帳記載あり|カードあり|登録済|バンド装着]", "p|S アレルギー有り（症状については不明）", "p|Sにアレルギーがある[|とのこと|と申告|と記載あり]", "p|Sアレルギー（[検査|血液検査|皮内テスト|パッチテスト]で確認済）",
]  # fmt: skip
_DOUBT = [
    "s|Sアレルギー[疑い|の疑い|が疑われる|疑|？|?|を疑う|の可能性|かもしれないと言われた|を否定できず]（[E、R|EでR|R|R、E]）", "s|Sアレルギー[疑い|の疑い|疑|？][（R）|(R)|：R|、OR|。OR]", "s|[原因|誘因]は[S|S]アレルギー疑い", "s|[原因は|原因として]Sアレルギー[疑い|の疑い|が疑われる|を考える|の可能性]", "s|Sが原因と[考えられる|思われる|疑われる|推測される]R", "s|Rあり、Sが原因と[考えられる|思われる|疑われる|推定]",
    "s|SによるR[疑い|の疑い|が疑われる|を疑う|が考えられる|の可能性|を否定できない|と思われる]", "s|R：Sによるもの[と考える|の可能性|か|を疑う|疑い]", "s|Rの原因としてS[が疑われる|を疑う|アレルギーを疑う]", "s|OR？", "s|OR[疑い|の疑い|かも|だったかもしれない|が出たような気がする|（自己申告、因果関係不明）|（関連不明）|あるがアレルギーかは不明]", "s|S[?|？]（R）", "s|S（R疑い）", "s|S疑い（R）",
    "s|被疑[薬|物質]：S（R）", "s|S（被疑、R）", "s|S[開始後|使用後|曝露後]にR出現、[アレルギーを疑い中止|アレルギー疑い|関連を疑う|被疑とし以後避ける]", "s|Sアレルギー疑い、[検査予定|負荷試験予定|RAST提出|プリックテスト予定|皮膚科紹介予定|アレルギー科紹介]", "s|OR、Sアレルギーの可能性あり[精査予定|要精査|]", "s|[本人|{relative}]はSアレルギー[かもしれない|ではないか|だと思う]と話す",
    "s|Sで具合が悪くなった[というが|とのことだが]詳細不明、アレルギー疑い[として|で]対応", "s|SによるR？", "s|Sアレルギー？R[あり|のエピソード]", "s|Sの関与が疑われるR", "ss|S[または|もしくは|か]TによるR[疑い|の疑い|が疑われる]", "s|LによるR疑い（被疑薬特定できず）",
]  # fmt: skip
_NOT = [
    "a|[以前|過去に|{year}年]S[使用時|]で[気分不良|動悸|ふらつき|冷汗|失神|気分不快][があった|あり]が[迷走神経反射|血管迷走神経反射|不安発作|過換気|緊張|低血糖|アドレナリンの作用]と[され|判断され|の判断で]、アレルギーではない", "a|Sアレルギー[なし|(-)|（－）|無し|ない|は否定|否定的|は否定された|はありません|歴なし]", "a|Sのアレルギー[なし|はない|なし、確認済み|なし（本人確認済）|(-)|は否定]",
    "a|S[使用歴|使用経験]あり、[アレルギーなし|アレルギー反応なし|問題なし|副反応なし|異常なし]", "a|Sは[以前|過去に|{year}年に]使用[し|歴あり、][異常なし|問題なし|問題なかった|アレルギー症状なし]", "a|Sアレルギーと[言われていた|記載あった|されていた|申告あった]が、[検査|負荷試験|皮内テスト|皮膚科での精査|再投与|精査][で陰性|で否定|の結果アレルギーではない]", "a|Sアレルギーの[既往なし|訴えなし|指摘なし|申告なし]",
    "a|S[（-）|(-)|：なし|：無|：－|なし|：アレルギーなし|　なし|：問題なし]", "a|SでR[なし|(-)|の既往なし|を起こしたことはない|歴なし]", "a|[本人|{relative}]に確認、Sアレルギー[はない|なし]", "a|Sに[対する|]アレルギー[なし|は認めず|はない]", "a|SによるR[は否定|は否定的|の既往なし]", "a|Sは[問題なく使用できる|使用可能|アレルギーなく使用可]", "a|[疑われた|当初疑われた]Sアレルギーは[否定された|否定的|検査で否定]",
    "a|SとRの因果関係は[否定|否定された|ないと判断]、アレルギーではない", "a|Sでの[R|症状]は[感染に伴うもの|ウイルス性|偶発|非特異的]と考えられ、アレルギーは否定", "a|Lアレルギー[なし|(-)|はいずれもなし|の既往なし|なし、確認済]", "a|Lの[アレルギー|かぶれ]なし", "a|L[ともに|いずれも]アレルギーなし", "a|[小児期|幼少期|乳児期]のSアレルギーは[耐性獲得|寛解|治癒]し[現在は摂取可|現在摂取問題なし|普通に食べている]",
]  # fmt: skip
_PAIR = [
    "pa|OR[。|、|あり。|の既往あり。]T[系|]アレルギーなし", "pa|[■アレルギー：|アレルギー：|アレルギー歴：||]SでR[。|あり。]T[アレルギーなし|のアレルギーはない|は問題なし|は使用歴あり問題なし|のアレルギーなし]。", "pp|OR、PQ", "pp|OR、PQ[あり|の既往]", "pp|OR。PQ。", "pp|S（R）[、|　|・| / |／|，|，]T（Q）", "pp|S(R)[、|　|, | / |・]T(Q)", "pp|S：R[、|　|／| / |。]T：Q", "pp|S→R[、|　|／|；]T→Q", "ap|Sは[問題なし|アレルギーなし|使用可]、PQ",
    "ap|Sアレルギー[なし|(-)]、TでQ", "ps|OR、T[アレルギー疑い|も疑い|は疑い]", "ps|SでR。PQ[疑い|の疑い|？]", "pp|S[アレルギー|]（R）、Tアレルギー", "pp|S・Tアレルギー[あり|]", "pp|SとTにアレルギーあり", "ppp|S、T、U[アレルギー|にアレルギー|アレルギーあり|で過敏症状]", "pa|OR。Tは[使用可|摂取可|問題なし|可能|食べられる]", "ppp|OR、PQ、U", "pap|SでR、T(-)、U(+)", "pp|SでR。またPQ。",
    "p-|OR。D[で|による|内服で]X[は副作用|あり（副作用）|（副作用であり、アレルギーではない）|あり]", "p-|OR。[副作用歴：|副作用：|副作用 ]D[で|→|：]X", "p-|[副作用：|副作用歴　]DでX[。|、|／|　]アレルギー：OR", "p-|DでX（副作用）、OR", "p-|DでX[あり|出現]、中止。アレルギーはSでR",
]  # fmt: skip
_LIST = [
    "p|LでR[|あり|の既往|の既往あり|が出る|出現]", "p|L（いずれもR）", "p|L(R)", "p|L：R", "p|Lを[食べると|摂取すると]R", "p|Lアレルギー[あり||（R）|：R|でR]", "p|L[摂取|使用]で[いずれも|ともに|]R", "p|L→R", "p|[アレルギー：|アレルギー歴：|アレルギー ]L[（R）|でR||　R]", "p|Lに[アレルギー|過敏]あり", "p|L[など|等]でR", "p|Lは[R|アレルギー]のため[除去|避けている|不可]",
    "s|LでR疑い", "s|Lアレルギー疑い", "s|L（R？）", "p|RあったためLは[避けている|除去中]", "p|LのアレルギーありR", "p|アレルギー食材：L", "p|アレルゲン：L", "p|L[＝|は]いずれもR",
]  # fmt: skip

# No fact: side effects, other people, open questions, diets for other reasons, preferences, tests to come.
_NONE = [
    "|[副作用歴|副作用|副作用：|薬剤副作用歴|ADR][：|　| ]DでX", "|副作用歴：DでX[。|、]以後[変更|他剤]", "|DでX[あり|の既往|（副作用）|が出た|ありやめた|のため他剤へ|、アレルギーではない|（薬理作用でありアレルギーではない）|のため以後使っていない]", "|D：X[のため中止歴|で中止|（副作用）]", "|DはXのため[合わない|使用しづらい|不耐]", "|D[不耐|に不耐]（X）", "|DによるXの既往", "|D　X", "|過去にD内服でX",
    "|[母|父|姉|妹|兄|弟|長男|娘|祖母|息子]が[S|S]アレルギー", "|[母|父|姉|妹|兄|弟|長男|長女|祖母|祖父|息子]：Sアレルギー", "|[母|父|姉|妹|兄|弟|長女|祖父|叔母]にSでRの既往", "|家族歴：[母|父|妹|兄]Sアレルギー", "|[母|父|姉|弟]がSでR[を起こした|の既往]、本人は[未摂取|未使用|使用歴なし]", "|[母|姉|夫|妻]もS[アレルギー|でかぶれる体質]", "|同胞にSアレルギー[あり|]", "|家族にSアレルギー[の人|の者|]あり",
    "|[アレルギー|アレルギー歴|薬剤アレルギー|食物アレルギー|Sアレルギー|造影剤アレルギー][：|は|　|について][未聴取|聴取していない|聴取できず|不明|未確認|確認できず|確認中|今後確認|後日確認|家族に確認予定|詳細不明|要確認|本人記憶なし]", "|Sアレルギーの有無は[不明|確認できず|未聴取|聴取していない|今後確認]", "|S[使用歴|投与歴|摂取歴]なし[（アレルギー不明）|、アレルギーの有無不明|]", "|Sは未摂取",
    "|[納豆|青汁|クロレラ|グレープフルーツ]は[ワルファリン|ワーファリン|降圧薬|Ca拮抗薬]内服のため禁止", "|[糖尿病食|減塩食|腎臓食|低残渣食|嚥下食|カリウム制限食]のため[果物|生野菜|海藻|刺身|汁物]制限", "|[宗教上の理由|信仰上|ベジタリアン|菜食主義]で[豚肉|牛肉|肉類|肉・魚]を[摂取しない|食べない]", "|嫌いな食べ物：[納豆|レバー|しいたけ|セロリ|生魚|牛乳|トマト|鶏肉]（アレルギーではない）", "|禁止食：[納豆|グレープフルーツ]（[薬剤相互作用|ワルファリン内服中|Ca拮抗薬内服中]）",
    "|[牛乳|乳製品]を飲むと[お腹がゴロゴロする|下痢する|下痢ぎみ]", "|[好き嫌い|偏食]：[牛乳|魚|野菜|肉|納豆]は[苦手|嫌い]", "|[生もの|刺身|生卵|生野菜]禁止（[化学療法中|免疫抑制|好中球減少]のため）", "|[花粉の時期|花粉シーズン|スギ花粉の飛散期]は[マスクを着用する|外出を控える|薬を早めに飲む]よう指導", "|花粉の飛散が[始まった|多い|ピーク]", "|[アルコール|お酒]は[飲めない|弱い|下戸]", "|酒に弱い、[顔が赤くなる|動悸がする]",
    "|[採血|皮膚テスト|RAST|プリックテスト|View39|特異的IgE]でSを[調べる予定|確認予定|提出]", "|Sの[負荷試験|経口負荷試験|パッチテスト|皮内テスト|プリックテスト|DLST]を[予定|検討|施行予定|来月予約]", "|アレルギー出現時は[直ちに中止|受診|連絡]するよう説明", "|[皮疹|発疹|かゆみ|アレルギー症状]が[出たら|出現したら][内服中止し|すぐに][連絡|受診]するよう[説明|指導]",
    "|[今回の皮疹|今回の蕁麻疹|皮疹]の原因は[不明|特定できず|ウイルス感染が考えられる|ストレスか|虫刺されと思われる]", "|[点滴漏れ|穿刺部]の発赤[あり|]、[冷罨法|経過観察]", "|[アレルギー|薬疹][なのか|かどうか]は[わからない|判断できず|不明]とのこと", "|アレルギー[カード|手帳|欄]を[確認|更新|作成|持参]", "|エピペン[処方歴|携帯]の有無を確認", "|ワクチン後に[接種部位の腫れ|{37.5-39.0}℃の発熱|倦怠感|腕の痛み]（通常の副反応）", "|[輸血|予防接種]副反応[なし|歴なし|：なし]", "|[麻酔|全身麻酔|局所麻酔]トラブル[なし|歴なし|（-）|：なし]", "|悪性高熱の家族歴なし",
]  # fmt: skip

_GROUPS = {
    "drug": ("drug",), "unnamed": ("drug",), "contrast": (), "food": ("food",), "tape": ("skin",), "latex": ("skin",), "wipe": ("skin",), "metal": ("skin",), "cosmetic": ("skin",), "material": ("skin",), "sting": (), "insect": (), "animal": (), "air": (),
}  # fmt: skip
_KINDS = (("has", 46), ("bare", 7), ("doubt", 13), ("not", 11), ("pair", 11), ("list", 9), ("none", 11))
_LEADS = ("", "", "", "", "・", "- ", "■", "＊", "#", "また、", "なお、", "本人より：", "問診：", "既往に", "アレルギー：", "アレルギー歴：", "【アレルギー】", "アレルギー）", "Al: ", "薬剤アレルギー歴：", "アレルギー→", "アレルギー歴あり：", "特記：", "申し送り：")
_TAILS = ("", "", "", "", "", "。", "とのこと。", "（本人談）", "（カルテより）", "（要注意）", "。電カル登録済", "、申し送り済")


def clause(rng: random.Random, names: Names, ctx: Context, kind: str = "") -> Line:
    """One statement in words. `kind`: has | bare | doubt | not | pair | list | none, drawn when empty."""
    while True:
        chosen = kind or rng.choices([k for k, _ in _KINDS], [w for _, w in _KINDS])[0]
        key = family(rng)
        if chosen == "has":
            own = [frame for group in _GROUPS[key] for frame in _HAS[group]]
            frame = rng.choice(own) if own and rng.random() < 0.4 else rng.choice(_HAS["any"])
        else:
            frame = rng.choice({"bare": _BARE, "doubt": _DOUBT, "not": _NOT, "pair": _PAIR, "list": _LIST, "none": _NONE}[chosen])
        if key != "food" and any(word in frame for word in ("食べ", "食材", "摂取", "除去", "負荷試験")):
            continue
        if key not in ("drug", "unnamed", "contrast") and any(word in frame for word in ("投与", "内服", "DLST")):
            continue
        if "使用" in frame and key in ("food", "sting", "insect", "animal", "air"):
            continue
        keys = (key, family(rng, FAMILIES[key].category if rng.random() < 0.5 else None), family(rng))
        if chosen == "doubt":
            keys = (key, key, key)
        if chosen == "pair" and keys[1] != "food" and ("摂取可" in frame or "食べられる" in frame):
            continue
        if line := tell(rng, names, ctx, frame, keys):
            return line


def sentence(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """One statement on its own line."""
    line = clause(rng, names, ctx)
    lead = rng.choice(_LEADS) if line.facts or rng.random() < 0.3 else rng.choice(("", "・", "- ", "また、"))
    if not line.facts and "あり" in lead:
        lead = ""
    if lead.startswith(("アレルギー", "【ア", "薬剤アレ")) and ("アレルギー" in line.text[:6] or line.text[0] in "【■"):
        lead = ""
    if "アレルギー" in lead and "アレルギー：" in line.text or lead == "既往に" and line.text[0] in "■原診被":
        lead = ""
    if "あり" in lead and any(fact.assertion is not PRESENT for fact in line.facts):
        lead = "アレルギー歴："
    if lead.startswith("薬剤") and any(fact.category is not MEDICATION for fact in line.facts):
        lead = "アレルギー歴："
    tail = rng.choice(_TAILS) if line.text[-1] not in "。」）" else ""
    return [Line(lead + line.text.rstrip("　 ") + tail, line.facts)]


def side_effects(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """What is no allergy, now and then next to one that is."""
    lines = [clause(rng, names, ctx, "none") for _ in range(rng.choice((1, 1, 2, 3)))]
    if rng.random() < 0.55:
        lines.insert(rng.randrange(len(lines) + 1), clause(rng, names, ctx, rng.choice(("has", "has", "not", "doubt", "list"))))
    bullet = ctx.habit(rng, "allergy_bullet", "", "", "・", "- ", "　")
    return [Line(bullet + line.text, line.facts) for line in lines]


def family_story(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Somebody else's allergy beside the patient's own denial."""
    other = clause(rng, names, ctx, "none")
    word, category = rng.choice((("薬剤アレルギー", MEDICATION), ("食物アレルギー", FOOD), ("薬物アレルギー", MEDICATION)))
    if word in other.text:
        return [other]
    denial = rng.choice(("本人の{}なし", "{}なし", "{}：なし", "{}(-)", "患者本人に{}はない", "{}の既往なし")).format(word)
    return [Line(other.text + rng.choice(("。", "、", "　")) + denial, [Fact(Kind.ALLERGY, {Field.NAME: word}, ABSENT, category)])]


WRITERS: list[tuple[float, Writer]] = [(7.5, sentence), (1.6, side_effects), (0.5, specific_ige), (0.4, family_story)]
