"""What a written name is coded with, and above all what it is not coded with."""

import csv
import os
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import coding
from app.normalize import expand_name
from app.terminology.candidates import same_thing
from app.terminology.entries import Entry, LocalEntry, Part, starter_entries, starter_version
from app.terminology.matching import Lexicon
from app.terminology.spelling import variant_key
from schemas import systems
from schemas.coding import Coding
from schemas.record import ModifierPosition
from schemas.statement import AllergyCategory, Assertion, Kind


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return Lexicon(starter_entries(), starter_version())


def entry(kind: Kind | Part, name: str, code: str, system: str, *names: str, **facts: str) -> Entry:
    return Entry(kind, name, (name, *names), (Coding(system=system, code=code, display=name),), facts)


def codes(coded: coding.Coded) -> dict[str, str]:
    return {c.system: c.code for c in coded.codings}


# -- diseases -----------------------------------------------------------------------------------------------------------


def test_a_name_is_split_into_base_and_modifiers(lexicon: Lexicon) -> None:
    coded = coding.disease("左乳癌術後", lexicon)
    assert coded.display == "左乳癌術後"
    assert codes(coded) == {systems.RECEIPT_DISEASE: "1749008", systems.ICD10: "Z853"}
    left, after = coded.modifiers
    assert (left.text, left.position) == ("左", ModifierPosition.PREFIX)
    assert {c.system: c.code for c in left.codings} == {systems.MODIFIER_KEY: "27000358", systems.MODIFIER_EXCHANGE: "5186", systems.RECEIPT_MODIFIER: "2049"}
    assert (after.text, after.position) == ("術後", ModifierPosition.POSTFIX)
    assert {c.system: c.code for c in after.codings}[systems.RECEIPT_MODIFIER] == "8048"
    assert {c.display for c in after.codings} == {"の術後"}


@pytest.mark.parametrize(
    ("name", "modifiers"),
    [
        ("右大腿骨転子部骨折", ["右"]),
        ("両側性難聴", ["両側性"]),
        ("慢性膵炎急性増悪", ["急性増悪"]),
        ("胃癌Stage2", ["Stage2"]),
        ("胃癌ステージIV", ["ステージIV"]),
        ("右肺癌術後再発", ["右", "術後再発"]),
        ("うつ病の再発", ["の再発"]),
        ("うつ病再発", ["再発"]),
        ("左の乳がん", ["左"]),
        ("関節リウマチ（再燃）", ["再燃"]),
        ("難治性気管支喘息", ["難治性"]),
    ],
)
def test_modifiers_around_a_known_name(lexicon: Lexicon, name: str, modifiers: list[str]) -> None:
    coded = coding.disease(name, lexicon)
    assert [modifier.text for modifier in coded.modifiers] == modifiers
    assert all(modifier.codings for modifier in coded.modifiers)
    assert systems.RECEIPT_DISEASE in codes(coded) and coded.display == name


@pytest.mark.parametrize("name", ["急性腎不全", "慢性心房細動", "陳旧性脳梗塞", "転移性肺癌", "左心不全", "脳梗塞後遺症", "突発性難聴", "妊娠糖尿病", "偽痛風"])
def test_a_whole_name_beats_its_parts(lexicon: Lexicon, name: str) -> None:
    coded = coding.disease(name, lexicon)
    assert coded.codings and not coded.modifiers and coded.display == name


@pytest.mark.parametrize(
    "name",
    [
        "眼高血圧症",  # not high blood pressure
        "前糖尿病",  # not yet diabetes
        "腎高血圧症",
        "非心筋梗塞",
        "無症候性膵炎",
        "仮性動脈瘤様胃癌",
        "急性心筋梗塞後",
        "慢性腎臓病G3a",
        "胃癌・肝転移",
        "脳梗塞（左片麻痺）",
        "脂質異常症,高血圧",
        "左架空病",
        "左",
        "術後",
        "左術後",
    ],
)
def test_a_base_with_an_unknown_rest_is_not_coded(lexicon: Lexicon, name: str) -> None:
    coded = coding.disease(name, lexicon)
    assert (coded.codings, coded.modifiers, coded.display) == ((), (), name)


