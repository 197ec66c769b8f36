"""Words of disease sections, and frames: sentences with slots that become text and facts together.

A frame is text with slots in braces and choices in brackets (`[で|にて]`, not nested):

* `{P}` `{S}` `{A}` `{H}` `{F}`: a disease that is present, suspected, absent, past (history) or in the family;
  `{P:cancer}` draws from a pool of `POOLS` or the tables, `{P:=cancer}` from the pool only; `{A*}` is a list of two to four that share the assertion.
* `{o>}` `{<o}`: a date that dates the next or the previous disease; `{m>}` `{<m}`: the same, of the last weeks.
* `{r>}` `{<r}`: the relative of the following `{F}` up to the next relative, or of the previous one.
* `{graded}`: a grade, stage or score of the previous disease, in a bracket or beside it; `{stage}`: one after a blank, if any suits.
* `{scan}` `{site}` `{lesion}` `{P:region}` are of one part of the body, `{opx}` `{P:cured}` of one operation.
* `{X}`: the name of a disease of which nothing is said (a risk explained, a leaflet, a neighbour's illness).
* `{d}`: a date that dates no disease; `{n:2-9}`: a number; `{drug}`, `{analyte}` and any key of `WORDS`: a name or word, without a fact.
"""

import random
import re
from datetime import date, timedelta

from schemas.statement import Assertion, Field, Kind
from training.corpus.condition_grades import SCORES, STAGES
from training.corpus.condition_regions import REGIONS, SURGERY
from training.corpus.condition_terms import DISEASES, TERMS, words
from training.corpus.core import Context, Fact
from training.corpus.names import Names

__all__ = ["ASSERTIONS", "POOLS", "SYMPTOMLIKE", "WORDS", "fill", "join", "pick", "placed", "spelled", "stage", "when", "words"]

ASSERTIONS = {
    "P": Assertion.PRESENT,
    "S": Assertion.SUSPECTED,
    "A": Assertion.ABSENT,
    "H": Assertion.PAST,
    "F": Assertion.FAMILY,
}

