"""Prescriptions in sentences: started, changed, stopped, planned, given earlier, and sentences that only look like one.

Templates: [a|b] is a choice, {A} a drug with some of dose, usage and days, {A.n} its name alone, {A.d} dose, {A.u} usage,
{A.y} days; {A.o} an older quantity, which is no field; {D} a disease with its own statement, {G} a medication allergy.
The letters before the template are the actions of A, B and C in turn.
"""

# ruff: noqa: E501 (tables of words, one row a line)

import random
import re

from schemas.statement import Action, AllergyCategory, Field, Kind
from training.corpus import prescription_clauses as clauses
from training.corpus.core import Context, Fact, Line
from training.corpus.names import Names
from training.corpus.prescription_items import Item, by_hand, compose, draw, item_fact, medicine, pick, usage

_ACTIONS = {
    "P": Action.PRESCRIBE,
    "C": Action.CONTINUE,
    "X": Action.CHANGE,
    "S": Action.STOP,
    "L": Action.PLAN,
    "H": Action.HISTORY,
}
_WORDS = {
    "day": "本日|昨日|今朝|前回|先週|先月|3日前|1週間前|4/10|5月2日|2/14|令和5年3月|R6.1|昨年|一昨年|2022年|入院3日目|第5病日|POD1|術後2日目|術翌日|入院時|{n}/{m}|{n}月{m}日|"
    "{n}月|X-2年|半年前|約1ヶ月前|2年前|day3|HD2|翌日|{n}月上旬|10年前",
    "next": "次回|次回より|来週から|来月から|来月より|明日から|明日より|退院後|術後|術後再開まで|4/1から|週明けから|血圧をみて次回|採血結果を見て|抜糸後|再診時より|透析導入後|次回受診時|{n}/{m}から|"
    "{n}月{m}日より|明朝から|検査後|2週間後から|翌朝より|食事開始後",
    "stopday": "術前7日前|手術7日前|手術5日前|術前3日|術前48時間前|手術前日|検査3日前|{n}/{m}|術当日朝|2週間前|手術14日前|入院3日前|内視鏡前日|4週間前|術前1週間|前日夕|{n}月{m}日|造影検査前後48時間",
    "symptom": "疼痛|創部痛|頭痛|腰痛|発熱|38.4℃の発熱|不眠|嘔気|便秘|咳嗽|痰がらみ|下痢|動悸|掻痒感|浮腫|胃部不快感|めまい|鼻汁|不穏|倦怠感|食欲低下|膝痛|咽頭痛|腹部膨満|しびれ|血圧高値|"
    "血圧170台|排便なし3日目|口渇|息切れ|喘鳴|耳鳴り|湿疹|ふらつき|HR120台の頻脈|背部痛|右下腹部痛|関節痛|体動時痛|歯痛|筋肉痛|夜間頻尿|口内の荒れ|乾燥|イライラ",
    "effect": "ふらつき|眠気|空咳|下痢|胃痛|便秘|下腿浮腫|嘔気|口渇|頻尿|倦怠感|筋肉痛|顔面紅潮|頭痛|手の震え|食欲低下|味覚異常|めまい|動悸|血圧低下|尿量減少|歯肉腫脹|効果不十分|軟便|徐脈|口内炎|"
    "日中の眠気|脱力|肌荒れ|体重増加",
    "class": "降圧薬|降圧剤|抗生剤|抗菌薬|抗生物質|痛み止め|鎮痛薬|眠剤|睡眠薬|風邪薬|感冒薬|胃薬|下剤|軟便剤|整腸剤|漢方|前医の薬|血をサラサラにする薬|抗血小板薬|抗凝固薬|利尿薬|湿布|外用剤|塗り薬|目薬|"
    "吸入薬|ステロイド|インスリン|経口血糖降下薬|スタチン|PPI|NSAIDs|ARB|β遮断薬|DPP-4阻害薬|SGLT2阻害薬|SU薬|Ca拮抗薬|ビスホスホネート|抗ヒスタミン薬|抗不安薬|抗うつ薬|制吐剤|鎮咳薬|去痰薬|解熱剤|"
    "鉄剤|市販薬|サプリメント|健康食品|頓服薬|坐薬|精神科の薬|整形の薬|内科の薬|他院の薬|定期薬|抗てんかん薬|尿酸の薬|コレステロールの薬|免疫抑制剤|免疫抑制薬|骨粗鬆症の薬|ビタミン剤|抗認知症薬|輸液|点滴",
    "fluid": "細胞外液 500mL|細胞外液500ml|生食500mL|生食 100mL|生理食塩水1000mL|ソルデム3A 500mL|ソルデム1|ソリタT3 500ml|ソリタT1号|ラクテック 500mL|ラクテックG|ヴィーンF 500ml|ヴィーンD|ビカーボン|"
    "ビーフリード 1000mL/日|エルネオパNF1号 1000mL|フィジオ140|5%ブドウ糖液 250mL|フィジオゾール3号|維持液 1500mL/日|末梢点滴 80mL/h|KN3B|大塚生食 100ml|輸液1500mL|ソルアセトF|イントラリポス20% 100mL|"
    "ソルラクト|外液 60mL/h|生食ロック|ブドウ糖液",
    "other": "酸素2L/分|O2 3L nasal|酸素マスク5L|O2 1L カヌラ|HOT 1L|RBC 2単位|濃厚赤血球 4単位|RCC2E|FFP 4単位|血小板10単位|インフルエンザワクチン|コロナワクチン4回目|肺炎球菌ワクチン|ニューモバックス|帯状疱疹ワクチン|シングリックス|"
    "HBワクチン|オムニパーク300 100mL|イオパミロン|ガドビスト|造影剤|バリウム|MRワクチン|破傷風トキソイド|自己血400mL|アルブミン製剤|経管栄養 1200kcal|エンシュア|ラコール|とろみ剤|弾性ストッキング|A型ボツリヌス治療|放射線治療|理学療法",
    "reaction": "皮疹|蕁麻疹|発疹|全身発赤|呼吸苦|アナフィラキシー|顔面腫脹|かゆみ|薬疹|血圧低下|口唇腫脹|膨疹|喉の違和感|発赤|嘔吐",
}  # fmt: skip