def test_an_uncoded_name_shows_what_came_near(lexicon: Lexicon) -> None:
    assert coding.disease("眼高血圧症", lexicon).candidates[0].coding.display == "高血圧症"


def test_a_class_of_icd10_is_that_of_the_whole_name_or_none(lexicon: Lexicon) -> None:
    assert codes(coding.disease("再発性膀胱癌", lexicon)) == {systems.RECEIPT_DISEASE: "1889005"}
    assert systems.ICD10 in codes(coding.disease("右膀胱癌", lexicon))
    # Only the class of the whole name is known: personal history, not a tumour.
    assert codes(coding.disease("乳癌術後", lexicon)) == {systems.RECEIPT_DISEASE: "1749008", systems.ICD10: "Z853"}


@pytest.mark.parametrize("name", ["虫垂炎", "心筋炎", "圧迫骨折", "椎間板ヘルニア", "高脂血症"])
def test_a_synonym_that_has_its_own_code_keeps_it(lexicon: Lexicon, name: str) -> None:
    own = {"虫垂炎": "5419001", "高脂血症": "2724007"}
    coded = coding.disease(name, lexicon)
    assert coded.display == name and systems.RECEIPT_DISEASE in codes(coded)
    assert codes(coded)[systems.RECEIPT_DISEASE] == own.get(name, codes(coded)[systems.RECEIPT_DISEASE])


def test_a_synonym_is_no_base_for_what_narrows_it() -> None:
    entries = [
        entry(Kind.CONDITION, "急性心筋梗塞", "1", systems.RECEIPT_DISEASE, "心筋梗塞", "心梗"),
        entry(Part.MODIFIER, "陳旧性", "5", systems.MODIFIER_KEY, position="prefix", scope="narrower"),
        entry(Part.MODIFIER, "左", "6", systems.MODIFIER_KEY, position="prefix", scope="same"),
    ]
    lexicon = Lexicon(entries, "test")
    assert not coding.disease("陳旧性心筋梗塞", lexicon).codings
    assert coding.disease("左心筋梗塞", lexicon).codings


def test_modifiers_of_the_master_alone_only_complete_a_name_that_needs_one() -> None:
    entries = [
        entry(Kind.CONDITION, "打撲傷", "1", systems.RECEIPT_DISEASE, single_use_forbidden="true"),
        entry(Kind.CONDITION, "高血圧症", "2", systems.RECEIPT_DISEASE),
        entry(Part.MODIFIER, "足関節", "5", systems.MODIFIER_KEY, position="prefix"),
        entry(Part.MODIFIER, "眼", "6", systems.MODIFIER_KEY, position="prefix"),
        entry(Part.MODIFIER, "の疑い", "7", systems.MODIFIER_KEY, position="postfix"),
        entry(Part.MODIFIER, "非", "8", systems.MODIFIER_KEY, position="prefix"),
    ]
    lexicon = Lexicon(entries, "test")
    assert codes(coding.disease("足関節打撲傷", lexicon)) == {systems.RECEIPT_DISEASE: "1"}
    for name in ("打撲傷", "眼高血圧症", "非打撲傷", "打撲傷疑い"):
        assert not coding.disease(name, lexicon).codings, name
    suspected = coding.disease("高血圧症の疑い", lexicon)
    assert (codes(suspected), suspected.modifiers, suspected.assertion) == ({systems.RECEIPT_DISEASE: "2"}, (), Assertion.SUSPECTED)


# -- likeness -----------------------------------------------------------------------------------------------------------


