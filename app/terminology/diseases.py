"""A written disease name -> base name and modifiers (修飾語), as the disease master composes names.

Source of the way of composing: ICD10対応標準病名マスター (MEDIS-DC) and the modifier master of 社会保険診療報酬支払基金: a name
is prefixes, one base name, postfixes; a base name of the table beats any composition of it.
"""

import re
from dataclasses import dataclass
from typing import TypeAlias

from app.terminology.entries import Entry, Part
from app.terminology.matching import Lexicon
from app.terminology.spelling import variant_key
from schemas import systems
from schemas.coding import Coding
from schemas.record import Modifier, ModifierPosition
from schemas.statement import Assertion, Kind

# What a chart adds to a name to say how sure or how old it is: an assertion, not another disease and no modifier.
_REMARKS = (
    (re.compile(r"(?:の既往)?(?:は?(?:なし|無し))$|\s*[(（][-−－‐ー][)）]$|\s*[-−－‐]$|(?<=[^ァ-ヺー])ー$"), Assertion.ABSENT),
    (re.compile(r"\s*[(（][+＋][)）]$|\s*[+＋]$|あり$"), None),
    (re.compile(r"(?:の?疑い|[(（](?:疑い|疑)[)）]|疑)$"), Assertion.SUSPECTED),
    (re.compile(r"の?既往$"), Assertion.PAST),
    (re.compile(r"の?(?:治療中|加療中)$"), None),
)
_MINUS = re.compile(r"[-−－‐ー]\s*$")
# Modifiers that say the opposite of a diagnosis, or that it is not one; imported masters have them too.
_NEVER = re.compile(r"疑|既往|予防|抑制|除外|類似|偽|仮性|非|無|不|未|陰性|術前|管理")
# Property `scope` of a modifier in the starter table: the disease stays in its class (side, stage, after the operation).
_SAME = "same"
# Longer names than this are sentences.
_LONGEST = 60
# 左の乳癌, 乳癌、術後, 乳癌(左)
_JOINT = re.compile(r"^[、,・\s　(（]+|[、,・\s　)）]+$")


@dataclass(frozen=True)
class Disease:
    """A disease name that the tables explain wholly. `codings`: of the base name; empty when its table has none.

    `display`: the base's own display when nothing else was written. `assertion`: what a remark in the name says.
    """

    display: str
    codings: tuple[Coding, ...]
    modifiers: tuple[Modifier, ...] = ()
    assertion: Assertion | None = None


def read_disease(written: str, lexicon: Lexicon) -> Disease | None:
    """None: no table explains the whole name. Nothing is left over and nothing is left out: a base with an unknown rest
    is another disease until somebody says that it is not."""
    if len(written) > _LONGEST:
        return None
    # A key of a name has no hyphen: 高血圧- must not be looked up as 高血圧.
    whole = None if _MINUS.search(written) else _alone(lexicon.lookup(Kind.CONDITION, written))
    if whole is not None and _has_code(whole):
        return Disease(whole.display, whole.codings)
    bare, assertion = _without_remark(written)
    if not bare:
        return None
    entry = _alone(lexicon.lookup(Kind.CONDITION, bare))
    display = entry.display if entry is not None and bare == written else written
    if entry is not None and _has_code(entry):
        return Disease(display, entry.codings, assertion=assertion)
    found = _split(bare, lexicon)
    if found is None:
        return None if entry is None else Disease(display, entry.codings, assertion=assertion)
    modifiers, codings = found
    if entry is not None:
        # 乳癌術後 has a class of ICD-10 of its own, and in the disease master only 乳癌 and の術後.
        codings = tuple(c for c in codings if c.system != systems.ICD10) + entry.codings
    return Disease(display, codings, modifiers, assertion)


def _has_code(entry: Entry) -> bool:
    """A code of the disease itself, not only its class."""
    return any(system != systems.ICD10 for system, *_ in entry.packed_codings)


def _without_remark(written: str) -> tuple[str, Assertion | None]:
    for remark, assertion in _REMARKS:
        bare = remark.sub("", written)
        if bare != written:
            return bare.strip(), assertion
    return written, None


def _alone(entry: Entry | None) -> Entry | None:
    """An entry that may stand without a modifier (単独使用禁止区分)."""
    return None if entry is None or _needs_modifier(entry) else entry


