"""A written drug name -> the one product, or general name, of the loaded tables that fits all that is written.

Names are compared by their parts: what is left of the name, maker, form, strengths. A part that is not written may be
anything; a part that is written must be that of the product. Likeness of names plays no role: ノルバスク and ノルバデックス.
Source of the allergen codes: JP-CLINS 1.10.0, JFAGY 医薬品: YCM and the YJ code of a product, or GCM, its first nine
characters and ZZZ.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from decimal import Decimal

from app.terminology.entries import STARTER_TABLE, Entry
from app.terminology.spelling import key, variant_key
from schemas import systems
from schemas.coding import Candidate, Coding

# Forms by their other spellings; a form is found by its longest spelling.
_FORMS = {
    **dict.fromkeys(("口腔内崩壊錠", "OD錠", "OD", "ODT"), "OD錠"),
    **dict.fromkeys(("ドライシロップ", "DS"), "ドライシロップ"),
    **dict.fromkeys(("坐剤", "坐薬", "座薬", "サポ"), "坐剤"),
    **dict.fromkeys(("チュアブル錠", "チュアブル"), "チュアブル錠"),
    **dict.fromkeys(("カプセル", "Cap", "cap"), "カプセル"),
    **dict.fromkeys(("軟膏", "軟こう"), "軟膏"),
    **dict.fromkeys(("注射液", "注射用", "注射", "注用", "注"), "注"),
    **{
        form: form
        for form in (
            *("錠", "散", "末", "細粒", "顆粒", "シロップ用", "シロップ", "腸溶錠", "徐放錠", "徐放カプセル", "腸溶カプセル", "舌下錠", "腟錠"),
            *("バッカル錠", "分散錠", "ODフィルム", "徐放顆粒", "腸溶細粒", "腸溶顆粒", "内用ゼリー", "ゼリー", "内服液", "内用液", "経口液"),
            *("点眼液", "点鼻液", "点耳液", "眼軟膏", "クリーム", "ゲル", "ローション", "フォーム", "スプレー", "テープ", "パップ", "パッチ"),
            *("注腸", "トローチ", "うがい液", "含嗽用", "エアゾール", "吸入用カプセル", "吸入用", "吸入液", "吸入", "外用液", "外用散", "液"),
            *("点滴静注用", "点滴静注液", "点滴静注", "静注用", "静注液", "静注", "皮下注用", "皮下注", "筋注用", "筋注", "髄注", "輸液"),
        )
    },
}  # fmt: skip
_FORM = re.compile(
    "|".join(
        # OD and DS are forms only as words of their own.
        # 散 in 当帰芍薬散料エキス顆粒 belongs to the name of the formula.
        rf"(?<![A-Za-z]){form}(?![A-Za-z])" if form.isascii() else f"{form}(?!料|エキス)" if form == "散" else form
        for form in sorted(_FORMS, key=len, reverse=True)
    )
)
_MAKER = re.compile(r"「([^「」]{0,60})」")
_GENERAL_MARK = re.compile(r"^【般】\s*|[(（]医療用[)）]|配合")
# Number with its unit; a number behind a Latin letter is part of a name (B12, S900).
_STRENGTH = re.compile(
    r"(?<![A-Za-z0-9.])(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>mg|mcg|[μµu]g|ng|kg|g|mL|ml|%|mEq|万単位|国際単位|単位|IU|U(?![A-Za-z]))?"
)
_SCALE: dict[str, tuple[str, Decimal]] = {
    "kg": ("mg", Decimal(1_000_000)), "g": ("mg", Decimal(1000)), "mg": ("mg", Decimal(1)), "mcg": ("mg", Decimal("0.001")),
    "μg": ("mg", Decimal("0.001")), "µg": ("mg", Decimal("0.001")), "ug": ("mg", Decimal("0.001")), "ng": ("mg", Decimal("0.000001")),
    "ml": ("mL", Decimal(1)), "mL": ("mL", Decimal(1)), "万単位": ("U", Decimal(10_000)), "国際単位": ("U", Decimal(1)),
    "単位": ("U", Decimal(1)), "IU": ("U", Decimal(1)), "U": ("U", Decimal(1)),
}  # fmt: skip
_SEVERAL, _SEVERAL_GENERAL = "several products fit", "several general names fit"
_UNSTATED = "form or strength is not written"
_OTHER, _INGREDIENT = "same name, another form, strength or maker", "same ingredient, several products"
_SEPARATORS = re.compile(r"[\s()（）\[\]・/／,、\-]+")


@dataclass(frozen=True)
class DrugName:
    """The parts of a written or printed drug name. `strengths`: (number, unit); unit "" where none is written; mass in
    mg, units in U. `stem`: what is left, as variant key."""

    stem: str
    maker: str
    forms: frozenset[str]
    strengths: frozenset[tuple[Decimal, str]]


@dataclass(frozen=True)
class Drug:
    """What the tables know of a written drug: `codings` of the one product or general name, else `candidates`.

    `known`: a table has the name, as a product, brand or ingredient. `ingredient`: the one that the name stands for; ""
    where no table says it.
    """

    codings: tuple[Coding, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    known: bool = False
    ingredient: str = ""


@dataclass(frozen=True)
class _Product:
    name: DrugName
    code: str
    entry: Entry
    full: frozenset[tuple[Decimal, str]]
    """Its strengths by the table, beside those of its name."""


# Salts that charts write by the symbol of the metal (クエン酸第一鉄Na錠); K of ビタミンK is none, so a name is read so only
# where no table has it as it stands.
_METALS = {"Na": "ナトリウム", "K": "カリウム", "Ca": "カルシウム", "Mg": "マグネシウム"}
_METAL = re.compile(rf"(?<![A-Za-z])(?:{'|'.join(_METALS)})(?![A-Za-z])")


def parse_drug(written: str) -> DrugName:
    """アムロジピンOD錠5mg「サワイ」 -> アムロジピン, サワイ, {OD錠}, {(5, mg)}."""
    text = unicodedata.normalize("NFKC", written)
    maker = _MAKER.search(text)
    text = _GENERAL_MARK.sub("", _MAKER.sub(" ", text))
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text)
    # Forms first: the 5 of OD5 is a strength, that of B5 is not.
    forms = frozenset(_FORMS[found[0]] for found in _FORM.finditer(text))
    text = _FORM.sub(" ", text)
    strengths = frozenset(_strength(found) for found in _STRENGTH.finditer(text))
    stem = variant_key(_SEPARATORS.sub("", _STRENGTH.sub(" ", text)))
    return DrugName(stem, variant_key(maker[1]) if maker else "", forms, strengths)


def _strength(found: re.Match[str]) -> tuple[Decimal, str]:
    unit, scale = _SCALE.get(found["unit"] or "", (found["unit"] or "", Decimal(1)))
    return (Decimal(found["number"]) * scale).normalize(), unit


class DrugTable:
    """The products and general names of the loaded tables by the stem of their names. Immutable."""

    def __init__(self, entries: Iterable[Entry], lookup: Callable[[str], Entry | None]) -> None:
        """`entries`: of the kind prescription. `lookup`: the entry that goes by a name."""
        self._lookup = lookup
        self._products: dict[str, list[_Product]] = {}
        self._general: dict[str, list[_Product]] = {}
        self._of_ingredient: dict[str, list[_Product]] = {}
        self._nine: dict[str, str] = {}
        # The price list names brands only where it lists them one by one (the starter comes from it): ワーファリン錠 is
        # listed as ワルファリンカリウム錠, and of the brand only the granules are there. All brands are in a list of YJ or
        # HOT codes; all products of an ingredient are in the price list, too.
        self._all_brands = self._all_products = False
        for entry in entries:
            product, general = entry.code(systems.YJ), entry.code(systems.GENERAL_NAME)
            # 12 characters of a product listed under a common name: they give the ingredient's nine, but no YJ code.
            code = product or entry.fact("drug_code")
            if not code and not general:
                continue
            named = parse_drug(entry.display)
            full = frozenset(_strength(found) for found in _STRENGTH.finditer(entry.fact("strength")))
            made = _Product(named, code or "", entry, full)
            if product:
                self._products.setdefault(named.stem, []).append(made)
            elif general:
                self._general.setdefault(self._ingredient(named.stem) or named.stem, []).append(made)
            if code:
                if entry.fact(STARTER_TABLE[0]) != STARTER_TABLE[1]:
                    self._all_products = True
                    self._all_brands = self._all_brands or entry.packed_codings[0][0] in (systems.YJ, systems.HOT9)
                ingredient = self._ingredient(variant_key(entry.fact("ingredient"))) or variant_key(entry.fact("ingredient"))
                if ingredient:
                    self._of_ingredient.setdefault(ingredient, []).append(made)
                    self._nine.setdefault(code[:9], entry.fact("ingredient"))

    def read(self, written: str) -> Drug:
        """The codes of what is written, when exactly one product of the tables fits all of it; else what would fit.

        A product whose printed name has a maker fits only when the maker is written: without one the name is that of
        any maker's product, and then the code of the general name, where such a table is loaded, says just that.
        """
        name = self._parse(written)
        drug = self._named(written, name)
        ingredient = drug.fact("ingredient") if drug else ""
        if not name.stem:
            return Drug(known=drug is not None, ingredient=ingredient)
        return replace(self._read(written, name), ingredient=ingredient)

    def ingredient(self, written: str) -> str:
        """The ingredient that the name stands for, as in `read`; "" where no table says it."""
        drug = self._named(written, self._parse(written))
        return drug.fact("ingredient") if drug else ""

    def _named(self, written: str, name: DrugName) -> Entry | None:
        # Whole first: a stem has lost what looks like a form or a strength (五苓散, S-1, TJ-54).
        return self._drug(written) or self._drug(name.stem)

    def _parse(self, written: str) -> DrugName:
        name = parse_drug(written)
        folded = unicodedata.normalize("NFKC", written)
        if self._has(name.stem) or not _METAL.search(folded):
            return name
        spelled = parse_drug(_METAL.sub(lambda found: _METALS[found[0]], folded))
        return spelled if self._has(spelled.stem) else name

    def _has(self, stem: str) -> bool:
        return stem in self._products or stem in self._general or self._drug(stem) is not None

    def _read(self, written: str, name: DrugName) -> Drug:
        ingredient = self._ingredient(name.stem)
        same = self._products.get(name.stem, [])
        fitting = [product for product in same if _fits(name, product)]
        known = bool(same) or self._lookup(written) is not None or self._drug(name.stem) is not None
        bare = not (name.forms or name.strengths or name.maker)
        if len({product.code for product in fitting}) == 1 and (
            self._sure(name, fitting[0]) or (not ingredient and key(written) == key(fitting[0].entry.display))
        ):
            return Drug(_only(fitting[0].entry, systems.YJ), known=True)
        if not fitting and not name.maker:
            general = [one for one in self._general.get(ingredient or name.stem, ()) if _fits(name, one)]
            codes = {one.entry.code(systems.GENERAL_NAME) for one in general}
            if len(codes) == 1 and not bare:
                return Drug(_only(general[0].entry, systems.GENERAL_NAME), known=True)
            if general:
                return Drug((), _candidates(general, systems.GENERAL_NAME, _SEVERAL_GENERAL), True)
        if fitting:
            one = len({product.code for product in fitting}) == 1
            return Drug((), _candidates(fitting, systems.YJ, _UNSTATED if one else _SEVERAL), known)
        if same:
            return Drug((), _candidates(same, systems.YJ, _OTHER), known)
        drug = self._drug(name.stem)
        others = self._of_ingredient.get(variant_key(drug.fact("ingredient")), ()) if drug else ()
        if others:
            ranked = sorted(others, key=lambda one: not _fits_parts(name, one))
            return Drug((), _candidates(ranked, systems.YJ, _INGREDIENT), known)
        return Drug(known=known)

    def products(self, written: str) -> list[str]:
        """The displays of all products that the name may mean: those of that name, else those whose names begin with the
        brand (ノボラピッド注フレックスペン), else those of the ingredient. Empty for an unknown name."""
        stem = self._parse(written).stem
        if not stem:
            return []
        found = self._products.get(stem, [])
        if not found and self._is_brand(stem):
            found = [one for name, products in self._products.items() if name.startswith(stem) for one in products]
        if not found:
            drug = self._drug(stem)
            found = self._of_ingredient.get(variant_key(drug.fact("ingredient")), []) if drug else []
        return [f"{product.entry.display} {product.entry.fact('form')}" for product in found]

    def allergen(self, written: str) -> Drug:
        """The JFAGY code of a drug as an allergen: its product's (YCM) when the name is that of exactly one product, its
        ingredient's (GCM) when all products of the name share nine characters; else candidates."""
        name = self._parse(written)
        read = self.read(written)
        if read.codings and read.codings[0].system == systems.YJ:
            coding = read.codings[0]
            product = Coding(system=systems.JFAGY_PRODUCT, code=f"YCM{coding.code}", display=coding.display, version=coding.version)
            return replace(read, codings=(product,))
        ingredient = self._ingredient(name.stem)
        named: list[_Product] = []
        if self._all_brands and self._is_brand(name.stem):
            named = [product for product in self._products.get(name.stem, ()) if _fits(name, product)]
        elif self._all_products and ingredient and not name.maker:
            named = [product for product in self._of_ingredient.get(ingredient, ()) if _fits_parts(name, product)]
        prefixes = {product.code[:9] for product in named}
        code = f"GCM{prefixes.pop()}ZZZ" if len(prefixes) == 1 else ""
        if shown := self.ingredient_display(code):
            return Drug((Coding(system=systems.JFAGY_INGREDIENT, code=code, display=shown),), known=True, ingredient=read.ingredient)
        seen = [candidate for candidate in read.candidates if candidate.coding.system == systems.YJ]
        offered = tuple(
            Candidate(
                coding=Coding(system=systems.JFAGY_PRODUCT, code=f"YCM{one.coding.code}", display=one.coding.display),
                score=one.score,
                reason=one.reason,
            )
            for one in seen
        )
        return replace(read, codings=(), candidates=offered)

    def ingredient_display(self, code: str) -> str | None:
        """【成分名】 and the ingredient of an allergen code GCM…ZZZ; None when no product has its nine characters."""
        found = self._nine.get(code[3:12]) if len(code) == 15 and code.startswith("GCM") and code.endswith("ZZZ") else None
        return f"【成分名】{found}" if found else None

    def _sure(self, name: DrugName, product: _Product) -> bool:
        """Is the one product that fits the one that is meant? The bare name of an ingredient means every product of it, so
        only a brand may stand alone, and only where every product of the brand is loaded; else form and strength must be
        written, so that a product which is not loaded has another name."""
        if name.maker or (name.forms and (name.strengths or not product.name.strengths)):
            return True
        return self._all_brands and (bool(name.forms or name.strengths) or self._is_brand(name.stem))

    def _is_brand(self, stem: str) -> bool:
        entry = self._drug(stem)
        return entry is not None and stem in map(variant_key, entry.fact("brands").split("|"))

    def _drug(self, stem: str) -> Entry | None:
        """The ingredient's row that has this name, by salt, brand or abbreviation."""
        entry = self._lookup(stem)
        return entry if entry is not None and not entry.packed_codings else None

    def _ingredient(self, stem: str) -> str:
        """Variant key of the ingredient that `stem` names; "" for a brand or an unknown name."""
        entry = self._drug(stem)
        return "" if entry is None or self._is_brand(stem) else variant_key(entry.fact("ingredient"))


