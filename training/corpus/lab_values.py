"""Laboratory tests with plausible results, dates as written, decoys: raw material of `lab`, `lab_tables`, `infection`.

Panels are written here, because tests that are ordered together stand together in a note; names outside the panels come
from `Names.analyte`. A `Part` is a piece of text with the facts that it states.
"""

import random
from dataclasses import dataclass
from datetime import date, timedelta

from schemas.statement import Field, Kind
from training.corpus.core import Context, Fact, Line
from training.corpus.names import Analyte, Names

Part = tuple[str, list[Fact]]

# names ; … | units ; … | low | high | decimals     (a test counted in two scales has two rows)
_PANELS = {
    "cbc": """
WBC;WBC;白血球;白血球数;wbc|/μL;/uL;/mm3;/µL;/μl|1800|21000|-2
WBC;WBC|万/μL;万|1.0|3.2|1
WBC;白血球数|×10^3/μL;10^3/μL;x10^3/uL;×10³/μL;K/uL|2|18|1
WBC;WBC|×10^2/μL;10^2/μL;×100/μL|18|210|0
RBC;赤血球;赤血球数|×10^4/μL;万/μL;万;10^4/uL;×10⁴/µL|210|560|0
Hb;Hb;Hgb;ヘモグロビン;ﾍﾓｸﾞﾛﾋﾞﾝ;血色素;血色素量;HGB|g/dL;g/dl;g/㎗|5.8|17|1
Ht;Hct;ヘマトクリット;HCT|%;％|18|50|1
MCV|fL;fl|68|112|1
MCH|pg|20|36|1
MCHC|%;g/dL|28|36|1
Plt;PLT;血小板;血小板数;Plt数|万/μL;×10^4/μL;万;万/μl;x10^4/uL;10^4/μL;万/mm3|1.2|45|1
Plt;PLT|/μL;/uL|12000|410000|-3
Ret;網赤血球;網状赤血球;Retic|‰;%;％|2|40|0
Neut;好中球;Neu;Neutro;Seg|%;％|30|92|1
Lymph;リンパ球;Lym;Ly|%;％|4|55|1
Eos;好酸球;Eo;Eosino|%;％|0|22|1
Mono;単球|%;％|2|12|1
Baso;好塩基球|%|0|2|1
好中球数;ANC|/μL;/uL|120|9800|-1
芽球;Blast|%|0|60|0""",
    "liver": """
TP;総蛋白;総タンパク|g/dL;g/dl|4.8|8.6|1
Alb;ALB;アルブミン;ｱﾙﾌﾞﾐﾝ;血清アルブミン|g/dL;g/dl|1.6|5.1|1
AST;AST;GOT;AST(GOT);ＡＳＴ|U/L;IU/L;U/l|12|420|0
ALT;ALT;GPT;ALT(GPT)|U/L;IU/L;U/l|8|480|0
LDH;LD;LDH|U/L;IU/L|120|980|0
ALP;ALP|U/L;IU/L|38|620|0
γ-GTP;γGTP;γ-GT;GGT;γGT;ガンマGTP|U/L;IU/L|10|520|0
T-Bil;T-bil;T.Bil;総ビリルビン;総ﾋﾞﾘﾙﾋﾞﾝ;TB;T-BIL|mg/dL;mg/dl|0.3|9.8|1
D-Bil;D-bil;直接ビリルビン;DB|mg/dL|0.1|6.5|1
ChE;コリンエステラーゼ|U/L;IU/L|60|420|0
NH3;アンモニア|μg/dL;ug/dL;µg/dL|18|210|0
AMY;Amy;アミラーゼ;S-AMY|U/L;IU/L|35|1400|0
リパーゼ;Lip;LIP|U/L|12|900|0""",
    "renal": """
BUN;UN;尿素窒素;BUN|mg/dL;mg/dl|7|98|0
BUN;UN|mg/dL|7|98|1
Cr;Cre;CRE;クレアチニン;ｸﾚｱﾁﾆﾝ;CREA;Crea;Cr|mg/dL;mg/dl|0.42|8.9|2
eGFR;eGFR;推算GFR;eGFRcreat;GFR|mL/min/1.73m2;mL/分/1.73㎡;ml/min;mL/min/1.73m²|6|98|0
eGFR;eGFR|mL/min/1.73m2;ml/min/1.73m^2|6|98|1
Ccr;CCr;CrCl|mL/min;ml/min|12|120|0
シスタチンC;CysC|mg/L|0.6|4.2|2
UA;尿酸;UA|mg/dL;mg/dl|2.4|11.2|1
Na;Na;ナトリウム;ﾅﾄﾘｳﾑ;血清Na|mEq/L;mmol/L;mEq/l;meq/L|118|150|0
K;K;カリウム;ｶﾘｳﾑ;血清K|mEq/L;mmol/L;mEq/l|2.4|6.9|1
Cl;CL;Cl;クロール|mEq/L;mmol/L|86|114|0
Ca;Ca;カルシウム|mg/dL;mg/dl|6.8|13.4|1
補正Ca|mg/dL|8|13.8|1
IP;P;リン;無機リン;iP|mg/dL|1.8|7.4|1
Mg;マグネシウム|mg/dL;mEq/L|1.2|3.2|1
CK;CPK;CK|U/L;IU/L|32|4800|0
CRP;CRP;CRP|mg/dL;mg/dl;mg/L|0.02|24|2
CRP;CRP;crp|mg/dL;mg/dl|0.1|28|1""",
    "metabolic": """
HbA1c;HbA1c;A1c;HbA1C;HbA1c(NGSP);A1C;ヘモグロビンA1c;Hba1c|%;％|5.2|12.4|1
GA;グリコアルブミン|%|13|38|1
血糖;Glu;BS;GLU;随時血糖;食後血糖;空腹時血糖;FBS;PG;BG;血糖値;FPG|mg/dL;mg/dl|58|420|0
IRI;インスリン|μU/mL;uU/mL|1|40|1
CPR;C-ペプチド;血中CPR;s-CPR|ng/mL|0.2|5.8|2
T-Cho;TC;総コレステロール;T-Chol;T-cho|mg/dL|110|330|0
LDL-C;LDL;LDLコレステロール;LDL-Cho;LDL-c|mg/dL;mg/dl|42|240|0
HDL-C;HDL;HDLコレステロール;HDL-Cho|mg/dL;mg/dl|24|98|0
TG;中性脂肪;トリグリセリド;TG|mg/dL;mg/dl|38|880|0
non-HDL;non-HDL-C|mg/dL|70|260|0""",
    "coag": """
PT-INR;INR;PT-INR;PTINR;PT（INR）||0.9|4.2|2
PT;PT活性;PT%|%;％|18|130|0
PT;PT秒|秒;sec|10|38|1
APTT;APTT|秒;sec;s|23|88|1
Fib;フィブリノゲン;Fbg;フィブリノーゲン|mg/dL|80|720|0
D-dimer;Dダイマー;Dﾀﾞｲﾏｰ;D-ダイマー;Dダイマ;DD;D-D;Ｄダイマー|μg/mL;ug/mL;µg/mL|0.3|38|1
FDP|μg/mL;ug/mL|2|62|1
AT-III;ATⅢ;AT|%|35|120|0
TAT|ng/mL|1|28|1""",
    "cardiac": """
BNP;BNP;脳性Na利尿ペプチド|pg/mL;pg/ml|6|1800|0
BNP|pg/mL;pg/ml|6|980|1
NT-proBNP;NTproBNP;NT-pro BNP|pg/mL;pg/ml|40|9800|0
TnI;トロポニンI;hs-TnI;高感度トロポニンI;hsTnI|ng/mL;pg/mL|0.01|12|3
TnT;トロポニンT;高感度トロポニンT;hs-TnT|ng/mL;ng/ml|0.005|3|3
CK-MB;CKMB|U/L;IU/L|3|220|0
ミオグロビン;Mb|ng/mL|20|900|0""",
    "thyroid": """
TSH;TSH|μIU/mL;uIU/mL;μU/mL;µIU/mL|0.01|62|2
FT4;fT4;Free T4;F-T4;遊離T4|ng/dL;ng/dl|0.3|5.8|2
FT3;fT3;Free T3;F-T3;遊離T3|pg/mL;pg/ml|1.1|14|2
TRAb;TRAb|IU/L|0.3|28|1
抗TPO抗体;TPOAb|IU/mL|3|600|0
抗Tg抗体;TgAb|IU/mL|10|900|0
Tg;サイログロブリン|ng/mL|1|320|1""",
    "immune": """
PCT;プロカルシトニン;ﾌﾟﾛｶﾙｼﾄﾆﾝ|ng/mL|0.02|42|2
IgG;IgG|mg/dL|420|3400|0
IgA;IgA|mg/dL|40|720|0
IgM;IgM|mg/dL|20|480|0
IgE;非特異的IgE;総IgE|IU/mL;U/mL|8|4200|0
IgG4|mg/dL|8|920|0
C3|mg/dL|32|160|0
C4|mg/dL|3|48|0
CH50|U/mL;CH50/mL|8|62|0
RF;リウマトイド因子;RF定量|IU/mL;U/mL|3|420|0
抗CCP抗体;ACPA|U/mL|0.6|320|1
ANA;抗核抗体|倍|40|1280|0
抗ds-DNA抗体;抗dsDNA抗体|IU/mL|2|380|0
MMP-3|ng/mL|20|640|0
PR3-ANCA|U/mL|0.6|80|1
MPO-ANCA|U/mL|0.6|280|1
KL-6;KL-6|U/mL|140|3200|0
SP-D|ng/mL|20|420|1
β-Dグルカン;βDグルカン;β-D-グルカン|pg/mL|3|120|1
sIL-2R;可溶性IL-2R;sIL2R|U/mL|180|6800|0
ESR;赤沈;血沈|mm/h;mm/hr;mm|4|122|0
フェリチン;ﾌｪﾘﾁﾝ;Fer;Ferritin|ng/mL|4|1800|0
Fe;血清鉄|μg/dL;ug/dL|8|220|0
TIBC|μg/dL|180|480|0
UIBC|μg/dL|80|440|0
ハプトグロビン|mg/dL|10|280|0
VitB12;ビタミンB12;V.B12|pg/mL|90|1400|0
葉酸|ng/mL|1.2|22|1
亜鉛;Zn|μg/dL;ug/dL|38|120|0
25-OHビタミンD;25(OH)D|ng/mL|6|42|1
ACTH|pg/mL|2|180|1
コルチゾール;cortisol|μg/dL;ug/dL|1|42|1
PRL|ng/mL|3|180|1
LH|mIU/mL|0.5|60|1
FSH|mIU/mL|1|90|1
E2|pg/mL|8|420|0
テストステロン|ng/mL|0.2|8|2
intact PTH;iPTH;i-PTH|pg/mL|12|680|0
PAC;アルドステロン|pg/mL|10|420|0
レニン活性;PRA|ng/mL/hr|0.1|8|1""",
    "tumor": """
CEA;CEA|ng/mL;ng/ml|0.8|180|1
CA19-9;CA19-9;CA 19-9|U/mL;U/ml|2|4200|1
CA125;CA-125|U/mL|5|1800|1
CA15-3|U/mL|4|180|1
AFP;AFP|ng/mL;ng/ml|1.2|8800|1
PIVKA-II;PIVKA-Ⅱ;PIVKA|mAU/mL|10|9600|0
PSA;PSA|ng/mL;ng/ml|0.01|86|2
SCC;SCC抗原|ng/mL|0.4|22|1
CYFRA;シフラ|ng/mL|0.8|28|1
ProGRP|pg/mL|20|1900|1
NSE|ng/mL|5|120|1
DUPAN-2|U/mL|20|1600|0
Span-1|U/mL|4|320|1
hCG;β-hCG;HCG|mIU/mL;IU/L|1|98000|0""",
    "drug": """
バンコマイシン;VCM;VCM血中濃度;VCMトラフ|μg/mL;ug/mL|4|32|1
テイコプラニン;TEIC|μg/mL|8|42|1
ジゴキシン;ジゴキシン濃度;ジゴキシン血中濃度|ng/mL|0.3|3.2|2
フェニトイン;PHT;フェニトイン濃度|μg/mL|4|34|1
バルプロ酸;VPA;バルプロ酸濃度;VPA血中濃度|μg/mL;ug/mL|18|142|1
カルバマゼピン;CBZ;CBZ血中濃度|μg/mL|2|16|1
テオフィリン;テオフィリン血中濃度|μg/mL|3|28|1
リチウム;Li;血中リチウム;リチウム濃度|mEq/L|0.2|2.4|2
タクロリムス;FK506;タクロリムストラフ;FK|ng/mL|2|18|1
シクロスポリン;CyA;CsA|ng/mL|40|380|0""",
    "gas": """
pH;pH;PH||7.02|7.58|2
pH;pH||7.08|7.56|3
PaCO2;pCO2;PCO2;PaCO₂;CO2|mmHg;Torr;torr|22|88|1
PaO2;pO2;PO2;PaO₂|mmHg;Torr;torr|42|180|1
HCO3;HCO3-;HCO₃⁻;HCO3−|mmol/L;mEq/L|8|38|1
BE;BE;B.E.|mmol/L;mEq/L|-18|9|1
SaO2;SaO₂|%;％|78|100|1
Lac;Lactate;乳酸;乳酸値;LAC|mmol/L;mg/dL|0.6|12|1
AG;アニオンギャップ|mEq/L;mmol/L|8|28|1""",
    "urinequant": """
尿蛋白定量;U-TP|g/gCr;g/day|0.05|8|2
尿Alb/Cr;ACR;尿中アルブミン;尿ACR|mg/gCr;mg/g・Cr|4|1800|0
尿蛋白/Cr;UPCR;尿TP/Cr|g/gCr|0.05|9|2
尿比重;比重||1.003|1.034|3
尿pH||5|8|1
尿浸透圧|mOsm/kg|90|920|0
尿Na|mEq/L|8|160|0
FENa|%|0.1|6|1
NAG|U/L|2|30|1""",
}