# name, actions, template. Weighting by repetition is not needed: writers draw a family first.
_START = """
P {symptom}[持続|増悪|が続く]ため、[採血・X線の上|診察後|相談の上]、{A}を[開始いたしました|処方させていただきました|追加致しました|処方し経過をみております]。
P [他院処方の{class}に加え|食事指導に加え|{fluid}で補液し]、{A}を[開始|追加|処方]。
PS 検査結果を説明、{A.n}[add|追加]、{B.n}[off|中止]
P {A}を[開始|追加|処方|開始した|処方した|追加した|追加処方|処方とした|内服開始|新規に処方|導入|出しておく|開始する|処方する|投与開始|始める|試す]。
P {A}[開始|追加|処方|内服開始|新規|導入|スタート|へ|で|で経過みる|で様子見|start|投与|投与開始|出す]
P {symptom}に対し[て|]{A}を[処方|開始|追加|投与|内服]。
P {symptom}あり、{A}[処方|開始|追加|を追加した|とする|で対応]。
P {D}に対し{A}を開始[|した|する]。
P {D}の診断で{A}[開始|処方|投与開始]。
P {D}→{A}
P {symptom}→{A}
P {symptom}には{A}で対応。
P [本日より|今日から|{day}より|{day}から]{A}を[開始|内服|投与開始|処方開始]。
P まず{A}から[開始|始める|導入]し、漸増していく。
P [少量から開始。|低用量で|]{A.n} {A.d}より開始
PP {A}、{B}を[処方|追加|開始]。
PP {A}と{B}を[処方|開始|追加|出した]。
PP {A}＋{B}で治療開始
PPP {A.n}、{B.n}、{C.n}を[処方|開始|追加]。
PPP {A.n}、{B.n}、{C.n}で対症療法
PP {symptom}に{A}、{symptom}に{B}[を処方|処方|]。
P 対症的に{A}[処方|を出す]、[改善なければ再診|悪化時再診を指示|1週間後再診]。
P {A}のみ[処方|追加]し、他は変更なし
P 本人希望にて{A}処方。
P {A}を{A.u}で[追加|処方]。
P {A.n}を{A.y}[処方|投与|内服してもらう]。
P {A.n}{A.d} {A.u}を{A.y}処方。
P [まず|初期量|]{A.d}で{A.n}を[開始|処方]
PC {A}を追加。{B.n}は[継続|そのまま|do|変更なし|続行]。
PC {B}[継続|do]に加え{A}を追加[|する]。
P [帰宅時に|退院時に|救急外来で|外来で|往診時に]{A}を処方[|し帰宅|し経過観察]。
P {A}を[内服|服用]させ[経過観察|帰宅]。
P [眠剤|降圧薬|抗生剤|鎮痛薬|整腸剤|去痰薬]として{A}を[開始|処方|追加]
P {class}は{A.n}を[選択|使用|開始]した。
P 肝機能に注意しながら{A}を[続け|使っ]ていく方針とし、[本日処方|開始]した。
"""
_KEEP = """
C {A}[は継続|継続|続行|do|はそのまま継続|を継続|内服継続|は変更なし|は従来通り|同量で継続|維持|のまま]。
CC {A.n}、{B.n}は[継続|do|変更なし|そのまま]。
CCC {A.n}、{B.n}、{C.n}[継続|do|は変更せず継続|を内服中|内服中]。
C {A}を[内服中|服用中|内服している|服用している|定期内服中|使用中|継続中]。
C [他院|近医|かかりつけ|前医|当科|循環器科|整形外科|精神科|眼科|皮膚科]より{A}[処方中|が処方されている|を処方されている|内服中]。
CC [近医|かかりつけ医|他科|A病院|内科]で{A}、{B}を[処方されている|内服中|もらっている]。
CC 現在{A}と{B}を[内服中|服用中|併用している|使用している]。
CCC 現在、{A}、{B}、{C}を[処方しております|内服中です|投与中です|服用しております]。
C [もともと|以前より|10年前から|{day}から]{A}を[内服中|服用している|使用している|飲んでいる]。
C 自宅では{A}を[使用中|内服|服用]。
C {A}で[コントロール良好|落ち着いている|安定|疼痛コントロールついている|血圧安定]。[継続する。|このまま継続|続行|同薬続行]
C {A}を飲んで[調子よい|特に問題ない|症状は落ち着いている]。
C {A.n}[効いている|で眠れている|の効果あり]、継続希望。
C [残薬あり。|]{A.n} do
C {D}で{A}[内服中|を服用中|にて加療中|で治療中|にてフォロー中]。
C {D}に対して{A}を[継続|投与中|使用中]。
C 持参の{A}は[継続|続行|引き続き内服]可
CC 継続：{A.n}、{B.n}
C {A.n}は再開せず現量で維持、{A.d}
C {A}継続の上、[塩分制限|運動療法|食事療法|経過観察]を指導。
C 治療は{A}[維持|内服|単剤]で変更しない
C 引き続き{A}の[処方|投与|継続]をお願い[します|いたします|申し上げます]。
"""
_CHANGE = """
X {A.n}のみ{A.d}に[増量|減量]、[他|その他の薬]は[do|変更なし]
X {A.n}（{A.o}）を（{A.d}）に[変更|増量|減量]
X 血圧[高め|低め|安定]のため{A.n} {A.o}→{A.d}へ。{class}は継続。
X {A.n} [増|減]（{A.o}⇒{A.d}）{A.u}
X {day}より{A.n}を{A.d}に[増量|減量]している。
XX {A.n}を{A.d}に減量、{B.n}は[増量|減量]。
X {A.n}[を|は|]{A.o}から{A.d}[へ|に][増量|減量|変更|増やす|減らす|漸減]。
X {A.n}{A.o}→{A.d}
X {A.n} {A.o}→{A.d}[へ増量|へ減量|に増量|に減量|↑|↓|（増量）|（減量）|に変更|]
X {A.n}　{A.o} → {A.d} {A.u}
X {A.n}を{A.d}[に|へ][増量|減量|増やした|減量した|変更|漸減|増量する]。
X {A}[へ増量|に増量|へ減量|に減量|増量|減量]。
X {A.n}増量（{A.o}→{A.d}）
X {A.n}減量（{A.o}→{A.d}）、[次回採血|経過観察|2週後再診]
X {symptom}[続くため|持続し|あり]{A.n}を{A.d}に増量[|した|する]。
X {effect}あり{A.n}を{A.d}へ減量[|した|する]。
X ↑{A.n} {A.d}
X {A.n}↑ {A.o}⇒{A.d}
X {A.n}↓ {A.d}[へ|]
X {A.n} {A.o}から{A.d}に[up|down|アップ|ダウン]
X {A.n}は{A.d} {A.u}に変更
XC {A.n}を{A.d}に[増量|減量]、{B.n}は[継続|変更なし|do]。
S [{effect}のため|効果不十分で|血圧低めのため|腎機能低下あり]{A.n}を[減量の上|]中止。
X {A.n}の[用法|飲み方|服用時間]を{A.u}へ変更。
X {A.n}を[半量|倍量|半錠]に[減量|変更|増量]
"""
_SWITCH = """
SP {A.n}[から|→|⇒| → |を]{B}[へ変更|に変更|へ切り替え|へ切替|に切り替えた]。
SP {A.n}を{B.n}[に変更|へ変更|へ切り替えた|に切替]。
SP {A}→{B}
SP {A.n}[中止し|off|終了し|やめて|を中止し]、{B}[を開始|開始|へ変更|に変更|とする]。
SP {effect}[のため|を認め|あり]{A.n}[中止、|を中止し|を止め]{B}を[開始|処方]。
SP {A.n}では{effect}のため{B}に変更[|した]。
SP {A.n}中止。{B}[開始|へ|追加]。
SP {A.n}は[中止|終了|off]、[代わりに|代替で|かわりに]{B}[処方|開始|を処方]
SP {A.n}を{B}にスイッチ
PS {A}を[開始|追加]。{B.n}は[中止|終了|off]。
"""
_STOP = """
S {A}[中止|を中止|は中止|off|終了|休薬|を休薬|は休薬|stop|は終了|を終了|ストップ|中止とした|を中止した|はいったん中止]。
S {effect}[のため|あり|を認め|が強く|出現し]{A.n}[中止|を中止|は中止|休薬|終了]。
S {A.n}は{stopday}[より|から][休薬|中止|内服中止|止める]。
S {stopday}より{A.n}[休薬|中止|を休薬|を中止|内服中止|スキップ]
SS {A.n}、{B.n}は[中止|休薬|終了|本日で終了|off]。
S {A.n}は[不要|症状改善]のため[終了|中止|処方終了]。
S {A.n}：中止
S {A.n} 中止（{effect}）
S 食止めのため{A.n}は[スキップ|中止|休薬]
S {A.n}は本日をもって終了とする。
S 被疑薬として{A.n}を[中止|休薬]。
S ×{A.n}
SC {A.n}は[休薬|中止]、{B.n}は[継続|当日朝も内服|続行]。
CS {A.n}は[継続|当日朝まで継続]、{B.n}は{stopday}より[休薬|中止]。
"""
_PLAN = """
L 退院後は{A.n}を{A.u}で開始予定
L {next}{A.n} {A.d}[開始の方針|から開始する方針|より導入予定|投与予定]。
PL [本日|今回]{A}を[処方|開始]し、{next}{B.n}を[追加予定|開始予定]。
L {next}{A}を[開始予定|導入予定|開始する予定|追加予定|再開予定|増量予定|処方予定]。
L {next}{A}[開始予定|再開|を再開|開始|追加予定|投与予定]
L [2週間後|1ヶ月後|来月]より{A}を[開始する予定|導入の予定]。
LC {next}{A}を追加予定。{B.n}は継続。
L {A.n}は{next}再開[予定|とする|の方針|]。
L {next}{A.n}を{A.d}に[増量|減量]予定
L {A}：{next}開始予定
L （予定）{A}　{next}
LL {next}{A.n}、{B.n}を[開始予定|再開予定]。
SL {A.n}は{stopday}より休薬。{next}{B.n}を[開始予定|再開予定]
"""
_PAST = """
H [以前|過去に|若い頃|{day}まで|かつて|数年前まで]{A}を[内服していた|使用していた|服用していたが自己中断|処方されていた|内服していたが現在はなし|投与されていた]。
H [昨年の|一昨年の|2022年の|前回の|半年前の|R4年の|入院前の|去年春の]{A.n}は[効果不十分|無効|効果なし|効果乏しかった|著効]。
H {A}を{A.y}[投与し終了|投与した|内服し終了|投与し軽快|で治療し軽快|投与、以後終了]。
H 入院後{A}を[投与|開始し]、[{n}日間で終了|解熱後終了|第7病日に終了|軽快したため終了とした]。
H {A.n} {A.d} {A.u}を{A.y}投与[し軽快|した|し終了]。
HH {A.n}、{B.n}を[使用したが|内服したが|試したが]効果[なし|不十分|乏しく終了]。
HP {A.n}は[以前|過去に]{effect}で中止歴あり、[今回は|]{B}を処方。
H [近医|前医]で{A}を[処方されたが改善せず|{n}日分処方されたが改善なく|もらったが効かず]受診。
H {A}を飲み切ったが[改善せず|症状残る|まだ続く]。
H {D}に対し{A}[で加療し治癒|を{n}日間投与し終了した|投与し改善した|による治療を受け終了]。
H [市販の|]{A}を[{n}回内服したが|昨夜飲んだが|一度飲んだが]改善なし
HH 術中・術後に{A.n}、{B.n}を使用[した|し終了]。
H {A.n}の[服用歴|内服歴|使用歴|投与歴]あり。
H 入院中は{A}を[使用|投与]し、退院前に終了した。
H {A.n}→{effect}で中止[歴|（{day}）]
HH 前治療：{A.n}、{B.n}（いずれも[効果不十分|無効|中止]）
"""
_NURSE = """
P {symptom}訴えあり[、|。|]{A.n}{A.d}[内服|服用|与薬|内服していただく|内服介助]。
P {symptom}[訴え|の訴え]あり、[指示にて|医師指示の|頓用の|Dr指示で|屯用指示の]{A.n}{A.d}[内服|使用|与薬|挿肛|投与|施行]。
P {symptom}[強く|自制外][、|][指示の|]{A}[使用|内服|投与]。[30分後|1時間後|]{symptom}[軽減|NRS 3へ|自制内]。
P {n}:{m} {A.n} {A.d}[内服|使用|与薬|投与|施行]。
P {n}時{m}分 {A.n} {A.d} 内服。{symptom}改善。
P 不眠にて{A.n}{A.d}[内服|与薬]し入眠[される|]。
P {symptom}時指示[の|]{A.n}使用[し|する。][経過観察|様子をみる|]
C 定時の{A.n}[内服|与薬|注射]施行。
C {A.n}{A.d} 定時[投与|皮下注|内服]した。
S 収縮期血圧90台のため{A.n}は[主治医指示でスキップ|指示で中止|休薬]。
C 内服[自己管理中|看護師管理]：{A.n}、飲み忘れなし
P Dr.報告し{A}の[指示あり施行|指示受け|指示で投与]。
"""
_DECOY = """
- {Z}の[追加|開始|導入|変更]は[希望されず|見送り|見合わせた|行わず]。
- {symptom}[あるが|はあるも|軽度で]{class}は[不要|希望せず|使わず様子見|処方せず]。
- [{class}|薬剤]の副作用[なし|は認めず|の説明を行った]。
- {class}と{class}を[内服しているが詳細不明|飲んでいるとのこと|前医より処方]。
- [定期処方|いつもの薬|定期薬]{n}[週間分|日分|ヶ月分][|処方|希望]
- 処方[：|は|]{do}[|。]
- [薬は|処方は|内服は|投薬]前回と同じ[（do）|]
- 前回処方[do|継続|と同じ|のまま]、[{n}日分|35日分|28日分|2ヶ月分]。
- {class}[処方|追加|開始|内服中|希望|希望あり|希望なし|内服なし|中止|を検討|は内服していない|は継続|効果あり|飲んでいる]。
- [定期内服|常用薬|内服薬|持参薬|現在の内服|薬|処方|併用薬][：|:|　|は|]{none}
- 処方[：なし|なし|せず|不要|は希望されず|せず経過観察]
- [他院処方あり|お薬手帳持参|お薬手帳なし|お薬手帳参照|お薬手帳忘れ|薬剤情報提供書あり|詳細不明|薬名不明|薬品名は覚えていない|おくすり手帳確認できず|薬手帳にて確認]
- {fluid}[開始|投与|で点滴|継続|施行|を[|2本]点滴|終了|で補液|にてルート確保|抜針]。
- {fluid} [100mL/h|60ml/hr|80mL/h|持続|全開|×2|1日3本|q12h]
- {other}[施行|済|投与|開始|使用|接種済|接種|予定|希望|なし|継続]。
- {other}
- [脱水に対し|ルート確保し|食止め、|血圧低下に対し]{fluid}[投与|開始|を急速投与|全開投与]。
- 前医で{class}処方[され|されたが]改善なし。
- {class}が[{n}日分|余っている|足りない|残っている|なくなった]とのこと
- 残薬[{n}日分|多数|あり|調整|なし|確認した|調整のため今回は処方なし]
- 湿布[希望|の希望あり|を希望された|希望するも処方せず|は自宅にあり]
- {Z}の希望あるも[腎機能悪く処方せず|併用注意のため処方せず|今回は処方しなかった]。
- {Z}で[胃痛|ふらつき|眠気|空咳|下痢|便秘|嘔気|動悸|口渇|倦怠感|下腿浮腫|筋肉痛|頭痛|めまい|味覚異常][あり|の既往|が出たことがある|のエピソードあり]。
- {Z}による[ふらつき|眠気|空咳|下痢|嘔気|浮腫|倦怠感|徐脈|軟便|口渇|手の震え]の可能性[あり|は低い|も考える]
- {Z}の[説明書|説明|副作用を説明|作用機序|注意点]を[渡した|した|説明]。
- {G}で{reaction}[の既往|歴あり|が出た|あり]。
- {G}禁（{reaction}）
- 薬剤アレルギー：{G}（{reaction}）
- 内服[管理良好|コンプライアンス良好|アドヒアランス不良|忘れなし|忘れ時々あり|できている|自己管理|は妻が管理|困難|確認|指導した]
- [服薬指導|お薬カレンダー使用|一包化希望|一包化|後発品可|ジェネリック希望|薬剤師により服薬指導施行|粉砕指示|処方箋発行|院外処方|院内処方|処方箋 FAX済]
- [以上|上記][{n}日分|28日分|14日分|を処方|、処方しました|継続]
- [その他|他]は[変更なし|do|継続|前回同様]
- [ペニシリン皮内反応|ツベルクリン反応|プリックテスト|負荷試験薬][施行|を実施|予定]
- [点滴|注射|薬|内服]は[したくない|いらないとのこと|嫌がる|飲めている]
- 次回[{n}週間後|4週後|8週後|1ヶ月後]、薬は[{n}|28|56]日分
- {class}は[術前より休薬|術前から中止|不要と説明|様子みて検討|漸減中]
- [痛い時は|眠れない時は|症状があれば]{class}[を使うよう|の内服を]説明
- [自己判断で中止|薬をやめていた|飲み忘れ多い|薬が苦い|薬が多いと訴え|薬は効いている気がする]
- [1日3回|1日1回|朝夕][血圧測定|体温測定|含嗽|創部消毒|体位変換|自宅で体操]
- [飲酒 ビール500mL/日|タバコ20本/日|水分 1500mL/日|塩分 6g/日|食事1600kcal|エネルギー1800kcal、蛋白60g|1日10本|カロリー制限 25kcal/kg]
"""


