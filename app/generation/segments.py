"""How a line of a note is cut: into chunks that a copied field is made of, and into pieces that a tokenizer sees.

A chunk is never divided by a field: a whole number with its decimals and thousands commas, a whole word of Latin or
Greek letters, a whole run of katakana (but アレルギー and ショック stand for themselves), a whole dictionary mention;
any other character is a chunk of its own. So a field may begin and end between any two kanji, but 248.6 cannot become
24, nor アムロジピン become アムロ.

Offsets are code points of the line, half-open, from 0.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence

# Thousands commas only in groups of three, so that "1,2" stays two numbers; dots may repeat (R8.3.4 is one date).
_NUMBER = r"[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)*"
_WORD = r"[A-Za-z\u00b5\u0370-\u03ff]+"
# Katakana with the prolonged sound mark and the half-width block (JIS X 0201); not the middle dot, which separates.
# アレルギー and ショック end the name of an allergen or a drug that is written right before them.
_KATAKANA_CHAR = r"[\u30a1-\u30fa\u30fc-\u30ff\uff66-\uff9f]"
_KATAKANA = f"アレルギー|ショック|(?:(?!アレルギー|ショック){_KATAKANA_CHAR})+"
_CHUNK = re.compile(f"{_NUMBER}|{_WORD}|{_KATAKANA}|.", re.DOTALL)
# Never divided, not even by a mention.
_UNDIVIDED = re.compile(f"{_NUMBER}|{_WORD}")
_PIECE = re.compile(f"{_WORD}|{_KATAKANA}|.", re.DOTALL)


def fold(text: str) -> str:
    """`text` with full-width letters, digits, signs and spaces as ASCII and half-width katakana widened.

    Every character stays one character, so offsets keep their meaning: voiced half-width katakana (two characters)
    keep their mark as a character of its own. Source of the pairs: Unicode block Halfwidth and Fullwidth Forms.
    """
    return "".join(map(_fold_char, text))


def _fold_char(char: str) -> str:
    if char == "\u3000":
        return " "
    if "\uff01" <= char <= "\uffee":
        folded = unicodedata.normalize("NFKC", char)
        if len(folded) == 1 and not unicodedata.combining(folded):
            return folded
        return {"\uff9e": "\u309b", "\uff9f": "\u309c"}.get(char, char)
    return {"\u2212": "-", "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2013": "-", "\u00b5": "\u03bc"}.get(char, char)


def chunks(line: str, mentions: Sequence[tuple[int, int]] = ()) -> list[tuple[int, int]]:
    """Chunks of `line` as (start, end), covering it in order. `mentions`: spans, not overlapping, in order;
    one that would divide a number or a word is widened to its end, unless a number counts it (the 3. of 3.2型糖尿病)."""
    found: list[tuple[int, int]] = []
    inside = {at: m.span() for m in _UNDIVIDED.finditer(line) for at in range(m.start() + 1, m.end())}
    for start, end in mentions:
        if line[start - 1 : start] == "." and start in inside and end > inside[start][1]:
            # The mention goes on behind the number, so its digits are its own and not decimals.
            begin, stop = inside[start]
            inside |= dict.fromkeys(range(begin + 1, start - 1), (begin, start - 1))
            inside |= dict.fromkeys(range(start + 1, stop), (start, stop))
            del inside[start], inside[start - 1]
    spans = [(inside.get(start, (start,))[0], inside.get(end, (end,))[-1]) for start, end in mentions]
    spans.append((len(line) + 1, len(line) + 1))
    at = index = 0
    while at < len(line):
        while spans[index][0] < at:
            index += 1
        start, end = spans[index]
        if start == at and end > at:
            found.append((at, end))
            at = end
            continue
        match = _CHUNK.match(line, at)
        assert match
        end = match.end()
        if at < start < end:
            end = start
        found.append((at, end))
        at = end
    return found


def pieces(text: str) -> Iterator[str]:
    """Parts of `text` that are tokenized one by one, so that no token spans a boundary that a field may have."""
    return (match[0] for match in _PIECE.finditer(text))