POOLS: dict[str, list[str]] = {
    "chronic": words(
        "高血圧 高血圧症 本態性高血圧 HT HTN 糖尿病 2型糖尿病 １型糖尿病 1型糖尿病 DM T2DM 2型DM 脂質異常症 "
        "高脂血症 HL DL "
        "高コレステロール血症 心房細動 Af AF 慢性心房細動 発作性心房細動 PAF CKD 慢性腎臓病 慢性腎不全 "
        "慢性心不全 CHF "
        "COPD 気管支喘息 BA 喘息 高尿酸血症 HUA 痛風 骨粗鬆症 OP 甲状腺機能低下症 橋本病 バセドウ病 慢性C型肝炎 "
        "B型慢性肝炎 "
        "肝硬変 アルコール性肝硬変 LC 脂肪肝 NAFLD 逆流性食道炎 GERD 慢性胃炎 萎縮性胃炎 関節リウマチ RA SLE PMR "
        "リウマチ性多発筋痛症 シェーグレン症候群 パーキンソン病 PD アルツハイマー型認知症 認知症 AD "
        "レビー小体型認知症 DLB "
        "うつ病 統合失調症 双極性障害 不眠症 てんかん 睡眠時無呼吸症候群 SAS 前立腺肥大症 BPH 過活動膀胱 OAB "
        "緑内障 白内障 "
        "糖尿病網膜症 糖尿病性腎症 糖尿病性腎症2期 腰部脊柱管狭窄症 LCS 変形性膝関節症 両変形性膝関節症 膝OA "
        "狭心症 労作性狭心症 AP "
        "陳旧性心筋梗塞 OMI 陳旧性脳梗塞 ASO 閉塞性動脈硬化症 大動脈弁狭窄症 AS 僧帽弁閉鎖不全症 MR 肥大型心筋症 "
        "HCM DCM "
        "潰瘍性大腸炎 UC クローン病 間質性肺炎 IP IPF 特発性肺線維症 ネフローゼ症候群 IgA腎症 アトピー性皮膚炎 "
        "尋常性乾癬 "
        "鉄欠乏性貧血 IDA 腎性貧血 便秘症 慢性便秘症 アレルギー性鼻炎 花粉症 胆石症 子宮筋腫 腹部大動脈瘤 AAA "
        "肺高血圧症 末期腎不全 ESRD"
    ),
    "acute": words(
        "肺炎 市中肺炎 誤嚥性肺炎 細菌性肺炎 尿路感染症 UTI 急性腎盂腎炎 腎盂腎炎 急性胆嚢炎 急性胆管炎 "
        "総胆管結石 急性膵炎 "
        "急性虫垂炎 虫垂炎 憩室炎 大腸憩室出血 上部消化管出血 出血性胃潰瘍 胃潰瘍 十二指腸潰瘍 イレウス 腸閉塞 "
        "癒着性腸閉塞 "
        "急性心筋梗塞 AMI STEMI NSTEMI 不安定狭心症 急性冠症候群 ACS 心不全 急性心不全 うっ血性心不全 ADHF "
        "肺塞栓症 PE "
        "肺血栓塞栓症 深部静脈血栓症 DVT 急性大動脈解離 脳梗塞 アテローム血栓性脳梗塞 心原性脳塞栓症 ラクナ梗塞 "
        "TIA 脳出血 "
        "左被殻出血 くも膜下出血 SAH 慢性硬膜下血腫 CSDH 髄膜炎 細菌性髄膜炎 敗血症 敗血症性ショック 菌血症 "
        "感染性心内膜炎 IE "
        "蜂窩織炎 帯状疱疹 急性腎障害 AKI 急性腎不全 高カリウム血症 高K血症 低ナトリウム血症 低Na血症 低血糖 DKA "
        "糖尿病性ケトアシドーシス 熱中症 脱水症 インフルエンザ インフルエンザA型 COVID-19 "
        "新型コロナウイルス感染症 急性胃腸炎 "
        "感染性胃腸炎 気胸 左自然気胸 膿胸 胸膜炎 心膜炎 心タンポナーデ BPPV 良性発作性頭位めまい症 メニエール病 "
        "突発性難聴 "
        "急性上気道炎 急性気管支炎 扁桃炎 扁桃周囲膿瘍 急性中耳炎 川崎病 RSウイルス感染症 偽痛風 化膿性関節炎 椎体炎 "
        "尿管結石 尿路結石 精巣捻転 卵巣嚢腫茎捻転 異所性妊娠 切迫早産 妊娠高血圧症候群 薬疹 アナフィラキシー "
        "せん妄 術後せん妄 "
        "創部感染 縫合不全 褥瘡 仙骨部褥瘡 DIC 播種性血管内凝固症候群 横紋筋融解症 肝膿瘍 腸腰筋膿瘍 肺膿瘍 "
        "肺結核 結核"
    ),
    "cancer": words(
        "胃癌 胃がん 早期胃癌 大腸癌 大腸がん 上行結腸癌 S状結腸癌 直腸癌 肺癌 肺がん 右上葉肺癌 肺腺癌 "
        "小細胞肺癌 食道癌 膵癌 膵頭部癌 "
        "膵臓がん 肝細胞癌 HCC 肝臓癌 胆管癌 胆嚢癌 腎癌 腎細胞癌 膀胱癌 前立腺癌 乳癌 左乳癌 右乳がん 子宮頸癌 "
        "子宮体癌 卵巣癌 "
        "甲状腺癌 甲状腺乳頭癌 悪性リンパ腫 DLBCL 多発性骨髄腫 MM AML 急性骨髄性白血病 MDS 骨髄異形成症候群 舌癌 "
        "喉頭癌 下咽頭癌 "
        "悪性黒色腫 膠芽腫 髄膜腫 転移性肝癌 多発骨転移 脳転移 癌性腹膜炎 癌性疼痛 GIST"
    ),
    "injury": words(
        "左大腿骨頸部骨折 右大腿骨頸部骨折 左大腿骨転子部骨折 右大腿骨転子部骨折 大腿骨近位部骨折 "
        "右橈骨遠位端骨折 左橈骨遠位端骨折 "
        "第1腰椎圧迫骨折 L1圧迫骨折 Th12圧迫骨折 胸椎圧迫骨折 腰椎圧迫骨折 右肋骨骨折 多発肋骨骨折 左鎖骨骨折 "
        "右上腕骨近位端骨折 "
        "右足関節外果骨折 左膝蓋骨骨折 骨盤骨折 恥骨骨折 頭部外傷 頭部打撲 急性硬膜下血腫 脳挫傷 "
        "外傷性くも膜下出血 右アキレス腱断裂 "
        "左膝前十字靱帯損傷 右腱板断裂 左肩関節脱臼 頸椎捻挫 右足関節捻挫 左下腿挫創 熱傷 II度熱傷 頸髄損傷 "
        "外傷性気胸"
    ),
    "past": words(
        "虫垂炎 急性虫垂炎 胆石症 胆嚢結石 胃潰瘍 十二指腸潰瘍 肺炎 肺結核 結核 脳梗塞 ラクナ梗塞 心筋梗塞 "
        "下壁心筋梗塞 くも膜下出血 "
        "慢性硬膜下血腫 胃癌 早期胃癌 大腸癌 S状結腸癌 乳癌 左乳癌 子宮筋腫 卵巣嚢腫 前立腺癌 甲状腺癌 腎癌 "
        "白内障 両白内障 両側白内障 "
        "左鼠径ヘルニア 右鼠径ヘルニア 鼠径ヘルニア 腰椎椎間板ヘルニア 痔核 下肢静脈瘤 自然気胸 右気胸 "
        "左大腿骨頸部骨折 右橈骨遠位端骨折 "
        "鎖骨骨折 大腸ポリープ 尿管結石 腎盂腎炎 帯状疱疹 急性膵炎 憩室炎 腸閉塞 B型肝炎 C型肝炎 急性肝炎 扁桃炎 "
        "副鼻腔炎 中耳炎 "
        "髄膜炎 川崎病 麻疹 風疹 水痘 流行性耳下腺炎 COVID-19 深部静脈血栓症 DVT 突発性難聴 うつ病 子宮内膜症 "
        "異所性妊娠"
    ),
    "dm": words("糖尿病 2型糖尿病 ２型糖尿病 1型糖尿病 DM T2DM 2型DM 緩徐進行1型糖尿病 膵性糖尿病 ステロイド糖尿病"),
    "limb": words(
        "大腿骨頸部骨折 大腿骨転子部骨折 橈骨遠位端骨折 上腕骨近位端骨折 変形性膝関節症 変形性股関節症 白内障 "
        "緑内障 鼠径ヘルニア "
        "腱板断裂 乳癌 肺癌 気胸 腎癌 尿管結石 慢性硬膜下血腫 中大脳動脈梗塞 内頸動脈狭窄症 肩関節周囲炎 "
        "網膜剥離 下肢蜂窩織炎 難聴 膝OA 顔面神経麻痺"
    ),
    "child": words(
    "小児喘息 熱性けいれん 熱性痙攣 川崎病 麻疹 水痘 風疹 百日咳 中耳炎 気管支炎 急性糸球体腎炎 ペルテス病 心室中隔欠損症 VSD"),
    "family": words(
        "高血圧 高血圧症 HT 糖尿病 DM 2型糖尿病 脂質異常症 HL 脳梗塞 脳卒中 脳出血 くも膜下出血 心筋梗塞 狭心症 "
        "心不全 "
        "胃癌 胃がん 大腸癌 大腸がん 肺癌 肺がん 乳癌 乳がん 膵癌 膵臓がん 肝癌 肝硬変 子宮癌 子宮体癌 前立腺癌 "
        "卵巣癌 食道癌 白血病 "
        "悪性リンパ腫 認知症 アルツハイマー病 パーキンソン病 腎不全 慢性腎臓病 多発性嚢胞腎 関節リウマチ SLE "
        "バセドウ病 橋本病 喘息 "
        "気管支喘息 アトピー性皮膚炎 結核 肺結核 緑内障 うつ病 統合失調症 B型肝炎 肝細胞癌 大動脈解離 "
        "肥大型心筋症 てんかん 痛風"
    ),
    "denied": words(
        "高血圧 糖尿病 DM 脂質異常症 HT HL 脳梗塞 脳卒中 心筋梗塞 狭心症 心疾患 喘息 気管支喘息 緑内障 "
        "前立腺肥大 前立腺肥大症 結核 "
        "肝炎 B型肝炎 C型肝炎 腎疾患 肝疾患 呼吸器疾患 甲状腺疾患 てんかん 悪性腫瘍 胃潰瘍 消化性潰瘍 不整脈 "
        "心房細動 DVT 深部静脈血栓症 "
        "肺塞栓症 PE COPD 睡眠時無呼吸症候群 肺炎 心不全 髄膜炎 脳出血 くも膜下出血 虫垂炎 胆嚢炎 膵炎 骨折 "
        "感染性心内膜炎 "
        "悪性リンパ腫 膠原病 心タンポナーデ 大動脈解離 気胸 イレウス 腸閉塞 総胆管結石 褥瘡 せん妄 縫合不全 "
        "創部感染 誤嚥性肺炎 低血糖"
    ),
}