def _table(text: str) -> list[tuple[str, str]]:
    rows = [line.split(" ", 1) for line in text.strip().splitlines() if line]
    return [(actions, template) for actions, template in rows]


FAMILIES = {
    "start": _table(_START + clauses.START), "keep": _table(_KEEP + clauses.KEEP), "change": _table(_CHANGE + clauses.CHANGE),
    "switch": _table(_SWITCH + clauses.SWITCH), "stop": _table(_STOP + clauses.STOP), "plan": _table(_PLAN + clauses.PLAN),
    "past": _table(_PAST + clauses.PAST), "nurse": _table(_NURSE + clauses.NURSE), "decoy": _table(_DECOY + clauses.DECOY),
}  # fmt: skip
_WORDS |= clauses.WORDS
_NONE = "なし|なし。|(-)|特になし|ない|無し|未確認|不明|（－）|-|なし（本人より）|特記なし|該当なし"
_DO = "do|Do|DO|do処方|前回do|do 28日|do×28日|do（35日分）|前回と同じ|do 2ヶ月|d.o.|ｄｏ|変更なし|不変|前回同様|なし|do 56TD|前回通り35日分"


def thin(rng: random.Random, item: Item) -> Item:
    """The item with less written about it, as in a sentence."""
    keep = rng.random()
    if keep < 0.35:
        item.dose = item.usage = item.days = item.tail = item.site = ""
    elif keep < 0.6:
        item.usage = item.days = item.tail = item.site = ""
    elif keep < 0.75:
        item.days = item.tail = item.site = ""
    elif keep < 0.85:
        item.dose = item.days = item.tail = item.site = ""
    elif keep < 0.92:
        item.usage = item.tail = item.site = ""
    return item


