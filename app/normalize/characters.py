"""Character variants of Japanese text: width, look-alike signs, kanji numerals."""

import re
import unicodedata

# Signs that NFKC (Unicode Standard Annex #15) leaves apart or breaks up, though a chart means the same by them:
# minus and dash variants, the wave dash, apostrophes (NFKC turns U+00B4 into a space), multiplication signs.
_LOOK_ALIKES = str.maketrans(
    {
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe63\uff0d", "-"),
        **dict.fromkeys("\u301c\u223c\uff5e", "~"),
        **dict.fromkeys("\u2018\u2019\u2032\u00b4\uff07\u0060", "'"),
        **dict.fromkeys("\u2715\u2716\u2a2f", "×"),
        "\u2044": "/",
    }
)
# Blocks whose letters differ from the plain ones in width alone (Halfwidth and Fullwidth Forms) or stand for several
# (CJK Compatibility: ㎎). Kana before a half-width voicing mark must be folded with it, or カﾞ stays two characters.
# Roman numerals (Ⅱ) and circled digits lie outside: they are part of names and stay.
_WIDTH_VARIANTS = re.compile(r"[\u3040-\u30ff]?[\uff00-\uffef\u3300-\u33ff]+")
_KANJI_DIGITS = {kanji: value for value, kanji in enumerate("〇一二三四五六七八九")}
_KANJI_POWERS = {"十": 10, "百": 100, "千": 1000}
_KANJI_NUMERAL = "[〇一二三四五六七八九十百千]{1,9}"


def fold_width(text: str) -> str:
    """NFKC with the look-alike signs united: one spelling of digits, letters, kana, `-`, `~`, `'`, `×`.

    Source: Unicode Standard Annex #15 (NFKC).
    """
    return unicodedata.normalize("NFKC", text.translate(_LOOK_ALIKES)).translate(_LOOK_ALIKES)


def expand_name(text: str) -> str:
    """A name for display: half-width katakana widened, full-width ASCII and squared units (㎎) folded, runs of
    spaces made one, ends trimmed. Kanji, case, Roman numerals (Ⅱ型) and circled digits stay as written."""
    folded = _WIDTH_VARIANTS.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)
    return " ".join(folded.split())


def arabic_before(text: str, followers: str) -> str:
    """`text` with each kanji numeral that stands directly before the regular expression `followers` in digits.

    Both ways of writing are read: 二〇一五 (place by place) and 三十一 (with powers).
    """
    return re.sub(f"{_KANJI_NUMERAL}(?={followers})", lambda found: str(_kanji_number(found[0])), text)


def _kanji_number(numeral: str) -> int | str:
    if not any(char in _KANJI_POWERS for char in numeral):
        return "".join(str(_KANJI_DIGITS[char]) for char in numeral)
    total, pending = 0, None
    for char in numeral:
        if char in _KANJI_POWERS:
            total += (1 if pending is None else pending) * _KANJI_POWERS[char]
            pending = None
        elif pending is None:
            pending = _KANJI_DIGITS[char]
        else:
            return numeral
    return total + (pending or 0)