def test_a_misspelled_name_is_coded_only_where_nothing_else_is_near() -> None:
    near = entry(Kind.CONDITION, "アルツハイマー型認知症", "1", systems.RECEIPT_DISEASE)
    lexicon = Lexicon([near], "test")
    written = "アルツハイマー型の認知症"
    assert codes(coding.disease(written, lexicon, 0.6)) == {systems.RECEIPT_DISEASE: "1"}
    assert not coding.disease(written, lexicon, 0.95).codings
    rival = entry(Kind.CONDITION, "アルツハイマー型性認知症", "2", systems.RECEIPT_DISEASE)
    assert not coding.disease(written, Lexicon([near, rival], "test"), 0.6).codings


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("右大腿骨頸部内側骨折", "左大腿骨頸部内側骨折"),
        ("慢性化膿性中耳炎穿孔型", "急性化膿性中耳炎穿孔型"),
        ("高カリウム血性周期性四肢麻痺", "低カリウム血性周期性四肢麻痺"),
        ("アデノウイルス41型胃腸炎", "アデノウイルス40型胃腸炎"),
        ("HBs抗原精密測定検査", "HBs抗体精密測定検査"),
        ("非アルコール性脂肪性肝疾患", "アルコール性脂肪性肝疾患"),
        ("ビタミンB1欠乏性神経障害", "ビタミンB6欠乏性神経障害"),
        ("家族性地中海熱関連腎炎", "家族性地中海熱関連腎症"),
        ("上腕骨近位端開放性骨折", "上腕骨遠位端開放性骨折"),
        ("先天性心疾患術後", "後天性心疾患術後"),
        ("マイコプラズマ", "マイコバクテリウム"),
        ("リウマチ性多発筋炎", "リウマチ性多発筋痛"),
    ],
)
def test_what_differs_in_meaning_is_never_taken_for_the_same(written: str, name: str) -> None:
    assert not same_thing(variant_key(written), variant_key(name))
    for one, other in ((written, name), (name, written)):
        lexicon = Lexicon([entry(Kind.CONDITION, other, "1", systems.RECEIPT_DISEASE)], "test")
        coded = coding.disease(one, lexicon, 0.0)
        assert not coded.codings and coded.candidates


@pytest.mark.parametrize(
    ("written", "name"),
    [("アレルギー鼻炎", "アレルギー性鼻炎"), ("多発筋痛症", "多発筋痛"), ("エリテマトデースス", "エリテマトデス"), ("クラミジヤ感染症", "クラミジア感染症")],
)
def test_differences_of_spelling(written: str, name: str) -> None:
    one, other = variant_key(written), variant_key(name)
    long_word = "クラミジ" not in written
    assert same_thing(one, other) is long_word


# -- tests --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["血清Na", "Na", "Na(血清)", "血清Cre"])
def test_the_material_of_the_code_may_be_written(lexicon: Lexicon, name: str) -> None:
    assert systems.CORE_LAB in codes(coding.test(Kind.LAB, name, lexicon))


@pytest.mark.parametrize("name", ["尿Na", "尿中Na", "Na(尿)", "動脈血Na", "髄液Na", "血漿Na", "尿Cre", "髄液蛋白", "胸水LD", "HBc抗体", "便CRP"])
def test_another_material_or_test_is_not_coded(lexicon: Lexicon, name: str) -> None:
    for kind in (Kind.LAB, Kind.INFECTION):
        assert not coding.test(kind, name, lexicon, 0.3).codings


def test_the_hospitals_own_code_comes_first(lexicon: Lexicon) -> None:
    mapped = Coding(system=systems.CORE_LAB, code="3A015000002399901", display="アルブミン")
    rows = [
        LocalEntry(Kind.LAB, "L0012", "アルブミン", mapped),
        LocalEntry(Kind.LAB, "L0099", "院内検査甲"),
        LocalEntry(Kind.CONDITION, "D1", "当院の病名", Coding(system=systems.RECEIPT_DISEASE, code="5849003", display="急性腎不全")),
    ]
    own = Lexicon(starter_entries(), "test", rows)
    coded = coding.test(Kind.LAB, "ｱﾙﾌﾞﾐﾝ", own)
    # The display is the table's: another one would match no slice of the profile.
    assert coded.codings == (Coding(system=systems.CORE_LAB, code="3A015000002399901", display="ALB"),)
    assert coded.local == Coding(system=systems.LOCAL_LAB, code="L0012", display="アルブミン")
    assert coded.entry is not None and coded.entry.fact("kind") == "quantity"
    coded = coding.test(Kind.LAB, "L0099", own)
    assert not coded.codings and coded.local == Coding(system=systems.LOCAL_LAB, code="L0099", display="院内検査甲")
    assert codes(coding.disease("当院の病名", own)) == {systems.RECEIPT_DISEASE: "5849003"}
    assert coding.test(Kind.LAB, "アルブミン", lexicon).local is None