def _quantity(rng: random.Random, template: str, weekly: bool = False) -> tuple[str, str]:
    """An older and a newer quantity of one drug, rising or falling as the template says; `weekly` those of methotrexate."""
    low, high = rng.choice(
        (("4", "6"), ("6", "8"), ("8", "10"), ("10", "12"), ("12", "14"), ("8", "12"), ("12", "16")) if weekly else
        (("2.5", "5"), ("5", "10"), ("10", "20"), ("20", "40"), ("1", "2"), ("2", "3"), ("250", "500"), ("500", "1000"),
         ("25", "50"), ("12.5", "25"), ("40", "80"), ("1.25", "2.5"), ("0.5", "1"), ("50", "75"), ("100", "200"), ("30", "25"),
         ("7.5", "10"), ("60", "30"), ("4", "6"), ("8", "10"), ("15", "12.5"), ("1.5", "1.75"), ("3", "2"), ("750", "1500"))
    )  # fmt: skip
    down = bool(re.search("減|↓|down|ダウン", template)) or (not re.search("増|↑|up|アップ", template) and rng.random() < 0.5)
    if (float(low) < float(high)) is down:
        low, high = high, low
    small = float(low) <= 4 and float(high) <= 4
    unit = "mg/週" if weekly else pick(rng, "錠|T|mg|錠|C|g|包|錠/日") if small else pick(rng, "mg|mg|mg|mg/日|μg|mg/day|単位" if float(low) < 30 else "mg|mg|mg/日|μg")
    return low + (unit if rng.random() < 0.75 else ""), high + unit


