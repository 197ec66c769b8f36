"""Numbers that are no laboratory results: scores and indices, scintigraphy, echocardiography, measures of the body, vital
signs; and names of tests without a result, in reasons and plans. Alone, and in one line with results.
"""

# ruff: noqa: E501 (tables of words, one row a line)

import random

from training.corpus.core import Context, Line
from training.corpus.lab_lines import laid_out, slash_run
from training.corpus.lab_values import Part, analyte, joined, number, panel, put, restyle, result
from training.corpus.names import Names
from training.corpus.phrasing import expand

# Frames of `phrasing.expand`.
_SCORES = """
DAS28-CRP {1.2-6.4}
DAS28-ESR {1.8-6.8}（[寛解|LDA|中等度活動性|高疾患活動性]）
DAS28(CRP) {1.4-5.9}、[SDAI|CDAI] {2.0-32.0}
TJC[ |]{0-14} SJC[ |]{0-12}
TJC/SJC {0-9}/{0-8}
腫脹関節数 {0-10}、圧痛関節数 {0-12}
[患者|医師]VAS {4-88}[mm|/100|]
pt VAS {10-80}、Dr VAS {5-60}
PtGA {10-80} PhGA {5-60}
HAQ-DI {0.0-2.5}
BASDAI {1.0-7.8}
ASDAS-CRP {1.0-4.2}
BASFI {0.5-6.5}
PASI {1.2-24.8}
PASI {2.0-22.0}→{0.2-4.0}
BSA {2-45}%
DLQI {0-22}
EASI {2.0-38.0}、POEM {2-24}
IGA {1-4}
NAPSI {2-40}
UAS7 {0-36}
Wells score {0.0-8.5}[点|]
Wells {1-7}点（[DVT|PE]）
修正Genevaスコア {2-12}点
RCRI {0-4}点
RCRI [class |]{1-4}
ASA-PS {1-4}
ASA [class |][2|3|II|III]
アプガー[スコア|] {6-9}/{7-10}[点|]
Apgar [score |]{5-9}/{8-10}
Ap {7-9}/{8-10}
Centor {0-4}点
Centor score（修正） {1-5}点
A-DROP {0-5}[点|]
CURB-65 {0-5}点
PSI class [II|III|IV|V]
CHADS2 [score |]{0-6}[点|]
CHA2DS2-VASc {0-8}点、HAS-BLED {0-5}点
GRACE {72-220}[点|]
TIMI score {0-6}
Killip [I|II|III|IV]
MELD {6-32}
MELD-Na {8-34}点
FIB-4 [index |]{0.62-6.80}
FIB4 index {0.80-5.40}
NAFLD fibrosis score {0.10-2.80}
APRI {0.20-3.80}
Child-Pugh [A|B|C]（{5-12}点）
ALBI grade [1|2a|2b|3]
mALBI {1-3}
SOFA {0-14}点
qSOFA {0-3}点
APACHE II {6-34}
SIRS {1-4}項目
NEWS[2|] {0-12}
MEWS {0-6}
JCS [0|1|I-2|II-10|III-100]
GCS {3-15}（E{1-4}V{1-5}M{1-6}）
NIHSS {0-28}[点|]
mRS {0-5}
BI {0-100}点
Barthel Index {5-100}[点|/100]
FIM {24-126}（運動{13-91}、認知{5-35}）
MMSE {8-30}[/30|点|]
HDS-R {6-30}点
MoCA-J {10-30}
FAB {4-18}/18
CDR {0.5-3.0}
GDS-15 {0-14}
PHQ-9 {0-26}点、GAD-7 {0-20}点
HAM-D {4-32}
BPRS {22-80}
YMRS {0-38}
MDS-UPDRS part III {6-62}[点|]
UPDRS {8-70}
Hoehn-Yahr [2|3|4|2.5]
ALSFRS-R {14-48}
EDSS {0.0-7.5}
MG-ADL {0-16}、QMG {2-28}
ODSS {0-9}
IPSS {2-34}、QOLスコア {1-6}
OABSS {1-14}点
IIEF-5 {3-24}
CAT {2-36}点
mMRC {0-4}
ACT {8-25}点
ACQ {0.2-3.8}
FACES {0-5}
NRS {0-10}[/10|]
NRS {4-9}→{0-4}
RASS {0-3}
CAM-ICU 陰性
SCORAD {12-68}
mTSS {2-80}
BVAS {0-28}
SLEDAI[-2K|] {0-22}
Mayo score {0-12}（部分{0-9}）
CDAI {60-380}
UCEIS {0-8}
Harvey-Bradshaw {0-14}
Glasgow-Blatchford {0-16}点
Rockall {0-9}点
AIMS65 {0-4}
Ranson {0-7}
急性膵炎予後因子 {0-6}点、CT grade {1-3}
Alvarado {2-10}点
AIR score {2-10}
Bishop {2-11}点
Downes {0-8}点
Silverman {0-7}
PRISM {2-20}
PELOD {2-20}
PS {0-4}
ECOG-PS {0-4}
KPS {40-100}%
G8 {8-17}点
CFS {1-8}
MNA-SF {4-14}
GNRI {72.0-110.0}
PNI {30.0-55.0}
CONUT {0-11}
FOIS {1-7}
藤島Gr.{2-9}
DSR [2|3|4]
EAT-10 {0-28}
MWST {1-5}、RSST {0-5}回
OHAT {0-12}
Braden scale {8-22}点
DESIGN-R {4-38}[点|]
DESIGN-R2020 d2-e1s6i0g0n0p0：{6-24}点
OH scale {0-9}
Caprini {1-12}
Padua {1-9}
STOP-Bang {2-8}
AHI {4.0-68.0}[/h|回/h|]
ESS {2-22}
3%ODI {6.0-48.0}
Gleason [3+3|3+4|4+4]（GS {6-9}）
PI-RADS {2-5}
BI-RADS {1-5}
K-L grade {1-4}
JOA {6-17}/17
ODI {8-62}%
HHS {34-92}
Lysholm {48-98}
CGA7 {2-7}
VES-13 {0-9}
ISS {4-42}、RTS 7.84
AIS {1-5}
TRISS 0.9{1-9}
FRAX {4-38}%
吹田スコア {30-68}点
久山町スコア {4-19}点
HIT 4Ts {1-7}点
ISTH DIC score {0-7}
急性期DICスコア {0-8}[点|]
PLASMIC {2-7}点
H score {80-260}
TNM T{1-4}N{0-2}M0
"""
_MEASURES = """
MIBG H/M [早期|]{1.2-2.9}[、後期{1.1-2.8}|]
MIBG心筋シンチ：H/M比 早期{1.4-2.8} 後期{1.2-2.7}、WR {12-68}%
DATスキャン SBR [右|]{1.2-7.5}[ 左{1.2-7.5}|]
DATスキャン：SBR {2.0-6.8}/{2.0-6.8}
甲状腺シンチ 摂取率{1.0-68.0}%
骨シンチ BSI {0.1-4.8}%
LVEF {22-72}%
EF {24-74}[%|％]、LAD {32-56}mm
AVA {0.5-1.8}[cm2|cm²]、peak PG {12-110}mmHg
AS Vmax {1.8-5.6}m/s mean PG {12-68}mmHg
E/e' {6.0-24.0}
TRPG {18-62}mmHg、IVC {8-24}mm
GLS -{9.0-22.0}%
RVSP {24-80}mmHg
%VC {48-118}、FEV1.0% {38-88}
FEV1 {0.7-3.4}L（{38-108}%）
%DLCO {28-98}%
FeNO {8-120}[ppb|]
PEF {180-520}[L/min|]
6MWT {180-520}m
6MWD {140-520}m、最低SpO2 {82-95}%
ABI 右{0.5-1.2}/左{0.5-1.2}
CAVI {6.0-12.0}
baPWV {1280-2400}
IMT max {0.8-3.4}mm
YAM {48-98}%（腰椎）
BMD {0.480-1.120}g/cm2、Tスコア -{0.5-4.2}
BT {35.4-39.8}
BT {35.6-38.8}℃ P {52-120} BP {bp}
体温{36.1-38.6}、SpO2 {88-99}%
BH {142.0-182.0}cm BW {38.0-92.0}kg BMI {16.0-34.0}
出生体重 {1480-4020}g
[在胎|] {28-41}週{0-6}日、{1480-3980}g、[頭位経腟分娩|帝王切開]
身長 {48.0-110.0}cm、体重 {3.0-22.0}kg、頭囲 {33.0-50.0}cm
EFW {480-3200}g（{0.1-1.8}SD）
BPD {22-96}mm FL {12-70}mm AC {180-340}mm
AFI {4.2-22.0}
頸管長 {8-45}mm
子宮底長 {18-36}cm、腹囲 {78-102}cm、FHR {118-164}bpm
NT {1.0-3.8}mm
眼圧 {10-28}/{10-28}mmHg
RV=({0.1-1.0}) LV=({0.1-1.0})
MD -{1.0-22.0}dB
黄斑厚 {220-520}μm
聴力 右{10-78}dB 左{10-78}dB
語音明瞭度 {30-100}%
握力 右{8-42}kg/左{8-42}kg
下腿周囲長 {26.0-38.0}cm
SMI {4.2-8.6}
歩行速度 {0.4-1.3}m/s、TUG {8-32}秒
HR {48-128}、RR {12-30}、SpO2 {86-99}%（[RA|O2 2L]）
UO {20-120}mL/h、IN/OUT {1200-2800}/{900-2600}
CTR {42-66}%
ECG：HR {48-110}、QTc {380-498}ms
SUVmax {2.1-18.6}
CAC {0-1200}（Agatston）
shear wave {4.0-22.0}kPa、CAP {180-360}dB/m
FibroScan {3.2-32.0}kPa
RI {0.50-0.98}
Ki-67 {4-72}%
ER {60-100}%、PgR {10-90}%、HER2 [0|1+|2+]
PD-L1 TPS {0-90}%
胃亜全摘標本 断端陰性 ly{0-2} v{0-2}
MSLT 平均{2-14}分
IADL {0-8}/8
腹囲 {68-112}cm
CVP {4-18}cmH2O
PAWP {8-30}、CI {1.6-3.8}
出血量 {5-1800}mL、手術時間 {38-420}分
OGTTは未施行、家庭血圧 {bp}
"""