# -- drugs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("ノルバスク錠5mg", "2171022F2025"),
        ("ﾉﾙﾊﾞｽｸ錠５㎎", "2171022F2025"),
        ("ロキソニン錠60mg", "1149019F1560"),
        ("ロキソニン錠(60)", "1149019F1560"),
        ("セルシン錠5mg", "1124017F4049"),
        ("メトグルコ錠0.25g", "3962002F2027"),
        ("エクメット配合錠HD", "3969104F2025"),
        ("エクメット錠HD", "3969104F2025"),
        ("ランタス注ソロスター", "2492416G2024"),
        ("モーラステープL40mg", "2649729S3084"),
        ("フルタイド50ディスカス", "2290700G4025"),
    ],
)
def test_a_product_that_fits_all_that_is_written(lexicon: Lexicon, name: str, code: str) -> None:
    assert codes(coding.drug(name, lexicon)) == {systems.YJ: code}


@pytest.mark.parametrize(
    "name",
    [
        "ロキソニン",
        "ロキソニン(60)",  # the tables of the first run know no injection of that name, but it may exist
        "ノルバスク5mg",
        "ノルバスク錠7mg",
        "ノルバデックス錠5mg",
        "ノルバスクカプセル5mg",
        "エクメット配合錠",
        "モーラステープ40mg",
        "ワーファリン",
        "ワーファリン錠1mg",
        "アムロジピンOD錠5mg",
        "アムロジピンOD錠5mg「サワイ」",
        "メトホルミン塩酸塩錠500mgMT",
        "アスピリン",
        "ノルバスク錠5mg「架空」",
        "ラシックス20mg",
        "",
        "5mg",
    ],
)
def test_a_drug_that_several_products_or_none_fit_is_not_coded(lexicon: Lexicon, name: str) -> None:
    assert not coding.drug(name, lexicon).codings


def test_candidates_of_a_drug_say_why(lexicon: Lexicon) -> None:
    found = coding.drug("ノルバスク5mg", lexicon).candidates
    assert {(c.coding.display, c.reason) for c in found} == {
        ("ノルバスク錠5mg", "several products fit"),
        ("ノルバスクOD錠5mg", "several products fit"),
    }
    assert {c.reason for c in coding.drug("アムロジピンOD錠5mg", lexicon).candidates} == {"same ingredient, several products"}


def _drugs(*more: Entry) -> Lexicon:
    ingredient = Entry(
        Kind.PRESCRIPTION, "アムロジピン", ("アムロジピン", "アムロジピンベシル酸塩", "ノルバスク"), (), {"ingredient": "アムロジピン", "brands": "ノルバスク"}
    )
    facts = {"ingredient": "アムロジピン"}
    products = [
        entry(Kind.PRESCRIPTION, "アムロジピン錠5mg「サワイ」", "2171022F2165", systems.YJ, **facts),
        entry(Kind.PRESCRIPTION, "アムロジピン錠5mg「トーワ」", "2171022F2211", systems.YJ, **facts),
        entry(Kind.PRESCRIPTION, "アムロジピンOD錠5mg「サワイ」", "2171022F4109", systems.YJ, **facts),
        entry(Kind.PRESCRIPTION, "ノルバスク錠5mg", "2171022F2025", systems.YJ, **facts),
    ]
    return Lexicon([ingredient, *products, *more], "test")