def _slots(rng: random.Random, word: str, place: int) -> str:
    text = pick(rng, _WORDS[word])
    return text.replace("{n}", str(rng.randint(1, 12))).replace("{m}", f"{rng.randint(10, 28)}")


def render(rng: random.Random, names: Names, actions: str, template: str) -> tuple[str, list[Fact]]:
    """A template filled in, with its facts in the order of their names."""
    actions, _, own_kind = actions.partition(":")
    while choice := re.search(r"\[([^\[\]]*)\]", template):
        template = template[: choice.start()] + pick(rng, choice[1]) + template[choice.end() :]
    bare = "{A.o}" in template or ("{A.d}" in template and "X" in actions) or "{A.d}に" in template
    items: dict[str, Item] = {}
    older = ""
    facts: list[Fact] = []
    shown: dict[str, Fact] = {}
    text = ""
    kind = own_kind
    if not kind and ("訴え" in template or "指示" in template):
        kind = rng.choice(("oral", "oral", "oral", "as_needed"))
    for at, piece in enumerate(re.split(r"\{([^{}]+)\}", template)):
        if at % 2 == 0:
            # A name that ends in Latin letters stands off the word behind it (add, off, do).
            text += " " + piece if text and re.match("[A-Za-z]", piece) and re.search("[A-Za-z]$", text) else piece
            continue
        letter, _, part = piece.partition(".")
        if letter in "ABC":
            if letter not in items:
                item = draw(rng, names, kind or rng.choice(("", "", "oral", "oral", "short")))
                while any(item.name in other.name or other.name in item.name for other in items.values()):
                    item = draw(rng, names, own_kind)
                if rng.random() < 0.12 and actions[0] in "PH" and not own_kind:
                    item = draw(rng, names, "injection")
                if bare and letter == "A":
                    weekly = own_kind == "dmard" and rng.random() < 0.6
                    name = pick(rng, "MTX|MTX|メトトレキサート|リウマトレックス|メトジェクト") if weekly else item.name
                    item = Item(name if own_kind or rng.random() < 0.2 else medicine(rng, names).name)
                    older, item.dose = _quantity(rng, template, weekly)
                item.dose, item.usage = item.dose or "1錠", item.usage or usage(rng, 1)
                item.days = item.days or pick(rng, "5日間|7日間|3日間|14日間|10日間|5日|7日分|4日間|2週間|1週間")
                items[letter] = item
                shown[letter] = item_fact(_ACTIONS[actions["ABC".index(letter)]], Item(item.name))
                facts.append(shown[letter])
            item, each = items[letter], shown[letter]
            if not part:
                written = thin(rng, Item(**vars(item)))
                if item.as_needed:
                    written.days = ""
                text += compose(rng, written, rng.choice((" ", " ", "", "　", " ", "・")))
                each.fields = item_fact(Action.PRESCRIBE, written).fields
            elif part == "n":
                text += item.name
            elif part == "o":
                text += older
            else:
                key, value = {"d": (Field.DOSE, item.dose), "u": (Field.USAGE, item.usage), "y": (Field.DAYS, item.days)}[part]
                if re.search(r"[0-9A-Za-z]$", text) and re.match(r"[0-9A-Za-z]", value):
                    text += " "
                text += value
                each.fields[key] = value
        elif letter == "D":
            name = names.disease(rng)
            facts.append(Fact(Kind.CONDITION, {Field.NAME: name}))
            text += name
        elif letter == "G":
            name = names.allergen(rng, "medication")
            facts.append(Fact(Kind.ALLERGY, {Field.NAME: name}, category=AllergyCategory.MEDICATION))
            text += name
        elif letter == "Z":
            text += medicine(rng, names).name
        elif letter == "reaction":
            reaction = pick(rng, _WORDS["reaction"])
            facts[-1].fields[Field.REACTION] = reaction
            text += reaction
        elif letter in ("n", "m"):
            text += " " if re.search("[0-9A-Za-z]$", text) else ""
            text += str(rng.randint(1, 12) if letter == "n" else rng.randint(10, 58))
        elif letter in ("none", "do"):
            text += pick(rng, _NONE if letter == "none" else _DO)
        else:
            text += _slots(rng, letter, at)
    facts.sort(key=lambda each: text.find(each.fields[Field.NAME]))
    return text, facts


