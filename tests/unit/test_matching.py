"""Known names in a text, and what a name means."""

import json
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.terminology.entries import Entry, LocalEntry, Part, starter_entries, starter_version
from app.terminology.matching import Lexicon, key
from app.terminology.spelling import variant_key
from schemas import systems
from schemas.coding import Coding
from schemas.statement import Kind


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return Lexicon(starter_entries(), starter_version())


def made(*names: tuple[Kind, str], strength: str = "") -> Lexicon:
    return Lexicon([Entry(kind, name, (name,), (), {"strength": strength}) for kind, name in names], "test")


def found(lexicon: Lexicon, text: str) -> list[str]:
    return [text[m.start : m.end] for m in lexicon.find_mentions(text)]


def test_letter_case_tells_an_abbreviation_from_a_unit(lexicon: Lexicon) -> None:
    assert found(lexicon, "Alb 4.0 g/dL") == ["Alb"]
    assert found(lexicon, "既往 DL、HT") == ["DL", "HT"]
    assert found(lexicon, "dl Dl ht") == []


def test_a_symbol_of_one_letter_needs_a_number_behind_it(lexicon: Lexicon) -> None:
    for text in ("K 4.1", "K:4.1", "K：４．１", "K=<2", "K4.1"):
        assert found(lexicon, text) == ["K"], text
    for text in ("K様", "K値は保留", "ビタミンKなし", "K", "P）経過観察", "HK 4"):
        assert "K" not in found(lexicon, text) and "P" not in found(lexicon, text), text


def test_short_kana_and_single_kanji_are_not_seen_inside_words(lexicon: Lexicon) -> None:
    for text in ("いかがですか", "いかなる時も", "卵巣に腫瘤", "麦わら帽子"):
        assert not [m for m in lexicon.find_mentions(text) if m.kind is Kind.ALLERGY], text
    assert lexicon.lookup(Kind.ALLERGY, "卵") is not None


def test_katakana_names_are_not_seen_inside_longer_ones() -> None:
    lexicon = made((Kind.PRESCRIPTION, "メイン"), (Kind.PRESCRIPTION, "アムロジピン"), (Kind.ALLERGY, "エビ"))
    assert found(lexicon, "ドメイン、メインテート、エビデンス") == []
    assert found(lexicon, "メイン、エビ・カニ") == ["メイン", "エビ"]
    # A long name goes on with its salt.
    assert found(lexicon, "アムロジピンベシル酸塩 ベシルアムロジピン") == ["アムロジピン"]


def test_latin_names_are_not_seen_inside_words_or_behind_numbers() -> None:
    lexicon = made((Kind.LAB, "CRP"), (Kind.LAB, "Ca"), (Kind.LAB, "C3"), (Kind.CONDITION, "2型糖尿病"))
    assert found(lexicon, "hsCRP CRPs 5Ca C35 12型糖尿病") == []
    assert found(lexicon, "CRP0.1 Ca9.1 C3 80") == ["CRP", "Ca", "C3"]


def test_a_number_in_a_circle_opens_a_list() -> None:
    lexicon = made((Kind.CONDITION, "HT"), (Kind.CONDITION, "2型糖尿病"))
    assert found(lexicon, "①HT②2型糖尿病 ③HT") == ["HT", "2型糖尿病", "HT"]


def test_full_width_and_half_width(lexicon: Lexicon) -> None:
    assert found(lexicon, "ＨｂＡ１ｃ７．２ ｱﾙｺｰﾙ ＣＲＰ")[0] == "ＨｂＡ１ｃ"
    assert found(lexicon, "ＣＲＰ　０．３") == ["ＣＲＰ"]


def test_the_longest_name_wins(lexicon: Lexicon) -> None:
    assert found(lexicon, "2型糖尿病あり") == ["2型糖尿病"]
    lexicon = made((Kind.CONDITION, "糖尿病"), (Kind.CONDITION, "糖尿病網膜症"), (Kind.CONDITION, "網膜症"))
    assert found(lexicon, "糖尿病網膜症、糖尿病性網膜症") == ["糖尿病網膜症", "糖尿病", "網膜症"]


def test_offsets_are_those_of_the_text_as_it_is(lexicon: Lexicon) -> None:
    text = "\U0001f469\u200d\U0001f467 İ ﾊﾟﾅﾙｼﾞﾝ ㎎ ﬁ CRP 1、高血圧症"
    mentions = lexicon.find_mentions(text)
    assert [(text[m.start : m.end], m.kind) for m in mentions if m.start >= text.index("CRP")] == [
        ("CRP", Kind.LAB),
        ("高血圧症", Kind.CONDITION),
    ]


def test_a_name_of_two_tables_is_marked_as_the_first_kind_and_looked_up_by_each() -> None:
    lexicon = made((Kind.ALLERGY, "ロキソニン"), (Kind.PRESCRIPTION, "ロキソニン"))
    [mention] = lexicon.find_mentions("ロキソニン")
    assert mention.kind is Kind.PRESCRIPTION
    assert lexicon.lookup(Kind.ALLERGY, "ロキソニン") is not None
    assert lexicon.lookup(Kind.LAB, "ロキソニン") is None


