"""How charts and reviewers name diseases, drugs and acts: from the product's own tables, and the usual short forms by hand."""

# ruff: noqa: E501 (tables of words, one row a line)

import random
import re
import unicodedata
from functools import cache

from app.receipts.tables import UNCODED, Act, DiseaseRow, Drug, Tables, fold
from training.corpus.names import STARTER

ACTS: dict[str, str] = {
    "111000110": "初診", "112007410": "再診", "112011010": "外来管理加算", "113001810": "特定疾患療養管理料|特定疾患の療養指導", "113041810": "生活習慣病管理料|療養計画書",
    "113041910": "生活習慣病管理料|療養計画書", "113002310": "皮膚科特定疾患指導管理料", "113002850": "てんかん指導料", "113008310": "禁煙外来|ニコチン依存症管理", "113005710": "喘息治療管理|ピークフロー指導",
    "130000510": "筋注|皮下注", "130003510": "静注", "130003810": "点滴", "140000610": "創傷処置", "140002210": "湿布処置", "140028810": "紫外線照射|光線療法", "140029610": "消炎鎮痛処置|マッサージ|物理療法",
    "140003810": "喀痰吸引", "160000310": "検尿|尿一般|尿検査", "160004810": "尿アルブミン|尿中アルブミン|尿Alb", "160005010": "尿沈渣", "160006510": "便潜血", "160007110": "CD抗原|CDトキシン",
    "160007610": "血沈|ESR", "160008010": "血算|CBC|末梢血", "160008210": "血液像", "160010010": "HbA1c|ヘモグロビンA1c|A1c", "160012010": "PT-INR|PT", "160012310": "APTT", "160015610": "PIVKA-II",
    "160017010": "T-Bil|総ビリルビン", "160017410": "総蛋白|TP", "160018910": "アルブミン|Alb", "160019010": "BUN|尿素窒素", "160019210": "Cr|クレアチニン", "160019310": "UA|尿酸", "160019410": "血糖|グルコース|BS", "160019510": "LD|LDH",
    "160020010": "ALP", "160020310": "アミラーゼ|AMY", "160020410": "γ-GTP|γGTP", "160020610": "CK|CPK", "160020910": "TG|中性脂肪", "160021110": "Na・Cl|電解質", "160021410": "K|カリウム", "160021510": "Ca|カルシウム", "160022110": "血清鉄|Fe",
    "160022410": "総コレステロール|T-Cho", "160022510": "AST|GOT", "160022610": "ALT|GPT", "160023410": "HDL|HDL-C", "160023610": "TIBC", "160031710": "TSH", "160033210": "FT3", "160033310": "FT4", "160035810": "TRAb",
    "160036510": "CEA", "160036710": "AFP", "160037210": "CA19-9", "160037310": "CA15-3", "160037410": "SCC抗原|SCC", "160037510": "PSA", "160037910": "NSE", "160038010": "CA125", "160044110": "溶連菌迅速|溶連菌検査|溶連菌迅速検査",
    "160044210": "単純ヘルペス抗原|HSV抗原", "160049210": "HBs抗原|HBsAg", "160053510": "サイログロブリン抗体|TgAb", "160054710": "CRP", "160056110": "特異的IgE|アレルギー検査|RAST|MAST", "160058410": "尿培養",
    "160062710": "スパイロ|呼吸機能検査|フローボリューム", "160062610": "肺気量分画", "160068410": "心電図|ECG|12誘導心電図", "160069210": "負荷心電図|トレッドミル", "160069610": "ホルター心電図|ホルター|Holter", "160072210": "腹部エコー|腹部超音波|腹部US",
    "160072510": "心エコー|UCG|心臓超音波|経胸壁心エコー", "160091310": "骨密度|DEXA|骨塩定量|腰椎DXA", "160092310": "鼻咽腔ファイバー|副鼻腔内視鏡", "160092410": "喉頭ファイバー|喉頭内視鏡", "160093810": "胃カメラ|上部消化管内視鏡|GIF|GS|EGD",
    "160094910": "大腸内視鏡|CS|大腸カメラ|TCS", "160095310": "膀胱鏡|膀胱ファイバー", "160095610": "コルポスコピー|コルポ", "160116310": "ANP", "160118510": "HCV抗体", "160119410": "簡易PSG|携帯型睡眠検査|簡易睡眠検査",
    "160157450": "TPO抗体|TPOAb", "160158450": "HCV-RNA", "160158650": "クラミジアPCR", "160162050": "GAD抗体|抗GAD抗体", "160162350": "BNP", "160167250": "LDL|LDL-C", "160168450": "SP-D", "160168550": "KL-6", "160169450": "インフルエンザ迅速|インフル迅速|インフル検査",
    "160170310": "残尿測定|残尿エコー", "160171750": "トロポニンI|トロポニン", "160178810": "終夜SpO2測定|夜間オキシメトリ", "160179610": "ダーモスコピー|ダーモ", "160181150": "抗CCP抗体|CCP抗体", "160181250": "NT-proBNP",
    "160117610": "RS迅速|RSウイルス迅速", "160054610": "CRP定性", "160023710": "UIBC", "170027910": "X-p|レントゲン|X線", "170000410": "X線読影", "170011710": "CT", "170011810": "CT", "170015210": "MRI", "170020110": "MRI", "170026910": "マンモグラフィ|MMG",
    "170015410": "CT・MRI診断", "120002910": "処方箋料", "120001210": "処方料", "120001010": "外用調剤料", "120000710": "内服調剤料", "120001810": "調剤技術基本料", "160095710": "採血", "160061710": "尿検査判断料", "160061810": "血液検査判断料", "160061910": "生化学I判断料",
    "160062010": "生化学II判断料", "160062110": "免疫検査判断料", "160062210": "微生物検査判断料", "112000970": "再診の乳幼児加算", "111000370": "初診の乳幼児加算", "130003670": "静注の乳幼児加算", "160095970": "採血の乳幼児加算", "120002470": "処方箋の乳幼児加算",
    "113002210": "小児科療養指導料", "180016110": "診療情報提供料", "160117510": "HIV抗体", "120003570": "一般名処方加算", "160168950": "PSA F/T比", "180020570": "二十歳未満の精神療法加算", "140028310": "リンパ節穿刺",
}  # fmt: skip
"""Words for acts, the first the usual one; a chart may use any."""