@dataclass(frozen=True)
class Result:
    """A result as written, not yet laid out; empty strings where nothing is written."""

    name: str
    value: str
    unit: str = ""
    flag: str = ""


def _parse(table: str) -> list[list[Analyte]]:
    """One list per row; a row's list holds one Analyte for each way of writing its name."""
    found = []
    for row in table.strip().splitlines():
        names, units, low, high, decimals = row.split("|")
        units_of = tuple(u for u in units.split(";") if u)
        found.append(
            [Analyte(n, units_of, float(low), float(high), int(decimals), "quantity") for n in names.split(";")]
        )
    return found


PANELS: dict[str, list[list[Analyte]]] = {key: _parse(table) for key, table in _PANELS.items()}
_COMMON = ("cbc", "cbc", "liver", "renal", "renal", "renal", "metabolic", "coag", "cardiac")


def analyte(rng: random.Random, names: Names, panel: str = "") -> Analyte:
    """A quantity test: of `panel`, or mostly a common one, or a name of the tables."""
    if not panel and rng.random() < 0.4:
        for _ in range(8):
            drawn = names.analyte(rng)
            if drawn.kind == "quantity" and drawn.high > 0:
                return drawn
    return rng.choice(rng.choice(PANELS[panel or rng.choice(_COMMON if rng.random() < 0.75 else tuple(PANELS))]))


