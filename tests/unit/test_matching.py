"""Known names in a text, and what a name means."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.terminology.entries import CORE_LAB, ICD10, JFAGY_FOOD, Entry, starter_entries, starter_version
from app.terminology.matching import Lexicon, key
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
        assert ("E11.9", ICD10) in [(c.code, c.system) for c in entry.codings]
    for name in ("PT-INR", "PT INR", "ＰＴ－ＩＮＲ", "pt‐inr"):
        entry = lexicon.lookup(Kind.LAB, name)
        assert entry is not None and entry.codings[0].system == CORE_LAB, name
    egg = lexicon.lookup(Kind.ALLERGY, "鶏卵")
    assert egg is not None and egg.codings[0].system == JFAGY_FOOD and egg.properties["category"] == "food"
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