def test_lookup_knows_synonyms_and_spellings(lexicon: Lexicon) -> None:
    for name in ("2型糖尿病", "DM2", "Ⅱ型糖尿病", "２型糖尿病", "T2DM", "t2dm"):
        entry = lexicon.lookup(Kind.CONDITION, name)
        assert entry is not None and entry.display == "2型糖尿病", name
        assert ("E119", systems.ICD10) in [(c.code, c.system) for c in entry.codings]
    for name in ("PT-INR", "PT INR", "ＰＴ－ＩＮＲ", "pt‐inr"):
        entry = lexicon.lookup(Kind.LAB, name)
        assert entry is not None and entry.codings[0].system == systems.CORE_LAB, name
    egg = lexicon.lookup(Kind.ALLERGY, "鶏卵")
    assert egg is not None and egg.codings[0].system == systems.JFAGY_FOOD and egg.properties["category"] == "food"
    assert lexicon.lookup(Kind.CONDITION, "そんな病気はない") is None
    assert lexicon.lookup(Kind.CONDITION, "") is None


def test_a_product_is_marked_by_the_name_it_begins_with() -> None:
    coding = Coding(system="urn:yj", code="1", display="アムロジピンOD錠5mg")
    product = Entry(Kind.PRESCRIPTION, coding.display, (coding.display,), (coding,), {"strength": "5mg"})
    drug = Entry(Kind.PRESCRIPTION, "アムロジピン", ("アムロジピン",), (), {"ingredient": "アムロジピン"})
    lexicon = Lexicon([product, drug], "test")
    assert found(lexicon, "アムロジピンOD錠5mg 1錠") == ["アムロジピン"]
    assert lexicon.lookup(Kind.PRESCRIPTION, "アムロジピンＯＤ錠５ｍｇ") is product
    assert lexicon.lookup(Kind.PRESCRIPTION, "アムロジピン") is drug


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("胆のう炎", "胆嚢炎"),
        ("頚椎症", "頸椎症"),
        ("鼡径ヘルニア", "鼠径ヘルニア"),
        ("胃がん", "胃癌"),
        ("胃ガン", "胃癌"),
        ("たんぱく尿", "蛋白尿"),
        ("タンパク尿", "蛋白尿"),
        ("細菌性膣炎", "細菌性腟炎"),
        ("LDLコレステロ-ル", "LDLコレステロール"),
        ("アルツハイマ型認知症", "アルツハイマー型認知症"),
        ("ウィルス性肝炎", "ウイルス性肝炎"),
        ("気管支ぜんそく", "気管支喘息"),
        ("じんましん", "蕁麻疹"),
        ("骨粗しょう症", "骨粗鬆症"),
        ("リュウマチ", "リウマチ"),
        ("II型糖尿病", "２型糖尿病"),
        ("Ⅲ度房室ブロック", "3度房室ブロック"),
        ("Sjögren症候群", "Sjogren症候群"),
        ("肺線維症", "肺繊維症"),
        ("うつ病", "鬱病"),
    ],
)
def test_spellings_of_one_name(one: str, other: str) -> None:
    assert key(one) != key(other)
    assert variant_key(one) == variant_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("1型糖尿病", "2型糖尿病"), ("第1・2度", "第12度"), ("HBs抗原", "HBs抗体"), ("左", "右"), ("IV型", "VI型"), ("DI型", "D1型"), ("腎炎", "腎症")],
)
def test_different_names_stay_apart(one: str, other: str) -> None:
    assert variant_key(one) != variant_key(other)


def test_no_two_starter_concepts_of_a_kind_meet_in_a_spelling(lexicon: Lexicon) -> None:
    holders: dict[tuple[object, str], dict[tuple[object, ...], str]] = defaultdict(dict)
    for entry in starter_entries():
        # Products of several codes under one printed name are many; what they mean is asked elsewhere.
        if entry.packed_codings and entry.kind not in (Kind.PRESCRIPTION, Part.MODIFIER):
            for name in entry.names:
                holders[entry.kind, variant_key(name)][entry.packed_codings[0][:2]] = name
    assert len(holders) > 3500
    assert [names for names in holders.values() if len(names) > 1] == []


def test_a_spelling_that_two_concepts_share_means_neither() -> None:
    codings = [Coding(system="urn:s", code=code, display=code) for code in "ab"]
    oyster, persimmon = (Entry(Kind.CONDITION, n, (n,), (c,)) for n, c in zip(("カキ症", "かき症"), codings, strict=True))
    lexicon = Lexicon([oyster, persimmon], "test")
    assert lexicon.lookup(Kind.CONDITION, "カキ症") is oyster
    assert lexicon.lookup(Kind.CONDITION, "かき症") is persimmon
    assert lexicon.lookup(Kind.CONDITION, "かキ症") is None
    same = [Entry(Kind.CONDITION, "X症", ("X症",), (c,)) for c in codings]
    assert Lexicon(same, "test").lookup(Kind.CONDITION, "X症") is None