def panel(rng: random.Random, names: Names, least: int, most: int, key: str = "") -> list[Analyte]:
    """Tests that stand together, each once, in the panel's order or shuffled."""
    wanted = rng.randint(least, most)
    keys = [key] if key else rng.sample(("cbc", "liver", "renal"), rng.randint(1, 3))
    if not key and rng.random() < 0.45:
        keys.append(rng.choice(tuple(PANELS)))
    rows = [row for k in dict.fromkeys(keys) for row in PANELS[k]]
    kept = sorted(rng.sample(range(len(rows)), min(wanted, len(rows))))
    if rng.random() < 0.2:
        rng.shuffle(kept)
    found = [rng.choice(rows[i]) for i in kept]
    for i in range(len(found)):
        if not key and rng.random() < 0.2:
            found[i] = analyte(rng, names)
    unique: dict[str, Analyte] = {}
    for item in found:
        if all(row_of(item.name) != row_of(other.name) for other in unique.values()):
            unique[item.name] = item
    return list(unique.values())


def row_of(name: str) -> str:
    """The first name of the panel row that `name` stands in: two ways of writing one test have the same."""
    return _ROW.get(name, name)


_ROW = {item.name: row[0].name for rows in PANELS.values() for row in rows for item in row}


def named(rng: random.Random, names: Names, kind: str, otherwise: tuple[str, ...]) -> str:
    """A test of `kind` (urine, posneg): one of `otherwise`, or now and then one of the tables."""
    if rng.random() < 0.35:
        for _ in range(12):
            drawn = names.analyte(rng)
            if drawn.kind == kind:
                return drawn.name
    return rng.choice(otherwise)