def _split(table: str) -> tuple[str, ...]:
    return tuple(line for line in table.strip().splitlines() if line)


_ROWS = _split(_SCORES) * 2 + _split(_MEASURES)

# {n} {m} names of tests, {v} a number: a test named in a reason, a plan, a target, an instruction.
_REASONS = (
    "{n}上昇のため減量", "{n}高値のため中止", "{n}高値のため食事指導", "{n}低下のため輸血", "{n}上昇に伴い休薬", "{n}上昇したため一旦中止とした", "{n}高値につき生野菜・果物を控えるよう説明", "{n}上昇あり造影は見合わせ",
    "{n}低値のため延期", "{n}の上昇を認めたため前医に照会", "{n}、{m}の上昇で紹介", "{n}の改善に乏しく", "{n}上昇傾向が続くため次回も採血", "{n}が上がれば増量を検討", "{n} {v}以上で減量", "{n}が{v}を下回れば輸血", "目標{n} {v}以下",
    "次回{n}・{m}採血", "{n}の推移をみながら調整", "{n}再検のうえ判断", "2週後に{n}、{m}確認", "{n}次第で再開可", "{n}フォローしながら継続", "{n}正常化後に再開予定", "{n}<{v}を維持する", "{n}を{v}未満にしましょうと説明",
    "{n}のデータは持参なし", "{n}は結果未着", "{n}の結果は郵送", "{n}検査の意義を説明", "{n}は保険上月1回", "前回{n}高値", "{n}異常を指摘され来院", "{n}が高いと言われている", "{n}（外注）結果は後日", "本日{n}、{m}提出し帰宅",
    "{n}高値の精査", "健診で{n}異常（数値不明）", "{n}高めだが数値は聞き取れず", "{n}上昇は筋トレの影響か", "{n}は下がってきているとのこと", "{n}は問題なしと言われている", "{n}改善傾向につき抗菌薬終了", "{n}陰転化を確認して退院",
    "尿定量は次回", "{n}≧{v}で受診勧奨", "{n}の基準値は{v}以下", "{n}測定キット配布", "採血項目：{n}、{m}、血算", "{n}低下速度は年{v}", "{n}倍増", "{n}は前値の2倍", "{n}もflat", "{n}はほぼ正常", "{n}のみ軽度上昇", "K制限、{n}に注意",
)  # fmt: skip