def _fits(name: DrugName, product: _Product) -> bool:
    return name.maker == product.name.maker and _fits_parts(name, product)


def _fits_parts(name: DrugName, product: _Product) -> bool:
    forms = product.name.forms or frozenset({product.entry.fact("form")})
    known = product.name.strengths | product.full
    return all(any(_same_form(form, other) for other in forms) for form in name.forms) and all(
        (number, unit) in known if unit else any(number == other for other, _ in known) for number, unit in name.strengths
    )


def _same_form(written: str, printed: str) -> bool:
    return written == printed or (written in ("注", "吸入") and written in printed)


def _only(entry: Entry, system: str) -> tuple[Coding, ...]:
    return tuple(coding for coding in entry.codings if coding.system == system)[:1]


# How sure a reason is; below the score of an equal name, and no measure of likeness.
_SCORES = {_SEVERAL: 0.9, _UNSTATED: 0.9, _SEVERAL_GENERAL: 0.9, _OTHER: 0.6, _INGREDIENT: 0.4}


def _candidates(products: Iterable[_Product], system: str, reason: str, limit: int = 5) -> tuple[Candidate, ...]:
    codings: dict[str, Coding] = {}
    for product in products:
        for coding in _only(product.entry, system):
            codings.setdefault(coding.code, coding)
    return tuple(Candidate(coding=coding, score=_SCORES[reason], reason=reason) for coding in list(codings.values())[:limit])