def number(rng: random.Random, item: Analyte) -> str:
    """A value of the test: half near the middle of its lower range, the rest anywhere; commas and 万 now and then."""
    low, high = item.low, max(item.high, item.low)
    x = rng.uniform(low, high) if rng.random() < 0.5 else low + (high - low) * rng.random() ** 2.5
    if item.decimals < 0:
        x = round(x, item.decimals if rng.random() < 0.85 else 0)
        text = f"{x:.0f}"
        if x >= 10000 and rng.random() < 0.12:
            ten, rest = divmod(int(x), 10000)
            thousand = rest // 1000
            return f"{ten}万{f'{thousand}千' if thousand else ''}"
    else:
        decimals = item.decimals if rng.random() < 0.9 else max(0, item.decimals - 1)
        text = f"{x:.{decimals}f}"
    if len(text) >= 4 and text.isdigit() and rng.random() < 0.3:
        text = f"{int(text):,}"
    if text.startswith("-") and rng.random() < 0.3:
        text = rng.choice(("−", "－", "▲")) + text[1:]
    elif item.low < 0 and rng.random() < 0.15:
        text = "+" + text
    return text


def compared(rng: random.Random, text: str, share: float = 0.05) -> str:
    """The value with a comparator, in a `share` of the cases."""
    if rng.random() >= share or not text[0].isdigit() or "万" in text:
        return text
    if rng.random() < 0.25:
        return text + rng.choice(("未満", "以下", "以上"))
    return rng.choice(("<", "<", "<", ">", "＜", "＞", "≦", "≧", "≤", "≥", "<=", ">=", "< ", "> ")) + text