def test_a_makers_product_needs_its_maker() -> None:
    lexicon = _drugs()
    assert codes(coding.drug("アムロジピン錠5mg「サワイ」", lexicon)) == {systems.YJ: "2171022F2165"}
    assert codes(coding.drug("アムロジピンOD錠5mg「サワイ」", lexicon)) == {systems.YJ: "2171022F4109"}
    assert codes(coding.drug("アムロジピンOD5「サワイ」", lexicon)) == {systems.YJ: "2171022F4109"}
    for name in ("アムロジピンOD錠5mg", "アムロジピン5mg「サワイ」", "アムロジピン錠5mg「ニプロ」", "アムロジピン錠10mg「サワイ」"):
        assert not coding.drug(name, lexicon).codings, name
    # A list of YJ codes has every product of a brand.
    assert codes(coding.drug("ノルバスク", lexicon)) == {systems.YJ: "2171022F2025"}


def test_a_general_name_where_its_table_is_loaded() -> None:
    general = [
        entry(Kind.PRESCRIPTION, "【般】アムロジピン錠５ｍｇ", "2171022F2ZZZ", systems.GENERAL_NAME, "アムロジピン錠5mg"),
        entry(Kind.PRESCRIPTION, "【般】アムロジピン口腔内崩壊錠５ｍｇ", "2171022F4ZZZ", systems.GENERAL_NAME),
    ]
    lexicon = _drugs(*general)
    for name, code in (("アムロジピンOD錠5mg", "2171022F4ZZZ"), ("アムロジピンベシル酸塩錠5mg", "2171022F2ZZZ"), ("【般】アムロジピン錠5mg", "2171022F2ZZZ")):
        assert codes(coding.drug(name, lexicon)) == {systems.GENERAL_NAME: code}, name
    for name in ("アムロジピン", "アムロジピン5mg", "アムロジピン錠10mg", "アムロジピン錠5mg「ニプロ」"):
        assert not coding.drug(name, lexicon).codings, name
    assert codes(coding.drug("ノルバスク錠5mg", lexicon)) == {systems.YJ: "2171022F2025"}


# -- allergens ----------------------------------------------------------------------------------------------------------


def test_a_drug_as_an_allergen() -> None:
    lexicon = _drugs(
        Entry(Kind.PRESCRIPTION, "ポビドンヨード", ("ポビドンヨード", "イソジン"), (), {"ingredient": "ポビドンヨード", "brands": "イソジン"}),
        entry(Kind.PRESCRIPTION, "イソジンガーグル液7%", "2260701F1309", systems.YJ, ingredient="ポビドンヨード"),
        entry(Kind.PRESCRIPTION, "ポビドンヨードガーグル7%「明治」", "2260701F1317", systems.YJ, ingredient="ポビドンヨード"),
    )
    coded = coding.allergen("ノルバスク錠5mg", lexicon)
    assert coded.codings == (Coding(system=systems.JFAGY_PRODUCT, code="YCM2171022F2025", display="ノルバスク錠5mg"),)
    assert coded.category is AllergyCategory.MEDICATION
    coded = coding.allergen("ポビドンヨード", lexicon)
    assert coded.codings == (Coding(system=systems.JFAGY_INGREDIENT, code="GCM2260701F1ZZZ", display="【成分名】ポビドンヨード"),)
    for one in (*coding.allergen("ノルバスク錠5mg", lexicon).codings, *coded.codings):
        assert lexicon.display(one.system, one.code) == one.display
    assert not lexicon.holds(systems.JFAGY_PRODUCT, "YCM9999999F9999") and not lexicon.holds(systems.JFAGY_INGREDIENT, "GCM9999999F9ZZZ")
    # Tablets and orally disintegrating tablets have different nine characters.
    coded = coding.allergen("アムロジピン", lexicon)
    assert not coded.codings and {c.coding.system for c in coded.candidates} == {systems.JFAGY_PRODUCT}


@pytest.mark.parametrize("name", ["なし", "ナシ", "ﾅｼ", "特になし", "不明", "(-)", "NKDA", "ペニシリン系", "セフェム", "イソジン", "アスピリン"])
def test_a_denial_a_group_or_a_name_of_several_products_is_no_allergen_code(lexicon: Lexicon, name: str) -> None:
    assert not coding.allergen(expand_name(name), lexicon).codings