def test_the_marks_are_those_that_the_model_was_trained_with(lexicon: Lexicon) -> None:
    expected = json.loads((Path(__file__).parent / "starter_marks.json").read_text())
    samples = sorted((Path(__file__).parents[2] / "samples").glob("*.json"))
    assert len(samples) == len(expected) == 16
    for path in samples:
        text = json.loads(path.read_text(encoding="utf-8"))["text"]
        assert [[m.start, m.end, m.kind] for m in lexicon.find_mentions(text)] == expected[path.name[:2]], path.name


def test_codes_that_the_tables_hold(lexicon: Lexicon) -> None:
    assert lexicon.holds(systems.CORE_LAB, "3A010000002399901")
    assert not lexicon.holds(systems.CORE_LAB, "3A010000002399902") and not lexicon.holds("urn:none", "1")
    assert lexicon.display(systems.CORE_LAB, "3A015000002399901") == "ALB"
    assert lexicon.display(systems.CORE_LAB, "0") is None
    displays = lexicon.lab_displays
    assert displays[systems.INFECTION_LAB, "5F016141002399911"] == "HBs抗原(定性)"
    assert {system for system, _ in displays} == {systems.CORE_LAB, systems.INFECTION_LAB}
    # 43 items have 55 displays, 5 infections 38 (JP-CLINS 1.10.0).
    assert len({shown for (system, _), shown in displays.items() if system == systems.CORE_LAB}) == 55
    assert len(displays) == 55 + 38


def test_departments_and_usages(lexicon: Lexicon) -> None:
    internal = lexicon.department("内科")
    assert internal == Coding(system=systems.DEPARTMENT, code="01", display="内科")
    assert lexicon.department("糖尿病内科") == Coding(system=systems.DEPARTMENT, code="73", display="糖尿病内科")
    assert lexicon.department("そんな科") is None
    usages = lexicon.usage("内服/1日1回/朝食前")
    assert [(coding.system, coding.code) for coding in usages] == [(systems.USAGE, "1011000100000000"), (systems.USAGE_JAMI, "1011000100000000")]
    assert lexicon.usage("") == () and lexicon.usage("内服/いつか") == ()


def test_the_hospitals_own_codes() -> None:
    target = Coding(system=systems.CORE_LAB, code="3A015000002399901", display="ALB")
    rows = [LocalEntry(Kind.LAB, "L01", "ALBU", target), LocalEntry(Kind.LAB, "ALBU", "別の検査"), LocalEntry(Kind.INFECTION, "I1", "ガラス")]
    lexicon = Lexicon([], "test", rows)
    # A name goes before a code.
    assert lexicon.local(Kind.LAB, "ＡＬＢＵ") is rows[0] and lexicon.local(Kind.LAB, "l01") is rows[0]
    assert lexicon.local(Kind.LAB, "別の検査") is rows[1]
    assert lexicon.local(Kind.INFECTION, "ALBU") is None and lexicon.local(Kind.LAB, "L02") is None


def test_candidates_are_the_nearest_names(lexicon: Lexicon) -> None:
    candidates = lexicon.candidates(Kind.CONDITION, "アルツハイマー型認知")
    assert candidates[0].coding.display == "アルツハイマー型認知症"
    assert 0.8 < candidates[0].score < 1 and candidates[0].reason == "trigram"
    assert [c.score for c in candidates] == sorted((c.score for c in candidates), reverse=True)
    assert len({c.coding.display for c in candidates}) == len(candidates) <= 5
    assert lexicon.candidates(Kind.CONDITION, "") == () and lexicon.candidates(Kind.CONDITION, "\U0001f469") == ()
    assert Lexicon([], "empty").candidates(Kind.LAB, "CRP") == ()
    assert lexicon.candidates(Kind.CONDITION, "胃癌", limit=2)[0].score == 1.0


def test_key_folds_what_charts_exchange() -> None:
    assert key("γ-GTP") == key("γＧＴＰ") == key("Γ gtp")
    assert key("ﾊﾟﾅﾙｼﾞﾝ") == key("パナルジン")
    assert key("μg") == key("µg")


_SAMPLES = ["DL", "dL", "K", "4.1", "CRP", "hs", "2型糖尿病", "いか", "エビ", "デンス", "①", "ｱ", "ﾞ", "Ａ", "👨", " ", "、", "アムロジピン"]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.one_of(st.sampled_from(_SAMPLES), st.characters(exclude_categories=("Cs",))), max_size=14))
def test_mentions_are_known_names_in_order(lexicon: Lexicon, parts: list[str]) -> None:
    text = "".join(parts)
    at = 0
    for mention in lexicon.find_mentions(text):
        assert at <= mention.start < mention.end <= len(text)
        assert lexicon.lookup(mention.kind, text[mention.start : mention.end]) is not None
        at = mention.end