POOLS |= DISEASES
POOLS["region"] = [name for _, _, _, found in REGIONS for name in found]
POOLS["cured"] = [name for found, _ in SURGERY for name in found]

# Official disease names include signs, states and tests: in prose they are no disease.
_SIGN_ENDINGS = words(
    "痛 発熱 咳 咳嗽 浮腫 困難 めまい 眩暈 嘔気 嘔吐 下痢 便秘 倦怠感 違和感 しびれ "
    "発疹 検査 予防 希望 状態 分娩 妊娠 術後 疑い アレルギー 陽性 陰性 ワクチン 異常 "
    "不振 減少 腹水 胸水 黄疸 耳鳴 腫脹 喀血 逆子 置換後 移植後 切除後 管理中 毒作用 動悸 失神 血尿 鼻血 吐血 下血 血便 "
    "嗄声 喘鳴 不安 "
    "肥満 疲労 "
    "胃ろう 胃瘻 胸やけ 胸焼け しゃっくり 吃逆 肩こり 肩凝り 耳鳴り 寝たきり しびれ感 悪心 吐き気 血痰 複視 失語 片麻痺 半身麻痺 昏睡 レベル低下 食欲低下 腎機能低下 視力低下 聴力低下 心拡大 左室肥大 腫大 "
    "蛋白尿 タンパク尿 夜間頻尿 異常影 結節影 陰影 貯留 尿失禁 月経不順 生理不順 過換気 心悸亢進 洞性頻脈 洞頻脈 頻脈 洞性徐脈 洞徐脈 徐脈 人工肛門 患者 既往 療法中 後 挿入眼 偽水晶体眼 失神発作 所見 胸部異常 "
    "のぼせ ほてり むくみ 息切れ 吃音 紅潮 圧痛 拘縮 るいそう 冷え 掻痒 脱力 発赤 びらん 石灰化 結節性病変 ^けいれん ^痙攣 プラーク プラーク術後"
)
SYMPTOMLIKE = re.compile(f"(?<!片頭)(?:{'|'.join(_SIGN_ENDINGS)})$")