# Short forms that the terminology's tables do not have, by the first seven digits of the drug.
_SHORT = {
    "1149019": "ロキソ|ロキソプロフェン", "1149037": "セレコキシブ|セレコックス", "1147002": "ジクロフェナク", "2171022": "アムロジピン|アムロ", "2329023": "ランソプラゾール|PPI(ランソプラゾール)", "1141001": "アセトアミノフェン|AA|アセト",
    "6241013": "LVFX|レボフロキサシン", "6149004": "AZM|アジスロマイシン", "6131001": "AMPC|アモキシシリン", "2233002": "カルボシステイン", "3999016": "MTX|メトトレキサート", "3332001": "ワルファリン|WF", "3399007": "アスピリン|ASA", "2344009": "酸化Mg|カマ",
    "3962002": "メトホルミン|Met", "4490023": "フェキソフェナジン", "2139005": "フロセミド", "3949003": "フェブキソスタット", "2189015": "アトルバスタチン", "2189017": "ロスバスタチン", "2456002": "PSL",
}  # fmt: skip
_STRENGTH = re.compile(r"(?<![A-Za-z])(\d+(?:\.\d+)?)\s*(mg|μg|µg|g|%|mL|ml|単位)?")
_FORM = re.compile(
    r"(口腔内崩壊錠|OD錠|CR錠|SR錠|SRカプセル|RM錠|RPD錠|XE点眼液|DS|D錠|A錠|配合錠|小児用細粒|細粒小児用|細粒分包|ドライシロップ|カプセル|細粒|錠|シロップ用|シロップ|"
    r"点眼液|点鼻液|軟膏|クリーム|ゲル|テープL?|吸入液|坐剤小児用|坐剤|サポ|散|腟錠|注射液|注|粒状カプセル|徐放).*"
)


