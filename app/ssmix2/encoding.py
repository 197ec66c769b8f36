"""Bytes of a standardized-storage message: ISO-2022-JP with ASCII and JIS X 0208 only.

Source: SS-MIX2 標準化ストレージ 1.2 (character sets ISO IR-6 and ISO IR-87; nothing else may occur), and NHO
SSMIX2_support_documents `cp932_JIS_convart.md` (環境依存文字 変換テーブル) for characters of Windows alone.
"""

import re
import unicodedata
from functools import lru_cache

from app.errors import InvalidInput
from schemas.issue import Issue, IssueType, Severity

GETA = "■"
"""What stands for a character that JIS X 0208 does not have (SS-MIX2: gaiji become ■)."""

# Source: NHO cp932_JIS_convart.md, where its answer differs from Unicode's compatibility decomposition.
_WINDOWS = {
    "〝": "″",
    "〟": "、",
    "㎡": "m*2",
    "㎥": "m*3",
    "№": "No.",
    "㏍": "K.K.",
    "℡": "Tel",
    "∮": "Φ",
    "∑": "Σ",
    "∟": "└",
    "⊿": "Δ",
}
# One character of JIS X 0208 that Unicode has twice: Windows' choice to the codec's (JIS X 0221) choice.
_TWINS = {
    "～": "〜",
    "－": "−",
    "∥": "‖",
    "￠": "¢",
    "￡": "£",
    "￢": "¬",
    "—": "―",
    "⁓": "〜",
    "µ": "μ",
    "¥": "￥",  # the codec would emit ESC ( J for these two, which SS-MIX2 forbids
    "‾": "￣",
}
# Nearest sign; keeps a comparator or a bullet readable where ■ would lose it.
_SIGNS = {
    "≤": "≦",
    "≥": "≧",
    "⩽": "≦",
    "⩾": "≧",
    "–": "-",
    "‑": "‐",
    "‒": "-",
    "·": "・",
    "•": "・",
    "⁄": "/",
    "✕": "×",
    "✖": "×",
    "➡": "→",
    "⬅": "←",
    "⬆": "↑",
    "⬇": "↓",
    "®": "(R)",
    "©": "(C)",
    "\u00c5": "\u212b",  # Å: JIS X 0208 has it as the ångström sign
    "\t": " ",
}
# Variant kanji that names and diseases use, to the form of JIS X 0208 (JIS X 0213 拡張新字体 and 人名用異体字).
_KANJI = dict(
    zip(
        "髙﨑濵德栁槗𠮷桒瀨增寬淸靑曻昻黑黃卽凞頰剝塡𠮟搔囊蟬瘦噓醬麴鷗俠蠟繫蔣簞瘦屛幷摑啞嚙鹼軀焰萊禱瀆顚俱橫晚緖賴郞",
        "高崎浜徳柳橋吉桑瀬増寛清青昇昂黒黄即煕頬剥填叱掻嚢蝉痩嘘醤麹鴎侠蝋繋蒋箪痩屏并掴唖噛鹸躯焔莱祷涜顛倶横晩緒頼郎",
        strict=True,
    )
)
_BLACK_CIRCLED = {chr(0x2776 + n): f"({n + 1})" for n in range(10)}
_TABLE = _BLACK_CIRCLED | _WINDOWS | _TWINS | _SIGNS | _KANJI

# Lines end with CR inside a text, as HL7 has it; `hl7.escape` turns that into \.br\ or a blank.
_LINE_BREAK = re.compile("\r\n|[\n\x0b\x0c\x85\u2028\u2029]")
# Characters without a shape: variation selectors, zero-width signs, direction marks, soft hyphen.
_SHAPELESS = re.compile("[\u00ad\u180e\u200b-\u200f\u2060-\u2064\u202a-\u202e\ufe00-\ufe0f\ufeff\U000e0100-\U000e01ef]")
# What must be read together: half-width kana with their voice marks, a run of superscripts, a letter with its marks.
_CLUSTER = re.compile(
    "[\uff61-\uff9f]+|[\u00b2\u00b3\u00b9\u2070-\u207b]+|.[\u0300-\u036f\u3099\u309a]*[\ufe00-\ufe0f\U000e0100-\U000e01ef]?",
    re.DOTALL,
)
_SUPERSCRIPT = re.compile("[\u00b2\u00b3\u00b9\u2070-\u207b]")
_CIRCLED = re.compile("[\u2460-\u2473\u3251-\u325f\u3280-\u32bf]")
_ALLOWED = re.compile(rb"(?:[\x20-\x7e\r]|\x1b\$B(?:[\x21-\x7e]{2})+\x1b\(B)*")