WORDS: dict[str, list[str]] = {
    "sx": words(
        "発熱 咳嗽 喀痰 胸痛 浮腫 下腿浮腫 呼吸困難 労作時呼吸困難 めまい 嘔気 嘔吐 腹痛 心窩部痛 右季肋部痛 "
        "下痢 便秘 頭痛 動悸 倦怠感 "
        "全身倦怠感 食欲不振 食思不振 体重減少 しびれ 左上肢のしびれ 歩行困難 ふらつき 腰痛 膝痛 背部痛 咽頭痛 "
        "鼻汁 悪寒 戦慄 冷汗 "
        "意識障害 構音障害 右片麻痺 失神 血便 黒色便 吐血 血尿 頻尿 排尿時痛 皮疹 掻痒感 口渇 多飲多尿 嗄声 "
        "嚥下困難 不眠 息切れ 咳 痰"
    ),
    "sign": words(
        "ラ音 圧痛 反跳痛 筋性防御 項部硬直 頸静脈怒張 下腿浮腫 心雑音 腹水 黄疸 眼瞼結膜貧血 眼球結膜黄染 "
        "チアノーゼ 麻痺 "
        "構音障害 顔面麻痺 頸部リンパ節腫脹 CVA叩打痛 Murphy徴候 wheeze crackles 発赤 熱感 腫脹 皮疹 創部発赤 "
        "出血 眼振 振戦"
    ),
    "img": words(
        "浸潤影 右下肺野の浸潤影 すりガラス影 胸水 両側胸水 腫瘤 結節影 ST上昇 ST低下 心拡大 肺うっ血 胆嚢壁肥厚 "
        "腹水貯留 "
        "free air 肝内胆管の拡張 総胆管拡張 腸管拡張 ニボー DWI高信号域 低吸収域 石灰化 リンパ節腫大 壁肥厚 "
        "胸膜肥厚 水腎"
    ),
    "op": words(
        "虫垂切除 虫垂切除術 胆嚢摘出術 腹腔鏡下胆嚢摘出術 ラパコレ PCI CABG 幽門側胃切除術 胃全摘術 "
        "S状結腸切除術 右半結腸切除術 "
        "低位前方切除術 帝王切開 子宮全摘術 白内障手術 人工骨頭置換術 人工膝関節置換術 TKA THA 骨接合術 γ-nail "
        "椎弓切除術 "
        "ペースメーカー植込み術 カテーテルアブレーション 鼠径ヘルニア根治術 扁桃摘出術 乳房部分切除術 "
        "甲状腺亜全摘 TUR-Bt TUR-P ESD EMR ERCP AVR 内シャント造設術"
    ),
    "test": words(
    "CT 頭部CT 胸部CT 腹部CT 造影CT MRI 頭部MRI 腹部エコー 心エコー 上部内視鏡 GF CF 下部消化管内視鏡 心電図 胸部X線 胸部Xp 髄液検査 血液培養 CAG 骨密度検査 下肢静脈エコー"),
    "dept": words(
        "糖尿病内科 循環器内科 消化器内科 呼吸器内科 腎臓内科 脳神経内科 脳神経外科 整形外科 外科 消化器外科 "
        "泌尿器科 眼科 皮膚科 耳鼻咽喉科 "
        "精神科 リウマチ科 血液内科 救急科 高血圧・腎臓内科 脳卒中センター もの忘れ外来 近医 前医 他院 "
        "かかりつけ医 A病院 B医院 C総合病院 当科 当院"
    ),
    "side": words("左 右 両側 両"),
    "exam": words(
    "がん検診 骨粗鬆症検査 大腸がん検診 肝炎ウイルス検査 脳ドック 特定健診 乳がん検診 骨粗鬆症検診 人間ドック"),
    "pt": words("患者 患者様 患者さん 方 男性 女性"),
    "hosp": words(
    "近医 前医 他院 かかりつけ医 A病院 B医院 Cクリニック 市民病院 総合病院 当院 当院内科 〇〇病院 ××医院 K病院"),
    "rx": words(
    "降圧薬 降圧剤 抗菌薬 内服 抗凝固薬 利尿薬 経口血糖降下薬 吸入薬 内服薬 鎮痛薬 輸液 酸素投与 抗血小板薬 ステロイド内服"),
    "decoy": words(
        "糖尿病食 糖尿病教室 高血圧学会ガイドライン がん検診 肺炎球菌ワクチン 骨粗鬆症検査 心不全手帳 結核接触歴 "
        "認知症カフェ 脳卒中センター "
        "糖尿病内科 糖尿病連携手帳 喘息日誌 減塩食 心臓病食 腎臓病食 腎臓病教室 糖尿病療養指導士 緩和ケアチーム "
        "認知症ケアチーム 褥瘡回診 "
        "褥瘡予防マット 転倒予防 インフルエンザワクチン 帯状疱疹ワクチン 大腸がん検診 胃がん検診 乳がん検診 "
        "骨粗鬆症検診 肝炎ウイルス検査 "
        "認知症サポート医 脳ドック がん相談支援センター 心臓リハビリテーション 腎代替療法選択外来 がんリハビリ "
        "肺炎予防の口腔ケア 誤嚥予防の体位"
    ),
    "job": words("会社員 事務職 元教員 農業 主婦 無職 自営業 看護師 建設業 タクシー運転手"),
    "course": words(
    "軽快 改善傾向 増悪傾向 安定 横ばい 経過観察 フォロー中 加療中 治療継続 コントロール良好 コントロール不良 経過良好 精査中 治療中 変化なし"),
    "treated": words(
    "内服中 通院中 治療中 加療中 内服加療中 他院通院中 近医通院中 インスリン使用中 当院通院中 投薬中 経過観察中 フォロー中 定期通院中 透析中"),
    "healed": words(
    "治癒 完治 軽快 手術 術後 手術後 治療済 治療済み 治療歴あり 保存的加療で治癒 根治術後 寛解 入院加療 薬物治療で治癒 手術施行 Op後 ope 内視鏡治療後 切除後"),
    "sev": words("軽症 中等症 重症 軽度 再発 増悪 急性期 慢性期 進行期 治療抵抗性"),
}

