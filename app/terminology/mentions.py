"""Where known names stand in a note: the marks that the model reads beside the text.

The shipped model was trained with the marks of the starter tables, so what is found here changes what it does.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from schemas.statement import Kind


@dataclass(frozen=True)
class Mention:
    """A known name in a text: half-open code-point offsets."""

    start: int
    end: int
    kind: Kind


class Marker:
    """Names by the character that they begin with, longest first. Immutable."""

    def __init__(self, names: Iterable[tuple[Kind, str]]) -> None:
        """`names`: a name that comes twice keeps its first kind."""
        self._surface: dict[str, Kind] = {}
        for kind, name in names:
            surface = unicodedata.normalize("NFKC", name)
            surface = surface if _is_abbreviation(surface) else surface.lower()
            if _markable(surface):
                self._surface.setdefault(surface, kind)
        self._lengths: dict[str, list[int]] = {}
        for surface in self._surface:
            lengths = self._lengths.setdefault(surface[0].lower(), [])
            if len(surface) not in lengths:
                lengths.append(len(surface))
        for lengths in self._lengths.values():
            lengths.sort(reverse=True)

    def find(self, text: str) -> list[Mention]:
        """Known names in `text`, longest first at each place, left to right, without overlaps."""
        # Folding one character at a time keeps the length, so offsets stay those of `text`.
        written = "".join(_fold(c) for c in text)
        lower = "".join(c.lower() if len(c.lower()) == 1 else c for c in written)
        found: list[Mention] = []
        at = 0
        while at < len(lower):
            for length in self._lengths.get(lower[at], ()):
                end = at + length
                piece = written[at:end] if _is_abbreviation(written[at:end]) else lower[at:end]
                if end <= len(lower) and piece in self._surface and _bounded(lower, at, end):
                    found.append(Mention(at, end, self._surface[piece]))
                    at = end
                    break
            else:
                at += 1
        return found


def _is_latin(char: str) -> bool:
    return char.isascii() and char.isalpha() or "\u0370" <= char <= "\u03ff"


def _is_abbreviation(name: str) -> bool:
    """Up to three Latin letters: there the case tells DL (脂質異常症) from the dL of a unit."""
    return len(name) <= 3 and name.isascii() and name.isalpha()


def _is_katakana(char: str) -> bool:
    return "\u30a1" <= char <= "\u30fa" or "\u30fc" <= char <= "\u30ff"


def _markable(surface: str) -> bool:
    # One kanji or kana alone (卵, 麦), or a short word of hiragana (いか), stands inside too many other words.
    if all("\u3041" <= c <= "\u309f" for c in surface):
        return len(surface) > 3
    return len(surface) > 1 or (len(surface) == 1 and _is_latin(surface))


def _bounded(text: str, start: int, end: int) -> bool:
    """A name is not seen inside a longer word of Latin letters or katakana, nor a one-letter symbol
    (K, P) where no number follows it."""
    before, after = text[start - 1 : start], text[end : end + 1]
    first, last = text[start], text[end - 1]
    if before and (_is_latin(first) and (_is_latin(before) or before.isdecimal())):
        return False
    if before and first.isdecimal() and before.isdecimal():
        return False
    if after and _is_latin(last) and _is_latin(after):
        return False
    if after and last.isdecimal() and after.isdecimal():
        return False
    if before and _is_katakana(first) and _is_katakana(before):
        return False
    if after and _is_katakana(last) and _is_katakana(after) and end - start < 5:
        return False
    return end - start > 1 or re.match(r"[\s:：=]*[<>≦≧＜＞]?\s*[0-9０-９]", text[end:]) is not None


def _fold(char: str) -> str:
    folded = unicodedata.normalize("NFKC", char)
    # ① before a name numbers a list; as a 1 it would look like the end of a number.
    if len(folded) != 1 or (folded.isdecimal() and not char.isdecimal()):
        return char
    return folded
