"""Bytes of a standardized-storage message: ISO-2022-JP with ASCII and JIS X 0208 only.

Source: SS-MIX2 標準化ストレージ 1.2 (character sets ISO IR-6 and ISO IR-87; nothing else may occur), and NHO
SSMIX2_support_documents `cp932_JIS_convart.md` (環境依存文字 変換テーブル) for characters of Windows alone.
"""

import re
import unicodedata
from functools import lru_cache
from pathlib import Path

from app.errors import InvalidInput
from schemas.issue import Issue, IssueType, Severity

GETA = "■"
"""What stands for a character that JIS X 0208 does not have (SS-MIX2: gaiji become ■)."""


def _read_table() -> dict[str, str]:
    lines = Path(__file__).with_name("characters.tsv").read_text(encoding="utf-8").splitlines()
    return dict(line.split("\t") for line in lines if not line.startswith("# "))


# Every sign of cp932's extensions, and kanji that are variants of one that JIS X 0208 has; sources stand in the file.
_TABLE = _read_table() | {"\t": " "}
# The twins of the table that cp932 decodes to, back to what ISO-2022-JP decodes to.
_TWINS = str.maketrans("～－∥￠￡￢—", "〜−‖¢£¬―")

# Lines end with CR inside a text, as HL7 has it; `hl7.escape` turns that into \.br\ or a blank.
_LINE_BREAK = re.compile("\r\n|[\n\x0b\x0c\x85\u2028\u2029]")
# Characters without a shape: variation selectors, zero-width signs, direction marks, soft hyphen.
_SHAPELESS = re.compile("[\u00ad\u180e\u200b-\u200f\u2060-\u2064\u202a-\u202e\ufe00-\ufe0f\ufeff\U000e0100-\U000e01ef]")
_MARKS = "\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\u3099\u309a\ufe20-\ufe2f"
# What must be read together: half-width kana with their voice marks, a run of superscripts, a letter with its marks.
_CLUSTER = re.compile(
    "[\uff61-\uff9f][\uff61-\uff9f\u3099\u309a]*|[\u00b2\u00b3\u00b9\u2070-\u207b]+"
    f"|.[{_MARKS}\ufe00-\ufe0f\U000e0100-\U000e01ef]*",
    re.DOTALL,
)
_SUPERSCRIPT = re.compile("[\u00b2\u00b3\u00b9\u2070-\u207b]")
_CIRCLED = re.compile("[\u2460-\u2473\u24b6-\u24ea\u3251-\u325f\u3280-\u32bf\u32d0-\u32fe]")
# A voice mark on a kana that has no voiced form stands beside it, as in half-width writing.
_LOOSE_MARKS = str.maketrans("\u3099\u309a", "゛゜")
# Two-byte characters without an escape sequence behind them.
_OPEN = re.compile(rb"\x1b\$[^\x1b]*\Z")
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
    text = "".join(_TABLE.get(char, char) for char in unicodedata.normalize("NFKC", shaped).translate(_LOOSE_MARKS))
    if not _known(text):
        # é -> e: Ménière stays readable. Only Latin letters: か with an odd mark is not か.
        bare = "".join(c for c in unicodedata.normalize("NFKD", shaped) if not unicodedata.category(c).startswith("M"))
        bare = "".join(_TABLE.get(char, char) for char in bare)
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
    if _OPEN.search(data):
        raise InvalidInput(f"{len(data)} bytes that end inside two-byte characters: not ISO-2022-JP, or cut off")
    try:
        return data.rstrip(b"\x1c").decode("iso2022_jp")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"byte {error.start} of {len(data)} is not ISO-2022-JP") from None


_ROW = re.compile(rb"\x1b\$[B@]((?:[\x21-\x7e]{2})*)")


def decode_windows(data: bytes) -> str:
    """Like `decode`, for files of writers that put Windows' own characters (① ㎎ ㈱ 髙: rows 13 and 89-92) into
    `ESC $ B`, which SS-MIX2 forbids and readers meet all the same. Raises InvalidInput."""
    text, at = [], 0
    if _OPEN.search(data):
        raise InvalidInput(f"{len(data)} bytes that end inside two-byte characters: not ISO-2022-JP, or cut off")
    data = data.rstrip(b"\x1c")
    try:
        for match in _ROW.finditer(data):
            text.append(data[at : match.start()].replace(b"\x1b(B", b"").replace(b"\x1b(J", b"").decode("ascii"))
            pairs = match[1]
            text.append("".join(_from_windows(pairs[n], pairs[n + 1]) for n in range(0, len(pairs), 2)))
            at = match.end()
        text.append(data[at:].replace(b"\x1b(B", b"").replace(b"\x1b(J", b"").decode("ascii"))
    except UnicodeDecodeError:
        raise InvalidInput(f"{len(data)} bytes that are neither ISO-2022-JP nor its extension by cp932") from None
    if "\x1b" in (whole := "".join(text)):
        raise InvalidInput(f"{len(data)} bytes with an escape sequence that SS-MIX2 does not have")
    return whole.translate(_TWINS)


def _from_windows(first: int, second: int) -> str:
    """The character of a pair of JIS bytes (0x21-0x7E each), by the rows of cp932."""
    row, cell = first - 0x20, second - 0x20
    lead = (row - 1) // 2 + (0x81 if row <= 62 else 0xC1)
    trail = cell + 0x9E if row % 2 == 0 else cell + (0x3F if cell < 64 else 0x40)
    return bytes((lead, trail)).decode("cp932")
