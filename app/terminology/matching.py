"""Names in a note against the loaded tables: where known names stand (`find_mentions`), and what a name means (`lookup`).

Matching is by equal keys only (`key`): NFKC, case, spaces, middle dots and hyphens folded. Nothing is guessed.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from app.terminology.entries import Entry
from schemas.statement import Kind

# Signs that charts leave out or exchange freely between the parts of a name.
_IGNORED = re.compile(r"[\s\u30fb\u00b7\-\u2010-\u2015\u2212\uff0d_,\u3001]")


def key(name: str) -> str:
    """What two spellings of one name have in common: NFKC, lower case, no spaces, middle dots or hyphens."""
    return _IGNORED.sub("", unicodedata.normalize("NFKC", name).replace("\u03bc", "\u00b5").lower())


@dataclass(frozen=True)
class Mention:
    """A known name in a text: half-open code-point offsets."""

    start: int
    end: int
    kind: Kind


def _is_latin(char: str) -> bool:
    return char.isascii() and char.isalpha() or "\u0370" <= char <= "\u03ff"


def _is_abbreviation(name: str) -> bool:
    """Up to three Latin letters: there the case tells DL (脂質異常症) from the dL of a unit."""
    return len(name) <= 3 and name.isascii() and name.isalpha()


def _is_katakana(char: str) -> bool:
    return "\u30a1" <= char <= "\u30fa" or "\u30fc" <= char <= "\u30ff"


class Lexicon:
    """All names of the loaded tables. Immutable; building takes about 0.1 s for 10,000 names."""

    # A name in two tables is marked as the kind that comes first here; looking it up goes by the statement's own kind.
    PRIORITY = (Kind.INFECTION, Kind.LAB, Kind.CONDITION, Kind.PRESCRIPTION, Kind.ALLERGY)

    def __init__(self, entries: Iterable[Entry], version: str) -> None:
        self.version = version
        self._by_key: dict[tuple[Kind, str], Entry] = {}
        self._by_group: dict[str, list[Entry]] = {}
        self._surface: dict[str, Kind] = {}
        for entry in sorted(entries, key=lambda e: self.PRIORITY.index(e.kind)):
            if group := entry.properties.get("group"):
                self._by_group.setdefault(group, []).append(entry)
            for name in entry.names:
                self._by_key.setdefault((entry.kind, key(name)), entry)
                surface = unicodedata.normalize("NFKC", name)
                surface = surface if _is_abbreviation(surface) else surface.lower()
                # A product (name with form and strength) is found by the ingredient or brand that it begins with.
                if self._markable(surface) and not entry.properties.get("strength"):
                    self._surface.setdefault(surface, entry.kind)
        self._lengths: dict[str, list[int]] = {}
        for surface in self._surface:
            lengths = self._lengths.setdefault(surface[0].lower(), [])
            if len(surface) not in lengths:
                lengths.append(len(surface))
        for lengths in self._lengths.values():
            lengths.sort(reverse=True)

    @staticmethod
    def _markable(surface: str) -> bool:
        # One kanji or kana alone (卵, 麦), or a short word of hiragana (いか), stands inside too many other words.
        if all("\u3041" <= c <= "\u309f" for c in surface):
            return len(surface) > 3
        return len(surface) > 1 or (len(surface) == 1 and _is_latin(surface))

    def lookup(self, kind: Kind, name: str) -> Entry | None:
        """The entry of `kind` that goes by `name`, or None."""
        return self._by_key.get((kind, key(name)))

    def group(self, entry: Entry) -> list[Entry]:
        """The entries that are results of the same infection test as `entry` (HBs抗体: 定性, 定量, 希釈倍率)."""
        return self._by_group.get(entry.properties.get("group", ""), [])

    def find_mentions(self, text: str) -> list[Mention]:
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
                if end <= len(lower) and piece in self._surface and self._bounded(lower, at, end):
                    found.append(Mention(at, end, self._surface[piece]))
                    at = end
                    break
            else:
                at += 1
        return found

    @staticmethod
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