RELATIVES = words(
    "父 母 兄 姉 弟 妹 祖父 祖母 父方祖父 父方祖母 母方祖父 母方祖母 長男 長女 次男 叔父 叔母 母方叔母 "
    "父方の叔父 母方の祖母 "
    "父親 母親 実父 実母 従兄 いとこ 娘 息子 両親 同胞 双子の妹"
)

WORDS |= TERMS
WORDS["score"] = SCORES
_STAGES = [(re.compile(pattern), forms) for pattern, forms in STAGES]

SLOT = re.compile(r"\{([^{}]+)\}")
CHOICE = re.compile(r"\[([^\[\]]*)\]")


def pick(rng: random.Random, names: Names, pool: str = "") -> str:
    """A disease name: of the pool three times out of five (always if `pool` begins with =), else of the tables."""
    if pool.startswith("=") or (pool and rng.random() < 0.6):
        name = rng.choice(POOLS[pool.removeprefix("=")])
    elif not pool and rng.random() < 0.25:
        name = rng.choice(POOLS[rng.choice(["chronic", "acute", "cancer", "injury"])])
    else:
        name = names.disease(rng)
        for _ in range(8):
            if not SYMPTOMLIKE.search(name) and not re.search(r"[、，,;；]", name) and name not in WORDS["sx"]:
                break
            name = names.disease(rng)
        else:
            name = rng.choice(POOLS["chronic"])
    if rng.random() < 0.04 and re.search(r"[0-9A-Z]", name):
        name = name.translate({code: code + 0xFEE0 for code in range(0x30, 0x5B) if chr(code).isalnum()})
    return name