def test_allergens_are_never_coded_by_likeness(lexicon: Lexicon) -> None:
    coded = coding.allergen("落花生油脂", lexicon)
    assert not coded.codings
    assert coding.allergen("そばアレルギー", lexicon).codings


# -- any text -------------------------------------------------------------------------------------------------------------

_PIECES = ["左", "右", "の", "術後", "再発", "胃癌", "疑い", "(", "）", "ノルバスク", "OD", "錠", "5mg", "「サワイ」"]
_PIECES += ["尿", "Na", "なし", "ー", "1", "\ud800", "👨"]


@settings(deadline=None, max_examples=80)
@given(st.lists(st.one_of(st.sampled_from(_PIECES), st.text(max_size=3)), max_size=12).map("".join))
def test_every_code_is_one_that_the_tables_hold(lexicon: Lexicon, name: str) -> None:
    found = [
        coding.disease(name, lexicon, 0.5),
        coding.drug(name, lexicon),
        coding.test(Kind.LAB, name, lexicon, 0.5),
        coding.test(Kind.INFECTION, name, lexicon, 0.5),
    ]
    for coded in found:
        given_codes = [*coded.codings, *(c for modifier in coded.modifiers for c in modifier.codings)]
        for one in (*given_codes, *(candidate.coding for candidate in coded.candidates)):
            assert lexicon.display(one.system, one.code) is not None
        assert all(0 <= candidate.score <= 1 for candidate in coded.candidates)
    for one in coding.allergen(name, lexicon).codings:
        assert lexicon.holds(one.system, one.code)


# -- the publishers' own tables -------------------------------------------------------------------------------------------

_STANDARDS = Path(os.environ.get("HYOJUN_STANDARDS") or Path(__file__).parents[2].parent / "shared" / "standards")
_DISEASES = _STANDARDS / "fhir/packages/terminology/receipt_disease_masterB_20241230.tsv"


@pytest.mark.official
@pytest.mark.skipif(not _DISEASES.is_file(), reason="the receipt disease master is not here")
def test_no_disease_of_the_master_is_taken_for_another() -> None:
    """Every name of the master, asked while its own entry is away, must not be coded as any other disease."""
    with _DISEASES.open(encoding="utf-8", newline="") as file:
        table = csv.DictReader(file, delimiter="\t")
        rows = [(row["code"], row["display"]) for row in table if row["code"] != "0000999"]
    entries = [entry(Kind.CONDITION, name, code, systems.RECEIPT_DISEASE) for code, name in rows]
    lexicon = Lexicon(entries, "test")
    assert len(entries) > 27_000
    by_variant: dict[str, set[str]] = {}
    for code, name in rows:
        by_variant.setdefault(variant_key(name), set()).add(code)
    # The master has 非がん性慢性疼痛 and 非癌性慢性疼痛.
    assert [codes for codes in by_variant.values() if len(codes) > 1] == [{"8851164", "8851165"}]
    wrong = []
    for code, name in rows[::3]:
        near = [one for one in lexicon.near(Kind.CONDITION, name, 15) if one.entry.code(systems.RECEIPT_DISEASE) != code]
        if near and near[0].score >= coding.MIN_SCORE and same_thing(variant_key(name), variant_key(near[0].name)):
            wrong.append((name, near[0].name))
    assert [pair for pair in wrong if "慢性疼痛" not in pair[0]] == []


def test_general_laboratory_codes_need_no_core_name(lexicon: Lexicon) -> None:
    assert {c.system for e in lexicon.entries(Kind.LAB) for c in e.codings} <= {systems.CORE_LAB, systems.JLAC10}
    assert {c.system for e in lexicon.entries(Kind.INFECTION) for c in e.codings} == {systems.INFECTION_LAB}


# -- what must not be coded, or not for long --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["高血圧-", "高血圧ー", "高血圧（-）", "高血圧なし", "高血圧の既往なし", "高血圧は無し"])
def test_a_sign_or_word_that_denies_is_no_diagnosis(lexicon: Lexicon, name: str) -> None:
    coded = coding.disease(expand_name(name), lexicon)
    assert systems.RECEIPT_DISEASE in codes(coded) and coded.assertion is Assertion.ABSENT


