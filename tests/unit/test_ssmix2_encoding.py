"""Bytes of SS-MIX2 messages: what may occur in them, and that nothing readable is lost on the way."""

import re
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.errors import InvalidInput
from app.ssmix2 import decode, encode, fold, parse
from app.ssmix2.encoding import decode_windows
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
@example("ｶ\u3099 ﾞ か\u309a e\u0301\u0301 1\ufe0f\u20e3 \u200d \ufeff㋐ⓐ㎠")
def test_folded_text_is_a_fixed_point(text: str) -> None:
    folded = fold(text)[0]
    assert fold(folded) == (folded, [])


@settings(max_examples=200, deadline=None)
@given(st.lists(CHART_TEXT, min_size=1, max_size=6), st.sampled_from("|^~&\r"))
def test_every_delimiter_stands_in_ascii(texts: list[str], delimiter: str) -> None:
    parts = [escape(fold(text)[0]) for text in texts]
    data = encode(delimiter.join(parts))
    fields, mode, at = [b""], "ascii", 0
    while at < len(data):
        if data[at] == 0x1B:
            step, mode = data[at : at + 3], {b"\x1b$B": "kanji", b"\x1b(B": "ascii"}[data[at : at + 3]]
        else:
            step = data[at : at + (2 if mode == "kanji" else 1)]
        if step == delimiter.encode():
            assert mode == "ascii"
            fields.append(b"")
        else:
            fields[-1] += step
        at += len(step)
    assert mode == "ascii"
    # Each part could stand alone: none begins or ends between escape sequences.
    assert [decode(field) for field in fields] == parts


def cp932_extensions() -> list[tuple[bytes, str]]:
    """(bytes, character) of NEC row 13, NEC-selected IBM (89-92) and IBM (115-119)."""
    found = []
    for row in (13, *range(89, 93), *range(115, 120)):
        for cell in range(1, 95):
            lead = (row - 1) // 2 + (0x81 if row <= 62 else 0xC1)
            trail = cell + 0x9E if row % 2 == 0 else cell + (0x3F if cell < 64 else 0x40)
            try:
                found.append((bytes((row + 0x20, cell + 0x20)), bytes((lead, trail)).decode("cp932")))
            except UnicodeDecodeError:
                continue
    return found


def test_every_extension_of_cp932_is_mapped_or_a_kanji_without_a_variant() -> None:
    extensions = {char for _, char in cp932_extensions()}
    assert len(extensions) == 457
    lost = {char for char in extensions if fold(char)[1]}
    assert {unicodedata.name(char).split()[0] for char in lost} == {"CJK"}
    assert len(lost) == 296
    assert {"彅", "鍈", "璟"} <= lost
    assert all(fold(char)[0] == "■" for char in lost)


@pytest.mark.parametrize(
    "pair",
    "髙高 﨑崎 德徳 濵濱 桒桑 栁柳 靍鶴 閒間 贒賢 悅悦 綠緑 鄕郷 敎教 﨔欅 黑黒 靑青 瀨瀬 增増 寬寛".split(),
)
def test_variants_of_kanji(pair: str) -> None:
    assert fold(pair[0]) == (pair[1], [])
    assert fold(pair[1]) == (pair[1], [])


@pytest.mark.parametrize(
    ("written", "folded"),
    [
        ("㌘ ㍑ ℡ Ⅲ ⅲ ㈱ ㈹ ㍼", "グラム リットル Tel III iii (株) (代) 昭和"),
        ("㎠ ㎣ ㎥ ㎧ ㎍", "cm*2 mm*3 m*3 m/s μg"),
        ("㋐ ⓐ ⓪ ㉑ ❿", "(ア) (a) (0) (21) (10)"),
        ("ｱﾞ ﾞ か\u309a", "ア゛ ゛ か゜"),
        ("ＡＢ￤＇＂", "ＡＢ｜’”"),
        ("1\ufe0f\u20e3", "1"),
        ("\ufeff本\u200b文\u2060", "本文"),
        ("尋常性痤瘡 皮膚瘙痒症", "尋常性ざ瘡 皮膚そう痒症"),
        ("✓ ☑ ☐", "レ [レ] □"),
        ("神\u00a0社 ＨＢｓ－Ａｇ", "神 社 ＨＢｓ−Ａｇ"),
    ],
)
def test_more_of_the_table(written: str, folded: str) -> None:
    assert fold(written) == (folded, [])


@pytest.mark.parametrize("text", ["👨\u200d👩\u200d👧", "\x00", "\x1b", "\x7f", "한", "ا", "\ud800", "か\u0301"])
def test_what_has_no_form_is_a_square(text: str) -> None:
    folded, issues = fold(text)
    assert set(folded) == {"■"}
    assert len(issues) == len(folded)
    assert encode(folded)


def test_windows_characters_in_two_bytes_are_read() -> None:
    in_94_rows = [(code, char) for code, char in cp932_extensions() if code[0] < 0x7F]
    assert len(in_94_rows) == 457
    for code, char in in_94_rows:
        data = b"MSH|" + encode("前") + b"^\x1b$B" + code + b"\x1b(B\r\x1c"
        assert decode_windows(data) == f"MSH|前^{char.replace('￢', '¬')}\r"
        if len(char.encode("cp932")) == 2 and code[0] != 0x2D:
            with pytest.raises(InvalidInput, match="is not ISO-2022-JP"):
                decode(data)
    assert decode_windows(encode("〜−‖—ー急^応".replace("—", "―"))) == "〜−‖―ー急^応"


@pytest.mark.parametrize("data", [b"ab\x1b$B0!", b"ab\x1b$B0", b"\x1b$B"])
def test_a_file_that_ends_inside_kanji_is_refused(data: bytes) -> None:
    for read in (decode, decode_windows):
        with pytest.raises(InvalidInput, match="cut off"):
            read(data)
    for other in (b"\x8a\xbf", b"\x1b(I1\x1b(B"):
        with pytest.raises(InvalidInput):
            decode_windows(other)


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