def stage(rng: random.Random, name: str) -> str:
    """A stage or grade that suits the name, or ''."""
    for pattern, forms in _STAGES:
        if pattern.search(name):
            return spelled(rng, rng.choice(forms))
    return ""


def _graded(rng: random.Random, name: str) -> str:
    """A grade as it follows the name: in a bracket, after a blank or a comma, or without anything between."""
    grade = stage(rng, name) or (spelled(rng, rng.choice(SCORES)) if rng.random() < 0.15 else rng.choice(WORDS["sev"]))
    forms = ["（{}）", "({})", "（{}）", " {}", "、{}", "：{}", "　{}"]
    if not (name[-1].isascii() or grade[0] in "([") and name[-1] != grade[0]:
        forms += ["{}", "{}"]
    return rng.choice(forms).format(grade)


def spelled(rng: random.Random, text: str, day: str = "") -> str:
    """The text with its choices made, its numbers drawn and its words filled in; `{d}` becomes `day`."""
    text = CHOICE.sub(lambda found: rng.choice(found[1].split("|")), text)

    def draw(slot: re.Match[str]) -> str:
        key, _, bounds = slot[1].partition(":")
        if bounds:
            low, high = bounds.split("-")
            return str(rng.randint(int(low), int(high)))
        return day if key == "d" else spelled(rng, rng.choice(WORDS[key]), day)

    return SLOT.sub(draw, text) if "{" in text else text