def sentence(rng: random.Random, names: Names, family: str = "") -> tuple[str, list[Fact]]:
    """A sentence of a family (start, keep, change, switch, stop, plan, past, nurse, decoy), or of any."""
    family = family or rng.choices(tuple(FAMILIES), (22, 16, 18, 9, 11, 10, 11, 6, 27))[0]
    while True:
        text, facts = render(rng, names, *rng.choice(FAMILIES[family]))
        text = text.rstrip("。") if rng.random() < 0.5 else text
        # A piece may not be a piece of another drug's clause: names that hold each other would be read wrongly.
        found = [each.fields[Field.NAME] for each in facts]
        if all(one not in other for one in found for other in found if one is not other):
            return text, facts


def inline(rng: random.Random, names: Names, ctx: Context) -> tuple[str, list[Fact]]:
    """A clause for use inside a sentence (アムロジピン5mgを開始), without a full stop."""
    family = rng.choices(("start", "keep", "change", "switch", "stop", "plan", "past"), (30, 15, 14, 8, 12, 7, 10))[0]
    while True:
        text, facts = sentence(rng, names, family)
        if "。" not in text.rstrip("。") and len(text) < 60:
            line = Line(text.rstrip("。"), facts)
            by_hand(rng, ctx, [line])
            return line.text, line.facts