def test_an_abbreviation_of_several_diseases_offers_them(lexicon: Lexicon) -> None:
    coded = coding.disease("ASD", lexicon)
    assert (coded.display, coded.codings) == ("ASD", ())
    assert [c.coding.display for c in coded.candidates] == ["心房中隔欠損症", "自閉症スペクトラム障害"]
    assert {c.reason for c in coded.candidates} == {"several meanings"}
    assert [c.coding.display for c in coding.test(Kind.INFECTION, "B型肝炎抗体", lexicon).candidates] == ["HBs抗体(定性)"]
    # They are marked in notes as before.
    assert [m.kind for m in lexicon.find_mentions("既往 ASD")] == [Kind.CONDITION]


def test_drugs_that_only_look_alike_are_not_offered(lexicon: Lexicon) -> None:
    shown = [c.coding.display for c in coding.drug("バファリン", lexicon).candidates]
    assert not any("ワーファリン" in name for name in shown)
    assert not coding.drug("アルマール錠10mg", lexicon).candidates
    assert any("アムロジン" in c.coding.display for c in coding.drug("アムロジビン錠5mg", lexicon).candidates)


def test_a_class_is_not_shown_by_the_name_of_one_of_its_diseases() -> None:
    own = [LocalEntry(Kind.CONDITION, "D9", "当院の心不全", Coding(system=systems.ICD10, code="I509", display="心不全，詳細不明"))]
    [coded] = coding.disease("当院の心不全", Lexicon(starter_entries(), "test", own)).codings
    assert coded.display == "心不全，詳細不明"


def test_classes_are_written_without_a_dot(lexicon: Lexicon) -> None:
    classes = [c.code for entry in lexicon.entries(Kind.CONDITION) for c in entry.codings if c.system == systems.ICD10]
    assert len(classes) > 1300
    assert [code for code in classes if not re.fullmatch(r"[A-Z]\d{2}\d?", code)] == []


def test_a_name_of_many_modifiers_is_read_in_time(lexicon: Lexicon) -> None:
    started = time.perf_counter()
    for name in ("左右" * 25 + "架胃癌", "胃癌" + "再発の再発" * 11 + "架"):
        assert not coding.disease(name, lexicon).codings
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize("written", ["２．肝硬変", "#3.便秘症", "①高血圧症", "4)痛風"])
def test_a_number_that_counts_diseases_is_no_part_of_the_name(lexicon: Lexicon, written: str) -> None:
    coded = coding.disease(expand_name(written), lexicon)
    assert coded.codings
    assert not re.search(r"[0-9#①]", coded.display)


def test_a_number_inside_a_name_stays(lexicon: Lexicon) -> None:
    assert coding.disease("1.5型糖尿病", lexicon).display == "1.5型糖尿病"


def test_a_name_without_code_is_shown_with_what_the_table_calls_it(lexicon: Lexicon) -> None:
    assert coding.drug("PSL", lexicon).display == "PSL（プレドニゾロン）"
    assert coding.drug("プレドニゾロン", lexicon).display == "プレドニゾロン"
    assert coding.test(Kind.LAB, "PCT", lexicon).display == "PCT（プロカルシトニン）"
    assert coding.test(Kind.LAB, "HbA1c", lexicon).display == "HbA1c"
    assert coding.allergen("抗生剤", lexicon).display == "抗生剤（抗菌薬）"
    assert coding.allergen("名前のない薬", lexicon).display == "名前のない薬"


def test_a_salt_may_be_written_by_its_metal(lexicon: Lexicon) -> None:
    short, long = (lexicon.drugs.read(f"クエン酸第一鉄{metal}錠50mg") for metal in ("Na", "ナトリウム"))
    assert short == long
    assert short.ingredient == "クエン酸第一鉄ナトリウム"
    assert coding.drug("クエン酸第一鉄Na錠50mg", lexicon).display == "クエン酸第一鉄Na錠50mg（クエン酸第一鉄ナトリウム）"
    assert lexicon.drugs.read("ビタミンK1").ingredient == "フィトナジオン"