def flag(rng: random.Random, share: float = 0.25) -> str:
    if rng.random() >= share:
        return ""
    return rng.choice(("H", "H", "H", "L", "L", "↑", "↑", "↓", "高値", "低値", "高", "低", "HH", "LL", "↑↑", "↓↓"))


def result(rng: random.Random, item: Analyte, flags: float = 0.2) -> Result:
    unit = rng.choice(item.units) if item.units else ""
    return Result(item.name, compared(rng, number(rng, item)), unit, flag(rng, flags))


def lab(r: Result, day: str = "", unit: bool = True, flagged: bool = True) -> Fact:
    """The laboratory fact; `unit`/`flagged` false where the layout does not write them."""
    fields = {Field.NAME: r.name, Field.VALUE: r.value}
    if unit and r.unit:
        fields[Field.UNIT] = r.unit
    if flagged and r.flag:
        fields[Field.FLAG] = r.flag
    if day:
        fields[Field.DATE] = day
    return Fact(Kind.LAB, fields)


def put(*parts: str | Part) -> Line:
    """One line from pieces in reading order."""
    text, facts = "", []
    for part in parts:
        if isinstance(part, str):
            text += part
        else:
            text += part[0]
            facts += part[1]
    return Line(text, facts)


def joined(parts: list[Part], between: str) -> Part:
    return between.join(text for text, _ in parts), [fact for _, facts in parts for fact in facts]


# -- dates --------------------------------------------------------------------------------------------------------

_ERA = 2018  # 令和1年 is 2019 (元号法)
_WHOLE = (
    "{m}/{d}", "{m}/{d}", "{m}/{d}", "{m}/{d}", "{m}月{d}日", "{m}月{d}日", "{m:02}/{d:02}", "{y}/{m}/{d}",
    "{y}/{m:02}/{d:02}", "{y}-{m:02}-{d:02}", "{y}.{m}.{d}", "R{r}.{m}.{d}", "R{r}/{m}/{d}", "令和{r}年{m}月{d}日",
    "{y}年{m}月{d}日", "{s}/{m}/{d}", "'{s}/{m}/{d}", "{m}.{d}", "{m}-{d}", "{s}.{m:02}.{d:02}", "R{r}年{m}月{d}日",
    "{d}日", "H-",
)  # fmt: skip
_MONTH = ("{m}月", "{y}年{m}月", "{y}/{m}", "R{r}.{m}", "令和{r}年{m}月", "{y}-{m:02}", "R{r}年{m}月", "{y}年")


