"""What a written name is called and coded with: display, codings, the hospital's own code, modifiers, candidates.

A code is given when a table has the name, when every part of the name is explained by tables, or, for diseases and
tests, when one name alone differs from the written one only in its spelling. Everything else stays uncoded: a wrong code
is worse than none. What came near is offered to a reviewer as candidates.
"""

import re
from dataclasses import dataclass, replace

from app.terminology.candidates import likeness, same_thing
from app.terminology.diseases import read_disease
from app.terminology.drugs import parse_drug
from app.terminology.entries import Entry
from app.terminology.matching import Lexicon, as_candidates
from app.terminology.spelling import variant_key
from schemas import systems
from schemas.coding import Candidate, Coding
from schemas.record import Modifier
from schemas.statement import AllergyCategory, Assertion, Kind

MIN_SCORE = 0.85
"""Likeness from which the nearest name is taken, where it alone is near (setting CODING_MIN_SCORE)."""
MARGIN = 0.1
"""A second name with another code must be less like by this, or neither is taken."""


@dataclass(frozen=True)
class Coded:
    """A name with what the tables say of it. `display`: without a code, a name that a table knows as another one is
    shown with it: PSL（プレドニゾロン）. `entry`: the concept that it is, where it is one (results need its kind of value).
    `assertion`: what a remark inside a disease name says (肺炎の疑い)."""

    display: str
    codings: tuple[Coding, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    local: Coding | None = None
    modifiers: tuple[Modifier, ...] = ()
    entry: Entry | None = None
    assertion: Assertion | None = None
    category: AllergyCategory | None = None

    def of(self, entry: Entry) -> "Coded":
        """The same name as another concept."""
        return replace(self, display=entry.display, codings=entry.codings, entry=entry)

    def without_codings(self) -> "Coded":
        return replace(self, codings=())


@dataclass(frozen=True)
class _Own:
    """The hospital's own row of a name: its code, and the coding that the hospital gave it."""

    local: Coding | None = None
    target: tuple[Coding, ...] = ()
    entry: Entry | None = None


def _own(kind: Kind, written: str, lexicon: Lexicon) -> _Own:
    row = lexicon.local(kind, written)
    if row is None:
        return _Own()
    # Only laboratory results have a place for the facility's code that is the same for all facilities (JP-CLINS 1.10.0).
    local = (
        Coding(system=systems.LOCAL_LAB, code=row.code, display=row.display) if kind in (Kind.LAB, Kind.INFECTION) else None
    )
    if row.target is None:
        return _Own(local)
    # The display decides which slice of the profile checks the code: the table's own one, where it is loaded.
    # A class of ICD-10 holds many names, and the display of one of them is not that of the class.
    shown = lexicon.display(row.target.system, row.target.code) if row.target.system != systems.ICD10 else None
    target = row.target.model_copy(update={"display": shown}) if shown else row.target
    return _Own(local, (target,), lexicon.find(target.system, target.code))


def _shown(written: str, meant: str) -> str:
    """The written name, with what the table calls it behind it where that says more."""
    return written if not meant or variant_key(meant) in variant_key(written) else f"{written}（{meant}）"


def _spelled_out(written: str, entry: Entry) -> str:
    """An abbreviation with the test's name behind it: PCT（プロカルシトニン）; any other name, and pH, as written."""
    meant = entry.fact("name_ja") or entry.display
    return _shown(written, meant) if written.isascii() and written not in meant else written


# ２．肝硬変, #3.便秘症: a number that counts the diseases; in 1.5型糖尿病 it belongs to the name.
_COUNTED = re.compile(r"^[#＃]?\s*(?:\d{1,2}\s*[.．)）、]|[①-⑳])\s*(?=[^\d\s])")


def disease(written: str, lexicon: Lexicon, min_score: float = MIN_SCORE) -> Coded:
    """Source of the composition of names: see `app.terminology.diseases`."""
    written = _COUNTED.sub("", written)
    own = _own(Kind.CONDITION, written, lexicon)
    if own.target:
        return Coded(written, own.target, entry=own.entry)
    read = read_disease(written, lexicon)
    if read is not None:
        meanings = () if read.codings else _meanings(Kind.CONDITION, written, lexicon)
        return Coded(read.display, read.codings, meanings, modifiers=read.modifiers, assertion=read.assertion)
    nearest, candidates = _nearest(Kind.CONDITION, written, lexicon, min_score)
    if nearest is not None and not nearest.fact("single_use_forbidden"):
        return Coded(nearest.display, nearest.codings, candidates)
    return Coded(written, (), candidates)


def _meanings(kind: Kind, written: str, lexicon: Lexicon) -> tuple[Candidate, ...]:
    """What a name of several meanings (`starter/ambiguous.tsv`) may stand for."""
    entry = lexicon.lookup(kind, written)
    meant = entry.fact("meanings").split("|") if entry else []
    found = [one for name in meant if (one := lexicon.lookup(kind, name)) is not None and one.packed_codings]
    return tuple(Candidate(coding=one.codings[0], score=0.9, reason="several meanings") for one in found)


# Abbreviations that only their case tells apart: TG is triglyceride and Tg thyroglobulin, FBG fasting blood glucose and
# Fbg fibrinogen.
_BY_CASE = {"Tg": "サイログロブリン", "Fbg": "フィブリノゲン"}
# Words of the material before or behind a test's name. 血中 is none: serum or plasma is not said.
_SPECIMEN = re.compile(r"^(?:血清|血漿|尿中?|髄液|胸水|腹水|関節液|動脈血|静脈血|便)|[(（](?:血清|血漿|尿|髄液|胸水|腹水|動脈血|静脈血|便)[)）]$")


def test(kind: Kind, written: str, lexicon: Lexicon, min_score: float = MIN_SCORE) -> Coded:
    """A laboratory or infection test. A material in the name must be the one of the code (材料, JLAC10 characters 10-12):
    血清Na is Na, whose code is of serum; 尿Na, 髄液蛋白 and 動脈血Na are not."""
    own = _own(kind, written, lexicon)
    if own.target:
        return Coded(written, own.target, local=own.local, entry=own.entry)
    entry = lexicon.lookup(kind, _BY_CASE.get(written, written))
    specimen = _SPECIMEN.search(written)
    if entry is not None and not entry.packed_codings and entry.fact("meanings"):
        return Coded(written, (), _meanings(kind, written, lexicon), own.local, entry=entry)
    if entry is None and specimen is not None:
        bare = lexicon.lookup(kind, written[: specimen.start()] + written[specimen.end() :])
        material = specimen[0].strip("()（）").removesuffix("中")
        entry = bare if bare is not None and bare.fact("specimen") == material else None
    candidates: tuple[Candidate, ...] = ()
    if entry is None:
        nearest, candidates = _nearest(kind, written, lexicon, min_score)
        entry = nearest if specimen is None and written not in _BY_CASE else None
    if entry is None:
        return Coded(written, (), candidates, own.local)
    display = entry.display if kind is Kind.INFECTION else written if entry.packed_codings else _spelled_out(written, entry)
    return Coded(display, entry.codings, candidates, own.local, entry=entry)


def test_called(written: str, name: str, lexicon: Lexicon) -> Coded:
    """The test that `name` names, where its neighbours tell that `written` stands for it: pro(-) of a dipstick is 尿蛋白."""
    coded = test(Kind.LAB, name, lexicon)
    entry = coded.entry
    return replace(coded, display=written if coded.codings or entry is None else _shown(written, entry.fact("name_ja") or name))


def drug(written: str, lexicon: Lexicon) -> Coded:
    """One product or general name that fits all that is written, never by likeness: see `app.terminology.drugs`."""
    own = _own(Kind.PRESCRIPTION, written, lexicon)
    if own.target:
        return Coded(written, own.target)
    read = lexicon.drugs.read(written)
    candidates = read.candidates if read.codings or read.known else _spelled_like(written, lexicon)
    return Coded(written if read.codings else _shown(written, read.ingredient), read.codings, candidates)


# Between アムロジピン and アムロジビン it is 0.57, between タキソール and タキソテール 0.55, バファリン and ワーファリン 0.5.
_STEM_LIKENESS = 0.56


def _spelled_like(written: str, lexicon: Lexicon) -> tuple[Candidate, ...]:
    """Products whose name without form and strength begins and goes on like the written one: names of other drugs that
    only look alike, or share form and strength, are not even offered."""
    stem = parse_drug(written).stem
    near = lexicon.near(Kind.PRESCRIPTION, written, 30)
    stems = [(one, parse_drug(one.name).stem) for one in near]
    return as_candidates(one for one, other in stems if other[:1] == stem[:1] and likeness(stem, other) >= _STEM_LIKENESS)


# アレルギー：なし denies, though なし is a pear (ナシ) as well; half-width ﾅｼ is the usual way of charts to write it.
_DENIAL = re.compile(r"(?:特に|特記事項)?(?:なし|ナシ|無し?|ない|無い|ありません|不明|未確認)|none|nkda|nka|[(（]?[-−－ー][)）]?", re.IGNORECASE)


def allergen(written: str, lexicon: Lexicon) -> Coded:
    """A substance of JFAGY, else a drug as an allergen; never by likeness. `category`: what the tables say it is."""
    own = _own(Kind.ALLERGY, written, lexicon)
    if own.target:
        return Coded(written, own.target, category=_category(own.entry))
    if _DENIAL.fullmatch(written.strip()):
        return Coded(written)
    bare = re.sub(r"(?:アレルギー|過敏症?)$", "", written) or written
    entry = lexicon.lookup(Kind.ALLERGY, written) or lexicon.lookup(Kind.ALLERGY, bare)
    if entry is not None and entry.packed_codings:
        return Coded(entry.display, entry.codings, category=_category(entry))
    read = lexicon.drugs.allergen(bare)
    if entry is not None:
        codes = read if entry.fact("category") == AllergyCategory.MEDICATION else None
        candidates = codes.candidates if codes else _meanings(Kind.ALLERGY, bare, lexicon)
        shown = entry.display if codes and codes.codings else _shown(written, entry.display)
        return Coded(shown, codes.codings if codes else (), candidates, category=_category(entry))
    if read.known:
        shown = written if read.codings else _shown(written, read.ingredient)
        return Coded(shown, read.codings, read.candidates, category=AllergyCategory.MEDICATION)
    return Coded(written, (), lexicon.candidates(Kind.ALLERGY, bare))


def _category(entry: Entry | None) -> AllergyCategory | None:
    stated = entry.fact("category") if entry else ""
    return AllergyCategory(stated) if stated else None


def _nearest(
    kind: Kind, written: str, lexicon: Lexicon, min_score: float
) -> tuple[Entry | None, tuple[Candidate, ...]]:
    """The entry that the name is a misspelling of, if there is no doubt, and what came near."""
    near = [one for one in lexicon.near(kind, written, 15) if one.entry.packed_codings]
    candidates = as_candidates(near)
    if not near or near[0].score < min_score:
        return None, candidates
    first = near[0]
    others = [one for one in near[1:] if one.entry.packed_codings[0] != first.entry.packed_codings[0]]
    if others and first.score - others[0].score < MARGIN:
        return None, candidates
    alike = same_thing(variant_key(written), variant_key(first.name))
    return (first.entry if alike else None), candidates