def _needs_modifier(entry: Entry) -> bool:
    return bool(entry.fact("single_use_forbidden"))


def _split(name: str, lexicon: Lexicon) -> tuple[tuple[Modifier, ...], tuple[Coding, ...]] | None:
    """The longest base whose surroundings are modifiers throughout; of equally long ones the last, since Japanese puts
    the head of a compound at its end. A base with a code of its own goes before one that has only a class."""
    classed = None
    chains: _Chains = {}
    for length in range(len(name) - 1, 1, -1):
        for start in range(len(name) - length, -1, -1):
            base = lexicon.lookup(Kind.CONDITION, name[start : start + length])
            if base is None or not base.packed_codings:
                continue
            before = _chain(_JOINT.sub("", name[:start]), ModifierPosition.PREFIX, lexicon, chains)
            after = _chain(_JOINT.sub("", name[start + length :]), ModifierPosition.POSTFIX, lexicon, chains)
            if before is None or after is None or not before + after:
                continue
            used = [entry for _, entry in before + after]
            neutral = all(entry.fact("scope") == _SAME for entry in used)
            # What narrows the disease makes sense only with the base as it is written: 陳旧性 + 心筋梗塞 must not become
            # 陳旧性 + 急性心筋梗塞, of which 心筋梗塞 is a synonym.
            if not neutral and not _same_words(name[start : start + length], base.display):
                continue
            # A modifier that only the official master has (腎, 眼, 転移性 …) may make another disease of the base.
            if not all(entry.fact("scope") for entry in used) and not _needs_modifier(base):
                continue
            modifiers = tuple(
                Modifier(position=ModifierPosition(entry.fact("position")), text=text, codings=entry.codings)
                for text, entry in before + after
            )
            # ICD-10 has classes of its own for acute, congenital, multiple …: the base's class would be another one.
            kept = tuple(c for c in base.codings if c.system != systems.ICD10 or neutral)
            if _has_code(base):
                # 左乳癌術後 has the class of 乳癌術後 and the codes of 左, 乳癌 and の術後, as 乳癌術後 has.
                return modifiers, tuple(c for c in kept if c.system != systems.ICD10) + classed[1] if classed else kept
            classed = classed or (modifiers, kept)
    return classed


def _same_words(text: str, display: str) -> bool:
    """Equal but for a final 症 (高血圧, 高血圧症)."""
    return variant_key(text).removesuffix("症") == variant_key(display).removesuffix("症")


_Chains: TypeAlias = dict[tuple[str, ModifierPosition], list[tuple[str, Entry]] | None]


def _chain(
    text: str, position: ModifierPosition, lexicon: Lexicon, known: _Chains
) -> list[tuple[str, Entry]] | None:
    """The modifiers that make up `text` wholly, in reading order; longest first; None if something is left.

    `known`: what has been found in this name; without it 左右左右… would be cut in all its ways.
    """
    if not text:
        return []
    asked = (text, position)
    if asked not in known:
        known[asked] = _first_chain(text, position, lexicon, known)
    return known[asked]


def _first_chain(
    text: str, position: ModifierPosition, lexicon: Lexicon, known: _Chains
) -> list[tuple[str, Entry]] | None:
    for length in range(len(text), 0, -1):
        modifier = _modifier(text[:length], position, lexicon)
        rest = _chain(_JOINT.sub("", text[length:]), position, lexicon, known) if modifier else None
        if modifier is not None and rest is not None:
            # The の of 左の joins; that of の術後 belongs to the modifier.
            said = text[:length].removesuffix("の") if position is ModifierPosition.PREFIX else text[:length]
            return [(said, modifier), *rest]
    return None


def _modifier(text: str, position: ModifierPosition, lexicon: Lexicon) -> Entry | None:
    """The modifier by its name with or without の (術後, の術後; 左の): some names stand for a prefix and a postfix both."""
    after = position is ModifierPosition.POSTFIX
    for name in (text, f"の{text}" if after else text.removesuffix("の")):
        found = lexicon.lookup(Part.MODIFIER, name)
        if found is None or found.fact("position") != position:
            continue
        if found.fact("scope") or not _NEVER.search(found.display):
            return found
    return None