def day_form(rng: random.Random, ctx: Context, month: float = 0.0) -> str:
    """A date pattern: the writer's usual one, or (share `month`) one without a day."""
    if rng.random() < month:
        return rng.choice(_MONTH)
    form = ctx.habit(rng, "date_form", *_WHOLE[:-2]) if rng.random() < 0.8 else rng.choice(_WHOLE[:-2])
    return form if "{" in form else "{m}/{d}"


def written(form: str, day: date) -> str:
    return form.format(y=day.year, s=f"{day.year % 100:02}", r=day.year - _ERA, m=day.month, d=day.day)


def past(rng: random.Random, ctx: Context, today: float = 0.35) -> date:
    """The note's day, or a day before it, mostly within the year."""
    if rng.random() < today:
        return ctx.day
    reach = rng.choice((3, 10, 35, 120, 360, 360 if rng.random() < 0.8 else 1600))
    return max(ctx.day - timedelta(days=rng.randint(1, reach)), date(2019, 5, 1))


def day_text(rng: random.Random, ctx: Context, today: float = 0.35, month: float = 0.08) -> str:
    return written(day_form(rng, ctx, month), past(rng, ctx, today))


# -- decoys and width ---------------------------------------------------------------------------------------------


def decoy(rng: random.Random, ctx: Context) -> str:
    """Numbers near laboratory results that are none: vital signs, scores, imaging, ECG, spirometry, doses, ages."""
    i, f = rng.randint, rng.uniform
    s = rng.choice((" ", "", "：", ":", "　", "="))
    one = (
        lambda: f"BP{s}{i(84, 196)}/{i(44, 110)}{rng.choice(('mmHg', '', ' mmHg', ' HR ' + str(i(44, 140))))}",
        lambda: f"血圧{s}{i(84, 196)}/{i(44, 110)}、脈拍{s}{i(44, 130)}{rng.choice(('回/分', '', '整'))}",
        lambda: f"{rng.choice(('HR', 'PR', 'P', '脈拍'))}{s}{i(44, 140)}{rng.choice(('bpm', '/min', '', '回/分'))}",
        lambda: f"{rng.choice(('BT', 'KT', '体温', 'T'))}{s}{f(35.2, 40.1):.1f}{rng.choice(('℃', '度', '', '°C'))}",
        lambda: (
            f"SpO2{s}{i(82, 100)}{rng.choice(('%', '％', ''))}{rng.choice(('', '(RA)', '（室内気）', ' (O2 2L)', ' (nasal 3L/min)'))}"
        ),
        lambda: f"{rng.choice(('RR', '呼吸数'))}{s}{i(12, 34)}{rng.choice(('', '/min', '回/分'))}",
        lambda: f"{rng.choice(('BW', '体重', 'Bw'))}{s}{f(32, 98):.1f}{rng.choice(('kg', '㎏', ' kg', ''))}",
        lambda: f"{rng.choice(('身長', 'BH', 'Ht'))}{s}{f(142, 185):.1f}cm BMI{s}{f(16, 36):.1f}",
        lambda: f"{rng.choice(('NYHA', 'mMRC', 'Hugh-Jones', 'CCS'))}{s}{rng.choice(('Ⅱ', 'III', '2', 'Ⅲ度'))}",
        lambda: (
            f"{rng.choice(('GCS', 'JCS'))}{s or ' '}{rng.choice(('15', '14(E4V4M6)', 'E3V4M6', 'I-1', '0', 'Ⅱ-10'))}"
        ),
        lambda: (
            f"{rng.choice(('MMSE', 'HDS-R', '長谷川式', 'MoCA-J'))}{s}{i(8, 30)}{rng.choice(('点', '/30', '', '/30点'))}"
        ),
        lambda: (
            f"{rng.choice(('NIHSS', 'CHADS2', 'A-DROP', 'qSOFA', 'RCRI', 'Child-Pugh', 'APGAR', 'ECOG PS', 'NRS'))}{s}{i(0, 9)}{rng.choice(('点', '', '/10'))}"
        ),
        lambda: (
            f"{rng.choice(('EF', 'LVEF', 'EF(Teich)'))}{s}{i(22, 74)}{rng.choice(('%', '％', ''))}、LVDd {i(40, 68)}mm"
        ),
        lambda: (
            f"{rng.choice(('FEV1.0%', 'FEV1', '%VC', '1秒率', 'FVC'))}{s}{f(38, 98):.1f}{rng.choice(('%', '％', ''))}"
        ),
        lambda: f"心電図：{rng.choice(('洞調律', 'sinus', 'af', 'NSR'))} {i(52, 110)}bpm、QTc {i(380, 490)}ms",
        lambda: (
            f"{rng.choice(('胸部Xp', '胸部X線', 'CXR', '胸写'))}{s}CTR {f(42, 66):.1f}%、{rng.choice(('浸潤影なし', 'CPA sharp', '胸水なし'))}"
        ),
        lambda: (
            f"{rng.choice(('CT', '腹部エコー', 'US', '造影CT'))}{s}{rng.choice(('肝S8に', '右下葉に', '膵頭部に', '左腎に'))}{i(6, 48)}mm大の{rng.choice(('結節', '腫瘤', '嚢胞'))}"
        ),
        lambda: f"{rng.choice(('眼圧', 'IOP'))}{s}右{i(9, 28)} 左{i(9, 28)}{rng.choice(('mmHg', ''))}",
        lambda: f"視力 右{f(0.1, 1.2):.1f}(1.2×S-{f(1, 4):.2f}D) 左{f(0.1, 1.2):.1f}",
        lambda: (
            f"{rng.choice(('尿量', 'U.O', 'UV'))}{s}{i(200, 2600)}{rng.choice(('mL/日', 'ml', 'mL'))}、IN {i(800, 2600)}"
        ),
        lambda: f"ABI{s}右{f(0.6, 1.2):.2f} 左{f(0.6, 1.2):.2f}",
        lambda: f"{rng.choice(('食事', '摂取', '食事摂取'))}{s}{i(2, 10)}割",
        lambda: f"{i(22, 94)}歳{rng.choice(('男性', '女性'))}",
        lambda: (
            f"{rng.choice(('フロセミド', 'アムロジピン', 'プレドニゾロン', 'メトホルミン'))}{rng.choice(('5', '10', '20', '250'))}mg{rng.choice(('内服中', '継続', 'へ増量', ''))}"
        ),
        lambda: (
            f"{rng.choice(('O2 ', 'O2：', '酸素', '酸素 '))}{i(1, 8)}L/min{rng.choice(('マスク', '鼻カニュラ', ''))}"
        ),
        lambda: f"YAM{s}{i(52, 98)}%",
        lambda: f"喫煙{s}{i(5, 40)}本/日×{i(5, 45)}年",
    )
    return rng.choice(one)()