@lru_cache(maxsize=8192)
def _has_code(char: str) -> bool:
    if char.isascii():
        return " " <= char <= "~" or char == "\r"
    try:
        code = char.encode("iso2022_jp")
    except UnicodeEncodeError:
        return False
    return code.startswith(b"\x1b$B") and code.decode("iso2022_jp") == char


def _known(text: str) -> bool:
    return bool(text) and all(map(_has_code, text))


def _fold_cluster(cluster: str) -> str | None:
    """The cluster in ASCII and JIS X 0208, or None."""
    shaped = _SHAPELESS.sub("", cluster)
    if not shaped:
        return ""
    for text in (shaped, unicodedata.normalize("NFC", shaped)):
        if _known(text):
            return text
        if (mapped := "".join(_TABLE.get(char, char) for char in text)) and _known(mapped):
            return mapped
    text = "".join(_TABLE.get(char, char) for char in unicodedata.normalize("NFKC", shaped))
    if not _known(text):
        # é -> e: Ménière stays readable. Only Latin letters: か with an odd mark is not か.
        bare = "".join(c for c in unicodedata.normalize("NFKD", shaped) if not unicodedata.combining(c))
        text = bare if bare.isascii() else text
    if not _known(text):
        return None
    if _SUPERSCRIPT.match(shaped):
        return f"*{text}"  # 10³ must not become 103; NHO writes m*2
    if _CIRCLED.match(shaped) or unicodedata.category(shaped[0]) == "No" and "/" in text:
        return f"({text})"  # NHO: ① -> (1), ㊤ -> (上); and 1½ must not become 11/2
    return text


def fold(text: str) -> tuple[str, list[Issue]]:
    """`text` in the characters of ASCII and JIS X 0208, line breaks as CR; what has no form becomes ■.

    Each ■ comes with an Issue that names its place: code points of `text` counted from 0 (not offsets of a note).
    """
    folded: list[str] = []
    issues: list[Issue] = []
    for match in _CLUSTER.finditer(_LINE_BREAK.sub(lambda m: "\r".ljust(len(m[0]), "\u200b"), text)):
        form = _fold_cluster(match[0])
        if form is None:
            form = GETA
            place = f"character {match.start()} has no form in JIS X 0208; written as {GETA}"
            issues.append(Issue(severity=Severity.WARNING, code=IssueType.NOT_SUPPORTED, text=place))
        folded.append(form)
    return "".join(folded), issues


def encode(text: str) -> bytes:
    """ISO-2022-JP of folded text: `ESC $ B` … `ESC ( B`, in ASCII before every delimiter, CR and the end.

    Raises InvalidInput, naming the position, for a character that `fold` would have replaced.
    """
    for position, char in enumerate(text):
        if not _has_code(char):
            raise InvalidInput(f"character {position} of {len(text)} has no code in ASCII or JIS X 0208: fold first")
    data = text.encode("iso2022_jp")
    if not _ALLOWED.fullmatch(data):
        raise InvalidInput("the encoded text holds an escape sequence other than ESC $ B and ESC ( B")
    return data


def decode(data: bytes) -> str:
    """Text of a stored file. Decode before splitting: the second bytes of kanji contain `|`, `^`, `&`, `~` and `\\`.

    Takes files with and without the final 0x1C (some writers end a message as HL7's lower layer does).
    Raises InvalidInput for bytes that are not ISO-2022-JP.
    """
    try:
        return data.rstrip(b"\x1c").decode("iso2022_jp")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"byte {error.start} of {len(data)} is not ISO-2022-JP") from None