def _era(year: int) -> tuple[str, str, int]:
    if year >= 2019:
        return "令和", "R", year - 2018
    if year >= 1989:
        return "平成", "H", year - 1988
    return "昭和", "S", year - 1925


def when(rng: random.Random, ctx: Context, recent: bool = False, bare: bool = False) -> str:
    """A date as a chart writes it: some years ago, or (`recent`) in the last two months.

    `bare`: what follows allows a year without 年.
    """
    if recent:
        day = ctx.day - timedelta(days=rng.randint(0, 60))
        forms = [f"{day.month}/{day.day}", f"{day.month}月{day.day}日", f"{day.year}/{day.month}/{day.day}"]
        forms += [f"{day.year}年{day.month}月{day.day}日", f"{day.year}年{day.month}月", day.isoformat(),
            forms[0], forms[1]]
        return rng.choice(forms)
    day = ctx.day - timedelta(days=rng.randint(60, 365 * rng.choice([2, 8, 20, 40])))
    day = max(day, date(1930, 1, 1))
    long, short, number = _era(day.year)
    written = "元" if number == 1 and rng.random() < 0.7 else str(number)
    y, m, d = day.year, day.month, day.day
    families = {
        "year": [f"{y}年", f"{y}年", f"{y}" if bare else f"{y}年"],
        "era": [f"{long}{written}年", f"{short}{number}", f"{short}{number}年", f"{long}{written}年{m}月"],
        "month": [f"{y}年{m}月", f"{y}/{m}", f"{y}.{m}", f"{y}/{m:02d}", f"{y}-{m:02d}", f"{short}{number}.{m}",
        f"{short}{number}/{m}"],
        "day": [f"{y}年{m}月{d}日", f"{y}/{m}/{d}", f"{y}.{m}.{d}", f"{short}{number}.{m}.{d}",
        f"{long}{written}年{m}月{d}日", day.isoformat()],
    }
    return rng.choice(families[ctx.habit(rng, "onset_date", "year", "year", "era", "month", "day")])


JOINTS = ["、", "、", "、", "や", "・", "，", ", ", "/", " "]


def fill(rng: random.Random, names: Names, ctx: Context, frame: str) -> tuple[str, list[Fact]]:
    """The frame as text with its facts, each name at the first place where it can be found from the fact before."""
    for _ in range(12):
        text, facts, places = _fill(rng, names, ctx, frame)
        if placed(text, facts, places):
            return text, facts
    return "特記すべきことなし。", []


def placed(text: str, facts: list[Fact], places: list[int]) -> bool:
    """Whether a left-to-right search finds every name where it was written, and none inside another."""
    at = 0
    for fact, place in zip(facts, places, strict=True):
        name = fact.fields[Field.NAME]
        if text.find(name, at) != place or (at == place and at):
            return False
        at = place
    return True