NO_RESULT = (
    "{n}は未検", "{n} 未検", "{n}：結果待ち", "{n} 提出中", "{n}は次回採血で確認", "{n}異常なし", "{n}は正常範囲内",
    "{n}は正常化", "{n} n.p.", "{n}、{m}は正常範囲", "{n} 検査予定", "{n}・{m}提出", "{n}は著変なし", "{n}正常",
    "{n}上昇なし", "{n} WNL", "{n} (  )", "{n} --", "{n}測定せず", "{n}は横ばい", "{n}再検予定", "{n} not done",
    "{n}改善傾向", "{n}低下傾向", "{n}：外注中",
)  # fmt: skip

_DIGITS = str.maketrans("0123456789.", "０１２３４５６７８９．")
_WIDE = {c: c + 0xFEE0 for c in range(0x21, 0x7F)}
_BRACKETS = str.maketrans("()", "（）")
_NARROW = str.maketrans("（）：，　", "():, ")


def restyle(rng: random.Random, ctx: Context, lines: list[Line]) -> list[Line]:
    """The block in the writer's character width; text and facts change alike, one character for one."""
    width = ctx.habit(rng, "lab_width", *(["plain"] * 13), "digits", "wide", "brackets", "brackets", "narrow", "narrow")
    if width == "plain":
        return lines
    table = {"digits": _DIGITS, "wide": _WIDE, "brackets": _BRACKETS, "narrow": _NARROW}[width]
    for line in lines:
        line.text = line.text.translate(table)
        for fact in line.facts:
            fact.fields = {key: piece.translate(table) for key, piece in fact.fields.items()}
    return lines
