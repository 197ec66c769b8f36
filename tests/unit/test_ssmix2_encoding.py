"""Bytes of SS-MIX2 messages: what may occur in them, and that nothing readable is lost on the way."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.errors import InvalidInput
from app.ssmix2 import decode, encode, fold, parse
from app.ssmix2.hl7 import CR, escape, render, segment, unescape

ALLOWED = re.compile(rb"(?:[\x20-\x7e\x0d]|\x1b\$B(?:[\x21-\x7e]{2})+\x1b\(B)*")
CHART_TEXT = st.text(
    st.one_of(
        st.characters(codec="utf-8"),
        st.characters(min_codepoint=0x20, max_codepoint=0x7E),
        st.characters(min_codepoint=0x3000, max_codepoint=0x30FF),
        st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF),
        st.characters(min_codepoint=0xFF00, max_codepoint=0xFFEF),
        st.sampled_from("①⑳ⅢⅳⅫ㎎㎡㈱℡～－∥¥‾髙﨑μµ½³⁻\u3099\u309a\r\n\t\\|^&~"),
    ),
    max_size=60,
)


@settings(max_examples=400, deadline=None)
@given(CHART_TEXT)
@example("ｱﾚﾙｷﾞｰ ￥1,000 ‾¥\\ 10³/µL")
def test_folded_text_survives_its_bytes(text: str) -> None:
    folded, issues = fold(text)
    data = encode(folded)
    assert ALLOWED.fullmatch(data)
    assert b"\x1b(J" not in data
    assert decode(data) == folded
    assert folded.count("■") == text.count("■") + len(issues)


@settings(max_examples=400, deadline=None)
@given(CHART_TEXT)
def test_escaped_text_survives_a_message(text: str) -> None:
    folded = fold(text)[0]
    message = "MSH|^~\\&|A" + CR + segment("ZZZ", {1: "x", 3: f"a^{escape(folded)}&b~{escape(folded)}", 4: "y"}) + CR
    line = parse(decode(encode(message)))[1]
    assert line.get(3, component=2) == folded
    assert line.get(3, component=2, subcomponent=2) == "b"
    assert line.get(3, repetition=2) == folded
    assert render(parse(message)) == message


@pytest.mark.parametrize(
    ("written", "folded"),
    [
        # NHO cp932_JIS_convart.md
        ("①②⑩⑳", "(1)(2)(10)(20)"),
        ("Ⅰ型 Ⅲ度 Ⅹ ⅳ", "I型 III度 X iv"),
        ("㎎ ㎏ ㏄ ㎜ ㎡", "mg kg cc mm m*2"),
        ("㌔ ㍉ ㌫ ㍻", "キロ ミリ パーセント 平成"),
        ("㈱ ㈲ ㊤ ㊨ № ℡", "(株) (有) (上) (右) No. Tel"),
        ("〝引用〟", "″引用、"),
        # half-width kana, with voice marks in place
        ("ｱﾚﾙｷﾞｰ･ﾊﾟﾙｽ", "アレルギー・パルス"),
        ("か\u3099ん", "がん"),
        # one character of JIS X 0208 under two code points
        ("１〜２～３－４∥", "１〜２〜３−４‖"),
        ("¥ ‾ ￠￡￢ — µ", "￥ ￣ ¢£¬ ― μ"),
        ("≤5 ≥3", "≦5 ≧3"),
        # names and diseases
        ("髙橋 﨑山 𠮷田 德田", "高橋 崎山 吉田 徳田"),
        ("神田 塚本 葛\U000e0100城", "神田 塚本 葛城"),
        ("Ménière病", "Meniere病"),
        # a number must stay the number it was
        ("10³/µL", "10*3/μL"),
        ("10⁻³", "10*−3"),
        ("1½錠", "1(1/2)錠"),
        ("1行目\r\n2行目\n3行目", "1行目\r2行目\r3行目"),
        ("全角　空白\t区切り", "全角　空白 区切り"),
    ],
)
def test_table(written: str, folded: str) -> None:
    assert fold(written) == (folded, [])


def test_gaiji_becomes_a_square_with_its_position_and_without_its_text() -> None:
    folded, issues = fold("患者 彅 と 😀")
    assert folded == "患者 ■ と ■"
    assert [issue.text.split(" has")[0] for issue in issues] == ["character 3", "character 7"]
    assert not any("彅" in issue.text or "😀" in issue.text for issue in issues)
    assert all(issue.start is None for issue in issues)


def test_positions_are_those_of_the_text_given() -> None:
    assert [i.text.split(" has")[0] for i in fold("ｶﾞﾊﾟ\r\n彅")[1]] == ["character 6"]


def test_kanji_whose_bytes_are_delimiters() -> None:
    # 糖尿病 holds |, 急 and 緯 ^, 応 and 京 ~, 宮 and 移 \, 愛 and 右 & in their second bytes.
    text = "糖尿病|急緯^応京~宮移\\愛右&"
    data = encode(escape(text))
    inside_kanji = b"".join(re.findall(rb"\x1b\$B(.*?)\x1b\(B", data))
    assert all(delimiter in inside_kanji for delimiter in b"|^~\\&")
    assert unescape(decode(data)) == text


def test_ascii_again_before_every_delimiter_and_segment_end() -> None:
    data = encode("PRB|急^応~右&宮\r")
    assert data == b"PRB|\x1b$B5^\x1b(B^\x1b$B1~\x1b(B~\x1b$B1&\x1b(B&\x1b$B5\\\x1b(B\r"


@pytest.mark.parametrize("text", ["①", "～", "¥", "ｱ", "髙", "\n", "\t", "\x1b$B", "é"])
def test_encode_refuses_what_was_not_folded(text: str) -> None:
    with pytest.raises(InvalidInput, match="character 2 of 3"):
        encode(f"ab{text[0]}")


def test_decode_takes_an_end_of_message_mark_and_refuses_other_bytes() -> None:
    assert decode("OBX|1\r".encode("ascii") + b"\x1c") == "OBX|1\r"
    with pytest.raises(InvalidInput, match="byte 2 of 4"):
        decode(b"ab\x8a\xbf")


@pytest.mark.parametrize(
    ("text", "escaped"),
    [("a|b", "a\\F\\b"), ("^", "\\S\\"), ("&", "\\T\\"), ("~", "\\R\\"), ("\\", "\\E\\"), ("1\r2", "1\\.br\\2")],
)
def test_escapes(text: str, escaped: str) -> None:
    assert escape(text) == escaped
    assert unescape(escaped) == text


def test_unknown_escape_is_kept() -> None:
    assert unescape("\\H\\強調\\N\\") == "\\H\\強調\\N\\"