@cache
def diseases() -> dict[str, tuple[str, ...]]:
    """Code to names, the master's first."""
    found: dict[str, list[str]] = {}
    for line in (STARTER / "diseases.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        _, _, code, _, synonyms = line.split("\t")
        if code:
            found.setdefault(code, []).extend(word for word in synonyms.split("|") if len(word) > 1)
    names = {}
    for code, row in Tables.starter().diseases.items():
        if code != UNCODED:
            names[code] = tuple(dict.fromkeys([fold(row.name), *found.get(code, ())]))
    return names


@cache
def _ingredients() -> dict[str, tuple[str, ...]]:
    """Brand stem to ingredient and abbreviations."""
    found: dict[str, tuple[str, ...]] = {}
    header, *lines = (STARTER / "drugs.tsv").read_text(encoding="utf-8").splitlines()
    for line in lines:
        row = dict(zip(header.split("\t"), line.split("\t"), strict=True))
        words = (row["ingredient"], *(word for word in row["abbreviations"].split("|") if len(word) > 1))
        for brand in (*row["brands"].split("|"), row["ingredient"], *row["salts"].split("|")):
            found.setdefault(brand, words)
    return found


@cache
def parts(name: str) -> tuple[str, str, str]:
    """Stem, form and strength of a product's name, folded: ノルバスク, 錠, 5mg. A bare number is taken as mg."""
    folded = re.sub(r"「.*?」|\(.*?\)|MT$", "", fold(name)).replace(" ", "")
    strength = ""
    if match := _STRENGTH.search(folded):
        strength = match[1] + (match[2] or "mg")
    stem = re.sub(r"^\d+mg", "", folded)
    stem = _STRENGTH.split(stem)[0]
    form = ""
    if match := _FORM.search(stem):
        form, stem = match[1], stem[: match.start()]
    return stem or folded, form, strength


@cache
def drug_stems(drug: Drug) -> tuple[str, ...]:
    """Names without strength: the brand's, the ingredient's, short forms."""
    stem = parts(drug.name)[0]
    short = [word for word in _SHORT.get(drug.ingredient, "").split("|") if word]
    return tuple(dict.fromkeys([stem, *_ingredients().get(stem, ()), *short]))


@cache
def act_words(act: Act) -> tuple[str, ...]:
    """Words for an act; empty where charts do not speak of it."""
    ours = [word for word in ACTS.get(act.code, "").split("|") if word]
    known = [fold(word) for word in Tables.starter().words.get(act.code, ()) if 1 < len(word) <= 14]
    return tuple(dict.fromkeys([*ours, *known]))


def plain_act(act: Act) -> str:
    """For a comment: the usual word where there is one, else the name."""
    usual = ACTS.get(act.code, "").split("|")[0]
    name = fold(act.name)
    return usual or (name if len(name) <= 24 else (act_words(act) or (name[:24],))[0])


def plain_drug(drug: Drug) -> str:
    return fold(drug.name).replace(" ", "")


def plain_disease(row: DiseaseRow) -> str:
    return fold(row.name)


@cache
def _half() -> dict[int, str]:
    made: dict[int, str] = {}
    for code in range(0xFF66, 0xFF9E):
        kana = unicodedata.normalize("NFKC", chr(code))
        made.setdefault(ord(kana), chr(code))
        for mark in "ﾞﾟ":
            voiced = unicodedata.normalize("NFKC", chr(code) + mark)
            if len(voiced) == 1:
                made[ord(voiced)] = chr(code) + mark
    made[ord("ー")] = "ｰ"
    return made


def half_width(text: str) -> str:
    """Katakana as an old terminal writes it."""
    return text.translate(_half())


def chart_disease(rng: random.Random, row: DiseaseRow) -> str:
    names = diseases().get(row.code) or (fold(row.name),)
    return names[0] if rng.random() < 0.55 else rng.choice(names)


def chart_act(rng: random.Random, act: Act) -> str:
    return rng.choice(act_words(act))