# -- writers ------------------------------------------------------------------------------------------------------

_PROSE_HEADS = (
    "P)|P：|P:|Plan|【P】|＃P|A/P|【方針】|方針：|【治療方針】|[P]|(P)|P　|＜プラン＞|■方針|【経過】|【入院後経過】|経過：|【現病歴】|〇方針|対応：|【治療】|治療：|Tx)|処方：|Rp)|【投薬】|P/|計画：|【今後の方針】|A＆P)"
)
_NURSE_HEADS = "【看護記録】|S/O)|経過記録|【夜間】|日勤：|深夜帯：|準夜：|O)|【ケア記録】|{n}:{m}|処置・与薬"


def _bullet(rng: random.Random, ctx: Context) -> str:
    return ctx.habit(rng, "prescription_bullet", "・", "- ", "", "", "", "#", "→", "○", "● ", "＊", "◯", "　", "1) ", "⇒", "-")


def _sentences(rng: random.Random, names: Names, ctx: Context, families: list[str], heads: str) -> list[Line]:
    head = pick(rng, heads).replace("{n}", str(rng.randint(1, 23))).replace("{m}", str(rng.randint(10, 59))) if rng.random() < 0.7 else ""
    lines: list[Line] = []
    together = rng.random() < 0.35
    bullet = "" if together else _bullet(rng, ctx)
    body = [sentence(rng, names, family) for family in families]
    if together:
        text = "".join(part.rstrip("。") + "。" for part, _ in body)
        facts = [each for _, found in body for each in found]
        given = [each.fields[Field.NAME] for each in facts]
        if all(one not in other for i, one in enumerate(given) for j, other in enumerate(given) if i != j):
            lines = [Line(text, facts)]
    lines = lines or [Line(bullet.replace("1", str(at)) + part, found) for at, (part, found) in enumerate(body, 1)]
    if head and rng.random() < 0.4:
        lines[0].text = head + rng.choice(("", " ", "　")) + lines[0].text
    elif head:
        lines.insert(0, Line(head))
    return by_hand(rng, ctx, lines)


def plan_prose(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """The plan of a visit: some sentences on drugs, some that hold none."""
    return _sentences(rng, names, ctx, [""] * rng.choice((1, 1, 2, 2, 3, 4, 5)), _PROSE_HEADS)


def course_prose(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """What was given earlier or during the stay."""
    families = rng.choices(("past", "past", "switch", "decoy", "start", "keep", "stop"), k=rng.randint(1, 4))
    return _sentences(rng, names, ctx, families, "【経過】|【入院後経過】|経過：|入院経過|<経過>|■経過|【治療経過】|【現病歴】|治療歴：|【臨床経過】|#経過|現病歴)")


def nursing(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    families = rng.choices(("nurse", "decoy"), (3, 2), k=rng.randint(1, 4))
    return _sentences(rng, names, ctx, families, _NURSE_HEADS)


def stated_nothing(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Talk of drugs without a drug that counts."""
    return _sentences(rng, names, ctx, ["decoy"] * rng.choice((1, 1, 2, 3, 4)), _PROSE_HEADS + "|【内服】|内服薬：|常用薬|【現在の処方】|点滴：|【輸液】|＃処方")
