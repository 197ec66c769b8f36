"""Names that are like a written one: trigrams in memory, and when the nearest may be taken for it.

The score is the Dice coefficient of the sets of trigrams of two names, 0..1, with two blanks before and one behind, so
that beginnings weigh more than ends. A near name is another name until the opposite is shown: `same_thing` takes only
differences that Japanese spelling leaves open, whatever the score.
"""

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

import numpy as np
from numpy.typing import NDArray

# Names below it share a syllable, not a meaning.
_FLOOR = 0.2
# So many hits are gathered at least before common trigrams are passed over.
_POSTINGS = 3000
_PAD_BEFORE, _PAD_AFTER = "\x01\x01", "\x02"


class TrigramIndex:
    """Postings of trigrams in compressed rows: about 40 bytes a name of ten characters. Immutable."""

    def __init__(self, names: Sequence[str]) -> None:
        """`names`: variant keys; hits are their positions."""
        counts = np.zeros(len(names), dtype=np.int32)
        pieces: list[NDArray[np.uint64]] = []
        for at, name in enumerate(names):
            grams = _grams(name)
            counts[at] = len(grams)
            pieces.append(grams)
        grams = np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.uint64)
        owners = np.repeat(np.arange(len(names), dtype=np.int32), counts)
        order = np.argsort(grams, kind="stable")
        self._owners: NDArray[np.int32] = owners[order]
        self._vocabulary, first = np.unique(grams[order], return_index=True)
        self._starts: NDArray[np.int64] = np.append(first, len(grams)).astype(np.int64)
        self._counts = counts

    def nearest(self, name: str, limit: int) -> Iterator[tuple[int, float]]:
        """Positions of the `limit` names most like `name` with their score, best first, ties in the order of the names.

        Complete from the score 0.75 on; of less like names some may be missing in large tables.
        """
        grams = _grams(name)
        if not len(self._vocabulary) or not name:
            return
        places = np.searchsorted(self._vocabulary, grams)
        places[places == len(self._vocabulary)] = 0
        places = places[self._vocabulary[places] == grams]
        if not len(places):
            return
        # The rarest trigrams tell which names may be like it, the others are only looked up for those: the cost hardly
        # grows with the table. A name of the score s shares s / (2 - s) of the trigrams at least, so that with 0.4 of them
        # none from 0.75 on is missed; names that are less like it and share common trigrams alone are.
        sizes = self._starts[places + 1] - self._starts[places]
        places = places[np.argsort(sizes, kind="stable")]
        within = int(np.searchsorted(np.cumsum(np.sort(sizes)), _POSTINGS, side="right"))
        taken = max(within, int(0.4 * len(grams)) + 1)
        rare = np.concatenate([self._owners[self._starts[at] : self._starts[at + 1]] for at in places[:taken]])
        hits, shared = np.unique(rare, return_counts=True)
        for at in places[taken:]:
            owners = self._owners[self._starts[at] : self._starts[at + 1]]
            found = np.minimum(np.searchsorted(owners, hits), len(owners) - 1)
            shared += owners[found] == hits
        scores = 2.0 * shared / (self._counts[hits] + len(grams))
        kept = np.flatnonzero(scores >= _FLOOR)
        if len(kept) > limit:
            worst = np.partition(scores[kept], -limit)[-limit]
            kept = kept[scores[kept] >= worst]
        best = kept[np.lexsort((hits[kept], -scores[kept]))][:limit]
        for at in best:
            yield int(hits[at]), round(float(scores[at]), 4)


def likeness(one: str, other: str) -> float:
    """The Dice coefficient of the trigrams of two names (variant keys), 0..1."""
    mine, theirs = _grams(one), _grams(other)
    return 2.0 * len(np.intersect1d(mine, theirs, assume_unique=True)) / (len(mine) + len(theirs))


def _grams(name: str) -> NDArray[np.uint64]:
    """The set of trigrams, each packed into 63 bits (a code point has 21)."""
    padded = f"{_PAD_BEFORE}{name}{_PAD_AFTER}"
    points = np.frombuffer(padded.encode("utf-32-le", errors="replace"), dtype=np.uint32).astype(np.uint64)
    shift = np.uint64(21)
    packed: NDArray[np.uint64] = (points[:-2] << (shift + shift)) | (points[1:-1] << shift) | points[2:]
    return np.unique(packed)


# What may stand in one of two names for the same disease and not in the other: 関節リウマチ and 関節リウマチ症,
# アレルギー鼻炎 and アレルギー性鼻炎. Never a word of its own; 病 and 炎 are none of these (心筋症, 心筋炎; 腎症, 腎炎).
_FUNCTIONAL = re.compile(r"[性症ノ・的]{1,2}")
# One wrong or missing kana inside a long word of katakana is a slip of the pen (アルツハイマ, アルツハイマア).
_LONG_WORD = 6
_KATAKANA = re.compile(r"[ァ-ヺ]+")


def same_thing(written: str, name: str) -> bool:
    """May two like names (variant keys) be one thing in two spellings?

    Yes only when all that differs is a functional syllable (性, 症, の) or, once, one kana inside a katakana word of six
    or more. Digits, Latin letters and every other kanji must be equal in number and order, so 左 and 右, 高 and 低,
    急性 and 慢性, 抗原 and 抗体, 1型 and 2型, 胃 and 腸 never pass. A name that negates (非, 不, 無, 偽) differs in a kanji.
    """
    slips = 0
    for kind, a, b, c, d in SequenceMatcher(None, written, name, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        left, right = written[a:b], name[c:d]
        if all(not part or _FUNCTIONAL.fullmatch(part) for part in (left, right)) and not (left and right):
            continue
        if len(left) > 1 or len(right) > 1 or not all(_KATAKANA.fullmatch(part) for part in (left, right) if part):
            return False
        if not (_in_long_word(written, a, b) and _in_long_word(name, c, d)):
            return False
        slips += 1
    return slips <= 1


def _in_long_word(text: str, start: int, end: int) -> bool:
    """Is text[start:end], or the gap there, inside a katakana word of six or more, and not its first character?"""
    return any(
        word.start() < start and end <= word.end() and len(word[0]) >= _LONG_WORD for word in _KATAKANA.finditer(text)
    )