def score(rng: random.Random, ctx: Context) -> str:
    return expand(rng, rng.choice(_ROWS), ctx)


def reason(rng: random.Random, names: Names) -> str:
    """A test's name in a reason or a plan, without a result."""
    first, second = analyte(rng, names), analyte(rng, names)
    return rng.choice(_REASONS).format(n=first.name, m=second.name, v=number(rng, first))


_SEPARATORS = ("、", "、", " ", "　", ", ", "。", " / ", "，")


def scores(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Only scores, measures and reasons: no result at all."""
    lines = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        parts = [score(rng, ctx) if rng.random() < 0.75 else reason(rng, names) for _ in range(rng.choice((1, 2, 2, 3, 4)))]
        lines.append(Line(rng.choice(("", "", "・", "O) ", "# ", "A) ", "評価：", "スコア：", "疾患活動性：")) + rng.choice(_SEPARATORS).join(parts)))
    return restyle(rng, ctx, lines)


def beside_scores(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Results and numbers that are none in one line or one bracket, in any order."""
    lines = []
    for _ in range(rng.choice((1, 1, 2))):
        parts: list[Part] = [laid_out(rng, ctx, result(rng, item, 0.12)) for item in panel(rng, names, 1, 4)]
        if rng.random() < 0.15:
            parts.append(slash_run(rng, ctx))
        held = {fact.fields[key] for _, facts in parts for fact in facts for key in list(fact.fields)[:1]}
        others: list[Part] = [(score(rng, ctx), []) for _ in range(rng.choice((1, 1, 2, 3)))]
        if rng.random() < 0.2:
            others.append((reason(rng, names), []))
        # A test that a score or a reason names may not be read for the result beside it.
        others = [part for part in others if not any(name in part[0] for name in held)]
        roll = rng.random()
        if roll < 0.3:
            parts = others + parts
        elif roll < 0.55:
            parts = parts + others
        else:
            for part in others:
                parts.insert(rng.randint(0, len(parts)), part)
        body = joined(parts, rng.choice(_SEPARATORS))
        if rng.random() < 0.12:
            body = (rng.choice(("効果不十分（{}）", "疾患活動性は中等度（{}）", "現在の評価（{}）", "本日：{}", "寛解維持（{}）")).format(body[0]), body[1])
        lines.append(put(rng.choice(("", "", "", "O) ", "O：", "・", "所見：", "客観 ", "V/S ")), body))
    return restyle(rng, ctx, lines)


__all__ = ["beside_scores", "reason", "score", "scores"]