def join(joint: str, items: list[tuple[str, list[Fact]]], head: str = "") -> tuple[str, list[Fact]]:
    """The items on one line after `head`; left out are those whose names would be found too early in it."""
    text, facts, at = head, [], 0  # type: str, list[Fact], int
    for part, found in items:
        start = len(text) + (len(joint) if text != head else 0)
        longer = text + (joint if text != head else "") + part
        here, sound = at, True
        for fact in found:
            place = longer.find(fact.fields[Field.NAME], here)
            sound = sound and place >= start
            here = max(here, place)
        if sound:
            text, at = longer, here
            facts += found
    return text, facts


def _own_words(rng: random.Random) -> dict[str, list[str]]:
    """The words of a frame that keeps to one region and one operation; pools of diseases by the same keys."""
    scans, sites, lesions, region = rng.choice(REGIONS)
    cured, operations = rng.choice(SURGERY)
    own = {"scan": scans, "site": sites, "lesion": lesions, "region": region, "cured": cured}
    if rng.random() < 0.7:
        own["opx"] = operations
    return own


def _fill(rng: random.Random, names: Names, ctx: Context, frame: str) -> tuple[str, list[Fact], list[int]]:
    frame = CHOICE.sub(lambda found: rng.choice(found[1].split("|")), frame)
    text, facts, places = "", [], []  # type: str, list[Fact], list[int]
    pending: dict[Field, str] = {}
    relative = ""
    own = _own_words(rng) if "{s" in frame or "{le" in frame or "{op" in frame else {}
    at = 0
    for slot in SLOT.finditer(frame):
        text += frame[at : slot.start()]
        at = slot.end()
        bare = frame[at : at + 1] in ("）", ")", "、", " ", "〜", "：")
        key, _, argument = slot[1].partition(":")
        if key.rstrip("*") in ASSERTIONS:
            label = key.rstrip("*")
            if not argument:
                argument = {"A": rng.choice(["", "denied"]), "F": "family", "H": "past"}.get(label, "")
            joint = rng.choice(JOINTS)
            for number in range(rng.choice([2, 2, 3, 4]) if key.endswith("*") else 1):
                name = rng.choice(own[argument]) if argument in own and rng.random() < 0.92 else pick(rng, names, argument)
                text += joint if number else ""
                fields = {Field.NAME: name}
                if label == "F" and relative:
                    fields[Field.RELATIVE] = relative
                fields |= pending
                pending = {}
                places.append(len(text))
                facts.append(Fact(Kind.CONDITION, fields, ASSERTIONS[label]))
                text += name
        elif key in ("o>", "m>"):
            pending[Field.ONSET] = when(rng, ctx, key == "m>", bare)
            text += pending[Field.ONSET]
        elif key in ("<o", "<m"):
            facts[-1].fields[Field.ONSET] = when(rng, ctx, key == "<m", bare)
            text += facts[-1].fields[Field.ONSET]
        elif key == "r>":
            relative = rng.choice(RELATIVES)
            text += relative
        elif key == "<r":
            facts[-1].fields[Field.RELATIVE] = rng.choice(RELATIVES)
            text += facts[-1].fields[Field.RELATIVE]
        elif key == "X":
            text += pick(rng, names, argument or rng.choice(["", "denied"]))
        elif key == "d":
            text += when(rng, ctx, rng.random() < 0.5)
        elif key == "n":
            low, high = argument.split("-")
            text += str(rng.randint(int(low), int(high)))
        elif key == "graded":
            text += _graded(rng, facts[-1].fields[Field.NAME])
        elif key == "drug":
            text += names.drug(rng).name
        elif key == "analyte":
            text += names.analyte(rng).name
        elif key == "stage":
            found = stage(rng, facts[-1].fields[Field.NAME])
            text += f" {found}" if found else ""
        else:
            word = rng.choice(own.get(key) or WORDS[key])
            text += spelled(rng, word, when(rng, ctx, True)) if "{" in word or "[" in word else word
    return text + frame[at:], facts, places
